"""Large inputs: from a cell through the node's staging folder into the job, and away again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import Node, as_default, folders, job

from bacalhau_magic.node import _daemon
from bacalhau_magic.node._places import Places

_RUN = """
import os, sys
from bacalhau_magic import errors, run
big, folder = b"x" * 6_000_000, sys.argv[1]
code = '''
import os
def attempt(path):
    try:
        open(path, "ab").close()
    except OSError as problem:
        return problem.strerror
    return "written"
y = [len(big), os.path.getsize("inputs/folder/big.csv"), attempt("inputs/folder/big.csv"), sorted(os.listdir("inputs"))]
'''
for _ in range(2):
    print(run(code, inputs=["big", "./folder"], outputs=["y"])["y"])
"""


@pytest.fixture(params=["bubblewrap", "process"])
def places(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if request.param == "process":
        (tmp_path / "bin").mkdir()
        for name in ("sh", "bash", "cat", "true"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with as_default(monkeypatch) as found:
        yield found


def test_large_inputs_come_as_local_paths(places: Places, tmp_path: Path) -> None:
    """A large variable and a large folder reach a cell whole and read-only, by the staging folder, and go with their jobs."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "big.csv").write_bytes(b"1\n" * 3_000_000)
    done = subprocess.run([sys.executable, "-c", _RUN, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    isolated = shutil.which("bwrap") is not None
    assert lines[0].startswith("[6000000, 6000000, '")
    assert lines[0].endswith(", ['.bacalhau', 'folder']]")
    # A plain process of this user's could write: it is told that it is not isolated.
    assert ("'written'" in lines[0]) is not isolated
    staging = places.store / "staging"
    assert len(list(staging.iterdir())) == 2
    node = Node(places)
    assert node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})["Bytes"] > 20_000_000
    assert list(staging.iterdir()) == []


def test_what_is_staged_stays_for_as_long_as_a_job_needs_it() -> None:
    """A staged path that two jobs use goes with the last of them; what no job ever used goes after a day."""
    with folders() as places:
        node = Node(places)
        try:
            staging = places.store / "staging"
            (staging / "shared").mkdir()
            (staging / "shared" / "0").write_text("content")
            for name in ("new", "old"):
                (staging / name).mkdir()
            os.utime(staging / "old", (0, time.time() - 90_000))
            source = {"Source": {"Type": "localDirectory", "Params": {"SourcePath": str(staging / "shared" / "0")}}, "Target": "/inputs/x"}
            first = node.put(job("cat", "/inputs/x", language="bash", InputSources=[source]))
            node.wait(first)
            assert node.text(first) == "content"
            second = node.put(job("python", "-c", "import time; time.sleep(60)", InputSources=[source]))
            node.wait(second, "Running")
            assert node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})["Jobs"] == 1
            assert sorted(path.name for path in staging.iterdir()) == ["new", "shared"]
            node.ask("DELETE", f"/api/v1/orchestrator/jobs/{second}")
            until = time.monotonic() + 20
            while node.ask("GET", "/bacalhau-magic/status")["Busy"] and time.monotonic() < until:
                time.sleep(0.02)
            node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})
            assert [path.name for path in staging.iterdir()] == ["new"]
        finally:
            _daemon.stop(places)
