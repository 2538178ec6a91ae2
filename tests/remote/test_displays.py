"""What a cell displays travels as data, with its place in stdout: with and without IPython, matplotlib and plotly."""

import base64
import sys

import pytest

from bacalhau_magic._cellnames import EVERYWHERE

FULL = [sys.executable, "-I", "-u"]
"""A Python with its packages; the wrapper's tests run without them, as in a bare image."""


def shown(run):
    """The displays with their places, and what stdout is without them."""
    return run.bundle.displays, bytes(run.bundle.stdout)


@pytest.mark.parametrize("spawn", [False, True])
@pytest.mark.parametrize("python", [None, FULL])
def test_displays_stand_where_they_were_made(job, spawn, python):
    """Displays keep their order and their places in the text, children's text included, and leave no mark in the log."""
    code = "import os\nprint('one')\ndisplay({'a': 1})\nos.system('echo child')\ndisplay(2, 'three')\nprint('end', end='')\ndisplay(None)\n"
    run = job(code, spawn=spawn, command_line=python)
    assert run.code == 0, run.stderr
    assert shown(run) == (
        [
            (4, {"text/plain": "{'a': 1}"}),
            (10, {"text/plain": "2"}),
            (10, {"text/plain": "'three'"}),
            (13, {"text/plain": "None"}),
        ],
        b"one\nchild\nend",
    )
    assert run.shown == "one\nchild\nend"
    assert run.leftovers == []


RICH = """
class Rich:
    def __repr__(self): return 'rich'
    def _repr_html_(self): return '<b>x</b>'
    def _repr_markdown_(self): return '# x'
    def _repr_latex_(self): return '$x$', {'meta': 1}
    def _repr_png_(self): return b'PNG'
    def _repr_jpeg_(self): return b'JPEG'
    def _repr_svg_(self): return '<svg/>'
    def _repr_json_(self): return {'a': [1]}
"""


def test_rich_reprs(job):
    """An object is shown in all ways that it draws itself."""
    run = job(RICH + "display(Rich())\nRich()")
    wanted = {
        "text/plain": "rich",
        "text/html": "<b>x</b>",
        "text/markdown": "# x",
        "text/latex": "$x$",
        "image/png": base64.b64encode(b"PNG").decode(),
        "image/svg+xml": "<svg/>",
        "application/json": {"a": [1]},
    }
    assert run.bundle.displays == [(0, wanted)]
    assert run.bundle.mime == wanted


def test_mimebundles_and_own_displays(job):
    """`_repr_mimebundle_` goes before the single reprs, `_ipython_display_` before all; raw data is shown as it is."""
    run = job(
        "class M:\n    def _repr_mimebundle_(self, include=None, exclude=None): return {'text/html': '<i>', 'text/plain': 'm'}, {}\n"
        "    def _repr_html_(self): return 'not this'\n"
        "class D:\n    def _ipython_display_(self): display('itself')\n"
        "display(M())\ndisplay(D())\ndisplay({'text/html': '<p>', 'image/png': b'x'}, raw=True)\ndisplay(M(), include=['text/plain'])\nD()"
    )
    assert [data for _, data in run.bundle.displays] == [
        {"text/html": "<i>", "text/plain": "m"},
        {"text/plain": "'itself'"},
        {"text/html": "<p>", "image/png": "eA=="},
        {"text/plain": "m"},
        {"text/plain": "'itself'"},
    ]
    assert run.bundle.mime == {}


def test_a_repr_that_raises_is_said(job):
    """A rich repr that raises is said on stderr, as in a notebook, and the rest is shown."""
    run = job("class B:\n    def _repr_html_(self): 1/0\n    def __repr__(self): return 'b'\ndisplay(B())")
    assert run.code == 0
    assert run.bundle.displays == [(0, {"text/plain": "b"})]
    assert b"ZeroDivisionError" in run.stderr


