"""Jobs while they run, in a real kernel: interrupts, background, many at once, restart, and cells around the cell."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from gateway import gateway
from habits import (
    SLEEPER,
    WAITS,
    an_outage,
    outcomes,
    restart_and_attach,
    run_all,
    running,
    shell_habits,
    stop_on_the_card,
    stop_while_a_line_waits,
    two_quick_interrupts,
)
from kernels import Kernel, start
from scripted import Server

from bacalhau_magic.node import _daemon


def test_an_interrupt_leaves_what_was_printed(live: Kernel) -> None:
    """An interrupted cell shows the bundle "stopped" and what the job had printed, and raises JobInterruptedError."""
    request = running(live, f"%%bacalhau\n{SLEEPER.format(60)}")
    time.sleep(0.5)
    live.manager.interrupt_kernel()
    ran = live.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert ran.error[1] == "Interrupted: the job was stopped."
    assert outcomes(ran) == ["stopped"]
    assert ran.stream("stdout") == "begins\n"


def test_detach_lets_the_job_go_on(live: Kernel) -> None:
    """With --on-interrupt detach the job goes on, its card says how to come back, its name holds a marker until it is waited for."""
    request = running(live, "%%bacalhau --on-interrupt detach -o z\nimport time\ntime.sleep(4)\nz = 'kept'")
    live.manager.interrupt_kernel()
    ran = live.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert "the job goes on (j-" in ran.error[1]
    assert "%bacalhau attach j-" in ran.text
    assert outcomes(ran) == ["submitted"]
    used = live.run("z + 'x'")
    assert used.error is not None
    assert used.error[0] == "ResultError"
    live.until(lambda snapshot: snapshot.get("title") == "Completed" and "attach j-" in snapshot["notices"][0])
    assert live.run("%bacalhau wait last").error is None
    assert live.run("z").value == "'kept'"


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_two_quick_interrupts_free_the_cell(live: Kernel, habit: str) -> None:
    """A second interrupt ends the wait at once, while the stop is not delivered yet; it is delivered all the same."""
    live.run(habit)
    two_quick_interrupts(live)


@pytest.mark.parametrize("habit", ["", "%autoawait False"])
def test_interrupts_at_any_moment_are_ours(live: Kernel, habit: str) -> None:
    """However soon a second interrupt follows the first, the cell raises JobInterruptedError, and the kernel goes on."""
    live.run(habit)
    for pause in (0.0, 0.001, 0.004, 0.02):
        live.cards.clear()
        request = running(live, f"%%bacalhau --cpu 0.1\n{SLEEPER.format(60)}")
        live.manager.interrupt_kernel()
        time.sleep(pause)
        live.manager.interrupt_kernel()
        ran = live.collect(request, 20)
        assert ran.error is not None
        assert ran.error[0] == "JobInterruptedError", pause
    assert live.run("1 + 1").value == "2"


def test_stop_on_the_card_raises(live: Kernel) -> None:
    """A press on Stop while the cell waits stops the job on the node, and the cell raises JobStoppedError."""
    stop_on_the_card(live)


@pytest.mark.parametrize("code", WAITS)
def test_stop_is_heard_while_a_line_waits(live: Kernel, code: str) -> None:
    """A press on Stop is heard while %bacalhau wait or attach waits, by a front end that knows no subshells; the line raises JobStoppedError."""
    stop_while_a_line_waits(live, code)


def test_a_line_that_waits_has_the_shell_s_own_habits(live: Kernel) -> None:
    """What wait and attach give is shown, assigned, kept in _ and Out, and comes in functions, below other lines and beside text that looks like it."""
    live.run("%%bacalhau --bg\n6 * 7")
    assert live.run("%bacalhau wait last").value == "42"
    assert live.run("_ + 1, Out[max(Out)]").value == "(43, 42)"
    assert live.run("ü = 'ä'; got = %bacalhau attach last\ngot").error is not None  # no magic begins behind a semicolon
    assert live.run("got = %bacalhau attach last\nü = 'ä'\ngot + 1").value == "43"
    assert live.run("def ask():\n    got = %bacalhau wait last\n    return got\nask()").value == "42"
    literal = "get_ipython().run_line_magic('bacalhau', 'wait last')"
    assert live.run(f'text = """\n{literal}\n"""\n%bacalhau wait last\ntext.strip() == {literal!r}').value == "True"
    assert live.run("%autoawait False\n%bacalhau wait last").value == "42"
    assert live.run("%bacalhau wait last").value == "42"


def test_a_background_card_lives_while_other_cells_run(live: Kernel) -> None:
    """A --bg cell gives its job at once; its card goes on while other cells run, and is told the end."""
    ran = live.run(
        "%%bacalhau --bg --job j\nimport time\nfor i in range(4):\n    print(f'step {i + 1}/4', flush=True)\n    time.sleep(0.5)"
    )
    assert ran.error is None, ran.text
    assert outcomes(ran) == ["submitted"]
    assert ran.value == "RemoteJob(python)"
    assert live.run("1 + 1").value == "2"
    live.until(lambda snapshot: snapshot.get("title") == "Running" and (snapshot["bar"] or {}).get("words") == "2 of 4")
    assert live.run("import time; time.sleep(1.5); 3").value == "3"
    live.until(lambda snapshot: snapshot.get("title") == "Completed")


def test_a_background_job_is_awaited_asked_and_read(live: Kernel) -> None:
    """await job, result(), logs as lines, cancel: each from a later cell."""
    live.run("%%bacalhau --bg --job a\nprint('one')\nprint('two')\n6 * 7")
    assert live.run("await a").value == "42"
    assert live.run("_ + 1").value == "43"
    assert live.run("a.result()").value == "42"
    assert live.run("list(a.logs(follow=True))").value == "[('stdout', 'one'), ('stdout', 'two')]"
    live.run(f"%%bacalhau --bg --job b\n{SLEEPER.format(60)}")
    live.run("for stream, line in b.logs(follow=True):\n    print('read', line)\n    b.cancel()")
    ended = live.run("b.result()")
    assert ended.error is not None
    assert ended.error[0] == "JobStoppedError"


def test_a_job_shows_its_name_alone_and_tab_its_api(live: Kernel) -> None:
    """What a notebook keeps of a job that is shown is its name, in a list too; print says state and id; Tab offers what users need."""
    live.run("%%bacalhau --bg --job j --name first\n1")
    assert live.run("j.result(); j").value == "RemoteJob(first)"
    assert live.run("[j]").value == "[RemoteJob(first)]"
    assert re.fullmatch(r"RemoteJob\(first, completed, j-\w{8}\)\n", live.run("print(j)").stream("stdout"))
    request = live.client.complete("j.", 2)
    while (message := live.client.get_shell_msg(timeout=10))["parent_header"]["msg_id"] != request:
        pass
    offered = [text.removeprefix("j.") for text in message["content"]["matches"]]
    wanted = "bind cancel done error events files id logs name outputs result route state stderr stdout"
    assert [name for name in offered if not name.startswith("_")] == wanted.split()


def test_a_job_in_the_node_s_queue_waits(live: Kernel) -> None:
    """A job that the embedded node has no room for now is said to wait there, not to start; it runs once there is room."""
    live.run(f"%%bacalhau --bg --job first --cpu {os.cpu_count()}\n{SLEEPER.format(60)}")
    live.until(lambda snapshot: snapshot.get("title") == "Running")
    live.run(f"%%bacalhau --bg --job second --cpu {os.cpu_count()}\n1")
    waiting = live.until(lambda snapshot: snapshot.get("title") == "Waiting for room")
    assert waiting["phase"] == "waiting"
    live.until(lambda snapshot: snapshot.get("tone") == "warn" and "it runs others" in snapshot["problem"])
    assert waiting["place"].startswith("on n-")
    live.run("first.cancel()")
    assert live.run("second.result()").value == "1"


def test_asking_for_the_result_binds_nothing(live: Kernel) -> None:
    """await job and result() give the names' values, and leave the marker; %bacalhau wait binds."""
    live.run("%%bacalhau --bg --job j -o x\nx = 3")
    for code in ("await j", "j.result()"):
        assert live.run(code).value == "{'x': 3}"
        used = live.run("x + 1")
        assert used.error is not None, code
        assert used.error[0] == "ResultError"
    assert live.run("%bacalhau wait last").error is None
    assert live.run("x + 1").value == "4"


