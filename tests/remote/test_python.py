"""The Python wrapper, as a real process without site-packages."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bacalhau_magic.remote import packets

VERSIONS = [f"3.{minor}" for minor in range(8, 15)]


def interpreters(version):
    """This version's interpreters: on PATH, of pyenv (where HOME or the variable says), and the one that runs the tests."""
    homes = [os.environ.get("PYENV_ROOT"), Path(pwd.getpwuid(os.getuid()).pw_dir) / ".pyenv"]
    found = [str(path) for home in homes if home for path in sorted(Path(home).glob(f"versions/{version}.*/bin/python{version}"))]
    found += [path for path in [shutil.which(f"python{version}")] if path]
    return found + ([sys.executable] if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else [])


def runs(python):
    """Whether it starts: pyenv puts a stand-in on PATH for versions that are not there."""
    return subprocess.run([python, "-I", "-S", "-c", ""], capture_output=True, check=False).returncode == 0


OTHERS = {version: next(filter(runs, interpreters(version)), "") for version in VERSIONS}


@pytest.mark.parametrize("spawn", [False, True], ids=["forked", "spawned"])
@pytest.mark.parametrize(
    "python",
    [
        pytest.param(path, id=version, marks=pytest.mark.skipif(not path, reason=f"Python {version} is not here"))
        for version, path in OTHERS.items()
    ],
)
def test_every_python(job, python, spawn):
    """The same cell gives the same value on every Python from 3.8 on that is here, with the standard library alone."""
    run = job(
        "import datetime\nprint(x)\n{x: datetime.date(2020, 1, 2)}",
        inputs={"x": (1, "é")},
        command_line=[python, "-I", "-S", "-u"],
        spawn=spawn,
    )
    assert run.code == 0, run.stderr
    assert run.shown == "(1, 'é')\n"
    assert repr(run.value) == "{(1, 'é'): datetime.date(2020, 1, 2)}"
    assert run.leftovers == []


@pytest.mark.parametrize("spawn", [False, True])
def test_wanted_names(job, spawn):
    """Wanted names come back, those that are missing or can't be sent are named, and the last expression is still shown."""
    run = job("a = [1]\nb = {'k': [lambda: 0]}\na", outputs=["a", "b", "c"], value=False, spawn=spawn)
    assert run.output("a") == [1]
    assert run.bundle.missing == ["c"]
    assert "b['k'][0] is of type function" in run.bundle.unsendable["b"]
    assert run.bundle.mime == {"text/plain": "[1]"}
    assert "value" not in run.bundle.parts


def test_hidden_value(job):
    """A last expression that is not wanted is neither sent nor shown."""
    run = job("21 * 2;", show=False)
    assert set(run.bundle.parts) == {"stdout", "stderr"}


def test_unsendable_value(job):
    """A last expression that can't travel shows its own repr and picture, without an error."""
    run = job("class P:\n    def __repr__(self): return 'me'\n    def _repr_png_(self): return b'\\x89PNG'\nP()")
    assert run.code == 0
    assert run.bundle.mime == {"text/plain": "me", "image/png": "iVBORw=="}
    assert "__main__.P" in run.bundle.unsendable[""]


def _limited(kilobytes):
    """The command line of a job that may hold so much memory of its own."""
    return ["sh", "-c", f'ulimit -d {kilobytes} && exec "$@"', "sh", sys.executable, "-I", "-S", "-u"]


def test_a_long_input_is_held_once(job):
    """A cell whose memory holds a long input once, and not its file beside it, runs; a short input is there as ever."""
    inputs = {"x": [bytes(70_000_000) + b"!"], "y": "short"}
    run = job("len(x[0]), x[0][-1], y", inputs=inputs, command_line=_limited(110_000))
    assert run.bundle.error is None, run.traceback
    assert run.value == (70_000_001, ord("!"), "short")


