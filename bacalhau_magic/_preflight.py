"""Before a job is sent: whether any node that is there could take it, which comes nearest, and what that one lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._gpus import is_connected
from ._placement import Wants, lacks, nearest, short, takes_jobs, wants
from ._stages import PackedJob
from ._wire import NodeState
from .errors import ApiError, ConfigError


def check(packed: PackedJob, look: Callable[[], Sequence[NodeState]]) -> tuple[str, ...]:
    """What should be said about the nodes that could take the job; nothing while one that is connected can.

    `look` asks for the nodes anew where those that are known would refuse. Raises ConfigError when none that is
    connected could ever take it; a list that can't be read is no reason to refuse.
    """
    target, wanted = packed.route.target, wants(packed.job)
    if target.is_local or not target.nodes or _able(target.nodes, wanted):
        return ()
    try:
        nodes = look()
    except ApiError:
        return ()
    if not nodes or _able(nodes, wanted):
        return ()
    away = [short(node.info.node_id) for node in nodes if takes_jobs(node) and not lacks(node, wanted)]
    if away:
        return (f"Only {', '.join(away[:3])} could take the job, and is not connected now: the job waits in the queue.",)
    found = nearest([node for node in nodes if is_connected(node)], wanted)
    if found is None:
        raise ConfigError(
            f"No node is connected to {target.endpoint.label}, so that nothing could take the job.",
            setting="api_url",
            hint="Ask whoever runs the server, or run the cell here: --runtime local.",
        )
    node, missing = found
    raise ConfigError(
        f"No connected node of {target.endpoint.label} could take the job. "
        f"Nearest comes {short(node.info.node_id)}: it {_listed(missing)}.{_rest(nodes, node, wanted)}",
        setting="api_url",
        hint="Ask for less, or see what there is: %bacalhau nodes.",
    )


def _able(nodes: Sequence[NodeState], wanted: Wants) -> bool:
    return any(is_connected(node) and not lacks(node, wanted) for node in nodes)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _rest(nodes: Sequence[NodeState], said: NodeState, wanted: Wants) -> str:
    """The other nodes' first reasons, at most three."""
    others = [node for node in nodes if node is not said and is_connected(node)]
    lines = [f"\n• {short(node.info.node_id)} {_listed(lacks(node, wanted)[:2])}" for node in others[:3]]
    more = len(others) - len(lines)
    return "".join(lines) + (f"\n• and {more} more" if more > 0 else "")
