"""Jobs that are there already: found again, attached to, sent again, looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _flow, _marks, _secrets
from ._causes import Cause, causes
from ._filetree import FileTree, tree
from ._hints import advised, advising
from ._job import RemoteJob
from ._joblog import read_log
from ._ledger import Row
from ._namespace import variable
from ._placement import amount
from ._session import session as current_session
from ._stages import CellRequest, Endpoint, JobEvent, JobRef, JobResult, Route, Submitted, Target
from ._stops import StopRequest, deliver_stops
from ._submit import reconcile
from ._suggestions import suggestion
from ._wire import Execution, HistoryItem, Job, Resources, Timeouts
from .client import LogStreamError, Rights, check_directory, clean, fetch_files
from .errors import ApiError, BacalhauMagicError, JobTimedOutError, NodeError, NotFoundError, OptionError
from .node import _daemon
from .options import JobOptions, value_of

if TYPE_CHECKING:
    from ._session import Session


_LOOKED_AT = 200
"""How many of a notebook's jobs a wrong name is compared with."""
_TITLE = 40
_LONGEST = 1e9
_SAID = 500
"""How much is said of what went wrong."""
_WENT_WRONG = "Its program ended, and said that something went wrong"


def title(session: Session, row: Row) -> str:
    """A job's name for people: the one that it was given, else the first line of its cell where this kernel has it."""
    known = session.known(row.job_id)
    lines = known.request.code.split("\n") if known is not None and known.request.options.name is None else []
    first = next((line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))), "")
    return (first if len(first) <= _TITLE else f"{first[: _TITLE - 1]}…") or row.name


def find(session: Session, word: str) -> JobRef:
    """The job that a word means: an id, a unique beginning of one, a variable that holds a job or an id, or `last`.

    Raises OptionError, NotFoundError.
    """
    named = variable(session.surroundings.namespace, word)
    if isinstance(named, RemoteJob):
        return named.ref
    if isinstance(named, str) and named:
        word = named
    if word == "last":
        if session.last is not None and session.last.is_sent:
            return session.last.ref
        row = session.ledger.last(session.surroundings.notebook())
        if row is None and (there := labelled(session)):
            endpoint, job = there[0]
            return JobRef(job.id or "", endpoint, job.namespace, job.name, job.labels.get(_marks.REQUEST_LABEL, ""))
        if row is None:
            raise OptionError("This notebook has sent no job yet.", option="JOB", hint="List all of yours: %bacalhau jobs --mine.")
        return _ref_of(session, row)
    rows = session.ledger.find(word)
    if len(rows) > 1:
        raise OptionError(f"{word!r} is the beginning of {len(rows)} jobs.", option="JOB", hint="Give more of the id.")
    if rows:
        return _ref_of(session, rows[0])
    return _asked(session, word)


def _asked(session: Session, word: str) -> JobRef:
    """A job that this machine's ledger does not know: asked at the configured endpoint, then at the embedded node."""
    for endpoint in session.endpoints():
        try:
            job = session.client(endpoint).job(word)
        except NotFoundError:
            continue
        return JobRef(job.id or word, endpoint, job.namespace, job.name, job.labels.get(_marks.REQUEST_LABEL, ""))
    raise OptionError(f"No job {word!r} is known here.", option="JOB", hint=_meant(session, word) or "List them: %bacalhau jobs.")


def _meant(session: Session, word: str) -> str:
    """The variable of a job, the name or the beginning of an id that a wrong word is most like."""
    variables = [name for name, value in session.surroundings.namespace.items() if isinstance(value, RemoteJob)]
    rows = session.ledger.rows(session.surroundings.notebook(), limit=_LOOKED_AT)
    names = [part for row in rows if row.job_id for part in (row.name, row.job_id[:10])]
    return suggestion(word, ["last", *names, *variables])


def labelled(session: Session) -> list[tuple[Endpoint, Job]]:
    """This notebook's jobs by their labels on the servers, newest first: what stands in for a ledger that can't be used."""
    if not session.ledger.problem:
        return []
    found: list[tuple[Endpoint, Job]] = []
    for endpoint in session.endpoints():
        with suppress(ApiError):
            mark = f"{_marks.NOTEBOOK_LABEL}={_marks.notebook_mark(session.surroundings.notebook())}"
            found += [(endpoint, job) for job in session.client(endpoint).jobs(labels=mark)]
    return sorted(found, key=lambda item: -(item[1].create_time or 0))


def _ref_of(session: Session, row: Row) -> JobRef:
    return row.ref(endpoint_of(session, row))


def endpoint_of(session: Session, row: Row) -> Endpoint:
    """The endpoint of a ledger's row: the embedded node's door, or the configured one's credential where it is that one."""
    if row.socket:
        return _daemon.door()
    return session.endpoint_at(row.url)


