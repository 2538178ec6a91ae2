"""The node against a real one: each recorded scenario, sent again, gives the same states, keys, types and texts.

A scenario's job is sent as it was recorded. In the host executor it carries the mark of an interpreter as well; with a
container engine it runs in one, as recorded. What differs between any two runs is left out of the comparison by
`normal`: ids, times, addresses, amounts of a machine and names of users.
"""

from __future__ import annotations

import copy
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded import TERMINAL, Node, running
from websockets.exceptions import ConnectionClosed

from bacalhau_magic import _marks

RECORDED = Path(__file__).parents[1] / "data" / "recorded" / "1.9.3"
SCENARIOS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RECORDED.glob("*.json"))}
ANSWERS = [name for name, recorded in SCENARIOS.items() if "request" not in recorded]
REFUSED = [name for name, recorded in SCENARIOS.items() if "request" in recorded and "job" not in recorded]
JOBS = [name for name, recorded in SCENARIOS.items() if "job" in recorded]

NEEDS_CONTAINER = {
    "image-cannot-be-pulled": "an image is pulled",
    "image-cannot-be-pulled-no-queue-timeout": "an image is pulled",
}
"""Scenarios that say nothing about a node without a container engine."""
TAKES_TIME = ("timeout", "no-gpu", "busy-node-no-queue-timeout", "busy-node-queue-timeout-5")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running() as running_node:
        yield running_node


