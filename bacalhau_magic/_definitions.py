"""Functions and classes of the notebook as source, with what they refer to; modules as import lines.

Nothing is pickled: a definition is text that the job runs before the cell. What has no text of its own that means the
same elsewhere (a lambda, a closure, a method of an object) is refused by name.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import sys
import textwrap
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ._cellnames import read
from ._drift import PLAIN, Unknown, codes, drift, evaluated, is_equal, is_same, layers
from .errors import CellSyntaxError, UnsendableInputError

__all__ = ["Definitions", "Step", "is_definition", "partial_of"]

_HOME = "__main__"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the job does before the cell: with `source` it runs that, else it loads the value of that name."""

    name: str
    source: str = ""


def is_definition(value: object) -> bool:
    """Whether a value is sent by its text: a module, a class, a function, or what decorators made of one."""
    kinds = ModuleType | type | FunctionType | MethodType
    return isinstance(value, kinds) or inspect.isbuiltin(value) or _wrapped(value) is not None or _is_partial(value)


def _is_partial(value: object) -> bool:
    """Whether it is a functools.partial of something that is sent by its text."""
    function = partial_of(value)[0]
    return type(value) is functools.partial and is_definition(function) and not isinstance(function, MethodType)


def _wrapped(value: object) -> FunctionType | None:
    """The function under its decorators, where these tell it; a closure of a decorator that doesn't is none."""
    if isinstance(value, type) or not callable(value) or not hasattr(value, "__wrapped__"):
        return None
    try:
        plain = inspect.unwrap(value)
    except ValueError:
        return None
    return plain if isinstance(plain, FunctionType) else None


class Definitions:
    """The steps that make names in a job, each after what it needs.

    `given` are the inputs by name: they stand for a name before the notebook's own. `encode` sends a value and tells
    the classes in it.
    """

    def __init__(self, namespace: Mapping[str, Any], given: Mapping[str, Any], encode: Callable[[str, Any], list[type]]) -> None:
        self.steps: list[Step] = []
        self._namespace = namespace
        self._given = given
        self._encode = encode
        self._made: dict[str, object] = {}

    def add(self, name: str, value: Any) -> None:
        """Make `name` in the job. Raises UnsendableInputError naming what can't be."""
        if name in self._made:
            if self._made[name] is not value:
                raise UnsendableInputError(name, "two different things of that name are wanted", hint="Give one of them another name.")
            return
        self._made[name] = value
        if _is_partial(value):
            self.steps.append(Step(name, self._partial(name, value)))
            return
        if is_definition(value):
            self.steps.append(Step(name, self._source(name, value)))
            return
        for kind in self._encode(name, value):
            if kind.__module__ == _HOME:
                self._class_of(name, kind)
        self.steps.append(Step(name))

    def _class_of(self, name: str, kind: type) -> None:
        """The class of an instance, under its own name: the job finds it there."""
        outer = kind.__qualname__.partition(".")[0]
        found = self._namespace.get(outer)
        if found is None or (outer == kind.__qualname__ and found is not kind):
            raise UnsendableInputError(name, f"its class {kind.__qualname__} is not the notebook's {outer} any more")
        self.add(outer, found)

    def _source(self, name: str, value: Any) -> str:
        if isinstance(value, ModuleType):
            return _import_of(name, value)
        if isinstance(value, MethodType) or not isinstance(getattr(value, "__self__", None), ModuleType | None | type):
            raise _refused(name, "it is a method of an object", "Write a function that takes the object, and send both.")
        plain = _wrapped(value) or value
        if isinstance(plain, FunctionType):
            _refuse_nameless(name, plain)
        if getattr(plain, "__module__", None) != _HOME:
            return _import_from(name, value)
        if isinstance(plain, type):
            source, scope = _class_source(name, plain), self._namespace
        else:
            source, scope = _function_source(name, plain, layers(value, plain)), plain.__globals__
        for needed in _reads(name, source):
            if needed in scope and needed != plain.__name__:
                self._need(name, needed, self._given.get(needed, scope[needed]))
        return source if name == plain.__name__ else f"{source}\n{name} = {plain.__name__}"

    def _partial(self, name: str, value: Any) -> str:
        """The line that makes a functools.partial of its function and what it holds, which come before it."""
        function, arguments, keywords = partial_of(value)
        own, held = function.__name__, f"_{name}_holds"
        self._need(name, own, function)
        try:
            self.add(held, (arguments, keywords))
        except UnsendableInputError as problem:
            raise _refused(name, f"it holds arguments of which {problem.reason}", problem.hint) from None
        return f"{name} = __import__('functools').partial({own}, *{held}[0], **{held}[1])"

    def _need(self, name: str, needed: str, value: Any) -> None:
        try:
            self.add(needed, value)
        except UnsendableInputError as problem:
            if problem.name == needed:
                raise _refused(name, f"it uses {needed}, and {problem.reason}", problem.hint) from None
            raise

    @property
    def sentence(self) -> str:
        """What is sent as source, in words; "" where nothing is."""
        imports = [step.name for step in self.steps if step.source.startswith(("import ", "from "))]
        defined = [step.name for step in self.steps if step.source and step.name not in imports]
        parts = [f"source of {', '.join(defined)}"] if defined else []
        parts += [f"imports of {', '.join(imports)}"] if imports else []
        return f"Sends the {' and the '.join(parts)}." if parts else ""


