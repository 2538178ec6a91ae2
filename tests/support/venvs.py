"""A virtual environment with the packages of this one, but for some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXTENSIONS = Path("share/jupyter/labextensions")


def lacking(folder: Path, *packages: str, extensions: tuple[str, ...] = ()) -> Path:
    """The Python of an environment in `folder` without the packages and JupyterLab extensions whose names begin so."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    _link(Path(pytest.__file__).parents[1], site, packages)
    if (Path(sys.prefix) / EXTENSIONS).is_dir():
        (folder / EXTENSIONS).mkdir(parents=True)
        _link(Path(sys.prefix) / EXTENSIONS, folder / EXTENSIONS, extensions)
    return folder / "bin" / "python"


def _link(source: Path, target: Path, left_out: tuple[str, ...]) -> None:
    for found in source.iterdir():
        if not found.name.startswith(left_out):
            (target / found.name).symlink_to(found)
