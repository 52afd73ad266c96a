"""`POST /retain` and `DELETE /retain`: retained messages from outside."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.api_calls import call, expect
from support.service import Service, service_with

RETAIN: dict[str, Any] = {"tenant_id": "acme", "topic": "a/b", "qos": "1", "client_type": "ops"}


@pytest.fixture(params=[1, 3])
async def sharded(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """A broker with one shard and with three."""
    async with service_with(shards={"count": request.param}) as opened:
        yield opened


async def kept(service: Service) -> list[tuple[str, bytes, int]]:
    """What a new subscriber gets of the retained messages that there are."""
    count = sum(shard.retained_messages for shard in await service.broker.statistics())
    async with service.connect(client_id="reader", username="acme/reader") as client:
        await client.subscribe("#", qos=2)
        messages = [await client.receive_message() for _ in range(count)]
        await client.expect_nothing()
    return [(message.topic, message.payload, message.qos) for message in messages]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_message_is_kept_with_its_qos_and_not_delivered_now(sharded: Service, qos: int) -> None:
    async with sharded.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        expect(await call(sharded, "POST", "/retain", b"x", **{**RETAIN, "qos": qos}), 200, "RETAINED")
        await client.expect_nothing()
    assert await kept(sharded) == [("a/b", b"x", qos)]


async def test_empty_body_clears(sharded: Service) -> None:
    await call(sharded, "POST", "/retain", b"x", **RETAIN)
    expect(await call(sharded, "POST", "/retain", b"", **RETAIN), 200, "CLEARED")
    assert await kept(sharded) == []
    expect(await call(sharded, "POST", "/retain", b"", **RETAIN), 200, "CLEARED")


async def test_messages_of_tenants_never_meet(service: Service) -> None:
    await call(service, "POST", "/retain", b"x", **{**RETAIN, "tenant_id": "other"})
    async with service.connect(client_id="reader", username="acme/reader") as client:
        await client.subscribe("#")
        await client.expect_nothing()


async def test_tenant_without_retained_messages_refuses() -> None:
    async with service_with(settings={"RetainEnabled": False}) as service:
        expect(await call(service, "POST", "/retain", b"x", **RETAIN), 401, "")


async def test_body_beyond_the_limit_of_the_tenant_is_refused() -> None:
    async with service_with(settings={"MaxUserPayloadBytes": 10}) as service:
        assert (await call(service, "POST", "/retain", b"x" * 11, **RETAIN)).status_code == 413
        expect(await call(service, "POST", "/retain", b"x" * 10, **RETAIN), 200, "RETAINED")


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"tenant_id": None}, "header not found: tenant_id"),
        ({"topic": None}, "header not found: topic"),
        ({"qos": None}, "header not found: qos"),
        ({"client_type": None}, "header not found: client_type"),
        ({"qos": "3"}, "Invalid QoS"),
        ({"qos": "one"}, "qos: expected an integer, got 'one'"),
        ({"expiry_seconds": "-1"}, "Invalid expiry seconds"),
        ({"topic": "a/+"}, None),
        ({"topic": ""}, None),
        ({"topic": "a%00"}, None),
    ],
)
async def test_bad_parameter_is_refused_and_nothing_is_kept(
    service: Service, headers: dict[str, Any], text: str | None
) -> None:
    answer = await call(service, "POST", "/retain", b"x", **{**RETAIN, **headers})
    assert answer.status_code == 400
    assert answer.text == text if text is not None else answer.text.startswith("topic: ")
    assert await kept(service) == []


async def test_all_messages_of_a_tenant_are_removed_and_no_others(sharded: Service) -> None:
    for number in range(600):  # more than one step of a sweep
        await sharded.broker.retained.store("acme", f"a/{number}", b"x", qos=0)
    await call(sharded, "POST", "/retain", b"x", **{**RETAIN, "tenant_id": "other"})
    expect(await call(sharded, "DELETE", "/retain", tenant_id="acme", expiry_seconds=0), 200, "")
    assert sum(shard.retained_messages for shard in await sharded.broker.statistics()) == 1


async def test_messages_that_are_younger_stay(service: Service) -> None:
    await call(service, "POST", "/retain", b"x", **RETAIN)
    expect(await call(service, "DELETE", "/retain", tenant_id="acme", expiry_seconds=3600), 200, "")
    assert await kept(service) == [("a/b", b"x", 1)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "header not found: expiry_seconds"),
        ("-1", "expiry_seconds: expected 0 to 2147483647, got '-1'"),
        ("2147483648", "expiry_seconds: expected 0 to 2147483647, got '2147483648'"),
        ("soon", "expiry_seconds: expected an integer, got 'soon'"),
    ],
)
async def test_bad_age_is_refused(service: Service, value: str | None, text: str) -> None:
    expect(await call(service, "DELETE", "/retain", tenant_id="acme", expiry_seconds=value), 400, text)
