"""A plain Python model beside a broker that is killed and stopped again and again: both know the same afterwards.

Two clients with sessions, subscriptions and wills come and go, a writer publishes, messages are retained, time passes,
and at any moment the process is killed or ends in order, is away for a while, and starts with another number of shards.
What the model says about sessions, waiting messages, their order, retained messages, wills and the writer's open
exchange of QoS 2 has to be what clients see. Whether a checkpoint has rewritten the log meanwhile must not be seen.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.memory_broker import Broker, Client
from support.packets import Pubcomp, Publish, Pubrec, Pubrel, Will
from support.plain_topics import is_match

NAMES = ("p", "q")
TOPICS = ("t/a", "t/b")
RETAINED_TOPICS = ("r/a", "r/b")
TOPIC_FILTERS = ("t/a", "t/+", "#", "will/#")
SEGMENT_SIZE = 4096
# Seconds. No sum of steps is any of the intervals: what happens on the very moment is not asked here.
TIME_STEPS = (5, 10)
AWAY = (0, 5, 40)
SESSION_EXPIRY_INTERVALS = (0, 32, 3602)
MESSAGE_EXPIRY_INTERVALS = (None, None, 12)
WILL_DELAYS = (None, 0, 7)
NEVER_MS = 1 << 62
LIVES = int(os.environ.get("ROOKERY_TEST_LIVES", "25"))
EXCHANGE_ID = 60_000  # of the writer, which counts its others from 1


@dataclass
class Held:
    """A message that one session has not acknowledged."""

    payload: bytes
    qos: int
    expires_at_ms: int
    is_due: bool = True  # to be sent on this connection, or the next one
    is_inflight: bool = False  # it was sent before: it does not expire any more


@dataclass
class Session:
    expiry_interval: int
    client: Client | None = None
    detached_at_ms: int = 0
    subscriptions: dict[str, int] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    unacknowledged: list[Publish] = field(default_factory=list)  # that have come on this connection
    will: bytes | None = None
    will_delay: int = 0
    will_due_ms: int = NEVER_MS

    def is_over(self, now_ms: int) -> bool:
        return self.client is None and now_ms >= self.detached_at_ms + self.expiry_interval * 1000

    def detach(self, now_ms: int) -> None:
        self.client = None
        self.unacknowledged = []
        self.detached_at_ms = now_ms
        if self.will is not None:
            self.will_due_ms = now_ms + min(self.will_delay, self.expiry_interval) * 1000


class RestartMachine(RuleBasedStateMachine):
    """Everybody's life over several processes."""

    writes_qos0 = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="restart-model-")
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Held] = {}
        self.payloads: Iterator[int] = iter(range(1 << 30))
        self.unreleased: Publish | None = None  # what the writer has sent as far as PUBREC
        self.broker = self._start(1_000_000, 1)
        self.writer = self._connect_writer(is_there=False)

    def teardown(self) -> None:
        try:
            for name in NAMES:
                self.come(name, SESSION_EXPIRY_INTERVALS[-1], None, None)
            self.everybody_gets_what_is_due()
            self.check_retained()
        finally:
            self.broker.close()
            self.folder.cleanup()

    # The process.

    def _start(self, now_ms: int, shards: int) -> Broker:
        return Broker(
            shard_count=shards,
            data=Path(self.folder.name),
            segment_size=SEGMENT_SIZE,
            now_ms=now_ms,
            writes_qos0=self.writes_qos0,
            min_session_expiry_seconds=1,
        )

    def _connect_writer(self, *, is_there: bool) -> Client:
        client = self.broker.open()
        connack = client.connect(client_id="writer", clean_start=False, session_expiry_interval=1_000_000)
        assert connack.session_present == is_there
        return client

    @rule(is_killed=st.booleans(), away_s=st.sampled_from(AWAY), shards=st.integers(1, 3))
    def restart(self, is_killed: bool, away_s: int, shards: int) -> None:
        if not is_killed:
            self.broker.stop(1)
            # Those who were there were told, and NoLWTWhenServerShuttingDown is on.
            for session in self.sessions.values():
                if session.client is not None:
                    session.will = None
            self._detach_all(self.broker.now_ms)
            self._publish_due_wills()
        self.broker.crash()
        self.broker = self._start(self.broker.now_ms + away_s * 1000, shards)
        self.broker.settle()
        # Whoever was connected counts as left at the start.
        self._detach_all(self.broker.now_ms)
        if not self.writes_qos0:
            for session in self.sessions.values():
                session.held = [held for held in session.held if held.qos > 0]
        self._let_time_have_passed()
        self.writer = self._connect_writer(is_there=True)

    def _detach_all(self, now_ms: int) -> None:
        for name, session in list(self.sessions.items()):
            if session.client is not None:
                session.detach(now_ms)
                if session.expiry_interval == 0:
                    # What is transient is not written, and its will neither.
                    del self.sessions[name]

    # Time.

    @rule(seconds=st.sampled_from(TIME_STEPS))
    def wait(self, seconds: int) -> None:
        self.broker.advance(seconds)
        self._let_time_have_passed()

    def _let_time_have_passed(self) -> None:
        now_ms = self.broker.now_ms
        self._publish_due_wills()
        self.sessions = {name: session for name, session in self.sessions.items() if not session.is_over(now_ms)}
        self.retained = {topic: held for topic, held in self.retained.items() if held.expires_at_ms > now_ms}

    def _publish_due_wills(self) -> None:
        for name, session in self.sessions.items():
            if session.will is not None and session.will_due_ms <= self.broker.now_ms:
                self._deliver(f"will/{name}", session.will, 1, NEVER_MS)
                session.will = None
                session.will_due_ms = NEVER_MS

    # Sessions.

    @rule(
        name=st.sampled_from(NAMES),
        expiry_interval=st.sampled_from(SESSION_EXPIRY_INTERVALS),
        will_delay=st.sampled_from(WILL_DELAYS),
        topic_filter=st.sampled_from((None, *TOPIC_FILTERS)),
    )
    def come(self, name: str, expiry_interval: int, will_delay: int | None, topic_filter: str | None) -> None:
        session = self.sessions.get(name)
        is_there = session is not None
        if session is None:
            session = self.sessions[name] = Session(expiry_interval)
        if session.client is not None:
            return
        session.expiry_interval = expiry_interval
        session.will = None if will_delay is None else b"will %d" % next(self.payloads)
        session.will_delay = will_delay or 0
        session.will_due_ms = NEVER_MS
        session.client = self.broker.open()
        will = session.will
        connack = session.client.connect(
            client_id=name,
            clean_start=False,
            session_expiry_interval=expiry_interval,
            will=will and Will(topic=f"will/{name}", payload=will, qos=1, will_delay_interval=session.will_delay),
        )
        assert connack.session_present == is_there, name
        now_ms = self.broker.now_ms
        session.held = [held for held in session.held if held.is_inflight or held.expires_at_ms > now_ms]
        for held in session.held:
            held.is_due = True
        if topic_filter is not None:
            self.everybody_gets_what_is_due()
            self.subscribe(name, topic_filter, 1)

    @rule(name=st.sampled_from(NAMES), is_clean=st.booleans())
    def go(self, name: str, is_clean: bool) -> None:
        session = self.sessions.get(name)
        if session is None or session.client is None:
            return
        if is_clean:
            session.client.disconnect()
            session.will = None
        else:
            session.client.drop()
        session.detach(self.broker.now_ms)
        self._let_time_have_passed()

    @rule(name=st.sampled_from(NAMES), topic_filter=st.sampled_from(TOPIC_FILTERS), qos=st.integers(0, 2))
    def subscribe(self, name: str, topic_filter: str, qos: int) -> None:
        session = self.sessions.get(name)
        if session is None or session.client is None:
            return
        # What is retained is looked at by check_retained.
        assert session.client.subscribe(topic_filter, qos=qos, retain_handling=2).reason_codes == (qos,)
        session.subscriptions[topic_filter] = qos

    @rule(name=st.sampled_from(NAMES), topic_filter=st.sampled_from(TOPIC_FILTERS))
    def unsubscribe(self, name: str, topic_filter: str) -> None:
        session = self.sessions.get(name)
        if session is None or session.client is None:
            return
        expected = 0 if topic_filter in session.subscriptions else 0x11
        assert session.client.unsubscribe(topic_filter).reason_codes == (expected,)
        session.subscriptions.pop(topic_filter, None)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def acknowledge(self, name: str, count: int) -> None:
        session = self.sessions.get(name)
        if session is None or session.client is None:
            return
        for message in session.unacknowledged[:count]:
            session.client.acknowledge(message)
            session.held = [held for held in session.held if held.payload != message.payload]
        session.unacknowledged = session.unacknowledged[count:]

    @invariant()
    def everybody_gets_what_is_due(self) -> None:
        for session in self.sessions.values():
            if session.client is None:
                continue
            got = session.client.take_messages(acknowledge=False)
            due = [held for held in session.held if held.is_due]
            assert _parted(_held_in(got)) == _parted([(held.payload, held.qos) for held in due])
            session.unacknowledged += [message for message in got if message.qos > 0]
            session.held = [held for held in session.held if held.qos > 0]
            for held in session.held:
                held.is_due, held.is_inflight = False, True

    # Messages.

    def _deliver(self, topic: str, payload: bytes, qos: int, expires_at_ms: int) -> None:
        for session in self.sessions.values():
            granted = [
                subscribed
                for topic_filter, subscribed in session.subscriptions.items()
                if is_match(topic_filter, topic)
            ]
            if granted and not session.is_over(self.broker.now_ms):
                session.held.append(Held(payload, min(qos, max(granted)), expires_at_ms))

    @rule(
        topic=st.sampled_from(TOPICS),
        qos=st.integers(0, 2),
        expiry_interval=st.sampled_from(MESSAGE_EXPIRY_INTERVALS),
        count=st.integers(1, 5),
    )
    def write(self, topic: str, qos: int, expiry_interval: int | None, count: int) -> None:
        for _ in range(count):
            payload = b"%d" % next(self.payloads)
            code = self.writer.publish(topic, payload, qos=qos, message_expiry_interval=expiry_interval)
            assert code < 0x80
            self._deliver(topic, payload, qos, self._expires_at_ms(expiry_interval))

    def _expires_at_ms(self, expiry_interval: int | None) -> int:
        return NEVER_MS if expiry_interval is None else self.broker.now_ms + expiry_interval * 1000

    @precondition(lambda self: self.unreleased is None)
    @rule(topic=st.sampled_from(TOPICS))
    def begin_exchange(self, topic: str) -> None:
        """A message of QoS 2 as far as PUBREC."""
        payload = b"%d" % next(self.payloads)
        self.unreleased = Publish(topic=topic, payload=payload, qos=2, packet_id=EXCHANGE_ID)
        self.writer.send(self.unreleased)
        assert self.writer.take(Pubrec).reason_code < 0x80
        self._deliver(topic, payload, 2, NEVER_MS)

    @precondition(lambda self: self.unreleased is not None)
    @rule()
    def send_again(self) -> None:
        """The same once more, after a restart perhaps: nobody may get it twice [MQTT-4.3.3-10]."""
        assert self.unreleased is not None
        self.writer.send(replace(self.unreleased, dup=True))
        assert self.writer.take(Pubrec).reason_code < 0x80

    @precondition(lambda self: self.unreleased is not None)
    @rule()
    def end_exchange(self) -> None:
        self.writer.send(Pubrel(packet_id=EXCHANGE_ID))
        assert self.writer.take(Pubcomp).reason_code == 0
        self.unreleased = None

    @rule(
        topic=st.sampled_from(RETAINED_TOPICS),
        expiry_interval=st.sampled_from(MESSAGE_EXPIRY_INTERVALS),
        is_empty=st.booleans(),
    )
    def retain(self, topic: str, expiry_interval: int | None, is_empty: bool) -> None:
        payload = b"" if is_empty else b"%d" % next(self.payloads)
        code = self.writer.publish(topic, payload, qos=1, retain=True, message_expiry_interval=expiry_interval)
        assert code < 0x80
        self._deliver(topic, payload, 1, self._expires_at_ms(expiry_interval))
        self.retained.pop(topic, None)
        if payload:
            self.retained[topic] = Held(payload, 1, self._expires_at_ms(expiry_interval))

    @rule()
    def check_retained(self) -> None:
        client = self.broker.connect("somebody")
        client.subscribe("r/#", qos=1)
        got = {message.topic: message.payload for message in client.take_messages()}
        assert got == {topic: held.payload for topic, held in self.retained.items()}
        client.disconnect()


def _held_in(messages: list[Publish]) -> list[tuple[bytes, int]]:
    return [(message.payload, message.qos) for message in messages]


def _parted(held: list[tuple[bytes, int]]) -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    """Wills, and the rest in order: wills that were due in the same step come in any."""
    wills = sorted(one for one in held if one[0].startswith(b"will"))
    return wills, [one for one in held if not one[0].startswith(b"will")]


class Qos0Machine(RestartMachine):
    """The same where what waits with QoS 0 survives, too."""

    writes_qos0 = True


@pytest.mark.parametrize("machine", [RestartMachine, Qos0Machine])
def test_random_lives_over_restarts_are_those_of_the_model(machine: type[RestartMachine]) -> None:
    # The same lives in every run: whoever wants others asks for more of them.
    profile = settings(max_examples=LIVES, stateful_step_count=40, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=profile)
