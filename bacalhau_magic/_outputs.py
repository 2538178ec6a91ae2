"""What a job's result shows in a notebook: MIME outputs in their order, cleaned of all that could act in the page.

The order is the same everywhere: the bundle, stdout with the rich displays where they occurred, stderr, the value.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._stages import JobResult
from .errors import JobInterruptedError, JobStoppedError
from .options import JobOptions
from .progress import Outcome, bundle, clean

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


def outputs(result: JobResult, options: JobOptions, *, receipt: Mapping[str, Any] | None = None, log_shown: bool = False) -> list[Output]:
    """Everything that a finished job shows, in order.

    `receipt` is the bundle's metadata; `log_shown` says that a view has shown the log and leaves it on the screen.
    """
    shown: list[Output] = []
    if not options.quiet:
        shown.append(Output("bundle", bundle(outcome_of(result)), receipt or {}))
    python = options.lang == "python"
    parsed = not python and result.error is None and (result.has_value or bool(result.outputs))
    shown += _stdout(result, text=not (log_shown or parsed or options.stdout))
    if result.stderr and not (log_shown or options.stderr):
        shown.append(Output("stream", name="stderr", text=clean(result.stderr)))
    if result.notices and not log_shown:
        shown.append(Output("stream", name="stderr", text="".join(f"bacalhau: {clean(notice)}\n" for notice in result.notices)))
    if result.has_value:
        shown.append(Output("value", value=result.value))
    elif result.mime:
        shown.append(Output("display", safe(result.mime)))
    return shown


def _stdout(result: JobResult, *, text: bool) -> Iterator[Output]:
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
    for piece, rich in pieces:
        if text and piece and (cleaned := clean(piece)):
            yield Output("stream", name="stdout", text=cleaned)
        if rich:
            yield Output("display", safe(rich))


_TEXTS = ("text/plain", "text/latex")
_IMAGES = ("image/png", "image/jpeg")
_PLOTLY = "application/vnd.plotly.v1+json"
_FRAME = (
    '<iframe sandbox="allow-scripts" referrerpolicy="no-referrer" title="HTML from the job" srcdoc="{document}"'
    ' style="width: 100%; height: 320px; border: 1px solid var(--jp-border-color2, #d9dde3); border-radius: 4px; background: #fff;'
    ' resize: vertical; overflow: auto"></iframe>'
)


def safe(mime: Mapping[str, Any]) -> dict[str, Any]:
    """A remote display with nothing in it that could act in the notebook's page.

    Text, LaTeX, PNG, JPEG and Plotly's JSON stay; Markdown loses its tags; SVG becomes an image, HTML a sandboxed frame;
    the rest is left out, and where nothing stays, a sentence says so.
    """
    kept: dict[str, Any] = {name: clean(mime[name]) for name in _TEXTS if isinstance(mime.get(name), str)}
    kept |= {name: mime[name] for name in _IMAGES if _is_base64(mime.get(name))}
    if isinstance(mime.get(_PLOTLY), dict):
        kept[_PLOTLY] = mime[_PLOTLY]
    if isinstance(markdown := mime.get("text/markdown"), str) and (plain := _markdown(clean(markdown, colours=False))) is not None:
        kept["text/markdown"] = plain
    if isinstance(svg := mime.get("image/svg+xml"), str):
        coded = base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")
        kept["text/html"] = f'<img alt="Figure from the job" style="max-width: 100%" src="data:image/svg+xml;base64,{coded}">'
    elif isinstance(document := mime.get("text/html"), str) and not (set(kept) & {*_IMAGES, _PLOTLY}):
        kept["text/html"] = _FRAME.format(document=html.escape(document))
    if not kept:
        names = ", ".join(sorted(re.sub(r"[^\w.+/-]", "?", str(name))[:60] for name in mime)) or "nothing"
        kept["text/plain"] = f"A display from the job is left out: it holds only {names}."
    return kept


def _is_base64(data: object) -> bool:
    try:
        return isinstance(data, str) and bool(base64.b64decode(re.sub(r"\s", "", data), validate=True))
    except (binascii.Error, ValueError):
        return False


_UNESCAPED = 4
"""How many times over a character may be escaped in Markdown that is shown."""
_SCRIPT_LINK = re.compile(r"(?:java|vb)script:|data:text", re.IGNORECASE)


def _markdown(text: str) -> str | None:
    """Markdown without HTML: a word joiner after each "<" makes it a text, in code blocks and formulas too.

    None when it holds a link that would run: those are hidden in too many ways to be taken out one by one.
    """
    seen = text
    for _ in range(_UNESCAPED):
        if (plain := html.unescape(seen)) == seen:
            break
        seen = plain
    else:
        return None
    if _SCRIPT_LINK.search(re.sub(r"[\s\\\x00-\x20\xad\u200b-\u200f\u2060\ufeff]", "", seen)):
        return None
    return re.sub(r"<(?=[A-Za-z/!?])", "<\u2060", text)
