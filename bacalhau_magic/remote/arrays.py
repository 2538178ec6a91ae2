"""numpy and pandas values as buffers; loaded by the codec only where such a value is met. No pickle, no object dtype in arrays.

Every value here begins with the tag `a` and a kind byte:

a array  s scalar  x str_  y bytes_  F frame  S series  I index  t Timestamp  d Timedelta  n NaT  m NA
"""

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py

_FAR = 1 << 20
_VIEWED = 1 << 16  # bytes from which on an array is not copied before it is sent


def write(e, value, depth):
    """Writes a numpy or pandas value, and says whether it is one that travels."""
    import sys

    np, pd = sys.modules.get("numpy"), sys.modules.get("pandas")
    kind = type(value)
    if np is not None and isinstance(value, (np.ndarray, np.generic)):
        if isinstance(value, np.generic):
            if kind.__module__.partition(".")[0] != "numpy":
                return False
            if kind in (np.str_, np.bytes_):  # an array would drop the zeros at their end
                e.put(b"ax" if kind is np.str_ else b"ay")
                e.value("".join(value) if kind is np.str_ else bytes(bytearray(list(value))), depth + 1)
                return True
            e.put(b"as")
            _write_array(e, np, value, np.asarray(value))
            return True
        if kind is not np.ndarray:
            raise e.stop(value, "a subclass of numpy.ndarray, which would not come back as itself")
        e.put(b"aa")
        _write_array(e, np, value, value)
        return True
    if pd is None:
        return False
    if kind is pd.DataFrame:
        e.put(b"aF")
        _write_attrs(e, value, depth)
        _write_index(e, value.index, depth, ".index")
        _write_index(e, value.columns, depth, ".columns")
        for place in range(value.shape[1]):
            column = value.iloc[:, place]
            with _Step(e, lambda place=place: "[%s]" % codec._short(value.columns[place])):
                _write_column(e, column.array, depth)
    elif kind is pd.Series:
        e.put(b"aS")
        _write_attrs(e, value, depth)
        _write_index(e, value.index, depth, ".index")
        e.value(value.name, depth + 1)
        with _Step(e, lambda: ".array"):
            _write_column(e, value.array, depth)
    elif isinstance(value, pd.Index):
        e.put(b"aI")
        _write_index(e, value, depth, "")
    elif value is pd.NaT:
        e.put(b"an")
    elif value is getattr(pd, "NA", None):
        e.put(b"am")
    elif kind is pd.Timestamp:
        e.put(b"at")
        codec.own("scalars").zone(e, value, value.tzinfo)
        plain = value if value.tzinfo is None else value.tz_convert("UTC").tz_localize(None)
        _write_array(e, _numpy(), value, _numpy().asarray(plain.asm8))
    elif kind is pd.Timedelta:
        e.put(b"ad")
        _write_array(e, _numpy(), value, _numpy().asarray(value.asm8))
    else:
        return False
    return True


class _Step:
    """Adds a step to the path of a value that can't be sent."""

    def __init__(self, e, step):
        self.step = step

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is codec._Stop:
            error.steps.append(self.step())
        return False


def _numpy():
    import numpy

    return numpy


def _format():
    import numpy.lib.format

    return numpy.lib.format


def _write_array(e, np, value, array):
    """As numpy.save writes it, without its file: a header (a literal) and the elements, in C or Fortran order."""
    if array.dtype.hasobject:
        raise e.stop(value, "with dtype %s: convert it to a list, or to numbers" % array.dtype)
    form = _format()
    try:
        descr = form.dtype_to_descr(array.dtype)
        if form.descr_to_dtype(descr) != array.dtype:
            raise ValueError
    except (ValueError, TypeError):
        raise e.stop(value, "whose dtype %s can't be described" % (array.dtype,)) from None
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    e.text(repr((descr, array.shape, bool(fortran))))
    e.blob(_bytes_of(np, array, fortran))


def _bytes_of(np, array, fortran):
    """The elements as they lie in memory where they lie in one piece, else as a copy."""
    if array.nbytes < _VIEWED or not (array.flags.c_contiguous or array.flags.f_contiguous):
        return array.tobytes("F" if fortran else "C")
    return memoryview((array.T if fortran else array).reshape(-1).view(np.uint8))


def _read_array(d):
    """An array; its size is checked against the bytes that are there before anything is made."""
    from ast import literal_eval

    np, form = _numpy(), _format()
    head = d.text()
    if len(head) > 50000:
        raise codec.CodecError("the value's array has a header that is too long")
    descr, shape, fortran = literal_eval(head)
    dtype = form.descr_to_dtype(descr)
    if dtype.hasobject:
        raise codec.CodecError("the value's array holds objects")
    if not isinstance(shape, tuple) or len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise codec.CodecError("the value's array has a wrong shape")
    count = 1
    for length in shape:
        count *= length
    data = d.view()
    if count * dtype.itemsize != len(data) or (dtype.itemsize == 0 and count > _FAR):
        raise codec.CodecError("the value's array has another size than it says")
    if not len(data):
        return np.empty(shape, dtype)
    d.spend(len(data))
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _write_attrs(e, value, depth):
    with _Step(e, lambda: ".attrs"):
        e.value(dict(value.attrs), depth + 1)


