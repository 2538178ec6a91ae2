"""A job's Markdown, LaTeX, tables and plots with nothing in them that could act in the notebook's page, or load from elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

__all__ = ["latex", "markdown", "plot", "table"]

# Markdown and LaTeX

_UNESCAPED = 4
"""How many times over a character may be escaped in Markdown that is shown."""
_SCRIPT_LINK = re.compile(r"(?:java|vb)script:|data:text", re.IGNORECASE)
_IMAGE = re.compile(r"!\[(?![^\[\]\n]*\]\(data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\))")
"""An image's beginning in Markdown, where the picture doesn't stand in the text itself: a page that loads one tells who reads it."""
_ACTING = re.compile(r"\\(?:href|style|class|cssId|data|bbox|mmlToken|url|html[A-Z][a-z]+|includegraphics|require|csname)(?![A-Za-z])")
"""Commands of LaTeX, as MathJax has them, that make links, load or style, or hide that they do."""


def markdown(text: str) -> str | None:
    """Markdown without HTML: a word joiner after each "<" makes it a text, in code blocks and formulas too.

    None when it holds a link that would run: those are hidden in too many ways to be taken out one by one.
    """
    seen = text
    for _ in range(_UNESCAPED):
        if _ACTING.search(seen):
            return None
        if (plain := html.unescape(seen)) == seen:
            break
        seen = plain
    else:
        return None
    if _SCRIPT_LINK.search(re.sub(r"[\s\\\x00-\x20\xad\u200b-\u200f\u2060\ufeff]", "", seen)):
        return None
    return re.sub(r"<(?=[A-Za-z/!?])", "<\u2060", _IMAGE.sub("!\u2060[", text))


def latex(text: str) -> str | None:
    """LaTeX whose formulas only show; None where a command makes a link, loads or takes styles."""
    return None if _ACTING.search(text) else text


# Tables


_TOKEN = re.compile(r"(?P<text>[^<]+)|<(?P<end>/?)(?P<tag>[A-Za-z]+)(?P<rest>(?:[\s/][^<>]*)?)>")
_SHOWN = frozenset(["table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption", "div", "p", "small"])
_SPAN = re.compile(r"\s(colspan|rowspan)=[\"']?([0-9]{1,4})(?=[\"'\s/]|$)", re.IGNORECASE)
_STYLE_END = "</style>"
_LONGEST = 4_000_000
"""Characters of a document that is read as a table."""


def table(document: str) -> str | None:
    """The HTML of a table made anew: its cells' text and their spans, no attribute besides, no style.

    None when the document is anything else, or holds more than a table's tags, as a link, an image or a script. It is
    read token by token, each once: the standard library's reader takes a stranger's document hours.
    """
    if len(document) > _LONGEST:
        return None
    made: list[str] = []
    waiting: list[str] = []
    at = 0
    while at < len(document):
        token = _TOKEN.match(document, at)
        if token is None:
            return None
        at, tag = token.end(), (token["tag"] or "").lower()
        if token["text"]:
            made.append(html.escape(html.unescape(token["text"])))
        elif tag == "style" and not token["end"]:
            end = document.find(_STYLE_END, at)
            # The style of pandas' and polars' frames: the notebook has its own for them.
            if end < 0 or not document[at:end].lstrip().startswith(".dataframe"):
                return None
            at = end + len(_STYLE_END)
        elif tag == "br":
            made.append("<br>")
        elif tag not in _SHOWN or (token["end"] and waiting[-1:] != [tag]):
            return None
        elif token["end"]:
            made.append(f"</{waiting.pop()}>")
        else:
            waiting.append(tag)
            made.append(_opened(tag, token["rest"]))
    return "".join(made) if not waiting and any(piece.startswith("<table") for piece in made) else None


def _opened(tag: str, attributes: str) -> str:
    spans = "".join(f' {name}="{count}"' for name, count in dict(_SPAN.findall(attributes)).items())
    kind = ' class="dataframe"' if tag == "table" else ""
    return f"<{tag}{kind}{spans}>"


# Plots

_LOADING = frozenset(["source", "geojson", "style", "url", "tiles", "sprite", "glyphs", "topojsonURL"])
"""Plotly's attributes that can name an address, of a picture, of shapes or of a map."""


def plot(figure: Any) -> Any:
    """Plotly's JSON without the addresses that it would load pictures, shapes or maps from; pictures in itself stay."""
    if isinstance(figure, list):
        return [plot(item) if isinstance(item, dict | list) else item for item in figure]
    if not isinstance(figure, dict):
        return figure
    return {name: plot(item) for name, item in figure.items() if not (name.rpartition(".")[2] in _LOADING and _is_elsewhere(item))}


def _is_elsewhere(value: object) -> bool:
    """Whether an attribute that can name an address does so; names of styles and numbers of nodes are none."""
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and not _OWN.fullmatch(text) for text in texts)


_OWN = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*|[A-Za-z0-9_ -]*")
