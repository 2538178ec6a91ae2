"""Secrets in what a cell writes, in every wrapper as a real process: taken out plain and encoded, wherever pieces are cut."""

import base64
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic.remote import redaction

sys.path.insert(0, str(Path(__file__).parent))
from test_wrappers import WRAPPED

SECRET = "p/w d+é&'x\"\\9-Zq7"
MARK = redaction.MARK


def encoded(secret):
    """The forms that programs of this world give a text."""
    raw = secret.encode()
    yield from (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1], html.escape(secret))
    yield from (urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret))
    yield from (
        re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(secret, safe="")),
        urllib.parse.quote(secret, safe="!~*'()"),
        raw.hex(),
        raw.hex().upper(),
    )
    for before in (b"", b"u:", b"us:", b"use:"):
        for after in (b"", b"!", b"!!"):
            yield base64.b64encode(before + raw + after).decode()
            yield base64.urlsafe_b64encode(before + raw + after).decode()


def survives(secret, text):
    """What of a secret a reader of the text would find: the longest piece of it that a form leaves, in characters."""
    return [form for form in encoded(secret) if form in text]


@pytest.mark.parametrize("text", [pytest.param(form, id=str(number)) for number, form in enumerate(encoded(SECRET))])
def test_every_form_goes(text):
    """Plain, JSON, repr, HTML, percent, hex and base64 forms are taken out, and what stands around them stays."""
    redactor = redaction.Redactor({"TOKEN": SECRET})
    clean = redactor.text(f"before {text} after")
    assert MARK in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert len(clean.replace(MARK, "")) <= len("before  after") + 10  # base64 of a neighbour's bytes
    assert survives(SECRET, clean) == []


@given(
    before=st.text("ab0pé", max_size=12), after=st.text("ab0pé", max_size=12), cuts=st.lists(st.integers(0, 60)), form=st.integers(0, 15)
)
def test_cuts_do_not_matter(before, after, cuts, form):
    """A stream that comes in any pieces gives what it gives in one."""
    redactor = redaction.Redactor({"TOKEN": SECRET, "OTHER": "p/w d", "SAME": "aaaa"})
    data = (before + list(encoded(SECRET))[form] + after).encode()
    stream, edges = redaction.Stream(redactor), sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [stream.feed(data[start:end]) for start, end in itertools.pairwise(edges)]
    assert b"".join([*pieces, stream.feed(b"", last=True)]) == redactor.data(data)
    assert survives(SECRET, redactor.data(data).decode()) == []


@given(st.lists(st.binary(max_size=9)))
def test_what_is_no_secret_passes(pieces):
    """Bytes without a secret come out as they went in."""
    stream = redaction.Stream(redaction.Redactor({"TOKEN": "never-there-0123456789"}))
    assert b"".join([*map(stream.feed, pieces), stream.feed(b"", last=True)]) == b"".join(pieces)


def test_one_secret_begins_another():
    """A short secret that begins a longer one does not let the longer one's rest through."""
    stream = redaction.Stream(redaction.Redactor({"SHORT": "token", "LONG": "token-of-the-other"}))
    assert stream.feed(b"token").decode() == ""
    assert (stream.feed(b"-of-the-") + stream.feed(b"other.")).decode() == f"{MARK}."


def test_a_long_run_of_one_secret_is_not_kept_back():
    """A stream that is nothing but beginnings of a secret is masked as it comes, within bounded memory."""
    stream = redaction.Stream(redaction.Redactor({"SAME": "aaaaaaaa"}))
    for _ in range(1000):
        stream.feed(b"a" * 100)
        assert len(stream._held) < 20


def test_lines_of_a_key():
    """A key of several lines is found by its lines as well."""
    key = "-----BEGIN-----\n" + "QUJDREVGR0g1234567890\n" * 3 + "-----END-----\n"
    clean = redaction.Redactor({"KEY": key}).text("> QUJDREVGR0g1234567890\n" + json.dumps(key))
    assert "QUJDREVGR0g" not in clean


def test_no_value_in_a_repr():
    """A redactor shows names and no value."""
    assert repr(redaction.Redactor({"TOKEN": SECRET})) == "Redactor(TOKEN)"


# Every wrapper

PRINTS = {
    "python": "import os, sys, base64, time\ns = os.environ['TOKEN']\nos.write(1, b'begin ')\nfor c in s.encode(): os.write(1, bytes([c]))\n"
    "print(); print(base64.b64encode(b'user:' + s.encode()).decode()); print('[' + s + ']', file=sys.stderr); os.write(1, b'last ' + s[:5].encode())",
    "javascript": "const s = process.env.TOKEN\nprocess.stdout.write('begin ')\nfor (const c of Buffer.from(s)) process.stdout.write(Buffer.from([c]))\n"
    "console.log(); console.log(Buffer.from('user:' + s).toString('base64')); console.error('[' + s + ']'); process.stdout.write('last ' + s.slice(0, 5))",
    "bash": 'printf \'begin \'; printf %s "$TOKEN"; echo; printf \'user:%s\' "$TOKEN" | base64 -w0; echo; echo "[$TOKEN]" >&2; printf \'last %s\' "${TOKEN:0:5}"',
}
PRINTS["typescript"] = "const n: number = 1\n" + PRINTS["javascript"]


WITH_SED = [item for item in WRAPPED if item.values[1][0] != "busybox"]
"""Busybox's own sed drops what follows a NUL."""


