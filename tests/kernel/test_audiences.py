"""Front ends that have not the card's script: one that keeps outputs gets a line in the card's place, a console one that is written over."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from habits import outcomes
from kernels import Kernel, Ran

WIDGET = "application/vnd.jupyter.widget-view+json"
SLOW = "%%bacalhau\nimport time\nprint('begins', flush=True)\ntime.sleep({})\nprint('ends')\n6 * 7"


def states(ran: Ran) -> list[dict[str, Any]]:
    """What stood in the place of the cell's first display, one after the other."""
    shown = [output["content"] for output in ran.outputs if "data" in output["content"]]
    place = shown[0]["transient"]["display_id"]
    return [content["data"] for content in shown if content.get("transient", {}).get("display_id") == place]


@pytest.fixture(params=["silent", "refusing"])
def plain(live: Kernel, request: pytest.FixtureRequest) -> Kernel:
    """A front end without the card's script: it says nothing, or closes the card's comm."""
    live.draws_cards = False
    live.refuses = request.param == "refusing"
    return live


def test_a_line_in_the_card_s_place(plain: Kernel) -> None:
    """In a notebook without the card's script one line tells how the job goes; the bundle takes its place, and stdout comes once, behind it."""
    ran = plain.run(SLOW.format(4))
    assert ran.value == "42", ran.text
    first, *lines, last = states(ran)
    assert WIDGET in first
    texts = [line["text/plain"] for line in lines]
    assert [text for text in texts if re.fullmatch(r"bacalhau: running on n-\w+ · \d\.?\d* s of 5 min · .*", text)]
    assert len(set(texts)) == len(texts) > 1
    assert not [line for line in lines if WIDGET in line or line["text/html"].count("<div") != 1]
    assert last["text/plain"] == "bacalhau: completed"
    kept = [(output["type"], output["content"].get("text")) for output in ran.outputs if output["type"] != "update_display_data"]
    assert kept == [("display_data", None), ("stream", "begins\nends\n"), ("execute_result", None)]
    assert outcomes(ran) == ["completed"]


def test_it_is_known_the_next_time(plain: Kernel) -> None:
    """A front end that had not the card's script gets a line from the first moment in its next cell, and never a card."""
    plain.run(SLOW.format(2))
    first, *_, last = states(plain.run(SLOW.format(1)))
    assert first["text/plain"].startswith("bacalhau: packing")
    assert WIDGET not in first
    assert last["text/plain"] == "bacalhau: completed"


def test_a_background_card_s_line(plain: Kernel) -> None:
    """A background cell's line goes on below other cells, and its bundle stands there once the job is over."""
    ran = plain.run("%%bacalhau --bg --job j\nimport time\ntime.sleep(5)\n6 * 7")
    place = ran.outputs[0]["content"]["transient"]["display_id"]
    assert plain.run("1 + 1").value == "2"
    plain.update(place, lambda content: content["data"]["text/plain"].startswith("bacalhau: running on n-"))
    told = plain.update(place, lambda content: content["metadata"].get("bacalhau", {}).get("outcome"))
    assert (told["data"]["text/plain"], WIDGET in told["data"]) == ("bacalhau: submitted", False)
    assert told["metadata"]["bacalhau"]["result"] == "value: int"
    assert plain.run("await j").value == "42"


def test_a_cell_without_a_value_brings_none(plain: Kernel) -> None:
    """A last expression that is None, as a print, is no value: nothing is said to have been brought back."""
    ran = plain.run("%%bacalhau --bg --lang python\nprint('out')")
    place = ran.outputs[0]["content"]["transient"]["display_id"]
    told = plain.update(place, lambda content: content["metadata"].get("bacalhau", {}).get("outcome"))
    assert told["metadata"]["bacalhau"]["outcome"] == "completed"
    assert "result" not in told["metadata"]["bacalhau"]


def test_wait_all_has_one_line(plain: Kernel) -> None:
    """wait --all is one line with a bar over all jobs."""
    plain.run("from bacalhau_magic import submit\nfor n in range(2): submit(f'import time; time.sleep({4 * n})')")
    ran = plain.run("%bacalhau wait --all")
    assert ran.error is None, ran.text
    assert [data for data in states(ran) if re.search(r"2 jobs ━+─+ 1 completed · 1 running", data["text/plain"])]


def test_a_late_answer_brings_the_card_back(live: Kernel) -> None:
    """A page that loads slowly, or comes later, gets the card back in the line's place."""
    live.draws_cards = False
    request = live.send(SLOW.format(5))
    live.until(lambda snapshot: snapshot.get("title") == "Running")
    time.sleep(2)
    live.press({"kind": "here"})
    ran = live.collect(request)
    forms = ["card" if WIDGET in data else data["text/plain"].split()[1] for data in states(ran)]
    assert forms[0] == "card"
    assert forms[-2:] == ["card", "completed"]
    assert "running" in forms
    live.draws_cards = True
    assert all(WIDGET in data for data in states(live.run(SLOW.format(2)))[:-1])


def test_a_front_end_that_answered_is_not_doubted(live: Kernel) -> None:
    """Once a card was drawn, the kernel's next ones stay although nobody answers, as while a page is closed."""
    live.run(SLOW.format(1))
    live.draws_cards = False
    assert all(WIDGET in data for data in states(live.run(SLOW.format(3)))[:-1])


def test_a_console_has_one_line_that_is_written_over(plain: Kernel) -> None:
    """A console shows nothing twice: the state on one line, the log as it comes, then bundle and value."""
    plain.keeps_outputs = False
    for _ in range(2):
        ran = plain.run(SLOW.format(3))
        assert ran.value == "42", ran.text
        assert [output["type"] for output in ran.outputs if output["type"] != "stream"] == ["display_data", "execute_result"]
        text = ran.stream("stdout")
        assert re.search(r"\rbacalhau: running on n-\w+ · \S+ s of 5 min", text)
        assert [left for line in text.split("\n") if (left := line.rpartition("\r")[2].strip())] == ["begins", "ends"]
        assert WIDGET not in str(ran.outputs)
        assert outcomes(ran) == ["completed"]


def test_a_console_is_told_of_background_failures(plain: Kernel) -> None:
    """In a console a background failure is told once, below the next cell."""
    plain.keeps_outputs = False
    plain.run(SLOW.format(2))
    ran = plain.run("%%bacalhau --bg --name broken --job j\n1/0")
    assert [output["content"]["data"]["text/plain"] for output in ran.outputs[:1]] == ["bacalhau: submitted"]
    told = [plain.run(code).text for code in ("import time\nwhile not j.done(): time.sleep(0.1)", "1", "2")]
    assert "".join(told).count("the job broken failed: ZeroDivisionError") == 1


def test_a_card_that_was_asked_for_stays(live: Kernel) -> None:
    """With --progress widget a card that nobody answers for stays."""
    live.draws_cards = False
    assert all(WIDGET in data for data in states(live.run(SLOW.format(3).replace("bacalhau", "bacalhau --progress widget", 1)))[:-1])
