"""The cell's own process: how it is started, watched to its end, and killed with all that it started."""

import os
import sys
import time

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 1 << 16
GRACE = 0.25  # seconds without a word from a process that outlives the cell
LAST = 2.0  # seconds for such a process in all


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


def forked(request, recorder, run):
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
    readers, control, long = {}, Control(), load("recorder").LONG
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
            data = os.read(fd, long if len(control.data) > CHUNK else CHUNK)
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


def spawned(request, recorder, work, outputs):
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


def write_long(fd, data):
    recorder = load("recorder")
    if len(data) >= recorder.LONG:
        recorder.widen(fd)
    recorder.write_all(fd, data)


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
