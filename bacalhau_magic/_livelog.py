"""A job's log while it is watched: its stream, what was heard of it, and what is still missing when the job is over.

The stream is the fast path for text and packets. It may be silent, break, stay open for ever, or close without its last line;
no more than one is open for a job.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Literal

from ._bundles import bundle_limit
from ._packets import Assembler, Packet, Text
from ._stages import BegunAnew, JobEvent, JobRef, Noticed, PhaseChanged, Printed
from ._stops import StopRequest
from ._wire import STDERR, STDOUT, Execution, ExecutionState
from .client import Client, Inbox, LogOver, LogText, Reader
from .errors import ApiError

__all__ = ["LiveLog"]

_CUT_LOG = range(2040, 2052)
"""Characters of a finished log that nodes before 1.8 serve: its first 2,048 bytes, and a newline."""
_LAST_READS = ((0.05, 4.0), (0.2, 8.0), (0.5, 16.0), (1.0, 32.0), (1.0, 300.0))
"""Seconds before a finished log is opened once more, and how long it may stay silent: a node serves one log at a time."""
_AGAIN = 2.0
"""Seconds for which a finished log that was heard before may stay silent."""
_HASTE = 1.0
"""The same for somebody who has pressed Stop."""
_UNSAID = 1.0
"""Seconds after which a log is asked for although the server does not say that the job runs."""
_STARTS = 0.3
"""Seconds after the server says that the job runs, in which its program is started, or found to be none."""
_NO_PACKET = 1.0
"""Seconds after which a line's end that was held back is the job's own: a packet comes at once with the one before it."""
_LINE = 16384
"""Bytes of a line that a node sends in one piece."""
_MAX_BACKGROUND_STREAMS = 16
_background_streams = threading.BoundedSemaphore(_MAX_BACKGROUND_STREAMS)


class LiveLog:
    """What a job prints, as events: `drain` while it runs, `rest` when it is over; `close` in any case.

    `nonce` is that of the job's packets, "" for a job without a wrapper; `max_result` its --max-result in bytes. With `background`
    at most 16 such logs hold a stream; without `follow` the log is read once, at the end.
    """

    def __init__(
        self, client: Client, ref: JobRef, nonce: str, max_result: int, *, background: bool, follow: bool, retry_after: float
    ) -> None:
        self._client, self._ref, self._nonce = client, ref, nonce
        self._background, self._follows, self._retry_after = background, follow, retry_after
        self._max_text = max_result
        self._max_blob = bundle_limit(max_result)
        self._inbox = Inbox()
        self.node = ""
        """Where the job is now."""
        self._reader: Reader | None = None
        self._holds_slot = False
        self._open_at = self._earliest()
        self._open_pause = 0.02 if ref.endpoint.is_local else 0.15
        self._opened_at = 0.0
        self._patience = 2.0
        self._read_before = False
        self._clean_end = False
        self._cut = False
        self._hasty = False
        self._only = ""
        """The execution whose log alone is wanted."""
        self._empty()

    def _empty(self) -> None:
        self._assembler = Assembler(self._nonce or "-", self._max_blob)
        self.texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        """What was printed, a stream's pieces in order, up to --max-result."""
        self._kept = {"stdout": 0, "stderr": 0}
        self._messages = 0
        self._heard_at = 0.0
        self.installing = False
        """Whether the job has begun to install its packages."""
        self._served = self._most = 0

    @property
    def begun(self) -> bool:
        """Whether the cell itself has begun."""
        return self._assembler.started is not None

    @property
    def heard(self) -> bool:
        """Whether anything came of the job that runs now."""
        return self._messages > 0 or self.begun

    @property
    def is_open(self) -> bool:
        """Whether a stream is open now."""
        return self._reader is not None

    @property
    def is_live(self) -> bool:
        """Whether the log may come while the job runs, as far as the streams of jobs in the background go round."""
        return not self._background or self._holds_slot

    def wake(self) -> None:
        """End the wait of `drain`, from any thread."""
        try:
            self._inbox.put_nowait(None)
        except queue.Full:
            pass  # whoever empties the queue is awake

    def begin_anew(self) -> None:
        """Another execution has taken the job's place: its log begins at the beginning."""
        self.close()
        self._empty()
        self._open_at = self._earliest()
        self._read_before = self._clean_end = self._cut = False
        self._only = ""

    def keep(self, execution_id: str) -> None:
        """What this execution printed is the job's log, though another follows: no stream is opened that might be the other's."""
        self._only = execution_id

    def _earliest(self) -> float:
        """When to open the log of what may never run: a Bacalhau node holds such a stream open for seconds, and all other logs wait."""
        return 0.0 if self._ref.endpoint.is_local else time.monotonic() + _UNSAID

    def open_no_sooner(self) -> None:
        """The job was refused, or could not be started: there is no log before the server says that another execution runs."""
        self.close()
        self._open_at = math.inf

    def open_soon(self) -> None:
        """There may be a log from now on: the server says that the job runs.

        A Bacalhau node says so before it starts the program, and one that can't be started has no log. Where a log is cut
        at the job's end, or may be, none of that time can be waited for.
        """
        waits = not self._ref.endpoint.is_local and self._keeps_logs()
        self._open_at = time.monotonic() + _STARTS if waits else 0.0

    def outcome(self) -> tuple[bytes | bytearray | None, str]:
        """The result bundle that the packets carried, and why there is none although packets came."""
        return self._assembler.outcome() if self._nonce else (None, "")

    def lacks(self, executions: Sequence[Execution]) -> bool:
        """Whether the log of a job that ran to its end was not read to its end."""
        ran = _completed(executions)
        return bool(ran) and not (self._is_told or self._ended_well(ran) or self._is_whole(ran))

    def is_unproven(self, executions: Sequence[Execution]) -> bool:
        """Whether nothing shows that the log of a job that ran to its end is whole; that its stream closed by itself does not."""
        ran = _completed(executions)
        if not ran or self._is_told:
            return False
        if self._nonce:
            return True
        own = self._ref.endpoint.is_local and self._clean_end
        last = self._printed.rpartition("\n")[2]
        # A line without a newline is a text's last one; a longer one may be a line's first piece.
        return not (own or self._is_whole(ran) or 0 < len(last) < _LINE // 4)

    @property
    def _is_told(self) -> bool:
        """Whether a packet says that the log is whole: the result's last one, or the mark where stdout ends; stderr may follow that."""
        return self._assembler.complete or self._assembler.text_ended

    @property
    def is_unserved(self) -> bool:
        """Whether what it lacks may still come: its node has not served it yet, or nobody waited."""
        return self._hasty or self.is_open

    def tend(self, placed_at: float, lost: bool) -> None:
        """Open the log stream when its time has come; drop one that has been silent for too long."""
        now = time.monotonic()
        if self._reader and not self._messages and placed_at and now - max(self._opened_at, placed_at) > self._patience:
            # It may be one of those that stay silent for ever; a new one serves the whole log.
            self.close()
            self._patience = min(self._patience * 2, 30.0)
            self._open_at = now
        if self._only:
            return
        if self._reader is None and self._follows and not self._assembler.complete and now >= self._open_at and not lost:
            if self._background and not self._holds_slot:
                self._holds_slot = _background_streams.acquire(blocking=False)
                if not self._holds_slot:
                    self._open_at = now + self._retry_after
                    return
            self._open(follow=True)

    def _open(self, *, follow: bool, execution_id: str = "") -> None:
        self.close(keep_slot=True)
        self._most = max(self._most, self._served)
        if self._read_before:
            self._assembler.restart()
        self._opened_at = time.monotonic()
        self._served, self._clean_end = 0, False
        self._reader = Reader(
            self._client, self._ref.job_id, self._inbox, namespace=self._ref.namespace, follow=follow, execution_id=execution_id
        )

    def close(self, *, keep_slot: bool = False) -> None:
        """Drop the stream, and what it holds of those that jobs in the background may have."""
        if self._reader:
            self._reader.close()
            self._reader = None
        if self._holds_slot and not keep_slot:
            self._holds_slot = False
            _background_streams.release()

    def drain(self, until: float) -> Generator[JobEvent, None, bool]:
        """What the log brings until then; True when there is a reason to look at the history at once."""
        while True:
            now = time.monotonic()
            waits_for_reader = self._reader is None and self._follows and self._open_at > now
            ends = min(until, self._open_at) if waits_for_reader else until
            due = self._heard_at + _NO_PACKET if self._assembler.holds_newline else ends
            try:
                first = self._inbox.get(timeout=max(0.0, min(ends, due) - now))
            except queue.Empty:
                if due <= time.monotonic():
                    yield from self._shown(self._assembler.let_go())
                if due < ends:
                    continue
                return False
            shown: list[Text | Packet] = []
            hurried = False
            # Not all that there may be: a flood is not to keep the history from being asked.
            for item in self._inbox.batch(first):
                if isinstance(item, LogText):
                    if self._reader and item.reader == self._reader.number:
                        self._messages += 1
                        self._heard_at = time.monotonic()
                        self._read_before = True
                        self._served += len(item.text) if item.stream == STDOUT else 0
                        shown += self._assembler.feed(item.stream, item.text)
                elif isinstance(item, LogOver):
                    hurried = self._over(item) or hurried
                else:
                    hurried = True
            ended = any(isinstance(event, Packet) and event.kind in ("e", "t") for event in shown)
            yield from self._shown(shown)
            if hurried or ended:
                return True
            if time.monotonic() >= until:
                return False

    def _over(self, item: LogOver) -> bool:
        """The stream is over; whether that is a reason to look at the history."""
        if not self._reader or item.reader != self._reader.number:
            return False
        self.close(keep_slot=True)
        now = time.monotonic()
        self._open_at = now + self._open_pause
        self._open_pause = min(self._open_pause * 1.6, 1.0 if item.how == "refused" else 5.0)
        if item.how == "closed":
            self._cut = self._is_cut()
            # One that brought less than an earlier one has not served the whole log.
            self._clean_end = not self._cut and self._served >= self._most
            self._most = max(self._most, self._served)
            self._open_at = max(self._open_at, now + 0.5)
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
                if self._kept[of] < self._max_text:
                    self.texts[of].append(item.text)
                    self._kept[of] += len(item.text)
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

    def rest(self, executions: Sequence[Execution], stop: StopRequest, *, began: bool) -> Iterator[JobEvent]:
        """What is still missing now that the job is over; nothing of the node where no execution `began`."""
        yield from self._missing(executions, stop, began)
        yield from self._shown(self._assembler.finish())

    def _missing(self, executions: Sequence[Execution], stop: StopRequest, began: bool) -> Iterator[JobEvent]:
        ran = _completed(executions)
        tried = ran or [execution for execution in executions if execution.node_id]
        if not tried or not (ran or began):
            return
        if self._only and ran and ran[-1].id != self._only:
            # The stop came too late, and the other try ended well.
            yield BegunAnew(ran[-1].node_id)
            self.begin_anew()
        if self._reader:
            yield from self._read(until_silent=0.3 if ran else 0.05)
        if ran and not self._has_all(ran):
            yield from self._from_record(ran[-1])
        if ran and not self._nonce and self._ended_well(ran) and not self._is_whole(ran) and not stop.requested.is_set():
            yield from self._read_again(ran[-1])
        for number, (pause, patience) in enumerate(_LAST_READS[:1] if self._is_mute(ran) else _LAST_READS if ran else ((0.0, 1.0),)):
            silent = self._reader is not None
            if self._has_all(ran) or number >= (2 if not self._nonce else len(_LAST_READS) if silent else 4):
                return
            if stop.requested.is_set():
                # Whoever stops a job that has just completed gets its result where it is there, and waits for nothing.
                self._hasty, patience = True, min(patience, _HASTE)
                if number:
                    return
            if silent and number == 2:
                yield Noticed("The node is slow to serve the job's log: the result is waited for.")
            time.sleep(pause)
            self._open(follow=False, execution_id=self._only or tried[-1].id)
            yield from self._read(until_silent=patience)

    def _from_record(self, execution: Execution) -> Iterator[JobEvent]:
        """A short log, which stands whole in the execution's record: a small result needs no stream."""
        output = execution.run_output
        if output is None or not (output.stdout or output.stderr) or output.stdout_truncated or output.stderr_truncated:
            return
        if max(len(output.stdout), len(output.stderr)) >= min(_CUT_LOG):
            return
        self.close(keep_slot=True)
        if self._read_before:
            self._assembler.restart()
        self._read_before = True
        yield from self._shown(self._assembler.feed(STDERR, output.stderr) + self._assembler.feed(STDOUT, output.stdout))

    def _is_mute(self, ran: list[Execution]) -> bool:
        """Whether the job's record shows that its wrapper failed before it said anything: no packet will come, however long one waits."""
        output = ran[-1].run_output if ran and self._nonce and not self.begun else None
        return output is not None and output.exit_code != 0 and not output.stdout

    def _read_again(self, execution: Execution) -> Iterator[JobEvent]:
        """Read the finished log beside what was heard live: a stream may close without its last line, and say nothing.

        A node that serves no more than before, or nothing now, takes nothing back.
        """
        if self._ref.endpoint.is_local or self._keeps_logs() is False:
            return
        heard = self._served
        yield from self._shown(self._assembler.finish())
        self._open(follow=False, execution_id=execution.id)
        yield from self._read(until_silent=_AGAIN)
        self._clean_end, self._cut = self._clean_end or self._served <= heard, False

    def _has_all(self, ran: Sequence[Execution]) -> bool:
        """Whether nothing more is waited for, once the open stream has ended or been silent."""
        if self._assembler.complete:
            return True
        if self._assembler.text_ended and (self._reader or self._clean_end):
            return True
        if self._cut or self._is_whole(ran):
            return True
        if self._nonce and ran:
            return False
        return self._ended_well(ran) or (self._read_before and not ran and not self._only)

    def _ended_well(self, ran: Sequence[Execution]) -> bool:
        """Whether the stream closed by itself, and the job's record does not show that it was too early."""
        return self._clean_end and not (ran and self._is_short(ran[-1]))

    def _is_short(self, execution: Execution) -> bool:
        """Whether the job's record goes on where what was heard ends; it holds the beginning of each stream."""
        output = execution.run_output
        if output is None or self._nonce or self._kept["stdout"] >= self._max_text:
            return False
        # Where no stderr came at all it may be among stdout: the CLI keeps the two in one.
        heard = ((output.stdout, self._printed), (output.stderr, "".join(self.texts["stderr"]) or output.stderr))
        return any(said != text and said.startswith(text) for said, text in heard)

    @property
    def _printed(self) -> str:
        return "".join(self.texts["stdout"]) + self._assembler.held

    def _is_cut(self) -> bool:
        """Whether the stream that has just ended served what a node before 1.8 keeps of a finished log, and no more."""
        return self._served in _CUT_LOG and not self._is_told and self._keeps_logs() is not True

    def _is_whole(self, ran: Sequence[Execution]) -> bool:
        """Whether the job's record shows that what was read is all of it: a short log stands there whole."""
        output = ran[-1].run_output if ran and not self._nonce else None
        if output is None or output.stdout_truncated or len(output.stdout) >= min(_CUT_LOG):
            return False
        return (self._read_before or self._clean_end) and output.stdout == self._printed and not self._is_short(ran[-1])

    def _keeps_logs(self) -> bool | None:
        """Whether the server tells a version that serves finished logs whole; None where it tells none."""
        try:
            return self._client.version().keeps_logs
        except ApiError:
            return None

    def _read(self, until_silent: float) -> Iterator[JobEvent]:
        """Read the open stream until it ends, brings the result's end, or is silent for so long."""
        before = -1
        while self._reader and not self._assembler.complete and before != self._messages:
            before = self._messages
            yield from self.drain(time.monotonic() + until_silent)


def _completed(executions: Sequence[Execution]) -> list[Execution]:
    return [execution for execution in executions if execution.compute == ExecutionState.COMPLETED]
