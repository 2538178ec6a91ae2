"""A job's inputs, made ready on disk: inline data unpacked, staged paths checked. The data is hostile."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import os
import posixpath
import tarfile
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from .executors._seam import Mount

__all__ = ["STAGED_TYPES", "InputProblem", "inside", "prepare", "unpack"]

STAGED_TYPES = frozenset({"localdirectory", "local"})
MAX_UNPACKED = 4 << 30
MAX_ENTRIES = 100_000
MAX_DEPTH = 64
_MAX_READ = 16 << 20
_CHUNK = 1 << 20
_PATIENCE = 60.0


class InputProblem(Exception):
    """An input that can't be made ready; the text is the execution's failure."""


def prepare(
    sources: Iterable[Mapping[str, Any]],
    urls: Mapping[int, Path],
    folder: Path,
    staging: Path,
    halted: Callable[[], bool] = lambda: False,
) -> tuple[Mount, ...]:
    """Makes every input source ready below `folder`.

    `urls` maps a source's number to the file that holds its data URL, where that is not in the spec itself, `halted` tells
    that the job was stopped. Raises InputProblem.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    mounts = []
    for number, source in enumerate(sources):
        config = source["Source"]
        params = config.get("Params") or {}
        kind = config["Type"].lower()
        if kind == "inline":
            url = urls[number].read_text("ascii", "replace") if number in urls else str(params.get("URL", ""))
            place = _inline(url, folder / f"inline-storage{number}")
        elif kind in STAGED_TYPES:
            place = inside(staging, str(params.get("SourcePath", "")))
        elif kind == "urldownload":
            # As a real node does: the target is the folder, the file is called as the address says.
            place = _fetched(str(params.get("URL", "")), folder / f"url-storage{number}", halted)
            mounts.append(Mount(place, posixpath.normpath(posixpath.join(source["Target"], place.name)), True))
            continue
        else:
            raise InputProblem(f"preparing arguments: input source type {config['Type']} is not supported")
        mounts.append(Mount(place, source["Target"], True))
    _make_places(mounts, folder)
    return tuple(mounts)


def _make_places(mounts: Iterable[Mount], folder: Path) -> None:
    """Have a place for each mounted file inside what else is mounted around it: what is read-only later has room for none."""
    unpacked = [mount for mount in mounts if mount.source.parent == folder and mount.source.is_dir()]
    for mount in mounts:
        for around in unpacked:
            inner = PurePosixPath(mount.target)
            if mount.source.is_file() and around is not mount and inner.is_relative_to(around.target):
                place = around.source / inner.relative_to(around.target)
                try:
                    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                    place.touch(mode=0o644)
                except OSError as problem:
                    raise InputProblem(f"preparing arguments: {mount.target}: {problem.strerror}") from None


def inside(staging: Path, path: str) -> Path:
    """A staged path, which must exist and lie in the staging folder, also after following links. Raises InputProblem."""
    home = Path(os.path.realpath(staging))
    real = Path(os.path.realpath(path)) if path and "\0" not in path else home
    if real == home or not real.is_relative_to(home):
        raise InputProblem(f"preparing arguments: {path} is not in this node's staging folder")
    if not real.exists():
        raise InputProblem(f"preparing arguments: open {path}: no such file or directory")
    return real


