"""Progress as text: one live status line on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from ._sequences import Sequences, clean
from ._view import Drawn

__all__ = ["TextView"]

_ERASE = "\r\x1b[K"
_WIDTH = 110
"""Characters of the status line in a notebook."""
_RESET = "\x1b[0m"
_COLOURS: Mapping[str, str] = {"run": "\x1b[34m", "warn": "\x1b[33m", "bad": "\x1b[31m", "ok": "\x1b[32m", "quiet": "\x1b[2m"}


class _Stream:
    """One of the job's two streams, written to one of ours."""

    def __init__(self, target: TextIO, *, colours: bool) -> None:
        self.target = target
        self.is_terminal = target.isatty()
        self.sequences = Sequences(colours=colours and self.is_terminal)
        self.line = ""
        """Without a terminal: the line so far, as it would look after its carriage returns."""
        self.cut = False
        """Whether its line was ended for something else to be shown: then the job's own end of that line is left out."""

    def write(self, text: str, *, last: bool = False) -> str:
        """Write a piece; gives what was written."""
        text = self.sequences.feed(text, last=last)
        if self.cut and text:
            text, self.cut = text.removeprefix("\r").removeprefix("\n") if text.startswith(("\n", "\r\n")) else text, False
        if not self.is_terminal:
            *whole, rest = (self.line + text).replace("\r\n", "\n").replace("\b", "").split("\n")
            text = "".join(f"{_overwritten(line)}\n" for line in whole)
            self.line = _overwritten(rest, open_end=True)
            if last and self.line:
                text, self.line = text + _overwritten(self.line) + "\n", ""
        elif self.sequences.coloured and (last or text.endswith("\n")):
            text += _RESET
            self.sequences.coloured = False
        _write(self.target, text)
        return text


