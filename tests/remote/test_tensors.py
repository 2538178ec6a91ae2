"""PIL images and torch tensors: exactly, and safe to read from a stranger."""

import collections
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bacalhau_magic.remote import codec, tensors


def back(value):
    return codec.loads(codec.dumps(value))


@given(st.sampled_from([mode for mode in tensors._BITS if mode not in ("RGBX",)]), st.integers(0, 17), st.integers(0, 5), st.data())
def test_image(mode, width, height, data):
    """An image of each mode and size comes back equal, pixels, palette and plain facts."""
    image = Image.new(mode, (width, height))
    size = (width * tensors._BITS[mode] + 7) // 8 * height
    if size and mode != "F":
        image.frombytes(data.draw(st.binary(min_size=size, max_size=size)))
    if mode == "P":
        image.putpalette(data.draw(st.binary(min_size=768, max_size=768)))
    image.info = {"dpi": (72, 72), "comment": b"\xff", "odd": object()}
    got = back(image)
    image.info.pop("odd")
    assert got == image
    assert got.getpalette() == image.getpalette()


def test_image_of_a_file():
    """An image that was opened from a file travels with its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(buffer, "PNG")
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    got = back([opened])[0]
    assert (type(got), got.mode, got.size, got.tobytes()) == (Image.Image, "RGB", (3, 2), opened.tobytes())


def test_image_that_is_closed():
    """An image whose pixels are gone is refused with what its library says."""
    opened = Image.new("RGB", (3, 2))
    opened.close()
    with pytest.raises(codec.Unsendable, match=r"x is of type list, which can't be read \(ValueError: .*closed image"):
        codec.dumps([opened], "x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x03RGB", b"\x03XYZ"),
        (b"i\x03\x00\x00\x00\x00\x00\x00\x00", b"i\xff\xff\xff\x7f\x00\x00\x00\x00"),
        (b"i\x03\x00\x00\x00\x00\x00\x00\x00", b"i\xff\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_image_that_lies(before, after):
    """A mode that is none, or a size that the pixels don't fill, is an error before an image is made."""
    data = codec.dumps(Image.new("RGB", (3, 2)))
    assert before in data
    with pytest.raises(codec.CodecError, match="the value's image"):
        codec.loads(data.replace(before, after, 1))


@given(st.binary(max_size=60))
def test_hostile(data):
    """Arbitrary bytes behind the tag end in a named error or a value."""
    try:
        codec.loads(codec.MAGIC + b"G" + data)
    except codec.CodecError:
        pass


def _torch():
    return pytest.importorskip("torch", reason="torch is not installed (it is large, and no part of [test])")


def equal(torch, a, b):
    return a.dtype == b.dtype and a.shape == b.shape and tensors._tensor_bytes(a) == tensors._tensor_bytes(b)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_tensor_of_each_dtype():
    """A tensor of every dtype and form comes back with the same bits, its dtype, shape and requires_grad."""
    torch = _torch()
    for name in tensors._DTYPES:
        dtype = getattr(torch, name, None)
        if dtype is None:
            continue
        for shape in ((), (0,), (3,), (2, 3), (2, 0, 1)):
            tensor = torch.zeros(shape, dtype=torch.uint8).to(dtype) if "float8" in name else torch.ones(shape).to(dtype)
            assert equal(torch, back(tensor), tensor), name
    turned = torch.arange(6.0).reshape(2, 3).t()
    assert equal(torch, back(turned), turned)
    assert back(torch.ones(2, requires_grad=True)).requires_grad
    assert equal(torch, back(torch.tensor([1 + 2j]).conj()), torch.tensor([1 - 2j]))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@given(st.sampled_from(tensors._DTYPES), st.lists(st.integers(0, 4), max_size=4), st.booleans(), st.data())
