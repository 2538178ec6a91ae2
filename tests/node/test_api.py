"""The node's API at its edges: sizes, ids, names, pages, filters, namespaces, spellings, broken requests."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from embedded import Node, ask_tcp, job

from bacalhau_magic.errors import NodeError
from bacalhau_magic.node import _daemon

JOBS = "/api/v1/orchestrator/jobs"


def listed(node: Node, query: str = "") -> list[str]:
    return [item["Name"] for item in node.ask("GET", f"{JOBS}?{query}")["Items"]]


def done(node: Node, name: str, **more: Any) -> str:
    """A job of this name that is over."""
    identity = node.put({**job("true", language="bash", name=name), **more})
    node.wait(identity)
    return identity


# Bodies


def test_a_body_above_the_limit_of_a_port(node: Node) -> None:
    """Over TCP a body above 10,000,000 bytes is answered 413 with the envelope; just below it is read."""
    door = _daemon.environment(node.places)
    spec = job("true", language="bash")
    for size, wanted in ((9_900_000, 200), (10_100_000, 413)):
        body = {"Job": {**spec, "Meta": {"filler": "x" * size}}}
        status, _, answer = ask_tcp(door, "PUT", JOBS, body)
        assert status == wanted, answer
        if status == 413:
            assert answer == {
                "Status": 413, "Message": "Request Entity Too Large", "RequestID": "", "Code": "InternalError", "Component": "APIServer",
            }  # fmt: skip
        else:
            node.wait(answer["JobID"])


def test_the_own_door_takes_more(node: Node) -> None:
    """Over the unix socket a body of 12 MB is taken."""
    identity = node.put({**job("true", language="bash"), "Meta": {"filler": "x" * 12_000_000}})
    assert node.wait(identity)["State"] == {"StateType": "Completed"}
    node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        ("{", {}, "Syntax error"),
        ("[1, 2", {}, "Syntax error"),
        ("[" * 100_000, {}, "Syntax error"),
        ("[]", {}, "empty/nil job"),
        ("{}", {}, "empty/nil job"),
        ('{"Job": null}', {}, "empty/nil job"),
        ('{"Job": {}}', {}, "missing job type"),
        ('{"Job": {"Type": "Batch"}}', {}, 'invalid job type: "Batch"'),
        ('{"Job": {"Type": "batch"}}', {}, "missing job tasks"),
        ('{"Job": {"Type": "batch", "Tasks": [{}]}}', {}, "missing task name"),
        ('{"Job": {"Type": "batch", "Count": -1, "Tasks": [{}]}}', {}, "job count must be >= 0"),
        ('{"Job": {"Type": "ops", "Count": 2, "Tasks": [{}]}}', {}, "ops jobs cannot specify count > 1"),
        ('{"Job": {"Type": "batch", "Tasks": [{"Name": "main"}]}}', {}, "missing engine type"),
        ('{"Job": {"Type": "batch", "Constraints": [{"Key": "", "Operator": "="}], "Tasks": [{"Name": "m"}]}}', {}, "key cannot be blank"),
        (
            '{"Job": {"Type": "batch", "Constraints": [{"Key": "a", "Operator": "in"}], "Tasks": [{"Name": "m"}]}}',
            {},
            "values cannot be empty",
        ),
        ('{"Job": {"Type": "batch", "Name": 3, "Tasks": [{}]}}', {}, "field=Name"),
        ("{}", {"Content_Type": "text/plain"}, "Unsupported Media Type"),
    ],
)
def test_a_bad_body_is_said_what_is_wrong(node: Node, body: str, headers: dict[str, str], words: str) -> None:
    """A body that is no job is answered 400 with the envelope and what is wrong with it."""
    status, _, answer = node.raw("PUT", JOBS, body, **headers)
    envelope = json.loads(answer)
    assert status == envelope["Status"] == 400
    assert words in envelope["Message"]


def test_keys_in_any_case(node: Node) -> None:
    """Keys are read whatever their case, unknown ones are ignored, and both PUT and POST submit."""
    engine = {"type": "docker", "params": {"Image": "x", "entrypoint": ["true"]}}
    meta = job("true")["Tasks"][0]["Meta"]
    task = {"NAME": "main", "engine": engine, "meta": {**meta, "bacalhau-magic/language": "bash"}, "somethingNew": 1}
    status, _, answer = node.raw("POST", JOBS, json.dumps({"job": {"type": "batch", "tasks": [task], "extra": {}}, "namespace": "x"}))
    assert status == 200
    assert node.wait(json.loads(answer)["JobID"])["State"] == {"StateType": "Completed"}


def test_what_is_ignored_is_said(node: Node) -> None:
    """An id, a state and times in a submitted job are ignored with the recorded warnings; a state without a word is none."""
    spec = {
        **job("true", language="bash"),
        "ID": "mine",
        "State": {"StateType": "Running"},
        "CreateTime": 5,
        "Meta": {"bacalhau.org/x": "y"},
    }
    answer = node.ask("PUT", JOBS, {"Job": spec})
    assert set(answer["Warnings"]) == {
        "job ID is ignored when submitting a batch job",
        "job state is ignored when submitting a job",
        "job create time is ignored when submitting a job",
        'job meta key "bacalhau.org/x" is reserved and will be ignored',
    }
    assert answer["JobID"] != "mine"
    assert node.ask("PUT", JOBS, {"Job": {**job("true"), "State": {"StateType": "Undefined", "Message": ""}}})["Warnings"] is None


# Ids and names


def test_ids_whole_and_short(node: Node) -> None:
    """A job is found by its id, its name, and any beginning of its id that no other shares."""
    identity = done(node, "by-name")
    for text in (identity, "by-name", identity[:10], identity[:20]):
        assert node.job(text)["ID"] == identity
        assert node.history(text)["Items"][0]["JobID"] == identity
        assert node.executions(text)[0]["JobID"] == identity
    first = identity[:3]
    while len([item for item in node.ask("GET", f"{JOBS}?limit=1000")["Items"] if item["ID"].startswith(first)]) < 2:
        done(node, f"another-{uuid.uuid4().hex}")
    status, _, answer = node.raw("GET", f"{JOBS}/{first}")
    assert (status, json.loads(answer)["Code"], json.loads(answer)["Hint"]) == (500, "MultipleJobsFound", "Use full job ID")


@pytest.mark.parametrize("text", ["nosuch", "j-", "j-00000000", "j-00000000-0000-0000-0000-000000000000", "%2e%2e", "a%20b", "%00"])
@pytest.mark.parametrize("path", ["", "/history", "/executions", "/results", "/versions"])
def test_an_unknown_id(node: Node, text: str, path: str) -> None:
    """Whatever is asked of a job that does not exist is answered 404 with the recorded envelope."""
    status, _, answer = node.raw("GET", f"{JOBS}/{text}{path}")
    envelope = json.loads(answer)
    assert (status, envelope["Code"], envelope["Component"]) == (404, "NotFound", "JobStore")
    assert envelope["Message"].startswith("job not found: ")


def test_an_unknown_id_can_not_be_stopped_or_rerun(node: Node) -> None:
    """Stopping an unknown job is 404; running it again is the 500 of a real node."""
    assert node.raw("DELETE", f"{JOBS}/nosuch", "{}")[0] == 404
    assert node.raw("PUT", f"{JOBS}/nosuch/rerun", "{}")[0] == 500
    assert node.raw("GET", "/api/v1/orchestrator/nodes/nosuch")[0] == 404
    assert node.raw("GET", "/api/v1/nosuch")[0] == 404


def test_the_request_id_comes_back_in_errors(node: Node) -> None:
    """An error names the request's own id, as a real node's does."""
    assert json.loads(node.raw("GET", f"{JOBS}/nosuch", X_Request_ID="r-1")[2])["RequestID"] == "r-1"


# Lists


@pytest.fixture(scope="module")
def shelf(node: Node) -> str:
    """Six jobs in a namespace of their own, with labels."""
    namespace = f"shelf-{uuid.uuid4().hex[:8]}"
    for number in range(6):
        labels = {"n": str(number), "parity": "even" if number % 2 == 0 else "odd", **({"big": ""} if number > 3 else {})}
        done(node, f"shelf-{number}", Namespace=namespace, Labels=labels)
    return namespace


def test_pages(node: Node, shelf: str) -> None:
    """A list comes in pages of the wanted length, each with the next one's token, in order of creation or the reverse."""
    for query, names in (("", list(range(6))), ("&reverse=true", list(range(5, -1, -1)))):
        seen: list[str] = []
        answer = node.ask("GET", f"{JOBS}?namespace={shelf}&limit=4&order_by=created_at{query}")
        while True:
            seen += [item["Name"] for item in answer["Items"]]
            if not answer["NextToken"]:
                break
            answer = node.ask("GET", f"{JOBS}?namespace={shelf}&next_token={answer['NextToken']}")
        assert seen == [f"shelf-{number}" for number in names]


