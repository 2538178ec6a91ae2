"""The servers of the contract suite: recorded answers of three versions, the embedded node, and a real Bacalhau.

The same jobs go to all of them: those of the recordings, as their requests hold them.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embedded
import images
import pytest
from scripted import RECORDED, Recorded, Server, recording

from bacalhau_magic import _marks
from bacalhau_magic._stages import Credential, Endpoint, JobRef
from bacalhau_magic._wire import Job
from bacalhau_magic.client import Client

REQUEST = "request"
"""Where a recorded file keeps what was sent."""


@dataclass
class Place:
    """A server of the suite: `client` asks it, `send` submits a recorded scenario's job, `runs` says whether it runs any job."""

    name: str
    client: Client
    runs: bool
    keeps_logs: bool = True
    containers: bool = True
    scenarios: dict[str, Recorded] = field(default_factory=dict)

    def job(self, scenario: str) -> dict[str, Any]:
        """The scenario's job as it is sent here, with a name of its own and a request label."""
        wanted = copy.deepcopy(recording(scenario)[REQUEST]["json"]["Job"])
        identity = str(uuid.uuid4())
        wanted["Name"] = f"contract-{identity[:8]}"
        wanted["Labels"] = {_marks.REQUEST_LABEL: identity}
        if not self.containers:
            # The embedded node's host executor: the same program, by this machine's interpreters.
            wanted["Tasks"][0]["Meta"] = {_marks.META_INTERPRETER: sys.executable, _marks.META_LANGUAGE: "python"}
            if wanted["Tasks"][0]["Resources"].get("CPU") == "0.1":
                del wanted["Tasks"][0]["Resources"]["CPU"]
        return wanted  # type: ignore[no-any-return]

    def send(self, scenario: str) -> tuple[JobRef, Job]:
        """Submit the scenario."""
        wanted = self.job(scenario)
        answer = self.client.submit(json.dumps({"Job": wanted}).encode())
        return JobRef(answer.job_id, self.client.endpoint, "default", wanted["Name"]), Job.model_validate(wanted)


def _recorded(version: str, stack: ExitStack) -> Place:
    server = stack.enter_context(Server())
    found = {}
    for path in sorted((RECORDED / version).glob("*.json")):
        data = json.loads(path.read_text())
        if "history" in data:
            found[path.stem] = Recorded(server, path.stem, version, named=False)
        elif REQUEST in data:
            found[path.stem] = None
    Replayed(server, version, found)
    client = stack.enter_context(Client(Endpoint(server.url), requests_per_second=500.0))
    scenarios = {name: script for name, script in found.items() if script}
    return Place(f"recorded {version}", client, runs=False, keeps_logs=version > "1.8", scenarios=scenarios)


class Replayed:
    """Answers a PUT as the recorded server answered the same job's."""

    def __init__(self, server: Server, version: str, found: dict[str, Recorded | None]) -> None:
        sent = {name: recording(name, version)[REQUEST]["json"]["Job"] for name in found}
        self.jobs = {self._shape(job, inputs): name for inputs in (False, True) for name, job in sent.items()}
        self.found, self.version = found, version
        server.on("PUT", "/orchestrator/jobs", self._put)

    @staticmethod
    def _shape(job: dict[str, Any], inputs: bool) -> str:
        left_out = ("Meta",) if inputs else ("Meta", "InputSources")
        task = {key: value for key, value in job["Tasks"][0].items() if key not in left_out}
        return json.dumps([job.get("Count"), task], sort_keys=True)

    def _put(self, request: Any) -> Any:
        job = json.loads(request.body)["Job"]
        # An archive's bytes differ from one recording to the next.
        name = self.jobs.get(self._shape(job, True)) or self.jobs[self._shape(job, False)]
        script = self.found[name]
        if script:
            script.restart(job)
        answer = recording(name, self.version)["submit"]
        return answer["status"], answer["body"]


def _embedded(stack: ExitStack) -> Place:
    node = stack.enter_context(embedded.running())
    client = stack.enter_context(Client(Endpoint("http://localhost", socket=str(node.reached.socket))))
    return Place("embedded", client, runs=True, containers=images.engine() is not None)


def _real(stack: ExitStack) -> Place:
    url = os.environ.get("BM_TEST_CLUSTER", "")
    if not url:
        url = stack.enter_context(_Served(shutil.which("bacalhau") or ""))
    key = os.environ.get("BM_TEST_KEY", "")
    client = stack.enter_context(Client(Endpoint(url, credential=Credential(key=key))))
    nodes = client.nodes()
    if not any("docker" in node.info.compute_node_info.execution_engines for node in nodes):
        pytest.skip(f"no node of {url} runs containers")
    keeps = any("os_type" in node.info.labels for node in nodes)
    return Place("real", client, runs=True, keeps_logs=keeps)


class _Served:
    """A `bacalhau serve` of one's own, ended with the tests."""

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def __enter__(self) -> str:
        import tempfile

        self._folder = Path(tempfile.mkdtemp(prefix="bm-real-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = [f"DataDir={self._folder}", "API.Host=127.0.0.1", f"API.Port={port}", "UpdateConfig.Interval=0", "DisableAnalytics=true"]
        command = [self._executable, "serve", "--orchestrator", "--compute", *(part for text in settings for part in ("-c", text))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 90
        with Client(Endpoint(url)) as client:
            while time.monotonic() < until:
                if client.alive() and any(node.info.compute_node_info.execution_engines for node in client.nodes()):
                    return url
                time.sleep(0.5)
        self.__exit__()
        pytest.skip("bacalhau is on PATH, and its server did not come up within 90 s")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


def opened(name: str, stack: ExitStack) -> Place:
    """The server of that name, for as long as the stack is open."""
    if name == "embedded":
        return _embedded(stack)
    return _real(stack) if name == "real" else _recorded(name, stack)
