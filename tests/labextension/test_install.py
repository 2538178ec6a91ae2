"""The extension as it is installed: from the wheel, without Node.js, and what an install without it says."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import wheels

pytestmark = pytest.mark.timeout(300)

BUDGET = 60_000
"""Bytes, gzipped, of all that a page may load."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree's wheel, which must have the extension."""
    return wheels.built(tmp_path_factory.mktemp("wheel"), BACALHAU_MAGIC_LABEXTENSION="require")


def test_a_fresh_environment_without_node_lists_it_as_ok(wheel: Path, tmp_path: Path) -> None:
    """The wheel in a fresh environment, no Node.js on PATH: `jupyter labextension list` says that it is enabled and OK."""
    # The environment sees this one's JupyterLab, and nothing of its share/: its own prefix comes first and alone has us.
    venv.create(tmp_path / "fresh", with_pip=False)
    python = tmp_path / "fresh/bin/python"
    site = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True)
    Path(site.stdout.strip(), "outer.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PATH": str(empty), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--ignore-installed",
        "--no-warn-script-location",
    ]
    done = subprocess.run([*install, str(wheel)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [python, "-m", "jupyterlab.labextensions", "list"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (line,) = (line for line in (listed.stdout + listed.stderr).splitlines() if "bacalhau-magic" in line)
    assert "v0.1.0" in line
    assert "enabled" in line
    assert "OK" in line
    assert "python, bacalhau-magic" in line


def test_the_bundle_is_small(wheel: Path, tmp_path: Path, said: list[str]) -> None:
    """All that a page loads of it, gzipped, stays within the budget."""
    folder = wheels.labextensions(wheel, tmp_path) / "bacalhau-magic/static"
    sizes = {file.name: len(gzip.compress(file.read_bytes(), mtime=0)) for file in folder.glob("*.js")}
    said.append(f"JupyterLab extension, gzipped: {sum(sizes.values())} of {BUDGET} bytes in {len(sizes)} files")
    assert 1000 < sum(sizes.values()) <= BUDGET


def test_without_the_extension_all_the_rest_is_built(tmp_path: Path) -> None:
    """SKIP_JUPYTER_BUILDER leaves the extension out of the wheel, and nothing else."""
    wheel = wheels.built(tmp_path, SKIP_JUPYTER_BUILDER="1")
    assert not list(wheels.labextensions(wheel, tmp_path / "found").iterdir() if (tmp_path / "found").exists() else [])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a clone has: the tracked files, and nothing that was built."""
    copy = tmp_path / "tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=wheels.ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if not name.startswith("tests/") and (wheels.ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((wheels.ROOT / name).read_bytes())
    return copy


def test_a_build_that_fails_says_why_and_leaves_the_extension_out(tree: Path, tmp_path: Path) -> None:
    """A registry that can't be reached costs the extension, which is said; the wheel is built."""
    environment = os.environ | {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_cache": str(tmp_path / "cache")}
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(build, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The JupyterLab extension is left out: the bundler can't be installed" in done.stdout + done.stderr
    assert list(tree.glob("dist/*.whl"))


@pytest.mark.parametrize("index", ["that has Node.js", "that lacks it"])
def test_an_install_from_source_without_node(tree: Path, tmp_path: Path, index: str, said: list[str]) -> None:
    """`pip install .` without Node.js on PATH takes the package index's; where that can't be had all the rest is installed, and why is said."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for file in Path("/usr/bin").iterdir():
        if file.name not in ("node", "nodejs", "npm", "npx", "corepack"):
            (programs / file.name).symlink_to(file)
    environment = {**os.environ, "PATH": str(programs)}
    if index == "that lacks it":
        found = tmp_path / "wheels"
        download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(found), "hatchling>=1.27"]
        subprocess.run(download, check=True)
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(found)}
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh/bin/python"
    began = time.monotonic()
    done = subprocess.run(
        [python, "-m", "pip", "install", "-v", "--no-deps", str(tree)], env=environment, capture_output=True, text=True, check=False
    )
    said.append(f"pip install . without Node.js, an index {index}: {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "fresh").glob("lib/*/site-packages/bacalhau_magic/__init__.py"))
    extension = tmp_path / "fresh/share/jupyter/labextensions/bacalhau-magic"
    if index == "that has Node.js":
        assert list(extension.glob("static/remoteEntry.*.js"))
        assert "left out" not in done.stdout + done.stderr
    else:
        assert not extension.exists()
        assert "The JupyterLab extension is left out: there is no Node.js" in done.stdout + done.stderr
