"""Values as bytes, and back: exactly, without pickle, safe to read from a stranger.

What travels: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, dates
and times, timedelta, Decimal, Fraction, UUID, paths, numpy arrays and scalars, pandas frames, series and indexes.
Instances of enums, dataclasses, named tuples and pydantic models travel by their fields, where the other end has the class.
Arrow's tables, polars frames, torch tensors and PIL images as well, and OrderedDict, Counter, defaultdict and deque.
Only these classes themselves: a subclass (a dict with methods of its own) would come back as something else, so it is refused by name, as
everything else is.

Layout: `BMC1`, then one value: a tag byte and its data. A length is one byte, or 0xFF and eight more; numbers are little-endian.
The same file runs at both ends, on Python 3.8 or later.
"""

import sys
from functools import lru_cache
from struct import error as struct_error
from struct import pack, unpack_from

MAGIC = b"BMC1"
MAX_DEPTH = 200
ABOVE = "bytes that are left for results"  # a reason ends so where the size alone is in the way; a library's words stand in brackets
STAYS = "which stays in the job"  # so ends the reason where a value holds a secret
_LARGE = 1 << 20  # bytes from which on a value is not copied before it is read
_FAST = 8  # shorter sequences are not worth a look at their types


class Unsendable(Exception):
    """A value that can't travel: `path` leads to it (`x['a'][3]`), `type_name` is its type, `reason` says why."""

    def __init__(self, path, type_name, reason):
        super().__init__(path, type_name, reason)
        self.path = path
        self.type_name = type_name
        self.reason = reason

    def __str__(self):
        return "%s is of type %s, %s" % (self.path, self.type_name, self.reason)


class TooLarge(Unsendable):
    """A value that could travel, and is above the limit."""


class CodecError(Exception):
    """Bytes that are no value of ours: damaged, hostile, or above a bound."""


class MissingLibrary(CodecError):
    """A value needs a library that is not installed here; `library` is its name."""

    def __init__(self, library):
        super().__init__("%s is not installed" % library)
        self.library = library


class MissingClass(CodecError):
    """A value is an instance of a class that is not here; `module` and `name` are the class's."""

    def __init__(self, module, name):
        super().__init__("the class %s of %s is not here" % (ascii(name)[1:-1], ascii(module)[1:-1]))
        self.module = module
        self.name = name


class _Stop(Exception):
    """Unsendable in the making: the path grows while it passes through the containers."""

    def __init__(self, value, reason):
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.steps = []


class _TooLarge(Exception):
    pass


def dumps(value, name="value", max_size=None, classes=None, pickles=False):
    """The value as bytes; raises Unsendable, whose path begins with `name`.

    Every class that the other end must have is added to the list `classes`. With `pickles` a value that can't travel else
    is pickled whole.
    """
    encoder = Encoder(max_size)
    encoder.classes = classes
    try:
        encoder.value(value, 0)
    except _TooLarge:
        raise _too_large(value, name, max_size) from None
    except _Stop as stop:
        reason = Unsendable(name + "".join(reversed(stop.steps)), type_name(stop.value), stop.reason)
    except MemoryError:
        raise
    except Exception as problem:  # a closed image, a broken handle: what its library says is the reason
        reason = Unsendable(name, type_name(value), "which can't be read (%s)" % said(problem))
    else:
        return b"".join(encoder.out)
    if not pickles:
        raise reason from None
    return _pickled(value, name, max_size, classes, reason)


def is_pickle(data):
    """Whether the bytes of a value are a pickle, which is read with `pickles` alone."""
    return bytes(data[:5]) == MAGIC + b"K"


def _pickled(value, name, max_size, classes, reason):
    try:
        found = own("pickles").dumps(value, classes)
    except Exception as problem:
        raise Unsendable(reason.path, reason.type_name, "%s, and pickle can't either (%s)" % (reason.reason, said(problem))) from None
    encoder = Encoder(max_size)
    try:
        encoder.put(b"K")
        encoder.blob(found)
    except _TooLarge:
        raise _too_large(value, name, max_size) from None
    return b"".join(encoder.out)


def _too_large(value, name, max_size):
    return TooLarge(name, type_name(value), "larger than the %d %s" % (max_size, ABOVE))


