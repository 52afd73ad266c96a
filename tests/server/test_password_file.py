"""The password file as authenticator and as a file: who gets in, what is refused, how it is edited."""

import io
import re
import stat
import threading
import tomllib
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trio
import trio.testing
from paho.mqtt.enums import CallbackAPIVersion

from rookery.api.cli import main
from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted, Decision, Refused
from rookery.server.auth.chain import BAD_CREDENTIALS, NOT_MINE, Chain, NotMine
from rookery.server.auth.password_file import PasswordFileError, edit_passwords, read_passwords
from rookery.server.auth.passwords import PasswordVerifier, RememberedSuccesses, check_hash, hash_password
from rookery.server.auth.penalties import DELAY_MAXIMUM_S, FORGOTTEN_AFTER_S, FailureTable, Penalties, network_of
from rookery.server.exit_code import ExitCode
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect

HASH = hash_password("right")
# Of no password: a parameter of a test has to be the same in every process.
FIXED_HASH = "$argon2id$v=19$m=19456,t=2,p=1$0GAdvAlP0+sqjwMes48s4g$ooxLrpbXwrWUklIr6tACi/M9Mr+bx3giXibUFj0anII"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    edit_passwords(path, {"acme/bob": HASH})
    return path


def section_of(file: Path) -> dict[str, object]:
    return {"chain": ["password-file"], "password_file": str(file)}


def request_of(username: str | None = "acme/bob", password: bytes | None = b"right") -> ConnectRequested:
    return ConnectRequested(1, 0, "192.0.2.1:4711", 5, "c", username, password, clean_start=True)


class Answering:
    """A link of a chain that gives one answer, and counts how often it is asked."""

    def __init__(self, answer: Decision | NotMine | Exception) -> None:
        self._answer = answer
        self.asked_count = 0

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        self.asked_count += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Doorman:
    """A plugin that knows everybody."""

    async def authenticate(self, request: ConnectRequested) -> Decision:
        return Admitted("plugin", "eve")


# The chain.


async def test_chain_asks_the_next_only_about_clients_that_are_left_to_it() -> None:
    last = Answering(Admitted("acme", "bob"))
    assert await Chain([Answering(NOT_MINE), last]).authenticate(request_of()) == Admitted("acme", "bob")
    assert await Chain([Answering(BAD_CREDENTIALS), last]).authenticate(request_of()) is BAD_CREDENTIALS
    assert last.asked_count == 1


async def test_chain_refuses_whom_nobody_knows_with_the_words_of_a_wrong_password() -> None:
    assert await Chain([Answering(NOT_MINE)]).authenticate(request_of()) is BAD_CREDENTIALS


async def test_chain_does_not_go_on_after_an_error() -> None:
    last = Answering(Admitted("acme", "bob"))
    with pytest.raises(OSError, match="broken"):
        await Chain([Answering(OSError("broken")), last]).authenticate(request_of())
    assert last.asked_count == 0


# Clients.


async def test_right_password_is_let_in_as_tenant_and_user(file: Path) -> None:
    async with (
        broker_with(authentication=section_of(file)) as broker,
        connect(broker, client_id="c", username="acme/bob", password=b"right"),
    ):
        assert await broker.sessions.find("acme", "bob", "c") is not None


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("acme/bob", b"wrong"),
        ("acme/bob", b""),
        ("acme/bob", None),
        ("acme/bob", b"right\0"),
        ("acme/bob", b"\xff" * 65535),
        ("acme/eve", b"right"),
        ("acme/BOB", b"right"),
        ("bob", b"right"),
        ("", b"right"),
        (None, None),
    ],
)
async def test_wrong_credentials_are_bad_credentials(file: Path, username: str | None, password: bytes | None) -> None:
    async with broker_with(authentication=section_of(file)) as broker:
        with pytest.raises(ConnectionRefused) as raised:
            async with connect(broker, client_id="c", username=username, password=password):
                pass
    assert raised.value.connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD


