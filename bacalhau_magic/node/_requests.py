"""What every route of the node has in common: who may come in, how a body is read, and how a problem is answered."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import tornado.web

from . import _answers
from ._doors import Door
from ._intake import Refusal
from ._store import ExecutionRow, JobRow

if TYPE_CHECKING:
    from ._service import Service

__all__ = ["OWN_PREFIX", "Handler", "Request"]

OWN_PREFIX = "/bacalhau-magic"
"""Below it are the routes that no real node has: status, stop, prune, the TCP doors, published results."""

_OPEN_TO_ALL = ("/api/v1/auth", "/api/v1/version", "/api/v1/agent/alive", "/api/v1/agent/version", "/api/v1/agent/authconfig")
_TRUE = frozenset({"1", "t", "true"})
_MOST = 9_000_000_000
"""As a number of a query: seconds of it are still nanoseconds of 64 bits."""
_DRAINED = 10
"""A body that is so many times too large is not even read, so that its sender sees no answer."""


class Request(tornado.web.RequestHandler):
    """A request to one door of the service."""

    @property
    def service(self) -> Service:
        service: Service = self.settings["service"]
        return service

    @property
    def door(self) -> Door:
        door: Door = self.settings["door"]
        return door

    def set_default_headers(self) -> None:
        version = _answers.version()
        self.set_header("Content-Type", "application/json")
        self.set_header("Server", "bacalhau-magic")
        for header, key in (("Version", "GitVersion"), ("Commit", "GitCommit")):
            self.set_header(f"X-Bacalhau-Git-{header}", version[key])
        self.set_header("X-Bacalhau-Build-Date", version["BuildDate"])
        self.set_header("X-Bacalhau-Build-OS", version["GOOS"])
        self.set_header("X-Bacalhau-Arch", version["GOARCH"])

    def answer(self, value: Mapping[str, Any], status: int = 200) -> None:
        self.set_status(status)
        self.finish(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))

    def refuse(self, refusal: Refusal, details: Mapping[str, str] | None = None) -> None:
        request_id = self.request.headers.get("X-Request-ID", "")
        envelope = _answers.error(
            refusal.status, refusal.message, refusal.code, refusal.component, hint=refusal.hint, details=details, request_id=request_id
        )
        self.answer(envelope, refusal.status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        problem = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(problem, Refusal):
            self.refuse(problem)
        elif status_code in (404, 405):
            self.refuse(
                Refusal(HTTPStatus(status_code).phrase, status=status_code, code="NotFound" if status_code == 404 else "InternalError")
            )
        elif status_code < 500:
            self.refuse(Refusal(f"code={status_code}, message={problem or HTTPStatus(status_code).phrase}", status=status_code))
        else:
            self.refuse(Refusal("Internal server error", status=500, component="Unknown"))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, Refusal):
            super().log_exception(typ, value, tb)

    def admit(self) -> bool:
        """Whether this request may come in; it is answered already if not."""
        self.service.touch()
        request = self.request
        if not self.door.knows_host(request.host):
            self.refuse(
                Refusal("Request Forbidden", status=403, code="Forbidden", component="Authorizer"), {"reason": "unknown Host header"}
            )
            return False
        origin = request.headers.get("Origin", "")
        if origin and not self.door.knows_host(origin.partition("://")[2]):
            # A page in a browser: this API is for programs of this machine.
            self.refuse(
                Refusal("Request Forbidden", status=403, code="Forbidden", component="Authorizer"), {"reason": "foreign Origin header"}
            )
            return False
        if self.door.key and not request.path.startswith(_OPEN_TO_ALL) and not self.carries_right():
            given = request.headers.get("Authorization", "")
            if not _is_key(given, self.door.key):
                refusal = Refusal(
                    "Request Unauthorized", status=401, code="Unauthorized", component="Authorizer",
                    hint="Unauthorized principal. Event has been recorded.",
                )  # fmt: skip
                self.refuse(refusal, {"reason": "invalid API key" if given else "Missing Authorization header"})
                return False
        return True

    def carries_right(self) -> bool:
        """Whether the URL itself is the permission."""
        return False

    def flag(self, name: str) -> bool:
        return self.get_query_argument(name, "").lower() in _TRUE

    def whole(self, name: str, default: int) -> int:
        text = self.get_query_argument(name, "")
        try:
            return min(max(int(text), 0), _MOST) if text else default
        except ValueError:
            raise Refusal(f"code=400, message=strconv.ParseInt: parsing {json.dumps(text)}: invalid syntax") from None

    def job_row(self, text: str) -> JobRow:
        return self.service.orchestrator.find(unquote(text), self.get_query_argument("namespace", ""))

    def archive_url(self, execution: ExecutionRow) -> str:
        """Where an execution's archive is fetched through this door; "" if there is none."""
        if not execution.published:
            return ""
        right = "" if not self.door.is_tcp else f"{self.service.capabilities.grant(execution.id)}/"
        return f"http://{self.door.authority}{OWN_PREFIX}/results/{right}{execution.id}.tar.gz"


@tornado.web.stream_request_body
class Handler(Request):
    """A route with a JSON body, bounded by its door's limit before it is in memory."""

    def initialize(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_too_large = False

    def prepare(self) -> None:
        if not self.admit():
            return
        limit = self.door.body_limit
        with suppress(ValueError):
            size = int(self.request.headers.get("Content-Length", "0"))
            self._is_too_large = size > limit
            if size > _DRAINED * limit:
                self.refuse(_too_large())
                return
        if not self.request.path.startswith(OWN_PREFIX):
            self.request.connection.set_max_body_size(_DRAINED * limit + 1_000_000)  # type: ignore[union-attr]

    def data_received(self, chunk: bytes) -> None:
        if self._finished:
            return
        self._size += len(chunk)
        if self._size > self.door.body_limit:
            self._is_too_large = True
        if self._is_too_large:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def body(self) -> Any:
        """The body as JSON; {} for none. Raises Refusal."""
        if self._is_too_large:
            raise _too_large()
        data = b"".join(self._chunks)
        self._chunks.clear()
        if not data:
            return {}
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            text = "code=415, message=Unsupported Media Type"
            raise Refusal(f"code=400, message={text}")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as problem:
            raise Refusal(f"code=400, message=Syntax error: {problem}, internal={problem}") from None


def _too_large() -> Refusal:
    return Refusal("Request Entity Too Large", status=413)


def _is_key(header: str, key: str) -> bool:
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
