"""What the node keeps and what it refuses: capacity, limits, engines, logs, hostile outputs."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import Node, folders, job, running

from bacalhau_magic import _marks, _wire
from bacalhau_magic._causes import causes, main
from bacalhau_magic.node import _daemon, _lifecycle
from bacalhau_magic.node._gather import GatherProblem, publish
from bacalhau_magic.node._logs import CUT, STREAM_LIMIT, LogWriter, read_streams
from bacalhau_magic.node._queue import Control, machine
from bacalhau_magic.node.executors._limits import Cgroups

# Capacity


def control(folder: Path, own: str, files: dict[str, str]) -> Control:
    """Cgroup files as a system shows them: this process's line or lines, and path → content."""
    for name, text in files.items():
        path = folder / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return Control(folder / "sys", folder / "own")


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/user/me\n", {"user/me/cpu.max": "50000 100000", "user/memory.max": "1000000000", "user/me/memory.max": "max"}),
        ("0::/host/path\n", {"cpu.max": "50000 100000", "memory.max": "1000000000"}),
        (
            "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n",
            {
                "memory/job/memory.limit_in_bytes": "1000000000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        ),
    ],
    ids=["version 2", "version 2 in a container", "version 1"],
)
def test_capacity_is_what_the_own_cgroup_allows(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    """CPUs are the quota's, memory is 80 % of the smallest limit on the way up, in both versions of cgroups."""
    found = machine(tmp_path, 0, control(tmp_path, own, files))
    assert (found.cpu, found.memory) == (0.5, 800_000_000)


def test_capacity_without_limits_is_the_machines(tmp_path: Path) -> None:
    """Without a limit it is the CPUs of the affinity and 80 % of the machine's memory."""
    found = machine(tmp_path, 3, Control(tmp_path / "none", tmp_path / "none"))
    assert found.cpu == len(os.sched_getaffinity(0))
    assert found.memory == int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.8)
    assert found.gpu == 3


@pytest.fixture
def small() -> Iterator[Node]:
    """A node in a cgroup of 0.4 CPU and 500 MB."""
    group = Cgroups.found()
    if not (group.memory and group.cpu):
        pytest.skip("no cgroup can be written here")
    own = group.make(f"test-{uuid.uuid4().hex[:8]}", cpus=0.4, memory=500_000_000)
    assert own is not None
    code = "import sys; from pathlib import Path; from bacalhau_magic.node._daemon import start; from bacalhau_magic.node._places import Places; start(Places(Path(sys.argv[1]), Path(sys.argv[2])))"
    try:
        with folders() as places:
            subprocess.run(own.entering([sys.executable, "-c", code, str(places.runtime), str(places.store)]), check=True, timeout=90)
            try:
                yield Node(places)
            finally:
                _daemon.stop(places)
    finally:
        own.kill()
        own.remove()


@pytest.mark.timeout(180)
def test_defaults_are_cut_and_what_was_asked_for_is_refused(small: Node) -> None:
    """In a small cgroup a job without numbers runs with what there is; one that asks for more is refused with the amounts."""
    most = small.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]
    assert (most["CPU"], most["Memory"]) == (0.4, pytest.approx(400_000_000, rel=1e-4))
    identity = small.put(job("true", language="bash"))
    assert small.wait(identity, limit=90)["State"] == {"StateType": "Completed"}
    for asked in ({"CPU": "0.6"}, {"Memory": "450MB"}):
        identity = small.put(job("true", Resources=asked))
        message = small.wait(identity)["State"]["Message"]
        assert "node busy with available capacity {CPU: 0.40, Memory: 400 MB, Disk: " in message


def test_jobs_wait_their_turn(node: Node) -> None:
    """A job that there is no room for waits, in order, while the node says how many run and wait."""
    cpus = node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"]
    spec = {"Resources": {"CPU": str(cpus)}}
    first, second = (node.put(job("python", "-c", "import time; time.sleep(60)", **spec)) for _ in range(2))
    third = node.put(job("true", language="bash"))
    info = node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]
    assert (info["RunningExecutions"], info["EnqueuedExecutions"]) == (1, 2)
    assert info["QueueCapacity"]["CPU"] == cpus + 0.5
    assert info["AvailableCapacity"].get("CPU", 0) == 0
    for identity in (first, second):
        node.ask("DELETE", f"/api/v1/orchestrator/jobs/{identity}")
    assert node.wait(third)["State"] == {"StateType": "Completed"}


