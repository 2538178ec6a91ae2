"""Traces: OpenTelemetry spans of a cell's way, where this process uses OpenTelemetry; else nothing, at no cost.

A program that traces has imported OpenTelemetry's API before its first cell: without that no span is made and nothing
is imported here. Spans carry ids, names, sizes and outcomes, never code, values, texts of errors or credentials.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["attributes", "carrier", "event", "failed", "here", "is_on", "span", "spanned", "traced"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

Attribute = str | int | float | bool


def is_on() -> bool:
    """Whether this process has imported OpenTelemetry's tracing API."""
    return "opentelemetry.trace" in sys.modules


def here() -> Any:
    """The current context, to be a parent on another thread; None where nothing traces."""
    if not is_on():
        return None
    from opentelemetry import context

    return context.get_current()


@contextmanager
def span(name: str, *, parent: Any = None, **facts: Attribute) -> Iterator[None]:
    """A span around a block, current meanwhile; an exception makes it failed, by its class alone."""
    if not is_on():
        yield
        return
    from opentelemetry import trace

    made = _tracer().start_span(name, context=parent, attributes=_keys(facts))
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as problem:
            failed(problem)
            raise


def traced(name: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """A span around every call of a function."""

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def inner(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if not is_on():
                return function(*args, **kwargs)
            with span(name):
                return function(*args, **kwargs)

        return inner

    return decorate


def spanned(name: str, items: Iterable[_T]) -> Iterator[_T]:
    """The items of an iterator, all of whose work is one span; what is done between them is not part of it."""
    if not is_on():
        yield from items
        return
    from opentelemetry import trace

    made, source = _tracer().start_span(name), iter(items)
    try:
        while True:
            with trace.use_span(made, record_exception=False, set_status_on_exception=False):
                try:
                    item = next(source)
                except StopIteration:
                    return
                except BaseException as problem:
                    failed(problem)
                    raise
            yield item
    finally:
        made.end()


def attributes(**facts: Attribute) -> None:
    """Facts of the current span."""
    if is_on():
        from opentelemetry import trace

        trace.get_current_span().set_attributes(_keys(facts))


def event(name: str, **facts: Attribute) -> None:
    """Something that happened within the current span."""
    if is_on():
        from opentelemetry import trace

        trace.get_current_span().add_event(name, _keys(facts))


def failed(problem: BaseException) -> None:
    """Say that the current span failed; its class is told, its text may hold the user's data."""
    if is_on():
        from opentelemetry import trace

        current = trace.get_current_span()
        current.set_attribute("error.type", type(problem).__qualname__)
        current.set_status(trace.StatusCode.ERROR, type(problem).__name__)


def carrier() -> dict[str, str]:
    """The current span as a job's environment, TRACEPARENT and TRACESTATE; empty where nothing traces."""
    if not is_on():
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(found)
    return {name.upper(): value for name, value in found.items() if value}


def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("bacalhau_magic")


def _keys(facts: dict[str, Attribute]) -> dict[str, Attribute]:
    return {f"bacalhau.{name.replace('_', '.')}": value for name, value in facts.items() if value != ""}
