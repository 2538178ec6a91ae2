"""Views of a job's progress: each places the finished sentences of a Snapshot, and knows nothing else."""

from ._audience import Audience
from ._sequences import clean
from ._static import MIME_TYPE, Outcome, bundle, outcome_of, receipt
from ._view import Drawn, NoView, Place, Progress, View, choose_view

__all__ = [
    "MIME_TYPE",
    "Audience",
    "Drawn",
    "NoView",
    "Outcome",
    "Place",
    "Progress",
    "View",
    "bundle",
    "choose_view",
    "clean",
    "outcome_of",
    "receipt",
]
