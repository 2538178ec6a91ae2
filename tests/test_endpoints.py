"""Which endpoint is used, and which credential may go to it: a test per sentence of the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacalhau_magic._settings import Settings, endpoint_at, load, with_values
from bacalhau_magic._stages import Endpoint
from bacalhau_magic._trust import forget_credential, keep_credential, trust, untrust
from bacalhau_magic.errors import ConfigError

KEY, OTHER = "key-of-the-first", "key-of-the-second"


class Home:
    """A project's, a user's and a CLI's folder, and what settings they give."""

    def __init__(self, root: Path) -> None:
        self.project, self.user, self.cli = root / "project", root / "user", root / "cli"
        for folder in (self.project, self.user, self.cli / "profiles"):
            folder.mkdir(parents=True)

    @property
    def project_file(self) -> Path:
        return self.project / "pyproject.toml"

    def names(self, url: str) -> None:
        self.project_file.write_text(f'[tool.bacalhau-magic]\napi_url = "{url}"\n')

    def profile(self, name: str, text: str) -> None:
        (self.cli / "profiles" / f"{name}.yaml").write_text(text)

    def load(self, config: dict[str, object] | None = None, **environment: str) -> Settings:
        return load(
            environment=environment, folder=self.project, overrides=config, user=self.user, cli=self.cli, system_policy=self.user / "none"
        )

    def endpoint(self, config: dict[str, object] | None = None, **environment: str) -> Endpoint:
        found = self.load(config, **environment).endpoint
        assert found is not None
        return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# The rule: a credential goes to an endpoint that the user named


@pytest.mark.parametrize("where", ["config", "environment", "user file", "profile"])
def test_key_goes_to_an_endpoint_that_the_user_named(home: Home, where: str) -> None:
    """A key of the environment goes to an address of the session, the environment, the user's file or a CLI profile."""
    config: dict[str, object] = {"api_url": "https://mine.example"} if where == "config" else {}
    environment = {"BACALHAU_API_URL": "https://mine.example"} if where == "environment" else {}
    if where == "user file":
        (home.user / "config.toml").write_text('api_url = "https://mine.example"')
    if where == "profile":
        home.profile("mine", "endpoint: https://mine.example")
        environment = {"BACALHAU_PROFILE": "mine"}
    endpoint = home.endpoint(config, BACALHAU_API_KEY=KEY, **environment)
    assert (endpoint.url, endpoint.credential.key, endpoint.credential.origin) == (
        "https://mine.example",
        KEY,
        "environment BACALHAU_API_KEY",
    )


def test_key_never_goes_to_a_projects_endpoint_before_trust(home: Home) -> None:
    """Neither a key of the environment nor one kept for the very endpoint goes to a project's address until it is trusted."""
    home.names("https://odd.example")
    keep_credential("https://odd.example", key=OTHER, user=home.user)
    settings = home.load(BACALHAU_API_KEY=KEY)
    assert (settings.endpoint, settings.untrusted_url, settings.project_url) == (None, "https://odd.example", "https://odd.example")
    trust(home.project_file, settings.project_url, user=home.user)
    assert home.endpoint(BACALHAU_API_KEY=KEY).credential.key == KEY
    assert home.endpoint().credential.key == OTHER
    untrust(home.project_file, user=home.user)
    assert home.load(BACALHAU_API_KEY=KEY).endpoint is None


def test_trust_holds_for_this_pair_only(home: Home, tmp_path: Path) -> None:
    """A trusted pair is this file and this address: another address in it, or a copy of the file elsewhere, is not trusted."""
    home.names("https://odd.example")
    trust(home.project_file, "https://odd.example", user=home.user)
    home.names("https://odd.example:444")
    assert home.load().untrusted_url == "https://odd.example:444"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "pyproject.toml").write_text('[tool.bacalhau-magic]\napi_url = "https://odd.example"\n')
    assert load(environment={}, folder=copy, user=home.user, cli=home.cli, system_policy=home.user / "none").endpoint is None


