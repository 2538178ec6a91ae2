"""Every verb of %bacalhau in a real kernel."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from kernels import Kernel


def value(shell: Kernel, line: str) -> str:
    """What the verb returns, as it is shown."""
    ran = shell.run(f"%bacalhau {line}")
    assert ran.error is None, ran.text
    return ran.value or ""


@pytest.fixture(scope="module", autouse=True)
def jobs(shell: Kernel) -> None:
    """A finished job, `done`, whose names are bound."""
    assert shell.run("%%bacalhau --name done -o d\nprint('hello')\nd = {'a': 1}").error is None
    shell.run("done = _bacalhau.id")


def test_status(shell: Kernel) -> None:
    """%bacalhau says where a cell would run and why, the endpoint, server, node, limits and my running jobs."""
    shell.run("%%bacalhau --bg --name sleeper\nimport time; time.sleep(60)")
    said = value(shell, "")
    shell.run("%bacalhau stop last")
    shell.run("_bacalhau.error")
    for line in (
        "runtime .*local, because no endpoint is configured",
        "endpoint .*none configured",
        "server version .*v1.9.3",
        "limits .*time: enforced",
    ):
        assert any(__import__("re").search(line, row) for row in said.split("\n")), said
    assert "my running jobs   sleeper (" in said
    shell.run("%bacalhau config api_url=http://127.0.0.1:9")
    assert "http://127.0.0.1:9 (from %bacalhau config api_url)" in value(shell, "")
    shell.run("%bacalhau config api_url=")


def test_tables_are_values(shell: Kernel) -> None:
    """Jobs and nodes are tables with a rich repr that iterate as dicts and become frames."""
    shell.run("table = get_ipython().run_line_magic('bacalhau', 'jobs')")
    assert shell.run("[row['name'] for row in table if row['job'] == done[:10]]").value == "['done']"
    assert shell.run("len(table) == len(table.to_pandas()) == len(list(table))").value == "True"
    assert shell.run("list(table.to_pandas().columns)").value == "['job', 'name', 'language', 'state', 'sent', 'endpoint']"
    assert shell.run("'<table>' in table._repr_html_()").value == "True"
    shell.run("%%bacalhau\n\n# which line\nsum(range(10)) + len('a cell whose first line is rather long')")
    assert (
        shell.run("[row['name'] for row in get_ipython().run_line_magic('bacalhau', 'jobs')][0]").value
        == '"sum(range(10)) + len(\'a cell whose firs…"'
    )
    assert "connected" in value(shell, "nodes")
    assert value(shell, "nodes --gpu") == "No node has a GPU."
    for scope in ("--mine", "--all"):
        assert (
            shell.run(
                f"any(row['job'] == done[:10] and row['state'] == 'completed' for row in get_ipython().run_line_magic('bacalhau', 'jobs {scope}'))"
            ).value
            == "True"
        )


def test_jobs_are_of_this_notebook(shell: Kernel) -> None:
    """Without a flag the jobs are this notebook's; another notebook's are among --mine."""
    shell.run("import os; os.environ['JPY_SESSION_NAME'] = 'other.ipynb'")
    assert value(shell, "jobs") == "No jobs were sent from this notebook. Others of yours: %bacalhau jobs --mine."
    assert "done" in value(shell, "jobs --mine")
    shell.run("del os.environ['JPY_SESSION_NAME']")
    assert "done" in value(shell, "jobs")


def test_show_explains(shell: Kernel) -> None:
    """show tells a job's state, and of a failed one why and what to do."""
    assert "It ended well." in shell.run("get_ipython().run_line_magic('bacalhau', 'show ' + done[:10])").value  # type: ignore[operator]
    shell.run("%%bacalhau --memory 100MB\nbytearray(10**9)")
    said = value(shell, "show last")
    assert "limit of 100 MB of memory" in said
    assert "--memory 400MB" in said


