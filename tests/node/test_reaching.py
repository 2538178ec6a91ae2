"""Finding and reaching the node: its folders, its doors, who may come in, and what two starters get."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedded import Node, ask_tcp, folders, job, running

import bacalhau_magic
from bacalhau_magic import _marks
from bacalhau_magic.errors import NodeError
from bacalhau_magic.node import _daemon
from bacalhau_magic.node._doors import Capabilities
from bacalhau_magic.node._places import Places, on_network, private, unshared
from bacalhau_magic.node._service import Service
from bacalhau_magic.node._store import Store
from bacalhau_magic.node.executors._probe import probe

# Folders


def test_the_runtime_folder_is_this_users_alone(node: Node) -> None:
    """Runtime folder 0700; lock, runtime file and socket in it are 0600."""
    places = node.places
    assert stat.S_IMODE(places.runtime.stat().st_mode) == 0o700
    for path in (places.lock, places.life, places.file, places.socket, places.log):
        assert path.parent == places.runtime
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: folder.chmod(0o755), "is open to other users"),
        (lambda folder: (folder.rename(folder.with_name("real")), folder.symlink_to("real")), "is a link or no folder"),
        (lambda folder: (folder.rmdir(), folder.write_text("")), "is a link or no folder"),
    ],
)
def test_a_folder_that_others_could_enter_is_refused(tmp_path: Path, spoil: Any, words: str) -> None:
    """A runtime folder with another mode, a link, or a file is refused, saying which and what to do."""
    folder = private(tmp_path / "run")
    spoil(folder)
    with pytest.raises(NodeError, match=words) as problem:
        private(folder)
    assert str(folder) in problem.value.message
    assert problem.value.hint


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to make a folder of another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """A runtime folder that belongs to another user is refused."""
    folder = private(tmp_path / "run")
    os.chown(folder, 12345, 12345)
    with pytest.raises(NodeError, match="belongs to another user"):
        private(folder)


@pytest.mark.parametrize(("mode", "owner", "words"), [(0o777, -1, "can be changed by other users"), (0o700, 12345, "belongs to another")])
def test_a_runtime_folder_in_anothers_hands_is_refused(tmp_path: Path, mode: int, owner: int, words: str) -> None:
    """A folder in which another user could exchange ours (the system's default below `/tmp` can be guessed) is refused."""
    if owner != -1 and os.geteuid() != 0:
        pytest.skip("needs root, to make a folder of another user")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    os.chown(shared, owner, owner)
    with pytest.raises(NodeError, match=words):
        unshared(shared)
    shared.chmod(0o755)
    os.chown(shared, os.geteuid(), -1)
    unshared(shared)


def test_the_runtime_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The runtime folder lies in XDG_RUNTIME_DIR, the store in the user's data folder, one a machine."""
    for name, folder in (("XDG_RUNTIME_DIR", "run"), ("XDG_DATA_HOME", "data")):
        (tmp_path / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / folder))
    places = Places.default()
    assert places.runtime == tmp_path / "run" / "bacalhau-magic"
    assert places.store.parent == tmp_path / "data" / "bacalhau-magic" / "node"
    assert Places.default() == places


@pytest.mark.parametrize(("kind", "far"), [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)])
def test_a_network_file_system_is_recognised(tmp_path: Path, kind: str, far: bool) -> None:
    """The store's file system is the nearest mount above it, whatever other mounts there are."""
    table = tmp_path / "mounts"
    table.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path} rw shared:1 - {kind} server:/x rw\n3 1 0:3 / /other rw - nfs x rw\n"
    )
    assert on_network(tmp_path / "store", table) is far


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root and Linux, to mount")
def test_a_home_on_the_network_puts_the_store_on_this_machine(tmp_path: Path) -> None:
    """Where the data folder is on a network file system, the store lies in the machine's temporary folder."""
    data, temp, run = (tmp_path / name for name in ("data", "temp", "run"))
    for folder in (data, temp, run):
        folder.mkdir(mode=0o700)
    code = "from bacalhau_magic.node._places import Places; print(Places.default().store)"
    # A mount table that says so: this process alone sees it.
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {data} rw - nfs4 server:/home rw\n")
    script = f'mount --bind "{table}" /proc/$$/mountinfo 2>/dev/null || exit 77; exec "$0" -c "{code}"'
    environment = {**os.environ, "XDG_DATA_HOME": str(data), "XDG_RUNTIME_DIR": str(run), "TMPDIR": str(temp)}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody mount over its table of mounts")
    assert Path(done.stdout.strip()) == temp / f"bacalhau-magic-{os.getuid()}", done.stderr


