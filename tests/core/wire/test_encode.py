"""What a server sends: the golden packets, and what has no form on the wire."""

import pytest

from rookery.core.wire.codec import encode_packet
from rookery.core.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)
from rookery.core.wire.spec import ConnectReturnCode, ProtocolVersion, QoS, ReasonCode

from .golden import SENT, Row

RETURN_CODES = {
    ReasonCode.SUCCESS: ConnectReturnCode.ACCEPTED,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturnCode.IDENTIFIER_REJECTED,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ConnectReturnCode.BAD_USER_NAME_OR_PASSWORD,
    ReasonCode.NOT_AUTHORIZED: ConnectReturnCode.NOT_AUTHORIZED,
    ReasonCode.BANNED: ConnectReturnCode.NOT_AUTHORIZED,
    ReasonCode.BAD_AUTHENTICATION_METHOD: ConnectReturnCode.NOT_AUTHORIZED,
}


@pytest.mark.parametrize("row", SENT, ids=str)
def test_packet_is_what_the_standard_shows(row: Row) -> None:
    assert encode_packet(row.packet, row.version).hex(" ") == row.raw.hex(" ")


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("reason_code", ReasonCode)
def test_connack_of_3_x_has_a_return_code(version: int, reason_code: ReasonCode) -> None:
    is_failure = reason_code >= 0x80
    otherwise = ConnectReturnCode.SERVER_UNAVAILABLE if is_failure else ConnectReturnCode.ACCEPTED
    encoded = encode_packet(Connack(reason_code=reason_code), version)
    assert encoded == bytes((0x20, 2, 0, RETURN_CODES.get(reason_code, otherwise)))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("reason_code", [code for code in ReasonCode if code >= 0x80])
def test_failures_in_a_suback_of_3_x_are_one(version: int, reason_code: ReasonCode) -> None:
    suback = Suback(packet_id=1, reason_codes=(reason_code, ReasonCode.GRANTED_QOS_2))
    assert encode_packet(suback, version) == bytes.fromhex("90 04 0001 80 02")


def test_dup_is_not_written_at_qos_0() -> None:
    assert encode_packet(Publish(topic="a", dup=True), 4)[0] == 0x30
    assert encode_packet(Publish(topic="a", dup=True, qos=QoS.AT_LEAST_ONCE, packet_id=1), 4)[0] == 0x3A


@pytest.mark.parametrize("size", range(70))
def test_topic_and_payload_of_every_size_are_copied_whole(size: int) -> None:
    topic = bytes(0x30 + index % 70 for index in range(size)).decode()
    payload = bytes(range(size))
    encoded = encode_packet(Publish(topic=topic, payload=payload), 4)
    assert encoded.endswith(size.to_bytes(2, "big") + topic.encode() + payload)


@pytest.mark.parametrize(
    "connack",
    [
        Connack(assigned_client_id=""),
        Connack(reason_string=""),
        Connack(response_information=""),
        Connack(server_reference=""),
        Connack(authentication_method=""),
        Connack(authentication_data=b""),
    ],
)
def test_empty_field_is_not_the_same_as_an_absent_one(connack: Connack) -> None:
    assert len(encode_packet(connack, 5)) == len(encode_packet(Connack(), 5)) + 3


@pytest.mark.parametrize(
    "packet",
    [
        Connect(),
        Subscribe(packet_id=1, requests=(SubscriptionRequest("a"),)),
        Unsubscribe(packet_id=1, topic_filters=("a",)),
        Pingreq(),
    ],
)
def test_server_does_not_send_what_clients_send(packet: Packet) -> None:
    with pytest.raises(TypeError, match="a server does not send"):
        encode_packet(packet, ProtocolVersion.MQTT_5_0)


@pytest.mark.parametrize(
    ("packet", "version", "message"),
    [
        (Publish(topic="a" * 65536), 4, "65536 bytes"),
        (Publish(topic="a\0b"), 4, r"U\+0000"),
        (Publish(topic="\ud800"), 4, "surrogates"),
        (Publish(topic="a", payload=bytes(268435453)), 4, "268435461 bytes"),
        (Publish(topic="a", subscription_ids=tuple(range(1, 66))), 5, "65 subscription identifiers"),
        (Connack(reason_string="a" * 65536), 5, "65536 bytes"),
        (Disconnect(), 4, "3.x"),
        (Disconnect(session_expiry_interval=1), 5, "Session Expiry"),
        (Disconnect(user_properties=(("a", "b"),)), 5, "user properties"),
        (Auth(reason_code=ReasonCode.SUCCESS), 4, "AUTH"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_packet_without_a_form_on_the_wire_is_refused(packet: Packet, version: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_packet(packet, version)


def test_packet_identifier_is_two_bytes() -> None:
    with pytest.raises(OverflowError):
        encode_packet(Puback(65536), 4)
