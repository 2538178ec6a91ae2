"""The magic line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bacalhau_magic import _argspec as argspec
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic.errors import OptionError
from bacalhau_magic.options import GROUPS, JobOptions, spelling

# A line for every option of this version: what it says, and the value that comes of it.
LINES = {
    "lang": ("--lang bash", "bash"),
    "image": ("--image python:3.12", "python:3.12"),
    "pip": ("--pip 'numpy pandas==2.2' --pip scipy", ("numpy pandas==2.2", "scipy")),
    "requirements": ("-r needs.txt", "needs.txt"),
    "sync": ("--sync imports", "imports"),
    "inputs": ("-i x --input data.csv", ("x", "data.csv")),
    "env": ("-e A=1 --env B=x=y", {"A": "1", "B": "x=y"}),
    "env_file": ("--env-file .env", ".env"),
    "cache": ("--cache", True),
    "refresh": ("--refresh", True),
    "secret": ("--secret TOKEN --secret A,B,TOKEN", ("TOKEN", "A", "B")),
    "secret_in_spec": ("--secret-in-spec", True),
    "outputs": ("-o a,b --output c", ("a", "b", "c")),
    "as_": ("--as json", "json"),
    "stdout": ("--stdout text", "text"),
    "stderr": ("--stderr text", "text"),
    "files": ("--files out", "out"),
    "overwrite": ("--overwrite", True),
    "allow_pickle": ("--allow-pickle", True),
    "trust_html": ("--trust-html", True),
    "publisher": ("--publisher s3://b/k?region=eu", "s3://b/k?region=eu"),
    "max_result": ("--max-result 5MB", 5_000_000),
    "cpu": ("--cpu 500m", 0.5),
    "memory": ("--memory 1GiB", 2**30),
    "disk": ("--disk 3GB", 3_000_000_000),
    "gpu": ("--gpu A100:2", "A100:2"),
    "gpu_vendor": ("--gpu-vendor amd", "amd"),
    "constraints": ("--constraints 'zone in (a,b),!spot'", (("zone", "in", ("a", "b")), ("spot", "!", ()))),
    "priority": ("--priority 3", 3),
    "namespace": ("--namespace team", "team"),
    "labels": ("--labels team=x --labels run=7", {"team": "x", "run": "7"}),
    "timeout": ("--timeout 1h30m", 5400.0),
    "queue_timeout": ("--queue-timeout=90s", 90.0),
    "network": ("--network full", "full"),
    "domain": ("--domain example.org --domain *.example.com", ("example.org", "*.example.com")),
    "runtime": ("--runtime local", "local"),
    "long": ("--long", True),
    "sandbox": ("--sandbox", True),
    "fallback": ("--fallback", True),
    "bg": ("--bg", True),
    "job": ("--job j", "j"),
    "on_interrupt": ("--on-interrupt detach", "detach"),
    "raise_error": ("--no-raise-error", False),
    "once": ("--once", True),
    "progress": ("--progress text", "text"),
    "logs": ("--no-logs", False),
    "quiet": ("-q", True),
    "dry_run": ("-n", True),
    "save": ("--save job.yaml", "job.yaml"),
    "name": ("--name 'my job'", "my job"),
    "profile": ("--profile work", "work"),
    "args": ("-- --verbose a", ("--verbose", "a")),
}

BAD = {
    "image": "--image ''",
    "sync": "--sync all",
    "env": "-e NOVALUE",
    "secret": "--secret TOKEN=value",
    "outputs": "-o 1a",
    "as_": "--as xml",
    "stdout": "--stdout for",
    "stderr": "--stderr a-b",
    "max_result": "--max-result 5",
    "cpu": "--cpu 0",
    "memory": "--memory lots",
    "disk": "--disk -1",
    "gpu": "--gpu A100:0",
    "gpu_vendor": "--gpu-vendor acme",
    "constraints": "--constraints '=x'",
    "priority": "--priority high",
    "labels": "--labels a",
    "timeout": "--timeout 5",
    "queue_timeout": "--queue-timeout soon",
    "network": "--network some",
    "domain": "--domain http://x.org",
    "runtime": "--runtime cloud",
    "job": "--job 'a b'",
    "on_interrupt": "--on-interrupt wait",
    "progress": "--progress loud",
    "profile": "--profile ''",
}


def problem(line: str, **namespace: object) -> OptionError:
    with pytest.raises(OptionError) as caught:
        argspec.parse(line, namespace)
    return caught.value


def test_every_option_has_a_line() -> None:
    """The table of this test names every option that this version has."""
    present = set(JobOptions.model_fields)
    assert set(LINES) == present


@pytest.mark.parametrize("name", LINES)
def test_option_is_read_from_the_line(name: str) -> None:
    """An option on the line has its value, and is the only one that was asked for."""
    line, value = LINES[name]
    options = argspec.parse(line)
    assert getattr(options, name) == value
    assert options.asked == {name}
    assert value != getattr(JobOptions(), name)


@pytest.mark.parametrize("name", BAD)
def test_bad_value_is_refused(name: str) -> None:
    """A bad value is refused in one sentence that begins with the option and says what was expected."""
    error = problem(BAD[name])
    assert error.option == name.rstrip("_")
    assert error.message.startswith(spelling(name))
    assert "expected" in error.message
    assert "\n" not in error.message
    assert "pydantic" not in str(error)


def test_nearest_name_is_suggested() -> None:
    """A misspelt option names its nearest neighbour."""
    assert problem("--tmieout 5m").hint == "Did you mean --timeout?"
    assert problem("--max_result 5MB").hint == "Did you mean --max-result?"
    assert problem("-job x").hint == "Did you mean --job?"


def test_word_that_is_no_option() -> None:
    """A word without dashes is refused and told where program arguments go."""
    error = problem("--bg train.csv")
    assert "'train.csv' is not an option" in error.message
    assert "after --" in error.hint


@pytest.mark.parametrize("line", ["--timeout", "--timeout --bg", "-o", "--name -q"])
def test_missing_value(line: str) -> None:
    """An option without its value is refused, also when another option follows."""
    assert "needs a value" in problem(line).message


@pytest.mark.parametrize("line", ["--cpu 1 --cpu 2", "--bg --bg", "--logs --no-logs", "-q --quiet"])
def test_option_given_twice(line: str) -> None:
    """An option that takes one value is refused the second time."""
    assert "given twice" in problem(line).message


def test_open_quote() -> None:
    """A quote that is not closed is named as the mistake."""
    assert problem("--name 'a b").message == "A quote on the line is not closed."


@pytest.mark.skipif(os.name == "nt", reason="POSIX quoting")
def test_quotes_and_hash() -> None:
    """Quotes join words, a backslash escapes, and # is a plain character."""
    options = argspec.parse(r"""--name "a b" -e A='x y' -e B=p\ q -e C=#1""")
    assert (options.name, options.env) == ("a b", {"A": "x y", "B": "p q", "C": "#1"})


