"""Packets: a result inside a log, taken out of it again."""

import json
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic import _bundles, _packets
from bacalhau_magic.remote import packets

NONCE = "ab" * 8
OK = {"outcome": "ok", "exit_code": 0, "error": None}


def log_of(plain, blob):
    """A job's log: started, plain text before and between the packets, the blob."""
    out = bytearray()
    writer = packets.Writer(NONCE, out.extend)
    writer.packet("s", b'{"language":"python"}')
    for text in plain:
        writer.plain(text.encode())
        writer.packet("p", b"{}")
    writer.blob(blob)
    return out.decode()


def pieces(text, sizes):
    at = 0
    while at < len(text):
        size = next(sizes)
        yield text[at : at + size]
        at += size


def read(assembler, text, sizes):
    events = [event for piece in pieces(text, sizes) for event in assembler.feed(1, piece)] + assembler.finish()
    return "".join(event.text for event in events if isinstance(event, _packets.Text)), [
        e for e in events if isinstance(e, _packets.Packet)
    ]


def endless(data):
    while True:
        yield data.draw(st.integers(1, 40))


@given(st.lists(st.text(max_size=30)), st.binary(max_size=200), st.data())
def test_any_splitting(plain, blob, data):
    """However the log is cut, the text comes out as the job printed it and the blob whole; a replay gives nothing twice."""
    text = log_of(plain, blob)
    assembler = _packets.Assembler(NONCE)
    shown, found = read(assembler, text, endless(data))
    assert shown == "".join(plain)
    assert [packet.seq for packet in found] == list(range(len(found)))
    assert assembler.outcome() == (blob, "")
    assembler.restart()
    assert read(assembler, text, endless(data)) == ("", [])


def test_promptness():
    """A line that can't become a packet is passed on before it ends."""
    assembler = _packets.Assembler(NONCE)
    assert [event.text for event in assembler.feed(1, "50%")] == ["50%"]
    assert [event.text for event in assembler.feed(1, "\r60%")] == ["\r60%"]
    assert assembler.feed(1, "\n@bacal") == []
    assert "".join(event.text for event in assembler.feed(1, "a")) == "\n@bacala"


def test_foreign_lines():
    """A packet of another nonce is plain text, and so is one on stderr."""
    line = packets.line("cd" * 8, 0, "e", b"{}").decode()
    assembler = _packets.Assembler(NONCE)
    assert read(assembler, line, iter([1000]))[0] == line
    own = packets.line(NONCE, 0, "s", b"{}").decode()
    assert [event.text for event in assembler.feed(2, own)] == [own]
    assert assembler.outcome() == (None, "")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda lines: lines[:-1], "end is missing"),
        (lambda lines: lines[:2] + lines[3:], "1 of 6 packets are missing"),
        (lambda lines: [*lines[:2], lines[2].replace("A", "B", 3), *lines[3:]], "damaged"),
    ],
)
def test_problems(spoil, problem):
    """Missing and damaged packets are said in a sentence, never shown, and mended by a replay."""
    blob = bytes(range(256)) * 180
    lines = log_of([], blob).splitlines(keepends=True)
    assembler = _packets.Assembler(NONCE)
    shown, _ = read(assembler, "".join(spoil(lines)), iter([10**6]))
    assert shown == ""
    assert assembler.outcome()[0] is None
    assert problem in assembler.outcome()[1]
    assembler.restart()
    read(assembler, "".join(lines), iter([10**6]))
    assert assembler.outcome() == (blob, "")


@given(st.randoms(use_true_random=False), st.sampled_from(["@", "-"]))
def test_any_order(random, checksum):
    """Packets in any order, some of them twice, give the blob; one without a checksum that was damaged is mended by the next."""
    blob = bytes(range(256)) * 180
    lines = log_of([], blob).splitlines(keepends=True)
    if checksum == "-":
        lines = [line if " d " not in line else " ".join([*line.split(" ")[:5], "-", line.split(" ")[6]]) for line in lines]
        spoilt = next(index for index, line in enumerate(lines) if " d " in line)
        lines.insert(0, lines[spoilt].replace("AAECAw", "AAECBA", 1))
    mixed = [*lines[:1], *random.sample(lines[1:], len(lines) - 1), *random.sample(lines[1:], 2)]
    assembler = _packets.Assembler(NONCE)
    read(assembler, "".join(mixed), iter([10**6]))
    assert assembler.outcome() == (blob, "")
    whole = assembler.outcome()[0]
    read(assembler, packets.line(NONCE, 99, "d", b"more").decode() + lines[0], iter([10**6]))
    assert assembler.outcome() == (whole, "")