@pytest.mark.parametrize("content", ["", "\n", "# nobody yet\n"])
async def test_empty_file_lets_nobody_in(content: str, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(content)
    async with broker_with(authentication=section_of(file)) as broker:
        for username, password in (("acme/bob", b"right"), ("", b""), (None, None)):
            with pytest.raises(ConnectionRefused) as raised:
                async with connect(broker, client_id="c", username=username, password=password):
                    pass
            assert raised.value.connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_strangers_client_gets_in(file: Path) -> None:
    async with broker_with(authentication=section_of(file)) as broker:
        connected = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho")
        client.on_connect = lambda client, data, flags, reason, properties: connected.set()
        client.username_pw_set("acme/bob", "right")
        client.connect(broker.mqtt_address.host, broker.mqtt_address.port)
        client.loop_start()
        assert await trio.to_thread.run_sync(connected.wait, 10)
        assert await broker.sessions.find("acme", "bob", "paho") is not None
        client.disconnect()
        await trio.to_thread.run_sync(client.loop_stop)


async def test_reload_takes_new_users_and_keeps_the_old_ones_when_the_file_is_broken(file: Path) -> None:
    async with broker_with(authentication=section_of(file)) as broker:
        edit_passwords(file, {"acme/bob": None, "acme/eve": HASH})
        await broker.reload()
        async with connect(broker, client_id="e", username="acme/eve", password=b"right"):
            pass
        with pytest.raises(ConnectionRefused):
            async with connect(broker, client_id="b", username="acme/bob", password=b"right"):
                pass
        await trio.Path(file).write_text("nonsense\n")
        await broker.reload()
        async with connect(broker, client_id="e", username="acme/eve", password=b"right"):
            pass


async def test_plugin_of_the_chain_is_asked_about_users_that_the_file_does_not_have(file: Path) -> None:
    section = {"chain": ["password-file", "plugin:door"], "password_file": str(file)}
    async with broker_with(authentication=section, plugins={"door": {"use": f"{__name__}:Doorman"}}) as broker:
        async with connect(broker, client_id="e", username="acme/eve", password=b"any"):
            assert await broker.sessions.find("plugin", "eve", "e") is not None
        with pytest.raises(ConnectionRefused):
            async with connect(broker, client_id="b", username="acme/bob", password=b"wrong"):
                pass


# Hashes and what is remembered.


async def test_success_is_remembered_and_failure_is_not() -> None:
    verifier = PasswordVerifier(threads=1, remember_s=60, remember_limit=10)
    assert not await verifier.verify(HASH, b"wrong")
    assert not verifier.remembered_for_s(HASH, b"wrong")
    assert await verifier.verify(HASH, b"right")
    assert verifier.remembered_for_s(HASH, b"right")
    assert not verifier.remembered_for_s(HASH, b"wrong")
    assert not await verifier.verify(None, b"right")


async def test_remembered_success_ends_after_its_time_and_with_room(autojump_clock: trio.testing.MockClock) -> None:
    remembered = RememberedSuccesses(for_s=60, limit=2)
    for password in (b"1", b"2", b"3"):
        remembered.add(HASH, password)
    assert [bool(remembered.time_left_s(HASH, password)) for password in (b"1", b"2", b"3")] == [False, True, True]
    await trio.sleep(61)
    assert not remembered.time_left_s(HASH, b"3")
    nothing = RememberedSuccesses(for_s=0, limit=2)
    nothing.add(HASH, b"1")
    assert not len(nothing)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "expected an Argon2id hash"),
        ("right", "expected an Argon2id hash"),
        (FIXED_HASH.replace("argon2id", "argon2i"), "got one of Argon2i"),
        (FIXED_HASH.replace("m=19456", "m=99999999"), "99999999 KiB; at most"),
        (FIXED_HASH.replace("t=2", "t=9999"), "9999 passes; at most"),
    ],
)
def test_hash_that_cannot_be_used_is_named_without_being_shown(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        check_hash(line)
    assert FIXED_HASH[-20:] not in str(raised.value)


# Penalties.


def refusal(penalties: Penalties, username: str = "acme/bob", peer: str = "192.0.2.1:1") -> float:
    request = ConnectRequested(1, 0, peer, 5, "c", username, b"x", clean_start=True)
    return penalties.delay_of(request, BAD_CREDENTIALS)


async def test_failures_of_an_address_or_a_user_are_slowed_and_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    penalties = Penalties()
    delays = [refusal(penalties, f"acme/{index}") for index in range(10)]
    assert delays[:6] == [0, 0, 0, 0.25, 0.5, 1.0]
    assert delays[-1] == DELAY_MAXIMUM_S
    assert [refusal(penalties, "acme/eve", f"198.51.100.{index}:1") for index in range(4)] == [0, 0, 0, 0.25]
    await trio.sleep(FORGOTTEN_AFTER_S)
    assert refusal(penalties) == 0


async def test_nobody_who_is_right_waits_for_the_failures_of_others() -> None:
    penalties = Penalties()
    for _ in range(10):
        refusal(penalties)
    assert penalties.delay_of(request_of(), Admitted("acme", "bob")) == 0
    assert penalties.delay_of(request_of(), Refused(ReasonCode.SERVER_BUSY)) == 0


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("[::1]:4711", "::/64"),
        ("[fe80::1%eth0]:4711", "fe80::/64"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("memory", ""),
    ],
)
def test_stranger_is_known_by_what_he_cannot_change_at_will(peer: str, network: str) -> None:
    assert network_of(peer) == network


