"""The verbs of `%bacalhau`: one function each; they return values with rich reprs and know no IPython."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _argspec, _connections, _doctor, _flow, _gpus, _jobs, _marks, _policies, _replays, _waits, packing
from ._causes import main
from ._hints import within
from ._job import RemoteJob
from ._results import over_time
from ._secrets import Veil
from ._settingkeys import SETTINGS
from ._sources import overrides
from ._stages import JobRef, seconds
from ._suggestions import suggestion
from ._tables import Report, Table, Text
from ._wire import COMPLETED, STOPPED, TERMINAL, ExecutionState, Job, NodeState
from .errors import ApiError, BacalhauMagicError, OptionError
from .options import GROUPS, JobOptions, plain_name
from .progress import clean

if TYPE_CHECKING:
    from ._session import Session

Verb = Callable[["Session", list[str]], Any]
_TIME_IS_OVER = 124
"""The exit code of the wrapper where it kept the cell's time."""
_WAITS = (_waits.ForOne, _waits.ForAll)


def run(session: Session, line: str) -> Any:
    """What `%bacalhau <line>` returns. Raises OptionError for a verb or an argument that is not known."""
    done = _done(session, line)
    return done.block() if isinstance(done, _WAITS) else done


async def run_awaited(session: Session, line: str) -> Any:
    """As `run`; the kernel's event loop goes on while a job is waited for."""
    done = _done(session, line)
    return await done.awaited() if isinstance(done, _WAITS) else done


def _done(session: Session, line: str) -> Any:
    """What a line's verb gives: a value, or what is to be waited for."""
    try:
        words = shlex.split(line)
    except ValueError as problem:
        raise OptionError(f"The line can't be read: {problem}.") from None
    if not words:
        return status(session, [])
    if words[0] in ("-h", "--help"):
        words[0] = "help"
    verb = _VERBS.get(words[0])
    if verb is not None:
        return verb(session, words[1:])
    hint = suggestion(words[0], _VERBS, written="%bacalhau {}") or f"It knows: {', '.join(_VERBS)}."
    if words[0].startswith("-"):
        hint = f"Options are a cell's: did you mean %%bacalhau {line.strip()}, with the cell below it?"
    raise OptionError(f"%bacalhau knows no {words[0]!r}.", option=words[0], hint=hint)


# Status, jobs, nodes


def status(session: Session, words: list[str]) -> Report:
    """Where a cell would run now and why, the endpoint, the executor and its limits, and my running jobs."""
    _none(words, "status")
    settings = session.settings
    facts: dict[str, str] = {}
    notes = list(settings.warnings)
    facts["runtime"], target = _runtime(session)
    if settings.policy.origin:
        facts["policy"] = f"{settings.policy.origin} (%bacalhau policy says what it allows)"
    if settings.endpoint:
        facts["endpoint"] = f"{settings.endpoint.url} (from {settings.endpoint.origin or 'the configuration'})"
        if settings.endpoint.cli:
            facts["transport"] = f"cli: {settings.endpoint.cli}"
        facts["credential"] = f"from {settings.endpoint.credential.origin}" if settings.endpoint.credential else "none"
    else:
        facts["endpoint"] = "none configured"
    if target is not None:
        facts["server version"] = target.version or "unknown"
        facts["nodes"] = ", ".join(node.info.node_id[:10] for node in target.nodes) or "none reported"
        if target.executor:
            facts["executor"] = target.executor + (f" ({target.executor_why})" if target.executor_why else "")
            facts["limits"] = ", ".join(f"{name}: {word}" for name, word in target.limits.items())
            facts["container engine"] = target.container or "none"
            facts["languages"] = ", ".join(f"{name} ({missing})" if missing else name for name, missing in target.languages.items())
        used = next((node.info.labels[_marks.NODE_DISK_USED] for node in target.nodes if _marks.NODE_DISK_USED in node.info.labels), "")
        if used:
            facts["disk used"] = f"{_bytes(used)} (free it with python -m bacalhau_magic node prune)"
    running = [job for job in session.started if not job.done()]
    facts["my running jobs"] = ", ".join(f"{job.name} ({job.state})" for job in running) or "none"
    return Report("bacalhau", facts, tuple(notes))


