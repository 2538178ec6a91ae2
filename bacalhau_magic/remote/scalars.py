"""Dates and times with their zones, decimals, fractions, UUIDs and paths; loaded by the codec only where one is met."""

import sys
from struct import pack

if __package__:
    from . import codec
else:
    codec = load("codec")  # noqa: F821 - put here by bootstrap.py


def write(e, value, kind):
    """Writes such a value, and says whether it is one."""
    module = kind.__module__.partition(".")[0]
    put = _WRITERS.get((module, kind.__name__))
    if put is None or getattr(sys.modules.get(module), kind.__name__, None) is not kind:
        return False
    put(e, value)
    return True


def zone(e, value, tz):
    """A tzinfo, or None."""
    if tz is None:
        e.put(b"-")
        return
    kind = type(tz)
    name = "%s.%s" % (kind.__module__.partition(".")[0], kind.__name__)
    if name == "datetime.timezone":
        given = tz.__getinitargs__()
        e.put(b"o")
        _timedelta_body(e, given[0])
        e.put(b"1" if len(given) > 1 else b"0")
        if len(given) > 1:
            e.text(given[1])
    elif name == "zoneinfo.ZoneInfo" and tz.key:
        e.put(b"z")
        e.text(tz.key)
    elif kind.__module__.partition(".")[0] == "pytz" and getattr(tz, "zone", None):
        e.put(b"p")
        e.text(tz.zone)
    else:
        raise e.stop(value, "whose time zone is of type %s, which can't be sent" % codec.type_name(tz))


def _timedelta_body(e, value):
    e.put(pack("<iii", value.days, value.seconds, value.microseconds))


def _timedelta(e, value):
    e.put(b"L")
    _timedelta_body(e, value)


def _date(e, value):
    e.put(b"D" + pack("<HBB", value.year, value.month, value.day))


def _time(e, value):
    e.put(b"H" + pack("<BBBIB", value.hour, value.minute, value.second, value.microsecond, value.fold))
    zone(e, value, value.tzinfo)


def _datetime(e, value):
    date = pack("<HBB", value.year, value.month, value.day)
    e.put(b"M" + date + pack("<BBBIB", value.hour, value.minute, value.second, value.microsecond, value.fold))
    zone(e, value, value.tzinfo)


def _decimal(e, value):
    e.put(b"m")
    e.text(str(value))


def _uuid(e, value):
    e.put(b"u" + value.bytes)


_MAX_FRACTION = 1 << 16  # bytes: a common divisor of larger numbers would take a stranger's reader hours


def _fraction(e, value):
    if max(value.numerator.bit_length(), value.denominator.bit_length()) // 8 + 1 > _MAX_FRACTION:
        raise e.stop(value, "with more than %d bytes of digits" % _MAX_FRACTION)
    e.put(b"q")
    e.integer(value.numerator)
    e.integer(value.denominator)


_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")


def _path(e, value):
    e.put(b"p" + bytes((_PATHS.index(type(value).__name__),)))
    e.text(str(value))


_WRITERS = {
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "datetime"): _datetime,
    ("datetime", "timedelta"): _timedelta,
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): _uuid,
    ("fractions", "Fraction"): _fraction,
}
_WRITERS.update({("pathlib", name): _path for name in _PATHS})


def read_zone(d):
    """A tzinfo, or None."""
    kind = d.take(1)
    if kind == b"-":
        return None
    if kind == b"o":
        import datetime

        offset = _read_timedelta(d)
        return datetime.timezone(offset, d.text()) if d.take(1) == b"1" else datetime.timezone(offset)
    name = d.text()
    if kind == b"p":
        try:
            import pytz

            return pytz.timezone(name)
        except ImportError:
            pass
    if kind not in (b"z", b"p") or len(name) > 200:
        raise codec.CodecError("the value has an unknown time zone")
    try:
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    except ImportError:
        raise codec.CodecError("the time zone %s needs Python 3.9 or later" % name) from None
    except (KeyError, ValueError, OSError):
        raise codec.CodecError("the time zone %s is not known here (the package tzdata has it)" % ascii(name)) from None


def _read_timedelta(d):
    from datetime import timedelta

    days, seconds, microseconds = d.unpack("<iii", 12)
    return timedelta(days, seconds, microseconds)


def _read_date(d):
    from datetime import date

    return date(*d.unpack("<HBB", 4))


def _read_time(d):
    from datetime import time

    hour, minute, second, micro, fold = d.unpack("<BBBIB", 8)
    return time(hour, minute, second, micro, read_zone(d), fold=fold)


def _read_datetime(d):
    from datetime import datetime

    year, month, day = d.unpack("<HBB", 4)
    hour, minute, second, micro, fold = d.unpack("<BBBIB", 8)
    return datetime(year, month, day, hour, minute, second, micro, read_zone(d), fold=fold)


def _read_decimal(d):
    from decimal import Decimal

    return Decimal(d.text())


def _read_uuid(d):
    from uuid import UUID

    return UUID(bytes=d.take(16))


def _read_fraction(d):
    from fractions import Fraction

    top, bottom = d.blob(), d.blob()
    if max(len(top), len(bottom)) > _MAX_FRACTION:
        raise codec.CodecError("the value is a Fraction with too many digits")
    return Fraction(int.from_bytes(top, "little", signed=True), int.from_bytes(bottom, "little", signed=True))


def _read_path(d):
    import pathlib

    name = _PATHS[d.take(1)[0]]
    kind = getattr(pathlib, name)
    if not name.startswith("Pure") and not isinstance(pathlib.Path(), kind):
        kind = getattr(pathlib, "Pure" + name)  # the other system's paths can't be opened here, but named
    return kind(d.text())


READERS = {
    b"L": _read_timedelta,
    b"D": _read_date,
    b"H": _read_time,
    b"M": _read_datetime,
    b"m": _read_decimal,
    b"u": _read_uuid,
    b"q": _read_fraction,
    b"p": _read_path,
}
