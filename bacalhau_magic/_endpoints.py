"""Which endpoint the sources name, and which credential and TLS settings may go with it.

An address is taken from the strongest source that names one. A credential, a CA file or a switched-off verification
that stands beside another address in its source belongs to that address, and goes nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import _profiles
from ._profiles import Profile
from ._settingkeys import SETTINGS, read
from ._sources import Layer
from ._stages import Credential, Endpoint
from ._trust import is_trusted, kept_credential, origin_of
from .errors import ConfigError

__all__ = ["ADDRESS", "BESIDE", "STOCK_URL", "Found", "endpoint_at", "find"]

ADDRESS = ("api_url", "api_host", "api_port", "profile")
"""The settings that name an address."""

STOCK_URL = "http://127.0.0.1:1234"
"""Where the Bacalhau CLI asks when nothing is configured."""

_CREDENTIAL = ("api_key", "api_username", "api_password")
BESIDE = (*_CREDENTIAL, "api_tls_usetls", "api_tls_cafile", "api_tls_insecure")
"""The settings that belong to the address beside which they stand."""

_PORT = 1234


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoint in force, None without one; `project_url` is a project's own, `untrusted` where it is not trusted yet."""

    endpoint: Endpoint | None = None
    project_url: str = ""
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class _Address:
    """A URL, the setting that named it, and the layers whose words are in it."""

    url: str
    origin: str
    layers: tuple[Layer, ...]
    profile: Profile | None = field(default=None, repr=False)

    @property
    def is_projects(self) -> bool:
        return any(layer.kind == "project" and {"api_url", "api_host"} & set(layer.values) for layer in self.layers)


def find(layers: Sequence[Layer], *, user: Path, cli: Path, warnings: list[str]) -> Found:
    """The endpoint that the layers (strongest first) name, with what may go to it.

    `user` is the folder of this user's own files, `cli` the Bacalhau CLI's. Raises ConfigError.
    """
    project = next((layer.file for layer in layers if layer.kind == "project"), None)
    chosen, project_url, untrusted = None, "", False
    for position, layer in enumerate(layers):
        if chosen and layer.kind in ("user", "cli"):
            break  # The project's own address is known by now.
        address = _address(layers, position, cli, warnings if chosen is None else [])
        if address and address.is_projects:
            project_url = project_url or address.url
            if chosen is None and project and not is_trusted(project, address.url, user=user):
                untrusted = True
                continue
        chosen = chosen or address
    if chosen is None:
        return Found(None, project_url, untrusted)
    if untrusted and project_url != chosen.url:
        warnings.append(f"The project's endpoint {project_url} is not used: you have not trusted it (%bacalhau use --trust).")
    return Found(_endpoint(chosen, layers, user, cli, warnings), project_url)


def endpoint_at(url: str, layers: Sequence[Layer], *, user: Path, cli: Path) -> Endpoint:
    """The endpoint of a job that was sent to `url` earlier: with what stands beside exactly this address, or is kept for it."""
    beside = [layer for position, layer in enumerate(layers) if _names(layers, position, cli, url)]
    profile = next((found for found in _profiles.all_profiles(cli) if _same(_url_of(found), url)), None)
    address = _Address(url, profile.origin if profile else "the ledger", (), profile)
    return _made(address, beside, _credential(address, beside) or _kept(url, layers, user))


def _address(layers: Sequence[Layer], position: int, cli: Path, warnings: list[str]) -> _Address | None:
    layer = layers[position]
    url, host, port, profile = (_value(layer, name) for name in ADDRESS)
    secure = bool(_strongest([other for other in layers if other.kind != "cli" or layer.kind == "cli"], "api_tls_usetls"))
    found = None
    if url:
        found = _Address(url, layer.values["api_url"][1], (layer,))
        if host or port:
            _warn_of_others(found, _built(host or urlsplit(url).hostname or "", port or urlsplit(url).port, secure), layer, warnings)
    elif host:
        found = _Address(_built(host, port, secure), layer.values["api_host"][1], (layer,))
    elif port and not profile:
        # A port alone: with the host that a weaker layer names, else this machine's.
        weaker = next((other for other in layers[position + 1 :] if other.kind != "cli" and "api_host" in other.values), None)
        name = _value(weaker, "api_host") if weaker else "127.0.0.1"
        found = _Address(_built(name, port, secure), layer.values["api_port"][1], (layer, weaker) if weaker else (layer,))
    if profile and found:
        warnings.append(f"{found.origin} ({found.url}) is used; {layer.values['profile'][1]} ({profile}) is not.")
    elif profile:
        chosen = _profiles.named(cli, profile, layer.values["profile"][1])
        found = _Address(_url_of(chosen), chosen.origin, (), chosen)
    return found


