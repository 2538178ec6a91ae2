"""Runs notebooks as CI does, and writes them so that a second run changes nothing: `python tests/support/notebooks.py FILE…`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path, cwd: Path | None = None) -> nbformat.NotebookNode:
    """The notebook after all of its cells ran in a fresh kernel, without what differs from machine to machine (versions, times)."""
    content = nbformat.read(path, as_version=4)
    client = NotebookClient(
        content, timeout=120, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(cwd or path.parent)}}
    )
    client.execute()
    content.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return content


def text(content: nbformat.NotebookNode) -> str:
    """A notebook as its file's text."""
    return nbformat.writes(content) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(text(executed(Path(name))), encoding="utf-8")
