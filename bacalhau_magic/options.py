"""JobOptions: the one definition of every option of a cell.

The magic's parser, its help, the README's table, the JSON schema, the names in configuration and in the environment
all derive from the fields here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import OptionError

__all__ = [
    "FUTURE",
    "GROUPS",
    "JobOptions",
    "Option",
    "duration",
    "duration_text",
    "option_of",
    "plain_name",
    "size",
    "size_text",
    "spelling",
    "validated",
    "value_of",
]

GROUPS = ("language", "packages", "inputs", "results", "resources", "placement", "limits", "runtime", "running", "looking", "identity")


@dataclass(frozen=True, slots=True)
class Option:
    """How a field looks from outside: its group, spellings on the line, and the rest that a parser needs.

    `short` are further spellings beside `--<name>`; `metavar` is "" for a switch; `repeatable` options collect a
    list; `negatable` adds `--no-<name>`; `later` is the reason why an option is refused by name for now;
    `configurable` says whether configuration and environment may set it.
    """

    group: str
    metavar: str = ""
    short: tuple[str, ...] = ()
    repeatable: bool = False
    negatable: bool = False
    later: str = ""
    configurable: bool = True


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b)?\s*", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.IGNORECASE)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


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


def _cpu(value: object) -> float:
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


def _gpu(value: object) -> str:
    """GPUs as "<model>:<count>" or "<count>": 1, "2", "A100:2", "A100" (one)."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,4}|[A-Za-z][\w. -]*(:[1-9]\d{0,3})?", text):
        raise ValueError(f"expected a number of GPUs, or a model and a number such as A100:2, not {value!r}")
    return text


_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_LABEL_KEY = re.compile(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def _names(value: object) -> tuple[str, ...]:
    """Names to bind: "a,b", or a list of such texts."""
    parts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
    if parts is None or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"expected names such as a,b, not {value!r}")
    names = [name.strip() for part in parts for name in part.split(",")]
    for name in names:
        if not _identifier(name):
            raise ValueError(f"expected variable names, not {name!r}")
    return tuple(dict.fromkeys(names))


def _identifier(name: str) -> bool:
    import keyword

    return bool(_IDENTIFIER.fullmatch(name)) and not keyword.iskeyword(name)


def _name(value: object) -> str:
    if not isinstance(value, str) or not _identifier(value):
        raise ValueError(f"expected a variable name, not {value!r}")
    return value


def _pairs(value: object) -> dict[str, str]:
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


def _env(value: object) -> dict[str, str]:
    pairs = _pairs(value)
    for key, item in pairs.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            raise ValueError(f"expected an environment variable's name, not {key!r}")
        if key.upper().startswith("BACALHAU_"):
            raise ValueError(f"{key!r} begins with BACALHAU_, which Bacalhau keeps for itself")
        if "\0" in item:
            raise ValueError(f"the value of {key!r} holds a null character")
    return pairs


def _labels(value: object) -> dict[str, str]:
    pairs = _pairs(value)
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


def _domains(value: object) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|\d{1,3}(\.\d{1,3}){3}", part):
            raise ValueError(f"expected a domain such as example.org, not {part!r}")
    return tuple(parts)


def _texts(value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"expected a text or a list, not {value!r}")


def _inputs(value: object) -> tuple[Any, ...]:
    """ITEM texts from the line; from Python also a mapping of names to values and a list of ITEMs or Paths."""
    if isinstance(value, Mapping):
        return tuple((str(name), item) for name, item in value.items())
    return _texts(value)


def _plain_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, not {value!r}")
    if any(ord(char) < 32 for char in value):
        raise ValueError("expected one line of text")
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"expected true or false, not {value!r}")


def _whole(value: object) -> int:
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 1_000_000:
        raise ValueError(f"expected a whole number from 0 on, not {value!r}")
    return number


