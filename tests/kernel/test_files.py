"""What a cell writes to outputs/, in --files, from a real kernel."""

from __future__ import annotations

from pathlib import Path

from kernels import Kernel, start

from bacalhau_magic._filetree import FileTree

WRITE = "import pathlib\npathlib.Path('outputs/a.txt').write_text('{}');"


def cell(kernel: Kernel, code: str, folder: str, line: str = "", cell_id: str = "") -> str:
    """What the cell shows; with an id it is one and the same cell of a notebook, whatever its text."""
    request = kernel.send(f"%%bacalhau --files {folder} {line}\n{code}", cell_id=cell_id)
    return kernel.collect(request).text


def test_a_cell_replaces_what_it_wrote_itself_also_in_a_new_kernel(shell: Kernel, place: Path) -> None:
    """Run again, changed or in a new kernel, the same cell replaces its own files."""
    cell(shell, WRITE.format("first"), "own", cell_id="c-1")
    assert (place / "own/a.txt").read_text() == "first"
    cell(shell, WRITE.format("second"), "own", cell_id="c-1")
    assert (place / "own/a.txt").read_text() == "second"
    other = start(live=False, folder=place)
    try:
        cell(other, WRITE.format("third"), "own", cell_id="c-1")
        assert (place / "own/a.txt").read_text() == "third"
        # Without ids, as papermill runs it, the text tells that it is the same cell.
        cell(other, WRITE.format("third"), "own")
    finally:
        other.stop()
    assert (place / "own/a.txt").read_text() == "third"


def test_a_file_of_another_cell_or_a_changed_one_stays(shell: Kernel, place: Path) -> None:
    """What another cell wrote, or somebody changed since, is never replaced: the cell raises and says how to get its files."""
    cell(shell, WRITE.format("mine"), "kept", cell_id="c-1")
    assert "did not come from this cell" in cell(shell, WRITE.format("theirs"), "kept", cell_id="c-2")
    (place / "kept/a.txt").write_text("by hand")
    said = cell(shell, WRITE.format("mine"), "kept", cell_id="c-1")
    assert "was changed since" in said
    assert "%bacalhau get" in said
    assert (place / "kept/a.txt").read_text() == "by hand"
    assert sorted(path.name for path in (place / "kept").iterdir()) == [".bacalhau-files.json", "a.txt"]


def test_the_value_is_not_lost_with_the_files(shell: Kernel, place: Path) -> None:
    """Where the files can't be put, the cell raises, and its names are bound and its value is shown all the same."""
    (place / "full").mkdir()
    (place / "full/a.txt").write_text("somebody's")
    ran = shell.run("%%bacalhau --files full -o y\nopen('outputs/a.txt', 'w').write('x')\ny = 'the value'")
    assert ran.error is not None
    assert ran.error[0] == "ResultError"
    assert shell.run("y").value == "'the value'"
    ran = shell.run("%%bacalhau --files full\nopen('outputs/a.txt', 'w').write('x')\n'shown'")
    assert ran.error is not None
    assert "'shown'" in ran.text
    ran = shell.run("%%bacalhau --files full --no-raise-error\nopen('outputs/a.txt', 'w').write('x')\n'returned'")
    assert ran.error is None
    assert ran.value == "'returned'"
    assert "did not come from this cell" in ran.stream("stderr")


def test_files_of_a_failed_cell_and_of_one_out_of_time_come_back(shell: Kernel, place: Path) -> None:
    """What was written before an error, or before the time was up, comes back; the error is the cell's own."""
    ran = shell.run(f"%%bacalhau --files failed\n{WRITE.format('before')}\n1/0")
    assert ran.error == ("RemoteCellError[ZeroDivisionError]", "ZeroDivisionError: division by zero")
    ran = shell.run(f"%%bacalhau --files late --timeout 1s\n{WRITE.format('before')}\nimport time\ntime.sleep(60)")
    assert ran.error is not None
    assert ran.error[0] == "JobTimedOutError"
    ran = shell.run("%%bacalhau --files broken --lang bash\necho before >outputs/a.txt\nfalse")
    assert ran.error is not None
    assert [(place / folder / "a.txt").read_text().strip() for folder in ("failed", "late", "broken")] == ["before"] * 3


def test_files_of_a_background_job(shell: Kernel, place: Path) -> None:
    """A job in the background fetches its files at its end; job.files is the path."""
    shell.run(f"%%bacalhau --bg --files later\n{WRITE.format('bg')}")
    assert shell.run("_bacalhau.result(), str(_bacalhau.files)").value == f"(None, '{place}/later')"
    assert (place / "later/a.txt").read_text() == "bg"


def test_get_fetches_into_another_folder(shell: Kernel, place: Path) -> None:
    """%bacalhau get JOB DIR fetches the files of a job whose cell only wrote them."""
    shell.run(f"%%bacalhau\n{WRITE.format('got')}")
    assert shell.run("%bacalhau get last fetched").value == f"{place}/fetched/\n└── a.txt (3 bytes)"
    assert (place / "fetched/a.txt").read_text() == "got"


