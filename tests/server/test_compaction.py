"""A log is made as small as what is alive in it, and a broker finds the same in it as before."""

import errno
from pathlib import Path
from typing import Any

import pytest

from rookery.core.engine import Engine
from rookery.core.log.durable_log import DurableLog
from rookery.core.log.errors import LogError
from rookery.server import compaction
from rookery.server.compaction import compact_log
from rookery.server.data_directory import DataDirectoryError, DataDirectoryInUse, NoDataDirectory, lock_directory
from rookery.server.log_report import read_log_report
from support.memory_broker import Broker, Client
from support.packets import Publish, Pubrec, Will

KEPT: dict[str, Any] = {"clean_start": False, "session_expiry_interval": 10_000}
MESSAGES = 20


def start(directory: Path, shards: int = 1) -> Broker:
    (directory / "log").mkdir(parents=True, exist_ok=True)
    return Broker(data=directory / "log", shard_count=shards, segment_size=4096, min_session_expiry_seconds=1)


def reconnect(broker: Broker, name: str) -> Client:
    client = broker.open()
    assert client.connect(client_id=name, **KEPT).session_present, name
    return client


def fill(directory: Path) -> None:
    """Messages that came and went, and of everything that is kept some."""
    broker = start(directory, shards=2)
    reader = broker.connect("reader", **KEPT, will=Will(topic="will", payload=b"w", will_delay_interval=5000, qos=1))
    reader.subscribe("a/#", qos=2)
    writer = broker.connect("writer", **KEPT)
    for number in range(MESSAGES):
        writer.publish("a/gone", b"%d" % number + bytes(300), qos=1)
    assert len(reader.take_messages()) == MESSAGES
    reader.drop()
    for number in range(3):
        writer.publish("a/waits", b"%d" % number, qos=1 + number % 2)
    writer.publish("kept", b"retained", qos=1, retain=True)
    writer.send(Publish(topic="a/waits", payload=b"3", qos=2, packet_id=77))
    writer.take(Pubrec)
    broker.crash()


def check(directory: Path) -> None:
    broker = start(directory)
    assert [message.payload for message in reconnect(broker, "reader").take_messages()] == [b"0", b"1", b"2", b"3"]
    late = broker.connect("late")
    late.subscribe("kept")
    assert late.take_message().payload == b"retained"
    writer = reconnect(broker, "writer")
    writer.send(Publish(topic="a/waits", payload=b"3", qos=2, packet_id=77, dup=True))
    writer.take(Pubrec)
    broker.close()


def test_only_what_is_alive_is_left(tmp_path: Path) -> None:
    fill(tmp_path)
    done = compact_log(tmp_path)
    report = read_log_report(tmp_path)
    assert done.bytes_before > MESSAGES * 300
    assert done.bytes_after == sum(segment.size for segment in report.segments) < 4096
    assert not report.is_damaged
    assert report.records["message"] == 4
    assert report.records["will"] == report.records["retained"] == 1
    check(tmp_path)


def test_log_that_is_compact_stays_so(tmp_path: Path) -> None:
    fill(tmp_path)
    first = compact_log(tmp_path)
    again = compact_log(tmp_path)
    assert again.bytes_before == first.bytes_after
    assert abs(again.bytes_after - first.bytes_after) < 200
    check(tmp_path)


def test_disk_that_fails_changes_nothing_that_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)

    class Full(DurableLog):
        def run(self) -> None:
            self.fail(errno.ENOSPC, writable_bytes=100)
            super().run()

    monkeypatch.setattr(compaction, "DurableLog", Full)
    with pytest.raises(DataDirectoryError, match="No space left on device"):
        compact_log(tmp_path)
    check(tmp_path)


def test_damaged_log_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    path = min((tmp_path / "log").glob("*.log"))
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogError, match="damaged"):
        compact_log(tmp_path)


def test_directory_that_is_none_or_in_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoDataDirectory):
        compact_log(tmp_path / "none")
    fill(tmp_path)
    with lock_directory(tmp_path), pytest.raises(DataDirectoryInUse):
        compact_log(tmp_path)


def test_engine_that_has_read_nothing_or_has_several_shards_compacts_nothing(tmp_path: Path) -> None:
    for shards in (1, 2):
        engine = Engine(shard_count=shards)
        with pytest.raises(RuntimeError, match="an engine of one shard"):
            engine.compact()
        engine.close()
