"""Publishers wait for what is behind on another shard: its mailbox, or a subscriber that takes no bytes."""

from collections.abc import Iterator

import pytest

from support import packets
from support.memory_broker import Broker, Client
from support.packets import Publish
from support.sleeper import Sleeper

HOLD_MS = 200
MAIL_HIGH_BYTES = 393_216
READ_LARGE_SIZE = 65_536


@pytest.fixture
def broker() -> Iterator[Broker]:
    opened = Broker(shard_count=2, session_inbox_size=100)
    yield opened
    opened.close()


def sessions_by_shard(broker: Broker) -> list[int]:
    return [statistics.sessions for statistics in broker.statistics()]


def connect_on(broker: Broker, shard: int, name: str) -> Client:
    """A client whose session lives on this shard."""
    for number in range(100):
        before = sessions_by_shard(broker)
        client = broker.connect(f"{name}{number}")
        if sessions_by_shard(broker)[shard] > before[shard]:
            return client
        client.disconnect()
    raise AssertionError(f"no client identifier of 100 belongs to shard {shard}")


def received(broker: Broker, shard: int) -> int:
    """What came in on a shard that is turned alone."""
    broker.engine.statistics(1_000_000, shard)
    broker.engine.turn(shard, broker.now_ms)
    (reply,) = broker.engine.take_events(shard)
    return int(reply.value.messages_received)  # type: ignore[union-attr]  # the only reply there can be


def test_publishers_are_not_read_while_a_mailbox_is_full(broker: Broker) -> None:
    writer = connect_on(broker, 0, "writer")
    reader = connect_on(broker, 1, "reader")
    reader.subscribe("a")
    payload = bytes(1000)
    total = 5000
    message = packets.encode(Publish(topic="a", payload=payload), 5)
    broker.engine.feed(writer._link, message * total)
    # Shard 1 does not get its turn.
    for _ in range(500):
        broker.engine.turn(0, broker.now_ms)
    came = received(broker, 0)
    assert MAIL_HIGH_BYTES / 2 < came * len(message) < MAIL_HIGH_BYTES + 2 * READ_LARGE_SIZE
    broker.settle()
    assert received(broker, 0) == total
    assert len(reader.take_messages()) == total
    assert broker.count("messages_dropped") == 0


def test_others_are_read_meanwhile(broker: Broker) -> None:
    writer = connect_on(broker, 0, "writer")
    neighbour = connect_on(broker, 0, "neighbour")
    neighbour.subscribe("b")
    connect_on(broker, 1, "reader").subscribe("a")
    broker.engine.feed(writer._link, packets.encode(Publish(topic="a", payload=bytes(1000)), 5) * 5000)
    for _ in range(500):
        broker.engine.turn(0, broker.now_ms)
    broker.engine.feed(neighbour._link, packets.encode(Publish(topic="b", payload=b"x"), 5))
    broker.engine.turn(0, broker.now_ms)
    assert broker.engine.collect(neighbour._link) == packets.encode(Publish(topic="b", payload=b"x"), 5)


def sleeper_on(broker: Broker, shard: int) -> Sleeper:
    for number in range(100):
        before = sessions_by_shard(broker)
        sleeper = Sleeper(broker, f"sleeper{number}", qos=0)
        if sessions_by_shard(broker)[shard] > before[shard]:
            return sleeper
        sleeper.close()
    raise AssertionError(f"no client identifier of 100 belongs to shard {shard}")


def test_subscriber_elsewhere_that_drains_in_time_loses_nothing(broker: Broker) -> None:
    writer = connect_on(broker, 0, "writer")
    with sleeper_on(broker, 1) as sleeper:
        data = packets.encode(Publish(topic="a", payload=bytes(1000)), 5)
        total = 3000  # three times what an outbox may hold
        broker.engine.feed(writer._link, data * total)
        read = 0
        for _ in range(400):
            read += len(sleeper.read())
            broker.now_ms += 10
            if read == total:
                break
        assert read == total
        assert broker.count("messages_dropped") == 0


def test_subscriber_elsewhere_that_does_not_drain_holds_nobody_for_long(broker: Broker) -> None:
    writer = connect_on(broker, 0, "writer")
    awake = connect_on(broker, 1, "awake")
    awake.subscribe("a")
    with sleeper_on(broker, 1):
        data = packets.encode(Publish(topic="a", payload=bytes(1000)), 5)
        total = 6000
        broker.engine.feed(writer._link, data * total)
        broker.settle()
        assert len(awake.take_messages()) < total
        for _ in range(4):
            broker.now_ms += HOLD_MS
            broker.settle()
        broker.engine.feed(writer._link, data)
        broker.settle()
        assert broker.count("messages_received") == total + 1
        assert broker.count("messages_dropped") > 0
