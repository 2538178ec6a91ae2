"""How what becomes of a job is shown where there is no shell: on stderr, and by the view alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._job import RemoteJob
from ._overview import Overview
from ._stages import JobResult
from .progress import View


class Display:
    """A script's display; a shell's is `_notebook.ShellDisplay`."""

    @contextmanager
    def sending(self, job: RemoteJob) -> Iterator[None]:  # noqa: ARG002
        """Around the sending of a job that nobody waits for."""
        yield

    def ended(self, job: RemoteJob, view: View, result: JobResult) -> Any:
        """The job that was waited for is over; returns the cell's value."""
        view.close(job.snapshot, None, {})
        return result.value

    def summed(self, view: View, overview: Overview) -> None:
        """The wait for many jobs is over."""
        view.close(overview, None, {})

    def broke(self, job: RemoteJob, view: View) -> None:
        """The wait ended without a result: what was raised is shown by whoever catches it."""
        view.close(job.snapshot, None, {})

    def say(self, sentence: str) -> None:
        """One sentence beside the results."""
        sys.stderr.write(f"bacalhau: {sentence}\n")
        sys.stderr.flush()
