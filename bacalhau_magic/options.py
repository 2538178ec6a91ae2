"""JobOptions: the one definition of every option of a cell.

The magic's parser, its help, the README's table, the JSON schema, the names in configuration and in the environment
all derive from the fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ._values import (
    CPU_FORM,
    GPU_FORM,
    SIZE_FORM,
    TIME_FORM,
    duration,
    duration_text,
    parse_constraints,
    read_boolean,
    read_cpu,
    read_domains,
    read_env,
    read_gpu,
    read_inputs,
    read_labels,
    read_name,
    read_names,
    read_packages,
    read_plain_text,
    read_publisher,
    read_variables,
    read_whole,
    size,
    size_text,
)
from .errors import OptionError

__all__ = [
    "GROUPS",
    "JobOptions",
    "Option",
    "duration",
    "duration_text",
    "option_of",
    "parse_constraints",
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
    list; `negatable` adds `--no-<name>`;
    `configurable` says whether configuration and environment may set it.
    """

    group: str
    metavar: str = ""
    short: tuple[str, ...] = ()
    repeatable: bool = False
    negatable: bool = False
    configurable: bool = True


Size = Annotated[int, BeforeValidator(size, json_schema_input_type=Annotated[str, Field(pattern=SIZE_FORM, examples=["512MB", "4GB"])])]
Duration = Annotated[
    float, BeforeValidator(duration, json_schema_input_type=Annotated[str, Field(pattern=TIME_FORM, examples=["30s", "10m", "2h"])])
]
Cpus = Annotated[
    float, BeforeValidator(read_cpu, json_schema_input_type=Annotated[str, Field(pattern=CPU_FORM, examples=["2", "0.5", "500m"])])
]
Gpus = Annotated[str, BeforeValidator(read_gpu, json_schema_input_type=Annotated[str, Field(pattern=GPU_FORM, examples=["1", "A100:2"])])]
PlainText = Annotated[str, BeforeValidator(read_plain_text)]
Flag = Annotated[bool, BeforeValidator(read_boolean)]
Names = Annotated[tuple[str, ...], BeforeValidator(read_names, json_schema_input_type=str)]
Name = Annotated[str, BeforeValidator(read_name)]


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

    pip: Annotated[
        Annotated[tuple[str, ...], BeforeValidator(read_packages, json_schema_input_type=str)],
        Option("packages", "PACKAGES", repeatable=True),
    ] = Field((), description="Packages to install before the cell runs: 'numpy pandas==2.2'.")
    requirements: Annotated[PlainText | None, Option("packages", "FILE", short=("-r",))] = Field(
        None, description="A requirements file to install from, before the cell runs."
    )
    sync: Annotated[Literal["none", "imports"], Option("packages", "WHAT")] = Field(
        "none", description="Install what is imported, in the versions that are here: imports; or none."
    )

    inputs: Annotated[
        Annotated[tuple[Any, ...], BeforeValidator(read_inputs, json_schema_input_type=list[str])],
        Option("inputs", "ITEM", short=("-i", "--input"), repeatable=True, configurable=False),
    ] = Field((), description="A variable, file, folder or glob to send: [NAME=]SOURCE[=/target]; auto sends what the cell reads.")
    env: Annotated[
        Annotated[dict[str, str], BeforeValidator(read_env, json_schema_input_type=list[str])],
        Option("inputs", "K=V", short=("-e",), repeatable=True),
    ] = Field({}, description="An environment variable of the job; everybody who may read the job can read it.", repr=False)
    env_file: Annotated[PlainText | None, Option("inputs", "FILE")] = Field(
        None, description="A file of K=V lines for the job's environment."
    )
    secret: Annotated[
        Annotated[tuple[str, ...], BeforeValidator(read_variables, json_schema_input_type=str)],
        Option("inputs", "NAME", repeatable=True, configurable=False),
    ] = Field(
        (), description="A variable of this environment, or of the keyring, that the job gets and its spec, log and results don't show."
    )
    secret_in_spec: Annotated[Flag, Option("inputs", configurable=False)] = Field(
        False, description="On a cluster: put the secrets into the job's spec in clear, for whoever may read the job."
    )

    outputs: Annotated[Names, Option("results", "NAMES", short=("-o", "--output"), repeatable=True, configurable=False)] = Field(
        (),
        description="Variables to bind here when the job is done: a,b; in other languages a is what was printed, a,b the keys of a printed JSON object.",
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
        Annotated[str, BeforeValidator(lambda v: read_plain_text(str(v) if isinstance(v, Path) else v))] | None,
        Option("results", "DIR", configurable=False),
    ] = Field(None, description="Folder for what the cell wrote to outputs/.")
    overwrite: Annotated[Flag, Option("results", configurable=False)] = Field(
        False, description="Let --files replace any file that is there, not only what this cell wrote before."
    )
    max_result: Annotated[Size, Option("results", "SIZE")] = Field(64_000_000, description="The biggest result that comes back by itself.")
    allow_pickle: Annotated[Flag, Option("results", configurable=False)] = Field(
        False, description="Pickle what can't travel else, both ways; reading a pickle runs code that its writer chose."
    )
    trust_html: Annotated[Flag, Option("results", configurable=False)] = Field(
        False, description="Show HTML, Markdown and plots as the job made them; a script in them can do all that the notebook can."
    )
    publisher: Annotated[Annotated[str, BeforeValidator(read_publisher)] | None, Option("results", "SPEC")] = Field(
        None, description="Where the job's files are published: local, s3managed, s3://BUCKET/KEY[?region=R&endpoint=URL]."
    )

    cpu: Annotated[Cpus, Option("resources", "N")] = Field(1.0, description="CPUs: 2, 0.5 or 500m.")
    memory: Annotated[Size, Option("resources", "SIZE")] = Field(2_000_000_000, description="Memory: 512MB, 4GB.")
    disk: Annotated[Size | None, Option("resources", "SIZE")] = Field(None, description="Disk space of the job.")
    gpu: Annotated[Gpus | None, Option("resources", "N")] = Field(None, description="GPUs: 1, or a model and a number such as A100:2.")
    gpu_vendor: Annotated[Literal["nvidia", "amd", "intel"] | None, Option("resources", "VENDOR")] = Field(
        None, description="Only GPUs of this maker: nvidia, amd or intel."
    )

    constraints: Annotated[
        Annotated[tuple[tuple[str, str, tuple[str, ...]], ...], BeforeValidator(parse_constraints, json_schema_input_type=str)],
        Option("placement", "EXPR", repeatable=True),
    ] = Field((), description="Only nodes with these labels: region=eu, zone in (a,b), !spot.")
    priority: Annotated[Annotated[int, BeforeValidator(read_whole)], Option("placement", "P")] = Field(
        0, description="Higher goes first.", examples=[1, 10]
    )
    namespace: Annotated[PlainText, Option("placement", "NAME")] = Field("default", description="Namespace of the job.")
    labels: Annotated[
        Annotated[dict[str, str], BeforeValidator(read_labels, json_schema_input_type=list[str])],
        Option("placement", "K=V", repeatable=True),
    ] = Field({}, description="A label of the job.")

    timeout: Annotated[Duration, Option("limits", "TIME")] = Field(300.0, description="The cell's own time, from its first line.")
    queue_timeout: Annotated[Duration, Option("limits", "TIME")] = Field(600.0, description="How long the job may wait for a node.")
    network: Annotated[Literal["none", "http", "full"], Option("limits", "KIND")] = Field(
        "none", description="The job's network: none, http (only the domains given) or full."
    )
    domain: Annotated[Annotated[tuple[str, ...], BeforeValidator(read_domains)], Option("limits", "DOMAIN", repeatable=True)] = Field(
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
    on_interrupt: Annotated[Literal["stop", "detach"], Option("running", "WHAT")] = Field(
        "stop", description="What an interrupt does to the job: stop, or detach, and then it goes on."
    )
    raise_error: Annotated[Flag, Option("running", negatable=True)] = Field(
        True, description="Raise when the job fails; --no-raise-error gives None."
    )
    once: Annotated[Flag, Option("running", configurable=False)] = Field(
        False, description="Attach to an unfinished job of the same cell, options and inputs, if there is one."
    )
    cache: Annotated[Flag, Option("running")] = Field(
        False, description="Take the stored result of the same code, inputs and options; store this one if there is none."
    )
    refresh: Annotated[Flag, Option("running", configurable=False)] = Field(False, description="Run it again, and store the new result.")
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
    profile: Annotated[PlainText | None, Option("identity", "NAME")] = Field(
        None, description="Send the cell to the cluster of this profile of the Bacalhau CLI."
    )

    args: tuple[str, ...] = Field((), description="The program's arguments, after -- on the line.")

    @property
    def asked(self) -> frozenset[str]:
        """The options that the line or the call gave itself."""
        return frozenset(self.model_fields_set)

    def over(self, configured: Mapping[str, Any]) -> JobOptions:
        """These options with configured values (already validated) wherever the line gave none; `asked` stays."""
        return self.with_values(**{name: value for name, value in configured.items() if name not in self.model_fields_set})

    def with_values(self, **values: Any) -> JobOptions:
        """These options with other values (already validated); `asked` stays."""
        everything = {name: getattr(self, name) for name in type(self).model_fields} | values
        return self.model_construct(_fields_set=set(self.model_fields_set), **everything)

    @property
    def run_seconds(self) -> float:
        """The cell's own time: `timeout`, or a day with `long` unless a time was asked for."""
        return 86400.0 if self.long and "timeout" not in self.model_fields_set else self.timeout

    @property
    def queue_seconds(self) -> float:
        """The queue's time: `queue_timeout`, or a day with `long` or `bg` unless a time was asked for."""
        return 86400.0 if (self.long or self.bg) and "queue_timeout" not in self.model_fields_set else self.queue_timeout

    @property
    def stops_on_interrupt(self) -> bool:
        """Whether an interrupt stops the job."""
        return self.on_interrupt == "stop"

    @property
    def gpu_count(self) -> int:
        """How many GPUs are asked for."""
        if self.gpu is None:
            return 0
        model, _, count = self.gpu.rpartition(":")
        return int(count) if count.isdigit() else 1 if not model else 0

    def amount(self, name: str) -> Any:
        """What an option of which a policy can limit the amount comes to: seconds, bytes, a count."""
        amounts = {"timeout": self.run_seconds, "queue_timeout": self.queue_seconds, "gpu": self.gpu_count}
        return amounts.get(name, getattr(self, name))

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
    kind: Any = field.annotation
    return TypeAdapter(Annotated[(kind, *parts)] if parts else kind)


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
