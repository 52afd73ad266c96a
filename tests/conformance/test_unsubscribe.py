"""UNSUBSCRIBE and UNSUBACK [MQTT5 3.10, 3.11]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import (
    MQTT_5_0,
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
from support.raw import STANDARDS


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt5_3_10_1_1_mqtt311_3_10_1_1_unsubscribe_has_the_flags_2(broker: Broker, version: int, flags: int) -> None:
    expel(broker, raw.unsubscribe(b"a", version=version, first_byte=0xA0 | flags), version=version)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("topic_filter", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt5_3_10_3_1_mqtt311_3_10_3_1_topic_filters_are_utf8(
    broker: Broker, version: int, topic_filter: bytes
) -> None:
    expel(broker, raw.unsubscribe(b"a", topic_filter, version=version), version=version)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_10_3_2_mqtt311_3_10_3_2_an_unsubscribe_without_topic_filter_ends_the_connection(
    broker: Broker, version: int
) -> None:
    expel(broker, raw.unsubscribe(version=version), version=version, reason_code=0x82)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_10_4_1_mqtt311_3_10_4_1_topic_filters_are_compared_exactly(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    filters = ("a/b", "a/+", "a/#", "#", "A/b", "a/b/", "/a/b", "a /b")
    client.subscribe(*filters)
    for number, topic_filter in enumerate(filters):
        client.unsubscribe(topic_filter)
        assert broker.count("subscriptions") == len(filters) - number - 1
        # What was deleted matches no more, what is left still does.
        client.publish("a/b", b"x")
        left = set(filters[number + 1 :]) & {"a/b", "a/+", "a/#", "#"}
        assert len(client.take_messages()) == (1 if left else 0)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_10_4_2_mqtt311_3_10_4_2_no_message_is_added_after_unsubscribe(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a/+", qos=1)
    client.publish("a/b", b"before", qos=1)
    client.unsubscribe("a/+")
    client.publish("a/b", b"after", qos=1)
    client.publish("a/c", b"after", qos=1)
    assert [message.payload for message in client.take_messages()] == [b"before"]


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_10_4_3_mqtt311_3_10_4_3_deliveries_that_began_are_completed(broker: Broker, version: int) -> None:
    fields = {"clean_start": False, **({"session_expiry_interval": 100} if version == MQTT_5_0 else {})}
    client = broker.connect("client", version=version, **fields)
    client.subscribe("a", qos=2)
    writer = broker.connect("writer")
    for qos in (1, 2, 2):
        writer.publish("a", b"%d" % qos, qos=qos)
    messages = client.take_messages(acknowledge=False)
    client.send(Pubrec(packet_id=messages[2].packet_id))
    client.take(Pubrel)
    client.unsubscribe("a")
    client.drop()
    client = broker.connect("client", version=version, **fields)
    again = [client.take_message(acknowledge=False) for _ in range(2)]
    assert [message.payload for message in again] == [b"1", b"2"]
    assert client.take(Pubrel).packet_id == messages[2].packet_id
    for message in again:
        client.acknowledge(message)
    client.send(Pubcomp(packet_id=messages[2].packet_id))
    client.expect_nothing()
    session = broker.session("client")
    assert session is not None
    assert session.inflight_count == 0


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_10_4_4_mqtt5_3_10_4_5_mqtt311_3_10_4_4_mqtt311_3_10_4_5_unsubscribe_is_always_answered(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a")
    for packet_id, reason_code in ((1, 0), (2, 0x11), (65535, 0x11)):
        client.send(Unsubscribe(packet_id=packet_id, topic_filters=("a",)))
        reason_codes = (reason_code,) if version == MQTT_5_0 else ()
        assert client.take(Unsuback) == Unsuback(packet_id=packet_id, reason_codes=reason_codes)
        client.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_10_4_6_mqtt311_3_10_4_6_several_topic_filters_have_one_answer(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a", "b", "c", "d")
    unsuback = client.unsubscribe("a", "x", "c", "a", "d")
    assert unsuback.reason_codes == ((0, 0x11, 0, 0x11, 0) if version == MQTT_5_0 else ())
    client.expect_nothing()
    for topic in "abcd":
        client.publish(topic)
    assert [message.topic for message in client.take_messages()] == ["b"]


def test_mqtt5_3_11_2_1_a_reason_string_does_not_push_unsuback_over_the_maximum_packet_size(broker: Broker) -> None:
    seen = set()
    for size in range(30, 90):
        client = broker.connect("client", maximum_packet_size=size)
        client.take_bytes()
        unsuback = client.unsubscribe("a/#/b", "b")
        assert len(client.take_bytes()) <= size
        assert unsuback.reason_codes == (0x8F, 0x11)
        seen.add(unsuback.reason_string)
    assert len(seen) == 2
    assert None in seen


def test_mqtt5_3_11_3_1_mqtt5_3_11_3_2_reason_codes_have_the_order_of_the_topic_filters(
    make_broker: Callable[..., Broker],
) -> None:
    client = make_broker(max_topic_levels=3).connect("client")
    client.subscribe("a/b", "$share/g/a", "c")
    unsuback = client.unsubscribe("x", "a/b", "a/b/c/d", "$share/h/a", "$share/g/a", "c/#/d", "c", "")
    assert unsuback.reason_codes == (0x11, 0, 0x8F, 0x11, 0, 0x8F, 0, 0x8F)


@pytest.mark.parametrize("identifier", [0x00, 0x0B, 0x1F, 0x23])
def test_a_property_of_other_packets_makes_an_unsubscribe_malformed(broker: Broker, identifier: int) -> None:
    expel(broker, raw.unsubscribe(b"a", properties=bytes((identifier, 1, 0))))


def test_unsubscribe_ends_the_retained_messages_that_are_still_to_come(broker: Broker) -> None:
    writer = broker.connect("writer")
    for number in range(3000):
        writer.publish(f"a/{number}", b"x", retain=True)
    client = broker.connect("client")
    client.send(
        Subscribe(packet_id=1, subscriptions=(Subscription("a/#", 1), Subscription("a/7", 1))),
        Unsubscribe(packet_id=2, topic_filters=("a/#",)),
    )
    assert [type(packet) for packet in client.take_all()] == [Suback, Unsuback, Publish]
