"""Rich displays of a cell in a real kernel, in nbclient, and in `run()`."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel
from nbclient import NotebookClient

CELL = """%%bacalhau
import sys
import pandas as pd
import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display
print("one")
display(pd.DataFrame({"a": [1, 2]}))
print("two")
plt.plot([1, 2, 3])
plt.show()
print("three", file=sys.stderr)
display(Markdown("**bold** ![x](https://example.org/x.png)"), HTML("<b id='x'>hello</b><script>1</script>"))
print("four")
plt.plot([3, 2, 1])
6 * 7
"""


def kinds(outputs: list[dict]) -> list[str]:
    """The outputs in short: a stream's text, or the richest kind of a display."""
    order = ("application/vnd.bacalhau.job+json", "application/vnd.plotly.v1+json", "image/png", "text/markdown", "text/html", "text/plain")
    return [output["text"] if "text" in output else next(kind for kind in order if kind in output["data"]) for output in outputs]


def test_displays_in_a_notebook(tmp_path: Path) -> None:
    """A notebook that nbclient runs has the bundle, the text with the displays where they occurred, stderr and the value; a second run is the same."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("%load_ext bacalhau_magic"), nbformat.v4.new_code_cell(CELL)])
    found = []
    for _ in range(2):
        ran = NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
        nbformat.validate(ran)
        found.append([dict(output) for output in ran.cells[1].outputs])
    outputs = found[0]
    assert kinds(outputs) == [
        "application/vnd.bacalhau.job+json",
        "one\n",
        "text/html",
        "two\n",
        "image/png",
        "text/markdown",
        "text/html",
        "four\n",
        "image/png",
        "three\n",
        "text/plain",
    ]
    assert (
        outputs[2]["data"]["text/html"].startswith('<div>\n<table class="dataframe">')
        or '<table class="dataframe">' in outputs[2]["data"]["text/html"]
    )
    assert base64.b64decode(outputs[4]["data"]["image/png"]).startswith(b"\x89PNG")
    assert "![" not in outputs[5]["data"]["text/markdown"]
    assert outputs[6]["data"]["text/html"].startswith('<iframe sandbox="allow-scripts"')
    assert outputs[10]["data"]["text/plain"] == "42"
    assert found[1] == outputs


def test_a_plotly_figure_is_the_value_s_display(batch: Kernel) -> None:
    """A figure can't travel as a value; its data does, and the front end draws it."""
    ran = batch.run("%%bacalhau -q\nimport plotly.graph_objects as go\ngo.Figure(go.Bar(y=[2, 1]))")
    assert ran.error is None, ran.text
    data = ran.outputs[0]["content"]["data"]
    assert data["application/vnd.plotly.v1+json"]["data"][0]["y"] == [2, 1]


def test_a_failed_cell_shows_what_it_displayed(batch: Kernel) -> None:
    """Displays before an exception are shown, then the error."""
    ran = batch.run("%%bacalhau -q\ndisplay('before')\n1/0")
    assert [output["type"] for output in ran.outputs] == ["display_data", "error"]


@pytest.mark.parametrize("how", ["run(code)", "submit(code).result()"])
def test_run_and_submit(batch: Kernel, how: str) -> None:
    """`run()` shows what the code displayed, as the cell does; a submitted job keeps it for who looks."""
    batch.run("from bacalhau_magic import run, submit\ncode = \"print('a')\\ndisplay({'k': 1})\\nprint('b')\\n5\"")
    ran = batch.run(how)
    assert ran.error is None, ran.text
    assert ran.value == "5"
    if how.startswith("run"):
        shown = [output["content"].get("text") or output["content"]["data"]["text/plain"] for output in ran.outputs]
        assert shown == ["bacalhau: completed", "a\n", "{'k': 1}", "b\n", "5"]


def test_a_module_that_was_sent_draws(batch: Kernel) -> None:
    """matplotlib that the cell has by an import line of ours shows its figures too."""
    batch.run("import matplotlib.pyplot as plt\ndef draw():\n    plt.plot([1, 2])\n    plt.show()")
    ran = batch.run("%%bacalhau -q -i draw\ndraw()")
    assert ran.error is None, ran.text
    assert [sorted(output["content"].get("data", {})) for output in ran.outputs if output["type"] == "display_data"] == [
        ["image/png", "text/plain"]
    ]