def normal(value: Any) -> Any:
    """A value without what differs between any two runs."""
    if isinstance(value, dict):
        return {normal(key): normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, str):
        return value
    for pattern, word in (
        (r"\b([jne])-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", r"<\1>"),
        (r"\b([jne])-[0-9a-f]{8}\b", r"<\1>"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"),
        (r"http://[^ ]*?<e>\.tar\.gz", "<url>"),
        (r"\{CPU: [^}]*\}", "<amounts>"),
        (r"\S*/inline-storage\d+", "<input>"),
        (r"only [a-z, ]+", "only <names>"),
        # What docker and runc say around their own sentence.
        (r"Error response from daemon: .*unable to start container process: ", ""),
        (r"(exec: \"\S+\": executable file not found in \$PATH): unknown", r"\1"),
        (
            r"Error response from daemon: Get .*no such host|.*(initializing source|pinging container registry|dial tcp).*",
            "<the registry is not there>",
        ),
        (r"job name: \S+|for job \S+ with ID", "<name>"),
    ):
        value = re.sub(pattern, word, value)
    return value


def shape(value: Any) -> Any:
    """Keys and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


# Answers that need no job


def test_alive(node: Node) -> None:
    """The node says that it is alive as recorded."""
    assert (200, node.ask("GET", "/api/v1/agent/alive")) == (SCENARIOS["agent-alive"]["status"], SCENARIOS["agent-alive"]["body"])


def test_version(node: Node) -> None:
    """The version has the recorded keys, and a number that tools can compare."""
    answer = node.ask("GET", "/api/v1/agent/version")
    assert shape(answer) == shape(SCENARIOS["agent-version"]["body"])
    assert re.fullmatch(r"v1\.\d+\.\d+", answer["GitVersion"])


def test_config(node: Node) -> None:
    """The configuration comes below the recorded key, with the recorded keys of what this node has."""
    answer, recorded = node.ask("GET", "/api/v1/agent/config"), SCENARIOS["agent-config"]["body"]
    assert set(answer) == set(recorded) == {"config"}
    assert set(answer["config"]) <= set(recorded["config"])


def without_amounts(info: dict[str, Any]) -> dict[str, Any]:
    """Node info without what a machine has: its amounts, and the labels and engines that are this node's own."""
    info = copy.deepcopy(info)
    info["Labels"] = {key: value for key, value in info["Labels"].items() if key in ("name", "os_arch", "os_type")}
    compute = info["ComputeNodeInfo"]
    for key in ("MaxCapacity", "QueueCapacity", "AvailableCapacity", "MaxJobRequirements"):
        compute[key] = {name: amount for name, amount in compute[key].items() if name in ("CPU", "Memory", "Disk")}
    for key in ("ExecutionEngines", "Publishers", "StorageSources"):
        compute[key] = sorted(compute[key])[:2]
    return info


def test_node_info(node: Node) -> None:
    """Node info has the recorded keys and types; its own labels come on top."""
    answer = without_amounts(node.ask("GET", "/api/v1/agent/node"))
    recorded = without_amounts(SCENARIOS["agent-node"]["body"])
    answer["ComputeNodeInfo"]["ExecutionEngines"] = recorded["ComputeNodeInfo"]["ExecutionEngines"]
    assert shape(answer) == shape(recorded)


def test_nodes(node: Node) -> None:
    """The list of nodes has the recorded keys and types; a single node is listed as the compute node of the recording is."""
    answer, recorded = node.ask("GET", "/api/v1/orchestrator/nodes"), SCENARIOS["nodes"]
    assert set(answer) == set(recorded)
    [mine], theirs = answer["Nodes"], recorded["Nodes"][0]
    assert {key: shape(value) for key, value in mine.items() if key != "Info"} == {
        key: shape({name: item for name, item in value.items() if "SeqNum" not in name} if isinstance(value, dict) else value)
        for key, value in theirs.items()
        if key != "Info"
    }
    assert (mine["Membership"], mine["Connection"]) == (theirs["Membership"], theirs["Connection"])
    one = node.ask("GET", f"/api/v1/orchestrator/nodes/{mine['Info']['NodeID'][:10]}")
    assert one["Node"]["Info"] == mine["Info"]


def test_unknown_job(node: Node) -> None:
    """A job that does not exist is answered as recorded."""
    recorded = SCENARIOS["job-not-found"]
    status, _, body = node.raw("GET", "/api/v1/orchestrator/jobs/j-00000000-0000-0000-0000-000000000000")
    assert (status, json.loads(body)) == (recorded["status"], recorded["body"])


def test_every_recording_has_its_test() -> None:
    """No recorded file is left out."""
    assert set(ANSWERS) == {"agent-alive", "agent-version", "agent-config", "agent-node", "nodes", "job-not-found"}
    assert {*ANSWERS, *REFUSED, *JOBS} == set(SCENARIOS)


# Requests that are refused


def sent(name: str, node: Node, *, host: bool) -> dict[str, Any]:
    """A recorded request's body: its CPUs in proportion to this machine, and, for the host executor, with the mark."""
    body = copy.deepcopy(SCENARIOS[name]["request"]["json"])
    task = body["Job"]["Tasks"][0]
    if task["Resources"].get("CPU") == "1.5":
        task["Resources"]["CPU"] = f"{0.94 * capacity(node):.2f}"
    if not name.startswith("same-name"):
        body["Job"]["Name"] += "-host" if host else "-container"
    if host:
        task["Meta"] = {_marks.META_INTERPRETER: sys.executable, _marks.META_LANGUAGE: "bash"}
    return dict(body)


def capacity(node: Node) -> float:
    return float(node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"])


def put(node: Node, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    status, _, answer = node.raw("PUT", "/api/v1/orchestrator/jobs", json.dumps(body))
    return status, json.loads(answer)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_recorded(node: Node, name: str) -> None:
    """What a real node refuses is refused with the same status, code, component and text."""
    submit, body = SCENARIOS[name]["submit"], sent(name, node, host=True)
    if name == "same-name-again":
        assert put(node, sent("same-name-first", node, host=True))[0] == 200
    status, answer = put(node, body)
    assert (status, normal(answer)) == (submit["status"], normal(submit["body"]))
    if name == "same-name-again":
        node.wait(body["Job"]["Name"])
        node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})


# Jobs


class Run:
    """A recorded job, sent again and watched to where the recording ended."""

    def __init__(self, node: Node, name: str, *, host: bool) -> None:
        self.node, self.recorded = node, SCENARIOS[name]
        self.blockers = [self._block(host) for _ in range({"very": 3, "busy": 1}.get(name.split("-")[0], 0))]
        if name.startswith("same-name"):  # one name for host and container alike, and for a second try
            node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})
        status, self.submit = put(node, sent(name, node, host=host))
        assert status == 200, self.submit
        self.identity = self.submit["JobID"]
        self.states: list[dict[str, Any]] = []
        until, acted = time.monotonic() + 60, "action" not in self.recorded
        last = self.recorded["job_states"][-1][1]["StateType"]
        tries = len(self.recorded["executions"]["Items"] or [])
        while (
            not self.states
            or self.states[-1]["StateType"] not in {*TERMINAL, last}
            or (last == "Pending" and [item["ComputeState"]["StateType"] for item in node.executions(self.identity)] != [10] * tries)
        ):
            assert time.monotonic() < until, self.states
            state = node.job(self.identity)["State"]
            if not self.states or state != self.states[-1]:
                self.states.append(state)
            if not acted and state["StateType"] == "Running" and node.executions(self.identity):
                with node.log(self.identity) as stream:
                    stream.recv(timeout=30)
                node.ask("DELETE", f"/api/v1/orchestrator/jobs/{self.identity}", {})
                acted = True
            time.sleep(0.002)
        self.job, self.executions, self.history = node.job(self.identity), node.executions(self.identity), node.history(self.identity)
        self.results = node.ask("GET", f"/api/v1/orchestrator/jobs/{self.identity}/results")

    def _block(self, host: bool) -> str:
        body = sent("hello", self.node, host=host)
        body["Job"]["Name"] = f"blocker-{time.monotonic_ns()}"
        task = body["Job"]["Tasks"][0]
        task["Resources"]["CPU"] = f"{0.94 * capacity(self.node):.2f}"
        task["Engine"]["Params"]["Entrypoint"] = ["sleep", "1.5"]
        answer = put(self.node, body)[1]
        self.node.wait(answer["JobID"], "Running")
        return str(answer["JobID"])

    def finish(self) -> None:
        for identity in (self.identity, *self.blockers):
            if self.node.job(identity)["State"]["StateType"] not in TERMINAL:
                self.node.ask("DELETE", f"/api/v1/orchestrator/jobs/{identity}", {})

    def text(self) -> dict[int, list[str]]:
        """The lines of both streams as they come after the end."""
        lines: dict[int, list[str]] = {1: [], 2: []}
        for execution in self.executions[-1:]:
            with self.node.log(self.identity, f"execution_id={execution['ID']}") as stream:
                try:
                    for message in stream:
                        value = json.loads(message)["value"]
                        lines[value["Type"]].append(value["Line"])
                except ConnectionClosed:
                    pass
        return lines


