"""Cassettes are read with distrust: what is not as it was recorded is a named error, before memory or a file is taken."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bacalhau_magic._cassettes import Cassette
from bacalhau_magic._content import Content, content_of, secrets_of
from bacalhau_magic._flow import _replay
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._ledger import Ledger
from bacalhau_magic._recordings import Recording
from bacalhau_magic._settings import Settings
from bacalhau_magic._stages import CellRequest, Ended, Endpoint, InputItem, JobEvent, JobRecord, JobRef, JobResult, PhaseChanged, Printed
from bacalhau_magic._tapes import Cache, Player
from bacalhau_magic._wire import Job, State, Task
from bacalhau_magic.errors import CorruptResultError, RecordingError, ResultError
from bacalhau_magic.options import JobOptions, validated
from bacalhau_magic.remote import codec
from bacalhau_magic.remote.packets import pack_bundle

CONTENT = Content("python", "x\n", {"n": "int, 1 bytes"}, {"--cpu": "2"})
REF = JobRef("j-54785d3f-aaaa-bbbb-cccc-dddddddddddd", Endpoint("https://cluster.example.org:1234"), name="python-1a2b3c4d")
BLOB = pack_bundle({"outcome": "ok", "exit_code": 0}, [("stdout", "", b"hello\n"), ("value", "", codec.dumps([1, 2]))])


def recording(blob: bytes | None = BLOB, printed: str = "hello\n") -> Recording:
    job = Job(tasks=[Task(meta={"bacalhau-magic/nonce": "ab" * 8})], state=State(state_type="Completed"))
    events: tuple[JobEvent, ...] = (PhaseChanged("running", "worker-7.example.org"), Printed("stdout", printed))
    return Recording(events, Ended(JobRecord(job), blob), None, "2026-01-02", "bubblewrap")


@pytest.fixture
def cassette(tmp_path: Path) -> Cassette:
    made = Cassette(tmp_path / "c.yaml")
    made.keep(CONTENT, recording(), REF)
    return made


def taken(cassette: Cassette) -> Recording:
    return Player(cassette.file).take(CONTENT)


def replayed(found: Recording, folder: Path, files: Path | None = None) -> JobResult:
    """A recording as the flow tells it."""
    from bacalhau_magic._flow import Means

    means = Means(Settings({}), lambda _: pytest.fail("asked for a node"), lambda _: pytest.fail("asked for a client"), Ledger(None), set())
    request = CellRequest("x", JobOptions(), BUILT_IN["python"], files=files)
    return _replay(found, Player(folder / "c.yaml"), CONTENT, request, means, lambda _: None)


def test_it_comes_back_as_it_was(cassette: Cassette, tmp_path: Path) -> None:
    """What was recorded is read again: events, texts, result; nodes have other names."""
    found = taken(cassette)
    assert found.events == (PhaseChanged("running", "n-00000001"), Printed("stdout", "hello\n"))
    assert (found.ended.blob, found.recorded, found.executor) == (BLOB, "2026-01-02", "bubblewrap")
    assert replayed(found, tmp_path).value == [1, 2]
    assert "example.org" not in cassette.file.read_text()


def test_a_long_text_lies_apart(tmp_path: Path) -> None:
    """A long log does not stand between the facts, and comes back whole."""
    made = Cassette(tmp_path / "c.yaml")
    made.keep(CONTENT, recording(printed="line\n" * 5000), REF)
    assert len(made.file.read_text()) < 2000
    assert taken(made).events[1] == Printed("stdout", "line\n" * 5000)


def _part(cassette: Cassette) -> Path:
    (path,) = cassette.parts.iterdir()
    return path


def _edited(cassette: Cassette, *steps: str | int, value: object) -> None:
    fact = next(yaml.safe_load_all(cassette.file.read_text()))
    at = fact
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    cassette.file.write_text(yaml.safe_dump(fact))


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _bomb(cassette: Cassette) -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]", *(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    cassette.file.write_text("\n".join(lines))


OUTSIDE = {"part": "../../etc/passwd", "size": 10}
HOSTILE: dict[str, tuple[Callable[[Cassette], object], str]] = {
    "part with another content": (lambda c: _part(c).write_bytes(b"x" * _part(c).stat().st_size), "checksum is wrong"),
    "part that is shorter": (lambda c: _part(c).write_bytes(b"x"), "checksum is wrong"),
    "part that is longer": (lambda c: _part(c).write_bytes(BLOB * 2), "is larger than"),
    "part that is a link": (lambda c: _linked(_part(c)), "it is a link"),
    "part that is a pipe": (lambda c: _fifo(_part(c)), "is no regular file"),
    "part that is gone": (lambda c: _part(c).unlink(), "No such file"),
    "folder that is a link": (lambda c: _linked(c.parts), "is a link"),
    "file that is a link": (lambda c: _linked(c.file), "it is a link"),
    "file that is a pipe": (lambda c: _fifo(c.file), "is no regular file"),
    "file that is too large": (lambda c: c.file.write_bytes(b"#" * 16_000_001), "is larger than"),
    "path outside": (lambda c: _edited(c, "end", "result", value=OUTSIDE), "end.result.part"),
    "part of an endless size": (lambda c: _edited(c, "end", "result", "size", value=1 << 40), "end.result.size"),
    "parts that are too large": (lambda c: _edited(c, "end", "result", "size", value=1 << 31), "larger than 256 MB"),
    "aliases": (_bomb, "it has an alias"),
    "a tag": (lambda c: c.file.write_text("!!python/object/apply:os.system [id]"), "could not determine a constructor"),
    "depth": (lambda c: c.file.write_text("[" * 5000 + "]" * 5000), "nested too deeply"),
    "a huge number": (lambda c: _edited(c, "take", value="9" * 50), "take"),
    "another fact": (lambda c: _edited(c, "surprise", value=1), "surprise"),
    "another format": (lambda c: _edited(c, "format", value=2), "format"),
    "another phase": (lambda c: _edited(c, "events", 0, "phase", value="<b>"), "events.0.phase"),
    "a list for a text": (lambda c: _edited(c, "cell", "code", value=["x"]), "cell.code"),
    "no YAML": (lambda c: c.file.write_text("a: b: c"), "line 1"),
    "no text": (lambda c: c.file.write_bytes(b"\xff\xfe\x00"), "can't"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_cassette_is_a_named_error(cassette: Cassette, name: str) -> None:
    """A cassette that was tampered with is an error that names the file and what is wrong, and little memory is taken for it."""
    spoil, said = HOSTILE[name]
    spoil(cassette)
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError) as wrong:
            taken(cassette)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    assert said in wrong.value.message
    assert "c.yaml" in wrong.value.message
    assert "root:" not in str(wrong.value)
    assert len(wrong.value.message) < 500


def test_a_hostile_result_is_decoded_as_any(cassette: Cassette, tmp_path: Path) -> None:
    """A part whose checksum is right and whose content is no result is the error that a node's would be."""
    data = b"BMR1" + b"\xff" * 40
    name = f"{hashlib.sha256(data).hexdigest()}.bin"
    (cassette.parts / name).write_bytes(data)
    _edited(cassette, "end", "result", value={"part": name, "size": len(data)})
    assert isinstance(replayed(taken(cassette), tmp_path).error, CorruptResultError)


