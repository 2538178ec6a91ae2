"""What a job under bubblewrap can and can't do, really tried; `test_as_user.py` runs it again as an ordinary user."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from bench import MIB, Bench, cgroups_of, processes_with

from bacalhau_magic.node.executors import _escapes
from bacalhau_magic.node.executors._bubblewrap import BubblewrapExecutor
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._payload import Payload, spawn
from bacalhau_magic.node.executors._probe import trial
from bacalhau_magic.node.executors._seam import Ending, RunSpec

pytestmark = pytest.mark.bubblewrap

ESCAPES = [escape.__name__ for escape in _escapes.ESCAPES]


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_escape_does_not_work(bubblewrap: BubblewrapExecutor, bench: Bench, escape: str) -> None:
    """No escape that the executor tries on itself works."""
    answer = trial(bubblewrap.launch, bench.node)
    assert answer["works"] is None
    assert answer["escapes"][escape] is None


def test_the_trial_finds_an_escape_where_there_is_one(bench: Bench) -> None:
    """Under bubblewrap without the executor's own measures the trial finds what works."""

    def launch(spec: RunSpec, *, before: tuple[str, ...]) -> Payload:
        loose = ["bwrap", "--bind", "/tmp", "/tmp", "--ro-bind", "/usr", "/usr", "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"]
        for name in ("bin", "lib", "lib64"):
            loose += ["--symlink", f"usr/{name}", f"/{name}"]
        for mount in spec.mounts:
            loose += ["--bind", str(mount.source), mount.target]
        for need in bench.interpreters.resolve("python", "python", spec.interpreter).needs:
            loose += ["--ro-bind", need, need]
        loose += ["--bind", str(bench.node), str(bench.node), spec.interpreter, *spec.argv[1:]]
        environment = {"HOME": "/tmp", "PATH": os.environ["PATH"]}
        return Payload(spawn([*before, *loose], env=environment, stdout=spec.stdout, stderr=spec.stderr))

    worked = {name for name, words in trial(launch, bench.node)["escapes"].items() if words}
    everywhere = {"remount", "outside_processes", "host_files", "abstract_sockets", "network"}
    as_root = {"namespaces", "proc_sys", "devices", "privileges"} if os.getuid() == 0 else {"namespaces"}
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    terminal = {"terminal"} if not legacy.exists() or legacy.read_text().strip() == "1" else set()
    assert worked >= everywhere | as_root | terminal


