"""One log stream, read by a thread of its own into a queue."""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass
from typing import Literal

from ..errors import BacalhauMagicError
from ._cli import CliLogStream
from ._client import Client
from ._logs import LogStream, LogStreamError

_numbers = itertools.count(1)


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


class Reader:
    """Opens one stream at once and puts LogText and then one LogOver into `inbox`; after `close()` nothing more."""

    def __init__(
        self, client: Client, job_id: str, inbox: queue.Queue[object], *, namespace: str, follow: bool, execution_id: str = ""
    ) -> None:
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
