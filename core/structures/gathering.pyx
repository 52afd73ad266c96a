"""See gathering.pxd."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    _PACE_US = 120            # wake-ups closer together than this, on average, make a trickle
    _PACE_MAXIMUM_US = 1000   # a longer pause counts as this
    _BYTES = 4096             # a turn that produced more is busy enough
    _READY_UNIT = 256
    _READY_SEVERAL = 272      # more than one socket per turn, on average
    _WEIGHT = 16              # of the turns before, in the averages
    _GAIN = 8                 # gathering must save an eighth, for it delays


cdef inline GatheringStep _step_of(const Gathering *gathering) noexcept nogil:
    return GATHER_SLEEP if gathering.is_gathering else GATHER_NOT


cdef GatheringStep gathering_turn(
    Gathering *gathering, uint64_t now_us, uint32_t ready, uint64_t bytes
) noexcept nogil:
    cdef uint64_t gap_us = now_us - gathering.last_turn_us
    cdef bint has_several
    gathering.last_turn_us = now_us
    if gap_us > _PACE_MAXIMUM_US:
        gap_us = _PACE_MAXIMUM_US
    gathering.pace_us = <uint32_t> ((gathering.pace_us * (_WEIGHT - 1) + gap_us) // _WEIGHT)
    gathering.ready_average = (gathering.ready_average * (_WEIGHT - 1) + ready * _READY_UNIT) // _WEIGHT
    has_several = gathering.ready_average > _READY_SEVERAL
    if gathering.pace_us >= _PACE_US or bytes >= _BYTES or (gathering.is_gathering and not has_several):
        gathering.is_trickle = False
        gathering.is_gathering = False
        return GATHER_NOT
    if not gathering.is_trickle:
        if not has_several:
            return GATHER_NOT
        gathering.is_trickle = True
        gathering.is_measured = False
        return GATHER_MEASURE
    gathering.served += ready
    return GATHER_MEASURE if gathering.served >= GATHER_WINDOW else _step_of(gathering)


cdef inline bint _is_gathering_next(const Gathering *gathering) noexcept nogil:
    """What the next window does: what costs less, or is not known, and now and then the other."""
    cdef bint is_cheaper
    if gathering.costs_ps[0] == 0:
        return False
    if gathering.costs_ps[1] == 0:
        return True
    is_cheaper = gathering.costs_ps[1] + gathering.costs_ps[1] // _GAIN < gathering.costs_ps[0]
    return is_cheaper != (gathering.windows % GATHER_TRIALS == 0)


cdef GatheringStep gathering_measure(Gathering *gathering, uint64_t cpu_ns) noexcept nogil:
    cdef uint64_t cost_ps
    cdef uint64_t *known_ps = &gathering.costs_ps[gathering.is_gathering]
    if gathering.is_measured:
        cost_ps = (cpu_ns - gathering.began_cpu_ns) * 1000 // gathering.served
        known_ps[0] = cost_ps + 1 if known_ps[0] == 0 else (known_ps[0] + cost_ps) // 2
        gathering.windows += 1
    gathering.is_measured = True
    gathering.served = 0
    gathering.began_cpu_ns = cpu_ns
    if _is_gathering_next(gathering) != gathering.is_gathering:
        gathering.is_gathering = not gathering.is_gathering
        # Time to show that several are ready when it is waited for them.
        gathering.ready_average = 2 * _READY_UNIT
    return _step_of(gathering)


cdef class GatheringPolicy:
    """A Gathering, for tests: turns and CPU times are told."""

    cdef Gathering gathering

    def turn(self, uint64_t now_us, uint32_t ready, uint64_t size=0):
        """0: go on, 1: sleep first, 2: measure."""
        return gathering_turn(&self.gathering, now_us, ready, size)

    def measure(self, uint64_t cpu_ns):
        return gathering_measure(&self.gathering, cpu_ns)
