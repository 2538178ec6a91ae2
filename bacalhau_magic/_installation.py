"""What is installed in this Python's environment that a notebook needs beside the package itself."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ._diagnosis import Check, version

__all__ = ["installation"]


def installation() -> Iterator[Check]:
    """The checks of what is installed here: the widget, and the extensions of JupyterLab in this environment."""
    yield _widget()
    yield _lab_extension()


def _lab_folders() -> list[Path]:
    """The folders where JupyterLab of this Python's environment looks for extensions."""
    from jupyter_core.paths import jupyter_path

    return [Path(folder) for folder in jupyter_path("labextensions")]


def _has_extension(name: str) -> bool:
    return any((folder / name / "package.json").is_file() for folder in _lab_folders())


def _widget() -> Check:
    missing = [name for name in ("ipywidgets", "anywidget") if find_spec(name) is None]
    if missing:
        return Check("widget", "failed", f"{' and '.join(missing)} can't be imported.", f"pip install {' '.join(missing)}")
    says = f"ipywidgets {version('ipywidgets')}, anywidget {version('anywidget')}"
    if find_spec("jupyterlab") is None or find_spec("jupyter_core") is None:
        return Check("widget", "passed", f"{says}; JupyterLab runs in another environment, or none.")
    lacking = [name for name in ("@jupyter-widgets/jupyterlab-manager", "anywidget") if not _has_extension(name)]
    if lacking:
        return Check(
            "widget",
            "failed",
            f"{says}; JupyterLab lacks {' and '.join(lacking)}.",
            "pip install --force-reinstall jupyterlab_widgets anywidget",
        )
    return Check("widget", "passed", f"{says}, and JupyterLab {version('jupyterlab')} has their extensions.")


def _lab_extension() -> Check:
    if find_spec("jupyterlab") is None or find_spec("jupyter_core") is None:
        return Check("lab extension", "skipped", "JupyterLab is not in this Python's environment.", "pip install 'bacalhau_magic[lab]'")
    if _has_extension("bacalhau-magic"):
        return Check("lab extension", "passed", "JupyterLab has it.")
    return Check(
        "lab extension",
        "skipped",
        "JupyterLab does not have it: the jobs panel and the completions are missing; cells and cards work.",
        "Install the wheel that carries it, or a clone with Node.js on PATH, into the environment that JupyterLab runs in; `pip install -v` says why it was left out.",
    )
