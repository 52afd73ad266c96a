"""Publications to random ones of very many topics: what is looked at beforehand changes nothing of what arrives."""

import random
from collections.abc import Iterator

import pytest

from support import packets
from support.memory_broker import Broker, Client
from support.packets import MQTT_5_0, Pingreq, Pingresp, Publish, Subscribe, Subscription

TOPICS = 5000  # more than a match cache holds while it counts as near
FILTERS_AT_ONCE = 10


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


@pytest.fixture
def reader(broker: Broker) -> Client:
    """Has a filter for each topic, and has got a message of each, so that all are cached."""
    reader = broker.connect("reader")
    reader.send(
        *(
            Subscribe(
                packet_id=1 + first,
                subscriptions=tuple(Subscription(f"t/{number}") for number in range(first, first + FILTERS_AT_ONCE)),
            )
            for first in range(0, TOPICS, FILTERS_AT_ONCE)
        )
    )
    assert len(reader.take_all()) == TOPICS // FILTERS_AT_ONCE
    warmer = broker.connect("warmer")
    assert _publish(warmer, reader, list(range(TOPICS))) == list(range(TOPICS))
    return reader


def _encode(number: int) -> bytes:
    return packets.encode(Publish(topic=f"t/{number}", payload=b"%d" % number), MQTT_5_0)


def _numbers(reader: Client) -> list[int]:
    """Of the messages that have come."""
    numbers = []
    for packet in reader.take_all():
        assert isinstance(packet, Publish)
        assert packet.topic == "t/" + packet.payload.decode()
        numbers.append(int(packet.payload))
    return numbers


def _publish(writer: Client, reader: Client, numbers: list[int]) -> list[int]:
    writer.send_bytes(b"".join(map(_encode, numbers)))
    return _numbers(reader)


def test_each_message_arrives_once_and_in_order(broker: Broker, reader: Client) -> None:
    numbers = random.Random(1).sample(range(TOPICS), TOPICS)
    assert _publish(broker.connect("writer"), reader, numbers) == numbers


def test_topics_that_nobody_wants_reach_nobody(broker: Broker, reader: Client) -> None:
    numbers = random.Random(2).choices(range(2 * TOPICS), k=TOPICS)
    assert _publish(broker.connect("writer"), reader, numbers) == [number for number in numbers if number < TOPICS]


def test_other_packets_in_between_are_answered(broker: Broker, reader: Client) -> None:
    writer = broker.connect("writer")
    ping = packets.encode(Pingreq(), MQTT_5_0)
    numbers = random.Random(3).sample(range(TOPICS), 2000)
    writer.send_bytes(b"".join(_encode(number) + ping for number in numbers))
    assert _numbers(reader) == numbers
    assert writer.take_all() == [Pingresp()] * len(numbers)


def test_topic_filter_that_goes_meanwhile_is_not_matched(broker: Broker, reader: Client) -> None:
    writer = broker.connect("writer")
    numbers = random.Random(4).sample(range(TOPICS), 1000)
    assert _publish(writer, reader, numbers) == numbers
    for gone in range(0, TOPICS, 100):
        reader.unsubscribe(f"t/{gone}")
    assert _publish(writer, reader, numbers) == [number for number in numbers if number % 100]


def test_malformed_packet_in_between_closes_the_connection(broker: Broker, reader: Client) -> None:
    writer = broker.connect("writer")
    numbers = random.Random(5).sample(range(TOPICS), 1000)
    assert _publish(writer, reader, numbers) == numbers
    # A topic that is longer than its packet.
    writer.send_bytes(b"".join(map(_encode, numbers[:5])) + b"\x30\x03\xff\xffx" + _encode(7))
    assert _numbers(reader) == numbers[:5]
    assert not writer.is_open
