"""Submitting: a row before the request, one PUT and never another, a look-up after a lost answer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import JOB, Request, Server

from bacalhau_magic import _marks
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._ledger import Ledger, Row
from bacalhau_magic._stages import CellRequest, Endpoint, PackedJob, Route, Target
from bacalhau_magic._submit import find_request, reconcile, submit
from bacalhau_magic.client import Client
from bacalhau_magic.errors import ApiError, RejectedError, UnauthorizedError, UnreachableError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.packing import pack


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url), requests_per_second=500.0) as found:
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3")


@pytest.fixture
def packed(client: Client) -> PackedJob:
    request = CellRequest(code="1", options=JobOptions(), language=BUILT_IN["python"])
    return pack(request, Route(Target("bacalhau", client.endpoint), "test", options=request.options))


class Store:
    """A server that keeps what it is sent, and answers as the test says."""

    def __init__(self, server: Server, *answers: object, keeps: bool = True) -> None:
        self.server, self.answers, self.keeps = server, list(answers), keeps
        self.found: list[dict] = []
        self.looks: list[Request] = []
        self.look_answers: list[object] = []
        server.on("PUT", "/orchestrator/jobs", self._put)
        server.on("GET", "/orchestrator/jobs", self._list)

    def _put(self, request: Request) -> object:
        import json

        if self.keeps:
            self.found.append({**json.loads(request.body)["Job"], "ID": JOB})
        return self.answers.pop(0) if self.answers else {"JobID": JOB}

    def _list(self, request: Request) -> object:
        self.looks.append(request)
        return self.look_answers.pop(0) if self.look_answers else {"Items": self.found, "NextToken": ""}


def test_row_is_there_before_the_request(server: Server, client: Client, ledger: Ledger, packed: PackedJob) -> None:
    """When the request arrives, the ledger already holds it as on its way; then it is a job."""
    states = []

    def put(_: Request) -> object:
        states.append([(row.request_id, row.state) for row in ledger.rows()])
        return {"JobID": JOB}

    server.on("PUT", "/orchestrator/jobs", put)
    ref = submit(client, packed, ledger, notebook="nb", cell="c1")
    assert states == [[(packed.request_id, "sending")]]
    row = ledger.request(packed.request_id)
    assert row is not None
    assert (row.job_id, row.state, row.notebook, row.cell, row.body_hash) == (JOB, "sent", "nb", "c1", packed.body_hash)
    assert (ref.job_id, ref.request_id, ref.name) == (JOB, packed.request_id, packed.name)


@pytest.mark.parametrize(
    "lost",
    [None, (503, b"Server Timeout!"), (200, b"<html>"), (200, b'{"JobID"'), (500, {"Status": 500, "Message": "Internal server error"})],
)
def test_lost_answer_is_looked_up(server: Server, client: Client, ledger: Ledger, packed: PackedJob, lost: object) -> None:
    """The server has the job but the answer was lost: it is found by its request label, and nothing is sent again."""
    store = Store(server, lost)
    assert submit(client, packed, ledger).job_id == JOB
    assert server.count("PUT", "/orchestrator/jobs") == len(store.found) == 1
    assert store.looks[0].query["labels"] == [f"{_marks.REQUEST_LABEL}={packed.request_id}"]
    assert ledger.request(packed.request_id).state == "sent"  # type: ignore[union-attr]


def test_look_up_is_patient(server: Server, client: Client, ledger: Ledger, packed: PackedJob) -> None:
    """A server that has to store the job first, or can't be asked at first, is asked again."""
    store = Store(server, None)
    store.look_answers = [{"Items": []}, (500, b"x")]
    assert submit(client, packed, ledger).job_id == JOB
    assert len(store.looks) == 3


