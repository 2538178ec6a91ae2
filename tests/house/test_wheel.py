"""The wheel: what it holds, and that it works without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_what_the_package_reads(wheel: Path) -> None:
    """Every file below the package is in the wheel, with the notebook, the card, what travels into jobs and the lab extension; no test is."""
    names = set(zipfile.ZipFile(wheel).namelist())
    generated = {"__pycache__", "labextension"}
    package = (path for path in (ROOT / "bacalhau_magic").rglob("*") if path.is_file() and not generated & set(path.parts))
    assert {path.relative_to(ROOT).as_posix() for path in package} <= names
    assert {
        "bacalhau_magic/_notebooks/01_first_job.ipynb",
        "bacalhau_magic/nbval.cfg",
        "bacalhau_magic/progress/card.css",
        "bacalhau_magic/progress/card.js",
        "bacalhau_magic/remote/bootstrap.mjs",
        "bacalhau_magic/remote/bootstrap.sh",
        "bacalhau_magic/remote/codec.py",
    } <= names
    data = "bacalhau_magic-0.1.0.data"
    assert {name.split("/")[0] for name in names} == {"bacalhau_magic", "bacalhau_magic-0.1.0.dist-info", data}
    extension = f"{data}/data/share/jupyter/labextensions/bacalhau-magic"
    assert {f"{extension}/package.json", f"{extension}/install.json"} <= names
    entries = zipfile.ZipFile(wheel).read("bacalhau_magic-0.1.0.dist-info/entry_points.txt").decode()
    assert "[pytest11]\nbacalhau_magic = bacalhau_magic._plugin" in entries
    assert not any(name.startswith("bacalhau_magic/labextension") for name in names)


def test_the_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, away from the repository, it runs its first notebook and its sanitize file is there."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "cwd").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}

    def ran(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path / "cwd", env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    assert ran("-c", "import bacalhau_magic; print(bacalhau_magic.__file__)").startswith(str(tmp_path))
    assert "All 11 cells did what they should" in ran("-m", "bacalhau_magic", "try")
    assert Path(ran("-m", "bacalhau_magic", "nbval")).is_relative_to(tmp_path)
