"""A job's published files: where they lie, and the archive that holds them, fetched; going on where a connection was lost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from .._stages import Endpoint, JobRef, is_loopback
from .._wire import SpecConfig
from ..errors import ApiError, ResultError, UnreachableError
from ._archives import DAMAGE, MAX_BYTES, MAX_FILES, is_file, opened
from ._client import Client
from ._parts import Part
from ._problems import clean

_TRIES = 4
"""Times that nothing more comes before a download is given up."""
_RESTARTS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_PASSING = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an archive lies: a path or URL for the client, and whether it is another place than the endpoint."""

    url: str
    anonymous: bool


def source(result: SpecConfig, endpoint: Endpoint) -> Source:
    """Where a published result is fetched from, as seen from here. Raises ResultError for a place that can't be reached.

    A loopback address is the node's own: it becomes the endpoint's host, or the endpoint's socket.
    """
    params = result.params or {}
    kind = result.type.lower()
    url = params.get("URL") if kind == "urldownload" else params.get("PreSignedURL") if kind == "s3presigned" else None
    if not isinstance(url, str):
        raise ResultError(
            f"The job's files were published as {clean(result.type) or 'nothing'!r}, which can't be fetched from here.",
            hint="Fetch them with the tool of that storage, or have the node publish them locally.",
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ResultError(f"The job's files lie at an address that can't be used: {clean(url, 200)}.")
    if is_loopback(parts.hostname):
        if endpoint.is_local:
            return Source(urlunsplit(("", "", parts.path, parts.query, "")), anonymous=False)
        host = urlsplit(endpoint.url).hostname or parts.hostname
        port = f":{parts.port}" if parts.port else ""
        parts = parts._replace(netloc=(f"[{host}]" if ":" in host else host) + port)
    there = urlsplit(endpoint.url)
    same = not endpoint.is_local and (parts.scheme, parts.hostname, parts.port) == (there.scheme, there.hostname, there.port)
    return Source(urlunsplit(parts), anonymous=not same)


def fetch_archive(
    client: Client,
    ref: JobRef,
    part: Part,
    *,
    max_bytes: int = MAX_BYTES,
    said: Callable[[int, int | None], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> None:
    """Write the job's published archive to `part`, going on with what is there. Raises ResultError, or the ApiError family.

    `said` hears of the bytes that are here and of the whole's, `halted` tells that the user wants no more. A lost
    connection is tried again from where it was lost.
    """
    published = [result for result in client.results(ref.job_id, ref.namespace) if result.type]
    if not published:
        raise ResultError(
            "The job published no files.",
            job_id=ref.job_id,
            hint="Files come back when --files is given and the cell writes to outputs/, from a node that has a publisher.",
        )
    place = source(published[-1], client.endpoint)
    fetching = _Fetching(client, ref, place, part, max_bytes, said, halted)
    with part:
        tries, pause = _TRIES, _FIRST_PAUSE
        while not fetching.is_done:
            before = part.size
            try:
                fetching.go_on()
            except ApiError as error:
                if part.size > before:
                    tries, pause = _TRIES, _FIRST_PAUSE
                tries -= 1
                if not tries or not (isinstance(error, UnreachableError) or error.status in _PASSING):
                    part.can_go_on = bool(part.headers())
                    raise _lost(ref, place, part, error) from error
                time.sleep(max(pause, min(error.retry_after, _LONGEST_PAUSE)))
                pause *= 2


@dataclass(slots=True)
class _Fetching:
    """One archive on its way into a part."""

    client: Client
    ref: JobRef
    place: Source
    part: Part
    max_bytes: int
    said: Callable[[int, int | None], None] | None
    halted: Callable[[], bool]
    is_done: bool = False
    _restarts: int = 0

    def go_on(self) -> None:
        """Ask once, for what is not here yet. Raises the ApiError family for a lost connection, ResultError."""
        part = self.part
        with self.client.download(self.place.url, anonymous=self.place.anonymous, headers=part.headers()) as answer:
            status = answer.status_code
            if status in _PASSING:
                raise UnreachableError(f"{_where(self.place)} answered with status {status}.", status=status)
            if status == 416:
                self._again()
                return
            if status not in (200, 206):
                raise ResultError(
                    f"The job's files can't be fetched: {_where(self.place)} answered with status {status}.", job_id=self.ref.job_id
                )
            if not part.begin(status, answer.headers):
                self._again()
                return
            if part.whole.total is not None:
                self._bound(part.whole.total)
            for piece in answer.iter_bytes():  # as it comes: what is here counts when the connection breaks
                self._bound(part.size + len(piece))
                part.write(piece)
                if self.said:
                    self.said(part.size, part.whole.total)
                if self.halted():
                    part.can_go_on = bool(part.headers())
                    raise ResultError(
                        "The job's files were not fetched to the end: that was interrupted.",
                        job_id=self.ref.job_id,
                        hint=_how_on(self.ref, part),
                    )
        if part.whole.total is not None and part.size != part.whole.total:
            raise UnreachableError(f"{_where(self.place)} ended early.")
        self.is_done = True

    def _again(self) -> None:
        """Begin anew with the whole: what is there is not what was begun with."""
        if self.part.whole.total is not None and self.part.size == self.part.whole.total:
            self.is_done = True  # nothing was missing any more
            return
        self.part.drop()
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise ResultError(f"The job's files at {_where(self.place)} changed again and again while they were fetched.")

    def _bound(self, size: int) -> None:
        if size > self.max_bytes:
            raise ResultError(f"The job's files are larger than {self.max_bytes // 1_000_000} MB.", job_id=self.ref.job_id)


def _how_on(ref: JobRef, part: Part) -> str:
    again = f"%bacalhau get {ref.word} DIR"
    return f"What came is kept: {again} goes on from there, with the same folder." if part.can_go_on else f"Fetch them again: {again}."


def _lost(ref: JobRef, place: Source, part: Part, error: ApiError) -> ResultError:
    if part.size:
        total = f" of {part.whole.total:,}" if part.whole.total else ""
        return ResultError(
            f"The connection to {_where(place)} was lost after {part.size:,}{total} bytes of the job's files: {error.message}",
            job_id=ref.job_id,
            hint=_how_on(ref, part),
        )
    return ResultError(
        f"The job's files lie at {_where(place)}, which can't be reached from here: {error.message}",
        job_id=ref.job_id,
        hint="Three ways out: the node's publisher address must be open to this machine (whoever runs it sets "
        "Publishers.Types.Local.Address); or publish to a store that both reach: --publisher s3://BUCKET/KEY; or return the data as a "
        "value, -o NAME, which comes by the log.",
    )


def _where(place: Source) -> str:
    parts = urlsplit(place.url)
    # Without the path and the query: they may be a capability.
    return f"{parts.scheme}://{clean(parts.netloc)}" if parts.netloc else "the endpoint"


@dataclass(frozen=True, slots=True)
class Log:
    """A job's two streams, as its archive holds them."""

    stdout: bytes
    stderr: bytes


def fetch_log(
    client: Client,
    ref: JobRef,
    *,
    max_bytes: int,
    said: Callable[[int, int | None], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Log:
    """The whole log of a job that published its results; `said` and `halted` as for `fetch_archive`. Raises ResultError, or the ApiError family."""
    with tempfile.TemporaryDirectory(prefix="bacalhau-") as folder:
        part = Part(Path(folder))
        fetch_archive(client, ref, part, max_bytes=2 * max_bytes, said=said, halted=halted)
        try:
            found = _streams(part.archive, max_bytes)
        except DAMAGE as error:
            raise ResultError(f"The job's archive is damaged: {clean(str(error), 200)}.", job_id=ref.job_id) from error
    if "stdout" not in found:
        raise ResultError("The job's archive holds no stdout.", job_id=ref.job_id)
    return Log(found["stdout"], found.get("stderr", b""))


def _streams(archive: Path, max_bytes: int) -> dict[str, bytes]:
    """The two regular files at the archive's top, as far as they are there."""
    found: dict[str, bytes] = {}
    with archive.open("rb") as file, opened(file) as tar:
        for count, member in enumerate(tar, 1):
            name = member.name.removeprefix("./")
            if count > MAX_FILES or len(found) == 2:
                break
            if is_file(member) and name in ("stdout", "stderr") and name not in found:
                if member.size > max_bytes:
                    raise ResultError(f"The job's published {name} is larger than {max_bytes // 1_000_000} MB.")
                found[name] = b"".join(tar.pieces(member))
    return found
