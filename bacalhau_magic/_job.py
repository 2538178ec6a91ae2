"""RemoteJob: a flow on a thread of its own, and the ways to wait for it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, MutableMapping
from concurrent import futures
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from typing import Any, Literal

from . import _namespace, _traces
from ._filetree import FileTree, tree
from ._joblog import LogBuffer, whole_log
from ._placement import size
from ._secrets import Veil
from ._snapshot import Snapshot
from ._stages import CellRequest, Endpoint, Finished, JobEvent, JobRef, JobResult, Noticed, Printed, Route, Submitted
from ._stops import StopRequest
from ._waiting import TICK, Drawing, awaited, heard, lines, news_within
from .client import Client
from .errors import BacalhauMagicError, JobInterruptedError, JobStoppedError, JobTimedOutError, ResultError
from .options import JobOptions
from .progress import View

_INTERRUPTED = "interrupted in the notebook"
_PATIENCE = 5.0
"""Seconds that a cell waits after its interrupt for the server to hear of the stop."""

_PUBLIC = (
    *("bind", "cancel", "done", "error", "events", "files", "id", "logs", "name", "outputs"),
    *("result", "route", "state", "stderr", "stdout"),
)

Flow = Callable[[Callable[[JobEvent], None], StopRequest], JobResult]


class RemoteJob:
    """A job that was sent, or is being sent, from here; its flow runs on a daemon thread.

    `await job` and `job.result()` return what the cell returns, and raise what it raises; `job.bind()` puts the
    wanted names into the namespace. Nothing here prints.
    """

    def __init__(self, flow: Flow, request: CellRequest, namespace: MutableMapping[str, Any]) -> None:
        self.request = request
        self._namespace = namespace
        self.seen = False
        """Whether its result, or what it raised, was given to somebody."""
        self.told = False
        """Whether somebody was told that it failed."""
        self._future: Future[JobResult] = Future()
        self._sent: Future[JobRef] = Future()
        for future in (self._future, self._sent):
            future.set_running_or_notify_cancel()  # who gives up waiting must not take the result from the others
        self._stop = StopRequest()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[JobEvent | None], None]] = []
        self._events: list[JobEvent] = []
        self._log = LogBuffer()
        self.client_of: Callable[[Endpoint], Client] | None = None
        """Where the whole of a long log is read; who begins the job sets it."""
        self._ref: JobRef | None = None
        self._route: Route | None = None
        self._trace = _traces.here()
        options = request.options
        self._snapshot = Snapshot(
            started=time.time(),
            now=time.time(),
            name=options.name or "",
            language=request.language.name,
            limit=options.run_seconds,
            queue_limit=options.queue_seconds,
            resources=_resources(options),
        )
        self._thread = threading.Thread(target=self._run, args=(flow,), name="bacalhau-job", daemon=True)

    def start(self) -> RemoteJob:
        """Begin the flow; returns this job."""
        self._thread.start()
        return self

    def _run(self, flow: Flow) -> None:
        try:
            result = self._traced(flow)
        except BaseException as problem:  # noqa: BLE001 - the thread's outcome, whatever it is, belongs to who waits
            self._emit(_broken_by(problem))
            self._future.set_exception(problem)
            if not self._sent.done():
                self._sent.set_exception(problem)
        else:
            self._future.set_result(result)
            if not self._sent.done():
                self._sent.set_exception(ResultError("The job was not sent."))
        with self._lock:
            self._tell(None)

    def _traced(self, flow: Flow) -> JobResult:
        with _traces.span("bacalhau.job", parent=self._trace, language=self.request.language.name):
            self._trace = _traces.here()
            result = flow(self._emit, self._stop)
            _traces.attributes(job_id=result.ref.job_id, outcome=result.outcome)
            if result.error is not None:
                _traces.failed(result.error)
        return result

    def _emit(self, event: JobEvent) -> None:
        with self._lock:
            self._snapshot = self._snapshot.after(event, time.time())
            if isinstance(event, Printed):
                self._log.add(event.stream, event.text)
            else:
                self._events.append(event)
            if isinstance(event, Submitted):
                self._ref, self._route = event.ref, event.route
                self._sent.set_result(event.ref)
            self._tell(event)

    def _tell(self, event: JobEvent | None) -> None:
        """Hand on an event; under the lock, so that who begins to listen misses none and gets none twice."""
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[JobEvent | None], None]) -> Snapshot:
        """From now on hand every event to `listener`, on the job's own thread, and None at the end; returns the snapshot until now."""
        with self._lock:
            self._listeners.append(listener)
            snapshot = self._snapshot
        if self._future.done():
            listener(None)
        return snapshot

    def forget(self, listener: Callable[[JobEvent | None], None]) -> None:
        """Hand no more events to `listener`."""
        with self._lock:
            self._listeners.remove(listener)

    # Facts

    @property
    def id(self) -> str:
        """The job's id; waits until it was sent, and raises what kept it from being sent."""
        return self.ref.job_id

    @property
    def is_sent(self) -> bool:
        """Whether the node has it, as far as is known now."""
        return self._ref is not None

    @property
    def ref(self) -> JobRef:
        """Where the job is and by which id; waits until it was sent."""
        return self._sent.result()

    @property
    def state(self) -> str:
        """The phase in one word: packing, sent, waiting, …, running, completed, failed, stopped."""
        if self._future.done() and self._future.exception() is not None:
            return "failed"
        return self._snapshot.phase

    @property
    def route(self) -> Route | None:
        """The place that was chosen and why; None before that."""
        return self._route

    @property
    def snapshot(self) -> Snapshot:
        """What a view would show now."""
        return self._snapshot

    @property
    def events(self) -> tuple[JobEvent, ...]:
        """What happened until now, without the log."""
        with self._lock:
            return tuple(self._events)

    @property
    def name(self) -> str:
        """The name for people: `--name`, or the job's own."""
        return self.request.options.name or (self._ref.name if self._ref else self.request.language.name)

    @property
    def known_result(self) -> JobResult | None:
        """The result, its error included, where the flow brought one already."""
        return self._future.result() if self._future.done() and self._problem() is None else None

    @property
    def is_being_stopped(self) -> bool:
        """Whether a stop was asked for here."""
        return self._stop.requested.is_set()

    def done(self) -> bool:
        """Whether the flow is over."""
        return self._future.done()

    # Results

    def _outcome(self, timeout: float | None = None) -> JobResult:
        try:
            return self._future.result(timeout)
        except FutureTimeoutError:
            if self._future.done():
                raise
            raise JobTimedOutError(
                f"The job is not done after {timeout:g} s; it goes on.",
                job_id=self._ref.job_id if self._ref else "",
                phase="wait",
                limit=timeout,
                hint="Wait again, or stop it: job.cancel().",
            ) from None
        except KeyboardInterrupt:
            raise self._interrupted(stopped=False) from None

    def _interrupted(self, *, stopped: bool) -> JobInterruptedError:
        job_id = self._ref.job_id if self._ref else ""
        if stopped or not job_id:
            hint = ""
        elif self._stop.kept.is_set() and not self._stop.delivered.is_set():
            hint = f"Its stop is on the way, and kept for the next contact; see what became of it: %bacalhau show {job_id[:10]}."
        elif self._stop.requested.is_set():
            hint = f"Its stop is on the way; see what became of it: %bacalhau show {job_id[:10]}."
        else:
            hint = f"Come back to it: %bacalhau attach {job_id[:10]}. Stop it: %bacalhau stop {job_id[:10]}."
        return JobInterruptedError(job_id=job_id, stopped=stopped, hint=hint)

    def result(self, timeout: float | None = None) -> Any:
        """What the cell returns: its value, or a dict of the wanted names; `timeout` is seconds.

        Raises what the job raised, and JobTimedOutError when the time is over first (the job goes on).
        """
        return self.given(self._outcome(timeout))

    def given(self, result: JobResult) -> Any:
        """What a result gives to the user: its value or the wanted names; raises its error."""
        self.seen = True
        if result.error is not None:
            raise result.error.with_traceback(None)  # else it would show where it was raised before as well
        return dict(result.outputs) if self.request.options.outputs else result.value

    @property
    def outputs(self) -> dict[str, Any]:
        """The wanted names that came back, also when others didn't; waits for the end."""
        return dict(self._outcome().outputs)

    @property
    def files(self) -> FileTree | None:
        """The folder with what the cell wrote to outputs/, a path whose repr is the tree of that; waits for the end."""
        outcome = self._outcome()
        return tree(outcome.files, outcome.file_names) if outcome.files is not None else None

    @property
    def stdout(self) -> str:
        """What the job printed; waits for the end."""
        return self._outcome().stdout

    @property
    def stderr(self) -> str:
        """What the job printed on stderr; waits for the end."""
        return self._outcome().stderr

    @property
    def error(self) -> BaseException | None:
        """What the job raised, or None; waits for the end."""
        self.seen = True
        if (problem := self._problem()) is not None:
            return problem
        return self._outcome().error

    def _problem(self) -> BaseException | None:
        """What kept the flow from a result, or None."""
        return self._future.exception()

    def bind(self, *, partial: bool = False, force: bool = False) -> tuple[str, ...]:
        """Put the wanted names into the namespace, all or nothing; with `partial` those that came back.

        A name that does not hold this job's own marker any more stays as it is, unless `force`. Returns the names
        that were left alone.
        """
        result = self._outcome()
        if result.error is not None and not (partial or result.is_whole):
            raise result.error
        return self._bind(result, force=force)

    def _bind(self, result: JobResult, *, force: bool) -> tuple[str, ...]:
        values = dict(result.outputs)
        options = self.request.options
        values |= {options.stdout: result.stdout} if options.stdout else {}
        values |= {options.stderr: result.stderr} if options.stderr else {}
        with _traces.span("bacalhau.bind", parent=self._trace, names=len(values)):
            return _namespace.bind(self._namespace, values, None if force else self)

    def mark(self) -> None:
        """Let the wanted names hold this job's markers until they are bound."""
        options = self.request.options
        names = [*options.outputs, *(name for name in (options.stdout, options.stderr) if name)]
        _namespace.mark(self._namespace, names, self, self._pending_sentence)

    def _pending_sentence(self) -> tuple[str, str]:
        """The state of this job, and how to come to its names, for who uses a name that is not bound."""
        where, word = (f"job {self._ref.short_id}", self._ref.short_id) if self._ref else ("its job", "last")
        if not self.done():
            return f"{where} is {self.state}", f"Wait for it: %bacalhau wait {word}."
        if self._problem() or self._outcome().error:
            return f"{where} {'was stopped' if self.state == 'stopped' else 'failed'}", f"What happened: %bacalhau show {word}."
        return f"{where} is done, and its names are not bound yet", f"Bind them: %bacalhau wait {word}."

    # Acting

    def cancel(self, reason: str = "stopped from the notebook") -> None:
        """Ask for the job to be stopped; the wait ends when the node has done it. Nothing happens when it is over."""
        if not self.done():
            self._stop.ask(reason)

    def stop_pressed(self, reason: str = "stopped from the notebook") -> None:
        """As `cancel`, by a person's hand: a button."""
        if not self.done():
            self._stop.ask(reason, by_hand=True)

    def logs(self, follow: bool = False) -> Iterator[tuple[str, str]]:
        """The log as (stream, line) pairs, in order within a stream; with `follow` until the job's end.

        Of a long log only the beginning and the end are kept here: the whole is read from the node, and where that has it
        no longer, a line says what is missing.
        """
        pieces: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
        with self._lock:
            past, counts, dropped = self._log.pieces(), dict(self._log.counts), self._log.dropped
            self._listeners.append(pieces.put)
            goes_on = follow and not self.done()
        try:
            if dropped:
                past = self._whole_log(counts) or past
            yield from lines(past, pieces if goes_on else None)
        except KeyboardInterrupt:
            raise self._interrupted(stopped=False) from None
        finally:
            self.forget(pieces.put)

    def _whole_log(self, counts: dict[str, int]) -> list[tuple[str, str]] | None:
        if self._ref is None or self.client_of is None:
            return None
        try:
            return whole_log(self.client_of(self._ref.endpoint), self._ref, counts, Veil(self.request.secrets).pieces)
        except BacalhauMagicError:
            return None

    # Waiting

    def wait_sent(self) -> JobRef:
        """Wait until the job was sent; an interrupt stops it. Raises what kept it from being sent, and JobInterruptedError."""
        try:
            while not self._sent.done():
                futures.wait([self._sent], TICK)
            return self._sent.result()
        except KeyboardInterrupt:
            raise self._given_up() from None

    async def wait_sent_async(self) -> JobRef:
        """As `wait_sent`, and the kernel's event loop goes on meanwhile."""
        try:
            return await awaited(self._sent)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise self._given_up() from None

    def _given_up(self) -> JobInterruptedError:
        self._stop.ask(_INTERRUPTED, by_hand=True)
        return self._interrupted(stopped=True)

    def wait(self, view: View, *, stop_on_interrupt: bool) -> JobResult:
        """Draw on `view` until the end and return the result; blocks in short waits so that Ctrl-C works.

        Raises what kept the job from being sent, and JobInterruptedError: with `stop_on_interrupt` once the job is
        stopped, or at a second interrupt; without it at once, and the job goes on. Closing the view is the caller's.
        """
        events: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
        pressed: queue.SimpleQueue[None] = queue.SimpleQueue()
        interrupts, since = 0, 0.0
        with ExitStack() as stack:
            stack.enter_context(heard(pressed))
            drawing = Drawing(view, self.listen(events.put))
            stack.callback(self.forget, events.put)
            while not drawing.over:
                drawing.take(events, TICK)
                while not pressed.empty():
                    pressed.get()
                    interrupts, since = interrupts + 1, time.monotonic()
                    self._on_interrupt(interrupts, stop_on_interrupt)
                self._leave_unheard(since)
            return self._end(interrupts)

    async def wait_async(self, view: View, *, stop_on_interrupt: bool) -> JobResult:
        """As `wait`, and the kernel's event loop goes on meanwhile, so that buttons and other cells' widgets live."""
        loop = asyncio.get_running_loop()
        events: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
        news = asyncio.Event()

        def listener(event: JobEvent | None) -> None:
            events.put(event)
            loop.call_soon_threadsafe(news.set)

        drawing = Drawing(view, self.listen(listener))
        interrupts, since = 0, 0.0
        with ExitStack() as stack:
            stack.callback(self.forget, listener)
            pressed: queue.SimpleQueue[None] = queue.SimpleQueue()
            while not drawing.over:
                try:
                    await news_within(news, TICK)
                    drawing.take(events, 0)
                    if not pressed.empty():
                        raise KeyboardInterrupt
                except (KeyboardInterrupt, asyncio.CancelledError):
                    interrupts, since = interrupts + 1, time.monotonic()
                    self._on_interrupt(interrupts, stop_on_interrupt)
                    stack.enter_context(heard(pressed))
                self._leave_unheard(since)
            return self._end(interrupts)

    def _on_interrupt(self, count: int, stop: bool) -> None:
        """The first interrupt stops the job where the cell sent it; otherwise, and at the second, the wait ends."""
        if not stop:
            where = f" `%bacalhau attach {self._ref.short_id}` comes back to it." if self._ref else ""
            self._emit(Noticed(f"Detached: the job goes on.{where}"))
        if not stop or count > 1:
            raise self._interrupted(stopped=False) from None
        self._stop.ask(_INTERRUPTED, by_hand=True)
        self._emit(Noticed("Interrupted: stopping the job. Interrupt again to stop waiting for it."))

    def _leave_unheard(self, interrupted: float) -> None:
        """End the wait some seconds after an interrupt whose stop the server can't be told; it is kept, and sent when it can."""
        late = interrupted and time.monotonic() - interrupted > _PATIENCE
        if late and self._stop.kept.is_set() and not self._stop.delivered.is_set():
            raise self._interrupted(stopped=False) from None

    def _end(self, interrupts: int) -> JobResult:
        self.seen = True
        if interrupts and (self._problem() is not None or self._outcome().error is not None):
            raise self._interrupted(stopped=True)
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._given_later().__await__()

    async def _given_later(self) -> Any:
        try:
            return self.given(await awaited(self._future))
        except asyncio.CancelledError as problem:
            # It may be a timeout's or a group's own: it stays what it is, and an interrupt's says how to go on.
            said = self._interrupted(stopped=False)
            problem.args = (str(said),)
            vars(problem)["_render_traceback_"] = said._render_traceback_
            raise

    def __repr__(self) -> str:
        facts = (self._label, self.state, *([self._ref.short_id] if self._ref else []))
        return f"RemoteJob({', '.join(facts)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's own signature
        """How a notebook shows it: what is saved is the same after another run, so it has neither id nor state."""
        printer.text(f"RemoteJob({self._label})")

    def __dir__(self) -> list[str]:
        """What the README tells of, so that Tab offers that; the rest is for the package itself."""
        return [*_PUBLIC, *(name for name in super().__dir__() if name.startswith("__"))]

    @property
    def _label(self) -> str:
        return self.request.options.name or self.request.language.name


def _resources(options: JobOptions) -> str:
    """What is asked for, in words: "2 CPU · 4 GB · 1 GPU"."""
    gpu = [f"{options.gpu_count} {options.gpu_model or 'GPU'}"] if options.gpu_count else []
    return " · ".join([f"{options.cpu:g} CPU", size(options.memory), *gpu])


def _broken_by(problem: BaseException) -> Finished:
    """What a view says of a flow that ended without a result."""
    phase: Literal["stopped", "failed"] = "stopped" if isinstance(problem, JobStoppedError) else "failed"
    return Finished(phase, str(getattr(problem, "message", "") or problem), str(getattr(problem, "hint", "")))
