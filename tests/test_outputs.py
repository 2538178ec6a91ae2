"""What a result shows, in which order, and that nothing of it acts in the page."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

import pytest

from bacalhau_magic._outputs import Output, outcome_of, outputs, safe
from bacalhau_magic._stages import Endpoint, JobRecord, JobRef, JobResult
from bacalhau_magic._wire import Job
from bacalhau_magic.errors import JobFailedError, JobInterruptedError, JobStoppedError, RemoteCellError
from bacalhau_magic.options import JobOptions
from bacalhau_magic.progress import bundle

FAILED = JobFailedError("exit code 7", job_id="j-1")
PNG = base64.b64encode(b"\x89PNG").decode()


def result(**facts: Any) -> JobResult:
    if isinstance(text := facts.get("stdout"), str):
        facts.setdefault("stdout_bytes", text.encode())
    return JobResult(JobRef("j-1", Endpoint("http://h")), JobRecord(Job()), **facts)


def shown(found: JobResult, *, log_shown: bool = False, **options: Any) -> list[Any]:
    """The outputs in short: a bundle's word, a stream's name and text, a display's data, a value."""
    return [
        output.data["text/plain"]
        if output.kind == "bundle"
        else (output.name, output.text)
        if output.kind == "stream"
        else output.data
        if output.kind == "display"
        else ("value", output.value)
        for output in outputs(found, JobOptions(**options), log_shown=log_shown)
    ]


def test_the_order_is_bundle_stdout_stderr_value() -> None:
    """Everything that a job brings back is shown once, in one order."""
    found = result(stdout="out\n", stderr="err\n", value=42, has_value=True)
    assert shown(found) == ["bacalhau: completed", ("stdout", "out\n"), ("stderr", "err\n"), ("value", 42)]


def test_displays_stand_where_they_occurred() -> None:
    """A rich display is shown between the text before and after it."""
    figure = {"text/plain": "<Figure>", "image/png": PNG}
    found = result(stdout="äb", displays=((2, figure), (3, {"text/plain": "end"})))
    assert shown(found)[1:] == [("stdout", "ä"), figure, ("stdout", "b"), {"text/plain": "end"}]


@pytest.mark.parametrize("offset", [-5, 0, 1, 2, 99])
def test_a_display_s_place_is_never_trusted(offset: int) -> None:
    """An offset outside the text, or within a character, loses no text and breaks nothing."""
    found = result(stdout="äb", displays=((offset, {"text/plain": "x"}),))
    assert "".join(output[1] for output in shown(found)[1:] if isinstance(output, tuple)) == "äb"
    assert {"text/plain": "x"} in shown(found)


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    """Stdout that is not UTF-8 is shown with replacement characters."""
    assert shown(result(stdout="", stdout_bytes=b"a\xff"))[1:] == [("stdout", "a\ufffd")]


def test_the_text_is_there_without_its_bytes() -> None:
    """A log that came without packets is shown too."""
    assert shown(result(stdout="ä", stdout_bytes=b""))[1:] == [("stdout", "ä")]


def test_a_notebook_holds_the_beginning_of_a_huge_stream() -> None:
    """Of a stream with more than a notebook can hold the beginning is shown, displays stay, and a sentence says how much is missing and where it is."""
    found = result(stdout="o" * 3_000_000, stderr="e" * 1_000_001, displays=((2_000_000, {"text/plain": "d"}),), value=1, has_value=True)
    assert shown(found)[1:] == [
        ("stdout", "o" * 1_000_000 + "…\n"),
        {"text/plain": "d"},
        ("stderr", "e" * 1_000_000 + "…\n"),
        (
            "stderr",
            "bacalhau: 2,000,000 more characters of stdout are not shown: _bacalhau.stdout has all of it.\n"
            "bacalhau: 1 more character of stderr is not shown: _bacalhau.stderr has all of it.\n",
        ),
        ("value", 1),
    ]
    assert "not shown" not in str(shown(result(stdout="o" * 1_000_000)))


def test_control_sequences_are_taken_out_and_colours_stay() -> None:
    """A notebook shows a job's colours, and nothing else that its text does."""
    found = result(stdout="\x1b[31mred\x1b[0m\x1b[2J", stderr="\x1b]0;t\x07e")
    assert shown(found)[1:] == [("stdout", "\x1b[31mred\x1b[0m"), ("stderr", "e")]


