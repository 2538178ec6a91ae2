"""The node's HTTP API: routes and envelopes, as a node of version 1.9.3 has them, and a few routes of our own."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import re
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote

import tornado.iostream
import tornado.web
import tornado.websocket

from .. import _marks
from . import _answers, _attempt, _lifecycle
from ._doors import Door
from ._intake import Intake, Refusal, fold_keys
from ._labels import selects
from ._packages import is_index
from ._store import ExecutionRow, JobRow

if TYPE_CHECKING:
    from ._service import Service

__all__ = ["OWN_PREFIX", "SECRETS_HEADER", "application"]

OWN_PREFIX = "/bacalhau-magic"
"""Below it are the routes that no real node has: status, stop, prune, the TCP doors, published results."""
SECRETS_HEADER = "X-Bacalhau-Magic-Secrets"
INDEX_HEADER = "X-Bacalhau-Magic-Index"
"""The same words as in `_wire`, which is not imported here because it would double the node's start."""

_OPEN_TO_ALL = ("/api/v1/auth", "/api/v1/version", "/api/v1/agent/alive", "/api/v1/agent/version", "/api/v1/agent/authconfig")
_TRUE = frozenset({"1", "t", "true"})
_MOST_ITEMS = 100
_MOST = 9_000_000_000
"""As a number of a query: seconds of it are still nanoseconds of 64 bits."""
_DRAINED = 10
"""A body that is so many times too large is not even read, so that its sender sees no answer."""


def application(service: Service, door: Door) -> tornado.web.Application:
    """The routes behind one door."""
    job = r"/api/v1/orchestrator/jobs/([^/]+)"
    routes: list[tuple[str, type[tornado.web.RequestHandler]]] = [
        (r"/api/v1/agent/alive", Alive),
        (r"/api/v1/agent/version", Version),
        (r"/api/v1/agent/node", AgentNode),
        (r"/api/v1/agent/config", AgentConfig),
        (r"/api/v1/agent/authconfig", AuthConfig),
        (r"/api/v1/agent/debug", AgentConfig),
        (r"/api/v1/auth", AuthMethods),
        (r"/api/v1/auth/[^/]+", AuthMethod),
        (r"/api/v1/orchestrator/jobs", Jobs),
        (r"/api/v1/orchestrator/jobs/diff", JobDiff),
        (job, OneJob),
        (job + "/history", History),
        (job + "/executions", Executions),
        (job + "/versions", Versions),
        (job + "/results", Results),
        (job + "/rerun", Rerun),
        (job + "/logs", Logs),
        (r"/api/v1/orchestrator/nodes", Nodes),
        (r"/api/v1/orchestrator/nodes/([^/]+)", OneNode),
        (r"/(?:version)?", ToVersion),
        (r"/livez", ToAlive),
        (OWN_PREFIX + r"/results/(?:([A-Za-z0-9_-]+)/)?(e-[0-9a-f-]+)\.tar\.gz", Archive),
        (OWN_PREFIX + r"/(status|stop|prune|tcp)", Own),
    ]
    settings: dict[str, Any] = {"service": service, "door": door, "log_function": lambda _handler: None, "websocket_ping_interval": None}
    return tornado.web.Application(routes, default_handler_class=Unknown, **settings)


class _Common(tornado.web.RequestHandler):
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
class _Handler(_Common):
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


class Unknown(_Handler):
    def prepare(self) -> None:
        if self.admit():
            refusal = Refusal(
                "The requested resource/URL was not found.", status=404, code="NotFound",
                hint="The server may be older than the client, or the URL is wrong.",
            )  # fmt: skip
            self.refuse(refusal)


class ToVersion(_Handler):
    def get(self) -> None:
        self.redirect("/api/v1/agent/version", permanent=True)


class ToAlive(_Handler):
    def get(self) -> None:
        self.redirect("/api/v1/agent/alive", permanent=True)


class Alive(_Handler):
    def get(self) -> None:
        self.answer({"Status": "OK"})


class Version(_Handler):
    def get(self) -> None:
        self.answer(_answers.version())


class AgentConfig(_Handler):
    def get(self) -> None:
        self.answer({"config": {}} if self.request.path.endswith("config") else {})


class AuthConfig(_Handler):
    def get(self) -> None:
        self.answer({"Version": "1.0.0", "Config": {}})


class AuthMethods(_Handler):
    def get(self) -> None:
        phrase = base64.b64encode(b"bacalhau-magic").decode()
        self.answer({"NextToken": "", "Methods": {"ClientKey": {"type": "challenge", "params": {"InputPhrase": phrase}}}})