def _runtime(session: Session) -> tuple[str, Any]:
    """The runtime of a plain cell with its reason, and its target; the problem's sentence where there is none."""
    if isinstance(session.tape, _replays.Player):
        return f"none: cells are replayed from {session.tape.label}", None
    try:
        request = session.request("0", _argspec.parse(""))
        route = _flow.chosen_route(request, session.means)
    except BacalhauMagicError as problem:
        return f"none: {problem.message}", None
    policy = session.settings.policy
    only = policy.allowed.get("runtime") == (request.options.runtime,) or "runtime" in policy.locked
    decided = only and request.options.runtime != "auto"
    why = f"the policy {policy.origin} allows runtime {request.options.runtime} alone" if decided else route.why
    return f"{route.target.name}, because {why}", route.target


def jobs(session: Session, words: list[str]) -> Table:
    """This notebook's jobs, newest first; `--mine` those sent from this machine, `--all` those of the endpoint."""
    flags = _flags(words, "jobs", {"--mine", "--all"})
    if "--all" in flags:
        return _server_jobs(session)
    _jobs.settle(session)
    rows = session.ledger.rows(None if "--mine" in flags else session.surroundings.notebook())
    table = tuple(
        (
            row.job_id[:10],
            clean(_jobs.title(session, row)),
            row.language,
            _jobs.state_of(session, row),
            _ago(row.created),
            "local" if row.socket else row.url,
        )
        for row in rows
    )
    note = (session.ledger.problem,) if session.ledger.problem else ()
    known = {row.job_id for row in rows}
    table += tuple(_server_row(job, endpoint.label) for endpoint, job in _jobs.labelled(session) if job.id not in known)
    return Table(("job", "name", "language", "state", "sent", "endpoint"), table, _none_sent(session, flags), note)


def _none_sent(session: Session, flags: Collection[str]) -> str:
    if "--mine" in flags:
        return "No jobs were sent from this machine."
    others = " Others of yours: %bacalhau jobs --mine." if session.ledger.rows(None, limit=1) else ""
    return f"No jobs were sent from this notebook.{others}"


def _server_jobs(session: Session) -> Table:
    rows: list[tuple[Any, ...]] = []
    notes: list[str] = []
    for endpoint in session.endpoints():
        try:
            found = session.client(endpoint).jobs(limit=200)
        except ApiError as problem:
            notes.append(problem.message)
            continue
        rows += [_server_row(job, endpoint.label) for job in found]
    return Table(("job", "name", "language", "state", "sent", "endpoint"), tuple(rows), "No jobs.", tuple(notes))


def _server_row(job: Job, place: str) -> tuple[Any, ...]:
    language = job.task.meta.get(_marks.META_LANGUAGE, "")
    return (job.id or "")[:10], clean(job.name), clean(language), job.phase_word.lower(), _ago((job.create_time or 0) / 1e9), place


def nodes(session: Session, words: list[str]) -> Table:
    """The nodes that could take jobs, with their capacity; `--gpu` only those with GPUs."""
    flags = _flags(words, "nodes", {"--gpu"})
    found = compute_nodes(session)
    if "--gpu" in flags:
        found = [node for node in found if _gpus.count(node)]
    headings = ("node", "state", "CPUs", "memory", "disk", "GPUs", "running", "waiting", "takes")
    empty = "No node has a GPU." if "--gpu" in flags else "No nodes."
    return Table(headings, tuple(_node_row(node) for node in found), empty)


def compute_nodes(session: Session) -> list[NodeState]:
    """The nodes that a plain cell could go to now."""
    target = _runtime(session)[1]
    if target is None:
        target = session.local_target()
    return [node for node in target.nodes if node.info.compute_node_info.execution_engines]


