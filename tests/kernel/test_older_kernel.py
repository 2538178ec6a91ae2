"""The same in the newest ipykernel 6, in a folder of its own: there a cell's widgets are heard when the cell is over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from habits import restart_and_attach, shell_habits, two_quick_interrupts
from kernels import Kernel, start

SLEEPER = "import time\nprint('begins', flush=True)\ntime.sleep(60)"


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with ipykernel 6, which a kernel finds before the installed one."""
    folder = tmp_path_factory.mktemp("ipykernel6")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "ipykernel>=6.29,<7", "nest-asyncio"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        pytest.skip(f"ipykernel 6 can't be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return str(folder)


@pytest.fixture
def kernel(older: str) -> Iterator[Kernel]:
    """A live kernel of ipykernel 6."""
    kernel = start(live=True, PYTHONPATH=os.pathsep.join([older, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    assert kernel.run("import ipykernel; ipykernel.version_info[0]").value == "6"
    yield kernel
    kernel.stop()


def test_values_awaits_and_habits(kernel: Kernel) -> None:
    """A cell is awaited and gives its value; _, nested magics and queued cells work as ever."""
    assert kernel.run("%%bacalhau\nprint('hello')\n6 * 7").value == "42"
    assert kernel.run("_").value == "42"
    assert kernel.run("%%time\n%%bacalhau\n5").value == "5"
    assert kernel.run("get_ipython().run_cell_magic('bacalhau', '', '7') + 1").value == "8"
    requests = [kernel.send(f"%%bacalhau\n{n}") for n in range(2)]
    assert [kernel.collect(request).value for request in requests] == ["0", "1"]


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_interrupts(kernel: Kernel, habit: str) -> None:
    """An interrupt stops the job and raises, awaited or not; with detach the job goes on."""
    kernel.run(habit)
    for option, said in (("", "the job was stopped"), ("--on-interrupt detach", "the job goes on")):
        request = kernel.send(f"%%bacalhau {option}\n{SLEEPER}")
        kernel.until(lambda card: card.get("title") == "Running")
        kernel.cards.clear()
        kernel.manager.interrupt_kernel()
        ran = kernel.collect(request, 20)
        assert ran.error is not None
        assert (ran.error[0], said in ran.error[1]) == ("JobInterruptedError", True)
    kernel.run("_bacalhau.cancel()")


def test_a_background_card_lives(kernel: Kernel) -> None:
    """A background card goes on while other cells run, and the job is awaited."""
    kernel.run("%%bacalhau --bg --job j\nimport time\nfor i in range(4):\n    print(f'{i + 1}/4', flush=True)\n    time.sleep(0.5)\n'end'")
    assert kernel.run("1 + 1").value == "2"
    kernel.until(lambda card: (card.get("bar") or {}).get("words") == "2 of 4")
    assert kernel.run("await j").value == "'end'"
    kernel.until(lambda card: card.get("title") == "Completed")


def test_an_interrupt_of_an_await(kernel: Kernel) -> None:
    """An interrupt ends an await at once, and says how to go on."""
    kernel.run(f"%%bacalhau --bg --job j\n{SLEEPER}")
    kernel.until(lambda card: card.get("title") == "Running")
    request = kernel.send("await j")
    time.sleep(1)
    kernel.manager.interrupt_kernel()
    assert "%bacalhau stop j-" in kernel.collect(request, 10).text
    kernel.run("j.cancel()")


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_two_quick_interrupts_free_the_cell(kernel: Kernel, habit: str) -> None:
    """A second interrupt ends the wait at once, while the stop is not delivered yet; it is delivered all the same."""
    kernel.run(habit)
    two_quick_interrupts(kernel)


def test_after_a_restart_the_notebook_s_jobs_are_there(kernel: Kernel) -> None:
    """After a kernel restart jobs lists what was sent, attach last brings the result, and nothing is sent twice."""
    restart_and_attach(kernel)


def test_the_shell_s_own_habits(kernel: Kernel) -> None:
    """_, Out and a semicolon work after an awaited cell, as do %%time, %%capture, run_cell_magic and autoawait off."""
    shell_habits(kernel)