def test_host_of_a_project_needs_trust_also_with_my_port(home: Home) -> None:
    """A port of the environment does not make a project's host the user's own."""
    home.project_file.write_text('[tool.bacalhau-magic]\napi_host = "odd.example"\n')
    settings = home.load(BACALHAU_API_PORT="9", BACALHAU_API_KEY=KEY)
    assert (settings.endpoint, settings.project_url) == (None, "http://odd.example:9")


def test_kept_key_goes_to_its_endpoint_only(home: Home) -> None:
    """A key that login kept goes to its scheme, host and port, to no other, and can be forgotten."""
    keep_credential("https://h.example:1234", key=KEY, user=home.user)
    assert home.endpoint(BACALHAU_API_URL="https://h.example:1234/prefix").credential.key == KEY
    for other in ("http://h.example:1234", "https://h.example", "https://h.example.org:1234"):
        assert not home.endpoint(BACALHAU_API_URL=other).credential
    assert forget_credential("https://h.example:1234", user=home.user)
    assert not forget_credential("https://h.example:1234", user=home.user)
    assert not home.endpoint(BACALHAU_API_URL="https://h.example:1234").credential


def test_key_beside_an_address_belongs_to_it(home: Home) -> None:
    """A key that stands beside an address in its source is not sent to another one, and that is said."""
    mine = {"BACALHAU_API_URL": "https://first.example", "BACALHAU_API_KEY": KEY}
    assert home.endpoint(**mine).credential.key == KEY
    settings = home.load({"api_url": "https://second.example"}, **mine)
    assert settings.endpoint is not None
    assert not settings.endpoint.credential
    assert (
        "environment BACALHAU_API_KEY belongs to another address of its source, and is not sent to https://second.example."
        in settings.warnings
    )
    assert home.endpoint({"api_url": "https://first.example/"}, **mine).credential.key == KEY


def test_switched_off_verification_belongs_to_its_address(home: Home) -> None:
    """TLS settings beside one address don't weaken another one."""
    mine = {"BACALHAU_API_URL": "https://first.example", "BACALHAU_API_TLS_INSECURE": "1", "BACALHAU_API_TLS_CAFILE": "/ca.pem"}
    assert home.endpoint(**mine).verify is False
    other = home.endpoint({"api_url": "https://second.example"}, **mine)
    assert (other.verify, other.ca_file) == (True, "")
    assert home.endpoint({"api_url": "https://second.example"}, BACALHAU_API_TLS_INSECURE="1").verify is False


def test_keys_of_the_cli_go_to_their_urls(home: Home) -> None:
    """The CLI's tokens go to their own URLs, written with or without the scheme's port."""
    (home.cli / "tokens.json").write_text(f'{{"https://h.example:443": "{KEY}", "nonsense": "x", "https://[": "y"}}')
    endpoint = home.endpoint(BACALHAU_API_URL="https://h.example")
    assert (endpoint.credential.key, endpoint.credential.origin) == (KEY, "the Bacalhau CLI's login")
    assert not home.endpoint(BACALHAU_API_URL="https://h.example:1234").credential


def test_job_of_an_earlier_address(home: Home) -> None:
    """A job that was sent to another address is asked with what stands beside exactly that one, and never with a bare key."""
    home.profile("work", f"endpoint: https://work.example\nauth: {{token: {OTHER}}}\ntls: {{insecure: true}}\n")
    first = {"BACALHAU_API_URL": "https://first.example", "BACALHAU_API_KEY": KEY, "BACALHAU_API_TLS_CAFILE": "/ca.pem"}

    def at(url: str, **environment: str) -> Endpoint:
        return endpoint_at(url, environment=environment, folder=home.project, overrides={"profile": "work"}, user=home.user, cli=home.cli)

    assert (at("https://first.example", **first).credential.key, at("https://first.example", **first).ca_file) == (KEY, "/ca.pem")
    assert (at("https://work.example", **first).credential.key, at("https://work.example", **first).verify) == (OTHER, False)
    assert not at("https://third.example", **first).credential
    assert not at("https://first.example", BACALHAU_API_KEY=KEY).credential


