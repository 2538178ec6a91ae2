"""--allow-pickle: what can't travel else goes as a pickle, when the cell's own line says so, and only then."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from kernels import Kernel

from bacalhau_magic.remote import codec

SETUP = """
import collections, re, threading
from bacalhau_magic import run, submit
class Counter:
    def __init__(self, n):
        self.n = n
    def more(self):
        return Counter(self.n + 1)
def double(x): return 2 * x
counter, groups = Counter(4), collections.defaultdict(list, a=[1])
held = {"f": double, "c": [counter, counter]}
lock = threading.Lock()
class Trap:
    def __reduce__(self):
        return exec, ("import builtins; builtins.sprung = True",)
"""


@pytest.fixture(scope="module", autouse=True)
def defined(shell: Kernel) -> None:
    assert shell.run(SETUP.strip()).error is None


def test_without_it_nothing_is_pickled(shell: Kernel) -> None:
    """An instance of a plain class is refused, and the option is named."""
    ran = shell.run("%%bacalhau -i counter\ncounter.n")
    assert ran.error is not None
    assert ran.error[0] == "UnsendableInputError"
    assert "--allow-pickle" in ran.text
    back = shell.run("%%bacalhau -o c\nimport re\nc = re.compile('a')")
    assert back.error is not None
    assert back.error[0] == "ResultError"


def test_both_ways(shell: Kernel) -> None:
    """Instances of the notebook's classes, functions by their name, and shared objects travel there and back, with the source that they need."""
    ran = shell.run(
        "%%bacalhau --allow-pickle -i counter,groups,held -o more,same,groups\nmore = counter.more()\nsame = held['c'][0] is held['c'][1], held['f'](4)\ngroups['b'].append(2)"
    )
    assert ran.error is None, ran.text
    assert shell.run("type(more) is Counter, more.n, same, type(groups).__name__, dict(groups)").value == (
        "(True, 5, (True, 8), 'defaultdict', {'a': [1], 'b': [2]})"
    )
    assert "counter goes as a pickle" in shell.run("_bacalhau.request.notices").text
    assert shell.run("run('q.pattern', inputs={'q': re.compile('a')}, allow_pickle=True, quiet=True)").value == "'a'"


def test_what_pickle_can_not_either_is_refused_by_name(shell: Kernel) -> None:
    """A lock stays what can't be sent, and a class of the cell alone what nobody here has."""
    ran = shell.run("%%bacalhau --allow-pickle -i lock\n1")
    assert ran.error is not None
    assert "pickle can't either" in ran.error[1]
    gone = shell.run("%%bacalhau --allow-pickle -o mine\nclass Mine: pass\nmine = Mine()")
    assert gone.error is not None
    assert "Mine, which only the cell has" in gone.error[1]


def test_a_job_s_own_pickle_is_not_read_unless_the_cell_said_so(shell: Kernel) -> None:
    """A job that sends a pickle of its own to a cell without the option runs nothing here."""
    cell = """
import sys, pickle
codec = sys.modules["_bacalhau_codec"]
class Trap:
    def __reduce__(self):
        return exec, ("import builtins; builtins.sprung = True",)
codec._WRITERS[complex] = lambda e, value: (e.put(b"K"), e.blob(pickle.dumps(Trap())))
1j"""
    ran = shell.run(f"%%bacalhau{cell}")
    assert ran.error is not None, ran.text
    assert ran.error[0] == "CorruptResultError"
    assert "it is a pickle" in ran.error[1]
    assert shell.run("import builtins; hasattr(builtins, 'sprung')").value == "False"


def test_a_recording_s_pickle_is_never_read(shell: Kernel, tmp_path: Path) -> None:
    """A replay does not unpickle what was recorded, whatever the cell says."""
    cell = "%%bacalhau --allow-pickle\nimport re\nre.compile('a')"
    shell.run(f"%bacalhau record {tmp_path}/p.yaml")
    first = shell.run(cell)
    assert first.error is None, first.text
    shell.run(f"%bacalhau replay {tmp_path}/p.yaml")
    again = shell.run(cell)
    shell.run("%bacalhau live")
    assert again.error is not None, again.text
    assert "it is a pickle" in again.error[1]


@pytest.mark.parametrize("option", ["--cache", "--refresh"])
def test_a_pickle_is_not_stored(shell: Kernel, option: str) -> None:
    """--allow-pickle beside the cache is refused: the next run could not read what the first one stored."""
    ran = shell.run(f"%%bacalhau --allow-pickle {option}\n1")
    assert ran.error is not None, ran.text
    assert "a stored pickle is never read" in ran.error[1]


def test_a_configured_cache_is_left_out_beside_pickles(shell: Kernel) -> None:
    """Where the cache is configured, a cell with --allow-pickle runs without it, each time, and says so."""
    shell.run("%bacalhau config cache=true")
    cell = "%%bacalhau --allow-pickle\nimport re\nre.compile('a')"
    first, again = shell.run(cell), shell.run(cell)
    shell.run("%bacalhau config cache=false")
    assert (first.error, again.error) == (None, None), again.text
    assert (
        shell.run("_bacalhau.request.options.cache, 'configured cache is left out' in str(_bacalhau.request.notices)").value
        == "(False, True)"
    )


@pytest.mark.parametrize("tail", [b"", b"\x05", b"\xff", b"\x03abc"])
def test_a_damaged_pickle_is_an_error(tail: bytes) -> None:
    """What is no pickle ends in a CodecError, with the option and without."""
    for allowed in (False, True):
        with pytest.raises(codec.CodecError):
            codec.loads(codec.MAGIC + b"K" + tail, pickles=allowed)


def test_a_pickle_is_read_only_where_it_is_allowed() -> None:
    """The bytes alone say that they are a pickle."""
    data = codec.dumps(Path, pickles=True)
    assert codec.is_pickle(data)
    assert codec.loads(data, pickles=True) is Path
    with pytest.raises(codec.CodecError, match="it is a pickle"):
        codec.loads(data, trusted=True)
    assert pickle.loads(data[6:]) is Path


def test_configuration_can_not_allow_it(shell: Kernel) -> None:
    """Neither a project nor the environment can say it for a cell."""
    ran = shell.run("%bacalhau config allow_pickle=true")
    assert ran.error is not None
    assert "allow_pickle" in ran.error[1]


def test_other_languages_have_no_pickles(shell: Kernel) -> None:
    """Beside Bash the option is refused, with the reason."""
    ran = shell.run("%%bacalhau --lang bash --allow-pickle\necho 1")
    assert ran.error is not None
    assert "pickles are Python's" in ran.error[1]
