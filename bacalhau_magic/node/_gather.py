"""What a job left behind, collected after all its processes are dead: hostile until it is in the archive.

Every step opens by file descriptor and never follows a link. What is neither a regular file nor a folder is left out; of a
link, a pipe, a socket or a closed file the name comes, as that of a link from a Bacalhau node, so that whoever fetches the files can
say so.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, cast

from ..remote.packets import shrinks

__all__ = ["GatherProblem", "disk_use", "publish", "remove"]

MAX_BYTES = 10 << 30
MAX_COUNT = 100_000
MAX_DEPTH = 100
_PIECE = 1 << 20
"""Bytes of a file that are read at once, and compressed where that makes them smaller."""
_STORED = 0xFFFF
"""Bytes of a block that is stored as it is, at most: deflate's own limit."""


class GatherProblem(Exception):
    """The results can't be collected; the text is the execution's failure."""


class _Bounds:
    def __init__(self, max_bytes: int, max_count: int) -> None:
        self._bytes = max_bytes
        self._count = max_count
        self._max_bytes = max_bytes
        self._max_count = max_count

    def take(self, info: os.stat_result) -> None:
        # A sparse file allocates nothing and would still be read for ever: the larger of both sizes counts.
        self._bytes -= max(info.st_size, info.st_blocks * 512) if stat.S_ISREG(info.st_mode) else 0
        self._count -= 1
        if self._bytes < 0:
            raise GatherProblem(f"publishing results: the outputs hold more than {self._max_bytes} bytes")
        if self._count < 0:
            raise GatherProblem(f"publishing results: the outputs hold more than {self._max_count} files and folders")


def publish(
    target: Path,
    folders: Mapping[str, Path],
    logs: Iterable[tuple[int, bytes]],
    exit_code: int,
    *,
    max_bytes: int = MAX_BYTES,
    max_count: int = MAX_COUNT,
) -> None:
    """Writes the `local` publisher's archive: exitCode, stdout, stderr and each result folder by its name.

    It is written beside `target` and renamed. Raises GatherProblem, and leaves nothing then.
    """
    part = target.with_name(target.name + ".part")
    scratch = {1: target.with_name(target.name + ".stdout"), 2: target.with_name(target.name + ".stderr")}
    try:
        _split(logs, scratch)
        fd = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with (
            os.fdopen(fd, "wb") as raw,
            _Packed(raw) as packed,
            tarfile.TarFile(fileobj=cast("IO[bytes]", packed), mode="w", format=tarfile.PAX_FORMAT, copybufsize=_PIECE) as archive,
        ):
            archive.addfile(_entry(".", tarfile.DIRTYPE, 0o755))
            code = str(exit_code).encode()
            archive.addfile(_entry("./exitCode", tarfile.REGTYPE, 0o644, len(code)), io.BytesIO(code))
            for stream, name in ((1, "stdout"), (2, "stderr")):
                with open(scratch[stream], "rb") as file:
                    archive.addfile(_entry(f"./{name}", tarfile.REGTYPE, 0o644, os.fstat(file.fileno()).st_size), file)
            bounds = _Bounds(max_bytes, max_count)
            for name, folder in folders.items():
                _add_folder(archive, folder, f"./{name}", bounds)
        os.replace(part, target)
    except OSError as problem:
        raise GatherProblem(f"publishing results: {problem.strerror or problem}") from None
    finally:
        for leftover in (part, *scratch.values()):
            leftover.unlink(missing_ok=True)


class _Packed:
    """A gzip file in the making, as tarfile writes it: what would not become smaller goes in as it is.

    Compressing random bytes, pictures and archives takes thirty times as long as writing them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        self._size = self._checksum = 0

    def __enter__(self) -> _Packed:
        self._file.write(b"\x1f\x8b\x08\0\0\0\0\0\x04\xff")  # gzip, deflate, no name and no time, fast, system unknown
        return self

    def __exit__(self, *_: object) -> None:
        self._file.write(self._packer.flush() + struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF))

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        self._size += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        if len(data) < _STORED or shrinks([data]):
            self._file.write(self._packer.compress(data))
            return
        # After a full flush nothing that follows refers to what came before: blocks of other making may stand between.
        self._file.write(self._packer.flush(zlib.Z_FULL_FLUSH))
        view = memoryview(data)
        for at in range(0, len(view), _STORED):
            block = view[at : at + _STORED]
            self._file.write(struct.pack("<BHH", 0, len(block), len(block) ^ _STORED))
            self._file.write(block)


def _split(logs: Iterable[tuple[int, bytes]], places: Mapping[int, Path]) -> None:
    with ExitStack() as stack:
        files = {stream: stack.enter_context(open(place, "wb", opener=_private)) for stream, place in places.items()}
        for stream, data in logs:
            files[stream].write(data)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _entry(name: str, kind: bytes, mode: int, size: int = 0, modified: float = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, int(modified)
    return entry


def _add_folder(archive: tarfile.TarFile, folder: Path, name: str, bounds: _Bounds) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        archive.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        _add_entries(archive, fd, name, bounds, 0)
    finally:
        os.close(fd)


def _add_entries(archive: tarfile.TarFile, folder: int, name: str, bounds: _Bounds, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise GatherProblem(f"publishing results: the outputs are more than {MAX_DEPTH} folders deep")
    with os.scandir(folder) as entries:
        names = []
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_COUNT:
                raise GatherProblem(f"publishing results: the outputs hold more than {MAX_COUNT} files and folders")
    for child in sorted(names):
        looked = os.stat(child, dir_fd=folder, follow_symlinks=False)
        bounds.take(looked)
        if not _utf8(child):
            raise GatherProblem("publishing results: a file name in the outputs is not UTF-8")
        if not (stat.S_ISREG(looked.st_mode) or stat.S_ISDIR(looked.st_mode)):
            archive.addfile(_entry(f"{name}/{child}", tarfile.SYMTYPE, 0o777))
            continue
        try:
            # O_NONBLOCK: should it have become a FIFO meanwhile, opening must not hang.
            fd = os.open(child, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except PermissionError:  # closed by the job, and this is not root
            archive.addfile(_entry(f"{name}/{child}", tarfile.SYMTYPE, 0o777))
            continue
        try:
            info = os.fstat(fd)
            if (info.st_dev, info.st_ino) != (looked.st_dev, looked.st_ino):
                continue
            if stat.S_ISDIR(info.st_mode):
                archive.addfile(_entry(f"{name}/{child}", tarfile.DIRTYPE, 0o755, 0, info.st_mtime))
                _add_entries(archive, fd, f"{name}/{child}", bounds, depth + 1)
            else:
                with os.fdopen(fd, "rb", closefd=False) as file:
                    archive.addfile(_entry(f"{name}/{child}", tarfile.REGTYPE, info.st_mode & 0o777, info.st_size, info.st_mtime), file)
        finally:
            os.close(fd)


def _utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def remove(folder: Path) -> None:
    """Removes a folder that a job wrote to, also where it took the permissions away; links are removed, not followed."""

    def again(_function: Any, path: str, _problem: Any) -> None:
        with suppress(OSError):
            parent = os.path.dirname(path)
            if not os.path.islink(parent):
                os.chmod(parent, 0o700)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    with suppress(FileNotFoundError):
        shutil.rmtree(folder, onerror=again)


def disk_use(folder: Path) -> int:
    """The bytes that a folder takes on disk; links are not followed."""
    total = 0
    pending = [str(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    total += info.st_blocks * 512 if hasattr(info, "st_blocks") else info.st_size
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    return total
