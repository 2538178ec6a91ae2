"""The container executor: docker or podman by their command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ... import _marks
from . import _gpus
from ._limits import PREFIX, PROCESSES
from ._payload import Payload, Watch, spawn
from ._seam import Ending, Running, RunSpec

__all__ = ["ContainerExecutor", "command_line", "qualified"]

# What the engine's own command line needs; nothing of it reaches the container.
_KEPT = (
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
)

# A job's variables reach the container through the engine's client, which must not heed them itself: these lead it, or its loader.
_LEADING = re.compile(
    r"(LD|GLIBC|GCONV|MALLOC|DOCKER|BUILDKIT|COMPOSE|_?CONTAINERS?|PODMAN|BUILDAH|NETAVARK|CNI|XDG|DBUS|LISTEN|SSH_AUTH|SSL_CERT|OTEL|RES|LC)_.*"
    r"|GO(DEBUG|MAXPROCS|TRACEBACK|GC|MEMLIMIT|COVERDIR|RACE|ROOT|PATH)|REGISTRY_AUTH_FILE|STORAGE_(DRIVER|OPTS)|NOTIFY_SOCKET"
    r"|HOME|PATH|USER|LOGNAME|SHELL|ENV|BASH_ENV|IFS|LANG|LANGUAGE|TMPDIR|TMP|TEMP|HOSTALIASES|LOCALDOMAIN|LOCPATH|NLSPATH|NIS_PATH"
    r"|(HTTPS?|ALL|NO|FTP)_PROXY",
    re.IGNORECASE,
)
_APART_AT_MOST = 60_000
"""Bytes of variables that are handed over apart: what a pipe holds."""

# What an engine's client ends with when it could not start a container's process; a process itself may end so, too.
_NEVER_RAN = {
    125: "the container engine refused it",
    126: 'exec: "{}": permission denied',
    127: 'executable file not found: exec: "{}": executable file not found in $PATH',
}


class ContainerExecutor:
    """Runs jobs in containers of `engine` ("docker" or "podman")."""

    why = ""
    limits: Mapping[str, str] = {
        **dict.fromkeys(_marks.LIMITS, _marks.LIMIT_ENFORCED),
        "disk": _marks.LIMIT_WATCHED,
    }

    def __init__(self, engine: str, program: str) -> None:
        self.name = engine
        self._program = program

    @classmethod
    def found(cls) -> tuple[ContainerExecutor | None, str]:
        """The first engine that answers; else None and why there is none."""
        why = "docker and podman are not installed"
        for engine in ("docker", "podman"):
            program = shutil.which(engine)
            if program is None:
                continue
            try:
                answer = _call([program, "info", "--format", "{{.ID}}" if engine == "docker" else "{{.Host.Arch}}"], timeout=10)
            except (OSError, subprocess.SubprocessError):
                why = f"{engine} does not answer"
                continue
            # docker's client ends with 0 and an empty answer when its engine is away, in some versions.
            if answer.returncode == 0 and answer.stdout.strip():
                return cls(engine, program), ""
            why = f"{engine} does not answer: {_last_line(answer.stderr)}".rstrip(": ")
        return None, why

    def ready(self, image: str, pulling: Callable[[], None] = lambda: None) -> None:
        """Pulls an image that is not here yet, and calls `pulling` first. Raises OSError with the engine's words."""
        if _call([self._program, "image", "inspect", image], timeout=60).returncode:
            pulling()
            pulled = _call([self._program, "pull", "--quiet", qualified(image) if self.name == "podman" else image], timeout=3600)
            if pulled.returncode:
                raise OSError(_last_line(pulled.stderr) or f"image not available: {image}")

    def start(self, spec: RunSpec) -> Running:
        """Starts the container of an image that is here. Raises OSError with the words to record when it can't be started."""
        if spec.domains:
            raise OSError("network by domain is not available here")
        self.ready(spec.image)
        user = f"{os.getuid()}:{os.getgid()}" if self.name == "docker" and os.getuid() else ""
        name = PREFIX + spec.execution_id
        apart = _apart(spec)
        try:
            process = spawn(
                [self._program, *command_line(spec, name, user=user, apart=apart)],
                env={name: value for name, value in spec.env.items() if not _LEADING.fullmatch(name)} | _environment(),
                stdout=spec.stdout,
                stderr=spec.stderr,
                pass_fds=() if apart is None else (apart,),
            )
        finally:
            if apart is not None:
                os.close(apart)
        folders = tuple(mount.source for mount in spec.mounts if not mount.read_only)
        payload = Payload(process, watch=Watch(disk=spec.disk, folders=folders), cleaned=partial(self._remove, name))
        return _Container(payload, self._program, name, spec.argv[0] if spec.argv else spec.image)

    def sweep(self, execution_ids: Collection[str]) -> None:
        """Kills and removes whatever these executions left, after the node itself was killed."""
        for execution_id in execution_ids:
            self._remove(PREFIX + execution_id)

    def close(self) -> None:
        """Nothing waits here."""

    def _remove(self, name: str) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            _call([self._program, "rm", "--force", "--volumes", name], timeout=60)


