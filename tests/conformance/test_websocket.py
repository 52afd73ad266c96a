"""MQTT in WebSocket frames [MQTT5 6; MQTT 3.1.1 6], over real sockets."""

from collections.abc import AsyncIterator

import pytest
import trio
from websockets.frames import Opcode

from rookery.server.broker import Broker
from support import packets
from support.mqtt_client import DEADLINE_S, Client
from support.own_broker import broker_with
from support.packets import MQTT_3_1_1, MQTT_5_0, Connect, Publish
from support.websocket import open_websocket

VERSIONS = pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with broker_with(listeners={"browsers": {"kind": "ws", "bind": "127.0.0.1:0"}}) as broker:
        yield broker


@VERSIONS
async def test_mqtt5_6_0_0_1_mqtt311_6_0_0_1_server_sends_binary_frames_and_closes_on_others(
    broker: Broker, version: int
) -> None:
    async with open_websocket(broker.addresses["browsers"]) as (pipe, _):
        client = Client(pipe, version)
        await client.connect(client_id="c")
        await client.subscribe("a", qos=1)
        await client.publish("a", b"x" * 100_000, qos=1)
        assert (await client.receive_message()).payload == b"x" * 100_000
        assert set(pipe.opcodes) == {Opcode.BINARY}
        pipe.protocol.send_text(b"text")
        await pipe.flush()
        with trio.fail_after(DEADLINE_S):
            assert await pipe.receive_some() == b""
        assert pipe.protocol.close_rcvd is not None
        assert pipe.protocol.close_rcvd.code == 1003


@VERSIONS
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_mqtt5_6_0_0_2_mqtt311_6_0_0_2_packets_begin_and_end_anywhere_in_frames(
    broker: Broker, version: int, size: int
) -> None:
    async with open_websocket(broker.addresses["browsers"]) as (pipe, _):
        client = Client(pipe, version)
        to_send = packets.encode(Connect(client_id="c", version=version), version) + b"".join(
            packets.encode(Publish(topic="a", payload=bytes(40), qos=1, packet_id=number), version)
            for number in range(1, 20)
        )
        for part in _parts(to_send, size):
            pipe.protocol.send_binary(part)
        await pipe.flush()
        await client.receive_first(packets.Connack)
        for number in range(1, 20):
            await client.receive_first(packets.Puback, number)


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("offered", [("mqtt",), ("mqttv3.1", "mqtt"), ("other", "mqtt")])
async def test_mqtt5_6_0_0_4_mqtt311_6_0_0_4_server_selects_the_subprotocol_mqtt(
    broker: Broker, offered: tuple[str, ...]
) -> None:
    async with open_websocket(broker.addresses["browsers"], subprotocols=offered) as (_, response):
        assert (response.status_code, response.headers["Sec-WebSocket-Protocol"]) == (101, "mqtt")
