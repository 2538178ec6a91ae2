"""The options that the JupyterLab extension completes and checks: those of `JobOptions`, and no second list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bacalhau_magic import _argspec
from bacalhau_magic.errors import OptionError
from bacalhau_magic.options import duration_text, size_text

LINES = json.loads((Path(__file__).parents[1] / "data/labextension/lines.json").read_text(encoding="utf-8"))
GENERATED = Path(__file__).parents[2] / "labextension" / "src" / "options.json"


def options() -> dict[str, Any]:
    """The generated file's content, made of the JSON schema."""
    found = []
    for name, part in _argspec.json_schema()["properties"].items():
        variants = [part, *part.get("anyOf", [])]
        values = next((variant["enum"] for variant in variants if "enum" in variant), [])
        found.append(
            {
                "name": name,
                "group": part["x-group"],
                "words": part["x-words"],
                "negated": part["x-negated"],
                "metavar": part["x-metavar"],
                "repeatable": part["x-repeatable"],
                "values": values,
                "pattern": next(
                    (it["pattern"] for it in variants if "pattern" in it), r"^\s*\d+\s*$" if part.get("type") == "integer" else ""
                ),
                "examples": [str(example) for example in next((it["examples"] for it in variants if "examples" in it), [])],
                "default": _shown(part),
                "help": part["description"],
            }
        )
    return {"options": found}


def _shown(part: dict[str, Any]) -> str:
    """A default as it would be written on the line, "" for none."""
    value, metavar = part["default"], part["x-metavar"]
    if not value or isinstance(value, bool):
        return ""
    if metavar == "SIZE":
        return size_text(value)
    return duration_text(value) if metavar == "TIME" else f"{value:g}" if isinstance(value, float) else str(value)


def test_the_extension_knows_the_options() -> None:
    """The generated file is what the schema says; after a change of an option: python tests/labextension/test_options.py."""
    assert json.loads(GENERATED.read_text(encoding="utf-8")) == options()


@pytest.mark.parametrize("line", LINES["good"])
def test_good_lines_are_good_here_too(line: str) -> None:
    """What the extension leaves alone, the parser takes."""
    _argspec.parse(line)


@pytest.mark.parametrize("line", LINES["bad"])
def test_bad_lines_are_bad_here_too(line: str) -> None:
    """What the extension underlines, the parser refuses."""
    with pytest.raises(OptionError):
        _argspec.parse(line)


if __name__ == "__main__":
    GENERATED.write_text(json.dumps(options(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
