"""The node's doors: the owner's unix socket, and TCP on request; each knows whom it lets in."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.netutil

__all__ = ["Capabilities", "Door", "Server", "listen_tcp", "listen_unix"]

SOCKET_BODY_LIMIT = 512_000_000
TCP_BODY_LIMIT = 10_000_000
_CAPABILITY_LIFE = 3600.0


@dataclass(slots=True)
class Door:
    """A way in. `own` is the owner's (it may also stop the node), `key` the Bearer token that it wants, "" for none."""

    own: bool
    is_tcp: bool
    key: str = ""
    port: int = 0

    @property
    def body_limit(self) -> int:
        return TCP_BODY_LIMIT if self.is_tcp and not self.own else SOCKET_BODY_LIMIT

    @property
    def trusted(self) -> bool:
        """Whether only this user can come in here."""
        return bool(self.own or self.key)

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}" if self.is_tcp else "localhost"

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this door: a page in a browser can make any name lead here."""
        name, _, port = host.rpartition(":") if ":" in host and not host.endswith("]") else (host, "", "")
        if name.lower() not in ("localhost", "127.0.0.1", "[::1]"):
            return False
        return not self.is_tcp or not port or port == str(self.port)


class Server(tornado.httpserver.HTTPServer):
    """An HTTP server that looks who is at the other end of a unix socket."""

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        if stream.socket.family != socket.AF_INET and not _is_same_user(stream.socket):
            stream.close()
            return
        super().handle_stream(stream, address)


def _is_same_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder's mode keeps others out
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.geteuid())


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket at a path in a folder that is ours alone; what an earlier node left there is replaced."""
    return tornado.netutil.bind_unix_socket(str(path), mode=0o600, backlog=128)


def listen_tcp() -> socket.socket:
    """A listening socket at a free port of 127.0.0.1."""
    return tornado.netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET, backlog=128)[0]


class Capabilities:
    """Random words that allow fetching one execution's archive over TCP, for an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._granted: dict[str, tuple[str, float]] = {}

    def grant(self, execution: str) -> str:
        now = self._clock()
        self._granted = {word: pair for word, pair in self._granted.items() if pair[1] > now}
        for word, (known, until) in self._granted.items():
            if known == execution and until - now > _CAPABILITY_LIFE / 2:
                return word
        word = secrets.token_urlsafe(32)
        self._granted[word] = (execution, now + _CAPABILITY_LIFE)
        return word

    def allows(self, word: str, execution: str) -> bool:
        known, until = self._granted.get(word, ("", 0.0))
        return known == execution and until > self._clock()