class AuthMethod(_Handler):
    def get(self) -> None:
        self.post()

    def post(self) -> None:
        # The command line tool asks for a token; a door with a key does not take this one.
        self.answer({"Authentication": {"success": True, "token": str(uuid.uuid4())}})


class AgentNode(_Handler):
    async def get(self) -> None:
        self.answer(await self.service.node_info())


class Nodes(_Handler):
    async def get(self) -> None:
        self.answer({"NextToken": "", "Nodes": [await self.service.node_state()]})


class OneNode(_Handler):
    async def get(self, identity: str) -> None:
        if not self.service.orchestrator.node_id.startswith(unquote(identity)):
            raise Refusal(f"node not found: {unquote(identity)}", status=404, code="NotFound", component="NodeManager")
        self.answer({"Node": await self.service.node_state()})

    def put(self, _identity: str) -> None:
        self.answer({"Success": True})


class Jobs(_Handler):
    def put(self) -> None:
        body = self.body()
        intake = Intake.of(body)
        force = isinstance(body, Mapping) and bool(fold_keys(body).get("force"))
        if not self.door.trusted and _marks.META_INTERPRETER in (intake.job["Tasks"][0].get("Meta") or {}):
            raise Refusal(
                "a job with an interpreter of this machine is not taken at an open port", status=403, code="Forbidden", component="Node"
            )
        self.answer(self.service.orchestrator.submit(intake, force=force, secrets=self._secrets(), index=self._index()))

    post = put

    def _secrets(self) -> dict[str, str]:
        if SECRETS_HEADER in self.request.headers and self.door.is_tcp:
            raise Refusal("secrets are taken over the unix socket only", code="BadRequest", component="Node")
        return self._texts(SECRETS_HEADER)

    def _index(self) -> dict[str, str]:
        """Where the job's packages come from: an installer's variables, with passwords."""
        if INDEX_HEADER in self.request.headers and not self.door.own:
            raise Refusal("an index is taken at the node's own door only", code="BadRequest", component="Node")
        index = self._texts(INDEX_HEADER)
        if not is_index(index):
            raise Refusal(f"{INDEX_HEADER} must hold an installer's variables", code="BadRequest", component="Node")
        return index

    def _texts(self, header: str) -> dict[str, str]:
        """A header's JSON object of texts, as it is or in base64; empty where there is none."""
        text = self.request.headers.get(header, "")
        if not text:
            return {}
        try:
            if not text.lstrip().startswith("{"):
                text = base64.b64decode(text, validate=True).decode()
            texts = json.loads(text)
        except (ValueError, RecursionError):
            texts = None
        if not isinstance(texts, dict) or not all(
            isinstance(v, str) and k and "=" not in k and "\0" not in k + v for k, v in texts.items()
        ):
            raise Refusal(f"{header} must be a JSON object of texts", code="BadRequest", component="Node")
        return texts

    def get(self) -> None:
        order, reverse = self.get_query_argument("order_by", ""), self.flag("reverse")
        limit, offset = self.whole("limit", 0), 0
        if token := self.get_query_argument("next_token", ""):
            try:
                order, reverse, limit, offset = _answers.token_offset(token)
            except ValueError as problem:
                raise Refusal(f"code=400, message=invalid next_token: {problem}") from None
        if order not in ("", "created_at", "modified_at"):
            raise Refusal("Internal server error", status=500, component="Unknown")
        namespace, selectors = self.get_query_argument("namespace", ""), self.get_query_arguments("labels")
        orchestrator = self.service.orchestrator
        items: list[dict[str, Any]] = []
        next_token = ""
        column = "modified" if order == "modified_at" else "created"
        seen = 0
        for row in orchestrator.store.jobs(namespace=namespace, order=column, reverse=reverse):
            if not all(selects(selector, row.spec["Labels"]) for selector in selectors if selector):
                continue
            seen += 1
            if seen <= offset:
                continue
            if limit and len(items) == limit:
                next_token = _answers.page_token(offset + limit, limit=limit, order=order, reverse=reverse)
                break
            items.append(self.service.job_answer(row))
        self.answer({"NextToken": next_token, "Items": items})


class JobDiff(_Handler):
    def put(self) -> None:
        intake = Intake.of(self.body())
        known = self.service.orchestrator.store.job_named(intake.job["Name"], intake.job["Namespace"])
        same = known is not None and known.spec == {**intake.job, "Name": known.name}
        self.answer({"Diff": "" if same else "the job would change" if known else "the job is new", "Warnings": intake.warnings or None})