class _Container:
    """A container under way: the engine's own client is the process that is waited for."""

    def __init__(self, payload: Payload, program: str, name: str, command: str) -> None:
        self._payload = payload
        self._program = program
        self._name = name
        self._command = command
        self._lock = threading.Lock()
        self._ending: Ending | None = None

    def wait(self, timeout: float | None = None) -> Ending | None:
        """The ending, as soon as it is known; None when `timeout` seconds passed first."""
        ending = self._payload.wait(timeout)
        if ending is None:
            return None
        with self._lock:
            if self._ending is None:
                self._ending = ending if ending.killed or not ending.exit_code else self._explained(ending)
            return self._ending

    def stop(self, grace: float = 2.0) -> None:
        """Ends the container: asked first, killed after `grace` seconds."""
        self._payload.note_stopped()
        with suppress(OSError, subprocess.SubprocessError):
            _call([self._program, "stop", "--time", str(max(0, round(grace))), self._name], timeout=grace + 30)
        self._payload.stop(1.0)

    def clean(self) -> None:
        """Makes sure that the container is gone."""
        self._payload.clean()

    def _explained(self, ending: Ending) -> Ending:
        """What the engine knows of an exit code: whether the kernel killed for memory, or nothing ever ran."""
        try:
            facts = _call(
                [self._program, "inspect", "--format", "{{.State.OOMKilled}} {{.State.StartedAt}}", self._name], timeout=10
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return ending
        killed, _, started = facts.strip().partition(" ")
        if killed == "true":
            return Ending(ending.exit_code, "memory", "memory limit exceeded")
        if started.startswith("0001-01-01") and ending.exit_code in _NEVER_RAN:
            return Ending(None, "", f"failed to start container: {_NEVER_RAN[ending.exit_code].format(self._command)}")
        return ending


def qualified(image: str) -> str:
    """An image's name with its registry: docker's own where none is named, as docker reads it and podman need not."""
    first, slash, _ = image.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def _apart(spec: RunSpec) -> int | None:
    """A pipe with the variables that the engine's client itself would heed: no file and no command line ever holds their values.

    Raises OSError for a value that can't stand in a line, and for too many of them.
    """
    leading = {name: value for name, value in sorted(spec.env.items()) if _LEADING.fullmatch(name)}
    if not leading:
        return None
    for name, value in leading.items():
        if any(sign in value for sign in "\n\r\0\"'"):
            raise OSError(f"the variable {name} has a quote or a line's end in it, which can't be given to a container")
    lines = "".join(f"{name}={value}\n" for name, value in leading.items()).encode("utf-8", "surrogateescape")
    if len(lines) > _APART_AT_MOST:
        raise OSError(f"the variables {', '.join(leading)} are too long together to be given to a container")
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(lines)
    return reading


def command_line(spec: RunSpec, name: str, *, user: str = "", apart: int | None = None, dev: Path = Path("/dev")) -> list[str]:
    """The engine's arguments for this run. Values of variables stay out of it: other users can read command lines."""
    words = ["run", "--name", name, "--pull", "never", "--pids-limit", str(PROCESSES)]
    words += ["--security-opt", "no-new-privileges", "--network", "none" if spec.network in ("none", "") else "bridge"]
    words += ["--cpus", f"{spec.cpus:g}", "--memory", f"{spec.memory}b", "--memory-swap", f"{spec.memory}b"]
    nvidia = [str(gpu.index) for gpu in spec.gpus if gpu.vendor == _gpus.NVIDIA]
    if nvidia:
        words += ["--gpus", '"device=' + ",".join(nvidia) + '"']
    for device in _gpus.devices((gpu for gpu in spec.gpus if gpu.vendor != _gpus.NVIDIA), dev):
        words += ["--device", f"{device}:{device}:rwm"]
    if user:
        words += ["--user", user, "--env", "HOME=/tmp"]
    for variable in sorted(spec.env):
        words += [] if _LEADING.fullmatch(variable) else ["--env", variable]
    words += [] if apart is None else ["--env-file", f"/dev/fd/{apart}"]
    for mount in spec.mounts:
        source, target = (_quoted(f"{key}={value}") for key, value in (("source", mount.source), ("target", mount.target)))
        words += ["--mount", f"type=bind,{source},{target}" + (",readonly" if mount.read_only else "")]
    if spec.argv:
        words += ["--entrypoint", spec.argv[0]]
    return [*words, spec.image, *spec.argv[1:]]


def _quoted(field: str) -> str:
    """A field of a comma-separated line, as docker reads it."""
    return '"' + field.replace('"', '""') + '"' if any(sign in field for sign in ',"\n') else field


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def _call(argv: Sequence[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, errors="replace", timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=_environment()
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
