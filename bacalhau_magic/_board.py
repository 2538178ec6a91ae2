"""The kernel's side of JupyterLab's jobs panel: what happens to this session's jobs goes out, wishes come in.

One thread, woken by the jobs' own events and at most every quarter of a second; nothing is asked of a node that the panel
did not wish for, but the state of jobs that an earlier kernel sent.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from . import _commands, _jobs
from ._bars import Bar
from ._cellnames import read
from ._job import RemoteJob
from ._ledger import Row
from ._session import Session
from ._snapshot import Snapshot
from ._stages import Finished, JobEvent, Printed
from ._wire import NodeState
from .errors import BacalhauMagicError
from .progress import _comm

_log = logging.getLogger(__name__)

_PAUSE = 0.25
"""Seconds between two messages, so that a flood of events costs the page nothing."""
_KEPT = 200
"""Jobs of this session that the panel is told of."""
_PAST_KEPT = 50
"""And of earlier ones; the state of those that may still run is asked, one request each."""


@dataclass
class _Entry:
    """A job of this session as the panel knows it."""

    key: str
    job: RemoteJob
    prompt: int | None
    news: bool = True
    bar: Bar | None = None
    """How far it was, as last heard."""
    followed: bool = False
    told: int = 0
    """Characters of the log that the panel has."""

    def message(self) -> dict[str, Any]:
        request = self.job.request
        return _comm.job(
            self.key,
            shown(self.job),
            notebook=request.notebook,
            cell=request.cell,
            prompt=self.prompt,
            name=self.job.name,
            background=request.options.bg,
            outputs=request.options.outputs,
        )


def shown(job: RemoteJob) -> Snapshot:
    """A job's snapshot; where the flow ended without a last sentence (it was never sent), what kept it from being sent."""
    snapshot = job.snapshot
    if not job.done() or snapshot.is_over:
        return snapshot.at(time.time())
    problem = job.error
    sentence = problem.message if isinstance(problem, BacalhauMagicError) else str(problem or "It was not sent.")
    return snapshot.after(Finished("failed", sentence, getattr(problem, "hint", "") or ""), time.time())


