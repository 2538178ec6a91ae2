"""Runs a Python cell in a job; the request stands in request.json beside it. Started by bootstrap.py.

Two processes. This one owns the real stdout and stderr: it copies what the cell writes, as it comes, and writes the
packets, so that they have one writer. The cell runs in a child (runner.py), whose death by any cause - a signal, the
time limit, a crash in C code - leaves this one able to report. The child is forked where that is safe (Linux), else
started anew. Exit code: 0; 1 after an exception; the cell's own; 124 at the time limit.
"""

import os
import sys
import time

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 1 << 16
LONG = 1 << 20
GRACE = 0.25  # seconds without a word from a process that outlives the cell
LAST = 2.0  # seconds for such a process in all
_DIGITS = 10  # of a display's number


def read_request():
    with open(os.path.join(HERE, "request.json"), encoding="utf-8") as file:
        return json_loads(file.read())


def json_loads(text):
    """json.loads by its C part alone: the package loads `re`, which takes a quarter of a small cell's time."""
    try:
        from _json import make_scanner
    except ImportError:
        from json import loads

        return loads(text)
    rules = type("Rules", (), {"strict": True, "object_hook": None, "object_pairs_hook": None})
    rules.parse_float, rules.parse_int, rules.parse_constant = float, int, float
    return make_scanner(rules)(text, 0)[0]


def make_work(outputs):
    """A fresh folder with `inputs` and `outputs` in it: (its path, the outputs folder)."""
    for parent in (os.environ.get("TMPDIR"), os.environ.get("TEMP"), "/tmp", "/var/tmp", os.getcwd()):
        if not parent:
            continue
        work = os.path.join(parent, "work-" + os.urandom(8).hex())
        try:
            os.mkdir(work, 0o700)
            break
        except OSError:
            continue
    else:
        sys.exit("bacalhau: no writable folder for the cell (tried TMPDIR, /tmp, /var/tmp and the current one)")
    inside = os.path.join(work, "outputs")
    try:
        os.makedirs(outputs, exist_ok=True)
        link(os.path.abspath(outputs), inside)
    except OSError:
        os.makedirs(inside, exist_ok=True)
        outputs = inside
    link(os.path.dirname(HERE), os.path.join(work, "inputs"))
    return work, outputs


def link(target, place):
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(target, place)
    else:
        os.symlink(target, place)


def remove_work(work):
    """The folder and all in it; what links point to stays."""
    os.chdir(os.path.dirname(work))
    for name in ("inputs", "outputs"):
        place = os.path.join(work, name)
        try:
            os.unlink(place) if os.name != "nt" else os.rmdir(place)
        except OSError:
            pass
    try:
        os.rmdir(work)
    except OSError:
        import shutil

        shutil.rmtree(work, ignore_errors=True)


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


def write_long(fd, data):
    if len(data) >= LONG:
        widen(fd)
    write_all(fd, data)


def widen(fd):
    """A larger pipe, for what is long: fewer turns between writer and reader."""
    try:
        import fcntl

        fcntl.fcntl(fd, 1031, LONG)  # F_SETPIPE_SZ, which the module names from 3.10 on
    except (ImportError, OSError):
        pass


class Control:
    """What the cell's process says of itself: a byte S when its first line is about to run, displays, then a result (see runner._tell).

    A display is D or, in place of an earlier one, U; then its number, its length and its data.
    """

    def __init__(self):
        self.started = False
        self.displays = {}  # number -> data
        self.data = bytearray()

    def feed(self, data):
        self.data += data
        while self.data[:1] == b"S" or (self.data[:1] in (b"D", b"U") and len(self.data) >= 13):
            if self.data[:1] == b"S":
                self.started = True
                del self.data[:1]
                continue
            size = int.from_bytes(self.data[5:13], "big")
            if len(self.data) < 13 + size:
                break
            self.displays[int.from_bytes(self.data[1:5], "big")] = bytes(self.data[13 : 13 + size])
            del self.data[: 13 + size]

    @property
    def ends(self):
        """Whether the result has begun to come."""
        return self.data[:1] == b"R"

    def result(self):
        """(header, parts) or None; read as plain data, whatever it is."""
        if not self.ends:
            return None
        try:
            return self._read(memoryview(self.data)[1:])
        except (ValueError, EOFError, TypeError):
            return None

    @staticmethod
    def _read(view):
        import marshal

        at = 8 + int.from_bytes(view[:8], "big")
        header, listed = marshal.loads(view[8:at])
        parts = []
        for name, kind, count in listed:
            if count < 0 or at + count > len(view):
                raise EOFError
            parts.append((str(name), str(kind), view[at : at + count]))
            at += count
        return dict(header), parts


