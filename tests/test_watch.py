"""A job watched to its end, whatever the server and its log streams do."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from scripted import JOB, NODE, JobScript, Recorded, Server, Socket

from bacalhau_magic import _livelog, _marks, _stops, _watch
from bacalhau_magic._causes import causes, main
from bacalhau_magic._ledger import Ledger, Row
from bacalhau_magic._stages import BegunAnew, CauseFound, ContactChanged, Ended, Endpoint, JobEvent, JobRef, Noticed, PhaseChanged, Printed
from bacalhau_magic._wire import Job
from bacalhau_magic.client import Client
from bacalhau_magic.remote.packets import Writer, pack_bundle

NONCE = "0123456789abcdef"


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url), requests_per_second=200.0) as found:
        yield found


def ref(client: Client, job_id: str = JOB) -> JobRef:
    return JobRef(job_id, client.endpoint, "default", "test")


def watch(client: Client, job_id: str = JOB, **more: object) -> Iterator[JobEvent]:
    settings: dict = {"nonce": NONCE, "max_result": 1_000_000, "poll_interval": 0.2, **more}
    return _watch.watch(client, ref(client, job_id), **settings)


def packets(body: bytes, *, text: str = "") -> list[str]:
    """The log of a wrapper that sends `body`, with `text` printed before the result."""
    found: list[bytes] = []
    writer = Writer(NONCE, found.append)
    writer.packet("s", b'{"language":"python"}')
    writer.plain(text.encode())
    writer.blob(body)
    return [piece.decode() for piece in found]


BLOB = pack_bundle({"outcome": "ok", "exit_code": 0}, [("stdout", "", b"hi\n" * 1000)])


def ended(events: list[JobEvent]) -> Ended:
    last = events[-1]
    assert isinstance(last, Ended)
    return last


def printed(events: list[JobEvent], stream: str = "stdout") -> str:
    return "".join(event.text for event in events if isinstance(event, Printed) and event.stream == stream)


def test_result_rides_in_the_log(server: Server, client: Client) -> None:
    """Packets become the blob, and never show in what is printed."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, _: int) -> None:
        for line in packets(BLOB, text="hello"):
            stream.line(line)
        job.end()
        stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert printed(events) == ended(events).stdout == "hello"
    assert [event.phase for event in events if isinstance(event, PhaseChanged)] == ["starting", "starting", "running"]


def test_pull_is_a_phase_where_the_node_tells_it(server: Server, client: Client) -> None:
    """The embedded node says that it pulls an image; a Bacalhau node says "Running" for all that comes before the first line."""
    job = JobScript(server)
    job.add("Requested execution on n-2e2b7e09", "Scheduling", job.execution, NodeID=NODE)
    job.add("Pulling image python:3.11-slim", _marks.PULLING, job.execution, Image="python:3.11-slim")
    seen: list[PhaseChanged] = []
    for event in watch(client, nonce=""):
        if isinstance(event, PhaseChanged):
            seen.append(event)
            if event.phase == "pulling":
                job.add("Running", "Execution", job.execution)
            elif event.detail:
                job.end()
    assert [(event.phase, event.node, event.detail) for event in seen] == [
        ("starting", NODE, ""),
        ("pulling", NODE, "python:3.11-slim"),
        ("starting", NODE, "waiting there, pulling the image or starting"),
    ]


def test_early_error_frame_is_tried_again(server: Server, client: Client) -> None:
    """A stream that answers that there is no execution yet is opened again."""
    job = JobScript(server)

    def logs(stream: Socket, number: int) -> None:
        if number < 3:
            stream.error("no executions found")
            return stream.close()
        job.begin()
        for line in packets(BLOB):
            stream.line(line)
        job.end()
        return stream.close()

    server.on_logs(logs)
    assert ended(list(watch(client))).blob == BLOB
    assert server.streams == 3


def test_silent_stream_loses_nothing(server: Server, client: Client) -> None:
    """A stream that stays open and silent for ever is dropped once the job is over, and the whole log read again."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            job.end()
            return stream.stay()
        for line in packets(BLOB, text="all of it"):
            stream.line(line)
        return stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert printed(events) == "all of it"


def test_short_result_needs_no_log(server: Server, client: Client) -> None:
    """A result whose log stands whole in the job's record comes from there when every stream stays silent."""
    job = JobScript(server)
    job.begin()
    small = pack_bundle({"outcome": "ok", "exit_code": 0}, [("value", "", b"42")])

    def logs(stream: Socket, _: int) -> None:
        job.end()
        job.executions[-1]["RunOutput"] |= {"Stdout": "".join(packets(small, text="said\n")), "stderr": "warned\n"}
        stream.stay()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == small
    assert (printed(events), ended(events).stderr) == ("said\n", "warned\n")
    assert server.streams == 1


