"""One sandbox prepared ahead: its interpreter has started, and waits for a plain job of its kind.

It is a sandbox as any other, with the limits, the user and the cgroups that its job will have. It takes one job and
ends with it. It counts for nothing in the node's capacity, and goes when it was not used for some minutes, when
another kind of job comes, and when the node goes.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ._payload import Payload
from ._seam import Mount, RunSpec

__all__ = ["PREFIX", "Kind", "Prepared"]

PREFIX = "prepared-"
_KEPT = 300.0
_SOON = 0.01
_READY = 5.0
_SYSTEM_VARIABLES = "BACALHAU_"
_LARGEST_MESSAGE = 32_000
"""Bytes of variables that are handed over at most; the sandbox reads 64 KiB at once."""

Launch = Callable[[RunSpec, int], tuple[Payload, Callable[[RunSpec], None]]]
"""Starts a sandbox for a spec, with this stdin; with it comes what makes another run's files the sandbox's user's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a sandbox is prepared for: all of a run but its files and its ids."""

    argv: tuple[str, ...]
    interpreter: str
    language: str
    network: str
    cpus: float
    memory: int
    inputs: str
    outputs: str

    @classmethod
    def of(cls, spec: RunSpec) -> Kind | None:
        """The kind of a run; None for one that has something of its own: variables, secrets, cards, mounts, staged inputs."""
        if spec.gpus or spec.domains or not spec.interpreter or not all(name.startswith(_SYSTEM_VARIABLES) for name in spec.env):
            return None
        ours = [mount for mount in spec.mounts if mount.read_only and mount.source.is_relative_to(spec.folder) and mount.source.is_dir()]
        theirs = [mount for mount in spec.mounts if not mount.read_only]
        if len(spec.mounts) != 2 or len(ours) != 1 or len(theirs) != 1:
            return None
        if len(_as_message(spec.env)) > _LARGEST_MESSAGE:
            return None
        kind = cls(spec.argv, spec.interpreter, spec.language, spec.network, spec.cpus, spec.memory, ours[0].target, theirs[0].target)
        return kind if kind._is_script(ours[0].source) else None

    def _is_script(self, inputs: Path) -> bool:
        """Whether the command line is `python -u SCRIPT`, with a script that came with the inputs and whose path leads nowhere else."""
        if len(self.argv) < 3 or self.argv[:2] != ("python", "-u") or not self.argv[2].startswith(self.inputs + "/"):
            return False
        place = inputs / self.script.lstrip("/")
        return posixpath.normpath(self.argv[2]) == self.argv[2] and place.is_file() and not place.is_symlink()

    @property
    def script(self) -> str:
        """The script's place in the inputs."""
        return self.argv[2][len(self.inputs) + 1 :]


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: Kind
    folder: Path
    payload: Payload
    hand_over: Callable[[RunSpec], None]
    end: socket.socket

    def is_ready(self) -> bool:
        """Whether the interpreter waits, and nothing that its start depended on has changed since."""
        try:
            self.end.settimeout(_READY)
            facts = self.end.recv(1 << 20).decode("utf-8", "surrogateescape")
        except OSError:
            return False
        return bool(facts) and all(str(_changed(place)) == when for when, _, place in (line.partition(" ") for line in facts.split("\n")))

    def run(self, spec: RunSpec) -> None:
        """Gives the job its files, variables and pipes; its script begins."""
        _move_in(self, spec)
        self.hand_over(spec)
        socket.send_fds(self.end, [_as_message(spec.env) or b"\0"], [spec.stdout, spec.stderr])
        self.end.close()

    def drop(self) -> None:
        self.end.close()
        self.payload.clean()


class Prepared:
    """At most one prepared sandbox. `launch` starts one; `folder` is where their files lie until the job has its own."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        self._launch = launch
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def take(self, kind: Kind, spec: RunSpec) -> Payload | None:
        """The prepared sandbox, running this job from now on; None when there is none that fits. Raises OSError."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        if waiting.kind != kind or not waiting.is_ready():
            waiting.drop()
            return None
        try:
            waiting.run(spec)
        except OSError:
            waiting.drop()
            raise
        return waiting.payload

    def keep(self, kind: Kind) -> None:
        """Prepares a sandbox of this kind in place of any other. Raises nothing: a job that finds none starts its own."""
        old = None
        with suppress(OSError), self._lock:
            if self._closed or (self._waiting and self._waiting.kind == kind):
                return
            old, self._waiting = self._waiting, None
            self._waiting = self._start(kind)
            self._expire_later()
        if old:
            old.drop()

    def keep_soon(self, kind: Kind) -> None:
        """As `keep`, when the node has told of the last job's end: that is waited for."""
        timer = threading.Timer(_SOON, self.keep, args=(kind,))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """No sandbox waits any more, and none will."""
        with self._lock:
            self._closed = True
            if self._timer:
                self._timer.cancel()
        self._drop()

    def _start(self, kind: Kind) -> _Waiting:
        folder = self._folder / f"{PREFIX}{secrets.token_hex(8)}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            script = folder / "inputs" / kind.script
            script.parent.mkdir(parents=True)
            (folder / "outputs").mkdir()
            shutil.copyfile(Path(__file__).with_name("_waiting.py"), script)
            mounts = (Mount(folder / "inputs", kind.inputs, True), Mount(folder / "outputs", kind.outputs, False))
            spec = RunSpec(
                execution_id=folder.name,
                argv=kind.argv,
                env={},
                folder=folder,
                mounts=mounts,
                interpreter=kind.interpreter,
                language=kind.language,
                image="",
                network=kind.network,
                domains=(),
                cpus=kind.cpus,
                memory=kind.memory,
                disk=None,
                gpus=(),
                stdout=null,
                stderr=null,
            )
            payload, hand_over = self._launch(spec, theirs.fileno())
            payload.at_clean(partial(shutil.rmtree, folder, ignore_errors=True))
        except BaseException:
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(null)
            theirs.close()
        return _Waiting(kind, folder, payload, hand_over, ours)

    def _expire_later(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(_KEPT, self._drop)
        self._timer.daemon = True
        self._timer.start()

    def _drop(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting:
            waiting.drop()


def _as_message(variables: Mapping[str, str]) -> bytes:
    return b"\0".join(f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in variables.items())


def _changed(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


def _move_in(waiting: _Waiting, spec: RunSpec) -> None:
    """The job's files go where the sandbox sees them; then its folders take their place in the run's own folder."""
    inputs = next(mount.source for mount in spec.mounts if mount.read_only)
    outputs = next(mount.source for mount in spec.mounts if not mount.read_only)
    seen = waiting.folder / "inputs"
    for name in os.listdir(seen):
        _remove(seen / name)
    for name in os.listdir(inputs):
        os.rename(inputs / name, seen / name)
    for place, own in ((inputs, seen), (outputs, waiting.folder / "outputs")):
        os.rmdir(place)
        os.rename(own, place)
    os.rename(waiting.folder / "scratch", spec.folder / "scratch")


def _remove(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() else place.unlink()
