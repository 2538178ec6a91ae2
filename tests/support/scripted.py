"""A scripted server for faults: real sockets, HTTP and web sockets, answers that a test decides.

`Server` answers by a table of routes; `Recorded` replays one recorded scenario against the clock.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
JOB = "j-0c2b1f3e-1111-4222-8333-123456789abc"
NODE = "n-2e2b7e09-9704-40b8-a87a-1b6b42761e17"


def recording(name: str, version: str = "1.9.3") -> dict[str, Any]:
    """One recorded file as JSON."""
    found: dict[str, Any] = json.loads((RECORDED / version / f"{name}.json").read_text())
    return found


def scenarios() -> list[tuple[str, str]]:
    """(version, name) of every recorded job."""
    paths = sorted(RECORDED.glob("*/*.json"))
    return [(path.parent.name, path.stem) for path in paths if "history" in json.loads(path.read_text())]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


class Socket:
    """A web socket from the server's side: only sends; `dropped` is set when the client has gone."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler, self.path = handler, handler.path
        self.dropped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            while self._handler.connection.recv(4096):
                pass
        except (OSError, ValueError):
            pass
        self.dropped.set()

    def _frame(self, opcode: int, data: bytes) -> None:
        size = len(data)
        head = bytes([0x80 | opcode])
        head += bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
        try:
            self._handler.wfile.write(head + data)
            self._handler.wfile.flush()
        except (OSError, ValueError):
            self.dropped.set()

    def text(self, text: str) -> None:
        self._frame(1, text.encode())

    def half(self, text: str) -> None:
        """Begin a frame and break the connection inside of it."""
        data = text.encode()
        self._handler.wfile.write(bytes([0x81, len(data) + 50]) + data)
        self._handler.wfile.flush()
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def line(self, text: str, stream: int = 1) -> None:
        self.text(json.dumps({"value": {"Type": stream, "Line": text}}) + "\n")

    def error(self, text: str) -> None:
        self.text(json.dumps({"error": text, "value": {"Type": 0, "Line": ""}}) + "\n")

    def close(self, code: int = 1000) -> None:
        self._frame(8, code.to_bytes(2, "big"))
        self._handler.connection.shutdown(socket.SHUT_WR)

    def stay(self, seconds: float = 30.0) -> None:
        """Keep the stream open and silent until the client drops it."""
        self.dropped.wait(seconds)


Answer = Any
"""A dict (JSON, 200), (status, dict or bytes), (status, body, headers), or a function of the Request that gives one; None breaks the connection."""


@dataclass
class Server:
    """A scripted server on loopback TCP, or on a unix socket."""

    path: Path | None = None
    requests: list[Request] = field(default_factory=list)
    streams: int = 0
    clock: float = 0.0
    """Seconds by which the server's clock is ahead."""
    resets: int = 0
    """How many of the next PUTs meet a connection that is reset before their body is read."""

    def __post_init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Answer]] = []
        self._logs: dict[str, Callable[[Socket, int], None]] = {"": lambda stream, _: stream.close()}
        self._no_logs: tuple[int, dict[str, str]] | None = None
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return "test"

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(int(time.time() + script.clock) if timestamp is None else timestamp)

            def _any(self) -> None:
                script._handle(self)

            do_GET = do_PUT = do_DELETE = do_POST = do_CONNECT = _any  # noqa: N815

        if self.path:

            class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
                daemon_threads = True

                def get_request(self) -> Any:
                    request, _ = super().get_request()
                    return request, ("test", 0)

            self._server: Any = Unix(str(self.path), Handler)
            self.url = "http://localhost"
        else:
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self._server.daemon_threads = True
            self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._server.handle_error = lambda *_: None
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def on(self, method: str, pattern: str, answer: Answer) -> None:
        """Answer `method` for paths (below /api/v1) that match; later rules win."""
        self._routes.insert(0, (method, re.compile(pattern), answer))

    def on_logs(self, script: Callable[[Socket, int], None], job_id: str = "") -> None:
        """What a log stream does, of one job or of any; called with the stream and its number, counted from 1."""
        self._logs[job_id] = script

    def answer_logs(self, status: int, **headers: str) -> None:
        """Answer every log stream with a plain status in place of a web socket."""
        self._no_logs = status, headers

    def count(self, method: str, pattern: str) -> int:
        return sum(request.method == method and bool(re.fullmatch(pattern, request.path)) for request in self.requests)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        path = parts.path.removeprefix("/api/v1")
        size = int(handler.headers.get("Content-Length") or 0)
        is_reset = handler.command == "PUT" and self.resets > 0
        request = Request(
            handler.command,
            path,
            parse_qs(parts.query),
            {key.lower(): text for key, text in handler.headers.items()},
            handler.rfile.read(0 if is_reset else size),
        )
        self.requests.append(request)
        if is_reset:
            self.resets -= 1
            handler.close_connection = True
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        if handler.headers.get("Upgrade", "").lower() == "websocket":
            self._upgrade(handler)
            return
        for method, pattern, found in self._routes:
            if method == handler.command and pattern.fullmatch(path):
                answer = found(request) if callable(found) else found
                break
        else:
            answer = (404, {"Status": 404, "Message": f"no script for {path}", "Code": "NotFound"})
        if answer is None:
            handler.close_connection = True
            handler.connection.close()
            return
        status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            handler.send_header(key, text)
        handler.end_headers()
        handler.wfile.write(data)

    def _upgrade(self, handler: BaseHTTPRequestHandler) -> None:
        if self._no_logs:
            handler.send_response(self._no_logs[0])
            for key, text in {"Content-Length": "0", **self._no_logs[1]}.items():
                handler.send_header(key, text)
            handler.end_headers()
            return
        key = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        handler.send_response(101)
        handler.send_header("Upgrade", "websocket")
        handler.send_header("Connection", "Upgrade")
        handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        handler.end_headers()
        handler.wfile.flush()
        self.streams += 1
        stream = Socket(handler)
        job_id = urlsplit(handler.path).path.split("/")[-2]
        self._logs.get(job_id, self._logs[""])(stream, self.streams)
        handler.close_connection = True


