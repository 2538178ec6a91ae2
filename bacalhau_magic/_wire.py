"""Bacalhau's own nouns, as its HTTP API (1.5 to 1.9) writes them.

Keys are PascalCase on the wire; unknown keys are ignored and everything may be missing or null, because servers
differ (source: the API's pages on docs.bacalhau.org and answers recorded from nodes 1.5.2, 1.7.0 and 1.9.3).

Two things here go beyond Bacalhau's API, for the embedded node only: SECRETS_HEADER, and a node label that names a
staging folder (`_marks.NODE_STAGING`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

API_PREFIX = "/api/v1"
SECRETS_HEADER = "X-Bacalhau-Magic-Secrets"

PAYLOAD_LIMIT = 900_000
"""Bytes of job JSON that a cluster takes: above 1 MiB a job blocks its node, and nodes add something of their own."""

PENDING, QUEUED, RUNNING = "Pending", "Queued", "Running"
COMPLETED, FAILED, STOPPED = "Completed", "Failed", "Stopped"
TERMINAL = frozenset({COMPLETED, FAILED, STOPPED})

STDOUT, STDERR = 1, 2


_WORDS = {"id": "ID", "cpu": "CPU", "gpu": "GPU", "gpus": "GPUs"}


def _pascal(name: str) -> str:
    return "".join(_WORDS.get(part, part.capitalize()) for part in name.split("_"))


def _empty_list(value: object) -> object:
    return [] if value is None else value


def _empty_dict(value: object) -> object:
    return {} if value is None else value


def _empty_text(value: object) -> object:
    return "" if value is None else value


class Wire(BaseModel):
    """A noun of the wire: PascalCase aliases, null as empty, unknown keys ignored."""

    model_config = ConfigDict(alias_generator=_pascal, populate_by_name=True, extra="ignore", frozen=True)

    def wire(self) -> dict[str, Any]:
        """This noun as the JSON object that goes over the wire; empty optional parts are left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


Text = Annotated[str, BeforeValidator(_empty_text)]
Texts = Annotated[list[str], BeforeValidator(_empty_list)]
TextMap = Annotated[dict[str, str], BeforeValidator(_empty_dict)]
AnyMap = Annotated[dict[str, Any], BeforeValidator(_empty_dict)]


class State(Wire):
    state_type: str | int = ""
    message: Text = ""
    details: AnyMap = Field(default_factory=dict)


class SpecConfig(Wire):
    """An engine, a publisher, a source or a result: a type and its parameters."""

    type: Text = ""
    params: AnyMap | None = None


class InputSource(Wire):
    source: SpecConfig
    alias: str | None = None
    target: Text = ""


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
    values: Texts = Field(default_factory=list)


class Task(Wire):
    name: Text = "main"
    engine: SpecConfig = Field(default_factory=SpecConfig)
    publisher: SpecConfig | None = None
    env: AnyMap | None = None
    meta: TextMap = Field(default_factory=dict)
    input_sources: Annotated[list[InputSource], BeforeValidator(_empty_list)] = Field(default_factory=list)
    result_paths: Annotated[list[ResultPath], BeforeValidator(_empty_list)] = Field(default_factory=list)
    resources: Resources | None = None
    network: Network | None = None
    timeouts: Timeouts | None = None


class Job(Wire):
    id: Text | None = None
    name: Text = ""
    namespace: Text = "default"
    type: str = "batch"
    priority: int = 0
    count: int = 1
    constraints: Annotated[list[Constraint], BeforeValidator(_empty_list)] = Field(default_factory=list)
    meta: TextMap = Field(default_factory=dict)
    labels: TextMap = Field(default_factory=dict)
    tasks: Annotated[list[Task], BeforeValidator(_empty_list)] = Field(default_factory=list)
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


class ExecutionState(IntEnum):
    """ComputeState numbers from 1.5.2 on; `Execution.compute` translates the older ones."""

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


