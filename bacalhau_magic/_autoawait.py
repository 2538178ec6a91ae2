"""An outermost `%%bacalhau` cell, and a `%bacalhau wait` or `attach` in a cell, are awaited: the kernel's event loop goes on.

IPython never awaits what a magic returns, but its transform of a magic is plain text; a public hook rewrites the outermost
one to `await …`, in a kernel with a running loop and autoawait on. Everywhere else (nested, `%%time`, in a function, plain
IPython, `%autoawait False`) the blocking magic runs.
"""

from __future__ import annotations

import ast
import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Pair(NamedTuple):
    """A magic in both its ways."""

    waiting: Callable[..., Any]
    awaited: Callable[..., Awaitable[Any]]


class AutoAwait:
    """The hook; `install` puts it into a shell, `remove` takes all of it out again. Of line magics it awaits those that begin with `verbs`."""

    def __init__(self, shell: Any, name: str, cell: Pair, line: Pair, verbs: frozenset[str]) -> None:
        self._shell = shell
        self._name = name
        self._hidden = f"_{name}_awaited"
        self._magics = {"cell": cell, "line": line}
        self._verbs = verbs
        self._prefix = f"get_ipython().run_cell_magic({name!r}, "
        self._line_prefix = f"get_ipython().run_line_magic({name!r}, "
        self._depth = 1  # the cell that loads the extension is running now

    def install(self) -> None:
        shell = self._shell
        for kind, pair in self._magics.items():
            shell.register_magic_function(pair.waiting, kind, self._name)
            shell.register_magic_function(pair.awaited, kind, self._hidden)
        shell.events.register("pre_run_cell", self._enter)
        shell.events.register("post_run_cell", self._leave)
        shell.input_transformers_post.append(self)

    def remove(self) -> None:
        shell = self._shell
        shell.events.unregister("pre_run_cell", self._enter)
        shell.events.unregister("post_run_cell", self._leave)
        shell.input_transformers_post.remove(self)
        for kind in self._magics:
            for name in (self._name, self._hidden):
                shell.magics_manager.magics[kind].pop(name, None)

    def _enter(self, _info: object) -> None:
        self._depth += 1

    def _leave(self, _result: object) -> None:
        self._depth = max(0, self._depth - 1)

    def __call__(self, lines: list[str]) -> list[str]:
        """The transformer: a call of one of our magics becomes an awaited one."""
        # An empty body is IPython's to refuse: it does so under the name that it is called by.
        if len(lines) == 1 and lines[0].startswith(self._prefix):
            if lines[0].rstrip().endswith(", '')") or not self._can_await():
                return lines
            return [f"await get_ipython().run_cell_magic({self._hidden!r}, {lines[0][len(self._prefix) :]}"]
        # A cell that turns autoawait off itself would be read with it, and run without it.
        if any(self._line_prefix in line for line in lines) and not any("autoawait" in line for line in lines) and self._can_await():
            return self._lines_awaited(lines)
        return lines

    def _lines_awaited(self, lines: list[str]) -> list[str]:
        """The line magics that wait, each statement of its own or on the right of a `=`, awaited where they stand."""
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = compile("".join(lines), "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except (SyntaxError, ValueError):
            return lines  # IPython says what is wrong with it
        made = list(lines)
        for call in _statements(tree):
            row = call.lineno - 1
            text = made[row].encode()
            before, rest = text[: call.col_offset].decode(), text[call.col_offset :].decode()
            if rest.startswith(self._line_prefix) and self._waits(call):
                made[row] = f"{before}await get_ipython().run_line_magic({self._hidden!r}, {rest[len(self._line_prefix) :]}"
        return made

    def _waits(self, call: ast.Call) -> bool:
        line = call.args[1] if len(call.args) == 2 else None
        return isinstance(line, ast.Constant) and str(line.value).split()[:1] in [[verb] for verb in self._verbs]

    def _can_await(self) -> bool:
        if self._depth or not self._shell.autoawait or getattr(self._shell, "kernel", None) is None:
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True


def _statements(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that are a statement, or all that is assigned in one, outside of functions and classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            continue
        if isinstance(child, ast.Expr | ast.Assign) and isinstance(child.value, ast.Call):
            yield child.value
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _statements(child)
