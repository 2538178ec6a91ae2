"""Requests over HTTP: one budget an endpoint, retries of idempotent calls, errors in our own words.

httpx is imported on first use. Everything that an endpoint answers is hostile: answers are bounded, texts are
stripped of control characters, a credential never follows a redirect to another origin.
"""

from __future__ import annotations

import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import _wire
from .._stages import Credential, is_loopback
from ..errors import ApiError, ConfigError, NodeError, UnexpectedAnswerError, UnreachableError
from ._answers import answer_problem
from ._budget import budget
from ._problems import clean, of_library

if TYPE_CHECKING:
    import httpx

    from .._stages import Endpoint

MAX_ANSWER = 64_000_000
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (429, 502, 503, 504)
"""Statuses that a later try may not meet."""
_TRIES = 4
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
"""Seconds that a call waits at most when the server asks for patience; beyond that the caller hears of it."""


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL, by the same variables for requests and log streams."""
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies()
    return named.get(parts.scheme) or named.get("all")


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context for an https endpoint: the system's authorities, or `ca_file`, or no check at all.

    Raises ConfigError for a `ca_file` that can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The CA file {endpoint.ca_file!r} can't be used: {error}.",
            setting="api_tls_cafile",
            hint="Name a PEM file that holds the authority's certificate.",
        ) from error
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def authorization(endpoint: Endpoint) -> dict[str, str]:
    """The Authorization header of an endpoint's credential, or nothing."""
    import base64

    credential = endpoint.credential
    if credential.key:
        return {"Authorization": f"Bearer {credential.key}"}
    if credential.username:
        pair = f"{credential.username}:{credential.password}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    return {}


