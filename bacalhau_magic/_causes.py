"""Why a job waits or failed, in plain words: a pure function of what the server says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ._gpus import is_connected
from ._placement import amount, lacks, short, size, wants
from ._refusals import asked, may_pass, refusal
from ._wire import STOPPED, Execution, ExecutionState, HistoryItem, Job, NodeState

CauseKind = Literal[
    "unplaceable",  # no node takes it; a line for each node in `lines`
    "busy",  # nodes could take it, and are full
    "refused",  # a node looked at it and did not take it
    "image",  # the image can't be pulled
    "memory",  # killed at its memory limit
    "disk",  # killed at its disk limit
    "command",  # the command is not in the image
    "inputs",  # the inputs can't be unpacked or read
    "execution-timeout",  # the server's own execution timeout
    "timeout",  # the job's whole time is used up
    "node-lost",
    "restarted",  # the node was restarted
    "stopped",
    "failed",  # anything else, in the server's words
]


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason: its kind, a finished sentence, what to do about it, and whether trying again would end the same.

    `lines` are details, one a node or execution; `node` is the node's id where one is meant, else "".
    `reason` is what whoever stopped the job said, else "".
    """

    kind: CauseKind
    sentence: str
    advice: str = ""
    repeats: bool = False
    lines: tuple[str, ...] = ()
    node: str = ""
    reason: str = ""


STOP_PREFIX = "bacalhau-magic: "
"""A stop's reason that begins so came from here; after it stands a cause's kind, or plain words."""

_STOP = "requested to stop"
_WAITING = ("unplaceable", "busy")
_RANKS: Mapping[str, int] = {"stopped": 3, "timeout": 0, **dict.fromkeys(_WAITING, 1)}
"""Which kind is shown first: a stop that somebody asked for, an execution's own (2), why the server finds no node, the time."""


def causes(
    history: Sequence[HistoryItem], executions: Sequence[Execution] = (), job: Job | None = None, nodes: Sequence[NodeState] = ()
) -> tuple[Cause, ...]:
    """Every reason that the server's facts name, in the order in which they came, each once.

    `job` brings limits and names into the sentences, `nodes` whether another node could take the job.
    """
    found: list[Cause] = []
    failures = _failures(history, executions)
    alone = _is_alone(history, nodes, {failure.node for failure in failures if failure.node}, job)
    called = _called(history, job)
    placements = {item.execution_id: index for index, item in enumerate(history) if item.execution_id and item.event.details.get("NodeID")}
    placed = max(placements.values(), default=-1)
    refused = {failure.execution for failure in failures if _REFUSED.match(failure.message)}
    taken = max((index for execution, index in placements.items() if execution not in refused), default=-1)
    firsts = {failure.execution: failure for failure in reversed(failures)}
    texts = Counter(_masked(failure.message) for failure in firsts.values())
    for failure in reversed(firsts.values()):
        # A node that refused is history, too, once another has taken the job.
        if failure.execution not in refused or placements.get(failure.execution, placed) >= taken:
            found.append(_of_failure(failure, job, nodes, alone, called, again=texts[_masked(failure.message)] > 1))
    for index, item in enumerate(history):
        if item.type == "JobLevel":
            of_job = _timed_out(item.event.message, called, placed >= 0) or _of_job(
                item.event.message, item.event.details, job, nodes, bool(failures)
            )
            # What kept the job waiting is history once a node has taken it.
            found += [cause for cause in of_job if index > placed or cause.kind not in _WAITING]
    told = any(_STOP in item.event.message for item in history)
    if job and job.state and (job.state.message or (job.phase_word == STOPPED and not told)):
        timed = _timed_out(job.state.message, called, placed >= 0)
        found += timed or _of_job(job.state.message, {"Stopped": job.phase_word == STOPPED}, job, nodes, bool(failures))
    if len({cause.sentence for cause in found if cause.kind == "stopped"}) > 1:
        found = [cause for cause in found if cause != _stopped("")]
    return tuple({(cause.kind, cause.sentence, cause.lines): cause for cause in found}.values())


def main(found: Sequence[Cause]) -> Cause | None:
    """The reason to show first: what happened to an execution, then why no node took it, then the rest; the latest of its kind."""
    ranks = [_RANKS.get(cause.kind, 2) for cause in found]
    return found[len(ranks) - 1 - ranks[::-1].index(max(ranks))] if ranks else None


