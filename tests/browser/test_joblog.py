"""A job's log in a panel of its own, in real pages, on real jobs of the embedded node."""

from __future__ import annotations

from typing import Any

import pytest
from panels import serious, shot, started

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HURTFUL = "<img src=x onerror='window.hurt = 1'>"


def test_a_log_is_followed_and_searched(front_end: Any, page: Any) -> None:
    """Logs opens the job's log below the notebook, which stays in view; it grows as text, marks what is searched for, and says when it ended."""
    cell = f"%%bacalhau --cpu 0.1 --bg\nimport sys, time\nprint('epoch 1'); print({HURTFUL!r}, file=sys.stderr, flush=True)\ntime.sleep(8)\nprint('epoch 2')"
    panel = started(front_end, page, f"log-{front_end.name}.ipynb", cell)
    row = panel.locator(".bj-row[data-phase=running]")
    row.locator(".bj-head").click()
    row.get_by_role("button", name="Logs").click()
    log = page.locator(".bj-log")
    log.get_by_text("epoch 1").wait_for()
    log.locator("[data-stream=stderr]", has_text=HURTFUL).wait_for()
    assert log.locator("pre").bounding_box()["height"] > 100
    assert page.locator(".jp-CodeCell").nth(1).is_visible()
    log.get_by_text("epoch 2").wait_for()
    log.get_by_role("searchbox").fill("EPOCH")
    assert log.locator("mark").all_text_contents() == ["epoch", "epoch"]
    assert log.get_by_role("status").text_content() == "2 found"
    log.get_by_text("ended").wait_for()
    shot(page, f"log-{front_end.name}")
    assert serious(page, ".bj-log") == []
    assert page.evaluate("window.hurt") is None


def test_a_long_log_follows_its_end(lab: Any, page: Any) -> None:
    """A log shows its end as it grows; with Follow switched off it stays where it is; Enter in the search goes from place to place."""
    cell = "%%bacalhau --cpu 0.1 --bg --lang bash\nfor n in $(seq 100); do echo line $n; done; sleep 6; for n in $(seq 100); do echo late $n; done"
    panel = started(lab, page, "long-log.ipynb", cell)
    panel.locator(".bj-row[data-phase=running] .bj-head").click()
    panel.get_by_role("button", name="Logs").click()
    log = page.locator(".bj-log")
    at_end = "() => { const it = document.querySelector('.bj-log pre'); return it.scrollTop > 0 && it.scrollTop + it.clientHeight >= it.scrollHeight - 2 }"
    log.get_by_text("line 100", exact=True).wait_for()
    page.wait_for_function(at_end)
    log.get_by_label("Follow").uncheck()
    log.get_by_text("late 100", exact=True).wait_for()
    assert not page.evaluate(at_end)
    log.get_by_label("Follow").check()
    page.wait_for_function(at_end)
    log.get_by_label("Follow").uncheck()
    search = log.get_by_role("searchbox")
    search.fill("line 1")
    log.get_by_text("12 found").wait_for()
    for key, place in (("Enter", "line 1"), ("Enter", "line 10"), ("Shift+Enter", "line 1")):
        search.press(key)
        assert log.locator("div:has(> .bj-here)").text_content() == place
    search.press("Escape")
    assert search.input_value() == ""
    search.press("Escape")
    log.wait_for(state="detached")
