"""The transport [MQTT5 4.2; MQTT 3.1.1 7.1]: here with the broker as a process and real sockets."""

import pytest

from support import raw
from support.mqtt_client import connect
from support.packets import MQTT_3_1_1, MQTT_5_0
from support.process import BrokerProcess


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
async def test_mqtt5_4_2_0_1_mqtt311_7_1_1_1_tcp_carries_everything_in_order_and_without_loss(
    shared_broker: BrokerProcess, unique: str, version: int
) -> None:
    async with connect(shared_broker.mqtt, version=version, client_id=unique) as client:
        await client.subscribe(f"{unique}/#", qos=1)
        sizes = [0, 1, 100, 5_000, 60_000, 200_000, 3]
        for number, size in enumerate(sizes):
            await client.publish(f"{unique}/{number}", bytes(size), qos=1)
        received = [await client.receive_message() for _ in sizes]
        assert [(message.topic, message.payload) for message in received] == [
            (f"{unique}/{number}", bytes(size)) for number, size in enumerate(sizes)
        ]


@pytest.mark.parametrize("version", raw.VERSIONS)
async def test_mqtt311_7_0_0_2_a_client_that_knows_the_standard_alone_is_served(
    shared_broker: BrokerProcess, unique: str, version: int
) -> None:
    # The client of the tests is written from the standards and knows nothing of this broker.
    async with connect(shared_broker.mqtt, version=version, client_id=unique) as client:
        await client.subscribe(unique, qos=2)
        await client.publish(unique, b"x", qos=2)
        assert (await client.receive_message()).payload == b"x"
