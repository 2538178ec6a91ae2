"""The checks of `%bacalhau doctor`: each passed, failed or skipped, with what to do; no IPython here."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _argspec, _gpus, _marks
from ._diagnosis import Check, Diagnosis
from ._installation import installation
from ._job import RemoteJob
from ._stages import Endpoint, JobRef, Target
from ._tables import Text
from ._wire import NodeState, whole_number
from .client import LogStreamError, clean, fetch_files
from .errors import ApiError, BacalhauMagicError, ConfigError, JobTimedOutError, OptionError, UnauthorizedError

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["diagnose", "doctor", "examine"]

_SKEW_ALLOWED = 60.0
_OLDEST = (1, 5)
_QUEUE_SECONDS = 120.0
_TICK = 0.3
_FAREWELL = 5.0
_NO_JOB = "j-00000000-0000-4000-8000-000000000000"
"""An id that no job has."""


def doctor(session: Session, words: list[str]) -> Diagnosis | Text:
    """Check the endpoint, its nodes and this installation, run a cell of each language, and say what to do; `--json` gives JSON."""
    if words not in ([], ["--json"]):
        raise OptionError(f"%bacalhau doctor knows no {words[0]!r}.", option="doctor", hint="It knows --json.")
    found = diagnose(session, session.surroundings.tell)
    return Text(found.to_json()) if words else found


def diagnose(session: Session, tell: Callable[[str], None], done: Callable[[Check], None] = lambda _: None) -> Diagnosis:
    """Run all checks; `tell` gets a sentence about what is going on, and "" at the end; `done` each check at once."""
    checks: list[Check] = []
    try:
        for check in examine(session, lambda sentence: tell(f"Check {len(checks) + 1}: {sentence}")):
            checks.append(check)
            done(check)
    finally:
        tell("")
    return Diagnosis(tuple(checks))


def examine(session: Session, tell: Callable[[str], None]) -> Iterator[Check]:
    """The checks one after the other, each as soon as it is known; nothing here raises but an interrupt."""
    try:
        settings = session.settings
    except ConfigError as problem:
        yield Check("configuration", "failed", problem.message, problem.hint)
        yield from installation()
        return
    warnings = " ".join(warning for warning in settings.warnings if not (settings.endpoint and warning in settings.endpoint.risks))
    yield Check("configuration", "passed", warnings or "It can be read; %bacalhau config --show-origin says where each value is from.")
    target = yield from _place(session, tell)
    if target is None:
        for name in ("clock", "credentials", "nodes", "GPUs", *_PROGRAMS, "log stream", "publisher"):
            yield Check(name, "skipped", "There is no place to run anything.")
    else:
        yield from _server(session, target, tell)
        yield from _jobs(session, target, tell)
    yield from installation()


# The place


def _place(session: Session, tell: Callable[[str], None]) -> Generator[Check, None, Target | None]:
    """The configured endpoint, or the embedded node where none is configured; None where nothing answers."""
    settings = session.settings
    if settings.untrusted_url:
        yield Check(
            "endpoint",
            "failed",
            f"{settings.project_file} names {settings.untrusted_url}, which you have not trusted.",
            "%bacalhau use --trust if you want your cells to go there.",
        )
        return None
    if settings.endpoint is None or not settings.enabled:
        why = "BACALHAU_ENABLED is false" if not settings.enabled else "None is configured"
        why = "The configured key is the embedded node's" if settings.local_key else why
        yield Check("endpoint", "skipped", f"{why}: cells run on the embedded node of this machine.", _how_to_get_one(settings.path))
        tell("starting the embedded node")
        return (yield from _target("embedded node", session.local_target, "python -m bacalhau_magic node logs says more."))
    endpoint = settings.endpoint
    risks = " ".join(endpoint.risks)
    yield Check("endpoint", "passed", f"{endpoint.url}, from {endpoint.origin}.{' ' + risks if risks else ''}")
    tell(f"asking {endpoint.url}")
    return (yield from _target("server", lambda: session.remote_target(endpoint), _how_to_get_one(settings.path)))


def _target(name: str, find: Callable[[], Target], advice: str) -> Generator[Check, None, Target | None]:
    try:
        target = find()
    except BacalhauMagicError as problem:
        yield Check(name, "failed", problem.message, problem.hint or advice)
        return None
    how = f"; {target.executor}" if target.executor else ""
    how += f" ({target.executor_why})" if target.executor and target.executor_why else ""
    version = target.version or "unknown"
    parts = (whole_number(part, 9) for part in version.lstrip("v").split("-")[0].split(".")[:2])
    numbers = tuple(part for part in parts if part is not None)
    if numbers and (0, 0) < numbers < _OLDEST:
        yield Check(name, "failed", f"It answers with version {version}.", "Versions from 1.5 on are supported: have it updated.")
    else:
        unknown = " It does not say which version it is; what it can do is found out as it goes." if numbers in ((), (0, 0)) else ""
        yield Check(name, "passed", f"It answers, version {version}{how}.{unknown}")
    return target


def _how_to_get_one(cli: str) -> str:
    """How to come to a server: a local one where the Bacalhau CLI is, else where to get that."""
    if shutil.which(cli):
        return (
            f"A cluster for trying things starts here with `{cli} devstack`, a lasting one with `{cli} serve --orchestrator --compute`;"
            " then set BACALHAU_API_URL=http://127.0.0.1:1234, or write %bacalhau login URL."
        )
    return (
        "To use a cluster set BACALHAU_API_URL=https://host:1234, or write %bacalhau login URL."
        " A server of your own needs the bacalhau program, which is not on PATH: https://docs.bacalhau.org says how to install it."
    )


# What the server says


def _server(session: Session, target: Target, tell: Callable[[str], None]) -> Iterator[Check]:
    endpoint = target.endpoint
    tell("comparing the clocks")
    yield _clock(session, endpoint)
    tell("reading the nodes")
    try:
        nodes = session.client(endpoint).nodes()
    except UnauthorizedError as problem:
        yield Check("credentials", "failed", problem.message, problem.hint)
        nodes = []
    except ApiError as problem:
        yield Check("credentials", "skipped", f"The nodes can't be read: {problem.message}", problem.hint)
        nodes = []
    else:
        yield _writing(session, endpoint)
    yield _nodes(nodes)
    yield _gpu_check(nodes)


def _writing(session: Session, endpoint: Endpoint) -> Check:
    """Whether jobs may be changed there: asked by stopping one that can't be."""
    came = f"accepted, from {endpoint.credential.origin}" if endpoint.credential else "none set, and none asked for"
    try:
        session.client(endpoint).stop(_NO_JOB, "asked by the doctor", retry=False)
    except UnauthorizedError as problem:
        return Check("credentials", "failed", f"Reading: {came}. Sending jobs: {problem.message}", problem.hint)
    except ApiError:
        pass  # no such job, in the words of any version: it would have been done
    return Check("credentials", "passed", f"Reading and sending jobs: {came}.")


