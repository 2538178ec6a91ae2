"""One suite for every server: recorded answers of three versions, the embedded node, and a real Bacalhau."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted import RECORDED
from servers import Place, opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What no recording can answer is no test: a scenario that a version's answers don't hold, a job that nobody recorded.

    A scenario that no version's answers hold is a mistake, and ends the run.
    """
    items[:] = [item for item in items if item.path.parent != Path(__file__).parent or _can_be(item)]


def _params(item: pytest.Item) -> Mapping[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _can_be(item: pytest.Item) -> bool:
    params = _params(item)
    scenario = params.get("scenario")
    if scenario is not None and not any(RECORDED.glob(f"*/{scenario}.json")):
        raise pytest.UsageError(f"{item.nodeid}: no version's answers to {scenario!r} are recorded")
    answers = RECORDED / params.get("place", "")
    if answers == RECORDED or not answers.is_dir():
        return True
    return "running" not in item.fixturenames and (scenario is None or (answers / f"{scenario}.json").exists())


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
    return place