def _refused(name: str, reason: str, hint: str = "") -> UnsendableInputError:
    return UnsendableInputError(name, reason, hint=hint)


def _reads(name: str, source: str) -> tuple[str, ...]:
    try:
        return read(source).reads
    except CellSyntaxError:
        raise _refused(name, "its source can't be read") from None


def _import_of(name: str, module: ModuleType) -> str:
    if module.__name__ == _HOME or getattr(module, "__spec__", None) is None:
        raise _refused(name, "it is a module that can't be imported")
    return f"import {module.__name__}" if module.__name__ == name else f"import {module.__name__} as {name}"


def _import_from(name: str, value: Any) -> str:
    """An import line for a class or function of a module."""
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module == "builtins":
        return f"{name} = {own}" if name != own else f"from builtins import {own}"
    found = sys.modules.get(module or "")
    if found is None or not own.isidentifier() or getattr(found, own, None) is not value:
        raise _refused(name, f"it is not to be found as {module}.{own}", "Import its module in the cell.")
    return f"from {module} import {own}" + (f" as {name}" if name != own else "")


def _refuse_nameless(name: str, function: FunctionType) -> None:
    if function.__name__ == "<lambda>":
        raise _refused(name, "it is a lambda, which has no source of its own", "Write it as a def.")
    held = [free for free in function.__code__.co_freevars if free != "__class__"]
    if held:
        raise _refused(name, f"it is a closure over {', '.join(held)}", "Pass these as arguments of a function at the top level.")
    if "." in function.__qualname__ and "<locals>" not in function.__qualname__:
        raise _refused(name, "it is a method", f"Send its class, {function.__qualname__.partition('.')[0]}.")


def _function_source(name: str, function: FunctionType, around: Sequence[Any]) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function))
        code = compile(source, "definition", "exec", dont_inherit=True)
    except (OSError, TypeError, SyntaxError):
        raise _refused(name, "its source is not to be found", "Define it in a cell of the notebook.") from None
    if not any(is_same(found, function.__code__) for found in codes(code, function.__name__)):
        raise _refused(name, "its source was changed since it was defined", "Run the cell that defines it again.")
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    node = next((node for node in nodes if node.name == function.__code__.co_name), None)
    reason = drift(function, node, function.__globals__, around) if node else "its source is not to be found"
    if reason:
        raise _refused(name, reason, "Run the cell that defines it again, or pass what differs as an argument.")
    return source


_Pair = namedtuple("_Pair", "x y")


