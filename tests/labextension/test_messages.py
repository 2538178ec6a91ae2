"""What the kernel says to the jobs panel, held to one file that the TypeScript's guards are held to as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bacalhau_magic._bars import Bar
from bacalhau_magic._causes import Cause
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic.progress import _comm, bundle, receipt

GOLDEN = Path(__file__).parents[1] / "data" / "labextension" / "messages.json"

RUNNING = Snapshot(
    started=1_700_000_000.0,
    now=1_700_000_012.5,
    phase="running",
    name="train",
    language="python",
    job_id="j-54785d3f-0000-4000-8000-000000000000",
    node="n-2e2b7e09-0000-4000-8000-000000000000",
    route="local: no endpoint is configured",
    limit=300.0,
    queue_limit=600.0,
    resources="2 CPU · 4 GB",
    running_since=1_700_000_002.0,
    bar=Bar(40, 100, "percent"),
)
WAITING = Snapshot(
    started=1_700_000_000.0,
    now=1_700_000_041.0,
    phase="waiting",
    language="bash",
    queue_limit=600.0,
    cause=Cause("busy", "No node can take it now: it asks for 1 GPU.", lines=("n-2e2b7e09 has none",), advice="Without a GPU: `--gpu 0`"),
)
DONE = Snapshot(
    started=1_700_000_000.0,
    now=1_700_000_001.8,
    phase="completed",
    name="<b>train</b>",
    language="python",
    job_id="j-1",
    node="n-2e2b7e09",
    route="local: here",
    sentence="bound: scores (list)",
    notices=("Not isolated.",),
)
LATE = Snapshot(
    started=1_700_000_000.0, now=1_700_000_005.0, phase="failed", language="bash", job_id="j-5", sentence="Too long.", timed_out=True
)


def messages() -> dict[str, Any]:
    """Every kind of message that the kernel sends, and the output that a job leaves."""
    entries = [
        _comm.job("a", RUNNING, notebook="work/train.ipynb", cell="cell-1", prompt=12, name="train", outputs=("scores",)),
        _comm.job("b", WAITING, notebook="work/train.ipynb", background=True),
        _comm.job("c", DONE),
    ]
    past = [
        _comm.past_job("j-2", "sent", words="unknown (no answer)", name="old", started=1.0),
        _comm.past_job("j-3", "completed", words="completed", name="done", started=1.0, took=75.2),
        _comm.past_job("j-4", "sent", words="running", name="going", started=1.0),
    ]
    return {
        "heard": [
            _comm.jobs(entries, now=1_700_000_012.5, whole=True),
            _comm.jobs(past, now=2.0, whole=False),
            _comm.log("a", 0, [("stdout", "epoch 1\n"), ("stderr", "<script>")], over=False),
            _comm.answer("r-1", [{"node": "n-1"}]),
            _comm.answer("r-2", problem="Its node does not answer."),
        ],
        "outputs": [
            {"data": bundle("completed"), "metadata": receipt(DONE, live=True)},
            {"data": bundle("submitted"), "metadata": {}},
            {"data": bundle("failed", LATE.failure), "metadata": receipt(LATE, live=True)},
        ],
    }


def test_the_messages_are_those_of_the_golden_file() -> None:
    """What Python says is what the TypeScript's tests read; after a wanted change: python tests/labextension/test_messages.py."""
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == json.loads(json.dumps(messages()))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(messages(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
