"""Arrow tables and polars frames; loaded by the codec only where such a value is met.

Every value here begins with the tag `P` and a kind byte:

t Arrow Table  b RecordBatch  c ChunkedArray  a Array  F polars DataFrame  S polars Series

Arrow's own stream format carries Arrow's values, never compressed, so that a small one can't grow; polars columns are
written by their physical numbers.
"""

import struct
import sys

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py

_MOST_ROWS = 1 << 40
_UNPICKLED = b"arrow.py_extension_type"
_FARTHEST = {"Date": 95 * 10**6, "ms": 8 * 10**15, "us": 8 * 10**18}  # from 1970; polars breaks off where it shows another


def write(e, value, depth):
    """Writes such a value, and says whether it is one."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "pyarrow":
        return _write_arrow(e, value, kind)
    pl = sys.modules["polars"]
    if kind is pl.DataFrame:
        if not value.width and value.height:
            raise e.stop(value, "with rows and no columns")
        e.put(b"PF")
        e.count(value.width)
        for series in value.get_columns():
            _write_named(e, pl, series, depth)
    elif kind is pl.Series:
        e.put(b"PS")
        _write_named(e, pl, value, depth)
    else:
        return False
    return True


def read(d, depth):
    """The value behind the tag `P`."""
    kind = d.take(1)
    if kind in (b"t", b"b", b"c", b"a"):
        return _read_arrow(d, kind)
    pl = d.library("polars")
    try:
        return _read_polars(d, pl, kind, depth)
    except BaseException as problem:
        if type(problem).__name__ != "PanicException":  # no Exception, and what polars raises where its Rust gives up
            raise
        raise codec.CodecError("the value is damaged (polars: %s)" % problem) from None


def _read_polars(d, pl, kind, depth):
    if kind == b"S":
        return _read_series(d, pl, depth)
    if kind != b"F":
        raise codec.CodecError("the value has an unknown type (%r)" % kind)
    columns = [_read_series(d, pl, depth) for _ in range(d.count(2))]
    if len({len(column) for column in columns}) > 1 or len({column.name for column in columns}) < len(columns):
        raise codec.CodecError("the value's frame has columns of different lengths, or of one name")
    return pl.DataFrame(columns)


# Arrow


def _write_arrow(e, value, kind):
    import pyarrow as pa

    if kind is pa.Table:
        form, table = b"t", value
    elif kind is pa.RecordBatch:
        form, table = b"b", pa.Table.from_batches([value])
    elif kind is pa.ChunkedArray:
        form, table = b"c", pa.table({"": value})
    elif isinstance(value, pa.Array):
        form, table = b"a", pa.table({"": pa.chunked_array([value], type=value.type)})
    else:
        return False
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=None)) as stream:
            stream.write_table(table)
    except (pa.ArrowException, NotImplementedError) as problem:
        raise e.stop(value, "which Arrow can't write (%s)" % problem) from None
    e.put(b"P" + form)
    e.blob(sink.getvalue().to_pybytes())
    return True


def _read_arrow(d, kind):
    d.library("pyarrow")
    import pyarrow as pa

    data = d.blob()
    for message in pa.ipc.MessageReader.open_stream(data):
        metadata = message.metadata.to_pybytes()
        if _UNPICKLED in metadata:  # pyarrow before 14.0.1 unpickles a type of that name as it reads the schema
            raise codec.CodecError("the value's table has a type that is a pickle")
        if _is_compressed(message.type, metadata):
            raise codec.CodecError("the value's table is compressed")
    with pa.ipc.open_stream(data) as stream:
        table = stream.read_all()
    if table.num_rows > _MOST_ROWS:
        raise codec.CodecError("the value's table has more rows than its size allows")
    table.validate(full=True)
    if kind == b"t":
        return table
    if kind == b"b":
        batches = table.to_batches()
        if len(batches) > 1:
            raise codec.CodecError("the value is damaged")
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    if table.num_columns != 1:
        raise codec.CodecError("the value is damaged")
    column = table.column(0)
    if kind == b"c":
        return column
    if column.num_chunks > 1:
        raise codec.CodecError("the value is damaged")
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _is_compressed(kind, message):
    """Whether a message of Arrow's stream has a compressed body: a field of its flatbuffer (Message.fbs)."""
    if kind not in ("record batch", "dictionary", "dictionary batch"):
        return False
    try:
        (root,) = struct.unpack_from("<I", message, 0)
        batch = _table_at(message, root, 2)
        if kind != "record batch":
            batch = _table_at(message, batch, 1)
        return _field(message, batch, 3) != 0
    except struct.error:
        raise codec.CodecError("the value's table is damaged") from None


