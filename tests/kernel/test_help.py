"""The help in a notebook says what the README says: the same options in the same words, and every verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernels import Kernel

from bacalhau_magic import _argspec, _commands

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TABLE = README.partition(_argspec.TABLE_BEGIN)[2].partition(_argspec.TABLE_END)[0]
ROWS = re.findall(r"^\| (\w*) ?\| `([^`]+)` \| (.*) \|$", TABLE, re.MULTILINE)
VERBS = re.findall(r"^\| (.*?) (?<!\\)\| (.*) \|$", README.partition("## The line magic")[2].partition("\n## ")[0], re.MULTILINE)


def paged(shell: Kernel, line: str) -> str:
    """What `line?` shows in a notebook, without colours."""
    ran = shell.run(line)
    (page,) = (payload for payload in ran.reply["payload"] if payload["source"] == "page")
    return re.sub(r"\x1b\[[0-9;]*m", "", page["data"]["text/plain"])


@pytest.fixture(scope="module")
def texts(batch: Kernel) -> dict[str, str]:
    """Every way to the options' help."""
    return {
        "%%bacalhau?": paged(batch, "%%bacalhau?"),
        "%%bacalhau -h": batch.run("%%bacalhau -h\n1").stream("stdout"),
        "%bacalhau help": batch.run("print(get_ipython().run_line_magic('bacalhau', 'help'))").stream("stdout"),
        "%bacalhau?": paged(batch, "%bacalhau?"),
    }


def test_there_is_a_table() -> None:
    """The README's tables are read: all options, all verbs."""
    assert len(ROWS) > 40
    assert len(VERBS) >= 8


@pytest.mark.parametrize("way", ["%%bacalhau?", "%%bacalhau -h", "%bacalhau help", "%bacalhau?"])
def test_the_options_are_those_of_the_readme(texts: dict[str, str], way: str) -> None:
    """Each option stands there with all its spellings and the same words, in the same groups and order."""
    lines = [line.strip() for line in texts[way].splitlines()]
    at = -1
    for group, usage, meaning in ROWS:
        if group:
            at = lines.index(f"{group}:", at + 1)
        usage, meaning = usage.replace("\\|", "|"), meaning.replace("\\|", "|")
        at = next((number for number in range(at + 1, len(lines)) if lines[number].split("  ")[0] == usage), -1)
        assert at >= 0, usage
        assert lines[at].endswith(meaning), lines[at]
    for said in ("30s, 10m, 2h", "512MB, 4GB", "%bacalhau config memory=4GB", "BACALHAU_MAGIC_MEMORY=4GB", "--show-origin"):
        assert said in texts[way]
        assert said in README.replace("`", "")


def test_every_verb_is_in_the_readme_and_has_a_help(texts: dict[str, str], batch: Kernel) -> None:
    """The README's table of verbs names each, and the notebook's help has a sentence for each and for its own options."""
    named = set(re.findall(r"[a-z]+", " ".join(code for first, _ in VERBS for code in re.findall(r"`([^`]+)`", first))))
    assert set(_commands._VERBS) <= named
    for verb in _commands._VERBS:
        assert re.search(rf"^  {verb} +\S", texts["%bacalhau help"], re.MULTILINE), verb
    for first, _ in VERBS:
        for code in re.findall(r"`%bacalhau ([^`]+)`", first):
            verb = re.split(r"[\\| ]", code)[0]
            said = batch.run(f"print(get_ipython().run_line_magic('bacalhau', 'help {verb}'))").stream("stdout")
            for option in re.findall(r"--[a-z-]+", code):
                assert option in said, (verb, option)
