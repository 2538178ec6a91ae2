"""The bubblewrap executor: a job in its own view of the machine, without privileges."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from ... import _marks
from . import _gpus, _seccomp
from ._interpreters import SYSTEM_FOLDERS, SYSTEM_PATH, Interpreters, inside
from ._limits import PROCESSES, Cgroups, affinity, tree
from ._payload import Payload, Watch, spawn
from ._prepared import Kind, Prepared
from ._seam import Running, RunSpec

__all__ = ["BubblewrapExecutor"]

HOME = "/home/job"
_NOBODY = 65534
# Between the ranges that distributions and systemd give away.
_UIDS = range(65520, 65534)
_SHARED_MEMORY = 1 << 30

# What could make the programs between root and the payload do something else; the C library's own list for setuid programs.
_LOADER = ("LD_", "GLIBC_", "MALLOC_", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "NIS_PATH", "NLSPATH", "RES")
_NETWORK_FILES = ("resolv.conf", "ssl", "pki", "ca-certificates", "ca-certificates.conf")
_SYSTEM_FILES = ("ld.so.cache", "alternatives", "fonts")


class BubblewrapExecutor:
    """Runs jobs under `bwrap`. `limits` says what is known before the trial; `_probe` corrects it by trying.

    Raises OSError when this machine lacks what it needs.
    """

    name = "bubblewrap"

    def __init__(self, scratch: Path, interpreters: Interpreters, cgroups: Cgroups, *, dev: Path = Path("/dev")) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise FileNotFoundError("bubblewrap is not installed")
        self._program = program
        self._interpreters = interpreters
        self._cgroups = cgroups
        self._root = os.geteuid() == 0
        setpriv, prlimit = _system_program("setpriv"), _system_program("prlimit")
        if self._root and setpriv is None:
            raise FileNotFoundError("bubblewrap as root needs setpriv (util-linux)")
        self._setpriv = setpriv or ""
        # Set inside, so that only the job's own processes count.
        self._nproc = [prlimit, f"--nproc={PROCESSES}:{PROCESSES}", "--"] if prlimit and not cgroups.pids else []
        self._dev = dev
        self._lock = threading.Lock()
        self._uids_in_use: set[int] = set()
        self._filter = _seccomp.program()
        self._help = _help(program)
        self._etc = scratch / "etc"
        self._fixed = [*self._privileges(), *_system(), *_etc(self._etc)]
        self._prepared = Prepared(self._launch_ahead, scratch)
        self.why = "as root, payload as an unprivileged user" if self._root else "in a user namespace"
        self.limits: Mapping[str, str] = {
            "files": _marks.LIMIT_ENFORCED,
            "network": _marks.LIMIT_ENFORCED,
            "memory": _marks.LIMIT_ENFORCED if cgroups.memory else _marks.LIMIT_WATCHED,
            "cpu": _marks.LIMIT_ENFORCED if cgroups.cpu else _marks.LIMIT_AFFINITY,
            "disk": _marks.LIMIT_WATCHED,
            "processes": _marks.LIMIT_ENFORCED if cgroups.pids or self._nproc else _marks.LIMIT_WATCHED,
            "time": _marks.LIMIT_ENFORCED,
        }

    def ready(self, _image: str, _pulling: Callable[[], None] = lambda: None) -> None:
        """Nothing: the interpreter is here."""

    def start(self, spec: RunSpec) -> Running:
        """Starts the payload. Raises OSError with the words to record when it can't be started."""
        kind = Kind.of(spec)
        payload = self._prepared.take(kind, spec) if kind else None
        if payload:
            payload.follow(self._watch(spec))
        else:
            payload = self.launch(spec)
        if kind:
            payload.at_clean(partial(self._prepared.keep_soon, kind))
        return payload

    def close(self) -> None:
        """Ends what waits for a job."""
        self._prepared.close()

    def launch(self, spec: RunSpec, *, stdin: int = subprocess.DEVNULL, before: Collection[str] = ()) -> Payload:
        """As `start`, never prepared; `before` is a command line that becomes bubblewrap at its end (for the trial of terminals)."""
        return self._launch(spec, self._take_uid(), stdin, before)

    def _launch_ahead(self, spec: RunSpec, stdin: int) -> tuple[Payload, Callable[[RunSpec], None]]:
        uid = self._take_uid()
        payload = self._launch(spec, uid, stdin, ())

        def hand_over(spec: RunSpec) -> None:
            if self._root:
                _hand_over(spec, spec.folder / "scratch", uid)

        return payload, hand_over

    def _launch(self, spec: RunSpec, uid: int, stdin: int, before: Collection[str]) -> Payload:
        with ExitStack() as undo, ExitStack() as done:
            undo.callback(self._give_uid, uid)
            if spec.network not in ("none", "", "full", "host") or spec.domains:
                raise OSError(f"network {spec.network} is not available here")
            program = self._interpreters.resolve(spec.argv[0], spec.language, spec.interpreter)
            python = self._interpreters.resolve("python", spec.language, spec.interpreter) if spec.interpreter else None
            needs = dict.fromkeys((*program.needs, *(python.needs if python else ())))
            scratch = spec.folder / "scratch"
            for name in ("home", "tmp"):
                (scratch / name).mkdir(parents=True, exist_ok=True)
            if self._root:
                _hand_over(spec, scratch, uid)
            options = [
                *self._fixed,
                *self._network(spec),
                *self._view(spec, scratch, needs),
                *_environment(spec, program.path),
            ]
            if any("\0" in word for word in (*options, *spec.argv)):
                # It would end one of bubblewrap's options, and what follows would be the job's own.
                raise OSError("failed to start container: the job has a null character")
            fds = [_memory_file("bwrap-args", "\0".join(options).encode() + b"\0")]
            done.callback(os.close, fds[0])
            told, telling = os.pipe()
            undo.callback(os.close, told)
            done.callback(os.close, telling)
            fds.append(telling)
            command = [self._program, "--args", str(fds[0]), "--info-fd", str(telling)]
            if self._filter:
                fds.append(_memory_file("bwrap-filter", self._filter))
                done.callback(os.close, fds[-1])
                command += ["--seccomp", str(fds[-1])]
            command += ["--", *self._drop(uid, spec), *self._nproc, *_loader_variables(spec.env), program.path, *spec.argv[1:]]
            group = self._cgroups.make(spec.execution_id, cpus=spec.cpus, memory=spec.memory)
            if group:
                undo.callback(group.remove)
                command = group.entering(command)
            process = spawn(
                [*before, *command],
                env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8"},
                stdin=stdin,
                stdout=spec.stdout,
                stderr=spec.stderr,
                cwd=Path("/"),
                pass_fds=tuple(fds),
                affinity=None if self._cgroups.cpu else affinity(spec.cpus),
            )
            undo.pop_all()
        # bubblewrap, its reaper (process 1 inside), the payload.
        return Payload(
            process,
            group=group,
            watch=self._watch(spec),
            asked=lambda: _below(process.pid, 2),
            cleaned=partial(self._give_uid, uid),
            inside=told,
        )

    def _watch(self, spec: RunSpec) -> Watch:
        return Watch(
            memory=None if self._cgroups.memory else spec.memory,
            disk=spec.disk,
            folders=(spec.folder / "scratch", *(mount.source for mount in spec.mounts if not mount.read_only)),
            processes=self.limits["processes"] == _marks.LIMIT_WATCHED,
        )

    def sweep(self, execution_ids: Collection[str]) -> None:
        """Kills and removes whatever these executions left, after the node itself was killed."""
        # Its processes die with the node; mounts with the processes. The cgroups stay.
        self._cgroups.sweep(execution_ids)

    def watch_processes(self) -> None:
        """Counts processes from now on: the trial showed that the kernel doesn't bound them here."""
        self._nproc = []
        self.limits = {**self.limits, "processes": _marks.LIMIT_WATCHED}

    def _privileges(self) -> list[str]:
        options = ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "bacalhau", "--cap-drop", "ALL"]
        options += ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        if self._root:
            # What setpriv needs to leave root for good.
            return options + [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
        options += ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
        # Without it (bubblewrap before 0.8) the filter alone refuses new user namespaces.
        return [*options, "--disable-userns"] if "--disable-userns" in self._help else options

    def _drop(self, uid: int, spec: RunSpec) -> list[str]:
        if not self._root:
            return []
        number = str(uid)
        # A card's device is often open to a group only ("render").
        groups = sorted({str(os.stat(device).st_gid) for device in self._devices(spec)} - {"0"})
        own = ["--groups", ",".join(groups)] if groups else ["--clear-groups"]
        drop = [self._setpriv, "--reuid", number, "--regid", number, *own, "--bounding-set=-all", "--inh-caps=-all"]
        return [*drop, "--no-new-privs", "--"]

    def _devices(self, spec: RunSpec) -> tuple[str, ...]:
        return _gpus.devices(spec.gpus, self._dev)

    def _network(self, spec: RunSpec) -> list[str]:
        if spec.network in ("none", ""):
            # What programs look at for a machine's interfaces, where there is no sysfs.
            places = ("/sys", "/sys/class", "/sys/class/net", "/sys/class/net/lo")
            return ["--unshare-net", *(word for place in places for word in ("--dir", place))]
        options: list[str] = []
        for name in _NETWORK_FILES:
            if (self._etc / name).exists():
                options += ["--ro-bind-try", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
        return options

    def _view(self, spec: RunSpec, scratch: Path, needs: Collection[str]) -> list[str]:
        options = ["--proc", "/proc", "--dev", "/dev", "--perms", "1777"]
        options += ["--size", str(min(spec.memory, _SHARED_MEMORY))] if "--size" in self._help else []
        options += ["--tmpfs", "/dev/shm"]
        options += ["--bind", str(scratch / "tmp"), "/tmp", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]
        binds = [("--bind", str(scratch / "home"), HOME), *(("--ro-bind", need, need) for need in sorted(needs))]
        binds += [("--dev-bind", device, device) for device in self._devices(spec)]
        binds += [("--ro-bind", folder, folder) for folder in _gpus.system_folders() if spec.gpus]
        for mount in sorted(spec.mounts, key=lambda mount: mount.target.count("/")):
            binds.append(("--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target))
        # bubblewrap would make the folders on the way for itself alone.
        for folder in dict.fromkeys(str(parent) for _, _, target in binds for parent in reversed(Path(target).parents[:-1])):
            if not inside(folder, SYSTEM_FOLDERS):
                options += ["--dir", folder]
        for bind in binds:
            options += bind
        return [*options, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME]

    def _take_uid(self) -> int:
        if not self._root:
            return _NOBODY
        with self._lock:
            # A user of its own for each run makes its count of processes its own.
            uid = next((uid for uid in _UIDS if uid not in self._uids_in_use and _is_mapped(uid)), _NOBODY)
            self._uids_in_use.add(uid)
            return uid

    def _give_uid(self, uid: int) -> None:
        with self._lock:
            self._uids_in_use.discard(uid)


def _system_program(name: str) -> str | None:
    path = shutil.which(name, path=SYSTEM_PATH)
    return path if path and inside(path, SYSTEM_FOLDERS) else None


def _help(program: str) -> str:
    try:
        return subprocess.run([program, "--help"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise OSError(f"bubblewrap can't be run: {error}") from error


def _is_mapped(uid: int) -> bool:
    """Whether this process's user namespace has this uid."""
    try:
        ranges = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return True
    return any(first <= uid < first + count for first, _, count in ranges)


def _system() -> Iterator[str]:
    """The system's folders, read-only."""
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            yield from ("--symlink", os.readlink(folder), folder)
        elif os.path.isdir(folder):
            yield from ("--ro-bind", folder, folder)


def _etc(folder: Path) -> list[str]:
    """Makes the synthetic `/etc` in `folder`, and gives the options that show it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    job = "".join(f"job:x:{uid}:{uid}:job:{HOME}:/bin/sh\n" for uid in (_NOBODY, *_UIDS))
    group = "".join(f"job:x:{uid}:\n" for uid in (_NOBODY, *_UIDS))
    texts = {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\n{job}",
        "group": f"root:x:0:\n{group}",
        "hosts": "127.0.0.1 localhost bacalhau\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "hostname": "bacalhau\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("localtime", "services", "protocols", "mime.types"):
        with suppress(OSError):
            shutil.copyfile(f"/etc/{name}", folder / name)
    options = ["--ro-bind", str(folder), "/etc"]
    for name in (*_SYSTEM_FILES, *_NETWORK_FILES):
        real = Path(os.path.realpath(f"/etc/{name}"))
        if real.is_dir():
            (folder / name).mkdir(exist_ok=True)
        elif real.is_file():
            (folder / name).touch()
        else:
            continue
        if name in _SYSTEM_FILES:
            options += ["--ro-bind", str(real), f"/etc/{name}"]
    for made in folder.iterdir():
        made.chmod(0o755 if made.is_dir() else 0o644)
    return options


def _hand_over(spec: RunSpec, scratch: Path, uid: int) -> None:
    """Gives the run's own folders, and its copies of inputs, to the payload's user; also the pipes, for `/dev/stdout`."""
    for folder in (scratch / "home", scratch / "tmp"):
        os.chown(folder, uid, uid)
    for mount in spec.mounts:
        if not mount.read_only:
            os.chown(mount.source, uid, uid, follow_symlinks=False)
        elif mount.source.is_relative_to(spec.folder):
            os.chown(mount.source, uid, uid, follow_symlinks=False)
            for place, folders, files in os.walk(mount.source):
                for name in (*folders, *files):
                    os.chown(os.path.join(place, name), uid, uid, follow_symlinks=False)
    for fd in (spec.stdout, spec.stderr):
        if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, uid)


def _environment(spec: RunSpec, program: str) -> Iterator[str]:
    """The payload's environment: a fixed list, and the job's own, less what goes by `_loader_variables`."""
    folders = [os.path.dirname(path) for path in (spec.interpreter, program) if os.path.isabs(path)]
    variables = {
        "PATH": ":".join(dict.fromkeys((*folders, *SYSTEM_PATH.split(":")))),
        "HOME": HOME,
        "USER": "job",
        "LOGNAME": "job",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        **{name: value for name, value in spec.env.items() if not name.startswith(_LOADER)},
    }
    for name, value in variables.items():
        yield from ("--setenv", name, value)


def _loader_variables(env: Mapping[str, str]) -> list[str]:
    """Variables that steer the loader are set last, when root has been left."""
    words = [f"{name}={value}" for name, value in env.items() if name.startswith(_LOADER)]
    return ["/usr/bin/env", *words] if words else []


def _memory_file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _below(pid: int, levels: int) -> list[int]:
    """The processes so many levels below this one."""
    found = {pid}
    for _ in range(levels):
        found = {child for parent in found for child in tree(parent)[1:] if _parent_of(child) == parent}
    return sorted(found)


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
