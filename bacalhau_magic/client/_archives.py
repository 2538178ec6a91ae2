"""What a job's archive holds, each entry checked before it is given; read once, in pieces, from its beginning to its end.

The archive is hostile: only regular files and folders below `outputs/` count, and paths that lead outside, duplicates
and bombs refuse the whole. Neither a header nor all of them together take much memory.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Literal, Protocol, cast

from .. import _marks
from ..errors import ResultError
from ._problems import clean

__all__ = ["DAMAGE", "MAX_BYTES", "MAX_FILES", "Archive", "Entry", "Readable", "entries", "is_file", "opened"]

MAX_FILES = 100_000
MAX_BYTES = 20_000_000_000
_MAX_HEADERS = 1 << 20
"""Bytes of all the headers of one entry: what Go's reader, which a node is made with, takes too."""
_ALL_HEADERS = MAX_FILES * 2048
_MAX_NAME = 4096
_MAX_NAMES = 32 << 20
"""Characters of all names."""
_MAX_DEPTH = 64
_PIECE = 1 << 16
"""Bytes that are read and unpacked at once: what is looked at and written next is still near the processor."""
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, RecursionError, zlib.error)
"""What reading a damaged archive raises; RecursionError for headers of headers of headers."""


class Readable(Protocol):
    """Bytes in their order; none where they end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What an archive holds at a path below outputs/; a "link" is a link, a device or a pipe, which is left out."""

    path: PurePosixPath
    kind: Literal["file", "folder", "link"]
    is_program: bool = False


def entries(
    archive: Readable, *, max_bytes: int = MAX_BYTES, folder: str = _marks.RESULT_PATH_NAME
) -> Generator[tuple[Entry, Iterator[memoryview]]]:
    """What an archive holds below `folder`, and the bytes of each file, to be read, if at all, before the next.

    Raises ResultError for one that can't be trusted, maybe at its end only: who writes it has gone through all of it before.
    """
    kinds: dict[PurePosixPath, bool] = {}
    total = headers = named = 0
    with _damage(), opened(archive, max_bytes) as tar:
        for count, member in enumerate(tar, 1):
            total, headers, named = total + member.size, headers + member.offset_data - member.offset, named + len(member.name)
            if count > MAX_FILES or total > max_bytes or headers > _ALL_HEADERS or named > _MAX_NAMES:
                raise ResultError(f"The job's files are too many or too large (at most {MAX_FILES} files, {max_bytes // 1_000_000} MB).")
            path = _below(member.name, folder)
            if path is None:
                continue
            if not (is_file(member) or member.isdir()):
                yield Entry(path, "link"), iter(())
                continue
            if path in kinds and not (kinds[path] and member.isdir()):
                raise ResultError(f"The job's archive holds {clean(str(path), 200)!r} twice.")
            if path.parts and member.isdir():
                yield Entry(path, "folder"), iter(())
            elif path.parts:
                yield Entry(path, "file", bool(member.mode & 0o100)), _undamaged(tar.pieces(member))
            kinds[path] = member.isdir()


def is_file(member: tarfile.TarInfo) -> bool:
    """A file whose bytes stand in the archive; those of a sparse one, which no publisher writes, would have to be put together."""
    return member.isreg() and member.sparse is None


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise ResultError(f"The job's archive of files is damaged: {clean(str(error), 200)}.") from error


def _undamaged(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    with _damage():
        yield from pieces


def _below(name: str, folder: str) -> PurePosixPath | None:
    """An entry's path below the folder, None for one beside it. Raises ResultError for one that can't be a path here."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = name.startswith("/") or ".." in parts or "\0" in name or len(name) > _MAX_NAME or len(parts) > _MAX_DEPTH
    windows = any(set(part) & set('\\:*?"<>|') or part.endswith((" ", ".")) for part in parts) if os.name == "nt" else False
    if strange or windows:
        raise ResultError(f"The job's archive holds a path that can't be used: {clean(name, 200)!r}.")
    return PurePosixPath(*parts[1:]) if parts and parts[0] == folder else None


class Archive:
    """An open archive: its entries one after the other, each to be read, if at all, before the next."""

    def __init__(self, tar: tarfile.TarFile, unpacked: _Unpacked) -> None:
        self._tar = tar
        self._unpacked = unpacked

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._tar.next()) is not None:
            # tarfile keeps every header that it has seen, and gives those that count for all to each entry.
            self._tar.members = []  # type: ignore[attr-defined]
            self._tar.pax_headers = {}
            self._unpacked.end = self._tar.offset + _MAX_HEADERS
            yield member

    def pieces(self, member: tarfile.TarInfo) -> Iterator[memoryview]:
        """The bytes of a file."""
        left = member.size
        for piece in self._unpacked.pieces(left):
            left -= len(piece)
            yield piece
        if left:
            raise EOFError("unexpected end of data")


@contextmanager
def opened(archive: Readable, max_bytes: int = MAX_BYTES) -> Iterator[Archive]:
    """An archive, plain or gzip, to be read once; at the end its checksum is looked at, where it has one.

    Raises one of `DAMAGE` for one that is damaged, or far larger than it may be.
    """
    first = b""
    while len(first) < 2 and (piece := archive.read(_PIECE)):
        first += piece
    is_packed = first[:2] == b"\x1f\x8b"
    source = _Inflated(archive, first, max_bytes + _ALL_HEADERS) if is_packed else archive
    unpacked = _Unpacked(source, b"" if is_packed else first)
    with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="r:") as tar:
        yield Archive(tar, unpacked)
    while is_packed and source.read(_PIECE):
        pass


class _Unpacked:
    """The unpacked archive as tarfile reads it, forward only, up to `end`: what follows there is a bomb of headers."""

    def __init__(self, source: Readable, first: bytes) -> None:
        self._source = source
        self._held = memoryview(first)
        self._used = 0
        self._at = 0
        self.end = _MAX_HEADERS

    def read(self, size: int) -> bytes:
        if size < 0 or self._at + size > self.end:
            raise OSError("it has a header that is too large")
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next so many bytes, as they lie in memory; fewer where the archive ends."""
        while size > 0:
            if self._used == len(self._held):
                self._held, self._used = memoryview(self._source.read(_PIECE)), 0
                if not self._held:
                    return
            piece = self._held[self._used : self._used + size]
            self._used += len(piece)
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or not self._at <= position <= self.end:
            raise OSError("it can't be read from its beginning to its end")
        for _ in self.pieces(position - self._at):
            pass
        return self._at

    def seekable(self) -> bool:
        return True


class _Inflated:
    """A gzip file unpacked as it is read, in large pieces: the standard library's own takes a few KB at a time."""

    def __init__(self, file: Readable, first: bytes, limit: int) -> None:
        self._file = file
        self._left = limit
        self._unpacker = zlib.decompressobj(31)
        self._held = first

    def read(self, size: int) -> bytes:
        data = b""
        while not data:
            if self._unpacker.eof:
                self._held = self._unpacker.unused_data or self._file.read(_PIECE)
                if not self._held.strip(b"\0"):
                    return b""
                self._unpacker = zlib.decompressobj(31)  # another member
            self._held = self._held or self._file.read(_PIECE)
            if not self._held:
                raise EOFError("the archive is cut off")
            data = self._unpacker.decompress(self._held, size)
            self._held = self._unpacker.unconsumed_tail
        self._left -= len(data)
        if self._left < 0:
            raise OSError("it is too large when unpacked")
        return data
