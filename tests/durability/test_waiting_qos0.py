"""Messages of QoS 0 that wait for a persistent session, where they are to survive: in their order, and at most once."""

from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import Broker, Client

KEPT = {"clean_start": False, "session_expiry_interval": 1000}


class Life:
    """A broker that is killed and started again on the same data."""

    def __init__(self, folder: Path, **words: Any) -> None:
        self._folder = folder
        self._words = words
        self.broker = Broker(data=folder, writes_qos0=True, **words)

    def kill(self, *, writes_qos0: bool = True) -> Broker:
        self.broker.crash()
        self.broker = Broker(data=self._folder, writes_qos0=writes_qos0, now_ms=self.broker.now_ms, **self._words)
        return self.broker


@pytest.fixture
def make_life(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    lives: list[Life] = []

    def make(**words: Any) -> Life:
        lives.append(Life(tmp_path, **words))
        return lives[-1]

    yield make
    for life in lives:
        life.broker.close()


def leave(broker: Broker, *topic_filters: str, qos: int = 2) -> None:
    """A reader subscribes and goes."""
    reader = broker.connect("reader", **KEPT)
    reader.subscribe(*topic_filters, qos=qos)
    reader.disconnect()


def payloads(client: Client) -> list[bytes]:
    return [message.payload for message in client.take_messages()]


def write(broker: Broker, *messages: tuple[bytes, int], **fields: Any) -> None:
    writer = broker.connect("writer")
    for payload, qos in messages:
        assert writer.publish("a", payload, qos=qos, **fields) < 0x80
    broker.settle()


MIXED = ((b"0", 0), (b"1", 1), (b"2", 0), (b"3", 2), (b"4", 0))


def test_they_survive_in_order_among_the_others(make_life: Any) -> None:
    life = make_life()
    leave(life.broker, "a")
    write(life.broker, *MIXED)
    life.kill()
    reader = life.kill().connect("reader", **KEPT)
    assert payloads(reader) == [b"0", b"1", b"2", b"3", b"4"]


def test_without_the_setting_those_of_qos_1_and_2_survive(make_life: Any) -> None:
    life = make_life()
    life.kill(writes_qos0=False)
    leave(life.broker, "a")
    write(life.broker, *MIXED)
    reader = life.kill(writes_qos0=False).connect("reader", **KEPT)
    assert payloads(reader) == [b"1", b"3"]


def test_none_is_sent_again_after_a_kill(make_life: Any) -> None:
    life = make_life()
    leave(life.broker, "a")
    write(life.broker, (b"0", 0), (b"1", 0))
    assert payloads(life.broker.connect("reader", **KEPT)) == [b"0", b"1"]
    reader = life.kill().connect("reader", **KEPT)
    assert payloads(reader) == []


def test_those_from_before_are_sent_once_when_the_setting_is_gone(make_life: Any) -> None:
    life = make_life()
    leave(life.broker, "a")
    write(life.broker, *MIXED)
    life.kill(writes_qos0=False)
    write(life.broker, (b"lost", 0), (b"5", 1))
    life.kill(writes_qos0=False)
    reader = life.broker.connect("reader", **KEPT)
    assert payloads(reader) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    reader = life.kill(writes_qos0=False).connect("reader", **KEPT)
    assert payloads(reader) == []


def test_full_inbox_drops_the_oldest_of_them_and_no_other(make_life: Any) -> None:
    life = make_life(session_inbox_size=3, qos0_drop_oldest=True)
    leave(life.broker, "a")
    write(life.broker, (b"q", 1), (b"0", 0), (b"r", 1), (b"1", 0), (b"2", 0), (b"3", 0), (b"s", 2), (b"4", 0))
    reader = life.kill().connect("reader", **KEPT)
    assert payloads(reader) == [b"q", b"r", b"2", b"3", b"s", b"4"]


def test_expired_one_is_gone_and_the_others_are_not(make_life: Any) -> None:
    life = make_life()
    leave(life.broker, "a")
    write(life.broker, (b"short", 0), message_expiry_interval=5)
    write(life.broker, (b"long", 0), (b"q", 1))
    life.broker.advance(10)
    assert payloads(life.broker.connect("reader", **KEPT)) == [b"long", b"q"]
    assert payloads(life.kill().connect("reader", **KEPT)) == []


def test_they_survive_a_checkpoint(make_life: Any) -> None:
    life = make_life(segment_size=4096)
    leave(life.broker, "a")
    write(life.broker, *MIXED)
    before = life.broker.log.state().segments
    other = life.broker.connect("other", **KEPT)
    other.subscribe("b", qos=1)
    other.disconnect()
    writer = life.broker.connect("writer")
    for _ in range(100):
        writer.publish("b", bytes(1000), qos=1)
    other = life.broker.connect("other", **KEPT)
    other.take_messages()
    for _ in range(50):
        writer.publish("b", bytes(1000), qos=1)
        other.take_messages()
    assert life.broker.log.state().segments < before + 30
    reader = life.kill().connect("reader", **KEPT)
    assert payloads(reader) == [b"0", b"1", b"2", b"3", b"4"]


def test_transient_session_is_not_written(make_life: Any) -> None:
    life = make_life()
    reader = life.broker.connect("reader")
    reader.subscribe("a")
    before = life.broker.log.state().position
    write(life.broker, (b"0", 0))
    assert life.broker.log.state().position == before
