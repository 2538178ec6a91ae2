"""What a cell wrote to outputs/, brought into a folder of the user's.

A manifest in the folder says what came from which cell, so that a cell may replace what its own earlier run wrote,
unless it was changed since. Nothing else is ever overwritten, and no link in the folder is followed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .._stages import JobRef
from ..errors import OptionError, ResultError
from ._client import Client
from ._download import MAX_BYTES, Entry, Listing, fetch_archive, listing
from ._problems import clean

MANIFEST = ".bacalhau-files.json"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was brought into `folder`: file names relative to it, and what was left out (links, devices)."""

    folder: Path
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()


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


def fetch_files(client: Client, ref: JobRef, directory: str | Path, *, owners: Collection[str] = (), max_bytes: int = MAX_BYTES) -> Fetched:
    """Bring the job's published files into the folder, all or none.

    `owners` are names of the cell (its id, its text): files that an earlier run under any of them wrote may be
    replaced. Raises ResultError, OptionError, or the ApiError family.
    """
    folder = check_directory(directory)
    try:
        return _fetch(client, ref, folder, owners, max_bytes)
    except OSError as error:
        raise ResultError(
            f"The job's files can't be written to {folder}: {error.strerror or error}.",
            job_id=ref.job_id,
            hint=f"Fetch them into another folder: %bacalhau get {ref.short_id} OTHER.",
        ) from error


def _fetch(client: Client, ref: JobRef, folder: Path, owners: Collection[str], max_bytes: int) -> Fetched:
    # On the target's file system, so that files are moved into place and not copied.
    beside = folder if folder.is_dir() else folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bacalhau-", dir=beside) as staging:
        archive = Path(staging) / "archive"
        with archive.open("wb") as file:
            fetch_archive(client, ref, file, max_bytes=max_bytes)
        found = listing(archive, max_bytes=max_bytes)
        manifest = _read_manifest(folder)
        for entry in found.entries:
            _check_place(folder, entry, manifest, owners, ref)
        try:
            hashes = _unpack(archive, found, Path(staging) / "files")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ResultError(f"The job's files can't be written: {error}.", job_id=ref.job_id) from error
        _move(Path(staging) / "files", folder, found)
        for name, digest in hashes.items():
            manifest[name] = {"sha256": digest, "owners": sorted(owners)}
        _write_manifest(folder, manifest)
    return Fetched(folder, tuple(hashes), found.skipped)


def _check_place(folder: Path, entry: Entry, manifest: dict[str, Any], owners: Collection[str], ref: JobRef) -> None:
    name, place = str(entry.path), folder / entry.path
    for parent in [folder / part for part in entry.path.parents if part.parts]:
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            raise _in_the_way(folder, str(parent.relative_to(folder)), ref)
    if not os.path.lexists(place):
        return
    if place.is_symlink() or entry.is_folder != place.is_dir():
        raise _in_the_way(folder, name, ref)
    if entry.is_folder:
        return
    known = manifest.get(name)
    ours = _is_of(known, owners)
    if not ours or manifest[name].get("sha256") != _digest(place) or name == MANIFEST:
        raise _in_the_way(folder, name, ref, changed=ours)


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
        hint=f"Move it away, or fetch the files into another folder: %bacalhau get {ref.short_id} OTHER.",
    )


def _unpack(archive: Path, found: Listing, into: Path) -> dict[str, str]:
    """Write the files below `into`; their sha256 by name."""
    hashes = {}
    into.mkdir()
    with tarfile.open(archive, "r:*") as tar:
        for entry in found.entries:
            place = into / entry.path
            if entry.is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            data = tar.extractfile(entry.member)
            if data is None:
                raise OSError(f"{entry.path} holds nothing")
            digest = hashlib.sha256()
            with data, place.open("xb") as file:
                while piece := data.read(_PIECE):
                    digest.update(piece)
                    file.write(piece)
            place.chmod(0o755 if entry.member.mode & 0o100 else 0o644)
            hashes[str(entry.path)] = digest.hexdigest()
    return hashes


def _move(staged: Path, folder: Path, found: Listing) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in found.entries:
        place = folder / entry.path
        if entry.is_folder:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / entry.path, place)


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
    return files if isinstance(files, dict) else {}


def _write_manifest(folder: Path, files: dict[str, Any]) -> None:
    kept = {name: facts for name, facts in sorted(files.items()) if os.path.lexists(folder / PurePosixPath(name))}
    new = folder / (MANIFEST + ".new")
    new.write_text(json.dumps({"format": 1, "files": kept}, indent=1))
    os.replace(new, folder / MANIFEST)


__all__ = ["MANIFEST", "Fetched", "check_directory", "fetch_files"]
