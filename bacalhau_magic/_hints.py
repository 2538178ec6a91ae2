"""What a person is told about a cell beside its result: what a cluster would lack, and what may have been meant by an error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

from . import _cellnames
from ._causes import Cause
from ._definitions import Step
from ._languages import BUILT_IN
from ._neighbours import importing, is_module, module_beside
from ._packages import covered, distribution_of
from ._policy import Policy
from ._reading import AS_PICKLE
from ._settingkeys import shown
from ._stages import CauseFound, CellRequest, InputItem, JobEvent, JobResult, Target
from ._suggestions import suggestion
from .errors import BacalhauMagicError, CellSyntaxError, JobFailedError, MissingResultError, RemoteCellError
from .options import JobOptions, spelling, value_of

LACKS = "A cluster would lack"
_MISSING = (
    re.compile(r"No such file or directory: '([^'\n]+)'"),  # Python
    re.compile(r"ENOENT: no such file or directory, \w+ '([^'\n]+)'"),  # Node.js
    re.compile(r"'([^'\n]+)': No such file or directory$", re.MULTILINE),  # programs that Bash calls
    re.compile(r"(?:^|: )([^:'\n]+): No such file or directory$", re.MULTILINE),
)


def lacking(request: CellRequest, target: Target) -> str:
    """What the cell needs and the language's own image does not have, as one sentence; "" where an image was chosen."""
    built_in = BUILT_IN.get(request.language.name)
    chosen = request.options.image is not None or built_in is None or request.language.image != built_in.image
    if not request.language.is_python or chosen:
        return ""
    names = _lacking(request)
    if not names:
        return ""
    listed = ", ".join(names)
    if target.is_local:
        return f"{LACKS}: {listed}."
    own = {name: place for name in names if (place := _beside(name, request))}
    packages = dict.fromkeys(distribution_of(name) for name in names if name not in own)
    option = f"--pip {' '.join(packages)}" if len(packages) == 1 else f"--pip '{' '.join(packages)}'"
    ways = [f"Send {' '.join(f'-i {place}' for place in own.values())}."] if own else []
    ways += [f"Add {option}, or choose an --image that has them."] if packages else []
    return f"The image {request.language.image} lacks: {listed}. {' '.join(ways)}"


def needed(code: str, steps: Iterable[Step], inputs: Sequence[InputItem]) -> tuple[str, ...]:
    """The modules that a cell and its definitions import, and the libraries of its inputs, beyond the standard library; each once."""
    imports: list[_cellnames.Import] = []
    for source in (*(step.source for step in steps), code):
        with suppress(CellSyntaxError):
            imports += _cellnames.outside_standard_library(_cellnames.read(source).imports)
    sent = {PurePosixPath(item.path).stem for item in inputs if item.kind == "file"}
    libraries = [library for item in inputs for library in item.libraries]
    return tuple(dict.fromkeys([*(item.module for item in imports if item.module not in sent), *libraries]))


def _lacking(request: CellRequest) -> list[str]:
    """What the cell needs beyond its packages."""
    wanted = needed(request.code, request.steps, request.inputs)
    return [name for name in wanted if not request.options.pip or not covered(name, request.options.pip)]


def forgotten(result: JobResult, request: CellRequest) -> str:
    """That what the cell assigned stays in the job, where that is all that it did: nothing was asked for, nothing came back."""
    brought = result.has_value or result.mime or result.displays or result.stdout or result.stderr or result.files
    if brought or result.error or request.options.outputs or not request.language.is_python:
        return ""
    with suppress(CellSyntaxError):
        names = [name for name in _cellnames.read(request.code).assigns if not name.startswith("_")]
        if names:
            return f"What the cell assigned stays in the job: `-o {names[-1]}` brings {names[-1]} back."
    return ""


def advise(result: JobResult, request: CellRequest, target: Target, policy: Policy) -> None:
    """Give the error of a cell its line's text, and the hint that helps with what was not found, as far as there is one."""
    error = result.error
    if isinstance(error, JobFailedError) and error.line:
        lines = request.code.split("\n")
        error.source = lines[error.line - 1].strip() if error.line <= len(lines) else ""
    if isinstance(error, RemoteCellError) and not error.hint:
        hints = (_about_module(error, request), _about_name(error, request), _about_network(error.evalue, request))
        error.hint = next(filter(None, hints), "") or _about_file(error.evalue, request, target)
    elif isinstance(error, JobFailedError) and not error.hint and error.exit_code:
        error.hint = _about_file(error.stderr_tail, request, target)
    elif isinstance(error, MissingResultError) and request.language.is_python:
        error.hint = _about_result(error.name, request.code) or error.hint
    if isinstance(error, BacalhauMagicError):
        error.hint = within(error.hint, request.options, policy)


_ADVISED = re.compile(r"--(timeout|queue-timeout|memory|disk|max-result)\b(?: (\d[\d.]*\w+))?")
_MORE = {"timeout": "time", "queue_timeout": "time in the queue", "max_result": "room for a result"}
_DAY = 86400.0


