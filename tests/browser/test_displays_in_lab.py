"""A job's rich displays in JupyterLab and in Notebook 7: they are drawn where they occurred, act on nothing, and stand there after a reload."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELL = """%%bacalhau
import pandas as pd
import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display
print("a table")
display(pd.DataFrame({"tea": [3, 5], "cake": ["<b>x</b>", "y"]}))
print("a figure")
plt.plot([1, 3, 2])
plt.show()
display(Markdown("**bold** ![x](http://beacon.invalid/markdown.png) <img src='http://beacon.invalid/tag.png'>"))
display(HTML("<h3 id='title'>A title</h3><script>parent.hurt = 1; parent.document.title = 'hurt'</script>"))
6 * 7"""

ORDER = """() => [...document.querySelectorAll('.jp-CodeCell')[1].querySelectorAll('.jp-OutputArea-output')].map(it =>
  it.querySelector('table.dataframe') ? 'table' : it.querySelector('iframe[sandbox="allow-scripts"]') ? 'frame'
  : it.querySelector('img[src^="data:image/png"], img[src^="blob:"]') ? 'figure' : it.querySelector('strong') ? 'markdown'
  : it.textContent.trim())"""


def test_displays_are_drawn_in_their_order(front_end: Any, page: Any) -> None:
    """The table, the figure, the Markdown and the HTML stand between the text around them, in the run and after a reload."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    lab = front_end
    lab.write("displays.ipynb", "%load_ext bacalhau_magic", CELL)
    lab.open(page, "displays.ipynb")
    lab.run_all(page)
    lab.done(page, 1)
    wanted = ["a table", "table", "a figure", "figure", "markdown", "frame", "42"]
    page.wait_for_function(f"() => ({ORDER})().slice(-7).join() === {','.join(wanted)!r}")
    assert page.evaluate("() => window.hurt") is None
    assert "<b>x</b>" in page.locator("table.dataframe").inner_text()
    lab.save(page)
    lab.open(page, "displays.ipynb")
    page.wait_for_function(f"() => ({ORDER})().slice(-7).join() === {','.join(wanted)!r}")
    page.frame_locator("iframe[sandbox]").locator("#title").wait_for()
    # No scroll bar below the frame, and none in it.
    assert page.locator("iframe[sandbox]").evaluate(
        "it => [it.parentElement, it.parentElement.parentElement].every(its => its.scrollWidth <= its.clientWidth)"
    )
    assert page.evaluate("() => [window.hurt, document.title.includes('hurt')]") == [None, False]
    assert not [url for url in asked if "beacon" in url]


def test_trusted_html_is_part_of_the_page(lab: Any, page: Any) -> None:
    """With --trust-html the same HTML stands in the page itself, and its script runs there; without it neither."""
    body = """
from IPython.display import HTML, display
display(HTML("<h3 class='theirs'>A title</h3><script>window.acted = (window.acted || 0) + 1</script>"))"""
    lab.write("trusted.ipynb", "%load_ext bacalhau_magic", f"%%bacalhau{body}", f"%%bacalhau --trust-html{body}")
    lab.open(page, "trusted.ipynb")
    lab.run_all(page)
    lab.done(page, 2)
    page.wait_for_function("() => window.acted === 1")
    assert page.locator(".jp-CodeCell").nth(1).locator("h3.theirs").count() == 0
    assert page.locator(".jp-CodeCell").nth(2).locator("h3.theirs").inner_text() == "A title"
