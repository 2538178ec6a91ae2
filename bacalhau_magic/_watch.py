"""One job's events, from its submission to its end.

The job's history is the only poll, and its state the only truth; the log stream is the fast path for text and packets,
and may be silent, break, or stay open for ever. Lost contact ends nothing: asking goes on.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Literal

from . import _marks, _traces
from ._bundles import bundle_limit
from ._causes import STOP_PREFIX, Cause, causes, main
from ._ledger import Ledger
from ._packets import Assembler, Packet, Text
from ._stages import BegunAnew, CauseFound, ContactChanged, Ended, JobEvent, JobRecord, JobRef, Noticed, PhaseChanged, Printed
from ._wire import STDERR, STDOUT, TERMINAL, Execution, ExecutionState, HistoryItem, Job, NodeState, State
from .client import Client, LogOver, LogText, Reader
from .errors import ApiError, NotFoundError, RejectedError, UnauthorizedError

_FIRST_PAUSE = 0.1
_UNHURRIED = 0.4
"""The same of a job in the background: a hundred of them are not to fill the endpoint's budget."""
_STARTING_PAUSE = 1.0
"""The longest pause between two polls while somebody waits, so that a failure is shown as soon as the server knows it."""
_USUAL_INTERVAL = 5.0
"""The poll interval that is built in; a longer one was chosen to spare the server, and is kept once the cell runs."""
_NO_ROOM = Cause("busy", "The node has no room for the job now: it runs others.", advice="It starts by itself when there is room.")
_SLOW = 1.0
"""Seconds after which a job of the embedded node that has not begun is said to wait."""
_HURRY = (0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.02, 0.02, 0.05)
"""Pauses after the log stream's end: the job's own end comes some milliseconds later."""
_BATCH = 500
_CUT_LOG = range(2040, 2052)
"""Characters of a finished log that nodes before 1.8 serve: its first 2,048 bytes, and a newline."""
_LAST_READS = ((0.05, 4.0), (0.2, 8.0), (0.5, 16.0), (1.0, 32.0), (1.0, 300.0))
"""Seconds before a finished log is opened once more, and how long it may stay silent: a node serves one log at a time."""
_AGAIN = 2.0
"""Seconds for which a finished log that was heard before may stay silent."""
_HASTE = 1.0
"""The same for somebody who has pressed Stop."""
_NEVER_BEGAN = ("image", "command", "inputs")
"""Causes of executions that have no log: a node keeps a stream that asks for it open, and all others wait behind that."""
_MAX_BACKGROUND_STREAMS = 16
_background_streams = threading.BoundedSemaphore(_MAX_BACKGROUND_STREAMS)