@pytest.mark.parametrize(
    ("spelling", "reversed_"),
    [
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("1", True),
        ("t", True),
        ("T", True),
        ("false", False),
        ("False", False),
        ("0", False),
        ("f", False),
        ("", False),
    ],
)
def test_booleans_in_go_and_python(node: Node, shelf: str, spelling: str, reversed_: bool) -> None:
    """Booleans are read as Go spells them and as Python does."""
    names = listed(node, f"namespace={shelf}&reverse={spelling}")
    assert names[0] == ("shelf-5" if reversed_ else "shelf-0")


@pytest.mark.parametrize(
    ("selector", "numbers"),
    [
        ("parity=even", [0, 2, 4]),
        ("parity==odd", [1, 3, 5]),
        ("parity!=odd", [0, 2, 4]),
        ("n+in+(1,2),parity=even", [2]),
        ("n+notin+(0,1,2,3)", [4, 5]),
        ("big", [4, 5]),
        ("!big,parity=odd", [1, 3]),
        ("bacalhau_canary+!=+true", [0, 1, 2, 3, 4, 5]),
        ("nosuch", []),
    ],
)
def test_label_filters(node: Node, shelf: str, selector: str, numbers: list[int]) -> None:
    """Labels filter by equality, sets and presence."""
    assert listed(node, f"namespace={shelf}&labels={selector}") == [f"shelf-{number}" for number in numbers]


