"""run, submit and attach from Python, without a shell, on the embedded node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import bacalhau_magic
from bacalhau_magic import JobOptions, RemoteJob, _packages, attach, errors, run, submit

pytestmark = pytest.mark.usefixtures("own_session")


def test_the_face() -> None:
    """The package's names are the documented ones, and all are there."""
    assert set(bacalhau_magic.__all__) >= {"run", "submit", "attach", "RemoteJob", "JobOptions", "errors"}
    assert bacalhau_magic.__version__
    assert issubclass(errors.RemoteCellError, errors.JobError)
    assert JobOptions().cpu == 1.0


def test_run_returns_the_value_or_the_names() -> None:
    """run gives the last expression's value, or with outputs a dict of these names."""
    assert run("21 * 2", cpu=1) == 42
    assert run("y = sum(x)", inputs={"x": [1, 2]}, outputs=["y"]) == {"y": 3}
    assert run("echo '[1, 2]'", lang="bash") == [1, 2]
    assert run("x = 1") is None


def test_a_text_is_a_value_and_a_path_a_file() -> None:
    """In Python a str is always a value, a Path a path; a list of ITEMs works too."""
    Path("data.csv").write_text("a,b")
    assert run("p", inputs={"p": "data.csv"}) == "data.csv"
    assert run("open('inputs/p').read()", inputs={"p": Path("data.csv")}) == "a,b"
    assert run("open('inputs/data.csv').read()", inputs=[Path("data.csv")]) == "a,b"
    assert run("open('inputs/t').read()", inputs=["t=./data.csv"]) == "a,b"


def test_a_remote_exception_is_the_built_in_class() -> None:
    """A remote ValueError is caught as ValueError, with the facts of the remote one."""
    with pytest.raises(ValueError, match="invalid literal") as caught:
        run("x = 1\nint('no')")
    error = caught.value
    assert isinstance(error, errors.RemoteCellError)
    assert (error.ename, error.job_id[:2]) == ("ValueError", "j-")
    assert "line 2, in <module>\n    int('no')" in error.traceback_text


def test_no_raise_error() -> None:
    """raise_error=False gives None instead of raising."""
    assert run("1/0", raise_error=False) is None
    assert run("7", raise_error=False) == 7


def test_dry_run_and_save_send_nothing() -> None:
    """dry_run gives the spec, save writes it; no job is sent."""
    from bacalhau_magic._session import session

    assert "Type: docker" in run("1", dry_run=True)
    assert "nothing was sent" in run("1", save="spec.json", name="saved")
    assert json.loads(Path("spec.json").read_text())["Name"].startswith("saved-")
    assert session().last is None


def test_submit_gives_a_job_with_its_facts() -> None:
    """submit returns at once; the job's facts, result, outputs, text, log and files are there."""
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nopen('outputs/f', 'w').write('F')\na = 1"
    job = submit(code, outputs="a", files="got", timeout="1m", name="facts")
    assert isinstance(job, RemoteJob)
    assert job.id.startswith("j-")
    assert job.result(timeout=60) == {"a": 1}
    assert (job.state, job.outputs, job.stdout, job.stderr, job.error) == ("completed", {"a": 1}, "out\n", "err\n", None)
    assert job.files == Path("got").absolute()
    assert (Path("got") / "f").read_text() == "F"
    assert job.route is not None
    assert (job.route.target.name, job.route.why) == ("local", "no endpoint is configured")
    assert len(job.events) > 3
    assert sorted(job.logs(follow=True)) == [("stderr", "err"), ("stdout", "out")]
    assert repr(job) == f"RemoteJob(facts, completed, {job.id[:10]})"


def test_logs_follow_a_running_job() -> None:
    """logs(follow=True) gives lines while the job runs, and ends with it."""
    job = submit("import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.1)")
    assert list(job.logs(follow=True)) == [("stdout", "0"), ("stdout", "1"), ("stdout", "2")]


def test_a_wait_that_is_over_leaves_the_job() -> None:
    """result(timeout) ends the wait, not the job; cancel ends the job with its reason."""
    job = submit("import time\ntime.sleep(60)")
    with pytest.raises(errors.JobTimedOutError) as caught:
        job.result(timeout=0.3)
    assert (caught.value.phase, caught.value.limit) == ("wait", 0.3)
    job.cancel(reason="enough")
    with pytest.raises(errors.JobStoppedError) as stopped:
        job.result(timeout=30)
    assert stopped.value.reason == "enough"
    assert job.state == "stopped"
    job.cancel()


