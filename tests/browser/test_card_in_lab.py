"""The card in a real JupyterLab."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_SCRIPT = """
import asyncio, threading, time
from bacalhau_magic._causes import Cause
from bacalhau_magic._stages import CauseFound, Finished, PhaseChanged, Printed, Snapshot
from bacalhau_magic.progress import bundle, choose_view, receipt

stopped = threading.Event()
view = choose_view("auto", "notebook", on_stop=stopped.set)
snapshot = Snapshot(started=time.time(), now=time.time(), limit=300, queue_limit=600, resources="2 CPU · 4 GB")
view.open(snapshot)

async def tell(event, pause=0.0):
    global snapshot
    snapshot = snapshot.after(event, time.time())
    view.draw(snapshot)
    await asyncio.sleep(pause)

async def end(phase, sentence=""):
    await tell(Finished(phase, sentence))
    if not view.close(snapshot, bundle(phase), receipt(snapshot, live=True)):
        print("not replaced")
"""

RUNNING = (
    _SCRIPT
    + """
await tell(CauseFound(Cause("busy", "No node is free.", "It starts by itself.", lines=("n-1 is <b>full</b>",))))
await tell(PhaseChanged("waiting"), 0.5)
await tell(PhaseChanged("running", "n-2e2b7e09-1234"))
await tell(Printed("stdout", "epoch 1\\n<img src=x onerror='window.hurt = 1'>\\n\\x1b[32mgreen\\x1b[0m\\n"))
await tell(Printed("stderr", "a warning\\n"))
while not stopped.is_set():
    await asyncio.sleep(0.05)
await end("stopped")
print("after the card")
"""
)


def test_a_card_lives_is_stopped_and_leaves_its_bundle(lab: Any, page: Any) -> None:
    """The card shows what happens, its Stop button reaches Python, and at the end the bundle stands in its place, also after a reload."""
    lab.write("card.ipynb", RUNNING)
    lab.open(page, "card.ipynb")
    lab.run(page, 0)
    card = page.locator(".bm-card")
    page.wait_for_function("document.querySelector('.bm-title')?.textContent === 'Running'")
    assert card.locator(".bm-facts").text_content().startswith("on n-2e2b7e09 · ")
    assert card.locator(".bm-facts").text_content().endswith(" of 5 min · 2 CPU · 4 GB")
    card.locator(".bm-e").wait_for()
    assert card.locator(".bm-line").all_text_contents() == ["epoch 1", "<img src=x onerror='window.hurt = 1'>", "green", "a warning"]
    assert card.locator(".bm-e").all_text_contents() == ["a warning"]
    assert card.locator("img").count() == 0
    before = card.locator(".bm-facts").text_content()
    page.wait_for_function("before => document.querySelector('.bm-facts').textContent !== before", arg=before)
    card.locator(".bm-stop").click()
    lab.done(page, 0)
    outputs = page.locator(".jp-OutputArea-output")
    assert [text.strip() for text in outputs.all_text_contents()] == ["■Stopped", "after the card"]
    assert card.count() == 0
    assert page.evaluate("window.hurt") is None
    lab.save(page)
    saved = lab.read("card.ipynb")
    first = saved["cells"][0]["outputs"][0]
    assert first["data"]["text/plain"] == "bacalhau: stopped"
    assert first["metadata"]["bacalhau"]["node"] == "n-2e2b7e09-1234"
    assert "widget" not in json.dumps(saved)
    lab.open(page, "card.ipynb")
    page.locator(".jp-OutputArea-output").first.wait_for()
    assert [text.strip() for text in page.locator(".jp-OutputArea-output").all_text_contents()] == ["■Stopped", "after the card"]
