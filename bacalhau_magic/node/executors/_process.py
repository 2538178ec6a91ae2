"""The process executor: runs a job as this user, not isolated, where nothing better is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from ... import _marks
from . import _gpus
from ._interpreters import SYSTEM_PATH, Interpreters
from ._limits import Cgroups, affinity
from ._payload import Payload, Watch, spawn
from ._seam import Mount, Running, RunSpec

__all__ = ["ProcessExecutor"]

_MARK = "BACALHAU_MAGIC_EXECUTION"
_KEPT = ("LANG", "LC_ALL", "TZ", "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "WINDIR", "DYLD_FALLBACK_LIBRARY_PATH")


class ProcessExecutor:
    """Runs a job as an ordinary process tree. It sees this user's files and the network; limits are watched."""

    name = "process"

    def __init__(self, interpreters: Interpreters, cgroups: Cgroups, why: str) -> None:
        self.why = why
        self._interpreters = interpreters
        self._cgroups = cgroups
        self.limits: Mapping[str, str] = {
            "files": _marks.LIMIT_NONE,
            "network": _marks.LIMIT_NONE,
            "memory": _marks.LIMIT_ENFORCED if cgroups.memory else _marks.LIMIT_WATCHED,
            "cpu": _marks.LIMIT_ENFORCED if cgroups.cpu else _marks.LIMIT_AFFINITY if affinity(1) else _marks.LIMIT_NONE,
            "disk": _marks.LIMIT_WATCHED,
            "processes": _marks.LIMIT_ENFORCED if cgroups.pids else _marks.LIMIT_NONE,
            "time": _marks.LIMIT_ENFORCED,
        }

    def ready(self, _image: str, _pulling: Callable[[], None] = lambda: None) -> None:
        """Nothing: the interpreter is here."""

    def start(self, spec: RunSpec) -> Running:
        """Starts the payload. Raises OSError with the words to record when it can't be started."""
        if spec.domains:
            raise OSError("network by domain is not available here")
        program = self._interpreters.resolve(spec.argv[0], spec.language, spec.interpreter)
        scratch = spec.folder / "scratch"
        for name in ("home", "tmp"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        nest(spec)
        argv = [program.path, *(rewritten(word, spec.mounts) for word in spec.argv[1:])]
        group = self._cgroups.make(spec.execution_id, cpus=spec.cpus, memory=spec.memory)
        try:
            process = spawn(
                group.entering(argv) if group else argv,
                env=environment(spec, scratch, program.path),
                stdout=spec.stdout,
                stderr=spec.stderr,
                cwd=scratch / "tmp",
                affinity=None if self._cgroups.cpu else affinity(spec.cpus),
            )
        except OSError:
            if group:
                group.remove()
            raise
        watch = Watch(
            memory=None if self._cgroups.memory else spec.memory,
            disk=spec.disk,
            folders=(scratch, *(mount.source for mount in spec.mounts if not mount.read_only)),
        )
        # A child may have left the tree and the session; the mark in its environment still tells whose it is.
        return Payload(
            process,
            group=group,
            watch=watch,
            cleaned=partial(end_marked, (spec.execution_id,)),
        )

    def sweep(self, execution_ids: Collection[str]) -> None:
        """Kills and removes whatever these executions left, after the node itself was killed."""
        self._cgroups.sweep(execution_ids)
        end_marked(execution_ids)

    def close(self) -> None:
        """Nothing waits here."""


def nest(spec: RunSpec) -> None:
    """Puts a link to a mount where it lies inside another one, in the run's own copy of that."""
    for mount in spec.mounts:
        for outer in spec.mounts:
            inner = mount.target.removeprefix(outer.target.rstrip("/") + "/")
            if inner == mount.target or not outer.source.is_relative_to(spec.folder):
                continue
            place = outer.source / inner
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() and not place.is_symlink():
                place.rmdir()
            place.unlink(missing_ok=True)
            place.symlink_to(mount.source)


def rewritten(word: str, mounts: tuple[Mount, ...]) -> str:
    """A word of the command line with a mount's target, at its beginning, replaced by the mount's source."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.target)):
        if word == mount.target or word.startswith(mount.target.rstrip("/") + "/"):
            return str(mount.source) + word[len(mount.target.rstrip("/")) :]
    return word


def environment(spec: RunSpec, scratch: Path, program: str) -> dict[str, str]:
    """The payload's environment: a fixed list, and the job's own."""
    path = os.environ.get("PATH", SYSTEM_PATH) if sys.platform == "win32" else SYSTEM_PATH
    folders = [os.path.dirname(place) for place in (spec.interpreter, program) if os.path.isabs(place)]
    return {
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "PATH": os.pathsep.join(dict.fromkeys((*folders, *path.split(os.pathsep)))),
        "HOME": str(scratch / "home"),
        **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch / "tmp")),
        **_gpus.visible(spec.gpus),
        **spec.env,
        _MARK: spec.execution_id,
    }


def end_marked(execution_ids: Collection[str]) -> None:
    """Kills every process of this user that carries the mark of one of these executions, until there is none."""
    wanted = set(execution_ids)
    for _ in range(20):
        found = [process for process in psutil.process_iter() if process.pid != os.getpid() and _mark(process) in wanted]
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=0.5)


def _mark(process: psutil.Process) -> str | None:
    if sys.platform.startswith("linux"):
        try:
            words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        start = f"{_MARK}=".encode()
        return next((word[len(start) :].decode(errors="replace") for word in words if word.startswith(start)), None)
    try:
        return process.environ().get(_MARK)
    except (psutil.Error, OSError):
        return None
