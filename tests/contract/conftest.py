"""One suite for every server: recorded answers of three versions, the embedded node, and a real Bacalhau."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from servers import Place, opened


@pytest.fixture(
    scope="module",
    params=["1.5.2", "1.7.0", "1.9.3", "embedded", pytest.param("real", marks=pytest.mark.cluster)],
    ids=lambda name: name if name in ("embedded", "real") else f"recorded-{name}",
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One server of the suite."""
    with ExitStack() as stack:
        yield opened(request.param, stack)


@pytest.fixture
def running(place: Place) -> Place:
    """A server that runs any job, not only recorded ones."""
    if not place.runs:
        pytest.skip("recorded answers run no new jobs")
    return place
