"""A run under way: its process, what ends it, and its watch."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ._limits import PROCESSES, Group, UnmeasurableError, disk_use, memory_use, tree
from ._seam import Ending

__all__ = ["Payload", "Watch", "spawn"]

_SAMPLE = 0.2
_GONE = 10.0

# "Die with the parent" means the thread that forked; this one lives as long as the node does.
_parent = ThreadPoolExecutor(1, thread_name_prefix="parent-of-payloads")


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int,
    stderr: int,
    cwd: Path | None = None,
    pass_fds: tuple[int, ...] = (),
    affinity: frozenset[int] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, from a thread that stays. Raises OSError."""

    def start() -> subprocess.Popen[bytes]:
        before = os.sched_getaffinity(0) if affinity else None
        if affinity:
            os.sched_setaffinity(0, affinity)
        try:
            return subprocess.Popen(
                argv,
                env=dict(env),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        finally:
            if before:
                os.sched_setaffinity(0, before)

    return _parent.submit(start).result()


@dataclass(frozen=True, slots=True)
class Watch:
    """What is sampled while a run lasts, because nothing enforces it: `memory` and `disk` in bytes, None for what isn't watched."""

    memory: int | None = None
    disk: int | None = None
    folders: tuple[Path, ...] = ()
    processes: bool = False


class Payload:
    """A process tree that runs a job; it fulfils `Running`.

    `members` lists every process of the run that can be found now, and `cleaned` is called once, when all are dead.
    `inside` is where bubblewrap says which process is the first inside: the run is over when that one is, which takes
    all others with it, not already when bubblewrap is.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        group: Group | None = None,
        watch: Watch | None = None,
        members: Callable[[], list[int]] | None = None,
        asked: Callable[[], list[int]] | None = None,
        cleaned: Callable[[], None] | None = None,
        inside: int = -1,
    ) -> None:
        self._process = process
        self._group = group
        # When it has been reaped its number may be another process's.
        self._members = members or (lambda: tree(process.pid) if process.returncode is None else [])
        self._asked = asked or (lambda: [process.pid])
        self._cleaned = [cleaned] if cleaned else []
        self._inside = inside
        self._lock = threading.Lock()
        self._reason = ("", "")
        self._ending: Ending | None = None
        self._done = threading.Event()
        threading.Thread(target=self._wait, name=f"wait-{process.pid}", daemon=True).start()
        if watch:
            self.follow(watch)

    @property
    def pid(self) -> int:
        return self._process.pid

    def follow(self, watch: Watch) -> None:
        """Samples what nothing enforces, from now on."""
        if watch.memory is not None or watch.disk is not None or watch.processes:
            threading.Thread(target=self._follow, args=(watch,), name=f"watch-{self.pid}", daemon=True).start()

    def at_clean(self, callback: Callable[[], None]) -> None:
        """Also calls this when all is dead and removed."""
        with self._lock:
            self._cleaned.append(callback)

    def wait(self, timeout: float | None = None) -> Ending | None:
        """The ending, as soon as it is known; None when `timeout` seconds passed first."""
        self._done.wait(timeout)
        return self._ending

    def stop(self, grace: float = 2.0) -> None:
        """Ends the whole tree: asked first, killed after `grace` seconds."""
        if self._done.is_set():
            return
        self._give_reason("stopped", "")
        if grace > 0:
            for pid in self._asked():
                with suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
            self._done.wait(grace)
        self._kill()
        self._done.wait(10)

    def clean(self) -> None:
        """Makes sure that every process is dead and that no cgroup or mount is left."""
        if not self._done.is_set():
            self._give_reason("stopped", "")
        self._kill()
        self._done.wait(10)
        with self._lock:
            group, self._group = self._group, None
            cleaned, self._cleaned = self._cleaned, []
        if group:
            group.kill()
            group.remove()
        for callback in cleaned:
            callback()

    def note_stopped(self) -> None:
        """Says that what ends it now is a stop; for an executor that ends it in its own way."""
        self._give_reason("stopped", "")

    def _give_reason(self, killed: str, message: str) -> None:
        with self._lock:
            if not self._reason[0] and self._ending is None:
                self._reason = (killed, message)

    def _kill(self) -> None:
        """Kills what can be found until nothing more is found: a tree may grow while it is being killed."""
        for _ in range(20):
            pids = [pid for pid in self._members() if pid != self._process.pid]
            if self._process.returncode is None:
                with suppress(OSError):
                    self._process.kill()
            if not pids:
                return
            for pid in pids:
                with suppress(OSError, psutil.Error):
                    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            time.sleep(0.005)

    def _wait(self) -> None:
        code = self._process.wait() if self._inside < 0 else self._wait_inside(self._inside)
        # A payload that a signal ended has the code that a shell gives it.
        code = 128 - code if code < 0 else code
        with self._lock:
            killed, message = self._reason
            if not killed and code != 0 and self._group and self._group.ran_out_of_memory():
                killed, message = "memory", "memory limit exceeded"
            self._ending = Ending(code, killed, message)
        self._done.set()

    def _wait_inside(self, told: int) -> int:
        """The exit code, when the first process inside and with it all others are dead."""
        with os.fdopen(told, "rb", buffering=0) as pipe:
            found = re.search(rb'"child-pid": (\d+)', pipe.read(4096) or b"")
            first = -1
            with suppress(OSError):
                first = os.pidfd_open(int(found[1])) if found else -1
            # bubblewrap writes more than the first piece: the pipe stays open for as long as it runs.
            code = self._process.wait()
        if first >= 0:
            with os.fdopen(first), suppress(OSError):
                select.select([first], [], [], _GONE)
        return code

    def _follow(self, watch: Watch) -> None:
        disk_again = 0.0
        while not self._done.wait(_SAMPLE):
            pids = self._members() if watch.memory is not None or watch.processes else []
            if watch.memory is not None and memory_use(pids) > watch.memory:
                self._give_reason("memory", "memory limit exceeded")
            if watch.processes and len(pids) > PROCESSES:
                self._give_reason("processes", "process limit exceeded")
            if watch.disk is not None and time.monotonic() >= disk_again:
                began = time.monotonic()
                try:
                    if disk_use(watch.folders) > watch.disk:
                        self._give_reason("disk", "disk limit exceeded")
                except UnmeasurableError as error:
                    self._give_reason("disk", f"disk limit exceeded: {error}")
                # Many files take long to measure; the watch takes a tenth of one CPU at most.
                disk_again = time.monotonic() + 10 * (time.monotonic() - began)
            if self._reason[0] in ("memory", "processes", "disk"):
                self._kill()
                return
