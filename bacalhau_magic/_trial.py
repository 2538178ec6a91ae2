"""`python -m bacalhau_magic try`: the cells of notebook 01 through a real IPython shell, in a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .errors import OptionError

_NAME = "01_first_job.ipynb"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the notebook; `value` is the text of the value that it is committed with, "" where it has none."""

    kind: str
    text: str
    value: str


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
    return [Cell(cell["cell_type"], "".join(cell["source"]), _value(cell.get("outputs", []))) for cell in content["cells"]]


def _value(outputs: Sequence[Mapping[str, Any]]) -> str:
    values = ("".join(output["data"]["text/plain"]) for output in outputs if output["output_type"] == "execute_result")
    return next(values, "")


def run(out: TextIO) -> int:
    """Run the notebook's cells one after the other; returns the number of cells that did not do what they should."""
    shell, page = _shell(), _Page(out)
    started, wrong, ran, left_out = time.monotonic(), 0, 0, []
    for cell in cells(notebook()):
        if cell.kind != "code":
            page.prose(cell.text)
            continue
        ran += 1
        page.code(ran, cell.text)
        value, error = _outcome(shell, cell.text)
        if missing := _missing(error):
            left_out.append(missing)
            page.line("(This cell is left out.)")
        elif error is not None or value != cell.value:
            wrong += 1
            page.line("This cell did not do what it should" + (f": its value is {cell.value}." if cell.value else "."))
        if ran == 1 and error is None:
            page.text(_where())
    page.end(ran, wrong, left_out, time.monotonic() - started)
    return wrong


def _shell() -> Any:
    """A terminal's shell without the user's own start-up files, history and colours of questions asked."""
    from IPython.terminal.interactiveshell import TerminalInteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.TerminalInteractiveShell.simple_prompt = True
    config.TerminalInteractiveShell.separate_in = ""
    config.TerminalInteractiveShell.colors = "linux" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else "nocolor"
    return TerminalInteractiveShell.instance(config=config)


def _outcome(shell: Any, text: str) -> tuple[str, BaseException | None]:
    """What the cell gave, as the prompt shows it, and what it raised."""
    outcome = shell.run_cell(text, store_history=True)
    shown = "" if outcome.result is None else shell.display_formatter.format(outcome.result)[0]["text/plain"]
    return shown, outcome.error_before_exec or outcome.error_in_exec


def _missing(error: BaseException | None) -> str:
    """The language that this machine lacks a program for: "" for any other error, and for none."""
    cause = error.__cause__ if error is not None else None
    return cause.message if isinstance(cause, OptionError) and cause.option == "lang" else ""


def _where() -> str:
    """Where the cells will run and why, and what isolates them: the status's own words."""
    from . import _commands
    from ._session import session

    facts = _commands.status(session(), []).facts
    return f"(Cells run on: {facts['runtime']}" + (f"; executor: {facts['executor']}" if "executor" in facts else "") + ".)"


def _python() -> str:
    """This Python as it is called from here."""
    program = Path(sys.executable)
    with suppress(ValueError):
        return str(program.relative_to(Path.cwd()))
    return str(program)


class _Page:
    """The terminal's page: prose at its width, code under prompts, what came of it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bold = ("\x1b[1m", "\x1b[0m") if out.isatty() and "NO_COLOR" not in os.environ else ("", "")
        self._width = min(shutil.get_terminal_size((100, 24)).columns, 100)

    def line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def prose(self, text: str) -> None:
        self.line("")
        for block in text.strip().split("\n"):
            if block.startswith("#"):
                self.line(block.lstrip("# ").join(self._bold))
            elif block:
                self.text(block)

    def text(self, text: str) -> None:
        self.line(textwrap.fill(text, self._width, break_long_words=False, break_on_hyphens=False))

    def code(self, number: int, text: str) -> None:
        prompt = f"In [{number}]:"
        lines = (f"{prompt if index == 0 else '':<9}{line}".rstrip() for index, line in enumerate(text.splitlines()))
        self.line("\n" + "\n".join(lines))

    def end(self, ran: int, wrong: int, left_out: list[str], seconds: float) -> None:
        """What came of it, and what can be done next."""
        from .node import _daemon

        good = ran - wrong - len(left_out)
        self.line(f"\n{f'All {ran}' if good == ran else f'{good} of {ran}'} cells did what they should, in {seconds:.1f} s.")
        for missing in dict.fromkeys(left_out):
            self.text(f"Left out: {missing}")
        self.line(f"The same notebook in JupyterLab: {_python()} -m bacalhau_magic try --lab")
        if _daemon.status().running:
            self.line(f"The embedded node goes after 30 idle minutes; at once: {_python()} -m bacalhau_magic node stop")


def open_lab(out: TextIO) -> int:
    """Open a copy of the notebook in JupyterLab; returns its exit code, 2 when it is not installed."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        out.write(f"JupyterLab is not installed here. Install it: {_python()} -m pip install jupyterlab\n")
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