def loads(data, max_size=None, trusted=False, pickles=False):
    """The value in the bytes; raises CodecError, or MissingLibrary where a library that is needed is not there.

    A class is looked up among the modules that are loaded; only with `trusted`, which is for a job's own inputs, its
    module is imported. Else nothing is trusted: depth, counts and sizes are checked against the bytes that are there, and the memory that small
    objects take is bounded by about 16 times `max_size` (bytes; None: the data's own size). A pickle is read with `pickles`
    alone, and runs what its writer put there.
    """
    if max_size is not None and len(data) > max_size:
        raise CodecError("the value has %d bytes, more than the %d that were asked for" % (len(data), max_size))
    decoder = Decoder(bytes(data)) if len(data) < _LARGE else Views(data)
    decoder.trusted = trusted
    decoder.pickles = pickles
    try:
        if decoder.take(4) != MAGIC:
            raise CodecError("the value is of an unknown format")
        value = decoder.value(0)
        if decoder.at != len(decoder.data):
            raise CodecError("the value is longer than it says")
        return value
    except CodecError:
        raise
    except MemoryError:
        raise CodecError("there is not enough memory for it") from None
    except Exception as error:
        raise CodecError("the value is damaged (%s)" % said(error)) from error


def said(problem):
    """An exception's class and words; making the words may itself fail."""
    try:
        return "%s: %s" % (type(problem).__name__, problem)
    except Exception:
        return type(problem).__name__


def type_name(value):
    """How a value's type is called: `int`, `decimal.Decimal`."""
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else "%s.%s" % (module, kind.__qualname__)


@lru_cache(maxsize=None)
def own(name):
    """A module that lies beside this one, in the package or in a job's folder (where no path leads to it)."""
    if __package__:
        from importlib import import_module

        return import_module("." + name, __package__)
    return load(name)  # noqa: F821 - put here by bootstrap.py


class Encoder:
    """Collects a value's bytes in `out`."""

    def __init__(self, max_size=None):
        self.out = [MAGIC]
        self.size = 0
        self.max_size = max_size
        self.classes = None
        self.open = set()  # ids of the containers around the value: a cycle meets itself

    def stop(self, value, reason):
        return _Stop(value, reason)

    def put(self, data):
        self.size += len(data)
        if self.max_size is not None and self.size > self.max_size:
            raise _TooLarge
        self.out.append(data)

    def count(self, number):
        self.put(bytes((number,)) if number < 255 else b"\xff" + pack("<Q", number))

    def text(self, text):
        self.blob(text.encode("utf-8", "surrogatepass"))

    def blob(self, data):
        self.count(len(data))
        self.put(data)

    def integer(self, number):
        self.blob(number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))

    def value(self, value, depth):
        kind = type(value)
        write = _WRITERS.get(kind)
        if write is not None:
            if kind in _CONTAINERS:
                held(self, value, depth, write)
            else:
                write(self, value)
            return
        if _other(self, value, kind, depth):
            return
        for base in kind.__mro__[1:-1]:
            if base in _WRITERS:
                raise _Stop(value, "a subclass of %s, which would not come back as itself" % base.__name__)
        raise _Stop(value, "which can't be sent")

    def sequence(self, items, depth, step):
        """The items of a list or tuple: numbers and texts in one piece, anything else one by one."""
        self.count(len(items))
        if len(items) >= _FAST:
            kinds = set(map(type, items))
            if len(kinds) == 1:
                kind = kinds.pop()
                try:
                    if kind is float:
                        data = pack("<%dd" % len(items), *items)
                        self.put(b"f")
                        self.put(data)
                        return
                    if kind is int:
                        data = pack("<%dq" % len(items), *items)
                        self.put(b"i")
                        self.put(data)
                        return
                except struct_error:
                    pass
                if kind is str:
                    self.put(b"s")
                    self.put(pack("<%dI" % len(items), *map(len, items)))
                    self.text("".join(items))
                    return
        self.put(b"-")
        index = 0
        try:
            for index, item in enumerate(items):  # noqa: B007 - the except needs it
                self.value(item, depth + 1)
        except _Stop as stop:
            stop.steps.append(step(index))
            raise


def held(e, value, depth, write):
    """Writes a container, held against meeting itself; True."""
    if depth >= MAX_DEPTH:
        raise _Stop(value, "which is nested more than %d deep" % MAX_DEPTH)
    if id(value) in e.open:
        raise _Stop(value, "which contains itself")
    e.open.add(id(value))
    write(e, value, depth)
    e.open.discard(id(value))
    return True


def _none(e, value):
    e.put(b"N")


def _bool(e, value):
    e.put(b"T" if value else b"F")


def _int(e, value):
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        e.put(b"i" + pack("<q", value))
    else:
        e.put(b"I")
        e.integer(value)


def _float(e, value):
    e.put(b"f" + pack("<d", value))


