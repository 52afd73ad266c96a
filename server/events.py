"""What happens in the broker, as frozen dataclasses with past-tense names: for plugins, the HTTP API and the log.

A program asks for the types that it wants (EventBus.subscribe, an EventCollector); nothing is raised that nobody asked
for. Those marked "debug" come once per message or ping, and only for tenants with DebugModeEnabled. docs/events.md
says which of BifroMQ's types each stands for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from rookery.core.notices import CloseCause, DropReason, Notice, NoticeKind
from rookery.core.quotas import RESOURCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all have in common."""

    at_ms: int  # milliseconds of the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerEvent(Event):
    """About a connection that has no session: nobody knows yet whose it is."""

    peer: str  # "host:port"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEvent(Event):
    """About a tenant."""

    tenant_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent(TenantEvent):
    """About a client of a tenant, or its session."""

    user_id: str
    client_id: str


# The server itself.


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFailed(Event):
    """The durable log cannot be written: what would have to be durable is not acknowledged any more."""

    reason: str  # the operating system's words: "No space left on device"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageRecovered(Event):
    """The durable log is written again, and what had to wait is on the disk."""

    failed_ms: int  # for so long


# Before there is a session.


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRefused(StrangerEvent):
    """A CONNECT was answered with a refusal."""

    client_id: str
    protocol_version: int  # as the client names it; 3, 4 or 5 where that makes sense
    reason_code: int  # of 5.0, whatever the client speaks
    reason: str  # for people; may be empty


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectTimedOut(StrangerEvent):
    """No CONNECT came in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFailed(StrangerEvent):
    """What came was no CONNECT that could be answered, or broke the rules of WebSocket, also later on."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationAborted(StrangerEvent):
    """The connection ended within an enhanced authentication, before it was decided about the client."""

    client_id: str  # empty: it left the choice to the server
    authentication_method: str


# Connections and sessions.


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnected(ClientEvent):
    """A client was admitted and has its session."""

    peer: str
    protocol_version: int  # 3, 4 or 5
    clean_start: bool
    session_present: bool
    has_will: bool
    keep_alive: int  # seconds in force; 0 = none
    session_expiry_interval: int  # seconds in force


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDisconnected(ClientEvent):
    """The connection of an admitted client ended."""

    peer: str
    cause: CloseCause
    reason_code: int  # the client's with CLIENT, ours with SERVER, 0x80 with NETWORK
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(ClientEvent):
    """A session came to be."""

    is_persistent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(ClientEvent):
    """A session is no more: it expired, ended with its connection, or was replaced by a clean start."""

    was_persistent: bool


# Subscriptions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed(ClientEvent):
    """A topic filter was granted."""

    topic_filter: str  # with $share/... or $oshare/...
    qos: int  # granted
    subscription_id: int  # 0 = none


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeRefused(ClientEvent):
    """A topic filter was not granted."""

    topic_filter: str
    reason_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed(ClientEvent):
    """An UNSUBSCRIBE named this topic filter."""

    topic_filter: str
    reason_code: int  # 0x11: there was no such subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberStalled(ClientEvent):
    """A client does not take what it subscribed to; publishers no longer wait for it."""

    waiting_bytes: int


# Messages.


