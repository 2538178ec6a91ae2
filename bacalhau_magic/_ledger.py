"""What was submitted from this machine, so that nothing is sent twice and a restarted kernel finds its jobs again.

One SQLite file for a user, with a row for each request: no values, no code, no secrets. A ledger that can't be used
never stops a cell: it goes on in memory, and `problem` says so.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from ._stages import Endpoint, JobRef
from ._wire import TERMINAL

RowState = Literal["sending", "unknown", "sent", "Completed", "Failed", "Stopped"]
"""sending: the request is on its way; unknown: its answer was lost and the server could not be asked; sent: the server
has it; then the server's word for how it ended."""

KEPT_DAYS = 90
_VERSION = 2
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Row:
    """One request; `created` is in unix seconds, `stop_reason` that of a stop that was not delivered yet, or "", `took` the whole
    time of a job that is over, in seconds by its server's clock, 0 where it is not known."""

    request_id: str
    url: str
    socket: str = ""
    namespace: str = "default"
    notebook: str = ""
    cell: str = ""
    body_hash: str = ""
    name: str = ""
    language: str = ""
    job_id: str = ""
    state: RowState = "sending"
    created: float = 0.0
    stop_reason: str = ""
    took: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    def is_at(self, endpoint: Endpoint) -> bool:
        """Whether this job lies at that endpoint; the embedded node is one place wherever its socket lies."""
        return bool(self.socket) == endpoint.is_local if endpoint.is_local or self.socket else self.url == endpoint.url

    def ref(self, endpoint: Endpoint) -> JobRef:
        """The job's reference at its own endpoint."""
        return JobRef(self.job_id, endpoint, self.namespace, self.name, self.request_id)


_COLUMNS = tuple(field.name for field in fields(Row))


def default_path() -> Path:
    """The ledger's file in this user's data folder; `BACALHAU_MAGIC_DATA_DIR` names another folder."""
    if folder := os.environ.get("BACALHAU_MAGIC_DATA_DIR"):
        return Path(folder) / "ledger.sqlite3"
    import platformdirs

    return Path(platformdirs.user_data_dir("bacalhau-magic", appauthor=False)) / "ledger.sqlite3"


