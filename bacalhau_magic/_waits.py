"""Waiting for jobs that were sent before: one, or all of them as one. Each wait blocks, or is awaited where a cell can be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from . import _jobs
from ._cards import stop
from ._overview import Overview
from ._tables import Table
from ._waiting import TICK
from .errors import BacalhauMagicError, JobFailedError, JobInterruptedError
from .progress import View, choose_view

if TYPE_CHECKING:
    from ._job import RemoteJob
    from ._session import Session
    from ._stages import JobResult

_NAMED = 5
"""Failed jobs that are named in an error."""


class Wait(Protocol):
    """What is to be waited for, in either of two ways."""

    def block(self) -> Any:
        """Wait in short pieces, so that Ctrl-C works."""

    async def awaited(self) -> Any:
        """Wait while the kernel's event loop goes on, so that buttons are heard."""


@dataclass(frozen=True)
class ForOne:
    """Waits for a job, shows its outputs, binds its names (with `force` over whatever they hold); gives its value where it has no names."""

    session: Session
    job: RemoteJob
    force: bool = False

    def block(self) -> Any:
        with self._shown() as view:
            result = self.job.wait(view, stop_on_interrupt=False)
        return self._given(view, result)

    async def awaited(self) -> Any:
        with self._shown() as view:
            result = await self.job.wait_async(view, stop_on_interrupt=False)
        return self._given(view, result)

    @contextmanager
    def _shown(self) -> Iterator[View]:
        view = self.session.view(self.job)
        try:
            yield view
        except BaseException:
            self.session.surroundings.display.broke(self.job, view)
            raise

    def _given(self, view: View, result: JobResult) -> Any:
        job = self.job
        value = self.session.surroundings.display.ended(job, view, result)
        job.given(result)
        _bind(self.session, job, force=self.force)
        return None if job.request.options.outputs or not job.request.shows_value else value


@dataclass(frozen=True)
class ForAll:
    """Waits for all background jobs of this kernel and of the same notebook before it, and binds their names.

    Raises the error of the one job that failed, or JobFailedError naming those that did, once all are over.
    """

    session: Session

    def block(self) -> Any:
        waiting = self._waiting()
        with self._shown(waiting) as draw:
            while not all(job.done() for job in waiting):
                time.sleep(TICK)
                draw()
        return self._bound(waiting)

    async def awaited(self) -> Any:
        waiting = self._waiting()
        with self._shown(waiting) as draw:
            while not all(job.done() for job in waiting):
                await asyncio.sleep(TICK)
                draw()
        return self._bound(waiting)

    def _waiting(self) -> list[RemoteJob]:
        return [*self.session.started, *_before(self.session)]

    @contextmanager
    def _shown(self, waiting: list[RemoteJob]) -> Iterator[Callable[[], None]]:
        def overview() -> Overview:
            return Overview(tuple(job.snapshot for job in waiting)).at(time.time())

        if not waiting:
            yield lambda: None
            return
        around = self.session.surroundings
        view = choose_view("auto", around.place(), on_stop=lambda number: stop(waiting, number), audience=around.audience())
        try:
            view.open(overview())
            yield lambda: view.draw(overview())
        except (KeyboardInterrupt, asyncio.CancelledError):
            running = sum(not job.done() for job in waiting)
            hint = f"{running} of {len(waiting)} jobs go on. See them: %bacalhau jobs; wait again: %bacalhau wait --all."
            raise JobInterruptedError(job_id="", stopped=False, hint=hint) from None
        finally:
            self.session.surroundings.display.summed(view, overview())

    def _bound(self, waiting: list[RemoteJob]) -> Table:
        if not waiting:
            return Table(("job", "name", "state"), (), "No jobs are running.")
        failed = []
        for job in waiting:
            if (error := job.error) is not None:
                failed.append((job, error))
            else:
                _bind_or_say(self.session, job)
        if len(failed) == 1:
            raise failed[0][1]
        if failed:
            raise _summary(failed, len(waiting))
        return Table(("job", "name", "state"), tuple((job.ref.short_id, job.name, job.state) for job in waiting))


def _bind(session: Session, job: RemoteJob, *, force: bool = False) -> None:
    if left := job.bind(force=force):
        names = ", ".join(left)
        session.surroundings.display.say(
            f"{names}: not bound, because something else was put there since; {job.name} has it in job.outputs"
        )


def _bind_or_say(session: Session, job: RemoteJob) -> None:
    """One job's names must not keep those of the others from being bound."""
    try:
        _bind(session, job)
    except BacalhauMagicError as error:
        session.surroundings.display.say(f"{job.name}: its names are not bound. {error.message} Its value: job.result().")


def _before(session: Session) -> list[RemoteJob]:
    """The notebook's unfinished jobs that an earlier kernel sent."""
    _jobs.settle(session)
    rows = session.ledger.rows(session.surroundings.notebook())
    found = []
    for row in rows:
        if row.state != "sent" or session.known(row.job_id) is not None:
            continue
        try:
            found.append(_jobs.follow(session, row.job_id))
        except BacalhauMagicError as error:
            session.surroundings.display.say(f"{row.name}: not waited for, because it can't be asked about. {error.message}")
    return found


def _summary(failed: list[tuple[RemoteJob, BaseException]], count: int) -> JobFailedError:
    causes = [f"{job.name}: {getattr(error, 'message', '') or error}" for job, error in failed]
    more = [f"and {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
    return JobFailedError(
        f"{len(failed)} of {count} jobs failed. " + "; ".join([*causes[:_NAMED], *more]),
        job_id=failed[0][0].snapshot.job_id,
        causes=causes,
        hint="The others' names are bound. One job's whole error: job.result(), or %bacalhau show JOB.",
    )
