"""The rooms and floors in CONTRIBUTING, made from pyproject.toml and each module's first sentence: `python tests/support/rooms.py`."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / ".github" / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms -->", "<!-- /rooms -->"
_PACKAGE = ROOT / "bacalhau_magic"


def _sentence(path: Path) -> str:
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def _row(floor: str, name: str, path: Path) -> str:
    return f"| {floor} | `{name}` | {_sentence(path)} |"


def _inside(folder: Path, floor: str) -> list[str]:
    """A package's own row, then one for each module in it and below it."""
    name = folder.relative_to(_PACKAGE).as_posix()
    rows = [_row(floor, f"{name}/", folder / "__init__.py")]
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "__init__.py").is_file():
            rows += _inside(path, "")
        elif path.suffix == ".py" and path.name != "__init__.py":
            rows.append(_row("", path.relative_to(_PACKAGE).as_posix(), path))
    return rows


def table() -> str:
    """A row for every module, from the top floor to the ground; a ▪ begins a floor."""
    (contract,) = (it for it in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"] if "layers" in it)
    rows = ["|  | module | what it holds |", "|---|---|---|", _row("▪", "__init__.py", _PACKAGE / "__init__.py")]
    for layer in contract["layers"]:
        for index, name in enumerate(part.strip() for part in layer.split("|")):
            floor = "" if index else "▪"
            folder = _PACKAGE / name
            rows += _inside(folder, floor) if folder.is_dir() else [_row(floor, f"{name}.py", folder.with_suffix(".py"))]
    return "\n".join(rows)


def names(text: str) -> set[str]:
    """The modules that the page's table names."""
    return {line.split("`")[1] for line in text.partition(BEGIN)[2].partition(END)[0].splitlines() if "`" in line}


def with_table(text: str) -> str:
    """The page with its table made new."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
