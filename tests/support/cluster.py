"""A scripted cluster for cells in a shell: two nodes, one of them with GPUs; it takes jobs and ends them at once."""

from __future__ import annotations

import json
from typing import Any

from scripted import JOB, NODE, JobScript, Request, Server, recording

_GPU = {"Name": "NVIDIA A100-SXM4-80GB", "Vendor": "NVIDIA", "Index": 0, "Memory": 81920}
_MOST = {"CPU": 16, "Memory": 64_000_000_000, "Disk": 500_000_000_000}


def nodes() -> dict[str, Any]:
    """What the cluster says of its nodes: one has two A100, one has an AMD card; both publish locally."""
    found = recording("nodes")
    plain = found["Nodes"][0]
    made = []
    for number, gpus in enumerate(([_GPU, {**_GPU, "Index": 1}], [{**_GPU, "Name": "Radeon VII", "Vendor": "AMD/ATI"}])):
        node = json.loads(json.dumps(plain))
        node["Info"]["NodeID"] = f"n-{number}{NODE[3:]}"
        node["Info"]["Labels"]["zone"] = "a"
        node["Info"]["Labels"]["GPU-0"] = gpus[0]["Name"].replace(" ", "-")
        info = node["Info"]["ComputeNodeInfo"]
        for name in ("MaxCapacity", "MaxJobRequirements", "AvailableCapacity"):
            info[name] = {**_MOST, "GPU": len(gpus), "GPUs": gpus}
        made.append(node)
    return {"NextToken": "", "Nodes": made}


class Cluster:
    """The server and what was sent to it."""

    def __init__(self) -> None:
        self.server = Server()
        script = JobScript(self.server)

        def take(_: Request) -> dict[str, Any]:
            if script.state == "Pending":
                script.begin()
                script.end()
            return {"JobID": JOB, "EvaluationID": "e", "Warnings": None}

        self.server.on("GET", "/orchestrator/nodes", lambda _: nodes())
        self.server.on("PUT", "/orchestrator/jobs", take)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The jobs that were put, as they came."""
        return [json.loads(request.body)["Job"] for request in self.server.requests if request.method == "PUT"]

    def stop(self) -> None:
        self.server.stop()
