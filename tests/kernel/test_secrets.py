"""Secrets in a real kernel, planted and looked for: they reach the job, and nothing that is shown, kept or sent."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from cluster import Cluster
from kernels import Kernel, Ran, start
from nbclient import NotebookClient
from planted import SECRET, forms, found_below, seen

from bacalhau_magic.node import _daemon

MARK = "••••"


@pytest.fixture(scope="module")
def kernel(place: Path) -> Iterator[Kernel]:
    """A kernel that has the secret in its environment."""
    made = start(live=False, folder=place, PLANTED_TOKEN=SECRET, TINY="abc")
    yield made
    made.stop()


def everything(ran: Ran) -> str:
    """All that a cell sent to the front end, whatever its kind."""
    return json.dumps(ran.outputs, ensure_ascii=False) + json.dumps(ran.reply, ensure_ascii=False) + ran.text


def test_a_secret_reaches_the_job_and_nothing_else(kernel: Kernel) -> None:
    """The cell has the value; its spec, in a dry run and as the node has it, has the name alone."""
    ran = kernel.run("%%bacalhau --secret PLANTED_TOKEN\nimport os\nlen(os.environ['PLANTED_TOKEN']), os.environ['PLANTED_TOKEN'][:3]")
    assert ran.value == f"({len(SECRET)}, 's3c')", ran.text
    for line in ("%%bacalhau -n --secret PLANTED_TOKEN\n1", "%bacalhau spec last"):
        shown = kernel.run(line)
        assert "bacalhau-magic/secrets: PLANTED_TOKEN" in shown.text
        assert seen(everything(shown)) == []
    assert "KeyError" in kernel.run("%%bacalhau\nimport os\nos.environ['PLANTED_TOKEN']").text


PY = "import os, sys, base64, json, urllib.parse\ns = os.environ['PLANTED_TOKEN']\n"
ALL = "print(s, [s], json.dumps(s), urllib.parse.quote(s, safe=''), base64.b64encode(b'me:' + s.encode()).decode(), s.encode().hex(), flush=True)\n"
JS = "const s = process.env.PLANTED_TOKEN\nconsole.log(s, JSON.stringify(s), encodeURIComponent(s), Buffer.from('me:' + s).toString('base64'))\n"
SH = 'echo "$PLANTED_TOKEN"; printf \'me:%s\' "$PLANTED_TOKEN" | base64 -w0; echo\n'

CELLS = {
    "prints": ("", PY + ALL + "sys.stderr.write('[' + s + ']')\n1"),
    "byte by byte": ("", PY + "for b in s.encode(): os.write(1, bytes([b]))\n1"),
    "its value": ("", PY + "{'key': [s]}"),
    "its bytes": ("", PY + "s.encode()"),
    "a repr": ("", PY + "class Odd:\n    def __repr__(self): return 'Odd ' + s\nOdd()"),
    "a name": ("-o got,fine", PY + "got, fine = s, 1"),
    "stdout in a variable": ("--stdout said", PY + ALL),
    "raises": ("", PY + "raise RuntimeError('with ' + s)"),
    "raises a chain": ("", PY + "try:\n    {}[s]\nexcept KeyError as e:\n    e.add_note('note ' + s)\n    raise ValueError(s) from e"),
    "a group": ("", PY + "raise ExceptionGroup('of ' + s, [KeyError(s), OSError(2, 'no', s)])"),
    "its code": ("", PY + "sys.exit('over: ' + s)"),
    "no raise": ("--no-raise-error", PY + "raise RuntimeError(s)"),
    "time": ("--timeout 4s", PY + ALL + "import time; time.sleep(60)"),
    "killed": ("", PY + ALL + "os.kill(os.getpid(), 9)"),
    "displays": ("", PY + "class Odd:\n    def _repr_html_(self): return '<b>' + s + '</b>'\ndisplay(s, Odd()); display({'text/markdown': s, 'application/json': {'k': [s]}}, raw=True)\nOdd()"),
    "too big": ("--max-result 1KB --files kept", PY + ALL + "[s] * 1000"),
    "only pickled": ("--files kept -o odd", PY + ALL + "class Odd: pass\nodd = Odd()\nodd.key = s"),
    "a child": ("", PY + "import subprocess\nsubprocess.run(['sh', '-c', 'echo $PLANTED_TOKEN; env']);"),
    "bash": ("--lang bash", SH + "env; echo \"e $PLANTED_TOKEN\" >&2"),
    "bash, a name": ("--lang bash -o said", SH),
    "bash, failing": ("--lang bash", SH + "set -x; : \"$PLANTED_TOKEN\"; ls \"/$PLANTED_TOKEN\""),
    "javascript": ("--lang javascript", JS + "console.error(s)"),
    "javascript, its value": ("--lang javascript", "console.log(JSON.stringify({s: process.env.PLANTED_TOKEN}))"),
    "javascript, throwing": ("--lang javascript", JS + "throw new TypeError('with ' + s, {cause: new Error(s)})"),
    "typescript, throwing": ("--lang typescript", JS + "const n: number = 1; throw new RangeError(s)"),
}  # fmt: skip

LOOK = (
    "%bacalhau show last", "%bacalhau logs last", "%bacalhau spec last", "%bacalhau jobs --mine", "%bacalhau jobs --all", "%bacalhau",
    "%bacalhau attach last", "%bacalhau get last", "_bacalhau", "_bacalhau.error", "_bacalhau.stdout, _bacalhau.stderr, _bacalhau.outputs",
    "list(_bacalhau.logs())", "_bacalhau.events, _bacalhau.snapshot, _bacalhau.request, _bacalhau.route, _bacalhau.ref",
    "_bacalhau.known_result, vars(_bacalhau.known_result.record.job) if _bacalhau.known_result else 0, _bacalhau.known_result.record.executions",
    "[(type(e).__name__, str(e), repr(e), vars(e), e.args) for e in (_bacalhau.error,) if e]", "vars(_bacalhau)",
    "[{k: v for k, v in globals().items() if k in ('got', 'fine', 'said', '_', '__')}]",
    "[s.to_json() for s in kept.get_finished_spans()]",
)  # fmt: skip

TRACES = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider = TracerProvider(); provider.add_span_processor(SimpleSpanProcessor(kept)); trace.set_tracer_provider(provider)
"""


