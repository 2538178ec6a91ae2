"""The live card: one widget with one trait, the snapshot; at the end the bundle takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import DisplayHandle, display

from .._snapshot import Snapshot

__all__ = ["Card", "CardView"]

_HERE = Path(__file__).parent


class Card(anywidget.AnyWidget):
    """A job's card. `snapshot` is `Snapshot.as_json()`; a press on Stop calls `on_stop`, perhaps on another thread."""

    _esm = _HERE / "card.js"
    _css = _HERE / "card.css"
    snapshot = traitlets.Dict().tag(sync=True)

    def __init__(self, *, on_stop: Callable[[], None] | None = None, **traits: Any) -> None:
        super().__init__(**traits)
        self._on_stop = on_stop
        self.on_msg(self._heard)

    def _heard(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict) and content.get("kind") == "stop" and self._on_stop:
            with suppress(Exception):
                self._on_stop()

    def __repr__(self) -> str:
        """What a front end without widgets shows, and what a notebook may keep: no id, no time."""
        return "bacalhau: running"


class CardView:
    """A Card as a View."""

    shows_log = False

    def __init__(self, *, logs: bool = True, on_stop: Callable[[], None] | None = None) -> None:
        self._logs = logs
        self._on_stop = on_stop
        self._card: Card | None = None
        self._handle: DisplayHandle | None = None
        self._drawn: dict[str, Any] = {}

    def open(self, snapshot: Snapshot) -> None:
        with suppress(Exception):
            self._card = Card(on_stop=self._on_stop, snapshot=self._json(snapshot))
            _answer_while_busy(self._card)
            self._handle = display(self._card, display_id=True)  # type: ignore[no-untyped-call]

    def draw(self, snapshot: Snapshot) -> None:
        with suppress(Exception):
            if self._card is None:
                return
            fresh = self._json(snapshot)
            if {**fresh, "now": 0} != {**self._drawn, "now": 0}:
                self._card.snapshot = self._drawn = fresh

    def close(self, snapshot: Snapshot, data: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        replaced = False
        with suppress(Exception):
            if self._handle is not None:
                self._handle.update(dict(data or {"text/plain": ""}), raw=True, metadata=dict(metadata))  # type: ignore[no-untyped-call]
                replaced = True
        with suppress(Exception):
            if self._card is not None:
                self._card.close()
        self._card = self._handle = None
        return replaced

    def _json(self, snapshot: Snapshot) -> dict[str, Any]:
        return snapshot.as_json(log_kept=20_000 if self._logs else 0)


def _answer_while_busy(card: Card) -> None:
    """Let Stop be heard while the main thread is blocked, where the front end sends it to a subshell.

    ipykernel 7.4 sends a comm's messages to the shell that made it, which is the blocked one. Not a public name: where
    it is missing, Stop is heard when the thread is free.
    """
    with suppress(Exception):
        if hasattr(card.comm, "_reply_subshell_for"):
            card.comm._reply_subshell_for = lambda _data, default: default
