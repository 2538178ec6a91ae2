"""A job's files: fetched from where they lie, checked before a byte is written, never over what is not theirs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from scripted import JOB, Request, Server

from bacalhau_magic._stages import Credential, Endpoint, JobRef
from bacalhau_magic._wire import SpecConfig
from bacalhau_magic.client import Client, Rights, _parts, check_directory, fetch_files, fetch_log
from bacalhau_magic.client._download import source
from bacalhau_magic.client._files import MANIFEST, Moving, unpack_files
from bacalhau_magic.errors import OptionError, ResultError

Entry = tuple[str, bytes | str | None]
"""A name, and a file's bytes, None for a folder, or a link's target."""


def archive(*entries: Entry, mode: str = "w:gz", size: int | None = None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size, entry.mode = len(content) if size is None else size, 0o755 if name.endswith(".sh") else 0o600
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return data.getvalue()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(Endpoint(server.url, credential=Credential(key="secret-key")), requests_per_second=500.0) as found:
        yield found


@pytest.fixture
def ref(client: Client) -> JobRef:
    return JobRef(JOB, client.endpoint)


def publish(server: Server, data: bytes) -> None:
    """The job's results lie at the server's own address, as a node's local publisher says it: on loopback."""
    port = server.url.rpartition(":")[2]
    server.on(
        "GET",
        f"/orchestrator/jobs/{JOB}/results",
        {"Items": [{"Type": "urlDownload", "Params": {"URL": f"http://127.0.0.1:{port}/e-1.tar.gz"}}]},
    )
    server.on("GET", "/e-1.tar.gz", (200, data))


