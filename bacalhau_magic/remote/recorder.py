"""What a cell prints, on its way to the job's log and into the result; the one writer of both."""

import os
import sys

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

LONG = 1 << 20
_DIGITS = 10  # of a display's number


def mark(nonce):
    """What begins the mark that a display leaves at its place in stdout; its number and a zero byte follow."""
    return b"\0@bacalhau %s display " % nonce.encode("ascii")


class Recorder:
    """Copies the cell's output as it comes, without the job's secrets, and keeps its first `limit` bytes a stream."""

    def __init__(self, nonce, limit, redactor=None):
        self.mark = mark(nonce)
        self.held = b""  # the beginning of what may be a mark
        self.copied = 0  # bytes of stdout
        self.places = {}  # number of a display -> its place in stdout's bytes
        self.nonce = nonce
        self.kept = {"stdout": [], "stderr": []}
        self.room = {"stdout": limit, "stderr": limit}
        self.truncated = []
        self.out = None
        self.redactor = redactor
        self.streams = {name: load("redaction").Stream(redactor) for name in self.kept} if redactor else {}
        self.lines = load("redaction").Stream(redactor) if redactor else None

    def begin(self):
        """What is left to load, while the cell's process starts."""
        if self.out is not None:
            return
        self.packets = load("packets")
        self.out = self.packets.Writer(self.nonce, lambda data: write_all(1, data))

    def copy(self, stream, data, last=False):
        if stream in self.streams:
            data = self.streams[stream].feed(data, last)
        if stream == "stdout":
            data = self._unmarked(self.held + data)
        self._copy(stream, data)

    def _unmarked(self, data):
        """Stdout without the marks of displays, whose places are noted."""
        self.held = b""
        if b"\0" not in data:
            return data
        pieces, start, at = [], 0, data.find(self.mark)
        place = self.copied
        while at >= 0:
            begin = at + len(self.mark)
            end = data.find(b"\0", begin, begin + _DIGITS + 1)
            if end < 0 and len(data) <= begin + _DIGITS:
                break
            if end > begin and data[begin:end].isdigit():
                pieces.append(data[start:at])
                place += at - start
                self.places.setdefault(int(data[begin:end]), place)
                start = begin = end + 1
            at = data.find(self.mark, begin)
        if at < 0:
            at = data.rfind(b"\0", start)
        if at >= 0 and (self.mark.startswith(data[at:]) or data.startswith(self.mark, at)):
            tail = data[at + len(self.mark) :]
            if len(tail) <= _DIGITS and (not tail or tail.isdigit()):
                self.held = data[at:]
                data = data[:at]
        pieces.append(data[start:])
        return b"".join(pieces)

    def _copy(self, stream, data):
        if stream == "stdout":
            self.copied += len(data)
            self.out.plain(data)
        else:
            write_all(2, data)
        room = self.room[stream]
        if len(data) > room and stream not in self.truncated:
            self.truncated.append(stream)
        if room:
            self.kept[stream].append(data[:room])
            self.room[stream] = max(0, room - len(data))

    def plain(self, data):
        """Lines that are none of the cell's: they are shown, and not kept."""
        self.out.plain(self.lines.feed(data, last=data[-1:] == b"\n") if self.lines else data)

    def finish(self):
        """Copies what was held back: it could have been the beginning of a secret, or of a mark that never came."""
        for stream in self.streams:
            self.copy(stream, b"", last=True)
        held, self.held = self.held, b""
        if held:
            self._copy("stdout", held)

    def bundle(self, header, parts):
        """The result, without the job's secrets in its header and displays; the cell's process has kept them out of its values."""
        if self.redactor:
            header = self.redactor.facts(header)
            parts = [(name, kind, self.redactor.shown(name, data)) for name, kind, data in parts]
        printed = [(stream, "", b"".join(self.kept[stream])) for stream in ("stdout", "stderr")]
        return self.packets.pack_bundle(header, printed + parts)

    def started(self, request):
        facts = '{"language":"python","version":"%s"}' % ".".join(map(str, sys.version_info[:3]))
        self.out.packet("s", facts.encode("ascii"))


def write_all(fd, data):
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        pass  # nobody reads the log; the cell still runs to its end
    except BlockingIOError:
        os.set_blocking(fd, True)
        write_all(fd, view)


def widen(fd):
    """A larger pipe, for what is long: fewer turns between writer and reader."""
    try:
        import fcntl

        fcntl.fcntl(fd, 1031, LONG)  # F_SETPIPE_SZ, which the module names from 3.10 on
    except (ImportError, OSError):
        pass
