"""Where settings come from: each source read into a layer of plain values, with the origin of every one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from . import _profiles
from ._settingkeys import SETTINGS, option_names
from ._values import publisher
from .errors import ConfigError
from .options import JobOptions, option_of, plain_name

__all__ = ["TABLE", "Layer", "cli", "environment", "field_of", "overrides", "project", "project_file", "user"]

TABLE = "bacalhau-magic"
_PREFIX = "BACALHAU_MAGIC_"
_POLICY = "POLICY"

_PLAIN_VARIABLES = {
    f"BACALHAU_{name.upper()}": name
    for name in (
        *("enabled", "api_url", "api_host", "api_port", "api_tls_usetls", "api_tls_cafile", "api_tls_insecure"),
        *("api_key", "api_username", "api_password", "path", "gpu_enabled", "gpu_count", "timeout"),
    )
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One source's values by field name, each with its origin in words; `kind` is the source's."""

    kind: str
    values: Mapping[str, tuple[object, str]] = field(default_factory=dict, repr=False)
    file: Path | None = None
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The CLI's keys by URL; each goes to its own endpoint only."""


def field_of(key: str, origin: str) -> str | None:
    """The field name for a key as configuration writes it, None for one that is not known.

    Raises ConfigError for a name that configuration can't set.
    """
    name = key.replace("-", "_").lower()
    name = "as_" if name == "as" else name
    if name in SETTINGS or name in option_names():
        return name
    option = option_of(name) if name in JobOptions.model_fields else None
    if option:
        hint = f"Write --{plain_name(name).replace('_', '-')} on the cell's line."
        if name == "image":
            hint = "An image is set for a language: [tool.bacalhau-magic.languages.python] image = …"
        raise ConfigError(f"{origin}: {plain_name(name)} can't be configured.", setting=plain_name(name), origin=origin, hint=hint)
    return None


def nearest(key: str) -> str:
    """The known name that is nearest to a wrong one, or ""."""
    names = [plain_name(name) for name in (*SETTINGS, *option_names())]
    return next(iter(difflib.get_close_matches(key.lower().replace("-", "_"), names, 1)), "")


def overrides(given: Mapping[str, object]) -> Layer:
    """The values of `%bacalhau config`; raises ConfigError for a name that is not known."""
    values: dict[str, tuple[object, str]] = {}
    for key, value in given.items():
        origin = f"%bacalhau config {key}"
        name = field_of(key, origin)
        if name is None:
            near = nearest(key)
            raise ConfigError(f"There is no setting {key!r}.", setting=key, hint=f"Did you mean {near}?" if near else "")
        values[name] = (value, origin)
    return Layer("config", values)


def environment(variables: Mapping[str, str], warnings: list[str]) -> Layer:
    """The environment's variables; an empty one counts as not set, BACALHAU_MAGIC_X beats BACALHAU_X."""
    values: dict[str, tuple[object, str]] = {}
    for variable, name in _PLAIN_VARIABLES.items():
        value: object = variables.get(variable, "").strip()
        if value == "":
            continue
        if name == "timeout" and isinstance(value, str) and value.isdecimal():
            value = int(value) / 1000
        values[name] = (value, f"environment {variable}")
    for variable, text in sorted(variables.items()):
        key = variable.removeprefix(_PREFIX)
        if key in (variable, _POLICY) or not text.strip():
            continue
        named = field_of(key, f"environment {variable}")
        if named is None:
            near = nearest(key)
            warnings.append(f"{variable} is not known." + (f" Did you mean {_PREFIX}{near.upper()}?" if near else ""))
            continue
        values[named] = (text.strip(), f"environment {variable}")
    return Layer("environment", values)


def project_file(folder: Path) -> Path | None:
    """The nearest pyproject.toml upward from a folder that has a table of ours, None without one."""
    for place in (folder.absolute(), *folder.absolute().parents):
        file = place / "pyproject.toml"
        if file.is_file() and _table(file) is not None:
            return file
    return None


