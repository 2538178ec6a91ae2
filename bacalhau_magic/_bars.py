"""How far a job is, read from what it prints: tqdm's bars, other drawn bars with a percentage, and "n/m"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ._placement import size

_LOOKED_AT = 2000
"""Characters at a piece's end that are looked at: what a bar says is said last."""
_UNFINISHED = 400
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_COUNT = re.compile(r"(?:^|(?<=[\s\[(:|]))(0|[1-9]\d{0,8})\s?/\s?([1-9]\d{0,8})(?=$|[\s\]),:;|])(?! ?\d\d?:\d\d)")
_PERCENT = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d+)?)\s?%")
_DRAWN = re.compile(r"%\s?\||[█▉▊▋▌▍▎▏━╸╺]{2,}|[\[|][#=>\-. ]{5,}[\]|]")


@dataclass(frozen=True, slots=True)
class Bar:
    """How far a job says it is, or how much of its data went over: `done` of `total`; of a percentage the total is 100."""

    done: float
    total: float
    unit: Literal["count", "percent", "bytes"] = "count"

    @property
    def fraction(self) -> float:
        return self.done / self.total

    @property
    def words(self) -> str:
        """ "3 of 10", "40 %", or "12.5 MB of 40 MB"."""
        if self.unit == "percent":
            return f"{self.done:.0f} %"
        return f"{size(self.done)} of {size(self.total)}" if self.unit == "bytes" else f"{self.done:.0f} of {self.total:.0f}"


def read(before: str, text: str) -> tuple[Bar | None, str]:
    """The last bar in a stream's next piece, and what of the stream's line is not ended; `before` is that of the piece before."""
    text = (before + text)[-_LOOKED_AT:]
    lines = re.split(r"[\r\n]", text)
    found = next((bar for line in reversed(lines) if (bar := _of(line))), None)
    rest = lines[-1] or (lines[-2] if text.endswith("\r") and len(lines) > 1 else "")
    return found, rest[-_UNFINISHED:]


def _of(line: str) -> Bar | None:
    if "/" not in line and "%" not in line:
        return None
    line = _ESCAPE.sub("", line)
    for match in reversed(list(_COUNT.finditer(line))):
        done, total = int(match[1]), int(match[2])
        if done <= total and total > 1:
            return Bar(done, total)
    if _DRAWN.search(line) and (percent := _PERCENT.search(line)) and float(percent[1]) <= 100:
        return Bar(float(percent[1]), 100.0, "percent")
    return None
