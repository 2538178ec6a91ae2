"""Tapes: where a cell's result comes from beside a node, and where it is kept: a replay, a recording, the cache."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal, Protocol

from . import _content
from ._cassettes import Cassette
from ._content import Content
from ._locks import cache_folder
from ._recordings import Recording
from ._stages import Ended, JobEvent, JobRef, Packed, Submitted
from .errors import BacalhauMagicError, NotRecordedError, RecordingError

__all__ = ["Cache", "Deck", "Mode", "Player", "Recorder", "Source", "Take", "Tape", "spelled"]


def spelled(file: Path) -> str:
    """A file as it is written on a line of the magic's: from the current folder where it lies in it, quoted where that is needed."""
    place = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return shlex.quote(str(place))


class Source(Protocol):
    """What stands for a cell's own run."""

    @property
    def label(self) -> str:
        """The file's name, for people."""

    @property
    def origin(self) -> str:
        """How the card says where a result comes from; ", recorded on" and the day follow."""

    def take(self, content: Content) -> Recording | None:
        """The recording that stands for the cell; None: send it. Raises RecordingError."""


class Keeper(Protocol):
    """What keeps what a job did."""

    @property
    def keeps_failures(self) -> bool:
        """Whether a job that failed is kept too."""

    def keep(self, content: Content, recording: Recording, ref: JobRef, *, secrets: tuple[str, ...]) -> None:
        """Keep what a job did. Raises RecordingError."""


class Player:
    """Replays the jobs of a file; a cell that is not in it is an error. The n-th run of the same cell gets its n-th recording."""

    def __init__(self, file: Path) -> None:
        self.cassette = Cassette(file)
        self._played: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        return self.cassette.file.name

    def take(self, content: Content) -> Recording:
        found = self.cassette.takes(content)
        if not found:
            raise self._not_recorded(content)
        with self._lock:
            number = self._played[content.key]
            self._played[content.key] += 1
        return self.cassette.recording(sorted(found, key=lambda entry: entry.take)[min(number, len(found) - 1)])

    @property
    def origin(self) -> str:
        return f"Replayed from {self.label}"

    def _not_recorded(self, content: Content) -> NotRecordedError:
        others = [entry.content for entry in self.cassette.entries]
        name, place = self.label, spelled(self.cassette.file)
        hint = (
            f"Record it where a node is: %bacalhau record {place}, run the cell, then %bacalhau replay {place}. Or run it: %bacalhau live."
        )
        if not others:
            return NotRecordedError(f"The cell can't be replayed: {name} holds no recorded job.", file=str(self.cassette.file), hint=hint)
        near = _content.nearest(content, others)
        if near is None:
            return NotRecordedError(f"The cell can't be replayed: {name} has none like it.", file=str(self.cassette.file), hint=hint)
        return NotRecordedError(
            f"The cell can't be replayed from {name}: it was changed since it was recorded.",
            file=str(self.cassette.file),
            changes=_content.changes(near, content),
            hint=hint,
        )


class Recorder:
    """Records all jobs in a file; from now on each run of the same cell is one recording more, and replaces those of before."""

    keeps_failures = True

    def __init__(self, file: Path) -> None:
        self.cassette = Cassette(file)
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def keep(self, content: Content, recording: Recording, ref: JobRef, *, secrets: tuple[str, ...]) -> None:
        with self._lock:
            take = self._taken[content.key] + 1
            self.cassette.keep(content, recording, ref, take=take, secrets=secrets)
            self._taken[content.key] = take


