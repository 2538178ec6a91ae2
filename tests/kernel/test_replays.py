"""Jobs recorded in one kernel and replayed in another, without a node; and the cache of stored results."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from gateway import gateway
from kernels import Kernel, Ran, start

from bacalhau_magic.node import _daemon

NOWHERE = {"BACALHAU_API_URL": "http://127.0.0.1:9"}
CELLS = {
    "value": "%%bacalhau -i prices -o total\nprint('adding')\ntotal = sum(prices.values())",
    "expression": "%%bacalhau\n[n * n for n in range(3)]",
    "error": "%%bacalhau\nprices['juice']",
    "bash": "%%bacalhau --lang bash --files out\necho '{\"free\": 3}'; echo line > outputs/a.txt; ln -s /etc/passwd outputs/link",
    "picture": "%%bacalhau\nfrom IPython.display import HTML\nHTML('<b onclick=alert(1)>x</b>')",
    "background": "%%bacalhau --bg --job later -o answer\nanswer = 42",
    "exit": "%%bacalhau --lang bash\necho before; exit 3",
}


@contextmanager
def kernel(folder: Path, **variables: str) -> Iterator[Kernel]:
    running = start(live=False, folder=folder, **variables)
    try:
        yield running
    finally:
        running.stop()


def shown(ran: Ran) -> list[object]:
    """All that a cell shows, and how it ended."""
    return [*((output["type"], output["content"].get("data") or output["content"].get("text")) for output in ran.outputs), ran.error]


def phases(running: Kernel) -> str:
    """What happened to the last job, as events without what nodes are called, and what was found of its place."""
    left_out = "('Noticed', 'PhaseChanged', 'Transferred')"
    code = f"_bacalhau.error and None or [type(e).__name__ for e in _bacalhau.events if not type(e).__name__ in {left_out}], list(_bacalhau.logs())"
    return running.run(code).value or ""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[list[object], str]]]:
    """A folder with a cassette of all cells, and what each showed when it ran; the node is stopped afterwards."""
    folder = tmp_path_factory.mktemp("recorded")
    with kernel(folder) as running:
        running.run("prices = {'tea': 3, 'coffee': 4}")
        assert "recorded in lesson.yaml" in running.run("%bacalhau record lesson.yaml").text
        found = {name: (shown(running.run(cell)), phases(running)) for name, cell in CELLS.items()}
        running.run("%bacalhau wait --all")
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True, capture_output=True)
    return folder, found


@pytest.mark.parametrize("number", [1, 2])
def test_replay_is_as_it_was(recorded: tuple[Path, dict[str, tuple[list[object], str]]], tmp_path: Path, number: int) -> None:
    """Without a node and with an endpoint that leads nowhere, every cell shows what it showed: outputs, events, log, files; in each kernel."""
    folder, found = recorded
    with kernel(tmp_path, **NOWHERE) as running:
        running.run("prices = {'tea': 3, 'coffee': 4}")
        assert "nothing is sent" in running.run(f"%bacalhau replay {folder}/lesson.yaml").text
        for name, cell in CELLS.items():
            assert (shown(running.run(cell)), phases(running)) == found[name], name
        assert running.run("total, answer if later.result() and later.bind() is not None else 0").value == "(7, 42)"
        assert (tmp_path / "out/a.txt").read_text() == "line\n"
        assert not (tmp_path / "out/link").exists()
        assert "no server has it" in running.run("%bacalhau show last").text
        assert "adding" not in running.run("%bacalhau logs last").text
        assert "replayed from lesson.yaml" in running.run("%bacalhau").text
        assert "ConfigError" in running.run("%bacalhau live\n").text + running.run("%%bacalhau\n1").text
    status = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "status"], capture_output=True, text=True, check=True)
    assert "does not run" in status.stdout


@pytest.mark.parametrize(
    ("setup", "cell", "said"),
    [
        ("prices['tea'] = 9", CELLS["value"], ["The input prices has another value: of the same kind and size (dict, "]),
        ("prices['water'] = 1", CELLS["value"], ["The input prices is another: dict,"]),
        ("", CELLS["expression"].replace("(3)", "(4)"), ["Its line 1 is now '[n * n for n in range(4)]', and was '[n * n for n in range(3)]'"]),
        ("", CELLS["expression"].replace("%%bacalhau", "%%bacalhau --memory 1GB"), ["--memory: 1GB now, not asked for when it was recorded"]),
        ("", CELLS["exit"].replace("exit", "exit $X;").replace("bash\n", "bash -e X=3\n"), ["Its line 1 is now", "The variable X is another"]),
        ("", "%%bacalhau\nimport this_and_that\nthis_and_that.nothing_alike()", ["lesson.yaml has none like it"]),
    ],
    ids=["value", "input", "code", "option", "variable", "none"],
)  # fmt: skip
def test_a_changed_cell_says_what_changed(recorded: tuple[Path, object], tmp_path: Path, setup: str, cell: str, said: list[str]) -> None:
    """A cell that was not recorded so is an error that says what differs and how to record it."""
    with kernel(tmp_path, **NOWHERE) as running:
        running.run(f"prices = {{'tea': 3, 'coffee': 4}}\n{setup}")
        running.run(f"%bacalhau replay {recorded[0]}/lesson.yaml")
        ran = running.run(cell)
        assert ran.error
        assert ran.error[0] == "NotRecordedError"
        for sentence in (*said, f"%bacalhau record {recorded[0]}/lesson.yaml", "%bacalhau live"):
            assert sentence in ran.text


def test_no_server_is_asked_for_what_a_recording_lacks(tmp_path: Path) -> None:
    """Of a replayed or stored result nothing advises to attach to its job, or to fetch its files: what was read is in its outputs."""
    cell = "%%bacalhau --no-raise-error -o h,i\nh, i = 1, object()"
    large = "%%bacalhau --no-raise-error -o h --max-result 1MB\nimport os\nh = os.urandom(2_000_000)"
    with kernel(tmp_path) as running:
        running.run("%bacalhau record lesson.yaml")
        assert "%bacalhau attach last" in running.run(cell).text
        assert "%bacalhau get last" in running.run(large).text
        running.run("%bacalhau replay lesson.yaml")
        too_large = running.run(large).text
        replayed = running.run(cell).text
        assert running.run("_bacalhau.outputs").value == "{'h': 1}"
    assert "'i' can't be sent back" in replayed
    assert "attach" not in replayed
    assert "Ask for more with --max-result." in too_large
    assert "%bacalhau get" not in too_large


def test_names_labels_and_waiting_are_no_content(recorded: tuple[Path, object], tmp_path: Path) -> None:
    """What a job is called, how it is waited for and where it should run is none of what it is."""
    with kernel(tmp_path, **NOWHERE) as running:
        running.run(f"%bacalhau replay {recorded[0]}/lesson.yaml")
        ran = running.run(CELLS["expression"].replace("%%bacalhau", "%%bacalhau --name x --labels a=b --priority 3 -q --queue-timeout 1m"))
        assert ran.value == "[0, 1, 4]", ran.text


def test_the_cassette_is_text_without_ids_and_hosts(recorded: tuple[Path, object]) -> None:
    """The file can be read by people, and holds no id of a job, node or execution, no address, no time and no nonce."""
    text = (recorded[0] / "lesson.yaml").read_text()
    jobs = list(yaml.safe_load_all(text))
    assert len(jobs) == len(CELLS)
    assert jobs[0]["cell"]["code"] == "print('adding')\ntotal = sum(prices.values())\n"
    assert "  code: |\n    print('adding')\n    total" in text
    # Its newline comes by itself where the node was slow to say which it is.
    assert "stdout: |\n    adding\n" in text or "stdout: adding\n" in text
    assert "".join(event.get("stdout", "") for event in jobs[0]["events"]) == "adding\n"
    everything = text + "".join(path.read_bytes().decode("latin-1") for path in (recorded[0] / "lesson.parts").iterdir())
    ids = set(re.findall(r"\b[jne]-[0-9a-f]{8}\b", everything))
    assert ids == {"n-00000001"}
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-|\d\d:\d\d:\d\d|127\.0\.0\.1|nonce", text)


def test_a_recording_of_a_cluster_names_none_of_it(tmp_path: Path) -> None:
    """What is recorded through a cluster's front door holds no URL, host or key of it, and is replayed when all is stopped."""
    key = "front-door-key-8c1f"
    made, here = tmp_path / "made", tmp_path / "here"
    made.mkdir()
    here.mkdir()
    with gateway(_daemon.environment(), f"Bearer {key}") as opened:
        url = opened.url.replace("127.0.0.1", "localhost")
        with kernel(made, BACALHAU_API_URL=url, BACALHAU_API_KEY=key) as running:
            running.run("prices = {'tea': 3, 'coffee': 4}")
            running.run("%bacalhau record lesson.yaml")
            before = {name: shown(running.run(CELLS[name])) for name in ("value", "expression", "error", "bash")}
        assert opened.paths("PUT") == ["/api/v1/orchestrator/jobs"] * 4
        assert all(given == f"Bearer {key}" for verb, _, given in opened.seen if verb == "PUT")
    subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True, capture_output=True)
    files = [path for path in made.rglob("*") if path.is_file() and made / "out" not in path.parents]
    assert made / "lesson.yaml" in files
    for path in files:
        raw = path.read_bytes()
        for planted in (key, "http://", f":{opened.port}", "localhost", "127.0.0.1"):
            assert planted.encode() not in raw, (path, planted)
    with kernel(here, **NOWHERE) as running:
        running.run("prices = {'tea': 3, 'coffee': 4}")
        running.run(f"%bacalhau replay {made}/lesson.yaml")
        assert {name: shown(running.run(CELLS[name])) for name in before} == before
    assert (here / "out" / "a.txt").read_text() == "line\n"