@pytest.mark.parametrize("name", CELLS)
def test_nothing_shows_it(kernel: Kernel, name: str) -> None:
    """Whatever a cell does with its secret, no output, error, repr, attribute, log, spec or trace has it, plain or encoded."""
    if name == next(iter(CELLS)):
        assert kernel.run(TRACES).error is None
    line, cell = CELLS[name]
    ran = kernel.run(f"%%bacalhau --secret PLANTED_TOKEN {line}\n{cell}")
    assert seen(everything(ran)) == []
    for look in LOOK:
        assert seen(everything(kernel.run(look))) == [], look
    marks = everything(ran) + everything(kernel.run("_bacalhau.stdout, _bacalhau.stderr, _bacalhau.error"))
    assert MARK in marks or "holds the secret PLANTED_TOKEN" in marks, "the cell did not use its secret"


def test_what_says_that_a_value_stays(kernel: Kernel) -> None:
    """A value that holds a secret is shown without it and says why it is none; a wanted name is an error, and the others are kept."""
    ran = kernel.run("%%bacalhau --secret PLANTED_TOKEN\nimport os\n['key', os.environ['PLANTED_TOKEN']]")
    assert f"['key', '{MARK}']" in ran.text, ran.text
    said = kernel.run("[e.sentence for e in _bacalhau.events if type(e).__name__ == 'Noticed']").text
    assert "No value came back, only its text: the cell's value is of type list, and holds the secret PLANTED_TOKEN" in said
    ran = kernel.run("%%bacalhau --secret PLANTED_TOKEN -o got,fine\nimport os\ngot, fine = os.environ['PLANTED_TOKEN'], 5")
    assert ran.error is not None
    assert "'got' can't be sent back" in ran.error[1]
    assert kernel.run("_bacalhau.outputs").value == "{'fine': 5}"


