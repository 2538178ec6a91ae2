"""What large data costs each way: peak memory beside numpy's own save and load, time beside a raw HTTP download; nothing is asserted of either."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernels import Kernel, start

from bacalhau_magic import _session
from bacalhau_magic.node import _daemon

_BYTES = 100_000_000
_ROUNDS = 7
_MEMORY = """
import os
def reset():
    open('/proc/self/clear_refs', 'w').write('5')
    return held('VmRSS')
def held(name):
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith(name))
import numpy as np
"""
_NUMPY = f"""{_MEMORY}
import sys
x = np.random.default_rng(1).random({_BYTES} // 8)
before = reset()
np.save(sys.argv[1], x)
y = np.load(sys.argv[1])
print(held('VmHWM') - before)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    found = start(live=False, folder=tmp_path_factory.mktemp("data"))
    found.run(_MEMORY)
    found.run("%%bacalhau\n1")
    yield found
    found.stop()


class _Node:
    """The embedded node's process, as the kernel sees its memory."""

    def __init__(self) -> None:
        self._folder = Path("/proc", str(_daemon.status().facts["PID"]))

    def reset(self) -> int:
        (self._folder / "clear_refs").write_text("5")
        return self.held("VmRSS")

    def held(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def test_memory_of_a_large_array(kernel: Kernel, report: Callable[[str], None], tmp_path: Path) -> None:
    """The peak of kernel and node while 100 MB go in and come back, beside a process that saves and loads them with numpy."""
    command = [sys.executable, "-c", _NUMPY, str(tmp_path / "x.npy")]
    peer = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    kernel.run(f"x = np.random.default_rng(1).random({_BYTES} // 8)")
    for way, line, code in (
        ("in", "-i x", "len(x)"),
        ("back", "-o y --max-result 200MB", f"import numpy as np\ny = np.random.default_rng(1).random({_BYTES} // 8)"),
    ):
        node = _Node()
        node_before = node.reset()
        before = int(str(kernel.run("reset()").value))
        ran = kernel.run(f"%%bacalhau -q --memory 4GB {line}\n{code}")
        assert ran.error is None, ran.text
        mine = int(str(kernel.run("held('VmHWM')").value)) - before
        its = node.held("VmHWM") - node_before
        report(
            f"100 MB {way}: kernel {mine / 1e6:+.0f} MB, node {its / 1e6:+.0f} MB, numpy.save + load {peer / 1e6:+.0f} MB, "
            f"ratios {mine / peer:.2f} and {its / peer:.2f}"
        )
    assert kernel.run("bool((x == y).all())").value == "True"


def test_throughput_against_a_raw_download(kernel: Kernel, report: Callable[[str], None], tmp_path: Path) -> None:
    """Large data each way beside the same bytes from the node by plain HTTP into a file: an input, a file."""
    count = 50_000_000
    kernel.run(f"data = os.urandom({count})")
    session = _session.session()
    client = session.client(session.local_target().endpoint)
    ran = kernel.run(f"%%bacalhau -q --files first\nimport os\nopen('outputs/data', 'wb').write(os.urandom({count}));")
    assert ran.error is None, ran.text
    job = str(eval(str(kernel.run("_bacalhau.id").value)))
    url = client.results(job)[0].params["URL"]  # type: ignore[index]
    path = "/" + url.split("/", 3)[3]

    def raw() -> None:
        with client.download(path, anonymous=False) as answer, (tmp_path / "raw").open("wb") as file:
            assert sum(file.write(piece) for piece in answer.iter_bytes()) > count

    def cell(line: str, code: str) -> Callable[[], None]:
        def call() -> None:
            ran = kernel.run(f"%%bacalhau -q {line}\n{code}")
            assert ran.error is None, ran.text

        return call

    calls = {
        "raw": raw,
        "nothing": cell("", "1"),
        "in": cell("-i data", "len(data)"),
        "files": lambda: kernel.run(f"%bacalhau get {job} again --overwrite"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    usual = {name: statistics.median(taken) for name, taken in times.items()}
    for name, said in (("in", "50 MB input"), ("files", "50 MB of files")):
        took = usual[name] - (usual["nothing"] if name == "in" else 0)
        report(f"{said}: {took * 1000:.0f} ms, raw HTTP download: {usual['raw'] * 1000:.0f} ms, ratio {took / usual['raw']:.2f}")
