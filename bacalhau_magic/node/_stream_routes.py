"""What flows out of a job: its log as frames, its results as an archive."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
from contextlib import suppress
from typing import IO, Any

import tornado.iostream
import tornado.websocket

from . import _attempt, _lifecycle
from ._intake import Refusal
from ._requests import OWN_PREFIX, Handler, Request


class Archive(Handler):
    """A published archive: on the unix socket for its owner, over TCP by a URL that carries the right."""

    def carries_right(self) -> bool:
        parts = self.request.path.removeprefix(OWN_PREFIX + "/results/").split("/")
        return len(parts) == 2 and self.service.capabilities.allows(parts[0], parts[1].removesuffix(".tar.gz"))

    async def get(self, _right: str | None, execution: str) -> None:
        if self.door.is_tcp and not self.carries_right():
            raise Refusal("no such result, or the address has expired", status=404, code="NotFound", component="Node")
        path = self.service.orchestrator.store.execution_folder(execution) / _attempt.RESULT
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise Refusal(f"no result of {execution}", status=404, code="NotFound", component="Node") from None
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            self.set_header("Content-Type", "application/gzip")
            self.set_header("Accept-Ranges", "bytes")
            self.set_header("Etag", tag)
            left = self._from(tag, facts.st_size, file)
            self.set_header("Content-Length", str(left))
            while self.request.method == "GET" and (chunk := file.read(min(left, 1 << 18))):
                left -= len(chunk)
                self.write(chunk)
                await self.flush()

    def _from(self, tag: str, size: int, file: IO[bytes]) -> int:
        """Go to where the answer begins, by the request's range; the bytes that it has then."""
        wanted = re.fullmatch(r"bytes=(\d{1,15})-", self.request.headers.get("Range", ""))
        if wanted is None or self.request.headers.get("If-Range", tag) != tag:
            return size
        begin = int(wanted[1])
        if begin >= size:
            self.set_header("Content-Range", f"bytes */{size}")
            self.set_status(416)
            return 0
        self.set_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.set_status(206)
        file.seek(begin)
        return size - begin

    async def head(self, right: str | None, execution: str) -> None:
        await self.get(right, execution)


class Logs(tornado.websocket.WebSocketHandler, Request):
    """A job's log as frames; every problem but a missing permission comes as a frame after the upgrade."""

    def check_origin(self, _origin: str) -> bool:
        return True  # admit() has looked, with the door's own names

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.admit():
            await super().get(*args, **kwargs)

    def open(self, *args: str, **_kwargs: str) -> None:
        self._sending = asyncio.ensure_future(self._send(args[0]))

    def on_message(self, message: str | bytes) -> None:
        """Clients have nothing to say here."""

    def on_close(self) -> None:
        if sending := getattr(self, "_sending", None):
            sending.cancel()

    async def _send(self, text: str) -> None:
        with suppress(tornado.iostream.StreamClosedError, tornado.websocket.WebSocketClosedError):
            try:
                execution = self._execution(text)
            except Refusal as refusal:
                await self.write_message(
                    json.dumps({"error": refusal.message, "value": {"Type": 0, "Line": ""}}, separators=(",", ":")) + "\n"
                )
                self.close(1000)
                return
            orchestrator = self.service.orchestrator
            path = orchestrator.store.execution_folder(execution) / _attempt.LOG
            batches = orchestrator.logs.read(execution, path, follow=self.flag("follow"), tail=self.flag("tail"))
            try:
                async for batch in batches:
                    await self._frames(batch)
            finally:
                await batches.aclose()  # type: ignore[attr-defined]
            self.close(1000)

    async def _frames(self, batch: list[tuple[int, str]]) -> None:
        """Writes many small frames at once: one frame a call costs ten times as much."""
        stream = getattr(self.ws_connection, "stream", None)
        if stream is None:
            raise tornado.websocket.WebSocketClosedError
        for at in range(0, len(batch), 1000):
            frames = b"".join(map(_frame, batch[at : at + 1000]))
            self.service.touch()
            await stream.write(frames)

    def _execution(self, text: str) -> str:
        orchestrator = self.service.orchestrator
        row = self.job_row(text)
        wanted = self.get_query_argument("execution_id", "")
        executions = [e for e in orchestrator.store.executions(row.id) if wanted or e.job_version == row.version]
        prefix = f"failed to open log stream for job {row.id}: "
        if not executions:
            raise Refusal(f"{prefix}no executions found for job {row.name} with ID {row.id}, and version 0")
        usable = [e.id for e in executions if (e.id == wanted if wanted else e.compute not in _lifecycle.DISCARDED)]
        if not usable:
            raise Refusal(f"{prefix}unable to find execution {wanted} in job {row.id} and job version {row.version}")
        return usable[-1]


def _frame(item: tuple[int, str]) -> bytes:
    text = json.dumps(item[1])
    data = f'{{"value":{{"Type":{item[0]},"Line":{text}}}}}\n'.encode()
    size = len(data)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + data
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + data
    return struct.pack("!BBQ", 0x81, 127, size) + data