@dataclass
class Board:
    """Tells the front ends of one session's jobs, and does what they ask; `close` ends it."""

    session: Session
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _past: dict[str, Row] = field(default_factory=dict)
    _wishes: list[Mapping[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False

    def open(self) -> Board:
        """Begin to listen, and tell who listens already what there is."""
        for job in self.session.started:
            self._add(job)
        self.session.on_begin.append(self._add)
        self._comm = _comm.JobsComm(self._heard)
        self._heard({"kind": "hello"})
        threading.Thread(target=self._run, name="bacalhau-board", daemon=True).start()
        return self

    def close(self) -> None:
        """Say no more; jobs go on."""
        self._closed = True
        with suppress(ValueError):
            self.session.on_begin.remove(self._add)
        self._comm.close()
        self._woken.set()

    # What comes in, on any thread

    def _add(self, job: RemoteJob) -> None:
        found = re.search(r"In\[(\d+)\]", job.request.filename)
        entry = _Entry(f"{id(job):x}-{time.time_ns():x}", job, int(found[1]) if found else None)

        def news(event: JobEvent | None) -> None:
            bar = job.snapshot.bar
            if not isinstance(event, Printed) or bar != entry.bar:
                entry.news, entry.bar = True, bar
            elif not entry.followed:
                return
            self._woken.set()

        with self._lock:
            self._entries[entry.key] = entry
            while len(self._entries) > _KEPT:
                self._entries.pop(next(iter(self._entries)))
        job.listen(news)
        self._woken.set()

    def _heard(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            if len(self._wishes) < 1000:
                self._wishes.append(message)
        self._woken.set()

    # The board's own thread

    def _run(self) -> None:
        while not self._closed:
            self._woken.wait()
            self._woken.clear()
            with _harmless("a turn"):
                self._turn()
            time.sleep(_PAUSE)

    def _turn(self) -> None:
        with self._lock:
            wishes, self._wishes = self._wishes, []
            entries = list(self._entries.values())
        for wish in wishes:
            with _harmless(f"a wish for {wish.get('kind')!r}"):
                self._grant(wish)
        changed = [entry for entry in entries if entry.news]
        if changed:
            self._tell(changed, whole=False)
        for entry in entries:
            if entry.followed:
                self._tell_log(entry)

    def _tell(self, entries: list[_Entry], *, whole: bool) -> None:
        for entry in entries:
            entry.news = False
        self._comm.send(_comm.jobs([entry.message() for entry in entries], now=time.time(), whole=whole))

    def _tell_log(self, entry: _Entry) -> None:
        snapshot, over = entry.job.snapshot, entry.job.done()
        start = max(entry.told, snapshot.log_dropped)
        skip, pieces = start - snapshot.log_dropped, []
        for stream, text in snapshot.log:
            if skip < len(text):
                pieces.append((stream, text[skip:]))
            skip = max(0, skip - len(text))
        if pieces or over:
            self._comm.send(_comm.log(entry.key, start, pieces, over=over))
        entry.told = snapshot.log_dropped + sum(len(text) for _, text in snapshot.log)
        entry.followed = not over

    # Wishes

    def _grant(self, wish: Mapping[str, Any]) -> None:
        key = str(wish.get("key", ""))
        match wish["kind"]:
            case "hello":
                self._tell(list(self._entries.values()), whole=True)
                _apart(self._tell_past)
            case "stop":
                self._stop(key)
            case "log":
                self._log(key, follow=bool(wish.get("follow", True)))
            case "ask":
                _apart(lambda: self._answer(str(wish.get("request", "")), str(wish.get("what", "")), str(wish.get("about", ""))))

    def _stop(self, key: str) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            entry.job.stop_pressed("stopped from the jobs panel")
        elif key in self._past:
            _apart(lambda: self._stop_past(key))

    def _stop_past(self, key: str) -> None:
        _commands.stop(self.session, [key])
        self._tell_past()

    def _log(self, key: str, *, follow: bool) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            entry.followed, entry.told = follow, 0
        elif follow and key in self._past:
            row = self._past[key]
            _apart(
                lambda: self._comm.send(
                    _comm.log(key, 0, _jobs.log(self.session, row.ref(_jobs.endpoint_of(self.session, row))), over=True)
                )
            )

    def _tell_past(self) -> None:
        """The jobs that earlier kernels of this machine sent, as the ledger knows them; their state is asked once."""
        known = {entry.job.snapshot.job_id for entry in self._entries.values()}
        self._past = {row.job_id: row for row in self.session.ledger.rows(limit=_PAST_KEPT) if row.job_id and row.job_id not in known}
        entries = [_past(row, *_jobs.standing(self.session, row)) for row in self._past.values()]
        self._comm.send(_comm.jobs(entries, now=time.time(), whole=False))

    def _answer(self, request: str, what: str, about: str) -> None:
        try:
            value = self._value(what, about)
        except BacalhauMagicError as problem:
            self._comm.send(_comm.answer(request, problem=" ".join(part for part in (problem.message, problem.hint) if part)))
        except Exception as problem:  # noqa: BLE001 - whatever it is, who asked must hear of it
            _log.debug("The jobs panel: the question %r failed.", what, exc_info=True)
            self._comm.send(_comm.answer(request, problem=f"{type(problem).__name__}: {problem}"))
        else:
            self._comm.send(_comm.answer(request, value))

    def _value(self, what: str, about: str) -> Any:
        match what:
            case "spec":
                entry = self._entries.get(about)
                return str(_commands.spec(self.session, [entry.job.ref.job_id if entry else about]))
            case "nodes":
                rows, states = _commands.nodes(self.session, []), _commands.compute_nodes(self.session)
                return [_node(row, states) for row in rows]
            case "names":
                names, space = read(about), self.session.surroundings.namespace
                return sorted(name for name in names.reads if name in space)
        raise BacalhauMagicError(f"The kernel does not know the question {what!r}.")


def _node(row: Mapping[str, Any], states: Sequence[NodeState]) -> dict[str, str]:
    """A node's row in words, and the constraint that only it fulfils, "" where it has no label of its own."""
    names = [state.info.labels.get("name", "") for state in states if state.info.node_id.startswith(str(row["node"]))]
    words = {name: "" if cell is None else str(cell) for name, cell in row.items()}
    return {**words, "constraint": f"name={names[0]}" if len(names) == 1 and names[0] else ""}


def _past(row: Row, state: str, took: float) -> dict[str, Any]:
    phase = state if state in ("completed", "failed", "stopped") else "sent"
    return _comm.past_job(
        row.job_id,
        phase,
        words=state,
        name=row.name,
        language=row.language,
        notebook=row.notebook,
        cell=row.cell,
        started=row.created,
        took=took,
    )


@contextmanager
def _harmless(what: str) -> Iterator[None]:
    """What goes wrong on the panel's account must not cost a job; who looks for it finds it in the log."""
    try:
        yield
    except Exception:  # noqa: BLE001
        _log.debug("The jobs panel: %s failed.", what, exc_info=True)


def _apart(work: Callable[[], object]) -> None:
    """Do something that may wait for a node, on a thread of its own."""

    def run() -> None:
        with _harmless("a question to a node"):
            work()

    threading.Thread(target=run, name="bacalhau-board-ask", daemon=True).start()
