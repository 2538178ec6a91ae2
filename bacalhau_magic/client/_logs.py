"""A job's log, as it comes over a web socket.

The stream proves nothing: it can answer with one error frame, stay silent for ever, stay open after the job's end or
break. It can be closed from another thread at any time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from pydantic_core import from_json

from .. import _wire
from ..errors import ApiError, BacalhauMagicError, UnexpectedAnswerError
from ._answers import answer_problem
from ._problems import clean, of_library
from ._transport import authorization, proxy_for, tls_context

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from .._stages import Endpoint

_MAX_FRAME = 4_000_000
_JOINED = 1 << 16
"""Characters of lines that are there already and are given as one text: a flood of short lines costs no turn each."""
_LOGGER = logging.getLogger("bacalhau_magic.logs")
_LOGGER.addHandler(logging.NullHandler())
"""Else a stream that is closed here while the server writes leaves websockets' traceback on the notebook's stderr."""


class LogStreamError(ApiError):
    """The log stream answered with an error frame: no execution yet, or no log any more."""


class LogStream:
    """One open log stream: an iterator of (stream, text), where stream is `_wire.STDOUT` or `_wire.STDERR`, and text one line or more.

    The iteration ends when the stream is closed, here or there. It raises LogStreamError for an error frame,
    UnreachableError when the connection breaks, TimeoutError after `silence` seconds without a frame.
    """

    def __init__(self, connection: ClientConnection, label: str, url: str) -> None:
        self._connection = connection
        self._label = label
        self._url = url
        self._closed = threading.Event()
        self.silence: float | None = None

    def __enter__(self) -> LogStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        stream, size = _wire.STDOUT, 0
        held: list[str] = []
        try:
            for line in self._lines():
                if held and (line is None or line[0] != stream or size >= _JOINED):
                    yield stream, "".join(held)
                    held, size = [], 0
                if line is not None:
                    stream = line[0]
                    held.append(line[1])
                    size += len(line[1])
        except BacalhauMagicError:
            if held:
                yield stream, "".join(held)
            raise
        if held:
            yield stream, "".join(held)

    def _lines(self) -> Iterator[tuple[int, str] | None]:
        """The frames' lines, and None where no other is there at once."""
        from websockets.exceptions import ConnectionClosedOK, WebSocketException

        wait = self.silence
        while not self._closed.is_set():
            try:
                frame = self._connection.recv(wait)
            except TimeoutError:
                if self._closed.is_set():
                    return
                if wait != 0:
                    raise
                yield None
                wait = self.silence
                continue
            except ConnectionClosedOK:
                return
            except (WebSocketException, OSError) as error:
                if self._closed.is_set():
                    return
                raise of_library(error, self._label, "GET", self._url) from error
            wait = 0
            line = self._line(frame)
            if line is not None:
                yield line

    def _line(self, frame: str | bytes) -> tuple[int, str] | None:
        try:
            value = from_json(frame)
            problem = value.get("error")
            line = value.get("value") or {}
            kind, text = line.get("Type"), line.get("Line") or ""
            if not isinstance(text, str):
                raise ValueError
        except (ValueError, AttributeError, RecursionError) as error:
            raise UnexpectedAnswerError(
                f"{self._label} sent a log frame that is not what was agreed.", method="GET", url=self._url
            ) from error
        if problem:
            raise LogStreamError(clean(str(problem)), method="GET", url=self._url)
        if not text:
            return None
        return (_wire.STDERR if kind == _wire.STDERR else _wire.STDOUT), text

    def close(self) -> None:
        """Close the stream at once, from any thread; no farewell is waited for, because servers don't answer it."""
        if not self._closed.is_set():
            self._closed.set()
            self._connection.close_socket()
            self._connection.recv_events_thread.join(1.0)


def open_stream(
    endpoint: Endpoint, job_id: str, *, namespace: str, follow: bool, execution_id: str, tail: bool, timeout: float = 10.0
) -> LogStream:
    """Open a job's log. Raises the ApiError family when the web socket can't be had."""
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.sync.client import connect, unix_connect

    facts = {"follow": "true" if follow else "", "execution_id": execution_id, "tail": "true" if tail else "", "namespace": namespace}
    query = urlencode({key: value for key, value in facts.items() if value})
    parts = urlsplit(endpoint.url.rstrip("/"))
    scheme = "wss" if parts.scheme == "https" else "ws"
    path = f"{parts.path}{_wire.API_PREFIX}/orchestrator/jobs/{quote(job_id, safe='')}/logs"
    url = urlunsplit((scheme, parts.netloc, path, query, ""))
    settings: dict[str, Any] = {
        "compression": None,
        "additional_headers": authorization(endpoint),
        "user_agent_header": "bacalhau-magic",
        "open_timeout": timeout,
        # The server's handler never reads, so its pongs would not come.
        "ping_interval": None,
        "close_timeout": 0.2,
        "max_size": _MAX_FRAME,
        "max_queue": 256,
        "logger": _LOGGER,
    }
    try:
        if endpoint.socket:
            opening = unix_connect(endpoint.socket, url, **settings)
        else:
            settings["proxy"] = proxy_for(endpoint.url)
            if scheme == "wss":
                settings["ssl"] = tls_context(endpoint)
            opening = connect(url, **settings)
        # Entered here, and left by `close` without the closing handshake that leaving it would wait for.
        connection = opening.__enter__()
    except InvalidStatus as error:
        refused = error.response
        if refused.status_code not in (401, 403):
            raise of_library(error, endpoint.label, "GET", url) from error
        raise answer_problem(endpoint.label, "GET", url, refused.status_code, bytes(refused.body or b""), endpoint.credential) from error
    except (WebSocketException, OSError, EOFError, ImportError, ValueError) as error:
        raise of_library(error, endpoint.label, "GET", url) from error
    return LogStream(connection, endpoint.label, url)
