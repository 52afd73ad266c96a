"""What bench_timers.py measures, as loops without Python in them."""

from libc.stdint cimport UINT64_MAX, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from rookery.core.structures.timers cimport (
    Timer, TimingWheel, wheel_arm, wheel_cancel, wheel_expire, wheel_free, wheel_new, wheel_wait_ms)

cdef enum:
    SHORTEST_MS = 60000  # keep-alive of 40 to 79 s, times 1.5
    SPREAD_MS = 59000


# A timer never stands alone in memory: the connection around it makes each one a cache line of its own.
cdef struct Connection:
    Timer timer
    uint8_t others[88]


cdef class Connections:
    """timer_count connections with a keep-alive timer each, and the wheel of their shard."""

    cdef TimingWheel *wheel
    cdef Connection *connections
    cdef uint64_t count
    cdef uint64_t now_ms
    cdef uint64_t random

    def __cinit__(self, uint64_t count, uint64_t seed):
        self.count = count
        self.random = seed * 2 + 1
        self.wheel = wheel_new(0)
        self.connections = <Connection *> calloc(count, sizeof(Connection))
        if self.wheel == NULL or self.connections == NULL:
            raise MemoryError

    def __dealloc__(self):
        wheel_free(self.wheel)
        free(self.connections)

    cdef uint64_t next_random(self) noexcept nogil:
        self.random ^= self.random << 13
        self.random ^= self.random >> 7
        self.random ^= self.random << 17
        return self.random

    cdef uint64_t next_due_ms(self) noexcept nogil:
        return self.now_ms + SHORTEST_MS + self.next_random() % SPREAD_MS

    def arm_each(self):
        """(Re-)arm every timer once, in random order as packets arrive; a few are met twice, some not at all."""
        cdef uint64_t _index
        with nogil:
            for _index in range(self.count):
                wheel_arm(self.wheel, &self.connections[self.next_random() % self.count].timer, self.next_due_ms())

    def arm_rest(self):
        """Arm those that arm_each has not met; returns how many timers there are."""
        cdef uint64_t index
        with nogil:
            for index in range(self.count):
                if self.connections[index].timer.link == NULL:
                    wheel_arm(self.wheel, &self.connections[index].timer, self.next_due_ms())
        return self.count

    def cancel_each(self):
        """Cancel in random order; those that are met twice cost little."""
        cdef uint64_t _index
        with nogil:
            for _index in range(self.count):
                wheel_cancel(self.wheel, &self.connections[self.next_random() % self.count].timer)

    def expire_each(self):
        """Let everything fire, nothing is armed again; returns how many timers fired."""
        cdef uint64_t fired = 0
        cdef uint64_t wait_ms
        with nogil:
            while True:
                wait_ms = wheel_wait_ms(self.wheel, self.now_ms)
                if wait_ms == UINT64_MAX:
                    break
                self.now_ms += wait_ms
                while wheel_expire(self.wheel, self.now_ms) != NULL:
                    fired += 1
        return fired

    def pass_time(self, uint64_t duration_ms):
        """Sleep as told and re-arm what fires; returns how many timers fired and how often the wheel woke."""
        cdef uint64_t end_ms = self.now_ms + duration_ms
        cdef uint64_t fired = 0
        cdef uint64_t wakes = 0
        cdef Timer *timer
        with nogil:
            while self.now_ms < end_ms:
                self.now_ms += wheel_wait_ms(self.wheel, self.now_ms)
                wakes += 1
                while True:
                    timer = wheel_expire(self.wheel, self.now_ms)
                    if timer == NULL:
                        break
                    wheel_arm(self.wheel, timer, self.next_due_ms())
                    fired += 1
        return fired, wakes

    def ask_wait(self, uint64_t times):
        """Ask the wheel times over how long to sleep; the sum keeps the compiler from leaving it out."""
        cdef uint64_t total = 0
        cdef uint64_t index
        with nogil:
            for index in range(times):
                total += wheel_wait_ms(self.wheel, self.now_ms + (index & 7))
        return total
