"""Every state of the card as JupyterLab draws it: in both themes, in a wide and a narrow notebook, and as axe judges it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from panels import serious, themed

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

STATES = """import time
from IPython.display import display
from bacalhau_magic._causes import Cause
from bacalhau_magic._overview import Overview
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import (
    BegunAnew, CauseFound, ContactChanged, Ended, Endpoint, Finished, JobRecord, JobRef, Noticed, Packed, PhaseChanged, Printed, Route,
    Submitted, Target, Transferred,
)
from bacalhau_magic._wire import Job
from bacalhau_magic.progress._card import Card

NODE = "n-2e2b7e09-1c5f-4f3e"
HERE = Endpoint("http://h:1234")
SUBMITTED = Submitted(JobRef("j-54785d3f-9704-40b8-a87a-1b6b42761e17", HERE, name="train-1"), Route(Target("bacalhau", HERE), "it answers"))
RUNNING = (SUBMITTED, PhaseChanged("running", NODE))
BUSY = Cause("busy", "No node can take the job now: it asks for 1 GPU.", "It starts by itself when gpu-7 is free. Without a GPU: --gpu 0. See all: %bacalhau nodes --gpu.",
             lines=("n-2e2b7e09 has no GPU", "gpu-7 has 2 GPU, 0 free"))
MEMORY = Cause("memory", "The job was killed at its limit of 2 GB of memory.",
               "Ask for more: --memory 8GB. The largest node here has 20 GB.")
LOG = (Printed("stdout", "epoch 3/10  loss 0.412\\n"), Printed("stderr", "UserWarning: lr_scheduler.step() before optimizer.step()\\n"),
       Printed("stdout", "\\x1b[32mgreen\\x1b[0m \\x1b[35mmagenta\\x1b[0m \\x1b[36mcyan\\x1b[0m \\x1b[30mblack\\x1b[0m\\n"),
       Printed("stdout", "epoch 4/10  loss 0.377  \\r 40%|████      | 40/100 [00:05<00:07,  8.00it/s]"))


def fold(*events, ago=12.0, name="train"):
    began = time.time() - ago
    snapshot = Snapshot(started=began, now=began, name=name, language="python", limit=300.0, queue_limit=600.0, resources="2 CPU · 4 GB")
    for event in events:
        snapshot = snapshot.after(event, began)
    return snapshot.at(began + ago)


def over(*events, ago=12.0, **facts):
    *before, last = events
    return fold(*before, ago=ago, **facts).after(last, time.time())


BOUND = "bound: scores (DataFrame 120 × 4), model (str)"
DONE, FAILED = Finished("completed", BOUND), Finished("failed", "ZeroDivisionError: division by zero")
SHOWN = {
    "packing": fold(Packed(1), Transferred(5_000_000, 10_000_000)),
    "sent": fold(SUBMITTED),
    "waiting": fold(SUBMITTED, PhaseChanged("waiting"), CauseFound(BUSY), ago=41),
    "pulling": fold(SUBMITTED, PhaseChanged("pulling", NODE, "python:3.11-slim")),
    "installing": fold(SUBMITTED, PhaseChanged("installing", NODE)),
    "running": fold(*RUNNING, *LOG),
    "again": fold(*RUNNING, LOG[0], BegunAnew("n-bbbbbbbb-9704"), PhaseChanged("starting", "n-bbbbbbbb-9704")),
    "lost": fold(*RUNNING, ContactChanged(True, "http://h:1234 does not answer.")),
    "fetching": fold(*RUNNING, Ended(JobRecord(Job())), Transferred(12_500_000, 40_000_000)),
    "completed": over(*RUNNING, DONE, ago=1.8),
    "failed": over(*RUNNING, *LOG[:2], FAILED),
    "memory": over(*RUNNING, BegunAnew(NODE), CauseFound(MEMORY), Finished("failed", ""), ago=2.1),
    "stopped": over(*RUNNING, LOG[0], Finished("stopped", "The job was stopped from the notebook.")),
    "many": Overview(
        (*[over(*RUNNING, DONE, name=f"part {n}") for n in range(5)], *[fold(*RUNNING, name=f"part {n}") for n in range(5, 8)],
         fold(SUBMITTED, name="part 8"), over(*RUNNING, FAILED, name="part 9")), hint=""),
}
for snapshot in SHOWN.values():
    display(Card(snapshot=snapshot.as_json()))
"""
COUNT = 14
NARROW = "document.querySelector('.jp-Notebook').style.width = "


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_reads_well(lab: Any, page: Any, shots: Path, theme: str) -> None:
    """In either theme axe finds nothing serious in any state, wide or narrow; nothing sticks out of a card; where it runs and why is there before it runs."""
    page.set_viewport_size({"width": 1200, "height": 3000})
    name = f"states-{theme}.ipynb"
    lab.write(name, "%load_ext bacalhau_magic", STATES)
    lab.open(page, name)
    themed(page, theme)
    lab.run_all(page)
    page.wait_for_function(f"document.querySelectorAll('.bm-card').length === {COUNT}")
    assert page.locator(".bm-route:visible").first.text_content() == "At http://h:1234: it answers."
    page.evaluate("document.querySelectorAll('.bm-card .bm-more').forEach((it, i) => i % 2 && it.click())")
    for width in ("760px", "420px"):
        page.evaluate(f"{NARROW}{width!r}")
        page.locator(".jp-OutputArea").nth(1).screenshot(path=shots / f"states-{theme}-{width}.png")
        assert serious(page, ".bm-card") == []
        assert page.evaluate(STICKS_OUT) == []


STICKS_OUT = """() => [...document.querySelectorAll('.bm-card')].flatMap(card => [...card.querySelectorAll('*:not(.bm-spoken, .bm-spoken *)')]
  .filter(it => it.getClientRects().length && !it.closest('.bm-listed') && !it.closest('.bm-log'))
  .filter(it => { const a = it.getBoundingClientRect(), b = card.getBoundingClientRect();
    return a.right > b.right + 0.5 || a.left < b.left - 0.5 || a.bottom > b.bottom + 0.5 })
  .map(it => [card.dataset.phase, it.tagName, it.className, Math.round(it.getBoundingClientRect().right - card.getBoundingClientRect().right), Math.round(it.getBoundingClientRect().bottom - card.getBoundingClientRect().bottom)].join(' ')))"""
