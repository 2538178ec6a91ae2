"""Sending a job: once and never again.

The ledger keeps a row before the request goes out. Where the answer is lost, the server is asked for the job by its
request label; a second request is never sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from . import _marks, _traces
from ._ledger import Ledger, Row
from ._stages import JobRef, PackedJob
from ._wire import TERMINAL, Job
from .client import Client
from .errors import ApiError, NotFoundError, RejectedError, UnreachableError
from .packing import stage, unstage

_LOOKS = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Pauses before each look for a job whose answer was lost: the server may still be storing it."""
_WARNINGS, _WARNING = 5, 300
"""How many of a server's warnings are said, and how many characters of each."""


def _unheard(_sentence: str) -> None:
    """Nobody hears."""


@_traces.traced("bacalhau.submit")
def submit(
    client: Client,
    packed: PackedJob,
    ledger: Ledger,
    *,
    notebook: str = "",
    cell: str = "",
    headers: Mapping[str, str] | None = None,
    say: Callable[[str], None] = _unheard,
) -> JobRef:
    """Send the job and return its reference; `say` hears what the server warns of.

    Raises UnsendableInputError for a large input that can't be staged; the ApiError family: the job was not accepted; or UnreachableError with `unsure` set: it may have been.
    """
    stage(packed)
    job, endpoint = packed.job, client.endpoint
    language = job.task.meta.get(_marks.META_LANGUAGE, "")
    ledger.begin(
        Row(
            request_id=packed.request_id,
            url=endpoint.url,
            socket=endpoint.socket,
            namespace=job.namespace,
            notebook=notebook,
            cell=cell,
            body_hash=packed.body_hash,
            name=job.labels.get(_marks.NAME_LABEL) or job.name,
            language=language,
            created=time.time(),
        )
    )
    try:
        answer = client.submit(packed.body, headers=headers)
        job_id, warnings = answer.job_id, answer.warnings
    except ApiError as error:
        if not error.unsure:
            ledger.forget(packed.request_id)
            unstage(packed)
            raise
        job_id, warnings = _look_up(client, packed, ledger, error), []
        if not job_id:
            ledger.forget(packed.request_id)
            unstage(packed)
            raise
    except BaseException:
        # An interrupt in the middle of the request: whether it arrived is not known.
        ledger.unknown(packed.request_id)
        raise
    ledger.sent(packed.request_id, job_id)
    for warning in warnings[:_WARNINGS]:
        say(f"The server warns: {warning[:_WARNING]}")
    _traces.attributes(job_id=job_id, endpoint=endpoint.label, payload_size=len(packed.body))
    return JobRef(job_id, endpoint, job.namespace, job.name, packed.request_id)


def _look_up(client: Client, packed: PackedJob, ledger: Ledger, lost: ApiError) -> str:
    """The id of the job whose answer was lost; "" where the server itself said that it failed, and has none.

    Raises UnreachableError when no answer came at all and the server has none so far, or can't be asked.
    """
    asked = False
    answered = isinstance(lost, RejectedError)
    for pause in _LOOKS[:2] if answered else _LOOKS:
        time.sleep(pause)
        try:
            found = find_request(client, packed.request_id, packed.job.namespace)
        except ApiError:
            continue
        asked = True
        if found:
            return found
    if answered and asked:
        return ""
    ledger.unknown(packed.request_id)
    what = "The server has no such job so far" if asked else "The server could not be asked whether it has the job"
    raise UnreachableError(
        f"{lost.message} {what}; nothing was sent again.",
        method=lost.method,
        url=lost.url,
        status=lost.status,
        unsure=True,
        hint="%bacalhau jobs looks for it again; run the cell again only when it is not there.",
    ) from lost


def twin(client: Client, packed: PackedJob, ledger: Ledger, notebook: str) -> tuple[JobRef, Job] | None:
    """The notebook's newest unfinished job of the same cell, options and inputs, and its spec; raises the ApiError family."""
    reconcile(client, ledger)
    for row in ledger.unfinished(notebook, packed.body_hash):
        if not row.is_at(client.endpoint):
            continue
        try:
            job = client.job(row.job_id, row.namespace)
        except NotFoundError:
            continue
        if job.phase_word not in TERMINAL:
            return row.ref(client.endpoint), job
        ledger.finished(row.job_id, job.phase_word, job.took)
    return None


def find_request(client: Client, request_id: str, namespace: str = "*") -> str:
    """The id of the job that a request made, "" where the server has none. Raises the ApiError family."""
    for job in client.jobs(labels=f"{_marks.REQUEST_LABEL}={request_id}", namespace=namespace, limit=10):
        if job.id and job.labels.get(_marks.REQUEST_LABEL) == request_id:
            return job.id
    return ""


def reconcile(client: Client, ledger: Ledger) -> list[Row]:
    """Settle the rows of this endpoint whose answer was lost; those that its server has. Raises the ApiError family."""
    settled = []
    for row in ledger.unsettled():
        # A request may be on its way right now, from another kernel.
        if not row.is_at(client.endpoint) or (row.state == "sending" and time.time() - row.created < 60):
            continue
        job_id = find_request(client, row.request_id, row.namespace)
        if job_id:
            ledger.sent(row.request_id, job_id)
            settled += [found for found in [ledger.request(row.request_id)] if found]
        elif time.time() - row.created > 3600:
            ledger.forget(row.request_id)
    return settled
