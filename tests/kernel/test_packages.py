"""Packages of a cell, from an index on loopback that wants a password, in a real kernel on the embedded node."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from index import PASSWORD, Index, served, wheel
from kernels import Kernel

STORE = Path(os.environ["XDG_DATA_HOME"])
OPEN = """
import socket, tiny_pack
try:
    socket.create_connection(("127.0.0.1", {port}), 5)
    found = "open"
except OSError:
    found = "closed"
try:
    open(tiny_pack.__file__, "a")
    found += ", writable"
except OSError:
    found += ", read-only"
found"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "tiny-dep", "2.0")
    wheel(folder, "tiny-pack", "1.0", needs=("tiny-dep>=1",))
    wheel(folder, "tiny-tool", files={"tiny_tool/__init__.py": "", "tiny_tool/__main__.py": "print('a tool')"})
    with served(folder) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def variables(shell: Kernel, index: Index) -> None:
    """The kernel's pip is configured for that index alone."""
    shell.run("import os\nfor name in list(os.environ):\n    if name.startswith(('PIP_', 'UV_')): del os.environ[name]")
    shell.run(f"os.environ.update({index.variables!r})")


def log(shell: Kernel) -> str:
    return eval(shell.run("''.join(line + '\\n' for _, line in _bacalhau.logs())").value or "''")


def test_packages_and_what_they_need_are_there(shell: Kernel, index: Index) -> None:
    """A cell imports what --pip names and what that needs; the output of the install is in the log alone, without the index's address."""
    ran = shell.run("%%bacalhau --pip tiny-pack\nimport tiny_pack, tiny_dep\ntiny_pack.version, tiny_dep.version")
    assert ran.value == "('1.0', '2.0')", ran.text
    assert [output["type"] for output in ran.outputs] == ["display_data", "execute_result"]
    said = log(shell)
    assert "tiny-pack" in said
    assert "tiny-dep" in said
    assert index.host not in said
    assert PASSWORD not in said
    assert shell.run("any(getattr(e, 'phase', '') == 'installing' for e in _bacalhau.events)").value == "True"


def test_the_same_packages_are_installed_once(shell: Kernel, index: Index) -> None:
    """A second cell with the same packages asks no index, and its log has nothing of an install."""
    assert shell.run("%%bacalhau --pip tiny-dep\nimport tiny_dep\n1").value == "1"
    before = len(index.asked)
    assert shell.run("%%bacalhau --pip tiny-dep\nimport tiny_dep\n2").value == "2"
    assert len(index.asked) == before > 0
    assert log(shell) == ""


@pytest.mark.bubblewrap
def test_the_cell_has_no_network_and_can_not_change_them(shell: Kernel, index: Index) -> None:
    """The network is open for the install alone; what was installed is read-only for the cell."""
    cell = OPEN.format(port=index.server.server_port)
    assert shell.run(f"%%bacalhau --pip tiny-pack\n{cell}").value == "'closed, read-only'"


def test_a_file_and_a_block_name_packages(shell: Kernel, place: Path) -> None:
    """A requirements file with another one in it, and a PEP 723 block in the cell, name packages too."""
    (place / "more.txt").write_text("tiny-dep == 2.0  # pinned\n")
    (place / "needs.txt").write_text("# what it needs\n-r more.txt\ntiny-tool\n")
    assert shell.run("%%bacalhau -r needs.txt\nimport tiny_dep, tiny_tool\ntiny_dep.version").value == "'2.0'"
    block = (
        "# /// script\n# requires-python = '>=3.8'\n# dependencies = [\n#   'tiny-pack',\n# ]\n# ///\nimport tiny_pack\ntiny_pack.version"
    )
    assert shell.run(f"%%bacalhau\n{block}").value == "'1.0'"


def test_processes_of_the_cell_have_them_too(shell: Kernel) -> None:
    """A Python that the cell starts finds the packages."""
    cell = "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'tiny_tool'], capture_output=True, text=True).stdout"
    assert shell.run(f"%%bacalhau --pip tiny-tool\n{cell}").value == r"'a tool\n'"


def test_a_package_that_is_not_there(shell: Kernel) -> None:
    """A failed install is a JobFailedError that names the package and what to do, and the cell did not begin."""
    ran = shell.run("%%bacalhau --pip 'tiny-pack no-such-pack'\nprint('begun')")
    assert ran.error is not None
    assert ran.error[0] == "JobFailedError", ran.text
    assert "The package no-such-pack could not be installed: the index has no such package" in ran.text
    assert "Correct the name or the version" in ran.text
    assert "begun" not in ran.text


def test_a_missing_module_names_the_option(shell: Kernel) -> None:
    """A module that is not in the job is an error that says which option brings it."""
    ran = shell.run("%%bacalhau\nimport sklearn_that_is_not_here.parts")
    assert "→ Add --pip sklearn_that_is_not_here, or choose an --image that has it." in ran.text


