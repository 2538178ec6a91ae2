"""Settings: sources and their order, endpoint and credential, trust, policy, saving."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from bacalhau_magic import _argspec as argspec
from bacalhau_magic._marks import LOCAL_KEY_PREFIX
from bacalhau_magic._settings import Settings, load, save
from bacalhau_magic._trust import is_trusted, keep_credential, trust
from bacalhau_magic.errors import ConfigError, OptionError
from bacalhau_magic.options import JobOptions, option_of

SECRET = "hunter2-secret"


class Place:
    """A folder with a project, a user's files and a CLI's files, and what they give."""

    def __init__(self, root: Path) -> None:
        self.folder, self.user, self.cli = root / "project" / "notebooks", root / "user", root / "cli"
        self.project_file, self.policy = root / "project" / "pyproject.toml", root / "policy.toml"
        for folder in (self.folder, self.user, self.cli / "profiles"):
            folder.mkdir(parents=True)
        self.profile("work", "http://work.example:1234")

    def project(self, text: str) -> None:
        self.project_file.write_text(f"[project]\nname = 'x'\n[tool.bacalhau-magic]\n{text}\n")

    def user_file(self, text: str) -> None:
        (self.user / "config.toml").write_text(text)

    def profile(self, name: str, endpoint: str, token: str = "") -> None:
        (self.cli / "profiles" / f"{name}.yaml").write_text(f"endpoint: {endpoint}\n" + (f"auth:\n  token: {token}\n" if token else ""))

    def load(self, config: dict[str, object] | None = None, **environment: str) -> Settings:
        return load(environment=environment, folder=self.folder, overrides=config, user=self.user, cli=self.cli, system_policy=self.policy)

    def problem(self, config: dict[str, object] | None = None, **environment: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.load(config, **environment)
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_nothing_set(place: Place) -> None:
    """Without any source everything is built in and no endpoint is known."""
    settings = place.load()
    assert (settings.options, settings.endpoint, settings.warnings, settings.enabled, settings.prefer) == ({}, None, (), True, "auto")
    assert (settings.poll_interval, settings.pull_timeout, settings.receipt) == (5.0, 1800.0, "live")
    assert {origin for _, _, origin in settings.show()} == {"built-in"}


def test_order_of_the_sources(place: Place) -> None:
    """%bacalhau config beats the environment, it the project, it the user's file; the origin says which."""
    place.user_file('cpu = 1.5\nmemory = "1GB"\ntimeout = "1m"\nprefer = "local"')
    place.project('cpu = 2\nmemory = "2GB"\ntimeout = "2m"')
    settings = place.load({"timeout": "4m"}, BACALHAU_MAGIC_TIMEOUT="3m", BACALHAU_MAGIC_MEMORY="3GB")
    assert settings.options == {"cpu": 2.0, "memory": 3 * 10**9, "timeout": 240.0}
    assert settings.prefer == "local"
    assert settings.origins["timeout"] == "%bacalhau config timeout"
    assert settings.origins["memory"] == "environment BACALHAU_MAGIC_MEMORY"
    assert settings.origins["cpu"] == f"{place.project_file} [tool.bacalhau-magic] cpu"
    assert settings.origins["prefer"] == f"{place.user / 'config.toml'} prefer"
    assert ("memory", "3GB", "environment BACALHAU_MAGIC_MEMORY") in settings.show()


def test_line_beats_everything(place: Place) -> None:
    """A cell's own option beats what is configured, and stays the only asked one."""
    options, notices = place.load({"cpu": "4", "memory": "1GB"}).apply(argspec.parse("--cpu 2"))
    assert (options.cpu, options.memory, options.asked, notices) == (2.0, 10**9, {"cpu"}, ())


