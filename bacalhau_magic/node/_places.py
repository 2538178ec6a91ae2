"""Where the node's files lie: a runtime folder that only this user can enter, and a store on a local disk."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from ..errors import NodeError

__all__ = ["Places", "on_network", "private", "unshared"]

_NAME = "bacalhau-magic"
_NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "autofs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.cephfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ]
)
_SOCKET_PATH_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Places:
    """The runtime folder (lock, runtime file, socket) and the store's folder."""

    runtime: Path
    store: Path

    @classmethod
    def default(cls) -> Places:
        """This user's, on this machine: made when missing. Raises NodeError where a folder can't be trusted."""
        with warnings.catch_warnings():
            # Containers seldom have XDG_RUNTIME_DIR: the fallback is checked below like any other folder.
            warnings.simplefilter("ignore", UserWarning)
            runtime = platformdirs.user_runtime_path(_NAME, appauthor=False)
        if not runtime.parent.exists():
            private(runtime.parent)
        unshared(runtime.parent)
        store = platformdirs.user_data_path(_NAME, appauthor=False) / "node" / _machine()
        if on_network(store):
            store = Path(tempfile.gettempdir()) / f"{_NAME}-{_user()}"
            return cls(private(runtime), private(store))
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(private(runtime), private(store))

    @property
    def lock(self) -> Path:
        """Held by whoever starts or stops the node."""
        return self.runtime / "start.lock"

    @property
    def life(self) -> Path:
        """Held by the node for as long as it lives."""
        return self.runtime / "node.lock"

    @property
    def file(self) -> Path:
        """What a client needs to know to reach the node: JSON, 0600."""
        return self.runtime / "node.json"

    @property
    def log(self) -> Path:
        return self.runtime / "node.log"

    @property
    def socket(self) -> Path:
        """The unix socket; elsewhere where the runtime folder's path is too long for one."""
        path = self.runtime / "node.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(self.runtime)).hexdigest()[:12]
        return private(Path(tempfile.gettempdir()) / f"bm-{_user()}-{digest}") / "node.sock"


def private(folder: Path) -> Path:
    """Makes a folder for this user alone, or checks that it is one: ours, 0700, no link. Raises NodeError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        info = folder.lstat()
    except OSError as problem:
        raise NodeError(f"The embedded node's folder {folder} can't be made: {problem.strerror or problem}.") from problem
    hint = f"Remove {folder} or set XDG_RUNTIME_DIR to a folder of your own."
    if not stat.S_ISDIR(info.st_mode):
        raise NodeError(f"The embedded node's folder {folder} is a link or no folder.", hint=hint)
    if hasattr(os, "geteuid"):
        if info.st_uid != os.geteuid():
            raise NodeError(f"The embedded node's folder {folder} belongs to another user.", hint=hint)
        if info.st_mode & 0o077:
            raise NodeError(f"The embedded node's folder {folder} is open to other users.", hint=f"Run: chmod 700 {folder}")
    return folder


def unshared(folder: Path) -> None:
    """Checks that nobody else can exchange what lies in a folder. Raises NodeError."""
    if not hasattr(os, "geteuid"):
        return
    try:
        info = folder.stat()
    except OSError as problem:
        raise NodeError(f"The folder {folder} can't be read: {problem.strerror or problem}.") from problem
    shared = info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (0, os.geteuid()) or shared:
        what = "can be changed by other users" if shared else "belongs to another user"
        raise NodeError(f"The folder {folder} {what}.", hint="Set XDG_RUNTIME_DIR to a folder of your own.")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _machine() -> str:
    """A short name of this machine, for a home that several share."""
    name = platform.node()
    try:
        name += Path("/etc/machine-id").read_text()
    except OSError:
        pass
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def on_network(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether a path lies on a network file system, by the system's table of mounts; False where there is no such table."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    real = Path(os.path.realpath(path))
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        if real.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), right.split(" ")[0]
    return kind in _NETWORK_FILE_SYSTEMS
