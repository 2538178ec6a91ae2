"""Bars read from what a job prints, and many jobs as one."""

from __future__ import annotations

import json

import pytest

from bacalhau_magic import _bars
from bacalhau_magic._overview import Overview
from bacalhau_magic._shapes import named, shape
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import ContactChanged, Finished, PhaseChanged, Printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" 42%|████▏     | 42/100 [00:05<00:07,  8.00it/s]", "42 of 100"),
        ("\r 10%|█         | 1.2M/12M [00:01<00:09]", "10 %"),
        ("\x1b[32m━━━━━━━━\x1b[0m──── 62.5% 0:00:03", "62 %"),
        ("[=====>     ] 50 %", "50 %"),
        ("Epoch 3/10\n", "3 of 10"),
        ("step 3/10: loss 0.4\nsaved\n", "3 of 10"),
        ("[7/9] compiling", "7 of 9"),
        ("100/100\r", "100 of 100"),
        ("accuracy 97.5%", ""),
        ("11/24/2026 started", ""),
        ("11/24 12:30:01 started", ""),
        ("/data/1/2 read", ""),
        ("9/7 of them", ""),
        ("1/1 done", ""),
        ("and/or", ""),
        ("[=====>     ] 500 %", ""),
    ],
)
def test_a_bar_is_read_from_text(text: str, words: str) -> None:
    """tqdm's and other drawn bars and "n/m" tell how far a job is; dates, paths and plain percentages do not."""
    found, _ = _bars.read("", text)
    assert (found.words if found else "") == words


def test_a_bar_may_come_in_pieces() -> None:
    """A bar that is cut anywhere is read as the whole one, and the two streams' lines are kept apart."""
    whole = "step 12/34 of it\n"
    for cut in range(1, len(whole)):
        snapshot = Snapshot(started=0.0, now=0.0).after(Printed("stdout", whole[:cut]), 1.0)
        snapshot = snapshot.after(Printed("stderr", "7"), 1.0).after(Printed("stdout", whole[cut:]), 1.0)
        assert snapshot.bar is not None
        assert (snapshot.bar.words, cut) == ("12 of 34", cut)


def test_a_flood_costs_no_more_than_its_end() -> None:
    """Of a large piece only the end is looked at."""
    found, rest = _bars.read("", "1/2 " * 1_000_000 + "\n" + "x" * 5000)
    assert found is None
    assert len(rest) < 1000


def job(*events: object, started: float = 100.0, name: str = "job") -> Snapshot:
    snapshot = Snapshot(started=started, now=started, name=name)
    for event in events:
        snapshot = snapshot.after(event, 110.0)  # type: ignore[arg-type]
    return snapshot


DONE, RUNS, FAILED = job(Finished("completed", "")), job(PhaseChanged("running", "n-1")), job(Finished("failed", "No."))


def test_many_jobs_are_counted_in_words() -> None:
    """States are counted in a fixed order, empty ones left out, and the rest's time is guessed from the pace."""
    overview = Overview((FAILED, RUNS, DONE, DONE, DONE, job())).at(110.0)
    assert overview.facts == "3 completed · 1 running · 1 waiting · 1 failed · about 5 s left"
    assert (overview.title, overview.tone, overview.is_over) == ("6 jobs", "run", False)
    assert overview.line.startswith("6 jobs ━━━━━━━━━━━━━─────── 3 completed")
    assert Overview((DONE, RUNS)).at(110.0).facts == "1 completed · 1 running"


@pytest.mark.parametrize(
    ("jobs", "tone", "phase"),
    [((DONE, DONE), "ok", "completed"), ((DONE, FAILED), "bad", "failed"), ((DONE, job(Finished("stopped", ""))), "quiet", "stopped")],
)
def test_the_worst_end_is_the_whole_s(jobs: tuple[Snapshot, ...], tone: str, phase: str) -> None:
    """Many jobs that are over are as good as the worst of them."""
    overview = Overview(jobs)
    assert (overview.tone, overview.phase, overview.is_over) == (tone, phase, True)


def test_a_lost_contact_is_said_for_all() -> None:
    """A contact that one of them lost is the problem of the whole."""
    overview = Overview((RUNS, RUNS.after(ContactChanged(True, "No answer."), 111.0)))
    assert (overview.problem, overview.tone) == ("No answer.", "warn")


def test_its_json_has_a_row_for_each_and_no_log() -> None:
    """The JSON is plain, has the bar's parts and each job's row, and none of the logs."""
    loud = RUNS.after(Printed("stdout", "secret " * 1000), 111.0)
    found = json.loads(json.dumps(Overview((loud, FAILED)).as_json()))
    assert found["parts"] == [["run", "running", 1], ["bad", "failed", 1]]
    assert [(row["name"], row["failed"]) for row in found["rows"]] == [("job", False), ("job", True)]
    assert "secret" not in json.dumps(found)


def test_a_failure_s_report_has_all_that_somebody_else_needs() -> None:
    """The report names cause, advice, details and the log's end; without a failure there is none."""
    failed = job(PhaseChanged("running", "n-1"), Printed("stderr", "x" * 9000 + "the end"), Finished("failed", "Killed.", "Ask for more."))
    assert failed.report.startswith("Failed on n-1 after 10 s\nKilled.\nAsk for more.")
    assert failed.report.endswith("the end")
    assert len(failed.report) < 5000
    assert DONE.report == ""


def test_shapes_are_said_in_few_words() -> None:
    """A value is its type and its size, where that tells something; of many names the first."""
    import numpy as np
    import pandas as pd

    values = {"a": pd.DataFrame({"x": [1, 2]}), "b": np.zeros((3, 4)), "c": [1], "d": {"k": 1}, "e": "text", "f": 1, "g": None, "h": 2}
    assert shape(values["a"]) == "DataFrame 2 × 1"
    assert named(values) == "a (DataFrame 2 × 1), b (ndarray 3 × 4), c (list of 1), d (dict of 1), e (str), f (int), and 2 more"
