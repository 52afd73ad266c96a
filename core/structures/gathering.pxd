"""Gathering: should a thread that is woken by one message after the other sleep a moment before it looks again?

Under a trickle from many clients each message wakes its shard. Where waking is expensive, as on many virtual machines,
it costs more than reading, matching and sending together; a shard that sleeps GATHER_US first finds several messages at
once. Where waking is cheap the sleep costs more than it saves. Which of the two holds is a matter of the machine and
of its neighbours, so it is measured: while a trickle lasts, windows of GATHER_WINDOW sockets are served with and
without gathering, and what took less CPU for each socket goes on; one window of GATHER_TRIALS tries the other way.

A trickle is a row of turns that are woken at short intervals, by more than one socket at a time now and then, and have
little to do. A shard that is idle, saturated, or serves a single client that waits for each answer has none.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    GATHER_US = 60        # the bound on the delay that gathering adds
    GATHER_WINDOW = 512  # sockets
    GATHER_TRIALS = 16


cdef struct Gathering:
    uint64_t last_turn_us   # when the turn before ended
    uint32_t pace_us        # average time between turns
    uint32_t ready_average  # average of ready sockets per turn, in 256ths
    uint8_t is_trickle      # a window is under way
    uint8_t is_gathering    # and this is what it does
    uint8_t is_measured     # its beginning has been told
    uint32_t served         # sockets in it so far
    uint32_t windows        # that have been measured
    uint64_t began_cpu_ns
    uint64_t costs_ps[2]    # CPU per socket without and with gathering, averages; 0 = not known yet


cdef enum GatheringStep:
    GATHER_NOT = 0
    GATHER_SLEEP = 1    # sleep GATHER_US before looking again
    GATHER_MEASURE = 2  # first tell the CPU time of this thread to gathering_measure, which decides


# A turn has ended, in which ready sockets were served and bytes were produced.
cdef GatheringStep gathering_turn(Gathering *gathering, uint64_t now_us, uint32_t ready, uint64_t bytes) noexcept nogil
# A window begins or ends. GATHER_NOT or GATHER_SLEEP.
cdef GatheringStep gathering_measure(Gathering *gathering, uint64_t cpu_ns) noexcept nogil