def test_links_and_folders(shell: Kernel, place: Path) -> None:
    """Folders come as folders; a link, a pipe or a socket that the cell left does not come, and what the link leads to neither, which is said."""
    code = "import os, socket\nos.makedirs('outputs/deep/er')\nopen('outputs/deep/er/b', 'w').write('b')\nos.symlink('/etc/passwd', 'outputs/link')"
    code += "\nos.mkfifo('outputs/pipe')\nsocket.socket(socket.AF_UNIX).bind('outputs/socket')"
    ran = shell.run(f"%%bacalhau --files tree\n{code}")
    assert ran.error is None, ran.text
    assert (place / "tree/deep/er/b").read_text() == "b"
    assert sorted(path.name for path in (place / "tree").iterdir()) == [".bacalhau-files.json", "deep"]
    assert "Left out of the files, being no regular files, or closed: link, pipe, socket." in ran.stream("stderr")
    got = shell.run("%bacalhau get last tree-again").value
    assert got is not None
    assert got.endswith("└── b (1 bytes)\nleft out, being no regular files, or closed: link, pipe, socket")


def test_overwrite_on_the_line_and_with_get(shell: Kernel, place: Path) -> None:
    """--overwrite replaces what is there, in a cell and in %bacalhau get; without files to fetch it is refused."""
    (place / "mine").mkdir()
    (place / "mine/a.txt").write_text("somebody's")
    assert "--overwrite, or fetch into another folder: %bacalhau get last OTHER." in cell(shell, WRITE.format("1"), "mine")
    cell(shell, WRITE.format("2"), "mine", "--overwrite")
    assert (place / "mine/a.txt").read_text() == "2"
    (place / "mine/a.txt").write_text("by hand")
    assert "was changed since" in shell.run("%bacalhau get last mine").text or "did not come" in shell.run("%bacalhau get last mine").text
    shell.run("%bacalhau get last mine --overwrite")
    assert (place / "mine/a.txt").read_text() == "2"
    assert "no files are asked for" in shell.run("%%bacalhau --overwrite\n1").text


def test_what_an_earlier_run_left_is_said(shell: Kernel, place: Path) -> None:
    """A file that an earlier run of the cell wrote, and this one didn't, is named."""
    cell(shell, "for n in 'ab': open(f'outputs/{n}', 'w').write(n)", "left", cell_id="c-9")
    assert "Still there from an earlier run of this cell: b." in cell(shell, "open('outputs/a', 'w').write('x');", "left", cell_id="c-9")


def test_files_are_a_path_with_a_tree(shell: Kernel, place: Path) -> None:
    """job.files is a path in every way; its repr draws the files with their sizes."""
    code = "import os\nos.makedirs('outputs/d')\nopen('outputs/d/b', 'w').write('b' * 1500)\nopen('outputs/e.txt', 'w').write('e');"
    cell(shell, code, "drawn")
    assert shell.run("_bacalhau.files").value == f"{place}/drawn/\n├── d/\n│   └── b (1.5 KB)\n└── e.txt (1 bytes)"
    assert shell.run("(_bacalhau.files / 'e.txt').read_text()").value == "'e'"
    assert shell.run("_bacalhau.files / 'e.txt'").value == f"PosixPath('{place}/drawn/e.txt')"
    (place / "drawn/mine.txt").write_text("not the job's")
    assert shell.run("_bacalhau.files").value == f"{place}/drawn/\n├── d/\n│   └── b (1.5 KB)\n└── e.txt (1 bytes)"
    cell(shell, "1;", "drawn")
    assert shell.run("_bacalhau.files").value == f"{place}/drawn/\n└── (no files)"
    assert shell.run("import pathlib, pickle; pickle.loads(pickle.dumps(_bacalhau.files)) == pathlib.Path(_bacalhau.files)").value == "True"


def test_a_tree_as_deep_as_paths_are(tmp_path: Path) -> None:
    """A folder that is deeper than Python's recursion is drawn, as far as there are lines."""
    deep = tmp_path
    for _ in range(1200):
        deep /= "d"
        deep.mkdir()
    drawn = repr(FileTree(tmp_path)).splitlines()
    while deep != tmp_path:  # pytest's own clean-up recurs
        deep.rmdir()
        deep = deep.parent
    assert drawn[1:3] == ["└── d/", "    └── d/"]
    assert drawn[-1] == "… and 1140 more"


def test_a_download_has_a_progress(shell: Kernel, place: Path) -> None:
    """While the files come, the job's phase is fetching, and its events say how many bytes of how many are here."""
    cell(shell, "import os\nopen('outputs/big', 'wb').write(os.urandom(5_000_000));", "big")
    seen = shell.run("[(e.done, e.total) for e in _bacalhau.events if type(e).__name__ == 'Transferred']").value
    assert seen is not None
    steps = eval(seen)
    assert steps[-1][0] == steps[-1][1] > 5_000_000


LARGE = "import numpy as np\nx = np.arange(400_000.0)"


