"""The configuration: where values come from, and what is said about wrong ones."""

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from rookery.core.settings import BIFROMQ, DEFAULT
from rookery.server.address import Address
from rookery.server.config import Config, default_shard_count
from rookery.server.config_fields import KeyPath
from rookery.server.config_sources import ConfigError, ConfigUnreadable, LoadedConfig, load_config

BIND: KeyPath = ("mqtt", "bind")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rookery.toml"


def load(text: str, file: Path, environment: dict[str, str] | None = None, **flags: object) -> LoadedConfig:
    """The configuration of a file with this text; flags by path with _ between section and key: mqtt_bind."""
    file.write_text(text, encoding="utf-8")
    paths: dict[KeyPath, object] = {(*name.split("_", 1),): value for name, value in flags.items()}
    return load_config(file, paths, {path: f"--{path[0]}" for path in paths}, environment or {})


def problems_of(text: str, file: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(text, file, environment)
    return [str(problem) for problem in raised.value.problems]


def test_defaults_listen_on_the_loopback_address_at_the_usual_ports() -> None:
    config = Config()
    assert (str(config.mqtt.bind), str(config.api.bind)) == ("127.0.0.1:1883", "127.0.0.1:8091")
    assert config.data.is_memory
    assert config.authentication.chain == ("development",)
    assert config.settings == DEFAULT


def test_constructed_config_does_not_read_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOKERY_MQTT__BIND", "127.0.0.1:7")
    assert Config().mqtt.bind.port == 1883


def test_flag_stands_above_environment_above_file_above_default(file: Path) -> None:
    text = '[mqtt]\nbind = "127.0.0.1:1"\nbacklog = 11\n[api]\nbind = "127.0.0.1:1"\n[log]\nlevel = "error"\n'
    environment = {"ROOKERY_MQTT__BIND": "127.0.0.1:2", "ROOKERY_API__BIND": "127.0.0.1:2"}
    loaded = load(text, file, environment, mqtt_bind="127.0.0.1:3")
    config = loaded.config
    assert (config.mqtt.bind.port, config.api.bind.port, config.mqtt.backlog) == (3, 2, 11)
    assert (config.log.level, config.log.format) == ("error", "auto")
    assert loaded.origins == {
        BIND: "flag --mqtt",
        ("mqtt", "backlog"): f"file {file}",
        ("api", "bind"): "environment ROOKERY_API__BIND",
        ("log", "level"): f"file {file}",
    }


@pytest.mark.parametrize("name", ["ROOKERY_MQTT__BIND", "rookery_mqtt__bind", "ROOKERY_mqtt__Bind"])
def test_environment_names_are_read_in_any_letter_case(name: str) -> None:
    assert load_config(environment={name: "127.0.0.1:9"}).config.mqtt.bind.port == 9


def test_environment_sets_settings_of_all_tenants_and_of_one() -> None:
    environment = {
        "ROOKERY_SETTINGS__MAXTOPICLEVELS": "8",
        "ROOKERY_SETTINGS__PROFILE": "bifromq",
        "ROOKERY_TENANTS__Acme__SETTINGS__MAXIMUMQOS": "1",
    }
    config = load_config(environment=environment).config
    assert config.settings.max_topic_levels == 8
    assert config.settings.session_inbox_size == BIFROMQ.session_inbox_size
    assert config.settings_of("Acme").maximum_qos == 1
    assert config.settings_of("acme").maximum_qos == 2


def test_environment_overrides_one_setting_of_the_file_and_leaves_the_others(file: Path) -> None:
    loaded = load("[settings]\nMaxTopicLevels = 9\nMaximumQoS = 1\n", file, {"ROOKERY_SETTINGS__MAXTOPICLEVELS": "8"})
    assert (loaded.config.settings.max_topic_levels, loaded.config.settings.maximum_qos) == (8, 1)


def test_settings_of_a_tenant_stand_on_those_of_all(file: Path) -> None:
    config = load("[settings]\nMaximumQoS = 1\n[tenants.acme.settings]\nMaxTopicLevels = 9\n", file).config
    assert (config.settings_of("acme").maximum_qos, config.settings_of("acme").max_topic_levels) == (1, 9)
    assert config.settings_of("other") == config.settings


def test_variables_of_other_tools_with_our_prefix_are_left_alone() -> None:
    environment = {"ROOKERY_MODULES": "core", "ROOKERY_TEST_BROKER": "x", "OTHER__THING": "y"}
    assert load_config(environment=environment).origins == {}


def test_insecure_can_be_set_by_the_environment() -> None:
    assert load_config(environment={"ROOKERY_INSECURE": "true", "ROOKERY_MQTT__BIND": "0.0.0.0:0"}).config.insecure


# Which file.


def test_file_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rookery.toml").write_text("[mqtt]\nbacklog = 5\n", encoding="utf-8")
    loaded = load_config(environment={})
    assert (loaded.file, loaded.config.mqtt.backlog) == (Path("rookery.toml"), 5)


def test_file_is_named_by_the_environment(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.toml"
    other.write_text("[mqtt]\nbacklog = 5\n", encoding="utf-8")
    file.write_text("[mqtt]\nbacklog = 6\n", encoding="utf-8")
    assert load_config(environment={"ROOKERY_CONFIG": str(other)}).config.mqtt.backlog == 5


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.toml", "No such file or directory"), (".", "Is a directory")], ids=str
)
def test_file_that_cannot_be_read_is_named_with_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigUnreadable) as raised:
        load_config(tmp_path / name, environment={})
    assert [str(problem) for problem in raised.value.problems] == [f"{tmp_path / name}: {reason}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mqtt]\nbind = \n", "2: Invalid value"),
        ("[mqtt]\n\n\nbind 5\n", "4: Expected '=' after a key in a key/value pair"),
        ("[mqtt]\n[mqtt]\n", "2: Cannot declare ('mqtt',) twice"),
        ('[mqtt]\nbind = "', "Unterminated"),
    ],
)
def test_file_that_is_no_toml_is_named_with_its_line(text: str, message: str, file: Path) -> None:
    (problem,) = problems_of(text, file)
    assert problem.startswith(f"{file}:")
    assert message in problem


