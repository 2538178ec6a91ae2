"""Overview: many jobs' snapshots as one, for a card or a line that stands for all of them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ._bars import Bar
from ._snapshot import Snapshot, Tone
from ._stages import seconds

Group = Literal["completed", "running", "waiting", "failed", "stopped"]

_GROUPS: Mapping[str, Group] = {
    "completed": "completed",
    "failed": "failed",
    "stopped": "stopped",
    "running": "running",
    "fetching": "running",
}
_TONES: Mapping[Group, Tone] = {"completed": "ok", "running": "run", "waiting": "warn", "failed": "bad", "stopped": "quiet"}
_WIDTH = 20
"""Characters of the bar."""
_ENOUGH = 3
"""Jobs that must be over before the rest's time is guessed."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What the views draw for many jobs; it reads as a Snapshot does, and has no log of its own."""

    jobs: tuple[Snapshot, ...]
    log: tuple[tuple[str, str], ...] = ()
    log_dropped: int = 0
    notices: tuple[str, ...] = ()
    hint: str = ""
    place: str = ""
    node: str = ""

    def at(self, now: float) -> Overview:
        """This overview at a later unix time."""
        return replace(self, jobs=tuple(job.at(now) for job in self.jobs))

    @property
    def now(self) -> float:
        return max(job.now for job in self.jobs)

    @property
    def counts(self) -> dict[Group, int]:
        """How many are in each state, in the order in which they are said; states without a job are left out."""
        found = [_GROUPS.get(job.phase, "waiting") for job in self.jobs]
        return {group: found.count(group) for group in _TONES if group in found}

    @property
    def is_over(self) -> bool:
        return all(job.is_over for job in self.jobs)

    @property
    def phase(self) -> str:
        """The worst end once all are over; before that how many are."""
        if not self.is_over:
            return f"{self.bar.done:.0f}"
        return next(phase for phase in ("failed", "stopped", "completed") if any(job.phase == phase for job in self.jobs))

    @property
    def tone(self) -> Tone:
        if not self.is_over:
            return "warn" if self.problem else "run"
        return "bad" if "failed" in self.counts else "quiet" if "stopped" in self.counts else "ok"

    @property
    def title(self) -> str:
        return f"{len(self.jobs)} jobs" if len(self.jobs) != 1 else "1 job"

    @property
    def facts(self) -> str:
        """ "62 completed · 31 running · 5 waiting · 2 failed · about 40 s left"."""
        parts = [f"{count} {group}" for group, count in self.counts.items()]
        return " · ".join([*parts, *([f"about {_rounded(self.left)} left"] if self.left is not None else [])])

    @property
    def line(self) -> str:
        """The state as one line, with a bar: "100 jobs ━━━━━━──── 62 completed · 38 running"."""
        filled = round(self.bar.fraction * _WIDTH)
        return f"{self.title} {'━' * filled}{'─' * (_WIDTH - filled)} {self.facts}"

    @property
    def left(self) -> float | None:
        """Seconds that the rest may take at the pace until now, rounded; None while that would be a guess."""
        over, all_of_them = int(self.bar.done), len(self.jobs)
        if over < _ENOUGH or over == all_of_them:
            return None
        left = (self.now - min(job.started for job in self.jobs)) / over * (all_of_them - over)
        return float(round(left, -1) if left > 20 else max(1, round(left)))

    @property
    def bar(self) -> Bar:
        """How many are over."""
        return Bar(sum(job.is_over for job in self.jobs), len(self.jobs))

    @property
    def problem(self) -> str:
        """A contact that is lost, which concerns all jobs of that place."""
        return next((job.contact for job in self.jobs if job.contact), "")

    @property
    def problem_lines(self) -> tuple[str, ...]:
        return ()

    def as_json(self, *, log_kept: int = 0) -> dict[str, Any]:  # noqa: ARG002 - as a Snapshot's
        """The overview for a browser: its sentences, the parts of its bar, and a row for each job, without logs."""
        return {
            "version": 1,
            "kind": "jobs",
            "now": self.now,
            "tone": self.tone,
            "title": self.title,
            "facts": self.facts,
            "problem": self.problem,
            "parts": [[_TONES[group], group, count] for group, count in self.counts.items()],
            "rows": [_row(job) for job in self.jobs],
            "over": self.is_over,
        }


def _rounded(left: float) -> str:
    return f"{left:.0f} s" if left < 60 else seconds(left)


def _row(job: Snapshot) -> dict[str, Any]:
    whole = job.as_json(log_kept=0)
    kept = ("tone", "title", "name", "facts", "place", "clock", "rest", "problem", "over")
    return {**{key: whole[key] for key in kept}, "failed": job.phase == "failed"}
