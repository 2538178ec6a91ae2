"""The README, the manual's first page: its code runs, its links lead somewhere, and what it names exists."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gateway import Authority, gateway
from kernels import Kernel, start

from bacalhau_magic import _argspec, _commands, _settingkeys, errors
from bacalhau_magic._settings import load
from bacalhau_magic.node import _daemon

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md"))]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CODE = [text for language, text in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """One kernel for the whole page, as one notebook."""
    running = start(live=False)
    yield running
    running.stop()


@pytest.mark.parametrize("number", range(len(CODE)), ids=[text.splitlines()[0][:40] for text in CODE])
def test_a_code_block_runs(kernel: Kernel, number: int) -> None:
    """Each block runs after those above it; where a line ends in `# value`, that is its value."""
    code = CODE[number]
    ran = kernel.run(code)
    assert ran.error is None, ran.text
    if code.startswith("%%"):
        return
    for line in code.splitlines():
        expression, mark, value = line.partition("  # ")
        if mark:
            assert kernel.run(f"({expression}) == ({value})").value == "True", line


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def test_every_block_is_of_a_kind_that_a_test_runs() -> None:
    """Python and notebook cells run above, settings and shell lines below: there is no other block."""
    assert {language for language, _ in BLOCKS} == {"sh", "python", "toml"}
    assert len(re.findall("^```", README, re.MULTILINE)) == 2 * len(BLOCKS)
    _first, *others = blocks("sh")
    assert [text.split(maxsplit=1)[0] for text in others] == ["export", "pytest", "pytest"]


def test_the_settings_are_read(folder: Path) -> None:
    """A project's settings as the page shows them are taken, with the page's file as their origin."""
    staging, text, _ = blocks("toml")
    (folder / "pyproject.toml").write_text(text)
    settings = load(environment={}, folder=folder, user=folder / "user")
    assert settings.options["memory"] == 4_000_000_000
    assert settings.languages["r"].command == ("Rscript", "--vanilla")
    assert settings.strict == {"memory"}
    (folder / "pyproject.toml").write_text(staging)
    settings = load(environment={}, folder=folder, user=folder / "user")
    assert settings.untrusted_store == "s3://my-bucket/inputs at https://minio.example:9000"


def test_the_policy_is_read(folder: Path) -> None:
    """The policy as the page shows it holds: limits, choices, locked values, the author's message."""
    (folder / "policy.toml").write_text(blocks("toml")[2])
    settings = load(environment={"BACALHAU_MAGIC_POLICY": str(folder / "policy.toml")}, folder=folder, user=folder / "user")
    assert (settings.policy.max["timeout"], settings.policy.allowed["lang"]) == (60.0, ("python", "bash"))
    assert (settings.enabled, settings.recordings, settings.options["network"]) == (False, False, "none")
    with pytest.raises(errors.OptionError, match=r"room 101"):
        settings.apply(_argspec.parse("--lang javascript"))


def test_the_cluster_s_variables_are_read(folder: Path) -> None:
    """The variables that the page exports are ones that are known, and together they are valid."""
    text = next(block for block in blocks("sh") if block.startswith("export"))
    (folder / "ca.pem").touch()
    exported = dict(re.findall(r"^export (\w+)=(\S+)", text, re.MULTILINE))
    settings = load(environment=exported, folder=folder, user=folder / "user")
    assert settings.endpoint is not None
    assert settings.endpoint.url == "https://host:1234"
    assert {name.removeprefix("BACALHAU_").lower() for name in exported} <= {*_settingkeys.SETTINGS}


def test_a_cell_runs_with_the_cluster_s_variables(folder: Path) -> None:
    """After the page's lines, with a cluster's address and key in place of the page's, a cell runs there; with another key it is refused."""
    text = next(block for block in blocks("sh") if block.startswith("export"))
    program = "from bacalhau_magic import run; print(run('6 * 7', runtime='bacalhau'))"
    authority = Authority(folder)  # whose certificate is ca.pem in this folder, as the page has it
    with gateway(_daemon.environment(), "Bearer the-page-s-key", context=authority.context()) as opened:
        for key, said in (("the-page-s-key", "42\n"), ("another-key", "")):
            lines = text.replace("https://host:1234", opened.url).replace("API_KEY=…", f"API_KEY={key}")
            assert opened.url in lines
            command = f"{lines}\nexec {sys.executable} -c {shlex.quote(program)}"
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
            assert done.stdout == said, done.stderr
            assert ("UnauthorizedError" in done.stderr) == (key == "another-key")
        taken = [path for verb, path, given in opened.seen if verb == "PUT" and given == "Bearer the-page-s-key"]
        assert taken == ["/api/v1/orchestrator/jobs"]


