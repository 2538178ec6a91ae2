"""Values that the line magic returns: tables and reports with a rich repr, that are plain data too."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STYLE = "text-align: left; padding: 2px 12px 2px 0; vertical-align: top"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; iterates over its rows as dicts. `empty` is what it says without rows."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    empty: str = "Nothing."
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.headings, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(zip(self.headings, self.rows[index], strict=True))

    def to_pandas(self) -> Any:
        """The rows as a pandas frame. Raises ImportError without pandas."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(self.headings))

    def __repr__(self) -> str:
        if not self.rows:
            return "\n".join([self.empty, *self.notes])
        cells = [self.headings, *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.headings))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        if not self.rows:
            return f"<p>{html.escape(self.empty)}</p>{notes}"
        head = "".join(f'<th scope="col" style="{_STYLE}">{html.escape(name)}</th>' for name in self.headings)
        body = "".join(
            "<tr>" + "".join(f'<td style="{_STYLE}">{html.escape(_text(cell))}</td>' for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


@dataclass(frozen=True, slots=True)
class Report:
    """Facts under names, and sentences below; `facts` is plain data."""

    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.facts[name]

    def __repr__(self) -> str:
        width = max((len(name) for name in self.facts), default=0)
        lines = [f"  {name.ljust(width)}  {value}" for name, value in self.facts.items()]
        return "\n".join([self.title, *lines, *(f"  • {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="{_STYLE}; font-weight: normal; opacity: .7">{html.escape(name)}</th>'
            f'<td style="{_STYLE}">{html.escape(value)}</td></tr>'
            for name, value in self.facts.items()
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<b>{html.escape(self.title)}</b><table><tbody>{rows}</tbody></table>" + (f"<ul>{notes}</ul>" if notes else "")


class Text(str):
    """A text whose repr is itself, so that a notebook shows it as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        return ", ".join(str(part) for part in cell)
    return str(cell)