def event(seq: int, message: str, topic: str, execution: str = "", **details: str) -> dict[str, Any]:
    """A history item."""
    return {
        "SeqNum": seq,
        "Type": "ExecutionLevel" if execution else "JobLevel",
        "JobID": JOB,
        **({"ExecutionID": execution} if execution else {}),
        "Event": {"Message": message, "Topic": topic, "Details": details or None},
        "Time": "2026-11-23T15:55:09.5Z",
    }


class JobScript:
    """One job on a Server, moved on by the test: `begin`, `run`, `end`."""

    def __init__(self, server: Server, execution: str = "e-1") -> None:
        self.server = server
        self.state = "Pending"
        self.message = ""
        self.items = [event(1, "Job submitted", "Submission")]
        self.executions: list[dict[str, Any]] = []
        self.execution = execution
        self.meta: dict[str, str] = {}
        base = "/orchestrator/jobs/" + JOB
        server.on("GET", base, lambda _: {"Job": self.job()})
        server.on("GET", base + "/history", self._history)
        server.on("GET", base + "/executions", lambda _: {"Items": self.executions})
        server.on("DELETE", base, self._stop)
        server.on("GET", "/orchestrator/nodes", lambda _: recording("nodes"))
        server.on("GET", "/agent/version", {"Major": "1", "Minor": "9", "GitVersion": "v1.9.3"})
        self.stops: list[str] = []

    def job(self) -> dict[str, Any]:
        state = {"StateType": self.state, "Message": self.message}
        return {"ID": JOB, "Name": "test", "Namespace": "default", "State": state, "Tasks": [{"Meta": self.meta}]}

    def _history(self, request: Request) -> dict[str, Any]:
        seen = int((request.query.get("next_token") or ["0"])[0])
        over = self.state in ("Completed", "Failed", "Stopped")
        return {"Items": [item for item in self.items if item["SeqNum"] > seen], "NextToken": "" if over else str(len(self.items))}

    def _stop(self, request: Request) -> Any:
        if self.state in ("Completed", "Failed"):
            return 500, {"Status": 500, "Message": f"cannot stop job in state {self.state}", "Code": ""}
        self.stops.append(json.loads(request.body)["reason"])
        self.add("Job requested to stop before completion", "Scheduling", Reason=self.stops[-1])
        self.message = self.stops[-1]
        self.state = "Stopped"
        return {"EvaluationID": "x"}

    def add(self, message: str, topic: str, execution: str = "", **details: str) -> None:
        self.items.append(event(len(self.items) + 1, message, topic, execution, **details))

    def begin(self, node: str = NODE) -> None:
        """A node takes the job and says Running."""
        self.add("Requested execution on " + node[:10], "Scheduling", self.execution, NodeID=node)
        self.add("Running", "State Update", NewState="Running")
        self.add("Running", "Execution", self.execution)
        self.state = "Running"

    def end(self, exit_code: int = 0) -> None:
        self.executions.append(
            {"ID": self.execution, "NodeID": NODE, "ComputeState": {"StateType": 9}, "RunOutput": {"ExitCode": exit_code, "Stdout": ""}}
        )
        self.add("Completed successfully", "Execution", self.execution)
        self.add("Completed", "State Update", NewState="Completed")
        self.state = "Completed"

    def fail(self, message: str, topic: str = "Running Execution", **details: str) -> None:
        """The execution fails; the job is not over yet."""
        self.add(message, topic, self.execution, IsError="true", **details)
        self.executions.append({"ID": self.execution, "NodeID": NODE, "ComputeState": {"StateType": 10, "Message": message}})


