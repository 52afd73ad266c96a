"""Reading what can be read of a damaged segment.

Behind a bad place reading goes on where something proves that a record begins there:

    a mark that names its own position       the place is certain, and a new group begins
    the record right behind, if the size     then the damaged record may have been in the midst of a group, so that
    of the damaged one is believed           what follows counts only from the end of that group on

What lies between is a hole. Groups that a hole has touched are left out whole.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.log.recovery cimport LogApply

cdef enum:
    SALVAGE_HOLES = 1000              # that are listed; the others are counted only


cdef struct SalvageHole:
    uint64_t offset                   # behind the header of the segment
    uint64_t size


cdef struct Salvage:
    uint64_t commits                  # marks
    uint64_t records                  # that were applied, holes not counted
    uint64_t end                      # offset behind the last whole group
    uint64_t lost_bytes               # in holes
    uint64_t hole_count
    uint64_t torn_bytes               # at the end of the last segment, of a commit that was not finished
    uint64_t counts[128]              # of records, by kind
    uint64_t bytes[128]               # that these take, with their heads
    SalvageHole holes[SALVAGE_HOLES]


# As scan_segment, but kinds keep GROUP_GOES_ON, holes are given to apply as records of KIND_HOLE, and it only ends
# early when apply says so (-1).
cdef int salvage_segment(
    const uint8_t *data, uint64_t size, uint32_t seed, uint64_t first_position, uint64_t limit, LogApply apply,
    void *context, Salvage *salvage) noexcept nogil
# The position of the first byte behind the header, as the first mark has it; ULLONG_MAX when there is no mark.
cdef uint64_t position_by_marks(const uint8_t *data, uint64_t size, uint32_t seed) noexcept nogil