def test_newline_that_was_let_go():
    """A line's end that no packet followed is given back; where it was the wrapper's after all, a replay gives nothing twice, and loses nothing."""
    start = "one\n"
    later, end = (packets.line(NONCE, number, "p", b"{}", newline=number == 0).decode() for number in (0, 1))
    assembler = _packets.Assembler(NONCE)
    first = [*assembler.feed(1, start), *assembler.let_go(), *assembler.let_go()]
    assert "".join(event.text for event in first) == "one\n"
    read(assembler, later, iter([10**6]))
    assembler.restart()
    assert read(assembler, start + later + "two\n" + end, iter([10**6]))[0] == "two\n"


def test_oversize():
    """More data than was asked for is not kept."""
    assembler = _packets.Assembler(NONCE, max_size=20_000)
    read(assembler, log_of([], bytes(30_000)), iter([10**6]))
    assert "larger" in assembler.outcome()[1]


def test_lines():
    """Every packet is one line of ASCII below 16,384 bytes."""
    for line in log_of(["a"], bytes(100_000)).splitlines(keepends=True):
        assert len(line) < 16384
        assert line.isascii()


def test_bundle_is_as_short_as_it_gets():
    """What compressing can make smaller is compressed; random bytes travel as they are; both are read back."""
    for data, most in (
        (b"row 1, row 2, " * 100_000, 60_000),
        (os.urandom(500_000), 500_400),
        (os.urandom(99_000) + bytes(900_000), 140_000),
    ):
        blob = packets.pack_bundle(OK, [("value", "", data)])
        assert len(blob) < most
        assert _bundles.open_bundle(blob, 2_000_000).parts["value"] == data


def test_header_is_json():
    """The header reads as JSON, whatever its texts hold."""
    header = {**OK, "unsendable": {"é\ud800\n": 'a "b"'}, "phases": {"run": 0.25, "n": 3}, "displays": [], "missing": ["x", "y"]}
    blob = packets.pack_bundle(header, [])
    read = json.loads(blob[8 : 8 + int.from_bytes(blob[4:8], "big")])
    assert read == {**header, "parts": []}


def test_bundle():
    """A bundle's parts and header come back; wrong types in the header become empty ones."""
    header = {**OK, "missing": ["a", 1], "unsendable": {"": "why"}, "truncated": 5}
    bundle = _bundles.open_bundle(
        packets.pack_bundle(header, [("stdout", "", b"hi"), ("value", "int", b"x"), ("output:a", "int", b"y")]), 10**6
    )
    assert (bundle.stdout, bundle.parts["value"], bundle.types["value"], bundle.outputs) == (b"hi", b"x", "int", {"a": b"y"})
    assert (bundle.missing, bundle.unsendable, bundle.truncated) == (["a"], {"": "why"}, [])


def raw(header, rest=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"BMR1" + len(head).to_bytes(4, "big") + head + rest


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"junk",
        zlib.compress(bytes(10_000_000)),
        zlib.compress(raw({**OK, "parts": []}))[:-5],
        b"BMR1\xff\xff\xff\xff",
        raw(b"[" * 100_000),
        raw({**OK, "parts": [{"name": "a", "size": 1 << 60}]}),
        raw({**OK, "parts": [{"name": "a", "size": -1}]}),
        raw({**OK, "parts": [{"name": "a", "size": True}]}, b"x"),
        raw({**OK, "parts": [{"name": "a", "size": 0}, {"name": "a", "size": 0}]}),
        raw({**OK, "parts": []}, b"rest"),
        raw({"outcome": "great", "exit_code": 0, "error": None, "parts": []}),
    ],
)
def test_hostile_bundles(blob):
    """Bombs, false sizes, deep JSON and wrong outcomes are errors."""
    with pytest.raises(_packets.PacketError):
        _bundles.open_bundle(blob, 1_000_000)
