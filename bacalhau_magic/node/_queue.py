"""What this machine can hold, and the executions that wait for room: first come, first served."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Amounts", "Control", "Queue", "machine"]

OVERSUBSCRIBED = 1.5
"""How much of its capacity a node lets wait; what comes then stays queued with its job, until its own queue timeout."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """CPUs, bytes of memory and disk, and GPUs."""

    cpu: float = 0.0
    memory: int = 0
    disk: int = 0
    gpu: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.cpu + other.cpu, self.memory + other.memory, self.disk + other.disk, self.gpu + other.gpu)

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(self.cpu - other.cpu, self.memory - other.memory, self.disk - other.disk, self.gpu - other.gpu)

    def holds(self, other: Amounts) -> bool:
        # Sums of fractions of a CPU are not exact.
        return self.cpu + 1e-6 >= other.cpu and self.memory >= other.memory and self.disk >= other.disk and self.gpu >= other.gpu

    def wire(self) -> dict[str, float | int]:
        """As node info has it: what is zero is left out."""
        pairs = (("CPU", round(self.cpu, 3)), ("Memory", self.memory), ("Disk", self.disk), ("GPU", self.gpu))
        return {key: amount for key, amount in pairs if amount > 0}


class Queue:
    """Executions that run and executions that wait; no execution overtakes another."""

    def __init__(self, capacity: Amounts) -> None:
        self.capacity = capacity
        self.running: dict[str, Amounts] = {}
        self._waiting: deque[tuple[str, Amounts]] = deque()

    @property
    def free(self) -> Amounts:
        return self.capacity - sum(self.running.values(), Amounts())

    @property
    def waited_for(self) -> Amounts:
        return sum((amounts for _, amounts in self._waiting), Amounts())

    @property
    def full(self) -> bool:
        """Whether more waits already than a node takes beside what it runs."""
        waiting, room = self.waited_for, self.capacity
        pairs = ((waiting.cpu, room.cpu), (waiting.memory, room.memory), (waiting.disk, room.disk), (waiting.gpu, room.gpu))
        return any(amount > OVERSUBSCRIBED * most for amount, most in pairs)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, execution: str, amounts: Amounts) -> None:
        self._waiting.append((execution, amounts))

    def drop(self, execution: str) -> bool:
        """Takes an execution out, whether it waits or runs; True if it was only waiting."""
        self.running.pop(execution, None)
        before = len(self._waiting)
        self._waiting = deque(pair for pair in self._waiting if pair[0] != execution)
        return len(self._waiting) < before

    def ready(self) -> Iterator[str]:
        """The executions that there is room for now, each counted as running from here on."""
        while self._waiting and self.free.holds(self._waiting[0][1]):
            execution, amounts = self._waiting.popleft()
            self.running[execution] = amounts
            yield execution


def machine(disk_folder: Path, gpus: int, control: Control | None = None) -> Amounts:
    """What this process may use: its CPUs by affinity and cgroup, 80 % of its memory and of the free disk."""
    control = control or Control()
    return Amounts(_cpus(control), int(_memory(control) * 0.8), int(shutil.disk_usage(disk_folder).free * 0.8), gpus)


@dataclass(frozen=True, slots=True)
class Control:
    """This process's cgroups, of version 1 or 2: what they and those above them allow, whichever is least."""

    root: Path = Path("/sys/fs/cgroup")
    own: Path = Path("/proc/self/cgroup")

    def cpus(self) -> Iterator[float]:
        """The CPUs that each quota comes to."""
        for folder in self._folders("cpu"):
            with suppress(OSError, ValueError):
                quota, period = (folder / "cpu.max").read_text().split()
                yield int(quota) / int(period)
            with suppress(OSError, ValueError):
                quota, period = ((folder / f"cpu.cfs_{word}_us").read_text() for word in ("quota", "period"))
                if int(quota) > 0:
                    yield int(quota) / int(period)

    def memory(self) -> Iterator[int]:
        """The bytes of each limit."""
        for folder in self._folders("memory"):
            for name in ("memory.max", "memory.limit_in_bytes"):
                with suppress(OSError, ValueError):
                    yield int((folder / name).read_text())

    def _folders(self, controller: str) -> Iterator[Path]:
        try:
            lines = self.own.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            for base in (self.root, *(self.root / name for name in (controller, names) if names)):
                # In a container the path may be the host's; then the mount's own root is the group.
                inner = base / path.lstrip("/")
                yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(base) and folder.is_dir())


def _cpus(control: Control) -> float:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(count, *control.cpus(), count), 0.1)


def _memory(control: Control) -> int:
    try:
        amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        import psutil

        amount = psutil.virtual_memory().total
    return min(amount, *control.memory(), amount)
