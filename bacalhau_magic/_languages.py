"""The languages that a cell can be written in: data, extendable by configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError

__all__ = ["BUILT_IN", "Language", "configured"]


@dataclass(frozen=True, slots=True)
class Language:
    """How a language's cell runs.

    `wrapper` is the one of `remote/` that owns the job's stdout: "python", "node" or "sh". `command` runs `file`
    (the cell's file name in the job) and is used by the "sh" wrapper. `local` is the program that the embedded node
    looks for on this machine, `at_least` its lowest version.
    """

    name: str
    image: str
    wrapper: str
    file: str
    command: tuple[str, ...]
    local: str
    at_least: tuple[int, ...] = ()
    brace_json: bool = False
    """`--as auto` reads stdout as JSON only if it begins with { or [."""

    @property
    def is_python(self) -> bool:
        return self.wrapper == "python"


_PYTHON_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"

BUILT_IN: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language("python", _PYTHON_IMAGE, "python", "cell.py", ("python",), "python"),
        Language("javascript", "node:20-slim", "node", "cell.mjs", ("node",), "node", (18,)),
        Language("typescript", "node:24-slim", "node", "cell.mts", ("node",), "node", (22, 18)),
        Language("bash", "ubuntu:latest", "sh", "cell.sh", ("bash", "-eo", "pipefail"), "bash", brace_json=True),
    )
}


def configured(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Language]:
    """The built-in languages with those of `[tool.bacalhau-magic.languages]` added or, for `image`, changed.

    A new language needs `image`, `command` (a list, or one string without spaces) and `file`.
    Raises ConfigError naming the language and the key.
    """
    languages = dict(BUILT_IN)
    for name, table in tables.items():
        languages[name] = _language(name, table, languages.get(name))
    return languages


def _language(name: str, table: Mapping[str, Any], known: Language | None) -> Language:
    allowed = {"image"} if known else {"image", "command", "file"}
    hint = f"A language takes: {', '.join(sorted(allowed))}."
    for key in table:
        if key not in allowed:
            raise ConfigError(f"languages.{name}.{key} is not known.", setting=f"languages.{name}.{key}", hint=hint)
    for key in sorted(allowed - set(table)):
        raise ConfigError(f"languages.{name} lacks {key}.", setting=f"languages.{name}.{key}", hint=hint)
    image = table["image"]
    if not isinstance(image, str) or not image:
        raise ConfigError(f"languages.{name}.image must be a text.", setting=f"languages.{name}.image", hint=hint)
    if known:
        return Language(**{**{f: getattr(known, f) for f in known.__slots__}, "image": image})
    command, file = table["command"], table["file"]
    words = (command,) if isinstance(command, str) else tuple(command) if isinstance(command, list) else ()
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ConfigError(f"languages.{name}.command must be a list of texts.", setting=f"languages.{name}.command", hint=hint)
    if not isinstance(file, str) or not file or "/" in file or file.startswith("."):
        raise ConfigError(f"languages.{name}.file must be a plain file name.", setting=f"languages.{name}.file", hint=hint)
    return Language(name, image, "sh", file, words, words[0], brace_json=True)
