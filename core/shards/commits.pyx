"""See commits.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from rookery.core.log.writer cimport log_submit
from rookery.core.sessions.outbox cimport outbox_enlist
from rookery.core.sessions.state cimport Commitment, Journal
from rookery.core.shards.checkpoint cimport checkpoint_has_work, checkpoint_step
from rookery.core.shards.connections cimport connection_ready, connection_want
from rookery.core.shards.mailbox cimport shard_wake
from rookery.core.shards.state cimport ATTACHED, HELD_FOR_LOG, Connection, Shard
from rookery.core.structures.atomics cimport atomic_load_u64, atomic_store_u64


cdef bint commitment_is_met(Shard *shard, const Commitment *due) noexcept nogil:
    cdef Journal *journal = &shard.journal
    cdef uint32_t target
    cdef uint64_t needed
    if due.batch > atomic_load_u64(&journal.log.sources[shard.index].committed):
        return False
    if due.shards == 0:
        return True
    if due.handover > shard.handovers:
        return False  # It has not even left.
    for target in range(shard.universe.shard_count):
        if due.shards >> target & 1:
            needed = min(due.handover, shard.out_mail[target].handover)
            if atomic_load_u64(&shard.universe.shards[target].settled[shard.index]) < needed:
                return False
    return True


cdef bint commits_are_met(Connection *connection) noexcept nogil:
    cdef Commitment *due = &connection.link.due
    if not commitment_is_met(connection.shard, due):
        return False
    due.batch = 0
    due.shards = 0
    return True


cdef void commits_hold(Connection *connection) noexcept nogil:
    if not connection.is_uncommitted:
        connection.is_uncommitted = 1
        connection.next_uncommitted = connection.shard.uncommitted
        connection.shard.uncommitted = connection
    if connection.shard.world.log_pressure and connection.state == ATTACHED:
        connection.is_held |= HELD_FOR_LOG
        connection_want(connection, False, connection.is_writable_awaited)


cdef void commits_hold_back(Connection *connection) noexcept nogil:
    if connection.link.due.batch | connection.link.due.shards and not commits_are_met(connection):
        commits_hold(connection)


cdef void _read_on(Connection *connection) noexcept nogil:
    connection.is_held &= ~HELD_FOR_LOG
    if not connection.is_held:
        connection_want(connection, True, connection.is_writable_awaited)
        connection_ready(connection)


cdef void commits_leave(Connection *connection) noexcept nogil:
    cdef Connection **place = &connection.shard.uncommitted
    if not connection.is_uncommitted:
        return
    while place[0] != connection:
        place = &place[0].next_uncommitted
    place[0] = connection.next_uncommitted
    connection.is_uncommitted = 0
    connection.is_held &= ~HELD_FOR_LOG


# What other shards wait for

cdef bint _has_taken_more(const Shard *shard) noexcept nogil:
    cdef uint32_t source
    for source in range(shard.universe.shard_count):
        if shard.taken[source] != shard.settling_taken[source]:
            return True
    return False


cdef void _tell_settled(Shard *shard) noexcept nogil:
    cdef uint32_t source
    for source in range(shard.universe.shard_count):
        if shard.settling_taken[source] != shard.settled[source]:
            atomic_store_u64(&shard.settled[source], shard.settling_taken[source])
            shard_wake(shard.universe.shards[source])


cdef void _settle(Shard *shard) noexcept nogil:
    """What came from other shards and is durable here is told; what came since is the next to become so."""
    cdef uint32_t source
    cdef int _round
    for _round in range(2):
        if shard.is_settling:
            if not commitment_is_met(shard, &shard.settling_due):
                return
            shard.is_settling = 0
            _tell_settled(shard)
        if not _has_taken_more(shard):
            return
        for source in range(shard.universe.shard_count):
            shard.settling_taken[source] = shard.taken[source]
        shard.settling_due.batch = shard.journal.batch.number - 1
        shard.settling_due.shards = shard.given_to
        shard.settling_due.handover = shard.handovers
        shard.given_to = 0
        shard.is_settling = 1


cdef void commits_submit(Shard *shard) noexcept nogil:
    if shard.world.journal != NULL:
        checkpoint_step(shard)
        log_submit(shard.journal.log, shard.index, &shard.journal.batch)


cdef void commits_step(Shard *shard) noexcept nogil:
    cdef Connection **place = &shard.uncommitted
    cdef Connection *connection
    if shard.world.journal == NULL:
        return
    if shard.universe.shard_count > 1:
        _settle(shard)
    while place[0] != NULL:
        connection = place[0]
        if not commits_are_met(connection):
            place = &connection.next_uncommitted
            continue
        place[0] = connection.next_uncommitted
        connection.is_uncommitted = 0
        outbox_enlist(&connection.link.outbox)
        if connection.is_held & HELD_FOR_LOG:
            _read_on(connection)


cdef bint commits_have_work(Shard *shard) noexcept nogil:
    cdef Connection *connection = shard.uncommitted
    if shard.world.journal == NULL:
        return False
    if shard.journal.batch.size > 0 or checkpoint_has_work(shard):
        return True
    if shard.is_settling and commitment_is_met(shard, &shard.settling_due):
        return True
    while connection != NULL:
        if commitment_is_met(shard, &connection.link.due):
            return True
        connection = connection.next_uncommitted
    return False
