"""The right value or the right error of a job that is over: the only place that makes a JobError.

Everything that came back is hostile until checked: by `_packets` and `_bundles` here, by `remote.codec` and as JSON in
`_reading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from . import _traces
from ._bundles import Bundle, bundle_limit, open_bundle
from ._causes import Cause, causes, main
from ._languages import Language
from ._marks import META_NONCE
from ._packets import PacketError
from ._reading import of_python, of_stdout, place_kept
from ._secrets import Veil
from ._stages import Ended, JobRecord, JobRef, JobResult, Route, seconds
from ._wire import COMPLETED, STOPPED, Execution, ExecutionState
from .errors import (
    BacalhauMagicError,
    CorruptResultError,
    JobError,
    JobFailedError,
    JobStoppedError,
    JobTimedOutError,
    JobUnplaceableError,
    MissingResultError,
    ResultError,
    remote_cell_error,
)
from .options import JobOptions
from .remote import codec

_TAIL_LINES, _TAIL = 20, 2000


@_traces.traced("bacalhau.collect")
def collect(
    ref: JobRef, ended: Ended, *, language: Language, options: JobOptions, route: Route | None = None, veil: Veil | None = None
) -> JobResult:
    """What the job brought back; raises nothing: what went wrong is in `error`. `veil` takes the job's secrets out."""
    result = JobResult(ref, ended.record, stdout=ended.stdout, stderr=ended.stderr, stdout_bytes=ended.stdout.encode("utf-8", "replace"))
    try:
        return _collect(result, ended, language, options, route, veil or Veil({}))
    except Exception as error:  # noqa: BLE001 - a result must never be lost to a defect of ours or a trick of the job's
        problem = CorruptResultError(f"The result can't be read ({type(error).__name__}: {error}).", job_id=ref.job_id)
        problem.__cause__ = error
        return replace(result, outcome="result", error=problem)


def _collect(result: JobResult, ended: Ended, language: Language, options: JobOptions, route: Route | None, veil: Veil) -> JobResult:
    bundle, problem = None, ended.problem
    if ended.blob is not None:
        try:
            bundle = veil.bundle(open_bundle(ended.blob, bundle_limit(options.max_result)))
        except PacketError as damage:
            problem = str(damage)
    if bundle is None:
        return _without_bundle(result, ended, problem, language, options, route)
    result = replace(
        result,
        stdout=bundle.stdout.decode("utf-8", "replace"),
        stdout_bytes=bytes(bundle.stdout),
        stderr=bundle.stderr.decode("utf-8", "replace"),
        mime=bundle.mime or None,
        displays=tuple(bundle.displays),
        unsendable=dict(bundle.unsendable),
        notices=tuple(map(_cut, bundle.truncated)),
    )
    if bundle.unsendable.get("", "").endswith(codec.ABOVE):
        said, how = place_kept(bundle, "", options, result.ref)
        lost = f"No value came back, only its text: {_sentence(bundle.unsendable[''])}"
        result = replace(result, notices=(*result.notices, " ".join(part for part in (lost + said, how) if part)))
    elif bundle.unsendable.get("", "").endswith(codec.STAYS):
        result = replace(result, notices=(*result.notices, f"No value came back, only its text: {bundle.unsendable['']}."))
    error: BacalhauMagicError | None = _of_outcome(result, bundle, options)
    if ended.record.state != COMPLETED and (cause := _cause(ended.record, route)):
        if cause.kind in ("memory", "disk") and bundle.outcome == "exit":
            # The wrapper outlived its cell, and knows no more than that it was killed.
            error = _of_state(result, ended.record, options, route, "cell")
        else:
            result = replace(result, notices=(*result.notices, f"The cell had ended before: {cause.sentence}"))
    # What was written and sent before the cell failed is kept, whatever the error is.
    read = of_python(bundle, result, options) if language.is_python else of_stdout(result, language, options, "stdout" in bundle.truncated)
    if error is not None:
        kept = read.outputs if language.is_python else {}
        return replace(result, outcome=_outcome(error), error=error, outputs=kept)
    if read.error is not None:
        return replace(result, outcome="result", error=read.error, outputs=read.outputs)
    return replace(result, value=read.value, has_value=read.has_value, outputs=read.outputs, is_whole=True)


def _cut(name: str) -> str:
    if name == "displays":
        return "Some displays are left out: there are more than 1,000, or they are larger than --max-result together."
    return f"{name} is cut at --max-result; the job's log has all of it."


