"""Bacalhau's API, typed: one method a route; synchronous, thread-safe."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from .. import _wire
from ..errors import UnexpectedAnswerError
from ._cli import CliLogStream, CliTransport, open_cli_stream
from ._logs import LogStream, open_stream
from ._transport import Transport

if TYPE_CHECKING:
    import httpx

    from .._stages import Endpoint

_T = TypeVar("_T", bound=_wire.Wire)
_LOCAL_RATE = 50.0
_MAX_ITEMS = 100_000
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Client:
    """A client of one endpoint; every method may raise the ApiError family.

    All clients of an endpoint share one budget of `requests_per_second` (the embedded node's is 50).
    `handler` stands in for the network in tests; `revive` starts an endpoint again at whose door nobody answers.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        requests_per_second: float = 10.0,
        handler: httpx.BaseTransport | None = None,
        revive: Callable[[], object] | None = None,
    ) -> None:
        self.endpoint = endpoint
        rate = max(requests_per_second, _LOCAL_RATE) if endpoint.is_local else requests_per_second
        self._transport = CliTransport(endpoint, rate) if endpoint.cli else Transport(endpoint, rate, handler=handler, revive=revive)
        self._background = False
        self._version: list[_wire.BuildVersion] = []

    def __repr__(self) -> str:
        return f"Client({self.endpoint.label!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; open log streams are their readers' to close."""
        self._transport.close()

    def in_background(self) -> Client:
        """The same client, whose requests let waiting cells' go first."""
        other = copy.copy(self)
        other._background = True
        return other

    def warm(self) -> None:
        """Import what requests need, and open the connection; problems show at the first real request."""
        if not self.endpoint.cli:
            import websockets.sync.client  # noqa: F401

        self.alive(timeout=2.0)

    # Agent

    def alive(self, *, timeout: float = 5.0) -> bool:
        """Whether the endpoint answers; False for one that does not, an error never."""
        from ..errors import ApiError

        try:
            return isinstance(self._get("/agent/alive", retry=False, timeout=timeout), dict)
        except ApiError:
            return False

    def version(self, *, timeout: float = 10.0) -> _wire.BuildVersion:
        """The server's version; asked for once."""
        if not self._version:
            self._version.append(self._parse(_wire.BuildVersion, self._get("/agent/version", timeout=timeout)))
        return self._version[0]

    def clock_ahead(self, *, timeout: float = 10.0) -> float | None:
        """Seconds by which the server's clock is ahead of this one (to a second), None where it tells no time."""
        began = time.time()
        with self._transport.stream("GET", _wire.API_PREFIX + "/agent/alive", timeout=timeout, background=self._background) as answer:
            said = answer.headers.get("Date", "")
        try:
            there = parsedate_to_datetime(said).timestamp()
        except (TypeError, ValueError, OverflowError):
            return None
        return there + 0.5 - (began + time.time()) / 2

    def _number(self) -> tuple[int, ...] | None:
        from ..errors import ApiError

        try:
            return self.version().number
        except ApiError:
            return None  # not every proxy lets it through; then the answers tell

    def nodes(self, *, timeout: float = 15.0) -> list[_wire.NodeState]:
        """All nodes that the orchestrator knows."""
        return self._items(_wire.NodeState, self._get("/orchestrator/nodes", timeout=timeout), "Nodes")

    # Jobs

    def submit(self, body: bytes, *, headers: Mapping[str, str] | None = None) -> _wire.SubmitAnswer:
        """Submit a job's JSON, once and never again; `unsure` on the error: the server may have it all the same."""
        answer = self._parse(
            _wire.SubmitAnswer,
            self._transport.request("PUT", "/orchestrator/jobs", body=body, headers=headers, timeout=60.0, background=self._background),
        )
        if not answer.job_id:
            raise self._strange("PUT /orchestrator/jobs", "the job's id is missing")
        if not _JOB_ID.fullmatch(answer.job_id):  # it goes into cells that people run
            raise self._strange("PUT /orchestrator/jobs", "the job's id is no id")
        return answer

    def job(self, job_id: str, namespace: str = "", *, inputs: bool = False) -> _wire.Job:
        """One job, by id, or by an unambiguous beginning of it; with its inline inputs only when they are asked for."""
        without = "false" if self.endpoint.is_local and not inputs else ""
        answer = self._get(self._path(job_id), namespace=namespace, inputs=without)
        if not isinstance(answer, dict) or not isinstance(answer.get("Job"), dict):
            raise self._strange("GET job", "the job is missing")
        return self._parse(_wire.Job, answer["Job"])

    def jobs(self, *, labels: str = "", namespace: str = "*", limit: int = 100, reverse: bool = True) -> list[_wire.Job]:
        """Jobs, the newest first; `labels` is a selector such as "a=b,c"; `namespace` "*" means all."""
        found: list[_wire.Job] = []
        token = ""
        while len(found) < limit:
            answer = self._get(
                "/orchestrator/jobs",
                labels=labels,
                namespace=namespace,
                limit=str(min(limit, 500)),
                reverse="true" if reverse else "",
                order_by="created_at",
                next_token=token,
            )
            items = self._items(_wire.Job, answer, "Items")
            found += items
            token = self._token(answer)
            if not items or not token:
                break
        return found[:limit]

    def history(self, job_id: str, namespace: str = "", token: str = "") -> tuple[list[_wire.HistoryItem], str]:
        """The job's history after `token`, and the next token: empty exactly when the job is terminal."""
        answer = self._get(self._path(job_id) + "/history", retry=False, timeout=15.0, namespace=namespace, next_token=token)
        return self._items(_wire.HistoryItem, answer, "Items"), self._token(answer)

    def executions(self, job_id: str, namespace: str = "") -> list[_wire.Execution]:
        """The job's executions, the oldest first."""
        found = self._items(_wire.Execution, self._get(self._path(job_id) + "/executions", namespace=namespace), "Items")
        return sorted(_wire.renumbered(found, self._number()), key=lambda execution: execution.create_time)

    def results(self, job_id: str, namespace: str = "") -> list[_wire.SpecConfig]:
        """Where the job's files were published; empty without a publisher."""
        return self._items(_wire.SpecConfig, self._get(self._path(job_id) + "/results", namespace=namespace), "Items")

    def stop(self, job_id: str, reason: str, namespace: str = "", *, retry: bool = True) -> None:
        """Stop a job; safe to repeat. RejectedError for one that has ended already."""
        self._transport.request(
            "DELETE",
            self._path(job_id),
            query={"namespace": namespace} if namespace else None,
            body=json.dumps({"reason": reason}).encode(),
            retry=retry,
            timeout=15.0,
            background=self._background,
        )

    def rerun(self, job_id: str, reason: str = "") -> _wire.SubmitAnswer:
        """Run a finished job again (servers from 1.8 on)."""
        body = json.dumps({"JobVersion": 0, "Reason": reason}).encode()
        return self._parse(_wire.SubmitAnswer, self._transport.request("PUT", self._path(job_id) + "/rerun", body=body))

    def logs(
        self, job_id: str, *, namespace: str = "", follow: bool = True, execution_id: str = "", tail: bool = False
    ) -> LogStream | CliLogStream:
        """The job's log from its beginning, or only what is new with `tail`; see LogStream."""
        self._transport.budget.take(background=self._background)
        open_log = open_cli_stream if self.endpoint.cli else open_stream
        return open_log(self.endpoint, job_id, namespace=namespace, follow=follow, execution_id=execution_id, tail=tail)

    def download(
        self, url: str, *, anonymous: bool, headers: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> AbstractContextManager[httpx.Response]:
        """The answer to a GET of a path of the endpoint or, `anonymous`, of another place; its body is the caller's to read."""
        return self._transport.stream("GET", url, headers=headers, timeout=timeout, background=self._background, anonymous=anonymous)

    # Parts

    @staticmethod
    def _path(job_id: str) -> str:
        return "/orchestrator/jobs/" + quote(job_id, safe="")

    def _get(self, path: str, *, retry: bool = True, timeout: float = 35.0, **query: str) -> Any:
        asked: dict[str, str | list[str]] = {key: value for key, value in query.items() if value}
        return self._transport.request("GET", path, query=asked or None, retry=retry, timeout=timeout, background=self._background)

    def _parse(self, kind: type[_T], value: Any) -> _T:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise self._strange(kind.__name__, f"{error.error_count()} fields are wrong") from error

    def _items(self, kind: type[_T], answer: Any, key: str) -> list[_T]:
        items = answer.get(key) if isinstance(answer, dict) else None
        if items is None and isinstance(answer, dict):
            items = []
        if not isinstance(items, list) or len(items) > _MAX_ITEMS:
            raise self._strange(key, "a list was expected")
        return [self._parse(kind, item) for item in items]

    def _token(self, answer: Any) -> str:
        token = answer.get("NextToken") if isinstance(answer, dict) else None
        return token if isinstance(token, str) else ""

    def _strange(self, where: str, what: str) -> UnexpectedAnswerError:
        return UnexpectedAnswerError(f"{self.endpoint.label} answered in a way that was not expected ({where}: {what}).", unsure=True)
