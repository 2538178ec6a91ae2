"""The cards of jobs that nobody waits for: one thread draws them while other cells run."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._job import RemoteJob
from ._overview import Overview
from .progress import Drawn, View

_PAUSE = 0.2
_SLOW = 1.0
"""Seconds between two drawings of a card with many jobs."""
_MANY = 10

Stop = Callable[[int | None], None]
Receipt = Callable[[RemoteJob], Mapping[str, Any]]


def stop(jobs: Sequence[RemoteJob], number: int | None) -> None:
    """Stop was pressed on a card of these jobs: the one of that number is stopped, or all of them."""
    for place, job in enumerate(jobs):
        if number is None or number == place:
            job.stop_pressed()


class _Card:
    """A card and its jobs: those of one cell."""

    def __init__(self, key: str, jobs: list[RemoteJob]) -> None:
        self.key = key
        self.jobs = jobs
        self.view: View | None = None
        self.drawn = 0.0
        self.said = ("", 0)
        """What its receipt tells of: whether its jobs are sent or over, and how many they are."""
        self.over = 0
        """Of how many jobs the end was drawn."""

    @property
    def shows(self) -> Drawn:
        return self.jobs[0].snapshot if len(self.jobs) == 1 else Overview(tuple(job.snapshot for job in self.jobs))

    def draw(self, now: float, receipt: Receipt) -> None:
        """Draw when it is time; beside it the receipt of its one job: once that was sent, and at its end."""
        jobs = list(self.jobs)
        over = all(job.done() for job in jobs)
        if self.view is not None and (over or now - self.drawn >= (_SLOW if len(self.jobs) > _MANY else _PAUSE)):
            self.drawn = now
            self.view.draw(self.shows.at(time.time()))
            said = ("over" if over else "sent" if jobs[0].is_sent else "", len(jobs))
            if said != self.said:
                self.said = said
                self.view.describe(receipt(jobs[0]) if len(jobs) == 1 else {})
        self.over = len(jobs) if over else 0


class Cards:
    """The live cards of one process; views are opened on the main thread, and drawn on a thread of their own."""

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt
        self._lock = threading.Lock()
        self._cards: list[_Card] = []
        self._last: _Card | None = None
        self._thread: threading.Thread | None = None
        self._views: list[View] = []

    def join(self, key: str, job: RemoteJob) -> bool:
        """Put a job on the card that its cell (`key`) has already; False where there is none."""
        with self._lock:
            card = self._last
            if not key or card is None or card.key != key:
                return False
            card.jobs.append(job)
            self._go_on(card)
        return True

    def open(self, key: str, job: RemoteJob, view: Callable[[Stop], View]) -> None:
        """A card for a job: `view` makes it of what its Stop buttons call."""
        card = _Card(key, [job])
        card.view = view(lambda number: stop(card.jobs, number))
        card.view.open(card.shows)
        self._settle_at_exit(card.view)
        with self._lock:
            self._last = card
            self._go_on(card)

    def keep(self, job: RemoteJob, view: View) -> None:
        """Go on drawing a view that is open, of a job that nobody waits for any more."""
        card = _Card("", [job])
        card.view = view
        self._settle_at_exit(view)
        with self._lock:
            self._go_on(card)

    def _settle_at_exit(self, view: View) -> None:
        """A card is nothing without its kernel, and a page would wait for it: what is saved must stand alone."""
        if not self._views:
            atexit.register(self._settle)
        self._views.append(view)

    def _settle(self) -> None:
        for view in self._views:
            view.settle()

    def _go_on(self, card: _Card) -> None:
        if card not in self._cards:
            self._cards.append(card)
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw, name="bacalhau-cards", daemon=True)
            self._thread.start()

    def _draw(self) -> None:
        while True:
            with self._lock:
                cards = list(self._cards)
            for card in cards:
                card.draw(time.monotonic(), self._receipt)
            with self._lock:
                # A job may have joined since, also one that is over already.
                self._cards = [card for card in self._cards if card.over < len(card.jobs)]
                if not self._cards:
                    self._thread = None
                    return
            time.sleep(_PAUSE)
