"""How libraries that show things do so in a cell: IPython's display functions, matplotlib's figures, plotly's renderer.

Each is changed when it is imported, and no library is loaded for it. A Python without IPython gets an `IPython.display`
that has its plain classes alone.
"""

import os
import sys

displays, runner = load("displays"), load("runner")  # noqa: F821 - put here by bootstrap.py
_NAMES = ("display", "update_display", "clear_output", "publish_display_data")


class Finder:
    """Stands first in `sys.meta_path`: what the listed modules need is put in once they are loaded."""

    def find_spec(self, name, path=None, target=None):
        if name == displays.FIGURES:
            return _spec(name, _make_backend)
        change = CHANGES.get(name)
        if change is None:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self and hasattr(finder, "find_spec") else None
            if spec is not None:
                return runner.changed(spec, change)
        return None


class Last:
    """Stands last: IPython's display module for a Python that hasn't IPython."""

    def find_spec(self, name, path=None, target=None):
        if name == "IPython":
            return _spec(name, _make_ipython, True)
        if name == "IPython.display" and getattr(sys.modules.get("IPython"), "_bacalhau", False):
            return _spec(name, _make_display)
        return None


FINDER, LAST = Finder(), Last()


class _Made:
    """The loader of a module that is made here."""

    def __init__(self, make):
        self._make = make

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self._make(module)


def _spec(name, make, is_package=False):
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, _Made(make), is_package=is_package)


def change_ipython(module):
    """IPython's own functions would only print outside of its shell."""
    for name in _NAMES:
        if name in vars(module):
            setattr(module, name, getattr(displays.current, name))
    if "DisplayHandle" in vars(module):
        module.DisplayHandle = displays.Handle


def change_matplotlib(module):
    """Figures are shown as a notebook does, where nobody chose a backend that does something else."""
    chosen = dict.get(module.rcParams, "backend")
    if not isinstance(chosen, str) or chosen.lower() == "inline" or "matplotlib_inline" in chosen:
        module.rcParams["backend"] = "module://" + displays.FIGURES


def change_plotly(module):
    """`fig.show()` shows the figure's data; the notebook draws it."""

    class Renderer(module.ExternalRenderer):
        def render(self, fig_dict):
            import json

            from plotly.io import to_json

            shown = {"application/vnd.plotly.v1+json": json.loads(to_json(fig_dict, validate=False)), "text/plain": "Figure"}
            displays.current.show(displays.bounded(shown))

    if not os.environ.get("PLOTLY_RENDERER"):
        module.renderers["bacalhau"] = Renderer()
        module.renderers.default = "bacalhau"


CHANGES = {
    "IPython.core.display_functions": change_ipython,
    "IPython.core.display": change_ipython,
    "IPython.display": change_ipython,
    "matplotlib": change_matplotlib,
    "plotly.io._renderers": change_plotly,
}


def _make_backend(module):
    """matplotlib's backend of a cell: Agg, whose figures `show()` displays and closes."""
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    def new_figure_manager(num, *args, FigureClass=None, **others):  # noqa: N803 - pyplot's own word
        from matplotlib.figure import Figure

        return new_figure_manager_given_figure(num, (FigureClass or Figure)(*args, **others))

    def new_figure_manager_given_figure(num, figure):
        return FigureManagerBase(FigureCanvasAgg(figure), num)

    def show(*args, **others):
        displays.current.figures()

    module.FigureCanvas = FigureCanvasAgg
    module.FigureManager = FigureManagerBase
    module.new_figure_manager = new_figure_manager
    module.new_figure_manager_given_figure = new_figure_manager_given_figure
    module.show = show


def _make_ipython(module):
    module._bacalhau = True
    module.__path__ = []
    module.version_info = (0, 0)
    module.get_ipython = lambda: None
    import importlib

    module.display = importlib.import_module("IPython.display")


def _make_display(module):
    for name in _NAMES:
        setattr(module, name, getattr(displays.current, name))
    module.DisplayHandle = displays.Handle
    for kind in (DisplayObject, HTML, Markdown, Latex, Math, SVG, JSON, Image, Pretty, Code):
        setattr(module, kind.__name__, kind)


# The classes of IPython.display, for a Python that hasn't them


class DisplayObject:
    """Data that is shown, from `data`, or from the file `filename`."""

    _binary = False

    def __init__(self, data=None, url=None, filename=None, metadata=None, **others):
        if isinstance(data, os.PathLike):
            data, filename = None, data
        if url is not None:
            raise ValueError("In a job there is no network to show a URL's data from: read it, and give it as data.")
        if filename is not None:
            with open(filename, "rb") as file:
                data = file.read()
        if isinstance(data, bytes) and not self._binary:
            data = data.decode("utf-8", "replace")
        self.data = data
        self.filename = filename
        self.metadata = metadata

    def __repr__(self):
        return "<IPython.core.display.%s object>" % type(self).__name__


class HTML(DisplayObject):
    def _repr_html_(self):
        return self.data


class Markdown(DisplayObject):
    def _repr_markdown_(self):
        return self.data


class Latex(DisplayObject):
    def _repr_latex_(self):
        return self.data


class Math(DisplayObject):
    def _repr_latex_(self):
        return "$\\displaystyle %s$" % self.data.strip("$")


class SVG(DisplayObject):
    def _repr_svg_(self):
        return self.data


class JSON(DisplayObject):
    def _repr_json_(self):
        import json

        return json.loads(self.data) if isinstance(self.data, str) else self.data


class Pretty(DisplayObject):
    def __repr__(self):
        return str(self.data)


class Code(DisplayObject):
    def __repr__(self):
        return str(self.data)


class Image(DisplayObject):
    _binary = True

    def __init__(self, data=None, url=None, filename=None, format=None, **others):
        if isinstance(data, str):
            data, filename = None, data
        super().__init__(data, url, filename)
        self.format = (format or ("jpeg" if (self.data or b"")[:2] == b"\xff\xd8" else "png")).lower().replace("jpg", "jpeg")

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/" + self.format: self.data}
