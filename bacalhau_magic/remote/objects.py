"""Instances of classes: enums, dataclasses, named tuples and pydantic models, by the fields that they have.

A class is named, never sent here: what reads the value must have the class already, under the same name. No
`__init__`, `__new__`, property or validator of the class runs when a value is read, nor an enum's `_missing_`; its
`__hash__` may, in a set or as a key. A class with a `__del__` must be the notebook's own: what a job sends could else
have a library's finalizer run on data of its choice. Only `Encoder.classes` tells which classes were met.
"""

import sys

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py


def write(e, value, kind, depth):
    """Writes an instance of such a class, and says whether it is one."""
    form = _form(kind)
    if form is None:
        return False
    module, name = kind.__module__, kind.__qualname__
    if _found(module, name) is not kind:
        where = "made inside a function" if "<locals>" in name else "not to be found as %s.%s" % (module, name)
        raise e.stop(value, "a class %s" % where)
    if e.classes is not None:
        e.classes.append(kind)
    e.put(b"O" + form)
    e.text(module)
    e.text(name)
    if form == b"e":
        _write_enum(e, value, kind, depth)
        return True
    return codec.held(e, value, depth, {b"t": _write_tuple, b"d": _write_dataclass, b"p": _write_model}[form])


def _form(kind):
    """How instances of a class are written: e enum, t named tuple, d dataclass, p pydantic model; None for others."""
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(kind, enum.EnumMeta):
        return b"e"
    if issubclass(kind, tuple):
        fields = getattr(kind, "_fields", None)
        plain = kind.__bases__ == (tuple,) and isinstance(fields, tuple) and all(type(field) is str for field in fields)
        return b"t" if plain else None
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(kind, getattr(pydantic, "BaseModel", ())):
        return b"p"
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None and "__dataclass_fields__" in kind.__dict__:
        # Beside its fields a dataclass must be nothing more: a subclass of dict has items that no field holds.
        return (
            b"d" if all(base is object or "__dataclass_fields__" in base.__dict__ or _is_empty(base) for base in kind.__mro__[1:]) else None
        )
    return None


def _is_empty(base):
    """Whether a base class adds no state: an abstract class, Generic, a mixin of methods."""
    if set(_slots(base)) - {"__dict__", "__weakref__"}:
        return False
    return base.__basicsize__ == object.__basicsize__ or (base.__module__ != "builtins" and base.__flags__ & (1 << 9))


def _slots(base):
    slots = base.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _found(module, name, load=False):
    """The class of that name where its module is loaded (or, with `load`, can be); None where there is none."""
    if load and module not in sys.modules:
        try:
            __import__(module)
        except ImportError:
            raise codec.MissingLibrary(module.partition(".")[0]) from None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) else None


def _fields(e, values, depth):
    e.count(len(values))
    for name, item in values.items():
        if type(name) is not str:
            raise e.stop(item, "under a name that is no text")
        e.text(name)
        try:
            e.value(item, depth + 1)
        except codec._Stop as stop:
            stop.steps.append("." + name)
            raise


def _read_fields(d, depth):
    return {d.text(): d.value(depth + 1) for _ in range(d.count(2))}


def _write_enum(e, value, kind, depth):
    name = value._name_
    if name is not None and kind.__members__.get(name) is value:
        e.put(b"n")
        e.text(name)
    elif type(value._value_) is int:  # several flags in one
        e.put(b"v")
        e.integer(value._value_)
    else:
        raise e.stop(value, "a member without a name")


def _read_enum(d, kind, depth):
    if d.take(1) == b"n":
        name = d.text()
        if name not in kind.__members__:
            raise codec.CodecError("%s has no member %s" % (kind.__qualname__, ascii(name)))
        return kind.__members__[name]
    import enum

    if not issubclass(kind, enum.Flag):
        raise codec.CodecError("the value is damaged")
    value = d.integer()
    known = kind._value2member_map_.get(value)
    if known is not None:
        return known
    most = max([member._value_.bit_length() for member in kind.__members__.values() if type(member._value_) is int] + [64])
    if value.bit_length() > most:
        raise codec.CodecError("%s has no such member" % kind.__qualname__)
    made = enum.Flag._missing_.__func__(kind, value)  # the library's own, whatever the class makes of it
    if not isinstance(made, kind):
        raise codec.CodecError("%s has no such member" % kind.__qualname__)
    return made


