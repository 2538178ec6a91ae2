"""What this node runs jobs with, and what of it is free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import _marks
from . import _answers, _intake, _lifecycle
from ._labels import meets
from ._queue import Amounts, Queue, machine
from ._store import JobRow
from .executors._gpus import Gpu
from .executors._seam import Executor, Executors

__all__ = ["Room", "interpreter"]


class Room:
    """The node's executors, labels, queue and GPUs. `executors` arrive later (`equip`): probing takes longer than opening the door."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.executors: Executors | None = None
        self.labels: Mapping[str, str] = {}
        """The node's labels as a job's constraints see them."""
        self.queue = Queue(machine(folder, 0))
        self._free_gpus: list[Gpu] = []
        self._held_gpus: dict[str, tuple[Gpu, ...]] = {}

    def equip(self, executors: Executors, labels: Mapping[str, str]) -> None:
        self.executors, self.labels = executors, labels
        self._free_gpus = list(executors.gpus)
        self.queue.capacity = machine(self._folder, len(executors.gpus))

    @property
    def engines(self) -> list[str]:
        """The engines in node info: `host` stands for jobs that carry the mark of an interpreter."""
        return ["docker", "host"] if self.executors and self.executors.container else ["host"]

    def executor(self, job: JobRow) -> Executor | None:
        """What runs a job here: the host's sandbox where it carries the mark of an interpreter, else a container."""
        if self.executors is None:
            return None
        return self.executors.host if interpreter(job) else self.executors.container

    def unsuitable(self, job: JobRow) -> str:
        """Why this node can't run a job, in the recorded words; "" if it can."""
        return self._unsupported(job) or self._without_room(job)

    def _unsupported(self, job: JobRow) -> str:
        task = job.task
        engine = task["Engine"]["Type"].lower()
        executor = self.executor(job)
        if engine != "docker" or executor is None:
            return _lifecycle.no_support(engine, self.engines)
        if (task.get("Meta") or {}).get(_marks.META_SANDBOX) and executor.limits["files"] != _marks.LIMIT_ENFORCED:
            return _lifecycle.no_support("isolation", [executor.name])
        for source in task.get("InputSources") or ():
            kind = source["Source"]["Type"].lower()
            if kind not in _answers.STORAGE_SOURCES:
                return _lifecycle.no_support(kind, _answers.STORAGE_SOURCES)
        publisher = task["Publisher"]["Type"].lower()
        if publisher and publisher not in _answers.PUBLISHERS:
            return _lifecycle.no_support(publisher, _answers.PUBLISHERS)
        if job.spec["Type"] not in ("batch", "ops"):
            return _lifecycle.REJECTED
        return ""

    def _without_room(self, job: JobRow) -> str:
        if not all(meets(constraint, self.labels) for constraint in job.spec["Constraints"]):
            return _lifecycle.other_labels(self.labels, job.spec["Constraints"])
        amounts = self.amounts(job)
        if not self.queue.capacity.holds(amounts) or (self.queue.full and not self.queue.free.holds(amounts)):
            waiting = self.queue.waited_for
            return _lifecycle.busy(_shown(self.queue.free), _shown(waiting) if waiting != Amounts() else "")
        return ""

    def amounts(self, job: JobRow) -> Amounts:
        """What a job counts for: a default CPU or memory is cut to what this node has, one that was asked for is not."""
        resources = job.task["Resources"]
        cpu, memory, disk, gpu = _intake.amounts(resources)
        if resources["CPU"] == _intake.DEFAULT_CPU:
            cpu = min(cpu, self.queue.capacity.cpu)
        if resources["Memory"] == _intake.DEFAULT_MEMORY:
            memory = min(memory, self.queue.capacity.memory)
        return Amounts(cpu, memory, disk, gpu)

    def take_gpus(self, execution: str, count: int) -> tuple[Gpu, ...]:
        """Free cards for an execution, of one maker where one has enough: few programs use two makers' at once."""
        by_maker = [[gpu for gpu in self._free_gpus if gpu.vendor == vendor] for vendor in dict.fromkeys(g.vendor for g in self._free_gpus)]
        taken = tuple(next((gpus for gpus in by_maker if len(gpus) >= count), self._free_gpus)[:count])
        self._free_gpus = [gpu for gpu in self._free_gpus if gpu not in taken]
        self._held_gpus[execution] = taken
        return taken

    def leave(self, execution: str) -> None:
        """An execution is over: its place and its cards are free."""
        self.queue.drop(execution)
        self._free_gpus += self._held_gpus.pop(execution, ())


def interpreter(job: JobRow) -> str:
    """The program of this machine that a job is for; "" for one that needs its image."""
    return str((job.task.get("Meta") or {}).get(_marks.META_INTERPRETER, ""))


def _shown(amounts: Amounts) -> str:
    return _lifecycle.amounts(amounts.cpu, amounts.memory, amounts.disk, amounts.gpu)
