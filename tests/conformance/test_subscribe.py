"""SUBSCRIBE and SUBACK [MQTT5 3.8, 3.9]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import MQTT_3_1_1, MQTT_5_0, Suback, Subscribe, Subscription
from support.raw import STANDARDS


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt5_3_8_1_1_mqtt311_3_8_1_1_subscribe_has_the_flags_2(broker: Broker, version: int, flags: int) -> None:
    data = raw.subscribe((b"a", 0), version=version, first_byte=0x80 | flags)
    expel(broker, data, version=version)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("topic_filter", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt5_3_8_3_1_mqtt311_3_8_3_1_topic_filters_are_utf8(
    broker: Broker, version: int, topic_filter: bytes
) -> None:
    # One that is wrong spoils the packet: nothing of it is subscribed to.
    expel(broker, raw.subscribe((b"a", 0), (topic_filter, 0), version=version), version=version)
    assert broker.count("subscriptions") == 0


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_3_8_3_2_mqtt311_3_8_3_3_a_subscribe_without_topic_filter_ends_the_connection(
    broker: Broker, version: int
) -> None:
    expel(broker, raw.subscribe(version=version), version=version, reason_code=0x82)


@pytest.mark.parametrize("rest", [b"\x00", b"\x00\x01", b"\x00\x01a", b"\x00\x05a\x00"])
@pytest.mark.parametrize("version", STANDARDS)
def test_a_subscribe_that_is_cut_short_ends_the_connection(broker: Broker, version: int, rest: bytes) -> None:
    expel(broker, raw.frame(0x82, b"\x00\x01", raw.block(b"", version), rest), version=version)


def test_mqtt5_3_8_3_3_no_local_keeps_own_messages_away(broker: Broker) -> None:
    client = broker.connect("client", session_expiry_interval=100)
    other = broker.connect("other")
    client.publish("a", b"own, retained", retain=True)
    client.subscribe("a", qos=1, no_local=True)
    client.expect_nothing()
    client.publish("a", b"own", qos=1)
    other.publish("a", b"other's", qos=1)
    assert [message.payload for message in client.take_messages()] == [b"other's"]
    # With another subscription that matches, too, it wants its own.
    client.subscribe("+", qos=0)
    client.take_messages()
    client.publish("a", b"own", qos=1)
    assert [(message.payload, message.qos) for message in client.take_messages()] == [(b"own", 0)]
    # Also on the next connection of the session.
    client.unsubscribe("+")
    client.drop()
    client = broker.connect("client", clean_start=False)
    client.publish("a", b"own", qos=1)
    client.expect_nothing()


@pytest.mark.parametrize("topic_filter", [b"$share/g/a", b"$oshare/g/a"])
def test_mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error(
    broker: Broker, topic_filter: bytes
) -> None:
    expel(broker, raw.subscribe((topic_filter, 0x04)), reason_code=0x82)


@pytest.mark.parametrize("options", [0x40, 0x80, 0xC1])
def test_mqtt5_3_8_3_5_reserved_subscription_options_are_malformed(broker: Broker, options: int) -> None:
    expel(broker, raw.subscribe((b"a", 0), (b"b", options)))


@pytest.mark.parametrize("options", [0x03, 0x07, 0x30, 0x3F])
def test_options_that_do_not_exist_are_protocol_errors(broker: Broker, options: int) -> None:
    expel(broker, raw.subscribe((b"a", options)), reason_code=0x82)


@pytest.mark.parametrize("version", [3, MQTT_3_1_1])
@pytest.mark.parametrize("options", [0x03, 0x04, 0x08, 0x10, 0x40, 0x80, 0xFF])
def test_mqtt311_3_8_3_4_more_than_a_qos_ends_the_connection(broker: Broker, version: int, options: int) -> None:
    expel(broker, raw.subscribe((b"a", 0), (b"b", options), version=version), version=version)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt311_3_8_3_2_wildcards_are_rejected_where_they_are_off(
    make_broker: Callable[..., Broker], version: int
) -> None:
    client = make_broker(wildcard_subscription_enabled=False).connect("client", version=version)
    failure = 0xA2 if version == MQTT_5_0 else 0x80
    assert client.subscribe("a/+", "#", "a").reason_codes == (failure, failure, 0)
    client.publish("a/b")
    client.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_8_4_1_mqtt5_3_8_4_2_mqtt311_3_8_4_1_mqtt311_3_8_4_2_subscribe_is_answered_by_suback(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    for packet_id in (1, 500, 65535):
        client.send(Subscribe(packet_id=packet_id, subscriptions=(Subscription("a", 1),)))
        assert client.take(Suback) == Suback(packet_id=packet_id, reason_codes=(1,))
        client.expect_nothing()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_8_4_3_mqtt311_3_8_4_3_the_same_topic_filter_replaces_the_subscription(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    writer = broker.connect("writer")
    writer.publish("a", b"retained", retain=True)
    for qos in (0, 2, 1):
        client.subscribe("a", qos=qos)
        assert [message.payload for message in client.take_messages()] == [b"retained"]
        writer.publish("a", b"x", qos=2)
        assert [message.qos for message in client.take_messages()] == [qos]
    assert broker.count("subscriptions") == 1


def test_mqtt5_3_8_4_4_replacing_a_subscription_loses_no_message(broker: Broker) -> None:
    client = broker.connect("client", receive_maximum=1, session_expiry_interval=100)
    writer = broker.connect("writer")
    client.subscribe("a", qos=1)
    for number in range(20):
        writer.publish("a", b"%d" % number, qos=1)
        client.subscribe("a", qos=1 + number % 2, retain_handling=number % 3)
    assert [message.payload for message in client.take_messages()] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_8_4_5_mqtt5_3_8_4_6_mqtt311_3_8_4_4_mqtt311_3_8_4_5_several_topic_filters_have_one_answer(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    suback = client.subscribe(
        Subscription("a", 0), Subscription("b", 1), Subscription("a", 2), Subscription("c/#/d", 1), Subscription("d", 2)
    )
    failure = 0x8F if version == MQTT_5_0 else 0x80
    assert suback.reason_codes == (0, 1, 2, failure, 2)
    client.expect_nothing()
    # The third replaced the first, as if it had come later.
    client.publish("a", b"x", qos=2)
    assert [message.qos for message in client.take_messages()] == [2]


def test_mqtt5_3_8_4_7_a_reason_code_is_the_granted_qos_or_a_failure(make_broker: Callable[..., Broker]) -> None:
    client = make_broker(max_topic_filters_per_inbox=2, max_topic_levels=2).connect("client")
    subscriptions = [Subscription(name, qos) for name, qos in (("a", 2), ("b/c/d", 1), ("b", 1), ("c", 0), ("a", 1))]
    assert client.subscribe(*subscriptions).reason_codes == (2, 0x8F, 1, 0x97, 1)


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_8_4_8_mqtt311_3_8_4_6_delivery_is_at_the_lower_qos(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    for granted in range(3):
        client.subscribe("a", qos=granted)
        for published in range(3):
            client.publish("a", b"x", qos=published)
            assert client.take_message().qos == min(granted, published)


def test_mqtt5_3_9_2_1_a_reason_string_does_not_push_suback_over_the_maximum_packet_size(broker: Broker) -> None:
    seen = set()
    for size in range(30, 90):
        client = broker.connect("client", maximum_packet_size=size)
        client.take_bytes()
        suback = client.subscribe("a/#/b", "b")
        assert len(client.take_bytes()) <= size
        assert suback.reason_codes == (0x8F, 0)
        seen.add(suback.reason_string)
    assert len(seen) == 2
    assert None in seen


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_mqtt5_3_9_3_1_mqtt311_3_9_3_1_reason_codes_have_the_order_of_the_topic_filters(
    broker: Broker, version: int
) -> None:
    client = broker.connect("client", version=version)
    wanted = [2, 0, 1, 1, 0, 2, 2, 1] * 8
    subscriptions = [Subscription(f"topic/{index}", qos) for index, qos in enumerate(wanted)]
    assert client.subscribe(*subscriptions).reason_codes == tuple(wanted)


def test_mqtt5_3_9_3_2_only_reason_codes_of_suback_are_sent(make_broker: Callable[..., Broker]) -> None:
    # The decoder of the tests refuses any other.
    broker = make_broker(
        wildcard_subscription_enabled=False, shared_subscription_enabled=False, max_topic_filters_per_inbox=3
    )
    suback = broker.connect("client").subscribe(
        Subscription("0", 0), Subscription("1", 1), Subscription("2", 2), "3", "+", "$share/g/a", "#a", "$share/g", ""
    )
    assert suback.reason_codes == (0, 1, 2, 0x97, 0xA2, 0x9E, 0x8F, 0x8F, 0x8F)


def test_mqtt311_3_9_3_2_only_four_return_codes_are_sent(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(
        wildcard_subscription_enabled=False, shared_subscription_enabled=False, max_topic_filters_per_inbox=3
    )
    suback = broker.connect("client", version=MQTT_3_1_1).subscribe(
        Subscription("0", 0), Subscription("1", 1), Subscription("2", 2), "3", "+", "$share/g/a", "#a", ""
    )
    assert suback.reason_codes == (0, 1, 2, *(0x80,) * 5)


def test_subscription_identifiers_are_1_to_268435455_and_not_repeated(broker: Broker) -> None:
    client = broker.connect("client")
    for subscription_id in (1, 268_435_455):
        assert client.subscribe("a", subscription_id=subscription_id).reason_codes == (0,)
    expel(broker, raw.subscribe((b"a", 0), properties=b"\x0b\x00"), reason_code=0x82)
    expel(broker, raw.subscribe((b"a", 0), properties=b"\x0b\x01\x0b\x02"), reason_code=0x82)
    expel(broker, raw.subscribe((b"a", 0), properties=b"\x0b\x80\x80\x80\x80\x01"))


@pytest.mark.parametrize("identifier", [0x00, 0x01, 0x11, 0x1F, 0x23, 0x2B])
def test_a_property_of_other_packets_makes_a_subscribe_malformed(broker: Broker, identifier: int) -> None:
    expel(broker, raw.subscribe((b"a", 0), properties=bytes((identifier, 0, 1, 97, 97))))


@pytest.mark.parametrize("version", STANDARDS)
def test_more_topic_filters_than_allowed_end_the_connection(make_broker: Callable[..., Broker], version: int) -> None:
    broker = make_broker(max_topic_filters_per_sub=3)
    client = broker.connect("client", version=version)
    assert client.subscribe("a", "b", "c").reason_codes == (0, 0, 0)
    client.disconnect()
    data = raw.subscribe((b"a", 0), (b"b", 0), (b"c", 0), (b"d", 0), version=version)
    expel(broker, data, version=version, reason_code=0x98)
    data = raw.unsubscribe(b"a", b"b", b"c", b"d", version=version)
    expel(broker, data, version=version, reason_code=0x98)
