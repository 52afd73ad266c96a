"""What a busy time has left behind is given back: buffers within seconds, cached topics within two minutes."""

from collections.abc import Iterator

import pytest

from support.memory_broker import Broker, Client

TOPICS = 300
READERS = 300
KEPT_BYTES = 64 * 8192  # of an idle shard


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


def _readers(broker: Broker) -> list[Client]:
    readers = [broker.connect(f"reader {number}", keep_alive=0) for number in range(READERS)]
    for reader in readers:
        reader.subscribe("all")
    return readers


def _broadcast(writer: Client, readers: list[Client]) -> None:
    writer.publish("all", b"x")
    for reader in readers:
        assert reader.take_message().payload == b"x"


def test_buffers_of_a_fan_out_go_back_when_nobody_needs_them(broker: Broker) -> None:
    readers = _readers(broker)
    writer = broker.connect("writer", keep_alive=0)
    _broadcast(writer, readers)
    spare = [broker.count("spare_bytes")]
    assert spare[0] > READERS * 8000
    for _ in range(12):
        broker.advance(1.1)
        spare.append(broker.count("spare_bytes"))
    assert spare == sorted(spare, reverse=True)
    assert 0 < spare[-1] <= KEPT_BYTES
    _broadcast(writer, readers)


def test_buffers_that_are_needed_each_second_stay(broker: Broker) -> None:
    readers = _readers(broker)
    writer = broker.connect("writer", keep_alive=0)
    for _ in range(5):
        _broadcast(writer, readers)
        spare = broker.count("spare_bytes")
        broker.advance(1.1)
    _broadcast(writer, readers)
    assert broker.count("spare_bytes") == spare


def test_topics_stay_cached_while_they_come_and_leave_afterwards(broker: Broker) -> None:
    writer = broker.connect("writer", keep_alive=0)
    for _ in range(130):
        for number in range(TOPICS):
            writer.publish(f"t/{number}")
        broker.advance(1.1)
    assert broker.count("cached_topics") >= TOPICS
    for _ in range(130):
        broker.advance(1.1)
    assert broker.count("cached_topics") == 0
