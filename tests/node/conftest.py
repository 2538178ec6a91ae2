"""One embedded node for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import embedded
import pytest


@pytest.fixture(scope="module")
def node() -> Iterator[embedded.Node]:
    """A running node, shared by a module's tests."""
    with embedded.running() as running:
        yield running
