"""Graphics cards: what the makers' tools say, which devices reach a job, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from embedded import Node, job, running

from bacalhau_magic.node import _daemon
from bacalhau_magic.node.executors import _gpus
from bacalhau_magic.node.executors._bubblewrap import BubblewrapExecutor
from bacalhau_magic.node.executors._gpus import AMD, INTEL, NVIDIA, Gpu
from bacalhau_magic.node.executors._limits import Cgroups

MIB = 1 << 20
# What the tools print, as their makers' documents and users show it.
NVIDIA_SMI = "0, NVIDIA A100-SXM4-40GB, 40960, 00000000:00:04.0\n1, NVIDIA A100-SXM4-40GB, 40960, 00000000:00:05.0\n"
ROCM_SMI = {
    "card0": {
        "PCI Bus": "0000:E7:00.0",
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "10960896",
        "Card series": "Instinct MI210",
        "Card model": "0x0c34",
        "Card vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
        "Card SKU": "D67301",
    }
}
XPU_LIST = {"device_list": [{"device_id": 0, "device_name": "Intel Corporation Device 56c1 (rev 05)", "pci_bdf_address": "0000:e9:00.0"}]}
XPU_DEVICE = {
    "device_id": 0,
    "device_name": "Intel Corporation Device 56c1 (rev 05)",
    "memory_physical_size_byte": "5314183168",
    "pci_bdf_address": "0000:e9:00.0",
}
A100 = [Gpu(number, "NVIDIA A100-SXM4-40GB", NVIDIA, 40960 * MIB, f"00000000:00:0{4 + number}.0") for number in (0, 1)]
MI210 = Gpu(0, "Instinct MI210", AMD, 65520 * MIB, "0000:e7:00.0")
XPU = Gpu(0, "Intel Corporation Device 56c1 (rev 05)", INTEL, 5068 * MIB, "0000:e9:00.0")


def tool(folder: Path, name: str, answers: dict[str, str]) -> None:
    """A stand-in for a maker's tool: it prints an answer for its exact arguments, and fails for any others."""
    cases = "\n".join(f"'{words}') cat <<'END'\n{text}\nEND\n;;" for words, text in answers.items())
    (folder / name).write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\n*) exit 1;;\nesac\n')
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH for stand-ins; the machine's own tools are hidden by ones that fail."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("nvidia-smi", "rocm-smi", "xpu-smi"):
        tool(folder, name, {})
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def nvidia(folder: Path, text: str = NVIDIA_SMI) -> None:
    tool(folder, "nvidia-smi", {"--query-gpu=index,gpu_name,memory.total,pci.bus_id --format=csv,noheader,nounits": text.rstrip("\n")})


def amd(folder: Path, answer: Any = ROCM_SMI) -> None:
    tool(folder, "rocm-smi", {"--showproductname --showbus --showmeminfo vram --json": json.dumps(answer)})


def intel(folder: Path, device: Any = XPU_DEVICE) -> None:
    tool(folder, "xpu-smi", {"discovery --json": json.dumps(XPU_LIST), "discovery --json --device 0": json.dumps(device)})


def test_the_cards_of_every_maker_are_found(tools: Path) -> None:
    """nvidia-smi, rocm-smi and xpu-smi are asked; number, name, maker, memory and address of each card are kept."""
    assert _gpus.found() == ()
    nvidia(tools)
    assert _gpus.found() == tuple(A100)
    amd(tools)
    intel(tools)
    assert _gpus.found() == (*A100, MI210, XPU)


@pytest.mark.parametrize(
    ("stand_in", "answer"),
    [
        (nvidia, "No devices were found\n"),
        (nvidia, "0, NVIDIA A100\n"),
        (nvidia, ""),
        (amd, {}),
        (amd, {"cardX": {}}),
        (amd, {"card0": {"Card series": "Instinct"}}),
        (amd, ["card0"]),
        (amd, None),
        (intel, {}),
        (intel, {"memory_physical_size_byte": "much"}),
    ],
)
def test_an_answer_that_reads_otherwise_is_no_card(tools: Path, stand_in: Any, answer: Any) -> None:
    """A tool that finds nothing, or prints something else, gives no card and no error."""
    stand_in(tools, answer)
    assert _gpus.found() == ()