@pytest.fixture(scope="module", params=["host", pytest.param("container", marks=pytest.mark.container)])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=JOBS)
def run(request: pytest.FixtureRequest, node: Node, place: str) -> Iterator[Run]:
    if place == "host" and request.param in NEEDS_CONTAINER:
        pytest.skip(f"needs: container ({NEEDS_CONTAINER[request.param]})")
    one = Run(node, request.param, host=place == "host")
    yield one
    one.finish()


def test_same_as_recorded(run: Run) -> None:
    """Submit answer, states, job, executions, history, log and results of a scenario are the recorded ones."""
    recorded = run.recorded
    assert shape(run.submit) == shape(recorded["submit"]["body"])
    check_memory(run)
    check_states(run)
    check_job(run)
    check_executions(run)
    check_history(run)
    check_log(run)
    assert normal(run.results) == normal(recorded["results"])


def check_memory(run: Run) -> None:
    if run.executions and run.executions[0]["RunOutput"]["ExitCode"] == 137 and run.recorded["scenario"].startswith("out-of-memory"):
        pytest.skip("this container engine does not say that the kernel killed for memory (podman with cgroups of version 1)")


def check_states(run: Run) -> None:
    """The same states in the same order with the same messages. A job may have left its first one before it is first seen."""
    mine, theirs = run.states, recorded_states(run)
    if mine[0]["StateType"] != theirs[0]["StateType"]:
        mine, theirs = (states[1:] if states[0]["StateType"] == "Pending" else states for states in (mine, theirs))
    assert normal(mine) == normal(theirs)


def recorded_states(run: Run) -> list[dict[str, Any]]:
    return [state for _, state in run.recorded["job_states"]]


def check_job(run: Run) -> None:
    mine, theirs = copy.deepcopy(run.job), copy.deepcopy(run.recorded["job"]["Job"])
    # The mark that sends it to the host executor, and this machine's proportion of CPUs.
    mine["Tasks"][0].pop("Meta", None)
    for job in (mine, theirs):
        job["Tasks"][0]["Resources"]["CPU"] = ""
    assert shape(mine) == shape(theirs)
    changing = ("ID", "Name", "Revision", "CreateTime", "ModifyTime", "Meta", "State")
    assert normal({k: v for k, v in mine.items() if k not in changing}) == normal({k: v for k, v in theirs.items() if k not in changing})


