"""The jobs panel in a real JupyterLab, on real jobs of the embedded node."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from cluster import Cluster
from panels import LOAD, called, serious, shot, show, started, themed

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HURTFUL = "<img src=x onerror='window.hurt = 1'>"
WAITING = f"""%%bacalhau --cpu 0.1 --name "{HURTFUL}"
import time
print("epoch 4/10", flush=True)
time.sleep(120)
"""


def test_the_panel_fills_while_a_cell_runs_and_stops_it(lab: Any, page: Any) -> None:
    """A waiting cell's job is in the panel, live and as text alone, and Stop there ends the job and the cell."""
    panel = started(lab, page, "panel.ipynb", WAITING)
    row = panel.locator(".bj-row[data-phase=running]")
    row.wait_for()
    assert row.locator(".bj-name").text_content() == "panel.ipynb [2] python"
    assert row.locator(".bj-line").text_content().startswith("Running on n-")
    row.locator(".bj-line", has_text="4 of 10").wait_for()
    before = row.locator(".bj-time").text_content()
    page.wait_for_function("before => document.querySelector('.bj-time').textContent !== before", arg=before)
    row.locator(".bj-head").click()
    assert HURTFUL in row.locator(".bj-id").text_content()
    row.get_by_role("button", name="Stop").click()
    panel.locator(".bj-row[data-phase=stopped]").wait_for()
    lab.done(page, 1)
    assert page.evaluate("window.hurt") is None


def test_jobs_are_present_where_one_is_not_looking(lab: Any, page: Any) -> None:
    """The status bar counts and leads to the panel, the Running section lists, and an end that nobody sees is told."""
    panel = started(lab, page, "away.ipynb", "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(6)")
    panel.locator(".bj-row[data-phase=running]").wait_for()
    page.evaluate("() => window.jupyterapp.shell.activateById('jp-running-sessions')")
    panel.wait_for(state="hidden")
    page.locator(".bj-status", has_text="Bacalhau: 1 running").click()
    panel.wait_for()
    page.evaluate("() => window.jupyterapp.shell.activateById('jp-running-sessions')")
    page.locator("#jp-running-sessions", has_text="away.ipynb [2] python").wait_for()
    page.evaluate("async () => { await window.jupyterapp.commands.execute('launcher:create') }")
    page.get_by_text("away.ipynb [2] python: Completed").first.wait_for()
    shot(page, "notification")
    page.wait_for_function("() => !document.querySelector('.bj-status')?.textContent")


def test_a_job_is_stopped_in_the_running_section(lab: Any, page: Any) -> None:
    """The Running section's own button stops a job, which leaves the section; its end is not told while its notebook is in view."""
    panel = started(lab, page, "section.ipynb", "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(90)")
    panel.locator(".bj-row[data-phase=running]").wait_for()
    page.evaluate("() => window.jupyterapp.shell.activateById('jp-running-sessions')")
    item = page.locator("#jp-running-sessions .jp-RunningSessions-item", has_text="section.ipynb [2] python")
    item.hover()
    item.locator(".jp-RunningSessions-itemShutdown").click()
    item.wait_for(state="detached")
    show(page).locator(".bj-row[data-phase=stopped]").wait_for()
    page.wait_for_timeout(500)  # a note would come with the row's change
    assert page.locator(".Toastify__toast", has_text="section.ipynb").count() == 0


def test_two_kernels_and_a_reload(lab: Any, page: Any) -> None:
    """Jobs of two kernels stand side by side; a reload brings them back, live."""
    started(lab, page, "one.ipynb", "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(100)")
    page.locator(".bj-row[data-phase=running] .bj-name", has_text="one.ipynb").wait_for()
    lab.write("two.ipynb", LOAD, "%%bacalhau --cpu 0.1 --bg --lang bash\nsleep 100")
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:open', {path: 'two.ipynb'}) }")
    run = """async () => {
      const panel = window.jupyterapp.shell.currentWidget;
      await panel.context.ready; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
      for (const cell of [0, 1]) { panel.content.activeCellIndex = cell; await window.jupyterapp.commands.execute('notebook:run-cell'); }
    }"""
    page.evaluate(run)
    page.get_by_role("button", name="All", exact=True).click()
    names = page.locator(".bj-row[data-phase=running] .bj-name")
    names.filter(has_text="two.ipynb").wait_for()
    assert sorted(name.split()[0] for name in names.all_text_contents()) == ["one.ipynb", "two.ipynb"]
    shot(page, "two-kernels")
    page.goto(page.url.split("?")[0] + "?token=browsertest")
    page.wait_for_function("() => !!window.jupyterapp?.shell")
    show(page)
    page.get_by_role("button", name="All", exact=True).click()
    time = page.locator(".bj-row[data-phase=running]", has_text="two.ipynb").locator(".bj-time", has_text=" s")
    time.wait_for()
    before = time.text_content()
    page.wait_for_function("before => [...document.querySelectorAll('.bj-time')].every(it => it.textContent !== before)", arg=before)


