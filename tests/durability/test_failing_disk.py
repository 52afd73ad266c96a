"""A disk that is full or fails: who waits, who is told, whom it does not touch, and what waits in memory meanwhile."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rookery.core.events import ConnectRequested
from rookery.core.log.durable_log import DurableLog
from support.memory_broker import Admitted, Broker, Client
from support.packets import (
    MQTT_3_1_1,
    MQTT_5_0,
    Connect,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from support.waiting import wait_until

KEPT = {"clean_start": False, "session_expiry_interval": 1000}
QUOTA_EXCEEDED = 0x97

Make = Callable[..., Broker]


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    brokers: list[Broker] = []

    def make(**options: Any) -> Broker:
        broker = Broker(shard_count=request.param, data=tmp_path, min_session_expiry_seconds=1, **options)
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        broker.close()


@contextmanager
def failing(broker: Broker) -> Iterator[DurableLog]:
    """The disk is full within the block, and the log has found out."""
    log = broker.log
    assert log is not None
    log.fail(errno.ENOSPC, writable_bytes=0)
    # Something must be written for the log to find out.
    prober = broker.open(MQTT_5_0)
    broker.log = None  # settle() does not wait for the log
    prober.send(Connect(client_id="prober", clean_start=False, session_expiry_interval=1000))
    wait_until(lambda: log.state().error != 0)
    wait_until(lambda: log.state().failing_ms > 1)
    try:
        yield log
    finally:
        log.fail(0)
        broker.log = log
        broker.settle()


def reader(broker: Broker, topic_filter: str = "durable/#") -> Client:
    """A persistent session."""
    client = broker.connect("reader", **KEPT)
    client.subscribe(topic_filter, qos=2)
    return client


def payloads(client: Client) -> list[bytes]:
    return [message.payload for message in client.take_messages()]


@pytest.mark.parametrize(("qos", "answer"), [(1, Puback), (2, Pubrec)])
def test_durable_message_of_5_0_is_refused_after_the_limit_and_not_stored(
    make: Make, qos: int, answer: type[Puback] | type[Pubrec]
) -> None:
    broker = make(refuse_after_ms=0)
    subscriber = reader(broker)
    writer = broker.connect("writer")
    with failing(broker):
        writer.send(Publish(topic="durable/a", payload=b"refused", qos=qos, packet_id=7))
        refusal = writer.take(answer)
        assert (refusal.packet_id, refusal.reason_code) == (7, QUOTA_EXCEEDED)
        assert refusal.reason_string == "the durable log cannot be written"
        subscriber.expect_nothing()
    # The identifier is free, and the client may try again.
    assert writer.publish("durable/a", b"again", qos=qos) == 0
    assert payloads(subscriber) == [b"again"]


def test_retained_message_of_5_0_is_refused_after_the_limit_and_not_stored(make: Make) -> None:
    broker = make(refuse_after_ms=0)
    writer = broker.connect("writer")
    assert writer.publish("r", b"before", qos=1, retain=True) in (0, 0x10)
    with failing(broker):
        for payload in (b"refused", b""):
            writer.send(Publish(topic="r", payload=payload, qos=1, packet_id=7, retain=True))
            assert writer.take(Puback).reason_code == QUOTA_EXCEEDED
    client = broker.connect("late")
    client.subscribe("r")
    assert payloads(client) == [b"before"]


def test_before_the_limit_it_waits_and_is_acknowledged_in_the_end(make: Make) -> None:
    broker = make()
    subscriber = reader(broker)
    writer = broker.connect("writer")
    with failing(broker):
        writer.send(Publish(topic="durable/a", payload=b"x", qos=1, packet_id=7))
        writer.expect_nothing()
    assert writer.take(Puback).reason_code == 0
    assert payloads(subscriber) == [b"x"]


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5_0])
@pytest.mark.parametrize("shard_count", [1, 3])
def test_transient_traffic_goes_on(tmp_path: Path, version: int, shard_count: int) -> None:
    def decide(request: ConnectRequested) -> Admitted:
        # Of another shard it is not known for which topics the tenant has persistent sessions there.
        return Admitted(tenant_id="other" if shard_count > 1 and request.client_id in ("reader", "prober") else "acme")

    broker = Broker(
        decide=decide, shard_count=shard_count, data=tmp_path, min_session_expiry_seconds=1, refuse_after_ms=0
    )
    reader(broker)
    subscriber = broker.connect("transient", version=version)
    subscriber.subscribe("transient/#", qos=2)
    writer = broker.connect("writer", version=version)
    with failing(broker):
        for qos in (0, 1, 2):
            assert writer.publish("transient/a", b"%d" % qos, qos=qos) in (0, None)
        assert payloads(subscriber) == [b"0", b"1", b"2"]
        # QoS 0 is never written, whoever gets it.
        writer.publish("durable/a", b"", qos=0)
        assert writer.publish("transient/a", b"3", qos=1) == 0
    broker.close()


def test_client_of_3_1_1_is_held_back_behind_its_first_durable_message(make: Make) -> None:
    broker = make(refuse_after_ms=0)
    subscriber = reader(broker)
    writer = broker.connect("writer", version=MQTT_3_1_1)
    with failing(broker) as log:
        writer.send(Publish(topic="durable/a", payload=b"0", qos=1, packet_id=1))
        waiting = log.state().backlog_bytes
        for number in range(1, 200):
            writer.send(Publish(topic="durable/a", payload=b"%d" % number, qos=1, packet_id=number + 1))
        writer.expect_nothing()
        assert log.state().backlog_bytes <= waiting + 300  # what the reader's acknowledgement is written with
    assert [writer.take(Puback).packet_id for _ in range(200)] == list(range(1, 201))
    assert payloads(subscriber) == [b"%d" % number for number in range(200)]


def test_client_of_5_0_that_waits_already_is_held_back_as_well(make: Make) -> None:
    broker = make()
    subscriber = reader(broker)
    writer = broker.connect("writer")
    with failing(broker) as log:
        writer.send(Publish(topic="durable/a", payload=b"0", qos=1, packet_id=1))
        log.refuse_after_ms = 0
        for number in range(1, 50):
            writer.send(Publish(topic="durable/a", payload=b"%d" % number, qos=1, packet_id=number + 1))
        writer.expect_nothing()
    # Its acknowledgements keep their order [MQTT-4.6.0-2]; what it sent first after the limit was refused.
    answers = [writer.take(Puback) for _ in range(50)]
    assert [answer.packet_id for answer in answers] == list(range(1, 51))
    stored = [answer.packet_id - 1 for answer in answers if answer.reason_code == 0]
    assert len(stored) >= 49
    assert payloads(subscriber) == [b"%d" % number for number in stored]


def test_flood_of_subscriptions_is_held_back(make: Make) -> None:
    broker = make(refuse_after_ms=0)
    client = broker.connect("subscriber", **KEPT)
    with failing(broker) as log:
        before = log.state().backlog_bytes
        for number in range(300):
            client.send(Subscribe(packet_id=2 * number + 1, subscriptions=(Subscription("x" * 100, 1),)))
            client.send(Unsubscribe(packet_id=2 * number + 2, topic_filters=("x" * 100,)))
        client.expect_nothing()
        assert log.state().backlog_bytes < before + 1000
    for _ in range(300):
        client.take(Suback)
        client.take(Unsuback)


def test_flood_of_retained_messages_of_qos_0_is_held_back(make: Make) -> None:
    broker = make(refuse_after_ms=0)
    writer = broker.connect("writer")
    with failing(broker) as log:
        before = log.state().backlog_bytes
        for number in range(300):
            writer.send(Publish(topic=f"r/{number}", payload=b"x" * 100, retain=True))
        assert log.state().backlog_bytes < before + 1000
    writer.ping()
    client = broker.connect("late")
    client.subscribe("r/#")
    assert len(client.take_messages()) == 300


def test_held_client_that_goes_leaves_nothing_behind(make: Make) -> None:
    broker = make(refuse_after_ms=0)
    reader(broker)
    writer = broker.connect("writer", version=MQTT_3_1_1)
    with failing(broker):
        writer.send(Publish(topic="durable/a", payload=b"0", qos=1, packet_id=1))
        writer.send(Publish(topic="durable/a", payload=b"1", qos=1, packet_id=2))
        # The same client once more: its old connection ends although it was not read.
        broker.connect("writer", version=MQTT_3_1_1).ping()
    assert broker.connect("writer", version=MQTT_3_1_1).publish("durable/a", b"2", qos=1) == 0


def test_slow_disk_holds_back_but_refuses_nothing(make: Make) -> None:
    broker = make(backlog_limit=1)
    subscriber = reader(broker)
    writers = [broker.connect(f"writer{number}") for number in range(3)]
    with failing(broker) as log:
        assert log.is_holding
        assert not log.is_refusing
        for writer in writers:
            for number in range(100):
                writer.send(Publish(topic="durable/a", payload=b"x", qos=1, packet_id=number + 1))
            writer.expect_nothing()
        assert log.state().backlog_bytes < 2000
    for writer in writers:
        assert [writer.take(Puback).reason_code for _ in range(100)] == [0] * 100
    assert len(subscriber.take_messages()) == 300