def test_runs_of_the_same_cell_are_replayed_in_their_order(tmp_path: Path) -> None:
    """The n-th run of a cell gets the n-th recording; recording again replaces all of them."""
    cell = "%%bacalhau\nimport secrets\nsecrets.token_hex(8)"
    with kernel(tmp_path) as running:
        running.run("%bacalhau record runs.yaml")
        before = [running.run(cell).value for _ in range(3)]
        running.run("%bacalhau replay runs.yaml")
        assert [running.run(cell).value for _ in range(4)] == [*before, before[-1]]
        running.run("%bacalhau record runs.yaml")
        again = running.run(cell).value
        assert again not in before
        running.run("%bacalhau replay runs.yaml")
        assert [running.run(cell).value for _ in range(2)] == [again, again]
        assert len(list((tmp_path / "runs.parts").iterdir())) == 1


def test_two_kernels_record_in_one_file(tmp_path: Path) -> None:
    """Two kernels that record in the same file lose nothing of each other's."""
    with kernel(tmp_path) as one, kernel(tmp_path) as other:
        for running in (one, other):
            running.run("%bacalhau record both.yaml")
        for number in range(6):
            requests = [running.send(f"%%bacalhau\n{number}, {name!r}") for running, name in ((one, "one"), (other, "other"))]
            one.collect(requests[0])
            other.collect(requests[1])
    assert len(list(yaml.safe_load_all((tmp_path / "both.yaml").read_text()))) == 12


