"""What kernels of every ipykernel must do, whichever one runs a test."""

from __future__ import annotations

import os
import signal
import time

from kernels import Kernel, Ran, start
from scripted import JOB, JobScript, Server

from bacalhau_magic.node import _daemon

BUNDLE = "application/vnd.bacalhau.job+json"
WAITS = ("%bacalhau wait last", "got = %bacalhau attach last", "if True:\n    %bacalhau wait last", "%bacalhau wait --all")
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
        # Two signals that come before the kernel looks are one.
        kernel.until(lambda snapshot: any("Interrupt again" in notice for notice in snapshot["notices"]))
        kernel.manager.interrupt_kernel()
        ran = kernel.collect(request, 20)
    finally:
        os.kill(node, signal.SIGCONT)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert "stop is on the way" in ran.text
    assert outcomes(ran) == ["stopped"]
    assert kernel.run("1 + 1").value == "2"
    assert kernel.run("_bacalhau.error.__class__.__name__").value == "'JobStoppedError'"


def stop_on_the_card(kernel: Kernel) -> None:
    """Asserts that Stop, pressed while the cell waits, stops the job on the node, and that the cell raises JobStoppedError."""
    request = running(kernel, f"%%bacalhau\n{SLEEPER.format(60)}")
    kernel.press({"kind": "stop"})
    ran = kernel.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobStoppedError"
    assert outcomes(ran) == ["stopped"]
    assert "stopped" in kernel.run("%bacalhau show last").text


def stop_while_a_line_waits(kernel: Kernel, code: str) -> None:
    """Asserts that Stop is heard while a line waits, by a front end that knows no subshells, and that the line raises JobStoppedError."""
    running(kernel, f"%%bacalhau --bg\n{SLEEPER.format(60)}")
    cards = len(kernel.cards)
    request = kernel.send(code)
    if code.startswith("await"):
        time.sleep(1)  # which shows no card of its own
    else:
        kernel.until(lambda _snapshot: len(kernel.cards) > cards)
    kernel.press({"kind": "stop"})
    ran = kernel.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobStoppedError"


def run_all(kernel: Kernel) -> None:
    """Asserts that queued cells run one after the other, each with its value, and that one that fails aborts those behind it."""
    requests = [kernel.send(f"%%bacalhau\nprint({n})\n{n} * 10") for n in range(3)]
    for n, request in enumerate(requests):
        ran = kernel.collect(request)
        assert ran.error is None, ran.text
        assert (ran.stream("stdout"), ran.value) == (f"{n}\n", str(n * 10))
    first, second = kernel.send("%%bacalhau\n1/0"), kernel.send("%%bacalhau\n2")
    assert kernel.collect(first).reply["status"] == "error"
    assert kernel.collect(second).reply["status"] == "aborted"


def an_outage(**environment: str) -> None:
    """Asserts that a lost contact is said and ends nothing, and that a stop that could not be delivered is said, and sent at the next contact."""
    with Server() as server:
        script = JobScript(server)
        server.on("PUT", "/orchestrator/jobs", {"JobID": JOB, "EvaluationID": "x"})
        server.on("GET", "/orchestrator/jobs", {"Items": []})
        server.on_logs(lambda stream, _: stream.stay())
        kernel = start(live=True, BACALHAU_API_URL=server.url, **environment)
        try:
            _lost_and_stopped(kernel, server, script)
        finally:
            kernel.stop()


def _lost_and_stopped(kernel: Kernel, server: Server, script: JobScript) -> None:
    request = kernel.send("%%bacalhau --queue-timeout 1h\n1")
    kernel.until(lambda snapshot: snapshot.get("title") == "Sent" or snapshot.get("step", 0) > 1)
    script.begin()
    kernel.until(lambda snapshot: snapshot.get("place") == "on n-2e2b7e09")
    down = [True]
    server.on("GET", f"/orchestrator/jobs/{JOB}.*", lambda asked: None if down else script._history(asked))
    server.on("DELETE", f"/orchestrator/jobs/{JOB}", lambda asked: None if down else script._stop(asked))
    said = kernel.until(lambda snapshot: snapshot.get("tone") == "warn" and server.url in snapshot["problem"])
    assert not said["over"]
    kernel.press({"kind": "stop"})
    kernel.until(lambda snapshot: any("sent at the next contact" in notice for notice in snapshot.get("notices", ())))
    assert script.stops == []
    down.clear()
    server.on("GET", f"/orchestrator/jobs/{JOB}", lambda _: {"Job": script.job()})
    server.on("GET", f"/orchestrator/jobs/{JOB}/executions", {"Items": []})
    ran = kernel.collect(request)
    assert ran.error is not None
    assert ran.error[0] == "JobStoppedError"
    assert script.stops == ["stopped from the notebook"]


def restart_and_attach(kernel: Kernel) -> None:
    """Asserts that after a restart of the kernel the job that was sent is listed, and attached to without sending it again."""
    kernel.run("%%bacalhau --bg --name kept -o x\nimport time\nprint('hello', flush=True)\ntime.sleep(3)\nx = 'late'")
    kernel.run("_bacalhau.id")
    kernel.restart()
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
