"""What a job's result shows in a notebook: MIME outputs in their order, cleaned of all that could act in the page.

The order is the same everywhere: the bundle, stdout with the rich displays where they occurred, stderr, the value.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ._markup import latex, markdown, plot, table
from ._stages import JobResult
from .errors import JobInterruptedError, JobStoppedError
from .options import JobOptions
from .progress import Outcome, bundle, clean
from .remote.displays import CLEAR

__all__ = ["Output", "outcome_of", "outputs", "safe"]


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to show.

    `kind` says how: "bundle" and "display" are MIME data (`data`, `metadata`), "stream" is `text` on the stream
    `name`, "value" is the Python object `value`, for the shell to show in its own way.
    """

    kind: Literal["bundle", "display", "stream", "value"]
    data: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: Literal["", "stdout", "stderr"] = ""
    text: str = ""
    value: Any = None


def outcome_of(result: JobResult) -> Outcome:
    """The bundle's word for a result."""
    if result.error is None:
        return "completed"
    return "stopped" if isinstance(result.error, JobStoppedError | JobInterruptedError) else "failed"


def outputs(
    result: JobResult, options: JobOptions, *, failure: str = "", receipt: Mapping[str, Any] | None = None, log_shown: bool = False
) -> list[Output]:
    """Everything that a finished job shows, in order.

    `failure` is the title of a failure, `receipt` the bundle's metadata; `log_shown` says that a view has shown the log and leaves it
    on the screen.
    """
    shown: list[Output] = []
    if not options.quiet:
        shown.append(Output("bundle", bundle(outcome_of(result), failure), receipt or {}))
    python = options.lang == "python"
    parsed = not python and result.error is None and (result.has_value or bool(result.outputs))
    # A recording is as hostile as a node, and not the one that the line trusts.
    trusted = options.trust_html and not result.ref.endpoint.recording
    shown += _stdout(result, trusted, text=not (log_shown or parsed or options.stdout))
    if result.stderr and not (log_shown or options.stderr):
        shown.append(Output("stream", name="stderr", text=clean(result.stderr)))
    shown, cut = _bounded(shown)
    if (notices := [*result.notices, *cut]) and not log_shown:
        shown.append(Output("stream", name="stderr", text="".join(f"bacalhau: {clean(notice)}\n" for notice in notices)))
    if result.has_value:
        shown.append(Output("value", value=result.value))
    elif result.mime:
        shown.append(Output("display", safe(result.mime, trusted)))
    return shown


_MOST = 1_000_000
"""Characters of a stream that stand in the notebook: a page with far more can't be opened any more."""


def _bounded(shown: Sequence[Output]) -> tuple[list[Output], list[str]]:
    """The outputs with no more of a stream than a notebook can hold, and sentences of what is not shown."""
    room, left, kept = {"stdout": _MOST, "stderr": _MOST}, {"stdout": 0, "stderr": 0}, []
    for output in shown:
        if output.kind == "stream":
            text = output.text[: room[output.name]]
            room[output.name] -= len(text)
            left[output.name] += len(output.text) - len(text)
            output = replace(output, text=text if left[output.name] == 0 or not text else f"{text}…\n")
        if output.kind != "stream" or output.text:
            kept.append(output)
    said = [
        f"{count:,} more {'character' if count == 1 else 'characters'} of {name} {'is' if count == 1 else 'are'} not shown: _bacalhau.{name} has all of it."
        for name, count in left.items()
        if count
    ]
    return kept, said


def _stdout(result: JobResult, trusted: bool, *, text: bool) -> Iterator[Output]:
    """Stdout, cut where a rich display occurred; without `text` the displays alone."""
    raw = result.stdout_bytes or result.stdout.encode("utf-8", "surrogatepass")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    start = 0
    pieces: list[tuple[str, Mapping[str, Any] | None]] = []
    for offset, mime in sorted(result.displays, key=lambda display: display[0]):
        end = min(max(offset, start), len(raw))
        pieces.append((decoder.decode(raw[start:end]), mime))
        start = end
    pieces.append((decoder.decode(raw[start:], final=True), None))
    for piece, rich in _not_cleared(pieces):
        if text and piece and (cleaned := clean(piece)):
            yield Output("stream", name="stdout", text=cleaned)
        if rich:
            yield Output("display", safe(rich, trusted))


