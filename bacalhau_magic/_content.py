"""What a cell is by what would be sent: the key that its recorded result is found by, and what has changed since."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ._languages import BUILT_IN
from ._secrets import looks_secret
from ._settingkeys import shown
from ._stages import CellRequest, InputItem
from .options import JobOptions, spelling
from .packing import files_below

__all__ = ["Content", "changes", "content_of", "nearest", "secrets_of"]

_ALWAYS = ("image", "pip", "outputs", "as_", "args", "secret", "allow_pickle")
"""Options that make the outcome, wherever they come from."""
_ASKED = ("cpu", "memory", "disk", "gpu", "gpu_vendor", "timeout", "long", "network", "domain", "max_result")
"""Options that can change the outcome; configured ones differ from machine to machine, and don't count."""
_SECRET = re.compile("KEY|TOKEN|PASS|SECRET|CREDENTIAL|AUTH|PRIVATE", re.IGNORECASE)
"""Names whose values stay out of recordings, also as a hash, beside those that `_secrets.looks_secret` knows, whose warning must not cry wolf:
here a name too many costs nothing."""
_LEFT_OUT = "left out"
_PLAIN_SECRET = 8
"""Characters from which on a value from a file, whose name does not sound like a secret's, is looked for as one."""
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Content:
    """All that decides a cell's outcome, as texts: inputs by name and hash, options by spelling; no secret, name or label.

    A variable whose name sounds like a secret's, or that comes from a file, has no value here.
    """

    language: str
    code: str = field(repr=False)
    inputs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """The sha256 of all of it, in hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8", "replace")).hexdigest()


def content_of(request: CellRequest) -> Content:
    """The content of a cell; files are read for it. Raises UnsendableInputError."""
    inputs = {step.name: f"definition, {_hash(step.source.encode())}" for step in request.steps}
    inputs |= {item.name: _input(item) for item in request.inputs}
    env = {name: _LEFT_OUT if _is_secret(name, request) else _hash(value.encode()) for name, value in request.env.items()}
    env |= dict.fromkeys(request.options.secret, _LEFT_OUT)
    return Content(request.language.name, request.code.strip("\n") + "\n", inputs, _options(request), env)


def secrets_of(request: CellRequest) -> tuple[str, ...]:
    """The values that no recording may hold: of the variables that a content leaves out, and of secrets.

    What comes from a file under a plain name counts from eight characters on: it may be `DEBUG=true`, which stands everywhere.
    """
    left_out = {name: value for name, value in request.env.items() if _is_secret(name, request)}
    told = (value for name, value in left_out.items() if _sounds_secret(name) or len(value) >= _PLAIN_SECRET)
    return (*told, *request.secrets.values())


def _is_secret(name: str, request: CellRequest) -> bool:
    return name not in request.options.env or _sounds_secret(name)


def _sounds_secret(name: str) -> bool:
    return bool(_SECRET.search(name) or looks_secret((name,)))


def _options(request: CellRequest) -> dict[str, str]:
    options, default, language = request.options, JobOptions(), request.language
    found = {}
    for name in (*_ALWAYS, *(name for name in _ASKED if name in options.asked)):
        value = getattr(options, name)
        if value != getattr(default, name) or name in _ASKED:
            found[spelling(name)] = " ".join(value) if name in ("args", "pip") else shown(name, value)
    if options.files:
        found["--files"] = "yes"
    if BUILT_IN.get(language.name) is None:
        found["language"] = " ".join((language.image, *language.command))
    return found


def _input(item: InputItem) -> str:
    place = f" at {item.target}" if item.target else ""
    if item.url:
        return f"address, {_hash(item.url.encode())}{place}"
    if item.source is None:
        return f"{item.type_name or 'value'}, {len(item.data)} bytes, {_hash(item.data)}{place}"
    digest, size = hashlib.sha256(), 0
    for inner, file in files_below(item.name, item.source):
        held, length = _file_hash(file)
        size += length
        digest.update(f"{inner}\0{held}\n".encode())
    return f"{'folder' if item.source.is_dir() else 'file'}, {size} bytes, sha256 {digest.hexdigest()[:32]}{place}"


def _file_hash(file: Path | None) -> tuple[str, int]:
    """The sha256 of a file and its size in bytes, read in pieces; a folder's own are those of nothing."""
    if file is None:
        return hashlib.sha256().hexdigest(), 0
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), content.tell()


def _hash(data: bytes) -> str:
    return f"sha256 {hashlib.sha256(data).hexdigest()[:32]}"


# What differs


def nearest(content: Content, others: Sequence[Content]) -> Content | None:
    """The one that is most like a content; None where none is much like it."""

    def likeness(other: Content) -> tuple[float, int]:
        same = sum(getattr(other, part) == getattr(content, part) for part in ("language", "inputs", "options", "env"))
        if other.code == content.code:
            return 1.0, same
        return difflib.SequenceMatcher(None, other.code[:5000], content.code[:5000], autojunk=False).quick_ratio(), same

    best = max(others, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= 0.6 else None


def changes(old: Content, new: Content) -> list[str]:
    """What is different in `new`, in sentences."""
    found = [f"It is {new.language} now, and was {old.language}."] if old.language != new.language else []
    found += _code_changes(old.code, new.code)
    for name in {**old.inputs, **new.inputs}:
        before, now = old.inputs.get(name), new.inputs.get(name)
        if before is None or now is None:
            found.append(f"The input {name} is {'new' if before is None else 'not sent any more'}.")
        elif before != now:
            found.append(_other_input(name, _without_hash(before), _without_hash(now)))
    for name in {**old.options, **new.options}:
        before, now = old.options.get(name), new.options.get(name)
        if before != now:
            found.append(f"{name}: {now or 'not asked for'} now, {before or 'not asked for'} when it was recorded.")
    found += [f"The variable {name} is another." for name in {**old.env, **new.env} if old.env.get(name) != new.env.get(name)]
    return found


def _other_input(name: str, before: str, now: str) -> str:
    if before == now:
        return f"The input {name} has another value: of the same kind and size ({now}), but not what was recorded."
    return f"The input {name} is another: {now}; recorded with {before}."


def _without_hash(text: str) -> str:
    return text.partition(", sha256 ")[0]


def _code_changes(old: str, new: str) -> list[str]:
    if old == new:
        return []
    before, now = old.split("\n"), new.split("\n")
    at = next((index for index, (one, other) in enumerate(zip(before, now, strict=False)) if one != other), min(len(before), len(now)))
    was, is_ = (lines[at].strip()[:_SHOWN] if at < len(lines) else "" for lines in (before, now))
    return [f"Its line {at + 1} is now {is_ or 'gone'!r}, and was {was or 'not there'!r}."]
