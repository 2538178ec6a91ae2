"""The notebooks run as they are committed: under pytest --nbval, under papermill, and again without a change in git."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy as copy_of
from pathlib import Path

import doctor
import nbformat
import papermill
import pytest
from gateway import gateway

from notebooks import NOTEBOOKS, executed, text

from bacalhau_magic.node import _daemon

pytestmark = pytest.mark.timeout(600)
FIRST = NOTEBOOKS[0]


@pytest.fixture(scope="module", autouse=True)
def fonts() -> None:
    """Matplotlib's list of fonts, made before: on a slow machine its making is told on stderr."""
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=True, capture_output=True)


def comparable(content: nbformat.NotebookNode) -> list[object]:
    """All of a notebook but the bytes of its pictures, which each version of the plotting library draws in its own way."""
    copy = copy_of(content)
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = "…"
    return [copy.metadata, *copy.cells]


def nbval(
    folder: Path, *names: str, sanitize: bool = True, within: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """`pytest --nbval` in a folder, with the sanitize file that the package ships; `within` are words that another program begins with."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "--nbval", "--nbval-current-env"]
    if sanitize:
        shipped = subprocess.run([sys.executable, "-m", "bacalhau_magic", "nbval"], capture_output=True, text=True, check=True)
        command += ["--nbval-sanitize-with", shipped.stdout.strip()]
    return subprocess.run(
        [*within, *command, *names], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=550
    )


NO_NETWORK = ("unshare", "--net", "--kill-child", "--fork", "sh", "-c", 'ip link set lo up && "$@"', "sh")
"""What runs a program in a network of its own, that leads nowhere but to itself."""


def closed(*command: str) -> subprocess.CompletedProcess[str]:
    """A program without a network."""
    return subprocess.run([*NO_NETWORK, *command], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(autouse=True)
def recordings(tmp_path: Path) -> None:
    """The recorded jobs of the notebooks that are replayed, where they run."""
    for path in FIRST.parent.iterdir():
        if path.suffix == ".yaml":
            shutil.copyfile(path, tmp_path / path.name)
        elif path.suffix == ".parts":
            shutil.copytree(path, tmp_path / path.name)


def test_nbval_passes_in_any_order_and_again(tmp_path: Path, said: list[str]) -> None:
    """All notebooks pass in the reverse order, and again in one by chance in the same folder, on the same node: without a network, where one's own can be made."""
    within: Sequence[str] = NO_NETWORK
    if shutil.which("unshare") is None or shutil.which("ip") is None or closed("true").returncode:
        within = ()
        said.append("nbval: the network was open; to close it needs root, unshare and ip")
    else:
        links = closed("ip", "-brief", "link").stdout.split("\n")
        assert [link.split()[0] for link in links if link] == ["lo"]
    (tmp_path / "run").mkdir(mode=0o700)
    # A node of its own: the one of the other tests has their network.
    variables = {name: str(tmp_path / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME")} | {
        "XDG_RUNTIME_DIR": str(tmp_path / "run")
    }
    for path in NOTEBOOKS:
        shutil.copyfile(path, tmp_path / path.name)
    names = [path.name for path in NOTEBOOKS]
    try:
        for order in (names[::-1], random.sample(names, len(names))):
            done = nbval(tmp_path, *order, within=within, **variables)
            assert done.returncode == 0, f"{order}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
            assert "skipped" not in done.stdout
    finally:
        subprocess.run(
            [sys.executable, "-m", "bacalhau_magic", "node", "stop"], env=os.environ | variables, check=True, capture_output=True
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_batch_run_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A notebook that is run again in batch has the outputs that are committed, metadata and counts included."""
    assert comparable(executed(path, tmp_path)) == comparable(nbformat.read(path, as_version=4))


SENDS_NOTHING = ("06", "07", "09")
"""Two that are replayed, wherever an endpoint may be, and one whose policy keeps all of it here."""


# All but 08, which begins where nothing is configured, and shows that.
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if not path.stem.startswith("08")], ids=lambda path: path.stem)
def test_the_same_notebook_runs_on_a_cluster(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an endpoint and a key in the environment the notebook runs unchanged, there, and has the outputs that are committed."""
    key = "front-door-key-8c1f"
    with gateway(_daemon.environment(), f"Bearer {key}") as opened:
        monkeypatch.setenv("BACALHAU_API_URL", opened.url)
        monkeypatch.setenv("BACALHAU_API_KEY", key)
        ran = comparable(executed(path, tmp_path))
        sent = [given for verb, _, given in opened.seen if verb == "PUT"]
    assert ran == comparable(nbformat.read(path, as_version=4))
    assert set(sent) == (set() if path.stem[:2] in SENDS_NOTHING else {f"Bearer {key}"})


def test_a_second_batch_run_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Two batch runs give the same file."""
    assert text(executed(FIRST, tmp_path)) == text(executed(FIRST, tmp_path))


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.with_suffix(".yaml").exists()], ids=lambda path: path.stem)
def test_a_recording_needs_no_node(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is replayed has its committed outputs where no node runs, and starts none."""
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True, capture_output=True)
    monkeypatch.setenv("BACALHAU_API_URL", "http://127.0.0.1:9")
    assert comparable(executed(path, tmp_path)) == comparable(nbformat.read(path, as_version=4))
    status = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "status"], check=True, capture_output=True, text=True)
    assert "does not run" in status.stdout