@pytest.mark.parametrize("size", [1, 600_000], ids=["small", "more than the network holds"])
def test_reset_before_the_body_was_read(server: Server, client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A connection that is reset in the middle of a job's way: looked up, not sent again, and said so; the next one goes."""
    monkeypatch.setattr("bacalhau_magic._submit._LOOKS", (0.01, 0.02))
    store = Store(server)
    server.resets = 1
    code = f"1 # {random.Random(size).randbytes(size // 2).hex()}"
    request = CellRequest(code=code, options=JobOptions(), language=BUILT_IN["python"])
    route = Route(Target("bacalhau", client.endpoint), "test", options=request.options)
    with pytest.raises(UnreachableError, match="nothing was sent again"):
        submit(client, pack(request, route), ledger)
    assert server.count("PUT", "/orchestrator/jobs") == 1
    assert (store.found, len(store.looks)) == ([], 2)
    assert submit(client, pack(request, route), ledger).job_id == JOB
    assert len(store.found) == 1


def test_reset_before_the_request_was_kept(
    server: Server, client: Client, ledger: Ledger, packed: PackedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke and the server has no job: an error that says so, one PUT, and a row that stays unknown."""
    monkeypatch.setattr("bacalhau_magic._submit._LOOKS", (0.01, 0.02))
    Store(server, None, keeps=False)
    with pytest.raises(UnreachableError, match="no such job so far; nothing was sent again") as lost:
        submit(client, packed, ledger)
    assert lost.value.unsure
    assert "%bacalhau jobs" in lost.value.hint
    assert server.count("PUT", "/orchestrator/jobs") == 1
    assert ledger.request(packed.request_id).state == "unknown"  # type: ignore[union-attr]


def test_server_gone_after_the_request(
    server: Server, client: Client, ledger: Ledger, packed: PackedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server can't be asked any more: the row stays unknown, and the error says that it could not be asked."""
    monkeypatch.setattr("bacalhau_magic._submit._LOOKS", (0.01, 0.02))
    store = Store(server, None)
    server.on("GET", "/orchestrator/jobs", None)
    with pytest.raises(UnreachableError, match="could not be asked"):
        submit(client, packed, ledger)
    assert ledger.request(packed.request_id).state == "unknown"  # type: ignore[union-attr]
    server.on("GET", "/orchestrator/jobs", store._list)
    assert [row.job_id for row in reconcile(client, ledger)] == [JOB]
    assert ledger.request(packed.request_id).state == "sent"  # type: ignore[union-attr]
    assert server.count("PUT", "/orchestrator/jobs") == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"Status": 400, "Message": "missing job type"}), RejectedError),
        ((401, {"Status": 401, "Message": "Request Unauthorized"}), UnauthorizedError),
        ((429, {"Status": 429, "Message": "rate limit exceeded"}), RejectedError),
        ((500, {"Status": 500, "Message": "no changes detected for new job spec"}), RejectedError),
    ],
)
def test_refusal_leaves_no_row(
    server: Server, client: Client, ledger: Ledger, packed: PackedJob, answer: object, kind: type[ApiError]
) -> None:
    """A job that the server refused is not kept as one, and the server's own words are the error."""
    Store(server, answer, keeps=False)
    with pytest.raises(kind, match=str(answer[1]["Message"])):  # type: ignore[index]
        submit(client, packed, ledger)
    assert ledger.request(packed.request_id) is None
    assert server.count("PUT", "/orchestrator/jobs") == 1


def test_nobody_there_leaves_no_row(ledger: Ledger, packed: PackedJob) -> None:
    """A request that certainly reached nobody is forgotten at once, without looking."""
    with Client(Endpoint("http://127.0.0.1:9")) as client, pytest.raises(UnreachableError):
        submit(client, packed, ledger)
    assert ledger.rows() == []


def test_look_up_believes_the_label_alone(server: Server, client: Client, packed: PackedJob) -> None:
    """A server that ignores the selector does not make another job ours."""
    store = Store(server)
    store.found = [{"ID": "j-other", "Labels": {_marks.REQUEST_LABEL: "another"}}, {"ID": "j-none", "Labels": None}]
    assert find_request(client, packed.request_id) == ""


def test_reconcile_leaves_what_is_on_its_way(server: Server, client: Client, ledger: Ledger) -> None:
    """A request that another kernel is sending right now is left alone; what the server never got is forgotten after an hour."""
    Store(server)
    now = time.time()
    ledger.begin(Row("young", server.url, created=now))
    ledger.begin(Row("old", server.url, state="unknown", created=now - 7200))
    ledger.begin(Row("recent", server.url, state="unknown", created=now - 120))
    ledger.begin(Row("elsewhere", "http://elsewhere", state="unknown", created=now - 7200))
    assert reconcile(client, ledger) == []
    assert {row.request_id for row in ledger.unsettled()} == {"young", "recent", "elsewhere"}


def test_broken_ledger_does_not_stop_a_submission(server: Server, client: Client, packed: PackedJob, tmp_path: Path) -> None:
    """With a ledger that can't be written the job is sent all the same, and its labels are what it is found by."""
    path = tmp_path / "ledger.sqlite3"
    path.mkdir()
    store = Store(server)
    ledger = Ledger(path)
    assert submit(client, packed, ledger, notebook="nb").job_id == JOB
    assert ledger.problem
    assert store.found[0]["Labels"][_marks.REQUEST_LABEL] == packed.request_id
