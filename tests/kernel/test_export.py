"""What nbconvert makes of a notebook with jobs: the static form, which reads well without a kernel and without scripts."""

from __future__ import annotations

import re
from html import unescape

import nbformat
import pytest
from kernels import Kernel, Ran
from nbconvert import HTMLExporter


def exported(*cells: tuple[str, Ran]) -> str:
    """The text that a reader of the page sees, tags and scripts left out."""
    notebook = nbformat.v4.new_notebook()
    for source, ran in cells:
        cell = nbformat.v4.new_code_cell(source)
        for output in ran.outputs:
            content = output["content"]
            match output["type"]:
                case "display_data" | "execute_result":
                    number = {"execution_count": content["execution_count"]} if output["type"] == "execute_result" else {}
                    cell.outputs.append(
                        nbformat.v4.new_output(output["type"], data=content["data"], metadata=content["metadata"], **number)
                    )
                case "stream":
                    cell.outputs.append(nbformat.v4.new_output("stream", name=content["name"], text=content["text"]))
        notebook.cells.append(cell)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    body = page[page.index("<body") :]
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style)\b.*?</\1>", "", body, flags=re.S)))


@pytest.mark.filterwarnings("ignore:Your element with mimetype")
def test_a_page_shows_the_static_form(batch: Kernel, live: Kernel) -> None:
    """A job that was waited for reads "Completed" beside its outputs; a background job's card, whose widget a page can't have, "Submitted"."""
    waited, background = "%%bacalhau\nprint('out')\n6 * 7", "%%bacalhau --bg\n1"
    text = exported((waited, batch.run(waited)), (background, live.run(background)))
    assert re.search(r"✓\s+Completed", text)
    assert re.search(r"\bout\s", text)
    assert "42" in text
    assert re.search(r"↗\s+Submitted", text)
    assert "widget" not in text.lower()