def _sentence(reason: str) -> str:
    return f"{reason.rstrip('.')}. Ask for more with --max-result."


# How the job ended


def _of_outcome(result: JobResult, bundle: Bundle, options: JobOptions) -> JobError | None:
    job_id, error = result.ref.job_id, bundle.error
    if bundle.outcome == "timeout":
        return over_time(job_id, options.run_seconds)
    if bundle.outcome == "error":
        facts = error or {}
        return remote_cell_error(
            job_id=job_id,
            ename=facts.get("ename") or "Error",
            evalue=facts.get("evalue") or "",
            mro=facts.get("mro") or (),
            exceptions=facts.get("exceptions") or (),
            traceback_text=facts.get("traceback") or f"{facts.get('ename') or 'Error'}: {facts.get('evalue') or ''}",
        )
    code = bundle.exit_code or 0
    if bundle.outcome == "exit" and error and error["ename"] == "InstallError":
        return JobFailedError(
            _first_line(error["evalue"]),
            job_id=job_id,
            exit_code=code,
            hint=f"The job's log has what the installer said. {_install_advice(error['evalue'])}",
        )
    if bundle.outcome == "exit" and (code or error):
        return _exit(result, code, error.get("evalue", "") if error else "", bundle.line)
    return None


def over_time(job_id: str, limit: float) -> JobTimedOutError:
    """The error of a cell that its own time limit ended."""
    return JobTimedOutError(
        f"The cell ran longer than its time limit of {seconds(limit)}.",
        job_id=job_id,
        phase="cell",
        limit=limit,
        hint="Give it more time with --timeout, or --long for hours.",
    )


def _install_advice(said: str) -> str:
    if said.split("\n", 1)[0].rstrip().endswith("the index did not answer."):
        return "Try again when this machine, or the node, reaches its package index; an --image that has the package needs none."
    return "Correct the name or the version, or choose an --image that has the package."


def _first_line(text: str) -> str:
    return (text.strip().split("\n") or [""])[0][:500]


def _exit(result: JobResult, code: int, said: str = "", line: int | None = None) -> JobFailedError:
    tail = _tail(result.stderr)
    last = said or (tail.rsplit("\n", 1)[-1].strip() if tail else "")
    hints = {
        126: "A command could not be executed: look at its permissions.",
        127: "A command is not in the image: choose another with --image.",
        137: "It was killed; where memory was short: --memory.",
    }
    what = f"The cell ended with exit code {code}" + (f" in line {line}" if line else "")
    return JobFailedError(
        f"{what}: {last}" if last else f"{what}.",
        job_id=result.ref.job_id,
        exit_code=code,
        stderr_tail=tail,
        line=line,
        hint=hints.get(code, ""),
    )


def _tail(text: str) -> str:
    return "\n".join(text.rstrip("\n").split("\n")[-_TAIL_LINES:])[-_TAIL:].strip("\n")


def _cause(record: JobRecord, route: Route | None) -> Cause | None:
    return record.cause or cause_of(record, route)


def cause_of(record: JobRecord, route: Route | None) -> Cause | None:
    """Why a job failed, by what its server and the route's nodes say."""
    nodes = route.target.nodes if route else ()
    return main(causes(record.history, record.executions, record.job, nodes))


