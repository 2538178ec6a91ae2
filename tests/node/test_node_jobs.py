"""Jobs through a real embedded node: from the PUT to log, history, result and end."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest
from embedded import Node, job

from bacalhau_magic.errors import NodeError


def archive(*entries: tuple[str, bytes | None]) -> str:
    """A data URL of a tar.gz: names with contents, None for a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.mode, entry.size = 0o755 if data is None else 0o644, len(data or b"")
            packed.addfile(entry, io.BytesIO(data or b""))
    return "data:application/gzip;base64," + base64.b64encode(buffer.getvalue()).decode()


def inline(url: str, target: str = "/inputs") -> dict[str, object]:
    return {"Source": {"Type": "inline", "Params": {"URL": url}}, "Alias": "", "Target": target}


def test_both_streams_and_the_exit_code_come_back(node: Node) -> None:
    """A job prints to both streams and exits 3: it is Completed, with all of that in its execution."""
    identity = node.put(job("python", "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert node.wait(identity)["State"] == {"StateType": "Completed"}
    output = node.executions(identity)[0]["RunOutput"]
    assert (output["Stdout"], output["stderr"], output["ExitCode"]) == ("out\n", "err\n", 3)
    assert node.text(identity) == "out\n"
    assert node.text(identity, 2) == "err\n"


def test_lines_are_pushed_while_the_job_runs(node: Node) -> None:
    """A line is on the stream before the job goes on, and so is a text without newline."""
    code = "import sys; print('first', flush=True); sys.stdout.write('part'); sys.stdout.flush(); import time; time.sleep(60)"
    identity = node.put(job("python", "-c", code))
    node.wait(identity, "Running")
    with node.log(identity) as stream:
        assert json.loads(stream.recv(timeout=20))["value"] == {"Type": 1, "Line": "first\n"}
        assert json.loads(stream.recv(timeout=20))["value"] == {"Type": 1, "Line": "part"}
        node.ask("DELETE", f"/api/v1/orchestrator/jobs/{identity}", {"reason": "seen"})
    assert node.job(identity)["State"] == {"StateType": "Stopped", "Message": "seen"}


def test_long_lines_come_in_pieces(node: Node) -> None:
    """A line of 40,000 bytes comes in pieces of 16,384, and whole characters stay whole."""
    identity = node.put(job("python", "-c", "print('x' * 40000); print('a' + '€' * 20000)"))
    node.wait(identity)
    frames = [frame["value"]["Line"] for frame in node.frames(identity)]
    assert [len(line) for line in frames[:3]] == [16384, 16384, 7233]
    assert max(len(line.encode()) for line in frames) <= 16384 + 3
    assert "".join(frames[3:]) == "a" + "€" * 20000 + "\n"


def test_bytes_that_are_not_utf_8_are_replaced(node: Node) -> None:
    """Bytes that are no text come as replacement characters, and the log goes on after them."""
    identity = node.put(job("python", "-c", "import sys; sys.stdout.buffer.write(b'a\\xff\\xfeb\\nc\\n')"))
    node.wait(identity)
    assert node.text(identity) == "a\ufffd\ufffdb\nc\n"


def test_many_lines_keep_their_order(node: Node) -> None:
    """50,000 lines on two streams arrive complete and in order within each."""
    code = "import sys\nfor n in range(50000): print(n, file=sys.stdout if n % 2 else sys.stderr)"
    identity = node.put(job("python", "-c", code))
    node.wait(identity, "Running", "Completed")
    frames = node.frames(identity)
    for stream, first in ((1, 1), (2, 0)):
        text = "".join(frame["value"]["Line"] for frame in frames if frame["value"]["Type"] == stream)
        assert text == "".join(f"{n}\n" for n in range(first, 50000, 2))


def test_tail_skips_what_was_there(node: Node, tmp_path: Path) -> None:
    """`tail` of a finished job's log is empty, and without it the log is there whole."""
    identity = node.put(job("python", "-c", "print('once')"))
    node.wait(identity)
    assert node.text(identity, query="tail=true") == ""
    assert node.text(identity, query="follow=False") == "once\n"


def test_log_of_an_unknown_job_is_an_error_frame(node: Node) -> None:
    """The websocket opens for a job that does not exist, and says so in a frame."""
    assert node.frames("j-00000000-0000-0000-0000-000000000000") == [
        {"error": "job not found: j-00000000-0000-0000-0000-000000000000", "value": {"Type": 0, "Line": ""}}
    ]


def test_inputs_are_unpacked_read_only(node: Node) -> None:
    """Files of an inline archive and a single inline file are at their targets."""
    code = "import sys, pathlib; print(pathlib.Path(sys.argv[1], 'sub/a.txt').read_text(), pathlib.Path(sys.argv[2]).read_text())"
    sources = [inline(archive(("sub", None), ("sub/a.txt", b"A"))), inline("data:text/plain;base64,Qg==", "/single")]
    identity = node.put(job("python", "-c", code, "/inputs", "/single", InputSources=sources))
    node.wait(identity)
    assert node.text(identity) == "A B\n", node.executions(identity)


def test_an_archive_without_folder_entries_fails_twice(node: Node) -> None:
    """Like the real node, a file without its folder's entry fails the execution, twice, and then the job."""
    identity = node.put(job("true", InputSources=[inline(archive(("sub/a.txt", b"A")))]))
    state = node.wait(identity)["State"]
    assert state["StateType"] == "Failed"
    assert "job already executed on this node more than once" in state["Message"]
    messages = [item["ComputeState"]["Message"] for item in node.executions(identity)]
    assert len(messages) == 2
    assert all(m.startswith("preparing arguments: open ") and m.endswith("/sub/a.txt: no such file or directory") for m in messages)


def test_big_inputs_are_left_out_where_they_are_not_wanted(node: Node) -> None:
    """An input of 5 MB arrives in the job and stands in the job's answer, but not in lists, executions, or where it isn't wanted."""
    url = archive(("big", os.urandom(5_000_000)))
    code = "import sys, os; print(os.path.getsize(sys.argv[1] + '/big'))"
    identity = node.put(job("python", "-c", code, "/inputs", InputSources=[inline(url)]))
    node.wait(identity)
    assert node.text(identity) == "5000000\n"
    assert node.job(identity)["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"] == url
    for path in ("?limit=1000", f"/{identity}?inputs=false", f"/{identity}/executions", f"/{identity}/history"):
        assert url[:1000] not in json.dumps(node.ask("GET", f"/api/v1/orchestrator/jobs{path}"))


def test_outputs_are_published(node: Node) -> None:
    """Files under the result path come as one tar.gz with exit code and streams; of a link or a pipe only the name does."""
    code = (
        "import os, sys; p = sys.argv[1]; open(p + '/r.json', 'w').write('{}'); os.mkdir(p + '/d'); open(p + '/d/z', 'w').write('z');"
        "os.symlink('/etc/passwd', p + '/link'); os.mkfifo(p + '/pipe'); print('out'); sys.exit(2)"
    )
    paths = [{"Name": "outputs", "Path": "/outputs"}]
    identity = node.put(job("python", "-c", code, "/outputs", ResultPaths=paths, Publisher={"Type": "local"}))
    node.wait(identity)
    results = node.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/results")["Items"]
    assert [item["Type"] for item in results] == ["urlDownload"], node.executions(identity)
    status, headers, body = node.raw("GET", results[0]["Params"]["URL"].removeprefix("http://localhost"))
    assert (status, headers["content-type"]) == (200, "application/gzip")
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        names = packed.getnames()
        assert names == [
            ".",
            "./exitCode",
            "./stdout",
            "./stderr",
            "./outputs",
            *(f"./outputs/{name}" for name in ("d", "d/z", "link", "pipe", "r.json")),
        ]
        link = packed.getmember("./outputs/link")
        assert (link.type, link.linkname, link.size) == (tarfile.SYMTYPE, "", 0)
        read = {name: packed.extractfile(name) for name in ("./exitCode", "./stdout", "./outputs/d/z")}
        assert {name: file.read() for name, file in read.items() if file} == {
            "./exitCode": b"2",
            "./stdout": b"out\n",
            "./outputs/d/z": b"z",
        }


def test_a_sparse_giant_fails_instead_of_filling_the_disk(node: Node) -> None:
    """A sparse file of 8 TB in the outputs fails the execution with a reason."""
    code = "import os, sys; os.truncate(os.open(sys.argv[1] + '/big', os.O_CREAT | os.O_WRONLY), 8 << 40)"
    paths = [{"Name": "outputs", "Path": "/outputs"}]
    identity = node.put(job("python", "-c", code, "/outputs", ResultPaths=paths, Publisher={"Type": "local"}))
    assert node.wait(identity)["State"]["StateType"] == "Failed" or node.executions(identity)[0]["RunOutput"]["ExitCode"]
    leftovers = [path for path in node.places.store.rglob("*") if path.name.startswith("result.tar.gz.") or path.name == "big"]
    assert leftovers == []


def test_environment_and_secrets(node: Node) -> None:
    """The job sees its variables, the node's own and the secrets; the secrets stand in no answer and no file."""
    code = "import os, json; e = dict(os.environ); e['TOKEN'] = e['TOKEN'][::-1]; print(json.dumps(e))"
    spec = job("python", "-c", code, Env={"FROM_TASK": "t"})
    spec["Tasks"][0]["Engine"]["Params"]["EnvironmentVariables"] = ["FOO=b ar", "X=1=2"]
    identity = node.put(spec, X_Bacalhau_Magic_Secrets=json.dumps({"TOKEN": "s3cr3t-value"}))
    node.wait(identity)
    seen = json.loads(node.text(identity))
    assert (seen["FOO"], seen["X"], seen["FROM_TASK"], seen["TOKEN"]) == ("b ar", "1=2", "t", "s3cr3t-value"[::-1])
    assert (seen["BACALHAU_JOB_ID"], seen["BACALHAU_PARTITION_COUNT"], seen["BACALHAU_PARTITION_INDEX"]) == (identity, "1", "0")
    kept = [path for path in node.places.store.rglob("*") if path.is_file() and b"s3cr3t-value" in path.read_bytes()]
    assert kept == []
    assert "s3cr3t" not in json.dumps(node.job(identity))


def test_staged_files_are_mounted_and_pruned(node: Node) -> None:
    """A path in the staging folder is an input; a path outside is refused; prune removes it with its job."""
    staging = Path(node.ask("GET", "/api/v1/agent/node")["Labels"]["bacalhau-magic.staging"])
    assert staging.stat().st_mode & 0o777 == 0o700
    folder = staging / "one"
    folder.mkdir()
    (folder / "data.txt").write_text("staged")
    source = {"Source": {"Type": "localDirectory", "Params": {"SourcePath": str(folder)}}, "Alias": "", "Target": "/data"}
    identity = node.put(job("python", "-c", "import sys; print(open(sys.argv[1] + '/data.txt').read())", "/data", InputSources=[source]))
    node.wait(identity)
    assert node.text(identity) == "staged\n"
    (staging / "link").symlink_to("/etc")
    for outside in ("/etc", str(staging / ".." / "node.db"), str(staging / "link"), str(staging)):
        source["Source"]["Params"] = {"SourcePath": outside}  # type: ignore[index]
        with pytest.raises(NodeError, match="not in this node's staging folder"):
            node.ask("PUT", "/api/v1/orchestrator/jobs", {"Job": job("true", InputSources=[source])})
    (staging / "link").unlink()
    assert node.ask("POST", "/bacalhau-magic/prune", {"OlderThan": 0})["Jobs"] >= 1
    assert not folder.exists()
    with pytest.raises(NodeError, match="job not found"):
        node.job(identity)
    assert list((node.places.store / "executions").iterdir()) == []


def test_a_command_that_is_missing_fails_as_recorded(node: Node) -> None:
    """A missing command fails two executions, then the job, with the cause in the executions."""
    identity = node.put(job("nosuchcommand", language="bash"))
    assert node.wait(identity)["State"]["StateType"] in ("Failed", "Completed")
    items = node.executions(identity)
    assert len(items) == 2 or items[0]["RunOutput"]["ExitCode"] == 127


def test_total_timeout(node: Node) -> None:
    """A job above its total timeout ends as Failed with the recorded words, and its log stream closes."""
    identity = node.put(job("python", "-c", "print('begun', flush=True); import time; time.sleep(60)", Timeouts={"TotalTimeout": 1}))
    job_at_end = node.wait(identity)
    assert job_at_end["State"] == {"StateType": "Failed", "Message": "Job timed out. Job took longer than 1s"}
    assert node.executions(identity)[0]["ComputeState"] == {"StateType": 10, "Message": "Execution timed out after 1s"}
    assert node.history(identity)["NextToken"] == ""
    execution = node.executions(identity)[0]["ID"]
    assert node.text(identity, query=f"follow=true&execution_id={execution}") == "begun\n"


def test_execution_timeout_is_tried_twice(node: Node) -> None:
    """An execution's own timeout fails it; a second execution is tried, then the job fails."""
    limits = {"ExecutionTimeout": 1, "TotalTimeout": 60}
    identity = node.put(job("python", "-c", "import time; time.sleep(60)", Timeouts=limits))
    assert "job already executed on this node more than once" in node.wait(identity)["State"]["Message"]
    assert [item["ComputeState"]["Message"] for item in node.executions(identity)] == ["Execution timed out after 1s"] * 2


def test_queue_timeout(node: Node) -> None:
    """A job that nothing here can run is queued until its queue timeout, then fails with the same lines."""
    identity = node.put(job("true", Resources={"GPU": "99"}, Timeouts={"QueueTimeout": 1, "TotalTimeout": 60}))
    queued = node.wait(identity, "Queued")["State"]["Message"]
    assert queued.startswith("Job queued. not enough nodes to run job. requested: 1, available: 1, suitable: 0.\n• Node n-")
    assert node.history(identity)["NextToken"]
    assert node.wait(identity)["State"] == {"StateType": "Failed", "Message": queued.removeprefix("Job queued. ")}
    assert node.executions(identity) == []


def test_stopping(node: Node) -> None:
    """A stop is acknowledged at once, ends the payload, and can't be repeated on a job that is over."""
    identity = node.put(job("python", "-c", "import time; print('begun', flush=True); time.sleep(60)"))
    node.wait(identity, "Running")
    node.ask("DELETE", f"/api/v1/orchestrator/jobs/{identity}", {"reason": "enough"})
    assert node.job(identity)["State"] == {"StateType": "Stopped", "Message": "enough"}
    assert node.ask("DELETE", f"/api/v1/orchestrator/jobs/{identity}", {"reason": "again"}) == {"EvaluationID": ""}
    done = node.put(job("true", language="bash"))
    node.wait(done)
    with pytest.raises(NodeError, match="cannot stop job in state"):
        node.ask("DELETE", f"/api/v1/orchestrator/jobs/{done}")


def test_nothing_is_left_in_the_folders(node: Node) -> None:
    """After success and after a stop an execution's folder holds its log only."""
    first = node.put(job("python", "-c", "open('scratch', 'w').write('x')"))
    second = node.put(job("python", "-c", "import time; time.sleep(60)"))
    node.wait(first)
    node.wait(second, "Running")
    node.ask("DELETE", f"/api/v1/orchestrator/jobs/{second}")
    until = time.monotonic() + 20
    while node.ask("GET", "/bacalhau-magic/status")["Busy"] and time.monotonic() < until:
        time.sleep(0.02)
    for identity in (first, second):
        folder = node.places.store / "executions" / node.executions(identity)[0]["ID"]
        assert {path.name for path in folder.iterdir()} <= {"log"}


def test_more_jobs_wait_for_room(node: Node) -> None:
    """Jobs above the capacity wait, one after another, and all complete."""
    cpus = node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["MaxCapacity"]["CPU"]
    identities = [node.put(job("python", "-c", "import time; time.sleep(0.2)", Resources={"CPU": str(cpus)})) for _ in range(3)]
    assert node.ask("GET", "/api/v1/agent/node")["ComputeNodeInfo"]["RunningExecutions"] <= 1
    assert [node.wait(identity)["State"]["StateType"] for identity in identities] == ["Completed"] * 3
    spans = [(item["CreateTime"], item["ModifyTime"]) for identity in identities for item in node.executions(identity)]
    assert spans[1][1] - spans[0][1] >= 200_000_000
    assert spans[2][1] - spans[1][1] >= 200_000_000


def test_names_are_identities(node: Node) -> None:
    """The same spec under the same name is refused; a changed one is the same job's next version; Force runs it again."""
    first = node.put(job("true", language="bash", name="same"))
    node.wait(first)
    with pytest.raises(NodeError, match=f"no changes detected for new job spec. Job Name: 'same', Job Id: '{first}'"):
        node.ask("PUT", "/api/v1/orchestrator/jobs", {"Job": job("true", language="bash", name="same")})
    assert node.put(job("python", "-c", "print('two')", name="same")) == first
    assert node.wait(first)["Version"] == 2
    assert node.text("same") == "two\n"
    assert [version["Version"] for version in node.ask("GET", "/api/v1/orchestrator/jobs/same/versions")["Items"]] == [1, 2]
    again = node.ask("PUT", "/api/v1/orchestrator/jobs", {"Job": job("python", "-c", "print('two')", name="same"), "Force": True})
    assert again["JobID"] == first
    assert node.wait(first)["Version"] == 3


def test_rerun(node: Node) -> None:
    """A job that is over runs again as its next version, long inputs included."""
    url = archive(("big", b"x" * 100_000 + os.urandom(50_000)))
    code = "import sys, os; print(os.path.getsize(sys.argv[1] + '/big'))"
    identity = node.put(job("python", "-c", code, "/inputs", InputSources=[inline(url)]))
    node.wait(identity)
    answer = node.ask("PUT", f"/api/v1/orchestrator/jobs/{identity}/rerun", {"JobVersion": 0, "Reason": "again"})
    assert (answer["JobID"], answer["JobVersion"]) == (identity, 2)
    assert node.wait(identity)["State"] == {"StateType": "Completed"}
    assert node.text(identity) == "150000\n"
    assert len(node.executions(identity)) == 1
    assert len(node.ask("GET", f"/api/v1/orchestrator/jobs/{identity}/executions?all_job_versions=True")["Items"]) == 2


def test_two_followers_see_the_same(node: Node) -> None:
    """Two streams of one running job both get all of it."""
    identity = node.put(job("python", "-c", "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.02)"))
    node.wait(identity, "Running")
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(node.text(identity))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == ["".join(f"{n}\n" for n in range(20))] * 2
