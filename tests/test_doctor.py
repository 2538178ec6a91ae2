"""The doctor against the embedded node, front doors and scripted servers; its lines, exit codes and JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway import Authority, gateway
from scripted import JOB, JobScript, Server, recording
from venvs import lacking

from bacalhau_magic import _commands, _doctor
from bacalhau_magic._diagnosis import Check, Diagnosis
from bacalhau_magic._session import Session
from bacalhau_magic._stages import Endpoint, Target
from bacalhau_magic._wire import NodeState
from bacalhau_magic.errors import OptionError
from bacalhau_magic.node import _daemon

KEY = "doctor-front-door-key"
JOBS = ("Python job", "Bash job", "JavaScript job")


@pytest.fixture(scope="module")
def door() -> _daemon.TcpDoor:
    return _daemon.environment()


def ask(folder: Path, *words: str, python: Path | str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m bacalhau_magic doctor` as a script calls it."""
    command = [python, "-m", "bacalhau_magic", "doctor", *words]
    return subprocess.run(command, env=os.environ | variables, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


def examined(session: Session) -> Diagnosis:
    return _doctor.diagnose(session, lambda _: None)


def test_on_the_embedded_node(folder: Path) -> None:
    """Without an endpoint the embedded node is checked: every line stands, nothing failed, and the exit code is 0."""
    done = ask(folder, BACALHAU_PATH="/nowhere/bacalhau")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {
        line[8:23].strip(): line[:7].strip() for line in done.stdout.splitlines() if line[:7].strip() in ("passed", "failed", "skipped")
    }
    assert lines.pop("lab extension") in ("passed", "skipped")
    assert lines.pop("GPUs") in ("passed", "skipped")
    assert lines == {
        "configuration": "passed",
        "endpoint": "skipped",
        "embedded node": "passed",
        "clock": "passed",
        "credentials": "passed",
        "nodes": "passed",
        **dict.fromkeys(JOBS, "passed"),
        "log stream": "passed",
        "publisher": "passed",
        "widget": "passed",
    }
    assert "is not on PATH" in done.stdout
    assert done.stdout.rstrip().endswith("skipped.")
    assert list(folder.iterdir()) == []


def test_on_a_cluster(folder: Path, door: _daemon.TcpDoor, tmp_path: Path) -> None:
    """With an endpoint it is that one that is checked, over TLS and with its key; --json says the same to programs."""
    authority = Authority(tmp_path)
    with gateway(door, f"Bearer {KEY}", context=authority.context()) as opened:
        variables = {"BACALHAU_API_URL": opened.url, "BACALHAU_API_KEY": KEY, "BACALHAU_API_TLS_CAFILE": str(authority.file)}
        done = ask(folder, "--json", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        checks = {check["name"]: check for check in found["checks"]}
        assert found["ok"] is True
        assert found["bacalhau_magic"]
        assert checks["endpoint"]["says"] == f"{opened.url}, from environment BACALHAU_API_URL."
        assert checks["credentials"]["says"] == "Reading and sending jobs: accepted, from environment BACALHAU_API_KEY."
        assert {checks[name]["outcome"] for name in (*JOBS, "server", "log stream", "publisher")} == {"passed"}
        assert len(opened.paths("PUT")) == 4
        assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("packages", "extensions", "widget", "panel"),
    [
        (
            ("anywidget",),
            ("bacalhau-magic",),
            ("failed", "anywidget can't be imported.", "pip install anywidget"),
            ("skipped", "the jobs panel and the completions are missing; cells and cards work", "Install the wheel that carries it"),
        ),
        (
            (),
            ("anywidget", "@jupyter-widgets"),
            (
                "failed",
                "JupyterLab lacks @jupyter-widgets/jupyterlab-manager and anywidget.",
                "pip install --force-reinstall jupyterlab_widgets anywidget",
            ),
            None,
        ),
    ],
    ids=["without the widget and the lab extension", "without the widget's extensions"],
)
def test_what_is_not_installed(
    folder: Path,
    tmp_path: Path,
    packages: tuple[str, ...],
    extensions: tuple[str, ...],
    widget: tuple[str, str, str],
    panel: tuple[str, str, str] | None,
) -> None:
    """What the environment lacks for cards and the panel is said with what to install; every job runs all the same."""
    python = lacking(tmp_path / "venv", *packages, extensions=extensions)
    done = ask(folder, "--json", python=python, PYTHONPATH=str(Path(__file__).parents[1]))
    assert done.returncode == 1, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name, expected in (("widget", widget), ("lab extension", panel)):
        if expected is not None:
            outcome, says, advice = expected
            assert checks[name]["outcome"] == outcome
            assert says in checks[name]["says"]
            assert advice in checks[name]["advice"]
    assert {checks[name]["outcome"] for name in ("Python job", "Bash job", "log stream")} == {"passed"}


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
def test_reader_that_goes_early(folder: Path) -> None:
    """A reader that closes its end, as `| head` does, gets no traceback in return."""
    command = [sys.executable, "-m", "bacalhau_magic", "doctor"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert said == ""


def test_wrong_key(folder: Path, door: _daemon.TcpDoor) -> None:
    """A key that is refused fails its check with the server's reason and the setting, and the exit code is 1."""
    with gateway(door, f"Bearer {KEY}") as opened:
        done = ask(folder, BACALHAU_API_URL=opened.url, BACALHAU_API_KEY="not-it")
    assert done.returncode == 1
    assert "failed  credentials" in done.stdout
    assert "invalid API key" in done.stdout
    assert "environment BACALHAU_API_KEY" in done.stdout
    assert "failed  Python job" in done.stdout
    assert "failed  log stream" in done.stdout
    assert "proxy" not in done.stdout
    assert "not-it" not in done.stdout + done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_nobody_answers(folder: Path, there: bool) -> None:
    """Where nothing answers the server's check fails and says how to start one, where the CLI is there, or where to get it; jobs are skipped."""
    cli = folder / "bacalhau"
    if there:
        cli.write_text("#!/bin/sh\n")
        cli.chmod(0o755)
    done = ask(folder, BACALHAU_API_URL="http://127.0.0.1:9", BACALHAU_PATH=str(cli))
    assert done.returncode == 1
    assert "failed  server" in done.stdout
    assert (f"{cli} devstack" in done.stdout) is there
    assert ("https://docs.bacalhau.org" in done.stdout) is not there
    assert done.stdout.count("skipped") >= 9


def test_untrusted_project(session: Session, folder: Path) -> None:
    """A project's endpoint that is not trusted fails its check, with the command that trusts it, and nothing is sent."""
    with Server() as server:
        (folder / "pyproject.toml").write_text(f'[tool.bacalhau-magic]\napi_url = "{server.url}"\n')
        found = examined(session)
        assert found["endpoint"].outcome == "failed"
        assert "use --trust" in found["endpoint"].advice
        assert server.requests == []
    assert not found


def test_configuration_that_cannot_be_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting fails its check by name, and the installation is checked all the same."""
    monkeypatch.setenv("BACALHAU_MAGIC_CPU", "many")
    found = examined(session)
    assert [check.name for check in found.checks] == ["configuration", "widget", "lab extension"]
    assert "BACALHAU_MAGIC_CPU" in found["configuration"].says


@pytest.mark.parametrize(("ahead", "outcome"), [(3600, "failed"), (-3600, "failed"), (5, "passed")])
def test_clock(session: Session, monkeypatch: pytest.MonkeyPatch, ahead: float, outcome: str) -> None:
    """A server whose clock is an hour off fails its check, in either direction; some seconds don't matter."""
    with Server() as server:
        server.clock = ahead
        server.on("GET", "/agent/alive", {"Status": "OK"})
        server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
        server.on("GET", "/orchestrator/nodes", {"Nodes": []})
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        clock = examined(session)["clock"]
    assert clock.outcome == outcome
    assert ("ahead of" in clock.says, "behind" in clock.says) == (ahead > 60, ahead < -60)


@pytest.mark.parametrize(
    ("version", "outcome", "says"),
    [("v1.9.3", "passed", "version v1.9.3"), ("v1.4.0", "failed", "1.4"), ("v0.0.0-xxxxxxx", "passed", "does not say which version")],
)
def test_version(session: Session, monkeypatch: pytest.MonkeyPatch, version: str, outcome: str, says: str) -> None:
    """A version before 1.5 fails, a build without a number passes and says so; the nodes of the answer are named with their GPUs."""
    with Server() as server:
        server.on("GET", "/agent/version", {"GitVersion": version})
        server.on("GET", "/orchestrator/nodes", recording("nodes"))
        server.on_logs(lambda stream, _: (stream.error("job not found"), stream.close()))
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        found = examined(session)
    assert (found["server"].outcome, says in found["server"].says) == (outcome, True)
    assert found["nodes"].outcome == "passed"
    assert "docker" in found["nodes"].says
    assert found["GPUs"].outcome == "skipped"
    assert {found[name].outcome for name in JOBS} == {"failed"}
    assert (found["log stream"].outcome, found["publisher"].outcome) == ("passed", "skipped")


def test_log_stream_that_does_not_open(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that lets no web socket through fails the log stream's check, and the advice names it."""
    with Server() as server:
        server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
        server.on("GET", "/orchestrator/nodes", recording("nodes"))
        server.on_logs(lambda stream, _: None)
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        found = examined(session)["log stream"]
    assert (found.outcome, "web sockets" in found.advice) == ("failed", True)


def test_credential_that_may_only_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential that may read and not send fails its check with the server's reason; nothing of the user's is touched by the question."""
    reason = "user 'ro' does not have the required capability 'write:job'"
    refusal = {"Status": 403, "Message": "Request Forbidden", "Code": "Forbidden", "Hint": "Check access.", "Details": {"reason": reason}}
    with Server() as server:
        server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
        server.on("GET", "/orchestrator/nodes", recording("nodes"))
        server.on("DELETE", ".*", (403, refusal))
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        monkeypatch.setenv("BACALHAU_API_KEY", KEY)
        found = examined(session)["credentials"]
        asked = [request.path for request in server.requests if request.method == "DELETE"]
    assert (found.outcome, reason in found.says) == ("failed", True)
    assert asked == ["/orchestrator/jobs/j-00000000-0000-4000-8000-000000000000"]


def test_nodes_that_take_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without a connected compute node fails that check."""
    nodes = recording("nodes")
    for node in nodes["Nodes"]:
        node["Connection"] = "DISCONNECTED"
        node.pop("ConnectionState", None)
    with Server() as server:
        server.on("GET", "/agent/version", {"GitVersion": "v1.9.3"})
        server.on("GET", "/orchestrator/nodes", nodes)
        monkeypatch.setenv("BACALHAU_API_URL", server.url)
        assert examined(session)["nodes"].outcome == "failed"


def test_result_that_is_wrong(session: Session) -> None:
    """A job that ends well and gives another value than it should fails its check."""
    check, _ = _doctor._run(session, "Python job", _doctor._Program("python", "1 + 1", 3), lambda _: None)
    assert (check.outcome, "It gave 2 and not 3." in check.says) == ("failed", True)


def test_publisher_that_cannot_be_reached(session: Session, door: _daemon.TcpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher's address that can't be reached from here fails its check with what to do; the jobs themselves pass."""
    with gateway(door, f"Bearer {KEY}") as opened:
        opened.rewrite = (f"127.0.0.1:{door.port}/".encode(), f"127.0.0.1:{'9'.zfill(len(str(door.port)))}/".encode())
        monkeypatch.setenv("BACALHAU_API_URL", opened.url)
        monkeypatch.setenv("BACALHAU_API_KEY", KEY)
        found = examined(session)
    assert (found["publisher"].outcome, found["Bash job"].outcome) == ("failed", "passed")
    assert "can't be reached from here" in found["publisher"].says
    assert "publisher address" in found["publisher"].advice


def test_no_publisher(session: Session) -> None:
    """Where no node has a publisher the check is skipped and says what that means."""
    state = NodeState.model_validate({"Info": {"NodeID": "n-1", "ComputeNodeInfo": {"ExecutionEngines": ["docker"]}}})
    check = _doctor._publisher(session, Target("bacalhau", Endpoint("http://127.0.0.1:9"), nodes=(state,)), lambda _: None)
    assert (check.outcome, "--files" in check.says) == ("skipped", True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_interrupt_stops_the_job(folder: Path) -> None:
    """Ctrl-C while a job waits stops that job on its server, and the exit code says so."""
    with Server() as server:
        script = JobScript(server)
        server.on("PUT", "/orchestrator/jobs", {"JobID": JOB, "EvaluationID": "x"})
        server.on("GET", "/agent/alive", {"Status": "OK"})
        server.on_logs(lambda stream, _: stream.stay())
        command = [sys.executable, "-m", "bacalhau_magic", "doctor"]
        process = subprocess.Popen(
            command, env=os.environ | {"BACALHAU_API_URL": server.url}, cwd=folder, stdout=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while not server.count("GET", f"/orchestrator/jobs/{JOB}/history"):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 130
        assert len(script.stops) == 1
        assert "Python job" not in out


def test_last_job_stays_the_users_own(session: Session) -> None:
    """The doctor's jobs are none of the notebook's: `last` and the list of jobs stay as they were."""
    mine = session.submit("1", _doctor._argspec.parse("--bg"))
    mine.result(30)
    before = len(_commands.run(session, "jobs"))
    assert examined(session)
    assert session.last is mine
    assert len(_commands.run(session, "jobs")) == before


def test_words_and_reprs(session: Session) -> None:
    """The verb takes --json alone; a diagnosis escapes what servers say, and iterates as plain data."""
    with pytest.raises(OptionError, match="knows no '--all'"):
        _commands.run(session, "doctor --all")
    found = Diagnosis((Check("server", "failed", "<b>x</b>", "do <i>"), Check("GPUs", "skipped", "none")))
    assert "<b>x" not in found._repr_html_()
    assert next(iter(found)) == {"name": "server", "outcome": "failed", "says": "<b>x</b>", "advice": "do <i>"}
    assert (bool(found), len(found), "→ do <i>" in repr(found), "1 failed" in repr(found)) == (False, 2, True, True)
