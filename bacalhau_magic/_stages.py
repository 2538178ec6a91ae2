"""The values that pass along the one data path; every one is frozen and complete.

cell → CellRequest → Route → PackedJob → JobRef → JobEvent, JobEvent, … → JobResult, and Snapshot, the fold of the
events that the views draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ._causes import Cause
from ._languages import Language
from ._wire import Execution, HistoryItem, Job, NodeState
from .options import JobOptions


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer key, or a user and a password; never shown. `origin` says which setting it came from."""

    key: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    origin: str = ""

    def __bool__(self) -> bool:
        return bool(self.key or self.username)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's API is: an http(s) URL, and a unix socket's path where that is the door."""

    url: str
    socket: str = ""
    credential: Credential = Credential()
    ca_file: str = ""
    verify: bool = True
    origin: str = ""

    @property
    def is_local(self) -> bool:
        """Whether this is the embedded node's own door."""
        return bool(self.socket)

    @property
    def label(self) -> str:
        """How the place is called in sentences and in the ledger."""
        return "local" if self.is_local else self.url


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of a place before anything is sent to it.

    `payload_limit` is bytes of job JSON (None: up to the disk). `limits` maps `_marks.LIMITS` to their words, and
    `languages` a language to "" (its interpreter is here) or to what is missing; both are empty for a cluster, where
    an image brings everything. `nodes` is what the server reported, empty when it could not be read.
    """

    name: Literal["local", "bacalhau"]
    endpoint: Endpoint
    version: str = ""
    payload_limit: int | None = None
    staging: Path | None = None
    executor: str = ""
    executor_why: str = ""
    container: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[NodeState, ...] = ()

    @property
    def is_local(self) -> bool:
        return self.name == "local"

    @property
    def publishers(self) -> frozenset[str]:
        """The publishers that at least one node offers, in lower case."""
        return frozenset(p.lower() for node in self.nodes for p in node.info.compute_node_info.publishers)


@dataclass(frozen=True, slots=True)
class Availability:
    """What was found by probing, before a route is chosen: a place, or why there is none."""

    local: Target | None = None
    local_problem: str = ""
    remote: Target | None = None
    remote_endpoint: Endpoint | None = None
    """The configured endpoint, whether it answers or not."""
    remote_problem: str = ""
    untrusted_url: str = ""
    """The only endpoint is a project's that was not yet trusted: its URL."""
    enabled: bool = True
    """False: BACALHAU_ENABLED=false."""
    prefer: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The chosen target, why in one sentence, and what the card should say besides.

    `options` are the options in effect there: what was configured or built in is cut to what the target keeps.
    """

    target: Target
    why: str
    notices: tuple[str, ...] = ()
    options: JobOptions = field(default_factory=JobOptions)


@dataclass(frozen=True, slots=True)
class InputItem:
    """One input of a cell.

    `name` is the variable's or the file's name, `kind` says what lies where: "value" (encoded bytes in `data`, with
    its codec type in `type_name`), "file" (a file or folder at `source`, read when it is packed), or "url" (the nodes fetch it). `path` is
    relative to the inputs folder, `target` an absolute path in the job in its stead.
    """

    name: str
    kind: Literal["value", "file", "url"]
    path: str
    size: int
    data: bytes = field(default=b"", repr=False)
    type_name: str = ""
    source: Path | None = None
    target: str = ""
    url: str = ""
    text: str | None = field(default=None, repr=False)
    """The value as a text, for Bash's $NAME: texts and numbers only."""


