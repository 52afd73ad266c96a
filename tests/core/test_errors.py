"""The error tree."""

import copy

import pytest

from rookery.core.errors import MalformedPacket, NotAuthorized, ProtocolError, QuotaExceeded
from rookery.core.wire.spec import ReasonCode


@pytest.mark.parametrize(
    ("error", "reason_code"),
    [
        (ProtocolError(ReasonCode.TOPIC_NAME_INVALID, "why"), ReasonCode.TOPIC_NAME_INVALID),
        (MalformedPacket("why"), ReasonCode.MALFORMED_PACKET),
        (NotAuthorized("why"), ReasonCode.NOT_AUTHORIZED),
        (QuotaExceeded("why"), ReasonCode.QUOTA_EXCEEDED),
    ],
)
def test_error_carries_what_the_peer_is_told(error: ProtocolError, reason_code: ReasonCode) -> None:
    for each in (error, copy.copy(error)):
        assert isinstance(each, ProtocolError)
        assert (each.reason_code, each.detail) == (reason_code, "why")
        assert str(each) == f"why (0x{reason_code:02X})"
