"""The magic line, and what else is derived from the options: parser, help text, README table, JSON schema.

Everything here is made from `JobOptions.model_fields` and `option_of`; no option has a second definition.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from ._languages import BUILT_IN, Language
from .errors import OptionError
from .options import GROUPS, JobOptions, Option, option_of, plain_name, spelling, validated, value_of

__all__ = ["TABLE_BEGIN", "TABLE_END", "Checked", "check", "from_call", "help_text", "json_schema", "markdown_table", "parse", "with_table"]

TABLE_BEGIN, TABLE_END = "<!-- options -->", "<!-- /options -->"

_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")
_NUMBER = re.compile(r"-\d+(\.\d+)?\w*")


@dataclass(frozen=True, slots=True)
class _Spelling:
    """What a word such as --no-logs stands for: a field, its Option, and the value of a switch."""

    name: str
    option: Option
    switch: bool | None = None


@cache
def _spellings() -> Mapping[str, _Spelling]:
    found: dict[str, _Spelling] = {}
    for name in JobOptions.model_fields:
        option = option_of(name)
        if option is None:
            continue
        for word in (spelling(name), *option.short):
            found[word] = _Spelling(name, option, None if option.metavar else True)
        if option.negatable:
            found["--no-" + plain_name(name).replace("_", "-")] = _Spelling(name, option, False)
    return MappingProxyType(found)


def parse(line: str, namespace: Mapping[str, object] | None = None) -> JobOptions:
    """The options that a line gives; `asked` of the result names exactly these.

    `{name}` as a whole option value stands for a text or number of `namespace`; what follows `--` are the program's
    arguments, as they stand. Raises OptionError.
    """
    words, arguments = _split(line)
    values: dict[str, Any] = {} if arguments is None else {"args": tuple(arguments)}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if _is_cluster(word):
            words[position:position] = [f"-{letter}" for letter in word[1:]]
            continue
        found, given = _meaning(word)
        if found.switch is not None:
            _put(values, found, _switch(word, found, given))
            continue
        if given is None:
            if position == len(words) or _looks_like_option(words[position]):
                hint = f"Write {word}={words[position]} if that is the value." if position < len(words) else ""
                raise OptionError(f"{word} needs a value: {found.option.metavar}.", option=plain_name(found.name), hint=hint)
            given = words[position]
            position += 1
            if given.endswith(",") and position < len(words) and found.option.metavar in ("NAMES", "ITEM"):
                hint = f"Write {word} {given}{words[position]}."
                raise OptionError(f"{word} {given}: names stand without spaces.", option=plain_name(found.name), hint=hint)
        _put(values, found, _filled(found, given, namespace or {}))
    return validated(values)


def _split(line: str) -> tuple[list[str], list[str] | None]:
    """The line's words before and after `--`; quotes as in a POSIX shell, a backslash is a plain character on Windows."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if os.name == "nt":
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError:
        if line.rstrip().endswith("\\"):
            raise OptionError("The line ends with a backslash.", hint="Write options on one line, or quote the backslash.") from None
        raise OptionError("A quote on the line is not closed.", hint="""Quotes come in pairs: --name "a b".""") from None
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _is_cluster(word: str) -> bool:
    """Whether a word is several short switches in one, as in -qn."""
    known = _spellings()
    return bool(re.fullmatch(r"-[A-Za-z]{2,}", word)) and all(f"-{c}" in known and known[f"-{c}"].switch is not None for c in word[1:])


def _meaning(word: str) -> tuple[_Spelling, str | None]:
    """The option that a word names, and its value where the word carries one (--opt=value, -ovalue)."""
    known = _spellings()
    head, sep, rest = word.partition("=")
    if head in known:
        return known[head], rest if sep else None
    if not word.startswith("-") or word == "-":
        hint = "Options begin with --; the program's own arguments come after --."
        if word.startswith("="):
            hint = "Names stand alone, as in -o total or -i x; what they are the cell says, or one before."
        near = _nearest(f"--{word}", cutoff=0.8) if len(word) > 2 else ""
        raise OptionError(f"{word!r} is not an option.", hint=f"Did you mean {near}?" if near else hint)
    short = known.get(word[:2])
    if short and not word.startswith("--") and short.switch is None and not _nearest("-" + word, cutoff=0.8):
        return short, word[2:]
    name = head.lstrip("-").replace("-", "_")
    near = _nearest("--" + head.lstrip("-").replace("_", "-"))
    raise OptionError(
        f"There is no option {head}.", option=name, hint=f"Did you mean {near}?" if near else "%bacalhau help lists the options."
    )


