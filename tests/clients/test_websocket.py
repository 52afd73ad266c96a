"""MQTT over WebSocket, by the libraries that speak it: paho and MQTT.js."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.conftest import Library
from clients.mqttjs_client import MqttJs
from clients.paho_client import Paho
from clients.stranger import Message, Options

from support.process import BrokerProcess, start_broker

CONFIGURATION = """
[listeners.browsers]
kind = "ws"
bind = "127.0.0.1:0"
path = "/over/here"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    file: Path = tmp_path_factory.mktemp("websocket") / "rookery.toml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    with start_broker("--config", str(file)) as broker:
        yield broker


@pytest.fixture(params=["paho", "mqttjs"])
def browser(request: pytest.FixtureRequest) -> Library:
    """A library that speaks WebSocket; aiomqtt is paho underneath."""
    if request.param == "paho":
        return Paho
    node = request.getfixturevalue("node")
    return lambda options: MqttJs(node, options)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_cross_between_websocket_and_tcp(
    broker: BrokerProcess, browser: Library, version: int, qos: int
) -> None:
    over_websocket = browser(
        Options(address=broker.addresses["browsers"], version=version, client_id="page", websocket_path="/over/here")
    )
    over_tcp = Paho(Options(address=broker.mqtt, version=version, client_id="device"))
    sizes = [0, 1, 125, 126, 5_000, 65_536, 200_000]
    over_websocket.subscribe("to/page", qos)
    over_tcp.subscribe("to/device", qos)
    over_websocket.publish(*(Message(topic="to/device", payload=bytes(size), qos=qos) for size in sizes))
    over_tcp.publish(*(Message(topic="to/page", payload=bytes(size), qos=qos) for size in sizes))
    for receiver in (over_websocket, over_tcp):
        assert [len(receiver.receive().payload) for _ in sizes] == sizes
        receiver.disconnect()
