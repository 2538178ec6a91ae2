"""Settings: layers of plain values with their origins, the strongest of each validated once.

Strongest first: `%bacalhau config`, environment, the nearest pyproject.toml's `[tool.bacalhau-magic]`, the user's
file, the Bacalhau CLI's configuration, built-in. A policy stands above them all and can only tighten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from . import _endpoints, _marks, _profiles
from . import _sources as sources
from ._languages import Language, configured
from ._policy import SYSTEM_POLICY, Policy, read_policy
from ._settingkeys import SETTINGS, option_names, read, shown
from ._sources import Layer
from ._stages import Endpoint
from ._stores import Store
from ._trust import is_trusted, user_folder, write_private
from .errors import ConfigError, OptionError
from .options import JobOptions, option_of, plain_name, spelling

__all__ = ["SYSTEM_POLICY", "Policy", "Settings", "endpoint_at", "load", "save", "user_folder", "with_values"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is configured, validated; `origins` says in words where each value that is not built in came from.

    `options` are defaults for a cell's options by field name. `project_url` is the endpoint that the project names,
    `untrusted_url` the same where it is the only one and not trusted yet, `project_file` the pyproject.toml in use.
    Times are seconds.
    """

    options: Mapping[str, Any] = field(repr=False)
    endpoint: Endpoint | None = None
    untrusted_url: str = ""
    project_url: str = ""
    project_file: Path | None = None
    local_key: bool = False
    """The configured key is the embedded node's: cells go there."""
    enabled: bool = True
    path: str = "bacalhau"
    transport: str = "http"
    remote_gpu: str = ""
    """Default GPUs of a job that goes to Bacalhau, "" for none."""
    prefer: str = "auto"
    poll_interval: float = 5.0
    pull_timeout: float = 1800.0
    receipt: str = "live"
    recordings: bool = True
    """Whether jobs may be recorded and replayed, and results be stored."""
    record: str | None = None
    replay: str | None = None
    """Files of recorded jobs: where all are recorded, and where they are replayed from."""
    strict: frozenset[str] = frozenset()
    """Configured options that refuse where they can't be kept; what a policy locks is among them."""
    languages: Mapping[str, Language] = field(default_factory=lambda: configured({}))
    store: Store | None = None
    """Where large inputs go; one that only a project names is here once it is trusted."""
    project_store: str = ""
    """The address of the store that the project names."""
    untrusted_store: str = ""
    """The same, where it is not trusted yet."""
    policy: Policy = field(default_factory=Policy, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def show(self) -> list[tuple[str, str, str]]:
        """(name, value, origin) of every setting and configurable option, secrets masked."""
        names = [*SETTINGS, *option_names()]
        return [(plain_name(name), self.texts.get(name, ""), self.origins.get(name, "built-in")) for name in names]

    def apply(self, options: JobOptions) -> tuple[JobOptions, tuple[str, ...]]:
        """A cell's options over the configured ones and under the policy, and what the card says of that.

        Raises OptionError where the line asks for what the policy does not allow.
        """
        whole, notices = options.over(self.options), []
        said = f" {self.policy.message}" if self.policy.message else ""
        for name, value in self.policy.locked.items():
            if name in whole.asked and getattr(whole, name) != value:
                raise OptionError(
                    f"{spelling(name)} is locked to {shown(name, value) or 'nothing'} by the policy {self.policy.origin}.{said}",
                    option=plain_name(name),
                )
        for name, values in self.policy.allowed.items():
            whole, notice = self._chosen(whole, name, values, said)
            notices += [notice] if notice else []
        for name, most in self.policy.max.items():
            whole, notice = self._limited(whole, name, most, said)
            notices += [notice] if notice else []
        return whole, tuple(notices)

    def check_packages(self, lines: tuple[str, ...]) -> None:
        """Raises OptionError where the policy locks the packages and a cell asks for others, by whatever way."""
        locked = self.policy.locked.get("pip", lines)
        if set(lines) != set(locked):
            raise OptionError(
                f"The cell asks for the packages {', '.join(lines)}; they are locked to {', '.join(locked) or 'none'}"
                f" by the policy {self.policy.origin}. {self.policy.message}".rstrip(),
                option="pip",
            )

    def _chosen(self, whole: JobOptions, name: str, values: tuple[Any, ...], said: str) -> tuple[JobOptions, str]:
        """One option as the policy allows it: what is asked is kept or refused, what is configured is replaced."""
        wanted, cause = getattr(whole, name), name
        if name == "image" and wanted is None:
            language = self.languages.get(whole.lang)
            built_in = configured({}).get(whole.lang)
            if language is None or (built_in and language.image == built_in.image):
                return whole, ""  # the language's own, that comes with this package
            wanted, cause = language.image, "lang"
        elif name == "runtime" and whole.fallback and "local" not in values:
            wanted, cause = "local", "fallback"
        if wanted in values:
            return whole, ""
        listed = ", ".join(shown(name, value) for value in values) or "nothing"
        what = f"{plain_name(name)} {shown(name, wanted)} is not among what the policy {self.policy.origin} allows: {listed}.{said}"
        if cause in whole.asked or name == "image" or not values:
            raise OptionError(f"{spelling(cause)}: {what}", option=plain_name(cause))
        if cause == "fallback":
            return _with(whole, {"fallback": False}), f"The configured fallback is left out: {what}"
        notice = "" if wanted == JobOptions.model_fields[name].default else f"{what.rstrip()} It is {shown(name, values[0])}."
        return _with(whole, {name: values[0]}), notice

    def _limited(self, whole: JobOptions, name: str, most: Any, said: str) -> tuple[JobOptions, str]:
        wanted = whole.amount(name)
        if wanted is None or wanted <= most:
            return whole, ""
        asked_text, limit = shown(name, wanted), shown(name, most)
        cause = next((n for n in (name, "long") if n in whole.asked and (n == name or name == "timeout")), "")
        if cause:
            raise OptionError(
                f"{spelling(cause)}: {plain_name(name)} {asked_text} is above the policy's limit of {limit} ({self.policy.origin}).{said}",
                option=plain_name(cause),
                hint=f"Ask for {spelling(name)} {limit} or less.",
            )
        value = (str(most) if most else None) if name == "gpu" else most
        # A cut time counts as asked for, because `long` and `bg` would otherwise put their own day in its place.
        cut = _with(whole, {name: value}, {name} if name in ("timeout", "queue_timeout") else set())
        if wanted == JobOptions().amount(name):
            return cut, ""  # nobody chose it
        return cut, f"{plain_name(name)} is cut from {asked_text} to {limit} by the policy {self.policy.origin}.{said}"


def _with(options: JobOptions, values: Mapping[str, Any], asked: set[str] | None = None) -> JobOptions:
    everything = {name: getattr(options, name) for name in JobOptions.model_fields} | dict(values)
    return JobOptions.model_construct(_fields_set=set(options.model_fields_set) | (asked or set()), **everything)


def load(
    *,
    environment: Mapping[str, str],
    folder: Path,
    overrides: Mapping[str, object] | None = None,
    user: Path | None = None,
    cli: Path | None = None,
    system_policy: Path = SYSTEM_POLICY,
) -> Settings:
    """The settings in force for a notebook in `folder`.

    `overrides` are `%bacalhau config`'s values; `user` is the folder of this user's own files (see `user_folder`),
    `cli` the Bacalhau CLI's folder (BACALHAU_DIR or ~/.bacalhau). Raises ConfigError naming the source of a bad value.
    """
    user = user or user_folder()
    cli = cli or _profiles.folder_of(environment)
    warnings: list[str] = []
    policy = read_policy(environment.get("BACALHAU_MAGIC_POLICY", ""), system_policy)
    locked = {name: (value, f"policy {policy.origin}") for name, value in policy.locked.items()}
    layers = [Layer("policy", locked), *_layers(environment, folder, overrides or {}, user, cli, warnings)]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in reversed(layers):
        origins |= {name: origin for name, (_, origin) in layer.values.items()}
    for name in origins:
        raw = next(layer.values[name][0] for layer in layers if name in layer.values)
        if name == "languages" and isinstance(raw, dict):
            # Languages are added to by each layer; of one language the strongest table counts.
            tables = [layer.values[name][0] for layer in reversed(layers) if name in layer.values]
            raw = {lang: table for one in tables if isinstance(one, dict) for lang, table in one.items()}
        values[name] = raw if layers[0].values.get(name) else read(name, raw, origins[name])
    whole = {name: values.get(name, setting.default) for name, setting in SETTINGS.items()}
    options = {name: value for name, value in values.items() if name not in SETTINGS}
    _check_languages(options, whole["languages"], origins)
    found = _endpoints.find(layers, user=user, cli=cli, warnings=warnings)
    local_key = found.endpoint is not None and found.endpoint.credential.key.startswith(_marks.LOCAL_KEY_PREFIX)
    endpoint = None if local_key else found.endpoint
    if whole["transport"] == "cli" and not local_key and not found.untrusted:
        endpoint = replace(endpoint or Endpoint(_endpoints.STOCK_URL, origin="the Bacalhau CLI"), cli=whole["path"])
    if endpoint:
        warnings += endpoint.risks
    store = whole["staging"]
    named = next((layer for layer in layers if "staging" in layer.values), None)
    by_project = store is not None and named is not None and named.kind == "project" and named.file is not None
    trusted = not by_project or is_trusted(layers[3].file or Path(), store.address, user=user, what="staging")
    texts = {name: shown(name, value) for name, value in whole.items()}
    texts |= {
        name: shown(name, values.get(name, JobOptions.model_fields[name].get_default(call_default_factory=True))) for name in option_names()
    }
    if endpoint:
        texts["api_url"], origins["api_url"] = endpoint.url, endpoint.origin
    return Settings(
        options=options,
        endpoint=endpoint,
        untrusted_url=found.project_url if found.untrusted else "",
        project_url=found.project_url,
        project_file=layers[3].file,
        local_key=local_key,
        store=store if trusted else None,
        project_store=store.address if by_project else "",
        untrusted_store="" if trusted else store.address,
        enabled=whole["enabled"],
        path=whole["path"],
        transport=whole["transport"],
        remote_gpu=str(whole["gpu_count"]) if whole["gpu_enabled"] and whole["gpu_count"] else "",
        prefer=whole["prefer"],
        poll_interval=whole["poll_interval"],
        pull_timeout=whole["pull_timeout"],
        receipt=whole["receipt"],
        recordings=whole["recordings"],
        record=whole["record"],
        replay=whole["replay"],
        strict=frozenset(whole["strict"]) | {name for name in policy.locked if name not in SETTINGS},
        languages=whole["languages"],
        policy=policy,
        origins=origins,
        warnings=tuple(warnings),
        texts=texts,
    )


def _layers(
    environment: Mapping[str, str], folder: Path, overrides: Mapping[str, object], user: Path, cli: Path, warnings: list[str]
) -> list[Layer]:
    """The sources below the policy, the strongest first."""
    return [
        sources.overrides(overrides),
        sources.environment(environment, warnings),
        sources.project(folder, warnings),
        sources.user(user / "config.toml", warnings),
        sources.cli(cli, environment.get("BACALHAU_PROFILE", ""), warnings),
    ]


def _check_languages(options: Mapping[str, Any], languages: Mapping[str, Language], origins: Mapping[str, str]) -> None:
    lang = options.get("lang")
    if lang is not None and lang not in languages:
        raise ConfigError(f"{origins['lang']}: there is no language {lang!r}.", setting="lang", hint=f"There are: {', '.join(languages)}.")


def with_values(overrides: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """`%bacalhau config`'s values with further ones; a new address takes the place of the earlier one, and of what stood beside that."""
    given = {key.replace("-", "_") for key in values}
    known = {key.replace("-", "_") for key in overrides}
    stale: set[str] = set()
    if given & set(_endpoints.ADDRESS):
        stale = {"api_url", "profile"} | (set(_endpoints.ADDRESS) if given & {"api_url", "profile"} else set())
        if known & set(_endpoints.ADDRESS):
            stale |= set(_endpoints.BESIDE)
    return {key: value for key, value in overrides.items() if key.replace("-", "_") not in stale} | dict(values)


def endpoint_at(
    url: str,
    *,
    environment: Mapping[str, str],
    folder: Path,
    overrides: Mapping[str, object] | None = None,
    user: Path | None = None,
    cli: Path | None = None,
) -> Endpoint:
    """The endpoint that a job was sent to earlier, with what stands beside exactly this address or is kept for it."""
    user, cli = user or user_folder(), cli or _profiles.folder_of(environment)
    layers = _layers(environment, folder, overrides or {}, user, cli, [])
    return _endpoints.endpoint_at(url, layers, user=user, cli=cli)


def save(key: str, value: str, where: Literal["project", "user"], *, folder: Path, user: Path | None = None) -> Path:
    """Write one setting into the project's pyproject.toml or the user's config.toml, keeping the rest; returns the file.

    Raises ConfigError for a name or value that can't be kept there.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    name = next(iter(sources.overrides({key: value}).values))
    validated = read(name, value, key)
    if name in SETTINGS and (SETTINGS[name].secret or name == "api_username"):
        raise ConfigError(f"{key} is not written to a file.", setting=key, hint="%bacalhau login keeps a credential for its endpoint.")
    if where == "project":
        file = _project_to_write(folder)
        sources.refuse_in_project(name, value, str(file))
    else:
        file = (user or user_folder()) / "config.toml"
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8") if file.exists() else "")
        table: Any = document
        if where == "project":
            for step in ("tool", sources.TABLE):
                if step not in table:
                    table.add(step, tomlkit.table(is_super_table=step == "tool"))
                table = table[step]
        table[_key_in(table, name)] = _plain_value(name, value, validated)
        write_private(file, tomlkit.dumps(document), file.stat().st_mode & 0o777 if file.exists() else 0o600)
    except (OSError, TOMLKitError) as error:
        raise ConfigError(f"{file} can't be written: {error}.", setting=key, origin=str(file)) from None
    return file


def _key_in(table: Any, name: str) -> str:
    """The key as the file already writes it, max-result or max_result."""
    return next((str(key) for key in table if str(key).replace("-", "_") == name), plain_name(name))


def _plain_value(name: str, given: str, validated: Any) -> Any:
    """A value as a person would write it in TOML: true, 2, "10m", ["a", "b"]."""
    if isinstance(validated, bool) or (isinstance(validated, int) and given.strip().isdecimal()):
        return validated
    option = option_of(name) if name in JobOptions.model_fields else None
    if isinstance(validated, tuple) and all(isinstance(item, str) for item in validated) and (option is None or option.repeatable):
        return [plain_name(item) for item in validated]
    return dict(validated) if name in ("env", "labels") else given


def _project_to_write(folder: Path) -> Path:
    found = sources.project_file(folder)
    if found:
        return found
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / "pyproject.toml").is_file():
            return place / "pyproject.toml"
    raise ConfigError(f"There is no pyproject.toml in {folder} or above.", hint="Use --save user, or make a pyproject.toml first.")
