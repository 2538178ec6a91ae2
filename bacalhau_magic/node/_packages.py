"""Packages that jobs ask for: installed once, in a sandbox of their own with the network open, and shown to jobs read-only."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .. import _marks
from ..remote import FILES, PACKAGES
from . import _gather
from ._inputs import InputProblem
from .executors._interpreters import SYSTEM_FOLDERS, inside
from .executors._seam import Mount

__all__ = ["INSTALL", "TARGET", "Cache", "Order", "has_own", "is_index"]

INSTALL, TARGET = "/install", "/packages"
"""Where the installer and what it installs lie in its sandbox."""

_MOST = 2_000_000
_INDEX = re.compile(r"(PIP|UV)_[A-Z0-9_]+|(ALL|HTTPS|HTTP|NO)_PROXY|SSL_CERT_(DIR|FILE)|REQUESTS_CA_BUNDLE")
_OWN = re.compile(r".*(URL|INDEX|LINKS|PASSWORD|PROXY|CONSTRAINT).*")
_SHOWN_ANYWAY = (*SYSTEM_FOLDERS, "/etc", "/proc", "/dev", "/sys")


def is_index(variables: Mapping[str, str]) -> bool:
    """Whether these are an installer's variables."""
    return all(_INDEX.fullmatch(name) and "\0" not in value for name, value in variables.items())


def has_own(variables: Mapping[str, str]) -> bool:
    """Whether these variables name an index: without them packages would come from another one."""
    return any(_OWN.fullmatch(name) for name in variables)


@dataclass(frozen=True, slots=True)
class Order:
    """What a job wants installed, for which Python, and from where (`index`: an installer's variables, with passwords)."""

    requirements: bytes
    nonce: str
    interpreter: str
    index: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, meta: Mapping[str, str], inputs: Iterable[Mount], folder: Path, interpreter: str, index: Mapping[str, str]) -> Order | None:
        """The order of a job whose inputs lie below `folder`; None where it wants nothing. Raises InputProblem."""
        if _marks.META_PACKAGES not in meta or not interpreter:
            return None
        for mount in inputs:
            if mount.target == _marks.INPUTS_PATH and mount.source.is_relative_to(folder):
                file = mount.source / _marks.PAYLOAD_FOLDER / _marks.REQUIREMENTS_FILE
                try:
                    with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as content:
                        data = content.read(_MOST + 1)
                except OSError as problem:
                    raise InputProblem(f"installing packages: {problem.strerror}: {file.name}") from None
                if len(data) > _MOST:
                    raise InputProblem("installing packages: the requirements are too long")
                return cls(data, meta.get(_marks.META_NONCE, ""), interpreter, index)
        raise InputProblem(f"installing packages: there is no {_marks.REQUIREMENTS_FILE}")

    @property
    def key(self) -> str:
        """What makes two orders the same: requirements, Python, and where they come from, passwords left out."""
        digest = hashlib.sha256()
        own = sorted(f"{name}={re.sub(r'//[^/@]*@', '//', value)}" for name, value in self.index.items() if _OWN.fullmatch(name))
        own = [line for line in own if "_PASSWORD=" not in line and "_USERNAME=" not in line]
        for part in (_about(self.interpreter), *own):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(b"\n".join(sorted(self.requirements.split(b"\n"))))
        return digest.hexdigest()[:40]

    def lay_out(self, folder: Path) -> None:
        """Writes what the installer needs: the wrapper's own code, never the job's."""
        folder.mkdir(mode=0o755, parents=True)
        source = resources.files("bacalhau_magic.remote")
        for name in (*FILES["python"], PACKAGES):
            (folder / name).write_bytes((source / name).read_bytes())
        (folder / _marks.REQUIREMENTS_FILE).write_bytes(self.requirements)
        (folder / "request.json").write_text(json.dumps({"nonce": self.nonce, "max_result": 0}))

    @property
    def variables(self) -> dict[str, str]:
        """The installer's variables: the user's settings, and no other."""
        uv = self._uv
        return {**self.index, "PIP_CONFIG_FILE": os.devnull, **({"BACALHAU_MAGIC_UV": uv} if uv else {})}

    @property
    def _uv(self) -> str:
        beside = os.path.join(os.path.dirname(self.interpreter), "uv")
        found = beside if os.access(beside, os.X_OK) else shutil.which("uv")
        return os.path.realpath(found) if found else ""

    @property
    def mounts(self) -> list[Mount]:
        """Folders and files of this machine that the settings name: wheels, certificates, constraints; and uv."""
        words = [self._uv, *(word for value in self.index.values() for word in re.split(r"[\s,]+", value))]
        places = dict.fromkeys(_path(word) for word in words)
        return [Mount(Path(place), place, True) for place in places if place and not inside(place, _SHOWN_ANYWAY) and os.path.exists(place)]


def _path(word: str) -> str:
    path = unquote(urlsplit(word).path) if word.startswith("file://") else word
    return os.path.normpath(path) if os.path.isabs(path) and path != "/" else ""


_known: dict[tuple[str, int], str] = {}


def _about(interpreter: str) -> str:
    """Which Python an interpreter is: what was installed for one serves another that says the same."""
    try:
        key = (interpreter, os.stat(interpreter).st_mtime_ns)
        if key not in _known:
            command = [interpreter, "-I", "-S", "-c", "import sys; print(sys.version, sys.implementation.cache_tag)"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL, env={})
            _known[key] = f"{said.stdout.strip()} {platform.platform()}"
    except (OSError, subprocess.SubprocessError):
        raise InputProblem(f"installing packages: {interpreter} is no Python that runs") from None
    return _known[key]


class Cache:
    """What was installed, by the keys of orders; each is complete or not there, and stays until it is pruned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for place in self._places():
            if place.suffix:
                _gather.remove(place)
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._held: dict[str, int] = {}

    @contextmanager
    def lent(self, key: str, install: Callable[[Path], bool]) -> Iterator[Path | None]:
        """The folder of a key, put there by `install` when it is missing; None where that did not succeed."""
        with self._lock:
            self._held[key] = self._held.get(key, 0) + 1
            turn = self._turns.setdefault(key, threading.Lock())
        try:
            with turn:
                place = self._there(key) or self._made(key, install)
            yield place
        finally:
            with self._lock:
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key], self._turns[key]

    def _places(self) -> list[Path]:
        """What lies in the folder, which is made with the first packages."""
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def _there(self, key: str) -> Path | None:
        place = self.folder / key
        with suppress(OSError):
            os.utime(place)
            return place
        return None

    def _made(self, key: str, install: Callable[[Path], bool]) -> Path | None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        part = self.folder / f"{key}.{secrets.token_hex(4)}"
        part.mkdir(mode=0o755)
        try:
            if not install(part):
                return None
            os.rename(part, self.folder / key)
            return self._there(key)
        finally:
            if part.exists():
                _gather.remove(part)

    def prune(self, older_than: float) -> None:
        """Removes what no job has used for so many seconds."""
        for place in self._places():
            with self._lock:
                if place.suffix or place.name in self._held:
                    continue
                if time.time() - place.lstat().st_mtime >= older_than:
                    _gather.remove(place)
