"""What a client sends: the golden packets, and every property in every packet."""

from typing import Final

import pytest

from rookery.core.errors import MalformedPacket, ProtocolError
from rookery.core.wire.codec import decode_packet, forward_publish
from rookery.core.wire.packets import Publish, Subscribe, Unsubscribe
from rookery.core.wire.spec import PropertyId, ReasonCode
from support.packets import encode_variable_byte_integer

from .golden import ACCEPTED, REFUSED, SENT, Row


def test_golden_packets_cover_every_type_in_every_version() -> None:
    from_clients, from_servers = {1, 3, 4, 5, 6, 7, 8, 10, 12, 14}, {2, 3, 4, 5, 6, 7, 9, 11, 13}
    for rows, before_5_0, added in ((ACCEPTED, from_clients, {15}), (SENT, from_servers, {14, 15})):
        types = {(row.version, row.raw[0] >> 4) for row in rows}
        expected = {(version, kind) for version in (3, 4, 5) for kind in before_5_0} | {(5, kind) for kind in added}
        assert types == expected
    refused = {row.raw[0] >> 4 for row in REFUSED}
    assert refused == set(range(16))


def test_every_property_is_tried() -> None:
    assert PROPERTIES.keys() == set(PropertyId)


@pytest.mark.parametrize("row", ACCEPTED, ids=str)
def test_packet_means_what_the_standard_says(row: Row) -> None:
    assert decode_packet(row.raw, row.version) == (row.packet, len(row.raw))


@pytest.mark.parametrize("row", ACCEPTED, ids=str)
def test_next_packet_is_left_alone(row: Row) -> None:
    assert decode_packet(row.raw + b"\xff\xff\xff", row.version) == (row.packet, len(row.raw))


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_packet_is_refused_with_the_reason_that_the_standard_names(row: Row) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_packet(row.raw, row.version)
    assert refusal.value.reason_code is row.meaning
    assert isinstance(refusal.value, MalformedPacket) == (row.meaning is ReasonCode.MALFORMED_PACKET)
    assert refusal.value.detail


@pytest.mark.parametrize("row", ACCEPTED, ids=str)
def test_packet_that_is_not_all_there_is_waited_for(row: Row) -> None:
    for size in range(len(row.raw)):
        with pytest.raises(EOFError):
            decode_packet(row.raw[:size], row.version)


def test_packet_beyond_the_limit_is_refused_before_its_body_is_there() -> None:
    with pytest.raises(ProtocolError, match="has 1003 bytes, the limit is 1002") as refusal:
        decode_packet(bytes.fromhex("30 e807"), 4, 1002)
    assert refusal.value.reason_code is ReasonCode.PACKET_TOO_LARGE
    with pytest.raises(EOFError):
        decode_packet(bytes.fromhex("30 e807"), 4, 1003)


def test_more_filters_than_the_count_can_hold_are_refused() -> None:
    def subscribe(count: int) -> bytes:
        body = b"\0\x0a" + b"\0\x01a\0" * count
        return b"\x82" + encode_variable_byte_integer(len(body)) + body

    packet, _ = decode_packet(subscribe(65535), 4)
    assert isinstance(packet, Subscribe)
    assert len(packet.requests) == 65535
    with pytest.raises(ProtocolError) as refusal:
        decode_packet(subscribe(65536), 4)
    assert refusal.value.reason_code is ReasonCode.QUOTA_EXCEEDED


