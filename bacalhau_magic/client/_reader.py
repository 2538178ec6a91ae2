"""One log stream, read by a thread of its own into a queue."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import BacalhauMagicError
from ._cli import CliLogStream
from ._client import Client
from ._logs import LogStream, LogStreamError

_numbers = itertools.count(1)
_WAITING = 4_000_000
"""Characters of a log that wait for whoever reads it."""
_AT_ONCE = 2_000_000
"""Characters that are taken at once."""
_ITEM = 200
"""Characters that an item without text counts as."""


@dataclass(frozen=True, slots=True)
class LogText:
    """A piece of the log; `reader` is the number of the reader that read it."""

    reader: int
    stream: int
    text: str


@dataclass(frozen=True, slots=True)
class LogOver:
    """The stream is over: "closed" by the server, "refused" with an error frame, or "lost" with its connection."""

    reader: int
    how: Literal["closed", "refused", "lost"]
    problem: str = ""


class Inbox(queue.Queue[object]):
    """What readers bring; bounded by its characters: an item may be a short line or many long ones."""

    def __init__(self) -> None:
        super().__init__(_WAITING)

    def batch(self, first: object) -> Iterator[object]:
        """This item and what waits behind it, as much as is taken at once."""
        yield first
        taken = _size(first)
        while taken < _AT_ONCE:
            try:
                item = self.get_nowait()
            except queue.Empty:
                return
            taken += _size(item)
            yield item

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._characters = 0

    def _qsize(self) -> int:
        return self._characters

    def _put(self, item: object) -> None:
        super()._put(item)
        self._characters += _size(item)

    def _get(self) -> object:
        item = super()._get()
        self._characters -= _size(item)
        return item


def _size(item: object) -> int:
    return _ITEM + (len(item.text) if isinstance(item, LogText) else 0)


class Reader:
    """Opens one stream at once and puts LogText and then one LogOver into `inbox`; after `close()` nothing more."""

    def __init__(self, client: Client, job_id: str, inbox: Inbox, *, namespace: str, follow: bool, execution_id: str = "") -> None:
        self.number = next(_numbers)
        self.follow = follow
        self._inbox = inbox
        self._closed = threading.Event()
        self._stream: LogStream | CliLogStream | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._run, args=(client, job_id, namespace, execution_id), name=f"bacalhau log {job_id[:10]}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Drop the stream; returns at once."""
        self._closed.set()
        with self._lock:
            if self._stream:
                self._stream.close()

    def _run(self, client: Client, job_id: str, namespace: str, execution_id: str) -> None:
        try:
            with client.logs(job_id, namespace=namespace, follow=self.follow, execution_id=execution_id) as stream:
                with self._lock:
                    self._stream = stream
                if self._closed.is_set():
                    return
                for kind, text in stream:
                    self._put(LogText(self.number, kind, text))
            self._put(LogOver(self.number, "closed"))
        except LogStreamError as error:
            self._put(LogOver(self.number, "refused", error.message))
        except BacalhauMagicError as error:
            self._put(LogOver(self.number, "lost", error.message))

    def _put(self, item: object) -> None:
        # The queue is bounded: whoever reads it slows the stream down.
        while not self._closed.is_set():
            try:
                self._inbox.put(item, timeout=0.2)
            except queue.Full:
                continue
            return
