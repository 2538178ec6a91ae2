"""Values out of what a job brought back: a Python cell's encoded parts, or another language's stdout, parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from ._bundles import Bundle
from ._languages import Language
from ._placement import size
from ._stages import JobRef, JobResult
from ._suggestions import suggestion
from .errors import CorruptResultError, MissingResultError, ResultError
from .options import JobOptions
from .remote import codec

AS_PICKLE = " Or let it come back as one, where its class is here: --allow-pickle."
"""How what was kept as a pickle would have come; a policy may not allow it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: the cell's value or the wanted names; beside an error those that could be read."""

    value: Any = None
    has_value: bool = False
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: ResultError | None = None


def of_python(bundle: Bundle, result: JobResult, options: JobOptions) -> Read:
    """The value and the wanted names of a Python cell; those that can be read are there beside an error."""
    job_id = result.ref.job_id
    outputs: dict[str, Any] = {}
    problems: list[ResultError] = []
    for name in options.outputs:
        if name in bundle.outputs:
            value, problem = _decoded(bundle.outputs[name], name, job_id, options)
            if problem:
                problems.append(problem)
            else:
                outputs[name] = value
        elif name in bundle.unsendable:
            large = bundle.unsendable[name].endswith(codec.ABOVE)
            said, how = place_kept(bundle, name, options, result.ref)
            if how and not large and not result.ref.endpoint.recording:  # a recording's pickle is never read
                how += AS_PICKLE
            problems.append(
                ResultError(
                    f"{name!r} can't be sent back: {bundle.unsendable[name]}.".replace("..", ".") + said,
                    job_id=job_id,
                    name=name,
                    hint=f"{how} Or ask for more with --max-result."
                    if how and large
                    else how or ("Ask for more with --max-result." if large else ""),
                )
            )
        else:
            problems.append(
                MissingResultError(
                    f"The cell did not set {name!r}, which -o asks for.", job_id=job_id, name=name, hint="Set it as a global in the cell."
                )
            )
    if problems:
        return Read(outputs=outputs, error=_first(problems, outputs, result.ref))
    if "value" in bundle.parts and not options.outputs:
        value, problem = _decoded(bundle.parts["value"], "", job_id, options)
        if problem:
            # A value that is only shown is no reason to lose the rest.
            return Read(error=problem)
        return Read(value, True)
    return Read(outputs=outputs)


def place_kept(bundle: Bundle, name: str, options: JobOptions, ref: JobRef) -> tuple[str, str]:
    """Where a value that did not travel lies, as a sentence that follows another one, and how it is read; "" where it is lost.

    `name` is "" for the cell's value; no server has the files of a recorded job.
    """
    if name not in bundle.kept or (ref.endpoint.recording and not options.files):
        return "", ""
    file, count = bundle.kept[name]
    place = f"{options.files or 'DIR'}/{file}"
    fetch = "" if options.files else f"Fetch them with %bacalhau get {ref.word} DIR, then r"
    if file.endswith(".pickle"):
        read = f"import pickle; pickle.load(open({place!r}, 'rb')), which runs code that the job wrote."
    else:
        read = f"from bacalhau_magic import read_value; read_value({place!r})."
    return f" It is kept among the job's files as {file} ({size(count)}).", f"{fetch or 'R'}ead it: {read}"


def read_value(path: str | PathLike[str]) -> Any:
    """The value in a `.value` file that a job left among its files, because it was too large to come back by itself.

    Nothing in the file is run. Raises ResultError for a file that is none, or damaged, or of a class that is not here.
    """
    place = Path(path)
    if place.suffix == ".pickle":
        raise ResultError(
            f"{place.name} is a pickle, which runs code when it is read.",
            hint=f"Read it yourself: pickle.load(open({str(place)!r}, 'rb')).",
        )
    try:
        return codec.loads(place.read_bytes())
    except OSError as problem:
        raise ResultError(f"{place} can't be read: {problem.strerror or problem}.") from None
    except codec.MissingLibrary as problem:
        raise ResultError(
            f"{place.name} needs {problem.library} here.", hint=f"Install it for this kernel: %pip install {problem.library}"
        ) from None
    except codec.CodecError as problem:
        raise CorruptResultError(f"{place.name} can't be read: {problem}.") from None


def _first(problems: Sequence[ResultError], outputs: Mapping[str, Any], ref: JobRef) -> ResultError:
    """The first problem, which names the others too, and how to come to the names that were read: no server has a recorded job."""
    first = problems[0]
    others = ", ".join(repr(problem.name) for problem in problems[1:])
    if others:
        first.message += f" The same goes for {others}."
    if outputs and not ref.endpoint.recording:
        names = ",".join(outputs)
        first.hint += f"{' ' if first.hint else ''}What came back beside it: %bacalhau attach {ref.word} -o {names}"
    return first