def test_short_switches_together() -> None:
    """-qn means -q -n; -oa means -o a."""
    assert argspec.parse("-qn").asked == {"quiet", "dry_run"}
    assert argspec.parse("-oa").outputs == ("a",)


def test_switch_with_a_value() -> None:
    """A switch takes true and false, so that a configured one can be turned off, and nothing else."""
    assert argspec.parse("--sandbox=false").sandbox is False
    assert "takes no value" in problem("--sandbox=5").message
    assert "takes no value" in problem("--no-logs=true").message


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [("--timeout {t}", "timeout", 30.0), ("--name {n}", "name", "run 7"), ("--name {t}", "name", "30"), ("-o {o}", "outputs", ("a", "b"))],
)
def test_placeholder_is_a_variable(line: str, name: str, value: object) -> None:
    """{name} as a whole value is the variable's text or number."""
    assert getattr(argspec.parse(line, {"t": 30, "n": "run 7", "o": "a,b"}), name) == value


def test_nothing_else_is_expanded() -> None:
    """A part in braces, a $ and program arguments stay as they stand."""
    options = argspec.parse("-e A=x{t} -e B=$HOME -- {t}", {"t": 30})
    assert (options.env, options.args) == ({"A": "x{t}", "B": "$HOME"}, ("{t}",))


@pytest.mark.parametrize(("name", "reason"), [("flag", "not bool"), ("things", "not list"), ("gone", "no variable 'gone'")])
def test_placeholder_that_does_not_fit(name: str, reason: str) -> None:
    """A placeholder names the variable that is missing or is no text or number."""
    assert reason in problem(f"--cpu {{{name}}}", flag=True, things=[]).message


def test_call_and_line_say_the_same() -> None:
    """run(cpu=…, as_=…) gives what the line gives."""
    line = argspec.parse("--lang bash --cpu 2 --as json -o a,b --timeout 10m --no-raise-error -- x")
    call = argspec.from_call(
        {"lang": "bash", "cpu": 2, "as": "json", "outputs": ["a", "b"], "timeout": "10m", "raise_error": False, "args": ["x"]}
    )
    assert call == line
    assert call.asked == line.asked
    assert argspec.from_call({"as_": "json", "gpu": None}).asked == {"as_"}


