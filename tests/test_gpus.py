"""GPUs by what nodes report: models, makers, labels, and what is sent; recorded node lists, adapted."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from scripted import JOB, JobScript, Server, recording

from bacalhau_magic import _argspec, _commands, _gpus
from bacalhau_magic._gpus import Wanted
from bacalhau_magic._session import Session
from bacalhau_magic._wire import NodeState
from bacalhau_magic.errors import OptionError

A100 = ("NVIDIA A100-SXM4-40GB", "NVIDIA")
A10 = ("NVIDIA A10", "NVIDIA")
T4 = ("Tesla T4", "NVIDIA")
MI = ("AMD Instinct MI250X", "AMD/ATI")
ARC = ("Intel(R) Data Center GPU Flex 170", "Intel")


def fleet(version: str = "1.9.3", **nodes: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """A recorded node list whose compute node is multiplied: one a name, with these GPUs and the labels that a real node sets."""
    name = "nodes" if version == "1.9.3" else "orchestrator-nodes"
    recorded = recording(name, version)
    recorded = recorded.get("body", recorded)
    compute = next(node for node in recorded["Nodes"] if (node["Info"].get("ComputeNodeInfo") or {}).get("ExecutionEngines"))
    made = [node for node in recorded["Nodes"] if node is not compute]
    for key, gpus in nodes.items():
        node = copy.deepcopy(compute)
        info = node["Info"]
        info["NodeID"] = f"n-{key}"
        info["Labels"] |= {"name": f"n-{key}"} if version == "1.9.3" else {}
        info["Labels"] |= {
            f"GPU-{index}": model.translate(str.maketrans({" ": "-", "(": "", ")": ""})) for index, (model, _) in enumerate(gpus)
        }
        cards = [{"Index": index, "Name": model, "Vendor": vendor, "Memory": 40960} for index, (model, vendor) in enumerate(gpus)]
        for capacity in ("MaxCapacity", "AvailableCapacity", "MaxJobRequirements"):
            info["ComputeNodeInfo"][capacity] |= {"GPU": len(gpus), "GPUs": cards} if gpus else {}
        made.append(node)
    return {**recorded, "Nodes": made}


def states(**nodes: tuple[tuple[str, str], ...]) -> list[NodeState]:
    return [NodeState.model_validate(node) for node in fleet(**nodes)["Nodes"]]


def able(wanted: Wanted, **nodes: tuple[tuple[str, str], ...]) -> list[str]:
    return [node.info.node_id for node in states(**nodes) if _gpus.is_connected(node) and _gpus.can_give(node, wanted)]


# Models and makers


@pytest.mark.parametrize(
    ("model", "name", "same"),
    [
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("a100-40gb", "NVIDIA A100-SXM4-40GB", True),
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("A10", "NVIDIA A10", True),
        ("L4", "NVIDIA L40S", False),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("4090 RTX", "NVIDIA GeForce RTX 4090", False),
        ("MI250", "AMD Instinct MI250X", False),
        ("Flex 170", "Intel(R) Data Center GPU Flex 170", True),
        ("-", "Tesla T4", False),
    ],
)
def test_model(model: str, name: str, same: bool) -> None:
    """A model is the whole words of a GPU's name, in their order: A10 is no A100."""
    assert _gpus._is_model(model, name) is same


@pytest.mark.parametrize(("vendor", "there"), [("nvidia", ["n-a", "n-t"]), ("amd", ["n-m"]), ("intel", ["n-i"])])
def test_maker(vendor: str, there: list[str]) -> None:
    """A maker is read from what the nodes report, in the spelling of each of the three."""
    assert able(Wanted(1, "", vendor), a=(A100,), t=(T4,), m=(MI,), i=(ARC,), none=()) == there


def test_maker_from_labels_alone() -> None:
    """Where a node reports labels only, its models and their makers are read from these."""
    node = states(t=(T4, T4))[-1].model_dump(by_alias=True)
    for capacity in ("MaxCapacity", "MaxJobRequirements"):
        node["Info"]["ComputeNodeInfo"][capacity] |= {"GPUs": [], "GPU": 0}
    bare = NodeState.model_validate(node)
    assert _gpus.count(bare) == 2
    assert _gpus.can_give(bare, Wanted(2, "T4", "nvidia"))
    assert not _gpus.can_give(bare, Wanted(1, "", "amd"))
    assert _gpus.text(bare) == "2 × Tesla-T4"