def _class_source(name: str, kind: type) -> str:
    if "<locals>" in kind.__qualname__:
        raise _refused(name, "it is a class made inside a function", "Define it at the top level.")
    drifted = ""
    for text in _texts(kind):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for node in reversed(tree.body):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__ and _fits(node, kind, text):
                drifted = _drifted(node, kind)
                if not drifted:
                    return _segment(text, node)
    if drifted:
        raise _refused(name, drifted, "Run the cell that defines it again.")
    if kind.__bases__ == (tuple,) and set(vars(kind)) - set(kind._fields) == set(vars(_Pair)) - {"x", "y"} and not kind._field_defaults:  # type: ignore[attr-defined]
        fields = kind._fields  # type: ignore[attr-defined]
        return f"from collections import namedtuple\n{kind.__name__} = namedtuple({kind.__name__!r}, {fields!r}, module={_HOME!r})\n"
    raise _refused(name, "its source is not to be found", "Define the class at the top level of a cell, and run that again.")


def _texts(kind: type) -> Iterator[str]:
    """The texts that may define a class: its methods' files, then the notebook's cells, the latest first."""
    for value in list(vars(kind).values()):
        if isinstance(value, FunctionType) and not value.__code__.co_filename.startswith("<string"):
            yield "".join(linecache.getlines(value.__code__.co_filename))
    main = getattr(sys.modules[_HOME], "__file__", None)
    if main:
        yield "".join(linecache.getlines(main))
    for entry in reversed([entry for entry in list(linecache.cache.values()) if len(entry) == 4]):
        yield "".join(entry[2])


def _fits(node: ast.ClassDef, kind: type, text: str) -> bool:
    """Whether a class statement is the one that made a class: it binds the same, and its methods are the same code."""
    members = {**vars(kind), **getattr(kind, "__members__", {})}
    noted = {
        **getattr(kind, "__annotations__", {}),
        **getattr(kind, "__dataclass_fields__", {}),
        **getattr(kind, "__pydantic_fields__", {}),
    }
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name=own) | ast.AsyncFunctionDef(name=own) | ast.ClassDef(name=own):
                if own not in members:
                    return False
            case ast.AnnAssign(target=ast.Name(id=own), value=value):
                if own not in noted or not _has_default(kind, own, value):
                    return False
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name) and not (target.id.startswith("__") or _has_default(kind, target.id, value)):
                        return False
    try:
        code = compile(_segment(text, node), "definition", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    methods = {own: value for own, value in vars(kind).items() if isinstance(value, FunctionType) and own in _method_names(node)}
    return all(any(is_same(found, method.__code__) for found in codes(code, method.__name__)) for method in methods.values())


def _drifted(node: ast.ClassDef, kind: type) -> str:
    """Which method has become something else than its source says, and how; "" where none has."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(vars(kind).get(statement.name), FunctionType):
            method = vars(kind)[statement.name]
            plain = _wrapped(method) or method
            reason = drift(plain, statement, {**plain.__globals__, **vars(kind)}, layers(method, plain))
            if reason:
                return f"its method {statement.name} has drifted: {reason}"
    return ""


def _method_names(node: ast.ClassDef) -> set[str]:
    return {s.name for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef) and not s.decorator_list}


def _has_default(kind: type, name: str, value: ast.expr | None) -> bool:
    """Whether a plain value that a class statement gives to a name is the one that the class has."""
    if value is None:
        return True
    try:
        wanted = evaluated(value, vars(sys.modules[kind.__module__]))
    except Unknown:
        return True
    field = getattr(kind, "__pydantic_fields__", {}).get(name) or getattr(kind, "__dataclass_fields__", {}).get(name)
    found = getattr(field, "default", None) if field is not None else getattr(kind, name, None)
    found = getattr(found, "_value_", found)
    return is_equal(found, wanted) or not (type(wanted) in PLAIN and (_is_literal(value) or type(found) in PLAIN))


def _is_literal(value: ast.expr) -> bool:
    return not any(isinstance(node, ast.Name) for node in ast.walk(value))


def _segment(text: str, node: ast.ClassDef) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(text.split("\n")[first - 1 : node.end_lineno]) + "\n"


def partial_of(value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A function, and the arguments that functools.partial holds for it."""
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while isinstance(value, functools.partial):
        arguments, keywords = (*value.args, *arguments), {**value.keywords, **keywords}
        value = value.func
    return value, arguments, keywords
