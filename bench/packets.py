"""The packets that the load generator sends before the measured part of a run, and the start of those within it.

Written apart from the broker's own encoder: a generator that shares the broker's code shares its mistakes.
"""

import struct
from collections.abc import Iterator, Sequence

# The generator writes the number of the connection over this part of the client identifier.
NUMBER_DIGITS = 8
# A packet with a thousand filters takes mosquitto and others several read calls; this many fit into one segment.
FILTERS_PER_SUBSCRIBE = 100

CONNECT = 0x10
PUBLISH = 0x30
SUBSCRIBE = 0x82

SESSION_EXPIRY_INTERVAL = 0x11
# Persistent sessions of a run end by themselves soon after it.
SESSION_EXPIRY_S = 300


def encode_length(length: int) -> bytes:
    """A variable byte integer (MQTT 1.5.5)."""
    if not 0 <= length < 1 << 28:
        raise ValueError(f"{length} does not fit into a variable byte integer")
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(0x80 | length & 0x7F)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def encode_text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


# What a device adds to a reading where it uses 5.0: content type, message expiry and one user property. 44 bytes; the
# generator reads less than 128.
PUBLISH_PROPERTIES = (
    b"\x02"
    + struct.pack("!I", 3600)
    + b"\x03"
    + encode_text("application/json")
    + b"\x26"
    + encode_text("unit")
    + encode_text("celsius-x10")
)


def encode_connect(
    *,
    version: int,
    client_id_prefix: str,
    keep_alive_s: int = 0,
    clean: bool = True,
    username: str | None = None,
    password: str | None = None,
) -> tuple[bytes, int]:
    """A CONNECT packet whose client identifier is the prefix and a number, and where the digits of that number are."""
    flags = (0x02 if clean else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    head = encode_text("MQTT") + struct.pack("!BBH", version, flags, keep_alive_s)
    if version == 5:
        properties = b"" if clean else struct.pack("!BI", SESSION_EXPIRY_INTERVAL, SESSION_EXPIRY_S)
        head += encode_length(len(properties)) + properties
    head += encode_text(client_id_prefix + "0" * NUMBER_DIGITS)
    tail = b"".join(encode_text(text) for text in (username, password) if text is not None)
    start = bytes([CONNECT]) + encode_length(len(head) + len(tail))
    return start + head + tail, len(start) + len(head) - NUMBER_DIGITS


def encode_subscribes(topic_filters: Sequence[str], *, version: int, qos: int) -> Iterator[bytes]:
    """SUBSCRIBE packets for all these filters, packet identifiers from 1."""
    batches = range(0, len(topic_filters), FILTERS_PER_SUBSCRIBE)
    for packet_id, first in enumerate(batches, start=1):
        body = struct.pack("!H", packet_id) + (b"\0" if version == 5 else b"")
        for topic_filter in topic_filters[first : first + FILTERS_PER_SUBSCRIBE]:
            body += encode_text(topic_filter) + bytes([qos])
        yield bytes([SUBSCRIBE]) + encode_length(len(body)) + body


def encode_publish_head(
    topic: str, *, version: int, qos: int, retain: bool, payload_size: int, properties: bytes = b""
) -> bytes:
    """A PUBLISH packet up to its payload; the packet identifier, if any, is the last field before the properties."""
    head = encode_text(topic) + (b"\0\0" if qos else b"")
    if version == 5:
        head += encode_length(len(properties)) + properties
    elif properties:
        raise ValueError(f"protocol version {version} has no properties")
    return bytes([PUBLISH | qos << 1 | retain]) + encode_length(len(head) + payload_size) + head


# What a WebSocket begins with. The key is that of RFC 6455 1.3; nobody looks at the answer's but for its end.
UPGRADE_REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
