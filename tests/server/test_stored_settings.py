"""Settings of tenants in the admin database: in force at once, also for open connections, and after a restart."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rookery.core.settings import SettingError, TenantSettings
from rookery.server import stored_settings
from rookery.server.broker import Broker
from rookery.server.store import StoreError
from rookery.server.stored_settings import TenantLimitReached
from rookery.server.tenant_settings import Layer
from support.own_broker import broker_with, connect


async def test_change_is_in_force_for_an_open_connection(broker: Broker) -> None:
    async with connect(broker, client_id="c", username="acme/bob") as client:
        assert (await client.subscribe("a/+")).reason_codes == (0,)
        await broker.stored_settings.put("acme", {"WildcardSubscriptionEnabled": False})
        assert (await client.subscribe("b/+")).reason_codes == (0xA2,)
        await broker.stored_settings.put("acme", {})
        assert (await client.subscribe("b/+")).reason_codes == (0,)
    assert len(broker.settings) == 0


async def test_change_leaves_other_values_and_none_takes_one_away(broker: Broker) -> None:
    settings = broker.stored_settings
    await settings.change("acme", {"MaximumQoS": 1, "MaxTopicLevels": 3})
    assert await settings.change("acme", {"MaximumQoS": None, "RetainEnabled": False}) == TenantSettings(
        max_topic_levels=3, retain_enabled=False
    )
    assert settings.values("acme") == {"MaxTopicLevels": 3, "RetainEnabled": False}


async def test_values_are_in_force_after_a_restart_over_those_of_the_configuration(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "data": {"dir": str(tmp_path)},
        "tenants": {"acme": {"settings": {"MaximumQoS": 1, "MaxTopicLevels": 3}}},
    }
    async with broker_with(**sections) as broker:
        await broker.stored_settings.put("acme", {"MaximumQoS": 0})
    async with broker_with(**sections) as broker:
        assert broker.settings_of("acme") == TenantSettings(maximum_qos=0, max_topic_levels=3)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"NoSuchSetting": 1}, "NoSuchSetting"),
        ({"MaximumQoS": 3}, "3 is out of range; valid is 0 to 2"),
        ({"MaximumQoS": True}, "True is not an integer"),
        ({"RetainEnabled": 1}, "1 is neither true nor false"),
        ({"MinSessionExpirySeconds": 100_000}, "MinSessionExpirySeconds"),
    ],
)
async def test_bad_value_is_refused_and_the_old_ones_stay(broker: Broker, values: dict[str, int], problem: str) -> None:
    await broker.stored_settings.put("acme", {"MaximumQoS": 1})
    with pytest.raises(SettingError, match=problem):
        await broker.stored_settings.put("acme", values)
    assert broker.settings_of("acme") == TenantSettings(maximum_qos=1)
    assert await broker.store.settings.all() == {"acme": {"MaximumQoS": 1}}


@pytest.mark.parametrize("tenant_id", ["", "a/b", "x" * 65536])
async def test_name_that_no_tenant_can_have_is_refused(broker: Broker, tenant_id: str) -> None:
    with pytest.raises(ValueError, match="tenant_id"):
        await broker.stored_settings.put(tenant_id, {"MaximumQoS": 1})


async def test_tenants_with_settings_have_a_limit(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_settings, "TENANTS_LIMIT", 1)
    await broker.stored_settings.put("acme", {"MaximumQoS": 1})
    with pytest.raises(TenantLimitReached, match="1 tenants have settings here, the limit is 1"):
        await broker.stored_settings.put("other", {"MaximumQoS": 1})
    await broker.stored_settings.put("acme", {})
    await broker.stored_settings.put("other", {"MaximumQoS": 1})


async def test_database_that_fails_leaves_all_as_it_was(broker: Broker) -> None:
    await broker.stored_settings.put("acme", {"MaximumQoS": 1})
    broker.store._database.close()
    with pytest.raises(StoreError):
        await broker.stored_settings.put("acme", {"MaximumQoS": 0})
    assert broker.settings_of("acme") == TenantSettings(maximum_qos=1)


async def test_plugin_says_more_than_the_database(broker: Broker) -> None:
    broker.settings.put("acme", Layer.PLUGIN, {"MaximumQoS": 0})
    assert (await broker.stored_settings.put("acme", {"MaximumQoS": 1})).maximum_qos == 0


async def test_stored_values_that_no_longer_fit_are_passed_over(tmp_path: Path) -> None:
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        await broker.stored_settings.put("acme", {"MaximumQoS": 1})
        await broker.stored_settings.put("other", {"MaximumQoS": 1})
    with sqlite3.connect(tmp_path / "admin.db") as connection:
        connection.execute("UPDATE settings SET value = '7' WHERE tenant_id = 'acme'")
    connection.close()
    async with broker_with(data={"dir": str(tmp_path)}) as broker:
        assert broker.settings_of("acme") == TenantSettings()
        assert broker.settings_of("other") == TenantSettings(maximum_qos=1)
