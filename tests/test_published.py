"""A result that its log lost is completed from what the job published, or its loss is said."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import JOB, NODE, JobScript, Request, Server, Socket

from bacalhau_magic import _jobs, _marks, _published
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._results import collect
from bacalhau_magic._session import Session
from bacalhau_magic._stages import Ended, Endpoint, JobRef, Transferred
from bacalhau_magic._watch import watch
from bacalhau_magic.client import Client
from bacalhau_magic.errors import CorruptResultError, MissingResultError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.remote import codec
from bacalhau_magic.remote.packets import Writer, pack_bundle

NONCE = "ab" * 8
VALUE = list(range(3000))


def stdout(value: object = VALUE, text: bytes = b"x" * 4000 + b"\n") -> bytes:
    """What a job with a wrapper writes: its first packet, its text, its result."""
    found: list[bytes] = []
    writer = Writer(NONCE, found.append)
    writer.packet("s", b'{"language":"python"}')
    writer.plain(text)
    writer.blob(pack_bundle({"outcome": "ok", "exit_code": 0}, [("stdout", "", text), ("value", "", codec.dumps(value))]))
    return b"".join(found)


def archive(out: bytes | None, err: bytes = b"warned\n", *, files: bytes = b"the user's own") -> bytes:
    """The archive of a local publisher; without `out` one that holds other things."""
    data = io.BytesIO()
    streams = (("./stdout", out), ("./stderr", err)) if out is not None else ()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in (("./exitCode", b"0"), *streams, ("./outputs/stdout", files)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url), requests_per_second=500.0) as found:
        yield found


class Old(JobScript):
    """A node before 1.8: a finished log is 2,048 bytes, and the job publishes where `data` is given."""

    def __init__(self, server: Server, data: bytes | None, *, wrapped: bool = True) -> None:
        super().__init__(server)
        self.published, self.wrapped = data is not None, wrapped
        server.on("GET", "/agent/version", {"Major": "1", "Minor": "7", "GitVersion": "v1.7.0"})
        url = f"http://127.0.0.1:{server.url.rpartition(':')[2]}/e-1.tar.gz"
        results = [{"Type": "urlDownload", "Params": {"URL": url}}] if self.published else []
        server.on("GET", f"/orchestrator/jobs/{JOB}/results", {"Items": results})
        server.on("GET", "/e-1.tar.gz", (200, data) if data else (404, b"gone"))

    def job(self) -> dict:
        task = {"Meta": {_marks.META_NONCE: NONCE} if self.wrapped else {}, "Publisher": {"Type": "local" if self.published else ""}}
        return {**super().job(), "Tasks": [task]}


def ended(server: Server, client: Client, script: Old, log: bytes) -> Ended:
    """The end of a job whose live log was missed: it was over before its stream was open."""
    script.begin()

    def logs(stream: Socket, _: int) -> None:
        if script.state == "Running":
            script.end()
        stream.line(log[:2048].decode() + "\n")
        stream.close()

    server.on_logs(logs)
    ref = JobRef(JOB, client.endpoint)
    last = list(watch(client, ref, nonce=NONCE if script.wrapped else "", max_result=1_000_000, poll_interval=0.2))[-1]
    assert isinstance(last, Ended)
    return last


def outcome(client: Client, end: Ended, lang: str = "python", nonce: str = NONCE) -> object:
    """The value of a job as the flow collects it, or its text, or its error."""
    ref = JobRef(JOB, client.endpoint)
    if _published.is_wanted(end):
        end = _published.completed(client, ref, end, nonce=nonce, max_result=1_000_000)
    got = collect(ref, end, language=BUILT_IN[lang], options=JobOptions(lang=lang))
    return got.error or got.value or got.stdout


def test_incomplete_log_is_completed(server: Server, client: Client) -> None:
    """Before 1.8, a result that was not read while the job ran comes from the published archive, whole."""
    end = ended(server, client, Old(server, archive(stdout())), stdout())
    assert end.blob is None
    assert outcome(client, end) == VALUE
    assert server.count("GET", "/e-1.tar.gz") == 1


def test_published_text_is_the_jobs_own(server: Server, client: Client) -> None:
    """What is shown is the job's text without packets, and its stderr."""
    end = ended(server, client, Old(server, archive(stdout())), stdout())
    whole = _published.completed(client, JobRef(JOB, client.endpoint), end, nonce=NONCE, max_result=1_000_000)
    assert (whole.stdout, whole.stderr, whole.cut, whole.problem) == ("x" * 4000 + "\n", "warned\n", False, "")


