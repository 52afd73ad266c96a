"""The timing wheel: one level of 64 slots for each digit of time, written in base 64.

A tick is TICK_MS. A timer hangs at the level of the highest digit in which its tick differs from the wheel's tick, in
the slot that this digit of its own tick names. With decimal digits and the wheel at tick 735:

    tick   level          slot
    739    1 (units)      9
    741    2 (tens)       4      moves down to level 1, slot 1, when the wheel reaches 740
    812    3 (hundreds)   8      moves down to level 2, slot 1, when the wheel reaches 800

From this follows all the rest:

- What hangs at a level is due before anything at a higher level, and slots of a level are due in their order, all after
  the wheel's own digit: none wraps around. So the next slot is the first of the lowest occupied level: two
  count-trailing-zeros over bitmaps.
- Level and slot depend on the two ticks alone. Timers of one tick therefore always hang together, in the order in
  which they were armed: appending is all that stable order takes. Advancing the wheel to any tick before its next slot
  changes the place of no timer.
- A timer is touched at most once per level. Eleven levels of six bits cover every distance of 64-bit milliseconds;
  nothing has to be clamped. One for keep-alive (a minute or two) is touched three times: once at a turn of 33 s, once
  at one of 0.5 s, once to fire.

Level 0 is not a digit: its only slot takes timers whose tick has passed when they are armed. It comes first.

A slot of level 2 or more *opens* when the wheel reaches its first tick, and its timers move down. There may be a
million, so at most MOVED_MAXIMUM move per call. Until the slot is empty the wheel's tick stays just before the slot
while the levels below it, which are all empty at that moment, already belong to the slot: who is armed meanwhile for a
tick of the slot still finds its way to the slot's end, behind those that were armed before. So that arming cannot keep
the slot open for ever, each timer armed moves one down.
"""

from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

cdef extern from * nogil:
    int count_leading_zeros "__builtin_clzll" (uint64_t number)   # undefined for 0
    int count_trailing_zeros "__builtin_ctzll" (uint64_t number)  # undefined for 0

cdef enum:
    TICK_BITS = 3          # TICK_MS == 1 << TICK_BITS
    LEVEL_BITS = 6
    SLOT_COUNT = 64        # 1 << LEVEL_BITS: the slots of a level fit one word
    PASSED_LEVEL = 0
    LEVEL_COUNT = 12       # 61 bits of ticks, 6 per level, and PASSED_LEVEL
    MOVED_MAXIMUM = 256    # timers that one wheel_expire moves down: 35 microseconds when none is in the cache

cdef struct Slot:
    Timer *first
    Timer **end            # where the next timer is linked: &first while the slot is empty

cdef struct TimingWheel:
    uint64_t tick          # everything before it has fired; of the tick itself, what wheel_expire has got to
    uint32_t levels        # bit k: level k is occupied
    uint32_t open_level    # level of the slot that is moving down, which begins at tick + 1; 0 = none
    uint64_t slots_occupied[LEVEL_COUNT]
    Slot slots[LEVEL_COUNT][SLOT_COUNT]


cdef TimingWheel *wheel_new(uint64_t now_ms) noexcept nogil:
    cdef TimingWheel *wheel = <TimingWheel *> malloc(sizeof(TimingWheel))
    cdef int level
    cdef int index
    if wheel == NULL:
        return NULL
    wheel.tick = now_ms >> TICK_BITS
    wheel.levels = 0
    wheel.open_level = 0
    for level in range(LEVEL_COUNT):
        wheel.slots_occupied[level] = 0
        for index in range(SLOT_COUNT):
            wheel.slots[level][index].first = NULL
            wheel.slots[level][index].end = &wheel.slots[level][index].first
    return wheel


cdef void wheel_free(TimingWheel *wheel) noexcept nogil:
    free(wheel)


cdef void wheel_arm(TimingWheel *wheel, Timer *timer, uint64_t due_ms) noexcept nogil:
    cdef uint64_t tick = tick_of(due_ms)
    if timer.link != NULL:
        unhang(wheel, timer)
    timer.due_ms = due_ms
    # While a slot is open nothing is left of the wheel's own tick, and its place belongs to the slot.
    if tick >= wheel.tick + (wheel.open_level != 0):
        place(wheel, timer, tick, wheel.tick)
    else:
        hang(wheel, timer, PASSED_LEVEL, 0)
    if wheel.open_level:
        move_down(wheel, 1)


cdef void wheel_cancel(TimingWheel *wheel, Timer *timer) noexcept nogil:
    if timer.link != NULL:
        unhang(wheel, timer)


cdef bint timer_is_armed(const Timer *timer) noexcept nogil:
    return timer.link != NULL


cdef Timer *wheel_expire(TimingWheel *wheel, uint64_t now_ms) noexcept nogil:
    cdef uint64_t now_tick = now_ms >> TICK_BITS
    cdef uint64_t start
    cdef int moves_left = MOVED_MAXIMUM
    cdef int level
    while True:
        if wheel.levels & 1 << PASSED_LEVEL:
            return take_first(wheel, PASSED_LEVEL, 0)
        if wheel.open_level:
            moves_left -= move_down(wheel, moves_left)
            if wheel.open_level:
                return NULL
            continue
        if wheel.levels == 0:
            break
        start = next_slot_tick(wheel)
        if start > now_tick:
            break
        level = count_trailing_zeros(wheel.levels)
        if level == 1:
            wheel.tick = start
            return take_first(wheel, 1, start & (SLOT_COUNT - 1))
        wheel.tick = start - 1
        wheel.open_level = level
    if now_tick > wheel.tick:
        wheel.tick = now_tick
    return NULL


