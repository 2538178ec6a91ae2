"""The one data path from a request to a result: choose, pack, submit, watch, collect."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import _preflight, _published, _traces
from ._cassettes import LARGEST
from ._content import Content, content_of, secrets_of
from ._filetree import listed
from ._hints import LACKS, advise, advising, forgotten, lacking
from ._marks import META_AS, META_INTERPRETER, META_LANGUAGE, META_MAX_RESULT, META_NONCE, META_OUTPUTS, META_PACKAGES, META_SECRETS
from ._recordings import Recording
from ._results import cause_of, collect
from ._routing import NOT_ISOLATED, ONE_STREAM, choose
from ._secrets import Veil, header, kept_out, looks_secret, required
from ._shapes import named, shape
from ._stages import (
    UNENCRYPTED,
    Availability,
    CellRequest,
    Ended,
    Endpoint,
    Finished,
    JobEvent,
    JobRef,
    JobResult,
    Noticed,
    Packed,
    PackedJob,
    PhaseChanged,
    Route,
    Submitted,
    Target,
    Transferred,
    is_loopback,
)
from ._stops import StopRequest
from ._submit import submit, twin
from ._tapes import Player, Recorder, Source, Take, Tape
from ._watch import watch
from ._wire import FAILED, INDEX_HEADER, SECRETS_HEADER, Job, whole_number
from .client import Fetched, Rights, fetch_files, pack_files, unpack_files
from .errors import ApiError, BacalhauMagicError, ConfigError, JobStoppedError, JobTimedOutError, ResultError
from .options import JobOptions, duration_text
from .packing import addressed, pack, repacked

if TYPE_CHECKING:
    from ._ledger import Ledger
    from ._settings import Settings
    from .client import Client


@dataclass(frozen=True, slots=True)
class Means:
    """What a flow needs of its process: settings, probing, clients and the ledger."""

    settings: Settings
    availability: Callable[[CellRequest], Availability]
    client: Callable[[Endpoint], Client]
    ledger: Ledger
    said: set[str]
    """The notices that are said once a session, and were."""
    tape: Tape | None = None
    """Where the cell is recorded or replayed, or its result stored."""


Emit = Callable[[JobEvent], None]
_SPARE = 3600
"""Seconds that a signed address is good for beyond what the job may wait."""
_IN_CLEAR = "Everybody who may read the job reads"
_PACE = 0.15
"""Seconds between two words of how many bytes went over."""


def prepare(request: CellRequest, means: Means) -> tuple[CellRequest, PackedJob]:
    """Choose a place for a request and pack it; nothing is sent.

    Returns the request with the options that hold there, and the packed job. Raises ConfigError, OptionError,
    PackingError.
    """
    route = chosen_route(request, means)
    clear = looks_secret(request.env)
    said_clear = (f"{_IN_CLEAR} {clear}: --env puts it into the spec in clear. Use --secret {clear}.",) if clear else ()
    route = replace(route, notices=tuple(notice for notice in (*route.notices, *said_clear) if _is_news(notice, means.said)))
    effective = replace(request, options=route.options)
    if route.target.is_local or route.options.secret_in_spec:
        required(route.options.secret, request.secrets)
    if request.secrets and not route.options.secret_in_spec:
        kept_out(effective)
    if lack := lacking(effective, route.target):
        route = replace(route, notices=(*route.notices, *((lack,) if _is_news(lack, means.said) else ())))
    packed = pack(effective, route, pull_timeout=means.settings.pull_timeout)
    said = _preflight.check(packed, means.client(route.target.endpoint).nodes)
    return effective, replace(packed, notices=(*packed.notices, *said))


def chosen_route(request: CellRequest, means: Means) -> Route:
    """Where a request goes, under the settings and their policy. Raises ConfigError, OptionError."""
    settings = means.settings
    return choose(
        request.options,
        request.language,
        means.availability(request),
        strict=settings.strict,
        limited=settings.policy.max,
        allowed=settings.policy.allowed,
        remote_gpu=settings.remote_gpu,
    )


def _is_news(notice: str, said: set[str]) -> bool:
    """Whether a notice is to be shown: some are said once a session."""
    begin = next((begin for begin in (NOT_ISOLATED, UNENCRYPTED, ONE_STREAM, _IN_CLEAR, LACKS) if notice.startswith(begin)), None)
    if begin == LACKS:
        begin = notice  # another list is news
    if begin is None:
        return True
    is_new = begin not in said
    said.add(begin)
    return is_new


def run(request: CellRequest, means: Means, emit: Emit, stop: StopRequest) -> JobResult:
    """Take a request through the whole path; raises before sending, and reports all that comes later in the result."""
    veil = Veil(request.secrets)
    try:
        return _run(request, means, advising(emit, request.options, means.settings.policy), veil, stop)
    except BacalhauMagicError as problem:
        veil.error(problem)
        raise


def _run(request: CellRequest, means: Means, followed: Emit, veil: Veil, stop: StopRequest) -> JobResult:
    """The same, behind the veil of the request's secrets; `followed` is told by `follow`, which has its own."""
    emit = veil.over(followed)
    for notice in request.notices:
        emit(Noticed(notice))
    take: Take | None = None
    if means.tape is not None:
        content = content_of(request)
        if not isinstance(means.tape, Recorder) and (recording := means.tape.take(content)):
            return _replay(recording, means.tape, content, request, means, emit)
        if not isinstance(means.tape, Player):
            take = Take(means.tape, content, secrets_of(request))
            followed = take.hearing(followed)
            emit = veil.over(followed)
    request, packed = prepare(replace(request, env={**_traces.carrier(), **request.env}), means)
    emit(Packed(len(packed.body)))
    if stop.requested.is_set():
        raise JobStoppedError("The job was stopped before it was sent.", job_id="", reason=stop.reason)
    client = means.client(packed.route.target.endpoint)
    if found := _twin(client, packed, request, means):
        ref, job = found
        if request.options.once:
            emit(Submitted(ref, packed.route))
            emit(Noticed(f"Attached to {ref.short_id}, which this notebook had sent; nothing was sent again."))
            return follow(ref, marks_of(dict(job.task.meta))[0], request, means, followed, stop, packed.route, job)
        emit(Noticed(f"The same cell runs already as {ref.short_id}; `--once` would attach to it."))
    if packed.route.options.secret_in_spec:
        emit(Noticed(_loudly(packed)))
    for notice in _preflight.check_addresses(request, packed.route.target):
        emit(Noticed(notice))
    if packed.uploads:
        packed = _uploaded(packed, means, emit, stop)
    ref = _sent(client, packed, request, means, emit)
    emit(Submitted(ref, packed.route))
    for notice in packed.notices:
        emit(Noticed(notice))
    if means.ledger.problem and means.ledger.problem not in means.said:
        means.said.add(means.ledger.problem)
        emit(Noticed(means.ledger.problem))
    return follow(ref, packed.nonce, request, means, followed, stop, packed.route, packed.job, take)