def test_log_that_comes_late_is_waited_for(server: Server, client: Client) -> None:
    """Streams of a finished job that stay silent, as while the node serves another's log, are waited for, and that is said."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            job.end()
        if number < 4:
            return stream.stay()
        for line in packets(BLOB):
            stream.line(line)
        return stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert [event.sentence for event in events if isinstance(event, Noticed)] == [
        "The node is slow to serve the job's log: the result is waited for."
    ]


def test_stop_ends_the_wait_for_a_late_log(server: Server, client: Client) -> None:
    """Whoever stops a job that is over waits no longer for its log, and is told that the log may still come."""
    job = JobScript(server)
    job.begin()
    stop = _stops.StopRequest()

    def logs(stream: Socket, number: int) -> None:
        job.end() if number == 1 else stop.ask("enough")
        stream.stay()

    server.on_logs(logs)
    end = ended(list(watch(client, stop=stop)))
    assert (end.blob, end.silent, end.record.state, server.streams) == (None, True, "Completed", 2)


@pytest.mark.parametrize("serves", [True, False])
def test_stop_that_comes_too_late_loses_no_result(server: Server, client: Client, serves: bool) -> None:
    """A job that completes while it is stopped brings its result; where its log does not come it is not called lost."""
    job = JobScript(server)
    job.begin()
    stop = _stops.StopRequest()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            job.end()
            stop.ask("enough")
            return stream.stay()
        if serves:
            for line in packets(BLOB):
                stream.line(line)
            return stream.close()
        return stream.half("{")

    server.on_logs(logs)
    end = ended(list(watch(client, stop=stop)))
    assert (end.blob, end.cut, end.silent, end.record.state) == (BLOB if serves else None, not serves, not serves, "Completed")
    assert server.streams == 2


def test_log_of_what_never_began_is_not_asked_for(server: Server, client: Client) -> None:
    """An execution whose command is not in the image has no log: none is asked for once the job is over."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, _: int) -> None:
        if not job.executions:
            job.fail('executable file not found: exec: "nosuchcmd"')
        stream.stay()

    server.on_logs(logs)
    events = list(watch(client))
    assert [event.cause.kind for event in events if isinstance(event, CauseFound)] == ["command"]
    assert server.streams == 1


@pytest.mark.parametrize("queue", ["", "-no-queue-timeout"])
def test_command_that_is_not_in_the_image_opens_no_stream(server: Server, client: Client, queue: str) -> None:
    """At its own pace a node's failed start opens no log stream, nor does the second one that follows by itself."""
    script = Recorded(server, f"command-not-found{queue}", pace=1.0)
    events = list(watch(client, script.job_id))
    assert [event.cause.kind for event in events if isinstance(event, CauseFound)] == ["command"]
    assert server.streams == 0


def test_second_start_that_must_fail_opens_no_stream(server: Server, client: Client) -> None:
    """What the server tries again before it hears of the stop is not listened to."""
    job = JobScript(server)
    job.begin()
    job.fail('failed to start container: executable file not found: exec: "nosuchcmd"')

    def stop(_: object) -> dict[str, str]:
        job.execution = "e-2"
        job.begin()
        threading.Timer(1.5, finish).start()
        return {"EvaluationID": "x"}

    def finish() -> None:
        job.state = "Stopped"

    server.on("DELETE", f"/orchestrator/jobs/{JOB}", stop)
    list(watch(client))
    assert server.streams == 0


def test_log_of_a_node_that_keeps_none_is_opened_at_once(server: Server, client: Client) -> None:
    """Before 1.8 a log that is not heard in time is lost: none of it is waited for."""
    job = JobScript(server)
    server.on("GET", "/agent/version", {"Major": "1", "Minor": "7", "GitVersion": "v1.7.0"})
    job.begin()
    opened: list[float] = []

    def logs(stream: Socket, _: int) -> None:
        opened.append(server.count("GET", f"/orchestrator/jobs/{JOB}/history"))
        for line in packets(BLOB):
            stream.line(line)
        job.end()
        stream.close()

    server.on_logs(logs)
    assert ended(list(watch(client))).blob == BLOB
    assert opened == [1]