@pytest.mark.parametrize("python", [None, FULL])
def test_ipython_display(job, python):
    """`IPython.display` works where IPython is installed, and where it is not."""
    code = """
from IPython.display import HTML, JSON, SVG, Image, Latex, Markdown, display, update_display
open("a.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n....")
display(HTML("<b>x</b>"), Markdown("# x"), SVG("<svg xmlns='http://www.w3.org/2000/svg'></svg>"), Latex("$x$"))
display(Image(filename="a.png"))
display(JSON({"a": 1}))
handle = display("first", display_id="h")
update_display("second", display_id="h")
handle.update("third")
HTML("<i>value</i>")
"""
    run = job(code, command_line=python)
    assert run.code == 0, run.traceback
    found = [data for _, data in run.bundle.displays]
    assert found[0]["text/html"] == "<b>x</b>"
    assert found[1]["text/markdown"] == "# x"
    assert "<svg" in found[2]["image/svg+xml"]
    assert found[3]["text/latex"] == "$x$"
    assert base64.b64decode(found[4]["image/png"]).startswith(b"\x89PNG")
    assert found[5]["application/json"] == {"a": 1}
    assert found[6] == {"text/plain": "'third'"}
    assert len(found) == 7
    assert run.bundle.mime["text/html"] == "<i>value</i>"


def test_what_is_taken_to_be_in_every_image_is_there(job):
    """What the package names as importable without IPython is."""
    run = job(f"from IPython.display import {', '.join(sorted(EVERYWHERE))}\nHTML('x').data")
    assert run.value == "x", run.traceback


def test_without_ipython_the_rest_of_it_is_missing(job):
    """Only IPython's display is stood in for: what looks for its shell finds none."""
    run = job(
        "import sys\nfrom IPython import get_ipython\nfound = [get_ipython()]\ntry:\n    from IPython.core.magic import magics_class\n"
        "except ImportError as e:\n    found.append(type(e).__name__)\nfound"
    )
    assert run.value == [None, "ModuleNotFoundError"]


@pytest.mark.parametrize("how", ["plt.show()", "pass", "display(fig); plt.close(fig)", "fig"])
def test_figures(job, how):
    """A figure is shown once, by `plt.show()`, at the cell's end, by `display`, or as the value."""
    run = job(f"import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2])\nprint('drawn')\n{how}", command_line=FULL)
    assert run.code == 0, run.traceback
    drawn = [data for _, data in run.bundle.displays] + ([run.bundle.mime] if run.bundle.mime else [])
    assert len(drawn) == 1
    assert base64.b64decode(drawn[0]["image/png"]).startswith(b"\x89PNG\r\n")
    assert drawn[0]["text/plain"] == "<Figure size 640x480 with 1 Axes>"
    assert b"non-interactive" not in run.stderr


def test_figures_in_a_loop_with_text(job):
    """Each `plt.show()` shows its figure between the text around it, and closes it."""
    run = job(
        "import matplotlib.pyplot as plt\nfor n in range(3):\n    print(n)\n    plt.plot([n])\n    plt.show()\nplt.get_fignums()",
        command_line=FULL,
    )
    assert [place for place, _ in run.bundle.displays] == [2, 4, 6]
    assert run.value == []


def test_a_figure_of_a_failed_cell_is_shown(job):
    """What was drawn before an exception is shown, as in a notebook."""
    run = job("import matplotlib.pyplot as plt\nplt.plot([1])\n1/0", command_line=FULL)
    assert run.bundle.error["ename"] == "ZeroDivisionError"
    assert "image/png" in run.bundle.displays[0][1]


def test_a_chosen_backend_stays(job):
    """A cell that chooses Agg shows nothing by itself."""
    run = job(
        "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nplt.plot([1])\nplt.get_backend()", command_line=FULL
    )
    assert run.bundle.displays == []
    assert run.value.lower() == "agg"


@pytest.mark.parametrize("how", ["fig.show()", "display(fig)", "fig"])
def test_plotly(job, how):
    """A plotly figure is shown as its data."""
    run = job(f"import plotly.graph_objects as go\nfig = go.Figure(go.Scatter(y=[3, 1]))\n{how}", command_line=FULL)
    assert run.code == 0, run.traceback
    shown = run.bundle.displays[0][1] if run.bundle.displays else run.bundle.mime
    assert list(shown["application/vnd.plotly.v1+json"]["data"][0]["y"]) == [3, 1]


