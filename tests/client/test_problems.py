"""Every error of httpx and websockets has a meaning of ours."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest
import websockets.exceptions

from bacalhau_magic.client._problems import clean, meaning, of_library
from bacalhau_magic.errors import ApiError, UnauthorizedError, UnexpectedAnswerError, UnreachableError


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from below(child)


LIBRARY = sorted(
    {
        kind
        for root in (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.CookieConflict,
            httpx.StreamError,
            websockets.exceptions.WebSocketException,
            OSError,
        )
        for kind in below(root)
        if kind.__module__.split(".")[0] in ("httpx", "websockets", "builtins", "socket", "ssl")
    },
    key=lambda kind: kind.__qualname__,
)
ABSTRACT = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.ProtocolError,
    websockets.exceptions.WebSocketException,
    websockets.exceptions.InvalidHandshake,
}
"""Bases that the libraries never raise as such."""


@pytest.mark.parametrize("kind", [kind for kind in LIBRARY if kind not in ABSTRACT], ids=lambda kind: kind.__qualname__)
def test_every_exception_of_the_libraries_is_mapped(kind: type[BaseException]) -> None:
    """No exception class of httpx, websockets or the sockets below them is without a meaning."""
    assert meaning(kind) is not None


def test_the_walk_finds_the_trees() -> None:
    """The walk sees both libraries' classes, so that a new one would be met."""
    names = {kind.__qualname__ for kind in LIBRARY}
    assert {"ConnectTimeout", "RemoteProtocolError", "InvalidStatus", "ConnectionClosedError", "ConnectionResetError"} <= names


@pytest.mark.parametrize(
    ("error", "kind", "unsure"),
    [
        (httpx.ConnectError("no"), UnreachableError, False),
        (httpx.ConnectTimeout("slow"), UnreachableError, False),
        (httpx.ReadTimeout("slow"), UnreachableError, True),
        (httpx.RemoteProtocolError("gone"), UnreachableError, True),
        (httpx.DecodingError("bad"), UnexpectedAnswerError, True),
        (ConnectionRefusedError(), UnreachableError, False),
        (socket.gaierror(-2, "unknown"), UnreachableError, False),
        (ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED"), UnreachableError, False),
        (ConnectionResetError(), UnreachableError, True),
        (RuntimeError("never seen"), UnreachableError, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_unsure_says_whether_it_may_have_arrived(error: Exception, kind: type[ApiError], unsure: bool) -> None:
    """What certainly reached nobody is told from what may have had its effect."""
    found = of_library(error, "http://host", "PUT", "http://host/x")
    assert type(found) is kind
    assert found.unsure is unsure
    assert (found.method, found.url) == ("PUT", "http://host/x")


def test_certificate_problem_names_the_setting() -> None:
    """An untrusted certificate says which setting names its authority."""
    found = of_library(ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED"), "https://host", "GET", "")
    assert "BACALHAU_API_TLS_CAFILE" in found.hint


def test_refused_handshake_is_unauthorized() -> None:
    """A log stream that is refused for its credential is said to be so."""
    response = websockets.http11.Response(401, "Unauthorized", websockets.datastructures.Headers())
    found = of_library(websockets.exceptions.InvalidStatus(response), "http://host", "GET", "")
    assert isinstance(found, UnauthorizedError)
    assert found.status == 401


def test_server_texts_are_made_harmless() -> None:
    """Escape sequences, controls and direction marks of a server's text are gone, and it is bounded."""
    assert clean("a\x1b[31mb\x1b]0;t\x07c\x00d\u202ee\r") == "abcde"
    assert len(clean("x" * 10_000)) == 2000