def supervise_forked(request, recorder, run):
    """Runs the cell in a forked child: (control, wait status, timed out, seconds)."""
    ends = {name: os.pipe() for name in ("stdout", "stderr", "control")}
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (ends["stdout"][1], 1), (ends["stderr"][1], 2)):
                os.dup2(source, target)
                os.close(source)
            for reader, _ in ends.values():
                os.close(reader)
            code = run(lambda data: write_long(ends["control"][1], data))
        finally:
            os._exit(code)
    on_stop(lambda: kill_tree(pid))
    import select

    recorder.begin()
    readers, control = {}, Control()
    poll = select.poll()
    for name, (reader, writer) in ends.items():
        os.close(writer)
        readers[reader] = name
        poll.register(reader, select.POLLIN)
    said_started, begun, deadline = False, time.monotonic(), None
    status, timed_out, last, ended, nap = None, False, 0.0, 0.0, 1
    while True:
        now = time.monotonic()
        if status is None:
            wait = 200 if deadline is None else max(0, min(200, int((deadline - now) * 1000) + 1))
            if "control" not in readers.values() or control.ends:
                wait, nap = min(wait, nap), min(50, nap * 2)
        else:
            left = min(last + GRACE, ended + LAST) - now
            if left <= 0 or not readers:
                break
            wait = int(left * 1000) + 1
        ready = poll.poll(wait) if readers else time.sleep(wait / 1000) or []
        for fd, _ in sorted(ready, key=lambda item: readers[item[0]]):  # control first: `started` precedes the cell's text
            data = os.read(fd, LONG if len(control.data) > CHUNK else CHUNK)
            last = time.monotonic()
            if not data:
                poll.unregister(fd)
                os.close(fd)
                del readers[fd]
            elif readers[fd] == "control":
                control.feed(data)
                if control.started and not said_started:
                    said_started, begun = True, time.monotonic()
                    deadline = begun + request["timeout"] if request.get("timeout") else None
                    recorder.started(request)
            else:
                recorder.copy(readers[fd], data)
        if status is None:
            done, found = os.waitpid(pid, os.WNOHANG)
            if not done and deadline is not None and time.monotonic() >= deadline:
                timed_out = True
                kill_tree(pid)
                done, found = os.waitpid(pid, 0)
            if done:
                status, ended = found, time.monotonic()
                last = ended if len(ready) else last
                if "control" not in readers.values() and len(readers) == 0:
                    break
                last = ended
    kill_group(pid)
    return control, status, timed_out, ended - begun


def supervise_spawned(request, recorder, work, outputs):
    """The same by a new process and threads, where a fork is not to be had or not safe (Windows, macOS)."""
    import queue
    import subprocess
    import threading

    said = os.path.join(work, ".said")
    process = subprocess.Popen(
        [sys.executable, "-u", os.path.join(HERE, "bootstrap.py"), outputs, "--cell", work],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=os.name != "nt",
    )
    stop = (lambda: kill_tree(process.pid)) if os.name != "nt" else process.kill
    on_stop(stop)
    recorder.begin()
    pieces, control = queue.Queue(64), Control()

    def read(stream, file):
        while True:
            data = os.read(file.fileno(), CHUNK)
            pieces.put((stream, data))
            if not data:
                return

    for stream, file in (("stdout", process.stdout), ("stderr", process.stderr)):
        threading.Thread(target=read, args=(stream, file), daemon=True).start()
    said_started, begun, deadline, open_streams = False, time.monotonic(), None, 2
    timed_out, ended, last = False, None, 0.0
    while open_streams:
        now = time.monotonic()
        if ended is not None and now >= min(last + GRACE, ended + LAST):
            break
        if not said_started and os.path.exists(said) and os.path.getsize(said):
            said_started, begun = True, now
            deadline = now + request["timeout"] if request.get("timeout") else None
            recorder.started(request)
        try:
            stream, data = pieces.get(timeout=0.02)
            last = time.monotonic()
            if data:
                recorder.copy(stream, data)
            else:
                open_streams -= 1
        except queue.Empty:
            pass
        if ended is None and process.poll() is not None:
            ended = last = time.monotonic()
        if ended is None and deadline is not None and time.monotonic() >= deadline:
            timed_out = True
            stop()
    if not timed_out and ended is None and deadline is not None:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
            stop()
    code = process.wait()
    if os.name != "nt":
        kill_group(process.pid)
    try:
        with open(said, "rb") as file:
            control.feed(file.read())
        os.unlink(said)
    except OSError:
        pass
    if control.started and not said_started:
        recorder.started(request)
    return control, (-code if code < 0 else code << 8), timed_out, time.monotonic() - begun