VALUES = {
    "lang": ("bash", "bash"),
    "env": ("A=1 'B=x y'", {"A": "1", "B": "x y"}),
    "env_file": (".env", ".env"),
    "pip": ("numpy pandas==2.2", ("numpy pandas==2.2",)),
    "requirements": ("needs.txt", "needs.txt"),
    "sync": ("imports", "imports"),
    "max_result": ("5MB", 5_000_000),
    "publisher": ("s3://bucket/key", "s3://bucket/key"),
    "cpu": ("0.5", 0.5),
    "memory": ("1GiB", 2**30),
    "disk": ("1GB", 10**9),
    "gpu": ("A100:2", "A100:2"),
    "gpu_vendor": ("amd", "amd"),
    "constraints": ("region=eu,!spot", (("region", "=", ("eu",)), ("spot", "!", ()))),
    "priority": ("3", 3),
    "namespace": ("team", "team"),
    "labels": ("a=b, c=d", {"a": "b", "c": "d"}),
    "timeout": ("10m", 600.0),
    "queue_timeout": ("1h", 3600.0),
    "network": ("full", "full"),
    "domain": ("a.org,b.org", ("a.org", "b.org")),
    "runtime": ("local", "local"),
    "cache": ("true", True),
    "long": ("yes", True),
    "sandbox": ("true", True),
    "fallback": ("1", True),
    "raise_error": ("false", False),
    "on_interrupt": ("detach", "detach"),
    "progress": ("text", "text"),
    "logs": ("no", False),
    "quiet": ("on", True),
    "profile": ("work", "work"),
}


def _with_option(test: Callable[[str], bool]) -> set[str]:
    return {name for name in JobOptions.model_fields if option_of(name) and test(name)}


def test_table_has_every_configurable_option() -> None:
    """The table of this test names every option that configuration may set."""
    assert set(VALUES) == _with_option(lambda name: bool((o := option_of(name)) and o.configurable))


@pytest.mark.parametrize("name", VALUES)
def test_option_in_environment_and_config(place: Place, name: str) -> None:
    """Every configurable option can be set by its variable and by %bacalhau config, to the same value."""
    text, value = VALUES[name]
    assert place.load(None, **{f"BACALHAU_MAGIC_{name.upper()}": text}).options == {name: value}
    assert place.load({name.replace("_", "-"): text}).options == {name: value}


@pytest.mark.parametrize("name", sorted(_with_option(lambda name: bool((o := option_of(name)) and not o.configurable))))
def test_option_of_one_cell_can_not_be_configured(place: Place, name: str) -> None:
    """An option that belongs to one cell is refused from configuration, with what to do."""
    key = name.rstrip("_")
    assert "can't be configured" in place.problem({key: "x"}).message
    assert place.problem(None, **{f"BACALHAU_MAGIC_{key.upper()}": "x"}).hint


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("BACALHAU_ENABLED", "maybe", "expected true or false, not 'maybe'"),
        ("BACALHAU_API_URL", "host:1234", "expected an address such as https://host:1234"),
        ("BACALHAU_API_PORT", "99999", "expected a port"),
        ("BACALHAU_TIMEOUT", "soon", "expected a time with a unit"),
        ("BACALHAU_GPU_COUNT", "two", "expected a whole number"),
        ("BACALHAU_MAGIC_POLL_INTERVAL", "5", "expected a time with a unit"),
        ("BACALHAU_MAGIC_NETWORK", "open", "expected none, http or full, not 'open'"),
        ("BACALHAU_MAGIC_STRICT", "cpu,speed", "expected names of options, not 'speed'"),
        ("BACALHAU_MAGIC_RECEIPT", "x", "expected live or always or never"),
    ],
)
def test_malformed_variable(place: Place, variable: str, value: str, expected: str) -> None:
    """A malformed value names its variable, the value and what was expected."""
    error = place.problem(None, **{variable: value})
    assert error.message.startswith(f"environment {variable}: ")
    assert expected in error.message
    assert error.origin == f"environment {variable}"


def test_empty_variable_is_not_set(place: Place) -> None:
    """An empty variable counts as not set."""
    settings = place.load(None, BACALHAU_TIMEOUT="", BACALHAU_API_URL=" ", BACALHAU_MAGIC_CPU="", BACALHAU_ENABLED="")
    assert settings == place.load()


def test_unknown_names(place: Place) -> None:
    """A misspelt variable or key is a warning that names the nearest; in %bacalhau config it is an error."""
    place.project("timout = 5")
    warnings = place.load(None, BACALHAU_MAGIC_MEMROY="1GB", BACALHAU_MAGIC_POLICY="").warnings
    assert warnings[0] == "BACALHAU_MAGIC_MEMROY is not known. Did you mean BACALHAU_MAGIC_MEMORY?"
    assert warnings[1].endswith("timout is not known. Did you mean timeout?")
    place.project("")
    assert place.problem({"timout": "5s"}).hint == "Did you mean timeout?"


def test_timeout_is_milliseconds(place: Place) -> None:
    """BACALHAU_TIMEOUT is milliseconds or has a unit, and BACALHAU_MAGIC_TIMEOUT beats it."""
    assert place.load(None, BACALHAU_TIMEOUT="90000").options["timeout"] == 90.0
    assert place.load(None, BACALHAU_TIMEOUT="10m").options["timeout"] == 600.0
    assert place.load(None, BACALHAU_TIMEOUT="10m", BACALHAU_MAGIC_TIMEOUT="1m").options["timeout"] == 60.0