def _field(message, table, number):
    """The place of a flatbuffer table's field, 0 where it has none."""
    (back,) = struct.unpack_from("<i", message, table)
    (size,) = struct.unpack_from("<H", message, table - back)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", message, table - back + 4 + 2 * number)
    return table + offset if offset else 0


def _table_at(message, table, number):
    place = _field(message, table, number)
    if not place:
        raise codec.CodecError("the value's table is damaged")
    return place + struct.unpack_from("<I", message, place)[0]


# polars

_NUMBERS = {
    "Int8": "b",
    "Int16": "h",
    "Int32": "i",
    "Int64": "q",
    "UInt8": "B",
    "UInt16": "H",
    "UInt32": "I",
    "UInt64": "Q",
    "Float32": "f",
    "Float64": "d",
}
_TIMES = {"Date": "i", "Time": "q", "Datetime": "q", "Duration": "q"}
_PLAIN = ("Boolean", "String", "Binary", "Null", "Categorical")


def _write_named(e, pl, series, depth):
    e.text(series.name)
    try:
        _write_dtype(e, pl, series.dtype, False)
    except _UnknownType as unknown:
        raise e.stop(series, "with dtype %s, which can't be sent" % unknown) from None
    e.count(len(series))
    _write_column(e, pl, series, depth)


class _UnknownType(Exception):
    pass


def _write_dtype(e, pl, dtype, nested):
    name = dtype.base_type().__name__
    if nested and name in ("Categorical", "Enum", "Decimal"):
        raise _UnknownType("%s inside of another" % name)
    e.text(name)
    if name in _NUMBERS or name in _PLAIN or name in ("Date", "Time"):
        return
    if name == "Datetime":
        e.text(dtype.time_unit)
        e.text(dtype.time_zone or "")
    elif name == "Duration":
        e.text(dtype.time_unit)
    elif name == "Decimal":
        e.integer(dtype.precision if dtype.precision is not None else -1)
        e.integer(dtype.scale)
    elif name == "Enum":
        e.sequence(dtype.categories.to_list(), 0, "[{}]".format)
    elif name == "List":
        _write_dtype(e, pl, dtype.inner, True)
    elif name == "Array":
        e.integer(dtype.size)
        _write_dtype(e, pl, dtype.inner, True)
    elif name == "Struct":
        e.count(len(dtype.fields))
        for field in dtype.fields:
            e.text(field.name)
            _write_dtype(e, pl, field.dtype, True)
    else:
        raise _UnknownType(dtype)


def _read_dtype(d, pl, depth=0):
    if depth > 30:
        raise codec.CodecError("the value is nested too deep")
    name = d.text()
    if name in _NUMBERS or name in _PLAIN or name in ("Date", "Time"):
        return getattr(pl, name)()
    if name == "Datetime":
        unit, zone = d.text(), d.text()
        return pl.Datetime(unit, zone or None)
    if name == "Duration":
        return pl.Duration(d.text())
    if name == "Decimal":
        precision, scale = d.integer(), d.integer()
        return pl.Decimal(None if precision < 0 else precision, scale)
    if name == "Enum":
        return pl.Enum(d.sequence(0))
    if name == "List":
        return pl.List(_read_dtype(d, pl, depth + 1))
    if name == "Array":
        size = d.integer()
        if not 0 <= size <= 1 << 30:
            raise codec.CodecError("the value is damaged")
        return pl.Array(_read_dtype(d, pl, depth + 1), size)
    if name == "Struct":
        return pl.Struct([pl.Field(d.text(), _read_dtype(d, pl, depth + 1)) for _ in range(d.count(2))])
    raise codec.CodecError("the value has an unknown column (%s)" % ascii(name))


def _write_column(e, pl, series, depth):
    """Null marks where there are nulls, then the numbers, texts or nested lists."""
    name = series.dtype.base_type().__name__
    if name == "Null":
        return
    if name in ("List", "Array", "Struct"):
        e.sequence(series.to_physical().to_list(), depth + 1, "[{}]".format)
        return
    nulls = bytes(map(bool, series.is_null().to_list())) if series.null_count() else b""
    e.blob(nulls)
    if name in ("Categorical", "Enum"):
        series = series.cast(pl.String)
    if name in ("Categorical", "Enum", "String", "Binary", "Decimal"):
        e.sequence(_filled(series), depth + 1, "[{}]".format)
        return
    code = _NUMBERS.get(name) or _TIMES.get(name) or "?"
    plain = series.to_physical()
    e.blob(_packed(code, plain.fill_null(False if name == "Boolean" else 0) if nulls else plain))