def test_a_secret_is_not_recorded(tmp_path: Path) -> None:
    """A variable's value that sounds like a secret stands in no cassette: a job that shows it is not recorded, and another value replays."""
    with kernel(tmp_path) as running:
        running.run("%bacalhau record s.yaml")
        running.run("%%bacalhau -e API_TOKEN=hunter2-hunter2 -e PLAIN=5\nimport os\nlen(os.environ['API_TOKEN'])")
        ran = running.run(
            "%%bacalhau -e API_TOKEN=hunter2-hunter2\nimport os, base64\nbase64.b64encode(os.environ['API_TOKEN'].encode()).decode()"
        )
        assert ran.error is None
        assert "Not recorded: a secret's value stands in" in (running.run("_bacalhau.events").value or "")
        running.run("%bacalhau replay s.yaml")
        assert running.run("%%bacalhau -e API_TOKEN=other -e PLAIN=5\nimport os\nlen(os.environ['API_TOKEN'])").value == "15"
        assert (
            "The variable PLAIN is another"
            in running.run("%%bacalhau -e API_TOKEN=x -e PLAIN=6\nimport os\nlen(os.environ['API_TOKEN'])").text
        )
    assert len(list(yaml.safe_load_all((tmp_path / "s.yaml").read_text()))) == 1
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_a_job_that_somebody_stopped_is_not_recorded(tmp_path: Path) -> None:
    """An interrupt and a Stop button are no part of the notebook: what they stopped is none to replay."""
    running = start(live=True, folder=tmp_path)
    try:
        running.run("%bacalhau record stopped.yaml")
        for cell, stop in (
            ("%%bacalhau\nimport time\ntime.sleep(60)", running.manager.interrupt_kernel),
            ("%%bacalhau\nimport time\ntime.sleep(61)", lambda: running.press({"kind": "stop"})),
        ):
            sent = running.send(cell)
            running.until(lambda card: card.get("title") == "Running")
            stop()
            assert running.collect(sent).error
    finally:
        running.stop()
    assert not (tmp_path / "stopped.yaml").exists()