@pytest.mark.parametrize(
    ("cell", "state", "told"),
    [
        ("-o w\nq = 1", "completed", ["It ended well, but its result could not be had: The cell did not set 'w'", "Set it as a global"]),
        ("--as json --lang bash -o w\necho {", "completed", ["It ended well, but its result could not be had: The stdout is not JSON"]),
        (
            "--files held\nopen('outputs/a', 'w');",
            "completed",
            ["It ended well, but its files could not be had", "%bacalhau get last"],
        ),
        ("\n1/0", "failed", ["something went wrong: ZeroDivisionError: division by zero"]),
        (
            "--secret WORD\nimport os\nraise ValueError('\\x1b[31mit is ' + os.environ['WORD'])",
            "failed",
            ["wrong: ValueError: ", "it is ••"],
        ),
        ("--lang javascript\nnull.x", "failed", ["something went wrong: ", "TypeError"]),
        ("--lang bash\nexit 3", "failed", ["something went wrong: The cell ended with exit code 3"]),
    ],
)
def test_show_says_what_went_wrong_in_it_or_with_its_result(shell: Kernel, cell: str, state: str, told: list[str]) -> None:
    """Where this kernel has a result, show says which exception ended the cell, or why its result could not be had; never a secret."""
    shell.run(
        "import os, pathlib\nos.environ['WORD'] = 'the-word-6f1c'\npathlib.Path('held').mkdir(exist_ok=True)\npathlib.Path('held/a').write_text('mine')"
    )
    assert shell.run(f"%%bacalhau {cell}").error is not None
    said = value(shell, "show last")
    assert re.search(rf"state +{state}", said), said
    for words in told:
        assert words in said
    assert "the-word" not in said
    assert "\x1b" not in said
    assert "It ended well." not in said
    # Another kernel has no result of it.
    shell.run("from bacalhau_magic._session import session; session().jobs.clear(); session().started.clear(); session().last = None")
    said = value(shell, "show last")
    assert ("It ended well." if state == "completed" else "said that something went wrong.") in said


def test_show_of_an_older_job_gives_no_advice_about_the_last(shell: Kernel) -> None:
    """What an older job's error advised of `last` is not said of it any more."""
    shell.run("%%bacalhau -o w,q\nq = 1")
    assert "%bacalhau attach last -o q" in value(shell, "show last")
    shell.run("older = _bacalhau.id")
    shell.run("%%bacalhau\n1")
    said = value(shell, "show older")
    assert "could not be had: The cell did not set 'w'" in said
    assert "last" not in said


def test_a_job_by_id_prefix_variable_or_last(shell: Kernel) -> None:
    """JOB is an id, a unique beginning of one, a variable or `last`; anything else is refused by name."""
    shell.run("%%bacalhau --job named\n'by variable'")
    assert value(shell, "get named") == value(shell, "get last") == "'by variable'"
    for word in ("done", done_prefix(shell), str(shell.run("done").value).strip("'")):
        assert "name       done" in value(shell, f"show {word}"), word
    ran = shell.run("%bacalhau show j-nothing")
    assert ran.error is not None
    assert "No job 'j-nothing' is known here" in ran.error[1]


def done_prefix(shell: Kernel) -> str:
    return str(shell.run("done[:12]").value).strip("'")


def test_logs(shell: Kernel) -> None:
    """logs has what a job printed, without packets, also when another kernel sent it."""
    assert value(shell, "logs done") == "hello\n"
    shell.run("from bacalhau_magic._session import session; session().jobs.clear()")
    assert value(shell, "logs done") == "hello\n"


def test_wait_and_wait_for_all(shell: Kernel) -> None:
    """wait binds the names of one job; --all those of every job in the background."""
    shell.run("%%bacalhau --bg -o w\nw = 1")
    assert value(shell, "wait last") == ""
    assert shell.run("w").value == "1"
    shell.run("%bacalhau wait --all")  # what other tests left
    for name in ("w1", "w2"):
        shell.run(f"%%bacalhau --bg --name {name} -o {name}\nimport time; time.sleep(0.3); {name} = '{name}'")
    said = value(shell, "wait --all")
    assert "w1" in said
    assert "completed" in said
    assert shell.run("w1, w2").value == "('w1', 'w2')"