def test_the_card_has_what_was_asked_for(live: Kernel) -> None:
    """The live card says which resources the job has."""
    request = running(live, "%%bacalhau --cpu 1 --memory 1GB\nimport time; time.sleep(1)")
    assert "1 CPU" in live.cards[list(live.cards)[-1]]["rest"]
    assert "1 GB" in live.cards[list(live.cards)[-1]]["rest"]
    assert live.collect(request).error is None


def test_wait_all_has_a_bar_with_its_parts(live: Kernel) -> None:
    """The card of wait --all has one bar, whose parts are how many jobs are in which state, and a row for each."""
    live.run(f"%%bacalhau --bg --cpu 0.1\n{SLEEPER.format(3)}")
    live.run("%%bacalhau --bg --cpu 0.1\n1")
    live.until(lambda snapshot: snapshot.get("title") == "Completed")
    live.cards.clear()
    request = live.send("%bacalhau wait --all")
    card = live.until(lambda snapshot: snapshot["kind"] == "jobs" and ["run", "running", 1] in snapshot["parts"])
    assert (card["title"], card["parts"], len(card["rows"])) == ("2 jobs", [["ok", "completed", 1], ["run", "running", 1]], 2)
    assert live.collect(request).error is None


def test_a_background_failure_is_not_lost(live: Kernel) -> None:
    """A background failure shows on the card, with a report, and raises when its result is asked for."""
    live.run("%%bacalhau --bg --job bad -o v\nv = 1 / 0")
    live.until(lambda snapshot: snapshot.get("title") == "Failed" and "ZeroDivisionError" in snapshot["problem"] and snapshot["report"])
    used = live.run("v + 1")
    assert used.error is not None
    assert "failed" in used.error[1]
    for code in ("bad.result()", "await bad", "%bacalhau wait last", "%bacalhau wait --all"):
        ran = live.run(code)
        assert ran.error is not None, code
        assert "ZeroDivisionError" in ran.text, code


