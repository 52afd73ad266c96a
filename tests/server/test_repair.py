"""What a repair saves of a damaged log, and that it never destroys the only copy."""

import random
from pathlib import Path

import pytest

from rookery.core.log.errors import LogDamagedError, LogError, LogTooNewError
from rookery.server.data_directory import (
    DataDirectoryError,
    DataDirectoryInUse,
    NoDataDirectory,
    lock_directory,
    settle_directory,
    share_directory,
)
from rookery.server.log_report import read_log_report
from rookery.server.repair import repair_log
from support.log_files import make_newer
from support.memory_broker import Broker, Client

COUNT = 40
KEPT = {"clean_start": False, "session_expiry_interval": 1000}


def fill(directory: Path) -> Path:
    """A log with a reader that is away, numbered messages for it and retained ones; its only segment."""
    (directory / "log").mkdir(parents=True)
    broker = Broker(data=directory / "log", min_session_expiry_seconds=1)
    reader = broker.connect("reader", **KEPT)
    reader.subscribe("a/#", qos=2)
    reader.drop()
    writer = broker.connect("writer")
    for number in range(COUNT):
        writer.publish("a/b", b"message %d" % number, qos=1 + number % 2)
        writer.publish(f"r/{number}", b"retained %d" % number, qos=1, retain=True)
    broker.close()
    (path,) = (directory / "log").glob("*.log")
    return path


def flip(path: Path, place: int, bit: int = 0) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)


def start(directory: Path) -> Broker:
    return Broker(data=directory / "log", min_session_expiry_seconds=1)


def waiting(broker: Broker) -> list[bytes]:
    """What the reader has got, should its session still be there."""
    reader: Client = broker.open()
    reader.connect(client_id="reader", **KEPT)
    return [message.payload for message in reader.take_messages()]


def retained(broker: Broker) -> dict[str, bytes]:
    client = broker.connect("collector")
    client.subscribe("r/#", qos=1)
    return {message.topic: message.payload for message in client.take_messages()}


def test_damage_costs_what_it_hit_and_the_rest_is_served(tmp_path: Path) -> None:
    path = fill(tmp_path)
    content = path.read_bytes()
    flip(path, content.index(b"message 7"))
    damaged = path.read_bytes()
    with pytest.raises(LogDamagedError):
        start(tmp_path)
    done = repair_log(tmp_path)
    assert done.set_aside is not None
    assert (done.set_aside / path.name).read_bytes() == damaged
    (hole,) = done.found.segments[0].holes
    assert hole.offset < content.index(b"message 7") < hole.offset + hole.size
    assert done.lost_bytes == hole.size
    broker = start(tmp_path)
    assert waiting(broker) == [b"message %d" % number for number in range(COUNT) if number != 7]
    assert retained(broker) == {f"r/{number}": b"retained %d" % number for number in range(COUNT)}
    broker.close()
    assert not read_log_report(tmp_path).is_damaged


def test_flipped_bits_anywhere_never_make_a_message_that_was_not_sent(tmp_path: Path) -> None:
    path = fill(tmp_path / "data")
    whole = path.read_bytes()
    sent = [b"message %d" % number for number in range(COUNT)]
    chance = random.Random(7)
    repairs = 0
    for _ in range(60):
        for entry in (tmp_path / "data" / "log").iterdir():
            entry.unlink()
        path.write_bytes(whole)
        for _ in range(chance.randint(1, 3)):
            flip(path, chance.randrange(len(whole)), chance.randrange(8))
        try:
            repairs += repair_log(tmp_path / "data").set_aside is not None
        except LogError:
            continue  # nothing told which log it was of
        broker = start(tmp_path / "data")
        got = waiting(broker)
        assert [payload for payload in sent if payload in got] == got
        assert all(payload == b"retained " + topic[2:].encode() for topic, payload in retained(broker).items())
        broker.close()
    assert repairs > 50


def test_lost_first_block_costs_that_block(tmp_path: Path) -> None:
    path = fill(tmp_path)
    content = path.read_bytes()
    path.write_bytes(bytes(512) + content[512:])
    with pytest.raises(LogError, match="the header is missing"):
        start(tmp_path)
    with pytest.raises(LogDamagedError, match="nothing in it can be told to be of this log"):
        repair_log(tmp_path)  # Its identity is gone with its header, and no other file has it.
    assert path.read_bytes()[512:] == content[512:]


def test_whole_log_is_left_alone(tmp_path: Path) -> None:
    path = fill(tmp_path)
    torn = path.read_bytes()[:-3]
    path.write_bytes(torn)
    done = repair_log(tmp_path)
    assert done.set_aside is None
    assert done.found.torn is not None
    assert path.read_bytes() == torn
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lock", "log"]


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with lock_directory(tmp_path):
        with pytest.raises(DataDirectoryInUse, match="in use by process"):
            repair_log(tmp_path)
        with pytest.raises(DataDirectoryInUse, match="in use by process"):
            read_log_report(tmp_path)
        assert read_log_report(tmp_path, is_live_allowed=True).user is not None
    assert read_log_report(tmp_path, is_live_allowed=True).user is None


def test_directory_that_is_looked_into_is_not_taken(tmp_path: Path) -> None:
    fill(tmp_path)
    with lock_directory(tmp_path):
        pass
    with share_directory(tmp_path), share_directory(tmp_path), pytest.raises(DataDirectoryInUse, match="in use by"):
        repair_log(tmp_path)
    with share_directory(tmp_path) as user:
        assert user is None


def test_what_is_no_data_directory_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NoDataDirectory, match="it has no folder log"):
        repair_log(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    fill(tmp_path)
    with pytest.raises(NoDataDirectory, match=f"{tmp_path} may be meant"), share_directory(tmp_path / "log"):
        pass


def test_log_of_a_later_version_is_refused_and_stays(tmp_path: Path) -> None:
    path = fill(tmp_path)
    make_newer(path)
    content = path.read_bytes()
    with pytest.raises(LogTooNewError, match="has format 2, this version of Rookery reads up to 1"):
        repair_log(tmp_path)
    with pytest.raises(LogTooNewError):
        read_log_report(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("step", ["while it copied", "between its two names"])
def test_repair_that_was_interrupted_begins_again_or_is_finished(tmp_path: Path, step: str) -> None:
    path = fill(tmp_path)
    flip(path, path.read_bytes().index(b"message 3"))
    if step == "while it copied":
        (tmp_path / "log.repairing").mkdir()
        (tmp_path / "log.repairing" / "0000000000000001.log").write_bytes(b"half")
        assert repair_log(tmp_path).set_aside is not None
    else:
        done = repair_log(tmp_path)
        assert done.set_aside is not None
        (tmp_path / "log").rename(tmp_path / "log.repairing")
        settle_directory(tmp_path)
    assert not (tmp_path / "log.repairing").exists()
    broker = start(tmp_path)
    assert len(waiting(broker)) == COUNT - 1
    broker.close()


def test_unfinished_restore_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "log.restoring").mkdir()
    with pytest.raises(DataDirectoryError, match="a restore was not finished"):
        settle_directory(tmp_path)


def test_second_repair_in_a_second_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = set()
    for number in range(3):
        for entry in tmp_path.glob("log/*"):
            entry.unlink()
        if (tmp_path / "log").exists():
            (tmp_path / "log").rmdir()
        path = fill(tmp_path)
        flip(path, path.read_bytes().index(b"message %d" % number))
        names.add(repair_log(tmp_path).set_aside)
    assert len(names) == 3
