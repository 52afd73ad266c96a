"""`DELETE /kill`: who is disconnected, what they are told, and what stays."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from rookery.server.events import CallerActed
from support.api_calls import call, expect
from support.mqtt_client import Client
from support.packets import MQTT_3_1_1, Will
from support.service import Service, service_with

ONE: dict[str, Any] = {"tenant_id": "acme", "user_id": "bob", "client_id": "dev1", "client_type": "ops"}


@pytest.fixture(params=[1, 3])
async def sharded(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """A broker with one shard and with three."""
    async with service_with(shards={"count": request.param}) as opened:
        yield opened


async def expect_farewell(client: Client, reason_code: int, reference: str | None = None) -> None:
    farewell = await client.expect_closed()
    assert farewell is not None
    assert (farewell.reason_code, farewell.server_reference) == (reason_code, reference)


async def test_one_client_is_disconnected_and_nobody_else(sharded: Service) -> None:
    async with (
        sharded.connect(client_id="dev1", username="acme/bob") as client,
        sharded.connect(client_id="dev2", username="acme/bob") as sibling,
        sharded.connect(client_id="dev1", username="acme/eve") as namesake,
        sharded.connect(client_id="dev1", username="other/bob") as stranger,
    ):
        expect(await call(sharded, "DELETE", "/kill", **ONE), 200, "")
        await expect_farewell(client, 0x98)
        for other in (sibling, namesake, stranger):
            await other.ping()
        expect(await call(sharded, "DELETE", "/kill", **ONE), 404, "")


async def test_all_clients_of_a_user_are_disconnected(sharded: Service) -> None:
    async with (
        sharded.connect(client_id="dev1", username="acme/bob") as first,
        sharded.connect(client_id="dev2", username="acme/bob") as second,
        sharded.connect(client_id="dev1", username="acme/eve") as other,
    ):
        expect(await call(sharded, "DELETE", "/kill", tenant_id="acme", user_id="bob", client_type="ops"), 200, "")
        await expect_farewell(first, 0x98)
        await expect_farewell(second, 0x98)
        await other.ping()


async def test_all_clients_of_a_tenant_are_disconnected(sharded: Service) -> None:
    async with (
        sharded.connect(client_id="dev1", username="acme/bob") as first,
        sharded.connect(client_id="dev1", username="acme/eve", version=MQTT_3_1_1) as second,
        sharded.connect(client_id="dev1", username="other/bob") as stranger,
    ):
        expect(await call(sharded, "DELETE", "/kill", tenant_id="acme", client_type="ops"), 200, "")
        await expect_farewell(first, 0x98)
        assert await second.expect_closed() is None
        await stranger.ping()


@pytest.mark.parametrize(
    "scope", [{"user_id": "bob", "client_id": "dev1"}, {"user_id": "bob"}, {}], ids=["client", "user", "tenant"]
)
async def test_killing_nobody_is_not_found(service: Service, scope: dict[str, Any]) -> None:
    expect(await call(service, "DELETE", "/kill", tenant_id="acme", client_type="ops", **scope), 404, "")


async def test_will_is_published_and_persistent_session_stays(service: Service) -> None:
    async with (
        service.connect(client_id="witness", username="acme/eve") as witness,
        service.connect(
            client_id="dev1",
            username="acme/bob",
            session_expiry_interval=100,
            will=Will(topic="gone/dev1", payload=b""),
        ) as client,
    ):
        await witness.subscribe("gone/#")
        expect(await call(service, "DELETE", "/kill", **ONE), 200, "")
        await expect_farewell(client, 0x98)
        assert (await witness.receive_message()).topic == "gone/dev1"
    info = await service.broker.sessions.find("acme", "bob", "dev1")
    assert info is not None
    assert not info.is_online


@pytest.mark.parametrize(
    ("redirect", "reason_code", "told"),
    [("no", 0x98, None), ("move", 0x9D, "there:1883"), ("temp_use", 0x9C, "there:1883")],
)
async def test_redirection_tells_where_to_go(
    service: Service, redirect: str, reason_code: int, told: str | None
) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        answer = await call(service, "DELETE", "/kill", **ONE, server_redirect=redirect, server_reference="there:1883")
        expect(answer, 200, "")
        await expect_farewell(client, reason_code, told)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"tenant_id": None}, "header not found: tenant_id"),
        ({"tenant_id": ""}, "header is empty: tenant_id"),
        ({"client_type": None}, "header not found: client_type"),
        ({"user_id": None}, "header not found: user_id (client_id alone names nobody)"),
        ({"user_id": ""}, "header is empty: user_id"),
        ({"client_id": ""}, "header is empty: client_id"),
        ({"server_redirect": "elsewhere"}, "Invalid server redirect value"),
        ({"server_redirect": ""}, "Invalid server redirect value"),
        ({"server_reference": "x" * 65536}, "Server reference exceeds 65535 bytes"),
        ({"user_id": b"\xff"}, "user_id: expected UTF-8 or percent-encoded UTF-8"),
    ],
)
async def test_bad_parameter_is_named_and_nobody_is_disconnected(
    service: Service, headers: dict[str, Any], text: str
) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        expect(await call(service, "DELETE", "/kill", **{**ONE, **headers}), 400, text)
        await client.ping()


async def test_killer_is_told_to_whoever_listens(service: Service) -> None:
    with service.broker.events.subscribe(CallerActed) as stream, trio.fail_after(5):
        await call(service, "DELETE", "/kill", **ONE, client_meta_ticket="4711")
        event = await stream.receive()
    assert isinstance(event, CallerActed)
    assert (event.action, event.caller_type, event.caller_metadata) == ("kill", "ops", (("ticket", "4711"),))
    assert (event.tenant_id, event.user_id, event.client_id, event.count) == ("acme", "bob", "dev1", 0)
