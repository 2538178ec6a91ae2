"""An archive on its way: the bytes that came, and what its server said of the whole, so that a later try goes on.

A try goes on only where the server says that the content is the same: by the validator that came with the first
bytes, and by the length of the whole. Otherwise it begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .._locks import locked
from .._wire import whole_number

PREFIX = ".bacalhau-part-"
_KEPT = 7 * 86400.0
"""Seconds after which what is left of a download is removed."""
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_MOST = 1000
"""Characters of a validator."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What a server said of an archive: its validator ("" for none: then no try goes on) and its bytes, where told."""

    validator: str = ""
    total: int | None = None


class Part:
    """The bytes of one archive in a folder of its own, as they come; what an earlier try left there is gone on with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self._facts = folder / "facts"
        self._file: IO[bytes] | None = None
        self.can_go_on = False
        """Whether the connection was lost, and another try can go on."""
        self.whole = self._read()
        self.size = self.archive.stat().st_size if self.whole.validator and self.archive.is_file() else 0
        self._coming: Coming | None = None

    def _read(self) -> Whole:
        try:
            found = json.loads(self._facts.read_text(encoding="utf-8"))
            return Whole(str(found["validator"])[:_MOST], int(found["total"]))
        except (OSError, ValueError, TypeError, KeyError):
            return Whole()

    def __enter__(self) -> Part:
        self._file = os.fdopen(self._descriptor(os.O_CREAT | os.O_RDWR), "r+b")
        self._file.truncate(self.size)
        self._file.seek(self.size)
        if self._coming:
            self._coming.begin(os.fdopen(self._descriptor(os.O_RDONLY), "rb", buffering=0))
        return self

    def _descriptor(self, flags: int) -> int:
        return os.open(self.archive, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o600)

    def __exit__(self, *_: object) -> None:
        assert self._file is not None, "entered"
        self._file.close()

    @contextmanager
    def coming(self) -> Iterator[Coming]:
        """The bytes, for a thread that reads them while they come; they end where this is left."""
        self._coming = Coming()
        try:
            yield self._coming
        finally:
            self._coming.end()

    def headers(self) -> dict[str, str]:
        """What a request says so that only the rest comes, where the rest is all that is wanted."""
        if not (self.size and self.whole.validator):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.whole.validator}

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether an answer's body is what comes next: the whole (200), from the beginning, or the rest (206) of the same content.

        False for the rest of something else: what is here is dropped, and the whole is to be asked for.
        """
        assert self._file is not None, "entered"
        if status == 206:
            place = _RANGE.fullmatch(headers.get("content-range", "").strip())
            said = _validator(headers)
            same = place is not None and int(place[1]) == self.size and int(place[3]) == self.whole.total
            if same and said in ("", self.whole.validator):
                return True
            self.drop()
            return False
        self.drop()
        self.whole = Whole(_validator(headers), whole_number(headers.get("content-length", "")))
        if self.whole.total is None:
            self.whole = Whole()
        elif self.whole.validator:
            facts = json.dumps({"validator": self.whole.validator, "total": self.whole.total})
            self._facts.write_text(facts, encoding="utf-8")
        return True

    def write(self, piece: bytes) -> None:
        assert self._file is not None, "entered"
        self._file.write(piece)
        self.size += len(piece)
        if self._coming:
            self._coming.more.set()

    def drop(self) -> None:
        """Forget what came: it is damaged, or of something else."""
        assert self._file is not None, "entered"
        if self._coming and self.size:
            self._coming.drop()
        self._facts.unlink(missing_ok=True)
        self._file.seek(0)
        self._file.truncate()
        self.size, self.whole = 0, Whole()


class DroppedError(Exception):
    """A part began anew while it was read."""


class Coming:
    """A part's bytes as they come: a read waits until there are more, or there will be none."""

    def __init__(self) -> None:
        self.more = threading.Event()
        self._file: IO[bytes] | None = None
        self._ended = False
        self.is_dropped = False
        """Whether the part began anew: what was read is not what it holds."""

    def begin(self, file: IO[bytes]) -> None:
        self._file = file
        self.more.set()

    def end(self) -> None:
        self._ended = True
        self.more.set()

    def drop(self) -> None:
        self.is_dropped = True
        self.more.set()

    def read(self, size: int) -> bytes:
        while True:
            self.more.clear()
            ended, data = self._ended, self._file.read(size) if self._file else b""
            if self.is_dropped:
                raise DroppedError
            if data or ended:
                return data
            self.more.wait()

    def close(self) -> None:
        if self._file:
            self._file.close()


def _validator(headers: Mapping[str, str]) -> str:
    """A strong ETag, else the date of the last change."""
    tag = headers.get("etag", "")
    found = tag if tag.startswith('"') else headers.get("last-modified", "")
    return found if found.isascii() and found.isprintable() and len(found) <= _MOST else ""


@contextmanager
def part_of(beside: Path, name: str) -> Iterator[Part]:
    """The part of a download in a folder; `name` tells what is downloaded. It stays only where a later try can go on with it.

    What others than this user put there, and what another process works on, is left alone. Raises OSError.
    """
    prune(beside)
    folder = beside / (PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16])
    with ExitStack() as stack:
        if not (_is_free(folder, stack) and _is_ours(folder)):
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=beside))
        part = Part(folder)
        stays = True  # also at an interrupt, that is no Exception
        try:
            yield part
        except Exception:
            stays = part.can_go_on
            raise
        else:
            stays = False
        finally:
            if not stays:
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        facts = folder.lstat()
        return stat.S_ISDIR(facts.st_mode) and (not hasattr(os, "getuid") or facts.st_uid == os.getuid())
    return True


def _is_free(folder: Path, stack: ExitStack) -> bool:
    """Whether nobody else works on the folder; until the end none will."""
    try:
        stack.enter_context(locked(folder, patience=0))
    except TimeoutError:
        return False
    return True


def prune(beside: Path) -> None:
    """Remove what is left of downloads that nobody went on with for a week."""
    for folder in beside.glob(PREFIX + "*"):
        with suppress(FileNotFoundError):  # another download has just ended
            facts = folder.lstat()
            if stat.S_ISDIR(facts.st_mode) and time.time() - facts.st_mtime > _KEPT:
                shutil.rmtree(folder, ignore_errors=True)
