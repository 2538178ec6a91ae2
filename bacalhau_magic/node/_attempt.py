"""One execution, from its inputs to its results, on a thread of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import _marks
from . import _gather, _inputs, _lifecycle, _logs, _packages
from ._queue import Amounts
from .executors._gpus import Gpu
from .executors._seam import Executor, Mount, Running, RunSpec

__all__ = ["LOG", "RESULT", "RUN", "Attempt", "Outcome", "Plan"]

LOG, RESULT, RUN = "log", "result.tar.gz", "run"
"""Names in an execution's folder: its log, its published archive, and all that goes when it is over."""

_OUTPUTS = "/outputs"
_NETWORKS = {"Default": "full", "Bridge": "full", "Full": "full", "Host": "host", "HTTP": "http"}
"""Bacalhau's words → the executors'."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an execution needs; `folder` is its own, `urls` the files that hold its long inline inputs."""

    execution: str
    job: str
    task: Mapping[str, Any]
    executor: Executor
    interpreter: str
    language: str
    amounts: Amounts
    folder: Path
    urls: Mapping[int, Path]
    staging: Path
    system_env: Mapping[str, str]
    packages: _packages.Cache
    gpus: tuple[Gpu, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    index: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where packages come from."""
    timeout: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended; `failure` is "" when it completed, whatever its exit code. `output` is its RunOutput."""

    failure: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)
    published: bool = False
    topic: str = "Running Execution"
    cut: tuple[str, ...] = ()
    """The streams of which not everything was kept."""


