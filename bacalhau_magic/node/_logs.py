"""A job's output: copied from its pipes to one file as it comes, and served from that file, live and later.

The file holds records, in the order in which the pieces came: stream (one byte), length (four bytes, little-endian),
bytes. So the whole log can be served again, and a reader needs nothing but its offset.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["CUT", "PIECE", "LogBook", "LogWriter", "read_streams"]

STDOUT, STDERR = 1, 2
PIECE = 16_384
"""A longer line is served in pieces of this many bytes."""
STREAM_LIMIT = 1 << 30
"""Bytes of a stream that are kept."""
CUT = "\n[bacalhau-magic: this log was cut after 1 GiB]\n"
HEAD = 2048
"""The first bytes of each stream, which an execution's RunOutput keeps."""

_HEAD = struct.Struct("<BI")
_READ = 1 << 18
_PARTIAL_WAIT = 0.02


class LogWriter:
    """Copies an execution's stdout and stderr, each on a thread, to its log file.

    `stdout` and `stderr` are the write ends for the payload; `close_ends` closes the node's own copies once the
    payload has them. `woken` is called, from any thread, when there is more to read.
    """

    def __init__(self, path: Path, woken: Callable[[], None], *, limit: int = STREAM_LIMIT) -> None:
        self._limit = limit
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._woken = woken
        self._lock = threading.Lock()
        self.kept = {STDOUT: 0, STDERR: 0}
        self.cut: set[int] = set()
        self._heads = {STDOUT: b"", STDERR: b""}
        read_out, self.stdout = os.pipe()
        read_err, self.stderr = os.pipe()
        self._reads = {STDOUT: read_out, STDERR: read_err}
        self._threads = [
            threading.Thread(target=self._copy, args=(stream, end), name=f"log-{stream}", daemon=True)
            for stream, end in self._reads.items()
        ]
        for thread in self._threads:
            thread.start()

    def close_ends(self) -> None:
        """Closes the write ends here: from now on only the payload holds them."""
        for end in (self.stdout, self.stderr):
            if end >= 0:
                os.close(end)
        self.stdout = self.stderr = -1

    def finish(self, timeout: float = 5.0) -> None:
        """Waits until the pipes are empty and closed; what a surviving holder would still write is not waited for."""
        self.close_ends()
        for thread in self._threads:
            thread.join(timeout)
        with self._lock:
            os.close(self._file)
            self._file = -1

    def head(self, stream: int) -> bytes:
        """The first HEAD bytes of a stream."""
        return self._heads[stream]

    def _copy(self, stream: int, end: int) -> None:
        try:
            while data := os.read(end, _READ):
                self._keep(stream, data)
        except OSError:
            pass
        finally:
            os.close(end)

    def _keep(self, stream: int, data: bytes) -> None:
        self._heads[stream] += data[: HEAD - len(self._heads[stream])]
        with self._lock:
            if self._file < 0 or stream in self.cut:
                return
            room = self._limit - self.kept[stream]
            if len(data) > room:
                data = data[: max(room, 0)] + CUT.encode()
                self.cut.add(stream)
            self.kept[stream] += len(data)
            os.write(self._file, _HEAD.pack(stream, len(data)) + data)
        self._woken()


def _records(fd: int, offset: int, most: int = 1 << 20) -> tuple[list[tuple[int, bytes]], int]:
    """The complete records from an offset on, about `most` bytes of them, and the offset after the last."""
    data = os.pread(fd, most, offset)
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + _HEAD.size <= len(data):
        stream, length = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if end > len(data):
            if not found and length > most - _HEAD.size:
                return _records(fd, offset, length + _HEAD.size)
            break
        found.append((stream, data[at + _HEAD.size : end]))
        at = end
    return found, offset + at


def read_streams(path: Path) -> Iterator[tuple[int, bytes]]:
    """All records of a finished log, in order."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = 0
            while True:
                found, offset = _records(fd, offset)
                if not found:
                    return
                yield from found
        finally:
            os.close(fd)


class _Pieces:
    """Bytes of one stream → texts: lines, or pieces of a long line; a rest without newline waits in `rest`."""

    def __init__(self) -> None:
        self.rest = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> list[str]:
        data = self.rest + data if self.rest else data
        lines = data.split(b"\n")
        self.rest = lines.pop()
        texts = [text for line in lines for text in self._cut(line + b"\n")]
        if len(self.rest) >= PIECE:
            whole = len(self.rest) - len(self.rest) % PIECE
            texts += self._cut(self.rest[:whole])
            self.rest = self.rest[whole:]
        return texts

    def flush(self, *, final: bool) -> list[str]:
        """The rest as a text; a character that is not complete stays back unless this is the end."""
        data, self.rest = self.rest, b""
        text = self._decoder.decode(data, final)
        return [text] if text else []

    def _cut(self, line: bytes) -> list[str]:
        if len(line) <= PIECE:
            return [self._decoder.decode(line)]
        pieces = (self._decoder.decode(line[at : at + PIECE]) for at in range(0, len(line), PIECE))
        return [piece for piece in pieces if piece]


class LogBook:
    """The logs of the node's executions: who writes, who follows; lives on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[str, asyncio.Event] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._signalled: set[str] = set()

    def begin(self, execution: str) -> Callable[[], None]:
        """Marks an execution's log as open; the result is to be called, from any thread, whenever it has grown."""
        self._open[execution] = asyncio.Event()

        def woken() -> None:
            # Many small writes are one wake-up.
            if execution not in self._signalled:
                self._signalled.add(execution)
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._wake, execution)

        return woken

    def end(self, execution: str) -> None:
        """Marks an execution's log as complete: its followers end."""
        if ended := self._open.pop(execution, None):
            ended.set()
        self._wake(execution)

    def is_open(self, execution: str) -> bool:
        return execution in self._open

    def _wake(self, execution: str) -> None:
        self._signalled.discard(execution)
        for follower in self._followers.get(execution, ()):
            follower.set()

    async def read(self, execution: str, path: Path, *, follow: bool, tail: bool) -> AsyncIterator[list[tuple[int, str]]]:
        """Batches of (stream, text). `tail` skips what is there already; `follow` goes on until the log is complete."""
        wake = asyncio.Event()
        followers = self._followers.setdefault(execution, set())
        followers.add(wake)
        fd = -1
        pieces = {STDOUT: _Pieces(), STDERR: _Pieces()}
        offset = 0
        try:
            while True:
                wake.clear()
                complete = execution not in self._open
                if fd < 0:
                    with suppress(FileNotFoundError):
                        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                        while tail and (skipped := _records(fd, offset)[1]) > offset:
                            offset = skipped
                found, offset = _records(fd, offset) if fd >= 0 else ([], offset)
                if found:
                    texts = [(stream, text) for stream, data in found for text in pieces[stream].feed(data)]
                    if texts:
                        yield texts
                    continue
                if complete or not follow:
                    break
                if any(piece.rest for piece in pieces.values()):
                    try:
                        await asyncio.wait_for(wake.wait(), _PARTIAL_WAIT)
                    except TimeoutError:
                        if texts := [(stream, text) for stream, piece in pieces.items() for text in piece.flush(final=False)]:
                            yield texts
                else:
                    await wake.wait()
            if texts := [(stream, text) for stream, piece in pieces.items() for text in piece.flush(final=True)]:
                yield texts
        finally:
            followers.discard(wake)
            if not followers:
                self._followers.pop(execution, None)
            if fd >= 0:
                os.close(fd)
