"""What a cell reads, binds and imports."""

from __future__ import annotations

import pytest

from bacalhau_magic._cellnames import outside_standard_library, read
from bacalhau_magic.errors import CellSyntaxError


def test_what_every_job_has_of_ipython_is_no_import_from_elsewhere() -> None:
    """Classes that the wrapper has in any image need no IPython; another name of its modules does."""

    def outside(code: str) -> list[str]:
        return [item.module for item in outside_standard_library(read(code).imports)]

    assert outside("from IPython.display import HTML, display\nimport numpy") == ["numpy"]
    assert outside("from IPython.display import HTML, Audio") == ["IPython"]
    assert outside("from IPython import get_ipython") == ["IPython"]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("y = x + 1\ny * z", "x z"),
        ("x = x + 1", "x"),
        ("x += 1", "x"),
        ("x: int = 3\nx", ""),
        ("x: T", "T"),
        ("print(len(a), __name__)", "a"),
        ("def f(a, b=z):\n    return a + g + f(1)", "z g"),
        ("def f():\n    return later\nlater = 1\nf()", ""),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = y\n    return g", "y"),
        ("@wrap(n)\ndef f(a: T) -> R: ...", "wrap n T R"),
        ("f = lambda t, u=d: t + u + v", "d v"),
        ("[i * k for i in xs if i]", "xs k"),
        ("[w := i for i in xs]\nw", "xs"),
        ("i = 1\n[i for _ in i]", ""),
        ("{k: v for k, v in d.items()}; k", "d k"),
        ("[(lambda: i)() for i in xs]", "xs"),
        ("class A(B, metaclass=M):\n    n = m\n    o = n\n    def f(self): return n + self.o", "B M m n"),
        ("del x\nx", "x"),
        ("x = 1\ndel x\nx", "x"),
        ("if c:\n    v = 1\nv", "c v"),
        ("if c:\n    v = 1\nelse:\n    v = 2\nv", "c"),
        ("if c:\n    v = 1\nelse:\n    raise E\nv", "c E"),
        ("for i in range(n):\n    p = i\np", "n p"),
        ("while (q := f()):\n    q", "f"),
        ("try:\n    import json\nexcept ImportError:\n    json = None\njson", ""),
        ("try:\n    a = 1\nexcept X as e:\n    e\na", "X a"),
        ("try:\n    a = 1\nfinally:\n    b = a\nb", "a"),
        ("with open(p) as f, g as (h, k):\n    f, h, k", "p g"),
        ("match p:\n    case {'a': aa, **r}: aa, r\n    case [x, *xs] if x: xs\n    case Foo(y=1) | N.M as o: o", "p Foo N"),
        ("import numpy as np, os.path\nfrom a import b as c\nnp, os, c, b", "b"),
        ("await fetch(u)", "fetch u"),
        ("async with s() as t:\n    async for x in t: x", "s"),
        ("def f():\n    global G\n    G = 1\nG = 0\nf()", ""),
        ("f'{a!r:>{w}}'", "a w"),
        ("a.b = c\nd[e] = 1", "c a d e"),
        ("a, (b, *c) = d\na, b, c", "d"),
        ("c and (w := 1)\nw", "c w"),
        ("", ""),
    ],
)
def test_reads(code: str, names: str) -> None:
    """A cell reads the globals that it did not bind itself before, and no built-in ones."""
    assert set(read(code).reads) == set(names.split())


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("a = b = 1\nc, *d = x", "a b c d"),
        ("def f(): q = 1\nclass C: z = 1", "f C"),
        ("import os.path, numpy as np\nfrom m import n as o", "os np o"),
        ("for i in x: j = i", "i j"),
        ("[k for k in x if (w := k)]", "w"),
        ("def f():\n    global G\n    G = 1", "f G"),
        ("a.b = 1\na[0] = 2", ""),
        ("with x as y: pass", "y"),
    ],
)
def test_binds(code: str, names: str) -> None:
    """A cell binds its top level's names, not those inside functions, classes and comprehensions."""
    assert set(read(code).binds) == set(names.split())


def test_imports() -> None:
    """Imports are top-level modules, each with its first line, wherever in the cell they stand."""
    found = read("import numpy as np\ndef f():\n    from sklearn.svm import SVC\nimport os.path, numpy.linalg\nfrom . import x\n")
    assert [(item.module, item.line) for item in found.imports] == [("numpy", 1), ("sklearn", 3), ("os", 4)]
    assert [item.module for item in outside_standard_library(found.imports)] == ["numpy", "sklearn"]


def test_star_import() -> None:
    """A star import is named, because nobody knows what it binds."""
    assert read("from math import *\nsin(x)").star_imports == ("math",)


@pytest.mark.parametrize(
    ("code", "has_value", "hidden"),
    [
        ("x", True, False),
        ("x;", True, True),
        ("x ;  # shown not\n\n", True, True),
        ("x  # ;", True, False),
        ("';'", True, False),
        ("x = 1;", False, True),
        ("x\ny = 1", False, False),
        ("", False, False),
        ("# only", False, False),
        ("f(\n1);", True, True),
    ],
)
def test_last_expression(code: str, has_value: bool, hidden: bool) -> None:
    """The last statement counts as the value when it is an expression, and `;` as the last token hides it."""
    names = read(code)
    assert (names.has_value, names.hidden) == (has_value, hidden)


@pytest.mark.parametrize(
    ("code", "line", "word"),
    [
        ("%timeit f()", 1, "%timeit"),
        ("x = 1\n!ls -l", 2, "!ls -l"),
        ("x = 1\n\nx?", 3, "x?"),
        ("??x", 1, "??x"),
        ("files = !ls", 1, "files = !ls"),
        ("%%time\nf()", 1, "%%time"),
        ("%pip install numpy", 1, "%pip"),
        ("if x:\n    %cd /tmp", 2, "%cd"),
    ],
)
def test_notebook_lines_are_refused_by_name(code: str, line: int, word: str) -> None:
    """A %, ! or ? line is refused with its line and its own text, and says what to do."""
    with pytest.raises(CellSyntaxError) as caught:
        read(code)
    assert caught.value.line == line
    assert f"Line {line}" in caught.value.message
    assert word in caught.value.message
    assert caught.value.hint


def test_percent_in_an_expression_is_python() -> None:
    """A line that begins with % inside brackets is no magic."""
    assert read("y = (x\n  % 3)").reads == ("x",)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\ny = = 2", 2),
        ("return 1", 1),
        ("def f(:\n  pass", 1),
        ("s = 'abc", 1),
        ("def f():\n  x = 1\n  global x", 3),
        ("x = 1\n  y", 2),
    ],
)
def test_syntax_error_is_found_before_sending(code: str, line: int) -> None:
    """A syntax error names its line and shows it."""
    with pytest.raises(CellSyntaxError) as caught:
        read(code)
    assert caught.value.line == line
    assert f"line {line}" in caught.value.message
    assert code.split("\n")[line - 1].strip() in caught.value.message


def test_mark_below_the_mistake() -> None:
    """The mark stands below the place of the mistake, as Python prints it."""
    with pytest.raises(CellSyntaxError) as caught:
        read("if x:\n    y = = 2")
    assert caught.value.message.split("\n")[1:] == ["    y = = 2", "        ^"]


def test_cell_is_never_run() -> None:
    """Reading a cell does not run it, and its warnings do not come out."""
    assert read("raise SystemExit(1)\n'\\d'").has_value
