"""The cell itself, in its own process: runs it as `__main__` and encodes what it made."""

import builtins
import os
import sys

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

_VALUE = "__bacalhau_value__"
_ONLY_AST = 0x400
_TOP_LEVEL_AWAIT = 0x2000
_COROUTINE = 0x80
_LONG = 1 << 20  # bytes of an input that is worth loading a module for
_SHOWING = ("IPython", "matplotlib", "plotly", "_bacalhau_figures")


class _InputError(Exception):
    """An input that can't be loaded here; the text is a finished sentence."""


def run(request, here, say):
    """Runs the cell; `say` takes bytes for the supervisor: S, displays as they come, then R and the result. Returns an exit code."""
    codec = load("codec")
    redactor = load("redaction").of_job(request) if request.get("secrets") else None  # before the cell changes its environment
    filename = request.get("filename") or request["file"]
    path = os.path.join(here, request["file"])
    space = _prepare(request, path)
    header, parts = {"outcome": "ok", "exit_code": 0}, []
    files = os.path.abspath("outputs") if request.get("keeps") else ""
    error = None
    displays = _Displays(request, say)
    try:
        with open(path, "rb") as file:
            source = file.read()
        known = _defined(codec, request, here, space)
        for name in request.get("vars", ()):
            space[name] = _variable(codec, request, here, name)
    except _InputError as problem:
        said = str(problem)
        ename = "ModuleNotFoundError" if isinstance(problem.__cause__, codec.MissingLibrary) else "ValueError"
        error = {"ename": ename, "evalue": said, "traceback": "%s: %s\n" % (ename, said), "mro": [ename, "Exception"]}
        _tell(say, {"outcome": "error", "exit_code": 1, "error": error}, [])
        return 1
    lines = _Lines(source, filename, request.get("steps", ()))
    say(b"S")
    try:
        code = _compiled(source, filename, request.get("show"))
        _execute(code, space)
        _finish(codec, request, space, known, redactor, header, parts, files, displays)
    except SystemExit as stop:
        header.update(outcome="exit", exit_code=_exit_code(stop.code))
        if header["exit_code"] == 0 and request.get("outputs"):
            _outputs(codec, request, space, known, redactor, header, parts, request["max_result"], files)
    except BaseException as problem:
        header.update(outcome="error", exit_code=1, error=load("tracebacks").described(problem, lines))
    displays.end(header)
    _flush()
    _tell(say, header, parts)
    parts = None
    _leave()
    return {"ok": 0, "error": 1}.get(header["outcome"], header["exit_code"] & 0xFF)


def _tell(say, header, parts):
    """R, the facts' length, the facts (marshal), and the parts' bytes as they are."""
    import marshal

    facts = marshal.dumps((header, [(name, kind, len(data)) for name, kind, data in parts]))
    say(b"R" + len(facts).to_bytes(8, "big") + facts)
    for _, _, data in parts:
        say(data)


class _Displays:
    """The cell's displays, which are loaded when something is to be shown: `display`, or a library that draws."""

    def __init__(self, request, say):
        import _thread

        self._made = None
        self._lock = _thread.RLock()
        self._facts = (say, request["nonce"], os.dup(1), request["max_result"], os.getpid())
        builtins.display = self._display
        sys.meta_path.insert(0, self)

    def get(self):
        """The module and the displays themselves."""
        with self._lock:
            if self._made is None:
                module = load("displays")
                self._made = module, module.begin(*self._facts)
                libraries = load("libraries")
                sys.meta_path[sys.meta_path.index(self)] = libraries.FINDER
                sys.meta_path.append(libraries.LAST)
                builtins.display = self._made[1].display
        return self._made

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in _SHOWING:
            return None
        self.get()
        return load("libraries").FINDER.find_spec(name, path, target)

    def _display(self, *objs, **others):
        return self.get()[1].display(*objs, **others)

    def mime(self, value):
        """The value's own display as JSON; None where it has shown itself."""
        import json

        module, shown = self.get()
        data = module.bundle(value)
        shown.last = value
        return None if data is None else json.dumps(data).encode("ascii")

    def end(self, header):
        """Shows the open figures; from here on there are no more displays."""
        if self._made is not None:
            header["displays_cut"] = self._made[1].end()


