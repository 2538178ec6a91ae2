"""Instances of enums, dataclasses, named tuples and pydantic models: exactly, and safe to read from a stranger."""

import abc
import collections
import dataclasses
import enum
import http
import sys
import typing

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic.remote import codec


class Colour(enum.Enum):
    RED = "r"
    GREEN = (1, 2)
    ALSO_RED = "r"  # noqa: PIE796 - an alias


class Number(enum.IntEnum):
    ONE = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0
    made: list = dataclasses.field(default_factory=list, init=False)
    kind: typing.ClassVar[str] = "point"

    def __post_init__(self):
        self.made.append("post")


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: object


class Pair(typing.NamedTuple):
    left: object
    right: object = None


Plain = collections.namedtuple("Plain", "a b")


class Model(pydantic.BaseModel):
    name: str
    size: int = 3
    parts: list["Model"] = []
    _secret: int = pydantic.PrivateAttr(default=5)


class Open(pydantic.BaseModel, extra="allow"):
    a: object = None


@pytest.fixture(autouse=True, scope="module")
def _named():
    """This module under the name that its classes have."""
    before = sys.modules.get(__name__)
    sys.modules[__name__] = sys.modules.get(__name__) or sys.modules[Point.__module__]
    yield
    if before is None:
        del sys.modules[__name__]


leaves = st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([*Colour, *Number, *Mode, Mode.READ | Mode.WRITE, Mode(0)])
instances = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.builds(Point, inner, inner) | st.builds(Frozen, inner) | st.builds(Pair, inner, inner) | st.builds(Plain, inner, inner)
        | st.builds(Open, a=inner, more=inner) | st.dictionaries(st.sampled_from(list(Colour)), inner)
    ),
    max_leaves=10,
)  # fmt: skip
models = st.recursive(
    st.builds(Model, name=st.text(max_size=5)),
    lambda inner: st.builds(Model, name=st.text(), size=st.integers(), parts=st.lists(inner, max_size=2)),
)


@given(instances | models)
def test_round_trip(value):
    """Any nesting of instances comes back equal, in its own classes, enum members as themselves."""
    classes = []
    back = codec.loads(codec.dumps(value, classes=classes))
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, enum.Enum):
        assert back is value
    if dataclasses.is_dataclass(value) or isinstance(value, pydantic.BaseModel):
        assert type(value) in classes


def test_state_is_the_instance_s_own():
    """What was set since, what was never set, private fields and the fields given come back; nothing of the class runs."""
    point = Point(1)
    point.made = []
    del point.y
    back = codec.loads(codec.dumps(point))
    assert (back.made, "y" in vars(back)) == ([], False)
    model = Model(name="n")
    model._secret = 7
    back = codec.loads(codec.dumps(model))
    assert (back._secret, back.model_fields_set) == (7, {"name"})
    assert codec.loads(codec.dumps(Open(a=1, b=2))).model_extra == {"b": 2}


def test_a_class_of_the_standard_library():
    """A member of an enum that both ends have needs nothing sent."""
    assert codec.loads(codec.dumps([http.HTTPStatus.NOT_FOUND])) == [http.HTTPStatus.NOT_FOUND]


@dataclasses.dataclass
class Listed(list):
    a: int = 0


class Loose:
    pass


class Abstract(abc.ABC, typing.Generic[typing.TypeVar("T")]):
    def method(self):
        return 1


@dataclasses.dataclass
class Concrete(Abstract):
    a: int


def local():
    @dataclasses.dataclass
    class Inner:
        a: int

    return Inner(1)


def with_more():
    point = Point(1)
    point.extra = 5
    return point


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Loose(), "which can't be sent"),
        (Listed(a=1), "a subclass of list"),
        (local(), "a class made inside a function"),
        (with_more(), "with the attribute extra beside its fields"),
        (Point(lambda: 1), "which can't be sent"),
    ],
)
def test_refused_by_name(value, reason):
    """What would not come back as itself is refused with the path and the reason."""
    with pytest.raises(codec.Unsendable, match=reason) as caught:
        codec.dumps({"k": value}, "x")
    assert caught.value.path.startswith("x['k']")


def test_bases_without_state():
    """A dataclass below abstract and generic classes travels."""
    assert codec.loads(codec.dumps(Concrete(3))) == Concrete(3)


def test_instance_that_contains_itself():
    """A cycle through an instance is refused."""
    point = Point(1)
    point.x = [point]
    with pytest.raises(codec.Unsendable, match="contains itself"):
        codec.dumps(point)


def changed(value, before, after):
    data = codec.dumps(value)
    assert before in data
    return data.replace(before, after)


