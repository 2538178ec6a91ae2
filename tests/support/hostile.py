"""The corpus of hostile data: `python tests/support/hostile.py` writes `tests/data/hostile/` anew."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "hostile"
NONCE = "0123456789abcdef"


def corpus() -> dict[str, bytes]:
    """Every file's name, as KIND/NAME, and its bytes."""
    made = {"archives": archives(), "packets": packets(), "bundles": bundles(), "values": values(), "json": documents(), "logs": logs()}
    return {f"{kind}/{name}": data for kind, files in made.items() for name, data in files.items()}


def _tar(*members: tuple[str, bytes, bytes, str], claimed: int | None = None) -> bytes:
    """A tar.gz of (name, kind, content, link); `claimed` is the last file's size in its header, whatever its content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, content, link in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), link
            tar.addfile(entry, io.BytesIO(content))
    data = raw.getvalue()
    if claimed is not None:
        entry = tarfile.TarInfo(members[-1][0])
        entry.size = claimed
        data = entry.tobuf(tarfile.GNU_FORMAT) + members[-1][2]
    return gzip.compress(data, 9, mtime=0)


_FOLDER = ("outputs", tarfile.DIRTYPE, b"", "")


def archives() -> dict[str, bytes]:
    """Archives of a job's files."""

    def file(name: str, content: bytes = b"x") -> tuple[str, bytes, bytes, str]:
        return name, tarfile.REGTYPE, content, ""

    many = [file(f"outputs/{number:05}", b"") for number in range(100_001)]
    bomb = _tar(_FOLDER, file("outputs/zeros", bytes(64 << 20)))
    return {
        "outside.tar.gz": _tar(_FOLDER, file("outputs/../../planted")),
        "absolute.tar.gz": _tar(_FOLDER, file("/tmp/bacalhau-magic-planted")),
        "backslash.tar.gz": _tar(_FOLDER, file("outputs/..\\..\\planted")),
        "through-a-link.tar.gz": _tar(_FOLDER, ("outputs/way", tarfile.SYMTYPE, b"", ".."), file("outputs/way/planted")),
        "link.tar.gz": _tar(_FOLDER, ("outputs/shadow", tarfile.SYMTYPE, b"", "/etc/shadow")),
        "hard-link.tar.gz": _tar(_FOLDER, ("outputs/shadow", tarfile.LNKTYPE, b"", "/etc/shadow")),
        "device.tar.gz": _tar(_FOLDER, ("outputs/null", tarfile.CHRTYPE, b"", ""), ("outputs/pipe", tarfile.FIFOTYPE, b"", "")),
        "twice.tar.gz": _tar(_FOLDER, file("outputs/a"), file("outputs/a", b"y")),
        "file-and-folder.tar.gz": _tar(_FOLDER, file("outputs/a"), file("outputs/a/b")),
        "bomb.tar.gz": bomb,
        "many.tar.gz": _tar(_FOLDER, *many),
        "deep.tar.gz": _tar(file("outputs/" + "d/" * 5000 + "f")),
        "lies.tar.gz": _tar(file("outputs/a"), claimed=1 << 50),
        "long-name.tar.gz": _tar(file("outputs/" + "n" * 2_000_000)),
        "cut.tar.gz": bomb[: len(bomb) // 2],
        "no-archive.tar.gz": gzip.compress(b"\x1b[2J" * 1000, mtime=0),
        "empty.tar.gz": b"",
    }


def _line(seq: object, kind: str, payload: bytes, nonce: str = NONCE, checksum: str = "") -> bytes:
    checksum = checksum or hashlib.sha256(payload).hexdigest()[:16]
    return f"@bacalhau {nonce} {seq} {kind} - {checksum} ".encode() + base64.b64encode(payload) + b"\n"


def _end(seq: object, blob: bytes, **changes: object) -> bytes:
    facts = {"size": len(blob), "sha256": hashlib.sha256(blob).hexdigest(), "pieces": 1} | changes
    return _line(seq, "e", json.dumps(facts).encode())


def packets() -> dict[str, bytes]:
    """Logs whose packets are not what they say."""
    blob = b"BMR1" + struct.pack(">I", 2) + b"{}"
    piece = _line(0, "d", blob)
    return {
        "wrong-nonce": _line(0, "d", blob, nonce="f" * 16) + _end(1, blob),
        "no-end": piece,
        "no-piece": _end(1, blob),
        "wrong-checksum": _line(0, "d", blob, checksum="0" * 16) + _end(1, blob),
        "wrong-sum-of-all": piece + _end(1, blob, sha256="0" * 64),
        "wrong-size": piece + _end(1, blob, size=10**30),
        "cut-line": piece[: len(piece) // 2] + b"\n" + _end(1, blob),
        "cut-at-the-end": piece + _end(1, blob)[:-20],
        "no-base64": piece.replace(b" Qk", b" \xff\xfe") + _end(1, blob),
        "too-long": _line(0, "d", bytes(40_000)) + _end(1, blob),
        "negative": _line(-1, "d", blob) + _end(1, blob),
        "far": _line(999_999_999, "d", blob) + _end(10**40, blob),
        "huge-number": _line("9" * 5000, "d", blob) + _end(1, blob),
        "end-first": _end(1, blob) + _line(7, "d", blob),
        "unknown-kind": _line(0, "z", blob) + _end(1, blob),
        "deep-facts": _line(0, "s", b'{"a":' * 2000) + _line(1, "e", b"[" * 8000),
    }


def _bundle(header: object, rest: bytes = b"", size: int | None = None) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"BMR1" + struct.pack(">I", len(head) if size is None else size) + head + rest


def bundles() -> dict[str, bytes]:
    """Results whose header is not what follows it."""
    part = {"name": "stdout", "size": 1}
    return {
        "bomb": zlib.compress(_bundle({"outcome": "ok", "parts": []}) + bytes(64 << 20), 9),
        "header-too-long": _bundle({}, size=0xFFFFFFFF),
        "header-deep": _bundle(b"[" * 50_000),
        "header-number": _bundle(b'{"outcome":"ok","exit_code":' + b"9" * 100_000 + b"}"),
        "part-too-long": _bundle({"outcome": "ok", "parts": [{"name": "value", "size": 1 << 60}]}),
        "part-negative": _bundle({"outcome": "ok", "parts": [{"name": "value", "size": -5}]}, b"x"),
        "part-twice": _bundle({"outcome": "ok", "parts": [part, part]}, b"xy"),
        "many-parts": _bundle({"outcome": "ok", "parts": [{"name": str(n), "size": 0} for n in range(20_000)]}),
        "unknown-outcome": _bundle({"outcome": "__import__", "parts": []}),
        "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "empty": b"",
    }


def values() -> dict[str, bytes]:
    """Encoded values and arrays whose headers lie about what follows."""
    huge = b"\xff" + struct.pack("<Q", 1 << 60)
    return {
        "text-too-long": b"BMC1S" + huge,
        "bytes-too-long": b"BMC1B" + huge,
        "list-too-long": b"BMC1l" + huge + b"-",
        "number-too-long": b"BMC1I" + huge,
        "deep": b"BMC1" + b"l\x01-" * 100_000 + b"N",
        "array-too-long": _array(b"('<f8', (1000000000000000,), False)"),
        "array-overflow": _array(b"('<f8', (4294967296, 4294967296, 4294967296), False)"),
        "array-negative": _array(b"('<f8', (-1,), False)"),
        "array-of-objects": _array(b"('|O', (3,), False)"),
        "array-of-deep-types": _array(b"(" * 120),
        "array-with-code": _array(b"(__import__('os').system('id'), (3,), False)"),
        "array-of-signs": _array(b"-" * 40_000 + b"1"),
        "array-with-a-long-header": _array(b"('<f8', (3,), False)" + b" " * 60_000),
        "array-of-nothing": _array(b"('|V0', (1099511627776,), False)", b""),
        "array-of-dimensions": _array(b"('<f8', (" + b"1," * 1000 + b"3), False)"),
        "array-of-wide-fields": _array(b"([('a', '<f8', (1048576, 1048576)), ('b', '<f8', (1048576, 1048576))], (3,), False)"),
        "array-of-a-huge-type": _array(b"('<U4611686018427387904', (3,), False)"),
        **tables(),
        "unknown": b"BMC1?",
        "pickle": b"BMC1\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "empty": b"",
    }


def _blob(data: bytes) -> bytes:
    return (bytes([len(data)]) if len(data) < 255 else b"\xff" + struct.pack("<Q", len(data))) + data


def _array(header: bytes, data: bytes = bytes(24)) -> bytes:
    """An encoded array with this header, as numpy's own file format writes one."""
    return b"BMC1aa" + _blob(header) + _blob(data)


_ARROW = base64.b64decode(
    "/////xgBAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAEAAAAYAAAAAAASABgACAAGAAcADAAAABAAFAASAAAAAAABAhQA"
    "AAC0AAAACAAAABAAAAAAAAAAAQAAAGEAAAACAAAATAAAAAQAAADE////GAAAAAQAAAAIAAAAAAAAAAAAAAAAAAAAGAAAAEFSUk9XOmV4dGVuc2lvbjptZXRh"
    "ZGF0YQAAAAAIAAwABAAIAAgAAAAkAAAABAAAABcAAABhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQAUAAAAQVJST1c6ZXh0ZW5zaW9uOm5hbWUAAAAACAAMAAgA"
    "BwAIAAAAAAAAAUAAAAAAAAAA/////4gAAAAUAAAAAAAAAAwAFgAGAAUACAAMAAwAAAAAAwQAGAAAABgAAAAAAAAAAAAKABgADAAEAAgACgAAADwAAAAQAAAA"
    "AwAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABgAAAAAAAAAAAAAAAEAAAADAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAMA"
    "AAAAAAAA/////wAAAAA="
)
"""Arrow's stream of a table with the numbers 1, 2, 3 in a column whose type has the name "a" * 23."""
_METADATA, _BODY, _ROWS, _OFFSET, _BUFFER, _NODE, _NULLS = 4, 328, 360, 392, 400, 416, 424
"""Where its sizes and counts stand: of the schema, the body, the rows, the column's buffer, its rows and its nulls."""


def _arrow(layout: str = "<q", data: bytes = _ARROW, **changes: int) -> bytes:
    """The table with other numbers at the places that the names above tell."""
    stream = bytearray(data)
    for name, number in changes.items():
        struct.pack_into(layout, stream, globals()["_" + name.upper()], number)
    return b"BMC1Pt" + _blob(bytes(stream))


def _polars(dtype: bytes, rest: bytes) -> bytes:
    return b"BMC1PS\x01a" + dtype + rest


def tables() -> dict[str, bytes]:
    """Arrow's tables and polars series whose headers lie about what follows."""
    huge = b"\xff" + struct.pack("<Q", 1 << 60)
    wide = b"\x05Array\x05" + struct.pack("<iB", 1 << 30, 0)
    return {
        "arrow-rows": _arrow(rows=1 << 40, node=1 << 40),
        "arrow-rows-and-not-the-column": _arrow(rows=1 << 40),
        "arrow-negative": _arrow(rows=-1, node=-1),
        "arrow-buffer-too-long": _arrow(buffer=1 << 40),
        "arrow-buffer-too-short": _arrow(buffer=8),
        "arrow-buffer-outside": _arrow(offset=1 << 60),
        "arrow-body-too-long": _arrow(body=1 << 60),
        "arrow-nulls": _arrow(nulls=3),
        "arrow-schema-too-long": _arrow("<I", metadata=0x7FFFFFF8),
        "arrow-cut": _arrow(data=_ARROW[:420]),
        "arrow-pickle": _arrow(data=_ARROW.replace(b"a" * 23, b"arrow.py_extension_type")),
        "arrow-no-table": b"BMC1Pt" + _blob(b"\xff" * 64),
        "polars-rows": _polars(b"\x05Int64", huge + b"\x00" + _blob(bytes(8))),
        "polars-nulls": _polars(b"\x04Null", huge),
        "polars-many-nulls": _polars(b"\x04Null", b"\xff" + struct.pack("<Q", 1 << 36)),
        "polars-null-array": _polars(wide + b"\x05Int64", b"\x01\x01-N"),
        "polars-null-arrays": _polars(wide * 3 + b"\x05Int64", b"\x01\x01-N"),
        "polars-deep": _polars(b"\x04List" * 5000 + b"\x05Int64", b"\x00\x00-"),
        "polars-far-date": _polars(b"\x04Date", b"\x01\x00" + _blob(struct.pack("<i", (1 << 31) - 1))),
        "polars-far-date-in-a-list": _polars(b"\x04List\x08Datetime\x02us\x00", b"\x01\x01-l\x01-i" + struct.pack("<q", (1 << 63) - 1)),
        "polars-mask": _polars(b"\x05Int64", b"\x01" + _blob(b"\x01\x01") + _blob(bytes(8))),
        "polars-columns": b"BMC1PF" + huge,
    }


def documents() -> dict[str, bytes]:
    """JSON as a server might answer it."""
    return {
        "deep": b'{"Job":' * 100_000,
        "deep-list": b"[" * 100_000,
        "huge-number": b'{"Job":{"Priority":' + b"9" * 100_000 + b"}}",
        "huge-float": b'{"Job":{"Priority":1e999999999}}',
        "wrong-kinds": b'{"Job":[{"Tasks":{"Name":3}},null,true]}',
        "not-utf-8": b'{"Job":{"Name":"\xff\xfe"',
        "no-json": b"<html><script>alert(1)</script>",
    }


def logs() -> dict[str, bytes]:
    """Log text that would steer a terminal or a page."""
    return {
        "clear": b"a\x1b[2J\x1b[Hb\n",
        "title": b"a\x1b]0;owned\x07b\x1b]8;;http://example.org\x1b\\c\n",
        "clipboard": b"a\x1b]52;c;cm0gLXJmIH4=\x07b\n",
        "device": b"a\x1bP$q\x1b\\b\x1b_x\x1b\\c\x9b5nb\n",
        "c1": "a\u009b2Jb\u009d0;x\u009cc\n".encode(),
        "endless-sequence": b"a\x1b[" + b"9;" * 50_000 + b"\n",
        "html": b"<img src=x onerror=alert(1)><script>alert(2)</script>&lt;\n",
        "backspace": b"rm -rf ~\x08\x08\x08\x08\x08\x08\x08\x08harmless\x00\n",
    }


if __name__ == "__main__":
    for name, data in corpus().items():
        place = DATA / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