def test_a_name_above_the_limit_is_kept_among_the_files(shell: Kernel, place: Path) -> None:
    """A wanted name above --max-result raises with its size, where it is kept and how to read it; that way gives the same value."""
    ran = shell.run(f"%%bacalhau -o x,y --max-result 1MB\n{LARGE}\ny = 2")
    assert ran.error is not None
    assert "It is kept among the job's files as x.value (3.2 MB)." in ran.text
    assert "%bacalhau get last DIR, then read it: from bacalhau_magic import read_value; read_value('DIR/x.value')" in ran.text
    assert "Or ask for more with --max-result." in ran.text
    assert shell.run("dict(_bacalhau.outputs)").value == "{'y': 2}"
    shell.run(
        "%bacalhau get last kept-name\nimport numpy as np\nfrom bacalhau_magic import read_value\nv = read_value('kept-name/x.value')"
    )
    assert shell.run("v.dtype.str, bool((v == np.arange(400_000.0)).all())").value == "('<f8', True)"


def test_with_files_the_kept_value_comes_with_them(shell: Kernel, place: Path) -> None:
    """With --files the value is in that folder, under a name that the cell has not taken itself."""
    ran = shell.run(f"%%bacalhau -o x --max-result 1MB --files kept-files\n{LARGE}\nopen('outputs/x.value', 'w').write('own');")
    assert "read_value('kept-files/x-2.value')" in ran.text
    assert (place / "kept-files/x.value").read_text() == "own"
    assert shell.run("len(__import__('bacalhau_magic').read_value('kept-files/x-2.value'))").value == "400000"


def test_a_name_that_can_t_be_sent_is_kept_as_a_pickle(shell: Kernel, place: Path) -> None:
    """What can't travel is kept as a pickle where it can be one; that reading it runs code is said. Else nothing is promised."""
    ran = shell.run("%%bacalhau -o d --files kept-pickle\nimport re\nd = re.compile('a')")
    assert "kept among the job's files as d.pickle" in ran.text
    assert "pickle.load(open('kept-pickle/d.pickle', 'rb')), which runs code that the job wrote" in ran.text
    assert "Or let it come back as one, where its class is here: --allow-pickle." in ran.text
    assert shell.run("%%bacalhau -o d --allow-pickle\nimport re\nd = re.compile('a')").error is None
    assert shell.run("import pickle; pickle.load(open('kept-pickle/d.pickle', 'rb'))").value == "re.compile(r'a', re.UNICODE)"
    assert "which runs code when it is read" in shell.run("__import__('bacalhau_magic').read_value('kept-pickle/d.pickle')").text
    ran = shell.run("%%bacalhau -o g --files kept-none\ng = (i for i in range(3))")
    assert "can't be sent back" in ran.text
    assert "kept among" not in ran.text


def test_a_value_above_the_limit_is_kept_too(shell: Kernel, place: Path) -> None:
    """The cell's value above --max-result is shown by its text, and a notice says where it is and how to read it."""
    ran = shell.run("%%bacalhau --max-result 1KB\n'v' * 5000")
    assert ran.error is None
    said = ran.stream("stderr")
    assert "It is kept among the job's files as value.value (5.01 KB)." in said
    assert "%bacalhau get last DIR, then read it: from bacalhau_magic import read_value; read_value('DIR/value.value')" in said
    shell.run("%bacalhau get last kept-value")
    assert shell.run("__import__('bacalhau_magic').read_value('kept-value/value.value') == 'v' * 5000").value == "True"


def test_files_that_nobody_asked_for_are_there_all_the_same(shell: Kernel, place: Path) -> None:
    """On the embedded node what lies in outputs/ can always be fetched; where nothing does, that is said."""
    shell.run("%%bacalhau\nopen('out' + 'puts/a.txt', 'w').write('kept');")
    shell.run("%bacalhau get last unasked")
    assert (place / "unasked/a.txt").read_text() == "kept"
    shell.run("%%bacalhau\n1")
    assert "published no files" in shell.run("%bacalhau get last unasked").text


def test_a_damaged_value_file_is_an_error(shell: Kernel, place: Path) -> None:
    """A file that is no value, a cut one, and one that is not there are named errors."""
    (place / "no.value").write_bytes(b"BMC1l\xff\xff\xff\xff\xff\xff\xff\x00\x00")
    assert "CorruptResultError" in shell.run("__import__('bacalhau_magic').read_value('no.value')").text
    assert "can't be read: No such file" in shell.run("__import__('bacalhau_magic').read_value('gone.value')").text


def test_a_text_above_the_limit_is_in_the_log(shell: Kernel) -> None:
    """A shell's stdout above --max-result can't be read as a value; its log has all of it, by the command that is named."""
    ran = shell.run("%%bacalhau --lang bash --max-result 1KB -o t\nseq 2000")
    assert "%bacalhau logs last has all of it" in ran.text
    assert "2000" in shell.run("%bacalhau logs last").text


def test_publisher_on_the_line(shell: Kernel, place: Path) -> None:
    """A publisher that is asked for publishes whatever there is, also nothing; one that no node has is refused by name."""
    shell.run("%%bacalhau --publisher local\n1")
    assert shell.run("%bacalhau get last empty").value == f"{place}/empty/\n└── (no files)"
    assert "no node there has the publisher s3" in shell.run("%%bacalhau --publisher s3://bucket/key\n1").text