def test_files_land_in_the_folder(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """Files and folders below outputs/ land in the folder, executable where they were; what lies beside them does not."""
    publish(
        server,
        archive(
            (".", None),
            ("./stdout", b"x"),
            ("./outputs", None),
            ("./outputs/d", None),
            ("./outputs/d/a.txt", b"a"),
            ("outputs/run.sh", b"b"),
        ),
    )
    found = fetch_files(client, ref, tmp_path / "out", Rights(["cell"]))
    assert sorted(found.names) == ["d/a.txt", "run.sh"]
    assert (tmp_path / "out/d/a.txt").read_bytes() == b"a"
    assert os.access(tmp_path / "out/run.sh", os.X_OK)
    assert not (tmp_path / "out/stdout").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "entries",
    [
        [("outputs/../../evil", b"x")],
        [("/etc/evil", b"x")],
        [("outputs/a", b"1"), ("outputs/a", b"2")],
        [("outputs/a", b"1"), ("outputs/a/b", b"2")],
        [("outputs/a", b"1"), ("outputs/a/b/c", b"2")],
        [("outputs/a", b"1"), ("outputs/a/b", None)],
        [("outputs/a/b", b"1"), ("outputs/a", b"2")],
        [("outputs/a", None), ("outputs/a", b"2")],
    ],
    ids=["parent", "absolute", "twice", "below a file", "far below a file", "folder below a file", "file for a folder", "file and folder"],
)
def test_archives_that_lead_astray(server: Server, client: Client, ref: JobRef, tmp_path: Path, entries: list[Entry]) -> None:
    """Paths that lead outside, duplicates and files used as folders refuse the whole; nothing is written."""
    publish(server, archive(("outputs/good", b"g"), *entries))
    with pytest.raises(ResultError):
        fetch_files(client, ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_ends_badly_leaves_nothing(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """What is wrong at an archive's very end, as its checksum, refuses all of it: what the folder held is as it was, and nothing lies beside."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/good").write_bytes(b"mine")
    whole = archive(("outputs/good", b"g"), ("outputs/noise", os.urandom(300_000)))
    for damaged in (
        whole[:-8] + bytes(4) + whole[-4:],
        whole[:-4] + bytes(4),
        whole[:-8],
        archive(("outputs/good", b"g"), ("outputs/../x", b"")),
    ):
        publish(server, damaged)
        with pytest.raises(ResultError, match=r"damaged|can't be used"):
            fetch_files(client, ref, tmp_path / "out", Rights(overwrite=True))
        assert [(path.name, path.is_file() and path.read_bytes()) for path in sorted(tmp_path.rglob("*"))] == [
            ("out", False),
            ("good", b"mine"),
        ]


def test_a_sparse_file_is_left_out(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A file that its archive holds with holes, as no publisher writes it, is named and not made."""
    entry = tarfile.TarInfo("outputs/holes")
    entry.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000", "GNU.sparse.name": "outputs/holes"}
    entry.size = 1
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(b"x"))
        good = tarfile.TarInfo("outputs/good")
        good.size = 1
        tar.addfile(good, io.BytesIO(b"g"))
    publish(server, data.getvalue())
    found = fetch_files(client, ref, tmp_path / "out")
    assert (found.names, found.skipped) == (("good",), ("holes",))


def test_links_are_left_out(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """Links and devices are not made here, and are named."""
    publish(server, archive(("outputs/link", "/etc/passwd"), ("outputs/good", b"g")))
    found = fetch_files(client, ref, tmp_path / "out")
    assert (found.names, found.skipped) == (("good",), ("link",))
    assert not (tmp_path / "out/link").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", archive(("outputs/a", os.urandom(50_000)))[:20_000]], ids=["empty", "junk", "cut"])
def test_damaged_archives(server: Server, client: Client, ref: JobRef, tmp_path: Path, data: bytes) -> None:
    """An archive that is cut or none is an error, and nothing is written."""
    publish(server, data)
    with pytest.raises(ResultError):
        fetch_files(client, ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bomb(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A small archive of much data, and a large one, are refused by what they hold."""
    publish(server, archive(("outputs/zeros", bytes(5_000_000))))
    with pytest.raises(ResultError, match="too large"):
        fetch_files(client, ref, tmp_path / "out", max_bytes=1_000_000)
    publish(server, archive(("outputs/noise", os.urandom(2_000_000))))
    with pytest.raises(ResultError, match="larger than"):
        fetch_files(client, ref, tmp_path / "out", max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == []


def headed(*comments: str) -> bytes:
    """An archive of small files, each with a comment in a header of its own."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number, comment in enumerate(comments):
            entry = tarfile.TarInfo(f"outputs/{number}")
            entry.pax_headers = {"comment": comment}
            tar.addfile(entry)
    return data.getvalue()


def nested(kind: bytes, count: int) -> bytes:
    """An archive whose only file has headers of headers."""
    header = tarfile.TarInfo("outputs/x")
    header.type = kind
    return gzip.compress(header.tobuf() * count + tarfile.TarInfo("outputs/x").tobuf() + bytes(1024))


@pytest.mark.parametrize(
    "data",
    [
        headed("x" * 5_000_000),
        archive(("outputs/" + "n" * 5_000_000, b"")),
        nested(tarfile.XHDTYPE, 1500),
        nested(tarfile.GNUTYPE_LONGNAME, 1500),
    ],
    ids=["a header", "a name", "headers of headers", "names of names"],
)
def test_bomb_of_headers(server: Server, client: Client, ref: JobRef, tmp_path: Path, data: bytes) -> None:
    """An archive with a header that is too large, or too many for one file, is damaged, as files and as a log; nothing is written."""
    publish(server, data)
    with pytest.raises(ResultError, match="damaged"):
        fetch_files(client, ref, tmp_path / "out")
    with pytest.raises(ResultError, match="damaged"):
        fetch_log(client, ref, max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_headers_take_no_memory(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """However much the headers of an archive hold, it takes no more memory than the largest of them needs."""
    publish(server, headed(*["x" * 900_000] * 60))
    tracemalloc.start()
    try:
        assert len(fetch_files(client, ref, tmp_path / "out").names) == 60
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_deep_path_is_refused(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A path of more folders than any job needs refuses the whole archive."""
    publish(server, archive(("outputs/" + "d/" * 63 + "x", b"")))
    with pytest.raises(ResultError, match="can't be used"):
        fetch_files(client, ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_cell_replaces_its_own_files_only(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A second run of the same cell replaces what the first wrote; another cell's, a changed and a foreign file stay."""
    folder = tmp_path / "out"
    publish(server, archive(("outputs/a", b"1")))
    fetch_files(client, ref, folder, Rights(["cell-1"]))
    publish(server, archive(("outputs/a", b"2")))
    with pytest.raises(ResultError, match="did not come from this cell"):
        fetch_files(client, ref, folder, Rights(["cell-2"]))
    fetch_files(client, ref, folder, Rights(["cell-1", "moved"]))
    assert (folder / "a").read_bytes() == b"2"
    (folder / "a").write_bytes(b"mine")
    publish(server, archive(("outputs/a", b"3"), ("outputs/b", b"b")))
    with pytest.raises(ResultError, match="was changed since"):
        fetch_files(client, ref, folder, Rights(["cell-1"]))
    assert (folder / "a").read_bytes() == b"mine"
    assert not (folder / "b").exists()


def test_links_in_the_folder_are_not_followed(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A link in the target is in the way, for a file and for a folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "d").symlink_to(tmp_path / "elsewhere")
    (folder / "f").symlink_to(tmp_path / "elsewhere/f")
    for entry in (("outputs/d/a", b"1"), ("outputs/f", b"1")):
        publish(server, archive(entry))
        with pytest.raises(ResultError, match="is there already"):
            fetch_files(client, ref, folder, Rights(["cell"]))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_hostile_manifest_gives_no_right(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A manifest of the wrong form is none; a job can't bring one."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_bytes(b"mine")
    for text in ("[]", "{", json.dumps({"files": {"a": 5}}), json.dumps({"files": {"a": {"owners": "cell", "sha256": 1}}})):
        (folder / MANIFEST).write_text(text)
        publish(server, archive(("outputs/a", b"theirs")))
        with pytest.raises(ResultError):
            fetch_files(client, ref, folder, Rights(["cell"]))
    publish(server, archive((f"outputs/{MANIFEST}", b"{}")))
    with pytest.raises(ResultError):
        fetch_files(client, ref, folder, Rights(["cell"]))
    assert (folder / "a").read_bytes() == b"mine"


def test_no_files_were_published(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A job without a publisher says how files come back."""
    server.on("GET", f"/orchestrator/jobs/{JOB}/results", {"Items": [{"Type": ""}]})
    with pytest.raises(ResultError, match="published no files") as refused:
        fetch_files(client, ref, tmp_path / "out")
    assert "--files" in refused.value.hint


def test_unreachable_publisher(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """An address that can't be reached from here is said, without its path, with what to do."""
    server.on(
        "GET",
        f"/orchestrator/jobs/{JOB}/results",
        {"Items": [{"Type": "urlDownload", "Params": {"URL": "http://127.0.0.1:9/capability.tar.gz"}}]},
    )
    with pytest.raises(ResultError, match=r"http://127\.0\.0\.1:9, which can't be reached from here") as refused:
        fetch_files(client, ref, tmp_path / "out")
    assert "capability" not in str(refused.value)
    assert "the node's publisher address must be open to this machine" in refused.value.hint
    assert "--publisher s3://BUCKET/KEY" in refused.value.hint
    assert "return the data as a value, -o NAME" in refused.value.hint


def test_another_place_gets_no_credential(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """An archive on another origin is fetched without the endpoint's key."""
    with Server() as other:
        other.on("GET", "/e-1.tar.gz", (200, archive(("outputs/a", b"1"))))
        server.on(
            "GET", f"/orchestrator/jobs/{JOB}/results", {"Items": [{"Type": "urlDownload", "Params": {"URL": f"{other.url}/e-1.tar.gz"}}]}
        )
        fetch_files(client, ref, tmp_path / "out")
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("url", "endpoint", "there", "anonymous"),
    [
        ("http://127.0.0.1:6001/e.tar.gz", Endpoint("https://cluster:1234"), "http://cluster:6001/e.tar.gz", True),
        ("http://0.0.0.0:6001/e.tar.gz", Endpoint("http://[fe80::1]:1234"), "http://[fe80::1]:6001/e.tar.gz", True),
        ("http://10.0.0.5:6001/e.tar.gz", Endpoint("http://cluster:1234"), "http://10.0.0.5:6001/e.tar.gz", True),
        ("http://cluster:1234/e.tar.gz", Endpoint("http://cluster:1234"), "http://cluster:1234/e.tar.gz", False),
        ("http://127.0.0.1:6001/results/e.tar.gz?t=1", Endpoint("http://localhost", socket="/s"), "/results/e.tar.gz?t=1", False),
    ],
)
def test_a_nodes_loopback_is_the_endpoints_host(url: str, endpoint: Endpoint, there: str, anonymous: bool) -> None:
    """A loopback address is the node's own: seen from here it is the endpoint's host, or the embedded node's socket."""
    found = source(SpecConfig(type="urlDownload", params={"URL": url}), endpoint)
    assert (found.url, found.anonymous) == (there, anonymous)


@pytest.mark.parametrize(
    "result",
    [
        SpecConfig(type="s3", params={"Bucket": "b"}),
        SpecConfig(type="urlDownload", params={"URL": "file:///etc/passwd"}),
        SpecConfig(type="urlDownload", params={"URL": 5}),
        SpecConfig(type="urlDownload"),
    ],
)
def test_places_that_cant_be_fetched(result: SpecConfig) -> None:
    """A storage that can't be read from here, or an address that is none, is said."""
    with pytest.raises(ResultError):
        source(result, Endpoint("http://cluster:1234"))


def test_directory_is_checked_before_sending(tmp_path: Path) -> None:
    """A file in the folder's place is refused by the option's name."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="--files"):
        check_directory(tmp_path / "file")
    assert check_directory(tmp_path / "new/deep") == tmp_path / "new/deep"


DATA = archive(("outputs/noise", os.urandom(3_000_000)))


def _last_piece_is_kept(folder: Path) -> list[Path]:
    return list(folder.glob(_parts.PREFIX + "*/archive"))


class Cutting:
    """An archive from a server that breaks the connection after `piece` bytes, `cuts` times; knows ranges as `ranges` says."""

    def __init__(self, server: Server, data: bytes, piece: int, *, cuts: int = 99, ranges: bool = True, tag: str = '"1"') -> None:
        publish(server, b"")
        self.data, self.piece, self.cuts, self.ranges, self.tag = data, piece, cuts, ranges, tag
        self.asked: list[str] = []
        server.on("GET", "/e-1.tar.gz", self.answer)

    def answer(self, request: Request) -> Any:
        self.asked.append(request.headers.get("range", ""))
        begin = int(self.asked[-1].removeprefix("bytes=").rstrip("-") or 0)
        if not self.ranges or request.headers.get("if-range", self.tag) != self.tag:
            begin = 0
        rest = self.data[begin:]
        headers = {"ETag": self.tag, "Content-Length": str(len(rest)), "Connection": "close"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}"
        self.cuts -= 1
        return 206 if begin else 200, rest[: self.piece] if self.cuts >= 0 else rest, headers


def test_a_lost_connection_is_gone_on_with(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """Where the connection breaks the download goes on from there, as often as something more comes; it says how far it is."""
    place = Cutting(server, DATA, 400_000)
    said: list[tuple[int, int | None]] = []
    found = fetch_files(client, ref, tmp_path / "out", said=lambda done, total: said.append((done, total)))
    assert found.names == ("noise",)
    assert place.asked[0] == ""
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in place.asked[1:]]
    assert starts == sorted(set(starts))
    assert len(starts) >= 6
    assert said[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_server_without_ranges_is_asked_for_the_whole_again(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """Where a server sends the whole in place of the rest, the whole is taken."""
    place = Cutting(server, DATA, 400_000, cuts=2, ranges=False)
    fetch_files(client, ref, tmp_path / "out")
    assert len(place.asked) == 3
    assert hashlib.sha256((tmp_path / "out/noise").read_bytes()).hexdigest() in (tmp_path / "out" / MANIFEST).read_text()


@pytest.mark.parametrize(
    "lie",
    [
        {"Content-Range": "bytes 5-9/10"},
        {"Content-Range": "bytes 400000-400009/400010"},
        {"Content-Range": "nonsense"},
        {"Content-Range": "bytes 400000-3000500/3000501", "ETag": '"2"'},
    ],
)
def test_the_rest_of_something_else_is_not_taken(server: Server, client: Client, ref: JobRef, tmp_path: Path, lie: dict[str, str]) -> None:
    """A rest that is not of the same content, by its place, its length or its tag, is dropped, and the whole asked for."""
    place = Cutting(server, DATA, 400_000, cuts=1)

    def answer(request: Request) -> Any:
        if request.headers.get("range"):
            return 206, b"x" * 10, {"Content-Length": "10", "Connection": "close", "ETag": '"1"', **lie}
        return place.answer(request)

    server.on("GET", "/e-1.tar.gz", answer)
    fetch_files(client, ref, tmp_path / "out")
    assert place.asked == ["", ""]


def test_a_changed_archive_begins_anew(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """When the content changed since the first bytes, by its ETag, the new one is taken whole."""
    old = Cutting(server, DATA, 400_000, cuts=1)
    old.answer(Request("GET", "/", {}, {}))
    old.cuts = 1

    def answer(request: Request) -> Any:
        found = old.answer(request)
        old.data, old.tag = archive(("outputs/new", b"n")), '"2"'
        return found

    server.on("GET", "/e-1.tar.gz", answer)
    assert fetch_files(client, ref, tmp_path / "out").names == ("new",)


def test_a_plain_archive_that_was_checked_to_its_end_begins_anew_too(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """An archive without compression ends before its padding does: where it changed meanwhile, the new one is checked and taken."""
    place = Cutting(server, archive(("outputs/../old", b"o"), mode="w") + bytes(400_000), 200_000, cuts=1)

    def answer(request: Request) -> Any:
        if place.asked:
            time.sleep(0.2)  # so that the old one is read
            place.data, place.tag = archive(("outputs/new", b"n"), mode="w"), '"2"'
        return place.answer(request)

    server.on("GET", "/e-1.tar.gz", answer)
    assert fetch_files(client, ref, tmp_path / "out").names == ("new",)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "new"]


def test_what_came_is_kept_for_a_later_command(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """After a connection that stays lost what came is kept, said with the command that goes on, and gone on with."""
    place = Cutting(server, DATA, 400_000)
    first = place.answer

    def answer(request: Request) -> Any:
        return first(request) if not place.asked else None

    server.on("GET", "/e-1.tar.gz", answer)
    with pytest.raises(ResultError, match=r"was lost after 400,000 of 3,0\d\d,\d\d\d bytes") as lost:
        fetch_files(client, ref, tmp_path / "out")
    assert f"%bacalhau get {ref.short_id} DIR goes on" in lost.value.hint
    assert not (tmp_path / "out").exists()
    (kept,) = _last_piece_is_kept(tmp_path)
    assert sorted(path.name for path in kept.parent.iterdir()) == ["archive", "facts"]
    server.on("GET", "/e-1.tar.gz", first)
    fetch_files(client, ref, tmp_path / "out")
    assert place.asked[1] == "bytes=400000-"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_part_that_somebody_else_put_there_is_not_used(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A link in a part's place is not followed; what is left of an old download goes."""
    publish(server, DATA)
    name = _parts.PREFIX + hashlib.sha256(f"{ref.endpoint.label}\0{ref.job_id}".encode()).hexdigest()[:16]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    old = tmp_path / (_parts.PREFIX + "old")
    old.mkdir()
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    fetch_files(client, ref, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", "elsewhere", name])


def test_an_interrupt_ends_a_download(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """Who asks for an end gets it at the next piece, and can go on later."""
    Cutting(server, DATA, 400_000, cuts=0)
    with pytest.raises(ResultError, match="interrupted") as ended:
        fetch_files(client, ref, tmp_path / "out", halted=lambda: True)
    assert "goes on from there" in ended.value.hint


def test_a_busy_server_is_asked_again(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A status that passes is tried again, one that doesn't is said."""
    answers = [(503, b""), (200, DATA)]
    publish(server, b"")
    server.on("GET", "/e-1.tar.gz", lambda _: answers.pop(0))
    assert fetch_files(client, ref, tmp_path / "out").names == ("noise",)
    server.on("GET", "/e-1.tar.gz", (403, b""))
    with pytest.raises(ResultError, match="status 403"):
        fetch_files(client, ref, tmp_path / "other")


def test_overwrite_replaces_files_and_nothing_else(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """With overwrite a foreign file is replaced; a link and a folder in the way stay and refuse the whole."""
    folder = tmp_path / "out"
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_bytes(b"foreign")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    publish(server, archive(("outputs/a", b"new")))
    with pytest.raises(ResultError, match="did not come from this cell") as refused:
        fetch_files(client, ref, folder)
    assert "--overwrite" in refused.value.hint
    fetch_files(client, ref, folder, Rights(overwrite=True))
    assert (folder / "a").read_bytes() == b"new"
    for name in ("d", "link"):
        publish(server, archive(("outputs/a", b"newer"), (f"outputs/{name}", b"x")))
        with pytest.raises(ResultError, match=f"'{name}'"):
            fetch_files(client, ref, folder, Rights(overwrite=True))
    assert (folder / "a").read_bytes() == b"new"
    assert (folder / "link").is_symlink()


def test_the_same_files_again_are_in_nobody_s_way(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A file that is there with the very same content may come again, from whatever command."""
    publish(server, archive(("outputs/a", b"1")))
    fetch_files(client, ref, tmp_path / "out")
    assert fetch_files(client, ref, tmp_path / "out").names == ("a",)


def test_the_manifest_says_what_came_from_which_job(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """The manifest has each file's hash, size, job and cell; what an earlier run of the cell left beside them is named."""
    folder = tmp_path / "out"
    publish(server, archive(("outputs/a", b"1"), ("outputs/b", b"22")))
    fetch_files(client, ref, folder, Rights(["cell"]))
    publish(server, archive(("outputs/a", b"3")))
    found = fetch_files(client, ref, folder, Rights(["cell"]))
    assert found.left == ("b",)
    kept = json.loads((folder / MANIFEST).read_text())["files"]
    assert kept["a"] == {"sha256": hashlib.sha256(b"3").hexdigest(), "size": 1, "job": ref.job_id, "owners": ["cell"]}
    assert kept["b"]["size"] == 2
    (folder / "b").unlink()
    fetch_files(client, ref, folder, Rights(["cell"]))
    assert list(json.loads((folder / MANIFEST).read_text())["files"]) == ["a"]


def move(folder: Path, aside: Path, files: dict[Path, str]) -> None:
    with Moving(folder, aside) as moving:
        for source, place in files.items():
            moving.file(source, PurePosixPath(place))


def test_files_are_moved_all_or_none(tmp_path: Path) -> None:
    """When a move fails midway, what was there before is there again and what was new is gone, folders included."""
    folder, staged = tmp_path / "deep/out", tmp_path / "staged"
    (folder / "d").mkdir(parents=True)
    staged.mkdir()
    for name in ("a", "b", "c"):
        (staged / name).write_text(f"new {name}")
    (folder / "a").write_text("old a")
    (folder / "d/b").write_text("old b")
    with pytest.raises(FileNotFoundError):
        move(folder, tmp_path / "aside", {staged / "a": "a", staged / "b": "d/b", staged / "c": "e/f/c", staged / "gone": "g"})
    assert {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()} == {
        "a": "old a",
        "d/b": "old b",
    }
    assert not (folder / "e").exists()
    assert list(staged.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "x/y", tmp_path / "aside-2", {staged / "gone": "g"})
    assert not (tmp_path / "x").exists()


def test_a_wrong_checksum_is_damage(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """An archive whose content does not fit its own checksum is refused, also where it can be unpacked."""
    data = archive(("outputs/a", b"1" * 5000))
    publish(server, data[:-8] + bytes(4) + data[-4:])
    with pytest.raises(ResultError, match="damaged"):
        fetch_files(client, ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alike", [True, False], ids=["one job", "many jobs"])
def test_many_jobs_into_one_folder(ref: JobRef, tmp_path: Path, alike: bool) -> None:
    """Jobs that bring their files into one folder at the same time all arrive, and all stand in its manifest."""
    names = [f"{number}.txt" for number in range(48)]

    def bring(name: str) -> tuple[str, ...]:
        job = ref if alike else replace(ref, job_id=f"j-{name}")
        return unpack_files(archive((f"outputs/{name}", name.encode())), job, tmp_path / "out", Rights(["cell"])).names

    with ThreadPoolExecutor(12) as threads:
        assert [found for (found,) in threads.map(bring, names)] == names
    assert set(json.loads((tmp_path / "out" / MANIFEST).read_text())["files"]) == set(names)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([MANIFEST, *names])