def test_number_is_of_one_node() -> None:
    """GPUs of several nodes don't add up, and a node's limit for one job counts."""
    assert able(Wanted(4), a=(T4,) * 2, b=(T4,) * 2) == []
    assert able(Wanted(4), a=(T4,) * 4, b=(T4,) * 2) == ["n-a"]
    node = states(a=(T4,) * 4)[-1].model_dump(by_alias=True)
    node["Info"]["ComputeNodeInfo"]["MaxJobRequirements"]["GPU"] = 2
    assert not _gpus.can_give(NodeState.model_validate(node), Wanted(4))
    assert _gpus.can_give(NodeState.model_validate(node), Wanted(2))


def test_mixed_node_is_no_promise() -> None:
    """A node with GPUs of several models can't promise one of them, and the listing says so; any GPU it can give."""
    mixed = states(x=(A100, T4))[-1]
    assert not _gpus.can_give(mixed, Wanted(1, "A100"))
    assert _gpus.can_give(mixed, Wanted(2))
    assert "which ones a job gets can't be chosen" in _gpus.listing([mixed], Wanted(1, "A100"))


@pytest.mark.parametrize("field", ["Connection", "Membership"])
def test_node_that_is_away(field: str) -> None:
    """A node that is not connected, or not approved, gives nothing, and the listing says so."""
    node = states(a=(T4,))[-1].model_dump(by_alias=True)
    away = NodeState.model_validate({**node, field: "DISCONNECTED" if field == "Connection" else "PENDING"})
    assert not _gpus.is_connected(away)
    assert _gpus.listing([away], Wanted(1)) == "n-a Tesla T4 (not connected)"


def test_hostile_names_stay_on_one_line() -> None:
    """What a node calls its GPUs reaches a message as one line without controls, and no constraint is made of it."""
    odd = states(a=(("\x1b[31mT4\nrm -rf", "NVIDIA"),))[-1]
    node = odd.model_dump(by_alias=True)
    node["Info"]["Labels"] = {"GPU-0": "T4 or (x)"}
    odd = NodeState.model_validate(node)
    assert "\x1b" not in _gpus.text(odd)
    assert "\n" not in _gpus.text(odd)
    other = states(b=(A100,))[-1]
    assert _gpus.constraint([odd], [odd, other], Wanted(1, "T4")) is None


# What is sent


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as scripted:
        monkeypatch.setenv("BACALHAU_API_URL", scripted.url)
        JobScript(scripted)
        scripted.on("PUT", "/orchestrator/jobs", {"JobID": JOB, "EvaluationID": "x"})
        yield scripted


def spec(session: Session, line: str) -> dict[str, Any]:
    """The task's resources and the job's constraints of a dry run."""
    job = yaml.safe_load(session.spec(session.request("1", _argspec.parse(f"-n {line}"))))
    return {"resources": job["Tasks"][0].get("Resources", {}), "constraints": job.get("Constraints") or []}


@pytest.mark.parametrize(
    ("line", "count", "constraint"),
    [
        ("--gpu 1", "1", None),
        ("--gpu 4", "4", None),
        ("--gpu A100:2", "2", ("GPU-0", ["NVIDIA-A100-SXM4-40GB"])),
        ("--gpu A10", "1", ("GPU-0", ["NVIDIA-A10"])),
        ("--gpu 1 --gpu-vendor amd", "1", ("GPU-0", ["AMD-Instinct-MI250X"])),
        ("--gpu 1 --gpu-vendor nvidia", "1", ("GPU-0", ["NVIDIA-A10", "NVIDIA-A100-SXM4-40GB", "Tesla-T4"])),
    ],
)
@pytest.mark.parametrize("version", ["1.9.3", "1.7.0"])
def test_resources_and_constraints(
    server: Server, session: Session, line: str, count: str, constraint: tuple[str, list[str]] | None, version: str
) -> None:
    """A number becomes a resource; a model and a maker become the constraint that only nodes with such GPUs meet."""
    server.on("GET", "/orchestrator/nodes", fleet(version, a=(A100,) * 2, b=(A10,), t=(T4,) * 4, m=(MI,), none=()))
    found = spec(session, line)
    assert found["resources"]["GPU"] == count
    made = [(one["Key"], one["Values"]) for one in found["constraints"]]
    assert made == ([constraint] if constraint else [])
    assert server.count("PUT", ".*") == 0


