"""`python -m bacalhau_magic try`: the cells of notebook 01 through a real IPython shell, in a terminal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_NAME = "01_first_job.ipynb"
_RAISES = "raises-exception"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the notebook; `raises` says that it is meant to fail."""

    kind: str
    text: str
    raises: bool


def notebook() -> Path:
    """The notebook: beside the package in a checkout, inside of it where it was installed."""
    here = Path(__file__).parent
    for place in (here / "_notebooks" / _NAME, here.parent / "notebooks" / _NAME):
        if place.is_file():
            return place
    raise FileNotFoundError(_NAME)


def cells(path: Path) -> list[Cell]:
    """The cells of a notebook file (format 4)."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [
        Cell(
            cell["cell_type"],
            "".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"],
            _RAISES in cell.get("metadata", {}).get("tags", []),
        )
        for cell in content["cells"]
    ]


def run(out: TextIO) -> int:
    """Run the notebook's cells one after the other; returns the number of cells that did not do what they should."""
    shell = _shell()
    started, wrong, ran = time.monotonic(), 0, 0
    for cell in cells(notebook()):
        if cell.kind != "code":
            _say(out, cell)
            continue
        ran += 1
        _show_code(out, ran, cell.text)
        outcome = shell.run_cell(cell.text, store_history=True)
        failed = outcome.error_in_exec is not None or outcome.error_before_exec is not None
        if failed and cell.raises:
            out.write("(This error is deliberate.)\n")
        elif failed or cell.raises:
            wrong += 1
            out.write("This cell did not do what it should.\n")
        out.flush()
    spent = time.monotonic() - started
    out.write(f"\n{'All' if not wrong else ran - wrong} of {ran} cells did what they should, in {spent:.1f} s.\n".replace("All of", "All"))
    out.write("Open the same notebook in JupyterLab: python -m bacalhau_magic try --lab\n")
    return wrong


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "linux" if sys.stdout.isatty() else "nocolor"
    shell = InteractiveShell.instance(config=config)
    shell.separate_in = ""
    return shell


def _say(out: TextIO, cell: Cell) -> None:
    text = cell.text.strip().replace("\n\n", "\n")
    out.write("\n" + "\n".join(line.lstrip("# ") for line in text.splitlines()) + "\n")


def _show_code(out: TextIO, number: int, text: str) -> None:
    out.write(
        "\n" + "\n".join(f"{f'In [{number}]:' if index == 0 else '':<9}{line}" for index, line in enumerate(text.splitlines())) + "\n"
    )
    out.flush()


def open_lab(out: TextIO) -> int:
    """Open a copy of the notebook in JupyterLab; returns its exit code, 2 when it is not installed."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        out.write("JupyterLab is not installed here. Install it: pip install 'bacalhau_magic[lab]'\n")
        return 2
    copy = Path.cwd() / _NAME
    if not copy.exists():
        shutil.copyfile(notebook(), copy)
    out.write(f"Opening {copy.name} in JupyterLab. Stop it with Ctrl-C.\n")
    out.flush()
    try:
        return subprocess.call([sys.executable, "-m", "jupyterlab", str(copy)])
    except KeyboardInterrupt:
        return 0
