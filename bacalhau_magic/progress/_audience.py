"""Audience: what is known of a front end, which shows that it draws cards by drawing one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Audience"]


@dataclass
class Audience:
    """One front end of a kernel."""

    keeps_outputs: bool = True
    """Whether an output has a place, where another one can follow it, as in a notebook; in a console it has scrolled by."""
    draws_cards: bool | None = None
    """Whether it has the widget's JavaScript; None while nobody knows."""

    @property
    def is_console(self) -> bool:
        """Whether only text that is written over is live there."""
        return self.draws_cards is False and not self.keeps_outputs