def _node_row(node: NodeState) -> tuple[Any, ...]:
    info = node.info.compute_node_info
    most, free = info.max_capacity, info.available_capacity
    return (
        node.info.node_id[:10],
        node.connection.lower(),
        f"{free.cpu:g} of {most.cpu:g}",
        f"{_bytes(free.memory)} of {_bytes(most.memory)}",
        _bytes(most.disk),
        clean(_gpus.text(node)),
        info.running_executions,
        info.enqueued_executions,
        ", ".join(info.execution_engines),
    )


# One job


def show(session: Session, words: list[str]) -> Report:
    """One job in plain words: its state, why it waits or failed, what to do, and its executions."""
    ref = _job(session, words, "show")
    client = session.client(ref.endpoint)
    job = client.job(ref.job_id, ref.namespace)
    executions = client.executions(ref.job_id, ref.namespace)
    history = client.history(ref.job_id, ref.namespace)[0]
    reasons = _jobs.why(session, job, executions, history, ref)
    in_vain = job.phase_word == STOPPED and (first := main(reasons)) is not None and first.kind != "stopped"
    # A try that was stopped as it began, because it would have ended the same, is none.
    tries = sum(not in_vain or execution.compute != ExecutionState.CANCELLED for execution in executions) or len(executions)
    facts = {
        "job": ref.job_id,
        "name": clean(job.name),
        "state": job.phase_word.lower(),
        "language": clean(job.task.meta.get(_marks.META_LANGUAGE, "")),
        "endpoint": ref.endpoint.label,
        "sent": _ago((job.create_time or 0) / 1e9),
        "node": ", ".join(dict.fromkeys(execution.node_id[:10] for execution in executions)) or "none yet",
        "tried": f"{tries} times" if tries != 1 else "once",
    }
    notes = [text for cause in reasons for text in (cause.sentence, *cause.lines, cause.advice) if text]
    if in_vain:
        facts["state"] = "failed"  # it was stopped because trying again would have ended the same
    done = [execution.run_output for execution in executions if execution.run_output and execution.compute.name == "COMPLETED"]
    if done:
        facts["exit code"] = str(done[-1].exit_code)
        if job.phase_word == COMPLETED and done[-1].exit_code:
            facts["state"] = "failed"
        limit = _jobs.time_limit(job)
        if done[-1].exit_code == _TIME_IS_OVER and limit is not None and (state := _jobs.over_time(session, job, history)):
            facts["state"] = state
            error = over_time(ref.job_id, limit)
            said = f"Perhaps {error.message[:1].lower()}{error.message[1:]}" if state.startswith("perhaps") else error.message
            notes += [said, within(error.hint, JobOptions(timeout=limit), session.settings.policy)]
    if job.phase_word == COMPLETED and not notes:
        notes += _jobs.ended(session, ref.job_id, well=bool(done and done[-1].exit_code == 0))
    veil = Veil(_jobs.secrets_of(session, job))
    return Report(f"job {ref.short_id}", veil.facts(facts), veil.facts(tuple(notes)))


def logs(session: Session, words: list[str]) -> Text:
    """The log of a job until now, both streams, without the packets that carry its result."""
    ref = _job(session, words, "logs")
    if text := "".join(text for _, text in _jobs.log(session, ref)):
        return Text(text)
    over = session.client(ref.endpoint).job(ref.job_id, ref.namespace).phase_word in TERMINAL
    return Text("(nothing was printed)" if over else "(nothing was printed yet)")


def wait(session: Session, words: list[str]) -> _waits.Wait:
    """Wait for a job and bind its names; `--all` waits for all that were sent in the background."""
    if words == ["--all"]:
        return _waits.ForAll(session)
    return _waits.ForOne(session, _jobs.follow(session, _one(words, "wait")))