def test_new_address_of_a_session_leaves_the_old_key(home: Home) -> None:
    """A key that the session set beside an address does not go on to the session's next address."""
    values = with_values({}, {"api_key": KEY})
    values = with_values(values, {"api_url": "https://first.example"})
    assert home.endpoint(dict(values)).credential.key == KEY
    values = with_values(values, {"api_url": "https://second.example"})
    assert not home.endpoint(dict(values)).credential
    values = with_values(values, {"api_host": "third.example", "api_key": OTHER})
    assert values == {"api_host": "third.example", "api_key": OTHER}
    assert with_values(values, {"api_port": "9"}) == {"api_host": "third.example", "api_port": "9"}


# Profiles


def test_profile(home: Home) -> None:
    """A named profile beats the environment's address, with its own key and its own TLS setting."""
    home.profile("work", f"endpoint: https://work.example:8443\nauth:\n  token: {OTHER}\ntls:\n  insecure: true\n")
    environment = {"BACALHAU_API_URL": "https://first.example", "BACALHAU_API_KEY": KEY}
    endpoint = home.endpoint({"profile": "work"}, **environment)
    assert (endpoint.url, endpoint.credential.key, endpoint.verify, endpoint.origin) == (
        "https://work.example:8443",
        OTHER,
        False,
        "Bacalhau CLI profile work",
    )
    home.profile("bare", "endpoint: work.example")
    bare = home.endpoint({"profile": "bare"}, **environment)
    assert (bare.url, bool(bare.credential)) == ("http://work.example:1234", False)
    assert home.endpoint(None, BACALHAU_MAGIC_PROFILE="work").credential.key == OTHER


@pytest.mark.parametrize("name", ["nowhere", "../work", "broken", "empty"])
def test_profile_that_is_not_there(home: Home, name: str) -> None:
    """A profile that is missing or broken is an error that says which there are, or what is wrong."""
    home.profile("work", "endpoint: https://work.example")
    home.profile("broken", "endpoint: [")
    home.profile("empty", "description: nothing")
    with pytest.raises(ConfigError, match="rofile") as caught:
        home.load({"profile": name})
    assert caught.value.setting == "profile"
    assert ("work" in caught.value.hint) is (name in ("nowhere", "../work"))


def test_project_may_not_choose_a_profile(home: Home) -> None:
    """A project's pyproject.toml can't send cells to another of the user's clusters."""
    home.profile("work", "endpoint: https://work.example")
    home.project_file.write_text('[tool.bacalhau-magic]\nprofile = "work"\n')
    with pytest.raises(ConfigError, match="may not choose"):
        home.load()


def test_current_profile_of_the_cli(home: Home) -> None:
    """The CLI's current profile is the weakest source; BACALHAU_PROFILE that names none is a warning, and not another one."""
    home.profile("work", f"endpoint: https://work.example\nauth: {{token: {KEY}}}\n")
    (home.cli / "profiles" / "current").symlink_to("work.yaml")
    endpoint = home.endpoint()
    assert (endpoint.url, endpoint.origin, endpoint.credential.key) == ("https://work.example", "Bacalhau CLI profile work", KEY)
    assert home.endpoint(BACALHAU_API_URL="https://mine.example").url == "https://mine.example"
    settings = home.load(BACALHAU_PROFILE="wrok")
    assert (settings.endpoint, "no profile 'wrok'" in settings.warnings[0]) == (None, True)


# What is said


def test_risks_are_said(home: Home) -> None:
    """An unverified certificate and a key over plain http to another machine are said; on this machine nothing is."""
    insecure = home.load(BACALHAU_API_URL="https://h.example", BACALHAU_API_TLS_INSECURE="true")
    assert insecure.warnings[0].startswith("THE CERTIFICATE IS NOT VERIFIED at https://h.example")
    plain = home.load(BACALHAU_API_URL="http://h.example", BACALHAU_API_KEY=KEY)
    assert "travels unencrypted" in plain.warnings[0]
    assert home.load(BACALHAU_API_URL="http://127.0.0.1:9", BACALHAU_API_KEY=KEY).warnings == ()
    assert KEY not in repr(plain)
