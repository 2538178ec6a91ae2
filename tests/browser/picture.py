"""The README's picture, from a real run in JupyterLab: `python -m pytest tests/browser/picture.py` writes `.github/picture.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

PICTURE = Path(__file__).parents[2] / ".github" / "picture.png"
CELLS = (
    "%load_ext bacalhau_magic\nprices = {'tea': 3, 'coffee': 4, 'cake': 5}",
    "%%bacalhau -i prices -o total\ntotal = sum(prices.values())",
    "total",
    """%%bacalhau --cpu 2 --timeout 10m
import random

inside = 0
for turn in range(1, 1001):
    inside += sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(100_000))
    print(f'{turn / 10:.1f} million darts: π is about {4 * inside / turn / 100_000:.4f}')""",
)


def test_picture(lab: Any, chromium: Any) -> None:
    """A finished cell, its value, and a cell that runs."""
    context = chromium.new_context(viewport={"width": 860, "height": 820}, device_scale_factor=1.5)
    page = context.new_page()
    lab.write("picture.ipynb", *CELLS)
    lab.open(page, "picture.ipynb")
    page.evaluate(
        "async () => { const run = it => window.jupyterapp.commands.execute(it);"
        " await run('application:toggle-left-area'); await run('application:toggle-side-tabbar').catch(() => {}) }"
    )
    lab.through(page, *range(3))
    lab.run(page, 3)
    page.wait_for_function("document.querySelectorAll('.bm-line').length >= 8", timeout=60_000)
    page.evaluate("document.querySelectorAll('.jp-cell-toolbar').forEach(it => it.remove())")
    cells = page.locator(".jp-Notebook .jp-Cell")
    top, bottom = cells.nth(0).bounding_box(), cells.nth(3).bounding_box()
    clip = {"x": top["x"], "y": top["y"], "width": top["width"], "height": bottom["y"] + bottom["height"] - top["y"] + 6}
    page.screenshot(path=PICTURE, clip=clip)
    page.locator(".bm-stop").click()
    lab.done(page, 3)
    context.close()
