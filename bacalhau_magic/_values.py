"""How an option's value is read: sizes, times, names, pairs, selectors; each raises ValueError saying what was expected."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b)?\s*", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.IGNORECASE)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZE_FORM = r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?[bB]?|[bB])\s*$"
TIME_FORM = r"^\s*(\d+(\.\d+)?\s*([mM]?[sS]|[mMhHdD])\s*)+$"
CPU_FORM = r"^\s*(\d+m|\+?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][+-]?\d+)?)\s*$"
GPU_FORM = r"^\s*(\d{1,4}|[A-Za-z][\w. -]*(:[1-9]\d{0,3})?)\s*$"
"""How a value that can be read looks, for the JSON schema (whose patterns are JavaScript's too); the readers below know more."""


def size(value: object) -> int:
    """A size as bytes: an int is bytes, a text has a unit, as in "512MB", "4GB", "2GiB" (KB is 1000, KiB 1024).

    Raises ValueError saying what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected a size such as 512MB or 4GB, not {value!r}")
    if isinstance(value, int):
        amount = value
    else:
        match = _SIZE.fullmatch(value)
        if not match or (match[2] is None and value.strip() != "0"):
            raise ValueError(f"expected a size with a unit, such as 512MB or 4GB, not {value!r}")
        unit = (match[2] or "").lower()
        amount = int(Decimal(match[1]) * _SIZE_UNITS[unit.rstrip("b") if len(unit) > 1 else unit])
    if amount <= 0:
        raise ValueError(f"expected a size above zero, not {value!r}")
    return amount


def duration(value: object) -> float:
    """A span of time as seconds: a number is seconds, a text has units, as in "30s", "10m", "1h30m", "1d".

    Raises ValueError saying what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a time such as 30s, 10m or 2h, not {value!r}")
    if isinstance(value, str):
        text = value.strip().replace(" ", "")
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"expected a time with a unit, such as 30s, 10m or 2h, not {value!r}")
        value = sum(float(number) * _DURATION_UNITS[unit.lower()] for number, unit in parts)
    seconds = float(value)
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"expected a time above zero and at most a year, not {seconds:g} s")
    return seconds


def size_text(count: int) -> str:
    """Bytes as a text that `size` reads back exactly: 2000000000 → "2GB"."""
    for unit, factor in (("TB", 10**12), ("GiB", 2**30), ("GB", 10**9), ("MiB", 2**20), ("MB", 10**6), ("KiB", 2**10), ("KB", 10**3)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return f"{count}B"


def duration_text(seconds: float) -> str:
    """Seconds as a text that `duration` reads back exactly: 5400 → "1h30m", 0.25 → "0.25s"."""
    if seconds != int(seconds):
        return f"{format(Decimal(repr(seconds)), 'f')}s"
    rest, text = int(seconds), ""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, factor)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def read_cpu(value: object) -> float:
    """CPUs as a number: 2, "0.5", or milli-CPUs as in "500m"."""
    if isinstance(value, str) and re.fullmatch(r"\d+m", value.strip()):
        value = int(value.strip()[:-1]) / 1000
    try:
        count = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else float("nan")
    except ValueError:
        count = float("nan")
    if not 0 < count <= 100_000:
        raise ValueError(f"expected a number of CPUs such as 2 or 0.5, not {value!r}")
    return count