# Doors


def tcp_ports(pid: int) -> set[int]:
    return {item.laddr.port for item in psutil.Process(pid).net_connections("inet") if item.status == psutil.CONN_LISTEN}


def test_the_unix_socket_is_the_only_door() -> None:
    """Until somebody asks for it the node listens on no port."""
    with running() as node:
        assert node.reached.socket == str(node.places.socket)
        assert tcp_ports(node.reached.pid) == set()
        assert node.ask("GET", "/bacalhau-magic/status")["Ports"] == {}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "169.254.169.254", ""])
def test_a_foreign_host_header_is_refused(node: Node, host: str) -> None:
    """A request under another name than this machine's own is refused, on both doors (a page could make any name lead here)."""
    status, _, body = node.raw("GET", "/api/v1/agent/alive", Host=host)
    assert (status, json.loads(body)["Details"]) == (403, {"reason": "unknown Host header"})
    opened = _daemon.environment(node.places, open_port=True)
    assert ask_tcp(opened, "GET", "/api/v1/agent/node", host=host)[0] == 403
    assert ask_tcp(opened, "GET", "/api/v1/agent/node", host=f"localhost:{opened.port + 1}")[0] == 403
    assert ask_tcp(opened, "GET", "/api/v1/agent/node", host=f"localhost:{opened.port}")[0] == 200


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD"])
def test_no_cors_headers(node: Node, method: str) -> None:
    """No answer allows a page of another origin anything; its own requests are refused."""
    opened = _daemon.environment(node.places, open_port=True)
    for origin in ("https://evil.example", "null"):
        status, headers, _ = ask_tcp(opened, method, "/api/v1/orchestrator/jobs", Origin=origin)
        assert status in (403, 405)
        assert not [name for name in headers if name.startswith("access-control")]
    assert not [name for name in ask_tcp(opened, "GET", "/api/v1/agent/alive")[1] if name.startswith("access-control")]


def test_a_door_with_a_key_wants_it(node: Node) -> None:
    """The TCP door is on 127.0.0.1, opens once, and answers nothing but health and version without its key."""
    door = _daemon.environment(node.places)
    assert (door.host, _daemon.environment(node.places)) == ("127.0.0.1", door)
    assert door.key.startswith(_marks.LOCAL_KEY_PREFIX)
    assert len(door.key) >= len(_marks.LOCAL_KEY_PREFIX) + 43  # 256 bits
    assert tcp_ports(node.reached.pid) >= {door.port}
    assert ask_tcp(door, "GET", "/api/v1/orchestrator/jobs")[0] == 200
    for header, reason in (("", "Missing Authorization header"), ("Bearer x", "invalid API key"), (f"Basic {door.key}", "invalid API key")):
        for method, path in (("GET", "/api/v1/orchestrator/jobs"), ("PUT", "/api/v1/orchestrator/jobs"), ("GET", "/api/v1/agent/node")):
            status, _, answer = ask_tcp(door, method, path, Authorization=header)
            assert (status, answer["Code"], answer["Details"]) == (401, "Unauthorized", {"reason": reason})
    assert ask_tcp(door, "GET", "/api/v1/agent/alive", Authorization="")[0] == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", door.port), 1)


