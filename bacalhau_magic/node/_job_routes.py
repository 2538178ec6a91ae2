"""Routes about jobs, as a node of version 1.9.3 has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from .. import _marks
from . import _answers
from ._intake import Intake, Refusal, fold_keys
from ._labels import selects
from ._packages import is_index
from ._requests import Handler, Request
from ._store import JobRow

__all__ = ["SECRETS_HEADER"]

SECRETS_HEADER = "X-Bacalhau-Magic-Secrets"
INDEX_HEADER = "X-Bacalhau-Magic-Index"
"""The same words as in `_wire`, which is not imported here because it would double the node's start."""

_MOST_ITEMS = 100


class Jobs(Handler):
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


class JobDiff(Handler):
    def put(self) -> None:
        intake = Intake.of(self.body())
        known = self.service.orchestrator.store.job_named(intake.job["Name"], intake.job["Namespace"])
        same = known is not None and known.spec == {**intake.job, "Name": known.name}
        self.answer({"Diff": "" if same else "the job would change" if known else "the job is new", "Warnings": intake.warnings or None})


class OneJob(Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        include = self.get_query_argument("include", "").split(",")
        # Our own client leaves long inline inputs out where it needs the state alone; a real server knows no such thing.
        if self.get_query_argument("inputs", "") != "false":
            row = self.service.orchestrator.spool.whole(row)
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


def _history(handler: Request, row: JobRow, items: list[dict[str, Any]], limit: int, after: int = 0) -> dict[str, Any]:
    last = items[-1]["SeqNum"] if items else after
    more = not row.over or (len(items) == limit and bool(handler.service.orchestrator.store.history(row.id, after=last, limit=1)))
    return {"NextToken": _answers.page_token(last) if more else "", "Items": items}


class History(Handler):
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


def _executions(handler: Request, row: JobRow) -> list[dict[str, Any]]:
    service = handler.service
    its_job = service.job_answer(row)
    node = service.orchestrator.node_id
    every = handler.flag("all_job_versions")
    version = int(handler.get_query_argument("job_version", "") or row.version) if not every else 0
    rows = [e for e in service.orchestrator.store.executions(row.id) if every or e.job_version == version]
    return [_answers.execution(e, row.namespace, node, its_job, handler.archive_url(e)) for e in rows]


class Executions(Handler):
    def get(self, text: str) -> None:
        self.whole("job_version", 0)
        items = _executions(self, self.job_row(text))
        key = {"create_time": "CreateTime", "created_at": "CreateTime", "modify_time": "ModifyTime", "modified_at": "ModifyTime"}
        if order := key.get(self.get_query_argument("order_by", "")):
            items.sort(key=lambda item: item[order])
        self.answer({"NextToken": "", "Items": items[::-1] if self.flag("reverse") else items})


class Versions(Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        self.answer({"NextToken": "", "Items": [*self.service.orchestrator.store.versions(row.id), self.service.job_answer(row)]})


class Results(Handler):
    def get(self, text: str) -> None:
        row = self.job_row(text)
        executions = self.service.orchestrator.store.executions(row.id)
        urls = [self.archive_url(e) for e in executions if e.published and e.job_version == row.version]
        self.answer({"NextToken": "", "Items": [_answers.result(url) for url in urls]})


class Rerun(Handler):
    def put(self, text: str) -> None:
        body = fold_keys(self.body())
        try:
            row = self.job_row(text)
        except Refusal as refusal:
            raise Refusal(refusal.message, status=500, code=refusal.code, component=refusal.component) from None
        self.answer(self.service.orchestrator.rerun(row, str(body.get("reason") or "")))
