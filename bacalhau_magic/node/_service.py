"""The node's process: its doors, its executors' probe, its idle clock, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import _marks
from . import _answers, _gather, _lifecycle
from ._app import application
from ._doors import Capabilities, Door, Server, listen_tcp, listen_unix
from ._orchestrator import Orchestrator
from ._store import JobRow, Store
from .executors._seam import Executors

__all__ = ["Service"]

_log = logging.getLogger("bacalhau_magic.node")
_MAX_BODY = 1 << 40
"""Tornado's own limit: the handlers have theirs, and answer with an envelope."""


class Service:
    """One running node. `probe` finds the executors and may take its time: it runs on a thread of its own."""

    def __init__(self, store: Store, version: str, *, idle: float, probe: Callable[[], Executors]) -> None:
        self.orchestrator = Orchestrator(store, asyncio.get_running_loop())
        self.capabilities = Capabilities()
        self.version = version
        self.ended = asyncio.Event()
        self._draining = asyncio.Event()
        self._probe = probe
        self._idle = idle
        self._touched = time.monotonic()
        self._started = time.time_ns()
        self._doors: dict[str, tuple[Door, Server]] = {}
        self._disk = (0.0, 0)
        self._tasks: set[asyncio.Task[None]] = set()

    def touch(self) -> None:
        """Somebody was here: the idle clock starts again."""
        self._touched = time.monotonic()

    def open_own(self, path: Path | None) -> Door:
        """Opens the owner's door: a unix socket, or, where there is none (None), a TCP port with a key."""
        if path is not None:
            return self._open("own", Door(own=True, is_tcp=False), listen_unix(path))
        return self._open("own", Door(own=True, is_tcp=True, key=_new_key()), None)

    def _open(self, name: str, door: Door, listening: Any) -> Door:
        if listening is None:
            listening = listen_tcp()
        if door.is_tcp:
            door.port = listening.getsockname()[1]
        server = Server(application(self, door), max_body_size=_MAX_BODY, max_header_size=1 << 18, idle_connection_timeout=3600)
        server.add_socket(listening)
        self._doors[name] = (door, server)
        return door

    def begin(self) -> None:
        """Takes up what an earlier process left, looks for executors, and starts the idle clock."""
        self.orchestrator.recover()
        for work in (self._equip(), self._watch_idle()):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _equip(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            executors = await loop.run_in_executor(None, self._probe)
            leftovers = self.orchestrator.housekeeping.leftovers()
            if leftovers:
                for executor in (executors.host, executors.container):
                    if executor:
                        await loop.run_in_executor(None, executor.sweep, leftovers)
            self.orchestrator.housekeeping.sweep()
            self.orchestrator.equip(executors, await loop.run_in_executor(None, self._labels, executors))
        except Exception:
            _log.exception("the executors could not be probed")
            self.ended.set()
            raise

    async def _watch_idle(self) -> None:
        step = min(max(self._idle / 10, 0.05), 15.0)
        while not self.ended.is_set():
            try:
                await asyncio.wait_for(self._draining.wait(), step)
                await asyncio.sleep(0.05)
            except TimeoutError:
                pass
            if self.orchestrator.busy:
                self.touch()
                continue
            if self.orchestrator.draining or time.monotonic() - self._touched > self._idle:
                self.ended.set()

    async def close(self) -> None:
        """Stops every job, waits for their payloads' end, closes the doors."""
        for _, server in self._doors.values():
            server.stop()
        attempts = self.orchestrator.stop_all()
        loop = asyncio.get_running_loop()
        for attempt in attempts:
            await loop.run_in_executor(None, attempt.join, 15.0)
        if executors := self.orchestrator.room.executors:
            await loop.run_in_executor(None, executors.host.close)
        # Who waits for one of these jobs asks how it ended, and would start another node for the answer.
        await asyncio.sleep(0.3 if attempts else 0)
        for task in list(self._tasks):
            task.cancel()
        for _, server in self._doors.values():
            await server.close_all_connections()
        self.orchestrator.store.close()

    # Answers

    def job_answer(self, row: JobRow) -> dict[str, Any]:
        return _answers.job(row, self.orchestrator.node_id, self.orchestrator.instance)

    async def node_info(self) -> dict[str, Any]:
        """Node info, once it is known what this machine can run."""
        await self.orchestrator.equipped.wait()
        orchestrator, room = self.orchestrator, self.orchestrator.room
        executors, queue = room.executors, room.queue
        assert executors is not None
        version = _answers.version()
        # A language's program may have been installed since the node began; to look for one may take its time.
        languages = await asyncio.get_running_loop().run_in_executor(None, _languages, executors)
        labels = {**room.labels, **languages, _marks.NODE_DISK_USED: str(await self._disk_used())}
        cards = [_answers.gpu(gpu) for gpu in executors.gpus]
        capacity = {**queue.capacity.wire(), **({"GPUs": cards} if cards else {})}
        compute = {
            "ExecutionEngines": room.engines,
            "Publishers": list(_answers.PUBLISHERS),
            "StorageSources": list(_answers.STORAGE_SOURCES),
            "MaxCapacity": capacity,
            "QueueCapacity": queue.waited_for.wire(),
            "AvailableCapacity": queue.free.wire(),
            "MaxJobRequirements": capacity,
            "RunningExecutions": len(queue.running),
            "EnqueuedExecutions": len(queue),
            "address": "",
        }
        return {
            "NodeID": orchestrator.node_id,
            "NodeType": "Compute",
            "Labels": labels,
            "SupportedProtocols": ["bprotocol/v2", "ncl/v1"],
            "ComputeNodeInfo": compute,
            "BacalhauVersion": version,
        }

    def _labels(self, executors: Executors) -> dict[str, str]:
        orchestrator, version = self.orchestrator, _answers.version()
        cards = {f"GPU-{number}": gpu for number, gpu in enumerate(executors.gpus)}
        return {
            "name": orchestrator.node_id,
            "os_arch": version["GOARCH"],
            "os_type": version["GOOS"],
            **{key: gpu.name.replace(" ", "-") for key, gpu in cards.items()},
            **{f"{key}-Memory": f"{gpu.memory >> 20}-MiB" for key, gpu in cards.items()},
            _marks.NODE_LOCAL: self.version,
            _marks.NODE_EXECUTOR: executors.host.name,
            _marks.NODE_EXECUTOR_WHY: executors.host.why,
            _marks.NODE_CONTAINER: executors.container.name if executors.container else f"none: {executors.container_why}",
            _marks.NODE_STAGING: str(orchestrator.store.staging),
            **{_marks.NODE_LIMIT + name: word for name, word in executors.host.limits.items()},
            **_languages(executors),
        }

    async def node_state(self) -> dict[str, Any]:
        """Node info with its membership, as the list of nodes has it."""
        connection = {
            "Status": "CONNECTED",
            "LastHeartbeat": _lifecycle.timestamp(time.time_ns()),
            "ConnectedSince": _lifecycle.timestamp(self._started),
            "DisconnectedSince": "0001-01-01T00:00:00Z",
        }
        return {"Info": await self.node_info(), "Membership": "APPROVED", "Connection": "CONNECTED", "ConnectionState": connection}

    async def _disk_used(self) -> int:
        when, used = self._disk
        if not when or time.monotonic() - when > 10:
            used = await asyncio.get_running_loop().run_in_executor(None, _gather.disk_use, self.orchestrator.store.folder)
            self._disk = (time.monotonic(), used)
        return used

    # The package's own requests

    async def status(self) -> dict[str, Any]:
        orchestrator = self.orchestrator
        executors, queue = orchestrator.room.executors, orchestrator.room.queue
        return {
            "Version": self.version,
            "PID": os.getpid(),
            "Started": _lifecycle.timestamp(self._started),
            "Python": platform.python_version(),
            "Store": str(orchestrator.store.folder),
            "DiskUsed": await self._disk_used(),
            "Running": len(queue.running),
            "Waiting": len(queue),
            "Busy": orchestrator.busy,
            "Draining": orchestrator.draining,
            "Executor": executors.host.name if executors else "",
            "ExecutorWhy": executors.host.why if executors else "",
            "Ports": {name: door.port for name, (door, _) in self._doors.items() if door.is_tcp},
        }

    async def ask_stop(self, body: dict[str, Any]) -> dict[str, Any]:
        """`Drain`: finish what runs, take nothing new; else end now."""
        if body.get("drain"):
            self.orchestrator.draining = True
            self._draining.set()
        else:
            asyncio.get_running_loop().call_later(0.05, self.ended.set)
        return {"Busy": self.orchestrator.busy}

    async def prune(self, body: dict[str, Any]) -> dict[str, Any]:
        older = body.get("olderthan", 0)
        answer = self.orchestrator.housekeeping.prune(float(older) if isinstance(older, int | float) else 0.0)
        self._disk = (0.0, 0)
        return dict(answer)

    async def open_tcp(self, body: dict[str, Any]) -> dict[str, Any]:
        """Opens a TCP door with a key, or, for `Open`, one without; the same one when asked again."""
        name = "open" if body.get("open") else "token"
        if name not in self._doors:
            if name == "open":
                _log.warning("a port without a key was opened: every program and user of this machine can use this node")
            self._open(name, Door(own=False, is_tcp=True, key="" if name == "open" else _new_key()), None)
        door = self._doors[name][0]
        return {"Host": "127.0.0.1", "Port": door.port, "Key": door.key}


def _new_key() -> str:
    return _marks.LOCAL_KEY_PREFIX + secrets.token_urlsafe(32)


def _languages(executors: Executors) -> dict[str, str]:
    return {_marks.NODE_LANGUAGE + name: said for name, said in executors.languages().items()}
