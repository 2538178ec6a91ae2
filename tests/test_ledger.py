"""The ledger: what was submitted from here, kept through restarts, and never in a cell's way."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from bacalhau_magic._ledger import KEPT_DAYS, Ledger, Row, default_path
from bacalhau_magic._stages import Endpoint

URL = "http://cluster:1234"
HERE = Endpoint(URL)
LOCAL = Endpoint("http://localhost", socket="/run/a.sock")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "data" / "ledger.sqlite3")


def row(number: int, **more: object) -> Row:
    return Row(f"r{number}", URL, notebook="nb", created=time.time() + number, **more)  # type: ignore[arg-type]


def test_a_row_lives_through_its_states(ledger: Ledger) -> None:
    """A request is on its way, then a job, then over; another process reads the same."""
    ledger.begin(row(1, body_hash="h", name="cell", language="python", cell="c"))
    assert ledger.request("r1").state == "sending"  # type: ignore[union-attr]
    ledger.sent("r1", "j-1")
    again = Ledger(ledger.path)
    found = again.request("r1")
    assert found is not None
    assert (found.job_id, found.state, found.body_hash, found.name, found.cell, found.is_over) == ("j-1", "sent", "h", "cell", "c", False)
    again.finished("j-1", "Running")
    assert not ledger.request("r1").is_over  # type: ignore[union-attr]
    again.finished("j-1", "Completed", 1.8)
    found = ledger.request("r1")
    assert found is not None
    assert (found.is_over, found.took) == (True, 1.8)


def test_an_earlier_version_s_ledger_is_taken_over(ledger: Ledger) -> None:
    """The rows of a ledger without times are read, and new ones are kept beside them; an earlier version can go on with it."""
    ledger.begin(row(1))
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN took")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    again = Ledger(ledger.path)
    again.begin(row(2, job_id="j-2"))
    again.finished("j-2", "Completed", 2.5)
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA user_version = 1")
        db.commit()
    assert [found.took for found in Ledger(ledger.path).rows()] == [2.5, 0.0]
    assert again.problem == ""


def test_a_row_holds_no_code_values_or_secrets() -> None:
    """The columns are those of the contract, and none of them is for what a cell holds."""
    assert {field.name for field in fields(Row)} == {
        "request_id", "url", "socket", "namespace", "notebook", "cell", "body_hash", "name", "language", "job_id", "state", "created", "stop_reason", "took",
    }  # fmt: skip


def test_the_row_is_on_disk_before_the_request(ledger: Ledger) -> None:
    """What `begin` kept survives a process that is killed right after it."""
    code = (
        "import os, sys; from pathlib import Path; from bacalhau_magic._ledger import Ledger, Row\n"
        f"Ledger(Path({str(ledger.path)!r})).begin(Row('r9', 'http://x', notebook='nb', created=1e10)); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [found.request_id for found in ledger.unsettled()] == ["r9"]


def test_file_is_the_users_alone(ledger: Ledger) -> None:
    """The file is 0600, in a folder that was made for the user alone, with a rollback journal."""
    ledger.begin(row(1))
    assert ledger.path is not None
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700
    with sqlite3.connect(ledger.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    db.close()


def test_last_is_this_notebooks(ledger: Ledger) -> None:
    """`last` is the newest job of the same notebook; a request that became no job is not one."""
    for number, notebook, job in ((1, "nb", "j-1"), (2, "nb", "j-2"), (3, "other", "j-3"), (4, "nb", "")):
        ledger.begin(Row(f"r{number}", URL, notebook=notebook, created=float(1e10 + number), job_id=job))
    assert ledger.last("nb").job_id == "j-2"  # type: ignore[union-attr]
    assert ledger.last("none") is None
    assert [found.request_id for found in ledger.rows("nb")] == ["r4", "r2", "r1"]


@pytest.mark.parametrize(
    ("prefix", "found"), [("j-54785d3f", ["j-54785d3f"]), ("5478", ["j-54785d3f"]), ("ab_", []), ("%", []), ("my", ["j-99"])]
)
def test_find_by_a_beginning(ledger: Ledger, prefix: str, found: list[str]) -> None:
    """A job is found by the beginning of its id, with or without "j-", or of its name; wildcards mean themselves."""
    for number, (job, name) in enumerate((("j-54785d3f", "abc"), ("j-99", "my-run"))):
        ledger.begin(row(number, job_id=job, name=name))
    assert [one.job_id for one in ledger.find(prefix)] == found


def test_stops_are_kept_for_their_endpoint(ledger: Ledger) -> None:
    """A stop that was not delivered is kept until it is, and only its own endpoint hears of it."""
    ledger.begin(row(1, job_id="j-1"))
    ledger.begin(Row("r2", "http://localhost", socket="/run/old.sock", job_id="j-2", created=1e10))
    ledger.want_stop("j-1", "interrupted")
    ledger.want_stop("j-2", "")
    assert [(found.job_id, found.stop_reason) for found in ledger.pending_stops(HERE)] == [("j-1", "interrupted")]
    assert [found.job_id for found in ledger.pending_stops(LOCAL)] == ["j-2"]
    assert ledger.pending_stops(Endpoint("http://elsewhere:1234")) == []
    ledger.stopped("j-1")
    ledger.finished("j-2", "Stopped")
    assert ledger.pending_stops(HERE) == ledger.pending_stops(LOCAL) == []


def test_unsettled_rows(ledger: Ledger) -> None:
    """Requests whose answer was lost are unsettled until they are sent or forgotten."""
    for number in (1, 2, 3):
        ledger.begin(row(number))
    ledger.unknown("r1")
    ledger.sent("r2", "j-2")
    ledger.forget("r3")
    assert [(found.request_id, found.state) for found in ledger.unsettled()] == [("r1", "unknown")]


def test_old_rows_go(ledger: Ledger) -> None:
    """Rows older than 90 days are gone in the next process."""
    ledger.begin(Row("old", URL, created=time.time() - (KEPT_DAYS + 1) * 86400))
    ledger.begin(row(1))
    assert [found.request_id for found in Ledger(ledger.path).rows()] == ["r1"]


def _corrupt(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def _folder(path: Path) -> None:
    path.mkdir(parents=True)


def _no_folder(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")


def _locked(path: Path) -> sqlite3.Connection:
    Ledger(path).begin(row(0))
    db = sqlite3.connect(path, check_same_thread=False)
    db.execute("BEGIN EXCLUSIVE")
    return db


@pytest.mark.parametrize("spoil", [_corrupt, _folder, _no_folder, _locked])
def test_a_ledger_that_cant_be_used_stops_nothing(tmp_path: Path, spoil: object) -> None:
    """Damaged, in the way or locked: it goes on in memory, and says why in one sentence."""
    path = tmp_path / "data" / "ledger.sqlite3"
    held = spoil(path)  # type: ignore[operator]
    ledger = Ledger(path)
    ledger.begin(row(1))
    ledger.sent("r1", "j-1")
    ledger.want_stop("j-1", "x")
    assert ledger.last("nb").job_id == "j-1"  # type: ignore[union-attr]
    assert [found.job_id for found in ledger.pending_stops(HERE)] == ["j-1"]
    assert str(path) in ledger.problem
    assert ledger.problem.count(".") >= 1
    if held:
        held.close()


def test_no_file_is_no_problem() -> None:
    """A ledger in memory by choice has nothing to complain of."""
    ledger = Ledger(None)
    ledger.begin(row(1))
    assert ledger.request("r1") is not None
    assert ledger.problem == ""


def test_many_writers_lose_nothing(ledger: Ledger) -> None:
    """Threads and processes that write at once all find their rows again."""
    code = (
        "import sys; from pathlib import Path; from bacalhau_magic._ledger import Ledger, Row\n"
        f"ledger = Ledger(Path({str(ledger.path)!r}))\n"
        "for i in range(20): ledger.begin(Row(f'{sys.argv[1]}-{i}', 'http://x', created=1e10))\n"
        "sys.exit(ledger.problem or 0)"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, f"p{number}"]) for number in range(2)]
    threads = [
        threading.Thread(target=lambda n=n: [ledger.begin(Row(f"t{n}-{i}", URL, created=1e10)) for i in range(20)]) for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    assert ledger.problem == ""
    assert len(ledger.rows()) == 80


def test_place_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file lies in the user's data folder, or where the variable says."""
    assert os.environ["XDG_DATA_HOME"] in str(default_path())
    monkeypatch.setenv("BACALHAU_MAGIC_DATA_DIR", str(tmp_path))
    assert default_path() == tmp_path / "ledger.sqlite3"
