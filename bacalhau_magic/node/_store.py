"""What the node remembers: jobs, executions and history in SQLite, and the folders beside it.

One process writes, on one thread. A commit hands its bytes to the system, so that nothing acknowledged is lost when
the node is killed; journal and synchronous mode are chosen so that no commit waits for the disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _lifecycle
from ._lifecycle import Event

__all__ = ["ExecutionRow", "JobRow", "Store"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL,
    message TEXT NOT NULL, version INTEGER NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, secret INTEGER NOT NULL, digest TEXT NOT NULL, ran INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS job_names ON jobs (namespace, name);
CREATE INDEX IF NOT EXISTS job_times ON jobs (created);
CREATE TABLE IF NOT EXISTS versions (job TEXT NOT NULL, version INTEGER NOT NULL, job_json TEXT NOT NULL, PRIMARY KEY (job, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, job_version INTEGER NOT NULL, evaluation TEXT NOT NULL, number INTEGER NOT NULL,
    compute INTEGER NOT NULL, compute_message TEXT NOT NULL, desired INTEGER NOT NULL, desired_message TEXT NOT NULL,
    published INTEGER NOT NULL, output TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, started INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS execution_jobs ON executions (job, number);
CREATE TABLE IF NOT EXISTS history (
    job TEXT NOT NULL, number INTEGER NOT NULL, job_version INTEGER NOT NULL, execution TEXT NOT NULL, topic TEXT NOT NULL,
    message TEXT NOT NULL, details TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""


@dataclass(slots=True)
class JobRow:
    """A job as stored; `spec` is the normalised job without id, state and times. Times in nanoseconds."""

    id: str
    namespace: str
    name: str
    spec: dict[str, Any]
    state: str
    message: str
    version: int
    revision: int
    created: int
    modified: int
    secret: bool
    digest: str
    ran: bool = False
    """Whether the job was `Running` before: it says so once."""

    @property
    def over(self) -> bool:
        return self.state in _lifecycle.TERMINAL

    @property
    def wanted(self) -> int:
        """How many executions must complete: an ops job's run on all matching nodes, and there is one node."""
        return 1 if self.spec["Type"] in ("ops", "daemon") else int(self.spec["Count"])

    @property
    def task(self) -> dict[str, Any]:
        task: dict[str, Any] = self.spec["Tasks"][0]
        return task


@dataclass(slots=True)
class ExecutionRow:
    """An execution as stored; `started` tells that its payload may have begun, so that it is never begun again unasked."""

    id: str
    job: str
    job_version: int
    evaluation: str
    number: int
    created: int
    modified: int
    compute: int = _lifecycle.BID_ACCEPTED
    compute_message: str = "Running"
    desired: int = _lifecycle.DESIRED_RUNNING
    desired_message: str = ""
    published: bool = False
    output: dict[str, Any] = field(default_factory=dict)
    revision: int = 2
    started: bool = False

    @property
    def over(self) -> bool:
        return self.compute in _lifecycle.OVER


