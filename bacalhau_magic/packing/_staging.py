"""Large inputs for the embedded node: copied once into its staging folder, where the job reads them.

Packing only says where they will lie; they are copied when the job is sent.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from .. import _marks, _wire
from .._stages import CellRequest, InputItem, PackedJob, Route, Staged
from ..errors import UnsendableInputError
from ._folders import files_below

__all__ = ["LARGE", "source", "stage", "staged", "unstage"]

LARGE = 4_000_000
"""Bytes from which on an input of the embedded node is staged: less is as fast in the job itself."""


def staged(request: CellRequest, route: Route, request_id: str) -> tuple[Staged, ...]:
    """The inputs of a request that go by the target's staging folder, and where each will lie."""
    folder = route.target.staging
    if folder is None or not route.target.is_local:
        return ()
    large = [item for item in request.inputs if not item.url and item.size >= LARGE]
    return tuple(Staged(item, folder / request_id / str(number)) for number, item in enumerate(large))


def source(one: Staged) -> _wire.InputSource:
    """The input source of a staged input: a read-only path of this machine."""
    target = one.item.target or str(PurePosixPath(_marks.INPUTS_PATH) / one.item.path)
    where = _wire.SpecConfig(type="localDirectory", params={"SourcePath": str(one.place), "ReadWrite": False})
    return _wire.InputSource(source=where, alias=one.item.name, target=target)


def stage(packed: PackedJob) -> None:
    """Copies a job's large inputs to where its spec says that they are. Raises UnsendableInputError, and leaves nothing then."""
    try:
        for one in packed.staged:
            one.place.parent.mkdir(mode=0o700, exist_ok=True)
            _copy(one.item, one.place)
    except BaseException:
        unstage(packed)
        raise


def unstage(packed: PackedJob) -> None:
    """Removes what was staged for a job that was not taken."""
    for folder in {one.place.parent for one in packed.staged}:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(item: InputItem, place: Path) -> None:
    try:
        if item.source is None:
            place.write_bytes(item.data)
            place.chmod(0o644)
            return
        for inner, file in files_below(item.name, item.source):
            if file is None:
                (place / inner).mkdir(mode=0o755, exist_ok=True)
                continue
            shutil.copyfile(file, place / inner)
            (place / inner).chmod(0o755 if file.stat().st_mode & 0o111 else 0o644)
    except OSError as problem:
        raise UnsendableInputError(item.name, f"{problem.strerror or problem}: {problem.filename or item.source}") from None
