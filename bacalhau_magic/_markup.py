"""A job's Markdown, LaTeX and tables with nothing in them that could act in the notebook's page, or load from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser

__all__ = ["latex", "markdown", "table"]

# Markdown and LaTeX

_UNESCAPED = 4
"""How many times over a character may be escaped in Markdown that is shown."""
_SCRIPT_LINK = re.compile(r"(?:java|vb)script:|data:text", re.IGNORECASE)
_IMAGE = re.compile(r"!\[(?![^\[\]\n]*\]\(data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\))")
"""An image's beginning in Markdown, where the picture doesn't stand in the text itself: a page that loads one tells who reads it."""
_ACTING = re.compile(r"\\(?:href|style|class|cssId|htmlStyle|includegraphics|require|csname)(?![A-Za-z])")
"""Commands of LaTeX, as MathJax has them, that make links, load or style, or hide that they do."""


def markdown(text: str) -> str | None:
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
    if _ACTING.search(text):
        return None
    return re.sub(r"<(?=[A-Za-z/!?])", "<\u2060", _IMAGE.sub("!\u2060[", text))


def latex(text: str) -> str | None:
    """LaTeX whose formulas only show; None where a command makes a link, loads or takes styles."""
    return None if _ACTING.search(text) else text


# Tables


_SHOWN = frozenset(["table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption", "div", "p", "small"])
_VOID = frozenset(("br",))
_SPANS = ("colspan", "rowspan")
_LONGEST = 4_000_000
"""Characters of a document that is read as a table."""


def table(document: str) -> str | None:
    """The HTML of a table made anew: its cells' text and their spans, no attribute besides, no style.

    None when the document is anything else, or holds more than a table's tags, as a link, an image or a script.
    """
    if len(document) > _LONGEST:
        return None
    reader = _TableReader()
    reader.feed(document)
    reader.close()
    return reader.made()


class _TableReader(HTMLParser):
    """Reads a table, and writes it with nothing but what it knows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._open: list[str] = []
        self._style: list[str] | None = None
        self._has_table = False
        self._other = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "style":
            self._style = []
        elif tag in _VOID:
            self._out.append(f"<{tag}>")
        elif tag in _SHOWN:
            self._has_table = self._has_table or tag == "table"
            spans = "".join(
                f' {name}="{value}"' for name, value in attrs if name in _SPANS and value and re.fullmatch(r"[0-9]{1,4}", value)
            )
            kind = ' class="dataframe"' if tag == "table" else ""
            self._out.append(f"<{tag}{kind}{spans}>")
            self._open.append(tag)
        else:
            self._other = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "style" and self._style is not None:
            # The style of pandas' and polars' frames: the notebook has its own for them.
            self._other = self._other or not "".join(self._style).lstrip().startswith(".dataframe")
            self._style = None
        elif self._open and self._open[-1] == tag:
            self._open.pop()
            self._out.append(f"</{tag}>")
        elif tag not in _VOID:
            self._other = True

    def handle_data(self, data: str) -> None:
        if self._style is not None:
            self._style.append(data)
        else:
            self._out.append(html.escape(data))

    def handle_comment(self, data: str) -> None:  # noqa: ARG002
        self._other = True

    def handle_decl(self, decl: str) -> None:  # noqa: ARG002
        self._other = True

    def handle_pi(self, data: str) -> None:  # noqa: ARG002
        self._other = True

    def unknown_decl(self, data: str) -> None:  # noqa: ARG002
        self._other = True

    def made(self) -> str | None:
        """The table; None where the document was none, or more than one."""
        if self._other or self._open or self._style is not None or not self._has_table:
            return None
        return "".join(self._out)