# Every property in every packet [2.2.2.2, table 2-4]. A place is a packet up to its properties, and what follows.
PLACES: Final = {
    "CONNECT": (0x10, "0004 4d515454 05 02 0000", "0000"),
    "will": (0x10, "0004 4d515454 05 06 0000 00 0000", "0001 77 0000"),
    "PUBLISH": (0x30, "0001 61", ""),
    "PUBACK": (0x40, "0001 00", ""),
    "PUBREC": (0x50, "0001 00", ""),
    "PUBREL": (0x62, "0001 00", ""),
    "PUBCOMP": (0x70, "0001 00", ""),
    "SUBSCRIBE": (0x82, "0001", "0001 61 00"),
    "UNSUBSCRIBE": (0xA2, "0001", "0001 61"),
    "DISCONNECT": (0xE0, "00", ""),
    "AUTH": (0xF0, "18", ""),
}
MESSAGE: Final = {"will", "PUBLISH"}
AUTHENTICATION: Final = {"CONNECT", "AUTH"}
ACKNOWLEDGEMENTS: Final = {"PUBACK", "PUBREC", "PUBREL", "PUBCOMP"}
# A valid value, the packets that may carry the property, values that are Protocol Errors.
PROPERTIES: Final[dict[PropertyId, tuple[str, set[str], tuple[str, ...]]]] = {
    PropertyId.PAYLOAD_FORMAT_INDICATOR: ("01", MESSAGE, ("02", "ff")),
    PropertyId.MESSAGE_EXPIRY_INTERVAL: ("00000000", MESSAGE, ()),
    PropertyId.CONTENT_TYPE: ("0000", MESSAGE, ()),
    PropertyId.RESPONSE_TOPIC: ("0001 72", MESSAGE, ("0000", "0001 2b", "0003 612f23")),
    PropertyId.CORRELATION_DATA: ("0002 00ff", MESSAGE, ()),
    PropertyId.SUBSCRIPTION_IDENTIFIER: ("01", {"SUBSCRIBE"}, ("00",)),
    PropertyId.SESSION_EXPIRY_INTERVAL: ("ffffffff", {"CONNECT", "DISCONNECT"}, ()),
    PropertyId.ASSIGNED_CLIENT_IDENTIFIER: ("0001 63", set(), ()),
    PropertyId.SERVER_KEEP_ALIVE: ("0001", set(), ()),
    PropertyId.AUTHENTICATION_METHOD: ("0001 6d", AUTHENTICATION, ()),
    PropertyId.AUTHENTICATION_DATA: ("0001 ff", AUTHENTICATION, ()),
    PropertyId.REQUEST_PROBLEM_INFORMATION: ("00", {"CONNECT"}, ("02", "ff")),
    PropertyId.WILL_DELAY_INTERVAL: ("00000001", {"will"}, ()),
    PropertyId.REQUEST_RESPONSE_INFORMATION: ("01", {"CONNECT"}, ("02", "ff")),
    PropertyId.RESPONSE_INFORMATION: ("0001 72", set(), ()),
    PropertyId.SERVER_REFERENCE: ("0001 72", {"DISCONNECT"}, ()),
    PropertyId.REASON_STRING: ("0001 72", {*ACKNOWLEDGEMENTS, "DISCONNECT", "AUTH"}, ()),
    PropertyId.RECEIVE_MAXIMUM: ("0001", {"CONNECT"}, ("0000",)),
    PropertyId.TOPIC_ALIAS_MAXIMUM: ("0000", {"CONNECT"}, ()),
    PropertyId.TOPIC_ALIAS: ("0001", {"PUBLISH"}, ()),
    PropertyId.MAXIMUM_QOS: ("01", set(), ()),
    PropertyId.RETAIN_AVAILABLE: ("01", set(), ()),
    PropertyId.USER_PROPERTY: ("0001 6b 0001 76", set(PLACES), ()),
    PropertyId.MAXIMUM_PACKET_SIZE: ("00000001", {"CONNECT"}, ("00000000",)),
    PropertyId.WILDCARD_SUBSCRIPTION_AVAILABLE: ("01", set(), ()),
    PropertyId.SUBSCRIPTION_IDENTIFIER_AVAILABLE: ("01", set(), ()),
    PropertyId.SHARED_SUBSCRIPTION_AVAILABLE: ("01", set(), ()),
}
CASES: Final = [(place, identifier) for place in PLACES for identifier in PROPERTIES]
ALLOWED: Final = [(place, identifier) for place, identifier in CASES if place in PROPERTIES[identifier][1]]


