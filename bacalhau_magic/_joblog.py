"""A job's log: what is kept of it here while it runs, and the whole of it, read from its node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ._marks import META_NONCE
from ._packets import Assembler, Text
from ._stages import JobRef
from ._wire import STDERR
from .client import Client

__all__ = ["LogBuffer", "read_log", "whole_log"]

HEAD, TAIL = 1_000_000, 4_000_000
"""Characters of a log that are kept: its first and its last ones."""
_PIECE = 4096
"""Characters up to which pieces of one stream are joined: a piece alone takes a hundred bytes more."""

Piece = tuple[str, str]


class LogBuffer:
    """The beginning and the end of a log, whatever its length."""

    def __init__(self, head: int = HEAD, tail: int = TAIL) -> None:
        self._head: list[Piece] = []
        self._tail: deque[Piece] = deque()
        self._room = head
        self._most = tail
        self._size = 0
        self.counts = {"stdout": 0, "stderr": 0}
        """Characters of each stream until now."""
        self.dropped = 0
        """Characters between the beginning and the end."""

    def add(self, stream: str, text: str) -> None:
        """Text that came, in order."""
        self.counts[stream] += len(text)
        if self._room:
            first, text = text[: self._room], text[self._room :]
            self._room -= len(first)
            _join(self._head, stream, first)
        if not text:
            return
        _join(self._tail, stream, text)
        self._size += len(text)
        while self._size > self._most:
            over = self._size - self._most
            of, oldest = self._tail.popleft()
            lost = min(over, len(oldest))
            if lost < len(oldest):
                self._tail.appendleft((of, oldest[lost:]))
            self._size -= lost
            self.dropped += lost

    def pieces(self) -> list[Piece]:
        """(stream, text) of all that is kept; where something is missing, a line says how much."""
        gap = (
            [(self._head[-1][0], f"\n… {self.dropped:,} characters of the log are left out here …\n")]
            if self.dropped and self._head
            else []
        )
        return [*self._head, *gap, *self._tail]


def _join(pieces: Any, stream: str, text: str) -> None:
    if pieces and pieces[-1][0] == stream and len(pieces[-1][1]) + len(text) <= _PIECE:
        pieces[-1] = (stream, pieces[-1][1] + text)
    elif text:
        pieces.append((stream, text))


def read_log(client: Client, ref: JobRef) -> Iterator[Piece]:
    """(stream, text) of a job's log until now, packets taken out, as its node has it. Raises LogStreamError, or the ApiError family."""
    packets = Assembler(client.job(ref.job_id, ref.namespace).task.meta.get(META_NONCE, ""))
    with client.logs(ref.job_id, namespace=ref.namespace, follow=False) as stream:
        for kind, text in stream:
            name = "stderr" if kind in (STDERR, "stderr") else "stdout"
            yield from ((name, item.text) for item in packets.feed(kind, text) if isinstance(item, Text))
    yield from (("stdout", item.text) for item in packets.finish() if isinstance(item, Text))


def whole_log(
    client: Client, ref: JobRef, counts: Mapping[str, int], veiled: Callable[[Iterable[Piece]], Iterable[Piece]]
) -> list[Piece] | None:
    """The log's first characters, as many of each stream as `counts` says, without what `veiled` takes out before they are counted.

    None where the node has not all of these.
    """
    left = dict(counts)
    found = []
    for stream, text in veiled(read_log(client, ref)):
        if first := text[: left[stream]]:
            left[stream] -= len(first)
            found.append((stream, first))
        if not any(left.values()):
            return found
    return None
