"""The Bacalhau CLI as the way to a cluster: the real one where it is on PATH, recorded words of it where not."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway import Gateway, gateway

from bacalhau_magic import _argspec, _commands
from bacalhau_magic._session import Session
from bacalhau_magic._stages import Credential, Endpoint
from bacalhau_magic._wire import STDERR, STDOUT
from bacalhau_magic.client import Client, LogStreamError
from bacalhau_magic.client._cli import _Streams, environment
from bacalhau_magic.errors import (
    ApiError,
    ConfigError,
    JobFailedError,
    NotFoundError,
    OptionError,
    RejectedError,
    UnauthorizedError,
    UnreachableError,
)
from bacalhau_magic.node import _daemon

KEY = "cli-front-door-key"
REAL = shutil.which("bacalhau")
real = pytest.mark.skipif(REAL is None, reason="the Bacalhau CLI is not on PATH")


@pytest.fixture
def cluster() -> Iterator[Gateway]:
    """A cluster behind a front door that wants KEY."""
    with gateway(_daemon.environment(), f"Bearer {KEY}") as opened:
        yield opened


@pytest.fixture
def session(folder: Path, cluster: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose cells go to that cluster by the CLI."""
    monkeypatch.setenv("BACALHAU_API_URL", cluster.url)
    monkeypatch.setenv("BACALHAU_API_KEY", KEY)
    monkeypatch.setenv("BACALHAU_MAGIC_TRANSPORT", "cli")
    made = Session(folder=folder)
    made.surroundings.place = lambda: "batch"
    made.surroundings.namespace = {}
    yield made
    made.close()


def run(session: Session, code: str, line: str = "") -> Any:
    return session.run(code, _argspec.parse(line))


# With the real CLI


