"""The packets of a result, taken out of a job's log; `remote/packets.py` says what they look like. All of it is hostile until checked."""

from __future__ import annotations

import binascii
import json
from hashlib import sha256
from typing import Any, cast

from pydantic_core import CoreConfig, SchemaValidator, ValidationError, core_schema

from ._wire import whole_number
from .remote.packets import KINDS, MAX_LINE

__all__ = ["Assembler", "Packet", "PacketError", "Text", "json_object"]

_BASE64 = SchemaValidator(core_schema.bytes_schema(), config=CoreConfig(val_json_bytes="base64"))


class PacketError(Exception):
    """A result that is missing, damaged or too big; the text is a finished sentence."""


class Text:
    """Plain log text to show; `stream` is what was given to `feed`."""

    __slots__ = ("stream", "text")

    def __init__(self, stream: int | str, text: str) -> None:
        self.stream = stream
        self.text = text

    def __repr__(self) -> str:
        return f"Text({self.stream!r}, {self.text!r})"


class Packet:
    """A packet that came for the first time: kind, sequence number, payload bytes."""

    __slots__ = ("kind", "payload", "seq")

    def __init__(self, kind: str, seq: int, payload: bytes) -> None:
        self.kind = kind
        self.seq = seq
        self.payload = payload

    def __repr__(self) -> str:
        return f"Packet({self.kind!r}, {self.seq!r}, {len(self.payload)} bytes)"

    def facts(self) -> dict[str, Any]:
        """The payload of an s, p or e packet as a dict; empty where it is no JSON object."""
        return json_object(self.payload)