def _clock(session: Session, endpoint: Endpoint) -> Check:
    try:
        ahead = session.client(endpoint).clock_ahead()
    except ApiError as problem:
        return Check("clock", "skipped", problem.message)
    if ahead is None:
        return Check("clock", "skipped", "The server does not say what time it is.")
    if abs(ahead) <= _SKEW_ALLOWED:
        return Check("clock", "passed", f"The server's clock and this one agree within {max(1.0, abs(ahead)):.0f} s.")
    word = "ahead of" if ahead > 0 else "behind"
    return Check(
        "clock",
        "failed",
        f"The server's clock is {abs(ahead):.0f} s {word} this one.",
        "Set both by a time server: times of jobs are shown wrong, and logins may be refused.",
    )


def _nodes(nodes: list[NodeState]) -> Check:
    able = [node for node in nodes if _gpus.is_connected(node)]
    if not nodes:
        return Check("nodes", "skipped", "No list of nodes could be read.")
    if not able:
        return Check("nodes", "failed", f"None of {len(nodes)} nodes is connected and takes jobs.", "Ask whoever runs the cluster.")
    engines = sorted({engine for node in able for engine in node.info.compute_node_info.execution_engines})
    names = ", ".join(clean(node.info.node_id[:10]) for node in able[:5]) + (f" and {len(able) - 5} more" if len(able) > 5 else "")
    says = f"{len(able)} of {len(nodes)} take jobs: {names}; engines: {clean(', '.join(engines))}."
    local = any(_marks.NODE_LOCAL in node.info.labels for node in able)
    if "docker" not in engines and not local:
        return Check("nodes", "failed", says, "Cells need a node with the docker engine.")
    return Check("nodes", "passed", says)


def _gpu_check(nodes: list[NodeState]) -> Check:
    found = [
        f"{clean(node.info.node_id[:10])}: {text}" for node in nodes if _gpus.is_connected(node) and (text := _gpus.text(node)) != "none"
    ]
    return Check("GPUs", "passed", "; ".join(found) + ".") if found else Check("GPUs", "skipped", "No node reports a GPU.")


# Jobs


@dataclass(frozen=True, slots=True)
class _Program:
    """A cell that is run, and the value that must come back."""

    language: str
    code: str
    value: Any


_PROGRAMS: Mapping[str, _Program] = {
    "Python job": _Program("python", "{'sum': sum(range(10)), 'from': 'python'}", {"sum": 45, "from": "python"}),
    "Bash job": _Program(
        "bash", 's=0; for i in $(seq 9); do s=$((s + i)); done; echo "{\\"sum\\": $s, \\"from\\": \\"bash\\"}"', {"sum": 45, "from": "bash"}
    ),
    "JavaScript job": _Program(
        "javascript",
        "console.log(JSON.stringify({sum: [...Array(10).keys()].reduce((a, b) => a + b), from: 'javascript'}))",
        {"sum": 45, "from": "javascript"},
    ),
}
_WROTE = "written by the doctor"