@pytest.mark.parametrize(("language", "command"), WITH_SED)
def test_output(job, language, command):
    """What a cell prints of a secret, byte by byte or encoded, is in no stream and in no result; the rest is exact."""
    run = job(PRINTS[language], language, command_line=command, secrets=["TOKEN"], env={"TOKEN": SECRET, "LANG": "C.UTF-8"})
    assert (run.code, run.problem) == (0, ""), run.stderr
    text = run.bundle.stdout.decode()
    assert text == run.shown
    assert text.startswith(f"begin {MARK}\n")
    assert text.endswith(f"\nlast {SECRET[:5]}")
    assert MARK in text.split("\n")[1]
    assert run.stderr.decode().strip() == run.bundle.stderr.decode().strip() == f"[{MARK}]"
    for place in (run.raw.decode(), run.stderr.decode(), text, json.dumps(run.bundle.header)):
        assert survives(SECRET, place) == []
    assert run.leftovers == []


THROWS = {
    "python": "import os\nraise ValueError('no ' + os.environ['TOKEN'])",
    "javascript": "throw new Error('no ' + process.env.TOKEN)",
}
THROWS["typescript"] = THROWS["javascript"]


@pytest.mark.parametrize(("language", "command"), [item for item in WRAPPED if item.values[0] != "bash"])
def test_error(job, language, command):
    """An error's message and traceback come without the secret."""
    run = job(THROWS[language], language, command_line=command, secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert run.bundle.outcome == "error"
    assert run.bundle.error["evalue"] == f"no {MARK}"
    assert f"no {MARK}" in run.bundle.error["traceback"]
    assert survives(SECRET, json.dumps(run.bundle.header, ensure_ascii=False)) == []


@pytest.mark.parametrize(("language", "command"), WITH_SED)
def test_any_bytes_pass(job, language, command):
    """With secrets, too, every other byte that a cell prints comes back."""
    codes = {
        "python": "import os\nos.write(1, bytes(range(256)) * 3)",
        "javascript": "process.stdout.write(Buffer.from([...Array(768).keys()].map((n) => n % 256)))",
        "bash": 'for _ in 1 2 3; do for n in {0..255}; do printf "\\\\$(printf %03o $n)"; done; done',
    }
    codes["typescript"] = codes["javascript"]
    run = job(codes[language], language, command_line=command, secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert (run.code, run.problem) == (0, ""), run.stderr
    assert run.bundle.stdout == bytes(range(256)) * 3


@pytest.mark.parametrize(
    "what",
    ["os.environ['TOKEN']", "{'a': [os.environ['TOKEN']]}", "os.environ['TOKEN'].encode()", "('x', quote(os.environ['TOKEN'], safe=''))"],
)
def test_a_value_that_holds_a_secret_stays(job, what):
    """A value that holds a secret is not sent, says so, and is shown without it; so is a wanted name."""
    code = f"import os\nfrom urllib.parse import quote\nx = {what}\nos.environ['TOKEN'] = 'changed'\nx"
    run = job(code, secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert "value" not in run.bundle.parts
    assert "holds the secret TOKEN, which stays in the job" in run.bundle.unsendable[""]
    assert MARK in run.bundle.mime["text/plain"]
    named = job(code, secrets=["TOKEN"], env={"TOKEN": SECRET}, outputs=["x"], value=False)
    assert "holds the secret TOKEN" in named.bundle.unsendable["x"]
    for done in (run, named):
        assert survives(SECRET, repr([bytes(part) for part in done.bundle.parts.values()])) == []


def test_a_value_of_characters_in_an_array(job):
    """A numpy array of texts that holds a secret is not sent either."""
    code = "import os, numpy\nnumpy.array([os.environ['TOKEN']])"
    run = job(code, command_line=[sys.executable, "-I", "-u"], secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert "holds the secret TOKEN" in run.bundle.unsendable[""], run.bundle.error


def test_a_shell_without_the_tools_does_not_run(job, tmp_path):
    """Where the shell's wrapper can't take secrets out, the cell does not run, and why is said."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "dirname", "mkdir", "ln", "rm", "sleep", "setsid", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    run = job("echo hi", "bash", path=str(tools), secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert (run.code, run.raw) == (70, b"")
    assert b"the secrets can't be kept out of the log here" in run.stderr
    assert run.leftovers == []


@pytest.mark.busybox
def test_a_shell_with_another_sed_does_not_run(job, tmp_path):
    """Where sed is one that can't pass all bytes on at once, as busybox's own, the cell does not run either."""
    (tmp_path / "sed").symlink_to(shutil.which("busybox"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    run = job("echo hi", "bash", path=path, secrets=["TOKEN"], env={"TOKEN": SECRET})
    assert (run.code, run.raw, run.leftovers) == (70, b"", [])
    assert b"GNU sed" in run.stderr


def test_a_shell_shows_lines_as_they_come(laid_out, tmp_path):
    """With secrets a Bash cell's line is in the log when it was printed, not at the cell's end."""
    own = laid_out(tmp_path / "job", 'echo "first $TOKEN"; read -r _ <go', "bash", {}, secrets=["TOKEN"])
    go = tmp_path / "go"
    os.mkfifo(go)
    (own / "cell.sh").write_text(f'echo "first $TOKEN"; read -r _ <{go}')
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "TOKEN": SECRET}
    with subprocess.Popen(["sh", str(own / "bootstrap.sh"), str(tmp_path / "out")], stdout=subprocess.PIPE, env=env) as process:
        process.stdout.readline()  # the first packet
        assert process.stdout.readline().decode() == f"first {MARK}\n"
        go.write_text("on\n")
        assert process.wait(30) == 0
