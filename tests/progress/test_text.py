"""Progress as text, on a real terminal and into a file."""

from __future__ import annotations

import io
import os
import pty
import re
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from bacalhau_magic._causes import Cause
from bacalhau_magic._snapshot import Snapshot
from bacalhau_magic._stages import CauseFound, ContactChanged, Finished, JobEvent, Noticed, PhaseChanged, Printed
from bacalhau_magic.progress import bundle
from bacalhau_magic.progress._text import TextView

NODE = "n-2e2b7e09-1c5f"
RUNNING = PhaseChanged("running", NODE)


class Screen:
    """A real terminal of 80 columns, and what its user sees of it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.raw = ""

    def read(self) -> str:
        """Everything that came until now."""
        self.stream.flush()
        while select.select([self.master], [], [], 0)[0]:
            self.raw += os.read(self.master, 65536).decode()
        return self.raw

    def lines(self) -> list[str]:
        """The screen's lines, after all that moves the cursor."""
        screen, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[\d;]*[A-Za-z]|.|\n", self.read(), re.DOTALL):
            match part:
                case "\n":
                    row += 1
                    screen += [""] * (row + 1 - len(screen))
                case "\r":
                    column = 0
                case "\x1b[K":
                    screen[row] = screen[row][:column]
                case "\x1b[A":
                    row -= 1
                case _ if part.endswith("G") and part.startswith("\x1b"):
                    column = int(part[2:-1]) - 1
                case _ if not part.startswith("\x1b"):
                    screen[row] = screen[row][:column].ljust(column) + part + screen[row][column + 1 :]
                    column += 1
        return screen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    made = Screen()
    yield made
    made.stream.close()
    os.close(made.master)


class Job:
    """Events told to a view, one second after another."""

    def __init__(self, view: TextView) -> None:
        self.view = view
        self.snapshot = Snapshot(started=100.0, now=100.0, limit=300.0, queue_limit=600.0)
        view.open(self.snapshot)

    def tell(self, *events: JobEvent) -> Job:
        for event in events:
            self.snapshot = self.snapshot.after(event, self.snapshot.now + 1)
        self.view.draw(self.snapshot)
        return self

    def close(self, *, quiet: bool = False) -> bool:
        return self.view.close(self.snapshot, None if quiet else bundle("completed"), {})


