"""The values that pass along the one data path; every one is frozen and complete.

cell → CellRequest → Route → PackedJob → JobRef → JobEvent, JobEvent, … → JobResult. The events' fold, which the views
draw, is a Snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ._causes import Cause
from ._definitions import Step
from ._languages import Language
from ._stores import Store
from ._wire import BuildVersion, Execution, HistoryItem, Job, NodeState
from .options import JobOptions

UNVERIFIED = "THE CERTIFICATE IS NOT VERIFIED at"
UNENCRYPTED = "The credential for"
"""How the sentences of `Endpoint.risks` begin."""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself."""
    bare = host.strip("[]").lower()
    return bare in ("localhost", "::1", "0.0.0.0", "::") or bare.startswith("127.")


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer key, or a user and a password; never shown. `origin` says which setting it came from."""

    key: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    origin: str = ""

    def __bool__(self) -> bool:
        return bool(self.key or self.username)

    @property
    def sentence(self) -> str:
        """What was sent and which setting it came from: "The key of environment BACALHAU_API_KEY was sent."."""
        if not self:
            return "No credential is set for it."
        return f"{'The key' if self.key else 'The user and password'} of {self.origin or 'the configuration'} went with it."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's API is: an http(s) URL, and a unix socket's path where that is the door."""

    url: str
    socket: str = ""
    credential: Credential = Credential()
    ca_file: str = ""
    verify: bool = True
    origin: str = ""
    cli: str = ""
    """The Bacalhau CLI's executable, where the endpoint is asked by that program instead of over HTTP."""
    recording: str = ""
    """The file of recorded jobs, where the job is one of those and no server has it."""

    @property
    def is_local(self) -> bool:
        """Whether this is the embedded node's own door."""
        return bool(self.socket)

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine itself."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def risks(self) -> tuple[str, ...]:
        """What is said wherever the endpoint is used: what others in the network could do, in sentences."""
        said = []
        if self.url.startswith("https:") and not self.verify:
            said.append(f"{UNVERIFIED} {self.url}: who is in between can read the key and change what comes back.")
        if self.credential and self.url.startswith("http:") and not self.is_loopback:
            said.append(f"{UNENCRYPTED} {self.url} travels unencrypted: the address is not https.")
        return tuple(said)

    @property
    def label(self) -> str:
        """How the place is called in sentences and in the ledger."""
        return "local" if self.is_local else f"the recording {self.recording}" if self.recording else self.url


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of a place before anything is sent to it.

    `payload_limit` is bytes of job JSON (None: up to the disk). `limits` maps `_marks.LIMITS` to their words, and
    `languages` a language to "" (its interpreter is here) or to what is missing; both are empty for a cluster, where
    an image brings everything. `nodes` is what the server reported, empty when it could not be read.
    """

    name: Literal["local", "bacalhau"]
    endpoint: Endpoint
    version: str = ""
    payload_limit: int | None = None
    staging: Path | None = None
    executor: str = ""
    executor_why: str = ""
    container: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[NodeState, ...] = ()
    store: Store | None = None
    """Where large inputs go that its nodes are to fetch."""
    untrusted_store: str = ""
    """A store that only a project names, and the user did not trust yet."""

    @property
    def is_local(self) -> bool:
        return self.name == "local"

    @property
    def keeps_logs(self) -> bool:
        """Whether a finished job's log can be read again: the embedded node's always, a cluster's for an hour from 1.8 on."""
        told = BuildVersion(git_version=self.version).keeps_logs
        takers = [node for node in self.nodes if node.info.compute_node_info.execution_engines]
        if self.is_local or not takers:
            return self.is_local or told is not False
        return told is not False and all(node.keeps_logs for node in takers)

    @property
    def publishers(self) -> frozenset[str]:
        """The publishers that at least one node offers, in lower case."""
        return frozenset(p.lower() for node in self.nodes for p in node.info.compute_node_info.publishers)


