"""Nothing is left behind: the whole product from a kernel to the node's folders, through success, failure, interrupt and kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench import processes_with
from embedded import Node, as_default
from kernels import Kernel, start

from bacalhau_magic.node import _daemon
from bacalhau_magic.node._places import Places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@dataclass
class Traces:
    """What a machine shows of a node's work: processes by a mark in their command line, groups, mounts, files."""

    places: Places
    temporary: Path
    mark: str

    def processes(self) -> list[int]:
        return processes_with(self.mark)

    def groups(self) -> list[str]:
        return groups_named(self.executions())

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.places.store) in line]

    def prepared(self) -> list[str]:
        """The sandbox that waits for the next job while the node lives; it is nobody's yet."""
        return [folder.name for folder in (self.places.store / "probe").glob("prepared-*")]

    def executions(self) -> list[str]:
        return [folder.name for folder in (self.places.store / "executions").iterdir()]

    def files(self) -> set[str]:
        """Names below the store that are not the node's own memory, the jobs' inputs, logs and published results."""
        store = self.places.store
        kept = {"node.db", "node.db-wal", "node.db-shm", "executions", "jobs", "staging", "probe", "etc", "programs.json"}
        waiting = self.prepared() if _daemon.find(self.places) else []
        paths = [path for path in store.rglob("*") if not set(path.parts) & set(waiting)]
        found = {path.relative_to(store).as_posix() for path in paths if path.relative_to(store).parts[:2] != ("probe", "etc")}
        return {
            name
            for name in found
            if Path(name).name not in {*kept, "log", "result.tar.gz", *self.executions()} and not name.startswith("jobs/")
        }

    def all(self) -> dict[str, object]:
        return {
            "processes": self.processes(),
            "groups": self.groups(),
            "mounts": self.mounts(),
            "files": self.files(),
            "temporary": sorted(path.name for path in self.temporary.iterdir()),
        }


def groups_named(words: list[str]) -> list[str]:
    return [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if any(word in name for word in words)]


_NOTHING = {"processes": [], "groups": [], "mounts": [], "files": set(), "temporary": []}


def until(true: Callable[[], object], limit: float = 30) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(params=["bubblewrap", "process"])
def traces(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """Folders of their own for everything; with `process`, a PATH on which there is no bubblewrap."""
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if request.param == "process":
        links = tmp_path / "bin"
        links.mkdir()
        for folder in reversed(os.environ["PATH"].split(os.pathsep)):
            for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
                if program.name not in ("bwrap", "docker", "podman"):
                    (links / program.name).unlink(missing_ok=True)
                    (links / program.name).symlink_to(program)
        monkeypatch.setenv("PATH", str(links))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with as_default(monkeypatch) as places:
        yield Traces(places, temporary, f"7657.{uuid.uuid4().int % 10**9}")


@pytest.fixture
def kernel(traces: Traces) -> Iterator[Kernel]:
    kernel = start(live=True)
    yield kernel
    kernel.stop()


@pytest.mark.timeout(300)
def test_nothing_is_left_behind(traces: Traces, kernel: Kernel, tmp_path: Path) -> None:
    """After success, failure, interrupt, and kill -9 with restart: no process, mount, group, folder or temporary file; nothing lost."""
    kernel.run(f"%cd {tmp_path}")
    sleep = f"import subprocess, time; child = subprocess.Popen(['sleep', '{traces.mark}'], start_new_session=True)"

    ran = kernel.run(f"%%bacalhau --progress none -o x --files out\n{sleep}\nopen('outputs/f', 'w').write('f')\nx = 41 + 1")
    assert ran.error is None, ran.text
    assert kernel.run("x").value == "42"
    assert (tmp_path / "out" / "f").read_text() == "f"
    assert traces.executions()
    assert traces.all() == _NOTHING

    ran = kernel.run(f"%%bacalhau --progress none\n{sleep}\n1 / 0")
    assert ran.error is not None
    assert "ZeroDivisionError" in ran.error[0]
    assert traces.all() == _NOTHING

    sent = kernel.send(f"%%bacalhau --progress none\n{sleep}\ntime.sleep(600)")
    until(traces.processes)
    kernel.manager.interrupt_kernel()
    ran = kernel.collect(sent)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    until(lambda: traces.all() == _NOTHING)

    done = kernel.run("%%bacalhau --progress none --bg --job done --files late -o y\nopen('outputs/g', 'w').write('g')\ny = 'kept'")
    assert done.error is None, done.text
    until(lambda: kernel.run("done.done()").value == "True")
    kernel.run(f"%%bacalhau --progress none --bg --job lost\n{sleep}\ntime.sleep(600)")
    until(traces.processes)
    first = _daemon.find()
    assert first is not None
    waiting = traces.prepared()
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: (found := _daemon.find()) is None or found.pid != first.pid)  # a job that is followed starts it again

    again = Node(traces.places)
    assert again.reached.pid != first.pid
    identity = (kernel.run("lost.id").value or "").strip("'")
    assert again.wait(identity)["State"] == {"StateType": "Failed", "Message": "Failing due to node restart"}
    assert again.history(identity)["NextToken"] == ""
    # The executors were tried before it answered for its own node info.
    again.ask("GET", "/api/v1/agent/node")
    assert traces.all() == _NOTHING
    assert not set(waiting) & set(traces.prepared())
    assert not groups_named(waiting)
    ran = kernel.run("lost.result()")
    assert ran.error is not None
    assert "was restarted while the job ran" in ran.text
    ran = kernel.run("done.result()")
    assert ran.value == "{'y': 'kept'}", ran.text
    identity = (kernel.run("done.id").value or "").strip("'")
    assert again.wait(identity)["State"] == {"StateType": "Completed"}
    url = again.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/results")["Items"][0]["Params"]["URL"]
    assert again.raw("GET", url.removeprefix("http://localhost"))[0] == 200

    kernel.run("%%bacalhau --progress none -o z\nz = 3")
    assert kernel.run("z").value == "3"
    assert traces.all() == _NOTHING

    again.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})
    assert traces.executions() == []
    assert list((traces.places.store / "jobs").iterdir()) == []
    waiting = traces.prepared()
    assert _daemon.stop()
    assert traces.all() == _NOTHING
    assert not groups_named(waiting)
    assert not traces.places.socket.exists()
    assert not traces.places.file.exists()
