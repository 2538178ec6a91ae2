"""bacalhau_magic: a notebook cell that runs elsewhere and comes back as a value.

`%load_ext bacalhau_magic` brings `%%bacalhau` and `%bacalhau`; `run`, `submit` and `attach` do the same from Python.
Importing this costs nothing: the rest is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from ._calls import run, submit
    from ._job import RemoteJob
    from ._jobs import attach
    from ._reading import read_value
    from .options import JobOptions

__all__ = [
    "JobOptions",
    "RemoteJob",
    "attach",
    "errors",
    "load_ipython_extension",
    "read_value",
    "run",
    "submit",
    "unload_ipython_extension",
]

_HOMES = {
    "run": "_calls",
    "submit": "_calls",
    "attach": "_jobs",
    "read_value": "_reading",
    "RemoteJob": "_job",
    "JobOptions": "options",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("bacalhau_magic")
    if name == "errors":
        return import_module(".errors", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext bacalhau_magic`: adds the cell magic `%%bacalhau` and the line magic `%bacalhau`."""
    from ._magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext bacalhau_magic`: takes both magics and their hooks out again; jobs go on."""
    from ._magics import unload

    unload(shell)
