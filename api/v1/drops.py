"""The last message that a session did not get, as sessions and explanations tell of it."""

from collections.abc import Mapping
from typing import Any, Literal

from rookery.core.pages import SessionState

# rookery.core.notices.DropReason
DropReasonName = Literal[
    "overflow",
    "overflow_oldest",
    "too_large",
    "no_memory",
    "retries_exhausted",
    "expired",
    "not_authorized",
    "fanout_limited",
    "out_of_resource",
]


def describe_last_drop(session: SessionState) -> Mapping[str, Any]:
    """Why and when, as JSON; null when it got all."""
    reason = session.last_drop_reason
    return {
        "last_drop_reason": None if reason is None else reason.name.lower(),
        "last_dropped_at_ms": session.last_dropped_at_ms,
    }
