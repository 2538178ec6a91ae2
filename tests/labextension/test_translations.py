"""The template for translators: all that the JupyterLab extension says in English, its options' help and its settings included."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

FOLDER = Path(__file__).parents[2] / "labextension"
TEMPLATE = FOLDER / "locale" / "bacalhau-magic.pot"
_CALLS: dict[str, Any] = {"__": None, "_n": (1, 2), "_p": ((1, "c"), 2), "_np": ((1, "c"), 2, 3)}
_SYNTAX = {"encoding": "utf-8", "jsx": True, "parse_template_string": True}
_IN_SCHEMA = {"title": "schema", "description": "schema"}
"""Keys of a settings schema that JupyterLab translates, and the context that it does so in."""


def said() -> Catalog:
    """Every sentence, with the files that say it."""
    catalog = Catalog(project="bacalhau-magic", header_comment="# What bacalhau-magic's JupyterLab extension says.")
    for file in sorted(FOLDER.glob("src/**/*.ts*")):
        if "__tests__" in file.parts:
            continue
        with file.open("rb") as source:
            for _, message, _, context in extract("javascript", source, keywords=_CALLS, options=_SYNTAX):
                catalog.add(message, locations=[(_name(file), None)], context=context)
    options = FOLDER / "src" / "options.json"
    for option in json.loads(options.read_text(encoding="utf-8"))["options"]:
        for text in (option["help"], option["group"]):
            catalog.add(text, locations=[(_name(options), None)])
    for file in sorted(FOLDER.glob("schema/*.json")):
        for text, context in _in_schema(json.loads(file.read_text(encoding="utf-8"))):
            catalog.add(text, locations=[(_name(file), None)], context=context)
    return catalog


def _in_schema(part: Any) -> Iterator[tuple[str, str]]:
    for key, value in part.items():
        if key in _IN_SCHEMA and isinstance(value, str):
            yield value, _IN_SCHEMA[key]
        elif isinstance(value, dict):
            yield from _in_schema(value)


def _name(file: Path) -> str:
    return file.relative_to(FOLDER).as_posix()


def entries(catalog: Catalog) -> set[tuple[Any, str | None, tuple[str, ...]]]:
    return {(message.id, message.context, tuple(sorted({file for file, _ in message.locations}))) for message in catalog if message.id}


def test_the_template_has_every_sentence() -> None:
    """The template is what the sources say; after a change of a sentence: python tests/labextension/test_translations.py."""
    with TEMPLATE.open("rb") as file:
        assert entries(read_po(file)) == entries(said())


def test_the_extractor_sees_what_the_sources_say() -> None:
    """No call is lost to a syntax that the extractor does not know."""
    sources = [file.read_text(encoding="utf-8") for file in FOLDER.glob("src/**/*.ts*") if "__tests__" not in file.parts]
    calls = {text for source in sources for text in re.findall(r'trans\s*\.(?:__|_n)\(\s*"((?:[^"\\]|\\.)*)"', source)}
    known = {message.id if isinstance(message.id, str) else message.id[0] for message in said()}
    assert len(calls) > 50
    assert calls <= known


if __name__ == "__main__":
    written = io.BytesIO()
    write_po(written, said(), width=120, sort_output=True, omit_header=False)
    # The header's dates would change the file at each run.
    TEMPLATE.write_text(
        re.sub(r'^"(?:POT-Creation|PO-Revision)-Date.*\n', "", written.getvalue().decode("utf-8"), flags=re.M), encoding="utf-8"
    )
