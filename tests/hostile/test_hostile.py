"""The hostile corpus: every file ends in a named error or harmless text, within bounded memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import hostile
import pytest

pytestmark = pytest.mark.timeout(600)
READING = Path(hostile.__file__).with_name("reading.py")
NAMES = sorted(path.relative_to(hostile.DATA).as_posix() for path in hostile.DATA.rglob("*") if path.is_file())
LIMITED = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are kept on Linux alone")


@cache
def ended(kind: str) -> dict[str, str]:
    """How each file of a kind ended, read by a process of its own under limits of memory and time."""
    # A library's own trace of where it gave up would want more memory than there is.
    env = os.environ | {"RUST_BACKTRACE": "0"}
    # Its own limit is of the processor's time; on a busy machine a minute of that takes several.
    done = subprocess.run([sys.executable, str(READING), kind], capture_output=True, text=True, timeout=550, check=False, env=env)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return dict(json.loads(line) for line in done.stdout.splitlines())


@LIMITED
@pytest.mark.parametrize("name", NAMES)
def test_it_ends_in_a_named_error_or_harmless_text(name: str) -> None:
    """Nothing is taken for what it is not, nothing lands outside, and memory and time are bounded."""
    kind, _, file = name.partition("/")
    how = ended(kind)[file]
    allowed = {
        "archives": ("ResultError: ", "files "),
        "packets": ("The result", "No result", "no packets"),
        "bundles": ("PacketError: ",),
        "values": ("CodecError: ",),
        "json": ("UnexpectedAnswerError: ",),
        "logs": ("text",),
    }[kind]
    assert how.startswith(allowed), how
    assert "\x1b" not in how


@LIMITED
def test_what_is_no_file_is_left_out() -> None:
    """Links and devices are left out of a job's files; paths outside and duplicates are refused, all before a byte is written."""
    how = ended("archives")
    for name in ("link", "hard-link", "device"):
        assert how[f"{name}.tar.gz"] == "files 0 | unpacked"
    for name in ("outside", "absolute", "twice", "bomb", "many", "lies"):
        assert "InputProblem" in how[f"{name}.tar.gz"] or how[f"{name}.tar.gz"].startswith("ResultError"), how[f"{name}.tar.gz"]


def _content(data: bytes) -> bytes:
    """What is in it, unpacked where it is packed: libraries pack in their own ways."""
    for form in (31, 15):
        try:
            return zlib.decompressobj(form).decompress(data)
        except zlib.error:
            continue
    return data


def test_the_script_makes_the_corpus() -> None:
    """What lies in the corpus's folder is what its script makes."""
    made = hostile.corpus()
    assert sorted(made) == NAMES
    there = {name: (hostile.DATA / name).read_bytes() for name in NAMES if not name.endswith("cut.tar.gz")}
    assert [name for name, data in there.items() if _content(data) != _content(made[name])] == []