def test_a_card_that_shares_the_machines_memory(tools: Path) -> None:
    """nvidia-smi says [N/A] for the memory of such a card: it is one without memory of its own."""
    nvidia(tools, "0, NVIDIA GB10, [N/A], 0000000F:01:00.0\n")
    assert _gpus.found() == (Gpu(0, "NVIDIA GB10", NVIDIA, 0, "0000000f:01:00.0"),)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A folder of device files as the makers' drivers make them."""
    folder = tmp_path / "dev"
    (folder / "dri" / "by-path").mkdir(parents=True)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "kfd", "dri/card0", "dri/card1", "dri/renderD128", "dri/renderD129"):
        (folder / name).touch()
        (folder / name).chmod(0o666)
    for number, bus in ((0, MI210.bus), (1, XPU.bus)):
        (folder / "dri" / "by-path" / f"pci-{bus}-card").symlink_to(f"../card{number}")
        (folder / "dri" / "by-path" / f"pci-{bus}-render").symlink_to(f"../renderD{128 + number}")
    return folder


@pytest.mark.parametrize(
    ("gpus", "names"),
    [
        ([A100[1]], ["nvidia1", "nvidiactl", "nvidia-uvm"]),
        (A100, ["nvidia0", "nvidiactl", "nvidia-uvm", "nvidia1"]),
        ([MI210], ["kfd", "dri/card0", "dri/renderD128"]),
        ([XPU], ["dri/card1", "dri/renderD129"]),
        ([], []),
    ],
    ids=["one NVIDIA", "two NVIDIA", "AMD", "Intel", "none"],
)
def test_the_devices_of_a_card(dev: Path, gpus: list[Gpu], names: list[str]) -> None:
    """A job's cards bring their own device files, those that a maker's cards share, and no other card's."""
    assert _gpus.devices(gpus, dev) == tuple(str(dev / name) for name in names)


def test_a_card_without_its_device_is_a_problem(dev: Path) -> None:
    """A card that a tool lists and that has no device file here is an error that names both."""
    (dev / "nvidia0").unlink()
    with pytest.raises(OSError, match=r"could not find attached device for GPU NVIDIA A100-SXM4-40GB at .*/nvidia0"):
        _gpus.devices([A100[0]], dev)


@pytest.mark.bubblewrap
@pytest.mark.parametrize("gpus", [(A100[1],), (MI210,), (XPU,), ()], ids=["NVIDIA", "AMD", "Intel", "none"])
def test_a_job_sees_the_devices_of_its_cards_alone(bench: Bench, dev: Path, gpus: tuple[Gpu, ...]) -> None:
    """Under bubblewrap a job can open its cards' devices and what the makers' libraries read of the system, and no other card's."""
    executor = BubblewrapExecutor(bench.node, bench.interpreters, Cgroups(), dev=dev)
    code = (
        "import json, os, sys; place = sys.argv[1]\n"
        "print(json.dumps([[os.path.join(a, f) for a, _, fs in os.walk(place) for f in fs], os.path.exists('/sys/devices')]))\n"
        "[open(os.path.join(a, f), 'r+b').close() for a, _, fs in os.walk(place) for f in fs]"
    )
    done = bench.run(executor, ["python", "-I", "-c", code, str(dev)], gpus=gpus)
    assert done.ending.exit_code == 0, done.output
    seen, system = json.loads(done.output)
    assert sorted(seen) == sorted(_gpus.devices(gpus, dev))
    assert system is bool(gpus)