def _prepare(request, path):
    """The cell's world: `__main__`, arguments, a closed stdin; gives its namespace."""
    main = type(sys)("__main__")
    main.__builtins__ = builtins
    main.__file__ = path
    sys.modules["__main__"] = main
    sys.argv = [path] + list(request.get("args", ()))
    here = os.path.dirname(path)
    sys.path[:] = [""] + [place for place in sys.path if place and os.path.abspath(place) != here]
    builtins.input = _no_input
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(encoding="utf-8")
    return main.__dict__


def _no_input(prompt="", /):
    raise EOFError("stdin is closed: a job has no keyboard. Send the value with --input or as a program argument.")


def _defined(codec, request, here, space):
    """Takes the steps that come before the cell: definitions, and the values that they need; gives the classes made."""
    known = []
    for step in request.get("steps", ()):
        name, source = step["name"], step.get("source")
        if not source:
            space[name] = _variable(codec, request, here, name)
            continue
        try:
            exec(compile(source, "definition of " + name, "exec", 0, True), space)
        except ImportError as problem:
            missing = codec.MissingLibrary(getattr(problem, "name", None) or name)
            raise _InputError("%s can't be defined where the cell runs: %s." % (name, problem)) from missing
        except Exception as problem:
            told = codec.said(problem)
            raise _InputError("%s can't be defined where the cell runs: %s." % (name, told.rstrip("."))) from problem
        if isinstance(space.get(name), type):
            known.append(space[name])
    return known


def _variable(codec, request, here, name):
    with open(os.path.join(here, "vars", name + ".bin"), "rb") as file:
        data = _content(file)
    try:
        return codec.loads(data, trusted=True, pickles=request.get("pickles", False))
    except codec.MissingLibrary as problem:
        library = problem.library
        raise _InputError("The input %s needs %s, which is not installed where the cell runs." % (name, library)) from problem
    except codec.CodecError as problem:
        raise _InputError("The input %s can't be read where the cell runs: %s." % (name, problem)) from problem


def _content(file):
    """A file's bytes; of a long one where they lie: the value is made of them, and they are not held beside it."""
    if os.fstat(file.fileno()).st_size >= _LONG:
        try:
            import mmap

            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ImportError, OSError):
            pass  # not every file system can
    return file.read()


def _compiled(source, filename, show):
    """The cell's code; its last expression is kept under _VALUE."""
    import _ast

    tree = compile(source, filename, "exec", _ONLY_AST | _TOP_LEVEL_AWAIT, True)
    if show and tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = tree.body[-1]
        place = {"lineno": last.lineno, "col_offset": last.col_offset, "end_lineno": last.end_lineno, "end_col_offset": last.end_col_offset}
        target = _ast.Name(id=_VALUE, ctx=_ast.Store(), **place)
        tree.body[-1] = _ast.Assign(targets=[target], value=last.value, type_comment=None, **place)
    return compile(tree, filename, "exec", _TOP_LEVEL_AWAIT, True)


def _execute(code, space):
    if not code.co_flags & _COROUTINE:
        exec(code, space)
        return
    import asyncio

    asyncio.run(type(_execute)(code, space)())


def _encoded(codec, request, value, name, room, space, known, redactor):
    """A value's bytes; a class that only the cell defines is nobody's on the other side, and a secret stays in the job."""
    met = []
    data = codec.dumps(value, name, room, met, request.get("pickles", False))
    for kind in met:
        outer = space.get(kind.__qualname__.partition(".")[0])
        if kind.__module__ == "__main__" and not any(outer is made for made in known):
            raise codec.Unsendable(name, codec.type_name(value), "of the class %s, which only the cell has" % kind.__qualname__)
    secret = redactor.held(data) if redactor else ""
    if secret:
        raise codec.Unsendable(name, codec.type_name(value), "and holds the secret %s, %s" % (secret, codec.STAYS))
    return data


