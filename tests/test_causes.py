"""Causes from what a server says: which counts, and whether trying again would end the same."""

from __future__ import annotations

import time

import pytest
from scripted import NODE, Recorded, Server, event, recording

from bacalhau_magic import _commands, _jobs
from bacalhau_magic._causes import Cause, causes, main
from bacalhau_magic._marks import META_MAX_RESULT
from bacalhau_magic._session import Session
from bacalhau_magic._stages import CauseFound
from bacalhau_magic._wire import Execution, HistoryItem, Job, NodeState

NODES = [NodeState.model_validate(node) for node in recording("nodes")["Nodes"]]
OTHER = "n-bbbbbbbb-9704-40b8-a87a-1b6b42761e17"
JOB = Job.model_validate({"Tasks": [{"Engine": {"Type": "docker"}, "Resources": {"CPU": "0.1"}}]})
DENIED = "failed to start container 3f5a0c1d: permission denied"
NO_NODES = "Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node n-2e2b7e09: "
SPENT = NO_NODES + "job already executed on this node more than once"


def other() -> NodeState:
    """A second node, like the first."""
    return NodeState.model_validate_json(
        next(node for node in NODES if node.info.node_id == NODE).model_dump_json(by_alias=True).replace(NODE, OTHER)
    )


def history(*told: tuple[str, str, str]) -> list[HistoryItem]:
    """Items of (execution, node, message): a node's first takes the job, an empty execution is the job itself."""
    items: list[dict] = []
    for execution, node, message in told:
        if node:
            items.append(event(len(items) + 1, "Requested execution", "Scheduling", execution, NodeID=node))
        items.append(
            event(len(items) + 1, message, "Exec Scanning" if "bid" in message else "Running Execution", execution, IsError="true")
        )
    return [HistoryItem.model_validate(item) for item in items]


def cause(*told: tuple[str, str, str], nodes: list[NodeState] = NODES, job: Job = JOB) -> Cause:
    found = main(causes(history(*told), (), job, nodes))
    assert found is not None
    return found


def test_one_failure_may_pass() -> None:
    """A failure without a kind of its own is tried again by the server: once is no reason to stop."""
    assert not cause(("e-1", NODE, DENIED)).repeats


def test_two_failures_alike_would_repeat() -> None:
    """The same words twice, whatever numbers stand in them, would come a third time where no other node is left."""
    twice = (("e-1", NODE, DENIED), ("e-2", NODE, DENIED.replace("3f5a0c1d", "00aa11bb")))
    assert cause(*twice).repeats
    assert not cause(*twice, nodes=[*NODES, other()]).repeats
    assert not cause(twice[0], ("e-2", NODE, "no space left on device")).repeats


def test_record_that_is_faster_than_the_history_changes_no_cause() -> None:
    """A second try of which the record has only the words, and the history nothing yet, failed as the first did: its image can't be pulled."""
    told = history(("e-1", NODE, "Error response from daemon: no such host"), ("e-2", NODE, ""))[:-1]
    told[1] = told[1].model_copy(update={"event": told[1].event.model_copy(update={"topic": "Exec Scanning"})})
    state = {"StateType": "Failed", "Message": "Error response from daemon: no such host"}
    record = Execution.model_validate({"ID": "e-2", "NodeID": NODE, "ComputeState": state})
    found = main(causes(told, (record,), JOB, NODES))
    assert found
    assert (found.kind, found) == ("image", main(causes(told, (), JOB, NODES)))


@pytest.mark.parametrize(
    "state",
    [{"Message": ""}, {"Message": "no such host", "Details": {"ErrorCode": "Docker:Other"}}, {"Message": "no such host", "Details": {"Hint": "Wait."}}],
    ids=["no words", "its own code", "its own hint"],
)  # fmt: skip
def test_a_record_with_facts_of_its_own_or_none_is_not_taken_for_another_failure(state: dict) -> None:
    """A try of which nothing is known, or more than the words, did not fail as the first one: no image is blamed for it."""
    told = history(("e-1", NODE, str(state["Message"])))
    told[1] = told[1].model_copy(update={"event": told[1].event.model_copy(update={"topic": "Exec Scanning"})})
    record = Execution.model_validate({"ID": "e-2", "NodeID": OTHER, "ComputeState": {"StateType": "Failed", **state}})
    first, second = causes(told, (record,), JOB, NODES)
    assert (first.kind, second.kind, second.node) == ("image", "failed", OTHER)