def _jobs(session: Session, target: Target, tell: Callable[[str], None]) -> Iterator[Check]:
    last = session.last
    refs: dict[str, JobRef] = {}
    try:
        for name, program in _PROGRAMS.items():
            check, job = _run(session, name, program, tell)
            yield check
            if check.outcome == "passed" and job is not None:
                refs[program.language] = job.ref
        tell("reading a log")
        yield _log_stream(session, target.endpoint, next(iter(refs.values()), None))
        if "bash" in refs:
            yield _publisher(session, target, tell)
        else:
            yield Check("publisher", "skipped", "No Bash cell ran that could write a file.")
    finally:
        session.last = last  # `last` stays the user's own job


def _run(session: Session, name: str, program: _Program, tell: Callable[[str], None]) -> tuple[Check, RemoteJob | None]:
    began = time.monotonic()
    try:
        job = _start(session, program.language, program.code)
        value = _waited(job, name, tell)
    except BacalhauMagicError as problem:
        lacking = isinstance(problem, OptionError) and problem.option == "lang"
        return Check(name, "skipped" if lacking else "failed", problem.message, problem.hint), None
    if value != program.value:
        return Check(name, "failed", f"It gave {clean(repr(value), 200)} and not {program.value!r}.", "%bacalhau show JOB says more."), job
    return Check(
        name, "passed", f"It ran on {job.snapshot.node[:10] or 'a node'} and gave the right value, in {time.monotonic() - began:.1f} s."
    ), job


def _start(session: Session, language: str, code: str, **options: Any) -> RemoteJob:
    longest = session.settings.policy.max.get("queue_timeout", _QUEUE_SECONDS)
    asked = {"lang": language, "name": f"doctor {language}", "queue_timeout": f"{min(longest, _QUEUE_SECONDS):g}s", **options}
    request = session.request(code, _argspec.from_call(asked), {})
    # Under a key of its own: it is no job of the notebook's.
    return session.start(replace(request, notebook="doctor"))


def _waited(job: RemoteJob, name: str, tell: Callable[[str], None]) -> Any:
    """The job's value; meanwhile it is told what the job does. An interrupt stops the job."""
    try:
        while not job.done():
            shown = job.snapshot
            tell(
                f"{name}: {shown.sentence or shown.phase}{' on ' + shown.node[:10] if shown.node else ''}, {time.time() - shown.started:.0f} s"
            )
            with suppress(JobTimedOutError):
                job.result(_TICK)
        return job.result()
    except KeyboardInterrupt:
        job.cancel("the doctor was interrupted")
        with suppress(BacalhauMagicError, KeyboardInterrupt):
            job.result(_FAREWELL)  # the program may end with this: the stop is to be on its way
        raise


def _log_stream(session: Session, endpoint: Endpoint, ref: JobRef | None) -> Check:
    """Whether logs can be read: that of a job that ran, else whether a stream opens at all."""
    client, frames = session.client(ref.endpoint if ref else endpoint), 0
    try:
        with client.logs(ref.job_id if ref else _NO_JOB, namespace=ref.namespace if ref else "", follow=False) as stream:
            stream.silence = 10.0
            for _ in stream:
                frames += 1
    except LogStreamError as problem:
        if ref is None:
            return Check("log stream", "passed", "It opens; no job ran whose log could be read.")
        return Check("log stream", "failed", problem.message, "Ask whoever runs the cluster for its node's log.")
    except (ApiError, TimeoutError) as problem:
        said = problem.message if isinstance(problem, ApiError) else "It stays silent."
        busy = "" if isinstance(problem, ApiError) else "A node serves one log at a time: try again in a minute. "
        advice = f"{busy}A proxy on the way must let web sockets through; results and logs come by them."
        return Check("log stream", "failed", said, problem.hint if isinstance(problem, UnauthorizedError) else advice)
    if not frames:
        return Check(
            "log stream", "failed", "It opened, and had nothing of a job that printed.", "Ask whoever runs the cluster for its node's log."
        )
    return Check("log stream", "passed", f"It serves a finished job's log ({frames} frames).")


def _publisher(session: Session, target: Target, tell: Callable[[str], None]) -> Check:
    """A file that a job wrote is fetched from where its node published it."""
    if target.nodes and not target.publishers:
        return Check("publisher", "skipped", "No node has one: files (--files) don't come back.", "A node's own local publisher is enough.")
    with tempfile.TemporaryDirectory(prefix="bacalhau-doctor-") as folder:
        place = Path(folder) / "files"
        try:
            job = _start(session, "bash", f"printf %s '{_WROTE}' > outputs/doctor.txt", files=str(place))
            _waited(job, "publisher", tell)
            if not place.exists():
                fetch_files(session.client(job.ref.endpoint), job.ref, place)
            wrote = (place / "doctor.txt").read_text("utf-8")
        except BacalhauMagicError as problem:
            return Check("publisher", "failed", problem.message, problem.hint)
        except OSError as problem:
            return Check("publisher", "failed", f"The file did not come back: {problem.strerror}.", "%bacalhau show JOB says more.")
    if wrote != _WROTE:
        return Check("publisher", "failed", "The file came back with another content.", "%bacalhau show JOB says more.")
    return Check(
        "publisher",
        "passed",
        f"A job's file came back ({', '.join(sorted(target.publishers - {'noop'})) or 'its publisher is not known'}).",
    )