@dataclass(frozen=True, slots=True)
class Availability:
    """What was found by probing, before a route is chosen: a place, or why there is none."""

    local: Target | None = None
    local_problem: str = ""
    remote: Target | None = None
    remote_endpoint: Endpoint | None = None
    """The configured endpoint, whether it answers or not."""
    remote_problem: str = ""
    remote_advice: str = ""
    """What the problem's own error says to do."""
    local_key: bool = False
    """The configured address and key are the embedded node's own door for other tools."""
    untrusted_url: str = ""
    """The only endpoint is a project's that was not yet trusted: its URL."""
    enabled: bool = True
    """False: BACALHAU_ENABLED=false."""
    prefer: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The chosen target, why in one sentence, and what the card should say besides.

    `options` are the options in effect there: what was configured or built in is cut to what the target keeps.
    """

    target: Target
    why: str
    notices: tuple[str, ...] = ()
    options: JobOptions = field(default_factory=JobOptions)
    instead: str = ""
    """The notice that it is not where the cell was to go, "" where it is."""


@dataclass(frozen=True, slots=True)
class InputItem:
    """One input of a cell.

    `name` is the variable's or the file's name, `kind` says what lies where: "value" (encoded bytes in `data`, with
    its codec type in `type_name`), "file" (a file or folder at `source`, read when it is packed), or "url" (the nodes fetch it). `path` is
    relative to the inputs folder, `target` an absolute path in the job in its stead.
    """

    name: str
    kind: Literal["value", "file", "url"]
    path: str
    size: int
    data: bytes = field(default=b"", repr=False)
    type_name: str = ""
    source: Path | None = None
    target: str = ""
    url: str = ""
    text: str | None = field(default=None, repr=False)
    """The value as a text, for Bash's $NAME: texts and numbers only."""
    libraries: tuple[str, ...] = ()
    """The libraries that a Python job needs to read the value."""


@dataclass(frozen=True, slots=True)
class CellRequest:
    """A cell and all that it needs, taken from the notebook: from here on the namespace is not read again."""

    code: str = field(repr=False)
    options: JobOptions
    language: Language
    inputs: tuple[InputItem, ...] = ()
    steps: tuple[Step, ...] = ()
    """What a Python job does before the cell, in order; empty where no definition is sent."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The values of `options.secret`, as far as they are known here."""
    notebook: str = ""
    cell: str = ""
    interpreter: str = ""
    """The kernel's own Python, for the embedded node's host executor."""
    filename: str = "cell"
    """What the traceback calls the cell."""
    files: Path | None = None
    """Where the files of outputs/ go, checked already: an absolute path."""
    folder: Path | None = None
    """The notebook's folder."""
    shows_value: bool = True
    """False: the cell ends with a semicolon, so its value isn't shown."""
    notices: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Option name → where its value came from; a name that is missing was given on the line or is built in."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A large input that goes by the embedded node's staging folder: `place` is where it will lie when the job is sent."""

    item: InputItem = field(repr=False)
    place: Path


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of an input that goes by a store: `key` is where it will lie there, `placeholder` stands in the spec for its address.

    `place` is the file's absolute path in the job, `inner` its path below the item's own; `digest` is the content's sha256.
    """

    name: str
    key: str
    placeholder: str
    digest: str
    size: int
    place: str
    item: InputItem = field(repr=False)
    inner: str = "."
    source: Path | None = None

    @property
    def data(self) -> bytes:
        """The content of a value, which has no file."""
        return self.item.data


@dataclass(frozen=True, slots=True)
class PackedJob:
    """A job that is ready to be sent: the wire Job, its JSON, and the nonce of its packets."""

    job: Job = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str
    nonce: str
    route: Route
    body_hash: str = ""
    notices: tuple[str, ...] = ()
    staged: tuple[Staged, ...] = ()
    uploads: tuple[Upload, ...] = ()

    @property
    def name(self) -> str:
        return self.job.name


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job that a server has: where, and by which id."""

    job_id: str
    endpoint: Endpoint
    namespace: str = "default"
    name: str = ""
    request_id: str = ""
    is_awaited: bool = field(default=False, compare=False)
    """Whether the cell that sent it waits for it."""

    @property
    def word(self) -> str:
        """What advice calls it in a command: `last` where its cell waits, so that a notebook that is run again says the same."""
        return "last" if self.is_awaited else self.short_id

    @property
    def short_id(self) -> str:
        """The id as people read it: "j-" and eight digits."""
        return self.job_id[:10]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the server says of a job at its end: the job, its executions, its history."""

    job: Job
    executions: tuple[Execution, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    cause: Cause | None = None
    """Why it failed, where that is known without the history: of a recorded job."""

    @property
    def state(self) -> str:
        return self.job.phase_word


Phase = Literal["packing", "sent", "waiting", "pulling", "starting", "installing", "running", "fetching", "completed", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Packed:
    size: int


@dataclass(frozen=True, slots=True)
class Submitted:
    ref: JobRef
    route: Route


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The job is in another phase; `node` is the node's id where one is known, `detail` a sentence's rest."""

    phase: Phase
    node: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """What had begun begins once more, on this node: the server gave the job another execution."""

    node: str


