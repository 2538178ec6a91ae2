"""The right value or the right error, whatever came back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from scripted import JOB, recording, scenarios

from bacalhau_magic import _marks
from bacalhau_magic._causes import causes, main
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._results import collect
from bacalhau_magic._stages import Ended, Endpoint, JobRecord, JobRef, JobResult
from bacalhau_magic._wire import Execution, HistoryItem, Job, State, Task
from bacalhau_magic.errors import (
    BacalhauMagicError,
    CorruptResultError,
    JobFailedError,
    JobStoppedError,
    JobTimedOutError,
    JobUnplaceableError,
    MissingResultError,
    RemoteCellError,
    ResultError,
)
from bacalhau_magic.options import JobOptions
from bacalhau_magic.remote import codec
from bacalhau_magic.remote.packets import pack_bundle

REF = JobRef(JOB, Endpoint("http://cluster:1234"))


def record(
    state: str = "Completed", message: str = "", *, code: int = 0, wrapped: bool = True, history: tuple[HistoryItem, ...] = ()
) -> JobRecord:
    meta = {_marks.META_NONCE: "ab" * 8} if wrapped else {}
    job = Job(id=JOB, state=State(state_type=state, message=message), tasks=[Task(meta=meta)])
    execution = Execution.model_validate({"ID": "e-1", "NodeID": "n-1", "ComputeState": {"StateType": 9}, "RunOutput": {"ExitCode": code}})
    return JobRecord(job, (execution,) if state == "Completed" else (), history)


def result(
    header: dict[str, Any] | None = None,
    parts: list[tuple[str, str, bytes]] | None = None,
    *,
    stdout: bytes = b"",
    of: JobRecord | None = None,
    **options: Any,
) -> JobResult:
    """What is collected of a bundle with this header and these parts."""
    chosen = JobOptions(**options)
    whole = {"outcome": "ok", "exit_code": 0, **(header or {})}
    blob = pack_bundle(whole, [("stdout", "", stdout), ("stderr", "", b"warn\n"), *(parts or [])])
    return collect(REF, Ended(of or record(), blob), language=BUILT_IN[chosen.lang], options=chosen)


def bare(ended: Ended, **options: Any) -> JobResult:
    """What is collected where no bundle came back."""
    chosen = JobOptions(**options)
    return collect(REF, ended, language=BUILT_IN[chosen.lang], options=chosen)


def coded(name: str, value: object) -> tuple[str, str, bytes]:
    return name, "", codec.dumps(value)


# Python


def test_value_of_the_last_expression() -> None:
    """The value comes back as itself, beside what was printed."""
    got = result(parts=[coded("value", {1: (2, b"x")})], stdout=b"hi \xff\n")
    assert (got.value, got.has_value, got.error) == ({1: (2, b"x")}, True, None)
    assert (got.stdout, got.stdout_bytes, got.stderr, got.outcome, got.verified) == (
        "hi \ufffd\n",
        b"hi \xff\n",
        "warn\n",
        "completed",
        True,
    )


def test_wanted_names() -> None:
    """With -o the names come back, and the cell has no value."""
    got = result(parts=[coded("output:a", 1), coded("output:b", math.inf), coded("value", 5)], outputs=["a", "b"])
    assert (dict(got.outputs), got.has_value, got.error) == ({"a": 1, "b": math.inf}, False, None)


def test_names_that_are_missing_or_cant_be_sent() -> None:
    """One error names them all; those that came back are kept beside it."""
    got = result({"unsendable": {"b": "it is of type function"}, "missing": ["c"]}, [coded("output:a", 1)], outputs=["a", "b", "c"])
    assert isinstance(got.error, ResultError)
    assert (got.error.name, got.outcome, dict(got.outputs)) == ("b", "result", {"a": 1})
    assert "'c'" in got.error.message
    missing = result({"missing": ["c"]}, outputs=["c"]).error
    assert isinstance(missing, MissingResultError)
    assert missing.name == "c"


@pytest.mark.parametrize("words", ["larger than", "it holds the secret", codec.ABOVE, codec.STAYS])
def test_a_library_s_words_are_no_reason_of_ours(words: str) -> None:
    """What a library says of a value that it can't read leads to no advice of a larger result, and to no word of a secret."""
    why = f"it is of type Image, which can't be read (ValueError: {words})"
    named = result({"unsendable": {"b": why}}, outputs=["b"]).error
    assert named is not None
    assert words in named.message
    assert "--max-result" not in named.hint
    assert result({"unsendable": {"": why}}).notices == ()


