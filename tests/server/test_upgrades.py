"""WebSocket listeners: what comes in as HTTP, what goes to the shards, and what is turned away."""

import contextlib
import logging
from collections.abc import Callable

import pytest
import trio
from websockets.frames import CloseCode

from rookery.server.broker import Broker
from rookery.server.upgrades import REQUEST_SIZE_MAXIMUM
from support import mqtt_client, packets, websocket
from support.frames import BINARY, TEXT, close, frame
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.packets import MQTT_5_0, Connect, Disconnect
from support.waiting import eventually
from support.websocket import open_websocket

LISTENERS = {
    "browsers": {"kind": "ws", "bind": "127.0.0.1:0", "path": "/mqtt"},
    "second": {"kind": "tcp", "bind": "[::1]:0"},
}


async def _converse(broker: Broker, sent: bytes) -> bytes:
    """All that the listener answers to these bytes until it closes."""
    address = broker.addresses["browsers"]
    answer = b""
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(sent)
            async for chunk in stream:
                answer += chunk
    return answer


async def _until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_S):
        while not is_so():
            await trio.lowlevel.checkpoint()


async def test_clients_of_all_listeners_meet() -> None:
    async with broker_with(listeners=LISTENERS) as broker:
        second = broker.addresses["second"]
        async with (
            websocket.connect(broker.addresses["browsers"], client_id="browser") as browser,
            mqtt_client.connect((second.host, second.port), client_id="device") as device,
        ):
            await browser.subscribe("a/#", qos=2)
            await device.publish("a/b", b"x" * 70_000, qos=2)
            assert (await browser.receive_message()).payload == b"x" * 70_000
        assert broker.entrances["browsers"].counts.admitted == 1


async def test_websockets_of_several_shards_meet() -> None:
    async with (
        broker_with(listeners=LISTENERS, shards={"count": 3}) as broker,
        websocket.connect(broker.addresses["browsers"], client_id="one") as one,
        websocket.connect(broker.addresses["browsers"], client_id="two") as two,
        websocket.connect(broker.addresses["browsers"], client_id="three") as three,
    ):
        for reader in (one, two, three):
            await reader.subscribe("a", qos=1)
        await one.publish("a", b"x", qos=1)
        for reader in (one, two, three):
            assert (await reader.receive_message()).payload == b"x"


async def test_bytes_behind_the_request_are_not_lost() -> None:
    packet = packets.encode(Connect(client_id="early"), MQTT_5_0)
    behind = bytes((0x82, 0x80 | len(packet), 0, 0, 0, 0)) + packet
    async with (
        broker_with(listeners=LISTENERS) as broker,
        open_websocket(broker.addresses["browsers"], behind_request=behind) as (pipe, _),
    ):
        assert (await Client(pipe).receive_first(packets.Connack)).reason_code == 0


async def test_ping_is_answered_and_close_is_echoed() -> None:
    async with (
        broker_with(listeners=LISTENERS) as broker,
        open_websocket(broker.addresses["browsers"]) as (pipe, _),
    ):
        client = Client(pipe)
        await client.connect(client_id="c")
        pipe.protocol.send_ping(b"are you there")
        pipe.protocol.send_binary(packets.encode(packets.Pingreq(), MQTT_5_0))
        await pipe.flush()
        await client.receive_first(packets.Pingresp)
        assert pipe.pongs == [b"are you there"]
        pipe.protocol.send_close(CloseCode.GOING_AWAY)
        await pipe.flush()
        with trio.fail_after(DEADLINE_S):
            assert await pipe.receive_some() == b""
        assert pipe.protocol.close_rcvd is not None
        assert pipe.protocol.close_rcvd.code == CloseCode.GOING_AWAY


async def test_disconnect_in_front_of_a_close_frame_withholds_the_will() -> None:
    async with (
        broker_with(listeners=LISTENERS) as broker,
        websocket.connect(broker.addresses["browsers"], client_id="watcher") as watcher,
        open_websocket(broker.addresses["browsers"]) as (pipe, _),
    ):
        await watcher.subscribe("#")
        client = Client(pipe)
        await client.connect(client_id="c", will=packets.Will(topic="will", payload=b"gone"))
        pipe.protocol.send_binary(packets.encode(Disconnect(), MQTT_5_0))
        pipe.protocol.send_close(CloseCode.NORMAL_CLOSURE)
        await pipe.flush()
        with trio.fail_after(DEADLINE_S):
            assert await pipe.receive_some() == b""
        await watcher.publish("after", b"")
        assert (await watcher.receive_message()).topic == "after"


