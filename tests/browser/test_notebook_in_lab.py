"""Notebooks in a real JupyterLab: run all, and what stands there is what is committed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def outcome(content: nbformat.NotebookNode) -> list[Any]:
    """The outputs of all cells as data; metadata, which holds the receipt, counts and the bytes of pictures are left out."""
    return [[_shown(output) for output in cell.outputs] for cell in content.cells if cell.cell_type == "code"]


def _shown(output: nbformat.NotebookNode) -> dict[str, Any]:
    if "data" in output:
        return {kind: data if kind != "image/png" else "…" for kind, data in output.data.items()}
    return {key: output[key] for key in ("name", "text", "ename", "evalue") if key in output}


@pytest.mark.parametrize("name", ["01_first_job.ipynb", "02_data_in_and_out.ipynb"])
def test_run_all_gives_the_committed_outputs(lab: Any, page: Any, name: str) -> None:
    """Opened in Lab and run from top to bottom, the notebook has the committed outputs, and no widget stays."""
    committed = nbformat.read(NOTEBOOKS / name, as_version=4)
    shutil.copyfile(NOTEBOOKS / name, lab.root / name)
    lab.open(page, name)
    lab.run_all(page)
    lab.save(page)
    ran = lab.read(name)
    assert outcome(ran) == outcome(committed)
    assert page.locator(".bm-card").count() == 0
    bundles = [
        output for cell in ran.cells for output in cell.get("outputs", []) if "application/vnd.bacalhau.job+json" in output.get("data", {})
    ]
    assert all(output.metadata.bacalhau.job.startswith("j-") for output in bundles)
    assert bundles