def test_a_queue_that_is_full_keeps_jobs_queued(node: Node) -> None:
    """More jobs than a node lets wait stay Queued, saying what is busy, and run in their order when there is room."""
    cpus = node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"]
    spec = {"Resources": {"CPU": str(cpus)}, "Timeouts": {"QueueTimeout": 60}}
    first = node.put(job("python", "-c", "import time; time.sleep(60)", **spec))
    others = [node.put(job("true", language="bash", **spec)) for _ in range(5)]
    node.wait(others[1], "Running")
    for identity in others[2:]:
        message = node.wait(identity, "Queued")["State"]["Message"]
        assert re.search(r"node busy with available capacity \{CPU: 0\.00, .*\} and queue capacity \{CPU: ", message)
    assert node.executions(others[2]) == []
    node.ask("DELETE", f"/api/v1/orchestrator/jobs/{first}")
    assert [node.wait(identity)["State"] for identity in others] == [{"StateType": "Completed"}] * 5
    starts = [node.executions(identity)[0]["CreateTime"] for identity in others]
    assert starts == sorted(starts)


# What it can't do


REFUSED = "not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node {}: "


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (job("true", host=False), "does not support docker, only host"),
        ({**job("true"), "Tasks": [{"Name": "main", "Engine": {"Type": "wasm", "Params": {}}}]}, "does not support wasm, only .*host"),
        (job("true", InputSources=[{"Source": {"Type": "s3", "Params": {}}, "Target": "/x"}]), "does not support s3, only inline, .*"),
        (job("true", Publisher={"Type": "ipfs"}), "does not support ipfs, only local, noop"),
        (job("true", Resources={"GPU": "64"}), "node busy with available capacity {.*GPU: 0}"),
        ({**job("true"), "Type": "daemon", "Count": 0}, "job rejected"),
        (
            {**job("true"), "Constraints": [{"Key": "region", "Operator": "=", "Values": ["eu"]}]},
            r"labels map\[.* don't match required selectors \[region = eu\]",
        ),
    ],
    ids=["no engine", "engine", "source", "publisher", "GPU", "kind", "constraint"],
)
def test_what_it_can_not_do_is_refused_in_the_recorded_words(node: Node, spec: dict[str, object], reason: str) -> None:
    """A job for an engine, source, publisher or amount that is not here fails at once, with a node's own sentence."""
    info = node.ask("GET", "/api/v1/agent/node")
    if "only host" in reason and "docker" in info["ComputeNodeInfo"]["ExecutionEngines"]:
        pytest.skip("a container engine runs here")
    state = node.wait(node.put(spec))["State"]  # type: ignore[arg-type]
    assert state["StateType"] == "Failed"
    head = REFUSED.format(info["NodeID"][:10])
    assert state["Message"].startswith(head)
    assert re.fullmatch(reason, state["Message"].removeprefix(head)), state["Message"]


@pytest.mark.parametrize(
    ("operator", "key", "values"),
    [
        ("=", "os_type", ["linux"]),
        ("in", "os_type", ["linux", "darwin"]),
        ("!=", "spot", ["yes"]),
        ("exists", "name", []),
        ("!", "spot", []),
    ],
)
def test_a_constraint_that_it_meets(node: Node, operator: str, key: str, values: list[str]) -> None:
    """Constraints are held against the node's own labels."""
    spec = {**job("true", language="bash"), "Constraints": [{"Key": key, "Operator": operator, "Values": values}]}
    assert node.wait(node.put(spec))["State"] == {"StateType": "Completed"}


def test_an_ops_job_runs_once_here(node: Node) -> None:
    """An ops job, which has no count, runs on this one node, once, and is not tried again."""
    done = node.put({**job("python", "-c", "print('here')"), "Type": "ops", "Count": 0})
    assert node.wait(done)["State"] == {"StateType": "Completed"}
    assert node.text(done) == "here\n"
    failed = node.put({**job("nosuchprogram"), "Type": "ops", "Count": 0})
    assert node.wait(failed)["State"] == {"StateType": "Failed", "Message": "Job failed because one or more executions failed"}
    assert len(node.executions(failed)) == 1


