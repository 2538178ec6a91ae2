"""Snapshots: the fold of a job's events into finished sentences."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bacalhau_magic._causes import Cause, CauseKind
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import (
    BegunAnew,
    CauseFound,
    ContactChanged,
    Ended,
    Endpoint,
    Finished,
    JobEvent,
    JobRecord,
    JobRef,
    Noticed,
    Packed,
    Phase,
    PhaseChanged,
    Printed,
    Route,
    Submitted,
    Target,
    Transferred,
    seconds,
)
from bacalhau_magic._wire import Job

NODE = "n-2e2b7e09-1c5f-4f3e"
SUBMITTED = Submitted(
    JobRef("j-54785d3f-aaaa", Endpoint("http://h:1234"), name="train-1"),
    Route(Target("bacalhau", Endpoint("http://h:1234")), "it answers", ("a",)),
)
BUSY = Cause("busy", "No node is free.", "It starts by itself.", lines=("n-1 is full",))
MEMORY = Cause("memory", "The job was killed at its limit of 2 GB.", "Ask for more: --memory 8GB.")


def fold(*events: JobEvent, now: float = 112.0, **facts: object) -> Snapshot:
    snapshot = Snapshot(started=100.0, now=100.0, **facts)
    for event in events:
        snapshot = snapshot.after(event, now)
    return snapshot


@pytest.mark.parametrize(
    ("events", "title", "facts", "tone"),
    [
        ((Packed(100),), "Packing", "12 s", "run"),
        ((SUBMITTED,), "Sent", "12 s of 10 min in the queue", "run"),
        ((SUBMITTED, PhaseChanged("waiting")), "Waiting for a node", "12 s of 10 min in the queue", "run"),
        ((SUBMITTED, PhaseChanged("waiting"), CauseFound(BUSY)), "Waiting for a node", "12 s of 10 min in the queue", "warn"),
        ((PhaseChanged("pulling", NODE, "python:3.11-slim"),), "Pulling the image", "on n-2e2b7e09 · 12 s · python:3.11-slim", "run"),
        ((PhaseChanged("running", NODE),), "Running", "on n-2e2b7e09 · 0.0 s of 5 min", "run"),
        ((PhaseChanged("running", NODE), ContactChanged(True, "No answer.")), "Running", "on n-2e2b7e09 · 0.0 s of 5 min", "warn"),
        ((PhaseChanged("running", NODE), Finished("completed", "")), "Completed", "in 12 s on n-2e2b7e09", "ok"),
        ((Finished("completed", "bound: a (int)."),), "Completed", "in 12 s · bound: a (int)", "ok"),
        ((PhaseChanged("running", NODE), CauseFound(MEMORY), Finished("failed", "")), "Out of memory", "on n-2e2b7e09 after 12 s", "bad"),
        ((Finished("failed", "ValueError: no."),), "Failed", "after 12 s", "bad"),
        ((Finished("stopped", "Stopped from the notebook."),), "Stopped", "after 12 s", "quiet"),
    ],
)
def test_a_state_reads_as_title_facts_and_tone(events: tuple[JobEvent, ...], title: str, facts: str, tone: str) -> None:
    """Every phase has a title, the facts that are known of it, and a tone."""
    snapshot = fold(*events, limit=300.0, queue_limit=600.0)
    assert (snapshot.title, snapshot.facts, snapshot.tone) == (title, facts, tone)


def test_the_cell_s_time_counts_from_its_first_line() -> None:
    """The running clock starts when the cell runs, and goes on through the phases after it."""
    snapshot = fold(PhaseChanged("running", NODE), limit=300.0, resources="2 CPU").at(142.0)
    assert snapshot.facts == "on n-2e2b7e09 · 30 s of 5 min · 2 CPU"
    assert snapshot.after(PhaseChanged("fetching"), 143.0).facts == "on n-2e2b7e09 · 31 s of 5 min · 2 CPU"


def test_a_cause_is_said_while_it_stands_in_the_way() -> None:
    """A cause shows with its lines and advice until the cell runs."""
    waiting = fold(PhaseChanged("waiting"), CauseFound(BUSY))
    assert (waiting.problem, waiting.problem_lines, waiting.hint) == ("No node is free.", ("n-1 is full",), "It starts by itself.")
    running = waiting.after(PhaseChanged("running", NODE), 113.0)
    assert (running.problem, running.problem_lines, running.hint) == ("", (), "")


@pytest.mark.parametrize("kind", ["refused", "busy", "unplaceable"])
@pytest.mark.parametrize("phase", ["pulling", "starting", "installing"])
def test_what_kept_a_job_waiting_is_past_once_a_node_takes_it(kind: CauseKind, phase: Phase) -> None:
    """A refusal by one node is no reason for what happens on another."""
    waiting = fold(PhaseChanged("waiting"), CauseFound(Cause(kind, "The node n-a refused the job.", node="n-a")))
    taken = waiting.after(PhaseChanged(phase, NODE), 113.0)
    assert (taken.problem, taken.tone) == ("", "run")
    assert taken.after(Finished("failed", "No such package."), 114.0).title == "Failed"


def test_the_node_that_refused_takes_nothing() -> None:
    """A refusal stays while only the node that refused is spoken of."""
    refused = fold(PhaseChanged("waiting"), CauseFound(Cause("refused", "The node n-a refused the job.", node="n-a")))
    assert refused.after(PhaseChanged("starting", "n-a"), 113.0).problem == "The node n-a refused the job."


def test_lost_contact_is_said_above_a_cause_and_goes_away() -> None:
    """Lost contact is the problem while it lasts, and the cause is not forgotten meanwhile."""
    lost = fold(CauseFound(BUSY), ContactChanged(True, "http://h:1234 does not answer."))
    assert lost.problem == "http://h:1234 does not answer."
    assert lost.problem_lines == ("No node is free.", "n-1 is full")
    assert lost.after(ContactChanged(False), 113.0).problem == "No node is free."


def test_a_failure_says_its_sentence_and_otherwise_its_cause() -> None:
    """At the end the flow's sentence and advice win; without them the cause's are said."""
    said = fold(CauseFound(MEMORY), Finished("failed", "Killed.", "Try again."))
    assert (said.problem, said.hint) == ("Killed.", "Try again.")
    unsaid = fold(CauseFound(MEMORY), Finished("failed", ""))
    assert (unsaid.problem, unsaid.hint) == (MEMORY.sentence, MEMORY.advice)


def test_a_success_has_no_problem() -> None:
    """What stood in the way before does not stay on a completed job."""
    snapshot = fold(CauseFound(MEMORY), ContactChanged(True, "No answer."), Finished("completed", ""))
    assert (snapshot.problem, snapshot.problem_lines, snapshot.hint) == ("", (), "")


def test_what_is_over_stays_as_it_is() -> None:
    """Events after the end change nothing, so that late text can't make a finished job look alive."""
    over = fold(Finished("completed", ""))
    assert over.after(PhaseChanged("running", NODE), 200.0) == over
    assert over.at(200.0) == over


