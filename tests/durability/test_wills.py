"""Wills over several shards, with the log cut off anywhere: everybody who is to get one gets it exactly once."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client
from support.packets import Will

KEPT: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 1000}
READERS = [f"reader{number}" for number in range(6)]
MEMBERS = [f"member{number}" for number in range(4)]
WILLS = 2


def start(folder: Path, shards: int) -> Broker:
    return Broker(shard_count=shards, data=folder, min_session_expiry_seconds=1)


def reconnect(broker: Broker, name: str) -> Client:
    client = broker.open()
    assert client.connect(client_id=name, **KEPT).session_present, name
    return client


def record(folder: Path, shards: int) -> tuple[Path, int]:
    """The log of clients that died; how long it was when they lived."""
    broker = start(folder, shards)
    for name in READERS:
        broker.connect(name, **KEPT).subscribe("will/+", qos=2)
    for name in MEMBERS:
        broker.connect(name, **KEPT).subscribe("$share/g/will/#", qos=2)
    for name in [*READERS, *MEMBERS]:
        reconnect(broker, name).drop()
    dying = [
        broker.connect(
            f"dying{number}", **KEPT, will=Will(topic=f"will/{number}", payload=b"%d" % number, qos=2, retain=True)
        )
        for number in range(WILLS)
    ]
    broker.settle()
    assert broker.log is not None
    before = broker.log.state().total_bytes
    for client in dying:
        client.drop()
    broker.settle()
    broker.crash()
    [log] = folder.glob("*.log")
    return log, before


def check(broker: Broker) -> None:
    expected = [b"%d" % number for number in range(WILLS)]
    for name in READERS:
        assert sorted(m.payload for m in reconnect(broker, name).take_messages()) == expected, name
    members = [m.payload for name in MEMBERS for m in reconnect(broker, name).take_messages()]
    assert sorted(members) == expected, "of the group"
    late = broker.connect("late")
    late.subscribe("will/+")
    assert sorted(m.payload for m in late.take_messages()) == expected


@pytest.mark.parametrize(("shards", "shards_then"), [(1, 1), (3, 3), (3, 2), (2, 1)])
def test_cut_anywhere_loses_no_will_and_doubles_none(tmp_path: Path, shards: int, shards_then: int) -> None:
    folder = tmp_path / "original"
    folder.mkdir()
    log, before = record(folder, shards)
    size = log.stat().st_size
    assert size > before + 3 * 40
    for end in range(before, size + 1, 23):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        os.truncate(copy / log.name, end)
        broker = start(copy, shards_then)
        if end % 2:  # Killed once more before anybody has come back.
            broker.settle()
            broker.crash()
            broker = start(copy, shards_then)
        broker.advance(1)
        check(broker)
        broker.close()
        shutil.rmtree(copy)


@pytest.mark.parametrize("shards", [2, 3])
def test_will_that_is_everywhere_is_not_handed_out_again(tmp_path: Path, shards: int) -> None:
    record(tmp_path, shards)
    for _ in range(2):
        broker = start(tmp_path, shards)
        for number in range(4):
            client = broker.connect(f"new{number}", **KEPT)
            client.subscribe("will/+", qos=2, retain_handling=2)
            client.drop()
        broker.crash()
    broker = start(tmp_path, shards)
    for number in range(4):
        reconnect(broker, f"new{number}").expect_nothing()
    broker.close()
