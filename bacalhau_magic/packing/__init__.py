"""A cell becomes a job: one archive with the cell, its wrapper and its inputs, and the wire Job around it."""

from ._folders import Below, files_below
from ._spec import addressed, pack, repacked, shown, yaml
from ._staging import stage, unstage

__all__ = ["Below", "addressed", "files_below", "pack", "repacked", "shown", "stage", "unstage", "yaml"]
