"""The seam between the node and its executors: what a run is given, how it is followed, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ._gpus import Gpu

__all__ = ["Ending", "Executor", "Executors", "Mount", "RunSpec", "Running"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of this machine that the payload sees at `target`."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One execution, complete: what to run and what it may use.

    `memory` and `disk` are in bytes. `folder` is the execution's own folder on disk, for scratch; the node removes it
    later. `mounts` are the inputs (read-only) and the result paths (writable). `interpreter` is the submitting
    kernel's Python, "" for a container job; `image` is used by container engines only. `stdout` and `stderr` are file
    descriptors that the payload gets; the caller keeps and closes its own.
    """

    execution_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    mounts: tuple[Mount, ...]
    interpreter: str
    language: str
    image: str
    network: str
    domains: tuple[str, ...]
    cpus: float
    memory: int
    disk: int | None
    gpus: tuple[Gpu, ...]
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    `killed` is "", "memory", "disk", "processes" or "stopped"; `message` is in the words that a server records, such as
    "memory limit exceeded".
    """

    exit_code: int | None
    killed: str = ""
    message: str = ""


class Running(Protocol):
    """A run under way; its methods may be called from any thread."""

    def wait(self, timeout: float | None = None) -> Ending | None:
        """The ending, as soon as it is known; None when `timeout` seconds passed first."""
        ...

    def stop(self, grace: float = 2.0) -> None:
        """Ends the whole tree: asked first, killed after `grace` seconds."""
        ...

    def clean(self) -> None:
        """Makes sure that every process is dead and that no cgroup or mount is left."""
        ...


class Executor(Protocol):
    """A way to run jobs. `limits` maps each of `_marks.LIMITS` to the word that is true on this machine."""

    name: str
    why: str
    limits: Mapping[str, str]

    def ready(self, image: str, pulling: Callable[[], None] = lambda: None) -> None:
        """Gets what a run of this image needs first, which may take long; `pulling` is called before anything is fetched.

        Raises OSError with the words to record.
        """
        ...

    def start(self, spec: RunSpec) -> Running:
        """Starts the payload. Raises OSError with the words to record when it can't be started."""
        ...

    def sweep(self, execution_ids: Collection[str]) -> None:
        """Kills and removes whatever these executions left, after the node itself was killed."""
        ...

    def close(self) -> None:
        """The node ends: nothing waits for another run any more."""
        ...


@dataclass(frozen=True, slots=True)
class Executors:
    """What this machine can run jobs with. `languages()` maps a language to its version now, or to "missing: <what to install>"."""

    host: Executor
    container: Executor | None
    container_why: str
    languages: Callable[[], Mapping[str, str]]
    gpus: tuple[Gpu, ...]
