"""The session: one a process. It turns settings into targets, clients, the node and the ledger, and cells into jobs."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from . import _flow, _requests, _settings, _shellhook, _tapes, _targets, _trust, packing
from . import _sources as sources
from ._flow import Means
from ._job import RemoteJob
from ._languages import Language
from ._ledger import Ledger, default_path
from ._stages import Availability, CellRequest, Endpoint, JobEvent, JobResult, Target
from ._stops import StopRequest
from ._surroundings import Surroundings, current_folder
from ._tables import Text
from .client import Client
from .errors import ApiError, ConfigError, NodeError, OptionError, RecordingError, ResultError
from .node import _daemon
from .node._places import Places
from .options import JobOptions
from .progress import View, choose_view

_TARGET_KEPT = 20.0
"""Seconds for which what was found of a place is believed; after that it is asked again."""


class Session:
    """What a process needs to run cells elsewhere; made on first use, see `session()`."""

    def __init__(self, surroundings: Surroundings | None = None, folder: Path | None = None) -> None:
        self.surroundings = surroundings or Surroundings()
        self._given = folder
        self.folder = folder or self.surroundings.folder
        """Where a project's file is looked for, upward: fixed here, whatever a cell does later."""
        self.overrides: dict[str, str] = {}
        self.jobs: dict[str, RemoteJob] = {}
        self.started: list[RemoteJob] = []
        self.last: RemoteJob | None = None
        self.on_begin: list[Callable[[RemoteJob], None]] = []
        """Called with every job that begins, before its flow does."""
        self._clients: dict[Endpoint, Client] = {}
        self._targets: dict[Endpoint | None, tuple[float, Target]] = {}
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._settings: _settings.Settings | None = None
        self._environment: dict[str, str] = {}
        self.deck = _tapes.Deck()

    @property
    def here(self) -> Path:
        """What relative paths start from: the kernel's current folder, as in a local cell."""
        return self._given or current_folder()

    # Settings and places

    @property
    def settings(self) -> _settings.Settings:
        """The settings with their origins; read again after `configure`, and when a variable of ours has changed."""
        environment = {name: value for name, value in os.environ.items() if name.startswith("BACALHAU_")}
        if self._settings is None or environment != self._environment:
            self._settings = _settings.load(environment=os.environ, folder=self.folder, overrides=self.overrides)
            self._environment = environment
            self._targets.clear()
        return self._settings

    def configure(self, values: Mapping[str, str]) -> None:
        """Set values for this session (`%bacalhau config key=value`), an empty one takes a value of the session back.

        None is kept when one of them is wrong.
        """
        overrides = _settings.with_values(self.overrides, {name.replace("-", "_").lower(): value for name, value in values.items()})
        sources.overrides(overrides)  # a name that is not known is refused also where it is taken back
        kept = {name: value for name, value in overrides.items() if value}
        self._settings = _settings.load(environment=os.environ, folder=self.folder, overrides=kept)
        self.overrides = kept
        self._targets.clear()

    def settings_with(self, values: Mapping[str, str]) -> _settings.Settings:
        """The settings as they would be with further values; nothing is changed."""
        return _settings.load(environment=os.environ, folder=self.folder, overrides=_settings.with_values(self.overrides, values))

    def forget_settings(self) -> None:
        """Read the settings again at their next use: a file of the user's has changed."""
        self._settings = None
        self._targets.clear()

    def settings_for(self, options: JobOptions) -> _settings.Settings:
        """The settings for one cell: those of the session, or with the profile that its line names. Raises OptionError."""
        if "profile" not in options.asked or options.profile is None:
            return self.settings
        try:
            settings = self.settings_with({"profile": options.profile})
        except ConfigError as problem:
            if problem.setting != "profile":
                raise
            raise OptionError(f"--profile: {problem.message}", option="profile", hint=problem.hint) from None
        if settings.policy.fixes_endpoint:
            raise OptionError(
                f"--profile: the endpoint is locked by the policy {settings.policy.origin}. {settings.policy.message}".rstrip(),
                option="profile",
            )
        return settings

    def trust_project(self, *, undo: bool = False) -> tuple[str, Path]:
        """Trust the endpoint and the staging store of this project's pyproject.toml, as long as the file names these.

        Returns them in words, and the file. Raises ConfigError where no project names one.
        """
        settings = self.settings
        named = [name for name in (settings.project_url, settings.project_store) if name]
        if not named or settings.project_file is None:
            raise ConfigError("No pyproject.toml of this project names an endpoint or a staging store.", setting="api_url")
        if undo:
            _trust.untrust(settings.project_file)
        else:
            if settings.project_url:
                _trust.trust(settings.project_file, settings.project_url)
            if settings.project_store:
                _trust.trust(settings.project_file, settings.project_store, what="staging")
        self.forget_settings()
        return " and ".join(named), settings.project_file

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(default_path())

    def client(self, endpoint: Endpoint) -> Client:
        """The process's one client of an endpoint. Raises RecordingError for that of a recorded job: no server has it."""
        if endpoint.recording:
            raise RecordingError(
                f"The job comes from {endpoint.recording}, and no server has it.",
                hint="Its value, log and error are there; to run the cell: %bacalhau live.",
            )
        with self._lock:
            if endpoint not in self._clients:
                rate, revive = (50.0, partial(_daemon.revive, Places.default())) if endpoint.is_local else (10.0, None)
                self._clients[endpoint] = Client(endpoint, requests_per_second=rate, revive=revive)
            return self._clients[endpoint]

    def endpoint_at(self, url: str) -> Endpoint:
        """The endpoint of a job that was sent earlier: the configured one, or with what is kept for exactly that one."""
        configured = self.settings.endpoint
        if configured and configured.url == url:
            return configured
        return _settings.endpoint_at(url, environment=os.environ, folder=self.folder, overrides=self.overrides)

    def local_target(self) -> Target:
        """The embedded node, started when it does not run yet. Raises NodeError."""
        return self._target(None, _daemon.door)

    def remote_target(self, endpoint: Endpoint) -> Target:
        """What a configured endpoint says of itself. Raises ApiError when it does not answer."""
        return self._target(endpoint, lambda: endpoint)

    def _target(self, key: Endpoint | None, find: Callable[[], Endpoint]) -> Target:
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
        if target.staging is None:
            target = replace(target, store=self.settings.store, untrusted_store=self.settings.untrusted_store)
        self._targets[key] = (time.monotonic(), target)
        return target

    def availability(self, request: CellRequest) -> Availability:
        """Probe what a request might use, and no more."""
        settings, runtime = self.settings_for(request.options), request.options.runtime
        endpoint = settings.endpoint
        remote, remote_problem, remote_advice = None, "", ""
        wants_remote = runtime != "local" and settings.enabled and endpoint is not None
        if wants_remote and endpoint is not None:
            try:
                remote = self.remote_target(endpoint)
            except ApiError as problem:
                remote_problem, remote_advice = problem.message, problem.hint
        wants_local = runtime == "local" or (runtime == "auto" and (not wants_remote or settings.prefer == "local"))
        local, local_problem = None, ""
        if wants_local or (remote is None and request.options.fallback):
            try:
                local = _knowing(self.local_target(), request.language)
            except (NodeError, ApiError) as problem:
                local_problem = problem.message
        return Availability(
            local=local,
            local_problem=local_problem,
            remote=remote,
            remote_endpoint=endpoint,
            remote_problem=remote_problem,
            remote_advice=remote_advice,
            local_key=settings.local_key,
            untrusted_url=settings.untrusted_url,
            enabled=settings.enabled,
            prefer=settings.prefer,
        )

    @property
    def means(self) -> Means:
        """What a flow needs of this session."""
        return self._means(self.settings)

    def _means(self, settings: _settings.Settings, options: JobOptions | None = None) -> Means:
        tape = self.tape if options is None else self._tape_for(options)
        return Means(settings, self.availability, self.client, self.ledger, self._said, tape)

    # Recorded jobs

    @property
    def tape(self) -> _tapes.Recorder | _tapes.Player | None:
        """Where all cells are recorded or replayed now; None: they run."""
        settings = self.settings
        if not settings.recordings:
            return None
        mode: _tapes.Mode
        mode, file = ("replay", settings.replay) if settings.replay else ("record", settings.record) if settings.record else ("live", "")
        return self.deck.tape(mode, self.folder / Path(file or "").expanduser())

    def _tape_for(self, options: JobOptions) -> _tapes.Tape | None:
        """The tape of one cell: what holds for all, else the cache where the cell asks for it."""
        if self.tape is None and (options.cache or options.refresh):
            if not self.settings.recordings:
                raise no_recordings(self.settings, "--refresh" if options.refresh else "--cache")
            return _tapes.Cache(refresh=options.refresh)
        return self.tape

    # Cells

    def request(self, code: str, options: JobOptions, namespace: Mapping[str, Any] | None = None) -> CellRequest:
        """A cell as a request, with this session's settings and, unless another is given, its namespace; raises as `_requests.request`."""
        around = self.surroundings
        names = around.namespace if namespace is None else namespace
        return _requests.request(code, options, self.settings_for(options), around, self.here, names)

    def spec(self, request: CellRequest) -> Text:
        """The spec of a job that is not sent: shown, or written whole to the file that `--save` names."""
        file = request.options.save
        if file is not None and request.options.secret_in_spec:
            raise OptionError("--save would write the secrets into a file.", option="save", hint="Leave --secret-in-spec out, or --save.")
        job = _flow.prepare(request, self._means(self.settings_for(request.options)))[1].job
        if file is None:
            return Text(packing.yaml(packing.shown(job)))
        place = self.here / Path(file).expanduser()
        whole = job.wire()
        try:
            place.write_text(json.dumps(whole, indent=2) + "\n" if place.suffix == ".json" else packing.yaml(whole), encoding="utf-8")
        except OSError as problem:
            raise OptionError(f"--save: {file} can't be written ({problem.strerror}).", option="save") from None
        return Text(f"The job's spec is in {file}; nothing was sent. Send it with: bacalhau job run {file}")

    def start(self, request: CellRequest, *, mark: bool = False) -> RemoteJob:
        """Send a request on a thread of its own; with `mark` its names hold markers until they are bound."""
        means = self._means(self.settings_for(request.options), request.options)

        def flow(emit: Callable[[JobEvent], None], stop: StopRequest) -> JobResult:
            return _flow.run(request, means, emit, stop)

        return self.begin(RemoteJob(flow, request, self.surroundings.namespace), mark=mark)

    def begin(self, job: RemoteJob, *, mark: bool) -> RemoteJob:
        """Start a job's flow; it is the last job from now on."""
        self.last = job
        self.started = [*(old for old in self.started if not (old.done() and old.seen)), job][-1000:]
        if mark:
            job.mark()
        job.client_of = self.client
        for told in self.on_begin:
            told(job)
        return job.start()

    def sent(self, job: RemoteJob) -> RemoteJob:
        """The same job, once it was sent: its names hold markers. Raises what kept it from being sent."""
        self.adopt(job).mark()
        return job

    def submit(self, code: str, options: JobOptions) -> RemoteJob:
        """Send a cell and return its job, once it was sent. Raises what keeps it from being sent."""
        _refuse(options, _NOT_SUBMITTED, "submit()")
        job = self.start(self.request(code, options))
        with self.surroundings.display.sending(job):
            job.wait_sent()
        return self.sent(job)

    def adopt(self, job: RemoteJob) -> RemoteJob:
        """Remember a job by its id, so that a later attach gets the same object; raises what kept it from being sent."""
        self.jobs[job.ref.job_id] = job
        return job

    def known(self, job_id: str) -> RemoteJob | None:
        """The job of that id, where this process sent it or follows it."""
        return self.jobs.get(job_id) or next((job for job in self.started if job.snapshot.job_id == job_id), None)

    def run(self, code: str, options: JobOptions) -> Any:
        """Send a cell, wait for it, and return its value or the wanted names as a dict."""
        _refuse(options, _NOT_RUN, "run()")
        request = self.request(code, options)
        if options.dry_run or options.save:
            return self.spec(request)
        job = self.start(request)
        view = self.view(job)
        display = self.surroundings.display
        try:
            result = job.wait(view, stop_on_interrupt=request.options.stops_on_interrupt)
        except BaseException:
            display.broke(job, view)
            raise
        display.ended(job, view, result)
        self.adopt(job)
        if result.error is not None and not request.options.raise_error:
            return None
        if "" in result.unsendable and not request.options.outputs and result.error is None:
            raise ResultError(f"The value can't be sent back: {result.unsendable['']}.", job_id=job.id, hint="Return plain data.")
        return job.given(result)

    def view(self, job: RemoteJob, *, on_stop: Callable[[int | None], None] | None = None, static: Mapping[str, Any] | None = None) -> View:
        """The view that draws a job here; `on_stop` and `static` as in `choose_view`, Stop stops this job unless another is given."""
        options = job.request.options
        kind = "none" if options.quiet and options.progress == "auto" else options.progress
        bound = frozenset(name for name in ("stdout", "stderr") if getattr(options, name))
        return choose_view(
            kind,
            self.surroundings.place(),
            logs=options.logs,
            hidden=bound,
            on_stop=on_stop or (lambda _number: job.stop_pressed()),
            static=static,
            audience=self.surroundings.audience(),
        )

    def endpoints(self) -> list[Endpoint]:
        """The places that can be asked for jobs now: the configured endpoint, and the embedded node where it runs."""
        configured = [self.settings.endpoint] if self.settings.endpoint and self.settings.enabled else []
        local = _daemon.running()
        return [*configured, *([local] if local else [])]

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


