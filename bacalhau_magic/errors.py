"""The errors of bacalhau_magic, as one tree.

```
BacalhauMagicError                hint
├── ConfigError                   a setting or route that can't work
├── OptionError                   option: a bad line or option
├── PackingError
│   ├── CellSyntaxError           line
│   ├── UnsendableInputError      name, reason
│   └── PayloadTooLargeError      size, limit, largest
├── ApiError                      method, url, status, code
│   ├── UnreachableError
│   ├── UnauthorizedError         credential_origin
│   ├── NotFoundError
│   ├── RejectedError
│   └── UnexpectedAnswerError
├── RecordingError                file: a recording that can't be used
│   └── NotRecordedError          changes
├── NodeError                     the embedded node can't be started or reached
├── JobError                      job_id
│   ├── RemoteCellError           ename, evalue, traceback_text
│   │   └── RemoteGroupError      exceptions, for except*
│   ├── JobFailedError            exit_code, stderr_tail, causes
│   ├── JobUnplaceableError       reasons
│   ├── JobStoppedError           reason
│   └── JobTimedOutError          phase, limit
└── ResultError                   name
    ├── MissingResultError
    └── CorruptResultError

JobInterruptedError (KeyboardInterrupt)   job_id, stopped
```

Facts are attributes; the message is built from them here and nowhere else. Every error has a `hint`: one
plain sentence that says what to do, or an empty string.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

__all__ = [
    "ApiError",
    "BacalhauMagicError",
    "CellSyntaxError",
    "ConfigError",
    "CorruptResultError",
    "JobError",
    "JobFailedError",
    "JobInterruptedError",
    "JobStoppedError",
    "JobTimedOutError",
    "JobUnplaceableError",
    "MissingResultError",
    "NodeError",
    "NotFoundError",
    "NotRecordedError",
    "OptionError",
    "PackingError",
    "PayloadTooLargeError",
    "RecordingError",
    "RejectedError",
    "RemoteCellError",
    "RemoteGroupError",
    "ResultError",
    "UnauthorizedError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UnsendableInputError",
]


def _size(count: int) -> str:
    """Bytes in words, decimal units: 1536 → "1.5 KB"."""
    amount = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


class BacalhauMagicError(Exception):
    """Anything that bacalhau_magic raises on purpose; `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of our own frames: the message and the hint."""
        lines = [f"{type(self).__name__}: {self.message}"]
        return [*lines, f"  → {self.hint}"] if self.hint else lines


class ConfigError(BacalhauMagicError):
    """A setting is wrong, or nothing that is configured can run the cell."""

    def __init__(self, message: str, *, setting: str = "", origin: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting
        self.origin = origin


class OptionError(BacalhauMagicError):
    """The magic line, or an option given from Python, can't be used; `option` names it."""

    def __init__(self, message: str, *, option: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.option = option


class PackingError(BacalhauMagicError):
    """The cell and its inputs can't be made into a job."""


class CellSyntaxError(PackingError):
    """A Python cell that this Python can't parse, or that has a `%`, `!` or `?` line; `line` counts from 1."""

    def __init__(self, message: str, *, line: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.line = line


class UnsendableInputError(PackingError):
    """An input can't travel; `name` is the input's, `reason` says why."""

    def __init__(self, name: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"The input {name!r} can't be sent: {reason}.", hint=hint)
        self.name = name
        self.reason = reason


def ways_out(untrusted_store: str = "") -> str:
    """What to do about inputs that are too large for a cluster; `untrusted_store` is one that only a project names."""
    first = (
        f"The project's staging store {untrusted_store} is not trusted yet: %bacalhau use --trust"
        if untrusted_store
        else "Set a store that they go by: [tool.bacalhau-magic.staging] url = 's3://BUCKET/PREFIX'"
    )
    return f"{first}; or name the data by an address, -i https://… or -i s3://…; or send a smaller sample; or run the cell with --runtime local."


class PayloadTooLargeError(PackingError):
    """The job's JSON is above the target's limit; sizes are bytes, `largest` maps the biggest inputs to theirs."""

    def __init__(self, size: int, limit: int, largest: Mapping[str, int], *, hint: str = "") -> None:
        parts = ", ".join(f"{name} ({_size(count)})" for name, count in largest.items())
        super().__init__(
            f"The job is too big to send: {_size(size)} of job JSON, and the limit is {_size(limit)}."
            + (f" The biggest inputs: {parts}." if parts else ""),
            hint=hint or ways_out(),
        )
        self.size = size
        self.limit = limit
        self.largest = dict(largest)


class ApiError(BacalhauMagicError):
    """A request to a node failed; `status` is the HTTP status (0: no answer), `code` the server's own word.

    `unsure`: the request may have had its effect, although no usable answer came. `retry_after`: seconds that the
    server asked to wait before the next try, 0 where it said nothing.
    """

    retry_after: float = 0.0

    def __init__(
        self, message: str, *, method: str = "", url: str = "", status: int = 0, code: str = "", hint: str = "", unsure: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.unsure = unsure
        self.method = method
        self.url = url
        self.status = status
        self.code = code


class UnreachableError(ApiError):
    """The endpoint did not answer."""


class UnauthorizedError(ApiError):
    """The endpoint wants a credential, or another one (401, 403); `credential_origin` is the setting of the one that was sent."""

    def __init__(self, message: str, *, credential_origin: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.credential_origin = credential_origin


class NotFoundError(ApiError):
    """The endpoint does not know what was asked for (404)."""


class RejectedError(ApiError):
    """The endpoint understood the request and refused it."""


class UnexpectedAnswerError(ApiError):
    """The endpoint's answer is not what Bacalhau's API promises."""


class RecordingError(BacalhauMagicError):
    """A file of recorded jobs, or one recording in it, can't be used; `file` names it."""

    def __init__(self, message: str, *, file: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.file = file


class NotRecordedError(RecordingError):
    """A cell is replayed that was not recorded so; `changes` says in sentences what differs from the nearest one that was."""

    def __init__(self, message: str, *, file: str = "", changes: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message + "".join(f"\n• {change}" for change in changes), file=file, hint=hint)
        self.changes = tuple(changes)


class NodeError(BacalhauMagicError):
    """The embedded node can't be started, found or used."""


class JobError(BacalhauMagicError):
    """The job was sent and did not end well; `job_id` is its id."""

    def __init__(self, message: str, *, job_id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.job_id = job_id


class RemoteCellError(JobError):
    """The cell raised; `ename`, `evalue` and `traceback_text` are the remote exception's.

    Where `ename` is a plain built-in class, the object is an instance of that class too (see `remote_cell_error`).
    """

    def __init__(self, *, job_id: str, ename: str, evalue: str, traceback_text: str, hint: str = "") -> None:
        super().__init__(f"{ename}: {evalue}" if evalue else ename, job_id=job_id, hint=hint)
        self.ename = ename
        self.evalue = evalue
        self.traceback_text = traceback_text

    def _render_traceback_(self) -> list[str]:
        lines = self.traceback_text.rstrip("\n").split("\n")
        return [*lines, f"  → {self.hint}"] if self.hint else lines


_PARTS = "\n  +-+---------------- 1 ----------------\n"
"""What stands in a group's traceback before its parts; those of groups in it stand deeper."""


class RemoteGroupError(RemoteCellError, ExceptionGroup[RemoteCellError]):
    """The cell raised an exception group; `exceptions` are the errors in it, so that `except*` takes them."""

    def __new__(cls, exceptions: Sequence[RemoteCellError], *, evalue: str, **_facts: Any) -> RemoteGroupError:
        """A group of these errors; its text is without the count that a group adds."""
        return super().__new__(cls, evalue.rpartition(" (")[0] or evalue, exceptions)

    def __init__(self, exceptions: Sequence[RemoteCellError], **facts: Any) -> None:
        super().__init__(**facts)
        # Who prints a group asks it for nothing else, and prints its parts after it: each brings its own lines alone.
        own, parted, _ = self.traceback_text.rpartition(_PARTS)
        told: list[tuple[RemoteCellError, str]] = [(self, own or self.traceback_text)]
        if parted:
            told += [(part, part.traceback_text) for part in exceptions if not isinstance(part, RemoteGroupError)]
        for error, text in told:
            above, _, last = text.rstrip("\n").rpartition("\n")
            if note := above if last.strip("| ") == error.message else text.rstrip("\n"):
                error.add_note(note)

    def alone(self) -> RemoteCellError:
        """The same error without its parts: a shell shows that by its own remote traceback."""
        return RemoteCellError(job_id=self.job_id, ename=self.ename, evalue=self.evalue, traceback_text=self.traceback_text, hint=self.hint)

    @property
    def message(self) -> str:
        """The exception's name and text."""
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        self._message = text


_BUILT_IN = frozenset(name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, BaseException))
_NOT_MIXED = (UnicodeError, BaseExceptionGroup, SyntaxError, StopIteration, StopAsyncIteration)
"""Classes that take more than a text, or that mean something to who passes them on: a shell shows a syntax error in its
own way, a coroutine may not raise StopIteration."""


@cache
def _remote_class(ename: str) -> type[RemoteCellError]:
    """The class to raise for a built-in `ename`: ours, and that one as well where it takes plain arguments."""
    builtin = getattr(builtins, ename, None)
    if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        return RemoteCellError
    if builtin is Exception or issubclass(builtin, _NOT_MIXED):
        return RemoteCellError
    try:
        return type(f"RemoteCellError[{ename}]", (RemoteCellError, builtin), {"__module__": RemoteCellError.__module__})
    except TypeError:
        return RemoteCellError


def remote_cell_error(
    *,
    job_id: str,
    ename: str,
    evalue: str,
    traceback_text: str,
    mro: Sequence[str] = (),
    exceptions: Sequence[Mapping[str, Any]] = (),
    hint: str = "",
) -> RemoteCellError:
    """A `RemoteCellError` that `except <ename>` catches as well, where `ename` is a plain built-in exception.

    Of another class it is the nearest built-in one among its bases, whose names are in `mro`. A group is one of the
    errors of its `exceptions` (mappings with ename, evalue, traceback, mro, exceptions), for `except*`.
    """
    if exceptions and "BaseExceptionGroup" in mro:
        errors = [
            remote_cell_error(
                job_id=job_id,
                ename=facts["ename"] or "Error",
                evalue=facts["evalue"],
                traceback_text=facts["traceback"] or facts["ename"],
                mro=facts["mro"],
                exceptions=facts["exceptions"],
            )
            for facts in exceptions
        ]
        return RemoteGroupError(errors, job_id=job_id, ename=ename, evalue=evalue, traceback_text=traceback_text, hint=hint)
    builtin = next((name for name in (ename, *mro) if name in _BUILT_IN), "Exception")
    return _remote_class(builtin)(job_id=job_id, ename=ename, evalue=evalue, traceback_text=traceback_text, hint=hint)


class JobFailedError(JobError):
    """The job failed; `causes` are the executions' own messages, `stderr_tail` the last lines on stderr.

    `line` is the cell's line (from 1) whose command failed, and `source` its text, where they are known.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str,
        exit_code: int | None = None,
        stderr_tail: str = "",
        causes: Sequence[str] = (),
        line: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, job_id=job_id, hint=hint)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail
        self.causes = tuple(causes)
        self.line = line
        self.source = ""

    def _render_traceback_(self) -> list[str]:
        where = [f"line {self.line}:", f"    {self.source}"] if self.line and self.source else []
        return [*where, *super()._render_traceback_()]

    @property
    def traceback_text(self) -> str:
        """What is shown of it, as one text."""
        return "\n".join(self._render_traceback_()) + "\n"


class JobUnplaceableError(JobError):
    """No node takes the job; `reasons` has a line for each node."""

    def __init__(self, message: str, *, job_id: str, reasons: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, job_id=job_id, hint=hint)
        self.reasons = tuple(reasons)


class JobStoppedError(JobError):
    """The job was stopped; `reason` is what was given."""

    def __init__(self, message: str, *, job_id: str, reason: str = "", hint: str = "") -> None:
        super().__init__(message, job_id=job_id, hint=hint)
        self.reason = reason


class JobTimedOutError(JobError):
    """The job's time was used up; `phase` says by what ("cell", "starting", "queue", "wait"), `limit` is in seconds."""

    def __init__(self, message: str, *, job_id: str, phase: str, limit: float | None = None, hint: str = "") -> None:
        super().__init__(message, job_id=job_id, hint=hint)
        self.phase = phase
        self.limit = limit


class ResultError(BacalhauMagicError):
    """The job ended well, but a result can't be used; `name` is the wanted name, or "" for the cell's value."""

    def __init__(self, message: str, *, job_id: str = "", name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.job_id = job_id
        self.name = name


class MissingResultError(ResultError):
    """A wanted result is not there."""


class CorruptResultError(ResultError):
    """A result came back damaged, or is not what its kind allows."""


class JobInterruptedError(KeyboardInterrupt):
    """The wait for a job was interrupted; `stopped` says whether the job was stopped as well.

    A `KeyboardInterrupt` and no `Exception`, so that `except Exception` in a loop can't swallow an interrupt.
    """

    def __init__(self, *, job_id: str, stopped: bool, hint: str = "") -> None:
        # A job that goes on is come back to by its id; one that was stopped is the last one.
        what = "the job was stopped" if stopped else f"the job goes on ({job_id})"
        super().__init__(f"Interrupted: {what}." if job_id else "Interrupted before anything was sent.")
        self.job_id = job_id
        self.stopped = stopped
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        lines = [f"JobInterruptedError: {self}"]
        return [*lines, f"  → {self.hint}"] if self.hint else lines
