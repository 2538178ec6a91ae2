"""Requests: one budget an endpoint, retries of idempotent calls only, answers of every kind in our own errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripted import JOB, Request, Server, Socket

from bacalhau_magic._stages import Credential, Endpoint
from bacalhau_magic.client import Client, LogStreamError
from bacalhau_magic.client._budget import Budget
from bacalhau_magic.errors import (
    ApiError,
    ConfigError,
    NotFoundError,
    RejectedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnreachableError,
)

KEY = Credential(key="secret-key", origin="test")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url, credential=KEY), requests_per_second=500.0) as found:
        yield found


def answers(*given: object) -> object:
    """Answers one after the other; the last one stays."""
    left = list(given)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


NODES = {"Nodes": []}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_failure_of_a_read_is_tried_again(server: Server, client: Client, status: int) -> None:
    """A GET that met a passing failure is asked again, and its answer is the last one's."""
    server.on("GET", "/orchestrator/nodes", answers((status, b"busy"), (status, b"busy"), NODES))
    assert client.nodes() == []
    assert server.count("GET", "/orchestrator/nodes") == 3


def test_broken_connection_of_a_read_is_tried_again(server: Server, client: Client) -> None:
    """A GET whose connection breaks is asked again."""
    server.on("GET", "/orchestrator/nodes", answers(None, NODES))
    assert client.nodes() == []


def test_reads_are_not_tried_for_ever(server: Server, client: Client) -> None:
    """A failure that stays is an error after a few tries."""
    server.on("GET", "/orchestrator/nodes", (503, b"Server Timeout!"))
    with pytest.raises(UnexpectedAnswerError, match="503"):
        client.nodes()
    assert server.count("GET", "/orchestrator/nodes") == 4


@pytest.mark.parametrize("answer", [None, (503, b"busy"), (500, {"Status": 500, "Message": "broken"}), (429, b"slow down")])
def test_a_submission_is_never_sent_twice(server: Server, client: Client, answer: object) -> None:
    """Whatever comes back, a PUT goes out once."""
    server.on("PUT", "/orchestrator/jobs", answer)
    with pytest.raises(ApiError):
        client.submit(b"{}")
    assert server.count("PUT", "/orchestrator/jobs") == 1


@pytest.mark.parametrize(
    ("answer", "unsure"),
    [
        (None, True),
        ((503, b"Server Timeout!"), True),
        ((500, {"Status": 500, "Message": "Internal server error"}), True),
        ((400, {"Status": 400, "Message": "missing job type"}), False),
        ((429, {"Status": 429, "Message": "rate limit exceeded"}), False),
        ((200, b"<html>"), True),
        ((200, {"JobID": ""}), True),
        ((200, {"JobID": "j-1\nimport os"}), True),
    ],
)
def test_unsure_of_a_submission(server: Server, client: Client, answer: object, unsure: bool) -> None:
    """Only a refusal says for certain that there is no job."""
    server.on("PUT", "/orchestrator/jobs", answer)
    with pytest.raises(ApiError) as refused:
        client.submit(b"{}")
    assert refused.value.unsure is unsure


def test_nobody_listens() -> None:
    """An endpoint that refuses the connection is unreachable, and certainly has not heard."""
    with Client(Endpoint("http://127.0.0.1:9")) as client:
        with pytest.raises(UnreachableError) as refused:
            client.submit(b"{}")
        assert not refused.value.unsure
        assert not client.alive()


# httpcore leaves the socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_missing_socket_is_unreachable(tmp_path: Path) -> None:
    """A unix socket that is not there is an unreachable endpoint."""
    with Client(Endpoint("http://localhost", socket=str(tmp_path / "none"))) as client, pytest.raises(UnreachableError):
        client.version()


def test_closed_client_says_so(server: Server, client: Client) -> None:
    """A closed client's requests are errors of ours."""
    client.close()
    with pytest.raises(UnreachableError, match="closed"):
        client.nodes()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b'{"Nodes": [', b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b'{"Nodes": 5}'])
