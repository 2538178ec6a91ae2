"""A class: what students hand in can be compared, and is graded where the teacher's key and cluster are out of reach."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from cluster import Cluster
from kernels import Kernel, start
from nbclient import NotebookClient
from teacher import KEY, POLICY


@pytest.fixture
def graded(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The kernel of an autograder, whose own environment names the cluster and its key."""
    (tmp_path / "policy.toml").write_text(POLICY)
    running = start(
        live=False,
        folder=tmp_path,
        BACALHAU_MAGIC_POLICY=str(tmp_path / "policy.toml"),
        BACALHAU_API_URL=cluster.url,
        BACALHAU_API_KEY=KEY,
    )
    yield running
    running.stop()


TRICKS = [
    "%%bacalhau\n1 + 1",
    "%%bacalhau --runtime bacalhau\n1",
    "%%bacalhau --fallback\n1",
    "%bacalhau config enabled=true",
    "%bacalhau config runtime=bacalhau",
    "%%bacalhau\nimport os\n[value for value in os.environ.values() if 'teachers' in value]",
    "%bacalhau",
    "%bacalhau jobs --all",
    "%bacalhau nodes",
    "%bacalhau show j-54785d3f",
    "%bacalhau attach j-54785d3f",
    "%bacalhau doctor",
    "%bacalhau config --show-origin",
    "from bacalhau_magic import run\nrun('1', runtime='bacalhau')",
]


def test_the_teachers_key_and_cluster_are_out_of_reach(graded: Kernel, cluster: Cluster) -> None:
    """Under the policy no cell, verb or call of a submission makes a request to the cluster, or shows its key; cells run here."""
    before = len(cluster.server.requests)
    said = [graded.run(trick, timeout=100) for trick in TRICKS]
    assert said[0].value == "2"
    assert "runtime bacalhau is not among what the policy" in said[1].text
    assert "Ask in room 101." in said[1].text
    assert said[5].value == "[]"
    assert re.search(r"runtime +local, because the policy .*policy.toml allows runtime local alone\n", said[6].text)
    assert re.search(r"policy +.*policy.toml \(%bacalhau policy says what it allows\)\n", said[6].text)
    assert [ran.text for ran in said if KEY in ran.text] == []
    assert len(cluster.server.requests) == before


def test_what_is_configured_above_the_policy_is_said_at_once(graded: Kernel) -> None:
    """A setting above the policy's limit is told with what becomes of it; a cell of which nobody chose the limits says nothing."""
    said = graded.run("%bacalhau config timeout=10m").text
    assert "timeout = 10m" in said
    assert "timeout is cut from 10m to 20s by the policy" in said
    graded.run("%bacalhau config timeout=")
    assert "runtime bacalhau is not among what the policy" in graded.run("%bacalhau config runtime=bacalhau").text
    graded.run("%bacalhau config runtime=")
    assert "cut from" not in graded.run("%%bacalhau\n1").text


def test_results_are_not_forged_by_a_recording(graded: Kernel, tmp_path: Path) -> None:
    """Where recordings are switched off a submission can't replay one, nor take a stored result; the teacher's message says why."""
    (tmp_path / "forged.yaml").write_text("")
    for line in ("%bacalhau replay forged.yaml", "%bacalhau record forged.yaml", "%%bacalhau --cache\n1", "%%bacalhau --refresh\n1"):
        ran = graded.run(line)
        assert ran.error, line
        assert "recorded jobs are switched off by the policy" in ran.text
        assert "Ask in room 101" in ran.text
    graded.run("%bacalhau config recordings=true")
    assert graded.run("%bacalhau replay forged.yaml").error


@pytest.mark.bubblewrap
def test_a_cell_reads_no_file_of_the_teachers(graded: Kernel, tmp_path: Path) -> None:
    """A cell in the sandbox sees neither the policy nor a file that keeps a key."""
    (tmp_path / "tokens.json").write_text(KEY)
    ran = graded.run(f"%%bacalhau\nimport os\n[os.path.exists(p) for p in ({str(tmp_path / 'tokens.json')!r}, {str(tmp_path)!r})]")
    assert ran.value == "[False, False]", ran.text


SUBMISSION = [
    "%load_ext bacalhau_magic",
    "%%bacalhau -o estimate\nimport random\ndart = random.Random(7)\nprint('throwing')\nestimate = sum(dart.random() < 0.5 for _ in range(1000))",
    "estimate",
    "%%bacalhau --no-raise-error\n{}['pi']",
    "%%bacalhau --bg --job later\n[1, 2]",
    "later.result()",
    "%%bacalhau --lang bash\necho '{\"ok\": true}'",
]


def handed_in(folder: Path, name: str) -> nbformat.NotebookNode:
    """A student's notebook after an autograder ran it: fresh kernel, errors allowed."""
    content = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    content.cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(SUBMISSION)]
    (folder / name).mkdir()
    options = {"allow_errors": True, "record_timing": False, "resources": {"metadata": {"path": str(folder / name)}}}
    return NotebookClient(content, timeout=100, kernel_name="python3", **options).execute()


def test_submissions_can_be_compared(tmp_path: Path) -> None:
    """Two students' runs of the same cells have the same outputs, metadata included, with no id and no time in them."""
    first, second = (handed_in(tmp_path, name) for name in ("ann", "bob"))
    assert first.cells == second.cells
    everything = "".join(str(cell.outputs) for cell in first.cells)
    assert "throwing" in everything
    assert not re.search(r"\b[jne]-[0-9a-f]{8}\b|\d{4}-\d\d-\d\d|\b\d+(\.\d+)? (ms|s)\b", everything)
