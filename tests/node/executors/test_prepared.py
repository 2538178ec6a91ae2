"""The sandbox that is prepared ahead: a job in it can't tell, but for the time it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import Bench, Finished, cgroups_of, processes_with

from bacalhau_magic.node.executors._bubblewrap import BubblewrapExecutor
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._prepared import PREFIX, Kind
from bacalhau_magic.node.executors._probe import trial
from bacalhau_magic.node.executors._seam import Running, RunSpec

pytestmark = pytest.mark.bubblewrap

SCRIPT = ("python", "-u", "/inputs/cell.py", "/outputs")
_AGE = (
    "import os\n"
    "_start = int(open('/proc/self/stat').read().rpartition(')')[2].split()[19]) / os.sysconf('SC_CLK_TCK')\n"
    "waited = float(open('/proc/uptime').read().split()[0]) - _start > 0.25\n"
)
"""Whether the interpreter was there before its job."""


def _folders(bench: Bench) -> list[Path]:
    return sorted(bench.node.glob(f"{PREFIX}*"))


def _wait_prepared(bench: Bench) -> None:
    """Until a sandbox waits, and has waited for a while."""
    until = time.monotonic() + 10
    while not _folders(bench):
        assert time.monotonic() < until, "nothing was prepared"
        time.sleep(0.01)
    time.sleep(0.4)


def _cell(bench: Bench, executor: BubblewrapExecutor, code: str, **changes: Any) -> Finished:
    return bench.run(executor, SCRIPT, files={"cell.py": _AGE + code}, **changes)


def test_the_second_job_finds_it_and_sees_the_same(bench: Bench, bubblewrap: BubblewrapExecutor) -> None:
    """A prepared job sees what one that started cold sees: command line, path, names, environment, folders, user, fds, a closed stdin."""
    code = (
        "import sys, json\n"
        "names = sorted(globals())\n"
        "facts = [sys.argv, sys.orig_argv, sys.path, sys.flags, names, __name__, __file__, dict(os.environ), os.getcwd(), os.listdir('.'),"
        " sorted(os.listdir('/')), os.listdir('/tmp'), os.listdir('/inputs'), os.listdir('/outputs'), sys.stdin.read(), sorted(os.listdir('/proc/self/fd')),"
        " open('/proc/self/cmdline').read(), oct(os.umask(0)), os.getgroups(), os.getpid(), os.getsid(0), open('/proc/self/limits').read(),"
        " [line for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs', 'Seccomp'))]]\n"
        "open('/outputs/out', 'w').write('x'); open('/tmp/left', 'w').write('x'); open('left', 'w').write('x')\n"
        "print(json.dumps([waited, facts]))"
    )
    told = []
    for number in range(3):
        finished = _cell(bench, bubblewrap, code, env={"BACALHAU_JOB_ID": "j-1"})
        assert finished.ending.exit_code == 0, finished.output
        assert (finished.outputs / "out").read_text() == "x"
        waited, facts = json.loads(finished.output)
        assert waited is (number > 0)
        told.append(facts)
        _wait_prepared(bench)
    assert told[0] == told[1] == told[2]
    bubblewrap.close()


def test_a_job_with_something_of_its_own_starts_cold(bench: Bench, bubblewrap: BubblewrapExecutor) -> None:
    """Variables, other limits and other networks are there from the interpreter's first moment, so nothing prepared is used."""
    _cell(bench, bubblewrap, "print(waited)")
    for changes in (
        {"env": {"PYTHONHASHSEED": "0"}},
        {"env": {"BACALHAU_X": "x" * 70_000}},
        {"memory": 700 << 20},
        {"network": "full"},
        {"cpus": 0.5},
    ):
        _wait_prepared(bench)
        code = "import sys\nprint(waited, sys.flags.hash_randomization, os.environ.get('PYTHONHASHSEED'))"
        expected = "False 0 0\n" if "PYTHONHASHSEED" in str(changes) else "False 1 None\n"
        assert _cell(bench, bubblewrap, code, **changes).output == expected
    bubblewrap.close()