def test_the_client_adds_what_to_do_without_an_engine(node: Node) -> None:
    """The cause of a container job without an engine says what is missing and how to go on."""
    identity = node.put(job("true", host=False))
    state = node.wait(identity)["State"]
    if "docker" not in state.get("Message", ""):
        pytest.skip("a container engine runs here")
    history = [_wire.HistoryItem.model_validate(item) for item in node.history(identity)["Items"]]
    cause = main(causes(history))
    assert cause is not None
    assert cause.kind == "unplaceable"
    assert cause.lines[0].endswith("can't run docker jobs, only host")
    assert cause.advice == "Install docker or podman there, or leave --image out."


_ENGINE = """#!/bin/sh
case "$1" in
info) echo here ;;
pull)
    until [ -e "{gate}" ]; do sleep 0.02; done
    echo "the registry is not there" >&2
    exit 1 ;;
*) exit 1 ;;
esac
"""
"""A container engine's client that has no image, and pulls until the test lets it go."""


def test_a_pull_is_said_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the node pulls an image, the history says so; an error it is only once the pull has failed."""
    (program := tmp_path / "docker").write_text(_ENGINE.format(gate=tmp_path / "gate"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with running() as node:
        identity = node.put(job("true", host=False))
        until = time.monotonic() + 20
        while len(items := node.history(identity)["Items"]) < 3:
            assert time.monotonic() < until, items
            time.sleep(0.02)
        event = items[-1]["Event"]
        assert (event["Message"], event["Topic"]) == ("Pulling image python:3.11-slim", _marks.PULLING)
        assert event["Details"] == {"Image": "python:3.11-slim"}
        assert node.job(identity)["State"]["StateType"] == "Pending"
        history = [_wire.HistoryItem.model_validate(item) for item in items]
        assert causes(history) == ()
        (tmp_path / "gate").touch()
        node.wait(identity)
        assert [item["Event"]["Topic"] for item in node.history(identity)["Items"]].count("Exec Scanning") == _lifecycle.ATTEMPTS


def test_a_job_that_must_be_isolated_is_refused_where_nothing_isolates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with the mark of `--sandbox` does not run in the process executor, whoever sends it."""
    links = tmp_path / "bin"
    links.mkdir()
    for name in ("sh", "bash", "true"):
        (links / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(links))
    with running() as node:
        labels = node.ask("GET", "/api/v1/agent/node")["Labels"]
        assert (labels[_marks.NODE_EXECUTOR], labels[_marks.NODE_EXECUTOR_WHY]) == ("process", "bubblewrap is not installed")
        assert labels[_marks.NODE_LIMIT + "files"] == labels[_marks.NODE_LIMIT + "network"] == _marks.LIMIT_NONE
        spec = job("true", language="bash")
        assert node.wait(node.put(spec))["State"] == {"StateType": "Completed"}
        spec["Tasks"][0]["Meta"][_marks.META_SANDBOX] = "1"
        assert node.wait(node.put(spec))["State"]["Message"].endswith("does not support isolation, only process")


def test_a_language_that_is_installed_later_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node tells a program that was installed after it began, and asks one that answers nothing once, not with each look."""
    programs, shell = tmp_path / "bin", shutil.which("sh")
    programs.mkdir()

    def install(name: str, lines: str) -> None:
        (programs / name).write_text(f"#!{shell}\n{lines}\n")
        (programs / name).chmod(0o755)

    install("node", f"echo asked >>{tmp_path}/asked\nexit 1")
    monkeypatch.setenv("PATH", str(programs))
    with running() as node:

        def told() -> str:
            return str(node.ask("GET", "/api/v1/agent/node")["Labels"][_marks.NODE_LANGUAGE + "bash"])

        assert told() == "missing: install bash"
        asked = (tmp_path / "asked").read_text()
        assert told() == "missing: install bash"
        assert (tmp_path / "asked").read_text() == asked
        install("bash", "echo GNU bash, version 5.2.15")
        assert told() == "Bash 5.2.15"


@pytest.mark.parametrize("target", ["/../oldroot/tmp/{}", "/inputs/../../oldroot/tmp/{}", "relative/{}", "/", "/x\0--bind\0/\0/{}"])
def test_a_mount_point_can_not_lead_outside(node: Node, target: str) -> None:
    """An input or result path whose place is not inside the job's own view fails the execution, and makes nothing here."""
    name = f"bm-{uuid.uuid4().hex}"
    place = target.format(name)
    source = {"Source": {"Type": "inline", "Params": {"URL": "data:,x"}}, "Target": place}
    identity = node.put(job("true", language="bash", InputSources=[source]))
    assert node.wait(identity)["State"]["StateType"] == "Failed"
    assert "invalid mount path" in node.executions(identity)[0]["ComputeState"]["Message"]
    assert not Path("/tmp", name).exists()


