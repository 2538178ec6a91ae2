"""What a cell wrote to outputs/, brought into a folder of the user's.

A manifest in the folder says what came from which cell, so that a cell may replace what its own earlier run wrote,
unless it was changed since. Nothing else is ever overwritten, and no link in the folder is followed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .._locks import locked
from .._marks import RESULT_PATH_NAME
from .._stages import JobRef
from ..errors import OptionError, ResultError
from ._archives import MAX_BYTES, Entry, entries
from ._client import Client
from ._download import fetch_archive
from ._parts import Coming, Part, part_of
from ._problems import clean

MANIFEST = ".bacalhau-files.json"
_PIECE = 1 << 20
_PATIENCE = 120.0
"""Seconds that a job's files wait for another's that go into the same folder."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was brought into `folder`: file names relative to it, and what was left out (links, devices)."""

    folder: Path
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Files that an earlier run of the same cell wrote and this one didn't; they stay."""


def check_directory(directory: str | Path) -> Path:
    """The folder for a job's files as an absolute path; raises OptionError where nothing could be written there."""
    path = Path(directory).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise OptionError(f"--files {directory}: this is a file and not a folder.", option="files", hint="Name a folder.")
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        # Tried, because permissions alone don't tell: a read-only file system, /proc, a quota.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as problem:
        reason = problem.strerror or "it can't be written to"
        raise OptionError(
            f"--files {directory}: nothing can be written to {there} ({reason}).", option="files", hint="Name another folder."
        ) from None
    return path


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be replaced: files that an earlier run under one of the `owners` (a cell's id, its text) wrote and nobody
    changed since; with `overwrite` any file. A link or a folder never is."""

    owners: Collection[str] = ()
    overwrite: bool = False


def fetch_files(
    client: Client,
    ref: JobRef,
    directory: str | Path,
    rights: Rights = Rights(),
    *,
    max_bytes: int = MAX_BYTES,
    said: Callable[[int, int | None], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Fetched:
    """Bring the job's published files into the folder, all or none.

    `said` hears of the bytes that came and of all of them (None: not told); `halted` is asked whether to give up. Raises
    ResultError, OptionError, or the ApiError family.
    """

    def fetch(part: Part) -> None:
        fetch_archive(client, ref, part, max_bytes=max_bytes, said=said, halted=halted)

    return _brought(fetch, ref, directory, rights, max_bytes)


def unpack_files(archive: bytes, ref: JobRef, directory: str | Path, rights: Rights = Rights(), *, max_bytes: int = MAX_BYTES) -> Fetched:
    """As `fetch_files`, from an archive that is here: the same checks. Raises ResultError, OptionError."""

    def write(part: Part) -> None:
        with part:
            part.drop()
            part.write(archive)

    return _brought(write, ref, directory, rights, max_bytes)


def pack_files(fetched: Fetched, most: int) -> bytes:
    """The files that were brought, as an archive that `unpack_files` reads, and that others were left out; the same give the same bytes.

    Raises ResultError for more than `most` bytes.
    """
    places = {name: fetched.folder / name for name in sorted(fetched.names)}
    if sum(place.stat().st_size for place in places.values()) > most:
        raise ResultError(f"The job's files are larger than {most // 1_000_000} MB.")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, place in places.items():
            entry = tarfile.TarInfo(f"{RESULT_PATH_NAME}/{name}")
            entry.size, entry.mode = place.stat().st_size, 0o755 if place.stat().st_mode & 0o100 else 0o644
            with place.open("rb") as file:
                tar.addfile(entry, file)
        for name in sorted(fetched.skipped):  # so that whoever reads it says the same of them
            entry = tarfile.TarInfo(f"{RESULT_PATH_NAME}/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "."
            tar.addfile(entry)
    return gzip.compress(data.getvalue(), mtime=0)


def _brought(bring: Callable[[Part], None], ref: JobRef, directory: str | Path, rights: Rights, max_bytes: int) -> Fetched:
    folder = check_directory(directory)
    # On the target's file system, so that files are moved into place and not copied.
    beside = folder if folder.is_dir() else folder.parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with part_of(beside, f"{ref.endpoint.label}\0{ref.job_id}") as part:
            return _put(bring, ref, part, folder, rights, max_bytes)
    except OSError as error:
        raise ResultError(
            f"The job's files can't be written to {folder}: {error.strerror or error}.",
            job_id=ref.job_id,
            hint=f"Fetch them into another folder: %bacalhau get {ref.word} OTHER.",
        ) from error


def _put(bring: Callable[[Part], None], ref: JobRef, part: Part, folder: Path, rights: Rights, max_bytes: int) -> Fetched:
    with tempfile.TemporaryDirectory(dir=part.folder) as place:
        found = _came(bring, part, Path(place, "files"), max_bytes)
        # One job after the other: each looks at what is there, and at the manifest, and then writes both.
        with locked(folder, _PATIENCE):
            left = _move(ref, found, Path(place), folder, rights)
    return Fetched(folder, tuple(found.hashes), tuple(found.skipped), tuple(sorted(left)))


def _came(bring: Callable[[Part], None], part: Part, into: Path, max_bytes: int) -> _Unpacked:
    """What is brought: checked while it comes, once more where the part began anew, and unpacked when all of it proved right."""
    with ThreadPoolExecutor(1, "bacalhau files") as other:
        with part.coming() as coming:
            checking = other.submit(_check, coming, max_bytes)
            bring(part)
        if not coming.is_dropped:
            checking.result()
    if coming.is_dropped:
        _check(part.archive.open("rb"), max_bytes)
    return _unpack(part.archive.open("rb"), into, max_bytes)


def _check(archive: IO[bytes] | Coming, max_bytes: int) -> None:
    with closing(archive), closing(entries(archive, max_bytes=max_bytes)) as given:
        for _ in given:
            pass


@dataclass(slots=True)
class _Unpacked:
    """What was unpacked: files and folders in the archive's order, the files' sha256 by name, and the names of what was left out."""

    entries: list[Entry] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def _move(ref: JobRef, found: _Unpacked, place: Path, folder: Path, rights: Rights) -> list[str]:
    """Bring what was unpacked in `place` into the folder; the files that an earlier run of the cell left beside it."""
    staged, new, manifest, hashes = place / "files", place / "manifest", _read_manifest(folder), found.hashes
    _check_places(folder, found, manifest, rights, ref)
    left = [name for name in manifest if name not in hashes and _is_of(manifest[name], rights.owners) and (folder / name).is_file()]
    for name, digest in hashes.items():
        manifest[name] = {"sha256": digest, "size": (staged / name).stat().st_size, "job": ref.job_id, "owners": sorted(rights.owners)}
    new.write_text(_manifest_text({name: facts for name, facts in manifest.items() if name in hashes or (folder / name).is_file()}))
    with Moving(folder, place / "aside") as moving:
        for entry in found.entries:
            # Once more: what was checked a moment ago may be a link by now.
            _check_links(folder, entry.path, ref)
            if entry.kind == "folder":
                moving.folder(entry.path)
            else:
                moving.file(staged / entry.path, entry.path)
        _check_links(folder, PurePosixPath(MANIFEST), ref)
        moving.file(new, PurePosixPath(MANIFEST))
    return left


def _check_places(folder: Path, found: _Unpacked, manifest: dict[str, Any], rights: Rights, ref: JobRef) -> None:
    """Raises ResultError for a place that holds what is not this cell's to replace."""
    for entry in found.entries:
        _check_links(folder, entry.path, ref)
        name, place = str(entry.path), folder / entry.path
        if not os.path.lexists(place):
            continue
        if (entry.kind == "folder") != place.is_dir() or name == MANIFEST:
            raise _in_the_way(folder, name, ref)
        if entry.kind == "folder" or rights.overwrite:
            continue
        here = _digest(place)
        ours = _is_of(manifest.get(name), rights.owners)
        if here != found.hashes[name] and not (ours and manifest[name].get("sha256") == here):
            raise _in_the_way(folder, name, ref, changed=ours)


def _check_links(folder: Path, path: PurePosixPath, ref: JobRef) -> None:
    """Raises ResultError for a link at a place or above it, and for a file where a folder has to be."""
    for part in [*reversed(path.parents), path]:
        place = folder / part
        if part.parts and (place.is_symlink() or (part != path and place.exists() and not place.is_dir())):
            raise _in_the_way(folder, str(part), ref)


def _is_of(known: Any, owners: Collection[str]) -> bool:
    """Whether a manifest's entry was written by a cell of one of these names."""
    before = known.get("owners") if isinstance(known, dict) else None
    return isinstance(before, list) and any(owner in before for owner in owners)


def _in_the_way(folder: Path, name: str, ref: JobRef, *, changed: bool = False) -> ResultError:
    why = "was changed since an earlier run wrote it" if changed else "is there already and did not come from this cell"
    return ResultError(
        f"The job's files were not written to {folder}: {clean(name, 200)!r} {why}.",
        job_id=ref.job_id,
        name=name,
        hint=f"Move it away, replace files with --overwrite, or fetch into another folder: %bacalhau get {ref.word} OTHER.",
    )


def _unpack(archive: IO[bytes], into: Path, max_bytes: int) -> _Unpacked:
    """Write what an archive holds to a new folder, each entry once it is checked again."""
    found, made = _Unpacked(), ""
    into.mkdir()
    with closing(archive), closing(entries(archive, max_bytes=max_bytes)) as given:
        for entry, pieces in given:
            if entry.kind == "link":
                found.skipped.append(str(entry.path))
                continue
            found.entries.append(entry)
            name = str(entry.path)
            place = os.path.join(into, name)
            above = place if entry.kind == "folder" else os.path.dirname(place)
            try:
                if above != made:
                    os.makedirs(above, exist_ok=True)
                    made = above
                if entry.kind == "folder":
                    continue
                file = open(place, "xb")  # noqa: SIM115 - entered below, where its reading is no such error
            except (FileExistsError, NotADirectoryError):
                # The folder is new: what is in the way came from the archive.
                raise ResultError(f"The job's archive holds {clean(name, 200)!r} below a file, or as a folder too.") from None
            digest = hashlib.sha256()
            with file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            os.chmod(place, 0o755 if entry.is_program else 0o644)
            found.hashes[name] = digest.hexdigest()
    return found


class Moving:
    """Files put into a folder, all or none: at an error what was there before is there again, and nothing else.

    What is replaced lies in `aside` meanwhile, on the same file system.
    """

    def __init__(self, folder: Path, aside: Path) -> None:
        self._folder = folder
        self._aside = aside
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Moving:
        self._aside.mkdir()
        for above in [*reversed(self._folder.parents), self._folder]:
            self._make(above)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for step in reversed(self._undo):
                with suppress(OSError):
                    step()

    def _make(self, place: Path) -> None:
        if not place.exists():
            try:
                place.mkdir()
            except FileExistsError:
                return  # another job's files go to a folder beside
            self._undo.append(place.rmdir)

    def folder(self, path: PurePosixPath) -> None:
        """Have a folder, and the ones above it."""
        for part in [*reversed(path.parents), path]:
            self._make(self._folder / part)

    def file(self, source: Path, path: PurePosixPath) -> None:
        """Put a file there; what it replaces is kept until the end."""
        self.folder(path.parent)
        place = self._folder / path
        if os.path.lexists(place):
            kept = self._aside / str(len(self._undo))
            os.rename(place, kept)
            self._undo.append(lambda: os.replace(kept, place))
        os.rename(source, place)
        self._undo.append(place.unlink)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    files = found.get("files") if isinstance(found, dict) else None
    return {name: facts for name, facts in files.items() if _is_below(name)} if isinstance(files, dict) else {}


def _is_below(name: str) -> bool:
    """Whether a manifest's name is a file below its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _manifest_text(files: Mapping[str, Any]) -> str:
    return json.dumps({"format": 1, "files": dict(sorted(files.items()))}, indent=1)


__all__ = ["MANIFEST", "Fetched", "Rights", "check_directory", "fetch_files", "pack_files", "unpack_files"]
