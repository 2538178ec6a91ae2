"""The embedded node is killed: it is started again where somebody needs it, and what ran on it is told as lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from bench import processes_with
from embedded import as_default
from habits import running
from kernels import Kernel, start

from bacalhau_magic.node import _daemon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills a process by its number")

_LOST = "was restarted while the job ran"
_WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(300)"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node for this test alone."""
    with as_default(monkeypatch):
        yield


@pytest.fixture
def kernel(alone: None) -> Iterator[Kernel]:
    kernel = start(live=True)
    yield kernel
    kernel.stop()


def kill() -> int:
    """Kill the node; its process's number."""
    node = _daemon.find()
    assert node is not None
    os.kill(node.pid, signal.SIGKILL)
    return node.pid


def test_a_waiting_cell_ends_with_the_reason(kernel: Kernel) -> None:
    """A node that is killed while a cell waits is started again, and the cell says what became of its job; the next cell runs."""
    request = running(kernel, f"%%bacalhau --timeout 5m\n{_WAITS}")
    dead = kill()
    ran = kernel.collect(request, 40)
    assert ran.error is not None
    assert _LOST in ran.text
    again = _daemon.find()
    assert again is not None
    assert again.pid != dead
    assert kernel.run("%%bacalhau\n6 * 7").value == "42"


def test_a_node_that_is_stopped_stays_so(kernel: Kernel) -> None:
    """A cell that waits while the node is stopped hears so from that node, and starts no other one."""
    for _ in range(4):
        kernel.cards.clear()
        request = running(kernel, f"%%bacalhau\n{_WAITS}")
        assert _daemon.stop()
        ran = kernel.collect(request, 20)
        assert ran.error is not None
        assert "the node was stopped" in ran.error[1]
        assert _daemon.find() is None


def test_what_asks_for_a_job_starts_the_node_too(kernel: Kernel) -> None:
    """With the node killed after a job's end, its facts are still had, and a new cell is sent."""
    assert kernel.run("%%bacalhau\nprint('kept')\n1").value == "1"
    for line, said in {"%bacalhau show last": "completed", "%%bacalhau\n6 * 7": "42"}.items():
        kill()
        ran = kernel.run(line)
        assert ran.error is None, ran.text
        assert said in ran.text, line


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_one_interrupt_frees_the_cell_while_there_is_no_contact(kernel: Kernel, habit: str) -> None:
    """While the node does not answer, one interrupt ends the wait after some seconds; the stop is kept, said, and sent later."""
    kernel.run(habit)
    request = running(kernel, f"%%bacalhau\n{_WAITS}")
    node = _daemon.find()
    assert node is not None
    os.kill(node.pid, signal.SIGSTOP)
    try:
        kernel.manager.interrupt_kernel()
        ran = kernel.collect(request, 20)
    finally:
        os.kill(node.pid, signal.SIGCONT)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert "kept for the next contact" in ran.text
    assert kernel.run("_bacalhau.error.__class__.__name__").value == "'JobStoppedError'"


def test_a_script_that_waits_ends(alone: None) -> None:
    """`run` in a plain script raises what became of its job."""
    mark = f"7658.{uuid.uuid4().int % 10**9}"
    code = f"from bacalhau_magic import run\nrun(\"import subprocess; subprocess.run(['sleep', '{mark}'])\")\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as script:
        try:
            while not processes_with(f"sleep {mark}"):
                assert script.poll() is None
                time.sleep(0.02)
            kill()
            said, _ = script.communicate(timeout=40)
        finally:
            script.kill()
    assert script.returncode == 1
    assert _LOST in said
