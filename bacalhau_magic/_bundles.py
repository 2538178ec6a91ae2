"""What a wrapper sent, read from its blob (`remote/packets.py` makes it); all of it is hostile until checked."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from ._packets import PacketError, json_object
from .remote.packets import MAGICS, OUTCOMES

__all__ = ["Bundle", "bundle_limit", "open_bundle"]

_MAX_HEADER = 8 << 20
_MAX_PARTS = 10000
_GROUPED, _GROUPS = 1000, 20
"""Exceptions that a group holds, and groups in groups."""


def bundle_limit(max_result: int) -> int:
    """The bytes that a bundle may have, packed or not, when the values in it are bounded by `max_result`: stdout, stderr,
    the displays and the values each up to it, and a header."""
    return 4 * max_result + _MAX_HEADER


class Bundle:
    """What a wrapper sent.

    `outcome` is "ok", "error", "exit" or "timeout"; `error` a dict of ename, evalue, traceback (texts), mro (names) and
    exceptions (a group's, each such a dict), or None. `parts` maps a part's name to its bytes, `types` to its type's name. `unsendable` maps a wanted name ("" is
    the cell's value) to the reason, `kept` one to the file among the job's that has it and its bytes, `phases` a phase to seconds; `line` is where a shell's command failed, or None.
    """

    __slots__ = (
        "error",
        "exit_code",
        "header",
        "kept",
        "line",
        "missing",
        "outcome",
        "parts",
        "phases",
        "python",
        "truncated",
        "types",
        "unsendable",
    )

    def __init__(self, header: Mapping[str, Any], parts: dict[str, bytes | memoryview]) -> None:
        self.header = header
        self.parts = parts
        self.outcome = header["outcome"]
        self.exit_code = header["exit_code"]
        self.error = header["error"]
        self.types = header["types"]
        self.unsendable = header["unsendable"]
        self.kept = header["kept"]
        self.missing = header["missing"]
        self.truncated = header["truncated"]
        self.phases = header["phases"]
        self.python = header["python"]
        self.line = header["line"]

    @property
    def stdout(self) -> bytes:
        """The exact bytes that the cell and its children wrote to stdout."""
        return bytes(self.parts.get("stdout", b""))

    @property
    def stderr(self) -> bytes:
        return bytes(self.parts.get("stderr", b""))

    @property
    def mime(self) -> dict[str, Any]:
        """The last expression's own display as a dict of MIME type → text or JSON; empty where there is none."""
        return json_object(self.parts.get("mime", b""))

    @property
    def displays(self) -> list[tuple[int, dict[str, Any]]]:
        """What the cell displayed, as (place in stdout's bytes, a dict as `mime`); what has not that form is left out."""
        found = []
        for item in self.header["displays"]:
            place, name = item if isinstance(item, list) and len(item) == 2 else (None, None)
            if type(place) is int and place >= 0 and isinstance(name, str) and name.startswith("display:"):
                shown = json_object(self.parts.get(name, b""))
                if shown:
                    found.append((place, shown))
        return found

    @property
    def outputs(self) -> dict[str, bytes | memoryview]:
        """Wanted name → its encoded bytes (see codec.loads)."""
        return {name[7:]: data for name, data in self.parts.items() if name.startswith("output:")}


def open_bundle(blob: bytes | bytearray, max_size: int) -> Bundle:
    """The checked bundle in a blob of at most `max_size` bytes, unpacked; raises PacketError."""
    data = _unpacked(blob, max_size)
    if data[:4] not in MAGICS or len(data) < 8:
        raise PacketError("The result is of an unknown format.")
    size = int.from_bytes(data[4:8], "big")
    if size > _MAX_HEADER or 8 + size > len(data):
        raise PacketError("The result's header is damaged.")
    header = json_object(bytes(data[8 : 8 + size]))
    listed = header.get("parts")
    if not header or not isinstance(listed, list) or len(listed) > _MAX_PARTS:
        raise PacketError("The result's header is damaged.")
    parts: dict[str, bytes | memoryview] = {}
    types: dict[str, str] = {}
    at = 8 + size
    for part in listed:
        name, count = (part.get("name"), part.get("size")) if isinstance(part, dict) else (None, None)
        if not isinstance(name, str) or name in parts or type(count) is not int or count < 0 or at + count > len(data):
            raise PacketError("The result's list of parts is damaged.")
        # Values are views: a large one is copied once, when it is decoded.
        piece = memoryview(data)[at : at + count]
        parts[name] = piece if name == "value" or name.startswith("output:") else bytes(piece)
        types[name] = _text(part.get("type"))
        at += count
    if at != len(data):
        raise PacketError("The result's list of parts is damaged.")
    return Bundle(_checked(header, types), parts)


def _unpacked(blob: bytes | bytearray, max_size: int) -> bytes | bytearray:
    if len(blob) > max_size:
        raise PacketError(f"The result is larger than the {max_size} bytes that were asked for.")
    if blob[:4] in MAGICS:
        return blob
    unpacker = zlib.decompressobj(47)  # zlib or gzip
    try:
        data = unpacker.decompress(blob, max_size + 1)
    except zlib.error:
        raise PacketError("The result is damaged: it can't be unpacked.") from None
    if len(data) > max_size:
        raise PacketError(f"The result is larger than the {max_size} bytes that were asked for.")
    if not unpacker.eof or unpacker.unused_data:
        raise PacketError("The result is damaged: it can't be unpacked.")
    return data


def _checked(header: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """The header's facts, each of its own type whatever was sent."""
    outcome, error, code = header.get("outcome"), header.get("error"), header.get("exit_code")
    if outcome not in OUTCOMES:
        raise PacketError("The result's header is damaged.")
    if error is not None:
        if not isinstance(error, dict):
            raise PacketError("The result's header is damaged.")
        error = _error(error)
    unsendable, phases, displays = header.get("unsendable"), header.get("phases"), header.get("displays")
    return {
        "outcome": outcome,
        "exit_code": code if type(code) is int else None,
        "error": error,
        "types": types,
        "unsendable": {name: _text(why) for name, why in unsendable.items()} if isinstance(unsendable, dict) else {},
        "kept": _kept(header.get("kept")),
        "missing": _texts(header.get("missing")),
        "truncated": _texts(header.get("truncated")),
        "phases": {name: span for name, span in phases.items() if type(span) in (int, float)} if isinstance(phases, dict) else {},
        "displays": displays if isinstance(displays, list) else [],
        "python": _text(header.get("python")),
        "line": header["line"] if type(header.get("line")) is int and 0 < header["line"] < 1 << 31 else None,
    }


def _kept(listed: Any) -> dict[str, tuple[str, int]]:
    """Name → (a file's plain name, its bytes), of those that have the right form."""
    found = {}
    for name, item in listed.items() if isinstance(listed, dict) else ():
        if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and type(item[1]) is int and 0 <= item[1] < 1 << 63:
            stem, _, suffix = item[0].rpartition(".")
            if len(item[0]) < 200 and suffix in ("value", "pickle") and stem.replace("-", "_").isidentifier():
                found[name] = (item[0], item[1])
    return found


def _error(facts: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """An exception's facts; those of a group have the exceptions in it."""
    listed = facts.get("exceptions")
    listed = listed[:_GROUPED] if isinstance(listed, list) and depth <= _GROUPS else []
    return {
        "ename": _text(facts.get("ename")),
        "evalue": _text(facts.get("evalue")),
        "traceback": _text(facts.get("traceback")),
        "mro": _texts(facts.get("mro")),
        "exceptions": [_error(item, depth + 1) for item in listed if isinstance(item, dict)],
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
