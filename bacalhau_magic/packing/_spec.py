"""The wire Job of a cell, and its JSON, within the target's limits."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from .. import _marks, _traces, _wire
from .._placement import lacks, takes_jobs, wants
from .._stages import CellRequest, InputItem, PackedJob, Route, Staged, Target, Upload
from .._values import publisher as publisher_of
from ..errors import PackingError, PayloadTooLargeError, UnsendableInputError, ways_out
from ..options import JobOptions, option_of
from ._apart import apart, expired
from ._apart import source as upload_source
from ._folders import files_below
from ._payload import data_url, payload, targeted, too_big_file
from ._staging import source as staged_source
from ._staging import staged

_NAMES_OUTPUTS = re.compile(r"\boutputs\b")
_ADDRESS = 2500
"""Characters that a signed address may have."""
_NETWORKS = {"none": "None", "http": "HTTP", "full": "Full"}


@_traces.traced("bacalhau.pack")
def pack(request: CellRequest, route: Route, *, pull_timeout: float = 1800.0) -> PackedJob:
    """Make the job of a request for a route; `pull_timeout` is seconds for image and packages, beside the cell's own time.

    Raises UnsendableInputError for an input that can't be read, PayloadTooLargeError when the job's JSON is above the
    target's limit, PackingError when files are wanted that nothing there can publish.
    """
    nonce, request_id = secrets.token_hex(8), str(uuid.uuid4())
    target, options = route.target, request.options
    uploads = apart(request, target)
    if not target.is_local and (big := too_big_file(request, {(id(one.item), one.inner) for one in uploads})):
        raise UnsendableInputError(
            big[0],
            f"it has {big[1]:,} bytes, and a cluster takes 10 MiB a file",
            hint=ways_out(target.untrusted_store),
        )
    compiled = _runs_here(request, route) and request.interpreter == sys.executable
    large = staged(request, route, request_id)
    job = _wire.Job(
        name=f"{_slug(options.name or request.language.name)}-{request_id[:8]}",
        namespace=options.namespace,
        priority=options.priority,
        constraints=[_wire.Constraint(key=key, operator=operator, values=list(values)) for key, operator, values in options.constraints],
        labels=_labels(request, request_id),
        tasks=[
            _wire.Task(
                engine=_engine(request),
                env=_forwarded(request, target),
                meta=_meta(request, route, nonce),
                resources=_resources(options),
                network=_wire.Network(type=_NETWORKS[options.network], domains=list(options.domain) or None),
                timeouts=_timeouts(options, pull_timeout),
            )
        ],
    )
    publisher = _publisher(request, route, job)
    changed: dict[str, Any] = {"input_sources": _sources(request, nonce, large, uploads, compiled=compiled, keeps=publisher is not None)}
    if publisher:
        changed["publisher"] = publisher
        changed["result_paths"] = [_wire.ResultPath(name=_marks.RESULT_PATH_NAME, path=_marks.OUTPUTS_PATH)]
    if publisher and not _wants_files(request, target):
        changed["meta"] = {**job.task.meta, _marks.META_PUBLISH: _marks.PUBLISH_ANY}
    job = job.model_copy(update={"tasks": [job.task.model_copy(update=changed)]})
    body = json.dumps({"Job": job.wire()}, separators=(",", ":")).encode()
    _check_size(len(body) + len(uploads) * _ADDRESS, target, request)
    too_big = target.is_local and len(body) + sum(one.item.size for one in large) > _wire.PAYLOAD_LIMIT
    notices: tuple[str, ...] = ("Its inputs are too big for a cluster without staging.",) if too_big else ()
    notices += _last_chance(request, target, publisher)
    return PackedJob(job, body, request_id, nonce, route, _body_hash(request), notices, large, uploads)


def repacked(old: _wire.Job, route: Route) -> PackedJob:
    """The spec of a job that a server has, as a new job: another name and request, the same cell and inputs.

    Raises PackingError where a signed address of an input is good no more.
    """
    for source in old.task.input_sources:
        if expired(str((source.source.params or {}).get("URL", "")), time.time()):
            raise PackingError(
                f"The job can't be sent again: the address of its input {source.alias or source.target} has expired.",
                hint="Run the cell again: what the store still has is not sent anew.",
            )
    request_id = str(uuid.uuid4())
    name = re.sub(r"-[0-9a-f]{8}$", "", old.name)
    job = old.model_copy(
        update={
            "name": f"{_slug(name)}-{request_id[:8]}",
            "labels": {**old.labels, _marks.REQUEST_LABEL: request_id},
            "meta": {},
            **dict.fromkeys(("id", "state", "version", "revision", "create_time", "modify_time")),
        }
    )
    body = json.dumps({"Job": job.wire()}, separators=(",", ":")).encode()
    return PackedJob(job, body, request_id, old.task.meta.get(_marks.META_NONCE, ""), route)


def shown(job: _wire.Job) -> dict[str, Any]:
    """The job's spec for people: as it is sent, the archives shortened to their size, secrets without their values."""
    spec = job.wire()
    for task in spec["Tasks"]:
        names = task.get("Meta", {}).get(_marks.META_SECRETS, "").split(",")
        variables = task["Engine"].get("Params", {}).get("EnvironmentVariables")
        if isinstance(variables, list):
            hidden = [f"{pair.partition('=')[0]}=••••" if str(pair).partition("=")[0] in names else pair for pair in variables]
            task["Engine"]["Params"]["EnvironmentVariables"] = hidden
    for source in [source for task in spec["Tasks"] for source in task["InputSources"]]:
        url = str((source["Source"].get("Params") or {}).get("URL", ""))
        if url.startswith("data:"):
            source["Source"]["Params"]["URL"] = f"{url.partition(',')[0]},… ({len(url):,} characters)"
        elif "ignature=" in url:
            source["Source"]["Params"]["URL"] = url.partition("?")[0] + "?…(signed)"
    return spec


