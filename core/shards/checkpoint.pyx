"""See checkpoint.pxd.

Sessions that are written stand in a list, those that were written longest ago first, and so do tenants that retain
messages. A checkpoint takes the first until the first was written in this checkpoint; whatever joins goes to the end.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from rookery.core.log.writer cimport Log, log_drop_before
from rookery.core.sessions.inbox cimport Delivery, inbox_at
from rookery.core.sessions.inflight cimport PUBACK_DUE, PUBCOMP_DUE, InflightSlot
from rookery.core.sessions.journal cimport (
    IS_AFRESH, journal_begin_group, journal_end_group, journal_message, journal_queued, journal_received,
    journal_retained, journal_session, journal_subscribed, journal_taken, journal_will, retaining_to_end,
    written_to_end,
)
from rookery.core.sessions.message cimport (
    Message, Publication, message_acquire, message_is_read, message_release, publication_end, publication_of,
)
from rookery.core.sessions.retain cimport Retained
from rookery.core.sessions.state cimport Session, Subscription, Tenant
from rookery.core.sessions.subscriptions cimport subscription_parsed
from rookery.core.shards.commits cimport commitment_is_met
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.state cimport Shard, Universe
from rookery.core.shards.tenants cimport tenant_release
from rookery.core.structures.atomics cimport atomic_load_u64, atomic_store_u64
from rookery.core.structures.packet_ids cimport packet_ids_each
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_next,
)
from rookery.core.topics.names cimport ParsedFilter
from rookery.core.topics.retained cimport retained_walk_all, retained_walk_free, retained_walk_next
from rookery.core.topics.tree cimport NO_FILTER

cdef enum:
    _SEGMENTS_LEAST = 4            # the log holds so many before a checkpoint is worth while
    _NODES_PER_TURN = 4096         # places of a retained tree
    _WRITTEN_PER_TURN = 1048576    # bytes
    _RETAINED_BATCH = 256
    _BACKLOG_BYTES = 67108864      # submitted and not committed: the checkpoint waits


cdef struct _Numbered:             # a message that several may wait for: written in this checkpoint
    Message *message               # one reference, so that its address stays its own
    uint64_t number


cdef inline uint64_t _hash(const Message *message) noexcept nogil:
    cdef uint64_t address = <uint64_t> <size_t> message
    address *= 0x9E3779B97F4A7C15ULL
    return address ^ address >> 32


cdef uint64_t _number(Shard *shard, const Publication *publication) noexcept nogil:
    """The number under which this checkpoint has the message; it is written when it is met first."""
    cdef Message *message = publication.message
    cdef uint32_t cursor
    cdef _Numbered *numbered
    # One reference is the delivery's, one the publication's.
    if message.references <= 2:
        return journal_message(&shard.journal, publication)
    numbered = <_Numbered *> pointer_map_first(&shard.checkpoint.messages, _hash(message), &cursor)
    while numbered != NULL:
        if numbered.message == message:
            return numbered.number
        numbered = <_Numbered *> pointer_map_next(&shard.checkpoint.messages, _hash(message), &cursor)
    numbered = <_Numbered *> malloc(sizeof(_Numbered))
    if numbered == NULL or pointer_map_add(&shard.checkpoint.messages, _hash(message), numbered) != 0:
        free(numbered)
        return journal_message(&shard.journal, publication)
    message_acquire(message)
    numbered.message = message
    numbered.number = journal_message(&shard.journal, publication)
    return numbered.number


cdef void _forget_messages(Shard *shard) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef _Numbered *numbered = <_Numbered *> pointer_map_each(&shard.checkpoint.messages, &cursor)
    while numbered != NULL:
        message_release(numbered.message)
        free(numbered)
        numbered = <_Numbered *> pointer_map_each(&shard.checkpoint.messages, &cursor)
    pointer_map_free(&shard.checkpoint.messages)


# One session

cdef void _write_delivery(
    Shard *shard, Session *session, Message *message, uint8_t qos, uint8_t retain, uint16_t packet_id,
    const uint32_t *subscription_ids
) noexcept nogil:
    cdef Publication publication
    message_is_read(message, shard.world.spill)
    publication_of(message, &publication)
    publication.journal_number = _number(shard, &publication)
    journal_queued(
        session, &publication, qos, retain, packet_id,
        NULL if subscription_ids == NULL else subscription_ids + 1,
        0 if subscription_ids == NULL else subscription_ids[0])
    publication_end(&publication)


cdef void _write_subscriptions(Session *session) noexcept nogil:
    cdef uint8_t buffer[65535]
    cdef ParsedFilter parsed
    cdef const Subscription *subscription
    cdef uint32_t place
    for place in range(session.subscription_places):
        subscription = &session.subscriptions[place]
        if subscription.filter_id != NO_FILTER:
            subscription_parsed(session, place, buffer, sizeof(buffer), &parsed)
            journal_subscribed(
                session, &parsed, subscription.qos, subscription.flags, subscription.retain_handling,
                subscription.subscription_id)


cdef void _write_messages(Shard *shard, Session *session) noexcept nogil:
    cdef uint16_t packet_id = session.inflight.oldest
    cdef const InflightSlot *slot
    cdef const Delivery *delivery
    cdef uint32_t place
    while packet_id != 0:
        slot = &session.inflight.slots[packet_id - 1]
        if slot.state == PUBCOMP_DUE:
            journal_received(session, packet_id)
        elif slot.message != NULL:
            _write_delivery(
                shard, session, slot.message, 1 if slot.state == PUBACK_DUE else 2, slot.retain, packet_id,
                slot.subscription_ids)
        packet_id = slot.next
    for place in range(session.inbox.length):
        delivery = inbox_at(&session.inbox, place)
        if delivery != NULL and (delivery.qos > 0 or delivery.is_written):
            _write_delivery(
                shard, session, delivery.message, delivery.qos, delivery.retain, 0, delivery.subscription_ids)


cdef void _write_session(Shard *shard, Session *session) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef uint16_t packet_id
    journal_begin_group(&shard.journal)
    journal_session(session, IS_AFRESH)
    _write_subscriptions(session)
    _write_messages(shard, session)
    packet_id = packet_ids_each(&session.received, &cursor)
    while packet_id != 0:
        # One that is under way to other shards is so for a short time: the checkpoint ends after it.
        journal_taken(session, packet_id, 0)
        packet_id = packet_ids_each(&session.received, &cursor)
    if session.will.message != NULL:
        journal_will(session)
    journal_end_group(&shard.journal)


# The walk

cdef bint _write_some_retained(Shard *shard) noexcept nogil:
    """False when the walk over the tenant's retained messages is over."""
    cdef void *batch[_RETAINED_BATCH]
    cdef bint is_done
    cdef Publication publication
    cdef Retained *retained
    cdef uint32_t count = retained_walk_next(
        shard.checkpoint.retained_walk, batch, _RETAINED_BATCH, _NODES_PER_TURN, &is_done)
    cdef uint32_t index
    for index in range(count):
        retained = <Retained *> batch[index]
        publication_of(retained.message, &publication)
        journal_retained(retained.tenant, &publication, retained.stored_at_ms)
        publication_end(&publication)
    return not is_done


