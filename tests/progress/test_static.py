"""The bundle and its receipt."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import Finished, Noticed, PhaseChanged
from bacalhau_magic.progress import MIME_TYPE, bundle, outcome_of, receipt

OUTCOMES = ("completed", "failed", "stopped", "submitted")
ENDED = (
    Snapshot(started=1_700_000_000.0, now=1_700_000_000.0, name="train", job_id="j-1", route="local: no endpoint is configured")
    .after(PhaseChanged("running", "n-1"), 1_700_000_001.0)
    .after(Noticed("Not isolated."), 1_700_000_001.0)
    .after(Finished("completed", ""), 1_700_000_001.84)
)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_bundle_is_constant_for_an_outcome(outcome: str) -> None:
    """The notebook gets a text, a quiet card and the format, and nothing that differs from run to run."""
    data = bundle(outcome)
    assert list(data) == ["text/plain", "text/html", MIME_TYPE]
    assert data["text/plain"] == f"bacalhau: {outcome}"
    assert data[MIME_TYPE] == {"version": 1, "outcome": outcome}
    assert re.sub(r"<[^>]*>", "", data["text/html"])[1:] == outcome.capitalize()


def test_a_failure_has_its_own_title() -> None:
    """What the card and the lists call a failure its bundle and receipt call it too; one without a name of its own has failed."""
    late = Snapshot(started=0, now=0).after(Finished("failed", "Too long.", timed_out=True), 1)
    plain = Snapshot(started=0, now=0).after(Finished("failed", "ValueError: no"), 1)
    data = bundle("failed", late.failure)
    assert data["text/plain"] == f"bacalhau: {late.title.lower()}" == "bacalhau: timed out"
    assert re.sub(r"<[^>]*>", "", data["text/html"])[1:] == late.title
    assert data[MIME_TYPE] == {"version": 1, "outcome": "failed", "failure": "Timed out"}
    assert receipt(late, live=True)["bacalhau"]["failure"] == "Timed out"
    assert bundle("failed", plain.failure) == bundle("failed")
    assert "failure" not in receipt(plain, live=True)["bacalhau"]


def test_bundles_tell_outcomes_apart() -> None:
    """Each outcome looks its own way."""
    assert len({bundle(outcome)["text/html"] for outcome in OUTCOMES}) == len(OUTCOMES)


@pytest.mark.parametrize("phase", ["completed", "failed", "stopped"])
def test_the_outcome_is_the_last_phase(phase: str) -> None:
    """A snapshot that is over tells its outcome."""
    assert outcome_of(Snapshot(started=0, now=0).after(Finished(phase, ""), 1)) == phase


def test_an_unfinished_job_was_submitted() -> None:
    """What is not over yet is no more than submitted."""
    assert outcome_of(Snapshot(started=0, now=0)) == "submitted"


def test_a_receipt_has_the_facts() -> None:
    """Job, node, time and route are in the metadata, as plain JSON."""
    facts = json.loads(json.dumps(receipt(ENDED, live=True)))["bacalhau"]
    assert facts == {
        "version": 1,
        "job": "j-1",
        "name": "train",
        "node": "n-1",
        "started": "2023-11-14T22:13:20+00:00",
        "seconds": 1.8,
        "outcome": "completed",
        "route": "local: no endpoint is configured",
        "notices": ["Not isolated."],
    }


@pytest.mark.parametrize(
    ("keep", "live", "kept"),
    [("live", True, True), ("live", False, False), ("always", False, True), ("never", True, False)],
)
def test_a_receipt_is_kept_where_it_is_wanted(keep: str, live: bool, kept: bool) -> None:
    """A batch run changes nothing in the notebook's file unless it was asked to."""
    assert bool(receipt(ENDED, keep=keep, live=live)) is kept


@pytest.mark.parametrize("keep", ["live", "never"])
def test_a_batch_run_that_fell_back_leaves_a_trace(keep: str) -> None:
    """That a job ran here, and not where it was to run, stands beside the bundle after a batch run too, without an id, a time or an address."""
    fell_back = replace(ENDED, instead="Ran here instead: http://cluster.example can't be reached.")
    trace = {"bacalhau": {"version": 1, "notices": ["Ran here instead: the cell could not be sent to Bacalhau."]}}
    assert receipt(fell_back, keep=keep, live=False) == (trace if keep == "live" else {})
