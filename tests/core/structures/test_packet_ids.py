"""PacketIdSet says what a set says, whatever form it has, and its memory follows its size."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rookery.core.structures.packet_ids import PacketIds

PACKET_ID_MAXIMUM = 65535
TABLE_COUNT_MAXIMUM = 1536  # beyond, the set is a bitmap
BITMAP_BYTES = 8192

packet_ids = st.one_of(st.integers(1, 30), st.integers(1, PACKET_ID_MAXIMUM))


class PacketIdMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ids = PacketIds()
        self.twin: set[int] = set()

    @rule(packet_id=packet_ids)
    def add(self, packet_id: int) -> None:
        assert self.ids.add(packet_id) == (packet_id not in self.twin)
        self.twin.add(packet_id)

    @rule(first=st.integers(1, PACKET_ID_MAXIMUM), count=st.integers(1, 2_000), step=st.sampled_from([1, 3, 64, 4096]))
    def add_many(self, first: int, count: int, step: int) -> None:
        for packet_id in range(first, min(first + count * step, PACKET_ID_MAXIMUM + 1), step):
            assert self.ids.add(packet_id) == (packet_id not in self.twin)
            self.twin.add(packet_id)

    @rule(packet_id=packet_ids)
    def remove(self, packet_id: int) -> None:
        assert self.ids.remove(packet_id) == (packet_id in self.twin)
        self.twin.discard(packet_id)

    @rule(modulus=st.integers(1, 9), keep=st.booleans())
    def remove_many(self, modulus: int, keep: bool) -> None:
        for packet_id in [packet_id for packet_id in self.twin if (packet_id % modulus == 0) != keep]:
            assert self.ids.remove(packet_id)
            self.twin.remove(packet_id)

    @rule(packet_id=st.integers(0, PACKET_ID_MAXIMUM))
    def has(self, packet_id: int) -> None:
        assert (packet_id in self.ids) == (packet_id in self.twin)

    @rule()
    def clear(self) -> None:
        self.ids.clear()
        self.twin.clear()

    @invariant()
    def it_holds_what_the_set_holds(self) -> None:
        assert len(self.ids) == len(self.twin)
        assert sorted(self.ids) == sorted(self.twin)
        assert all(packet_id in self.ids for packet_id in self.twin)

    @invariant()
    def its_memory_follows_its_size(self) -> None:
        assert self.ids.memory_bytes <= min(BITMAP_BYTES, 16 * len(self.twin))


PacketIdMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestPacketIdsAgainstASet = PacketIdMachine.TestCase


def test_empty_set_costs_nothing_and_sixteen_identifiers_cost_64_bytes() -> None:
    ids = PacketIds()
    assert ids.memory_bytes == 0
    for packet_id in range(1, 17):
        assert ids.add(packet_id)
    assert ids.memory_bytes == 64
    for packet_id in range(1, 17):
        assert ids.remove(packet_id)
    assert ids.memory_bytes == 0


def test_every_identifier_fits_at_once() -> None:
    ids = PacketIds()
    for packet_id in range(1, PACKET_ID_MAXIMUM + 1):
        assert ids.add(packet_id)
        assert not ids.add(packet_id)
    assert len(ids) == PACKET_ID_MAXIMUM
    assert list(ids) == list(range(1, PACKET_ID_MAXIMUM + 1))
    assert ids.memory_bytes == BITMAP_BYTES


def test_set_on_the_border_of_two_forms_does_not_change_to_and_fro() -> None:
    ids = PacketIds()
    for packet_id in range(1, TABLE_COUNT_MAXIMUM + 1):
        ids.add(packet_id)
    assert ids.memory_bytes == 4096
    ids.add(TABLE_COUNT_MAXIMUM + 1)
    assert ids.memory_bytes == BITMAP_BYTES
    ids.remove(TABLE_COUNT_MAXIMUM + 1)
    assert ids.memory_bytes == BITMAP_BYTES
    for packet_id in range(513, TABLE_COUNT_MAXIMUM + 1):
        ids.remove(packet_id)
    assert ids.memory_bytes == 4096
    ids.add(513)
    assert ids.memory_bytes == 4096
    assert sorted(ids) == list(range(1, 514))


def test_window_that_moves_round_all_identifiers_stays_small() -> None:
    ids = PacketIds()
    for number in range(200_000):
        assert ids.add(number % PACKET_ID_MAXIMUM + 1)
        if number >= 20:
            assert ids.remove((number - 20) % PACKET_ID_MAXIMUM + 1)
        assert ids.memory_bytes <= 64


def test_zero_is_no_packet_identifier() -> None:
    ids = PacketIds()
    with pytest.raises(ValueError, match="0 is no packet identifier"):
        ids.add(0)
    ids.add(1)
    assert 0 not in ids
    assert not ids.remove(0)
    assert list(ids) == [1]
