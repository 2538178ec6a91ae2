"""Label selectors, in the syntax that Bacalhau took from Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._intake import Refusal

__all__ = ["meets", "selects"]

_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)$")
_PAIR = re.compile(r"^([^\s=!]+)\s*(==|=|!=)\s*(\S*)$")


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector, such as `a=b,c in (d,e),!f`, chooses these labels. Raises Refusal for a bad one."""
    return all(_one(part.strip(), labels) for part in re.split(r",(?![^()]*\))", selector) if part.strip())


def _one(part: str, labels: Mapping[str, str]) -> bool:
    if match := _SET.match(part):
        inside = labels.get(match[1]) in {word.strip() for word in match[3].split(",")}
        return inside if match[2] == "in" else not inside
    if match := _PAIR.match(part):
        same = labels.get(match[1]) == match[3]
        return same if match[2] != "!=" else not same
    if re.fullmatch(r"!?[A-Za-z0-9._/-]+", part):
        return part[1:] not in labels if part.startswith("!") else part in labels
    raise Refusal(f"code=400, message=could not parse selector {part!r}")


def meets(constraint: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels fulfil one of a job's constraints; an operator that is not known is never fulfilled."""
    label = labels.get(constraint["Key"])
    values = constraint.get("Values") or []
    operator = constraint["Operator"]
    if operator in ("gt", "lt"):
        try:
            difference = int(label or "") - int(values[0])
        except ValueError:
            return False
        return difference > 0 if operator == "gt" else difference < 0
    answers = {
        "=": label in values, "==": label in values, "in": label in values, "!=": label not in values, "notin": label not in values,
        "exists": label is not None, "!": label is None,
    }  # fmt: skip
    return answers.get(operator, False)
