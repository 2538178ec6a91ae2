"""Bad input in a real kernel: one clear error with a hint, and nothing was sent, kept or bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import Cluster
from kernels import Kernel

STATE = """(lambda say: (len(say('jobs --all')), len(say('jobs --mine')), str(say('show last')['job']) if len(say('jobs')) else '',
  repr(globals().get('_bacalhau')), kept))(lambda line: get_ipython().run_line_magic('bacalhau', line))"""


@pytest.fixture(scope="module", autouse=True)
def something(shell: Kernel, place: Path) -> None:
    """The kernel has sent a job before, and has things that can't be sent."""
    shell.run("import threading, os, subprocess\nlock, kept, huge = threading.Lock(), 'as it was', os.urandom(2_000_000)")
    (place / "bad.env").write_text("BACALHAU_X=1")
    (place / "plain").write_text("")
    (place / "some_rows").mkdir()
    (place / "some_cells.csv").write_text("")
    (place / "index.txt").write_text("numpy\n--index-url https://example.org\n")
    assert shell.run("%%bacalhau --name first\n1").error is None


def refused(shell: Kernel, line: str, body: str, said: str, hint: str) -> None:
    before = shell.run(STATE).value
    ran = shell.run(f"%%bacalhau {line}\n{body}")
    assert ran.error is not None, ran.text
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    assert re.search(said, text), text
    assert hint in text, text
    assert "Traceback" not in text, text
    assert len(text.strip().split("\n")) <= 4, text
    assert shell.run(STATE).value == before


@pytest.mark.parametrize(
    ("line", "body", "said", "hint"),
    [
        # an unknown option
        ("--zzz 1", "1", "There is no option --zzz", "%bacalhau help lists the options"),
        ("--tiemout 5m", "1", "There is no option --tiemout", "Did you mean --timeout?"),
        ("train.py", "1", "'train.py' is not an option", "after --"),
        ("-o kept = sum", "1", "'=' is not an option", "Names stand alone, as in -o total"),
        ("-o kept, b", "1", "names stand without spaces", "Write -o kept,b."),
        ("--name 'open", "1", "A quote on the line is not closed", 'Quotes come in pairs: --name "a b".'),
        ("--cpu {nothing}", "1", "there is no variable 'nothing'", ""),
        # a bad size or duration
        ("--memory lots", "1", "--memory: expected a size with a unit, such as 512MB or 4GB, not 'lots'", ""),
        ("--memory 4", "1", "--memory: expected a size with a unit", ""),
        ("--timeout soon", "1", "--timeout: expected a time with a unit, such as 30s, 10m or 2h, not 'soon'", ""),
        # a missing file
        ("-i ./missing.csv", "1", "there is no file ./missing.csv", ""),
        ("-i '*.parquet'", "1", r"no file matches \*\.parquet", ""),
        ("-i nothing_here", "1", "there is no such variable", "write ./nothing_here"),
        ("-i kpet", "1", "there is no such variable", "Did you mean kept? For a file of that name write ./kpet."),
        ("-i some_rows", "1", "there is no such variable", "The folder ./some_rows is there: -i ./some_rows sends it."),
        ("-i some_cells", "1", "there is no such variable", "The file ./some_cells.csv is there: -i ./some_cells.csv sends it."),
        ("-i prices", "1", "there is no such variable", "Define it first. For a file of that name write ./prices."),
        ("-i plain,huge.x", "1", "there is no file plain,huge.x", "-i plain -i huge.x"),
        ("--env-file missing.env", "1", "there is no file missing.env", ""),
        ("--env-file bad.env", "1", "begins with BACALHAU_", ""),
        ("--files plain", "1", "this is a file and not a folder", "Name a folder"),
        ("--files /proc/here", "1", "nothing can be written to /proc", "Name another folder"),
        ("--save /nowhere/spec.yaml", "1", "can't be written", ""),
        # an unsendable variable
        ("-i lock", "1", "The input 'lock' can't be sent: lock is of type _thread.lock", "Send plain data"),
        ("-i lock --lang bash", "1", "can't be written as JSON", "Other languages get JSON"),
        # packages
        ("--pip 'numpy,pandas'", "1", "--pip: 'numpy,pandas' is no package", "with spaces between them"),
        ("--pip ./a.whl", "1", "is a path of this machine", "-i ./FOLDER"),
        ("--pip 'a@https://me:word@example.org/a.whl'", "1", "the address of a holds a password", "pip's own configuration"),
        ("-r missing.txt", "1", "--requirements: missing.txt can't be read", ""),
        ("-r index.txt", "1", "--requirements index.txt, line 2: --index-url can't go with the job", "configured for pip itself"),
        ("--pip numpy --network none", "1", "--network none can't be kept", "gets no network"),
        ("--pip numpy --lang bash", "1", "--pip has no effect: it installs Python packages, and this cell is bash", "--image"),
        ("-r index.txt --lang javascript", "1", "--requirements has no effect", "--image"),
        ("", "# /// script\n# dependencies = 3\n# ///\n1", "dependencies must be a list of texts", ""),
        ("", "# /// script\n# requires-python = '<3'\n# ///\n1", "asks for Python <3, and the cell would run with", "--image"),
        # a language, a cell
        ("--lang cobol", "1", "there is no language 'cobol'", "python, javascript, typescript, bash"),
        ("--lang js", "1", "there is no language 'js'", "Did you mean javascript?"),
        ("", "   ", "The cell is empty", "Write the code"),
        ("", "x = = 1", "SyntaxError in the cell, line 1", "= = 1"),
        ("", "def f():\nreturn 1", "IndentationError in the cell, line 2", ""),
        ("", "%timeit 1", "the magic %timeit can't run in a job", "Run it in a cell of its own"),
        ("", "x = !ls", "a line with ! can't run in a job", "subprocess"),
        ("", "kept?", "help for the notebook", "Take the line out"),
        # more than the machine has, or this executor keeps
        ("--gpu 1", "1", "1 × GPU on one node is wanted", "BACALHAU_API_URL"),
        ("--memory 900TB", "1", "this machine has", "Ask for at most"),
        ("--cpu 9000", "1", "this machine has", "Ask for at most"),
        ("--disk 900TB", "1", "this machine has", "Ask for at most"),
        ("--network http --domain example.org", "1", "no gateway that filters by domain", "--network none or full"),
        ("--constraints region=eu", "1", "its labels don't meet region = eu", "--runtime bacalhau"),
        ("--runtime bacalhau", "1", "no endpoint is configured", "BACALHAU_API_URL"),
        # options without an effect here
        ("--as json", "1", "--as has no effect", "Use -o to name variables"),
        ("--network http", "1", "http reaches only the domains given", "--domain"),
        ("--domain example.org", "1", "--domain has no effect: the network is none", "--network http"),
        ("--gpu-vendor amd", "1", "--gpu-vendor has no effect: no GPU is asked for", "--gpu 1"),
        ("--fallback --runtime local", "1", "runs locally anyway", ""),
        ("--bg --no-raise-error", "1", "--no-raise-error has no effect: a job in the background raises where it is waited for", "job.error"),
        ("-i auto --lang bash", "1", "-i auto reads Python cells only", "Name the variables"),
        ("-o kept --stdout kept", "1", "--output binds the same name", "its own variable"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["", "--bg "])
def test_here(shell: Kernel, way: str, line: str, body: str, said: str, hint: str) -> None:
    """On the local node, waiting or in the background: one error, and the node, the ledger and the namespace are as before."""
    refused(shell, way * ("--bg" not in line) + line, body, said, hint)


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("-i huge", r"The job is too big to send: .* The biggest inputs: huge \(2 MB\)", "send a smaller sample"),
        ("--memory 900GB", "its biggest node has 64GB", "Ask for at most 64GB"),
        ("--cpu 17", "its biggest node has 16", "Ask for at most 16"),
        ("--gpu 3", "3 × GPU on one node is wanted, and its nodes have: .*A100", ""),
        ("--gpu H100:1", "1 × H100 on one node is wanted", ""),
        ("--gpu 1 --gpu-vendor intel", "1 × intel GPU on one node is wanted", ""),
    ],
)
def test_on_a_cluster(shell: Kernel, cluster: Cluster, line: str, said: str, hint: str) -> None:
    """What a cluster can't take is refused before the PUT, by what its nodes report."""
    shell.run(f"%bacalhau config api_url={cluster.url}")
    before = len(cluster.sent)
    ran = shell.run(f"%%bacalhau {line}\n1")
    shell.run("%bacalhau config api_url=")
    assert ran.error is not None
    assert re.search(said, ran.text), ran.text
    assert hint in ran.text
    assert len(cluster.sent) == before


