"""A broker without sockets, threads and clock, for tests that say who does what and when.

    broker = Broker()
    reader = broker.connect("reader")
    reader.subscribe("a/+", qos=1)
    broker.connect("writer").publish("a/b", b"x", qos=1)
    assert reader.take_message().payload == b"x"
    broker.advance(60)

Everything that follows from what a client sends has happened when the call returns: the shards are turned until none
of them has anything left to do. Time stands still until advance() moves it. What the broker sends is decoded by
support.packets, which refuses what the standard does not allow, so that every test checks that, too.
"""

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rookery.core.engine import Engine
from rookery.core.events import (
    AuthenticationAbandoned,
    AuthReceived,
    ConnectRequested,
    ReauthenticationRequested,
    Reply,
    SessionInfo,
    ShardStatistics,
)
from rookery.core.log.durable_log import BACKLOG_LIMIT, REFUSE_AFTER_MS, SEGMENT_SIZE, DurableLog
from rookery.core.notices import Notice, NoticeKind
from rookery.core.settings import TenantSettings
from support import packets
from support.packets import (
    MQTT_5_0,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

TENANT = "tenant"
USER = "user"
EPOCH_MS = 1_700_000_000_000  # Unix time when the clock of the shards is 0

# Of a broker whose test does not say how many it wants; see support.process.
SHARD_COUNT = int(os.environ.get("ROOKERY_TEST_SHARDS", "1"))

PacketT = TypeVar("PacketT")


class Admitted:
    """The verdict that lets a client in; words are those of Engine.admit."""

    def __init__(self, tenant_id: str = TENANT, user_id: str = USER, **words: Any) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.words = words


class Refused:
    """The verdict that turns a client away; words are those of Engine.refuse."""

    def __init__(self, reason_code: int, reason_string: str = "", **words: Any) -> None:
        self.reason_code = reason_code
        self.reason_string = reason_string
        self.words = words


class Challenged:
    """The verdict that asks a client for more; words are those of Engine.challenge."""

    def __init__(self, authentication_data: bytes | None, **words: Any) -> None:
        self.authentication_data = authentication_data
        self.words = words


Verdict = Admitted | Refused | Challenged


class Broker:
    """An engine, the test's clock, and the control plane in one line: decide says who is let in.

    Without it everybody is, and the shards remember that, as with the authenticator for development.
    data is the folder of the durable log. settings are those of every tenant. decide may return None: then the client
    waits for admit_waiting. answer goes on with enhanced authentications: what follows on AUTH; without it a CONNECT
    that names a method is refused.
    """

    def __init__(
        self,
        *,
        decide: Callable[[ConnectRequested], Verdict | None] = lambda request: Admitted(remember_ms=86_400_000),
        answer: Callable[[AuthReceived | ReauthenticationRequested], Verdict | None] | None = None,
        shard_count: int | None = None,
        data: Path | None = None,
        segment_size: int = SEGMENT_SIZE,
        refuse_after_ms: int = REFUSE_AFTER_MS,
        backlog_limit: int = BACKLOG_LIMIT,
        inbox_memory: int | None = 0,  # None: all messages that wait lie in memory
        writes_qos0: bool = False,
        now_ms: int = 1_000_000,
        unix_ms: int | None = None,  # None: the clocks of the shards and of the world go side by side
        **settings: Any,
    ) -> None:
        if shard_count is None:
            shard_count = SHARD_COUNT
        self.engine = Engine(shard_count=shard_count, default_settings=TenantSettings(**settings))
        self.now_ms = now_ms
        self.log: DurableLog | None = None
        if data is not None:
            # The mode changes what survives the machine, not what survives the process.
            self.log = DurableLog(
                data,
                sync="never",
                segment_size=segment_size,
                refuse_after_ms=refuse_after_ms,
                backlog_limit=backlog_limit,
            )
            if inbox_memory is not None:
                self.engine.spill([_nameless_file(data) for _ in range(shard_count)], inbox_memory)
            unix_ms = EPOCH_MS + now_ms if unix_ms is None else unix_ms
            self.engine.restore(self.log, now_ms=now_ms, unix_ms=unix_ms, writes_qos0=writes_qos0)
            self._log_thread = threading.Thread(target=self.log.run)
            self._log_thread.start()
        self.waiting: list[ConnectRequested] = []
        self.abandoned: list[int] = []  # handles of connections that closed within an exchange
        self.reauthenticating: list[int] = []  # handles of connections whose re-authentication is under way
        self._decide = decide
        self._answer = answer
        self._clients: list[Client] = []
        self._replies: dict[int, Any] = {}
        self._next_request = 0
        self._next_shard = 0
        self._running = set(range(shard_count))
        self.notices: list[Notice] = []

    # Time.

    def settle(self) -> None:
        """Turn until nothing happens any more."""
        idle_turns = 0
        # A connection may be handed to another shard and a message mailed to a third one.
        while idle_turns < 2 * self.engine.shard_count + 1:
            is_idle = True
            for shard in tuple(self._running):
                if not self.engine.turn(shard, self.now_ms):
                    self._running.discard(shard)
                for event in self.engine.take_events(shard):
                    self._handle(event)
                    is_idle = False
                self.notices.extend(self.engine.take_notices(shard)[0])
            for client in self._clients:
                if client._collect():
                    is_idle = False
            if self.log is not None and self.log.state().backlog_bytes > 0:
                is_idle = False
            idle_turns = idle_turns + 1 if is_idle else 0

    def advance(self, seconds: float) -> None:
        """Let time pass. What is due meanwhile happens in its order, a second at a time, the last moment included."""
        end_ms = self.now_ms + round(seconds * 1000)
        step_ms = max(1000, (end_ms - self.now_ms) // 1000)
        while self.now_ms < end_ms:
            self.now_ms = min(self.now_ms + step_ms, end_ms)
            self.settle()

    # Clients.

    def open(self, version: int = MQTT_5_0) -> "Client":
        """A connection that has sent nothing yet."""
        client = Client(self, self.engine.connect_memory(self._next_shard), version)
        self._next_shard = (self._next_shard + 1) % self.engine.shard_count
        self._clients.append(client)
        return client

    def connect(self, client_id: str = "", *, version: int = MQTT_5_0, **fields: Any) -> "Client":
        """A client that has been let in; fields are those of Connect."""
        client = self.open(version)
        connack = client.connect(client_id=client_id, **fields)
        assert connack.reason_code == 0, connack
        return client

    def admit_waiting(self, verdict: Verdict | None = None) -> None:
        """Decide about all clients that wait."""
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            self._tell(request, verdict or Admitted())
        self.settle()

    # Looking inside, as the HTTP API does.

    def observe(self, *kinds: NoticeKind) -> list[Notice]:
        """Have these kinds raised from now on; the list gets what comes."""
        self.engine.observe(kinds)
        self.settle()
        self.notices = []
        return self.notices

    def session(self, client_id: str, *, user_id: str = USER, tenant_id: str = TENANT) -> SessionInfo | None:
        """The session of this client, online or not."""
        reply: SessionInfo | None = self._ask(
            lambda request: self.engine.find_session(request, tenant_id=tenant_id, user_id=user_id, client_id=client_id)
        )
        return reply

    def statistics(self) -> list[ShardStatistics]:
        """Of all shards."""

        def ask(shard: int) -> Callable[[int], None]:
            return lambda request: self.engine.statistics(request, shard)

        return [self._ask(ask(shard)) for shard in range(self.engine.shard_count)]

    def count(self, name: str) -> int:
        """A counter or gauge of ShardStatistics over all shards."""
        return sum(int(getattr(statistics, name)) for statistics in self.statistics())

    def stop(self, grace_s: float) -> None:
        """The broker says good-bye to everybody and ends when all have heard it, or after the grace."""
        self.engine.stop(grace_ms=round(grace_s * 1000))
        self.settle()

    def crash(self) -> None:
        """The process is killed: what was not written down is forgotten."""
        self._end_log()
        self.engine.close()

    def _end_log(self) -> None:
        if self.log is not None:
            self.log.stop()
            self._log_thread.join()
            self.log = None

    def close(self) -> None:
        """Everybody hangs up; nothing may be left of the connections."""
        for client in self._clients:
            client.drop()
        self.advance(2)  # those that the broker has closed and that took their last bytes meanwhile
        connections = self.count("connections") if self._running else 0
        self._end_log()
        self.engine.close()
        assert connections == 0, f"{connections} connections are left"

    def _ask(self, command: Callable[[int], None]) -> Any:
        self._next_request += 1
        request = self._next_request
        command(request)
        self.settle()
        return self._replies.pop(request)

    def _handle(self, event: object) -> None:
        if isinstance(event, Reply):
            self._replies[event.request] = event.value
        elif isinstance(event, ConnectRequested):
            verdict = self._decide(event)
            if event.authentication_method is not None and self._answer is None:
                verdict = Refused(0x8C)
            if verdict is None:
                self.waiting.append(event)
            else:
                self._tell(event, verdict)
        elif isinstance(event, AuthReceived | ReauthenticationRequested):
            assert self._answer is not None
            if isinstance(event, ReauthenticationRequested):
                self.reauthenticating.append(event.connection)
            verdict = self._answer(event)
            if verdict is not None:
                self._tell(event, verdict)
        elif isinstance(event, AuthenticationAbandoned):
            self.abandoned.append(event.connection)

    def _tell(self, request: ConnectRequested | AuthReceived | ReauthenticationRequested, verdict: Verdict) -> None:
        connection = request.connection
        if isinstance(verdict, Challenged):
            self.engine.challenge(connection, verdict.authentication_data, **verdict.words)
            return
        if connection not in self.reauthenticating:
            if isinstance(verdict, Admitted):
                words = {"epoch": getattr(request, "epoch", 0), **verdict.words}
                self.engine.admit(connection, tenant_id=verdict.tenant_id, user_id=verdict.user_id, **words)
            else:
                self.engine.refuse(connection, verdict.reason_code, verdict.reason_string, **verdict.words)
            return
        self.reauthenticating.remove(connection)
        if isinstance(verdict, Admitted):
            self.engine.confirm(connection, verdict.words.pop("authentication_data", None), **verdict.words)
        else:
            self.engine.disconnect(connection, verdict.reason_code, verdict.reason_string, **verdict.words)


class Client:
    """One connection, from the client's side: it sends what it is told and keeps what it gets."""

    def __init__(self, broker: Broker, link: int, version: int) -> None:
        self.broker = broker
        self.version = version
        self._link = link
        self._undecoded = b""
        self._bytes = b""
        self._received: deque[Packet] = deque()
        self._packet_id = 0

    # Packets and bytes.

    def send(self, *to_send: Packet) -> None:
        """Send these packets in one piece."""
        self.send_bytes(b"".join(packets.encode(packet, self.version) for packet in to_send))

    def send_bytes(self, data: bytes) -> None:
        self.broker.engine.feed(self._link, data)
        self.broker.settle()

    def send_only(self, packet: Packet) -> None:
        """Send it, and let the test turn the shards."""
        self.broker.engine.feed(self._link, packets.encode(packet, self.version))

    def collect(self) -> list[Packet]:
        """Everything that has come when the test turns the shards."""
        self._collect()
        return self.take_all()

    def take(self, packet_class: type[PacketT]) -> PacketT:
        """The next packet, which must be of this class."""
        assert self._received, f"expected {packet_class.__name__}, received nothing"
        packet = self._received.popleft()
        assert isinstance(packet, packet_class), f"expected {packet_class.__name__}, received {packet}"
        return packet

    def take_all(self) -> list[Packet]:
        """Everything that has come."""
        received, self._received = list(self._received), deque()
        return received

    def take_first(self, packet_class: type[PacketT]) -> PacketT:
        """The first packet of this class; what came before it stays."""
        for packet in self._received:
            if isinstance(packet, packet_class):
                self._received.remove(packet)
                return packet
        raise AssertionError(f"expected {packet_class.__name__}, received {list(self._received)}")

    def take_bytes(self) -> bytes:
        """Everything that has come since this was last asked for, as it was on the wire; packets are not taken."""
        data, self._bytes = self._bytes, b""
        return data

    def expect_nothing(self) -> None:
        assert not self._received, f"expected nothing, received {list(self._received)}"

    @property
    def is_open(self) -> bool:
        """Has the broker not closed the connection?"""
        return bool(self.broker.engine.is_link_open(self._link))

    def expect_closed(self) -> Disconnect | None:
        """The broker closes, after a DISCONNECT at most, which is returned. Nothing else may have come."""
        farewell = None
        if self._received:
            farewell = self.take(Disconnect)
        self.expect_nothing()
        assert not self.is_open, "expected the connection to be closed"
        return farewell

    def drop(self) -> None:
        """Close without DISCONNECT."""
        self.broker.engine.hang_up(self._link)
        self.broker.settle()

    # The words of the domain.

    def connect(self, **fields: Any) -> Connack:
        """Send CONNECT; the CONNACK, whatever it says."""
        self.send(Connect(version=self.version, **fields))
        return self.take(Connack)

    def subscribe(self, *topic_filters: str | Subscription, qos: int = 0, **fields: Any) -> Suback:
        """Subscribe with options and properties; retained messages that come with it stay to be taken."""
        options = {
            name: fields.pop(name) for name in ("no_local", "retain_as_published", "retain_handling") if name in fields
        }
        subscriptions = tuple(
            Subscription(topic_filter, qos, **options) if isinstance(topic_filter, str) else topic_filter
            for topic_filter in topic_filters
        )
        self.send(Subscribe(packet_id=self.next_packet_id(), subscriptions=subscriptions, **fields))
        return self.take_first(Suback)

    def unsubscribe(self, *topic_filters: str, **fields: Any) -> Unsuback:
        self.send(Unsubscribe(packet_id=self.next_packet_id(), topic_filters=topic_filters, **fields))
        return self.take_first(Unsuback)

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, **fields: Any) -> int:
        """Publish and complete the handshake; the reason code that ended it, 0 at QoS 0."""
        packet_id = fields.pop("packet_id", None) or (self.next_packet_id() if qos else 0)
        self.send(Publish(topic=topic, payload=payload, qos=qos, packet_id=packet_id, **fields))
        if qos == 0:
            return 0
        if qos == 1:
            return self.take_first(Puback).reason_code
        pubrec = self.take_first(Pubrec)
        if pubrec.reason_code >= 0x80:
            return pubrec.reason_code
        self.send(Pubrel(packet_id=packet_id))
        return self.take_first(Pubcomp).reason_code

    def take_message(self, *, acknowledge: bool = True) -> Publish:
        """The next packet, which must be a PUBLISH; its handshake is completed unless acknowledge is False."""
        message = self.take(Publish)
        if acknowledge:
            self.acknowledge(message)
        return message

    def take_messages(self, *, acknowledge: bool = True) -> list[Publish]:
        """All messages that come, until no packet is left."""
        messages = []
        while self._received:
            messages.append(self.take_message(acknowledge=acknowledge))
        return messages

    def acknowledge(self, message: Publish) -> None:
        """Answer a message as its QoS asks; at QoS 2 until PUBCOMP."""
        if message.qos == 1:
            self.send(Puback(packet_id=message.packet_id))
        elif message.qos == 2:
            self.send(Pubrec(packet_id=message.packet_id))
            self.take_first(Pubrel)
            self.send(Pubcomp(packet_id=message.packet_id))

    def ping(self) -> None:
        """The broker still answers."""
        self.send(Pingreq())
        self.take_first(Pingresp)

    def disconnect(self, reason_code: int = 0, **properties: Any) -> None:
        """Send DISCONNECT; the broker closes, without a word of its own."""
        self.send(Disconnect(reason_code=reason_code, **properties))
        assert self.expect_closed() is None

    def next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _collect(self) -> bool:
        """Take over what the broker has sent; whether there was anything."""
        data = self.broker.engine.collect(self._link)
        self._bytes += data
        self._undecoded += data
        while self._undecoded:
            packet, self._undecoded = packets.decode(self._undecoded, self.version)
            if packet is None:
                break
            self._received.append(packet)
        return bool(data)


# What happens to those who break the protocol.


def _nameless_file(directory: Path) -> int:
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.dup(file.fileno())


def population(broker: Broker) -> dict[str, int]:
    """What clients can leave behind."""
    return {name: broker.count(name) for name in ("connections", "sessions", "subscriptions", "retained_messages")}


def expel(
    broker: Broker, bad: bytes | Packet, *, version: int = MQTT_5_0, reason_code: int = 0x81, **fields: Any
) -> None:
    """A client that sends this loses its connection, in 5.0 told why; its Will is published; nobody else is touched."""
    before = population(broker)
    bystander = broker.connect("bystander")
    bystander.subscribe("will/#", "bystander")
    offender = broker.connect("offender", version=version, will=Will(topic="will/offender", payload=b"gone"), **fields)
    data = bad if isinstance(bad, bytes) else packets.encode(bad, version)
    # What follows in the same segment is not looked at any more.
    offender.send_bytes(data + packets.encode(Publish(topic="bystander", payload=b"too late"), version))
    farewell = offender.expect_closed()
    if version == MQTT_5_0:
        assert farewell is not None, "closed without DISCONNECT"
        assert farewell.reason_code == reason_code, farewell
    else:
        assert farewell is None
    assert [message.payload for message in bystander.take_messages()] == [b"gone"]
    assert bystander.is_open
    bystander.publish("bystander", b"still here")
    assert bystander.take_message().payload == b"still here"
    bystander.disconnect()
    offender.drop()
    assert population(broker) == before


def turn_away(broker: Broker, bad: bytes | Connect, *, version: int = MQTT_5_0, reason_code: int | None = 0x81) -> None:
    """A client that begins with this is not let in; it gets a CONNACK with reason_code, or none; nobody is touched.

    An earlier session of the client identifier `same` keeps its connection and what it subscribed to.
    """
    before = population(broker)
    earlier = broker.connect("same", session_expiry_interval=100)
    earlier.subscribe("a")
    client = broker.open(version)
    data = bad if isinstance(bad, bytes) else packets.encode(bad, version)
    behind = packets.encode(Publish(topic="a", payload=b"too early"), version)
    client.send_bytes(data + behind)
    if reason_code is not None:
        connack = client.take(Connack)
        assert connack.reason_code == reason_code, connack
        assert not connack.session_present
    assert client.expect_closed() is None
    assert earlier.is_open
    earlier.publish("a", b"still here")
    assert [message.payload for message in earlier.take_messages()] == [b"still here"]
    earlier.disconnect(session_expiry_interval=0)
    client.drop()
    assert population(broker) == before
