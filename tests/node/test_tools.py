"""Tools made for Bacalhau drive the node: its Python SDK at the open port, its command line with the lines of `node env`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import images
import pytest
from embedded import Node, job, running

from bacalhau_magic import _marks
from bacalhau_magic.node import _daemon

_DRIVER = """
import json, os, sys
from bacalhau_apiclient import ApiClient, Configuration
from bacalhau_apiclient.models.api_put_job_request import ApiPutJobRequest
from bacalhau_apiclient.models.job import Job
from bacalhau_apiclient.models.spec_config import SpecConfig
from bacalhau_apiclient.models.task import Task

def verbs():
    if sys.argv[1] == "sdk":
        from bacalhau_sdk.jobs import Jobs
        return Jobs()
    from bacalhau_apiclient.api.orchestrator_api import OrchestratorApi
    configuration = Configuration()
    configuration.host = f"http://{os.environ['BACALHAU_API_HOST']}:{os.environ['BACALHAU_API_PORT']}"
    api = OrchestratorApi(ApiClient(configuration))
    names = {"put": "put_job", "stop": "stop_job", "get": "get_job", "list": "list_jobs"}
    class Verbs:
        def __getattr__(self, verb):
            return getattr(api, "orchestrator" + names.get(verb, "job_" + verb))
    return Verbs()

def put(name, image, *words):
    engine = SpecConfig(type="docker", params={"Image": image, "Entrypoint": list(words), "Parameters": []})
    task = Task(name="main", engine=engine, publisher=SpecConfig())
    return jobs.put(ApiPutJobRequest(job=Job(name=name, type="batch", count=1, tasks=[task])))

jobs = verbs()
for line in sys.stdin:
    verb, arguments, options = json.loads(line)
    answer = put(*arguments) if verb == "put" else getattr(jobs, verb)(*arguments, **options)
    print(json.dumps(ApiClient().sanitize_for_serialization(answer)), flush=True)
"""
Ask = Callable[..., Any]


@pytest.fixture(params=["sdk", "generated client"])
def ask(request: pytest.FixtureRequest, node: Node, tmp_path: Path) -> Iterator[Ask]:
    """The SDK (or the generated client below it) in a process of its own, at the port that `node start --open-port` opens."""
    if request.param == "sdk" and importlib.util.find_spec("bacalhau_sdk") is None:
        reason = "bacalhau-sdk is not installed: pip install --no-deps bacalhau-sdk (what it pins would hold back the other tests' tools)"
        if "sdk" in os.environ.get("BM_TEST_NEEDS", "").split():
            pytest.fail(f"{reason}, and it was to be there", pytrace=False)
        pytest.skip(reason)
    door = _daemon.environment(node.places, open_port=True)
    environment = {**os.environ, **door.variables, "BACALHAU_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _DRIVER, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def call(verb: str, *arguments: str, **options: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([verb, arguments, options]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()


def has_engine(node: Node) -> bool:
    return "docker" in node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["ExecutionEngines"]


def test_the_sdk_submits(ask: Ask, node: Node, request: pytest.FixtureRequest) -> None:
    """A container job that the SDK sends is taken, and its end can be read; without an engine that is the recorded refusal."""
    name = re.sub(r"\W", "-", request.node.name)
    identity = ask("put", name, "busybox:stable", "echo", "hello")["JobID"]
    state = node.wait(identity, limit=90)["State"]
    answer = ask("get", identity, include="executions,history", limit=10)
    assert (answer["Job"]["ID"], answer["Job"]["Name"], answer["Job"]["State"]["StateType"]) == (identity, name, state["StateType"])
    if not has_engine(node):
        assert state["Message"].endswith("does not support docker, only host")
        assert [item["Event"]["Topic"] for item in answer["History"]["Items"]] == ["Submission", "Scheduling"]
        assert ask("executions", identity, namespace="", limit=5, next_token="", reverse=False, order_by="")["Items"] == []


def test_the_sdk_reads(ask: Ask, node: Node) -> None:
    """The SDK lists jobs in pages, and reads a finished job, its executions, history and results; the archive needs no key."""
    paths = [{"Name": "outputs", "Path": "/outputs"}]
    code = "import sys; open(sys.argv[1] + '/f', 'w').write('f'); print('out'); sys.exit(3)"
    identity = node.put(job("python", "-c", code, "/outputs", ResultPaths=paths, Publisher={"Type": "local"}))
    node.wait(identity)
    [execution] = ask("executions", identity, namespace="", limit=5, next_token="", reverse=False, order_by="")["Items"]
    assert (execution["JobID"], execution["RunOutput"]["Stdout"], execution["RunOutput"]["ExitCode"]) == (identity, "out\n", 3)
    history = ask("history", identity, event_type="execution", node_id="", execution_id="")["Items"]
    assert [item["Event"]["Message"] for item in history][1:] == ["Running", "Completed successfully"]
    assert len(ask("history", identity, event_type="all", node_id="", execution_id="")["Items"]) == 6
    [result] = ask("results", identity)["Items"]
    with urllib.request.urlopen(result["Params"]["URL"], timeout=30) as response, tarfile.open(fileobj=response, mode="r|gz") as archive:
        assert "./outputs/f" in [entry.name for entry in archive]
    first = ask("list", limit=1, next_token="", order_by="created_at", reverse=True)
    assert len(first["Items"]) == 1
    node.put(job("true", language="bash"))
    newest = ask("list", limit=1, next_token="", order_by="created_at", reverse=True)
    second = ask("list", limit=1, next_token=newest["NextToken"], order_by="created_at", reverse=True)
    assert second["Items"][0]["ID"] == first["Items"][0]["ID"]


def test_the_sdk_stops(ask: Ask, node: Node) -> None:
    """The SDK's stop, which has its reason in the address and no body, ends a running job."""
    identity = node.put(job("python", "-c", "import time; time.sleep(60)"))
    node.wait(identity, "Running")
    assert ask("stop", identity, reason="enough")["EvaluationID"]
    assert node.job(identity)["State"] == {"StateType": "Stopped", "Message": "enough"}


