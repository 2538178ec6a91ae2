"""A policy's choices, and the check that tells which cells of a notebook it would refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bacalhau_magic import _argspec
from bacalhau_magic._flow import Means, prepare
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._ledger import Ledger
from bacalhau_magic._session import Session
from bacalhau_magic._settings import Settings, load
from bacalhau_magic._stages import Availability, CellRequest, Endpoint, Target
from bacalhau_magic._surroundings import Surroundings
from bacalhau_magic.errors import ConfigError, OptionError

POLICY = """
message = "Ask in room 101."
[max]
timeout = "1m"
[allowed]
runtime = ["local"]
image = ["python:3.12-slim"]
lang = ["python", "bash"]
network = ["none", "http"]
[locked]
recordings = false
"""


def under(folder: Path, policy: str = POLICY, system: str = "", **environment: str) -> Settings:
    (folder / "policy.toml").write_text(policy)
    (folder / "system.toml").write_text(system)
    return load(
        environment={"BACALHAU_MAGIC_POLICY": str(folder / "policy.toml"), **environment},
        folder=folder,
        user=folder / "user",
        cli=folder / "cli",
        system_policy=folder / "system.toml",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--runtime bacalhau", "--runtime: runtime bacalhau is not among what the policy"),
        ("--runtime auto", "allows: local. Ask in room 101."),
        ("--image python:3.13", "--image: image python:3.13 is not among"),
        ("--lang javascript", "allows: python, bash"),
        ("--network full", "allows: none, http"),
        ("--lang r", "--lang: image r-base:4.4.1 is not among"),
    ],
)
def test_what_is_not_allowed_is_refused(folder: Path, line: str, said: str) -> None:
    """A value that the policy doesn't allow is refused by option, with what it allows and its author's message."""
    (folder / "pyproject.toml").write_text(
        '[tool.bacalhau-magic.languages.r]\nimage = "r-base:4.4.1"\ncommand = ["Rscript"]\nfile = "cell.R"\n'
    )
    policy = POLICY.replace('"bash"]', '"bash", "r"]') if line == "--lang r" else POLICY
    with pytest.raises(OptionError) as refused:
        under(folder, policy).apply(_argspec.parse(line))
    assert said in refused.value.message


def test_what_is_allowed_runs_and_what_is_configured_is_replaced(folder: Path) -> None:
    """Allowed values pass; a configured one that is not allowed becomes the first that is, which the card says; a default does so silently."""
    settings = under(folder, BACALHAU_MAGIC_NETWORK="full", BACALHAU_MAGIC_LANG="bash")
    whole, said = settings.apply(_argspec.parse("--image python:3.12-slim"))
    assert (whole.runtime, whole.network, whole.lang, whole.image) == ("local", "none", "bash", "python:3.12-slim")
    (notice,) = said
    assert notice.startswith("network full is not among what the policy")
    assert notice.endswith("It is none.")
    assert settings.apply(_argspec.parse("--lang python"))[0].image is None


def test_a_second_policy_allows_less_only(folder: Path) -> None:
    """Of two policies only what both allow is allowed; nothing in common refuses all."""
    settings = under(folder, '[allowed]\nlang = ["bash", "javascript"]\n', system=POLICY)
    assert settings.policy.allowed["lang"] == ("bash",)
    none = under(folder, '[allowed]\nlang = ["typescript"]\n', system=POLICY)
    with pytest.raises(OptionError, match="allows: nothing"):
        none.apply(_argspec.parse(""))


def test_a_place_opens_no_network_that_is_not_allowed(folder: Path) -> None:
    """Packages and a weak executor open the network of a cell that did not ask for one; where the policy allows only none, the cell is refused."""
    local = Target("local", Endpoint("http://localhost", socket="/run/s"), executor="process", container="none: not found")
    cluster = Target("bacalhau", Endpoint("https://cluster.example:1234"))

    def sent(line: str, found: Availability, policy: str) -> CellRequest:
        settings = under(folder, policy)
        options, _ = settings.apply(_argspec.parse(line))
        means = Means(settings, lambda _: found, lambda _: pytest.fail("asked for a client"), Ledger(None), set())
        return prepare(CellRequest("1", options, BUILT_IN["python"]), means)[0]

    only = '[allowed]\nnetwork = ["none"]\n'
    with pytest.raises(OptionError, match="does not allow network full"):
        sent("--pip numpy", Availability(remote=cluster, remote_endpoint=cluster.endpoint), only)
    with pytest.raises(OptionError, match="does not allow network full"):
        sent("", Availability(local=local), only)


def test_locked_packages_hold_for_every_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a policy locks the packages to none, --pip, a file and a script block are refused, in the check of a notebook too."""
    (folder / "policy.toml").write_text('message = "Ask in room 101."\n[locked]\npip = []\n')
    (folder / "few.txt").write_text("humanize\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BACALHAU_MAGIC_POLICY", str(folder / "policy.toml"))
    ways = (("--pip humanize", "1"), ("-r few.txt", "1"), ("", "# /// script\n# dependencies = ['humanize']\n# ///\n1"))
    session = Session(Surroundings(namespace={}), folder)
    for line, code in ways:
        with pytest.raises(OptionError, match=r"locked to no\w+ by the policy .*Ask in room 101\."):
            session.request(code, _argspec.parse(line))
    assert session.request("1", _argspec.parse("")).options.pip == ()
    notebook(folder / "lesson.ipynb", *(f"%%bacalhau {line}\n{code}" for line, code in (*ways, ("", "1"))))
    done = checked(folder, "check", "--policy", "policy.toml", "lesson.ipynb")
    assert "3 of 4 cells" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["trust_html", "allow_pickle"])
