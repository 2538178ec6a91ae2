"""What a client submits, checked and completed as a node of version 1.9.3 does, with its texts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._lifecycle import duration

__all__ = ["Intake", "Refusal", "amounts", "fold_keys", "folded", "timeouts"]

DEFAULT_CPU, DEFAULT_MEMORY = "500m", "512mb"

_JOB_KEYS = [
    "ID",
    "Name",
    "Namespace",
    "Type",
    "Priority",
    "Count",
    "Constraints",
    "Meta",
    "Labels",
    "Tasks",
    "State",
    "Version",
    "Revision",
    "CreateTime",
    "ModifyTime",
]
_TASK_KEYS = ["Name", "Engine", "Publisher", "Env", "Meta", "InputSources", "ResultPaths", "Resources", "Network", "Timeouts"]
_PARAM_KEYS = [
    "Image",
    "Entrypoint",
    "Parameters",
    "EnvironmentVariables",
    "WorkingDirectory",
    "URL",
    "SourcePath",
    "ReadWrite",
    "CreateAs",
]
_NETWORKS = {"default": "Default", "none": "None", "host": "Host", "full": "Full", "http": "HTTP", "bridge": "Bridge"}
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_READ_ONLY_META = "bacalhau.org/"


class Refusal(Exception):
    """A job that is answered with an error envelope: HTTP status, code and component as recorded."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "InternalError", component: str = "APIServer", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.component = component
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Intake:
    """A normalised job, in the wire's own spelling, without id, state and times; and the warnings for the answer."""

    job: dict[str, Any]
    warnings: list[str]

    @classmethod
    def of(cls, body: object, *, full_namespace: str = "default") -> Intake:
        """Checks a PUT's body. Raises Refusal."""
        request = folded(body, ("Job", "Force")) if isinstance(body, Mapping) else {}
        given = request.get("Job")
        if not isinstance(given, Mapping):
            raise Refusal("empty/nil job")
        return _normalised(folded(given, _JOB_KEYS), full_namespace)


def fold_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same object with lower-case keys, as a reader that ignores case sees it."""
    return {str(key).lower(): item for key, item in value.items()}


def folded(value: Mapping[str, Any], keys: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The known keys of an object, whatever their case, in their own spelling; nulls and unknown keys are left out."""
    lower = fold_keys(value)
    return {key: lower[key.lower()] for key in keys if lower.get(key.lower()) is not None}


def _normalised(job: dict[str, Any], namespace: str) -> Intake:
    kind = _text(job, "Type")
    warnings = _ignored(job, kind)
    if not kind:
        raise Refusal("missing job type")
    if kind not in ("batch", "ops", "service", "daemon"):
        raise Refusal(f'invalid job type: "{kind}"')
    meta = _text_map(job, "Meta")
    for key in [key for key in meta if key.startswith(_READ_ONLY_META)]:
        warnings.append(f'job meta key "{key}" is reserved and will be ignored')
        del meta[key]
    tasks = job.get("Tasks")
    if not isinstance(tasks, list) or not tasks or not isinstance(tasks[0], Mapping):
        raise Refusal("missing job tasks")
    if len(tasks) > 1:
        warnings.append("only one task is supported per job")
    count = _count(job, kind)
    name = _text(job, "Name")
    if "\0" in name:
        raise Refusal("job name contains a null character")
    normalised = {
        "Name": name.strip() and name,
        "Namespace": _text(job, "Namespace") or namespace,
        "Type": kind,
        "Priority": _whole(job, "Priority", 0),
        "Count": count,
        "Constraints": _constraints(job.get("Constraints")),
        "Meta": meta,
        "Labels": _text_map(job, "Labels"),
        "Tasks": [_task(folded(tasks[0], _TASK_KEYS))],
    }
    return Intake(normalised, warnings)


def _ignored(job: Mapping[str, Any], kind: str) -> list[str]:
    warnings = []
    state = fold_keys(job["State"]) if isinstance(job.get("State"), Mapping) else {}
    if state.get("statetype") not in (None, "", "Undefined", 0):
        warnings.append("job state is ignored when submitting a job")
    for key, word in (("Revision", "revision"), ("Version", "version"), ("CreateTime", "create time"), ("ModifyTime", "modify time")):
        if job.get(key):
            warnings.append(f"job {word} is ignored when submitting a job")
    if job.get("ID") and kind in ("batch", "ops"):
        warnings.append("job ID is ignored when submitting a batch job")
    return warnings


def _count(job: Mapping[str, Any], kind: str) -> int:
    everywhere = kind in ("ops", "daemon")
    count = _whole(job, "Count", 0 if everywhere else 1)
    if count < 0:
        raise Refusal("job count must be >= 0")
    if count > 1 and everywhere:
        raise Refusal(f"{kind} jobs cannot specify count > 1 as they run on all matching nodes")
    return 0 if everywhere else count


