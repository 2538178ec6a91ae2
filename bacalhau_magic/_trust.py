"""What this user decided about endpoints: which projects' endpoints to trust, and which credential is kept for which URL.

Two JSON files in the user's folder, readable by this user only.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigError

__all__ = [
    "forget_credential",
    "is_trusted",
    "keep_credential",
    "kept_credential",
    "origin_of",
    "trust",
    "untrust",
    "user_folder",
    "write_private",
]

_TRUST, _CREDENTIALS = "trust.json", "credentials.json"


def user_folder() -> Path:
    """The folder of this user's own files: config.toml, trust.json, credentials.json."""
    import platformdirs

    return Path(platformdirs.user_config_dir("bacalhau-magic", appauthor=False))


def origin_of(url: str) -> str:
    """A URL's scheme, host and port: what a credential is kept for."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def trust(project: Path, url: str, *, user: Path | None = None, what: str = "") -> None:
    """Record that cells of this project's pyproject.toml may go to `url`, as long as the file names that URL.

    `what` is "staging" for the store that their inputs may go to.
    """
    file = (user or user_folder()) / _TRUST
    pairs = _read(file)
    pairs[_named(project, what)] = url
    write_private(file, json.dumps(pairs, indent=2, sort_keys=True) + "\n")


def untrust(project: Path, *, user: Path | None = None) -> None:
    """Forget that this pyproject.toml's endpoint and store were trusted."""
    file = (user or user_folder()) / _TRUST
    pairs = _read(file)
    if [pairs.pop(name) for name in (_named(project, ""), _named(project, "staging")) if name in pairs]:
        write_private(file, json.dumps(pairs, indent=2, sort_keys=True) + "\n")


def is_trusted(project: Path, url: str, *, user: Path | None = None, what: str = "") -> bool:
    """Whether exactly this pair of pyproject.toml and URL was recorded."""
    return _read((user or user_folder()) / _TRUST).get(_named(project, what)) == url


def _named(project: Path, what: str) -> str:
    return f"{project.resolve()}{'#' if what else ''}{what}"


def keep_credential(url: str, *, key: str = "", username: str = "", password: str = "", user: Path | None = None) -> Path:
    """Keep a credential for one endpoint, in a file that only this user can read; returns the file."""
    file = (user or user_folder()) / _CREDENTIALS
    kept = _read(file)
    kept[origin_of(url)] = {"key": key} if key else {"username": username, "password": password}
    write_private(file, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return file


def kept_credential(url: str, *, user: Path | None = None) -> dict[str, str]:
    """The credential kept for this endpoint: `key`, or `username` and `password`; empty where there is none."""
    file = (user or user_folder()) / _CREDENTIALS
    found = _read(file).get(origin_of(url))
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def forget_credential(url: str, *, user: Path | None = None) -> bool:
    """Remove the credential kept for this endpoint; False where there was none."""
    file = (user or user_folder()) / _CREDENTIALS
    kept = _read(file)
    if kept.pop(origin_of(url), None) is None:
        return False
    write_private(file, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} can't be read: {error}.", origin=str(file), hint="Mend or remove the file.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a JSON object.", origin=str(file), hint="Mend or remove the file.")
    return content


def write_private(file: Path, text: str, mode: int = 0o600) -> None:
    """Write a text file whole or not at all: beside its place first, then renamed over it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).chmod(mode)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