def plain(*, logs: bool = True, hidden: frozenset[str] = frozenset()) -> tuple[Job, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Job(TextView(out, err, logs=logs, hidden=hidden, clock=lambda: 0.0)), out, err


def live(screen: Screen) -> Job:
    return Job(TextView(screen.stream, screen.stream, clock=lambda: 0.0))


def test_a_file_gets_a_line_for_each_phase_and_the_log_apart() -> None:
    """Without a terminal every change of phase is a line on stderr, and stdout holds the job's own text alone."""
    job, out, err = plain()
    job.tell(PhaseChanged("waiting")).tell(RUNNING).tell(Printed("stdout", "hi\n"), Printed("stderr", "oh\n")).tell(
        Finished("completed", "")
    )
    assert job.close() is True
    assert out.getvalue() == "hi\n"
    assert err.getvalue().splitlines() == [
        "bacalhau: packing · 0.0 s",
        "bacalhau: waiting for a node · 1.0 s of 10 min in the queue",
        "bacalhau: running on n-2e2b7e09 · 0.0 s of 5 min",
        "oh",
        "bacalhau: completed in 5.0 s on n-2e2b7e09",
    ]


def test_a_file_gets_no_control_characters() -> None:
    """Without a terminal colours go too, and an overwritten line is there once, as it last was."""
    job, out, err = plain()
    job.tell(Printed("stdout", "\x1b[31mred\x1b[0m\x1b[2J\n 0 %\r")).tell(
        Printed("stdout", "50 %\r100 %\r\nend"), Printed("stderr", "a\r")
    ).close()
    assert out.getvalue() == "red\n100 %\nend\n"
    assert "\r" not in err.getvalue()
    assert "\x1b" not in out.getvalue() + err.getvalue()


def test_nothing_new_draws_nothing() -> None:
    """Drawing the same again adds no text, so every tick may draw."""
    job, out, err = plain()
    job.tell(RUNNING, Printed("stdout", "hi\n"))
    before = out.getvalue(), err.getvalue()
    job.tell().tell()
    assert (out.getvalue(), err.getvalue()) == before


def test_a_problem_is_said_once_with_what_to_do() -> None:
    """A cause appears as soon as it is known, with its lines and its advice, and is not repeated."""
    job, _, err = plain()
    cause = Cause("busy", "No node is free.", "It starts by itself.", lines=("n-1 is full",))
    job.tell(CauseFound(cause)).tell(PhaseChanged("waiting")).tell(CauseFound(cause))
    said = err.getvalue()
    assert "bacalhau: No node is free.\n  • n-1 is full\n  → It starts by itself.\n" in said
    assert said.count("No node is free.") == 1


def test_lost_contact_is_said() -> None:
    """The user learns that the endpoint does not answer."""
    job, _, err = plain()
    job.tell(RUNNING).tell(ContactChanged(True, "http://h does not answer."))
    assert "bacalhau: http://h does not answer.\n" in err.getvalue()


def test_notices_are_said_once() -> None:
    """A notice is one line, without anything that acts on a terminal."""
    job, _, err = plain()
    job.tell(Noticed("Not isolated.\x1b[2J")).tell(RUNNING)
    job.close()
    assert err.getvalue().count("bacalhau: Not isolated.\n") == 1


def test_the_log_can_be_left_out() -> None:
    """With logs off the log is left to the outputs at the end, and the view says that it did not show it."""
    job, out, _ = plain(logs=False)
    job.tell(Printed("stdout", "hi\n")).close()
    assert (out.getvalue(), job.view.shows_log) == ("", False)


def test_a_bound_stream_is_not_shown() -> None:
    """A stream that goes into a variable stays off the screen."""
    job, out, err = plain(hidden=frozenset({"stdout"}))
    job.tell(Printed("stdout", "hidden\n"), Printed("stderr", "shown\n")).close()
    assert out.getvalue() == ""
    assert "shown\n" in err.getvalue()


def test_a_flood_between_two_draws_is_admitted() -> None:
    """Text that a snapshot could not hold until it was drawn is counted in a line, never left out in silence."""
    job, out, err = plain()
    job.tell(*[Printed("stdout", f"{n:09d}\n") for n in range(30_000)]).close()
    assert "bacalhau: 100000 characters of the log came too fast to be shown here\n" in err.getvalue()
    assert out.getvalue().startswith("000010000\n")


def test_quiet_leaves_no_summary() -> None:
    """Without a bundle to stand for, the last line is left out."""
    job, _, err = plain()
    job.tell(Finished("completed", "")).close(quiet=True)
    assert "completed" not in err.getvalue()


def test_a_terminal_has_one_live_line(screen: Screen) -> None:
    """On a terminal the status is rewritten in place, and the log stands above it."""
    job = live(screen).tell(PhaseChanged("waiting")).tell(RUNNING).tell(Printed("stdout", "one\n")).tell()
    assert screen.lines() == ["one", "bacalhau: running on n-2e2b7e09 · 1.0 s of 5 min"]
    job.tell(Printed("stdout", "two\n"))
    assert screen.lines() == ["one", "two", "bacalhau: running on n-2e2b7e09 · 2.0 s of 5 min"]


def test_the_live_line_is_gone_at_the_end(screen: Screen) -> None:
    """What stays on a terminal is the log and one summary."""
    live(screen).tell(RUNNING).tell(Printed("stdout", "one\n")).tell(Finished("completed", "bound: a (int)")).close()
    assert screen.lines() == ["one", "bacalhau: completed in 3.0 s on n-2e2b7e09 · bound: a (int)", ""]


def test_the_live_line_stands_below_a_line_that_is_not_ended(screen: Screen) -> None:
    """A progress bar goes on in its own line, with the status below it."""
    job = live(screen).tell(RUNNING).tell(Printed("stdout", "\x1b[32m 10 %\x1b[0m")).tell()
    assert screen.lines() == [" 10 %", "bacalhau: running on n-2e2b7e09 · 1.0 s of 5 min"]
    job.tell(Printed("stdout", "\r 50 %")).tell(Printed("stdout", " half")).tell()
    assert screen.lines() == [" 50 % half", "bacalhau: running on n-2e2b7e09 · 3.0 s of 5 min"]
    job.tell(Printed("stdout", "\r100 %     ")).tell(Finished("completed", "")).close()
    assert [line.rstrip() for line in screen.lines()] == ["100 %", "bacalhau: completed in 6.0 s on n-2e2b7e09", ""]


def test_the_streams_do_not_share_a_line(screen: Screen) -> None:
    """Where a line's end comes later than the other stream's text, each text still has its own line, and none is empty."""
    job = live(screen).tell(Printed("stdout", "out")).tell(Printed("stderr", "err\n")).tell(Printed("stdout", "\nmore\n"))
    job.tell(Finished("completed", "")).close()
    assert screen.lines() == ["out", "err", "more", "bacalhau: completed in 4.0 s", ""]


def test_a_line_that_is_not_ended_is_ended_for_news(screen: Screen) -> None:
    """A notice never stands behind the job's text."""
    live(screen).tell(Printed("stdout", "out")).tell(Noticed("Not isolated.")).tell(Printed("stdout", "\nmore\n")).close()
    assert screen.lines()[:3] == ["out", "bacalhau: Not isolated.", "more"]


def test_a_line_wider_than_the_terminal_has_no_status_below(screen: Screen) -> None:
    """Below a wrapped line the way back would be lost, so it is left alone."""
    live(screen).tell(Printed("stdout", "x" * 79)).tell(Printed("stdout", "世"))
    assert screen.lines() == ["x" * 79 + "世", ""]


def test_a_terminal_shows_the_job_s_colours_and_nothing_else_of_it(screen: Screen) -> None:
    """The job's colours pass to a terminal; what would act on it does not."""
    live(screen).tell(Printed("stdout", "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[9Aend\n")).close()
    assert "\x1b[31mred\x1b[0m end" in screen.read()
    assert "title" not in screen.read()
    assert "\x1b[9A" not in screen.read()


def test_an_open_colour_does_not_paint_the_status(screen: Screen) -> None:
    """A colour that the job left on ends with its line."""
    live(screen).tell(Printed("stdout", "\x1b[31mred\n"))
    assert "\x1b[31mred\r\n\x1b[0m" in screen.read()


def test_a_piece_of_a_sequence_is_not_shown(screen: Screen) -> None:
    """A sequence that arrives in two pieces is taken out as one."""
    live(screen).tell(Printed("stdout", "a\x1b[")).tell(Printed("stdout", "2Jb\n"))
    assert screen.lines()[0] == "ab"


def test_no_color_is_honoured(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set no colour is sent, neither ours nor the job's."""
    monkeypatch.setenv("NO_COLOR", "1")
    live(screen).tell(RUNNING, Printed("stdout", "\x1b[31mred\x1b[0m\n")).tell(Finished("failed", "x")).close()
    assert not re.search(r"\x1b\[[\d;]*m", screen.read())


def test_colours_tell_the_tone(screen: Screen) -> None:
    """Ours are there otherwise."""
    live(screen).tell(Finished("failed", "x")).close()
    assert "\x1b[31mbacalhau: failed\x1b[0m" in screen.read()


def test_the_live_line_fits_the_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status that is too long for one line loses its last facts, since a wrapped line could not be erased."""
    monkeypatch.setenv("COLUMNS", "50")
    live(screen).tell(PhaseChanged("pulling", NODE, "a-registry.example.org/with/a/very/long/name:latest"))
    assert screen.lines()[-1] == "bacalhau: pulling the image on n-2e2b7e09 · 1.0 s"


def test_the_clock_goes_on_between_events(screen: Screen) -> None:
    """The live line counts on while nothing happens."""
    now = 100.0
    view = TextView(screen.stream, screen.stream, clock=lambda: now)
    snapshot = Snapshot(started=100.0, now=100.0)
    view.open(snapshot)
    now = 142.0
    view.draw(snapshot)
    assert screen.lines() == ["bacalhau: packing · 42 s"]


def test_a_closed_stream_costs_nothing() -> None:
    """A stream that can't be written any more does not disturb the job."""
    job, out, err = plain()
    out.close()
    err.close()
    job.tell(RUNNING, Printed("stdout", "hi\n")).tell(Finished("completed", "")).close()


def test_a_stream_that_knows_few_characters_gets_escapes(tmp_path: Path) -> None:
    """An ASCII stream shows what it can't encode as escapes."""
    with (tmp_path / "log").open("w", encoding="ascii") as out:
        Job(TextView(out, out, clock=lambda: 0.0)).tell(Printed("stdout", "é\n")).close()
    assert "\\xe9" in (tmp_path / "log").read_text()