# An execution that failed


@dataclass(frozen=True, slots=True)
class _Failure:
    execution: str
    node: str
    message: str
    topic: str
    code: str
    image: str
    hint: str


def _failures(history: Sequence[HistoryItem], executions: Sequence[Execution]) -> list[_Failure]:
    places = {
        item.execution_id: str(item.event.details["NodeID"]) for item in history if item.execution_id and item.event.details.get("NodeID")
    }
    places |= {execution.id: execution.node_id for execution in executions}
    found = [
        _failure(item.execution_id, places.get(item.execution_id, ""), item.event.message, item.event.topic, item.event.details)
        for item in history
        if item.execution_id and (str(item.event.details.get("IsError", "")).lower() == "true" or _OVER.search(item.event.message))
    ]
    known = {failure.execution for failure in found}
    alike = {_masked(failure.message): failure for failure in found}
    for execution in executions:
        if execution.compute == ExecutionState.FAILED and execution.id not in known:
            state = execution.compute_state
            own = _failure(execution.id, execution.node_id, state.message, "", state.details)
            # A record may have the words alone, and be faster than the history: the same words are the same failure.
            like = alike.get(_masked(own.message)) if own.message and not (own.code or own.hint) else None
            found.append(replace(like, execution=own.execution, node=own.node) if like else own)
    return found


_ENDED = re.compile(r"node has disappeared|due to node restart", re.IGNORECASE)
_REFUSED = re.compile(r"rejected bid: *(.*)", re.IGNORECASE)
_OVER = re.compile(rf"{_ENDED.pattern}|^rejected bid:", re.IGNORECASE)
"""Messages of executions that are over, which the server marks as no error."""


def _failure(execution: str, node: str, message: str, topic: str, details: Mapping[str, object]) -> _Failure:
    code, image, hint = (_line(str(details.get(key) or "")) for key in ("ErrorCode", "Image", "Hint"))
    return _Failure(execution, node, _line(message), topic, code, image, hint)


def _of_failure(failure: _Failure, job: Job | None, nodes: Sequence[NodeState], alone: bool, called: str, *, again: bool) -> Cause:
    """`alone`: no other node could try it; `again`: another execution failed with the same words."""
    message, node = failure.message, failure.node
    place = f" on {short(node)}" if node else ""
    if "memory limit exceeded" in message.lower() or "oomkilled" in message.lower():
        return _memory(job, nodes, node, alone)
    if "disk limit exceeded" in message.lower():
        return _disk(job, node)
    if timed := re.search(r"Execution timed out after (\S+)", message):
        return Cause(
            "execution-timeout",
            f"{called} ran longer than the {_span(timed[1])} that the server allows it.",
            "Give it more time: --timeout 30m.",
            repeats=True,
            node=node,
        )
    if _ENDED.search(message):
        kind: CauseKind = "restarted" if "restart" in message.lower() else "node-lost"
        what = "was restarted while the job ran" if kind == "restarted" else "was lost while the job ran"
        return Cause(kind, f"The node {short(node) or 'that ran it'} {what}.", "Run the cell again.", node=node)
    if refused := _REFUSED.match(message):
        return _refused(refused[1], job, nodes, node, alone)
    if "executable file not found" in message or re.search(r"exec: .*no such file or directory|exec format error", message):
        name = re.search(r'exec: "([^"]+)"', message)
        what = f"The command {name[1]!r} is not in the image" if name else "The job's command is not in the image"
        return Cause(
            "command", f"{what}{_image(job)}.", "Choose an image that has it, with --image.", repeats=True, lines=(message,), node=node
        )
    if message.startswith("preparing arguments") or failure.topic == "Downloading Inputs":
        return Cause(
            "inputs",
            f"The job's inputs can't be unpacked or read{place}.",
            "Check the inputs' paths and URLs.",
            repeats=True,
            lines=(message,),
            node=node,
        )
    if failure.topic == "Exec Scanning" or failure.image or "image not available" in message or "manifest unknown" in message:
        image = failure.image or _image_of(job)
        return Cause(
            "image",
            f"The image {image!r} can't be pulled{place}." if image else f"The image can't be pulled{place}.",
            failure.hint
            if failure.hint and failure.code != "Docker:SystemError"
            else "Check the image's name and that the node can reach its registry.",
            repeats=alone,
            lines=tuple(line for line in (message, failure.hint) if line),
            node=node,
        )
    repeats = alone and again
    said = failure.hint or ("It failed twice in the same way, and no other node could take it." if repeats else "")
    return Cause("failed", f"The job failed{place}: {message.rstrip('.') or 'the server gave no reason'}.", said, repeats, node=node)