Size = Annotated[int, BeforeValidator(size, json_schema_input_type=str)]
Duration = Annotated[float, BeforeValidator(duration, json_schema_input_type=str)]
PlainText = Annotated[str, BeforeValidator(_plain_text)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str)]
Name = Annotated[str, BeforeValidator(_name)]

_LATER = "comes in a later version"


class JobOptions(BaseModel):
    """Every option of a `%%bacalhau` cell, of `run()` and of `submit()`.

    Sizes are bytes, times seconds. `model_fields_set` holds the names that were asked for on the line or in the call;
    values from configuration are not in it (see `over`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, validate_default=False, arbitrary_types_allowed=True)

    lang: Annotated[PlainText, Option("language", "LANGUAGE")] = Field(
        "python", description="The cell's language: python, javascript, typescript, bash, or one from the configuration."
    )
    image: Annotated[PlainText | None, Option("language", "REF", configurable=False)] = Field(
        None, description="Container image; otherwise the language's own."
    )

    pip: Annotated[str | None, Option("packages", "PACKAGES", later=_LATER)] = Field(
        None, description="Packages to install before the cell runs."
    )
    requirements: Annotated[str | None, Option("packages", "FILE", short=("-r",), later=_LATER)] = Field(
        None, description="A requirements file to install from."
    )

    inputs: Annotated[
        Annotated[tuple[Any, ...], BeforeValidator(_inputs, json_schema_input_type=list[str])],
        Option("inputs", "ITEM", short=("-i", "--input"), repeatable=True, configurable=False),
    ] = Field((), description="A variable, file, folder or glob to send: [NAME=]SOURCE[=/target]; auto sends what the cell reads.")
    env: Annotated[
        Annotated[dict[str, str], BeforeValidator(_env, json_schema_input_type=list[str])],
        Option("inputs", "K=V", short=("-e",), repeatable=True),
    ] = Field({}, description="An environment variable of the job; everybody who may read the job can read it.", repr=False)
    env_file: Annotated[PlainText | None, Option("inputs", "FILE")] = Field(
        None, description="A file of K=V lines for the job's environment."
    )
    secret: Annotated[Annotated[tuple[str, ...], BeforeValidator(_texts)], Option("inputs", "NAME", repeatable=True, later=_LATER)] = Field(
        (), description="A secret to hand to the job by name."
    )

    outputs: Annotated[Names, Option("results", "NAMES", short=("-o", "--output"), repeatable=True, configurable=False)] = Field(
        (), description="Variables to bind here when the job is done: a,b."
    )
    as_: Annotated[Literal["auto", "json", "jsonl", "text", "bytes", "frame"], Option("results", "KIND", configurable=False)] = Field(
        "auto", alias="as", description="How stdout is read, in languages other than Python: auto, json, jsonl, text, bytes or frame."
    )
    stdout: Annotated[Name | None, Option("results", "NAME", configurable=False)] = Field(
        None, description="Put the job's stdout into this variable instead of showing it."
    )
    stderr: Annotated[Name | None, Option("results", "NAME", configurable=False)] = Field(
        None, description="Put the job's stderr into this variable instead of showing it."
    )
    files: Annotated[
        Annotated[str, BeforeValidator(lambda v: _plain_text(str(v) if isinstance(v, Path) else v))] | None,
        Option("results", "DIR", configurable=False),
    ] = Field(None, description="Folder for what the cell wrote to outputs/.")
    max_result: Annotated[Size, Option("results", "SIZE")] = Field(64_000_000, description="The biggest result that comes back by itself.")
    publisher: Annotated[str | None, Option("results", "SPEC", later=_LATER)] = Field(
        None, description="Where the job's files are published."
    )

    cpu: Annotated[Annotated[float, BeforeValidator(_cpu, json_schema_input_type=str)], Option("resources", "N")] = Field(
        1.0, description="CPUs: 2, 0.5 or 500m."
    )
    memory: Annotated[Size, Option("resources", "SIZE")] = Field(2_000_000_000, description="Memory: 512MB, 4GB.")
    disk: Annotated[Size | None, Option("resources", "SIZE")] = Field(None, description="Disk space of the job.")
    gpu: Annotated[Annotated[str, BeforeValidator(_gpu)] | None, Option("resources", "N")] = Field(
        None, description="GPUs: 1, or a model and a number such as A100:2."
    )
    gpu_vendor: Annotated[Literal["nvidia", "amd", "intel"] | None, Option("resources", "VENDOR")] = Field(
        None, description="Only GPUs of this maker: nvidia, amd or intel."
    )

    constraints: Annotated[
        Annotated[tuple[tuple[str, str, tuple[str, ...]], ...], BeforeValidator(parse_constraints, json_schema_input_type=str)],
        Option("placement", "EXPR", repeatable=True),
    ] = Field((), description="Only nodes with these labels: region=eu, zone in (a,b), !spot.")
    priority: Annotated[Annotated[int, BeforeValidator(_whole)], Option("placement", "P")] = Field(0, description="Higher goes first.")
    namespace: Annotated[PlainText, Option("placement", "NAME")] = Field("default", description="Namespace of the job.")
    labels: Annotated[
        Annotated[dict[str, str], BeforeValidator(_labels, json_schema_input_type=list[str])], Option("placement", "K=V", repeatable=True)
    ] = Field({}, description="A label of the job.")

    timeout: Annotated[Duration, Option("limits", "TIME")] = Field(300.0, description="The cell's own time, from its first line.")
    queue_timeout: Annotated[Duration, Option("limits", "TIME")] = Field(600.0, description="How long the job may wait for a node.")
    network: Annotated[Literal["none", "http", "full"], Option("limits", "KIND")] = Field(
        "none", description="The job's network: none, http (only the domains given) or full."
    )
    domain: Annotated[Annotated[tuple[str, ...], BeforeValidator(_domains)], Option("limits", "DOMAIN", repeatable=True)] = Field(
        (), description="A domain that the job may reach, with --network http."
    )

    runtime: Annotated[Literal["auto", "local", "bacalhau"], Option("runtime", "PLACE")] = Field(
        "auto", description="Where to run: auto, local or bacalhau."
    )
    long: Annotated[Flag, Option("runtime")] = Field(False, description="Hours, not minutes: 24 h to run and 24 h in the queue.")
    sandbox: Annotated[Flag, Option("runtime")] = Field(False, description="Only where the cell is isolated.")
    fallback: Annotated[Flag, Option("runtime")] = Field(False, description="Run locally when the configured endpoint does not answer.")

    bg: Annotated[Flag, Option("running", configurable=False)] = Field(False, description="Return a RemoteJob at once; don't wait.")
    job: Annotated[Name | None, Option("running", "NAME", configurable=False)] = Field(
        None, description="Bind the RemoteJob to this variable."
    )
    on_interrupt: Annotated[str | None, Option("running", "WHAT", later=_LATER)] = Field(
        None, description="What an interrupt does to the job: stop or detach."
    )
    raise_error: Annotated[Flag, Option("running", negatable=True)] = Field(
        True, description="Raise when the job fails; --no-raise-error gives None."
    )
    once: Annotated[bool | None, Option("running", later=_LATER)] = Field(None, description="Attach to an unfinished job of the same cell.")
    progress: Annotated[Literal["auto", "widget", "text", "none"], Option("running", "KIND")] = Field(
        "auto", description="How progress is shown: auto, widget, text or none."
    )
    logs: Annotated[Flag, Option("running", negatable=True)] = Field(True, description="Show the job's log while it runs.")
    quiet: Annotated[Flag, Option("running", short=("-q",))] = Field(False, description="Show the result only.")

    dry_run: Annotated[Flag, Option("looking", short=("-n",), configurable=False)] = Field(
        False, description="Show the job's spec, send nothing."
    )
    save: Annotated[PlainText | None, Option("looking", "FILE", configurable=False)] = Field(
        None, description="Write the job's spec to this file (YAML or JSON), send nothing."
    )

    name: Annotated[PlainText | None, Option("identity", "NAME", configurable=False)] = Field(
        None, description="A name for people; every job is its own."
    )
    profile: Annotated[str | None, Option("identity", "NAME", later=_LATER)] = Field(None, description="A profile of the Bacalhau CLI.")

    args: tuple[str, ...] = Field((), description="The program's arguments, after -- on the line.")

    @property
    def asked(self) -> frozenset[str]:
        """The options that the line or the call gave itself."""
        return frozenset(self.model_fields_set)

    def over(self, configured: Mapping[str, Any]) -> JobOptions:
        """These options with configured values (already validated) wherever the line gave none; `asked` stays."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values |= {name: value for name, value in configured.items() if name not in self.model_fields_set}
        return self.model_construct(_fields_set=set(self.model_fields_set), **values)

    @property
    def run_seconds(self) -> float:
        """The cell's own time: `timeout`, or a day with `long` unless a time was asked for."""
        return 86400.0 if self.long and "timeout" not in self.model_fields_set else self.timeout

    @property
    def queue_seconds(self) -> float:
        """The queue's time: `queue_timeout`, or a day with `long` or `bg` unless a time was asked for."""
        return 86400.0 if (self.long or self.bg) and "queue_timeout" not in self.model_fields_set else self.queue_timeout

    @property
    def gpu_count(self) -> int:
        """How many GPUs are asked for."""
        if self.gpu is None:
            return 0
        model, _, count = self.gpu.rpartition(":")
        return int(count) if count.isdigit() else 1 if not model else 0

    @property
    def gpu_model(self) -> str:
        """The GPU model that is asked for, "" for any."""
        if self.gpu is None or self.gpu.isdigit():
            return ""
        return self.gpu.rpartition(":")[0] or self.gpu


