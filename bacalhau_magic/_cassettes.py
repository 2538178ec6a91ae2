"""Cassettes: recorded jobs in a file of YAML that people can review, with long texts and binary parts in a folder beside it.

A cassette is as hostile as a node's answers: its file and parts must be regular files without links, of the size and
checksum that are said; YAML's aliases and unknown facts are refused. What a part holds is decoded as a result is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ._content import Content
from ._locks import locked
from ._recordings import Entry, Part, Recording, entry_of, made, read
from ._stages import JobRef
from .errors import RecordingError
from .remote.redaction import SHORTEST, Redactor

__all__ = ["LARGEST", "Cassette"]

LARGEST = 256_000_000
"""Bytes of the parts of one recording."""
_FILE_LARGEST = 16_000_000
_MOST_ENTRIES = 5000
_PART = re.compile(r"[0-9a-f]{64}\.(bin|txt|tgz)")
_HEAD = "# Recorded jobs of bacalhau_magic, one after the other; long and binary parts lie in {folder}/. Record again: %bacalhau record {file}\n"


class Cassette:
    """Recorded jobs in `file`; its parts lie in the folder of the same name that ends in .parts. Every use reads what is there now."""

    def __init__(self, file: Path, *, private: bool = False) -> None:
        self.file = file
        self.parts = file.with_suffix(".parts")
        self._mode = 0o600 if private else 0o644
        self._entries: tuple[object, list[Entry]] | None = None

    # Reading

    @property
    def entries(self) -> list[Entry]:
        """All recordings, as they stand in the file; none where there is no file. Raises RecordingError."""
        if not os.path.lexists(self.file):
            return []
        with self._opened(self.file, _FILE_LARGEST) as (descriptor, facts):
            seen = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if self._entries is None or self._entries[0] != seen:
                self._entries = seen, self._parsed(_read(descriptor, facts.st_size))
            return self._entries[1]

    def _parsed(self, data: bytes) -> list[Entry]:
        import yaml

        found: list[Entry] = []
        try:
            for fact in yaml.load_all(data.decode("utf-8"), _loader()):
                found.append(entry_of(fact))
                if len(found) > _MOST_ENTRIES:
                    raise ValueError(f"it holds more than {_MOST_ENTRIES} jobs")
        except yaml.MarkedYAMLError as error:
            line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise self._wrong(f"{error.problem or 'it is no YAML'}{line}") from None
        except RecursionError:
            raise self._wrong("it is nested too deeply") from None
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, yaml.YAMLError) as error:
            number = f"job {len(found) + 1}: " if found else ""
            raise self._wrong(f"{number}{str(error)[:200] or type(error).__name__}") from None
        return found

    def takes(self, content: Content) -> list[Entry]:
        """The recordings of exactly this content, in their order."""
        return [entry for entry in self.entries if entry.content == content]

    def recording(self, entry: Entry) -> Recording:
        """A recording whole, its parts checked. Raises RecordingError."""
        if sum(part.size for part in entry.parts) > LARGEST:
            raise self._wrong(f"a job's parts are larger than {LARGEST // 1_000_000} MB")
        try:
            return read(entry, self._part)
        except ValueError as error:
            raise self._wrong(str(error)) from None

    def _part(self, part: Part) -> bytes:
        if self.parts.is_symlink():
            raise self._wrong(f"{self.parts.name} is a link")
        with self._opened(self.parts / part.part, part.size) as (descriptor, facts):
            data = _read(descriptor, facts.st_size)
        if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.part.partition(".")[0]:
            raise self._wrong(f"{self.parts.name}/{part.part} is not what was recorded: its size or checksum is wrong")
        return data

    @contextmanager
    def _opened(self, path: Path, largest: int) -> Iterator[tuple[int, os.stat_result]]:
        """A regular file that is no link, and no larger than that."""
        name = path.name if path == self.file else f"{self.parts.name}/{path.name}"
        try:
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
        except OSError as problem:
            reason = "it is a link" if problem.errno == errno.ELOOP else problem.strerror or str(problem)
            raise self._wrong(f"{name}: {reason}") from None
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise self._wrong(f"{name} is no regular file")
            if facts.st_size > largest:
                raise self._wrong(f"{name} is larger than {largest} bytes")
            yield descriptor, facts
        finally:
            os.close(descriptor)

    def _wrong(self, reason: str) -> RecordingError:
        return RecordingError(
            f"The recording {self.file.name} can't be used: {reason.rstrip('.')}.",
            file=str(self.file),
            hint=f"Remove {self.file.name} and {self.parts.name}, and record again: %bacalhau record {self.file.name}",
        )

    # Writing

    def keep(self, content: Content, recording: Recording, ref: JobRef, *, take: int = 1, secrets: Sequence[str] = ()) -> None:
        """Write a recording into the file; the first take of a content replaces all older ones.

        Raises RecordingError, and writes nothing, where a secret stands in it, where it is too large, or where the
        file can't be written.
        """
        apart: dict[str, bytes] = {}

        def put(data: bytes, kind: str) -> Part:
            part = Part(part=f"{hashlib.sha256(data).hexdigest()}.{kind}", size=len(data))
            apart[part.part] = data
            return part

        fact = made(content, recording, ref, put, take=take)
        if sum(map(len, apart.values())) > LARGEST:
            raise RecordingError(f"Not recorded: it has more than {LARGEST // 1_000_000} MB.", file=str(self.file))
        text = _yaml(fact)
        if _holds(secrets, [text.encode("utf-8", "replace"), *apart.values()]):
            raise RecordingError("Not recorded: a secret's value stands in its code, log or result.", file=str(self.file))
        try:
            with locked(self.file):
                self._write(content, entry_of(fact), text, apart)
        except OSError as problem:
            raise RecordingError(f"Not recorded: {self.file} can't be written ({problem.strerror}).", file=str(self.file)) from None

    def _write(self, content: Content, entry: Entry, text: str, apart: dict[str, bytes]) -> None:
        older = [old for old in self.entries if not (old.content == content and (entry.take == 1 or old.take == entry.take))]
        for name, data in apart.items():
            self.parts.mkdir(mode=0o700 if self._mode == 0o600 else 0o755, exist_ok=True)
            if self.parts.is_symlink():
                raise self._wrong(f"{self.parts.name} is a link")
            self._replace(self.parts / name, data)
        head = _HEAD.format(folder=self.parts.name, file=self.file.name)
        whole = "---\n".join([head, *(_yaml(_plain(old)) for old in older), text])
        self._replace(self.file, whole.encode("utf-8", "replace"))
        self._sweep({part.part for kept in (*older, entry) for part in kept.parts})

    def _sweep(self, kept: set[str]) -> None:
        """Remove the parts that no recording names any more, and nothing else."""
        with suppress(OSError):
            for path in self.parts.iterdir():
                if _PART.fullmatch(path.name) and path.name not in kept:
                    path.unlink()

    def _replace(self, path: Path, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".recording-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(name, self._mode)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the file and its parts."""
        self.file.unlink(missing_ok=True)
        self._sweep(set())
        with suppress(OSError):
            self.parts.rmdir()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        with suppress(OSError):
            return self.file.stat().st_size + sum(path.stat().st_size for path in self.parts.glob("*"))
        return 0


def _plain(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(exclude_defaults=True, exclude_none=True) | {"format": 1}


def _read(descriptor: int, size: int) -> bytes:
    pieces, left = [], size
    while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _holds(secrets: Sequence[str], texts: Sequence[bytes]) -> bool:
    """Whether a secret stands in one of the texts, as it is or encoded, also inside of what is compressed."""
    import zlib

    values = {str(number): secret for number, secret in enumerate(secrets) if len(secret) >= SHORTEST}
    if not values:
        return False
    redactor = Redactor(values)
    for text in texts:
        with suppress(zlib.error):
            text = zlib.decompressobj(47).decompress(text, LARGEST * 4)
        if redactor.held(text):
            return True
    return False


# YAML


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain data; an alias, which could stand for endless data, is refused."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="it has an alias", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            return super().compose_node(parent, index)

    return Loader


@cache
def _dumper() -> Callable[[Any], str]:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as such."""

        def ignore_aliases(self, _data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    Dumper.add_representer(str, text)
    return lambda fact: str(yaml.dump(fact, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def _yaml(fact: Any) -> str:
    return _dumper()(fact)