def test_without_a_publisher_the_loss_is_said(server: Server, client: Client) -> None:
    """Before 1.8 and without a publisher, a missed result is an error that says what to do, never a shorter value."""
    end = ended(server, client, Old(server, None), stdout())
    assert not _published.is_wanted(end)
    lost = outcome(client, end)
    assert isinstance(lost, CorruptResultError)
    assert lost.hint
    assert lost.job_id == JOB


@pytest.mark.parametrize("data", [archive(stdout()[:8000]), b"junk", archive(b"")], ids=["cut", "junk", "empty"])
def test_damaged_archive_is_no_result(server: Server, client: Client, data: bytes) -> None:
    """An archive that is damaged or holds less is an error that says so."""
    lost = outcome(client, ended(server, client, Old(server, data), stdout()))
    assert isinstance(lost, (CorruptResultError, MissingResultError))


def test_archive_that_is_gone(server: Server, client: Client) -> None:
    """An archive that is not there any more is said beside what the log lacked."""
    script = Old(server, archive(stdout()))
    server.on("GET", "/e-1.tar.gz", (404, b"gone"))
    lost = outcome(client, ended(server, client, script, stdout()))
    assert isinstance(lost, CorruptResultError)
    assert "published copy can't be used" in lost.message
    assert "404" in lost.message


def test_text_without_packets_is_never_cut(server: Server, client: Client) -> None:
    """Text of an image that can't run the wrapper is whole or an error: 2,048 bytes of it are no value."""
    text = b"".join(b"%d\n" % number for number in range(2000))
    end = ended(server, client, Old(server, None), text)
    assert end.cut
    lost = outcome(client, end, "bash")
    assert isinstance(lost, MissingResultError)
    assert "can't be read to its end" in lost.message


TEXT = "".join(f"{number}\n" for number in range(2000))


def closing(server: Server, script: Old, text: str = TEXT) -> None:
    """A job whose log closes by itself, and may lack a last line without a newline."""
    server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
    script.begin()

    def logs(stream: Socket, number: int) -> None:
        for line in text.splitlines(keepends=True):
            stream.line(line)
        if number == 1:
            script.end()
            script.executions[-1]["RunOutput"] |= {"Stdout": text[:2048], "StdoutTruncated": True}
        stream.close()

    server.on_logs(logs)


def unproven(server: Server, client: Client, script: Old, *, nonce: str = "", text: str = TEXT) -> Ended:
    """The end of such a job."""
    closing(server, script, text)
    end = list(watch(client, JobRef(JOB, client.endpoint), nonce=nonce, max_result=1_000_000, poll_interval=0.2))[-1]
    assert isinstance(end, Ended)
    assert (end.cut, end.unproven, end.stdout) == (False, True, text)
    return end


@pytest.mark.parametrize(("there", "last"), [(True, "last"), (False, "1999\n")])
def test_text_that_may_lack_its_end_comes_from_the_archive(server: Server, client: Client, there: bool, last: str) -> None:
    """A log that closed by itself may lack a last line without a newline: what was published has it; an archive that is gone takes nothing."""
    script = Old(server, archive(f"{TEXT}last".encode(), b""), wrapped=False)
    if not there:
        server.on("GET", "/e-1.tar.gz", (404, b"gone"))
    value = outcome(client, unproven(server, client, script), "bash", nonce="")
    assert isinstance(value, str)
    assert value.endswith(last)


@pytest.mark.parametrize(
    "data",
    [archive(None), archive(b"", b""), archive(TEXT[:-100].encode(), b""), archive(b"other" + TEXT.encode(), b"")],
    ids=["none", "empty", "less", "other"],
)
@pytest.mark.parametrize("nonce", ["", NONCE])
def test_archive_without_what_was_heard_takes_nothing(server: Server, client: Client, data: bytes, nonce: str) -> None:
    """What was heard stays, and what was unproven stays so, where the archive holds another text or less of it."""
    end = unproven(server, client, Old(server, data, wrapped=bool(nonce)), nonce=nonce)
    got = _published.completed(client, JobRef(JOB, client.endpoint), end, nonce=nonce, max_result=1_000_000)
    assert server.count("GET", "/e-1.tar.gz") == 1
    assert (got.stdout, got.unproven) == (TEXT, True)


