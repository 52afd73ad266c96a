"""The generator's own packets, byte by byte where it matters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.bench.packets import (
    FILTERS_PER_SUBSCRIBE,
    NUMBER_DIGITS,
    PUBLISH_PROPERTIES,
    encode_connect,
    encode_length,
    encode_publish_head,
    encode_subscribes,
)


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (2097152, "80808001"), (268435455, "ffffff7f")],
)
def test_lengths_are_those_of_the_table_in_1_5_5(length: int, encoded: str) -> None:
    assert encode_length(length).hex() == encoded


@pytest.mark.parametrize("length", [-1, 1 << 28])
def test_a_length_that_does_not_fit_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode_length(length)


def test_connect_of_3_1_1_is_this() -> None:
    packet, _ = encode_connect(version=4, client_id_prefix="a", keep_alive_s=60)
    assert packet == bytes.fromhex("10 15 0004") + b"MQTT" + bytes.fromhex("04 02 003c 0009") + b"a00000000"


def test_connect_of_5_0_keeps_a_session_by_its_expiry_interval() -> None:
    clean, _ = encode_connect(version=5, client_id_prefix="")
    persistent, _ = encode_connect(version=5, client_id_prefix="", clean=False)
    assert clean == bytes.fromhex("10 15 0004") + b"MQTT" + bytes.fromhex("05 02 0000 00 0008") + b"0" * 8
    assert persistent == (
        bytes.fromhex("10 1a 0004") + b"MQTT" + bytes.fromhex("05 00 0000 05 11 0000012c 0008") + b"0" * 8
    )


@given(
    version=st.sampled_from([4, 5]),
    prefix=st.text("abc", max_size=200),
    username=st.none() | st.text(max_size=20),
    password=st.none() | st.text(max_size=20),
)
def test_the_digits_of_the_client_lie_where_connect_says(
    version: int, prefix: str, username: str | None, password: str | None
) -> None:
    packet, offset = encode_connect(version=version, client_id_prefix=prefix, username=username, password=password)
    assert packet[offset : offset + NUMBER_DIGITS] == b"0" * NUMBER_DIGITS
    assert packet[offset - len(prefix) : offset] == prefix.encode()
    credentials = packet[offset + NUMBER_DIGITS :]
    assert credentials == b"".join(
        len(text.encode()).to_bytes(2, "big") + text.encode() for text in (username, password) if text is not None
    )


@pytest.mark.parametrize(("version", "properties"), [(4, ""), (5, "00")])
def test_subscribe_is_this(version: int, properties: str) -> None:
    (packet,) = encode_subscribes(["a/+"], version=version, qos=1)
    body = bytes.fromhex("0001" + properties) + b"\x00\x03a/+\x01"
    assert packet == b"\x82" + bytes([len(body)]) + body


def test_many_filters_are_spread_over_packets() -> None:
    packets = list(encode_subscribes(["a"] * (2 * FILTERS_PER_SUBSCRIBE + 1), version=4, qos=0))
    assert [packet.count(b"\x00\x01a\x00") for packet in packets] == [FILTERS_PER_SUBSCRIBE, FILTERS_PER_SUBSCRIBE, 1]


@pytest.mark.parametrize(
    ("version", "qos", "retain", "head"),
    [
        (4, 0, False, "30 43 0001 61"),
        (4, 1, False, "32 45 0001 61 0000"),
        (5, 2, True, "35 46 0001 61 0000 00"),
    ],
)
def test_publish_head_is_this(version: int, qos: int, retain: bool, head: str) -> None:
    assert encode_publish_head("a", version=version, qos=qos, retain=retain, payload_size=64) == bytes.fromhex(head)


def test_publish_head_ends_with_its_properties() -> None:
    head = encode_publish_head(
        "a", version=5, qos=1, retain=False, payload_size=64, properties=bytes.fromhex("02 0000000a")
    )
    assert head == bytes.fromhex("32 4b 0001 61 0000 05 02 0000000a")


def test_there_are_no_properties_in_3_1_1() -> None:
    with pytest.raises(ValueError, match="version 4 has no properties"):
        encode_publish_head("a", version=4, qos=0, retain=False, payload_size=64, properties=PUBLISH_PROPERTIES)


def test_properties_of_messages_are_as_many_as_the_generator_reads() -> None:
    assert 0 < len(PUBLISH_PROPERTIES) < 128