def test_a_restart_keeps_the_jobs_and_they_can_still_be_stopped(lab: Any, page: Any) -> None:
    """After a kernel restart the panel says what was last known; once the extension is loaded again the job is there, and is stopped."""
    panel = started(lab, page, "restart.ipynb", "%%bacalhau --cpu 0.1 --bg --lang bash\nsleep 100")
    row = panel.locator(".bj-row", has_text="restart.ipynb")
    panel.locator(".bj-row[data-phase=running]").wait_for()
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart() }")
    row.locator(".bj-line", has_text="Last known: Running").wait_for()
    lab.run(page, 0)
    panel.locator(".bj-row[data-phase=sent]").locator(".bj-line", has_text="Running").wait_for()
    assert row.count() == 1
    row.locator(".bj-head").click()
    row.get_by_role("button", name="Stop").click()
    panel.locator(".bj-row[data-phase=stopped]").wait_for()


def test_times_of_an_earlier_kernel_s_jobs(lab: Any, page: Any) -> None:
    """In a page and a kernel that never saw them, a job that is over has its whole time and its date, and one that runs counts on."""
    panel = started(
        lab, page, "times.ipynb", "%%bacalhau --cpu 0.1 --lang bash\nsleep 1.5", "%%bacalhau --cpu 0.1 --bg --lang bash\nsleep 100"
    )
    panel.locator(".bj-row[data-phase=running]").wait_for()
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart() }")
    page.evaluate("() => sessionStorage.clear()")
    page.goto("about:blank")
    lab.open(page, "times.ipynb")
    show(page)
    page.evaluate("() => sessionStorage.clear()")
    lab.run(page, 0)
    over, going = (panel.locator(f".bj-row[data-phase={phase}]", has_text="times.ipynb") for phase in ("completed", "sent"))
    over.wait_for()
    assert re.fullmatch(r"[1-9]\.\d s", over.locator(".bj-time").text_content())
    over.locator(".bj-head").click()
    assert f"sent {time.localtime().tm_mon}/{time.localtime().tm_mday}/" in over.locator(".bj-id").text_content()
    clock = going.locator(".bj-time")
    before = clock.text_content()
    assert re.fullmatch(r"\d+ s", before)
    page.wait_for_function(
        "before => [...document.querySelectorAll('.bj-row[data-phase=sent] .bj-time')].every(it => it.textContent !== before)", arg=before
    )
    going.locator(".bj-head").click()
    going.get_by_role("button", name="Stop").click()
    stopped = panel.locator(".bj-row[data-phase=stopped]", has_text="times.ipynb")
    stopped.wait_for()
    assert stopped.locator(".bj-time").text_content()


