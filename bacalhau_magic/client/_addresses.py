"""An address that nodes will fetch from, asked as they ask it first: by HEAD, without any credential of ours."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from .._stages import is_loopback
from .._wire import whole_number


@dataclass(frozen=True, slots=True)
class Headed:
    """What an address answered: its status, and its size in bytes where it tells one that is a number."""

    status: int
    size: int | None


def head(address: str, *, patience: float, follow: bool) -> Headed:
    """Ask an address by HEAD, for at most `patience` seconds; with `follow` wherever it leads.

    Raises ValueError for what is no address, and ConnectionError, whose cause is httpx's error, where no answer came.
    """
    try:
        url = httpx.URL(address)
        answer = httpx.head(url, follow_redirects=follow, timeout=patience, trust_env=not is_loopback(url.host))
    except httpx.InvalidURL as problem:
        raise ValueError(str(problem)) from None
    except httpx.HTTPError as problem:
        raise ConnectionError(str(problem)) from problem
    return Headed(answer.status_code, whole_number(answer.headers.get("content-length", "")))
