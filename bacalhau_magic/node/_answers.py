"""The objects that the node answers with, in the shapes recorded from a node of version 1.9.3."""

from __future__ import annotations

import base64
import binascii
import calendar
import platform
import time
from collections.abc import Mapping
from typing import Any

from . import _lifecycle
from ._store import ExecutionRow, JobRow
from .executors._gpus import Gpu

__all__ = ["PUBLISHERS", "STORAGE_SOURCES", "error", "execution", "gpu", "job", "nanoseconds", "page_token", "token_offset", "version"]

STORAGE_SOURCES = ("inline", "localdirectory", "local", "urldownload")
PUBLISHERS = ("local", "noop")
API_VERSION = "v1.9.3"
_EMPTY_OUTPUT = {"Stdout": "", "StdoutTruncated": False, "stderr": "", "StderrTruncated": False, "ExitCode": 0, "ErrorMsg": ""}


def job(row: JobRow, node: str, instance: str) -> dict[str, Any]:
    """A job as the wire has it."""
    spec = row.spec
    served_by = {"bacalhau.org/orchestrator.id": node, "bacalhau.org/requester.id": node, "bacalhau.org/server.instance.id": instance}
    return {
        "ID": row.id,
        "Name": row.name,
        "Namespace": row.namespace,
        "Type": spec["Type"],
        "Priority": spec["Priority"],
        "Count": spec["Count"],
        "Constraints": spec["Constraints"],
        "Meta": {**spec["Meta"], **served_by},
        "Labels": spec["Labels"],
        "Tasks": spec["Tasks"],
        "State": _lifecycle.state(row.state, row.message),
        "Version": row.version,
        "Revision": row.revision,
        "CreateTime": row.created,
        "ModifyTime": row.modified,
    }


def execution(row: ExecutionRow, namespace: str, node: str, its_job: Mapping[str, Any] | None, url: str) -> dict[str, Any]:
    """An execution as the wire has it; `url` is where its published archive is fetched, "" for none."""
    answer: dict[str, Any] = {
        "ID": row.id,
        "Namespace": namespace,
        "EvalID": row.evaluation,
        "Name": "",
        "NodeID": node,
        "JobID": row.job,
        "Job": its_job,
        "JobVersion": row.job_version,
        "AllocatedResources": {"Tasks": {}},
        "DesiredState": _lifecycle.state(row.desired, row.desired_message),
        "ComputeState": _lifecycle.state(row.compute, row.compute_message),
        "PublishedResult": result(url) if url else {"Type": ""},
        "RunOutput": row.output or _EMPTY_OUTPUT,
        "PreviousExecution": "",
        "NextExecution": "",
        "FollowupEvalID": "",
        "Revision": row.revision,
        "CreateTime": row.created,
        "ModifyTime": row.modified,
    }
    return answer


def gpu(card: Gpu) -> dict[str, Any]:
    """A graphics card as node info has it: memory in MiB."""
    return {"Index": card.index, "Name": card.name, "Vendor": card.vendor, "Memory": card.memory >> 20, "PCIAddress": card.bus}


def result(url: str) -> dict[str, Any]:
    """A published result: an archive at a URL."""
    return {"Type": "urlDownload", "Params": {"URL": url}}


def error(
    status: int, message: str, code: str, component: str, *, hint: str = "", details: Mapping[str, str] | None = None, request_id: str = ""
) -> dict[str, Any]:
    """The error envelope; hint and details are left out when empty."""
    envelope: dict[str, Any] = {"Status": status, "Message": message, "RequestID": request_id, "Code": code, "Component": component}
    if hint:
        envelope["Hint"] = hint
    if details:
        envelope["Details"] = dict(details)
    return envelope


def version() -> dict[str, str]:
    """The build that this node imitates."""
    machine = platform.machine().lower()
    return {
        "Major": "1",
        "Minor": "9",
        "GitVersion": API_VERSION,
        "GitCommit": "0" * 40,
        "BuildDate": "1970-01-01T00:00:00Z",
        "GOOS": platform.system().lower(),
        "GOARCH": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
    }


def page_token(offset: int, *, limit: int = 0, order: str = "", reverse: bool = False) -> str:
    """A paging token, in the form of a real node's; opaque to clients."""
    return base64.urlsafe_b64encode(f"{order}:{'Y' if reverse else 'N'}:{limit}:{offset}".encode()).decode().rstrip("=")


def token_offset(token: str) -> tuple[str, bool, int, int]:
    """Order, reverse, limit and offset of a token. Raises ValueError."""
    try:
        order, reverse, limit, offset = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().split(":")
        return order, reverse == "Y", int(limit), int(offset)
    except (binascii.Error, UnicodeDecodeError) as problem:
        raise ValueError(str(problem)) from None


def nanoseconds(when: str) -> int:
    """The inverse of `_lifecycle.timestamp`."""
    seconds, _, rest = when.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(rest.ljust(9, "0"))
