"""Recording: all that a replay of one job needs, as plain facts; made from its events, and read again with distrust.

It holds no id, no host and no time but the day: what the server said is rewritten, what the cell printed stays.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ._causes import Cause, CauseKind
from ._content import Content
from ._marks import META_NONCE
from ._stages import CauseFound, Ended, JobEvent, JobRecord, JobRef, Noticed, Phase, PhaseChanged, Printed
from ._wire import Execution, ExecutionState, Job, RunOutput, State, Task

__all__ = ["Entry", "Part", "Recording", "entry_of", "made", "read"]

_INLINE = 4000
"""Characters from which on a text lies apart."""


class _Noun(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Noun):
    """What lies apart in a file of its own, by its sha256 and bytes."""

    part: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\.(bin|txt|tgz)$")]
    size: int = Field(ge=0, le=1 << 32)


class _Cell(_Noun):
    language: str
    code: str
    inputs: dict[str, str] = {}
    options: dict[str, str] = {}
    env: dict[str, str] = {}


class _Cause(_Noun):
    kind: Literal[CauseKind]
    sentence: str
    advice: str = ""
    repeats: bool = False
    lines: list[str] = []
    node: str = ""
    reason: str = ""


class _Event(_Noun):
    """One of: a phase, what was printed, a cause, a notice."""

    phase: Phase | None = None
    node: str = ""
    detail: str = ""
    stdout: str | Part | None = None
    stderr: str | Part | None = None
    cause: _Cause | None = None
    notice: str | None = None


class _Execution(_Noun):
    """How one node's try ended, by the state's name."""

    state: Literal["COMPLETED", "FAILED", "CANCELLED", "BID_REJECTED", "OTHER"]
    exit_code: int | None = None


class _End(_Noun):
    """The server's record, as far as the result is read from it, and where the result lies."""

    state: str
    message: str = ""
    wrapped: bool = False
    executor: str = ""
    problem: str = ""
    cut: bool = False
    unproven: bool = False
    installing: bool = False
    executions: list[_Execution] = []
    cause: _Cause | None = None
    stdout: str | Part = ""
    stderr: str | Part = ""
    result: Part | None = None
    files: Part | None = None


class Entry(_Noun):
    """A recording as it stands in its file; `take` counts the runs of the same content."""

    format: Literal[1]
    recorded: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]
    take: int = Field(ge=1, le=1_000_000)
    cell: _Cell
    events: list[_Event]
    end: _End

    @property
    def content(self) -> Content:
        return Content(**self.cell.model_dump())

    @property
    def parts(self) -> list[Part]:
        """What lies apart."""
        texts = [text for event in self.events for text in (event.stdout, event.stderr)]
        return [part for part in (*texts, self.end.stdout, self.end.stderr, self.end.result, self.end.files) if isinstance(part, Part)]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a job did, to be told again: its events until the end, and the files that it left, as an archive."""

    events: tuple[JobEvent, ...]
    ended: Ended
    files: bytes | None = None
    recorded: str = ""
    executor: str = ""


# Made


def made(content: Content, recording: Recording, ref: JobRef, keep: Any, *, take: int = 1) -> dict[str, Any]:
    """A recording as the plain facts of its file; `keep(data, kind)` puts bytes apart and returns their Part."""
    ended = recording.ended
    record, names = ended.record, _Names(ref, ended.record, recording.events)

    def text(value: str) -> Any:
        return value if len(value) <= _INLINE else keep(value.encode("utf-8", "replace"), "txt").model_dump()

    events = [fact for event in _joined(recording.events) if (fact := _event(event, names, text))]
    end: dict[str, Any] = {
        "state": record.state,
        "message": names.plain(record.job.state.message if record.job.state else ""),
        "wrapped": bool(record.job.task.meta.get(META_NONCE)),
        "executor": recording.executor,
        "problem": ended.problem,
        "cut": ended.cut,
        "unproven": ended.unproven,
        "installing": ended.installing,
        "executions": [_execution(execution) for execution in record.executions],
        "cause": names.rewritten(_cause(record.cause)) if record.cause else None,
    }
    if ended.blob is None:
        end |= {"stdout": text(ended.stdout), "stderr": text(ended.stderr)}
    else:
        end["result"] = keep(ended.blob, "bin").model_dump()
    if recording.files is not None:
        end["files"] = keep(recording.files, "tgz").model_dump()
    cell: dict[str, Any] = {"language": content.language, "code": content.code}
    cell |= {"inputs": dict(content.inputs), "options": dict(content.options), "env": dict(content.env)}
    return {
        "format": 1,
        "recorded": recording.recorded,
        "take": take,
        "cell": {name: fact for name, fact in cell.items() if fact},
        "events": events,
        "end": {name: fact for name, fact in end.items() if fact not in ("", False, [], {}, None)},
    }


def _joined(events: Iterable[JobEvent]) -> list[JobEvent]:
    """The events with what was printed in one go as one."""
    found: list[JobEvent] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Printed) and isinstance(last, Printed) and event.stream == last.stream:
            found[-1] = Printed(event.stream, last.text + event.text)
        else:
            found.append(event)
    return found


def _event(event: JobEvent, names: _Names, text: Any) -> dict[str, Any] | None:
    match event:
        case PhaseChanged(phase, node, detail):
            fact = {"phase": phase, "node": names.plain(node), "detail": names.plain(detail)}
            return {name: part for name, part in fact.items() if part}
        case Printed(stream, printed):
            # An installer tells the path of the kernel's Python, which is one of this machine.
            return {stream: text(printed.replace(sys.executable, "python"))}
        case CauseFound(cause):
            return {"cause": names.rewritten(_cause(cause))}
        case Noticed(sentence):
            return {"notice": names.plain(sentence)}
    return None


def _cause(cause: Cause) -> dict[str, Any]:
    fact: dict[str, Any] = {"kind": cause.kind, "sentence": cause.sentence, "advice": cause.advice, "repeats": cause.repeats}
    fact |= {"lines": list(cause.lines), "node": cause.node, "reason": cause.reason}
    return {name: part for name, part in fact.items() if part}


_STATES = ("COMPLETED", "FAILED", "CANCELLED", "BID_REJECTED")


def _execution(execution: Execution) -> dict[str, Any]:
    found: dict[str, Any] = {"state": execution.compute.name if execution.compute.name in _STATES else "OTHER"}
    if execution.run_output is not None and execution.compute == ExecutionState.COMPLETED:
        found["exit_code"] = execution.run_output.exit_code
    return found


_ID = re.compile(r"\b([jnew])-[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\b")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")


class _Names:
    """Other names for what a server calls its own: the same id has the same one, and no id, address or time is left."""

    def __init__(self, ref: JobRef, record: JobRecord, events: Sequence[JobEvent]) -> None:
        self._numbered: dict[str, str] = {}
        nodes = [execution.node_id for execution in record.executions]
        nodes += [str(item.event.details.get("NodeID") or "") for item in record.history]
        nodes += [event.node for event in events if isinstance(event, PhaseChanged)]
        nodes += [record.cause.node] if record.cause else []
        for node in nodes:
            if node:
                self._number("n", node)
        host = urlsplit(ref.endpoint.url).hostname or ""
        self._literal = {name: number for name, number in self._numbered.items() if not _ID.fullmatch(name)}
        if host:
            self._literal[host] = "the-cluster"
        if ref.name:
            self._literal[ref.name] = "cell"

    def _number(self, kind: str, name: str) -> str:
        short = name[:10] if _ID.fullmatch(name) else name
        if short in self._numbered.values():
            return short
        if short not in self._numbered:
            count = sum(number.startswith(f"{kind}-") for number in self._numbered.values())
            self._numbered[short] = f"{kind}-{count + 1:08d}"
        return self._numbered[short]

    def plain(self, text: str) -> str:
        """A text of the server's, rewritten."""
        for name in sorted(self._literal, key=len, reverse=True):
            text = text.replace(name, self._literal[name])
        text = _ID.sub(lambda found: self._number(found[1], found[0]), text)
        return _TIME.sub("a while ago", _ADDRESS.sub("0.0.0.0", text))

    def rewritten(self, fact: Any) -> Any:
        """Facts of the server's, rewritten at every depth."""
        if isinstance(fact, str):
            return self.plain(fact)
        if isinstance(fact, Mapping):
            return {str(name): self.rewritten(part) for name, part in fact.items()}
        return [self.rewritten(part) for part in fact] if isinstance(fact, list | tuple) else fact


