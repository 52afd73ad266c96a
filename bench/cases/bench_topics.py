"""A million topic filters of one tenant: topics of 25 bytes in four levels, `r07/site042/dev31/value37`.

Filters are drawn from ten million such topics. A share of them has one level replaced by `+`, or its tail by `#`, each
of the five in equal parts; so on its way down a topic meets wildcards on every level. "Cold" topics are those of random
filters out of the million, "hot" ones the first thousand of them, again and again.
"""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.topic_loops import (
    Texts,
    add_all,
    check_all,
    hash_all,
    match_all,
    match_all_cached,
    remove_all,
    stamp_all,
)
from rookery.core.topics.cache import TopicMatcher
from rookery.core.topics.tree import TopicFilters

FILTER_COUNT = 1_000_000
COLD_COUNT = 200_000
HOT_COUNT = 1000
HOT_REPEATS = 100
TENANT_COUNT = 10_000
SEED = 7
ROUNDS = 5
BYTES_PER_FILTER_MAXIMUM = 110
BYTES_PER_TENANT_MAXIMUM = 4096
WILDCARDS = pytest.mark.parametrize("wildcard_percent", [0, 10, 50])


def random_topic(generator: random.Random) -> list[str]:
    region, site, device, value = (generator.randrange(limit) for limit in (20, 100, 50, 100))
    return [f"r{region:02d}", f"site{site:03d}", f"dev{device:02d}", f"value{value:02d}"]


def with_wildcard(levels: list[str], generator: random.Random) -> list[str]:
    place = generator.randrange(5)
    if place == 4:
        return [*levels[: generator.randint(1, 3)], "#"]
    return [*levels[:place], "+", *levels[place + 1 :]]


class Workload:
    """Filters and topics, packed for the loops, and a tree that holds all of the filters."""

    def __init__(self, wildcard_percent: int) -> None:
        generator = random.Random(SEED)
        exact: set[str] = set()
        while len(exact) < FILTER_COUNT * (100 - wildcard_percent) // 100:
            exact.add("/".join(random_topic(generator)))
        topics = sorted(exact)
        wild: set[str] = set()
        while len(exact) + len(wild) < FILTER_COUNT:
            wild.add("/".join(with_wildcard(random_topic(generator), generator)))
        filters = topics + sorted(wild)
        generator.shuffle(topics)
        generator.shuffle(filters)
        self.texts = Texts(filters)
        self.cold = Texts(topics[:COLD_COUNT])
        self.hot = Texts(topics[:HOT_COUNT])
        self.filters = TopicFilters()
        self.ids = add_all(self.filters, self.texts)
        sample = topics[:3]
        for topic in sample:
            levels = topic.split("/")
            candidates = {topic, *("/".join([*levels[:end], "#"]) for end in (1, 2, 3))}
            candidates |= {"/".join([*levels[:place], "+", *levels[place + 1 :]]) for place in range(4)}
            assert sorted(self.filters.match(topic)) == sorted(candidates & (exact | wild))


@cache
def workload(wildcard_percent: int) -> Workload:
    return Workload(wildcard_percent)


def measure(
    benchmark: BenchmarkFixture,
    subject: str,
    operation_count: int,
    measured: Callable[[], object],
    *,
    setup: Callable[[], None] | None = None,
    rounds: int = ROUNDS,
) -> None:
    """Time measured, round after round, and print what one operation costs."""
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
        measured, setup=setup, rounds=rounds
    )
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / operation_count for name in ("min", "median"))
        print(f"\n{subject}: {shortest:.1f} ns min, {median:.1f} ns median")


@WILDCARDS
def test_match_cold(benchmark: BenchmarkFixture, wildcard_percent: int) -> None:
    load = workload(wildcard_percent)
    matches = match_all(load.filters, load.cold) / COLD_COUNT
    subject = f"match, cold, {wildcard_percent} % wildcards, {matches:.1f} filters match"
    measure(benchmark, subject, COLD_COUNT, lambda: match_all(load.filters, load.cold))


@WILDCARDS
def test_match_hot(benchmark: BenchmarkFixture, wildcard_percent: int) -> None:
    load = workload(wildcard_percent)
    subject = f"match, hot, without the cache, {wildcard_percent} % wildcards"
    measure(
        benchmark,
        subject,
        HOT_COUNT * HOT_REPEATS,
        lambda: [match_all(load.filters, load.hot) for _ in range(HOT_REPEATS)],
    )


