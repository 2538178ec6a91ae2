"""The form, the panel and the nodes worked without a mouse, and judged by axe in both themes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from panels import LOAD, serious, shot, show, themed
from wheels import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

OPTIONS = {option["name"]: option for option in json.loads((ROOT / "labextension/src/options.json").read_text(encoding="utf-8"))["options"]}
SOURCE = "window.jupyterapp.shell.currentWidget.content.widgets[2].model.sharedModel.getSource()"
SEEN = """selector => {
  const it = document.querySelector(selector), { x, y, width, height } = it.getBoundingClientRect();
  const at = v => { const found = document.elementFromPoint(x + width / 2, v); return it === found || it.contains(found) };
  return at(y + 2) && at(y + height - 2);
}"""
FOCUSED = "() => document.activeElement.id || document.activeElement.tagName"


def called(page: Any) -> None:
    """The form, called from the palette by keys."""
    page.keyboard.press("Control+Shift+C")
    page.locator("#command-palette input").wait_for()
    page.keyboard.type("run on bacalhau", delay=10)
    page.locator("#command-palette .lm-CommandPalette-item.lm-mod-active", has_text="Run on Bacalhau…").wait_for()
    page.keyboard.press("Enter")
    page.locator(".bj-form").wait_for()
    page.wait_for_function("() => document.activeElement.id === 'bj-lang'")


def walked(page: Any) -> list[str]:
    """Tab from where the focus is to the dialog's first button: the ids of what has it on the way."""
    passed = []
    while (here := str(page.evaluate(FOCUSED))) != "BUTTON":
        passed.append(here)
        assert len(passed) < 100, passed
        page.keyboard.press("Tab")
    return passed


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_form_by_keys_alone(lab: Any, page: Any, theme: str) -> None:
    """Tab reaches every option, each is said in words while it has the focus, Enter unfolds the rest and writes the line, Escape writes nothing."""
    name = f"form-{theme}.ipynb"
    lab.write(name, LOAD, "x, y = 1, 2", "total = x + y\ntotal")
    lab.open(page, name)
    lab.through(page, 0, 1)
    themed(page, theme)
    page.evaluate("() => { const it = window.jupyterapp.shell.currentWidget; it.content.activeCellIndex = 2; it.content.mode = 'command' }")
    called(page)
    page.keyboard.type("ruby")
    page.keyboard.press("Escape")
    page.locator(".bj-form").wait_for(state="hidden")
    assert page.evaluate(f"() => {SOURCE}") == "total = x + y\ntotal"
    page.wait_for_function("() => document.activeElement.closest('.jp-Notebook') !== null")

    called(page)
    form = page.locator(".bj-form")
    form.locator(".bj-tick", has_text="y").wait_for()
    seen = walked(page)
    assert seen[-1] == "SUMMARY"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert form.is_visible()
    form.locator("details[open]").wait_for()
    seen += walked(page)
    assert {f"bj-{option}" for option in OPTIONS} <= set(seen)

    page.evaluate("() => document.getElementById('bj-cpu').focus()")
    assert form.locator(".bj-about").text_content() == OPTIONS["cpu"]["help"]
    page.keyboard.type("0.5")
    page.evaluate("() => document.querySelector('.bj-tick input').focus()")
    page.keyboard.press("Space")
    page.evaluate("() => document.getElementById('bj-memory').focus()")
    page.keyboard.type("lots")
    form.locator(".bj-wrongs p", has_text="--memory: expected a value such as 512MB or 4GB, not lots.").wait_for()
    shot(page, f"form-wrong-{theme}")
    assert serious(page, ".jp-Dialog") == []
    page.keyboard.press("Control+A")
    page.keyboard.type("1GB")
    page.keyboard.press("Tab")
    page.keyboard.type("0")
    shot(page, f"form-keys-{theme}")
    assert serious(page, ".jp-Dialog") == []
    page.keyboard.press("Enter")
    form.wait_for(state="hidden")
    page.wait_for_function(f"line => {SOURCE} === line", arg="%%bacalhau --inputs x --cpu 0.5 --memory 1GB --gpu 0\ntotal = x + y\ntotal")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_line_and_what_is_wrong_stay_in_view(lab: Any, page: Any, theme: str) -> None:
    """With all options unfolded, in a low window, the line, what an option means and what is wrong stand below the fields, wherever those are scrolled to."""
    page.set_viewport_size({"width": 1000, "height": 640})
    name = f"form-low-{theme}.ipynb"
    lab.write(name, LOAD, "1", "2")
    lab.open(page, name)
    themed(page, theme)
    page.evaluate("() => { window.jupyterapp.commands.execute('bacalhau-magic:form') }")
    form = page.locator(".bj-form")
    form.get_by_label("--memory").fill("lots")
    form.get_by_text("More options").click()
    for option in ("cpu", "once"):
        page.evaluate("id => document.getElementById(id).focus()", f"bj-{option}")
        assert form.locator(".bj-about").text_content() == OPTIONS[option]["help"]
        for part in (f"#bj-{option}", ".bj-preview", ".bj-about", ".bj-wrongs p"):
            assert page.evaluate(SEEN, part), f"{part} is hidden at --{option}"
    shot(page, f"form-low-{theme}")
    assert serious(page, ".jp-Dialog") == []
    page.keyboard.press("Escape")


def test_the_menu_of_a_row_by_keys_alone(lab: Any, page: Any) -> None:
    """The row's "More actions" is reached by Tab, opens by Enter, and copies; Escape closes it and the focus is where it was."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.write("more.ipynb", LOAD, "%%bacalhau --cpu 0.1\n6 * 7")
    lab.open(page, "more.ipynb")
    panel = show(page)
    lab.through(page, 0, 1)
    row = panel.locator(".bj-row[data-phase=completed]")
    row.locator(".bj-head").focus()
    page.keyboard.press("Enter")
    more = "() => document.activeElement.ariaLabel === 'More actions'"
    row.get_by_role("button", name="More actions").wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate(more):
            break
    page.keyboard.press("Enter")
    page.locator(".lm-Menu").wait_for()
    shot(page, "more")
    page.keyboard.press("Escape")
    page.locator(".lm-Menu").wait_for(state="detached")
    assert page.evaluate(more)
    for key in ("Enter", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('%bacalhau attach j-')")


def test_the_first_click_counts(lab: Any, page: Any) -> None:
    """A box under the mouse is ticked by one press and release, although the focus has just been elsewhere: nothing moves between the two."""
    lab.write("form-click.ipynb", LOAD, "x, y = 1, 2", "total = x + y\ntotal")
    lab.open(page, "form-click.ipynb")
    lab.through(page, 0, 1)
    page.evaluate("() => { const it = window.jupyterapp.shell.currentWidget; it.content.activeCellIndex = 2; it.content.mode = 'command' }")
    called(page)
    box = page.locator(".bj-tick", has_text="x").locator("input")
    box.wait_for()
    before = box.bounding_box()
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(100)
    page.mouse.up()
    assert box.is_checked()
    assert box.bounding_box() == before
    page.keyboard.press("Escape")