def within(hint: str, options: JobOptions, policy: Policy) -> str:
    """Advice as the policy allows it: an amount above its limit becomes the limit; where that is used up already it says so."""
    for advised in _ADVISED.finditer(hint):
        name = advised[1].replace("-", "_")
        most = policy.max.get(name)
        if most is None:
            continue
        used = options.amount(name)
        if used is not None and used >= most:
            return f"The policy allows no more {_MORE.get(name, name)}. {policy.message}".rstrip()
        # A hint may be the server's own words, and its amount none that an option takes.
        with suppress(ValueError):
            if advised[2] and value_of(name, advised[2]) > most:
                hint = hint.replace(advised[0], f"{spelling(name)} {shown(name, most)}")
    if policy.locked.get("allow_pickle") is False:
        hint = hint.replace(AS_PICKLE, "")
    return hint.replace(", or --long for hours", "") if policy.max.get("timeout", _DAY) < _DAY else hint


def advised(cause: Cause, options: JobOptions, policy: Policy) -> Cause:
    """A cause whose advice keeps within the policy, for a job of these options."""
    return replace(cause, advice=within(cause.advice, options, policy))


def advising(emit: Callable[[JobEvent], None], options: JobOptions, policy: Policy) -> Callable[[JobEvent], None]:
    """`emit`, with the advice of causes kept within the policy."""
    return lambda event: emit(CauseFound(advised(event.cause, options, policy)) if isinstance(event, CauseFound) else event)


def _about_result(name: str, code: str) -> str:
    """The name that the cell binds and that was perhaps meant; "" for a name that it binds, though not in this run."""
    try:
        binds = _cellnames.read(code).binds
    except CellSyntaxError:
        return ""
    return "" if name in binds else suggestion(name, binds, written="-o {}")


_NO_NAME = re.compile(r"name '(\w+)' is not defined|(\w+) is not defined")
_NO_NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Network is unreachable|getaddrinfo (EAI_AGAIN|ENOTFOUND)|nodename nor servname"
)


def _about_name(error: RemoteCellError, request: CellRequest) -> str:
    """How a variable of the notebook would have come with the cell, or where what was sent by that name is."""
    found = _NO_NAME.match(error.evalue) if error.ename in ("NameError", "ReferenceError") else None
    if found is None:
        return ""
    name = found[1] or found[2]
    sent = next((item for item in request.inputs if item.name == name), None)
    if sent is not None and (sent.kind != "value" or not request.language.is_python):
        return f"It was sent as a file: open {sent.target or f'inputs/{sent.path}'}."
    if request.language.is_python and "auto" in request.options.inputs and name in _read(request.code):
        return f"The notebook has no {name} either, so -i auto sent none."
    return f"A job knows only what is sent: -i {name} sends the notebook's {name}."


def _read(code: str) -> Sequence[str]:
    """The names that a cell reads of its surroundings."""
    with suppress(CellSyntaxError):
        return _cellnames.read(code).reads
    return ()


def _about_network(said: str, request: CellRequest) -> str:
    """That the job had no network, where it looked for one."""
    if request.options.network != "none" or not _NO_NETWORK.search(said):
        return ""
    return "A job has no network unless it asks: --network full."


_NO_MODULE = re.compile(
    r"No module named '([\w.]+)'|: cannot import name '\w+' from '([\w.]+)'|The input \S+ needs ([\w.]+), which is not installed"
)


def _about_module(error: RemoteCellError, request: CellRequest) -> str:
    """How a module that was not there would have come: by an option, or sent and found, where it is one of the notebook's own."""
    found = _NO_MODULE.search(error.evalue) if error.ename == "ModuleNotFoundError" else None
    if found is None or not request.language.is_python:
        return ""
    module, _, inner = (found[1] or found[2] or found[3]).partition(".")
    if module in sys.stdlib_module_names:
        return ""
    sent = next((place for item in request.inputs if (place := _importable(item, module))), None)
    # A definition comes before the cell's first line, so that it can't find what that line makes findable.
    where = "the function that uses it, or the cell instead of -i," if "be defined where the cell runs" in error.evalue else "the cell"
    if sent is not None:
        return "" if inner else f"It was sent as {sent}: {where} imports it by {importing(module, str(sent.parent))}"
    if beside := _beside(module, request):
        return f"{beside[2:]} lies beside the notebook: -i {beside} sends it, and {where} imports it by {importing(module)}"
    return f"Add --pip {distribution_of(module)}, or choose an --image that has it."


def _importable(item: InputItem, module: str) -> PurePosixPath | None:
    """Where an input lies in the job, if that module can be imported from there; None for any other input."""
    place = PurePosixPath(item.target or f"inputs/{item.path}")
    if item.source is None or not is_module(item.source):
        return None
    return place if place.name == (module if item.source.is_dir() else f"{module}.py") else None


def _beside(module: str, request: CellRequest) -> str:
    """The path of a module that lies beside the notebook; "" where none does."""
    return module_beside(module, request.folder) if request.folder is not None else ""


def _about_file(said: str, request: CellRequest, target: Target) -> str:
    found = next((match for pattern in _MISSING if (match := pattern.search(said))), None)
    if found is None:
        return ""
    path = found[1]
    top = PurePosixPath(path).parts[:2]
    if target.executor == "process" and top in (("/", "outputs"), ("/", "inputs")):
        return f"The local node has no {path} here: write {path.lstrip('/')}, in the cell's working folder."
    name = PurePosixPath(path).name
    if any(item.path == name for item in request.inputs):
        return f"It was sent: open inputs/{name}."
    if request.folder is not None and not PurePosixPath(path).is_absolute() and (request.folder / path).exists():
        return f"{path} lies beside the notebook, and the job has only what it is sent: -i ./{path}, then open inputs/{name}."
    return ""
