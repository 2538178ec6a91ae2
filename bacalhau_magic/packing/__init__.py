"""A cell becomes a job: one archive with the cell, its wrapper and its inputs, and the wire Job around it."""

from ._spec import pack, repacked, shown, yaml
from ._staging import stage, unstage

__all__ = ["pack", "repacked", "shown", "stage", "unstage", "yaml"]
