"""Containers' images on their way to this machine, each got on a thread of its own."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from .executors._seam import Executor


class Images:
    """Gets images; on the event loop's thread it tells `pulling` (execution, image) and `ended` (execution, problem or "", image)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pulling: Callable[[str, str], None], ended: Callable[[str, str, str], None]
    ) -> None:
        self._loop = loop
        self._pulling = pulling
        self._ended = ended
        self._awaited: set[str] = set()

    def __len__(self) -> int:
        return len(self._awaited)

    def get(self, execution: str, executor: Executor, image: str) -> None:
        """Begins to get an execution's image."""
        self._awaited.add(execution)
        threading.Thread(target=self._get, args=(execution, executor, image), daemon=True).start()

    def _get(self, execution: str, executor: Executor, image: str) -> None:
        problem = ""
        try:
            executor.ready(image, lambda: self._say(self._pulling, execution, image))
        except (OSError, subprocess.SubprocessError) as error:
            problem = str(error)
        self._say(self._got, execution, problem, image)

    def _got(self, execution: str, problem: str, image: str) -> None:
        self._awaited.discard(execution)
        self._ended(execution, problem, image)

    def _say(self, told: Callable[..., None], *facts: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: the node ends
            self._loop.call_soon_threadsafe(told, *facts)
