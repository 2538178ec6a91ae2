"""Which view a place gets."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import Finished, Printed
from bacalhau_magic.progress import NoView, bundle, choose_view
from bacalhau_magic.progress._card import CardView
from bacalhau_magic.progress._text import TextView


@pytest.mark.parametrize(
    ("kind", "place", "view"),
    [
        ("auto", "notebook", CardView),
        ("widget", "notebook", CardView),
        ("text", "notebook", TextView),
        ("none", "notebook", NoView),
        ("auto", "terminal", TextView),
        ("widget", "terminal", TextView),
        ("none", "terminal", NoView),
        ("auto", "batch", NoView),
        ("widget", "batch", NoView),
        ("text", "batch", NoView),
    ],
)
def test_a_place_has_its_view(kind: str, place: str, view: type) -> None:
    """A card in a notebook, text in a terminal, nothing where nobody looks."""
    assert type(choose_view(kind, place)) is view


def test_no_view_leaves_everything_to_the_outputs() -> None:
    """Without a view neither log nor bundle were shown."""
    view = choose_view("none", "notebook")
    assert view.shows_log is False
    assert view.close(Snapshot(started=0, now=0), bundle("completed"), {}) is False


def test_text_in_a_notebook_leaves_the_bundle_to_the_outputs() -> None:
    """In a notebook the bundle comes whatever the progress was shown as; stderr stays the job's."""
    out = io.StringIO()
    view = choose_view("text", "notebook", out=out)
    snapshot = Snapshot(started=0, now=0)
    view.open(snapshot)
    snapshot = snapshot.after(Printed("stdout", "hi\n"), 1).after(Finished("completed", ""), 2)
    view.draw(snapshot)
    assert view.close(snapshot, bundle("completed"), {}) is False
    assert "hi\n" in out.getvalue()
    assert "completed" not in out.getvalue()


def test_a_terminal_imports_no_widgets() -> None:
    """Text costs nothing of Jupyter's import time."""
    code = "import sys; from bacalhau_magic.progress import choose_view; choose_view('auto', 'terminal'); print({'IPython', 'anywidget'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
