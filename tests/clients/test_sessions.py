"""Sessions of foreign clients: kept, discarded, taken over."""

from collections.abc import Callable
from operator import methodcaller

import pytest
from clients.stranger import Connect, Message, Stranger, only_5_0

from support.process import fails_on_mosquitto

SESSION_TAKEN_OVER = 0x8E
QUEUED_COUNT = 100


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("leave", [methodcaller("disconnect"), methodcaller("drop")], ids=["disconnected", "dropped"])
def test_persistent_session_gets_what_was_queued_while_it_was_away(
    connect: Connect, unique: str, qos: int, leave: Callable[[Stranger], None]
) -> None:
    payloads = [b"%d" % number for number in range(QUEUED_COUNT)]
    reader = connect("reader", is_persistent=True)
    assert not reader.session_present
    reader.subscribe(f"{unique}/a", qos)
    leave(reader)
    writer = connect("writer")
    for payload in payloads:
        writer.publish(Message(topic=f"{unique}/a", payload=payload, qos=qos))
    reader = connect("reader", is_persistent=True)
    assert reader.session_present
    assert reader.receive_payloads(QUEUED_COUNT) == payloads


def test_persistent_session_keeps_its_subscriptions(connect: Connect, unique: str) -> None:
    reader = connect("reader", is_persistent=True)
    reader.subscribe(f"{unique}/a", 1)
    reader.subscribe(f"{unique}/b", 1)
    reader.unsubscribe(f"{unique}/a")
    reader.disconnect()
    reader = connect("reader", is_persistent=True)
    for topic in ("a", "b"):
        reader.publish(Message(topic=f"{unique}/{topic}", qos=1))
    assert reader.receive().topic == f"{unique}/b"


def test_clean_start_discards_the_session(connect: Connect, unique: str) -> None:
    reader = connect("reader", is_persistent=True)
    reader.subscribe(f"{unique}/a", 1)
    reader.disconnect()
    writer = connect("writer")
    writer.publish(Message(topic=f"{unique}/a", payload=b"lost", qos=1))
    reader = connect("reader")
    assert not reader.session_present
    writer.publish(Message(topic=f"{unique}/a", payload=b"lost, too", qos=1))
    reader.subscribe(f"{unique}/a", 1)
    writer.publish(Message(topic=f"{unique}/a", payload=b"end", qos=1))
    assert reader.receive().payload == b"end"


def test_clean_session_ends_with_its_connection(connect: Connect, unique: str) -> None:
    reader = connect("reader")
    reader.subscribe(f"{unique}/a", 1)
    reader.disconnect()
    reader = connect("reader", is_persistent=True)
    assert not reader.session_present
    reader.publish(Message(topic=f"{unique}/a", payload=b"lost", qos=1))
    reader.subscribe(f"{unique}/a", 1)
    reader.publish(Message(topic=f"{unique}/a", payload=b"end", qos=1))
    assert reader.receive().payload == b"end"


def test_second_connection_takes_the_session_over(connect: Connect, unique: str) -> None:
    first = connect("reader", is_persistent=True)
    first.subscribe(f"{unique}/a", 1)
    second = connect("reader", is_persistent=True)
    first.expect_closed()
    assert second.session_present
    connect("writer").publish(Message(topic=f"{unique}/a", payload=b"x", qos=1))
    assert second.receive().payload == b"x"


def test_second_connection_with_clean_start_closes_the_first(connect: Connect, unique: str) -> None:
    first = connect("reader")
    second = connect("reader")
    first.expect_closed()
    assert not second.session_present
    second.subscribe(f"{unique}/a")
    second.publish(Message(topic=f"{unique}/a"))
    assert second.receive().topic == f"{unique}/a"


@only_5_0
@fails_on_mosquitto("it closes the first connection without a word")
@pytest.mark.parametrize("is_persistent", [False, True], ids=["clean", "persistent"])
def test_first_connection_is_told_that_its_session_was_taken_over(connect: Connect, is_persistent: bool) -> None:
    first = connect("reader", is_persistent=is_persistent)
    connect("reader", is_persistent=is_persistent)
    assert first.expect_closed() == SESSION_TAKEN_OVER


@only_5_0
def test_session_with_expiry_0_ends_with_its_connection(connect: Connect) -> None:
    connect("reader", is_persistent=True, session_expiry_interval=0).disconnect()
    reader = connect("reader", is_persistent=True)
    assert not reader.session_present
    reader.disconnect()
    assert connect("reader", is_persistent=True).session_present


@only_5_0
def test_session_with_expiry_outlives_clean_start(connect: Connect) -> None:
    """In 5.0 clean start speaks of the past and expiry of the future; 3.1.1 cannot say both."""
    reader = connect("reader", clean_start=True, session_expiry_interval=3600)
    assert not reader.session_present
    reader.disconnect()
    assert connect("reader", is_persistent=True).session_present
