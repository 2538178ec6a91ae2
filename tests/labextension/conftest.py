"""Node.js and npm for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "labextension"


class Npm:
    """npm in `labextension/`, with what its lock file names installed."""

    def run(self, script: str) -> str:
        """What one of the package's scripts says; it must end well."""
        done = subprocess.run(
            ["npm", "run", "--silent", script], cwd=FOLDER, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def npm() -> Npm:
    """npm, with node_modules as the lock file wants it."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed")
    installed, wanted = FOLDER / "node_modules/.package-lock.json", FOLDER / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < wanted.stat().st_mtime:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        os.utime(installed)
    return Npm()
