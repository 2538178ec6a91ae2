"""The benchmarks' lines stand together at the end of the run, so that they are seen without -s."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fronts import chromium, lab, labextensions, page

__all__ = ["chromium", "lab", "labextensions", "page", "pytest_terminal_summary", "report"]

_LINES: list[str] = []


@pytest.fixture
def report() -> Callable[[str], None]:
    return _LINES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LINES:
        terminalreporter.section("benchmarks")
        for line in _LINES:
            terminalreporter.write_line(line)