def test_quiet_leaves_the_bundle_out() -> None:
    """With -q only what the cell gives is shown."""
    assert shown(result(stdout="out\n", value=1, has_value=True), quiet=True) == [("stdout", "out\n"), ("value", 1)]


def test_a_log_that_stands_on_the_screen_is_not_shown_again() -> None:
    """After a text view the streams are left out; displays and value are not."""
    found = result(stdout="out\n", stderr="err\n", value=1, has_value=True, displays=((0, {"text/plain": "x"}),))
    assert shown(found, log_shown=True) == ["bacalhau: completed", {"text/plain": "x"}, ("value", 1)]


@pytest.mark.parametrize(("name", "left"), [("stdout", ("stderr", "err\n")), ("stderr", ("stdout", "out\n"))])
def test_a_bound_stream_is_not_shown(name: str, left: tuple[str, str]) -> None:
    """--stdout NAME and --stderr NAME put the text into a variable instead."""
    assert shown(result(stdout="out\n", stderr="err\n"), **{name: "text"})[1:] == [left]


@pytest.mark.parametrize("facts", [{"value": {"a": 1}, "has_value": True}, {"outputs": {"a": 1}}])
def test_parsed_stdout_is_not_shown_as_text(facts: dict[str, Any]) -> None:
    """In another language stdout that became a value is shown as that value, or bound, instead of printed."""
    found = result(stdout='{"a": 1}\n', stderr="err\n", **facts)
    texts = [output for output in shown(found, lang="bash") if isinstance(output, tuple) and output[0] == "stdout"]
    assert texts == []
    assert ("stderr", "err\n") in shown(found, lang="bash")


def test_python_s_stdout_is_shown_beside_its_value() -> None:
    """In Python what was printed is no value, so both are shown."""
    assert ("stdout", "out\n") in shown(result(stdout="out\n", outputs={"a": 1}))


def test_stdout_of_a_failed_cell_is_shown_whatever_was_wanted() -> None:
    """What a failed job printed is never hidden because it should have become a value."""
    found = result(stdout='{"a"', stderr="boom\n", outputs={"a": 1}, error=FAILED)
    assert shown(found, lang="bash") == ["bacalhau: failed", ("stdout", '{"a"'), ("stderr", "boom\n")]


def test_a_value_of_none_is_a_value() -> None:
    """A cell whose value is None hands it on; the shell decides how to show it."""
    assert shown(result(value=None, has_value=True))[1:] == [("value", None)]


def test_a_value_that_could_not_travel_shows_its_own_display() -> None:
    """The last expression's text and images are shown in the value's place."""
    found = result(stderr="err\n", mime={"text/plain": "<lock>"}, unsendable={"": "a lock"})
    assert shown(found)[1:] == [("stderr", "err\n"), {"text/plain": "<lock>"}]


def test_a_value_is_not_shown_twice() -> None:
    """Where the value itself came, its remote display is not needed."""
    assert shown(result(value=1, has_value=True, mime={"text/plain": "1"}))[1:] == [("value", 1)]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (None, "completed"),
        (FAILED, "failed"),
        (RemoteCellError(job_id="j", ename="E", evalue="", traceback_text=""), "failed"),
        (JobStoppedError("stopped", job_id="j"), "stopped"),
        (JobInterruptedError(job_id="j", stopped=True), "stopped"),
    ],
)
def test_the_bundle_tells_the_outcome(error: BaseException | None, word: str) -> None:
    """The bundle's word follows from the error."""
    assert outcome_of(result(error=error)) == word
    assert outputs(result(error=error), JobOptions())[0].data == bundle(word)


def test_the_receipt_is_metadata_alone() -> None:
    """The facts stand beside the bundle, and its data stays the same."""
    found = outputs(result(), JobOptions(), receipt={"bacalhau": {"job": "j-1"}})
    assert found == [Output("bundle", bundle("completed"), {"bacalhau": {"job": "j-1"}})]


# Displays from a job


def test_harmless_kinds_stay_as_they_are() -> None:
    """Text, LaTeX, images and Plotly's JSON pass."""
    mime = {
        "text/plain": "x",
        "text/latex": "$x^2$",
        "image/png": PNG,
        "image/jpeg": PNG + "\n",
        "application/vnd.plotly.v1+json": {"data": [], "layout": {}},
    }
    assert safe(mime) == mime


