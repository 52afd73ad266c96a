"""What a shard tells the control plane: one frozen class per event, and the answers to commands.

Engine.take_events returns them in the order in which the shard raised them.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from .notices import DropReason
from .pages import Page


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """A client sent CONNECT and waits for Engine.admit or Engine.refuse; the shard serves everybody else meanwhile."""

    connection: int  # handle: names this network connection until it closes, never reused within a process run
    listener_id: int
    peer: str  # "host:port" as the kernel names it; IPv6 hosts in brackets; "memory" for connections without a socket
    protocol_version: int  # 3, 4 or 5
    client_id: str  # empty when the client leaves the choice to the server
    username: str | None
    password: bytes | None
    clean_start: bool
    keep_alive: int = 0  # seconds, as the client asked; 0 = none
    session_expiry_interval: int = 0  # seconds, as the client asked; 0xFFFFFFFF = never
    will_topic: str | None = None  # None without a will
    will_qos: int = 0
    will_retain: bool = False
    request_response_information: bool = False  # the client asks for Admitted.response_information
    user_properties: tuple[tuple[str, str], ...] = ()  # of CONNECT, in order and with repeats
    authentication_method: str | None = None  # of an enhanced authentication [MQTT5 4.12]; None = plain
    authentication_data: bytes | None = None  # that the client begins it with
    ticket: int = 0  # that Engine.adopt was given for it; 0 = none
    epoch: int = 0  # for Engine.admit, when the verdict is to be remembered
    tenant_id: str | None = None  # of all clients that came in like this one, as the listener says; None = any
    certificate: bytes | None = None  # DER of the client's, which the TLS handshake has verified; None without one
    certificate_name: str | None = None  # the common name of a verified one, where a proxy tells no more of it

    @property
    def tenant_and_user(self) -> str | None:
        """The user name as `tenant/user`, where the listener says of which tenant it is; else as it is."""
        if self.tenant_id is None or not self.username or self.username.startswith(f"{self.tenant_id}/"):
            return self.username
        return f"{self.tenant_id}/{self.username}"


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A connection that Engine.adopt was given a ticket for has closed."""

    ticket: int


@dataclass(frozen=True, slots=True)
class AuthReceived:
    """The client's answer to Engine.challenge; it waits for what follows. Its method is that of its CONNECT."""

    connection: int  # handle, as in the event that began the exchange
    authentication_data: bytes | None
    reason_string: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ReauthenticationRequested:
    """An admitted client authenticates again and waits for Engine.challenge, confirm or disconnect.

    Its messages go on meanwhile.
    """

    connection: int  # handle; not that of its ConnectRequested when another shard owns the session
    listener_id: int
    peer: str
    protocol_version: int  # 5
    client_id: str
    tenant_id: str
    user_id: str
    authentication_method: str  # that of its CONNECT [MQTT-4.12.1-1]
    authentication_data: bytes | None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AuthenticationAbandoned:
    """The connection closed before its enhanced authentication came to an end: nobody waits for an answer any more."""

    connection: int


@dataclass(frozen=True, slots=True)
class PublishOutcome:
    """What became of a publication made by a command, on one shard; outcomes of several shards add up."""

    matched: int = 0  # sessions whose subscriptions matched, shared groups counted once
    queued: int = 0  # of these: handed to a connection or put into an inbox
    dropped: int = 0  # of these: refused by a full inbox, a full out-buffer or a packet size limit
    retained: bool = False  # stored (or cleared) as the retained message of its topic
    drops: tuple[int, ...] = (0,) * (1 + len(DropReason))  # those of dropped, by DropReason

    def __add__(self, other: "PublishOutcome") -> "PublishOutcome":
        return PublishOutcome(
            self.matched + other.matched,
            self.queued + other.queued,
            self.dropped + other.dropped,
            self.retained or other.retained,
            tuple(map(sum, zip(self.drops, other.drops, strict=True))),
        )

    @property
    def dropped_by(self) -> dict[str, int]:
        """Those of dropped by the name of their reason; without reasons that there were none for."""
        return {reason.name.lower(): self.drops[reason] for reason in DropReason if self.drops[reason]}


class RetainOutcome(IntEnum):
    """The number that answers Engine.retain."""

    FAILED = 0  # memory is short
    STORED = 1
    CLEARED = 2
    OVER_QUOTA = 3  # the tenant has not enough left of a resource


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as its shard sees it between two turns."""

    tenant_id: str
    user_id: str
    client_id: str
    protocol_version: int  # 3, 4 or 5: of the present, or the last, connection
    is_online: bool
    is_persistent: bool
    channel_id: str  # names the network connection; empty when offline
    peer: str  # "host:port"; empty when offline
    attributes: bytes  # what the authenticator gave, as JSON
    subscription_count: int
    inbox_count: int  # messages that wait
    inflight_count: int  # messages sent and not yet fully acknowledged
    session_expiry_interval: int  # seconds; 0xFFFFFFFF = never
    keep_alive: int  # seconds; 0 = none
    connected_at_ms: int  # milliseconds of the epoch; of the present or the last connection
    detached_at_ms: int | None  # milliseconds of the epoch; None when online


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Counters and gauges of one shard."""

    shard: int
    connections: int
    sessions: int
    tenants: int
    subscriptions: int
    retained_messages: int
    messages_received: int
    messages_sent: int
    messages_dropped: int
    actions_denied: int  # publications, topic filters and wills that permission rules did not allow
    resources_throttled: int  # times that a tenant had not enough of a resource
    connections_held: int  # times that a connection was held back for a rate of its own
    bytes_received: int
    bytes_sent: int
    turns: int
    verdicts_recalled: int = 0  # clients that were let in without asking, see Engine.admit
    cached_topics: int = 0  # in the match cache
    spare_bytes: int = 0  # of buffers that no connection needs at present


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the command that carried request; value is None where there is nothing to tell."""

    request: int
    value: PublishOutcome | SessionInfo | ShardStatistics | Page | int | None = None


@dataclass(frozen=True, slots=True)
class ShardStopped:
    """The shard has told its clients, flushed what it could and ends; no event follows."""

    shard: int
    aborted: int = field(default=0)  # connections that did not take their last bytes in time


Event = (
    ConnectRequested
    | ConnectionClosed
    | AuthReceived
    | ReauthenticationRequested
    | AuthenticationAbandoned
    | Reply
    | ShardStopped
)
