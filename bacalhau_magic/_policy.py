"""The policy: an administrator's file of limits, of values that are allowed, and of values that are locked; it can only tighten."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._settingkeys import SETTINGS, read
from ._sources import field_of, nearest, toml
from ._suggestions import suggestion
from .errors import ConfigError

__all__ = ["SYSTEM_POLICY", "Policy", "read_policy"]

SYSTEM_POLICY = Path("/etc/bacalhau-magic/policy.toml")

_TABLES = ("max", "allowed", "locked", "message")
_CHOICES = ("runtime", "image", "lang", "network")
"""Options of which a policy can allow some values only."""
_OFF = ("allow_pickle", "trust_html")
"""Options that no configuration sets, because each opens something: a policy may lock them to false, and only to that."""
_LIMITED = ("timeout", "queue_timeout", "cpu", "memory", "disk", "gpu", "max_result", "priority")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy fixes: `max`, `allowed` and `locked` are validated values by name, `message` is its author's own."""

    max: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    locked: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    origin: str = ""

    @property
    def fixes_endpoint(self) -> bool:
        """Whether jobs may go to one address only."""
        return bool({"api_url", "api_host", "api_port", "profile"} & set(self.locked))


def read_policy(named: str, system: Path = SYSTEM_POLICY) -> Policy:
    """The system's policy and the one that BACALHAU_MAGIC_POLICY names: the stricter of each limit, what both allow.

    The system's locked values win. Raises ConfigError for a file that can't be read: a policy is never skipped.
    """
    policies = [_read(system)] if system.exists() else []
    if named.strip():
        policies.append(_read(Path(named.strip())))
    most: dict[str, Any] = {}
    allowed: dict[str, tuple[Any, ...]] = {}
    locked: dict[str, Any] = {}
    for policy in policies:
        for name, values in policy.allowed.items():
            allowed[name] = tuple(value for value in values if value in allowed.get(name, values))
        for name, value in policy.max.items():
            most[name] = min(value, most.get(name, value))
        locked = {**policy.locked, **locked}
    return Policy(
        most,
        allowed,
        locked,
        " ".join(policy.message for policy in policies if policy.message),
        " and ".join(policy.origin for policy in policies),
    )


def _read(file: Path) -> Policy:
    content = toml(file)
    for key in content:
        if key not in _TABLES:
            hint = suggestion(key, _TABLES) or "A policy has max, allowed, locked and message."
            raise ConfigError(f"{file}: {key} is not known.", origin=str(file), hint=hint)
    for key in ("max", "allowed", "locked"):
        if not isinstance(content.get(key, {}), dict):
            raise ConfigError(f"{file}: {key} must be a table.", origin=str(file))
    most: dict[str, Any] = {}
    for key, value in content.get("max", {}).items():
        origin = f"{file} max.{key}"
        name = field_of(key, origin)
        if name not in _LIMITED:
            raise ConfigError(f"{origin}: there is no limit for {key}.", origin=origin, hint=_listed("Limits", key, _LIMITED))
        most[name] = (
            operator.index(read("gpu_count" if name == "gpu" else name, value, origin)) if name == "gpu" else read(name, value, origin)
        )
    allowed = {key: _choices(key, values, f"{file} allowed.{key}") for key, values in content.get("allowed", {}).items()}
    locked = {}
    for key, value in content.get("locked", {}).items():
        origin = f"{file} locked.{key}"
        name = key.replace("-", "_").lower()
        name = name if name in _OFF else _field(key, origin)
        if name in SETTINGS and SETTINGS[name].secret:
            raise ConfigError(f"{origin}: a policy holds no secrets.", origin=str(file))
        locked[name] = read(name, value, origin)
        if name in _OFF and locked[name]:
            raise ConfigError(f"{origin}: a policy can only switch {name} off.", origin=origin, hint=f"Write {key} = false.")
    return Policy(most, allowed, locked, str(content.get("message", "")).strip(), str(file))


def _choices(name: str, values: object, origin: str) -> tuple[Any, ...]:
    if name not in _CHOICES:
        raise ConfigError(f"{origin}: there is no choice of {name}.", origin=origin, hint=_listed("Choices", name, _CHOICES))
    if not isinstance(values, list) or not values:
        raise ConfigError(f'{origin}: expected a list of values, such as ["local"].', origin=origin)
    return tuple(read(name, value, origin) for value in values)


def _listed(what: str, word: str, known: tuple[str, ...]) -> str:
    return " ".join(filter(None, (suggestion(word, known), f"{what}: {', '.join(known)}.")))


def _field(key: str, origin: str) -> str:
    name = field_of(key, origin)
    if name is None:
        near = nearest(key)
        raise ConfigError(f"{origin} is not known.", origin=origin, hint=f"Did you mean {near}?" if near else "")
    return name
