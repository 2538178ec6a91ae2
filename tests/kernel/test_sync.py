"""--sync imports: a job installs what is imported, in the versions that are installed here; from an index on loopback, in a real kernel."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from index import Index, served, wheel
from kernels import Kernel


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that are installed for the kernel alone: older than the index's newest."""
    folder = tmp_path_factory.mktemp("site")
    made = tmp_path_factory.mktemp("made")
    linked = wheel(made, "linked-pack", "1.0")
    for file in (
        wheel(made, "tiny-pack", "1.0"),
        wheel(made, "odd-name", "1.5", files={"oddly.py": "version = '1.5'\n"}),
        wheel(made, "local-pack", "2.0+cu1", files={"local_pack.py": ""}),
        linked,
    ):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
    (folder / "linked_pack-1.0.dist-info" / "direct_url.json").write_text(
        json.dumps({"url": "file:///src", "dir_info": {"editable": True}})
    )
    (folder / "loose.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "9.0"):
        wheel(folder, "tiny-pack", version)
    for version in ("1.5", "9.0"):
        wheel(folder, "odd-name", version, files={"oddly.py": f"version = {version!r}\n"})
    with served(folder) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def here(shell: Kernel, index: Index, site: Path) -> None:
    shell.run("import os, sys\nfor name in list(os.environ):\n    if name.startswith(('PIP_', 'UV_')): del os.environ[name]")
    shell.run(f"os.environ.update({index.variables!r})\nsys.path.append({str(site)!r})")


CELL = "import json, tiny_pack\nfrom oddly import version\ntiny_pack.version, version"


def test_what_is_imported_is_installed_in_the_version_of_here(shell: Kernel) -> None:
    """The packages of the imports, whatever these are called, come in this kernel's versions; without --sync in the index's newest."""
    newest = shell.run(f"%%bacalhau --pip 'tiny-pack odd-name'\n{CELL}")
    assert newest.value == "('9.0', '9.0')", newest.text
    ran = shell.run(f"%%bacalhau --sync imports\n{CELL}")
    assert ran.value == "('1.0', '1.5')", ran.text
    assert shell.run("_bacalhau.request.options.pip").value == "('tiny-pack==1.0', 'odd-name==1.5')"
    assert "in the versions of here: tiny-pack==1.0, odd-name==1.5" in shell.run("_bacalhau.request.notices").text


def test_what_is_named_beats_what_is_here(shell: Kernel) -> None:
    """A package that --pip names is installed as it says."""
    ran = shell.run(f"%%bacalhau --sync imports --pip tiny_pack==9.0\n{CELL}")
    assert ran.value == "('9.0', '1.5')", ran.text


def test_definitions_import_too(shell: Kernel) -> None:
    """What a function that is sent imports is installed as well."""
    shell.run("import tiny_pack\ndef told():\n    import oddly\n    return tiny_pack.version, oddly.version")
    ran = shell.run("%%bacalhau --sync imports -i told\ntold()")
    assert ran.value == "('1.0', '1.5')", ran.text


def test_the_standard_library_needs_nothing(shell: Kernel) -> None:
    """A cell that imports nothing else installs nothing."""
    assert shell.run("%%bacalhau --sync imports\nimport os, json.decoder\n1").value == "1"
    assert shell.run("_bacalhau.request.options.pip").value == "()"


def test_a_module_that_is_sent_is_no_package(shell: Kernel, place: Path) -> None:
    """A file that goes along by -i is not looked for among the packages."""
    (place / "mine.py").write_text("x = 5\n")
    cell = "import sys\nsys.path.insert(0, 'inputs')\nimport mine\nmine.x"
    assert shell.run(f"%%bacalhau --sync imports -i ./mine.py\n{cell}").value == "5"
    refused = shell.run(f"%%bacalhau --sync imports\n{cell}")
    assert refused.error is not None
    assert "mine is a module of this machine" in refused.error[1]
    assert "-i ./mine.py, and import it in the cell by import sys; sys.path.insert(0, 'inputs'); import mine" in refused.text


@pytest.mark.parametrize(
    ("line", "said", "advice"),
    [
        ("import linked_pack", "linked_pack is of the package linked-pack, which is installed in editable mode", "-i"),
        ("import not_here_at_all", "not_here_at_all is not installed here", "--pip not_here_at_all"),
        ("import loose", "loose is a module of this machine", "/loose.py, and import it in the cell by"),
    ],
)
def test_what_has_no_version_on_an_index_is_refused_by_name(shell: Kernel, index: Index, line: str, said: str, advice: str) -> None:
    """An editable package, a module without a package, and one that isn't here are named, with what to do; nothing is sent."""
    before = len(index.asked)
    ran = shell.run(f"%%bacalhau --sync imports\n{line}")
    assert ran.error is not None, ran.text
    assert ran.error[0] == "PackingError"
    assert said in ran.error[1]
    assert advice in ran.text
    assert len(index.asked) == before


def test_a_build_s_own_label_is_left_out(shell: Kernel) -> None:
    """An index knows no local version such as +cu1: the published version is asked for."""
    ran = shell.run("%%bacalhau --sync imports -n\nimport local_pack\n1")
    assert ran.error is None, ran.text
    ran = shell.run("%%bacalhau --sync imports\nimport local_pack\n1")
    assert ran.error is not None
    assert "local-pack" in ran.error[1]
    assert shell.run("_bacalhau.request.options.pip").value == "('local-pack==2.0',)"


def test_network_none_can_not_be_kept(shell: Kernel) -> None:
    """Packages come over the network, so that --network none is refused beside them."""
    ran = shell.run("%%bacalhau --sync imports --network none\nimport tiny_pack")
    assert ran.error is not None
    assert "--network none can't be kept" in ran.error[1]


def test_in_other_languages_it_has_no_effect(shell: Kernel) -> None:
    """Bash imports nothing: the option is refused."""
    ran = shell.run("%%bacalhau --lang bash --sync imports\necho 1")
    assert ran.error is not None
    assert "--sync has no effect" in ran.error[1]