# The command line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """The `bacalhau` of PATH with folders of its own, after the lines that `node env` prints."""
    program = shutil.which("bacalhau")
    if program is None:
        pytest.skip("no bacalhau is on PATH")
    home = tmp_path_factory.mktemp("cli")
    with running() as node:
        door = _daemon.environment(node.places)
        environment = {**os.environ, **door.variables, "BACALHAU_DIR": str(home), "BACALHAU_UPDATECONFIG_INTERVAL": "0"}

        def call(*words: str, code: int = 0) -> str:
            done = subprocess.run([program, *words], env=environment, cwd=home, capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout + done.stderr

        call.node, call.home = node, home  # type: ignore[attr-defined]
        yield call


def written(cli: Ask, name: str, code: str) -> str:
    """A job file for the host executor."""
    task = {
        "Name": "main",
        "Engine": {"Type": "docker", "Params": {"Image": "python:3.11-slim", "Entrypoint": ["python", "-u", "-c", code, "/outputs"]}},
        "Meta": {_marks.META_INTERPRETER: sys.executable, _marks.META_LANGUAGE: "python"},
        "Publisher": {"Type": "local"},
        "ResultPaths": [{"Name": "outputs", "Path": "/outputs"}],
    }
    home: Path = cli.home  # type: ignore[attr-defined]
    path = home / f"{name}.json"
    path.write_text(json.dumps({"Name": name, "Type": "batch", "Count": 1, "Tasks": [task]}))
    return str(path)


def told(printed: str) -> Any:
    """The JSON in what the command line printed."""
    return json.loads(next(line for line in printed.splitlines() if line.startswith(("[", "{"))))


WRITES = "import sys; print('one'); print('two', file=sys.stderr); open(sys.argv[1] + '/f', 'w').write('content')"


@pytest.mark.timeout(300)
def test_the_command_line_drives_the_node(cli: Ask) -> None:
    """agent, version, node list; job run, describe, executions, history, logs, get, list and stop work as with a real node."""
    node: Node = cli.node  # type: ignore[attr-defined]
    assert "Status: OK" in cli("agent", "alive")
    assert "v1.9.3" in cli("version")
    assert node.ask("GET", "/api/v1/agent/node")["NodeID"][:10] in cli("node", "list")

    said = cli("job", "run", "--id-only", written(cli, "cli-first", WRITES))
    identity = re.findall(r"j-[0-9a-f-]{36}", said)[-1]
    assert "Warning" not in said
    described = cli("job", "describe", identity)
    assert re.search(r"State\s+= Completed", described)
    assert "one" in described
    assert told(cli("job", "executions", identity, "--output", "json"))[0]["RunOutput"]["stderr"] == "two\n"
    assert "Completed successfully" in cli("job", "history", identity)
    assert cli("job", "logs", "-f", "cli-first").splitlines()[-2:] in (["one", "two"], ["two", "one"])
    assert "one" in cli("job", "logs", identity[:10])
    home: Path = cli.home  # type: ignore[attr-defined]
    (home / "got").mkdir()
    cli("job", "get", identity, "--output-dir", "got")
    assert (home / "got" / "outputs" / "f").read_text() == "content"
    assert (home / "got" / "stdout").read_text() == "one\n"

    followed = cli("job", "run", "--follow", written(cli, "cli-followed", "import time; print('a'); time.sleep(1); print('b')"))
    assert followed.splitlines()[-2:] == ["a", "b"]
    assert "no changes detected" in cli("job", "run", written(cli, "cli-first", WRITES), code=1)

    said = cli("job", "run", "--id-only", "--wait=false", written(cli, "cli-stopped", "import time; time.sleep(60)"))
    running_job = re.findall(r"j-[0-9a-f-]{36}", said)[-1]
    node.wait(running_job, "Running")
    assert "is being stopped" in cli("job", "stop", running_job) or node.job(running_job)["State"]["StateType"] == "Stopped"
    assert node.wait(running_job)["State"]["StateType"] == "Stopped"

    listed = told(cli("job", "list", "--output", "json", "--limit", "2", "--order-by", "created_at", "--order-reversed"))
    assert [item["Name"] for item in listed] == ["cli-stopped", "cli-followed"]
    assert "job not found: nosuch" in cli("job", "describe", "nosuch", code=1)


def test_the_command_line_runs_containers(cli: Ask) -> None:
    """`docker run` runs a container, or says as a real node does that there is no engine."""
    node: Node = cli.node  # type: ignore[attr-defined]
    if has_engine(node):
        assert "hello" in cli("docker", "run", "--follow", images.IMAGE, "echo", "hello")
    else:
        assert "does not support docker, only host" in cli("docker", "run", "busybox:stable", "echo", "hello")