def test_an_ended_job_is_fetched() -> None:
    """Between the job's end and the result the result is being fetched."""
    snapshot = fold(PhaseChanged("running", NODE), ContactChanged(True, "x"), Ended(JobRecord(Job())))
    assert (snapshot.title, snapshot.contact) == ("Fetching the result", "")


def test_bytes_that_went_over_are_a_bar() -> None:
    """While data goes over, the card says how much of how much; where the whole is not told, how much."""
    ended = fold(PhaseChanged("running", NODE), Ended(JobRecord(Job())))
    half = ended.after(Transferred(12_500_000, 40_000_000), 113.0)
    assert (half.title, half.rest) == ("Fetching the result", "12.5 MB of 40 MB")
    assert half.as_json()["bar"] == {"fraction": 0.3125, "words": "12.5 MB of 40 MB"}
    assert ended.after(Transferred(12_500_000), 113.0).rest == "12.5 MB"
    sending = fold(Packed(1), Transferred(5_000_000, 10_000_000))
    assert (sending.title, sending.rest) == ("Packing", "5 MB of 10 MB")
    assert sending.as_json()["bar"] == {"fraction": 0.5, "words": "5 MB of 10 MB"}
    sent = sending.after(SUBMITTED, 113.0)
    assert (sent.bar, sent.rest) == (None, "")


def test_notices_are_said_once_in_their_order() -> None:
    """A notice that comes twice, from the route or on the way, is kept once."""
    assert fold(Noticed("a"), SUBMITTED, Noticed("b"), Noticed("a")).notices == ("a", "b")


