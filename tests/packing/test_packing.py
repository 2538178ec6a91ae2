"""A request becomes a job: one archive, the wire job, and the limits of its target."""

from __future__ import annotations

import base64
import gzip
import io
import json
import marshal
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bacalhau_magic import _marks
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._namespace import capture
from bacalhau_magic._stages import CellRequest, Endpoint, PackedJob, Route, Target
from bacalhau_magic._stores import Store
from bacalhau_magic._wire import BuildVersion, ComputeNodeInfo, InputSource, NodeInfo, NodeState, SpecConfig
from bacalhau_magic.errors import PackingError, PayloadTooLargeError, UnsendableInputError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.packing import pack, repacked, shown, stage, unstage
from bacalhau_magic.remote import FILES

CLUSTER = Target(
    "bacalhau",
    Endpoint("http://cluster:1234"),
    payload_limit=900_000,
    nodes=(
        NodeState(
            info=NodeInfo(
                compute_node_info=ComputeNodeInfo(execution_engines=["docker"], publishers=["local", "noop"]),
                bacalhau_version=BuildVersion(git_version="v1.9.3"),
            )
        ),
    ),
)
LOCAL = Target("local", Endpoint("http://localhost", socket="/run/x"), nodes=CLUSTER.nodes)


def _request(code: str, variables: Mapping[str, Any], folder: Path, **options: Any) -> CellRequest:
    chosen = JobOptions(**options)
    language = BUILT_IN[chosen.lang]
    captured = capture(code, chosen, language, variables, folder)
    return CellRequest(code=code, options=chosen, language=language, inputs=captured.items, env=chosen.env, interpreter="/usr/bin/python3")


def _pack(code: str, variables: Mapping[str, Any], folder: Path, target: Target = CLUSTER, **options: Any) -> PackedJob:
    request = _request(code, variables, folder, **options)
    return pack(request, Route(target, "test", options=request.options))


def _archive(packed: PackedJob, index: int = 0) -> tarfile.TarFile:
    url = packed.job.task.input_sources[index].source.params["URL"]  # type: ignore[index]
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(base64.b64decode(url.partition(",")[2]))))


def test_directories_come_before_what_is_in_them(tmp_path: Path) -> None:
    """Every folder has an entry of its own, before its files; modes are 0755 and 0644."""
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a.txt").write_text("a")
    (tmp_path / "data/run.sh").write_text("b")
    os.chmod(tmp_path / "data/run.sh", 0o700)
    os.chmod(tmp_path / "data/deep/a.txt", 0o600)
    seen: set[str] = {"."}
    modes = {}
    for entry in _archive(_pack("1", {}, tmp_path, inputs=["./data"])):
        assert str(Path(entry.name).parent) in seen, entry.name
        assert entry.isdir() or entry.isreg()
        if entry.isdir():
            seen.add(entry.name)
        modes[entry.name] = stat.S_IMODE(entry.mode)
    assert modes["data/deep/a.txt"] == 0o644
    assert modes["data/run.sh"] == 0o755
    assert modes["data/deep"] == 0o755
    assert set(modes.values()) == {0o644, 0o755}


def test_the_same_cell_gives_the_same_archive(tmp_path: Path) -> None:
    """Only nonce and request differ between two packings of one cell, so its hash is the same."""
    first, second = (_pack("1 + 1", {"x": [1]}, tmp_path, inputs=["x"]) for _ in range(2))
    assert first.body_hash == second.body_hash
    assert first.request_id != second.request_id
    assert first.nonce != second.nonce
    assert first.body_hash != _pack("1 + 1", {"x": [2]}, tmp_path, inputs=["x"]).body_hash


def test_names_are_unique_and_marked(tmp_path: Path) -> None:
    """A job's name ends with its request's first eight digits, and its label holds the whole."""
    packed = _pack("1", {}, tmp_path, name="My run!")
    assert packed.name == f"my-run-{packed.request_id[:8]}"
    assert packed.job.labels[_marks.REQUEST_LABEL] == packed.request_id
    assert packed.job.labels[_marks.NAME_LABEL] == "my-run"


