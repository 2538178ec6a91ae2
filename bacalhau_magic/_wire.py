"""Bacalhau's own nouns, as its HTTP API (1.5 to 1.9) writes them.

Keys are PascalCase on the wire; unknown keys are ignored and everything may be missing or null, because servers
differ (source: the API's pages on docs.bacalhau.org and answers recorded from nodes 1.5.2, 1.7.0 and 1.9.3).

Three things here go beyond Bacalhau's API, for the embedded node only: SECRETS_HEADER, INDEX_HEADER, and a node label that
names a staging folder (`_marks.NODE_STAGING`).
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

API_PREFIX = "/api/v1"
SECRETS_HEADER = "X-Bacalhau-Magic-Secrets"
INDEX_HEADER = "X-Bacalhau-Magic-Index"
"""The installer's variables: where packages come from, with passwords (see `_index`)."""

PAYLOAD_LIMIT = 900_000
"""Bytes of job JSON that a cluster takes: above 1 MiB a job blocks its node, and nodes add something of their own."""

PENDING, QUEUED, RUNNING = "Pending", "Queued", "Running"
COMPLETED, FAILED, STOPPED = "Completed", "Failed", "Stopped"
TERMINAL = frozenset({COMPLETED, FAILED, STOPPED})

STDOUT, STDERR = 1, 2

_LARGEST = 2**64
"""No server counts further; nothing here could reckon with what is larger."""


def whole_number(text: str, digits: int = 15) -> int | None:
    """A whole number as others write it, in plain digits and at most so many of them; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None


_WORDS = {"id": "ID", "cpu": "CPU", "gpu": "GPU", "gpus": "GPUs"}


def _pascal(name: str) -> str:
    return "".join(_WORDS.get(part, part.capitalize()) for part in name.split("_"))


class Wire(BaseModel):
    """A noun of the wire: PascalCase aliases, null as empty, unknown keys ignored; a whole number beyond 64 bits is as null."""

    model_config = ConfigDict(alias_generator=_pascal, populate_by_name=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None and not (isinstance(item, int) and abs(item) > _LARGEST)}

    def wire(self) -> dict[str, Any]:
        """This noun as the JSON object that goes over the wire; empty optional parts are left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


class State(Wire):
    state_type: str | int = ""
    message: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class SpecConfig(Wire):
    """An engine, a publisher, a source or a result: a type and its parameters."""

    type: str = ""
    params: dict[str, Any] | None = None


class InputSource(Wire):
    source: SpecConfig
    alias: str | None = None
    target: str = ""


class ResultPath(Wire):
    name: str
    path: str


class Resources(Wire):
    """What a task asks for: texts, as in "1.5", "2GB", "1"."""

    cpu: str | None = None
    memory: str | None = None
    disk: str | None = None
    gpu: str | None = None


class Network(Wire):
    type: str = "None"
    domains: list[str] | None = None


class Timeouts(Wire):
    """Seconds; 0 or left out: none."""

    execution_timeout: int | None = None
    queue_timeout: int | None = None
    total_timeout: int | None = None


class Constraint(Wire):
    key: str
    operator: str
    values: list[str] = Field(default_factory=list)


class Task(Wire):
    name: str = "main"
    engine: SpecConfig = Field(default_factory=SpecConfig)
    publisher: SpecConfig | None = None
    env: dict[str, Any] | None = None
    meta: dict[str, str] = Field(default_factory=dict)
    input_sources: list[InputSource] = Field(default_factory=list)
    result_paths: list[ResultPath] = Field(default_factory=list)
    resources: Resources | None = None
    network: Network | None = None
    timeouts: Timeouts | None = None


class Job(Wire):
    id: str | None = None
    name: str = ""
    namespace: str = "default"
    type: str = "batch"
    priority: int = 0
    count: int = 1
    constraints: list[Constraint] = Field(default_factory=list)
    meta: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    tasks: list[Task] = Field(default_factory=list)
    state: State | None = None
    version: int | None = None
    revision: int | None = None
    create_time: int | None = None
    modify_time: int | None = None

    @property
    def task(self) -> Task:
        """The job's one task."""
        return self.tasks[0] if self.tasks else Task()

    @property
    def phase_word(self) -> str:
        """The job's state as the server's word, "" where it said none."""
        return str(self.state.state_type) if self.state else ""

    @property
    def took(self) -> float:
        """Seconds from its first to its last change, by its server's clock; of a job that is over, its whole time."""
        return max(0, (self.modify_time or 0) - (self.create_time or 0)) / 1e9 if self.create_time else 0.0


class ExecutionState(IntEnum):
    """ComputeState numbers from 1.5.2 on; `renumbered` translates the older ones."""

    UNDEFINED = 0
    NEW = 1
    ASK_FOR_BID = 2
    ASK_FOR_BID_ACCEPTED = 3
    ASK_FOR_BID_REJECTED = 4
    BID_ACCEPTED = 5
    RUNNING = 6
    PUBLISHING = 7
    BID_REJECTED = 8
    COMPLETED = 9
    FAILED = 10
    CANCELLED = 11


_OLDER_STATES = {6: ExecutionState.BID_REJECTED, 7: ExecutionState.COMPLETED, 8: ExecutionState.FAILED, 9: ExecutionState.CANCELLED}
"""The numbers of servers before 1.5.2 that mean another state from 1.5.2 on."""


class RunOutput(Wire):
    """The first 2,048 bytes of each stream and the exit code; never a result channel."""

    stdout: str = ""
    stdout_truncated: bool = False
    stderr: str = Field(default="", alias="stderr")
    stderr_truncated: bool = False
    exit_code: int = 0
    error_msg: str = ""


