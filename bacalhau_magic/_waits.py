"""Waiting for jobs that were sent before: one, or all of them as one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import _jobs
from ._cards import stop
from ._overview import Overview
from ._tables import Table
from .errors import BacalhauMagicError, JobFailedError, JobInterruptedError
from .progress import View, choose_view

if TYPE_CHECKING:
    from ._job import RemoteJob
    from ._session import Session

_TICK = 0.1
_NAMED = 5
"""Failed jobs that are named in an error."""


def for_one(session: Session, job: RemoteJob, *, force: bool = False) -> Any:
    """Wait for a job, show its outputs, bind its names (with `force` over whatever they hold); its value where it has no names."""
    display = session.surroundings.display
    view = session.view(job)
    try:
        result = job.wait(view, stop_on_interrupt=False)
    except BaseException:
        display.broke(job, view)
        raise
    value = display.ended(job, view, result)
    job.given(result)
    _bind(session, job, force=force)
    return None if job.request.options.outputs or not job.request.shows_value else value


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


def for_all(session: Session) -> Table:
    """Wait for all background jobs of this kernel and of the same notebook before it, and bind their names.

    Raises the error of the one job that failed, or JobFailedError naming those that did, once all are over.
    """
    waiting = [*session.started, *_before(session)]
    if not waiting:
        return Table(("job", "name", "state"), (), "No jobs are running.")
    view = choose_view("auto", session.surroundings.place(), on_stop=lambda number: stop(waiting, number))
    _draw_until_over(session, view, waiting)
    failed = []
    for job in waiting:
        if (error := job.error) is not None:
            failed.append((job, error))
        else:
            _bind_or_say(session, job)
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        raise _summary(failed, len(waiting))
    return Table(("job", "name", "state"), tuple((job.ref.short_id, job.name, job.state) for job in waiting))


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


def _draw_until_over(session: Session, view: View, waiting: list[RemoteJob]) -> None:
    def overview() -> Overview:
        return Overview(tuple(job.snapshot for job in waiting)).at(time.time())

    view.open(overview())
    try:
        while not all(job.done() for job in waiting):
            time.sleep(_TICK)
            view.draw(overview())
    except KeyboardInterrupt:
        running = sum(not job.done() for job in waiting)
        hint = f"{running} of {len(waiting)} jobs go on. See them: %bacalhau jobs; wait again: %bacalhau wait --all."
        raise JobInterruptedError(job_id="", stopped=False, hint=hint) from None
    finally:
        session.surroundings.display.summed(view, overview())


def _summary(failed: list[tuple[RemoteJob, BaseException]], count: int) -> JobFailedError:
    causes = [f"{job.name}: {getattr(error, 'message', '') or error}" for job, error in failed]
    more = [f"and {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
    return JobFailedError(
        f"{len(failed)} of {count} jobs failed. " + "; ".join([*causes[:_NAMED], *more]),
        job_id=failed[0][0].snapshot.job_id,
        causes=causes,
        hint="The others' names are bound. One job's whole error: job.result(), or %bacalhau show JOB.",
    )