def test_default_gpus(place: Place) -> None:
    """BACALHAU_GPU_ENABLED turns default GPUs on, BACALHAU_GPU_COUNT says how many."""
    assert place.load(None, BACALHAU_GPU_COUNT="3").remote_gpu == ""
    assert place.load(None, BACALHAU_GPU_ENABLED="true").remote_gpu == "1"
    assert place.load(None, BACALHAU_GPU_ENABLED="true", BACALHAU_GPU_COUNT="3").remote_gpu == "3"


def test_other_variables(place: Place) -> None:
    """The rest of the documented variables arrive in their settings."""
    settings = place.load(
        None,
        BACALHAU_ENABLED="false",
        BACALHAU_PATH="/opt/bacalhau",
        BACALHAU_MAGIC_POLL_INTERVAL="2s",
        BACALHAU_MAGIC_STRICT="cpu, max-result",
    )
    assert (settings.enabled, settings.path, settings.poll_interval, settings.strict) == (
        False,
        "/opt/bacalhau",
        2.0,
        {"cpu", "max_result"},
    )


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"BACALHAU_API_URL": "https://h:9/"}, "https://h:9"),
        ({"BACALHAU_API_URL": "https://h/api/v1/"}, "https://h"),
        ({"BACALHAU_API_HOST": "h"}, "http://h:1234"),
        ({"BACALHAU_API_HOST": "h", "BACALHAU_API_PORT": "9"}, "http://h:9"),
        ({"BACALHAU_API_HOST": "h", "BACALHAU_API_TLS_USETLS": "true"}, "https://h:1234"),
        ({"BACALHAU_API_HOST": "https://h:7"}, "https://h:7"),
        ({"BACALHAU_API_HOST": "0.0.0.0"}, "http://127.0.0.1:1234"),
        ({"BACALHAU_API_HOST": "::1"}, "http://[::1]:1234"),
        ({"BACALHAU_API_PORT": "9"}, "http://127.0.0.1:9"),
        ({"BACALHAU_API_URL": "http://0.0.0.0:9"}, "http://127.0.0.1:9"),
        ({"BACALHAU_API_HOST": "a", "BACALHAU_MAGIC_API_HOST": "b"}, "http://b:1234"),
    ],
)
def test_endpoint_from_the_environment(place: Place, environment: dict[str, str], url: str) -> None:
    """URL, host and port make the endpoint as the Bacalhau CLI reads them."""
    endpoint = place.load(None, **environment).endpoint
    assert endpoint is not None
    assert endpoint.url == url


def test_url_beats_host_and_port(place: Place) -> None:
    """A URL beats host and port, and a disagreement is a warning."""
    settings = place.load(None, BACALHAU_API_URL="http://a:1", BACALHAU_API_HOST="b")
    assert settings.endpoint is not None
    assert settings.endpoint.url == "http://a:1"
    assert settings.warnings == ("environment BACALHAU_API_URL (http://a:1) is used; environment BACALHAU_API_HOST says otherwise.",)
    assert place.load(None, BACALHAU_API_URL="http://a:1", BACALHAU_API_HOST="a", BACALHAU_API_PORT="1").warnings == ()


def test_tls(place: Place) -> None:
    """The CA file and the insecure switch arrive at the endpoint."""
    endpoint = place.load(None, BACALHAU_API_URL="https://h", BACALHAU_API_TLS_CAFILE="/ca.pem", BACALHAU_API_TLS_INSECURE="1").endpoint
    assert endpoint is not None
    assert (endpoint.ca_file, endpoint.verify) == ("/ca.pem", False)


def test_credentials(place: Place) -> None:
    """A key or a user with a password goes with the endpoint; a mix or a half is an error without the secret in it."""
    url = {"BACALHAU_API_URL": "https://h"}
    with_key = place.load(None, **url, BACALHAU_API_KEY=SECRET)
    assert with_key.endpoint is not None
    assert with_key.endpoint.credential.key == SECRET
    basic = place.load(None, **url, BACALHAU_API_USERNAME="u", BACALHAU_API_PASSWORD=SECRET).endpoint
    assert basic is not None
    assert (basic.credential.username, basic.credential.password) == ("u", SECRET)
    for bad in (
        {"BACALHAU_API_KEY": SECRET, "BACALHAU_API_USERNAME": "u"},
        {"BACALHAU_API_USERNAME": "u"},
        {"BACALHAU_API_PASSWORD": SECRET},
    ):
        error = place.problem(None, **url, **bad)
        assert error.message.startswith("environment BACALHAU_API_")
        assert SECRET not in str(error)


