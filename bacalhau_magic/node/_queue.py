"""What this machine can hold, and the executions that wait for room: first come, first served."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Amounts", "Queue", "machine"]


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


def machine(disk_folder: Path, gpus: int) -> Amounts:
    """What this process may use: its CPUs by affinity and cgroup, 80 % of memory and of the free disk."""
    return Amounts(_cpus(), int(_memory() * 0.8), int(_free_disk(disk_folder) * 0.8), gpus)


def _cpus() -> float:
    count: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _cgroup_quotas():
        if quota > 0 and period > 0:
            count = min(count, quota / period)
    return max(count, 0.1)


def _cgroup_quotas() -> Iterator[tuple[int, int]]:
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            yield int(quota), int(period)
    with suppress(OSError, ValueError):
        base = Path("/sys/fs/cgroup/cpu")
        yield int((base / "cpu.cfs_quota_us").read_text()), int((base / "cpu.cfs_period_us").read_text())


def _memory() -> int:
    try:
        amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        import psutil

        amount = psutil.virtual_memory().total
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            amount = min(amount, int(Path(place).read_text()))
    return amount


def _free_disk(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free
