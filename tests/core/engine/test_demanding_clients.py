"""A client whose packets cost much is read little of, so that others need not wait for it."""

from collections.abc import Iterator

import pytest

from support import packets
from support.memory_broker import Broker, Client
from support.packets import MQTT_5_0, Publish, Subscribe, Subscription, Unsubscribe

PER_READ = 131072 // 200  # topic filters: EFFORT_PER_READ by EFFORT_OF_FILTER
READ_LARGE_SIZE = 65536
ANSWER_SIZE = 6


def _churn(size: int) -> bytes:
    """As many SUBSCRIBE and UNSUBSCRIBE as take so many bytes."""
    pair = packets.encode(Subscribe(packet_id=1, subscriptions=(Subscription("a"),)), MQTT_5_0)
    pair += packets.encode(Unsubscribe(packet_id=2, topic_filters=("a",)), MQTT_5_0)
    return pair * (size // len(pair))


def _turn(broker: Broker) -> None:
    broker.engine.turn(0, broker.now_ms)
    broker.engine.take_events(0)


def _answers(client: Client) -> int:
    """How many SUBACKs and UNSUBACKs have come, which are of one size; decoding them would take long."""
    return len(client.broker.engine.collect(client._link)) // ANSWER_SIZE


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker(shard_count=1)  # The turns of one shard are looked at one by one.
    yield broker
    broker.crash()  # What still waits is of no interest.


def test_what_one_read_of_a_demanding_client_comes_to_is_bounded(broker: Broker) -> None:
    client = broker.connect("churner")
    data = _churn(4 * READ_LARGE_SIZE)
    broker.engine.feed(client._link, data)
    answers: list[int] = []
    while not answers or answers[-1]:
        _turn(broker)
        answers.append(_answers(client))
    # Before the first read nobody knows what it will be.
    assert max(answers[1:]) <= PER_READ + 4  # packets do not end where reads do
    assert len(answers) > 8
    assert sum(answers) == 2 * data.count(b"\x82")


def test_many_demanding_clients_share_what_a_turn_may_come_to(broker: Broker) -> None:
    clients = [broker.connect(f"churner{number}") for number in range(20)]
    for client in clients:
        broker.engine.feed(client._link, _churn(4 * READ_LARGE_SIZE))
    for _ in range(2):
        _turn(broker)
        for client in clients:
            _answers(client)
    _turn(broker)
    answers = [_answers(client) for client in clients]
    assert all(answers)
    assert sum(answers) < 3 * PER_READ


def test_client_that_has_calmed_down_is_read_as_before(broker: Broker) -> None:
    client = broker.connect("c")
    broker.engine.feed(client._link, _churn(2 * READ_LARGE_SIZE))
    while True:
        _turn(broker)
        if not _answers(client):
            break
    message = packets.encode(Publish(topic="a", payload=bytes(64), qos=1, packet_id=1), MQTT_5_0)
    client.publish("a", qos=1)
    broker.engine.feed(client._link, message * (2 * READ_LARGE_SIZE // len(message)))
    _turn(broker)
    _turn(broker)
    assert len(broker.engine.collect(client._link)) // ANSWER_SIZE > READ_LARGE_SIZE // len(message)


def test_fan_out_counts_as_much_as_it_reaches(broker: Broker) -> None:
    readers = [broker.connect(f"r{number}") for number in range(200)]
    for reader in readers:
        reader.subscribe("a")
    writer = broker.connect("writer")
    message = packets.encode(Publish(topic="a", payload=bytes(10)), MQTT_5_0)
    broker.engine.feed(writer._link, message * (4 * READ_LARGE_SIZE // len(message)))
    counts = []
    for _ in range(4):
        _turn(broker)
        counts.append(len(broker.engine.collect(readers[0]._link)) // len(message))
    assert counts[0] == pytest.approx(16384 // len(message), abs=1)
    assert 0 < max(counts[1:]) <= 131072 // 200 + 1