def _refused(reason: str, job: Job | None, nodes: Sequence[NodeState], node: str, alone: bool) -> Cause:
    """A node looked at the job and did not take it; the server leaves the job waiting without a word."""
    if variable := re.search(r"does not resolve environment variable ([^\s:]+)", reason):
        return Cause(
            "refused",
            f"The node {short(node) or 'that was asked'} does not let jobs have {variable[1]!r} of its environment.",
            "Whoever runs the node can allow it there (Compute.Env.AllowList); --secret-in-spec sends the value in clear.",
            repeats=alone,
            lines=(reason,),
            node=node,
        )
    words = reason.rstrip(".") or "it gave no reason"
    too_much = any(state.info.node_id == node and job and lacks(state, wants(job)) for state in nodes)
    later = may_pass(reason) and not too_much
    advice = "It may take the job later: wait longer with --queue-timeout." if later else ""
    return Cause("refused", f"The node {short(node) or 'that was asked'} refused the job: {words}.", advice, alone and not later, node=node)


def _memory(job: Job | None, nodes: Sequence[NodeState], node: str, alone: bool) -> Cause:
    limit = amount(job.task.resources.memory) if job and job.task.resources else None
    largest = max((int(state.info.compute_node_info.max_job_requirements.memory) for state in nodes), default=0)
    if not limit:
        return Cause(
            "memory", "The job was killed because it used more memory than it asked for.", "Ask for more with --memory.", alone, node=node
        )
    more = min(4 * limit, largest) if largest > limit else 4 * limit
    rest = f" The largest node here has {size(largest)}." if largest else ""
    advice = "" if largest and largest <= limit else f"Ask for more: --memory {size(more).replace(' ', '')}."
    return Cause("memory", f"The job was killed at its limit of {size(limit)} of memory.", (advice + rest).strip(), alone, node=node)


def _disk(job: Job | None, node: str) -> Cause:
    limit = amount(job.task.resources.disk) if job and job.task.resources and job.task.resources.disk else None
    if not limit:
        return Cause(
            "disk", "The job was killed because its files took more room than it may have.", "Give it more: --disk 10GB.", True, node=node
        )
    more = size(4 * limit).replace(" ", "")
    return Cause("disk", f"The job was killed at its limit of {size(limit)} of disk.", f"Ask for more: --disk {more}.", True, node=node)


def _is_alone(history: Sequence[HistoryItem], nodes: Sequence[NodeState], tried: set[str], job: Job | None) -> bool:
    """Whether no node is left that could take the job: all that could have tried it, or the server says that it is so.

    Where the nodes are not known this is not either.
    """
    rest = [node for node in nodes if is_connected(node) and node.info.node_id not in tried]
    if nodes and not any(job is None or not lacks(node, wants(job)) for node in rest):
        return True
    return any(item.type == "JobLevel" and _is_spent(item.event.message) for item in history)


def _is_spent(message: str) -> bool:
    """Whether the server refuses to try again because every node had its tries."""
    head, *bullets = message.split("\n")
    return "not enough nodes to run job" in head and bool(bullets) and all("already executed on this node" in line for line in bullets)


def _masked(message: str) -> str:
    """A failure's words without the numbers that are another for each execution."""
    return re.sub(r"\b[0-9a-f]{8,}\b|\d+", "#", message)


# What the server says of the job as a whole


