"""See returns.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from rookery.core.sessions.inbox cimport Delivery, inbox_at
from rookery.core.sessions.inflight cimport PUBACK_DUE, InflightSlot
from rookery.core.sessions.memberships cimport errand_put, membership_acquire, membership_drop
from rookery.core.sessions.message cimport (
    Message, Publication, message_acquire, message_release, publication_end, publication_of,
)
from rookery.core.sessions.publish cimport Outcome, group_deliver
from rookery.core.sessions.state cimport ERRAND_RETURN, Session, Subscription, Tenant


cdef void _add(Session *session, Returns *returns, uint32_t shared_place, Message *message) noexcept nogil:
    cdef const Subscription *subscription = &session.subscriptions[shared_place - 1]
    cdef Return *item
    if subscription.group != NULL and subscription.group.member_count < 2:
        session.tenant.counters.messages_dropped += 1
        return
    item = &returns.items[returns.count]
    item.message = message
    item.group = subscription.group
    item.membership = subscription.membership
    message_acquire(message)
    if item.membership != NULL:
        membership_acquire(item.membership)
    returns.count += 1


cdef uint64_t _shared_count(Session *session) noexcept nogil:
    """How many deliveries would go back."""
    cdef uint64_t count = 0
    cdef uint16_t packet_id = session.inflight.oldest
    cdef const InflightSlot *slot
    cdef const Delivery *delivery
    cdef uint32_t place
    while packet_id != 0:
        slot = &session.inflight.slots[packet_id - 1]
        packet_id = slot.next
        count += slot.shared_place != 0 and slot.state == PUBACK_DUE and slot.message != NULL
    for place in range(session.inbox.length):
        delivery = inbox_at(&session.inbox, place)
        count += delivery != NULL and delivery.shared_place != 0
    return count


cdef void returns_collect(Session *session, Returns *returns) noexcept nogil:
    cdef uint16_t packet_id = session.inflight.oldest
    cdef const InflightSlot *slot
    cdef const Delivery *delivery
    cdef uint32_t place
    returns.items = NULL
    returns.count = 0
    if not session.has_shared:
        return
    returns.items = <Return *> malloc((<size_t> session.inflight.count + session.inbox.length + 1) * sizeof(Return))
    if returns.items == NULL:
        session.tenant.counters.messages_dropped += _shared_count(session)
        return
    while packet_id != 0:
        slot = &session.inflight.slots[packet_id - 1]
        packet_id = slot.next
        if slot.shared_place != 0 and slot.state == PUBACK_DUE and slot.message != NULL:
            _add(session, returns, slot.shared_place, slot.message)
    for place in range(session.inbox.length):
        delivery = inbox_at(&session.inbox, place)
        if delivery != NULL and delivery.shared_place != 0:
            _add(session, returns, delivery.shared_place, delivery.message)


cdef void returns_deliver(Tenant *tenant, Returns *returns) noexcept nogil:
    cdef Publication publication
    cdef Outcome outcome
    cdef const Return *item
    cdef uint32_t index
    for index in range(returns.count):
        item = &returns.items[index]
        if item.membership != NULL:
            # Behind the errand by which the session leaves. The references go with it.
            if errand_put(tenant.world, item.membership, item.message, ERRAND_RETURN) != 0:
                membership_drop(item.membership)  # Not the last one: the leaving errand has one.
                message_release(item.message)
                tenant.counters.messages_dropped += 1
            continue
        memset(&outcome, 0, sizeof(outcome))
        publication_of(item.message, &publication)
        group_deliver(item.group, &publication, &outcome)
        publication_end(&publication)
        message_release(item.message)
    free(returns.items)
    returns.items = NULL
    returns.count = 0