def _warn_of_others(found: _Address, other: str, layer: Layer, warnings: list[str]) -> None:
    if not _same(other, found.url):
        named = " and ".join(layer.values[name][1] for name in ("api_host", "api_port") if name in layer.values)
        warnings.append(f"{found.origin} ({found.url}) is used; {named} says otherwise.")


def _endpoint(address: _Address, layers: Sequence[Layer], user: Path, cli: Path, warnings: list[str]) -> Endpoint:
    mine = [layer for position, layer in enumerate(layers) if _may_serve(address, layers, position, cli)]
    credential = _credential(address, mine) or _kept(address.url, layers, user)
    if not credential:
        warnings += [
            f"{layer.values[name][1]} belongs to another address of its source, and is not sent to {address.url}."
            for layer in layers
            if layer not in mine
            for name in _CREDENTIAL
            if name in layer.values
        ]
    return _made(address, mine, credential)


def _made(address: _Address, layers: Sequence[Layer], credential: Credential) -> Endpoint:
    insecure = address.profile.insecure if address.profile else False
    return Endpoint(
        address.url,
        credential=credential,
        ca_file=str(_strongest(layers, "api_tls_cafile") or ""),
        verify=not (insecure or _strongest(layers, "api_tls_insecure")),
        origin=address.origin,
    )


def _may_serve(address: _Address, layers: Sequence[Layer], position: int, cli: Path) -> bool:
    """Whether a layer's credential and TLS settings may be used for the address."""
    layer = layers[position]
    return layer in address.layers or _names(layers, position, cli, address.url, otherwise=layer.kind != "cli")


def _names(layers: Sequence[Layer], position: int, cli: Path, url: str, *, otherwise: bool = False) -> bool:
    """Whether a layer names the endpoint of `url`; `otherwise` for one that names none."""
    try:
        own = _address(layers, position, cli, [])
    except ConfigError:  # a profile that is not there: another address all the same
        return False
    return _same(own.url, url) if own else otherwise


def _credential(address: _Address, layers: Sequence[Layer]) -> Credential:
    """The credential that stands beside the address: its profile's, or the strongest of these layers'."""
    if address.profile and address.profile.token:
        return Credential(key=address.profile.token, origin=address.profile.origin)
    for layer in layers:
        key, name, password = (_value(layer, part) for part in _CREDENTIAL)
        if not (key or name or password):
            continue
        origin = next(layer.values[part][1] for part in _CREDENTIAL if part in layer.values)
        if key and (name or password):
            raise ConfigError(
                f"{origin}: a key and a user name are both set.", setting="api_key", origin=origin, hint="Set one of the two."
            )
        if not key and not (name and password):
            lacking = "password" if name else "user name"
            raise ConfigError(f"{origin}: the {lacking} is missing.", setting="api_username", origin=origin, hint="Both belong together.")
        return Credential(key=key or "", username=name or "", password=password or "", origin=origin)
    return Credential()


def _kept(url: str, layers: Sequence[Layer], user: Path) -> Credential:
    """The credential that `login` keeps for exactly this endpoint, else the CLI's for it."""
    kept = kept_credential(url, user=user)
    if kept:
        return Credential(**kept, origin="%bacalhau login")
    for layer in layers:
        for place, token in layer.tokens.items():
            if "://" in place and _same(place, url):
                return Credential(key=token, origin="the Bacalhau CLI's login")
    return Credential()


def _strongest(layers: Sequence[Layer], name: str) -> Any:
    for layer in layers:
        if name in layer.values:
            return _value(layer, name)
    return SETTINGS[name].default


def _value(layer: Layer, name: str) -> Any:
    if name not in layer.values:
        return None
    raw, origin = layer.values[name]
    return read(name, raw, origin)


def _built(host: str, port: int | None, secure: bool) -> str:
    """A URL of a host (which may be a URL itself) and a port; the address that servers listen on becomes this machine's."""
    if "://" not in host:
        bare = host.count(":") > 1 and not host.startswith("[")
        host = f"{'https' if secure else 'http'}://{f'[{host}]' if bare else host}"
    parts = urlsplit(read("api_url", host, "the endpoint's host"))
    name = parts.hostname or ""
    name = "127.0.0.1" if name in ("0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}:{parts.port or port or _PORT}{parts.path}"


def _url_of(profile: Profile) -> str:
    """A profile's endpoint as a URL; one that is written as a URL keeps its scheme's port."""
    if "://" in profile.endpoint:
        return str(read("api_url", profile.endpoint, profile.origin))
    return _built(profile.endpoint, None, secure=False)


def _same(one: str, other: str) -> bool:
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:  # a port that is none, in a file of the CLI
        return False
