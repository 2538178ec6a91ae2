"""The codec: values come back as they went, and bytes from a stranger do no harm."""

import collections
import datetime
import enum
import fractions
import math
import pathlib
import struct
import subprocess
import sys
import uuid
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic.remote import codec

texts = st.text(st.characters(), max_size=20)  # lone surrogates as well
leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats() | st.complex_numbers() | texts | st.binary()
    | st.dates() | st.times() | st.timedeltas() | st.datetimes(timezones=st.none() | st.timezones()) | st.decimals(allow_nan=False) | st.fractions() | st.uuids()
)  # fmt: skip
hashables = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=10) | st.tuples(inner) | st.dictionaries(hashables, inner, max_size=4) | st.sets(hashables, max_size=3)
    ),
    max_leaves=20,
)


def same(a, b):
    """Equal in value and type, NaN equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (set, frozenset)):  # a NaN in it equals nothing, and the order is free
        rest = list(b)
        for item in a:
            found = next((place for place, other in enumerate(rest) if same(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return not rest
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    return a == b


@given(values)
def test_round_trip(value):
    """Any nested value comes back equal, in its own types."""
    assert same(value, codec.loads(codec.dumps(value)))


@pytest.mark.parametrize(
    "value",
    [
        10**40000,
        "\ud83d\ude00 and \ud800\udc00",
        bytearray(b"x"),
        range(1, 10**30, 7),
        pathlib.PurePosixPath("a/b"),
        pathlib.PureWindowsPath("C:\\x"),
        pathlib.Path("."),
        datetime.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3), "X")),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        list(range(1000)),
        [1.5] * 100,
        ["é", "\ud800", "\udc00", ""] * 10,
        [2**70] * 20,
        ((),) * 9,
        collections.OrderedDict([("b", 1), ("a", collections.OrderedDict())]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exact(value):
    """Each type of the contract comes back as itself."""
    back = codec.loads(codec.dumps(value))
    assert type(back) is type(value)
    assert back == value


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"a": [1, 2, 3, (i for i in ())]}, "x['a'][3]", "generator"),
        (collections.defaultdict(list), "x", "collections.defaultdict"),
        ((collections.namedtuple("P", "a")(1),), "x[0]", "P"),
        ({len: 1}, "x's key number 0", "builtin_function_or_method"),
    ],
    ids=["nested", "subclass", "namedtuple", "key"],
)
def test_refused_by_name(value, path, kind):
    """What can't travel exactly is refused with the path to it and its type."""
    with pytest.raises(codec.Unsendable) as caught:
        codec.dumps(value, "x")
    assert caught.value.path == path
    assert caught.value.type_name.endswith(kind)


def test_cycle():
    """A value that contains itself is refused."""
    value = {}
    value["a"] = [value]
    with pytest.raises(codec.Unsendable, match="contains itself"):
        codec.dumps(value)


def test_bound():
    """A value above the bound is refused while it is written, and when it is read."""
    with pytest.raises(codec.Unsendable, match="larger than"):
        codec.dumps(list(range(1000)), max_size=100)
    with pytest.raises(codec.CodecError, match="more than"):
        codec.loads(codec.dumps(list(range(1000))), max_size=100)


HUGE = b"\xff" + struct.pack("<Q", 1 << 60)


@pytest.mark.parametrize(
    "data",
    [
        b"l" + HUGE + b"-",
        b"l" + HUGE + b"f",
        b"l" + HUGE + b"s",
        b"S" + HUGE,
        b"s" + HUGE,
        b"I" + HUGE,
        b"l\x01-" * 5000 + b"N",
        b"d\x01-l\x00-\x01-N",
        b"q\x01\x01\x01\x00",
        b"r\x01\x01\x01\x01\x01\x00",
        b"D" + struct.pack("<HBB", 0, 0, 0),
        b"M" + struct.pack("<HBBBBBIB", 2020, 1, 1, 0, 0, 0, 0, 0) + b"z\x09../../etc",
        b"?",
        b"",
    ],
)
def test_hostile(data):
    """Huge counts, deep nesting, unhashable keys and wrong numbers are errors, before memory is taken."""
    with pytest.raises(codec.CodecError):
        codec.loads(b"BMC1" + data)


def test_memory_bomb():
    """Small bytes that would become a hundred times as much memory are refused."""
    with pytest.raises(codec.CodecError, match="memory"):
        codec.loads(b"BMC1l\xff" + struct.pack("<Q", 2_000_000) + b"-" + b"S\x00" * 2_000_000)


@given(values, st.data())
def test_damage(value, data):
    """Damaged or cut bytes give a value or a CodecError, nothing else."""
    whole = bytearray(codec.dumps(value))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    for piece in (whole, whole[:at]):
        try:
            codec.loads(bytes(piece))
        except codec.CodecError:
            pass