@pytest.mark.parametrize(
    "kind",
    [
        "application/javascript",
        "text/javascript",
        "application/vnd.jupyter.widget-view+json",
        "application/vnd.jupyter.widget-state+json",
        "application/vnd.bokehjs_exec.v0+json",
        "application/vnd.vega.v5+json",
        "application/vnd.bacalhau.job+json",
        "application/pdf",
        "text/HTML",
        "TEXT/JAVASCRIPT",
    ],
)
def test_everything_else_is_left_out(kind: str) -> None:
    """Scripts, widgets and every kind that is not on the list never reach the page; alone, it is said that they were there."""
    assert safe({kind: "alert(1)", "text/plain": "x"}) == {"text/plain": "x"}
    alone = safe({kind: "alert(1)"})
    assert list(alone) == ["text/plain"]
    assert kind in alone["text/plain"]
    assert "alert" not in alone["text/plain"]


def test_a_kind_s_name_is_not_trusted() -> None:
    """The sentence about what was left out holds nothing that acts."""
    assert "\x1b" not in safe({"\x1b[2J<script>": "x"})["text/plain"]


def test_html_is_shut_in_a_frame_without_our_origin() -> None:
    """Remote HTML may run its scripts, in a frame that can't reach the page."""
    document = '<p title="a\'b">x</p><script>parent.hurt = 1</script></iframe>'
    shown = safe({"text/html": document})["text/html"]
    assert re.fullmatch(r'<iframe sandbox="allow-scripts"[^<>]*></iframe>', shown)
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == document


def test_a_frame_is_as_tall_as_its_text() -> None:
    """A line of text stands in a low frame; what may draw, and what is long, has room."""
    heights = [
        int(re.search(r"height: (\d+)px", safe({"text/html": document})["text/html"])[1])
        for document in (
            "<p>x</p>", "<h3>plain</h3>", "<p>a</p>" * 4, "<table border=1><tr><td>a<td>b<tr><td>c<td>d</table>", "<p>a</p>" * 400,
            "<h3>map</h3><script>draw()</script>", "<i>" + "x" * 20_000,
        )
    ]  # fmt: skip
    assert heights[0] < 60
    assert heights[0] < heights[1] < heights[2] < 200
    assert heights[3] < 120
    assert heights[4:] == [320, 320, 320]


def test_a_figure_needs_no_html() -> None:
    """Where an image or a plot is there, the HTML beside it is not shown."""
    assert "text/html" not in safe({"text/html": "<p>", "image/png": PNG})


def test_svg_is_an_image() -> None:
    """SVG can hold scripts, which an image does not run."""
    svg = '<svg onload="parent.hurt = 1"></svg>'
    shown = safe({"image/svg+xml": svg})
    assert list(shown) == ["text/html"]
    assert re.fullmatch(r"<img [^<>]*>", shown["text/html"])
    assert base64.b64decode(re.search(r"base64,([^\"]*)\"", shown["text/html"])[1]).decode() == svg


@pytest.mark.parametrize("data", ['"><script>alert(1)</script>', "", None, 5, b"x"])
def test_an_image_must_be_base64(data: object) -> None:
    """What is no base64 is no image."""
    assert safe({"image/png": data, "text/plain": "x"}) == {"text/plain": "x"}


@pytest.mark.parametrize("data", ["<script>", None, 5, ["x"]])
def test_a_plot_must_be_an_object(data: object) -> None:
    """What is no JSON object is no plot."""
    assert safe({"application/vnd.plotly.v1+json": data, "text/plain": "x"}) == {"text/plain": "x"}


def test_control_sequences_are_taken_out_of_displays() -> None:
    """A display's text is cleaned as the log is."""
    assert safe({"text/plain": "\x1b[31mred\x1b[0m\x1b[2J"}) == {"text/plain": "\x1b[31mred\x1b[0m"}


def test_markdown_stays_markdown() -> None:
    """Headings, links, images, code and formulas are kept."""
    text = "# Title\n\n[a](https://example.org) ![b](data:image/png;base64,AAAA) `1 < 2` $a < b$"
    assert safe({"text/markdown": text}) == {"text/markdown": text}


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a <img src=x onerror=alert(1)>", "</div>", "<!-- x -->", "`<b>`", "<?x?>"])
def test_markdown_has_no_tags(text: str) -> None:
    """No "<" in a job's Markdown begins a tag."""
    assert not re.search(r"<[A-Za-z/!?]", safe({"text/markdown": text})["text/markdown"])


