"""What the jobs panel and the cell's menu do, in a real JupyterLab, and its words in another language."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from panels import LOAD, serious, shot, started, themed

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

NOTEBOOK = "window.jupyterapp.shell.currentWidget.content"


def source(page: Any, cell: int) -> str:
    """A cell's text."""
    return str(page.evaluate(f"n => {NOTEBOOK}.widgets[n].model.sharedModel.getSource()", cell))


def finished(lab: Any, page: Any, name: str, *cells: str) -> Any:
    """The row, unfolded, of a job that has ended well."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel = started(lab, page, name, *cells)
    row = panel.locator(".bj-row[data-phase=completed]").first
    row.wait_for()
    row.locator(".bj-head").click()
    return row


def copied(page: Any, row: Any, button: str, begins: str) -> str:
    """What a button puts on the clipboard."""
    page.evaluate("navigator.clipboard.writeText('')")
    row.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name=button).click()
    until = time.monotonic() + 30
    while not (found := str(page.evaluate("navigator.clipboard.readText()"))).startswith(begins):
        assert time.monotonic() < until, f"the clipboard holds {found!r}"
        page.wait_for_timeout(50)
    return found


def test_a_result_is_opened_in_a_cell_below(front_end: Any, page: Any) -> None:
    """Open result puts a cell below the one that sent the job, and runs it: there is the value, and nothing is sent again."""
    row = finished(front_end, page, f"result-{front_end.name}.ipynb", "%%bacalhau --cpu 0.1\n6 * 7", "'last'")
    row.get_by_role("button", name="Open result").click()
    page.wait_for_function(f"() => {NOTEBOOK}.widgets.length === 4")
    assert re.fullmatch(r"%bacalhau get j-[\w-]+", source(page, 2))
    page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-executeResult", has_text="42").wait_for()
    assert page.locator(".bj-row").count() == 1


def test_an_attach_cell_and_the_spec_are_copied(front_end: Any, page: Any) -> None:
    """Copy attach cell gives a cell that brings the job's value when it runs; Copy spec gives the job's own spec."""
    row = finished(front_end, page, f"copies-{front_end.name}.ipynb", "%%bacalhau --cpu 0.1\n6 * 7", "pass")
    attach = copied(page, row, "Copy attach cell", "%bacalhau")
    assert re.fullmatch(r"%bacalhau attach j-[\w-]+", attach)
    spec = yaml.safe_load(copied(page, row, "Copy spec", "ID: "))
    assert spec["Labels"]["bacalhau-magic.request"]
    page.evaluate(f"text => {NOTEBOOK}.widgets[2].model.sharedModel.setSource(text)", attach)
    front_end.run(page, 2)
    page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-executeResult", has_text="42").wait_for()


def test_go_to_cell_shows_the_cell_that_sent_it(lab: Any, page: Any) -> None:
    """Go to cell brings the notebook back and makes the sending cell the active one; where cell or notebook is gone, that is said."""
    row = finished(lab, page, "cell.ipynb", "%%bacalhau --cpu 0.1\n6 * 7", "'last'")
    lab.done(page, 2)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('launcher:create') }")
    go = page.locator(".bj-panel").get_by_role("button", name="Go to cell")
    page.get_by_role("button", name="All", exact=True).click()
    go.click()
    page.wait_for_function(f"() => {NOTEBOOK}?.activeCellIndex === 1")
    page.evaluate(f"() => {{ {NOTEBOOK}.model.sharedModel.deleteCell(1) }}")
    go.click()
    page.get_by_text("The cell that sent it is not in cell.ipynb any more.").wait_for()
    lab.save(page)
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.dispose() }")
    row.wait_for()
    go.click()
    page.get_by_text("Its notebook is not open: cell.ipynb").wait_for()


def test_the_cell_s_menu_writes_the_line(front_end: Any, page: Any) -> None:
    """The cell's own menu has "Run on Bacalhau…"; what stands on the line in quotes keeps them, also what is typed, and the cell runs."""
    begun = "%%bacalhau --env GREETING='hello  you' -o said\nimport os\nsaid = os.environ['GREETING'] + open('inputs/a b.txt').read()"
    (front_end.root / "a b.txt").write_text("!")
    name = f"menu-{front_end.name}.ipynb"
    front_end.write(name, LOAD, begun, "said")
    front_end.open(page, name)
    front_end.run(page, 0)
    front_end.done(page, 0)
    page.locator(".jp-CodeCell").nth(1).click(button="right")
    page.locator(".lm-Menu").get_by_text("Run on Bacalhau…").click()
    form = page.locator(".bj-form")
    inputs = form.get_by_label("--inputs")
    inputs.click()
    page.keyboard.type("'a b.txt' ", delay=10)
    assert inputs.input_value() == "'a b.txt' "

    form.get_by_text("More options").click()
    assert form.get_by_label("--env", exact=True).input_value() == "'GREETING=hello  you'"
    form.get_by_label("--cpu").fill("0.5")
    shot(page, "form-quotes")
    assert serious(page, ".bj-form") == []
    page.get_by_role("button", name="Write the line").click()
    form.wait_for(state="hidden")
    assert source(page, 1).splitlines()[0] == "%%bacalhau --env GREETING='hello  you' -o said --inputs 'a b.txt' --cpu 0.5"
    front_end.through(page, 1, 2)
    assert "'hello  you!'" in page.locator(".jp-CodeCell").nth(2).text_content()