def _finish(codec, request, space, known, redactor, header, parts, files, displays):
    """Encodes the value and the wanted names."""
    room = request["max_result"]
    shown = _VALUE in space
    value = space.pop(_VALUE, None)
    if shown and request.get("value"):
        try:
            data = _encoded(codec, request, value, "the cell's value", room, space, known, redactor)
            parts.append(("value", codec.type_name(value), data))
            room -= len(data)
            shown = False
        except codec.Unsendable as reason:
            header.setdefault("unsendable", {})[""] = str(reason)
            if isinstance(reason, codec.TooLarge):  # of what else can't travel the display is all that was wanted
                _keep(codec, header, files, redactor, "", value, reason)
    if shown and value is not None:
        mime = displays.mime(value)
        if mime is not None:
            parts.append(("mime", "", mime))
    _outputs(codec, request, space, known, redactor, header, parts, room, files)


def _outputs(codec, request, space, known, redactor, header, parts, room, files):
    for name in request.get("outputs", ()):
        if name not in space:
            header.setdefault("missing", []).append(name)
            continue
        try:
            data = _encoded(codec, request, space[name], name, room, space, known, redactor)
        except codec.Unsendable as reason:
            header.setdefault("unsendable", {})[name] = str(reason)
            _keep(codec, header, files, redactor, name, space[name], reason)
            continue
        parts.append(("output:" + name, codec.type_name(space[name]), data))
        room -= len(data)


def _keep(codec, header, files, redactor, name, value, reason):
    """Leaves a value that does not travel among the job's files: in the codec's own form where only its size was in the way, else pickled."""
    if not files:
        return
    try:
        if isinstance(reason, codec.TooLarge):
            data, suffix = codec.dumps(value, name), ".value"
        else:
            import pickle

            data, suffix = pickle.dumps(value), ".pickle"
        if redactor and redactor.held(data):
            return
        place = _free(files, name or "value", suffix)
        with open(place, "xb") as file:
            file.write(data)
    except Exception:
        return  # why it does not travel is said all the same
    header.setdefault("kept", {})[name] = [os.path.basename(place), len(data)]


def _free(folder, stem, suffix):
    """A file that is not there yet."""
    place, number = os.path.join(folder, stem + suffix), 1
    while os.path.lexists(place):
        number += 1
        place = os.path.join(folder, "%s-%d%s" % (stem, number, suffix))
    return place


def _exit_code(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code)
    print(code, file=sys.stderr)
    return 1


def changed(spec, change):
    """The spec, after whose module is loaded `change` is called with it; its loader may load other modules as well, and stays as it is."""
    if hasattr(spec.loader, "exec_module"):
        spec.loader = _Changed(spec.loader, change)
    return spec


class _Changed:
    """A module's own loader, and then a change."""

    def __init__(self, loader, change):
        self._loader = loader
        self._change = change

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _Lines:
    """The lines of the cell and of its definitions, for all that shows a traceback or reads a source: linecache knows them once it is imported."""

    def __init__(self, source, filename, steps):
        self.filename = filename
        self._source = source
        self._steps = steps
        if "linecache" in sys.modules:
            self.fill(sys.modules["linecache"])
        else:
            sys.meta_path.insert(0, self)  # it takes longer to import than a small cell

    def find_spec(self, name, path=None, target=None):
        if name != "linecache":
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        return spec and changed(spec, self.fill)

    def fill(self, linecache):
        for step in self._steps:
            if step.get("source"):
                self._add(linecache, "definition of " + step["name"], step["source"])
        self._add(linecache, self.filename, self._text())

    @staticmethod
    def _add(linecache, name, text):
        import io

        linecache.cache[name] = (len(text), None, io.StringIO(text + "\n", None).readlines(), name)

    def _text(self):
        import io
        import tokenize

        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(self._source).readline)
        except SyntaxError:
            encoding = "utf-8"
        return self._source.decode(encoding, "replace")


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _leave():
    """What a script's end does: waits for its threads, runs its exit functions."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        import atexit

        atexit._run_exitfuncs()
    except BaseException as problem:
        sys.stderr.write("%s: %s\n" % (type(problem).__name__, problem))
    _flush()