def test_an_input_above_the_memory_is_not_called_damaged(job):
    """An input for which there is no memory is told as that."""
    run = job("len(x[0])", inputs={"x": [bytes(70_000_000)]}, command_line=_limited(60_000))
    assert run.bundle.error["evalue"] == "The input x can't be read where the cell runs: there is not enough memory for it."


def test_lines_where_one_loader_has_several_modules(job):
    """The cell's lines are told also where linecache comes out of an archive, and the archive's other modules are imported as ever."""
    run = job(
        "import linecache, sys, zipfile\n"
        "from importlib.util import find_spec\n"
        "with zipfile.ZipFile('several.zip', 'w') as archive:\n"
        "    for name in ('linecache', 'colorsys'): archive.write(find_spec(name).origin, name + '.py')\n"
        "sys.path.insert(0, 'several.zip')\n"
        "del sys.modules['linecache']\n"
        "import linecache\n"
        "import colorsys\n"
        "linecache.__file__, colorsys.__file__, colorsys.rgb_to_hsv(0, 0, 0), linecache.getline('cell', 8)",
        command_line=[sys.executable, "-I", "-S", "-u"],
    )
    assert run.bundle.error is None, run.traceback
    assert run.value == ("several.zip/linecache.py", "several.zip/colorsys.py", (0.0, 0.0, 0), "import colorsys\n")


UNREADABLE = """import dataclasses

class Wordless(Exception):
    def __str__(self):
        raise ValueError("no words")

@dataclasses.dataclass(frozen=True)
class Key:
    number: int
    def __repr__(self):
        raise %s()

x = {Key(1): len}
"""


def test_a_value_that_fails_without_words(job):
    """A value whose own code fails as it is looked at, with an error that has no text, is named as any other; the cell is well."""
    run = job(UNREADABLE % "Wordless", outputs=["x"])
    assert (run.code, run.bundle.error) == (0, None)
    assert run.bundle.unsendable["x"] == "x is of type dict, which can't be read (Wordless)"


def test_no_memory_for_a_value_is_an_error(job):
    """Where memory is short as a value is written, the cell fails with that: the value could travel."""
    run = job(UNREADABLE % "MemoryError", outputs=["x"])
    assert run.code == 1
    assert run.bundle.error["ename"] == "MemoryError"


def test_traceback_lines(job):
    """The traceback shows the cell's own lines and none of the wrapper's, also in chained exceptions after an await."""
    cell = "import asyncio\nawait asyncio.sleep(0)\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('no') from e\n"
    run = job(cell)
    assert run.code == 1
    assert run.bundle.error["ename"] == "ValueError"
    assert run.bundle.error["mro"][:2] == ["ValueError", "Exception"]
    assert 'File "cell", line 4' in run.traceback
    assert 'File "cell", line 6, in <module>\n    raise ValueError' in run.traceback
    assert "runner.py" not in run.traceback
    assert "asyncio" not in run.traceback


def test_syntax_error(job):
    """A syntax error names the cell's line."""
    run = job("x = 1\ny = (\n")
    assert run.bundle.error["ename"] == "SyntaxError"
    assert 'File "cell", line 2' in run.traceback


def test_closed_stdin(job):
    """input() says that stdin is closed, on the cell's own line."""
    run = job("input()")
    assert "stdin is closed" in run.bundle.error["evalue"]
    assert "runner.py" not in run.traceback


@pytest.mark.parametrize(
    ("code", "status"),
    [("import sys; sys.exit(3)", 3), ("import sys; sys.exit()", 0), ("import sys; sys.exit('no')", 1), ("import os; os._exit(5)", 5)],
)
def test_exit_codes(job, code, status):
    """The cell's own exit code is the job's."""
    run = job(f"print('before', flush=True)\n{code}")
    assert (run.code, run.bundle.outcome, run.bundle.exit_code) == (status, "exit", status)
    assert run.bundle.stdout == b"before\n"


