"""An S3-compatible store for inputs that are too large for a job: where it is, and the keys in it (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ._values import duration

__all__ = ["Store", "read"]

_FACTS = ("endpoint", "region", "keep")
_KEPT = 7 * 86400.0
_LEAST = 2 * 86400.0
_OURS = "bacalhau-magic"
"""The folder of all that is staged: whatever else lies in the bucket is somebody's own, however it is called."""


@dataclass(frozen=True, slots=True)
class Store:
    """A place in a bucket; `endpoint` is the store's own address, "" for AWS. What lies there longer than `keep` seconds is removed.

    Credentials stand nowhere here: they are found where S3's tools find them.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    keep: float = _KEPT

    @property
    def label(self) -> str:
        """How the place is called in sentences."""
        return f"s3://{'/'.join(part for part in (self.bucket, self.prefix) if part)}"

    @property
    def address(self) -> str:
        """What tells it from any other place: what a user trusts."""
        return f"{self.label} at {self.endpoint or 'AWS'}"

    @property
    def folder(self) -> str:
        """The part of the bucket that is ours alone: below it lies what `key` names."""
        return "/".join(part for part in (self.prefix, _OURS) if part)

    def key(self, digest: str, name: str) -> str:
        """The key of a content by its sha256; the last part is what the file is called in the job."""
        return f"{self.folder}/{digest}/{name}"

    def is_ours(self, key: str) -> bool:
        """Whether a key is one that `key` makes: nothing else in the bucket is ever removed."""
        return re.fullmatch(re.escape(self.folder) + r"/[0-9a-f]{64}/[^/]+", key) is not None


def read(value: object) -> Store:
    """A store of `s3://BUCKET/PREFIX[?endpoint=URL&region=R&keep=7d]`, or of a table with url, endpoint, region, keep.

    Raises ValueError saying what was expected.
    """
    if isinstance(value, Mapping):
        facts = {str(key): text for key, text in value.items()}
        url = facts.pop("url", None)
    else:
        facts, url = {}, value
    if not isinstance(url, str) or not url.strip():
        raise ValueError("expected a store such as s3://bucket/prefix")
    parts = urlsplit(url.strip())
    if parts.scheme != "s3" or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", parts.netloc):
        raise ValueError("expected a store such as s3://bucket/prefix, without user and password")
    facts = {**dict(parse_qsl(parts.query)), **facts}
    if wrong := sorted(facts.keys() - set(_FACTS)):
        hint = (
            "; credentials are found as S3's tools find them, in the environment or ~/.aws"
            if "key" in wrong[0] or "secret" in wrong[0]
            else ""
        )
        raise ValueError(f"expected {', '.join(_FACTS)}, not {wrong[0]!r}{hint}")
    keep = duration(facts.get("keep", _KEPT))
    if keep < _LEAST:
        raise ValueError("keep: expected 2d or more, because a job in the background may wait for more than a day")
    return Store(parts.netloc, parts.path.strip("/"), _endpoint(facts.get("endpoint", "")), str(facts.get("region", "")), keep)


def _endpoint(value: object) -> str:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password or parts.query):
        raise ValueError("endpoint: expected an address such as https://host:9000, without user and password")
    return text
