"""What the errors of httpx and websockets mean, in our own error tree; and texts of servers made harmless."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, Literal

from ..errors import ApiError, UnauthorizedError, UnexpectedAnswerError, UnreachableError

Meaning = Literal["unsent", "lost", "strange", "ours"]
"""unsent: nothing reached the endpoint; lost: no answer came after something may have; strange: the answer is not
what was agreed; ours: a mistake in how we use the library."""

_MEANINGS: Mapping[str, Meaning] = {
    "httpx.ConnectError": "unsent",
    "httpx.ConnectTimeout": "unsent",
    "httpx.PoolTimeout": "unsent",
    "httpx.ProxyError": "unsent",
    "httpx.UnsupportedProtocol": "unsent",
    "httpx.InvalidURL": "unsent",
    "httpx.ReadTimeout": "lost",
    "httpx.WriteTimeout": "lost",
    "httpx.ReadError": "lost",
    "httpx.WriteError": "lost",
    "httpx.CloseError": "lost",
    "httpx.RemoteProtocolError": "lost",
    "httpx.DecodingError": "strange",
    "httpx.TooManyRedirects": "strange",
    "httpx.HTTPStatusError": "strange",
    "httpx.LocalProtocolError": "unsent",
    "httpx.CookieConflict": "ours",
    "httpx.StreamError": "ours",
    "websockets.exceptions.ConnectionClosed": "lost",
    "websockets.exceptions.InvalidURI": "unsent",
    "websockets.exceptions.InvalidProxy": "unsent",
    "websockets.exceptions.ProxyError": "unsent",
    "websockets.exceptions.InvalidMessage": "lost",
    "websockets.exceptions.SecurityError": "strange",
    "websockets.exceptions.InvalidMethod": "strange",
    "websockets.exceptions.InvalidProtocol": "strange",
    "websockets.exceptions.InvalidStatus": "strange",
    "websockets.exceptions.InvalidHeader": "strange",
    "websockets.exceptions.NegotiationError": "strange",
    "websockets.exceptions.ProtocolError": "strange",
    "websockets.exceptions.PayloadTooBig": "strange",
    "websockets.exceptions.TooManyFragments": "strange",
    "websockets.exceptions.InvalidState": "ours",
    "websockets.exceptions.ConcurrencyError": "ours",
    "builtins.ConnectionRefusedError": "unsent",
    "builtins.FileNotFoundError": "unsent",
    "socket.gaierror": "unsent",
    "builtins.TimeoutError": "lost",
    "ssl.SSLError": "unsent",
    "builtins.OSError": "lost",
    "builtins.EOFError": "lost",
    "builtins.ImportError": "unsent",
    "builtins.ValueError": "unsent",
    "builtins.RuntimeError": "lost",
}


def meaning(kind: type[BaseException]) -> Meaning | None:
    """What an exception class of the libraries means; None for one that is not known here."""
    for base in kind.__mro__:
        found = _MEANINGS.get(f"{base.__module__}.{base.__qualname__}")
        if found:
            return found
    return None


def of_library(error: BaseException, label: str, method: str, url: str) -> ApiError:
    """The error of ours for one that httpx or websockets raised; a refusal's own status is kept."""
    facts: dict[str, Any] = {"method": method, "url": url}
    said = clean(str(error)).strip() or type(error).__name__
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if isinstance(status, int) and status in (401, 403):
        return UnauthorizedError(f"{label} refuses the request (status {status}).", status=status, **facts)
    match meaning(type(error)):
        case "unsent":
            return UnreachableError(f"{label} can't be reached: {said}.", hint=_advice(error), **facts)
        case "lost":
            what = "did not answer in time" if _is_timeout(error) else f"broke the connection: {said}"
            return UnreachableError(f"{label} {what}.", unsure=True, **facts)
        case "strange":
            return UnexpectedAnswerError(
                f"{label} answered in a way that was not expected: {said}.", status=status or 0, unsure=True, **facts
            )
        case _:
            return UnexpectedAnswerError(f"The request to {label} failed: {type(error).__name__}: {said}.", unsure=True, **facts)


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or any(base.__name__ == "TimeoutException" for base in type(error).__mro__)


def _advice(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen:
        if isinstance(seen, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(seen):
            return "The endpoint's certificate is not trusted: name its authority's file with BACALHAU_API_TLS_CAFILE."
        seen = seen.__cause__ or seen.__context__
    return ""


_CONTROLS = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def clean(text: str, limit: int = 2000) -> str:
    """A server's text without control characters and escape sequences, at most `limit` characters."""
    text = _CONTROLS.sub("", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
