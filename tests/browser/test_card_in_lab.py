"""The card in a real JupyterLab, on real jobs of the embedded node."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nbclient import NotebookClient
from panels import shot

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LOAD = "%load_ext bacalhau_magic"
HURTFUL = "<img src=x onerror='window.hurt = 1'>"
WAITING = f'''%%bacalhau
import sys, time
print("epoch 1")
print("""{HURTFUL}""", flush=True)
print("\\x1b[32mgreen\\x1b[0m", flush=True)
time.sleep(1)
print("a warning", file=sys.stderr, flush=True)
time.sleep(120)
'''
ENDING = """%%bacalhau
import sys, time
print("out", flush=True)
print("err", file=sys.stderr, flush=True)
time.sleep(2)
6 * 7
"""


def outputs(page: Any) -> list[str]:
    """What stands below the cells, each output's text."""
    return [text.strip() for text in page.locator(".jp-OutputArea-output").all_text_contents() if text.strip()]


def title(page: Any, text: str) -> None:
    """Wait until the card's title is `text`."""
    page.wait_for_function("text => document.querySelector('.bm-title')?.textContent === text", arg=text, timeout=60_000)


def test_a_card_lives_and_its_stop_button_stops_the_job(lab: Any, page: Any) -> None:
    """The card shows what happens as it happens, as text alone, and its Stop button ends the job and the cell."""
    lab.write("stop.ipynb", LOAD, WAITING)
    lab.open(page, "stop.ipynb")
    lab.run(page, 0)
    lab.done(page, 0)
    lab.run(page, 1)
    card = page.locator(".bm-card")
    title(page, "Running")
    card.locator(".bm-e").wait_for()
    assert card.locator(".bm-line").all_text_contents() == ["epoch 1", HURTFUL, "green", "a warning"]
    assert card.locator(".bm-e").all_text_contents() == ["a warning"]
    assert card.locator("img").count() == 0
    before = card.locator(".bm-facts").text_content()
    assert before.startswith("on n-")
    assert " of 5 min" in before
    page.wait_for_function("before => document.querySelector('.bm-facts').textContent !== before", arg=before)
    card.locator(".bm-fold").click()
    assert card.locator(".bm-log").is_hidden()
    assert card.locator(".bm-fold").get_attribute("aria-expanded") == "false"
    card.locator(".bm-stop").click()
    lab.done(page, 1)
    assert outputs(page)[0].startswith("■Stopped")
    assert "JobStoppedError" in outputs(page)[-1]
    assert card.count() == 0
    assert page.evaluate("window.hurt") is None


ORDERED = (
    "%%bacalhau\nimport sys\nfrom IPython.display import HTML, display\nprint('one')\ndisplay(HTML('<b>two</b>'))\nprint('three')\n"
    "print('err', file=sys.stderr)\n6 * 7",
    "%%bacalhau --lang bash\necho out; echo err >&2",
    "%%bacalhau --bg -o a\na = 1",
    "%bacalhau wait last",
    "%%bacalhau --no-raise-error\nprint('before')\n1 / 0",
)


def in_order(cells: Any) -> list[list[tuple[str, Any]]]:
    """Of each cell its outputs in order: of what is replaced or read by a person the text alone."""
    return [
        [(it["output_type"], it["data"]["text/plain"] if "data" in it else it.get("text", it.get("ename"))) for it in cell["outputs"]]
        for cell in cells
    ]


def test_outputs_have_one_order_everywhere(front_end: Any, page: Any) -> None:
    """What JupyterLab and Notebook 7 save, show after a reload, and what nbclient leaves, is the same in the same order."""
    name = f"order-{front_end.path.partition('/')[0]}.ipynb"
    front_end.write(name, LOAD, *ORDERED)
    batch = NotebookClient(front_end.read(name), timeout=100, resources={"metadata": {"path": str(front_end.root)}}).execute()
    front_end.open(page, name)
    front_end.run_all(page)
    front_end.done(page, len(ORDERED))
    front_end.save(page)
    wanted = in_order(batch["cells"])
    assert [kind for kind, _ in wanted[1]] == ["display_data", "stream", "display_data", "stream", "stream", "execute_result"]
    assert in_order(front_end.read(name)["cells"]) == wanted
    shown = outputs(page)
    front_end.open(page, name)
    page.wait_for_function("n => document.querySelectorAll('.jp-OutputArea-output').length >= n", arg=len(shown))
    assert [text.split()[0] for text in outputs(page)] == [text.split()[0] for text in shown]


@pytest.mark.parametrize("front", ["lab", "notebook7"])
def test_the_bundle_takes_the_card_s_place_for_good(front: str, request: pytest.FixtureRequest, page: Any) -> None:
    """After the end the bundle stands first, then stdout, stderr and the value; so it is saved, without a widget, and so it reloads."""
    lab = request.getfixturevalue(front)
    name = f"end-{front}.ipynb"
    lab.write(name, LOAD, ENDING)
    lab.open(page, name)
    lab.run(page, 0)
    lab.done(page, 0)
    lab.run(page, 1)
    title(page, "Running")
    lab.done(page, 1)
    first, *rest = outputs(page)
    assert first.startswith("✓Completed")
    assert rest == ["out", "err", "42"]
    assert page.locator(".bm-card").count() == 0
    lab.save(page)
    saved = lab.read(name)
    first = saved["cells"][1]["outputs"][0]
    assert first["data"]["text/plain"] == "bacalhau: completed"
    assert first["metadata"]["bacalhau"]["job"].startswith("j-")
    assert "widget" not in json.dumps(saved)
    lab.open(page, name)
    page.locator(".jp-OutputArea-output").first.wait_for()
    first, *rest = outputs(page)
    assert first.startswith("✓Completed")
    assert rest == ["out", "err", "42"]


def test_a_card_comes_back_after_a_reload(lab: Any, page: Any) -> None:
    """A page that is loaded anew while the job runs shows the card again, and its Stop button works."""
    lab.write("reload.ipynb", LOAD, WAITING)
    lab.open(page, "reload.ipynb")
    lab.run(page, 0)
    lab.done(page, 0)
    lab.run(page, 1)
    title(page, "Running")
    lab.save(page)
    page.reload()
    title(page, "Running")
    page.locator(".bm-stop").click()
    page.wait_for_function("document.querySelector('.bm-title')?.textContent !== 'Running'", timeout=60_000)


def test_a_failure_keeps_its_words(lab: Any, page: Any) -> None:
    """A job whose time was over is called so where its card was, in what is saved, after a reload, and where a background job's receipt stands."""
    late = "--timeout 1s\nimport time; time.sleep(30)"
    lab.write("late.ipynb", LOAD, f"%%bacalhau --no-raise-error {late}", f"%%bacalhau --bg {late}")
    lab.open(page, "late.ipynb")
    lab.run_all(page)
    lab.done(page, 2)
    title(page, "Timed out")
    assert outputs(page)[0].startswith("✕Timed out")
    lab.save(page)
    saved = [cell["outputs"][0] for cell in lab.read("late.ipynb")["cells"][1:]]
    assert saved[0]["data"]["text/plain"] == "bacalhau: timed out"
    assert saved[1]["metadata"]["bacalhau"]["failure"] == "Timed out"
    lab.open(page, "late.ipynb")
    page.locator(".bj-receipt").nth(1).wait_for()
    shot(page, "receipts-timed-out")
    assert all(text.startswith("✕Timed out") for text in page.locator(".bj-receipt").all_text_contents())