def _of_job(message: str, details: Mapping[str, object], job: Job | None, nodes: Sequence[NodeState], failed: bool) -> list[Cause]:
    if "not enough nodes to run job" in message or "not matching nodes" in message:
        return _unplaced(message, job, nodes)
    if _STOP in message or details.get("Stopped") is True:
        reason = message if "Stopped" in details else str(details.get("Reason") or "")
        # We stopped it ourselves because of what its execution said: that is the cause.
        ours = failed and reason.removeprefix(STOP_PREFIX) in get_args(CauseKind)
        return [] if ours else [_stopped(_line(reason))]
    ignored = ("Job submitted", "Running", "Completed", "Job queued", "Job updated", "Job rerun requested")
    if not failed and str(details.get("IsError", "")).lower() == "true" and not message.startswith(ignored):
        return [Cause("failed", f"The job failed: {_line(message).rstrip('.')}.", _line(str(details.get("Hint") or "")))]
    return []


def _called(history: Sequence[HistoryItem], job: Job | None) -> str:
    """The job in a sentence, with its id where that is known."""
    identity = next((item.job_id for item in history if item.job_id), "") or (job.id if job else "") or ""
    return f"The job {short(_line(identity))}" if identity else "The job"


def _timed_out(message: str, called: str, placed: bool) -> list[Cause]:
    """The job's whole time is used up: what to raise depends on whether a node had taken it."""
    if not message.startswith("Job timed out"):
        return []
    span = re.search(r"longer than (\S+)", message)
    limit = f"the {_span(span[1])} that it had, waiting included" if span else "the time that it had"
    raised = "Give it more time: --timeout 30m, or --long for hours." if placed else "Wait longer for a node: --queue-timeout 1h."
    return [Cause("timeout", f"{called} took longer than {limit}.", raised)]


def _stopped(reason: str) -> Cause:
    words = reason.removeprefix(STOP_PREFIX).rstrip(".")
    said = words if words.startswith("stopped ") else f"stopped: {words}" if words else "stopped"
    return Cause("stopped", f"The job was {said}.", reason=words)


def _unplaced(message: str, job: Job | None, nodes: Sequence[NodeState]) -> list[Cause]:
    head, *bullets = message.split("\n")
    reasons = [match for bullet in bullets if (match := re.match(r"\s*[•*-]?\s*Node (\S+?):\s*(.*)", bullet))]
    reasons = [match for match in reasons if "already executed on this node" not in match[2]]
    if bullets and not reasons:
        return []
    known = {short(state.info.node_id): state for state in nodes} | {state.info.node_id: state for state in nodes}
    lines, later = [], []
    for match in reasons:
        sentence, can_later = refusal(_line(match[2]), job, known.get(match[1]))
        lines.append(f"{short(match[1])} {sentence}")
        later.append(can_later)
    wanted = asked(job)
    asks = f": it asks for {wanted}" if wanted else ""
    if not reasons:
        count = re.search(r"available: (\d+)", head)
        what = "No node is connected to the server." if count and count[1] == "0" else f"No node can take the job{asks}."
        return [Cause("unplaceable", what, "Ask whoever runs the server.", lines=() if count else (_line(head),))]
    gpu = bool(job and job.task.resources and (job.task.resources.gpu or "0") not in ("", "0"))
    if any(later):
        able = [short(match[1]) for match, can in zip(reasons, later, strict=True) if can]
        advice = f"It starts by itself when {able[0] if len(able) == 1 else 'a node'} is free."
        advice += " Without a GPU: --gpu 0. See all: %bacalhau nodes --gpu." if gpu else ""
        return [Cause("busy", f"No node can take the job now{asks}.", advice, lines=tuple(lines))]
    advice = "Without a GPU it may run: leave --gpu out." if gpu else "Ask for less, or see what there is: %bacalhau nodes."
    if any(match[2].startswith("does not support docker") for match in reasons):
        advice = "Install docker or podman there, or leave --image out."
    return [Cause("unplaceable", f"No node can take the job{asks}.", advice, lines=tuple(lines))]


# Words


def _span(text: str) -> str:
    """A Go duration in words: "1m0s" → "1 min", "6s" → "6 s"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text.rstrip("."))
    words = [f"{float(number):g} {'min' if unit == 'm' else unit}" for number, unit in parts if float(number)]
    return " ".join(words) or text.rstrip(".")


def _image_of(job: Job | None) -> str:
    image = (job.task.engine.params or {}).get("Image") if job else None
    return _line(image) if isinstance(image, str) else ""


def _image(job: Job | None) -> str:
    image = _image_of(job)
    return f" {image!r}" if image else ""


def _line(text: str, limit: int = 1000) -> str:
    """A server's text as one harmless line."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
