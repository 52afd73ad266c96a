"""A raw MQTT client on trio: it sends what it is told and shows what it gets.

Nothing happens by itself: no keep-alive, no acknowledgement, no reconnect, no check of what a packet says. Helpers
such as publish() complete a handshake because the test asks for it by calling them. Every await for the peer ends at
a deadline with an AssertionError that names what was awaited and what came instead.

    async with connect(broker.mqtt, client_id="reader") as client:
        await client.subscribe("a/+", qos=1)
        await client.publish("a/b", b"x", qos=2)
        message = await client.receive_message()

A Client needs no socket: anything with send_all and receive_some will do, such as one end of
trio.testing.memory_stream_pair() with the core at the other.
"""

import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, TypeVar

import trio

from . import packets
from .packets import (
    MQTT_5_0,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)

DEADLINE_S = 5.0

PacketT = TypeVar("PacketT")


class BytePipe(Protocol):
    """What a Client speaks over; any trio stream is one."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self) -> bytes | bytearray:
        """Some bytes, at least one; none when the peer has closed."""


class ConnectionClosed(AssertionError):
    """The peer closed the connection while the test still expected something."""


class ConnectionRefused(Exception):
    """The CONNACK carries a reason code other than success."""

    def __init__(self, connack: Connack) -> None:
        reason = "" if connack.reason_string is None else f": {connack.reason_string}"
        super().__init__(f"CONNACK with reason code 0x{connack.reason_code:02X}{reason}")
        self.connack = connack


@contextlib.asynccontextmanager
async def connect(address: tuple[str, int], *, version: int = MQTT_5_0, **fields: Any) -> AsyncIterator["Client"]:
    """A client that is connected to the broker at this address; fields are those of Connect.

    Raises ConnectionRefused if the broker says no. Leaving the block disconnects normally, so that no Will is left
    behind, and closes the socket; if the block fails, the socket is closed only.
    """
    async with open_connection(address, version=version) as client:
        connack = await client.connect(**fields)
        if connack.reason_code != 0:
            raise ConnectionRefused(connack)
        yield client
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await client.disconnect()
            # Whatever the test does next finds the client gone.
            with trio.move_on_after(DEADLINE_S):
                while await client.stream.receive_some():
                    pass


@contextlib.asynccontextmanager
async def open_connection(address: tuple[str, int], *, version: int = MQTT_5_0) -> AsyncIterator["Client"]:
    """A client over a new TCP connection that has sent nothing yet. Leaving the block closes the socket."""
    host, port = address
    with trio.fail_after(DEADLINE_S):
        stream = await trio.open_tcp_stream(host, port)
    async with stream:
        yield Client(stream, version)


class Client:
    """One connection, from the client's side.

    Packets that a helper skips while it waits for another one stay in their order for the next receive.
    """

    def __init__(self, stream: BytePipe, version: int = MQTT_5_0, *, deadline_s: float = DEADLINE_S) -> None:
        self.stream = stream
        self.version = version
        self.deadline_s = deadline_s
        self.connack: Connack | None = None
        self._undecoded = b""
        self._skipped: deque[Packet] = deque()
        self._packet_id = 0

    # Packets and bytes.

    async def send(self, *to_send: Packet) -> None:
        """Send these packets in one piece."""
        await self.send_bytes(b"".join(packets.encode(packet, self.version) for packet in to_send))

    async def send_bytes(self, data: bytes) -> None:
        with self._deadline("taking our bytes"):
            await self.stream.send_all(data)

    async def receive(self) -> Packet:
        """The next packet, whatever it is."""
        if self._skipped:
            return self._skipped.popleft()
        return await self._receive_from_stream("a packet")

    async def receive_first(self, packet_class: type[PacketT], packet_id: int | None = None) -> PacketT:
        """The next packet of this class (and with this packet identifier); others wait for the next receive."""
        what = packet_class.__name__ + ("" if packet_id is None else f" {packet_id}")
        return await self._receive_matching(
            lambda packet: (
                packet
                if isinstance(packet, packet_class) and packet_id in (None, getattr(packet, "packet_id", None))
                else None
            ),
            what,
        )

    def next_packet_id(self) -> int:
        """Packet identifiers in their order, from 1."""
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    # The words of the domain.

    async def connect(self, **fields: Any) -> Connack:
        """Send CONNECT with these fields, receive CONNACK; what it says is for the caller to judge."""
        await self.send(Connect(version=self.version, **fields))
        self.connack = await self.receive_first(Connack)
        return self.connack

    async def subscribe(
        self,
        *topic_filters: str | Subscription,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        **properties: Any,
    ) -> Suback:
        """Subscribe to topic filters with the same options, or to Subscriptions with their own."""
        packet_id = self.next_packet_id()
        subscriptions = tuple(
            Subscription(topic_filter, qos, no_local, retain_as_published, retain_handling)
            if isinstance(topic_filter, str)
            else topic_filter
            for topic_filter in topic_filters
        )
        await self.send(Subscribe(packet_id=packet_id, subscriptions=subscriptions, **properties))
        return await self.receive_first(Suback, packet_id)

    async def unsubscribe(self, *topic_filters: str, **properties: Any) -> Unsuback:
        packet_id = self.next_packet_id()
        await self.send(Unsubscribe(packet_id=packet_id, topic_filters=topic_filters, **properties))
        return await self.receive_first(Unsuback, packet_id)

    async def publish(
        self, topic: str, payload: bytes = b"", *, qos: int = 0, retain: bool = False, **properties: Any
    ) -> Puback | Pubrec | Pubcomp | None:
        """Publish and complete the handshake; the packet that ended it, None at QoS 0.

        QoS 2 ends with a PUBREC if that carries an error, else with the PUBCOMP (4.3.3).
        """
        packet_id = self.next_packet_id() if qos else 0
        await self.send(
            Publish(topic=topic, payload=payload, qos=qos, retain=retain, packet_id=packet_id, **properties)
        )
        if qos == 0:
            return None
        if qos == 1:
            return await self.receive_first(Puback, packet_id)
        pubrec = await self.receive_first(Pubrec, packet_id)
        if pubrec.reason_code >= 0x80:
            return pubrec
        await self.send(Pubrel(packet_id=packet_id))
        return await self.receive_first(Pubcomp, packet_id)

    async def receive_message(self, *, acknowledge: bool = True) -> Publish:
        """The next PUBLISH, after its handshake is complete unless acknowledge is False."""
        message = await self.receive_first(Publish)
        if acknowledge:
            await self.acknowledge(message)
        return message

    async def acknowledge(self, message: Publish) -> None:
        """Answer a received message as its QoS demands; at QoS 2 until the PUBCOMP is sent."""
        if message.qos == 1:
            await self.send(Puback(packet_id=message.packet_id))
        elif message.qos == 2:
            await self.send(Pubrec(packet_id=message.packet_id))
            await self.receive_first(Pubrel, message.packet_id)
            await self.send(Pubcomp(packet_id=message.packet_id))

    async def ping(self) -> None:
        """One PINGREQ and its PINGRESP: the broker has read all that was sent before."""
        await self.send(Pingreq())
        await self.receive_first(Pingresp)

    async def disconnect(self, reason_code: int = 0, **properties: Any) -> None:
        """Send DISCONNECT. The broker closes then, which expect_closed() awaits."""
        await self.send(Disconnect(reason_code=reason_code, **properties))

    def drop(self, *, reset: bool = False) -> None:
        """Close without DISCONNECT: by FIN, as a killed process does, or by RST, as a restarted machine may."""
        if isinstance(self.stream, trio.SocketStream):
            if reset:
                self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.stream.socket.close()
        elif isinstance(self.stream, trio.StapledStream):
            self.stream.send_stream.close()
            self.stream.receive_stream.close()
        else:
            raise TypeError(f"{self.stream!r} cannot be dropped by its client")

    # What must happen, what must not.

    async def expect_closed(self) -> Disconnect | None:
        """The broker closes, after a DISCONNECT at most, which is returned. Any other packet fails the test."""
        farewell: Disconnect | None = None
        while True:
            try:
                packet = await self.receive()
            except ConnectionClosed:
                return farewell
            if farewell is not None or not isinstance(packet, Disconnect):
                raise AssertionError(f"expected the connection to be closed, received {packet}")
            farewell = packet

    async def expect_nothing(self) -> None:
        """Nothing was waiting and nothing comes before the answer to a PINGREQ.

        This proves silence about everything that the broker had already routed to this connection. A broker with
        several threads may acknowledge a publication before another thread has delivered it: where that matters, let
        the publisher send a last message on the same topic and expect that one to be the first.
        """
        await self.send(Pingreq())
        packet = await self.receive()
        if not isinstance(packet, Pingresp):
            raise AssertionError(f"expected nothing, received {packet}")

    # Receiving.

    async def _receive_matching(self, select: Callable[[Packet], PacketT | None], what: str) -> PacketT:
        for position, packet in enumerate(self._skipped):
            selected = select(packet)
            if selected is not None:
                del self._skipped[position]
                return selected
        while True:
            packet = await self._receive_from_stream(what)
            selected = select(packet)
            if selected is not None:
                return selected
            self._skipped.append(packet)

    async def _receive_from_stream(self, what: str) -> Packet:
        with self._deadline(what):
            while True:
                packet, self._undecoded = packets.decode(self._undecoded, self.version)
                if packet is not None:
                    return packet
                try:
                    data = await self.stream.receive_some()
                except trio.BrokenResourceError:
                    data = b""  # A reset: for a test the same as an end.
                if not data:
                    raise ConnectionClosed(self._describe(f"connection closed, expected {what}"))
                self._undecoded += data

    @contextlib.contextmanager
    def _deadline(self, what: str) -> Iterator[None]:
        """One deadline per packet, so that a long burst has as many of them as packets."""
        try:
            with trio.fail_after(self.deadline_s):
                yield
        except trio.TooSlowError:
            raise AssertionError(self._describe(f"expected {what} within {self.deadline_s:g} s")) from None

    def _describe(self, problem: str) -> str:
        skipped = ", ".join(str(packet)[:200] for packet in self._skipped) or "nothing"
        undecoded = f", and in part {self._undecoded[:32].hex(' ')}" if self._undecoded else ""
        return f"{problem}; received so far: {skipped}{undecoded}"