def _write_index(e, index, depth, step):
    """RangeIndex `r`, MultiIndex `m`, any other `i` as a column."""
    import pandas as pd

    with _Step(e, lambda: step):
        if type(index) is pd.RangeIndex:
            e.put(b"r")
            e.value(index.name, depth + 1)
            e.value((index.start, index.stop, index.step), depth + 1)
        elif type(index) is pd.MultiIndex:
            e.put(b"m")
            e.value(list(index.names), depth + 1)
            e.count(index.nlevels)
            for level, codes in zip(index.levels, index.codes):
                _write_index(e, level, depth + 1, "")
                _write_array(e, _numpy(), index, _numpy().asarray(codes))
        elif type(index).__module__.partition(".")[0] != "pandas":
            raise e.stop(index, "a subclass of pandas.Index, which would not come back as itself")
        else:
            e.put(b"i")
            e.value(index.name, depth + 1)
            freq = getattr(index, "freq", None) if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
            e.value(None if freq is None else freq.freqstr, depth + 1)
            _write_column(e, index.array, depth)


def _write_column(e, array, depth):
    """A pandas array: n numpy, o objects, z with a time zone, s strings, k masked, c categories, p periods, v intervals."""
    import pandas as pd

    np = _numpy()
    if type(array).__name__ in ("NumpyExtensionArray", "PandasArray"):
        array = array.to_numpy()
    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        plain = np.asarray(array)
        if dtype.hasobject:
            e.put(b"o")
            e.sequence(list(plain), depth + 1, "[{}]".format)
        else:
            e.put(b"n")
            _write_array(e, np, array, plain)
    elif isinstance(dtype, pd.DatetimeTZDtype):
        e.put(b"z")
        codec.own("scalars").zone(e, array, dtype.tz)
        _write_array(e, np, array, np.asarray(pd.DatetimeIndex(array).tz_convert("UTC").tz_localize(None)))
    elif isinstance(dtype, pd.StringDtype):
        missing = np.asarray(pd.isna(array))
        e.put(b"s")
        e.value((dtype.storage, getattr(dtype, "na_value", pd.NA) is pd.NA), depth + 1)
        _write_array(e, np, array, missing)
        e.sequence(["" if gone else str(item) for item, gone in zip(array, missing)], depth + 1, "[{}]".format)
    elif isinstance(dtype, pd.CategoricalDtype):
        e.put(b"c" + (b"1" if dtype.ordered else b"0"))
        _write_index(e, dtype.categories, depth + 1, ".categories")
        _write_array(e, np, array, np.asarray(array.codes))
    elif isinstance(dtype, pd.PeriodDtype):
        e.put(b"p")
        e.text(dtype.name[7:-1])  # period[M]: a frequency has another name than an offset
        _write_array(e, np, array, np.asarray(array.asi8))
    elif isinstance(dtype, pd.IntervalDtype):
        e.put(b"v")
        e.text(array.closed)
        _write_index(e, array.left, depth + 1, ".left")
        _write_index(e, array.right, depth + 1, ".right")
    elif hasattr(array, "_mask") and type(array).__module__.startswith("pandas."):
        e.put(b"k")
        _write_array(e, np, array, np.asarray(array._data))
        _write_array(e, np, array, np.asarray(array._mask))
    else:
        raise e.stop(array, "with dtype %s, which can't be sent" % dtype)


def read(d, depth):
    """The value behind the tag `a`."""
    kind = d.take(1)
    np = d.library("numpy")
    if kind == b"a":
        return _read_array(d)
    if kind == b"s":
        return _read_array(d)[()]
    if kind in (b"x", b"y"):
        return (np.str_ if kind == b"x" else np.bytes_)(d.value(depth + 1))
    pd = d.library("pandas")
    if kind == b"F":
        return _read_frame(d, depth, pd, np)
    if kind == b"S":
        attrs = d.value(depth + 1)
        index = _read_index(d, depth)
        name = d.value(depth + 1)
        column = _read_column(d, depth)
        if getattr(column, "ndim", 1) != 1 or len(column) != len(index):
            raise codec.CodecError("the value is damaged")  # a single number would be repeated for every row of the index
        series = pd.Series(column, index=index, name=name, copy=False)
        series.attrs = attrs
        return series
    if kind == b"I":
        return _read_index(d, depth)
    if kind == b"t":
        tz = codec.own("scalars").read_zone(d)
        stamp = pd.Timestamp(_read_array(d)[()])
        return stamp if tz is None else stamp.tz_localize("UTC").tz_convert(tz)
    if kind == b"d":
        return pd.Timedelta(_read_array(d)[()])
    if kind == b"n":
        return pd.NaT
    if kind == b"m":
        return pd.NA
    raise codec.CodecError("the value has an unknown type (%r)" % kind)


