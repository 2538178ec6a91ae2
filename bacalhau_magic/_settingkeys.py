"""The settings that are no option of a cell, by name: how each is read, its default, who may set it, how it is shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from . import _stores
from ._languages import Language, configured
from .errors import ConfigError
from .options import JobOptions, duration, duration_text, option_of, plain_name, size_text, value_of

__all__ = ["SETTINGS", "Setting", "option_names", "read", "shown"]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, not {value!r}")
    return value.strip()


def _flag(value: object) -> bool:
    return bool(value_of("long", value))


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"expected {' or '.join(words)}, not {value!r}")
        return str(value)

    return read


def _port(value: object) -> int:
    try:
        port = int(str(value)) if not isinstance(value, bool) else 0
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise ValueError(f"expected a port from 1 to 65535, not {value!r}")
    return port


def _count(value: object) -> int:
    return int(value_of("priority", value))


def _words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and part.strip() for part in parts):
        raise ValueError(f"expected a list of names, not {value!r}")
    return tuple(part.strip().replace("-", "_") for part in parts)


def _strict(value: object) -> tuple[str, ...]:
    names = tuple("as_" if name == "as" else name for name in _words(value))
    for name in names:
        if name not in JobOptions.model_fields:
            raise ValueError(f"expected names of options, not {name!r}")
    return names


def _url(value: object) -> str:
    text = _text(value)
    parts = urlsplit(text)
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"expected an address such as https://host:1234, not {_without_password(text)!r}")
    if parts.username or parts.password:
        raise ValueError("expected an address without user and password; %bacalhau login keeps those")
    if parts.query or parts.fragment:
        raise ValueError("expected an address without ? and #")
    return text.rstrip("/").removesuffix("/api/v1").replace("//0.0.0.0", "//127.0.0.1")


def _without_password(text: str) -> str:
    head, at, tail = text.rpartition("@")
    return f"…@{tail}" if at and head else text


def _tables(value: object) -> Mapping[str, Language]:
    if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
        raise ValueError("expected a table for each language, as [tool.bacalhau-magic.languages.r]")
    return MappingProxyType(configured(value))


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that is no option of a cell: what it means for people, and whether a project's pyproject.toml may set it."""

    read: Callable[[object], Any]
    default: Any
    meaning: str
    project: bool = True
    secret: bool = False


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "enabled": Setting(_flag, True, "false: no cluster is used, whatever is configured."),
        "api_url": Setting(_url, None, "The cluster's address: https://host:1234."),
        "api_host": Setting(_text, None, "The cluster's host, where api_url is not set."),
        "api_port": Setting(_port, None, "The cluster's port, beside api_host."),
        "api_tls_usetls": Setting(_flag, False, "Ask api_host by https.", project=False),
        "api_tls_cafile": Setting(_text, None, "A file with the authority that signed the cluster's certificate.", project=False),
        "api_tls_insecure": Setting(_flag, False, "Check no certificate; every card says so.", project=False),
        "api_key": Setting(_text, None, "The cluster's key: in BACALHAU_API_KEY, or kept by %bacalhau login.", project=False, secret=True),
        "api_username": Setting(_text, None, "The user's name at the cluster.", project=False),
        "api_password": Setting(
            _text,
            None,
            "The user's password at the cluster: in BACALHAU_API_PASSWORD, or kept by %bacalhau login.",
            project=False,
            secret=True,
        ),
        "path": Setting(_text, "bacalhau", "The Bacalhau CLI's program, for transport=cli.", project=False),
        "transport": Setting(_one_of("http", "cli"), "http", "How the cluster is asked: http, or cli by the Bacalhau CLI.", project=False),
        "gpu_enabled": Setting(_flag, False, "A job for a cluster asks for gpu_count GPUs, where the cell doesn't say --gpu."),
        "gpu_count": Setting(_count, 1, "How many GPUs, with gpu_enabled."),
        "prefer": Setting(
            _one_of("auto", "local"),
            "auto",
            "local: a cell runs on the embedded node where it can, though a cluster is configured; auto: on the cluster.",
        ),
        "poll_interval": Setting(duration, 5.0, "Time between two questions of how the job is, where its log doesn't tell."),
        "pull_timeout": Setting(duration, 1800.0, "Time that a job may take beyond its own to pull its image and install its packages."),
        "receipt": Setting(
            _one_of("live", "always", "never"),
            "live",
            "When the output's metadata keeps the job, its node and times: live (not in a batch run), always or never.",
        ),
        "strict": Setting(_strict, (), "Options whose configured value is never cut: where it can't be kept, the cell is refused."),
        "recordings": Setting(_flag, True, "false: no replays and no stored results.", project=False),
        "record": Setting(_text, None, "The cassette that cells are recorded in.", project=False),
        "replay": Setting(_text, None, "The cassette that cells are replayed from.", project=False),
        "staging": Setting(_stores.read, None, "The store for large inputs on a cluster: s3://BUCKET/FOLDER."),
        "languages": Setting(
            _tables, MappingProxyType(dict(configured({}))), "Languages of your own, as tables [tool.bacalhau-magic.languages.NAME]."
        ),
    }
)
_DURATIONS = frozenset({"poll_interval", "pull_timeout", "timeout", "queue_timeout"})
_SIZES = frozenset({"memory", "disk", "max_result"})


@cache
def option_names() -> tuple[str, ...]:
    """The options that configuration may set, by field name."""
    found = [(name, option_of(name)) for name in JobOptions.model_fields]
    return tuple(name for name, option in found if option and option.configurable)


_COMMAS = frozenset({"labels", "domain"})


def read(name: str, raw: object, origin: str) -> Any:
    """The validated value of a setting or option; raises ConfigError naming `origin`, the value and what was expected."""
    try:
        if name in SETTINGS:
            return SETTINGS[name].read(raw)
        if isinstance(raw, str) and name in _COMMAS:
            raw = [part.strip() for part in raw.split(",")]
        elif isinstance(raw, str) and name == "env":
            raw = shlex.split(raw)
        return value_of(name, raw)
    except (ValueError, ConfigError) as error:
        sentence = error.message if isinstance(error, ConfigError) else str(error)
        if name == "env" or (name in SETTINGS and SETTINGS[name].secret):
            sentence = "expected NAME=VALUE" if name == "env" else "expected a text"
        raise ConfigError(f"{origin}: {sentence.rstrip('.')}.", setting=plain_name(name), origin=origin) from None


def shown(name: str, value: Any) -> str:
    """A validated value as the text that is shown for it, and that reads back as the same; secrets are masked."""
    if value is not None and name in SETTINGS and SETTINGS[name].secret:
        return "••••"
    if value is None or value == () or value == {}:
        return ""
    if name in _DURATIONS and isinstance(value, int | float):
        return duration_text(float(value))
    if name in _SIZES and isinstance(value, int):
        return size_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "env":
        return ", ".join(f"{key}=••••" for key in value)
    if name == "languages":
        return ", ".join(value)
    if name == "constraints":
        return ", ".join(f"{key} {operator} {'|'.join(values)}".strip() for key, operator, values in value)
    if isinstance(value, _stores.Store):
        return value.address
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, tuple | frozenset):
        return ", ".join(plain_name(str(item)) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
