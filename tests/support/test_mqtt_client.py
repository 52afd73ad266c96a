"""The raw client against a scripted peer in memory."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from support import packets
from support.mqtt_client import Client, ConnectionClosed
from support.packets import (
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
)


class Peer:
    """The broker's end: sends what the test writes, remembers what the client sent."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *to_send: Packet) -> None:
        await self.stream.send_all(b"".join(packets.encode(packet, 5) for packet in to_send))

    async def receive(self) -> Packet:
        while True:
            packet, self._received = packets.decode(self._received, 5)
            if packet is not None:
                return packet
            self._received += await self.stream.receive_some()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Client, Peer]]:
    client_end, peer_end = trio.testing.memory_stream_pair()
    yield Client(client_end), Peer(peer_end)
    await client_end.aclose()
    await peer_end.aclose()


async def test_connect_sends_its_fields_and_returns_the_connack(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Connack(reason_code=0x87))
    connack = await client.connect(client_id="c", keep_alive=7)
    assert connack == Connack(reason_code=0x87)
    assert await peer.receive() == Connect(client_id="c", keep_alive=7)


async def test_subscribe_skips_what_comes_before_the_suback(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    early = Publish(topic="a", payload=b"retained", retain=True)
    await peer.send(early, Suback(packet_id=1, reason_codes=(1,)))
    suback = await client.subscribe("a", qos=1, retain_handling=2)
    assert suback.reason_codes == (1,)
    assert await peer.receive() == Subscribe(packet_id=1, subscriptions=(Subscription("a", 1, retain_handling=2),))
    assert await client.receive() == early


async def test_publish_completes_the_handshake_of_qos_2(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Pubrec(packet_id=1), Pubcomp(packet_id=1))
    assert await client.publish("a", b"x", qos=2) == Pubcomp(packet_id=1)
    assert await peer.receive() == Publish(topic="a", payload=b"x", qos=2, packet_id=1)
    assert await peer.receive() == Pubrel(packet_id=1)


async def test_publish_ends_with_a_pubrec_that_carries_an_error(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Pubrec(packet_id=1, reason_code=0x97))
    assert await client.publish("a", qos=2) == Pubrec(packet_id=1, reason_code=0x97)


async def test_received_message_is_acknowledged_unless_told_not_to(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(*(Publish(topic="a", qos=1, packet_id=packet_id) for packet_id in (3, 4)))
    await client.receive_message(acknowledge=False)
    await client.receive_message()
    assert await peer.receive() == Puback(packet_id=4)


async def test_second_message_waits_while_the_first_is_released(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    first, second = (Publish(topic="a", qos=2, packet_id=packet_id) for packet_id in (3, 4))
    await peer.send(first, second, Pubrel(packet_id=3), Pubrel(packet_id=4))
    assert [await client.receive_message(), await client.receive_message()] == [first, second]
    assert [await peer.receive() for _ in range(4)] == [
        Pubrec(packet_id=3),
        Pubcomp(packet_id=3),
        Pubrec(packet_id=4),
        Pubcomp(packet_id=4),
    ]


async def test_packet_in_pieces_is_put_together(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    message = Publish(topic="a", payload=b"x" * 300)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_bytewise, peer, packets.encode(message, 5))
        assert await client.receive() == message


async def send_bytewise(peer: Peer, data: bytes) -> None:
    for index in range(len(data)):
        await peer.stream.send_all(data[index : index + 1])
        await trio.testing.wait_all_tasks_blocked()


async def test_silence_is_proven_by_a_ping(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Pingresp())
    await client.expect_nothing()
    assert await peer.receive() == Pingreq()
    await peer.send(Publish(topic="a"), Pingresp())
    with pytest.raises(AssertionError, match="expected nothing, received Publish"):
        await client.expect_nothing()


async def test_close_may_follow_a_disconnect_and_nothing_else(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Disconnect(reason_code=0x8E))
    await peer.stream.send_eof()
    assert await client.expect_closed() == Disconnect(reason_code=0x8E)


async def test_message_before_the_close_is_a_failure(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.send(Publish(topic="a"))
    await peer.stream.send_eof()
    with pytest.raises(AssertionError, match="expected the connection to be closed, received Publish"):
        await client.expect_closed()


async def test_silent_peer_fails_at_the_deadline_and_says_what_came_instead(
    pair: tuple[Client, Peer], autojump_clock: trio.testing.MockClock
) -> None:
    client, peer = pair
    await peer.send(Pingresp())
    with pytest.raises(AssertionError, match=r"expected Suback 1 within 5 s; received so far: Pingresp\(\)"):
        await client.subscribe("a")


async def test_end_of_stream_is_told_apart_from_silence(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    await peer.stream.send_eof()
    with pytest.raises(ConnectionClosed, match="connection closed, expected a packet"):
        await client.receive()


async def test_dropped_connection_ends_without_disconnect(pair: tuple[Client, Peer]) -> None:
    client, peer = pair
    client.drop()
    assert await peer.stream.receive_some() == b""
