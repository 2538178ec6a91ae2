"""The user's namespace: the only code that reads or writes it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from ._cellnames import read
from ._definitions import Definitions, Step, is_definition
from ._languages import Language
from ._neighbours import source_beside
from ._paths import addressed, placed
from ._stages import InputItem
from ._suggestions import suggestion
from .errors import OptionError, ResultError, UnsendableInputError
from .options import JobOptions
from .remote import codec

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_URL = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<url>(?:https?|s3|ipfs)://.+)", re.IGNORECASE)
_ITEM = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<source>.+?)(?:=(?P<target>/[^=]*))?")
_KEPT_FOLDERS = ("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/inputs", "/outputs", "/run")


@dataclass(frozen=True, slots=True)
class Captured:
    """The inputs of a cell, encoded or looked at, and what the user should be told about them.

    `steps` are what the job does first, in order, where definitions are among the inputs.
    """

    items: tuple[InputItem, ...]
    notices: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


def capture(code: str, options: JobOptions, language: Language, namespace: Mapping[str, Any], folder: Path) -> Captured:
    """Take the inputs of a cell: values are encoded now, files only looked at; paths are relative to `folder`.

    Raises UnsendableInputError naming the input, or OptionError for an ITEM that can't be read.
    """
    taken = _Taken(language, namespace, folder, options.allow_pickle)
    for entry in options.inputs:
        if isinstance(entry, str) and entry == "auto":
            taken.free(code)
        elif isinstance(entry, str):
            taken.item(entry)
        elif isinstance(entry, Path):
            taken.place("", str(entry), "")
        else:
            taken.given(entry)
    return taken.captured()


class _Taken:
    """The inputs while they are taken: `items` in their order, the variables among them by name until all are known."""

    def __init__(self, language: Language, namespace: Mapping[str, Any], folder: Path, pickles: bool) -> None:
        self.items: list[InputItem | str] = []
        self._encoded: dict[str, InputItem] = {}
        self._language = language
        self._namespace = namespace
        self._folder = folder
        self._pickles = pickles
        self._variables: dict[str, Any] = {}
        self._notices: list[str] = []

    def captured(self) -> Captured:
        """All of it, the variables encoded."""
        if not self._language.is_python:
            self._encoded = {name: _plain(name, value) for name, value in self._variables.items()}
            return Captured(self._ordered(), tuple(self._notices))
        definitions = Definitions(self._namespace, self._variables, self._encode)
        for name, value in self._variables.items():
            definitions.add(name, value)
        said = [definitions.sentence] if definitions.sentence else []
        steps = tuple(definitions.steps) if said else ()
        return Captured(self._ordered(), (*self._notices, *said), steps)

    def _ordered(self) -> tuple[InputItem, ...]:
        """The items as they were named, then what definitions need besides."""
        named = [self._encoded.pop(item, None) if isinstance(item, str) else item for item in self.items]
        whole = [*(item for item in named if item is not None), *self._encoded.values()]
        _unique(whole)
        return tuple(whole)

    def _encode(self, name: str, value: Any) -> list[type]:
        self._encoded[name], classes = _variable(name, value, self._pickles)
        if codec.is_pickle(self._encoded[name].data):
            self._notices.append(f"{name} goes as a pickle: the job needs its libraries in the versions of here.")
        return classes

    def _take(self, name: str, value: Any) -> None:
        if isinstance(value, PendingValue):
            state, advice = object.__getattribute__(value, "_said")()
            raise UnsendableInputError(name, state, hint=advice)
        if name in self._variables:
            raise OptionError(f"Two inputs are called {name!r}.", option="inputs", hint="Give one of them another name: NAME=SOURCE.")
        self._variables[name] = value
        self.items.append(name)

    def free(self, code: str) -> None:
        """The notebook's names that a Python cell reads."""
        if not self._language.is_python:
            raise OptionError(
                f"-i auto reads Python cells only; this one is {self._language.name}.", option="inputs", hint="Name the variables: -i a,b."
            )
        names = [name for name in read(code).reads if name in self._namespace and name not in self._variables]
        for name in names:
            self._take(name, self._namespace[name])
        data = [name for name in names if not is_definition(self._namespace[name])]
        if data or not names:
            self._notices.append(f"Sends {', '.join(data)}." if data else "Sends no variables: the cell reads none of yours.")

    def given(self, entry: object) -> None:
        """An entry of `inputs={name: value}` of run() and submit(): a Path is a path, anything else a value."""
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise OptionError(
                f"inputs takes texts, paths or a mapping of names to values, not {type(entry).__name__}.",
                option="inputs",
                hint="For example inputs={'x': x}.",
            )
        name, value = entry
        if isinstance(value, Path):
            self.place(name, str(value), "")
        elif not _IDENTIFIER.fullmatch(name):
            raise OptionError(f"The input's name {name!r} is no variable name.", option="inputs", hint="Use letters, digits and _.")
        else:
            self._take(name, value)

    def place(self, name: str, source: str, target: str) -> None:
        """The files and folders of a path or glob."""
        found, notices = placed(name, source, target, self._folder)
        self.items += found
        self._notices += notices

    def item(self, text: str) -> None:
        """What one ITEM `[NAME=]SOURCE[=/target]` stands for."""
        if url := _URL.fullmatch(text):
            self.items.append(addressed(url["name"] or "", url["url"]))
            return
        parts = text.split(",")
        if all(_IDENTIFIER.fullmatch(part) for part in parts):
            for part in parts:
                self._take(part, _global(part, self._namespace, self._folder))
            return
        item = _ITEM.fullmatch(text)
        if item is None:
            raise OptionError(
                f"The input {text!r} can't be read.",
                option="inputs",
                hint="An input is [NAME=]SOURCE[=/target], as in x, ./data.csv or x=./data.csv=/data/x.csv.",
            )
        name, source, target = item["name"] or "", item["source"], item["target"] or ""
        _check_target(text, target)
        if _IDENTIFIER.fullmatch(source):
            value = _global(source, self._namespace, self._folder)
            if target:
                self.items.append(_moved(name or source, value, target))
            else:
                self._take(name or source, value)
            return
        try:
            self.place(name, source, target)
        except UnsendableInputError as problem:
            problem.hint = problem.hint or _advice(text, name, source, self._namespace)
            raise


