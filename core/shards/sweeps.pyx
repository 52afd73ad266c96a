"""See sweeps.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from rookery.core.sessions.retain cimport Retained, retained_expire
from rookery.core.sessions.state cimport Session, Tenant
from rookery.core.shards.answers cimport answer_begin, answer_put
from rookery.core.shards.lifecycle cimport connection_close_with, session_finish
from rookery.core.shards.queues cimport command_free, command_string, event_new
from rookery.core.shards.state cimport ATTACHED, EVENT_NUMBER, Command, Connection, Event, Shard
from rookery.core.shards.tenants cimport tenant_acquire, tenant_find, tenant_release
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.pointer_map cimport pointer_map_each
from rookery.core.topics.retained cimport retained_walk_all, retained_walk_free, retained_walk_next
from rookery.core.wire.spec cimport REASON_ADMINISTRATIVE_ACTION

cdef enum:
    _CONNECTIONS_PER_CHUNK = 256


cdef void _answer(Shard *shard, const Command *command, uint64_t count, uint64_t began) noexcept nogil:
    cdef Event *event = event_new(EVENT_NUMBER, command.request, NULL, 0)
    if event != NULL:
        event.numbers[0] = count
    answer_put(shard, event, began, 0)


cdef void sweep_begin(Shard *shard, Command *command, SweepKind kind) noexcept nogil:
    cdef Tenant *tenant = tenant_find(shard, command_string(command, SWEEP_TENANT_ID))
    cdef Sweep *sweep
    if tenant == NULL or (kind == SWEEP_RETAINED and tenant.retained == NULL):
        _answer(shard, command, 0, answer_begin(shard))
        command_free(command)
        return
    sweep = <Sweep *> calloc(1, sizeof(Sweep))
    if sweep != NULL and kind == SWEEP_RETAINED:
        sweep.walk = retained_walk_all(tenant.retained)
    if sweep == NULL or (kind == SWEEP_RETAINED and sweep.walk == NULL):
        free(sweep)
        command_free(command)
        return
    sweep.kind = kind
    sweep.command = command
    sweep.tenant = tenant_acquire(shard, command_string(command, SWEEP_TENANT_ID))
    sweep.next = shard.sweeps
    shard.sweeps = sweep


cdef bint _is_of_user(const Session *session, Bytes user_id) noexcept nogil:
    return user_id.size == 0 or (
        session.user_id_size == user_id.size and memcmp(session.key, user_id.data, user_id.size) == 0)


cdef bint _close_some(Shard *shard, Sweep *sweep) noexcept nogil:
    """False when no connection is left to look at."""
    cdef Bytes user_id = command_string(sweep.command, SWEEP_USER_ID)
    cdef uint32_t end = min(shard.chunk_count * _CONNECTIONS_PER_CHUNK, sweep.cursor + SWEPT_PER_TURN)
    cdef Connection *connection
    while sweep.cursor < end:
        connection = &shard.chunks[sweep.cursor // _CONNECTIONS_PER_CHUNK][sweep.cursor % _CONNECTIONS_PER_CHUNK]
        sweep.cursor += 1
        if (
            connection.state == ATTACHED
            and connection.tenant == sweep.tenant
            and _is_of_user(connection.link.session, user_id)
        ):
            sweep.count += 1
            connection_close_with(
                connection, sweep.command.reason_code, command_string(sweep.command, SWEEP_REASON_STRING),
                command_string(sweep.command, SWEEP_SERVER_REFERENCE), True)
    return sweep.cursor < shard.chunk_count * _CONNECTIONS_PER_CHUNK


cdef bint _is_to_end(const Session *session, const Sweep *sweep, uint64_t now_ms) noexcept nogil:
    if not session.is_persistent:
        return False
    if sweep.command.number == 0:
        return True
    return session.link == NULL and now_ms - session.detached_at_ms >= sweep.command.number * 1000


cdef bint _end_some(Shard *shard, Sweep *sweep) noexcept nogil:
    """False when a whole walk found no session to end."""
    cdef Session *batch[256]  # SWEEP_BATCH
    cdef Session *session
    cdef Bytes nothing
    cdef uint32_t looked_at = 0
    cdef uint32_t count = 0
    cdef uint32_t index
    nothing.data = NULL
    nothing.size = 0
    session = <Session *> pointer_map_each(&sweep.tenant.sessions, &sweep.cursor)
    while session != NULL:
        if _is_to_end(session, sweep, shard.world.now_ms):
            batch[count] = session
            count += 1
        looked_at += 1
        if looked_at == SWEPT_PER_TURN or count == SWEEP_BATCH:
            break
        session = <Session *> pointer_map_each(&sweep.tenant.sessions, &sweep.cursor)
    for index in range(count):
        if batch[index].link != NULL:
            connection_close_with(
                <Connection *> batch[index].link, REASON_ADMINISTRATIVE_ACTION, nothing, nothing, True)
        session_finish(shard, batch[index])
    sweep.count += count
    sweep.has_ended_some |= count > 0
    if session != NULL:
        return True
    sweep.cursor = 0
    if sweep.has_ended_some:
        sweep.has_ended_some = 0
        return True
    return False


cdef bint _remove_some(Shard *shard, Sweep *sweep) noexcept nogil:
    """False when the walk is over."""
    cdef void *batch[256]  # SWEEP_BATCH
    cdef bint is_done
    cdef uint32_t count = retained_walk_next(sweep.walk, batch, SWEEP_BATCH, SWEPT_PER_TURN, &is_done)
    cdef uint32_t index
    cdef Retained *retained
    for index in range(count):
        retained = <Retained *> batch[index]
        if shard.world.now_ms - retained.stored_at_ms >= sweep.command.number * 1000:
            sweep.count += 1
            retained_expire(retained)
    return not is_done


cdef bint _step(Shard *shard, Sweep *sweep) noexcept nogil:
    if sweep.kind == SWEEP_CONNECTIONS:
        return _close_some(shard, sweep)
    if sweep.kind == SWEEP_SESSIONS:
        return _end_some(shard, sweep)
    return _remove_some(shard, sweep)


cdef void _free(Shard *shard, Sweep *sweep) noexcept nogil:
    if sweep.walk != NULL:
        retained_walk_free(sweep.walk)
    tenant_release(shard, sweep.tenant)
    command_free(sweep.command)
    free(sweep)


cdef void sweeps_step(Shard *shard) noexcept nogil:
    cdef Sweep **place = &shard.sweeps
    cdef Sweep *sweep
    while place[0] != NULL:
        sweep = place[0]
        if _step(shard, sweep):
            place = &sweep.next
        else:
            place[0] = sweep.next
            # What is removed does not come back; a connection that is closed promises nothing.
            _answer(shard, sweep.command, sweep.count, (
                answer_begin(shard) - (sweep.kind != SWEEP_CONNECTIONS and sweep.count > 0)))
            _free(shard, sweep)


cdef bint sweeps_have_work(const Shard *shard) noexcept nogil:
    return shard.sweeps != NULL


cdef void sweeps_clear(Shard *shard) noexcept nogil:
    cdef Sweep *sweep
    while shard.sweeps != NULL:
        sweep = shard.sweeps
        shard.sweeps = sweep.next
        _free(shard, sweep)
