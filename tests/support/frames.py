"""WebSocket frames of a client, byte by byte: right ones and wrong ones [RFC 6455 5.2]."""

import struct
from itertools import cycle

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
MASK = bytes.fromhex("a1b2c3d4")
NO_MASK = bytes(4)  # A mask that changes nothing: for payloads that are too long to be masked here.


def frame(opcode: int, payload: bytes = b"", *, first: int | None = None, mask: bytes = MASK) -> bytes:
    """A frame; first replaces the first byte, FIN and opcode."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = bytes((0x80 | 126,)) + struct.pack(">H", size)
    else:
        length = bytes((0x80 | 127,)) + struct.pack(">Q", size)
    masked = payload if mask == NO_MASK else bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
    return bytes((FIN | opcode if first is None else first,)) + length + mask + masked


def fragments(*parts: bytes, between: bytes = b"", mask: bytes = MASK) -> bytes:
    """One binary message in frames of these payloads; between stands in front of each but the first."""
    last = len(parts) - 1
    return b"".join(
        (between if number else b"")
        + frame(
            CONTINUATION,
            part,
            first=(CONTINUATION if number else BINARY) | (FIN if number == last else 0),
            mask=mask,
        )
        for number, part in enumerate(parts)
    )


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack(">H", code) + reason)
