"""`%%bacalhau` cells in a real JupyterLab: their language's colours, completion, help and problems on the magic line."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELLS = (
    "%%bacalhau --lang javascript\nconst x = 1; // note",
    "%%bacalhau --lang bash\nfor f in *; do echo $f; done",
    "%%bacalhau --lang typescript -o a\ninterface A { b: string }",
    "%%bacalhau --memroy 4GB\ndef f(): pass",
    "for x in y: pass",
)

COLOURS = """n => [...document.querySelectorAll('.jp-CodeCell')[n].querySelectorAll('.cm-line')].map(
  line => [...line.querySelectorAll('span')].map(it => [it.textContent, getComputedStyle(it).color]))"""


def words(page: Any, cell: int, line: int) -> dict[str, str]:
    """The coloured words of a cell's line."""
    return dict(page.evaluate(COLOURS, cell)[line])


def test_each_cell_has_its_language_s_colours(front_end: Any, page: Any) -> None:
    """JavaScript, Bash and TypeScript bodies are coloured in their own language, the magic line as such, other cells as before."""
    front_end.write("colours.ipynb", *CELLS)
    front_end.open(page, "colours.ipynb")
    page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell .cm-line span').length > 20")
    page.wait_for_function(f"() => ({COLOURS})(0)[1].some(it => it[0] === 'const')")
    page.wait_for_function(f"() => ({COLOURS})(2)[1].some(it => it[0] === 'interface')")
    page.wait_for_function(f"() => ({COLOURS})(1)[1].some(it => it[0] === 'for')")
    keyword = words(page, 4, 0)["for"]
    assert words(page, 0, 1)["const"] == keyword
    assert words(page, 1, 1)["for"] == keyword
    assert words(page, 2, 1)["interface"] == keyword
    assert words(page, 3, 1)["def"] == keyword
    magic = words(page, 0, 0)
    assert magic["%%bacalhau"] != magic["--lang"] != magic["javascript"]
    assert page.evaluate("() => document.querySelectorAll('.bj-wrong').length") == 1
    assert page.locator(".bj-wrong").text_content() == "--memroy"


def test_a_cell_changes_its_colours_as_its_line_does(lab: Any, page: Any) -> None:
    """Another --lang changes the body's colours at once; without the magic the cell is Python again; a restart keeps them."""
    lab.write("change.ipynb", CELLS[0])
    lab.open(page, "change.ipynb")
    page.wait_for_function(f"() => ({COLOURS})(0)[1]?.some(it => it[0] === 'const')")
    source = "source => window.jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.setSource(source)"
    page.evaluate(source, "%%bacalhau --lang bash\nif true; then echo; fi")
    page.wait_for_function(f"() => ({COLOURS})(0)[1]?.some(it => it[0] === 'fi')")
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart() }")
    page.wait_for_function(f"() => ({COLOURS})(0)[1]?.some(it => it[0] === 'fi')")
    page.evaluate(source, "def f(): pass")
    page.wait_for_function(f"() => ({COLOURS})(0)[0]?.some(it => it[0] === 'def')")
    mime = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[0].model.mimeType")
    assert mime == "text/x-ipython"


def test_options_complete_and_explain_themselves(front_end: Any, page: Any) -> None:
    """Tab offers options and an option's values; a hover says what an option means, or what is wrong with it."""
    front_end.write("complete.ipynb", "%%bacalhau --memroy 1GB --ne")
    front_end.open(page, "complete.ipynb")
    editor = page.locator(".jp-CodeCell .cm-content").first
    editor.click()
    page.keyboard.press("End")
    items = page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item code")
    for keys, offered in (("", ["--network"]), ("twork ", ["none", "http", "full"])):
        page.keyboard.type(keys)
        page.keyboard.press("Tab")
        items.first.wait_for()
        assert [text for text in items.all_text_contents() if text in offered] == offered
        page.keyboard.press("Escape")
        items.first.wait_for(state="hidden")
    page.locator(".bj-wrong").first.hover()
    page.locator(".bj-help", has_text="Did you mean --memory?").wait_for()
    source = "source => window.jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.setSource(source)"
    page.evaluate(source, "%%bacalhau --memory 4GB\n1")
    page.get_by_text("--memory", exact=True).first.hover()
    page.locator(".bj-help", has_text="Memory: 512MB, 4GB.").wait_for()