class Cache:
    """This user's stored results, a cassette for each content; what failed is not stored. The least used ones go first."""

    keeps_failures = False
    LARGEST = 1_000_000_000
    MOST = 500
    OLDEST = 90 * 86400.0

    def __init__(self, folder: Path | None = None, *, refresh: bool = False) -> None:
        self.folder = folder or cache_folder() / "results"
        self._refresh = refresh

    @property
    def label(self) -> str:
        return "the cache"

    def _cassette(self, content: Content) -> Cassette:
        return Cassette(self.folder / f"{content.key}.yaml", private=True)

    def take(self, content: Content) -> Recording | None:
        if self._refresh:
            return None
        cassette = self._cassette(content)
        try:
            found = cassette.takes(content)
            recording = cassette.recording(found[0]) if found else None
        except RecordingError:
            return None  # damaged: it is made again
        if recording is not None:
            with suppress(OSError):
                os.utime(cassette.file)
        return recording

    @property
    def origin(self) -> str:
        return "From cache"

    def keep(self, content: Content, recording: Recording, ref: JobRef, *, secrets: tuple[str, ...]) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise RecordingError(f"Not stored: {self.folder} can't be written ({problem.strerror}).", file=str(self.folder)) from None
        cassette = self._cassette(content)
        cassette.remove()
        cassette.keep(content, recording, ref, secrets=secrets)
        self.prune()

    @property
    def stored(self) -> list[Cassette]:
        """The stored results, the least lately used first."""
        aged = []
        for file in self.folder.glob("*.yaml") if self.folder.is_dir() else ():
            with suppress(OSError):
                aged.append((file.stat().st_mtime, file))
        return [Cassette(file, private=True) for _, file in sorted(aged)]

    def prune(self) -> None:
        """Keep the bounds: 1 GB, 500 results, 90 days since the last use."""
        stored = self.stored
        sizes = {cassette.file: cassette.size for cassette in stored}
        total = sum(sizes.values())
        for place, cassette in enumerate(stored[:-1]):
            with suppress(OSError):
                old = time.time() - cassette.file.stat().st_mtime > self.OLDEST
                if not (old or total > self.LARGEST or len(stored) - place > self.MOST):
                    return
                cassette.remove()
                total -= sizes[cassette.file]

    def clear(self) -> int:
        """Remove all; returns how many there were."""
        stored = self.stored
        for cassette in stored:
            with suppress(OSError):
                cassette.remove()
        return len(stored)


Tape = Player | Recorder | Cache
"""What a cell is replayed from, recorded on, or stored in."""

Mode = Literal["record", "replay", "live"]


class Deck:
    """Which tape all cells of a session use: what was chosen here, else what is configured."""

    def __init__(self) -> None:
        self._chosen: tuple[Mode, Path] | None = None
        self._loaded: tuple[tuple[Mode, Path], Recorder | Player | None] | None = None

    def use(self, mode: Mode, file: Path = Path()) -> None:
        """From now on record all jobs in a file, replay them from it, or run them ("live"); a tape begins at its first take again."""
        self._chosen, self._loaded = (mode, file), None

    def tape(self, mode: Mode, file: Path) -> Recorder | Player | None:
        """The tape; `mode` and `file` are what is configured."""
        named = self._chosen or (mode, file)
        if self._loaded is None or self._loaded[0] != named:
            made = Recorder(named[1]) if named[0] == "record" else Player(named[1]) if named[0] == "replay" else None
            self._loaded = named, made
        return self._loaded[1]

    @contextmanager
    def using(self, mode: Mode, file: Path) -> Iterator[None]:
        """As `use`, for as long as the block lasts."""
        before = self._chosen, self._loaded
        self.use(mode, file)
        try:
            yield
        finally:
            self._chosen, self._loaded = before


class Take:
    """One job while it is recorded: hears its events, and is kept with its end."""

    def __init__(self, keeper: Keeper, content: Content, secrets: tuple[str, ...]) -> None:
        self._keeper, self.content = keeper, content
        self.secrets = secrets
        self.files: Callable[[], bytes] | None = None
        self._events: list[JobEvent] = []
        self._over = False

    def hearing(self, emit: Callable[[JobEvent], None]) -> Callable[[JobEvent], None]:
        """`emit`, heard."""

        def heard(event: JobEvent) -> None:
            # What comes after the end is made of it, and will be again.
            self._over = self._over or isinstance(event, Ended)
            if not self._over and not isinstance(event, Packed | Submitted):
                self._events.append(event)
            emit(event)

        return heard

    def keep(self, ended: Ended, ref: JobRef, *, executor: str, failed: bool) -> str:
        """Keep the recording; a sentence where that was not possible, else ""."""
        if failed and not self._keeper.keeps_failures:
            return ""
        recording = Recording(tuple(self._events), ended, recorded=date.today().isoformat(), executor=executor)
        try:
            if self.files is not None:
                recording = replace(recording, files=self.files())
            self._keeper.keep(self.content, recording, ref, secrets=self.secrets)
        except BacalhauMagicError as problem:
            said = problem.message
            return said if said.startswith("Not ") else f"Not recorded: {said}"
        except OSError as problem:
            return f"Not recorded: {problem}."
        return ""
