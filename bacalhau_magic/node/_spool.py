"""What this node keeps on disk of jobs' inputs: long data URLs beside the database, and what was staged for them."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import _gather, _inputs
from ._intake import Refusal
from ._store import JobRow, Store

__all__ = ["Spool"]

_IN_ROW = 32_768
"""A longer data URL is kept as a file beside the database, so that a row stays small."""

_STAGED_ALONE = 86_400.0
"""Seconds for which what was staged may wait for its job."""


class Spool:
    """A store's folders of inputs. A long data URL is known by its job, the job's version and the number of its input source."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Long inline inputs

    def split(self, spec: dict[str, Any]) -> dict[int, str]:
        """Takes long data URLs out of a spec: number of the input source → URL."""
        urls: dict[int, str] = {}
        for number, source in enumerate(spec["Tasks"][0].get("InputSources") or ()):
            params = source["Source"].get("Params") or {}
            url = params.get("URL", "")
            if source["Source"]["Type"].lower() == "inline" and isinstance(url, str) and len(url) > _IN_ROW:
                urls[number] = url
                params["URL"] = url.partition(",")[0][:256] + ","
        return urls

    def keep(self, job_id: str, version: int, urls: Mapping[int, str]) -> None:
        for number, url in urls.items():
            path = self._path(job_id, version, number)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(url, "utf-8", "replace")

    def carry_over(self, job: JobRow) -> None:
        """Gives the job's next version the URLs of this one."""
        for number, path in self.urls(job).items():
            os.link(path, self._path(job.id, job.version + 1, number))

    def urls(self, job: JobRow) -> dict[int, Path]:
        """The files that hold a job's long data URLs, by the number of the input source."""
        sources = job.task.get("InputSources") or ()
        paths = {number: self._path(job.id, job.version, number) for number in range(len(sources))}
        return {number: path for number, path in paths.items() if path.exists()}

    def whole(self, job: JobRow) -> JobRow:
        """The job with its long inline inputs put back into its spec."""
        spec = copy.deepcopy(job.spec)
        for number, path in self.urls(job).items():
            spec["Tasks"][0]["InputSources"][number]["Source"]["Params"]["URL"] = path.read_text("utf-8")
        return replace(job, spec=spec)

    def _path(self, job_id: str, version: int, number: int) -> Path:
        return self._store.jobs_folder / job_id / f"{version}-{number}.url"

    # Staged files

    def check(self, spec: Mapping[str, Any]) -> None:
        """Raises Refusal for an input that would lie outside the staging folder, or isn't there."""
        for source in _staged_sources(spec["Tasks"][0]):
            try:
                _inputs.inside(self._store.staging, str((source.get("Params") or {}).get("SourcePath", "")))
            except _inputs.InputProblem as problem:
                raise Refusal(str(problem), code="BadRequest", component="Node") from None

    def staged(self, job: JobRow) -> set[str]:
        """The names in the staging folder that a job's inputs lie in."""
        found = set()
        for source in _staged_sources(job.task):
            with suppress(_inputs.InputProblem):
                path = _inputs.inside(self._store.staging, str(source["Params"].get("SourcePath", "")))
                found.add(path.relative_to(os.path.realpath(self._store.staging)).parts[0])
        return found

    def sweep(self, forgotten: Collection[str] = ()) -> None:
        """Removes what only forgotten jobs had staged, and what was staged for a job that never came."""
        used = {name for job in self._store.jobs() for name in self.staged(job)}
        for path in list(self._store.staging.iterdir()):
            alone = path.name in forgotten or time.time() - path.lstat().st_mtime > _STAGED_ALONE
            if path.name not in used and alone:
                _gather.remove(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _staged_sources(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    sources = [source["Source"] for source in task.get("InputSources") or ()]
    return [source for source in sources if source["Type"].lower() in _inputs.STAGED_TYPES]