def packet_with(place: str, *properties: tuple[int, str]) -> bytes:
    """A packet of 5.0 with these properties and what the packet needs besides."""
    first, before, after = PLACES[place]
    block = b"".join(bytes((identifier,)) + bytes.fromhex(value) for identifier, value in properties)
    identifiers = {identifier for identifier, _ in properties}
    needs_method = place == "AUTH" or (place == "CONNECT" and PropertyId.AUTHENTICATION_DATA in identifiers)
    if needs_method and PropertyId.AUTHENTICATION_METHOD not in identifiers:
        block += bytes.fromhex("15 0001 6d")
    body = bytes.fromhex(before) + bytes((len(block),)) + block + bytes.fromhex(after)
    return bytes((first, len(body))) + body


@pytest.mark.parametrize(("place", "identifier"), ALLOWED)
def test_property_is_taken_where_it_is_allowed(place: str, identifier: PropertyId) -> None:
    raw = packet_with(place, (identifier, PROPERTIES[identifier][0]))
    assert decode_packet(raw, 5)[1] == len(raw)


@pytest.mark.parametrize(("place", "identifier"), [case for case in CASES if case not in ALLOWED])
def test_property_of_other_packets_is_malformed(place: str, identifier: PropertyId) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_packet(packet_with(place, (identifier, PROPERTIES[identifier][0])), 5)
    # Valid in a PUBLISH, but for servers only [MQTT-3.3.4-6].
    is_from_server = (place, identifier) == ("PUBLISH", PropertyId.SUBSCRIPTION_IDENTIFIER)
    expected = ReasonCode.PROTOCOL_ERROR if is_from_server else ReasonCode.MALFORMED_PACKET
    assert refusal.value.reason_code is expected


