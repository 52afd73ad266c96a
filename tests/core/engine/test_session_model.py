"""A session beside a model of it in plain Python: random lives, and after every step both have said the same.

One client, the subject, has a persistent session. It connects and goes in all ways, subscribes, acknowledges in any
order that the standard allows, publishes with QoS 2 and is cut in the middle. Another one publishes to it, a third one
witnesses what the subject publishes. The model says which packets the subject must get, in which order, with which
flags and identifiers; packets.decode refuses what is malformed.
"""

from collections import deque
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.memory_broker import Broker, Client
from support.packets import (
    MQTT_3_1_1,
    MQTT_5_0,
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscription,
    Unsuback,
)

INBOX_SIZE = 5
SESSION_EXPIRY_S = 1000
TOPICS = ("a", "a/b", "c")
FILTERS = {"a": {"a"}, "a/#": {"a", "a/b"}, "+": {"a", "c"}, "#": set(TOPICS), "a/b": {"a/b"}}


@dataclass
class Message:
    """A message on its way to the subject."""

    topic: str
    payload: bytes
    qos: int
    subscription_ids: tuple[int, ...]
    expires_at_s: float | None


@dataclass
class Sent:
    """A QoS 1 or 2 message in flight."""

    message: Message
    packet_id: int
    is_received: bool = False  # PUBREC came
    is_sent: bool = True  # on the present connection


@dataclass
class Model:
    """What the session must hold."""

    subscriptions: dict[str, tuple[int, int]] = field(default_factory=dict)  # filter -> QoS, identifier
    inbox: deque[Message] = field(default_factory=deque)
    inflight: list[Sent] = field(default_factory=list)
    unreleased: set[int] = field(default_factory=set)  # packet identifiers of QoS 2 publications of the subject
    dropped: int = 0
    is_persistent: bool = True

    def waiting(self, *qos: int) -> int:
        return sum(message.qos in qos for message in self.inbox)