def _nearest(word: str, cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(word, [known for known in _spellings() if known.startswith("--")], 1, cutoff)
    return near[0] if near else ""


def _looks_like_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word)


def _switch(word: str, found: _Spelling, given: str | None) -> bool:
    if given is None:
        return bool(found.switch)
    head = word.partition("=")[0]
    if found.switch is False:
        raise OptionError(f"{head} takes no value.", option=plain_name(found.name))
    try:
        return bool(value_of(found.name, given))
    except ValueError:
        raise OptionError(f"{head} is a switch: it takes no value.", option=plain_name(found.name)) from None


def _put(values: dict[str, Any], found: _Spelling, value: Any) -> None:
    if found.option.repeatable:
        values.setdefault(found.name, []).append(value)
    elif found.name in values:
        raise OptionError(f"{spelling(found.name)} is given twice.", option=plain_name(found.name))
    else:
        values[found.name] = value


def _filled(found: _Spelling, given: str, namespace: Mapping[str, object]) -> Any:
    """A value with `{name}` replaced by the variable's text or number."""
    match = _PLACEHOLDER.fullmatch(given)
    if not match:
        return given
    label, name, option = spelling(found.name), match[1], plain_name(found.name)
    if name not in namespace:
        raise OptionError(f"{label} {given}: there is no variable {name!r}.", option=option)
    value = namespace[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise OptionError(f"{label} {given}: {name!r} must be a text or a number, not {type(value).__name__}.", option=option)
    if isinstance(value, str) or found.option.repeatable:
        return str(value)
    # A number means what it means in run(): bytes, seconds. Where the option wants a text, its digits.
    try:
        value_of(found.name, value)
    except ValueError:
        return str(value)
    return value


@dataclass(frozen=True, slots=True)
class Checked:
    """A cell's language and its options, those without effect left out; `notices` say which configured ones were."""

    options: JobOptions
    language: Language
    notices: tuple[str, ...] = ()


def check(options: JobOptions, languages: Mapping[str, Language], *, strict: Collection[str] = ()) -> Checked:
    """What can be said of the options from themselves and the language alone.

    An asked option that can't have an effect is refused with the reason; a configured one is left out. `strict` names
    configured options that are refused too. Raises OptionError.
    """
    language = languages.get(options.lang)
    if language is None:
        near = _ALIASES.get(options.lang.lower()) or next(iter(difflib.get_close_matches(options.lang, languages, 1)), "")
        hint = f"Did you mean {near}? " if near in languages else ""
        raise OptionError(
            f"--lang: there is no language {options.lang!r}.", option="lang", hint=f"{hint}There are: {', '.join(languages)}."
        )
    asked = options.asked | frozenset(strict)
    left_out: dict[str, Any] = {}
    notices: list[str] = []

    def useless(name: str, reason: str, hint: str = "", *, quiet: bool = False) -> None:
        if name in (options.asked if quiet else asked):
            written = spelling(name) if getattr(options, name) is not False else spelling(f"no_{name}")
            raise OptionError(f"{written} has no effect: {reason}.", option=plain_name(name), hint=hint)
        left_out[name] = JobOptions.model_fields[name].get_default(call_default_factory=True)
        if not quiet:
            notices.append(f"The configured {plain_name(name)} is left out: {reason}.")

    if "as_" in options.asked and language.is_python:
        useless("as_", "it reads stdout, and the value of a Python cell is its last expression", "Use -o to name variables.")
    if "as_" in options.asked and len(options.outputs) > 1 and options.as_ not in ("auto", "json"):
        useless("as_", "several names come from one JSON object on stdout", "Leave --as out, or name one variable.")
    # A configured domain or GPU vendor waits for cells that ask for such a network or GPU: nothing is lost, nothing said.
    if options.domain and options.network != "http":
        useless("domain", f"the network is {options.network}", "Add --network http.", quiet=True)
    if options.network == "http" and not options.domain:
        hint = "Name the domains with --domain, or use --network full."
        useless("network", "http reaches only the domains given, and none is", hint)
    for name in ("pip", "requirements"):
        if getattr(options, name) and not language.is_python:
            hint = "Choose an --image that has what the cell needs."
            useless(name, f"it installs Python packages, and this cell is {language.name}", hint, quiet=True)
    if options.sync != "none" and not language.is_python:
        useless("sync", f"it installs Python packages, and this cell is {language.name}", quiet=True)
    if options.allow_pickle and not language.is_python:
        useless("allow_pickle", f"pickles are Python's, and this cell is {language.name}")
    for name in ("cache", "refresh"):
        if options.allow_pickle and getattr(options, name):
            useless(name, "a stored pickle is never read", "Leave it out, or --allow-pickle.")
        if options.trust_html and getattr(options, name):
            useless(name, "a stored result's HTML is never trusted", "Leave it out, or --trust-html.")
    if options.trust_html and not language.is_python:
        useless("trust_html", f"rich displays are Python's, and this cell is {language.name}")
    if options.gpu_vendor and not options.gpu_count:
        useless("gpu_vendor", "no GPU is asked for", "Add --gpu 1.", quiet=True)
    if options.secret_in_spec and not options.secret:
        useless("secret_in_spec", "there is no secret", "Add --secret NAME.")
    if both := sorted(set(options.secret) & set(options.env)):
        raise OptionError(f"--secret {both[0]}: --env sets it too, and in clear.", option="secret", hint="Leave one of the two out.")
    if options.overwrite and not options.files:
        useless("overwrite", "no files are asked for", "Add --files DIR.")
    if options.fallback and options.runtime == "local":
        useless("fallback", "the cell runs locally anyway", quiet=True)
    if "logs" in options.asked and options.logs and options.progress == "none" and "progress" in options.asked:
        useless("logs", "--progress none shows no log", "Leave one of the two out.")
    if options.bg and not options.raise_error:
        useless("raise_error", "a job in the background raises where it is waited for", "Look at job.error instead.", quiet=True)
    _refuse_same_names(options)
    if left_out:
        values = {name: getattr(options, name) for name in JobOptions.model_fields} | left_out
        options = JobOptions.model_construct(_fields_set=set(options.model_fields_set), **values)
    return Checked(options, language, tuple(notices))


_ALIASES = {
    "js": "javascript",
    "node": "javascript",
    "ts": "typescript",
    "sh": "bash",
    "shell": "bash",
    "py": "python",
    "python3": "python",
}


def _refuse_same_names(options: JobOptions) -> None:
    """Each variable can be bound once."""
    taken: dict[str, str] = dict.fromkeys(options.outputs, "--output")
    for option in ("stdout", "stderr", "job"):
        name = getattr(options, option)
        if name is None:
            continue
        if name in taken:
            raise OptionError(f"--{option} {name}: {taken[name]} binds the same name.", option=option, hint="Give each its own variable.")
        taken[name] = f"--{option}"


_CALL_NAMES = {"as": "as_", "input": "inputs", "output": "outputs"}


def from_call(kwargs: Mapping[str, object]) -> JobOptions:
    """The options of a call of run() or submit(); None counts as not given. Raises OptionError."""
    values: dict[str, object] = {}
    for given, value in kwargs.items():
        name = _CALL_NAMES.get(given, given)
        if name not in JobOptions.model_fields:
            near = difflib.get_close_matches(given, [plain_name(n) for n in JobOptions.model_fields], 1)
            hint = f"Did you mean {near[0]}?" if near else "%bacalhau help lists the options."
            raise OptionError(f"There is no option {given!r}.", option=given, hint=hint)
        if value is None:
            continue
        if name in values:
            raise OptionError(f"{plain_name(name)} is given twice.", option=plain_name(name))
        if name == "args" and isinstance(value, list | tuple):
            value = tuple(str(item) for item in value)
        values[name] = value
    return validated(values)


def _of_group(group: str) -> list[tuple[str, Option]]:
    pairs = ((name, option_of(name)) for name in JobOptions.model_fields)
    return [(name, option) for name, option in pairs if option is not None and option.group == group]


def _usage(name: str, option: Option) -> str:
    """How an option is written: "-o, --output, --outputs NAMES"."""
    words = [*sorted(option.short, key=len), spelling(name)]
    if option.negatable:
        words.append("--no-" + spelling(name)[2:])
    return ", ".join(words) + (f" {option.metavar}" if option.metavar else "")


_HEAD = """%%bacalhau [options] [-- program arguments]

  %%bacalhau -i prices -o total         the variable prices goes into the job, total comes back
  %%bacalhau --lang bash --files out    a Bash cell; what it writes to outputs/ comes into the folder out
  %%bacalhau --gpu 1 --pip torch --bg   on a GPU, with a package, while other cells run

Sizes have a unit (512MB, 4GB), times too (30s, 10m, 2h). {name} as a whole value stands for a variable's text or number.
Every option but those of a single cell can be configured: %bacalhau config memory=4GB, BACALHAU_MAGIC_MEMORY=4GB,
[tool.bacalhau-magic] in pyproject.toml; %bacalhau config --show-origin says where a value came from.

"""


def help_text(topic: str | None = None) -> str:
    """The options as plain text: all, one group's, or one option's. Raises OptionError for a topic that is not known."""
    if topic is None:
        return _HEAD + "\n".join(_group_text(group) for group in GROUPS if _of_group(group))
    if topic in GROUPS and _of_group(topic):
        return _group_text(topic)
    word = topic if topic.startswith("-") else "--" + topic.replace("_", "-")
    found, _ = _meaning(word)
    return "\n".join(_lines([(found.name, found.option)]))


def _group_text(group: str) -> str:
    return "\n".join([f"{group}:", *_lines(_of_group(group)), ""])


def _lines(pairs: Iterable[tuple[str, Option]]) -> list[str]:
    return [f"  {_usage(name, option):<36}  {JobOptions.model_fields[name].description}" for name, option in pairs]


def markdown_table() -> str:
    """The options as a Markdown table, for the README."""
    rows = ["| group | option | meaning |", "|---|---|---|"]
    for group in GROUPS:
        for index, (name, option) in enumerate(_of_group(group)):
            usage = _usage(name, option).replace("|", "\\|")
            rows.append(
                f"| {'' if index else group} | `{usage}` | {str(JobOptions.model_fields[name].description).replace('|', chr(92) + '|')} |"
            )
    return "\n".join(rows)


def with_table(text: str) -> str:
    """A Markdown text with the option table between its markers made new; raises ValueError where there are none."""
    head, begin, rest = text.partition(TABLE_BEGIN)
    _, end, tail = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError(f"no {TABLE_BEGIN} … {TABLE_END} in the text")
    return f"{head}{TABLE_BEGIN}\n{markdown_table()}\n{TABLE_END}{tail}"


def json_schema() -> dict[str, Any]:
    """The options as a JSON schema, for forms and editors; `x-group`, `x-spelling` and so on say how they are written on the line.

    `x-words` are all spellings, the shortest first, and `x-negated` the one that switches off, or "".
    """
    schema = JobOptions.model_json_schema(by_alias=False)
    properties: dict[str, Any] = {}
    for name, part in schema["properties"].items():
        option = option_of(name)
        if option is None:
            continue
        extra = {"x-group": option.group, "x-spelling": spelling(name), "x-metavar": option.metavar, "x-repeatable": option.repeatable}
        extra["x-words"] = [*sorted(option.short, key=len), spelling(name)]
        extra["x-negated"] = "--no-" + spelling(name)[2:] if option.negatable else ""
        if name == "lang":
            extra["examples"] = list(BUILT_IN)
        properties[plain_name(name)] = {**part, **extra}
    return {**schema, "properties": properties}