@pytest.mark.parametrize(
    "link",
    [
        "[a](javascript:alert(1))",
        "[a](JavaScript:alert(1))",
        "[a](java\tscript:alert(1))",
        "[a](&#106;avascript:alert(1))",
        "[a](&amp;#106;avascript:alert(1))",
        "[a](javascript&colon;alert(1))",
        "[a](java&Tab;script:alert(1))",
        "[a](javascript\\:alert(1))",
        "[a]: javascript:alert(1)\n\n[a]",
        "<javascript:alert(1)>",
        f"[a](&{'amp;' * 9}#106;avascript:alert(1))",
        "[a](vbscript:x)",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
    ],
)
def test_markdown_with_a_link_that_would_run_is_not_shown(link: str) -> None:
    """A link into script, however it is spelled, takes the Markdown with it, and its text is shown."""
    assert safe({"text/markdown": link, "text/plain": "x"}) == {"text/plain": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "![a](https://example.org/x.png)",
        "![a][b]\n\n[b]: https://example.org/x.png",
        "![b]\n\n[b]: https://example.org/x.png",
        "![![c](data:image/png;base64,AAAA)](https://example.org/x.png)",
        "![a](data:image/svg+xml;base64,AAAA)",
        "![a](//example.org/x.png)",
        "![a](\nhttps://example.org/x.png)",
    ],
)
def test_markdown_loads_nothing(text: str) -> None:
    """No picture of a job's Markdown is fetched: the page would tell who reads it, and when."""
    shown = safe({"text/markdown": text, "text/plain": text}).get("text/markdown", "")
    assert not re.search(r"!\[(?![^\[\]]*\]\(data:image/png;)", shown)


@pytest.mark.parametrize(
    "formula",
    [
        r"$\href{javascript:alert(1)}{x}$",
        r"$\style{background:url(//x)}{x}$",
        r"$\csname href\endcsname{a}{b}$",
        r"$\bbox[background:url(//x)]{x}$",
        r"$\mmlToken{mi}[href='//x']{x}$",
    ],
)
@pytest.mark.parametrize("kind", ["text/latex", "text/markdown"])
def test_formulas_only_show(kind: str, formula: str) -> None:
    """A formula makes no link and takes no style."""
    assert safe({kind: formula, "text/plain": "x"}) == {"text/plain": "x"}


@pytest.mark.parametrize(
    "formula",
    [
        "&#36;&#92;href{//x}{x}&#36;",
        "$&#92;href{//x}{x}$",
        "$&bsol;style{color:red}{x}$",
        "$&amp;bsol;href{//x}{x}$",
        "$&#92;href&amp;#97;{x}$",
    ],
)
def test_an_escaped_formula_only_shows_too(formula: str) -> None:
    """A command of LaTeX is found where Markdown would unescape it first."""
    assert safe({"text/markdown": formula, "text/plain": "x"}) == {"text/plain": "x"}


def test_a_plot_loads_nothing() -> None:
    """Addresses of pictures, shapes and maps are taken out of a plot, wherever they stand; pictures in it, and its data, stay."""
    far, near = "https://example.org/x.png", "data:image/png;base64,AAAA"
    plot = {
        "data": [
            {"type": "image", "source": far},
            {"type": "choropleth", "geojson": far, "text": [far]},
            {"type": "sankey", "link": {"source": [0, 1]}},
        ],
        "layout": {
            "images": [{"source": far, "x": 1}, {"source": "//example.org/x"}, {"source": "x/y.png"}, {"source": near}],
            "template": {"layout": {"images": [{"source": far}]}},
            "mapbox": {"style": "open-street-map", "layers": [{"source": [far], "sourcetype": "raster"}]},
            "map": {"style": {"sources": {"a": {"tiles": [far], "url": far}}, "glyphs": far}},
            "updatemenus": [{"buttons": [{"args": [{"images[0].source": far}]}]}],
        },
        "config": {"topojsonURL": far},
    }
    assert safe({"application/vnd.plotly.v1+json": plot})["application/vnd.plotly.v1+json"] == {
        "data": [{"type": "image"}, {"type": "choropleth", "text": [far]}, {"type": "sankey", "link": {"source": [0, 1]}}],
        "layout": {
            "images": [{"x": 1}, {}, {}, {"source": near}],
            "template": {"layout": {"images": [{}]}},
            "mapbox": {"style": "open-street-map", "layers": [{"sourcetype": "raster"}]},
            "map": {"style": {"sources": {"a": {}}}},
            "updatemenus": [{"buttons": [{"args": [{}]}]}],
        },
        "config": {},
    }


