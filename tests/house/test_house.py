"""The house's own rules: lint, types, floors, generated docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rooms

from bacalhau_magic import _argspec

ROOT = Path(__file__).parents[2]


def _run(*command: str) -> None:
    done = subprocess.run([*command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint() -> None:
    """The code follows the linter's rules."""
    _run(sys.executable, "-m", "ruff", "check", ".")


def test_format() -> None:
    """The code is formatted by the formatter."""
    _run(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.timeout(300)
def test_types() -> None:
    """The package's types hold, strictly."""
    _run(sys.executable, "-m", "mypy")


def test_floors() -> None:
    """Imports point down, and every module has a floor."""
    _run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")


def test_wrapper_runs_on_old_pythons() -> None:
    """The wrapper's code needs nothing that Python 3.8 lacks; a time zone, where one travels, is guarded and refused there."""
    vermin = str(Path(sys.executable).with_name("vermin"))
    _run(vermin, "-t=3.8-", "--violations", "--eval-annotations", "--no-parse-comments", "--exclude", "zoneinfo", "bacalhau_magic/remote")


def test_readme_table() -> None:
    """The README's option table is the one that the options make."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert _argspec.with_table(text) == text


def test_nothing_else_at_the_top() -> None:
    """The top level holds what the house names, and nothing else."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    names = {name.split("/")[0] for name in tracked} or {"README.md"}
    assert names <= {
        "pyproject.toml", "README.md", "LICENSE", "bacalhau_magic", "labextension", "notebooks", "tests",
        ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", ".gitattributes",
    }  # fmt: skip


def test_importing_costs_nothing() -> None:
    """`import bacalhau_magic` imports none of the heavy libraries."""
    code = (
        "import sys, bacalhau_magic\n"
        "heavy = {'httpx', 'pydantic', 'IPython', 'ipywidgets', 'anywidget', 'websockets', 'tornado', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    _run(sys.executable, "-c", code)


def test_rooms_table() -> None:
    """CONTRIBUTING names every module and no other; `python tests/support/rooms.py` writes its table."""
    page = rooms.PAGE.read_text(encoding="utf-8")
    assert rooms.names(page) == rooms.names(rooms.with_table(page))


def test_a_run_of_ci_says_what_it_skipped(tmp_path: Path) -> None:
    """With the options of `.ci/run` beside the project's own, each skip stands at the end with its reason, and so does each second try."""
    (options,) = re.findall(r'^retried="(.*)"$', (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\ntries = []\n\ndef test_skipped():\n    pytest.skip('no moon tonight')\n\n"
        "def test_late():\n    tries.append(1)\n    assert len(tries) > 1\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTEST_ADDOPTS": options})
    assert re.search(r"^SKIPPED \[1\] .*: no moon tonight$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "RERUN test_it.py::test_late" in done.stdout