def follow(session: Session, word: str = "last", *, outputs: tuple[str, ...] | None = None) -> RemoteJob:
    """Watch a job that was sent before, to its end and result; nothing is sent again."""
    ref = find(session, word)
    known = session.known(ref.job_id)
    if known is not None and outputs is None:
        return known
    job = session.client(ref.endpoint).job(ref.job_id, ref.namespace)
    request = _request_of(session, job, outputs)
    nonce = _flow.marks_of(dict(job.task.meta))[0]
    target = session.local_target() if ref.endpoint.is_local else Target("bacalhau", ref.endpoint)
    means = session.means

    def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
        route = Route(target, "it was sent before", options=request.options)
        emit(Submitted(ref, route))
        return _flow.follow(ref, nonce, request, means, advising(emit, request.options, means.settings.policy), stop, route, job)

    remote = session.begin(RemoteJob(flow, request, session.surroundings.namespace), mark=False)
    session.jobs[ref.job_id] = remote
    return remote


def attach(job: str = "last") -> RemoteJob:
    """The RemoteJob of a job that was sent before, by id, by a unique beginning of it, or `last`; nothing is sent again."""
    return follow(current_session(), job)


def _request_of(session: Session, job: Job, outputs: tuple[str, ...] | None) -> CellRequest:
    """What is known of a job's cell from its marks and what it asks for."""
    _, name, names, as_, max_result = _flow.marks_of(dict(job.task.meta))
    language = session.settings.languages.get(name)
    if language is None:
        raise BacalhauMagicError(f"The job {job.id} was not made by bacalhau_magic, or its language {name!r} is not configured here.")
    asked = {**amounts(job), "outputs": outputs if outputs is not None else names}
    facts = {"lang": name, "as_": as_, "max_result": max_result, "bg": True, "secret": _names_of_secrets(job)}
    kept = secrets_of(session, job)
    options = JobOptions(**asked).over(facts)
    return CellRequest(
        code="", options=options, language=language, secrets=kept, notebook=session.surroundings.notebook(), folder=session.here
    )


def amounts(job: Job) -> dict[str, Any]:
    """The amounts that a job asks for, as options: those that can be read."""
    resources, timeouts = job.task.resources or Resources(), job.task.timeouts or Timeouts()
    found: dict[str, Any] = {name: int(amount(text) or 0) for name, text in (("memory", resources.memory), ("disk", resources.disk))}
    found |= {"cpu": amount(resources.cpu), "timeout": time_limit(job), "queue_timeout": timeouts.queue_timeout}
    read = {}
    for name, count in found.items():
        if count:
            with suppress(ValueError):
                read[name] = value_of(name, count)
    return read


def time_limit(job: Job) -> float | None:
    """The seconds that a job's cell may run, by its own mark; None where it has none that can be read."""
    try:
        limit = float(job.task.meta.get(_marks.META_TIMEOUT, ""))
    except ValueError:
        return None
    return limit if 0 < limit < _LONGEST else None


def _names_of_secrets(job: Job) -> tuple[str, ...]:
    return tuple(name for name in job.task.meta.get(_marks.META_SECRETS, "").split(",") if name)


def secrets_of(session: Session, job: Job) -> _secrets.Secrets:
    """The values of a job's secrets as far as they are known here, so that what comes from it can be shown without them."""
    names = _names_of_secrets(job)
    known = session.known(job.id or "")
    sent = known.request.secrets if known is not None else {}
    pairs = [str(pair).partition("=") for pair in (job.task.engine.params or {}).get("EnvironmentVariables") or ()]
    in_clear = {name: value for name, _, value in pairs if name in names}
    # The names are the server's word: only of a job that was sent from here are they asked for in the environment and the keyring.
    is_ours = any(row.job_id == job.id for row in session.ledger.find(job.id or "?"))
    asked = [name for name in names if is_ours and name not in sent and name not in in_clear]
    return _secrets.Secrets({**_secrets.found(asked), **in_clear, **sent})


def resubmit(session: Session, ref: JobRef) -> RemoteJob:
    """Send the spec of a job again, as a new job of its own name and request."""
    client = session.client(ref.endpoint)
    old = client.job(ref.job_id, ref.namespace, inputs=True)
    request = _request_of(session, old, None)
    target = session.local_target() if ref.endpoint.is_local else session.remote_target(ref.endpoint)
    if target.is_local and request.options.secret:
        # The node did not keep them, and what is sent is what they are now.
        request = replace(request, secrets=_secrets.found(request.options.secret))
        _secrets.required(request.options.secret, request.secrets)
    route = Route(target, "the job it repeats ran there", options=request.options)
    means = session.means

    def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
        return _flow.again(old, request, route, means, emit, stop)

    return session.adopt(session.begin(RemoteJob(flow, request, session.surroundings.namespace), mark=True))


