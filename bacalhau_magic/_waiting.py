"""Waiting, in pieces that an interrupt can come between: drawing while events come, futures awaited, lines of a log."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from ._snapshot import Snapshot
from ._stages import JobEvent, Printed
from .progress import View

TICK = 0.1
"""Seconds between two looks at what happens."""
_DRAW_AFTER = 100_000
"""Characters of log after which a view draws within one tick, so that a flood is shown whole."""
_RESTS = 0.3
"""Seconds after which a line counts as whole although its end has not come."""
_T = TypeVar("_T")


class Drawing:
    """The main thread's side of a wait: folds events as they come and draws when something changed."""

    def __init__(self, view: View, snapshot: Snapshot) -> None:
        self.view = view
        self.snapshot = snapshot
        self.over = False
        view.open(snapshot)

    def take(self, events: queue.SimpleQueue[JobEvent | None], timeout: float) -> None:
        """Fold what has come, waiting at most `timeout` seconds for the first of it, and draw once."""
        characters = 0
        try:
            event = events.get(timeout=timeout) if timeout else events.get_nowait()
            while True:
                if event is None:
                    self.over = True
                    break
                self.snapshot = self.snapshot.after(event, time.time())
                characters += len(event.text) if isinstance(event, Printed) else 0
                if characters > _DRAW_AFTER:
                    self.view.draw(self.snapshot)
                    characters = 0
                event = events.get_nowait()
        except queue.Empty:
            self.snapshot = self.snapshot.at(time.time())
        self.view.draw(self.snapshot)


async def awaited(future: Future[_T]) -> _T:
    """A future's result. A signal does not wake the event loop, so that an interrupt is only heard on a tick."""
    waiter = asyncio.wrap_future(future)
    while not waiter.done():
        await asyncio.wait({waiter}, timeout=TICK)
    return waiter.result()


@contextmanager
def heard(interrupts: queue.SimpleQueue[None]) -> Iterator[None]:
    """Put the next interrupts into a queue. Nothing is raised, so that none comes between two steps that belong together.

    A kernel cancels a cell's coroutine at the first interrupt, and at no other.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if is_main else None
    if before is None:  # no place for a handler of ours: another thread, or a handler that Python could not put back
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: interrupts.put(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def news_within(news: asyncio.Event, timeout: float) -> None:
    # Not wait_for: before Python 3.12 it swallows a cancellation, an interrupt, that comes together with news.
    try:
        async with asyncio.timeout(timeout):
            await news.wait()
    except TimeoutError:
        return
    news.clear()


def lines(past: Sequence[tuple[str, str]], more: queue.SimpleQueue[JobEvent | None] | None) -> Iterator[tuple[str, str]]:
    """Pieces of text as whole lines, a stream at a time; the rest of a line comes at the end.

    A line's end may come long after it, with the next line; so a line that rests is given without it.
    """
    rest = {"stdout": "", "stderr": ""}
    early = {"stdout": False, "stderr": False}

    def ended(stream: str, text: str) -> Iterator[tuple[str, str]]:
        if early[stream] and text:
            text, early[stream] = text.removeprefix("\n"), False
        *whole, rest[stream] = (rest[stream] + text).split("\n")
        yield from ((stream, line) for line in whole)

    for stream, text in past:
        yield from ended(stream, text)
    while more is not None:
        try:
            event = more.get(timeout=_RESTS)
        except queue.Empty:
            for stream, line in rest.items():
                if line and "\r" not in line:
                    rest[stream], early[stream] = "", True
                    yield stream, line
            continue
        if event is None:
            break
        if isinstance(event, Printed):
            yield from ended(event.stream, event.text)
    yield from ((stream, line) for stream, line in rest.items() if line)
