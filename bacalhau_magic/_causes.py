"""Why a job waits or failed, in plain words: a pure function of what the server says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CauseKind = Literal[
    "unplaceable",  # no node takes it; a line for each node in `lines`
    "busy",  # nodes could take it, and are full
    "image",  # the image can't be pulled
    "memory",  # killed at its memory limit
    "command",  # the command is not in the image
    "inputs",  # the inputs can't be unpacked or read
    "execution-timeout",  # the server's own execution timeout
    "timeout",  # the job's whole time is used up
    "node-lost",
    "restarted",  # the node was restarted
    "stopped",
    "failed",  # anything else, in the server's words
]


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason: its kind, a finished sentence, what to do about it, and whether trying again would end the same.

    `lines` are details, one a node or execution; `node` is the node's id where one is meant, else "".
    """

    kind: CauseKind
    sentence: str
    advice: str = ""
    repeats: bool = False
    lines: tuple[str, ...] = ()
    node: str = ""
