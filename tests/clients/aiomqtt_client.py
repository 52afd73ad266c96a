"""aiomqtt: paho-mqtt's protocol under an asyncio face. All its clients live on one event loop in one thread."""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .paho_client import connect_properties, message_properties, new_properties, read_message, will_properties
from .stranger import DEADLINE_S, MQTT_3_1_1, MQTT_5_0, Closed, Mailbox, Message, Options, Refused, Stranger

PROTOCOLS = {MQTT_3_1_1: aiomqtt.ProtocolVersion.V311, MQTT_5_0: aiomqtt.ProtocolVersion.V5}

T = TypeVar("T")


@contextmanager
def asyncio_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An asyncio event loop that runs in a thread of its own."""
    started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = concurrent.futures.Future()

    async def run() -> None:
        stopped = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    loop, stopped = started.result(DEADLINE_S)
    yield loop
    loop.call_soon_threadsafe(stopped.set)
    thread.join()


class Aiomqtt(Stranger):
    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self._loop = loop
        self._version = options.version
        self._mailbox = Mailbox()
        self._has_ended = False
        self._wait(self._connect(options))

    def subscribe(self, topic_filter: str, qos: int = 0, *, subscription_id: int | None = None) -> int:
        if self._version == MQTT_5_0:
            properties = new_properties(PacketTypes.SUBSCRIBE)
            if subscription_id is not None:
                properties.SubscriptionIdentifier = subscription_id
            subscribing = self._client.subscribe(topic_filter, options=SubscribeOptions(qos), properties=properties)
        else:
            subscribing = self._client.subscribe(topic_filter, qos)
        (reason_code,) = self._wait(subscribing)
        value: int = reason_code.value if isinstance(reason_code, ReasonCode) else reason_code
        return value

    def unsubscribe(self, topic_filter: str) -> None:
        self._wait(self._client.unsubscribe(topic_filter))

    def publish(self, *messages: Message) -> None:
        async def publish_all() -> None:
            await asyncio.gather(*map(self._publish, messages))

        self._wait(publish_all())

    def receive(self) -> Message:
        return self._mailbox.receive()

    def expect_closed(self) -> int | None:
        return self._mailbox.expect_closed()

    def disconnect(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._wait(self._disconnect())

    def drop(self) -> None:
        # aiomqtt offers no way to end without a DISCONNECT, so the ground is taken from under it.
        connection = self._client._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self.expect_closed()
        self.disconnect()

    async def _connect(self, options: Options) -> None:
        will = options.will
        is_5_0 = options.version == MQTT_5_0
        self._client = aiomqtt.Client(
            *options.address,
            identifier=options.client_id,
            protocol=PROTOCOLS[options.version],
            username=options.username,
            clean_session=None if is_5_0 else options.clean_start,
            clean_start=options.clean_start if is_5_0 else MQTT_CLEAN_START_FIRST_ONLY,
            keepalive=options.keep_alive,
            properties=connect_properties(options),
            will=None
            if will is None
            else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, will_properties(options)),
            max_inflight_messages=0,
        )
        # aiomqtt keeps Session Present to itself.
        self._client._client.on_connect = partial(self._on_connect, self._client._client.on_connect)
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttError as error:
            raise Refused(error) from error
        self._reading = asyncio.create_task(self._read())

    def _on_connect(self, on_connect: Any, client: Any, userdata: Any, flags: Any, *arguments: Any) -> None:
        self.session_present = flags.session_present
        on_connect(client, userdata, flags, *arguments)

    async def _read(self) -> None:
        try:
            async for message in self._client.messages:
                self._mailbox.put(read_message(message))
        except aiomqtt.MqttError as error:
            cause = error.__cause__ if error.__cause__ is not None else error
            reason = getattr(cause, "rc", None)
            self._mailbox.put(Closed(reason.value if isinstance(reason, ReasonCode) else None))

    async def _publish(self, message: Message) -> None:
        properties = message_properties(message, PacketTypes.PUBLISH) if self._version == MQTT_5_0 else None
        await self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)

    async def _disconnect(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._client.__aexit__(None, None, None)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)
