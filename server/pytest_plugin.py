"""A broker for the tests of any project: the pytest fixture `mqtt_broker`, there as soon as Rookery is installed.

    def test_sensor_reports(mqtt_broker):
        sensor = Sensor(mqtt_broker.host, mqtt_broker.port)
        ...

It runs in a thread of its own on a free port of the loopback address, so that it serves tests that block, asyncio's
and trio's alike. Each test gets a broker of its own: nothing is left of the test before. A project that wants other
settings overrides the fixture `mqtt_broker_config` with a dictionary like the file rookery.toml.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import trio

    from .broker import Broker

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


class MqttBroker:
    """A broker that runs in a thread. Its calls may come from any other thread; they block until they are done."""

    def __init__(self, broker: Broker, token: trio.lowlevel.TrioToken) -> None:
        self.host = broker.mqtt_address.host
        self.port = broker.mqtt_address.port
        self._broker = broker
        self._token = token

    @property
    def url(self) -> str:
        """`mqtt://127.0.0.1:40123`"""
        return f"mqtt://{self.host}:{self.port}"

    def publish(
        self, topic: str, payload: bytes = b"", *, qos: int = 0, retain: bool = False, tenant_id: str = "DevOnly"
    ) -> int:
        """Publish a message; to how many sessions it went. Raises what Broker.publish raises.

        tenant_id: that of clients without a username, or with one without a slash, unless said otherwise.
        """
        import trio

        async def publish() -> int:
            outcome = await self._broker.publish(tenant_id, topic, payload, qos=qos, retain=retain)
            return outcome.matched

        return trio.from_thread.run(publish, trio_token=self._token)


@contextmanager
def run_broker(config: dict[str, Any]) -> Iterator[MqttBroker]:
    """A broker in a thread while the block runs. Raises what open_broker raises, and TimeoutError."""
    import trio

    from .config import Config
    from .opening import open_broker

    values = {**config, "mqtt": {"bind": "127.0.0.1:0", **config.get("mqtt", {})}}
    parsed = Config.model_validate(values)
    is_ready = threading.Event()
    running: list[MqttBroker] = []
    failed: list[BaseException] = []
    scope = trio.CancelScope()

    async def serve() -> None:
        with scope:
            async with open_broker(parsed) as broker:
                running.append(MqttBroker(broker, trio.lowlevel.current_trio_token()))
                is_ready.set()
                await trio.sleep_forever()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            failed.append(error)
        is_ready.set()

    thread = threading.Thread(target=run, name="rookery-for-tests", daemon=True)
    thread.start()
    if not is_ready.wait(START_TIMEOUT_S):
        raise TimeoutError(f"the broker did not start within {START_TIMEOUT_S:g} s")
    try:
        if running:
            yield running[0]
    finally:
        if running:
            running[0]._token.run_sync_soon(scope.cancel)
        thread.join(STOP_TIMEOUT_S)
    if failed:
        raise failed[0]


@pytest.fixture
def mqtt_broker_config() -> dict[str, Any]:
    """Sections of the configuration of mqtt_broker; override it for other settings."""
    return {}


@pytest.fixture
def mqtt_broker(mqtt_broker_config: dict[str, Any]) -> Iterator[MqttBroker]:
    """A running broker with host, port, url and publish(); it ends with the test."""
    with run_broker(mqtt_broker_config) as broker:
        yield broker
