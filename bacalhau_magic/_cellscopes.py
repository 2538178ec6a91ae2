"""Which of a cell's names are the notebook's: its top level followed in the order in which it runs."""

# The node visitor's names are given by ast.
# ruff: noqa: N815

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Sequence
from typing import Any

__all__ = ["Walk"]

# Names that every module or notebook has, and that nobody means to send.
_GIVEN = frozenset(dir(builtins)) | {
    *("__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__loader__", "__package__", "__annotations__", "__class__"),
    *("get_ipython", "display", "In", "Out", "exit", "quit"),
}


class _ClassScope(set[str]):
    """A class body's names, which its methods do not see."""


class Walk(ast.NodeVisitor):
    """Follows the cell's top level in the order in which it runs.

    `bound` are names that are bound for certain at the present place, so that a read of another name is a read of the
    notebook's global. A function's body runs later, when the whole cell may have bound its names: its reads wait in
    `later` until the end.
    """

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.ever: dict[str, None] = {}
        self.bound: set[str] = set()
        self.stars: list[str] = []
        self.later: list[str] = []
        self.locals: list[set[str]] = []
        """Names of the comprehensions and class bodies around the present place."""

    def settle(self) -> None:
        """Count what the functions read that the cell never binds; to be called once, at the end."""
        for name in self.later:
            if name not in self.ever and name not in _GIVEN:
                self.reads.setdefault(name)

    def block(self, body: Sequence[ast.AST]) -> None:
        """Follow statements or expressions one after the other."""
        for node in body:
            self.visit(node)

    def _read(self, name: str) -> None:
        if any(name in scope for scope in self.locals) or name in self.bound or name in _GIVEN:
            return
        self.reads.setdefault(name)

    def _bind(self, name: str) -> None:
        if self.locals:
            self.locals[-1].add(name)
            return
        self.bound.add(name)
        self.ever.setdefault(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        else:
            self._read(node.id)
            self.bound.discard(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        self.block(node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        # In a comprehension it binds in the scope around it.
        kept, self.locals = self.locals, [scope for scope in self.locals if isinstance(scope, _ClassScope)]
        self.visit(node.target)
        self.locals = kept

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(node.module or ".")
            else:
                self._bind(alias.asname or alias.name)

    def _branches(self, *branches: Sequence[ast.AST]) -> None:
        """Bodies of which one runs: for certain bound is only what all of them bind."""
        before, after = set(self.bound), []
        for body in branches:
            self.bound = set(before)
            self.block(body)
            if not (body and isinstance(body[-1], ast.Raise)):
                after.append(self.bound)
        self.bound = set.intersection(*after) if after else before

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches(node.body, node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._branches([node.body], [node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._branches(node.values[1:], [])

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._branches(node.body, [])
        self._branches(node.orelse, [])

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._branches([node.target, *node.body], [])
        self._branches(node.orelse, [])

    visit_For = _for
    visit_AsyncFor = _for

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        before = set(self.bound)
        self.block([*node.body, *node.orelse])
        whole = [self.bound]
        for handler in node.handlers:
            self.bound = set(before)
            self.visit(handler)
            if not isinstance(handler.body[-1], ast.Raise):
                whole.append(self.bound)
        self.bound = set.intersection(*whole)
        if node.finalbody:
            sure, self.bound = self.bound, before & self.bound
            self.block(node.finalbody)
            self.bound |= sure

    visit_Try = _try
    visit_TryStar = _try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        if node.name:
            self._bind(node.name)
        self.block(node.body)
        if node.name and not self.locals:
            self.bound.discard(node.name)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._branches([], *([case] for case in node.cases))

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.pattern:
            self.visit(node.pattern)
        if node.name:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self._bind(node.rest)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        first = node.generators[0]
        self.visit(first.iter)
        self.locals.append(set())
        for generator in node.generators:
            if generator is not first:
                self.visit(generator.iter)
            self.visit(generator.target)
            self.block(generator.ifs)
        self.block([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self.locals.pop()

    visit_ListComp = _comprehension
    visit_SetComp = _comprehension
    visit_DictComp = _comprehension
    visit_GeneratorExp = _comprehension

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        if not isinstance(node, ast.Lambda):
            self.block(node.decorator_list)
        arguments = node.args
        self.block([*arguments.defaults, *(default for default in arguments.kw_defaults if default)])
        if not isinstance(node, ast.Lambda):
            annotated = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            parameters = {p.name for p in getattr(node, "type_params", [])}
            self.locals.append(parameters)
            self.block([a.annotation for a in annotated if a and a.annotation] + ([node.returns] if node.returns else []))
            self.locals.pop()
            self._bind(node.name)
        self._wait(node)

    def _wait(self, node: ast.AST) -> None:
        """Keep a function's global reads for the end, and note what it binds by `global`."""
        reads, binds = _globals_of(node)
        outer: set[str] = set().union(*(scope for scope in self.locals if not isinstance(scope, _ClassScope)))
        self.later += [name for name in reads if name not in outer]
        for name in binds:
            self.ever.setdefault(name)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function
    visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.block(node.decorator_list)
        parameters = {p.name for p in getattr(node, "type_params", [])}
        self.locals.append(parameters)
        self.block([*node.bases, *node.keywords])
        self.locals.append(_ClassScope())
        self.block(node.body)
        self.locals.pop()
        self.locals.pop()
        self._bind(node.name)

    def visit_TypeAlias(self, node: Any) -> None:
        self.locals.append({p.name for p in node.type_params})
        self.visit(node.value)
        self.locals.pop()
        self.visit(node.name)


def _globals_of(node: ast.AST) -> tuple[list[str], list[str]]:
    """The globals that a function's body reads, and those that it binds by `global`."""
    # Symbol tables know Python's scopes exactly; they want text, so the one node is written out as a module.
    function = ast.fix_missing_locations(ast.Module([ast.Expr(node) if isinstance(node, ast.Lambda) else _bare(node)], []))
    top = symtable.symtable(ast.unparse(function), "cell", "exec")
    reads: list[str] = []
    binds: list[str] = []
    waiting = list(top.get_children())
    while waiting:
        table = waiting.pop(0)
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                reads.append(symbol.get_name())
            if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                binds.append(symbol.get_name())
    return reads, binds


def _bare(node: ast.AST) -> ast.stmt:
    """A function without its decorators, defaults and annotations, which run outside of it."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return type(node)(**{**{name: getattr(node, name) for name in node._fields if hasattr(node, name)}, "decorator_list": []})
