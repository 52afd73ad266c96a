"""Messages that wait beyond the memory for them lie in files, and nobody can tell."""

from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client

KEPT = {"clean_start": False, "session_expiry_interval": 1000}
CHUNK = 4 * 1024 * 1024
COUNT = 150
PAYLOAD_SIZE = 65_000  # all of them take three chunks


def start(folder: Path, **fields: Any) -> Broker:
    return Broker(data=folder, session_inbox_size=10 * COUNT, max_user_payload_bytes=65536, **fields)


def leave_subscribed(broker: Broker, *names: str, qos: int = 1) -> None:
    for name in names:
        client = broker.connect(name, **KEPT)
        client.subscribe("a/#", qos=qos)
        client.drop()


def payload(number: int) -> bytes:
    return b"%d:" % number + bytes(PAYLOAD_SIZE)


def publish(broker: Broker, *, qos: int = 1) -> None:
    writer = broker.connect("writer")
    for number in range(COUNT):
        writer.publish("a/b", payload(number), qos=qos)
    writer.drop()


def check(client: Client) -> None:
    numbers = []
    for message in client.take_messages():
        number, _, zeros = message.payload.partition(b":")
        assert zeros == bytes(PAYLOAD_SIZE)
        numbers.append(int(number))
    assert numbers == list(range(COUNT))


def file_bytes(broker: Broker) -> int:
    """Once what is no longer used was given back."""
    broker.advance(2)
    return broker.engine.waiting_memory().file_bytes


@pytest.mark.parametrize("shards", [1, 3])
def test_messages_beyond_the_limit_come_back_in_order_and_the_files_shrink(tmp_path: Path, shards: int) -> None:
    broker = start(tmp_path, inbox_memory=0, shard_count=shards)
    leave_subscribed(broker, "one", "two", "three", "four")
    publish(broker)
    # A message is there once for all inboxes of a shard.
    assert 3 * CHUNK <= file_bytes(broker) <= shards * 4 * CHUNK
    for name in ("one", "two", "three", "four"):
        client = broker.connect(name, **KEPT)
        check(client)
        client.drop()
    assert file_bytes(broker) == 0
    broker.close()


def test_up_to_the_limit_they_lie_in_memory(tmp_path: Path) -> None:
    broker = start(tmp_path, inbox_memory=2**40)
    before = broker.engine.waiting_memory().memory_bytes
    leave_subscribed(broker, "one", "two")
    publish(broker)
    memory = broker.engine.waiting_memory()
    assert COUNT * PAYLOAD_SIZE <= memory.memory_bytes - before <= COUNT * (PAYLOAD_SIZE + 200)
    assert memory.file_bytes == 0
    for name in ("one", "two"):
        check(broker.connect(name, **KEPT))
    assert broker.engine.waiting_memory().memory_bytes == before
    broker.close()


def test_what_somebody_online_has_not_acknowledged_lies_there_too(tmp_path: Path) -> None:
    """His window keeps the message first, on the heap; the inbox outlives the window."""
    broker = start(tmp_path, inbox_memory=0)
    online = broker.connect("online")
    online.subscribe("a/#", qos=1)
    leave_subscribed(broker, "away")
    publish(broker)
    check(online)
    assert file_bytes(broker) >= 3 * CHUNK
    check(broker.connect("away", **KEPT))
    broker.close()


def test_qos_0_messages_that_wait_lie_there_too(tmp_path: Path) -> None:
    broker = start(tmp_path, inbox_memory=0)
    leave_subscribed(broker, "away", qos=0)
    publish(broker)
    assert file_bytes(broker) >= 3 * CHUNK
    check(broker.connect("away", **KEPT))
    broker.close()


@pytest.mark.parametrize("shards", [(1, 1), (3, 2)])
def test_what_is_read_back_from_the_log_lies_there_too(tmp_path: Path, shards: tuple[int, int]) -> None:
    broker = start(tmp_path, inbox_memory=0, shard_count=shards[0])
    leave_subscribed(broker, "one", "two", "three")
    publish(broker, qos=2)
    broker.crash()
    broker = start(tmp_path, inbox_memory=0, shard_count=shards[1], now_ms=broker.now_ms)
    assert file_bytes(broker) >= 3 * CHUNK
    for name in ("one", "two", "three"):
        check(broker.connect(name, **KEPT))
    assert file_bytes(broker) == 0
    broker.close()


def test_sessions_that_end_give_the_files_back(tmp_path: Path) -> None:
    broker = start(tmp_path, inbox_memory=0)
    leave_subscribed(broker, "one", "two")
    publish(broker)
    assert file_bytes(broker) >= 3 * CHUNK
    broker.advance(1001)
    assert broker.session("one") is None
    assert file_bytes(broker) == 0
    broker.close()
