"""What the front end of an IPython shell says: who looks, and which cell runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .progress import Audience, Place


class FrontEnd:
    """The front end of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._audiences: dict[str, Audience] = {}
        """Front ends by the session that their messages name."""

    @property
    def kernel(self) -> Any:
        """The kernel of this shell; None in a terminal."""
        return getattr(self._shell, "kernel", None)

    def place(self) -> Place:
        """Where the cell runs: a live front end, a terminal, or a batch run that nobody looks at."""
        if self.kernel is None:
            return "terminal" if sys.stdout.isatty() or sys.stderr.isatty() or not _is_quiet(self._shell) else "batch"
        return "notebook" if self._parent().get("content", {}).get("allow_stdin", True) else "batch"

    def audience(self) -> Audience:
        """Who looks at the running cell; only a notebook's front end says which cell it is, a console does not."""
        from .progress import Audience

        audience = self._audiences.setdefault(str(self._parent().get("header", {}).get("session", "")), Audience())
        audience.keeps_outputs = bool(self.cell())
        return audience

    def cell(self) -> str:
        """The running cell's id, where the front end says one."""
        return str(self._parent().get("metadata", {}).get("cellId", "")) if self.kernel else ""

    def run(self) -> str:
        """What tells one run of a cell from another; "" outside of a kernel."""
        return str(self._parent().get("header", {}).get("msg_id", "")) if self.kernel else ""

    def filename(self) -> str:
        """What tracebacks call the running cell; some IPythons count on before a cell runs, some after it."""
        number = int(self._shell.execution_count)
        number -= f"_i{number}" not in self._shell.user_ns
        return f"Cell In[{number}]" if number else "cell"

    def kernel_id(self) -> str:
        """The kernel's id, which a restart keeps: its connection file's name. "" where there is none."""
        return Path(str(getattr(getattr(self.kernel, "parent", None), "connection_file", "") or "")).stem

    def _parent(self) -> Mapping[str, Any]:
        with suppress(Exception):  # a kernel of another make need not know its parent message
            return self.kernel.get_parent() or {}
        return {}


def _is_quiet(shell: Any) -> bool:
    """Whether a shell without a kernel is a script's: then nobody watches."""
    return not getattr(shell, "interact", None)
