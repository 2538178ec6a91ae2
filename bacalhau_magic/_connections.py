"""Which cluster the session uses, and who it says it is: profiles, trusted projects, logins. No IPython here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import _profiles, _trust
from ._settingkeys import read
from ._stages import Credential, Endpoint
from ._tables import Table, Text
from .client import Client
from .errors import ApiError, ConfigError, OptionError, UnauthorizedError
from .options import JobOptions

if TYPE_CHECKING:
    from ._session import Session

_LOGIN = "%bacalhau login"


def use(session: Session, words: list[str]) -> Table | Text:
    """Send cells to a profile of the Bacalhau CLI; `--trust` the endpoint of this project's pyproject.toml, `--untrust` it again."""
    match words:
        case []:
            return _profiles_table(session)
        case ["--trust"]:
            url, file = session.trust_project()
            return Text(f"Trusted: cells of {file.parent} may go to {url}, as long as {file.name} names that.{_in_force(session)}")
        case ["--untrust"]:
            url, file = session.trust_project(undo=True)
            return Text(f"Not trusted any more: {url}, which {file} names.")
        case [name] if not name.startswith("-"):
            _refuse(session, name)
            session.configure({"profile": name})
            return Text(f"Profile {name}.{_in_force(session)}")
    raise OptionError("%bacalhau use takes one PROFILE, --trust or --untrust.", option="use", hint="%bacalhau use lists the profiles.")


def _refuse(session: Session, name: str) -> None:
    """Raise OptionError for a profile that is not there, or that a policy does not allow."""
    try:
        session.settings_for(JobOptions(profile=name))
    except OptionError as problem:
        said = problem.message.removeprefix("--profile: ")
        raise OptionError(f"%bacalhau use {name}: {said}", option="use", hint=problem.hint) from None


def _profiles_table(session: Session) -> Table:
    folder = _profiles.folder_of(os.environ)
    endpoint = session.settings.endpoint
    rows = tuple(
        (
            profile.name,
            profile.endpoint,
            profile.description,
            "in use" if endpoint and endpoint.origin == profile.origin else "",
        )
        for profile in _profiles.all_profiles(folder)
    )
    return Table(("profile", "endpoint", "description", ""), rows, f"The Bacalhau CLI has no profiles in {folder / 'profiles'}.")


def _in_force(session: Session) -> str:
    """Where cells go now, as sentences that follow another one."""
    settings = session.settings
    if not settings.enabled:
        return " BACALHAU_ENABLED is false: cells run on this machine all the same."
    if settings.local_key:
        return " Its key is the embedded node's: cells run on this machine."
    if settings.endpoint is None:
        return ""
    return " ".join([f" Cells go to {settings.endpoint.url} now ({settings.endpoint.origin}).", *settings.endpoint.risks])


# Logins


@dataclass(frozen=True, slots=True)
class _Login:
    """What the line of a login asks for."""

    url: str = ""
    username: str = ""
    again: bool = False
    forget: bool = False


def login(session: Session, words: list[str]) -> Text:
    """Ask for an endpoint's key without echo and keep it for that endpoint; `--user NAME`: a password; `--again`, `--forget`."""
    asked = _read(words)
    endpoint = _endpoint(session, asked.url)
    if asked.forget:
        return _forget(session, endpoint)
    kept = _trust.kept_credential(endpoint.url)
    if kept and not asked.again and not asked.username and _is_accepted(endpoint, kept):
        done = "is kept already, and accepted; %bacalhau login --again asks for another."
    else:
        given = _asked(session, endpoint, asked)
        checked = _checked(endpoint, given)
        file = _trust.keep_credential(endpoint.url, key=given.key, username=given.username, password=given.password)
        done = f"is kept in {file}, for this endpoint only.{checked}"
    session.forget_settings()
    if asked.url and not _is_configured(session, endpoint.url):
        session.configure({"api_url": endpoint.url})
        done += f" Cells go there for this session; to keep that: %bacalhau config api_url={endpoint.url} --save user."
    return Text(" ".join([f"The credential for {endpoint.url} {done}", *_stronger(session), *endpoint.risks]))


