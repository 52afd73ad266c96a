"""PUBACK, PUBREC, PUBREL and PUBCOMP [MQTT5 3.4 to 3.7]."""

from collections.abc import Callable

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    REASON_CODES,
    Acknowledgement,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from support.raw import STANDARDS

FIRST_BYTES: dict[type, int] = {Puback: 0x40, Pubrec: 0x50, Pubrel: 0x62, Pubcomp: 0x70}


def _reason_codes_of(broker: Broker, packet_class: type[Acknowledgement]) -> None:
    """The client may send each reason code of the packet, and no other."""
    client = broker.connect("client")
    for reason_code in range(0x100):
        data = raw.acknowledgement(FIRST_BYTES[packet_class], 77, bytes((reason_code,)))
        if reason_code in REASON_CODES[packet_class]:
            client.send_bytes(data)
            client.ping()
            client.take_all()
        elif reason_code % 16 in (0, 3, 15):
            expel(broker, data, reason_code=0x82)


# What the server sends is checked by the decoder of the tests, in every test; here are all that it can send.


def test_mqtt5_3_4_2_1_reason_codes_of_puback(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_topic_levels=2)
    _reason_codes_of(broker, Puback)
    client = broker.connect("client")
    sent = {
        client.publish("a", qos=1): 0x10,
        client.publish("a/b/c", qos=1): 0x90,
        client.publish("$SYS/a", qos=1): 0x87,
        client.publish("a", b"\xff", qos=1, payload_format_indicator=1): 0x99,
    }
    assert all(reason_code == expected for reason_code, expected in sent.items())


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt5_3_4_2_2_mqtt5_3_5_2_2_a_reason_string_stays_within_the_maximum_packet_size(
    make_broker: Callable[..., Broker], qos: int
) -> None:
    broker = make_broker(max_topic_levels=2)
    seen = set()
    for size in range(30, 60):
        client = broker.connect("client", maximum_packet_size=size)
        client.take_bytes()
        client.send(Publish(topic="a/b/c", qos=qos, packet_id=1))
        data = client.take_bytes()
        assert len(data) <= size
        refusal = client.take(Puback if qos == 1 else Pubrec)
        assert refusal.reason_code == 0x90
        seen.add(refusal.reason_string)
    assert len(seen) == 2
    assert None in seen


def test_mqtt5_3_5_2_1_reason_codes_of_pubrec(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(max_topic_levels=2)
    _reason_codes_of(broker, Pubrec)
    client = broker.connect("client")
    assert client.publish("a/b/c", qos=2) == 0x90
    assert client.publish("$SYS/a", qos=2) == 0x87
    assert client.publish("a", b"\xff", qos=2, payload_format_indicator=1) == 0x99
    client.send(Publish(topic="a", qos=2, packet_id=1))
    assert client.take(Pubrec).reason_code == 0x10


@pytest.mark.parametrize("version", STANDARDS)
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt5_3_6_1_1_mqtt311_3_6_1_1_pubrel_has_the_flags_2(broker: Broker, version: int, flags: int) -> None:
    expel(broker, raw.acknowledgement(0x60 | flags, 1), version=version)


def test_mqtt5_3_6_2_1_reason_codes_of_pubrel(broker: Broker) -> None:
    _reason_codes_of(broker, Pubrel)
    client = broker.connect("client")
    client.send(Pubrec(packet_id=77))
    assert client.take(Pubrel).reason_code == 0x92


def test_mqtt5_3_7_2_1_reason_codes_of_pubcomp(broker: Broker) -> None:
    _reason_codes_of(broker, Pubcomp)
    client = broker.connect("client")
    client.send(Pubrel(packet_id=77))
    assert client.take(Pubcomp).reason_code == 0x92


@pytest.mark.parametrize("version", raw.VERSIONS)
@pytest.mark.parametrize("packet_class", FIRST_BYTES)
def test_a_packet_identifier_that_is_cut_short_or_0_ends_the_connection(
    broker: Broker, version: int, packet_class: type[Acknowledgement]
) -> None:
    first_byte = FIRST_BYTES[packet_class]
    expel(broker, raw.frame(first_byte), version=version)
    expel(broker, raw.frame(first_byte, b"\x01"), version=version)
    expel(broker, raw.frame(first_byte, b"\x00\x00"), version=version, reason_code=0x82)


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])
@pytest.mark.parametrize("packet_class", FIRST_BYTES)
def test_three_x_has_nothing_behind_the_packet_identifier(
    broker: Broker, version: int, packet_class: type[Acknowledgement]
) -> None:
    expel(broker, raw.acknowledgement(FIRST_BYTES[packet_class], 1, b"\x00"), version=version)


@pytest.mark.parametrize("packet_class", FIRST_BYTES)
def test_properties_of_acknowledgements_are_read(broker: Broker, packet_class: type[Acknowledgement]) -> None:
    client = broker.connect("client")
    fine = b"\x1f\x00\x01r" + (b"\x26\x00\x01k\x00\x01v") * 2
    client.send_bytes(raw.acknowledgement(FIRST_BYTES[packet_class], 1, b"\x00", raw.block(fine)))
    client.ping()
    for properties, reason_code in (
        (b"\x1f\x00\x01r" * 2, 0x82),
        (b"\x23\x00\x01", 0x81),
        (b"\x1f\x00\x05r", 0x81),
        (b"\x26\x00\x01k", 0x81),
    ):
        data = raw.acknowledgement(FIRST_BYTES[packet_class], 1, b"\x00", raw.block(properties))
        expel(broker, data, reason_code=reason_code)
    expel(broker, raw.acknowledgement(FIRST_BYTES[packet_class], 1, b"\x00", b"\x00", b"behind"))


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_an_acknowledgement_of_nothing_disturbs_nothing(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.subscribe("a", qos=2)
    client.publish("a", b"x", qos=2)
    message = client.take_message(acknowledge=False)
    # Neither an unknown packet identifier nor the wrong kind ends the delivery.
    for packet_id in (message.packet_id, 500):
        client.send(Puback(packet_id=packet_id), Pubcomp(packet_id=packet_id))
    client.send(Puback(packet_id=message.packet_id))
    client.acknowledge(message)
    client.publish("a", b"y", qos=1)
    assert client.take_message().payload == b"y"
    client.ping()


@pytest.mark.parametrize("version", raw.VERSIONS)
def test_a_release_of_nothing_is_completed(broker: Broker, version: int) -> None:
    client = broker.connect("client", version=version)
    client.send(Pubrel(packet_id=5))
    assert client.take(Pubcomp) == Pubcomp(packet_id=5, reason_code=0x92 if version == MQTT_5_0 else 0)