def test_invalid_answers(server: Server, client: Client, body: bytes) -> None:
    """Answers that are no JSON, cut short, nested to death or of another form are one error, whatever their content type."""
    server.on("GET", "/orchestrator/nodes", (200, body, {"Content-Type": "text/html"}))
    with pytest.raises(UnexpectedAnswerError):
        client.nodes()


def test_truncated_answer(server: Server, client: Client) -> None:
    """An answer shorter than its Content-Length is a broken connection, not a value."""
    server.on("GET", "/orchestrator/nodes", lambda _: (200, b'{"Nodes": []}', {"Content-Length": "1000", "Connection": "close"}))
    with pytest.raises(UnreachableError):
        client.nodes()


def test_content_type_does_not_matter(server: Server, client: Client) -> None:
    """Good JSON under a wrong content type is read all the same."""
    server.on("GET", "/orchestrator/nodes", (200, json.dumps(NODES).encode(), {"Content-Type": "text/plain"}))
    assert client.nodes() == []


def test_nulls_are_empty(server: Server, client: Client) -> None:
    """Null stands for nothing anywhere in a noun."""
    nothing = dict.fromkeys(
        ("Name", "Namespace", "Type", "Priority", "Count", "Constraints", "Meta", "Labels", "Tasks", "State", "CreateTime", "Version")
    )
    server.on("GET", f"/orchestrator/jobs/{JOB}", {"Job": {"ID": JOB, **nothing}})
    job = client.job(JOB)
    assert (job.id, job.labels, job.tasks, job.count, job.phase_word) == (JOB, {}, [], 1, "")
    server.on(
        "GET", f"/orchestrator/jobs/{JOB}/executions", {"Items": [{"ID": "e", "ComputeState": None, "RunOutput": None, "CreateTime": None}]}
    )
    assert client.executions(JOB)[0].id == "e"


def test_slow_answer_is_waited_for(server: Server, client: Client) -> None:
    """A slow answer counts; one slower than the time that a call has is an unreachable endpoint."""

    def slow(_: Request) -> object:
        time.sleep(0.3)
        return NODES

    server.on("GET", "/orchestrator/nodes", slow)
    assert client.nodes() == []
    with pytest.raises(UnreachableError, match="in time"):
        client._transport.request("GET", "/orchestrator/nodes", timeout=0.05)


def test_huge_answer_is_refused(monkeypatch: pytest.MonkeyPatch, server: Server, client: Client) -> None:
    """An answer without end is not read into memory."""
    monkeypatch.setattr("bacalhau_magic.client._transport.MAX_ANSWER", 1000)
    server.on("GET", "/orchestrator/nodes", (200, b" " * 5000))
    with pytest.raises(UnexpectedAnswerError, match="more than"):
        client.nodes()


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            401,
            {"Message": "Request Unauthorized", "Hint": "h", "Details": {"reason": "invalid API key"}},
            UnauthorizedError,
            "invalid API key",
        ),
        (
            403,
            {"Message": "Request Forbidden", "Hint": "Check", "Details": {"reason": "user 'ro' does not have"}},
            UnauthorizedError,
            "'ro'",
        ),
        (403, {"Error": "client too old", "MinVersion": "v1.4.0"}, UnauthorizedError, "client too old"),
        (404, {"Message": "job not found: x", "Code": "NotFound"}, NotFoundError, "job not found"),
        (404, b"<html>nginx</html>", NotFoundError, "does not know"),
        (413, b"too large", RejectedError, "too large"),
        (400, {"Message": "missing job type\nmissing tasks"}, RejectedError, "missing job type"),
        (500, {"Message": "no changes detected for new job spec", "Hint": "--force"}, RejectedError, "no changes"),
        (503, b"Server Timeout!", UnexpectedAnswerError, "Server Timeout!"),
    ],
)
def test_errors_in_the_servers_words(server: Server, client: Client, status: int, body: object, kind: type[ApiError], said: str) -> None:
    """An error answer becomes its own class, with the server's words, status and hint."""
    server.on("GET", "/agent/version", (status, {"Status": status, **body} if isinstance(body, dict) else body))
    with pytest.raises(kind) as refused:
        client.version()
    assert said in refused.value.message
    assert refused.value.status == status
    assert "secret-key" not in repr(refused.value) + str(refused.value)


