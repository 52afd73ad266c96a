"""Inbox: the messages that wait for one session, in the order in which they came.

A message waits because its client is away or because the client's window is full. The inbox is a ring of references;
a message that a thousand inboxes hold is stored once. Limits are the caller's: it asks for the counts before it
pushes. QoS 0 and QoS 1/2 are counted apart because they have their own limits and their own rule for a full inbox.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.sessions.message cimport Message


cdef struct Delivery:
    Message *message             # one reference; NULL = dropped meanwhile
    uint32_t *subscription_ids   # [count, id, ...] or NULL; owned
    uint8_t qos                  # the lower of published and granted
    uint8_t retain               # the flag to be sent to this client
    uint8_t is_written           # of QoS 0: into the log, too; those of QoS 1 and 2 are whenever their session is
    uint32_t shared_place        # of the subscription that brought it, see returns.pxd; 0 = not shared


cdef struct Inbox:
    Delivery *ring
    uint32_t capacity            # power of two, or 0
    uint32_t first               # index of the oldest
    uint32_t length              # places in use, dropped ones included
    uint32_t qos0_count          # deliveries of QoS 0
    uint32_t qos12_count         # deliveries of QoS 1 and 2
    uint32_t qos0_from           # no QoS 0 delivery lies before this many places behind first
    uint64_t kept_bytes          # of the messages held here


# Takes over the delivery's reference and ids. 0, or -1 when memory is short (then nothing was taken over).
cdef int inbox_push(Inbox *inbox, const Delivery *delivery) noexcept nogil
# The oldest goes to out with all that it owns; 0 when the inbox is empty.
cdef bint inbox_pop(Inbox *inbox, Delivery *out) noexcept nogil
# The oldest QoS 0 delivery, for inbox_drop; NULL when there is none.
cdef Delivery *inbox_oldest_qos0(Inbox *inbox) noexcept nogil
# What is place places behind the oldest, 0 to length - 1; NULL when it was dropped.
cdef Delivery *inbox_at(Inbox *inbox, uint32_t place) noexcept nogil
cdef void inbox_drop(Inbox *inbox, Delivery *delivery) noexcept nogil
cdef void inbox_clear(Inbox *inbox) noexcept nogil
cdef void delivery_clear(Delivery *delivery) noexcept nogil


cdef inline bint inbox_is_empty(const Inbox *inbox) noexcept nogil:
    return inbox.qos0_count + inbox.qos12_count == 0
