"""How jobs are shown in an IPython shell: its front end, the outputs of a cell, and the cards that live on after it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ._cards import Cards, Stop
from ._display import Display
from ._frontend import FrontEnd
from ._outputs import outcome_of, outputs
from ._overview import Overview
from .progress import View, bundle, receipt
from .progress import outcome_of as outcome_of_snapshot

if TYPE_CHECKING:
    from ._job import RemoteJob
    from ._session import Session
    from ._stages import JobResult


class ShellDisplay(Display):
    """The display of one shell; `session` is what its jobs belong to."""

    def __init__(self, shell: Any, front: FrontEnd, session: Session) -> None:
        self._shell = shell
        self._front = front
        self._session = session
        self._told = ""
        self._cards = Cards(lambda job: self._receipt(job, live=True))
        self._announced = ""
        """The run of a cell that has said already that its jobs were submitted."""

    # Jobs that nobody waits for

    @contextmanager
    def sending(self, job: RemoteJob) -> Iterator[None]:
        """A card while it is sent, and from then on; where there are no cards, the bundle once it was sent."""
        options, run = job.request.options, self._front.run()
        if options.quiet or options.progress in ("text", "none") or not self._draws_cards():
            yield
            if not options.quiet and (not run or run != self._announced):
                self._publish(bundle("submitted"), self._receipt(job, live=False) if job.snapshot.instead else {})
            self._announced = run
        else:
            if not self._cards.join(run, job):
                self._cards.open(run, job, lambda stop: self._lasting(job, stop))
            yield

    def _draws_cards(self) -> bool:
        """Whether a card can live on after its cell here, as far as is known."""
        return self._front.kernel is not None and self._front.place() == "notebook" and not self._front.audience().is_console

    def _lasting(self, job: RemoteJob, stop: Stop) -> View:
        return self._session.view(job, on_stop=stop, static=bundle("submitted"))

    # The end of a wait

    def ended(self, job: RemoteJob, view: View, result: JobResult) -> Any:
        """Show a finished job's outputs in their order; returns the cell's value, which the shell shows."""
        options = job.request.options
        live = self._front.place() != "batch" and self._front.kernel is not None
        facts = self._receipt(job, live=live)
        failure = job.snapshot.failure
        shown = view.close(job.snapshot, None if options.quiet else bundle(outcome_of(result), failure), facts)
        value = None
        for output in outputs(result, options, failure=failure, receipt=facts, log_shown=view.shows_log):
            if output.kind == "value":
                value = output.value
                if result.error is not None and job.request.shows_value:
                    self._publish(*self._shell.display_formatter.format(value))
            elif output.kind == "stream":
                stream = sys.stdout if output.name == "stdout" else sys.stderr
                stream.write(output.text)
                stream.flush()
            elif output.kind == "display" or not (shown or self._front.kernel is None):
                self._publish(dict(output.data), dict(output.metadata))
        return value

    def _receipt(self, job: RemoteJob, *, live: bool) -> dict[str, Any]:
        return receipt(job.snapshot, keep=self._session.settings.receipt, live=live)  # type: ignore[arg-type]

    def summed(self, view: View, overview: Overview) -> None:
        static = bundle(outcome_of_snapshot(overview))
        if not view.close(overview, static, {}) and self._front.kernel is not None:
            self._publish(static, {})

    def broke(self, job: RemoteJob, view: View) -> None:
        """The wait ended without a result to give: a job that is over shows its outputs, one that goes on keeps its card."""
        if (result := job.known_result) is not None:
            self.ended(job, view, result)
        elif job.done():
            view.close(job.snapshot, None, {})
        else:
            self._leave(job, view)

    def _leave(self, job: RemoteJob, view: View) -> None:
        if not job.request.options.bg:
            job.mark()
        static = bundle("stopped" if job.is_being_stopped else "submitted")
        if view.keep(static):
            self._cards.keep(job, view)
            return
        view.close(job.snapshot, None, {})
        if self._front.kernel is not None and not job.request.options.quiet:
            self._publish(static, {})

    def news(self) -> None:
        """On a terminal or a console, which have no cards: say once which background jobs have failed."""
        if self._front.place() == "batch" or self._draws_cards():
            return
        for job in self._session.started:
            if job.done() and job.is_sent and not job.seen and not job.told and job.snapshot.phase == "failed":
                job.told = True
                self.say(f"the job {job.name} failed: {job.snapshot.problem} Its error: job.result(), or %bacalhau wait {job.ref.short_id}")

    def tell(self, sentence: str) -> None:
        """Show what is going on in the running cell, in one line that the next one replaces; nothing in a batch run."""
        if self._front.place() != "notebook":
            return
        is_new, self._told = not self._told, self._told or secrets.token_hex(8)
        self._shell.display_pub.publish(
            data={"text/plain": sentence}, metadata={}, transient={"display_id": self._told}, **({} if is_new else {"update": True})
        )
        self._told = self._told if sentence else ""

    def _publish(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        self._shell.display_pub.publish(data=data, metadata=metadata)
