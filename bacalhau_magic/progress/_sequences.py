"""Control sequences in a job's text: colours may pass, everything else is taken out.

A job's text is hostile: other sequences can move the cursor, rename the window, write the clipboard or answer in the
user's name.
"""

from __future__ import annotations

import re

__all__ = ["Sequences", "clean"]

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_SEQUENCE = re.compile(
    r"""
    (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                           # CSI: cursor, colours, modes
    | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) [^\x07\x1b\x9c\n]*     # OSC, DCS, …: a text up to its terminator, never past a line
        (?:\x07|\x9c|\x1b\\)?
    | \x1b [ -/]* [0-~]                                            # the short ones
    | \x1b
    """,
    re.VERBOSE,
)
_OPEN = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*\x1b?\Z|\x1b[ -/]*\Z")
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
_HELD = 4096
"""Characters of an unfinished sequence that are waited for."""


class Sequences:
    """A filter over text that comes in pieces, where a sequence may be cut in two.

    `colours` lets colour sequences pass. Tabs, line feeds, carriage returns and backspaces stay.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._held = ""
        self.coloured = False
        """Whether a colour is still switched on after what was passed on."""

    def feed(self, text: str, *, last: bool = False) -> str:
        """The next piece, cleaned; with `last` nothing is held back for a piece to come."""
        text = self._held + text
        self._held = ""
        if not last and (cut := _OPEN.search(text, max(0, len(text) - _HELD))):
            self._held, text = text[cut.start() :], text[: cut.start()]
        return _CONTROL.sub("", _SEQUENCE.sub(self._pass, text))

    def _pass(self, match: re.Match[str]) -> str:
        found = match[0]
        if not (self._colours and _COLOUR.fullmatch(found)):
            return ""
        self.coloured = found not in ("\x1b[m", "\x1b[0m")
        return found


def clean(text: str, *, colours: bool = True) -> str:
    """A whole text without control sequences, except colours where wanted; a colour left open is closed."""
    if not any(char < "\x20" or "\x7f" <= char <= "\x9f" for char in text):
        return text
    sequences = Sequences(colours=colours)
    cleaned = sequences.feed(text, last=True)
    return cleaned + "\x1b[0m" if sequences.coloured else cleaned
