"""One job's events, from its submission to its end.

The job's history is the only poll, and its state the only truth; what the log brings is the fast path.
Lost contact ends nothing: asking goes on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from . import _marks, _traces
from ._causes import STOP_PREFIX, Cause, causes, main
from ._ledger import Ledger
from ._livelog import LiveLog
from ._stages import BegunAnew, CauseFound, ContactChanged, Ended, JobEvent, JobRecord, JobRef, Noticed, PhaseChanged
from ._stops import StopRequest, deliver_stops, is_settled
from ._wire import TERMINAL, HistoryItem, Job, NodeState, State
from .client import Client
from .errors import ApiError, NotFoundError, UnauthorizedError

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
_NEVER_BEGAN = ("image", "command", "inputs", "refused")
"""Causes of executions that have no log: a node keeps a stream that asks for it open, and all others wait behind that."""


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
    `job` brings limits and names into causes; what state it was in when it was asked for is past. `background`: requests wait for those of waiting cells,
    and at most 16 such jobs hold a log stream. Without `follow_logs` the log is read once, at the end.
    """
    client = client.in_background() if background else client
    poll_interval = max(0.05, poll_interval)
    job = job.model_copy(update={"state": None}) if job else None
    log = LiveLog(client, ref, nonce, max_result, background=background, follow=follow_logs, retry_after=poll_interval)
    return _Watch(client, ref, log, poll_interval, background, follow_logs, ledger, job).events(stop or StopRequest())


class _Watch:
    def __init__(
        self,
        client: Client,
        ref: JobRef,
        log: LiveLog,
        poll_interval: float,
        background: bool,
        follow_logs: bool,
        ledger: Ledger | None,
        job: Job | None,
    ) -> None:
        self.client, self.ref, self.log, self.ledger, self.job = client, ref, log, ledger, job
        self.poll_interval, self.background, self.follow_logs = poll_interval, background, follow_logs
        # The history
        self.history: list[HistoryItem] = []
        self.seen_seq = 0
        self.token = ""
        self.lost = 0
        self.gone = 0
        self.pause = self._first_pause
        self.hurry: list[float] = []
        self.nodes: list[NodeState] | None = None
        self.cause: Cause | None = None
        self.execution = ""
        self.placed_at = 0.0
        self.slow = False
        # The stop
        self.asked: StopRequest | None = None
        self.stop_reason = ""
        self.stop_tries = 0

    # The whole

    def events(self, stop: StopRequest) -> Iterator[JobEvent]:
        self.asked = stop
        stop.on_request(self._asked_to_stop)
        try:
            record = None
            while record is None:
                yield from self._until_terminal(stop)
                record = yield from self._record()
            if stop.requested.is_set():
                stop.delivered.set()
            began = self.cause is None or self.cause.kind not in _NEVER_BEGAN
            yield from self.log.rest(record.executions, stop, began=began)
            if self.ledger and record.state in TERMINAL:
                self.ledger.finished(self.ref.job_id, record.state, record.job.took)
            yield self._ended(record)
        finally:
            self.log.close()

    def _ended(self, record: JobRecord) -> Ended:
        blob, problem = self.log.outcome()
        cut = self.log.lacks(record.executions)
        texts = {stream: "".join(pieces) for stream, pieces in self.log.texts.items()}
        installing = self.log.installing and not self.log.begun
        unproven = self.log.is_unproven(record.executions)
        silent = cut and self.log.is_unserved
        return Ended(record, blob, problem, **texts, cut=cut, unproven=unproven, silent=silent, installing=installing)

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
            self.log.tend(self.placed_at, lost=bool(self.lost))
            hurried = yield from self.log.drain(next_poll)
            if hurried:
                self.hurry = list(_HURRY)
                next_poll = time.monotonic() + (self._local_pause() if self.ref.endpoint.is_local else self.hurry.pop(0))

    def _local_pause(self) -> float:
        """The embedded node ends the stream when it has written down the job's end."""
        return 0.03 if self.log.is_open else 0.0

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
            attentive = self.poll_interval if self.log.begun else _STARTING_PAUSE
        else:
            attentive = min(self.poll_interval, _STARTING_PAUSE)
        unseen = self.background and (self.log.begun or not self.log.is_live)
        return max(self.poll_interval if unseen or not self.follow_logs else attentive, _FIRST_PAUSE)

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
            and not self.log.installing
            and not self.log.begun
            and time.monotonic() - self.placed_at > _SLOW
        ):
            self.slow = True
            if self.ref.endpoint.is_local and self._waits_for_room():
                yield PhaseChanged("waiting", self.log.node)
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
            if not self.log.begun and (event.topic == "Queueing" or event.message.startswith("Job queued")):
                yield PhaseChanged("waiting")
            return
        if node := event.details.get("NodeID"):
            if self.execution and self.execution != item.execution_id:
                yield from self._explain()
                if self._is_in_vain:
                    self.log.keep(self.execution)
                    return
                yield from self._begins_anew(str(node))
            self.execution, self.log.node = item.execution_id, str(node)
            # The log may be faster than the history.
            yield PhaseChanged("running" if self.log.begun else "installing" if self.log.installing else "starting", self.log.node)
        elif event.message == "Running" and event.topic == "Execution" and not self.log.begun:
            self.placed_at = time.monotonic()
            if not self._is_hopeless:
                self.log.open_soon()
            if not self.log.installing:
                yield PhaseChanged(
                    "starting", self.log.node, "" if self.ref.endpoint.is_local else "waiting there, pulling the image or starting"
                )
        elif event.topic == _marks.PULLING and not self.log.begun:
            yield PhaseChanged("pulling", self.log.node, str(event.details.get("Image", "")))
        elif event.topic == "Downloading Inputs" and not self.log.begun:
            yield PhaseChanged("starting", self.log.node, "fetching the inputs")

    def _begins_anew(self, node: str) -> Iterator[JobEvent]:
        if self.log.heard:
            yield BegunAnew(node)
        self.log.begin_anew()
        if self._is_hopeless:
            self.log.open_no_sooner()

    @property
    def _is_in_vain(self) -> bool:
        """Whether the cell ran, and would end the same again: the job is stopped, and what was printed is the first try's."""
        return self.cause is not None and self.cause.repeats and self.cause.kind not in _NEVER_BEGAN

    @property
    def _is_hopeless(self) -> bool:
        """Whether what kept the program from its start keeps every other execution from it too."""
        return self.cause is not None and self.cause.repeats and self.cause.kind in _NEVER_BEGAN

    def _explain(self) -> Iterator[JobEvent]:
        found = main(causes(self.history, (), self.job))
        if found is None:
            self.cause = None  # a node took the job after all
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
        if (found.kind == "refused" or self._is_hopeless) and not self.log.heard:
            self.log.open_no_sooner()
        yield CauseFound(found)
        if found.repeats and not self.stop_reason and self.token:
            yield from self._stop(STOP_PREFIX + found.kind, None)

    # The stop

    def _asked_to_stop(self) -> None:
        """Keep the stop at once, on the asking thread: the watch may be waiting for an endpoint that does not answer."""
        if self.asked and not self.asked.delivered.is_set():
            self._keep_stop(self.asked.reason)
        self.log.wake()

    def _keep_stop(self, reason: str) -> None:
        if self.ledger:
            self.ledger.want_stop(self.ref.job_id, reason)
            if self.asked:
                self.asked.kept.set()

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
            elif not is_settled(error):
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
            self._keep_stop(reason)
            yield Noticed(f"The stop could not be delivered; it is sent at the next contact. ({error.message})")
        self.lost = max(self.lost, 1)

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
