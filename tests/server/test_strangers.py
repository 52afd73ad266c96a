"""What is no MQTT on a port of MQTT: that connection is closed, told and counted, and nobody else notices."""

import contextlib
import logging

import pytest
import trio

from support import packets
from support.mqtt_client import DEADLINE_S
from support.own_broker import broker_with, connect
from support.packets import MQTT_5_0
from support.waiting import eventually

CLIENT_HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(500)


@pytest.mark.parametrize(
    "sent",
    [
        CLIENT_HELLO,
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n",
        packets.encode(packets.Pingreq(), MQTT_5_0),
        b"\x10\xff\xff\xff\xff",
        bytes(100),
    ],
    ids=["TLS", "HTTP", "PROXY", "PINGREQ first", "endless length", "zeros"],
)
async def test_connection_is_closed_logged_and_counted(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with broker_with() as broker, connect(broker, client_id="other") as other:
        async with await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream:
            with trio.fail_after(DEADLINE_S), contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(sent)
                while await stream.receive_some():
                    pass
        await eventually(lambda: broker.strangers.failed_count == 1)
        await other.publish("a", b"x", qos=1)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    (line,) = [line for line in lines if line["event"] == "connection_failed"]
    assert line["peer"].startswith("127.0.0.1:")
    assert line["reason"]


async def test_half_closed_connection_gets_its_answers_and_then_the_end() -> None:
    async with (
        broker_with() as broker,
        await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream,
    ):
        await stream.send_all(packets.encode(packets.Connect(client_id="c"), MQTT_5_0))
        assert (await stream.receive_some(1)) == b"\x20"
        await stream.send_eof()
        with trio.fail_after(DEADLINE_S), contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass


async def test_connection_that_ends_within_its_connect_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sent = packets.encode(packets.Connect(client_id="c"), MQTT_5_0)[:-1]
    async with broker_with() as broker, connect(broker, client_id="other") as other:
        async with await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            with trio.fail_after(DEADLINE_S):
                assert await stream.receive_some() == b""
        await eventually(lambda: broker.strangers.failed_count == 1)
        await other.publish("a", b"x", qos=1)
    assert any("the connection ended within its CONNECT" in str(record.msg) for record in caplog.records)


async def test_silent_connection_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        broker_with(connections={"timeout_s": 0.05}) as broker,
        await trio.open_tcp_stream(broker.mqtt_address.host, broker.mqtt_address.port) as stream,
    ):
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""
        await eventually(lambda: broker.strangers.timed_out_count == 1)
    assert any("no CONNECT came in time" in str(record.msg) for record in caplog.records)