def test_a_value_above_the_bound_is_advised_of_it() -> None:
    """What was too large, by the words in which the job says so, is advised to be asked for with a larger bound."""
    with pytest.raises(codec.TooLarge) as caught:
        codec.dumps("x" * 100, "b", 10)
    named = result({"unsendable": {"b": str(caught.value)}}, outputs=["b"]).error
    assert named is not None
    assert "--max-result" in named.hint


def test_damaged_value() -> None:
    """Bytes that are no value are a CorruptResultError, never an exception from the decoder."""
    got = result(parts=[("value", "", b"BMC1l\xff\xff")])
    assert isinstance(got.error, CorruptResultError)
    assert got.error.job_id == JOB


def test_value_that_cant_be_sent_is_no_error() -> None:
    """A last expression that can't travel is shown, and the cell is well."""
    got = result({"unsendable": {"": "it is a generator"}}, [("mime", "", b'{"text/plain": "<generator>"}')])
    assert (got.error, got.has_value, got.mime) == (None, False, {"text/plain": "<generator>"})


@pytest.mark.parametrize("ename", ["ValueError", "KeyError", "OSError", "ZeroDivisionError", "ImportError"])
def test_remote_exception_is_the_built_in_class_too(ename: str) -> None:
    """`except ValueError` catches what was a ValueError there; the traceback is the remote one."""
    error = {"ename": ename, "evalue": "no", "traceback": f'File "cell", line 2\n{ename}: no\n'}
    got = result({"outcome": "error", "exit_code": 1, "error": error})
    assert isinstance(got.error, RemoteCellError)
    assert isinstance(got.error, getattr(__import__("builtins"), ename))
    assert (got.error.ename, got.error.evalue, got.error.job_id) == (ename, "no", JOB)
    assert got.error._render_traceback_() == ['File "cell", line 2', f"{ename}: no"]
    assert got.outcome == "failed"


@pytest.mark.parametrize(
    "ename", ["SystemExit", "KeyboardInterrupt", "UnicodeDecodeError", "ExceptionGroup", "Custom", "Exception", "print", "__import__", ""]
)
def test_classes_that_are_not_taken_over(ename: str) -> None:
    """What takes other arguments, is no Exception or no class at all is a plain RemoteCellError."""
    got = result({"outcome": "error", "error": {"ename": ename, "evalue": "x"}}).error
    assert type(got) is RemoteCellError


def test_names_that_came_before_the_exception_are_kept() -> None:
    """A failed cell's printed text and sent names are kept beside the error."""
    got = result(
        {"outcome": "error", "error": {"ename": "ValueError", "evalue": "x"}}, [coded("output:a", 1)], stdout=b"before\n", outputs=["a"]
    )
    assert (dict(got.outputs), got.stdout) == ({"a": 1}, "before\n")


def test_time_limit() -> None:
    """The wrapper's time limit is a JobTimedOutError of the cell's own time, with what was printed."""
    got = result({"outcome": "timeout", "exit_code": 124}, stdout=b"so far\n", timeout="90s")
    assert isinstance(got.error, JobTimedOutError)
    assert (got.error.phase, got.error.limit, got.stdout, got.outcome) == ("cell", 90.0, "so far\n", "timeout")
    assert "1 min 30 s" in got.error.message
    assert "--timeout" in got.error.hint


@pytest.mark.parametrize(("code", "hint"), [(3, ""), (127, "--image"), (137, "--memory")])
def test_exit_codes(code: int, hint: str) -> None:
    """A non-zero exit is a JobFailedError with the code, the last words on stderr, and advice where there is some."""
    got = result({"outcome": "exit", "exit_code": code})
    assert isinstance(got.error, JobFailedError)
    assert (got.error.exit_code, got.error.stderr_tail) == (code, "warn")
    assert hint in got.error.hint


def test_exit_with_zero_is_well() -> None:
    """sys.exit(0) is no error."""
    assert result({"outcome": "exit", "exit_code": 0}).error is None


def test_result_survives_a_failure_afterwards() -> None:
    """A cell that had ended well before its job was stopped keeps its value, and the card says what happened."""
    got = result(parts=[coded("value", 1)], of=record("Stopped", "enough"))
    assert (got.value, got.error) == (1, None)
    assert "enough" in got.notices[-1]


@pytest.mark.parametrize(
    ("blob", "kind"),
    [(b"", CorruptResultError), (b"junk", CorruptResultError), (pack_bundle({"outcome": "great"}, []), CorruptResultError)],
)
def test_hostile_blobs(blob: bytes, kind: type[BacalhauMagicError]) -> None:
    """A bundle that can't be trusted is an error, never a value."""
    assert isinstance(bare(Ended(record(), blob)).error, kind)


