"""What a wrong word was perhaps meant to be, as the sentence of a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["suggestion"]


def suggestion(word: str, known: Iterable[str], *, written: str = "{}") -> str:
    """`Did you mean …?` with the known word that is most like `word`, put into `written`; "" where none is."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, 1)
    return f"Did you mean {written.format(names[near[0]])}?" if near else ""
