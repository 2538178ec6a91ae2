"""Finds the embedded node, starts it, asks it, stops it: what kernels and the command line use."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from ..errors import NodeError
from ._places import Places

if TYPE_CHECKING:
    from .._stages import Endpoint

_SHARED = ("_marks.py", "_wire.py", "_languages.py", "errors.py")
"""What the node uses beside its own modules."""

__all__ = [
    "Reached",
    "Status",
    "TcpDoor",
    "door",
    "environment",
    "find",
    "logs",
    "package_version",
    "prune",
    "revive",
    "start",
    "status",
    "stop",
]

IDLE = 1800.0
_START_LIMIT = 30.0
_DRAIN_LIMIT = 60.0
_PROVED = 5.0
_KEPT_ENVIRONMENT = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "SHELL",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "CONTAINER_HOST",
        "CONTAINERS_CONF",
        "CONTAINERS_STORAGE_CONF",
        "SSL_CERT_FILE",
        "SYSTEMROOT",
        "COMSPEC",
        "PATHEXT",
        "APPDATA",
        "LOCALAPPDATA",
        "USERPROFILE",
        "USERNAME",
    ]
)


@dataclass(frozen=True, slots=True)
class Reached:
    """A running node's own door: a unix socket's path, or a TCP port and its key; and its process and version."""

    socket: str
    port: int
    key: str
    pid: int
    version: str

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: float = 10.0) -> dict[str, Any]:
        """One request. Raises OSError where nobody answers, NodeError for an error envelope."""
        connection = _Connection(self, timeout)
        try:
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            data = response.read()
        except http.client.HTTPException as problem:
            raise OSError(str(problem)) from problem
        finally:
            connection.close()
        try:
            answer = json.loads(data or b"{}")
        except ValueError as problem:
            raise OSError("the node's answer is no JSON") from problem
        if response.status != 200:
            raise NodeError(str(answer.get("Message", response.reason)))
        return dict(answer)


@dataclass(frozen=True, slots=True)
class Status:
    """What a node says of itself; `facts` is its own answer."""

    running: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TcpDoor:
    """A TCP way to the node, for other tools; `key` is "" at an open port."""

    host: str
    port: int
    key: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that the bacalhau command line reads."""
        named = {"BACALHAU_API_HOST": self.host, "BACALHAU_API_PORT": str(self.port)}
        return {**named, "BACALHAU_API_KEY": self.key} if self.key else named


class _Connection(http.client.HTTPConnection):
    def __init__(self, node: Reached, timeout: float) -> None:
        super().__init__("127.0.0.1" if node.port else "localhost", node.port or 80, timeout=timeout)
        self._node = node

    def connect(self) -> None:
        if self._node.port:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._node.socket)


@cache
def package_version() -> str:
    """This package's version and a digest of the node's code, as "0.1.0-3f2a…"; two that differ do not share a node."""
    try:
        version = metadata.version("bacalhau_magic")
    except metadata.PackageNotFoundError:
        version = "0"
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for file in sorted([*here.rglob("*.py"), *(here.parent / "remote").glob("*.py"), *(here.parent / name for name in _SHARED)]):
        digest.update(file.read_bytes() if file.is_file() else b"")
    return f"{version}-{digest.hexdigest()[:12]}"


def door(places: Places | None = None) -> Endpoint:
    """The embedded node's endpoint; starts the node if none runs. Raises NodeError."""
    return _endpoint(start(places))


def revive(places: Places) -> None:
    """Starts the node of these places again, whose process is gone; one of another version that runs by then will do. Raises NodeError."""
    start(places, any_version=True)


def running(places: Places | None = None) -> Endpoint | None:
    """The endpoint of the node that runs now, or None; starts nothing."""
    node = find(places)
    return _endpoint(node) if node else None


def _endpoint(node: Reached) -> Endpoint:
    from .._stages import Credential, Endpoint

    if node.socket:
        return Endpoint(url="http://localhost", socket=node.socket, origin="embedded node")
    return Endpoint(
        url=f"http://127.0.0.1:{node.port}", credential=Credential(key=node.key, origin="embedded node"), origin="embedded node"
    )