cdef void _end_retained(Shard *shard) noexcept nogil:
    cdef Tenant *tenant = shard.checkpoint.tenant
    retained_walk_free(shard.checkpoint.retained_walk)
    tenant.checkpoint = shard.checkpoint.number
    retaining_to_end(tenant)
    shard.checkpoint.retained_walk = NULL
    shard.checkpoint.tenant = NULL
    tenant_release(shard, tenant)


cdef bint _begin_retained(Shard *shard) noexcept nogil:
    """The next tenant whose retained messages are to be written; False when there is none."""
    cdef Tenant *tenant = shard.world.first_retaining
    if tenant == NULL or tenant.checkpoint == shard.checkpoint.number:
        return False
    shard.checkpoint.retained_walk = retained_walk_all(tenant.retained)
    if shard.checkpoint.retained_walk != NULL:
        tenant.users += 1
        shard.checkpoint.tenant = tenant
    return True


cdef void _write_some(Shard *shard) noexcept nogil:
    """A bounded step. Behind the last one it is known with which batch everything is durable."""
    cdef Session *session = shard.world.first_written
    while shard.journal.batch.size < _WRITTEN_PER_TURN:
        if session == NULL or session.checkpoint == shard.checkpoint.number:
            break
        _write_session(shard, session)
        session.checkpoint = shard.checkpoint.number
        written_to_end(session)
        session = shard.world.first_written
    else:
        return
    if shard.checkpoint.tenant != NULL:
        if not _write_some_retained(shard):
            _end_retained(shard)
        return
    if _begin_retained(shard):
        return
    shard.checkpoint.is_walking = 0
    shard.checkpoint.is_ending = 1
    shard.checkpoint.due.batch = shard.journal.batch.number - (shard.journal.batch.size == 0)
    # And what it has sent to other shards, which sessions that are written anew no longer tell of.
    shard.checkpoint.due.shards = ((<uint64_t> 2 << (shard.universe.shard_count - 1)) - 1) & ~(
        <uint64_t> 1 << shard.index)
    shard.checkpoint.due.handover = shard.handovers + 1
    _forget_messages(shard)


