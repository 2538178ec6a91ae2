"""What comes back for a job with secrets is told without them here too, whatever server, log and wrapper do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import SECRET, seen
from scripted import JOB, JobScript, Request, Server, Socket

from bacalhau_magic import _argspec, _commands, _marks, _secrets
from bacalhau_magic._session import Session
from bacalhau_magic._surroundings import Surroundings
from bacalhau_magic.errors import BacalhauMagicError, RejectedError
from bacalhau_magic.remote.packets import Writer, pack_bundle

ERROR = {"ename": "ValueError", "evalue": f"no {SECRET}", "traceback": f"Traceback\nValueError: no {SECRET}\n", "mro": ["ValueError"]}


class Leaky(JobScript):
    """A cluster whose jobs print, raise and show their secret, past a wrapper that does nothing about it."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.sent: list[dict[str, Any]] = []
        server.on("GET", "/agent/alive", {"Status": "OK"})
        server.on("PUT", "/orchestrator/jobs", self.put)
        server.on_logs(self._logs)

    def put(self, request: Request) -> dict[str, Any]:
        self.sent.append(json.loads(request.body)["Job"])
        self.begin()
        return {"JobID": JOB}

    def job(self) -> dict[str, Any]:
        return {**super().job(), **({"Tasks": self.sent[-1]["Tasks"], "Labels": self.sent[-1]["Labels"]} if self.sent else {})}

    def _logs(self, stream: Socket, _: int) -> None:
        nonce, lines = self.sent[-1]["Tasks"][0]["Meta"][_marks.META_NONCE], []
        writer = Writer(nonce, lines.append)
        writer.packet("s", b'{"language":"python"}')
        raw = f"said {SECRET}!\n".encode()
        shown = json.dumps({"text/plain": repr(SECRET), "image/png": "AAAA"}).encode()
        parts = [("stdout", "", raw), ("stderr", "", raw), ("mime", "", shown)]
        writer.blob(pack_bundle({"outcome": "error", "exit_code": 1, "error": ERROR, "unsendable": {"": SECRET}}, parts))
        stream.line(lines[0].decode())
        for piece in (raw[:9], raw[9:20], raw[20:]):
            stream.line(piece.decode())
        for line in lines[1:]:
            stream.line(line.decode())
        if self.state == "Running":
            self.end()
        stream.close()


@pytest.fixture
def session(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path / "data"))
    made = Session(Surroundings(namespace={}), tmp_path)
    made.configure({"api_url": server.url})
    yield made
    made.close()


def test_what_a_leaky_job_brings(server: Server, session: Session) -> None:
    """Log, events, result, error and its attributes have no secret, although the job's wrapper let it through."""
    Leaky(server)
    options = _argspec.from_call({"secret": "PLANTED_TOKEN", "secret_in_spec": True})
    job = session.submit("1/0", options)
    error = job.error
    assert error is not None
    result = job.known_result
    assert result is not None
    shown = [job.stdout, job.stderr, list(job.logs()), job.events, job.snapshot, vars(error), str(error), repr(error), error.args]
    shown += [result.mime, result.unsendable, result.notices, result.stdout_bytes.decode(), result.record.job.wire(), result.record.history]
    assert seen(str(shown)) == []
    assert job.stdout == "said ••••!\n"
    assert list(job.logs()) == [("stdout", "said ••••!")]
    assert result.mime == {"text/plain": "'••••'", "image/png": "AAAA"}
    assert str(vars(error)).count("••••") >= 3


def test_what_a_server_says_when_it_refuses(server: Server, session: Session) -> None:
    """A refusal that repeats the spec is an error without the secret in its message, hint and other facts."""
    Leaky(server)
    server.on(
        "PUT", "/orchestrator/jobs", (400, {"Status": 400, "Message": f"variable PLANTED_TOKEN={SECRET} is wrong", "Code": "BadRequest"})
    )
    with pytest.raises(RejectedError) as refused:
        session.submit("1", _argspec.from_call({"secret": "PLANTED_TOKEN", "secret_in_spec": True}))
    assert "PLANTED_TOKEN=••••" in str(refused.value)
    problem: BaseException | None = refused.value
    while isinstance(problem, BacalhauMagicError):
        assert seen(str((problem, repr(problem), vars(problem), problem.args))) == []
        problem = problem.__cause__ or problem.__context__


def test_names_that_sound_secret() -> None:
    """Keys, tokens and passwords are told from other names."""
    for name in ("API_KEY", "KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUBTOKEN", "DB_PASSWORD", "PASSWD", "apikey", "CREDENTIALS"):
        assert _secrets.looks_secret([name]) == name
    for name in ("DB_PASS", "SMTP_AUTH", "AUTHORIZATION", "SSHKEY", "API_KEYS", "PRIVATE", "AWS_CREDS", "ROOT_PWD"):
        assert _secrets.looks_secret([name]) == name
    assert (
        _secrets.looks_secret(["KEYBOARD", "MONKEY", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "PATH", "PASS_COUNT", "AUTHOR", "PASSAGE"])
        == ""
    )


def test_values_in_no_repr(session: Session) -> None:
    """Neither what holds the values nor the header that carries them, nor a request, has them in its repr."""
    request = session.request("1", _argspec.from_call({"secret": "PLANTED_TOKEN"}))
    assert request.secrets["PLANTED_TOKEN"] == SECRET
    assert seen(repr((request, request.secrets, {"X": _secrets.header(request.secrets)}))) == []
    assert repr(request.secrets) == "Secrets(PLANTED_TOKEN)"


def test_a_secret_in_two_pieces_of_a_log(server: Server, session: Session, tmp_path: Path) -> None:
    """`%bacalhau logs` of another session and the whole of a long log have no secret that came in two messages."""
    Leaky(server)
    job = session.submit("1/0", _argspec.from_call({"secret": "PLANTED_TOKEN", "secret_in_spec": True}))
    assert job.error is not None
    job._log.dropped = 1  # as of a log whose middle is kept by the node alone
    other = Session(Surroundings(namespace={}), tmp_path)
    other.configure({"api_url": server.url})
    try:
        assert str(_commands.run(other, f"logs {JOB}")) == "said ••••!\n"
        assert list(job.logs()) == [("stdout", "said ••••!")]
    finally:
        other.close()


def test_a_server_asks_for_no_other_name(server: Server, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a server lists for a job that was not sent from here are not asked for in the environment."""
    monkeypatch.setenv("UNASKED_VALUE", "said")
    leaky = Leaky(server)
    named = _argspec.from_call({"secret": "PLANTED_TOKEN", "secret_in_spec": True})
    assert session.submit("1/0", named).error is not None
    leaky.sent[-1]["Tasks"][0]["Meta"][_marks.META_SECRETS] = "PLANTED_TOKEN,UNASKED_VALUE"
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path / "elsewhere"))
    other = Session(Surroundings(namespace={}), tmp_path)
    other.configure({"api_url": server.url})
    try:
        assert str(_commands.run(other, f"logs {JOB}")) == "said ••••!\n"
    finally:
        other.close()