def test_background_stop_and_rerun(kernel: Kernel) -> None:
    """In the background, stopped, and sent again: the rerun takes the secret anew, and is refused where it is gone."""
    cell = PY + ALL + "import time; time.sleep(60)"
    assert seen(everything(kernel.run(f"%%bacalhau --bg --job slow --secret PLANTED_TOKEN\n{cell}"))) == []
    kernel.run("next(slow.logs(follow=True))")
    assert seen(everything(kernel.run("%bacalhau stop slow"))) == []
    kernel.run("%bacalhau wait slow")
    for look in ("slow.error, vars(slow.error)", "slow.stdout", "%bacalhau show slow", "%bacalhau logs slow", "vars(slow)"):
        assert seen(everything(kernel.run(look))) == [], look
    quick = f"%%bacalhau --bg --job quick --secret PLANTED_TOKEN\n{PY}{ALL}len(s)"
    assert kernel.run(quick).error is None
    assert kernel.run("quick.result()").value == str(len(SECRET))
    again = kernel.run("again = get_ipython().run_line_magic('bacalhau', 'rerun quick')\nagain.result()")
    assert again.value == str(len(SECRET)), again.text
    assert seen(everything(kernel.run("again.stdout, again.events, vars(again)"))) == []
    kernel.run("import os\nheld = os.environ.pop('PLANTED_TOKEN')")
    refused = kernel.run("%bacalhau rerun quick")
    kernel.run("os.environ['PLANTED_TOKEN'] = held")
    assert "--secret PLANTED_TOKEN: there is no such variable" in refused.text, refused.text


def test_attach_from_another_kernel(kernel: Kernel, place: Path) -> None:
    """Another kernel, which has no such secret, sees what the job wrote without it."""
    job = kernel.run(f"%%bacalhau --bg --job far --secret PLANTED_TOKEN\n{PY}{ALL}len(s)") and kernel.run("far.result(), far.id").value
    identity = re.findall(r"j-[0-9a-f-]{36}", job or "")[0]
    other = start(live=False, folder=place)
    try:
        for look in (
            f"%bacalhau attach {identity}",
            f"%bacalhau logs {identity}",
            f"%bacalhau show {identity}",
            f"%bacalhau spec {identity}",
        ):
            ran = other.run(look)
            assert ran.error is None, ran.text
            assert seen(everything(ran)) == [], look
        assert "there is no such variable" in other.run(f"%bacalhau rerun {identity}").text
    finally:
        other.stop()


_KEPT = ("prints", "its value", "a name", "raises a chain", "displays", "bash", "javascript, throwing")
"""Cells whose results lie in the node's logs."""


def _unix(process: psutil.Process) -> list[Any]:
    try:
        return list(process.net_connections("unix"))
    except psutil.Error:
        return []


def test_no_file_and_no_process_of_the_node_has_it(kernel: Kernel) -> None:
    """No file of this user's folders has it - the node's data and logs, results opened, ledger, history - and the node's process does not either."""
    for line, cell in (CELLS[name] for name in _KEPT):
        kernel.run(f"%%bacalhau --secret PLANTED_TOKEN {line}\n{cell}")
    home = Path(os.environ["HOME"]).parent
    bad, files, results = found_below(home)
    assert bad == []
    assert results >= len(_KEPT), files
    node = _daemon.running()
    assert node is not None
    socket = node.socket
    nodes = [process for process in psutil.process_iter() if socket in {connection.laddr for connection in _unix(process)}]
    assert nodes
    for process in nodes:
        assert SECRET not in process.environ().values()
        assert seen(" ".join(process.cmdline())) == []


def test_executed_notebook(tmp_path: Path) -> None:
    """A notebook that nbclient executed has it in no output and no metadata."""
    cells = ["%load_ext bacalhau_magic"] + [f"%%bacalhau --secret PLANTED_TOKEN {line}\n{cell}" for line, cell in CELLS.values()]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PLANTED_TOKEN": SECRET})
    text = nbformat.writes(book)
    assert seen(text) == []
    assert text.count("\\u2022\\u2022") + text.count("••") > 20


def test_a_recording_has_none(kernel: Kernel, place: Path) -> None:
    """A cassette of a cell with a secret has neither its value nor anything made of it, and replays without it."""
    cell = f"%%bacalhau --secret PLANTED_TOKEN\n{PY}{ALL}len(s)"
    kernel.run("%bacalhau record told.yaml")
    assert kernel.run(cell).value == str(len(SECRET))
    kernel.run("held = os.environ.pop('PLANTED_TOKEN')\n%bacalhau replay told.yaml")
    again = kernel.run(cell)
    kernel.run("os.environ['PLANTED_TOKEN'] = held\n%bacalhau live")
    assert again.value == str(len(SECRET)), again.text
    assert seen((place / "told.yaml").read_bytes()) == []
    assert found_below(place)[0] == []


