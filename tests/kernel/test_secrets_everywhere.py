"""A planted secret after every kind of run: in a container, as a plain process, from Python, cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from kernels import Kernel, Ran, start
from planted import SECRET, found_below, seen

MARK = "••••"
CODE = "import os, sys, base64, json, urllib.parse\ns = os.environ['PLANTED_TOKEN']\n"
SAYS = "print(s, [s], json.dumps(s), urllib.parse.quote(s, safe=''), base64.b64encode(b'me:' + s.encode()).decode(), s.encode().hex(), flush=True)\n"
CELLS = {
    "prints": ("", SAYS + "sys.stderr.write('[' + s + ']')\nlen(s)"),
    "its value": ("", "{'key': [s]}"),
    "a name": ("-o got,fine", "got, fine = s, 1"),
    "raises": ("", SAYS + "try:\n    {}[s]\nexcept KeyError as e:\n    e.add_note('note ' + s)\n    raise ValueError(s) from e"),
    "ends": ("", SAYS + "sys.exit('over: ' + s)"),
    "time": ("--timeout 2s", SAYS + "import time; time.sleep(60)"),
    "killed": ("", SAYS + "os.kill(os.getpid(), 9)"),
    "displays": ("", "display(s); display({'text/markdown': s, 'application/json': {'k': [s]}}, raw=True)"),
    "too big": ("--max-result 1KB --files kept", "[s] * 1000"),
    "a child": ("", "import subprocess\nsubprocess.run(['sh', '-c', 'echo $PLANTED_TOKEN; env']);"),
}  # fmt: skip
LOOK = """
import json
def looked():
    for verb in ("show last", "logs last", "spec last", "jobs --all", "", "attach last", "get last"):
        try:
            print(verb, repr(get_ipython().run_line_magic("bacalhau", verb)))
        except BaseException as problem:
            print(verb, repr(problem), vars(problem))
    job = _bacalhau
    print(job, vars(job), job.error, job.error and vars(job.error), job.stdout, job.stderr, job.outputs, list(job.logs()), job.events)
    print(job.snapshot, job.request, job.route, job.ref, job.known_result and vars(job.known_result.record.job))
looked()
"""


def everything(ran: Ran) -> str:
    """All that a cell sent to the front end, whatever its kind."""
    return json.dumps(ran.outputs, ensure_ascii=False) + json.dumps(ran.reply, ensure_ascii=False) + ran.text


def below(*folders: Path) -> list[str]:
    """The files of these folders that have the secret; at least one result is among them."""
    found = [found_below(folder) for folder in folders]
    assert sum(results for _, _, results in found) > 0
    return [name for names, _, _ in found for name in names]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)


SCRIPT = f"""
import logging, traceback
logging.basicConfig(level=logging.DEBUG)
from bacalhau_magic import run, submit
code = {CODE!r}
def told(key):
    import os
    print(os.environ['PLANTED_TOKEN'])
    return len(os.environ['PLANTED_TOKEN']) + key
print(run(told, 1, secret="PLANTED_TOKEN"))
job = submit(code + {SAYS!r} + "len(s)", secret="PLANTED_TOKEN")
print(job.result(), repr(job), vars(job), job.stdout, job.events, list(job.logs()))
for more in ("raise RuntimeError(s)", "1/0 if s else 0", "[s]", "sys.exit(s)"):
    try:
        print(repr(run(code + more, secret="PLANTED_TOKEN")))
    except BaseException as problem:
        traceback.print_exc()
        print(vars(problem), problem.args)
for options in ({{"secret": ["PLANTED_TOKEN"], "env": {{"X": "1"}}, "inputs": {{"x": "me " + __import__("os").environ["PLANTED_TOKEN"]}}}},):
    try:
        run("1", **options)
    except Exception as problem:
        traceback.print_exc()
        print(vars(problem), problem.args)
