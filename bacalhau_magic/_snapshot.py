"""Snapshot: the fold of a job's events into finished sentences; pure. The views only place them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from . import _bars
from ._bars import Bar
from ._causes import Cause
from ._placement import size
from ._stages import (
    BegunAnew,
    CauseFound,
    ContactChanged,
    Ended,
    Finished,
    JobEvent,
    Noticed,
    Packed,
    Phase,
    PhaseChanged,
    Printed,
    Route,
    Submitted,
    Transferred,
    seconds,
)

Tone = Literal["run", "warn", "bad", "ok", "quiet"]

_LOG_KEPT = 200_000
"""Characters of the log that a snapshot holds for the views; the job's own log is whole."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the views draw: finished sentences, made by folding the events. `started` and `now` are unix seconds."""

    started: float
    now: float
    phase: Phase = "packing"
    name: str = ""
    language: str = ""
    job_id: str = ""
    node: str = ""
    route: str = ""
    limit: float | None = None
    """Seconds that the cell may run."""
    queue_limit: float | None = None
    """Seconds that the job may wait for a node."""
    resources: str = ""
    """What was asked for, as in "2 CPU · 4 GB"."""
    detail: str = ""
    cause: Cause | None = None
    contact: str = ""
    notices: tuple[str, ...] = ()
    tries: int = 1
    """How many executions it has had."""
    instead: str = ""
    """The notice that it does not run where it was to run."""
    log: tuple[tuple[str, str], ...] = ()
    """(stream, text) pieces, oldest first, at most _LOG_KEPT characters."""
    log_dropped: int = 0
    """Characters of the log that are no longer in `log`."""
    sentence: str = ""
    """At the end: why it failed or was stopped; or what a completed job left ("bound: scores (list)")."""
    advice: str = ""
    timed_out: bool = False
    """At the end: whether its time was over, kept by itself or by its server."""
    running_since: float | None = None
    bar: Bar | None = None
    """How far the job says it is."""
    unfinished: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Stream → its line that is not ended, for a bar that comes in pieces."""

    def at(self, now: float) -> Snapshot:
        """This snapshot at a later unix time; what is over keeps the time of its end."""
        return self if self.is_over else replace(self, now=now)

    def after(self, event: JobEvent, now: float) -> Snapshot:
        """This snapshot with one event more, at unix time `now`; once the flow is over, nothing changes it."""
        if self.is_over:
            return self
        here = replace(self, now=now)
        match event:
            case Packed():
                return replace(here, phase="packing")
            case Submitted(ref, route):
                return replace(
                    here,
                    phase="sent",
                    bar=None,
                    detail="",
                    job_id=ref.job_id,
                    name=here.name or ref.name,
                    route=_route(route),
                    instead=route.instead,
                    notices=(*here.notices, *(sentence for sentence in route.notices if sentence not in here.notices)),
                )
            case PhaseChanged(phase, node, detail):
                since = here.running_since if here.running_since is not None or phase != "running" else now
                return replace(
                    here,
                    phase=phase,
                    node=node or ("" if phase == "waiting" else here.node),  # one that waits is on no node, or on that one
                    detail=detail,
                    running_since=since,
                    cause=None if here._is_past(phase, node) else here.cause,
                )
            case BegunAnew(node):
                notices = (*here._lasting_notices, f"{_ANEW}{node[:10]}.")
                return replace(here, tries=here.tries + 1, running_since=None, bar=None, notices=notices)
            case Printed(stream, text):
                return here._printed(stream, text)
            case CauseFound(cause):
                return replace(here, cause=cause)
            case Noticed(sentence):
                return here if sentence in here.notices else replace(here, notices=(*here.notices, sentence))
            case ContactChanged(lost, problem):
                return replace(here, contact=problem if lost else "")
            case Transferred(done, total):
                bar = Bar(done, total, "bytes") if total else None
                return replace(here, bar=bar, detail="" if bar else size(done))
            case Ended():
                return replace(here, phase="fetching", contact="")
            case Finished(phase, sentence, advice, timed_out):
                here = replace(here, timed_out=timed_out, notices=here._lasting_notices)
                return replace(here, phase=phase, sentence=sentence, advice=advice, contact="", detail="")

    def _printed(self, stream: str, text: str) -> Snapshot:
        log = list(self.log)
        if log and log[-1][0] == stream and len(log[-1][1]) < _PIECE:
            log[-1] = (stream, log[-1][1] + text)
        elif text:
            log.append((stream, text))
        dropped, over = self.log_dropped, sum(len(piece) for _, piece in log) - _LOG_KEPT
        while over > 0:
            first, piece = log[0]
            cut = min(over, len(piece))
            log[:1] = [(first, piece[cut:])] if cut < len(piece) else []
            dropped, over = dropped + cut, over - cut
        bar, rest = _bars.read(self.unfinished.get(stream, ""), text)
        return replace(self, log=tuple(log), log_dropped=dropped, bar=bar or self.bar, unfinished={**self.unfinished, stream: rest})

    @property
    def _lasting_notices(self) -> tuple[str, ...]:
        """The notices without the one of a try that is over."""
        return tuple(notice for notice in self.notices if self.tries == 1 or not notice.startswith(_ANEW))

    def _is_past(self, phase: Phase, node: str) -> bool:
        """Whether a node has taken the job that it waited for, or runs it again: what was in the way is no reason any more."""
        if phase == "running":
            # What would end the same again stops the job; that it ran may be heard after it.
            return self.cause is not None and not self.cause.repeats
        if self.cause is None or not node or phase not in ("pulling", "starting", "installing"):
            return False
        # The node that refused it says "starting" for a moment, before the refusal and with it.
        return self.cause.kind in ("unplaceable", "busy") or (self.cause.kind == "refused" and node != self.cause.node)

    @property
    def is_over(self) -> bool:
        return self.phase in ("completed", "failed", "stopped")

    @property
    def elapsed(self) -> float:
        """Seconds since the cell was started."""
        return max(0.0, self.now - self.started)

    @property
    def tone(self) -> Tone:
        """How the state feels: "warn" while something stands in the way, "quiet" for a job that was stopped."""
        if self.is_over:
            return "ok" if self.phase == "completed" else "bad" if self.phase == "failed" else "quiet"
        return "warn" if self.contact or self.cause else "run"

    @property
    def title(self) -> str:
        """The state in a few words, as the card's first text: "Running", "Out of memory"."""
        if self.failure:
            return self.failure
        if self.phase == "waiting" and self.node:
            return "Waiting for room"
        return _TITLES[self.phase]

    @property
    def failure(self) -> str:
        """The title of a failure that has one of its own: "Timed out"; else ""."""
        if self.phase != "failed":
            return ""
        return _FAILURES.get(self.cause.kind if self.cause else "timeout" if self.timed_out else "", "")

    @property
    def place(self) -> str:
        """Where it runs: "on n-2e2b7e09", or "" while no node is known."""
        return f"on {self.node[:10]}" if self.node else ""

    @property
    def clock(self) -> tuple[float, float | None, str]:
        """What the shown time counts: since when (unix seconds), of how many seconds, and the words behind it."""
        if self.running_since is not None:
            return self.running_since, self.limit, ""
        if self.phase in ("sent", "waiting"):
            return self.started, self.queue_limit, "in the queue" if self.queue_limit else ""
        return self.started, None, ""

    @property
    def time(self) -> str:
        """The clock at `now`: "12 s of 5 min"; at the end the whole time."""
        if self.is_over:
            return seconds(self.elapsed)
        since, limit, words = self.clock
        shown = seconds(max(0.0, self.now - since))
        return f"{shown} of {seconds(limit)} {words}".rstrip() if limit else shown

    @property
    def rest(self) -> str:
        """What stands behind the time: resources, the phase's detail, how far it is."""
        return " · ".join(part for part in (self.resources, self.progress) if part and not self.is_over)

    @property
    def progress(self) -> str:
        """The phase's detail and how far it is: "40 %"; "" at the end."""
        bar = self.bar.words if self.bar else ""
        return " · ".join(part for part in (self.detail, bar) if part and not self.is_over)

    @property
    def facts(self) -> str:
        """Node, time and the rest on one line: "on n-2e2b7e09 · 12 s of 5 min", at the end "in 1.8 s on n-2e2b7e09"."""
        if self.phase == "completed":
            return " · ".join(part for part in (f"in {self.time} {self.place}".rstrip(), self._tried, self.brought) if part)
        if self.is_over:
            return " · ".join(part for part in (f"{self.place} after {self.time}".lstrip(), self._tried) if part)
        return " · ".join(part for part in (self.place, self.time, self.rest) if part)

    @property
    def _tried(self) -> str:
        return "" if self.tries == 1 else "tried twice" if self.tries == 2 else f"tried {self.tries} times"

    @property
    def brought(self) -> str:
        """What a completed job brought back, "bound: scores (list of 3)"; "" where that is nothing."""
        return "" if self.phase != "completed" or self.sentence == "Completed." else self.sentence.rstrip(".")

    @property
    def line(self) -> str:
        """The state as one line: "running on n-2e2b7e09 · 12 s of 5 min"."""
        link = (" " if self.place or self.is_over else " · ") if self.facts else ""
        return f"{self.title[:1].lower()}{self.title[1:]}{link}{self.facts}"

    @property
    def problem(self) -> str:
        """What is wrong, in one finished sentence, or ""."""
        if self.is_over:
            return (
                self.sentence or (self.cause.sentence if self.cause and self.phase == "failed" else "") if self.phase != "completed" else ""
            )
        return self.contact or (self.cause.sentence if self.cause else "")

    @property
    def problem_lines(self) -> tuple[str, ...]:
        """The problem's details, one a line; a lost contact is said above a cause."""
        if self.cause is None or self.phase in ("completed", "stopped"):
            return ()
        return (self.cause.sentence, *self.cause.lines) if self.contact else self.cause.lines

    @property
    def hint(self) -> str:
        """What to do about the problem."""
        if self.is_over:
            return self.advice or (self.cause.advice if self.cause and self.phase == "failed" else "")
        return self.cause.advice if self.cause else ""

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """What one may want to know besides, as (label, text): job, name, where it runs and why, resources."""
        facts = (("Job", self.job_id), ("Name", self.name), ("Where", self.route), ("Node", self.node), ("Asked for", self.resources))
        return tuple((label, text) for label, text in facts if text)

    @property
    def report(self) -> str:
        """A failure as a text for somebody else: what went wrong, the details, the log's end; "" without a failure."""
        if self.phase != "failed":
            return ""
        tail = "".join(text for _, text in _tail(self.log, _REPORTED)[0])
        said = [f"{self.title} {self.facts}", self.problem, *(f"- {line}" for line in self.problem_lines), self.hint, *self.notices]
        facts = [f"{label}: {text}" for label, text in self.details]
        return "\n".join([*(line for line in said if line), "", *facts, *(["", "The log's end:", tail] if tail else [])])

    def as_json(self, *, log_kept: int = 20_000) -> dict[str, Any]:
        """The snapshot for a browser: plain JSON, sentences finished; the log's last `log_kept` characters.

        `place`, `clock` and `rest` make the line of facts; `clock` is {since, limit, words}, so that a browser can count
        on between two snapshots. At the end it is null, and `facts` is the line.
        """
        since, limit, words = self.clock
        log, missing = _tail(self.log, log_kept)
        return {
            "version": 1,
            "kind": "job",
            "name": self.name,
            "phase": self.phase,
            "tone": self.tone,
            "title": self.title,
            "step": _STEPS[self.phase],
            "now": self.now,
            "facts": self.facts if self.is_over else "",
            "place": self.place,
            "clock": None if self.is_over else {"since": since, "limit": limit, "words": words},
            "rest": self.rest,
            "problem": self.problem,
            "lines": list(self.problem_lines),
            "hint": self.hint,
            "notices": list(self.notices),
            "bar": None if self.bar is None or self.is_over else {"fraction": self.bar.fraction, "words": self.bar.words},
            "route": self.route,
            "details": [list(fact) for fact in self.details],
            "report": self.report,
            "log": [list(piece) for piece in log],
            "logDropped": self.log_dropped + missing,
            "over": self.is_over,
        }


