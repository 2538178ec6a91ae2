"""The extension in Notebook 7, whose page holds one notebook: what is otherwise there than in JupyterLab."""

from __future__ import annotations

from typing import Any

import pytest
from panels import LOAD, called, serious, shot, show

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_notebook_7_has_colours_the_panel_and_receipts(notebook7: Any, page: Any) -> None:
    """In Notebook 7 the cell is coloured, the panel fills in its side bar, and the output is drawn."""
    notebook7.write("seven.ipynb", LOAD, "%%bacalhau --cpu 0.1 --lang bash\nfor f in a b; do echo $f; done")
    notebook7.open(page, "seven.ipynb")
    notebook7.run(page, 0)
    notebook7.done(page, 0)
    notebook7.run(page, 1)
    notebook7.done(page, 1)
    page.locator(".bj-receipt", has_text="Completed").wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('.cm-line span')].some(it => it.textContent === 'done')")
    panel = show(page)
    panel.locator(".bj-row[data-phase=completed]", has_text="seven.ipynb [2] bash").wait_for()
    shot(page, "notebook7")


def test_notebook_7_stops_a_job_and_completes_options(notebook7: Any, page: Any) -> None:
    """In Notebook 7 Tab completes options, and Stop in the panel ends a job; its shell has no status bar and no Running section."""
    notebook7.write("seven-end.ipynb", LOAD, "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(90)", "%%bacalhau --ne")
    notebook7.open(page, "seven-end.ipynb")
    notebook7.through(page, 0, 1)
    page.locator(".jp-CodeCell .cm-content").nth(2).click()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.locator(".jp-CodeCell", has_text="--network").or_(page.locator(".jp-Completer-item", has_text="--network")).first.wait_for()
    page.keyboard.press("Escape")
    panel = show(page)
    row = panel.locator(".bj-row[data-phase=running]")
    row.locator(".bj-head").click()
    shot(page, "notebook7-stop")
    row.get_by_role("button", name="Stop").click()
    panel.locator(".bj-row[data-phase=stopped]").wait_for()


def test_notebook_7_tells_an_end_that_nobody_sees(notebook7: Any, page: Any) -> None:
    """While another tab of the browser is in front, Notebook 7 tells that a job has ended; "Go to cell" there makes its cell the active one."""
    notebook7.write("seven-away.ipynb", LOAD, "%%bacalhau --cpu 0.1 --bg --lang bash\nsleep 2", "'last'")
    notebook7.open(page, "seven-away.ipynb")
    notebook7.through(page, 0, 1)
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2 }")
    # What a browser says of a page behind another tab; one without a screen never says it.
    page.evaluate("() => { Object.defineProperty(document, 'hidden', {get: () => true}) }")
    told = page.locator(".Toastify__toast", has_text="seven-away.ipynb [2] bash: Completed").first
    told.wait_for()
    shot(page, "notebook7-note")
    told.get_by_role("button", name="Go to cell").click()
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex === 1")


def test_notebook_7_by_keys_alone(notebook7: Any, page: Any) -> None:
    """The palette calls the panel by keys, its row opens the log, Escape closes that, and Stop ends the job; axe finds nothing serious."""
    notebook7.write("seven-keys.ipynb", LOAD, "%%bacalhau --cpu 0.1 --bg\nimport time; print('out', flush=True); time.sleep(90)")
    notebook7.open(page, "seven-keys.ipynb")
    notebook7.through(page, 0, 1)
    called(page)
    page.locator(".bj-row[data-phase=running]").wait_for()
    head = "() => document.activeElement.classList.contains('bj-head')"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate(head):
            break
    for key in ("Enter", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    log = page.locator(".bj-log")
    log.get_by_text("out").wait_for()
    shot(page, "notebook7-keys")
    assert serious(page, ".bj-panel") + serious(page, ".bj-log") == []
    page.keyboard.press("Escape")
    log.wait_for(state="detached")
    assert page.evaluate("() => document.activeElement.textContent") == "Logs"
    for key in ("Shift+Tab", "Enter"):
        page.keyboard.press(key)
    page.locator(".bj-row[data-phase=stopped]").wait_for()