def test_line_is_ended_before_the_next_one_comes(server: Server, client: Client) -> None:
    """The end of a line that the job printed last is told while the job goes on, though a packet might have followed it."""
    job = JobScript(server)
    job.begin()
    told = threading.Event()

    def logs(stream: Socket, _: int) -> None:
        stream.line("a\n")
        told.wait(15)
        stream.line("b\n")
        job.end()
        stream.close()

    server.on_logs(logs)
    printed = [""]
    for event in watch(client):
        if isinstance(event, Printed):
            printed.append(printed[-1] + event.text)
            if printed[-1] == "a\n":
                told.set()
    assert "a\n" in printed
    assert printed[-1] == "a\nb\n"


def test_flood_waits_for_whoever_reads_it(server: Server, client: Client) -> None:
    """Whoever reads slowly holds the stream back, not all of it in memory; and loses nothing."""
    job = JobScript(server)
    job.begin()
    line, lines, sent = "x" * 16_383 + "\n", 4000, [0]

    def logs(stream: Socket, _: int) -> None:
        frame = json.dumps({"value": {"Type": 1, "Line": line}})
        for number in range(lines):
            stream.text(frame)
            sent[0] = number
        job.end()
        stream.close()

    server.on_logs(logs)
    tracemalloc.start()
    try:
        events = watch(client, nonce="", max_result=1000)
        heard = len(next(event.text for event in events if isinstance(event, Printed)))
        before = -1
        while sent[0] > before:
            before = sent[0]
            time.sleep(0.5)
        heard += sum(len(event.text) for event in events if isinstance(event, Printed))
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert heard == lines * len(line)


def test_stream_that_never_closes_holds_nothing_up(server: Server, client: Client) -> None:
    """The state ends the wait, not the stream."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, _: int) -> None:
        for line in packets(BLOB):
            stream.line(line)
        job.end()
        stream.stay()

    server.on_logs(logs)
    assert ended(list(watch(client))).blob == BLOB
    assert server.streams == 1


@pytest.mark.parametrize("broken", ["closed", "cut"])
def test_broken_stream_is_replayed_without_doubles(server: Server, client: Client, broken: str) -> None:
    """A stream that ends early or breaks is opened again, and nothing is shown twice."""
    job = JobScript(server)
    job.begin()
    lines = ["one\n", "two\n", *packets(BLOB)]

    def logs(stream: Socket, number: int) -> None:
        for line in lines[:3] if number == 1 else lines:
            stream.line(line)
        if number > 1:
            job.end()
        if number > 1 or broken == "closed":
            stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert printed(events) == "one\ntwo\n"


def test_silent_stream_of_a_running_job_is_replaced(server: Server, client: Client) -> None:
    """While the job runs on, a stream without a first frame is replaced, so that the log is live."""
    job = JobScript(server)
    job.begin()
    live = threading.Event()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            return stream.stay()
        stream.line(packets(BLOB)[0])
        stream.line("live\n")
        live.wait(20)
        for line in packets(BLOB)[1:]:
            stream.line(line)
        job.end()
        return stream.close()

    server.on_logs(logs)
    seen = []
    for event in watch(client):
        seen.append(event)
        if isinstance(event, Printed):
            live.set()
    assert ended(seen).blob == BLOB
    assert printed(seen) == "live\n"


def test_lost_contact_is_said_and_never_ends_the_wait(server: Server, client: Client) -> None:
    """While the endpoint does not answer, asking goes on; contact again is said too."""
    job = JobScript(server)
    job.begin()
    fails = iter([None] * 4)

    def history(request: object) -> object:
        try:
            return next(fails)
        except StopIteration:
            job.end() if job.state == "Running" else None
            return job._history(request)

    server.on("GET", f"/orchestrator/jobs/{JOB}/history", history)
    events = list(watch(client, nonce=""))
    assert [event.lost for event in events if isinstance(event, ContactChanged)] == [True, False]
    assert ended(events).record.state == "Completed"


def test_stop_reaches_the_server_with_its_reason(server: Server, client: Client) -> None:
    """A stop that is asked for is sent at once, and the wait goes on to the job's end."""
    job = JobScript(server)
    job.begin()
    server.on_logs(lambda stream, _: stream.stay())
    stop = _stops.StopRequest()
    events = []
    for event in watch(client, stop=stop, poll_interval=30.0):
        events.append(event)
        if isinstance(event, PhaseChanged):
            stop.ask("bacalhau-magic: interrupted")
    assert job.stops == ["bacalhau-magic: interrupted"]
    assert ended(events).record.state == "Stopped"
    assert stop.delivered.is_set()


