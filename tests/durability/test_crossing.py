"""QoS 2 over several shards, with the log cut off anywhere: everybody who is to get a message gets it exactly once."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client
from support.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel

KEPT: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 1000}
READERS = [f"reader{number}" for number in range(6)]
MEMBERS = [f"member{number}" for number in range(4)]
MESSAGES = 3
START_MS = 1_000_000


def start(folder: Path, shards: int) -> Broker:
    return Broker(shard_count=shards, data=folder, now_ms=START_MS, min_session_expiry_seconds=1)


def reconnect(broker: Broker, name: str) -> Client:
    client = broker.open()
    assert client.connect(client_id=name, **KEPT).session_present, name
    return client


def message(number: int, *, dup: bool = False) -> Publish:
    return Publish(
        topic="a/b", payload=b"%d" % number, qos=2, packet_id=number + 1, retain=number == MESSAGES - 1, dup=dup
    )


def record(folder: Path, shards: int) -> tuple[Path, int]:
    """The log of publications that nobody has released; how long it was before the first one."""
    broker = start(folder, shards)
    for name in READERS:
        broker.connect(name, **KEPT).subscribe("a/+", qos=2)
    for name in MEMBERS:
        broker.connect(name, **KEPT).subscribe("$share/g/a/#", qos=2)
    for name in [*READERS, *MEMBERS]:
        reconnect(broker, name).drop()
    broker.connect("other", **KEPT).drop()
    publisher = broker.connect("publisher", **KEPT)
    assert broker.log is not None
    before = broker.log.state().total_bytes
    for number in range(MESSAGES):
        publisher.send(message(number))
        publisher.take(Pubrec)
    broker.crash()
    [log] = folder.glob("*.log")
    return log, before


def go_on(broker: Broker) -> None:
    """The publisher comes back and finishes what it has begun."""
    publisher = reconnect(broker, "publisher")
    for number in range(MESSAGES):
        publisher.send(message(number, dup=True))
        assert publisher.take(Pubrec).reason_code == 0
        publisher.send(Pubrel(packet_id=number + 1))
        publisher.take(Pubcomp)
    publisher.disconnect()


def check(broker: Broker) -> None:
    expected = [b"%d" % number for number in range(MESSAGES)]
    for name in READERS:
        assert [m.payload for m in reconnect(broker, name).take_messages()] == expected, name
    members = [m.payload for name in MEMBERS for m in reconnect(broker, name).take_messages()]
    assert Counter(members) == Counter(expected), "of the group"
    late = broker.connect("late")
    late.subscribe("a/b")
    assert late.take_message().payload == expected[-1]


def test_acknowledged_message_of_a_group_is_durable(tmp_path: Path) -> None:
    """Publisher, group and member may be at home on three different shards."""
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        broker = start(folder, 3)
        broker.connect("member", **KEPT).subscribe(f"$share/g/t{number}", qos=1)
        reconnect(broker, "member").drop()
        publisher = broker.connect(f"publisher{number}")
        publisher.send_only(Publish(topic=f"t{number}", payload=b"x", qos=1, packet_id=1))
        while not any(isinstance(packet, Puback) for packet in publisher.collect()):
            for shard in range(3):
                broker.engine.turn(shard, broker.now_ms)
        broker.crash()
        broker = start(folder, 3)
        assert len(reconnect(broker, "member").take_messages()) == 1, number
        broker.close()


@pytest.mark.parametrize(("shards", "shards_then"), [(1, 1), (3, 3), (3, 2), (2, 1)])
def test_cut_anywhere_loses_nothing_and_doubles_nothing(tmp_path: Path, shards: int, shards_then: int) -> None:
    folder = tmp_path / "original"
    folder.mkdir()
    log, before = record(folder, shards)
    size = log.stat().st_size
    assert size > before + 3 * 40
    for end in range(before, size + 1, 37):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        os.truncate(copy / log.name, end)
        broker = start(copy, shards_then)
        if end % 2:  # Killed once more before anybody has come back.
            broker.settle()
            broker.crash()
            broker = start(copy, shards_then)
        go_on(broker)
        broker.crash()
        broker = start(copy, shards_then)
        check(broker)
        broker.close()
        shutil.rmtree(copy)