class TextView:
    """Text on `out` (the job's stdout) and `err` (its stderr, and the status lines).

    `logs` shows the job's log, without the streams that are named in `hidden`; `summary` ends with one line that
    stands for the bundle; `overwrites` keeps the status on one line by carriage returns alone, as notebooks without
    widgets show them.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        logs: bool = True,
        hidden: frozenset[str] = frozenset(),
        summary: bool = True,
        overwrites: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.shows_log = logs
        self._hidden = hidden
        self._summary = summary
        self._clock = clock
        self._err = err
        self._live = err.isatty()
        self._overwrites = overwrites and not self._live
        self._colours = "NO_COLOR" not in os.environ
        self._streams = {"stdout": _Stream(out, colours=self._colours), "stderr": _Stream(err, colours=self._colours)}
        self._seen = 0
        """Characters of the log that were shown."""
        self._open: _Stream | None = None
        """The stream whose line on the terminal is not ended."""
        self._column = 0
        self._status = ""
        self._below = False
        """Whether the status stands below a line that is not ended."""
        self._said: tuple[str, ...] = ()
        self._noticed: set[str] = set()
        self._phase: tuple[str, str] = ("", "")

    def open(self, snapshot: Drawn) -> None:
        self.draw(snapshot)

    def draw(self, snapshot: Drawn) -> None:
        with suppress(Exception):
            self._draw(snapshot)

    def keep(self, static: Mapping[str, Any]) -> bool:  # noqa: ARG002
        return False

    def describe(self, metadata: Mapping[str, Any]) -> None:
        pass

    def settle(self) -> None:
        pass

    def close(self, snapshot: Drawn, data: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        with suppress(Exception):
            self._erase()
            self._log(snapshot, last=True)
            self._end_line()
            self._news(snapshot)
            if self._summary and data is not None:
                self._line(self._sentence(snapshot))
        return self._summary

    def _draw(self, snapshot: Drawn) -> None:
        snapshot = snapshot.at(max(snapshot.now, self._clock()))
        self._log(snapshot)
        self._news(snapshot)
        if self._live:
            self._show_status(snapshot)
        elif self._overwrites:
            self._overwrite(snapshot)
        elif (snapshot.phase, snapshot.node) != self._phase and not snapshot.is_over:
            self._line(self._sentence(snapshot))
        self._phase = (snapshot.phase, snapshot.node)

    def _log(self, snapshot: Drawn, *, last: bool = False) -> None:
        start = snapshot.log_dropped
        if self.shows_log and start > self._seen:
            self._line(f"bacalhau: {start - self._seen} characters of the log came too fast to be shown here")
        for stream, text in snapshot.log:
            fresh = text[max(0, self._seen - start) :]
            start += len(text)
            if fresh and self.shows_log and stream not in self._hidden:
                self._erase()
                self._write(self._streams[stream], fresh)
        self._seen = max(self._seen, start)
        if last:
            for target in self._streams.values():
                self._write(target, "", last=True)

    def _write(self, stream: _Stream, text: str, *, last: bool = False) -> None:
        """Text of a stream; the other one's open line on the terminal is ended before."""
        if text and self._open is not stream and stream.is_terminal:
            self._end_line()
        written = clean(stream.write(text, last=last), colours=False)
        if written and stream.is_terminal:
            self._column = _column(self._column, written)
            self._open = None if written.endswith("\n") else stream

    def _end_line(self) -> None:
        if self._open is not None:
            _write(self._open.target, "\n")
            self._open.cut, self._open, self._column = True, None, 0

    def _news(self, snapshot: Drawn) -> None:
        """Notices and problems, each as soon as it is known and once."""
        for notice in snapshot.notices:
            if notice not in self._noticed:
                self._noticed.add(notice)
                self._line(f"bacalhau: {clean(notice, colours=False)}")
        if snapshot.is_over:
            return  # the error that is raised says it
        said = (snapshot.problem, *snapshot.problem_lines, snapshot.hint) if snapshot.problem else ()
        if said == self._said:
            return
        if said:
            self._line(self._painted(f"bacalhau: {clean(snapshot.problem, colours=False)}", "warn"))
            for line in snapshot.problem_lines:
                self._line(f"  • {clean(line, colours=False)}")
            if snapshot.hint:
                self._line(f"  → {clean(snapshot.hint, colours=False)}")
        self._said = said

    def _sentence(self, snapshot: Drawn) -> str:
        """One line: "bacalhau: running on n-2e2b7e09 · 12 s of 5 min"."""
        line, size = clean(snapshot.line, colours=False), len(snapshot.title)
        return f"{self._painted(f'bacalhau: {line[:size]}', snapshot.tone)}{line[size:]}"

    def _painted(self, text: str, tone: str) -> str:
        return f"{_COLOURS[tone]}{text}{_RESET}" if self._live and self._colours else text

    def _show_status(self, snapshot: Drawn) -> None:
        """The live line, below a line that the job has not ended."""
        width = shutil.get_terminal_size().columns - 1
        if snapshot.is_over or self._column > width:
            return
        status = self._sentence(snapshot)
        while len(clean(status, colours=False)) > width and " · " in status:
            status = status.rpartition(" · ")[0]
        if status != self._status and len(clean(status, colours=False)) <= width:
            below = self._open is not None and not self._status
            _write(self._err, ("\n" if below else _ERASE) + status)
            self._status, self._below = status, self._below or below

    def _overwrite(self, snapshot: Drawn) -> None:
        """The status line where only a carriage return is understood."""
        status = self._sentence(snapshot)[:_WIDTH]
        if status != self._status and not snapshot.is_over:
            _write(self._err, "\r" + status.ljust(len(self._status)))
            self._status = status

    def _erase(self) -> None:
        if self._status and self._overwrites:
            _write(self._err, f"\r{' ' * len(self._status)}\r")
            self._status = ""
        if self._status:
            _write(self._err, _ERASE + (f"\x1b[A\x1b[{self._column + 1}G" if self._below else ""))
            self._status, self._below = "", False

    def _line(self, text: str) -> None:
        """One line of our own; a line that the job has not ended is ended before."""
        self._erase()
        self._end_line()
        _write(self._err, f"{text}\n")


def _column(column: int, text: str) -> int:
    """Where the cursor stands after a text that began at `column`; wide characters count twice."""
    for char in text:
        if char in "\r\n":
            column = 0
        elif char == "\b":
            column = max(0, column - 1)
        elif char == "\t":
            column += 8 - column % 8
        elif not unicodedata.combining(char):
            column += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return column


def _overwritten(line: str, *, open_end: bool = False) -> str:
    """What a line shows after its carriage returns; with `open_end` a last one still waits for what comes."""
    if open_end and line.endswith("\r"):
        return line[:-1].rpartition("\r")[2] + "\r"
    return line.rstrip("\r").rpartition("\r")[2]


def _write(target: TextIO, text: str) -> None:
    if not text:
        return
    try:
        target.write(text)
    except UnicodeEncodeError:
        encoding = target.encoding or "ascii"
        target.write(text.encode(encoding, "backslashreplace").decode(encoding))
    target.flush()