def _route(route: Route) -> str:
    endpoint = route.target.endpoint
    if endpoint.recording:
        return f"Nowhere: {route.why}."
    return f"{'On this machine' if endpoint.is_local else f'At {endpoint.url}'}: {route.why}."


def _tail(log: tuple[tuple[str, str], ...], kept: int) -> tuple[list[tuple[str, str]], int]:
    """The log's last `kept` characters, and how many came before them."""
    tail: list[tuple[str, str]] = []
    for stream, text in reversed(log):
        if kept <= 0:
            break
        tail.append((stream, text[-kept:]))
        kept -= len(text)
    return tail[::-1], sum(len(text) for _, text in log) - sum(len(text) for _, text in tail)


_ANEW = "The job begins anew on "
_REPORTED = 4000
"""Characters of the log in a report."""
_PIECE = 4096
"""Pieces of one stream are joined up to this many characters."""

_TITLES: Mapping[str, str] = {
    "packing": "Packing",
    "sent": "Sent",
    "waiting": "Waiting for a node",
    "pulling": "Pulling the image",
    "starting": "Starting",
    "installing": "Installing packages",
    "running": "Running",
    "fetching": "Fetching the result",
    "completed": "Completed",
    "failed": "Failed",
    "stopped": "Stopped",
}

_FAILURES: Mapping[str, str] = {
    "unplaceable": "No node takes it",
    "busy": "No node was free",
    "refused": "Refused",
    "image": "No image",
    "memory": "Out of memory",
    "disk": "Out of disk",
    "command": "Command not found",
    "inputs": "Inputs unusable",
    "execution-timeout": "Timed out",
    "timeout": "Timed out",
    "node-lost": "Node lost",
}
"""A failure's title by its cause's kind."""

_STEPS: Mapping[str, int] = {
    "packing": 1,
    "sent": 2,
    "waiting": 2,
    "pulling": 3,
    "starting": 4,
    "installing": 4,
    "running": 5,
    "fetching": 6,
    "completed": 6,
    "failed": 0,
    "stopped": 0,
}
"""The step that a phase is, of the card's six."""
