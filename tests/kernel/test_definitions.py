"""Functions, classes and their instances in a real kernel: sent by source, with what they refer to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernels import Kernel

SETUP = [
    """
import dataclasses, enum, functools, math, pydantic, threading, types
import numpy as np
from collections import namedtuple
from math import sin
from bacalhau_magic import run, submit
factor = 3
table = {'a': 1}
lock = threading.Lock()
ghost = types.ModuleType('ghost')""",
    """
def helper(k):
    return k * factor + np.int64(1)
def main(n, *, more=0):
    return [int(helper(i)) for i in range(n)], table, sin(0.0), more
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
async def later(n): return n * 2
def deco(fn):
    @functools.wraps(fn)
    def inner(*a): return fn(*a) + 100
    return inner
@deco
def decorated(n): return n
@functools.lru_cache
def cached(n): return n + factor
def outer(n):
    def inner(): return n
    return inner
closure = outer(3)
def around():
    def nested(n): return n * factor
    return nested
nested = around()
bare = lambda: 1
def uses_lock(): return lock
def uses_ghost(): return ghost.x
def raises():
    x = 1
    raise ValueError('deep')
def makes(): return object()""",
    """
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
    colour: Colour = Colour.RED
    def norm(self):
        return math.hypot(self.x, self.y)
class Model(pydantic.BaseModel):
    parts: list[int] = [1]
Pair = namedtuple('Pair', 'a b')
class Called:
    def __call__(self): return 1
points = [Point(1), Point(3, 4, Colour.BLUE)]""",
]


@pytest.fixture(scope="module", autouse=True)
def defined(shell: Kernel) -> None:
    for cell in SETUP:
        assert shell.run(cell.strip()).error is None


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("run(main, 2)", "([1, 4], {'a': 1}, 0.0, 0)"),
        ("run(functools.partial(main, 1, more=5))", "([1], {'a': 1}, 0.0, 5)"),
        ("run(even, 10)", "True"),
        ("run(later, 4)", "8"),
        ("run(decorated, 1)", "101"),
        ("run(cached, 1)", "4"),
        ("run(nested, 2)", "6"),
        ("run(max, 1, 2), run(math.hypot, 3, 4), run(int, '7')", "(2, 5.0, 7)"),
        ("submit(main, 1).result()", "([1], {'a': 1}, 0.0, 0)"),
        ("run(len, [Point(1)] * 2)", "2"),
        ("run(Point, 7)", "Point(x=7, y=2, colour=<Colour.RED: 1>)"),
        ("run(main, 1, inputs={'table': 'another'})[1]", "'another'"),
    ],
)
def test_a_function_runs_there(shell: Kernel, call: str, value: str) -> None:
    """run and submit take a function and its arguments; what it refers to comes along."""
    ran = shell.run(call)
    assert ran.value == value, ran.text


def test_arguments_by_name(shell: Kernel) -> None:
    """A keyword that is no option is refused with the way to give the function its own."""
    ran = shell.run("run(dict, a=1)")
    assert ran.error is not None
    assert "There is no option 'a'." in ran.error[1]
    assert "functools.partial(dict, a=…)" in ran.error[1]


def test_a_cell_uses_functions_and_classes(shell: Kernel) -> None:
    """-i takes functions and classes by name, -i auto whatever the cell reads, and what was sent is said."""
    assert shell.run("%%bacalhau -i main,Point\nmain(1)[0], Point(3, 4).norm()").value == "([1], 5.0)"
    ran = shell.run("%%bacalhau -i auto\nint(helper(1)), Colour.RED, np.pi > 3, table")
    assert ran.value == "(4, <Colour.RED: 1>, True, {'a': 1})", ran.text
    said = shell.run("_bacalhau.snapshot.notices").value
    assert said is not None
    assert "Sends table." in said
    assert "source of helper, Colour and the imports of np, enum" in said, said


def test_instances_come_back_as_themselves(shell: Kernel) -> None:
    """Instances of the notebook's classes travel both ways, equal and of the same classes, with only `-i` and `-o`."""
    ran = shell.run("%%bacalhau -i points -o back,norms\nback, norms = points[::-1], [p.norm() for p in points]")
    assert ran.error is None, ran.text
    assert (
        shell.run("back == points[::-1], type(back[0]) is Point, back[0].colour is Colour.BLUE, norms[1]").value
        == "(True, True, True, 5.0)"
    )
    shell.run("m, p = Model(parts=[3]), Pair(1, (2,))")
    ran = shell.run("%%bacalhau -i m,p\nm.model_copy(update={'parts': [4]}), p._replace(a=5)")
    assert ran.value == "(Model(parts=[4]), Pair(a=5, b=(2,)))", ran.text


