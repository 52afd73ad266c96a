"""Fixed header, packet identifiers and property length [MQTT5 2]."""

import pytest

from support import raw
from support.memory_broker import Broker, expel, turn_away
from support.packets import (
    MQTT_5_0,
    Disconnect,
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
    encode,
)
from support.raw import STANDARDS

# First bytes whose flags are reserved and are not what they must be.
WRONG_FLAGS = {
    "PUBACK": 0x42,
    "PUBREC": 0x51,
    "PUBREL": 0x60,
    "PUBREL DUP": 0x6A,
    "PUBCOMP": 0x78,
    "SUBSCRIBE": 0x80,
    "UNSUBSCRIBE": 0xA0,
    "PINGREQ": 0xC1,
    "DISCONNECT": 0xE4,
}
PACKET_IDS = (1, 77, 0xFFFF)


@pytest.mark.parametrize("first_byte", WRONG_FLAGS.values(), ids=WRONG_FLAGS)
@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_2_1_3_1_mqtt311_2_2_2_1_mqtt311_2_2_2_2_reserved_flags_are_checked(
    broker: Broker, version: int, first_byte: int
) -> None:
    expel(broker, raw.frame(first_byte, b"" if first_byte >= 0xC0 else b"\x00\x01"), version=version)


def test_flags_of_the_first_packet_are_checked(broker: Broker) -> None:
    turn_away(broker, raw.connect(raw.text(b"same"), first_byte=0x11), reason_code=None)


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("first_byte", [0x00, 0xF0])
def test_packet_types_that_do_not_exist_end_the_connection(broker: Broker, version: int, first_byte: int) -> None:
    # AUTH exists in 5.0, without a body it says Success, which is the server's to say.
    reason_code = 0x82 if first_byte == 0xF0 else 0x81
    expel(broker, bytes((first_byte, 0)), version=version, reason_code=reason_code)


@pytest.mark.parametrize("first_byte", [0x20, 0x90, 0xB0, 0xD0])
@pytest.mark.parametrize("version", raw.VERSIONS)
def test_packets_that_only_servers_send_end_the_connection(broker: Broker, version: int, first_byte: int) -> None:
    expel(broker, raw.frame(first_byte, b"\x00\x01\x00"), version=version, reason_code=0x82)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_2_2_1_2_mqtt311_2_3_1_5_qos_0_has_no_packet_identifier(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a", qos=2)
    client.send_bytes(raw.publish(b"a", b"payload", version=version))
    message = client.take_message()
    assert (message.qos, message.payload) == (0, b"payload")


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("packet", ["PUBLISH QoS 1", "PUBLISH QoS 2", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_mqtt5_2_2_1_3_mqtt311_2_3_1_1_a_packet_identifier_of_0_ends_the_connection(
    broker: Broker, version: int, packet: str
) -> None:
    data = {
        "PUBLISH QoS 1": encode(Publish(topic="a", qos=1, packet_id=0), version),
        "PUBLISH QoS 2": encode(Publish(topic="a", qos=2, packet_id=0), version),
        "SUBSCRIBE": encode(Subscribe(packet_id=0, subscriptions=(Subscription("a"),)), version),
        "UNSUBSCRIBE": encode(Unsubscribe(packet_id=0, topic_filters=("a",)), version),
    }
    expel(broker, data[packet], version=version, reason_code=0x82)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_2_2_1_4_mqtt311_2_3_1_4_packet_identifiers_of_the_server_are_free_and_not_0(
    broker: Broker, version: int, qos: int
) -> None:
    reader = broker.connect("reader", version=version)
    reader.subscribe("a", qos=qos)
    writer = broker.connect("writer")
    writer.publish("a", b"held", qos=qos)
    held = [reader.take_message(acknowledge=False)]
    for number in range(500):
        writer.publish("a", b"%d" % number, qos=qos)
        message = reader.take_message(acknowledge=False)
        assert message.packet_id != 0
        assert message.packet_id not in {other.packet_id for other in held}
        if number % 100 == 0:
            held.append(message)
        else:
            reader.acknowledge(message)


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("packet_id", PACKET_IDS)
def test_mqtt5_2_2_1_5_mqtt311_2_3_1_6_acknowledgements_name_the_packet_identifier_of_the_publish(
    broker: Broker, version: int, packet_id: int
) -> None:
    client = broker.connect("client", version=version)
    client.send(Publish(topic="a", qos=1, packet_id=packet_id))
    assert client.take(Puback).packet_id == packet_id
    client.send(Publish(topic="a", qos=2, packet_id=packet_id))
    assert client.take(Pubrec).packet_id == packet_id
    client.send(Pubrel(packet_id=packet_id))
    assert client.take(Pubcomp).packet_id == packet_id
    client.subscribe("b", qos=2)
    client.publish("b", b"x", qos=2)
    message = client.take_message(acknowledge=False)
    client.send(Pubrec(packet_id=message.packet_id))
    assert client.take(Pubrel).packet_id == message.packet_id


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("packet_id", PACKET_IDS)
def test_mqtt5_2_2_1_6_mqtt311_2_3_1_7_suback_and_unsuback_name_the_packet_identifier_of_their_request(
    broker: Broker, version: int, packet_id: int
) -> None:
    client = broker.connect("client", version=version)
    client.send(Subscribe(packet_id=packet_id, subscriptions=(Subscription("a"),)))
    assert client.take(Suback).packet_id == packet_id
    client.send(Unsubscribe(packet_id=packet_id, topic_filters=("a",)))
    assert client.take(Unsuback).packet_id == packet_id


def test_mqtt5_2_2_2_1_a_packet_without_property_length_is_malformed(broker: Broker) -> None:
    expel(broker, raw.frame(0x30, raw.text(b"a")))
    expel(broker, raw.frame(0x82, b"\x00\x01"))
    # Where it may be left out with everything behind it, it is no error.
    client = broker.connect("client")
    client.send_bytes(raw.frame(0xE0, b"\x00"))
    assert client.expect_closed() is None
    assert encode(Disconnect(), MQTT_5_0) == b"\xe0\x00"
