"""An outermost `%%bacalhau` cell is awaited, so that the kernel's event loop goes on while the cell waits.

IPython never awaits what a magic returns, but its transform of a cell magic is plain text; a public hook rewrites the
outermost one to `await …`, in a kernel with a running loop and autoawait on. Everywhere else (nested, `%%time`, plain
IPython, `%autoawait False`) the blocking magic runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class AutoAwait:
    """The hook; `install` puts it into a shell, `remove` takes all of it out again."""

    def __init__(self, shell: Any, name: str, waiting: Callable[[str, str], Any], awaited: Callable[[str, str], Awaitable[Any]]) -> None:
        self._shell = shell
        self._name = name
        self._hidden = f"_{name}_awaited"
        self._waiting = waiting
        self._awaited = awaited
        self._prefix = f"get_ipython().run_cell_magic({name!r}, "
        self._depth = 1  # the cell that loads the extension is running now

    def install(self) -> None:
        shell = self._shell
        shell.register_magic_function(self._waiting, "cell", self._name)
        shell.register_magic_function(self._awaited, "cell", self._hidden)
        shell.events.register("pre_run_cell", self._enter)
        shell.events.register("post_run_cell", self._leave)
        shell.input_transformers_post.append(self)

    def remove(self) -> None:
        shell = self._shell
        shell.events.unregister("pre_run_cell", self._enter)
        shell.events.unregister("post_run_cell", self._leave)
        shell.input_transformers_post.remove(self)
        for name in (self._name, self._hidden):
            shell.magics_manager.magics["cell"].pop(name, None)

    def _enter(self, _info: object) -> None:
        self._depth += 1

    def _leave(self, _result: object) -> None:
        self._depth = max(0, self._depth - 1)

    def __call__(self, lines: list[str]) -> list[str]:
        """The transformer: one line that calls our cell magic becomes an awaited call."""
        # An empty body is IPython's to refuse: it does so under the name that it is called by.
        is_ours = len(lines) == 1 and lines[0].startswith(self._prefix) and not lines[0].rstrip().endswith(", '')")
        if is_ours and self._depth == 0 and self._can_await():
            return [f"await get_ipython().run_cell_magic({self._hidden!r}, {lines[0][len(self._prefix) :]}"]
        return lines

    def _can_await(self) -> bool:
        if not self._shell.autoawait or getattr(self._shell, "kernel", None) is None:
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True
