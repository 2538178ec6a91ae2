"""A folder as a path whose repr draws what lies in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ._placement import size
from .client import clean

__all__ = ["FileTree", "listed", "tree"]

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # the platform's own kind, which a subclass has to be of before Python 3.12

_LINES = 60
"""Lines that are drawn of a tree at most."""


class FileTree(_Path):
    """A folder: a path in every way, and its repr is the tree of its files with their sizes; hidden files are left out.

    `only` are the paths below it that are drawn; None draws them all. `left_out` is what was to come and is not there.
    """

    only: Collection[Path] | None = None
    left_out: Sequence[str] = ()

    def __repr__(self) -> str:
        try:
            if not self.is_dir():
                return repr(Path(self))
            lines = _cut(_lines(Path(self), self.only))
        except OSError:
            return repr(Path(self))
        left = [f"left out, being no regular files, or closed: {listed(self.left_out)}"] if self.left_out else []
        return "\n".join([f"{clean(str(self))}/", *(lines or ["└── (no files)"]), *left])

    def __reduce__(self) -> tuple[Any, ...]:
        return Path, (str(self),)


def listed(names: Sequence[str]) -> str:
    """The first names, as text that is safe to show, and how many more there are."""
    return ", ".join(clean(name, 60) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def tree(folder: Path, names: Collection[str], left_out: Sequence[str] = ()) -> FileTree:
    """A folder whose repr draws the files of these names, relative to it, and nothing else that lies there."""
    found = FileTree(folder)
    paths = [PurePosixPath(name) for name in names]
    found.only = {folder / path for name in paths for path in (name, *name.parents)}
    found.left_out = left_out
    return found


def _lines(folder: Path, only: Collection[Path] | None) -> Iterator[str]:
    """Each line of the tree; a stack and no recursion, because folders can be as deep as a path is long."""
    open_ = [_branches(folder, "", only)]
    while open_:
        found = next(open_[-1], None)
        if found is None:
            open_.pop()
            continue
        path, line, stem = found
        if path.is_dir() and not path.is_symlink():
            yield f"{line}/"
            open_.append(_branches(path, stem, only))
        else:
            yield f"{line} ({size(path.lstat().st_size)})"


def _branches(folder: Path, indent: str, only: Collection[Path] | None) -> Iterator[tuple[Path, str, str]]:
    """What lies in a folder: the path, its line up to its name, and how the lines below it begin."""
    there = (path for path in folder.iterdir() if not path.name.startswith(".") and (only is None or path in only))
    found = sorted(there, key=lambda path: path.name)
    for number, path in enumerate(found, 1):
        branch, stem = ("└── ", "    ") if number == len(found) else ("├── ", "│   ")
        yield path, f"{indent}{branch}{clean(path.name)}", indent + stem


def _cut(lines: Iterator[str]) -> list[str]:
    drawn: list[str] = []
    more = 0
    for line in lines:
        if len(drawn) < _LINES:
            drawn.append(line)
        else:
            more += 1
    return [*drawn, f"… and {more} more"] if more else drawn
