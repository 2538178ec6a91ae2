"""So many requests a second to an endpoint, whoever asks: waiting cells go before background jobs."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._stages import Endpoint


class Budget:
    """So many requests a second, with bursts of a second's worth; those in a hurry go before background ones."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._tokens = max(1.0, per_second)
        self._at = time.monotonic()
        self._turn = itertools.count()
        self._waiting: list[tuple[bool, int]] = []
        self._changed = threading.Condition()

    def take(self, *, background: bool = False) -> None:
        """Wait for this request's turn."""
        with self._changed:
            ticket = (background, next(self._turn))
            heapq.heappush(self._waiting, ticket)
            try:
                while self._waiting[0] != ticket or not self._refill():
                    first = self._waiting[0] == ticket
                    self._changed.wait((1.0 - self._tokens) / self.per_second if first else None)
                self._tokens -= 1.0
            finally:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
                self._changed.notify_all()

    def rest(self, seconds: float) -> None:
        """Let nobody through for so long: the server asked for it."""
        with self._changed:
            self._tokens = min(self._tokens, 1.0 - seconds * self.per_second)
            self._at = time.monotonic()

    def _refill(self) -> bool:
        now = time.monotonic()
        self._tokens = min(max(1.0, self.per_second), self._tokens + (now - self._at) * self.per_second)
        self._at = now
        return self._tokens >= 1.0 - 1e-6


_budgets: dict[str, Budget] = {}
_budgets_lock = threading.Lock()


def budget(endpoint: Endpoint, per_second: float) -> Budget:
    """The one budget of this endpoint in this process; the last rate that was asked for holds."""
    with _budgets_lock:
        found = _budgets.setdefault(endpoint.socket or endpoint.url.rstrip("/"), Budget(per_second))
        found.per_second = per_second
        return found