def stop(session: Session, words: list[str]) -> Text:
    """Stop a job on its node."""
    ref = _job(session, words, "stop")
    mine = session.jobs.get(ref.job_id)
    client = session.client(ref.endpoint)
    if client.job(ref.job_id, ref.namespace).phase_word in TERMINAL:
        return Text(f"The job {ref.short_id} is over already.")
    if mine is not None:
        mine.cancel()
    client.stop(ref.job_id, "stopped from the notebook", ref.namespace)
    return Text(f"The job {ref.short_id} is stopped.")


def rerun(session: Session, words: list[str]) -> RemoteJob:
    """Send a job's spec again, as a new job in the background."""
    return _jobs.resubmit(session, _job(session, words, "rerun"))


def get(session: Session, words: list[str]) -> Any:
    """A finished job's value or names, without binding them; `get JOB DIR [--overwrite]` fetches its files into DIR."""
    rest = [word for word in words if word != "--overwrite"]
    if len(rest) == 2:
        place = session.here / Path(rest[1]).expanduser()
        return _jobs.files(session, _jobs.find(session, rest[0]), place, overwrite=rest != words)
    return _jobs.follow(session, _one(words, "get")).result()


def attach(session: Session, words: list[str]) -> _waits.Wait:
    """Watch a job that was sent before and bind its names, or those of `-o`; nothing is sent again."""
    names: tuple[str, ...] | None = None
    rest = list(words)
    for flag in ("-o", "--output", "--outputs"):
        if flag in rest:
            place = rest.index(flag)
            names = _argspec.parse(shlex.join(rest[place : place + 2])).outputs
            del rest[place : place + 2]
    job = _jobs.follow(session, _one(rest or ["last"], "attach"), outputs=names)
    return _waits.ForOne(session, job, force=names is not None)


def spec(session: Session, words: list[str]) -> Text:
    """The spec of a job as its server has it, as YAML, the archives shortened."""
    ref = _job(session, words, "spec")
    job = session.client(ref.endpoint).job(ref.job_id, ref.namespace, inputs=True)
    return Text(packing.yaml(packing.shown(job)))


# Configuration and help


def config(session: Session, words: list[str]) -> Any:
    """Show the settings, or those named (`--show-origin`: and where each came from), set `key=value` for this session, or `--save` it."""
    words, where = _saved(words)
    flags = {word for word in words if word.startswith("--")}
    said = [word for word in words if not word.startswith("--")]
    named = bool(said) and not where and not any("=" in word for word in said)
    values = {} if named else dict(map(_assignment, said))
    unknown = flags - {"--show-origin"}
    if unknown:
        raise OptionError(f"%bacalhau config knows no {min(unknown)}.", hint="It knows --show-origin and --save project|user.")
    if values:
        return _configured(session, values, where)
    wanted = {plain_name(name) for name in overrides(dict.fromkeys(said)).values}
    rows = [row for row in session.settings.show() if not named or row[0] in wanted]
    if "--show-origin" in flags:
        return Table(("setting", "value", "origin"), tuple(rows), notes=session.settings.warnings)
    return Table(("setting", "value"), tuple((name, value) for name, value, _ in rows), notes=session.settings.warnings)


def _configured(session: Session, values: dict[str, str], where: Literal["project", "user", ""]) -> Text:
    secret = next((name for name in values if name.replace("-", "_").lower() in ("api_key", "api_password")), None)
    if secret:
        raise OptionError(
            f"{secret} is not set on a line: it would stay in the notebook.",
            option=secret,
            hint=f"Set the environment variable BACALHAU_{secret.replace('-', '_').upper()} before the kernel starts.",
        )
    session.configure(values)
    if where:
        session.save(values, where)
    now = {name: value for name, value, _ in session.settings.show()}
    saved = f" (saved for the {where})" if where else ""
    lines = [
        f"{name} = {now[name.replace('-', '_').lower()]}" + (saved if value else " (no longer set here)") for name, value in values.items()
    ]
    return Text("\n".join([*lines, *_what_the_policy_says(session)]))