class Ledger:
    """The ledger at `path` (None: in memory only); thread-safe, and shared by processes."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.problem = ""
        """Why the ledger is kept in memory only, in a sentence; empty while all is well."""
        self._lock = threading.RLock()
        self._memory: sqlite3.Connection | None = None
        self._pruned = False

    # Writing

    def begin(self, row: Row) -> None:
        """Keep a row before its request goes out."""
        marks = ", ".join("?" for _ in _COLUMNS)
        values = [getattr(row, name) for name in _COLUMNS]
        values[_COLUMNS.index("created")] = row.created or time.time()
        self._do(lambda db: db.execute(f"INSERT OR REPLACE INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", values))

    def sent(self, request_id: str, job_id: str) -> None:
        """The server has the request, as this job."""
        self._set("job_id = ?, state = 'sent'", (job_id,), request_id)

    def unknown(self, request_id: str) -> None:
        """The answer was lost, and the server could not be asked."""
        self._set("state = 'unknown'", (), request_id)

    def forget(self, request_id: str) -> None:
        """The request never reached the server."""
        self._do(lambda db: db.execute("DELETE FROM jobs WHERE request_id = ?", (request_id,)))

    def finished(self, job_id: str, state: str, took: float = 0.0) -> None:
        """The job ended in this state of the server's, after so many seconds."""
        if state in TERMINAL:
            # Nothing new is nothing to write: a commit waits for the disk.
            change = "UPDATE jobs SET state = ?, took = ?, stop_reason = '' WHERE job_id = ? AND (state != ? OR stop_reason != '')"
            self._do(lambda db: db.execute(change, (state, took, job_id, state)))

    def want_stop(self, job_id: str, reason: str) -> None:
        """The job is to be stopped at the next contact."""
        self._do(lambda db: db.execute("UPDATE jobs SET stop_reason = ? WHERE job_id = ?", (reason or "stopped", job_id)))

    def stopped(self, job_id: str) -> None:
        """The stop was delivered, or needs no delivery any more."""
        self._do(lambda db: db.execute("UPDATE jobs SET stop_reason = '' WHERE job_id = ?", (job_id,)))

    # Reading

    def rows(self, notebook: str | None = None, *, limit: int = 1000) -> list[Row]:
        """Rows, the newest first; of one notebook where it is given."""
        where, values = ("WHERE notebook = ?", [notebook]) if notebook is not None else ("", [])
        return self._rows(f"{where} ORDER BY created DESC, rowid DESC LIMIT {int(limit)}", values)

    def last(self, notebook: str) -> Row | None:
        """The notebook's last job that the server has."""
        found = self._rows("WHERE notebook = ? AND job_id != '' ORDER BY created DESC, rowid DESC LIMIT 1", [notebook])
        return found[0] if found else None

    def unfinished(self, notebook: str, body_hash: str) -> list[Row]:
        """The notebook's jobs of the same cell, options and inputs whose end is not known here, the newest first."""
        where = "WHERE notebook = ? AND body_hash = ? AND job_id != '' AND state = 'sent'"
        return self._rows(f"{where} ORDER BY created DESC, rowid DESC LIMIT 20", [notebook, body_hash])

    def find(self, prefix: str) -> list[Row]:
        """The rows whose job id, with or without its "j-", or name begins so."""
        wild = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        where = "WHERE job_id != '' AND (job_id LIKE ? ESCAPE '\\' OR job_id LIKE ? ESCAPE '\\' OR name LIKE ? ESCAPE '\\')"
        return self._rows(f"{where} ORDER BY created DESC LIMIT 100", [wild, "j-" + wild, wild])

    def request(self, request_id: str) -> Row | None:
        """The row of one request."""
        found = self._rows("WHERE request_id = ?", [request_id])
        return found[0] if found else None

    def pending_stops(self, endpoint: Endpoint) -> list[Row]:
        """The stops that this endpoint has not heard of yet."""
        return [row for row in self._rows("WHERE stop_reason != '' AND job_id != ''", []) if row.is_at(endpoint)]

    def unsettled(self) -> list[Row]:
        """The rows whose request may or may not have reached its server."""
        return self._rows("WHERE state IN ('sending', 'unknown') ORDER BY created", [])

    # Parts

    def _rows(self, rest: str, values: Iterable[object]) -> list[Row]:
        found = self._do(lambda db: db.execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs {rest}", tuple(values)).fetchall())
        return [Row(*row) for row in found]

    def _set(self, what: str, values: tuple[object, ...], request_id: str) -> None:
        self._do(lambda db: db.execute(f"UPDATE jobs SET {what} WHERE request_id = ?", (*values, request_id)))

    def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock:
            if self._memory is None:
                try:
                    with self._open() as db:
                        return work(db)
                except (sqlite3.Error, OSError) as error:
                    self._memory = _connect(":memory:")
                    if self.path is not None:
                        self.problem = (
                            f"The list of your jobs ({self.path}) can't be used: {error}. It is kept in memory until the kernel ends."
                        )
            with self._memory:
                return work(self._memory)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each act: no lock is held in between, and a fork or another thread does no harm.
        if self.path is None:
            raise OSError("no file")
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = _connect(str(self.path))
        try:
            if not self._pruned:
                db.execute("DELETE FROM jobs WHERE created < ?", (time.time() - KEPT_DAYS * 86400,))
                self._pruned = True
            with db:
                yield db
        finally:
            db.close()


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            # The rollback journal, not WAL: homes lie on network file systems.
            db.execute("PRAGMA journal_mode = DELETE")
            columns = ", ".join(f"{field.name} {'REAL' if field.type == 'float' else 'TEXT'} NOT NULL" for field in fields(Row))
            db.execute(f"CREATE TABLE IF NOT EXISTS jobs ({columns}, PRIMARY KEY (request_id))")
            if "took" not in {column[1] for column in db.execute("PRAGMA table_info(jobs)")}:  # a ledger of version 1
                db.execute("ALTER TABLE jobs ADD COLUMN took REAL NOT NULL DEFAULT 0")
            db.execute("CREATE INDEX IF NOT EXISTS by_job ON jobs (job_id)")
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.commit()
    except sqlite3.Error:
        db.close()
        raise
    return db