# All but those that are replayed already or may not be, and those in which a place is asked though nothing is sent to it: 05 is refused
# by its node, 10 writes a job's spec.
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[:2] in ("01", "02", "03", "04")], ids=lambda path: path.stem)
def test_a_notebook_is_recorded_and_replayed_whole(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded on a node, a notebook has its committed outputs where none runs and the endpoint leads nowhere, and starts none."""
    committed = comparable(nbformat.read(path, as_version=4))
    monkeypatch.setenv("BACALHAU_MAGIC_RECORD", str(tmp_path / "all.yaml"))
    assert comparable(executed(path, tmp_path)) == committed
    monkeypatch.delenv("BACALHAU_MAGIC_RECORD")
    monkeypatch.setenv("BACALHAU_MAGIC_REPLAY", str(tmp_path / "all.yaml"))
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True, capture_output=True)
    monkeypatch.setenv("BACALHAU_API_URL", "http://127.0.0.1:9")
    assert comparable(executed(path, tmp_path)) == committed
    status = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "status"], check=True, capture_output=True, text=True)
    assert "does not run" in status.stdout


def test_papermill_goes_through_another(tmp_path: Path) -> None:
    """papermill runs a replayed notebook from top to bottom, its deliberate failure included."""
    name = next(path for path in NOTEBOOKS if path.stem.startswith("06"))
    papermill.execute_notebook(name, tmp_path / "out.ipynb", cwd=tmp_path, progress_bar=False)
    ran = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert all(cell.execution_count for cell in ran.cells if cell.cell_type == "code")
    assert "Add --pip a_module_that_nobody_has" in str(ran)


def test_papermill_has_the_committed_outputs_once(tmp_path: Path) -> None:
    """Under papermill each cell has the outputs that are committed, and nothing else: no progress, no card."""
    papermill.execute_notebook(FIRST, tmp_path / "out.ipynb", cwd=tmp_path, progress_bar=False)

    def told(path: Path) -> list[object]:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        return [cell.outputs for cell in cells]

    assert told(tmp_path / "out.ipynb") == told(FIRST)


def test_papermill_runs_it_with_other_parameters(tmp_path: Path) -> None:
    """papermill takes the notebook from top to bottom, past its deliberate error, with the parameters that it is given."""
    papermill.execute_notebook(FIRST, tmp_path / "out.ipynb", {"prices": {"tea": 30, "cake": 5}}, cwd=tmp_path, progress_bar=False)
    ran = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert all(cell.execution_count for cell in ran.cells if cell.cell_type == "code")
    values = [
        output.data["text/plain"] for cell in ran.cells for output in cell.get("outputs", []) if output.output_type == "execute_result"
    ]
    assert "(35, 'tea')" in values
    assert "{'total': 35, 'half': 17.5}" in values
    assert "KeyError: 'juice'" in "".join(
        output.text for cell in ran.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    )


def test_the_sanitize_file_covers_ids_and_times(tmp_path: Path) -> None:
    """Ids and times of another run are no difference for nbval with the shipped file, and one without it."""
    content = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    other = "j-00000000-1111-2222-3333-444444444444 on n-00000000 at 2001-02-03T04:05:06Z, 1.5 s, <object at 0x7f0000000000>\n"
    this = "j-54785d3f-aaaa-bbbb-cccc-dddddddddddd on n-2e2b7e09 at 2026-01-01T00:00:00.123Z, 12 s, <object at 0x7fffffffffff>"
    cell = nbformat.v4.new_code_cell(f"print({this!r})", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=other)]
    content.cells = [cell]
    nbformat.write(content, tmp_path / "ids.ipynb")
    done = nbval(tmp_path, "ids.ipynb")
    assert done.returncode == 0, done.stdout
    assert nbval(tmp_path, "ids.ipynb", sanitize=False).returncode == 1


def test_the_doctor_says_what_the_notebook_shows() -> None:
    """Of a server behind TLS with a key the doctor says what notebook 08 has, line by line; `tests/support/doctor.py` writes it anew."""
    assert doctor.comparable(doctor.said()) == doctor.comparable(doctor.shown())
    assert "passed  credentials" in doctor.shown()