@pytest.mark.parametrize("spec", [job("true", "a\0b", language="bash"), job("true", language="bash", Env={"A": "b\0--bind\0/\0/tmp"})])
def test_a_null_character_is_no_way_to_more_options(node: Node, spec: dict[str, object]) -> None:
    """A null character in a command line or variable fails the execution: it would end an option of the sandbox."""
    identity = node.put(spec)  # type: ignore[arg-type]
    assert node.wait(identity)["State"]["StateType"] == "Failed"
    assert "null" in node.executions(identity)[0]["ComputeState"]["Message"]


def test_network_by_domain_fails_the_execution(node: Node) -> None:
    """A network that is limited to domains, which nothing here keeps, is not opened wider: the job fails."""
    identity = node.put(job("true", language="bash", Network={"Type": "HTTP", "Domains": ["example.com"]}))
    assert node.wait(identity)["State"]["StateType"] == "Failed"
    assert "network" in node.executions(identity)[0]["ComputeState"]["Message"]


def test_node_info_says_what_it_can(node: Node) -> None:
    """The node's info names its executor and why, each limit's word, languages, staging folder and disk use."""
    labels = node.ask("GET", "/api/v1/agent/node")["Labels"]
    assert labels[_marks.NODE_EXECUTOR] in ("bubblewrap", "process")
    assert labels[_marks.NODE_EXECUTOR_WHY]
    words = {_marks.LIMIT_ENFORCED, _marks.LIMIT_WATCHED, _marks.LIMIT_AFFINITY, _marks.LIMIT_NONE}
    assert {labels[_marks.NODE_LIMIT + name] for name in _marks.LIMITS} <= words
    assert labels[_marks.NODE_LANGUAGE + "python"].startswith("Python 3.")
    assert labels[_marks.NODE_STAGING] == str(node.places.store / "staging")
    assert int(labels[_marks.NODE_DISK_USED]) > 0


# Logs


def test_a_log_is_kept_up_to_its_limit(tmp_path: Path) -> None:
    """What is above the limit of a stream is dropped, the other stream goes on, and the place of the cut says so."""
    writer = LogWriter(tmp_path / "log", lambda: None, limit=100_000)
    os.write(writer.stdout, b"x" * 60_000)
    os.write(writer.stdout, b"y" * 60_000)
    os.write(writer.stderr, b"still here")
    writer.finish()
    kept = {stream: b"".join(data for one, data in read_streams(tmp_path / "log") if one == stream) for stream in (1, 2)}
    assert kept == {1: b"x" * 60_000 + b"y" * 40_000 + CUT.encode(), 2: b"still here"}
    assert writer.cut == {1}


@pytest.mark.timeout(300)
def test_a_cut_after_one_gibibyte_is_recorded_and_shown(node: Node) -> None:
    """A job that prints more than 1 GiB completes; its log ends with a line that says so, and so does its history."""
    if shutil.disk_usage(node.places.store).free < 8 << 30:
        pytest.skip("too little disk for a log of 1 GiB")
    assert STREAM_LIMIT == 1 << 30
    identity = node.put(job("bash", "-c", "head -c 1100M /dev/zero; echo end >&2", language="bash"))
    assert node.wait(identity, limit=200)["State"] == {"StateType": "Completed"}
    execution = node.executions(identity)[0]
    assert execution["RunOutput"]["StdoutTruncated"]
    messages = [item["Event"]["Message"] for item in node.history(identity)["Items"]]
    assert messages.count("The log of stdout was cut after 1 GiB") == 1
    path = node.places.store / "executions" / execution["ID"] / "log"
    assert 1 << 30 <= path.stat().st_size < (1 << 30) + (8 << 20)
    with open(path, "rb") as log:
        log.seek(-1000, os.SEEK_END)
        assert CUT.encode() in log.read()
    assert _lifecycle.log_cut("e-1", "stdout").message in messages


