"""Bacalhau's nouns, as versions 1.5 to 1.9 write them."""

from __future__ import annotations

import pytest
from scripted import recording

from bacalhau_magic._stages import Endpoint, Target
from bacalhau_magic._wire import BuildVersion, Execution, ExecutionState, Job, NodeState, renumbered


@pytest.mark.parametrize(
    ("facts", "number", "keeps"),
    [
        ({"GitVersion": "v1.9.3", "Major": "1", "Minor": "9"}, (1, 9, 3), True),
        ({"GitVersion": "v1.8.0-rc1"}, (1, 8, 0), True),
        ({"GitVersion": "v1.7.0"}, (1, 7, 0), False),
        ({"GitVersion": "v1.10.1"}, (1, 10, 1), True),
        ({"Major": "1", "Minor": "6"}, (1, 6), False),
        ({"GitVersion": "v0.0.0-xxxxxxx", "Major": "0", "Minor": "0"}, None, None),
        ({"GitVersion": "main"}, None, None),
        ({}, None, None),
    ],
)
def test_versions(facts: dict, number: object, keeps: bool | None) -> None:
    """A version is a number, or nothing that one could go by."""
    version = BuildVersion.model_validate(facts)
    assert (version.number, version.keeps_logs) == (number, keeps)


@pytest.mark.parametrize(
    ("version", "name", "keeps"), [("1.5.2", "orchestrator-nodes", False), ("1.7.0", "orchestrator-nodes", False), ("1.9.3", "nodes", True)]
)
def test_nodes_without_a_number_are_known_by_what_they_say(version: str, name: str, keeps: bool) -> None:
    """The recorded nodes tell no version; whether they keep finished logs is read from their labels."""
    data = recording(name, version)
    nodes = tuple(NodeState.model_validate(node) for node in data.get("body", data)["Nodes"])
    assert {node.info.bacalhau_version.number for node in nodes} == {None}
    assert [node.keeps_logs for node in nodes] == [keeps] * len(nodes)
    assert Target("bacalhau", Endpoint("http://c"), "v0.0.0-xxxxxxx", nodes=nodes).keeps_logs is keeps


def test_one_old_node_is_enough_to_be_careful() -> None:
    """Where a node that could take the job forgets its log, nothing is relied on; an embedded node never does."""
    new, old = (
        {"Info": {"ComputeNodeInfo": {"ExecutionEngines": ["docker"]}, "BacalhauVersion": {"GitVersion": v}}} for v in ("v1.9.0", "v1.7.0")
    )
    nodes = tuple(NodeState.model_validate(node) for node in (new, old))
    endpoint = Endpoint("http://c")
    assert Target("bacalhau", endpoint, "v1.9.0", nodes=nodes[:1]).keeps_logs
    assert not Target("bacalhau", endpoint, "v1.9.0", nodes=nodes).keeps_logs
    assert not Target("bacalhau", endpoint, "v1.7.0").keeps_logs
    assert Target("local", endpoint, "v1.9.0", nodes=nodes).keeps_logs


def execution(state: object, message: str = "") -> Execution:
    return Execution.model_validate({"ID": "e", "ComputeState": {"StateType": state, "Message": message}})


@pytest.mark.parametrize(
    ("version", "state", "message", "meant"),
    [
        ((1, 5, 1), 7, "", "COMPLETED"),
        ((1, 5, 0), 8, "boom", "FAILED"),
        ((1, 5, 1), 9, "", "CANCELLED"),
        ((1, 5, 1), 6, "", "BID_REJECTED"),
        ((1, 5, 1), 5, "", "BID_ACCEPTED"),
        ((1, 5, 2), 9, "", "COMPLETED"),
        ((1, 9, 3), 10, "boom", "FAILED"),
        ((1, 9, 3), 11, "", "CANCELLED"),
        ((1, 9, 3), 8, "bid rejected", "BID_REJECTED"),
        (None, 9, "", "COMPLETED"),
        (None, 7, "", "COMPLETED"),
        (None, 8, "memory limit exceeded", "FAILED"),
        (None, 9, "Execution stop requested because job has been stopped", "CANCELLED"),
        (None, 10, "boom", "FAILED"),
        (None, "Completed", "", "COMPLETED"),
        (None, "BidRejected", "", "BID_REJECTED"),
        (None, 99, "", "UNDEFINED"),
        (None, "weird", "", "UNDEFINED"),
    ],
)
def test_execution_states(version: tuple[int, ...] | None, state: object, message: str, meant: str) -> None:
    """A state's number means what it means in its server's version; without one, what the answer itself shows."""
    assert renumbered([execution(state, message)], version)[0].compute == ExecutionState[meant]


def test_empty_parts_are_left_out_on_the_wire() -> None:
    """What is not set is not sent, so that older servers meet no key they don't know."""
    assert "Publisher" not in Job(tasks=[{"name": "main"}]).wire()["Tasks"][0]  # type: ignore[list-item]