def _not_cleared(pieces: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """The pieces that no `clear_output()` took away; one that waits for something new takes away only what that replaces."""
    kept: list[tuple[str, Mapping[str, Any] | None]] = []
    waiting = False
    for piece, rich in pieces:
        clears = rich is not None and CLEAR in rich
        if waiting and (piece or (rich and not clears)):
            kept, waiting = [], False
        kept.append((piece, None if clears else rich))
        if clears and rich is not None:
            waiting = bool(rich[CLEAR])
            kept = kept if waiting else []
    return kept


_IMAGES = ("image/png", "image/jpeg", "image/gif")
_PLOTLY = "application/vnd.plotly.v1+json"
_JSON = "application/json"
_ACTING = ("text/html", "text/markdown", "text/latex")
_DEEPEST = 100
"""Levels of a display's JSON; the notebook's own writer follows some hundreds."""
_FRAME = (
    '<iframe sandbox="allow-scripts" referrerpolicy="no-referrer" title="HTML from the job" srcdoc="{document}"'
    ' style="display: block; box-sizing: border-box; width: 100%; height: {height}px; border: 1px solid var(--jp-border-color2, #d9dde3); border-radius: 4px; background: #fff;'
    ' resize: vertical; overflow: auto"></iframe>'
)
_TALLEST = 320
_DRAWS = re.compile(r"<(?:script|style|link|img|svg|canvas|iframe|video|audio|object|embed|form|math)\b|height|position", re.IGNORECASE)
_BLOCK = re.compile(r"<(?:br|hr|p|div|h[1-6]|li|pre|ul|ol|dt|dd|tr|section|article|blockquote)\b", re.IGNORECASE)
_LARGE = re.compile(r"<h[1-3]\b", re.IGNORECASE)


def safe(mime: Mapping[str, Any], trusted: bool = False) -> dict[str, Any]:
    """A remote display with nothing in it that could act in the notebook's page.

    Text, LaTeX, PNG, JPEG, GIF and JSON stay, Plotly's JSON but for addresses that it would load from; Markdown loses its tags and what would load from elsewhere; a
    table's HTML is made anew from its cells; SVG becomes an image, other HTML a sandboxed frame; the rest is left out, and
    where nothing stays, a sentence says so. `trusted` leaves HTML, Markdown, LaTeX and plots as they came.
    """
    kept: dict[str, Any] = {}
    if isinstance(text := mime.get("text/plain"), str):
        kept["text/plain"] = clean(text)
    if isinstance(formula := mime.get("text/latex"), str) and (plain := latex(clean(formula))) is not None:
        kept["text/latex"] = plain
    kept |= {name: mime[name] for name in _IMAGES if _is_base64(mime.get(name))}
    if isinstance(figure := mime.get(_PLOTLY), dict) and _is_shallow(figure):
        kept[_PLOTLY] = figure if trusted else plot(figure)
    if isinstance(facts := mime.get(_JSON), dict | list) and _is_shallow(facts):
        kept[_JSON] = facts
    if isinstance(text := mime.get("text/markdown"), str) and (plain := markdown(clean(text, colours=False))) is not None:
        kept["text/markdown"] = plain
    if isinstance(svg := mime.get("image/svg+xml"), str):
        coded = base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")
        kept["text/html"] = f'<img alt="Figure from the job" style="max-width: 100%" src="data:image/svg+xml;base64,{coded}">'
    elif isinstance(document := mime.get("text/html"), str) and not (set(kept) & {*_IMAGES, _PLOTLY}):
        kept["text/html"] = table(document) or _FRAME.format(document=html.escape(document), height=_height(document))
    if trusted:
        kept |= {name: mime[name] for name in _ACTING if isinstance(mime.get(name), str)}
    if not kept:
        names = ", ".join(sorted(re.sub(r"[^\w.+/-]", "?", str(name))[:60] for name in mime)) or "nothing"
        kept["text/plain"] = f"A display from the job is left out: it holds only {names}."
    return kept


def _height(document: str) -> int:
    """A frame's height in pixels: of plain text by its lines, because the page can't ask the frame; else enough for a picture."""
    if len(document) > 10_000 or _DRAWS.search(document):
        return _TALLEST
    blocks = (re.sub(r"<[^<>]*>|^[^<>]*>", "", block).strip() for block in _BLOCK.split(document))
    lines = sum(1 + len(block) // 100 for block in blocks if block)
    return min(_TALLEST, 22 + 34 * max(lines, 1) + 28 * len(_LARGE.findall(document)))


def _is_shallow(data: Any) -> bool:
    level = [data]
    for _ in range(_DEEPEST):
        level = [item for held in level for item in (held.values() if isinstance(held, dict) else held) if isinstance(item, dict | list)]
        if not level:
            return True
    return False


def _is_base64(data: object) -> bool:
    try:
        return isinstance(data, str) and bool(base64.b64decode(re.sub(r"\s", "", data), validate=True))
    except (binascii.Error, ValueError):
        return False