def _replay(recording: Recording, source: Source, content: Content, request: CellRequest, means: Means, emit: Emit) -> JobResult:
    """Tell a recorded job again: its events and its end, read as those of any other."""
    endpoint = Endpoint("", recording=source.label)
    said = f"{source.origin}, recorded on {recording.recorded}"
    route = Route(Target("bacalhau", endpoint, executor=recording.executor), said, options=request.options)
    key = content.key
    # As long as any other: a hash of what the cell is.
    job_id = f"j-{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:32]}"
    ref = JobRef(job_id, endpoint, name=f"{request.language.name}-{key[:8]}", is_awaited=not request.options.bg)
    emit(Packed(0))
    emit(Submitted(ref, route))
    emit(Noticed(f"{said}."))
    for event in recording.events:
        emit(event)
    emit(recording.ended)

    def files(folder: Path, rights: Rights) -> Fetched:
        if recording.files is None:
            raise ResultError("The recorded job left no files.", job_id=ref.job_id)
        return unpack_files(recording.files, ref, folder, rights)

    # A recording is as hostile as a node: whatever the cell allows, no pickle of it is read.
    asked = replace(request, options=request.options.with_values(allow_pickle=False))
    return _brought(ref, recording.ended, asked, means, emit, route, files)


def _uploaded(packed: PackedJob, means: Means, emit: Emit, stop: StopRequest) -> PackedJob:
    """The job, its large inputs in the store; raises JobStoppedError where it was stopped meanwhile."""
    from ._uploads import LONGEST, upload

    store = packed.route.target.store
    assert store is not None, "what goes by a store has one"
    timeouts = packed.job.task.timeouts
    wait = (timeouts.queue_timeout or 0) + math.ceil(means.settings.pull_timeout) if timeouts else 0
    expires = wait + _SPARE
    if expires > min(store.keep, LONGEST):
        longer = "Let the staging setting keep it longer (keep=7d), or give" if expires <= LONGEST else "Give"
        bound = (
            f"{store.label} keeps what is staged for {duration_text(store.keep)}"
            if store.keep <= LONGEST
            else f"S3 signs an address for {duration_text(LONGEST)} at most"
        )
        raise ConfigError(
            f"What is staged has to be there for {duration_text(expires)}, as long as the job may wait and an hour more, and {bound}.",
            setting="staging",
            hint=f"{longer} the job a shorter --queue-timeout.",
        )
    emit(PhaseChanged("packing", detail="uploading the inputs"))
    try:
        done = upload(store, packed.uploads, expires=expires, said=_paced(emit), halted=stop.requested.is_set)
    except InterruptedError:
        raise JobStoppedError("The job was stopped before it was sent.", job_id="", reason=stop.reason) from None
    parts = [f"sent: {', '.join(done.sent)}"] if done.sent else []
    parts += [f"there already: {', '.join(done.known)}"] if done.known else []
    emit(Noticed(f"Large inputs go by {store.label} ({'; '.join(parts)})."))
    if is_loopback(urlsplit(store.endpoint).hostname or "") and not packed.route.target.endpoint.is_loopback:
        emit(Noticed(f"The store's address {store.endpoint} is this machine's own: nodes elsewhere can't fetch from it."))
    return addressed(packed, done.addresses)


