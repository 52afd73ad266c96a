"""`DELETE /session`: ending the persistent sessions of a tenant."""

from collections.abc import AsyncIterator

import pytest

from support.api_calls import call, expect
from support.service import Service, service_with


@pytest.fixture(params=[1, 3])
async def sharded(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """A broker with one shard and with three."""
    async with service_with(shards={"count": request.param}) as opened:
        yield opened


async def leave_session(service: Service, client_id: str, username: str = "acme/bob") -> None:
    """A persistent session that is offline."""
    fields = {"client_id": client_id, "username": username, "session_expiry_interval": 1000}
    async with service.connect(**fields) as client:
        await client.subscribe("a/b", qos=1)
        await client.disconnect()
        await client.expect_closed()


async def has_session(service: Service, client_id: str, tenant_id: str = "acme") -> bool:
    return await service.broker.sessions.find(tenant_id, "bob", client_id) is not None


async def test_zero_ends_all_persistent_sessions_of_the_tenant_also_those_online(sharded: Service) -> None:
    await leave_session(sharded, "offline")
    await leave_session(sharded, "offline", "other/bob")
    async with (
        sharded.connect(client_id="online", username="acme/bob", session_expiry_interval=1000) as online,
        sharded.connect(client_id="transient", username="acme/bob") as transient,
    ):
        expect(await call(sharded, "DELETE", "/session", tenant_id="acme", expiry_seconds=0), 200, "")
        farewell = await online.expect_closed()
        assert farewell is not None
        assert farewell.reason_code == 0x98
        await transient.ping()
    assert not await has_session(sharded, "offline")
    assert not await has_session(sharded, "online")
    assert await has_session(sharded, "offline", "other")
    expect(await sharded.publish(), 200, "NO_MATCH")


async def test_age_spares_the_younger_and_the_online(service: Service) -> None:
    await leave_session(service, "offline")
    expect(await call(service, "DELETE", "/session", tenant_id="acme", expiry_seconds=3600), 200, "")
    assert await has_session(service, "offline")


@pytest.mark.parametrize("tenant_id", ["acme", "nobody"])
async def test_without_an_age_every_session_keeps_its_own_expiry(service: Service, tenant_id: str) -> None:
    await leave_session(service, "offline")
    expect(await call(service, "DELETE", "/session", tenant_id=tenant_id), 200, "")
    assert await has_session(service, "offline")


async def test_many_sessions_end_in_steps(service: Service) -> None:
    for number in range(600):  # more than two batches
        await leave_session(service, f"c{number}")
    expect(await call(service, "DELETE", "/session", tenant_id="acme", expiry_seconds=0), 200, "")
    assert sum(shard.sessions for shard in await service.broker.statistics()) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("-1", "expiry_seconds: expected 0 to 2147483647, got '-1'"),
        ("", "expiry_seconds: expected an integer, got ''"),
        ("x", "expiry_seconds: expected an integer, got 'x'"),
    ],
)
async def test_bad_age_is_refused_and_nothing_ends(service: Service, value: str, text: str) -> None:
    await leave_session(service, "offline")
    expect(await call(service, "DELETE", "/session", tenant_id="acme", expiry_seconds=value), 400, text)
    assert await has_session(service, "offline")


async def test_tenant_must_be_named(service: Service) -> None:
    expect(await call(service, "DELETE", "/session", expiry_seconds=0), 400, "header not found: tenant_id")
