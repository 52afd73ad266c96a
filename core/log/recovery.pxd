"""Reading a log back: every whole record in order, and the verdict on what is not whole.

A place where no valid record begins is the torn end of the last segment, which may be cut, unless something shows that
the bytes were on the disk once: a later mark whose synced position lies behind the place, or a later segment, which is
begun only after everything before it was synced. Then it is damage, and nothing is guessed.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# What a record is given to; 0, or -1 to stop there: memory is short, or the record makes no sense.
ctypedef int (*LogApply)(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size) noexcept nogil

cdef enum ScanVerdict:
    SCAN_WHOLE = 0      # records up to the end or the limit
    SCAN_TORN = 1       # the end is torn
    SCAN_DAMAGED = 2    # a bad place before bytes that were synced
    SCAN_STOPPED = 3    # apply said so


cdef struct Scan:
    uint64_t end            # offset behind the last whole group
    uint64_t records        # that were applied
    uint64_t bad_offset     # of the first bad place; with TORN and DAMAGED
    uint64_t lost_bytes     # behind the last whole group that are not just zeros; with TORN


# The bytes of a segment behind its header, the first at first_position, up to limit (a position; ULLONG_MAX for the
# last segment). Offsets are counted from data.
cdef ScanVerdict scan_segment(
    const uint8_t *data, uint64_t size, uint32_t seed, uint64_t first_position, uint64_t limit, LogApply apply,
    void *context, Scan *scan) noexcept nogil

# Bytes of the valid record that begins here; 0 when none does.
cdef uint64_t record_size(const uint8_t *data, uint64_t size, uint32_t seed) noexcept nogil
# Does any mark behind offset say that more than what lies before offset was on the disk?
cdef bint was_synced(
    const uint8_t *data, uint64_t size, uint64_t offset, uint32_t seed, uint64_t first_position) noexcept nogil
# Bytes from offset to the last one that is not 0.
cdef uint64_t nonzero_size(const uint8_t *data, uint64_t size, uint64_t offset) noexcept nogil
