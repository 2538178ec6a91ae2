"""The card's two halves: the widget in a real kernel-less IPython, and the pure functions of its script in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import bacalhau_magic.progress
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import Finished, PhaseChanged, Printed
from bacalhau_magic.progress import bundle
from bacalhau_magic.progress._card import Card, CardView

SCRIPT = Path(bacalhau_magic.progress.__file__).with_name("card.js")
START = Snapshot(started=100.0, now=100.0)


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A real IPython shell without a front end."""
    yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def test_a_card_says_no_more_than_that_it_runs() -> None:
    """The card's text, which a notebook may keep, has neither id nor time."""
    assert repr(Card(snapshot=START.as_json())) == "bacalhau: running"


def test_a_press_on_stop_reaches_the_callable() -> None:
    """Stop is a message of the front end, for one of many jobs or for all; others, and a stop that fails, are harmless."""
    asked: list[int | None] = []

    def stop(number: int | None) -> None:
        asked.append(number)
        raise RuntimeError("the endpoint is gone")

    card = Card(on_stop=stop, snapshot={})
    for content in ({"kind": "stop"}, {"kind": "stop", "job": 3}, {"kind": "stop", "job": "3"}, {"kind": "else"}, "stop", None):
        card._handle_custom_msg(content, [])
    assert asked == [None, 3]


def test_only_news_is_sent(shell: InteractiveShell) -> None:
    """A tick that brings nothing new sends nothing, although time went on."""
    view = CardView()
    with capture_output():
        view.open(START)
    sent: list[Any] = []
    view._card.observe(lambda change: sent.append(change["new"]["title"]), "snapshot")
    view.draw(START)
    view.draw(START.at(105.0))
    view.draw(START.after(PhaseChanged("running", "n-1"), 106.0))
    view.draw(START.after(PhaseChanged("running", "n-1"), 106.0).at(107.0))
    assert sent == ["Running"]


def test_the_log_stays_away_when_it_is_not_wanted(shell: InteractiveShell) -> None:
    """With logs off the card gets none of the log."""
    view = CardView(logs=False)
    with capture_output():
        view.open(START.after(Printed("stdout", "secret"), 101.0))
    assert view._card.snapshot["log"] == []


def test_a_closed_card_is_gone(shell: InteractiveShell) -> None:
    """At the end the widget is closed, the bundle has been sent into its place, and further calls do nothing."""
    view = CardView()
    with capture_output() as captured:
        view.open(START)
        card = view._card
        over = START.after(Finished("completed", ""), 101.0)
        assert view.close(over, bundle("completed"), {"bacalhau": {"job": "j-1"}}) is True
        view.draw(over)
    assert card.comm is None
    shown, update = captured.outputs
    assert shown.data["text/plain"] == "bacalhau: running"
    assert (update.data, update.metadata) == (bundle("completed"), {"bacalhau": {"job": "j-1"}})
    assert update.transient == shown.transient
    assert update.update is True


def test_without_an_open_card_nothing_was_replaced() -> None:
    """A view that could not open leaves the bundle to the outputs."""
    assert CardView().close(START, bundle("completed"), {}) is False


def in_node(expression: str) -> Any:
    """What an expression of the card's script gives, `card` being the script."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    code = f"import(process.argv[1]).then(card => console.log(JSON.stringify({expression})))"
    found = subprocess.run(
        [node, "--input-type=module", "-e", code, SCRIPT.as_uri()], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script under a name that Node.js reads as a module."""
    copy = tmp_path / "card.mjs"
    copy.write_bytes(SCRIPT.read_bytes())
    monkeypatch.setitem(globals(), "SCRIPT", copy)


@pytest.mark.usefixtures("script")
def test_the_browser_s_facts_are_python_s() -> None:
    """The script's line of facts at a moment reads as the snapshot's own at that moment, in every phase."""
    waiting = Snapshot(started=100.0, now=100.0, limit=300.0, queue_limit=600.0, resources="2 CPU")
    shots = [
        waiting,
        waiting.after(PhaseChanged("waiting"), 101.0),
        waiting.after(PhaseChanged("pulling", "n-2e2b7e09-1", "python:3.11"), 101.0),
        waiting.after(PhaseChanged("running", "n-2e2b7e09-1"), 101.0),
        Snapshot(started=100.0, now=100.0).after(PhaseChanged("running"), 101.0),
        waiting.after(Finished("completed", "bound: a (int)"), 101.0),
        waiting.after(Finished("failed", "x"), 101.0),
    ]
    for later in (140.0, 161.0, 400.0, 3700.0, 7400.0):
        shown = in_node(f"{json.dumps([shot.as_json() for shot in shots])}.map(shot => card.facts(shot, {later}))")
        assert shown == [shot.at(later).facts for shot in shots]


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ([["stdout", "a\nb\n"]], ["a", "b"]),
        ([["stdout", "a\n\nb"]], ["a", "", "b"]),
        ([["stdout", " 10 %\r 20 %"], ["stdout", "\r100 %\r\nend"]], ["100 %", "end"]),
        ([["stdout", "abc\b\bx"]], ["ax"]),
        ([["stdout", "\x1b[1;31mred\x1b[0m\x1b[2J\x1b]0;t\x07\x9b5A!"]], ["red!"]),
        ([["stdout", "\x1b[38;2;1;2;31mx"]], ["x"]),
        ([["stdout", "a\x1b["]], ["a"]),
        ([["stdout", "out"], ["stderr", "err\n"], ["stdout", "\n\nmore"]], ["out", "err", "", "more"]),
        ([["stderr", " 0 %"], ["stdout", "out\n"], ["stderr", "\r50 %\r"]], ["50 %", "out"]),
        ([], []),
    ],
)
def test_the_card_s_log_reads_as_on_a_terminal(log: list[list[str]], shown: list[str]) -> None:
    """Overwritten lines show once, as they last were, and no control character is left."""
    assert ["".join(run["text"] for run in line) for line in in_node(f"card.lines({json.dumps(log)})")] == shown


@pytest.mark.usefixtures("script")
def test_the_card_s_log_knows_colours_and_streams() -> None:
    """A run of text knows its stream and colour; a colour belongs to its stream."""
    log = [["stdout", "\x1b[1;32mg"], ["stderr", "e"], ["stdout", "g\x1b[0m."]]
    runs = [run for line in in_node(f"card.lines({json.dumps(log)})") for run in line]
    assert [(run["text"], run["stream"], run.get("color"), run.get("bold")) for run in runs] == [
        ("g", "stdout", 2, True),
        ("g", "stdout", 2, True),
        (".", "stdout", None, None),
        ("e", "stderr", None, None),
    ]
