"""Whole packets, made at random by the plain codec of the tests, through the compiled one."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery.core.wire import packets
from rookery.core.wire.codec import decode_packet, encode_packet
from rookery.core.wire.spec import SESSION_EXPIRY_NEVER, ProtocolVersion, QoS, ReasonCode, RetainHandling
from support import packets as plain
from support import strategies

VERSIONS = list(ProtocolVersion)
CLIENT_REASONS = {
    plain.Disconnect: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, *range(0x93, 0x9A)},
    plain.Auth: {0x18, 0x19},
}


def values_of(packet: object, *, of: type[Any]) -> dict[str, Any]:
    """The fields that plain packet and compiled packet have in common; None is left to the default."""
    names = {field.name for field in fields(of)}
    values = {field.name: getattr(packet, field.name) for field in fields(packet)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if name in names and value is not None}


def compiled(packet: Any) -> packets.Packet:
    """The packet as the compiled codec shows it."""
    kind = getattr(packets, type(packet).__name__)
    values = values_of(packet, of=kind)
    if "qos" in values:
        values["qos"] = QoS(values["qos"])
    if "reason_code" in values:
        values["reason_code"] = ReasonCode(values["reason_code"])
    if "reason_codes" in values:
        values["reason_codes"] = tuple(map(ReasonCode, values["reason_codes"]))
    if isinstance(packet, plain.Connect):
        values["protocol_version"] = ProtocolVersion(packet.version)
        if packet.will is not None:
            will = values_of(packet.will, of=packets.Will)
            values["will"] = packets.Will(**{**will, "qos": QoS(packet.will.qos)})
        if packet.version < 5:
            values["session_expiry_interval"] = 0 if packet.clean_start else SESSION_EXPIRY_NEVER
    if isinstance(packet, plain.Subscribe):
        values["requests"] = tuple(
            packets.SubscriptionRequest(
                request.topic_filter,
                QoS(request.qos),
                request.no_local,
                request.retain_as_published,
                RetainHandling(request.retain_handling),
            )
            for request in packet.subscriptions
        )
    made: packets.Packet = kind(**values)
    return made


def from_clients(version: int) -> st.SearchStrategy[plain.Packet]:
    """Valid packets that a client may send."""

    def may_be_sent(packet: plain.Packet) -> bool:
        if isinstance(packet, plain.Publish):
            return not packet.subscription_ids  # [MQTT-3.3.4-6]
        if isinstance(packet, plain.Connect):  # [MQTT-3.1.3-8 of 3.1.1]
            return packet.version != 4 or packet.client_id != "" or packet.clean_start
        if isinstance(packet, plain.Disconnect | plain.Auth) and version == 5:
            return packet.reason_code in CLIENT_REASONS[type(packet)]
        return not isinstance(packet, plain.Connack | plain.Suback | plain.Unsuback | plain.Pingresp)

    return strategies.packets(version).filter(may_be_sent)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_clients_send_is_decoded_as_the_plain_codec_encodes_it(version: ProtocolVersion) -> None:
    @settings(max_examples=400, deadline=None)
    @given(from_clients(version))
    def round_trip(packet: plain.Packet) -> None:
        raw = plain.encode(packet, version)
        assert decode_packet(raw, version) == (compiled(packet), len(raw))

    round_trip()


def from_servers(version: int) -> st.SearchStrategy[plain.Packet]:
    """Valid packets that a server sends, without the fields that ours never writes."""
    acknowledgements = (plain.Puback, plain.Pubrec, plain.Pubrel, plain.Pubcomp)
    kinds: list[st.SearchStrategy[Any]] = [
        strategies.publishes(version),
        *(strategies.acknowledgements(kind, version) for kind in acknowledgements),
        strategies.subacks(version),
        strategies.unsubacks(version),
    ]
    if version == 5:  # 3.x has return codes instead, which are tested one by one, and sends no DISCONNECT and AUTH.
        kinds += [
            strategies.connacks(version),
            strategies.disconnects(version).map(without("user_properties", "session_expiry_interval")),
            strategies.auths().filter(lambda packet: packet.authentication_method is not None),
        ]
    return st.one_of(kinds)


def without(*names: str) -> Callable[[Any], Any]:
    """The same packet with these fields at their defaults."""

    def strip(packet: Any) -> Any:
        defaults = {field.name: field.default for field in fields(packet) if field.name in names}
        return replace(packet, **defaults)

    return strip


@pytest.mark.parametrize("version", VERSIONS)
def test_what_servers_send_is_understood_by_the_plain_codec(version: ProtocolVersion) -> None:
    @settings(max_examples=400, deadline=None)
    @given(from_servers(version))
    def round_trip(packet: plain.Packet) -> None:
        sent = compiled(packet)
        understood, rest = plain.decode(encode_packet(sent, version), version)
        assert rest == b""
        assert compiled(understood) == sent

    round_trip()
