"""What a shard tells of its own accord: kinds of notices, and what their numbers and texts mean.

Engine.observe chooses the kinds, Engine.take_notices returns what came. server/events.py makes of them the events that
people write programs for.
"""

from enum import IntEnum
from typing import NamedTuple


class NoticeKind(IntEnum):
    """The numbers of core/sessions/notices.pxd; behind each its numbers and what its text is."""

    CONNECT_REFUSED = 1  # protocol version, reason code; detail
    CONNECT_TIMED_OUT = 2
    CONNECTION_FAILED = 3  # detail
    CLIENT_CONNECTED = 4  # protocol version, ConnectFlag, keep alive (s), session expiry interval (s)
    CLIENT_DISCONNECTED = 5  # CloseCause, reason code; detail
    SESSION_STARTED = 6  # is persistent
    SESSION_ENDED = 7  # was persistent
    WILL_PUBLISHED = 8  # QoS, retain, payload size; topic
    SUBSCRIBED = 9  # reason code, subscription id; topic filter
    SUBSCRIBE_REFUSED = 10  # reason code; topic filter
    UNSUBSCRIBED = 11  # reason code; topic filter
    PUBLISH_REFUSED = 12  # QoS, retain, reason code; topic
    MESSAGE_DROPPED = 13  # QoS, drop reason, payload size; topic
    MESSAGE_RETAINED = 14  # QoS, payload size; topic
    RETAINED_CLEARED = 15  # topic
    RETAIN_FAILED = 16  # payload size; topic
    RETAINED_MATCHED = 17  # messages; topic filter
    SUBSCRIBER_STALLED = 18  # bytes that wait
    GROUP_FANOUT_LIMITED = 19  # limit; topic
    MESSAGE_PUBLISHED = 20  # QoS, matched, payload size, reason code; topic
    MESSAGE_SENT = 21  # QoS, packet id, payload size, retain; topic
    MESSAGE_CONFIRMED = 22  # packet id, packet type, reason code
    PING_RECEIVED = 23
    PUBLISH_RATE_EXCEEDED = 24  # limit, messages per second
    PERSISTENT_FANOUT_LIMITED = 25  # limit; topic
    PERSISTENT_FANOUT_BYTES_LIMITED = 26  # limit, bytes; topic
    OUT_OF_RESOURCE = 27  # place in RESOURCES, limit, is a shadow's, times so far


# Raised only for tenants with DebugModeEnabled.
DEBUG_KINDS = frozenset(
    (
        NoticeKind.MESSAGE_PUBLISHED,
        NoticeKind.MESSAGE_SENT,
        NoticeKind.MESSAGE_CONFIRMED,
        NoticeKind.PING_RECEIVED,
    )
)


class DropReason(IntEnum):
    """Why a session did not get a message; the numbers of core/sessions/drops.pxd."""

    OVERFLOW = 1  # its inbox is full, or its client takes no bytes
    OVERFLOW_OLDEST = 2  # its inbox is full and the oldest message went for a newer one
    TOO_LARGE = 3  # for the client's Maximum Packet Size
    NO_MEMORY = 4
    RETRIES_EXHAUSTED = 5  # sent again MaxResendTimes times
    EXPIRED = 6  # Message Expiry Interval; told of in debug mode only, and not counted as dropped
    NOT_AUTHORIZED = 7  # by permission rules that came into force while it waited
    FANOUT_LIMITED = 8  # MaxPersistentFanout or MaxPersistentFanoutBytes
    OUT_OF_RESOURCE = 9  # a quota of the tenant


class CloseCause(IntEnum):
    """Who ended a connection."""

    CLIENT = 1  # by a DISCONNECT
    NETWORK = 2  # without one
    SERVER = 3


class Notice(NamedTuple):
    """One notice; what does not belong to its kind is empty or 0."""

    kind: NoticeKind
    at_ms: int  # milliseconds of the epoch
    tenant_id: str
    user_id: str
    client_id: str
    peer: str
    text: str
    numbers: tuple[int, int, int, int]
