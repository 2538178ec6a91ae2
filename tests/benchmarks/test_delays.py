"""How soon a cause is told after the server knows it: while a job waits, and when its whole time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from scripted import JOB, JobScript, Server

from bacalhau_magic import _stops, _watch
from bacalhau_magic._stages import CauseFound, Endpoint, JobRef
from bacalhau_magic._wire import Job
from bacalhau_magic.client import Client

_BUSY = "node busy with available capacity {CPU: 0.10, Memory: 20 GB, Disk: 203 GB, GPU: 0}"
_QUEUED = f"Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node n-2e2b7e09: {_BUSY}"
CASES = {
    "unplaceable": (_QUEUED, "Queueing", {"GPU": "1"}),
    "busy": (_QUEUED, "Queueing", {"CPU": "1.5"}),
    "timeout": ("Job timed out. Job took longer than 6s", "Scheduling", {"CPU": "1"}),
}
WAITS = (0.0, 1.3, 2.9, 4.1)
"""Seconds that the job has waited already: the polls are further apart then."""


@pytest.mark.parametrize("kind", CASES)
def test_cause_while_a_job_waits(server: Server, report: Callable[[str], None], kind: str) -> None:
    """From the server's answer to the event that the card draws, at the usual interval of 5 s; the peer is a poll at that interval."""
    message, topic, resources = CASES[kind]
    delays = []
    for wait in WAITS:
        job = JobScript(server)
        wanted = Job.model_validate({"Tasks": [{"Resources": resources}]})
        with Client(Endpoint(server.url)) as client:
            ref, stop, known, asked = JobRef(JOB, client.endpoint, "default", "test"), _stops.StopRequest(), 0.0, time.monotonic()

            def tell(job: JobScript = job, message: str = message, topic: str = topic) -> None:
                job.add(message, topic, IsError="true")
                job.state = "Queued"

            history = job._history

            def answer(
                request: object, asked: float = asked, wait: float = wait, history: Callable = history, tell: Callable = tell
            ) -> object:
                nonlocal known
                if not known and time.monotonic() - asked >= wait:
                    tell()
                    known = asked + wait
                return history(request)

            server.on("GET", f"/orchestrator/jobs/{JOB}/history", answer)
            for event in _watch.watch(client, ref, nonce="", max_result=1000, poll_interval=5.0, job=wanted, stop=stop):
                if isinstance(event, CauseFound) and event.cause.kind == kind:
                    delays.append(time.monotonic() - known)
                    stop.ask("seen")
    assert len(delays) == len(WAITS)
    report(
        f"{kind}: told {', '.join(f'{delay:.2f}' for delay in delays)} s after the server knew it ({max(delays) / 5:.2f} of a poll's 5 s at most)"
    )
