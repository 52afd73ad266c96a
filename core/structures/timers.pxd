"""A hierarchical timing wheel: arming and cancelling cost the same for one timer and for a million.

The wheel knows no clock: milliseconds come in as arguments and only grow. A Timer is embedded in what it belongs to;
the wheel links it and owns nothing. Resolution is TICK_MS; a timer never fires early, and at most one tick late
relative to the time given to wheel_expire (later only while a crowded slot moves, see wheel_expire).
"""

from libc.stdint cimport uint8_t, uint64_t


cdef enum:
    TICK_MS = 8

# All zero bytes are a timer that is not armed.
cdef struct Timer:
    Timer *next        # private to the wheel
    Timer **link       # private: what points to this timer; NULL = not armed
    uint64_t due_ms    # absolute, as given to wheel_arm
    void *owner        # the struct that this timer is embedded in; set once by its owner
    uint8_t kind       # what the owner armed it for; free for the owner's use
    uint8_t level      # private: where in the wheel it is
    uint8_t slot       # private

cdef struct TimingWheel


# NULL when memory is short.
cdef TimingWheel *wheel_new(uint64_t now_ms) noexcept nogil
# The timers that are still armed keep pointing into the wheel: their owners go first, or never look at them again.
cdef void wheel_free(TimingWheel *wheel) noexcept nogil
# Arms, or re-arms, for due_ms; a time that has passed fires at the next wheel_expire. Any distance is allowed.
cdef void wheel_arm(TimingWheel *wheel, Timer *timer, uint64_t due_ms) noexcept nogil
cdef void wheel_cancel(TimingWheel *wheel, Timer *timer) noexcept nogil
cdef bint timer_is_armed(const Timer *timer) noexcept nogil
# Take one due timer out of the wheel, in order of tick, those of one tick in the order in which they were armed; NULL
# when none is due at now_ms. Call until NULL. Timers may be armed and cancelled between two calls, also those that are
# due. NULL comes as well after 256 far timers have been moved down a level; then wheel_wait_ms is 0 and the next turn
# goes on, so that a million timers for one minute hold up no turn.
cdef Timer *wheel_expire(TimingWheel *wheel, uint64_t now_ms) noexcept nogil
# Milliseconds until wheel_expire has work to do: 0 = now, never more than the true distance (it may be less: a far
# timer first moves down a level); UINT64_MAX when nothing is armed.
cdef uint64_t wheel_wait_ms(const TimingWheel *wheel, uint64_t now_ms) noexcept nogil