class OneJob(_Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        include = self.get_query_argument("include", "").split(",")
        # Our own client leaves long inline inputs out where it needs the state alone; a real server knows no such thing.
        if self.get_query_argument("inputs", "") != "false":
            row = self.service.orchestrator.whole(row)
        answer: dict[str, Any] = {"Job": self.service.job_answer(row)}
        if "history" in include:
            answer["History"] = _history(self, row, self.service.orchestrator.store.history(row.id, limit=10_000), 10_000)
        if "executions" in include:
            answer["Executions"] = {"NextToken": "", "Items": _executions(self, row)}
        self.answer(answer)

    def delete(self, text: str) -> None:
        body = fold_keys(self.body())
        reason = body.get("reason") or self.get_query_argument("reason", "")
        self.answer(self.service.orchestrator.stop(self.job_row(text), reason if isinstance(reason, str) else ""))


def _history(handler: _Common, row: JobRow, items: list[dict[str, Any]], limit: int, after: int = 0) -> dict[str, Any]:
    last = items[-1]["SeqNum"] if items else after
    more = not row.over or (len(items) == limit and bool(handler.service.orchestrator.store.history(row.id, after=last, limit=1)))
    return {"NextToken": _answers.page_token(last) if more else "", "Items": items}


class History(_Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        kind = self.get_query_argument("event_type", "") or "all"
        if kind not in ("all", "job", "execution"):
            raise Refusal("code=400, message=event_type must be one of: all, job, execution", status=400)
        after = 0
        if token := self.get_query_argument("next_token", ""):
            try:
                after = _answers.token_offset(token)[3]
            except ValueError as problem:
                raise Refusal(f"code=400, message=invalid next_token: {problem}") from None
        limit = min(self.whole("limit", _MOST_ITEMS) or _MOST_ITEMS, 10_000)
        execution = self.get_query_argument("execution_id", "")
        since = self.whole("since", 0) * 10**9
        items = self.service.orchestrator.store.history(row.id, after=after, limit=limit, execution=execution, kind=kind, since=since)
        self.answer(_history(self, row, items, limit, after))


def _executions(handler: _Common, row: JobRow) -> list[dict[str, Any]]:
    service = handler.service
    its_job = service.job_answer(row)
    node = service.orchestrator.node_id
    every = handler.flag("all_job_versions")
    version = int(handler.get_query_argument("job_version", "") or row.version) if not every else 0
    rows = [e for e in service.orchestrator.store.executions(row.id) if every or e.job_version == version]
    return [_answers.execution(e, row.namespace, node, its_job, handler.archive_url(e)) for e in rows]


class Executions(_Handler):
    def get(self, text: str) -> None:
        self.whole("job_version", 0)
        items = _executions(self, self.job_row(text))
        key = {"create_time": "CreateTime", "created_at": "CreateTime", "modify_time": "ModifyTime", "modified_at": "ModifyTime"}
        if order := key.get(self.get_query_argument("order_by", "")):
            items.sort(key=lambda item: item[order])
        self.answer({"NextToken": "", "Items": items[::-1] if self.flag("reverse") else items})


class Versions(_Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        self.answer({"NextToken": "", "Items": [*self.service.orchestrator.store.versions(row.id), self.service.job_answer(row)]})


class Results(_Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        executions = self.service.orchestrator.store.executions(row.id)
        urls = [self.archive_url(e) for e in executions if e.published and e.job_version == row.version]
        self.answer({"NextToken": "", "Items": [_answers.result(url) for url in urls]})


class Rerun(_Handler):
    def put(self, text: str) -> None:
        body = fold_keys(self.body())
        try:
            row = self.job_row(text)
        except Refusal as refusal:
            raise Refusal(refusal.message, status=500, code=refusal.code, component=refusal.component) from None
        self.answer(self.service.orchestrator.rerun(row, str(body.get("reason") or "")))


class Archive(_Handler):
    """A published archive: on the unix socket for its owner, over TCP by a URL that carries the right."""

    def carries_right(self) -> bool:
        parts = self.request.path.removeprefix(OWN_PREFIX + "/results/").split("/")
        return len(parts) == 2 and self.service.capabilities.allows(parts[0], parts[1].removesuffix(".tar.gz"))

    async def get(self, _right: str | None, execution: str) -> None:
        if self.door.is_tcp and not self.carries_right():
            raise Refusal("no such result, or the address has expired", status=404, code="NotFound", component="Node")
        path = self.service.orchestrator.execution_folder(execution) / _attempt.RESULT
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise Refusal(f"no result of {execution}", status=404, code="NotFound", component="Node") from None
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            self.set_header("Content-Type", "application/gzip")
            self.set_header("Accept-Ranges", "bytes")
            self.set_header("Etag", tag)
            left = self._from(tag, facts.st_size, file)
            self.set_header("Content-Length", str(left))
            while self.request.method == "GET" and (chunk := file.read(min(left, 1 << 18))):
                left -= len(chunk)
                self.write(chunk)
                await self.flush()

    def _from(self, tag: str, size: int, file: IO[bytes]) -> int:
        """Go to where the answer begins, by the request's range; the bytes that it has then."""
        wanted = re.fullmatch(r"bytes=(\d{1,15})-", self.request.headers.get("Range", ""))
        if wanted is None or self.request.headers.get("If-Range", tag) != tag:
            return size
        begin = int(wanted[1])
        if begin >= size:
            self.set_header("Content-Range", f"bytes */{size}")
            self.set_status(416)
            return 0
        self.set_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.set_status(206)
        file.seek(begin)
        return size - begin

    async def head(self, right: str | None, execution: str) -> None:
        await self.get(right, execution)


class Own(_Handler):
    """What the package itself asks of its node; on the owner's own door only."""

    async def get(self, verb: str) -> None:
        if verb != "status" or not self.door.own:
            raise Refusal("Not Found", status=404, code="NotFound", component="Node")
        self.answer(await self.service.status())

    async def post(self, verb: str) -> None:
        if not self.door.own or verb == "status":
            raise Refusal("Not Found", status=404, code="NotFound", component="Node")
        body = fold_keys(self.body())
        actions: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "stop": self.service.ask_stop, "prune": self.service.prune, "tcp": self.service.open_tcp,
        }  # fmt: skip
        self.answer(await actions[verb](body))


class Logs(tornado.websocket.WebSocketHandler, _Common):
    """A job's log as frames; every problem but a missing permission comes as a frame after the upgrade."""

    def check_origin(self, _origin: str) -> bool:
        return True  # admit() has looked, with the door's own names

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.admit():
            await super().get(*args, **kwargs)

    def open(self, *args: str, **_kwargs: str) -> None:
        self._sending = asyncio.ensure_future(self._send(args[0]))

    def on_message(self, message: str | bytes) -> None:
        """Clients have nothing to say here."""

    def on_close(self) -> None:
        if sending := getattr(self, "_sending", None):
            sending.cancel()

    async def _send(self, text: str) -> None:
        with suppress(tornado.iostream.StreamClosedError, tornado.websocket.WebSocketClosedError):
            try:
                execution = self._execution(text)
            except Refusal as refusal:
                await self.write_message(
                    json.dumps({"error": refusal.message, "value": {"Type": 0, "Line": ""}}, separators=(",", ":")) + "\n"
                )
                self.close(1000)
                return
            orchestrator = self.service.orchestrator
            path = orchestrator.execution_folder(execution) / _attempt.LOG
            batches = orchestrator.logs.read(execution, path, follow=self.flag("follow"), tail=self.flag("tail"))
            try:
                async for batch in batches:
                    await self._frames(batch)
            finally:
                await batches.aclose()  # type: ignore[attr-defined]
            self.close(1000)

    async def _frames(self, batch: list[tuple[int, str]]) -> None:
        """Writes many small frames at once: one frame a call costs ten times as much."""
        stream = getattr(self.ws_connection, "stream", None)
        if stream is None:
            raise tornado.websocket.WebSocketClosedError
        for at in range(0, len(batch), 1000):
            frames = b"".join(map(_frame, batch[at : at + 1000]))
            self.service.touch()
            await stream.write(frames)

    def _execution(self, text: str) -> str:
        orchestrator = self.service.orchestrator
        row = self.job_row(text)
        wanted = self.get_query_argument("execution_id", "")
        executions = [e for e in orchestrator.store.executions(row.id) if wanted or e.job_version == row.version]
        prefix = f"failed to open log stream for job {row.id}: "
        if not executions:
            raise Refusal(f"{prefix}no executions found for job {row.name} with ID {row.id}, and version 0")
        usable = [e.id for e in executions if (e.id == wanted if wanted else e.compute not in _lifecycle.DISCARDED)]
        if not usable:
            raise Refusal(f"{prefix}unable to find execution {wanted} in job {row.id} and job version {row.version}")
        return usable[-1]


def _frame(item: tuple[int, str]) -> bytes:
    text = json.dumps(item[1])
    data = f'{{"value":{{"Type":{item[0]},"Line":{text}}}}}\n'.encode()
    size = len(data)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + data
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + data
    return struct.pack("!BBQ", 0x81, 127, size) + data


def _is_key(header: str, key: str) -> bool:
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