def _advice(text: str, name: str, source: str, namespace: Mapping[str, Any]) -> str:
    """What may have been meant by an ITEM whose file is not there."""
    parts = text.split(",")
    if len(parts) > 1:
        return f"Give each input its own -i: -i {' -i '.join(parts)}."
    if name in namespace and source.startswith("/"):
        return f"To put the variable {name} there: -i {name}={name}={source}."
    if source.partition(".")[0].partition("[")[0] in namespace or source[:1].isdigit():
        return "Only a variable's name or a path can be sent; give the value a name first."
    return ""


def _moved(name: str, value: Any, target: str) -> InputItem:
    """A variable with a place of its own: a plain file there (JSON, CSV or .npy), in every language."""
    suffix, data, _ = _foreign(name, value)
    return InputItem(name, "file", f"{name}{suffix}", len(data), data=data, type_name=type(value).__name__, target=target)


def _check_target(text: str, target: str) -> None:
    if not target:
        return
    parts = target.split("/")
    if ".." in parts or target.rstrip("/") == "" or any(target == kept or target.startswith(kept + "/") for kept in _KEPT_FOLDERS):
        raise OptionError(f"{text!r}: an input can't be put at {target}.", option="inputs", hint="Choose a folder such as /data.")


_SHELL = ("In", "Out", "exit", "quit", "get_ipython", "open")
"""Names that the shell has put there."""


def _global(name: str, namespace: Mapping[str, Any], folder: Path) -> Any:
    if name not in namespace:
        known = [
            known
            for known, value in namespace.items()
            if not known.startswith("_") and known not in _SHELL and not isinstance(value, ModuleType)
        ]
        near = suggestion(name, known)
        if place := source_beside(name, folder):
            hint = f"The {'folder' if (folder / place).is_dir() else 'file'} {place} is there: -i {place} sends it. {near}".rstrip()
        else:
            hint = f"{near or 'Define it first.'} For a file of that name write ./{name}."
        raise UnsendableInputError(name, "there is no such variable", hint=hint)
    return namespace[name]


def _variable(name: str, value: Any, pickles: bool) -> tuple[InputItem, list[type]]:
    """A variable of a Python cell, and the classes that its value needs."""
    classes: list[type] = []
    try:
        data = codec.dumps(value, name, classes=classes, pickles=pickles)
    except codec.Unsendable as problem:
        raise UnsendableInputError(
            name, str(problem), hint="Send plain data: numbers, texts, lists, arrays, frames; or a pickle, with --allow-pickle."
        ) from None
    libraries = tuple(dict.fromkeys(_libraries(value)))
    kind = type(value).__name__
    return InputItem(name, "value", f".bacalhau/vars/{name}.bin", len(data), data=data, type_name=kind, libraries=libraries), classes


def _plain(name: str, value: Any) -> InputItem:
    """A variable for a language other than Python."""
    suffix, data, text = _foreign(name, value)
    return InputItem(name, "value", f"{name}{suffix}", len(data), data=data, type_name=type(value).__name__, text=text)