def text(word):
    return bytes((len(word),)) + word.encode()


@pytest.mark.parametrize("name", ["Nowhere", "Loose", "Point.x", "local", "Colour.__class__", "dataclasses", "os"])
def test_a_class_that_is_not_one_is_missing(name):
    """A name that leads to no such class is an error that names it; nothing is made, called or imported."""
    with pytest.raises(codec.MissingClass):
        codec.loads(changed(Frozen(1), text("Frozen"), text(name)))


def test_a_stranger_can_not_import():
    """A module that is not loaded is not imported for a stranger, and is for a job's own inputs."""
    data = changed(Colour.RED, text(__name__), text("antigravity"))
    with pytest.raises(codec.MissingClass):
        codec.loads(data)
    assert "antigravity" not in sys.modules
    with pytest.raises(codec.MissingLibrary, match="nowhere_at_all"):
        codec.loads(changed(Colour.RED, text(__name__), text("nowhere_at_all.deep")), trusted=True)


@pytest.mark.parametrize(
    ("value", "before", "after"),
    [
        (Colour.RED, text("RED"), text("BLU")),
        (Frozen(1), text("a"), text("b")),
        (Plain(1, 2), text("b"), text("c")),
        (Model(name="n"), text("size"), text("siz2")),
        (Mode.READ | Mode.WRITE, b"\x01\x03", b"\x01\x7f"),
    ],
)
def test_other_members_and_fields(value, before, after):
    """A member or a field that the class does not have is an error, and no half-made instance."""
    with pytest.raises(codec.CodecError):
        codec.loads(changed(value, before, after))


@given(st.binary(max_size=60))
def test_hostile(data):
    """Arbitrary bytes behind the tag end in a named error or a value."""
    try:
        codec.loads(codec.MAGIC + b"O" + data)
    except codec.CodecError:
        pass


class _Slotted:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class _OnSlots(_Slotted):
    x: int = 1


def test_a_base_with_slots_of_its_own_is_refused():
    """A dataclass whose base keeps state outside the fields would lose it, so it is refused by name."""
    value = _OnSlots(2)
    value.hidden = 3
    with pytest.raises(codec.Unsendable, match="_OnSlots"):
        codec.dumps(value)


class Careful(enum.Flag):
    A = 1
    B = 2

    @classmethod
    def _missing_(cls, value):
        raise RuntimeError("ran")


class Kept(enum.IntFlag):
    A = 1


RAN = []


class Guarded(pydantic.BaseModel):
    a: int = 1

    def __new__(cls, *_args, **_kwargs):
        RAN.append(cls)
        return super().__new__(cls)


@dataclasses.dataclass
class Finalized:
    a: int = 1

    def __del__(self):
        RAN.append("del")


def test_nothing_of_a_class_runs():
    """A model's `__new__` and a flag's `_missing_` are not called when a value is read."""
    data = codec.dumps(Guarded(a=2))
    RAN.clear()
    back = codec.loads(data)
    assert (back.a, type(back), RAN) == (2, Guarded, [])
    name = Careful.__qualname__.encode()
    module = Careful.__module__.encode()
    written = codec.MAGIC + b"Oe" + bytes([len(module)]) + module + bytes([len(name)]) + name + b"v" + bytes([1, 3])
    back = codec.loads(written)
    assert type(back) is Careful
    assert back.value == 3


@pytest.mark.parametrize("number", [4, 1 << 70, -(1 << 100)])
def test_a_flag_that_is_none_is_refused(number):
    """Bits that a flag doesn't have are an error, and never a member of the data's choice."""
    name, module = Careful.__qualname__.encode(), Careful.__module__.encode()
    digits = number.to_bytes(16, "little", signed=True)
    with pytest.raises(codec.CodecError):
        codec.loads(codec.MAGIC + b"Oe" + bytes([len(module)]) + module + bytes([len(name)]) + name + b"v" + bytes([16]) + digits)


def test_bits_that_a_flag_keeps_come_back():
    """An IntFlag with bits of no name is itself again."""
    assert codec.loads(codec.dumps(Kept(5))) is Kept(5)


def test_finalizers_run_only_for_the_notebook_s_own_classes(monkeypatch):
    """A job can't have a library's `__del__` run on data of its choice; a class of the notebook is its own affair."""
    data = codec.dumps(Finalized(3))
    with pytest.raises(codec.CodecError, match="has a finalizer"):
        codec.loads(data)
    assert codec.loads(data, trusted=True).a == 3
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Finalized", Finalized, raising=False)
    monkeypatch.setattr(Finalized, "__module__", "__main__")
    assert codec.loads(codec.dumps(Finalized(4))).a == 4