def test_a_class_of_the_cell_alone(shell: Kernel) -> None:
    """An instance of a class that only the cell defines is shown, or refused by name."""
    own = "import dataclasses\n@dataclasses.dataclass\nclass Own:\n    a: int\n"
    ran = shell.run(f"%%bacalhau\n{own}Own(3)")
    assert ran.error is None
    assert "Own(a=3)" in ran.text
    ran = shell.run(f"%%bacalhau -o own\n{own}own = Own(3)")
    assert ran.error is not None
    assert "of the class Own, which only the cell has" in ran.error[1]


def test_a_class_that_is_gone(shell: Kernel) -> None:
    """Where the notebook's class was taken away meanwhile, the error says which, and the value comes once it is there."""
    shell.run("%%bacalhau --bg -i points -o q\nq = points[0]")
    shell.run("_bacalhau.stdout; kept_class = Point; del Point")
    ran = shell.run("%bacalhau attach last -o q")
    assert ran.error is not None
    assert "'q' is of the class Point, which is not there" in ran.error[1]
    shell.run("Point = kept_class")
    assert shell.run("%bacalhau attach last -o q").error is None
    assert shell.run("q").value == "Point(x=1, y=2, colour=<Colour.RED: 1>)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bare", "it is a lambda, which has no source of its own"),
        ("closure", "it is a closure over n"),
        ("bound := [].append", "it is a method of an object"),
        ("bound := points[0].norm", "it is a method of an object"),
        ("bound := Called()", "of type __main__.Called, which can't be sent"),
        ("part := functools.partial(bare)", "it uses <lambda>, and it is a lambda"),
        ("part := functools.partial(main, lock)", "it holds arguments of which _part_holds[0][0] is of type _thread.lock"),
        ("part := functools.partial(points[0].norm)", "of type functools.partial, which can't be sent"),
        ("uses_lock", "it uses lock, and lock is of type _thread.lock"),
        ("uses_ghost", "it uses ghost, and it is a module that can't be imported"),
    ],
)
def test_what_has_no_source_is_refused_by_name(shell: Kernel, name: str, said: str) -> None:
    """A lambda, a closure, a method, and what refers to something unsendable are refused by name, before anything is sent."""
    shell.run(f"({name})")
    ran = shell.run(f"%%bacalhau -i {name.partition(' ')[0]}\n1")
    assert ran.error is not None
    assert said in ran.error[1], ran.error


def test_a_partial_goes_with_its_function_and_what_it_holds(shell: Kernel) -> None:
    """A functools.partial of a function, a class or a builtin is one in the cell, by -i, by -i auto and where a function uses it."""
    shell.run(
        "half, point, binary = functools.partial(functools.partial(main, 1), more=5), functools.partial(Point, y=points[1].y), functools.partial(int, base=2)"
    )
    shell.run("def uses_half(): return half()")
    cell = "half(), half.keywords, point(1), binary('11'), type(half).__name__"
    value = "(([1], {'a': 1}, 0.0, 5), {'more': 5}, Point(x=1, y=4, colour=<Colour.RED: 1>), 3, 'partial')"
    for inputs in ("half,point,binary", "auto"):
        ran = shell.run(f"%%bacalhau -i {inputs}\n{cell}")
        assert (ran.value or "").replace("\n ", " ") == value, ran.text
    assert shell.run("run(uses_half)").value == "([1], {'a': 1}, 0.0, 5)"