def test_stop_of_a_finished_job_is_no_error(server: Server, client: Client) -> None:
    """A job that ended before the stop arrived keeps its own end."""
    job = JobScript(server)
    job.begin()
    job.end()
    stop = _stops.StopRequest()
    stop.ask("too late")
    assert ended(list(watch(client, nonce="", stop=stop))).record.state == "Completed"


@pytest.mark.parametrize(
    "refusal", [None, (429, {"Status": 429, "Message": "rate limit exceeded"}), (408, {"Status": 408, "Message": "slow"})]
)
def test_undeliverable_stop_is_kept_and_sent_at_the_next_contact(server: Server, client: Client, tmp_path: Path, refusal: object) -> None:
    """A stop that the endpoint could not hear of, or was too busy for, stays in the ledger and is sent once it answers again."""
    job = JobScript(server)
    job.begin()
    server.on_logs(lambda stream, _: stream.stay())
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.begin(Row("r1", server.url))
    ledger.sent("r1", JOB)
    stop = _stops.StopRequest()
    stop.ask("bacalhau-magic: interrupted")
    deliver, broken = job._stop, [True]

    def delete(request: object) -> object:
        if broken:
            broken.pop()
            return refusal
        return deliver(request)

    server.on("DELETE", f"/orchestrator/jobs/{JOB}", delete)
    events = []
    for event in watch(client, nonce="", stop=stop, ledger=ledger):
        events.append(event)
        if isinstance(event, Noticed):
            assert [row.job_id for row in ledger.pending_stops(client.endpoint)] == [JOB]
    assert any(isinstance(event, Noticed) for event in events)
    assert job.stops == ["bacalhau-magic: interrupted"]
    assert ledger.pending_stops(client.endpoint) == []
    assert ended(events).record.state == "Stopped"


def test_failure_that_repeats_stops_the_job(server: Server, client: Client) -> None:
    """A cause that would end the same again is said once, and the job stopped with it as the reason."""
    job = JobScript(server)
    job.begin()
    job.fail('failed to start container: executable file not found: exec: "nosuchcmd"')
    server.on_logs(lambda stream, _: stream.stay())
    events = list(watch(client))
    assert [event.cause.kind for event in events if isinstance(event, CauseFound)] == ["command"]
    assert job.stops == ["bacalhau-magic: command"]
    assert ended(events).record.state == "Stopped"


@pytest.mark.parametrize("nodes", ["known", "unknown"])
def test_engine_that_can_start_nothing_ends_the_job(server: Server, client: Client, nodes: str) -> None:
    """A failure without a kind of its own that came twice in the same words, with no node left, stops the job in place of a wait for ever."""
    job = JobScript(server)
    if nodes == "unknown":
        server.on("GET", "/orchestrator/nodes", (500, {"Status": 500, "Message": "no"}))
    job.begin()
    job.fail("failed to start container 3f5a0c1d2e: permission denied")

    def logs(stream: Socket, number: int) -> None:
        if job.execution == "e-1":
            job.execution = "e-2"
            job.begin()
            job.fail("failed to start container 77aa0c1d2e: permission denied")
            job.add(
                "Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n"
                "• Node n-2e2b7e09: job already executed on this node more than once",
                "Queueing",
            )
            job.state = "Queued"
        stream.stay()

    server.on_logs(logs)
    events = list(watch(client))
    found = [event.cause for event in events if isinstance(event, CauseFound)]
    assert (found[-1].kind, found[-1].repeats) == ("failed", True)
    assert "77aa0c1d2e: permission denied" in found[-1].sentence
    assert "twice" in found[-1].advice
    assert job.stops == ["bacalhau-magic: failed"]
    assert ended(events).record.state == "Stopped"


