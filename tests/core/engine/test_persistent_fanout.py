"""MaxPersistentFanout, MaxPersistentFanoutBytes and MaxGroupFanout: what one publication may reach."""

from collections.abc import Iterator
from typing import Any

import pytest

from rookery.core.notices import DropReason, NoticeKind
from rookery.core.settings import TenantSettings
from support.memory_broker import TENANT, Broker, Client


@pytest.fixture
def broker() -> Iterator[Broker]:
    opened = Broker(shard_count=1)  # Each shard counts for itself (docs/operations.md).
    yield opened
    opened.close()


def configure(broker: Broker, **settings: Any) -> None:
    broker.engine.configure_tenant(TENANT, TenantSettings(**settings))
    broker.settle()


def persistent(broker: Broker, count: int, *topic_filters: str) -> list[Client]:
    readers = [broker.connect(f"persistent{number}", session_expiry_interval=100) for number in range(count)]
    for reader in readers:
        if topic_filters:
            reader.subscribe(*topic_filters, qos=1)
    return readers


def reached(readers: list[Client]) -> int:
    return sum(len(reader.take_messages()) for reader in readers)


@pytest.mark.parametrize("topic_filters", [("t",), ("t", "#")], ids=["one filter", "two filters"])
def test_persistent_sessions_beyond_the_limit_do_not_get_it(broker: Broker, topic_filters: tuple[str, ...]) -> None:
    configure(broker, max_persistent_fanout=3)
    notices = broker.observe(NoticeKind.PERSISTENT_FANOUT_LIMITED, NoticeKind.MESSAGE_DROPPED)
    readers = persistent(broker, 5, *topic_filters)
    writer = broker.connect("writer")
    writer.publish("t", b"x", qos=1)
    assert reached(readers) == 3
    assert broker.count("messages_dropped") == 2
    limited = [notice for notice in notices if notice.kind == NoticeKind.PERSISTENT_FANOUT_LIMITED]
    assert [(notice.text, notice.numbers[0]) for notice in limited] == [("t", 3)]
    dropped = [notice for notice in notices if notice.kind == NoticeKind.MESSAGE_DROPPED]
    assert {notice.numbers[1] for notice in dropped} == {DropReason.FANOUT_LIMITED}
    # Each publication is counted for itself.
    writer.publish("t", b"x", qos=1)
    assert reached(readers) == 3


def test_transient_sessions_are_not_counted(broker: Broker) -> None:
    configure(broker, max_persistent_fanout=1)
    transient = [broker.connect(f"transient{number}") for number in range(4)]
    for reader in transient:
        reader.subscribe("t")
    readers = persistent(broker, 2, "t")
    broker.connect("writer").publish("t", b"x")
    assert reached(transient) == 4
    assert reached(readers) == 1


def test_bytes_to_persistent_sessions_are_limited(broker: Broker) -> None:
    configure(broker, max_persistent_fanout_bytes=2500)
    notices = broker.observe(NoticeKind.PERSISTENT_FANOUT_BYTES_LIMITED)
    readers = persistent(broker, 4, "t")
    writer = broker.connect("writer")
    writer.publish("t", bytes(1000))
    assert reached(readers) == 2
    writer.publish("t", bytes(100))
    assert reached(readers) == 4
    assert [(notice.text, notice.numbers[0]) for notice in notices] == [("t", 2500)]


def test_members_of_shared_groups_count(broker: Broker) -> None:
    configure(broker, max_persistent_fanout=1)
    readers = persistent(broker, 2)
    readers[0].subscribe("$share/one/t", qos=1)
    readers[1].subscribe("$share/two/t", qos=1)
    broker.connect("writer").publish("t", b"x", qos=1)
    assert reached(readers) == 1


def test_shared_groups_beyond_the_limit_do_not_get_it(broker: Broker) -> None:
    configure(broker, max_group_fanout=2)
    notices = broker.observe(NoticeKind.GROUP_FANOUT_LIMITED)
    reader = broker.connect("reader")
    reader.subscribe(*(f"$share/{name}/t" for name in "abcd"))
    broker.connect("writer").publish("t", b"x")
    assert len(reader.take_messages()) == 2
    assert notices
    assert {(notice.text, notice.numbers[0]) for notice in notices} == {("t", 2)}


def test_no_limit_reaches_everybody(broker: Broker) -> None:
    readers = persistent(broker, 20, "t")
    broker.connect("writer").publish("t", b"x")
    assert reached(readers) == 20