def check_executions(run: Run) -> None:
    # A real node asks for one more execution in the instant in which a job's time is over, and takes it back.
    theirs = [item for item in run.recorded["executions"]["Items"] or [] if not taken_back(run, item["ID"])]
    assert len(run.executions) == len(theirs)
    for mine, their in zip(run.executions, theirs, strict=True):
        assert shape({**mine, "Job": {}}) == shape({**their, "Job": {}})
        for key in ("DesiredState", "ComputeState", "PublishedResult", "Namespace", "JobVersion", "AllocatedResources"):
            assert normal(mine[key]) == normal(their[key]), key
        output, their_output = mine["RunOutput"], their["RunOutput"]
        assert output["ExitCode"] == their_output["ExitCode"]
        if is_the_same_everywhere(run):
            assert output == their_output


def taken_back(run: Run, execution: str) -> bool:
    events = [item["Event"]["Topic"] for item in run.recorded["history"]["Items"] if item.get("ExecutionID") == execution]
    return events == ["Scheduling", "Scheduling"]


def check_history(run: Run) -> None:
    theirs = [item for item in run.recorded["history"]["Items"] if not taken_back(run, item.get("ExecutionID", ""))]
    # The recording of a job that waits went on for a minute, until its whole time was over.
    theirs = [item for item in theirs if not (item["Event"]["Topic"] == "Job Timeout" and run.recorded["scenario"] == "no-gpu")]
    if run.recorded["scenario"] == "no-gpu":
        theirs = theirs[:2]
    # A pull that is under way is told by this node alone.
    mine = [item for item in run.history["Items"] if item["Event"]["Topic"] != _marks.PULLING]
    assert [normal(told(item)) for item in mine] == [normal(told(item)) for item in theirs]
    assert [shape(item) for item in mine] == [shape(item) for item in theirs]
    over = run.job["State"]["StateType"] in TERMINAL
    assert bool(run.history["NextToken"]) is not over


def told(item: dict[str, Any]) -> Any:
    return [item["Type"], item["JobVersion"], *(item["Event"].get(key) for key in ("Topic", "Message", "Details"))]


def is_the_same_everywhere(run: Run) -> bool:
    """Whether a scenario prints the same on every machine: not what lists files, users or the whole environment."""
    return run.recorded["scenario"] not in ("env-and-partition", "inline-directory", "inline-file", "count-3-on-one-node")


def check_log(run: Run) -> None:
    frames = [json.loads(frame) for _, frame in run.recorded["log_frames"] if frame.startswith("{") and frame.endswith("}\n")]
    theirs = {stream: [f["value"]["Line"] for f in frames if f["value"]["Type"] == stream] for stream in (1, 2)}
    mine = run.text()
    if run.recorded["scenario"] == "env-and-partition":
        wanted = ("BACALHAU_", "FOO=", "X=")
        assert {line for line in map(normal, mine[1]) if line.startswith(wanted)} == {
            line for line in map(normal, theirs[1]) if line.startswith(wanted)
        }
    cut = [frame for _, frame in run.recorded["log_frames"] if frame.startswith("{") and not frame.endswith("}\n")]
    if cut:
        # Of long frames the recording keeps the beginning and the length. A character on an edge, which a real node
        # breaks in two, stays whole here: one more or less.
        lengths = [int(re.findall(r"\((\d+) chars\)$", frame)[0]) for frame in cut]
        assert [len(json.dumps({"value": {"Type": 1, "Line": line}}, ensure_ascii=False).replace(" ", "")) + 1 for line in mine[1]] == [
            pytest.approx(length, abs=3 if "\ufffd" in "".join(cut) else 0) for length in lengths
        ]
        return
    if not is_the_same_everywhere(run) or not any(theirs.values()):
        # The recorded stream stayed silent, as real ones do by chance.
        return
    if run.recorded["scenario"] == "stdout-cap":
        # The recording keeps the first frames of many.
        assert mine[1][: len(theirs[1])] == theirs[1][: len(mine[1])] or mine[1][:10] == theirs[1][:10]
        return
    assert "".join(mine[2]) == "".join(theirs[2])
    assert mine[1] == theirs[1]


def test_a_stream_opened_too_early_says_so(node: Node) -> None:
    """A log stream of a job without an execution is one frame with the recorded error, then the end."""
    name = "no-gpu-no-queue-timeout"
    body = sent(name, node, host=True)
    body["Job"]["Name"] = "too-early"
    identity = put(node, body)[1]["JobID"]
    recorded = next(json.loads(frame) for _, frame in SCENARIOS[name]["log_frames"] if frame.startswith("{"))
    assert normal(node.frames(identity)) == normal([recorded])
