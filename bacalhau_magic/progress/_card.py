"""The live card: one widget with one trait, the snapshot; at the end the bundle takes its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import DisplayHandle, display

from . import _hearing
from ._audience import Audience
from ._static import live
from ._view import Drawn, View

__all__ = ["Card", "CardView"]

_HERE = Path(__file__).parent
_LOG_KEPT = 20_000
"""Characters of the log that a card shows: a flood is thinned for the screen, and whole in the job."""

_SILENCE = 1.5
"""Seconds without a word of the card's script after which a front end counts as one that has it not."""
_LINE_PAUSE = 1.0
"""Seconds between two lines in a card's place."""


class Card(anywidget.AnyWidget):
    """A card of one job or of many. `snapshot` is their `as_json()`.

    A press on Stop calls `on_stop`, perhaps on another thread: with a job's number of many, or None for all there are.
    `is_drawn` is true once the card's script has said that it runs.
    """

    _esm = _HERE / "card.js"
    _css = _HERE / "card.css"
    snapshot = traitlets.Dict().tag(sync=True)

    def __init__(self, *, on_stop: Callable[[int | None], None] | None = None, **traits: Any) -> None:
        super().__init__(**traits)
        self._on_stop = on_stop
        self.is_drawn = False
        self.on_msg(self._heard)

    def _heard(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        self.is_drawn = self.is_drawn or content.get("kind") in ("here", "stop")
        if content.get("kind") != "stop" or self._on_stop is None:
            return
        number = content.get("job")
        if number is None or type(number) is int:
            with suppress(Exception):
                self._on_stop(number)

    def __repr__(self) -> str:
        """What a front end without widgets shows, and what a notebook may keep: no id, no time."""
        return "bacalhau: running"


class CardView:
    """A Card as a View; `static` is MIME data that stands beside the card for as long as it lives, for what is saved.

    A front end without the card's script does not answer, or closes the card's comm. Where outputs are kept, one line that
    is replaced stands in the card's place then, until a front end answers after all. In a console nothing is shown until it
    is known, and then the view that `instead` makes; of a card that lives on after its cell, the static data alone.
    """

    shows_log = False

    def __init__(
        self,
        *,
        logs: bool = True,
        on_stop: Callable[[int | None], None] | None = None,
        static: Mapping[str, Any] | None = None,
        audience: Audience | None = None,
        instead: Callable[[], View] | None = None,
    ) -> None:
        self._audience = audience or Audience(draws_cards=True)
        self._instead = instead if static is None else None
        self._in_place = self._audience.keeps_outputs
        """Whether what is shown can be replaced."""
        self._refused = False
        self._text: View | None = None
        self._line: dict[str, Any] = {}
        """What stands in the card's place."""
        self._logs = logs
        self._on_stop = on_stop
        self._static = dict(static or {})
        self._card: Card | None = None
        self._handle: DisplayHandle | None = None
        self._drawn: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._opened = self._told = 0.0

    def open(self, snapshot: Drawn) -> None:
        with suppress(Exception):
            self._drawn = self._json(snapshot)
            self._card = Card(on_stop=self._on_stop, snapshot=self._drawn)
            _answer_while_busy(self._card)
            _hearing.add(self._card.comm)
            self._card.comm.on_close(self._on_refused)
            self._opened = time.monotonic()
            self._line = live(snapshot) if self._audience.draws_cards is False and self._in_place else {}
            if self._audience.draws_cards or self._in_place or self._static:
                self._show()

    def draw(self, snapshot: Drawn) -> None:
        with suppress(Exception):
            if self._card is None:
                return
            _hearing.hear()
            if self._text is None:
                self._settle_form(snapshot)
            if self._text is not None:
                self._text.draw(snapshot)
                return
            fresh = self._json(snapshot)
            if {**fresh, "now": 0} != {**self._drawn, "now": 0}:
                self._card.snapshot = self._drawn = fresh
            if snapshot.is_over:
                _hearing.drop(self._card.comm)

    def keep(self, static: Mapping[str, Any]) -> bool:
        if self._text is not None or self._card is None:
            return False
        with suppress(Exception):
            self._static, self._instead = dict(static), None
            self._show()
            return True
        return False

    def describe(self, metadata: Mapping[str, Any]) -> None:
        if self._metadata != metadata:
            self._metadata = dict(metadata)
            self.keep(self._static)

    def settle(self) -> None:
        """The kernel ends, and the card with it: leave the static data alone in its place."""
        with suppress(Exception):
            if self._handle is not None and self._static:
                self._handle.update(dict(self._static), raw=True, metadata=self._metadata)  # type: ignore[no-untyped-call]

    def close(self, snapshot: Drawn, data: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:
        replaced = False
        with suppress(Exception):
            if self._text is not None:
                self._text.close(snapshot, None, {})
        with suppress(Exception):
            if self._handle is not None:
                self._handle.update(dict(data or {"text/plain": ""}), raw=True, metadata=dict(metadata))  # type: ignore[no-untyped-call]
                replaced = True
        with suppress(Exception):
            if self._card is not None:
                _hearing.drop(self._card.comm)
                self._card.close()
        self._card = self._handle = None
        return replaced

    def _on_refused(self, _message: Any) -> None:
        self._refused = True

    def _settle_form(self, snapshot: Drawn) -> None:
        """Take the form that the front end can show, as far as is known by now."""
        assert self._card is not None, "an open view has a card"
        if self._card.is_drawn:
            self._audience.draws_cards = True
            if self._line or self._handle is None:
                self._line = {}
                self._show()
        elif self._refused or not (self._audience.draws_cards or time.monotonic() < self._opened + _SILENCE):
            self._audience.draws_cards = False
            if self._handle is None and self._instead is not None:
                self._text = self._instead()
                self.shows_log = self._text.shows_log
                self._text.open(snapshot)
            elif self._in_place:
                self._tell(snapshot)

    def _tell(self, snapshot: Drawn) -> None:
        """Put the line of this moment into the card's place."""
        line = dict(self._static) if snapshot.is_over and self._static else live(snapshot.at(max(snapshot.now, time.time())))
        now = time.monotonic()
        if line != self._line and (snapshot.is_over or not self._line or now - self._told >= _LINE_PAUSE):
            self._line, self._told = line, now
            self._show()

    def _show(self) -> None:
        """Show the card, or what stands in its place."""
        assert self._card is not None, "an open view has a card"
        data = self._line or self._data(self._card)
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True, metadata=self._metadata)  # type: ignore[no-untyped-call]

    def _data(self, card: Card) -> dict[str, Any]:
        found: Any = card._repr_mimebundle_()
        data = found[0] if isinstance(found, tuple) else found
        return {**data, **self._static}

    def _json(self, snapshot: Drawn) -> dict[str, Any]:
        return snapshot.as_json(log_kept=_LOG_KEPT if self._logs else 0)


def _answer_while_busy(card: Card) -> None:
    """Let Stop be heard while the main thread is blocked, where the front end sends it to a subshell.

    ipykernel 7.4 sends a comm's messages to the shell that made it, which is the blocked one. Not a public name: where
    it is missing, Stop is heard when the thread is free.
    """
    with suppress(Exception):
        if hasattr(card.comm, "_reply_subshell_for"):
            card.comm._reply_subshell_for = lambda _data, default: default
