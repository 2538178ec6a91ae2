"""A whole course in nbgrader: what is handed out, handed in and graded has %%bacalhau cells, and is graded under a policy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cluster import Cluster
from teacher import KEY, POLICY

pytest.importorskip("nbgrader", reason="nbgrader is not installed")
pytestmark = pytest.mark.timeout(300)

SOLUTION = """%%bacalhau -i throws,seed -o estimate
### BEGIN SOLUTION
import random

dart = random.Random(seed)
print('throwing')
estimate = 4 * sum(dart.random() ** 2 + dart.random() ** 2 <= 1 for _ in range(throws)) / throws
### END SOLUTION"""
BASH = """%%bacalhau --lang bash -i throws -o answer
### BEGIN SOLUTION
echo "{\\"answer\\": $((throws / 2))}"
### END SOLUTION"""
CELLS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("set-up", "%load_ext bacalhau_magic\nthrows, seed = 20_000, 7", {}),
    ("darts", SOLUTION, {"solution": True}),
    ("darts-test", "assert abs(estimate - 3.14) < 0.05\n### BEGIN HIDDEN TESTS\nassert estimate == 3.1422\n### END HIDDEN TESTS", {"points": 3}),
    ("half", BASH, {"solution": True}),
    ("half-test", "assert answer == {'answer': 10_000}", {"points": 2}),
    ("job-test", "%%bacalhau -i estimate\nassert estimate > 3", {"points": 1}),
)  # fmt: skip
RIGHT = SOLUTION.replace("### BEGIN SOLUTION\n", "").replace("\n### END SOLUTION", "")
HALF = BASH.replace("### BEGIN SOLUTION\n", "").replace("\n### END SOLUTION", "")
SUBMISSIONS: dict[str, dict[str, str]] = {
    "ann": {"darts": RIGHT, "half": HALF},
    "bob": {"darts": RIGHT, "half": HALF},
    "cid": {"darts": "%%bacalhau -o estimate\nestimate = 3.0", "half": "%%bacalhau --timeout 1s\nwhile True: pass"},
    "eve": {
        "darts": "%%bacalhau --runtime bacalhau -o estimate\nestimate = 3.1422",
        "half": "%bacalhau config enabled=true\n%bacalhau replay forged.yaml",
    },
}
"""Two that agree, one that is wrong and never ends, one that wants the teacher's cluster and brings a recording."""


def graded_cell(name: str, source: str, asked: Mapping[str, Any]) -> nbformat.NotebookNode:
    """A cell as nbgrader's editor marks it: a student's solution, a test with points, or neither."""
    solution, points = bool(asked.get("solution")), asked.get("points")
    marks = {
        "schema_version": 3,
        "grade_id": name,
        "solution": solution,
        "grade": points is not None,
        "locked": not solution,
        "task": False,
    }
    cell = nbformat.v4.new_code_cell(source, id=name)
    if asked:
        cell.metadata["nbgrader"] = marks | ({"points": points} if points is not None else {})
    return cell


class Course:
    """A course's folder, and nbgrader run in it with the autograder's environment."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "policy.toml").write_text(POLICY)
        self.environment = os.environ | {
            "BACALHAU_MAGIC_POLICY": str(folder / "policy.toml"),
            "BACALHAU_API_URL": url,
            "BACALHAU_API_KEY": KEY,
        }
        (folder / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'estimates'\n")
        content = nbformat.v4.new_notebook(
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            cells=[graded_cell(*cell) for cell in CELLS],
        )
        (folder / "source/ps1").mkdir(parents=True)
        nbformat.write(content, folder / "source/ps1/pi.ipynb")

    def run(self, *words: str) -> str:
        """One of nbgrader's commands; what it said."""
        command = [sys.executable, "-m", "nbgrader", *words]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def hand_in(self, student: str, answers: Mapping[str, str]) -> None:
        """The notebook that was handed out, with a student's answers in it."""
        content = nbformat.read(self.folder / "release/ps1/pi.ipynb", as_version=4)
        for cell in content.cells:
            cell.source = answers.get(cell.id, cell.source)
        place = self.folder / "submitted" / student / "ps1"
        place.mkdir(parents=True)
        nbformat.write(content, place / "pi.ipynb")
        (place / "forged.yaml").write_text("")

    def graded(self, student: str) -> dict[str, nbformat.NotebookNode]:
        """A student's cells after grading."""
        content = nbformat.read(self.folder / "autograded" / student / "ps1/pi.ipynb", as_version=4)
        return {cell.id: cell for cell in content.cells}

    def scores(self) -> dict[str, dict[str, float]]:
        """What each student has for each test."""
        script = """
import json
from nbgrader.api import Gradebook
with Gradebook('sqlite:///gradebook.db') as book:
    print(json.dumps({s.student.id: {g.name: g.score for g in s.notebooks[0].grades} for s in book.assignment_submissions('ps1')}))
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=self.folder, capture_output=True, text=True, check=True)
        found: dict[str, dict[str, float]] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def cluster() -> Any:
    """The teacher's cluster, which nothing that is graded may reach."""
    found = Cluster()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Course:
    """The course after the assignment was made, handed in by all, and graded."""
    made = Course(tmp_path_factory.mktemp("course"), cluster.url)
    made.run("generate_assignment", "ps1")
    for student, answers in SUBMISSIONS.items():
        made.hand_in(student, answers)
    made.run("autograde", "ps1")
    return made


