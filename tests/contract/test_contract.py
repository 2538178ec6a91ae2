"""What the client relies on, shown on every server that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import recording
from servers import Place

from bacalhau_magic import _marks, _stops, _watch
from bacalhau_magic._causes import causes as explained
from bacalhau_magic._causes import main
from bacalhau_magic._stages import CauseFound, Ended, JobEvent, JobRef, PhaseChanged
from bacalhau_magic._submit import find_request
from bacalhau_magic._wire import COMPLETED, FAILED, STOPPED, TERMINAL, ExecutionState, Job
from bacalhau_magic.client import LogStreamError, fetch_files
from bacalhau_magic.errors import NotFoundError, RejectedError


def watched(place: Place, ref: JobRef, job: Job, stop: _stops.StopRequest | None = None) -> tuple[list[JobEvent], Ended]:
    events = list(_watch.watch(place.client, ref, nonce="", max_result=10_000_000, poll_interval=0.5, job=job, stop=stop))
    assert isinstance(events[-1], Ended)
    return events, events[-1]


def causes(events: list[JobEvent]) -> list[str]:
    return [event.cause.kind for event in events if isinstance(event, CauseFound)]


# The server itself


def test_alive_and_version(place: Place) -> None:
    """It is alive and says its version, whether that is a number or not."""
    assert place.client.alive()
    assert place.client.version().git_version.startswith("v")


def test_nodes(place: Place) -> None:
    """It lists its nodes, with engines, capacity and what they publish."""
    able = [node for node in place.client.nodes() if node.info.compute_node_info.execution_engines]
    assert able
    for node in able:
        assert node.connection == "CONNECTED"
        info = node.info.compute_node_info
        assert info.max_capacity.cpu > 0
        assert info.max_capacity.memory > 100_000_000
        assert info.publishers == [name.lower() for name in info.publishers]


def test_unknown_job(place: Place) -> None:
    """A job that it does not have is a NotFoundError in its own words."""
    if not place.runs:
        place.scenarios["hello"].server.on("GET", "/orchestrator/jobs/j-0000.*", _answer("job-not-found"))
    unknown = "j-00000000-0000-0000-0000-000000000000"
    with pytest.raises(NotFoundError, match="job not found"):
        place.client.job(unknown)
    if place.runs and not place.keeps_logs:
        # A node of 1.6.0 says "bucket not found" of the executions, and gives an empty history.
        with pytest.raises(NotFoundError):
            place.client.executions(unknown)
        assert place.client.history(unknown) == ([], "")
        return
    for ask in (place.client.executions, place.client.history):
        with pytest.raises(NotFoundError, match="job not found"):
            ask(unknown)


def _answer(name: str) -> Any:
    data = recording(name)
    return data["status"], data["body"]


@pytest.mark.parametrize("scenario", ["bad-network", "bad-resources", "result-path-without-publisher", "timeout-below-queue-timeout"])
def test_refused_jobs(place: Place, scenario: str) -> None:
    """A job that can't be is refused with 400 and the reason, and certainly not kept."""
    with pytest.raises(RejectedError) as refused:
        place.client.submit(json.dumps({"Job": place.job(scenario)}).encode())
    assert (refused.value.status, refused.value.unsure) == (400, False)
    said = str(recording(scenario)["submit"]["body"]["Message"])
    assert said.split(", internal=")[0].rpartition(": ")[2] in refused.value.message


# Jobs that end well


PRINTED = {
    "hello": "hi\n",
    "exit-code": "before\n",
    "slow-lines": "".join(f"o {i}\n" for i in range(5)),
    "long-line": "x" * 100_000 + "\n",
    "stdout-cap": "".join(f"{i}\n" for i in range(5000)),
    "publish-local": "out\n",
}


@pytest.mark.parametrize("scenario", PRINTED)
def test_jobs_are_watched_to_their_end(place: Place, scenario: str) -> None:
    """What a job printed comes back whole, with its exit code, and its node is named on the way."""
    ref, job = place.send(scenario)
    events, end = watched(place, ref, job)
    assert end.record.state == COMPLETED
    if end.cut:
        assert not place.keeps_logs
    elif end.unproven and not place.keeps_logs:
        assert PRINTED[scenario].startswith(end.stdout)  # the value says that its last line may be missing
    else:
        assert end.stdout == PRINTED[scenario]
    assert end.stderr == {"hello": "err\n", "slow-lines": "".join(f"e {i}\n" for i in range(5))}.get(scenario, "")
    code = {"exit-code": 3, "publish-local": 2}.get(scenario, 0)
    (execution,) = end.record.executions
    assert execution.compute == ExecutionState.COMPLETED
    assert execution.run_output is not None
    assert execution.run_output.exit_code == code
    assert any(isinstance(event, PhaseChanged) and event.node.startswith("n-") for event in events)
    assert causes(events) == []


def test_environment(place: Place) -> None:
    """Variables with spaces and equals signs reach the job, through the engine's parameters, in every version."""
    ref, job = place.send("env-and-partition")
    _, end = watched(place, ref, job)
    assert {"FOO=b ar", "X=1=2"} <= set(end.stdout.splitlines())


def test_inputs(place: Place) -> None:
    """A tar.gz of files and folders is unpacked at its target."""
    ref, job = place.send("inline-directory")
    _, end = watched(place, ref, job)
    if place.name == "embedded" and end.record.executions[0].run_output.exit_code == 2:  # type: ignore[union-attr]
        pytest.skip("/in is not seen by the process executor, which has no view of its own")
    assert "b.txt" in end.stdout