def test_redirect_to_another_origin_loses_the_credential(server: Server, client: Client) -> None:
    """A GET follows a redirect; to another origin it goes without the key."""
    with Server() as other:
        other.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
        server.on("GET", "/agent/version", (307, b"", {"Location": f"{other.url}/api/v1/agent/version"}))
        assert client.version().git_version == "v1.9.3"
        assert server.requests[0].headers["authorization"] == "Bearer secret-key"
        assert "authorization" not in other.requests[0].headers


def test_redirect_within_the_origin_keeps_the_credential(server: Server, client: Client) -> None:
    """A redirect to another path of the same origin keeps the key."""
    server.on("GET", "/agent/version", (301, b"", {"Location": "/api/v1/agent/there"}))
    server.on("GET", "/agent/there", {"GitVersion": "v1.9.3"})
    assert client.version().git_version == "v1.9.3"
    assert server.requests[1].headers["authorization"] == "Bearer secret-key"


def test_submission_follows_no_redirect(server: Server, client: Client) -> None:
    """A PUT is not sent to another place; the error names that place."""
    server.on("PUT", "/orchestrator/jobs", (307, b"", {"Location": "http://other.example/api/v1/orchestrator/jobs"}))
    with pytest.raises(UnexpectedAnswerError, match=r"redirects to http://other\.example") as refused:
        client.submit(b"{}")
    assert not refused.value.unsure


@pytest.mark.parametrize("there", ["file:///etc/passwd", "/api/v1/agent/version"])
def test_redirects_that_lead_nowhere(server: Server, client: Client, there: str) -> None:
    """A redirect to a file or in a circle is an error."""
    server.on("GET", "/agent/version", (302, b"", {"Location": there}))
    with pytest.raises(UnexpectedAnswerError, match="redirects"):
        client.version()


def test_log_stream_redirect_loses_the_credential(server: Server, client: Client) -> None:
    """A log stream that is redirected to another origin never takes the key there."""
    with Server() as other:
        other.on_logs(lambda stream, _: (stream.line("hi\n"), stream.close()))
        server.answer_logs(307, Location=f"{other.url.replace('http', 'ws')}/api/v1/x")
        try:
            with client.logs(JOB) as stream:
                list(stream)
        except ApiError:
            pass
        assert server.requests[0].headers["authorization"] == "Bearer secret-key"
        assert all("authorization" not in request.headers for request in other.requests)


def test_a_flood_of_lines_comes_as_few_texts(server: Server, client: Client) -> None:
    """Lines that are there already come together, in order and each stream's apart; an error frame comes after what was before it."""
    sent = threading.Event()

    def flood(stream: Socket, _: int) -> None:
        for number in range(600):
            stream.line(f"{number}\n", 1 if number < 300 else 2)
        stream.error("no more")
        sent.set()
        stream.close()

    server.on_logs(flood)
    got: list[tuple[int, str]] = []
    with client.logs(JOB) as stream:
        assert sent.wait(10)
        with pytest.raises(LogStreamError, match="no more"):
            got.extend(stream)
    text = ["".join(f"{number}\n" for number in numbers) for numbers in (range(300), range(300, 600))]
    assert ["".join(text for kind, text in got if kind == stream) for stream in (1, 2)] == text
    assert [kind for kind, _ in got] == sorted(kind for kind, _ in got)
    assert len(got) < 500


def test_retry_after_is_kept(server: Server, client: Client) -> None:
    """A 429 with Retry-After is asked again after that time and not before."""
    times: list[float] = []

    def limited(_: Request) -> object:
        times.append(time.monotonic())
        return (429, b"slow down", {"Retry-After": "1"}) if len(times) == 1 else NODES

    server.on("GET", "/orchestrator/nodes", limited)
    assert client.nodes() == []
    assert times[1] - times[0] >= 1.0


