"""Real front doors: TLS, credentials, refusals, redirects, proxies; `use`, `login` and `--profile` in a session."""

from __future__ import annotations

import base64
import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from gateway import Authority, Gateway, Tunnel, gateway
from scripted import JobScript, Server

from bacalhau_magic import _argspec, _commands
from bacalhau_magic._session import Session
from bacalhau_magic._stages import Credential, Endpoint
from bacalhau_magic._trust import kept_credential, user_folder
from bacalhau_magic.client import Client
from bacalhau_magic.errors import ApiError, ConfigError, OptionError, UnauthorizedError, UnreachableError
from bacalhau_magic.node import _daemon

KEY, OTHER = "front-door-key-1", "front-door-key-2"


@pytest.fixture(scope="module")
def door() -> _daemon.TcpDoor:
    """The embedded node's TCP door with its key."""
    return _daemon.environment()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def cluster(door: _daemon.TcpDoor, authority: Authority) -> Iterator[Gateway]:
    """A front door over TLS that wants KEY."""
    with gateway(door, f"Bearer {KEY}", context=authority.context()) as opened:
        yield opened


class Desk:
    """A session in a folder of its own; `answers` are what the user types when asked without echo."""

    def __init__(self, folder: Path) -> None:
        self.session = Session(folder=folder)
        self.session.surroundings.place = lambda: "batch"
        self.session.surroundings.namespace = {}
        self.session.surroundings.ask = self._ask
        self.answers: list[str] = []
        self.prompts: list[str] = []

    def _ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)

    def do(self, line: str) -> str:
        return repr(_commands.run(self.session, line))

    def run(self, code: str, line: str = "") -> object:
        return self.session.run(code, _argspec.parse(line))


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    made = Desk(folder)
    yield made
    made.session.close()


def nodes(endpoint: Endpoint) -> int:
    with Client(endpoint) as client:
        return len(client.nodes())


# TLS and credentials on the wire


def test_custom_authority(cluster: Gateway, authority: Authority) -> None:
    """A certificate of an own authority is refused with what to set, and accepted with the authority's file."""
    endpoint = Endpoint(cluster.url, credential=Credential(key=KEY))
    with pytest.raises(UnreachableError) as caught:
        nodes(endpoint)
    assert "BACALHAU_API_TLS_CAFILE" in caught.value.hint
    assert cluster.seen == []
    assert nodes(Endpoint(cluster.url, credential=Credential(key=KEY), ca_file=str(authority.file))) == 1
    assert nodes(Endpoint(cluster.url, credential=Credential(key=KEY), verify=False)) == 1


def test_certificate_of_another_host(door: _daemon.TcpDoor, authority: Authority) -> None:
    """A certificate for another name is refused although its authority is known."""
    with gateway(door, context=authority.context("other.example")) as opened, pytest.raises(UnreachableError):
        nodes(Endpoint(opened.url, ca_file=str(authority.file)))


