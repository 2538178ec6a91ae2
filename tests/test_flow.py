"""The whole path against a scripted cluster: from a cell to its value, past faults on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import JOB, JobScript, Request, Server, Socket, recording

from bacalhau_magic import _argspec, _commands, _marks
from bacalhau_magic._session import Session
from bacalhau_magic._stages import Noticed
from bacalhau_magic._surroundings import Surroundings
from bacalhau_magic.errors import ConfigError, OptionError, RejectedError, UnreachableError
from bacalhau_magic.remote import codec
from bacalhau_magic.remote.packets import Writer, pack_bundle


class Cluster(JobScript):
    """A cluster that runs any cell as the test says: `value` is what every cell returns."""

    def __init__(self, server: Server, value: object = 42) -> None:
        super().__init__(server)
        self.value = value
        self.sent: list[dict[str, Any]] = []
        server.on("GET", "/agent/alive", {"Status": "OK"})
        server.on("PUT", "/orchestrator/jobs", self.put)
        server.on(
            "GET", "/orchestrator/jobs", lambda _: {"Items": [{**job, "ID": JOB, "State": {"StateType": self.state}} for job in self.sent]}
        )
        server.on_logs(self._logs)

    def put(self, request: Request) -> dict[str, Any]:
        self.sent.append(json.loads(request.body)["Job"])
        self.begin()
        return {"JobID": JOB}

    def job(self) -> dict[str, Any]:
        return {**super().job(), **({"Tasks": self.sent[-1]["Tasks"], "Labels": self.sent[-1]["Labels"]} if self.sent else {})}

    def log(self) -> list[str]:
        found: list[bytes] = []
        writer = Writer(self.sent[-1]["Tasks"][0]["Meta"][_marks.META_NONCE], found.append)
        writer.packet("s", b'{"language":"python"}')
        writer.blob(pack_bundle({"outcome": "ok", "exit_code": 0}, [("stdout", "", b""), ("value", "", codec.dumps(self.value))]))
        return [line.decode() for line in found]

    def _logs(self, stream: Socket, _: int) -> None:
        for line in self.log():
            stream.line(line)
        if self.state == "Running":
            self.end()
        stream.close()


@pytest.fixture
def session(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("JPY_SESSION_NAME", "nb")
    monkeypatch.setenv("BACALHAU_API_URL", server.url)
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path / "data"))
    found = Session(Surroundings(), tmp_path)
    yield found
    found.close()


def run(session: Session, line: str = "-q") -> object:
    return session.run("6 * 7", _argspec.parse(line))


def test_cell_on_a_cluster(server: Server, session: Session) -> None:
    """A cell becomes one job, and comes back as its value."""
    cluster = Cluster(server, {"answer": 42})
    assert run(session) == {"answer": 42}
    assert len(cluster.sent) == 1


def test_what_the_server_warns_of_is_said(server: Server, session: Session) -> None:
    """Warnings of an accepted job are said, few and short, and the value comes all the same."""
    cluster = Cluster(server)
    warnings = ["the job's timeout was lowered to 1h", *["x" * 1000] * 20]
    server.on("PUT", "/orchestrator/jobs", lambda request: {**cluster.put(request), "Warnings": warnings})
    job = session.submit("6 * 7", _argspec.parse("-q"))
    assert job.result(timeout=30) == 42
    heard = list(job.snapshot.notices)
    assert "The server warns: the job's timeout was lowered to 1h" in heard
    assert sum(len(notice) for notice in heard) < 3000


@pytest.mark.parametrize("lost", [None, (503, b"Server Timeout!"), (200, b"{")], ids=["reset", "503", "truncated"])
def test_lost_answer_makes_one_job(server: Server, session: Session, lost: object) -> None:
    """The answer to the submission is lost after the server has the job: its value comes all the same, from that one job."""
    cluster = Cluster(server)

    def put(request: Request) -> object:
        cluster.put(request)
        return lost

    server.on("PUT", "/orchestrator/jobs", put)
    assert run(session) == 42
    assert server.count("PUT", "/orchestrator/jobs") == len(cluster.sent) == 1


def _fails_once(answer: object) -> Callable[[Callable[[Request], object]], Callable[[Request], object]]:
    def wrapped(then: Callable[[Request], object]) -> Callable[[Request], object]:
        left = [answer]
        return lambda request: left.pop() if left else then(request)

    return wrapped


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (500, b"oops"),
        (503, b"Server Timeout!"),
        (502, b"<html>"),
        (429, b"slow", {"Retry-After": "1"}),
        (200, b"{"),
        (200, b"<html>", {"Content-Type": "text/html"}),
    ],
    ids=["reset", "500", "503", "502", "429", "truncated", "html"],
)
@pytest.mark.parametrize("path", ["", "/history", "/executions"])
def test_one_fault_on_the_way_changes_nothing(server: Server, session: Session, path: str, answer: object) -> None:
    """Whichever read fails once after the submission, the value comes, and nothing is sent twice."""
    cluster = Cluster(server)
    then = {"": lambda _: {"Job": cluster.job()}, "/history": cluster._history, "/executions": lambda _: {"Items": cluster.executions}}[
        path
    ]
    server.on("GET", f"/orchestrator/jobs/{JOB}{path}", _fails_once(answer)(then))  # type: ignore[arg-type]
    assert run(session) == 42
    assert server.count("PUT", "/orchestrator/jobs") == 1


def test_refused_cell_says_why(server: Server, session: Session) -> None:
    """What the server refuses is its own sentence, and no job is remembered."""
    server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
    server.on("GET", "/orchestrator/nodes", (403, {"Status": 403, "Message": "Request Forbidden"}))
    server.on("PUT", "/orchestrator/jobs", (400, {"Status": 400, "Message": "constraint 1 validation failed"}))
    with pytest.raises(RejectedError, match="constraint 1 validation failed"):
        run(session)
    assert session.ledger.rows() == []


def test_unsure_submission_is_settled_by_jobs(server: Server, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose answer was lost, on a server that could not be asked, is found by `%bacalhau jobs` later."""
    monkeypatch.setattr("bacalhau_magic._submit._LOOKS", (0.01,))
    cluster = Cluster(server)

    def put(request: Request) -> None:
        cluster.put(request)

    server.on("PUT", "/orchestrator/jobs", put)
    server.on("GET", "/orchestrator/jobs", None)
    with pytest.raises(UnreachableError, match="could not be asked"):
        run(session)
    server.on("GET", "/orchestrator/jobs", lambda _: {"Items": [{**job, "ID": JOB} for job in cluster.sent]})
    table = _commands.run(session, "jobs")
    assert [row["job"] for row in table] == [JOB[:10]]
    assert server.count("PUT", "/orchestrator/jobs") == 1


