"""What lies beside the notebook, as an error names it: modules that a job lacks, and files that a name stands for."""

from __future__ import annotations

from pathlib import Path

__all__ = ["importing", "is_module", "module_beside", "source_beside"]


def is_module(place: Path) -> bool:
    """Whether Python could import this file or folder from the folder that it lies in."""
    return place.suffix == ".py" if place.is_file() else next(place.glob("*.py"), None) is not None


def module_beside(module: str, folder: Path) -> str:
    """The path, as an input is written, of a module that lies in `folder`: `./name.py` or `./name`; "" where none does."""
    return next((f"./{name}" for name in (f"{module}.py", module) if is_module(folder / name)), "")


def importing(module: str, place: str = "inputs") -> str:
    """The line that imports a module which was sent: nothing but the cell itself puts its folder on Python's path."""
    return f"import sys; sys.path.insert(0, {place!r}); import {module}"


def source_beside(name: str, folder: Path) -> str:
    """The path, as an input is written, of what lies in `folder` under that name, with any suffix; "" where nothing does."""
    if (folder / name).exists():
        return f"./{name}"
    return next((f"./{path.name}" for path in sorted(folder.glob(f"{name}.*"))), "")