def test_secrets_are_never_shown(place: Place) -> None:
    """Neither the repr nor the table of settings has a secret."""
    settings = place.load(None, BACALHAU_API_URL="https://h", BACALHAU_API_KEY=SECRET, BACALHAU_MAGIC_ENV=f"TOKEN={SECRET}")
    assert SECRET not in repr(settings.show())
    assert ("api_key", "••••", "environment BACALHAU_API_KEY") in settings.show()
    assert SECRET not in repr(settings)
    assert SECRET not in str(place.problem(None, BACALHAU_MAGIC_ENV=SECRET))
    assert SECRET not in str(place.problem(None, BACALHAU_API_URL=f"ftp://u:{SECRET}@h"))


def test_credential_over_plain_http_is_a_warning(place: Place) -> None:
    """A credential that would travel unencrypted is said."""
    assert "unencrypted" in place.load(None, BACALHAU_API_URL="http://h", BACALHAU_API_KEY=SECRET).warnings[0]
    assert place.load(None, BACALHAU_API_URL="http://localhost:1", BACALHAU_API_KEY=SECRET).warnings == ()


def test_key_of_the_local_node(place: Place) -> None:
    """A key with the embedded node's prefix routes as local."""
    settings = place.load(None, BACALHAU_API_URL="http://127.0.0.1:4711", BACALHAU_API_KEY=f"{LOCAL_KEY_PREFIX}abc")
    assert (settings.endpoint, settings.local_key) == (None, True)


def test_endpoint_of_a_project_needs_trust(place: Place) -> None:
    """A project's endpoint is used, and gets a credential, only after exactly this pair of file and URL was trusted."""
    place.project('api_url = "https://odd.example"')
    settings = place.load(None, BACALHAU_API_KEY=SECRET)
    assert (settings.endpoint, settings.untrusted_url, settings.project_file) == (None, "https://odd.example", place.project_file)
    trust(place.project_file, settings.untrusted_url, user=place.user)
    endpoint = place.load(None, BACALHAU_API_KEY=SECRET).endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.credential.key) == ("https://odd.example", SECRET)
    place.project('api_url = "https://odder.example"')
    assert place.load(None, BACALHAU_API_KEY=SECRET).untrusted_url == "https://odder.example"
    assert not is_trusted(place.user / "pyproject.toml", "https://odd.example", user=place.user)


def test_untrusted_endpoint_gives_way_to_the_users(place: Place) -> None:
    """Where the user's file names an endpoint too, that one is used and the project's is said to be left out."""
    place.project('api_host = "odd.example"')
    place.user_file('api_url = "https://mine.example"')
    settings = place.load()
    assert settings.endpoint is not None
    assert (settings.endpoint.url, settings.untrusted_url) == ("https://mine.example", "")
    assert "http://odd.example:1234 is not used" in settings.warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        f'api_key = "{SECRET}"',
        f'api-password = "{SECRET}"',
        'api_username = "u"',
        'path = "/tmp/evil"',
        "api_tls_insecure = true",
        'api_tls_cafile = "x"',
        'publisher = "s3://theirs/key"',
        'publisher = "S3://theirs/key"',
        'publisher = " s3://theirs/key "',
        'env_file = "../../.aws/credentials"',
        'env_file = "/etc/passwd"',
    ],
)
def test_what_a_project_may_not_set(place: Place, text: str) -> None:
    """A project's pyproject.toml that sets what it may not is refused, naming key and file."""
    place.project(text)
    error = place.problem()
    assert str(place.project_file) in error.message
    assert text.partition(" ")[0] in error.message
    assert SECRET not in str(error)