def test_broken_ledger_is_said_once_and_the_labels_stand_in(server: Server, session: Session, tmp_path: Path) -> None:
    """A ledger that can't be used stops no cell, is said once, and `jobs` and `last` go by the labels on the server."""
    (tmp_path / "data" / "ledger.sqlite3").mkdir(parents=True)
    cluster = Cluster(server)
    jobs = []
    for _ in range(2):
        cluster.state = "Pending"
        job = session.start(session.request("1", _argspec.parse("-q")))
        assert job.result() == 42
        jobs.append(job)
    said = [[event.sentence for event in job.events if isinstance(event, Noticed) and "ledger" in event.sentence] for job in jobs]
    assert [len(sentences) for sentences in said] == [1, 0]
    assert "memory" in said[0][0]
    later = Session(Surroundings(), tmp_path)
    table = _commands.run(later, "jobs")
    assert JOB[:10] in [row["job"] for row in table]
    assert _commands.run(later, "show last")["job"] == JOB
    labels = [
        request.query.get("labels") for request in server.requests if request.path == "/orchestrator/jobs" and request.method == "GET"
    ]
    assert [f"{_marks.NOTEBOOK_LABEL}={_marks.notebook_mark('nb')}"] in labels
    later.close()


def test_show_tells_the_cause_afterwards(server: Server, session: Session) -> None:
    """A failed job's cause, its advice and the node's own words stand in `show` as they stood on the card."""
    cluster = Cluster(server)

    def logs(stream: Socket, _: int) -> None:
        cluster.fail("memory limit exceeded")
        stream.close()

    server.on_logs(logs)
    with pytest.raises(Exception, match="killed at its limit of") as failed:
        run(session)
    report = str(_commands.run(session, "show last"))
    assert str(failed.value).split("\n")[0] in report
    assert "--memory" in report


def test_the_version_is_asked_once(server: Server, session: Session) -> None:
    """Two cells ask the server for its version once."""
    cluster = Cluster(server)
    assert run(session) == 42
    cluster.state = "Pending"
    assert run(session) == 42
    assert len(cluster.sent) == 2
    assert server.count("GET", "/agent/version") == 1


@pytest.mark.parametrize("background", [False, True], ids=["waiting", "--bg"])
@pytest.mark.parametrize(
    ("asked", "kind", "lack"),
    [
        ("--constraints zone=moon", ConfigError, "no label that meets zone = moon"),
        ("--disk 900TB", OptionError, "biggest node has 203.2GB, not 900TB"),
    ],
    ids=["label", "disk"],
)
def test_what_no_node_has_is_not_sent(
    server: Server, session: Session, asked: str, kind: type[Exception], lack: str, background: bool
) -> None:
    """A cell that asks for a label or a disk that no node has is an error, waiting and in the background, and nothing is sent."""
    cluster = Cluster(server)
    start = session.submit if background else session.run
    with pytest.raises(kind, match=lack):
        start("6 * 7", _argspec.parse(f"-q {asked}"))
    assert cluster.sent == []
    assert server.count("PUT", "/orchestrator/jobs") == 0
    assert session.ledger.rows() == []


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("s3://bucket/deep/table.csv", {"Type": "s3", "Params": {"Bucket": "bucket", "Key": "deep/table.csv"}}),
        ("ipfs://bafybeigdyrzt", {"Type": "ipfs", "Params": {"CID": "bafybeigdyrzt"}}),
    ],
)
def test_an_input_in_a_store_reaches_the_server(server: Server, session: Session, url: str, source: dict[str, Any]) -> None:
    """A store's address goes to the server as Bacalhau's own source, for the node to fetch, where a node can."""
    cluster = Cluster(server)
    with pytest.raises(ConfigError, match=f"can't fetch {source['Type']} inputs"):
        run(session, f"-q -i {url}")
    nodes = json.loads(json.dumps(recording("nodes")))
    nodes["Nodes"][0]["Info"]["ComputeNodeInfo"]["StorageSources"] += ["s3", "ipfs"]
    server.on("GET", "/orchestrator/nodes", nodes)
    assert run(session, f"-q -i {url}") == 42
    assert source in [item["Source"] for item in cluster.sent[0]["Tasks"][0]["InputSources"]]