def test_authority_file_that_is_none(cluster: Gateway, tmp_path: Path) -> None:
    """A CA file that can't be read is an error that names it and the setting."""
    (tmp_path / "broken.pem").write_text("no certificate")
    for file in (tmp_path / "broken.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=file.name) as caught:
            nodes(Endpoint(cluster.url, ca_file=str(file)))
        assert caught.value.setting == "api_tls_cafile"


def test_user_and_password(door: _daemon.TcpDoor) -> None:
    """A user and a password go as Basic, also when they are not ASCII."""
    pair = base64.b64encode("ann:pässwörd".encode()).decode()
    with gateway(door, f"Basic {pair}") as opened:
        assert nodes(Endpoint(opened.url, credential=Credential(username="ann", password="pässwörd"))) == 1
        with pytest.raises(UnauthorizedError):
            nodes(Endpoint(opened.url, credential=Credential(username="ann", password="wrong")))


def test_refusal_says_reason_and_setting(door: _daemon.TcpDoor, tmp_path: Path) -> None:
    """A 401 shows the server's reason and the setting that the credential came from, and never the credential."""
    with gateway(door, f"Bearer {KEY}") as opened:
        wrong = Endpoint(opened.url, credential=Credential(key=OTHER, origin="environment BACALHAU_API_KEY"))
        with pytest.raises(UnauthorizedError) as caught:
            nodes(wrong)
        assert "invalid API key. The key of environment BACALHAU_API_KEY went with it." in caught.value.message
        assert caught.value.credential_origin == "environment BACALHAU_API_KEY"
        assert OTHER not in str(caught.value)
        with pytest.raises(UnauthorizedError, match=r"Missing Authorization header\. No credential is set for it") as none:
            nodes(Endpoint(opened.url))
        assert "%bacalhau login" in none.value.hint


def test_forbidden_says_what_is_missing() -> None:
    """A 403 shows the server's reason, its own hint, and the setting that the credential came from."""
    body = {
        "Status": 403,
        "Message": "Request Forbidden",
        "Code": "Forbidden",
        "Hint": "Check if user have access to this resource.",
        "Details": {"reason": "user 'ro' does not have the required capability 'write:job'"},
    }
    with Server() as server:
        server.on("PUT", "/orchestrator/jobs", (403, body))
        with (
            Client(Endpoint(server.url, credential=Credential(key=KEY, origin="%bacalhau login"))) as client,
            pytest.raises(UnauthorizedError) as caught,
        ):
            client.submit(b"{}")
    assert "required capability 'write:job'. The key of %bacalhau login went with it." in caught.value.message
    assert caught.value.hint == "Check if user have access to this resource."


def test_log_stream_is_refused_as_the_rest(cluster: Gateway, authority: Authority) -> None:
    """A log stream carries the credential over TLS, and its refusal shows reason and setting too."""
    endpoint = Endpoint(cluster.url, credential=Credential(key=OTHER, origin="the test"), ca_file=str(authority.file))
    with Client(endpoint) as client, pytest.raises(UnauthorizedError, match=r"invalid API key\. The key of the test"):
        client.logs("j-1")


def test_redirect_to_another_origin_drops_the_credential() -> None:
    """A redirect to another host or port is followed without the credential; on the same origin it stays."""
    with Server() as there, Server() as here:
        there.on("GET", "/orchestrator/nodes", {"Nodes": []})
        here.on("GET", "/agent/version", (307, b"", {"Location": "/api/v1/moved"}))
        here.on("GET", "/moved", {"GitVersion": "v1.9.3"})
        here.on("GET", "/orchestrator/nodes", (302, b"", {"Location": f"{there.url}/api/v1/orchestrator/nodes"}))
        with Client(Endpoint(here.url, credential=Credential(key=KEY))) as client:
            assert client.version().git_version == "v1.9.3"
            assert client.nodes() == []
        assert [request.headers.get("authorization") for request in here.requests] == [f"Bearer {KEY}"] * 3
        assert [request.headers.get("authorization") for request in there.requests] == [None]


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_log_stream_takes_no_credential_elsewhere(scheme: str) -> None:
    """A log stream that is redirected to another origin carries the credential there in no case."""
    with Server() as there, socket.create_server(("127.0.0.1", 0)) as listener:
        place = there.url.replace("http", scheme, 1)

        def redirect() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {place}/x\r\nContent-Length: 0\r\n\r\n".encode())

        asked: list[str] = []
        thread = threading.Thread(target=redirect, daemon=True)
        thread.start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", credential=Credential(key=KEY))
        with Client(endpoint) as client, suppress(ApiError):
            client.logs("j-1").close()
        thread.join(5)
        assert f"Bearer {KEY}" in asked[0]
        assert [request.headers.get("authorization") for request in there.requests if "authorization" in request.headers] == []


def test_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the usual variables is used for an address elsewhere, and not for one of this machine."""
    with Server() as proxy, Server() as here:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        proxy.on("GET", ".*", {"GitVersion": "v1.9.3"})
        here.on("GET", "/agent/version", {"GitVersion": "v1.8.0"})
        with Client(Endpoint("http://cluster.invalid:1234")) as client:
            assert client.version().git_version == "v1.9.3"
        with Client(Endpoint(here.url)) as client:
            assert client.version().git_version == "v1.8.0"
        assert [request.path for request in proxy.requests] == ["/agent/version"]


def test_a_cell_through_a_tunnel(door: _daemon.TcpDoor, authority: Authority, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy with a password an https cluster is reached by a tunnel: requests, the log stream, the value; its key only goes inside."""
    with gateway(door, f"Bearer {KEY}", context=authority.context("cluster.example")) as opened:
        tunnel = Tunnel(opened.port, "ann:proxy-word")
        for name, value in {
            "HTTPS_PROXY": f"http://ann:proxy-word@{tunnel.address}",
            "BACALHAU_API_URL": "https://cluster.example:1234",
            "BACALHAU_API_KEY": KEY,
            "BACALHAU_API_TLS_CAFILE": str(authority.file),
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("NO_PROXY", "no_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert desk.run("print('more than a record holds' * 100)\n6 * 7", "-q") == 42
        assert set(tunnel.seen) == {"CONNECT cluster.example:1234"}
        assert any(path.endswith("/logs") for path in opened.paths("GET"))
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:wrong-word@{tunnel.address}")
        with Client(Endpoint("https://cluster.example:1234", credential=Credential(key=KEY))) as client:
            with pytest.raises(UnreachableError, match="407") as caught:
                client.jobs()
            with pytest.raises(UnreachableError) as unheard:
                client.logs("j-1")
        for error in (caught.value, unheard.value):
            assert "word" not in f"{error!r} {error} {error.hint} {error.__cause__!r}"
        tunnel.close()


# A session


def test_cells_run_through_a_front_door(desk: Desk, cluster: Gateway, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """With address, key and CA file of the environment cells run there: values, logs and files come back over TLS."""
    monkeypatch.setenv("BACALHAU_API_URL", cluster.url)
    monkeypatch.setenv("BACALHAU_API_KEY", KEY)
    monkeypatch.setenv("BACALHAU_API_TLS_CAFILE", str(authority.file))
    code = "import pathlib\npathlib.Path('outputs/a.txt').write_text('hello')\nprint('printed' * 1000)\n6 * 7"
    assert desk.run(code, "--files got") == 42
    assert (desk.session.folder / "got" / "a.txt").read_text() == "hello"
    assert "/api/v1/orchestrator/jobs" in cluster.paths("PUT")
    assert any(path.endswith("/logs") for path in cluster.paths("GET"))
    assert {given for _, path, given in cluster.seen if "orchestrator" in path} == {f"Bearer {KEY}"}
    assert desk.do("").count(cluster.url) >= 1
    assert "from environment BACALHAU_API_KEY" in desk.do("")


@pytest.mark.parametrize("way", ["host and port", "config.yaml"])
def test_cells_go_where_the_cli_goes(desk: Desk, door: _daemon.TcpDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The CLI's own variables, or its config.yaml with the token that it keeps, are all that a cell needs to run there."""
    with gateway(door, f"Bearer {KEY}") as opened:
        host, _, port = opened.url.removeprefix("http://").partition(":")
        folder = tmp_path / "cli"
        folder.mkdir()
        monkeypatch.setenv("BACALHAU_DIR", str(folder))
        if way == "config.yaml":
            (folder / "config.yaml").write_text(f"API:\n  Host: {host}\n  Port: {port}\n")
            (folder / "tokens.json").write_text(json.dumps({opened.url: KEY}))
        else:
            for name, value in {"HOST": host, "PORT": port, "KEY": KEY}.items():
                monkeypatch.setenv(f"BACALHAU_API_{name}", value)
        assert desk.run("6 * 7") == 42
        assert {given for verb, _, given in opened.seen if verb == "PUT"} == {f"Bearer {KEY}"}


def test_unverified_certificate_is_said_on_the_card(desk: Desk, cluster: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """With verification off every cell's card says so."""
    monkeypatch.setenv("BACALHAU_API_URL", cluster.url)
    monkeypatch.setenv("BACALHAU_API_KEY", KEY)
    monkeypatch.setenv("BACALHAU_API_TLS_INSECURE", "true")
    for _ in range(2):
        job = desk.session.submit("1", _argspec.parse("--bg"))
        assert job.result(30) == 1
        assert any("CERTIFICATE IS NOT VERIFIED" in notice for notice in job.snapshot.notices)


def test_profile_of_one_cell(desk: Desk, door: _daemon.TcpDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--profile sends one cell to that profile's cluster with its key; the next cell goes where it went before."""
    with gateway(door, f"Bearer {KEY}") as first, gateway(door, f"Bearer {OTHER}") as second:
        folder = tmp_path / "cli" / "profiles"
        folder.mkdir(parents=True)
        (folder / "second.yaml").write_text(f"endpoint: {second.url}\nauth:\n  token: {OTHER}\n")
        monkeypatch.setenv("BACALHAU_DIR", str(folder.parent))
        monkeypatch.setenv("BACALHAU_API_URL", first.url)
        monkeypatch.setenv("BACALHAU_API_KEY", KEY)
        assert desk.run("1 + 1", "--profile second") == 2
        assert (len(second.paths("PUT")), len(first.paths("PUT"))) == (1, 0)
        assert {given for _, path, given in second.seen if "orchestrator" in path} == {f"Bearer {OTHER}"}
        assert desk.run("1 + 2") == 3
        assert (len(second.paths("PUT")), len(first.paths("PUT"))) == (1, 1)
        assert "completed" in desk.do("jobs")
        with pytest.raises(OptionError, match="There is no profile 'third'") as caught:
            desk.run("1", "--profile third")
        assert "second" in caught.value.hint
        with pytest.raises(OptionError, match="goes to the local node"):
            desk.run("1", "--profile second --runtime local")


def test_use_profile(desk: Desk, door: _daemon.TcpDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """%bacalhau use lists the profiles and sends the session's cells to one; an earlier job is still asked at its own endpoint."""
    with gateway(door, f"Bearer {KEY}") as first, gateway(door, f"Bearer {OTHER}") as second:
        folder = tmp_path / "cli" / "profiles"
        folder.mkdir(parents=True)
        for name, opened, key in (("first", first, KEY), ("second", second, OTHER)):
            (folder / f"{name}.yaml").write_text(f"endpoint: {opened.url}\nauth:\n  token: {key}\n")
        monkeypatch.setenv("BACALHAU_DIR", str(folder.parent))
        assert "second" in desk.do("use")
        assert f"Cells go to {first.url} now" in desk.do("use first")
        job = desk.session.submit("'kept'", _argspec.parse("--bg"))
        assert job.result(30) == "kept"
        desk.do("use second")
        desk.session.jobs.clear()
        seen = len(first.seen)
        assert "completed" in desk.do(f"show {job.id}")
        assert len(first.seen) > seen
        assert second.paths() == []
        with pytest.raises(OptionError, match="no profile"):
            desk.do("use third")
        assert desk.session.settings.endpoint is not None
        assert desk.session.settings.endpoint.url == second.url


def test_profile_under_a_policy(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a policy locks the endpoint, --profile is refused with the policy's own message."""
    (tmp_path / "policy.toml").write_text('message = "Ask ops."\n[locked]\napi_url = "https://only.example"\n')
    folder = tmp_path / "cli" / "profiles"
    folder.mkdir(parents=True)
    (folder / "work.yaml").write_text("endpoint: https://work.example\n")
    monkeypatch.setenv("BACALHAU_DIR", str(folder.parent))
    monkeypatch.setenv("BACALHAU_MAGIC_POLICY", str(tmp_path / "policy.toml"))
    for refused in (lambda: desk.run("1", "--profile work"), lambda: desk.do("use work")):
        with pytest.raises(OptionError, match=r"locked by the policy .*Ask ops"):
            refused()
    assert desk.session.settings.endpoint is not None
    assert desk.session.settings.endpoint.url == "https://only.example"


def test_login_keeps_what_the_server_accepts(desk: Desk, door: _daemon.TcpDoor) -> None:
    """Login asks without echo, tries the key, keeps it for this endpoint in a private file, and cells go there."""
    with gateway(door, f"Bearer {KEY}") as opened:
        desk.answers = [OTHER]
        with pytest.raises(UnauthorizedError, match="invalid API key"):
            desk.do(f"login {opened.url}")
        assert kept_credential(opened.url) == {}
        desk.answers = [f" {KEY}\n"]
        said = desk.do(f"login {opened.url}")
        assert "The server accepts it." in said
        assert KEY not in said
        assert desk.prompts == [f"Key for {opened.url}: "] * 2
        assert kept_credential(opened.url) == {"key": KEY}
        assert stat.S_IMODE((user_folder() / "credentials.json").stat().st_mode) == 0o600
        assert desk.run("2 + 2") == 4
        assert len(opened.paths("PUT")) == 1
        assert "is kept already" in desk.do("login")
        assert "is forgotten" in desk.do("login --forget")
        assert "No credential is kept" in desk.do(f"login {opened.url} --forget")
        with pytest.raises(UnauthorizedError, match="No credential is set"):
            desk.run("2 + 2")


def test_login_with_a_password(desk: Desk, door: _daemon.TcpDoor) -> None:
    """--user asks for that user's password, which goes as Basic."""
    pair = base64.b64encode(b"ann:pass word").decode()
    with gateway(door, f"Basic {pair}") as opened:
        desk.answers = ["pass word"]
        desk.do(f"login {opened.url} --user ann")
        assert desk.prompts == [f"Password of ann for {opened.url}: "]
        assert desk.run("5") == 5
        desk.do("login --forget")


def test_login_where_nobody_can_answer(desk: Desk) -> None:
    """Without anyone to ask, login is an error that says how else to give a key; nothing is kept."""
    with pytest.raises(ConfigError, match="nobody can answer") as caught:
        desk.do("login http://127.0.0.1:9")
    assert "BACALHAU_API_KEY" in caught.value.hint
    for typed in ("", "k\u00e9y", "a\x00b"):
        desk.answers = [typed]
        with pytest.raises(OptionError, match="noth"):
            desk.do("login http://127.0.0.1:9")
    assert kept_credential("http://127.0.0.1:9") == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("login", "needs a URL"),
        ("login host", "expected an address"),
        ("login --key x", "can't use '--key'"),
        ("login http://a:1 http://b:1", "can't use 'http://b:1'"),
        ("use a b", "takes one PROFILE"),
        ("use --profile", "takes one PROFILE"),
    ],
)
def test_wrong_lines(desk: Desk, line: str, says: str) -> None:
    """A line that login or use can't read is refused before anything is asked."""
    with pytest.raises(OptionError, match=says):
        desk.do(line)
    assert desk.prompts == []


def test_login_says_when_another_credential_is_stronger(desk: Desk, door: _daemon.TcpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept key that the environment's key stands above is not used, and login says so."""
    with gateway(door, f"Bearer {KEY}") as opened:
        monkeypatch.setenv("BACALHAU_API_URL", opened.url)
        monkeypatch.setenv("BACALHAU_API_KEY", OTHER)
        desk.answers = [KEY]
        assert "not used as long as environment BACALHAU_API_KEY is set" in desk.do("login --again")
        desk.do("login --forget")


def test_labels_of_another_machine_do_not_make_it_local() -> None:
    """A cluster whose node carries the embedded node's labels stays a cluster, and its staging folder is never believed."""
    from bacalhau_magic import _marks
    from bacalhau_magic._targets import target
    from bacalhau_magic._wire import NodeState

    labels = {_marks.NODE_LOCAL: "1", _marks.NODE_STAGING: "/home/me/.ssh"}
    state = NodeState.model_validate({"Info": {"NodeID": "n-1", "Labels": labels, "ComputeNodeInfo": {}}})
    assert target(Endpoint("https://cluster.example"), "v1.9.3", [state]).name == "bacalhau"
    assert target(Endpoint("http://127.0.0.1:9"), "v1.9.3", [state]).staging is None


def test_server_error_texts_carry_no_controls() -> None:
    """What a server says in a refusal reaches a terminal without its control sequences."""
    body = {"Status": 401, "Message": "no\x1b[31m", "Code": "x", "Details": {"reason": "\x1b]0;owned\x07go away"}}
    with Server() as server:
        JobScript(server)
        server.on("GET", "/orchestrator/nodes", (401, body))
        with pytest.raises(UnauthorizedError) as caught:
            nodes(Endpoint(server.url))
    assert "\x1b" not in str(caught.value)
    assert "go away" in str(caught.value)
