"""Reads one kind of the hostile corpus as the product does, under limits of memory and time, and prints how each file ended.

`python reading.py KIND`: a line of JSON [name, how it ended] for each; anything else than a named error or plain text ends
the program with a traceback.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy  # noqa: F401 - arrays are met, and its own memory does not count
import polars  # noqa: F401
import pyarrow  # noqa: F401
from scripted import JOB, Server

from bacalhau_magic import _bundles, _packets
from bacalhau_magic._stages import Endpoint, JobRef
from bacalhau_magic.client import Client, fetch_files
from bacalhau_magic.errors import ApiError, ResultError
from bacalhau_magic.node._inputs import InputProblem, unpack
from bacalhau_magic.progress._sequences import clean
from bacalhau_magic.remote import codec

ROOM = 400 << 20
"""Bytes of memory beyond what the program has when it begins to read; the corpus would take many times as much."""
SECONDS = 60
MOST = 16 << 20
"""The biggest result that is asked for, in bytes."""


def archives(data: bytes) -> str:
    """As a job's files and as a node's input; nothing may lie outside the folder."""
    ended = []
    with tempfile.TemporaryDirectory() as home, Server() as server:
        inner = Path(home, "in", "ner")
        inner.mkdir(parents=True)
        port = server.url.rpartition(":")[2]
        server.on(
            "GET",
            f"/orchestrator/jobs/{JOB}/results",
            {"Items": [{"Type": "urlDownload", "Params": {"URL": f"http://127.0.0.1:{port}/a"}}]},
        )
        server.on("GET", "/a", (200, data))
        with Client(Endpoint(server.url), requests_per_second=500.0) as client:
            try:
                found = fetch_files(client, JobRef(JOB, client.endpoint), inner / "files", max_bytes=MOST)
                ended.append(f"files {len(found.names)}")
            except ResultError as problem:
                ended.append(f"{type(problem).__name__}: {problem.message}")
        (inner / "input").mkdir()
        try:
            unpack(data, inner / "input")
            ended.append("unpacked")
        except InputProblem as problem:
            ended.append(f"{type(problem).__name__}: {problem}")
        places = [*Path(home).rglob("planted"), Path("/tmp/bacalhau-magic-planted")]
        outside = [path for path in places if path.exists() and not any(map(path.is_relative_to, (inner / "files", inner / "input")))]
        links = [path for path in Path(home).rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
        assert not outside, outside
        assert not links, links
    return " | ".join(ended)


def logs_with_packets(data: bytes) -> str:
    assembler = _packets.Assembler(hostile.NONCE, MOST)
    text = data.decode("utf-8", "replace")
    for at in range(0, len(text), 1000):
        assembler.feed(1, text[at : at + 1000])
    assembler.finish()
    blob, problem = assembler.outcome()
    assert blob is None
    return problem or "no packets"


def bundles(data: bytes) -> str:
    try:
        _bundles.open_bundle(data, MOST)
    except _packets.PacketError as problem:
        return f"PacketError: {problem}"
    raise AssertionError("it was taken")


def values(data: bytes) -> str:
    try:
        codec.loads(data, max(len(data), 1))
    except codec.CodecError as problem:
        return f"CodecError: {problem}"
    raise AssertionError("it was taken")


def documents(data: bytes) -> str:
    with Server() as server:
        server.on("GET", f"/orchestrator/jobs/{JOB}", (200, data))
        with Client(Endpoint(server.url), requests_per_second=500.0) as client:
            try:
                client.job(JOB)
            except ApiError as problem:
                return f"{type(problem).__name__}: {problem.message}"
    return "a job"


def logs(data: bytes) -> str:
    shown = clean(data.decode("utf-8", "replace"))
    assert not [char for char in shown if (char < " " and char not in "\n\t\r\b") or "\x7f" <= char <= "\x9f"], ascii(shown[:200])
    return "text"


KINDS: dict[str, Callable[[bytes], str]] = {
    "archives": archives,
    "packets": logs_with_packets,
    "bundles": bundles,
    "values": values,
    "json": documents,
    "logs": logs,
}


def main(kind: str) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for file in sorted((hostile.DATA / kind).iterdir()):
        sys.stdout.write(json.dumps([file.name, KINDS[kind](file.read_bytes())]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
