from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rookery.core.events import Event
from rookery.core.log.durable_log import DurableLog
from rookery.core.notices import Notice, NoticeKind
from rookery.core.pages import TenantUsage
from rookery.core.permissions.rule_set import Permissions
from rookery.core.quotas import ResourceState
from rookery.core.settings import TenantSettings

def check_message_user_properties(pairs: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError when Engine.admit does not take them as message_user_properties."""

class WaitingMemory(NamedTuple):
    """What messages that wait in inboxes take, in bytes."""

    memory_bytes: int  # of all engines of the process
    file_bytes: int  # whole chunks of 4 MiB

class Engine:
    def __init__(
        self, *, shard_count: int = 1, server_id: str = "", default_settings: TenantSettings | None = None
    ) -> None: ...
    @property
    def shard_count(self) -> int: ...
    @property
    def server_id(self) -> str: ...
    def compact(self) -> None:
        """Write what is alive anew and have the log drop all that is older.

        For an engine of one shard after restore(), while the log runs and no shard does. Blocks. OSError when the log
        cannot be written; then nothing is dropped.
        """

    def spill(self, descriptors: Sequence[int], after_bytes: int) -> None:
        """Keep messages that wait in inboxes in files, once those of the process take after_bytes of memory.

        descriptors: one empty file per shard, taken over. Before restore() and before any shard runs.
        """

    def waiting_memory(self) -> WaitingMemory:
        """What messages that wait in inboxes take just now."""

    def restore(
        self, log: DurableLog, now_ms: int | None = None, unix_ms: int | None = None, *, writes_qos0: bool = False
    ) -> None:
        """Read sessions and retained messages back, and write all changes to the log from now on.

        Once, before any shard runs; the log's run() must go on until all shards have stopped. now_ms is the clock that
        turn() gets, unix_ms the time of day. Raises LogError when the log cannot be used.
        """

    def run_shard(self, shard: int) -> None: ...
    def turn(self, shard: int, now_ms: int) -> bool: ...
    def stop(self, grace_ms: int = 3000) -> None: ...
    def event_descriptor(self, shard: int) -> int: ...
    def take_events(self, shard: int) -> list[Event]: ...
    def observe(self, kinds: Iterable[NoticeKind]) -> None:
        """Have notices of these kinds raised from now on, and no others."""

    def take_notices(self, shard: int, limit: int = 1024) -> tuple[list[Notice], int]:
        """The oldest notices that wait, and how many were lost since the last call because too many waited.

        Where more wait than limit, the event descriptor is readable again.
        """

    def limit_connections(
        self,
        listeners: Sequence[tuple[int, int]],
        *,
        connections: int = 0,
        rate_per_s: int = 0,
        network_connections: int = 0,
        network_rate_per_s: int = 0,
        ipv4_bits: int = 32,
        ipv6_bits: int = 64,
    ) -> None:
        """How many connections there may be, and how many may come per second; once, before shards run.

        In all, of each listener (both, by listener_id), and of each source network: ipv4_bits of an address of IPv4 (1
        to 32), ipv6_bits of one of IPv6 (1 to 64). 0 = unlimited. A rate lets one second's worth come at once. What is
        too much is closed as soon as it is accepted, and counted.
        """

    def enter(self, listener_id: int, host: str) -> tuple[int, int]:
        """Count a connection that the caller accepted: why it may not come in, and the network that it is counted by.

        The first is 0 when it may; else the place in the counts of gate_counts, from 1. Who may comes with adopt, or
        has to leave. host is an IP address without brackets; anything else has no network.
        """

    def leave(self, listener_id: int, network: int) -> None:
        """It ended before a shard adopted it."""

    def gate_counts(self) -> list[tuple[int, tuple[int, ...]]]:
        """By listener: connections now, and how many were refused; empty without limits.

        Those were refused for connections in all, of the listener, of the network; for rates in all, of the listener,
        of the network.
        """

    def set_connect_timeout(self, timeout_ms: int) -> None:
        """For each connection, from accept to the verdict on its CONNECT; before shards run."""

    def set_packet_timeout(self, timeout_ms: int) -> None:
        """For each packet of a client, from its first byte to its last; 0 = for ever; before shards run."""

    def listen(self, descriptor: int, listener_id: int = 0) -> None: ...
    def stop_listening(self) -> None: ...
    def use_tls(
        self,
        *,
        read: int,
        write: int,
        get_error: int,
        pending: int,
        do_handshake: int,
        shutdown: int,
        release: int,
        clear_errors: int,
    ) -> None:
        """The addresses of the functions SSL_... and ERR_clear_error of OpenSSL, before the first adopt with ssl."""

    def adopt(
        self,
        descriptor: int,
        listener_id: int = 0,
        *,
        is_websocket: bool = False,
        early: bytes = b"",
        ssl: int = 0,
        peer: str = "",
        ticket: int = 0,
        is_counted: bool = False,
        network: int = 0,
    ) -> None:
        """Serve a connected, non-blocking socket, whose descriptor a shard owns and closes from now on.

        is_websocket: the upgrade is done, and frames follow; early are those bytes of them that were read with it.
        ssl is the address of an SSL object after its handshake, which reads and writes the descriptor itself; the
        shard owns and frees it. peer is who it is, instead of what the socket says. ticket comes back in the
        ConnectRequested, and in a ConnectionClosed at the end; 0 = no such event. is_counted: it has come through
        enter, which gave its network. Raises EngineBusy and ValueError;
        descriptor and ssl stay the caller's then.
        """

    def admit(
        self,
        connection: int,
        *,
        tenant_id: str,
        user_id: str,
        attributes: bytes = b"{}",
        response_information: str = "",
        reason_string: str = "",
        user_properties: Iterable[tuple[str, str]] = (),
        authentication_data: bytes | None = None,
        permissions: Permissions | None = None,
        lifetime_ms: int = 0,
        message_user_properties: Iterable[tuple[str, str]] = (),
        remember_ms: int = 0,
        epoch: int = 0,
    ) -> None:
        """Let the client of a ConnectRequested in, also at the end of an exchange of AUTH packets.

        response_information is told when the client asked for it, authentication_data when its CONNECT has a method,
        reason_string and user_properties when it wants problem information and takes packets of that size. Strings
        and data have 65535 bytes at most, user_properties 65536 in all. Raises ValueError beyond that, before
        anything is done; so do all methods below. permissions are what the session may do; None = everything.
        After lifetime_ms the connection ends, for 5.0 with 0xa0; 0 = never. message_user_properties come behind those
        of each message that the client publishes, its will included; 4096 bytes in all.

        For remember_ms from now on its shard lets in whoever comes to the same listener with the same user name and
        password, in the same way and without asking; 0 = it asks. That ends at once with forget_verdicts, and does
        not begin when that was called since the question: epoch is that of the ConnectRequested. Clients that name an
        authentication method or came by adopt with a ticket are always asked about. Not with lifetime_ms or
        authentication_data.
        """

    def forget_verdicts(self) -> None:
        """From now on every client is asked about again, whatever was decided about others before."""

    def refuse(
        self,
        connection: int,
        reason_code: int,
        reason_string: str = "",
        *,
        server_reference: str = "",
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Turn the client of a ConnectRequested away: CONNACK, then the connection closes.

        reason_code is 0x80 to 0xff; server_reference goes with 0x9c and 0x9d only [MQTT5 4.11].
        """

    def disconnect(
        self, connection: int, reason_code: int, reason_string: str = "", *, server_reference: str = ""
    ) -> None:
        """End the connection of an admitted client: DISCONNECT for 5.0, then it closes; its will is kept.

        connection is the handle of a ReauthenticationRequested. reason_code is one that a server may send in
        DISCONNECT; server_reference goes with 0x9c and 0x9d only [MQTT5 4.11].
        """

    def challenge(
        self,
        connection: int,
        authentication_data: bytes | None,
        *,
        reason_string: str = "",
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Ask the client of a ConnectRequested, ReauthenticationRequested or AuthReceived for more: AUTH 0x18.

        AuthReceived or AuthenticationAbandoned follows. Without effect when the client has gone, or named no method.
        """

    def confirm(
        self,
        connection: int,
        authentication_data: bytes | None,
        *,
        reason_string: str = "",
        user_properties: Iterable[tuple[str, str]] = (),
        lifetime_ms: int = 0,
    ) -> None:
        """End a re-authentication well: AUTH 0x00. lifetime_ms counts from now, as that of admit."""

    def throttle(self, tenant_id: str, resources: Iterable[str]) -> None:
        """From now on a tenant has no more of these of RESOURCES, whatever its limits say, and enough of the others."""

    def resources(self, tenant_id: str) -> tuple[ResourceState, ...]:
        """What a tenant has of each of RESOURCES now, and how often it had not enough since it came to be."""

    def configure_tenant(self, tenant_id: str, settings: TenantSettings) -> None: ...
    def set_permissions(self, permissions: Permissions | None, *, tenant_id: str, user_id: str, client_id: str) -> None:
        """The rules of one session from now on; None = it may do everything. A session that is not there: nothing."""

    def replace_permissions(self, replaced: Permissions, permissions: Permissions) -> None:
        """From now on permissions hold wherever replaced do: for sessions, and for admits under way and to come.

        Subscriptions, waiting messages and wills that the new rules do not allow end. Each shard walks over its
        sessions with rules in steps; messages go on in between. ValueError when either was replaced before.
        """

    def publish(
        self,
        request: int,
        shard: int,
        *,
        tenant_id: str,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        message_expiry_interval: int | None = None,
    ) -> None: ...
    def publish_batch(
        self,
        request: int,
        shard: int,
        *,
        tenant_id: str,
        messages: Sequence[tuple[str, bytes, int, bool, int | None]],
    ) -> None:
        """Publish many at once: topic, payload, QoS, retain, message expiry interval. The reply adds them all up.

        They are handed out in one turn: a few hundred are a good number.
        """

    def find_session(self, request: int, *, tenant_id: str, user_id: str, client_id: str) -> None: ...
    def kill(
        self,
        request: int,
        *,
        tenant_id: str,
        user_id: str,
        client_id: str,
        reason_code: int = 0x98,
        reason_string: str = "",
        server_reference: str = "",
    ) -> None:
        """Disconnect a client; its will is published. The reply is 1, or None when it is not online."""

    def kill_all(
        self,
        request: int,
        shard: int,
        *,
        tenant_id: str,
        user_id: str = "",
        reason_code: int = 0x98,
        reason_string: str = "",
        server_reference: str = "",
    ) -> None:
        """Disconnect the clients of a tenant, or of one user of it, on one shard. The reply is their number."""

    def end_sessions(self, request: int, shard: int, *, tenant_id: str, offline_s: int) -> None:
        """End persistent sessions of a tenant on one shard: those offline for offline_s or longer; 0 = all, online too.

        The reply is their number.
        """

    def subscribe(
        self, request: int, *, tenant_id: str, user_id: str, client_id: str, topic_filter: str, qos: int = 0
    ) -> None:
        """Subscribe for a client that is online, as if it had done so itself.

        The reply is the reason code, plus 0x100 when the subscription existed; None when the client is not online.
        """

    def unsubscribe(self, request: int, *, tenant_id: str, user_id: str, client_id: str, topic_filter: str) -> None:
        """Unsubscribe for a client that is online. The reply is the reason code; None when it is not online."""

    def retain(
        self,
        request: int,
        *,
        tenant_id: str,
        topic: str,
        payload: bytes,
        qos: int = 0,
        message_expiry_interval: int | None = None,
    ) -> None:
        """Store a retained message without delivering it; an empty payload clears. The reply is a RetainOutcome."""

    def remove_retained(self, request: int, shard: int, *, tenant_id: str, age_s: int) -> None:
        """Remove retained messages of a tenant that one shard keeps: those stored age_s ago or longer; 0 = all.

        The reply is their number.
        """

    # Lists. place is where a page begins: Page.place or Page.following of the one before; limit is rows, 1000 at most.
    # A page may be short, even empty, and have one that follows. The reply of each is a Page.

    def list_tenants(self, place: int = 0, limit: int = 100) -> tuple[list[TenantUsage], int]:
        """Tenants that some shard knows, about limit of them, and the place of the next page, 0 behind the last."""

    def tell_tenants(self, request: int, shard: int, *, tenant_ids: Iterable[str]) -> None:
        """What one shard counted: TenantFigures of all tenants together, then of each of these, in order."""

    def list_sessions(
        self,
        request: int,
        shard: int,
        *,
        tenant_id: str,
        user_id: str = "",
        online_only: bool = False,
        place: bytes = b"",
        limit: int = 100,
    ) -> None:
        """SessionState rows of one shard, in no order; user_id: of this user only."""

    def look_at_session(self, request: int, *, tenant_id: str, user_id: str, client_id: str) -> None:
        """One SessionState, or none."""

    def list_subscriptions(
        self, request: int, shard: int, *, tenant_id: str, user_id: str = "", place: bytes = b"", limit: int = 100
    ) -> None:
        """SubscriptionState rows of one shard, in no order; user_id: of this user only."""

    def list_session_subscriptions(
        self, request: int, *, tenant_id: str, user_id: str, client_id: str, place: int = 0, limit: int = 100
    ) -> None:
        """SubscriptionState rows of one session."""

    def list_inbox(
        self,
        request: int,
        *,
        tenant_id: str,
        user_id: str,
        client_id: str,
        place: int = 0,
        limit: int = 100,
        payload_limit: int = 0,
    ) -> None:
        """StoredMessage rows of one session, the oldest first, with payload_limit bytes of each payload at most.

        place counts from the oldest: what is delivered meanwhile moves it.
        """

    def list_inflight(self, request: int, *, tenant_id: str, user_id: str, client_id: str, limit: int = 100) -> None:
        """InflightMessage rows of one session, the oldest first; there is no further page."""

    def list_retained(
        self,
        request: int,
        *,
        tenant_id: str,
        topic_filter: str = "#",
        place: bytes = b"",
        limit: int = 100,
        payload_limit: int = 0,
    ) -> None:
        """StoredMessage rows of a checked topic filter, with payload_limit bytes of each payload at most."""

    def list_matches(
        self,
        request: int,
        shard: int,
        *,
        tenant_id: str,
        topic: str,
        user_id: str = "",
        client_id: str = "",
        limit: int = 100,
    ) -> None:
        """MatchingFilter rows of one shard for a checked topic; with the verdicts about the session, if it is here."""

    def statistics(self, request: int, shard: int) -> None: ...
    def connect_memory(self, shard: int = 0) -> int: ...
    def feed(self, link: int, data: bytes) -> None: ...
    def collect(self, link: int) -> bytes: ...
    def hang_up(self, link: int) -> None: ...
    def is_link_open(self, link: int) -> bool: ...
    def close(self) -> None: ...
