"""A real JupyterLab and a real Chromium, as fixtures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import wheels
from filelock import FileLock

TOKEN = "browsertest"
SHOTS = os.environ.get("BM_TEST_SHOTS", "")
"""A folder for pictures, where somebody wants to look at them."""
_PANEL = "[...(window.jupyterapp?.shell?.widgets('main') ?? [])].find(it => it.sessionContext && it.content?.widgets)"
_KERNEL = f"{_PANEL}?.sessionContext?.session?.kernel"


@dataclass
class Lab:
    """A running JupyterLab, and how its page is driven: by its own commands, which lose no key."""

    url: str
    root: Path
    path: str = "lab/tree"
    """The page that opens a notebook; Notebook 7's is "notebooks"."""

    @property
    def name(self) -> str:
        """What tells this front end's files from another's: a notebook's earlier jobs are found by its name."""
        return self.path.partition("/")[0]

    @property
    def settings(self) -> Path:
        """Where the server keeps what is set in the page."""
        return self.root.parent / "settings"

    def write(self, name: str, *cells: str) -> None:
        """A notebook of code cells."""
        made = [
            {"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
            for n, source in enumerate(cells)
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (self.root / name).write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))

    def read(self, name: str) -> dict[str, Any]:
        """A saved notebook."""
        return nbformat.read(self.root / name, as_version=4)

    def open(self, page: Any, name: str) -> None:
        """Open a notebook, and wait until its kernel answers."""
        page.goto(f"{self.url}/{self.path}/{name}?token={TOKEN}&reset")
        page.wait_for_function(f"() => !!{_KERNEL}?.info", timeout=60_000)
        page.evaluate(f"async () => {{ await {_PANEL}.sessionContext.ready; await {_KERNEL}.info }}")

    def run(self, page: Any, cell: int) -> None:
        """Start a cell; does not wait for it."""
        page.evaluate(
            f"n => {{ const it = {_PANEL}; window.jupyterapp.shell.activateById(it.id); it.content.activeCellIndex = n;"
            " window.jupyterapp.commands.execute('notebook:run-cell') }",
            cell,
        )

    def run_all(self, page: Any) -> None:
        """Clear all outputs, run all cells, and wait for the last one."""
        ended = page.evaluate(
            f"async () => {{ const it = {_PANEL}; window.jupyterapp.shell.activateById(it.id);"
            " await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');"
            " return await window.jupyterapp.commands.execute('notebook:run-all-cells') }"
        )
        assert ended, "a cell failed"

    def done(self, page: Any, cell: int, *, timeout: float = 60_000) -> None:
        """Wait until a cell's prompt has a number."""
        page.wait_for_function(
            "n => /^\\[\\d+\\]:?$/.test(document.querySelectorAll('.jp-Notebook .jp-CodeCell')[n]"
            "?.querySelector('.jp-InputPrompt')?.textContent.trim() ?? '')",
            arg=cell,
            timeout=timeout,
        )

    def through(self, page: Any, *cells: int) -> None:
        """Run cells one after the other, each to its end."""
        for cell in cells:
            self.run(page, cell)
            self.done(page, cell)

    def theme(self, page: Any, name: str) -> None:
        """Change the theme, and wait until it is there."""
        page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def save(self, page: Any) -> None:
        """Save the notebook, and wait until it is saved."""
        page.evaluate(f"async () => {{ await {_PANEL}.context.save() }}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def labextensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this tree's own JupyterLab extension, from a wheel of it: what is installed may be older."""
    own = tmp_path_factory.getbasetemp()
    # Where several processes run the tests, the first one makes it for all.
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "labextensions"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            made = tmp_path_factory.mktemp("wheel")
            wheels.labextensions(wheels.built(made), made / "labextensions").rename(folder)
    return folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, labextensions: Path) -> Iterator[Lab]:
    """A JupyterLab with nothing of this user's own settings."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    home = tmp_path_factory.mktemp("lab")
    root = home / "notebooks"
    root.mkdir()
    quiet = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "HOME": "home"}
    (home / "home").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_", "BACALHAU"))}
    env |= {name: str(home / folder) for name, folder in folders.items()}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    port = _free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]
    command += [
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        f"--LabApp.extra_labextensions_path={labextensions}",
    ]
    command += [f"--JupyterNotebookApp.extra_labextensions_path={labextensions}"]
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/api/status?token={TOKEN}", server, home / "lab.log")
        yield Lab(url, root)
    finally:
        for _ in range(2):
            server.send_signal(signal.SIGINT)
            time.sleep(0.2)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


@pytest.fixture(scope="session")
def notebook7(lab: Lab) -> Lab:
    """Notebook 7, served beside JupyterLab."""
    pytest.importorskip("notebook", reason="Notebook 7 is not installed")
    return Lab(lab.url, lab.root, "notebooks")


@pytest.fixture(params=["lab", "notebook7"])
def front_end(request: pytest.FixtureRequest) -> Lab:
    """JupyterLab, then Notebook 7: what such a test says holds in both."""
    found: Lab = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept, to be looked at beside the design: a folder that was named, or one that is soon gone."""
    if not SHOTS:
        return tmp_path_factory.mktemp("shots")
    Path(SHOTS).mkdir(parents=True, exist_ok=True)
    return Path(SHOTS)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A Chromium of this machine, not longer than a module: its driver keeps an event loop running in this thread."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A fresh page in a context of its own."""
    context = chromium.new_context(viewport={"width": 1000, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()
