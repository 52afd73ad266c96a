"""See inflight.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from rookery.core.sessions.message cimport Message, message_release, message_size

cdef enum:
    _FIRST_CAPACITY = 8


cdef inline void _append_free(Inflight *inflight, uint16_t packet_id) noexcept nogil:
    inflight.slots[packet_id - 1].next = 0
    if inflight.free_last == 0:
        inflight.free_first = packet_id
    else:
        inflight.slots[inflight.free_last - 1].next = packet_id
    inflight.free_last = packet_id


cdef int _grow(Inflight *inflight) noexcept nogil:
    cdef uint32_t capacity = inflight.capacity * 2 if inflight.capacity > 0 else _FIRST_CAPACITY
    cdef uint32_t index
    cdef InflightSlot *slots
    if inflight.capacity == PACKET_ID_MAXIMUM:
        return -1
    if capacity > PACKET_ID_MAXIMUM:
        capacity = PACKET_ID_MAXIMUM
    slots = <InflightSlot *> realloc(inflight.slots, capacity * sizeof(InflightSlot))
    if slots == NULL:
        return -1
    memset(slots + inflight.capacity, 0, (capacity - inflight.capacity) * sizeof(InflightSlot))
    inflight.slots = slots
    for index in range(inflight.capacity, capacity):
        _append_free(inflight, <uint16_t> (index + 1))
    inflight.capacity = capacity
    return 0


cdef void _use(
    Inflight *inflight, uint16_t packet_id, Message *message, uint32_t *subscription_ids, uint8_t state,
    uint8_t retain
) noexcept nogil:
    """The slot has left the list of free ones: it is the newest in use."""
    cdef InflightSlot *slot = &inflight.slots[packet_id - 1]
    slot.message = message
    slot.subscription_ids = subscription_ids
    slot.previous = inflight.newest
    slot.next = 0
    slot.state = state
    slot.resend_count = 0
    slot.retain = retain
    slot.sent_for = 1
    if inflight.newest == 0:
        inflight.oldest = packet_id
    else:
        inflight.slots[inflight.newest - 1].next = packet_id
    inflight.newest = packet_id
    inflight.count += 1
    inflight.sent += 1
    if message != NULL:
        inflight.kept_bytes += message_size(message)


cdef uint16_t inflight_add(
    Inflight *inflight, Message *message, uint32_t *subscription_ids, uint8_t qos, uint8_t retain
) noexcept nogil:
    cdef uint16_t packet_id
    if inflight.free_first == 0 and _grow(inflight) != 0:
        return NO_PACKET_ID
    packet_id = inflight.free_first
    inflight.free_first = inflight.slots[packet_id - 1].next
    if inflight.free_first == 0:
        inflight.free_last = 0
    _use(inflight, packet_id, message, subscription_ids, PUBACK_DUE if qos == 1 else PUBREC_DUE, retain)
    return packet_id


cdef int inflight_restore(
    Inflight *inflight, uint16_t packet_id, Message *message, uint32_t *subscription_ids, uint8_t state,
    uint8_t retain
) noexcept nogil:
    cdef uint16_t before = 0
    cdef uint16_t place
    while packet_id > inflight.capacity:
        if _grow(inflight) != 0:
            return -1
    if inflight.slots[packet_id - 1].state != SLOT_FREE:
        inflight_remove(inflight, packet_id)
    # Identifiers are used again in the order in which they were, so that it is nearly always the first.
    place = inflight.free_first
    while place != packet_id:
        before = place
        place = inflight.slots[place - 1].next
    if before == 0:
        inflight.free_first = inflight.slots[packet_id - 1].next
    else:
        inflight.slots[before - 1].next = inflight.slots[packet_id - 1].next
    if inflight.free_last == packet_id:
        inflight.free_last = before
    _use(inflight, packet_id, message, subscription_ids, state, retain)
    return 0


cdef InflightSlot *inflight_find(Inflight *inflight, uint16_t packet_id) noexcept nogil:
    if packet_id == 0 or packet_id > inflight.capacity or inflight.slots[packet_id - 1].state == SLOT_FREE:
        return NULL
    return &inflight.slots[packet_id - 1]


cdef void _drop_message(Inflight *inflight, InflightSlot *slot) noexcept nogil:
    if slot.message != NULL:
        inflight.kept_bytes -= message_size(slot.message)
        message_release(slot.message)
        slot.message = NULL
    if slot.subscription_ids != NULL:
        free(slot.subscription_ids)
        slot.subscription_ids = NULL


cdef void inflight_received(Inflight *inflight, uint16_t packet_id) noexcept nogil:
    cdef InflightSlot *slot = &inflight.slots[packet_id - 1]
    _drop_message(inflight, slot)
    slot.state = PUBCOMP_DUE
    if slot.sent_for != 0:
        slot.sent_for = 1  # PUBREL goes out now.


cdef void inflight_remove(Inflight *inflight, uint16_t packet_id) noexcept nogil:
    cdef InflightSlot *slot = &inflight.slots[packet_id - 1]
    _drop_message(inflight, slot)
    if slot.previous == 0:
        inflight.oldest = slot.next
    else:
        inflight.slots[slot.previous - 1].next = slot.next
    if slot.next == 0:
        inflight.newest = slot.previous
    else:
        inflight.slots[slot.next - 1].previous = slot.previous
    if inflight.resume_from == packet_id:
        inflight.resume_from = slot.next
    inflight.count -= 1
    inflight.sent -= slot.sent_for != 0
    slot.state = SLOT_FREE
    _append_free(inflight, packet_id)
    if inflight.count == 0 and inflight.capacity > INFLIGHT_IDLE_SLOTS:
        inflight_trim(inflight)


cdef void inflight_rewind(Inflight *inflight) noexcept nogil:
    cdef uint16_t packet_id = inflight.oldest
    while packet_id != 0:
        inflight.slots[packet_id - 1].sent_for = 0
        inflight.slots[packet_id - 1].resend_count = 0
        packet_id = inflight.slots[packet_id - 1].next
    inflight.sent = 0
    inflight.resume_from = inflight.oldest


cdef uint16_t inflight_next_unsent(Inflight *inflight) noexcept nogil:
    cdef uint16_t packet_id = inflight.resume_from
    cdef InflightSlot *slot
    if packet_id == 0:
        return 0
    # Whatever lies behind resume_from was in flight before the connection: new messages wait until it has come round.
    slot = &inflight.slots[packet_id - 1]
    inflight.resume_from = slot.next
    slot.sent_for = 1
    inflight.sent += 1
    return packet_id


cdef bint inflight_tick(InflightSlot *slot) noexcept nogil:
    if slot.sent_for == 0:
        return False
    slot.sent_for += 1
    # The first tick comes at any time after the sending, so one more has to be waited for; after a resend, which a tick
    # has caused, none.
    if slot.sent_for < RESEND_TICKS + 2:
        return False
    slot.sent_for = 2
    return True


cdef void inflight_trim(Inflight *inflight) noexcept nogil:
    if inflight.count == 0:
        free(inflight.slots)
        memset(inflight, 0, sizeof(Inflight))


cdef void inflight_clear(Inflight *inflight) noexcept nogil:
    cdef uint16_t packet_id = inflight.oldest
    while packet_id != 0:
        _drop_message(inflight, &inflight.slots[packet_id - 1])
        packet_id = inflight.slots[packet_id - 1].next
    free(inflight.slots)
    memset(inflight, 0, sizeof(Inflight))
