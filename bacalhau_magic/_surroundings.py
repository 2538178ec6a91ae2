"""Where the cells of a process come from, and how what becomes of them is shown there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._display import Display
from .errors import ConfigError
from .progress import Audience, Place


@dataclass
class Surroundings:
    """Where the cells come from: the kernel's id, the cell's id and name, the place that shows progress, and how.

    `_magics` fills it in; without a shell it is a script's or a terminal's.
    """

    cell: Callable[[], str] = lambda: ""
    filename: Callable[[], str] = lambda: "cell"
    kernel: Callable[[], str] = lambda: ""
    place: Callable[[], Place] = lambda: "terminal" if sys.stderr.isatty() else "batch"
    audience: Callable[[], Audience] = Audience
    namespace: MutableMapping[str, Any] = field(default_factory=lambda: sys.modules["__main__"].__dict__)
    tell: Callable[[str], None] = lambda sentence: _told(sentence)
    """Shows what is going on, in one line that the next one replaces; "" takes it away."""
    display: Display = field(default_factory=Display)
    ask: Callable[[str], str] = lambda prompt: _asked_unseen(prompt)
    """Asks the user for a secret, without echo; raises EOFError where nobody can be asked."""
    folder: Path = field(default_factory=lambda: current_folder())
    """The current folder when this began, whatever a cell does later."""

    def notebook(self) -> str:
        """What tells notebooks apart: the server's session name, VS Code's file, else folder and kernel (or process)."""
        file = str(self.namespace.get("__vsc_ipynb_file__") or "")
        return os.environ.get("JPY_SESSION_NAME") or file or f"{self.folder}:{self.kernel() or os.getpid()}"


def current_folder() -> Path:
    """The process's current folder. Raises ConfigError where it is there no more."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "The current folder is gone: it was removed.", hint="Go to one that is there, as by %cd ~ or os.chdir()."
        ) from None


def _told(sentence: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{sentence[:120]}")
        sys.stderr.flush()


def _asked_unseen(prompt: str) -> str:
    import getpass
    import warnings

    with warnings.catch_warnings():
        # Without a terminal getpass would read with echo, and only warn.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except (getpass.GetPassWarning, NotImplementedError, OSError) as problem:
            raise EOFError(str(problem)) from None
