"""The verb for the policy: what it says, and which cells of a notebook it would refuse, found without running them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _argspec
from ._packages import wanted
from ._session import no_recordings
from ._settingkeys import shown
from ._tables import Report, Table
from .errors import BacalhauMagicError, OptionError
from .options import JobOptions, plain_name

if TYPE_CHECKING:
    from ._session import Session
    from ._settings import Settings

__all__ = ["Finding", "check", "findings", "policy"]

_MAGIC = "%%bacalhau"
_CARRIERS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%memit")
"""Cell magics that run what stands below them as a cell, with its own magic."""
_CALLS = ("run", "submit")
_LARGEST = 100_000_000
_TAPE = re.compile(r"^\s*(%bacalhau (record|replay)\b.*)", re.MULTILINE)
_VARIABLE = re.compile(r"--?[A-Za-z][\w-]*[ =]\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A cell that would be refused: its number among all cells, from 1, the line of it, and the reason."""

    cell: int
    line: str
    reason: str


def policy(session: Session, words: list[str]) -> Report | Table:
    """What the policy allows; `check NOTEBOOK` lists the cells that would be refused under it, without running any."""
    if words[:1] == ["check"] and len(words) == 2:
        return check(session.settings, session.here / Path(words[1]).expanduser())
    if words:
        raise OptionError("%bacalhau policy takes nothing more, or check NOTEBOOK.", option="policy")
    found = session.settings.policy
    facts = {f"at most {plain_name(name)}": shown(name, value) for name, value in found.max.items()}
    facts |= {f"allowed {plain_name(name)}": ", ".join(shown(name, value) for value in values) for name, values in found.allowed.items()}
    facts |= {f"locked {plain_name(name)}": shown(name, value) for name, value in found.locked.items()}
    notes = [found.message] if found.message else []
    return Report(f"policy {found.origin}" if found.origin else "No policy is in force.", facts, tuple(notes))


def check(settings: Settings, notebook: Path) -> Table:
    """The cells of a notebook that would be refused, as a table. Raises OptionError for a file that is no notebook."""
    found, cells = findings(settings, notebook)
    rows = tuple((finding.cell, finding.line, finding.reason) for finding in found)
    under = f"the policy {settings.policy.origin}" if settings.policy.origin else "no policy"
    count = f"{len({finding.cell for finding in found})} of {cells} cells that run elsewhere would be refused under {under}."
    return Table(("cell", "line", "reason"), rows, "All cells may run.", (count,))


def findings(settings: Settings, notebook: Path) -> tuple[list[Finding], int]:
    """What would be refused in a notebook, and how many of its cells send a job. Raises OptionError."""
    found: list[Finding] = []
    cells = 0
    for number, source in _sources(notebook):
        asked, taped = list(_asked(source)), [] if settings.recordings else _TAPE.findall(source)
        cells += bool(asked or taped)
        for line, verb in taped:
            found.append(Finding(number, line[:80], str(no_recordings(settings, f"%bacalhau {verb}"))))
        for line, options in asked:
            try:
                _try(settings, options, source, notebook.parent)
            except BacalhauMagicError as problem:
                found.append(Finding(number, line[:80], " ".join(str(problem).split())))
    return found, cells


def _sources(notebook: Path) -> Iterator[tuple[int, str]]:
    """The code cells' numbers and texts."""
    try:
        if notebook.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        cells = json.loads(notebook.read_bytes())["cells"]
        for number, cell in enumerate(cells, 1):
            if cell["cell_type"] == "code":
                source = cell["source"]
                yield number, "".join(source) if isinstance(source, list) else str(source)
    except OSError as problem:
        raise OptionError(f"{notebook} can't be read ({problem.strerror}).", option="policy") from None
    except (ValueError, LookupError, TypeError, RecursionError, UnicodeDecodeError):
        raise OptionError(f"{notebook.name} is no notebook.", option="policy", hint="It wants an .ipynb file of format 4.") from None


def _asked(source: str) -> Iterator[tuple[str, str | Mapping[str, Any]]]:
    """(what stands there, the line or the call's options) of everything in a cell that sends a job."""
    first, _, below = source.lstrip().partition("\n")
    while first.split(maxsplit=1)[:1] and first.split(maxsplit=1)[0] in _CARRIERS:
        first, _, below = below.lstrip().partition("\n")
    if first.split(maxsplit=1)[:1] == [_MAGIC]:
        yield first, first.removeprefix(_MAGIC)
        return
    try:
        tree = ast.parse("\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")))
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _CALLS:
            yield ast.unparse(node).split("\n")[0], dict(_constants(node))


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def _constants(call: ast.Call) -> Iterator[tuple[str, Any]]:
    """The options of a call that are written out; others are known only when it runs."""
    for keyword in call.keywords:
        if keyword.arg in {plain_name(name) for name in JobOptions.model_fields}:
            try:
                yield keyword.arg, ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, RecursionError):
                continue


def _try(settings: Settings, asked: str | Mapping[str, Any], source: str, folder: Path) -> None:
    """Raises what the cell would be refused with before anything is sent, as far as its text tells."""
    # A variable's value as an option's is known only when the notebook runs.
    options = _argspec.parse(_VARIABLE.sub("", asked), {}) if isinstance(asked, str) else _argspec.from_call(asked)
    whole, _ = settings.apply(options)
    checked = _argspec.check(whole, settings.languages, strict=settings.strict)
    if not settings.recordings and (whole.cache or whole.refresh):
        raise no_recordings(settings, "--refresh" if whole.refresh else "--cache")
    if "pip" in settings.policy.locked and checked.language.is_python:
        code = source if isinstance(asked, str) else ""
        settings.check_packages(wanted(whole.pip, whole.requirements, code, folder, own_python=whole.image is None))
