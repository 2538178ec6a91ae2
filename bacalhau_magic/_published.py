"""A result whose log is gone or incomplete, completed from what the job published.

A publisher's archive holds the job's whole stdout, packets and all, for as long as its storage keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ._bundles import bundle_limit
from ._marks import META_NONCE, META_PUBLISH
from ._packets import Assembler, Text
from ._stages import Ended, JobRef
from ._wire import ExecutionState
from .client import Client, fetch_log
from .errors import ApiError, ResultError

_LINE = 4_000_000
"""Bytes of an archive's stream that are fetched for a line that may be missing."""


def is_wanted(ended: Ended) -> bool:
    """Whether the job may have published what is missing, or may be: a bundle of a wrapped job, or the rest of a log."""
    job = ended.record.job
    ran = any(execution.compute == ExecutionState.COMPLETED for execution in ended.record.executions)
    published = job.task.publisher is not None and bool(job.task.publisher.type) and META_PUBLISH not in job.task.meta
    return ended.blob is None and ran and published and (ended.cut or ended.unproven or bool(ended.problem))


def is_doubt(ended: Ended) -> bool:
    """Whether all that may be missing is the last line of a text that no packets carry."""
    return ended.unproven and not (ended.cut or ended.problem or ended.record.job.task.meta.get(META_NONCE))


def completed(
    client: Client,
    ref: JobRef,
    ended: Ended,
    *,
    nonce: str,
    max_result: int,
    said: Callable[[int, int | None], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Ended:
    """The end of a job with what its published archive adds; raises nothing: what kept the archive away is the problem.

    `said` hears of the bytes, `halted` tells that the user wants no more.
    """
    limit = bundle_limit(max_result)
    # Base64 and the packets' heads take a third more; the plain text stands there a second time.
    most = 3 * limit
    if is_doubt(ended):
        most = min(most, max(_LINE, 4 * len(ended.stdout)))
    try:
        log = fetch_log(client, ref, max_bytes=most, said=said, halted=halted)
    except (ResultError, ApiError) as problem:
        if is_doubt(ended):
            return ended  # a text that may well be whole, and is not called so
        lacks = ended.problem or "No result came back in the job's log."
        return replace(ended, problem=f"{lacks} Its published copy can't be used: {problem.message}")
    assembler = Assembler(nonce or "-", limit)
    events = [*assembler.feed(1, log.stdout.decode("utf-8", "replace")), *assembler.finish()]
    text = "".join(event.text for event in events if isinstance(event, Text))
    blob, found = assembler.outcome() if nonce else (None, "")
    stderr = log.stderr.decode("utf-8", "replace")
    if blob is None and not (ended.cut or ended.problem) and not (_goes_on(ended.stdout, text) and _goes_on(ended.stderr, stderr)):
        return ended  # what was heard may well be whole, and is no part of this
    return replace(ended, blob=blob, problem=found, stdout=text[:max_result], stderr=stderr[:max_result], cut=False, unproven=False)


def _goes_on(heard: str, text: str) -> bool:
    """Whether a text begins with what was heard, whose last newline may be the wrapper's."""
    return text.startswith(heard.removesuffix("\n"))
