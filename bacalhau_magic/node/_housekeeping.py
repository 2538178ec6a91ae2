"""What lies in the node's folder: what an earlier process left there, what no job owns, and what is old."""

from __future__ import annotations

import time
from collections.abc import Collection

from . import _attempt, _gather
from ._packages import Cache
from ._spool import Spool
from ._store import Store


class Housekeeping:
    """Removes files of the node; never one of an execution among the `live` ones."""

    def __init__(self, store: Store, spool: Spool, packages: Cache, live: Collection[str]) -> None:
        self._store = store
        self._spool = spool
        self._packages = packages
        self._live = live

    def prune(self, older_than: float) -> dict[str, int]:
        """Forgets jobs that ended more than `older_than` seconds ago, with all their files; how many, and the bytes freed."""
        before = _gather.disk_use(self._store.folder)
        done = 0
        staged: set[str] = set()
        for job_id in self._store.finished_before(time.time_ns() - int(older_than * 1e9)):
            executions = self._store.executions(job_id)
            if any(execution.id in self._live for execution in executions):
                continue
            if row := self._store.job(job_id):
                staged |= self._spool.staged(row)
            self._store.forget(job_id)
            for execution in executions:
                _gather.remove(self._store.execution_folder(execution.id))
            _gather.remove(self._store.jobs_folder / job_id)
            done += 1
        self._spool.sweep(staged)
        self._packages.prune(older_than)
        return {"Jobs": done, "Bytes": max(before - _gather.disk_use(self._store.folder), 0)}

    def leftovers(self) -> list[str]:
        """Executions of an earlier process that may have left something behind."""
        return [folder.name for folder in self._store.executions_folder.iterdir() if (folder / _attempt.RUN).exists()]

    def sweep(self) -> None:
        """Removes folders that no job of the store owns, and everything but log and result of executions that are over."""
        known, jobs = self._store.execution_ids(), self._store.job_ids()
        for folder in list(self._store.executions_folder.iterdir()):
            if folder.name not in known:
                _gather.remove(folder)
            elif folder.name not in self._live:
                _gather.remove(folder / _attempt.RUN)
                for part in folder.glob("result.tar.gz.*"):
                    part.unlink(missing_ok=True)
        for folder in list(self._store.jobs_folder.iterdir()):
            if folder.name not in jobs:
                _gather.remove(folder)
        self._spool.sweep()
