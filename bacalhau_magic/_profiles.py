"""What the Bacalhau CLI keeps in its folder: config.yaml, profiles, tokens by URL. Read here, never written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError

__all__ = ["Profile", "all_profiles", "config", "current", "folder_of", "named", "tokens"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STOCK = ("0.0.0.0", 1234)
"""The address that the CLI writes when nobody chose one: it counts as not set."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One connection of the CLI: `endpoint` is a URL, or a host with or without a port."""

    name: str
    endpoint: str
    token: str = field(default="", repr=False)
    insecure: bool = False
    description: str = ""

    @property
    def origin(self) -> str:
        """How it is called where a setting came from it."""
        return f"Bacalhau CLI profile {self.name}"


def folder_of(environment: Mapping[str, str]) -> Path:
    """The CLI's folder: BACALHAU_DIR, else ~/.bacalhau."""
    return Path(environment.get("BACALHAU_DIR") or Path.home() / ".bacalhau")


def named(folder: Path, name: str, origin: str = "") -> Profile:
    """The profile of this name; raises ConfigError saying which there are."""
    file = folder / "profiles" / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not file.is_file():
        names = _names(folder)
        raise ConfigError(
            f"There is no profile {name!r} of the Bacalhau CLI in {folder / 'profiles'}.",
            setting="profile",
            origin=origin,
            hint=f"There are: {', '.join(names)}." if names else "Make one: bacalhau profile save NAME --endpoint https://host:1234",
        )
    broken: list[str] = []
    found = _profile(name, _yaml(file, broken))
    if found is None:
        problem = "it can't be read" if broken else "it names no endpoint"
        raise ConfigError(f"The profile {file} can't be used: {problem}.", setting="profile", origin=origin, hint="Mend the file.")
    return found


def current(folder: Path, name: str, warnings: list[str]) -> Profile | None:
    """The profile that the CLI would use: `name`, else the current one; None where there is none or it can't be read."""
    file = folder / "profiles" / (f"{name}.yaml" if name else "current")
    if name and not (_NAME.fullmatch(name) and file.is_file()):
        warnings.append(f"BACALHAU_PROFILE: there is no profile {name!r} in {file.parent}.")
        return None
    return _profile(file.resolve().stem, _yaml(file, warnings))


def all_profiles(folder: Path) -> tuple[Profile, ...]:
    """Every profile that can be read, by name."""
    found = (_profile(name, _yaml(folder / "profiles" / f"{name}.yaml", [])) for name in _names(folder))
    return tuple(profile for profile in found if profile)


def tokens(folder: Path, warnings: list[str]) -> dict[str, str]:
    """The keys that the CLI keeps by URL."""
    found: dict[str, str] = {}
    for name in ("tokens.json", "jwt-tokens.json"):
        content = _yaml(folder / name, warnings)
        found |= {str(url).rstrip("/"): token for url, token in content.items() if isinstance(token, str) and token}
    return found


def config(folder: Path, warnings: list[str]) -> dict[str, tuple[object, str]]:
    """The address and TLS settings of config.yaml by our names, each with its origin; empty for the stock address."""
    file = folder / "config.yaml"
    api = _lower(_lower(_yaml(file, warnings)).get("api"))
    host, port, tls = api.get("host"), api.get("port"), _lower(api.get("tls"))
    if (host or _STOCK[0], port or _STOCK[1]) == _STOCK:
        return {}
    values: dict[str, tuple[object, str]] = {}
    if host:
        values["api_host"] = (str(host), f"{file} API.Host")
    if port:
        values["api_port"] = (port, f"{file} API.Port")
    for key, name in (("usetls", "api_tls_usetls"), ("cafile", "api_tls_cafile"), ("insecure", "api_tls_insecure")):
        if tls.get(key):
            values[name] = (tls[key], f"{file} API.TLS")
    return values


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "profiles").glob("*.yaml") if _NAME.fullmatch(file.stem))


def _profile(name: str, content: Mapping[Any, Any]) -> Profile | None:
    facts = _lower(content)
    endpoint, token = facts.get("endpoint"), _lower(facts.get("auth")).get("token")
    if not isinstance(endpoint, str) or not endpoint.strip():
        return None
    return Profile(
        name,
        endpoint.strip().rstrip("/"),
        token if isinstance(token, str) else "",
        _lower(facts.get("tls")).get("insecure") is True,
        str(facts.get("description") or ""),
    )


def _lower(value: object) -> dict[str, Any]:
    return {str(key).lower(): item for key, item in value.items()} if isinstance(value, dict) else {}


def _yaml(file: Path, warnings: list[str]) -> dict[Any, Any]:
    """A YAML or JSON file of the CLI; one that can't be read is left out with a warning, since it is not ours."""
    if not file.is_file():
        return {}
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        warnings.append(f"{file} can't be read; the Bacalhau CLI's settings are left out.")
        return {}
    return content if isinstance(content, dict) else {}