@dataclass(frozen=True, slots=True)
class CellRequest:
    """A cell and all that it needs, taken from the notebook: from here on the namespace is not read again."""

    code: str = field(repr=False)
    options: JobOptions
    language: Language
    inputs: tuple[InputItem, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    notebook: str = ""
    cell: str = ""
    interpreter: str = ""
    """The kernel's own Python, for the embedded node's host executor."""
    filename: str = "cell"
    """What the traceback calls the cell."""
    files: Path | None = None
    """Where the files of outputs/ go, checked already: an absolute path."""
    shows_value: bool = True
    """False: the cell ends with a semicolon, so its value isn't shown."""
    notices: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Option name → where its value came from; a name that is missing was given on the line or is built in."""


@dataclass(frozen=True, slots=True)
class PackedJob:
    """A job that is ready to be sent: the wire Job, its JSON, and the nonce of its packets."""

    job: Job = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str
    nonce: str
    route: Route
    body_hash: str = ""
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.job.name


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job that a server has: where, and by which id."""

    job_id: str
    endpoint: Endpoint
    namespace: str = "default"
    name: str = ""
    request_id: str = ""

    @property
    def short_id(self) -> str:
        """The id as people read it: "j-" and eight digits."""
        return self.job_id[:10]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the server says of a job at its end: the job, its executions, its history."""

    job: Job
    executions: tuple[Execution, ...] = ()
    history: tuple[HistoryItem, ...] = ()

    @property
    def state(self) -> str:
        return self.job.phase_word


Phase = Literal["packing", "sent", "waiting", "pulling", "starting", "installing", "running", "fetching", "completed", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Packed:
    size: int


@dataclass(frozen=True, slots=True)
class Submitted:
    ref: JobRef
    route: Route


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The job is in another phase; `node` is the node's id where one is known, `detail` a sentence's rest."""

    phase: Phase
    node: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Printed:
    """Text that the job printed, as it came; `stream` is "stdout" or "stderr"."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class CauseFound:
    cause: Cause


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that the user should know, in one sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class ContactChanged:
    """The endpoint stopped answering (`lost`, with the problem), or answers again."""

    lost: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is terminal; `packets` is what its wrapper sent: a packet kind's payloads by sequence (see remote.packets)."""

    record: JobRecord = field(repr=False)
    blob: bytes | None = field(default=None, repr=False)
    """The result bundle that the packets carried, whole and checked; None when there was none."""
    problem: str = ""
    """Why `blob` is None although packets came: damaged or incomplete."""
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The flow is over: the outcome as the snapshot's last sentence."""

    phase: Phase
    sentence: str
    advice: str = ""


JobEvent = Packed | Submitted | PhaseChanged | Printed | CauseFound | Noticed | ContactChanged | Ended | Finished


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job brought back.

    `outcome` is "completed" or the kind of failure; `error` the error to raise, None when it ended well. `value` is
    the cell's value where `has_value`; `outputs` the wanted names; `unsendable` names → why. `mime` is the last
    expression's own display, `displays` rich displays with their offset in stdout's bytes.
    """

    ref: JobRef
    record: JobRecord = field(repr=False)
    outcome: str = "completed"
    value: Any = None
    has_value: bool = False
    mime: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    unsendable: Mapping[str, str] = field(default_factory=dict)
    stdout: str = field(default="", repr=False)
    stdout_bytes: bytes = field(default=b"", repr=False)
    stderr: str = field(default="", repr=False)
    displays: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    files: Path | None = None
    notices: tuple[str, ...] = ()
    error: BaseException | None = None
    verified: bool = True
    """False: the result came without packets, from the log alone."""


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
    log: tuple[tuple[str, str], ...] = ()
    """(stream, text) pieces, oldest first, at most _LOG_KEPT characters."""
    log_dropped: int = 0
    """Characters of the log that are no longer in `log`."""
    sentence: str = ""
    """At the end: why it failed or was stopped; or what a completed job left ("bound: scores (list)")."""
    advice: str = ""
    running_since: float | None = None

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
                    job_id=ref.job_id,
                    name=ref.name,
                    route=f"{route.target.endpoint.label}: {route.why}",
                    notices=(*here.notices, *(sentence for sentence in route.notices if sentence not in here.notices)),
                )
            case PhaseChanged(phase, node, detail):
                since = here.running_since if here.running_since is not None or phase != "running" else now
                return replace(
                    here,
                    phase=phase,
                    node=node or here.node,
                    detail=detail,
                    running_since=since,
                    cause=None if phase == "running" else here.cause,
                )
            case Printed(stream, text):
                return here._printed(stream, text)
            case CauseFound(cause):
                return replace(here, cause=cause)
            case Noticed(sentence):
                return here if sentence in here.notices else replace(here, notices=(*here.notices, sentence))
            case ContactChanged(lost, problem):
                return replace(here, contact=problem if lost else "")
            case Ended():
                return replace(here, phase="fetching", contact="")
            case Finished(phase, sentence, advice):
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
        return replace(self, log=tuple(log), log_dropped=dropped)

    @property
    def is_over(self) -> bool:
        return self.phase in ("completed", "failed", "stopped")

    @property
    def elapsed(self) -> float:
        """Seconds since the cell was started."""
        return max(0.0, self.now - self.started)

    @property
    def tone(self) -> Literal["run", "warn", "bad", "ok", "quiet"]:
        """How the state feels: "warn" while something stands in the way, "quiet" for a job that was stopped."""
        if self.is_over:
            return "ok" if self.phase == "completed" else "bad" if self.phase == "failed" else "quiet"
        return "warn" if self.contact or self.cause else "run"

    @property
    def title(self) -> str:
        """The state in a few words, as the card's first text: "Running", "Out of memory"."""
        if self.phase == "failed" and self.cause:
            return _FAILURES.get(self.cause.kind, _TITLES["failed"])
        return _TITLES[self.phase]

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
        """What stands behind the time: resources and the phase's detail."""
        return " · ".join(part for part in (self.resources, self.detail) if part and not self.is_over)

    @property
    def facts(self) -> str:
        """Node, time and the rest on one line: "on n-2e2b7e09 · 12 s of 5 min", at the end "in 1.8 s on n-2e2b7e09"."""
        if self.phase == "completed":
            left = "" if self.sentence == "Completed." else self.sentence.rstrip(".")
            return " · ".join(part for part in (f"in {self.time} {self.place}".rstrip(), left) if part)
        if self.is_over:
            return f"{self.place} after {self.time}".lstrip()
        return " · ".join(part for part in (self.place, self.time, self.rest) if part)

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

    def as_json(self, *, log_kept: int = 20_000) -> dict[str, Any]:
        """The snapshot for a browser: plain JSON, sentences finished; the log's last `log_kept` characters.

        `place`, `clock` and `rest` make the line of facts; `clock` is {since, limit, words}, so that a browser can count
        on between two snapshots. At the end it is null, and `facts` is the line.
        """
        since, limit, words = self.clock
        log, missing = _tail(self.log, log_kept)
        return {
            "version": 1,
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
            "log": [list(piece) for piece in log],
            "logDropped": self.log_dropped + missing,
            "over": self.is_over,
        }


def _tail(log: tuple[tuple[str, str], ...], kept: int) -> tuple[list[tuple[str, str]], int]:
    """The log's last `kept` characters, and how many came before them."""
    tail: list[tuple[str, str]] = []
    for stream, text in reversed(log):
        if kept <= 0:
            break
        tail.append((stream, text[-kept:]))
        kept -= len(text)
    return tail[::-1], sum(len(text) for _, text in log) - sum(len(text) for _, text in tail)


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
    "image": "No image",
    "memory": "Out of memory",
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


def seconds(count: float) -> str:
    """A span of time for people: 0.42 → "0.4 s", 75 → "1 min 15 s", 7200 → "2 h"."""
    if count < 9.95:
        return f"{count:.1f} s"
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
