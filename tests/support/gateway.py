"""A cluster's front door for tests: HTTP or HTTPS on loopback, wants a credential, and hands on to the embedded node.

What comes through it is the node's own: web sockets, results, errors. What it refuses looks as a Bacalhau does.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from bacalhau_magic.node._daemon import TcpDoor


@dataclass
class Gateway:
    """One front door; `accepts` are the Authorization headers that it lets through, `seen` what requests carried."""

    door: TcpDoor
    accepts: set[str]
    context: ssl.SSLContext | None = None
    reason: str = "invalid API key"
    open_paths: tuple[str, ...] = ("/api/v1/agent/alive", "/api/v1/agent/version")
    rewrite: tuple[bytes, bytes] = (b"", b"")
    """Two texts of one length: in what comes back the first becomes the second."""
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Authorization) of every request."""

    def __post_init__(self) -> None:
        self._away, self._open = False, set[socket.socket]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def cut(self) -> None:
        """The network is away: what is open breaks, and nothing gets through."""
        self._away = True
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """The network is back."""
        self._away = False

    def paths(self, method: str = "") -> list[str]:
        return [path for verb, path, _ in self.seen if not method or verb == method]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError, ValueError):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self._open.add(connection)
                try:
                    if not self._away:
                        self._handle(connection)
                finally:
                    self._open.discard(connection)

    def _handle(self, connection: socket.socket) -> None:
        head, body = _head(connection)
        if not head:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        given = next((value for name, value in headers if name.lower() == "authorization"), "")
        self.seen.append((method, path.partition("?")[0], given))
        if given not in self.accepts and path.partition("?")[0] not in self.open_paths:
            connection.sendall(self._refusal("Missing Authorization header" if not given else self.reason))
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.5)
            while connection.recv(65536):  # a body that is not read would break the connection before its answer is
                pass
            return
        upgrade = any(name.lower() == "upgrade" for name, _ in headers)
        kept = [(n, v) for n, v in headers if n.lower() not in ("host", "authorization", *(() if upgrade else ("connection",)))]
        kept += [("Host", f"127.0.0.1:{self.door.port}"), ("Authorization", f"Bearer {self.door.key}")]
        kept += [] if upgrade else [("Connection", "close")]
        with socket.create_connection(("127.0.0.1", self.door.port)) as inner:
            inner.sendall((first + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in kept) + "\r\n").encode("latin-1") + body)
            threading.Thread(target=_pump, args=(connection, inner), daemon=True).start()
            _pump(inner, connection, *self.rewrite)

    def _refusal(self, reason: str) -> bytes:
        envelope = {
            "Status": 401,
            "Message": "Request Unauthorized",
            "Code": "Unauthorized",
            "Component": "Authorizer",
            "Hint": "Unauthorized principal. Event has been recorded.",
            "Details": {"reason": reason},
            "RequestID": "",
        }
        body = json.dumps(envelope).encode()
        return b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """A request's head, and what of its body came with it; empty where the connection ends before."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def _pump(source: socket.socket, sink: socket.socket, old: bytes = b"", new: bytes = b"") -> None:
    with suppress(OSError, ssl.SSLError, ValueError):
        while piece := source.recv(65536):
            sink.sendall(piece.replace(old, new) if old else piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Authority:
    """A CA of the test's own, and certificates for 127.0.0.1 and names."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def context(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
        return context


@contextmanager
def gateway(door: TcpDoor, *accepts: str, context: ssl.SSLContext | None = None) -> Iterator[Gateway]:
    """A front door that lets these Authorization headers through."""
    opened = Gateway(door, set(accepts), context)
    try:
        yield opened
    finally:
        opened.close()


class Tunnel:
    """An HTTP proxy that opens a tunnel (CONNECT) to one port of this machine, whatever name is asked for.

    Who does not give `login` ("user:password") is refused with 407, where one is wanted; `seen` are the targets asked for.
    """

    def __init__(self, port: int, login: str = "") -> None:
        self._port, self._login = port, login
        self.seen: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._take, args=(self._socket.accept()[0],), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection:
            head, _ = _head(connection)  # nothing follows it before the answer
            if not head:
                return
            verb, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
            self.seen.append(f"{verb} {target}")
            wanted = b"Basic " + base64.b64encode(self._login.encode())
            if self._login and wanted not in head:
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._port)) as inner:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=_pump, args=(connection, inner), daemon=True).start()
                _pump(inner, connection)
