"""`python -m bacalhau_magic.node`: serves until nobody needs it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import filelock

from ._daemon import IDLE, package_version
from ._places import Places, private
from ._service import Service
from ._store import Store
from .executors._seam import Executors

_LOCK_LIMIT = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Serves; 3 where another node of this user lives already."""
    parser = argparse.ArgumentParser(prog="python -m bacalhau_magic.node", description=__doc__)
    parser.add_argument("--runtime", type=Path, help="folder of lock, runtime file and socket")
    parser.add_argument("--store", type=Path, help="folder of jobs and results")
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds without work after which it ends")
    parser.add_argument("--wait", type=float, default=_LOCK_LIMIT, help="seconds to wait for another node's end")
    given = parser.parse_args(arguments)
    places = Places(private(given.runtime), private(given.store)) if given.runtime and given.store else Places.default()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o022)
    life = filelock.FileLock(places.life, mode=0o600)
    try:
        life.acquire(timeout=given.wait)
    except filelock.Timeout:
        print("another embedded node of this user is running", file=sys.stderr)  # noqa: T201
        return 3
    try:
        asyncio.run(_serve(places, given.idle))
    finally:
        life.release()
    return 0


async def _serve(places: Places, idle: float) -> None:
    version = package_version()
    store = Store(places.store)

    def probe() -> Executors:
        from .executors._probe import probe as look

        scratch = places.store / "probe"
        scratch.mkdir(mode=0o755, exist_ok=True)
        return look(scratch)

    service = Service(store, version, idle=idle, probe=probe)
    path = places.socket if hasattr(socket, "AF_UNIX") else None
    door = service.open_own(path)
    service.begin()
    facts = {"socket": str(path or ""), "port": door.port, "key": door.key, "pid": os.getpid(), "version": version}
    _write(places.file, facts)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(name, service.ended.set)
    try:
        await service.ended.wait()
    finally:
        places.file.unlink(missing_ok=True)
        await service.close()
        if path:
            path.unlink(missing_ok=True)


def _write(path: Path, facts: dict[str, object]) -> None:
    """Writes the runtime file in one step, for this user's eyes only."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(facts, file)
    os.replace(part, path)


if __name__ == "__main__":
    raise SystemExit(main())