@pytest.mark.parametrize(("place", "identifier"), ALLOWED)
def test_property_is_there_once_unless_it_is_a_user_property(place: str, identifier: PropertyId) -> None:
    raw = packet_with(place, *[(identifier, PROPERTIES[identifier][0])] * 2)
    if identifier is PropertyId.USER_PROPERTY:
        assert decode_packet(raw, 5)[1] == len(raw)
    else:
        with pytest.raises(ProtocolError, match="is there twice") as refusal:
            decode_packet(raw, 5)
        assert refusal.value.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("place", "identifier", "value"),
    [(place, identifier, value) for place, identifier in ALLOWED for value in PROPERTIES[identifier][2]],
)
def test_forbidden_value_is_a_protocol_error(place: str, identifier: PropertyId, value: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_packet(packet_with(place, (identifier, value)), 5)
    assert refusal.value.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize("identifier", sorted(set(range(0x100)) - set(PropertyId)))
def test_property_that_is_not_assigned_is_malformed(identifier: int) -> None:
    with pytest.raises(MalformedPacket, match="not assigned"):
        decode_packet(packet_with("PUBLISH", (identifier, "00")), 5)


# What goes to subscribers: (properties as received, properties as sent on). Letters stand for the properties below.
PARTS: Final = {
    "E": "02 0000003c",  # expiry, which is written first
    "A": "23 0001",  # alias
    "F": "01 01",
    "C": "03 0001 74",
    "R": "08 0001 72",
    "D": "09 0001 ff",
    "U": "26 0001 6b 0001 76",
}


@pytest.mark.parametrize(
    ("received", "sent"),
    [
        ("", ""),
        ("A", ""),
        ("E", "E"),
        ("AE", "E"),
        ("U", "U"),
        ("UAC", "UC"),
        ("UEC", "EUC"),
        ("AUE", "EU"),
        ("UAEC", "EUC"),
        ("UUAFDUERCU", "EUUFDURCU"),
        ("EFAUR", "EFUR"),
        ("FCRDUUEA", "EFCRDUU"),
    ],
)
def test_forwarded_properties_keep_their_bytes_and_their_order(received: str, sent: str) -> None:
    def publish(letters: str) -> bytes:
        block = b"".join(bytes.fromhex(PARTS[letter]) for letter in letters)
        body = b"\0\x01a" + bytes((len(block),)) + block + b"payload"
        return bytes((0x31, len(body))) + body

    assert forward_publish(publish(received), 5, 5) == publish(sent)


def test_properties_are_not_forwarded_to_earlier_versions() -> None:
    received = bytes.fromhex("33 15 0001 61 0102 0a 26 0001 6b 0001 76 23 0001 7061796c6f")
    assert forward_publish(received, 5, 4) == bytes.fromhex("33 0a 0001 61 0102 7061796c6f")


def test_message_of_an_earlier_version_gets_an_empty_property_block() -> None:
    assert forward_publish(bytes.fromhex("30 04 0001 61 78"), 4, 5) == bytes.fromhex("30 05 0001 61 00 78")


def test_user_properties_are_found_among_others() -> None:
    raw = packet_with("PUBLISH", (0x26, "0001 61 0000"), (0x02, "00000001"), (0x26, "0001 61 0001 62"), (0x01, "00"))
    packet, _ = decode_packet(raw, 5)
    assert isinstance(packet, Publish)
    assert packet.user_properties == (("a", ""), ("a", "b"))


@pytest.mark.parametrize("topic_filter", ["", "a/+/#/b", "$share/g", "#" * 300])
def test_topic_filters_are_not_judged_here(topic_filter: str) -> None:
    text = topic_filter.encode()
    body = b"\0\x01" + len(text).to_bytes(2, "big") + text
    packet, _ = decode_packet(b"\xa2" + encode_variable_byte_integer(len(body)) + body, 4)
    assert packet == Unsubscribe(packet_id=1, topic_filters=(topic_filter,))


# Reason codes that a client may send, table 2-6 and those of the packets.
REASONS: Final = {
    0x40: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    0x50: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    0x62: {0x00, 0x92},
    0x70: {0x00, 0x92},
    0xE0: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99},
    0xF0: {0x18, 0x19},
}


@pytest.mark.parametrize("first", REASONS)
def test_reason_codes_are_those_of_the_packet(first: int) -> None:
    accepted = set()
    for reason_code in range(256):
        body = {0xE0: b"", 0xF0: b""}.get(first, b"\0\x01") + bytes((reason_code,))
        body += bytes.fromhex("04 15 0001 6d") if first == 0xF0 else b""
        try:
            decode_packet(bytes((first, len(body))) + body, 5)
        except ProtocolError as error:
            assert error.reason_code is ReasonCode.PROTOCOL_ERROR  # noqa: PT017 - the codes that pass are collected
        else:
            accepted.add(reason_code)
    assert accepted == REASONS[first]


# Flags that the fixed header of each type may have, of what a client sends [2.1.3].
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("first", [0x10, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0])
def test_reserved_flags_are_what_the_standard_lists(first: int, version: int) -> None:
    raw = next(row.raw for row in ACCEPTED if row.raw[0] == first and row.version == version)
    accepted = set()
    for flags in range(16):
        try:
            decode_packet(bytes((first & 0xF0 | flags,)) + raw[1:], version)
        except MalformedPacket:
            continue
        accepted.add(flags)
    assert accepted == {first & 15}


@pytest.mark.parametrize("first", [0x40, 0x62, 0x82, 0xA2, 0xC0, 0xE0])
def test_flags_are_free_in_3_1(first: int) -> None:
    row = next(row for row in ACCEPTED if row.raw[0] == first and row.version == 3)
    for flags in range(16):
        assert decode_packet(bytes((first & 0xF0 | flags,)) + row.raw[1:], 3)[0] == row.packet
