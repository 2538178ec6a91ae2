"""The shell's wrapper, as a real process, in every POSIX shell that is here."""

import shutil
import subprocess

import pytest
from shells import SHELLS


@pytest.fixture(params=[pytest.param(shell, id=" ".join(shell), marks=mark) for shell, mark in SHELLS])
def sh(job, request):
    def run(code, **changes):
        done = job(code, "bash", command_line=request.param, **changes)
        assert done.leftovers == []
        assert done.problem == ""
        return done

    return run


def test_cell_world(sh):
    """Variables, arguments and files reach the cell, and its outputs come back."""
    run = sh('echo "$x|$1"; ls inputs; echo hi > outputs/f; echo err >&2', inputs={"x": "a b"}, args=["q r"])
    assert (run.code, run.bundle.outcome) == (0, "ok")
    assert run.bundle.stdout == b"a b|q r\nx.json\n"
    assert run.bundle.stderr == run.stderr == b"err\n"
    assert (run.outputs / "f").read_text() == "hi\n"


def test_exit_code(sh):
    """The cell's exit code is the job's, and text without a last newline stays so."""
    run = sh("printf abc; exit 3")
    assert (run.code, run.bundle.exit_code, run.shown) == (3, 3, "abc")


def test_exact_stdout(sh):
    """5 MB of any bytes come back exactly."""
    run = sh("for i in 1 2 3 4 5; do head -c 1000000 /dev/urandom; done; printf '\\000\\377'")
    assert len(run.bundle.stdout) == 5_000_002
    assert run.bundle.stdout.endswith(b"\0\xff")


def test_timeout(sh):
    """The time limit ends the cell and its children; what it printed comes back."""
    run = sh("printf a; sleep 50; echo no", timeout=0.5)
    assert (run.code, run.bundle.outcome, run.bundle.stdout) == (124, "timeout", b"a")


def test_process_left_behind(sh, wait_gone):
    """A process that outlives the cell does not hold the job."""
    run = sh("sleep 60 & echo $!")
    assert run.code == 0
    wait_gone(int(run.bundle.stdout))


def test_result_bound(sh):
    """Stdout above the bound is cut in the bundle, and said."""
    run = sh("head -c 2000 /dev/zero", max_result=1000)
    assert len(run.bundle.stdout) == 1000
    assert run.bundle.truncated == ["stdout"]


@pytest.mark.parametrize(
    ("code", "shown"), [("echo hi; exit 4", "hi\n"), ("printf hi; exit 4", "hi"), ("echo; exit 4", "\n"), ("exit 4", "")]
)
def test_missing_tools(job, tmp_path, code, shown):
    """Where base64 is missing the cell runs all the same; the log says only where its text ends, and its text stays as it is."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "dirname", "mkdir", "ln", "rm", "sleep", "setsid", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    run = job(code, "bash", path=str(tools))
    assert (run.code, run.shown, run.problem, run.bundle) == (4, shown, "", None)
    assert run.assembler.text_ended
    assert run.raw.endswith(b"\n")


@pytest.mark.busybox
def test_busybox_alone(job, tmp_path):
    """Where every tool is busybox's own, as in small images, packets and exact bytes come back all the same."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        (tools / name).symlink_to(shutil.which("busybox"))
    run = job(
        "head -c 300000 /dev/urandom; printf '\\000\\377'; echo err >&2; exit 3",
        "bash",
        command_line=[str(tools / "sh")],
        path=str(tools),
        command=["sh", "-e"],
    )
    assert (run.code, run.bundle.exit_code, run.problem) == (3, 3, "")
    assert len(run.bundle.stdout) == 300_002
    assert run.bundle.stderr == b"err\n"
    assert run.leftovers == []