def _knowing(target: Target, language: Language) -> Target:
    """The embedded node with what is known of a configured language: whether its program is on this machine."""
    if language.name in target.languages or language.wrapper != "sh":
        return target
    missing = "" if shutil.which(language.local) else f"{language.local} was not found on this machine"
    return replace(target, languages={**target.languages, language.name: missing})


def no_recordings(settings: _settings.Settings, what: str) -> OptionError:
    """The error that refuses what needs recorded jobs."""
    policy = settings.policy
    where = f"the policy {policy.origin}. {policy.message}" if "recordings" in policy.locked else settings.origins["recordings"]
    return OptionError(f"{what} can't be kept: recorded jobs are switched off by {where.strip().rstrip('.')}.", option="recordings")


_NOT_RUN = {
    "bg": "it waits",
    "job": "it returns the value; submit() returns the job",
    "stdout": "it binds nothing; the job of submit() has stdout",
    "stderr": "it binds nothing; the job of submit() has stderr",
}
_NOT_SUBMITTED = {
    "job": "it returns the job",
    "dry_run": "it sends the cell; use run() for the spec",
    "save": "it sends the cell; use run() for the spec",
}


def _refuse(options: JobOptions, unused: Mapping[str, str], called: str) -> None:
    """Refuse the options that a call in Python leaves without effect."""
    for name, reason in unused.items():
        if name in options.asked and getattr(options, name) not in (None, False):
            raise OptionError(f"{name} has no effect in {called}: {reason}.", option=name)


def _still_there(endpoint: Endpoint) -> bool:
    return not endpoint.is_local or os.path.exists(endpoint.socket)


_current: Session | None = None
_current_lock = threading.Lock()


def session() -> Session:
    """The process's session, made on first use."""
    global _current
    with _current_lock:
        if _current is None:
            _current = Session()
            for surround in _shellhook.surrounds:
                surround(_current)
        return _current
