"""Hearing a card's buttons while a cell waits, in a kernel that takes one message at a time: ipykernel 6.

There whatever a front end sends waits in the kernel's queue until the cell is over. What is for a comm of ours is taken
out of it and handed on; all else stays as it came. ipykernel 7 has no such queue, and hears by itself. The queue is no
public part of the kernel: where one that is used here is missing, a card is heard once the cell is over.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

__all__ = ["add", "drop", "hear"]

_TICK = 0.1
"""Seconds between two looks into the queue while the event loop goes on."""
_KINDS = ("comm_msg", "comm_close")
_USED = (
    *("msg_queue.empty", "msg_queue.get_nowait", "msg_queue.put_nowait", "shell_stream.flush", "io_loop.add_callback"),
    *("session.feed_identities", "session.unpack", "session.deserialize", "comm_manager.comm_msg", "comm_manager.comm_close"),
)
"""What a kernel must have to be listened to here."""

_comms: dict[str, bool] = {}
"""The ids of the comms that are listened to, and whether to look on the event loop's own time for them."""
_kernel: Any = None
"""The kernel of this process, once a comm of it is known, where it has such a queue."""
_looking = False


def add(ours: Any, *, steadily: bool = True) -> None:
    """Listen to a comm; `steadily` also while nobody calls `hear`, as long as the event loop goes on."""
    global _kernel
    found = getattr(ours, "kernel", None)
    if found is not None:
        _kernel = found if all(callable(_part(found, name)) for name in _USED) else None
    _comms[ours.comm_id] = steadily
    if steadily and _kernel is not None:
        _kernel.io_loop.add_callback(_begin)


def _part(kernel: Any, path: str) -> Any:
    """A part of a kernel by its path; None where it has none."""
    for name in path.split("."):
        kernel = getattr(kernel, name, None)
    return kernel


def drop(ours: Any) -> None:
    """Listen to a comm no more."""
    _comms.pop(getattr(ours, "comm_id", ""), None)


def hear() -> None:
    """Hand on what has come for comms of ours; on the main thread, where a cell blocks it."""
    if _kernel is not None and threading.current_thread() is threading.main_thread():
        with suppress(Exception):
            _kernel.shell_stream.flush()
            _hand_on()


def _begin() -> None:
    global _looking
    if not _looking:
        _looking = True
        asyncio.get_running_loop().call_later(_TICK, _look)


def _look() -> None:
    global _looking
    _looking = any(_comms.values()) and _kernel is not None
    if _looking:
        with suppress(Exception):
            _hand_on()
        asyncio.get_running_loop().call_later(_TICK, _look)


def _hand_on() -> None:
    queue, entries = _kernel.msg_queue, []
    while not queue.empty():
        entries.append(queue.get_nowait())
    for entry in entries:
        if not _taken(entry):
            queue.put_nowait(entry)


def _taken(entry: Any) -> bool:
    """Whether a message of the queue was one of ours, and is handed on."""
    with suppress(Exception):
        session = _kernel.session
        senders, frames = session.feed_identities(entry[2][0], copy=False)
        kind = session.unpack(frames[1].bytes)["msg_type"]
        if kind in _KINDS and session.unpack(frames[4].bytes)["comm_id"] in _comms:
            message = session.deserialize(frames, content=True, copy=False)
            getattr(_kernel.comm_manager, kind)(_kernel.shell_stream, senders, message)
            return True
    return False
