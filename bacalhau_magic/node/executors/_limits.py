"""What a run may use: cgroups where they can be written, else a watch; CPUs by affinity; disk by allocated sizes."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["PROCESSES", "Cgroups", "Group", "UnmeasurableError", "affinity", "disk_use", "memory_use", "tree"]

PROCESSES = 512
"""How many processes and threads a run may have at once."""

# Linux, but for kernels built without it.
_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")

PREFIX = "bacalhau-magic-"
_PERIOD = 100_000
_ENTER = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1" || exit 125; shift; n=$((n-1)); done; exec "$@"'


class UnmeasurableError(Exception):
    """A folder of the run can't be measured."""


@dataclass(frozen=True, slots=True)
class Group:
    """The cgroups of one run: one folder in version 2, one a controller in version 1."""

    version: int
    folders: tuple[Path, ...]
    memory: Path | None

    def entering(self, argv: list[str]) -> list[str]:
        """The command line that enters these cgroups and then becomes `argv`."""
        # "0" to `tasks` moves the writer alone, without the lock over all process groups that `cgroup.procs` takes: 20 ms less.
        file = "tasks" if self.version == 1 else "cgroup.procs"
        paths = [str(folder / file) for folder in self.folders]
        return ["/bin/sh", "-c", _ENTER, "sh", str(len(paths)), *paths, *argv]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process of this group for its memory."""
        if self.memory is None:
            return False
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with suppress(OSError):
            for line in (self.memory / name).read_text().splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill":
                    return int(count) > 0
        return False

    def kill(self) -> None:
        """Kills every process in the group."""
        for attempt in range(60):
            if self.version == 2:
                with suppress(OSError):
                    (self.folders[0] / "cgroup.kill").write_text("1")
            pids = [pid for folder in self.folders for pid in _pids(folder)]
            if not pids:
                return
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.0005 * attempt)

    def remove(self) -> None:
        """Removes the group, its processes first."""
        for folder in self.folders:
            for attempt in range(100):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    # A dying process stays in its group for a moment.
                    self.kill()
                    time.sleep(0.002 * (attempt + 1))
                    continue
                break


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The cgroups below which this process may make its own: where each of memory, cpu and pids lies, if it can be used."""

    version: int = 0
    memory: Path | None = None
    cpu: Path | None = None
    pids: Path | None = None

    @classmethod
    def found(cls) -> Cgroups:
        """The usable ones, by trying: make one, set a limit, move a process in, remove it."""
        if not sys.platform.startswith("linux"):
            return cls()
        for version, bases in _candidates():
            group: Group | None = None
            usable: dict[str, Path] = {}
            for controller, base in bases.items():
                trial = cls(version, **{controller: base})
                try:
                    group = trial.make(f"trial-{os.getpid()}", cpus=1.0, memory=64 * 1024 * 1024)
                    if (
                        group
                        and subprocess.run(group.entering(["/bin/true"]), capture_output=True, timeout=10, check=False).returncode == 0
                    ):
                        usable[controller] = base
                except (OSError, subprocess.SubprocessError):
                    pass
                finally:
                    trial.group(f"trial-{os.getpid()}").remove()
            if usable:
                return cls(version, **usable)
        return cls()

    def group(self, name: str) -> Group:
        """The group of this name, whether it is there or not."""
        bases = dict.fromkeys(base for base in (self.memory, self.cpu, self.pids) if base is not None)
        return Group(self.version, tuple(base / (PREFIX + name) for base in bases), self.memory and self.memory / (PREFIX + name))

    def make(self, name: str, *, cpus: float, memory: int) -> Group | None:
        """A new group with these limits (`memory` in bytes); None where there are no cgroups. Raises OSError."""
        group = self.group(name)
        if not group.folders:
            return None
        for folder in group.folders:
            folder.mkdir()
        first = self.version == 1
        if self.memory:
            folder = self.memory / (PREFIX + name)
            _set(folder / ("memory.limit_in_bytes" if first else "memory.max"), memory)
            with suppress(OSError):
                # No way round by swap; the file is missing where swap isn't accounted.
                _set(folder / ("memory.memsw.limit_in_bytes" if first else "memory.swap.max"), memory if first else 0)
        if self.cpu:
            folder, quota = self.cpu / (PREFIX + name), max(1000, int(cpus * _PERIOD))
            if first:
                _set(folder / "cpu.cfs_period_us", _PERIOD)
                _set(folder / "cpu.cfs_quota_us", quota)
            else:
                _set(folder / "cpu.max", f"{quota} {_PERIOD}")
        if self.pids:
            # Room for bubblewrap's own two processes.
            _set(self.pids / (PREFIX + name) / "pids.max", PROCESSES + 2)
        return group

    def sweep(self, names: Iterable[str]) -> None:
        """Kills and removes the groups of these names wherever they are: the node may have been started elsewhere."""
        wanted = {PREFIX + name for name in names}
        if not wanted:
            return
        for _, controllers, mount, _ in _mounts():
            version = 1 if controllers else 2
            for folder, inner, _ in os.walk(mount):
                for name in wanted.intersection(inner):
                    group = Group(version, (Path(folder) / name,), None)
                    group.kill()
                    group.remove()