def _loudly(packed: PackedJob) -> str:
    """Who will be able to read the secrets that go in clear."""
    names, where = ", ".join(packed.route.options.secret), packed.route.target.endpoint.label
    return (
        f"IN CLEAR, as --secret-in-spec asks: {names} goes to {where} in the job's spec. Whoever may read jobs there, "
        "who runs it and its nodes can read it, also after the job's end."
    )


def _twin(client: Client, packed: PackedJob, request: CellRequest, means: Means) -> tuple[JobRef, Job] | None:
    """The same cell's unfinished job; where nobody asked for it, a server that can't say has none."""
    try:
        return twin(client, packed, means.ledger, request.notebook)
    except ApiError:
        if request.options.once:
            raise
        return None


def _headers(packed: PackedJob, request: CellRequest) -> dict[str, str]:
    """What the embedded node is told beside the spec, for this job alone: it is kept in no file."""
    meta = packed.job.task.meta
    if not packed.route.target.is_local:
        return {}
    headers = {SECRETS_HEADER: header(request.secrets)} if META_SECRETS in meta else {}
    if META_PACKAGES in meta and META_INTERPRETER in meta:
        from ._index import variables

        headers[INDEX_HEADER] = json.dumps(variables())
    return headers


def _sent(client: Client, packed: PackedJob, request: CellRequest, means: Means, emit: Emit) -> JobRef:
    def say(sentence: str) -> None:
        emit(Noticed(sentence))

    return submit(client, packed, means.ledger, notebook=request.notebook, cell=request.cell, headers=_headers(packed, request), say=say)


def again(old: Job, request: CellRequest, route: Route, means: Means, emit: Emit, stop: StopRequest) -> JobResult:
    """Send the spec of a job that its server has, as a new job, and follow that."""
    emit = advising(emit, request.options, means.settings.policy)
    packed = repacked(old, route)
    emit(Packed(len(packed.body)))
    client = means.client(route.target.endpoint)
    ref = _sent(client, packed, request, means, emit)
    emit(Submitted(ref, route))
    return follow(ref, packed.nonce, request, means, emit, stop, route, packed.job)


def follow(
    ref: JobRef,
    nonce: str,
    request: CellRequest,
    means: Means,
    emit: Emit,
    stop: StopRequest,
    route: Route,
    job: Job | None = None,
    take: Take | None = None,
) -> JobResult:
    """Watch a job that was sent, to its end, and collect its result; `job` is its spec, where it is known here.

    `take` records it.
    """
    options, veil = request.options, Veil(request.secrets)
    # Who left a wait may have sent others since.
    ref = replace(ref, is_awaited=options.stops_on_interrupt and not options.bg)
    emit, unveiled = veil.over(emit), emit
    ended: Ended | None = None
    events = watch(
        means.client(ref.endpoint),
        ref,
        nonce=nonce,
        max_result=options.max_result,
        poll_interval=means.settings.poll_interval,
        stop=stop,
        background=options.bg,
        ledger=means.ledger,
        job=job,
    )
    for event in _traces.spanned("bacalhau.wait", events):
        if isinstance(event, Ended):
            veil.rest(unveiled)
            ended = veil.facts(event)
        emit(event)
    assert ended is not None, "a watch ends with Ended"
    pressed, doubt = stop.requested.is_set(), _published.is_doubt(ended)
    # Whoever stopped the job before still gets a result that is there, but waits for no line that may be missing.
    if _published.is_wanted(ended) and not (pressed and doubt):
        emit(Noticed(f"The log {'may be' if doubt else 'is'} incomplete: the result is fetched from what the job published."))
        whole = _published.completed(
            means.client(ref.endpoint),
            ref,
            ended,
            nonce=nonce,
            max_result=options.max_result,
            said=_paced(emit),
            halted=lambda: stop.requested.is_set() and not pressed,
        )
        ended = veil.facts(whole)

    def files(folder: Path, rights: Rights) -> Fetched:
        fetched = fetch_files(means.client(ref.endpoint), ref, folder, rights, said=_paced(emit), halted=stop.requested.is_set)
        if take:
            take.files = lambda: pack_files(fetched, LARGEST)
        return fetched

    return _brought(ref, ended, request, means, emit, route, files, take, stop)


