"""Every option has an effect: seen in a real kernel, on the embedded node or in what a cluster is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import Cluster
from kernels import Kernel

from bacalhau_magic.options import JobOptions


@dataclass(frozen=True)
class Effect:
    """A cell whose line has the option, and what shows that it was not ignored.

    `shows` stands in what the cell shows; `after` is an expression with the value `gives`, evaluated afterwards.
    """

    line: str
    cell: str = "1"
    shows: str = ""
    after: str = ""
    gives: str = ""
    bare: str = ""
    """What the same cell shows without the option, where that tells them apart best."""


HERE = {
    "lang": Effect("--lang bash", "echo $((6 * 7))", "42"),
    "inputs": Effect("-i x", "x + 1", "6"),
    "env": Effect("-e COLOUR=blue", "__import__('os').environ.get('COLOUR')", "'blue'"),
    "env_file": Effect("--env-file vars.env", "__import__('os').environ.get('SIZE')", "'two words'"),
    "outputs": Effect("-o y", "y = 7", after="y", gives="7"),
    "as_": Effect("--lang bash --as json", "echo 3", after="_", gives="3"),
    "stdout": Effect("--stdout said", "print('o')", after="said", gives="'o\\n'"),
    "stderr": Effect("--stderr said", "print('e', file=__import__('sys').stderr)", after="said", gives="'e\\n'"),
    "files": Effect("--files got", "open('outputs/a', 'w').write('A');", after="open('got/a').read()", gives="'A'"),
    "allow_pickle": Effect("--allow-pickle", "import collections\ncollections.Counter('aab')", after="_['a']", gives="2"),
    "max_result": Effect("--max-result 1KB", "'x' * 2000", "larger than the 1000 bytes"),
    "timeout": Effect("--timeout 1s", "__import__('time').sleep(60)", "time limit of 1.0 s"),
    "memory": Effect("--memory 100MB", "len(bytearray(10**9))", "100 MB of memory"),
    "disk": Effect("--disk 50MB", "with open('f', 'wb') as f:\n    for _ in range(300):\n        f.write(bytes(1 << 20)); f.flush(); __import__('time').sleep(0.01)", "50 MB of disk"),
    "runtime": Effect("--runtime local", "'ran here'", "'ran here'", bare="can't be reached"),
    "fallback": Effect("--fallback", "'ran here'", "'ran here'", bare="can't be reached"),
    "bg": Effect("--bg", "1", "RemoteJob(python)", after="_bacalhau.result()", gives="1"),
    "job": Effect("--job mine", "5", after="mine.result()", gives="5"),
    "raise_error": Effect("--no-raise-error", "1/0", "ZeroDivisionError", after="type(_bacalhau.error).__name__", gives="'RemoteCellError[ZeroDivisionError]'"),
    "dry_run": Effect("-n", "1", "Type: docker"),
    "save": Effect("--save spec.json", "1", "spec.json", after="__import__('json').load(open('spec.json'))['Type']", gives="'batch'"),
    "args": Effect("-- --one 'two three'", "__import__('sys').argv[1:]", "['--one', 'two three']"),
}  # fmt: skip


def _constraint(key: str, *values: str) -> dict[str, Any]:
    return {"Key": key, "Operator": "in", "Values": list(values)}


SENT: dict[str, tuple[str, Any]] = {
    "cpu": ("--cpu 1.5", lambda job, task: task["Resources"]["CPU"] == "1.5"),
    "gpu": ("--gpu 1", lambda job, task: task["Resources"].get("GPU") == "1"),
    "gpu_vendor": (
        "--gpu 1 --gpu-vendor amd",
        lambda job, task: job["Constraints"] == [_constraint("GPU-0", "Radeon-VII")],
    ),
    "image": ("--image python:3.12", lambda job, task: task["Engine"]["Params"]["Image"] == "python:3.12"),
    "constraints": ("--constraints 'zone in (a,b)'", lambda job, task: job["Constraints"] == [_constraint("zone", "a", "b")]),
    "priority": ("--priority 7", lambda job, task: job["Priority"] == 7),
    "namespace": ("--namespace team", lambda job, task: job["Namespace"] == "team"),
    "labels": ("--labels team=x", lambda job, task: job["Labels"].get("team") == "x"),
    "queue_timeout": ("--queue-timeout 5s", lambda job, task: task["Timeouts"]["QueueTimeout"] == 5),
    "network": ("--network full", lambda job, task: task["Network"]["Type"] == "Full"),
    "domain": ("--network http --domain example.org", lambda job, task: task["Network"] == {"Type": "HTTP", "Domains": ["example.org"]}),
    "pip": ("--pip 'numpy pandas'", lambda job, task: task["Meta"].get("bacalhau-magic/packages") == "1" and task["Network"]["Type"] == "Full"),
    "requirements": ("-r needs.txt", lambda job, task: task["Meta"].get("bacalhau-magic/packages") == "1"),
    "long": ("--long", lambda job, task: task["Timeouts"]["QueueTimeout"] == 86400 and task["Timeouts"]["ExecutionTimeout"] > 86400),
    "name": ("--name 'My Job'", lambda job, task: job["Name"].startswith("my-job-") and job["Labels"].get("bacalhau-magic.name") == "my-job"),
}  # fmt: skip

ELSEWHERE = {
    "publisher": "test_files.py::test_publisher_on_the_line",
    "secret": "test_secrets.py::test_a_secret_reaches_the_job_and_nothing_else",
    "secret_in_spec": "test_secrets.py::test_in_clear_only_where_it_is_asked_for",
    "overwrite": "test_files.py::test_overwrite_on_the_line_and_with_get",
    "trust_html": "test_displays.py::test_html_is_as_it_came_only_where_the_line_says_so",
    "on_interrupt": "test_live.py::test_detach_lets_the_job_go_on",
    "once": "test_live.py::test_once_attaches_to_the_unfinished_job",
    "profile": "test_profile_names_the_cluster",
    "sandbox": "test_sandbox_is_a_mark_on_the_job",
    "progress": "test_progress_is_of_the_kind_that_was_asked_for",
    "logs": "test_logs_are_left_out_of_the_progress",
    "quiet": "test_quiet_shows_the_result_only",
    "sync": "test_sync.py::test_what_is_imported_is_installed_in_the_version_of_here",
    "cache": "test_replays.py::test_cache_takes_the_stored_result",
    "refresh": "test_replays.py::test_cache_takes_the_stored_result",
}


def test_every_option_is_here() -> None:
    """The tables of this file name every option that this version has."""
    present = set(JobOptions.model_fields)
    assert present == {*HERE, *SENT, *ELSEWHERE}
    for place in ELSEWHERE.values():
        file, _, name = place.rpartition("::")
        assert f"def {name}(" in (Path(__file__).parent / (file or Path(__file__).name)).read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def something(shell: Kernel, place: Path) -> None:
    shell.run("x = 5")
    (place / "vars.env").write_text("SIZE='two words'\n")
    (place / "needs.txt").write_text("numpy==2.2.0\n")


@pytest.mark.parametrize("name", HERE)
def test_here(shell: Kernel, name: str) -> None:
    """On the embedded node the option does what it is for."""
    effect = HERE[name]
    if effect.bare:
        shell.run("%bacalhau config api_url=http://127.0.0.1:9")
        assert effect.bare in shell.run(f"%%bacalhau\n{effect.cell}").text
    ran = shell.run(f"%%bacalhau {effect.line}\n{effect.cell}")
    if effect.bare:
        shell.run("%bacalhau config api_url=")
    assert effect.shows in ran.text, ran.text
    if effect.after:
        after = shell.run(effect.after)
        assert after.value == effect.gives, (ran.text, after.text)


@pytest.fixture(scope="module")
def bare(shell: Kernel, cluster: Cluster) -> dict[str, Any]:
    """The job of a cell without any option."""
    shell.run(f"%bacalhau config api_url={cluster.url}")
    assert shell.run("%%bacalhau -q --bg\n1").error is None
    shell.run("%bacalhau config api_url=")
    return cluster.sent[-1]


@pytest.mark.parametrize("name", SENT)
def test_sent(shell: Kernel, cluster: Cluster, bare: dict[str, Any], name: str) -> None:
    """What the cluster is sent carries the option, and does not without it."""
    line, holds = SENT[name]
    shell.run(f"%bacalhau config api_url={cluster.url}")
    ran = shell.run(f"%%bacalhau -q --bg {line}\n1")
    shell.run("%bacalhau config api_url=")
    assert ran.error is None, ran.text
    with_it, without = cluster.sent[-1], bare
    assert holds(with_it, with_it["Tasks"][0]), with_it
    assert not holds(without, without["Tasks"][0])


def test_profile_names_the_cluster(shell: Kernel, cluster: Cluster, place: Path) -> None:
    """--profile sends to the endpoint of that profile of the Bacalhau CLI; without it the cell runs here."""
    (place / "cli/profiles").mkdir(parents=True)
    (place / "cli/profiles/team.yaml").write_text(f"endpoint: {cluster.url}\n")
    shell.run(f"import os; os.environ['BACALHAU_DIR'] = '{place}/cli'")
    before = len(cluster.sent)
    assert shell.run("%%bacalhau -q\n'here'").value == "'here'"
    assert len(cluster.sent) == before
    ran = shell.run("%%bacalhau -q --bg --profile team\n1")
    shell.run("del os.environ['BACALHAU_DIR']")
    assert ran.error is None, ran.text
    assert len(cluster.sent) == before + 1


@pytest.mark.bubblewrap
def test_sandbox_is_a_mark_on_the_job(shell: Kernel) -> None:
    """--sandbox marks the job for isolation; without it there is no such mark."""
    marks = []
    for line in ("--sandbox", ""):
        shell.run(f"text = get_ipython().run_cell_magic('bacalhau', '-n {line}', '1')")
        spec = yaml.safe_load(eval(shell.run("str(text)").value or "''"))
        marks.append(spec["Tasks"][0]["Meta"].get("bacalhau-magic/sandbox"))
    assert marks == ["1", None]


def test_progress_is_of_the_kind_that_was_asked_for(live: Kernel) -> None:
    """--progress widget shows a card, text writes lines, none shows nothing while the cell runs."""

    def kinds(line: str) -> tuple[bool, bool]:
        ran = live.run(f"%%bacalhau {line}\n1")
        assert ran.error is None, ran.text
        card = any("application/vnd.jupyter.widget-view+json" in o["content"].get("data", {}) for o in ran.outputs)
        return card, "bacalhau: " in ran.stream("stdout")

    assert kinds("--progress widget") == (True, False)
    assert kinds("--progress text") == (False, True)
    assert kinds("--progress none") == (False, False)


def test_logs_are_left_out_of_the_progress(live: Kernel) -> None:
    """--no-logs keeps the log out of the progress; what was printed is then shown at the end, once."""
    cell = "import time\nprint('first', flush=True)\ntime.sleep(1)\nprint('second')"
    request = live.send(f"%%bacalhau --progress text\n{cell}")
    assert live.collect(request).stream("stdout").count("first") == 1
    ran = live.run(f"%%bacalhau --progress text --no-logs\n{cell}")
    streams = [output["content"]["text"] for output in ran.outputs if output["type"] == "stream"]
    assert next(text for text in streams if "first" in text).endswith("first\nsecond\n")


def test_quiet_shows_the_result_only(shell: Kernel) -> None:
    """-q leaves the bundle out, and nothing else."""
    loud, quiet = (shell.run(f"%%bacalhau {line}\nprint('p')\n2") for line in ("", "-q"))
    assert [output["type"] for output in loud.outputs] == ["display_data", "stream", "execute_result"]
    assert [output["type"] for output in quiet.outputs] == ["stream", "execute_result"]
