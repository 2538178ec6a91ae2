"""What draws a job's progress: one protocol, and the choice among its forms."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TextIO

from .._overview import Overview
from .._snapshot import Snapshot
from ._audience import Audience

__all__ = ["Drawn", "NoView", "Place", "Progress", "View", "choose_view"]

Drawn = Snapshot | Overview
"""One job, or many as one."""

Progress = Literal["auto", "widget", "text", "none"]
Place = Literal["notebook", "terminal", "batch"]
"""Where the cell runs: a live front end, a terminal, or nobody looks (nbclient, papermill, CI)."""


class View(Protocol):
    """Draws snapshots. It is used by one thread, and never raises: a broken view must not cost a result."""

    shows_log: bool
    """Whether the job's log stays on the screen, so that it is not to be shown again at the end."""

    def open(self, snapshot: Drawn) -> None:
        """Show the first snapshot."""

    def draw(self, snapshot: Drawn) -> None:
        """Show the next one; cheap when it tells nothing new, so it may be called on every tick."""

    def keep(self, static: Mapping[str, Any]) -> bool:
        """Live on after the cell, with `static` as the MIME data that is saved; False where the view can't."""

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Save `metadata` beside a view that lives on, for who reads the notebook without its kernel."""

    def settle(self) -> None:
        """The process ends: leave what can stand without it."""

    def close(self, snapshot: Drawn, data: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:
        """Show the last one, and leave the bundle in the view's place (None: leave nothing).

        True when the bundle needs no output of its own any more.
        """


class NoView:
    """Draws nothing."""

    shows_log = False

    def open(self, snapshot: Drawn) -> None:
        pass

    def draw(self, snapshot: Drawn) -> None:
        pass

    def keep(self, static: Mapping[str, Any]) -> bool:  # noqa: ARG002
        return False

    def describe(self, metadata: Mapping[str, Any]) -> None:
        pass

    def settle(self) -> None:
        pass

    def close(self, snapshot: Drawn, data: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        return False


def choose_view(
    kind: Progress,
    place: Place,
    *,
    logs: bool = True,
    hidden: frozenset[str] = frozenset(),
    on_stop: Callable[[int | None], None] | None = None,
    static: Mapping[str, Any] | None = None,
    audience: Audience | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> View:
    """The view for a place: a card in a notebook, text in a terminal, nothing in batch.

    `logs` shows the job's log while it runs, without the streams named in `hidden`; `on_stop` is called when the card's Stop button is pressed, perhaps on
    another thread, with a job's number of many or None for all; `static` is what is saved beside a card that lives on after its cell. `audience` is who looks
    at a notebook's cell. `out` and `err` are where text goes: the job's stdout, and its stderr with the status lines.
    """
    audience = audience or Audience(draws_cards=True)
    if kind == "none" or place == "batch":
        return NoView()

    def text() -> View:
        from ._text import TextView

        to = out or sys.stdout
        beside = err or (to if place == "notebook" else sys.stderr)
        return TextView(to, beside, logs=logs, hidden=hidden, summary=place == "terminal", overwrites=place == "notebook")

    if place == "terminal" or kind == "text" or (kind == "auto" and audience.is_console):
        return text()
    from ._card import CardView  # 0.15 s of imports, which a terminal need not wait for

    if kind == "widget":
        audience = Audience(audience.keeps_outputs, draws_cards=True)
    return CardView(logs=logs, on_stop=on_stop, static=static, audience=audience, instead=text)