def test_completed_without_a_result() -> None:
    """A wrapped job that completed and left no result is an error that says what to do."""
    got = bare(Ended(record(), stdout="text"))
    assert isinstance(got.error, MissingResultError)
    assert got.error.hint
    assert got.stdout == "text"


@pytest.mark.parametrize("problem", ["", "The result is incomplete: 1 of 6 packets are missing."])
def test_log_that_has_not_been_served(problem: str) -> None:
    """A result whose log the node has not served yet is not called lost: the error says how to ask again."""
    got = bare(Ended(record(), None, problem, cut=True, silent=True))
    assert isinstance(got.error, MissingResultError)
    assert "has not served its log yet" in got.error.message
    assert f"%bacalhau get {REF.short_id} " in got.error.hint


def test_incomplete_result() -> None:
    """Packets that are incomplete are an error, never a shorter value."""
    got = bare(Ended(record(), None, "The result is incomplete: 1 of 6 packets are missing."))
    assert isinstance(got.error, CorruptResultError)
    assert "1 of 6" in got.error.message


# Other languages


@pytest.mark.parametrize(
    ("lang", "stdout", "value"),
    [
        ("javascript", b'{"a": [1, null]}\n', {"a": [1, None]}),
        ("javascript", b"3.10\n", 3.1),
        ("bash", b"3.10\n", None),
        ("bash", b"[1, 2]\n", [1, 2]),
        ("javascript", b"hello\n", None),
        ("javascript", b"NaN\n", None),
        ("javascript", b"", None),
    ],
)
def test_auto(lang: str, stdout: bytes, value: object) -> None:
    """Stdout that parses as JSON is the value; for Bash only an object or an array."""
    got = result(stdout=stdout, lang=lang)
    assert (got.value, got.has_value, got.error) == (value, value is not None, None)