_LOOKED_AT = 1000
"""How many items of a container are looked at for what they need: a long one is of one kind, as a rule."""


def _libraries(value: Any, depth: int = 0) -> Iterator[str]:
    """The libraries of a value's types and of those in it, beyond the standard library."""
    library = type(value).__module__.partition(".")[0]
    if library not in sys.stdlib_module_names and library != "__main__":
        yield library
    elif depth < 5 and isinstance(value, dict | list | tuple | set | frozenset):
        for item in islice(value.values() if isinstance(value, dict) else value, _LOOKED_AT):
            yield from _libraries(item, depth + 1)


def _foreign(name: str, value: Any) -> tuple[str, bytes, str | None]:
    """A value for a language other than Python: the file's suffix, its bytes, and a text for $NAME."""
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and hasattr(value, "to_csv"):
        return ".csv", value.to_csv(index=type(value).__name__ == "Series" or _says_something(value.index)).encode(), None
    if module == "polars" and hasattr(value, "write_csv"):
        return ".csv", value.write_csv().encode(), None
    if module == "numpy" and type(value).__name__ == "ndarray":
        return ".npy", _npy(name, value), None
    if module == "numpy" and hasattr(value, "item"):
        value = value.item()
    try:
        data = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise UnsendableInputError(
            name, f"it can't be written as JSON ({problem})", hint="Other languages get JSON, frames as CSV and arrays as .npy."
        ) from None
    text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else None
    return ".json", data, None if text is not None and "\0" in text else text


def _says_something(index: Any) -> bool:
    """Whether a frame's index is data: it has a name, or is no plain count of the rows."""
    return type(index).__name__ != "RangeIndex" or index.name is not None


def _npy(name: str, value: Any) -> bytes:
    import io

    import numpy as np

    if value.dtype.hasobject:
        raise UnsendableInputError(name, "it is an array of Python objects", hint="Give it a plain dtype: x.astype(float).")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, value, allow_pickle=False)
    return buffer.getvalue()


def _unique(items: Iterable[InputItem]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.path in seen and not item.target:
            raise OptionError(f"Two inputs are called {item.name!r}.", option="inputs", hint="Give one of them another name: NAME=SOURCE.")
        seen.add(item.path)


def variable(namespace: Mapping[str, Any], name: str) -> Any:
    """The variable of that name; None where there is none, or no value yet."""
    value = namespace.get(name)
    return None if isinstance(value, PendingValue) else value


class PendingValue:
    """The marker that a name holds from its job's submission to its binding: any use raises, naming the job and its state."""

    __slots__ = ("_said", "_token")

    def __init__(self, token: object, said: Callable[[], tuple[str, str]]) -> None:
        object.__setattr__(self, "_token", token)
        object.__setattr__(self, "_said", said)

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_said')()[0]}>"

    def _raise(self, *_: object, **__: object) -> Any:
        state, advice = object.__getattribute__(self, "_said")()
        raise ResultError(f"This value is not there: {state}.", hint=advice)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_repr_") or name in ("_ipython_display_", "_ipython_canary_method_should_not_exist_"):
            raise AttributeError(name)
        return self._raise()

    __call__ = __iter__ = __len__ = __bool__ = __getitem__ = __setitem__ = __contains__ = _raise
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _raise
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _raise
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __pos__ = __abs__ = __int__ = __float__ = __index__ = __str__ = __setattr__ = _raise
    __eq__ = __ne__ = _raise
    __hash__ = None  # type: ignore[assignment]


def mark(namespace: MutableMapping[str, Any], names: Iterable[str], token: object, said: Callable[[], tuple[str, str]]) -> None:
    """Let names hold markers of the job `token` until its results are bound; `said` tells the job's state and what to do."""
    marker = PendingValue(token, said)
    for name in names:
        namespace[name] = marker


def bind(namespace: MutableMapping[str, Any], values: Mapping[str, Any], token: object | None = None) -> tuple[str, ...]:
    """Bind all values at once; with a `token` only over that job's own markers, and where nothing is.

    Returns the names that were left alone because something else was put there since.
    """
    if token is None:
        namespace.update(values)
        return ()
    free = {name: value for name, value in values.items() if name not in namespace or _is_marker(namespace[name], token)}
    left = tuple(name for name, value in values.items() if name not in free and namespace[name] is not value)
    namespace.update(free)
    return left


def _is_marker(value: object, token: object) -> bool:
    return isinstance(value, PendingValue) and object.__getattribute__(value, "_token") is token
