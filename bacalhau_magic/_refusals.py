"""Why a node does not take a job, in our words: pure, from what servers say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ._placement import amount, size
from ._wire import Job, NodeState

__all__ = ["asked", "may_pass", "refusal"]

_PASSING = re.compile(r"insufficient resources|capacity|\b(busy|full|queue|overloaded|too many|currently)\b", re.IGNORECASE)


def may_pass(reason: str) -> bool:
    """Whether a node that refuses with these words may take the same job later, when others have left it."""
    return bool(_PASSING.search(reason))


def refusal(reason: str, job: Job | None, state: NodeState | None) -> tuple[str, bool]:
    """A node's refusal in our words, and whether the node may take the job later."""
    if busy := re.match(r"node busy with available capacity \{([^}]*)\}", reason):
        free = {key.strip(): text.strip() for key, _, text in (part.partition(":") for part in busy[1].split(","))}
        return _short_of(free, job, state)
    if match := re.match(r"does not support (\S+?),? only (.*)", reason):
        return f"can't run {match[1].rstrip(',')} jobs, only {match[2]}", False
    if match := re.search(r"more (\S+) \(([^)]*)\) than the maximum available \(([^)]*)\)", reason):
        return f"offers at most {match[3]} of {match[1]}, and {match[2]} are asked for", False
    if "required selectors" in reason:
        return "does not have the labels that --constraints asks for", False
    if reason.startswith("job rejected"):
        return "refused the job", True
    if "version is incompatible" in reason:
        return "runs another version of Bacalhau", False
    return f"says: {reason.rstrip('.')}", False


def _short_of(free: Mapping[str, str], job: Job | None, state: NodeState | None) -> tuple[str, bool]:
    resources = job.task.resources if job else None
    most = state.info.compute_node_info.max_job_requirements if state else None
    wanted_gpu = amount(resources.gpu) if resources and resources.gpu else 0
    free_gpu = amount(free.get("GPU", "0")) or 0
    if wanted_gpu and wanted_gpu > free_gpu:
        if most is not None and most.gpu < wanted_gpu:
            return ("has no GPU" if not most.gpu else f"has only {most.gpu} GPU"), False
        if most is not None:
            return f"has {most.gpu} GPU, {free_gpu:g} free", True
        return "has no free GPU" if not free_gpu else f"has only {free_gpu:g} free GPU", True
    wanted_cpu = amount(resources.cpu) if resources and resources.cpu else None
    free_cpu = amount(free.get("CPU", ""))
    if wanted_cpu and free_cpu is not None and wanted_cpu > free_cpu:
        can = most is None or not most.cpu or most.cpu >= wanted_cpu
        return (f"has {free_cpu:g} free CPU" if can else f"has only {most.cpu if most else 0:g} CPU"), can
    wanted = amount(resources.memory) if resources and resources.memory else None
    room = amount(free.get("Memory", "").replace(" ", ""))
    if wanted and room is not None and wanted > room:
        can = most is None or not most.memory or most.memory >= wanted
        return (f"has {size(room)} of memory free" if can else f"has only {size(most.memory if most else 0)} of memory"), can
    return "is busy", True


def asked(job: Job | None) -> str:
    """What a job asks for, as one reads it: its GPUs, or its CPUs and memory."""
    resources = job.task.resources if job else None
    if resources is None:
        return ""
    parts = [f"{resources.gpu} GPU"] if resources.gpu and resources.gpu != "0" else []
    if cpu := amount(resources.cpu):
        parts.append(f"{cpu:g} CPU")
    if memory := amount(resources.memory):
        parts.append(f"{size(memory)} of memory")
    return ", ".join(parts[:1] if parts and "GPU" in parts[0] else parts)
