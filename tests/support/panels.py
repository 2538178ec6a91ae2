"""The jobs panel in a real page: how tests open it, look at it, and have it judged."""

from __future__ import annotations

from typing import Any

import pytest
from fronts import SHOTS

LOAD = "%load_ext bacalhau_magic"


def show(page: Any) -> Any:
    """Open the panel."""
    page.evaluate("() => window.jupyterapp.shell.activateById('bacalhau-jobs')")
    panel = page.locator(".bj-panel")
    panel.wait_for()
    return panel


def called(page: Any) -> Any:
    """Call the panel from the palette, by keys alone."""
    page.keyboard.press("Control+Shift+C")
    palette = page.locator(".lm-CommandPalette")
    palette.locator("input").wait_for()
    page.keyboard.type("show jobs", delay=10)
    palette.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Show Jobs").wait_for()
    page.keyboard.press("Enter")
    panel = page.locator(".bj-panel")
    panel.wait_for()
    page.wait_for_function("() => document.activeElement.textContent === 'This notebook'")
    return panel


def shot(page: Any, name: str) -> None:
    """A picture of a page, or of a part of one."""
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def started(lab: Any, page: Any, name: str, *cells: str) -> Any:
    """A notebook whose cells were all started, and the open panel."""
    lab.write(name, LOAD, *cells)
    lab.open(page, name)
    panel = show(page)
    lab.run(page, 0)
    lab.done(page, 0)
    for cell in range(1, len(cells) + 1):
        lab.run(page, cell)
        if cell < len(cells):
            lab.done(page, cell)
    return panel


def themed(page: Any, theme: str) -> None:
    """The "light" or the "dark" theme; a server keeps the one that was chosen last."""
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", f"JupyterLab {theme.title()}")
    page.wait_for_function(
        "light => document.body.dataset.jpThemeLight === light && !document.getElementById('jupyterlab-splash')",
        arg=str(theme == "light").lower(),
    )


def serious(page: Any, selector: str) -> list[str]:
    """What axe finds there that is serious or worse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, context=selector).response["violations"]
    return [f"{it['id']}: {[node['html'] for node in it['nodes']]}" for it in found if it["impact"] in ("serious", "critical")]
