"""The GPUs that nodes report, and which nodes can give the ones that are wanted (pure).

A job says how many GPUs it wants, never which: a model or a maker is chosen by a constraint on the nodes' own labels,
and a node with GPUs of several kinds gives whichever is free.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ._wire import NodeState

__all__ = ["Wanted", "can_give", "constraint", "count", "is_connected", "listing", "text"]

Constraint = tuple[str, str, tuple[str, ...]]

_MAKERS = {
    "nvidia": ("nvidia", "tesla", "geforce", "quadro"),
    "amd": ("amd", "ati", "radeon", "instinct"),
    "intel": ("intel",),
}
"""Words that tell a GPU's maker, in what a node reports of it."""

_SELECTABLE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MODEL_LABEL, _NAME_LABEL = "GPU-0", "name"


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many GPUs on one node; of a model and a maker, "" for any."""

    count: int
    model: str = ""
    vendor: str = ""

    @property
    def is_choosy(self) -> bool:
        """Whether not any GPU will do."""
        return bool(self.model or self.vendor)

    def __str__(self) -> str:
        return f"{self.count} × {' '.join(part for part in (self.vendor, self.model or 'GPU') if part)}"


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _is_model(wanted: str, name: str) -> bool:
    """Whether a GPU's name is of the wanted model: its whole words in their order, so that A10 is no A100."""
    asked, words = _words(wanted), _words(name)
    rest = iter(words)
    if asked and all(word in rest for word in asked):
        return True
    joined = "".join(asked)
    return bool(joined) and any(
        "".join(words[start:end]) == joined for start in range(len(words)) for end in range(start + 1, len(words) + 1)
    )


def _is_by(vendor: str, name: str, maker: str) -> bool:
    return bool(set(_words(maker or name)) & set(_MAKERS[vendor]))


def _reported(node: NodeState) -> list[tuple[str, str]]:
    """A node's GPUs as (model, maker); the models of its `GPU-0` labels where it reports no more."""
    found = [(gpu.name, gpu.vendor) for gpu in node.info.compute_node_info.max_capacity.gpus]
    return found or [(value, "") for key, value in node.info.labels.items() if re.fullmatch(r"GPU-\d+", key)]


def count(node: NodeState) -> int:
    """How many GPUs a node has."""
    return max(node.info.compute_node_info.max_capacity.gpu, len(_reported(node)))


def is_connected(node: NodeState) -> bool:
    """Whether a node takes jobs now: it has engines, is approved and connected, as far as it is said."""
    return (
        bool(node.info.compute_node_info.execution_engines) and node.connection in ("CONNECTED", "") and node.membership in ("APPROVED", "")
    )


def _matching(node: NodeState, wanted: Wanted) -> int:
    return sum(
        (not wanted.model or _is_model(wanted.model, name)) and (not wanted.vendor or _is_by(wanted.vendor, name, maker))
        for name, maker in _reported(node)
    )


def _has_enough(node: NodeState, number: int) -> bool:
    most = node.info.compute_node_info.max_job_requirements.gpu or count(node)
    return min(most, count(node)) >= number


def is_mixed(node: NodeState, wanted: Wanted) -> bool:
    """Whether a node has the wanted GPUs beside others, so that a job may get the others."""
    return wanted.is_choosy and _has_enough(node, wanted.count) and 0 < _matching(node, wanted) < count(node)


def can_give(node: NodeState, wanted: Wanted) -> bool:
    """Whether a job of that many GPUs gets the wanted ones on this node."""
    return _has_enough(node, wanted.count) and (not wanted.is_choosy or 0 < count(node) == _matching(node, wanted))


def constraint(able: Sequence[NodeState], nodes: Iterable[NodeState], wanted: Wanted) -> tuple[Constraint, ...] | None:
    """The constraint that keeps a job on the able ones among all nodes: empty where none is needed, None where no label tells them apart."""
    others = [node for node in nodes if node not in able and _has_enough(node, wanted.count)]
    if not others:
        return ()
    for label in (_MODEL_LABEL, _NAME_LABEL):
        values = {node.info.labels.get(label, "") for node in able}
        if all(_SELECTABLE.fullmatch(value) for value in values) and not any(node.info.labels.get(label) in values for node in others):
            return ((label, "in", tuple(sorted(values))),)
    return None


def text(node: NodeState) -> str:
    """A node's GPUs in words: "2 × Tesla T4", how many where no model is known, else "none"."""
    names = Counter(_plain(name) for name, _ in _reported(node))
    if names:
        return ", ".join(f"{number} × {name}" if number > 1 else name for name, number in names.items())
    return f"{count(node)} GPUs" if count(node) else "none"


def listing(nodes: Iterable[NodeState], wanted: Wanted) -> str:
    """What each node that takes jobs has, in words; those with GPUs first."""
    parts = []
    for node in sorted(nodes, key=lambda node: -count(node)):
        if not node.info.compute_node_info.execution_engines:
            continue
        why = "" if is_connected(node) else " (not connected)"
        why = " (mixed: which ones a job gets can't be chosen)" if not why and is_mixed(node, wanted) else why
        parts.append(f"{_plain(node.info.node_id)[:10] or 'a node'} {text(node)}{why}")
    return "; ".join(parts) or "no node takes jobs"


def _plain(name: str) -> str:
    """A node's text as one harmless line."""
    return "".join(letter for letter in name if letter.isprintable())[:60]