class Execution(Wire):
    id: str = ""
    node_id: str = ""
    job_id: str = ""
    desired_state: State = Field(default_factory=State)
    compute_state: State = Field(default_factory=State)
    published_result: SpecConfig | None = None
    run_output: RunOutput | None = None
    create_time: int = 0
    modify_time: int = 0

    @property
    def compute(self) -> ExecutionState:
        """The compute state by the numbers of 1.5.2 and later, or by its name; UNDEFINED for one that is not known."""
        value = self.compute_state.state_type
        try:
            return ExecutionState(int(value))
        except ValueError:
            return _STATE_NAMES.get(str(value).replace("_", "").lower(), ExecutionState.UNDEFINED)


_STATE_NAMES = {state.name.replace("_", "").lower(): state for state in ExecutionState}


def renumbered(executions: list[Execution], version: tuple[int, ...] | None) -> list[Execution]:
    """Executions by the state numbers of 1.5.2 and later, whichever the server of this version (None: unknown) uses."""
    older = version < (1, 5, 2) if version is not None and len(version) > 2 else any(map(_is_older, executions))
    return [_by_newer(execution) for execution in executions] if older else executions


def _is_older(execution: Execution) -> bool:
    """Whether an execution can be only one of a server before 1.5.2: from then on none reports 7, nor these words with 8 and 9."""
    state, said = execution.compute_state.state_type, execution.compute_state.message
    if state == 9:
        return said.startswith("Execution stop requested")
    return state == 7 or (state == 8 and bool(said) and "bid" not in said.lower())


def _by_newer(execution: Execution) -> Execution:
    state = execution.compute_state.state_type
    number = _OLDER_STATES.get(state) if isinstance(state, int) else None
    if number is None:
        return execution
    return execution.model_copy(update={"compute_state": execution.compute_state.model_copy(update={"state_type": int(number)})})


class EventBody(Wire):
    message: str = ""
    topic: str = ""
    timestamp: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class HistoryItem(Wire):
    seq_num: int = 0
    type: str = ""
    job_id: str = ""
    execution_id: str = ""
    event: EventBody = Field(default_factory=EventBody)
    time: str = ""


class Gpu(Wire):
    index: int = 0
    name: str = ""
    vendor: str = ""
    memory: int = 0
    pci_address: str = Field(default="", alias="PCIAddress")


class Capacity(Wire):
    """Amounts of a node: CPUs, bytes, GPUs; a part that is zero is left out on the wire."""

    cpu: float = 0.0
    memory: int = 0
    disk: int = 0
    gpu: int = 0
    gpus: list[Gpu] = Field(default_factory=list)


class ComputeNodeInfo(Wire):
    execution_engines: list[str] = Field(default_factory=list)
    publishers: list[str] = Field(default_factory=list)
    storage_sources: list[str] = Field(default_factory=list)
    max_capacity: Capacity = Field(default_factory=Capacity)
    queue_capacity: Capacity = Field(default_factory=Capacity)
    available_capacity: Capacity = Field(default_factory=Capacity)
    max_job_requirements: Capacity = Field(default_factory=Capacity)
    running_executions: int = 0
    enqueued_executions: int = 0
    address: str = Field(default="", alias="address")


class BuildVersion(Wire):
    major: str = ""
    minor: str = ""
    git_version: str = ""
    git_commit: str = ""
    build_date: str = ""
    goos: str = Field(default="", alias="GOOS")
    goarch: str = Field(default="", alias="GOARCH")

    @property
    def number(self) -> tuple[int, ...] | None:
        """Major, minor and, where it is told, patch number; None for a build without a version ("v0.0.0-xxxxxxx")."""
        match = re.match(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", self.git_version) or re.fullmatch(
            r"(\d{1,9}) (\d{1,9})", f"{self.major} {self.minor}"
        )
        found = tuple(int(part) for part in match.groups() if part) if match else ()
        return found if any(found) else None

    @property
    def keeps_logs(self) -> bool | None:
        """Whether a finished job's whole log is served again, for an hour (1.8 and later); None where the version tells nothing."""
        return self.number >= (1, 8) if self.number else None


class NodeInfo(Wire):
    node_id: str = ""
    node_type: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    compute_node_info: ComputeNodeInfo = Field(default_factory=ComputeNodeInfo)
    bacalhau_version: BuildVersion = Field(default_factory=BuildVersion)


_NEWER_LABELS = frozenset({"os_type", "os_arch"})
"""Labels that nodes give themselves from 1.8 on."""


class NodeState(Wire):
    info: NodeInfo = Field(default_factory=NodeInfo)
    membership: str = ""
    connection: str = ""

    @property
    def keeps_logs(self) -> bool:
        """Whether it serves a finished job's whole log again, by its version or, where that tells nothing, by its labels."""
        told = self.info.bacalhau_version.keeps_logs
        return told if told is not None else bool(_NEWER_LABELS & self.info.labels.keys())


class SubmitAnswer(Wire):
    job_id: str = Field(default="", alias="JobID")
    evaluation_id: str = Field(default="", alias="EvaluationID")
    warnings: list[str] = Field(default_factory=list)


class ErrorBody(Wire):
    """The error envelope of the API."""

    status: int = 0
    message: str = ""
    request_id: str = Field(default="", alias="RequestID")
    code: str = ""
    component: str = ""
    hint: str = ""
    details: dict[str, Any] = Field(default_factory=dict)
