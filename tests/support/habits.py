"""What kernels of every ipykernel must do, whichever one runs a test."""

from __future__ import annotations

import os
import signal
import time

from kernels import Kernel, Ran

from bacalhau_magic.node import _daemon

BUNDLE = "application/vnd.bacalhau.job+json"
SLEEPER = "import time\nprint('begins', flush=True)\ntime.sleep({})\n'woke'"


def outcomes(ran: Ran) -> list[str]:
    """The bundles that a cell left in the end, in order: what replaced a display counts in its place, another cell's not at all."""
    shown: dict[str, str] = {}
    own = {output["content"].get("transient", {}).get("display_id") for output in ran.outputs if output["type"] == "display_data"}
    for number, output in enumerate(ran.outputs):
        found = output["content"].get("data", {}).get(BUNDLE)
        key = output["content"].get("transient", {}).get("display_id") or str(number)
        if output["type"] == "update_display_data" and key not in own:
            continue  # of a job in the background, whose card goes on
        if output["type"] == "update_display_data" or found:
            shown[key] = found["outcome"] if found else ""
    return list(shown.values())


def running(kernel: Kernel, code: str) -> str:
    """Start a cell, and give its request once its job runs."""
    request = kernel.send(code)
    kernel.until(lambda snapshot: snapshot.get("title") == "Running")
    return request


def two_quick_interrupts(kernel: Kernel) -> None:
    """Asserts that a second interrupt ends the wait at once while the node can't be reached, and that the stop is delivered all the same."""
    request = running(kernel, f"%%bacalhau\n{SLEEPER.format(60)}")
    node = _daemon.find().pid
    os.kill(node, signal.SIGSTOP)
    try:
        kernel.manager.interrupt_kernel()
        time.sleep(0.5)
        kernel.manager.interrupt_kernel()
        ran = kernel.collect(request, 5)
    finally:
        os.kill(node, signal.SIGCONT)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert "stop is on the way" in ran.text
    assert outcomes(ran) == ["stopped"]
    assert kernel.run("1 + 1").value == "2"
    assert kernel.run("_bacalhau.error.__class__.__name__").value == "'JobStoppedError'"


def restart_and_attach(kernel: Kernel) -> None:
    """Asserts that after a restart of the kernel the job that was sent is listed, and attached to without sending it again."""
    kernel.run("%%bacalhau --bg --name kept -o x\nimport time\nprint('hello', flush=True)\ntime.sleep(3)\nx = 'late'")
    kernel.run("_bacalhau.id")
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    kernel.run("%load_ext bacalhau_magic")
    assert kernel.run("[row['name'] for row in get_ipython().run_line_magic('bacalhau', 'jobs')]").value == "['kept']"
    ran = kernel.run("%bacalhau attach last -o x")
    assert ran.error is None, ran.text
    assert ran.stream("stdout") == "hello\n"
    assert kernel.run("x").value == "'late'"
    assert kernel.run("len(get_ipython().run_line_magic('bacalhau', 'jobs'))").value == "1"


def shell_habits(kernel: Kernel) -> None:
    """Asserts that _, Out, ;, %%time, %%capture, nested calls and %autoawait off work as in a local cell."""
    kernel.run("%%bacalhau\n[1, 2]")
    assert kernel.run("_").value == "[1, 2]"
    assert kernel.run("Out[max(Out)]").value == "[1, 2]"
    assert kernel.run("%%bacalhau\n'hidden';").value is None
    assert kernel.run("%%time\n%%bacalhau\n5").value == "5"
    assert kernel.run("%%capture got\n%%bacalhau\nprint('inside')\n6").error is None
    assert kernel.run("got.stdout").value == "'inside\\n'"
    assert kernel.run("get_ipython().run_cell_magic('bacalhau', '', '7') + 1").value == "8"
    assert kernel.run("%autoawait False\nget_ipython().run_cell_magic('bacalhau', '', '8')").value == "8"
    assert kernel.run("%%bacalhau\n9").value == "9"
