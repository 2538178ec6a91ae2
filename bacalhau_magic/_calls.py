"""`run()` and `submit()`: a cell as a text or a function, sent from Python without a magic."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from . import _argspec
from ._definitions import partial_of
from ._job import RemoteJob
from ._session import session
from .errors import OptionError
from .options import JobOptions, value_of

Cell = str | Callable[..., Any]
"""What run() and submit() take: a cell's text, or a function."""


def run(code: Cell, /, *arguments: Any, **options: Any) -> Any:
    """Run a cell elsewhere and return its value, or, with `outputs`, a dict of these names.

    A function is sent by its source and called with the `arguments` there (keyword arguments by functools.partial).
    Options are those of `%%bacalhau`. Raises errors of `bacalhau_magic.errors`; a remote exception of a plain
    built-in class can be caught as that class.
    """
    return session().run(*_called(code, arguments, options))


def submit(code: Cell, /, *arguments: Any, **options: Any) -> RemoteJob:
    """Send a cell, or a function with its arguments, and return its RemoteJob as soon as the node has it."""
    return session().submit(*_called(code, arguments, {"bg": True, **options}))


def _called(code: Cell, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[str, JobOptions]:
    """The cell's text and its options: a function becomes an input, and a cell that calls it."""
    if isinstance(code, str):
        if arguments:
            raise OptionError("Arguments go with a function, and the cell is a text.", hint="Name the values: inputs={'x': x}.")
        return code, _argspec.from_call(options)
    if not callable(code):
        raise OptionError(f"The cell must be a text or a function, not {type(code).__name__}.", hint="For example run('21 * 2').")
    function, held, keywords = partial_of(code)
    name = getattr(function, "__name__", "")
    name = name if name.isidentifier() else "function"
    given = options.pop("inputs", None) or options.pop("input", None) or ()
    own = ((name, function), ("_arguments", (*held, *arguments)), ("_keywords", keywords))
    try:
        asked = _argspec.from_call({**options, "inputs": (*value_of("inputs", given), *own)})
    except OptionError as problem:
        if problem.message.startswith("There is no option"):
            problem.hint = f"Arguments by name go with the function: functools.partial({name}, {problem.option}=…). {problem.hint}"
        raise
    if asked.lang != "python":
        raise OptionError(f"A function runs in Python, not in {asked.lang}.", option="lang", hint="Leave lang out.")
    wait = "await " if inspect.iscoroutinefunction(function) else ""
    return f"{wait}{name}(*_arguments, **_keywords)", asked
