"""Strings and variable byte integers [MQTT5 1.5]."""

import pytest

from support import raw
from support.memory_broker import Broker, expel
from support.packets import MQTT_5_0
from support.raw import STANDARDS

ILL_FORMED = {
    "a lone byte": b"a\xff",
    "a sequence cut short": b"a\xe2\x82",
    "an overlong slash": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
}


@pytest.mark.parametrize("content", ILL_FORMED.values(), ids=ILL_FORMED)
@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_1_5_4_1_mqtt311_1_5_3_1_ill_formed_utf8_ends_the_connection(
    broker: Broker, version: int, content: bytes
) -> None:
    expel(broker, raw.publish(content, version=version), version=version)


@pytest.mark.parametrize("content", [b"\0", b"a\0", b"a/\0/b"])
@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_1_5_4_2_mqtt311_1_5_3_2_a_null_character_ends_the_connection(
    broker: Broker, version: int, content: bytes
) -> None:
    expel(broker, raw.publish(content, version=version), version=version)


@pytest.mark.parametrize("version", STANDARDS)
def test_mqtt5_1_5_4_3_mqtt311_1_5_3_3_a_byte_order_mark_is_a_character(broker: Broker, version: int) -> None:
    reader = broker.connect("reader", version=version)
    reader.subscribe("\ufeffa", "a", "x/\ufeff")
    reader.publish("\ufeffa", b"marked")
    reader.publish("x/\ufeff", b"behind")
    assert [(message.topic, message.payload) for message in reader.take_messages()] == [
        ("\ufeffa", b"marked"),
        ("x/\ufeff", b"behind"),
    ]


PADDED = {
    "remaining length": b"\x30\x84\x00\x00\x01a\x00",
    "property length": raw.frame(0x30, raw.text(b"a"), b"\x80\x00"),
    "subscription identifier": raw.subscribe((b"a", 0), properties=b"\x0b\x81\x00"),
    "property length of five bytes": raw.frame(0x30, raw.text(b"a"), b"\x80\x80\x80\x80\x00"),
}


@pytest.mark.parametrize("data", PADDED.values(), ids=PADDED)
def test_mqtt5_1_5_5_1_a_variable_byte_integer_that_is_not_shortest_is_malformed(broker: Broker, data: bytes) -> None:
    expel(broker, data)


@pytest.mark.parametrize("content", [*ILL_FORMED.values(), b"a\0"])
@pytest.mark.parametrize("half", ["name", "value"])
def test_mqtt5_1_5_7_1_both_halves_of_a_string_pair_are_checked(broker: Broker, half: str, content: bytes) -> None:
    name, value = (content, b"fine") if half == "name" else (b"fine", content)
    expel(broker, raw.publish(b"a", properties=b"\x26" + raw.text(name) + raw.text(value)))


def test_a_remaining_length_of_five_bytes_is_malformed_in_every_version(broker: Broker) -> None:
    for version in raw.VERSIONS:
        expel(broker, b"\x30\xff\xff\xff\xff\x01", version=version)


def test_three_x_takes_a_padded_remaining_length(broker: Broker) -> None:
    client = broker.connect("client", version=4)
    client.subscribe("a")
    client.send_bytes(b"\x30\x84\x00\x00\x01ax")
    assert client.take_message().payload == b"x"
    assert client.version != MQTT_5_0