def yaml(spec: Mapping[str, Any]) -> str:
    """A spec as YAML, as people and the Bacalhau CLI read it."""
    from yaml import safe_dump

    return safe_dump(dict(spec), sort_keys=False, allow_unicode=True, width=120)


def _engine(request: CellRequest) -> _wire.SpecConfig:
    folder = f"{_marks.INPUTS_PATH}/{_marks.PAYLOAD_FOLDER}"
    command = {
        "python": ["python", "-u", f"{folder}/bootstrap.py"],
        "node": ["node", f"{folder}/bootstrap.mjs"],
        "sh": ["sh", f"{folder}/bootstrap.sh"],
    }[request.language.wrapper]
    return _wire.SpecConfig(
        type="docker",
        params={
            "Image": request.options.image or request.language.image,
            "Entrypoint": [*command, _marks.OUTPUTS_PATH],
            "Parameters": [],
            "EnvironmentVariables": [f"{name}={value}" for name, value in {**request.env, **_in_clear(request)}.items()],
        },
    )


def _in_clear(request: CellRequest) -> Mapping[str, str]:
    return {name: request.secrets[name] for name in request.options.secret} if request.options.secret_in_spec else {}


def _forwarded(request: CellRequest, target: Target) -> dict[str, str] | None:
    """What a cluster's node takes from its own environment; the embedded node gets values beside the spec."""
    if target.is_local or request.options.secret_in_spec or not request.options.secret:
        return None
    return {name: f"env:{name}" for name in request.options.secret}


def _runs_here(request: CellRequest, route: Route) -> bool:
    """Whether the job runs with this machine's own interpreters."""
    return route.target.is_local and request.options.image is None


def _meta(request: CellRequest, route: Route, nonce: str) -> dict[str, str]:
    options = request.options
    meta = {
        _marks.META_FORMAT: _marks.FORMAT,
        _marks.META_NONCE: nonce,
        _marks.META_LANGUAGE: request.language.name,
        _marks.META_OUTPUTS: ",".join(options.outputs),
        _marks.META_AS: options.as_,
        _marks.META_MAX_RESULT: str(options.max_result),
        _marks.META_TIMEOUT: f"{options.run_seconds:g}",
    }
    if options.secret:
        meta[_marks.META_SECRETS] = ",".join(options.secret)
    if options.pip:
        meta[_marks.META_PACKAGES] = "1"
    if _runs_here(request, route):
        meta[_marks.META_INTERPRETER] = request.interpreter
        if options.sandbox:
            meta[_marks.META_SANDBOX] = "1"
    return meta


