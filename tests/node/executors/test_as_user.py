"""The executors' and the node's tests again, as an ordinary user, when they first ran as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.bubblewrap

_USER = 12345
_HERE = Path(__file__).parent
_SUPPORT = _HERE.parents[1] / "support"
_TOOLS = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "psutil", "bacalhau_magic")
_NODE = ("tornado", "filelock", "platformdirs", "websockets", "pydantic", "pydantic_core", "annotated_types", "typing_inspection")
_MODULES = ("py", "typing_extensions")


def _as_user(*words: str) -> list[str]:
    # setpriv still has root's rights when it looks for its program; the second program has not.
    return ["setpriv", "--reuid", str(_USER), "--regid", str(_USER), "--clear-groups", "/usr/bin/env", *words]


def _python() -> str | None:
    """A Python that other users can reach: not one below a closed home folder."""
    for candidate in (os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
        if os.path.exists(candidate):
            probe = _as_user(candidate, "-c", "import sys; print(sys.version_info[:2] >= (3, 11))")
            if subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip() == "True":
                return candidate
    return None


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="these tests already run as an ordinary user")
@pytest.mark.parametrize(
    "files",
    [
        ("executors/conftest.py", "executors/test_bubblewrap.py", "executors/test_prepared.py", "executors/test_process.py"),
        ("conftest.py", "test_node_jobs.py", "test_keeping.py"),
    ],
    ids=["executors", "node"],
)
def test_an_ordinary_user_is_isolated_as_well(files: tuple[str, ...]) -> None:
    """Everything that holds with the node as root holds with the node as an ordinary user."""
    if shutil.which("setpriv") is None or (python := _python()) is None:
        pytest.skip("no Python that an ordinary user can reach")
    with tempfile.TemporaryDirectory(prefix="bm-user-") as name:
        place = Path(name)
        _copy_packages(place / "packages")
        tests = place / "tests"
        tests.mkdir()
        for file in [*(_HERE.parent / file for file in files), _SUPPORT / "bench.py", _SUPPORT / "embedded.py"]:
            shutil.copyfile(file, tests / file.name)
        markers = "  bubblewrap: needs bubblewrap\n  timeout: of another plugin\n  container: needs a container engine\n"
        (tests / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\npythonpath = .\nmarkers =\n{markers}")
        (place / "home").mkdir()
        subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
        os.chown(place / "home", _USER, _USER)
        done = subprocess.run(
            _as_user(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not gibibyte", str(tests)),
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(place / "packages"),
                "HOME": str(place / "home"),
                "TMPDIR": str(place / "home"),
            },
            cwd=place / "home",
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def _copy_packages(place: Path) -> None:
    """What the tests import, where other users can read it."""
    place.mkdir()
    for package in (*_TOOLS, *_NODE):
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        ignored = shutil.ignore_patterns("__pycache__", "labextension")
        shutil.copytree(spec.submodule_search_locations[0], place / package, ignore=ignored)
    for module in _MODULES:
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin
        shutil.copyfile(spec.origin, place / f"{module}.py")