# Refusals


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("--secret NOT_HERE", "--secret NOT_HERE: there is no such variable", "keyring set bacalhau-magic NOT_HERE"),
        ("--secret NOT_HERE", "no such entry in the keyring", "or here: import os, getpass; os.environ['NOT_HERE'] = getpass.getpass()"),
        ("--secret TINY", "has fewer than 4 characters", "--env"),
        ("--secret PLANTED_TOKEN=abc", "expected a name alone, not PLANTED_TOKEN=…", ""),
        ("--secret 1x", "expected an environment variable's name", ""),
        ("--secret BACALHAU_API_KEY", "which Bacalhau keeps for itself", ""),
        ("--secret PLANTED_TOKEN -e PLANTED_TOKEN=x", "--env sets it too", ""),
        ("--secret PLANTED_TOKEN --secret-in-spec", "secrets stay out of the spec there", "Leave it out"),
        ("--secret PLANTED_TOKEN --secret-in-spec --save spec.yaml", "--save would write the secrets into a file", ""),
        ("--secret-in-spec", "there is no secret", "Add --secret NAME"),
    ],
)
def test_refused(kernel: Kernel, line: str, said: str, hint: str) -> None:
    """What can't be a secret is refused before anything is sent, and its value is not shown."""
    before = kernel.run("len(get_ipython().run_line_magic('bacalhau', 'jobs --mine'))").value
    ran = kernel.run(f"%%bacalhau {line}\n1")
    assert ran.error is not None
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    assert said in text, text
    assert hint in text, text
    assert "abc" not in text.replace("=abc", "", 1) if "TINY" in line else True
    assert kernel.run("len(get_ipython().run_line_magic('bacalhau', 'jobs --mine'))").value == before


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("-i holds", "1", "The input holds holds the value of PLANTED_TOKEN"),
        ("-i deep", "1", "The input deep holds the value of PLANTED_TOKEN"),
        (f"-e {shlex.quote(f'OTHER={SECRET}')}", "1", "--env OTHER holds the value of PLANTED_TOKEN"),
        (f"-- {shlex.quote(SECRET)}", "1", "The argument 1 holds the value of PLANTED_TOKEN"),
        ("", f"x = {SECRET!r}", "The cell's own text holds the value of PLANTED_TOKEN"),
        ("--save spec.yaml -i holds", "1", "The input holds holds the value of PLANTED_TOKEN"),
    ],
)
def test_its_value_goes_by_no_other_way(kernel: Kernel, place: Path, line: str, cell: str, said: str) -> None:
    """A cell that would carry the value in its spec is refused, and the refusal does not show it."""
    kernel.run("import base64, os; holds = 'Bearer ' + os.environ['PLANTED_TOKEN']; deep = [{'a': base64.b64encode(holds.encode())}]")
    ran = kernel.run(f"%%bacalhau --secret PLANTED_TOKEN {line}\n{cell}")
    assert ran.error is not None
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    assert said in text, text
    assert SECRET not in text.replace(line, "").replace(cell, "")
    assert not (place / "spec.yaml").exists()


def test_a_project_names_no_secret(kernel: Kernel, place: Path) -> None:
    """Neither a project's file nor a variable of configuration can ask for a secret."""
    (place / "pyproject.toml").write_text('[tool.bacalhau-magic]\nsecret = ["PLANTED_TOKEN"]\n')
    other = start(live=False, folder=place)
    try:
        assert "secret can't be configured" in other.run("%%bacalhau\n1").text
    finally:
        other.stop()
        (place / "pyproject.toml").unlink()
    assert "secret can't be configured" in kernel.run("%bacalhau config secret=PLANTED_TOKEN").text


def test_env_with_such_a_name_is_warned_about_once(place: Path) -> None:
    """The first --env with a name like TOKEN says who can read it and names --secret; it is said once."""
    other = start(live=False, folder=place)
    notices = "[e.sentence for e in _bacalhau.events if type(e).__name__ == 'Noticed'] + list(_bacalhau.route.notices)"
    try:
        other.run("%%bacalhau -e COLOUR=blue\n1")
        assert "--secret" not in other.run(notices).text
        other.run("%%bacalhau -e API_TOKEN=x\n1")
        assert "reads API_TOKEN: --env puts it into the spec in clear. Use --secret API_TOKEN." in other.run(notices).text
        other.run("%%bacalhau -e API_TOKEN=x\n1")
        assert "--secret" not in other.run(notices).text
    finally:
        other.stop()


# The keyring

BACKEND = '''
import keyring.backend

class Kept(keyring.backend.KeyringBackend):
    """A keyring of one entry."""

    priority = 1

    def get_password(self, service, name):
        return "of-the-keyring-123" if (service, name) == ("bacalhau-magic", "KEPT_TOKEN") else None

    def set_password(self, service, name, password): ...
    def delete_password(self, service, name): ...
'''