@dataclass(frozen=True, slots=True)
class Printed:
    """Text that the job printed, as it came; `stream` is "stdout" or "stderr"."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class CauseFound:
    cause: Cause


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that the user should know, in one sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class ContactChanged:
    """The endpoint stopped answering (`lost`, with the problem), or answers again."""

    lost: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Transferred:
    """Bytes of the job's data that went over, in either direction, of all of them (None: not told)."""

    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is terminal; `packets` is what its wrapper sent: a packet kind's payloads by sequence (see remote.packets)."""

    record: JobRecord = field(repr=False)
    blob: bytes | bytearray | None = field(default=None, repr=False)
    """The result bundle that the packets carried, whole and checked; None when there was none."""
    problem: str = ""
    """Why `blob` is None although packets came: damaged or incomplete."""
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)
    installing: bool = False
    """The job was still installing its packages: its cell had not begun."""
    cut: bool = False
    """The log of a job that ran to its end was not read to its end, so what is here need not be all of it."""
    unproven: bool = False
    """Nothing shows that the text is whole: a log may close without its last line."""
    silent: bool = False
    """And that is because the node has not served it yet: the last stream was open and said nothing."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The flow is over: the outcome as the snapshot's last sentence; `timed_out` where the cell's time was over."""

    phase: Phase
    sentence: str
    advice: str = ""
    timed_out: bool = False


JobEvent = Packed | Submitted | PhaseChanged | BegunAnew | Printed | CauseFound | Noticed | ContactChanged | Transferred | Ended | Finished


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job brought back.

    `outcome` is "completed" or the kind of failure; `error` the error to raise, None when it ended well. `value` is
    the cell's value where `has_value`; `outputs` the wanted names; `unsendable` names → why. `mime` is the last
    expression's own display, `displays` rich displays with their offset in stdout's bytes.
    """

    ref: JobRef
    record: JobRecord = field(repr=False)
    outcome: str = "completed"
    value: Any = None
    has_value: bool = False
    mime: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    unsendable: Mapping[str, str] = field(default_factory=dict)
    stdout: str = field(default="", repr=False)
    stdout_bytes: bytes = field(default=b"", repr=False)
    stderr: str = field(default="", repr=False)
    displays: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    files: Path | None = None
    file_names: tuple[str, ...] = ()
    """What the job brought into `files`, relative to it: other things may lie there too."""
    notices: tuple[str, ...] = ()
    error: BaseException | None = None
    verified: bool = True
    """False: the result came without packets, from the log alone."""
    is_whole: bool = False
    """The value and all wanted names are there; beside an error: only what was to come with them failed."""


def seconds(count: float) -> str:
    """A span of time for people: 0.42 → "0.4 s", 75 → "1 min 15 s", 7200 → "2 h"."""
    if count < 9.95:
        return f"{count:.1f} s"
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
