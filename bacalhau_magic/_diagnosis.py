"""What a diagnosis is: checks with their outcomes and advice, as text, table, JSON and plain data."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

__all__ = ["Check", "Diagnosis", "Outcome", "line", "version"]

Outcome = Literal["passed", "failed", "skipped"]
_COLOURS: Mapping[Outcome, str] = {
    "passed": "var(--jp-success-color1, #2e7d32)",
    "failed": "var(--jp-error-color1, #c62828)",
    "skipped": "inherit",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a diagnosis: what was found, and what to do about it."""

    name: str
    outcome: Outcome
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks in their order; iterates over them as dicts. True where none failed."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return all(check.outcome != "failed" for check in self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __iter__(self) -> Iterator[dict[str, str]]:
        return (asdict(check) for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    @property
    def summary(self) -> str:
        """The counts in one sentence."""
        count = {outcome: sum(check.outcome == outcome for check in self.checks) for outcome in ("passed", "failed", "skipped")}
        return ", ".join(f"{number} {outcome}" for outcome, number in count.items()) + "."

    def to_json(self) -> str:
        """The diagnosis as JSON: whether all is well, the versions, the checks."""
        versions = {"bacalhau_magic": version("bacalhau_magic"), "python": sys.version.split()[0], "platform": sys.platform}
        return json.dumps({"ok": bool(self), **versions, "checks": list(self)}, indent=2)

    def __repr__(self) -> str:
        return "\n".join([*(line(check) for check in self.checks), self.summary])

    def _repr_html_(self) -> str:
        cell = "text-align: left; padding: 2px 12px 2px 0; vertical-align: top"
        rows = "".join(
            f'<tr><td style="{cell}; color: {_COLOURS[check.outcome]}">{check.outcome}</td><th scope="row" style="{cell}">{html.escape(check.name)}</th>'
            f'<td style="{cell}">{html.escape(check.says)}{f"<br>→ {html.escape(check.advice)}" if check.advice else ""}</td></tr>'
            for check in self.checks
        )
        return f"<table><tbody>{rows}</tbody></table><p>{self.summary}</p>"


def line(check: Check) -> str:
    """A check as text: one line, and one more where there is something to do."""
    text = f"{check.outcome:<8}{check.name:<15}{check.says}"
    return f"{text}\n{'':<23}→ {check.advice}" if check.advice else text


def version(package: str) -> str:
    """A package's version, "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