class SessionLife(RuleBasedStateMachine):
    """The steps. The shard count and version are set by a subclass."""

    shard_count = 1
    version = MQTT_5_0

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(
            shard_count=self.shard_count,
            session_inbox_size=INBOX_SIZE,
            min_session_expiry_seconds=1,
            min_keep_alive_seconds=1,
        )
        self.publisher = self.broker.connect("publisher")
        self.witness = self.broker.connect("witness")
        self.witness.subscribe("subject/#", qos=2)
        self.subject: Client | None = None
        self.now_s = 0.0
        self.detached_at_s = 0.0
        self.model: Model | None = None
        self.receive_maximum = 65535
        self.serial = 0
        self.expected: list[object] = []

    def teardown(self) -> None:
        self.broker.close()

    # What the model says must come.

    def fresh_id(self, packet: Publish) -> int:
        """The identifier of a message that is sent for the first time: not one that is in flight."""
        assert self.model is not None
        assert packet.packet_id
        assert packet.packet_id not in [sent.packet_id for sent in self.model.inflight]
        return packet.packet_id

    def check(self) -> None:
        """The subject got what was expected, in this order, and nothing else."""
        assert self.subject is not None
        assert self.model is not None
        received = self.subject.take_all()
        for expected in self.expected:
            assert received, f"nothing came for {expected}"
            packet = received.pop(0)
            if isinstance(expected, Message):
                self.check_publish(packet, expected, dup=False)
                assert isinstance(packet, Publish)
                if expected.qos:
                    self.model.inflight.append(Sent(expected, self.fresh_id(packet)))
                    # The model counted its place before its identifier was known.
                    self.placeholders -= 1
            elif isinstance(expected, Sent):
                self.check_publish(packet, expected.message, dup=True)
                assert isinstance(packet, Publish)
                assert packet.packet_id == expected.packet_id
            else:
                assert isinstance(expected, tuple)
                kind, packet_id = expected
                assert type(packet) is kind
                assert getattr(packet, "packet_id", None) == packet_id
        assert received == []
        self.expected = []

    placeholders = 0

    def check_publish(self, packet: Packet, message: Message, *, dup: bool) -> None:
        assert isinstance(packet, Publish), packet
        assert (packet.topic, packet.payload, packet.qos) == (message.topic, message.payload, message.qos)
        assert (packet.dup, packet.retain) == (dup, False)
        if self.version == MQTT_5_0:
            assert sorted(packet.subscription_ids) == sorted(message.subscription_ids)
            if message.expires_at_s is None:
                assert packet.message_expiry_interval is None
            else:
                assert packet.message_expiry_interval == max(1, message.expires_at_s - self.now_s)

    def is_window_open(self) -> bool:
        assert self.model is not None
        return sum(sent.is_sent for sent in self.model.inflight) + self.placeholders < self.receive_maximum

    def pump(self) -> None:
        """Send what waits while there is room: first what was in flight, then the inbox."""
        model = self.model
        assert model is not None
        for sent in model.inflight:
            if not sent.is_sent:
                if not self.is_window_open():
                    return
                sent.is_sent = True
                self.expected.append((Pubrel, sent.packet_id) if sent.is_received else sent)
        while model.inbox and self.is_window_open():
            message = model.inbox.popleft()
            if message.expires_at_s is not None and message.expires_at_s <= self.now_s:
                continue
            self.expected.append(message)
            self.placeholders += message.qos > 0

    def keep(self, message: Message) -> None:
        """Into the inbox, unless it is full."""
        model = self.model
        assert model is not None
        kinds = (0,) if message.qos == 0 else (1, 2)
        if model.waiting(*kinds) >= INBOX_SIZE:
            model.dropped += 1
        else:
            model.inbox.append(message)

    # Connecting.

    @precondition(lambda self: self.subject is None)
    @rule(receive_maximum=st.integers(1, 4), clean=st.sampled_from([False, False, False, True]))
    def connect(self, receive_maximum: int, clean: bool) -> None:
        if self.model is not None and self.version == MQTT_5_0 and self.now_s - self.detached_at_s >= SESSION_EXPIRY_S:
            self.model = None
        present = self.model is not None and not clean
        if not present:
            self.model = Model()
        assert self.model is not None
        self.receive_maximum = receive_maximum if self.version == MQTT_5_0 else 65535
        self.subject = self.broker.open(self.version)
        fields = (
            {"session_expiry_interval": SESSION_EXPIRY_S, "receive_maximum": receive_maximum}
            if self.version == MQTT_5_0
            else {}
        )
        connack: Connack = self.subject.connect(client_id="subject", clean_start=clean, **fields)
        assert (connack.reason_code, connack.session_present) == (0, present)
        # Clean Session of 3.1.1 also means that the session ends with the connection.
        self.model.is_persistent = self.version == MQTT_5_0 or not clean
        for sent in self.model.inflight:
            sent.is_sent = False
        self.pump()
        self.check()

    @precondition(lambda self: self.subject is not None)
    @rule(politely=st.booleans())
    def leave(self, politely: bool) -> None:
        assert self.subject is not None
        if politely:
            self.subject.disconnect()
        else:
            self.subject.drop()
        self.broker.settle()
        self.detach()

    def detach(self) -> None:
        assert self.model is not None
        self.subject = None
        self.detached_at_s = self.now_s
        if not self.model.is_persistent:
            self.model = None

    @precondition(lambda self: self.subject is not None)
    @rule(receive_maximum=st.integers(1, 4))
    def take_over(self, receive_maximum: int) -> None:
        old = self.subject
        assert old is not None
        self.detach()
        self.connect(receive_maximum, False)
        assert not old.is_open

    @rule(seconds=st.sampled_from([1, 7, 30, SESSION_EXPIRY_S + 1]))
    def wait(self, seconds: int) -> None:
        self.broker.advance(seconds)
        self.now_s += seconds
        if self.subject is not None:
            self.check()

    # Subscribing.

    @precondition(lambda self: self.subject is not None)
    @rule(topic_filter=st.sampled_from(sorted(FILTERS)), qos=st.integers(0, 2), identifier=st.integers(0, 3))
    def subscribe(self, topic_filter: str, qos: int, identifier: int) -> None:
        assert self.subject is not None
        assert self.model is not None
        fields = {"subscription_id": identifier} if identifier and self.version == MQTT_5_0 else {}
        suback: Suback = self.subject.subscribe(Subscription(topic_filter, qos), **fields)
        assert suback.reason_codes == (qos,)
        self.model.subscriptions[topic_filter] = (qos, identifier)
        self.check()

    @precondition(lambda self: self.subject is not None)
    @rule(topic_filter=st.sampled_from(sorted(FILTERS)))
    def unsubscribe(self, topic_filter: str) -> None:
        assert self.subject is not None
        assert self.model is not None
        unsuback: Unsuback = self.subject.unsubscribe(topic_filter)
        existed = self.model.subscriptions.pop(topic_filter, None) is not None
        if self.version == MQTT_5_0:
            assert unsuback.reason_codes == (0 if existed else 0x11,)
        self.check()

    # Messages for the subject.

    @initialize(topic_filter=st.sampled_from(sorted(FILTERS)), qos=st.integers(1, 2), receive_maximum=st.integers(1, 4))
    def begin(self, topic_filter: str, qos: int, receive_maximum: int) -> None:
        """Most lives are empty without a subscription."""
        self.connect(receive_maximum, False)
        self.subscribe(topic_filter, qos, 0)

    @precondition(lambda self: self.model is not None)
    @rule(
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=8),
        qos=st.sampled_from([0, 1, 2, 2]),
        lifetime=st.sampled_from([None, None, None, 5, 20]),
    )
    def publish_some(self, topics: list[str], qos: int, lifetime: int | None) -> None:
        for topic in topics:
            if self.model is not None:
                self.publish(topic, qos, lifetime)

    def publish(self, topic: str, qos: int, lifetime: int | None) -> None:
        model = self.model
        assert model is not None
        self.serial += 1
        payload = b"%d" % self.serial
        self.publisher.publish(topic, payload, qos=qos, message_expiry_interval=lifetime)
        if self.subject is None and self.version == MQTT_5_0 and self.now_s - self.detached_at_s >= SESSION_EXPIRY_S:
            self.model = None
            return
        granted = [options for name, options in model.subscriptions.items() if topic in FILTERS[name]]
        if not granted:
            return
        message = Message(
            topic,
            payload,
            min(qos, max(qos for qos, _ in granted)),
            tuple(identifier for _, identifier in granted if identifier),
            None if lifetime is None else self.now_s + lifetime,
        )
        if self.subject is None:
            self.keep(message)
            return
        if message.qos == 0:
            if model.waiting(0):
                self.keep(message)
            else:
                self.expected.append(message)
        elif model.inbox or not all(sent.is_sent for sent in model.inflight) or not self.is_window_open():
            self.keep(message)
        else:
            self.expected.append(message)
            self.placeholders += 1
        self.check()

    # Acknowledgements of the subject.

    def choose(self, number: int, *, received: bool, qos: int | None = None) -> Sent | None:
        """One of the messages in flight that such an acknowledgement fits."""
        assert self.model is not None
        fitting = [
            sent
            for sent in self.model.inflight
            if sent.is_sent and sent.is_received == received and qos in (None, sent.message.qos)
        ]
        return fitting[number % len(fitting)] if fitting else None

    def end(self, sent: Sent) -> None:
        assert self.model is not None
        self.model.inflight.remove(sent)
        self.pump()
        self.check()

    @precondition(lambda self: self.subject is not None)
    @rule(number=st.integers(0, 100))
    def send_puback(self, number: int) -> None:
        sent = self.choose(number, received=False, qos=1)
        if sent is not None:
            assert self.subject is not None
            self.subject.send(Puback(packet_id=sent.packet_id))
            self.end(sent)

    @precondition(lambda self: self.subject is not None)
    @rule(number=st.integers(0, 100), refuses=st.sampled_from([False, False, False, True]))
    def send_pubrec(self, number: int, refuses: bool) -> None:
        sent = self.choose(number, received=False, qos=2)
        if sent is None:
            return
        assert self.subject is not None
        if refuses and self.version == MQTT_5_0:
            self.subject.send(Pubrec(packet_id=sent.packet_id, reason_code=0x83))
            self.end(sent)
            return
        self.subject.send(Pubrec(packet_id=sent.packet_id))
        sent.is_received = True
        self.expected.append((Pubrel, sent.packet_id))
        self.check()

    @precondition(lambda self: self.subject is not None)
    @rule(number=st.integers(0, 100))
    def send_pubrec_again(self, number: int) -> None:
        sent = self.choose(number, received=True)
        if sent is not None:
            assert self.subject is not None
            self.subject.send(Pubrec(packet_id=sent.packet_id))
            self.expected.append((Pubrel, sent.packet_id))
            self.check()

    @precondition(lambda self: self.subject is not None)
    @rule(number=st.integers(0, 100))
    def send_pubcomp(self, number: int) -> None:
        sent = self.choose(number, received=True)
        if sent is not None:
            assert self.subject is not None
            self.subject.send(Pubcomp(packet_id=sent.packet_id))
            self.end(sent)

    # Publications of the subject.

    @precondition(lambda self: self.subject is not None)
    @rule(packet_id=st.integers(1, 3), dup=st.booleans())
    def send_publish(self, packet_id: int, dup: bool) -> None:
        assert self.subject is not None
        assert self.model is not None
        self.serial += 1
        is_new = packet_id not in self.model.unreleased
        payload = b"%d" % self.serial
        self.subject.send(
            Publish(topic="subject/x", payload=payload, qos=2, packet_id=packet_id, dup=dup and not is_new)
        )
        self.model.unreleased.add(packet_id)
        self.expected.append((Pubrec, packet_id))
        if is_new:
            assert self.witness.take_message().payload == payload
        self.witness.expect_nothing()
        if is_new and "#" in self.model.subscriptions:
            # What it publishes itself comes back to it: it would be in the way here.
            qos, identifier = self.model.subscriptions["#"]
            message = Message("subject/x", payload, qos, (identifier,) if identifier else (), None)
            self.receive_own(message)
        self.check()

    def receive_own(self, message: Message) -> None:
        """A message that the subject's own packet causes comes before the answer to that packet."""
        model = self.model
        assert model is not None
        if message.qos == 0 and not model.waiting(0):
            self.expected.insert(-1, message)
        elif message.qos and not model.inbox and all(sent.is_sent for sent in model.inflight) and self.is_window_open():
            self.expected.insert(-1, message)
            self.placeholders += 1
        else:
            self.keep(message)

    @precondition(lambda self: self.subject is not None)
    @rule(packet_id=st.integers(1, 3))
    def send_pubrel(self, packet_id: int) -> None:
        assert self.subject is not None
        assert self.model is not None
        self.subject.send(Pubrel(packet_id=packet_id))
        self.model.unreleased.discard(packet_id)
        self.expected.append((Pubcomp, packet_id))
        self.check()

    # What can be seen from outside.

    @invariant()
    def session_holds_what_the_model_holds(self) -> None:
        if self.model is None:
            return
        info = self.broker.session("subject")
        if self.subject is None and self.version == MQTT_5_0 and self.now_s - self.detached_at_s >= SESSION_EXPIRY_S:
            assert info is None
            return
        assert info is not None
        assert info.is_online == (self.subject is not None)
        assert info.subscription_count == len(self.model.subscriptions)
        assert info.inflight_count == len(self.model.inflight)
        assert info.inbox_count == len(self.model.inbox)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
@pytest.mark.parametrize("shard_count", [1, 3])
def test_session_and_its_model_say_the_same(shard_count: int, version: int) -> None:
    life = type("Life", (SessionLife,), {"shard_count": shard_count, "version": version})
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
