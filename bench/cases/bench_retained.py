"""The retained tree with a fleet's topics of four levels, `s07/line207/d004207/temp`: 24 bytes, in random order.

Five measures per device, so that four topics of five share all but their last level.
"""

import random
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.retained_loops import RetainedFleet

SEED = 1
ROUNDS = 5
HASH_KEY = bytes(range(16))
MEASURES = ("temp", "humi", "volt", "fire", "door")
WALKED_COUNT = 100_000


def fleet(topic_count: int, measures: tuple[str, ...] = MEASURES, *, is_stored: bool = True) -> RetainedFleet:
    topics = [
        f"s{device % 50:02}/line{device % 400:03}/d{device:06}/{measure}".encode()
        for device in range(topic_count // len(measures))
        for measure in measures
    ]
    random.Random(SEED).shuffle(topics)
    retained = RetainedFleet(topics, HASH_KEY)
    if is_stored:
        retained.set_each()
    return retained


def measure(
    benchmark: BenchmarkFixture,
    subject: str,
    operation_count: int,
    measured: Callable[[RetainedFleet], object],
    setup: Callable[[], RetainedFleet],
) -> None:
    """Time measured round after round on what setup gives, and print what one operation costs."""
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
        measured, setup=lambda: ((setup(),), {}), rounds=ROUNDS
    )
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / operation_count for name in ("min", "median"))
        print(f"\n{subject}: {shortest:.0f} ns min, {median:.0f} ns median")


@pytest.mark.parametrize("topic_count", [1_000, 100_000, 1_000_000])
def test_set_new(benchmark: BenchmarkFixture, topic_count: int) -> None:
    subject = f"set a new topic, 0 to {topic_count}"
    measure(benchmark, subject, topic_count, RetainedFleet.set_each, lambda: fleet(topic_count, is_stored=False))


@pytest.mark.parametrize("topic_count", [1_000, 100_000, 1_000_000])
def test_set_again(benchmark: BenchmarkFixture, topic_count: int) -> None:
    retained = fleet(topic_count)
    measure(benchmark, f"set again, {topic_count} topics", topic_count, RetainedFleet.set_each, lambda: retained)
    assert len(retained) == topic_count


@pytest.mark.parametrize("topic_count", [1_000, 100_000, 1_000_000])
def test_get(benchmark: BenchmarkFixture, topic_count: int) -> None:
    retained = fleet(topic_count)
    assert retained.get_each() == topic_count
    measure(benchmark, f"get, {topic_count} topics", topic_count, RetainedFleet.get_each, lambda: retained)


@pytest.mark.parametrize("topic_count", [1_000, 100_000, 1_000_000])
def test_remove(benchmark: BenchmarkFixture, topic_count: int) -> None:
    assert fleet(topic_count).remove_each() == topic_count
    subject = f"remove, {topic_count} to 0 topics"
    measure(benchmark, subject, topic_count, RetainedFleet.remove_each, lambda: fleet(topic_count))


@pytest.mark.parametrize(
    ("topic_filter", "found_count"),
    [
        (b"#", WALKED_COUNT),
        (b"+/+/+/temp", WALKED_COUNT // len(MEASURES)),
        (b"+/line007/+/temp", WALKED_COUNT // len(MEASURES) // 400),
        (b"s07/line007/d000007/temp", 1),
    ],
)
def test_walk(benchmark: BenchmarkFixture, topic_filter: bytes, found_count: int) -> None:
    retained = fleet(WALKED_COUNT)
    assert retained.walk(topic_filter) == found_count
    subject = f"walk {topic_filter.decode()} over {WALKED_COUNT} topics, per message of {found_count}"
    measure(benchmark, subject, found_count, lambda retained: retained.walk(topic_filter), lambda: retained)


@pytest.mark.parametrize("measures", [MEASURES, MEASURES[:1]])
def test_no_write_stalls_and_memory_is_small(benchmark: BenchmarkFixture, measures: tuple[str, ...]) -> None:
    retained = fleet(1_000_000, measures)
    topic_bytes = retained.memory_bytes / len(retained)
    assert topic_bytes < 120
    empty = fleet(1_000_000, measures, is_stored=False)
    set_ns, remove_ns = benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
        empty.slowest_ns, rounds=1
    )
    assert len(empty) == 0
    print(
        f"\n1000000 topics, {len(measures)} per device: {topic_bytes:.0f} bytes each; "
        f"slowest set {set_ns / 1e6:.2f} ms, slowest remove {remove_ns / 1e6:.2f} ms"
    )