def test_wait_for_all_says_whom_it_cannot_ask(shell: Kernel) -> None:
    """wait --all names a job of an earlier kernel whose server can't be asked, and waits for the others."""
    row = "Row('r-gone', 'http://127.0.0.1:9', notebook=session().surroundings.notebook(), created=time.time(), name='gone')"
    shell.run("import time; from bacalhau_magic._session import session; from bacalhau_magic._ledger import Row")
    shell.run(f"session().ledger.begin({row}); session().ledger.sent('r-gone', 'j-00000000-0000-4000-8000-000000000000')")
    shell.run("%%bacalhau --bg -o there\nthere = 1")
    ran = shell.run("%bacalhau wait --all")
    said = ran.text
    assert ran.error is None
    shell.run("session().ledger.forget('r-gone')")
    assert "gone: not waited for, because it can't be asked about." in said
    assert "127.0.0.1:9" in said
    assert shell.run("there").value == "1"


def test_wait_raises_what_the_job_raised(shell: Kernel) -> None:
    """wait on a failed job raises its error, with the cell's own line."""
    shell.run("%%bacalhau --bg\nint('x')")
    ran = shell.run("%bacalhau wait last")
    assert ran.error is not None
    assert ran.error[0] == "RemoteCellError[ValueError]"
    assert "int('x')" in ran.text


def test_stop_a_running_job(shell: Kernel) -> None:
    """stop ends a running job on its node; its result says so, and a second stop that it is over."""
    shell.run("%%bacalhau --bg\nimport time; time.sleep(60)")
    until = time.monotonic() + 20
    while shell.run("_bacalhau.state").value != "'running'" and time.monotonic() < until:
        time.sleep(0.05)
    assert "is stopped" in value(shell, "stop last")
    ran = shell.run("_bacalhau.result(timeout=20)")
    assert ran.error == ("JobStoppedError", "The job was stopped from the notebook.")
    assert "is over already" in value(shell, "stop last")
    assert "stopped" in value(shell, "show last")
    assert value(shell, "logs last") == "(nothing was printed)"


STATE = "[row['state'] for row in get_ipython().run_line_magic('bacalhau', 'jobs')][0]"
SHOWN = "get_ipython().run_line_magic('bacalhau', 'show last').facts['state']"


@pytest.mark.bubblewrap
@pytest.mark.parametrize(
    ("line", "body", "listed", "shown", "why"),
    [
        ("--timeout 1s", "import time; time.sleep(30)", "timed out", "timed out", "ran longer than its time limit of 1.0 s"),
        ("--memory 100MB", "x = b'x' * 2_000_000_000; import time; time.sleep(30)", "out of memory", "failed", "at its limit of 100 MB"),
    ],
    ids=["time", "memory"],
)
def test_a_job_that_its_limits_ended_has_failed(shell: Kernel, line: str, body: str, listed: str, shown: str, why: str) -> None:
    """A job that used up its time or memory is no stopped and no completed one: list and description say what it was."""
    assert shell.run(f"%%bacalhau {line} --no-raise-error\n{body}").error is None
    assert shell.run(STATE).value == repr(listed)
    assert shell.run(SHOWN).value == repr(shown)
    assert why in value(shell, "show last")


def test_a_job_s_own_time_limit_is_known_later(live: Kernel) -> None:
    """After a restart a job that was cut off at its time limit is told with that limit, not with what is usual, and is listed as failed."""
    live.run("%%bacalhau --timeout 2s --bg\nimport time; time.sleep(30)")
    live.run("_bacalhau.error")
    live.restart()
    assert live.run(STATE).value == "'failed'"
    ran = live.run("%bacalhau attach last")
    assert ran.error is not None
    assert (ran.error[0], "its time limit of 2.0 s" in ran.error[1]) == ("JobTimedOutError", True)