def test_the_palette_opens_the_form(lab: Any, page: Any) -> None:
    """The command palette, by keys alone, finds "Run on Bacalhau…" under Bacalhau and opens the form, which writes into the active cell."""
    lab.write("palette.ipynb", LOAD, "6 * 7")
    lab.open(page, "palette.ipynb")
    page.evaluate(f"() => {{ {NOTEBOOK}.activeCellIndex = 1; {NOTEBOOK}.mode = 'command' }}")
    page.keyboard.press("Control+Shift+C")
    page.locator("#command-palette input").wait_for()
    page.keyboard.type("run on bacalhau", delay=10)
    palette = page.locator("#command-palette")
    palette.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Run on Bacalhau…").wait_for()
    assert palette.locator(".lm-CommandPalette-header").first.text_content() == "Bacalhau"
    page.keyboard.press("Enter")
    page.locator(".bj-form").get_by_label("--cpu").fill("0.5")
    page.get_by_role("button", name="Write the line").click()
    page.locator(".bj-form").wait_for(state="hidden")
    assert source(page, 1) == "%%bacalhau --cpu 0.5\n6 * 7"


def translated(words: dict[str, str]) -> dict[str, Any]:
    """A language pack as the server gives it."""
    return {
        "data": {
            "bacalhau_magic": {
                "": {"domain": "bacalhau_magic", "language": "xx", "plural_forms": "nplurals=2; plural=(n != 1);"},
                **{k: [v] for k, v in words.items()},
            }
        },
        "message": "",
    }


def test_another_language(lab: Any, page: Any) -> None:
    """With a language pack the panel, its buttons, the form, the options' help and what is wrong on a line are in that language."""
    words = {
        "This notebook": "Dieses Notebook",
        "Filter": "Suchen",
        "Stop": "Halt",
        "Go to cell": "Zur Zelle",
        "Run on Bacalhau": "Auf Bacalhau",
        "Write the line": "Zeile schreiben",
        "CPUs: 2, 0.5 or 500m.": "Prozessoren: 2, 0.5 oder 500m.",
        "There is no option %1.": "Die Option %1 gibt es nicht.",
        "Did you mean %1?": "Vielleicht %1?",
    }
    page.route("**/lab/api/translations/**", lambda route: route.fulfill(json=translated(words)))
    panel = started(lab, page, "language.ipynb", "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(60)", "%%bacalhau --memroy 1GB\n1")
    panel.get_by_role("button", name="Dieses Notebook").wait_for()
    assert panel.get_by_role("searchbox").get_attribute("placeholder") == "Suchen"
    row = panel.locator(".bj-row[data-phase=running]")
    row.locator(".bj-head").click()
    row.get_by_role("button", name="Zur Zelle").click()
    page.locator(".bj-wrong").first.hover()
    page.locator(".bj-help", has_text="Die Option --memroy gibt es nicht. Vielleicht --memory?").wait_for()
    page.evaluate(f"() => {{ {NOTEBOOK}.activeCellIndex = 0; window.jupyterapp.commands.execute('bacalhau-magic:form') }}")
    page.get_by_role("button", name="Zeile schreiben").wait_for()
    assert page.locator(".bj-form").get_by_label("--cpu").get_attribute("title") == "Prozessoren: 2, 0.5 oder 500m."
    page.get_by_role("button", name="Cancel").click()
    themed(page, "dark")
    shot(page, "language-dark")
    row.get_by_role("button", name="Halt").click()
    panel.locator(".bj-row[data-phase=stopped]").wait_for()
