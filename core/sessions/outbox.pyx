"""See outbox.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from rookery.core.sessions.message cimport Message, message_acquire, message_release


cdef void pool_init(SegmentPool *pool, uint32_t free_limit) noexcept nogil:
    memset(pool, 0, sizeof(SegmentPool))
    pool.free_limit = free_limit


cdef void pool_clear(SegmentPool *pool) noexcept nogil:
    cdef Segment *segment
    while pool.free != NULL:
        segment = pool.free
        pool.free = segment.next
        free(segment)
    pool.free_count = 0
    pool.free_low = 0


cdef uint32_t pool_relax(SegmentPool *pool) noexcept nogil:
    cdef Segment *segment
    cdef uint32_t count = 0
    if pool.free_low > POOL_KEPT:
        # What one burst needs and the next one will need again stays for some of the time in between.
        count = (pool.free_low - POOL_KEPT + 1) // 2
    for _ in range(count):
        segment = pool.free
        pool.free = segment.next
        free(segment)
    pool.free_count -= count
    pool.free_low = pool.free_count
    return count


cdef Segment *_take_segment(SegmentPool *pool, uint32_t capacity) noexcept nogil:
    cdef Segment *segment
    if capacity <= SEGMENT_CAPACITY:
        capacity = SEGMENT_CAPACITY
        segment = pool.free
        if segment != NULL:
            pool.free = segment.next
            pool.free_count -= 1
            if pool.free_count < pool.free_low:
                pool.free_low = pool.free_count
        else:
            segment = <Segment *> malloc(sizeof(Segment) + SEGMENT_CAPACITY)
    else:
        segment = <Segment *> malloc(sizeof(Segment) + capacity)
    if segment == NULL:
        return NULL
    segment.next = NULL
    segment.data = <uint8_t *> segment + sizeof(Segment)
    segment.message = NULL
    segment.start = 0
    segment.end = 0
    segment.capacity = capacity
    pool.used_bytes += capacity
    return segment


cdef void _return_segment(SegmentPool *pool, Segment *segment) noexcept nogil:
    if segment.message != NULL:
        pool.used_bytes -= segment.end
        message_release(segment.message)
        free(segment)
        return
    pool.used_bytes -= segment.capacity
    if segment.capacity != SEGMENT_CAPACITY or pool.free_count >= pool.free_limit:
        free(segment)
        return
    segment.next = pool.free
    pool.free = segment
    pool.free_count += 1


cdef void outbox_init(Outbox *outbox, SegmentPool *pool, FlushList *flush_list) noexcept nogil:
    memset(outbox, 0, sizeof(Outbox))
    outbox.pool = pool
    outbox.flush_list = flush_list


cdef void outbox_clear(Outbox *outbox) noexcept nogil:
    cdef Segment *segment
    while outbox.head != NULL:
        segment = outbox.head
        outbox.head = segment.next
        _return_segment(outbox.pool, segment)
    outbox.tail = NULL
    outbox.size = 0


cdef inline void _append(Outbox *outbox, Segment *segment) noexcept nogil:
    if outbox.tail == NULL:
        outbox.head = segment
    else:
        outbox.tail.next = segment
    outbox.tail = segment


cdef uint8_t *outbox_reserve_slow(Outbox *outbox, uint32_t size) noexcept nogil:
    cdef Segment *segment = _take_segment(outbox.pool, size)
    if segment == NULL:
        return NULL
    _append(outbox, segment)
    return segment.data


cdef int outbox_refer(Outbox *outbox, Message *message, const uint8_t *data, uint32_t size) noexcept nogil:
    cdef Segment *segment = <Segment *> malloc(sizeof(Segment))
    if segment == NULL:
        return -1
    segment.next = NULL
    segment.data = <uint8_t *> data
    segment.message = message
    segment.start = 0
    segment.end = 0
    segment.capacity = 0
    message_acquire(message)
    outbox.pool.used_bytes += size
    _append(outbox, segment)
    outbox_commit(outbox, size)
    return 0


cdef Segment *outbox_part(Outbox *outbox, uint64_t size) noexcept nogil:
    cdef Segment *segment = outbox.head
    cdef uint64_t kept = 0
    cdef Segment *rest
    while segment != NULL:
        kept += segment.end - segment.start
        if kept >= size and segment.next != NULL:
            rest = segment.next
            segment.next = NULL
            outbox.tail = segment
            outbox.size = kept
            return rest
        segment = segment.next
    return NULL


cdef void outbox_join(Outbox *outbox, Segment *rest) noexcept nogil:
    if rest == NULL:
        return
    if outbox.tail == NULL:
        outbox.head = rest
    else:
        outbox.tail.next = rest
    while rest != NULL:
        outbox.size += rest.end - rest.start
        outbox.tail = rest
        rest = rest.next


cdef void outbox_consume(Outbox *outbox, uint64_t count) noexcept nogil:
    cdef Segment *segment
    cdef uint64_t waiting
    outbox.size -= count
    while outbox.head != NULL:
        segment = outbox.head
        waiting = segment.end - segment.start
        if count < waiting:
            segment.start += <uint32_t> count
            return
        count -= waiting
        outbox.head = segment.next
        _return_segment(outbox.pool, segment)
    outbox.tail = NULL