def test_what_a_job_left_is_drawn_without_a_kernel(front_end: Any, page: Any) -> None:
    """A saved output is drawn from its metadata, as text, in a notebook without a kernel."""
    data = {"application/vnd.bacalhau.job+json": {"version": 1, "outcome": "completed"}, "text/plain": "bacalhau: completed"}
    facts = {"job": "j-54785d3f", "node": HURTFUL, "seconds": 1.8, "started": "2026-01-01T10:00:00+00:00", "route": "local: here"}
    front_end.write("saved.ipynb", "%%bacalhau\n1")
    notebook = json.loads((front_end.root / "saved.ipynb").read_text())
    notebook["cells"][0]["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {"bacalhau": facts}}]
    notebook["metadata"] = {"kernelspec": {"name": "no-such-kernel", "display_name": "None", "language": "python"}}
    (front_end.root / "saved.ipynb").write_text(json.dumps(notebook))
    page.goto(f"{front_end.url}/{front_end.path}/saved.ipynb?token=browsertest&reset")
    card = page.locator(".bj-receipt")
    card.wait_for()
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    assert "Completed" in card.text_content()
    assert "in 1.8 s on <img src=" in card.text_content()
    assert card.locator("dd").first.text_content() == "j-54785d3f"
    assert card.locator("img").count() == 0
    assert page.evaluate("window.hurt") is None
    assert card.locator("dd").first.is_hidden()
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    card.locator("dd").first.wait_for()
    for theme in ("light", "dark"):
        themed(page, theme)
        shot(page, f"receipt-{front_end.name}-{theme}")
        assert serious(page, ".bj-receipt") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_panel_is_accessible_in_both_themes_and_by_keyboard(lab: Any, page: Any, theme: str) -> None:
    """axe finds nothing serious, in light and in dark; the rows are walked and opened by keys."""
    panel = started(
        lab, page, f"{theme}.ipynb", "%%bacalhau\n6 * 7", "%%bacalhau\n1 / 0", "%%bacalhau --cpu 0.1 --bg\nimport time; time.sleep(60)"
    )
    panel.locator(".bj-row[data-phase=running]").wait_for()
    themed(page, theme)
    heads = panel.locator(".bj-head")
    heads.nth(2).wait_for()
    heads.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    panel.locator(".bj-row[data-phase=failed][data-open=true]").wait_for()
    shot(page, f"panel-{theme}")
    assert serious(page, ".bj-panel") == []
    assert re.fullmatch(r"[\d.]+ s", panel.locator(".bj-row[data-phase=completed] .bj-time").text_content())
    phases = "() => [...document.querySelectorAll('.bj-row')].map(it => it.dataset.phase).join()"
    for order, shown in (("name", "completed,failed,running"), ("state", "running,failed,completed")):
        panel.get_by_label("Sort jobs").select_option(order)
        assert page.evaluate(phases) == shown
    panel.get_by_role("searchbox").fill("zerodivision")
    assert panel.locator(".bj-row").count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_job_s_actions_by_keys_alone(lab: Any, page: Any, theme: str) -> None:
    """The palette calls the panel, a row is opened, its log is opened, and the job is stopped by Enter and Tab; axe finds nothing serious in the log."""
    cell = "%%bacalhau --cpu 0.1 --bg\nimport sys, time\nprint('out'); print('err', file=sys.stderr, flush=True)\ntime.sleep(90)"
    panel = started(lab, page, f"keys-{theme}.ipynb", cell)
    row = panel.locator(".bj-row[data-phase=running]")
    row.wait_for()
    themed(page, theme)
    head = panel.locator(".bj-head")
    page.evaluate(
        "() => { window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.activateById(window.jupyterapp.shell.currentWidget.id) }"
    )
    called(page)
    for _ in range(5):  # All, Nodes, the filter, the order, the row
        page.keyboard.press("Tab")
    for key in ("Enter", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    page.locator(".bj-log [data-stream=stderr]", has_text="err").wait_for()
    shot(page, f"log-{theme}")
    assert serious(page, ".bj-log") == []
    head.focus()
    for key in ("Tab", "Enter"):
        page.keyboard.press(key)
    panel.locator(".bj-row[data-phase=stopped]").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_cluster_s_gpus_and_a_node_by_keys_alone(lab: Any, page: Any, theme: str) -> None:
    """The nodes tab says which GPUs each node of a cluster has; tab, node and "Use this node" are reached by keys."""
    cluster = Cluster()
    try:
        lab.write(f"gpus-{theme}.ipynb", f"%env BACALHAU_API_URL={cluster.url}", LOAD, "6 * 7")
        lab.open(page, f"gpus-{theme}.ipynb")
        lab.through(page, 0, 1)
        themed(page, theme)
        panel = show(page)
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2 }")
        panel.get_by_role("button", name="This notebook").focus()
        for key in ("Tab", "Tab", "Enter"):
            page.keyboard.press(key)
        panel.locator(".bj-node dd", has_text="2 × NVIDIA A100-SXM4-80GB").wait_for()
        assert panel.locator(".bj-node dd", has_text="Radeon VII").count() == 1
        shot(page, f"gpus-{theme}")
        assert serious(page, ".bj-panel") == []
        for key in ("Tab", "Tab", "Enter"):
            page.keyboard.press(key)
        page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell')[2].textContent.includes('%%bacalhau --constraints')")
    finally:
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown() }")
        cluster.stop()