async def test_table_of_failures_is_bounded() -> None:
    table = FailureTable(limit=2)
    for key in ("a", "b", "c", "b"):
        table.add(key)
    assert len(table) == 2
    assert table.add("b") == 3
    assert table.add("a") == 1


# The file.


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("acme/bob\n", ":1: "),
        (f"# x\nbob:{FIXED_HASH}\n", ":2: expected tenant/user"),
        (f"acme/bob:{FIXED_HASH}\nacme/bob:{FIXED_HASH}\n", ":2: acme/bob stands in an earlier line"),
        ("acme/bob:plain\n", ":1: expected an Argon2id hash"),
    ],
)
def test_wrong_line_is_named(text: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    with pytest.raises(PasswordFileError, match=re.escape(f"{file}{place}")):
        read_passwords(file)


def test_file_that_is_no_text_or_not_there_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "users"
    with pytest.raises(PasswordFileError, match="No such file"):
        read_passwords(file)
    file.write_bytes(b"\n\xff")
    with pytest.raises(PasswordFileError, match=":2: not UTF-8"):
        read_passwords(file)


def test_edit_keeps_comments_and_makes_the_file_its_owners_only(file: Path) -> None:
    file.write_text("# ours\n" + file.read_text())
    file.chmod(0o644)
    edit_passwords(file, {"acme/eve": HASH})
    assert file.read_text() == f"# ours\nacme/bob:{HASH}\nacme/eve:{HASH}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["users"]


@pytest.mark.parametrize("username", ["bob", "acme/", "acme/a\nroot/x", "#acme/bob", " acme/bob"])
def test_name_that_would_break_the_file_is_refused(username: str, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(PasswordFileError):
        edit_passwords(file, {username: HASH})
    assert file.read_bytes() == before


def passwd(monkeypatch: pytest.MonkeyPatch, *arguments: str, password: str = "") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["passwd", *arguments])


def test_passwd_sets_and_removes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passwd(monkeypatch, str(file), "acme/eve", password="x") == ExitCode.OK
    assert list(read_passwords(file)) == ["acme/bob", "acme/eve"]
    assert passwd(monkeypatch, "--remove", str(file), "acme/bob") == ExitCode.OK
    assert list(read_passwords(file)) == ["acme/eve"]


def test_passwd_of_nothing_usable_is_exit_code_2(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert passwd(monkeypatch, str(file), "acme/eve") == ExitCode.USAGE
    assert passwd(monkeypatch, str(file), "eve", password="x") == ExitCode.USAGE
    assert passwd(monkeypatch, "--remove", str(file), "acme/nobody") == ExitCode.USAGE
    assert passwd(monkeypatch, str(file.parent / "no" / "where"), "acme/eve", password="x") == ExitCode.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert list(read_passwords(file)) == ["acme/bob"]


async def test_worked_example_of_the_page_lets_its_user_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    page = (Path(pytestconfig.rootpath) / "docs" / "authentication.md").read_text(encoding="utf-8")
    command = re.search(r'^\$ echo "(.*)" \| rookery (.*)$', page, re.MULTILINE)
    configuration = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert command is not None
    assert configuration is not None
    monkeypatch.chdir(tmp_path)
    _, *arguments = command[2].split()
    assert passwd(monkeypatch, *arguments, password=command[1]) == ExitCode.OK
    async with (
        broker_with(**tomllib.loads(configuration[1])) as broker,
        connect(broker, client_id="c", username="acme/bob", password=command[1].encode()),
    ):
        assert await broker.sessions.find("acme", "bob", "c") is not None
