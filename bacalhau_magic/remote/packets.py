"""A result inside a log: lines of ASCII with a nonce, a sequence number and a checksum.

One packet is one line, newline included below 16,384 bytes, and begins on a new line:

    @bacalhau <nonce> <seq> <kind> <flags> <first 16 hex digits of the payload's sha256, or -> <payload in base64>

kind   `s` started, `p` phase, `d` a piece of the result, `e` end; the payloads of s, p and e are JSON
flags  `n`: the newline before this packet was added by the wrapper and is none of the job's; else `-`

A checksum of `-` is not checked: the shell's wrapper has only the whole blob's, in the end packet.

`Writer` makes the lines, `Assembler` reads them; it takes the packets out of a log and is idempotent by sequence
number, so that a log may be served again. The joined pieces are a blob, which `pack_bundle` makes and `open_bundle`
reads; whatever is read here is hostile until checked.
"""

import binascii
import sys


def _hash():
    """The built-in sha256 in a cold cell, which loading OpenSSL would cost some milliseconds; else OpenSSL's, five times as fast."""
    if "hashlib" not in sys.modules:
        for name in ("_sha2", "_sha256"):
            try:
                return __import__(name).sha256
            except ImportError:
                pass
    from hashlib import sha256

    return sha256


sha256 = _hash()

MAX_LINE = 16383
"""Bytes of a packet's line, newline included."""

PIECE = 12000
"""Bytes of payload in a data packet: with base64 and the fields in front well below MAX_LINE."""

_LONG = 1 << 20
"""From here on the bytes of a result take longer than loading a faster library."""
_LINES = 16
"""How many packets are written at once."""
_TINY = 400
"""Bytes of a bundle that compressing would hardly make smaller."""

KINDS = ("s", "p", "d", "e")
OUTCOMES = ("ok", "error", "exit", "timeout")
MAGICS = (b"BMR1", b"BMS1")
_MAX_HEADER = 8 << 20
_MAX_PARTS = 10000
_GROUPED, _GROUPS = 1000, 20  # exceptions that a group holds, and groups in groups


class PacketError(Exception):
    """A result that is missing, damaged or too big; the text is a finished sentence."""


def bundle_limit(max_result):
    """The bytes that a bundle may have, packed or not, when the values in it are bounded by `max_result`: stdout, stderr,
    the displays and the values each up to it, and a header."""
    return 4 * max_result + _MAX_HEADER


def line(nonce, seq, kind, payload, newline=False):
    """One packet as the bytes of its line."""
    flag = "n" if newline else "-"
    head = "@bacalhau %s %d %s %s %s " % (nonce, seq, kind, flag, sha256(payload).hexdigest()[:16])
    return head.encode("ascii") + binascii.b2a_base64(payload, newline=False) + b"\n"


