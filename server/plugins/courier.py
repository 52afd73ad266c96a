"""A courier brings a plugin what is published in one tenant. It is a client of the broker, over a pair of sockets.

    shard --messages--> socket --> courier: decode, gather a batch --> plugin.deliver(batch)
          <--PUBACKs--                  '--- acknowledge what came with QoS 1 <--'

So everything that holds a slow client in check holds a slow plugin: while it does not take a batch nothing is read, the
socket fills, then the session's inbox (SessionInboxSize), then messages are dropped by the tenant's rule and counted.
No shard ever waits. All of this runs in the plugin's loop, which holds up nobody else.
"""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from rookery.core.wire.codec import decode_packet
from rookery.core.wire.packets import Publish
from rookery.core.wire.spec import QoS
from rookery.server.log import get_logger
from rookery.server.nurseries import only_error

from . import courier_packets as packets
from .contracts import Delivered
from .courier_packets import Kind

BATCH_LIMIT = 256  # messages of one call
UNACKNOWLEDGED_LIMIT = 1024  # messages of QoS 1 that are under way to the plugin
FIRST_PAUSE_S = 0.05  # after a call that failed; twice as long after each more in a row, breaker_s at most

_READ_SIZE = 65536  # bytes
_PACKET_LIMIT = 268_435_460  # bytes: the wire's own
_MQTT_5_0 = 5

_log = get_logger(__name__)


@dataclass(slots=True)
class DeliveryCounters:
    """What became of the messages for one plugin, over all tenants."""

    delivered: int = 0  # messages that it took
    lost: int = 0  # messages of QoS 0 that it failed at
    failures: int = 0  # calls that raised or were late
    connections: int = 0  # that its couriers have made
    rejected: int = 0  # connections that the tenant does not allow
    refused: int = 0  # topic filters that it does not allow


class CourierRefused(Exception):
    """The broker did not let a courier in."""


