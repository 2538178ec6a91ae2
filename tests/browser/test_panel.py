"""The jobs panel in a real JupyterLab, on real jobs of the embedded node."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LOAD = "%load_ext bacalhau_magic"
HURTFUL = "<img src=x onerror='window.hurt = 1'>"
WAITING = f"""%%bacalhau --name "{HURTFUL}"
import time
print("epoch 1", flush=True)
time.sleep(120)
"""


def show(page: Any) -> Any:
    """Open the panel."""
    page.evaluate("() => window.jupyterapp.shell.activateById('bacalhau-jobs')")
    panel = page.locator(".bj-panel")
    panel.wait_for()
    return panel


def test_the_panel_fills_while_a_cell_runs_and_stops_it(lab: Any, page: Any) -> None:
    """A waiting cell's job is in the panel, live and as text alone, and Stop there ends the job and the cell."""
    lab.write("panel.ipynb", LOAD, WAITING)
    lab.open(page, "panel.ipynb")
    panel = show(page)
    lab.run(page, 0)
    lab.done(page, 0)
    lab.run(page, 1)
    row = panel.locator(".bj-row[data-phase=running]")
    row.wait_for()
    assert row.locator(".bj-name").text_content() == "panel.ipynb [2] python"
    assert row.locator(".bj-line").text_content().startswith("Running on n-")
    before = row.locator(".bj-time").text_content()
    page.wait_for_function("before => document.querySelector('.bj-time').textContent !== before", arg=before)
    row.locator(".bj-head").click()
    assert HURTFUL in row.locator(".bj-id").text_content()
    row.get_by_role("button", name="Stop").click()
    panel.locator(".bj-row[data-phase=stopped]").wait_for()
    lab.done(page, 1)
    assert page.evaluate("window.hurt") is None
