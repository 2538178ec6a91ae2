"""The versions that are installed here, as pins: what `--sync imports` has a job install for the modules that it imports."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ._neighbours import importing, module_beside
from .errors import PackingError

__all__ = ["pins"]


def pins(modules: Iterable[str], folder: Path) -> tuple[str, ...]:
    """A requirement for each package that brings one of these top-level modules here: `numpy==2.2.1`, or its git commit.

    The standard library's are left out; `folder` is the notebook's. Raises PackingError naming a module that no package brings, or a package that
    lies on this machine alone.
    """
    brought = metadata.packages_distributions()
    found: dict[str, str] = {}
    for module in dict.fromkeys(modules):
        if module in sys.stdlib_module_names:
            continue
        names = brought.get(module)
        if not names:
            raise _missing(module, folder)
        for name in dict.fromkeys(names):
            found.setdefault(canonicalize_name(name), _pin(metadata.distribution(name), module))
    return tuple(found.values())


def _missing(module: str, folder: Path) -> PackingError:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return PackingError(
            f"--sync imports: {module} is not installed here, so there is no version to keep to.",
            hint=f"Name it and its version: --pip {module}; or install it here first: %pip install {module}.",
        )
    place = module_beside(module, folder) or next(iter(spec.submodule_search_locations or ()), spec.origin or module)
    return PackingError(
        f"--sync imports: {module} is a module of this machine, and no package.",
        hint=f"Send it with -i {shlex.quote(place)}, and import it in the cell by {importing(module)}",
    )


def _pin(package: metadata.Distribution, module: str) -> str:
    name = canonicalize_name(package.name)
    source = _source(package)
    url = str(source.get("url") or "")
    if source.get("dir_info") is not None or url.startswith("file:") or _is_linked(package):
        how = "in editable mode" if _is_linked(package) or (source.get("dir_info") or {}).get("editable") else "from a path"
        raise PackingError(
            f"--sync imports: {module} is of the package {name}, which is installed {how}: its version here is on no index.",
            hint=f"Send its folder with -i, name a published version with --pip {name}==…, or choose an --image that has it.",
        )
    if commit := (source.get("vcs_info") or {}).get("commit_id"):
        return f"{name} @ {source['vcs_info'].get('vcs', 'git')}+{url}@{commit}"
    if url:
        return f"{name} @ {url}"
    try:
        return f"{name}=={Version(package.version).public}"  # an index knows no label such as +cu124
    except InvalidVersion:
        return f"{name}==={package.version}"


def _source(package: metadata.Distribution) -> dict[str, Any]:
    """Where a package was installed from, as PEP 610 notes it; empty where it came from an index."""
    try:
        found = json.loads(package.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_linked(package: metadata.Distribution) -> bool:
    """Whether its metadata lie in its own source, as `setup.py develop` leaves them: without a list of what was installed."""
    return package.read_text("RECORD") is None and package.read_text("installed-files.txt") is None and package.files is None