class Attempt:
    """Runs a plan. `woken` is called when the log has grown, `ended` at the very end; both on another thread."""

    def __init__(self, plan: Plan, woken: Callable[[], None], ended: Callable[[Outcome], None]) -> None:
        self.plan = plan
        self._woken = woken
        self._ended = ended
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._stopping = False
        self._until: float | None = None
        self._thread = threading.Thread(target=self._run, name=plan.execution, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the payload soon; returns at once."""
        with self._lock:
            self._stopping = True
            running = self._running
        if running:
            threading.Thread(target=_stop, args=(running,), daemon=True).start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            outcome = self._outcome()
        except (_inputs.InputProblem, _gather.GatherProblem) as problem:
            outcome = Outcome(str(problem))
        except Exception as problem:  # noqa: BLE001 - whatever went wrong here, the job must not stay "Running" for ever
            outcome = Outcome(f"{type(problem).__name__}: {problem}")
        with suppress(OSError):
            _gather.remove(self.plan.folder / RUN)
        self._ended(outcome)

    def _outcome(self) -> Outcome:
        plan = self.plan
        run = plan.folder / RUN
        run.mkdir(mode=0o755, parents=True, exist_ok=True)
        inputs = _inputs.prepare(plan.task.get("InputSources") or (), plan.urls, run / "inputs", plan.staging, lambda: self._stopping)
        results = {path["Name"]: path["Path"] for path in plan.task.get("ResultPaths") or ()}
        folders = {name: run / "outputs" / str(number) for number, name in enumerate(results)}
        mounts = [*inputs, *(Mount(folder, results[name], False) for name, folder in folders.items())]
        if plan.interpreter and _OUTPUTS not in results.values():
            # The host has no image that could bring the folder; what is written there without a result path is dropped.
            mounts.append(Mount(run / "outputs" / "dropped", _OUTPUTS, False))
        for mount in mounts:
            _check_target(mount.target)
            if not mount.read_only:
                mount.source.mkdir(mode=0o755, parents=True)
        order = _packages.Order.of(plan.task.get("Meta") or {}, inputs, run, plan.interpreter, plan.index)
        writer = _logs.LogWriter(plan.folder / LOG, self._woken)
        self._until = time.monotonic() + plan.timeout if plan.timeout else None
        failure, exit_code = "", 0
        try:
            failure, exit_code = self._payload(run, mounts, order, writer)
        finally:
            writer.finish()
        cut = tuple({_logs.STDOUT: "stdout", _logs.STDERR: "stderr"}[stream] for stream in sorted(writer.cut))
        if failure:
            return Outcome(failure, cut=cut)
        published = plan.task["Publisher"]["Type"].lower() == "local"
        if (plan.task.get("Meta") or {}).get(_marks.META_PUBLISH) == _marks.PUBLISH_ANY:
            published = published and any(os.listdir(folder) for folder in folders.values())
        if published:
            _gather.publish(plan.folder / RESULT, folders, _logs.read_streams(plan.folder / LOG), exit_code)
        return Outcome(output=_run_output(writer, exit_code), published=published, cut=cut)

    def _payload(self, run: Path, mounts: list[Mount], order: _packages.Order | None, writer: _logs.LogWriter) -> tuple[str, int]:
        """Installs the job's packages where they are not there yet, and runs its payload: (failure, exit code)."""
        done = ("", 0)

        def install(place: Path) -> bool:
            nonlocal done
            assert order is not None
            done = self._ran(self._installer(run / "install", place, order, writer))
            return done == ("", 0)

        with self.plan.packages.lent(order.key, install) if order else nullcontext() as place:
            if done != ("", 0):
                return done
            if place:
                target = f"{_marks.INPUTS_PATH}/{_marks.PAYLOAD_FOLDER}/{_marks.PACKAGES_FOLDER}"
                mounts = [*mounts, Mount(place, target, True)]
            return self._ran(self._spec(run, tuple(mounts), writer), writer.close_ends)

    def _ran(self, spec: RunSpec, begun: Callable[[], None] = lambda: None) -> tuple[str, int]:
        """Runs until no process is left; (failure, exit code). `begun` is called once it has started."""
        plan = self.plan
        try:
            with self._lock:
                if self._stopping:
                    return _lifecycle.STOP_REQUESTED, 0
            running = plan.executor.start(spec)
        except OSError as problem:
            words = str(problem) if not problem.strerror else f"{problem.strerror}: {problem.filename or ''}".rstrip(": ")
            if isinstance(problem, FileNotFoundError) and problem.strerror:
                words = f"executable file not found: {problem.filename or words}"
            return words if words.startswith("failed to ") else f"failed to start container: {words}", 0
        begun()
        try:
            with self._lock:
                self._running = running
                stopping = self._stopping
            if stopping:
                running.stop()
            ending = running.wait(max(self._until - time.monotonic(), 0) if self._until else None)
            timed_out = ending is None
            if ending is None:
                running.stop()
                ending = running.wait(10)
        finally:
            with self._lock:
                self._running = None
            running.clean()
        if timed_out or ending is None:
            return _lifecycle.execution_timed_out(plan.timeout), 0
        if ending.killed or ending.exit_code is None:
            return ending.message or (_lifecycle.STOP_REQUESTED if ending.killed == "stopped" else "execution failed"), 0
        return "", ending.exit_code

    def _installer(self, folder: Path, place: Path, order: _packages.Order, writer: _logs.LogWriter) -> RunSpec:
        """The run that installs: our own code, the network open, and nothing of the job's but the names of its packages."""
        order.lay_out(folder / "wrapper")
        mounts = (Mount(folder / "wrapper", _packages.INSTALL, True), Mount(place, _packages.TARGET, False), *order.mounts)
        return replace(
            self._spec(folder, mounts, writer),
            argv=("python", "-u", f"{_packages.INSTALL}/bootstrap.py", _packages.TARGET, "--install"),
            env=order.variables,
            network="full",
            domains=(),
            gpus=(),
        )

    def _spec(self, run: Path, mounts: tuple[Mount, ...], writer: _logs.LogWriter) -> RunSpec:
        plan = self.plan
        params = plan.task["Engine"].get("Params") or {}
        network = plan.task.get("Network") or {}
        return RunSpec(
            execution_id=plan.execution,
            argv=(*_words(params, "Entrypoint"), *_words(params, "Parameters")),
            env=_environment(plan, params),
            folder=run,
            mounts=mounts,
            interpreter=plan.interpreter,
            language=plan.language,
            image=str(params.get("Image", "")),
            network=_NETWORKS.get(network.get("Type", ""), "none"),
            domains=tuple(network.get("Domains", ())),
            cpus=plan.amounts.cpu,
            memory=plan.amounts.memory,
            disk=plan.amounts.disk or None,
            gpus=plan.gpus,
            stdout=writer.stdout,
            stderr=writer.stderr,
        )


def _stop(running: Running) -> None:
    with suppress(OSError):
        running.stop()


def _check_target(target: str) -> None:
    parts = target.split("/")
    if not target.startswith("/") or ".." in parts or not any(part.strip(".") for part in parts) or "\0" in target:
        # Followed upwards it would lead out of the job's own view.
        raise _inputs.InputProblem(f"preparing arguments: invalid mount path: {target!r} mount path must be absolute")


def _words(params: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words = params.get(key) or ()
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise _inputs.InputProblem(f"invalid docker engine param: '{key}' must be a list of texts")
    return tuple(words)


def _environment(plan: Plan, params: Mapping[str, Any]) -> dict[str, str]:
    env = {**(plan.task.get("Env") or {}), **plan.system_env}
    for pair in _words(params, "EnvironmentVariables"):
        name, _, value = pair.partition("=")
        if name.startswith("BACALHAU_"):
            raise _inputs.InputProblem(f"invalid docker engine param: environment variable '{name}' cannot start with BACALHAU_")
        if name and "\0" not in pair:
            env[name] = value
    return {**env, **plan.secrets}


def _run_output(writer: _logs.LogWriter, exit_code: int) -> dict[str, Any]:
    out, err = writer.head(_logs.STDOUT), writer.head(_logs.STDERR)
    return {
        "Stdout": out.decode("utf-8", "replace"),
        "StdoutTruncated": writer.kept[_logs.STDOUT] > len(out),
        "stderr": err.decode("utf-8", "replace"),
        "StderrTruncated": writer.kept[_logs.STDERR] > len(err),
        "ExitCode": exit_code,
        "ErrorMsg": "",
    }
