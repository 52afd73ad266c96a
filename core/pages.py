"""What a broker has, told piece by piece: rows of the lists that Engine.list_sessions and its like answer with.

All times are milliseconds of the epoch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .notices import DropReason

# Of a tenant, over all shards and since the broker started; in the order of struct Counters in core/sessions/state.pxd.
COUNTERS = (
    "received_qos0",  # publications of clients
    "received_qos1",
    "received_qos2",
    "received_bytes_qos0",  # their payloads
    "received_bytes_qos1",
    "received_bytes_qos2",
    "sent_qos0",  # PUBLISH packets to clients
    "sent_qos1",
    "sent_qos2",
    "sent_bytes_qos0",  # their payloads
    "sent_bytes_qos1",
    "sent_bytes_qos2",
    "bytes_received",  # from connections
    "bytes_sent",  # to connections
    "messages_dropped",
    "actions_denied",  # publications, topic filters and wills that permission rules did not allow
    "resources_throttled",  # times that it had not enough of a resource
    "connections_held",  # times that a connection was held back for a rate of its own
    "connects",  # clients that were let in
    "disconnects",
    "transient_subscribes",  # topic filters that were granted, to sessions that end with their connection
    "persistent_subscribes",
    "transient_unsubscribes",  # topic filters that were given up
    "persistent_unsubscribes",
    "retained_matched",  # retained messages sent to new subscriptions
)


class TenantUsage(NamedTuple):
    """A tenant that a shard knows, and what it has of the resources that can be counted."""

    tenant_id: str
    topic_filters: int  # that somebody subscribes to, each once
    usage: Mapping[str, int]  # by the names of core.quotas.TOTALS


class TenantFigures(NamedTuple):
    """What one shard, or all of them, counted of a tenant."""

    sessions: int
    retained_messages: int
    counters: tuple[int, ...]  # by the places of COUNTERS

    def __add__(self, other: object) -> "TenantFigures":
        """Those of several shards add up."""
        if not isinstance(other, TenantFigures):
            return NotImplemented
        return TenantFigures(
            self.sessions + other.sessions,
            self.retained_messages + other.retained_messages,
            tuple(map(sum, zip(self.counters, other.counters, strict=True))),
        )


NO_FIGURES = TenantFigures(0, 0, (0,) * len(COUNTERS))


class SessionState(NamedTuple):
    """A session as its shard sees it between two turns."""

    user_id: str
    client_id: str
    protocol_version: int  # 3, 4 or 5: of the present, or the last, connection
    is_online: bool
    is_persistent: bool
    incarnation: int  # names this session in this process
    subscription_count: int
    waiting_qos0: int  # messages in its inbox
    waiting_qos12: int
    inflight_count: int  # messages sent and not yet fully acknowledged
    session_expiry_interval: int  # seconds; 0xFFFFFFFF = never
    keep_alive: int  # seconds; 0 = none
    created_at_ms: int | None  # None when a version that did not keep it has written it
    connected_at_ms: int  # of the present or the last connection
    detached_at_ms: int | None  # None when online
    dropped_messages: int
    last_drop_reason: DropReason | None  # None when it got all
    last_dropped_at_ms: int | None
    kept_bytes: int  # of messages that it holds
    peer: str  # "host:port"; empty when offline
    attributes: bytes  # what the authenticator gave, as JSON
    will: "Will | None"


class Will(NamedTuple):
    """The will of a session."""

    topic: str
    qos: int
    retain: bool
    delay_interval: int  # seconds


class SubscriptionState(NamedTuple):
    """A subscription of a session."""

    user_id: str
    client_id: str
    topic_filter: str  # without the share
    share_name: str | None  # None = not shared
    is_ordered: bool  # $oshare
    qos: int  # granted
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    subscription_id: int | None


class StoredMessage(NamedTuple):
    """A message that is kept: retained, or waiting for a session."""

    topic: str
    qos: int  # that of the delivery, for one that waits
    retain: bool
    payload_size: int  # bytes
    payload: bytes  # all of it, or its beginning
    expires_at_ms: int | None
    stored_at_ms: int | None  # of a retained message


class InflightMessage(NamedTuple):
    """A message that was sent and is not fully acknowledged."""

    packet_id: int
    due: str  # the packet that the client owes: PUBACK, PUBREC or PUBCOMP
    is_sent: bool  # on the present connection
    resend_count: int
    topic: str | None  # None where the message itself is not kept any more


class MatchingFilter(NamedTuple):
    """A topic filter that matches a topic, on one shard."""

    topic_filter: str
    sessions: int  # that subscribe to it by themselves
    groups: int  # shared groups on it
    granted_qos: int | None  # of the session that was asked about; None = it has no such subscription


class Verdicts(NamedTuple):
    """What the permission rules of a session say about a topic."""

    has_rules: bool  # else everything is allowed
    publish_qos: int | None  # the highest that it may publish with; None = denied
    publish_retain: bool
    subscribe_qos: int | None  # the highest that is granted; None = denied
    publish_rule: int | None  # place of the rule that decided; None = none did, and the default holds
    subscribe_rule: int | None
    rules_identity: int  # Permissions.identity of these rules


class Page(NamedTuple):
    """One piece of a list."""

    rows: tuple[Any, ...]
    following: int  # where the next page begins, of the lists whose places are numbers; 0 = there is none
    place: bytes  # the same of the others; empty = there is none
    is_found: bool  # the tenant, and the session where one is named
    verdicts: Verdicts | None = None  # with MatchingFilter