def test_kept_credential_goes_to_its_endpoint_only(place: Place) -> None:
    """A credential kept by login goes to its own endpoint, no other, and its file is the user's alone."""
    file = keep_credential("https://h:1234", key=SECRET, user=place.user)
    mine, other = place.load(None, BACALHAU_API_URL="https://h:1234").endpoint, place.load(None, BACALHAU_API_URL="https://h:99").endpoint
    assert mine is not None
    assert other is not None
    assert (mine.credential.key, bool(other.credential)) == (SECRET, False)
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_bacalhau_cli(place: Place) -> None:
    """The CLI's config.yaml names an endpoint unless it has the stock address; its token goes to its own URL."""
    config = place.cli / "config.yaml"
    config.write_text("API:\n  Host: 0.0.0.0\n  Port: 1234\n")
    assert place.load().endpoint is None
    config.write_text("API:\n  Host: cli.example\n  TLS:\n    UseTLS: true\n    Insecure: true\n")
    (place.cli / "tokens.json").write_text(f'{{"https://cli.example:1234": "{SECRET}"}}')
    endpoint = place.load().endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.verify, endpoint.credential.key) == ("https://cli.example:1234", False, SECRET)
    other = place.load(None, BACALHAU_API_URL="https://other.example").endpoint
    assert other is not None
    assert (other.verify, bool(other.credential)) == (True, False)
    config.write_text("API: [")
    assert "can't be read" in place.load().warnings[0]


def test_bacalhau_cli_profile(place: Place) -> None:
    """A CLI profile names an endpoint and its token; BACALHAU_PROFILE chooses it."""
    (place.cli / "profiles" / "work.yaml").write_text(f"endpoint: https://work.example:443\nauth:\n  token: {SECRET}\n")
    assert place.load().endpoint is None
    endpoint = place.load(None, BACALHAU_PROFILE="work").endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.origin, endpoint.credential.key) == ("https://work.example:443", "Bacalhau CLI profile work", SECRET)


def test_languages(place: Place) -> None:
    """Languages of user and project add up, and one that lacks something is refused with its file."""
    place.user_file('[languages.r]\nimage = "r-base"\ncommand = "Rscript"\nfile = "cell.R"')
    place.project('languages.python = { image = "me/python" }')
    languages = place.load().languages
    assert (languages["r"].command, languages["python"].image, "bash" in languages) == (("Rscript",), "me/python", True)
    place.project('languages.go = { image = "golang" }')
    assert place.problem().message == f"{place.project_file} [tool.bacalhau-magic] languages: languages.go lacks command."
    place.project('lang = "cobol"')
    assert "no language 'cobol'" in place.problem().message


def test_policy_limits(place: Place) -> None:
    """A policy's limit refuses what is asked above it, cuts what is configured, which it says, and silently what is built in."""
    place.policy.write_text('message = "Ask ops@example.org."\n[max]\ntimeout = "1m"\ncpu = 2\ngpu = 1\nqueue_timeout = "1h"\n')
    settings = place.load({"cpu": "8"})
    options, notices = settings.apply(argspec.parse(""))
    assert (options.timeout, options.cpu) == (60.0, 2.0)
    assert notices == (f"cpu is cut from 8 to 2 by the policy {place.policy}. Ask ops@example.org.",)
    assert place.load({"timeout": "10m"}).apply(argspec.parse(""))[1][0].startswith("timeout is cut from 10m to 1m")
    for line, option in (("--timeout 2m", "timeout"), ("--long", "long"), ("--gpu A100:2", "gpu"), ("--cpu 3", "cpu")):
        with pytest.raises(OptionError, match="above the policy's limit") as caught:
            settings.apply(argspec.parse(line))
        assert caught.value.option == option
    background, said = settings.apply(argspec.parse("--bg"))
    assert background.queue_seconds == 3600
    assert any(notice.startswith("queue_timeout is cut") for notice in said)
    assert settings.apply(argspec.parse("--long --timeout 30s"))[0].run_seconds == 30


def test_policy_locks(place: Place) -> None:
    """A locked value beats every source, and asking for another is refused."""
    place.policy.write_text('message = "No network here."\n[locked]\nnetwork = "none"\nprefer = "local"\n')
    settings = place.load({"network": "full", "prefer": "auto"})
    assert (settings.options["network"], settings.prefer, settings.origins["network"]) == ("none", "local", f"policy {place.policy}")
    assert settings.strict == {"network"}
    assert settings.apply(argspec.parse("--network none"))[0].network == "none"
    with pytest.raises(OptionError, match=r"locked to none by the policy .* No network here"):
        settings.apply(argspec.parse("--network full"))


def test_second_policy_only_tightens(place: Place, tmp_path: Path) -> None:
    """The policy of BACALHAU_MAGIC_POLICY can lower the system's limits, not raise them or unlock."""
    place.policy.write_text('[max]\ncpu = 4\nmemory = "8GB"\n[locked]\nnetwork = "none"\n')
    own = tmp_path / "own.toml"
    own.write_text('[max]\ncpu = 8\nmemory = "1GB"\n[locked]\nnetwork = "full"\n')
    settings = place.load(None, BACALHAU_MAGIC_POLICY=str(own))
    assert settings.policy.max == {"cpu": 4.0, "memory": 10**9}
    assert settings.options["network"] == "none"


