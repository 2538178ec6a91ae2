"""The inputs that go by a store: the largest files, so that what is left fits into the job."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from .. import _marks, _wire
from .._stages import CellRequest, InputItem, Target, Upload
from ._folders import files_below

__all__ = ["apart", "expired", "source"]

_ROOM = 500_000
"""Bytes of inputs that a cluster's job has room for, in base64 and beside the signed addresses."""
_LEAST = 10_000
_MOST = 50
"""Files of one job that go by the store: each has an address in the job."""


def apart(request: CellRequest, target: Target) -> tuple[Upload, ...]:
    """What of a request's inputs goes by the target's store; empty where it has none or all fits. Reads the files once, for their hash."""
    if target.store is None or target.staging is not None:
        return ()
    found = [(size, item, inner, file) for item in request.inputs if not item.url for inner, file, size in _files(item)]
    left = sum(size for size, *_ in found)
    taken: list[Upload] = []
    for size, item, inner, file in sorted(found, key=lambda one: -one[0])[:_MOST]:
        if left <= _ROOM or size < _LEAST:
            break
        left -= size
        place = PurePosixPath(item.target or f"{_marks.INPUTS_PATH}/{item.path}") / inner
        digest = _digest(item, file)
        key = target.store.key(digest, place.name)
        taken.append(
            Upload(item.name, key, f"s3://{target.store.bucket}/{key}#{len(taken)}", digest, size, str(place), item, str(inner), file)
        )
    return tuple(taken)


def _files(item: InputItem) -> list[tuple[PurePosixPath, Path | None, int]]:
    """(path below the item's own, file, bytes) of each file of an item; a value has no file."""
    if item.source is None:
        return [(PurePosixPath("."), None, len(item.data))]
    return [(inner, file, file.stat().st_size) for inner, file in files_below(item.name, item.source) if file is not None]


def _digest(item: InputItem, file: Path | None) -> str:
    if file is None:
        return hashlib.sha256(item.data).hexdigest()
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def expired(url: str, now: float) -> bool:
    """Whether a signed address is over at a unix time, by what it says of itself; one without an end is not."""
    facts = dict(parse_qsl(urlsplit(url).query)) if url.startswith(("http:", "https:")) else {}
    try:
        signed = datetime.strptime(facts["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return signed.timestamp() + int(facts["X-Amz-Expires"]) < now
    except (KeyError, ValueError):
        return False


def source(one: Upload, number: int) -> _wire.InputSource:
    """The input source of an upload, its address still a place-holder.

    A node puts a download's file, by the address's last part, below the target; two sources may not have the same
    target, and each of these has the folder spelled in a way of its own.
    """
    folder = str(PurePosixPath(one.place).parent) + "/." * (number + 1)
    return _wire.InputSource(
        source=_wire.SpecConfig(type="urlDownload", params={"URL": one.placeholder}), alias=f"{one.name}-{number}", target=folder
    )