def test_what_only_a_line_opens_is_locked_to_false_only(folder: Path, name: str) -> None:
    """A policy switches --trust-html and --allow-pickle off: who asks is refused with its message, others run; it can't switch them on."""
    switch = "--" + name.replace("_", "-")
    settings = under(folder, f'message = "Ask in room 101."\n[locked]\n{name} = false\n')
    with pytest.raises(OptionError, match=rf"{switch} is locked to false by the policy .*Ask in room 101\."):
        settings.apply(_argspec.parse(switch))
    for line in ("", "--lang bash", "--cache"):
        whole, said = settings.apply(_argspec.parse(line))
        _argspec.check(whole, settings.languages, strict=settings.strict)
        assert (getattr(whole, name), said) == (False, ())
    lines = ("", f"--cpu 1 {switch}")
    notebook(folder / "lesson.ipynb", *(f"%%bacalhau {line}\n1" for line in lines), f"run('1', {name}=True)")
    done = checked(folder, "check", "--policy", "policy.toml", "lesson.ipynb")
    assert f"{switch} is locked to false" in done.stdout, done.stdout + done.stderr
    assert "2 of 3 cells" in done.stdout
    with pytest.raises(ConfigError, match=rf"locked\.{name}: a policy can only switch {name} off\.") as refused:
        under(folder, f"[locked]\n{name} = true\n")
    assert refused.value.hint == f"Write {name} = false."


def test_falling_back_is_a_runtime_too(folder: Path) -> None:
    """Where the local node is not allowed, --fallback is refused, and left out where it is configured."""
    policy = '[allowed]\nruntime = ["bacalhau"]\n'
    with pytest.raises(OptionError, match="--fallback: runtime local is not among"):
        under(folder, policy).apply(_argspec.parse("--fallback --runtime bacalhau"))
    whole, said = under(folder, policy, BACALHAU_MAGIC_FALLBACK="yes").apply(_argspec.parse("--runtime bacalhau"))
    assert not whole.fallback
    assert "fallback is left out" in said[0]


@pytest.mark.parametrize(
    "text", ['[allowed]\nruntime = "local"', "[allowed]\nruntime = []", "[allowed]\ncpu = [1]", '[allowed]\nruntime = ["x"]']
)
def test_a_choice_that_cant_be_read_names_the_file(folder: Path, text: str) -> None:
    """A choice of something else, or of nothing, is an error, never skipped."""
    with pytest.raises(ConfigError, match=r"policy\.toml"):
        under(folder, text)


