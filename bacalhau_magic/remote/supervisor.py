"""Runs a Python cell in a job; the request stands in request.json beside it. Started by bootstrap.py.

Two processes. This one owns the real stdout and stderr: it copies what the cell writes, as it comes, and writes the
packets, so that they have one writer. The cell runs in a child (runner.py), whose death by any cause - a signal, the
time limit, a crash in C code - leaves this one able to report. The child is forked where that is safe (Linux), else
started anew. Exit code: 0; 1 after an exception; the cell's own; 124 at the time limit.
"""

import os
import sys

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

HERE = os.path.dirname(os.path.abspath(__file__))


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
    recorder = load("recorder").Recorder(request["nonce"], request["max_result"], redactor)
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
            ended = load("cellprocess").forked(request, recorder, run)
        else:
            ended = load("cellprocess").spawned(request, recorder, work, outputs)
        control, status, timed_out, seconds = ended
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
    if len(blob) >= load("recorder").LONG:
        load("recorder").widen(1)
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
