"""Outbox: the bytes that wait to be sent on one connection.

            head                                   tail
    +---------------+    +------------------+    +---------------+
    | own bytes     | -> | refers to a      | -> | own bytes     |
    | start .. end  |    | Message's payload|    | start .. end  |
    +---------------+    +------------------+    +---------------+

Segments come from a pool per shard and go back when they are empty, so that an idle connection holds none: freeing
and allocating large buffers for each flush doubled the cost of 16 KiB payloads. Payloads from REFERENCE_SIZE on are
not copied; the segment refers to the Message, which is kept until the bytes are sent. The crossover between copying
and referring was measured at 2 to 4 KiB.

An outbox that gets its first byte enlists itself in the FlushList of its shard; the shard flushes the list once at
the end of the turn.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Message

cdef enum:
    SEGMENT_CAPACITY = 8192 - 48  # bytes of a pooled segment; the whole block is 8 KiB
    REFERENCE_SIZE = 2048         # bytes; a payload of this size or more is referred to, not copied

cdef enum:
    POOL_KEPT = 64                # free segments that an idle shard keeps

cdef enum OutboxLimit:
    OUTBOX_LOW_BYTES = 65536        # below this a session that held messages back goes on sending
    OUTBOX_HIGH_BYTES = 262144      # above this nothing leaves the inbox, and publishers are held back for a while
    OUTBOX_LIMIT_BYTES = 1048576    # above this QoS 0 messages are dropped: the client does not keep up


cdef struct Segment:
    Segment *next
    uint8_t *data          # own bytes follow the struct; else they lie in message
    Message *message       # kept while its bytes wait; NULL for own bytes
    uint32_t start         # first byte not yet sent
    uint32_t end           # first byte not yet written
    uint32_t capacity      # of own bytes; 0 for a reference


cdef struct SegmentPool:
    Segment *free          # segments of SEGMENT_CAPACITY that nobody uses
    uint32_t free_count
    uint32_t free_limit    # more than this many are returned to the allocator
    uint32_t free_low      # the lowest free_count since the pool was relaxed: so many were not needed
    uint64_t used_bytes    # of all segments in use, own and referred, of all outboxes


cdef struct FlushList:
    Outbox *first
    uint64_t queued_bytes  # put into outboxes since the last flush of the list


cdef struct Outbox:
    Segment *head
    Segment *tail
    SegmentPool *pool
    FlushList *flush_list
    Outbox *next_dirty     # in the flush list
    uint64_t size          # bytes that wait
    uint8_t is_dirty       # enlisted
    uint8_t is_blocked     # the kernel took no more: flushed again when the socket is writable


cdef void pool_init(SegmentPool *pool, uint32_t free_limit) noexcept nogil
cdef void pool_clear(SegmentPool *pool) noexcept nogil
# Free half of the segments that were not needed since the last call; returns how many.
cdef uint32_t pool_relax(SegmentPool *pool) noexcept nogil
cdef void outbox_init(Outbox *outbox, SegmentPool *pool, FlushList *flush_list) noexcept nogil
# Drops everything that waits. The outbox must not be enlisted.
cdef void outbox_clear(Outbox *outbox) noexcept nogil
# Room for size contiguous bytes behind what waits; NULL when memory is short. Valid until the next call.
cdef uint8_t *outbox_reserve_slow(Outbox *outbox, uint32_t size) noexcept nogil
# Bytes of message follow, without a copy; takes a reference. 0, or -1 when memory is short.
cdef int outbox_refer(Outbox *outbox, Message *message, const uint8_t *data, uint32_t size) noexcept nogil
# Take off what lies behind the first bytes, size of them at least, by whole segments; NULL when nothing does.
# The caller puts it back with outbox_join before anything is written.
cdef Segment *outbox_part(Outbox *outbox, uint64_t size) noexcept nogil
cdef void outbox_join(Outbox *outbox, Segment *rest) noexcept nogil
# count bytes from the head have been sent.
cdef void outbox_consume(Outbox *outbox, uint64_t count) noexcept nogil


# Is there nothing more to free while nobody needs it?
cdef inline bint pool_is_relaxed(const SegmentPool *pool) noexcept nogil:
    return pool.free_count <= POOL_KEPT


cdef inline uint8_t *outbox_reserve(Outbox *outbox, uint32_t size) noexcept nogil:
    cdef Segment *tail = outbox.tail
    if tail != NULL and tail.capacity - tail.end >= size and tail.message == NULL:
        return tail.data + tail.end
    return outbox_reserve_slow(outbox, size)


# It is flushed at the end of the turn, even if nothing waits in it.
cdef inline void outbox_enlist(Outbox *outbox) noexcept nogil:
    if not outbox.is_dirty:
        outbox.is_dirty = 1
        outbox.next_dirty = outbox.flush_list.first
        outbox.flush_list.first = outbox


# size bytes were written where outbox_reserve pointed.
cdef inline void outbox_commit(Outbox *outbox, uint32_t size) noexcept nogil:
    outbox.tail.end += size
    outbox.size += size
    outbox.flush_list.queued_bytes += size
    outbox_enlist(outbox)