def test_an_interrupt_of_an_await_is_prompt_and_says_how_to_stop(live: Kernel) -> None:
    """An interrupt ends await job, result() and wait at once; the job goes on."""
    live.run(f"%%bacalhau --bg --job slow\n{SLEEPER.format(30)}")
    live.until(lambda snapshot: snapshot.get("title") == "Running")
    for code in ("await slow", "slow.result()", "%bacalhau wait last", "list(slow.logs(follow=True))"):
        # Only once the line itself runs: until then an interrupt is the kernel's own, and ends the cell before us.
        request = live.send(f"print('begun', flush=True)\n{code}")
        live.printed("begun")
        time.sleep(1)
        live.manager.interrupt_kernel()
        ran = live.collect(request, 10)
        assert ran.error is not None, code
        assert ran.error[0] == ("CancelledError" if "await" in code else "JobInterruptedError"), code
        assert "%bacalhau stop j-" in ran.text, code
        assert live.run("slow.state").value == "'running'"
    live.run("slow.cancel()")


def test_many_jobs_of_a_cell_share_a_card(live: Kernel) -> None:
    """Background jobs of one cell have one card with a row for each, and wait --all has one bar and binds their names."""
    ran = live.run(
        "from bacalhau_magic import submit\nfor n in range(5):\n    submit(f'import time; time.sleep(1); r{n} = {n}', outputs=[f'r{n}'])"
    )
    assert ran.error is None, ran.text
    assert outcomes(ran) == ["submitted"]
    live.until(lambda snapshot: snapshot.get("title") == "5 jobs" and len(snapshot["rows"]) == 5)
    ran = live.run("%bacalhau wait --all")
    assert ran.error is None, ran.text
    assert outcomes(ran) == ["completed"]
    assert "completed" in ran.text
    assert live.run("r0 + r1 + r2 + r3 + r4").value == "10"
    live.until(lambda snapshot: snapshot.get("title") == "5 jobs" and snapshot["over"] and snapshot["facts"] == "5 completed")


def test_wait_all_names_those_that_failed(live: Kernel) -> None:
    """wait --all goes on to the end of all, binds what came well, and raises naming the failed ones."""
    live.run("for body in ('1/0', 'good = 1', 'int(\"x\")'):\n    get_ipython().run_cell_magic('bacalhau', '--bg -o good', body)")
    ran = live.run("%bacalhau wait --all")
    assert ran.error is not None
    assert ran.error[0] == "JobFailedError"
    assert "2 of 3 jobs failed" in ran.error[1]
    assert outcomes(ran) == ["failed"]