def _inline(url: str, place: Path) -> Path:
    head, comma, rest = url.partition(",")
    if not comma or not head.startswith("data:"):
        raise InputProblem("preparing arguments: could not parse inline data URL")
    words = head[len("data:") :].split(";")
    try:
        data = base64.b64decode(rest, validate=True) if "base64" in words[1:] else urllib.parse.unquote_to_bytes(rest)
    except (binascii.Error, ValueError) as problem:
        raise InputProblem(f"preparing arguments: illegal base64 data: {problem}") from None
    if words[0] == "application/gzip":
        place.mkdir(mode=0o755)
        unpack(data, place)
    else:
        with os.fdopen(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
    return place


def _fetched(url: str, folder: Path, halted: Callable[[], bool]) -> Path:
    """The file of an address, in a folder of its own; it is asked for its size first."""
    import httpx

    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputProblem("preparing arguments: invalid URL scheme, only http and https are supported")
    name = PurePosixPath(urllib.parse.unquote(parts.path)).name
    if not name or name in (".", "..") or "\0" in name or "/" in name or len(name.encode()) > 255:
        raise InputProblem("preparing arguments: the URL names no file")
    shown = parts._replace(query="", fragment="").geturl()  # the query may be a right
    folder.mkdir(mode=0o755)
    place, size = folder / name, 0
    try:
        with httpx.Client(follow_redirects=True, timeout=_PATIENCE, trust_env=not _is_loopback(parts.hostname)) as http:
            asked = http.head(url)
            if asked.status_code != 200 or not asked.headers.get("content-length", "").isdigit():
                raise InputProblem(f"preparing arguments: URL {shown} returned unexpected status code {asked.status_code}")
            with http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer, place.open("xb") as file:
                if answer.status_code != 200:
                    raise InputProblem(f"preparing arguments: URL {shown} returned unexpected status code {answer.status_code}")
                for piece in answer.iter_bytes():
                    size += len(piece)
                    if size > MAX_UNPACKED:
                        raise InputProblem(f"preparing arguments: {shown} is too large")
                    if halted():
                        raise InputProblem("preparing arguments: stopped")
                    file.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as problem:
        raise InputProblem(f"preparing arguments: {shown}: {type(problem).__name__}") from None
    place.chmod(0o644)
    return place


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


class _Bounded:
    """The unpacked archive as tarfile reads it: no single read of a header takes much memory, and all of it is bounded."""

    def __init__(self, data: bytes) -> None:
        self._file = gzip.GzipFile(fileobj=io.BytesIO(data))

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _MAX_READ:
            raise InputProblem("preparing arguments: the archive has a header that is too large")
        self._bound(self._file.tell() + size)
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        self._bound(position)
        return self._file.seek(position, whence)

    def seekable(self) -> bool:
        return True

    def _bound(self, position: int) -> None:
        # Headers and padding come on top of the files' own bytes.
        if position > MAX_UNPACKED + MAX_ENTRIES * 2048:
            raise InputProblem("preparing arguments: the archive is too large when unpacked")


def unpack(data: bytes, place: Path) -> None:
    """Unpacks a tar.gz into an empty folder, as the real node does: folders must have entries, links are skipped.

    Raises InputProblem for a name that leaves the folder, a file that comes twice, or an archive that grows too large.
    """
    total = count = 0
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Bounded(data)), mode="r:") as archive:
            for member in archive:
                count += 1
                total += max(member.size, 0)
                if count > MAX_ENTRIES:
                    raise InputProblem("preparing arguments: the archive has too many entries")
                if total > MAX_UNPACKED:
                    raise InputProblem("preparing arguments: the archive is too large when unpacked")
                if member.isdir() or member.isreg():
                    _write(archive, member, place)
                # tarfile keeps every header that it has seen.
                cast("Any", archive).members = []
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as problem:
        raise InputProblem(f"preparing arguments: {problem}") from None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or len(parts) > MAX_DEPTH:
        raise InputProblem(f"preparing arguments: tar contained invalid name error {name!r}")
    target = place.joinpath(*parts)
    if member.isdir():
        if parts and not target.is_dir():
            _or_missing(target, lambda: target.mkdir(mode=0o755))
            target.chmod(0o755)
        return
    source = archive.extractfile(member)
    if source is None or not parts:
        return
    try:
        fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise InputProblem(f"preparing arguments: open {target}: no such file or directory") from None
    except FileExistsError:
        raise InputProblem(f"preparing arguments: {PurePosixPath(*parts)} is in the archive twice") from None
    with os.fdopen(fd, "wb") as file:
        left = member.size
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            file.write(chunk)
            left -= len(chunk)
        if left:
            raise InputProblem("preparing arguments: unexpected EOF")
        os.fchmod(file.fileno(), member.mode & 0o777)


def _or_missing(target: Path, make: Any) -> None:
    try:
        make()
    except FileNotFoundError:
        raise InputProblem(f"preparing arguments: mkdir {target}: no such file or directory") from None
