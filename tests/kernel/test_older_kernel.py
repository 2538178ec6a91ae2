"""The same in the newest ipykernel 6, in a folder of its own: it takes one message at a time, and a card is heard all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from habits import (
    WAITS,
    an_outage,
    restart_and_attach,
    run_all,
    running,
    shell_habits,
    stop_on_the_card,
    stop_while_a_line_waits,
    two_quick_interrupts,
)
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


def _before_the_installed(older: str) -> str:
    return os.pathsep.join([older, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


@pytest.fixture
def kernel(older: str) -> Iterator[Kernel]:
    """A live kernel of ipykernel 6."""
    kernel = start(live=True, PYTHONPATH=_before_the_installed(older))
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


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_stop_on_the_card_raises(kernel: Kernel, habit: str) -> None:
    """Stop is heard while the cell waits, awaited or not: the job is stopped on the node, and the cell raises JobStoppedError."""
    kernel.run(habit)
    stop_on_the_card(kernel)


@pytest.mark.parametrize("code", [*WAITS, "await _bacalhau"])
def test_stop_is_heard_while_a_line_waits(kernel: Kernel, code: str) -> None:
    """Stop is heard while a line waits, and while a job is awaited; what waits raises JobStoppedError."""
    stop_while_a_line_waits(kernel, code)


def test_a_kernel_with_another_queue_is_left_alone(kernel: Kernel) -> None:
    """Where the kernel's queue is another than the one we know, cells and cards go on; Stop is heard once the cell is over."""
    kernel.run(
        "class Other:\n    def __init__(self, queue): self.put_nowait, self.get = queue.put_nowait, queue.get\n"
        "own = get_ipython().kernel\nown.msg_queue = Other(own.msg_queue)"
    )
    request = running(kernel, "%%bacalhau\nimport time\ntime.sleep(3)\n6 * 7")
    kernel.press({"kind": "stop"})
    behind = kernel.send("_ + 1")
    assert [kernel.collect(each).value for each in (request, behind)] == ["42", "43"]
    assert kernel.run("from bacalhau_magic.progress import _hearing; _hearing._kernel is None").value == "True"


def test_what_is_not_for_a_card_comes_behind_the_cell_as_ever(kernel: Kernel) -> None:
    """Messages that are not for a card stay in the kernel's queue, in their order, while a cell waits."""
    request = kernel.send("%%bacalhau\nimport time\ntime.sleep(2)\n1")
    behind = [kernel.send(f"{n}") for n in range(5)]
    assert [kernel.collect(each).value for each in (request, *behind)] == ["1", "0", "1", "2", "3", "4"]


def test_a_line_where_nobody_answers(kernel: Kernel) -> None:
    """A front end without the card's script gets one line in the card's place here too."""
    kernel.draws_cards = False
    ran = kernel.run("%%bacalhau\nimport time\ntime.sleep(4)\n1")
    texts = [output["content"]["data"]["text/plain"] for output in ran.outputs if output["type"] == "update_display_data"]
    assert [text for text in texts if text.startswith("bacalhau: running on n-")]
    assert texts[-1] == "bacalhau: completed"


def test_an_outage_is_said_and_ends_nothing(older: str) -> None:
    """When the endpoint stops answering the card says so; a stop that can't be delivered is said, and sent once it answers again."""
    an_outage(PYTHONPATH=_before_the_installed(older))


def test_run_all(kernel: Kernel) -> None:
    """Queued cells run one after the other, each with its value; one that fails aborts those behind it."""
    run_all(kernel)


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