class Courier:
    """For one plugin and one tenant. interests may be replaced from any thread; call look afterwards."""

    def __init__(
        self,
        name: str,
        tenant_id: str,
        plugin: Any,
        counters: DeliveryCounters,
        *,
        timeout_s: float,
        breaker_s: float,
    ) -> None:
        self.tenant_id = tenant_id
        self.interests: Mapping[str, QoS] = {}  # topic filter -> QoS
        self._name = name
        self._plugin = plugin
        self._counters = counters
        self._timeout_s = timeout_s
        self._breaker_s = breaker_s
        self._failures_in_a_row = 0
        self._subscribed: dict[str, QoS] = {}
        self._asked: dict[int, tuple[str, QoS | None]] = {}  # packet id -> topic filter and QoS; None = to unsubscribe
        self._packet_id = 0
        self._changed = trio.Event()
        self._writing = trio.Lock()  # Acknowledgements and subscriptions come from two tasks.

    def look(self) -> None:
        """There are other interests; in the plugin's loop only."""
        self._changed.set()

    async def run(self, end: socket.socket) -> None:
        """Serve one connection until it closes; owns the socket. Raises CourierRefused."""
        self._subscribed.clear()
        self._asked.clear()
        self._changed = trio.Event()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(end)) as stream:
            with suppress(trio.BrokenResourceError), only_error():  # The broker may close it at any time.
                async with trio.open_nursery() as nursery:
                    await self._send(stream, packets.connect(self._name, receive_maximum=UNACKNOWLEDGED_LIMIT))
                    await self._read(stream, nursery)
                    nursery.cancel_scope.cancel()

    # Messages.

    async def _read(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        buffer = bytearray()
        while data := await stream.receive_some(_READ_SIZE):
            buffer += data
            start = 0
            batch: list[Publish] = []
            while (ends := packets.end_of_packet(buffer, start)) is not None:
                body, end = ends
                kind = buffer[start] >> 4
                if kind == Kind.PUBLISH:
                    message, _ = decode_packet(bytes(buffer[start:end]), _MQTT_5_0, _PACKET_LIMIT)
                    assert isinstance(message, Publish)
                    batch.append(message)
                    if len(batch) == BATCH_LIMIT:
                        await self._hand_over(stream, batch)
                        batch = []
                else:
                    self._heed(kind, bytes(buffer[body:end]), stream, nursery)
                start = end
            del buffer[:start]
            if batch:
                await self._hand_over(stream, batch)

    async def _hand_over(self, stream: trio.SocketStream, batch: Sequence[Publish]) -> None:
        """Until the plugin has taken what came with QoS 1; what came with QoS 0 is lost when it fails."""
        while batch:
            try:
                with trio.fail_after(self._timeout_s):
                    await self._plugin.deliver([_delivered(self.tenant_id, message) for message in batch])
            except Exception as error:  # also what its own nurseries raised
                self._note_failure(error)
                certain = [message for message in batch if message.qos]
                self._counters.lost += len(batch) - len(certain)
                batch = certain
                await trio.sleep(min(FIRST_PAUSE_S * 2 ** min(self._failures_in_a_row - 1, 16), self._breaker_s))
            else:
                self._failures_in_a_row = 0
                self._counters.delivered += len(batch)
                break
        acknowledgements = b"".join(packets.acknowledge(message.packet_id) for message in batch if message.qos)
        if acknowledgements:
            await self._send(stream, acknowledgements)
        else:
            await trio.lowlevel.checkpoint()

    def _note_failure(self, error: Exception) -> None:
        self._counters.failures += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row == 1:  # After that the log would say the same over and over.
            late = isinstance(error, trio.TooSlowError)
            _log.warning(
                "plugin_failed",
                plugin=self._name,
                point="SubBroker",
                tenant=self.tenant_id,
                reason=f"took longer than {self._timeout_s:g} s" if late else f"{type(error).__name__}: {error}",
                exc_info=None if late else error,
            )

    # Everything else.

    def _heed(self, kind: int, body: bytes, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        if kind == Kind.CONNACK:
            if body[1] >= 0x80:
                self._counters.rejected += 1
                raise CourierRefused(f"CONNACK {body[1]:#04x}")
            self._counters.connections += 1
            nursery.start_soon(self._subscribe, stream)
        elif kind in (Kind.SUBACK, Kind.UNSUBACK):
            # Behind the packet id and the properties is one reason code, for one topic filter.
            topic_filter, qos = self._asked.pop(int.from_bytes(body[:2], "big"))
            if qos is not None and body[-1] >= 0x80:
                self._counters.refused += 1
                # It stays in _subscribed, so that it is not asked for again before the interests change.
                _log.warning(
                    "interest_refused",
                    plugin=self._name,
                    tenant=self.tenant_id,
                    topic_filter=topic_filter,
                    reason_code=f"{body[-1]:#04x}",
                )

    async def _subscribe(self, stream: trio.SocketStream) -> None:
        """Bring the subscriptions to what the plugin is interested in, whenever that changes."""
        while True:
            wanted = self.interests
            for topic_filter in self._subscribed.keys() - wanted.keys():
                del self._subscribed[topic_filter]
                await self._send(stream, packets.unsubscribe(self._ask(topic_filter, None), topic_filter))
            for topic_filter, qos in wanted.items():
                if self._subscribed.get(topic_filter) != qos:
                    self._subscribed[topic_filter] = qos
                    await self._send(stream, packets.subscribe(self._ask(topic_filter, qos), topic_filter, qos))
            await self._changed.wait()
            self._changed = trio.Event()

    def _ask(self, topic_filter: str, qos: QoS | None) -> int:
        while True:
            self._packet_id = self._packet_id % 65535 + 1
            if self._packet_id not in self._asked:
                self._asked[self._packet_id] = (topic_filter, qos)
                return self._packet_id

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        async with self._writing:
            await stream.send_all(data)


def _delivered(tenant_id: str, message: Publish) -> Delivered:
    return Delivered(
        tenant_id,
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.dup,
        message.message_expiry_interval,
        message.payload_format_indicator == 1,
        message.content_type,
        message.response_topic,
        message.correlation_data,
        message.user_properties,
    )
