"""Cells where bubblewrap is missing: they run as plain processes, which is said once, and what can't be kept is refused."""

from __future__ import annotations

import re

import pytest
from kernels import Kernel


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
