"""For pytest: recorded jobs in tests and, with nbval, in notebooks: `--bacalhau-cassette FILE`, `--bacalhau-mode`, a fixture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_MODES = ("replay", "record", "live")
_VARIABLES = {"replay": "BACALHAU_MAGIC_REPLAY", "record": "BACALHAU_MAGIC_RECORD"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("bacalhau", "recorded jobs of bacalhau_magic")
    group.addoption(
        "--bacalhau-cassette",
        metavar="FILE",
        default="",
        help="the .yaml file of recorded jobs, for all tests and notebooks (nbval) of this run",
    )
    group.addoption(
        "--bacalhau-mode",
        choices=_MODES,
        default="replay",
        help="replay what is recorded (the default; a cell that was changed fails), record it anew, or run live",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell this process and the kernels that it starts, as nbval's, where jobs are recorded."""
    file, mode = config.getoption("--bacalhau-cassette"), config.getoption("--bacalhau-mode")
    if not file or mode == "live":
        return
    if Path(file).suffix not in (".yaml", ".yml"):
        raise pytest.UsageError(f"--bacalhau-cassette {file}: expected a .yaml file")
    if mode == "replay" and not Path(file).is_file():
        raise pytest.UsageError(f"--bacalhau-cassette {file}: there is no such file; record it with --bacalhau-mode record")
    before = {name: os.environ.pop(name, None) for name in _VARIABLES.values()}
    os.environ[_VARIABLES[mode]] = str(Path(file).absolute())
    config.add_cleanup(lambda: _restore(before))


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def bacalhau_cassette(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The jobs that a test sends are replayed from cassettes/<test file>.yaml beside it; `--bacalhau-mode record` records them."""
    from ._session import session

    file, mode = request.config.getoption("--bacalhau-cassette"), request.config.getoption("--bacalhau-mode")
    place = Path(file).absolute() if file else request.path.parent / "cassettes" / f"{request.path.stem}.yaml"
    if mode == "record":
        place.parent.mkdir(parents=True, exist_ok=True)
    with session().deck.using(mode, place):
        yield place