def _complex(e, value):
    e.put(b"c" + pack("<dd", value.real, value.imag))


def _str(e, value):
    e.put(b"s")
    e.text(value)


def _bytes(e, value):
    e.put(b"b")
    e.blob(value)


def _bytearray(e, value):
    e.put(b"B")
    e.blob(bytes(value))


def _list(e, value, depth):
    e.put(b"l")
    e.sequence(value, depth, "[{}]".format)


def _tuple(e, value, depth):
    e.put(b"t")
    e.sequence(value, depth, "[{}]".format)


def _dict(e, value, depth):
    e.put(b"d")
    pairs(e, value, depth)


def pairs(e, value, depth):
    """A dict's keys, then its values."""
    keys = list(value)
    e.sequence(keys, depth, "'s key number {}".format)
    e.sequence(list(value.values()), depth, lambda index: "[%s]" % _short(keys[index]))


def _short(key):
    text = repr(key)
    return text if len(text) <= 60 else text[:57] + "..."


def _set(e, value, depth):
    e.put(b"S" if type(value) is set else b"Z")
    e.count(len(value))
    pieces = []
    for item in value:  # sorted by their bytes: the same set is the same text, whatever the hash seed
        inner = Encoder(e.max_size)
        inner.out.clear()
        inner.open, inner.classes = e.open, e.classes
        try:
            inner.value(item, depth + 1)
        except _Stop as stop:
            stop.steps.append("'s item %s" % _short(item))
            raise
        pieces.append(b"".join(inner.out))
    for piece in sorted(pieces):
        e.put(piece)


def _range(e, value):
    e.put(b"r")
    for number in (value.start, value.stop, value.step):
        e.integer(number)


_WRITERS = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _set,
    range: _range,
}
_CONTAINERS = (list, tuple, dict, set, frozenset)


_SCALARS = ("datetime", "decimal", "uuid", "fractions", "pathlib")
_ROOMS = {"pyarrow": "tables", "polars": "tables", "torch": "tensors", "PIL": "tensors"}


def _other(e, value, kind, depth):
    """Writes a value of a library's type, and says whether it is one; a library that nobody imported is not loaded."""
    module = kind.__module__.partition(".")[0]
    if module == "collections" and own("holders").write(e, value, kind, depth):
        return True
    if module in ("numpy", "pandas"):
        if module not in sys.modules:
            return False
        return own("arrays").write(e, value, depth)
    room = _ROOMS.get(module)
    if room is not None and module in sys.modules:
        return own(room).write(e, value, depth)
    if module in _SCALARS and own("scalars").write(e, value, kind):
        return True
    if own("objects").write(e, value, kind, depth):
        return True
    # A notebook's own class of a model or a tensor: what can be sent instead is said by the same module.
    torch = "torch" in sys.modules and any(base.__module__.partition(".")[0] == "torch" for base in kind.__mro__)
    return torch and own("tensors").write(e, value, depth)


class Decoder:
    """Reads values out of `data`, which nobody vouches for."""

    def __init__(self, data):
        self.data = data
        self.at = 0
        self.budget = 16 * len(data) + (256 << 20)
        self.trusted = False
        self.pickles = False

    def take(self, count):
        start, self.at = self.at, self.at + count
        if count < 0 or self.at > len(self.data):
            raise CodecError("the value is cut off")
        return self.data[start : self.at]

    def view(self):
        """As `blob`, without a copy of what is large."""
        count = self.count(1)
        start, self.at = self.at, self.at + count
        return memoryview(self.data)[start : self.at]

    def unpack(self, layout, size):
        return unpack_from(layout, self.take(size))

    def spend(self, memory):
        self.budget -= memory
        if self.budget < 0:
            raise CodecError("the value takes far more memory than its size allows")

    def count(self, each=0):
        """A length; `each` is the least number of bytes that every item takes."""
        number = self.take(1)[0]
        if number == 255:
            (number,) = self.unpack("<Q", 8)
        if number * each > len(self.data) - self.at:
            raise CodecError("the value is cut off")
        return number

    def blob(self):
        return self.take(self.count(1))

    def text(self):
        return self.blob().decode("utf-8", "surrogatepass")

    def integer(self):
        return int.from_bytes(self.blob(), "little", signed=True)

    def value(self, depth):
        if depth > MAX_DEPTH:
            raise CodecError("the value is nested too deep")
        tag = self.take(1)
        read = _READERS.get(tag)
        if read is None:
            raise CodecError("the value has an unknown type (%r)" % tag)
        self.spend(64)
        return read(self, depth)

    def sequence(self, depth):
        count = self.count()
        mode = self.take(1)
        if mode == b"-":
            if count > len(self.data) - self.at:
                raise CodecError("the value is cut off")
            self.spend(8 * count)
            value = self.value
            return [value(depth + 1) for _ in range(count)]
        if mode in (b"f", b"i"):
            size = 8 * count
            if size > len(self.data) - self.at:
                raise CodecError("the value is cut off")
            return list(self.unpack("<%d%s" % (count, "d" if mode == b"f" else "q"), size))
        if mode != b"s" or 4 * count > len(self.data) - self.at:
            raise CodecError("the value is damaged")
        self.spend(64 * count)
        lengths = self.unpack("<%dI" % count, 4 * count)
        text = self.text()
        if sum(lengths) != len(text):
            raise CodecError("the value is damaged")
        items, start = [], 0
        for length in lengths:
            items.append(text[start : start + length])
            start += length
        return items

    def library(self, name):
        """An importable module, or MissingLibrary; data that is not trusted never has a file of the current folder imported."""
        if not self.trusted and name not in sys.modules and _lies_here(name):
            raise CodecError("the value needs %s, and a file of that name in the current folder stands in its way" % name)
        try:
            return __import__(name)
        except ImportError:
            raise MissingLibrary(name) from None


