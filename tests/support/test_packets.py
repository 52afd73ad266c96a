"""The plain codec against the worked examples of the standard, and against itself."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    Auth,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketError,
    Pingreq,
    Pingresp,
    ProtocolError,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
    decode,
    decode_all,
    encode,
    encode_variable_byte_integer,
)
from support.strategies import packets

VERSIONS = (MQTT_3_1, MQTT_3_1_1, MQTT_5_0)

# (section, version, packet, its bytes). Sections of 3.1.1 for version 4, of 5.0 for version 5.
EXAMPLES: tuple[tuple[str, int, Packet, str], ...] = (
    ("3.1 of 3.1", 3, Connect(version=3, client_id="c", keep_alive=10), "10 0f 0006 4d5149736470 03 02 000a 0001 63"),
    (
        "3.1.2.3",
        4,
        Connect(
            version=4,
            client_id="c",
            clean_start=True,
            keep_alive=10,
            username="u",
            password=b"p",
            will=Will(topic="w", payload=b"gone", qos=1),
        ),
        "10 1c 0004 4d515454 04 ce 000a 0001 63 0001 77 0004 676f6e65 0001 75 0001 70",
    ),
    (
        "3.1.2.12",
        5,
        Connect(keep_alive=10, session_expiry_interval=10),
        "10 12 0004 4d515454 05 02 000a 05 11 0000000a 0000",
    ),
    (
        "3.1.3.2",
        5,
        Connect(client_id="c", clean_start=False, will=Will(topic="w", retain=True, will_delay_interval=7)),
        "10 19 0004 4d515454 05 24 0000 00 0001 63 05 18 00000007 0001 77 0000",
    ),
    ("3.2.2", 4, Connack(session_present=True), "20 02 01 00"),
    ("3.2.2.3", 4, Connack(reason_code=5), "20 02 00 05"),
    ("3.2.2.3", 5, Connack(reason_code=0x87, assigned_client_id="x"), "20 07 00 87 04 12 0001 78"),
    ("3.3.2.1", 4, Publish(topic="a/b", qos=1, packet_id=10), "32 07 0003 612f62 000a"),
    ("3.3.2.2.2", 5, Publish(topic="a/b", qos=1, packet_id=10), "32 08 0003 612f62 000a 00"),
    (
        "3.3.1",
        5,
        Publish(topic="a", qos=2, dup=True, retain=True, packet_id=1),
        "3d 06 0001 61 0001 00",
    ),
    ("3.3.2.3.4", 5, Publish(topic="", topic_alias=3, payload=b"x"), "30 07 0000 03 23 0003 78"),
    ("3.3.2.3.8", 5, Publish(topic="a", subscription_ids=(1, 300)), "30 09 0001 61 05 0b01 0bac02"),
    (
        "3.3.2.3.7",
        5,
        Publish(topic="a", user_properties=(("k", "1"), ("k", "2"))),
        "30 12 0001 61 0e 26 0001 6b 0001 31 26 0001 6b 0001 32",
    ),
    ("3.4.2", 4, Puback(packet_id=10), "40 02 000a"),
    ("3.4.2.1", 5, Puback(packet_id=10), "40 02 000a"),
    ("3.4.2.1", 5, Puback(packet_id=10, reason_code=0x10), "40 03 000a 10"),
    ("3.5.2.2", 5, Pubrec(packet_id=10, reason_code=0x97, reason_string="no"), "50 09 000a 97 05 1f 0002 6e6f"),
    ("3.6.1", 5, Pubrel(packet_id=10), "62 02 000a"),
    (
        "3.8.3",
        4,
        Subscribe(packet_id=10, subscriptions=(Subscription("a/b", 1), Subscription("c/d", 2))),
        "82 0e 000a 0003 612f62 01 0003 632f64 02",
    ),
    (
        "3.8.3.1",
        5,
        Subscribe(packet_id=10, subscriptions=(Subscription("a", 1, True, True, 2),), subscription_id=5),
        "82 09 000a 02 0b05 0001 61 2d",
    ),
    ("3.9.3", 4, Suback(packet_id=10, reason_codes=(0, 2, 0x80)), "90 05 000a 00 02 80"),
    ("3.9.3", 5, Suback(packet_id=10, reason_codes=(1, 0x8F)), "90 05 000a 00 01 8f"),
    ("3.10.3", 4, Unsubscribe(packet_id=10, topic_filters=("a/b", "c/d")), "a2 0c 000a 0003 612f62 0003 632f64"),
    ("3.11.2", 4, Unsuback(packet_id=10), "b0 02 000a"),
    ("3.11.3", 5, Unsuback(packet_id=10, reason_codes=(0x11,)), "b0 04 000a 00 11"),
    ("3.12", 4, Pingreq(), "c0 00"),
    ("3.13", 4, Pingresp(), "d0 00"),
    ("3.14", 4, Disconnect(), "e0 00"),
    ("3.14.2.1", 5, Disconnect(reason_code=0x8E), "e0 01 8e"),
    ("3.14.2.2", 5, Disconnect(session_expiry_interval=0), "e0 07 00 05 11 00000000"),
    ("3.15.2.1", 5, Auth(), "f0 00"),
    ("3.15.2", 5, Auth(reason_code=0x18, authentication_method="m"), "f0 06 18 04 15 0001 6d"),
)

# (what is wrong, version, bytes, error)
WRONG: tuple[tuple[str, int, str, type[PacketError]], ...] = (
    ("packet type 0", 5, "00 00", MalformedPacket),
    ("AUTH before 5.0", 4, "f0 00", MalformedPacket),
    ("flags of SUBSCRIBE [MQTT-3.8.1-1]", 5, "80 07 0001 00 0001 61 00", MalformedPacket),
    ("flags of PINGREQ", 4, "c1 00", MalformedPacket),
    ("five bytes of Remaining Length", 4, "30 80 80 80 80 01", MalformedPacket),
    ("Remaining Length not in its shortest form [MQTT-1.5.5-1]", 5, "c0 80 00", MalformedPacket),
    ("bytes behind the end", 4, "c0 01 00", MalformedPacket),
    ("string longer than the packet", 5, "30 03 0005 61", MalformedPacket),
    ("string not UTF-8", 5, "30 04 0001 ff 00", MalformedPacket),
    ("surrogate [MQTT-1.5.4-1]", 5, "30 06 0003 eda080 00", MalformedPacket),
    ("U+0000 [MQTT-1.5.4-2]", 5, "30 04 0001 00 00", MalformedPacket),
    ("QoS 3 [MQTT-3.3.1-4]", 5, "36 06 0001 61 0001 00", MalformedPacket),
    ("DUP at QoS 0 [MQTT-3.3.1-2]", 5, "38 04 0001 61 00", ProtocolError),
    ("packet identifier 0 [MQTT-2.2.1-3]", 5, "32 06 0001 61 0000 00", ProtocolError),
    ("wildcard in a topic name [MQTT-3.3.2-2]", 5, "30 04 0001 23 00", ProtocolError),
    ("empty topic name without an alias", 5, "30 03 0000 00", ProtocolError),
    ("property of another packet", 5, "30 07 0001 61 03 21 0001", MalformedPacket),
    ("property given twice", 5, "30 08 0001 61 04 0101 0101", ProtocolError),
    ("property value out of range", 5, "30 06 0001 61 02 0102", ProtocolError),
    ("properties longer than the packet", 5, "30 05 0001 61 02 01", MalformedPacket),
    ("authentication data without method", 5, "10 11 0004 4d515454 05 02 0000 04 16 0001 61 0000", ProtocolError),
    ("unknown protocol name [MQTT-3.1.2-1]", 5, "10 0d 0004 4d515458 05 02 0000 00 0000", ProtocolError),
    ("unknown protocol version [MQTT-3.1.2-2]", 5, "10 0d 0004 4d515454 06 02 0000 00 0000", ProtocolError),
    ("reserved CONNECT flag [MQTT-3.1.2-3]", 4, "10 0c 0004 4d515454 04 03 0000 0000", MalformedPacket),
    ("Will QoS without Will [MQTT-3.1.2-11]", 4, "10 0c 0004 4d515454 04 0a 0000 0000", MalformedPacket),
    ("password without user name", 4, "10 0f 0004 4d515454 04 42 0000 0000 0001 70", MalformedPacket),
    ("Session Present on refusal [MQTT-3.2.2-6]", 4, "20 02 01 05", ProtocolError),
    ("unknown reason code", 5, "40 03 0001 42", ProtocolError),
    ("SUBSCRIBE without topic filters [MQTT-3.8.3-2]", 5, "82 03 0001 00", ProtocolError),
    ("subscription options [MQTT-3.8.3-5]", 5, "82 07 0001 00 0001 61 40", MalformedPacket),
    ("subscription options of 5.0 in 3.1.1", 4, "82 06 0001 0001 61 04", MalformedPacket),
    ("Retain Handling 3", 5, "82 07 0001 00 0001 61 30", ProtocolError),
    ("UNSUBSCRIBE without topic filters [MQTT-3.10.3-2]", 4, "a2 02 0001", ProtocolError),
)


@pytest.mark.parametrize(
    ("version", "packet", "data"),
    [(version, packet, bytes.fromhex(data)) for _, version, packet, data in EXAMPLES],
    ids=[f"{type(packet).__name__}-{version}-{section}" for section, version, packet, _ in EXAMPLES],
)
def test_example_is_encoded_and_decoded(version: int, packet: Packet, data: bytes) -> None:
    assert encode(packet, version).hex() == data.hex()
    assert decode(data + b"rest", version) == (packet, b"rest")


@pytest.mark.parametrize(
    ("version", "data", "error"),
    [(version, bytes.fromhex(data), error) for _, version, data, error in WRONG],
    ids=[what for what, *_ in WRONG],
)
def test_wrong_bytes_are_refused(version: int, data: bytes, error: type[PacketError]) -> None:
    with pytest.raises(error) as caught:
        decode(data, version)
    assert type(caught.value) is error


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
def test_packet_survives_the_wire(version: int, data: Any) -> None:
    packet = data.draw(packets(version))
    assert decode(encode(packet, version), version) == (packet, b"")


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
def test_packet_is_taken_only_when_it_is_whole(version: int, data: Any) -> None:
    encoded = encode(data.draw(packets(version)), version)
    for size in range(len(encoded)):
        assert decode(encoded[:size], version) == (None, encoded[:size])


@pytest.mark.parametrize("version", VERSIONS)
@given(stream=st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(version: int, stream: bytes) -> None:
    """No input raises anything else, and what was refused or not whole is not taken."""
    with contextlib.suppress(PacketError):
        packet, rest = decode(stream, version)
        assert stream.endswith(rest)
        assert (packet is None) == (rest == stream)


def test_stream_is_decoded_whole() -> None:
    stream = encode(Pingreq(), 5) + encode(Publish(topic="a"), 5) + encode(Disconnect(), 5)
    assert decode_all(stream, 5) == (Pingreq(), Publish(topic="a"), Disconnect())
    with pytest.raises(MalformedPacket, match="ends inside a packet"):
        decode_all(stream[:-1], 5)


def test_padded_remaining_length_is_legal_before_5_0() -> None:
    assert decode(bytes.fromhex("c0 80 00"), MQTT_3_1_1) == (Pingreq(), b"")


@pytest.mark.parametrize(
    "packet",
    [
        Publish(topic="a", content_type="text"),
        Puback(packet_id=1, reason_code=0x10),
        Unsuback(packet_id=1, reason_codes=(0,)),
        Subscribe(packet_id=1, subscriptions=(Subscription("a", no_local=True),)),
        Auth(),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_only_5_0_has_cannot_be_encoded_for_3_1_1(packet: Packet) -> None:
    with pytest.raises(ValueError, match=r"5\.0 only"):
        encode(packet, MQTT_3_1_1)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_variable_byte_integer_has_the_sizes_of_table_1_1(value: int, data: str) -> None:
    assert encode_variable_byte_integer(value).hex() == data
