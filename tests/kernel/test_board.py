"""The jobs panel's talk with a real kernel: what it is told, and what it may wish."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster
from kernels import Kernel, start

ID = "bacalhau-jobs"
LONG = "%%bacalhau --bg\nimport time\nprint('begun', flush=True)\ntime.sleep(60)"


class Page:
    """A front end that knows the comm's id."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.heard: list[dict[str, Any]] = []

    def say(self, **message: Any) -> None:
        content = {"comm_id": ID, "data": message}
        self.kernel.client.shell_channel.send(self.kernel.client.session.msg("comm_msg", content))

    def hear(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 60) -> dict[str, Any]:
        """The first message from now on that is wanted."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            try:
                message = self.kernel.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == ID:
                self.heard.append(message["content"]["data"])
                if wanted(self.heard[-1]):
                    return self.heard[-1]
        raise TimeoutError(f"not heard in {timeout} s; heard: {self.heard}")

    def phase(self, *phases: str) -> dict[str, Any]:
        """The first job that is said to be in one of these phases."""

        def has(message: dict[str, Any]) -> bool:
            return message["kind"] == "jobs" and any(job["live"] and job["snapshot"]["phase"] in phases for job in message["jobs"])

        return next(job for job in self.hear(has)["jobs"] if job["live"] and job["snapshot"]["phase"] in phases)

    def answer(self, request: str, **question: str) -> dict[str, Any]:
        self.say(kind="ask", request=request, **question)
        return self.hear(lambda message: message["kind"] == "answer" and message["request"] == request)


@pytest.fixture
def page(live: Kernel) -> Page:
    """A page beside a kernel with a live front end."""
    return Page(live)


def test_a_job_is_told_of_as_it_goes_and_stopped(page: Page) -> None:
    """The panel hears of a job in finished sentences, follows its log, and stops it; a page that comes later hears of it too."""
    prompt = page.kernel.run("%bacalhau help lang").reply["execution_count"] + 1
    page.kernel.send(LONG)
    job = page.phase("running")
    assert job["language"] == "python"
    assert job["background"] is True
    assert job["prompt"] == prompt
    assert job["snapshot"]["title"] == "Running"
    assert "state" not in job["snapshot"]
    page.say(kind="log", key=job["key"], follow=True)
    log = page.hear(lambda message: message["kind"] == "log" and "begun" in str(message["pieces"]))
    assert log["start"] == 0
    assert log["over"] is False
    page.say(kind="hello")
    whole = page.hear(lambda message: message["kind"] == "jobs" and message["whole"])
    assert [told["key"] for told in whole["jobs"]] == [job["key"]]
    page.say(kind="stop", key=job["key"])
    assert page.phase("stopped", "failed")["snapshot"]["over"] is True


def test_how_far_a_job_says_it_is_is_told(page: Page) -> None:
    """A bar that a job prints is told while it runs, though nobody follows its log."""
    page.kernel.send(
        "%%bacalhau --bg\nimport time\nfor n in 1, 2:\n    time.sleep(3)\n    print(f'epoch {n}/4', flush=True)\ntime.sleep(60)"
    )

    def has(message: dict[str, Any]) -> bool:
        return message["kind"] == "jobs" and any("2 of 4" in job["snapshot"]["progress"] for job in message["jobs"])

    job = next(job for job in page.hear(has)["jobs"] if "2 of 4" in job["snapshot"]["progress"])
    page.say(kind="stop", key=job["key"])
    assert page.phase("stopped")["snapshot"]["time"].endswith(" s")


def test_a_waiting_cell_hears_stop(page: Page) -> None:
    """Stop is heard while the cell itself waits, and the cell ends."""
    request = page.kernel.send(LONG.replace(" --bg", ""))
    job = page.phase("running")
    page.say(kind="stop", key=job["key"])
    ran = page.kernel.collect(request)
    assert ran.error is not None
    assert ran.error[0] == "JobStoppedError"


def test_questions_are_answered(page: Page) -> None:
    """Spec, nodes and the names that a cell could take are answered; what can't be answered says why."""
    page.kernel.run("x = 1")
    page.kernel.run("%%bacalhau --bg\n1")
    job = page.phase("completed")
    assert "bacalhau-magic.request" in page.answer("1", what="spec", about=job["key"])["value"]
    assert "CPUs" in page.answer("2", what="nodes")["value"][0]
    assert page.answer("3", what="names", about="y = x + z")["value"] == ["x"]
    assert "unheard of" in page.answer("4", what="unheard of")["problem"]


def test_nodes_come_with_their_gpus() -> None:
    """The answer about nodes says each one's GPUs, by number and model, as the cluster has them."""
    cluster = Cluster()
    page = Page(start(live=True, BACALHAU_API_URL=cluster.url))
    try:
        page.hear(lambda message: message["kind"] == "jobs" and message["whole"])  # the board listens from then on
        nodes = page.answer("1", what="nodes")["value"]
        assert [node["GPUs"] for node in nodes] == ["2 × NVIDIA A100-SXM4-80GB", "Radeon VII"]
    finally:
        page.kernel.stop()
        cluster.stop()


def test_a_cell_that_can_not_be_sent_is_told_as_failed(page: Page) -> None:
    """A cell that no place takes is in the panel as failed, with the reason."""
    page.kernel.send("%%bacalhau --gpu 64 --runtime local --bg\n1")
    snapshot = page.phase("failed")["snapshot"]
    assert snapshot["over"] is True
    assert "GPU" in snapshot["problem"]


def test_jobs_of_an_earlier_kernel_are_told_and_the_comm_is_no_output(live: Kernel) -> None:
    """A kernel that starts anew tells of what was sent before it; a batch kernel says nothing on the comm."""
    live.run("%%bacalhau\n6 * 7")
    later = Page(start(live=True))
    try:
        later.say(kind="hello")
        told = later.hear(lambda message: message["kind"] == "jobs" and any(not job["live"] for job in message["jobs"]))
        newest = max((job for job in told["jobs"] if not job["live"]), key=lambda job: job["started"])
        assert newest["snapshot"]["phase"] == "completed"
        assert newest["snapshot"]["title"] == "Completed"
        assert newest["snapshot"]["time"].endswith(" s")
        later.say(kind="log", key=newest["key"], follow=True)
        assert later.hear(lambda message: message["kind"] == "log")["over"] is True
    finally:
        later.kernel.stop()


def test_nothing_is_said_where_nobody_looks(batch: Kernel) -> None:
    """A batch run sends no comm message."""
    kinds = []
    request = batch.send("%%bacalhau\n1")
    while True:
        message = batch.client.get_iopub_msg(timeout=60)
        kinds.append(message["msg_type"])
        if message["parent_header"].get("msg_id") == request and message["content"].get("execution_state") == "idle":
            break
    assert "comm_msg" not in kinds
