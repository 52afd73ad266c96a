"""A client that sends a packet byte by byte keeps memory and never ends: it has a time for each packet."""

import pytest

from support.memory_broker import Broker, Client
from support.packets import MQTT_3_1_1, MQTT_5_0, Disconnect, Pingreq, Publish, Will, encode

PACKET_TIMEOUT_S = 60  # the default of `connections.packet_timeout_s`
SIZES = [100, 20_000, 100_000]  # kept with others', read into place: see core/shards/input.pxd


def _drip(broker: Broker, client: Client, packet: bytes, seconds: int) -> bytes:
    """A byte a second; the bytes that were not sent."""
    for second in range(seconds):
        client.send_bytes(packet[second : second + 1])
        broker.advance(1)
    return packet[seconds:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep_alive", [0, 10])
def test_packet_that_drips_in_ends_the_connection_and_leaves_the_will(size: int, keep_alive: int) -> None:
    broker = Broker()
    watcher = broker.connect("watcher")
    watcher.subscribe("gone")
    client = broker.connect("c", keep_alive=keep_alive, will=Will(topic="gone", payload=b"c"))
    _drip(broker, client, encode(Publish(topic="a", payload=bytes(size)), MQTT_5_0), PACKET_TIMEOUT_S - 2)
    assert client.is_open
    broker.advance(3)
    assert client.take(Disconnect).reason_code == 0x97
    assert not client.is_open
    assert watcher.take_message().payload == b"c"
    broker.close()


def test_client_of_3_1_1_is_closed() -> None:
    broker = Broker()
    client = broker.connect("c", version=MQTT_3_1_1)
    _drip(broker, client, encode(Publish(topic="a", payload=bytes(1000)), MQTT_3_1_1), PACKET_TIMEOUT_S + 1)
    assert not client.take_all()
    assert not client.is_open
    broker.close()


@pytest.mark.parametrize("size", SIZES)
def test_each_packet_has_a_time_of_its_own(size: int) -> None:
    broker = Broker()
    client = broker.connect("c")
    client.subscribe("a")
    packet = encode(Publish(topic="a", payload=bytes(size)), MQTT_5_0)
    rest = packet
    for _ in range(5):
        # Each ends before its time is over, in one piece with the beginning of the next.
        rest = _drip(broker, client, rest, PACKET_TIMEOUT_S - 10)
        client.send_bytes(rest + packet[:1])
        assert len(client.take_message().payload) == size
        rest = packet[1:]
    client.send_bytes(rest)
    assert len(client.take_message().payload) == size
    broker.advance(10 * PACKET_TIMEOUT_S)
    assert client.is_open, "nothing has begun to come"
    broker.close()


def test_time_in_which_a_rate_holds_the_client_does_not_count() -> None:
    broker = Broker(msg_pub_per_sec=1)
    client = broker.connect("c")
    packet = encode(Publish(topic="a", payload=bytes(100)), MQTT_5_0)
    client.send_bytes(packet * (2 * PACKET_TIMEOUT_S) + packet[:10])
    for _ in range(40 * (PACKET_TIMEOUT_S - 10)):
        broker.advance(0.05)
    assert client.is_open
    client.send_bytes(packet[10:])
    for _ in range(40 * 2 * PACKET_TIMEOUT_S):
        broker.advance(0.05)
    assert client.is_open
    broker.close()


def test_timeout_is_that_of_the_configuration() -> None:
    broker = Broker()
    broker.engine.set_packet_timeout(5000)
    client = broker.connect("c")
    client.send_bytes(encode(Publish(topic="a", payload=bytes(100)), MQTT_5_0)[:10])
    broker.advance(4)
    assert client.is_open
    broker.advance(2)
    assert client.take(Disconnect).reason_code == 0x97
    broker.engine.set_packet_timeout(0)
    patient = broker.connect("patient")
    patient.send_bytes(encode(Pingreq(), MQTT_5_0)[:1])
    broker.advance(10 * PACKET_TIMEOUT_S)
    assert patient.is_open
    broker.close()