def _without_bundle(
    result: JobResult, ended: Ended, problem: str, language: Language, options: JobOptions, route: Route | None
) -> JobResult:
    record, job_id = ended.record, result.ref.job_id
    if record.state != COMPLETED:
        phase = "installing" if ended.installing else "cell" if problem or ended.stdout or ended.stderr else "starting"
        error: BacalhauMagicError = _of_state(result, record, options, route, phase)
        return replace(result, outcome=_outcome(error), error=error)
    code = _exit_code(record.executions)
    if code:
        error = _exit(result, code)
        return replace(result, outcome=_outcome(error), error=error)
    wrapped = bool(record.job.task.meta.get(META_NONCE))
    if ended.silent:
        error = MissingResultError(
            "The job completed, and its node has not served its log yet: a node serves one log at a time.",
            job_id=job_id,
            hint=f"The log is kept for an hour, before version 1.8 only 2,048 bytes of it: %bacalhau get {result.ref.word} asks for the result again.",
        )
    elif ended.cut and not problem:
        error = MissingResultError(
            "The job completed, and its log can't be read to its end any more, so the result is lost.",
            job_id=job_id,
            hint="Nodes keep a finished log for an hour, before version 1.8 only 2,048 bytes of it: run the cell again and "
            "stay connected until its end, or use a node with a publisher.",
        )
    elif problem:
        error = CorruptResultError(problem, job_id=job_id, hint="Run the cell again; a large result is safer through --files.")
    elif wrapped and language.wrapper != "sh":
        error = MissingResultError(
            "The job completed, but no result came back in its log.",
            job_id=job_id,
            hint="The server may have dropped the job's log; run the cell again.",
        )
    elif wrapped and ended.unproven:
        error = MissingResultError(
            "The job completed, but its log lacks the mark where its text ends, so the end may be missing.",
            job_id=job_id,
            hint="Run the cell again, with --publisher local where it happens again: that keeps the whole log. The log was cut off, or "
            "the image lacks what the wrapper needs (base64, sha256sum, mkfifo), which another --image has. "
            f"%bacalhau get {result.ref.word} reads the log once more.",
        )
    elif options.as_ == "bytes":
        error = ResultError(
            "The exact bytes of stdout did not come back: the image lacks what the wrapper needs (base64, sha256sum, mkfifo).",
            job_id=job_id,
            hint="Choose another image, or --as text.",
        )
    else:
        doubt = ", which may lack its last line" if ended.unproven else ""
        result = replace(result, verified=False, notices=(f"The result was not verified: it comes from the job's log alone{doubt}.",))
        read = of_stdout(result, language, options, truncated=len(ended.stdout) >= options.max_result)
        if read.error is None:
            return replace(result, value=read.value, has_value=read.has_value, outputs=read.outputs, is_whole=True)
        error = read.error
    return replace(result, outcome="result", error=error)


def _exit_code(executions: Sequence[Execution]) -> int:
    codes = [item.run_output.exit_code for item in executions if item.run_output and item.compute == ExecutionState.COMPLETED]
    return codes[-1] if codes else 0


def _of_state(result: JobResult, record: JobRecord, options: JobOptions, route: Route | None, reached: str) -> JobError:
    """The error of a job that failed or was stopped, by the cause that counts; `reached` is the phase it had come to."""
    job_id = result.ref.job_id
    cause = _cause(record, route)
    said = record.job.state.message if record.job.state else ""
    if not record.state:
        return JobFailedError(
            f"The server does not know the job {result.ref.short_id} any more.",
            job_id=job_id,
            causes=(said,) if said else (),
            hint="Its record may have been removed; run the cell again.",
        )
    if cause is None:
        if record.state == STOPPED:
            return JobStoppedError("The job was stopped.", job_id=job_id)
        return JobFailedError(f"The job failed{': ' + said if said else '.'}", job_id=job_id, stderr_tail=_tail(result.stderr))
    match cause.kind:
        case "stopped":
            return JobStoppedError(cause.sentence, job_id=job_id, reason=cause.reason, hint=cause.advice)
        case "unplaceable" | "busy" | "refused":
            hint = "Wait longer with --queue-timeout, or try again later." if cause.kind == "busy" else cause.advice
            lines = "".join(f"\n• {line}" for line in cause.lines)
            return JobUnplaceableError(cause.sentence + lines, job_id=job_id, reasons=cause.lines, hint=hint)
        case "timeout" | "execution-timeout":
            phase = reached if record.executions else "queue"
            hints = {
                "queue": "Wait longer with --queue-timeout.",
                "cell": "Give it more time with --timeout, or --long for hours.",
                "installing": "Installing the packages took too long: ask for fewer, or choose an --image that has them, or set pull_timeout higher.",
                "starting": "Pulling the image or waiting on the node took too long; try again, or choose a smaller image.",
            }
            limit = {"queue": options.queue_seconds, "cell": options.run_seconds}.get(phase)
            return JobTimedOutError(cause.sentence, job_id=job_id, phase=phase, limit=limit, hint=hints[phase])
    return JobFailedError(
        cause.sentence,
        job_id=job_id,
        stderr_tail=_tail(result.stderr),
        causes=cause.lines or (cause.sentence,),
        hint=cause.advice,
    )


def _outcome(error: BaseException) -> str:
    for kind, word in (
        (JobStoppedError, "stopped"),
        (JobTimedOutError, "timeout"),
        (JobUnplaceableError, "unplaceable"),
        (ResultError, "result"),
    ):
        if isinstance(error, kind):
            return word
    return "failed"
