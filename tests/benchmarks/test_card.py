"""How soon a cell's card stands in the page, beside how soon a plain cell's print does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

RUNS = 3
OBSERVED = """([cell, wanted]) => {
  const look = () => { if (document.querySelectorAll(".jp-CodeCell")[cell].querySelector(wanted)) window.seen ??= performance.now(); };
  window.seen = null;
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
  window.began = performance.now();
}"""


def waited(lab: Any, page: Any, cell: int, wanted: str) -> float:
    """Milliseconds from the press on Run until what is wanted stands below a cell."""
    page.evaluate(OBSERVED, [cell, wanted])
    lab.run(page, cell)
    page.wait_for_function("window.seen !== null")
    lab.done(page, cell)
    return float(page.evaluate("window.seen - window.began"))


def test_how_soon_the_card_comes(lab: Any, page: Any, report: Callable[[str], None]) -> None:
    """A warm kernel in JupyterLab: the card of a cell, and the print of a plain one, the best of three each."""
    cells = ["%load_ext bacalhau_magic", "%%bacalhau\n1", *["print('here')"] * RUNS, *["%%bacalhau\nimport time; time.sleep(1)"] * RUNS]
    lab.write("soon.ipynb", *cells)
    lab.open(page, "soon.ipynb")
    for cell in (0, 1):
        lab.run(page, cell)
        lab.done(page, cell)
    plain = min(waited(lab, page, cell, ".jp-OutputArea-output pre") for cell in range(2, 2 + RUNS))
    card = min(waited(lab, page, cell, ".bm-card") for cell in range(2 + RUNS, 2 + 2 * RUNS))
    report(f"the card stands in the page after {card:.0f} ms, a plain print after {plain:.0f} ms, ratio {card / plain:.1f}")