def test_rerun(shell: Kernel) -> None:
    """rerun sends a job's spec again as a job of its own, inputs and all, however long they are."""
    shell.run("import os; long = os.urandom(200_000)")
    shell.run("%%bacalhau -i long -o n\nn = len(long)")
    shell.run("before = _bacalhau.id; n = None")
    assert value(shell, "rerun last") == "RemoteJob(python)"
    shell.run("%bacalhau wait last")
    assert shell.run("n").value == "200000"
    assert shell.run("get_ipython().run_line_magic('bacalhau', 'show last')['job'] != before").value == "True"


def test_get_binds_nothing(shell: Kernel) -> None:
    """get returns a finished job's value or names and leaves the namespace alone."""
    shell.run("d = 'mine'")
    assert value(shell, "get done") == "{'d': {'a': 1}}"
    assert shell.run("d").value == "'mine'"


def test_spec(shell: Kernel) -> None:
    """spec is the job's spec as YAML, the archive shortened to its size."""
    shell.run("text = str(get_ipython().run_line_magic('bacalhau', 'spec done'))")
    spec = yaml.safe_load(eval(shell.run("text").value or "''"))
    assert spec["Labels"]["bacalhau-magic.name"] == "done"
    url = spec["Tasks"][0]["InputSources"][0]["Source"]["Params"]["URL"]
    assert url.startswith("data:application/gzip;base64,… (")
    assert int(url.partition("(")[2].partition(" ")[0].replace(",", "")) > 10_000


def test_attach_binds_other_names(shell: Kernel) -> None:
    """attach -o binds the names given, whatever they hold, and sends nothing again."""
    shell.run("d = 'mine'")
    count = shell.run("len(get_ipython().run_line_magic('bacalhau', 'jobs'))").value
    assert value(shell, "attach done -o d") == ""
    assert shell.run("d").value == "{'a': 1}"
    assert shell.run("len(get_ipython().run_line_magic('bacalhau', 'jobs'))").value == count
    ran = shell.run("%bacalhau attach done -o gone")
    assert ran.error is not None
    assert ran.error[0] == "MissingResultError"


def test_config(shell: Kernel, place: Path) -> None:
    """config sets a value for the session, shows origins, takes it back, and saves it for project or user."""
    assert value(shell, "config timeout=7m") == "timeout = 7m"
    assert any(
        row.split() == ["timeout", "7m", "%bacalhau", "config", "timeout"] for row in value(shell, "config --show-origin").split("\n")
    )
    assert [row.split() for row in value(shell, "config timeout pull-timeout").split("\n")][1:] == [
        ["pull_timeout", "30m"],
        ["timeout", "7m"],
    ]
    shell.run("%%bacalhau\n1")
    assert shell.run("_bacalhau.request.options.timeout").value == "420.0"
    assert value(shell, "config timeout=") == "timeout = 5m (no longer set here)"
    (place / "pyproject.toml").write_text('[project]\nname = "x"  # kept\n')
    assert value(shell, "config --save project timeout=9m") == "timeout = 9m (saved for the project)"
    assert tomllib.loads((place / "pyproject.toml").read_text())["tool"]["bacalhau-magic"] == {"timeout": "9m"}
    assert "# kept" in (place / "pyproject.toml").read_text()
    (place / "pyproject.toml").unlink()
    shell.run("%bacalhau config timeout=")


def test_config_that_is_wrong(shell: Kernel) -> None:
    """A wrong value, an unknown name and a secret are refused, and nothing of the line is kept."""
    for words, said in (
        ("cpu=2 memory=lots", "expected a size with a unit"),
        ("nothing=1", "There is no setting 'nothing'"),
        ("timeot=5m", "Did you mean timeout?"),
        ("image=x", "image can't be configured"),
        ("api_key=hunter2", "would stay in the notebook"),
        ("cpu memory=1GB", "takes key=value"),
        ("cpu --save user", "takes key=value"),
        ("timeot", "Did you mean timeout?"),
        ("--save nowhere cpu=2", "--save needs project or user"),
    ):
        ran = shell.run(f"%bacalhau config {words}")
        assert ran.error is not None
        assert said in ran.error[1], ran.error
        assert "Traceback" not in ran.text
    assert shell.run("[r['value'] for r in get_ipython().run_line_magic('bacalhau', 'config') if r['setting'] == 'cpu']").value == "['1']"