def notebook(path: Path, *sources: str | list[str]) -> Path:
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "source": "%%bacalhau --runtime bacalhau", "metadata": {}}]
    cells += [{"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None} for source in sources]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return path


def checked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bacalhau_magic", "policy", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_check_says_which_cells_would_fail(folder: Path) -> None:
    """Magic lines and calls that the policy, or the options themselves, would refuse are listed with cell, line and reason; nothing runs."""
    (folder / "policy.toml").write_text(POLICY)
    marker = folder / "ran"
    notebook(
        folder / "lesson.ipynb",
        "%load_ext bacalhau_magic\n!touch ran",
        ["%%bacalhau --timeout 1h\n", f"open({str(marker)!r}, 'w')"],
        "%%bacalhau --timeout 30s -o x\nx = 1",
        "%%bacalhau --timeout {limit} --network full\n1",
        "%%bacalhau --tiemout 3s\n1",
        "import bacalhau_magic as bm\nfor n in range(3):\n    bm.run('1', runtime='bacalhau', inputs={'n': n})",
        "%%time\nrun('1', timeout=limit)",
        "def broken(:",
        "subprocess.run(['ls'], timeout=3)",
        "\n%%time\n%%capture out\n\n%%bacalhau --network full\n1",
        "%%writefile notes.txt\n%%bacalhau --network full\n1",
    )
    done = checked(folder, "check", "--policy", "policy.toml", "lesson.ipynb")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    cells = [line.split()[0] for line in lines[2:-1]]
    assert cells == ["3", "5", "6", "7", "11"]
    assert "above the policy's limit of 1m" in lines[2]
    assert "Ask in room 101." in lines[2]
    assert "network full is not among" in lines[3]
    assert "Did you mean --timeout?" in lines[4]
    assert "runtime bacalhau is not among" in lines[5]
    assert lines[-1] == "5 of 8 cells that run elsewhere would be refused under the policy policy.toml."
    assert not marker.exists()


def test_the_check_knows_that_recorded_jobs_are_off(folder: Path) -> None:
    """Where the policy switches recorded jobs off, what records, replays or keeps is listed too; else it is not."""
    cells = ("%load_ext bacalhau_magic\n%bacalhau replay lesson.yaml", "%%bacalhau --cache\n1", "%%bacalhau --refresh\n1", "%%bacalhau\n1")
    notebook(folder / "lesson.ipynb", *cells)
    (folder / "policy.toml").write_text("[locked]\nrecordings = false\n")
    (folder / "open.toml").write_text("[max]\ntimeout = '1m'\n")
    done = checked(folder, "check", "--policy", "policy.toml", "lesson.ipynb")
    assert done.returncode == 1, done.stderr
    assert "%bacalhau replay can't be kept: recorded jobs are switched off by the policy" in done.stdout
    assert "--cache can't be kept" in done.stdout
    assert "--refresh can't be kept" in done.stdout
    assert "3 of 4 cells" in done.stdout
    assert checked(folder, "check", "--policy", "open.toml", "lesson.ipynb").returncode == 0


def test_a_notebook_that_may_run(folder: Path) -> None:
    """Exit code 0 and a sentence where nothing would be refused; the committed notebooks are such without a policy."""
    notebook(folder / "good.ipynb", "%%bacalhau --cpu 1\n1")
    done = checked(folder, "check", "good.ipynb")
    assert done.returncode == 0, done.stdout
    assert "All cells may run." in done.stdout
    assert "No policy is in force." in checked(folder).stdout


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000, '{"cells": [{"cell_type": "code"}]}'])
def test_what_is_no_notebook_is_said(folder: Path, content: str) -> None:
    """A file that is none is one error that names it."""
    (folder / "bad.ipynb").write_text(content)
    done = checked(folder, "check", "bad.ipynb")
    assert done.returncode == 2
    assert "bad.ipynb is no notebook" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[allowd]\nruntime = ['local']", "allowd is not known.\nDid you mean allowed?"),
        ("[max]\ntimout = '1m'", "there is no limit for timout.\nDid you mean timeout? Limits: timeout,"),
        ("[allowed]\nruntimes = ['local']", "there is no choice of runtimes.\nDid you mean runtime? Choices: runtime,"),
        ("[locked]\nnetwrok = 'none'", "locked.netwrok is not known.\nDid you mean network?"),
        ("[max", "policy.toml"),
    ],
)
def test_a_policy_that_cant_be_read_is_another_exit_code(folder: Path, text: str, said: str) -> None:
    """A check under such a policy ends with 2, where cells that would be refused are 1; a wrong key is told with the one that was meant."""
    notebook(folder / "good.ipynb", "%%bacalhau --cpu 1\n1")
    (folder / "policy.toml").write_text(text)
    done = checked(folder, "check", "--policy", "policy.toml", "good.ipynb")
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