class Recorded:
    """A recorded scenario, served against the clock from the first request on; `pace` times faster."""

    def __init__(self, server: Server, name: str, version: str = "1.9.3", pace: float = 4.0, *, named: bool = True) -> None:
        self.server = server
        self.data = recording(name, version)
        self.data["log_frames"] = _whole_frames(self.data["log_frames"])
        self.pace = pace
        self.keeps_logs = version > "1.8"
        self.job_id: str = self.data["job"]["Job"]["ID"]
        items = self.data["history"]["Items"]
        first = _time(items[0])
        self._items = [(_time(item) - first, item) for item in items]
        base = "/orchestrator/jobs/" + self.job_id
        server.on("GET", base, self._job)
        server.on("GET", base + "/history", self._history)
        server.on("GET", base + "/executions", lambda _: self.data["executions"])
        server.on("GET", base + "/results", lambda _: self.data["results"])
        server.on("DELETE", base, self._stop)
        server.on_logs(self._stream, self.job_id)
        nodes = recording("nodes") if version == "1.9.3" else recording("orchestrator-nodes", version)["body"]
        server.on("GET", "/orchestrator/nodes", nodes)
        server.on("GET", "/agent/alive", {"Status": "OK"})
        told = {"Major": "1", "Minor": version.split(".")[1], "GitVersion": f"v{version}"}
        server.on("GET", "/agent/version", told if named else recording("agent-version", version)["body"])
        self.restart()

    def restart(self, job: dict[str, Any] | None = None) -> None:
        """Begin anew, with the first request from now."""
        self._start: float | None = None
        self.stopped = ""
        self._opened = 0

    @property
    def now(self) -> float:
        if self._start is None:
            self._start = time.monotonic()
        return (time.monotonic() - self._start) * self.pace

    def _state(self) -> dict[str, Any]:
        if self.stopped:
            return {"StateType": "Stopped", "Message": self.stopped}
        states = [state for at, state in self.data["job_states"] if at <= self.now]
        return states[-1] if states else {"StateType": "Pending"}

    def _over(self) -> bool:
        return self._state()["StateType"] in ("Completed", "Failed", "Stopped")

    def _job(self, _: Request) -> dict[str, Any]:
        return {"Job": {**self.data["job"]["Job"], "State": self._state()}}

    def _stop(self, request: Request) -> Any:
        self.stopped = json.loads(request.body)["reason"] or "stopped"
        return {"EvaluationID": "x"}

    def _history(self, request: Request) -> dict[str, Any]:
        seen = int((request.query.get("next_token") or ["0"])[0])
        over = self._over()
        shown = [item for at, item in self._items if at <= self.now or (over and not self.stopped)]
        return {"Items": shown[seen:], "NextToken": "" if over else str(len(shown))}

    def _stream(self, stream: Socket, _: int) -> None:
        """The recorded frames in the order and time of the recording: the n-th opening gets what came after the n-1st close."""
        frames = self.data["log_frames"]
        self._opened += 1
        number = self._opened
        if self._over():
            texts = [text for _, text in frames if text.startswith("{") and "error" not in text]
            for text in texts if self.keeps_logs else self._last_words():
                stream.text(text)
            return stream.close()
        closes = [index for index, (_, text) in enumerate(frames) if text.startswith(("close", "still the same"))]
        start = closes[number - 2] + 1 if 1 < number <= len(closes) + 1 else 0
        for at, text in frames[start:]:
            while self.now < at and not self._over():
                if stream.dropped.wait(0.002):
                    return None
            if text.startswith("{"):
                stream.text(text)
            elif text.startswith("close code=1000"):
                return stream.close()
            elif text.startswith("close"):
                return None
            elif text.startswith("still the same"):
                stream.error("no executions found")
                return stream.close()
            else:
                return stream.stay()
        return stream.close()

    def _last_words(self) -> Iterator[str]:
        """What a node before 1.8 serves of a finished log: what RunOutput holds, line by line."""
        output = self.data["executions"]["Items"][-1].get("RunOutput") or {}
        for kind, key in ((1, "Stdout"), (2, "stderr")):
            for line in (output.get(key) or "").splitlines():
                yield json.dumps({"value": {"Type": kind, "Line": line + "\n"}})


def _whole_frames(frames: list[list[Any]]) -> list[list[Any]]:
    """The frames as they were sent: the recordings cut long ones ("...(16415 chars)"), and leave out the middle of 5,000 counted lines."""
    gap = next((index for index, (at, _) in enumerate(frames) if at == "..."), None)
    if gap is not None:
        before, after = (int(json.loads(frames[index][1])["value"]["Line"]) for index in (gap - 1, gap + 1))
        lines = [json.dumps({"value": {"Type": 1, "Line": f"{number}\n"}}) for number in range(before + 1, after)]
        frames = [*frames[:gap], *([frames[gap + 1][0], line] for line in lines), *frames[gap + 1 :]]
    cut = [index for index, (_, text) in enumerate(frames) if re.search(r"\.\.\.\(\d+ chars\)$", text)]
    for index in cut:
        head, count = re.fullmatch(r"(.*)\.\.\.\((\d+) chars\)", frames[index][1], re.DOTALL).groups()  # type: ignore[union-attr]
        tail = '\\n"}}\n' if index == cut[-1] else '"}}\n'
        frames[index] = [frames[index][0], head.ljust(int(count) - len(tail), head[-1]) + tail]
    return frames


def _time(item: dict[str, Any]) -> float:
    text = re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", item["Time"])
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
