"""Users of the admin database: who gets in, at once when something changes, and nobody by an error."""

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion

from rookery.core.events import ConnectRequested
from rookery.core.wire.spec import ReasonCode
from rookery.server.auth.authenticator import Admitted
from rookery.server.auth.chain import BAD_CREDENTIALS, NOT_MINE
from rookery.server.auth.passwords import PasswordVerifier, hash_password
from rookery.server.auth.user_table import DISABLED, KnownUsers, UserTableAuthenticator
from rookery.server.broker import Broker
from rookery.server.store import Store, StoreError, User, open_store
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect
from support.process import run_process

HASH = hash_password("right")
SECTION = {"chain": ["users"]}


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """With one user, acme/bob."""
    async with broker_with(authentication=SECTION) as opened:
        await opened.store.users.put(User("acme", "bob", HASH, attributes={"site": "b1"}))
        yield opened


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store(None) as opened:
        await opened.users.put(User("acme", "bob", HASH))
        yield opened


def authenticator_of(store: Store, *, limit: int = 10) -> UserTableAuthenticator:
    verifier = PasswordVerifier(threads=1, remember_s=60, remember_limit=10)
    return UserTableAuthenticator(KnownUsers(store.users, limit), verifier)


def request_of(username: str | None = "acme/bob", password: bytes | None = b"right") -> ConnectRequested:
    return ConnectRequested(1, 0, "192.0.2.1:4711", 5, "c", username, password, clean_start=True)


async def code_of(broker: Broker, username: str | None, password: bytes | None, version: int = 5) -> int:
    try:
        async with connect(broker, client_id="c", username=username, password=password, version=version):
            return 0
    except ConnectionRefused as refused:
        return refused.connack.reason_code


async def test_right_password_is_let_in_as_tenant_and_user_with_attributes(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob", password=b"right"):
        session = await broker.sessions.find("acme", "bob", "c")
    assert session is not None
    assert session.attributes == b'{"site": "b1"}'


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("acme/bob", b"wrong"),
        ("acme/bob", b""),
        ("acme/bob", None),
        ("acme/eve", b"right"),
        ("acme/BOB", b"right"),
        ("acme/bob/x", b"right"),
        ("acme'; DROP TABLE users; --/bob", b"right"),
        ("%/%", b"right"),
        ("bob", b"right"),
        ("", b"right"),
        (None, None),
    ],
)
async def test_wrong_credentials_are_bad_credentials(
    broker: Broker, username: str | None, password: bytes | None
) -> None:
    assert await code_of(broker, username, password) == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await broker.store.users.count() == 1


