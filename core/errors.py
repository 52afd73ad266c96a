"""What a peer did wrong, or may not do: one tree of exceptions that carry what the peer is told.

The compiled modules pass reason codes; these classes are for Python callers. Messages name the value and the limit.
"""

from .wire.spec import ReasonCode


class ProtocolError(Exception):
    """A peer broke the protocol: decodable, but not allowed [1.2, 4.13]. The root of the tree."""

    def __init__(self, reason_code: ReasonCode, detail: str) -> None:
        # Exception.__new__ has set args to what the class was called with, so that every subclass can be copied.
        self.reason_code = reason_code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.detail} (0x{self.reason_code:02X})"


class MalformedPacket(ProtocolError):
    """Bytes that cannot be decoded as the standard says [1.2, 4.13]."""

    def __init__(self, detail: str) -> None:
        super().__init__(ReasonCode.MALFORMED_PACKET, detail)


class NotAuthorized(ProtocolError):
    """The peer may not do what it asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__(ReasonCode.NOT_AUTHORIZED, detail)


class QuotaExceeded(ProtocolError):
    """A limit of the tenant or of the server is reached."""

    def __init__(self, detail: str) -> None:
        super().__init__(ReasonCode.QUOTA_EXCEEDED, detail)


class EngineBusy(Exception):
    """The command queue of a shard is full; nothing was done."""