@pytest.mark.parametrize(
    ("kind", "stdout", "value"),
    [
        ("json", b" 3.10\n", 3.1),
        ("jsonl", b'{"a":1}\n\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ("text", b"abc\n", None),
        ("bytes", b"\xff\x00", b"\xff\x00"),
    ],
)
def test_as(kind: str, stdout: bytes, value: object) -> None:
    """--as says how stdout is read; bytes are the exact ones."""
    got = result(stdout=stdout, lang="bash", as_=kind)
    assert (got.value, got.error) == (value, None)


@pytest.mark.parametrize(
    "stdout", [b"a,b\n1,x\n2,y\n", b'{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n', b'[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]']
)
def test_frames(stdout: bytes) -> None:
    """--as frame reads CSV and JSON lines into a frame."""
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(
        result(stdout=stdout, lang="bash", as_="frame").value, pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    )


@pytest.mark.parametrize(
    ("kind", "stdout"), [("json", b"{"), ("json", b"NaN"), ("jsonl", b"{}\nx\n"), ("json", b"[" * 100_000), ("frame", b"[1")]
)
def test_not_as_asked(kind: str, stdout: bytes) -> None:
    """Stdout that is not of the kind that was asked for is an error that says why."""
    got = result(stdout=stdout, lang="bash", as_=kind)
    assert isinstance(got.error, CorruptResultError)
    assert got.value is None


@pytest.mark.parametrize(
    ("kind", "stdout", "said", "hint"),
    [
        ("json", b"Loading\n{}", "line 1, column 1: expecting value, at 'Loading'.", "--as text"),
        ("json", b'{"a": 1}\n{"a": 2}\n', "line 2, column 1: extra data, at '{\"a\": 2}'.", "--as jsonl"),
        ("json", b"[1,", "line 1, column 4: expecting value, at its end.", "stderr"),
        ("jsonl", b"{}\n\n{,}\n", "line 3, column 2: ", "--as text"),
        ("frame", b'{"a": 1}\nx\n', "line 2, column 1: expecting value, at 'x'.", "--as text"),
    ],
)
def test_bad_json_is_told_by_its_place(kind: str, stdout: bytes, said: str, hint: str) -> None:
    """What is not as it was asked for is told by line and column, with what stands there and what to do."""
    error = result(b"", lang="bash", as_=kind, stdout=stdout).error
    assert isinstance(error, CorruptResultError)
    assert said in error.message
    assert hint in error.hint


def test_names_of_other_languages() -> None:
    """One name takes the whole, several take an object with exactly these keys."""
    assert dict(result(stdout=b"text\n", lang="bash", outputs=["t"]).outputs) == {"t": "text\n"}
    assert dict(result(stdout=b'{"a":1,"b":2}', lang="bash", outputs=["a", "b"]).outputs) == {"a": 1, "b": 2}
    for stdout in (b'{"a":1}', b'{"a":1,"b":2,"c":3}', b"[1,2]", b"text"):
        got = result(stdout=stdout, lang="bash", outputs=["a", "b"])
        assert isinstance(got.error, MissingResultError)
        assert dict(got.outputs) == {}


def test_cut_stdout_is_no_value() -> None:
    """Stdout above --max-result is never read as a value; as plain text it is shown, and said to be cut."""
    for asked in ({"as_": "json"}, {"outputs": ["a"]}, {"as_": "bytes"}):
        got = result({"truncated": ["stdout"]}, stdout=b"[1, 2", lang="bash", **asked)
        assert isinstance(got.error, CorruptResultError)
        assert "--max-result" in got.error.hint
    plain = result({"truncated": ["stdout"]}, stdout=b"[1, 2", lang="bash")
    assert (plain.value, plain.error) == (None, None)
    assert "stdout is cut" in plain.notices[0]


def test_image_without_the_wrappers_tools() -> None:
    """Where the wrapper could not run, text is not verified, and bytes are refused."""
    ended = Ended(record(), stdout='{"a": 1}')
    got = bare(ended, lang="bash")
    assert (got.value, got.verified) == ({"a": 1}, False)
    assert "not verified" in got.notices[0]
    assert isinstance(bare(ended, lang="bash", as_="bytes").error, ResultError)
    failed = bare(Ended(record(code=4), stderr="no\n"), lang="bash").error
    assert isinstance(failed, JobFailedError)
    assert (failed.exit_code, failed.stderr_tail) == (4, "no")


def test_log_text_above_the_limit_is_no_value() -> None:
    """Text that comes from the log alone is bounded by --max-result, and what is cut there is never read as a value."""
    for asked in ({"as_": "json"}, {"outputs": ["a"]}):
        got = bare(Ended(record(), stdout="[" + "1," * 600), lang="bash", max_result="1KB", **asked)
        assert isinstance(got.error, CorruptResultError)
        assert "--max-result" in got.error.hint


# Jobs that did not complete


EXPECTED: dict[str, tuple[type[BaseException], str]] = {
    "command-not-found": (JobFailedError, "'nosuchcmd' is not in the image"),
    "image-cannot-be-pulled": (JobFailedError, "can't be pulled"),
    "out-of-memory": (JobFailedError, "limit of 100 MB"),
    "no-gpu": (JobUnplaceableError, "asks for 1 GPU"),
    "timeout": (JobTimedOutError, "6 s"),
    "stop": (JobStoppedError, "stopped"),
    "inline-directory-without-entries": (JobFailedError, "unpacked"),
    "very-busy-node": (JobUnplaceableError, "now"),
    "count-3-on-one-node": (JobUnplaceableError, "No node"),
    "unknown-engine": (JobUnplaceableError, "No node can take"),
}


@pytest.mark.parametrize(("version", "name"), scenarios())
def test_recorded_ends(version: str, name: str) -> None:
    """Every recorded job of three versions ends in the error that its cause deserves, also when it was stopped for it."""
    data = recording(name, version)
    job = Job.model_validate(data["job"]["Job"])
    executions = tuple(Execution.model_validate(item) for item in data["executions"]["Items"])
    history = tuple(HistoryItem.model_validate(item) for item in data["history"]["Items"])
    kind, said = EXPECTED.get(name.replace("-no-queue-timeout", ""), (None, ""))
    if kind is None:
        assert job.phase_word == "Completed"
        return
    got = bare(Ended(JobRecord(job, executions, history))).error
    assert type(got) is kind
    assert said in str(got)
    assert got.job_id == JOB  # type: ignore[attr-defined]
    if kind is not JobStoppedError:
        assert got.hint  # type: ignore[attr-defined]
        stopped = job.model_copy(update={"state": State(state_type="Stopped", message="")})
        ours = HistoryItem.model_validate(
            {
                "Type": "JobLevel",
                "Event": {"Message": "Job requested to stop before completion", "Details": {"Reason": "bacalhau-magic: memory"}},
            }
        )
        if kind is JobFailedError:
            assert str(bare(Ended(JobRecord(stopped, executions, (*history, ours)))).error) == str(got)


def test_an_image_s_hint_is_the_server_s_own() -> None:
    """Where an image can't be pulled, what the server advises stands in the cause and in the error."""
    data = json.loads(json.dumps(recording("image-cannot-be-pulled")["history"]["Items"]))
    said = "Log in to the registry on the node, then run: docker pull nope/nope:1."
    for item in data:
        if "Hint" in item["Event"].get("Details", {}):
            item["Event"]["Details"] |= {"Hint": said, "ErrorCode": "Docker:ImageNotFound"}
    history = tuple(HistoryItem.model_validate(item) for item in data)
    job = Job(id=JOB, state=State(state_type="Failed"), tasks=[Task()])
    cause = main(causes(history, (), job))
    assert cause is not None
    assert (cause.kind, cause.advice) == ("image", said)
    got = bare(Ended(JobRecord(job, (), history))).error
    assert isinstance(got, JobFailedError)
    assert got.hint == said
    assert said in str(got)


def test_a_timed_out_job_is_called_by_its_id() -> None:
    """A recorded job without a name that took too long is named by its id in the error."""
    data = recording("timeout")
    job = Job.model_validate({**data["job"]["Job"], "Name": ""})
    history = tuple(HistoryItem.model_validate(item) for item in data["history"]["Items"])
    got = bare(Ended(JobRecord(job, tuple(Execution.model_validate(item) for item in data["executions"]["Items"]), history))).error
    assert isinstance(got, JobTimedOutError)
    assert f"The job {data['job']['Job']['ID'][:10]}" in got.message


def test_stop_says_its_reason() -> None:
    """A job that somebody stopped says why; ours is no word of the reason."""
    stop = {"Type": "JobLevel", "Event": {"Message": "Job requested to stop before completion", "Topic": "Scheduling"}}
    stop["Event"]["Details"] = {"Reason": "bacalhau-magic: interrupted in the notebook"}  # type: ignore[index]
    got = bare(Ended(record("Stopped", "bacalhau-magic: interrupted in the notebook", history=(HistoryItem.model_validate(stop),)))).error
    assert isinstance(got, JobStoppedError)
    assert got.reason == "interrupted in the notebook"


def test_job_that_the_server_forgot() -> None:
    """A job that is unknown to its server is an error with advice."""
    got = bare(Ended(record(""))).error
    assert isinstance(got, JobFailedError)
    assert "does not know" in got.message


def test_displays_of_the_wrong_form_are_dropped() -> None:
    """Rich displays keep their places; what is none is left out."""
    parts = [("display:0", "", b'{"text/plain": "x"}'), ("display:1", "", b"[1]"), ("stdin", "", b'{"a": 1}')]
    listed = [
        [3, "display:0"],
        [-1, "display:0"],
        "x",
        [1, 2, 3],
        [True, "display:0"],
        [4, "display:1"],
        [4, "display:9"],
        [4, "stdin"],
        [5, {}],
    ]
    got = result({"displays": listed}, parts, stdout=b"abcdef")
    assert got.displays == ((3, {"text/plain": "x"}),)
    assert got.error is None


def test_a_defect_in_reading_never_loses_the_job() -> None:
    """Whatever goes wrong while reading, the job's record and its log come back with the error."""
    broken = Ended(record(), blob=object(), stdout="printed")  # type: ignore[arg-type]
    got = bare(broken)
    assert isinstance(got.error, CorruptResultError)
    assert got.stdout == "printed"
    assert json.dumps(got.ref.job_id)


@pytest.mark.parametrize(
    "exceptions",
    [
        "x",
        [],
        [5, None],
        [{}],
        [{"ename": 5, "mro": "x", "exceptions": [[]]}],
        [{"ename": "E", "exceptions": [{"ename": "ValueError"}] * 5000}],
    ],
)
def test_a_group_of_any_form_is_an_error(exceptions: Any) -> None:
    """Whatever a job says was in its group, the error is one that can be raised."""
    facts = {
        "ename": "ExceptionGroup",
        "evalue": "eg (2 sub-exceptions)",
        "mro": ["ExceptionGroup", "BaseExceptionGroup"],
        "exceptions": exceptions,
    }
    got = result({"outcome": "error", "exit_code": 1, "error": facts}).error
    assert isinstance(got, RemoteCellError)
    assert got.ename == "ExceptionGroup"


def test_groups_in_groups_end() -> None:
    """A group that is nested without end is cut."""
    facts: dict[str, Any] = {"ename": "ExceptionGroup", "mro": ["ExceptionGroup", "BaseExceptionGroup"], "exceptions": []}
    for _ in range(200):
        facts = {**facts, "exceptions": [facts]}
    got = result({"outcome": "error", "exit_code": 1, "error": facts}).error
    depth = 0
    while isinstance(got, ExceptionGroup):
        got, depth = got.exceptions[0], depth + 1
    assert 0 < depth < 30
