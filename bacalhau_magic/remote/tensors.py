"""torch tensors and PIL images as buffers; loaded by the codec only where such a value is met.

Every value here begins with the tag `G` and a kind byte: t tensor  p parameter  i image. A tensor comes back on the
CPU, wherever it was; an image that a file's decoder made comes back as a plain image with the same pixels.
"""

import sys

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py

_DTYPES = (
    "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex32 complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
).split()
_BITS = {"1": 1, "L": 8, "P": 8, "I;16": 16, "LA": 16, "PA": 16, "La": 16, "RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24, "RGBA": 32, "RGBa": 32, "RGBX": 32, "CMYK": 32, "I": 32, "F": 32}  # fmt: skip


def write(e, value, depth):
    """Writes such a value, and says whether it is one."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "PIL":
        image = sys.modules.get("PIL.Image")
        if image is None or not isinstance(value, image.Image):
            return False
        _write_image(e, value, depth)
        return True
    torch = sys.modules["torch"]
    if isinstance(value, torch.nn.Module):
        raise e.stop(value, "a model, of which only the state_dict() can be sent")
    if not isinstance(value, torch.Tensor):
        return False
    if kind is not torch.Tensor and kind is not torch.nn.Parameter:
        raise e.stop(value, "a subclass of torch.Tensor, which would not come back as itself")
    if value.layout != torch.strided or value.is_quantized:
        raise e.stop(value, "which is not a plain dense tensor")
    if not _has_data(value):
        raise e.stop(value, "whose data is not there: it is on the device meta, or its storage was given back")
    name = str(value.dtype).partition(".")[2]
    if name not in _DTYPES:
        raise e.stop(value, "with dtype %s, which can't be sent" % name)
    e.put(b"Gt" if kind is torch.Tensor else b"Gp")
    e.text(name)
    e.put(b"1" if value.requires_grad else b"0")
    e.value(tuple(value.shape), depth + 1)
    e.blob(_tensor_bytes(value))
    return True


def _has_data(tensor):
    """Whether the storage holds all that the tensor's shape and strides reach: else foreign memory would be read."""
    if tensor.device.type == "meta":
        return False
    if not tensor.numel() or tensor.device.type not in ("cpu", "cuda"):  # a TPU's have no storage to ask
        return True
    storage = (getattr(tensor, "untyped_storage", None) or tensor.storage)()  # the first from torch 2 on
    last = tensor.storage_offset() + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride()))
    return (last + 1) * tensor.element_size() <= storage.nbytes()


def _tensor_bytes(tensor):
    import ctypes

    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    size = plain.numel() * plain.element_size()
    return ctypes.string_at(plain.data_ptr(), size) if size else b""


def read(d, depth):
    """The value behind the tag `G`."""
    kind = d.take(1)
    if kind == b"i":
        return _read_image(d, depth)
    if kind not in (b"t", b"p"):
        raise codec.CodecError("the value has an unknown type (%r)" % kind)
    torch = d.library("torch")
    name = d.text()
    dtype = getattr(torch, name, None) if name in _DTYPES else None
    if dtype is None:
        raise codec.CodecError("the value's tensor has a dtype that is not known here (%s)" % ascii(name))
    grad = d.take(1) == b"1"
    shape = d.value(depth + 1)
    if type(shape) is not tuple or len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise codec.CodecError("the value's tensor has a wrong shape")
    count = 1
    for length in shape:
        count *= length
    data = d.blob()
    if count * torch.empty((), dtype=dtype).element_size() != len(data):
        raise codec.CodecError("the value's tensor has another size than it says")
    d.spend(len(data))
    tensor = torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
    if kind == b"p":
        return torch.nn.Parameter(tensor, requires_grad=grad)
    return tensor.requires_grad_() if grad else tensor


def _write_image(e, value, depth):
    if value.mode not in _BITS:
        raise e.stop(value, "with mode %s, which can't be sent" % value.mode)
    e.put(b"Gi")
    e.text(value.mode)
    e.value(tuple(value.size), depth + 1)
    e.blob(value.tobytes())
    palette = value.palette if value.mode in ("P", "PA") else None
    e.value(None if palette is None else (palette.mode, bytes(palette.tobytes())), depth + 1)
    e.value({name: item for name, item in value.info.items() if _is_plain(item)}, depth + 1)


def _is_plain(item):
    try:
        codec.dumps(item)
    except codec.Unsendable:
        return False
    return True


def _read_image(d, depth):
    d.library("PIL")
    from PIL import Image

    mode, size, data = d.text(), d.value(depth + 1), d.blob()
    if mode not in _BITS or type(size) is not tuple or len(size) != 2 or not all(type(n) is int and 0 <= n < 1 << 31 for n in size):
        raise codec.CodecError("the value's image has a form that is not known here")
    if (size[0] * _BITS[mode] + 7) // 8 * size[1] != len(data):
        raise codec.CodecError("the value's image has another size than it says")
    d.spend(4 * size[0] * size[1])
    image = Image.frombytes(mode, size, data) if data else Image.new(mode, size)
    palette, info = d.value(depth + 1), d.value(depth + 1)
    if palette is not None:
        if type(palette) is not tuple or len(palette) != 2 or palette[0] not in ("RGB", "RGBA") or len(palette[1]) > 1024:
            raise codec.CodecError("the value's image has a wrong palette")
        image.putpalette(palette[1], palette[0])
    if type(info) is not dict:
        raise codec.CodecError("the value is damaged")
    image.info = info
    return image
