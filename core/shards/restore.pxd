"""Restore: what the log holds becomes sessions and retained messages again, before the shards begin to turn.

Records are applied by the functions that made the changes in the first place, with the journal shut. Sessions go to the
shard that their key hashes to in this process, which need not be the one that wrote them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.shards.redelivery cimport Redelivery
from rookery.core.shards.state cimport Universe
from rookery.core.structures.number_index cimport NumberIndex
from rookery.core.structures.pointer_map cimport PointerMap


cdef struct Restore:
    Universe *universe
    uint64_t unix_ms           # now
    uint64_t now_ms            # clock of the shards
    PointerMap sessions        # of all shards, by serial
    NumberIndex messages[64]   # LOG_SOURCES: by the source and which of its numbers it is; one reference each
    PointerMap origins         # numbers of copies -> the number of what they are copies of
    Redelivery redelivery
    uint64_t highest_serial
    uint64_t highest_message
    uint8_t has_holes          # the log was repaired: what a record refers to may have been lost
    const char *fault          # why a record cannot be applied


# A LogApply whose context is a Restore.
cdef int restore_apply(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size) noexcept nogil
# Everything has been applied: timers run, wills of clients that were connected wait for their delay, and from now on
# all changes are written. 0, or -1 when memory is short.
cdef int restore_end(Restore *restore) noexcept nogil
cdef void restore_clear(Restore *restore) noexcept nogil
