"""Before a job is sent: whether any node that is there could take it, which comes nearest and what that one lacks; whether the
addresses among its inputs answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._gpus import is_connected
from ._placement import Wants, lacks, nearest, short, takes_jobs, wants
from ._stages import CellRequest, InputItem, PackedJob, Target
from ._wire import NodeState
from .client import clean, head
from .errors import ApiError, ConfigError, UnsendableInputError


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


_PATIENCE = 10.0
"""Seconds for an address to answer."""


def check_addresses(request: CellRequest, target: Target) -> tuple[str, ...]:
    """What should be said of the addresses among the inputs, after asking those that can be asked from here.

    Raises UnsendableInputError for one that the nodes could not fetch either.
    """
    notices = []
    for item in request.inputs:
        if not item.url:
            continue
        scheme = item.url.partition(":")[0].lower()
        if target.is_local and scheme not in ("http", "https"):
            raise UnsendableInputError(
                item.name,
                f"the node of this machine can't fetch {scheme}://",
                hint="Give it an https:// address or a file, or use --runtime bacalhau.",
            )
        if scheme in ("http", "https"):
            notices += _asked(item, target)
    return tuple(notices)


def _asked(item: InputItem, target: Target) -> list[str]:
    """Ask an address as a node will, by HEAD."""
    where = clean(item.url.partition("?")[0], 200)  # the query may be a right
    try:
        answer = head(item.url, patience=_PATIENCE, follow=True)
    except ValueError as problem:
        raise UnsendableInputError(item.name, f"{where} is no address: {problem}") from None
    except ConnectionError as problem:
        if target.is_local:
            raise UnsendableInputError(item.name, f"{where} can't be reached ({type(problem.__cause__).__name__})") from None
        return [f"{where} can't be reached from here; the nodes may."]
    if answer.status != 200:
        raise UnsendableInputError(
            item.name,
            f"{where} answers with status {answer.status} where a node asks for its size (HEAD)",
            hint="A node fetches it without any permission of yours: use an address that is open, or send the data itself.",
        )
    if answer.size is None:
        raise UnsendableInputError(item.name, f"{where} does not tell its size (Content-Length), and nodes want that before they fetch")
    return []


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
