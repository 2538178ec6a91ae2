"""Files, folders and addresses as inputs: looked at here, read when the job is packed."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from ._stages import InputItem
from .errors import OptionError, UnsendableInputError
from .packing import Below, files_below

__all__ = ["addressed", "placed"]

_SHOWN = 3


def addressed(name: str, url: str) -> InputItem:
    """An address that the job's node fetches itself; it lands in inputs/ by `name`, or by the address's last part."""
    last = url.rstrip("/").rpartition("/")[2].partition("?")[0]
    label = name or re.sub(r"[^\w.-]+", "-", last) or "input"
    return InputItem(label, "url", label, 0, url=url, target=f"/inputs/{label}")


def placed(name: str, source: str, target: str, folder: Path) -> tuple[list[InputItem], list[str]]:
    """Files and folders of a path or glob, relative to `folder`, and what was left out of them, in sentences.

    They land under inputs/ by their own names, or by `name`. Raises UnsendableInputError, OptionError.
    """
    place = Path(source).expanduser()
    full = place if place.is_absolute() else folder / place
    if full.exists():
        found = [full]
    elif glob.has_magic(source):
        found = [Path(path) for path in sorted(glob.glob(str(full), recursive=True))]
    else:
        found = []
    if not found:
        raise UnsendableInputError(
            name or source, f"there is no file {source}" if not glob.has_magic(source) else f"no file matches {source}"
        )
    if len(found) > 1 and name:
        raise OptionError(
            f"{name}={source} is {len(found)} files; a name can stand for one.",
            option="inputs",
            hint="Leave the name out, or name a folder.",
        )
    apart = len(found) > 1 and target
    notices: list[str] = []
    return [_file(path, name, f"{target.rstrip('/')}/{path.name}" if apart else target, notices) for path in found], notices


def _file(path: Path, name: str, target: str, notices: list[str]) -> InputItem:
    if not path.is_dir() and not path.is_file():
        raise UnsendableInputError(name or str(path), "it is neither a file nor a folder")
    own = path.resolve().name if path.name in ("", "..", ".") else path.name
    if own == ".bacalhau":
        raise UnsendableInputError(own, "that name is kept for the job's own files", hint="Give it a name: NAME=SOURCE.")
    label, below = name or own, Below()
    try:
        for _ in files_below(label, path, below=below):
            pass
    except OSError as problem:
        raise UnsendableInputError(label, f"{problem.strerror or problem}: {problem.filename or path}") from None
    if below.left_out:
        notices.append(_left_out(label, below))
    return InputItem(label, "file", label, below.size, source=path, target=target)


def _left_out(label: str, below: Below) -> str:
    """What the patterns of a folder left out. Raises UnsendableInputError where that is all that is in it."""
    by = " and ".join(sorted(below.by))
    if not below.files:
        raise UnsendableInputError(
            label,
            f"all that is in it is left out by {by}",
            hint="Send the files by their names, or write what to send into its .bacalhauignore: !*",
        )
    more = len(below.left_out) - _SHOWN
    named = ", ".join(below.left_out[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"Leaves out of {label}, by {by}: {named}."