Files = Callable[[Path, Rights], Fetched]


def _brought(
    ref: JobRef,
    ended: Ended,
    request: CellRequest,
    means: Means,
    emit: Emit,
    route: Route,
    files: Files,
    take: Take | None = None,
    stop: StopRequest | None = None,
) -> JobResult:
    """The result of a job that is over, and what is said of it; `files` brings those that the cell wrote."""
    options, veil = request.options, Veil(request.secrets)
    result = collect(ref, ended, language=request.language, options=options, route=route, veil=veil)
    if request.files is not None:
        result = _with_files(result, request, request.files, files)
    advise(result, request, route.target, means.settings.policy)
    if result.error is not None:
        veil.error(result.error)
    for notice in result.notices:
        emit(Noticed(notice))
    if not ref.endpoint.recording:
        # A job that was stopped because trying again would end the same has failed.
        failed = result.error is not None and not isinstance(result.error, JobStoppedError)
        means.ledger.finished(ref.job_id, FAILED if failed else ended.record.state, ended.record.job.took)
    # A job that somebody stopped did not end by what its notebook is.
    if take and not (stop and stop.by_hand):
        secrets = ref.endpoint.credential
        take.secrets += tuple(filter(None, (secrets.key, secrets.password)))
        if result.error is not None:
            ended = replace(ended, record=replace(ended.record, cause=cause_of(ended.record, route)))
        if problem := take.keep(ended, ref, executor=route.target.executor, failed=result.error is not None):
            emit(Noticed(problem))
    if hint := forgotten(result, request):
        emit(Noticed(hint))
    emit(_finished(result, options))
    return result


def _with_files(result: JobResult, request: CellRequest, folder: Path, files: Files) -> JobResult:
    """The result with the files that the cell wrote to outputs/, also after a failure; what keeps them away is its error."""
    owners = [hashlib.sha256(request.code.encode()).hexdigest()[:16], *([request.cell] if request.cell else [])]
    try:
        fetched = files(folder, Rights(owners, request.options.overwrite))
    except BacalhauMagicError as problem:
        if result.error is not None:
            return replace(result, notices=(*result.notices, problem.message))
        return replace(result, outcome="result", error=problem)
    notices: tuple[str, ...] = ()
    if fetched.skipped:
        notices += (f"Left out of the files, being no regular files, or closed: {listed(fetched.skipped)}.",)
    if fetched.left:
        notices += (f"Still there from an earlier run of this cell: {listed(fetched.left)}.",)
    return replace(result, files=fetched.folder, file_names=fetched.names, notices=(*result.notices, *notices))


def _paced(emit: Emit) -> Callable[[int, int | None], None]:
    """Tells how many bytes went over, a few times a second."""
    last = 0.0

    def said(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PACE or done == total:
            last = now
            emit(Transferred(done, total))

    return said


def _finished(result: JobResult, options: JobOptions) -> Finished:
    if result.error is None:
        left = named(result.outputs) if options.outputs else "" if result.value is None else shape(result.value)
        word = "to be bound" if options.bg and options.outputs else "bound" if options.outputs else "value"
        return Finished("completed", f"{word}: {left}" if left else "Completed.")
    phase: Finished = Finished(
        "stopped" if isinstance(result.error, JobStoppedError) else "failed",
        str(getattr(result.error, "message", "") or result.error),
        str(getattr(result.error, "hint", "")),
        timed_out=isinstance(result.error, JobTimedOutError),
    )
    return phase


def marks_of(meta: dict[str, str]) -> tuple[str, str, tuple[str, ...], str, int]:
    """What a job's Task.Meta says of its cell: nonce, language, wanted names, `--as`, the biggest result in bytes."""
    names = tuple(name for name in meta.get(META_OUTPUTS, "").split(",") if name)
    size = whole_number(meta.get(META_MAX_RESULT, ""))
    return (
        meta.get(META_NONCE, ""),
        meta.get(META_LANGUAGE, "python"),
        names,
        meta.get(META_AS, "auto"),
        64_000_000 if size is None else size,
    )
