"""The kernel's end of the talk with JupyterLab's jobs panel: snapshots out, wishes in, over one comm.

The comm has a fixed id and is never opened: who knows the id listens, in as many pages as there are, also after a
reload; who doesn't hears nothing and has nothing to close. What is said is in `labextension/src/protocol.ts` too, and
`tests/data/labextension/messages.json` holds both to it. A job's state is `phase`: `state` is ipywidgets' word on a comm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import comm

from .._snapshot import Snapshot
from .._stages import seconds
from . import _hearing
from ._sequences import clean

__all__ = ["COMM_ID", "JobsComm", "answer", "job", "jobs", "log", "past_job"]

COMM_ID = "bacalhau-jobs"
"""The comm's id and its target's name."""

_AT_HAND = ("pending", "queued", "running")
"""A server's words for a job that is not over."""
_VERSION = 1
_SHOWN = ("phase", "tone", "title", "step", "place", "clock", "problem", "lines", "hint", "notices", "over")


class JobsComm:
    """The comm, known to this kernel from the first moment on; `heard` gets each message of a front end, perhaps on another thread."""

    def __init__(self, heard: Callable[[Mapping[str, Any]], None]) -> None:
        self._heard = heard
        self._comm = comm.create_comm(target_name=COMM_ID, comm_id=COMM_ID, primary=False)
        self._comm.on_msg(self._on_message)
        self._comm.on_close(lambda _message: self._register())
        self._register()
        if hasattr(self._comm, "_reply_subshell_for"):  # see _card: be heard while the main thread is blocked
            self._comm._reply_subshell_for = lambda _data, default: default
        _hearing.add(self._comm, steadily=False)

    def _register(self) -> None:
        """Known again, also after a front end that does not know the comm closed it."""
        comm.get_comm_manager().register_comm(self._comm)

    def _on_message(self, message: Mapping[str, Any]) -> None:
        with suppress(Exception):
            data = message["content"]["data"]
            if isinstance(data, Mapping) and isinstance(data.get("kind"), str):
                self._heard(data)

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell all front ends; a message that can't be sent is lost, and costs nothing else."""
        with suppress(Exception):
            self._comm.send(dict(message))

    def close(self) -> None:
        """Forget the comm; front ends are not told, for their panel keeps what it knows."""
        with suppress(Exception):
            _hearing.drop(self._comm)
            comm.get_comm_manager().unregister_comm(self._comm)


def jobs(entries: Sequence[Mapping[str, Any]], *, now: float, whole: bool) -> dict[str, Any]:
    """Some jobs (or, with `whole`, all that this kernel knows), at `now` in unix seconds."""
    return {"version": _VERSION, "kind": "jobs", "now": now, "whole": whole, "jobs": list(entries)}


def job(
    key: str,
    snapshot: Snapshot,
    *,
    notebook: str = "",
    cell: str = "",
    prompt: int | None = None,
    name: str = "",
    background: bool = False,
    outputs: Sequence[str] = (),
) -> dict[str, Any]:
    """One job of this kernel: the finished sentences of its snapshot, and where it came from."""
    shown = snapshot.as_json(log_kept=0)
    return {
        "key": key,
        "id": snapshot.job_id,
        "name": name or snapshot.name,
        "language": snapshot.language,
        "notebook": notebook,
        "cell": cell,
        "prompt": prompt,
        "started": snapshot.started,
        "background": background,
        "outputs": list(outputs),
        "live": True,
        "snapshot": {name: shown[name] for name in _SHOWN}
        | {
            "time": snapshot.time if snapshot.is_over else "",
            "progress": snapshot.progress,
            "brought": snapshot.brought,
            "resources": snapshot.resources,
        },
    }


def past_job(
    job_id: str,
    phase: str,
    *,
    words: str = "",
    name: str = "",
    language: str = "",
    notebook: str = "",
    cell: str = "",
    started: float = 0.0,
    took: float = 0.0,
) -> dict[str, Any]:
    """A job that was sent before, as far as it is known: the phase, or, where it is not known, what is known in `words`.

    `took` is the whole time of one that is over, in seconds; that of one that its server has at hand counts on since it was sent.
    """
    over = phase in ("completed", "failed", "stopped")
    tone = {"completed": "ok", "failed": "bad", "stopped": "quiet"}.get(phase, "run")
    title = clean(words or phase).strip()
    return {
        "key": job_id,
        "id": job_id,
        "name": name,
        "language": language,
        "notebook": notebook,
        "cell": cell,
        "prompt": None,
        "started": started,
        "background": True,
        "outputs": [],
        "live": False,
        "snapshot": {
            "phase": phase,
            "tone": tone,
            "title": title[:1].upper() + title[1:],
            "step": 0,
            "place": "",
            "clock": {"since": started, "limit": None, "words": ""} if words in _AT_HAND and started else None,
            "time": seconds(took) if over and took else "",
            "progress": "",
            "brought": "",
            "resources": "",
            "problem": "",
            "lines": [],
            "hint": "",
            "notices": [],
            "over": over,
        },
    }


def log(key: str, start: int, pieces: Sequence[tuple[str, str]], *, over: bool) -> dict[str, Any]:
    """A part of a job's log, from its `start`-th character on: (stream, text) pieces in order."""
    return {"version": _VERSION, "kind": "log", "key": key, "start": start, "pieces": [list(piece) for piece in pieces], "over": over}


def answer(request: str, value: Any = None, *, problem: str = "") -> dict[str, Any]:
    """What a question brought: a value of plain JSON, or the problem in a sentence."""
    return {"version": _VERSION, "kind": "answer", "request": request, "value": value, "problem": problem}