@WILDCARDS
def test_match_through_the_cache(benchmark: BenchmarkFixture, wildcard_percent: int) -> None:
    load = workload(wildcard_percent)
    matcher = TopicMatcher(load.filters)
    assert match_all_cached(matcher, load.hot) == match_all(load.filters, load.hot)
    subject = f"match, hot, through the cache, {wildcard_percent} % wildcards"
    measure(
        benchmark,
        subject,
        HOT_COUNT * HOT_REPEATS,
        lambda: match_all_cached(matcher, load.hot, HOT_REPEATS),
    )
    assert matcher.statistics()["misses"] == HOT_COUNT


def test_match_that_the_cache_misses(benchmark: BenchmarkFixture) -> None:
    load = workload(10)
    matcher = TopicMatcher(load.filters)
    subject = f"match, cold, through a cache of 65536 topics, {COLD_COUNT} come in turn"
    measure(benchmark, subject, COLD_COUNT, lambda: match_all_cached(matcher, load.cold))
    assert matcher.statistics()["hits"] == 0


def test_generation_stamp(benchmark: BenchmarkFixture) -> None:
    load = workload(10)
    count = HOT_COUNT * HOT_REPEATS
    measure(benchmark, "generation stamp", count, lambda: stamp_all(load.filters, load.hot, HOT_REPEATS))


def test_check_topic(benchmark: BenchmarkFixture) -> None:
    load = workload(10)
    assert check_all(load.hot) == HOT_COUNT
    measure(benchmark, "check_topic", HOT_COUNT * HOT_REPEATS, lambda: check_all(load.hot, HOT_REPEATS))


@pytest.mark.parametrize("size", [0, 7, 25, 100])
def test_hash(benchmark: BenchmarkFixture, size: int) -> None:
    texts = Texts([f"{number:04d}".rjust(size, "x")[:size] for number in range(HOT_COUNT)])
    measure(benchmark, f"hash {size} bytes", HOT_COUNT * HOT_REPEATS, lambda: hash_all(texts, HOT_REPEATS))


@WILDCARDS
def test_add(benchmark: BenchmarkFixture, wildcard_percent: int) -> None:
    load = workload(wildcard_percent)
    trees: list[TopicFilters] = []

    def renew() -> None:
        trees[:] = [TopicFilters()]

    measure(
        benchmark,
        f"add, {wildcard_percent} % wildcards",
        FILTER_COUNT,
        lambda: add_all(trees[0], load.texts),
        setup=renew,
        rounds=3,
    )
    assert len(trees[0]) == FILTER_COUNT
    bytes_per_filter = trees[0].memory_bytes / FILTER_COUNT
    print(f"memory, {wildcard_percent} % wildcards: {bytes_per_filter:.1f} bytes per filter")
    assert bytes_per_filter < BYTES_PER_FILTER_MAXIMUM


def test_remove(benchmark: BenchmarkFixture) -> None:
    load = workload(10)
    prepared: list[tuple[TopicFilters, list[int]]] = []

    def fill() -> None:
        filters = TopicFilters()
        prepared[:] = [(filters, add_all(filters, load.texts))]

    measure(benchmark, "remove, in random order", FILTER_COUNT, lambda: remove_all(*prepared[0]), setup=fill, rounds=3)
    assert len(prepared[0][0]) == 0
    print(f"memory afterwards: {prepared[0][0].memory_bytes} bytes in all")


def test_memory_of_filters_whose_last_level_is_unique() -> None:
    filters = TopicFilters()
    add_all(filters, Texts(f"devices/{number:012x}" for number in range(FILTER_COUNT)))
    bytes_per_filter = filters.memory_bytes / FILTER_COUNT
    print(f"\nmemory, devices/<12 digits>: {bytes_per_filter:.1f} bytes per filter")
    assert bytes_per_filter < BYTES_PER_FILTER_MAXIMUM


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_of_small_tenants() -> None:
    texts = Texts(f"devices/sensor-{number}/commands" for number in range(20))
    before = resident_bytes()
    tenants = [TopicFilters() for _ in range(TENANT_COUNT)]
    for tenant in tenants:
        add_all(tenant, texts)
    counted = sum(tenant.memory_bytes for tenant in tenants) / TENANT_COUNT
    resident = (resident_bytes() - before) / TENANT_COUNT
    print(f"\nmemory of a tenant with 20 filters: {counted:.0f} bytes counted, {resident:.0f} resident")
    assert counted < BYTES_PER_TENANT_MAXIMUM
