"""A job's files: fetched from where they lie, checked before a byte is written, never over what is not theirs."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import JOB, Server

from bacalhau_magic._stages import Credential, Endpoint, JobRef
from bacalhau_magic._wire import SpecConfig
from bacalhau_magic.client import Client, check_directory, fetch_files
from bacalhau_magic.client._download import source
from bacalhau_magic.client._files import MANIFEST
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
def server() -> Iterator[Server]:
    with Server() as found:
        yield found


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
    found = fetch_files(client, ref, tmp_path / "out", owners=["cell"])
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
    ],
    ids=["parent", "absolute", "twice", "below a file"],
)
def test_archives_that_lead_astray(server: Server, client: Client, ref: JobRef, tmp_path: Path, entries: list[Entry]) -> None:
    """Paths that lead outside, duplicates and files used as folders refuse the whole; nothing is written."""
    publish(server, archive(("outputs/good", b"g"), *entries))
    with pytest.raises(ResultError):
        fetch_files(client, ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


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


def test_a_cell_replaces_its_own_files_only(server: Server, client: Client, ref: JobRef, tmp_path: Path) -> None:
    """A second run of the same cell replaces what the first wrote; another cell's, a changed and a foreign file stay."""
    folder = tmp_path / "out"
    publish(server, archive(("outputs/a", b"1")))
    fetch_files(client, ref, folder, owners=["cell-1"])
    publish(server, archive(("outputs/a", b"2")))
    with pytest.raises(ResultError, match="did not come from this cell"):
        fetch_files(client, ref, folder, owners=["cell-2"])
    fetch_files(client, ref, folder, owners=["cell-1", "moved"])
    assert (folder / "a").read_bytes() == b"2"
    (folder / "a").write_bytes(b"mine")
    publish(server, archive(("outputs/a", b"3"), ("outputs/b", b"b")))
    with pytest.raises(ResultError, match="was changed since"):
        fetch_files(client, ref, folder, owners=["cell-1"])
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
            fetch_files(client, ref, folder, owners=["cell"])
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
            fetch_files(client, ref, folder, owners=["cell"])
    publish(server, archive((f"outputs/{MANIFEST}", b"{}")))
    with pytest.raises(ResultError):
        fetch_files(client, ref, folder, owners=["cell"])
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
    assert "open to this machine" in refused.value.hint


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