def _set(file: Path, value: int | str) -> None:
    file.write_text(str(value))


def _pids(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _mounts() -> Iterator[tuple[str, frozenset[str], Path, str]]:
    """The cgroup mounts: kind, controllers (of version 1), mount point, the mount's root inside the hierarchy."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = left.split(" ")
            words = frozenset(options.split(",")) & {"memory", "cpu", "pids"} if kind == "cgroup" else frozenset[str]()
            if words or kind == "cgroup2":
                yield kind, words, Path(fields[4]), fields[3]


def _candidates() -> Iterator[tuple[int, dict[str, Path]]]:
    """Where groups could be made, best first: version and controller → folder."""
    own: dict[str, str] = {}
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            own.update(dict.fromkeys(names.split(","), path))
    except OSError:
        return
    first: dict[str, Path] = {}
    for kind, controllers, mount, root in _mounts():
        if kind == "cgroup":
            for controller in controllers:
                first[controller] = _below(mount, root, own.get(controller, "/"))
            continue
        # Version 2: the own cgroup holds processes, so the usable one is most often an ancestor.
        folder = _below(mount, root, own.get("", "/"))
        for base in (folder, *folder.parents):
            if base == mount.parent or not os.access(base, os.W_OK):
                break
            with suppress(OSError):
                given = set((base / "cgroup.subtree_control").read_text().split()) & {"memory", "cpu", "pids"}
                if "memory" in given:
                    yield 2, dict.fromkeys(sorted(given), base)
    if first:
        yield 1, first


def _below(mount: Path, root: str, path: str) -> Path:
    inner = path[len(root) :] if root != "/" and path.startswith(root) else path
    folder = mount / inner.lstrip("/")
    return folder if folder.is_dir() else mount


def affinity(cpus: float) -> frozenset[int] | None:
    """As many of this process's CPUs as `cpus` asks for, rounded up; None where the system has no affinity."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    own = sorted(os.sched_getaffinity(0))
    wanted = max(1, math.ceil(cpus))
    # Another start for each call spreads the runs over the CPUs.
    start = time.monotonic_ns() // 1000 % len(own)
    return frozenset((own[start:] + own[:start])[:wanted])


def tree(pid: int) -> list[int]:
    """This process and everything below it."""
    if not _LISTS_CHILDREN:
        try:
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.Error:
            return []
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        found.append(parent)
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            with suppress(OSError), open(f"/proc/{parent}/task/{task}/children") as file:
                waiting.extend(int(child) for child in file.read().split())
    return found


def memory_use(pids: Iterable[int]) -> int:
    """The memory of these processes in bytes, shared pages counted once (PSS); resident pages where a system has no PSS."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith(b"Pss:"):
                        total += int(line.split()[1]) * 1024
                        break
        except OSError:
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
    return total


def disk_use(folders: Iterable[Path]) -> int:
    """The bytes allocated below these folders; links are not followed, files with several names count once.

    Raises UnmeasurableError for a folder that can't be read or lies too deep.
    """
    total, seen, waiting = 0, set[tuple[int, int]](), [str(folder) for folder in folders]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
                raise UnmeasurableError("its disk use can't be measured") from error
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        raise UnmeasurableError("its disk use can't be measured") from error
                    continue
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total
