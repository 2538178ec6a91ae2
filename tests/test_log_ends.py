"""The end of a log without packets: what a stream that closed too early did not bring is completed, or said to be missing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from scripted import JOB, JobScript, Recorded, Server, Socket

from bacalhau_magic import _watch
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._marks import META_NONCE
from bacalhau_magic._results import collect
from bacalhau_magic._stages import Ended, Endpoint, JobRef
from bacalhau_magic._wire import Job
from bacalhau_magic.client import Client
from bacalhau_magic.errors import JobFailedError, MissingResultError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.remote import codec
from bacalhau_magic.remote.packets import Writer, pack_bundle

NONCE = "ab" * 8
LONG = "".join(f"{number}\n" for number in range(2000))


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url), requests_per_second=200.0) as found:
        yield found


def watched(client: Client, job_id: str = JOB, job: Job | None = None, nonce: str = "") -> tuple[JobRef, Ended]:
    ref = JobRef(job_id, client.endpoint, "default", "test")
    end = list(_watch.watch(client, ref, nonce=nonce, max_result=1_000_000, poll_interval=0.2, job=job))[-1]
    assert isinstance(end, Ended)
    return ref, end


def logging(server: Server, live: str, later: str, *, record: str, truncated: bool = False, warned: str = "") -> JobScript:
    """A job whose stream brings `live` and closes cleanly, and `later` whenever its finished log is read."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            job.end()
            job.executions[-1]["RunOutput"] |= {"Stdout": record, "StdoutTruncated": truncated, "stderr": warned}
        for line in (live if number == 1 else later).splitlines(keepends=True):
            stream.line(line)
        if warned and number == 1:
            stream.line(warned.splitlines(keepends=True)[0], 2)
        stream.close()

    server.on_logs(logs)
    return job


@pytest.mark.parametrize("missing", ["last", "last\n", "x" * 1500])
def test_last_line_that_the_stream_lost_comes_from_the_record(server: Server, client: Client, missing: str) -> None:
    """A stream that closes cleanly without its last line is completed from the job's record, and from nowhere else."""
    logging(server, "first\n", "first\n", record=f"first\n{missing}")
    _, end = watched(client)
    assert (end.stdout, end.cut, server.streams) == (f"first\n{missing}", False, 1)


def test_stderr_is_completed_too(server: Server, client: Client) -> None:
    """What stderr lost comes from the record as well, without any line shown twice."""
    logging(server, "out\n", "out\n", record="out\n", warned="one\ntwo\n")
    _, end = watched(client)
    assert (end.stdout, end.stderr, end.cut) == ("out\n", "one\ntwo\n", False)


@pytest.mark.parametrize("version", ["v1.9.3", "v0.0.0-xxxxxxx"])
def test_end_of_a_long_log_is_read_again(server: Server, client: Client, version: str) -> None:
    """A long log, of which the record has only the beginning, is read once more when it is over."""
    logging(server, LONG, LONG + "last", record=LONG[:2048], truncated=True)
    server.on("GET", "/agent/version", {"GitVersion": version})
    _, end = watched(client)
    assert (end.stdout, end.cut, end.unproven, server.streams) == (LONG + "last", False, False, 2)


@pytest.mark.parametrize("there", [True, False])
def test_text_of_a_wrapper_without_tools_ends_with_its_mark(server: Server, client: Client, there: bool) -> None:
    """A long text that no packets carry is whole once its mark came; without the mark it is no value, however its log closed."""
    script = logging(server, LONG, LONG + f"last\n@bacalhau {NONCE} 0 t n - e30=\n" * there, record=LONG[:2048], truncated=True)
    script.meta = {META_NONCE: NONCE}
    ref, end = watched(client, nonce=NONCE)
    result = collect(ref, end, language=BUILT_IN["bash"], options=JobOptions())
    if there:
        assert (end.cut, end.unproven, result.error, result.stdout) == (False, False, None, LONG + "last")
    else:
        assert isinstance(result.error, MissingResultError)
        assert "lacks the mark" in result.error.message
        assert result.error.hint.startswith("Run the cell again, with --publisher local")
        assert "The log was cut off, or the image lacks" in result.error.hint


def test_stderr_after_the_mark_is_read(server: Server, client: Client) -> None:
    """The mark ends stdout alone: what stderr brings a moment later is heard, by the same stream."""
    script = JobScript(server)
    script.meta = {META_NONCE: NONCE}
    script.begin()

    def logs(stream: Socket, _: int) -> None:
        stream.line(LONG)
        stream.line(f"@bacalhau {NONCE} 0 t n - e30=\n")
        script.end(exit_code=3)
        script.executions[-1]["RunOutput"] |= {"Stdout": LONG[:2048], "StdoutTruncated": True}
        time.sleep(0.1)
        stream.line("the cause\n", 2)
        stream.close()

    server.on_logs(logs)
    ref, end = watched(client, nonce=NONCE)
    result = collect(ref, end, language=BUILT_IN["bash"], options=JobOptions())
    assert (end.stdout, end.stderr, end.unproven, server.streams) == (LONG.removesuffix("\n"), "the cause\n", False, 1)
    assert "the cause" in str(result.error)


