"""What a Python cell reads, binds and imports, found by reading its syntax tree; the cell is never run."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from ._cellscopes import Walk
from .errors import CellSyntaxError

__all__ = ["CellNames", "Import", "outside_standard_library", "read"]


@dataclass(frozen=True, slots=True)
class Import:
    """A top-level module that the cell imports, and the line (from 1) where it does."""

    module: str
    line: int


@dataclass(frozen=True, slots=True)
class CellNames:
    """A cell's names, each in the order of first appearance.

    `reads` are globals that the cell may read before it binds them itself; `binds` what it may bind at its top level, and
    `assigns` what its own statements there assign, not those within others.
    `star_imports` are modules imported with `*`, which may bind anything. `has_value` says whether the last statement
    is an expression, `hidden` whether a `;` ends the cell.
    """

    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    assigns: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()
    star_imports: tuple[str, ...] = ()
    has_value: bool = False
    hidden: bool = False


def read(code: str) -> CellNames:
    """The names of a Python cell; raises CellSyntaxError for a syntax error and for `%`, `!` and `?` lines."""
    tree = _parsed(code)
    walk = Walk()
    walk.block(tree.body)
    walk.settle()
    return CellNames(
        tuple(walk.reads),
        tuple(walk.ever),
        tuple(dict.fromkeys(_assigned(tree))),
        tuple(dict.fromkeys(_imports(tree))),
        tuple(dict.fromkeys(walk.stars)),
        bool(tree.body) and isinstance(tree.body[-1], ast.Expr),
        _ends_with_semicolon(code),
    )


def _parsed(code: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
            # Compiling finds what parsing does not: `return` outside a function, a name both global and local.
            compile(code, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        raise _refusal(code, error) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise CellSyntaxError(f"The cell can't be read: {error}.", line=1) from None
    return tree


def _assigned(tree: ast.Module) -> Iterable[str]:
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets):
                yield from (name.id for target in targets for name in ast.walk(target) if _is_stored(name))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                yield name


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


_MAGIC = re.compile(r"\s*(?:[\w., ]+=\s*)?(%%?|!)\s*([\w./~]*)")
_HELP = re.compile(r"\s*(\?{1,2}[\w.*]+|[\w.*]+\?{1,2})\s*")


def _refusal(code: str, error: SyntaxError) -> CellSyntaxError:
    lines = code.split("\n")
    line = min(max(error.lineno or 1, 1), len(lines))
    text = lines[line - 1]
    if _HELP.fullmatch(text):
        return CellSyntaxError(
            f"Line {line}: {text.strip()} is help for the notebook and can't run in a job.", line=line, hint="Take the line out."
        )
    magic = _MAGIC.match(text)
    if magic and magic[1] == "!":
        hint = 'Use subprocess.run(["ls"]) in the cell, or a cell with --lang bash.'
        return CellSyntaxError(f"Line {line}: a line with ! can't run in a job: {text.strip()}", line=line, hint=hint)
    if magic:
        name = magic[1] + magic[2]
        hint = "Run it in a cell of its own, without %%bacalhau, or take the line out."
        if magic[2] in ("pip", "conda"):
            hint = "Ask for the packages on the line of %%bacalhau: --pip NAME; or choose an --image that has them."
        return CellSyntaxError(f"Line {line}: the magic {name} can't run in a job.", line=line, hint=hint)
    # As Python shows it: the line without its indent, and the mark below.
    source = (error.text or text).rstrip("\n")
    bare = source.lstrip()
    shown = f"\n    {bare}"
    if error.offset and error.offset > 0:
        start = max(0, error.offset - 1 - (len(source) - len(bare)))
        width = (error.end_offset or 0) - error.offset if error.end_lineno == error.lineno else 1
        shown += f"\n    {' ' * start}{'^' * max(1, width)}"
    kind = type(error).__name__
    return CellSyntaxError(f"{kind} in the cell, line {line}: {error.msg}{shown}", line=line)


def _ends_with_semicolon(code: str) -> bool:
    """Whether the last token is a `;`; comments and empty lines after it do not count."""
    last = ""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT)
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in skipped:
                last = token.string
    except (tokenize.TokenError, SyntaxError):
        return False
    return last == ";"


EVERYWHERE = frozenset(
    [
        "display",
        "update_display",
        "clear_output",
        "publish_display_data",
        "DisplayHandle",
        "DisplayObject",
        "HTML",
        "Markdown",
        "Latex",
        "Math",
        "SVG",
        "JSON",
        "Image",
        "Pretty",
        "Code",
    ]
)
"""What a job can import of IPython.display in any image: the wrapper has it where IPython is missing."""


def _imports(tree: ast.Module) -> Iterable[Import]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name.partition(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != "__future__":
            if node.module == "IPython.display" and all(alias.name in EVERYWHERE for alias in node.names):
                continue
            found.append(Import(node.module.partition(".")[0], node.lineno))
    first: dict[str, Import] = {}
    for item in sorted(found, key=lambda item: item.line):
        first.setdefault(item.module, item)
    return first.values()


def outside_standard_library(imports: Iterable[Import]) -> tuple[Import, ...]:
    """The imports that this Python's standard library does not have."""
    return tuple(item for item in imports if item.module not in sys.stdlib_module_names)
