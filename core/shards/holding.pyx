"""See holding.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from rookery.core.sessions.notices cimport NOTICE_SUBSCRIBER_STALLED
from rookery.core.sessions.outbox cimport OUTBOX_HIGH_BYTES, OUTBOX_LOW_BYTES
from rookery.core.sessions.state cimport Link, Tenant
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.connections cimport connection_find, connection_flush, connection_ready, connection_want
from rookery.core.shards.lifecycle cimport connection_lost
from rookery.core.shards.mailbox cimport mail_await, mail_waiting_bytes
from rookery.core.shards.state cimport (
    ATTACHED, CONGESTION_PLACES, HELD_FOR_OTHERS, HOLD_MS, MAIL_HIGH_BYTES, Connection, Shard,
)
from rookery.core.structures.atomics cimport atomic_load_u64, atomic_store_u64


cdef inline uint64_t *_waiting_until(Shard *shard, const Tenant *tenant) noexcept nogil:
    return &shard.congested_until_ms[tenant.shared.hash % CONGESTION_PLACES]


cdef void _hold(Connection *publisher) noexcept nogil:
    cdef Shard *shard = publisher.shard
    publisher.is_held |= HELD_FOR_OTHERS
    publisher.next_held = shard.held
    shard.held = publisher
    connection_want(publisher, False, publisher.is_writable_awaited)


cdef void _give_up(Shard *shard, Link *congested) noexcept nogil:
    """It did not drain in time: nobody waits for it any more."""
    congested.is_slow = 1
    if is_noticed(&shard.world, NOTICE_SUBSCRIBER_STALLED):
        notice_session(
            congested.session, NOTICE_SUBSCRIBER_STALLED, absent(), absent(), congested.outbox.size, 0, 0, 0)


cdef bint _is_behind(Shard *shard, Link *congested) noexcept nogil:
    """Write the outbox out; is there still too much in it to go on?"""
    cdef Connection *subscriber = <Connection *> congested
    if subscriber.blocked_since_ms == 0 and not connection_flush(subscriber):
        connection_lost(subscriber)
        return False
    if congested.outbox.size <= OUTBOX_HIGH_BYTES or congested.is_slow:
        return False
    if congested.congested_since_ms == 0:
        congested.congested_since_ms = shard.world.now_ms
    return True


cdef void hold_for_subscriber(Connection *publisher, Link *congested) noexcept nogil:
    cdef Connection *subscriber = <Connection *> congested
    if not _is_behind(publisher.shard, congested):
        return
    if subscriber != publisher and publisher.state == ATTACHED and not publisher.is_held & HELD_FOR_OTHERS:
        publisher.held_for_shard = 0
        publisher.held_for_index = subscriber.index
        publisher.held_for_generation = subscriber.generation
        _hold(publisher)


cdef bint _is_shard_behind(Connection *publisher, uint32_t target) noexcept nogil:
    cdef Shard *shard = publisher.shard
    cdef Shard *other = shard.universe.shards[target]
    if shard.world.now_ms < atomic_load_u64(_waiting_until(other, publisher.tenant)):
        return True
    return mail_waiting_bytes(shard, target) > MAIL_HIGH_BYTES and mail_await(shard, target)


cdef void hold_for_shards(Connection *publisher, uint64_t targets) noexcept nogil:
    cdef uint32_t target
    if publisher.state != ATTACHED or publisher.is_held & HELD_FOR_OTHERS:
        return
    for target in range(publisher.shard.universe.shard_count):
        if targets >> target & 1 and _is_shard_behind(publisher, target):
            publisher.held_for_shard = target + 1
            _hold(publisher)
            return


cdef void holding_tell(Shard *shard, const Tenant *tenant, Link *congested) noexcept nogil:
    cdef uint64_t until_ms
    if not _is_behind(shard, congested):
        return
    until_ms = congested.congested_since_ms + HOLD_MS
    if shard.world.now_ms >= until_ms:
        _give_up(shard, congested)
    else:
        atomic_store_u64(_waiting_until(shard, tenant), until_ms)


cdef void holding_end(Connection *subscriber) noexcept nogil:
    cdef Link *link = &subscriber.link
    link.is_slow = 0
    if link.congested_since_ms != 0:
        link.congested_since_ms = 0
        # Another one of the same place that is still behind says so again with its next message.
        if subscriber.tenant != NULL:
            atomic_store_u64(_waiting_until(subscriber.shard, subscriber.tenant), 0)


cdef bint _must_wait(Shard *shard, Connection *publisher) noexcept nogil:
    cdef Connection *subscriber
    if publisher.held_for_shard != 0:
        return _is_shard_behind(publisher, publisher.held_for_shard - 1)
    subscriber = connection_find(shard, publisher.held_for_index, publisher.held_for_generation)
    if subscriber == NULL or subscriber.state != ATTACHED or subscriber.link.outbox.size <= OUTBOX_LOW_BYTES:
        return False
    if shard.world.now_ms < subscriber.link.congested_since_ms + HOLD_MS:
        return True
    _give_up(shard, &subscriber.link)
    return False


cdef void holding_step(Shard *shard) noexcept nogil:
    cdef Connection **place = &shard.held
    cdef Connection *publisher
    while place[0] != NULL:
        publisher = place[0]
        if _must_wait(shard, publisher):
            place = &publisher.next_held
            continue
        place[0] = publisher.next_held
        publisher.is_held &= ~HELD_FOR_OTHERS
        if publisher.is_held:
            continue
        connection_want(publisher, True, publisher.is_writable_awaited)
        connection_ready(publisher)
