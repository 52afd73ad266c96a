"""`PUT /sub` and `DELETE /unsub`: acting for a client that is online."""

from typing import Any

import pytest

from support.api_calls import call, expect
from support.service import Service, service_with

KEY: dict[str, Any] = {"tenant_id": "acme", "user_id": "bob", "client_id": "dev1"}
SUB: dict[str, Any] = {**KEY, "topic_filter": "a/+", "sub_qos": "1"}
UNSUB: dict[str, Any] = {**KEY, "topic_filter": "a/+"}


async def test_subscription_made_for_a_client_brings_it_messages_and_retained_ones(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        await client.publish("a/kept", b"old", qos=1, retain=True)
        expect(await call(service, "PUT", "/sub", **SUB), 200, "OK")
        kept = await client.receive_message()
        assert (kept.topic, kept.retain, kept.qos) == ("a/kept", True, 1)
        expect(await service.publish(b"new", qos="2"), 200, "OK")
        message = await client.receive_message()
        assert (message.payload, message.qos) == (b"new", 1)


async def test_subscribing_again_exists_and_changes_the_qos(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        await client.subscribe("a/+", qos=2)
        expect(await call(service, "PUT", "/sub", **{**SUB, "sub_qos": "0"}), 200, "EXISTS")
        await service.publish(b"x", qos="2")
        assert (await client.receive_message()).qos == 0


async def test_unsubscribing_ends_it_and_a_second_time_finds_none(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        await client.subscribe("a/+", qos=1)
        expect(await call(service, "DELETE", "/unsub", **UNSUB), 200, "OK")
        expect(await service.publish(), 200, "NO_MATCH")
        expect(await call(service, "DELETE", "/unsub", **UNSUB), 200, "NO_SUB")
        await client.expect_nothing()


@pytest.mark.parametrize(("method", "path", "headers"), [("PUT", "/sub", SUB), ("DELETE", "/unsub", UNSUB)])
async def test_client_that_is_not_online_is_not_found(
    service: Service, method: str, path: str, headers: dict[str, Any]
) -> None:
    expect(await call(service, method, path, **headers), 404, "")
    async with service.connect(client_id="dev1", username="acme/bob", session_expiry_interval=100) as client:
        await client.disconnect()
        await client.expect_closed()
    expect(await call(service, method, path, **headers), 404, "")


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+", "$share//a", "a%00b", "/".join("a" * 200)])
@pytest.mark.parametrize(("method", "path", "headers"), [("PUT", "/sub", SUB), ("DELETE", "/unsub", UNSUB)])
async def test_bad_topic_filter_is_refused(
    service: Service, method: str, path: str, headers: dict[str, Any], topic_filter: str
) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        answer = await call(service, method, path, **{**headers, "topic_filter": topic_filter})
        expect(answer, 400, "TOPIC_FILTER_INVALID")
        await client.ping()


async def test_filters_beyond_the_limit_of_a_session_exceed_it() -> None:
    async with (
        service_with(settings={"MaxTopicFiltersPerInbox": 1}) as service,
        service.connect(client_id="dev1", username="acme/bob") as client,
    ):
        await client.subscribe("b")
        expect(await call(service, "PUT", "/sub", **SUB), 400, "EXCEED_LIMIT")


@pytest.mark.parametrize(
    ("setting", "topic_filter"), [("WildcardSubscriptionEnabled", "a/+"), ("SharedSubscriptionEnabled", "$share/g/a")]
)
async def test_kind_of_filter_that_the_tenant_has_switched_off_fails(setting: str, topic_filter: str) -> None:
    async with (
        service_with(settings={setting: False}) as service,
        service.connect(client_id="dev1", username="acme/bob"),
    ):
        expect(await call(service, "PUT", "/sub", **{**SUB, "topic_filter": topic_filter}), 500, "")


@pytest.mark.parametrize("name", [*KEY, "topic_filter", "sub_qos"])
async def test_missing_parameter_of_sub_is_named(service: Service, name: str) -> None:
    expect(await call(service, "PUT", "/sub", **{**SUB, name: None}), 400, f"header not found: {name}")


@pytest.mark.parametrize("name", [*KEY, "topic_filter"])
async def test_missing_parameter_of_unsub_is_named(service: Service, name: str) -> None:
    expect(await call(service, "DELETE", "/unsub", **{**UNSUB, name: None}), 400, f"header not found: {name}")


@pytest.mark.parametrize("qos", ["3", "-1"])
async def test_qos_that_there_is_not_is_refused(service: Service, qos: str) -> None:
    expect(await call(service, "PUT", "/sub", **{**SUB, "sub_qos": qos}), 400, "Invalid QoS")


async def test_topic_filter_may_be_percent_encoded_or_raw(service: Service) -> None:
    async with service.connect(client_id="dev1", username="acme/bob") as client:
        for raw in ("caf\u00e9/+".encode(), b"caf%C3%A9/%2B"):
            answer = await call(service, "PUT", "/sub", **{**SUB, "topic_filter": raw})
            assert answer.status_code == 200
        assert answer.text == "EXISTS"
        await client.ping()
