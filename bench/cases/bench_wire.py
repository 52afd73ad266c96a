"""The codec alone: a PUBLISH with a topic of 23 bytes and a payload of 64, decoded and encoded as a shard does it.

64 packets with 64 topics in one stream, in cache; decoding includes the fixed header, encoding includes sizing.
"""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.cases_wire import check_utf8, decode_publishes, encode_publishes
from rookery.core.wire.codec import decode_packet, encode_packet
from rookery.core.wire.packets import Publish
from rookery.core.wire.spec import QoS

TOPICS = [f"site/{index % 7}/device/{index:04d}/temp" for index in range(64)]
PAYLOAD = bytes(range(64))
REPEATS = 20_000
ROUNDS = 9
PUBLISHES = pytest.mark.parametrize(
    ("version", "qos"), [(4, QoS.AT_MOST_ONCE), (4, QoS.AT_LEAST_ONCE), (5, QoS.AT_MOST_ONCE), (5, QoS.AT_LEAST_ONCE)]
)


def measure(benchmark: BenchmarkFixture, subject: str, operation: Callable[[int], object]) -> None:
    """Time operation, which does its work on all topics as often as it is told, and print what one topic costs."""
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
        operation, args=(REPEATS,), rounds=ROUNDS
    )
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / REPEATS / len(TOPICS) for name in ("min", "median"))
        print(f"\n{subject}: {shortest:.1f} ns min, {median:.1f} ns median")


def publish(topic: str, index: int, qos: QoS) -> Publish:
    return Publish(topic=topic, payload=PAYLOAD, qos=qos, packet_id=index + 1 if qos else 0)


@PUBLISHES
def test_decode_publish(benchmark: BenchmarkFixture, version: int, qos: QoS) -> None:
    stream = b"".join(encode_packet(publish(topic, index, qos), version) for index, topic in enumerate(TOPICS))
    assert decode_publishes(stream, version, 3) == 3 * len(TOPICS)
    measure(benchmark, f"decode PUBLISH, version {version}, QoS {qos}", lambda n: decode_publishes(stream, version, n))


@PUBLISHES
def test_encode_publish(benchmark: BenchmarkFixture, version: int, qos: QoS) -> None:
    topics = [topic.encode() for topic in TOPICS]
    last = encode_publishes(topics, PAYLOAD, qos, version, 1)
    assert decode_packet(last, version) == (publish(TOPICS[-1], len(TOPICS) - 1, qos), len(last))
    subject = f"encode PUBLISH, version {version}, QoS {qos}"
    measure(benchmark, subject, lambda n: encode_publishes(topics, PAYLOAD, qos, version, n))


def test_decode_publish_with_properties(benchmark: BenchmarkFixture) -> None:
    stream = b"".join(
        encode_packet(
            Publish(
                topic=topic,
                payload=PAYLOAD,
                message_expiry_interval=60,
                content_type="text/plain",
                user_properties=(("trace", "0123456789"),),
            ),
            5,
        )
        for topic in TOPICS
    )
    assert decode_publishes(stream, 5, 1) == len(TOPICS)
    measure(benchmark, "decode PUBLISH with three properties", lambda n: decode_publishes(stream, 5, n))


@pytest.mark.parametrize(
    ("kind", "strings"),
    [
        ("ASCII, 23 bytes", [topic.encode() for topic in TOPICS]),
        ("CJK, 24 bytes", ["温度計測装置一号".encode()] * len(TOPICS)),
    ],
)
def test_check_utf8(benchmark: BenchmarkFixture, kind: str, strings: list[bytes]) -> None:
    assert check_utf8([*strings, b"\xff"], 1) == len(strings)
    measure(benchmark, f"is_utf8, {kind}", lambda n: check_utf8(strings, n))
