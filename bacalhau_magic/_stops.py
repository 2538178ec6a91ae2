"""Stops of jobs: asked for from any thread, and sent once more where the server could not be told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from ._ledger import Ledger
from .client import Client
from .errors import ApiError, NotFoundError, RejectedError, UnauthorizedError

__all__ = ["StopRequest", "deliver_stops", "is_settled"]


class StopRequest:
    """How a watched job is asked to stop: `ask(reason)` from any thread; the watch delivers it to the server."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.delivered = threading.Event()
        """Set once the server has heard of the stop, or needs to hear of none."""
        self.kept = threading.Event()
        """Set once the stop stands in the ledger: it reaches the server at some contact, also when nobody waits any more."""
        self.reason = ""
        self.by_hand = False
        """Whether a person stopped it, and not the notebook's own code: another run would not be stopped there."""
        self._wakes: list[Callable[[], None]] = []

    def ask(self, reason: str, *, by_hand: bool = False) -> None:
        """Ask for the stop; the first reason stays."""
        if not self.requested.is_set():
            self.reason, self.by_hand = reason, by_hand
            self.requested.set()
        for wake in list(self._wakes):
            wake()

    def on_request(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the stop is asked for."""
        self._wakes.append(wake)


def deliver_stops(client: Client, ledger: Ledger) -> list[str]:
    """Send the stops that this endpoint has not heard of yet; the job ids that it now has. Raises nothing."""
    done = []
    for row in ledger.pending_stops(client.endpoint):
        try:
            client.stop(row.job_id, row.stop_reason, row.namespace, retry=False)
        except ApiError as error:
            if not is_settled(error):
                break
        ledger.stopped(row.job_id)
        done.append(row.job_id)
    return done


def is_settled(error: ApiError) -> bool:
    """Whether a stop that was refused so needs no further try: the job is over, or will never be ours to stop.

    A busy server (408, 429) and a missing or expired credential (401) are no such answers: a later try may succeed.
    """
    if error.status in (401, 408, 429):
        return False
    if isinstance(error, (NotFoundError, UnauthorizedError)):
        return True
    return isinstance(error, RejectedError) and (error.status < 500 or bool(re.search("cannot stop job|terminal state", error.message)))