@real
def test_cells(session: Session, cluster: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of every language run by the CLI: values, names, inputs and files come back."""
    session.surroundings.namespace["x"] = {"a": [1, 2]}
    assert run(session, "y = x['a'] + [3]", "-i x -o y") == {"y": [1, 2, 3]}
    assert run(session, "printf %s '{\"n\": 1}'", "--lang bash") == {"n": 1}
    assert run(session, "console.log(JSON.stringify(6 * 7))", "--lang javascript") == 42
    assert run(session, "open('outputs/a.txt', 'w').write('hello')", "--files got") == 5
    assert (session.folder / "got" / "a.txt").read_text() == "hello"
    assert len(cluster.paths("PUT")) == 4
    assert {given for _, path, given in cluster.seen if "orchestrator" in path} == {f"Bearer {KEY}"}


@real
def test_large_result(session: Session) -> None:
    """A result of megabytes comes back whole through the CLI's log, beside much that is printed on both streams."""
    code = "import sys\nfor i in range(2000):\n    print('line', i)\n    print('mist', end='', file=sys.stderr)\n'x' * 3_000_000"
    assert len(run(session, code)) == 3_000_000


@real
def test_errors(session: Session) -> None:
    """A remote exception, an exit code and a stop are the same errors as over HTTP."""
    with pytest.raises(ZeroDivisionError):
        run(session, "1/0")
    with pytest.raises(JobFailedError) as caught:
        run(session, "exit 3", "--lang bash")
    assert caught.value.exit_code == 3
    job = session.submit("import time; time.sleep(60)", _argspec.parse("--bg"))
    job.cancel()
    assert job.error is not None
    assert type(job.error).__name__ == "JobStoppedError"


@real
def test_verbs(session: Session) -> None:
    """The verbs about jobs and nodes work by the CLI."""
    job = session.submit("print('said')\n7", _argspec.parse("--bg --name named"))
    assert job.result(60) == 7
    session.jobs.clear()
    assert "completed" in repr(_commands.run(session, f"show {job.id}"))
    assert "said" in _commands.run(session, f"logs {job.id}")
    assert job.id[:10] in repr(_commands.run(session, "jobs --all"))
    assert len(_commands.run(session, "nodes")) == 1
    assert _commands.run(session, f"get {job.id}") == 7
    assert "image" in _commands.run(session, f"spec {job.id}").lower()
    assert "cli" in repr(_commands.run(session, ""))
    assert _commands.run(session, f"rerun {job.id}").result(60) == 7
    assert _commands.run(session, "doctor")


@real
def test_refusals(cluster: Gateway) -> None:
    """A wrong key, an unknown job and a server that is not there are our own errors, with the setting's name."""
    assert REAL is not None
    wrong = Endpoint(cluster.url, credential=Credential(key="not-it", origin="the test"), cli=REAL)
    with Client(wrong) as client, pytest.raises(UnauthorizedError, match="The key of the test went with it") as refused:
        client.nodes()
    assert refused.value.credential_origin == "the test"
    right = Endpoint(cluster.url, credential=Credential(key=KEY), cli=REAL)
    with Client(right) as client:
        with pytest.raises(NotFoundError):
            client.job("j-00000000-0000-4000-8000-000000000000")
        with pytest.raises(LogStreamError), client.logs("j-00000000-0000-4000-8000-000000000000") as stream:
            list(stream)
        with pytest.raises(RejectedError, match="missing job"):
            client.submit(b'{"Job": {"Name": "x"}}')
    with Client(Endpoint("http://127.0.0.1:9", cli=REAL)) as client:
        assert client.alive() is False
        with pytest.raises(UnreachableError):
            client.version()


# Without it


def stand_in(folder: Path, *lines: str) -> str:
    """An executable that says what the real CLI was recorded saying."""
    file = folder / "bacalhau"
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


SAID = {
    "unauthorized": (UnauthorizedError, "unauthorized"),
    "server is not running or not reachable at http://127.0.0.1:9": (UnreachableError, "can't be reached by the Bacalhau CLI"),
    "job not found: j-nowhere": (NotFoundError, "job not found: j-nowhere"),
    "the job provided is invalid: missing job type": (RejectedError, "missing job type"),
}


@pytest.mark.parametrize("said", SAID)
def test_words_of_the_cli(folder: Path, said: str) -> None:
    """What version 1.9.3 of the CLI said in colours, with its hint, is an error of ours without either."""
    kind, words = SAID[said]
    cli = stand_in(
        folder, rf"printf '\n\033[31mError: \033[0m{said}\n\033[32mHint:  \033[0mto resolve this, either:\n1. Ensure\n' >&2; exit 1"
    )
    with Client(Endpoint("http://h:1", cli=cli)) as client, pytest.raises(kind) as caught:
        client.nodes()
    assert isinstance(caught.value, ApiError)
    assert words in caught.value.message
    assert "\x1b" not in str(caught.value)
    assert "Ensure" not in caught.value.message


def test_program_that_is_not_there(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program a cell is refused, naming it and BACALHAU_PATH; nothing runs elsewhere instead."""
    monkeypatch.setenv("BACALHAU_PATH", "/nowhere/bacalhau")
    with pytest.raises(ConfigError, match="/nowhere/bacalhau") as caught:
        run(session, "1")
    assert "BACALHAU_PATH" in caught.value.hint


def test_first_words_of_the_cli(folder: Path) -> None:
    """What the CLI says of its folder before its answer is no part of that."""
    cli = stand_in(folder, "echo 'Initializing repo at /x [y]'", "echo '[]'")
    with Client(Endpoint("http://h:1", cli=cli)) as client:
        assert client.nodes() == []


def test_server_that_does_not_answer(folder: Path) -> None:
    """A version without the server's is an endpoint that can't be reached, although the program calls it a success."""
    cli = stand_in(folder, """echo '{"clientVersion": {"GitVersion": "v1.9.3"}}'""")
    with Client(Endpoint("http://h:1", cli=cli)) as client, pytest.raises(UnreachableError, match="does not answer"):
        client.version()


def test_answer_that_is_no_json(folder: Path) -> None:
    """A program that prints something else is an answer that was not expected."""
    cli = stand_in(folder, "echo hello")
    with Client(Endpoint("http://h:1", cli=cli)) as client, pytest.raises(ApiError, match="not JSON"):
        client.nodes()


def test_environment_of_the_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program gets this endpoint's address and credential, and none that belongs to another."""
    monkeypatch.setenv("BACALHAU_API_KEY", "of-another")
    monkeypatch.setenv("BACALHAU_API_HOST", "another.example")
    monkeypatch.setenv("BACALHAU_PROFILE", "another")
    monkeypatch.setenv("BACALHAU_DIR", "/kept")
    given = environment(Endpoint("https://h.example", credential=Credential(username="ann", password="pw"), verify=False, cli="bacalhau"))
    ours = {name: value for name, value in given.items() if name.startswith("BACALHAU_")}
    assert ours == {
        "BACALHAU_DIR": "/kept",
        "BACALHAU_API_HOST": "https://h.example",
        "BACALHAU_API_PORT": "443",
        "BACALHAU_API_TLS_USETLS": "true",
        "BACALHAU_API_TLS_INSECURE": "true",
        "BACALHAU_API_USERNAME": "ann",
        "BACALHAU_API_PASSWORD": "pw",
    }
    assert os.environ["BACALHAU_API_KEY"] == "of-another"


def test_the_program_finds_its_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, authorities and what a wrapper by ssh or kubectl needs reach the program as they are; a key of something else does not."""
    needed = {
        **{name: f"http://{name}.example" for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY", "no_proxy")},
        **{
            name: f"/of/{name}"
            for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "SSH_AUTH_SOCK", "KUBECONFIG", "KRB5CCNAME")
        },
        "GODEBUG": "netdns=go",
    }
    for name, value in {**needed, "AWS_SECRET_ACCESS_KEY": "of-something-else", "MY_KUBECONFIG": "mine"}.items():
        monkeypatch.setenv(name, value)
    cli = stand_in(folder, f"env > {folder}/variables", "echo '[]'")
    with Client(Endpoint("http://h:1", cli=cli)) as client:
        assert client.nodes() == []
    given = dict(line.split("=", 1) for line in (folder / "variables").read_text().splitlines())
    assert {name: given.get(name) for name in needed} == needed
    assert not {"AWS_SECRET_ACCESS_KEY", "MY_KUBECONFIG"} & given.keys()


def test_secrets_are_no_arguments(folder: Path) -> None:
    """Neither a credential nor a job's spec stands in the program's arguments, which others can read."""
    cli = stand_in(folder, f'echo "$@" >> {folder}/words', f"cat > {folder}/given", "echo j-1")
    with Client(Endpoint("http://h:1", credential=Credential(key=KEY), cli=cli)) as client:
        assert client.submit(b'{"Job": {"Name": "hidden-code"}}').job_id == "j-1"
    words = (folder / "words").read_text()
    assert words.split() == ["job", "run", "--wait=false", "--id-only", "--no-template"]
    assert "hidden-code" in (folder / "given").read_text()


@pytest.mark.parametrize("line", ["", "--secret-in-spec"])
def test_a_secret_of_the_cell(session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """A cell's secret stands in no argument and no variable of the program; what --secret-in-spec sends goes by its stdin."""
    secret = "planted-in-the-kernel"
    monkeypatch.setenv("MY_TOKEN", secret)
    said = folder / "said"
    said.mkdir()
    version, node = (
        '{"serverVersion": {"GitVersion": "v1.9.3"}}',
        (
            '[{"Info": {"NodeID": "n-1", "NodeType": "Compute", "ComputeNodeInfo": {"ExecutionEngines": ["docker"], "StorageSources": ["inline"],'
            ' "MaxCapacity": {"CPU": 4, "Memory": 16000000000, "Disk": 100000000000}, "MaxJobRequirements": {"CPU": 4, "Memory": 16000000000, "Disk": 100000000000}}},'
            ' "Membership": "APPROVED", "Connection": "CONNECTED", "ConnectionState": {"Status": "CONNECTED"}}]'
        ),
    )
    cli = stand_in(
        folder,
        f'echo "$@" >> {said}/words',
        f"env >> {said}/env",
        f"case $1-$2 in version-*) echo '{version}';; node-*) echo '{node}';; job-run) cat > {said}/spec; echo j-1;; *) exit 9;; esac",
    )
    monkeypatch.setenv("BACALHAU_PATH", cli)
    job = session.submit("len(__import__('os').environ['MY_TOKEN'])", _argspec.parse(f"--bg --secret MY_TOKEN {line}"))
    assert job.id == "j-1"
    assert "job run" in (said / "words").read_text()
    assert secret not in (said / "words").read_text() + (said / "env").read_text()
    assert f"BACALHAU_API_KEY={KEY}" in (said / "env").read_text()
    assert (secret in (said / "spec").read_text()) is bool(line)
    assert ("env:MY_TOKEN" in (said / "spec").read_text()) is not bool(line)


@pytest.mark.parametrize("name", ["--stderr errors", "--stdout text"])
def test_streams_can_not_be_told_apart(session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What the CLI can't give, a stream of its own, is refused before anything is sent."""
    version = '{"serverVersion": {"GitVersion": "v1.9.3"}}'
    monkeypatch.setenv("BACALHAU_PATH", stand_in(folder, f"case $1 in version) echo '{version}';; node) echo '[]';; *) exit 9;; esac"))
    with pytest.raises(OptionError, match="two streams as one"):
        session.submit("1", _argspec.parse(f"{name} --bg"))


def test_packet_after_an_open_line() -> None:
    """A packet that the merged log puts behind an open line of stderr begins a line again; bytes may be cut anywhere."""
    data = "half @bacalhau n 1 x\nwhole\n@bacalhau n 2 y\n10%\r20%\rü".encode()
    for size in (1, 3, 1000):
        split = _Streams()
        found = [piece for start in range(0, len(data), size) for piece in split.feed(data[start : start + size])] + list(split.feed(b""))
        assert found == [
            (STDERR, "half "),
            (STDOUT, "@bacalhau n 1 x\n"),
            (STDOUT, "whole\n"),
            (STDOUT, "@bacalhau n 2 y\n"),
            (STDOUT, "10%\r20%\rü"),
        ]
