"""Real kernels with our extension loaded, driven over the Jupyter protocol."""

from __future__ import annotations

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