@pytest.mark.bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make devices of another group")
def test_devices_of_a_group_can_be_opened(bench: Bench, dev: Path) -> None:
    """Devices that only a group may open ("render") are open to a job that was given their card."""
    for name in ("dri/card0", "dri/renderD128"):
        os.chown(dev / name, 0, 44444)
        (dev / name).chmod(0o660)
    executor = BubblewrapExecutor(bench.node, bench.interpreters, Cgroups(), dev=dev)
    code = "import os, sys; open(sys.argv[1], 'r+b').close(); print(os.getgroups())"
    assert bench.run(executor, ["python", "-I", "-c", code, str(dev / "dri" / "renderD128")], gpus=(MI210,)).output == "[44444]\n"


def test_without_isolation_a_job_is_kept_to_its_cards(bench: Bench) -> None:
    """The process executor tells the makers' libraries which cards a job has."""
    code = "import json, os; print(json.dumps([os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES', 'ZE_AFFINITY_MASK')]))"
    done = bench.python(bench.process(Cgroups()), code, gpus=(A100[1], MI210))
    assert json.loads(done.output) == ["1", "0", None]


@pytest.fixture
def node(tools: Path) -> Iterator[Node]:
    nvidia(tools)
    intel(tools)
    with running() as node:
        yield node


def test_the_node_reports_its_cards(node: Node) -> None:
    """Node info has the cards as a real node's has: counted, described, and as labels."""
    info = node.ask("GET", "/api/v1/agent/node")
    most = info["ComputeNodeInfo"]["MaxCapacity"]
    assert most["GPU"] == 3
    assert most["GPUs"][0] == {
        "Index": 0, "Name": "NVIDIA A100-SXM4-40GB", "Vendor": "NVIDIA", "Memory": 40960, "PCIAddress": "00000000:00:04.0",
    }  # fmt: skip
    assert (most["GPUs"][2]["Vendor"], most["GPUs"][2]["Memory"]) == ("Intel", 5068)
    assert info["Labels"]["GPU-0"] == "NVIDIA-A100-SXM4-40GB"
    assert info["Labels"]["GPU-0-Memory"] == "40960-MiB"


def test_cards_are_given_and_refused_by_count(node: Node) -> None:
    """More cards than there are: refused with what there is. A card whose device is missing: the execution says so."""
    state = node.wait(node.put(job("true", Resources={"GPU": "4"})))["State"]
    assert state["StateType"] == "Failed"
    assert state["Message"].endswith("GPU: 3}")
    if not Path("/dev/nvidia0").exists():
        failed = node.put(job("true", Resources={"GPU": "1"}))
        node.wait(failed)
        if node.ask("GET", "/api/v1/agent/node")["Labels"]["bacalhau-magic.executor"] == "bubblewrap":
            assert "could not find attached device for GPU NVIDIA" in node.executions(failed)[0]["ComputeState"]["Message"]
    assert node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["AvailableCapacity"]["GPU"] == 3


_SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "bacalhau_magic")
print(shell.run_line_magic("bacalhau", "nodes --gpu"))
for line in ("--gpu 9", "--gpu H100:1"):
    shell.run_cell(f"%%bacalhau {line}\\n1")
"""


def test_a_notebook_sees_the_cards_and_is_refused_others(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`%bacalhau nodes --gpu` shows the node's cards, and a cell that asks for more or others is refused with what there is."""
    nvidia(tools)
    for name, folder in (("XDG_RUNTIME_DIR", "run"), ("XDG_DATA_HOME", "data")):
        (tmp_path / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / folder))
    try:
        done = subprocess.run([sys.executable, "-c", _SHELL], capture_output=True, text=True, check=False, timeout=100)
    finally:
        _daemon.stop()
    said = done.stdout + done.stderr
    assert said.count("NVIDIA A100-SXM4-40GB") >= 2, said
    assert said.count("--gpu can't be kept on the local node") == 2, said
