"""The process executor: not isolated, but bounded and clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from bench import MIB, Bench, cgroups_of, processes_with

from bacalhau_magic import _marks
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._process import ProcessExecutor, rewritten
from bacalhau_magic.node.executors._seam import Ending, Mount


def test_targets_become_real_paths(process: ProcessExecutor, bench: Bench) -> None:
    """A command line that names /inputs and /outputs reaches the job's folders."""
    code = "import sys; open(sys.argv[1] + '/b', 'w').write(open(sys.argv[2]).read() + '!')"
    done = bench.run(process, ["python", "-c", code, "/outputs", "/inputs/a"], files={"a": "hello"})
    assert done.ending == Ending(0), done.output
    assert (done.outputs / "b").read_text() == "hello!"


def test_only_whole_targets_are_rewritten() -> None:
    """A word is rewritten when it is a target or a path below one, by the longest target."""
    mounts = (Mount(Path("/a"), "/inputs", True), Mount(Path("/b"), "/inputs/deep", True))
    words = ("/inputs", "/inputs/x", "/inputs/deep/x", "/inputs2", "x/inputs")
    assert [rewritten(word, mounts) for word in words] == ["/a", "/a/x", "/b/x", "/inputs2", "x/inputs"]


def test_environment_is_scrubbed(process: ProcessExecutor, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the node's environment does not reach the job; HOME and TMPDIR are the job's own folders."""
    monkeypatch.setenv("OF_THE_NODE", "secret")
    started = bench.start(process, ["python", "-c", "import json, os; print(json.dumps(dict(os.environ)))"], env={"MINE": "1"})
    found = json.loads(started.finish().output)
    assert "OF_THE_NODE" not in found
    assert found["MINE"] == "1"
    assert all(Path(found[name]).is_relative_to(started.spec.folder) for name in ("HOME", "TMPDIR"))


def test_memory(process: ProcessExecutor, bench: Bench) -> None:
    """A tree that takes more memory than it may is killed, its children counted."""
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import time; x = bytearray(b\"x\") * (300 << 20); time.sleep(60)']) != 0)"
    done = bench.python(process, code, memory=100 * MIB)
    assert (done.ending.killed, done.ending.message) == ("memory", "memory limit exceeded")


def test_disk(process: ProcessExecutor, bench: Bench) -> None:
    """A job that writes more than it may is killed."""
    code = f"import os, sys, time; f = open(sys.argv[1] + '/big', 'wb'); f.write(os.urandom({30 * MIB})); f.flush(); time.sleep(60)"
    done = bench.run(process, ["python", "-c", code, "/outputs"], disk=10 * MIB)
    assert done.ending == Ending(137, "disk", "disk limit exceeded")


def test_a_sparse_file_takes_no_disk(process: ProcessExecutor, bench: Bench) -> None:
    """Disk use is what is allocated, not what a file's size says."""
    code = "import sys, time; f = open(sys.argv[1] + '/sparse', 'wb'); f.truncate(2**40); time.sleep(0.7)"
    assert bench.run(process, ["python", "-c", code, "/outputs"], disk=10 * MIB).ending == Ending(0)


def test_strays_die(process: ProcessExecutor, bench: Bench) -> None:
    """A child that left tree and session is dead when the run has been cleaned."""
    mark = f"7654.{uuid.uuid4().int % 10**9}"
    script = f"(setsid sleep {mark} </dev/null >/dev/null 2>&1 &); sleep 0.2; echo ready"
    started = bench.start(process, ["bash", "-c", script], language="bash")
    started.until("ready")
    started.running.wait(20)
    assert processes_with(mark)
    started.finish()
    assert not processes_with(mark)
    assert not cgroups_of(started.spec.execution_id)


def test_stop_ends_the_whole_tree(process: ProcessExecutor, bench: Bench) -> None:
    """A stop reaches the children, also when the payload does not listen."""
    mark = f"7655.{uuid.uuid4().int % 10**9}"
    started = bench.start(process, ["bash", "-c", f"trap '' TERM; sleep {mark} & echo ready; wait; sleep {mark}"], language="bash")
    started.until("ready")
    started.running.stop(0.2)
    assert started.finish().ending.killed == "stopped"
    assert not processes_with(mark)


_NODE = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from bench import Bench
from bacalhau_magic.node.executors._limits import Cgroups
bench = Bench(Path(sys.argv[1]))
started = bench.start(bench.process(Cgroups.found()), ["sh", "-c", f"setsid sleep {sys.argv[2]} & echo ready; sleep {sys.argv[2]}"])
started.until("ready")
print(started.spec.execution_id, flush=True)
time.sleep(60)
"""


def test_a_sweep_ends_what_a_killed_node_left(bench: Bench, tmp_path: Path) -> None:
    """After the node was killed, a sweep ends its runs and removes their cgroups."""
    own = tmp_path / "killed"
    own.mkdir()
    mark = f"7656.{uuid.uuid4().int % 10**9}"
    with subprocess.Popen([sys.executable, "-c", _NODE, str(own), mark, *sys.path], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        execution_id = node.stdout.readline().strip()
        node.kill()
    assert processes_with(mark)
    bench.process(Cgroups.found()).sweep([execution_id])
    assert not processes_with(mark)
    assert not cgroups_of(execution_id)


def test_it_says_what_it_does_not_keep(bench: Bench) -> None:
    """Files and network are named as not isolated, and without cgroups memory as watched."""
    limits = bench.process(Cgroups()).limits
    assert set(limits) == set(_marks.LIMITS)
    assert (limits["files"], limits["network"], limits["processes"]) == (_marks.LIMIT_NONE,) * 3
    assert (limits["memory"], limits["disk"], limits["time"]) == (_marks.LIMIT_WATCHED, _marks.LIMIT_WATCHED, _marks.LIMIT_ENFORCED)
    assert limits["cpu"] == (_marks.LIMIT_AFFINITY if hasattr(os, "sched_setaffinity") else _marks.LIMIT_NONE)