def test_job_that_begins_anew_shows_its_own_log(server: Server, client: Client) -> None:
    """When a node is lost the second execution's packets make the result, not a mixture."""
    job = JobScript(server)
    job.begin()
    second = threading.Event()
    other = pack_bundle({"outcome": "ok"}, [("stdout", "", b"second\n" * 3000)])

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            for line in packets(BLOB, text="first\n")[:-1]:
                stream.line(line)
            job.fail("Execution stop requested because node has disappeared")
            job.execution = "e-2"
            job.begin("n-bbbbbbbb-9704-40b8-a87a-1b6b42761e17")
            second.set()
            return stream.close()
        for line in packets(other, text="second\n"):
            stream.line(line)
        job.end()
        return stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == other
    assert ended(events).stdout == "second\n"
    assert [event.node[:10] for event in events if isinstance(event, BegunAnew)] == ["n-bbbbbbbb"]


@pytest.mark.parametrize("heard", ["live", "later"])
@pytest.mark.parametrize("stop", ["in time", "too late"])
def test_what_was_printed_before_a_limit_is_kept(server: Server, client: Client, stop: str, heard: str) -> None:
    """The server begins again at once what would end the same: the log stays the first try's, unless the stop came too late."""
    job = JobScript(server)
    job.begin()
    other = pack_bundle({"outcome": "ok"}, [("stdout", "", b"second\n" * 3000)])
    if stop == "too late":
        server.on(
            "DELETE", "/orchestrator/jobs/" + JOB, (500, {"Status": 500, "Message": "cannot stop job in state Completed", "Code": ""})
        )

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            if heard == "live":
                stream.line(packets(BLOB, text="first\n")[0])
                stream.line("first\n")
                time.sleep(0.5)
            job.fail("disk limit exceeded")
            job.execution = "e-2"
            job.begin()
            if stop == "too late":
                job.end()
            return stream.close() if heard == "live" else stream.stay()
        for line in packets(other, text="second\n") if "e-2" in stream.path else packets(BLOB, text="first\n")[:2]:
            stream.line(line)
        return stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    began = [event for event in events if isinstance(event, BegunAnew)]
    if stop == "in time":
        assert (ended(events).stdout, began, job.stops) == ("first\n", [], ["bacalhau-magic: disk"])
    else:
        assert (ended(events).stdout, len(began), ended(events).blob) == ("second\n", 1, other)


def test_job_that_the_server_forgot_ends_the_wait(server: Server, client: Client) -> None:
    """A job that the server does not know any more ends with a record that says so."""
    events = list(watch(client, nonce=""))
    assert ended(events).record.state == ""
    assert "no script" in ended(events).record.job.state.message


def test_closing_the_iterator_ends_its_threads(server: Server, client: Client) -> None:
    """Whoever stops listening leaves no thread behind."""
    job = JobScript(server)
    job.begin()
    server.on_logs(lambda stream, _: stream.stay())
    events = watch(client)
    next(events)
    events.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("bacalhau log") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


ENDS = [
    ("hello", "1.9.3"),
    ("slow-lines", "1.9.3"),
    ("exit-code", "1.9.3"),
    ("no-network", "1.9.3"),
    ("long-line", "1.9.3"),
    ("stop", "1.9.3"),
    ("timeout", "1.9.3"),
    ("out-of-memory", "1.9.3"),
    ("command-not-found", "1.9.3"),
    ("image-cannot-be-pulled", "1.9.3"),
    ("inline-directory-without-entries", "1.9.3"),
    ("no-gpu-no-queue-timeout", "1.9.3"),
    ("hello", "1.7.0"),
    ("timeout", "1.7.0"),
    ("out-of-memory-no-queue-timeout", "1.5.2"),
    ("exit-code", "1.5.2"),
]


@pytest.mark.parametrize(("name", "version"), ENDS)
def test_recorded_jobs_end(server: Server, client: Client, name: str, version: str) -> None:
    """Every recorded job is watched to its end, with its first failure as the cause and its text whole."""
    script = Recorded(server, name, version)
    job = Job.model_validate(script.data["job"]["Job"])
    events = list(watch(client, script.job_id, nonce="", job=job))
    end = ended(events)
    found = [event.cause.kind for event in events if isinstance(event, CauseFound)]
    expected = {
        "out-of-memory": "memory",
        "command-not-found": "command",
        "image-cannot-be-pulled": "image",
        "inline-directory-without-entries": "inputs",
        "no-gpu-no-queue-timeout": "unplaceable",
        "out-of-memory-no-queue-timeout": "memory",
        "timeout": "execution-timeout",
        "stop": "stopped",
    }
    assert found[-1:] == ([expected[name]] if name in expected else [])
    if name == "hello":
        assert (end.stdout, end.stderr) == ("hi\n", "err\n")
    if name in ("out-of-memory", "command-not-found", "image-cannot-be-pulled", "inline-directory-without-entries"):
        assert script.stopped == f"bacalhau-magic: {expected[name]}"
    else:
        assert not script.stopped or name == "timeout" or name.startswith("out-of-memory")