def test_names_choose_where_models_can_not(server: Server, session: Session) -> None:
    """Where the model's label does not tell nodes apart, their names do, from 1.8 on; before that the cell is refused."""
    shown = {"a": (A100, A100), "x": (A100, T4)}
    server.on("GET", "/orchestrator/nodes", fleet(**shown))
    assert [(one["Key"], one["Values"]) for one in spec(session, "--gpu A100")["constraints"]] == [("name", ["n-a"])]
    server.on("GET", "/orchestrator/nodes", fleet("1.7.0", **shown))
    session.forget_settings()
    with pytest.raises(OptionError, match="labels don't tell these GPUs from others"):
        spec(session, "--gpu A100")


def test_job_that_is_sent(server: Server, session: Session) -> None:
    """The job that goes out carries the number and the constraint beside the user's own."""
    server.on("GET", "/orchestrator/nodes", fleet(a=(A100,) * 2, t=(T4,)))
    job = session.submit("1", _argspec.parse("--gpu A100:1 --constraints os_type=linux --bg"))
    assert job.id == JOB
    job.cancel()
    body = json.loads(next(request.body for request in server.requests if request.method == "PUT"))["Job"]
    assert body["Tasks"][0]["Resources"]["GPU"] == "1"
    assert [(one["Key"], one["Operator"], one["Values"]) for one in body["Constraints"]] == [
        ("os_type", "=", ["linux"]),
        ("GPU-0", "in", ["NVIDIA-A100-SXM4-40GB"]),
    ]


@pytest.mark.parametrize("line", ["--gpu H100", "--gpu 5", "--gpu A100:3", "--gpu 1 --gpu-vendor intel"])
def test_refused_before_sending(server: Server, session: Session, line: str) -> None:
    """What no node has is refused before anything is sent, and the message says which nodes have what."""
    server.on("GET", "/orchestrator/nodes", fleet(a=(A100,) * 2, t=(T4,) * 4, none=()))
    with pytest.raises(OptionError) as caught:
        session.submit("1", _argspec.parse(f"{line} --bg"))
    assert "n-t 4 × Tesla T4; n-a 2 × NVIDIA A100-SXM4-40GB; n-none none" in caught.value.message
    assert server.count("PUT", ".*") == 0


def test_nodes_that_can_not_be_read(server: Server, session: Session) -> None:
    """Without a node list a number goes out as it is, and a model, which nothing can choose then, is refused."""
    server.on("GET", "/orchestrator/nodes", (403, {"Status": 403, "Message": "no", "Code": "Forbidden"}))
    assert spec(session, "--gpu 2")["resources"]["GPU"] == "2"
    with pytest.raises(OptionError, match="its nodes can't be read"):
        spec(session, "--gpu A100")


def test_configured_gpu_gives_way(server: Server, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured model that no node has is left out, and the card says so."""
    monkeypatch.setenv("BACALHAU_MAGIC_GPU", "H100")
    server.on("GET", "/orchestrator/nodes", fleet(t=(T4,)))
    job = session.submit("1", _argspec.parse("--bg"))
    job.cancel()
    assert any("The configured GPU is left out" in notice for notice in job.snapshot.notices)


def test_nodes_with_gpus(server: Server, session: Session) -> None:
    """%bacalhau nodes --gpu lists the nodes that have GPUs, with their models."""
    server.on("GET", "/orchestrator/nodes", fleet(a=(A100,) * 2, none=()))
    rows = list(_commands.run(session, "nodes --gpu"))
    assert [(row["node"], row["GPUs"]) for row in rows] == [("n-a", "2 × NVIDIA A100-SXM4-40GB")]
