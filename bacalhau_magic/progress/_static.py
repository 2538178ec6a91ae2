"""What stays in the notebook when the job is over: the bundle, and the receipt beside it.

The bundle's data is the same for the same outcome, so that a notebook's file changes only where its results do; ids,
node, times and route are in the receipt, which is metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal

from .._snapshot import Snapshot
from ._sequences import clean
from ._view import Drawn

__all__ = ["MIME_TYPE", "Outcome", "bundle", "live", "outcome_of", "receipt"]

Outcome = Literal["completed", "failed", "stopped", "submitted"]

MIME_TYPE = "application/vnd.bacalhau.job+json"

_LOOK: Mapping[Outcome, tuple[str, str, str]] = {
    "completed": ("✓", "Completed", "var(--jp-success-color1, #1a7f4b)"),
    "failed": ("✕", "Failed", "var(--jp-error-color1, #b3261e)"),
    "stopped": ("■", "Stopped", "var(--jp-ui-font-color2, #5f6773)"),
    "submitted": ("↗", "Submitted", "var(--jp-brand-color1, #1669c9)"),
}
_HTML = (
    '<div style="border: 1px solid var(--jp-border-color2, #d9dde3); border-left: 3px solid {colour}; border-radius: 4px; padding: 6px 10px;'
    ' font-size: 13px; line-height: 1.45">'
    '<span aria-hidden="true" style="color: {colour}; font-weight: 700; display: inline-block; width: 16px;'
    ' margin-right: 8px; text-align: center">{icon}</span>'
    '<span style="font-weight: 600">{title}</span>'
    "{more}</div>"
)
_MORE = ' <span style="color: var(--jp-ui-font-color2, #5f6773)">{text}</span>'
_TONES: Mapping[str, tuple[str, str]] = {
    "run": ("▶", "var(--jp-brand-color1, #1669c9)"),
    "warn": ("◷", "var(--jp-warn-color1, #8f5a00)"),
    "bad": ("✕", "var(--jp-error-color1, #b3261e)"),
    "ok": ("✓", "var(--jp-success-color1, #1a7f4b)"),
    "quiet": ("■", "var(--jp-ui-font-color2, #5f6773)"),
}


def bundle(outcome: Outcome, failure: str = "") -> dict[str, Any]:
    """The MIME data that a job leaves in a notebook: constant for an outcome. `failure` is the title of one with a name of its own."""
    icon, title, colour = _LOOK[outcome]
    title = failure or title
    return {
        "text/plain": f"bacalhau: {title[:1].lower()}{title[1:]}",
        "text/html": _HTML.format(icon=icon, title=escape(title), colour=colour, more=""),
        MIME_TYPE: {"version": 1, "outcome": outcome, **_named(failure)},
    }


def _named(failure: str) -> dict[str, str]:
    return {"failure": failure} if failure else {}


def live(snapshot: Drawn) -> dict[str, Any]:
    """What stands in the card's place while the job runs, where there are no cards: one line; at the end the bundle takes its place."""
    icon, colour = _TONES[snapshot.tone]
    words = clean(" · ".join(part for part in (snapshot.line, snapshot.problem) if part), colours=False)
    title = words[: len(snapshot.title)]
    more = _MORE.format(text=escape(words[len(title) :].strip(" ·"))) if len(words) > len(title) else ""
    return {
        "text/plain": f"bacalhau: {words}",
        "text/html": _HTML.format(icon=icon, title=escape(snapshot.title), colour=colour, more=more),
    }


def outcome_of(snapshot: Drawn) -> Outcome:
    """The outcome that a snapshot tells: "submitted" while the job is not over."""
    match snapshot.phase:
        case "completed" | "failed" | "stopped" as phase:
            return phase
        case _:
            return "submitted"


_INSTEAD = "Ran here instead: the cell could not be sent to Bacalhau."
"""What a batch run keeps of a job that fell back: no address, which is nobody else's business."""


def receipt(snapshot: Snapshot, *, keep: Literal["live", "always", "never"] = "live", live: bool) -> dict[str, Any]:
    """The bundle's metadata: job, node, start (UTC), route, notices, at the end seconds, outcome and what it brought; {} where no receipt is kept.

    In a batch run it has no more than that the job did not run where it was to run, where that is so.
    """
    if keep == "never" or (keep == "live" and not live and not snapshot.instead):
        return {}
    if keep == "live" and not live:
        return {"bacalhau": {"version": 1, "notices": [_INSTEAD]}}
    facts = {
        "version": 1,
        "job": snapshot.job_id,
        "name": snapshot.name,
        "node": snapshot.node,
        "started": datetime.fromtimestamp(snapshot.started, UTC).isoformat(timespec="seconds"),
        "seconds": round(snapshot.elapsed, 1) if snapshot.is_over else None,
        "outcome": snapshot.phase if snapshot.is_over else "",
        **_named(snapshot.failure),
        "result": snapshot.brought,
        "route": snapshot.route,
        "notices": list(snapshot.notices),
    }
    return {"bacalhau": {key: value for key, value in facts.items() if value not in ("", None, [])}}
