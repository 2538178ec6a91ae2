"""The embedded node as tests use it: a real process with folders of its own, asked over its unix socket."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.sync.client import unix_connect

from bacalhau_magic import _marks
from bacalhau_magic.node import _daemon
from bacalhau_magic.node._places import Places, private

if TYPE_CHECKING:
    import pytest

TERMINAL = ("Completed", "Failed", "Stopped")


class Node:
    """A running node and what a test asks of it."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.reached = _daemon.start(places)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.reached.ask(method, path, body, timeout=60)

    def raw(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of any request; a header is given as a keyword with _ for -."""
        connection = _daemon._Connection(self.reached, 60)
        try:
            connection.request(
                method, path, body, {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def put(self, job: dict[str, Any], **headers: str) -> str:
        """Submits a job and gives its id."""
        status, _, body = self.raw("PUT", "/api/v1/orchestrator/jobs", json.dumps({"Job": job}), **headers)
        assert status == 200, body
        identity: str = json.loads(body)["JobID"]
        return identity

    def job(self, identity: str) -> dict[str, Any]:
        job: dict[str, Any] = self.ask("GET", f"/api/v1/orchestrator/jobs/{identity}")["Job"]
        return job

    def history(self, identity: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/history")

    def executions(self, identity: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/executions")["Items"]
        return items

    def wait(self, identity: str, *states: str, limit: float = 30) -> dict[str, Any]:
        """The job once it is in one of these states (any terminal one if none is named)."""
        until = time.monotonic() + limit
        while True:
            job = self.job(identity)
            if job["State"]["StateType"] in (states or TERMINAL):
                return job
            assert time.monotonic() < until, job["State"]
            time.sleep(0.01)

    @contextmanager
    def log(self, identity: str, query: str = "follow=true") -> Iterator[Any]:
        uri = f"ws://localhost/api/v1/orchestrator/jobs/{identity}/logs?{query}"
        with unix_connect(self.reached.socket, uri=uri, ping_interval=None, max_size=None) as stream:
            yield stream

    def frames(self, identity: str, query: str = "follow=true") -> list[dict[str, Any]]:
        """All frames of a job's log, until the stream closes."""
        with self.log(identity, query) as stream:
            return [json.loads(message) for message in stream]

    def text(self, identity: str, stream: int = 1, query: str = "follow=true") -> str:
        values = [frame["value"] for frame in self.frames(identity, query)]
        return "".join(value["Line"] for value in values if value["Type"] == stream)


def ask_tcp(
    door: _daemon.TcpDoor, method: str, path: str, body: Any = None, *, host: str | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of a request at a TCP door."""
    connection = http.client.HTTPConnection(door.host, door.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        data = json.dumps(body).encode() if body is not None else b""
        given = {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **({"Authorization": f"Bearer {door.key}"} if door.key else {}),
        }
        for name, value in (given | headers).items():
            connection.putheader(name, value)
        connection.endheaders(data)
        response = connection.getresponse()
        content = response.read()
        answer = json.loads(content) if response.headers.get("Content-Type") == "application/json" and content else content
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer
    finally:
        connection.close()


def job(*argv: str, host: bool = True, name: str = "", language: str = "python", **task: Any) -> dict[str, Any]:
    """A job for the host executor (or, without `host`, for a container)."""
    meta = {_marks.META_INTERPRETER: sys.executable, _marks.META_LANGUAGE: language} if host else {}
    engine = {"Type": "docker", "Params": {"Image": "python:3.11-slim", "Entrypoint": list(argv), "Parameters": []}}
    return {
        "Name": name,
        "Type": "batch",
        "Count": 1,
        "Tasks": [{"Name": "main", "Engine": engine, "Network": {"Type": "Host"}, "Meta": meta, **task}],
    }


@contextmanager
def folders() -> Iterator[Places]:
    """Places of their own, short enough for a unix socket."""
    home = Path(tempfile.mkdtemp(prefix="bmn-"))
    try:
        yield Places(private(home / "r"), private(home / "s"))
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def as_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Places of their own that this process, and what it starts, takes for the user's; their node is stopped at the end."""
    with folders() as home:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.runtime))
        monkeypatch.setenv("XDG_DATA_HOME", str(home.store))
        yield Places.default()
        _daemon.stop()


@contextmanager
def running() -> Iterator[Node]:
    """A node with places of its own, ended with the test."""
    with folders() as places:
        try:
            yield Node(places)
        finally:
            _daemon.stop(places)