def test_a_table_is_made_anew() -> None:
    """A frame's HTML keeps its cells, and has no attribute, style or tag besides a table's."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": ["<b>x</b>", "y & z"]}, index=pandas.MultiIndex.from_tuples([("i", 1), ("i", 2)]))
    shown = safe({"text/html": frame._repr_html_()})["text/html"]
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td>" in shown
    assert '<th rowspan="2">i</th>' in shown
    assert 'class="dataframe"' in shown
    assert "style" not in shown
    polars = pytest.importorskip("polars")
    assert "<small>shape: (1, 1)</small>" in safe({"text/html": polars.DataFrame({"a": [1]})._repr_html_()})["text/html"]


@pytest.mark.parametrize(
    "document",
    [
        "<table><tr><td><img src=x onerror=alert(1)></td></tr></table>",
        "<table><tr><td><a href=javascript:alert(1)>x</a></td></tr></table>",
        "<table></table><script>alert(1)</script>",
        "<style>body {display: none}</style><table></table>",
        "<table><!-- x --></table>",
        "<table><tr><td>",
        "<table><svg/onload=alert(1)></table>",
        "<table><tr></table></tr>",
        "<p>x</p>",
    ],
)
def test_what_is_more_than_a_table_is_shut_in_a_frame(document: str) -> None:
    """A table with anything else in it is remote HTML as any other."""
    assert safe({"text/html": document})["text/html"].startswith('<iframe sandbox="allow-scripts"')


def test_a_table_s_attributes_do_nothing() -> None:
    """Handlers, styles and odd spans are not taken over."""
    document = '<table onclick="alert(1)" style="x"><tr><td colspan="2" rowspan="9e9" onload=x>a</td></tr></table>'
    assert safe({"text/html": document}) == {"text/html": '<table class="dataframe"><tr><td colspan="2">a</td></tr></table>'}


def test_json_is_shown_as_json() -> None:
    """A JSON display stays one, unless it is nested so deep that the page's reader or ours would give up."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert safe({"application/json": {"a": [1]}, "text/plain": "x"}) == {"application/json": {"a": [1]}, "text/plain": "x"}
    for kind in ("application/json", "application/vnd.plotly.v1+json"):
        assert safe({kind: {"a": deep}, "text/plain": "x"}) == {"text/plain": "x"}


CLEAR = {"application/vnd.bacalhau.clear+json": False}
LATER = {"application/vnd.bacalhau.clear+json": True}
X = {"text/plain": "x"}


@pytest.mark.parametrize(
    ("displays", "wanted"),
    [
        (((1, X), (2, CLEAR)), [("stdout", "c")]),
        (((1, X), (2, LATER)), [("stdout", "c")]),
        (((1, X), (3, LATER)), [("stdout", "a"), X, ("stdout", "bc")]),
        (((1, X), (3, LATER), (3, X)), [X]),
        (((0, CLEAR), (0, LATER), (1, X)), [("stdout", "a"), X, ("stdout", "bc")]),
    ],
)
def test_cleared_output_is_not_shown(displays: Any, wanted: list[Any]) -> None:
    """What was shown before `clear_output()` is left out; with `wait=True` only when something came after it."""
    assert shown(result(stdout="abc", displays=displays))[1:] == wanted


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a ",
        "&",
        "&#",
        "<!--",
        "<tr>",
        "</",
        "<td a='",
        "<![CDATA[",
        "<style>",
        "<td colspan",
        "<td " + "colspan=1 " * 50 + ">",
        "<td>&amp;x",
    ],
)
def test_a_large_document_is_read_once(piece: str) -> None:
    """No document makes the reader of tables go over it again and again: three million characters end, and the test's own limit would tell."""
    assert "iframe" in safe({"text/html": "<table>" + piece * (3_000_000 // len(piece))})["text/html"]


@pytest.mark.parametrize("piece", ["![", "![a](data:image/png;base64,", "![a", "\\", "&#", "<", "$\\", "![]("])
def test_large_markdown_is_read_once(piece: str) -> None:
    """No Markdown makes its reader go over it again and again."""
    assert safe({"text/markdown": piece * (1_000_000 // len(piece)), "text/plain": "x"})["text/plain"] == "x"
