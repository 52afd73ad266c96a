"""The fixture that other projects use: found as they find it, from plain, asyncio and trio tests."""

import asyncio
import threading
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion

from rookery.server.plugins import PluginError
from rookery.server.pytest_plugin import MqttBroker, run_broker
from support import mqtt_client

DEADLINE_S = 10


def test_plain_client_meets_a_broker(mqtt_broker: MqttBroker) -> None:
    received: list[bytes] = []
    subscribed, arrived = threading.Event(), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)

    def on_message(_client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        received.append(bytes(message.payload))
        arrived.set()

    def on_connect(*_: Any) -> None:
        client.subscribe("a/+", qos=1)

    def on_subscribe(*_: Any) -> None:
        subscribed.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect(mqtt_broker.host, mqtt_broker.port)
    client.loop_start()
    assert subscribed.wait(DEADLINE_S)
    assert mqtt_broker.publish("a/b", b"x", qos=1) == 1
    assert arrived.wait(DEADLINE_S)
    client.disconnect()
    client.loop_stop()
    assert received == [b"x"]


def test_asyncio_client_meets_a_broker(mqtt_broker: MqttBroker) -> None:
    async def talk() -> bytes:
        async with aiomqtt.Client(mqtt_broker.host, mqtt_broker.port) as client:
            await client.subscribe("a")
            await client.publish("a", b"y")
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                return message.payload
        raise AssertionError("nothing came")

    assert asyncio.run(asyncio.wait_for(talk(), DEADLINE_S)) == b"y"


async def test_trio_test_meets_a_broker(mqtt_broker: MqttBroker) -> None:
    async with mqtt_client.connect((mqtt_broker.host, mqtt_broker.port), client_id="c") as client:
        await client.subscribe("a")
        assert await trio.to_thread.run_sync(lambda: mqtt_broker.publish("a", b"z")) == 1
        assert (await client.receive_message()).payload == b"z"


def test_each_test_has_a_broker_of_its_own(mqtt_broker: MqttBroker) -> None:
    with run_broker({}) as other:
        assert other.url != mqtt_broker.url
        mqtt_broker.publish("a", b"x", retain=True)
        assert other.publish("a", b"x") == 0


class TestOtherSettings:
    """A project overrides the configuration."""

    @pytest.fixture
    def mqtt_broker_config(self) -> dict[str, Any]:
        return {"settings": {"MaximumQoS": 0}}

    async def test_overridden_configuration_holds(self, mqtt_broker: MqttBroker) -> None:
        async with mqtt_client.connect((mqtt_broker.host, mqtt_broker.port), client_id="c") as client:
            assert client.connack is not None
            assert client.connack.maximum_qos == 0


def test_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(PluginError, match="no installed package"), run_broker({"plugins": {"it": {"use": "nobody"}}}):
        pytest.fail("it started")


def test_no_thread_is_left_behind() -> None:
    with run_broker({}):
        assert any(thread.name == "rookery-for-tests" for thread in threading.enumerate())
    assert not any(thread.name.startswith("rookery") for thread in threading.enumerate())
