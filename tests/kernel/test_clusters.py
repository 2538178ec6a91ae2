"""A real kernel, and the first notebook unchanged, against clusters behind a front door."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from gateway import Authority, Gateway, gateway
from kernels import Kernel, start
from scripted import JOB, JobScript, Server

from bacalhau_magic.node import _daemon

KEY = "kernel-front-door-key"


@pytest.fixture(scope="module")
def door() -> _daemon.TcpDoor:
    """The embedded node's TCP door with its key."""
    return _daemon.environment()


@pytest.fixture
def cluster(door: _daemon.TcpDoor) -> Iterator[Gateway]:
    with gateway(door, f"Bearer {KEY}") as opened:
        yield opened


@pytest.fixture
def project(folder: Path) -> Iterator[Kernel]:
    """A kernel with a front end, in a project's folder."""
    kernel = start(live=True)
    yield kernel
    kernel.stop()


def _try(folder: Path, **variables: str) -> str:
    """What `python -m bacalhau_magic try` prints: the cells of notebook 01, one after the other."""
    command = [sys.executable, "-m", "bacalhau_magic", "try"]
    done = subprocess.run(command, env=os.environ | variables, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_first_notebook_on_a_cluster(door: _daemon.TcpDoor, tmp_path: Path) -> None:
    """With BACALHAU_API_URL, a key and a CA file the first notebook runs unchanged on a cluster over TLS."""
    authority = Authority(tmp_path)
    with gateway(door, f"Bearer {KEY}", context=authority.context()) as opened:
        out = _try(tmp_path, BACALHAU_API_URL=opened.url, BACALHAU_API_KEY=KEY, BACALHAU_API_TLS_CAFILE=str(authority.file))
        assert "cells did what they should" in out
        assert KEY not in out
        assert len(opened.paths("PUT")) >= 4


def test_first_notebook_with_the_lines_of_node_env(door: _daemon.TcpDoor, tmp_path: Path) -> None:
    """With the node's own address and key, as `node env` prints them, the first notebook runs unchanged on this machine."""
    printed = subprocess.run(
        [sys.executable, "-m", "bacalhau_magic", "node", "env"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    variables = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())
    assert variables == door.variables
    assert "cells did what they should" in _try(
        tmp_path, BACALHAU_API_URL=f"http://{door.host}:{door.port}", BACALHAU_API_KEY=variables["BACALHAU_API_KEY"]
    )


def test_login_asks_without_echo(project: Kernel, cluster: Gateway) -> None:
    """%bacalhau login asks the front end for a password field; the key stands in no output, history or variable."""
    ran, asked = project.answer(f"%bacalhau login {cluster.url}", KEY)
    assert ran.error is None, ran.text
    assert [question["password"] for question in asked] == [True]
    assert "The server accepts it." in ran.text
    value = project.run("%%bacalhau\n6 * 7")
    assert value.value == "42", value.text
    assert len(cluster.paths("PUT")) == 1
    hidden = project.run("'key' in str(In) and KEY in str((In, Out, globals()))".replace("KEY", repr(KEY[:-1]) + "+'" + KEY[-1] + "'"))
    assert hidden.value == "False"
    assert KEY not in ran.text + value.text + project.run("%bacalhau config --show-origin").text
    assert "forgotten" in project.run("%bacalhau login --forget").text


def test_login_in_a_batch_run(batch: Kernel) -> None:
    """Where no front end can answer, login says how else to give a key, and does not hang."""
    ran = batch.run("%bacalhau login http://127.0.0.1:9")
    assert ran.error is not None
    assert "BACALHAU_API_KEY" in ran.text


def test_projects_endpoint_is_used_once_trusted(project: Kernel, cluster: Gateway, folder: Path) -> None:
    """Routing row 8 in a real shell: a cell is refused naming the address, runs there after use --trust, and is refused after --untrust."""
    (folder / "pyproject.toml").write_text(f'[tool.bacalhau-magic]\napi_url = "{cluster.url}"\n')
    project.run(f"import os; os.environ['BACALHAU_API_KEY'] = {KEY!r}")
    refused = project.run("%%bacalhau\n1")
    assert refused.error is not None
    assert cluster.url in refused.text
    assert "%bacalhau use --trust" in refused.text
    assert cluster.seen == []
    assert cluster.url in project.run("%bacalhau use --trust").text
    assert project.run("%%bacalhau\n6 * 7").value == "42"
    assert len(cluster.paths("PUT")) == 1
    assert "Not trusted any more" in project.run("%bacalhau use --untrust").text
    assert project.run("%%bacalhau\n1").error is not None
    assert project.run("%%bacalhau --runtime local\n1").value == "1"
    assert len(cluster.paths("PUT")) == 1


def test_refusal_names_the_setting(project: Kernel, cluster: Gateway) -> None:
    """A cell that a cluster refuses shows the server's reason and which setting the key came from."""
    project.run(f"import os; os.environ.update(BACALHAU_API_URL={cluster.url!r}, BACALHAU_API_KEY='not-it')")
    ran = project.run("%%bacalhau\n1")
    assert ran.error is not None
    assert ran.error[0] == "UnauthorizedError"
    assert "invalid API key" in ran.text
    assert "environment BACALHAU_API_KEY" in ran.text
    assert "not-it" not in ran.text


def test_doctor_in_a_notebook(project: Kernel) -> None:
    """%bacalhau doctor is a value with a table; while it runs one live line says what it does, and is empty at the end."""
    ran = project.run("d = %bacalhau doctor\nd")
    assert ran.error is None, ran.text
    result = next(output["content"]["data"] for output in ran.outputs if output["type"] == "execute_result")
    assert "Python job" in result["text/html"]
    assert project.run("bool(d), d['Bash job'].outcome").value == "(True, 'passed')"
    lines = [output["content"]["data"]["text/plain"] for output in ran.outputs if output["type"] in ("display_data", "update_display_data")]
    assert [output["type"] for output in ran.outputs].count("display_data") == 1
    assert any("Python job" in line for line in lines)
    assert lines[-1] == ""


def test_doctor_in_a_batch_run(batch: Kernel) -> None:
    """In a batch run the doctor shows its value alone."""
    ran = batch.run("%bacalhau doctor")
    assert [output["type"] for output in ran.outputs] == ["execute_result"]


@pytest.mark.parametrize(("ran", "state"), [(2, "failed"), (60, "perhaps timed out")], ids=["its own code", "time limit"])
def test_an_exit_code_of_124_is_judged_by_the_node_s_times(folder: Path, ran: int, state: str) -> None:
    """A job that ended with the exit code of a time limit may have used up its time if its node had it for so long: what it waited and pulled before is no part of it."""
    with Server() as server:
        job = JobScript(server)
        job.begin()
        job.end(exit_code=124)
        for item in job.items:
            at = {"Running": 180, "Completed successfully": 180 + ran}.get(item["Event"]["Message"], 0)
            item["Time"] = f"{(datetime(2026, 11, 23, 15, 55) + timedelta(seconds=at)).isoformat()}.500000001Z"
        told = {"bacalhau-magic/timeout": "30", "bacalhau-magic/language": "bash"}
        whole = {**job.job(), "Tasks": [{"Name": "main", "Meta": told}], "CreateTime": 1, "ModifyTime": 200 * 10**9}
        server.on("GET", f"/orchestrator/jobs/{JOB}", {"Job": whole})
        kernel = start(live=False, BACALHAU_API_URL=server.url)
        said = kernel.run(f"print(get_ipython().run_line_magic('bacalhau', 'show {JOB}'))").text
        kernel.stop()
    assert state in said, said
    assert ("Perhaps the cell ran longer than its time limit" in said) is (ran == 60), said
