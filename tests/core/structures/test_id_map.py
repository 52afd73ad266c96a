"""IdMap says what a dict says, and its memory follows its size."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rookery.core.structures.id_map import IdDict

MISSING = 0xFFFFFFFE
KEY_MAXIMUM = 0xFFFFFFFE

# Few keys, so that they are met again; the multiples share their place in every small table.
keys = st.one_of(st.integers(0, 30), st.integers(0, 7).map(lambda n: n << 28), st.integers(0, KEY_MAXIMUM))


class IdMapMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.map = IdDict()
        self.twin: dict[int, int] = {}

    @rule(key=keys, value=st.integers(0, 0xFFFFFFFF))
    def set(self, key: int, value: int) -> None:
        self.map[key] = value
        self.twin[key] = value

    @rule(first=st.integers(0, 1000), count=st.integers(1, 200))
    def set_many(self, first: int, count: int) -> None:
        for key in range(first, first + count):
            self.map[key] = key * 3
            self.twin[key] = key * 3

    @rule(key=keys)
    def remove(self, key: int) -> None:
        assert self.map.remove(key) == (self.twin.pop(key, None) is not None)

    @rule(modulus=st.integers(1, 5))
    def remove_many(self, modulus: int) -> None:
        for key in [key for key in self.twin if key % modulus == 0]:
            assert self.map.remove(key)
            del self.twin[key]

    @rule(key=keys)
    def get(self, key: int) -> None:
        assert self.map.get(key, MISSING) == self.twin.get(key, MISSING)

    @rule()
    def clear(self) -> None:
        self.map.clear()
        self.twin.clear()

    @invariant()
    def it_holds_what_the_dict_holds(self) -> None:
        assert len(self.map) == len(self.twin)
        assert sorted(self.map.items()) == sorted(self.twin.items())
        for key in self.twin:
            assert self.map.get(key, MISSING) == self.twin[key]

    @invariant()
    def its_memory_follows_its_size(self) -> None:
        if not self.twin:
            assert self.map.memory_bytes == 0
        else:
            assert self.map.memory_bytes <= max(32, 64 * len(self.twin))


IdMapMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestIdMapAgainstADict = IdMapMachine.TestCase


def test_empty_map_holds_nothing_and_costs_nothing() -> None:
    id_map = IdDict()
    assert id_map.get(0, MISSING) == MISSING
    assert not id_map.remove(0)
    assert id_map.items() == []
    assert id_map.memory_bytes == 0


def test_smallest_and_largest_key_and_value_are_kept() -> None:
    id_map = IdDict()
    id_map[0] = 0xFFFFFFFF
    id_map[KEY_MAXIMUM] = 0
    assert sorted(id_map.items()) == [(0, 0xFFFFFFFF), (KEY_MAXIMUM, 0)]
    assert id_map.get(0, MISSING) == 0xFFFFFFFF
    assert id_map.get(KEY_MAXIMUM, MISSING) == 0


def test_largest_number_is_no_key_and_leaves_the_map_as_it_was() -> None:
    id_map = IdDict()
    id_map[1] = 2
    with pytest.raises(ValueError, match="4294967295 is no key"):
        id_map[0xFFFFFFFF] = 1
    assert id_map.get(0xFFFFFFFF, MISSING) == MISSING
    assert not id_map.remove(0xFFFFFFFF)
    assert id_map.items() == [(1, 2)]


def test_hundred_thousand_entries_come_and_go() -> None:
    id_map = IdDict()
    for key in range(100_000):
        id_map[key] = key ^ 0x5555
    assert all(id_map.get(key, MISSING) == key ^ 0x5555 for key in range(100_000))
    assert id_map.memory_bytes <= 32 * 100_000
    for key in range(99_999):
        assert id_map.remove(key)
    assert id_map.items() == [(99_999, 99_999 ^ 0x5555)]
    assert id_map.memory_bytes == 32
    assert id_map.remove(99_999)
    assert id_map.memory_bytes == 0
