"""The packages that a cell asks for: `--pip`, a requirements file, and the PEP 723 block in the cell, as lines of requirements."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from .errors import OptionError, PackingError

__all__ = ["covered", "distribution_of", "wanted"]

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""An inline block of metadata, as PEP 723 defines it."""
_AROUND = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>|,|@)\s*")
_HASH = re.compile(r"\s--hash=\w+:[0-9a-fA-F]+")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_MOST = 1_000_000
"""Bytes of all requirements; a long file of hashes has some hundred thousand."""


def wanted(pip: Iterable[str], file: str | None, code: str, folder: Path, *, own_python: bool, pins: Iterable[str] = ()) -> tuple[str, ...]:
    """The lines of requirements of a Python cell, each once: `--pip`, the file, the cell's own block, and `pins` of packages that none of these names.

    `own_python`: the job's Python is this one in its minor version, so that `requires-python` can be checked here. Raises
    OptionError naming the option and the line, or PackingError for the block.
    """
    lines = [*_of_option(pip), *_of_file(file, folder), *_of_block(code, own_python=own_python)]
    named = {canonicalize_name(Requirement(_HASH.sub("", line)).name) for line in lines}
    lines += [_checked(pin, "--sync imports", "sync", "") for pin in pins if canonicalize_name(Requirement(pin).name) not in named]
    if sum(map(len, lines)) > _MOST:
        raise OptionError(f"The requirements are longer than {_MOST:,} characters.", option="requirements")
    return tuple(dict.fromkeys(lines))


def _of_option(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for word in _AROUND.sub(r"\1", text).split() if ";" not in text else [text]:
            yield _checked(word, "--pip", "pip", "Packages stand with spaces between them, as in --pip 'numpy pandas==2.2'.")


def _of_file(name: str | None, folder: Path) -> Iterator[str]:
    if name is not None:
        yield from _lines(folder / Path(name).expanduser(), name, frozenset())


def _lines(file: Path, name: str, above: frozenset[Path]) -> Iterator[str]:
    """The requirements of a file and of those that it names with -r."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is no text"
        raise OptionError(f"--requirements: {name} can't be read ({reason}).", option="requirements") from None
    if file.resolve() in above:
        raise OptionError(f"--requirements: {name} names itself.", option="requirements")
    for number, line in enumerate(text.replace("\\\n", " ").split("\n"), 1):
        line = _COMMENT.sub("", line).strip()
        if not line:
            continue
        if other := re.fullmatch(r"(?:-r|--requirement)[\s=]*(.+)", line):
            yield from _lines(file.parent / other[1], other[1], above | {file.resolve()})
            continue
        where = f"--requirements {name}, line {number}"
        if line.startswith("-"):
            option = line.split("=")[0].split()[0]
            hint = "An index is configured for pip itself (pip config set, or its variables), and stays out of the job."
            raise OptionError(f"{where}: {option} can't go with the job.", option="requirements", hint=hint)
        yield _checked(line, where, "requirements", "A line is a package with its version, as in numpy==2.2.")


def _of_block(code: str, *, own_python: bool) -> Iterator[str]:
    blocks = [match for match in _BLOCK.finditer(code if code.endswith("\n") else code + "\n") if match["type"] == "script"]
    if len(blocks) > 1:
        raise PackingError("The cell has more than one script block.", hint="PEP 723 allows one: # /// script … # ///.")
    for block in blocks:
        content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in block["content"].splitlines(keepends=True))
        try:
            facts = tomllib.loads(content)
        except tomllib.TOMLDecodeError as problem:
            raise PackingError(f"The cell's script block can't be read: {problem}.") from None
        listed = facts.get("dependencies", [])
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise PackingError("The cell's script block: dependencies must be a list of texts.")
        if own_python:
            _check_python(facts.get("requires-python", ""))
        for item in listed:
            yield _checked(item, "The cell's script block", "pip", "A dependency is a package with its version, as in numpy==2.2.")


def _check_python(asked: object) -> None:
    here = "{}.{}".format(*sys.version_info[:2])
    try:
        if not isinstance(asked, str):
            raise InvalidSpecifier
        fits = SpecifierSet(asked).contains("{}.{}.{}".format(*sys.version_info[:3]), prereleases=True)
    except InvalidSpecifier:
        raise PackingError(f"The cell's script block: requires-python can't be read: {asked!r}.") from None
    if not fits:
        raise PackingError(
            f"The cell's script block asks for Python {asked}, and the cell would run with {here}.", hint="Choose an --image that has it."
        )


def _checked(line: str, where: str, option: str, hint: str) -> str:
    """A requirement that may travel: no path of this machine, no password, no option."""
    bare = _HASH.sub("", line).strip()
    try:
        requirement = Requirement(bare)
    except InvalidRequirement:
        if bare.startswith((".", "/", "~")) or "\\" in bare or bare.endswith((".whl", ".tar.gz", ".zip")):
            raise OptionError(
                f"{where}: {_shown(bare)} is a path of this machine.", option=option, hint="Send a module with -i ./FOLDER."
            ) from None
        raise OptionError(f"{where}: {_shown(bare)} is no package.", option=option, hint=hint) from None
    if requirement.url:
        url = urlsplit(requirement.url)
        if url.username or url.password:
            raise OptionError(
                f"{where}: the address of {requirement.name} holds a password, which everybody who may read the job could read.",
                option=option,
                hint="Take it out; pip's own configuration or a keyring can hold it.",
            )
        if url.scheme in ("", "file") or url.scheme.endswith("+file"):
            raise OptionError(f"{where}: {requirement.name} lies on this machine.", option=option, hint="Send a module with -i ./FOLDER.")
    return " ".join(line.split())


def _shown(text: str) -> str:
    """A word for an error; what may be a password is left out."""
    return repr(re.sub(r"//[^/@\s]*@", "//", text)[:80])


# What is installed under which name


_OTHER_NAMES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@cache
def _installed() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def distribution_of(module: str) -> str:
    """The package that brings a top-level module: as it is installed here, else the best guess."""
    return _OTHER_NAMES.get(module) or next(iter(_installed().get(module, ())), module)


def covered(module: str, lines: Iterable[str]) -> bool:
    """Whether requirements bring a top-level module, as far as it can be told here: themselves or by what they need."""
    asked = {canonicalize_name(Requirement(_HASH.sub("", line)).name) for line in lines}
    return any(canonicalize_name(name) in _with_needs(asked) for name in (distribution_of(module), module))


def _with_needs(names: Iterable[str]) -> set[str]:
    """These packages and all that they need, where they are installed here."""
    found: set[str] = set()
    waiting = [str(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needs = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        waiting += [canonicalize_name(Requirement(need).name) for need in needs if "extra ==" not in need]
    return found