def test_what_is_the_owners_stays_on_the_owners_door(node: Node) -> None:
    """Over TCP nobody stops, prunes or opens doors, gives secrets, or, at the open port, runs this machine's interpreters."""
    for door in (_daemon.environment(node.places), _daemon.environment(node.places, open_port=True)):
        for verb in ("stop", "prune", "tcp"):
            assert ask_tcp(door, "POST", f"/bacalhau-magic/{verb}", {})[0] == 404
        assert ask_tcp(door, "GET", "/bacalhau-magic/status")[0] == 404
        status, _, answer = ask_tcp(door, "PUT", "/api/v1/orchestrator/jobs", {"Job": job("true")}, X_Bacalhau_Magic_Secrets="{}")
        headers = {"X-Bacalhau-Magic-Secrets": '{"TOKEN": "x"}'}
        status, _, answer = ask_tcp(door, "PUT", "/api/v1/orchestrator/jobs", {"Job": job("true", host=False)}, **headers)
        assert (status, answer["Message"]) == (400, "secrets are taken over the unix socket only")
    status, _, answer = ask_tcp(door, "PUT", "/api/v1/orchestrator/jobs", {"Job": job("true")})
    assert (status, answer["Message"]) == (403, "a job with an interpreter of this machine is not taken at an open port")


def test_results_over_tcp_need_the_address(node: Node) -> None:
    """A published archive is fetched on the same door; over TCP by an address that holds a right of its own."""
    paths = [{"Name": "outputs", "Path": "/outputs"}]
    identity = node.put(job("true", language="bash", ResultPaths=paths, Publisher={"Type": "local"}))
    node.wait(identity)
    doors = [_daemon.environment(node.places), _daemon.environment(node.places, open_port=True)]
    for door in doors:
        url = ask_tcp(door, "GET", f"/api/v1/orchestrator/jobs/{identity}/results")[2]["Items"][0]["Params"]["URL"]
        assert url.startswith(f"http://127.0.0.1:{door.port}/bacalhau-magic/results/")
        path = "/" + url.split("/", 3)[3]
        right, name = path.split("/")[-2:]
        assert len(right) == 43  # 256 bits
        # The address is the permission: fetched without the key.
        assert ask_tcp(door, "GET", path, Authorization="")[0] == 200
        wrong = path.replace(right, "x" * 43)
        for path in (wrong, f"/bacalhau-magic/results/{name}"):
            assert ask_tcp(door, "GET", path)[0] == 404
            assert ask_tcp(door, "GET", path, Authorization="")[0] == (401 if door.key else 404)


def test_a_result_is_fetched_in_parts(node: Node) -> None:
    """A published archive has a tag, and its rest is sent alone to who has the beginning of the same one."""
    paths = [{"Name": "outputs", "Path": "/outputs"}]
    write = "import os, sys; open(sys.argv[1] + '/a', 'wb').write(os.urandom(5000))"
    identity = node.put(job("python", "-c", write, "/outputs", ResultPaths=paths, Publisher={"Type": "local"}))
    node.wait(identity)
    door = _daemon.environment(node.places)
    path = "/" + ask_tcp(door, "GET", f"/api/v1/orchestrator/jobs/{identity}/results")[2]["Items"][0]["Params"]["URL"].split("/", 3)[3]
    status, headers, _ = ask_tcp(door, "GET", path)
    whole = int(headers["content-length"])
    assert status == 200
    assert whole > 5000
    tag = headers["etag"]
    status, headers, _ = ask_tcp(door, "GET", path, Range="bytes=1000-", **{"If-Range": tag})
    assert (status, headers["content-range"], headers["content-length"]) == (
        206,
        f"bytes 1000-{whole - 1}/{whole}",
        str(whole - 1000),
    )
    status, headers, _ = ask_tcp(door, "GET", path, Range="bytes=1000-", **{"If-Range": '"another"'})
    assert (status, headers["content-length"]) == (200, str(whole))
    status, headers, _ = ask_tcp(door, "GET", path, Range=f"bytes={whole}-", **{"If-Range": tag})
    assert (status, headers["content-range"]) == (416, f"bytes */{whole}")


