"""What this machine can run jobs with, found by trying."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from ... import _marks
from . import _gpus
from ._bubblewrap import BubblewrapExecutor
from ._container import ContainerExecutor
from ._interpreters import Interpreters
from ._limits import Cgroups
from ._prepared import PREFIX as PREPARED
from ._process import ProcessExecutor
from ._seam import Executor, Executors, Mount, Running, RunSpec

__all__ = ["probe", "trial"]

# It becomes bubblewrap with this terminal as its own, as it would be where somebody started the node by hand.
_WITH_TERMINAL = 'exec 0<>"$1"; shift; exec "$@"'
_TRIAL = "trial-"


def probe(scratch: Path) -> Executors:
    """Tries every executor and chooses. `scratch` is a folder of the node's own, kept between starts."""
    scratch.mkdir(parents=True, exist_ok=True)
    interpreters = Interpreters(scratch)
    _clear(scratch)
    cgroups = Cgroups.found()
    host, why = _host(scratch, interpreters, cgroups)
    container, container_why = ContainerExecutor.found()
    return Executors(
        host=host or ProcessExecutor(interpreters, cgroups, why),
        container=container,
        container_why=container_why,
        languages=interpreters.languages,
        gpus=_gpus.found(),
    )


def _clear(scratch: Path) -> None:
    """Removes what the trials and the prepared sandbox of a node left that was killed meanwhile."""
    left = [folder for folder in scratch.iterdir() if folder.name.startswith((_TRIAL, PREPARED))]
    Cgroups().sweep([folder.name for folder in left])
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _host(scratch: Path, interpreters: Interpreters, cgroups: Cgroups) -> tuple[Executor | None, str]:
    """The isolated executor, or None and why there is none."""
    if not sys.platform.startswith("linux"):
        return None, "bubblewrap needs Linux"
    try:
        executor = BubblewrapExecutor(scratch, interpreters, cgroups)
        answer = trial(executor.launch, scratch)
    except OSError as error:
        return None, str(error)
    worked = next((words for words in answer["escapes"].values() if words), None)
    if worked:
        return None, f"bubblewrap does not isolate here: {worked}"
    if answer["works"]:
        return None, f"bubblewrap does not work here: {answer['works']}"
    if executor.limits["processes"] == _marks.LIMIT_ENFORCED and not cgroups.pids and not answer["processes"]:
        executor.watch_processes()
    return executor, ""


class Launch(Protocol):
    """Starts a run below a command line that becomes the executor's at its end."""

    def __call__(self, spec: RunSpec, *, before: Collection[str]) -> Running: ...


def trial(launch: Launch, scratch: Path) -> Mapping[str, dict[str, str | None]]:
    """Runs the escapes inside: what worked, what doesn't work, and whether processes can be bounded. Raises OSError when it can't run."""
    name = f"{_TRIAL}{secrets.token_hex(4)}"
    folder = scratch / name
    with ExitStack() as after:
        after.callback(shutil.rmtree, folder, ignore_errors=True)
        for part in ("inputs", "outputs"):
            (folder / part).mkdir(parents=True)
        canary = folder / "canary"
        canary.write_text("outside")
        abstract = after.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0bacalhau-magic-{name}")
        abstract.listen()
        listener = after.enter_context(socket.create_server(("127.0.0.1", 0)))
        facts = {
            "pid": os.getpid(),
            "cmdline": Path("/proc/self/cmdline").read_bytes().decode(errors="surrogateescape"),
            "device": os.stat("/").st_dev,
            "canary": str(canary),
            "socket": f"bacalhau-magic-{name}",
            "port": listener.getsockname()[1],
        }
        shutil.copyfile(Path(__file__).with_name("_escapes.py"), folder / "inputs" / "escapes.py")
        (folder / "inputs" / "facts.json").write_text(json.dumps(facts))
        reader, writer = os.pipe()
        after.callback(os.close, reader)
        try:
            before: tuple[str, ...] = ()
            with suppress(OSError):
                terminal, slave = os.openpty()
                after.callback(os.close, terminal)
                before = ("/bin/sh", "-c", _WITH_TERMINAL, "sh", os.ttyname(slave))
                after.callback(os.close, slave)
            running = launch(_trial_spec(name, folder, writer), before=before)
        finally:
            os.close(writer)
        after.callback(running.clean)
        # A pipe holds more than this prints.
        ending = running.wait(30)
        output = _read(reader) if ending else ""
    if ending is None:
        raise OSError("bubblewrap does not work here: it hangs")
    try:
        answer: Mapping[str, dict[str, str | None]] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        words = output.strip().splitlines()[-1:] or [f"exit code {ending.exit_code}"]
        raise OSError(f"bubblewrap does not work here: {words[0].removeprefix('bwrap: ')}") from None
    return answer


def _trial_spec(name: str, folder: Path, writer: int) -> RunSpec:
    return RunSpec(
        execution_id=name,
        argv=("python", "-I", "-S", "/inputs/escapes.py", "/inputs/facts.json"),
        env={},
        folder=folder,
        mounts=(Mount(folder / "inputs", "/inputs", True), Mount(folder / "outputs", "/outputs", False)),
        interpreter=sys.executable,
        language="python",
        image="",
        network="none",
        domains=(),
        cpus=1.0,
        memory=256 << 20,
        disk=None,
        gpus=(),
        stdout=writer,
        stderr=writer,
    )


def _read(reader: int) -> str:
    """What is in the pipe; its writers are dead, or a second is enough."""
    pieces: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            while piece := os.read(reader, 65536):
                pieces.append(piece)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(1)
    return b"".join(pieces).decode(errors="replace")
