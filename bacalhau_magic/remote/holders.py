"""What holds other values in Python's collections: OrderedDict, Counter, defaultdict, deque; loaded by the codec only where one is met."""

import collections

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py

_FACTORIES = (None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


def write(e, value, kind, depth):
    """Writes such a value, and says whether it is one."""
    put = _WRITERS.get(kind)
    return put is not None and codec.held(e, value, depth, put)


def _ordered(e, value, depth):
    """With what was hung on it: a state_dict has its metadata there."""
    e.put(b"o")
    codec.pairs(e, value, depth)
    codec.pairs(e, vars(value), depth)


def _counter(e, value, depth):
    if vars(value):
        raise e.stop(value, "with attributes of its own, which would not come back")
    e.put(b"C")
    codec.pairs(e, value, depth)


def _default(e, value, depth):
    if not any(value.default_factory is factory for factory in _FACTORIES):
        raise e.stop(value, "whose default_factory is none of Python's own types, and can't be sent")
    e.put(b"e")
    e.count(_FACTORIES.index(value.default_factory))
    codec.pairs(e, value, depth)


def _deque(e, value, depth):
    e.put(b"Q")
    e.integer(-1 if value.maxlen is None else value.maxlen)
    e.sequence(list(value), depth, "[{}]".format)


_WRITERS = {
    collections.OrderedDict: _ordered,
    collections.Counter: _counter,
    collections.defaultdict: _default,
    collections.deque: _deque,
}


def _read_ordered(d, depth):
    made = collections.OrderedDict(codec.read_pairs(d, depth))
    vars(made).update(codec.read_pairs(d, depth))
    return made


def _read_counter(d, depth):
    made = collections.Counter()
    dict.update(made, codec.read_pairs(d, depth))  # its own method would add to what is there
    return made


def _read_default(d, depth):
    return collections.defaultdict(_FACTORIES[d.count()], codec.read_pairs(d, depth))


def _read_deque(d, depth):
    longest, found = d.integer(), d.sequence(depth)
    d.spend(700 + 8 * len(found))
    return collections.deque(found, None if longest < 0 else longest)


READERS = {b"o": _read_ordered, b"C": _read_counter, b"e": _read_default, b"Q": _read_deque}