# Read


def entry_of(fact: object) -> Entry:
    """What stands in a file as an Entry; raises ValueError with the first thing that is wrong in it."""
    try:
        return Entry.model_validate(fact)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"][:4])
        raise ValueError(f"{where or 'the recording'}: {first['msg'].lower()}") from None


def read(entry: Entry, get: Any) -> Recording:
    """The recording of an entry; `get(part)` brings the bytes of what lies apart, checked."""

    def text(value: str | Part) -> str:
        return value if isinstance(value, str) else str(get(value).decode("utf-8", "replace"))

    end = entry.end
    meta = {META_NONCE: "recorded"} if end.wrapped else {}
    job = Job(tasks=[Task(meta=meta)], state=State(state_type=end.state, message=end.message))
    executions = tuple(_executed(execution) for execution in end.executions)
    ended = Ended(
        JobRecord(job, executions, cause=_caused(end.cause) if end.cause else None),
        get(end.result) if end.result else None,
        end.problem,
        text(end.stdout),
        text(end.stderr),
        installing=end.installing,
        cut=end.cut,
        unproven=end.unproven,
    )
    events = tuple(event for fact in entry.events for event in _events(fact, text))
    return Recording(events, ended, get(end.files) if end.files else None, entry.recorded, end.executor)


def _events(fact: _Event, text: Any) -> Iterable[JobEvent]:
    if fact.phase is not None:
        yield PhaseChanged(fact.phase, fact.node, fact.detail)
    if fact.stdout is not None:
        yield Printed("stdout", text(fact.stdout))
    if fact.stderr is not None:
        yield Printed("stderr", text(fact.stderr))
    if fact.cause is not None:
        yield CauseFound(_caused(fact.cause))
    if fact.notice is not None:
        yield Noticed(fact.notice)


def _caused(fact: _Cause) -> Cause:
    return Cause(fact.kind, fact.sentence, fact.advice, fact.repeats, tuple(fact.lines), fact.node, fact.reason)


def _executed(fact: _Execution) -> Execution:
    state = ExecutionState[fact.state] if fact.state in _STATES else ExecutionState.UNDEFINED
    output = RunOutput(exit_code=fact.exit_code) if fact.exit_code is not None else None
    return Execution(compute_state=State(state_type=int(state)), run_output=output)