def addressed(packed: PackedJob, addresses: Mapping[str, str]) -> PackedJob:
    """The job with the addresses of its uploads in their places. Raises PayloadTooLargeError."""
    task = packed.job.task
    sources = []
    for one in task.input_sources:
        address = addresses.get(str((one.source.params or {}).get("URL", "")))
        where = one.source.model_copy(update={"params": {"URL": address}}) if address else one.source
        sources.append(one.model_copy(update={"source": where}))
    job = packed.job.model_copy(update={"tasks": [task.model_copy(update={"input_sources": sources})]})
    body = json.dumps({"Job": job.wire()}, separators=(",", ":")).encode()
    target = packed.route.target
    if target.payload_limit is not None and len(body) > target.payload_limit:
        raise PayloadTooLargeError(len(body), target.payload_limit, {one.name: one.size for one in packed.uploads})
    return replace(packed, job=job, body=body)


def _check_size(size: int, target: Target, request: CellRequest) -> None:
    if target.payload_limit is not None and size > target.payload_limit:
        raise PayloadTooLargeError(size, target.payload_limit, _largest(request.inputs), hint=ways_out(target.untrusted_store))


def _sources(
    request: CellRequest, nonce: str, large: tuple[Staged, ...], uploads: tuple[Upload, ...], *, compiled: bool, keeps: bool
) -> list[_wire.InputSource]:
    places = {id(one.item): one for one in large}
    beside = {(id(one.item), one.inner) for one in uploads}
    elsewhere = {one.item.path for one in large if not one.item.target}
    elsewhere |= {str(PurePosixPath(one.item.path) / one.inner) for one in uploads if not one.item.target}
    archive = payload(request, nonce, compiled=compiled, elsewhere=elsewhere, keeps=keeps)
    sources = [_wire.InputSource(source=_inline(archive), alias="bacalhau-magic", target=_marks.INPUTS_PATH)]
    for item in [item for item in request.inputs if item.url or item.target or id(item) in places]:
        if id(item) in places:
            sources.append(staged_source(places[id(item)]))
        elif item.url:
            sources.append(_wire.InputSource(source=_remote(item), alias=item.name, target=item.target))
        elif item.target and (id(item), ".") not in beside:
            inside = {inner for owner, inner in beside if owner == id(item)}
            target, archive = targeted(item, inside)
            sources.append(_wire.InputSource(source=_inline(archive), alias=item.name, target=target))
    sources += [upload_source(one, number) for number, one in enumerate(uploads)]
    taken: set[str] = set()
    for one in sources:
        if one.target in taken:
            raise UnsendableInputError(
                one.alias or "", f"another input already has the place {one.target}", hint="Choose another =/target."
            )
        taken.add(one.target)
    return sources


def _inline(archive: bytes) -> _wire.SpecConfig:
    return _wire.SpecConfig(type="inline", params={"URL": data_url(archive)})


def _remote(item: InputItem) -> _wire.SpecConfig:
    """Bacalhau's own source for a URL: urlDownload, s3 or ipfs."""
    scheme, _, rest = item.url.partition("://")
    if scheme == "s3":
        bucket, _, key = rest.partition("/")
        return _wire.SpecConfig(type="s3", params={"Bucket": bucket, "Key": key})
    if scheme == "ipfs":
        return _wire.SpecConfig(type="ipfs", params={"CID": rest})
    return _wire.SpecConfig(type="urlDownload", params={"URL": item.url})


def _publisher(request: CellRequest, route: Route, job: _wire.Job) -> _wire.SpecConfig | None:
    """The publisher for the job's files and for its log, where they are wanted and a node that could take the job has one.

    An embedded node's own costs nothing while there is nothing to publish, so there it always stands.
    """
    options, target = request.options, route.target
    if not target.is_local and not _wants_files(request, target):
        return None
    kind, params = publisher_of(options.publisher or "local")
    chosen = _wire.SpecConfig(type=kind, params=dict(params))
    wanted = wants(job.model_copy(update={"tasks": [job.task.model_copy(update={"publisher": chosen})]}))
    # The embedded node's host executor is no engine that a node would list.
    able = target.nodes if target.is_local else [node for node in target.nodes if takes_jobs(node) and not lacks(node, wanted)]
    if any(kind in (name.lower() for name in node.info.compute_node_info.publishers) for node in able):
        return chosen
    if options.publisher or (not target.nodes and options.files):
        return chosen
    if options.files and "files" in options.asked:
        raise PackingError(
            "--files needs a node that can publish files, and none here can.",
            hint="Return the data as a value instead: -o NAME; or name a store that the nodes can write to: --publisher s3://BUCKET/KEY.",
        )
    return None


