"""Executors to test, each with the limits of this machine's cgroups and without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import Bench

from bacalhau_magic.node.executors._bubblewrap import BubblewrapExecutor
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._process import ProcessExecutor

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture(params=["cgroups", "watched"])
def cgroups(request: pytest.FixtureRequest) -> Cgroups:
    if request.param == "watched":
        return Cgroups()
    found = Cgroups.found()
    if not found.memory:
        pytest.skip("no cgroup can be written here")
    return found


@pytest.fixture
def bubblewrap(bench: Bench, cgroups: Cgroups) -> BubblewrapExecutor:
    return bench.bubblewrap(cgroups)


@pytest.fixture
def process(bench: Bench, cgroups: Cgroups) -> ProcessExecutor:
    return bench.process(cgroups)
