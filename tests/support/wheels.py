"""The wheel of this working tree, as `pip` builds it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
_DATA = "share/jupyter/labextensions/"


def built(folder: Path, **environment: str) -> Path:
    """A wheel of this tree in `folder`; Node.js and the bundler are installed for it where they are missing."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    # Two builds in one tree would write one folder of what was bundled, and one the bundler that the other runs.
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"bacalhau-magic-wheel-{name}.lock"):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def labextensions(wheel: Path, folder: Path) -> Path:
    """The wheel's JupyterLab extensions, laid out in `folder` as an installation lays them out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            before, found, rest = name.partition(_DATA)
            if found and rest and ".data/data" in before:
                (folder / rest).parent.mkdir(parents=True, exist_ok=True)
                (folder / rest).write_bytes(archive.read(name))
    return folder
