"""Packets that support.packets refuses to write or to read, put together from bytes."""

from support.packets import MQTT_3_1, MQTT_3_1_1, MQTT_5_0, encode_integer, encode_variable_byte_integer

VERSIONS = (MQTT_3_1, MQTT_3_1_1, MQTT_5_0)
STANDARDS = (MQTT_3_1_1, MQTT_5_0)  # those that number their statements


def frame(first_byte: int, *parts: bytes) -> bytes:
    """A packet with this first byte and the Remaining Length that its body has."""
    body = b"".join(parts)
    return bytes((first_byte,)) + encode_variable_byte_integer(len(body)) + body


def text(content: bytes) -> bytes:
    """Content with its length in front, be it UTF-8 or not."""
    return encode_integer(len(content), 2) + content


def block(properties: bytes, version: int = MQTT_5_0) -> bytes:
    """Properties with their length in front; nothing before 5.0."""
    return encode_variable_byte_integer(len(properties)) + properties if version == MQTT_5_0 else b""


def connect(
    *fields: bytes,
    version: int = MQTT_5_0,
    name: bytes | None = None,
    level: int | None = None,
    flags: int = 0x02,
    properties: bytes = b"",
    first_byte: int = 0x10,
) -> bytes:
    """CONNECT; fields are those of its payload, each as it shall be on the wire."""
    return frame(
        first_byte,
        text((b"MQIsdp" if version == MQTT_3_1 else b"MQTT") if name is None else name),
        bytes((version if level is None else level, flags)),
        encode_integer(0, 2),
        block(properties, version),
        *fields,
    )


def publish(
    topic: bytes,
    payload: bytes = b"",
    *,
    version: int = MQTT_5_0,
    flags: int = 0,
    packet_id: int = 0,
    properties: bytes = b"",
) -> bytes:
    """PUBLISH with these flags (DUP 8, QoS 2 and 4, RETAIN 1); a packet identifier is there if QoS is not 0."""
    return frame(
        0x30 | flags,
        text(topic),
        encode_integer(packet_id, 2) if flags & 0b0110 else b"",
        block(properties, version),
        payload,
    )


def subscribe(
    *filters: tuple[bytes, int],
    version: int = MQTT_5_0,
    packet_id: int = 1,
    properties: bytes = b"",
    first_byte: int = 0x82,
) -> bytes:
    """SUBSCRIBE with topic filters and their options as they shall be on the wire."""
    return frame(
        first_byte,
        encode_integer(packet_id, 2),
        block(properties, version),
        *(text(topic_filter) + bytes((options,)) for topic_filter, options in filters),
    )


def unsubscribe(
    *filters: bytes, version: int = MQTT_5_0, packet_id: int = 1, properties: bytes = b"", first_byte: int = 0xA2
) -> bytes:
    """UNSUBSCRIBE."""
    return frame(
        first_byte, encode_integer(packet_id, 2), block(properties, version), *(text(each) for each in filters)
    )


def acknowledgement(first_byte: int, packet_id: int, *rest: bytes) -> bytes:
    """PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70."""
    return frame(first_byte, encode_integer(packet_id, 2), *rest)
