"""Rich displays of a cell in a real kernel, in nbclient, and in `run()`."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel, Ran
from nbclient import NotebookClient

CELL = """%%bacalhau
import sys
import pandas as pd
import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display
print("one")
display(pd.DataFrame({"a": [1, 2]}))
print("two")
plt.plot([1, 2, 3])
plt.show()
print("three", file=sys.stderr)
display(Markdown("**bold** ![x](https://example.org/x.png)"), HTML("<b id='x'>hello</b><script>1</script>"))
print("four")
plt.plot([3, 2, 1])
6 * 7
"""


def kinds(outputs: list[dict]) -> list[str]:
    """The outputs in short: a stream's text, or the richest kind of a display."""
    order = ("application/vnd.bacalhau.job+json", "application/vnd.plotly.v1+json", "image/png", "text/markdown", "text/html", "text/plain")
    return [output["text"] if "text" in output else next(kind for kind in order if kind in output["data"]) for output in outputs]


def test_displays_in_a_notebook(tmp_path: Path) -> None:
    """A notebook that nbclient runs has the bundle, the text with the displays where they occurred, stderr and the value; a second run is the same."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("%load_ext bacalhau_magic"), nbformat.v4.new_code_cell(CELL)])
    found = []
    for _ in range(2):
        ran = NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
        nbformat.validate(ran)
        found.append([dict(output) for output in ran.cells[1].outputs])
    outputs = found[0]
    assert kinds(outputs) == [
        "application/vnd.bacalhau.job+json",
        "one\n",
        "text/html",
        "two\n",
        "image/png",
        "text/markdown",
        "text/html",
        "four\n",
        "image/png",
        "three\n",
        "text/plain",
    ]
    assert (
        outputs[2]["data"]["text/html"].startswith('<div>\n<table class="dataframe">')
        or '<table class="dataframe">' in outputs[2]["data"]["text/html"]
    )
    assert base64.b64decode(outputs[4]["data"]["image/png"]).startswith(b"\x89PNG")
    assert "![" not in outputs[5]["data"]["text/markdown"]
    assert outputs[6]["data"]["text/html"].startswith('<iframe sandbox="allow-scripts"')
    assert outputs[10]["data"]["text/plain"] == "42"
    assert found[1] == outputs


def test_a_plotly_figure_is_the_value_s_display(batch: Kernel) -> None:
    """A figure can't travel as a value; its data does, and the front end draws it."""
    ran = batch.run("%%bacalhau -q\nimport plotly.graph_objects as go\ngo.Figure(go.Bar(y=[2, 1]))")
    assert ran.error is None, ran.text
    data = ran.outputs[0]["content"]["data"]
    assert data["application/vnd.plotly.v1+json"]["data"][0]["y"] == [2, 1]


ACTS = """from IPython.display import HTML, Javascript, Markdown, display
display(HTML("<b>hi</b><script>hurt = 1</script>"), Markdown("<b>hi</b>"), Javascript("hurt = 1"))"""


def html_of(ran: Ran) -> list[str | None]:
    """The HTML or Markdown of each display of a run; None where it has neither."""
    shown = [output["content"]["data"] for output in ran.outputs if output["type"] == "display_data"]
    return [data.get("text/html", data.get("text/markdown")) for data in shown]


def test_html_is_as_it_came_only_where_the_line_says_so(batch: Kernel) -> None:
    """With --trust-html a job's HTML and Markdown stand in the page as it made them, JavaScript as a type of its own never."""
    trusted = ["<b>hi</b><script>hurt = 1</script>", "<b>hi</b>", None]
    batch.run(f"from bacalhau_magic import run\ncode = {ACTS!r}")
    for cell in (f"%%bacalhau -q --trust-html\n{ACTS}", "run(code, trust_html=True, quiet=True)"):
        assert html_of(batch.run(cell)) == trusted
    framed, plain, left_out = html_of(batch.run(f"%%bacalhau -q\n{ACTS}"))
    assert framed is not None
    assert framed.startswith('<iframe sandbox="allow-scripts"')
    assert (plain, left_out) == ("<\u2060b>hi<\u2060/b>", None)


def test_a_recording_s_html_is_never_trusted(batch: Kernel, tmp_path: Path) -> None:
    """What was recorded with --trust-html is framed when it is replayed, and is not stored by the cache at all."""
    cell = f"%%bacalhau -q --trust-html\n{ACTS}"
    batch.run(f"%bacalhau record {tmp_path}/h.yaml")
    assert "<iframe" not in str(html_of(batch.run(cell)))
    batch.run(f"%bacalhau replay {tmp_path}/h.yaml")
    assert str(html_of(batch.run(cell))[0]).startswith('<iframe sandbox="allow-scripts"')
    batch.run("%bacalhau live")
    ran = batch.run("%%bacalhau --trust-html --cache\n1")
    assert ran.error is not None
    assert "never trusted" in ran.error[1]


def test_no_file_can_trust_html(batch: Kernel) -> None:
    """The configuration can't say it for a cell, and beside Bash, which has no displays, it is refused."""
    ran = batch.run("%bacalhau config trust_html=true")
    assert ran.error is not None
    assert "trust_html can't be configured" in ran.error[1]
    ran = batch.run("%%bacalhau --lang bash --trust-html\necho 1")
    assert ran.error is not None
    assert "rich displays are Python's" in ran.error[1]


def test_a_failed_cell_shows_what_it_displayed(batch: Kernel) -> None:
    """Displays before an exception are shown, then the error."""
    ran = batch.run("%%bacalhau -q\ndisplay('before')\n1/0")
    assert [output["type"] for output in ran.outputs] == ["display_data", "error"]


@pytest.mark.parametrize("how", ["run(code)", "submit(code).result()"])
def test_run_and_submit(batch: Kernel, how: str) -> None:
    """`run()` shows what the code displayed, as the cell does; a submitted job keeps it for who looks."""
    batch.run("from bacalhau_magic import run, submit\ncode = \"print('a')\\ndisplay({'k': 1})\\nprint('b')\\n5\"")
    ran = batch.run(how)
    assert ran.error is None, ran.text
    assert ran.value == "5"
    if how.startswith("run"):
        shown = [output["content"].get("text") or output["content"]["data"]["text/plain"] for output in ran.outputs]
        assert shown == ["bacalhau: completed", "a\n", "{'k': 1}", "b\n", "5"]


def test_a_module_that_was_sent_draws(batch: Kernel) -> None:
    """matplotlib that the cell has by an import line of ours shows its figures too."""
    batch.run("import matplotlib.pyplot as plt\ndef draw():\n    plt.plot([1, 2])\n    plt.show()")
    ran = batch.run("%%bacalhau -q -i draw\ndraw()")
    assert ran.error is None, ran.text
    assert [sorted(output["content"].get("data", {})) for output in ran.outputs if output["type"] == "display_data"] == [
        ["image/png", "text/plain"]
    ]