def _write_tuple(e, value, depth):
    kind = type(value)
    if getattr(value, "__dict__", None):
        raise e.stop(value, "with attributes beside its fields")
    _fields(e, dict(zip(kind._fields, value)), depth)


def _read_tuple(d, kind, depth):
    fields = _read_fields(d, depth)
    if tuple(fields) != kind._fields:
        raise codec.CodecError("%s has other fields here" % kind.__qualname__)
    return tuple.__new__(kind, fields.values())


def _write_dataclass(e, value, depth):
    kind = type(value)
    known = kind.__dataclass_fields__
    fields = {name: item for name, item in getattr(value, "__dict__", {}).items() if name in known}
    for name in known:
        if name not in fields and _is_slot(kind, name):
            try:
                fields[name] = object.__getattribute__(value, name)
            except AttributeError:
                continue  # a field that nobody set
    extra = [name for name in getattr(value, "__dict__", {}) if name not in known]
    if extra:
        raise e.stop(value, "with the attribute %s beside its fields" % extra[0])
    # ClassVar and InitVar are in the table as well, and no instance's own.
    dataclasses = sys.modules["dataclasses"]
    own = {field.name for field in dataclasses.fields(kind)}
    _fields(e, {name: item for name, item in fields.items() if name in own}, depth)


def _is_slot(kind, name):
    found = next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)
    return type(found).__name__ == "member_descriptor"


def _read_dataclass(d, kind, depth):
    fields = _read_fields(d, depth)
    own = {field.name for field in sys.modules["dataclasses"].fields(kind)}
    if not own.issuperset(fields):
        raise codec.CodecError("%s has other fields here" % kind.__qualname__)
    made = object.__new__(kind)
    for name, item in fields.items():
        if _is_slot(kind, name):
            object.__setattr__(made, name, item)
        else:
            object.__getattribute__(made, "__dict__")[name] = item
    return made


_STATE = ("__dict__", "__pydantic_extra__", "__pydantic_private__")


def _write_model(e, value, depth):
    kind = type(value)
    if not hasattr(kind, "__pydantic_fields__") and not hasattr(kind, "model_fields"):
        raise e.stop(value, "a model of pydantic 1, which can't be sent")
    parts = [getattr(value, name, None) for name in _STATE]
    extra = [name for name in parts[0] if name not in kind.model_fields]
    if extra:
        raise e.stop(value, "with the attribute %s beside its fields" % extra[0])
    for part in parts:
        e.put(b"0" if part is None else b"1")
        if part is not None:
            _fields(e, part, depth)
    e.value(sorted(value.model_fields_set), depth + 1)


def _read_model(d, kind, depth):
    parts = [_read_fields(d, depth) if d.take(1) == b"1" else None for _ in _STATE]
    given = d.value(depth + 1)
    fields = parts[0]
    if fields is None or not set(kind.model_fields).issuperset(fields) or type(given) is not list:
        raise codec.CodecError("%s has other fields here" % kind.__qualname__)
    made = object.__new__(kind)
    for name, part in zip(_STATE, parts):
        object.__setattr__(made, name, part)
    object.__setattr__(made, "__pydantic_fields_set__", {name for name in given if type(name) is str})
    return made


_READ = {b"e": _read_enum, b"t": _read_tuple, b"d": _read_dataclass, b"p": _read_model}


def read(d, depth):
    """The value behind the tag `O`."""
    form = d.take(1)
    module, name = d.text(), d.text()
    if form not in _READ or len(module) > 1000 or len(name) > 1000:
        raise codec.CodecError("the value is damaged")
    kind = _found(module, name, load=d.trusted)
    if kind is None or _form(kind) != form:
        raise codec.MissingClass(module, name)
    if not d.trusted and module != "__main__" and any("__del__" in vars(base) for base in kind.__mro__):
        raise codec.CodecError(
            "the class %s of %s has a finalizer, and is not the notebook's own" % (ascii(name)[1:-1], ascii(module)[1:-1])
        )
    d.spend(300)
    return _READ[form](d, kind, depth)
