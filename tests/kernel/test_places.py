"""The same cells where nobody looks, under nbclient, in a terminal, and in a notebook without widgets."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BACKGROUND = (
    "%load_ext bacalhau_magic",
    "%%bacalhau --bg --name first -o x\nprint('hello')\nx = 1",
    "from bacalhau_magic import submit\nothers = [submit(f'y{n} = {n}', outputs=[f'y{n}']) for n in range(3)]",
    "%bacalhau wait last",
    "over = %bacalhau wait --all",
    "x, y0, y1, y2",
    "await others[0]",
)


def notebook(*cells: str) -> nbformat.NotebookNode:
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id=f"cell-{n}") for n, code in enumerate(cells)])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return content


def executed(folder: Path, *cells: str) -> nbformat.NotebookNode:
    content = notebook(*cells)
    NotebookClient(content, timeout=120, record_timing=False, resources={"metadata": {"path": str(folder)}}).execute()
    return content


def test_background_cells_in_batch_are_the_same_every_time(tmp_path: Path) -> None:
    """In batch a background cell leaves "submitted" once for all of its jobs, no widget and no metadata, and a second run changes nothing."""
    first = executed(tmp_path, *BACKGROUND)
    shown = [[output.get("data", {}).get("text/plain") for output in cell.outputs] for cell in first.cells]
    assert shown[1] == ["bacalhau: submitted", "RemoteJob(first)"]
    assert shown[2] == ["bacalhau: submitted"]
    assert shown[5:] == [["(1, 0, 1, 2)"], ["{'y0': 0}"]]
    assert "widget" not in nbformat.writes(first)
    assert all(not output.get("metadata") for cell in first.cells for output in cell.outputs)
    assert nbformat.writes(executed(tmp_path, *BACKGROUND)) == nbformat.writes(first)


def test_a_slow_cell_in_batch_leaves_the_contract_alone(tmp_path: Path) -> None:
    """Nobody answers for a card under nbclient, and no line comes for it however long the job takes: bundle, stdout and value, once."""
    cell = "%%bacalhau\nimport time\nprint('begins', flush=True)\ntime.sleep(4)\n6 * 7"
    outputs = executed(tmp_path, "%load_ext bacalhau_magic", cell).cells[1].outputs
    assert [output.output_type for output in outputs] == ["display_data", "stream", "execute_result"]
    assert outputs[0].data["text/plain"] == "bacalhau: completed"
    assert outputs[1].text == "begins\n"
    assert not outputs[0].metadata


def test_an_interrupt_under_nbclient(tmp_path: Path) -> None:
    """Where nbclient runs the cells an interrupt of the kernel stops the job and the cell raises JobInterruptedError."""
    cell = "%%bacalhau\nimport time\nprint('begins', flush=True)\ntime.sleep(60)"
    content = notebook("%load_ext bacalhau_magic", "%%bacalhau -q\n1", cell)
    client = NotebookClient(content, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    timer = threading.Timer(0, lambda: None)

    def interrupt(cell: object, cell_index: int) -> None:
        nonlocal timer
        if cell_index == 2:
            timer = threading.Timer(3, lambda: client.km.provisioner.process.send_signal(2))
            timer.start()

    client.on_cell_execute = interrupt
    with pytest.raises(CellExecutionError) as caught:
        client.execute()
    timer.join()
    assert caught.value.ename == "JobInterruptedError"
    kinds = [(output.output_type, output.get("data", {}).get("text/plain", output.get("text", ""))) for output in content.cells[2].outputs]
    assert kinds[:2] == [("display_data", "bacalhau: stopped"), ("stream", "begins\n")]


def _control() -> None:
    """Let the new session have the terminal, so that its Ctrl-C is an interrupt."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A shell in a terminal, as a user types into it."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=folder,
            start_new_session=True,
            preexec_fn=_control,
        )
        os.close(follower)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def until(self, pattern: str, timeout: float = 40) -> str:
        """Read on until the pattern shows, and give all that came with it."""
        until = time.monotonic() + timeout
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert time.monotonic() < until, self.shown[-1500:]
            if select.select([self.leader], [], [], 0.2)[0]:
                self.shown += os.read(self.leader, 65536).decode(errors="replace")
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self.leader)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal with the extension loaded."""
    terminal = Terminal(tmp_path, "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor", "--HistoryManager.enabled=False")
    terminal.until(r"In \[1\]: ")
    terminal.type("%load_ext bacalhau_magic\n")
    terminal.until(r"In \[2\]: ")
    yield terminal
    terminal.close()


def test_ctrl_c_in_a_terminal(terminal: Terminal) -> None:
    """In a terminal the status stays on one line, Ctrl-C stops the job and raises, and the shell goes on."""
    terminal.type("%%bacalhau\nimport time\nprint('begins', flush=True)\ntime.sleep(60)\n\n\n")
    shown = terminal.until(r"bacalhau: running.* 1\.\d s of 5 min")
    assert "begins" in shown
    assert "\r\x1b[K" in shown
    assert shown.count("\n", shown.index("bacalhau: packing")) <= 4
    terminal.type("\x03")
    terminal.until("JobInterruptedError: Interrupted: the job was stopped")
    terminal.until(r"In \[\d+\]: ")
    terminal.type("20 + 3\n")
    terminal.until("23")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Terminal]:
    """A `jupyter console` with the extension loaded."""
    pytest.importorskip("jupyter_console", reason="jupyter console is not installed")
    console = Terminal(tmp_path, "jupyter_console", "--simple-prompt", "--kernel=python3")
    console.until(r"In \[1\]: ")
    console.type("%load_ext bacalhau_magic\n")
    console.until(r"In \[2\]: ")
    yield console
    console.type("exit\n")
    console.process.wait(20)
    console.close()


def test_a_jupyter_console_shows_the_job_live(console: Terminal) -> None:
    """`jupyter console`, which knows no widgets, has the state on one line that is written over, the log as it comes, once, then bundle and value."""
    body = "import time\nprint('beg' + 'ins', flush=True)\ntime.sleep(4)\nprint('en' + 'ds')\n6 * 7"
    for number in (2, 3):
        console.type(f"get_ipython().run_cell_magic('bacalhau', '', {body!r})\n")
        shown = console.until(r"begins.*\rbacalhau: running on n-\w+ · [^\r]*5 min")
        shown += console.until(rf"Out\[{number}\]: 42")
        assert "bacalhau: completed" in shown
        assert (shown.count("begins"), shown.count("ends"), shown.count("bacalhau: completed")) == (1, 1, 1)
        assert "Card(" not in shown


def test_a_background_failure_is_told_in_a_terminal(terminal: Terminal) -> None:
    """Where there are no cards, a background failure is told once, below the next cell."""
    terminal.type("%%bacalhau --bg --name broken --job j\n1/0\n\n\n")
    terminal.until(r"In \[3\]: ")
    terminal.type("import time; time.sleep(4)\n")
    terminal.until(r"the job broken failed: ZeroDivisionError: division by zero")
    terminal.until(r"In \[4\]: ")
    terminal.type("'again'\n")
    assert "broken" not in terminal.until(r"Out\[4\]: 'again'.*In \[5\]: ")


def test_a_notebook_without_widgets_has_one_line(live: Kernel) -> None:
    """With --progress text the status is one line that is written over, without colours, and the log's lines stay."""
    ran = live.run("%%bacalhau --progress text\nimport time\nfor n in range(3):\n    print('line', n, flush=True)\n    time.sleep(0.4)\n7")
    assert ran.error is None, ran.text
    text = ran.stream("stdout")
    assert "\x1b" not in text
    assert ran.value == "7"
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    assert [line for line in lines if line] == ["line 0", "line 1", "line 2"]
    assert re.search(r"\rbacalhau: running on n-\w+ · \S+ s of 5 min", text)
    assert text.count("\r") > 5