def test_unknown_nodes_are_not_no_nodes() -> None:
    """Where the list of nodes can't be read another one may be there, until the server says that it has none left."""
    twice = (("e-1", NODE, DENIED), ("e-2", NODE, DENIED))
    assert not cause(*twice, nodes=[]).repeats
    assert not cause(("e-1", NODE, "memory limit exceeded"), nodes=[]).repeats
    assert not cause(("e-1", NODE, "rejected bid: docker engine component not found"), nodes=[]).repeats
    assert cause(*twice, ("", "", SPENT), nodes=[]).repeats
    assert not cause(*twice, ("", "", SPENT + "\n• Node n-bbbbbbbb: node busy"), nodes=[]).repeats


@pytest.mark.parametrize(
    "reason", ["insufficient resources - requested: {CPU: 0.1}, available: {CPU: 0}", "the node's queue is full", "busy"]
)
def test_refusal_for_want_of_room_may_pass(reason: str) -> None:
    """A node that is full now is waited for; one that could never hold the job is not."""
    refused = cause(("e-1", NODE, f"rejected bid: {reason}"))
    assert (refused.kind, refused.repeats) == ("refused", False)
    assert "--queue-timeout" in refused.advice
    large = Job.model_validate({"Tasks": [{"Engine": {"Type": "docker"}, "Resources": {"CPU": "5000"}}]})
    assert cause(("e-1", NODE, f"rejected bid: {reason}"), job=large).repeats


def test_refusal_is_not_hidden_by_the_wait() -> None:
    """Why a node refused counts more than the server's later word that it finds no node; a node that took the job ends it."""
    reason = "rejected bid: this node does not accept jobs without any input volumes"
    assert "input volumes" in cause(("e-1", NODE, reason), ("", "", SPENT)).sentence
    assert "input volumes" in cause(("e-1", NODE, reason), ("", "", NO_NODES + "job rejected")).sentence
    taken = cause(("e-1", NODE, reason), ("e-2", OTHER, DENIED))
    assert (taken.kind, taken.node) == ("failed", OTHER)
    timed_out = [*history(("e-1", NODE, reason), ("e-2", OTHER, "Running"), ("", "", "Job timed out. Job took longer than 6s"))]
    del timed_out[3].event.details["IsError"]
    found = main(causes(timed_out, (), JOB, NODES))
    assert found is not None
    assert found.kind == "timeout"


# Afterwards


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("out-of-memory", "The job was killed at its limit of 100 MB of memory."),
        ("command-not-found", "The command 'nosuchcmd' is not in the image 'python:3.11-slim'."),
        ("image-cannot-be-pulled", "The image 'nope/nope:1' can't be pulled on n-2e2b7e09."),
        ("inline-directory-without-entries", "The job's inputs can't be unpacked or read on n-2e2b7e09."),
        ("no-gpu", "No node can take the job: it asks for 1 GPU."),
        ("timeout", "The job j-46744f54 ran longer than the 6 s that the server allows it."),
    ],
)
def test_show_tells_the_same_afterwards(session: Session, monkeypatch: pytest.MonkeyPatch, scenario: str, said: str) -> None:
    """What the card and the error of a job that is followed say of a failure, `show` says later, and what to do."""
    with Server() as server:
        script = Recorded(server, scenario, pace=20.0)
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        job = _jobs.follow(session, script.job_id)
        while not (causes_told := [event.cause for event in job.events if isinstance(event, CauseFound)]):
            time.sleep(0.02)
        cause = causes_told[0]
        if scenario == "no-gpu":
            job.cancel()
        assert cause.sentence == said
        assert scenario == "no-gpu" or str(job.error).startswith(said)
        session.jobs.clear()
        shown = repr(_commands.run(session, f"show {script.job_id}"))
    for words in (said, cause.advice, *cause.lines):
        assert words in shown


@pytest.mark.parametrize(
    "change",
    [
        {"Resources": {"Memory": "9" * 400, "CPU": "9" * 400, "Disk": "9" * 400, "GPU": "9" * 400}},
        {"Timeouts": {"QueueTimeout": 10**400, "TotalTimeout": 10**400}},
        {"Meta": {META_MAX_RESULT: "9" * 5000}},
        {"Meta": {META_MAX_RESULT: "²"}},
        {"CreateTime": 10**400, "ModifyTime": -(10**400)},
    ],
    ids=["amounts", "times", "result", "no number", "clock"],
)
def test_numbers_without_end_are_no_numbers(session: Session, monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    """A job that a server gives numbers which nobody can reckon with is shown, listed and attached to as one without them."""
    with Server() as server:
        script = Recorded(server, "out-of-memory", pace=20.0)
        wire = script.data["job"]["Job"]
        (wire if "CreateTime" in change else wire["Tasks"][0]).update(change)
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        job = _jobs.follow(session, script.job_id)
        assert str(job.error).startswith("The job was killed")
        session.jobs.clear()
        shown = repr(_commands.run(session, f"show {script.job_id}"))
    assert "The job was killed" in shown
