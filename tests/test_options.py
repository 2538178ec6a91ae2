"""The definition of the options: sizes, times, names, constraints, and how configured values go below asked ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau_magic.errors import OptionError
from bacalhau_magic.options import JobOptions, duration, duration_text, parse_constraints, size, size_text, validated, value_of


@given(st.integers(1, 10**16))
def test_size_round_trip(count: int) -> None:
    """A size written as text reads back as the same bytes."""
    assert size(size_text(count)) == count


@given(st.integers(1, 366 * 86400) | st.floats(0.001, 10**6))
def test_duration_round_trip(seconds: float) -> None:
    """A time written as text reads back as the same seconds."""
    assert duration(duration_text(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "count"), [("1.5GB", 1_500_000_000), ("2k", 2000), ("1KiB", 1024), ("4.1GB", 4_100_000_000), ("7b", 7), (" 3 MB ", 3_000_000)]
)
def test_size_units(text: str, count: int) -> None:
    """KB is 1000 bytes, KiB 1024, and fractions are exact."""
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "5", "GB", "-1GB", "0", "1XB", True, None, 1.5])
def test_size_without_sense(text: object) -> None:
    """A size without unit, amount or sense says what was expected."""
    with pytest.raises(ValueError, match="expected a size"):
        size(text)


@pytest.mark.parametrize("text", ["", "5", "m", "5 weeks", "1h30", "-5s", "0s", "400d", True, None, float("nan"), float("inf")])
def test_duration_without_sense(text: object) -> None:
    """A time without unit, amount or sense says what was expected."""
    with pytest.raises(ValueError, match="expected a time"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "triples"),
    [
        ("region=eu", (("region", "=", ("eu",)),)),
        ("region == eu, gpu", (("region", "=", ("eu",)), ("gpu", "exists", ()))),
        ("zone notin (a|b)", (("zone", "notin", ("a", "b")),)),
        ("cores>4", (("cores", "gt", ("4",)),)),
        ("!spot", (("spot", "!", ()),)),
    ],
)
def test_constraints(text: str, triples: object) -> None:
    """A selector reads as the Bacalhau CLI reads it."""
    assert parse_constraints(text) == triples
    assert parse_constraints(triples) == triples


@pytest.mark.parametrize("text", ["", "=a", "!a=b", "a b c", 5])
def test_bad_constraints(text: object) -> None:
    """A selector that can't be read shows one that can."""
    with pytest.raises(ValueError, match="expected a constraint such as"):
        parse_constraints(text)


@pytest.mark.parametrize(
    ("gpu", "count", "model"), [(None, 0, ""), ("2", 2, ""), ("A100", 1, "A100"), ("A100:4", 4, "A100"), (1, 1, ""), ("0", 0, "")]
)
def test_gpu_count_and_model(gpu: object, count: int, model: str) -> None:
    """--gpu is a number, a model, or both."""
    options = validated({"gpu": gpu})
    assert (options.gpu_count, options.gpu_model) == (count, model)


def test_asked_beats_configured() -> None:
    """A configured value is taken where the line gave none, and is not counted as asked for."""
    options = validated({"cpu": 2}).over({"cpu": 4.0, "memory": 10**9})
    assert (options.cpu, options.memory, options.asked) == (2.0, 10**9, {"cpu"})


def test_long_runs_a_day_unless_a_time_is_asked_for() -> None:
    """--long gives a day to run and to wait; a time on the line beats it, a configured one does not."""
    assert validated({"long": True}).over({"timeout": 60.0}).run_seconds == 86400
    assert validated({"long": True, "timeout": "2h"}).run_seconds == 7200
    assert validated({"bg": True}).queue_seconds == 86400
    assert validated({"bg": True, "queue_timeout": "5m"}).queue_seconds == 300
    assert validated({}).run_seconds == 300


def test_environment_of_the_job_is_not_in_the_repr() -> None:
    """The values of --env, which may be secrets, do not show in a repr."""
    assert "hunter2" not in repr(validated({"env": {"TOKEN": "hunter2"}}))


@pytest.mark.parametrize(
    "values", [{"env": {"BACALHAU_X": "1"}}, {"env": {"1A": "x"}}, {"labels": {"bacalhau-magic.x": "1"}}, {"labels": {"a b": "1"}}]
)
def test_kept_names(values: dict[str, object]) -> None:
    """Names that Bacalhau or our own marks use are refused."""
    with pytest.raises(OptionError):
        validated(values)


def test_single_value() -> None:
    """One option's value is read as the whole would read it."""
    assert value_of("memory", "1GB") == 10**9
    assert value_of("as_", "json") == "json"
    with pytest.raises(ValueError, match=r"^expected none, http or full, not 'x'$"):
        value_of("network", "x")


def test_unset_option_is_the_default() -> None:
    """Without anything asked for, the options are the documented defaults."""
    options = JobOptions()
    assert (options.lang, options.timeout, options.queue_timeout, options.max_result) == ("python", 300.0, 600.0, 64_000_000)
    assert (options.network, options.runtime, options.raise_error, options.logs) == ("none", "auto", True, True)
    assert options.asked == frozenset()