def test_arrays():
    """Arrays and scalars of numpy keep dtype, shape and bytes; a false size and objects are refused."""
    np = pytest.importorskip("numpy")
    for array in [
        np.arange(10.0).reshape(2, 5).T, np.zeros((0, 3)), np.array("2020", "M8[D]"), np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.float32(1.5), np.str_("a\0"), np.array(["é", "b"]), np.datetime64("NaT"), np.array([1], ">i4"), np.bool_(True),
    ]:  # fmt: skip
        back = codec.loads(codec.dumps(array))
        assert type(back) is type(array)
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    with pytest.raises(codec.Unsendable, match="dtype object"):
        codec.dumps(np.array([object()]))
    for head in (
        "('<f8', (1152921504606846976,), False)",
        "('|O', (1,), False)",
        "('<f8', (1, -1), False)",
        "('|S0', (99999999999,), False)",
    ):
        with pytest.raises(codec.CodecError):
            codec.loads(b"BMC1aa" + bytes([len(head)]) + head.encode() + b"\x00")


def test_frames():
    """Frames, series and indexes of pandas keep every dtype and index exactly."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2020", "2021"]).tz_localize("Europe/Berlin"), "d": pd.Categorical(["u", "v"], ordered=True),
            "e": pd.array([1, None], "Int64"), "f": [{"x": 1}, [1]], "g": pd.period_range("2020", periods=2, freq="M"), "h": pd.interval_range(0, 2),
            "i": pd.array(["a", None], "string"), "j": pd.to_timedelta([1, 2]), "k": pd.array([True, None], "boolean"), ("t", 1): [1.5, None],
        },
        index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["p", "q"]),
    )  # fmt: skip
    pd.testing.assert_frame_equal(frame, codec.loads(codec.dumps(frame)), check_freq=True)
    for index in [
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.RangeIndex(3, name="x"),
        pd.CategoricalIndex(["a"]),
        pd.Index(["a"]),
        pd.timedelta_range(0, periods=3),
    ]:
        series = pd.Series(range(len(index)), index=index, name=("a", 1))
        pd.testing.assert_series_equal(series, codec.loads(codec.dumps(series)), check_freq=True)
    with pytest.raises(codec.Unsendable, match=r"x\['f'\]\[1\] is of type object"):
        codec.dumps(pd.DataFrame({"f": [1, object()]}), "x")


def _array_bytes(array):
    return codec.dumps(array)[len(codec.MAGIC) + 2 :]


def test_a_lone_number_is_no_column():
    """A series whose column is a single number is damaged: it would be repeated for every row that the index claims."""
    import numpy as np
    import pandas as pd

    sent, column = codec.dumps(pd.Series([7])), _array_bytes(np.array([7]))
    assert sent.endswith(column)
    with pytest.raises(codec.CodecError, match="damaged"):
        codec.loads(sent[: -len(column)] + _array_bytes(np.array(7)))


def test_intervals_over_a_claimed_range_take_no_memory():
    """Intervals over ranges that only claim their length are refused before they are written out."""
    import pandas as pd

    head = codec.dumps(pd.interval_range(0, 2))
    head = head[: head.index(b"right") + len(b"right")]
    claimed = codec.dumps(pd.RangeIndex(0, 10**9))[len(codec.MAGIC) + 2 :]
    with pytest.raises(codec.CodecError, match="more memory"):
        codec.loads(head + claimed + claimed)


def test_a_value_imports_nothing_from_the_current_folder(tmp_path):
    """A library that a value names is not taken from a file that lies in the current folder, as one that a job left there."""
    (tmp_path / "torch.py").write_text("open('ran', 'w').close()")
    code = "from bacalhau_magic.remote import codec\ntry:\n    codec.loads(codec.MAGIC + b'Gt')\nexcept codec.CodecError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "a file of that name in the current folder" in done.stdout
    assert not (tmp_path / "ran").exists()


LARGE_VALUES = {
    "C order": lambda np: np.arange(300_000.0).reshape(300, 1000),
    "Fortran order": lambda np: np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
    "strided": lambda np: np.arange(600_000.0)[::2],
    "times": lambda np: np.arange(300_000).astype("datetime64[s]"),
    "structured": lambda np: np.zeros(200_000, [("a", "<f8"), ("b", ">i2")]),
    "booleans": lambda np: np.arange(2_000_000) % 3 == 0,
}


@pytest.mark.parametrize("kind", LARGE_VALUES)
def test_large_values_are_the_same_from_a_view(kind: str) -> None:
    """A value above a megabyte is read without a copy of its bytes, and is as it was, its own master and writable."""
    np = pytest.importorskip("numpy")
    array = LARGE_VALUES[kind](np)
    value = {"a": array, "text": "é" * 10, "list": [1, 2.5, None, 10**30], "bytes": b"\x00" * 2_000_000}
    data = codec.dumps(value)
    back = codec.loads(memoryview(bytearray(data)))
    assert {key: item for key, item in back.items() if key != "a"} == {key: item for key, item in value.items() if key != "a"}
    assert type(back["bytes"]) is bytes
    assert (back["a"].dtype, back["a"].shape, back["a"].flags.f_contiguous) == (
        array.dtype,
        array.shape,
        array.flags.f_contiguous or array.ndim == 1,
    )
    assert back["a"].tobytes() == array.tobytes()
    back["a"][...] = 0
    assert data == codec.dumps(value)
