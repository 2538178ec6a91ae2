"""Control sequences: colours pass, the rest is taken out."""

from __future__ import annotations

import pytest

from bacalhau_magic.progress import clean
from bacalhau_magic.progress._sequences import Sequences

HOSTILE = {
    "clear the screen": "\x1b[2J",
    "cursor up": "\x1b[5A",
    "8-bit cursor up": "\x9b5A",
    "window title": "\x1b]0;root@host\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "link": "\x1b]8;;http://evil\x1b\\",
    "device status": "\x1b[6n",
    "device control": "\x1bP+q544e\x1b\\",
    "8-bit device control": "\x90+q544e\x9c",
    "private message": "\x1b^x\x1b\\",
    "reset": "\x1bc",
    "character set": "\x1b(0",
    "alternate screen": "\x1b[?1049h",
    "bell and null": "\x07\x00",
    "vertical tab and form feed": "\x0b\x0c",
    "delete": "\x7f",
    "a bare escape at the end": "\x1b",
    "a title without an end": "\x1b]0;x",
    "a sequence without an end": "\x1b[12;",
}


@pytest.mark.parametrize("sequence", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_acts_on_a_terminal_is_taken_out(sequence: str) -> None:
    """No sequence that does more than colour reaches a terminal, and the text around it stays."""
    assert clean(f"before {sequence}") == "before "
    assert clean(f"before {sequence}\nafter") == "before \nafter"


@pytest.mark.parametrize("colour", ["\x1b[31m", "\x1b[1;38;5;200m", "\x1b[38:2::1:2:3m", "\x1b[m"])
def test_colours_pass_where_they_are_wanted(colour: str) -> None:
    """Colour sequences stay on request, and go otherwise."""
    assert clean(f"a{colour}b\x1b[0m") == f"a{colour}b\x1b[0m"
    assert clean(f"a{colour}b\x1b[0m", colours=False) == "ab"


def test_an_open_colour_is_closed() -> None:
    """What follows a job's text is not painted in its last colour."""
    assert clean("\x1b[31mred") == "\x1b[31mred\x1b[0m"
    assert clean("\x1b[31mred\x1b[0m") == "\x1b[31mred\x1b[0m"


def test_plain_control_characters_of_a_text_stay() -> None:
    """Tabs, line ends, carriage returns and backspaces belong to a text."""
    assert clean("a\tb\r\nc\b") == "a\tb\r\nc\b"


@pytest.mark.parametrize("sequence", [*HOSTILE.values(), "\x1b[1;31m"], ids=[*HOSTILE, "a colour"])
def test_a_sequence_cut_anywhere_is_still_one(sequence: str) -> None:
    """Where a piece of text ends makes no difference to what passes."""
    text = f"before {sequence}\nafter"
    whole = Sequences(colours=True).feed(text, last=True)
    for cut in range(len(text) + 1):
        sequences = Sequences(colours=True)
        assert sequences.feed(text[:cut]) + sequences.feed(text[cut:]) + sequences.feed("", last=True) == whole


def test_nothing_is_held_back_for_ever() -> None:
    """An escape that never ends holds back no more than a few thousand characters."""
    sequences = Sequences(colours=True)
    shown = sequences.feed("\x1b]0;") + "".join(sequences.feed("x" * 1000) for _ in range(20))
    assert len(shown) > 10_000


def test_text_is_passed_on_at_once() -> None:
    """A piece without the beginning of a sequence is not held back."""
    assert Sequences(colours=True).feed("10 %") == "10 %"