def _read(words: list[str]) -> _Login:
    found, rest = _Login(), list(words)
    while rest:
        word = rest.pop(0)
        match word:
            case "--again":
                found = replace(found, again=True)
            case "--forget":
                found = replace(found, forget=True)
            case "--user" if rest:
                found = replace(found, username=rest.pop(0))
            case _ if not word.startswith("-") and not found.url:
                found = replace(found, url=word)
            case _:
                raise OptionError(
                    f"%bacalhau login can't use {word!r}.", option="login", hint="%bacalhau login [URL] [--user NAME] [--again] [--forget]"
                )
    return found


def _endpoint(session: Session, url: str) -> Endpoint:
    """The endpoint that a login is for, with the TLS settings that go with it and no credential."""
    if not url:
        found = session.settings.endpoint
        if found is None:
            raise OptionError("%bacalhau login needs a URL: no endpoint is configured.", option="login", hint=f"{_LOGIN} https://host:1234")
        return replace(found, credential=Credential())
    try:
        address = read("api_url", url, _LOGIN)
    except ConfigError as problem:
        raise OptionError(problem.message, option="login") from None
    settings = session.settings if _is_configured(session, address) else session.settings_with({"api_url": address})
    found = settings.endpoint
    if found is None or _trust.origin_of(found.url) != _trust.origin_of(address):
        raise OptionError(f"%bacalhau login: cells can't go to {address} from here (see %bacalhau config --show-origin).", option="login")
    return replace(found, credential=Credential())


def _is_configured(session: Session, address: str) -> bool:
    endpoint = session.settings.endpoint
    return endpoint is not None and _trust.origin_of(endpoint.url) == _trust.origin_of(address)


def _asked(session: Session, endpoint: Endpoint, asked: _Login) -> Credential:
    what = f"Password of {asked.username}" if asked.username else "Key"
    try:
        secret = session.surroundings.ask(f"{what} for {endpoint.url}: ").strip()
    except (EOFError, NotImplementedError):
        raise ConfigError(
            f"%bacalhau login can't ask for the key of {endpoint.url}: nobody can answer here.",
            setting="api_key",
            hint="Set BACALHAU_API_KEY in the environment, or log in once in a notebook or a terminal.",
        ) from None
    if not secret:
        raise OptionError("Nothing was entered, and nothing is kept.", option="login")
    if not secret.isprintable() or (not secret.isascii() and not asked.username):
        raise OptionError("What was entered has characters that no key has; nothing is kept.", option="login")
    if asked.username:
        return Credential(username=asked.username, password=secret, origin=_LOGIN)
    return Credential(key=secret, origin=_LOGIN)


def _is_accepted(endpoint: Endpoint, kept: Mapping[str, str]) -> bool:
    try:
        _checked(endpoint, Credential(**kept, origin=_LOGIN))
    except UnauthorizedError:
        return False
    return True


def _checked(endpoint: Endpoint, credential: Credential) -> str:
    """What the server says to a credential, as a sentence that follows another one. Raises UnauthorizedError for a 401."""
    with Client(replace(endpoint, credential=credential)) as client:
        try:
            client.nodes()
        except UnauthorizedError as problem:
            if problem.status == 401:
                raise
            return f" The server knows it, and says: {problem.message}"
        except ApiError as problem:
            return f" It could not be tried: {problem.message}"
    return " The server accepts it."


def _stronger(session: Session) -> list[str]:
    endpoint = session.settings.endpoint
    origin = endpoint.credential.origin if endpoint else ""
    return [f"It is not used as long as {origin} is set, which is stronger."] if origin and origin != _LOGIN else []


def _forget(session: Session, endpoint: Endpoint) -> Text:
    there = _trust.forget_credential(endpoint.url)
    session.forget_settings()
    return Text(f"The credential for {endpoint.url} is forgotten." if there else f"No credential is kept for {endpoint.url}.")
