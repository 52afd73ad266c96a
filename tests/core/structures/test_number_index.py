"""Numbers that lie close together."""

from hypothesis import given
from hypothesis import strategies as st

from rookery.core.structures.number_index import Numbers

near = st.integers(0, 300_000).map(lambda number: number + 2**33)


@given(st.dictionaries(near, st.integers(1, 2**63)), st.lists(near))
def test_it_holds_what_a_dict_holds_and_in_order(entries: dict[int, int], others: list[int]) -> None:
    numbers = Numbers()
    for number, value in entries.items():
        assert numbers.put(number, value)
    assert numbers.values() == [entries[number] for number in sorted(entries)]
    assert [numbers.get(number) for number in others] == [entries.get(number, 0) for number in others]


def test_the_last_value_of_a_number_holds() -> None:
    numbers = Numbers()
    assert numbers.put(7, 1)
    assert numbers.put(7, 2)
    assert numbers.values() == [2]


def test_numbers_far_apart_are_refused_and_nothing_is_lost() -> None:
    numbers = Numbers()
    assert numbers.put(2**50, 1)
    assert not numbers.put(2**50 + 2**40, 2)
    assert not numbers.put(2**64 - 1, 2)
    assert not numbers.put(0, 2)
    assert numbers.put(2**50 - 2**30, 3)
    assert numbers.values() == [3, 1]


def test_an_empty_one_has_nothing() -> None:
    numbers = Numbers()
    assert numbers.get(0) == numbers.get(2**64 - 1) == 0
    assert numbers.put(1, 1)
    numbers.clear()
    assert numbers.values() == []
    assert numbers.get(1) == 0
    assert numbers.put(2**63, 5)
    assert numbers.values() == [5]
