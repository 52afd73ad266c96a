"""Both clocks may jump between two processes: that of the world to and fro, that of the machine back to 0 at its start.

Shards count on the machine's, which nobody sets; the log keeps times of the world. What has to be right afterwards is
what both together say: how long a session, a message or a will still has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_broker import EPOCH_MS, Broker, Client
from support.packets import Will

BEGIN_MS = 1_000_000_000  # the machine has run for 11 days


class Lives:
    """One data directory, and processes on it that begin with any two clocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unix_ms = EPOCH_MS
        self._began_ms = BEGIN_MS
        self.broker = self._start()

    def _start(self) -> Broker:
        return Broker(data=self._folder, now_ms=self._began_ms, unix_ms=self._unix_ms, min_session_expiry_seconds=1)

    def kill(self, *, world_s: float, clock_ms: int | None = None) -> Broker:
        """Start again when the world's clock is so much further; clock_ms is the machine's, None: it goes on."""
        self.broker.crash()
        self._unix_ms += self.broker.now_ms - self._began_ms + round(world_s * 1000)
        self._began_ms = self.broker.now_ms if clock_ms is None else clock_ms
        self.broker = self._start()
        return self.broker


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    lives = Lives(tmp_path)
    yield lives
    lives.broker.close()


def come(broker: Broker, name: str, expiry_s: int, **fields: Any) -> Client:
    return broker.connect(name, clean_start=False, session_expiry_interval=expiry_s, **fields)


@pytest.mark.parametrize("clock_ms", [None, 5_000, 2 * BEGIN_MS], ids=["goes on", "begins anew", "jumps ahead"])
def test_sessions_have_what_is_left_whatever_the_clock_of_the_machine(lives: Lives, clock_ms: int | None) -> None:
    for expiry_s in (50, 100, 200):
        come(lives.broker, f"for {expiry_s}", expiry_s).drop()
    broker = lives.kill(world_s=70, clock_ms=clock_ms)
    broker.advance(1)
    assert [broker.session(f"for {expiry_s}") is not None for expiry_s in (50, 100, 200)] == [False, True, True]
    broker.advance(25)
    assert broker.session("for 100") is not None
    broker.advance(10)
    assert [broker.session(f"for {expiry_s}") is not None for expiry_s in (100, 200)] == [False, True]


@pytest.mark.parametrize("clock_ms", [None, 5_000, 2 * BEGIN_MS], ids=["goes on", "begins anew", "jumps ahead"])
def test_messages_and_wills_have_what_is_left_whatever_the_clock_of_the_machine(
    lives: Lives, clock_ms: int | None
) -> None:
    come(lives.broker, "reader", 1000).subscribe("#", qos=1)
    lives.broker._clients[0].drop()
    writer = lives.broker.connect("writer")
    for seconds in (50, 100):
        writer.publish(f"a/{seconds}", b"x", qos=1, message_expiry_interval=seconds)
    come(lives.broker, "gone", 1000, will=Will(topic="will", payload=b"x", qos=1, will_delay_interval=100)).drop()
    broker = lives.kill(world_s=70, clock_ms=clock_ms)
    reader = come(broker, "reader", 1000)
    assert [(message.topic, message.message_expiry_interval) for message in reader.take_messages()] == [("a/100", 30)]
    broker.advance(25)
    reader.expect_nothing()
    broker.advance(10)
    assert reader.take_message().topic == "will"


@pytest.mark.parametrize("clock_ms", [None, 5_000], ids=["goes on", "begins anew"])
def test_clock_of_the_world_that_was_set_back_ends_nothing_early(lives: Lives, clock_ms: int | None) -> None:
    """How long the process was away cannot be known then: it counts as no time at all."""
    come(lives.broker, "reader", 100).subscribe("#", qos=1)
    lives.broker._clients[0].drop()
    lives.broker.connect("writer").publish("a", b"x", qos=1, message_expiry_interval=50)
    broker = lives.kill(world_s=-3600, clock_ms=clock_ms)
    broker.advance(95)
    reader = come(broker, "reader", 100)
    assert [message.payload for message in reader.take_messages()] == [b"x"]
    reader.drop()
    broker.advance(105)
    assert broker.session("reader") is None