def test_options_reach_the_spec(tmp_path: Path) -> None:
    """Resources, network, placement, environment, labels, image and times stand in the job's spec."""
    job = _pack(
        "1", {}, tmp_path, cpu=2, memory="4GB", disk="1GB", gpu="A100:2", network="http", domain="example.org", constraints="zone=a",
        priority=7, namespace="team", labels="k=v", env="A=b c", image="python:3.13", timeout="1m", queue_timeout="2m",
    ).job  # fmt: skip
    task = job.wire()["Tasks"][0]
    assert task["Resources"] == {"CPU": "2", "Memory": "4000000000", "Disk": "1000000000", "GPU": "2"}
    assert task["Network"] == {"Type": "HTTP", "Domains": ["example.org"]}
    assert task["Timeouts"] == {"ExecutionTimeout": 60 + 1800, "QueueTimeout": 120, "TotalTimeout": 60 + 1800 + 120}
    assert task["Engine"]["Params"]["Image"] == "python:3.13"
    assert task["Engine"]["Params"]["EnvironmentVariables"] == ["A=b c"]
    assert (job.priority, job.namespace, job.labels["k"], job.count) == (7, "team", "v", 1)
    assert job.wire()["Constraints"] == [{"Key": "zone", "Operator": "=", "Values": ["a"]}]


def test_network_is_always_said(tmp_path: Path) -> None:
    """Left out, a real node opens the network, so None is written."""
    assert _pack("1", {}, tmp_path).job.wire()["Tasks"][0]["Network"] == {"Type": "None"}


def test_long_gives_a_day(tmp_path: Path) -> None:
    """--long runs for 24 hours and waits for 24 hours."""
    times = _pack("1", {}, tmp_path, long=True).job.task.timeouts
    assert times is not None
    assert times.queue_timeout == 86400
    assert times.execution_timeout == 86400 + 1800


def test_interpreter_mark_is_for_the_local_node_alone(tmp_path: Path) -> None:
    """The kernel's Python is named only to the embedded node, and only without an image of one's own."""
    assert _pack("1", {}, tmp_path, LOCAL).job.task.meta[_marks.META_INTERPRETER] == "/usr/bin/python3"
    assert _marks.META_INTERPRETER not in _pack("1", {}, tmp_path, CLUSTER).job.task.meta
    assert _marks.META_INTERPRETER not in _pack("1", {}, tmp_path, LOCAL, image="x").job.task.meta


def test_bytecode_comes_along_only_for_the_python_that_made_it(tmp_path: Path) -> None:
    """A job that this kernel's own Python will run brings the wrapper compiled; any other brings its sources alone."""

    def wrapper(target: Target, interpreter: str, **options: Any) -> set[str]:
        request = replace(_request("1", {}, tmp_path, **options), interpreter=interpreter)
        names = _archive(pack(request, Route(target, "test", options=request.options))).getnames()
        return {Path(name).name for name in names} - {".bacalhau", "cell.py", "request.json", "vars"}

    assert wrapper(LOCAL, sys.executable) == {"bootstrap.py", "modules.bin"}
    assert wrapper(LOCAL, "/usr/bin/python3") == set(FILES["python"])
    assert wrapper(LOCAL, sys.executable, image="python:3.12") == set(FILES["python"])
    assert wrapper(CLUSTER, sys.executable) == set(FILES["python"])


