"""A cell becomes a job: one archive with the cell, its wrapper and its inputs, and the wire Job around it."""

from ._payload import cluster_limit
from ._spec import pack, repacked, shown

__all__ = ["cluster_limit", "pack", "repacked", "shown"]
