"""Before sending: whether a connected node could take the job, which comes nearest and what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import recording

from bacalhau_magic import _preflight
from bacalhau_magic._placement import Wants, holds, lacks, nearest, wants
from bacalhau_magic._stages import Endpoint, PackedJob, Route, Target
from bacalhau_magic._wire import Job, NodeState
from bacalhau_magic.errors import ConfigError, UnreachableError

GB = 1_000_000_000


def node(name: str = "n-1a2b3c4d-1111", *, connection: str = "CONNECTED", membership: str = "APPROVED", **more: Any) -> NodeState:
    most = {"CPU": 4, "Memory": 8 * GB, "Disk": 100 * GB, **more.pop("most", {})}
    info = {
        "ExecutionEngines": ["docker"],
        "Publishers": ["local"],
        "StorageSources": ["inline", "urldownload"],
        "MaxCapacity": most,
        "MaxJobRequirements": most,
        **more.pop("info", {}),
    }
    return NodeState.model_validate(
        {"Info": {"NodeID": name, "Labels": more, "ComputeNodeInfo": info}, "Connection": connection, "Membership": membership}
    )


def job(cpu: str = "1", memory: str = "1GB", constraints: tuple[tuple[str, str, list[str]], ...] = (), **more: Any) -> Job:
    resources = {"CPU": cpu, "Memory": memory, "Disk": more.pop("disk", None), "GPU": more.pop("gpu", None)}
    task = {
        "Engine": {"Type": more.pop("engine", "docker")},
        "Resources": resources,
        "InputSources": [{"Source": {"Type": kind}, "Target": f"/{kind}"} for kind in more.pop("sources", ["inline"])],
        "Publisher": {"Type": more.pop("publisher", "")},
    }
    listed = [{"Key": key, "Operator": operator, "Values": values} for key, operator, values in constraints]
    return Job.model_validate({"Tasks": [task], "Constraints": listed})


def checked(wanted: Job, *nodes: NodeState, later: tuple[NodeState, ...] | None = None, name: str = "bacalhau") -> tuple[str, ...]:
    target = Target(name, Endpoint("http://c:1234"), "v1.9.3", nodes=nodes)  # type: ignore[arg-type]
    return _preflight.check(PackedJob(wanted, b"", "r", "n", Route(target, "test")), lambda: nodes if later is None else later)


@pytest.mark.parametrize(
    ("wanted", "lack"),
    [
        (job(engine="wasm"), "can't run wasm jobs, only docker"),
        (job(cpu="16"), "has 4 CPU, not 16"),
        (job(memory="16GB"), "has 8 GB of memory, not 16 GB"),
        (job(disk="1TB"), "has 100 GB of disk, not 1 TB"),
        (job(gpu="1"), "has no GPU"),
        (job(constraints=(("zone", "=", ["a"]),)), "has no label that meets zone = a"),
        (job(sources=["inline", "s3"]), "can't fetch s3 inputs"),
        (job(publisher="s3"), "has no s3 publisher"),
    ],
    ids=["engine", "cpu", "memory", "disk", "gpu", "label", "source", "publisher"],
)
def test_what_a_node_lacks_is_said_before_sending(wanted: Job, lack: str) -> None:
    """Each kind of lack refuses the job before it is sent, naming the node and what it lacks."""
    with pytest.raises(ConfigError) as refused:
        checked(wanted, node())
    assert refused.value.message == f"No connected node of http://c:1234 could take the job. Nearest comes n-1a2b3c4d: it {lack}."
    assert "%bacalhau nodes" in refused.value.hint


def test_the_nearest_comes_first() -> None:
    """The node that lacks least is named first with all that it lacks, the others after it."""
    poor = node("n-00000000-1", most={"CPU": 1, "Memory": GB})
    near = node("n-11111111-1", most={"CPU": 4, "Memory": 64 * GB})
    with pytest.raises(ConfigError) as refused:
        checked(job(cpu="16", memory="32GB", gpu="1"), poor, near)
    assert "Nearest comes n-11111111: it has no GPU and has 4 CPU, not 16." in refused.value.message
    assert "\n• n-00000000 has no GPU and has 1 CPU, not 16" in refused.value.message


def test_one_node_must_have_it_all() -> None:
    """Two nodes that each have a part of what is wanted can't take the job together."""
    with pytest.raises(ConfigError):
        checked(job(cpu="16", memory="32GB"), node(most={"CPU": 16}), node(most={"Memory": 64 * GB}))
    assert checked(job(cpu="16", memory="32GB"), node(most={"CPU": 16, "Memory": 64 * GB})) == ()