def test_history_and_its_token(place: Place) -> None:
    """The history's token is empty exactly when the job is over; following it gives each item once."""
    ref, _ = place.send("slow-lines")
    seen, token = place.client.history(ref.job_id)
    state = place.client.job(ref.job_id).phase_word
    assert token or state in TERMINAL
    while token:
        more, token = place.client.history(ref.job_id, token=token)
        seen += more
    assert place.client.job(ref.job_id).phase_word == COMPLETED
    numbers = [item.seq_num for item in seen if item.seq_num]
    assert numbers == sorted(set(numbers))
    assert next(item.event.message for item in seen if item.type == "JobLevel") == "Job submitted"
    assert place.client.history(ref.job_id)[1] == ""


def test_finished_log(place: Place) -> None:
    """After the end the whole log is served again; before 1.8 only 2,048 bytes of it."""
    ref, job = place.send("stdout-cap")
    watched(place, ref, job)
    with place.client.logs(ref.job_id, follow=False) as stream:
        text = "".join(line for kind, line in stream if kind == 1)
    if place.keeps_logs:
        assert text == PRINTED["stdout-cap"]
    else:
        assert len(text) in (2048, 2049)


def test_log_before_there_is_one(running: Place) -> None:
    """A log stream of a job that no node has is an error frame, not a hang."""
    ref, _ = running.send("no-gpu")
    with pytest.raises(LogStreamError), running.client.logs(ref.job_id) as stream:
        list(stream)
    running.client.stop(ref.job_id, "contract")


def test_published_files(place: Place, tmp_path: Path) -> None:
    """What lies in a result path is published, and can be fetched where the server runs."""
    ref, job = place.send("publish-local")
    watched(place, ref, job)
    (result,) = [found for found in place.client.results(ref.job_id) if found.type]
    assert result.type.lower() == "urldownload"
    if place.runs:
        found = fetch_files(place.client, ref, tmp_path / "out")
        assert set(found.names) == {"r.json", "d/z"}
        assert (tmp_path / "out/d/z").read_text() == "z\n"


def test_found_by_its_label(running: Place) -> None:
    """A job is found by its request label, as after a lost answer."""
    ref, job = running.send("hello")
    assert find_request(running.client, job.labels[_marks.REQUEST_LABEL]) == ref.job_id
    assert find_request(running.client, "00000000-0000-0000-0000-000000000000") == ""


# Jobs that don't


CAUSES = {
    "no-gpu-no-queue-timeout": ("unplaceable", FAILED),
    "command-not-found-no-queue-timeout": ("command", FAILED),
    "command-not-found": ("command", STOPPED),
    "timeout": ("execution-timeout", FAILED),
    "out-of-memory-no-queue-timeout": ("memory", FAILED),
    "out-of-memory": ("memory", STOPPED),
    "image-cannot-be-pulled-no-queue-timeout": ("image", FAILED),
    "image-cannot-be-pulled": ("image", STOPPED),
    "inline-directory-without-entries": ("inputs", STOPPED),
}


@pytest.mark.parametrize("scenario", CAUSES)
def test_causes(place: Place, scenario: str) -> None:
    """A failure is told by its own cause; one that would repeat ends the job instead of leaving it in the queue."""
    if not place.containers and scenario.startswith(("image", "out-of-memory", "inline", "command")):
        pytest.skip("needs: container")
    ref, job = place.send(scenario)
    events, end = watched(place, ref, job)
    kind, state = CAUSES[scenario]
    if (
        place.name == "embedded"
        and kind == "memory"
        and [one.run_output.exit_code for one in end.record.executions if one.run_output][-1:] == [137]
    ):
        pytest.skip("this container engine does not say that the kernel killed for memory (podman with cgroups of version 1)")
    assert causes(events)[-1:] == [kind]
    # What `show` tells afterwards is the same.
    record = end.record
    after = main(explained(record.history, record.executions, record.job, place.client.nodes()))
    assert after is not None
    assert after == [event.cause for event in events if isinstance(event, CauseFound)][-1]
    assert end.record.state in (state, STOPPED)
    assert end.record.state == place.client.job(ref.job_id).phase_word


def test_stop(place: Place) -> None:
    """A stop reaches the job with its reason; a second one is no error."""
    ref, job = place.send("stop")
    stop = _stops.StopRequest()
    events = []
    for event in _watch.watch(place.client, ref, nonce="", max_result=1_000_000, poll_interval=0.5, job=job, stop=stop):
        events.append(event)
        if isinstance(event, PhaseChanged) and event.node:
            stop.ask("contract")
    assert isinstance(events[-1], Ended)
    assert events[-1].record.state == STOPPED
    assert causes(events)[-1:] in (["stopped"], [])
    place.client.stop(ref.job_id, "again")
    assert stop.delivered.is_set()


def test_stop_of_a_finished_job(running: Place) -> None:
    """Stopping a job that has ended is refused, and changes nothing."""
    ref, job = running.send("hello")
    watched(running, ref, job)
    with pytest.raises(RejectedError, match="cannot stop job"):
        running.client.stop(ref.job_id, "late")
    assert running.client.job(ref.job_id).phase_word == COMPLETED
