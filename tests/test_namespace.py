"""Inputs taken from the namespace, and results bound into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bacalhau_magic import _namespace
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._namespace import PendingValue, bind, capture, mark
from bacalhau_magic._stages import InputItem
from bacalhau_magic.errors import OptionError, ResultError, UnsendableInputError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.remote import codec


def _take(inputs: Any, namespace: dict[str, Any], folder: Path, lang: str = "python", code: str = "") -> tuple[InputItem, ...]:
    return capture(code, JobOptions(inputs=inputs, lang=lang), BUILT_IN[lang], namespace, folder).items


def test_identifier_is_a_variable(tmp_path: Path) -> None:
    """A bare identifier is a global, commas split identifiers, and NAME= renames."""
    first, second, third = _take(["a,b", "c=a"], {"a": 1, "b": {2: (3,)}}, tmp_path)
    assert [(item.name, codec.loads(item.data)) for item in (first, second, third)] == [("a", 1), ("b", {2: (3,)}), ("c", 1)]


def test_anything_else_is_a_path(tmp_path: Path) -> None:
    """A path, a glob and a named path become files under their own or the given name."""
    for name in ("x.csv", "y.csv", "plain"):
        (tmp_path / name).write_text(name)
    items = _take(["*.csv", "table=x.csv", "./plain"], {"plain": 1}, tmp_path)
    assert [(item.path, item.kind) for item in items] == [("x.csv", "file"), ("y.csv", "file"), ("table", "file"), ("plain", "file")]


def test_commas_in_a_file_name_do_not_split(tmp_path: Path) -> None:
    """Commas split only where all parts are identifiers."""
    (tmp_path / "a,b.csv").write_text("1")
    assert [item.path for item in _take(["a,b.csv"], {}, tmp_path)] == ["a,b.csv"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("nope", "no such variable"),
        ("nope.csv", "there is no file nope.csv"),
        ("*.parquet", "no file matches"),
        ("x=y.csv=/etc/y", "can't be put"),
    ],
)
def test_missing_inputs_are_named(item: str, message: str, tmp_path: Path) -> None:
    """What is not there is refused by name, with what was looked for."""
    with pytest.raises((UnsendableInputError, OptionError), match=message):
        _take([item], {}, tmp_path)


def test_urls_have_no_target(tmp_path: Path) -> None:
    """`=/` inside a URL is part of the URL."""
    (item,) = _take(["data=https://example.org/x?path=/y"], {}, tmp_path)
    assert (item.name, item.url) == ("data", "https://example.org/x?path=/y")


def test_from_python_a_str_is_a_value_and_a_path_a_path(tmp_path: Path) -> None:
    """In run(inputs={…}) a text travels as a text, a pathlib.Path as a file."""
    (tmp_path / "f.txt").write_text("f")
    text, file = _take({"text": "f.txt", "file": tmp_path / "f.txt"}, {}, tmp_path)
    assert (text.kind, codec.loads(text.data)) == ("value", "f.txt")
    assert (file.kind, file.path) == ("file", "file")


def test_unsendable_is_refused_by_name(tmp_path: Path) -> None:
    """A value that can't travel is refused with its name and type."""
    with pytest.raises(UnsendableInputError, match="'lock'") as refused:
        _take(["lock"], {"lock": {"inner": object()}}, tmp_path)
    assert refused.value.name == "lock"
    assert "object" in refused.value.reason