@pytest.mark.timeout(200)
def test_the_commands_for_ci_run(folder: Path) -> None:
    """nbval and papermill, called as the page calls them, pass with a notebook of this repository."""
    text = next(block for block in blocks("sh") if block.startswith("pytest"))
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/01_first_job.ipynb", folder / "notebooks")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert "(35, 'tea')" in (folder / "out.ipynb").read_text()


def test_a_recorded_notebook_is_replayed_in_ci(folder: Path) -> None:
    """The page's command passes for a notebook that was recorded, where no node is."""
    (text,) = (block for block in blocks("sh") if "--bacalhau-cassette" in block)
    shutil.copy(ROOT / "notebooks/01_first_job.ipynb", folder / "lesson.ipynb")
    plugins = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "nbval.plugin,pytest_timeout,bacalhau_magic._plugin",
        "PYTEST_ADDOPTS": "",
    }
    for more, variables in ((" --bacalhau-mode record", {}), ("", {"BACALHAU_API_URL": "http://127.0.0.1:9"})):
        command = text.strip() + more
        done = subprocess.run(["bash", "-c", command], env=os.environ | plugins | variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_first_two_lines() -> None:
    """What CI runs are the first shell block's two lines, and they call what they should."""
    found = subprocess.run(
        ["sed", "-n", "/^```sh$/,/^```$/{/^```/d;p}", "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    first, second = found[:2]
    assert first.endswith("-m bacalhau_magic try")
    assert second.endswith("-m pytest")
    assert "sed -n '/^```sh$/,/^```$/{/^```/d;p}' README.md | head -n 2" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file leads to one that is there, a link to a heading to one that is there; all others are https."""
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
        link = next(filter(None, target))
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        leads = (page.parent / name).resolve() if name else page
        assert leads.exists(), link
        assert not anchor or anchor in anchors(leads), link


USED_BY_VERBS = {
    "--all",
    "--bacalhau-cassette",
    "--bacalhau-mode",
    "--clear",
    "--forget",
    "--mine",
    "--show-origin",
    "--trust",
    "--untrust",
    "--user",
}
"""Options of the line magic's verbs that a page names alone; beside their verb they are looked up."""


def words(text: str) -> list[str]:
    """All that stands in code, in blocks and in lines."""
    return re.findall(r"`([^`\n]+)`", text) + [
        line for _, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_verbs_exist(page: Path) -> None:
    """Every `--option`, every `%bacalhau verb`, every `python -m bacalhau_magic command` of a page exists."""
    text = "\n".join(line for line in page.read_text(encoding="utf-8").splitlines() if "Refused by name" not in line)
    for word in words(text):
        for name in re.findall(r"\bBACALHAU_MAGIC_[A-Z_]+", word):
            assert name.removeprefix("BACALHAU_MAGIC_").lower() in known_settings(), name
        if command := re.search(r"python -m bacalhau_magic ([a-z][^)\n]*)", word):
            check_command(command[1])
        elif verb := re.match(r"%bacalhau ([a-z|\\]+)", word):
            check_verb(verb[1].replace("\\", "").split("|"), word)
        elif word.startswith(("--", "-", "%%bacalhau ")):
            check_options(word)


def options_in(word: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", word)


def check_options(word: str) -> None:
    """The options of a cell."""
    for option in options_in(word):
        assert option in USED_BY_VERBS or _argspec.help_text(option), option


def check_verb(verbs: list[str], word: str) -> None:
    """The verbs of the line magic, and the options that they read."""
    for verb in verbs:
        assert verb in _commands._VERBS, verb
        module = inspect.getsource(inspect.getmodule(_commands._VERBS[verb]))
        for option in options_in(word):
            assert f'"{option}"' in module, word


def check_command(line: str) -> None:
    """A command line, with alternatives as in `node status|stop`, is one that the program knows."""
    first, *rest = [*line.split(), ""]
    for last in rest[0].split("|"):
        call = [sys.executable, "-m", "bacalhau_magic", *filter(None, (first, last)), "--help"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def known_settings() -> set[str]:
    """Names that can be configured."""
    return {*_settingkeys.SETTINGS} | set(_argspec.JobOptions.model_fields) | {"policy", "test_needs"}


def test_errors_and_messages_are_those_of_the_package() -> None:
    """Every error that the page names is one of ours, and every message that it quotes is one that the package says."""
    for name in set(re.findall(r"`(\w+Error)`", README)):
        assert isinstance(getattr(errors, name), type), name
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bacalhau_magic").rglob("*.py"))
    symptoms = README.partition("## When something is wrong")[2].partition("\n## ")[0]
    quoted = re.findall(r'^\| "([^":]+)', symptoms, re.MULTILINE)
    assert len(quoted) == 2
    for message in quoted:
        assert message in source or message.lower() in source, message
