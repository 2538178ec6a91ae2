"""What all tests share: own folders for everything that the product keeps, and skips that tell why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import images
import pytest

hypothesis.settings.register_profile(  # a busy machine is no failure
    "house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")

_NEEDS = {
    "bubblewrap": ("bubblewrap is not installed, or does not hold here", lambda: _bubblewrap()),
    "browser": ("Chromium is not installed", lambda: any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))),
    "busybox": ("busybox is not installed", lambda: shutil.which("busybox")),
    "container": ("needs: container, and no container engine runs here", images.engine),
    "cluster": ("no real Bacalhau: BACALHAU_API_URL is not set and no bacalhau is on PATH", lambda: _cluster()),
}


@cache
def _bubblewrap() -> bool:
    bwrap = shutil.which("bwrap")
    trial = "--ro-bind / / --dev /dev --proc /proc --unshare-all true"
    return bwrap is not None and subprocess.run([bwrap, *trial.split()], capture_output=True, check=False).returncode == 0


def _cluster() -> str | None:
    return os.environ.get("BM_TEST_CLUSTER") or shutil.which("bacalhau")


def pytest_configure(config: pytest.Config) -> None:
    """Keep every file of the product away from this user's own: set before the first import reads them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has its parent's, which are right already
        os.environ["BM_TEST_CLUSTER"] = os.environ.get("BACALHAU_API_URL", "")
        os.environ["BM_TEST_KEY"] = os.environ.get("BACALHAU_API_KEY", "")
    for name in [name for name in os.environ if name.startswith("BACALHAU_")]:
        del os.environ[name]
    if "PYTEST_XDIST_WORKER" in os.environ or not config.getoption("numprocesses", None):
        os.environ.pop("PYTEST_ADDOPTS", None)  # read by now (by workers once more), and not meant for the pytest that a test starts
    home = Path(tempfile.mkdtemp(prefix="bm-test-"))
    config.stash[_HOME] = home
    for name, folder in (
        ("HOME", "home"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "run"),
        ("IPYTHONDIR", "ipython"),
        ("JUPYTER_CONFIG_DIR", "jupyter-config"),
        ("JUPYTER_DATA_DIR", "jupyter-data"),
        ("JUPYTER_RUNTIME_DIR", "jupyter-run"),
    ):
        (home / folder).mkdir(mode=0o700)
        os.environ[name] = str(home / folder)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


_HOME = pytest.StashKey[Path]()
_SAID = "said"


@pytest.fixture
def said(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines for the summary at the end of the run: numbers that somebody wants to read."""
    lines: list[str] = []
    yield lines
    request.node.user_properties += [(_SAID, line) for line in lines]  # which travel from a worker too


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have said."""
    ends = terminalreporter.stats.get("", [])  # what has no letter of its own: setups and teardowns
    lines = [text for report in ends if report.when == "teardown" for name, text in report.user_properties if name == _SAID]
    if lines:
        terminalreporter.section("said")
        for line in sorted(lines):
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the embedded node that the tests started, and remove the folders."""
    home = config.stash.get(_HOME, None)
    if home is not None:
        subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(home, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, (reason, there) in _NEEDS.items():
        if item.get_closest_marker(name) is not None and not there():
            if name in os.environ.get("BM_TEST_NEEDS", "").split():
                pytest.fail(f"{reason}, and it was to be there", pytrace=False)
            pytest.skip(reason)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own, that is the working directory meanwhile."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Any]:
    """A `scripted.Server` of the test's own."""
    import scripted  # not above: it reads the product, whose folders are set when the run begins

    with scripted.Server() as found:
        yield found


@pytest.fixture
def session(folder: Path) -> Iterator[Any]:
    """A `Session` of the test's own, in its folder: nothing is drawn, and the namespace is empty."""
    from bacalhau_magic._session import Session  # not above: the product's folders are set when the run begins

    made = Session(folder=folder)
    made.surroundings.place = lambda: "batch"
    made.surroundings.namespace = {}
    yield made
    made.close()


@pytest.fixture
def own_session(folder: Path) -> Iterator[None]:
    """No session of another test, in a folder of the test's own; the one that comes is closed."""
    from bacalhau_magic import _session

    _session._current = None
    yield
    if _session._current is not None:
        _session._current.close()
    _session._current = None