def test_an_address_of_a_result_expires() -> None:
    """A right lasts an hour, is for one execution, and a new one is given before it runs out."""
    now = [0.0]
    rights = Capabilities(lambda: now[0])
    first = rights.grant("e-1")
    assert rights.allows(first, "e-1")
    assert not rights.allows(first, "e-2")
    assert rights.grant("e-1") == first
    now[0] = 2000
    second = rights.grant("e-1")
    assert second != first
    now[0] = 3599
    assert rights.allows(first, "e-1")
    now[0] = 3601
    assert (rights.allows(first, "e-1"), rights.allows(second, "e-1")) == (False, True)


@contextmanager
def service_by_port(folder: Path) -> Iterator[_daemon.Reached]:
    """A node whose own door is a TCP port, as on a system without unix sockets."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found: dict[str, Any] = {}

    async def serve() -> None:
        (folder / "probe").mkdir()
        service = Service(Store(folder), "1", idle=600, probe=lambda: probe(folder / "probe"))
        found.update(door=service.open_own(None), service=service)
        service.begin()
        ready.set()
        await service.ended.wait()
        await service.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    door = found["door"]
    try:
        yield _daemon.Reached("", door.port, door.key, os.getpid(), "1")
    finally:
        loop.call_soon_threadsafe(found["service"].ended.set)
        thread.join(20)
        loop.close()


def test_without_unix_sockets_the_own_door_is_a_port_with_a_key(tmp_path: Path) -> None:
    """Where there are no unix sockets the owner comes in at a loopback port, with the key of the runtime file, and may do all."""
    with service_by_port(tmp_path) as reached:
        assert reached.key.startswith(_marks.LOCAL_KEY_PREFIX)
        assert reached.ask("GET", "/bacalhau-magic/status", timeout=60)["Version"] == "1"
        with pytest.raises(NodeError, match="Unauthorized"):
            _daemon.Reached("", reached.port, "", 0, "1").ask("GET", "/bacalhau-magic/status")
        endpoint = _daemon._endpoint(reached)
        assert (endpoint.url, endpoint.credential.key) == (f"http://127.0.0.1:{reached.port}", reached.key)


# Starting, replacing, ending


_START = "import sys; from pathlib import Path; from bacalhau_magic.node._daemon import start; from bacalhau_magic.node._places import Places; print(start(Places(Path(sys.argv[1]), Path(sys.argv[2]))).pid)"


def test_all_that_start_it_at_once_get_one_node() -> None:
    """Five processes that start the node at the same moment all reach the same one."""
    with folders() as places:
        command = [sys.executable, "-c", _START, str(places.runtime), str(places.store)]
        starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
        pids = {starter.communicate(timeout=60)[0].strip() for starter in starters}
        try:
            assert len(pids) == 1
            nodes = [process for process in psutil.process_iter() if str(places.store) in " ".join(words(process))]
            assert [str(process.pid) for process in nodes] == list(pids)
        finally:
            _daemon.stop(places)


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if "bacalhau_magic.node" in process.cmdline() else []
    except psutil.Error:
        return []


def test_it_is_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has a session of its own, outlives who started it, and has nothing of that one's environment but a fixed list."""
    monkeypatch.setenv("MY_TOKEN", "s3cr3t")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    with folders() as places:
        command = [sys.executable, "-c", _START, str(places.runtime), str(places.store)]
        pid = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        try:
            process = psutil.Process(pid)
            assert process.is_running()
            assert os.getsid(pid) == pid
            assert set(process.environ()) <= {*_daemon._KEPT_ENVIRONMENT, "PYTHONPATH"}
            assert "s3cr3t" not in str(process.environ())
            assert "--idle 1800.0" in " ".join(process.cmdline())
        finally:
            _daemon.stop(places)