@pytest.mark.parametrize("same", [True, False])
def test_bytecode_runs_on_its_python_and_sources_on_any_other(tmp_path: Path, same: bool) -> None:
    """A compiled wrapper runs its bytecode, and its sources where the Python is another one by now."""
    request = replace(_request("print(6 * 7)", {}, tmp_path), interpreter=sys.executable)
    _archive(pack(request, Route(LOCAL, "test", options=request.options))).extractall(tmp_path / "inputs", filter="data")
    modules = tmp_path / "inputs/.bacalhau/modules.bin"
    packed = marshal.loads(modules.read_bytes())
    if same:
        packed = {name: (b"not Python", magic, code) for name, (_, magic, code) in packed.items()}
    else:
        packed = {name: (source, b"\0\0\0\0", b"no code") for name, (source, _, _) in packed.items()}
    modules.write_bytes(marshal.dumps(packed))
    command = [sys.executable, "-u", str(tmp_path / "inputs/.bacalhau/bootstrap.py"), str(tmp_path / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, env={"TMPDIR": str(tmp_path)}, check=True)
    assert "42\n" in done.stdout


def test_too_big_for_a_cluster_names_the_biggest(tmp_path: Path) -> None:
    """A job above the target's limit is refused with its size, the limit, and the biggest inputs first."""
    big, small = os.urandom(700_000), os.urandom(10_000)
    with pytest.raises(PayloadTooLargeError) as refused:
        _pack("1", {"big": big, "small": small}, tmp_path, inputs=["small", "big"])
    assert next(iter(refused.value.largest)) == "big"
    assert refused.value.limit == 900_000 < refused.value.size
    assert "big (700 KB)" in str(refused.value)


def test_too_big_for_a_cluster_goes_to_the_local_node_and_is_said(tmp_path: Path) -> None:
    """The embedded node takes what a cluster would not, and the card says so."""
    packed = _pack("1", {"big": os.urandom(900_000)}, tmp_path, LOCAL, inputs=["big"])
    assert packed.notices == ("Its inputs are too big for a cluster without staging.",)


def test_an_input_with_a_target_is_a_source_of_its_own(tmp_path: Path) -> None:
    """`=/target` mounts the folder that the file lies in, by an archive of its own."""
    (tmp_path / "in.csv").write_text("a,b\n")
    packed = _pack("1", {}, tmp_path, inputs=["in.csv=/data/table.csv"])
    source = packed.job.task.input_sources[1]
    assert source.target == "/data"
    assert _archive(packed, 1).extractfile("table.csv").read() == b"a,b\n"  # type: ignore[union-attr]
    assert "in.csv" not in _archive(packed).getnames()


@pytest.mark.parametrize(
    ("url", "kind", "params"),
    [
        ("s3://bucket/deep/table.csv", "s3", {"Bucket": "bucket", "Key": "deep/table.csv"}),
        ("ipfs://bafybeigdyrzt", "ipfs", {"CID": "bafybeigdyrzt"}),
        ("https://example.org/table.csv", "urlDownload", {"URL": "https://example.org/table.csv"}),
    ],
)
def test_an_address_is_a_source_for_the_node(tmp_path: Path, url: str, kind: str, params: dict[str, str]) -> None:
    """An address among the inputs is Bacalhau's own kind of source, with the parameters of that kind, and no byte of it is sent."""
    packed = _pack("1", {}, tmp_path, inputs=[url])
    found = packed.job.wire()["Tasks"][0]["InputSources"]
    assert {"Type": kind, "Params": params} in [item["Source"] for item in found]


def test_two_inputs_of_one_place_are_refused(tmp_path: Path) -> None:
    """Two files that would land on the same path are refused by name."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    with pytest.raises(Exception, match=r"x\.txt"):
        _pack("1", {}, tmp_path, inputs=["a/x.txt", "b/x.txt"])


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """Links inside a folder are followed, one that leads out of it is refused."""
    (tmp_path / "secret").write_text("s")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/real").write_text("r")
    (tmp_path / "data/inside").symlink_to("real")
    archive = _archive(_pack("1", {}, tmp_path, inputs=["./data"]))
    assert archive.extractfile("data/inside").read() == b"r"  # type: ignore[union-attr]
    (tmp_path / "data/out").symlink_to("../secret")
    with pytest.raises(UnsendableInputError, match="outside"):
        _pack("1", {}, tmp_path, inputs=["./data"])


PATTERNS = {
    "by name, anywhere": {".gitignore": "*.tmp\n# *.txt\n\n"},
    "only at the top": {".gitignore": "/a.tmp\n/sub/deep/\n"},
    "folders alone": {".gitignore": "sub/\nplain/\n"},
    "taken back": {".gitignore": "*.tmp\n!keep.tmp\n"},
    "taken back below": {".gitignore": "*.tmp\n", "sub/.gitignore": "!a.tmp\n/deep/*\n!/deep/keep.tmp\n"},
    "not below what is out": {".gitignore": "sub\n", "sub/.gitignore": "!*\n"},
    "in between": {".gitignore": "sub/**/a.tmp\n**/keep.tmp\n"},
    "odd characters": {".gitignore": "\\#odd\n\\!odd\nends in \\ \n*.[tT]mp\nträum?.txt\n"},
    "everything below": {"sub/.gitignore": "*"},
    "with a mark at its beginning, and carriage returns": {".gitignore": "\ufeff*.tmp\r\nplain\r\n"},
}


def _planted(folder: Path, patterns: Mapping[str, str]) -> None:
    for name in (
        "a.tmp",
        "keep.tmp",
        "plain",
        "#odd",
        "!odd",
        "ends in ",
        "träume.txt",
        "sub/a.tmp",
        "sub/deep/keep.tmp",
        "sub/deep/plain",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name, text in patterns.items():
        (folder / name).write_bytes(text.encode())


@pytest.mark.parametrize("case", PATTERNS)
def test_a_folder_goes_as_git_would_take_it(tmp_path: Path, case: str) -> None:
    """Of a folder goes what git itself would add, by the patterns in it and below; its .git stays here."""
    folder = tmp_path / "data"
    _planted(folder, PATTERNS[case])
    subprocess.run(["git", "init", "-q", folder], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    listed = subprocess.run(["git", "-C", folder, "ls-files", "-oz", "--exclude-standard"], check=True, capture_output=True)
    wanted = sorted(f"data/{name}" for name in listed.stdout.decode().split("\0") if name)
    for target in (CLUSTER, LOCAL):
        sent = [entry.name for entry in _archive(_pack("1", {}, tmp_path, target, inputs=["./data"])) if entry.isfile()]
        assert sorted(name for name in sent if name.startswith("data/")) == wanted


def test_our_own_patterns_beat_those_of_git(tmp_path: Path) -> None:
    """A .bacalhauignore adds to a .gitignore and takes back from it; what is left out is said, and counts nowhere."""
    _planted(tmp_path / "data", {".gitignore": "*.tmp\n", ".bacalhauignore": "sub\n!keep.tmp\n!.git\n"})
    (tmp_path / "data/.git").mkdir()
    (tmp_path / "data/.git/config").write_text("[core]")
    (tmp_path / "data/sub/link").symlink_to("/")
    options = JobOptions(inputs=["./data"])
    taken = capture("1", options, BUILT_IN["python"], {}, tmp_path)
    assert taken.notices == ("Leaves out of data, by .bacalhauignore and .gitignore: sub/, a.tmp.",)
    archive = _archive(_pack("1", {}, tmp_path, inputs=["./data"]))
    sent = [entry for entry in archive if entry.isfile() and entry.name.startswith("data/")]
    assert {"data/keep.tmp", "data/.git/config"} < {entry.name for entry in sent}
    assert not [entry.name for entry in archive if "sub" in entry.name or entry.name.endswith("a.tmp")]
    assert taken.items[0].size == sum(entry.size for entry in sent)


def test_patterns_hold_in_every_way_of_sending(tmp_path: Path) -> None:
    """What is left out is left out of a target's archive, of the staging folder, of the store and of what makes two jobs the same."""
    data = tmp_path / "data"
    _planted(data, {".gitignore": "*.tmp\n"})
    (data / "big").write_bytes(os.urandom(5_000_000))
    staging = tmp_path / "staging"
    staging.mkdir()
    packed = _pack("1", {}, tmp_path, replace(LOCAL, staging=staging), inputs=["./data"])
    stage(packed)
    copied = {path.name for path in staging.rglob("*")}
    assert ({"big", "plain"} & copied, {"a.tmp", "keep.tmp"} & copied) == ({"big", "plain"}, set())
    moved = _archive(_pack("1", {}, tmp_path, LOCAL, inputs=["./data=/data"]), 1)
    assert not [entry.name for entry in moved if entry.name.endswith(".tmp")]
    (data / "a.tmp").write_bytes(os.urandom(6_000_000))
    store = replace(CLUSTER, store=Store("bucket"))
    stored = _pack("1", {}, tmp_path, store, inputs=["./data"])
    assert [one.inner for one in stored.uploads] == ["big"]
    assert _pack("1", {}, tmp_path, store, inputs=["./data"]).body_hash == stored.body_hash
    (data / "plain").write_text("other")
    assert _pack("1", {}, tmp_path, store, inputs=["./data"]).body_hash != stored.body_hash


def test_a_file_that_is_named_goes_whatever_patterns_say(tmp_path: Path) -> None:
    """A path or glob of files is what the user asked for: patterns are for folders."""
    _planted(tmp_path / "data", {".gitignore": "*\n"})
    taken = capture("1", JobOptions(inputs=["data/*.tmp", "./data/plain"]), BUILT_IN["python"], {}, tmp_path)
    assert ([item.path for item in taken.items], taken.notices) == (["a.tmp", "keep.tmp", "plain"], ())


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (".gitignore", "*\n", "all that is in it is left out by .gitignore"),
        (".bacalhauignore", "!\n", "a pattern in .*data can't be read"),
        (".gitignore", "x" * 1_000_001, "is no file of patterns"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(tmp_path: Path, file: str, text: str, said: str) -> None:
    """A folder of which nothing would go, and patterns that can't be read, are refused before anything is sent."""
    _planted(tmp_path / "data", {file: text})
    with pytest.raises(UnsendableInputError, match=said):
        capture("1", JobOptions(inputs=["./data"]), BUILT_IN["python"], {}, tmp_path)


def test_special_files_are_refused(tmp_path: Path) -> None:
    """A FIFO in a folder is refused instead of blocking the packing."""
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data/pipe")
    with pytest.raises(UnsendableInputError, match="regular file"):
        _pack("1", {}, tmp_path, inputs=["./data"])


def test_an_embedded_node_publishes_if_there_is_anything(tmp_path: Path) -> None:
    """A job of the embedded node always has its publisher; where nobody asked for files, with a mark that nothing needs no archive."""
    bare = _pack("1", {}, tmp_path, LOCAL, bg=True).job.task
    assert bare.publisher is not None
    assert bare.meta[_marks.META_PUBLISH] == "if-any"
    assert _marks.META_PUBLISH not in _pack("1", {}, tmp_path, LOCAL, files="out").job.task.meta
    assert _marks.META_PUBLISH not in _pack("open('outputs/x', 'w')", {}, tmp_path).job.task.meta


def test_a_publisher_that_was_asked_for(tmp_path: Path) -> None:
    """--publisher stands in the spec, an S3 key completed so that the server hands it out signed."""
    task = _pack("1", {}, tmp_path, publisher="s3://bucket/results?region=eu-1&endpoint=http://h:9").job.task
    assert task.publisher is not None
    assert (task.publisher.type, task.publisher.params) == (
        "s3",
        {"Bucket": "bucket", "Key": "results/{jobID}/{executionID}.tar.gz", "Region": "eu-1", "Endpoint": "http://h:9"},
    )
    assert [path.path for path in task.result_paths] == ["/outputs"]
    whole = _pack("1", {}, tmp_path, publisher="s3://bucket/a/{jobID}.tar.gz").job.task.publisher
    assert whole is not None
    assert whole.params == {"Bucket": "bucket", "Key": "a/{jobID}.tar.gz"}


def test_a_job_whose_signed_addresses_are_over_is_not_sent_again(tmp_path: Path) -> None:
    """A rerun of a job whose input's address has expired is refused by the input's name; one that is still good is sent."""
    packed = _pack("1", {}, tmp_path)
    for date, is_over in (("20200101T000000Z", True), ("29990101T000000Z", False), ("nonsense", False)):
        url = f"https://store/b/k?X-Amz-Date={date}&X-Amz-Expires=3600&X-Amz-Signature=s"
        source = InputSource(source=SpecConfig(type="urlDownload", params={"URL": url}), alias="x-0", target="/inputs/.")
        task = packed.job.task.model_copy(update={"input_sources": [*packed.job.task.input_sources, source]})
        old = packed.job.model_copy(update={"tasks": [task]})
        if is_over:
            with pytest.raises(PackingError, match="its input x-0 has expired"):
                repacked(old, packed.route)
        else:
            assert repacked(old, packed.route).name != packed.name


def test_files_want_a_publisher(tmp_path: Path) -> None:
    """--files publishes the outputs folder, and is refused where no node can."""
    task = _pack("1", {}, tmp_path, files="out").job.task
    assert task.publisher is not None
    assert [(path.name, path.path) for path in task.result_paths] == [("outputs", "/outputs")]
    bare = Target("bacalhau", CLUSTER.endpoint, nodes=(NodeState(info=NodeInfo(compute_node_info=ComputeNodeInfo(publishers=["noop"]))),))
    with pytest.raises(PackingError, match="--files"):
        _pack("1", {}, tmp_path, bare, files="out")


def test_a_cell_that_names_outputs_is_published(tmp_path: Path) -> None:
    """A cell whose text names its outputs folder gets a publisher; another one does not."""
    assert _pack("open('outputs/x', 'w')", {}, tmp_path).job.task.publisher is not None
    assert _pack("1", {}, tmp_path).job.task.publisher is None


def test_request_facts_reach_the_wrapper(tmp_path: Path) -> None:
    """The payload's request names what the wrapper has to keep, and the shell's copy of it is quoted."""
    packed = _pack("echo hi", {"t": "it's"}, tmp_path, lang="bash", inputs=["t"], args=("a b", "c'd"), timeout="90s", max_result="1MB")
    files = _archive(packed)
    facts = json.loads(files.extractfile(".bacalhau/request.json").read())  # type: ignore[union-attr]
    assert (facts["nonce"], facts["timeout"], facts["max_result"], facts["args"]) == (packed.nonce, 90.0, 1_000_000, ["a b", "c'd"])
    shell = files.extractfile(".bacalhau/request.sh").read().decode()  # type: ignore[union-attr]
    assert "BM_TIMEOUT=90\n" in shell
    assert """BM_ARGS=''"'"'a b'"'"' '"'"'c'"'"'"'""" in shell
    assert files.extractfile(".bacalhau/vars.sh").read().decode() == """export t='it'"'"'s'\n"""  # type: ignore[union-attr]


def test_shown_spec_shortens_the_archive(tmp_path: Path) -> None:
    """The spec that people see holds the archive's size, not its bytes."""
    packed = _pack("1", {}, tmp_path)
    url = shown(packed.job)["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"]
    assert url.startswith("data:application/gzip;base64,…")
    assert len(url) < 80


def test_repacked_is_another_job_of_the_same_cell(tmp_path: Path) -> None:
    """A rerun has a name and a request of its own, and the same task."""
    packed = _pack("1", {}, tmp_path)
    again = repacked(packed.job, packed.route)
    assert again.job.name != packed.job.name
    assert again.job.labels[_marks.REQUEST_LABEL] == again.request_id != packed.request_id
    assert again.job.tasks == packed.job.tasks
    assert again.nonce == packed.nonce


def test_large_inputs_of_the_local_node_are_staged(tmp_path: Path) -> None:
    """From 4 MB on an input's place is in the archive and its bytes in the staging folder, from when the job is sent."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "run.sh").write_bytes(b"#!/bin/sh\n" + b"#" * 5_000_000)
    (tmp_path / "big" / "run.sh").chmod(0o700)
    staging = tmp_path / "staging"
    staging.mkdir()
    text, chosen = "x" * 5_000_000, {"inputs": ["text", "./big", "small", f"{tmp_path}/big=/data"]}
    target = replace(LOCAL, staging=staging)
    packed = _pack("1", {"text": text, "small": 1}, tmp_path, target, **chosen)
    sources = packed.job.task.input_sources
    assert [source.target for source in sources] == ["/inputs", f"/inputs/{packed.staged[0].item.path}", "/inputs/big", "/data"]
    assert {source.source.type for source in sources[1:]} == {"localDirectory"}
    assert {Path(source.source.params["SourcePath"]).parent for source in sources[1:]} == {staging / packed.request_id}  # type: ignore[index]
    sizes = {entry.name: entry.size for entry in _archive(packed)}
    assert (sizes["big"], sizes[packed.staged[0].item.path]) == (0, 0)
    assert [size > 0 for name, size in sizes.items() if "small" in name] == [True]
    assert len(packed.body) < 1_000_000
    assert packed.notices == ("Its inputs are too big for a cluster without staging.",)
    assert list(staging.iterdir()) == []
    stage(packed)
    places = [one.place for one in packed.staged]
    assert text.encode() in places[0].read_bytes()
    assert places[1].joinpath("run.sh").stat().st_size == places[2].joinpath("run.sh").stat().st_size == 5_000_010
    assert [stat.S_IMODE(path.stat().st_mode) for path in (places[0], places[1], places[1] / "run.sh")] == [0o644, 0o755, 0o755]
    unstage(packed)
    assert list(staging.iterdir()) == []


def test_staging_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An input that has gone when the job is sent is named, and nothing stays in the staging folder."""
    staging = tmp_path / "staging"
    staging.mkdir()
    (tmp_path / "big.bin").write_bytes(b"x" * 5_000_000)
    packed = _pack("1", {"text": "x" * 5_000_000}, tmp_path, replace(LOCAL, staging=staging), inputs=["text", "./big.bin"])
    (tmp_path / "big.bin").unlink()
    with pytest.raises(UnsendableInputError, match=r"big\.bin"):
        stage(packed)
    assert list(staging.iterdir()) == []


def _node(version: str = "v1.9.3", publishers: tuple[str, ...] = ("local",), memory: int = 8_000_000_000, **labels: str) -> NodeState:
    most = {"CPU": 4, "Memory": memory, "Disk": 100_000_000_000}
    info = {"ExecutionEngines": ["docker"], "Publishers": list(publishers), "MaxCapacity": most, "MaxJobRequirements": most}
    return NodeState.model_validate(
        {
            "Info": {"NodeID": "n-1", "Labels": labels, "ComputeNodeInfo": info, "BacalhauVersion": {"GitVersion": version}},
            "Connection": "CONNECTED",
        }
    )


def _cluster(*nodes: NodeState, version: str = "v1.9.3") -> Target:
    return Target("bacalhau", Endpoint("http://cluster:1234"), version, payload_limit=900_000, nodes=nodes)


@pytest.mark.parametrize(
    ("target", "options", "published"),
    [
        (_cluster(_node()), {}, False),
        (_cluster(_node()), {"bg": True}, True),
        (_cluster(_node()), {"long": True}, True),
        (_cluster(_node()), {"on_interrupt": "detach"}, True),
        (_cluster(_node("v1.7.0"), version="v1.7.0"), {}, True),
        (_cluster(_node("v0.0.0-xxxxxxx"), version="v0.0.0-xxxxxxx"), {}, True),
        (_cluster(_node("v0.0.0-xxxxxxx", os_type="linux"), version="v0.0.0-xxxxxxx"), {}, False),
    ],
    ids=["watched", "bg", "long", "detach", "before 1.8", "unknown and old", "unknown and new"],
)
def test_a_job_that_nobody_may_watch_is_published(tmp_path: Path, target: Target, options: dict[str, Any], published: bool) -> None:
    """With --bg, --long, --on-interrupt detach, and before 1.8, the packets also go where they can be fetched later; else the log is enough."""
    packed = _pack("1", {}, tmp_path, target, **options)
    assert (packed.job.task.publisher is not None) is published
    assert bool(packed.job.task.result_paths) is published
    assert json.loads(packed.body)["Job"]["Tasks"][0].get("Publisher") == ({"Type": "local", "Params": {}} if published else None)
    assert not any("fetch" in notice or "connected" in notice for notice in packed.notices)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([_node(publishers=("noop",))], "within an hour of its end"),
        ([_node(publishers=("noop",)), _node(memory=100_000_000)], "within an hour of its end"),
        ([_node("v1.7.0", publishers=("noop",))], "stay connected until the job's end"),
    ],
    ids=["none publishes", "only one that is too small publishes", "before 1.8"],
)
def test_without_a_publisher_the_card_says_by_when(tmp_path: Path, nodes: list[NodeState], said: str) -> None:
    """Where no node that could take the job publishes, it goes without, and the card says how long its result is there."""
    packed = _pack("1", {}, tmp_path, _cluster(*nodes), bg=True, memory="1GB")
    assert packed.job.task.publisher is None
    assert said in packed.notices[0]


def test_what_every_version_takes(tmp_path: Path) -> None:
    """Count, network, environment and name are written so that servers from 1.5 to 1.9 read the same."""
    job = _pack("1", {}, tmp_path, network="full", env="A=b").job.wire()
    task = job["Tasks"][0]
    assert (job["Count"], job["Type"], task["Network"]["Type"]) == (1, "batch", "Full")
    assert task["Engine"]["Params"]["EnvironmentVariables"] == ["A=b"]
    assert "Env" not in task