def _read_frame(d, depth, pd, np):
    attrs = d.value(depth + 1)
    index = _read_index(d, depth)
    columns = _read_index(d, depth)
    if len(columns) > len(d.data) - d.at:
        raise codec.CodecError("the value is cut off")
    data = {}
    for place in range(len(columns)):
        data[place] = _read_column(d, depth)
        if len(data[place]) != len(index):
            raise codec.CodecError("the value's frame has columns of different lengths")
    frame = pd.DataFrame({place: pd.Series(column, index=index, copy=False) for place, column in data.items()}, index=index, copy=False)
    frame.columns = columns
    frame.attrs = attrs
    return frame


def _read_index(d, depth):
    if depth > codec.MAX_DEPTH:
        raise codec.CodecError("the value is nested too deep")
    pd = d.library("pandas")
    kind = d.take(1)
    if kind == b"r":
        name = d.value(depth + 1)
        start, stop, step = d.value(depth + 1)
        return pd.RangeIndex(start, stop, step, name=name)
    if kind == b"m":
        names = d.value(depth + 1)
        levels, codes = [], []
        for _ in range(d.count(1)):
            levels.append(_read_index(d, depth + 1))
            codes.append(_read_array(d))
        return pd.MultiIndex(levels, codes, names=names)
    if kind != b"i":
        raise codec.CodecError("the value has an unknown index (%r)" % kind)
    name = d.value(depth + 1)
    freq = d.value(depth + 1)
    array = _read_column(d, depth)
    dtype = getattr(array, "dtype", None)
    index = pd.Index(array, dtype=dtype, name=name)
    if freq is not None:
        index = type(index)(index, freq=freq, name=name)
    return index


def _read_column(d, depth):
    pd, np = d.library("pandas"), d.library("numpy")
    kind = d.take(1)
    if kind == b"n":
        return _read_array(d)
    if kind == b"o":
        items = d.sequence(depth + 1)
        array = np.empty(len(items), dtype=object)
        for place, item in enumerate(items):
            array[place] = item
        return array
    if kind == b"z":
        tz = codec.own("scalars").read_zone(d)
        return pd.DatetimeIndex(_read_array(d)).tz_localize("UTC").tz_convert(tz).array
    if kind == b"s":
        storage, masked = d.value(depth + 1)
        missing = _read_array(d)
        items = np.array(d.sequence(depth + 1) or [], dtype=object)
        if missing.dtype != bool or missing.shape != items.shape:
            raise codec.CodecError("the value is damaged")
        return _strings(pd, np, items, missing, storage, masked)
    if kind == b"c":
        ordered = d.take(1) == b"1"
        categories = _read_index(d, depth + 1)
        return pd.Categorical.from_codes(_read_array(d), categories=categories, ordered=ordered)
    if kind == b"p":
        freq = d.text()
        ordinals = _read_array(d)
        make = getattr(pd.arrays.PeriodArray, "_simple_new", None)
        if make is None or ordinals.dtype != "int64" or ordinals.ndim != 1:
            raise codec.CodecError("the value is damaged")
        return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(freq))
    if kind == b"v":
        closed = d.text()
        left, right = _read_index(d, depth + 1), _read_index(d, depth + 1)
        d.spend(8 * (len(left) + len(right)))  # a range is written out here
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=closed)
    if kind == b"k":
        data, mask = _read_array(d), _read_array(d)
        if data.shape != mask.shape or data.ndim != 1 or mask.dtype != bool:
            raise codec.CodecError("the value is damaged")
        kinds = {"b": "BooleanArray", "f": "FloatingArray", "i": "IntegerArray", "u": "IntegerArray"}
        return getattr(pd.arrays, kinds[data.dtype.kind])(data, mask)
    raise codec.CodecError("the value has an unknown column (%r)" % kind)


def _strings(pd, np, items, missing, storage, masked):
    """Strings in the dtype that they had; the storage is this machine's where the other one is not installed."""
    items[missing] = pd.NA if masked else np.nan
    choices = [{"storage": storage}, {"storage": "python"}]
    for choice in choices:
        if not masked:
            choice["na_value"] = np.nan
        try:
            return pd.array(items, dtype=pd.StringDtype(**choice))
        except (ImportError, ValueError, TypeError):
            continue
    return items  # a pandas that has no such dtype
