"""What a cell shows besides text: `display`, rich reprs and figures, as data of MIME types.

Each display goes to the supervisor as it is made, and a mark in stdout tells it the place. Figures become PNG. How IPython,
matplotlib and plotly come to show by these functions stands in libraries.py.
"""

import os
import sys

TEXT = 50000
"""Characters of a display's plain text."""
DRAWN = 16000000
"""Characters of all else in a display."""
MOST = 1000
"""Displays of a cell."""
CLEAR = "application/vnd.bacalhau.clear+json"

_DRAWERS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
)
FIGURES = "_bacalhau_figures"
"""matplotlib's backend of a cell, as a module's name."""


def begin(say, nonce, fd, room, pid):
    """The cell's displays, for all that shows something."""
    global current
    current = Displays(say, load("recorder").mark(nonce), fd, room, pid)  # noqa: F821 - put here by bootstrap.py
    return current


class Displays:
    """The displays of one cell.

    `say` takes bytes for the supervisor; `mark` (bytes) begins a place's mark in stdout, whose descriptor `fd` is; `room`
    bounds the bytes of all displays together, and only the process `pid` can send any.
    """

    def __init__(self, say, mark, fd, room, pid):
        self._say = say
        self._mark = mark
        self._fd = fd
        self._room = room
        self._ended = False
        self.last = None
        self._pid = pid
        self._known = {}  # display_id -> number of its display
        self._sizes = []
        self._cut = False
        import threading

        self._lock = threading.RLock()

    def show(self, shown, display_id=None, update=False):
        """Sends data of MIME types; a child process of the cell has no way to, and prints its text."""
        import json

        if os.getpid() != self._pid:
            if "text/plain" in shown:
                print(shown["text/plain"])
            return
        data = json.dumps(shown).encode("ascii")
        with self._lock:
            number = self._known.get(display_id) if update else None
            if self._ended or (update and number is None):
                return
            before = 0 if number is None else self._sizes[number]
            if len(data) - before > self._room or (number is None and len(self._sizes) >= MOST):
                self._cut = True
                return
            self._room -= len(data) - before
            if number is not None:
                self._sizes[number] = len(data)
                self._say(b"U" + number.to_bytes(4, "big") + len(data).to_bytes(8, "big") + data)
                return
            number = len(self._sizes)
            self._sizes.append(len(data))
            if display_id is not None:
                self._known[display_id] = number
            self._say(b"D" + number.to_bytes(4, "big") + len(data).to_bytes(8, "big") + data)
            try:
                sys.stdout.flush()
            except Exception:
                pass
            os.write(self._fd, self._mark + b"%d\0" % number)

    # What IPython.display has

    def display(
        self,
        *objs,
        include=None,
        exclude=None,
        metadata=None,
        transient=None,
        display_id=None,
        raw=False,
        clear=False,
        update=False,
        **others,
    ):
        """Show objects as IPython's function of that name does; with `display_id` gives a handle."""
        if clear:
            self.clear_output(wait=True)
        handle = Handle(self, display_id) if display_id is not None else None
        for value in objs:
            shown = dict(value) if raw else bundle(value, include, exclude)
            if shown is None:
                continue
            if raw:
                shown = bounded({kind: _plain(kind, data) for kind, data in shown.items()})
            self.show(shown, handle and handle.display_id, update)
        return None if update else handle

    def update_display(self, obj, *, display_id, **others):
        others.update(update=True)
        self.display(obj, display_id=display_id, **others)

    def publish_display_data(self, data, metadata=None, *, transient=None, update=False, **others):
        self.display(data, raw=True, display_id=(transient or {}).get("display_id"), update=update)

    def clear_output(self, wait=False):
        """What was shown until now is not shown; with `wait` once there is something new."""
        self.show({CLEAR: bool(wait)})

    def end(self):
        """Shows the open figures but the one that is the cell's value; from here on nothing is sent. Whether some were left out."""
        try:
            self.figures(but=self.last)
        except Exception as problem:
            _said(problem)
        with self._lock:
            self._ended = True
        return self._cut

    # Figures

    def figures(self, but=None):
        """Shows the open figures, where nobody chose another backend, and closes them."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or FIGURES not in sys.modules:
            return
        from matplotlib._pylab_helpers import Gcf

        try:
            for manager in Gcf.get_all_fig_managers():
                if manager.canvas.figure is not but:
                    self.display(manager.canvas.figure)
        finally:
            if Gcf.get_all_fig_managers():
                pyplot.close("all")


class Handle:
    """What `display(…, display_id=…)` gives: shows more, or something else in the same place."""

    def __init__(self, displays=None, display_id=None):
        self._displays = displays or sys.modules[__name__].current
        self.display_id = os.urandom(16).hex() if display_id in (None, True) else display_id

    def display(self, obj, **others):
        self._displays.display(obj, display_id=self.display_id, **others)

    def update(self, obj, **others):
        self._displays.update_display(obj, display_id=self.display_id, **others)


current = None
"""The cell's Displays."""