def test_any_tensor(name, shape, turned, data):
    """A tensor of any dtype and shape, turned or not, comes back bit by bit, also as a part of something else."""
    torch = _torch()
    if (dtype := getattr(torch, name, None)) is None:
        return
    size = torch.empty((), dtype=dtype).element_size() * math.prod(shape)
    held = bytearray(data.draw(st.binary(min_size=size, max_size=size)))
    if name == "bool":
        held = bytearray(byte & 1 for byte in held)
    tensor = torch.frombuffer(held, dtype=dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    tensor = tensor.permute(tuple(reversed(range(len(shape))))) if turned else tensor
    got = back({"model": [tensor]})["model"][0]
    assert equal(torch, got, tensor)
    assert not got.requires_grad


names = st.text(max_size=5)
trees = st.recursive(
    st.lists(st.floats(width=32), max_size=4) | st.integers(),
    lambda inner: st.dictionaries(names, inner, max_size=3) | st.dictionaries(names, inner, max_size=3).map(collections.OrderedDict) | st.lists(inner, max_size=3),
)  # fmt: skip


@given(st.dictionaries(names, trees, max_size=3))
def test_any_nested_state(tree):
    """Dicts of dicts of tensors, OrderedDicts and lists among them, come back of the same kinds, each tensor bit by bit."""
    torch = _torch()

    def made(part):
        if isinstance(part, dict):
            return type(part)((name, made(inner)) for name, inner in part.items())
        if isinstance(part, list):
            return torch.tensor(part) if all(isinstance(one, float) for one in part) else [made(inner) for inner in part]
        return part

    def same(a, b):
        if isinstance(a, torch.Tensor):
            return equal(torch, a, b)
        if isinstance(a, dict):
            return type(a) is type(b) and list(a) == list(b) and all(same(a[name], b[name]) for name in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b

    state = made(tree)
    assert same(state, back(state))


def test_state_dict():
    """A model's state_dict comes back as it was: an OrderedDict of tensors with its metadata; a parameter as a parameter."""
    torch = _torch()
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    got = back({"model": state, "step": 5})["model"]
    assert type(got) is collections.OrderedDict
    assert list(got) == list(state)
    assert all(equal(torch, got[name], state[name]) for name in state)
    assert got._metadata == state._metadata
    assert type(back(torch.nn.Parameter(torch.ones(2)))) is torch.nn.Parameter


def test_tensor_refused_or_lying():
    """A sparse or subclassed tensor is refused by name, a model with what to send of it; one that lies about its size is an error."""
    torch = _torch()
    with pytest.raises(codec.Unsendable, match=r"a model, of which only the state_dict\(\) can be sent"):
        codec.dumps({"model": torch.nn.Linear(1, 1)})

    class Net(torch.nn.Module):
        """A notebook's own model."""

    with pytest.raises(codec.Unsendable, match=r"Net, a model, of which only the state_dict\(\) can be sent"):
        codec.dumps({"model": Net()})
    with pytest.raises(codec.Unsendable, match="dense"):
        codec.dumps(torch.eye(2).to_sparse())
    data = codec.dumps(torch.ones(3))
    with pytest.raises(codec.CodecError, match="another size"):
        codec.loads(data.replace(b"i\x03\x00", b"i\x04\x00", 1))


@pytest.mark.parametrize("left", [0, 8], ids=["freed", "shrunk"])
def test_tensor_without_all_its_data(left):
    """A tensor whose storage was given back, or is shorter than its shape, is refused: what lies there is not its own."""
    torch = _torch()
    tensor = torch.arange(3.0)
    part = tensor[:2]
    storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage().untyped()
    storage.resize_(left)
    with pytest.raises(codec.Unsendable, match=r"x\['w'\] is of type torch.Tensor, whose data is not there"):
        codec.dumps({"w": tensor}, "x")
    if left:
        assert equal(torch, back(part), torch.tensor([0.0, 1.0]))


def test_tensor_on_meta():
    """A tensor of a device that holds no data is refused by name."""
    torch = _torch()
    with pytest.raises(codec.Unsendable, match=r"x\[0\] is of type torch.Tensor, whose data is not there"):
        codec.dumps([torch.empty(3, device="meta")], "x")
