"""Secrets by name: where their values come from, and how they are kept out of everything that is shown or kept.

A value comes from this process's environment, else from the keyring, service `bacalhau-magic`. It goes to the embedded
node in a header over its unix socket, stays in memory on both sides, and stands in no spec; `remote.redaction` takes
it out of what the job writes, there at the source and here once more.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from ._bundles import Bundle
from ._stages import CellRequest, JobEvent, Printed, Submitted
from .errors import BacalhauMagicError, OptionError
from .remote.redaction import SHORTEST, Redactor, Stream

__all__ = ["KEYRING", "Secrets", "Veil", "found", "header", "kept_out", "looks_secret", "required"]

KEYRING = "bacalhau-magic"
"""The service under which a keyring keeps secrets for cells."""

_LONGEST = 48_000
"""Bytes of all secrets of a job together: they travel in one header."""

_NAMES = re.compile(
    r"(^|_)(key|auth|private)s?(_|$)|(^|_)(pass|pwd|creds?)$|(api|access|secret|ssh)key|authori[sz]ation|token$|token_|passw(or)?d"
    r"|passphrase|secret|credential",
    re.IGNORECASE,
)

_T = TypeVar("_T")


class Secrets(Mapping[str, str]):
    """Values by name; a repr has the names alone."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self)})"


class _Hidden(str):
    """A text that no repr shows, as of a header among a function's arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'••••'"


def looks_secret(names: Collection[str]) -> str:
    """The first name that a secret would have, such as API_KEY or HF_TOKEN; "" where there is none."""
    return next((name for name in names if _NAMES.search(name)), "")


def found(names: Collection[str], environment: Mapping[str, str] | None = None) -> Secrets:
    """The values that are known here; a name without one is left out."""
    environment = os.environ if environment is None else environment
    return Secrets({name: value for name in names if (value := environment.get(name) or _kept(name))})


def required(names: Collection[str], values: Mapping[str, str]) -> None:
    """Raise OptionError for a name whose value is not known here, and for a value that can't be sent or kept secret."""
    if lacking := [name for name in names if name not in values]:
        raise OptionError(
            f"--secret {lacking[0]}: there is no such variable in this kernel's environment, and no such entry in the keyring.",
            option="secret",
            hint=f"Set {lacking[0]} before the kernel starts, or here: import os, getpass; os.environ['{lacking[0]}'] = getpass.getpass()"
            f" - or keep it once, in a terminal: pip install keyring; keyring set {KEYRING} {lacking[0]}.",
        )
    for name, value in values.items():
        if len(value) < SHORTEST:
            raise OptionError(
                f"--secret {name}: its value has fewer than {SHORTEST} characters, and can't be told from other text in the log.",
                option="secret",
                hint="Use --env where it is no secret.",
            )
        if "\0" in value:
            raise OptionError(f"--secret {name}: its value holds a null character.", option="secret")
    if sum(len(value.encode("utf-8", "surrogateescape")) for value in values.values()) > _LONGEST:
        raise OptionError(f"--secret: the values are larger than {_LONGEST:,} bytes together.", option="secret", hint="Send a file: -i.")


def kept_out(request: CellRequest) -> None:
    """Raise OptionError where the value of a secret would go by the spec after all: in the cell, an input, a variable, an argument."""
    redactor = Redactor(dict(request.secrets))
    places = [
        ("The cell's own text", request.code.encode("utf-8", "surrogateescape")),
        *((f"--env {name}", value.encode("utf-8", "surrogateescape")) for name, value in request.env.items()),
        *((f"The argument {number}", word.encode("utf-8", "surrogateescape")) for number, word in enumerate(request.options.args, 1)),
        *((f"The input {item.name}", item.data) for item in request.inputs if item.kind == "value"),
    ]
    for place, data in places:
        if name := redactor.held(data):
            raise OptionError(
                f"{place} holds the value of {name}, which --secret keeps out of the job's spec.",
                option="secret",
                hint=f"Read it in the cell from the variable {name}, and leave it out there.",
            )


