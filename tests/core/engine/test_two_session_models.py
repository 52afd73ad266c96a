"""Two sessions in plain Python beside the real ones: whatever clients do, both send the same packets.

Where test_session_model.py follows one session closely, two meet here, and what lies between connections is in play:
each connection has a version, a session expiry interval and a receive maximum of its own, may take another one over or
be cut in the middle of a packet; subscriptions have all their options, a message is retained, intervals run out.
Hypothesis makes up short lives, seeds long and busy ones. After each act the model says which packets each client must
have got, in which order and with which flags; a packet more, less or other than that fails. Packet identifiers are the
broker's choice: the model knows only that they are free when a message is new, and the same when it comes again.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support import packets
from support.memory_broker import Broker, Client
from support.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscription,
)
from support.plain_topics import is_match

NAMES = ("p", "q")
TOPICS = ("t/a", "t/b")
RETAINED_TOPIC = "t/a"  # only one, so that their order is known
TOPIC_FILTERS = ("t/a", "t/b", "t/+", "#")
PACKET_IDS = (1, 2)  # of what the clients publish
INBOX_SIZE = 4  # messages of QoS 0, and as many of the others
NOT_FOUND = 0x92
SESSION_TAKEN_OVER = 0x8E
# Seconds. No sum of steps is any of the intervals: what happens on the very moment is not asked here.
TIME_STEPS = (4, 9)
SESSION_EXPIRY_INTERVALS = (0, 6, 15)
LONGEST_S = 100  # that a session without a connection lives; one of 3.x does
MESSAGE_EXPIRY_INTERVALS = (None, 2, 11)
NEVER_MS = 1 << 62


@dataclass
class Held:
    """A message on its way to one session."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    subscription_ids: tuple[int, ...]
    expires_at_ms: int
    packet_id: int | None = None  # once it was seen
    is_received: bool = False  # PUBREC came, PUBCOMP did not
    is_sent: bool = True  # on the present connection

    def publish(self, version: int, now_ms: int, *, dup: bool = False) -> Publish:
        """The packet, without its identifier."""
        is_5 = version == MQTT_5_0
        left_s = -(-max(1, self.expires_at_ms - now_ms) // 1000)
        return Publish(
            topic=self.topic,
            payload=self.payload,
            qos=self.qos,
            retain=self.retain,
            dup=dup,
            subscription_ids=tuple(sorted(self.subscription_ids)) if is_5 else (),
            message_expiry_interval=left_s if is_5 and self.expires_at_ms != NEVER_MS else None,
        )


@dataclass
class Session:
    """What the standard calls the session state [MQTT5 4.1], and the window of the present connection."""

    expiry_interval: int
    client: Client | None = None
    version: int = MQTT_5_0
    receive_maximum: int = 65535
    detached_at_ms: int = 0
    subscriptions: dict[str, tuple[Subscription, int | None]] = field(default_factory=dict)
    inflight: list[Held] = field(default_factory=list)
    inbox: list[Held] = field(default_factory=list)
    received: set[int] = field(default_factory=set)  # QoS 2 packet identifiers that the client has not released
    expected: list[tuple[Held | None, Packet]] = field(default_factory=list)  # deliveries

    def deliver(self, held: Held, now_ms: int) -> None:
        is_waiting_kind = any((one.qos == 0) == (held.qos == 0) for one in self.inbox)
        if self.client is not None and held.qos == 0 and not is_waiting_kind:
            self.expected.append((None, held.publish(self.version, now_ms)))
        elif self.client is None and self.expiry_interval == 0:
            return
        elif sum((one.qos == 0) == (held.qos == 0) for one in self.inbox) >= INBOX_SIZE and not self.is_going(held):
            return  # the inbox is full: the newest is dropped
        else:
            self.inbox.append(held)
            self.pump(now_ms)

    def is_going(self, held: Held) -> bool:
        """Would it be sent at once?"""
        return self.client is not None and not self.inbox and self.is_open

    @property
    def is_open(self) -> bool:
        return sum(one.is_sent for one in self.inflight) < self.receive_maximum

    def pump(self, now_ms: int) -> None:
        """First what was in flight on an earlier connection, in its order, then what waits."""
        if self.client is None:
            return
        for held in self.inflight:
            if held.is_sent:
                continue
            if not self.is_open:
                return
            held.is_sent = True
            if held.is_received:
                assert held.packet_id is not None
                self.expected.append((held, Pubrel(packet_id=held.packet_id)))
            else:
                self.expected.append((held, held.publish(self.version, now_ms, dup=True)))
        while self.inbox and self.is_open:
            held = self.inbox.pop(0)
            if held.expires_at_ms <= now_ms:
                continue
            if held.qos:
                self.inflight.append(held)
            self.expected.append((held if held.qos else None, held.publish(self.version, now_ms)))

    def detach(self, now_ms: int) -> None:
        self.client = None
        self.detached_at_ms = now_ms
        for held in self.inflight:
            held.is_sent = False


class SessionMachine(RuleBasedStateMachine):
    """Two clients that do everything and a writer that only publishes."""

    shard_count = 1

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(
            shard_count=self.shard_count,
            session_inbox_size=INBOX_SIZE,
            min_session_expiry_seconds=1,
            max_session_expiry_seconds=LONGEST_S,
        )
        self.sessions: dict[str, Session] = {}
        self.retained: Held | None = None
        self.payloads: Iterator[int] = iter(range(1 << 30))
        self.writer = self.broker.connect("writer")

    def teardown(self) -> None:
        for session in self.sessions.values():
            if session.client is not None:
                session.client.drop()
        self.writer.publish(RETAINED_TOPIC, b"", retain=True)
        self.writer.drop()
        self.broker.advance(LONGEST_S + 1)
        for name in ("connections", "sessions", "subscriptions", "retained_messages"):
            assert self.broker.count(name) == 0, name
        self.broker.close()

    # Connections.

    @property
    def is_anybody_online(self) -> bool:
        return any(self.online(name) for name in NAMES)

    def online(self, name: str) -> tuple[Session, Client] | None:
        session = self.sessions.get(name)
        return None if session is None or session.client is None else (session, session.client)

    def parted(self, name: str) -> None:
        """The connection of this session has ended."""
        self.sessions[name].detach(self.broker.now_ms)
        if self.sessions[name].expiry_interval == 0:
            del self.sessions[name]

    @rule(
        name=st.sampled_from(NAMES),
        clean_start=st.booleans(),
        expiry_interval=st.sampled_from(SESSION_EXPIRY_INTERVALS),
        receive_maximum=st.sampled_from((None, 1, 2)),
        version=st.sampled_from((MQTT_3_1, MQTT_3_1_1, MQTT_5_0, MQTT_5_0)),
    )
    def connect(
        self, name: str, clean_start: bool, expiry_interval: int, receive_maximum: int | None, version: int
    ) -> None:
        self.connect_as(name, clean_start, expiry_interval, receive_maximum, version)

    def connect_as(
        self, name: str, clean_start: bool, expiry_interval: int, receive_maximum: int | None, version: int
    ) -> None:
        earlier = self.online(name)
        client = self.broker.open(version)
        if version == MQTT_5_0:
            connack = client.connect(
                client_id=name,
                clean_start=clean_start,
                session_expiry_interval=expiry_interval,
                receive_maximum=receive_maximum,
            )
        else:
            connack = client.connect(client_id=name, clean_start=clean_start)
            expiry_interval = 0 if clean_start else LONGEST_S
        if earlier is not None:
            farewell = earlier[1].expect_closed()
            assert farewell == (Disconnect(reason_code=SESSION_TAKEN_OVER) if earlier[0].version == 5 else None)
            self.parted(name)
        if clean_start:
            self.sessions.pop(name, None)
        # 3.1 has no flag for it.
        assert connack.session_present == (name in self.sessions and version != MQTT_3_1)
        session = self.sessions.setdefault(name, Session(expiry_interval))
        session.expiry_interval = expiry_interval
        session.client = client
        session.version = version
        session.receive_maximum = (receive_maximum if version == MQTT_5_0 else None) or 65535
        session.pump(self.broker.now_ms)

    @initialize(version=st.sampled_from((MQTT_3_1_1, MQTT_5_0)), receive_maximum=st.sampled_from((None, 1, 2, 3)))
    def begin(self, version: int, receive_maximum: int | None) -> None:
        """Most of what is interesting needs clients that are subscribed."""
        for name in NAMES:
            self.connect_as(name, False, SESSION_EXPIRY_INTERVALS[-1], receive_maximum, version)
            self.subscribe_to(name, Subscription("#", 2), None)

    @precondition(lambda self: self.is_anybody_online)
    @rule(name=st.sampled_from(NAMES), fragment=st.integers(0, 20))
    def lose(self, name: str, fragment: int) -> None:
        """The connection is cut, in the middle of a packet perhaps."""
        if (found := self.online(name)) is None:
            return
        begun = packets.encode(Publish(topic=RETAINED_TOPIC, payload=b"x" * 20, qos=1, packet_id=9), found[0].version)
        if fragment:
            found[1].send_bytes(begun[:fragment])
        found[1].drop()
        self.parted(name)

    @precondition(lambda self: self.is_anybody_online)
    @rule(name=st.sampled_from(NAMES), expiry_interval=st.sampled_from((None, *SESSION_EXPIRY_INTERVALS)))
    def disconnect(self, name: str, expiry_interval: int | None) -> None:
        if (found := self.online(name)) is None:
            return
        session, client = found
        # From 0 to another value is a protocol error [MQTT5 3.14.2.2.2].
        if session.version == MQTT_5_0 and session.expiry_interval != 0 and expiry_interval is not None:
            client.disconnect(session_expiry_interval=expiry_interval)
            session.expiry_interval = expiry_interval
        else:
            client.disconnect()
        self.parted(name)

    @rule(seconds=st.sampled_from(TIME_STEPS))
    def wait(self, seconds: int) -> None:
        self.broker.advance(seconds)
        for name, session in list(self.sessions.items()):
            if session.client is None and self.broker.now_ms >= session.detached_at_ms + session.expiry_interval * 1000:
                del self.sessions[name]
        if self.retained is not None and self.retained.expires_at_ms <= self.broker.now_ms:
            self.retained = None

    # Subscriptions.

    @precondition(lambda self: self.is_anybody_online)
    @rule(
        name=st.sampled_from(NAMES),
        topic_filter=st.sampled_from(TOPIC_FILTERS),
        qos=st.integers(0, 2),
        no_local=st.booleans(),
        retain_as_published=st.booleans(),
        retain_handling=st.integers(0, 2),
        subscription_id=st.sampled_from((None, 1, 200)),
    )
    def subscribe(
        self,
        name: str,
        topic_filter: str,
        qos: int,
        no_local: bool,
        retain_as_published: bool,
        retain_handling: int,
        subscription_id: int | None,
    ) -> None:
        if (found := self.online(name)) is None:
            return
        if found[0].version == MQTT_5_0:
            subscription = Subscription(topic_filter, qos, no_local, retain_as_published, retain_handling)
            self.subscribe_to(name, subscription, subscription_id)
        else:
            self.subscribe_to(name, Subscription(topic_filter, qos), None)

    def subscribe_to(self, name: str, subscription: Subscription, subscription_id: int | None) -> None:
        found = self.online(name)
        assert found is not None
        session, client = found
        if self.retained is not None and sum(held.qos > 0 for held in session.inbox) > INBOX_SIZE // 2:
            return  # retained messages would wait for room: when they come is not asked here
        topic_filter, qos = subscription.topic_filter, subscription.qos
        suback = client.subscribe(subscription, subscription_id=subscription_id)
        assert suback.reason_codes == (qos,)
        is_new = topic_filter not in session.subscriptions
        session.subscriptions[topic_filter] = (subscription, subscription_id)
        is_wanted = subscription.retain_handling == 0 or (subscription.retain_handling == 1 and is_new)
        if self.retained is not None and is_wanted and is_match(topic_filter, RETAINED_TOPIC):
            kept = self.retained
            ids = () if subscription_id is None else (subscription_id,)
            session.deliver(
                Held(kept.topic, kept.payload, min(qos, kept.qos), True, ids, kept.expires_at_ms), self.broker.now_ms
            )

    @precondition(lambda self: self.is_anybody_online)
    @rule(name=st.sampled_from(NAMES), topic_filter=st.sampled_from(TOPIC_FILTERS))
    def unsubscribe(self, name: str, topic_filter: str) -> None:
        if (found := self.online(name)) is None:
            return
        session, client = found
        unsuback = client.unsubscribe(topic_filter)
        if session.version == MQTT_5_0:
            assert unsuback.reason_codes == ((0,) if topic_filter in session.subscriptions else (0x11,))
        session.subscriptions.pop(topic_filter, None)

    # Messages to the broker.

    def published(self, publisher: str | None, message: Publish) -> None:
        """The broker has taken this message: who gets it?"""
        now_ms = self.broker.now_ms
        interval = message.message_expiry_interval
        expires_at_ms = NEVER_MS if interval is None else now_ms + interval * 1000
        for name, session in self.sessions.items():
            matching = [
                (subscription, subscription_id)
                for subscription, subscription_id in session.subscriptions.values()
                if is_match(subscription.topic_filter, message.topic)
                and not (subscription.no_local and name == publisher)
            ]
            if matching:
                held = Held(
                    message.topic,
                    message.payload,
                    min(message.qos, max(subscription.qos for subscription, _ in matching)),
                    message.retain and any(subscription.retain_as_published for subscription, _ in matching),
                    tuple(subscription_id for _, subscription_id in matching if subscription_id is not None),
                    expires_at_ms,
                )
                session.deliver(held, now_ms)
        if message.retain:
            self.retained = Held(message.topic, message.payload, message.qos, True, (), expires_at_ms)

    @rule(
        topic=st.sampled_from(TOPICS),
        qos=st.integers(0, 2),
        retain=st.booleans(),
        expiry_interval=st.sampled_from(MESSAGE_EXPIRY_INTERVALS),
        count=st.integers(1, 6),
    )
    def write(self, topic: str, qos: int, retain: bool, expiry_interval: int | None, count: int) -> None:
        for _ in range(count):
            message = Publish(
                topic=topic,
                payload=b"%d" % next(self.payloads),
                qos=qos,
                retain=retain and topic == RETAINED_TOPIC,
                packet_id=1 if qos else 0,
                message_expiry_interval=expiry_interval,
            )
            self.writer.send(message)
            self.published(None, message)
            if qos == 1:
                assert self.writer.take(Puback).reason_code < 0x80
            elif qos == 2:
                assert self.writer.take(Pubrec).reason_code < 0x80
                self.writer.send(Pubrel(packet_id=1))
                assert self.writer.take(Pubcomp).reason_code == 0

    @precondition(lambda self: self.is_anybody_online)
    @rule(
        name=st.sampled_from(NAMES),
        topic=st.sampled_from(TOPICS),
        qos=st.integers(0, 2),
        packet_id=st.sampled_from(PACKET_IDS),
        dup=st.booleans(),
    )
    def publish(self, name: str, topic: str, qos: int, packet_id: int, dup: bool) -> None:
        """A client publishes; QoS 2 only as far as PUBREC."""
        if (found := self.online(name)) is None:
            return
        session, client = found
        if qos == 1 and packet_id in session.received:
            return  # the identifier is taken
        message = Publish(
            topic=topic,
            payload=b"%d" % next(self.payloads),
            qos=qos,
            dup=dup and qos > 0,
            packet_id=packet_id if qos else 0,
        )
        client.send(message)
        if qos == 1:
            assert client.take_first(Puback).packet_id == packet_id
        if qos == 2:
            pubrec = client.take_first(Pubrec)
            assert pubrec.packet_id == packet_id
            assert pubrec.reason_code < 0x80
            # It came before and was not released: it is the same message, exactly once.
            if packet_id in session.received:
                return
            session.received.add(packet_id)
        self.published(name, message)

    @precondition(lambda self: self.is_anybody_online)
    @rule(name=st.sampled_from(NAMES), packet_id=st.sampled_from(PACKET_IDS))
    def release(self, name: str, packet_id: int) -> None:
        if (found := self.online(name)) is None:
            return
        session, client = found
        client.send(Pubrel(packet_id=packet_id))
        is_missing = packet_id not in session.received and session.version == MQTT_5_0
        assert client.take_first(Pubcomp) == Pubcomp(packet_id=packet_id, reason_code=NOT_FOUND if is_missing else 0)
        session.received.discard(packet_id)

    # Messages to the clients.

    def sent(self, name: str) -> list[Held]:
        found = self.online(name)
        return [] if found is None else [held for held in found[0].inflight if held.is_sent]

    @precondition(lambda self: any(self.sent(name) for name in NAMES))
    @rule(data=st.data(), count=st.integers(1, 10))
    def acknowledge(self, data: st.DataObject, count: int) -> None:
        """The next step of any messages that are in flight, one after another."""
        for _ in range(count):
            if names := [name for name in NAMES if self.sent(name)]:
                name = data.draw(st.sampled_from(names))
                self.take_step(name, data.draw(st.sampled_from(self.sent(name))), data.draw(st.integers(0, 9)) == 9)
                self.clients_have_what_they_are_to_have()

    @precondition(lambda self: any(self.sent(name) for name in NAMES))
    @rule(is_half=st.booleans())
    def acknowledge_all(self, is_half: bool) -> None:
        """The oldest first, until nothing is in flight; or every message by one step."""
        for name in NAMES:
            steps = len(self.sent(name)) if is_half else 1_000
            for step in range(steps):
                if sent := self.sent(name):
                    self.take_step(name, sent[step % len(sent) if is_half else 0], False)
                    self.clients_have_what_they_are_to_have()

    def take_step(self, name: str, held: Held, is_refused: bool) -> None:
        session, client = self.sessions[name], self.sessions[name].client
        assert client is not None
        assert held.packet_id is not None
        reason_code = 0x80 if is_refused and session.version == MQTT_5_0 else 0
        if held.qos == 1:
            client.send(Puback(packet_id=held.packet_id, reason_code=reason_code))
        elif held.is_received:
            client.send(Pubcomp(packet_id=held.packet_id))
        else:
            client.send(Pubrec(packet_id=held.packet_id, reason_code=reason_code))
            if reason_code == 0:
                held.is_received = True
                session.expected.append((held, Pubrel(packet_id=held.packet_id)))
                return
        session.inflight.remove(held)
        session.pump(self.broker.now_ms)

    @precondition(lambda self: self.is_anybody_online)
    @rule(name=st.sampled_from(NAMES), packet_class=st.sampled_from((Puback, Pubrec, Pubcomp)))
    def acknowledge_nothing(self, name: str, packet_class: type[Puback | Pubrec | Pubcomp]) -> None:
        """An identifier that is not in use: nothing changes."""
        if (found := self.online(name)) is None:
            return
        session, client = found
        client.send(packet_class(packet_id=60_000))
        if packet_class is Pubrec:
            reason_code = NOT_FOUND if session.version == MQTT_5_0 else 0
            assert client.take_first(Pubrel) == Pubrel(packet_id=60_000, reason_code=reason_code)

    @invariant()
    def clients_have_what_they_are_to_have(self) -> None:
        self.writer.expect_nothing()
        for name in NAMES:
            if (found := self.online(name)) is None:
                continue
            session, client = found
            assert client.is_open
            expected, session.expected = session.expected, []
            received = client.take_all()
            assert len(received) == len(expected), (received, expected)
            for packet, (held, awaited) in zip(received, expected, strict=True):
                if isinstance(packet, Publish) and isinstance(awaited, Publish) and held is not None:
                    self.check_packet_id(session, held, packet)
                assert _without_packet_id(packet) == _without_packet_id(awaited)
            assert sum(held.is_sent for held in session.inflight) <= session.receive_maximum

    def check_packet_id(self, session: Session, held: Held, packet: Publish) -> None:
        if held.packet_id is None:
            in_use = {other.packet_id for other in session.inflight}
            assert packet.packet_id not in in_use
            assert packet.packet_id != 0
            held.packet_id = packet.packet_id
        assert packet.packet_id == held.packet_id

    @invariant()
    def sessions_are_those_of_the_model(self) -> None:
        for name in NAMES:
            info = self.broker.session(name)
            session = self.sessions.get(name)
            assert (info is None) == (session is None)
            if info is not None and session is not None:
                assert (info.inflight_count, info.inbox_count) == (len(session.inflight), len(session.inbox))
                assert info.is_online == (session.client is not None)
                assert info.subscription_count == len(session.subscriptions)


def _without_packet_id(packet: Packet) -> Packet:
    if not isinstance(packet, Publish):
        return packet
    return Publish(
        topic=packet.topic,
        payload=packet.payload,
        qos=packet.qos,
        retain=packet.retain,
        dup=packet.dup,
        subscription_ids=tuple(sorted(packet.subscription_ids)),
        message_expiry_interval=packet.message_expiry_interval,
    )


def walk(machine: SessionMachine, seed: int, steps: int) -> None:
    """A long and busy life: what hypothesis finds hard to reach, full windows and inboxes above all."""
    draw = random.Random(seed)
    choice = draw.choice

    def act() -> None:
        name, version = choice(NAMES), choice((MQTT_3_1, MQTT_3_1_1, MQTT_5_0, MQTT_5_0, MQTT_5_0))
        kind = draw.random()
        if kind < 0.12:
            expiry_interval = choice(SESSION_EXPIRY_INTERVALS)
            machine.connect_as(name, draw.random() < 0.15, expiry_interval, choice((None, 1, 2, 3, 5)), version)
        elif kind < 0.18:
            machine.lose(name=name, fragment=choice((0, 1, 7, 20)))
        elif kind < 0.20:
            machine.disconnect(name=name, expiry_interval=choice((None, *SESSION_EXPIRY_INTERVALS)))
        elif kind < 0.24:
            machine.wait(seconds=choice(TIME_STEPS))
        elif kind < 0.34:
            machine.subscribe(
                name=name,
                topic_filter=choice(TOPIC_FILTERS),
                qos=choice((0, 1, 2, 2)),
                no_local=draw.random() < 0.3,
                retain_as_published=draw.random() < 0.5,
                retain_handling=choice((0, 1, 2)),
                subscription_id=choice((None, 1, 200)),
            )
        elif kind < 0.37:
            machine.unsubscribe(name=name, topic_filter=choice(TOPIC_FILTERS))
        elif kind < 0.55:
            machine.write(
                topic=choice(TOPICS),
                qos=choice((0, 1, 2)),
                retain=draw.random() < 0.2,
                expiry_interval=choice((None, *MESSAGE_EXPIRY_INTERVALS)),
                count=draw.randint(1, 6),
            )
        elif kind < 0.62:
            machine.publish(
                name=name,
                topic=choice(TOPICS),
                qos=choice((0, 1, 2, 2)),
                packet_id=choice(PACKET_IDS),
                dup=draw.random() < 0.5,
            )
        elif kind < 0.66:
            machine.release(name=name, packet_id=choice(PACKET_IDS))
        elif kind < 0.67:
            machine.acknowledge_nothing(name=name, packet_class=choice((Puback, Pubrec, Pubcomp)))
        elif sent := machine.sent(name):
            # The oldest mostly, or one that is not due in its order.
            machine.take_step(name, sent[0] if draw.random() < 0.6 else choice(sent), draw.random() < 0.05)

    machine.begin(version=MQTT_5_0, receive_maximum=3)
    for _ in range(steps):
        act()
        machine.clients_have_what_they_are_to_have()
        machine.sessions_are_those_of_the_model()


class ThreeShards(SessionMachine):
    shard_count = 3


MACHINES = pytest.mark.parametrize("machine", [SessionMachine, ThreeShards], ids=["1 shard", "3 shards"])


@MACHINES
def test_sessions_send_what_the_model_says(machine: type[SessionMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=50, deadline=None))


@MACHINES
@pytest.mark.parametrize("seed", range(8))
def test_long_lives_are_those_of_the_model(machine: type[SessionMachine], seed: int) -> None:
    life = machine()
    walk(life, seed, 1_500)
    life.teardown()