def test_a_missing_library_is_an_error_before_the_cell(shell: Kernel, place: object) -> None:
    """A module that the job lacks is named before the first line of the cell runs."""
    (place / "beside.py").write_text("x = 1")  # type: ignore[operator]
    shell.run("import beside\ndef uses_beside(): return beside.x")
    ran = shell.run("%%bacalhau -i uses_beside\nprint('ran')")
    assert ran.error is not None
    assert "beside can't be defined where the cell runs: No module named 'beside'" in ran.text
    assert "ran\n" not in ran.stream("stdout")
    assert "or choose an --image" not in ran.text, "it is a file of the notebook, and no package"


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("%%bacalhau\nimport own", "own.py lies beside the notebook: -i ./own.py sends it"),
        ("%%bacalhau -i ./own.py\nimport own", "It was sent as inputs/own.py: the cell imports it by"),
        ("%%bacalhau -i own=./own.py\nimport own", "-i ./own.py sends it"),
        ("%%bacalhau -i own\nown.one()", "-i ./own.py sends it, and the function that uses it, or the cell instead of -i, imports it by"),
        ("%%bacalhau -i auto\nown.one()", "-i ./own.py sends it"),
        ("run(own.one)", "-i ./own.py sends it, and the function that uses it"),
        ("run(own.one, inputs=['./own.py'])", "It was sent as inputs/own.py: the function that uses it"),
        ("%%bacalhau\nimport own_folder.part", "-i ./own_folder sends it"),
    ],
    ids=["import", "sent", "renamed", "by -i", "auto", "run", "run, sent", "folder"],
)
def test_a_module_beside_the_notebook_is_no_package(shell: Kernel, place: Path, cell: str, sent: str) -> None:
    """Where a missing module lies beside the notebook, the error says how it is sent and the line that imports it, and names no package."""
    (place / "own.py").write_text("def one(): return 1\n")
    (place / "own_folder").mkdir(exist_ok=True)
    (place / "own_folder" / "part.py").write_text("")
    shell.run("import own")
    ran = shell.run(cell)
    assert ran.error is not None
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    assert sent in text, text
    assert "--pip" not in text, text
    line = re.search(r"import sys; sys\.path\.insert\(0, 'inputs'\); import (own\w*)", text)
    assert line is not None, text
    assert shell.run(f"%%bacalhau -i ./own.py -i ./own_folder\n{line[0]}\n{line[1]}.__name__").value == repr(line[1])


def test_a_missing_definition_s_library_names_the_option(shell: Kernel, tmp_path: Path) -> None:
    """A module that the job lacks and that lies not beside the notebook is an error with the option that brings it."""
    (tmp_path / "ghostly.py").write_text("class Ghost: pass")
    shell.run(f"import sys\nsys.path.append({str(tmp_path)!r})\nimport ghostly\nseen = ghostly.Ghost()")
    for sent in ("-i ghostly", "-i seen --allow-pickle"):
        assert "Add --pip ghostly, or choose an --image that has it." in shell.run(f"%%bacalhau {sent}\n1").text


def test_errors_point_into_the_definition(shell: Kernel) -> None:
    """The traceback has the function's own lines, below the cell's."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", shell.run("run(raises)").text)
    assert "File \"definition of raises\", line 3, in raises\n    raise ValueError('deep')\nValueError: deep" in text


def test_a_value_that_can_not_come_back_is_an_error_of_run(shell: Kernel) -> None:
    """run() does not return None for a value that could not travel."""
    ran = shell.run("run(makes)")
    assert ran.error is not None
    assert "The value can't be sent back" in ran.error[1]


def test_a_redefined_class_is_the_latest(shell: Kernel) -> None:
    """Of two definitions under a name, the one that the notebook has now is sent."""
    for default in (1, 2, 1):
        shell.run(f"@dataclasses.dataclass\nclass Twice:\n    a: int = {default}\n    def get(self):\n        return self.a * {default}")
        assert shell.run("%%bacalhau -i Twice\nTwice().a, Twice(10).get()").value == f"({default}, {10 * default})"


DRIFT = """
LIMIT = 5
import pathlib, datetime
from math import tau
def fixed(a, b=LIMIT, *, c=tau, d=-1, e=(1, [2]), f=pathlib.Path('x'), g=datetime.timedelta(1), h=np.float64, i=2 * LIMIT): return [a, b, c, d, str(f), i]
def grows(x, seen=[]):
    seen.append(x)
    return seen
