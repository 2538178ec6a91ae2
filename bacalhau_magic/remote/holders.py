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


def _attributed(tag):
    """A dict with what was hung on it: a state_dict has its metadata there."""

    def put(e, value, depth):
        e.put(tag)
        codec.pairs(e, value, depth)
        codec.pairs(e, vars(value), depth)

    return put


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
    collections.OrderedDict: _attributed(b"o"),
    collections.Counter: _attributed(b"C"),
    collections.defaultdict: _default,
    collections.deque: _deque,
}


def _read_ordered(d, depth):
    made = collections.OrderedDict(codec.read_dict(d, depth))
    vars(made).update(codec.read_dict(d, depth))
    return made


def _read_counter(d, depth):
    made = collections.Counter()
    dict.update(made, codec.read_dict(d, depth))  # its own method would add
    vars(made).update(codec.read_dict(d, depth))
    return made


def _read_default(d, depth):
    return collections.defaultdict(_FACTORIES[d.count()], codec.read_dict(d, depth))


def _read_deque(d, depth):
    longest = d.integer()
    d.spend(700)
    return collections.deque(d.sequence(depth), None if longest < 0 else longest)


READERS = {b"o": _read_ordered, b"C": _read_counter, b"e": _read_default, b"Q": _read_deque}