async def test_clients_are_told_in_a_close_frame_when_the_broker_stops() -> None:
    async with (
        broker_with(listeners=LISTENERS) as broker,
        open_websocket(broker.addresses["browsers"]) as (pipe, _),
    ):
        client = Client(pipe)
        await client.connect(client_id="c")
        broker._stop()
        assert (await client.receive_first(Disconnect)).reason_code == 0x8B
        with trio.fail_after(DEADLINE_S):
            assert await pipe.receive_some() == b""
        assert pipe.protocol.close_rcvd is not None


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(packets.encode(Connect(client_id="c"), MQTT_5_0), b"400", id="plain MQTT"),
        pytest.param(bytes.fromhex("160301020001000001fc0303") + bytes(500), b"400", id="TLS"),
        pytest.param(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", b"426", id="no upgrade"),
        pytest.param(b"POST /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", b"405", id="POST"),
        pytest.param(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", b"404", id="other path"),
        pytest.param(b"GET /mqtt HTTP/1.0\r\n\r\n", b"505", id="HTTP/1.0"),
        pytest.param(b"nonsense\r\n\r\n", b"400", id="nonsense"),
        pytest.param(b"GET / HTTP/1.1\r\nx: " + b"y" * (REQUEST_SIZE_MAXIMUM - 19 + 1), b"431", id="endless header"),
    ],
)
async def test_other_bytes_are_refused_and_others_go_on(sent: bytes, status: bytes) -> None:
    async with broker_with(listeners=LISTENERS) as broker:
        async with websocket.connect(broker.addresses["browsers"], client_id="other") as other:
            answer = await _converse(broker, sent)
            assert answer.split(b" ")[1].startswith(status)
            await other.publish("a", b"x", qos=1)
        assert (broker.entrances["browsers"].counts.failed, broker.entrances["browsers"].counts.admitted) == (1, 1)


@pytest.mark.parametrize("offered", [("wamp",), ()])
async def test_wrong_subprotocol_is_refused(offered: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        broker_with(listeners=LISTENERS) as broker,
        open_websocket(broker.addresses["browsers"], subprotocols=offered) as (_, response),
    ):
        assert response.status_code == 400
        await eventually(lambda: broker.entrances["browsers"].counts.failed == 1)
    (reason,) = _reasons(caplog, "upgrade_failed")
    assert "400" in reason
    assert "protocol" in reason.lower()


@pytest.mark.parametrize(("origin", "status"), [("https://ours.example", 101), ("https://theirs.example", 403)])
async def test_pages_of_other_origins_are_refused(origin: str, status: int) -> None:
    browsers = {**LISTENERS["browsers"], "origins": ["https://ours.example"]}
    async with (
        broker_with(listeners={"browsers": browsers}) as broker,
        open_websocket(broker.addresses["browsers"], origin=origin) as (_, response),
    ):
        assert response.status_code == status


@pytest.mark.parametrize("is_client", [False, True], ids=["stranger", "client"])
@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        pytest.param(frame(TEXT, b"\xc0\x00"), 1003, "a text frame", id="text"),
        pytest.param(b"\x82\x02\xc0\x00", 1002, "a frame that RFC 6455 forbids", id="unmasked"),
        pytest.param(
            frame(BINARY, b"\xc0\x00", first=0xC0 | BINARY), 1002, "a frame that RFC 6455 forbids", id="reserved bit"
        ),
        pytest.param(frame(11), 1002, "a frame that RFC 6455 forbids", id="reserved opcode"),
        pytest.param(close(1000, b"\xff"), 1007, "a close frame whose reason is no UTF-8", id="no UTF-8"),
    ],
)
async def test_wrong_frame_ends_the_connection_is_told_and_counted(
    sent: bytes, code: int, reason: str, is_client: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        broker_with(listeners=LISTENERS) as broker,
        websocket.connect(broker.addresses["browsers"], client_id="other") as other,
    ):
        async with open_websocket(broker.addresses["browsers"]) as (pipe, _):
            if is_client:
                await other.subscribe("will")
                await Client(pipe).connect(client_id="c", will=packets.Will(topic="will", payload=b"gone"))
            await pipe.stream.send_all(sent)
            with trio.fail_after(DEADLINE_S), contextlib.suppress(trio.BrokenResourceError):
                while await pipe.receive_some():
                    pass
        assert pipe.protocol.close_rcvd is not None
        assert pipe.protocol.close_rcvd.code == code
        if is_client:
            assert (await other.receive_message()).payload == b"gone"
        await eventually(lambda: broker.strangers.failed_count == 1)
        await other.publish("a", b"x", qos=1)
    assert _reasons(caplog, "connection_failed") == [reason]


def _reasons(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    """Of the lines about it in the log."""
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [line["reason"] for line in lines if line["event"] == event]


async def test_request_that_drips_in_is_cut() -> None:
    browsers = {**LISTENERS["browsers"], "handshake_timeout_s": 0.05}
    async with broker_with(listeners={"browsers": browsers}) as broker:
        assert await _converse(broker, b"GET /mqtt HTTP/1.1\r\n") == b""
        assert broker.entrances["browsers"].counts.failed == 1


async def test_upgrades_above_the_limit_are_closed() -> None:
    browsers = {**LISTENERS["browsers"], "handshakes_limit": 1}
    async with broker_with(listeners={"browsers": browsers}) as broker:
        address = broker.addresses["browsers"]
        async with await trio.open_tcp_stream(address.host, address.port) as slow:
            await slow.send_all(b"GET /mqtt HTTP/1.1\r\n")
            assert await _converse(broker, b"") == b""
            assert broker.entrances["browsers"].counts.turned_away == 1
        await _until(lambda: broker.entrances["browsers"].counts.failed == 1)
        async with websocket.connect(address, client_id="c") as client:
            await client.publish("a", b"x", qos=1)
