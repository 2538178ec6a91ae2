"""Routes about the node itself, as a node of version 1.9.3 has them, and the package's own."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from . import _answers
from ._intake import Refusal, fold_keys
from ._requests import Handler


class Unknown(Handler):
    def prepare(self) -> None:
        if self.admit():
            refusal = Refusal(
                "The requested resource/URL was not found.", status=404, code="NotFound",
                hint="The server may be older than the client, or the URL is wrong.",
            )  # fmt: skip
            self.refuse(refusal)


class ToVersion(Handler):
    def get(self) -> None:
        self.redirect("/api/v1/agent/version", permanent=True)


class ToAlive(Handler):
    def get(self) -> None:
        self.redirect("/api/v1/agent/alive", permanent=True)


class Alive(Handler):
    def get(self) -> None:
        self.answer({"Status": "OK"})


class Version(Handler):
    def get(self) -> None:
        self.answer(_answers.version())


class AgentConfig(Handler):
    def get(self) -> None:
        self.answer({"config": {}} if self.request.path.endswith("config") else {})


class AuthConfig(Handler):
    def get(self) -> None:
        self.answer({"Version": "1.0.0", "Config": {}})


class AuthMethods(Handler):
    def get(self) -> None:
        phrase = base64.b64encode(b"bacalhau-magic").decode()
        self.answer({"NextToken": "", "Methods": {"ClientKey": {"type": "challenge", "params": {"InputPhrase": phrase}}}})


class AuthMethod(Handler):
    def get(self) -> None:
        self.post()

    def post(self) -> None:
        # The command line tool asks for a token; a door with a key does not take this one.
        self.answer({"Authentication": {"success": True, "token": str(uuid.uuid4())}})


class AgentNode(Handler):
    async def get(self) -> None:
        self.answer(await self.service.node_info())


class Nodes(Handler):
    async def get(self) -> None:
        self.answer({"NextToken": "", "Nodes": [await self.service.node_state()]})


class OneNode(Handler):
    async def get(self, identity: str) -> None:
        if not self.service.orchestrator.node_id.startswith(unquote(identity)):
            raise Refusal(f"node not found: {unquote(identity)}", status=404, code="NotFound", component="NodeManager")
        self.answer({"Node": await self.service.node_state()})

    def put(self, _identity: str) -> None:
        self.answer({"Success": True})


class Own(Handler):
    """What the package itself asks of its node; on the owner's own door only."""

    async def get(self, verb: str) -> None:
        if verb != "status" or not self.door.own:
            raise Refusal("Not Found", status=404, code="NotFound", component="Node")
        self.answer(await self.service.status())

    async def post(self, verb: str) -> None:
        if not self.door.own or verb == "status":
            raise Refusal("Not Found", status=404, code="NotFound", component="Node")
        body = fold_keys(self.body())
        actions: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "stop": self.service.ask_stop, "prune": self.service.prune, "tcp": self.service.open_tcp,
        }  # fmt: skip
        self.answer(await actions[verb](body))