def test_no_privileges(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A job has no capabilities, can gain none, and is neither root nor this user."""
    done = bench.python(bubblewrap, "print(open('/proc/self/status').read()); import os; print('uid', os.getuid(), os.getgroups())")
    status = dict(re.findall(r"^(\w+):\t(.*)$", done.output, re.MULTILINE))
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    uid = int(re.findall(r"^uid (\d+) ", done.output, re.MULTILINE)[0])
    assert uid not in (0, os.getuid())


def test_own_view(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """Of this machine a job sees the system, its interpreter's folders and its own; of the home folder nothing else."""
    home = Path.home()
    home.mkdir(parents=True, exist_ok=True)
    (home / "diary").write_text("private")
    code = f"import json, os; print(json.dumps([os.listdir('/'), os.path.exists({str(home / 'diary')!r}), os.listdir('/etc'), os.listdir('/tmp')]))"
    root, diary, etc, tmp = json.loads(bench.python(bubblewrap, code).output)
    needs = {need.split("/")[1] for need in bench.interpreters.resolve("python", "python", sys.executable).needs}
    system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu"}
    assert set(root) <= system | needs | {"dev", "proc", "sys", "etc", "tmp", "var", "home", "inputs", "outputs"}
    assert not diary
    assert not {"shadow", "ssh", "machine-id", "environment"} & set(etc)
    assert not [
        name
        for name in tmp
        if not any(need.startswith(f"/tmp/{name}") for need in bench.interpreters.resolve("python", "", sys.executable).needs)
    ]


def test_environment_is_the_jobs_own(bubblewrap: BubblewrapExecutor, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds a fixed list and what the job asked for, nothing of the node's."""
    monkeypatch.setenv("OF_THE_NODE", "secret")
    done = bench.python(bubblewrap, "import json, os; print(json.dumps(dict(os.environ)))", env={"MINE": "a\nb", "HOME": "/tmp"})
    found = json.loads(done.output)
    assert set(found) == {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "MINE", "PWD"}
    assert (found["MINE"], found["HOME"]) == ("a\nb", "/tmp")


def test_loader_variables_reach_the_payload_alone(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A job's LD_PRELOAD is not used by the programs that run before it with more rights."""
    done = bench.python(bubblewrap, "import os; print(os.environ['LD_PRELOAD'])", env={"LD_PRELOAD": "/inputs/none.so"})
    assert done.output.count("cannot be preloaded") == 1
    assert done.output.endswith("/inputs/none.so\n")


def test_inputs_are_read_only_and_outputs_come_back(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A job reads its inputs, whatever their mode, can't change them, and what it writes to /outputs is here."""
    code = """
import os
text = open("/inputs/a.txt").read()
for change in (lambda: open("/inputs/a.txt", "w"), lambda: os.unlink("/inputs/a.txt"), lambda: os.chmod("/inputs/a.txt", 0o777), lambda: open("/x", "w")):
    try:
        change()
    except OSError as error:
        print(error.strerror)
open("/outputs/b.txt", "w").write(text + "!")
"""
    done = bench.python(bubblewrap, code, files={"a.txt": "hello"})
    assert done.ending == Ending(0)
    assert set(done.output.splitlines()) == {"Read-only file system"}
    assert len(done.output.splitlines()) == 4
    assert (done.outputs / "b.txt").read_text() == "hello!"


def test_standard_streams_can_be_opened_by_name(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A shell's `> /dev/stdout` and `> /dev/stderr` work."""
    done = bench.run(bubblewrap, ["sh", "-c", "echo one > /dev/stdout; echo two > /dev/stderr"], language="bash")
    assert done.output == "one\ntwo\n"


def test_network_none(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """Without network a job can't reach this machine's servers, but has a loopback of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import socket
try:
    socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2)
except OSError as error:
    print(type(error).__name__)
own = socket.create_server(("127.0.0.1", 0))
print(socket.create_connection(own.getsockname(), 2).getpeername()[0])
"""
        assert bench.python(bubblewrap, code).output == "ConnectionRefusedError\n127.0.0.1\n"


def test_network_full(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """With network a job reaches what this machine reaches."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; print(socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2).getpeername()[0])"
        assert bench.python(bubblewrap, code, network="full").output == "127.0.0.1\n"


def test_network_by_domain_is_refused(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A network that is limited to domains is refused before anything runs."""
    with pytest.raises(OSError, match="network http is not available here"):
        bench.python(bubblewrap, "", network="http", domains=("example.com",))


def test_memory(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A job that takes more memory than it may is killed, and the server's words for it are recorded."""
    code = "import time; held = [bytearray(b'x' * 2**20) for _ in range(300)]; print('too far'); time.sleep(60)"
    done = bench.python(bubblewrap, code, memory=100 * MIB)
    assert done.ending == Ending(137, "memory", "memory limit exceeded")
    if bubblewrap.limits["memory"] == "enforced":
        assert "too far" not in done.output


def test_address_space_is_not_limited(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """Memory that is reserved and not used doesn't count (Node.js reserves a lot)."""
    code = "import mmap; m = mmap.mmap(-1, 4 << 30); print(len(m))"
    assert bench.python(bubblewrap, code, memory=100 * MIB).output == f"{4 << 30}\n"


@pytest.mark.parametrize("place", ["/outputs", "/tmp"])
def test_disk(bubblewrap: BubblewrapExecutor, bench: Bench, place: str) -> None:
    """A job that writes more than it may is killed."""
    code = f"import os, time; f = open('{place}/big', 'wb'); f.write(os.urandom({30 * MIB})); f.flush(); time.sleep(60)"
    done = bench.python(bubblewrap, code, disk=10 * MIB)
    assert done.ending == Ending(137, "disk", "disk limit exceeded")


def test_processes_are_bounded(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A job can't have more than 512 processes, and can have many."""
    code = """
import os, signal, time
children = []
try:
    for _ in range(700):
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except OSError as error:
    print(error.strerror)
print(len(children))
"""
    done = bench.python(bubblewrap, code)
    strerror, count = done.output.splitlines()
    assert strerror == "Resource temporarily unavailable"
    assert 400 < int(count) <= 512


def test_strays_die_with_the_payload(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A child that left tree and session is dead when the run has been cleaned, and so is its cgroup."""
    mark = f"7654.{uuid.uuid4().int % 10**9}"
    script = f"(setsid sleep {mark} </dev/null >/dev/null 2>&1 &); sleep 0.2; echo ready"
    started = bench.start(bubblewrap, ["bash", "-c", script], language="bash")
    started.until("ready")
    started.finish()
    assert not processes_with(mark)
    assert not cgroups_of(started.spec.execution_id)


def test_the_end_is_the_end_of_all(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """When a run's ending is known no process of it is left, also none that left tree and session: before any cleaning."""
    for _ in range(8):
        mark = f"7654.{uuid.uuid4().int % 10**9}"
        children = f"for n in $(seq 60); do (setsid sleep {mark} </dev/null >/dev/null 2>&1 &); done; echo ready"
        started = bench.start(bubblewrap, ["bash", "-c", children], language="bash")
        started.until("ready")
        assert started.running.wait(30) == Ending(0)
        assert not processes_with(mark)
        started.finish()


def test_stop_asks_first(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A payload that is stopped can still finish its work."""
    code = """
import signal, sys
def end(*_):
    open("/outputs/last", "w").write("words")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("ready")
signal.pause()
"""
    started = bench.start(bubblewrap, ["python", "-u", "-c", code])
    started.until("ready")
    started.running.stop(20)
    done = started.finish()
    assert done.ending == Ending(3, "stopped")
    assert (done.outputs / "last").read_text() == "words"


def test_stop_kills_what_does_not_listen(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A payload that ignores the request is killed after the grace, with its children."""
    mark = f"7655.{uuid.uuid4().int % 10**9}"
    started = bench.start(bubblewrap, ["bash", "-c", f"trap '' TERM; sleep {mark} & echo ready; wait; sleep {mark}"], language="bash")
    started.until("ready")
    started.running.stop(0.2)
    assert started.finish().ending.killed == "stopped"
    assert not processes_with(mark)


def test_exit_codes(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """The payload's exit code comes back; a signal's is 128 more."""
    assert bench.python(bubblewrap, "raise SystemExit(7)").ending == Ending(7)
    assert bench.python(bubblewrap, "import os; os.kill(os.getpid(), 15)").ending == Ending(143)


def test_a_command_that_is_not_there(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A command that this machine lacks is said before anything runs, and leaves nothing."""
    with pytest.raises(FileNotFoundError, match='executable file not found: exec: "no-such-program"'):
        bench.run(bubblewrap, ["no-such-program"])


def test_node_and_bash_run(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """Node.js and Bash run inside, where they are there."""
    if not bench.interpreters.languages()["javascript"].startswith("missing"):
        assert bench.run(bubblewrap, ["node", "-e", "console.log(6 * 7)"], language="javascript").output == "42\n"
    if not bench.interpreters.languages()["typescript"].startswith("missing"):
        code = "const n: number = 42; console.log(n)"
        done = bench.run(bubblewrap, ["node", "/inputs/a.mts"], language="typescript", files={"a.mts": code})
        assert done.output.startswith("42\n")
    assert bench.run(bubblewrap, ["bash", "-c", "echo $((6 * 7)) | awk '{print $1}'"], language="bash").output == "42\n"


def test_a_run_outlives_the_thread_that_started_it(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """A run goes on when the thread that started it has ended ("die with parent" means a thread)."""
    started = []
    thread = threading.Thread(target=lambda: started.append(bench.start(bubblewrap, ["sh", "-c", "echo ready; sleep 0.4; echo done"])))
    thread.start()
    thread.join()
    assert started[0].finish().output == "ready\ndone\n"


def test_cpus(bubblewrap: BubblewrapExecutor, bench: Bench) -> None:
    """Half a CPU is a quota where cgroups can be written, else one whole CPU."""
    done = bench.start(bubblewrap, ["sh", "-c", "nproc; sleep 60"], cpus=0.5, language="bash")
    done.until("\n")
    if bubblewrap.limits["cpu"] == "enforced":
        quotas = [
            Path(place, name).read_text()
            for place in cgroups_of(done.spec.execution_id)
            for name in ("cpu.cfs_quota_us", "cpu.max")
            if Path(place, name).exists()
        ]
        assert "50000" in [quota.split()[0] for quota in quotas]
    else:
        assert done.text() == "1\n"
    done.running.stop(0)


_NODE = """
import os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from bench import Bench
from bacalhau_magic.node.executors._limits import Cgroups
folder, mark = Path(sys.argv[1]), sys.argv[2]
bench = Bench(folder)
started = bench.start(bench.bubblewrap(Cgroups.found()), ["sh", "-c", f"setsid sleep {mark} & echo ready; sleep {mark}"])
started.until("ready")
print(started.spec.execution_id, flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_killed_node(bench: Bench, tmp_path: Path) -> None:
    """When the node is killed its runs die with it, and a sweep removes what is left."""
    own = tmp_path / "killed"
    own.mkdir()
    mark = f"7656.{uuid.uuid4().int % 10**9}"
    places = [*sys.path]
    with subprocess.Popen([sys.executable, "-c", _NODE, str(own), mark, *places], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        execution_id = node.stdout.readline().strip()
        assert processes_with(mark)
        node.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes_with(mark)
    bench.bubblewrap(Cgroups.found()).sweep([execution_id])
    assert not cgroups_of(execution_id)