def option_of(name: str) -> Option | None:
    """The Option of a field of JobOptions; None for `args`, which has no spelling of its own."""
    for part in JobOptions.model_fields[name].metadata:
        if isinstance(part, Option):
            return part
    return None


FUTURE = frozenset({"allow_pickle", "sync", "overwrite", "trust_html", "secret_in_spec", "cache", "refresh"})
"""Names that a later version will give a meaning; they are refused by name, so that nobody takes them for a typo."""


def plain_name(name: str) -> str:
    """An option's name in Python and in configuration: as_ → "as"."""
    return name.rstrip("_")


def spelling(name: str) -> str:
    """An option's long spelling on the line: max_result → "--max-result", as_ → "--as"."""
    return "--" if name == "args" else "--" + plain_name(name).replace("_", "-")


def validated(values: Mapping[str, object]) -> JobOptions:
    """JobOptions of values by field name; raises OptionError naming the option and what was expected."""
    try:
        return JobOptions.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = str(first["loc"][0]) if first["loc"] else ""
        name = "as_" if where == "as" else where
        raise OptionError(f"{spelling(name)}: {_sentence(first)}.", option=plain_name(name)) from None


@cache
def _reader(name: str) -> TypeAdapter[Any]:
    field = JobOptions.model_fields[name]
    parts = tuple(part for part in field.metadata if not isinstance(part, Option))
    return TypeAdapter(Annotated[(field.annotation, *parts)] if parts else field.annotation)


def value_of(name: str, value: object) -> Any:
    """One option's value, read as the line or configuration gives it; raises ValueError saying what was expected."""
    try:
        return _reader(name).validate_python(value)
    except ValidationError as error:
        raise ValueError(_sentence(error.errors(include_url=False)[0])) from None


def _sentence(error: Any) -> str:
    """What pydantic found, as one short sentence without its full stop."""
    given = error.get("input")
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "literal_error":
            return f"expected {error['ctx']['expected'].replace(chr(39), '')}, not {given!r}"
        case "string_type":
            return f"expected a text, not {given!r}"
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {given!r}"
