"""States, events and sentences of a job's life, in the words that a node of version 1.9.3 uses; nothing here does anything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import _marks

PENDING, QUEUED, RUNNING = "Pending", "Queued", "Running"
COMPLETED, FAILED, STOPPED = "Completed", "Failed", "Stopped"
TERMINAL = frozenset({COMPLETED, FAILED, STOPPED})

# ComputeState and DesiredState numbers since 1.5.2.
BID_ACCEPTED, EXECUTION_COMPLETED, EXECUTION_FAILED, EXECUTION_CANCELLED = 5, 9, 10, 11
DESIRED_RUNNING, DESIRED_STOPPED = 1, 2
DISCARDED = frozenset({EXECUTION_FAILED, EXECUTION_CANCELLED})
OVER = frozenset({EXECUTION_COMPLETED, EXECUTION_FAILED, EXECUTION_CANCELLED})

JOB_LEVEL, EXECUTION_LEVEL = "JobLevel", "ExecutionLevel"

STOP_REQUESTED = "Execution stop requested because job has been stopped"
JOB_STOPPED = "Job requested to stop before completion"
RESTARTED = "Failing due to node restart"
TRIED_TWICE = "job already executed on this node more than once"
REJECTED = "job rejected"

ATTEMPTS = 2
"""A failing job runs twice on a node, then the node no longer suits it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's history; `execution` is "" for the job's own."""

    message: str
    topic: str
    execution: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


def submitted() -> Event:
    return Event("Job submitted", "Submission")


def updated() -> Event:
    return Event("Job updated", "Submission")


def rerun(reason: str) -> Event:
    return Event("Job rerun requested", "Submission", details={"Reason": reason} if reason else {})


def requested(execution: str, node: str) -> Event:
    return Event(f"Requested execution on {short(node)}", "Scheduling", execution, {"NodeID": node})


def execution_running(execution: str) -> Event:
    return Event("Running", "Execution", execution)


def execution_completed(execution: str) -> Event:
    return Event("Completed successfully", "Execution", execution)


def execution_failed(execution: str, message: str, *, topic: str = "Running Execution") -> Event:
    return Event(message, topic, execution, {"IsError": "true"})


def image_pulled(execution: str, image: str) -> Event:
    """This node's own: a Bacalhau node says nothing of its pull until it has failed."""
    return Event(f"Pulling image {image}", _marks.PULLING, execution, {"Image": image})


def image_failed(execution: str, message: str, image: str) -> Event:
    hint = (
        "An internal system error occurred. This could be due to resource constraints. "
        "Check system resources and Docker logs for more information."
    )
    details = {"ErrorCode": "Docker:SystemError", "FailsExecution": "true", "Hint": hint, "Image": image, "IsError": "true"}
    return Event(message, "Exec Scanning", execution, details)


def log_cut(execution: str, stream: str) -> Event:
    return Event(f"The log of {stream} was cut after 1 GiB", "Running Execution", execution)


def execution_stopped(execution: str) -> Event:
    return Event(STOP_REQUESTED, "Scheduling", execution)


def state_update(state: str) -> Event:
    return Event(state, "State Update", details={"NewState": state})


def stopped(reason: str) -> Event:
    return Event(JOB_STOPPED, "Scheduling", details={"Reason": reason})


def queued(message: str) -> Event:
    return Event(message, "Queueing")


def unplaceable(message: str, requested_nodes: int) -> Event:
    details = {"IsError": "true", "NodesAvailable": "1", "NodesRequested": str(requested_nodes), "NodesSuitable": "0"}
    return Event(message, "Scheduling", details=details)


def job_timed_out(seconds: int) -> Event:
    details = {"FailsExecution": "true", "Hint": "Increase the task timeout or allocate more resources", "IsError": "true"}
    return Event(f"Job timed out. Job took longer than {duration(seconds)}", "Job Timeout", details=details)


def job_failed_at_restart() -> Event:
    return Event("Job failed because one or more executions failed", "State Update", details={"IsError": "true", "NewState": FAILED})


def execution_timed_out(seconds: int) -> str:
    return f"Execution timed out after {duration(seconds)}"


def not_enough_nodes(node: str, reason: str, requested_nodes: int = 1) -> str:
    """The message of a job that the one node does not suit."""
    return f"not enough nodes to run job. requested: {requested_nodes}, available: 1, suitable: 0.\n• Node {short(node)}: {reason}"


def other_labels(labels: Mapping[str, str], constraints: Sequence[Mapping[str, Any]]) -> str:
    """What a node says that a job's constraints leave out."""
    shown = " ".join(f"{key}:{value}" for key, value in sorted(labels.items()))
    wanted = " ".join(f"{one['Key']} {one['Operator']} {'|'.join(one.get('Values', ()))}" for one in constraints)
    return f"labels map[{shown}] don't match required selectors [{wanted}]"


def no_support(wanted: str, known: Sequence[str]) -> str:
    return f"does not support {wanted}, only {', '.join(known)}"


def busy(free: str, waiting: str = "") -> str:
    """What a node says that can't hold a job, given what it has free and what waits for it, as `amounts` writes them."""
    return f"node busy with available capacity {free}" + (f" and queue capacity {waiting}" if waiting else "")


def amounts(cpu: float, memory: int, disk: int, gpu: int) -> str:
    return f"{{CPU: {cpu:.2f}, Memory: {_amount(memory)}, Disk: {_amount(disk)}, GPU: {gpu}}}"


def short(identity: str) -> str:
    """The short form of an id: prefix and first 8 hex digits."""
    return identity[:10]


def duration(seconds: int) -> str:
    """Seconds as Go writes a duration: 6 → "6s", 60 → "1m0s"."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def timestamp(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 with nine digits."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def _amount(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}" if unit != "B" and amount < 10 and amount % 1 else f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.0f} TB"


def state(word: str | int, message: str = "") -> dict[str, Any]:
    """A State object; an empty message is left out."""
    return {"StateType": word, "Message": message} if message else {"StateType": word}