class Assembler:
    """Takes the packets of one nonce out of a job's log.

    Feed it the log's text in pieces of any size. Only stdout (1, or "stdout") carries packets; other streams pass
    through. `max_size` bounds the blob's bytes: see `bundle_limit`.
    """

    def __init__(self, nonce: str, max_size: int = 1 << 30) -> None:
        self._prefix = f"@bacalhau {nonce} "
        self._max_size = max_size
        self._max_packets = 1000 + max_size // 256
        self._whole = bytearray()  # the blob's bytes up to the first packet that is missing
        self._next = 0  # that packet's number
        self._pieces: dict[int, bytes] = {}  # number of a data packet that came before its turn -> payload
        self._unchecked: dict[int, tuple[int, int]] = {}  # number of one without a checksum -> its place in the blob, and its size
        self._is_checked = False
        self._seqs: set[int] = set()
        self._size = 0
        self._end: tuple[int, dict[str, Any]] | None = None  # number and facts
        self._damaged = 0
        self._oversize = False
        self._passed: dict[int | str, int] = {}  # stream -> characters given back so far
        self._skip: dict[int | str, int] = {}  # stream -> characters of a replay that were given back before
        self._reset_line()
        self.started: dict[str, Any] | None = None
        """The started packet's facts, None until it comes."""
        self.text_ended = False
        """Whether the job said where its stdout ends: no result follows, and none of stdout is missing."""

    def _reset_line(self) -> None:
        self._pending = ""
        self._newline = ""  # held back: it may turn out to be the wrapper's
        self._let_go = False  # the last one was not, as far as could be known
        self._at_start = True
        self._swallow = False

    def restart(self) -> None:
        """The log is served again from its beginning: what was passed on before is not passed on again."""
        self._skip = dict(self._passed)
        self._reset_line()

    @property
    def complete(self) -> bool:
        """Whether every packet up to the end packet is there."""
        return self._end is not None and len(self._seqs) == self._end[0] + 1 and not self._oversize

    @property
    def held(self) -> str:
        """Text at the log's end that was not given back yet, because a packet may follow."""
        return "" if self._pending.startswith(self._prefix) else self._newline + self._pending

    def feed(self, stream: int | str, text: str) -> list[Text | Packet]:
        """What one piece of log text gives: `Text` to show and `Packet`s, in order."""
        events: list[Text | Packet] = []
        if stream not in (1, "stdout"):
            self._emit(events, stream, text)
            return events
        text = self._pending + text
        self._pending = ""
        at = 0
        shown: list[str] = []  # plain pieces not yet emitted
        while at < len(text):
            end = text.find("\n", at)
            if self._at_start and text.startswith(self._prefix, at):
                if end < 0:
                    if len(text) - at < MAX_LINE:
                        self._pending = text[at:]
                        break
                    self._swallow = True  # with our nonce but too long: never shown, never kept
                    self._damaged += 1
                    self._at_start = False
                    at = len(text)
                    break
                added, found = self._parse(text[at:end])
                if self._newline and not added:
                    shown.append(self._newline)
                elif added and self._let_go:
                    self._passed[stream] -= 1  # it was the wrapper's after all: a replay will not pass it on
                self._newline, self._let_go = "", False
                if found is not None:
                    self._emit(events, stream, "".join(shown))
                    shown = []
                    events.append(found)
                at = end + 1
                continue
            if self._at_start and len(text) - at < len(self._prefix) and self._prefix.startswith(text[at:]):
                self._pending = text[at:]
                break
            if self._newline:
                shown.append(self._newline)
                self._newline = ""
            self._let_go = False
            if end < 0:
                if not self._swallow:
                    shown.append(text[at:])
                self._at_start = False
                break
            if not self._swallow:
                shown.append(text[at:end])
                self._newline = "\n"
            self._swallow = False
            self._at_start = True
            at = end + 1
        self._emit(events, stream, "".join(shown))
        return events

    @property
    def holds_newline(self) -> bool:
        """Whether a line's end is held back."""
        return bool(self._newline) and not self._pending

    def let_go(self, stream: int | str = 1) -> list[Text | Packet]:
        """The line's end that is held back: a packet would have followed at once, so it is the job's."""
        events: list[Text | Packet] = []
        if self.holds_newline:
            newline, self._newline, self._let_go = self._newline, "", True
            self._emit(events, stream, newline)
        return events

    def finish(self, stream: int | str = 1) -> list[Text | Packet]:
        """What is still held back when the log is over."""
        events: list[Text | Packet] = []
        rest = self._newline
        if self._pending.startswith(self._prefix):
            self._damaged += 1
        else:
            rest += self._pending
        self._reset_line()
        self._at_start = False
        self._emit(events, stream, rest)
        return events

    def _emit(self, events: list[Text | Packet], stream: int | str, text: str) -> None:
        skip = self._skip.get(stream, 0)
        if skip:
            self._skip[stream] = max(0, skip - len(text))
            text = text[skip:]
        if text:
            self._passed[stream] = self._passed.get(stream, 0) + len(text)
            events.append(Text(stream, text))

    def _parse(self, text: str) -> tuple[bool, Packet | None]:
        """(whether the newline before is the wrapper's, the packet if it is whole and new)."""
        fields = text.rstrip("\r").split(" ")
        if len(fields) != 7:
            self._damaged += 1
            return False, None
        _, _, seq, kind, flags, checksum, body = fields
        added = "n" in flags
        try:
            payload = _payload(body)
        except ValueError:
            self._damaged += 1
            return added, None
        number = whole_number(seq, 9)
        if kind not in KINDS or number is None or (checksum != "-" and sha256(payload).hexdigest()[:16] != checksum):
            self._damaged += 1
            return added, None
        if kind == "t":
            if self._seqs:  # a wrapper that sends packets of a result sends none of these: the cell wrote it
                return added, None
            first, self.text_ended = not self.text_ended, True
            return added, Packet(kind, number, payload) if first else None
        if number in self._seqs:
            self._again(number, payload)
            return added, None
        if self._is_checked:  # the result is whole: nothing can belong to it any more
            return added, None
        if number >= self._max_packets:
            self._oversize = True
            return added, None
        if kind == "d":
            if self._size + len(payload) > self._max_size:
                self._oversize = True
                self._pieces.clear()
                self._whole.clear()
            if self._oversize:
                return added, None
            self._size += len(payload)
            self._pieces[number] = payload
            if checksum == "-":
                self._unchecked[number] = (-1, len(payload))
        self._seqs.add(number)
        self._join()
        packet = Packet(kind, number, payload)
        if kind == "s" and self.started is None:
            self.started = packet.facts()
        elif kind == "e" and self._end is None:
            self._end = (number, packet.facts())
        return added, packet

    def _join(self) -> None:
        """Put the pieces whose turn it is into the blob: a large result is not held twice."""
        while self._next in self._seqs:
            if (piece := self._pieces.pop(self._next, None)) is not None:
                if self._next in self._unchecked:
                    self._unchecked[self._next] = (len(self._whole), len(piece))
                self._whole += piece
            self._next += 1

    def _again(self, number: int, payload: bytes) -> None:
        """A piece without a checksum came again: it may have been damaged the first time."""
        place, size = self._unchecked.get(number, (0, -1))
        if size != len(payload) or self._is_checked or self._oversize:
            return
        if place < 0:
            self._pieces[number] = payload
        else:
            self._whole[place : place + size] = payload

    def blob(self) -> bytearray:
        """The result's bytes, whole and checked.

        Raises PacketError where packets are missing, damaged or more than `max_size`.
        """
        if self._oversize:
            raise PacketError(f"The result is larger than the {self._max_size} bytes that were asked for.")
        if not self._seqs and not self._damaged:
            raise PacketError("No result came back.")
        said = f" ({self._damaged} damaged)" if self._damaged else ""
        if self._end is None:
            raise PacketError(f"The result's end is missing{said}: the job's log was cut off, or its wrapper was killed.")
        last, facts = self._end
        if len(self._seqs) != last + 1 or max(self._seqs) != last:
            missing = last + 1 - len(self._seqs)
            raise PacketError(f"The result is incomplete: {missing} of {last + 1} packets are missing{said}.")
        if not self._is_checked:
            if facts.get("size") != len(self._whole) or facts.get("sha256") != sha256(self._whole).hexdigest():
                raise PacketError("The result is damaged: its checksum is wrong.")
            self._is_checked = True
        return self._whole

    def outcome(self) -> tuple[bytearray | None, str]:
        """(blob or None, the problem in a sentence or ""); (None, "") when no packet came at all."""
        if not self._seqs and not self._damaged and not self._oversize:
            return None, ""
        try:
            return self.blob(), ""
        except PacketError as error:
            return None, str(error)


def _payload(body: str) -> bytes:
    """The bytes of a packet's base64; raises ValueError. The standard library's own reader takes five times as long."""
    try:
        return cast("bytes", _BASE64.validate_strings(cast("Any", body)))
    except ValidationError:
        return binascii.a2b_base64(body.encode("ascii"))


def json_object(data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object, or {} for anything else."""
    try:
        found = json.loads(bytes(data).decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