def _table(file: Path) -> Mapping[str, Any] | None:
    tool = toml(file).get("tool")
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: [tool.{TABLE}] must be a table.", origin=str(file))
    return table


def toml(file: Path) -> dict[str, Any]:
    """A TOML file's content; raises ConfigError naming the file and the place of the mistake."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} can't be read: {error}.", origin=str(file)) from None


def project(folder: Path, warnings: list[str]) -> Layer:
    """The nearest pyproject.toml's table; raises ConfigError for a key that a project may not set."""
    file = project_file(folder)
    if file is None:
        return Layer("project")
    table = _table(file) or {}
    values = _toml_values(table, file, f"[tool.{TABLE}] ", warnings)
    for name, (value, origin) in values.items():
        refuse_in_project(name, value, origin)
    return Layer("project", values, file)


def refuse_in_project(name: str, value: object, origin: str) -> None:
    """Raise ConfigError for what a cloned repository could do harm with."""
    if name in SETTINGS and not SETTINGS[name].project:
        raise ConfigError(
            f"{origin}: a project may not set {name}.",
            setting=name,
            origin=origin,
            hint="Set it in your user file (%bacalhau config --save user) or in the environment.",
        )
    if name == "profile":
        raise ConfigError(
            f"{origin}: a project may not choose among your profiles.",
            setting=name,
            origin=origin,
            hint="It may name an api_url, which is used once you trust it; or write %bacalhau use PROFILE.",
        )
    if name == "publisher" and _is_store(value):
        raise ConfigError(
            f"{origin}: a project may not choose the store that your jobs' files go to.",
            setting=name,
            origin=origin,
            hint="Set it in your user file (%bacalhau config --save user) or on the line.",
        )
    if (
        name == "env_file"
        and isinstance(value, str)
        and (PurePath(value).is_absolute() or ".." in PurePath(value).parts or value[:1] == "~")
    ):
        raise ConfigError(f"{origin}: a project's env_file must lie inside the project, not {value!r}.", setting=name, origin=origin)


def _is_store(value: object) -> bool:
    """Whether a publisher is a store, read as the job's own is: in any case, with any space around it."""
    try:
        return publisher(str(value).strip())[0] == "s3"
    except ValueError:
        return False  # no publisher at all, which is said as that of any source


def user(file: Path, warnings: list[str]) -> Layer:
    """The user's own config.toml; an empty layer where there is none."""
    if not file.is_file():
        return Layer("user")
    return Layer("user", _toml_values(toml(file), file, "", warnings), file)


def _toml_values(table: Mapping[str, Any], file: Path, prefix: str, warnings: list[str]) -> dict[str, tuple[object, str]]:
    values: dict[str, tuple[object, str]] = {}
    for key, value in table.items():
        origin = f"{file} {prefix}{key}"
        name = field_of(key, origin)
        if name is None:
            near = nearest(key)
            warnings.append(f"{origin} is not known." + (f" Did you mean {near}?" if near else ""))
        else:
            values[name] = (value, origin)
    return values


def cli(folder: Path, profile: str, warnings: list[str]) -> Layer:
    """What the Bacalhau CLI would use: its config.yaml's API, else its profile, and its tokens by URL.

    `profile` is BACALHAU_PROFILE, "" for the current one.
    """
    tokens = _profiles.tokens(folder, warnings)
    values = _profiles.config(folder, warnings)
    if values:
        return Layer("cli", values, folder / "config.yaml", tokens)
    chosen = _profiles.current(folder, profile, warnings)
    if chosen is None:
        return Layer("cli", tokens=tokens)
    values = {"api_url" if "://" in chosen.endpoint else "api_host": (chosen.endpoint, chosen.origin)}
    if chosen.insecure:
        values["api_tls_insecure"] = (True, chosen.origin)
    return Layer("cli", values, tokens=tokens | ({chosen.endpoint: chosen.token} if chosen.token else {}))
