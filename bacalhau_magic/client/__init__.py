"""A typed client of Bacalhau's HTTP API."""

from __future__ import annotations

from ._addresses import head
from ._client import Client
from ._download import fetch_log
from ._files import Fetched, Rights, check_directory, fetch_files, pack_files, unpack_files
from ._logs import LogStream, LogStreamError
from ._problems import clean
from ._reader import Inbox, LogOver, LogText, Reader

__all__ = [
    "Client",
    "Fetched",
    "Inbox",
    "LogOver",
    "LogStream",
    "LogStreamError",
    "LogText",
    "Reader",
    "Rights",
    "check_directory",
    "clean",
    "fetch_files",
    "fetch_log",
    "head",
    "pack_files",
    "unpack_files",
]
