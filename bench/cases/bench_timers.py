"""The timing wheel with a million keep-alive timers due in 60 to 119 s, each in a cache line of its own."""

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.timer_loops import Connections

TIMER_COUNT = 1_000_000
SEED = 1
ROUNDS = 5
HOUR_MS = 3_600_000
WAIT_COUNT = 10_000_000


def armed() -> Connections:
    connections = Connections(TIMER_COUNT, SEED)
    connections.arm_rest()
    return connections


def measure(
    benchmark: BenchmarkFixture,
    subject: str,
    operation_count: int,
    measured: Callable[[Connections], object],
    *,
    rounds: int = ROUNDS,
) -> None:
    """Time measured on fresh connections, round after round, and print what one operation costs."""
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the fixture's one method without types
        measured, setup=lambda: ((armed(),), {}), rounds=rounds
    )
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / operation_count for name in ("min", "median"))
        print(f"\n{subject}: {shortest:.1f} ns min, {median:.1f} ns median")


def test_arm_again(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, "arm again, in random order", TIMER_COUNT, Connections.arm_each)


def test_cancel(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, "cancel, in random order", TIMER_COUNT, Connections.cancel_each)


def test_expire(benchmark: BenchmarkFixture) -> None:
    assert armed().expire_each() == TIMER_COUNT
    measure(benchmark, "move down and expire", TIMER_COUNT, Connections.expire_each)


def test_wait(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, "wheel_wait_ms", WAIT_COUNT, lambda connections: connections.ask_wait(WAIT_COUNT))


def test_pass_an_hour(benchmark: BenchmarkFixture) -> None:
    fired, wakes = armed().pass_time(HOUR_MS)
    assert TIMER_COUNT * HOUR_MS // 119_000 <= fired <= TIMER_COUNT * HOUR_MS // 60_000
    subject = f"an hour of {fired} keep-alive checks in {wakes} wake-ups, per check"
    measure(benchmark, subject, fired, lambda connections: connections.pass_time(HOUR_MS), rounds=2)
    if benchmark.stats is not None:
        print(f"share of a core: {benchmark.stats['min'] * 1000 / HOUR_MS:.3%}")