class RunOutput(Wire):
    """The last 2,048 bytes of each stream and the exit code; never a result channel."""

    stdout: Text = ""
    stdout_truncated: bool = False
    stderr: Text = Field(default="", alias="stderr")
    stderr_truncated: bool = False
    exit_code: int = 0
    error_msg: Text = ""


class Execution(Wire):
    id: Text = ""
    node_id: Text = ""
    job_id: Text = ""
    desired_state: State = Field(default_factory=State)
    compute_state: State = Field(default_factory=State)
    published_result: SpecConfig | None = None
    run_output: RunOutput | None = None
    create_time: int = 0
    modify_time: int = 0

    @property
    def compute(self) -> ExecutionState:
        """The compute state by the numbers of 1.5.2 and later; UNDEFINED for one that is not known."""
        value = self.compute_state.state_type
        try:
            return ExecutionState(int(value))
        except ValueError:
            return ExecutionState.UNDEFINED


class EventBody(Wire):
    message: Text = ""
    topic: Text = ""
    timestamp: Text = ""
    details: AnyMap = Field(default_factory=dict)


class HistoryItem(Wire):
    seq_num: int = 0
    type: Text = ""
    job_id: Text = ""
    execution_id: Text = ""
    event: EventBody = Field(default_factory=EventBody)
    time: Text = ""


class Gpu(Wire):
    index: int = 0
    name: Text = ""
    vendor: Text = ""
    memory: int = 0
    pci_address: Text = Field(default="", alias="PCIAddress")


class Capacity(Wire):
    """Amounts of a node: CPUs, bytes, GPUs; a part that is zero is left out on the wire."""

    cpu: float = 0.0
    memory: int = 0
    disk: int = 0
    gpu: int = 0
    gpus: Annotated[list[Gpu], BeforeValidator(_empty_list)] = Field(default_factory=list)


class ComputeNodeInfo(Wire):
    execution_engines: Texts = Field(default_factory=list)
    publishers: Texts = Field(default_factory=list)
    storage_sources: Texts = Field(default_factory=list)
    max_capacity: Annotated[Capacity, BeforeValidator(_empty_dict)] = Field(default_factory=Capacity)
    queue_capacity: Annotated[Capacity, BeforeValidator(_empty_dict)] = Field(default_factory=Capacity)
    available_capacity: Annotated[Capacity, BeforeValidator(_empty_dict)] = Field(default_factory=Capacity)
    max_job_requirements: Annotated[Capacity, BeforeValidator(_empty_dict)] = Field(default_factory=Capacity)
    running_executions: int = 0
    enqueued_executions: int = 0
    address: Text = Field(default="", alias="address")


class BuildVersion(Wire):
    major: Text = ""
    minor: Text = ""
    git_version: Text = ""
    git_commit: Text = ""
    build_date: Text = ""
    goos: Text = Field(default="", alias="GOOS")
    goarch: Text = Field(default="", alias="GOARCH")


class NodeInfo(Wire):
    node_id: Text = ""
    node_type: Text = ""
    labels: TextMap = Field(default_factory=dict)
    compute_node_info: Annotated[ComputeNodeInfo, BeforeValidator(_empty_dict)] = Field(default_factory=ComputeNodeInfo)
    bacalhau_version: Annotated[BuildVersion, BeforeValidator(_empty_dict)] = Field(default_factory=BuildVersion)


class NodeState(Wire):
    info: NodeInfo = Field(default_factory=NodeInfo)
    membership: Text = ""
    connection: Text = ""


class LogLine(Wire):
    type: int = 0
    line: Text = ""


class SubmitAnswer(Wire):
    job_id: Text = Field(default="", alias="JobID")
    evaluation_id: Text = Field(default="", alias="EvaluationID")
    warnings: Texts = Field(default_factory=list)


class ErrorBody(Wire):
    """The error envelope of the API."""

    status: int = 0
    message: Text = ""
    request_id: Text = Field(default="", alias="RequestID")
    code: Text = ""
    component: Text = ""
    hint: Text = ""
    details: AnyMap = Field(default_factory=dict)
