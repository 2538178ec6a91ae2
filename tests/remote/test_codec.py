"""The codec: values come back as they went, and bytes from a stranger do no harm."""

import collections
import datetime
import decimal
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
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau_magic.remote import codec

texts = st.text(st.characters(), max_size=20)  # lone surrogates as well
offsets = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23))
zones = st.none() | st.timezones() | st.builds(datetime.timezone, offsets) | st.builds(datetime.timezone, offsets, texts)
names = st.text(st.characters(exclude_characters="\0"), max_size=8)
leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.floats() | st.complex_numbers() | texts | st.binary()
    | st.dates() | st.times(timezones=zones) | st.timedeltas() | st.datetimes(timezones=zones) | st.decimals().filter(lambda number: not number.is_snan()) | st.fractions() | st.uuids()
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
    | st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path]).flatmap(lambda kind: st.lists(names, max_size=3).map(lambda parts: kind(*parts)))
)  # fmt: skip
hashables = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.tuples(inner)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=3)
        | st.binary().map(bytearray)
        | st.dictionaries(hashables, inner, max_size=3).map(collections.OrderedDict)
        | st.lists(hashables, max_size=4).map(collections.Counter)
        | st.builds(collections.deque, st.lists(inner, max_size=3), st.none() | st.integers(0, 4))
        | st.builds(collections.defaultdict, st.sampled_from([None, int, list, dict]), st.dictionaries(hashables, inner, max_size=3))
    ),
    max_leaves=20,
)


