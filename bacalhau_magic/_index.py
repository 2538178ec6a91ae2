"""Where this user's packages come from: pip's and uv's own settings, as variables. They hold passwords, and stay in memory."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

__all__ = ["variables"]

_PIP = (
    "CERT", "CLIENT_CERT", "CONSTRAINT", "DEFAULT_TIMEOUT", "EXTRA_INDEX_URL", "FIND_LINKS", "INDEX_URL", "NO_BINARY", "NO_INDEX",
    "ONLY_BINARY", "PRE", "PREFER_BINARY", "PROXY", "RETRIES", "TIMEOUT", "TRUSTED_HOST",
)  # fmt: skip
"""What of pip's settings decides where packages come from and which; never where they go."""
_UV = (
    "UV_CONSTRAINT", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_TIMEOUT", "UV_INDEX", "UV_INDEX_STRATEGY",
    "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_NO_BINARY", "UV_NO_INDEX", "UV_PRERELEASE", "UV_SYSTEM_CERTS",
)  # fmt: skip
_NETWORK = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")
_PATHS = ("PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONSTRAINT", "PIP_FIND_LINKS")


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of pip's files and of the environment, the environment above them, as variables of an installer."""
    environment = os.environ if environment is None else environment
    found: dict[str, str] = {}
    for file in _files(environment):
        found |= _settings(file)
    names = {name.upper(): value for name, value in environment.items()}
    found |= {name: names[name] for name in (*(f"PIP_{name}" for name in _PIP), *_UV, *_NETWORK) if names.get(name)}
    found |= {name: value for name, value in names.items() if name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD"))}
    return {name: _absolute(value) if name in _PATHS else value for name, value in found.items()}


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """pip's configuration files, the weakest first."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    own = environment.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return
    yield from (Path(folder) / name for folder in platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep))
    if sys.platform != "win32":
        yield Path("/etc") / name
        yield Path.home() / ".pip" / name
    yield platformdirs.user_config_path("pip", appauthor=False, roaming=True) / name
    yield Path(sys.prefix) / name
    if own:
        yield Path(own)


def _settings(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}  # pip says so itself, wherever it is used
    found = {}
    for section in ("global", "install"):
        for key, value in parser.items(section) if parser.has_section(section) else ():
            name = key.strip("-").replace("-", "_").upper()
            if name in _PIP and value.strip():
                found[f"PIP_{name}"] = " ".join(value.split())
    return found


def _absolute(value: str) -> str:
    """Paths among a setting's words from the root on: the installer works in another folder."""
    return " ".join(os.path.abspath(word) if "://" not in word and os.path.exists(word) else word for word in value.split())
