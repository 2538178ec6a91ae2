"""What happens to the names of a cell: bound all or none, marked while they wait, left alone where they are somebody's."""

from __future__ import annotations

from kernels import Kernel


def test_a_failed_cell_binds_nothing(shell: Kernel) -> None:
    """An error in the middle of a cell leaves every wanted name as it was."""
    shell.run("a = 'old'")
    ran = shell.run("%%bacalhau -o a,b\na = 1\nb = 2\nraise ValueError('in the middle')")
    assert ran.error is not None
    assert shell.run("a, 'b' in globals()").value == "('old', False)"


def test_marker_of_a_failed_cell(shell: Kernel) -> None:
    """After a failed --no-raise-error cell its names raise on use and say where to look; the text shown is the raised one."""
    shell.run("c = 'old'")
    ran = shell.run("%%bacalhau --no-raise-error -o c\nc = 1\nraise ValueError('told')")
    assert (ran.error, ran.value) == (None, None)
    assert "line 2, in <module>\n    raise ValueError('told')\nValueError: told" in ran.stream("stderr")
    used = shell.run("c + 1")
    assert used.error is not None
    assert "failed" in used.error[1]
    assert "%bacalhau show j-" in used.error[1]
    sent = shell.run("%%bacalhau -i c\nc")
    assert sent.error is not None
    assert "The input 'c' can't be sent: job j-" in sent.error[1]


def test_wait_leaves_what_somebody_put_there(shell: Kernel) -> None:
    """A name that was given another value since stays, and that is said with the way to bind it anyway."""
    shell.run("%%bacalhau --bg -o d,e\nd, e = 1, 2")
    shell.run("d = 'mine'")
    said = shell.run("%bacalhau wait last").stream("stderr")
    assert "d: not bound, because something else was put there since" in said
    assert "in job.outputs" in said
    assert shell.run("d, e, _bacalhau.outputs").value == "('mine', 2, {'d': 1, 'e': 2})"
    assert shell.run("%bacalhau attach last -o d").error is None
    assert shell.run("d, e").value == "(1, 2)"


def test_wait_again_says_nothing(shell: Kernel) -> None:
    """Waiting again for a job whose names are bound says nothing and changes nothing."""
    shell.run("%%bacalhau --bg -o f\nf = [1]")
    assert shell.run("%bacalhau wait last").value is None
    shell.run("before = f")
    assert shell.run("%bacalhau wait last").value is None
    assert shell.run("f is before").value == "True"


def test_a_marker_is_of_the_last_job_that_wants_the_name(shell: Kernel) -> None:
    """Of two background jobs that want a name, the later one gets it."""
    shell.run("%%bacalhau --bg -o g --job one\ng = 'one'")
    shell.run("%%bacalhau --bg -o g --job two\ng = 'two'")
    assert shell.run("one.bind(), two.bind(), g").value == "(('g',), (), 'two')"


def test_partial(shell: Kernel) -> None:
    """What came back beside a name that did not is there by job.outputs and bind(partial=True)."""
    shell.run("%%bacalhau --no-raise-error -o h,i\nh, i = 1, object()")
    assert shell.run("_bacalhau.outputs, _bacalhau.bind(partial=True), h").value == "({'h': 1}, (), 1)"
    used = shell.run("str(i)")
    assert used.error is not None
    ran = shell.run("%%bacalhau -o h,i,other\nh, i, other = 2, object(), 3")
    assert ran.error is not None
    hint = ran.text.rpartition("What came back beside it: ")[2].strip()
    assert hint == "%bacalhau attach last -o h,other"
    shell.run(hint)
    assert shell.run("h, other").value == "(2, 3)"


def test_a_background_job_is_named_by_its_id(shell: Kernel) -> None:
    """Advice about a job that no cell waits for names it by its id: another may be the last one by then, also an older one that is asked for again."""
    shell.run("%%bacalhau --bg -o h2,i2 --job behind\nh2, i2 = 1, object()")
    shell.run("%%bacalhau\n1")
    ran = shell.run("%bacalhau wait behind")
    assert f"What came back beside it: %bacalhau attach {shell.run('behind.id[:10]').value[1:-1]} -o h2" in ran.text  # type: ignore[index]
    left = shell.run("%%bacalhau --no-raise-error --on-interrupt detach -o h3,i3\nh3, i3 = 1, object()")
    assert "%bacalhau attach j-" in left.text
    shell.run("%%bacalhau --no-raise-error -o h3,i3\nh3, i3 = 1, object()")
    old = shell.run("_bacalhau.id[:10]").value[1:-1]  # type: ignore[index]
    shell.run("%%bacalhau\n1")
    assert f"What came back beside it: %bacalhau attach {old} -o h3" in shell.run(f"%bacalhau attach {old} -o h3,i3").text


def test_collections_in_and_out(shell: Kernel) -> None:
    """Counter, defaultdict, deque and OrderedDict travel both ways as themselves."""
    shell.run("from collections import *\nc, g, q = Counter('aab'), defaultdict(list, a=[1]), deque([1, 2], maxlen=2)")
    ran = shell.run("%%bacalhau -i c,g,q -o c,g,q\nc['b'] += 1\ng['b'].append(2)\nq.append(3)")
    assert ran.error is None, ran.text
    assert shell.run("c, g, q").value == "(Counter({'a': 2, 'b': 2}),\n defaultdict(list, {'a': [1], 'b': [2]}),\n deque([2, 3], maxlen=2))"


