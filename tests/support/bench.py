"""A bench for executors: it starts runs as the node does and collects what they leave."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bacalhau_magic.node.executors._bubblewrap import BubblewrapExecutor
from bacalhau_magic.node.executors._interpreters import Interpreters
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._process import ProcessExecutor
from bacalhau_magic.node.executors._seam import Ending, Executor, Mount, Running, RunSpec

MIB = 1 << 20


@dataclass
class Finished:
    """A run that is over: how, what it printed, where its files are."""

    ending: Ending
    output: str
    outputs: Path


class Started:
    """A run under way; its output is read all the time."""

    def __init__(self, running: Running, reader: int, spec: RunSpec) -> None:
        self.running = running
        self.spec = spec
        self.outputs = spec.folder / "outputs"
        self._pieces: list[bytes] = []
        self._seen = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    def until(self, words: str) -> str:
        """What was printed so far, as soon as `words` are in it."""
        with self._seen:
            assert self._seen.wait_for(lambda: words in self.text(), 30), self.text()
        return self.text()

    def text(self) -> str:
        return b"".join(self._pieces).decode()

    def finish(self) -> Finished:
        ending = self.running.wait(60)
        self.running.clean()
        assert ending is not None, "it did not end"
        self._thread.join(10)
        return Finished(ending, self.text(), self.outputs)

    def _read(self, reader: int) -> None:
        while piece := os.read(reader, 65536):
            with self._seen:
                self._pieces.append(piece)
                self._seen.notify_all()
        os.close(reader)


class Bench:
    """Folders for one test, and the executors in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = folder / "node"
        self.node.mkdir(mode=0o700)
        self.interpreters = Interpreters(self.node)
        self._started: list[Started] = []

    def bubblewrap(self, cgroups: Cgroups) -> BubblewrapExecutor:
        return BubblewrapExecutor(self.node, self.interpreters, cgroups)

    def process(self, cgroups: Cgroups) -> ProcessExecutor:
        return ProcessExecutor(self.interpreters, cgroups, "a test")

    def start(self, executor: Executor, argv: Sequence[str], *, files: dict[str, str] | None = None, **changes: Any) -> Started:
        name = f"e-{uuid.uuid4()}"
        folder = self.node / name
        for part in ("inputs", "outputs"):
            (folder / part).mkdir(parents=True)
        for file, text in (files or {}).items():
            (folder / "inputs" / file).write_text(text)
            (folder / "inputs" / file).chmod(0o600)
        (folder / "inputs").chmod(0o700)
        reader, writer = os.pipe()
        fields = {
            "execution_id": name,
            "argv": tuple(argv),
            "env": {},
            "folder": folder,
            "mounts": (Mount(folder / "inputs", "/inputs", True), Mount(folder / "outputs", "/outputs", False)),
            "interpreter": sys.executable,
            "language": "python",
            "image": "",
            "network": "none",
            "domains": (),
            "cpus": 1.0,
            "memory": 1024 * MIB,
            "disk": None,
            "gpus": (),
            "stdout": writer,
            "stderr": writer,
        }
        spec = RunSpec(**{**fields, **changes})
        try:
            running = executor.start(spec)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        started = Started(running, reader, spec)
        self._started.append(started)
        return started

    def run(self, executor: Executor, argv: Sequence[str], **changes: Any) -> Finished:
        return self.start(executor, argv, **changes).finish()

    def python(self, executor: Executor, code: str, **changes: Any) -> Finished:
        return self.run(executor, ["python", "-u", "-I", "-c", code], **changes)

    def close(self) -> None:
        for started in self._started:
            started.running.clean()
        shutil.rmtree(self.node, ignore_errors=True)


def processes_with(words: str) -> list[int]:
    """The processes of this machine whose command line has these words."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line:
                found.append(int(name))
    return found


def cgroups_of(execution_id: str) -> list[str]:
    """The cgroups of this machine that carry this execution's name."""
    return [os.path.join(place, name) for place, names, _ in os.walk("/sys/fs/cgroup") for name in names if execution_id in name]