def _what_the_policy_says(session: Session) -> Sequence[str]:
    """What becomes of configured values under the policy; of what is built in it says nothing."""
    try:
        return session.settings.apply(JobOptions())[1]
    except OptionError as problem:
        return [problem.message]


def _saved(words: list[str]) -> tuple[list[str], Literal["project", "user", ""]]:
    if "--save" not in words:
        return words, ""
    place = words.index("--save")
    rest = words[:place] + words[place + 2 :]
    match words[place + 1 : place + 2]:
        case ["project"]:
            return rest, "project"
        case ["user"]:
            return rest, "user"
    raise OptionError("--save needs project or user.", option="--save", hint="For example %bacalhau config timeout=10m --save user.")


def _assignment(word: str) -> tuple[str, str]:
    name, sep, value = word.partition("=")
    if not sep or not name:
        raise OptionError(f"%bacalhau config takes key=value, not {word!r}.", hint="For example %bacalhau config timeout=10m.")
    return name, value


def help_(session: Session | None, words: list[str]) -> Text:
    """The verbs and the cell's options; `help TOPIC` one group, option or setting."""
    del session
    if words and words[0] in _VERBS:
        return Text(f"%bacalhau {words[0]}: {_VERBS[words[0]].__doc__}")
    if words and (setting := words[0].replace("-", "_").lower()) in SETTINGS:
        return Text(f"{setting}, a setting: {SETTINGS[setting].meaning}")
    if words:
        try:
            return Text(_argspec.help_text(words[0]))
        except OptionError:
            options = [name.replace("_", "-") for name in map(plain_name, JobOptions.model_fields)]
            hint = suggestion(words[0], [*options, *GROUPS, *_VERBS, *SETTINGS], written="%bacalhau help {}")
            listed = f"There is help on each option and setting, on {', '.join(GROUPS)}; and on {', '.join(_VERBS)}."
            raise OptionError(f"There is no help on {words[0]!r}.", option="help", hint=hint or listed) from None
    verbs = "\n".join(f"  {name:<8} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in _VERBS.items())
    return Text(f"%bacalhau [verb]\n  (none)   {(status.__doc__ or '').splitlines()[0]}\n{verbs}\n\n{_argspec.help_text()}")


_VERBS: Mapping[str, Verb] = {
    "jobs": jobs,
    "nodes": nodes,
    "show": show,
    "logs": logs,
    "wait": wait,
    "stop": stop,
    "rerun": rerun,
    "get": get,
    "spec": spec,
    "attach": attach,
    "config": config,
    "use": _connections.use,
    "login": _connections.login,
    "doctor": _doctor.doctor,
    "record": _replays.record,
    "replay": _replays.replay,
    "live": _replays.live,
    "cache": _replays.cache,
    "policy": _policies.policy,
    "help": help_,
}


# Words and numbers


def _none(words: list[str], verb: str) -> None:
    if words:
        raise OptionError(f"%bacalhau {verb} takes nothing more, not {words[0]!r}.", option=verb)


def _one(words: list[str], verb: str) -> str:
    if len(words) > 1:
        raise OptionError(f"%bacalhau {verb} takes one job, not {' '.join(words)!r}.", option=verb)
    return words[0] if words else "last"


def _job(session: Session, words: list[str], verb: str) -> JobRef:
    return _jobs.find(session, _one(words, verb))


def _flags(words: list[str], verb: str, known: set[str]) -> set[str]:
    for word in words:
        if word not in known:
            raise OptionError(f"%bacalhau {verb} knows no {word!r}.", option=verb, hint=f"It knows {', '.join(sorted(known))}.")
    return set(words)


def _ago(created: float) -> str:
    return f"{seconds(max(0.0, time.time() - created))} ago" if created else ""


def _bytes(count: int | str) -> str:
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