async def test_changes_are_in_force_for_the_next_connect(broker: Broker) -> None:
    assert await code_of(broker, "acme/bob", b"right") == 0
    await broker.users.put("acme", "bob", password="new")
    assert await code_of(broker, "acme/bob", b"right") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await code_of(broker, "acme/bob", b"new") == 0
    await broker.users.put("acme", "bob", is_enabled=False)
    assert await code_of(broker, "acme/bob", b"new") == ReasonCode.NOT_AUTHORIZED
    await broker.users.put("acme", "bob", is_enabled=True)
    assert await code_of(broker, "acme/bob", b"new") == 0
    assert await broker.users.remove("acme", "bob")
    assert await code_of(broker, "acme/bob", b"new") == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_connected_client_stays_when_its_user_goes(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob", password=b"right") as client:
        await broker.users.remove("acme", "bob")
        await client.ping()


async def test_user_without_a_password_is_let_in_by_none(broker: Broker) -> None:
    await broker.users.put("acme", "eve", attributes={})
    assert await code_of(broker, "acme/eve", b"") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await code_of(broker, "acme/eve", b"None") == ReasonCode.BAD_USER_NAME_OR_PASSWORD


async def test_account_keeps_hashes_and_never_the_password(broker: Broker) -> None:
    user = await broker.users.put("acme", "eve", password="secret word")
    assert user.password_hash is not None
    assert user.scram_credential is not None
    assert "secret" not in f"{user} {user.password_hash} {user.scram_credential}"
    assert [found.user_id for found in await broker.users.page("acme")] == ["bob", "eve"]
    with pytest.raises(ValueError, match="the password is empty"):
        await broker.users.put("acme", "eve", password="")


async def test_broken_database_refuses_who_is_not_in_memory_and_lets_nobody_in(broker: Broker) -> None:
    assert await code_of(broker, "acme/bob", b"right") == 0
    broker.store._database.close()
    assert await code_of(broker, "acme/bob", b"right") == 0
    assert await code_of(broker, "acme/bob", b"wrong") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await code_of(broker, "acme/eve", b"right") == ReasonCode.UNSPECIFIED_ERROR
    assert await code_of(broker, "acme/eve", b"right", version=4) == 3


async def test_row_that_makes_no_sense_refuses_its_user_only(tmp_path: Path) -> None:
    async with broker_with(authentication=SECTION, data={"dir": str(tmp_path)}) as broker:
        await broker.store.users.put(User("acme", "bob", HASH), User("acme", "eve", HASH))
        with sqlite3.connect(tmp_path / "admin.db") as connection:
            connection.execute("UPDATE users SET password_hash = 'right' WHERE user_id = 'eve'")
        connection.close()
        assert await code_of(broker, "acme/eve", b"right") == ReasonCode.UNSPECIFIED_ERROR
        assert await code_of(broker, "acme/bob", b"right") == 0


async def test_change_by_somebody_else_is_seen_after_a_reload(tmp_path: Path) -> None:
    async with broker_with(authentication=SECTION, data={"dir": str(tmp_path)}) as broker:
        await broker.store.users.put(User("acme", "bob", HASH))
        assert await code_of(broker, "acme/bob", b"right") == 0
        with sqlite3.connect(tmp_path / "admin.db") as connection:
            connection.execute("DELETE FROM users")
        connection.close()
        await broker.reload()
        assert await code_of(broker, "acme/bob", b"right") == ReasonCode.BAD_USER_NAME_OR_PASSWORD


# The authenticator alone.


async def test_who_was_right_is_known_without_waiting(store: Store) -> None:
    authenticator = authenticator_of(store)
    assert authenticator.decide(request_of()) is None
    assert await authenticator.authenticate(request_of()) == Admitted("acme", "bob")
    assert authenticator.decide(request_of()) == Admitted("acme", "bob")
    assert authenticator.decide(request_of(password=b"wrong")) is None
    await store.users.put(User("acme", "bob", HASH, is_enabled=False))
    assert authenticator.decide(request_of()) is None
    assert await authenticator.authenticate(request_of()) is DISABLED


async def test_strangers_are_left_to_the_next(store: Store) -> None:
    authenticator = authenticator_of(store)
    assert authenticator.decide(request_of(None, None)) is NOT_MINE
    for username in ("acme/eve", "bob", "acme/bob/x", "acme/"):
        assert authenticator.decide(request_of(username)) is None
        assert await authenticator.authenticate(request_of(username)) is NOT_MINE


async def test_user_who_changes_while_his_password_is_hashed_is_not_let_in(store: Store) -> None:
    class Changing(PasswordVerifier):
        async def verify(self, hash_line: str | None, password: bytes) -> bool:
            await store.users.put(User("acme", "bob", hash_password("new")))
            return await super().verify(hash_line, password)

    verifier = Changing(threads=1, remember_s=60, remember_limit=10)
    authenticator = UserTableAuthenticator(KnownUsers(store.users, 10), verifier)
    assert await authenticator.authenticate(request_of()) is BAD_CREDENTIALS
    assert authenticator.decide(request_of()) is None


async def test_user_who_changes_while_he_is_looked_up_is_not_kept_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownUsers(store.users, 10)
    find = store.users.find

    async def find_and_change(tenant_id: str, user_id: str) -> User | None:
        found = await find(tenant_id, user_id)
        await store.users.remove(tenant_id, user_id)
        return found

    monkeypatch.setattr(store.users, "find", find_and_change)
    assert await known.find("acme", "bob") is not None
    assert known.recall("acme", "bob") is None


async def test_users_in_memory_are_bounded(store: Store) -> None:
    known = KnownUsers(store.users, 2)
    for user_id in ("a", "b", "c"):
        await store.users.put(User("acme", user_id))
        await known.find("acme", user_id)
    assert len(known) == 2
    assert known.recall("acme", "a") is None


async def test_database_that_fails_raises(store: Store) -> None:
    authenticator = authenticator_of(store)
    store._database.close()
    with pytest.raises(StoreError):
        await authenticator.authenticate(request_of())


# Strangers.


async def test_paho_gets_in(broker: Broker) -> None:
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


async def test_mosquitto_sub_gets_in_by_its_password_and_not_by_another(broker: Broker) -> None:
    address = ("-h", broker.mqtt_address.host, "-p", str(broker.mqtt_address.port))

    def subscribe(password: str) -> int:
        arguments = (*address, "-u", "acme/bob", "-P", password, "-t", "a", "-E")
        with run_process("mosquitto_sub", *arguments) as process:
            process.wait(10)
            return process.popen.returncode

    assert await trio.to_thread.run_sync(subscribe, "right") == 0
    assert await trio.to_thread.run_sync(subscribe, "wrong") != 0
