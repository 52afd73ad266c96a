"""How a broker behaves as one thing grows: load, connections, subscriptions, shards; and what is left after a load.

A comparison answers at one point; these are the curves around it. Each takes a fresh process per point and is checked
like every run: a point whose messages were lost, doubled or reordered has no figures, and says why.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rookery.core.topics.cache import TopicMatcher
from rookery.core.topics.tree import TopicFilters

from . import brokers, plan
from .brokers import BrokerError
from .compare import Place, amount, number
from .load import Load
from .measure import CONNECTIONS_PER_SOURCE, Figures, Times, connection_room, measure
from .outcome import InvalidRun, LoadError
from .scenarios import SCENARIOS
from .topic_loops import Texts, add_all, match_all, match_all_cached

Tell = Callable[[str], None]

PAIRS = 100
OFFERED_RATES = (50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 4_000_000)
# A broker that delivers less than this share of what is offered is saturated: more would measure its queues.
KEPT_UP = 0.95
CONNECTION_COUNTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SUBSCRIPTION_COUNTS = (1_000, 10_000, 100_000, 1_000_000)
SHARD_COUNTS = (1, 2)
# After a load a broker may give memory back bit by bit.
SETTLE_S = 10.0
LOOKS_PER_S = 10
_HOT = 1_000
_COLD = 100_000
_ROUNDS = 3
_SEED = 7


@dataclass(frozen=True)
class LoadPoint:
    """What came of an offered rate, messages per second over 100 pairs."""

    broker: str
    offered: float
    delivered: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class MemoryPoint:
    """Resident memory that idle connections added to a broker."""

    broker: str
    connections: int
    resident_bytes: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class MatchPoint:
    """Matching in a tree of so many filters, a tenth of them with wildcards; the core alone, without a broker."""

    subscriptions: int
    # Topics in random order from all, the thousand that come again and again, and these through the cache.
    cold_ns: float
    hot_ns: float
    cached_ns: float
    bytes_each: float


@dataclass(frozen=True)
class ShardPoint:
    """The same load on so many shards, all on the same CPUs as the generator."""

    shards: int
    scenario: str
    figures: Figures | None = None
    failure: str = ""


@dataclass(frozen=True)
class Residue:
    """Resident memory of a broker before a load, during it, and at its least afterwards when all clients have left."""

    broker: str
    before_bytes: float
    loaded_bytes: float
    after_bytes: float


@dataclass(frozen=True)
class Sweeps:
    """Everything that was swept."""

    load: Sequence[LoadPoint] = ()
    memory: Sequence[MemoryPoint] = ()
    matching: Sequence[MatchPoint] = ()
    shards: Sequence[ShardPoint] = ()
    residues: Sequence[Residue] = ()


def sweep(names: Sequence[str], place: Place, times: Times, tell: Tell) -> Sweeps:
    """All curves, of the brokers where they are about brokers."""
    with brokers.on_cpus((place.load_cpu,) if place.load_cpu is not None else None):
        pinned = Sweeps(
            load=[point for name in names for point in offered_load(name, place, times, tell)],
            memory=[point for name in names for point in connection_memory(name, place, tell)],
            matching=[match_cost(count, tell) for count in SUBSCRIPTION_COUNTS],
            residues=[residue(name, place, times, tell) for name in names],
        )
    # Where there are as many threads as CPUs, nothing can be kept apart.
    return replace(pinned, shards=compare_shards(times, tell)) if "rookery" in names else pinned


def offered_load(
    name: str, place: Place, times: Times, tell: Tell, rates: Sequence[float] = OFFERED_RATES
) -> list[LoadPoint]:
    """Open loops of growing rate, until the broker no longer keeps up."""
    points = []
    for rate in rates:
        scenario = replace(SCENARIOS["latency-1M-offered"], rate=rate)
        try:
            with brokers.launch(name, place.broker_cpus) as broker:
                figures = measure(scenario, broker, times)
        except (InvalidRun, LoadError, BrokerError) as error:
            points.append(LoadPoint(name, rate, failure=str(error)))
            tell(f"{name}, {amount(rate)}/s offered: {error}")
            break
        points.append(LoadPoint(name, rate, figures.rate, figures.p50_ms, figures.p99_ms))
        tell(f"{name}, {amount(rate)}/s offered: {amount(figures.rate)}/s, p99 {number(figures.p99_ms)} ms")
        if figures.rate is not None and figures.rate < KEPT_UP * rate:
            break
    return points


def connection_memory(
    name: str, place: Place, tell: Tell, counts: Sequence[int] = CONNECTION_COUNTS
) -> list[MemoryPoint]:
    """Idle connections, up to the limit of open files."""
    room = connection_room()
    points = []
    for count in [count for count in counts if count <= room] or [room]:
        try:
            with brokers.launch(name, place.broker_cpus) as broker:
                added = _added_by_connections(broker, count)
        except (InvalidRun, LoadError, BrokerError) as error:
            points.append(MemoryPoint(name, count, failure=str(error)))
            tell(f"{name}, {count} connections: {error}")
            break
        points.append(MemoryPoint(name, count, added))
        tell(f"{name}, {count} connections: {number(added / count if added is not None else None)} B each")
    return points


def _added_by_connections(broker: brokers.Broker, count: int) -> float | None:
    traffic = plan.Traffic(keep_alive_s=60, sources=1 + count // CONNECTIONS_PER_SOURCE)
    load = Load(broker.host, broker.port, plan.idle(count, prefix="load"), traffic)
    try:
        load.connect(range(1))
        before = broker.resident_bytes()
        load.connect()
        after = broker.resident_bytes()
    finally:
        load.close()
    return after - before if after is not None and before is not None else None


def match_cost(count: int, tell: Tell) -> MatchPoint:
    """The shortest of some rounds over a tree of count filters."""
    generator = random.Random(_SEED)
    topics = [f"r{number % 20:02d}/site{number // 20 % 100:03d}/dev{number // 2000:03d}/v" for number in range(count)]
    generator.shuffle(topics)
    wild = count // 10
    levels = [topic.split("/") for topic in topics[:wild]]
    texts = [
        "/".join([*parts[:2], "#"] if place % 4 == 3 else [*parts[: place % 4], "+", *parts[place % 4 + 1 :]])
        for place, parts in enumerate(levels)
    ]
    filters = TopicFilters()
    add_all(filters, Texts(dict.fromkeys([*texts, *topics[wild:]])))
    cold, hot = Texts(generator.sample(topics, min(count, _COLD))), Texts(topics[:_HOT])
    matcher = TopicMatcher(filters)
    match_all_cached(matcher, hot)
    repeats = 50
    point = MatchPoint(
        count,
        cold_ns=_shortest_ns(lambda: match_all(filters, cold)) / len(cold),
        hot_ns=_shortest_ns(lambda: [match_all(filters, hot) for _ in range(repeats)]) / len(hot) / repeats,
        cached_ns=_shortest_ns(lambda: match_all_cached(matcher, hot, repeats)) / len(hot) / repeats,
        bytes_each=filters.memory_bytes / len(filters),
    )
    tell(
        f"{count} subscriptions: match cold {number(point.cold_ns)} ns, hot {number(point.hot_ns)} ns, cached "
        f"{number(point.cached_ns)} ns, {number(point.bytes_each)} B each"
    )
    return point


def _shortest_ns(act: Callable[[], object]) -> int:
    shortest = 0
    for _ in range(_ROUNDS):
        begin = time.perf_counter_ns()
        act()
        took = time.perf_counter_ns() - begin
        shortest = min(shortest or took, took)
    return shortest


def compare_shards(
    times: Times, tell: Tell, names: Sequence[str] = ("pairs-100-q0", "fanout-1000-q0", "trickle-20k")
) -> list[ShardPoint]:
    """N shards against one; nothing is pinned, so the generator takes its share of the same CPUs."""
    points = []
    for name in names:
        for shards in SHARD_COUNTS:
            try:
                with brokers.rookery(options=("--shards", str(shards))) as broker:
                    point = ShardPoint(shards, name, measure(SCENARIOS[name], broker, times))
            except (InvalidRun, LoadError, BrokerError) as error:
                point = ShardPoint(shards, name, failure=str(error))
            points.append(point)
            figures = point.figures
            said = f"{amount(figures.rate)}/s, {number(figures.cpu_us)} µs each" if figures else point.failure
            tell(f"{name}, {shards} shards: {said}")
    return points


def residue(name: str, place: Place, times: Times, tell: Tell) -> Residue:
    """Publish without a bound over 100 pairs, let all clients leave, and see what memory the broker keeps."""
    with brokers.launch(name, place.broker_cpus) as broker:
        load = Load(broker.host, broker.port, plan.pairs(PAIRS, prefix="load"), plan.Traffic(window=0))
        try:
            before = broker.resident_bytes()
            load.connect()
            load.subscribe()
            load.start()
            load.run(times.seconds)
            loaded = broker.resident_bytes()
            load.stop()
            load.drain(silence_s=times.silence_s, timeout_s=times.drain_s)
            load.check()
            load.disconnect()
        finally:
            load.close()
        after = broker.resident_bytes()
        if before is None or loaded is None or after is None:
            raise BrokerError(f"the memory of {name} cannot be seen")
        least = after
        for _ in range(int(SETTLE_S * LOOKS_PER_S)):
            if least <= before:
                break
            time.sleep(1 / LOOKS_PER_S)
            least = min(least, broker.resident_bytes() or least)
    found = Residue(name, before, loaded, least)
    tell(f"{name}: {amount(before)}B before a load, {amount(loaded)}B with it, {amount(least)}B afterwards")
    return found


def tables(sweeps: Sweeps) -> str:
    """The sweeps as Markdown tables; an empty sweep has none."""
    parts = []
    if sweeps.load:
        rows = [
            [p.broker, amount(p.offered), amount(p.delivered), number(p.p50_ms), number(p.p99_ms), p.failure]
            for p in sweeps.load
        ]
        parts.append(_table("Offered load, 100 pairs", "broker|offered/s|delivered/s|p50 ms|p99 ms|", rows))
    if sweeps.memory:
        rows = [
            [p.broker, str(p.connections), number(_each(p.resident_bytes, p.connections)), p.failure]
            for p in sweeps.memory
        ]
        parts.append(_table("Idle connections", "broker|connections|B each|", rows))
    if sweeps.matching:
        rows = [
            [str(p.subscriptions), *map(number, (p.cold_ns, p.hot_ns, p.cached_ns, p.bytes_each))]
            for p in sweeps.matching
        ]
        parts.append(_table("Matching, a tenth with wildcards", "subscriptions|cold ns|hot ns|cached ns|B each", rows))
    if sweeps.shards:
        rows = [
            [
                p.scenario,
                str(p.shards),
                amount(p.figures.rate if p.figures else None),
                number(p.figures.cpu_us if p.figures else None),
                number(p.figures.p99_ms if p.figures else None),
                p.failure,
            ]
            for p in sweeps.shards
        ]
        parts.append(_table("Shards on the same CPUs", "case|shards|messages/s|CPU µs|p99 ms|", rows))
    if sweeps.residues:
        rows = [
            [p.broker, *(f"{number(value / 2**20)}" for value in (p.before_bytes, p.loaded_bytes, p.after_bytes))]
            for p in sweeps.residues
        ]
        parts.append(_table("Resident memory around a load, MiB", "broker|before|with it|after", rows))
    return "\n\n".join(parts)


def _each(total: float | None, count: int) -> float | None:
    return total / count if total is not None else None


def _table(title: str, columns: str, rows: Sequence[Sequence[str]]) -> str:
    heads = columns.split("|")
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