def test_flood_loses_nothing(server: Server, client: Client) -> None:
    """Thousands of lines at once all come, in their order, while the history is still asked."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, _: int) -> None:
        for number in range(5000):
            stream.line(f"{number}\n")
        for line in packets(BLOB):
            stream.line(line)
        job.end()
        stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert printed(events) == "".join(f"{number}\n" for number in range(5000))
    assert ended(events).blob == BLOB
    assert server.streams == 1


def test_excerpt_of_an_old_server_is_no_result(server: Server, client: Client) -> None:
    """A node before 1.8 serves 2,048 bytes of a finished log: what is missing is said, and nothing is taken for the whole."""
    job = JobScript(server)
    server.on("GET", "/agent/version", {"Major": "0", "Minor": "0", "GitVersion": "v0.0.0-xxxxxxx"})
    job.begin()
    whole = "".join(packets(BLOB, text="x" * 5000 + "\n"))

    def logs(stream: Socket, _: int) -> None:
        job.end()
        stream.line(whole[:2048] + "\n")
        stream.close()

    server.on_logs(logs)
    end = ended(list(watch(client)))
    assert end.blob is None
    assert end.cut


@pytest.mark.parametrize("version", ["v1.9.3", "v0.0.0-xxxxxxx"])
def test_short_log_is_not_taken_for_an_excerpt(server: Server, client: Client, version: str) -> None:
    """A log that happens to have 2,048 characters is whole where the server keeps logs, or its record shows that it is."""
    job = JobScript(server)
    server.on("GET", "/agent/version", {"GitVersion": version})
    job.begin()
    text = "x" * 2044 + "\n" if version == "v1.9.3" else "x" * 2000 + "\n"

    def logs(stream: Socket, _: int) -> None:
        stream.line(text)
        job.end()
        stream.close()

    server.on_logs(logs)
    end = ended(list(watch(client, nonce="")))
    assert (end.stdout, end.cut) == (text, False)


FAILURES = {
    "memory": ("memory limit exceeded", "Running Execution", {}),
    "command": ('failed to start container: executable file not found: exec: "nosuchcmd"', "Running Execution", {}),
    "image": ('image not available: "nope:1"', "Exec Scanning", {"Image": "nope:1", "Hint": "Check the image's name. Are you logged in?"}),
    "inputs": ("preparing arguments: no such file", "Downloading Inputs", {}),
    "node-lost": ("Execution stop requested because node has disappeared", "Scheduling", {}),
    "execution-timeout": ("Execution timed out after 6s", "Running Execution", {}),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failure_is_shown_as_soon_as_the_server_knows_it(server: Server, client: Client, said: list[str], kind: str) -> None:
    """While the log stream is silent and the usual interval holds, a failure is shown soon, and stops what would repeat."""
    job = JobScript(server)
    job.begin()
    running, failed = threading.Event(), []
    looks = r"/orchestrator/jobs/.*/history"

    def logs(stream: Socket, number: int) -> None:
        if number > 1:
            for line in packets(BLOB):
                stream.line(line)
            stream.close()
            return
        stream.line(packets(BLOB)[0])
        running.wait(20)
        time.sleep(2.5)
        message, topic, details = FAILURES[kind]
        failed.append(time.monotonic())
        job.fail(message, topic, **details)
        stream.stay()

    server.on_logs(logs)
    shown = 0.0
    for event in watch(client, poll_interval=5.0):
        if isinstance(event, PhaseChanged) and event.phase == "running":
            running.set()
            looked = server.count("GET", looks)
        if isinstance(event, CauseFound):
            # At the usual interval there would be one look in this time.
            assert server.count("GET", looks) - looked > 2
            shown = time.monotonic()
            assert event.cause.kind == kind
            assert event.cause.advice
            if kind == "node-lost":
                job.end()
    said.append(f"{kind}: shown {shown - failed[0]:.2f} s after the server knew it")
    assert job.stops == ([] if kind == "node-lost" else [f"bacalhau-magic: {kind}"])


def test_waiting_without_a_node_is_explained_at_once(server: Server, client: Client) -> None:
    """Why no node takes a job is shown while it waits, with what each node said."""
    job = JobScript(server)
    wanted = Job.model_validate({"Tasks": [{"Resources": {"GPU": "1", "CPU": "0.5"}}]})
    busy = "node busy with available capacity {CPU: 1.60, Memory: 20 GB, Disk: 203 GB, GPU: 0}"
    job.add(f"Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node n-2e2b7e09: {busy}", "Queueing")
    job.state = "Queued"
    seen = []
    stop = _stops.StopRequest()
    for event in watch(client, nonce="", job=wanted, stop=stop):
        if isinstance(event, CauseFound):
            seen.append(event.cause)
            stop.ask("seen")
    assert (seen[0].kind, seen[0].sentence) == ("unplaceable", "No node can take the job: it asks for 1 GPU.")
    assert seen[0].lines == ("n-2e2b7e09 has no GPU",)


def test_wait_of_the_moment_of_attaching_is_past_once_a_node_took_the_job(server: Server, client: Client) -> None:
    """A job that found no node when it was attached to, and runs now, is not told to find none: that state is the one of then."""
    job = JobScript(server)
    job.state, job.message = "Queued", "Job queued. not enough nodes to run job. requested: 1, available: 0, suitable: 0."
    job.add(job.message, "Queueing")
    attached = Job.model_validate(job.job())
    seen = []
    for event in watch(client, nonce="", job=attached):
        if isinstance(event, CauseFound):
            seen.append(event.cause.kind)
            job.message = ""
            job.begin()
            job.end()
    assert seen == ["unplaceable"]
    seen = [event.cause.kind for event in watch(client, nonce="", job=attached) if isinstance(event, CauseFound)]
    assert seen == []


REJECTED = "rejected bid: this node does not resolve environment variable KEY: environment variable 'KEY' is not in allowed patterns"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (REJECTED, "The node n-2e2b7e09 does not let jobs have 'KEY' of its environment."),
        ("rejected bid: docker engine component not found", "The node n-2e2b7e09 refused the job: docker engine component not found."),
    ],
)
def test_rejected_bid_is_told_and_ends_the_job(server: Server, client: Client, message: str, sentence: str) -> None:
    """A node that takes no part is told in its words, and ends a job that the server would leave pending without a word."""
    job = JobScript(server)
    job.add("Requested execution on n-2e2b7e09", "Scheduling", job.execution, NodeID=NODE)
    job.add(message, "Exec Scanning", job.execution)
    job.executions.append({"ID": job.execution, "NodeID": NODE, "ComputeState": {"StateType": 4, "Message": message}})
    events = list(watch(client, poll_interval=5.0))
    assert [event.cause.sentence for event in events if isinstance(event, CauseFound)] == [sentence]
    assert job.stops == ["bacalhau-magic: refused"]
    assert server.streams == 0  # a node keeps the log of what it refused open, and all others wait
    record = ended(events).record
    after = main(causes(record.history, record.executions, record.job, client.nodes()))
    assert after is not None
    assert (after.sentence, after.kind) == (sentence, "refused")


def test_full_node_is_waited_for(server: Server, client: Client) -> None:
    """A node that could take the job and is full is no reason to give up: it starts by itself."""
    job = JobScript(server)
    wanted = Job.model_validate({"Tasks": [{"Resources": {"CPU": "1.5"}}]})
    busy = "node busy with available capacity {CPU: 0.10, Memory: 20 GB, Disk: 203 GB, GPU: 0}"
    job.add(f"Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node n-2e2b7e09: {busy}", "Queueing")
    job.state = "Queued"
    seen = []
    for event in watch(client, nonce="", job=wanted):
        if isinstance(event, CauseFound):
            seen.append(event.cause)
            job.begin()
            job.end()
    assert seen[0].kind == "busy"
    assert "starts by itself" in seen[0].advice
    assert job.stops == []


def test_refusal_that_is_waited_for_has_no_log(server: Server, client: Client) -> None:
    """After a refusal that may pass the log is asked for when the server says that another execution runs, and not before."""
    job = JobScript(server)
    job.add("Requested execution on n-2e2b7e09", "Scheduling", job.execution, NodeID=NODE)
    job.add("rejected bid: not enough capacity, queue is full", "Exec Scanning", job.execution)
    server.on("GET", "/orchestrator/nodes", {"Nodes": []})

    def go_on() -> None:
        waited.append(server.streams)
        job.execution = "e-2"
        job.begin("n-bbbbbbbb-9704-40b8-a87a-1b6b42761e17")

    def logs(stream: Socket, number: int) -> None:
        for line in packets(BLOB, text="here\n"):
            stream.line(line)
        job.end()
        stream.close()

    server.on_logs(logs)
    waited: list[int] = []
    later = threading.Timer(2.5, go_on)
    later.start()
    events = list(watch(client, poll_interval=0.2))
    later.join()
    assert [event.cause.kind for event in events if isinstance(event, CauseFound)][:1] == ["refused"]
    assert (waited, job.stops) == ([0], [])
    assert ended(events).blob == BLOB


def test_stream_cut_in_the_middle_of_a_frame(server: Server, client: Client) -> None:
    """A log stream that breaks inside a frame is opened again, and nothing is lost or shown twice."""
    job = JobScript(server)
    job.begin()
    lines = ["one\n", "two\n", *packets(BLOB)]

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            stream.line("one\n")
            stream.half('{"value":{"Type":1,"Line":"two')
            return None
        for line in lines:
            stream.line(line)
        job.end()
        return stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert printed(events) == "one\ntwo\n"
    assert server.streams == 2


@pytest.mark.parametrize("frame", ["not json", "[]", '{"value": 5}', '{"value": {"Type": "x", "Line": {}}}', "{" * 50_000])
def test_strange_frames_end_the_stream_and_not_the_wait(server: Server, client: Client, frame: str) -> None:
    """A frame that is not what was agreed is no text; the stream is opened again and the result comes."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            stream.text(frame)
            return stream.stay()
        for line in packets(BLOB):
            stream.line(line)
        job.end()
        return stream.close()

    server.on_logs(logs)
    assert ended(list(watch(client))).blob == BLOB


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_an_hour_off(server: Server, client: Client, hours: int) -> None:
    """A server whose clock is an hour off, in times and headers, changes nothing: waits go by this machine's own clock."""
    job = JobScript(server)
    there = datetime.now(UTC) + timedelta(hours=hours)
    script = job._history

    def history(request: object) -> tuple[int, object, dict[str, str]]:
        answer = script(request)  # type: ignore[arg-type]
        for item in answer["Items"]:
            item["Time"] = item["Event"]["Timestamp"] = there.isoformat().replace("+00:00", "Z")
        return 200, answer, {"Date": format_datetime(there, usegmt=True)}

    server.on("GET", f"/orchestrator/jobs/{JOB}/history", history)
    job.begin()

    def logs(stream: Socket, _: int) -> None:
        for line in packets(BLOB, text="hi\n"):
            stream.line(line)
        job.end()
        stream.close()

    server.on_logs(logs)
    events = list(watch(client))
    assert ended(events).blob == BLOB
    assert printed(events) == "hi\n"
    assert not [event for event in events if isinstance(event, (CauseFound, ContactChanged, Noticed))]


