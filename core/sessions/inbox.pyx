"""See inbox.pxd."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from rookery.core.sessions.message cimport message_release, message_size

cdef enum:
    _FIRST_CAPACITY = 8


cdef int _resize(Inbox *inbox) noexcept nogil:
    """Move to a ring with room; places of dropped deliveries are left behind, or they would add up for ever."""
    cdef uint32_t live = inbox.qos0_count + inbox.qos12_count
    cdef uint32_t capacity = inbox.capacity if inbox.capacity > 0 else _FIRST_CAPACITY
    cdef uint32_t place
    cdef uint32_t length = 0
    cdef Delivery *ring
    cdef Delivery *delivery
    if live * 2 > inbox.capacity:
        capacity = inbox.capacity * 2
    ring = <Delivery *> malloc(capacity * sizeof(Delivery))
    if ring == NULL:
        return -1
    for place in range(inbox.length):
        delivery = &inbox.ring[(inbox.first + place) & (inbox.capacity - 1)]
        if delivery.message != NULL:
            ring[length] = delivery[0]
            length += 1
    free(inbox.ring)
    inbox.ring = ring
    inbox.capacity = capacity
    inbox.first = 0
    inbox.length = length
    inbox.qos0_from = 0
    return 0


cdef int inbox_push(Inbox *inbox, const Delivery *delivery) noexcept nogil:
    if inbox.length == inbox.capacity and _resize(inbox) != 0:
        return -1
    inbox.ring[(inbox.first + inbox.length) & (inbox.capacity - 1)] = delivery[0]
    inbox.length += 1
    if delivery.qos == 0:
        inbox.qos0_count += 1
    else:
        inbox.qos12_count += 1
    inbox.kept_bytes += message_size(delivery.message)
    return 0


cdef inline void _forget(Inbox *inbox, const Delivery *delivery) noexcept nogil:
    if delivery.qos == 0:
        inbox.qos0_count -= 1
    else:
        inbox.qos12_count -= 1
    inbox.kept_bytes -= message_size(delivery.message)


cdef bint inbox_pop(Inbox *inbox, Delivery *out) noexcept nogil:
    cdef Delivery *oldest
    while inbox.length > 0:
        oldest = &inbox.ring[inbox.first]
        inbox.first = (inbox.first + 1) & (inbox.capacity - 1)
        inbox.length -= 1
        if inbox.qos0_from > 0:
            inbox.qos0_from -= 1
        if oldest.message == NULL:
            continue
        out[0] = oldest[0]
        _forget(inbox, out)
        if inbox.length == 0:
            # An inbox is empty nearly always: it holds no memory then.
            free(inbox.ring)
            memset(inbox, 0, sizeof(Inbox))
        return True
    return False


cdef Delivery *inbox_oldest_qos0(Inbox *inbox) noexcept nogil:
    cdef Delivery *delivery
    if inbox.qos0_count == 0:
        return NULL
    while inbox.qos0_from < inbox.length:
        delivery = &inbox.ring[(inbox.first + inbox.qos0_from) & (inbox.capacity - 1)]
        if delivery.message != NULL and delivery.qos == 0:
            return delivery
        inbox.qos0_from += 1
    return NULL


cdef Delivery *inbox_at(Inbox *inbox, uint32_t place) noexcept nogil:
    cdef Delivery *delivery = &inbox.ring[(inbox.first + place) & (inbox.capacity - 1)]
    return delivery if delivery.message != NULL else NULL


cdef void inbox_drop(Inbox *inbox, Delivery *delivery) noexcept nogil:
    # The place stays until it is the oldest, or until the ring is full.
    _forget(inbox, delivery)
    delivery_clear(delivery)


cdef void inbox_clear(Inbox *inbox) noexcept nogil:
    cdef uint32_t place
    for place in range(inbox.length):
        delivery_clear(&inbox.ring[(inbox.first + place) & (inbox.capacity - 1)])
    free(inbox.ring)
    memset(inbox, 0, sizeof(Inbox))


cdef void delivery_clear(Delivery *delivery) noexcept nogil:
    message_release(delivery.message)
    free(delivery.subscription_ids)
    delivery.message = NULL
    delivery.subscription_ids = NULL