def _decoded(data: bytes | memoryview, name: str, job_id: str, options: JobOptions) -> tuple[Any, ResultError | None]:
    called = repr(name) if name else "the cell's value"
    try:
        return codec.loads(data, options.max_result, pickles=options.allow_pickle), None
    except codec.MissingLibrary as error:
        return None, ResultError(
            f"{called} needs {error.library} here, and it is not installed.".capitalize()
            if not name
            else f"{called} needs {error.library} here.",
            job_id=job_id,
            name=name,
            hint=f"Install it for this kernel: %pip install {error.library}",
        )
    except codec.MissingClass as error:
        where = "in this notebook" if error.module == "__main__" else f"here: import {error.module}"
        return None, ResultError(
            f"{called[:1].upper()}{called[1:]} is of the class {error.name}, which is not there.",
            job_id=job_id,
            name=name,
            hint=f"Have the class {error.name} {where}, then %bacalhau get it again.",
        )
    except codec.CodecError as error:
        return None, CorruptResultError(f"{called[:1].upper()}{called[1:]} can't be read: {error}.", job_id=job_id, name=name)


class _NotThat(Exception):
    """Stdout is not of the kind that was asked for; the text says why."""


def of_stdout(result: JobResult, language: Language, options: JobOptions, truncated: bool) -> Read:
    """The value of a cell in another language: its stdout, parsed."""
    job_id, names, kind = result.ref.job_id, options.outputs, options.as_
    if truncated and (names or kind != "auto"):
        return Read(
            error=CorruptResultError(
                "The stdout is larger than --max-result, so it can't be read as a value.",
                job_id=job_id,
                hint=f"%bacalhau logs {result.ref.word} has all of it. Ask for more with --max-result, or write a file to outputs/ and give --files.",
            )
        )
    try:
        value, is_text = _parsed(result, kind, language.brace_json) if not truncated else (result.stdout, True)
    except _NotThat as error:
        return Read(error=CorruptResultError(f"The stdout is not {_KINDS[kind]}: {error}.", job_id=job_id, hint=_instead(kind, str(error))))
    except ImportError:
        return Read(
            error=ResultError(
                "--as frame needs pandas here, and it is not installed.",
                job_id=job_id,
                hint="Install it for this kernel: %pip install pandas",
            )
        )
    if not names:
        return Read() if is_text else Read(value, True)
    if len(names) == 1:
        return Read(outputs={names[0]: value})
    if not isinstance(value, dict):
        what = "a JSON object" if kind in ("auto", "json") else "an object"
        hint = "Print that object alone, and all else to stderr; one name of -o takes whatever was printed."
        return Read(
            error=MissingResultError(f"The stdout is not {what} with the keys {', '.join(names)}.", job_id=job_id, name=names[0], hint=hint)
        )
    for name in names:
        if name not in value:
            near = suggestion(name, [key for key in value if key.isidentifier() and len(key) < 100], written="-o {}")
            return Read(error=MissingResultError(f"The printed JSON object lacks {name!r}.", job_id=job_id, name=name, hint=near))
    if surplus := [key for key in value if key not in names]:
        return Read(
            error=MissingResultError(
                f"The printed JSON object has more keys than -o asks for: {', '.join(map(repr, surplus[:5]))}.",
                job_id=job_id,
                name=names[0],
                hint="Name them all, or ask for one name and get the whole object.",
            )
        )
    return Read(outputs={name: value[name] for name in names})


_KINDS = {"json": "JSON", "jsonl": "JSON lines", "frame": "a table (CSV or JSON lines)", "text": "text", "bytes": "bytes", "auto": "text"}


def _parsed(result: JobResult, kind: str, brace_json: bool) -> tuple[Any, bool]:
    """(the value, whether it is just the text)."""
    raw = result.stdout_bytes
    if kind == "bytes":
        return raw, False
    if kind == "text":
        return result.stdout, True
    if kind == "json":
        return _json(result.stdout), False
    if kind == "jsonl":
        return _json_lines(result.stdout), False
    if kind == "frame":
        return _frame(result.stdout), False
    begin = result.stdout.lstrip()[:1]
    if not begin or (brace_json and begin not in "{["):
        return result.stdout, True
    try:
        return _json(result.stdout), False
    except _NotThat:
        return result.stdout, True


def _instead(kind: str, why: str) -> str:
    """What to do where stdout is not of the kind that was asked for."""
    hint = "Print what is no part of it to stderr, or take stdout as it is with --as text."
    return f"{hint} One value a line is --as jsonl." if kind == "json" and _FURTHER in why else hint


def _json_lines(text: str) -> list[Any]:
    return [_json(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


_FURTHER = "extra data"


def _json(text: str, number: int = 0) -> Any:
    """The value of a JSON text, which is the line of that number where it is not 0."""

    def constant(name: str) -> Any:
        raise _NotThat(f"{name} is not in JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError:
        raise _NotThat("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        said, there = error.msg[:1].lower() + error.msg[1:], text[error.pos : error.pos + 20].split("\n")[0]
        where = f"at {there!r}" if there.strip() else "at its end" if not text[error.pos :].strip() else "at the line's end"
        raise _NotThat(f"line {number or error.lineno}, column {error.colno}: {said}, {where}") from None
    except ValueError as error:
        raise _NotThat(str(error)) from None


def _frame(text: str) -> Any:
    import io

    import pandas

    try:
        if text.lstrip()[:1] == "{":
            return pandas.DataFrame(_json_lines(text))
        if text.lstrip()[:1] == "[":
            return pandas.DataFrame(_json(text))
        return pandas.read_csv(io.StringIO(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise _NotThat(str(error)) from None
