"""Which nodes could take a job, and what the others lack: pure, from what the nodes report of themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import _gpus
from ._wire import Job, NodeState

__all__ = ["Wants", "amount", "capacity", "holds", "lacks", "nearest", "short", "size", "spelled", "takes_jobs", "wants"]


@dataclass(frozen=True, slots=True)
class Wants:
    """What a job asks of a node; memory and disk in bytes, names in lower case, "" and 0 where it asks for nothing."""

    engine: str = ""
    cpu: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    gpu: float = 0.0
    publisher: str = ""
    sources: tuple[str, ...] = ()
    constraints: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


def wants(job: Job) -> Wants:
    """What a wire Job asks of a node."""
    task, resources = job.task, job.task.resources
    asked = {name: amount(getattr(resources, name)) or 0.0 for name in ("cpu", "memory", "disk", "gpu")} if resources else {}
    return Wants(
        engine=task.engine.type.lower(),
        publisher=task.publisher.type.lower() if task.publisher else "",
        sources=tuple(dict.fromkeys(item.source.type.lower() for item in task.input_sources)),
        constraints=tuple((item.key, item.operator, tuple(item.values)) for item in job.constraints),
        **asked,
    )


def takes_jobs(node: NodeState) -> bool:
    """Whether a node runs jobs at all: an orchestrator alone lists no engines."""
    return bool(node.info.compute_node_info.execution_engines)


def lacks(node: NodeState, wanted: Wants) -> tuple[str, ...]:
    """What keeps a node from ever taking such a job, in words that follow "it"; empty where nothing is known to.

    A part that the node does not report is no reason. What is in use now does not count: it becomes free again.
    """
    info = node.info.compute_node_info
    found = []
    if wanted.engine and wanted.engine not in _lower(info.execution_engines):
        found.append(f"can't run {wanted.engine} jobs, only {', '.join(info.execution_engines) or 'none'}")
    count = _gpus.count(node)
    if wanted.gpu > count:
        found.append(f"has only {count} GPU, not {wanted.gpu:g}" if count else "has no GPU")
    most = capacity(node)
    if 0 < most.get("cpu", 0) < wanted.cpu:
        found.append(f"has {most['cpu']:g} CPU, not {wanted.cpu:g}")
    for name in ("memory", "disk"):
        if 0 < most.get(name, 0) < getattr(wanted, name):
            found.append(f"has {size(most[name])} of {name}, not {size(getattr(wanted, name))}")
    for constraint in wanted.constraints:
        if not holds(constraint, node.info.labels):
            found.append(f"has no label that meets {spelled(constraint)}")
    missing = [source for source in wanted.sources if info.storage_sources and source not in _lower(info.storage_sources)]
    if missing:
        found.append(f"can't fetch {' and '.join(missing)} inputs")
    if wanted.publisher and wanted.publisher not in _lower(info.publishers):
        found.append(f"has no {wanted.publisher} publisher")
    return tuple(found)


def nearest(nodes: Sequence[NodeState], wanted: Wants) -> tuple[NodeState, tuple[str, ...]] | None:
    """The node that lacks least, and what that is; None where there is none that runs jobs."""
    ranked = [(node, lacks(node, wanted)) for node in nodes if takes_jobs(node)]
    return min(ranked, key=lambda item: len(item[1]), default=None)


def _lower(names: Sequence[str]) -> list[str]:
    return [name.lower() for name in names]


# What a node has


def capacity(node: NodeState) -> dict[str, float]:
    """The most that one job can have on a node: cpu, memory, disk; a part that was not reported is left out."""
    info = node.info.compute_node_info
    amounts = {}
    for name in ("cpu", "memory", "disk"):
        known = [value for value in (getattr(info.max_job_requirements, name), getattr(info.max_capacity, name)) if value]
        if known:
            amounts[name] = min(known)
    return amounts


def holds(constraint: tuple[str, str, tuple[str, ...]], labels: Mapping[str, str]) -> bool:
    """Whether a node's labels meet a constraint, by the rules of label selectors."""
    key, operator, values = constraint
    value = labels.get(key)
    match operator:
        case "exists":
            return value is not None
        case "!":
            return value is None
        case "!=" | "notin":
            return value not in values
        case "gt" | "lt":
            try:
                ours, theirs = int(value or ""), int(values[0])
            except ValueError:
                return False
            return ours > theirs if operator == "gt" else ours < theirs
        case _:
            return value in values


def spelled(constraint: tuple[str, str, tuple[str, ...]]) -> str:
    """A constraint as one reads it: "zone in a,b"."""
    key, operator, values = constraint
    return f"{key} {operator} {','.join(values)}".strip()


# Words


def short(node: str) -> str:
    """A node's or job's id as people read it: its kind and eight digits."""
    return node[:10] if re.fullmatch(r"[a-z]-[0-9a-f]{8}-.*", node) else node[:40]


_UNITS = {"": 1, "m": 0.001, "k": 10**3, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def amount(text: str | None) -> float | None:
    """An amount as Bacalhau writes it: "0.5", "500m" (of a CPU), "100mb", "2 GB"; None where it can't be read or is endless."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", text or "")
    if not match:
        return None
    unit = match[2].lower()
    factor = 10.0**6 if unit == "mb" else _UNITS.get(unit.removesuffix("b"))
    try:
        count = float(match[1]) * factor if factor is not None else math.inf
    except ValueError:
        return None
    return count if math.isfinite(count) else None


def size(count: float) -> str:
    """Bytes in words, decimal units: 2000000000 → "2 GB"."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} TB"
