"""Real kernels with our extension loaded, driven over the Jupyter protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernels import Kernel, start


@pytest.fixture(scope="module")
def batch() -> Iterator[Kernel]:
    """A kernel that nobody watches, as nbclient and papermill run it."""
    kernel = start(live=False)
    yield kernel
    kernel.stop()


@pytest.fixture
def live() -> Iterator[Kernel]:
    """A kernel with a live front end."""
    kernel = start(live=True)
    yield kernel
    kernel.stop()