def kw(*, n=1): return n
def times(n):
    def around(fn):
        @functools.wraps(fn)
        def inner(*a): return fn(*a) * n
        return inner
    return around
BY = 3
@times(BY)
def multiplied(x): return x
def counts(fn):
    n = 0
    @functools.wraps(fn)
    def inner(*a):
        nonlocal n
        n += 1
        return fn(*a) + n
    return inner
@counts
def counted(x): return x
def plain(x): return x
doubled = times(2)(plain)
kept = functools.lru_cache(plain)
@functools.lru_cache(maxsize=BY)
@deco
def twice(x): return x
@deco
def again(x): return x
again = deco(again)
def made(x=object()): return 1
class Gauge:
    step = LIMIT
    def up(self, by=LIMIT, *, most=9): return self.step + by
"""


@pytest.fixture
def drifted(shell: Kernel) -> None:
    assert shell.run(DRIFT.strip()).error is None


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("run(fixed, 1)", repr([1, 5, 6.283185307179586, -1, "x", 10])),
        ("run(grows, 1)", "[1]"),
        ("run(kw)", "1"),
        ("run(multiplied, 2)", "6"),
        ("run(twice, 2)", "102"),
    ],
)
def test_defaults_and_decorators_are_those_of_here(shell: Kernel, drifted: None, call: str, value: str) -> None:
    """Defaults and decorators that their source still says are what the job has."""
    ran = shell.run(call)
    assert ran.error is None, ran.text
    assert ran.value == value


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ("fixed.__defaults__ = (6, *fixed.__defaults__[1:])", "fixed", "the default of b is not"),
        ("fixed.__kwdefaults__['c'] = 3", "fixed", "the default of c is not"),
        ("fixed.__defaults__ = None", "fixed", "__defaults__"),
        ("kw.__kwdefaults__ = None", "kw", "__kwdefaults__"),
        ("kw.__kwdefaults__['n'] = True", "kw", "the default of n is not"),
        ("LIMIT = 50", "fixed", "the default of b is not"),
        ("grows(7)", "grows", "the default of seen is not"),
        ("BY = 4", "multiplied", "times(BY) was made with another BY"),
        (
            "def times(n):\n    def around(fn):\n        @functools.wraps(fn)\n        def inner(*a): return fn(*a) - n\n        return inner\n    return around",
            "multiplied",
            "put around it",
        ),
        ("1", "counted", "keeps a state of its own"),
        ("1", "doubled", "put around it"),
        ("1", "kept", "put around it"),
        ("1", "again", "put around it"),
        ("1", "made", "the default of x can't be known"),
        ("Gauge.up.__defaults__ = (1,)", "Gauge", "its method up has drifted: the default of by is not"),
        ("LIMIT = 50", "Gauge", "not to be found"),
    ],
)
def test_what_drifted_is_refused_by_name(shell: Kernel, drifted: None, change: str, name: str, said: str) -> None:
    """A default, a decorator or an attribute that is another than the source says is refused, and nothing is sent."""
    assert shell.run(change).error is None
    ran = shell.run(f"%%bacalhau -i {name}\n{name}")
    assert ran.error is not None, ran.text
    assert ran.error[0] == "UnsendableInputError"
    assert name in ran.error[1]
    assert said in ran.error[1]