# Hostile outputs


HOSTILE = """
import os, sys, socket
place = sys.argv[1]
os.symlink('/etc/shadow', place + '/shadow')
os.symlink('/', place + '/root')
os.mkfifo(place + '/pipe')
socket.socket(socket.AF_UNIX).bind(place + '/socket')
os.mkdir(place + '/closed')
open(place + '/closed/file', 'w').write('inside')
os.chmod(place + '/closed', 0)
open(place + '/secret', 'w').write('mine')
os.chmod(place + '/secret', 0)
os.mkdir(place + '/folder')
os.symlink('../../../../../../etc', place + '/folder/etc')
open(place + '/setuid', 'w').write('x')
os.chmod(place + '/setuid', 0o6755)
open(place + '/ok', 'w').write('ok')
"""


def published(node: Node, identity: str) -> dict[str, tarfile.TarInfo]:
    url = node.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/results")["Items"][0]["Params"]["URL"]
    with tarfile.open(fileobj=io.BytesIO(node.raw("GET", url.removeprefix("http://localhost"))[2])) as archive:
        return {entry.name: entry for entry in archive}


PUBLISHED = {"ResultPaths": [{"Name": "outputs", "Path": "/outputs"}], "Publisher": {"Type": "local"}}


def test_what_a_job_leaves_is_hostile(node: Node) -> None:
    """Links, pipes, sockets, closed folders and setuid bits in the outputs: plain files and folders come back, the others by name, and all is removed."""
    identity = node.put(job("python", "-c", HOSTILE, "/outputs", **PUBLISHED))
    assert node.wait(identity)["State"] == {"StateType": "Completed"}, node.executions(identity)
    entries = published(node, identity)
    closed = set() if os.geteuid() == 0 else {"./outputs/closed", "./outputs/secret"}
    assert {name for name, entry in entries.items() if entry.type not in (tarfile.REGTYPE, tarfile.DIRTYPE)} == closed | {
        "./outputs/shadow",
        "./outputs/root",
        "./outputs/folder/etc",
        "./outputs/pipe",
        "./outputs/socket",
    }
    assert not any(entry.isfifo() or entry.isdev() for entry in entries.values())
    assert {entry.linkname for entry in entries.values()} == {""}
    names = {name.removeprefix("./outputs/") for name in entries if name.startswith("./outputs/")}
    assert names >= {"ok", "folder", "setuid"}
    assert all(entry.mode <= 0o777 for entry in entries.values())
    folder = node.places.store / "executions" / node.executions(identity)[0]["ID"]
    assert {path.name for path in folder.iterdir()} == {"log", "result.tar.gz"}


def test_what_a_job_closed_comes_by_name() -> None:
    """A file or a folder that the job closed to everybody, where the node is not root, is in the archive by its name alone."""
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place, "outputs")
        (outputs / "folder").mkdir(parents=True)
        for name in ("closed", "folder/inside", "open"):
            (outputs / name).write_text(name)
        owner = 65534 if os.geteuid() == 0 else os.geteuid()
        for path in (place, outputs, *outputs.rglob("*")):
            os.chown(path, owner, -1)
        os.chmod(outputs / "closed", 0)
        os.chmod(outputs / "folder", 0)
        before = os.geteuid()
        os.seteuid(owner)
        try:
            publish(Path(place, "result.tar.gz"), {"outputs": outputs}, [], 0)
        finally:
            os.seteuid(before)
            os.chmod(outputs / "folder", 0o700)
        with tarfile.open(Path(place, "result.tar.gz")) as archive:
            found = {entry.name: entry.type for entry in archive if entry.name.startswith("./outputs/")}
    assert found == {"./outputs/closed": tarfile.SYMTYPE, "./outputs/folder": tarfile.SYMTYPE, "./outputs/open": tarfile.REGTYPE}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.truncate(os.open(place + '/big', os.O_CREAT | os.O_WRONLY), 8 << 40)", "the outputs hold more than 10737418240 bytes"),
        ("[(os.mkdir('d'), os.chdir('d')) for _ in range(102)]", "the outputs are more than 100 folders deep"),
        ("open(os.fsencode(place) + b'/\\xff', 'w').close()", "a file name in the outputs is not UTF-8"),
    ],
    ids=["8 TB", "deep", "bytes"],
)
def test_outputs_without_measure_fail_the_execution(node: Node, code: str, reason: str) -> None:
    """A sparse giant, too deep folders, names that are no text: the execution fails with the reason, and nothing stays."""
    script = f"import os, sys\nplace = sys.argv[1]\nos.chdir(place)\n{code}"
    identity = node.put(job("python", "-c", script, "/outputs", **PUBLISHED))
    node.wait(identity, limit=90)
    execution = node.executions(identity)[0]
    if execution["RunOutput"]["ExitCode"]:
        pytest.skip(f"this file system refuses it itself: {node.text(identity, 2)[-200:]}")
    assert execution["ComputeState"] == {"StateType": 10, "Message": f"publishing results: {reason}"}
    folder = node.places.store / "executions" / execution["ID"]
    assert {path.name for path in folder.iterdir()} == {"log"}