def _wants_files(request: CellRequest, target: Target) -> bool:
    """Whether the job's files are wanted, because they are asked for or the cell's text names its outputs folder; or its
    log, because nobody may be there to read the live one."""
    options = request.options
    asked = options.files or options.publisher or options.long
    return bool(asked or _NAMES_OUTPUTS.search(request.code) or _is_unwatched(request, target))


def _is_unwatched(request: CellRequest, target: Target) -> bool:
    """Whether the job's log may be gone before anybody reads it to its end: an embedded node keeps it with the job."""
    options = request.options
    return not target.is_local and (options.bg or options.long or options.on_interrupt == "detach" or not target.keeps_logs)


def _last_chance(request: CellRequest, target: Target, publisher: _wire.SpecConfig | None) -> tuple[str, ...]:
    """By when the result must be fetched, where no node keeps it any longer."""
    if publisher is not None or not _is_unwatched(request, target):
        return ()
    if target.keeps_logs:
        return ("No node there publishes results: fetch this one within an hour of its end.",)
    return ("Nodes there keep no finished log and publish nothing: stay connected until the job's end, or its result is lost.",)


def _resources(options: JobOptions) -> _wire.Resources:
    return _wire.Resources(
        cpu=f"{options.cpu:g}",
        memory=str(options.memory),
        disk=str(options.disk) if options.disk else None,
        gpu=str(options.gpu_count) if options.gpu_count else None,
    )


def _timeouts(options: JobOptions, pull_timeout: float) -> _wire.Timeouts:
    """The server's own clocks, as backstops: the wrapper keeps the cell's time, which begins with its first line."""
    execution = math.ceil(options.run_seconds + pull_timeout)
    queue = math.ceil(options.queue_seconds)
    return _wire.Timeouts(execution_timeout=execution, queue_timeout=queue, total_timeout=execution + queue)


def _labels(request: CellRequest, request_id: str) -> dict[str, str]:
    labels = {**request.options.labels, _marks.REQUEST_LABEL: request_id}
    if request.options.name:
        labels[_marks.NAME_LABEL] = _slug(request.options.name)
    if request.notebook:
        labels[_marks.NOTEBOOK_LABEL] = _marks.notebook_mark(request.notebook)
    return labels


def _slug(name: str) -> str:
    """A name of letters, digits and dashes, at most 40 long, as servers, labels and files like it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "cell"


_ASIDE = ("running", "looking", "identity")
"""Groups of options that change how a job is waited for and called, and not what it is."""


def _body_hash(request: CellRequest) -> str:
    """What makes two submissions the same: cell, options and inputs; never a value in clear."""
    digest = hashlib.sha256()
    aside = {name for name in type(request.options).model_fields if (option := option_of(name)) and option.group in _ASIDE}
    options = sorted(request.options.model_dump(mode="json", exclude={"inputs", *aside}).items())
    for part in (request.language.name, request.code.rstrip("\n"), repr(options), repr(sorted(request.env.items()))):
        digest.update(part.encode() + b"\0")
    for step in request.steps:
        digest.update(f"{step.name}\0{step.source}\0".encode())
    for item in request.inputs:
        written = [str(file.stat().st_mtime_ns) for file in _files(item)]
        facts = (item.name, item.path, item.target, item.url, str(item.size), *written)
        digest.update("\0".join(facts).encode() + hashlib.sha256(item.data).digest())
    return digest.hexdigest()[:32]


def _files(item: InputItem) -> list[Path]:
    if item.source is None or not item.source.exists():
        return []
    return [file or item.source / inner for inner, file in files_below(item.name, item.source)]


def _largest(inputs: tuple[InputItem, ...]) -> Mapping[str, int]:
    return {item.name: item.size for item in sorted(inputs, key=lambda item: -item.size)[:5]}