def test_an_endpoint_that_does_not_answer(shell: Kernel) -> None:
    """A configured endpoint that does not answer is an error that names it; the cell never runs here in secret."""
    shell.run("%bacalhau config api_url=http://127.0.0.1:9")
    try:
        refused_text = shell.run("%%bacalhau\nopen('/tmp/ran-here', 'w')").text
        assert "http://127.0.0.1:9 can't be reached" in refused_text
        assert "--fallback" in refused_text
        assert "Traceback" not in refused_text
        here = shell.run("%%bacalhau --fallback\n6 * 7")
        assert here.value == "42"
        later = shell.run("%%bacalhau --fallback --bg --job later\n6 * 7")
        assert shell.run("later.result()").value == "42"
        for ran in (here, later):
            (trace,) = ran.outputs[0]["content"]["metadata"]["bacalhau"]["notices"]
            assert trace == "Ran here instead: the cell could not be sent to Bacalhau."
    finally:
        shell.run("%bacalhau config api_url=")


def test_a_language_whose_program_is_not_here(shell: Kernel, place: Path) -> None:
    """A configured language runs by its program; where that is missing, it is refused before anything is sent."""
    tables = {"perl": "perl", "nowhere": "no-such-program"}
    text = "".join(
        f'[tool.bacalhau-magic.languages.{name}]\nimage = "x"\ncommand = "{program}"\nfile = "cell.x"\n' for name, program in tables.items()
    )
    (place / "pyproject.toml").write_text(text)
    shell.run("%bacalhau config timeout=1m")  # read again
    assert shell.run('%%bacalhau --lang perl -- two\nprint "[1, $ARGV[0]2]" =~ s/two//r;').value == "[1, 2]"
    refused(shell, "--lang nowhere", "1", "nowhere can't run on the local node: no-such-program was not found on this machine", "")
    (place / "pyproject.toml").unlink()
    shell.run("%bacalhau config timeout=")