def _constraints(value: object) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    for number, item in enumerate(value if isinstance(value, list) else [], 1):
        given = folded(item, ("Key", "Operator", "Values")) if isinstance(item, Mapping) else {}
        key, operator, values = _text(given, "Key"), _text(given, "Operator"), given.get("Values") or []
        where = f"constraint {number} validation failed"
        if not key.strip():
            raise Refusal(f"{where}: selector key cannot be blank")
        if operator in ("in", "notin"):
            if not values:
                raise Refusal(f"{where}: selector values cannot be empty for In or NotIn operators")
        elif operator in ("exists", "!"):
            if values:
                raise Refusal(f"{where}: selector values must be empty for Exists or KeyNotInImap operators")
        elif not isinstance(values, list) or len(values) != 1:
            raise Refusal(f"{where}: selector values must have exactly one value for other operators")
        if not all(isinstance(item, str) for item in values):
            raise Refusal(f"{where}: selector values must be texts")
        done.append({"Key": key, "Operator": operator, **({"Values": values} if values else {})})
    return done


def _task(task: dict[str, Any]) -> dict[str, Any]:
    name = _text(task, "Name")
    if not name:
        raise Refusal("missing task name")
    where = f"task {name} validation failed"
    engine = _spec_config(task.get("Engine"))
    if not engine["Type"]:
        raise Refusal(f"{where}: missing engine type")
    publisher = _spec_config(task.get("Publisher"))
    done: dict[str, Any] = {"Name": name, "Engine": engine, "Publisher": publisher}
    if env := task.get("Env"):
        done["Env"] = _environment(env, where)
    if meta := _text_map(task, "Meta"):
        done["Meta"] = meta
    if sources := _inputs(task.get("InputSources"), where):
        done["InputSources"] = sources
    if paths := _result_paths(task.get("ResultPaths"), where):
        done["ResultPaths"] = paths
    done["Resources"] = _resources(task.get("Resources"), where)
    done["Network"] = _network(task.get("Network"), where)
    done["Timeouts"] = _timeouts(task.get("Timeouts"), where)
    if paths and not publisher["Type"]:
        raise Refusal(f"{where}: publisher must be set if result paths are set", code="BadRequest", component="JobStore")
    return done


def _spec_config(value: object) -> dict[str, Any]:
    config = folded(value, ("Type", "Params")) if isinstance(value, Mapping) else {}
    params = config.get("Params")
    done: dict[str, Any] = {"Type": _text(config, "Type").strip()}
    if isinstance(params, Mapping) and params:
        lower = {key.lower(): key for key in _PARAM_KEYS}
        done["Params"] = {lower.get(str(key).lower(), str(key)): item for key, item in sorted(params.items())}
    return done


