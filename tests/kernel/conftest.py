"""Real kernels with our extension loaded, driven over the Jupyter protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from kernels import Kernel, start


@pytest.fixture(scope="module")
def batch() -> Iterator[Kernel]:
    """A kernel that nobody watches, as nbclient and papermill run it."""
    kernel = start(live=False)
    yield kernel
    kernel.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the notebook of `shell`."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def shell(place: Path) -> Iterator[Kernel]:
    """A batch kernel in a folder of its own."""
    kernel = start(live=False, folder=place)
    yield kernel
    kernel.stop()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A scripted cluster."""
    found = Cluster()
    yield found
    found.stop()


@pytest.fixture
def live() -> Iterator[Kernel]:
    """A kernel with a live front end."""
    kernel = start(live=True)
    yield kernel
    kernel.stop()


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
