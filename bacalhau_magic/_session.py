"""The session: one a process. It turns settings into targets, clients, the node and the ledger, and cells into jobs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from . import _argspec, _flow, _marks, _settings, _targets
from ._flow import Means
from ._job import RemoteJob
from ._cellnames import CellNames, read
from ._causes import Cause, causes
from ._ledger import Ledger, Row, default_path
from ._namespace import capture
from ._stages import Availability, CellRequest, Endpoint, JobEvent, JobRef, JobResult, PackedJob, Route, Submitted, Target
from ._submit import reconcile
from ._watch import StopRequest, deliver_stops
from ._wire import STDERR, Execution, HistoryItem, Job
from .client import Client, LogStreamError, check_directory, fetch_files
from .errors import ApiError, BacalhauMagicError, CellSyntaxError, NodeError, NotFoundError, OptionError
from .node import _daemon
from .options import JobOptions
from .progress import Place, View, choose_view
from .remote.packets import Assembler
from .remote.packets import Text as PacketText

_TARGET_KEPT = 20.0
"""Seconds for which what was found of a place is believed; after that it is asked again."""


@dataclass
class Surroundings:
    """Where the cells come from: the notebook's key, the cell's id and name, the place that shows progress.

    `_magics` fills it in; without a shell it is a script's or a terminal's.
    """

    notebook: Callable[[], str] = lambda: _notebook_key()
    cell: Callable[[], str] = lambda: ""
    filename: Callable[[], str] = lambda: "cell"
    place: Callable[[], Place] = lambda: "terminal" if sys.stderr.isatty() else "batch"
    namespace: MutableMapping[str, Any] = field(default_factory=lambda: sys.modules["__main__"].__dict__)


def _notebook_key() -> str:
    """What tells notebooks apart: the server's session name, VS Code's file, else folder and process."""
    main = sys.modules["__main__"].__dict__
    return os.environ.get("JPY_SESSION_NAME") or str(main.get("__vsc_ipynb_file__") or "") or f"{Path.cwd()}:{os.getpid()}"


class Session:
    """What a process needs to run cells elsewhere; made on first use, see `session()`."""

    def __init__(self, surroundings: Surroundings | None = None, folder: Path | None = None) -> None:
        self.surroundings = surroundings or Surroundings()
        self.folder = folder or Path.cwd()
        self.overrides: dict[str, str] = {}
        self.jobs: dict[str, RemoteJob] = {}
        self.started: list[RemoteJob] = []
        self.last: RemoteJob | None = None
        self._clients: dict[tuple[str, str], Client] = {}
        self._targets: dict[str, tuple[float, Target]] = {}
        self._lock = threading.Lock()
        self._settings: _settings.Settings | None = None

    # Settings and places

    @property
    def settings(self) -> _settings.Settings:
        """The settings with their origins; read again after `configure`."""
        if self._settings is None:
            self._settings = _settings.load(environment=os.environ, folder=self.folder, overrides=self.overrides)
        return self._settings

    def configure(self, values: Mapping[str, str]) -> None:
        """Set values for this session (`%bacalhau config key=value`); none is kept when one of them is wrong."""
        overrides = {**self.overrides, **values}
        settings = _settings.load(environment=os.environ, folder=self.folder, overrides=overrides)
        self.overrides, self._settings = overrides, settings
        self._targets.clear()

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(default_path())

    def client(self, endpoint: Endpoint) -> Client:
        """The process's one client of an endpoint."""
        key = (endpoint.url, endpoint.socket)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = Client(endpoint, requests_per_second=50.0 if endpoint.is_local else 10.0)
            return self._clients[key]

    def local_target(self) -> Target:
        """The embedded node, started when it does not run yet. Raises NodeError."""
        return self._target("local", _daemon.door)

    def remote_target(self, endpoint: Endpoint) -> Target:
        """What a configured endpoint says of itself. Raises ApiError when it does not answer."""
        return self._target(endpoint.url, lambda: endpoint)

    def _target(self, key: str, find: Callable[[], Endpoint]) -> Target:
        found = self._targets.get(key)
        if found and time.monotonic() - found[0] < _TARGET_KEPT and _still_there(found[1].endpoint):
            return found[1]
        endpoint = find()
        client = self.client(endpoint)
        version = client.version().git_version
        try:
            nodes = client.nodes()
        except ApiError:
            nodes = []  # a node list that can't be read is no reason to refuse
        target = _targets.target(endpoint, version, nodes)
        self._targets[key] = (time.monotonic(), target)
        return target

    def availability(self, request: CellRequest) -> Availability:
        """Probe what a request might use, and no more."""
        settings, runtime = self.settings, request.options.runtime
        endpoint = settings.endpoint
        remote, remote_problem = None, ""
        wants_remote = runtime != "local" and settings.enabled and endpoint is not None
        if wants_remote and endpoint is not None:
            try:
                remote = self.remote_target(endpoint)
            except ApiError as problem:
                remote_problem = problem.message
        wants_local = runtime == "local" or (runtime == "auto" and (not wants_remote or settings.prefer == "local"))
        local, local_problem = None, ""
        if wants_local or (remote is None and request.options.fallback):
            try:
                local = self.local_target()
            except (NodeError, ApiError) as problem:
                local_problem = problem.message
        return Availability(
            local=local,
            local_problem=local_problem,
            remote=remote,
            remote_endpoint=endpoint,
            remote_problem=remote_problem,
            untrusted_url=settings.untrusted_url,
            enabled=settings.enabled,
            prefer=settings.prefer,
        )

    @property
    def means(self) -> Means:
        """What a flow needs of this session."""
        return Means(self.settings, self.availability, self.client, self.ledger)

    # Cells

    def request(self, code: str, options: JobOptions, namespace: Mapping[str, Any] | None = None) -> CellRequest:
        """Read a cell, its options and its inputs into a CellRequest; nothing is started or sent.

        Raises OptionError, PackingError, UnsendableInputError, ConfigError.
        """
        settings = self.settings
        complete, limits = settings.apply(options)
        checked = _argspec.check(complete, settings.languages, strict=settings.strict)
        language, complete = checked.language, checked.options
        if not code.strip():
            raise OptionError("The cell is empty.", hint="Write the code that is to run below the %%bacalhau line.")
        shows = not (language.is_python and _shape(code, complete).hidden)
        around = self.surroundings
        captured = capture(code, complete, language, around.namespace if namespace is None else namespace, self.folder)
        return CellRequest(
            code=code,
            options=complete,
            language=language,
            inputs=captured.items,
            env=_environment(complete, self.folder),
            notebook=around.notebook(),
            cell=around.cell(),
            interpreter=sys.executable,
            filename=around.filename(),
            shows_value=shows,
            notices=(*limits, *checked.notices, *captured.notices),
            origins=settings.origins,
        )

    def prepared(self, request: CellRequest) -> PackedJob:
        """The packed job of a request, as it would be sent (`--dry-run`, `--save`)."""
        return _flow.prepare(request, self.means)[1]

    def start(self, request: CellRequest, *, mark: bool = False) -> RemoteJob:
        """Send a request on a thread of its own; with `mark` its names hold markers until they are bound."""
        means = self.means

        def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
            return _flow.run(request, means, emit, stop)

        return self._begin(RemoteJob(flow, request, self.surroundings.namespace), mark=mark)

    def _begin(self, job: RemoteJob, *, mark: bool) -> RemoteJob:
        self.last = job
        self.started = [*(old for old in self.started if not old.done()), job][-1000:]
        if mark:
            job.mark()
        return job.start()

    def submit(self, code: str, options: JobOptions) -> RemoteJob:
        """Send a cell and return its job, once it was sent. Raises what keeps it from being sent."""
        request = self.request(code, options)
        job = self.start(request, mark=True)
        return self.adopt(job)

    def adopt(self, job: RemoteJob) -> RemoteJob:
        """Remember a job by its id, so that a later attach gets the same object; raises what kept it from being sent."""
        self.jobs[job.ref.job_id] = job
        return job

    def run(self, code: str, options: JobOptions) -> Any:
        """Send a cell, wait for it, and return its value or the wanted names as a dict."""
        job = self.start(self.request(code, options))
        view = self.view(job)
        try:
            result = job.wait(view, stop_on_interrupt=True)
        finally:
            view.close(job.snapshot, None, {})
        return job.given(result)

    def view(self, job: RemoteJob) -> View:
        """The view that draws a job here."""
        options = job.request.options
        kind = "none" if options.quiet and options.progress == "auto" else options.progress
        return choose_view(kind, self.surroundings.place(), logs=options.logs, on_stop=job.cancel)

    # Jobs that are there already

    def find(self, word: str) -> JobRef:
        """The job that a word means: an id, a unique beginning of one, or `last`. Raises OptionError, NotFoundError."""
        if word == "last":
            if self.last is not None:
                return self.last.ref
            row = self.ledger.last(self.surroundings.notebook())
            if row is None:
                raise OptionError("This notebook has sent no job yet.", option="JOB", hint="List all of yours: %bacalhau jobs.")
            return self._ref_of(row)
        rows = self.ledger.find(word)
        if len(rows) > 1:
            raise OptionError(f"{word!r} is the beginning of {len(rows)} jobs.", option="JOB", hint="Give more of the id.")
        if rows:
            return self._ref_of(rows[0])
        return self._asked(word)

    def _asked(self, word: str) -> JobRef:
        """A job that this machine's ledger does not know: asked at the configured endpoint, then at the embedded node."""
        for endpoint in self.endpoints():
            try:
                job = self.client(endpoint).job(word)
            except NotFoundError:
                continue
            return JobRef(job.id or word, endpoint, job.namespace, job.name, job.labels.get(_marks.REQUEST_LABEL, ""))
        raise OptionError(f"No job {word!r} is known here.", option="JOB", hint="List them: %bacalhau jobs.")

    def _ref_of(self, row: Row) -> JobRef:
        return row.ref(self.endpoint_of(row))

    def endpoint_of(self, row: Row) -> Endpoint:
        """The endpoint of a ledger's row: the embedded node's door, or the configured one's credential where it is that one."""
        if row.socket:
            return _daemon.door()
        configured = self.settings.endpoint
        return configured if configured and configured.url == row.url else Endpoint(row.url, origin="ledger")

    def endpoints(self) -> list[Endpoint]:
        """The places that can be asked for jobs now: the configured endpoint, and the embedded node where it runs."""
        configured = [self.settings.endpoint] if self.settings.endpoint and self.settings.enabled else []
        local = _daemon.running()
        return [*configured, *([local] if local else [])]

    def attach(self, word: str = "last", *, outputs: tuple[str, ...] | None = None) -> RemoteJob:
        """Watch a job that was sent before, to its end and result; nothing is sent again."""
        ref = self.find(word)
        known = self.jobs.get(ref.job_id)
        if known is not None and outputs is None:
            return known
        job = self.client(ref.endpoint).job(ref.job_id, ref.namespace)
        request = self._request_of(job, outputs)
        nonce = _flow.marks_of(dict(job.task.meta))[0]
        target = self.local_target() if ref.endpoint.is_local else Target("bacalhau", ref.endpoint)
        means = self.means

        def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
            emit(Submitted(ref, Route(target, "it was sent before", options=request.options)))
            return _flow.follow(ref, nonce, request, means, emit, stop)

        remote = self._begin(RemoteJob(flow, request, self.surroundings.namespace), mark=False)
        self.jobs[ref.job_id] = remote
        return remote

    def _request_of(self, job: Job, outputs: tuple[str, ...] | None) -> CellRequest:
        """What is known of a job's cell from its marks alone."""
        _, name, names, as_, max_result = _flow.marks_of(dict(job.task.meta))
        language = self.settings.languages.get(name)
        if language is None:
            raise BacalhauMagicError(f"The job {job.id} was not made by bacalhau_magic, or its language {name!r} is not configured here.")
        asked = {"outputs": outputs if outputs is not None else names}
        options = JobOptions(**asked).over({"lang": name, "as_": as_, "max_result": max_result, "bg": True})
        return CellRequest(code="", options=options, language=language, notebook=self.surroundings.notebook())

    def resubmit(self, ref: JobRef) -> RemoteJob:
        """Send the spec of a job again, as a new job of its own name and request."""
        client = self.client(ref.endpoint)
        old = client.job(ref.job_id, ref.namespace)
        request = self._request_of(old, None)
        target = self.local_target() if ref.endpoint.is_local else self.remote_target(ref.endpoint)
        route = Route(target, "the job it repeats ran there", options=request.options)
        means = self.means

        def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
            return _flow.again(old, request, route, means, emit, stop)

        return self.adopt(self._begin(RemoteJob(flow, request, self.surroundings.namespace), mark=True))

    def fetch_files(self, ref: JobRef, folder: Path) -> Path:
        """Fetch what a job left in its outputs folder into `folder`, and return that."""
        check_directory(folder)
        fetch_files(self.client(ref.endpoint), ref, folder)
        return folder

    def causes(self, job: Job, executions: Sequence[Execution], history: Sequence[HistoryItem], ref: JobRef) -> tuple[Cause, ...]:
        """Why a job waits or failed, in plain words, with what its nodes report now."""
        try:
            nodes = self.client(ref.endpoint).nodes()
        except ApiError:
            nodes = []
        return causes(history, executions, job, nodes)

    def log(self, ref: JobRef) -> list[tuple[str, str]]:
        """(stream, text) of a job's log until now, packets taken out."""
        known = self.jobs.get(ref.job_id)
        if known is not None:
            return [(stream, line + "\n") for stream, line in known.logs()]
        client = self.client(ref.endpoint)
        nonce = _flow.marks_of(dict(client.job(ref.job_id, ref.namespace).task.meta))[0]
        packets = Assembler(nonce)
        pieces: list[tuple[str, str]] = []
        with suppress(LogStreamError), client.logs(ref.job_id, namespace=ref.namespace, follow=False) as stream:
            for kind, text in stream:
                name = "stderr" if kind == STDERR else "stdout"
                pieces += [(name, piece.text) for piece in packets.feed(kind, text) if isinstance(piece, PacketText)]
        return pieces

    def state_of(self, row: Row) -> str:
        """A row's state: how it ended where that is known, else what its endpoint says."""
        if row.is_over or not row.job_id:
            return row.state.lower()
        known = self.jobs.get(row.job_id)
        if known is not None:
            return known.state
        if row.socket and _daemon.running() is None:
            return "unknown (the embedded node is not running)"
        try:
            state = self.client(self.endpoint_of(row)).job(row.job_id, row.namespace).phase_word
        except NotFoundError:
            return "gone"
        except (ApiError, NodeError):
            return "unknown (no answer)"
        self.ledger.finished(row.job_id, state)
        return state.lower()

    def reconcile(self) -> None:
        """Look up the requests whose answer was lost, and deliver the stops that could not be delivered."""
        for endpoint in self.endpoints():
            client = self.client(endpoint)
            with suppress(ApiError):
                reconcile(client, self.ledger)
            deliver_stops(client, self.ledger)

    def save(self, values: Mapping[str, str], where: Literal["project", "user"]) -> None:
        """Write settings into the project's or the user's file."""
        for name, value in values.items():
            _settings.save(name, value, where, folder=self.folder)

    def close(self) -> None:
        """Close the clients; jobs go on."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def _shape(code: str, options: JobOptions) -> CellNames:
    """What a Python cell's text tells. With a chosen image its syntax is that Python's matter, and found in the job."""
    try:
        return read(code)
    except CellSyntaxError:
        if options.image is None:
            raise
        return CellNames()


def _still_there(endpoint: Endpoint) -> bool:
    return not endpoint.is_local or os.path.exists(endpoint.socket)


def _environment(options: JobOptions, folder: Path) -> dict[str, str]:
    """The job's variables: the file's, and above them `--env`."""
    if options.env_file is None:
        return dict(options.env)
    path = folder / Path(options.env_file).expanduser()
    if not path.is_file():
        raise OptionError(f"--env-file: there is no file {options.env_file}.", option="env_file")
    from dotenv import dotenv_values

    values = {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
    return {**_argspec.from_call({"env": values}).env, **options.env}


_current: Session | None = None
_current_lock = threading.Lock()


def session() -> Session:
    """The process's session, made on first use."""
    global _current
    with _current_lock:
        if _current is None:
            _current = Session()
        return _current


def run(code: str, **options: Any) -> Any:
    """Run a cell elsewhere and return its value, or, with `outputs`, a dict of these names.

    Options are those of `%%bacalhau`. Raises errors of `bacalhau_magic.errors`; a remote exception of a plain
    built-in class can be caught as that class.
    """
    return session().run(code, _argspec.from_call(options))


def submit(code: str, **options: Any) -> RemoteJob:
    """Send a cell and return its RemoteJob as soon as the node has it."""
    return session().submit(code, _argspec.from_call({"bg": True, **options}))


def attach(job: str = "last") -> RemoteJob:
    """The RemoteJob of a job that was sent before, by id, by a unique beginning of it, or `last`; nothing is sent again."""
    return session().attach(job)
