"""The TypeScript's own checks and tests, run by npm."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "labextension"

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("script", ["types", "lint", "format", "test"])
def test_script(npm: Any, script: str) -> None:
    """Types hold strictly, lint finds nothing, the formatter is content, and the tests of the logic pass."""
    npm.run(script)


def test_no_any() -> None:
    """No type is left open."""
    for file in FOLDER.glob("src/**/*.ts*"):
        assert not re.search(r"\bany\b(?=[\s;,)>\[\]|&=])(?<!//)", _code(file.read_text(encoding="utf-8"))), file


def _code(text: str) -> str:
    """A source without its comments and texts."""
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"[^\"\n]*\"|`[^`]*`", "", text, flags=re.S)


def test_one_version() -> None:
    """Both languages have one version number."""
    python = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["version"] == python
    lock = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))
    assert lock["version"] == lock["packages"][""]["version"] == python


@pytest.mark.parametrize("lock", ["package-lock.json", "builder/package-lock.json"])
def test_lock_files_name_no_registry(lock: str) -> None:
    """The lock files hold versions and checksums, and no address to take them from."""
    packages = json.loads((FOLDER / lock).read_text(encoding="utf-8"))["packages"]
    assert all("resolved" not in package for package in packages.values())
    assert all("integrity" in package for name, package in packages.items() if name)
