"""Lays a job's folder out as packing does, runs a wrapper as a real process, and reads its log."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bacalhau_magic import _bundles, _packets, remote
from bacalhau_magic.remote import codec

HERE = Path(remote.__file__).parent
NONCE = "0123456789abcdef"
FILES = {"python": "cell.py", "javascript": "cell.mjs", "typescript": "cell.mts", "bash": "cell.sh"}
WRAPPERS = {"python": "python", "javascript": "node", "typescript": "node", "bash": "sh"}


@dataclass
class Run:
    """What a job gave: exit code, raw log, the log as shown, and the opened bundle."""

    code: int
    raw: bytes
    stderr: bytes
    shown: str
    bundle: _bundles.Bundle | None
    problem: str
    outputs: Path
    leftovers: list
    seconds: float
    assembler: _packets.Assembler = field(repr=False)

    @property
    def value(self):
        return codec.loads(self.bundle.parts["value"])

    @property
    def traceback(self):
        return self.bundle.error["traceback"]

    def output(self, name):
        return codec.loads(self.bundle.outputs[name])


def lay_out(folder, code, language, inputs, **changes):
    """The job's input folder, and its request."""
    wrapper = WRAPPERS[language]
    own = folder / "inputs" / ".bacalhau"
    (own / "vars").mkdir(parents=True)
    for name in (*remote.FILES[wrapper], *([remote.REDACTION[wrapper]] if changes.get("secrets") else [])):
        shutil.copy(HERE / name, own / name)
    request = {
        "format": 1, "nonce": NONCE, "language": language, "file": FILES[language], "filename": "cell", "outputs": [], "as": "auto", "show": True,
        "value": True, "max_result": 64_000_000, "timeout": 60.0, "args": [], "command": ["bash", "-eo", "pipefail"], "vars": [], "text_vars": {},
        "json_vars": [],
    }  # fmt: skip
    request.update(changes)
    for name, value in inputs.items():
        if language == "python":
            request["vars"].append(name)
            (own / "vars" / f"{name}.bin").write_bytes(value if isinstance(value, bytes) else codec.dumps(value))
        else:
            request["json_vars"].append(name)
            request["text_vars"][name] = str(value)
            (folder / "inputs" / f"{name}.json").write_text(json.dumps(value))
    (own / "request.json").write_text(json.dumps(request))
    (own / request["file"]).write_bytes(code if isinstance(code, bytes) else code.encode())
    words = {
        "BM_NONCE": NONCE,
        "BM_FILE": request["file"],
        "BM_MAX_RESULT": str(request["max_result"]),
        "BM_TIMEOUT": str(request["timeout"]),
    }
    words["BM_COMMAND"] = shlex.join(request["command"])
    words["BM_ARGS"] = shlex.join(request["args"])
    words["BM_SECRETS"] = " ".join(request.get("secrets", ()))
    (own / "request.sh").write_text("".join(f"{key}={shlex.quote(text)}\n" for key, text in words.items()))
    (own / "vars.sh").write_text("".join(f"export {key}={shlex.quote(text)}\n" for key, text in request["text_vars"].items()))
    return own


@pytest.fixture
def laid_out():
    """`lay_out`, for a test that starts the wrapper in its own way."""
    return lay_out


@pytest.fixture
def wait_gone():
    """Waits until a process has ended, reaped or not; the test's own time limit ends a vain wait."""

    def wait(pid):
        line = Path(f"/proc/{pid}/cmdline")
        while line.exists() and line.read_bytes():
            time.sleep(0.01)

    return wait


@pytest.fixture
def job(tmp_path):
    """Runs a cell through its wrapper; keyword arguments are the request's, and `inputs`, `command_line`, `env`."""
    count = 0

    def run(code, language="python", inputs=None, command_line=None, env=None, path=None, **changes):
        nonlocal count
        count += 1
        folder = tmp_path / f"job{count}"
        temp = folder / "tmp"
        temp.mkdir(parents=True)
        own = lay_out(folder, code, language, inputs or {}, **changes)
        wrapper = WRAPPERS[language]
        start = command_line or {"python": [sys.executable, "-I", "-S", "-u"], "node": ["node"], "sh": ["sh"]}[wrapper]
        outputs = folder / "outputs"
        begun = time.monotonic()
        done = subprocess.run(
            [*start, str(own / remote.FILES[wrapper][0]), str(outputs)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            cwd=folder,
            env={"PATH": path or os.environ["PATH"], "TMPDIR": str(temp), "HOME": str(temp), **(env or {})},
        )
        seconds = time.monotonic() - begun
        assembler = _packets.Assembler(NONCE)
        text = done.stdout.decode("utf-8", "replace")
        events = [*assembler.feed(1, text), *assembler.finish()]
        shown = "".join(event.text for event in events if isinstance(event, _packets.Text))
        blob, problem = assembler.outcome()
        bundle = _bundles.open_bundle(blob, 1 << 30) if blob is not None else None
        leftovers = [str(path.relative_to(temp)) for path in temp.rglob("*")]
        return Run(done.returncode, done.stdout, done.stderr, shown, bundle, problem, outputs, leftovers, seconds, assembler)

    return run