@pytest.mark.parametrize("spawn", [False, True])
def test_crash(job, spawn):
    """A cell killed by a signal still reports what it printed, and the signal's name."""
    run = job("import os\nprint('x')\nos.kill(os.getpid(), 11)", spawn=spawn)
    assert run.code == 139
    assert run.bundle.error["ename"] == "SIGSEGV"
    assert run.bundle.stdout == b"x\n"


@pytest.mark.parametrize("spawn", [False, True])
@pytest.mark.parametrize(
    "block",
    ["import re; re.match('(a+)+$', 'a' * 60 + 'b')", "while True:\n    try: import time; time.sleep(9)\n    except BaseException: pass"],
)
def test_timeout(job, block, spawn):
    """The time limit ends a cell that holds the interpreter or ignores exceptions; what it printed and wrote comes back."""
    run = job(f"print('a', end='')\nopen('outputs/f', 'w').close()\n{block}", timeout=0.5, spawn=spawn)
    assert (run.code, run.bundle.outcome) == (124, "timeout")
    assert run.bundle.stdout == b"a"
    assert (run.outputs / "f").exists()
    assert run.leftovers == []


@pytest.mark.parametrize("spawn", [False, True])
def test_process_left_behind(job, spawn, wait_gone):
    """A process that outlives the cell and holds its stdout does not hold the job, and is ended."""
    run = job("import subprocess\nsubprocess.Popen(['sleep', '60']).pid", spawn=spawn)
    wait_gone(run.value)


def test_exact_stdout(job):
    """Bytes that are no UTF-8, from the cell and from its child, come back exactly; a missing last newline stays missing."""
    run = job("import os, subprocess\nos.write(1, bytes(range(256)))\nsubprocess.run(['printf', 'end'])\nNone")
    assert run.bundle.stdout == bytes(range(256)) + b"end"
    assert run.shown == run.bundle.stdout.decode("utf-8", "replace")


def test_large_stdout(job):
    """20 MB on stdout come back whole."""
    run = job("import sys\nfor i in range(20): sys.stdout.buffer.write(bytes([i]) * 1_000_000)\nsys.stdout.flush()")
    assert run.bundle.stdout == b"".join(bytes([i]) * 1_000_000 for i in range(20))


def test_noisy_child(job):
    """500 packets are whole while a process that outlives the cell goes on writing to the same stdout."""
    cell = "import os, subprocess\nsubprocess.Popen(['sh', '-c', 'while :; do printf noise; done'])\nos.urandom(6_000_000)"
    run = job(cell)
    assert run.problem == ""
    assert len(run.value) == 6_000_000
    lines = [line for line in run.raw.split(b"\n") if line.startswith(b"@bacalhau")]
    assert len(lines) >= 500
    assert max(map(len, lines)) < packets.MAX_LINE


def test_result_bound(job):
    """A value above the bound is named and not sent; stdout above it is cut in the bundle, and said, but whole in the log."""
    run = job("print('x' * 5000)\nbytes(5000)", max_result=1000)
    assert "larger than" in run.bundle.unsendable[""]
    assert len(run.bundle.stdout) == 1000
    assert run.bundle.truncated == ["stdout"]
    assert run.shown == "x" * 5000 + "\n"


def test_missing_library(job):
    """An input whose library is missing is an error before the cell runs, which names the library."""
    numpy = pytest.importorskip("numpy")
    run = job("print('ran')", inputs={"x": numpy.arange(3)})
    assert run.code == 1
    assert run.shown == ""
    assert run.bundle.error["evalue"] == "The input x needs numpy, which is not installed where the cell runs."


def test_cell_world(job):
    """The cell runs as __main__ in a work folder with inputs and outputs, with its arguments, and meets no module of ours."""
    run = job(
        "import os, sys, __main__\nxyz = 1\n(__main__.xyz, __name__, sorted(os.listdir()), sys.argv[1:], any('.bacalhau' in p for p in sys.path))",
        args=["a b"],
    )
    assert run.value == (1, "__main__", ["inputs", "outputs"], ["a b"], False)
