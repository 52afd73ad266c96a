"""The timing wheel fires what is due, in order, never early; all time is virtual."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rookery.core.structures.timers import AlarmClock

TICK_MS = 8
MOVED_MAXIMUM = 256  # timers that one call moves down
TIMER_COUNT = 20  # Few enough, with at most 11 moves each, that no call of the state machine reaches this limit.
PASSED = -1
END_OF_TIME_MS = 2**64 - 1
LATEST_DUE_MS = 2**64 - 2**10  # of the state machine, so that its sums stay in range


def tick_of(due_ms: int) -> int:
    return -(-due_ms // TICK_MS)


class PlainClock:
    """The twin: a dict of what is armed, sorted whenever it is asked."""

    def __init__(self, now_ms: int) -> None:
        self.tick = now_ms // TICK_MS
        self.armed: dict[int, tuple[int, int]] = {}  # number -> (tick or PASSED, order of arming)
        self.arming_count = 0

    def arm(self, number: int, due_ms: int) -> None:
        self.arming_count += 1
        tick = tick_of(due_ms)
        self.armed[number] = (tick if tick >= self.tick else PASSED, self.arming_count)

    def cancel(self, number: int) -> None:
        self.armed.pop(number, None)

    def expire(self, now_ms: int) -> int | None:
        due = [number for number, (tick, _) in self.armed.items() if tick <= now_ms // TICK_MS]
        if not due:
            self.tick = max(self.tick, now_ms // TICK_MS)
            return None
        first = min(due, key=self.armed.__getitem__)
        self.tick = max(self.tick, self.armed[first][0])
        del self.armed[first]
        return first

    def distance_ms(self, now_ms: int) -> int | None:
        return min((max(0, tick * TICK_MS - now_ms) for tick, _ in self.armed.values()), default=None)


distances = st.one_of(
    st.integers(0, 40),
    st.integers(0, 3_000),
    st.integers(0, 10_000_000),
    st.integers(0, 62).map(lambda bits: 1 << bits),
    st.integers(0, 2**63),
)


class ClockMachine(RuleBasedStateMachine):
    """Whatever is armed, cancelled and expired in between, the wheel says what the dict says."""

    @initialize(now_ms=st.one_of(st.integers(0, 2**20), st.integers(0, 2**63 - 2**62)))
    def start(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.clock = AlarmClock(TIMER_COUNT, now_ms)
        self.twin = PlainClock(now_ms)

    @rule(number=st.integers(0, TIMER_COUNT - 1), distance=distances)
    def arm(self, number: int, distance: int) -> None:
        due_ms = min(self.now_ms + distance, LATEST_DUE_MS)
        self.clock.arm(number, due_ms)
        self.twin.arm(number, due_ms)

    @rule(number=st.integers(0, TIMER_COUNT - 1), lateness=st.integers(0, 100))
    def arm_for_the_past(self, number: int, lateness: int) -> None:
        due_ms = max(0, self.now_ms - lateness)
        self.clock.arm(number, due_ms)
        self.twin.arm(number, due_ms)

    @rule(first=st.integers(0, TIMER_COUNT - 1), distance=distances)
    def arm_several_for_one_time(self, first: int, distance: int) -> None:
        due_ms = min(self.now_ms + distance, LATEST_DUE_MS)
        for number in range(first, min(first + 5, TIMER_COUNT)):
            self.clock.arm(number, due_ms)
            self.twin.arm(number, due_ms)

    @rule(number=st.integers(0, TIMER_COUNT - 1))
    def cancel(self, number: int) -> None:
        self.clock.cancel(number)
        self.twin.cancel(number)

    @rule(step_ms=distances)
    def pass_time(self, step_ms: int) -> None:
        self.now_ms = max(self.now_ms, min(self.now_ms + step_ms, 2**63))

    @precondition(lambda self: self.twin.armed)
    @rule(before_ms=st.integers(0, 9))
    def pass_time_until_just_before_the_next(self, before_ms: int) -> None:
        distance_ms = self.twin.distance_ms(self.now_ms)
        assert distance_ms is not None
        self.now_ms += max(0, distance_ms - before_ms)

    @rule()
    def expire_one(self) -> None:
        assert self.clock.expire(self.now_ms) == self.twin.expire(self.now_ms)

    @rule()
    def expire_all(self) -> None:
        while (number := self.twin.expire(self.now_ms)) is not None:
            assert self.clock.expire(self.now_ms) == number
        assert self.clock.expire(self.now_ms) is None

    @invariant()
    def the_same_are_armed(self) -> None:
        for number in range(TIMER_COUNT):
            assert self.clock.is_armed(number) == (number in self.twin.armed)

    @invariant()
    def waiting_never_oversleeps(self) -> None:
        wait_ms = self.clock.wait_ms(self.now_ms)
        distance_ms = self.twin.distance_ms(self.now_ms)
        if distance_ms is None:
            assert wait_ms is None
        else:
            assert wait_ms is not None
            assert 0 <= wait_ms <= distance_ms


ClockMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestClockAgainstItsTwin = ClockMachine.TestCase


def expire_all(clock: AlarmClock, now_ms: int) -> list[int]:
    """Turns at one moment, until the wheel has nothing left to do."""
    fired: list[int] = []
    while True:
        while (number := clock.expire(now_ms)) is not None:
            fired.append(number)
        if clock.wait_ms(now_ms) != 0:
            return fired


@pytest.mark.parametrize("due_ms", [1, 7, 8, 9, 511, 512, 513, 32_768, 32_769, 2_097_151, 2**42 + 1, 2**63])
def test_timer_fires_in_its_tick_and_never_early(due_ms: int) -> None:
    clock = AlarmClock(1)
    clock.arm(0, due_ms)
    assert clock.expire(due_ms - 1) is None
    assert clock.is_armed(0)
    assert clock.expire(due_ms + TICK_MS - 1) == 0
    assert not clock.is_armed(0)


def test_timers_of_one_tick_fire_in_the_order_of_arming_however_far_away_they_were_armed() -> None:
    clock = AlarmClock(6)
    due_ms = 10_000_000
    for number, armed_at_ms in enumerate((0, 5_000_000, 9_900_000, 9_999_000, 9_999_900, 9_999_999)):
        assert clock.expire(armed_at_ms) is None
        clock.arm(number, due_ms)
    assert expire_all(clock, due_ms) == [0, 1, 2, 3, 4, 5]


def test_a_time_that_has_passed_fires_at_once_and_first() -> None:
    clock = AlarmClock(3, now_ms=80_000)
    clock.arm(0, 80_000)
    clock.arm(1, 79_000)
    clock.arm(2, 0)
    assert clock.wait_ms(80_000) == 0
    assert expire_all(clock, 80_000) == [1, 2, 0]


def test_arming_again_moves_the_timer() -> None:
    clock = AlarmClock(1)
    clock.arm(0, 1_000)
    clock.arm(0, 5_000)
    assert clock.expire(4_999) is None
    assert clock.expire(5_000) == 0
    assert clock.expire(5_000) is None


def test_due_timer_that_is_cancelled_between_two_calls_does_not_fire() -> None:
    clock = AlarmClock(3)
    for number in range(3):
        clock.arm(number, 100)
    assert clock.expire(104) == 0
    clock.cancel(1)
    assert clock.expire(104) == 2
    assert clock.expire(104) is None


def test_cancelling_what_is_not_armed_changes_nothing() -> None:
    clock = AlarmClock(2)
    clock.arm(1, 100)
    clock.cancel(0)
    assert expire_all(clock, 104) == [1]
    clock.cancel(1)
    assert clock.wait_ms(104) is None


def test_timer_armed_between_two_calls_joins_those_that_are_due() -> None:
    clock = AlarmClock(3)
    clock.arm(0, 100)
    clock.arm(1, 200)
    assert clock.expire(1_000) == 0
    clock.arm(2, 150)
    assert expire_all(clock, 1_000) == [2, 1]


def test_wheel_that_nobody_asked_for_years_goes_on_from_there() -> None:
    clock = AlarmClock(1)
    now_ms = 2**55
    clock.arm(0, now_ms + 1_000)
    assert clock.expire(now_ms + 999) is None
    assert clock.expire(now_ms + 1_007) == 0


def test_waiting_as_told_wakes_a_few_times_per_timer_only() -> None:
    clock = AlarmClock(1, now_ms=123_456)
    for due_ms in (130_000, 500_000, 2**40, 2**63):
        clock.arm(0, due_ms)
        now_ms, wakes = 123_456, 0
        while clock.expire(now_ms) is None:
            wait_ms = clock.wait_ms(now_ms)
            assert wait_ms
            now_ms += wait_ms
            wakes += 1
        assert due_ms <= now_ms < due_ms + TICK_MS
        assert wakes <= 11
        clock = AlarmClock(1, now_ms=123_456)


def test_last_millisecond_of_time_is_armed_like_any_other() -> None:
    clock = AlarmClock(2)
    clock.arm(0, END_OF_TIME_MS)
    clock.arm(1, 2**63)
    assert clock.expire(2**63) == 1
    assert clock.expire(END_OF_TIME_MS - TICK_MS) is None
    assert clock.expire(END_OF_TIME_MS) == 0


def test_time_that_steps_back_fires_nothing() -> None:
    clock = AlarmClock(1)
    assert clock.expire(100_000) is None
    clock.arm(0, 100_050)
    assert clock.expire(50_000) is None
    assert clock.expire(100_056) == 0


def test_crowded_slot_moves_a_bounded_number_per_call_and_asks_to_be_called_again() -> None:
    clock = AlarmClock(2_000)
    due_ms = 32_768 + 3_000  # In the second slot of level 3: all move down together.
    for number in range(2_000):
        clock.arm(number, due_ms)
    assert clock.wait_ms(0) == 32_768
    calls = 0
    while clock.wait_ms(32_768) == 0:
        assert clock.expire(32_768) is None
        calls += 1
    assert calls == -(-2_000 // MOVED_MAXIMUM)
    assert expire_all(clock, due_ms + TICK_MS) == list(range(2_000))


def test_order_holds_while_a_crowded_slot_moves() -> None:
    clock = AlarmClock(2_003)
    due_ms = 32_768 + 3_000
    for number in range(2_000):
        clock.arm(number, due_ms)
    assert clock.expire(due_ms + TICK_MS) is None  # A part has moved.
    clock.arm(2_000, due_ms)  # Behind all that were armed for this tick before.
    clock.arm(2_001, 32_760)  # The tick before the open slot has passed.
    clock.cancel(1_999)
    clock.cancel(0)
    clock.arm(2_002, due_ms + 2**30)
    assert clock.expire(due_ms + TICK_MS) == 2_001
    assert expire_all(clock, due_ms + TICK_MS) == [*range(1, 1_999), 2_000]
    assert expire_all(clock, due_ms + 2**30 + TICK_MS) == [2_002]


def test_crowded_slot_that_is_emptied_by_cancelling_closes() -> None:
    clock = AlarmClock(1_000)
    for number in range(1_000):
        clock.arm(number, 40_000)
    assert clock.expire(40_000) is None
    for number in range(1_000):
        clock.cancel(number)
    assert clock.expire(40_000) is None
    assert clock.wait_ms(40_000) is None


def test_arming_faster_than_a_crowded_slot_moves_does_not_keep_it_open() -> None:
    clock = AlarmClock(21_000)
    for number in range(1_000):
        clock.arm(number, 40_000)
    assert clock.expire(40_000) is None
    for number in range(1_000, 21_000):
        clock.arm(number, 39_000)  # Falls into the slot that is moving.
    calls = 0
    while clock.wait_ms(32_768) == 0 and clock.expire(32_768) is None:
        calls += 1
    # The slot closed while they were armed, what remains is the next level's.
    assert calls <= 21_000 // MOVED_MAXIMUM + 2
    assert expire_all(clock, 40_000) == [*range(1_000, 21_000), *range(1_000)]


@pytest.mark.parametrize("seed", range(3))
def test_keep_alive_of_many_fires_each_on_time_for_an_hour(seed: int) -> None:
    random_source = random.Random(seed)
    timer_count = 1_500
    clock = AlarmClock(timer_count)
    due_at = [random_source.randrange(60_000, 119_000) for _ in range(timer_count)]
    for number, due_ms in enumerate(due_at):
        clock.arm(number, due_ms)
    now_ms, fired_count = 0, 0
    while now_ms < 3_600_000:
        wait_ms = clock.wait_ms(now_ms)
        assert wait_ms is not None
        now_ms += wait_ms
        while (number_or_none := clock.expire(now_ms)) is not None:
            assert due_at[number_or_none] <= now_ms < due_at[number_or_none] + TICK_MS
            due_at[number_or_none] = now_ms + random_source.randrange(60_000, 119_000)
            clock.arm(number_or_none, due_at[number_or_none])
            fired_count += 1
    assert fired_count > timer_count * 3_600 // 119


def test_timer_number_out_of_range_is_refused() -> None:
    clock = AlarmClock(2)
    for number in (-1, 2):
        with pytest.raises(IndexError, match=f"timer {number} of 2"):
            clock.arm(number, 10)
    with pytest.raises(ValueError, match="at least 1 timer, not 0"):
        AlarmClock(0)