def find(places: Places | None = None) -> Reached | None:
    """The node that runs now and answers, or None; starts nothing."""
    places = places or Places.default()
    try:
        facts = json.loads(places.file.read_text("utf-8"))
        node = Reached(facts["socket"], facts["port"], facts["key"], facts["pid"], facts["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        node.ask("GET", "/api/v1/agent/alive", timeout=_PROVED)
    except (OSError, NodeError):
        return None
    return node


def start(places: Places | None = None, *, idle: float = IDLE, timeout: float = _START_LIMIT, any_version: bool = False) -> Reached:
    """The running node of this package's version, started if there is none; of two callers at once one starts it.

    A node of another version finishes its jobs and is replaced, unless `any_version` will do. Raises NodeError with the node's last words.
    """
    places = places or Places.default()
    version = package_version()
    if (node := find(places)) and (any_version or node.version == version):
        return node
    try:
        with filelock.FileLock(places.lock, timeout=timeout + _DRAIN_LIMIT, mode=0o600):
            if node := find(places):
                if any_version or node.version == version:
                    return node
                _replace(node)
            return _spawn(places, idle, timeout)
    except filelock.Timeout as problem:
        raise NodeError("Another program has been starting the embedded node for too long.", hint=f"See {places.log}.") from problem


def _replace(node: Reached) -> None:
    until = time.monotonic() + _DRAIN_LIMIT
    with suppress(OSError):
        node.ask("POST", "/bacalhau-magic/stop", {"Drain": True})
        while time.monotonic() < until:
            time.sleep(0.1)
            node.ask("GET", "/api/v1/agent/alive", timeout=_PROVED)
        raise NodeError(
            f"An embedded node of version {node.version} still runs jobs; it takes no new ones.",
            hint="Wait until they are done, or end them: python -m bacalhau_magic node stop",
        )


def _spawn(places: Places, idle: float, timeout: float) -> Reached:
    command = [
        sys.executable,
        "-P",
        "-m",
        "bacalhau_magic.node",
        "--runtime",
        str(places.runtime),
        "--store",
        str(places.store),
        "--idle",
        str(idle),
    ]
    log = os.open(places.log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=places.runtime,
            env=_environment(),
            start_new_session=True,
            creationflags=0x00000008 | 0x00000200 if platform.system() == "Windows" else 0,
        )
    except OSError as problem:
        raise NodeError(f"The embedded node could not be started: {problem}.") from problem
    finally:
        os.close(log)
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if (node := find(places)) and node.pid == child.pid:
            _forget(child)
            return node
        if child.poll() is not None:
            raise NodeError(f"The embedded node ended while it started (exit code {child.returncode}).\n{_last_words(places)}".rstrip())
        time.sleep(0.01)
    child.kill()
    child.wait()
    raise NodeError(f"The embedded node did not answer within {timeout:g} seconds.\n{_last_words(places)}".rstrip())


def _forget(child: subprocess.Popen[bytes]) -> None:
    """The node outlives this process, which must not warn about it, yet takes its exit code if it ends earlier."""
    import threading

    threading.Thread(target=child.wait, name="bacalhau-magic-node", daemon=True).start()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.upper() in _KEPT_ENVIRONMENT}
    # The package as it was imported here, also where it is not installed for this interpreter.
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def _last_words(places: Places) -> str:
    return logs(places)[-2000:]


def status(places: Places | None = None) -> Status:
    """Whether a node runs, and what it says; starts nothing."""
    node = find(places)
    return Status(True, node.ask("GET", "/bacalhau-magic/status", timeout=30)) if node else Status(False, {})


def environment(places: Places | None = None, *, open_port: bool = False) -> TcpDoor:
    """Opens (once) a TCP door for other tools: with a key, or, for `open_port`, one that every local program can use."""
    answer = start(places).ask("POST", "/bacalhau-magic/tcp", {"Open": open_port})
    return TcpDoor(answer["Host"], answer["Port"], answer["Key"])


def logs(places: Places | None = None) -> str:
    """What the node itself wrote since its start."""
    try:
        return (places or Places.default()).log.read_text("utf-8", "replace")
    except OSError:
        return ""


def stop(places: Places | None = None, *, drain: bool = False, timeout: float = 30.0) -> bool:
    """Ends the node and its jobs, or, for `drain`, lets it finish them; False where none ran. Raises NodeError."""
    places = places or Places.default()
    node = find(places)
    if node is None:
        return False
    node.ask("POST", "/bacalhau-magic/stop", {"Drain": drain})
    until = time.monotonic() + timeout
    while not drain and time.monotonic() < until:
        if _free(places):
            return True
        time.sleep(0.02)
    if drain:
        return True
    raise NodeError(f"The embedded node (process {node.pid}) did not end within {timeout:g} seconds.", hint=f"See {places.log}.")


def _free(places: Places) -> bool:
    """Whether no node lives: its lock can be had."""
    lock = filelock.FileLock(places.life, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    lock.release()
    return True


def prune(older_than: float, places: Places | None = None) -> dict[str, int]:
    """Forgets jobs that ended more than `older_than` seconds ago: {"Jobs": how many, "Bytes": freed}."""
    answer = start(places).ask("POST", "/bacalhau-magic/prune", {"OlderThan": older_than}, timeout=120)
    return {"Jobs": answer["Jobs"], "Bytes": answer["Bytes"]}