def _filled(series):
    items = series.to_list()
    if series.null_count():
        empty = next((type(item)() for item in items if item is not None), "")
        items = [empty if item is None else item for item in items]
    return items


def _packed(code, series):
    """The numbers as bytes: by numpy where it is there, which is a copy and no loop."""
    if "numpy" in sys.modules and code != "?":
        array = series.to_numpy()
        return array.astype("<" + array.dtype.str[1:], copy=False).tobytes()
    return struct.pack("<%d%s" % (len(series), code), *series.to_list())


def _read_series(d, pl, depth):
    name, dtype = d.text(), _read_dtype(d, pl)
    length = d.count()
    kind = dtype.base_type().__name__
    if kind == "Null":
        if length >= 1 << 32:  # what polars counts to
            raise codec.CodecError("the value has more rows than its size allows")
        return pl.repeat(None, length, dtype=pl.Null, eager=True).alias(name)
    if kind in ("List", "Array", "Struct"):
        items = d.sequence(depth + 1)
        if len(items) != length:
            raise codec.CodecError("the value is damaged")
        if any(name in str(dtype) for name in ("Array", *_FARTHEST)):
            d.spend(8 * sum(_room(dtype, item) for item in items))
        return pl.Series(name, items, dtype=_physical(pl, dtype), strict=True).cast(dtype)
    nulls = d.blob()
    if nulls and len(nulls) != length:
        raise codec.CodecError("the value is damaged")
    if kind in ("Categorical", "Enum", "String", "Binary", "Decimal"):
        items = d.sequence(depth + 1)
        if len(items) != length:
            raise codec.CodecError("the value is damaged")
        if nulls:
            items = [None if gone else item for item, gone in zip(items, nulls)]
        plain = pl.String() if kind in ("Categorical", "Enum") else dtype
        return pl.Series(name, items, dtype=plain, strict=True).cast(dtype)
    code = _NUMBERS.get(kind) or _TIMES.get(kind) or "?"
    items = _unpacked(d, code, length)
    series = pl.Series(name, items, dtype=_physical(pl, dtype))
    if length and kind in ("Date", "Datetime"):
        _near(dtype, series.min(), series.max())
    if nulls:
        series = pl.select(pl.when(pl.Series(list(map(bool, nulls)))).then(None).otherwise(series).alias(name)).to_series()
    return series.cast(dtype)


def _unpacked(d, code, length):
    data = d.blob()
    if length * struct.calcsize("<" + code) != len(data):
        raise codec.CodecError("the value has another size than it says")
    if "numpy" in sys.modules and code != "?":
        return sys.modules["numpy"].frombuffer(data, "<" + ("i1" if code == "b" else "u1" if code == "B" else code))
    d.spend(40 * length)
    return list(struct.unpack("<%d%s" % (length, code), data))


def _width(dtype):
    """How many items lie in one of this dtype, of arrays inside of it: a null takes the room of all of them."""
    name = dtype.base_type().__name__
    if name == "Array":
        return dtype.size * _width(dtype.inner)
    if name == "Struct":
        return sum(_width(field.dtype) for field in dtype.fields)
    return 1


def _room(dtype, item):
    """The items that a value takes the room of, each of them looked at."""
    name = dtype.base_type().__name__
    if item is None:
        return _width(dtype)
    if name in ("List", "Array"):
        return sum(_room(dtype.inner, inner) for inner in item)
    if name == "Struct":
        return sum(_room(field.dtype, item[field.name]) for field in dtype.fields)
    _near(dtype, item)
    return 1


def _near(dtype, *numbers):
    """Raises where one of the numbers is a date that polars can't show."""
    kind = dtype.base_type().__name__
    farthest = _FARTHEST.get(dtype.time_unit if kind == "Datetime" else kind)
    if farthest and not all(-farthest <= number <= farthest for number in numbers):
        raise codec.CodecError("the value has a date that is too far away")


def _physical(pl, dtype):
    """The dtype of the numbers under a dtype."""
    name = dtype.base_type().__name__
    if name in ("Datetime", "Duration", "Time"):
        return pl.Int64()
    if name == "Date":
        return pl.Int32()
    if name == "List":
        return pl.List(_physical(pl, dtype.inner))
    if name == "Array":
        return pl.Array(_physical(pl, dtype.inner), dtype.size)
    if name == "Struct":
        return pl.Struct([pl.Field(field.name, _physical(pl, field.dtype)) for field in dtype.fields])
    return dtype
