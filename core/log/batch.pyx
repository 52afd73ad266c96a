"""See batch.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from rookery.core.log.format cimport GROUP_GOES_ON, RECORD_HEADER_SIZE, get_u32, put_u32, record_checksum

cdef enum:
    _FIRST_CAPACITY = 16384


cdef void batch_init(LogBatch *batch, uint32_t seed) noexcept nogil:
    memset(batch, 0, sizeof(LogBatch))
    batch.seed = seed
    batch.number = 1


cdef void batch_clear(LogBatch *batch) noexcept nogil:
    free(batch.bytes)
    memset(batch, 0, sizeof(LogBatch))


cdef int _grow(LogBatch *batch, uint64_t needed) noexcept nogil:
    cdef uint64_t capacity = batch.capacity if batch.capacity > 0 else _FIRST_CAPACITY
    cdef uint8_t *bytes
    while capacity < needed:
        capacity *= 2
    bytes = <uint8_t *> realloc(batch.bytes, capacity)
    if bytes == NULL:
        return -1
    batch.bytes = bytes
    batch.capacity = capacity
    return 0


cdef uint8_t *batch_begin(LogBatch *batch, uint8_t kind, uint32_t size) noexcept nogil:
    cdef uint64_t needed = batch.size + RECORD_HEADER_SIZE + size
    cdef uint8_t *record
    if needed > batch.capacity and _grow(batch, needed) != 0:
        batch.is_broken = 1
        return NULL
    record = batch.bytes + batch.size
    put_u32(record + 4, size)
    record[8] = kind
    batch.record_start = batch.size
    batch.size = needed
    return record + RECORD_HEADER_SIZE


cdef void batch_end(LogBatch *batch) noexcept nogil:
    cdef uint8_t *record = batch.bytes + batch.record_start
    put_u32(record, record_checksum(batch.seed, record, get_u32(record + 4)))


cdef void batch_close_group(LogBatch *batch) noexcept nogil:
    if batch.size > 0 and batch.bytes[batch.record_start + 8] & GROUP_GOES_ON:
        batch.bytes[batch.record_start + 8] &= ~GROUP_GOES_ON
        batch_end(batch)
