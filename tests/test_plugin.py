"""The pytest plugin: a test and a notebook that are recorded once, and replayed without a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

TEST = """
from bacalhau_magic import run

def test_sum(bacalhau_cassette):
    assert run("x = n + 1", inputs={"n": 4}, outputs=["x"]) == {"x": 5}
"""


def pytest_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """pytest with this plugin and nbval, and no other."""
    plugins = ["-p", "nbval.plugin", "-p", "bacalhau_magic._plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *plugins, *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=110)


def without_a_node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True, capture_output=True)
    done = pytest_in(folder, *arguments, BACALHAU_API_URL="http://127.0.0.1:9")
    status = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "status"], capture_output=True, text=True, check=True)
    assert "does not run" in status.stdout
    return done


def test_a_test_is_recorded_and_replayed(tmp_path: Path) -> None:
    """The fixture records beside the test, replays without a node, and a changed job fails with what changed."""
    (tmp_path / "test_it.py").write_text(TEST)
    missing = pytest_in(tmp_path)
    assert missing.returncode == 1
    assert "test_it.yaml holds no recorded job" in missing.stdout
    assert pytest_in(tmp_path, "--bacalhau-mode", "record").returncode == 0
    assert (tmp_path / "cassettes/test_it.yaml").is_file()
    done = without_a_node(tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "test_it.py").write_text(TEST.replace('"n": 4', '"n": 400'))
    changed = pytest_in(tmp_path)
    assert changed.returncode == 1
    assert "The input n has another value" in changed.stdout


def notebook(path: Path, *cells: tuple[str, str]) -> None:
    """A notebook of cells and the text of their values."""
    content = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    content.cells = [nbformat.v4.new_code_cell(source, execution_count=number) for number, (source, _) in enumerate(cells, 1)]
    for cell, (_, value) in zip(content.cells, cells, strict=True):
        if value:
            cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": value}, execution_count=1)]
    nbformat.write(content, path)


def test_a_notebook_is_recorded_and_replayed(tmp_path: Path) -> None:
    """nbval records a notebook with one option, passes without a node with the other, and fails where a cell was changed."""
    cells = [("%load_ext bacalhau_magic", ""), ("%%bacalhau -q\n6 * 7", "42")]
    notebook(tmp_path / "n.ipynb", *cells)
    nbval = ("--nbval", "--nbval-current-env", "--bacalhau-cassette", "n.yaml", "n.ipynb")
    refused = pytest_in(tmp_path, *nbval)
    assert refused.returncode == 4
    assert "there is no such file" in refused.stderr
    done = pytest_in(tmp_path, *nbval, "--bacalhau-mode", "record")
    assert done.returncode == 0, done.stdout
    done = without_a_node(tmp_path, *nbval)
    assert done.returncode == 0, done.stdout
    notebook(tmp_path / "n.ipynb", cells[0], ("%%bacalhau -q\n6 * 8", "48"))
    changed = pytest_in(tmp_path, *nbval)
    assert changed.returncode == 1
    assert "Its line 1 is now '6 * 8', and was '6 * 7'" in changed.stdout


def test_a_file_that_is_no_cassette_is_refused(tmp_path: Path) -> None:
    """The option's file must be YAML."""
    done = pytest_in(tmp_path, "--bacalhau-cassette", "n.json")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "expected a .yaml file" in done.stderr
