"""Nothing is released while a shard may still look at it; everything is, in order, once none can."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rookery.core.structures.reclaim import ReclaimOrder

SHARD_COUNT = 3
shards = st.integers(0, SHARD_COUNT - 1)


class ReclaimMachine(RuleBasedStateMachine):
    """The twin keeps for everything that was handed over the shards that have yet to end their turn."""

    @initialize()
    def start(self) -> None:
        self.domain = ReclaimOrder(SHARD_COUNT)
        self.online: set[int] = set()
        self.holders: list[set[int]] = []
        self.released_count = 0

    def pass_quiescent_point(self, shard: int) -> None:
        for holders in self.holders:
            holders.discard(shard)
        while self.released_count < len(self.holders) and not self.holders[self.released_count]:
            self.released_count += 1

    @rule(count=st.integers(1, 300))
    def hand_over(self, count: int) -> None:
        for _ in range(count):
            self.domain.later(len(self.holders))
            self.holders.append(set(self.online))

    @rule(shard=shards)
    def go_online(self, shard: int) -> None:
        if shard not in self.online:
            self.domain.online(shard)
            self.online.add(shard)

    @rule(shard=shards)
    def end_turn(self, shard: int) -> None:
        if shard in self.online:
            self.domain.quiescent(shard)
            self.pass_quiescent_point(shard)

    @rule(shard=shards)
    def go_offline(self, shard: int) -> None:
        self.domain.offline(shard)
        self.online.discard(shard)
        self.pass_quiescent_point(shard)

    @invariant()
    def releases_are_those_of_the_twin(self) -> None:
        assert self.domain.released == list(range(self.released_count))
        assert self.domain.waiting_count == len(self.holders) - self.released_count


ReclaimMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestReclaimOrder = ReclaimMachine.TestCase


def test_shard_that_comes_online_later_holds_nothing_back() -> None:
    domain = ReclaimOrder(2)
    domain.online(0)
    domain.later(7)
    domain.online(1)
    domain.quiescent(0)
    assert domain.released == [7]


def test_shard_in_its_turn_holds_back_what_others_have_left() -> None:
    domain = ReclaimOrder(2)
    domain.online(0)
    domain.online(1)
    domain.later(7)
    domain.quiescent(0)
    domain.quiescent(0)
    assert domain.released == []
    domain.offline(1)
    assert domain.released == [7]


@pytest.mark.parametrize("remainder", [-1, 0, 1, 65535, 65536, 65537])
def test_large_pages_are_freed_a_mebibyte_per_turn(remainder: int) -> None:
    domain = ReclaimOrder(1)
    domain.online(0)
    domain.later_pages(4 * 2**20 + remainder)
    turn_count = 0
    while domain.waiting_count:
        domain.quiescent(0)
        turn_count += 1
    assert turn_count == 4 + (remainder >= 65536)


def test_end_of_the_domain_releases_what_waits() -> None:
    domain = ReclaimOrder(1)
    domain.online(0)
    for number in range(1000):
        domain.later(number)
    released = domain.released
    assert released == []
    del domain
    assert released == list(range(1000))