class Store:
    """The node's memory below one folder, which must be on a local disk and belong to this user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executions_folder = folder / "executions"
        self.jobs_folder = folder / "jobs"
        self.staging = folder / "staging"
        for place in (folder, self.executions_folder, self.jobs_folder, self.staging):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "node.db"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, cached_statements=256)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint=4000")
        self._db.executescript(_SCHEMA)

    def execution_folder(self, execution: str) -> Path:
        return self.executions_folder / execution

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it is kept or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, name: str, default: str) -> str:
        """A lasting fact about this node, set to `default` when it is first asked for."""
        self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, default))
        value: str = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0]
        return value

    # Jobs

    def put_job(self, job: JobRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job.id, job.namespace, job.name, json.dumps(job.spec), job.state, job.message, job.version, job.revision,
                job.created, job.modified, job.secret, job.digest, job.ran,
            ),
        )  # fmt: skip

    def touch_job(self, job: JobRow) -> None:
        """Stores a job's state: all but its spec, which may be long."""
        job.revision += 1
        job.modified = max(time.time_ns(), job.modified + 1)
        self._db.execute(
            "UPDATE jobs SET state = ?, message = ?, revision = ?, modified = ?, ran = ? WHERE id = ?",
            (job.state, job.message, job.revision, job.modified, job.ran, job.id),
        )

    def job(self, identity: str) -> JobRow | None:
        return next(self._jobs("WHERE id = ?", (identity,)), None)

    def job_named(self, name: str, namespace: str) -> JobRow | None:
        return next(self._jobs("WHERE namespace = ? AND name = ?", (namespace or "default", name)), None)

    def jobs_with_prefix(self, prefix: str) -> list[JobRow]:
        return list(self._jobs("WHERE substr(id, 1, ?) = ? LIMIT 2", (len(prefix), prefix)))

    def jobs(self, *, namespace: str = "", order: str = "created", reverse: bool = False) -> Iterator[JobRow]:
        """All jobs of a namespace ("" and "*": every one), by `created` or `modified`."""
        where, values = ("", ()) if namespace in ("", "*") else ("WHERE namespace = ?", (namespace,))
        column = "modified" if order == "modified" else "created"
        return self._jobs(f"{where} ORDER BY {column} {'DESC' if reverse else 'ASC'}", values)

    def unfinished(self) -> list[JobRow]:
        return list(self._jobs("WHERE state NOT IN ('Completed', 'Failed', 'Stopped') ORDER BY created"))

    def finished_before(self, moment: int) -> list[str]:
        rows = self._db.execute("SELECT id FROM jobs WHERE state IN ('Completed', 'Failed', 'Stopped') AND modified < ?", (moment,))
        return [row[0] for row in rows]

    def forget(self, job: str) -> None:
        with self.writing():
            for table, column in (("history", "job"), ("executions", "job"), ("versions", "job"), ("jobs", "id")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (job,))

    def _jobs(self, tail: str, values: Iterable[Any] = ()) -> Iterator[JobRow]:
        columns = "id, namespace, name, spec, state, message, version, revision, created, modified, secret, digest, ran"
        for row in self._db.execute(f"SELECT {columns} FROM jobs {tail}", tuple(values)):
            yield JobRow(
                **{
                    **dict(zip(columns.split(", "), row, strict=True)),
                    "spec": json.loads(row[3]),
                    "secret": bool(row[10]),
                    "ran": bool(row[12]),
                }
            )

    # Versions of a job that was updated under its name

    def put_version(self, job: str, version: int, answer: Mapping[str, Any]) -> None:
        self._db.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (job, version, json.dumps(answer)))

    def versions(self, job: str) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._db.execute("SELECT job_json FROM versions WHERE job = ? ORDER BY version", (job,))]

    # Executions

    def put_execution(self, execution: ExecutionRow) -> None:
        e = execution
        self._db.execute(
            "INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                e.id, e.job, e.job_version, e.evaluation, e.number, e.compute, e.compute_message, e.desired, e.desired_message,
                e.published, json.dumps(e.output), e.revision, e.created, e.modified, e.started,
            ),
        )  # fmt: skip

    def touch_execution(self, execution: ExecutionRow) -> None:
        execution.revision += 1
        execution.modified = max(time.time_ns(), execution.modified + 1)
        self.put_execution(execution)

    def executions(self, job: str) -> list[ExecutionRow]:
        return self._executions("WHERE job = ? ORDER BY number", (job,))

    def execution(self, identity: str) -> ExecutionRow | None:
        return next(iter(self._executions("WHERE id = ?", (identity,))), None)

    def execution_ids(self) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT id FROM executions")}

    def job_ids(self) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT id FROM jobs")}

    def _executions(self, tail: str, values: tuple[Any, ...]) -> list[ExecutionRow]:
        columns = (
            "id, job, job_version, evaluation, number, created, modified, compute, compute_message, desired, desired_message, "
            "published, output, revision, started"
        )
        rows = self._db.execute(f"SELECT {columns} FROM executions {tail}", values)
        names = columns.split(", ")
        return [
            ExecutionRow(
                **{
                    **dict(zip(names, row, strict=True)),
                    "published": bool(row[11]),
                    "output": json.loads(row[12]),
                    "started": bool(row[14]),
                }
            )
            for row in rows
        ]

    # History

    def add_events(self, job: JobRow, *events: Event) -> None:
        """Appends to a job's history, in order."""
        last: int = self._db.execute("SELECT coalesce(max(number), 0) FROM history WHERE job = ?", (job.id,)).fetchone()[0]
        now = time.time_ns()
        self._db.executemany(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (job.id, last + at, job.version, e.execution, e.topic, e.message, json.dumps(dict(e.details)), now + at)
                for at, e in enumerate(events, 1)
            ],
        )

    def history(
        self, job: str, *, after: int = 0, limit: int = 100, execution: str = "", kind: str = "all", since: int = 0
    ) -> list[dict[str, Any]]:
        """History items as the wire has them, in order; `kind` is all, job or execution; `since` in nanoseconds."""
        rows = self._db.execute(
            "SELECT number, job_version, execution, topic, message, details, time FROM history WHERE job = ? AND number > ? AND time >= ? "
            "AND (? = 'all' OR (? = 'job') = (execution = '')) AND (? = '' OR substr(execution, 1, ?) = ?) ORDER BY number LIMIT ?",
            (job, after, since, kind, kind, execution, len(execution), execution, limit),
        )
        return [_item(job, *row) for row in rows]


def _item(job: str, number: int, version: int, execution: str, topic: str, message: str, details: str, moment: int) -> dict[str, Any]:
    when = _lifecycle.timestamp(moment)
    event: dict[str, Any] = {"Message": message, "Topic": topic, "Timestamp": when}
    if details != "{}":
        event["Details"] = json.loads(details)
    item: dict[str, Any] = {
        "SeqNum": number,
        "Type": _lifecycle.EXECUTION_LEVEL if execution else _lifecycle.JOB_LEVEL,
        "JobID": job,
        "JobVersion": version,
    }
    if execution:
        item["ExecutionID"] = execution
    return {**item, "Event": event, "Time": when}
