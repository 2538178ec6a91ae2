"""The time limits of jobs that are not over: the whole time, and the time in the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from . import _answers, _intake
from ._store import JobRow, Store

__all__ = ["Timers"]


class Timers:
    """One job's limits count from when its version came in.

    `whole(job id, seconds)` and `queued(job id, version)` are called on the loop's thread when a limit is reached.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, whole: Callable[[str, int], None], queued: Callable[[str, int], None]
    ) -> None:
        self._store = store
        self._loop = loop
        self._whole = whole
        self._queued = queued
        self._running: dict[str, list[asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        """How many jobs are not over yet."""
        return len(self._running)

    def begin(self, job: JobRow) -> None:
        """Counts a job's whole time, with what it has had of it already."""
        self.end(job.id)
        _, _, total = _intake.timeouts(job.task.get("Timeouts") or {})
        self._running[job.id] = [self._loop.call_later(self._left(job, total), self._whole, job.id, total)] if total else []

    def queue(self, job: JobRow) -> None:
        """Counts a job's time in the queue beside it."""
        timer = self._loop.call_later(self.queue_left(job), self._queued, job.id, job.version)
        self._running.setdefault(job.id, []).append(timer)

    def queue_left(self, job: JobRow) -> float:
        """Seconds for which a job may still wait for a node."""
        _, queue, _ = _intake.timeouts(job.task.get("Timeouts") or {})
        return self._left(job, queue) if queue else 0.0

    def end(self, job_id: str) -> None:
        for timer in self._running.pop(job_id, ()):
            timer.cancel()

    def _left(self, job: JobRow, seconds: int) -> float:
        return max((self._came_in(job) + seconds * 10**9 - time.time_ns()) / 1e9, 0.0)

    def _came_in(self, job: JobRow) -> int:
        if job.version == 1:
            return job.created
        first = [item for item in self._store.history(job.id, kind="job", limit=10_000) if item["JobVersion"] == job.version]
        return _answers.nanoseconds(first[0]["Time"]) if first else job.modified
