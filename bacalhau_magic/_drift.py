"""What a function has become since its source was run: other defaults, other decorators, state of its own.

A definition is sent as text and is run again in the job: what its text gives there must be what the function has here.
Nothing of the notebook is called to find that out; what can't be known without is said, so that it is refused by name.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["PLAIN", "Unknown", "codes", "drift", "evaluated", "is_equal", "is_same", "layers"]

_HOME = "__main__"
_CACHES = (functools.lru_cache, functools.cache)
_HARMLESS = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.expr_context)
PLAIN = (int, float, complex, str, bytes, bool, tuple, list, dict, set, frozenset, type(None))
"""Types whose values are what they show."""
_PURE = frozenset(
    [f"builtins.{kind.__name__}" for kind in (int, float, complex, str, bytes, bool, tuple, list, dict, set, frozenset, range, slice)]
    + [f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")]
    + [f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")]
    + ["decimal.Decimal", "fractions.Fraction", "uuid.UUID"]
)
"""Classes whose call does nothing but make a value."""
_LOOKED = 500
"""Objects that are looked through for a decorator's argument."""


class Unknown(Exception):
    """An expression whose value can't be known without calling what it calls."""


# Code


def codes(code: CodeType, name: str) -> Iterator[CodeType]:
    """The code objects of that name within another."""
    for found in code.co_consts:
        if isinstance(found, CodeType):
            if found.co_name == name:
                yield found
            yield from codes(found, name)


def is_same(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same; where they stand does not count."""
    facts = [(code.co_code, code.co_names, code.co_varnames, code.co_flags & ~inspect.CO_NESTED) for code in (a, b)]
    if facts[0] != facts[1] or len(a.co_consts) != len(b.co_consts):
        return False
    return all(
        is_same(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else (type(x), x) == (type(y), y)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )


# Values


def evaluated(expression: ast.expr, scope: Mapping[str, Any]) -> Any:
    """The value of an expression of constants, names, attributes of modules and classes, and numbers' operators; raises Unknown."""
    match expression:
        case ast.Name(id=name):
            if name in scope:
                return scope[name]
            if hasattr(builtins, name):
                return getattr(builtins, name)
            raise Unknown
        case ast.Attribute(value=inner, attr=name):
            owner = evaluated(inner, scope)
            if not isinstance(owner, ModuleType | type) or name not in vars(owner):
                raise Unknown
            return vars(owner)[name] if isinstance(owner, ModuleType) else getattr(owner, name)
        case ast.Call(func=func, args=args, keywords=keywords):
            kind = evaluated(func, scope)
            if not isinstance(kind, type) or f"{kind.__module__.partition('._')[0]}.{kind.__qualname__}" not in _PURE:
                raise Unknown
            given = [evaluated(arg, scope) for arg in args]
            named = {keyword.arg or "": evaluated(keyword.value, scope) for keyword in keywords}
            return _made(lambda: kind(*given, **named))
    if not isinstance(expression, _HARMLESS):
        raise Unknown
    parts: dict[str, Any] = {}
    shaped = _Parts(scope, parts).visit(ast.parse(ast.unparse(expression), mode="eval"))
    if any(type(part) not in PLAIN for part in parts.values()) and any(
        isinstance(node, ast.BinOp | ast.UnaryOp) for node in ast.walk(shaped)
    ):
        raise Unknown
    return _made(lambda: eval(compile(ast.fix_missing_locations(shaped), "default", "eval"), {"__builtins__": {}}, parts))


def _made(make: Any) -> Any:
    try:
        return make()
    except Exception:  # noqa: BLE001 - the job would raise the same, and say it
        raise Unknown from None


class _Parts(ast.NodeTransformer):
    """Puts the values of names, attributes and calls into an expression."""

    def __init__(self, scope: Mapping[str, Any], parts: dict[str, Any]) -> None:
        self._scope = scope
        self._parts = parts

    def _part(self, node: ast.expr) -> ast.Name:
        name = f"part{len(self._parts)}"
        self._parts[name] = evaluated(node, self._scope)
        return ast.Name(name, ast.Load())

    visit_Name = visit_Attribute = visit_Call = _part  # noqa: N815 - as NodeTransformer names them

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, (ast.Expression, *_HARMLESS)):
            raise Unknown
        return super().generic_visit(node)