def same(a, b):
    """Equal in value and type, NaN equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(same, a, b)) and getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
    if isinstance(a, collections.defaultdict) and a.default_factory is not b.default_factory:
        return False
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
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime.datetime, datetime.time)):
        return (str(a.replace(tzinfo=None)), repr(a.tzinfo), a.fold) == (str(b.replace(tzinfo=None)), repr(b.tzinfo), b.fold)
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
        (collections.defaultdict(list, a=[type("D", (dict,), {})()]), "x['a'][0]", "D"),
        (collections.deque([collections.defaultdict(lambda: 1)]), "x[0]", "collections.defaultdict"),
        ((collections.namedtuple("P", "a")(1),), "x[0]", "P"),
        ({len: 1}, "x's key number 0", "builtin_function_or_method"),
    ],
    ids=["nested", "subclass", "factory", "namedtuple", "key"],
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


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict.fromkeys(range(10_000)),
        collections.Counter(range(10_000)),
        collections.defaultdict(list, dict.fromkeys(range(10_000))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_dict_of_another_class_is_as_large_as_a_dict(value):
    """An OrderedDict, a Counter or a defaultdict is read with little more memory than the same dict may take."""

    def left(value):
        decoder = codec.Decoder(codec.dumps(value))
        decoder.take(len(codec.MAGIC))
        assert decoder.value(0) == value
        return decoder.budget

    assert abs(left(value) - left(dict(value))) < 1_000


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


def _same_array(array, back):
    """Equal in class, dtype with its byte order and fields, shape, order in memory, and every bit."""
    assert type(back) is type(array)
    assert (back.dtype, back.dtype.str, back.dtype.descr, back.shape) == (array.dtype, array.dtype.str, array.dtype.descr, array.shape)
    assert back.tobytes() == array.tobytes()


@given(st.data())
def test_any_array(data):
    """An array of any dtype but object, of any shape from none on, in C or Fortran order, a view or whole, comes back bit by bit."""
    np = pytest.importorskip("numpy")
    from hypothesis.extra import numpy as hnp

    scalars = (
        hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes() | hnp.complex_number_dtypes()
        | hnp.datetime64_dtypes() | hnp.timedelta64_dtypes() | hnp.byte_string_dtypes() | hnp.unicode_string_dtypes()
    )  # fmt: skip
    dtypes = scalars | hnp.array_dtypes(scalars) | hnp.nested_dtypes(scalars, max_itemsize=200)
    array = data.draw(hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    array = {"C": array, "F": np.asfortranarray(array) if array.ndim else array, "reversed": array[::-1] if array.ndim else array}[
        data.draw(st.sampled_from(["C", "F", "reversed"]))
    ]
    back = codec.loads(codec.dumps(array))
    _same_array(array, back)
    if array.flags.f_contiguous and array.size:
        assert back.flags.f_contiguous
    if array.size and type(array[(0,) * array.ndim]).__module__ == "numpy":
        scalar = array[(0,) * array.ndim]
        if isinstance(scalar, np.generic):
            _same_array(np.asarray(scalar), np.asarray(codec.loads(codec.dumps(scalar))))
            assert type(codec.loads(codec.dumps(scalar))) is type(scalar)


def _pandas_columns(pd, np, size):
    """Strategies of columns of every dtype, `size` long."""
    from hypothesis.extra import numpy as hnp

    def of(items, make):
        return st.lists(items, min_size=size, max_size=size).map(make)

    def masked(items, dtype):
        return of(st.none() | items, lambda found: pd.array(found, dtype=dtype))

    words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    moments = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
    spans = st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000))
    plain = st.sampled_from(["?", "i1", "u2", "i4", "i8", "u8", "f4", "f8", "c16"]).flatmap(lambda dtype: hnp.arrays(dtype, size))
    units = st.sampled_from(["s", "ms", "us", "ns"])
    return {
        "numbers": plain,
        "integers": st.sampled_from(["Int8", "UInt16", "Int64"]).flatmap(lambda dtype: masked(st.integers(0, 100), dtype)),
        "floats": st.sampled_from(["Float32", "Float64"]).flatmap(lambda dtype: masked(st.floats(allow_nan=False, width=32), dtype)),
        "booleans": masked(st.booleans(), "boolean"),
        "strings": masked(words, pd.StringDtype("python")) | masked(words, pd.StringDtype("pyarrow")) | masked(words, "str"),
        "objects": of(st.none() | words | st.integers() | st.lists(st.integers(), max_size=2), lambda found: pd.Series(found, dtype=object).array),
        "categories": st.booleans().flatmap(
            lambda ordered: of(st.none() | st.sampled_from(["u", "v"]), lambda found: pd.Categorical(found, ["v", "w", "u"], ordered=ordered))
        ),
        "moments": units.flatmap(lambda unit: of(st.none() | moments, lambda found: pd.array(np.array(found, f"M8[{unit}]")))),
        "zoned": st.tuples(units, st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"])).flatmap(
            lambda kind: of(
                st.none() | moments,
                lambda found: pd.DatetimeIndex(np.array(found, f"M8[{kind[0]}]")).tz_localize("UTC").tz_convert(kind[1]).array,
            )
        ),
        "spans": units.flatmap(lambda unit: of(st.none() | spans, lambda found: pd.array(np.array(found, f"m8[{unit}]")))),
        "periods": st.sampled_from(["D", "M", "Q-NOV", "Y", "W-SUN", "h", "3D"]).flatmap(
            lambda freq: of(st.none() | moments, lambda found: pd.PeriodIndex(found, freq=freq).array)
        ),
        "intervals": st.sampled_from(["left", "right", "both", "neither"]).flatmap(
            lambda closed: of(
                st.none() | st.tuples(st.integers(0, 9), st.integers(10, 19)),
                lambda found: pd.arrays.IntervalArray.from_tuples([np.nan if pair is None else pair for pair in found], closed=closed),
            )
        ),
    }  # fmt: skip


KINDS = (
    "numbers",
    "integers",
    "floats",
    "booleans",
    "strings",
    "objects",
    "categories",
    "moments",
    "zoned",
    "spans",
    "periods",
    "intervals",
)


@pytest.mark.parametrize("index_kind", ["range", "levels", *(kind for kind in KINDS if kind != "objects")])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(data=st.data())
def test_any_column_on_any_index(kind, index_kind, data):
    """A frame, a series and an index of any dtype, on any kind of index and of any length from none on, come back exactly."""
    pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    size = data.draw(st.integers(0, 4))
    columns = _pandas_columns(pd, np, size)
    name = data.draw(st.none() | texts | st.tuples(st.integers(), st.text(max_size=3)))
    if index_kind == "range":
        index = pd.RangeIndex(3, 3 + 2 * size, 2, name=name)
    elif index_kind == "levels":
        levels = [
            data.draw(columns[data.draw(st.sampled_from([kind for kind in KINDS if kind not in ("objects", "intervals")]))])
            for _ in range(2)
        ]
        index = pd.MultiIndex.from_arrays(levels, names=[name, None])
    else:
        index = pd.Index(data.draw(columns[index_kind]), name=name)
    series = pd.Series(data.draw(columns[kind]), index=index, name=name)
    frame = pd.DataFrame({"a": series.array, 1: data.draw(columns[kind])}, index=index)
    pd.testing.assert_series_equal(series, codec.loads(codec.dumps(series)), check_freq=True, check_exact=True)
    back = codec.loads(codec.dumps(frame))
    pd.testing.assert_frame_equal(frame, back, check_freq=True, check_exact=True)
    assert list(back.dtypes) == list(frame.dtypes)
    again = codec.loads(codec.dumps(index))
    pd.testing.assert_index_equal(index, again, exact=True, check_exact=True)
    assert type(again) is type(index)
    if index_kind == "levels":
        assert [(level.dtype, list(codes)) for level, codes in zip(again.levels, again.codes, strict=True)] == [
            (level.dtype, list(codes)) for level, codes in zip(index.levels, index.codes, strict=True)
        ]


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