class Views(Decoder):
    """A decoder of something large that is there already: only its small parts are copied."""

    def __init__(self, data):
        Decoder.__init__(self, memoryview(data))

    def take(self, count):
        return bytes(Decoder.take(self, count))


def _lies_here(name):
    """Whether an import would take its module from the current folder, where a job's files may have been put."""
    import importlib.util
    import os

    spec = importlib.util.find_spec(name)
    if spec is None:
        return False
    places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    return any(os.path.realpath(os.path.dirname(place)) == os.path.realpath(os.getcwd()) for place in places)


def read_pairs(d, depth):
    """The keys and values that `pairs` wrote, for one dict, whose memory is counted here."""
    d.spend(232)
    keys, values = d.sequence(depth), d.sequence(depth)
    d.spend(100 * len(keys))
    if len(keys) != len(values):
        raise CodecError("the value is damaged")
    return zip(keys, values)


def _read_set(d, depth):
    count = d.count(1)
    d.spend(216 + 64 * count)
    return {d.value(depth + 1) for _ in range(count)}


def _read_range(d, depth):
    return range(d.integer(), d.integer(), d.integer())


def _scalar(tag):
    """The reader of one tag of the standard library's classes."""
    return lambda d, depth: own("scalars").READERS[tag](d)


def _holder(tag):
    """The reader of one tag of Python's collections."""
    return lambda d, depth: own("holders").READERS[tag](d, depth)


def _read_array(d, depth):
    return own("arrays").read(d, depth)


def _read_object(d, depth):
    return own("objects").read(d, depth)


def _read_pickle(d, depth):
    if not d.pickles:
        raise CodecError("it is a pickle, which runs code when it is read: only a cell with --allow-pickle reads it")
    return own("pickles").read(d, depth)


def _read_table(d, depth):
    return own("tables").read(d, depth)


def _read_tensor(d, depth):
    return own("tensors").read(d, depth)


_READERS = {
    b"N": lambda d, depth: None,
    b"T": lambda d, depth: True,
    b"F": lambda d, depth: False,
    b"i": lambda d, depth: d.unpack("<q", 8)[0],
    b"I": lambda d, depth: d.integer(),
    b"f": lambda d, depth: d.unpack("<d", 8)[0],
    b"c": lambda d, depth: complex(*d.unpack("<dd", 16)),
    b"s": lambda d, depth: d.text(),
    b"b": lambda d, depth: d.blob(),
    b"B": lambda d, depth: bytearray(d.blob()),
    b"l": lambda d, depth: d.sequence(depth),
    b"t": lambda d, depth: tuple(d.sequence(depth)),
    b"d": lambda d, depth: dict(read_pairs(d, depth)),
    b"S": _read_set,
    b"Z": lambda d, depth: frozenset(_read_set(d, depth)),
    b"r": _read_range,
    **{tag: _holder(tag) for tag in (b"o", b"C", b"e", b"Q")},
    **{tag: _scalar(tag) for tag in (b"L", b"D", b"H", b"M", b"m", b"u", b"q", b"p")},
    b"a": _read_array,
    b"O": _read_object,
    b"K": _read_pickle,
    b"P": _read_table,
    b"G": _read_tensor,
}