def read_gpu(value: object) -> str:
    """GPUs as "<model>:<count>" or "<count>": 1, "2", "A100:2", "A100" (one)."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,4}|[A-Za-z][\w. -]*(:[1-9]\d{0,3})?", text):
        raise ValueError(f"expected a number of GPUs, or a model and a number such as A100:2, not {value!r}")
    return text


_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_LABEL_KEY = re.compile(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def read_names(value: object) -> tuple[str, ...]:
    """Names to bind: "a,b", or a list of such texts."""
    parts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
    if parts is None or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"expected names such as a,b, not {value!r}")
    names = [name.strip() for part in parts for name in part.split(",")]
    for name in names:
        if not read_identifier(name):
            raise ValueError(f"expected variable names, not {name!r}")
    return tuple(dict.fromkeys(names))


def read_identifier(name: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(name)) and not keyword.iskeyword(name)


def read_name(value: object) -> str:
    if not isinstance(value, str) or not read_identifier(value):
        raise ValueError(f"expected a variable name, not {value!r}")
    return value


def read_pairs(value: object) -> dict[str, str]:
    """K=V texts, or a mapping."""
    if isinstance(value, Mapping):
        items = [(str(key), str(item)) for key, item in value.items()]
    else:
        items = []
        for part in [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]:
            key, sep, item = part.partition("=") if isinstance(part, str) else ("", "", "")
            if not sep or not key:
                raise ValueError(f"expected NAME=VALUE, not {part!r}")
            items.append((key, item))
    return dict(items)


def read_env(value: object) -> dict[str, str]:
    pairs = read_pairs(value)
    for key, item in pairs.items():
        _check_variable(key)
        if "\0" in item:
            raise ValueError(f"the value of {key!r} holds a null character")
    return pairs


def _check_variable(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"expected an environment variable's name, not {name!r}")
    if name.upper().startswith("BACALHAU_"):
        raise ValueError(f"{name!r} begins with BACALHAU_, which Bacalhau keeps for itself")


def read_labels(value: object) -> dict[str, str]:
    pairs = read_pairs(value)
    for key, item in pairs.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(item):
            raise ValueError(f"expected letters, digits, '-', '_' and '.' (at most 63), not {key}={item}")
        if key.startswith(("bacalhau-magic", "bacalhau.org/")):
            raise ValueError(f"{key!r} is kept for our own marks")
    return pairs


_CONSTRAINT = re.compile(r"\s*(!?)\s*([\w./-]+)\s*(?:(==|=|!=|>|<|\bin\b|\bnotin\b|\bgt\b|\blt\b)\s*(.+?))?\s*")


def parse_constraints(value: object) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """A selector as (key, operator, values) triples: "gpu=a100, zone in (a|b), !spot", as the Bacalhau CLI reads it.

    Values of `in` and `notin` are separated by `|` or by commas inside parentheses. Raises ValueError.
    """
    if isinstance(value, tuple) and all(isinstance(part, tuple) for part in value):
        return value
    parts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"expected a constraint such as region=eu, not {part!r}")
        for text in re.split(r",(?![^()]*\))", part):
            found.append(_constraint(text))
    return tuple(found)


def _constraint(text: str) -> tuple[str, str, tuple[str, ...]]:
    match = _CONSTRAINT.fullmatch(text)
    if not match or (match[1] and match[3]):
        raise ValueError(f"expected a constraint such as region=eu, gpu, !spot or zone in (a,b), not {text.strip()!r}")
    negated, key, operator, values = match.groups()
    if operator is None:
        return key, "!" if negated else "exists", ()
    if operator in ("in", "notin"):
        return key, operator, tuple(item.strip() for item in re.split(r"[|,]", values.strip("() ")) if item.strip())
    return key, {">": "gt", "<": "lt", "==": "="}.get(operator, operator), (values,)


def read_domains(value: object) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|\d{1,3}(\.\d{1,3}){3}", part):
            raise ValueError(f"expected a domain such as example.org, not {part!r}")
    return tuple(parts)


def read_texts(value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"expected a text or a list, not {value!r}")


def read_variables(value: object) -> tuple[str, ...]:
    """Names of environment variables: "A", "A,B", or a list of such texts; each once."""
    texts = read_texts(value)
    names = [name.strip() for text in texts if isinstance(text, str) for name in text.split(",")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("expected names of environment variables")
    for name in names:
        if "=" in name:
            raise ValueError(f"expected a name alone, not {name.partition('=')[0]}=…; the value comes from the environment or the keyring")
        _check_variable(name)
    return tuple(dict.fromkeys(names))


def read_packages(value: object) -> tuple[str, ...]:
    """Texts of packages, as they are; what stands in them is looked at when the cell is known."""
    texts = read_texts(value)
    for text in texts:
        if not isinstance(text, str) or not text.strip() or any(ord(char) < 32 for char in text):
            raise ValueError(f"expected packages such as numpy, not {text!r}")
    return texts


def read_inputs(value: object) -> tuple[Any, ...]:
    """ITEM texts from the line; from Python also a mapping of names to values and a list of ITEMs or Paths."""
    if isinstance(value, Mapping):
        return tuple((str(name), item) for name, item in value.items())
    return read_texts(value)


def read_plain_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, not {value!r}")
    if any(ord(char) < 32 for char in value):
        raise ValueError("expected one line of text")
    return value


def read_publisher(value: object) -> str:
    """A publisher as the Bacalhau CLI writes it; raises ValueError."""
    text = read_plain_text(value).strip()
    publisher(text)
    return text


_S3_FACTS = {"region": "Region", "endpoint": "Endpoint"}


def publisher(text: str) -> tuple[str, dict[str, str]]:
    """A publisher's type and parameters: local, s3managed, or s3://BUCKET/KEY with region and endpoint; raises ValueError."""
    if text in ("local", "s3managed"):
        return text, {}
    if text in ("ipfs", "noop"):
        raise ValueError(f"what {text} publishes can't be fetched from here; use local, s3managed or s3://BUCKET/KEY")
    parts = urlsplit(text)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"expected local, s3managed or s3://BUCKET/KEY, not {text!r}")
    facts = dict(parse_qsl(parts.query))
    if wrong := sorted(facts.keys() - _S3_FACTS.keys()):
        raise ValueError(f"expected region and endpoint after the ?, not {wrong[0]!r}")
    key = parts.path.strip("/")
    if not key.endswith(".tar.gz"):
        # Bacalhau fills these in; only such a name is handed out signed.
        key = "/".join(part for part in (key, "{jobID}", "{executionID}.tar.gz") if part)
    return "s3", {"Bucket": parts.netloc, "Key": key, **{_S3_FACTS[name]: given for name, given in facts.items()}}


def read_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"expected true or false, not {value!r}")


def read_whole(value: object) -> int:
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 1_000_000:
        raise ValueError(f"expected a whole number from 0 on, not {value!r}")
    return number