# An object as data of MIME types


def bundle(value, include=None, exclude=None):
    """A value's own display: its repr, and all that it draws itself as, within bounds; None where it has shown itself."""
    own = _method(value, "_ipython_display_")
    if own is not None:
        try:
            own()
            return None
        except Exception as problem:
            _said(problem)
    shown = {}
    combined = _method(value, "_repr_mimebundle_")
    if combined is not None:
        try:
            found = combined(include=include, exclude=exclude)
            found = found[0] if isinstance(found, tuple) else found
            shown.update({kind: _plain(kind, data) for kind, data in dict(found or {}).items()})
        except Exception as problem:
            _said(problem)
    figure = _figure(value)
    if figure:
        shown.update(figure)
    for kind, name in _DRAWERS:
        draw = None if kind in shown or (kind == "image/jpeg" and "image/png" in shown) else _method(value, name)
        if draw is None:
            continue
        try:
            drawn = draw()
        except Exception as problem:
            _said(problem)
            continue
        drawn = drawn[0] if isinstance(drawn, tuple) and drawn else drawn  # (data, metadata)
        if drawn is not None:
            shown[kind] = _plain(kind, drawn)
    if not isinstance(shown.get("text/plain"), str):
        shown["text/plain"] = _text(value)
    if include:
        shown = {kind: data for kind, data in shown.items() if kind in include}
    if exclude:
        shown = {kind: data for kind, data in shown.items() if kind not in exclude}
    return bounded(shown)


def _method(value, name):
    """A value's own method; a class that is shown has none, nor has what answers to every name."""
    if isinstance(value, type):
        return None
    if not hasattr(type(value), name) and name not in getattr(value, "__dict__", {}):
        return None
    try:
        found = getattr(value, name)
    except Exception:
        return None
    return found if callable(found) else None


def _said(problem):
    """As IPython does: a repr that raises is said and is no error of the cell."""
    import traceback

    sys.stderr.write("".join(traceback.format_exception(type(problem), problem, problem.__traceback__)))


def _text(value):
    try:
        return repr(value)
    except Exception as problem:
        return "<%s whose repr raised %s>" % (type(value).__name__, type(problem).__name__)


def _plain(kind, data):
    """Data as JSON can carry it: text, base64, or an object where the type is JSON's."""
    if isinstance(data, bytes):
        if kind.startswith("text/") or kind.endswith("+xml"):
            return data.decode("utf-8", "replace")
        import binascii

        return binascii.b2a_base64(data, newline=False).decode("ascii")
    return data if isinstance(data, str) or kind.endswith("json") else None


def bounded(shown):
    """What is above a bound, or can't be written as JSON, is left out; the plain text says so."""
    import json

    kept, left, room = {}, [], DRAWN
    for kind, data in shown.items():
        if kind == "text/plain" or data is None or type(kind) is not str:
            continue
        try:
            size = len(data) if isinstance(data, str) else len(json.dumps(data))
        except (TypeError, ValueError, RecursionError):
            left.append("%s, which is no JSON" % kind)
            continue
        if size > room:
            left.append("%s of %d characters" % (kind, size))
            continue
        kept[kind] = data
        room -= size
    text = shown.get("text/plain")
    if isinstance(text, str) or left:
        text = text if isinstance(text, str) else ""
        if len(text) > TEXT:
            text = "%s… (%d of %d characters)" % (text[:TEXT], TEXT, len(text))
        if left:
            text = "%s (left out: %s)" % (text, ", ".join(left))
        kept["text/plain"] = text
    return kept


def _figure(value):
    """The figure that matplotlib or plotly would draw in a notebook; None for other values."""
    module = type(value).__module__
    if not (module.startswith(("matplotlib.", "plotly.")) or hasattr(type(value), "savefig") or hasattr(type(value), "to_plotly_json")):
        return None
    import json

    matplotlib = sys.modules.get("matplotlib.figure")
    plotly = sys.modules.get("plotly.basedatatypes")
    try:
        if matplotlib is not None and isinstance(value, matplotlib.Figure):
            return _drawn(value)
        if plotly is not None and isinstance(value, plotly.BaseFigure):
            return {"application/vnd.plotly.v1+json": json.loads(value.to_json())}
    except Exception as problem:
        _said(problem)
    return None


def _drawn(figure):
    import io

    if (
        not figure.axes
        and not getattr(figure, "lines", None)
        and not getattr(figure, "texts", None)
        and not getattr(figure, "images", None)
    ):
        return None
    file = io.BytesIO()
    colours = {"facecolor": figure.get_facecolor(), "edgecolor": figure.get_edgecolor()}
    figure.canvas.print_figure(file, format="png", dpi=figure.dpi, bbox_inches="tight", **colours)
    return {"image/png": _plain("image/png", file.getvalue())}
