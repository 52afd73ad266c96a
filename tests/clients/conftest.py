"""Every test that asks for `connect` runs once for each library and protocol version."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from clients.aiomqtt_client import Aiomqtt, asyncio_thread
from clients.mqttjs_client import MqttJs, Node, NotInstalled, install_mqttjs, node_process
from clients.paho_client import Paho
from clients.stranger import MQTT_3_1_1, MQTT_5_0, Options, Stranger

from support.process import BrokerProcess

Library = Callable[[Options], Stranger]


@pytest.fixture(scope="session")
def event_loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio_thread() as loop:
        yield loop


@pytest.fixture(scope="session")
def mqttjs() -> None:
    """MQTT.js is installed."""
    if shutil.which("npm") is None:
        pytest.skip("MQTT.js needs npm, which is not installed")
    try:
        install_mqttjs()
    except NotInstalled as error:
        pytest.skip(f"MQTT.js cannot be installed: {error}")


@pytest.fixture(scope="session")
def node(mqttjs: None) -> Iterator[Node]:
    with node_process() as node:
        yield node


@pytest.fixture(params=["paho", "aiomqtt", "mqttjs"])
def library(request: pytest.FixtureRequest) -> Library:
    """The class of the library, with what it needs to live."""
    if request.param == "paho":
        return Paho
    if request.param == "aiomqtt":
        return partial(Aiomqtt, request.getfixturevalue("event_loop_in_thread"))
    return partial(MqttJs, request.getfixturevalue("node"))


@pytest.fixture(params=[MQTT_3_1_1, MQTT_5_0], ids=["3.1.1", "5.0"])
def version(request: pytest.FixtureRequest) -> int:
    protocol_version: int = request.param
    return protocol_version


@pytest.fixture
def connect(
    shared_broker: BrokerProcess, library: Library, version: int, unique: str
) -> Iterator[Callable[..., Stranger]]:
    """connect("reader", **options): a connection of the library under test; the arguments are those of Options.

    is_persistent=True asks for a session that outlives its connections, in the words of the protocol version. What a
    test leaves open is disconnected, and persistent sessions are removed.
    """
    persistent: dict[str, Options] = {}
    with ExitStack() as stack:

        def connect(name: str, *, is_persistent: bool = False, **arguments: Any) -> Stranger:
            if is_persistent:
                arguments["clean_start"] = False
                if version == MQTT_5_0:
                    arguments.setdefault("session_expiry_interval", 3600)
            arguments.setdefault("address", shared_broker.mqtt)
            options = Options(version=version, client_id=f"{unique}-{name}", **arguments)
            if is_persistent:
                persistent[name] = replace(options, clean_start=True, session_expiry_interval=None, will=None)
            stranger = library(options)
            stack.callback(stranger.disconnect)
            return stranger

        yield connect
    for options in persistent.values():
        library(options).disconnect()
