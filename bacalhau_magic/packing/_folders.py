"""The one walk over a file or folder that is sent: what is in it, less what its ignore patterns leave out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import UnsendableInputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["IGNORE_FILES", "Below", "files_below"]

IGNORE_FILES = (".gitignore", ".bacalhauignore")
"""The files of patterns that a folder may have, the weaker first: both count, as git reads its own."""
_HERE = PurePosixPath(".")
_ALWAYS = (".git",)
_LARGEST = 1_000_000
"""Bytes that a file of patterns may have."""


@dataclass(slots=True)
class Below:
    """What a walk met: the bytes of its files, and the files and folders that patterns left out, as the folder calls them."""

    size: int = 0
    files: int = 0
    left_out: list[str] = field(default_factory=list)
    by: set[str] = field(default_factory=set)


def files_below(
    name: str, source: Path, place: PurePosixPath = _HERE, below: Below | None = None
) -> Iterator[tuple[PurePosixPath, Path | None]]:
    """Every folder (with None) and file below a source, by its path under `place`; `below` hears what was met.

    Links are followed inside of the folder only. Patterns are those of the folder itself and of folders in it, as gitignore(5)
    says; a file that is named itself is sent whatever they say. Raises UnsendableInputError, which names the input `name`.
    """
    met = below if below is not None else Below()
    if not source.is_dir():
        met.files, met.size = 1, _regular(name, source).st_size
        yield place, source
        return
    root = source.resolve()
    patterns = _Patterns(name)
    for here, folders, files in os.walk(source):
        inner = Path(here).relative_to(source)
        patterns.enter(inner, Path(here), root, files)
        folders[:] = sorted(one for one in folders if not _left_out(patterns, inner / one, "/", met))
        yield place / inner.as_posix(), None
        for one in folders:
            if Path(here, one).is_symlink():
                raise UnsendableInputError(name, f"{Path(here, one)} is a link to a folder", hint="Send that folder by its own name.")
        for one in sorted(file for file in files if not _left_out(patterns, inner / file, "", met)):
            file = Path(here, one)
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                raise UnsendableInputError(
                    name, f"{file} is a link that leads outside of the folder", hint="Send the file it leads to by its own name."
                )
            met.files, met.size = met.files + 1, met.size + _regular(name, file).st_size
            yield place / inner.as_posix() / one, file


def _regular(name: str, file: Path) -> os.stat_result:
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise UnsendableInputError(name, f"{file} is no regular file")
    return facts


def _left_out(patterns: _Patterns, inner: Path, end: str, met: Below) -> bool:
    by = patterns.verdict(inner, end)
    if by:
        met.left_out.append(inner.as_posix() + end)
        met.by.add(by)
    return bool(by)


class _Patterns:
    """The patterns of a folder and of those in it: the nearest that says anything of a path decides."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._specs: dict[PurePosixPath, tuple[GitIgnoreSpec, list[str]]] = {}

    def enter(self, inner: Path, folder: Path, root: Path, files: list[str]) -> None:
        """Read the patterns of a folder, and forget none: a walk comes to a folder before what is in it."""
        place = PurePosixPath(inner.as_posix())
        lines, origins = (list(_ALWAYS), [""] * len(_ALWAYS)) if place == _HERE else ([], [])
        for file in (one for one in IGNORE_FILES if one in files):
            more = self._lines(folder / file, root)
            lines += more
            origins += [file] * len(more)
        if lines:
            self._specs[place] = (self._spec(lines, folder), origins)

    def _lines(self, file: Path, root: Path) -> list[str]:
        if not file.resolve().is_relative_to(root) or _regular(self._name, file).st_size > _LARGEST:
            raise UnsendableInputError(self._name, f"{file} is no file of patterns: it leads outside of the folder, or is too long")
        # As git reads it; a name that is not UTF-8 comes from os.walk in the same form.
        return file.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("\ufeff").splitlines()

    def _spec(self, lines: list[str], folder: Path) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec

        try:
            return GitIgnoreSpec.from_lines(lines)
        except ValueError as problem:
            raise UnsendableInputError(self._name, f"a pattern in {folder} can't be read: {problem}") from None

    def verdict(self, inner: Path, end: str) -> str:
        """The file that leaves a path out, ".git" for what git itself never takes; "" where it is sent."""
        path = PurePosixPath(inner.as_posix())
        for place in path.parents:
            if place not in self._specs:
                continue
            spec, origins = self._specs[place]
            found = spec.check_file(str(path.relative_to(place)) + end)
            if found.include is not None:
                return (origins[found.index or 0] or ".git") if found.include else ""
        return ""
