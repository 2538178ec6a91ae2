"""What an answer other than 200 means, in the server's own words where it gave some."""

from __future__ import annotations

import json
from typing import Any

from .. import _wire
from .._stages import Credential
from ..errors import ApiError, NotFoundError, RejectedError, UnauthorizedError, UnexpectedAnswerError
from ._problems import clean


def answer_problem(label: str, method: str, url: str, status: int, content: bytes, credential: Credential | None = None) -> ApiError:
    """The error that an answer of another status than 200 means, in the server's own words where it gave some."""
    body = _envelope(content)
    if body is None:
        return _bare_problem(label, method, url, status, content, credential or Credential())
    reason = body.details.get("reason") if isinstance(body.details.get("reason"), str) else ""
    message = clean(body.message) or f"status {status}"
    hint = clean(body.hint)
    facts: dict[str, Any] = {"method": method, "url": url, "status": status, "code": clean(body.code)}
    if status in (401, 403):
        return _refused(label, clean(reason or "") or message, credential or Credential(), hint, facts)
    if status == 404:
        return NotFoundError(f"{label}: {message}.", hint=hint, **facts)
    if reason:
        message = f"{message} ({clean(reason)})"
    # A 5xx says that something broke, perhaps after the request had its effect.
    facts["unsure"] = status >= 500
    return RejectedError(f"{label} refuses the request: {message.rstrip('.')}.", hint=hint, **facts)


def _refused(label: str, said: str, credential: Credential, hint: str, facts: dict[str, Any]) -> UnauthorizedError:
    """A refusal of who asks, with the setting that the credential came from."""
    advice = "Write %bacalhau login, or set BACALHAU_API_KEY (or BACALHAU_API_USERNAME and _PASSWORD), for this endpoint."
    if facts["status"] == 403 and credential:
        advice = hint
    return UnauthorizedError(
        f"{label} refuses the request: {said.rstrip('.')}. {credential.sentence}", hint=advice, credential_origin=credential.origin, **facts
    )


def _bare_problem(label: str, method: str, url: str, status: int, content: bytes, credential: Credential) -> ApiError:
    said = clean(content[:200].decode("utf-8", "replace")).strip()
    facts: dict[str, Any] = {"method": method, "url": url, "status": status}
    if status in (401, 403):
        return _refused(label, f"status {status}", credential, "", facts)
    if status == 404:
        return NotFoundError(f"{label} does not know {url}.", hint="Check that the endpoint is a Bacalhau API.", **facts)
    if status == 413:
        return RejectedError(f"{label} refuses the request: it is too large.", **facts)
    return UnexpectedAnswerError(
        f"{label} answered with status {status}" + (f": {said}" if said and not said.startswith("<") else "") + ".",
        unsure=status >= 500 or status < 400,
        hint="The endpoint or a proxy before it has a problem; try again later." if status >= 500 else "",
        **facts,
    )


def _envelope(content: bytes) -> _wire.ErrorBody | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if "Error" in value and "Message" not in value:
        value = {"Message": str(value["Error"])}
    if not isinstance(value.get("Message"), str):
        return None
    try:
        return _wire.ErrorBody.model_validate(value)
    except ValueError:
        return _wire.ErrorBody(message=value["Message"])