def test_a_value_that_can_not_be_read(shell: Kernel) -> None:
    """A value that its own library can't read any more is no failure of the cell: its text is shown."""
    ran = shell.run("%%bacalhau\nfrom PIL import Image\nheld = Image.new('RGB', (1, 1)); held.close()\nprint('done')\n[held]")
    assert ran.error is None, ran.text
    assert "done\n" in ran.text
    assert "[<PIL.Image.Image" in ran.text


def test_odd_values_in_and_out(shell: Kernel) -> None:
    """Huge numbers, NaN, deep tuples, odd texts, frames with levels and empty ones come back as they went."""
    shell.run(
        "import math, numpy as np, pandas as pd\n"
        "odd = [10**5000, -0.0, ((1, (2,)), {('a', 1): {frozenset({1})}}), 'é\\x00\\ud800', b'\\x00\\xff', 1 + 2j, range(3)]\n"
        "nan = float('nan')\n"
        "frames = [pd.DataFrame({'v': [1, 2]}, index=pd.MultiIndex.from_tuples([('a', 1), ('b', 2)], names=['x', None])), pd.DataFrame(),\n"
        "  pd.DataFrame({'a': pd.Series(dtype='int8')}), pd.Series(['a', 'b', 'a'], dtype='category', name='c')]"
    )
    ran = shell.run("%%bacalhau -i odd,nan,frames -o odd2,nan2,frames2\nodd2, nan2, frames2 = odd, nan, frames")
    assert ran.error is None, ran.text
    assert shell.run("odd2 == odd, math.copysign(1, odd2[1]), math.isnan(nan2)").value == "(True, -1.0, True)"
    checks = "pd.testing.assert_frame_equal", "pd.testing.assert_series_equal"
    ran = shell.run(f"for a, b in zip(frames, frames2): ({checks[0]} if a.ndim == 2 else {checks[1]})(a, b)")
    assert ran.error is None, ran.text


def test_tables_and_images_in_and_out(shell: Kernel) -> None:
    """polars frames, Arrow tables and images travel both ways; in other languages a polars frame is a CSV file."""
    shell.run(
        "import polars as pl, pyarrow as pa\nfrom PIL import Image\n"
        "frame, table = pl.DataFrame({'a': [1, None]}), pa.table({'b': ['x', None]})\nimage = Image.new('L', (2, 2), 7)"
    )
    ran = shell.run("%%bacalhau -i frame,table,image -o f,t,i\nf, t, i = frame.with_columns(b=1), table.slice(1), image.resize((4, 4))")
    assert ran.error is None, ran.text
    assert shell.run("f.equals(frame.with_columns(b=1)), t.equals(table.slice(1)), i.getpixel((3, 3))").value == "(True, True, 7)"
    assert shell.run("%%bacalhau --lang bash -i frame\ncat inputs/frame.csv").stream("stdout") == "a\n1\n\n"


def test_exceptions_that_python_or_ipython_treat_in_their_own_way(shell: Kernel) -> None:
    """StopIteration, SyntaxError, KeyboardInterrupt and the like from a job are remote errors like any other."""
    for raised in (
        "StopIteration('s')",
        "StopAsyncIteration('s')",
        "SyntaxError('s')",
        "KeyboardInterrupt()",
        "GeneratorExit()",
        "SystemError('s')",
    ):
        ran = shell.run(f"%%bacalhau\nraise {raised}")
        assert ran.error is not None
        assert ran.error[0].startswith("RemoteCellError"), ran.text
        assert f"raise {raised}\n{raised.partition('(')[0]}" in ran.text
        assert "_magics.py" not in ran.text


def test_an_empty_cell_is_refused_under_its_own_name(shell: Kernel) -> None:
    """Without a body IPython says so by the magic's own name, also where the cell would be awaited."""
    ran = shell.run("%%bacalhau -o x")
    assert ran.error is not None
    assert ran.error[1].startswith("%%bacalhau is a cell magic, but the cell body is empty.")


def test_a_value_too_large_is_shown_in_part_and_said(shell: Kernel) -> None:
    """A value above --max-result shows its text within bounds, says that it is cut, and that no value came back."""
    ran = shell.run("%%bacalhau --max-result 1KB\n'x' * 10_000_000")
    assert ran.error is None, ran.text[:2000]
    assert len(ran.text) < 100_000
    assert "(50000 of 10000002 characters)" in ran.text
    assert "No value came back, only its text" in ran.stream("stderr")
    ran = shell.run("%%bacalhau --max-result 1KB\nprint('y' * 5000)\n1")
    assert "stdout is cut at --max-result" in ran.stream("stderr")


def test_a_missing_file_that_lies_beside_the_notebook(shell: Kernel, place: object) -> None:
    """A cell that opens a file of the notebook's folder is told how to send it, in every language."""
    shell.run("open('data.csv', 'w').write('a,b')")
    cells = ("--lang python\nopen('data.csv')", "--lang bash\ncat data.csv", "--lang javascript\nrequire('fs').readFileSync('data.csv')")
    for cell in cells:
        assert "data.csv lies beside the notebook" in shell.run(f"%%bacalhau {cell}").text
    assert "It was sent: open inputs/data.csv." in shell.run("%%bacalhau -i data.csv\nopen('data.csv')").text
    assert "lies beside" not in shell.run("%%bacalhau\nopen('other.csv')").text