@pytest.mark.parametrize(
    "script", ["/inputs//inputs/cell.py", "/inputs/../inputs/cell.py", "/inputs/./cell.py", "/inputs/none.py", "/tmp/cell.py"]
)
def test_only_a_script_of_the_inputs_is_prepared_for(bench: Bench, bubblewrap: BubblewrapExecutor, script: str) -> None:
    """A command line that could lead anywhere else has no kind, so nothing is ever written at its path."""
    bench.run(bubblewrap, ("python", "-u", script), files={"cell.py": "print(1)"})
    time.sleep(0.1)
    assert _folders(bench) == []


def test_it_has_the_limits_of_its_job(bench: Bench, bubblewrap: BubblewrapExecutor) -> None:
    """Memory, disk and the time that a stop takes hold in it as in any other."""
    for _ in range(2):
        finished = _cell(bench, bubblewrap, "print(waited)\nx = bytearray(300 << 20)\nimport time\ntime.sleep(20)", memory=100 << 20)
        assert finished.ending.message == "memory limit exceeded"
        _wait_prepared(bench)
    assert finished.output == "True\n"
    code = "import time\nprint(waited)\nopen('/outputs/big', 'wb').write(bytes(30 << 20))\ntime.sleep(20)"
    finished = _cell(bench, bubblewrap, code, memory=100 << 20, disk=10 << 20)
    assert (finished.ending.message, finished.output) == ("disk limit exceeded", "True\n")
    _wait_prepared(bench)
    started = bench.start(bubblewrap, SCRIPT, files={"cell.py": _AGE + "import time\nprint(waited)\ntime.sleep(60)"}, memory=100 << 20)
    started.until("True")
    started.running.stop(0)
    assert started.finish().ending.killed == "stopped"
    bubblewrap.close()


def test_it_holds_against_the_escapes(bench: Bench, bubblewrap: BubblewrapExecutor) -> None:
    """The escapes that are tried when the node starts fail from inside a prepared sandbox too."""

    def launch(spec: RunSpec, *, before: Any) -> Running:
        spec = replace(spec, argv=("python", "-u", "/inputs/escapes.py", "/inputs/facts.json"))
        kind = Kind.of(spec)
        assert kind is not None
        bubblewrap._prepared.keep(kind)
        assert len(_folders(bench)) == 1
        running = bubblewrap.start(spec)
        assert list(_folders(bench)[0].iterdir()) == [], "the prepared one was not used"
        return running

    answer = trial(launch, bench.node)
    assert [name for name, words in answer["escapes"].items() if words] == []
    assert not answer["works"]
    bubblewrap.close()


def test_it_is_not_used_when_the_environment_has_changed(bench: Bench, bubblewrap: BubblewrapExecutor, tmp_path: Path) -> None:
    """What was installed meanwhile takes effect, also where it acts at the interpreter's start."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    packages = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    code = "import sys\nprint(waited, getattr(sys, 'marked', 0))"
    assert _cell(bench, bubblewrap, code, interpreter=python).output == "False 0\n"
    _wait_prepared(bench)
    assert _cell(bench, bubblewrap, code, interpreter=python).output == "True 0\n"
    _wait_prepared(bench)
    (packages / "mark.pth").write_text("import sys; sys.marked = 1\n")
    assert _cell(bench, bubblewrap, code, interpreter=python).output == "False 1\n"
    _wait_prepared(bench)
    assert _cell(bench, bubblewrap, code, interpreter=python).output == "True 1\n"
    bubblewrap.close()


def test_it_is_used_once_and_leaves_nothing(bench: Bench, bubblewrap: BubblewrapExecutor, cgroups: Cgroups) -> None:
    """One waits at a time; when it is closed no process, folder, user number or cgroup is left, and none comes again."""
    _cell(bench, bubblewrap, "print(1)")
    _wait_prepared(bench)
    (folder,) = _folders(bench)
    assert bool(cgroups_of(folder.name)) is bool(cgroups.memory)
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    waiting = [pid for pid in processes_with(" ".join(SCRIPT[1:])) if pid in ours]  # not those of another run of these tests
    assert waiting
    bubblewrap.close()
    assert _folders(bench) == []
    assert cgroups_of(folder.name) == []
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in waiting):  # killed, and not all reaped yet
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.01)
    assert bubblewrap._uids_in_use <= {65534}
    _cell(bench, bubblewrap, "print(1)")
    time.sleep(0.2)
    assert _folders(bench) == []
