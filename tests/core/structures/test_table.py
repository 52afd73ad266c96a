"""The table is a multimap, moves a bounded number of entries per write, and gives its memory back."""

import random
from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rookery.core.structures.table import NumberTable

MOVED_MAXIMUM = 8
CAPACITY_MINIMUM = 16

# Few hashes, so that they collide whole, and in the bits that small tables look at.
hashes = st.one_of(st.integers(0, 20), st.integers(0, 3).map(lambda high: high << 28), st.integers(0, 2**32 - 1))
numbers = st.integers(1, 2**32 - 1)


class TableMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.table = NumberTable()
        self.twin: dict[int, set[int]] = defaultdict(set)

    @rule(hash_=hashes, numbers=st.sets(numbers, max_size=20))
    def add(self, hash_: int, numbers: set[int]) -> None:
        for number in numbers - self.twin[hash_]:
            self.table.add(hash_, number)
            self.twin[hash_].add(number)
            assert self.table.moved_last <= MOVED_MAXIMUM

    @rule(data=st.data(), count=st.integers(1, 30))
    def remove(self, data: st.DataObject, count: int) -> None:
        entries = [(hash_, number) for hash_, found in self.twin.items() for number in found]
        if entries:
            for hash_, number in data.draw(st.lists(st.sampled_from(entries), max_size=count, unique=True)):
                self.table.remove(hash_, number)
                self.twin[hash_].remove(number)
                assert self.table.moved_last <= MOVED_MAXIMUM

    @invariant()
    def finds_what_the_twin_has(self) -> None:
        assert len(self.table) == sum(map(len, self.twin.values()))
        for hash_, found in self.twin.items():
            assert self.table.find(hash_) == found
        assert self.table.find(0x0BAD_BAD0) == self.twin.get(0x0BAD_BAD0, set())


TableMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTable = TableMachine.TestCase


def test_no_write_moves_more_than_a_few_entries_while_the_table_grows_and_shrinks() -> None:
    table = NumberTable()
    entries = [(hash_ * 0x9E3779B1 & 0xFFFFFFFF, hash_) for hash_ in range(1, 50_001)]
    moves = []
    for entry in entries:
        table.add(*entry)
        moves.append(table.moved_last)
    assert table.capacity >= 65_536
    for entry in entries:
        table.remove(*entry)
        moves.append(table.moved_last)
    assert max(moves) == MOVED_MAXIMUM
    assert table.capacity <= CAPACITY_MINIMUM
    assert table.memory_bytes <= 8 * CAPACITY_MINIMUM + 64


def test_lookups_are_right_at_every_step_of_a_move() -> None:
    table = NumberTable()
    generator = random.Random(5)
    present: dict[int, int] = {}
    moving_count = 0
    for step in range(1, 3000):
        hash_ = generator.getrandbits(32)
        table.add(hash_, step)
        present[hash_] = step
        if step % 3 == 0:
            gone = generator.choice(list(present))
            table.remove(gone, present.pop(gone))
            assert table.find(gone) == set()
        moving_count += table.is_moving
        for known in generator.sample(sorted(present), min(20, len(present))):
            assert table.find(known) == {present[known]}
    assert moving_count > 100


def test_capacity_stays_while_entries_come_and_go() -> None:
    table = NumberTable()
    for step in range(1, 1001):
        table.add(step * 0x9E3779B1 & 0xFFFFFFFF, step)
    for step in range(1, 20_001):
        table.remove(step * 0x9E3779B1 & 0xFFFFFFFF, step)
        table.add((step + 1000) * 0x9E3779B1 & 0xFFFFFFFF, step + 1000)
    assert table.capacity <= 4096
    assert len(table) == 1000


def test_number_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="0 is no number"):
        NumberTable().add(1, 0)


def test_number_is_not_added_twice_under_one_hash() -> None:
    table = NumberTable()
    table.add(1, 2)
    with pytest.raises(ValueError, match="2 is in the table"):
        table.add(1, 2)
    assert table.find(1) == {2}


def test_removal_of_what_is_not_there_is_refused() -> None:
    table = NumberTable()
    table.add(1, 2)
    with pytest.raises(KeyError):
        table.remove(1, 3)
    assert len(table) == 1
