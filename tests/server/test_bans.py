"""Bans: whom they hold for, when they end, and that they outlive the process."""

import time
from pathlib import Path

import pytest

from rookery.core.wire.spec import ReasonCode
from rookery.server.broker import Broker
from rookery.server.store import Ban, BanKind, StoreError
from support.mqtt_client import ConnectionRefused
from support.own_broker import broker_with, connect


async def code_of(broker: Broker, username: str = "acme/bob", client_id: str = "c", version: int = 5) -> int:
    try:
        async with connect(broker, client_id=client_id, username=username, version=version):
            return 0
    except ConnectionRefused as refused:
        return refused.connack.reason_code


@pytest.mark.parametrize(
    ("ban", "codes"),
    [
        (Ban(BanKind.ADDRESS, "127.0.0.1"), (0x8A, 0x8A, 0x8A, 0x8A)),
        (Ban(BanKind.ADDRESS, "192.0.2.1"), (0, 0, 0, 0)),
        (Ban(BanKind.TENANT, "acme"), (0x8A, 0x8A, 0x8A, 0)),
        (Ban(BanKind.USER, "bob", "acme"), (0x8A, 0x8A, 0, 0)),
        (Ban(BanKind.CLIENT, "c", "acme"), (0x8A, 0, 0x8A, 0)),
    ],
)
async def test_ban_holds_for_what_it_names(broker: Broker, ban: Ban, codes: tuple[int, ...]) -> None:
    await broker.bans.put(ban)
    assert (
        await code_of(broker),
        await code_of(broker, client_id="d"),
        await code_of(broker, "acme/eve"),
        await code_of(broker, "other/bob"),
    ) == codes


async def test_client_of_3_1_1_is_told_that_it_is_not_authorized(broker: Broker) -> None:
    await broker.bans.put(Ban(BanKind.ADDRESS, "127.0.0.1"))
    assert await code_of(broker, version=4) == 5


async def test_ban_ends_with_its_time_and_when_it_is_lifted(broker: Broker) -> None:
    await broker.bans.put(Ban(BanKind.TENANT, "acme", expires_at_s=int(time.time())))
    assert await code_of(broker) == 0
    ban = await broker.bans.put(Ban(BanKind.TENANT, "acme", expires_at_s=int(time.time()) + 60))
    assert await code_of(broker) == ReasonCode.BANNED
    assert await broker.bans.remove(ban.ban_id)
    assert await code_of(broker) == 0
    assert len(broker.bans) == 0


async def test_connected_client_stays(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob") as client:
        await broker.bans.put(Ban(BanKind.USER, "bob", "acme"))
        await client.ping()


async def test_ban_outlives_the_process(tmp_path: Path) -> None:
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        await broker.bans.put(Ban(BanKind.USER, "bob", "acme"))
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        assert await code_of(broker) == ReasonCode.BANNED


async def test_database_that_fails_leaves_the_bans_as_they_are(broker: Broker) -> None:
    await broker.bans.put(Ban(BanKind.USER, "bob", "acme"))
    broker.store._database.close()
    with pytest.raises(StoreError):
        await broker.bans.put(Ban(BanKind.USER, "eve", "acme"))
    await broker.reload()
    assert await code_of(broker) == ReasonCode.BANNED


async def test_methods_of_5_0_do_not_lead_around_a_ban(broker: Broker) -> None:
    await broker.bans.put(Ban(BanKind.ADDRESS, "127.0.0.1"))
    with pytest.raises(ConnectionRefused) as raised:
        async with connect(broker, client_id="c", authentication_method="x"):
            pass
    assert raised.value.connack.reason_code == ReasonCode.BANNED


async def test_development_does_not_let_in_whoever_names_a_method_that_nobody_holds(broker: Broker) -> None:
    with pytest.raises(ConnectionRefused) as raised:
        async with connect(broker, client_id="c", username="acme/bob", authentication_method="x"):
            pass
    assert raised.value.connack.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
