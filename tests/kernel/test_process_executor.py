"""Cells where bubblewrap is missing: they run as plain processes, which is said once, and what can't be kept is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Kernel, start


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel whose node finds no bubblewrap: a PATH of links to all else that cells need."""
    home = tmp_path_factory.mktemp("bare")
    tools = home / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "ls", "cat", "env", "tee", "awk", "wc", "head", "tail", "tr", "base64", "sha256sum", "mkfifo", "setsid", "mkdir", "rm", "ln", "sleep", "gzip", "mv", "dirname"):  # fmt: skip
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python").symlink_to(sys.executable)
    own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{tools}"}
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME"):
        (home / name[4:7]).mkdir(mode=0o700)
        own[name] = str(home / name[4:7])
    before = {name: os.environ[name] for name in own}
    os.environ.update(own)
    try:
        kernel = start(live=False, folder=home)
        yield kernel
        kernel.stop()
        subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], capture_output=True, timeout=60, check=False)
    finally:
        os.environ.update(before)


def test_it_is_said_and_works(bare: Kernel) -> None:
    """The cell runs; status names the executor and why; the notice that it is not isolated comes once a session."""
    assert bare.run("%%bacalhau\n6 * 7").value == "42"
    assert "process" in (bare.run("%bacalhau").value or "")
    assert bare.run("any('Not isolated' in n for n in _bacalhau.snapshot.notices)").value == "True"
    bare.run("%%bacalhau\n1")
    assert bare.run("any('Not isolated' in n for n in _bacalhau.snapshot.notices)").value == "False"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--sandbox", "cells are not isolated there"),
        ("--network none", "can't close the network"),
    ],
)
def test_a_limit_that_it_can_not_keep(bare: Kernel, line: str, said: str) -> None:
    """An asked limit that a plain process can't keep is refused with the reason, before anything is sent."""
    jobs = "len(get_ipython().run_line_magic('bacalhau', 'jobs --all'))"
    before = bare.run(jobs).value
    ran = bare.run(f"%%bacalhau {line}\n1")
    assert ran.error is not None
    assert said in re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    assert "bubblewrap" in ran.text
    assert bare.run(jobs).value == before


def test_outputs_has_no_place_at_the_root(bare: Kernel) -> None:
    """A cell that writes to /outputs is told that its folder is outputs/."""
    assert "write outputs/x, in the cell's working folder" in bare.run("%%bacalhau\nopen('/outputs/x', 'w')").text