def test_a_cancel_without_words_has_a_reason_too() -> None:
    """Whoever catches the stop reads why, also where nobody gave a reason."""
    job = submit("import time\ntime.sleep(60)")
    job.cancel()
    with pytest.raises(errors.JobStoppedError) as stopped:
        job.result(timeout=30)
    assert stopped.value.reason == "stopped from the notebook"
    assert stopped.value.message == "The job was stopped from the notebook."


def test_await() -> None:
    """await gives the value, and several jobs run at once."""

    async def both() -> list[object]:
        return list(await asyncio.gather(_wait(submit("1")), _wait(submit("2"))))

    async def _wait(job: RemoteJob) -> object:
        return await job

    assert asyncio.run(both()) == [1, 2]


def test_attach_sends_nothing_again() -> None:
    """attach follows a job by its id, a beginning of it, or `last`, also in a new session."""
    from bacalhau_magic import _session

    job = submit("a = [1]", outputs=["a"])
    assert job.result() == {"a": [1]}
    assert attach(job.id) is attach(job.id[:12]) is attach() is job
    _session._current = None
    again = attach(job.id)
    assert again is not job
    assert (again.result(), again.id) == ({"a": [1]}, job.id)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpuu": 2}, "There is no option 'cpuu'.\nDid you mean cpu?"),
        ({"cpu": "many"}, "--cpu: expected a number of CPUs"),
        ({"bg": True}, "bg has no effect in run()"),
        ({"job": "j"}, "submit() returns the job"),
        ({"stdout": "s"}, "the job of submit() has stdout"),
        ({"inputs": {"f": lambda: 1}}, "The input 'f' can't be sent: it is a lambda"),
        ({"inputs": 5}, "expected a text or a list"),
        ({"inputs": {"x y": 1}}, "is no variable name"),
    ],
)
def test_wrong_options_of_run(options: dict[str, object], said: str) -> None:
    """What run can't use is refused by name, with the same errors as the magic's."""
    with pytest.raises((errors.OptionError, errors.UnsendableInputError)) as caught:
        run("1", **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("options", [{"dry_run": True}, {"save": "f"}, {"job": "j"}, {"raise_error": False}])
def test_wrong_options_of_submit(options: dict[str, object]) -> None:
    """What submit can't use is refused."""
    with pytest.raises(errors.OptionError, match="has no effect"):
        submit("1", **options)


def test_what_is_no_cell() -> None:
    """An empty cell and one that is no text are refused."""
    with pytest.raises(errors.OptionError, match="The cell is empty"):
        run(" \n ")
    with pytest.raises(errors.OptionError, match="The cell must be a text or a function"):
        run(5)  # type: ignore[arg-type]


def test_a_notebook_that_only_a_cluster_would_refuse_says_so() -> None:
    """What a cluster would lack, and inputs too big for it, are said here; what brings it is not looked up, for nobody is told to add it."""
    import numpy

    _packages._installed.cache_clear()
    job = submit("import numpy, json\nlen(x)", inputs={"x": [numpy.random.default_rng(1).random(200_000)]})
    assert job.result() == 1
    assert "A cluster would lack: numpy." in job.snapshot.notices
    assert "Its inputs are too big for a cluster without staging." in job.snapshot.notices
    assert _packages._installed.cache_info().misses == 0
    assert not [n for n in submit("import json\n1").snapshot.notices if "lack" in n]
    again = submit("import numpy\n1")
    again.result()
    assert not [n for n in again.snapshot.notices if "lack" in n], "said once a session"


def test_auto_says_what_it_sends() -> None:
    """-i auto sends the free names that the cell reads, and says which."""
    import sys

    sys.modules["__main__"].__dict__["auto_value"] = 3
    job = submit("def f(): return auto_value\nf()", inputs="auto")
    assert job.result() == 3
    assert "Sends auto_value." in job.snapshot.notices


def test_errors_before_sending_are_raised_by_submit() -> None:
    """A submit that can't be sent raises at once, and there is no job."""
    from bacalhau_magic._session import session

    with pytest.raises(errors.OptionError, match="this machine has"):
        submit("1", memory="900TB")
    assert session().jobs == {}
