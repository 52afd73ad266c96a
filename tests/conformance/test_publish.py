"""PUBLISH [MQTT5 3.3], but for topic aliases (test_aliases.py) and the flow of acknowledgements (test_delivery.py)."""

from collections.abc import Callable
from typing import Any

import pytest

from support import raw
from support.memory_broker import Broker, Client, expel
from support.packets import (
    MQTT_3_1_1,
    MQTT_5_0,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscription,
    Will,
    encode,
)
from support.raw import STANDARDS, text


def _persistent(version: int) -> dict[str, Any]:
    return {"clean_start": False, **({"session_expiry_interval": 100} if version == MQTT_5_0 else {})}


# Flags.


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_3_3_1_1_mqtt311_3_3_1_1_dup_marks_what_is_sent_again(broker: Broker, version: int, qos: int) -> None:
    client = broker.connect("client", version=version, **_persistent(version))
    client.subscribe("a", qos=qos)
    broker.connect("writer").publish("a", b"x", qos=qos)
    first = client.take_message(acknowledge=False)
    assert not first.dup
    client.drop()
    client = broker.connect("client", version=version, **_persistent(version))
    second = client.take_message()
    assert second.dup
    assert (second.packet_id, second.payload, second.qos) == (first.packet_id, b"x", qos)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_3_1_2_mqtt311_3_3_1_2_dup_at_qos_0_ends_the_connection(broker: Broker, version: int) -> None:
    expel(broker, raw.publish(b"a", version=version, flags=0b1000), version=version, reason_code=0x82)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_3_3_1_3_mqtt311_3_3_1_3_dup_is_not_passed_on(broker: Broker, version: int, qos: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a", qos=qos)
    client.publish("a", b"x", qos=qos, dup=True)
    assert not client.take_message().dup


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_3_1_4_mqtt311_3_3_1_4_qos_3_ends_the_connection(broker: Broker, version: int) -> None:
    expel(broker, raw.publish(b"a", version=version, flags=0b0110, packet_id=1), version=version)


# Retained messages.


def _retained(broker: Broker, topic_filter: str = "#", qos: int = 2) -> list[tuple[str, bytes, int, bool]]:
    """What a new subscriber gets at once."""
    client = broker.connect("looks at what is retained")
    client.subscribe(topic_filter, qos=qos)
    messages = client.take_messages()
    client.disconnect()
    return [(message.topic, message.payload, message.qos, message.retain) for message in messages]


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt5_3_3_1_5_mqtt311_3_3_1_5_mqtt311_3_3_1_7_a_retained_message_replaces_the_one_before(
    broker: Broker, version: int, qos: int
) -> None:
    writer = broker.connect("writer", version=version)
    for payload, other_qos in ((b"first", 2), (b"second", 1), (b"third", qos)):
        writer.publish("a/b", payload, qos=other_qos, retain=True)
    writer.publish("a/c", b"other", retain=True)
    assert _retained(broker, "a/b") == [("a/b", b"third", qos, True)]
    assert broker.count("retained_messages") == 2


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_3_1_6_mqtt311_3_3_1_10_an_empty_payload_clears_the_retained_message(
    broker: Broker, version: int
) -> None:
    reader = broker.connect("reader")
    reader.subscribe("a", retain_as_published=True)
    writer = broker.connect("writer", version=version)
    writer.publish("a", b"x", retain=True)
    writer.publish("a", b"", retain=True)
    assert [(message.payload, message.retain) for message in reader.take_messages()] == [(b"x", True), (b"", True)]
    assert _retained(broker) == []


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_3_1_7_mqtt311_3_3_1_11_an_empty_payload_is_not_stored(broker: Broker, version: int) -> None:
    broker.connect("writer", version=version).publish("a", b"", retain=True, qos=1)
    assert _retained(broker) == []
    assert broker.count("retained_messages") == 0


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("payload", [b"y", b""])
def test_mqtt5_3_3_1_8_mqtt311_3_3_1_12_a_message_without_retain_leaves_the_retained_one_alone(
    broker: Broker, version: int, payload: bytes
) -> None:
    writer = broker.connect("writer", version=version)
    writer.publish("b", payload)
    assert _retained(broker) == []
    writer.publish("a", b"x", retain=True)
    writer.publish("a", payload)
    assert _retained(broker) == [("a", b"x", 0, True)]


def test_mqtt5_3_3_1_9_retain_handling_0_sends_with_every_subscribe(broker: Broker) -> None:
    client = broker.connect("client")
    client.publish("a", b"x", retain=True)
    for _ in range(3):
        client.subscribe("a", retain_handling=0)
        assert [message.payload for message in client.take_messages()] == [b"x"]


def test_mqtt5_3_3_1_10_retain_handling_1_sends_for_a_new_subscription_only(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    client.publish("a", b"x", retain=True)
    client.subscribe("a", retain_handling=1)
    assert [message.payload for message in client.take_messages()] == [b"x"]
    client.subscribe("a", retain_handling=1)
    client.subscribe("a", retain_handling=1, qos=2)
    client.expect_nothing()
    client.drop()
    client = broker.connect("client", clean_start=False)
    client.subscribe("a", retain_handling=1)
    client.expect_nothing()
    client.unsubscribe("a")
    client.subscribe("a", retain_handling=1)
    assert [message.payload for message in client.take_messages()] == [b"x"]


def test_mqtt5_3_3_1_11_retain_handling_2_sends_nothing(broker: Broker) -> None:
    client = broker.connect("client")
    client.publish("a", b"x", retain=True)
    client.subscribe("a", retain_handling=2)
    client.expect_nothing()
    client.publish("a", b"y")
    assert client.take_message().payload == b"y"


@pytest.mark.parametrize("retain", [False, True])
def test_mqtt5_3_3_1_12_without_retain_as_published_the_flag_is_cleared(broker: Broker, retain: bool) -> None:
    client = broker.connect("client")
    client.subscribe("a", retain_as_published=False)
    client.publish("a", b"x", retain=retain)
    assert not client.take_message().retain


@pytest.mark.parametrize("retain", [False, True])
def test_mqtt5_3_3_1_13_with_retain_as_published_the_flag_stays(broker: Broker, retain: bool) -> None:
    client = broker.connect("client")
    client.subscribe("a", retain_as_published=True)
    client.publish("a", b"x", retain=retain)
    assert client.take_message().retain == retain


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt311_3_3_1_6_mqtt311_3_3_1_8_a_new_subscription_gets_what_is_retained(broker: Broker, version: int) -> None:
    writer = broker.connect("writer")
    for topic in ("a/1", "a/2", "b/1"):
        writer.publish(topic, b"old", retain=True, qos=1)
        writer.publish(topic, topic.encode(), retain=True, qos=1)
    client = broker.connect("client", version=version)
    client.subscribe("a/+", qos=1)
    messages = client.take_messages()
    assert sorted(message.topic for message in messages) == ["a/1", "a/2"]
    assert {(message.payload.decode() == message.topic, message.retain) for message in messages} == {(True, True)}


@pytest.mark.parametrize("version", [3, MQTT_3_1_1])
def test_mqtt311_3_3_1_9_an_established_subscription_gets_retain_0(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a")
    client.publish("a", b"x", retain=True)
    assert not client.take_message().retain


# Topic and properties.


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x05ab", b"\x00\x02a\xff"])
def test_mqtt5_3_3_2_1_mqtt311_3_3_2_1_a_topic_that_is_cut_short_or_no_string_ends_the_connection(
    broker: Broker, version: int, data: bytes
) -> None:
    expel(broker, raw.frame(0x30, data), version=version)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("topic", [b"a/+", b"#", b"a+b", b"a/#/b", b"a#"])
def test_mqtt5_3_3_2_2_mqtt5_4_7_0_1_mqtt311_3_3_2_2_mqtt311_4_7_1_1_a_wildcard_in_a_topic_ends_the_connection(
    broker: Broker, version: int, topic: bytes
) -> None:
    expel(broker, raw.publish(topic, version=version), version=version, reason_code=0x90)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_3_2_3_mqtt311_3_3_2_3_delivered_topics_match_the_subscription(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a/+/c", "d/#")
    writer = broker.connect("writer")
    topics = ["a/b/c", "a/b", "a/b/c/d", "d", "d/e/f", "x", "A/b/c"]
    for topic in topics:
        writer.publish(topic)
    assert [message.topic for message in client.take_messages()] == ["a/b/c", "d", "d/e/f"]


PROPERTIES: dict[str, Any] = {
    "payload_format_indicator": 1,
    "content_type": "text/plain; charset=€",
    "response_topic": "answers/€",
    "correlation_data": bytes(range(256)),
    "user_properties": (("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("€", "\ufeff")),
}


def _forward(broker: Broker, qos: int, **properties: Any) -> list[Publish]:
    """How a message arrives at one subscriber alone, at one of several, at an absent one, and as retained."""
    received = []
    writer = broker.connect("writer")
    alone = broker.connect("alone")
    alone.subscribe("alone", qos=qos)
    writer.publish("alone", b"x", qos=qos, **properties)
    received += alone.take_messages()
    many = [broker.connect(f"one of {number}") for number in range(3)]
    for client in many:
        client.subscribe("many", qos=qos)
    writer.publish("many", b"x", qos=qos, **properties)
    for client in many:
        received += client.take_messages()
    absent = broker.connect("absent", session_expiry_interval=100)
    absent.subscribe("absent", qos=qos)
    absent.drop()
    writer.publish("absent", b"x", qos=qos, retain=True, **properties)
    absent = broker.connect("absent", clean_start=False)
    received += absent.take_messages()
    absent.subscribe("absent", qos=qos)
    received += absent.take_messages()
    # A payload that is not copied but referred to.
    alone.subscribe("large", qos=qos)
    writer.publish("large", b"x" * 5000, qos=qos, **properties)
    received += alone.take_messages()
    assert len(received) == 7
    return received


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("indicator", [None, 0, 1])
def test_mqtt5_3_3_2_4_payload_format_indicator_is_passed_on(broker: Broker, qos: int, indicator: int | None) -> None:
    for message in _forward(broker, qos, payload_format_indicator=indicator):
        assert message.payload_format_indicator == indicator


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt5_3_3_2_15_mqtt5_3_3_2_16_mqtt5_3_3_2_17_mqtt5_3_3_2_18_mqtt5_3_3_2_20_properties_are_passed_on(
    broker: Broker, qos: int
) -> None:
    for message in _forward(broker, qos, **PROPERTIES):
        for name, value in PROPERTIES.items():
            assert getattr(message, name) == value


@pytest.mark.parametrize("name", PROPERTIES)
def test_each_property_is_passed_on_alone(broker: Broker, name: str) -> None:
    for message in _forward(broker, 1, **{name: PROPERTIES[name]}):
        for other in PROPERTIES:
            nothing: Any = () if other == "user_properties" else None
            assert getattr(message, other) == (PROPERTIES[name] if other == name else nothing)


def test_clients_of_three_x_get_no_properties(broker: Broker) -> None:
    clients = [broker.connect(f"{version} {n}", version=version) for version in raw.VERSIONS for n in range(2)]
    for client in clients:
        client.subscribe("a")
    broker.connect("writer").publish("a", b"x", message_expiry_interval=10, **PROPERTIES)
    for client in clients:
        assert client.take_message().payload == b"x"


def test_mqtt5_3_3_2_5_what_has_expired_is_not_delivered(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=1000)
    client.subscribe("a/#", qos=2)
    client.drop()
    writer = broker.connect("writer")
    for qos in range(3):
        writer.publish(f"a/{qos}", b"short", qos=qos, message_expiry_interval=10, retain=True)
        writer.publish("a/long", b"%d" % qos, qos=qos, message_expiry_interval=100)
    broker.advance(10.5)
    client = broker.connect("client", clean_start=False)
    assert [message.payload for message in client.take_messages()] == [b"0", b"1", b"2"]
    assert _retained(broker, "a/+") == []
    assert broker.count("retained_messages") == 0


def test_what_waits_behind_a_full_window_expires_there(broker: Broker) -> None:
    client = broker.connect("client", receive_maximum=1)
    client.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for payload, interval in ((b"sent", None), (b"expires", 10), (b"stays", 100)):
        writer.publish("a", payload, qos=1, message_expiry_interval=interval)
    sent = client.take_message(acknowledge=False)
    broker.advance(20)
    client.acknowledge(sent)
    assert [message.payload for message in client.take_messages()] == [b"stays"]


def test_mqtt5_3_3_2_6_the_expiry_that_is_left_is_passed_on(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=1000)
    client.subscribe("a", qos=1)
    writer = broker.connect("writer")
    writer.publish("a", b"at once", qos=1, message_expiry_interval=100, retain=True)
    assert client.take_message().message_expiry_interval == 100
    client.drop()
    writer.publish("a", b"later", qos=1, message_expiry_interval=100, retain=True)
    broker.advance(30)
    client = broker.connect("client", clean_start=False, session_expiry_interval=1000)
    assert client.take_message(acknowledge=False).message_expiry_interval == 70
    client.drop()
    broker.advance(40)
    client = broker.connect("client", clean_start=False)
    assert client.take_message().message_expiry_interval == 30
    client.subscribe("a", qos=1)
    assert client.take_message().message_expiry_interval == 30


def test_without_an_expiry_nothing_expires_and_nothing_is_told(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=1000)
    client.subscribe("a", qos=1)
    client.drop()
    broker.connect("writer").publish("a", b"x", qos=1)
    broker.advance(999)
    message = broker.connect("client", clean_start=False).take_message()
    assert message.message_expiry_interval is None


@pytest.mark.parametrize("content", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt5_3_3_2_13_a_response_topic_is_utf8(broker: Broker, content: bytes) -> None:
    expel(broker, raw.publish(b"a", properties=b"\x08" + text(content)))


@pytest.mark.parametrize("content", [b"#", b"a/+", b"a/#/b", b""])
def test_mqtt5_3_3_2_14_a_response_topic_has_no_wildcards(broker: Broker, content: bytes) -> None:
    expel(broker, raw.publish(b"a", properties=b"\x08" + text(content)), reason_code=0x82)


@pytest.mark.parametrize("content", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt5_3_3_2_19_a_content_type_is_utf8(broker: Broker, content: bytes) -> None:
    expel(broker, raw.publish(b"a", properties=b"\x03" + text(content)))


REPEATED = {
    "payload format indicator": b"\x01\x00",
    "message expiry interval": b"\x02\x00\x00\x00\x01",
    "content type": b"\x03\x00\x01a",
    "response topic": b"\x08\x00\x01a",
    "correlation data": b"\x09\x00\x01a",
    "topic alias": b"\x23\x00\x01",
}


@pytest.mark.parametrize("encoded", REPEATED.values(), ids=REPEATED)
def test_a_property_that_is_there_twice_is_a_protocol_error(broker: Broker, encoded: bytes) -> None:
    client = broker.connect("client")
    client.send_bytes(raw.publish(b"a", properties=encoded))
    client.ping()
    expel(broker, raw.publish(b"a", properties=encoded * 2), reason_code=0x82)


@pytest.mark.parametrize("identifier", [0x00, 0x11, 0x12, 0x15, 0x18, 0x1F, 0x21, 0x22, 0x27, 0x2B, 0x7F])
def test_a_property_of_other_packets_makes_a_publish_malformed(broker: Broker, identifier: int) -> None:
    expel(broker, raw.publish(b"a", properties=bytes((identifier, 0, 1, 97, 97))))


def test_a_payload_format_indicator_of_2_is_a_protocol_error(broker: Broker) -> None:
    expel(broker, raw.publish(b"a", properties=b"\x01\x02"), reason_code=0x82)


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b"a\xc3"])
def test_a_payload_that_is_not_the_text_it_says_to_be_is_refused(
    make_broker: Callable[..., Broker], payload: bytes
) -> None:
    broker = make_broker()
    client = broker.connect("client")
    client.subscribe("#", qos=2)
    for qos in (1, 2):
        assert client.publish("a", payload, qos=qos, payload_format_indicator=1, retain=True) == 0x99
    client.expect_nothing()
    assert broker.count("retained_messages") == 0
    client.disconnect()
    expel(broker, Publish(topic="a", payload=payload, payload_format_indicator=1), reason_code=0x99)
    client = make_broker(payload_format_validation_enabled=False).connect("client")
    assert client.publish("a", payload, qos=1, payload_format_indicator=1) == 0x10


def test_text_with_a_null_character_is_text(broker: Broker) -> None:
    client = broker.connect("client")
    assert client.publish("a", "a\0€".encode(), qos=1, payload_format_indicator=1) == 0x10


# What follows.


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_3_4_1_mqtt311_3_3_4_1_the_answer_is_as_the_qos_asks(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a")
    client.send(Publish(topic="a", qos=0))
    assert [type(packet) for packet in client.take_all()] == [Publish]
    client.send(Publish(topic="a", qos=1, packet_id=1))
    assert [type(packet) for packet in client.take_all()] == [Publish, Puback]
    client.send(Publish(topic="a", qos=2, packet_id=1))
    assert [type(packet) for packet in client.take_all()] == [Publish, Pubrec]
    client.send(Pubrel(packet_id=1))
    assert [type(packet) for packet in client.take_all()] == [Pubcomp]


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_3_4_2_mqtt311_3_3_5_1_overlapping_subscriptions_give_one_copy_with_the_highest_qos(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    client.subscribe(Subscription("a/#", 0), Subscription("a/+", 2), Subscription("a/b", 1))
    writer = broker.connect("writer")
    for qos in range(3):
        writer.publish("a/b", b"x", qos=qos)
        messages = client.take_messages()
        assert [message.qos for message in messages] == [qos]


def _subscribe_with_ids(client: Client) -> None:
    for topic_filter, subscription_id in (("a/#", 1), ("a/+", 268_435_455), ("+/b", None), ("a/b", 7), ("#", 7)):
        client.subscribe(topic_filter, qos=1, subscription_id=subscription_id)


def test_mqtt5_3_3_4_3_mqtt5_3_3_4_4_a_copy_carries_all_subscription_identifiers(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    _subscribe_with_ids(client)
    writer = broker.connect("writer")
    writer.publish("a/b", b"online", qos=1)
    assert sorted(client.take_message().subscription_ids) == [1, 7, 7, 268_435_455]
    writer.publish("x/b", b"one", qos=1)
    assert client.take_message().subscription_ids == (7,)
    writer.publish("a/b", b"unacknowledged", qos=1)
    client.take_message(acknowledge=False)
    client.drop()
    writer.publish("a/b", b"offline", qos=1)
    client = broker.connect("client", clean_start=False)
    for payload in (b"unacknowledged", b"offline"):
        message = client.take_message()
        assert message.payload == payload
        assert sorted(message.subscription_ids) == [1, 7, 7, 268_435_455]


def test_mqtt5_3_3_4_5_copies_of_their_own_carry_their_own_identifier(broker: Broker) -> None:
    # A shared subscription delivers beside the others; so do retained messages for each subscription.
    client = broker.connect("client")
    client.subscribe("a", qos=1, subscription_id=1)
    client.subscribe("$share/g/a", qos=1, subscription_id=2)
    client.subscribe("b", subscription_id=3)
    client.publish("a", b"x", retain=True)
    assert sorted(message.subscription_ids for message in client.take_messages()) == [(1,), (2,)]
    client.subscribe("+", subscription_id=4)
    client.subscribe("a", subscription_id=5)
    assert [message.subscription_ids for message in client.take_messages()] == [(4,), (5,)]


def test_a_subscription_that_is_replaced_has_the_new_identifier_or_none(broker: Broker) -> None:
    client = broker.connect("client")
    for subscription_id, expected in ((1, (1,)), (2, (2,)), (None, ())):
        client.subscribe("a", subscription_id=subscription_id)
        client.publish("a")
        assert client.take_message().subscription_ids == expected


def test_mqtt5_3_3_4_6_a_client_that_sends_a_subscription_identifier_is_expelled(broker: Broker) -> None:
    expel(broker, raw.publish(b"a", properties=b"\x0b\x01"), reason_code=0x82)


def test_mqtt5_3_3_4_7_a_client_that_exceeds_receive_maximum_is_expelled(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(receiving_maximum=3)
    unreleased = b"".join(encode(Publish(topic="a", qos=2, packet_id=number), MQTT_5_0) for number in (1, 2, 3))
    client = broker.connect("client", will=Will(topic="will"))
    client.send_bytes(unreleased)
    assert [type(packet) for packet in client.take_all()] == [Pubrec] * 3
    # QoS 1 is acknowledged at once and never counts for long.
    for number in range(4, 20):
        assert client.publish("a", qos=1, packet_id=number) == 0x10
    client.send(Pubrel(packet_id=2))
    client.send(Publish(topic="a", qos=2, packet_id=4))
    assert [type(packet) for packet in client.take_all()] == [Pubcomp, Pubrec]
    client.send(Publish(topic="a", qos=2, packet_id=5))
    farewell = client.expect_closed()
    assert farewell is not None
    assert farewell.reason_code == 0x93


def test_receive_maximum_begins_anew_with_every_connection(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(receiving_maximum=2)
    client = broker.connect("client", session_expiry_interval=100)
    client.send(Publish(topic="a", qos=2, packet_id=1), Publish(topic="a", qos=2, packet_id=2))
    client.take_all()
    client.drop()
    client = broker.connect("client", clean_start=False, session_expiry_interval=100)
    client.send(Publish(topic="a", qos=2, packet_id=3), Publish(topic="a", qos=2, packet_id=4))
    client.send(Pubrel(packet_id=1), Pubrel(packet_id=2), Pubrel(packet_id=3), Pubrel(packet_id=4))
    assert [type(packet) for packet in client.take_all()] == [Pubrec] * 2 + [Pubcomp] * 4


def test_mqtt5_3_3_4_9_mqtt5_4_9_0_1_mqtt5_4_9_0_2_the_client_gets_no_more_than_its_receive_maximum(
    broker: Broker,
) -> None:
    for receive_maximum in (1, 2, 10):
        client = broker.connect("client", receive_maximum=receive_maximum)
        client.subscribe("a", qos=2)
        writer = broker.connect("writer")
        for number in range(30):
            writer.publish("a", b"%d" % number, qos=1 + number % 2)
        received = 0
        pending: list[Publish] = []
        while received < 30:
            while True:
                try:
                    pending.append(client.take_first(Publish))
                except AssertionError:
                    break
            assert len(pending) == min(receive_maximum, 30 - received)
            message = pending.pop(len(pending) // 2)
            client.acknowledge(message)
            received += 1


def test_a_refusal_by_the_client_makes_room_in_its_window(broker: Broker) -> None:
    client = broker.connect("client", receive_maximum=1)
    client.subscribe("a", qos=2)
    writer = broker.connect("writer")
    for number in range(3):
        writer.publish("a", b"%d" % number, qos=2)
    first = client.take_message(acknowledge=False)
    client.send(Pubrec(packet_id=first.packet_id, reason_code=0x97))
    second = client.take_message(acknowledge=False)
    assert second.payload == b"1"
    client.send(Pubrec(packet_id=second.packet_id))
    client.take(Pubrel)
    client.expect_nothing()
    client.send(Pubcomp(packet_id=second.packet_id))
    assert client.take_message().payload == b"2"


def test_mqtt5_3_3_4_10_mqtt5_4_9_0_3_a_full_window_delays_nothing_but_messages(broker: Broker) -> None:
    client = broker.connect("client", receive_maximum=1)
    client.subscribe("a", qos=1)
    writer = broker.connect("writer")
    for number in range(5):
        writer.publish("a", b"%d" % number, qos=1)
    client.take_message(acknowledge=False)
    client.expect_nothing()
    client.send(Pingreq())
    client.take(Pingresp)
    assert client.publish("b", qos=2) == 0
    assert client.subscribe("c").reason_codes == (0,)
    assert client.unsubscribe("c").reason_codes == (0,)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt311_3_3_5_2_a_publication_that_is_not_allowed_is_refused_or_ends_the_connection(
    broker: Broker, version: int, qos: int
) -> None:
    witness = broker.connect("witness")
    witness.subscribe("$SYS/#")
    if version == MQTT_5_0 and qos > 0:
        client = broker.connect("client")
        assert client.publish("$SYS/uptime", b"x", qos=qos) == 0x87
        client.ping()
    else:
        data = raw.publish(b"$SYS/uptime", b"x", version=version, flags=qos << 1, packet_id=1)
        expel(broker, data, version=version, reason_code=0x87)
    witness.expect_nothing()


def test_nobody_subscribes_is_told_to_five(broker: Broker) -> None:
    client = broker.connect("client")
    assert client.publish("a", qos=1) == 0x10
    client.send(Publish(topic="a", qos=2, packet_id=9))
    assert client.take(Pubrec).reason_code == 0x10
    client.send(Pubrel(packet_id=9))
    client.take(Pubcomp)
    client.subscribe("a")
    assert client.publish("a", qos=1) == 0
