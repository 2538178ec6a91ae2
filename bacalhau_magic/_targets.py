"""What is known of a place before anything is sent to it, read from what its server reports (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import _marks
from ._stages import Endpoint, Target
from ._wire import PAYLOAD_LIMIT, NodeState

_LOCAL_LIMIT = 400_000_000
"""Bytes of job JSON that the embedded node takes over its own socket."""


def target(endpoint: Endpoint, version: str, nodes: Sequence[NodeState]) -> Target:
    """The Target of an endpoint: an embedded node says in its labels what it keeps, a cluster has its nodes' reports.

    Labels of another machine's nodes are anyone's words: they never make it the embedded node.
    """
    labels = next((node.info.labels for node in nodes if _marks.NODE_LOCAL in node.info.labels), None)
    if labels is None or not (endpoint.is_local or endpoint.is_loopback):
        return Target("bacalhau", endpoint, version, payload_limit=PAYLOAD_LIMIT, nodes=tuple(nodes))
    return Target(
        "local",
        endpoint,
        version,
        payload_limit=_LOCAL_LIMIT,
        # Only behind its own door: files are written there.
        staging=Path(labels[_marks.NODE_STAGING]) if endpoint.is_local and _marks.NODE_STAGING in labels else None,
        executor=labels.get(_marks.NODE_EXECUTOR, ""),
        executor_why=labels.get(_marks.NODE_EXECUTOR_WHY, ""),
        container=labels.get(_marks.NODE_CONTAINER, ""),
        limits=_below(labels, _marks.NODE_LIMIT),
        languages={
            name: text.removeprefix("missing:").strip() if text.startswith("missing") else ""
            for name, text in _below(labels, _marks.NODE_LANGUAGE).items()
        },
        nodes=tuple(nodes),
    )


def _below(labels: dict[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