"""


def test_from_python(planted: None, tmp_path: Path) -> None:
    """`run` and `submit` of a plain program print, log and raise nothing of it, whatever the logging level."""
    (tmp_path / "told.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "told.py"], capture_output=True, text=True, cwd=tmp_path, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{len(SECRET) + 1}\n" in done.stdout, done.stdout
    assert MARK in done.stdout
    assert "holds the value of PLANTED_TOKEN" in done.stderr
    assert seen(done.stdout + done.stderr) == []


def test_a_cached_result(planted: None, place: Path) -> None:
    """A stored result has none of it, also that of a failed cell; and what comes from the store shows none."""
    kernel = start(live=False, folder=place)
    try:
        cell = f"%%bacalhau --cache --secret PLANTED_TOKEN\n{CODE}{SAYS}display(s)\nlen(s)"
        assert kernel.run(cell).value == str(len(SECRET))
        again = kernel.run(cell)
        assert again.value == str(len(SECRET))
        assert seen(everything(again) + everything(kernel.run(LOOK)) + everything(kernel.run("%bacalhau cache"))) == []
        assert MARK in again.text
        kernel.run(f"%%bacalhau --cache --secret PLANTED_TOKEN\n{CODE}raise RuntimeError(s)")
        folders = [Path(os.environ[name]) for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME") if name in os.environ]
        assert below(*folders, Path(os.environ["HOME"])) == []
    finally:
        kernel.stop()


def test_across_a_restart(planted: None, place: Path) -> None:
    """A background job whose kernel ended is attached to by the next one, which gets its value and sees none of its secret."""
    first = start(live=False, folder=place)
    cell = f"%%bacalhau --bg --job far --secret PLANTED_TOKEN -o size\n{CODE}{SAYS}import time; time.sleep(2); size = len(s)"
    try:
        assert seen(everything(first.run(cell))) == []
        job = (first.run("far.id").value or "").strip("'")
    finally:
        first.stop()
    second = start(live=True, folder=place)
    try:
        for look in (f"%bacalhau attach {job} -o size", LOOK):
            assert seen(everything(second.run(look))) == [], look
        assert second.run("size").value == str(len(SECRET))
    finally:
        second.stop()


# By every executor: last, because the one without bubblewrap changes this process's PATH until the module's end


@pytest.fixture(scope="module", params=[pytest.param("container", marks=pytest.mark.container), "process"])
def ran_by(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, str]]:
    """A kernel with the secret, and the options with which its cells run by that executor."""
    if request.param == "process":
        kernel: Kernel = request.getfixturevalue("bare")
        kernel.run(f"import os\nos.environ['PLANTED_TOKEN'] = {SECRET!r}")
        yield kernel, ""
        return
    kernel = start(live=False, folder=tmp_path_factory.mktemp("contained"), PLANTED_TOKEN=SECRET)
    yield kernel, f"--image {images.IMAGE}"
    kernel.stop()


@pytest.mark.parametrize("name", CELLS)
def test_by_every_executor(ran_by: tuple[Kernel, str], name: str) -> None:
    """A cell that does with its secret what it likes leaves it in no output, error, attribute, log or spec, plain or encoded."""
    kernel, options = ran_by
    line, cell = CELLS[name]
    ran = kernel.run(f"%%bacalhau {options} --secret PLANTED_TOKEN {line}\n{CODE}{cell}")
    assert seen(everything(ran)) == []
    looks = kernel.run(LOOK)
    assert looks.error is None, looks.text
    assert seen(everything(looks)) == []
    marks = everything(ran) + everything(looks)
    assert MARK in marks or "holds the secret PLANTED_TOKEN" in marks, "the cell did not use its secret: " + ran.text


def test_no_file_of_the_node_has_it(ran_by: tuple[Kernel, str]) -> None:
    """The node's state, its logs and the ledger have nothing of it after these jobs, in their results neither."""
    kernel, options = ran_by
    ran = kernel.run(f"%%bacalhau {options} --secret PLANTED_TOKEN --files kept\n{CODE}{SAYS}open('outputs/fine', 'w').write('x')\nlen(s)")
    assert ran.value == str(len(SECRET)), ran.text
    home = kernel.run("import os; print(os.environ['XDG_DATA_HOME'], os.environ['XDG_RUNTIME_DIR'])").text.split()
    assert below(*map(Path, home)) == []
