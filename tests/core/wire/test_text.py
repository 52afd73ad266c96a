"""UTF-8 and variable byte integers against plain Python."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.core.errors import MalformedPacket, ProtocolError
from rookery.core.wire.codec import decode_packet, encode_packet, is_utf8, is_utf8_payload
from rookery.core.wire.packets import Publish, Subscribe
from support.packets import encode_variable_byte_integer

VARIABLE_INTEGER_BOUNDS = (1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455)

# Pieces that together reach every branch: word-sized ASCII, whole sequences of each length, and what breaks them.
PIECES = st.sampled_from(
    (
        *(b"a", b"abcdefgh", b"\0", b"\x7f", "é".encode(), "日".encode(), "😀".encode(), "\ufeff".encode()),
        *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc2", b"\xe0\x80\x80", b"\xe0\xa0", b"\xed\xa0\x80", b"\xed\x9f\xbf"),
        *(b"\xf0\x80\x80\x80", b"\xf0\x90\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff"),
    )
)


def is_plain_utf8(data: bytes) -> bool:
    """The plain twin of is_utf8_payload: Python refuses surrogates and overlong forms, too."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def agrees(data: bytes) -> bool:
    expected = is_plain_utf8(data)
    return is_utf8_payload(data) == expected and is_utf8(data) == (expected and 0 not in data)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_utf8_of_pieces_is_what_python_says(data: bytes) -> None:
    assert agrees(data)


@given(st.binary(max_size=40))
def test_utf8_of_any_bytes_is_what_python_says(data: bytes) -> None:
    assert agrees(data)


def test_utf8_of_all_pairs_of_bytes_is_what_python_says() -> None:
    assert all(agrees(bytes(pair)) for pair in itertools.product(range(256), repeat=2))


@pytest.mark.parametrize("lead", range(0xE0, 0x100))
def test_utf8_of_longer_sequences_is_what_python_says(lead: int) -> None:
    edges = (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for size in (2, 3):
        assert all(agrees(bytes((lead, *rest))) for rest in itertools.product(edges, repeat=size))


@pytest.mark.parametrize("size", range(40))
@pytest.mark.parametrize("odd", [b"\0", b"\x80", b"\xff", "é".encode()])
def test_odd_byte_is_found_at_every_place(size: int, odd: bytes) -> None:
    assert is_utf8(b"a" * size)
    for place in range(size + 1):
        assert agrees(b"a" * place + odd + b"a" * (size - place))


@pytest.mark.parametrize("size", range(1, 40))
@pytest.mark.parametrize("wildcard", [b"+", b"#"])
def test_wildcard_is_found_at_every_place_of_a_topic(size: int, wildcard: bytes) -> None:
    for place in range(size):
        topic = b"*" * place + wildcard + b"$" * (size - place - 1)
        body = len(topic).to_bytes(2, "big") + topic
        with pytest.raises(ProtocolError, match="wildcard"):
            decode_packet(bytes((0x30, len(body))) + body, 4)


@given(st.integers(1, 268435455) | st.sampled_from(VARIABLE_INTEGER_BOUNDS))
def test_variable_byte_integer_is_what_the_plain_one_is(value: int) -> None:
    integer = encode_variable_byte_integer(value)
    body = b"\0\x0a" + bytes((1 + len(integer), 0x0B)) + integer + b"\0\x01a\0"
    packet, _ = decode_packet(bytes((0x82, len(body))) + body, 5)
    assert isinstance(packet, Subscribe)
    assert packet.subscription_id == value
    encoded = encode_packet(Publish(topic="a", subscription_ids=(value,)), 5)
    assert encoded[5:] == bytes((1 + len(integer), 0x0B)) + integer


@pytest.mark.parametrize("size", [0, 1, 124, 125, 16380, 16381, 2097148, 2097149])
def test_remaining_length_takes_the_fewest_bytes(size: int) -> None:
    encoded = encode_packet(Publish(topic="a", payload=bytes(size)), 4)
    assert encoded == b"\x30" + encode_variable_byte_integer(size + 3) + b"\0\x01a" + bytes(size)
    packet, taken = decode_packet(encoded, 4)
    assert isinstance(packet, Publish)
    assert (len(packet.payload), taken) == (size, len(encoded))


@pytest.mark.parametrize("integer", ["8000", "ff00", "808000", "ffff00", "80808000", "8080808001", "ffffffff"])
def test_variable_byte_integer_that_is_not_minimal_or_too_long_is_malformed(integer: str) -> None:
    body = bytes.fromhex("000a 07 0b" + integer) + b"\0\x01a\0" * 3
    with pytest.raises(MalformedPacket, match="Variable Byte Integer"):
        decode_packet(bytes((0x82, len(body))) + body, 5)
