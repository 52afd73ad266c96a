"""What a courier says to the broker, as MQTT 5.0 has it, and where a packet of the broker's ends.

Few and small: a client's side of the protocol is nowhere else in the broker. Messages are decoded by the core's codec.
"""

from enum import IntEnum

from rookery.core.wire.spec import QoS

_KEEP_UNLESS_TOLD = 0x08 | 0x20  # Retain As Published, and no retained messages [3.8.3.1]
_ACKNOWLEDGED = 0x40
_DISCONNECT = b"\xe0\x00"


class Kind(IntEnum):
    """Of the packets that the broker sends to a courier."""

    CONNACK = 2
    PUBLISH = 3
    SUBACK = 9
    UNSUBACK = 11
    DISCONNECT = 14


def end_of_packet(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Where the body of the packet at start begins, and where it ends; None while it is not all there [1.5.5]."""
    size = 0
    for place in range(4):
        if start + 1 + place >= len(data):
            return None
        byte = data[start + 1 + place]
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            body = start + 2 + place
            return (body, body + size) if body + size <= len(data) else None
    raise ValueError("a Remaining Length has more than four bytes")  # No broker of ours sends this.


def connect(client_id: str, *, receive_maximum: int) -> bytes:
    """CONNECT with a clean start and without keep alive [3.1]."""
    properties = b"\x21" + receive_maximum.to_bytes(2, "big")
    head = _string("MQTT") + b"\x05\x02\x00\x00" + bytes((len(properties),)) + properties
    return _packet(0x10, head + _string(client_id))


def subscribe(packet_id: int, topic_filter: str, qos: QoS) -> bytes:
    """SUBSCRIBE to one topic filter, for what is published from now on [3.8]."""
    return _packet(
        0x82, packet_id.to_bytes(2, "big") + b"\0" + _string(topic_filter) + bytes((qos | _KEEP_UNLESS_TOLD,))
    )


def unsubscribe(packet_id: int, topic_filter: str) -> bytes:
    """UNSUBSCRIBE from one topic filter [3.10]."""
    return _packet(0xA2, packet_id.to_bytes(2, "big") + b"\0" + _string(topic_filter))


def acknowledge(packet_id: int) -> bytes:
    """PUBACK [3.4]."""
    return bytes((_ACKNOWLEDGED, 2)) + packet_id.to_bytes(2, "big")


def disconnect() -> bytes:
    """DISCONNECT, all is well [3.14]."""
    return _DISCONNECT


def _string(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _packet(first_byte: int, body: bytes) -> bytes:
    size = len(body)
    header = bytearray((first_byte,))
    while True:
        size, low = divmod(size, 128)
        header.append(low | (0x80 if size else 0))
        if not size:
            return bytes(header) + body
