"""The wrapper installs a cell's packages itself, as it does on a cluster: by uv where it is on PATH, else by pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from index import PASSWORD, served, wheel

from bacalhau_magic import _bundles, _packets, remote
from bacalhau_magic.remote import codec

NONCE = "00112233445566778899"

BY = {"uv": os.pathsep.join((os.path.dirname(sys.executable), os.defpath)), "pip": os.defpath}


@pytest.fixture
def index(tmp_path):
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "tiny-dep", "2.0")
    wheel(tmp_path / "wheels", "tiny-pack", "1.0", needs=("tiny-dep",))
    with served(tmp_path / "wheels") as found:
        yield found


@pytest.fixture
def install(tmp_path, index, laid_out):
    """Runs a cell with packages: (exit code, packets and text in their order, the bundle, what is left in the temporary folder)."""

    def run(by, code, asked):
        own = laid_out(tmp_path / "job", code, "python", {}, packages=True, nonce=NONCE)
        shutil.copy(Path(remote.__file__).with_name("packages.py"), own)
        (own / "requirements.txt").write_text("".join(f"{line}\n" for line in asked))
        (own / "packages").mkdir()
        temp = tmp_path / "tmp"
        temp.mkdir()
        done = subprocess.run(
            [sys.executable, "-u", str(own / "bootstrap.py"), str(tmp_path / "outputs")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            env={"PATH": BY[by], "TMPDIR": str(temp), "HOME": str(temp), **index.variables},
            check=False,
        )
        assembler = _packets.Assembler(NONCE)
        events = [*assembler.feed(1, done.stdout.decode()), *assembler.finish()]
        bundle = _bundles.open_bundle(assembler.blob(), 1 << 30)
        return done.returncode, events, bundle, [path for path in Path(temp).rglob("*") if "work-" in str(path)]

    return run


@pytest.mark.parametrize("by", BY)
def test_packages_come_before_the_cell(install, index, by):
    """The phase comes first, then the installer's words without the index's address, then the cell, which has its packages; nothing stays."""
    code, events, bundle, left = install(by, "import tiny_pack, tiny_dep\ntiny_pack.version, tiny_dep.version", ["tiny-pack"])
    assert code == 0
    assert codec.loads(bundle.parts["value"]) == ("1.0", "2.0")
    kinds = [event.kind if isinstance(event, _packets.Packet) else "text" for event in events]
    assert kinds[0] == "p"
    assert kinds.index("text") < kinds.index("s")
    said = "".join(event.text for event in events if isinstance(event, _packets.Text))
    assert "tiny-pack" in said
    assert ("Successfully installed" in said) == (by == "pip")
    assert index.host not in said
    assert PASSWORD not in said
    assert bundle.stdout == b""
    assert left == []


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("no-such-pack", "The package no-such-pack could not be installed: the index has no such package, or no version for this Python."),
        ("tiny-pack==9", "The package tiny-pack==9 could not be installed: the index has no such package, or no version for this Python."),
    ],
)
def test_a_failed_install_names_the_package(install, by, asked, said):
    """What can't be installed is named in the result, and the cell does not begin."""
    code, events, bundle, left = install(by, "print('begun')", ["tiny-dep", asked])
    assert code == 1
    assert (bundle.outcome, bundle.error["ename"], bundle.error["evalue"]) == ("exit", "InstallError", said)
    assert not any(isinstance(event, _packets.Packet) and event.kind == "s" for event in events)
    assert left == []


@pytest.mark.parametrize("by", BY)
def test_an_index_that_does_not_answer(install, index, by):
    """Where the index is away the result says so."""
    index.server.shutdown()
    index.server.server_close()
    _, _, bundle, _ = install(by, "1", ["tiny-dep"])
    assert bundle.error["evalue"] == "The packages could not be installed (tiny-dep): the index did not answer."