def test_a_bad_filter_token_or_order(node: Node) -> None:
    """What can't be read in a query is an error of its own, not an empty list."""
    assert node.raw("GET", f"{JOBS}?labels=a%20b%20c")[0] == 400
    assert node.raw("GET", f"{JOBS}?next_token=x")[0] == 400
    assert node.raw("GET", f"{JOBS}?limit=many")[0] == 400
    assert node.raw("GET", f"{JOBS}?order_by=colour")[0] == 500
    assert node.raw("GET", f"{JOBS}/x/history?event_type=none")[0] in (400, 404)


def test_namespaces(node: Node, shelf: str) -> None:
    """A name is an identity within its namespace; lists show one namespace, or all by default and by `*`."""
    here = done(node, "same-name", Namespace="default")
    there = done(node, "same-name", Namespace=shelf)
    assert here != there
    assert node.ask("GET", f"{JOBS}/same-name")["Job"]["ID"] == here
    assert node.ask("GET", f"{JOBS}/same-name?namespace={shelf}")["Job"]["ID"] == there
    assert {here, there} <= {item["ID"] for item in node.ask("GET", f"{JOBS}?namespace=*&limit=1000")["Items"]}
    assert {here, there} <= {item["ID"] for item in node.ask("GET", f"{JOBS}?limit=1000")["Items"]}
    assert there not in {item["ID"] for item in node.ask("GET", f"{JOBS}?namespace=default&limit=1000")["Items"]}


@pytest.mark.parametrize(("include", "keys"), [("", set()), ("history", {"History"}), ("executions,history", {"Executions", "History"})])
def test_include(node: Node, include: str, keys: set[str]) -> None:
    """A job's answer has its executions and history where they are asked for."""
    identity = done(node, f"include-{len(include)}")
    answer = node.ask("GET", f"{JOBS}/{identity}?include={include}&limit=10")
    assert set(answer) == {"Job", *keys}
    if "History" in keys:
        assert answer["History"]["Items"][-1]["Event"]["Message"] == "Completed"
    if "Executions" in keys:
        assert answer["Executions"]["Items"][0]["JobID"] == identity


def test_history_in_pages_and_parts(node: Node) -> None:
    """A history comes in pages that its token continues, by level, by execution and since a time; its end has no token."""
    identity = done(node, "told")
    whole = node.history(identity)["Items"]
    seen, token = [], ""
    while True:
        page = node.ask("GET", f"{JOBS}/{identity}/history?limit=2&next_token={token}")
        seen += page["Items"]
        token = page["NextToken"]
        if not token:
            break
    assert seen == whole

    def levels(kind: str) -> set[str]:
        return {item["Type"] for item in node.ask("GET", f"{JOBS}/told/history?event_type={kind}")["Items"]}

    assert (levels("job"), levels("execution"), levels("all")) == ({"JobLevel"}, {"ExecutionLevel"}, {"JobLevel", "ExecutionLevel"})
    execution = node.executions(identity)[0]["ID"]
    part = node.ask("GET", f"{JOBS}/told/history?execution_id={execution[:10]}")["Items"]
    assert {item["ExecutionID"] for item in part} == {execution}
    assert node.ask("GET", f"{JOBS}/told/history?since=9999999999")["Items"] == []


def test_a_change_under_the_same_name(node: Node) -> None:
    """A changed spec is the next version of the same job; its executions can be asked for by version."""
    first = done(node, "changing")
    node.put(job("python", "-c", "print(2)", name="changing"))
    node.wait(first)
    assert node.job(first)["Version"] == 2
    for query, count in (("", 1), ("?job_version=1", 1), ("?all_job_versions=true", 2), ("?all_job_versions=False", 1)):
        assert len(node.ask("GET", f"{JOBS}/{first}/executions{query}")["Items"]) == count
    with pytest.raises(NodeError, match="no changes detected"):
        node.ask("PUT", JOBS, {"Job": job("python", "-c", "print(2)", name="changing")})
