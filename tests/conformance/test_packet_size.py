"""Maximum Packet Size of a client: nothing larger is sent to it, and what cannot be sent counts as sent."""

from typing import Any

import pytest

from support.memory_broker import Broker, Client
from support.packets import Publish, Subscribe, Subscription

# Bytes of a PUBLISH of topic "t": fixed header, length of the topic, topic, packet identifier, property length.
QOS0_OVERHEAD = 2 + 2 + 1 + 1
QOS1_OVERHEAD = QOS0_OVERHEAD + 2
SIZE = 64
CONNACK_SIZE = 16  # of the one that a client of a broker with default settings gets


def limited(broker: Broker, **fields: Any) -> Client:
    """A subscriber of t that takes packets of SIZE bytes."""
    client = broker.connect("limited", maximum_packet_size=SIZE, **fields)
    client.subscribe(Subscription("t", qos=2))
    return client


def test_mqtt5_3_1_2_24_client_that_cannot_even_be_told_what_holds_is_refused(broker: Broker) -> None:
    assert broker.open().connect(client_id="c", maximum_packet_size=CONNACK_SIZE).reason_code == 0
    refused = broker.open().connect(client_id="c", maximum_packet_size=CONNACK_SIZE - 1)
    assert (refused.reason_code, refused.reason_string) == (0x95, None)


@pytest.mark.parametrize(("qos", "overhead"), [(0, QOS0_OVERHEAD), (1, QOS1_OVERHEAD), (2, QOS1_OVERHEAD)])
def test_mqtt5_3_1_2_24_largest_packet_that_a_client_takes_is_sent_and_one_byte_more_is_not(
    broker: Broker, qos: int, overhead: int
) -> None:
    client = limited(broker)
    publisher = broker.connect("publisher")
    publisher.publish("t", b"x" * (SIZE - overhead), qos=qos)
    assert len(client.take_message().payload) == SIZE - overhead
    publisher.publish("t", b"x" * (SIZE - overhead + 1), qos=qos)
    client.expect_nothing()
    assert client.is_open


def test_mqtt5_3_1_2_24_retained_message_that_is_too_large_is_left_out_and_the_others_come(broker: Broker) -> None:
    publisher = broker.connect("publisher")
    publisher.publish("r/large", b"x" * SIZE, retain=True)
    publisher.publish("r/small", b"x", retain=True)
    client = broker.connect("limited", maximum_packet_size=SIZE)
    client.subscribe("r/#")
    assert [message.topic for message in client.take_messages()] == ["r/small"]


def test_mqtt5_3_1_2_24_reason_string_that_makes_an_answer_too_large_is_left_out(broker: Broker) -> None:
    with_room = broker.connect("a", maximum_packet_size=SIZE)
    assert with_room.subscribe("a/#/b").reason_string
    client = broker.connect("b", maximum_packet_size=CONNACK_SIZE)
    answer = client.subscribe("a/#/b")
    assert (answer.reason_codes, answer.reason_string) == ((0x8F,), None)


def test_mqtt5_3_1_2_24_disconnect_without_room_for_its_reason_is_sent_without_it(broker: Broker) -> None:
    client = broker.connect("c", maximum_packet_size=CONNACK_SIZE)
    client.send(Publish(topic="#", payload=b"", qos=0))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x90
    assert farewell.reason_string is None


def test_mqtt5_3_1_2_25_message_too_large_for_one_client_reaches_the_others(broker: Broker) -> None:
    client = limited(broker)
    other = broker.connect("other")
    other.subscribe(Subscription("t", qos=2))
    answer = broker.connect("publisher")
    answer.publish("t", b"x" * SIZE, qos=1)
    assert len(other.take_message().payload) == SIZE
    client.expect_nothing()
    assert broker.count("messages_dropped") == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_3_1_2_25_message_too_large_counts_as_sent_and_blocks_nothing(broker: Broker, qos: int) -> None:
    client = limited(broker, receive_maximum=1, session_expiry_interval=100)
    publisher = broker.connect("publisher")
    for _ in range(3):
        publisher.publish("t", b"x" * SIZE, qos=qos)
    publisher.publish("t", b"small", qos=qos)
    assert client.take_message().payload == b"small"
    session = broker.session("limited")
    assert session is not None
    assert (session.inflight_count, session.inbox_count) == (0, 0)


def test_mqtt5_3_1_2_25_message_that_became_too_large_is_not_sent_again(broker: Broker) -> None:
    client = broker.connect("limited", session_expiry_interval=100)
    client.subscribe(Subscription("t", qos=1))
    broker.connect("publisher").publish("t", b"x" * SIZE, qos=1)
    assert client.take(Publish).qos == 1
    client.drop()
    client = broker.connect("limited", session_expiry_interval=100, clean_start=False, maximum_packet_size=SIZE)
    client.expect_nothing()
    session = broker.session("limited")
    assert session is not None
    assert session.inflight_count == 0
    assert broker.count("messages_dropped") == 1


def test_mqtt5_3_1_2_24_suback_that_does_not_fit_is_not_sent_and_the_subscription_holds(broker: Broker) -> None:
    client = broker.connect("c", maximum_packet_size=CONNACK_SIZE)
    filters = tuple(Subscription(f"f/{number}") for number in range(12))
    client.send(Subscribe(packet_id=1, subscriptions=filters))  # its answer has 17 bytes
    client.expect_nothing()
    broker.connect("publisher").publish("f/11", b"x" * 12)
    client.expect_nothing()  # nor does this fit
    session = broker.session("c")
    assert session is not None
    assert session.subscription_count == 12
