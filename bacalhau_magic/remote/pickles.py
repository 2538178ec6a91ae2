"""Values that only pickle can carry, for a cell with --allow-pickle: reading one runs what its writer put there."""

import io
import pickle

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py

_PROTOCOL = min(5, pickle.HIGHEST_PROTOCOL)


class _Pickler(pickle.Pickler):
    """Notes the classes and functions of `__main__`, which the other end must have."""

    met = None

    def reducer_override(self, obj):
        if self.met is not None and getattr(obj, "__module__", None) == "__main__" and isinstance(obj, (type, type(codec.dumps))):
            self.met.append(obj)
        return NotImplemented


def dumps(value, met):
    """The pickle of a value; what it needs of `__main__` is added to the list `met` (or None). Raises what pickle raises."""
    file = io.BytesIO()
    pickler = _Pickler(file, _PROTOCOL)
    pickler.met = met
    pickler.dump(value)
    return file.getvalue()


def read(d, depth):
    """The value behind the tag `K`."""
    blob = d.blob()
    try:
        return pickle.loads(blob)
    except ModuleNotFoundError as problem:
        raise codec.MissingLibrary((problem.name or "its library").partition(".")[0]) from None
