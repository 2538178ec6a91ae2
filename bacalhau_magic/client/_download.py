"""A job's published files: where they lie, and the archive that holds them, fetched and checked before a byte is written.

The archive is hostile: only regular files and folders below `outputs/` count, and paths that lead outside, duplicates
and bombs refuse the whole.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit, urlunsplit

from .. import _marks
from .._stages import Endpoint, JobRef, is_loopback
from .._wire import SpecConfig
from ..errors import ApiError, ResultError, UnreachableError
from ._client import Client
from ._parts import Part
from ._problems import clean

MAX_FILES = 100_000
MAX_BYTES = 20_000_000_000
_PIECE = 1 << 20
_TRIES = 4
"""Times that nothing more comes before a download is given up."""
_RESTARTS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_PASSING = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an archive lies: a path or URL for the client, and whether it is another place than the endpoint."""

    url: str
    anonymous: bool


def source(result: SpecConfig, endpoint: Endpoint) -> Source:
    """Where a published result is fetched from, as seen from here. Raises ResultError for a place that can't be reached.

    A loopback address is the node's own: it becomes the endpoint's host, or the endpoint's socket.
    """
    params = result.params or {}
    kind = result.type.lower()
    url = params.get("URL") if kind == "urldownload" else params.get("PreSignedURL") if kind == "s3presigned" else None
    if not isinstance(url, str):
        raise ResultError(
            f"The job's files were published as {clean(result.type) or 'nothing'!r}, which can't be fetched from here.",
            hint="Fetch them with the tool of that storage, or have the node publish them locally.",
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ResultError(f"The job's files lie at an address that can't be used: {clean(url, 200)}.")
    if is_loopback(parts.hostname):
        if endpoint.is_local:
            return Source(urlunsplit(("", "", parts.path, parts.query, "")), anonymous=False)
        host = urlsplit(endpoint.url).hostname or parts.hostname
        port = f":{parts.port}" if parts.port else ""
        parts = parts._replace(netloc=(f"[{host}]" if ":" in host else host) + port)
    there = urlsplit(endpoint.url)
    same = not endpoint.is_local and (parts.scheme, parts.hostname, parts.port) == (there.scheme, there.hostname, there.port)
    return Source(urlunsplit(parts), anonymous=not same)


def fetch_archive(
    client: Client,
    ref: JobRef,
    part: Part,
    *,
    max_bytes: int = MAX_BYTES,
    said: Callable[[int, int | None], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> None:
    """Write the job's published archive to `part`, going on with what is there. Raises ResultError, or the ApiError family.

    `said` hears of the bytes that are here and of the whole's, `halted` tells that the user wants no more. A lost
    connection is tried again from where it was lost.
    """
    published = [result for result in client.results(ref.job_id, ref.namespace) if result.type]
    if not published:
        raise ResultError(
            "The job published no files.",
            job_id=ref.job_id,
            hint="Files come back when --files is given and the cell writes to outputs/, from a node that has a publisher.",
        )
    place = source(published[-1], client.endpoint)
    fetching = _Fetching(client, ref, place, part, max_bytes, said, halted)
    with part:
        tries, pause = _TRIES, _FIRST_PAUSE
        while not fetching.is_done:
            before = part.size
            try:
                fetching.go_on()
            except ApiError as error:
                if part.size > before:
                    tries, pause = _TRIES, _FIRST_PAUSE
                tries -= 1
                if not tries or not (isinstance(error, UnreachableError) or error.status in _PASSING):
                    part.can_go_on = bool(part.headers())
                    raise _lost(ref, place, part, error) from error
                time.sleep(max(pause, min(error.retry_after, _LONGEST_PAUSE)))
                pause *= 2


@dataclass(slots=True)
class _Fetching:
    """One archive on its way into a part."""

    client: Client
    ref: JobRef
    place: Source
    part: Part
    max_bytes: int
    said: Callable[[int, int | None], None] | None
    halted: Callable[[], bool]
    is_done: bool = False
    _restarts: int = 0

    def go_on(self) -> None:
        """Ask once, for what is not here yet. Raises the ApiError family for a lost connection, ResultError."""
        part = self.part
        with self.client.download(self.place.url, anonymous=self.place.anonymous, headers=part.headers()) as answer:
            status = answer.status_code
            if status in _PASSING:
                raise UnreachableError(f"{_where(self.place)} answered with status {status}.", status=status)
            if status == 416:
                self._again()
                return
            if status not in (200, 206):
                raise ResultError(
                    f"The job's files can't be fetched: {_where(self.place)} answered with status {status}.", job_id=self.ref.job_id
                )
            if not part.begin(status, answer.headers):
                self._again()
                return
            if part.whole.total is not None:
                self._bound(part.whole.total)
            for piece in answer.iter_bytes():  # as it comes: what is here counts when the connection breaks
                self._bound(part.size + len(piece))
                part.write(piece)
                if self.said:
                    self.said(part.size, part.whole.total)
                if self.halted():
                    part.can_go_on = bool(part.headers())
                    raise ResultError(
                        "The job's files were not fetched to the end: that was interrupted.",
                        job_id=self.ref.job_id,
                        hint=_how_on(self.ref, part),
                    )
        if part.whole.total is not None and part.size != part.whole.total:
            raise UnreachableError(f"{_where(self.place)} ended early.")
        self.is_done = True

    def _again(self) -> None:
        """Begin anew with the whole: what is there is not what was begun with."""
        if self.part.whole.total is not None and self.part.size == self.part.whole.total:
            self.is_done = True  # nothing was missing any more
            return
        self.part.drop()
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise ResultError(f"The job's files at {_where(self.place)} changed again and again while they were fetched.")

    def _bound(self, size: int) -> None:
        if size > self.max_bytes:
            raise ResultError(f"The job's files are larger than {self.max_bytes // 1_000_000} MB.", job_id=self.ref.job_id)


def _how_on(ref: JobRef, part: Part) -> str:
    again = f"%bacalhau get {ref.short_id} DIR"
    return f"What came is kept: {again} goes on from there, with the same folder." if part.can_go_on else f"Fetch them again: {again}."


def _lost(ref: JobRef, place: Source, part: Part, error: ApiError) -> ResultError:
    if part.size:
        total = f" of {part.whole.total:,}" if part.whole.total else ""
        return ResultError(
            f"The connection to {_where(place)} was lost after {part.size:,}{total} bytes of the job's files: {error.message}",
            job_id=ref.job_id,
            hint=_how_on(ref, part),
        )
    return ResultError(
        f"The job's files lie at {_where(place)}, which can't be reached from here: {error.message}",
        job_id=ref.job_id,
        hint="Three ways out: the node's publisher address must be open to this machine (whoever runs it sets "
        "Publishers.Types.Local.Address); or publish to a store that both reach: --publisher s3://BUCKET/KEY; or return the data as a "
        "value, -o NAME, which comes by the log.",
    )


def _where(place: Source) -> str:
    parts = urlsplit(place.url)
    # Without the path and the query: they may be a capability.
    return f"{parts.scheme}://{clean(parts.netloc)}" if parts.netloc else "the endpoint"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of the archive: its path below outputs/, and what tarfile knows of it."""

    path: PurePosixPath
    member: tarfile.TarInfo

    @property
    def is_folder(self) -> bool:
        return self.member.isdir()


@dataclass(frozen=True, slots=True)
class Listing:
    entries: tuple[Entry, ...]
    skipped: tuple[str, ...]
    """Links, devices and pipes below outputs/, which are left out."""


def listing(archive: Path, *, max_bytes: int = MAX_BYTES, folder: str = _marks.RESULT_PATH_NAME) -> Listing:
    """What an archive holds below `folder`, all of it checked; raises ResultError for one that can't be trusted."""
    entries: list[Entry] = []
    skipped: list[str] = []
    kinds: dict[PurePosixPath, bool] = {}
    total = 0
    try:
        with opened(archive, max_bytes) as tar:
            for count, member in enumerate(tar, 1):
                total += member.size
                if count > MAX_FILES or total > max_bytes:
                    raise ResultError(
                        f"The job's files are too many or too large (at most {MAX_FILES} files, {max_bytes // 1_000_000} MB)."
                    )
                path = _below(member.name, folder)
                if path is None:
                    continue
                if not (member.isreg() or member.isdir()):
                    skipped.append(str(path))
                    continue
                if path in kinds and not (kinds[path] and member.isdir()):
                    raise ResultError(f"The job's archive holds {clean(str(path), 200)!r} twice.")
                if path.parts:
                    entries.append(Entry(path, member))
                kinds[path] = member.isdir()
    except (tarfile.TarError, EOFError, OSError, ValueError, *_compression_errors()) as error:
        raise ResultError(f"The job's archive of files is damaged: {clean(str(error), 200)}.") from error
    for path in kinds:
        if any(parent in kinds and not kinds[parent] for parent in path.parents):
            raise ResultError(f"The job's archive holds {clean(str(path), 200)!r} below a file.")
    return Listing(tuple(entries), tuple(skipped))


@contextmanager
def opened(archive: Path, max_bytes: int = MAX_BYTES) -> Iterator[tarfile.TarFile]:
    """An archive, to be read once from its beginning to its end; at the end its checksum is looked at, where it has one.

    Raises OSError, EOFError, tarfile.TarError and zlib.error for one that is damaged, or far larger than it may be.
    """
    with archive.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            with tarfile.open(archive, "r:*") as tar:
                yield tar
            return
        file.seek(0)
        inflated = _Inflated(file, max_bytes + MAX_FILES * 2048)
        with tarfile.open(fileobj=cast("IO[bytes]", inflated), mode="r|", bufsize=_PIECE) as tar:
            yield tar
        while inflated.read(_PIECE):
            pass


class _Inflated:
    """A gzip file unpacked as it is read, in large pieces: the standard library's own takes a few KB at a time."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._left = limit
        self._unpacker = zlib.decompressobj(31)
        self._held = b""

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


@dataclass(frozen=True, slots=True)
class Log:
    """A job's two streams, as its archive holds them."""

    stdout: bytes
    stderr: bytes


def fetch_log(client: Client, ref: JobRef, *, max_bytes: int) -> Log:
    """The whole log of a job that published its results. Raises ResultError, or the ApiError family."""
    with tempfile.TemporaryDirectory(prefix="bacalhau-") as folder:
        part = Part(Path(folder))
        fetch_archive(client, ref, part, max_bytes=2 * max_bytes)
        try:
            with tarfile.open(part.archive, mode="r:*") as tar:
                found = {name: _member(tar, name, max_bytes) for name in ("stdout", "stderr")}
        except (tarfile.TarError, EOFError, OSError, ValueError, *_compression_errors()) as error:
            raise ResultError(f"The job's archive is damaged: {clean(str(error), 200)}.", job_id=ref.job_id) from error
    return Log(found["stdout"], found["stderr"])


def _member(tar: tarfile.TarFile, name: str, max_bytes: int) -> bytes:
    """A regular file at the archive's top, empty where it is not there."""
    for count, member in enumerate(tar, 1):
        if count > MAX_FILES:
            break
        if member.isreg() and member.name.removeprefix("./") == name:
            if member.size > max_bytes:
                raise ResultError(f"The job's published {name} is larger than {max_bytes // 1_000_000} MB.")
            content = tar.extractfile(member)
            return content.read(max_bytes) if content else b""
    return b""


def _below(name: str, folder: str) -> PurePosixPath | None:
    """An entry's path below the folder, None for one beside it. Raises ResultError for one that leads outside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = name.startswith("/") or ".." in parts or "\0" in name
    windows = any(set(part) & set('\\:*?"<>|') or part.endswith((" ", ".")) for part in parts) if _on_windows() else False
    if strange or windows:
        raise ResultError(f"The job's archive holds a path that can't be used: {clean(name, 200)!r}.")
    return PurePosixPath(*parts[1:]) if parts and parts[0] == folder else None


def _on_windows() -> bool:
    import os

    return os.name == "nt"


def _compression_errors() -> tuple[Any, ...]:
    import lzma

    return zlib.error, lzma.LZMAError