def test_file_that_is_not_utf_8_is_named_with_its_line(file: Path) -> None:
    file.write_bytes(b"[mqtt]\n# fine\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"rookery\.toml:3: not UTF-8"):
        load_config(file, environment={})


# What is said about wrong values.


def test_all_problems_are_reported_at_once_each_with_path_and_origin(file: Path) -> None:
    text = """
        surprise = 1
        [mqtt]
        bnid = "127.0.0.1:1"
        [shards]
        count = 0
        [settings]
        MaxTopicLevels = 0
        [tenants.acme.settings]
        MaximumQoS = 7
        [tenants.acme]
        settigns = 1
    """
    origin = f"(file {file})"
    problems = problems_of(text, file, {"ROOKERY_API__BIND": "nowhere", "ROOKERY_LGO__LEVEL": "info"})
    assert sorted(problems) == sorted(
        [
            "lgo: unknown section; did you mean log? (environment ROOKERY_LGO__LEVEL)",
            "api.bind: expected HOST:PORT, got 'nowhere' (environment ROOKERY_API__BIND)",
            f"surprise: unknown key {origin}",
            f"mqtt.bnid: unknown key; did you mean bind? {origin}",
            f"shards.count: Input should be greater than or equal to 1 {origin}",
            f"settings.MaxTopicLevels: 0 is out of range; valid is 1 to 2147483647 {origin}",
            f"tenants.acme.settings.MaximumQoS: 7 is out of range; valid is 0 to 2 {origin}",
            f"tenants.acme.settigns: unknown key; did you mean settings? {origin}",
        ]
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mqtt = 1", "mqtt: Input should be a valid dictionary"),
        ("[mqtt.bind]", "mqtt.bind: expected HOST:PORT, got {}"),
        ("[mqtt]\nbind = 1883", "mqtt.bind: expected HOST:PORT, got 1883"),
        ('[log]\nlevel = "loud"', "log.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("settings = 1", "settings: expected a table of settings"),
        ('[settings]\nprofile = "mosquitto"', "settings.profile: expected one of default, bifromq, got 'mosquitto'"),
        ("[settings]\nprofile = []", "settings.profile: expected one of default, bifromq, got []"),
        ("[tenants]\nacme = 1", "tenants.acme: Input should be a valid dictionary"),
        ('[data]\ndir = ""', "data.dir: String should have at least 1 character"),
        (
            '[authentication]\nchain = ["none"]',
            "authentication.chain: expected development, password-file, ",
        ),
        ("[authentication]\nchain = []", "authentication.chain: is empty"),
        ('[authentication]\nchain = ["plugin:x"]', "authentication.chain: there is no section [plugins.x]"),
        ('[authentication]\nchain = ["password-file"]', "authentication.password_file: has to name the file"),
        ('[authentication]\nchain = ["development", "plugin:x"]\n[plugins.x]\nuse = "a:b"', "authentication.chain: d"),
        ("[api]\nrequest_timeout_s = nan", "api.request_timeout_s: "),
        (
            "[settings]\nMinSessionExpirySeconds = 90\n[tenants.a.settings]\nMaxSessionExpirySeconds = 80\n"
            "MinSessionExpirySeconds = 81",
            "tenants.a.settings.MinSessionExpirySeconds: 81 exceeds MaxSessionExpirySeconds, which is 80",
        ),
    ],
)
def test_wrong_value_is_named_by_its_path(text: str, problem: str, file: Path) -> None:
    (message,) = problems_of(text, file)
    assert message.startswith(problem)


def test_value_under_a_wrong_key_is_not_echoed(file: Path) -> None:
    for text in ('[mqtt]\npassword = "hunter2"', '[shards]\ncount = "hunter2"', '[log]\nlevel = "hunter2"'):
        assert "hunter2" not in "".join(problems_of(text, file))


def test_mqtt_may_be_open_where_clients_are_asked_and_the_api_may_not(file: Path) -> None:
    text = '[authentication]\nchain = ["password-file"]\npassword_file = "users"\n'
    assert not load(f'{text}[mqtt]\nbind = "0.0.0.0:0"', file).config.mqtt.bind.is_loopback
    (problem,) = problems_of(f'{text}[api]\nbind = "0.0.0.0:0"', file)
    assert problem.startswith("api.bind: 0.0.0.0:0 is open to other machines and the HTTP API asks nobody")


def test_chain_in_the_environment_has_commas(file: Path) -> None:
    environment = {"ROOKERY_AUTHENTICATION__CHAIN": "password-file, development"}
    chosen = load("[authentication]\npassword_file = 'users'", file, environment).config.authentication
    assert chosen.chain == ("password-file", "development")


@pytest.mark.parametrize("section", ["mqtt", "api"])
@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.168.1.1:1883", "broker.example.com:1883"])
def test_open_address_without_authentication_is_refused_unless_insecure(section: str, bind: str, file: Path) -> None:
    text = f'[{section}]\nbind = "{bind}"\n'
    (problem,) = problems_of(text, file)
    assert problem.startswith(f"{section}.bind: {bind} is open to other machines")
    assert "--insecure" in problem
    assert load(f"insecure = true\n{text}", file).config.insecure


def test_embedded_broker_is_held_to_the_same_rule() -> None:
    with pytest.raises(ValidationError, match="open to other machines"):
        Config.model_validate({"mqtt": {"bind": "0.0.0.0:0"}})


def test_data_directory_that_is_a_file_is_refused(file: Path) -> None:
    (problem,) = problems_of(f'[data]\ndir = "{file}"', file)
    assert problem.startswith(f"data.dir: {file} is not a directory")


# Printing.


def test_print_shows_each_value_with_its_origin_and_can_be_read_again(file: Path) -> None:
    text = '[settings]\nprofile = "bifromq"\nMaximumQoS = 1\n[tenants."a b".settings]\nMaxTopicLevels = 3\n'
    loaded = load(text, file, {"ROOKERY_MQTT__BIND": "127.0.0.1:9"}, log_level="debug")
    printed = loaded.print()
    for line in (
        'bind = "127.0.0.1:9"  # environment ROOKERY_MQTT__BIND',
        'bind = "127.0.0.1:8091"  # default',
        'level = "debug"  # flag --log',
        f"MaximumQoS = 1  # file {file}",
        f"SessionInboxSize = 1000  # profile of file {file}",
        '[tenants."a b".settings]',
        f"MaxTopicLevels = 3  # file {file}",
    ):
        assert line in printed.splitlines()
    again = file.with_name("again.toml")
    again.write_text(printed, encoding="utf-8")
    assert load_config(again, environment={}).config.model_dump() == loaded.config.model_dump()
    assert tomllib.loads(printed)["settings"]["MaximumQoS"] == 1


# Shards.


@pytest.mark.parametrize(("cpu_count", "shard_count"), [(1, 1), (2, 1), (3, 2), (4, 3), (64, 63)])
def test_shards_leave_a_core_to_the_kernel_and_the_control_plane(cpu_count: int, shard_count: int) -> None:
    assert default_shard_count(cpu_count) == shard_count


def test_shard_count_follows_the_cpus_that_this_process_may_use() -> None:
    assert Config().shards.count == default_shard_count(len(os.sched_getaffinity(0)))


def test_address_objects_are_taken_as_they_are() -> None:
    assert Config.model_validate({"mqtt": {"bind": Address("::1", 5)}}).mqtt.bind == Address("::1", 5)


CREDENTIAL = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${0}:{0}".format("A" * 43 + "=")


def test_scram_users_are_read_with_their_letter_case_and_never_shown(file: Path) -> None:
    file.write_text(f'[scram]\n"acme/Bob" = "{CREDENTIAL}"\n')
    loaded = load_config(file, environment={"ROOKERY_SCRAM__acme/Eve": CREDENTIAL})
    assert loaded.config.scram_lines == {"acme/Bob": CREDENTIAL, "acme/Eve": CREDENTIAL}
    assert "W22ZaJ0SNY7soEsUEjb6gQ" not in loaded.print() + repr(loaded.config)
    assert '"acme/Bob" = "**********"' in loaded.print()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'bob = "{CREDENTIAL}"', "scram.bob: expected tenant/user"),
        ('"acme/bob" = "hunter2"', "scram.acme/bob: expected SCRAM-SHA-256"),
        (f'"acme/bob" = "{CREDENTIAL.replace("4096", "1")}"', "scram.acme/bob: 1 iterations are out of range"),
    ],
)
def test_wrong_scram_user_is_named_and_the_line_is_not(text: str, problem: str, file: Path) -> None:
    file.write_text(f"[scram]\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(file, environment={})
    assert problem in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_listeners_are_read_and_shown_as_tables(file: Path) -> None:
    loaded = load('[listeners.web]\nkind = "ws"\nbind = "127.0.0.1:8080"\n', file)
    assert loaded.config.listeners["web"].path == "/mqtt"
    shown = tomllib.loads(loaded.print())["listeners"]["web"]
    assert (shown["kind"], shown["bind"]) == ("ws", "127.0.0.1:8080")


@pytest.mark.parametrize("name", ["mqtt", "api", "Web", "a b"])
def test_name_of_a_listener_that_the_ready_line_cannot_carry_is_refused(file: Path, name: str) -> None:
    text = f'[listeners."{name}"]\nkind = "ws"\nbind = "127.0.0.1:8080"\n'
    (problem,) = problems_of(text, file)
    assert "is no name of a listener" in problem


def test_open_listener_is_refused_while_everybody_is_admitted(file: Path) -> None:
    (problem,) = problems_of('[listeners.web]\nkind = "ws"\nbind = "0.0.0.0:8080"\n', file)
    assert problem.startswith("listeners.web.bind: 0.0.0.0:8080 is open to other machines")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('kind = "tls"', "certificate_files: has to name the certificate of the server, as kind is tls"),
        ('kind = "ws"\ncertificate_files = ["a"]', "certificate_files: is for tls and wss, and kind is ws"),
        ('kind = "tcp"\npath = "/a"', "path: is for ws and wss, and kind is tcp"),
        (
            'kind = "wss"\ncertificate_files = ["a", "b"]\nkey_files = ["c"]',
            "key_files: names 1 files, and there are 2 certificates",
        ),
        (
            'kind = "tls"\ncertificate_files = ["a"]\nclient_certificates = "required"',
            "client_ca_files: has to be set, as client_certificates is required",
        ),
        (
            'kind = "tls"\ncertificate_files = ["a"]\nclient_ca_files = ["b"]',
            "client_ca_files: has no effect, as client_certificates is none",
        ),
        (
            'kind = "tls"\ncertificate_files = ["a"]\ntls_version_minimum = "1.1"',
            "tls_version_minimum: Input should be '1.2' or '1.3'",
        ),
    ],
)
def test_contradictions_of_a_listener_are_told(file: Path, text: str, problem: str) -> None:
    (told,) = problems_of(f'[listeners.x]\nbind = "127.0.0.1:0"\n{text}\n', file)
    assert told.startswith(f"listeners.x.{problem}")
