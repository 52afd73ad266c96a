"""Rules of the admin database: they hold when the call returns, for open connections, too, behind those of the file."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from rookery.core.permissions.rule import InvalidRule
from rookery.server.broker import Broker
from rookery.server.permissions import RulesFileError
from rookery.server.store import StoreCorrupt, StoreError
from support.own_broker import broker_with, connect
from support.permission_rules import allow, deny

SECTION = {"database": True}
FILE = '[[rules]]\neffect = "deny"\naction = "all"\nfilter = "secret/#"\n'


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with broker_with(permissions=SECTION) as opened:
        yield opened


async def codes_of(broker: Broker, username: str, *topic_filters: str) -> tuple[int, ...]:
    async with connect(broker, client_id="c", username=username) as client:
        return (await client.subscribe(*topic_filters)).reason_codes


async def test_without_any_rule_the_default_decides(broker: Broker) -> None:
    assert await codes_of(broker, "acme/bob", "a") == (0x87,)
    async with broker_with(permissions={"database": True, "default": "allow"}) as other:
        assert await codes_of(other, "acme/bob", "a") == (0,)


async def test_rules_are_in_force_for_an_open_connection_when_the_call_returns(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob") as client:
        assert (await client.subscribe("a")).reason_codes == (0x87,)
        added = await broker.rules.add(allow("a", tenant_id="acme"))
        assert (await client.subscribe("a")).reason_codes == (0,)
        await client.publish("a", b"1")
        assert (await client.receive_message()).payload == b"1"
        await broker.rules.change(added.rule_id, allow("b", tenant_id="acme"))
        assert (await client.subscribe("a", "b")).reason_codes == (0x87, 0)
        assert await broker.rules.remove(added.rule_id)
        assert (await client.subscribe("b")).reason_codes == (0x87,)
        puback = await client.publish("b", b"2", qos=1)
        assert puback is not None
        assert puback.reason_code == 0x87


async def test_rules_of_a_tenant_are_for_it_alone(broker: Broker) -> None:
    await broker.rules.replace("acme", [deny("a/b", tenant_id="acme"), allow("a/+", tenant_id="acme")])
    assert await codes_of(broker, "acme/bob", "a/c", "a/b") == (0, 0x87)
    assert await codes_of(broker, "other/bob", "a/c") == (0x87,)


async def test_rules_of_the_file_come_first(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(FILE)
    async with broker_with(permissions={"file": str(file), **SECTION}) as broker:
        await broker.rules.add(allow("#"), position=-1)
        assert await codes_of(broker, "acme/bob", "open", "secret/x") == (0, 0x87)
        await trio.Path(file).write_text(FILE.replace("secret", "hidden"))
        await broker.reload()
        assert await codes_of(broker, "acme/bob", "secret/x", "hidden/x") == (0, 0x87)


async def test_many_changes_at_once_are_all_in_force(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(broker.rules.add, allow(f"a/{number}"))
    assert await codes_of(broker, "acme/bob", *(f"a/{number}" for number in range(30))) == (0,) * 30


async def test_rules_hold_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with broker_with(permissions=SECTION, data={"dir": str(tmp_path)}) as broker:
            if not await broker.rules.page(None):
                await broker.rules.add(allow("a"))
            assert await codes_of(broker, "acme/bob", "a", "b") == (0, 0x87)


async def test_rules_that_the_configuration_does_not_ask_for_are_kept_and_hold_for_nobody() -> None:
    async with broker_with() as broker:
        assert not broker.rules.are_in_force
        await broker.rules.add(deny("#"))
        assert await codes_of(broker, "acme/bob", "a") == (0,)
        assert len(await broker.rules.page(None)) == 1


async def test_row_that_does_not_parse_keeps_the_broker_from_opening(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"permissions": SECTION, "data": {"dir": str(tmp_path)}}
    async with broker_with(**sections) as broker:
        await broker.rules.add(allow("a"))
        with sqlite3.connect(tmp_path / "admin.db") as connection:
            connection.execute("UPDATE rules SET effect = 'alow'")
        connection.close()
        await broker.reload()
        assert await codes_of(broker, "acme/bob", "a") == (0,)
    with pytest.raises(StoreCorrupt, match="rules: rule 1: 'alow' is not a valid Effect"):
        async with broker_with(**sections):
            pass


async def test_database_that_fails_leaves_the_rules_as_they_are(broker: Broker) -> None:
    await broker.rules.add(allow("a"))
    broker.store._database.close()
    with pytest.raises(StoreError):
        await broker.rules.add(allow("b"))
    assert await codes_of(broker, "acme/bob", "a", "b") == (0, 0x87)


async def test_rule_of_another_tenant_is_refused_and_nothing_changes(broker: Broker) -> None:
    await broker.rules.replace("acme", [allow("a", tenant_id="acme")])
    with pytest.raises(InvalidRule):
        await broker.rules.replace("acme", [allow("b", tenant_id="other")])
    assert await codes_of(broker, "acme/bob", "a") == (0,)


async def test_missing_file_is_an_error_with_the_database_too(tmp_path: Path) -> None:
    with pytest.raises(RulesFileError):
        async with broker_with(permissions={"file": str(tmp_path / "missing"), **SECTION}):
            pass