def on_stop(stop):
    """At SIGTERM the cell ends at once; the first process of a container would else ignore it."""
    import _signal

    def handler(signum, frame):
        stop()
        os._exit(143)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(_signal, name):
            _signal.signal(getattr(_signal, name), handler)


def kill_group(pid):
    try:
        os.killpg(pid, 9)
    except OSError:
        pass


def kill_tree(pid):
    """Kills the cell's process, its group, and descendants that left the group (where /proc tells)."""
    family = [pid]
    for member in family:
        try:
            for task in os.listdir("/proc/%d/task" % member):
                with open("/proc/%d/task/%s/children" % (member, task)) as file:
                    family.extend(int(child) for child in file.read().split())
        except (OSError, ValueError):
            continue
    kill_group(pid)
    for member in family:
        try:
            os.kill(member, 9)
        except OSError:
            pass


def verdict(request, control, status, timed_out):
    """(header, parts) of the result, however the cell ended."""
    header = {"outcome": "exit", "exit_code": None, "error": None, "unsendable": {}, "missing": [], "displays": []}
    result = control.result()
    if timed_out:
        said = "The cell ran longer than its time limit of %g seconds." % request["timeout"]
        header.update(outcome="timeout", exit_code=124, error={"ename": "TimeoutError", "evalue": said, "traceback": "", "mro": []})
    elif result is not None:
        header.update(result[0])
        return header, result[1]
    elif status & 0x7F:
        import signal

        number = status & 0x7F
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "signal %d" % number
        said = "The cell's process was killed by %s%s." % (name, ", as happens when memory runs out" if number == 9 else "")
        header.update(exit_code=128 + number, error={"ename": name, "evalue": said, "traceback": said + "\n", "mro": []})
    else:
        header["exit_code"] = status >> 8
    return header, []


def main():
    outputs = sys.argv[1] if len(sys.argv) > 1 else "outputs"
    request = read_request()
    if len(sys.argv) > 3 and sys.argv[2] == "--cell":
        return child(request, sys.argv[3], outputs)
    redactor = load("redaction").of_job(request) if request.get("secrets") else None
    recorder = Recorder(request["nonce"], request["max_result"], redactor)
    if len(sys.argv) > 2 and sys.argv[2] == "--install":
        say_installing(recorder)
        problem = load("packages").install(HERE, outputs, recorder)
        return refuse(recorder, problem) if problem else 0
    work, outputs = make_work(outputs)

    def run(say):
        os.chdir(work)
        return load("runner").run(request, HERE, say)

    packages, problem = None, None
    try:
        if request.get("packages"):
            say_installing(recorder)
            packages, problem = load("packages").bring(HERE, work, recorder)
            if problem:
                return refuse(recorder, problem)
        if hasattr(os, "fork") and sys.platform.startswith("linux") and not request.get("spawn"):
            control, status, timed_out, seconds = supervise_forked(request, recorder, run)
        else:
            control, status, timed_out, seconds = supervise_spawned(request, recorder, work, outputs)
        header, parts = verdict(request, control, status, timed_out)
    finally:
        remove_work(work)
        if packages and packages.startswith(work):
            import shutil

            shutil.rmtree(packages, ignore_errors=True)
    recorder.finish()
    header["displays"] = [[recorder.places.get(number, recorder.copied), "display:%d" % number] for number in sorted(control.displays)]
    header["truncated"] = recorder.truncated + (["displays"] if header.pop("displays_cut", False) else [])
    header["phases"] = {"run": round(seconds, 6)}
    header["python"] = ".".join(map(str, sys.version_info[:3]))
    shown = [("display:%d" % number, "", data) for number, data in sorted(control.displays.items())]
    blob = recorder.bundle(header, shown + parts)
    if len(blob) >= LONG:
        widen(1)
    recorder.out.blob(blob)
    return {"ok": 0, "error": 1, "timeout": 124}.get(header["outcome"], (header["exit_code"] or 0) & 0xFF)


def say_installing(recorder):
    """The first packet of a cell with packages; a node that installed them before the cell began has sent the same one."""
    recorder.begin()
    recorder.out.packet("p", b'{"phase":"installing"}')


def refuse(recorder, problem):
    """The result of a cell that could not begin because of its packages."""
    error = {"ename": "InstallError", "evalue": problem, "traceback": problem + "\n", "mro": []}
    header = {"outcome": "exit", "exit_code": 1, "error": error, "unsendable": {}, "missing": [], "displays": []}
    recorder.out.blob(recorder.bundle(header, []))
    return 1


def child(request, work, outputs):
    """The cell's own process, where it was started anew."""
    os.chdir(work)
    with open(os.path.join(work, ".said"), "wb", buffering=0) as file:
        return load("runner").run(request, HERE, file.write)