def test_outputs_are_counted(tmp_path: Path) -> None:
    """More files than the limit are refused, and no half archive stays."""
    (tmp_path / "outputs").mkdir()
    for number in range(11):
        (tmp_path / "outputs" / str(number)).touch()
    with pytest.raises(GatherProblem, match="the outputs hold more than 10 files and folders"):
        publish(tmp_path / "result.tar.gz", {"outputs": tmp_path / "outputs"}, [(1, b"out")], 0, max_count=10)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    publish(tmp_path / "result.tar.gz", {"outputs": tmp_path / "outputs"}, [(1, b"out")], 0, max_count=11)


def test_what_does_not_shrink_is_stored_as_it_is(tmp_path: Path) -> None:
    """Random bytes stand in the archive as they are, text before and after them is compressed, and any reader gives all of it back."""
    noise, text = os.urandom(3_000_000), b"".join(b"%d,%d\n" % (n, n * n) for n in range(200_000))
    outputs = {"a-text": text, "b-noise": noise, "c-both": text + noise + text, "d-empty": b"", "e-small": noise[:70_000]}
    (tmp_path / "outputs").mkdir()
    for name, data in outputs.items():
        (tmp_path / "outputs" / name).write_bytes(data)
    publish(tmp_path / "result.tar.gz", {"outputs": tmp_path / "outputs"}, [(1, b"out")], 0)
    packed = (tmp_path / "result.tar.gz").read_bytes()
    assert noise[66_000:130_000] in packed
    assert len(packed) < 2.01 * len(noise) + 0.6 * 3 * len(text)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {name: archive.extractfile(f"./outputs/{name}").read() for name in outputs} == outputs  # type: ignore[union-attr]


def test_nothing_is_collected_while_a_process_lives(node: Node) -> None:
    """A child that goes on writing after its parent's end is dead before the outputs are collected."""
    code = (
        "import os, sys, time\nplace = sys.argv[1]\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(0.3)\n    os.symlink('/etc/shadow', place + '/late')\n"
        "    open(place + '/late2', 'w').write('late')\n    os._exit(0)\nopen(place + '/early', 'w').write('early')"
    )
    identity = node.put(job("python", "-c", code, "/outputs", **PUBLISHED))
    assert node.wait(identity)["State"] == {"StateType": "Completed"}
    assert "./outputs/early" in published(node, identity)
    assert not [name for name in published(node, identity) if "late" in name]


def test_secrets_do_not_outlive_a_restart(tmp_path: Path) -> None:
    """A job with secrets that had not begun when the node was killed ends as failed: its secrets were in memory alone."""
    with running() as node:
        cpus = node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"]
        node.put(job("python", "-c", "import time; time.sleep(60)", Resources={"CPU": str(cpus)}))
        waiting = node.put(job("true", language="bash"), X_Bacalhau_Magic_Secrets=json.dumps({"TOKEN": "s3cr3t"}))
        plain = node.put(job("true", language="bash"))
        os.kill(node.reached.pid, 9)
        again = Node(node.places)
        assert again.wait(waiting)["State"] == {"StateType": "Failed", "Message": "Failing due to node restart"}
        assert again.wait(plain)["State"] == {"StateType": "Completed"}