class Writer:
    """Writes packets; `write` takes bytes and must be the only writer of the log."""

    def __init__(self, nonce, write):
        self._nonce = nonce
        self._write = write
        self._seq = 0
        self.at_line_start = True

    def plain(self, data):
        """The job's own bytes."""
        if data:
            self.at_line_start = data[-1:] == b"\n"
            self._write(data)

    def packet(self, kind, payload):
        """One packet; a newline is added where the job's last line has none."""
        self._write(self._line(kind, payload))

    def _line(self, kind, payload):
        text = line(self._nonce, self._seq, kind, payload, newline=not self.at_line_start)
        if not self.at_line_start:
            text = b"\n" + text
        self._seq += 1
        self.at_line_start = True
        return text

    def blob(self, blob):
        """A whole result: its pieces and the end."""
        global sha256
        if len(blob) > _LONG:
            from hashlib import sha256
        whole, view, lines = sha256(), memoryview(blob), []
        for start in range(0, len(blob), PIECE):
            piece = view[start : start + PIECE]
            whole.update(piece)
            lines.append(self._line("d", piece))
            if len(lines) == _LINES:
                self._write(b"".join(lines))
                lines.clear()
        end = '{"size":%d,"sha256":"%s","pieces":%d}' % (len(blob), whole.hexdigest(), -(-len(blob) // PIECE))
        lines.append(self._line("e", end.encode("ascii")))
        self._write(b"".join(lines))


class Text:
    """Plain log text to show; `stream` is what was given to `feed`."""

    __slots__ = ("stream", "text")

    def __init__(self, stream, text):
        self.stream = stream
        self.text = text

    def __repr__(self):
        return "Text(%r, %r)" % (self.stream, self.text)


class Packet:
    """A packet that came for the first time: kind, sequence number, payload bytes."""

    __slots__ = ("kind", "payload", "seq")

    def __init__(self, kind, seq, payload):
        self.kind = kind
        self.seq = seq
        self.payload = payload

    def __repr__(self):
        return "Packet(%r, %r, %d bytes)" % (self.kind, self.seq, len(self.payload))

    def facts(self):
        """The payload of an s, p or e packet as a dict; empty where it is no JSON object."""
        return _json_object(self.payload)


class Assembler:
    """Takes the packets of one nonce out of a job's log.

    Feed it the log's text in pieces of any size. Only stdout (1, or "stdout") carries packets; other streams pass
    through. `max_size` bounds the blob's bytes: see `bundle_limit`.
    """

    def __init__(self, nonce, max_size=1 << 30):
        self._prefix = "@bacalhau %s " % nonce
        self._max_size = max_size
        self._max_packets = 1000 + max_size // 256
        self._pieces = {}  # seq of a data packet -> payload
        self._whole = None  # the blob, once it was put together
        self._seqs = set()
        self._size = 0
        self._end = None  # (seq, facts)
        self._damaged = 0
        self._oversize = False
        self._passed = {}  # stream -> characters given back so far
        self._skip = {}  # stream -> characters of a replay that were given back before
        self._reset_line()
        self.started = None
        """The started packet's facts, None until it comes."""

    def _reset_line(self):
        self._pending = ""
        self._newline = ""  # held back: it may turn out to be the wrapper's
        self._at_start = True
        self._swallow = False

    def restart(self):
        """The log is served again from its beginning: what was passed on before is not passed on again."""
        self._skip = dict(self._passed)
        self._reset_line()

    @property
    def complete(self):
        """Whether every packet up to the end packet is there."""
        return self._end is not None and len(self._seqs) == self._end[0] + 1 and not self._oversize

    def feed(self, stream, text):
        """What one piece of log text gives: `Text` to show and `Packet`s, in order."""
        events = []
        if stream not in (1, "stdout"):
            self._emit(events, stream, text)
            return events
        text = self._pending + text
        self._pending = ""
        at = 0
        shown = []  # plain pieces not yet emitted
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
                self._newline = ""
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

    def finish(self, stream=1):
        """What is still held back when the log is over."""
        events = []
        rest = self._newline
        if self._pending.startswith(self._prefix):
            self._damaged += 1
        else:
            rest += self._pending
        self._reset_line()
        self._at_start = False
        self._emit(events, stream, rest)
        return events

    def _emit(self, events, stream, text):
        skip = self._skip.get(stream, 0)
        if skip:
            self._skip[stream] = max(0, skip - len(text))
            text = text[skip:]
        if text:
            self._passed[stream] = self._passed.get(stream, 0) + len(text)
            events.append(Text(stream, text))

    def _parse(self, text):
        """(whether the newline before is the wrapper's, the packet if it is whole and new)."""
        fields = text.rstrip("\r").split(" ")
        if len(fields) != 7:
            self._damaged += 1
            return False, None
        _, _, seq, kind, flags, checksum, body = fields
        added = "n" in flags
        try:
            payload = binascii.a2b_base64(body.encode("ascii"))
            number = int(seq) if seq.isdigit() and len(seq) < 10 else -1
        except ValueError:
            self._damaged += 1
            return added, None
        if kind not in KINDS or number < 0 or (checksum != "-" and sha256(payload).hexdigest()[:16] != checksum):
            self._damaged += 1
            return added, None
        if number in self._seqs:
            if checksum == "-" and number in self._pieces and len(self._pieces[number]) == len(payload):
                self._pieces[number] = payload  # an unchecked piece may have been damaged the first time
            return added, None
        if number >= self._max_packets:
            self._oversize = True
            return added, None
        if kind == "d":
            if self._size + len(payload) > self._max_size:
                self._oversize = True
                self._pieces.clear()
            if self._oversize:
                return added, None
            self._size += len(payload)
            self._pieces[number] = payload
        self._seqs.add(number)
        packet = Packet(kind, number, payload)
        if kind == "s" and self.started is None:
            self.started = packet.facts()
        elif kind == "e" and self._end is None:
            self._end = (number, packet.facts())
        return added, packet

    def blob(self):
        """The result's bytes, whole and checked.

        Raises PacketError where packets are missing, damaged or more than `max_size`.
        """
        if self._oversize:
            raise PacketError("The result is larger than the %d bytes that were asked for." % self._max_size)
        if not self._seqs and not self._damaged:
            raise PacketError("No result came back.")
        said = " (%d damaged)" % self._damaged if self._damaged else ""
        if self._end is None:
            raise PacketError("The result's end is missing%s: the job's log was cut off, or its wrapper was killed." % said)
        last, facts = self._end
        if len(self._seqs) != last + 1 or max(self._seqs) != last:
            missing = last + 1 - len(self._seqs)
            raise PacketError("The result is incomplete: %d of %d packets are missing%s." % (missing, last + 1, said))
        if self._whole is None:
            order, digest = sorted(self._pieces), sha256()
            for seq in order:
                digest.update(self._pieces[seq])
            size = sum(map(len, self._pieces.values()))
            if facts.get("size") != size or facts.get("sha256") != digest.hexdigest():
                raise PacketError("The result is damaged: its checksum is wrong.")
            whole, at = bytearray(size), 0
            for seq in order:  # each piece goes as it is copied: a large result is not held twice
                piece = self._pieces.pop(seq)
                whole[at : at + len(piece)] = piece
                at += len(piece)
            self._whole = whole
        return self._whole

    def outcome(self):
        """(blob or None, the problem in a sentence or ""); (None, "") when no packet came at all."""
        if not self._seqs and not self._damaged and not self._oversize:
            return None, ""
        try:
            return self.blob(), ""
        except PacketError as error:
            return None, str(error)


def pack_bundle(header, parts, magic=b"BMR1"):
    """A blob of a header (a dict) and `parts`: (name, type or "", bytes) each; compressed where that makes it smaller."""
    header = dict(header)
    header["parts"] = [dict({"name": name, "size": len(data)}, **({"type": kind} if kind else {})) for name, kind, data in parts]
    head = _json(header).encode("ascii")
    pieces = [magic + len(head).to_bytes(4, "big") + head] + [data for _, _, data in parts]
    if not _shrinks(pieces):
        return b"".join(pieces)
    import zlib

    # Level 1: a cell that returns 60 MB waits for it, and numbers hardly shrink more at a higher one.
    packer = zlib.compressobj(1)
    packed = [packer.compress(piece) for piece in pieces]
    packed.append(packer.flush())
    return b"".join(packed)


def _shrinks(pieces):
    """Whether compressing is worth its time, by samples: random bytes, pictures and archives take it and stay as long."""
    size = sum(map(len, pieces))
    if size <= _TINY:
        return False
    if size < 1 << 16:
        return True
    import zlib

    samples = [piece[at : at + 2048] for piece in pieces for at in range(0, len(piece), max(2048, size // 32))]
    sample = b"".join(samples)
    return len(zlib.compress(sample, 1)) < 0.9 * len(sample)


def _json(value):
    """As json.dumps writes it, ASCII alone; without that package, which a cold cell would wait for."""
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii

    def write(value):
        if isinstance(value, str):
            return encode_basestring_ascii(value)
        if isinstance(value, dict):
            return "{%s}" % ", ".join(["%s: %s" % (write(key), write(item)) for key, item in value.items()])
        if isinstance(value, (list, tuple)):
            return "[%s]" % ", ".join(map(write, value))
        return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)

    return write(value)


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

    def __init__(self, header, parts):
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
    def stdout(self):
        """The exact bytes that the cell and its children wrote to stdout."""
        return self.parts.get("stdout", b"")

    @property
    def stderr(self):
        return self.parts.get("stderr", b"")

    @property
    def mime(self):
        """The last expression's own display as a dict of MIME type → text or JSON; empty where there is none."""
        return _json_object(self.parts.get("mime", b""))

    @property
    def displays(self):
        """What the cell displayed, as (place in stdout's bytes, a dict as `mime`); what has not that form is left out."""
        found = []
        for item in self.header["displays"]:
            place, name = item if isinstance(item, list) and len(item) == 2 else (None, None)
            if type(place) is int and place >= 0 and isinstance(name, str) and name.startswith("display:"):
                shown = _json_object(self.parts.get(name, b""))
                if shown:
                    found.append((place, shown))
        return found

    @property
    def outputs(self):
        """Wanted name → its encoded bytes (see codec.loads)."""
        return {name[7:]: data for name, data in self.parts.items() if name.startswith("output:")}


def open_bundle(blob, max_size):
    """The checked bundle in a blob of at most `max_size` bytes, unpacked; raises PacketError."""
    data = _unpacked(blob, max_size)
    if data[:4] not in MAGICS or len(data) < 8:
        raise PacketError("The result is of an unknown format.")
    size = int.from_bytes(data[4:8], "big")
    if size > _MAX_HEADER or 8 + size > len(data):
        raise PacketError("The result's header is damaged.")
    header = _json_object(bytes(data[8 : 8 + size]))
    listed = header.get("parts")
    if not header or not isinstance(listed, list) or len(listed) > _MAX_PARTS:
        raise PacketError("The result's header is damaged.")
    parts, types, at = {}, {}, 8 + size
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


def _unpacked(blob, max_size):
    if len(blob) > max_size:
        raise PacketError("The result is larger than the %d bytes that were asked for." % max_size)
    if blob[:4] in MAGICS:
        return blob
    import zlib

    unpacker = zlib.decompressobj(47)  # zlib or gzip
    try:
        data = unpacker.decompress(blob, max_size + 1)
    except zlib.error:
        raise PacketError("The result is damaged: it can't be unpacked.") from None
    if len(data) > max_size:
        raise PacketError("The result is larger than the %d bytes that were asked for." % max_size)
    if not unpacker.eof or unpacker.unused_data:
        raise PacketError("The result is damaged: it can't be unpacked.")
    return data


def _checked(header, types):
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


def _kept(listed):
    """Name → (a file's plain name, its bytes), of those that have the right form."""
    found = {}
    for name, item in listed.items() if isinstance(listed, dict) else ():
        if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and type(item[1]) is int and 0 <= item[1] < 1 << 63:
            stem, _, suffix = item[0].rpartition(".")
            if len(item[0]) < 200 and suffix in ("value", "pickle") and stem.replace("-", "_").isidentifier():
                found[name] = (item[0], item[1])
    return found


def _error(facts, depth=0):
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


def _json_object(data):
    import json

    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value):
    return value if isinstance(value, str) else ""


def _texts(value):
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