def test_retry_after_is_said_for_a_submission(server: Server, client: Client) -> None:
    """A refused submission says when to try again."""
    server.on("PUT", "/orchestrator/jobs", (429, {"Status": 429, "Message": "rate limit exceeded"}, {"Retry-After": "7"}))
    with pytest.raises(RejectedError) as refused:
        client.submit(b"{}")
    assert "7 s" in refused.value.hint


def test_unusable_ca_file_is_a_setting(tmp_path: Path) -> None:
    """A CA file that can't be read is said with its setting, before anything is sent."""
    with (
        Client(Endpoint("https://127.0.0.1:9", ca_file=str(tmp_path / "none.pem"))) as client,
        pytest.raises(ConfigError, match=r"none\.pem"),
    ):
        client.version()


def test_unusable_proxy_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of a kind that can't be used is said with its variable."""
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1:9")
    with Client(Endpoint("http://bacalhau.example:1234")) as client, pytest.raises(ConfigError, match="proxy"):
        client.version()


def test_requests_and_log_streams_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """The environment's proxy is used for requests and log streams, and never for this machine's own addresses."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.on("GET", "http://bacalhau.example/api/v1/agent/version", {"GitVersion": "v1.9.3"})
    server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
    with Client(Endpoint("http://bacalhau.example")) as client:
        assert client.version().git_version == "v1.9.3"
        with pytest.raises(UnreachableError):
            client.logs(JOB)
    assert [request.method for request in server.requests] == ["GET", "CONNECT"]
    with Client(Endpoint(server.url)) as client:
        client.version()
    assert server.requests[-1].path == "/agent/version"


def test_the_readers_own_error_is_not_the_endpoints(server: Server, client: Client) -> None:
    """What goes wrong while a body is put away (a full disk) is not told as a broken connection."""
    server.on("GET", "/x", (200, b"data"))

    def put_away() -> None:
        with client.download("/api/v1/x", anonymous=False):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        put_away()
    assert not isinstance(caught.value, ApiError)


# The budget


def test_budget_bounds_the_rate() -> None:
    """After a second's worth at once, requests come at the rate."""
    budget = Budget(100.0)
    begun = time.monotonic()
    for _ in range(130):
        budget.take()
    assert time.monotonic() - begun >= 0.29


def test_waiting_cells_go_before_background_jobs() -> None:
    """Whoever waits in front of a cell gets the next turn, however many background requests were there first."""
    budget = Budget(20.0)
    budget.rest(1.0)  # time for all of them to be there
    order: list[str] = []

    def ask(name: str, background: bool) -> None:
        budget.take(background=background)
        order.append(name)

    threads = [threading.Thread(target=ask, args=(f"background {i}", True)) for i in range(4)]
    for thread in threads:
        thread.start()
    while len(budget._waiting) < 4:
        time.sleep(0.001)
    waiting = threading.Thread(target=ask, args=("cell", False))
    waiting.start()
    for thread in [*threads, waiting]:
        thread.join()
    assert order[0] == "cell"


def test_all_clients_of_an_endpoint_share_one_budget(server: Server) -> None:
    """Two clients of one endpoint count together, and another endpoint counts for itself."""
    with Client(Endpoint(server.url)) as one, Client(Endpoint(server.url + "/")) as two, Client(Endpoint("http://127.0.0.1:9")) as other:
        assert one._transport.budget is two._transport.budget
        assert one._transport.budget is not other._transport.budget
        assert one._transport.budget.per_second == 10.0
    with Client(Endpoint("http://localhost", socket="/run/x")) as local:
        assert local._transport.budget.per_second == 50.0


def test_the_network_can_be_stood_in_for() -> None:
    """A handler takes the network's place, and sees what a server would see."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"GitVersion": "v1.9.3"})

    with Client(
        Endpoint("http://host:1234/base", credential=Credential(username="u", password="p")), handler=httpx.MockTransport(handler)
    ) as client:
        assert client.version().git_version == "v1.9.3"
    assert str(seen[0].url) == "http://host:1234/base/api/v1/agent/version"
    assert seen[0].headers["authorization"] == "Basic dTpw"