def test_an_index_that_is_away_is_no_wrong_name(shell: Kernel, index: Index) -> None:
    """Where the index does not answer, the advice is of the network and of no other name or version."""
    shell.run("os.environ['PIP_INDEX_URL'] = 'http://127.0.0.1:9/simple'")
    ran = shell.run("%%bacalhau --pip tiny-away\n1")
    shell.run(f"os.environ.update({index.variables!r})")
    assert "The packages could not be installed (tiny-away): the index did not answer." in ran.text
    assert "Try again when this machine, or the node, reaches its package index" in ran.text
    assert "Correct the name" not in ran.text


def test_the_index_stands_nowhere(shell: Kernel, index: Index) -> None:
    """Neither the spec, the ledger nor any file of the node has the index's address or password."""
    assert shell.run("%%bacalhau --pip 'tiny-pack tiny-tool'\n3").value == "3"
    shown = shell.run("print(get_ipython().run_line_magic('bacalhau', 'spec last'))").text
    assert "bacalhau-magic/packages" in shown
    places = [path for path in STORE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert any(path.name == "node.db" for path in places)
    for text in (shown.encode(), *(path.read_bytes() for path in places)):
        assert PASSWORD.encode() not in text
        assert index.host.encode() not in text


def test_prune_removes_them(shell: Kernel) -> None:
    """`node prune` removes what was installed, and the next cell installs it again."""
    folders = list(STORE.rglob("packages/*/tiny_dep.py"))
    assert folders
    done = subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "prune"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(folder.exists() for folder in folders)
    assert shell.run("%%bacalhau --pip tiny-dep\nimport tiny_dep\n4").value == "4"


def test_on_a_cluster_the_job_s_network_is_open_for_them(shell: Kernel, cluster: Cluster, index: Index) -> None:
    """A cluster gets the requirements in the job, with an open network, which is said, and nothing of the index; a network of the line's own is kept."""
    shell.run(f"%bacalhau config api_url={cluster.url}")
    ran = shell.run("%%bacalhau --bg --job sent -q --pip 'tiny-pack tiny-dep>=1'\n1")
    shell.run("%%bacalhau --bg -q --pip tiny-pack --network http --domain example.org\n1")
    assert ran.error is None, ran.text
    assert shell.run("[n for n in sent.snapshot.notices if 'network' in n]").value == "['The job installs packages: its network is full.']"
    shell.run("%bacalhau config api_url=")
    first, second = (job["Tasks"][0] for job in cluster.sent[-2:])
    assert first["Network"]["Type"] == "Full"
    assert second["Network"] == {"Type": "HTTP", "Domains": ["example.org"]}
    archive = base64.b64decode(first["InputSources"][0]["Source"]["Params"]["URL"].partition(",")[2])
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        inner = files.extractfile(".bacalhau/requirements.txt")
        assert inner is not None
        assert inner.read() == b"tiny-pack\ntiny-dep>=1\n"
        everything = b"".join(files.extractfile(member).read() for member in files if member.isfile())  # type: ignore[union-attr]
    assert PASSWORD.encode() not in everything
    assert index.host.encode() not in everything
    assert "Authorization" not in str(first)


def test_what_a_cluster_s_image_lacks_is_said_with_the_option(shell: Kernel, cluster: Cluster) -> None:
    """Imports that the image does not have are named before sending, with --pip; what the packages bring is not."""
    shell.run(f"%bacalhau config api_url={cluster.url}")
    shell.run("%%bacalhau --bg --job first -q\nimport pandas, sklearn")
    shell.run("%%bacalhau --bg --job second -q --pip pandas\nimport pandas, numpy")
    shell.run("open('beside.py', 'w').write('')")
    shell.run("%%bacalhau --bg --job third -q\nimport beside")
    shell.run("%bacalhau config api_url=")
    noticed = (
        eval(shell.run(f"[n for n in {name}.snapshot.notices if 'lacks' in n]").value or "0") for name in ("first", "second", "third")
    )
    first, second, third = noticed
    assert len(first) == 1
    assert "lacks: pandas, sklearn. Add --pip 'pandas scikit-learn', or choose an --image that has them." in first[0]
    assert second == []
    assert third[0].endswith("lacks: beside. Send -i ./beside.py."), "an own module is no package"


def test_a_cell_without_packages_carries_nothing_of_them(shell: Kernel, cluster: Cluster) -> None:
    """A plain cell's job is as it was: no mark, no file, no open network."""
    shell.run(f"%bacalhau config api_url={cluster.url}")
    shell.run("%%bacalhau --bg -q\n1")
    shell.run("%bacalhau config api_url=")
    task = cluster.sent[-1]["Tasks"][0]
    archive = base64.b64decode(task["InputSources"][0]["Source"]["Params"]["URL"].partition(",")[2])
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        names = files.getnames()
    assert task["Network"]["Type"] == "None"
    assert not any("packages" in name or "requirements" in name for name in [*names, *task["Meta"]])