def test_what_the_user_put_there_stays_and_is_said(live: Kernel) -> None:
    """A job binds only over its own marker; what stays is said."""
    live.run("%%bacalhau --bg -o mine\nmine = 'job'")
    live.run("mine = 'user'")
    ran = live.run("%bacalhau wait last")
    assert ran.error is None, ran.text
    assert "mine: not bound" in ran.stream("stderr")
    assert live.run("mine, _bacalhau.outputs['mine']").value == "('user', 'job')"


def test_after_a_restart_the_notebook_s_jobs_are_there(live: Kernel) -> None:
    """After a kernel restart jobs lists what was sent, attach last brings the result, and nothing is sent twice."""
    restart_and_attach(live)


def test_a_card_does_not_outlive_its_kernel(live: Kernel) -> None:
    """A background card has its job's receipt beside it, to the end; when the kernel ends, bundle and receipt are left without a widget."""
    ran = live.run("%%bacalhau --bg\n1")
    shown = ran.outputs[0]["content"]["transient"]["display_id"]
    told = live.update(shown, lambda content: content["metadata"].get("bacalhau", {}).get("outcome"))
    assert told["metadata"]["bacalhau"]["outcome"] == "completed"
    assert told["metadata"]["bacalhau"]["job"].startswith("j-")
    live.client.shutdown(restart=False)
    left = live.update(shown, lambda content: "application/vnd.jupyter.widget-view+json" not in content["data"])
    assert left["data"]["text/plain"] == "bacalhau: submitted"
    assert left["metadata"] == told["metadata"]


def test_once_attaches_to_the_unfinished_job(live: Kernel) -> None:
    """--once with the same cell, options and inputs attaches to the unfinished job; another cell is sent; without it the job is named."""
    body = "import time\ntime.sleep(4)\nx * 2"
    live.run(f"x = 21\nget_ipython().run_cell_magic('bacalhau', '--bg -i x', {body!r})")
    first = live.run("_bacalhau.id").value
    ran = live.run(f"%%bacalhau --once -i x\n{body}")
    assert ran.value == "42", ran.text
    assert live.run("_bacalhau.id").value == first
    live.run(f"get_ipython().run_cell_magic('bacalhau', '--bg -i x', {body!r})")
    second = live.run("_bacalhau.id").value
    assert second != first
    live.run(f"get_ipython().run_cell_magic('bacalhau', '--bg -i x', {body!r})")
    live.until(lambda snapshot: any(second.strip("'")[:10] in notice for notice in snapshot.get("notices", ())))
    live.run(f"x = 22\nget_ipython().run_cell_magic('bacalhau', '--bg --once -i x', {body!r})")
    assert live.run("_bacalhau.id").value not in (first, second)


UNTIL_TOLD = """import time, urllib.request
print('hello', flush=True)
while True:
    try:
        urllib.request.urlopen(go)
        break
    except OSError:
        time.sleep(0.2)
"""
"""A job that goes on until the test's server answers, however long a restart takes."""


def test_attach_after_a_restart_has_a_live_card_and_the_job_s_own_endpoint(live: Kernel) -> None:
    """After a restart attach shows Running and the log, from the job's own endpoint, though another one is configured now."""
    with Server() as other:
        live.run(f"go = '{other.url}/api/v1/go'")
        live.run(f"%%bacalhau --bg --network full -i go -o x\n{UNTIL_TOLD}x = 'late'")
        live.restart(env={**os.environ, "BACALHAU_API_URL": other.url})
        live.cards.clear()
        request = live.send("%bacalhau attach last -o x")
        card = live.until(lambda snapshot: snapshot.get("title") == "Running" and snapshot["log"])
        assert ("".join(text for _, text in card["log"]).strip(), card["over"]) == ("hello", False)
        other.on("GET", "/go", {})
        assert live.collect(request).error is None
        assert live.run("x").value == "'late'"
        assert not [asked.path for asked in other.requests if "jobs" in asked.path]


def asleep(kernel: Kernel, seconds: float) -> None:
    """The kernel stands still, as on a laptop whose lid is closed."""
    pid = kernel.manager.provisioner.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("more", [2, 8], ids=["ends meanwhile", "goes on"])