def test_a_node_that_is_away_is_waited_for() -> None:
    """Where only a node that is not connected could take it, the job goes, and the card says that it waits."""
    for away in (node("n-99999999-1", connection="DISCONNECTED", zone="a"), node("n-99999999-1", membership="PENDING", zone="a")):
        (said,) = checked(job(constraints=(("zone", "=", ["a"]),)), node(), away)
        assert "Only n-99999999 could take the job, and is not connected now" in said


def test_nobody_is_connected() -> None:
    """A server without any node that runs jobs says so before sending."""
    orchestrator = NodeState.model_validate(recording("nodes")["Nodes"][1])
    with pytest.raises(ConfigError, match="No node is connected to http://c:1234"):
        checked(job(), orchestrator)


def test_nodes_are_asked_again_before_refusing() -> None:
    """A node that came since the last look takes the job."""
    assert checked(job(gpu="1"), node(), later=(node(), node(most={"GPU": 1}))) == ()


def test_a_list_that_cant_be_read_is_no_reason_to_refuse() -> None:
    """Without a list of nodes, and when it can't be read now, the job goes."""

    def unreadable() -> list[NodeState]:
        raise UnreachableError("gone")

    target = Target("bacalhau", Endpoint("http://c:1234"), nodes=(node(),))
    packed = PackedJob(job(gpu="1"), b"", "r", "n", Route(target, "test"))
    assert _preflight.check(packed, unreadable) == ()
    assert checked(job(gpu="1")) == ()
    assert checked(job(gpu="1"), node(), later=()) == ()
    assert checked(job(gpu="1"), node(), name="local") == ()


def test_what_is_not_reported_is_no_lack() -> None:
    """A node that says little of itself may take any job of its engine; a busy one becomes free."""
    assert (
        lacks(NodeState.model_validate({"Info": {"ComputeNodeInfo": {"ExecutionEngines": ["Docker"]}}}), wants(job(cpu="99", memory="9TB")))
        == ()
    )
    assert lacks(node(info={"AvailableCapacity": {"CPU": 0}}), wants(job())) == ()
    assert nearest([], Wants()) is None


def test_recorded_nodes_take_a_plain_job() -> None:
    """The nodes of all three recorded versions could take a plain cell."""
    for version, name in (("1.5.2", "orchestrator-nodes"), ("1.7.0", "orchestrator-nodes"), ("1.9.3", "nodes")):
        data = recording(name, version)
        nodes = [NodeState.model_validate(found) for found in data.get("body", data)["Nodes"]]
        assert checked(job(), *nodes) == ()


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        (("zone", "=", ("a",)), True),
        (("zone", "==", ("b",)), False),
        (("zone", "!=", ("b",)), True),
        (("none", "!=", ("b",)), True),
        (("zone", "in", ("a", "b")), True),
        (("zone", "notin", ("a",)), False),
        (("none", "notin", ("a",)), True),
        (("zone", "exists", ()), True),
        (("none", "exists", ()), False),
        (("none", "!", ()), True),
        (("size", "gt", ("3",)), True),
        (("size", "lt", ("3",)), False),
        (("zone", "gt", ("3",)), False),
        (("none", "lt", ("3",)), False),
    ],
)
def test_constraints(constraint: tuple[str, str, tuple[str, ...]], met: bool) -> None:
    """Labels meet a constraint by the rules of label selectors."""
    assert holds(constraint, {"zone": "a", "size": "5"}) is met
