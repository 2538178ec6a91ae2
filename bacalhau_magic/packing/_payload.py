"""The archive that travels in a job: wrapper, cell, request and inputs, in one tar.gz.

A real node unpacks only directories and regular files, needs an entry for every directory before what is in it, and
keeps the modes that are written here; so: parents first, 0644 and 0755, no links.
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import json
import marshal
import os
import shlex
import tarfile
from collections.abc import Collection, Mapping
from functools import cache, cached_property
from importlib import resources
from pathlib import Path, PurePosixPath

from .._marks import FORMAT, PACKAGES_FOLDER, PAYLOAD_FOLDER, REQUIREMENTS_FILE
from .._stages import CellRequest, InputItem
from ..errors import UnsendableInputError
from ..remote import FILES, PACKAGES, REDACTION
from ._folders import files_below

_FILE_LIMIT = 10 * 2**20
"""Bytes of one file inside an inline archive; a real node's own limit."""


class Archive:
    """A tar.gz in the making: adds directories before what is in them, each once, and refuses a name twice.

    `begun` is an archive whose content comes first; it is compressed once, for all that begin with it.
    """

    def __init__(self, begun: Archive | None = None) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by compressed()
        self._folders: set[PurePosixPath] = {PurePosixPath("."), *(begun._folders if begun else ())}
        self._files: set[PurePosixPath] = set(begun._files if begun else ())
        self._before = begun._members if begun else b""

    def folder(self, path: str | PurePosixPath) -> None:
        """Add a directory and the ones above it."""
        place = PurePosixPath(path)
        for above in [*reversed(place.parents), place]:
            if above not in self._folders:
                self._folders.add(above)
                self._tar.addfile(self._entry(above, tarfile.DIRTYPE, 0o755))

    def file(self, path: str | PurePosixPath, data: bytes, mode: int = 0o644) -> None:
        """Add a file; raises FileExistsError when the path is taken."""
        place = self._claim(path)
        entry = self._entry(place, tarfile.REGTYPE, mode)
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))

    def copy(self, path: str | PurePosixPath, source: Path) -> None:
        """Add a file of this machine; only whether it is executable is kept of its mode."""
        place = self._claim(path)
        with source.open("rb") as content:
            facts = os.fstat(content.fileno())
            entry = self._entry(place, tarfile.REGTYPE, 0o755 if facts.st_mode & 0o111 else 0o644)
            entry.size = facts.st_size
            self._tar.addfile(entry, content)

    def _claim(self, path: str | PurePosixPath) -> PurePosixPath:
        place = PurePosixPath(path)
        if place in self._files or place in self._folders:
            raise FileExistsError(str(place))
        self.folder(place.parent)
        self._files.add(place)
        return place

    @staticmethod
    def _entry(place: PurePosixPath, kind: bytes, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(str(place))
        entry.type, entry.mode, entry.mtime = kind, mode, 0
        return entry

    def compressed(self) -> bytes:
        """The finished tar.gz; the same content gives the same bytes."""
        self._tar.close()
        return self._before + gzip.compress(self._buffer.getvalue(), compresslevel=6 if self._buffer.tell() < 4_000_000 else 1, mtime=0)

    @cached_property
    def _members(self) -> bytes:
        """What was added, as a part of a gzip file that others follow."""
        return self._before + gzip.compress(self._buffer.getvalue(), mtime=0)


def data_url(archive: bytes) -> str:
    """An archive as Bacalhau's inline source wants it: media type application/gzip means "unpack me"."""
    return "data:application/gzip;base64," + base64.b64encode(archive).decode("ascii")


def payload(request: CellRequest, nonce: str, *, compiled: bool = False, elsewhere: Collection[str] = (), keeps: bool = False) -> bytes:
    """The tar.gz of a request: everything but the inputs that have a target of their own.

    `keeps` says that what the job writes to outputs/ is kept, so that a value that can't be sent has a place there.
    Of an input, or a file of one, whose path is in `elsewhere` only its place is there, for what is mounted on it.
    With `compiled` the wrapper comes in one file with its bytecode for this Python, for a job that this very Python will run.
    """
    packages = request.options.pip
    archive = Archive(_wrapper(request.language.wrapper, compiled, bool(packages), bool(request.options.secret)))
    hidden = PurePosixPath(PAYLOAD_FOLDER)
    code = request.code if request.code.endswith("\n") else request.code + "\n"
    archive.file(hidden / request.language.file, code.encode())
    for name, text in _facts(request, nonce, keeps).items():
        archive.file(hidden / name, text.encode())
    if packages:
        archive.file(hidden / REQUIREMENTS_FILE, "".join(f"{line}\n" for line in packages).encode())
        # For what the embedded node has installed already.
        archive.folder(hidden / PACKAGES_FOLDER)
    for item in request.inputs:
        if item.target or item.url:
            continue
        if item.path not in elsewhere:
            _add(archive, item, item.path, elsewhere)
        elif item.source is not None and item.source.is_dir():
            archive.folder(item.path)
        else:
            archive.file(item.path, b"")
    return archive.compressed()


def targeted(item: InputItem, elsewhere: Collection[str] = ()) -> tuple[str, bytes]:
    """The mount point and the tar.gz of an input with a target of its own; a file's mount is the folder it lies in.

    Of a folder's file whose path is in `elsewhere` only its place is there.
    """
    archive = Archive()
    place = PurePosixPath(item.target)
    if item.source is not None and item.source.is_dir():
        _add(archive, item, ".", elsewhere)
        return str(place), archive.compressed()
    _add(archive, item, place.name)
    return str(place.parent), archive.compressed()


@cache
def _wrapper(name: str, compiled: bool, packages: bool, secrets: bool) -> Archive:
    """The wrapper's own files: the same in every job, with one more where packages are installed, and one where there are secrets."""
    archive = Archive()
    files = (*FILES[name], *([PACKAGES] if packages else []), *([REDACTION[name]] if secrets else []))
    sources = {file: (resources.files("bacalhau_magic.remote") / file).read_bytes() for file in files}
    first = FILES[name][0]
    if compiled and first.endswith(".py"):
        archive.file(PurePosixPath(PAYLOAD_FOLDER, first), sources.pop(first))
        packed = {
            file.removesuffix(".py"): (source, importlib.util.MAGIC_NUMBER, _bytecode(source, file)) for file, source in sources.items()
        }
        archive.file(PurePosixPath(PAYLOAD_FOLDER, "modules.bin"), marshal.dumps(packed))
    else:
        for file, source in sources.items():
            archive.file(PurePosixPath(PAYLOAD_FOLDER, file), source)
    return archive


def _bytecode(source: bytes, name: str) -> bytes:
    return marshal.dumps(compile(source, name, "exec", dont_inherit=True))


def _add(archive: Archive, item: InputItem, path: str, elsewhere: Collection[str] = ()) -> None:
    try:
        if item.source is None:
            archive.file(path, item.data)
            return
        for place, source in files_below(item.name, item.source, PurePosixPath(path)):
            if source is None:
                archive.folder(place)
            elif str(place) in elsewhere:
                archive.file(place, b"")
            else:
                archive.copy(place, source)
    except FileExistsError as taken:
        raise UnsendableInputError(
            item.name, f"another input already has the place inputs/{taken}", hint="Give one of them a name: NAME=SOURCE."
        ) from None
    except OSError as problem:
        raise UnsendableInputError(item.name, f"{problem.strerror or problem}: {problem.filename or item.source}") from None


def too_big_file(request: CellRequest, apart: Collection[tuple[int, str]] = ()) -> tuple[str, int] | None:
    """The first file that is above a real node's own limit for one file of an archive: its name and bytes.

    What goes `apart` does not count: (an item's identity, a path below it).
    """
    for item in request.inputs:
        if item.source is None:
            sizes = [(item.name, ".", item.size)]
        else:
            sizes = [(str(file), str(inner), file.stat().st_size) for inner, file in files_below(item.name, item.source) if file]
        for name, inner, count in sizes:
            if count > _FILE_LIMIT and (id(item), inner) not in apart:
                return name, count
    return None


def _facts(request: CellRequest, nonce: str, keeps: bool) -> dict[str, str]:
    """What the wrapper has to know, as files of the payload folder."""
    options, language = request.options, request.language
    values = [item for item in request.inputs if item.kind == "value"]
    stepped = {step.name for step in request.steps}
    facts = {
        "format": int(FORMAT),
        "nonce": nonce,
        "language": language.name,
        "file": language.file,
        "filename": request.filename,
        "outputs": list(options.outputs),
        "as": options.as_,
        "show": request.shows_value,
        "value": not options.outputs,
        "max_result": options.max_result,
        "timeout": options.run_seconds,
        "args": list(options.args),
        "command": list(language.command),
        "packages": bool(options.pip),
        "keeps": keeps,
        "secrets": list(options.secret),
        "pickles": options.allow_pickle,
        "steps": [{"name": step.name, "source": step.source} for step in request.steps],
        "vars": [item.name for item in values if item.name not in stepped] if language.is_python else [],
        "text_vars": {} if language.is_python else {item.name: item.text for item in values if item.text is not None},
        "json_vars": [] if language.is_python else [item.name for item in values if item.path.endswith(".json")],
    }
    files = {"request.json": json.dumps(facts)}
    if language.wrapper == "sh":
        files["request.sh"] = _assignments(
            {
                "BM_NONCE": nonce,
                "BM_LANGUAGE": language.name,
                "BM_FILE": language.file,
                "BM_MAX_RESULT": str(options.max_result),
                "BM_TIMEOUT": f"{options.run_seconds:g}",
                "BM_COMMAND": shlex.join(language.command),
                "BM_ARGS": shlex.join(options.args),
                "BM_SECRETS": " ".join(options.secret),
            }
        )
        files["vars.sh"] = "".join(f"export {name}={shlex.quote(text or '')}\n" for name, text in facts["text_vars"].items())  # type: ignore[attr-defined]
    return files


def _assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