def test_the_teachers_own_notebook_is_valid(course: Course) -> None:
    """`nbgrader validate` runs the teacher's cells with their solutions, and all tests pass."""
    assert "Success! Your notebook passes all the tests." in course.run("validate", "source/ps1/pi.ipynb")


def test_what_is_handed_out_has_no_solution_and_passes_the_policy(course: Course) -> None:
    """The cell's magic line stays, its solution and the hidden test are gone; the check of the policy finds nothing to refuse."""
    cells = {cell.id: cell.source for cell in nbformat.read(course.folder / "release/ps1/pi.ipynb", as_version=4).cells}
    assert cells["darts"].splitlines() == ["%%bacalhau -i throws,seed -o estimate", "# YOUR CODE HERE", "raise NotImplementedError()"]
    assert "3.1422" not in cells["darts-test"]
    check = [sys.executable, "-m", "bacalhau_magic", "policy", "check", "--policy", "policy.toml", "release/ps1/pi.ipynb"]
    done = subprocess.run(check, cwd=course.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_points_are_given_for_what_jobs_brought_back(course: Course) -> None:
    """Right answers have all points; wrong, endless, forbidden and forged ones have none for what they failed."""
    full = {"darts-test": 3.0, "half-test": 2.0, "job-test": 1.0}
    nothing = dict.fromkeys(full, 0.0)
    assert course.scores() == {"ann": full, "bob": full, "cid": nothing, "eve": nothing}


def test_two_graded_notebooks_are_the_same(course: Course) -> None:
    """The graded cells of two students who wrote the same are equal, outputs and metadata included, with no id and no time in the outputs."""
    ann, bob = course.graded("ann"), course.graded("bob")

    def told(cells: dict[str, nbformat.NotebookNode]) -> list[object]:
        return [(cell.source, cell.outputs, cell.execution_count) for cell in cells.values()]

    assert told(ann) == told(bob)
    outputs = str([cell.outputs for cell in ann.values()])
    assert "throwing" in outputs
    assert "bacalhau: completed" in outputs
    assert not re.search(r"\b[jne]-[0-9a-f]{8}\b|\d{4}-\d\d-\d\d|\b\d+(\.\d+)? (ms|s)\b", outputs)


def test_a_refusal_is_in_the_teachers_words(course: Course) -> None:
    """What the policy refuses is an error of the student's cell, with the teacher's message."""
    cells = course.graded("eve")
    for name, said in (("darts", "runtime bacalhau is not among what the policy"), ("half", "switched off by the policy")):
        text = str(cells[name].outputs)
        assert said in text
        assert "Ask in room 101." in text
    assert "ran longer than its time limit" in str(course.graded("cid")["half"].outputs)


def test_the_teachers_key_and_cluster_are_out_of_reach(course: Course, cluster: Cluster) -> None:
    """Grading and feedback made no request to the cluster that the grader's environment names, and the key stands in no file."""
    course.run("generate_feedback", "ps1")
    feedback = course.folder / "feedback/ann/ps1/pi.html"
    assert "throwing" in feedback.read_text(encoding="utf-8")
    assert cluster.server.requests == []
    for path in course.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