def is_equal(a: object, b: object) -> bool:
    """Whether two values are the same to a reader: one object, or of one type and equal."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        return bool(a == b) and repr(a) == repr(b) if isinstance(a, PLAIN) else bool(a == b)
    except Exception:  # noqa: BLE001 - an array has no truth; what can't be compared is not known to be equal
        return False


# Functions


def layers(value: Any, plain: FunctionType) -> list[Any]:
    """What decorators put around a function, the outermost first."""
    found: list[Any] = []
    while value is not plain:
        found.append(value)
        value = value.__wrapped__
    return found


def drift(
    function: FunctionType, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Mapping[str, Any], around: Sequence[Any] = ()
) -> str:
    """What of a function its source no longer says, as a reason to refuse it; "" where nothing is.

    `node` is the source, `scope` where its names stand, `around` the function's `layers`.
    """
    return _of_defaults(node, function, scope) or _of_decorators(node, scope, list(around))


def _of_defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, function: FunctionType, scope: Mapping[str, Any]) -> str:
    positional = [*node.args.posonlyargs, *node.args.args]
    written = list(zip([arg.arg for arg in positional[len(positional) - len(node.args.defaults) :]], node.args.defaults, strict=True))
    held = function.__defaults__ or ()
    if len(held) != len(written):
        return "its __defaults__ are not those of its source any more"
    has = dict(zip([name for name, _ in written], held, strict=True))
    named = {arg.arg: value for arg, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value is not None}
    kept = function.__kwdefaults__ or {}
    if set(named) != set(kept):
        return "its __kwdefaults__ are not those of its source any more"
    for name, expression in [*written, *named.items()]:
        try:
            value = evaluated(expression, scope)
        except Unknown:
            return f"the default of {name} can't be known from its source ({ast.unparse(expression)[:60]})"
        if not is_equal(value, {**has, **kept}[name]):
            return f"the default of {name} is not the one of its source any more"
    return ""


def _of_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Mapping[str, Any], around: list[Any]) -> str:
    written = list(node.decorator_list)
    for layer in around:
        while written and not _makes(written[0], layer, scope):
            written.pop(0)
        if not written:
            return "what was put around it is not what its source's decorators put there"
        reason = _of_layer(written.pop(0), layer, scope)
        if reason:
            return reason
    return ""


def _makes(decorator: ast.expr, layer: Any, scope: Mapping[str, Any]) -> bool:
    """Whether a decorator can have made a layer: it holds its code, or is of its class or its library."""
    try:
        maker = evaluated(decorator.func if isinstance(decorator, ast.Call) else decorator, scope)
    except Unknown:
        return True
    if maker in _CACHES or isinstance(layer, functools._lru_cache_wrapper):
        return maker in _CACHES and isinstance(layer, functools._lru_cache_wrapper)
    while hasattr(maker, "__wrapped__"):
        maker = maker.__wrapped__
    if isinstance(layer, FunctionType) and layer.__globals__.get("__name__") == _HOME:
        code = layer.__code__
        return isinstance(maker, FunctionType) and any(is_same(found, code) for found in codes(maker.__code__, code.co_name))
    if isinstance(maker, type):
        return isinstance(layer, maker)
    home = layer.__globals__.get("__name__", "") if isinstance(layer, FunctionType) else type(layer).__module__
    return home.partition(".")[0] == (getattr(maker, "__module__", "") or "").partition(".")[0]


def _of_layer(decorator: ast.expr, layer: Any, scope: Mapping[str, Any]) -> str:
    called = ast.unparse(decorator)[:60]
    if isinstance(layer, functools._lru_cache_wrapper):
        return ""
    if isinstance(layer, FunctionType) and _keeps_state(layer.__code__):
        return f"its decorator {called} keeps a state of its own"
    if not isinstance(decorator, ast.Call):
        return ""
    for expression in [*decorator.args, *(keyword.value for keyword in decorator.keywords)]:
        if not any(isinstance(node, ast.Name) for node in ast.walk(expression)):
            continue
        try:
            value = evaluated(expression, scope)
        except Unknown:
            continue
        if not isinstance(value, ModuleType | type | FunctionType) and not _holds(layer, value):
            return f"its decorator {called} was made with another {ast.unparse(expression)[:60]}"
    return ""


def _keeps_state(code: CodeType) -> bool:
    return any(step.opname == "STORE_DEREF" and step.argval in code.co_freevars for step in dis.get_instructions(code))


def _holds(layer: Any, value: object) -> bool:
    """Whether a value is among what a layer holds: in its closure, its attributes, and theirs."""
    waiting: list[Any] = [layer]
    seen: set[int] = set()
    while waiting and len(seen) < _LOOKED:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        if found is not layer and is_equal(found, value):
            return True
        for cell in getattr(found, "__closure__", None) or () if isinstance(found, FunctionType) else ():
            try:
                waiting.append(cell.cell_contents)
            except ValueError:
                continue
        if isinstance(found, list | tuple | set | frozenset):
            waiting += found
        elif isinstance(found, dict):
            waiting += found.values()
        elif not isinstance(found, ModuleType | type):
            waiting += getattr(found, "__dict__", {}).values()
    return False