cdef uint64_t wheel_wait_ms(const TimingWheel *wheel, uint64_t now_ms) noexcept nogil:
    cdef uint64_t start_ms
    if wheel.levels & 1 << PASSED_LEVEL or wheel.open_level:
        return 0
    if wheel.levels == 0:
        return UINT64_MAX
    start_ms = next_slot_tick(wheel) << TICK_BITS
    return start_ms - now_ms if start_ms > now_ms else 0


cdef inline uint64_t tick_of(uint64_t due_ms) noexcept nogil:
    """The first tick that begins at due_ms or later; the last tick of all stands for what would come after it."""
    cdef uint64_t tick = (due_ms >> TICK_BITS) + ((due_ms & (TICK_MS - 1)) != 0)
    return min(tick, UINT64_MAX >> TICK_BITS)


cdef inline int digit_shift(int level) noexcept nogil:
    return LEVEL_BITS * (level - 1)


cdef inline uint64_t next_slot_tick(const TimingWheel *wheel) noexcept nogil:
    """The first tick of the next occupied slot. Something is armed, and nothing has passed or is moving down."""
    cdef int level = count_trailing_zeros(wheel.levels)
    cdef uint64_t digit = count_trailing_zeros(wheel.slots_occupied[level])
    cdef int shift = digit_shift(level)
    # The higher digits are the wheel's own. Two shifts, for together they may be as wide as the word.
    return (wheel.tick >> shift >> LEVEL_BITS << LEVEL_BITS | digit) << shift


cdef inline void place(TimingWheel *wheel, Timer *timer, uint64_t tick, uint64_t wheel_tick) noexcept nogil:
    """Hang timer where its tick, not before wheel_tick, belongs when the wheel stands at wheel_tick."""
    cdef int level = (63 - count_leading_zeros(tick ^ wheel_tick | 1)) // LEVEL_BITS + 1
    hang(wheel, timer, level, tick >> digit_shift(level) & (SLOT_COUNT - 1))


cdef inline void hang(TimingWheel *wheel, Timer *timer, int level, int index) noexcept nogil:
    cdef Slot *slot = &wheel.slots[level][index]
    timer.level = level
    timer.slot = index
    timer.next = NULL
    timer.link = slot.end
    slot.end[0] = timer
    slot.end = &timer.next
    wheel.slots_occupied[level] |= 1ULL << index
    wheel.levels |= 1U << level


cdef inline void unhang(TimingWheel *wheel, Timer *timer) noexcept nogil:
    cdef Slot *slot = &wheel.slots[timer.level][timer.slot]
    timer.link[0] = timer.next
    if timer.next != NULL:
        timer.next.link = timer.link
    else:
        slot.end = timer.link
        if slot.first == NULL:
            wheel.slots_occupied[timer.level] &= ~(1ULL << timer.slot)
            if wheel.slots_occupied[timer.level] == 0:
                wheel.levels &= ~(1U << timer.level)
    timer.link = NULL


cdef inline Timer *take_first(TimingWheel *wheel, int level, int index) noexcept nogil:
    cdef Timer *timer = wheel.slots[level][index].first
    unhang(wheel, timer)
    return timer


cdef int move_down(TimingWheel *wheel, int maximum) noexcept nogil:
    """Move up to maximum timers of the open slot to where they belong inside it; close it when it is empty."""
    cdef uint64_t start = wheel.tick + 1
    cdef int level = wheel.open_level
    cdef Slot *slot = &wheel.slots[level][start >> digit_shift(level) & (SLOT_COUNT - 1)]
    cdef Timer *timer
    cdef int moved = 0
    while moved < maximum and slot.first != NULL:
        timer = slot.first
        unhang(wheel, timer)
        place(wheel, timer, tick_of(timer.due_ms), start)
        moved += 1
    if slot.first == NULL:
        wheel.tick = start
        wheel.open_level = 0
    return moved


cdef class AlarmClock:
    """A TimingWheel with its own timers, numbered 0 to timer_count - 1."""

    cdef TimingWheel *wheel
    cdef Timer *timers
    cdef readonly Py_ssize_t timer_count

    def __cinit__(self, Py_ssize_t timer_count, uint64_t now_ms=0):
        if timer_count < 1:
            raise ValueError(f"an alarm clock has at least 1 timer, not {timer_count}")
        self.timer_count = timer_count
        self.timers = <Timer *> calloc(timer_count, sizeof(Timer))
        self.wheel = wheel_new(now_ms)
        if self.timers == NULL or self.wheel == NULL:
            raise MemoryError

    def __dealloc__(self):
        wheel_free(self.wheel)
        free(self.timers)

    def arm(self, Py_ssize_t number, uint64_t due_ms):
        wheel_arm(self.wheel, self._timer(number), due_ms)

    def cancel(self, Py_ssize_t number):
        wheel_cancel(self.wheel, self._timer(number))

    def is_armed(self, Py_ssize_t number):
        return timer_is_armed(self._timer(number))

    def expire(self, uint64_t now_ms):
        """The number of the next due timer, or None."""
        cdef Timer *timer = wheel_expire(self.wheel, now_ms)
        return None if timer == NULL else timer - self.timers

    def wait_ms(self, uint64_t now_ms):
        """Milliseconds until expire has work to do, or None when nothing is armed."""
        cdef uint64_t wait_ms = wheel_wait_ms(self.wheel, now_ms)
        return None if wait_ms == UINT64_MAX else wait_ms

    cdef Timer *_timer(self, Py_ssize_t number) except NULL:
        if not 0 <= number < self.timer_count:
            raise IndexError(f"timer {number} of {self.timer_count}")
        return &self.timers[number]