def test_the_form_writes_and_edits_the_line(lab: Any, page: Any) -> None:
    """The form offers the variables that the cell reads, shows what is wrong, and writes the line into the cell."""
    lab.write("form.ipynb", LOAD, "x, y = 1, 2", "total = x + y\ntotal")
    lab.open(page, "form.ipynb")
    lab.through(page, 0, 1)
    page.evaluate("() => { const it = window.jupyterapp.shell.currentWidget; it.content.activeCellIndex = 2; it.content.mode = 'command' }")
    source = "() => window.jupyterapp.shell.currentWidget.content.widgets[2].model.sharedModel.getSource()"
    page.evaluate("() => { window.jupyterapp.commands.execute('bacalhau-magic:form') }")
    form = page.locator(".bj-form")
    form.get_by_label("--lang").fill("bash")
    form.get_by_label("--gpu", exact=True).fill("A100:2")
    assert form.locator(".bj-preview").text_content() == "%%bacalhau --lang bash --gpu A100:2"
    form.get_by_label("--lang").fill("python")
    form.get_by_label("--gpu", exact=True).fill("0")
    form.get_by_label("--cpu").fill("0.5")
    form.get_by_label("--memory").fill("1GB")
    form.locator(".bj-tick", has_text="x").click()
    form.locator(".bj-tick", has_text="y").click()
    form.get_by_label("--outputs").fill("total")
    assert (
        form.locator(".bj-preview").text_content()
        == "%%bacalhau --lang python --inputs x --inputs y --outputs total --cpu 0.5 --memory 1GB --gpu 0"
    )
    shot(page, "form")
    assert serious(page, ".bj-form") == []
    page.get_by_role("button", name="Write the line").click()
    page.wait_for_function(
        "source => window.jupyterapp.shell.currentWidget.content.widgets[2].model.sharedModel.getSource() === source",
        arg="%%bacalhau --lang python --inputs x --inputs y --outputs total --cpu 0.5 --memory 1GB --gpu 0\ntotal = x + y\ntotal",
    )
    lab.run(page, 2)
    lab.done(page, 2)
    page.locator(".jp-OutputArea-output", has_text="3").last.wait_for()
    page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; window.jupyterapp.commands.execute('bacalhau-magic:form') }"
    )
    assert form.get_by_label("--cpu").input_value() == "0.5"
    form.get_by_label("--memory").fill("")
    page.get_by_role("button", name="Write the line").click()
    form.wait_for(state="hidden")
    line = "%%bacalhau --lang python --inputs x --inputs y --outputs total --cpu 0.5 --gpu 0\n"
    page.wait_for_function(f"line => ({source})().startsWith(line)", arg=line)


def test_nodes_are_shown_and_used(front_end: Any, page: Any) -> None:
    """The nodes tab shows capacity, and "use this node" writes a constraint that the node fulfils."""
    name = f"nodes-{front_end.name}.ipynb"
    front_end.write(name, LOAD, "%%bacalhau --cpu 0.1\n6 * 7")
    front_end.open(page, name)
    panel = show(page)
    front_end.run(page, 0)
    front_end.done(page, 0)
    panel.get_by_role("button", name="Nodes", exact=True).click()
    panel.locator(".bj-node dt", has_text="CPUs").wait_for()
    shot(page, "nodes")
    assert serious(page, ".bj-panel") == []
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1 }")
    panel.get_by_role("button", name="Use this node").click()
    page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell')[1].textContent.includes('--constraints')")
    front_end.run(page, 1)
    front_end.done(page, 1)
    page.locator(".jp-OutputArea-executeResult .jp-OutputArea-output", has_text="42").wait_for()
