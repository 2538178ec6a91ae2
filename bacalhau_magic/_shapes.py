"""What a value is, in a few words: "DataFrame 120 × 4", "list of 3", "str"."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

_CONTAINERS = (list, tuple, Mapping, Set)


def shape(value: Any) -> str:
    """The type's name and the size, where it has one that tells something. Raises nothing."""
    name = type(value).__name__
    sides = getattr(value, "shape", None)
    if isinstance(sides, tuple) and sides and all(isinstance(side, int) for side in sides):
        return f"{name} {' × '.join(str(side) for side in sides)}"
    return f"{name} of {len(value)}" if isinstance(value, _CONTAINERS) else name


def named(values: Mapping[str, Any], *, most: int = 6) -> str:
    """Names with what they hold: "scores (DataFrame 120 × 4), model (str)"; after `most` of them how many more there are."""
    shown = [f"{name} ({shape(value)})" for name, value in list(values.items())[:most]]
    more = [f"and {len(values) - most} more"] if len(values) > most else []
    return ", ".join(shown + more)
