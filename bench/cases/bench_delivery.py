"""What it costs to take a PUBLISH and to hand it out: one shard, connections without sockets, no threads.

Each round feeds 1000 messages of 64 bytes in one piece, turns the shard and collects what it wrote. Decoding, matching,
delivery and encoding are in the figure; so is the copying in and out of the connections, a few nanoseconds each.

    pytest --benchmark-enable -s bench/cases/bench_delivery.py
"""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.core.engine import Engine
from rookery.core.events import ConnectRequested, Reply, SessionInfo
from rookery.core.settings import TenantSettings

MESSAGES = 1000
PAYLOAD = bytes(64)
TOPIC = b"bench/delivery/topic"


def packet(first: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([first, size]) + body if size < 128 else bytes([first, size & 127 | 128, size >> 7]) + body


def text(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def publishes(qos: int) -> bytes:
    return b"".join(
        packet(0x30 | qos << 1, text(TOPIC) + (number + 1).to_bytes(2) * (qos > 0) + PAYLOAD)
        for number in range(MESSAGES)
    )


class Bench:
    """An engine of one shard and its connections."""

    def __init__(self, settings: TenantSettings | None = None) -> None:
        self.engine = Engine(default_settings=settings)
        self.now_ms = 1000

    def turn(self) -> None:
        self.engine.turn(0, self.now_ms)
        for event in self.engine.take_events(0):
            if isinstance(event, ConnectRequested):
                self.engine.admit(event.connection, tenant_id="bench", user_id="bench")

    def connect(
        self, client_id: str, *, topic_filter: bytes | None = None, qos: int = 0, version: int = 4, clean: bool = True
    ) -> int:
        none = b"\x00" * (version == 5)  # no properties
        link = self.engine.connect_memory(0)
        self.engine.feed(
            link, packet(0x10, text(b"MQTT") + bytes((version, 2 * clean, 0, 0)) + none + text(client_id.encode()))
        )
        if topic_filter is not None:
            self.engine.feed(link, packet(0x82, b"\x00\x01" + none + text(topic_filter) + bytes([qos])))
        for _ in range(4):
            self.turn()
        assert self.engine.collect(link)[0] == 0x20
        return link


def run(benchmark: BenchmarkFixture, act: Callable[[], int], expected: int) -> None:
    """Check the result, then time it; prints nanoseconds per message."""
    assert act() == expected
    benchmark.pedantic(act, rounds=30, warmup_rounds=3)  # type: ignore[no-untyped-call]  # as in the other cases
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / MESSAGES for name in ("min", "median"))
        print(f"\n{shortest:.1f} ns min, {median:.1f} ns median per message published")


@pytest.mark.parametrize("subscribers", [1, 100])
def test_qos_0_to_subscribers(benchmark: BenchmarkFixture, subscribers: int) -> None:
    bench = Bench()
    readers = [bench.connect(f"reader {number}", topic_filter=TOPIC) for number in range(subscribers)]
    writer = bench.connect("writer")
    data = publishes(0)

    def act() -> int:
        bench.engine.feed(writer, data)
        # 16 KiB are read per turn.
        for _ in range(len(data) // 16384 + 2):
            bench.turn()
        return sum(len(bench.engine.collect(reader)) for reader in readers)

    run(benchmark, act, len(data) * subscribers)
    bench.engine.close()


# Content type, response topic, correlation data and a user property: 44 bytes.
PROPERTIES = (
    b"\x03" + text(b"application/json") + b"\x08" + text(b"reply/7") + b"\x09" + text(b"\x00\x01") + b"\x26"
    + text(b"k") + text(b"v")
)  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "payload"),
    [(b"", PAYLOAD), (PROPERTIES, PAYLOAD), (b"", PAYLOAD + bytes(len(PROPERTIES)))],
    ids=["no properties", "properties", "as many bytes of payload"],
)
def test_qos_0_from_5_0_to_5_0(benchmark: BenchmarkFixture, properties: bytes, payload: bytes) -> None:
    bench = Bench()
    reader = bench.connect("reader", topic_filter=TOPIC, version=5)
    writer = bench.connect("writer", version=5)
    data = packet(0x30, text(TOPIC) + bytes([len(properties)]) + properties + payload) * MESSAGES

    def act() -> int:
        bench.engine.feed(writer, data)
        for _ in range(len(data) // 16384 + 2):
            bench.turn()
        return len(bench.engine.collect(reader))

    run(benchmark, act, len(data))
    bench.engine.close()


def test_qos_1_without_subscriber(benchmark: BenchmarkFixture) -> None:
    bench = Bench()
    writer = bench.connect("writer")
    data = publishes(1)

    def act() -> int:
        bench.engine.feed(writer, data)
        for _ in range(len(data) // 16384 + 2):
            bench.turn()
        return len(bench.engine.collect(writer))

    run(benchmark, act, MESSAGES * 4)  # One PUBACK each.
    bench.engine.close()


@pytest.mark.parametrize("max_resend_times", [0, 3])
def test_qos_1_to_a_subscriber_that_acknowledges(benchmark: BenchmarkFixture, max_resend_times: int) -> None:
    """Most of the figure is this case's own making of acknowledgements: compare the two with each other.

    With resending a session that ends with its connection keeps what it sent, which costs; watching it does not.
    """
    bench = Bench(TenantSettings(max_resend_times=max_resend_times))
    reader = bench.connect("reader", topic_filter=TOPIC, qos=1)
    writer = bench.connect("writer")
    data = publishes(1)
    size = len(data) // MESSAGES

    def act() -> int:
        bench.engine.feed(writer, data)
        for _ in range(len(data) // 16384 + 2):
            bench.turn()
        sent = bench.engine.collect(reader)
        packet_ids = (sent[at : at + 2] for at in range(size - len(PAYLOAD) - 2, len(sent), size))
        bench.engine.feed(reader, b"".join(b"\x40\x02" + packet_id for packet_id in packet_ids))
        bench.turn()
        bench.engine.collect(writer)
        return len(sent)

    run(benchmark, act, len(data))
    bench.engine.find_session(1, tenant_id="bench", user_id="bench", client_id="reader")
    bench.engine.turn(0, bench.now_ms)
    (reply,) = bench.engine.take_events(0)
    assert isinstance(reply, Reply)
    assert isinstance(reply.value, SessionInfo)
    assert reply.value.inflight_count == 0
    bench.engine.close()


def test_qos_1_into_the_inbox_of_an_absent_session(benchmark: BenchmarkFixture) -> None:
    """What waits is thrown away between the rounds, by a clean session of the same client."""
    bench = Bench(TenantSettings(session_inbox_size=MESSAGES))
    writer = bench.connect("writer")
    data = publishes(1)

    def leave() -> None:
        for clean in (True, False):
            reader = bench.connect("reader", topic_filter=None if clean else TOPIC, qos=1, clean=clean)
            bench.engine.hang_up(reader)
            bench.turn()
            bench.turn()

    def act() -> None:
        bench.engine.feed(writer, data)
        for _ in range(len(data) // 16384 + 2):
            bench.turn()
        bench.engine.collect(writer)

    leave()
    act()
    link = bench.engine.connect_memory(0)
    bench.engine.feed(link, packet(0x10, text(b"MQTT") + b"\x04\x00\x00\x00" + text(b"reader")))
    for _ in range(8):
        bench.turn()
    assert len(bench.engine.collect(link)) == 4 + len(data)  # CONNACK, and all that waited.
    bench.engine.hang_up(link)
    benchmark.pedantic(act, setup=leave, rounds=30)  # type: ignore[no-untyped-call]  # as in the other cases
    if benchmark.stats is not None:
        shortest, median = (benchmark.stats[name] * 1e9 / MESSAGES for name in ("min", "median"))
        print(f"\n{shortest:.1f} ns min, {median:.1f} ns median per message that waits")
    bench.engine.close()