def test_call_with_a_wrong_name_or_value() -> None:
    """A call's mistakes are the same OptionErrors."""
    with pytest.raises(OptionError, match="Did you mean timeout"):
        argspec.from_call({"tiemout": 5})
    with pytest.raises(OptionError, match="--cpu: expected a number"):
        argspec.from_call({"cpu": "many"})


@pytest.mark.parametrize(
    ("line", "option", "reason"),
    [
        ("--as json", "as", "last expression"),
        ("--lang bash --as text -o a,b", "as", "one JSON object"),
        ("--domain example.org", "domain", "the network is none"),
        ("--network http", "network", "none is"),
        ("--gpu-vendor nvidia", "gpu_vendor", "no GPU"),
        ("--fallback --runtime local", "fallback", "locally anyway"),
        ("-o a --stdout a", "stdout", "same name"),
        ("--stdout a --stderr a", "stderr", "same name"),
        ("-o j --job j", "job", "same name"),
        ("--progress none --logs", "logs", "no log"),
        ("--lang js", "lang", "no language 'js'"),
    ],
)
def test_option_without_effect_is_refused(line: str, option: str, reason: str) -> None:
    """An asked option that can't have an effect is refused with the reason."""
    with pytest.raises(OptionError) as caught:
        argspec.check(argspec.parse(line), BUILT_IN)
    assert caught.value.option == option
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "line", ["--lang bash --as json", "--network http --domain x.org", "--gpu 1 --gpu-vendor amd", "-o a --job j --bg", "-n --bg"]
)
def test_option_with_effect_passes(line: str) -> None:
    """The same options pass where they have an effect, unchanged."""
    options = argspec.parse(line)
    checked = argspec.check(options, BUILT_IN)
    assert (checked.options, checked.language.name, checked.notices) == (options, options.lang, ())


def test_configured_option_without_effect_is_left_out() -> None:
    """A configured value is left out with a notice, and refused when `strict` names it."""
    options = argspec.parse("").over({"network": "http"})
    checked = argspec.check(options, BUILT_IN)
    assert checked.options.network == "none"
    assert checked.notices == ("The configured network is left out: http reaches only the domains given, and none is.",)
    with pytest.raises(OptionError):
        argspec.check(options, BUILT_IN, strict={"network"})


def test_unknown_language_lists_the_known() -> None:
    """A language that is not known names the nearest and all there are."""
    with pytest.raises(OptionError) as caught:
        argspec.check(argspec.parse("--lang js"), BUILT_IN)
    assert caught.value.hint == "Did you mean javascript? There are: python, javascript, typescript, bash."


def test_help_names_every_option() -> None:
    """The help has every option."""
    text = argspec.help_text()
    examples = [line.split("   ")[0].strip().removeprefix("%%bacalhau") for line in text.splitlines() if line.startswith("  %%bacalhau ")]
    assert [argspec.parse(example, {}).asked != set() for example in examples] == [True] * 3
    for name in LINES:
        assert name == "args" or spelling(name) in text
    assert "--pip" in text
    assert "--cpu" in argspec.help_text("resources")
    assert "--lang" not in argspec.help_text("resources")
    assert argspec.help_text("max_result").split()[:2] == ["--max-result", "SIZE"]
    with pytest.raises(OptionError):
        argspec.help_text("weather")


def test_table_goes_between_its_markers() -> None:
    """The README's table is made new between its markers, and the rest stays."""
    text = f"head\n{argspec.TABLE_BEGIN}\nold\n{argspec.TABLE_END}\ntail\n"
    new = argspec.with_table(text)
    assert new.startswith("head\n")
    assert new.endswith("\ntail\n")
    assert "\nold\n" not in new
    assert argspec.with_table(new) == new
    assert all(f"| {group} |" in new for group in GROUPS if group != "packages")


def test_schema_has_every_option() -> None:
    """The JSON schema has the options by their Python names and says how each is written."""
    properties = argspec.json_schema()["properties"]
    assert set(properties) == {name.rstrip("_") for name in LINES} - {"args"}
    assert properties["as"]["x-spelling"] == "--as"
    assert properties["network"]["enum"] == ["none", "http", "full"]


def test_parsing_needs_no_shell() -> None:
    """Reading a line imports neither IPython nor httpx."""
    code = "import sys; from bacalhau_magic._argspec import parse; parse('--cpu 2'); print({'IPython', 'httpx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
