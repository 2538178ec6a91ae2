"""What an error or a notice tells people to use exists: verbs, options, commands, settings, calls, packages, files and addresses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bacalhau_magic
from bacalhau_magic import RemoteJob, _argspec, _commands, _hints, _reading, _settingkeys
from bacalhau_magic._policy import Policy
from bacalhau_magic.errors import OptionError
from bacalhau_magic.options import JobOptions

PACKAGE = Path(bacalhau_magic.__file__).parent
OTHERS = {"--nbval", "--nbval-sanitize-with", "--orchestrator", "--compute", "--endpoint", "--force", "--force-reinstall"}
"""Options of pytest, pip and the Bacalhau CLI that a sentence of ours names."""
ADDRESSES = {"https://docs.bacalhau.org"}
"""Pages that a sentence of ours sends people to; whether they are there is not asked, for no test goes into the network."""
EXAMPLES = ("https://host:", "https://…", "https:// ", "http://127.0.0.1:", "http://localhost")
"""How an address begins that stands for one of the reader's own."""
VARIABLES = {"BACALHAU_DIR", "BACALHAU_PROFILE", "BACALHAU_MAGIC_POLICY", "BACALHAU_MAGIC_DATA_DIR"}
"""Variables that are read and are no setting."""
FILES = {"pyproject.toml", "config.yaml", "lesson.yaml", "data.csv", "/data/x.csv"}
"""Files that a sentence of ours names: those that we read, and examples."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a module's strings that read as sentences; docstrings, which are for readers of the code, are left out."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (documentation | inner):
            yield node.lineno, node.value


ALL = [
    pytest.param(text, id=f"{path.relative_to(PACKAGE)}:{line}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for line, text in sentences(path)
    if re.search(r"[A-Za-z]{2,} [a-z{]|%bacalhau", text)
]


def those(pattern: str) -> list[object]:
    """The sentences that name something of a kind."""
    return [found for found in ALL if re.search(pattern, str(found.values[0]))]


SENTENCES = those(r"%bacalhau [a-z]|--[a-z]{2}|-m bacalhau_magic ")
SETTING = r"BACALHAU_[A-Z]|%bacalhau config \w+=|\b[Ss]et [a-z]+(?:_[a-z]+)+|\[tool\.|\bthe \w+ setting\b"
CALL = r"\b(?:job|_bacalhau|bacalhau_magic)\.[a-z]"
PACKAGE_NAME = r"pip install "
FILE = r"[\w./-]+\.(?:toml|yaml|json|md|ipynb|cfg|csv|txt|R)\b"
ADDRESS = r"https?://"


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


@pytest.mark.parametrize("text", those(SETTING))
def test_settings_that_are_named_exist(text: str) -> None:
    """A variable, a key for `%bacalhau config` and a table of pyproject.toml are ones that are read."""
    known = {*_settingkeys.SETTINGS, *JobOptions.model_fields}
    for name in set(re.findall(r"\bBACALHAU_[A-Z][A-Z_]*[A-Z]", text)) - VARIABLES:
        assert re.sub("^BACALHAU_(MAGIC_)?", "", name).lower() in known, name
    for name in re.findall(r"%bacalhau config (\w+)=|\b[Ss]et ([a-z]+(?:_[a-z]+)+)|\bthe (\w+) setting\b", text):
        assert "".join(name) in known, name
    for table in re.findall(r"\[tool\.bacalhau-magic\.?(\w*)", text):
        assert not table or table in known, table


@pytest.mark.parametrize("text", those(CALL))
def test_calls_that_are_named_exist(text: str) -> None:
    """What a sentence asks of a job, or of the package, is one of its public attributes."""
    for owner, name in re.findall(r"\b(job|_bacalhau|bacalhau_magic)\.([a-z]\w*)", text):
        assert hasattr(bacalhau_magic if owner == "bacalhau_magic" else RemoteJob, name), f"{owner}.{name}"


@pytest.mark.parametrize("text", those(PACKAGE_NAME))
def test_packages_that_are_named_are_declared(text: str) -> None:
    """What pip should install is a package or an extra that the project's own file declares."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {re.split(r"[^\w.-]", line)[0] for lines in (project["dependencies"], *extras.values()) for line in lines}
    for name, extra in re.findall(r"pip install (?:--?[a-z-]+ )*'?([\w{}][\w{}-]*)(?:\[(\w+)\])?", text):
        if extra:
            assert (name, extra in extras) == ("bacalhau_magic", True), (name, extra)
        else:
            assert name in {*declared, "{}", "jupyterlab_widgets", "pandas"}, name


@pytest.mark.parametrize("text", those(FILE))
def test_files_that_are_named_are_known(text: str) -> None:
    """A file in a sentence is one that the package reads, or one of a few examples."""
    for name in re.findall(FILE, text):
        assert name in FILES or name.startswith("."), name


@pytest.mark.parametrize("text", those(ADDRESS))
def test_addresses_are_listed(text: str) -> None:
    """An address is on the list of pages that we send people to, or stands for the reader's own."""
    for address in re.findall(r"https?://[^\s,;)'\"`<]*.?", text):
        assert address.rstrip(" .,;") in ADDRESSES or address.startswith(EXAMPLES), address


@pytest.mark.parametrize("hint", ["Raise it: --timeout 3600lightyears.", "Try --timeout 30minutesish, or --memory 5x"])
def test_an_amount_that_no_option_takes_stays_as_the_server_said_it(hint: str) -> None:
    """A hint in a server's own words never hides the job's error, whatever they are."""
    policy = Policy(max={"timeout": 900.0, "memory": 8_000_000_000})
    assert _hints.within(hint, JobOptions(), policy) == hint


def test_a_pickle_is_not_advised_where_the_policy_forbids_it() -> None:
    """What the policy would refuse is left out of the hint; the rest of it stays."""
    hint = f"Read it yourself.{_reading.AS_PICKLE}"
    assert _hints.within(hint, JobOptions(), Policy(locked={"allow_pickle": False})) == "Read it yourself."
    assert _hints.within(hint, JobOptions(), Policy()) == hint
