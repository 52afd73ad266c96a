"""LogBatch: the records that one shard makes during a turn, in the bytes that go to the disk.

A shard fills its batch without a lock and submits it once, at the end of the turn. Batches of a shard are numbered from
1; whatever must not be told before it is durable waits until the log has committed the batch it was recorded in.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct LogBatch:
    uint8_t *bytes          # owned
    uint64_t size
    uint64_t capacity
    uint64_t record_start   # of the record that is being written
    uint64_t number         # of this batch
    uint32_t seed           # of the log's checksums
    uint8_t is_broken       # memory was short: a record is missing, so this batch must never count as committed


cdef void batch_init(LogBatch *batch, uint32_t seed) noexcept nogil
cdef void batch_clear(LogBatch *batch) noexcept nogil
# Begin a record: where its body of size bytes is to be written, valid until the next call. NULL when memory is short.
cdef uint8_t *batch_begin(LogBatch *batch, uint8_t kind, uint32_t size) noexcept nogil
# Its body is complete.
cdef void batch_end(LogBatch *batch) noexcept nogil
# The last record was the last of its group.
cdef void batch_close_group(LogBatch *batch) noexcept nogil