def test_mark_of_the_cell_ends_no_result(server: Server, client: Client) -> None:
    """A cell that prints the mark, between the wrapper's own packets, gets its result all the same, and whole."""
    script = JobScript(server)
    script.meta = {META_NONCE: NONCE}
    script.begin()
    found: list[bytes] = []
    writer = Writer(NONCE, found.append)
    writer.packet("s", b'{"language":"python"}')
    writer.plain(f"@bacalhau {NONCE} 0 t - - e30=\n".encode())
    writer.blob(pack_bundle({"outcome": "ok", "exit_code": 0}, [("value", "", codec.dumps(42))]))

    def logs(stream: Socket, _: int) -> None:
        for line in found[:2]:
            stream.line(line.decode())
        script.end()
        time.sleep(0.1)
        for line in found[2:]:
            stream.line(line.decode())
        stream.close()

    server.on_logs(logs)
    ref, end = watched(client, nonce=NONCE)
    result = collect(ref, end, language=BUILT_IN["python"], options=JobOptions())
    assert (result.error, result.value, server.streams) == (None, 42, 1)


@pytest.mark.parametrize(("text", "proven"), [(LONG, False), (LONG + "last", True), ("short\n", True)])
def test_text_that_may_lack_its_end_is_said_to(server: Server, client: Client, text: str, proven: bool) -> None:
    """Of a job without a wrapper, a long text whose last line is ended may have lost one: it comes with that said."""
    logging(server, text, text, record=text[:2048], truncated=len(text) > 2048)
    ref, end = watched(client)
    result = collect(ref, end, language=BUILT_IN["bash"], options=JobOptions())
    assert (end.unproven, result.error, result.stdout) == (not proven, None, text)
    assert ("may lack its last line" in result.notices[0]) is not proven


def test_excerpt_takes_nothing_back(server: Server, client: Client) -> None:
    """A server that serves only an excerpt of a finished log, and tells no version, takes nothing from what was heard."""
    logging(server, LONG, LONG[:2048] + "\n", record=LONG[:2048], truncated=True)
    server.on("GET", "/agent/version", {"GitVersion": "v0.0.0-xxxxxxx"})
    _, end = watched(client)
    assert (end.stdout, end.cut) == (LONG, False)


def test_end_that_nobody_has_is_said(server: Server, client: Client) -> None:
    """Where neither the record nor the log completes what was heard the value is an error, not the rest of it."""
    logging(server, "0\n1\n", "0\n1\n", record=LONG[:2048], truncated=True)
    ref, end = watched(client)
    result = collect(ref, end, language=BUILT_IN["bash"], options=JobOptions())
    assert isinstance(result.error, MissingResultError)
    assert "can't be read to its end" in str(result.error)
    assert not result.has_value


def test_cut_log_of_a_lost_node_is_not_the_next_one_s(server: Server, client: Client) -> None:
    """That an execution's log was cut, on a node before 1.8, says nothing of the one that takes its place."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            stream.line("x" * 2047 + "\n")
            job.fail("Execution stop requested because node has disappeared")
            job.execution = "e-2"
            job.begin("n-bbbbbbbb-9704-40b8-a87a-1b6b42761e17")
            return stream.close()
        if number == 2:
            job.end()
            return stream.stay()
        stream.line("second\n")
        return stream.close()

    server.on_logs(logs)
    server.on("GET", "/agent/version", {"GitVersion": "v1.7.0"})
    _, end = watched(client)
    assert (end.stdout, end.cut) == ("second\n", False)


@pytest.mark.parametrize("version", ["1.5.2", "1.7.0", "1.9.3"])
@pytest.mark.parametrize("name", ["inline-directory", "stdout-cap", "hello"])
def test_recorded_logs_come_whole(server: Server, client: Client, name: str, version: str) -> None:
    """The text is whole, also where the recorded stream closed before the last line came; before 1.8, or said to be cut."""
    script = Recorded(server, name, version)
    _, end = watched(client, script.job_id, Job.model_validate(script.data["job"]["Job"]))
    output = script.data["executions"]["Items"][0]["RunOutput"]
    if end.cut:
        assert (name, script.keeps_logs) == ("stdout-cap", False)
    elif output["StdoutTruncated"]:
        assert end.stdout.startswith(output["Stdout"])
        assert end.stdout.endswith("4999\n")
    else:
        # Before 1.8 a finished log ends with a newline of the server's own.
        assert end.stdout.rstrip("\n") == output["Stdout"].rstrip("\n")


def test_wrapper_that_failed_at_once_is_not_waited_for(server: Server, client: Client) -> None:
    """A job that ended with an error before its first packet is told by its record, though its node serves no log; nobody waits for minutes."""
    job = JobScript(server)
    job.begin()

    def logs(stream: Socket, number: int) -> None:
        if number == 1:
            job.end(exit_code=2)
            job.executions[-1]["RunOutput"] |= {"stderr": "bootstrap.sh: dirname: not found\n"}
        stream.stay()

    server.on_logs(logs)
    ref = JobRef(JOB, client.endpoint, "default", "test")
    end = list(_watch.watch(client, ref, nonce="0123456789abcdef", max_result=1_000_000, poll_interval=0.2))[-1]
    assert isinstance(end, Ended)
    result = collect(ref, end, language=BUILT_IN["bash"], options=JobOptions())
    assert isinstance(result.error, JobFailedError)
    assert result.error.exit_code == 2
    assert "dirname: not found" in result.error.message
    assert server.streams == 2