def test_hostile_files_are_refused_as_any(tmp_path: Path) -> None:
    """An archive with a path that leads outside writes nothing."""
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        entry = tarfile.TarInfo("outputs/../../outside")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    found = recording()
    spoilt = Recording(found.events, found.ended, data.getvalue(), found.recorded)
    result = replayed(spoilt, tmp_path, tmp_path / "in/out")
    assert isinstance(result.error, ResultError)
    assert not list(tmp_path.rglob("outside"))


def test_a_secret_is_refused_in_every_coding(tmp_path: Path) -> None:
    """A secret that stands anywhere in a recording, also compressed or encoded, keeps all of it from being written."""
    made = Cassette(tmp_path / "c.yaml")
    import base64

    within = [base64.b64encode(text).decode() for text in (b"user:pass word/1", b"pass word/1:x", b"to user:pass word/1@host")]
    for text in ("pass word/1", "pass%20word%2F1", "cGFzcyB3b3JkLzE=", *within, b"pass word/1".hex(), b"pass word/1".hex().upper()):
        blob = pack_bundle({"outcome": "ok"}, [("value", "", codec.dumps("-" * 5000 + text))])
        with pytest.raises(RecordingError, match="a secret's value"):
            made.keep(CONTENT, recording(blob), REF, secrets=["pass word/1"])
        with pytest.raises(RecordingError, match="a secret's value"):
            made.keep(CONTENT, recording(printed=text), REF, secrets=["pass word/1"])
    assert list(tmp_path.iterdir()) == []