def test_secrets_are_masked(shell: Kernel) -> None:
    """What config shows of a key from the environment, or of the job's variables, is masked."""
    shell.run("os.environ['BACALHAU_API_KEY'] = 'hunter2'")
    assert value(shell, "config env=TOKEN=hunter2") == "env = TOKEN=••••"
    said = value(shell, "config --show-origin")
    shell.run("del os.environ['BACALHAU_API_KEY']")
    shell.run("%bacalhau config env=")
    assert "hunter2" not in said
    assert "environment BACALHAU_API_KEY" in said


def test_a_variable_that_changes_is_read(shell: Kernel) -> None:
    """A BACALHAU_ variable that the notebook sets holds from the next cell on."""
    shell.run("os.environ['BACALHAU_TIMEOUT'] = '90000'")
    assert shell.run("%%bacalhau\n1").error is None
    assert shell.run("_bacalhau.request.options.timeout").value == "90.0"
    shell.run("os.environ['BACALHAU_MAGIC_CPU'] = 'many'")
    ran = shell.run("%%bacalhau\n1")
    assert ran.error is not None
    assert ran.error[1].startswith("environment BACALHAU_MAGIC_CPU: expected a number of CPUs such as 2 or 0.5, not 'many'.")
    shell.run("del os.environ['BACALHAU_TIMEOUT'], os.environ['BACALHAU_MAGIC_CPU']")


def test_help(shell: Kernel) -> None:
    """help lists verbs and options; a topic gives one; -h is help."""
    assert "wait " in value(shell, "help")
    assert "--queue-timeout TIME" in value(shell, "help")
    assert value(shell, "-h") == value(shell, "help")
    assert value(shell, "help wait").startswith("%bacalhau wait: ")
    assert value(shell, "help timeout").split()[0] == "--timeout"
    assert "--cpu" in value(shell, "help resources")
    assert (
        value(shell, "help receipt")
        == "receipt, a setting: When the output's metadata keeps the job, its node and times: live (not in a batch run), always or never."
    )
    for row in value(shell, "config").splitlines()[1:]:
        assert shell.run(f"%bacalhau help {row.split()[0]}").error is None, row


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("frobnicate", "It knows: jobs"),
        ("jbos", "Did you mean %bacalhau jobs?"),
        ("-i x -o y", "did you mean %%bacalhau -i x -o y, with the cell below it?"),
        ("Replya x.yaml", "Did you mean %bacalhau replay?"),
        ("wait sleepr", "Did you mean sleeper?"),
        ("attach lats", "Did you mean last?"),
        ("show dnoe", "Did you mean done?"),
        ("stop the_jbo", "Did you mean the_job?"),
        ("help replya", "Did you mean %bacalhau help replay?"),
        ("help troubleshooting", "There is help on each option and setting, on language, packages"),
        ("jobs --nope", "It knows --all, --mine"),
        ("wait a b", "takes one job"),
        ("show qqqq", "List them: %bacalhau jobs"),
        ("show nope", "No job 'nope' is known here"),
        ("attach last -o", "needs a value"),
        ('"open', "No closing quotation"),
        ("nodes x", "knows no 'x'"),
        ("get j-nothing", "No job"),
    ],
)
def test_a_wrong_line_is_one_clear_error(shell: Kernel, line: str, said: str) -> None:
    """A verb or an argument that is not known is a usage error that says what is."""
    shell.run("the_job = _bacalhau")
    ran = shell.run(f"%bacalhau {line}")
    assert ran.error is not None
    assert ran.error[0] == "UsageError"
    assert said in ran.error[1]