def test_a_failure_stays_the_title_when_the_start_is_heard_after_it() -> None:
    """A log that is read after the history does not take the cause away that ended the job."""
    memory = Cause("memory", "The job was killed at its limit of 256 MB of memory.", repeats=True)
    late = fold(CauseFound(memory), PhaseChanged("running", NODE), Finished("failed", memory.sentence))
    assert late.title == "Out of memory"
    other = fold(CauseFound(replace(memory, repeats=False)), PhaseChanged("running", NODE))
    assert other.cause is None


def test_a_job_that_was_tried_again_says_how_often() -> None:
    """While it runs again a notice says where, and its time counts from anew; at the end there is how often it was tried instead."""
    again = fold(PhaseChanged("running", NODE), Noticed("a"), BegunAnew("n-bbbbbbbb-9704"), limit=300.0)
    assert again.notices == ("a", "The job begins anew on n-bbbbbbbb.")
    assert again.running_since is None
    third = again.after(BegunAnew("n-cccccccc-9704"), 113.0)
    assert third.notices == ("a", "The job begins anew on n-cccccccc.")
    failed = again.after(CauseFound(MEMORY), 114.0).after(Finished("failed", ""), 114.0)
    assert (failed.facts, failed.notices) == ("on n-2e2b7e09 after 14 s · tried twice", ("a",))
    assert third.after(Finished("completed", "bound: a (int)."), 114.0).facts == "in 14 s on n-2e2b7e09 · tried 3 times · bound: a (int)"


def test_the_log_keeps_streams_apart_and_joins_pieces() -> None:
    """Pieces of one stream are joined, a change of stream starts a new one."""
    snapshot = fold(Printed("stdout", "a"), Printed("stdout", "b"), Printed("stderr", "!"), Printed("stdout", "c"))
    assert snapshot.log == (("stdout", "ab"), ("stderr", "!"), ("stdout", "c"))


def test_a_long_log_loses_its_beginning_and_counts_it() -> None:
    """Of a flood the end is kept, to the character, and what is gone is counted."""
    snapshot = fold(Printed("stderr", "x" * 10), *[Printed("stdout", f"{n:07d}\n") for n in range(30_000)])
    text = "".join(piece for _, piece in snapshot.log)
    assert len(text) == 200_000
    assert snapshot.log_dropped == 10 + 30_000 * 8 - 200_000
    assert text.endswith("0029998\n0029999\n")


def test_a_flood_in_one_piece_is_bounded_too() -> None:
    """One enormous piece does not stay whole."""
    snapshot = fold(Printed("stdout", "x" * 300_000 + "end"))
    assert (len(snapshot.log[0][1]), snapshot.log_dropped, snapshot.log[0][1][-3:]) == (200_000, 100_003, "end")


def test_json_holds_what_a_browser_needs_to_count_on() -> None:
    """The JSON has the clock's start and limit instead of a time that would go stale, and is plain JSON."""
    snapshot = fold(PhaseChanged("running", NODE), Printed("stdout", "hi\n"), limit=300.0, resources="2 CPU")
    found = json.loads(json.dumps(snapshot.as_json()))
    assert found["clock"] == {"since": 112.0, "limit": 300.0, "words": ""}
    assert (found["place"], found["rest"], found["title"]) == ("on n-2e2b7e09", "2 CPU", "Running")
    assert (found["log"], found["logDropped"], found["over"]) == ([["stdout", "hi\n"]], 0, False)
    assert "state" not in found  # the front end's widgets own that word
    assert fold(Finished("completed", "")).as_json()["clock"] is None


def test_json_holds_the_end_of_a_long_log() -> None:
    """A browser gets the log's last characters, and how many came before."""
    snapshot = fold(Printed("stdout", "abc"), Printed("stderr", "def"))
    found = snapshot.as_json(log_kept=4)
    assert (found["log"], found["logDropped"]) == ([["stdout", "c"], ["stderr", "def"]], 2)
    assert snapshot.as_json(log_kept=0)["log"] == []


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0.04, "0.0 s"),
        (0.42, "0.4 s"),
        (9.949, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
    ],
)
def test_spans_of_time_are_words(count: float, words: str) -> None:
    """Seconds are said as people say them."""
    assert seconds(count) == words
