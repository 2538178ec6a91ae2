"""A job's log is bounded here, whatever is printed; the whole of it is the node's."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic import submit
from bacalhau_magic._joblog import HEAD, TAIL, LogBuffer

streams = st.sampled_from(["stdout", "stderr"])


@given(st.lists(st.tuples(streams, st.text(max_size=30)), max_size=60), st.integers(0, 50), st.integers(1, 50))
def test_the_beginning_and_the_end_are_kept(added: list[tuple[str, str]], head: int, tail: int) -> None:
    """A log keeps its first and its last characters in their order, knows how many are between, and counts all."""
    buffer = LogBuffer(head, tail)
    for stream, text in added:
        buffer.add(stream, text)
    whole = [(stream, letter) for stream, text in added for letter in text]
    lost = max(0, len(whole) - head - tail)
    assert buffer.dropped == lost
    kept = [(stream, letter) for stream, text in buffer.pieces() if "of the log are left out here" not in text for letter in text]
    assert kept == (whole[:head] + whole[head + lost :] if lost else whole)
    assert buffer.counts == {name: sum(len(text) for stream, text in added if stream == name) for name in ("stdout", "stderr")}


def test_memory_is_bounded() -> None:
    """Hours of small pieces take no more than the characters that are kept, and little around them."""
    buffer = LogBuffer(10_000, 100_000)
    tracemalloc.start()
    for number in range(100_000):
        buffer.add("stdout", f"{number % 7}\n")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 3 * 110_000
    assert buffer.dropped == 200_000 - 110_000


pytestmark = pytest.mark.usefixtures("own_session")


COUNT = 60_000
LONG = f"""
import sys
for n in range({COUNT}):
    print('line', n, '.' * 100)
    if n % 1000 == 0: print('err', n, file=sys.stderr)
"""


def numbers(found: list[tuple[str, str]], stream: str) -> list[int]:
    return [int(line.split()[1]) for name, line in found if name == stream and line]


def test_the_whole_log_is_read_from_the_node() -> None:
    """job.logs() gives every line of a long log once, although only its ends are kept here."""
    job = submit(LONG)
    job.result()
    assert job._log.dropped > 1_000_000
    found = list(job.logs())
    assert numbers(found, "stdout") == list(range(COUNT))
    assert numbers(found, "stderr") == list(range(0, COUNT, 1000))


def test_following_a_long_log_has_no_seam() -> None:
    """Who begins to follow late gets what was before from the node and goes on with what comes: each line once."""
    job = submit(
        f"{LONG}\nimport time\nprint('line', n + 1, flush=True)\ntime.sleep(3)\nfor m in range(n + 2, n + 102): print('line', m, flush=True)"
    )
    for _, line in job.logs(follow=True):
        if line == f"line {COUNT}":
            break
    assert numbers(list(job.logs(follow=True)), "stdout") == list(range(COUNT + 101))


def test_a_log_that_the_node_lost_says_what_is_missing() -> None:
    """Where the whole can't be read any more, the beginning and the end are given, with the gap between them said."""
    job = submit(LONG)
    job.result()
    job.client_of = None
    lines = [line for _, line in job.logs()]
    assert f"line 0 {'.' * 100}" in lines
    assert f"line {COUNT - 1} {'.' * 100}" in lines
    assert sum("characters of the log are left out here" in line for line in lines) == 1
    assert sum(map(len, lines)) < HEAD + TAIL + 1000
