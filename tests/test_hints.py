"""What may have been meant by an error, and what a cluster would lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bacalhau_magic._hints import advise, lacking
from bacalhau_magic._languages import BUILT_IN, configured
from bacalhau_magic._namespace import capture
from bacalhau_magic._stages import CellRequest, Endpoint, JobRecord, JobRef, JobResult, Target
from bacalhau_magic._wire import Job
from bacalhau_magic.errors import JobFailedError, remote_cell_error
from bacalhau_magic.options import JobOptions

LOCAL = Target("local", Endpoint("http://localhost", socket="/run/x"), executor="process")
CLUSTER = Target("bacalhau", Endpoint("http://cluster:1234"))


def request(code: str, folder: Path, lang: str = "python", **more: object) -> CellRequest:
    options = JobOptions(lang=lang, **more)
    items = capture(code, options, BUILT_IN[lang], {"a": [{"deep": (np.arange(2),)}], "n": 1}, folder).items
    return CellRequest(code=code, options=options, language=BUILT_IN[lang], inputs=items, folder=folder)


def hint(said: str, asked: CellRequest, target: Target = LOCAL) -> str:
    error = remote_cell_error(job_id="j", ename="FileNotFoundError", evalue=said, traceback_text="")
    advise(JobResult(JobRef("j", target.endpoint), JobRecord(Job()), error=error), asked, target)
    return error.hint


def test_outputs_of_the_process_executor(tmp_path: Path) -> None:
    """A plain process has no /outputs: the cell is told of its working folder; an isolated one has it."""
    missing = "[Errno 2] No such file or directory: '/outputs/a.txt'"
    assert "write outputs/a.txt, in the cell's working folder" in hint(missing, request("1", tmp_path))
    assert hint(missing, request("1", tmp_path), replace(LOCAL, executor="bubblewrap")) == ""
    assert hint(missing, request("1", tmp_path), CLUSTER) == ""


@pytest.mark.parametrize(
    "said",
    [
        "[Errno 2] No such file or directory: 'data.csv'",
        "ENOENT: no such file or directory, open 'data.csv'",
        "cat: data.csv: No such file or directory",
        "ls: cannot access 'data.csv': No such file or directory",
    ],
)
def test_a_file_beside_the_notebook(tmp_path: Path, said: str) -> None:
    """A file that lies beside the notebook, or was sent, is found in every language's words."""
    asked = request("1", tmp_path)
    assert hint(said, asked) == ""
    (tmp_path / "data.csv").write_text("1")
    assert "-i ./data.csv, then open inputs/data.csv" in hint(said, asked)
    assert hint(said, request("1", tmp_path, inputs=["data.csv"])) == "It was sent: open inputs/data.csv."


def test_a_hint_that_is_there_stays(tmp_path: Path) -> None:
    """An error that has its own hint keeps it."""
    (tmp_path / "x").write_text("1")
    error = JobFailedError("…", job_id="j", exit_code=1, stderr_tail="cat: x: No such file or directory", hint="its own")
    advise(JobResult(JobRef("j", LOCAL.endpoint), JobRecord(Job()), error=error), request("1", tmp_path), LOCAL)
    assert error.hint == "its own"


def test_what_a_cluster_lacks(tmp_path: Path) -> None:
    """Imports and the inputs' libraries beyond the standard library are named, once each."""
    asked = request("import numpy as np, json\nfrom sklearn.base import x", tmp_path, inputs=["a,n"])
    assert lacking(asked, LOCAL) == "A cluster would lack: numpy, sklearn."
    image = BUILT_IN["python"].image
    assert lacking(asked, CLUSTER) == f"The image {image} lacks: numpy, sklearn. Choose one that has them with --image."
    assert lacking(request("a", tmp_path, inputs=["a"]), LOCAL) == "A cluster would lack: numpy."


def test_what_covers_it(tmp_path: Path) -> None:
    """An image of the line or of the configuration, a module that was sent, and other languages lack nothing."""
    code = "import helper"
    assert lacking(request(code, tmp_path, image="my/image"), CLUSTER) == ""
    own = configured({"python": {"image": "my/image"}})["python"]
    assert lacking(replace(request(code, tmp_path), language=own), CLUSTER) == ""
    (tmp_path / "helper.py").write_text("")
    assert lacking(request(code, tmp_path, inputs=["helper.py"]), CLUSTER) == ""
    assert lacking(request("import nothing", tmp_path, lang="bash"), CLUSTER) == ""
    assert lacking(request("import json", tmp_path), CLUSTER) == ""
