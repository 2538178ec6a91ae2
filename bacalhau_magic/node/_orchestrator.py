"""Takes jobs, finds them room, runs them, and writes down what happened; all of it on the event loop's thread."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import _marks
from . import _answers, _lifecycle
from ._attempt import Attempt, Outcome, Plan
from ._housekeeping import Housekeeping
from ._images import Images
from ._intake import Intake, Refusal
from ._lifecycle import Event
from ._logs import LogBook
from ._packages import Cache, has_own
from ._room import Room, interpreter
from ._spool import Spool
from ._store import ExecutionRow, JobRow, Store
from ._timers import Timers
from .executors._seam import Executors

__all__ = ["Orchestrator"]


class Orchestrator:
    """The node's one scheduler; its room is equipped later (`equip`)."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self.store = store
        self.loop = loop
        self.logs = LogBook(loop)
        self.node_id = store.fact("node_id", f"n-{uuid.uuid4()}")
        self.instance = uuid.uuid4().hex + uuid.uuid4().hex
        self.room = Room(store.folder)
        self.spool = Spool(store)
        self.equipped = asyncio.Event()
        self.draining = False
        self.attempts: dict[str, Attempt] = {}
        self.packages = Cache(store.folder / "packages")
        self.housekeeping = Housekeeping(store, self.spool, self.packages, self.attempts)
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._indexes: dict[str, Mapping[str, str]] = {}
        """Job → where its packages come from."""
        self._timers = Timers(store, loop, self._total_timeout, self._queue_timeout)
        self._unready: list[str] = []
        self._images = Images(loop, self._pulling, self._scanned)
        self._parked: list[str] = []
        """Queued jobs, in order: they are looked at again whenever an execution has ended."""

    @property
    def busy(self) -> bool:
        """Whether a job is not over yet, or a payload is still being cleared away."""
        return bool(self.attempts or self._timers or self._unready or self._images or len(self.room.queue))

    def equip(self, executors: Executors, labels: Mapping[str, str]) -> None:
        """What this machine can run jobs with is known: the jobs that waited for it are looked at."""
        self.room.equip(executors, labels)
        self.equipped.set()
        waiting, self._unready = self._unready, []
        for job_id in waiting:
            self._look_again(job_id)
        # Executions that waited for room when an earlier process of this node was killed are in the queue already.
        self._fill()
        self._unpark()

    # What clients ask for

    def submit(
        self, intake: Intake, *, force: bool = False, secrets: Mapping[str, str] | None = None, index: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Takes a job; the answer to a PUT. `index` says where its packages come from. Raises Refusal."""
        if self.draining:
            raise Refusal("this node finishes its jobs and takes no new ones", status=503, code="ServiceUnavailable", component="Node")
        spec = intake.job
        self.spool.check(spec)
        known = self.store.job_named(spec["Name"], spec["Namespace"]) if spec["Name"] else None
        job_id = known.id if known else f"j-{uuid.uuid4()}"
        spec["Name"] = spec["Name"] or job_id
        version = known.version + 1 if known else 1
        urls = self.spool.split(spec)
        digest = _digest(spec, urls)
        if known and known.digest == digest and not force:
            raise Refusal(
                f"no changes detected for new job spec. Job Name: '{spec['Name']}', Job Id: '{job_id}'",
                status=500,
                code="",
                component="Bacalhau",
                hint="Use the --force flag to override this warning",
            )
        self.spool.keep(job_id, version, urls)
        now = time.time_ns()
        job = JobRow(
            job_id, spec["Namespace"], spec["Name"], spec, _lifecycle.PENDING, "", version, 1,
            known.created if known else now, now, bool(secrets) or has_own(index or {}), digest,
        )  # fmt: skip
        with self.store.writing():
            if known:
                self.store.put_version(known.id, known.version, _answers.job(known, self.node_id, self.instance))
                self._cancel(known)
            self.store.put_job(job)
            self.store.add_events(job, _lifecycle.updated() if known else _lifecycle.submitted())
        if secrets:
            self._secrets[job_id] = dict(secrets)
        if index:
            self._indexes[job_id] = dict(index)
        evaluation = str(uuid.uuid4())
        self._begin(job, evaluation)
        return {"JobID": job_id, "EvaluationID": evaluation, "Warnings": intake.warnings or None}

    def stop(self, job: JobRow, reason: str) -> dict[str, Any]:
        """Stops a job; the answer to a DELETE. Raises Refusal for one that is over already."""
        if job.state == _lifecycle.STOPPED:
            return {"EvaluationID": ""}
        if job.state == _lifecycle.COMPLETED:
            raise Refusal("cannot stop job in state Completed", status=500, code="", component="Bacalhau")
        if job.over:
            text = f"job {job.id} is in terminal state {job.state} and cannot transition to Stopped"
            raise Refusal(text, status=500, code="ConflictJobState", component="JobStore")
        with self.store.writing():
            self.store.add_events(job, _lifecycle.stopped(reason))
            self._cancel(job)
            self._end_job(job, _lifecycle.STOPPED, reason)
        return {"EvaluationID": str(uuid.uuid4())}

    def rerun(self, job: JobRow, reason: str) -> dict[str, Any]:
        """Runs a job that is over again, as its next version. Raises Refusal."""
        if not job.over and job.state != _lifecycle.RUNNING:
            raise Refusal(
                f"cannot rerun job in state {job.state}", status=500, code="", component="Bacalhau", hint="Wait until the job has run"
            )
        if self._has_lost(job):
            raise Refusal("this job had secrets, which were not kept; submit it again", status=500, code="", component="Bacalhau")
        with self.store.writing():
            self.store.put_version(job.id, job.version, _answers.job(job, self.node_id, self.instance))
            self._cancel(job)
            self.spool.carry_over(job)
            job.version += 1
            job.state, job.message, job.ran = _lifecycle.PENDING, "", False
            job.modified = time.time_ns()
            self.store.put_job(job)
            self.store.add_events(job, _lifecycle.rerun(reason))
        evaluation = str(uuid.uuid4())
        self._begin(job, evaluation)
        return {"EvaluationID": evaluation, "JobID": job.id, "JobVersion": job.version, "Warnings": None}

    def find(self, text: str, namespace: str = "") -> JobRow:
        """A job by name, id, or unique prefix of an id. Raises Refusal."""
        if job := self.store.job_named(text, namespace or "default") or self.store.job(text):
            return job
        found = self.store.jobs_with_prefix(text) if len(text) >= 3 and len(text) < 38 else []
        if len(found) > 1:
            raise Refusal(
                f"multiple jobs found for id {text}", status=500, code="MultipleJobsFound", component="JobStore", hint="Use full job ID"
            )
        if not found:
            raise Refusal(f"job not found: {text}", status=404, code="NotFound", component="JobStore")
        return found[0]

    # After a crash

    def recover(self) -> None:
        """Ends what an earlier process of this node left running, and takes up what had not begun."""
        for job in self.store.unfinished():
            executions = [e for e in self.store.executions(job.id) if not e.over]
            lost = [e for e in executions if e.started]
            if lost or self._has_lost(job):
                reason = _lifecycle.RESTARTED
                with self.store.writing():
                    for execution in executions:
                        self._end_execution(job, execution, Outcome(reason, topic="Restart"))
                    self.store.add_events(job, _lifecycle.job_failed_at_restart())
                    self._end_job(job, _lifecycle.FAILED, reason)
                continue
            self._timers.begin(job)
            if executions:
                with self.store.writing():
                    self._accept(job, executions[-1]) if job.state == _lifecycle.PENDING else self._enqueue(job, executions[-1])
            elif job.state == _lifecycle.QUEUED:
                self._timers.queue(job)
                self._parked.append(job.id)
            else:
                self._unready.append(job.id)

    def stop_all(self) -> list[Attempt]:
        """Stops every job; the attempts that are still ending."""
        for job in self.store.unfinished():
            with suppress(Refusal):
                self.stop(job, "the node was stopped")
        return list(self.attempts.values())

    # A job's way

    def _begin(self, job: JobRow, evaluation: str) -> None:
        self._timers.begin(job)
        if self.room.executors is None:
            self._unready.append(job.id)
        else:
            # After the answer to the PUT: a client sees Pending first, as on a real node.
            self.loop.call_soon(self._look_again, job.id, evaluation)

    def _look_again(self, job_id: str, evaluation: str = "") -> None:
        if (job := self.store.job(job_id)) and not job.over:
            self._evaluate(job, evaluation)
        self._fill()

    def _evaluate(self, job: JobRow, evaluation: str = "") -> None:
        """Starts a job's next execution, or says why there is none, or ends it."""
        executions = [e for e in self.store.executions(job.id) if e.job_version == job.version]
        if any(not e.over for e in executions):
            return
        completed = sum(e.compute == _lifecycle.EXECUTION_COMPLETED for e in executions)
        failed = sum(e.compute == _lifecycle.EXECUTION_FAILED for e in executions)
        missing = job.wanted - completed
        with self.store.writing():
            if missing <= 0:
                self.store.add_events(job, _lifecycle.state_update(_lifecycle.COMPLETED))
                self._end_job(job, _lifecycle.COMPLETED, "")
            elif completed:
                self._wait_or_fail(job, _lifecycle.REJECTED, missing)
            elif failed >= _lifecycle.ATTEMPTS:
                self._wait_or_fail(job, _lifecycle.TRIED_TWICE, missing)
            elif reason := self.room.unsuitable(job):
                self._wait_or_fail(job, reason, missing)
            else:
                self._request(job, evaluation or str(uuid.uuid4()), len(executions))

    def _request(self, job: JobRow, evaluation: str, number: int) -> None:
        now = time.time_ns()
        execution = ExecutionRow(f"e-{uuid.uuid4()}", job.id, job.version, evaluation, job.version * 1000 + number, now, now)
        self.store.put_execution(execution)
        self.store.add_events(job, _lifecycle.requested(execution.id, self.node_id))
        executor = self.room.executor(job)
        if executor is None or self.room.executors is None or executor is not self.room.executors.container:
            self._accept(job, execution)
            return
        self._images.get(execution.id, executor, str((job.task["Engine"].get("Params") or {}).get("Image", "")))

    def _accept(self, job: JobRow, execution: ExecutionRow) -> None:
        """The execution is this node's: it runs, or waits for room."""
        events = []
        if not job.ran:
            events.append(_lifecycle.state_update(_lifecycle.RUNNING))
            job.ran = True
        self.store.add_events(job, *events, _lifecycle.execution_running(execution.id))
        job.state, job.message = _lifecycle.RUNNING, ""
        self.store.touch_job(job)
        self._enqueue(job, execution)

    def _pulling(self, execution_id: str, image: str) -> None:
        execution = self.store.execution(execution_id)
        job = self.store.job(execution.job) if execution else None
        if execution and job and not execution.over and not job.over:
            with self.store.writing():
                self.store.add_events(job, _lifecycle.image_pulled(execution_id, image))

    def _scanned(self, execution_id: str, problem: str, image: str) -> None:
        execution = self.store.execution(execution_id)
        job = self.store.job(execution.job) if execution else None
        if execution is None or job is None or execution.over or job.over:
            return
        with self.store.writing():
            if problem:
                self._end_execution(job, execution, Outcome(problem), _lifecycle.image_failed(execution_id, problem, image))
            else:
                self._accept(job, execution)
        if problem:
            self._evaluate(job)
        self._fill()

    def _enqueue(self, job: JobRow, execution: ExecutionRow) -> None:
        # A log stream that opens now waits for the first line, even while the execution waits for room.
        self.logs.begin(execution.id)
        self.room.queue.add(execution.id, self.room.amounts(job))

    def _fill(self) -> None:
        if self.room.executors is None:
            return
        for execution_id in list(self.room.queue.ready()):
            execution = self.store.execution(execution_id)
            job = self.store.job(execution.job) if execution else None
            if execution is None or job is None or execution.over or job.over:
                self.room.queue.drop(execution_id)
                self.logs.end(execution_id)
                continue
            execution.started = True
            with self.store.writing():
                self.store.put_execution(execution)
            self._start(job, execution)

    def _start(self, job: JobRow, execution: ExecutionRow) -> None:
        task = job.task
        meta = task.get("Meta") or {}
        amounts = self.room.amounts(job)
        gpus = self.room.take_gpus(execution.id, amounts.gpu)
        folder = self.store.execution_folder(execution.id)
        folder.mkdir(mode=0o700, exist_ok=True)
        executor = self.room.executor(job)
        assert executor is not None
        system_env = {
            "BACALHAU_EXECUTION_ID": execution.id,
            "BACALHAU_JOB_ID": job.id,
            "BACALHAU_JOB_TYPE": job.spec["Type"],
            "BACALHAU_PARTITION_INDEX": "0",
            "BACALHAU_PARTITION_COUNT": str(job.spec["Count"]),
        }
        limit = (task.get("Timeouts") or {}).get("ExecutionTimeout", 0)
        plan = Plan(
            execution.id, job.id, task, executor, interpreter(job), meta.get(_marks.META_LANGUAGE, ""), amounts, folder, self.spool.urls(job),
            self.store.staging, system_env, self.packages, gpus, self._secrets.get(job.id, {}), self._indexes.get(job.id, {}), limit,
        )  # fmt: skip

        def ended(outcome: Outcome) -> None:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._ended, execution.id, outcome)

        attempt = Attempt(plan, self.logs.begin(execution.id), ended)
        self.attempts[execution.id] = attempt
        attempt.start()

    def _ended(self, execution_id: str, outcome: Outcome) -> None:
        """An attempt is over, and nothing of it is left."""
        self.attempts.pop(execution_id, None)
        self.room.leave(execution_id)
        execution = self.store.execution(execution_id)
        job = self.store.job(execution.job) if execution else None
        if execution and job and not execution.over:
            with self.store.writing():
                self._end_execution(job, execution, outcome)
            if not job.over:
                if outcome.failure and job.spec["Type"] == "ops":
                    with self.store.writing():
                        self.store.add_events(job, _lifecycle.job_failed_at_restart())
                        self._end_job(job, _lifecycle.FAILED, "Job failed because one or more executions failed")
                else:
                    self._evaluate(job)
        self.logs.end(execution_id)
        self._fill()
        self._unpark()

    def _unpark(self) -> None:
        """Takes up queued jobs that there is room for now, none before one that still waits for room."""
        parked, self._parked = self._parked, []
        for number, job_id in enumerate(parked):
            job = self.store.job(job_id)
            if job is None or job.state != _lifecycle.QUEUED:
                continue
            tried = [e for e in self.store.executions(job.id) if e.job_version == job.version]
            if not tried and not self.room.unsuitable(job):
                self._evaluate(job)
                self._fill()
                continue
            self._parked.append(job_id)
            if not tried and self.room.queue.full:
                self._parked += parked[number + 1 :]
                return

    def _end_execution(self, job: JobRow, execution: ExecutionRow, outcome: Outcome, event: Event | None = None) -> None:
        execution.desired = _lifecycle.DESIRED_STOPPED
        if outcome.failure:
            execution.compute, execution.compute_message = _lifecycle.EXECUTION_FAILED, outcome.failure
            execution.desired_message = "execution failed"
            event = event or _lifecycle.execution_failed(execution.id, outcome.failure, topic=outcome.topic)
        else:
            execution.compute, execution.desired_message = _lifecycle.EXECUTION_COMPLETED, "execution completed"
            execution.output, execution.published = dict(outcome.output), outcome.published
            event = _lifecycle.execution_completed(execution.id)
        cuts = [_lifecycle.log_cut(execution.id, stream) for stream in outcome.cut]
        self.store.add_events(job, *cuts, event)
        self.store.touch_execution(execution)

    def _wait_or_fail(self, job: JobRow, reason: str, missing: int) -> None:
        message = _lifecycle.not_enough_nodes(self.node_id, reason, missing)
        if self._timers.queue_left(job) > 0 and reason == _lifecycle.TRIED_TWICE and not job.ran:
            # As recorded: a job whose image can't be pulled stays Pending until its queue timeout.
            self._timers.queue(job)
        elif self._timers.queue_left(job) > 0:
            job.state, job.message = _lifecycle.QUEUED, f"Job queued. {message}"
            self.store.add_events(job, _lifecycle.queued(job.message))
            self.store.touch_job(job)
            self._timers.queue(job)
            self._parked.append(job.id)
        else:
            self.store.add_events(job, _lifecycle.unplaceable(message, missing))
            self._end_job(job, _lifecycle.FAILED, message)

    def _cancel(self, job: JobRow) -> None:
        """Takes a job's live executions away; their payloads end soon after."""
        events: list[Event] = []
        for execution in self.store.executions(job.id):
            if execution.over:
                continue
            execution.compute = _lifecycle.EXECUTION_CANCELLED
            execution.desired = _lifecycle.DESIRED_STOPPED
            execution.compute_message = execution.desired_message = _lifecycle.STOP_REQUESTED
            events.append(_lifecycle.execution_stopped(execution.id))
            self.store.touch_execution(execution)
            self._let_go(execution.id)
        self.store.add_events(job, *events)

    def _let_go(self, execution_id: str) -> None:
        if attempt := self.attempts.get(execution_id):
            attempt.stop()
        elif self.room.queue.drop(execution_id):
            self.logs.end(execution_id)
            self.loop.call_soon(self._unpark)

    def _end_job(self, job: JobRow, state: str, message: str) -> None:
        job.state, job.message = state, message
        self.store.touch_job(job)
        self._timers.end(job.id)
        self._unready = [job_id for job_id in self._unready if job_id != job.id]
        self._forget_secrets(job.id)

    def _forget_secrets(self, job_id: str) -> None:
        self._secrets.pop(job_id, None)
        self._indexes.pop(job_id, None)

    def _has_lost(self, job: JobRow) -> bool:
        """Whether a job came with something that is kept in memory only, and is there no more."""
        return job.secret and job.id not in self._secrets and job.id not in self._indexes

    # Time

    def _total_timeout(self, job_id: str, seconds: int) -> None:
        job = self.store.job(job_id)
        if job is None or job.over:
            return
        with self.store.writing():
            for execution in self.store.executions(job_id):
                if not execution.over:
                    self._end_execution(job, execution, Outcome(_lifecycle.execution_timed_out(seconds)))
                    self._let_go(execution.id)
            event = _lifecycle.job_timed_out(seconds)
            self.store.add_events(job, event)
            self._end_job(job, _lifecycle.FAILED, event.message)

    def _queue_timeout(self, job_id: str, version: int) -> None:
        job = self.store.job(job_id)
        if job is None or job.state not in (_lifecycle.QUEUED, _lifecycle.PENDING) or job.version != version:
            return
        message = job.message.removeprefix("Job queued. ") or _lifecycle.not_enough_nodes(self.node_id, _lifecycle.TRIED_TWICE, job.wanted)
        with self.store.writing():
            self.store.add_events(job, _lifecycle.unplaceable(message, job.wanted))
            self._end_job(job, _lifecycle.FAILED, message)


def _digest(spec: Mapping[str, Any], urls: Mapping[int, str]) -> str:
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for number, url in urls.items():
        digest.update(f"{number}:".encode() + hashlib.sha256(url.encode("utf-8", "replace")).digest())
    return digest.hexdigest()
