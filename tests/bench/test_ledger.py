"""The books of a run against plain Python that remembers everything."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.bench.ledger import Ledger

NOTHING_WRONG = {"missing": 0, "doubled": 0, "reordered": 0, "redelivered": 0}

numbers = st.integers(0, 30)


class PlainLane:
    """One subscriber that gets a whole flow: what it has seen, in ten slow lines."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.counts: Counter[str] = Counter()

    def see(self, sequence: int, is_redelivery: bool) -> bool:
        if sequence in self.seen:
            self.counts["redelivered" if is_redelivery else "doubled"] += 1
            return False
        if any(number > sequence for number in self.seen):
            self.counts["reordered"] += 1
        self.seen.add(sequence)
        self.counts["missing"] = max(self.seen) + 1 - len(self.seen)
        return True


class PlainFlow:
    """A flow whose messages are parted among lanes."""

    def __init__(self, lane_count: int) -> None:
        self.seen: set[int] = set()
        self.highest = [-1] * lane_count
        self.counts: Counter[str] = Counter()

    def see(self, lane: int, sequence: int, is_redelivery: bool) -> bool:
        if sequence in self.seen:
            self.counts["redelivered" if is_redelivery else "doubled"] += 1
            return False
        if sequence < self.highest[lane]:
            self.counts["reordered"] += 1
        self.highest[lane] = max(self.highest[lane], sequence)
        self.seen.add(sequence)
        return True


@given(st.lists(st.tuples(numbers, st.booleans()), max_size=60))
def test_a_lane_sees_what_plain_python_sees(arrivals: list[tuple[int, bool]]) -> None:
    ledger, plain = Ledger(1), PlainLane()
    for sequence, is_redelivery in arrivals:
        assert ledger.see_next(0, sequence, is_redelivery) == plain.see(sequence, is_redelivery)
        assert ledger.counts == NOTHING_WRONG | plain.counts


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000), st.booleans()), max_size=80))
def test_a_parted_flow_sees_what_plain_python_sees(arrivals: list[tuple[int, int, bool]]) -> None:
    ledger, plain = Ledger(3), PlainFlow(3)
    for lane, sequence, is_redelivery in arrivals:
        assert ledger.see_one_of(lane, sequence, True, is_redelivery) == plain.see(lane, sequence, is_redelivery)
        assert ledger.counts == NOTHING_WRONG | plain.counts
        assert ledger.floor == next(number for number in range(len(plain.seen) + 1) if number not in plain.seen)


@given(st.integers(0, 2**32))
def test_a_parted_flow_that_comes_whole_has_nothing_wrong_when_order_does_not_count(seed: int) -> None:
    ledger = Ledger(1)
    order = Random(seed).sample(range(5000), 5000)
    assert all(ledger.see_one_of(0, sequence, False) for sequence in order)
    assert ledger.floor == len(order)
    assert ledger.counts == NOTHING_WRONG


def test_lanes_of_a_flow_that_goes_to_each_are_apart() -> None:
    ledger = Ledger(2)
    assert ledger.see_next(0, 0)
    assert ledger.see_next(1, 0)
    assert ledger.counts == NOTHING_WRONG


def test_a_lane_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match="lane 2 of 2"):
        Ledger(2).see_next(2, 0)