@pytest.mark.parametrize("text", ["[max]\nname = 1", "[max]\ncpuu = 1", "limits = 3", "max = 3", "[locked]\napi_key = 'x'", "= broken"])
def test_bad_policy_is_never_skipped(place: Place, text: str) -> None:
    """A policy that can't be read is an error that names the file."""
    place.policy.write_text(text)
    assert str(place.policy) in place.problem().message
    assert "can't be read" in place_without(place).problem(None, BACALHAU_MAGIC_POLICY="/nowhere/policy.toml").message


def place_without(place: Place) -> Place:
    place.policy.unlink()
    return place


def test_save_keeps_the_file(place: Place) -> None:
    """Saving changes one key and keeps comments, order and other tables."""
    place.project_file.write_text("# head\n[tool.other]\na = 1\n\n[tool.bacalhau-magic]  # ours\ncpu = 1  # one\n")
    assert save("cpu", "2", "project", folder=place.folder) == place.project_file
    save("poll-interval", "2s", "project", folder=place.folder)
    save("strict", "cpu,memory", "project", folder=place.folder)
    text = place.project_file.read_text()
    assert text.startswith("# head\n[tool.other]\na = 1\n\n[tool.bacalhau-magic]  # ours\n")
    settings = place.load()
    assert (settings.options, settings.poll_interval, settings.strict) == ({"cpu": 2.0}, 2.0, {"cpu", "memory"})


@pytest.mark.parametrize("name", VALUES)
def test_saved_option_is_read_back(place: Place, name: str) -> None:
    """What --save writes into the user's file is read back as the same value."""
    text, value = VALUES[name]
    save(name, text, "user", folder=place.folder, user=place.user)
    assert place.load().options == {name: value}


def test_save_makes_the_table(place: Place) -> None:
    """A pyproject.toml without our table gets one; without the file saving is refused."""
    with pytest.raises(ConfigError, match=r"no pyproject\.toml"):
        save("cpu", "2", "project", folder=Path("/"))
    place.project_file.write_text("[project]\nname = 'x'\n")
    save("cpu", "2", "project", folder=place.folder)
    assert place.load().options == {"cpu": 2.0}
    assert place.project_file.read_text().startswith("[project]\nname = 'x'\n")


@pytest.mark.parametrize(
    ("key", "value", "where"), [("api_key", SECRET, "user"), ("path", "x", "project"), ("cpu", "many", "user"), ("cpuu", "1", "user")]
)
def test_save_refuses(place: Place, key: str, value: str, where: str) -> None:
    """A secret, what a project may not set, a bad value and an unknown name are not written."""
    place.project("")
    before = place.project_file.read_text()
    with pytest.raises(ConfigError) as caught:
        save(key, value, where, folder=place.folder, user=place.user)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)
    assert place.project_file.read_text() == before
    assert not (place.user / "config.toml").exists()


def test_a_staging_store(place: Place) -> None:
    """A store is a table or one text; a project's is used once exactly that store is trusted; credentials in it are refused."""
    place.project('staging.url = "s3://bucket/a"\nstaging.endpoint = "https://h:9000"\nstaging.keep = "2d"')
    settings = place.load()
    assert (settings.store, settings.untrusted_store) == (None, "s3://bucket/a at https://h:9000")
    assert settings.project_file is not None
    trust(settings.project_file, settings.project_store, user=place.user, what="staging")
    store = place.load().store
    assert store is not None
    assert (store.bucket, store.prefix, store.endpoint, store.keep) == ("bucket", "a", "https://h:9000", 2 * 86400.0)
    assert place.load({"staging": "s3://bucket/a?endpoint=https://h:9000&keep=2d"}).store == store
    place.project('staging = "s3://bucket/other"')
    assert place.load().store is None
    for wrong in (
        "s3://",
        "https://bucket",
        "s3://b/x?secret=1",
        "s3://key:secret@bucket/x",
        "s3://bucket?endpoint=https://u:p@h",
        "s3://bucket?keep=47h",
    ):
        with pytest.raises(ConfigError) as refused:
            place.load({"staging": wrong})
        assert "secret@" not in str(refused.value)
        assert "u:p" not in str(refused.value)
