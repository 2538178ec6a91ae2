"""What an error or a notice tells people to do exists: every verb, option and command in the package's own sentences."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bacalhau_magic
from bacalhau_magic import _argspec, _commands
from bacalhau_magic.errors import OptionError

PACKAGE = Path(bacalhau_magic.__file__).parent
OTHERS = {"--nbval", "--nbval-sanitize-with", "--orchestrator", "--compute", "--endpoint", "--force", "--force-reinstall"}
"""Options of pytest, pip and the Bacalhau CLI that a sentence of ours names."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a module's strings that read as sentences; docstrings, which are for readers of the code, are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (documentation | inner):
            yield node.lineno, node.value


SENTENCES = [
    pytest.param(text, id=f"{path.relative_to(PACKAGE)}:{line}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for line, text in sentences(path)
    if re.search(r"[A-Za-z]{2,} [a-z{]|%bacalhau", text) and re.search(r"%bacalhau [a-z]|--[a-z]{2}|-m bacalhau_magic ", text)
]


@cache
def knows(*command: str) -> bool:
    done = subprocess.run([sys.executable, "-m", "bacalhau_magic", *command, "--help"], capture_output=True, check=False)
    return done.returncode == 0


def is_option(option: str) -> bool:
    try:
        return bool(_argspec.help_text(option))
    except OptionError:
        return False


def test_there_are_sentences() -> None:
    """The walk finds the package's sentences."""
    assert len(SENTENCES) > 40


@pytest.mark.parametrize("text", SENTENCES)
def test_what_is_named_exists(text: str) -> None:
    """A verb is one of the line magic's, a command one of the program's, an option one of a cell's or of the verb that it stands with."""
    verbs = [verb for verb in re.findall(r"%bacalhau ([a-z]+)", text) if verb not in ("is", "knows", "takes")]
    assert [verb for verb in verbs if verb not in _commands._VERBS] == []
    for command in re.findall(r"-m bacalhau_magic ([a-z]+(?: [a-z]+)?)", text):
        words = command.split()
        assert knows(*words[:2]) if words[0] == "node" else knows(words[0]), command
    read = "".join(
        path.read_text(encoding="utf-8")
        for path in (PACKAGE / f"{name}.py" for name in ("_commands", "_connections", "_replays", "_plugin", "__main__"))
    )
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        assert option in OTHERS or option.startswith("--jp-") or is_option(option) or f'"{option}"' in read, option