def test_it_goes_when_nobody_needs_it() -> None:
    """Without work and visitors the node ends by itself, and leaves neither socket nor runtime file; a running job keeps it."""
    assert _daemon.IDLE == 30 * 60
    with folders() as places:
        reached = _daemon.start(places, idle=0.6)
        reached.ask("PUT", "/api/v1/orchestrator/jobs", {"Job": job("python", "-c", "import time; time.sleep(2)")}, timeout=60)
        before = time.monotonic()
        until(lambda: not psutil.pid_exists(reached.pid))
        assert time.monotonic() - before > 1.5
        assert not places.file.exists()
        assert not places.socket.exists()
        assert _daemon.find(places) is None


def until(true: Any, limit: float = 30) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def other_version(folder: Path, version: str) -> Iterator[dict[str, str]]:
    """An environment in which the package is there with another version, as another installation of it would be."""
    (folder / "bacalhau_magic").symlink_to(Path(bacalhau_magic.__file__).parent)
    info = folder / f"bacalhau_magic-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bacalhau_magic\nVersion: {version}\n")
    yield {**os.environ, "PYTHONPATH": str(folder)}


def test_a_node_of_another_version_ends_its_jobs_and_is_replaced(tmp_path: Path) -> None:
    """It takes no new jobs, finishes those that it has, and is replaced by this version's node, which knows them."""
    with folders() as places, other_version(tmp_path, "0.0.9") as environment:
        command = [sys.executable, "-P", "-m", "bacalhau_magic.node", "--runtime", str(places.runtime), "--store", str(places.store)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as old:
            until(lambda: _daemon.find(places))
            reached = _daemon.find(places)
            assert reached is not None
            assert (reached.version.partition("-")[0], reached.pid) == ("0.0.9", old.pid)
            body = {"Job": job("python", "-c", "import time; time.sleep(2); print('done')")}
            identity = reached.ask("PUT", "/api/v1/orchestrator/jobs", body, timeout=60)["JobID"]
            until(lambda: reached.ask("GET", f"/api/v1/orchestrator/jobs/{identity}")["Job"]["State"]["StateType"] == "Running")
            starter = threading.Thread(target=lambda: _daemon.start(places))
            starter.start()
            until(lambda: reached.ask("GET", "/bacalhau-magic/status")["Draining"])
            with pytest.raises(NodeError, match="finishes its jobs and takes no new ones"):
                reached.ask("PUT", "/api/v1/orchestrator/jobs", body)
            starter.join(60)
            assert old.wait(10) == 0
        try:
            node = Node(places)
            assert node.reached.version == _daemon.package_version()
            assert node.job(identity)["State"] == {"StateType": "Completed"}
            assert node.text(identity) == "done\n"
        finally:
            _daemon.stop(places)


def test_a_second_node_in_the_same_folders_ends() -> None:
    """A node that finds another alive in its folders ends with a code of its own and changes nothing."""
    with running() as node:
        places = node.places
        command = [
            sys.executable,
            "-m",
            "bacalhau_magic.node",
            "--runtime",
            str(places.runtime),
            "--store",
            str(places.store),
            "--wait",
            "0",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (3, "another embedded node of this user is running\n")
        assert _daemon.find(places) == node.reached


def test_a_node_that_can_not_start_says_why(tmp_path: Path) -> None:
    """A node that ends while it starts: one error with its last words."""
    with folders() as places:
        (places.store / "node.db").mkdir()
        with pytest.raises(NodeError, match="The embedded node ended while it started") as problem:
            _daemon.start(places)
        assert "node.db" in str(problem.value)
        assert _daemon.find(places) is None


# The command line


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command line with folders of its own; the node is stopped at the end."""
    with folders() as places:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(places.runtime))
        monkeypatch.setenv("XDG_DATA_HOME", str(places.store))

        def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
            done = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr
            return done

        yield call
        call("stop")


def test_the_verbs_of_the_node(own: Any) -> None:
    """start, status, logs, prune and stop do what they say, and say what they did."""
    assert own("status").stdout == "The embedded node does not run; the first cell starts it.\n"
    assert own("start").stdout.startswith("The embedded node runs (process ")
    assert own("start").stdout == own("start").stdout
    assert "DiskUsed: " in own("status").stdout
    node = Node(Places.default())
    identity = node.put(job("python", "-c", "import os; os.write(1, b'x' * 300_000)"))
    node.wait(identity)
    assert own("prune", "--older-than", "1h").stdout.startswith("Removed 0 jobs")
    removed, freed = own("prune").stdout.removesuffix(".\n").split(" jobs and freed ")
    assert removed == "Removed 1"
    assert freed.split()[0] != "0"
    assert "--older-than" in own("prune", "--older-than", "soon", code=1).stderr
    own("logs")
    assert own("stop").stdout == "The embedded node is stopped.\n"
    assert own("stop").stdout == "The embedded node does not run.\n"


def test_env_prints_what_the_cli_reads(own: Any) -> None:
    """`node env` starts the node and prints host, port and key as lines for a shell."""
    lines = dict(line.removeprefix("export ").split("=", 1) for line in own("env").stdout.splitlines())
    assert set(lines) == {"BACALHAU_API_HOST", "BACALHAU_API_PORT", "BACALHAU_API_KEY"}
    door = _daemon.TcpDoor(lines["BACALHAU_API_HOST"], int(lines["BACALHAU_API_PORT"]), lines["BACALHAU_API_KEY"])
    assert door.variables == lines
    assert ask_tcp(door, "GET", "/api/v1/orchestrator/nodes")[0] == 200


def test_an_open_port_is_opened_with_a_warning(own: Any) -> None:
    """`node start --open-port` says the address, and on stderr who can use it now; nothing but asking opens it."""
    own("start")
    assert node_ports() == {}
    done = own("start", "--open-port")
    url = done.stdout.splitlines()[1]
    assert "every program and user of this machine can run jobs there, without a key" in done.stderr
    door = _daemon.TcpDoor("127.0.0.1", int(url.rpartition(":")[2]), "")
    assert node_ports() == {"open": door.port}
    assert ask_tcp(door, "GET", "/api/v1/orchestrator/jobs")[0] == 200
    assert "a port without a key was opened" in own("logs").stdout


def node_ports() -> dict[str, int]:
    ports: dict[str, int] = _daemon.status().facts["Ports"]
    return ports


_CELL = """
import os
from bacalhau_magic import run
print(run("6 * 7"))
"""


def test_a_key_of_this_machine_routes_as_local_and_starts_the_node_again(own: Any) -> None:
    """With the lines of `node env` set, a cell runs on the embedded node, also after that node has gone."""
    variables = dict(line.removeprefix("export ").split("=", 1) for line in own("env").stdout.splitlines())
    first = _daemon.find()
    own("stop")
    assert _daemon.find() is None
    done = subprocess.run([sys.executable, "-c", _CELL], env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.stdout == "42\n", done.stderr
    second = _daemon.find()
    assert first is not None
    assert second is not None
    assert second.pid != first.pid


def test_the_node_serves_in_the_foreground_too(own: Any) -> None:
    """`python -m bacalhau_magic node` without a verb serves until it is asked to end."""
    with subprocess.Popen([sys.executable, "-m", "bacalhau_magic", "node"], stderr=subprocess.DEVNULL) as process:
        until(lambda: _daemon.find())
        found = _daemon.find()
        assert found is not None
        assert found.pid == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert _daemon.find() is None


def test_other_code_of_the_same_version_is_another_node(tmp_path: Path) -> None:
    """A package whose code was changed, or was exchanged where it lay, does not go on with the node of its old code."""
    package = Path(_daemon.__file__).parents[1]
    copy = tmp_path / "site" / "bacalhau_magic"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    ask = [sys.executable, "-P", "-c", "from bacalhau_magic.node import _daemon; print(_daemon.package_version())"]

    def version() -> str:
        done = subprocess.run(ask, env=os.environ | {"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert version() == _daemon.package_version()
    with (copy / "node" / "_queue.py").open("a") as file:
        file.write("# changed\n")
    assert version() != _daemon.package_version()
    assert version().partition("-")[0] == _daemon.package_version().partition("-")[0]