def test_a_keyring_brings_it(tmp_path: Path) -> None:
    """A name that the environment has not comes from the keyring, service bacalhau-magic."""
    (tmp_path / "kept_keyring.py").write_text(BACKEND)
    other = start(live=False, folder=tmp_path, PYTHON_KEYRING_BACKEND="kept_keyring.Kept", PYTHONPATH=str(tmp_path))
    try:
        ran = other.run("%%bacalhau --secret KEPT_TOKEN\nimport os\nprint(os.environ['KEPT_TOKEN'])\nlen(os.environ['KEPT_TOKEN'])")
        assert (ran.value, "of-the-keyring" in ran.text) == ("18", False), ran.text
        assert "there is no such variable" in other.run("%%bacalhau --secret OTHER_TOKEN\n1").text
    finally:
        other.stop()


# Clusters


@pytest.fixture
def there(kernel: Kernel, cluster: Cluster) -> Iterator[Cluster]:
    """The scripted cluster, as the kernel's endpoint."""
    kernel.run(f"%bacalhau config api_url={cluster.url}")
    yield cluster
    kernel.run("%bacalhau config api_url=")


def _task(cluster: Cluster) -> dict[str, Any]:
    return dict(cluster.sent[-1]["Tasks"][0])


def test_a_cluster_uses_its_nodes_own(kernel: Kernel, there: Cluster) -> None:
    """A cluster of 1.6.4 or later is sent env:NAME and no value, also where this kernel has none."""
    ran = kernel.run("%%bacalhau -q --bg --secret PLANTED_TOKEN,ONLY_THERE\n1")
    assert ran.error is None, ran.text
    assert _task(there)["Env"] == {"PLANTED_TOKEN": "env:PLANTED_TOKEN", "ONLY_THERE": "env:ONLY_THERE"}
    assert _task(there)["Meta"]["bacalhau-magic/secrets"] == "PLANTED_TOKEN,ONLY_THERE"
    assert seen(json.dumps(there.sent, ensure_ascii=False)) == []
    assert "the node's own value is used" in kernel.run("_bacalhau.route.notices").text
    assert "servers want capital letters" in kernel.run("%%bacalhau --secret planted_token\n1").text


def test_in_clear_only_where_it_is_asked_for(kernel: Kernel, there: Cluster) -> None:
    """--secret-in-spec says who can read it, then sends the value; what is shown of that spec still has none."""
    ran = kernel.run("%%bacalhau -q --bg --secret PLANTED_TOKEN --secret-in-spec\n1")
    assert ran.error is None, ran.text
    assert f"PLANTED_TOKEN={SECRET}" in _task(there)["Engine"]["Params"]["EnvironmentVariables"]
    assert not _task(there).get("Env")
    events = kernel.run("[getattr(e, 'sentence', type(e).__name__) for e in _bacalhau.events]").text
    assert events.index("IN CLEAR, as --secret-in-spec asks") < events.index("Submitted")
    for look in ("%%bacalhau -n --secret PLANTED_TOKEN --secret-in-spec\n1", "%bacalhau show last", "_bacalhau.route, _bacalhau.events"):
        assert seen(everything(kernel.run(look))) == [], look
    assert f"PLANTED_TOKEN={MARK}" in kernel.run("%%bacalhau -n --secret PLANTED_TOKEN --secret-in-spec\n1").text


def test_an_older_cluster_is_refused(kernel: Kernel, cluster: Cluster) -> None:
    """A server before 1.6.4 can take no secret: that is said before anything is sent, with the way in clear."""
    older = Cluster()
    older.server.on("GET", "/agent/version", {"Major": "1", "Minor": "6", "GitVersion": "v1.6.3"})
    kernel.run(f"%bacalhau config api_url={older.url}")
    ran = kernel.run("%%bacalhau --secret PLANTED_TOKEN\n1")
    kernel.run("%bacalhau config api_url=")
    older.stop()
    assert "from 1.6.4 on, and its version is v1.6.3" in ran.text, ran.text
    assert "--secret-in-spec" in ran.text
    assert older.sent == []


def test_the_forms_are_many() -> None:
    """What is looked for is the secret in a dozen forms, each of which would be found."""
    assert len(forms()) > 10
    assert all(seen(f"x{form}y") for form in forms())
    assert seen("nothing here") == []
