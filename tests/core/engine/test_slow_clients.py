"""Clients that do not read: what waits for them is bounded, and nobody else pays for it. Real sockets, virtual time."""

from collections.abc import Iterator

import pytest

from support.memory_broker import Broker
from support.packets import Publish
from support.sleeper import Sleeper

HOLD_MS = 200
STALL_SECONDS = 60
OUTBOX_LIMIT_BYTES = 1_048_576
PAYLOAD = bytes(1000)


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    opened = Broker(shard_count=request.param, session_inbox_size=100)
    yield opened
    opened.close()


def flood(broker: Broker, count: int, qos: int) -> None:
    writer = broker.connect("writer", receive_maximum=65535)
    for number in range(count):
        packet_id = number % 100 + 1 if qos else 0
        writer.send(Publish(topic="a", payload=PAYLOAD, qos=qos, packet_id=packet_id))
        broker.now_ms += 1
    broker.advance(1)  # Held back at times, it is read on when the hold is over.
    broker.settle()
    writer.drop()


def test_qos_0_beyond_the_outbox_limit_is_dropped_and_counted(broker: Broker) -> None:
    with Sleeper(broker, "sleeper", qos=0) as sleeper:
        flood(broker, 3000, qos=0)
        dropped = broker.count("messages_dropped")
        assert dropped > 0
        read = sleeper.read()
        assert len(read) == 3000 - dropped
        assert OUTBOX_LIMIT_BYTES * 0.9 < len(read) * len(PAYLOAD) < OUTBOX_LIMIT_BYTES * 1.2


def test_qos_1_beyond_the_window_waits_in_the_inbox_up_to_its_limit(broker: Broker) -> None:
    with Sleeper(broker, "sleeper", qos=1):
        flood(broker, 1000, qos=1)
        session = broker.session("sleeper")
        assert session is not None
        assert session.inbox_count == 100
        assert broker.count("messages_dropped") == 1000 - session.inflight_count - session.inbox_count


def test_others_get_everything_meanwhile(broker: Broker) -> None:
    with Sleeper(broker, "sleeper", qos=0):
        reader = broker.connect("reader")
        reader.subscribe("a")
        flood(broker, 3000, qos=0)
        assert len(reader.take_messages()) == 3000


def test_client_that_drains_in_time_loses_nothing(broker: Broker) -> None:
    with Sleeper(broker, "sleeper", qos=0) as sleeper:
        writer = broker.connect("writer")
        read = []
        for number in range(40):
            # 100 KB at once; the publisher is held while the client is behind.
            writer.send(*(Publish(topic="a", payload=number.to_bytes(2) + PAYLOAD) for _ in range(100)))
            read += sleeper.read()
            broker.now_ms += 10
        read += sleeper.read()
        assert broker.count("messages_dropped") == 0
        assert len(read) == 4000


def test_client_that_takes_no_byte_for_long_is_disconnected(broker: Broker) -> None:
    with Sleeper(broker, "sleeper", qos=0, session_expiry_interval=1000):
        flood(broker, 3000, qos=0)
        broker.advance(STALL_SECONDS - 10)
        session = broker.session("sleeper")
        assert session is not None
        assert session.is_online
        broker.advance(STALL_SECONDS + 10)
        session = broker.session("sleeper")
        assert session is not None
        assert not session.is_online
