"""One writer at a time for a file or folder, in all kernels of this user."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "locked"]


def cache_folder() -> Path:
    """This user's folder for what can be made again; `BACALHAU_MAGIC_DATA_DIR` names another one."""
    import platformdirs

    if folder := os.environ.get("BACALHAU_MAGIC_DATA_DIR"):
        return Path(folder) / "cache"
    return Path(platformdirs.user_cache_dir("bacalhau-magic", appauthor=False))


@contextmanager
def locked(path: Path, patience: float = 30.0) -> Iterator[None]:
    """Hold what lies at a path; the lock lies away from it, which is in somebody's repository.

    Raises TimeoutError where another holds it for longer than `patience` seconds.
    """
    from filelock import FileLock

    folder = cache_folder() / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    with FileLock(folder / f"{name}.lock", timeout=patience):
        yield
