"""A typed client of Bacalhau's HTTP API."""

from __future__ import annotations

from ._client import Client
from ._logs import LogStream, LogStreamError

__all__ = ["Client", "LogStream", "LogStreamError"]