class Transport:
    """The connections to one endpoint; thread-safe. `handler` stands in for the network in tests.

    `revive` starts the endpoint again where nobody answers at its door; it may raise NodeError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        per_second: float,
        *,
        handler: httpx.BaseTransport | None = None,
        revive: Callable[[], object] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.budget = budget(endpoint, per_second)
        self._handler, self._revive = handler, revive
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._anonymous: httpx.Client | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Transport({self.endpoint.label!r})"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for http in (self._http, self._anonymous):
                if http:
                    http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        retry: bool = False,
        timeout: float = 35.0,
        background: bool = False,
    ) -> Any:
        """One call of the API: the answer's JSON, from `path` below /api/v1.

        Raises the ApiError family; `unsure` is set where the call may have had its effect all the same.
        """
        pause = _FIRST_PAUSE
        for attempt in itertools.count(1):
            try:
                return self._once(method, path, query, body, headers, timeout, background)
            except ApiError as error:
                passing = isinstance(error, UnreachableError) or error.status in _PASSING
                if not (retry and passing and attempt < _TRIES) or error.retry_after > _LONGEST_PAUSE:
                    raise
                asked_for = error.retry_after
            time.sleep(max(pause, asked_for))
            pause *= 2
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float,
        background: bool,
    ) -> Any:
        sent = {**(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        with self.stream(
            method, _wire.API_PREFIX + path, query=query, body=body, headers=sent, timeout=timeout, background=background
        ) as answer:
            content = self._read(answer, method)
            status = answer.status_code
            url = str(answer.request.url)
            patience = _retry_after(answer.headers.get("Retry-After", ""))
        if status == 200:
            try:
                return json.loads(content)
            except (ValueError, RecursionError) as error:
                raise UnexpectedAnswerError(
                    f"{self.endpoint.label} answered with something that is not JSON.",
                    method=method,
                    url=url,
                    status=status,
                    unsure=True,
                    hint="Check that the endpoint is a Bacalhau API and not a web page or a proxy.",
                ) from error
        sent_with = self.endpoint.credential if "authorization" in answer.request.headers else Credential()
        problem = answer_problem(self.endpoint.label, method, url, status, content, sent_with)
        if patience:
            problem.retry_after = patience
            problem.hint = f"The server asks to wait {patience:g} s before the next try."
            self.budget.rest(min(patience, _LONGEST_PAUSE))
        raise problem

    def _read(self, answer: httpx.Response, method: str) -> bytes:
        pieces, size = [], 0
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > MAX_ANSWER:
                raise UnexpectedAnswerError(
                    f"{self.endpoint.label} answered with more than {MAX_ANSWER // 1_000_000} MB.",
                    method=method,
                    url=str(answer.request.url),
                    status=answer.status_code,
                    unsure=True,
                )
            pieces.append(piece)
        return b"".join(pieces)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 35.0,
        background: bool = False,
        anonymous: bool = False,
    ) -> Iterator[httpx.Response]:
        """An answer whose body is read by the caller; `url` is a path of the endpoint, or a whole URL.

        A GET follows redirects; to another origin it goes without the credential.
        """
        import httpx

        try:
            http = self._client(anonymous)
            for _ in range(6):
                self.budget.take(background=background)
                request = http.build_request(method, url, params=query, content=body, headers=headers, timeout=_timeouts(timeout))
                answer = self._send(http, request)
                try:
                    if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                        yield answer
                        return
                    there = request.url.join(answer.headers["location"])
                finally:
                    answer.close()
                same = (there.scheme, there.host, there.port) == (request.url.scheme, request.url.host, request.url.port)
                if method != "GET" or there.scheme not in ("http", "https"):
                    place = f"{there.scheme}://{there.netloc.decode()}"
                    raise UnexpectedAnswerError(
                        f"{self.endpoint.label} redirects to {clean(place)}; a {method} does not follow.",
                        method=method,
                        url=str(request.url),
                        status=answer.status_code,
                        hint=f"Set the endpoint to {clean(place)} if that is right.",
                    )
                if not same:
                    http = self._client(anonymous=True)
                url, query = str(there), None
            raise UnexpectedAnswerError(f"{self.endpoint.label} redirects in a circle.", method=method, url=url)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
            raise of_library(error, self.endpoint.label, method, url) from error

    def _send(self, http: httpx.Client, request: httpx.Request) -> httpx.Response:
        import httpx

        try:
            try:
                return http.send(request, stream=True)
            except (httpx.ConnectError, ConnectionRefusedError, FileNotFoundError):
                if self._revive is None:
                    raise
            # Nothing of the request was sent: after the start it goes out for the first time.
            self._revive()
            return http.send(request, stream=True)
        except NodeError as problem:
            raise UnreachableError(
                f"{self.endpoint.label} can't be reached, nor started again: {problem.message}",
                method=request.method,
                url=str(request.url),
                hint=problem.hint,
            ) from problem
        except (OSError, RuntimeError) as error:
            # Not wrapped by httpx: a socket's path that is gone, a client closed by another thread.
            raise of_library(error, self.endpoint.label, request.method, str(request.url)) from error

    def _client(self, anonymous: bool) -> httpx.Client:
        with self._lock:
            if self._closed:
                raise UnreachableError(f"The connection to {self.endpoint.label} was closed.")
            if anonymous:
                self._anonymous = self._anonymous or self._connect(anonymous=True)
                return self._anonymous
            self._http = self._http or self._connect(anonymous=False)
            return self._http

    def _connect(self, *, anonymous: bool) -> httpx.Client:
        import httpx

        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "bacalhau-magic"}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=8, keepalive_expiry=30.0)
        if anonymous:
            # Never over the socket, and with the system's authorities: this place is not the endpoint.
            return httpx.Client(headers=headers, transport=self._handler, limits=limits)
        url = self.endpoint.url.rstrip("/")
        # A plain URL needs no authorities, and reading them takes 20 ms.
        verify: ssl.SSLContext | bool = tls_context(self.endpoint) if url.startswith("https:") else False
        transport = self._handler
        if transport is None and self.endpoint.socket:
            transport = httpx.HTTPTransport(uds=self.endpoint.socket, limits=limits)
        try:
            return httpx.Client(
                base_url=url,
                headers={**headers, **authorization(self.endpoint)},
                transport=transport,
                verify=verify,
                limits=limits,
                # A proxy of the environment has no business on this machine's own addresses.
                trust_env=not self.endpoint.socket and not self.endpoint.is_loopback,
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"The proxy that the environment names can't be used: {clean(str(error), 200)}.",
                setting="HTTPS_PROXY" if url.startswith("https:") else "HTTP_PROXY",
                hint="Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or name this host in NO_PROXY.",
            ) from error


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header; 0 where there is none, or one by a clock that need not be ours."""
    return float(_wire.whole_number(text, 5) or 0)


def _timeouts(seconds: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(seconds, connect=min(seconds, 10.0))