# Beginning and end

cdef void checkpoint_begin(Shard *shard) noexcept nogil:
    cdef Universe *universe = shard.universe
    cdef uint32_t index
    # Whatever was recorded and is not yet written lies behind it.
    universe.checkpoint_position = atomic_load_u64(&shard.journal.log.position)
    universe.is_checkpointing = 1
    atomic_store_u64(&universe.checkpoint_number, atomic_load_u64(&universe.checkpoint_number) + 1)
    for index in range(1, universe.shard_count):
        shard_wake(universe.shards[index])


cdef void _lead(Shard *shard) noexcept nogil:
    """The first shard begins checkpoints and ends them."""
    cdef Universe *universe = shard.universe
    cdef Log *log = shard.journal.log
    cdef uint64_t number = atomic_load_u64(&universe.checkpoint_number)
    cdef uint64_t position = atomic_load_u64(&log.position)
    cdef uint32_t index
    if not universe.is_checkpointing:
        if universe.checkpoint_number == 0 and universe.checkpoint_position == 0:
            universe.checkpoint_position = position - min(position, atomic_load_u64(&log.total_bytes))
        if position - universe.checkpoint_position > _SEGMENTS_LEAST * log.segment_size + universe.checkpoint_bytes:
            checkpoint_begin(shard)
        return
    for index in range(universe.shard_count):
        if atomic_load_u64(&universe.shards[index].checkpoint.done) != number:
            return
    log_drop_before(log, universe.checkpoint_position)
    universe.checkpoint_bytes = 2 * (position - universe.checkpoint_position)
    universe.is_checkpointing = 0


cdef void checkpoint_step(Shard *shard) noexcept nogil:
    cdef uint64_t number
    if shard.index == 0:
        _lead(shard)
    number = atomic_load_u64(&shard.universe.checkpoint_number)
    if number != shard.checkpoint.number:
        shard.checkpoint.number = number
        shard.world.checkpoint = number
        shard.checkpoint.is_walking = 1
    if shard.checkpoint.is_walking:
        if atomic_load_u64(&shard.journal.log.backlog_bytes) < _BACKLOG_BYTES:
            _write_some(shard)
    elif shard.checkpoint.is_ending and commitment_is_met(shard, &shard.checkpoint.due):
        shard.checkpoint.is_ending = 0
        atomic_store_u64(&shard.checkpoint.done, number)
        shard_wake(shard.universe.shards[0])


cdef bint checkpoint_has_work(const Shard *shard) noexcept nogil:
    return shard.checkpoint.is_walking and atomic_load_u64(&shard.journal.log.backlog_bytes) < _BACKLOG_BYTES


cdef void checkpoint_clear(Shard *shard) noexcept nogil:
    if shard.checkpoint.tenant != NULL:
        _end_retained(shard)
    _forget_messages(shard)
