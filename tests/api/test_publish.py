"""`POST /pub`: every status and body that BifroMQ's callers know, with MQTT clients on the other side."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from support.api_calls import expect
from support.service import Service, service_with

# Messages that arrive.


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_message_reaches_a_subscriber_with_the_lower_qos(service: Service, qos: int) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/+", qos=1)
        expect(await service.publish(b"\x00hello\xff", qos=str(qos)), 200, "OK")
        message = await client.receive_message()
    assert (message.topic, message.payload, message.qos, message.retain) == (
        "a/b",
        b"\x00hello\xff",
        min(qos, 1),
        False,
    )


async def test_no_subscriber_is_no_match(service: Service) -> None:
    async with service.connect(client_id="c", username="other/bob") as stranger:
        await stranger.subscribe("#")
        expect(await service.publish(), 200, "NO_MATCH")
        await stranger.expect_nothing()


async def test_offline_subscriber_matches(service: Service) -> None:
    fields = {"client_id": "c", "username": "acme/bob", "session_expiry_interval": 100}
    async with service.connect(**fields) as client:
        await client.subscribe("a/b", qos=1)
        await client.disconnect()
        await client.expect_closed()
    expect(await service.publish(b"later"), 200, "OK")
    async with service.connect(**fields, clean_start=False) as client:
        assert (await client.receive_message()).payload == b"later"


async def test_message_is_not_retained(service: Service) -> None:
    expect(await service.publish(), 200, "NO_MATCH")
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        await client.expect_nothing()


async def test_empty_body_is_an_empty_payload(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/b")
        expect(await service.publish(b""), 200, "OK")
        assert (await client.receive_message()).payload == b""


async def test_chunked_body_is_one_payload(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"one", b"two", b"three"):
            await trio.lowlevel.checkpoint()
            yield chunk

    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/b")
        headers = {"tenant_id": "acme", "topic": "a/b", "qos": "0", "client_type": "t"}
        expect(await service.http.post("/pub", headers=headers, content=chunks()), 200, "OK")
        assert (await client.receive_message()).payload == b"onetwothree"


async def test_expiry_seconds_become_the_message_expiry_interval(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("a/b")
        await service.publish(expiry_seconds="100")
        assert (await client.receive_message()).message_expiry_interval in (99, 100)
        await service.publish()
        assert (await client.receive_message()).message_expiry_interval is None


@pytest.mark.parametrize("topic", ["café/日本".encode(), b"caf%C3%A9/%E6%97%A5%E6%9C%AC"])
async def test_topic_survives_the_trip_raw_and_percent_encoded(service: Service, topic: bytes) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        expect(await service.publish(topic=topic), 200, "OK")
        assert (await client.receive_message()).topic == "café/日本"


async def test_tenant_in_utf_8_is_the_tenant_of_its_clients(service: Service) -> None:
    async with service.connect(client_id="c", username="änt/ö") as client:
        await client.subscribe("#")
        expect(await service.publish(tenant_id="änt".encode()), 200, "OK")
        await client.receive_message()


async def test_longest_topic_arrives(service: Service) -> None:
    topic = "x" * 65535
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        expect(await service.publish(topic=topic), 200, "OK")
        assert (await client.receive_message()).topic == topic


async def test_headers_with_hyphens_and_metadata_are_taken(service: Service) -> None:
    headers = {"Tenant-Id": "acme", "Topic": "a", "QoS": "1", "Client-Type": "t", "Client-Meta-City": "Kyiv"}
    expect(await service.http.post("/pub?ignored=1", headers={**headers, "Expiry-Seconds": "9"}), 200, "NO_MATCH")


async def test_req_id_is_echoed_or_made(service: Service) -> None:
    assert (await service.publish(req_id="-77")).headers["req_id"] == "-77"
    made = [(await service.publish()).headers["req_id"] for _ in range(2)]
    assert made[0] != made[1]


async def test_verdict_is_given_on_request(service: Service) -> None:
    async with (
        service.connect(client_id="c", username="acme/bob") as client,
        service.connect(client_id="d", username="acme/bob") as other,
    ):
        await client.subscribe("a/b")
        await other.subscribe("a/b")
        response = await service.publish(verbose="1")
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {"result": "OK", "matched": 2, "queued": 2, "dropped": 0, "dropped_by": {}}
        await client.unsubscribe("a/b")
        await other.unsubscribe("a/b")
        response = await service.publish(verbose="1")
        assert response.json() == {"result": "NO_MATCH", "matched": 0, "queued": 0, "dropped": 0, "dropped_by": {}}
    expect(await service.publish(topic="c", verbose="0"), 200, "NO_MATCH")


async def test_verdict_tells_of_a_full_inbox() -> None:
    async with service_with(tenants={"acme": {"settings": {"SessionInboxSize": 1}}}) as service:
        fields = {"client_id": "c", "username": "acme/bob", "session_expiry_interval": 100}
        async with service.connect(**fields) as client:
            await client.subscribe("a/b", qos=1)
            await client.disconnect()
            await client.expect_closed()
        assert (await service.publish(verbose="1")).json()["dropped"] == 0
        verdict = (await service.publish(verbose="1")).json()
        assert verdict == {"result": "OK", "matched": 1, "queued": 0, "dropped": 1, "dropped_by": {"overflow": 1}}


async def test_verdict_tells_of_a_message_that_is_too_large_for_one_of_two(service: Service) -> None:
    async with (
        service.connect(client_id="c", username="acme/bob", maximum_packet_size=30) as small,
        service.connect(client_id="d", username="acme/bob") as large,
    ):
        await small.subscribe("a/b")
        await large.subscribe("a/b")
        verdict = (await service.publish(b"x" * 100, verbose="1")).json()
        assert verdict == {"result": "OK", "matched": 2, "queued": 1, "dropped": 1, "dropped_by": {"too_large": 1}}


# Requests that are refused: nothing is published.


@pytest.mark.parametrize("name", ["tenant_id", "topic", "qos", "client_type"])
async def test_missing_header_is_named(service: Service, name: str) -> None:
    missing: dict[str, Any] = {name: None}
    expect(await service.publish(**missing), 400, f"header not found: {name}")


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"tenant_id": ""}, 400, "header is empty: tenant_id"),
        ({"client_type": ""}, 400, "header is empty: client_type"),
        ({"qos": "3"}, 400, "Invalid QoS"),
        ({"qos": "-1"}, 400, "Invalid QoS"),
        ({"qos": "one"}, 400, "qos: expected an integer, got 'one'"),
        ({"expiry_seconds": "0"}, 400, "Invalid expiry seconds"),
        ({"expiry_seconds": "-5"}, 400, "Invalid expiry seconds"),
        ({"expiry_seconds": "soon"}, 400, "expiry_seconds: expected an integer, got 'soon'"),
        ({"verbose": "yes"}, 400, "verbose: expected 1 or 0, got 'yes'"),
        ({"topic": b"caf\xe9"}, 400, "topic: expected UTF-8 or percent-encoded UTF-8"),
        ({"topic": ""}, 403, "Unaccepted Topic"),
        ({"topic": "a/+"}, 403, "Unaccepted Topic"),
        ({"topic": "#"}, 403, "Unaccepted Topic"),
        ({"topic": "a%00b"}, 403, "Unaccepted Topic"),
        ({"topic": "$share/g/a"}, 403, "Unaccepted Topic"),
        ({"topic": "/" * 128}, 403, "Unaccepted Topic"),
        ({"topic": "x" * 65536}, 403, "Unaccepted Topic"),
    ],
)
async def test_bad_header_is_refused_and_nothing_is_published(
    service: Service, headers: dict[str, Any], status: int, text: str
) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        expect(await service.publish(**headers), status, text)
        await client.expect_nothing()


async def test_doubled_header_is_refused(service: Service) -> None:
    headers = [("tenant_id", "acme"), ("topic", "a"), ("Topic", "b"), ("qos", "1"), ("client_type", "t")]
    expect(await service.http.post("/pub", headers=headers), 400, "topic: expected one header, got 2")


async def test_topic_is_held_to_the_limits_of_its_tenant() -> None:
    settings = {"MaxTopicLevels": 2, "MaxTopicLength": 8}
    async with service_with(tenants={"acme": {"settings": settings}}) as service:
        expect(await service.publish(topic="a/b"), 200, "NO_MATCH")
        expect(await service.publish(topic="a/b/c"), 403, "Unaccepted Topic")
        expect(await service.publish(topic="123456789"), 403, "Unaccepted Topic")
        expect(await service.publish(tenant_id="other", topic="a/b/c"), 200, "NO_MATCH")


async def many_chunks() -> AsyncIterator[bytes]:
    """More than the kernel buffers, so that the client is still sending when it is refused."""
    for _ in range(500):
        await trio.lowlevel.checkpoint()
        yield b"x" * 16384


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_body_above_the_limit_of_the_tenant_is_refused_and_others_are_served(is_chunked: bool) -> None:
    async with service_with(tenants={"acme": {"settings": {"MaxUserPayloadBytes": 1000}}}) as service:
        expect(await service.publish(b"x" * 1000), 200, "NO_MATCH")
        headers = {"tenant_id": "acme", "topic": "a", "qos": "1", "client_type": "t"}
        content = many_chunks() if is_chunked else b"x" * 20_000_000
        refused = await service.http.post("/pub", headers=headers, content=content)
        expect(refused, 413, "the body is larger than 1000 bytes")
        expect(await service.publish(tenant_id="other", payload=b"x" * 262_144), 200, "NO_MATCH")
        assert service.server.failed_count == 0


async def test_client_that_never_stops_sending_is_answered_and_cut_off(service: Service) -> None:
    async with await service.open_stream() as stream, trio.open_nursery() as nursery:

        async def send_for_ever() -> None:
            try:
                await stream.send_all(
                    b"POST /pub HTTP/1.1\r\nhost: x\r\ntenant_id: acme\r\ntopic: a\r\nqos: 1\r\nclient_type: t\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
                while True:
                    await stream.send_all(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            except trio.BrokenResourceError:
                cut_off.set()

        cut_off = trio.Event()
        nursery.start_soon(send_for_ever)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 413 ")
        with trio.fail_after(5):
            await cut_off.wait()


async def test_answer_before_the_end_of_the_body_says_that_the_connection_ends(service: Service) -> None:
    async with await service.open_stream() as stream:
        await stream.send_all(b"POST /pub HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        received = b"".join([part async for part in stream])
        assert received.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nconnection: close\r\n" in received
    for answer in (await service.publish(b"x"), await service.publish(b""), await service.http.get("/session")):
        assert "connection" not in answer.headers


async def test_body_above_the_limit_of_the_server_is_refused_for_every_tenant() -> None:
    sections = {"api": {"body_limit_bytes": 500}, "settings": {"MaxUserPayloadBytes": 1000}}
    async with service_with(**sections) as service:
        expect(await service.publish(b"x" * 501), 413, "the body is larger than 500 bytes")


async def test_body_that_comes_too_slowly_is_given_up() -> None:
    async with service_with(api={"request_timeout_s": 0.05}) as service, await service.open_stream() as stream:
        await stream.send_all(
            b"POST /pub HTTP/1.1\r\nhost: x\r\ntenant_id: acme\r\ntopic: a\r\nqos: 1\r\nclient_type: t\r\n"
            b"content-length: 10\r\n\r\nhalf"
        )
        answer = b"".join([bytes(data) async for data in stream])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"the request did not arrive in time")


async def test_client_that_leaves_in_the_middle_of_its_body_publishes_nothing(service: Service) -> None:
    async with service.connect(client_id="c", username="acme/bob") as client:
        await client.subscribe("#")
        async with await service.open_stream() as stream:
            await stream.send_all(
                b"POST /pub HTTP/1.1\r\nhost: x\r\ntenant_id: acme\r\ntopic: a\r\nqos: 1\r\nclient_type: t\r\n"
                b"content-length: 10\r\n\r\nhalf"
            )
        expect(await service.publish(topic="after"), 200, "OK")
        assert (await client.receive_message()).topic == "after"
