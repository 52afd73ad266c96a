"""Packet identifiers in flight: taken as a fan-out sends, given back as acknowledgements come.

    pytest --benchmark-enable -s bench/cases/bench_inflight.py

With one session everything lies in the nearest cache. With a thousand each message meets another session, so that most
of the figure is waiting for memory: that is what a fan-out at QoS 1 pays.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rookery.bench.inflight_loops import Windows

WINDOW = 20
ROUNDS = 30
# As many messages in one round, whatever the number of sessions.
MESSAGES = 1000 * WINDOW


@pytest.mark.parametrize("sessions", [1, 1000])
@pytest.mark.parametrize(
    ("qos", "is_backwards"), [(1, False), (1, True), (2, False)], ids=["QoS 1", "QoS 1 backwards", "QoS 2"]
)
def test_send_and_acknowledge(benchmark: BenchmarkFixture, sessions: int, qos: int, is_backwards: bool) -> None:
    windows = Windows(sessions, WINDOW)
    turns = MESSAGES // (sessions * WINDOW)

    def act() -> int:
        found = 0
        for _ in range(turns):
            windows.fill(qos)
            found += windows.acknowledge(qos, is_backwards)
        return found

    assert windows.fill(qos) == sessions * WINDOW
    assert windows.acknowledge(qos, is_backwards) == sessions * WINDOW
    assert windows.acknowledge(qos, is_backwards) == 0
    assert act() == MESSAGES
    benchmark.pedantic(act, rounds=ROUNDS, warmup_rounds=3)  # type: ignore[no-untyped-call]  # as in the other cases
    if benchmark.stats is not None:  # None: measuring is switched off.
        shortest, median = (benchmark.stats[name] * 1e9 / MESSAGES for name in ("min", "median"))
        print(f"\n{shortest:.1f} ns min, {median:.1f} ns median per message sent and acknowledged")
