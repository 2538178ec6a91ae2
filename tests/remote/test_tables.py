"""Arrow's tables and polars frames: exactly, and safe to read from a stranger."""

import datetime
import decimal
import struct
import sys

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal
from polars.testing.parametric import dataframes, series

from bacalhau_magic.remote import codec
from bacalhau_magic.remote import tables as room

DTYPES = [
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary,
    pl.Date, pl.Time, pl.Datetime("ns"), pl.Datetime("us", "Europe/Berlin"), pl.Duration("ms"), pl.Decimal, pl.Categorical, pl.Enum, pl.Null,
    pl.List(pl.Int64), pl.List(pl.Datetime("ns")), pl.Array(pl.Float32, 2), pl.Struct([pl.Field("a", pl.String), pl.Field("b", pl.List(pl.Date))]),
]  # fmt: skip
slow = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def back(value):
    return codec.loads(codec.dumps(value))


@slow
@given(dataframes(allowed_dtypes=DTYPES, max_cols=6, max_size=8))
def test_polars_frame(frame):
    """A frame of any of these dtypes, nulls and NaN among its values, comes back equal with its dtypes."""
    got = back(frame)
    assert got.schema == frame.schema
    assert_frame_equal(got, frame, check_exact=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_polars_series(dtype):
    """A series of each dtype comes back equal, with its name, with and without numpy."""

    @slow
    @given(series(dtype=dtype, name="naïve", max_size=10))
    def holds(one):
        for without in (False, True):
            numpy = sys.modules.pop("numpy") if without and "numpy" in sys.modules else None
            try:
                data = codec.dumps({"s": one})
                got = codec.loads(data)["s"]
            finally:
                if numpy is not None:
                    sys.modules["numpy"] = numpy
            assert (got.name, got.dtype) == (one.name, one.dtype)
            assert_series_equal(got, one, check_exact=True)

    holds()


@pytest.mark.parametrize(
    "value",
    [pl.Series([object()], dtype=pl.Object), pl.DataFrame({"a": [1]}).lazy(), pl.Series([["a"]], dtype=pl.List(pl.Categorical))],
    ids=["object", "lazy", "nested categorical"],
)
def test_polars_refused(value):
    """What polars can't give exactly is refused by name."""
    with pytest.raises(codec.Unsendable, match="can't be sent"):
        codec.dumps(value)


TYPES = st.sampled_from(
    [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.string_view(), pa.null(),
     pa.date32(), pa.time64("ns"), pa.timestamp("ns", "UTC"), pa.duration("s"), pa.decimal128(20, 3), pa.list_(pa.int16()), pa.list_(pa.string(), 2),
     pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), pa.dictionary(pa.int8(), pa.string()), pa.map_(pa.string(), pa.int64())]
)  # fmt: skip


def _values(kind):
    if pa.types.is_null(kind):
        return st.none()
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        return st.integers(0, 100)
    if pa.types.is_floating(kind):
        return st.floats(-100, 100, width=16)
    if pa.types.is_dictionary(kind):
        return st.text(max_size=3)
    if pa.types.is_list(kind):
        return st.lists(_values(kind.value_type), max_size=3)
    if pa.types.is_fixed_size_list(kind):
        return st.lists(_values(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: st.none() | _values(field.type) for field in kind})
    if pa.types.is_map(kind):
        return st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2).map(lambda found: list(found.items()))
    if pa.types.is_decimal(kind):
        return st.decimals(-1000, 1000, places=3)
    if pa.types.is_date(kind):
        return st.dates()
    if pa.types.is_time(kind):
        return st.times()
    if pa.types.is_timestamp(kind):
        return st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
    if pa.types.is_duration(kind):
        return st.timedeltas(datetime.timedelta(-100), datetime.timedelta(100)).map(lambda found: datetime.timedelta(found.days))
    return st.binary(max_size=4) if pa.types.is_binary(kind) else st.text(max_size=4)


@st.composite
def arrays(draw, size=None):
    kind = draw(TYPES)
    count = draw(st.integers(0, 6)) if size is None else size
    items = draw(st.lists(st.none() | _values(kind), min_size=count, max_size=count))
    return pa.array(items, kind)


@st.composite
def tables(draw):
    size = draw(st.integers(0, 6))
    columns = [draw(arrays(size)) for _ in range(draw(st.integers(0, 4)))]
    made = pa.table(columns, names=[f"c{n}" for n in range(len(columns))]).replace_schema_metadata({"k": draw(st.text())})
    cut = draw(st.integers(0, size))
    return pa.concat_tables([made.slice(0, cut), made.slice(cut)])


@slow
@given(tables())
def test_arrow_table(table):
    """A table comes back equal with its schema and metadata, cut and chunked as it may be."""
    got = back(table)
    assert got.equals(table, check_metadata=True)
    assert got.schema.equals(table.schema, check_metadata=True)


@slow
@given(arrays())
def test_arrow_arrays(array):
    """Arrays, slices of them, chunked arrays and batches come back equal and of the same kind."""
    for value in (array, array.slice(1), pa.chunked_array([array, array.slice(1)]), pa.RecordBatch.from_arrays([array], ["a"])):
        got = back(value)
        assert type(got) is type(value)
        assert got.equals(value)


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def framed(data):
    return codec.MAGIC + b"Pt" + (bytes((len(data),)) if len(data) < 255 else b"\xff" + struct.pack("<Q", len(data))) + data


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_compressed_table_is_a_bomb(compression, dictionary):
    """A table whose buffers are compressed, in its batches or its dictionaries, is refused before it grows."""
    column = pa.array(["x" * 1000] * 1000)
    table = pa.table({"a": pa.DictionaryArray.from_arrays([0] * 1000, column) if dictionary else column})
    data = stream(table, compression=compression)
    assert len(data) < 20_000
    with pytest.raises(codec.CodecError, match="compressed"):
        codec.loads(framed(data))
    assert codec.loads(framed(stream(table))).equals(table)


@slow
@given(st.data())
def test_a_damaged_table(data):
    """A table with any byte changed is an error or a valid table, never more."""
    whole = bytearray(codec.dumps(pa.table({"a": [1, 2, None], "b": ["x", None, "z"], "c": [[1], [], None]})))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = codec.loads(bytes(whole))
    except codec.CodecError:
        return
    if isinstance(got, pa.Table):
        got.validate(full=True)


@slow
@given(st.data())
def test_a_damaged_frame(data):
    """A polars frame with any byte changed is an error or a frame."""
    frame = pl.DataFrame({"a": [1, 2, None], "b": ["x", None, "z"], "c": [[1], [], None], "d": [decimal.Decimal("1.5")] * 3})
    whole = bytearray(codec.dumps(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.loads(bytes(whole))
    except codec.CodecError:
        pass


def test_where_polars_gives_up(monkeypatch):
    """What polars raises where its Rust gives up is no Exception, and still ends in an error of ours."""

    def give_up(*_):
        raise pl.exceptions.PanicException("index out of bounds")

    data = codec.dumps(pl.Series("a", [1]))
    monkeypatch.setattr(room, "_read_series", give_up)
    with pytest.raises(codec.CodecError, match="polars: index out of bounds"):
        codec.loads(data)


def test_the_farthest_dates():
    """Dates travel as far as polars shows them."""
    far = pl.Series("a", [95 * 10**6, -95 * 10**6, None], dtype=pl.Int32).cast(pl.Date)
    assert_series_equal(codec.loads(codec.dumps(far)), far)
    assert "262" in str(far)