def test_a_large_input_is_hashed_in_pieces(tmp_path: Path) -> None:
    """What a cell is to the cache is found without its files in memory."""
    file = tmp_path / "large.bin"
    with file.open("wb") as sparse:
        sparse.truncate(64_000_000)
    item = InputItem("large", "file", "large.bin", 64_000_000, source=file)
    tracemalloc.start()
    try:
        content = content_of(CellRequest("x", JobOptions(), BUILT_IN["python"], inputs=(item,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert content.inputs["large"].startswith("file, 64000000 bytes, sha256 ")
    assert peak < 8_000_000


def test_a_plain_word_in_an_env_file_is_no_secret() -> None:
    """Short values under plain names from an env file are not looked for; long ones are, and all under a name that sounds like a secret's."""
    env = {"DEBUG": "true", "LEVEL": "info", "DB": "postgres://a:b@c/d", "API_KEY": "k3y!", "GIVEN": "on-the-line"}
    request = CellRequest(
        "x", validated({"env": {"GIVEN": "on-the-line"}, "secret": ["S"]}), BUILT_IN["python"], env=env, secrets={"S": "tiny"}
    )
    assert secrets_of(request) == ("postgres://a:b@c/d", "k3y!", "tiny")


def test_names_of_secrets_count_and_values_do_not() -> None:
    """A cell with another secret's name is another cell; with another value, or value of a variable that sounds like one, it is the same."""

    def key(secret: dict[str, str], **env: str) -> str:
        options = validated({"secret": list(secret), "env": env})
        return content_of(CellRequest("x", options, BUILT_IN["python"], secrets=secret, env=env)).key

    assert key({"A": "one-value"}) == key({"A": "another-value"})
    assert key({"A": "one-value"}) != key({"B": "one-value"})
    assert key({}) not in (key({"A": "one-value"}), key({}, PLAIN="1"))
    for name in ("API_TOKEN", "MYPASS", "DB_CREDS", "ROOT_PWD", "MAX_TOKENS", "SSHKEY"):
        assert key({}, **{name: "one"}) == key({}, **{name: "two"}), name
    assert key({}, PLAIN="1") != key({}, PLAIN="2")


def test_a_damaged_file_is_not_written_over(cassette: Cassette) -> None:
    """What can't be read is not replaced by a recording: the error says so."""
    cassette.file.write_text("a: b: c")
    with pytest.raises(RecordingError):
        cassette.keep(CONTENT, recording(), REF)
    assert cassette.file.read_text() == "a: b: c"


def test_foreign_files_beside_the_parts_stay(cassette: Cassette) -> None:
    """Recording again removes parts that nothing names any more, and no other file."""
    (cassette.parts / "notes.txt").write_text("mine")
    cassette.keep(CONTENT, recording(pack_bundle({"outcome": "ok"}, [])), REF)
    assert sorted(path.suffix for path in cassette.parts.iterdir()) == [".bin", ".txt"]


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """The results that were used least lately go first; a damaged one is made again."""

    class Small(Cache):
        MOST = 3

    cache = Small(tmp_path / "results")
    contents = [Content("python", f"{number}\n") for number in range(5)]
    for age, content in enumerate(contents):
        cache.keep(content, recording(), REF, secrets=())
        file = cache.folder / f"{content.key}.yaml"
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 100 + age))
    assert [bool(cache.take(content)) for content in contents] == [False, False, True, True, True]
    (cache.folder / f"{contents[4].key}.yaml").write_text("damaged")
    assert cache.take(contents[4]) is None
    cache.keep(contents[4], recording(), REF, secrets=())
    assert cache.take(contents[4])
    os.utime(cache.folder / f"{contents[2].key}.yaml", (0, 0))
    cache.prune()
    assert cache.take(contents[2]) is None
