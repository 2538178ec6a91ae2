"""A result inside a log: lines of ASCII with a nonce, a sequence number and a checksum.

One packet is one line, newline included below 16,384 bytes, and begins on a new line:

    @bacalhau <nonce> <seq> <kind> <flags> <first 16 hex digits of the payload's sha256, or -> <payload in base64>

kind   `s` started, `p` phase, `d` a piece of the result, `e` end; `t` the text's end, where the wrapper can send no result;
       the payloads of all but d are JSON
flags  `n`: the newline before this packet was added by the wrapper and is none of the job's; else `-`

A checksum of `-` is not checked: the shell's wrapper has only the whole blob's, in the end packet.

`Writer` makes the lines. The joined pieces are a blob, which `pack_bundle` makes. Reading both is the client's alone.
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

KINDS = ("s", "p", "d", "e", "t")
OUTCOMES = ("ok", "error", "exit", "timeout")
MAGICS = (b"BMR1", b"BMS1")


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


def pack_bundle(header, parts, magic=b"BMR1"):
    """A blob of a header (a dict) and `parts`: (name, type or "", bytes) each; compressed where that makes it smaller."""
    header = dict(header)
    header["parts"] = [dict({"name": name, "size": len(data)}, **({"type": kind} if kind else {})) for name, kind, data in parts]
    head = _json(header).encode("ascii")
    pieces = [magic + len(head).to_bytes(4, "big") + head] + [data for _, _, data in parts]
    if not shrinks(pieces):
        return b"".join(pieces)
    import zlib

    # Level 1: a cell that returns 60 MB waits for it, and numbers hardly shrink more at a higher one.
    packer = zlib.compressobj(1)
    packed = [packer.compress(piece) for piece in pieces]
    packed.append(packer.flush())
    return b"".join(packed)


def shrinks(pieces):
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