def test_no_large_archive_comes_for_a_line_that_may_be_missing(server: Server, client: Client) -> None:
    """A text that is likely whole is not worth an archive of many times its size: that is refused by its length alone."""
    data = archive(f"{TEXT}last".encode(), b"", files=os.urandom(9_000_000))
    end = unproven(server, client, Old(server, data, wrapped=False))
    heard: list[int] = []
    got = _published.completed(
        client, JobRef(JOB, client.endpoint), end, nonce="", max_result=100_000_000, said=lambda done, _: heard.append(done)
    )
    assert server.count("GET", "/e-1.tar.gz") == 1
    assert (got.stdout, got.unproven, heard) == (TEXT, True, [])


@pytest.mark.parametrize("stopped", [False, True])
def test_stop_ends_the_wait_for_a_line_that_may_be_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """While the archive of a job that is attached to comes, its bytes are told and Stop is heard; the text stays, as unproven as it was."""
    monkeypatch.setenv("BACALHAU_API_URL", server.url)
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path / "data"))
    data = archive(f"{TEXT}last".encode(), b"", files=os.urandom(1_000_000))
    closing(server, Old(server, data, wrapped=False))
    session = Session(folder=tmp_path)
    try:
        job = _jobs.follow(session, JOB)

        def fetched(_: Request) -> tuple[int, bytes]:
            if stopped:
                job.cancel()
            return 200, data

        server.on("GET", "/e-1.tar.gz", fetched)
        assert job.error is None
        assert job.stdout == (TEXT if stopped else f"{TEXT}last")
        assert [event.done for event in job.events if isinstance(event, Transferred)]
        assert server.count("GET", "/e-1.tar.gz") == 1
    finally:
        session.close()


@pytest.mark.parametrize(("keeps", "fetched"), [("v1.9.3", 0), ("v1.7.0", 1)], ids=["doubt", "cut"])
def test_stop_before_the_end_costs_no_result(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: str, fetched: int
) -> None:
    """A job that completed as Stop was pressed brings what is known to be missing, and no line that only may be."""
    monkeypatch.setenv("BACALHAU_API_URL", server.url)
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path / "data"))
    text = TEXT if fetched == 0 else TEXT[:2048]
    script = Old(server, archive(f"{TEXT}last".encode(), b""), wrapped=False)
    server.on("GET", "/agent/version", {"GitVersion": keeps})
    script.begin()
    session = Session(folder=tmp_path)
    sent = threading.Event()

    def logs(stream: Socket, _: int) -> None:
        sent.wait(10)
        for line in text.splitlines(keepends=True):
            stream.line(line)
        script.end()
        script.executions[-1]["RunOutput"] |= {"Stdout": TEXT[:2048], "StdoutTruncated": True}
        job.cancel()
        stream.close()

    server.on_logs(logs)
    try:
        job = _jobs.follow(session, JOB)
        sent.set()
        assert job.error is None
        assert job.stdout == (f"{TEXT}last" if fetched else TEXT)
        assert server.count("GET", "/e-1.tar.gz") == fetched
    finally:
        session.close()


def test_newline_of_the_wrapper_is_no_other_text(server: Server, client: Client) -> None:
    """Where the log lost the mark after a wrapper's own newline, the archive's text is the same without it."""
    published = f"{TEXT}last\n@bacalhau {NONCE} 0 t n - e30=\n"
    end = unproven(server, client, Old(server, archive(published.encode(), b"")), nonce=NONCE, text=f"{TEXT}last\n")
    assert outcome(client, end, "bash") == f"{TEXT}last"


def test_log_that_is_gone_is_no_empty_value(server: Server, client: Client) -> None:
    """After its hour a finished log is an error frame: that is said, and is no empty text."""
    script = Old(server, None)
    server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
    script.begin()
    script.end()
    server.on_logs(lambda stream, _: (stream.error("timeout while waiting for execution logs"), stream.close()))
    end = list(watch(client, JobRef(JOB, client.endpoint), nonce=NONCE, max_result=1_000_000, poll_interval=0.2))[-1]
    assert isinstance(end, Ended)
    assert end.cut
    assert isinstance(outcome(client, end, "bash"), MissingResultError)


def test_a_whole_result_asks_for_no_archive(server: Server, client: Client) -> None:
    """A result that came with the live log is not fetched a second time."""
    script = Old(server, archive(stdout()))
    script.begin()

    def logs(stream: Socket, _: int) -> None:
        for line in stdout().decode().splitlines(keepends=True):
            stream.line(line)
        script.end()
        stream.close()

    server.on_logs(logs)
    end = list(watch(client, JobRef(JOB, client.endpoint, "default", NODE), nonce=NONCE, max_result=1_000_000, poll_interval=0.2))[-1]
    assert isinstance(end, Ended)
    assert not _published.is_wanted(end)
    assert outcome(client, end) == VALUE
