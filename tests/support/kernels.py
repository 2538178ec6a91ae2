"""A real kernel, driven by messages as a front end does."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager


@dataclass
class Ran:
    """What a cell gave: its outputs in order, and how it ended."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Stdout, stderr and text/plain of all outputs, in order."""
        return "".join(self._text(output) for output in self.outputs)

    @staticmethod
    def _text(output: dict[str, Any]) -> str:
        content = output["content"]
        if output["type"] == "stream":
            return str(content["text"])
        if output["type"] == "error":
            return "\n".join(content["traceback"])
        return str(content.get("data", {}).get("text/plain", "")) + "\n"

    def stream(self, name: str) -> str:
        return "".join(o["content"]["text"] for o in self.outputs if o["type"] == "stream" and o["content"]["name"] == name)

    @property
    def value(self) -> str | None:
        """The text/plain of the cell's value."""
        for output in self.outputs:
            if output["type"] == "execute_result":
                return str(output["content"]["data"]["text/plain"])
        return None

    @property
    def error(self) -> tuple[str, str] | None:
        """(ename, evalue) of what the cell raised."""
        content = self.reply
        return (content["ename"], content["evalue"]) if content.get("status") == "error" else None


class Kernel:
    """A kernel with our extension loaded."""

    def __init__(self, manager: KernelManager, live: bool) -> None:
        self.manager = manager
        self.live = live
        self.draws_cards = True
        """Whether this front end has the card's script, which says so for each card."""
        self.refuses = False
        """Whether it closes the comms of cards instead."""
        self.keeps_outputs = live
        """Whether this front end says which cell it runs, as a notebook's does and a console's does not."""
        self.cards: dict[str, dict[str, Any]] = {}
        """Comm id → the snapshot of the card it belongs to, as a browser would have it."""
        self._kept: list[dict[str, Any]] = []
        self._replies: dict[str, dict[str, Any]] = {}
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def restart(self, **given: Any) -> None:
        """Start the kernel anew at once, with the magic loaded; `given` goes to its manager."""
        self.manager.restart_kernel(now=True, **given)
        self.client.wait_for_ready(timeout=60)
        self.run("%load_ext bacalhau_magic")

    def send(self, code: str, cell_id: str = "") -> str:
        """Start a cell; `cell_id` is what a front end calls it."""
        message = self.client.session.msg(
            "execute_request",
            {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": self.live, "stop_on_error": True},
            metadata={"cellId": cell_id or "a-cell"} if cell_id or self.keeps_outputs else {},
        )
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def collect(self, request: str, timeout: float = 60) -> Ran:
        ran, until = Ran(), time.monotonic() + timeout
        idle = False
        while not (idle and ran.reply):
            if time.monotonic() > until:
                raise TimeoutError(f"no end after {timeout} s; until now: {ran.text}")
            idle = self._take_output(ran, request) or idle
            if idle:
                self._take_reply(ran, request)
        return ran

    def _take_output(self, ran: Ran, request: str) -> bool:
        try:
            message = self._kept.pop(0) if self._kept else self.client.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            return False
        self._take_card(message)
        if message["parent_header"].get("msg_id") != request:
            return False
        kind = message["msg_type"]
        if kind in ("stream", "display_data", "execute_result", "error", "update_display_data", "clear_output"):
            ran.outputs.append({"type": kind, "content": message["content"]})
        return bool(kind == "status" and message["content"]["execution_state"] == "idle")

    def _take_card(self, message: dict[str, Any]) -> None:
        content = message["content"]
        data = content.get("data", {})
        state = data.get("state", {}) if isinstance(data, dict) else {}
        if message["msg_type"] in ("comm_open", "comm_msg") and state.get("snapshot"):
            self.cards[content["comm_id"]] = state["snapshot"]
            if message["msg_type"] == "comm_open" and self.draws_cards:
                self._say(content["comm_id"], {"kind": "here"})
            elif message["msg_type"] == "comm_open" and self.refuses:
                self.client.shell_channel.send(self.client.session.msg("comm_close", {"comm_id": content["comm_id"], "data": {}}))

    def _say(self, comm_id: str, content: dict[str, Any]) -> None:
        data = {"method": "custom", "content": content}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))

    def until(self, holds: Callable[[dict[str, Any]], Any], timeout: float = 30) -> dict[str, Any]:
        """Read on until a card's snapshot is as wanted, and give it."""
        until = time.monotonic() + timeout
        while not (found := [card for card in self.cards.values() if holds(card)]):
            if time.monotonic() > until:
                raise TimeoutError(f"no such card after {timeout} s; the cards are {self.cards}")
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.2)
                self._take_card(message)
                self._kept.append(message)
        return found[-1]

    def printed(self, text: str, timeout: float = 30) -> None:
        """Read on until a cell prints a text."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.2)
                self._take_card(message)
                self._kept.append(message)
                if message["msg_type"] == "stream" and text in message["content"]["text"]:
                    return
        raise TimeoutError(f"{text!r} was not printed within {timeout} s")

    def update(self, display_id: str, holds: Callable[[dict[str, Any]], Any], timeout: float = 20) -> dict[str, Any]:
        """Read on until a display is updated to what is wanted, and give its data and metadata."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.2)
                content = message["content"]
                is_update = message["msg_type"] == "update_display_data" and content["transient"]["display_id"] == display_id
                if is_update and holds(content):
                    return content
        raise TimeoutError(f"{display_id} was not updated within {timeout} s")

    def press(self, content: dict[str, Any]) -> None:
        """A button of the newest card is pressed."""
        self._say(list(self.cards)[-1], content)

    def _take_reply(self, ran: Ran, request: str) -> None:
        with contextlib.suppress(queue.Empty):
            message = self.client.get_shell_msg(timeout=0.2)
            self._replies[message["parent_header"].get("msg_id")] = message["content"]
        ran.reply = self._replies.pop(request, {})

    def run(self, code: str, timeout: float = 60) -> Ran:
        return self.collect(self.send(code), timeout)

    def answer(self, code: str, *texts: str) -> tuple[Ran, list[dict[str, Any]]]:
        """Run code that asks for input, and answer each question; what was asked comes back too."""
        request, asked = self.send(code), []
        for text in texts:
            asked.append(self.client.get_stdin_msg(timeout=30)["content"])
            self.client.input(text)
        return self.collect(request), asked

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def start(live: bool, folder: Path | None = None, **environment: str) -> Kernel:
    """A kernel in a folder (without one: the working folder), with the extension loaded and further variables."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, **environment}, **({"cwd": str(folder)} if folder else {}))
    kernel = Kernel(manager, live)
    loaded = kernel.run("%load_ext bacalhau_magic")
    assert loaded.error is None, loaded.text
    return kernel