def files(session: Session, ref: JobRef, folder: Path, *, overwrite: bool = False) -> FileTree:
    """Fetch what a job left in its outputs folder into `folder`, and return that; with `overwrite` also over other files."""
    check_directory(folder)
    fetched = fetch_files(session.client(ref.endpoint), ref, folder, Rights(overwrite=overwrite))
    return tree(folder, fetched.names, fetched.skipped)


def why(session: Session, job: Job, executions: Sequence[Execution], history: Sequence[HistoryItem], ref: JobRef) -> tuple[Cause, ...]:
    """Why a job waits or failed, in plain words, with what its nodes report now; its advice keeps within the policy."""
    try:
        nodes = session.client(ref.endpoint).nodes()
    except ApiError:
        nodes = []
    options = JobOptions(**amounts(job))
    return tuple(advised(cause, options, session.settings.policy) for cause in causes(history, executions, job, nodes))


def over_time(session: Session, job: Job, history: Sequence[HistoryItem]) -> str:
    """How a job that ended with the exit code of a time limit stands to its own: "timed out", "perhaps timed out" or "".

    A cell may end with that code, too. Where its result is not known here, the node's times tell, after a pull; they count
    what it waited in the node's own queue and installed, so that they prove only that the cell had less.
    """
    if (result := _result(session, job.id or "")) is not None:
        return "timed out" if isinstance(result.error, JobTimedOutError) else ""
    limit = time_limit(job)
    return "perhaps timed out" if limit is not None and ran_for(history) >= limit else ""


def ended(session: Session, job_id: str, *, well: bool) -> list[str]:
    """What is said of a program that ended; with what went wrong in it, or with its result, where this kernel has that."""
    result = _result(session, job_id)
    error = result.error if result is not None else None
    if result is None or error is None:
        return ["It ended well." if well else _WENT_WRONG + "."]
    # What can't be had of a result is no failure of the program: the server says that it completed.
    lost = f"It ended well, but its {'files' if result.is_whole else 'result'} could not be had"
    said = clean(getattr(error, "message", "") or str(error), _SAID)
    # Advice that says `last` is right for the last job alone.
    is_right = session.known(job_id) is session.last or not result.ref.is_awaited
    advice = clean(getattr(error, "hint", ""), _SAID) if is_right else ""
    return [f"{lost if result.outcome == 'result' else _WENT_WRONG}: {said}", *([advice] if advice else [])]


def _result(session: Session, job_id: str) -> JobResult | None:
    """A job's result, where this kernel has it."""
    known = session.known(job_id)
    return known.known_result if known is not None else None


def ran_for(history: Sequence[HistoryItem]) -> float:
    """Seconds from the last execution's beginning to what its node said last of it; 0.0 where the history tells none."""
    last = next((item.execution_id for item in reversed(history) if item.execution_id), "")
    its = [item for item in history if last and item.execution_id == last]
    began = [item.time for item in its if item.event.topic == "Execution" and item.event.message == "Running"]
    with suppress(ValueError, TypeError):
        return (datetime.fromisoformat(its[-1].time) - datetime.fromisoformat(began[0])).total_seconds() if began else 0.0
    return 0.0


def log(session: Session, ref: JobRef) -> list[tuple[str, str]]:
    """(stream, text) of a job's log until now, packets taken out."""
    known = session.known(ref.job_id)
    if known is not None:
        return [(stream, line + "\n") for stream, line in known.logs()]
    client = session.client(ref.endpoint)
    pieces: list[tuple[str, str]] = []
    veil = _secrets.Veil(secrets_of(session, client.job(ref.job_id, ref.namespace)))
    with suppress(LogStreamError):
        for piece in read_log(client, ref):
            pieces.append(piece)
    return list(veil.pieces(pieces))


def state_of(session: Session, row: Row) -> str:
    """A row's state: how it ended where that is known ("out of memory" of a job of this kernel), else what its endpoint says."""
    known = session.known(row.job_id)
    if known is not None and known.snapshot.is_over:
        return known.snapshot.title.lower()
    return standing(session, row)[0]


def standing(session: Session, row: Row) -> tuple[str, float]:
    """A row's state, and of a job that is over the seconds that it took (0.0 where that is not known)."""
    if row.is_over or not row.job_id:
        return row.state.lower(), row.took
    known = session.known(row.job_id)
    if known is not None:
        return known.state, 0.0
    if row.socket and _daemon.running() is None:
        return "unknown (the embedded node is not running)", 0.0
    try:
        job = session.client(endpoint_of(session, row)).job(row.job_id, row.namespace)
    except NotFoundError:
        return "gone", 0.0
    except (ApiError, NodeError):
        return "unknown (no answer)", 0.0
    session.ledger.finished(row.job_id, job.phase_word, job.took)
    return job.phase_word.lower(), job.took


def settle(session: Session) -> None:
    """Look up the requests whose answer was lost, and deliver the stops that could not be delivered."""
    for endpoint in session.endpoints():
        client = session.client(endpoint)
        with suppress(ApiError):
            reconcile(client, session.ledger)
        deliver_stops(client, session.ledger)