def test_a_stop_of_the_notebook_s_own_is_recorded(tmp_path: Path) -> None:
    """A job that the notebook's code stops is stopped in the replay too, with its reason."""
    cell = "job = submit('import time; time.sleep(60)')\njob.cancel('not needed')\nprint(type(job.error).__name__, job.error.reason)"
    with kernel(tmp_path) as running:
        running.run("from bacalhau_magic import submit\n%bacalhau record stopped.yaml")
        before = shown(running.run(cell))
        assert "JobStoppedError not needed" in str(before)
        running.run("%bacalhau replay stopped.yaml")
        assert shown(running.run(cell)) == before


def test_cache_takes_the_stored_result(tmp_path: Path) -> None:
    """--cache runs a cell once, also for another kernel, and says from when the result is; --refresh runs it again; failures are not stored."""
    variables = {"BACALHAU_MAGIC_DATA_DIR": str(tmp_path / "data")}
    cell = "%%bacalhau --cache -i n\nimport secrets\n(n, secrets.token_hex(8))"
    with kernel(tmp_path, **variables) as running:
        running.run("n = 1")
        first = running.run(cell).value
        assert running.run(cell).value == first
        assert re.search(r"From cache, recorded on \d{4}-\d\d-\d\d\.", running.run("_bacalhau.snapshot.notices").value or "")
        fresh = running.run(cell.replace("--cache", "--refresh")).value
        assert fresh != first
        running.run("n = 2")
        other = running.run(cell).value
        assert other
        assert other.startswith("(2, ")
        for _ in range(2):
            assert running.run("%%bacalhau --cache\n1 / 0").error
        assert "2 stored results" in running.run("%bacalhau cache").text
    with kernel(tmp_path, **variables, **NOWHERE) as running:
        running.run("n = 1")
        assert running.run(cell).value == fresh
        assert running.run(cell.replace("--cache", "")).error
        assert "2 stored results removed" in running.run("%bacalhau cache --clear").text
        assert running.run(cell).error
    stored = tmp_path / "data/cache/results"
    assert list(stored.iterdir()) == []
    assert stored.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("record", "takes one FILE"),
        ("record a b", "takes one FILE"),
        ("record lesson.txt", "is no .yaml file"),
        ("record nowhere/lesson.yaml", "no folder that can be written to"),
        ("replay missing.yaml", "There is no recording"),
        ("live now", "takes nothing more"),
        ("cache --all", "It knows --clear"),
    ],
)
def test_a_wrong_line_changes_nothing(batch: Kernel, line: str, said: str) -> None:
    """What can't be recorded or replayed is said at once, and cells run as before."""
    assert said in batch.run(f"%bacalhau {line}").text
    assert batch.run("%%bacalhau\n1 + 1").value == "2"


def test_a_recording_in_another_folder_is_named_with_it(tmp_path: Path) -> None:
    """What a hint says to write finds the recording, also below the notebook's folder."""
    (tmp_path / "my lessons").mkdir()
    with kernel(tmp_path) as running:
        said = running.run("%bacalhau record 'my lessons/one.yaml'").text
        running.run("%%bacalhau\n1")
        [line] = re.findall(r"%bacalhau replay .*?\.yaml'?", said)
        assert line == "%bacalhau replay 'my lessons/one.yaml'"
        assert running.run(line).error is None
        assert line in re.sub(r"\x1b\[[0-9;]*m", "", running.run("%%bacalhau\n2").text)
        running.run("%bacalhau live")