class StopRequest:
    """How a watched job is asked to stop: `ask(reason)` from any thread; the watch delivers it to the server."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.delivered = threading.Event()
        """Set once the server has heard of the stop, or needs to hear of none."""
        self.reason = ""
        self.by_hand = False
        """Whether a person stopped it, and not the notebook's own code: another run would not be stopped there."""
        self._wakes: list[Callable[[], None]] = []

    def ask(self, reason: str, *, by_hand: bool = False) -> None:
        """Ask for the stop; the first reason stays."""
        if not self.requested.is_set():
            self.reason, self.by_hand = reason, by_hand
            self.requested.set()
        for wake in list(self._wakes):
            wake()

    def on_request(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the stop is asked for."""
        self._wakes.append(wake)


def deliver_stops(client: Client, ledger: Ledger) -> list[str]:
    """Send the stops that this endpoint has not heard of yet; the job ids that it now has. Raises nothing."""
    done = []
    for row in ledger.pending_stops(client.endpoint):
        try:
            client.stop(row.job_id, row.stop_reason, row.namespace, retry=False)
        except ApiError as error:
            if not _is_settled(error):
                break
        ledger.stopped(row.job_id)
        done.append(row.job_id)
    return done


def _is_settled(error: ApiError) -> bool:
    """Whether a stop that was refused so needs no further try: the job is over, or will never be ours to stop.

    A busy server (408, 429) and a missing or expired credential (401) are no such answers: a later try may succeed.
    """
    if error.status in (401, 408, 429):
        return False
    if isinstance(error, (NotFoundError, UnauthorizedError)):
        return True
    return isinstance(error, RejectedError) and (error.status < 500 or bool(re.search("cannot stop job|terminal state", error.message)))


def watch(
    client: Client,
    ref: JobRef,
    *,
    nonce: str,
    max_result: int,
    poll_interval: float = 5.0,
    stop: StopRequest | None = None,
    follow_logs: bool = True,
    background: bool = False,
    ledger: Ledger | None = None,
    job: Job | None = None,
) -> Iterator[JobEvent]:
    """The job's events; the last is `Ended`. Raises nothing of the network's; closing the iterator ends all threads.

    `nonce` is that of the job's packets, "" for a job without a wrapper; `max_result` its --max-result in bytes.
    `job` as it was sent brings limits and names into causes. `background`: requests wait for those of waiting cells,
    and at most 16 such jobs hold a log stream. Without `follow_logs` the log is read once, at the end.
    """
    watching = _Watch(client.in_background() if background else client, ref, nonce, max_result, ledger, job)
    watching.poll_interval = max(0.05, poll_interval)
    watching.follow_logs = follow_logs
    watching.background = background
    watching.pause = watching._first_pause
    return watching.events(stop or StopRequest())


class _Watch:
    poll_interval = 5.0
    follow_logs = True
    background = False

    def __init__(self, client: Client, ref: JobRef, nonce: str, max_result: int, ledger: Ledger | None, job: Job | None) -> None:
        self.client, self.ref, self.ledger, self.job = client, ref, ledger, job
        self.nonce = nonce
        self.max_text = max_result
        self.max_blob = bundle_limit(max_result)
        self.inbox: queue.Queue[object] = queue.Queue(maxsize=2000)
        # The history
        self.history: list[HistoryItem] = []
        self.seen_seq = 0
        self.token = ""
        self.lost = 0
        self.gone = 0
        self.pause = _FIRST_PAUSE
        self.hurry: list[float] = []
        self.nodes: list[NodeState] | None = None
        self.cause: Cause | None = None
        self.execution = ""
        self.node = ""
        self.placed_at = 0.0
        self.slow = False
        # The stop
        self.asked: StopRequest | None = None
        self.stop_reason = ""
        self.stop_tries = 0
        # The log
        self.reader: Reader | None = None
        self.holds_slot = False
        self.open_at = 0.0
        self.open_pause = 0.02 if ref.endpoint.is_local else 0.15
        self.opened_at = 0.0
        self.patience = 2.0
        self.read_before = False
        self.clean_end = False
        self.cut = False
        self.hasty = False
        self._fresh()

    def _fresh(self) -> None:
        """No log yet: at the beginning, and when the job begins anew on another node."""
        self.assembler = Assembler(self.nonce or "-", self.max_blob)
        self.texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.kept = {"stdout": 0, "stderr": 0}
        self.frames = 0
        self.installing = False
        self.served = self.most = 0

    # The whole

    def events(self, stop: StopRequest) -> Iterator[JobEvent]:
        self.asked = stop
        stop.on_request(self._wake)
        try:
            record = None
            while record is None:
                yield from self._until_terminal(stop)
                record = yield from self._record()
            if stop.requested.is_set():
                stop.delivered.set()
            yield from self._rest_of_log(record, stop)
            yield from self._shown(self.assembler.finish())
            if self.ledger and record.state in TERMINAL:
                self.ledger.finished(self.ref.job_id, record.state, record.job.took)
            blob, problem = self.assembler.outcome() if self.nonce else (None, "")
            ran = [execution for execution in record.executions if execution.compute == ExecutionState.COMPLETED]
            cut = bool(ran) and not (self.assembler.complete or self._ended_well(ran) or self._is_whole(ran))
            texts = {stream: "".join(pieces) for stream, pieces in self.texts.items()}
            installing = self.installing and self.assembler.started is None
            yield Ended(
                record, blob, problem, **texts, cut=cut, silent=cut and (self.hasty or self.reader is not None), installing=installing
            )
        finally:
            self._drop_reader()

    def _until_terminal(self, stop: StopRequest) -> Iterator[JobEvent]:
        # The embedded node starts the job at once, and its log says so; a look at the history would only be in its way.
        next_poll = time.monotonic() + (_FIRST_PAUSE if self.ref.endpoint.is_local else 0.0)
        while True:
            if stop.requested.is_set() and not stop.delivered.is_set() and (not self.lost or not self.stop_tries):
                yield from self._stop(stop.reason, stop)
                next_poll = min(next_poll, time.monotonic() + 0.005)
            if time.monotonic() >= next_poll:
                over = yield from self._poll()
                if over:
                    return
                next_poll = time.monotonic() + self._next_pause()
            self._tend_reader()
            hurried = yield from self._drain(next_poll)
            if hurried:
                self.hurry = list(_HURRY)
                next_poll = time.monotonic() + (self._local_pause() if self.ref.endpoint.is_local else self.hurry.pop(0))

    def _local_pause(self) -> float:
        """The embedded node ends the stream when it has written down the job's end."""
        return 0.03 if self.reader else 0.0

    def _next_pause(self) -> float:
        if self.lost:
            return min(0.2 * 2.0 ** min(self.lost, 10), max(self.poll_interval, 1.0))
        if self.hurry:
            return self.hurry.pop(0)
        pause = self.pause
        self.pause = min(pause * (2.0 if self.background else 1.5), self._longest_pause())
        return min(pause, self._longest_pause())

    @property
    def _first_pause(self) -> float:
        return _FIRST_PAUSE if not self.background else _UNHURRIED

    def _longest_pause(self) -> float:
        """Whoever waits hears of a failure within a second or so; what runs in the background can wait for it."""
        if self.poll_interval > _USUAL_INTERVAL:
            attentive = self.poll_interval if self.assembler.started is not None else _STARTING_PAUSE
        else:
            attentive = min(self.poll_interval, _STARTING_PAUSE)
        unseen = self.background and (self.assembler.started is not None or not self.holds_slot)
        return max(self.poll_interval if unseen or not self.follow_logs else attentive, _FIRST_PAUSE)

    def _wake(self) -> None:
        try:
            self.inbox.put_nowait(None)
        except queue.Full:
            pass  # whoever empties the queue is awake

    # The history

    def _poll(self) -> Generator[JobEvent, None, bool]:
        """One look at the history; whether the job is over."""
        try:
            items, token = self.client.history(self.ref.job_id, self.ref.namespace, self.token)
        except NotFoundError as error:
            self.gone += 1
            if self.gone >= 5:
                return True
            yield from self._no_contact(error)
            return False
        except ApiError as error:
            yield from self._no_contact(error)
            return False
        self.gone = 0
        _traces.event("poll", items=len(items), over=not token)
        yield from self._contact()
        self.token = token
        new = [item for item in items if item.seq_num > self.seen_seq or not item.seq_num]
        for item in new:
            self.seen_seq = max(self.seen_seq, item.seq_num)
            self.history.append(item)
            yield from self._happened(item)
        if new:
            self.pause = self._first_pause
            yield from self._explain()
        elif (
            self.placed_at
            and not self.slow
            and not self.installing
            and self.assembler.started is None
            and time.monotonic() - self.placed_at > _SLOW
        ):
            self.slow = True
            if self.ref.endpoint.is_local and self._waits_for_room():
                yield PhaseChanged("waiting", self.node)
                yield CauseFound(_NO_ROOM)
        return not token

    def _waits_for_room(self) -> bool:
        """Whether executions wait on the embedded node, where starting takes less than a second: to the history both are one."""
        try:
            return any(node.info.compute_node_info.enqueued_executions for node in self.client.nodes())
        except ApiError:
            return False

    def _no_contact(self, error: ApiError) -> Iterator[JobEvent]:
        self.lost += 1
        # One failed request may be chance.
        if self.lost == 2:
            yield ContactChanged(True, error.message)

    def _contact(self) -> Iterator[JobEvent]:
        if self.lost >= 2:
            yield ContactChanged(False)
        if self.lost and self.ledger and self.ref.job_id in deliver_stops(self.client, self.ledger) and self.asked:
            self.asked.delivered.set()
        self.lost = 0

    def _happened(self, item: HistoryItem) -> Iterator[JobEvent]:
        event = item.event
        if not item.execution_id:
            if self.assembler.started is None and (event.topic == "Queueing" or event.message.startswith("Job queued")):
                yield PhaseChanged("waiting")
            return
        if node := event.details.get("NodeID"):
            if self.execution and self.execution != item.execution_id:
                yield from self._begins_anew(str(node))
            self.execution, self.node = item.execution_id, str(node)
            # The log may be faster than the history.
            yield PhaseChanged(
                "running" if self.assembler.started is not None else "installing" if self.installing else "starting", self.node
            )
        elif event.message == "Running" and event.topic == "Execution" and self.assembler.started is None:
            self.placed_at = time.monotonic()
            self.open_at = 0.0
            if not self.installing:
                yield PhaseChanged(
                    "starting", self.node, "" if self.ref.endpoint.is_local else "waiting there, pulling the image or starting"
                )
        elif event.topic == _marks.PULLING and self.assembler.started is None:
            yield PhaseChanged("pulling", self.node, str(event.details.get("Image", "")))
        elif event.topic == "Downloading Inputs" and self.assembler.started is None:
            yield PhaseChanged("starting", self.node, "fetching the inputs")

    def _begins_anew(self, node: str) -> Iterator[JobEvent]:
        if self.frames or self.assembler.started is not None:
            yield BegunAnew(node)
        self._drop_reader()
        self._fresh()
        self.open_at, self.read_before = 0.0, False

    def _explain(self) -> Iterator[JobEvent]:
        found = main(causes(self.history, (), self.job))
        if found is None:
            return
        if self.nodes is None:
            try:
                self.nodes = self.client.nodes()
            except ApiError:
                pass  # asked again with what happens next
        found = main(causes(self.history, (), self.job, self.nodes or ()))
        if found is None or found == self.cause:
            return
        self.cause = found
        yield CauseFound(found)
        if found.repeats and not self.stop_reason and self.token:
            yield from self._stop(STOP_PREFIX + found.kind, None)

    # The stop

    def _stop(self, reason: str, asked: StopRequest | None) -> Iterator[JobEvent]:
        self.stop_reason = self.stop_reason or reason
        self.stop_tries += 1
        wanted = False
        try:
            self.client.stop(self.ref.job_id, reason, self.ref.namespace, retry=False)
        except ApiError as error:
            if isinstance(error, UnauthorizedError):
                wanted = error.status == 401  # a later login may deliver it
                yield Noticed(f"The job could not be stopped: {error.message}")
            elif not _is_settled(error):
                yield from self._undelivered(reason, error)
                return
            # Else it is over already: the history will say how.
        if self.ledger and wanted:
            self.ledger.want_stop(self.ref.job_id, reason)
        elif self.ledger:
            self.ledger.stopped(self.ref.job_id)
        if asked:
            asked.delivered.set()
        self.hurry = [0.005, 0.02, 0.05]

    def _undelivered(self, reason: str, error: ApiError) -> Iterator[JobEvent]:
        if self.stop_tries == 1:
            if self.ledger:
                self.ledger.want_stop(self.ref.job_id, reason)
            yield Noticed(f"The stop could not be delivered; it is sent at the next contact. ({error.message})")
        self.lost = max(self.lost, 1)

    # The log

    def _tend_reader(self) -> None:
        """Open the log stream when its time has come; drop one that has been silent for too long."""
        now = time.monotonic()
        if self.reader and not self.frames and self.placed_at and now - max(self.opened_at, self.placed_at) > self.patience:
            # It may be one of those that stay silent for ever; a new one serves the whole log.
            self._drop_reader()
            self.patience = min(self.patience * 2, 30.0)
            self.open_at = now
        if self.reader is None and self.follow_logs and not self.assembler.complete and now >= self.open_at and not self.lost:
            if self.background and not self.holds_slot:
                self.holds_slot = _background_streams.acquire(blocking=False)
                if not self.holds_slot:
                    self.open_at = now + self.poll_interval
                    return
            self._open(follow=True)

    def _open(self, *, follow: bool, execution_id: str = "") -> None:
        self._drop_reader(keep_slot=True)
        self.most = max(self.most, self.served)
        if self.read_before:
            self.assembler.restart()
        self.opened_at = time.monotonic()
        self.served, self.clean_end = 0, False
        self.reader = Reader(
            self.client, self.ref.job_id, self.inbox, namespace=self.ref.namespace, follow=follow, execution_id=execution_id
        )

    def _drop_reader(self, *, keep_slot: bool = False) -> None:
        if self.reader:
            self.reader.close()
            self.reader = None
        if self.holds_slot and not keep_slot:
            self.holds_slot = False
            _background_streams.release()

    def _drain(self, until: float) -> Generator[JobEvent, None, bool]:
        """What the log brings until then; True when there is a reason to look at the history at once."""
        while True:
            now = time.monotonic()
            wait_for_reader = self.open_at - now if self.reader is None and self.follow_logs and self.open_at > now else until - now
            try:
                first = self.inbox.get(timeout=max(0.0, min(until - now, wait_for_reader)))
            except queue.Empty:
                return False
            shown: list[Text | Packet] = []
            hurried = False
            for item in self._batch(first):
                if isinstance(item, LogText):
                    if self.reader and item.reader == self.reader.number:
                        self.frames += 1
                        self.read_before = True
                        self.served += len(item.text) if item.stream == STDOUT else 0
                        shown += self.assembler.feed(item.stream, item.text)
                elif isinstance(item, LogOver):
                    hurried = self._over(item) or hurried
                else:
                    hurried = True
            ended = any(isinstance(event, Packet) and event.kind == "e" for event in shown)
            yield from self._shown(shown)
            if hurried or ended:
                return True
            if time.monotonic() >= until:
                return False

    def _batch(self, first: object) -> Iterator[object]:
        """This item and what waits behind it, up to a batch, so that a flood does not keep the history from being asked."""
        yield first
        for _ in range(_BATCH - 1):
            try:
                yield self.inbox.get_nowait()
            except queue.Empty:
                return

    def _over(self, item: LogOver) -> bool:
        """The stream is over; whether that is a reason to look at the history."""
        if not self.reader or item.reader != self.reader.number:
            return False
        self._drop_reader(keep_slot=True)
        now = time.monotonic()
        self.open_at = now + self.open_pause
        self.open_pause = min(self.open_pause * 1.6, 1.0 if item.how == "refused" else 5.0)
        if item.how == "closed":
            self.cut = self._is_cut()
            # One that brought less than an earlier one has not served the whole log.
            self.clean_end = not self.cut and self.served >= self.most
            self.most = max(self.most, self.served)
            self.open_at = max(self.open_at, now + 0.5)
        return item.how != "refused"

    def _shown(self, items: list[Text | Packet]) -> Iterator[JobEvent]:
        """Events of what the assembler gave back, text of one stream joined."""
        pending: list[str] = []
        stream: Literal["stdout", "stderr"] = "stdout"
        for item in items:
            if isinstance(item, Text):
                of: Literal["stdout", "stderr"] = "stderr" if item.stream in (2, "stderr") else "stdout"
                if pending and of != stream:
                    yield Printed(stream, "".join(pending))
                    pending = []
                stream = of
                pending.append(item.text)
                if self.kept[of] < self.max_text:
                    self.texts[of].append(item.text)
                    self.kept[of] += len(item.text)
                continue
            if pending:
                yield Printed(stream, "".join(pending))
                pending = []
            if item.kind == "s":
                yield PhaseChanged("running", self.node)
            elif item.kind == "p" and item.facts().get("phase") == "installing":
                self.installing = True
                yield PhaseChanged("installing", self.node)
        if pending:
            yield Printed(stream, "".join(pending))

    # The end

    def _record(self) -> Generator[JobEvent, None, JobRecord | None]:
        """The job and its executions, asked for until there is an answer; None when the job is not over after all."""
        while True:
            try:
                job = self.client.job(self.ref.job_id, self.ref.namespace)
                if job.phase_word not in TERMINAL:
                    self.pause = max(self.pause, _STARTING_PAUSE / 2)
                    return None
                executions = self.client.executions(self.ref.job_id, self.ref.namespace)
            except NotFoundError as error:
                lost = Job(id=self.ref.job_id, name=self.ref.name, state=State(state_type="", message=error.message))
                return JobRecord(lost, (), tuple(self.history))
            except ApiError as error:
                yield from self._no_contact(error)
                time.sleep(self._next_pause())
                continue
            yield from self._contact()
            return JobRecord(job, tuple(executions), tuple(self.history))

    def _rest_of_log(self, record: JobRecord, stop: StopRequest) -> Iterator[JobEvent]:
        """What of the log is still missing now that the job is over."""
        ran = [execution for execution in record.executions if execution.compute == ExecutionState.COMPLETED]
        tried = ran or [execution for execution in record.executions if execution.node_id]
        if not tried or (not ran and self.cause and self.cause.kind in _NEVER_BEGAN):
            return
        if self.reader:
            yield from self._read(until_silent=0.3 if ran else 0.05)
        if ran and not self._has_all(ran):
            yield from self._from_record(ran[-1])
        if ran and not self.nonce and self._ended_well(ran) and not self._is_whole(ran) and not stop.requested.is_set():
            yield from self._read_again(ran[-1])
        for number, (pause, patience) in enumerate(_LAST_READS if ran else ((0.0, 1.0),)):
            silent = self.reader is not None
            if self._has_all(ran) or number >= (2 if not self.nonce else len(_LAST_READS) if silent else 4):
                return
            if stop.requested.is_set():
                # Whoever stops a job that has just completed gets its result where it is there, and waits for nothing.
                self.hasty, patience = True, min(patience, _HASTE)
                if number:
                    return
            if silent and number == 2:
                yield Noticed("The node is slow to serve the job's log: the result is waited for.")
            time.sleep(pause)
            self._open(follow=False, execution_id=tried[-1].id)
            yield from self._read(until_silent=patience)

    def _from_record(self, execution: Execution) -> Iterator[JobEvent]:
        """A short log, which stands whole in the execution's record: a small result needs no stream."""
        output = execution.run_output
        if output is None or not output.stdout or output.stdout_truncated or output.stderr_truncated:
            return
        if max(len(output.stdout), len(output.stderr)) >= min(_CUT_LOG):
            return
        self._drop_reader(keep_slot=True)
        if self.read_before:
            self.assembler.restart()
        self.read_before = True
        yield from self._shown(self.assembler.feed(STDERR, output.stderr) + self.assembler.feed(STDOUT, output.stdout))

    def _read_again(self, execution: Execution) -> Iterator[JobEvent]:
        """Read the finished log beside what was heard live: a stream may close without its last line, and say nothing.

        A node that serves no more than before, or nothing now, takes nothing back.
        """
        if self.ref.endpoint.is_local or self._keeps_logs() is False:
            return
        heard = self.served
        yield from self._shown(self.assembler.finish())
        self._open(follow=False, execution_id=execution.id)
        yield from self._read(until_silent=_AGAIN)
        self.clean_end, self.cut = self.clean_end or self.served <= heard, False

    def _has_all(self, ran: list[Execution]) -> bool:
        if self.assembler.complete:
            return True
        if self.cut or self._is_whole(ran):
            return True
        if self.nonce and ran:
            return False
        return self._ended_well(ran) or (self.read_before and not ran)

    def _ended_well(self, ran: list[Execution]) -> bool:
        """Whether the stream closed by itself, and the job's record does not show that it was too early."""
        return self.clean_end and not (ran and self._is_short(ran[-1]))

    def _is_short(self, execution: Execution) -> bool:
        """Whether the job's record goes on where what was heard ends; it holds the beginning of each stream."""
        output = execution.run_output
        if output is None or self.nonce or self.kept["stdout"] >= self.max_text:
            return False
        # Where no stderr came at all it may be among stdout: the CLI keeps the two in one.
        heard = ((output.stdout, self._printed), (output.stderr, "".join(self.texts["stderr"]) or output.stderr))
        return any(said != text and said.startswith(text) for said, text in heard)

    @property
    def _printed(self) -> str:
        return "".join(self.texts["stdout"]) + self.assembler.held

    def _is_cut(self) -> bool:
        """Whether the stream that has just ended served what a node before 1.8 keeps of a finished log, and no more."""
        return self.served in _CUT_LOG and not self.assembler.complete and self._keeps_logs() is not True

    def _is_whole(self, ran: list[Execution]) -> bool:
        """Whether the job's record shows that what was read is all of it: a short log stands there whole."""
        output = ran[-1].run_output if ran and not self.nonce else None
        if output is None or output.stdout_truncated or len(output.stdout) >= min(_CUT_LOG):
            return False
        return (self.read_before or self.clean_end) and output.stdout == self._printed and not self._is_short(ran[-1])

    def _keeps_logs(self) -> bool | None:
        """Whether the server tells a version that serves finished logs whole; None where it tells none."""
        try:
            return self.client.version().keeps_logs
        except ApiError:
            return None

    def _read(self, until_silent: float) -> Iterator[JobEvent]:
        """Read the open stream until it ends, brings the result's end, or is silent for so long."""
        frames = -1
        while self.reader and not self.assembler.complete and frames != self.frames:
            frames = self.frames
            yield from self._drain(time.monotonic() + until_silent)