def test_a_laptop_s_sleep_loses_nothing(live: Kernel, more: int) -> None:
    """A kernel that stood still for seconds has the job's log and value, whether the job ended meanwhile or goes on."""
    request = running(live, f"%%bacalhau\nimport time\nfor n in range({more}):\n    print(n, flush=True)\n    time.sleep(1)\n'value'")
    asleep(live, 4)
    live.cards.clear()
    if more > 4:
        live.until(lambda snapshot: snapshot.get("title") == "Running" and "4\n" in "".join(text for _, text in snapshot["log"]))
    ran = live.collect(request)
    assert ran.value == "'value'", ran.text
    assert ran.stream("stdout") == "".join(f"{n}\n" for n in range(more))
    assert outcomes(ran) == ["completed"]


@pytest.mark.parametrize("more", [3, 15], ids=["ends meanwhile", "goes on"])
def test_a_sleep_that_breaks_the_network_is_said_and_recovered_from(more: int) -> None:
    """When a laptop wakes without its network the card says that contact is lost; once it is back the card and the value are, too."""
    with gateway(_daemon.environment(), "Bearer sleeper") as door:
        kernel = start(live=True, BACALHAU_API_URL=door.url, BACALHAU_API_KEY="sleeper")
        try:
            request = running(kernel, f"%%bacalhau\nimport time\nprint('begins', flush=True)\ntime.sleep({more})\n'value'")
            door.cut()
            asleep(kernel, 4)
            lost = kernel.until(lambda snapshot: snapshot.get("tone") == "warn" and door.url in snapshot["problem"])
            assert not lost["over"]
            door.mend()
            kernel.until(lambda snapshot: snapshot["tone"] == "run" and not snapshot["problem"])
            ran = kernel.collect(request)
        finally:
            kernel.stop()
    assert ran.value == "'value'", ran.text
    assert ran.stream("stdout") == "begins\n"
    assert len(door.paths("PUT")) == 1


def test_an_outage_is_said_and_ends_nothing() -> None:
    """When the endpoint stops answering the card says so; a stop that can't be delivered is said, and sent once it answers again."""
    an_outage()


def test_a_flood_is_thinned_for_the_screen_and_whole_in_the_job(live: Kernel) -> None:
    """Of a flood the card has the end and says what is missing; a bar that is written over is one line; the job has it all."""
    ran = live.run(
        "%%bacalhau --bg --job j --max-result 20MB\nfor n in range(200_000): print(n)\nfor n in range(101): print(f'\\r{n}%|', end='')"
    )
    assert ran.error is None, ran.text
    card = live.until(lambda snapshot: snapshot.get("title") == "Completed")
    assert sum(len(text) for _, text in card["log"]) <= 20_000
    assert card["logDropped"] > 1_000_000
    whole = live.run(
        "len(j.stdout), j.stdout.startswith('0\\n1\\n'), j.stdout.endswith('199999\\n' + ''.join(f'\\r{n}%|' for n in range(101)))"
    )
    assert whole.value == f"({sum(len(str(n)) + 1 for n in range(200_000)) + sum(len(str(n)) + 3 for n in range(101))}, True, True)"


def test_names_that_nobody_asked_for_are_told(live: Kernel) -> None:
    """A cell that assigned and gave nothing back is told what -o would bring; one that printed, has a value or asked for names is not."""
    hint = "What the cell assigned stays in the job: `-o total` brings total back."
    cells = {
        "%%bacalhau --bg\nimport math\nprices, _ = {'tea': 3}, 1\ntotal: int = sum(prices.values())": [hint],
        "%%bacalhau --bg\ntotal = 1\nprint(total)": [],
        "%%bacalhau --bg\ntotal = 1\ntotal": [],
        "%%bacalhau --bg -o total\ntotal = 1": [],
        "%%bacalhau --bg\nimport math\ndef total(): pass": [],
    }
    for number, (cell, wanted) in enumerate(cells.items()):
        name = f"cell-{number}"
        live.run(cell.replace("--bg", f"--bg --name {name}"))
        done = live.until(lambda snapshot, name=name: (snapshot.get("name"), snapshot.get("title")) == (name, "Completed"))
        assert done["notices"] == wanted, cell


def test_run_all(live: Kernel) -> None:
    """Cells that are queued together run one after the other, each with its value; one that fails aborts those behind it, as a local one."""
    run_all(live)


def test_the_shell_s_own_habits(live: Kernel) -> None:
    """_, Out and a semicolon work after an awaited cell, as do %%time, %%capture, run_cell_magic and autoawait off."""
    shell_habits(live)
