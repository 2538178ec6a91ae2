"""The extension's settings, changed in JupyterLab's own editor, and what each changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from panels import LOAD, shot, show, started

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

NOTEBOOK = "window.jupyterapp.shell.currentWidget.content"
SIDE = "() => ['left', 'right'].find(side => [...window.jupyterapp.shell.widgets(side)].some(it => it.id === 'bacalhau-jobs'))"
TO_NOTEBOOK = (
    "() => { for (const it of window.jupyterapp.shell.widgets('main')) if (it.context) window.jupyterapp.shell.activateById(it.id) }"
)
SHORT = "%%bacalhau --cpu 0.1 --bg --lang bash\nsleep 3"


@pytest.fixture(autouse=True)
def defaults(lab: Any) -> Iterator[None]:
    """A server keeps what was set: each test begins with nothing set, and leaves nothing set."""

    def forget() -> None:
        for file in lab.settings.glob("bacalhau-magic/*.jupyterlab-settings"):
            file.unlink()

    forget()
    yield
    forget()


def setting(page: Any, plugin: str, name: str, set_it: Callable[[Any], object]) -> None:
    """Change a setting in the Settings Editor, as a user does, and wait until the server has it."""
    page.evaluate("async () => { await window.jupyterapp.commands.execute('settingeditor:open', {query: 'Bacalhau'}) }")
    field = page.locator(f"[id='jp-SettingsEditor-bacalhau-magic:{plugin}_{name}']")
    if not field.count() or not field.is_visible():
        page.locator(".jp-PluginList-entry", has_text=plugin).click()
    field.wait_for()
    with page.expect_response(lambda it: it.request.method == "PUT" and re.search(rf"/settings/bacalhau-magic(:|%3A){plugin}", it.url)):
        set_it(field)
    page.wait_for_timeout(300)  # the page reads back what it has saved


def choose(page: Any, plugin: str, name: str, label: str) -> None:
    setting(page, plugin, name, lambda field: field.select_option(label=label))


def test_the_panel_changes_its_side_and_keeps_it(lab: Any, page: Any) -> None:
    """The panel goes to the other side bar at once, stands there after a reload, and comes back."""
    lab.write("side.ipynb", LOAD)
    lab.open(page, "side.ipynb")
    show(page)
    assert page.evaluate(SIDE) == "left"
    choose(page, "panel", "side", "right")
    page.wait_for_function(f"() => ({SIDE})() === 'right'")
    show(page)
    shot(page, "panel-right")
    lab.open(page, "side.ipynb")
    page.wait_for_function(f"() => ({SIDE})() === 'right'")
    assert show(page).locator(".bj-bar").is_visible()
    choose(page, "panel", "side", "left")
    page.wait_for_function(f"() => ({SIDE})() === 'left'")


def test_the_form_begins_with_the_default_options(lab: Any, page: Any) -> None:
    """Default options stand in the form of a cell without a magic line, and not in that of a cell that has one."""
    lab.write("usual.ipynb", "1 + 1", "%%bacalhau --gpu 1\n1")
    lab.open(page, "usual.ipynb")
    setting(page, "form", "options", lambda field: field.fill("--cpu 2 --timeout 10m"))
    page.evaluate(TO_NOTEBOOK)
    for cell, line in enumerate(("%%bacalhau --cpu 2 --timeout 10m", "%%bacalhau --gpu 1")):
        page.evaluate(f"n => {{ {NOTEBOOK}.activeCellIndex = n; window.jupyterapp.commands.execute('bacalhau-magic:form') }}", cell)
        assert page.locator(".bj-form .bj-preview").text_content() == line
        page.get_by_role("button", name="Cancel").click()


@pytest.mark.parametrize("wanted", ["always", "never"])
def test_notifications_always_and_never(lab: Any, page: Any, wanted: str) -> None:
    """Set to "always" an end is told though its notebook is in view; set to "never" it is not, though its notebook is out of view."""
    lab.write(f"{wanted}.ipynb", LOAD, SHORT)
    lab.open(page, f"{wanted}.ipynb")
    choose(page, "presence", "notifications", wanted)
    if wanted == "always":
        page.evaluate(TO_NOTEBOOK)
    lab.run(page, 0)
    lab.done(page, 0)
    lab.run(page, 1)
    lab.done(page, 1)
    panel = show(page)
    panel.locator(".bj-row[data-phase=running]").wait_for()
    if wanted == "never":
        page.evaluate("async () => { await window.jupyterapp.commands.execute('launcher:create') }")
    panel.get_by_role("button", name="All", exact=True).click()
    panel.locator(".bj-row[data-phase=completed]", has_text=f"{wanted}.ipynb").wait_for()
    told = page.locator(".Toastify__toast", has_text=f"{wanted}.ipynb [2] bash: Completed")
    if wanted == "always":
        told.first.wait_for()
        told.first.get_by_role("button", name="Go to cell").wait_for()
    else:
        page.wait_for_timeout(700)  # a note would come with the row's change
        assert told.count() == 0


def test_an_end_out_of_view_is_told_and_leads_back(lab: Any, page: Any) -> None:
    """Unless set otherwise an end is told while another notebook is in front, and "Go to cell" there brings back the cell that sent it."""
    started(lab, page, "sender.ipynb", SHORT, "'last'").locator(".bj-row[data-phase=running]").wait_for()
    lab.write("reader.ipynb", "1")
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:open', {path: 'reader.ipynb'}) }")
    told = page.locator(".Toastify__toast", has_text="sender.ipynb [2] bash: Completed").first
    told.wait_for()
    told.get_by_role("button", name="Go to cell").click()
    page.wait_for_function(
        f"() => window.jupyterapp.shell.currentWidget.context?.path === 'sender.ipynb' && {NOTEBOOK}.activeCellIndex === 1"
    )