def test_frames_and_images(job):
    """Frames and images are shown as they draw themselves."""
    run = job(
        "import pandas, polars\nfrom PIL import Image\ndisplay(pandas.DataFrame({'a': [1]}), polars.DataFrame({'a': [1]}), Image.new('RGB', (2, 2)))",
        command_line=FULL,
    )
    pandas, polars, image = (data for _, data in run.bundle.displays)
    assert "<table" in pandas["text/html"]
    assert "<table" in polars["text/html"]
    assert base64.b64decode(image["image/png"]).startswith(b"\x89PNG")


def test_displays_before_a_timeout_come_back(job):
    """What was displayed before the time limit, or a crash, is not lost."""
    run = job("import time\nprint('a')\ndisplay(1)\ntime.sleep(60)", timeout=0.5)
    assert run.bundle.outcome == "timeout"
    assert run.bundle.displays == [(2, {"text/plain": "1"})]
    run = job("import os\ndisplay(1)\nos.kill(os.getpid(), 9)")
    assert run.bundle.displays == [(0, {"text/plain": "1"})]


def test_bounds(job):
    """A display that is too large shows its text and says so; above all bounds the rest is left out, and that is said."""
    big = job("class B:\n    def _repr_html_(self): return 'x' * 17_000_000\n    def __repr__(self): return 'b' * 60_000\ndisplay(B())")
    text = big.bundle.displays[0][1]["text/plain"]
    assert text.endswith("(50000 of 60000 characters) (left out: text/html of 17000000 characters)")
    many = job("for n in range(1005): display(n)")
    assert (len(many.bundle.displays), many.bundle.truncated) == (1000, ["displays"])
    heavy = job("for n in range(5): display('x' * 40000)", max_result=100_000)
    assert (len(heavy.bundle.displays), heavy.bundle.truncated) == (2, ["displays"])


def test_nothing_in_stdout_is_taken_for_a_place(job):
    """Zero bytes and what only looks like a mark stay in stdout, however it is cut into pieces."""
    nonce = "0123456789abcdef"
    text = f"\0\0@bacalhau {nonce} display x\0 \0@bacalhau {nonce} displa\0 @bacalhau {nonce} display 12345678901\0"
    code = f"import os, time\nfor c in {text!r}.encode():\n    os.write(1, bytes([c]))\n    time.sleep(0.001)\ndisplay(1)\nos.write(1, b'\\0@bac')"
    run = job(code)
    assert bytes(run.bundle.stdout) == text.encode() + b"\0@bac"
    assert run.bundle.displays == [(len(text), {"text/plain": "1"})]


def test_marks_go_to_the_log_whatever_stdout_is(job):
    """A cell that has put a file in stdout's place, or closed it, shows where the log was."""
    run = job("import os\nprint('a', flush=True)\nos.dup2(os.open('f', os.O_CREAT | os.O_RDWR), 1)\ndisplay(1)\nopen('f', 'rb').read()")
    assert run.bundle.displays == [(2, {"text/plain": "1"})]
    assert run.value == b""


def test_a_child_process_prints(job):
    """A process that the cell forked has no way to show: it prints the display's text."""
    run = job(
        "import os\nif os.fork() == 0:\n    display(1)\n    os._exit(os.EX_OK) if os.sys.stdout.flush() is None else 0\nos.wait()\ndisplay(2)"
    )
    assert shown(run) == ([(2, {"text/plain": "2"})], b"1\n")


def test_threads_display_whole(job):
    """Displays of many threads at once are each whole."""
    run = job(
        "from threading import Thread\nthreads = [Thread(target=lambda n=n: display({'x': str(n) * 5000})) for n in range(10)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; None"
    )
    assert sorted(data["text/plain"] for _, data in run.bundle.displays) == [repr({"x": str(n) * 5000}) for n in range(10)]


def test_clear_output(job):
    """`clear_output` says from where on things are shown."""
    run = job("print('a')\ndisplay(1)\nfrom IPython.display import clear_output\nclear_output(wait=True)\nprint('b')")
    assert run.bundle.displays[1] == (2, {"application/vnd.bacalhau.clear+json": True})
