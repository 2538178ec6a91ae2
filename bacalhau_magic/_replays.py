"""The verbs for recorded jobs: record, replay, live, and the cache of stored results. No IPython here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ._session import no_recordings
from ._tables import Text
from ._tapes import Cache, Player, Recorder, spelled
from .errors import OptionError, RecordingError
from .options import size_text

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["Player", "cache", "live", "record", "replay"]


def record(session: Session, words: list[str]) -> Text:
    """Run cells, and record from now on in FILE what each job did: code, hashes of inputs, log, result; no secrets, ids or hosts."""
    file = _file(session, words, "record")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise OptionError(f"%bacalhau record: {file.parent} is no folder that can be written to.", option="record")
    held = _count(len(Recorder(file).cassette.entries))
    session.deck.use("record", file)
    return Text(f"Cells run, and are recorded in {file.name} ({held} there). Replay them: %bacalhau replay {spelled(file)}")


def replay(session: Session, words: list[str]) -> Text:
    """Take from now on what FILE recorded instead of running cells; one that was changed is an error that says what changed."""
    file = _file(session, words, "replay")
    if not os.path.lexists(file):
        raise RecordingError(
            f"There is no recording {file}.", file=str(file), hint=f"Make it where a node is: %bacalhau record {spelled(file)}"
        )
    held = _count(len(Player(file).cassette.entries))
    session.deck.use("replay", file)
    return Text(f"Cells are replayed from {file.name} ({held}); nothing is sent. Run them again: %bacalhau live")


def live(session: Session, words: list[str]) -> Text:
    """Run cells again, and record nothing."""
    if words:
        raise OptionError(f"%bacalhau live takes nothing more, not {words[0]!r}.", option="live")
    session.deck.use("live")
    return Text("Cells run, and nothing is recorded.")


def cache(session: Session, words: list[str]) -> Text:
    """The stored results of cells with --cache: how many, how large, where; `--clear` removes them."""
    del session
    stored = Cache()
    if words == ["--clear"]:
        return Text(f"{_count(stored.clear(), 'stored result')} removed.")
    if words:
        raise OptionError(f"%bacalhau cache knows no {words[0]!r}.", option="cache", hint="It knows --clear.")
    found = stored.stored
    size = sum(cassette.size for cassette in found)
    bounds = f"At most {Cache.MOST} and {size_text(Cache.LARGEST)} are kept, each for {Cache.OLDEST / 86400:.0f} days after its last use."
    return Text(f"{_count(len(found), 'stored result')}, {size / 1e6:.1f} MB, in {stored.folder}. {bounds}")


def _count(number: int, what: str = "job") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _file(session: Session, words: list[str], verb: str) -> Path:
    if not session.settings.recordings:
        raise no_recordings(session.settings, f"%bacalhau {verb}")
    if len(words) != 1 or words[0].startswith("-"):
        raise OptionError(f"%bacalhau {verb} takes one FILE.", option=verb, hint=f"For example %bacalhau {verb} lesson.yaml")
    file = session.here / Path(words[0]).expanduser()
    if file.suffix not in (".yaml", ".yml"):
        raise OptionError(
            f"%bacalhau {verb}: {words[0]} is no .yaml file.", option=verb, hint="A recording is text, with its parts beside it."
        )
    return file
