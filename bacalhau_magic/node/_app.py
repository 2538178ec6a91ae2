"""The node's HTTP API: routes and envelopes, as a node of version 1.9.3 has them, and a few routes of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tornado.web

from . import _agent_routes, _job_routes, _stream_routes
from ._doors import Door
from ._requests import OWN_PREFIX

if TYPE_CHECKING:
    from ._service import Service

__all__ = ["application"]


def application(service: Service, door: Door) -> tornado.web.Application:
    """The routes behind one door."""
    job = r"/api/v1/orchestrator/jobs/([^/]+)"
    routes: list[tuple[str, type[tornado.web.RequestHandler]]] = [
        (r"/api/v1/agent/alive", _agent_routes.Alive),
        (r"/api/v1/agent/version", _agent_routes.Version),
        (r"/api/v1/agent/node", _agent_routes.AgentNode),
        (r"/api/v1/agent/config", _agent_routes.AgentConfig),
        (r"/api/v1/agent/authconfig", _agent_routes.AuthConfig),
        (r"/api/v1/agent/debug", _agent_routes.AgentConfig),
        (r"/api/v1/auth", _agent_routes.AuthMethods),
        (r"/api/v1/auth/[^/]+", _agent_routes.AuthMethod),
        (r"/api/v1/orchestrator/jobs", _job_routes.Jobs),
        (r"/api/v1/orchestrator/jobs/diff", _job_routes.JobDiff),
        (job, _job_routes.OneJob),
        (job + "/history", _job_routes.History),
        (job + "/executions", _job_routes.Executions),
        (job + "/versions", _job_routes.Versions),
        (job + "/results", _job_routes.Results),
        (job + "/rerun", _job_routes.Rerun),
        (job + "/logs", _stream_routes.Logs),
        (r"/api/v1/orchestrator/nodes", _agent_routes.Nodes),
        (r"/api/v1/orchestrator/nodes/([^/]+)", _agent_routes.OneNode),
        (r"/(?:version)?", _agent_routes.ToVersion),
        (r"/livez", _agent_routes.ToAlive),
        (OWN_PREFIX + r"/results/(?:([A-Za-z0-9_-]+)/)?(e-[0-9a-f-]+)\.tar\.gz", _stream_routes.Archive),
        (OWN_PREFIX + r"/(status|stop|prune|tcp)", _agent_routes.Own),
    ]
    settings: dict[str, Any] = {"service": service, "door": door, "log_function": lambda _handler: None, "websocket_ping_interval": None}
    return tornado.web.Application(routes, default_handler_class=_agent_routes.Unknown, **settings)