def _kept(name: str) -> str:
    """What the user's keyring has under a name; "" where there is none, or no keyring."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return ""
    try:
        return keyring.get_password(KEYRING, name) or ""
    except (KeyringError, OSError, RuntimeError):
        return ""


def header(values: Mapping[str, str]) -> str:
    """Secrets as the embedded node takes them: a JSON object in base64; its repr shows nothing."""
    return _Hidden(base64.b64encode(json.dumps(dict(values)).encode()).decode())


class Veil:
    """Takes known secrets out of whatever comes back for a job: events, records, errors, texts."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._redactor = Redactor(values) if values else None
        self._streams = {stream: Stream(self._redactor) for stream in ("stdout", "stderr")} if self._redactor else {}

    def text(self, text: str) -> str:
        """A text without the secrets."""
        return text if self._redactor is None else str(self._redactor.text(text))

    def over(self, emit: Callable[[JobEvent], None]) -> Callable[[JobEvent], None]:
        """`emit` behind this veil: it is told every event without the secrets."""
        if self._redactor is None:
            return emit

        def veiled(event: JobEvent) -> None:
            if isinstance(event, Printed):
                if text := self._streams[event.stream].feed(event.text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass"):
                    emit(Printed(event.stream, text))
                return
            # What was sent and where is ours, and none of the job's.
            emit(event if isinstance(event, Submitted) else self.facts(event))

        return veiled

    def rest(self, emit: Callable[[JobEvent], None]) -> None:
        """Tell what was held back, because it could have been the beginning of a secret."""
        for name, stream in self._streams.items():
            if text := stream.feed(b"", last=True).decode("utf-8", "surrogatepass"):
                emit(Printed("stderr" if name == "stderr" else "stdout", text))

    def pieces(self, pieces: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """A whole log's (stream, text) pieces without the secrets, also without one that lies in two pieces; once for a veil."""
        told: list[JobEvent] = []
        emit = self.over(told.append)
        for stream, text in pieces:
            emit(Printed("stderr" if stream == "stderr" else "stdout", text))
            yield from _printed(told)
        self.rest(told.append)
        yield from _printed(told)

    def facts(self, value: _T) -> _T:
        """A value of plain facts - texts, collections, stage values, wire models - without the secrets."""
        return value if self._redactor is None else self._clean(value)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._clean(item) for key, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._clean(item) for item in value))
        if isinstance(value, list | tuple | frozenset | set):
            return type(value)(self._clean(item) for item in value)
        if isinstance(value, BaseModel):
            return value.model_copy(update={name: self._clean(getattr(value, name)) for name in type(value).model_fields})
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {field.name: self._clean(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
            return dataclasses.replace(value, **parts)
        return value

    def bundle(self, bundle: Bundle) -> Bundle:
        """The result without the secrets in its texts; its values are the wrapper's to keep them out of."""
        if self._redactor is None:
            return bundle
        for name in ("error", "unsendable"):
            setattr(bundle, name, self._clean(getattr(bundle, name)))
        for name, data in bundle.parts.items():
            bundle.parts[name] = self._redactor.data(bytes(data)) if name in ("stdout", "stderr") else self._redactor.shown(name, data)
        return bundle

    def error(self, problem: BaseException) -> None:
        """Take the secrets out of an error of ours: its message, its hint and its other facts."""
        if self._redactor is None or not isinstance(problem, BacalhauMagicError):
            return
        problem.args = self._clean(problem.args)
        for name, fact in list(vars(problem).items()):
            setattr(problem, name, self._clean(fact))
        for beneath in (problem.__cause__, problem.__context__):
            if beneath is not None:
                self.error(beneath)


def _printed(told: list[JobEvent]) -> Iterator[tuple[str, str]]:
    """What was told as text, taken out of the list."""
    yield from [(event.stream, event.text) for event in told if isinstance(event, Printed)]
    told.clear()
