"""Large inputs on their way to a store, and the addresses by which a job's node fetches them without credentials.

s3fs does the work, and is imported on first use. A content that the store has already is not sent again; what lies
there too long is removed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._stages import Upload
from ._stores import Store
from .client import head
from .errors import ConfigError, UnsendableInputError

__all__ = ["LONGEST", "Uploaded", "upload"]

LONGEST = 7 * 86400
"""Seconds that a signed address may last at most: S3's own bound."""
_PIECE = 1 << 20
_BLOCK = 8 << 20
"""Bytes of one part of an upload."""
_REMOVED = 1000
_PATIENCE = 20.0
_cleaned: set[Store] = set()
"""The stores that this process has cleaned up already."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Place-holder → signed address, and the names of the inputs that were sent and of those that were there already."""

    addresses: Mapping[str, str]
    sent: tuple[str, ...]
    known: tuple[str, ...]


def upload(
    store: Store,
    uploads: Sequence[Upload],
    *,
    expires: int,
    said: Callable[[int, int | None], None],
    halted: Callable[[], bool],
) -> Uploaded:
    """Have the contents in the store, and sign an address for each, good for `expires` seconds.

    `said` hears of the bytes that are there, of all. Raises UnsendableInputError, ConfigError; InterruptedError when
    `halted` says so.
    """
    files = _files(store)
    total, done = sum(one.size for one in uploads), 0
    sent, known, addresses = [], [], {}
    for one in uploads:
        with _told(store, one):
            place = f"{store.bucket}/{one.key}"
            if _is_there(files, store, one, place, expires):
                known.append(one.name)
            else:
                before = done
                for size in _sent(files, one, place):
                    if halted():
                        raise InterruptedError
                    said(before + size, total)
                sent.append(one.name)
            done += one.size
            said(done, total)
            addresses[one.placeholder] = address = str(files.sign(place, expiration=expires))
        _check(store, one, address)
    _clean(files, store)
    return Uploaded(addresses, tuple(dict.fromkeys(sent)), tuple(dict.fromkeys(known)))


def _files(store: Store) -> Any:
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise ConfigError(
            f"Staging in {store.label} needs s3fs, which is not installed here.",
            setting="staging",
            hint="Install it for this kernel: %pip install 'bacalhau_magic[s3]'",
        ) from None
    return S3FileSystem(
        endpoint_url=store.endpoint or None,
        client_kwargs={"region_name": store.region} if store.region else {},
        config_kwargs={"connect_timeout": 10, "read_timeout": 60, "signature_version": "s3v4"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _is_there(files: Any, store: Store, one: Upload, place: str, expires: int) -> bool:
    """Whether the store has the content, for long enough; under another name it is copied there."""
    folder, _, _ = place.rpartition("/")
    try:
        listed = files.find(folder, detail=True)
    except FileNotFoundError:
        return False
    fresh = [name for name, facts in listed.items() if facts.get("size") == one.size and _age(facts) + expires < store.keep]
    if place in fresh:
        return True
    if not fresh:
        return False
    files.cp_file(fresh[0], place)
    return True


def _age(facts: Mapping[str, Any]) -> float:
    written = facts.get("LastModified")
    return time.time() - written.timestamp() if isinstance(written, datetime) else float("inf")


def _sent(files: Any, one: Upload, place: str) -> Iterator[int]:
    """Write the content, and say after each piece how much of it went; nothing is there until all of it is."""
    digest, size = hashlib.sha256(), 0
    out = files.open(place, "wb", block_size=_BLOCK)
    try:
        for piece in _pieces(one):
            digest.update(piece)
            out.write(piece)
            size += len(piece)
            yield size
        if digest.hexdigest() != one.digest:
            raise UnsendableInputError(one.name, "it was changed while it was sent")
        out.close()
    except BaseException:
        with suppress(Exception):
            out.discard()
        out.closed = True  # or its destructor would write what came so far
        raise


def _pieces(one: Upload) -> Iterator[bytes]:
    if one.source is None:
        for at in range(0, len(one.data), _PIECE):
            yield one.data[at : at + _PIECE]
        return
    with one.source.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


class _told:  # noqa: N801 - a context, read like a function
    """Says of an input what kept the store from taking it."""

    def __init__(self, store: Store, one: Upload) -> None:
        self._store, self._one = store, one

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        if problem is None or not isinstance(problem, Exception) or isinstance(problem, UnsendableInputError | InterruptedError):
            return
        reason, hint = _reason(problem)
        raise UnsendableInputError(self._one.name, f"the store {self._store.address} did not take it: {reason}", hint=hint) from problem


def _reason(problem: Exception) -> tuple[str, str]:
    name = type(problem).__name__
    if "Credentials" in name:
        return "no credentials were found", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
    if isinstance(problem, PermissionError):
        return "access was denied", "Its credentials must be allowed to read, write and list there."
    if isinstance(problem, FileNotFoundError):
        return "there is no such bucket", "Make the bucket, or correct the staging setting."
    text = " ".join(str(problem).split())[:200].rstrip(".")
    return "".join(char for char in text if char.isprintable()) or name, "Check the staging setting: %bacalhau config --show-origin."


def _check(store: Store, one: Upload, address: str) -> None:
    """Ask as a node will ask first, by HEAD; raises UnsendableInputError where the store refuses that."""
    try:
        answer = head(address, patience=_PATIENCE, follow=False)
    except (ValueError, ConnectionError) as problem:
        raise UnsendableInputError(one.name, f"its address at {store.address} can't be reached: {problem}") from None
    if answer.status != 200 or answer.size != one.size:
        raise UnsendableInputError(
            one.name,
            f"a node asks for its size first (HEAD), and {store.address} answers that with status {answer.status}",
            hint="A store that signs an address for one method alone, as AWS does, can't serve nodes. Put the file there yourself and give them "
            "-i s3://… (they fetch it with their own credentials) or -i https://…, use another store, or send a smaller sample.",
        )


def _clean(files: Any, store: Store) -> None:
    """Remove what was staged too long ago, once a process; what can't be removed is left."""
    if store in _cleaned:
        return
    _cleaned.add(store)
    with suppress(Exception):
        listed = files.find(f"{store.bucket}/{store.folder}", detail=True)
        old = [name for name, facts in listed.items() if store.is_ours(name.partition("/")[2]) and store.keep < _age(facts) < float("inf")]
        for name in old[:_REMOVED]:
            files.rm_file(name)