def _environment(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Refusal(f"{where}: Env must be an object")
    for key, item in value.items():
        problem = ""
        if str(key).upper() != key:
            problem = "must be uppercase"
        elif not key[:1].isalpha():
            problem = "must start with a letter"
        elif not re.fullmatch(r"[A-Z0-9_]+", key):
            problem = "can only contain letters, numbers, and underscores"
        elif key.startswith("BACALHAU_"):
            problem = "cannot start with BACALHAU_"
        elif not isinstance(item, str) or not item:
            problem = "cannot have empty value"
        if problem:
            raise Refusal(f"{where}: environment variable '{key}' {problem}", code="BadRequest", component="JobStore")
    return dict(value)


def _inputs(value: object, where: str) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    seen: set[str] = set()
    for item in value if isinstance(value, list) else []:
        source = folded(item, ("Source", "Alias", "Target")) if isinstance(item, Mapping) else {}
        target = _text(source, "Target")
        if not target:
            raise Refusal(f"{where}: input source is missing a target")
        if target in seen:
            raise Refusal(f"{where}: input source with target '{target}' already exists")
        seen.add(target)
        done.append({"Source": _spec_config(source.get("Source")), "Alias": _text(source, "Alias"), "Target": target})
    return done


def _result_paths(value: object, where: str) -> list[dict[str, str]]:
    done: list[dict[str, str]] = []
    for item in value if isinstance(value, list) else []:
        path = folded(item, ("Name", "Path")) if isinstance(item, Mapping) else {}
        name, place = _text(path, "Name"), _text(path, "Path")
        if not name or not place:
            raise Refusal(f"{where}: result path must have a name and a path")
        if not place.startswith("/"):
            raise Refusal(f"{where}: result path {place} must be absolute")
        # The name becomes a folder in the published archive.
        if name in (".", "..", "stdout", "stderr", "exitCode") or "/" in name or "\0" in name:
            raise Refusal(f"{where}: result path name '{name}' can't be used")
        if any(name == other["Name"] or place == other["Path"] for other in done):
            raise Refusal(f"{where}: result path '{name}' already exists")
        done.append({"Name": name, "Path": place})
    return done


def _resources(value: object, where: str) -> dict[str, str]:
    given = folded(value, ("CPU", "Memory", "Disk", "GPU")) if isinstance(value, Mapping) else {}
    texts = {key: str(item).lower().replace(" ", "").replace("\n", "") for key, item in given.items()}
    done = {"CPU": texts.get("CPU") or DEFAULT_CPU, "Memory": texts.get("Memory") or DEFAULT_MEMORY}
    done.update({key: texts[key] for key in ("Disk", "GPU") if texts.get(key)})
    try:
        amounts(done)
    except ValueError as problem:
        raise Refusal(f"{where}: invalid resources: {problem}") from None
    return done


def amounts(resources: Mapping[str, str]) -> tuple[float, int, int, int]:
    """CPUs, memory and disk in bytes, GPUs of a Resources object. Raises ValueError with the recorded text."""
    return (
        _cpu(resources.get("CPU", "")),
        _bytes("memory", resources.get("Memory", "")),
        _bytes("disk", resources.get("Disk", "")),
        _gpus(resources.get("GPU", "")),
    )


def _cpu(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(m?)", text or "0")
    if not match:
        raise ValueError(f"invalid CPU value: {text}")
    return float(match[1]) / (1000 if match[2] else 1)


def _bytes(what: str, text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([kmgt]?i?)b?", text or "0")
    if not match or match[2] not in _UNITS:
        raise ValueError(f"invalid {what} value: {text}")
    size = float(match[1]) * _UNITS[match[2]]
    if not math.isfinite(size) or size >= 2**63:
        raise ValueError(f"invalid {what} value: {text}")
    return int(size)


def _gpus(text: str) -> int:
    if not re.fullmatch(r"\d{0,4}", text):
        raise ValueError(f"invalid GPU value: {text}")
    return int(text or 0)


def _network(value: object, where: str) -> dict[str, Any]:
    given = folded(value, ("Type", "Domains")) if isinstance(value, Mapping) else {}
    word = str(given.get("Type") or "Default")
    known = _NETWORKS.get(word.lower())
    if known is None:
        text = f"models.Network: unknown type '{word}'"
        raise Refusal(f"code=400, message={text}, internal={text}")
    done: dict[str, Any] = {"Type": known}
    domains = given.get("Domains")
    if isinstance(domains, list) and domains:
        if known != "HTTP":
            raise Refusal(f"{where}: domains can only be set for HTTP network mode")
        for domain in domains:
            if not isinstance(domain, str) or not re.fullmatch(r"\.?[A-Za-z0-9][A-Za-z0-9.-]*", domain):
                raise Refusal(f'{where}: invalid domain "{domain}"')
        done["Domains"] = domains
    return done


def _timeouts(value: object, where: str) -> dict[str, int]:
    keys = ("ExecutionTimeout", "QueueTimeout", "TotalTimeout")
    given = folded(value, keys) if isinstance(value, Mapping) else {}
    done: dict[str, int] = {}
    for key in keys:
        seconds = _whole(given, key, 0)
        if seconds < 0:
            word = key.removesuffix("Timeout").lower()
            raise Refusal(
                f"{where}: task timeouts validation failed: invalid {word} timeout value: {seconds}",
                code="BadRequest",
                component="JobStore",
            )
        if seconds:
            done[key] = seconds
    execution, queue, total = timeouts(done)
    if total and done.get("ExecutionTimeout", 0) + queue > total:
        raise Refusal(
            f"{where}: task timeouts validation failed: execution timeout {duration(execution)} and queue timeout {duration(queue)} "
            f"should be less than total timeout {duration(total)}",
            code="BadRequest",
            component="JobStore",
        )
    return done


def timeouts(given: Mapping[str, int]) -> tuple[int, int, int]:
    """Execution, queue and total timeout in seconds, 0: none; the first falls back to the last."""
    total = given.get("TotalTimeout", 0)
    return given.get("ExecutionTimeout", 0) or total, given.get("QueueTimeout", 0), total


def _text(value: Mapping[str, Any], key: str) -> str:
    item = value.get(key, "")
    if not isinstance(item, str):
        text = f"Unmarshal type error: expected=string, got={type(item).__name__}, field={key}"
        raise Refusal(f"code=400, message={text}, internal={text}")
    return item


def _text_map(value: Mapping[str, Any], key: str) -> dict[str, str]:
    item = value.get(key) or {}
    if not isinstance(item, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in item.items()):
        text = f"Unmarshal type error: expected=map[string]string, field={key}"
        raise Refusal(f"code=400, message={text}, internal={text}")
    return dict(item)


def _whole(value: Mapping[str, Any], key: str, default: int) -> int:
    item = value.get(key, default)
    if isinstance(item, bool) or not isinstance(item, int):
        text = f"Unmarshal type error: expected=int, field={key}"
        raise Refusal(f"code=400, message={text}, internal={text}")
    return item