def test_background_jobs_hold_few_streams(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twenty jobs in the background at most sixteen hold a log stream at once; every one gets its result."""
    # Jobs that other tests of this process left running hold slots, too.
    monkeypatch.setattr(_livelog, "_background_streams", threading.BoundedSemaphore(_livelog._MAX_BACKGROUND_STREAMS))
    job = JobScript(server)
    job.begin()
    lock, release = threading.Lock(), threading.Event()
    open_now, held = [0], []

    def logs(stream: Socket, _: int) -> None:
        stream.line(packets(BLOB)[0])  # a stream that says something is not replaced
        with lock:
            open_now[0] += 1
            is_sixteenth = open_now[0] == 16
        if is_sixteenth:
            release.wait(1.0)  # time for a seventeenth to come, if it would
            held.append(open_now[0])
            release.set()
        while not release.wait(0.02) and not stream.dropped.is_set():
            pass
        if stream.dropped.is_set():  # a busy machine brought the first line late, and the client asked anew
            with lock:
                open_now[0] -= 1
            return
        for line in packets(BLOB)[1:]:
            stream.line(line)
        job.end() if job.state == "Running" else None
        stream.close()
        with lock:
            open_now[0] -= 1

    server.on_logs(logs)
    blobs: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: blobs.append(ended(list(watch(client, background=True))).blob)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs == [BLOB] * 20
    assert held[0] == 16