@dataclass(frozen=True, slots=True, kw_only=True)
class WillPublished(ClientEvent):
    """The will of a client was published."""

    topic: str
    qos: int
    retain: bool
    payload_size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRefused(ClientEvent):
    """A publication was not accepted."""

    topic: str
    qos: int
    retain: bool
    reason_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePublished(ClientEvent):
    """Debug: a publication was accepted and matched."""

    topic: str
    qos: int
    matched: int  # sessions on the publisher's shard, shared groups counted once
    payload_size: int
    reason_code: int  # 0x10: no matching subscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSent(ClientEvent):
    """Debug: a PUBLISH was written to a subscriber."""

    topic: str
    qos: int
    packet_id: int  # 0 with QoS 0
    retain: bool
    payload_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageConfirmed(ClientEvent):
    """Debug: a subscriber acknowledged a message."""

    packet_id: int
    packet_type: int  # 4 PUBACK, 5 PUBREC, 7 PUBCOMP
    reason_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReceived(ClientEvent):
    """Debug: a PINGREQ came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRetained(TenantEvent):
    """A retained message was stored."""

    topic: str
    qos: int
    payload_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedCleared(TenantEvent):
    """A retained message was removed by an empty one."""

    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainFailed(TenantEvent):
    """A message was handed out but not retained."""

    topic: str
    payload_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFanoutLimited(TenantEvent):
    """A publication matched more shared groups than MaxGroupFanout: the others did not get it."""

    topic: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRateExceeded(ClientEvent):
    """A client publishes more than MsgPubPerSec; it is told of once a second at most."""

    limit: int  # messages per second


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentFanoutLimited(TenantEvent):
    """A publication matched more persistent sessions than MaxPersistentFanout: the others did not get it."""

    topic: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentFanoutBytesLimited(TenantEvent):
    """A publication would put more than MaxPersistentFanoutBytes into persistent sessions: some did not get it."""

    topic: str
    limit: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDropped(ClientEvent):
    """A session did not get a message that was meant for it."""

    topic: str  # empty when nothing is kept of the message but its packet identifier
    qos: int
    reason: DropReason
    payload_size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedMatched(ClientEvent):
    """A new subscription got retained messages."""

    topic_filter: str  # without $share/...
    count: int  # messages


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfTenantResource(TenantEvent):
    """A tenant had not enough of a resource; it is told of once a second and resource at most."""

    resource: str  # one of rookery.core.quotas.RESOURCES
    limit: int  # 0: a plugin has closed the resource
    is_shadow: bool  # nothing was refused: the limit is the shadow's
    throttled: int  # times so far
    user_id: str  # of the client that asked for more; both empty where it has no session
    client_id: str


# What callers of the HTTP API do.


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControlFailed(ClientEvent):
    """The rules of a client that was authenticated could not be had."""

    reason: str
    is_bypassed: bool  # it was let in all the same, see ByPassPermCheckError


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerActed(TenantEvent):
    """A caller of the HTTP API published, retained or disconnected."""

    action: str  # publish, retain or kill
    caller_type: str  # client_type, as the caller names himself
    caller_metadata: tuple[tuple[str, str], ...]  # client_meta_*, as pairs
    user_id: str  # of whom, where the action names one
    client_id: str
    topic: str
    count: int  # sessions that matched, messages that were retained, clients that were disconnected


def _tenant(notice: Notice) -> dict[str, Any]:
    return {"at_ms": notice.at_ms, "tenant_id": notice.tenant_id}


def _client(notice: Notice) -> dict[str, Any]:
    return {**_tenant(notice), "user_id": notice.user_id, "client_id": notice.client_id}


def _stranger(notice: Notice) -> dict[str, Any]:
    return {"at_ms": notice.at_ms, "peer": notice.peer}


def _numbered(
    kind: type[Event], common: Callable[[Notice], dict[str, Any]], text: str | None = None, *numbers: str
) -> Callable[[Notice], Event]:
    """A builder for a class whose fields take the text and the numbers of a notice in order, converted to their types.

    A class keeps annotations as they are written here, so the conversion of each field is known when the table is made.
    """
    types = get_type_hints(kind)
    converters = [(name, types[name]) for name in numbers]

    def build(notice: Notice) -> Event:
        values = common(notice)
        if text is not None:
            values[text] = notice.text
        for (name, convert), number in zip(converters, notice.numbers, strict=False):
            values[name] = convert(number)
        return kind(**values)

    return build


def _connect_refused(notice: Notice) -> Event:
    version, reason_code, *_ = notice.numbers
    return ConnectRefused(
        at_ms=notice.at_ms,
        peer=notice.peer,
        client_id=notice.client_id,
        protocol_version=version,
        reason_code=reason_code,
        reason=notice.text,
    )


def _client_connected(notice: Notice) -> Event:
    version, flags, keep_alive, expiry = notice.numbers
    return ClientConnected(
        **_client(notice),
        peer=notice.peer,
        protocol_version=version,
        clean_start=bool(flags & 1),
        session_present=bool(flags & 2),
        has_will=bool(flags & 4),
        keep_alive=keep_alive,
        session_expiry_interval=expiry,
    )


def _client_disconnected(notice: Notice) -> Event:
    cause, reason_code, *_ = notice.numbers
    return ClientDisconnected(
        **_client(notice), peer=notice.peer, cause=CloseCause(cause), reason_code=reason_code, reason=notice.text
    )


def _message_dropped(notice: Notice) -> Event:
    qos, reason, payload_size, _ = notice.numbers
    return MessageDropped(
        **_client(notice), topic=notice.text, qos=qos, reason=DropReason(reason), payload_size=payload_size
    )


def _out_of_resource(notice: Notice) -> Event:
    resource, limit, is_shadow, throttled = notice.numbers
    return OutOfTenantResource(
        **_client(notice),
        resource=RESOURCES[resource],
        limit=limit,
        is_shadow=bool(is_shadow),
        throttled=throttled,
    )


# One row per kind of notice: the class, and what makes an event of a notice.
_ROWS: Final[dict[NoticeKind, tuple[type[Event], Callable[[Notice], Event]]]] = {
    NoticeKind.CONNECT_REFUSED: (ConnectRefused, _connect_refused),
    NoticeKind.CONNECT_TIMED_OUT: (ConnectTimedOut, _numbered(ConnectTimedOut, _stranger)),
    NoticeKind.CONNECTION_FAILED: (ConnectionFailed, _numbered(ConnectionFailed, _stranger, "reason")),
    NoticeKind.CLIENT_CONNECTED: (ClientConnected, _client_connected),
    NoticeKind.CLIENT_DISCONNECTED: (ClientDisconnected, _client_disconnected),
    NoticeKind.SESSION_STARTED: (SessionStarted, _numbered(SessionStarted, _client, None, "is_persistent")),
    NoticeKind.SESSION_ENDED: (SessionEnded, _numbered(SessionEnded, _client, None, "was_persistent")),
    NoticeKind.WILL_PUBLISHED: (
        WillPublished,
        _numbered(WillPublished, _client, "topic", "qos", "retain", "payload_size"),
    ),
    NoticeKind.SUBSCRIBED: (Subscribed, _numbered(Subscribed, _client, "topic_filter", "qos", "subscription_id")),
    NoticeKind.SUBSCRIBE_REFUSED: (
        SubscribeRefused,
        _numbered(SubscribeRefused, _client, "topic_filter", "reason_code"),
    ),
    NoticeKind.UNSUBSCRIBED: (Unsubscribed, _numbered(Unsubscribed, _client, "topic_filter", "reason_code")),
    NoticeKind.PUBLISH_REFUSED: (
        PublishRefused,
        _numbered(PublishRefused, _client, "topic", "qos", "retain", "reason_code"),
    ),
    NoticeKind.MESSAGE_RETAINED: (MessageRetained, _numbered(MessageRetained, _tenant, "topic", "qos", "payload_size")),
    NoticeKind.RETAINED_CLEARED: (RetainedCleared, _numbered(RetainedCleared, _tenant, "topic")),
    NoticeKind.RETAIN_FAILED: (RetainFailed, _numbered(RetainFailed, _tenant, "topic", "payload_size")),
    NoticeKind.SUBSCRIBER_STALLED: (
        SubscriberStalled,
        _numbered(SubscriberStalled, _client, None, "waiting_bytes"),
    ),
    NoticeKind.GROUP_FANOUT_LIMITED: (GroupFanoutLimited, _numbered(GroupFanoutLimited, _tenant, "topic", "limit")),
    NoticeKind.MESSAGE_PUBLISHED: (
        MessagePublished,
        _numbered(MessagePublished, _client, "topic", "qos", "matched", "payload_size", "reason_code"),
    ),
    NoticeKind.MESSAGE_SENT: (
        MessageSent,
        _numbered(MessageSent, _client, "topic", "qos", "packet_id", "payload_size", "retain"),
    ),
    NoticeKind.MESSAGE_CONFIRMED: (
        MessageConfirmed,
        _numbered(MessageConfirmed, _client, None, "packet_id", "packet_type", "reason_code"),
    ),
    NoticeKind.PING_RECEIVED: (PingReceived, _numbered(PingReceived, _client)),
    NoticeKind.PERSISTENT_FANOUT_LIMITED: (
        PersistentFanoutLimited,
        _numbered(PersistentFanoutLimited, _tenant, "topic", "limit"),
    ),
    NoticeKind.PERSISTENT_FANOUT_BYTES_LIMITED: (
        PersistentFanoutBytesLimited,
        _numbered(PersistentFanoutBytesLimited, _tenant, "topic", "limit"),
    ),
    NoticeKind.MESSAGE_DROPPED: (MessageDropped, _message_dropped),
    NoticeKind.RETAINED_MATCHED: (RetainedMatched, _numbered(RetainedMatched, _client, "topic_filter", "count")),
    NoticeKind.OUT_OF_RESOURCE: (OutOfTenantResource, _out_of_resource),
    NoticeKind.PUBLISH_RATE_EXCEEDED: (
        PublishRateExceeded,
        _numbered(PublishRateExceeded, _client, None, "limit"),
    ),
}

KINDS: Final[dict[type[Event], NoticeKind]] = {row[0]: kind for kind, row in _ROWS.items()}


def event_of(notice: Notice) -> Event:
    """The event that a notice of a shard stands for."""
    return _ROWS[notice.kind][1](notice)


def kinds_of(types: Iterable[type[Event]]) -> frozenset[NoticeKind]:
    """The notices that shards must raise for events of these types; a base class stands for all that derive from it."""
    chosen = tuple(types)
    return frozenset(kind for known, kind in KINDS.items() if issubclass(known, chosen))
