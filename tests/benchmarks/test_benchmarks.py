"""Ratios against a peer, both measured in the same run; nothing here asserts a time."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

_ROUNDS = 15
_BUDGET = 4.0
"""Seconds for one comparison: on a busy machine it makes fewer rounds."""


def _alternated(*calls: Callable[[], object], rounds: int = _ROUNDS, pause: float = 0.0) -> list[float]:
    """Medians in milliseconds of calls that take turns, after one of each to warm up.

    `pause` in seconds lies before each call, and is not measured: what one leaves to be done must not slow the next.
    """
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    until = time.monotonic() + _BUDGET
    while len(times[0]) < rounds and (len(times[0]) < 3 or time.monotonic() < until):
        for call, kept in zip(calls, times, strict=True):
            time.sleep(pause)
            began = time.perf_counter()
            call()
            kept.append((time.perf_counter() - began) * 1000)
    return [statistics.median(kept) for kept in times]


@pytest.fixture(scope="module")
def shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    shell.run_line_magic("load_ext", "bacalhau_magic")
    return shell


def _cell(shell: Any, options: str = "") -> Callable[[], None]:
    def call() -> None:
        assert shell.run_cell_magic("bacalhau", f"-q --progress none {options}", "1 + 1") == 2

    return call


def _script(shell: Any) -> Callable[[], None]:
    def call() -> None:
        shell.run_cell_magic("script", f"{sys.executable} --out said", "print(1 + 1)")
        assert shell.user_ns["said"] == "2\n"

    return call


def test_cell_against_script(shell: Any, report: Callable[[str], None]) -> None:
    """Cell → value on the embedded node, beside IPython's %%script python, which isolates nothing.

    A plain cell finds a sandbox prepared; one with a variable of its own starts cold.
    """
    mine, cold, other = _alternated(_cell(shell), _cell(shell, "--env A=1"), _script(shell), pause=0.1)
    report(f"cell → value: {mine:.1f} ms, %%script python: {other:.1f} ms, ratio {mine / other:.2f}")
    report(f"the same in a sandbox that starts cold: {cold:.1f} ms, ratio {cold / other:.2f}")


def test_cells_in_a_row_against_scripts(shell: Any, report: Callable[[str], None]) -> None:
    """Eight cells without a pause between them, as "Run all" sends them, beside eight %%script python."""

    def row(call: Callable[[], None]) -> Callable[[], None]:
        return lambda: [call() for _ in range(8)] and None

    mine, other = _alternated(row(_cell(shell)), row(_script(shell)), rounds=5, pause=0.1)
    report(f"8 cells in a row: {mine:.0f} ms, 8 %%script python: {other:.0f} ms, ratio {mine / other:.2f}")


def test_loading_against_bare_ipython(report: Callable[[str], None]) -> None:
    """%load_ext bacalhau_magic beside a shell that loads nothing."""
    start = (
        "from IPython.core.interactiveshell import InteractiveShell as S\nfrom traitlets.config import Config\n"
        "c = Config(); c.HistoryManager.enabled = False\ns = S(config=c)\n"
    )

    def process(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    mine, other = _alternated(
        lambda: process(start + "s.run_cell('%load_ext bacalhau_magic')"), lambda: process(start + "s.run_cell('0')"), rounds=9
    )
    report(f"%load_ext: {mine:.0f} ms, bare IPython: {other:.0f} ms, {mine - other:+.0f} ms more, ratio {mine / other:.2f}")


@pytest.mark.parametrize("megabytes", [1, 5, 20])
def test_result_against_the_raw_log(shell: Any, report: Callable[[str], None], megabytes: int) -> None:
    """A result of incompressible bytes beside the same number of bytes in the raw log stream."""
    from bacalhau_magic import _flow, _session

    session = _session.session()
    count = megabytes * 1_000_000

    def ours() -> None:
        got = shell.run_cell_magic("bacalhau", "-q --progress none", f"import os\nos.urandom({count})")
        assert len(got) == count

    client = session.client(session.local_target().endpoint)

    def peer() -> None:
        request = session.request(
            f"import os\nfor _ in range({count} // 16000): print(os.urandom(8000).hex())", _options("--max-result", "1KB")
        )
        body = json.loads(_flow.prepare(request, session.means)[1].body)
        body["Job"]["Tasks"][0]["Engine"]["Params"]["Entrypoint"] = ["python", "-c", request.code]
        job = client.submit(json.dumps(body).encode()).job_id
        got = 0
        while got < count // 16000 * 16001:
            try:
                with client.logs(job) as stream:
                    got = sum(len(text) for _, text in stream)
            except Exception:  # noqa: BLE001 - no execution yet
                time.sleep(0.005)

    mine, other = _alternated(ours, peer, rounds=5, pause=0.1)
    report(f"{megabytes} MB result: {mine:.0f} ms, {megabytes} MB raw log: {other:.0f} ms, ratio {mine / other:.2f}")


def _options(*words: str) -> Any:
    from bacalhau_magic import _argspec

    return _argspec.parse(" ".join(words))
