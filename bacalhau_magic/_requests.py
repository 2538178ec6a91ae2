"""A cell, its options and its inputs, read into a CellRequest: all that may be wrong is found here, before anything is sent."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import _argspec, _secrets, _settings
from ._cellnames import CellNames, read
from ._namespace import capture
from ._stages import CellRequest
from ._surroundings import Surroundings
from .client import check_directory
from .errors import CellSyntaxError, OptionError
from .options import JobOptions


def request(
    code: str, options: JobOptions, settings: _settings.Settings, around: Surroundings, folder: Path, namespace: Mapping[str, Any]
) -> CellRequest:
    """Read a cell with its options; relative paths start from `folder`, inputs come from `namespace`.

    Raises OptionError, PackingError, UnsendableInputError, ConfigError.
    """
    complete, limits = settings.apply(options)
    checked = _argspec.check(complete, settings.languages, strict=settings.strict)
    language, complete = checked.language, checked.options
    if not code.strip():
        raise OptionError("The cell is empty.", hint="Write the code that is to run.")
    shows = not (language.is_python and _shape(code, complete).hidden)
    env = _variables(complete, folder)
    captured = capture(code, complete, language, namespace, folder)
    made = CellRequest(
        code=code,
        options=complete,
        language=language,
        inputs=captured.items,
        steps=captured.steps,
        env=env,
        secrets=_secrets.found(complete.secret),
        notebook=around.notebook(),
        cell=around.cell(),
        interpreter=sys.executable,
        filename=around.filename(),
        files=check_directory(folder / Path(complete.files).expanduser()) if complete.files else None,
        folder=folder,
        shows_value=shows,
        notices=(*limits, *checked.notices, *captured.notices),
        origins=settings.origins,
    )
    return _with_packages(made, settings, folder) if language.is_python else made


def _with_packages(request: CellRequest, settings: _settings.Settings, folder: Path) -> CellRequest:
    """The request with all packages that its cell asks for in `pip`: also those of its file, its script block and `--sync`."""
    options = request.options
    pinned: tuple[str, ...] = ()
    if options.sync == "imports":
        from . import _hints, _pins

        pinned = _pins.pins(_hints.needed(request.code, request.steps, request.inputs), folder)
    lines = _lines(options, request.code, folder, pinned)
    settings.check_packages(lines)
    kept = [line for line in lines if line in pinned]
    said = (f"Installs what is imported in the versions of here: {', '.join(kept)}.",) if kept else ()
    return replace(request, options=options.with_values(pip=lines), notices=(*request.notices, *said))


def _lines(options: JobOptions, code: str, folder: Path, pinned: tuple[str, ...]) -> tuple[str, ...]:
    if not options.pip and not pinned and options.requirements is None and "# /// script" not in code:
        return ()
    from ._packages import wanted

    lines = wanted(options.pip, options.requirements, code, folder, pins=pinned, own_python=options.image is None)
    if lines and options.network == "none" and "network" in options.asked:
        raise OptionError(
            "--network none can't be kept: the cell asks for packages, which come over the network.",
            option="network",
            hint="Leave --network out: on this machine the cell itself gets no network; or choose an --image that has the packages.",
        )
    return lines


def _shape(code: str, options: JobOptions) -> CellNames:
    """What a Python cell's text tells. With a chosen image its syntax is that Python's matter, and found in the job."""
    try:
        return read(code)
    except CellSyntaxError:
        if options.image is None:
            raise
        return CellNames()


def _variables(options: JobOptions, folder: Path) -> dict[str, str]:
    """The job's variables: the file's, and above them `--env`. None of them may be one of its secrets too."""
    if options.env_file is None:
        return dict(options.env)
    path = folder / Path(options.env_file).expanduser()
    if not path.is_file():
        raise OptionError(f"--env-file: there is no file {options.env_file}.", option="env_file")
    from dotenv import dotenv_values

    values = {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
    variables = {**_argspec.from_call({"env": values}).env, **options.env}
    if both := sorted(set(options.secret) & set(variables)):
        raise OptionError(f"--secret {both[0]}: --env-file sets it too, and in clear.", option="secret", hint="Leave one of the two out.")
    return variables