def test_other_languages_get_plain_files(tmp_path: Path) -> None:
    """JSON for plain values, CSV for frames, .npy for arrays; texts and numbers are texts for $NAME too."""
    values = {"n": 3, "t": "é", "o": {"a": [1]}, "f": pd.DataFrame({"x": [1, 2]}), "a": np.arange(3)}
    items = {item.name: item for item in _take(["n,t,o,f,a"], values, tmp_path, "bash")}
    assert {name: item.path for name, item in items.items()} == {"n": "n.json", "t": "t.json", "o": "o.json", "f": "f.csv", "a": "a.npy"}
    assert {name: item.text for name, item in items.items()} == {"n": "3", "t": "é", "o": None, "f": None, "a": None}
    assert json.loads(items["o"].data) == {"a": [1]}
    assert items["f"].data == b"x\n1\n2\n"
    with pytest.raises(UnsendableInputError, match="JSON"):
        _take(["s"], {"s": {1, 2}}, tmp_path, "bash")


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (pd.DataFrame({"x": [1, 2]}, index=["a", "b"]), b",x\na,1\nb,2\n"),
        (pd.DataFrame({"x": [1, 2]}, index=pd.Index([5, 6], name="id")), b"id,x\n5,1\n6,2\n"),
        (pd.DataFrame({"x": [1, 2]}, index=pd.RangeIndex(2, name="row")), b"row,x\n0,1\n1,2\n"),
        (pd.DataFrame({"x": [1, 2, 3]})[1:], b"x\n2\n3\n"),
        (pd.DataFrame({"k": ["a"], "l": ["b"], "x": [1]}).set_index(["k", "l"]), b"k,l,x\na,b,1\n"),
    ],
)
def test_an_index_that_says_something_goes_with_its_frame(tmp_path: Path, frame: pd.DataFrame, written: bytes) -> None:
    """In other languages an index is the first column, or several, unless it is a plain count of the rows."""
    assert _take(["f"], {"f": frame}, tmp_path, "bash")[0].data == written


def test_auto_sends_what_the_cell_reads(tmp_path: Path) -> None:
    """-i auto takes the free names of the cell, data as values and the rest as text, and says which."""
    namespace = {"a": 1, "b": 2, "np": np, "path": Path}
    captured = capture("b = a + np.pi\npath()", JobOptions(inputs=["auto"]), BUILT_IN["python"], namespace, tmp_path)
    assert [item.name for item in captured.items] == ["a"]
    assert [(step.name, step.source) for step in captured.steps] == [
        ("a", ""),
        ("np", "import numpy as np"),
        ("path", "from pathlib import Path as path"),
    ]
    assert captured.notices == ("Sends a.", "Sends the imports of np, path.")
    with pytest.raises(OptionError, match="Python cells only"):
        _take(["auto"], namespace, tmp_path, "bash")


def test_two_inputs_of_a_name_are_refused(tmp_path: Path) -> None:
    """One name can stand for one input."""
    with pytest.raises(OptionError, match="'a'"):
        _take(["a", "a"], {"a": 1}, tmp_path)


def test_marker_raises_on_use_and_names_the_job(tmp_path: Path) -> None:
    """A marker can be looked at; any use raises, and it can't be sent."""
    namespace: dict[str, Any] = {"x": 1}
    state = ["is running"]
    mark(namespace, ["x"], "job", lambda: (f"job j-1 {state[0]}", "Wait."))
    marker = namespace["x"]
    assert repr(marker) == "<job j-1 is running>"
    state[0] = "failed"
    for use in (lambda: marker + 1, lambda: 1 + marker, lambda: len(marker), lambda: bool(marker), lambda: marker.shape,
                lambda: marker[0], lambda: marker(), lambda: list(marker), lambda: marker == 1, lambda: f"{marker}", lambda: float(marker)):  # fmt: skip
        with pytest.raises(ResultError, match="job j-1 failed"):
            use()
    with pytest.raises(UnsendableInputError, match="job j-1 failed"):
        _take(["x"], namespace, tmp_path)


def test_a_job_binds_only_over_its_own_marker() -> None:
    """What the user put there since stays, and is said; another job's marker stays too."""
    namespace: dict[str, Any] = {}
    mine, other = object(), object()
    mark(namespace, ["a", "b", "c"], mine, lambda: ("mine", ""))
    namespace["b"] = "user's"
    mark(namespace, ["c"], other, lambda: ("other", ""))
    assert bind(namespace, {"a": 1, "b": 2, "c": 3}, mine) == ("b", "c")
    assert namespace["a"] == 1
    assert namespace["b"] == "user's"
    assert isinstance(namespace["c"], PendingValue)


def test_ipython_can_look_at_a_marker() -> None:
    """The marker has no rich repr to stumble over, so that a notebook shows its text."""
    namespace: dict[str, Any] = {}
    mark(namespace, ["x"], object(), lambda: ("waiting", ""))
    assert getattr(namespace["x"], "_repr_html_", None) is None
    assert _namespace.PendingValue in type(namespace["x"]).__mro__
