"""See connections.pxd."""

from libc.stdint cimport UINT64_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from rookery.core.sessions.aliases cimport aliases_free
from rookery.core.sessions.outbox cimport Outbox, Segment, outbox_clear, outbox_init, outbox_join, outbox_part
from rookery.core.sessions.state cimport TIMER_CONNECTION
from rookery.core.shards.commits cimport commits_are_met, commits_hold, commits_leave
from rookery.core.shards.holding cimport holding_end
from rookery.core.shards.gate cimport gate_leave
from rookery.core.shards.pacing cimport (
    pacing_await_flush, pacing_count_flush, pacing_end, pacing_flush_size,
)
from rookery.core.shards.queues cimport event_new, event_put
from rookery.core.shards.state cimport (
    ATTACHED, AUTH_DUE, CONNECT_DUE, CONNECT_SIZE_MAXIMUM, CONNECTION_FREE,
    EVENT_AUTHENTICATION_ABANDONED, EVENT_CONNECTION_CLOSED, HELD_FOR_OTHERS, LINGER_MS, LINGERING, TRANSPORT_MEMORY,
    TRANSPORT_SOCKET, TURN_OF_NOBODY, VERDICT_DUE, Connection, Event, MemoryLink, Shard,
)
from rookery.core.shards.tenants cimport tenant_release
from rookery.core.shards.transport cimport (
    FLUSH_BLOCKED, FLUSH_DONE, FlushResult, transport_close, transport_end, transport_flush,
)
from rookery.core.structures.timers cimport wheel_arm, wheel_cancel

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_ctl(int epoll_descriptor, int operation, int descriptor, epoll_event *event)
    int EPOLL_CTL_ADD
    int EPOLL_CTL_MOD
    int EPOLLIN
    int EPOLLOUT
    int EPOLLRDHUP

cdef enum:
    _CHUNK = 256             # connections per chunk of the table
    _GENERATION_BITS = 24
    _GENERATION_MASK = 0xFFFFFF


cdef Connection *_take(Shard *shard) noexcept nogil:
    cdef Connection **chunks
    cdef Connection *chunk
    cdef Connection *connection
    cdef uint32_t place
    if shard.free_connections == NULL:
        chunks = <Connection **> realloc(shard.chunks, (shard.chunk_count + 1) * sizeof(Connection *))
        if chunks == NULL:
            return NULL
        shard.chunks = chunks
        chunk = <Connection *> calloc(_CHUNK, sizeof(Connection))
        if chunk == NULL:
            return NULL
        chunks[shard.chunk_count] = chunk
        for place in range(_CHUNK - 1, -1, -1):
            chunk[place].shard = shard
            chunk[place].index = shard.chunk_count * _CHUNK + place
            chunk[place].next = shard.free_connections
            shard.free_connections = &chunk[place]
        shard.chunk_count += 1
    connection = shard.free_connections
    shard.free_connections = connection.next
    return connection


cdef Connection *connection_new(
    Shard *shard, int descriptor, MemoryLink *memory, uint32_t listener_id, uint8_t *peer, uint16_t peer_size
) noexcept nogil:
    cdef Connection *connection = _take(shard)
    cdef uint32_t index, generation
    cdef epoll_event event
    if connection == NULL:
        return NULL
    index = connection.index
    generation = (connection.generation + 1) & _GENERATION_MASK
    if generation == 0:
        generation = 1
    memset(connection, 0, sizeof(Connection))
    connection.shard = shard
    connection.index = index
    connection.generation = generation
    connection.descriptor = descriptor
    connection.memory = memory
    connection.transport = TRANSPORT_SOCKET if memory == NULL else TRANSPORT_MEMORY
    connection.listener_id = listener_id
    connection.peer = peer
    connection.peer_size = peer_size
    connection.packet_size_maximum = CONNECT_SIZE_MAXIMUM
    connection.state = CONNECT_DUE
    connection.timer.owner = connection
    connection.timer.kind = TIMER_CONNECTION
    outbox_init(&connection.link.outbox, &shard.pool, &shard.flush_list)
    if memory == NULL:
        event.events = EPOLLIN
        event.data.u64 = <uint64_t> generation << 32 | index
        if epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_ADD, descriptor, &event) != 0:
            connection.state = CONNECTION_FREE
            connection.next = shard.free_connections
            shard.free_connections = connection
            return NULL
    if memory != NULL:
        connection.next_memory = shard.memory_connections
        shard.memory_connections = connection
    connection.is_reading = 1
    connection.last_receive_ms = shard.world.now_ms
    wheel_arm(shard.world.wheel, &connection.timer, shard.world.now_ms + shard.universe.connect_timeout_ms)
    shard.connection_count += 1
    return connection


cdef Connection *connection_find(Shard *shard, uint32_t index, uint32_t generation) noexcept nogil:
    cdef Connection *connection
    if index >= shard.chunk_count * _CHUNK:
        return NULL
    connection = &shard.chunks[index // _CHUNK][index % _CHUNK]
    if connection.generation != generation or connection.state == CONNECTION_FREE:
        return NULL
    return connection


cdef uint64_t connection_handle(const Connection *connection) noexcept nogil:
    return (
        <uint64_t> connection.shard.index << (32 + _GENERATION_BITS)
        | <uint64_t> connection.generation << 32
        | connection.index
    )


cdef Connection *connection_by_handle(Shard *shard, uint64_t handle) noexcept nogil:
    return connection_find(shard, <uint32_t> handle, <uint32_t> (handle >> 32) & _GENERATION_MASK)


cdef void connection_want(Connection *connection, bint reading, bint writing) noexcept nogil:
    cdef epoll_event event
    if connection.is_reading == reading and connection.is_writable_awaited == writing:
        return
    if reading and not connection.is_reading and connection.partial_since_ms != 0:
        connection.partial_since_ms = connection.shard.world.now_ms  # Before, the rest could not be heard.
    connection.is_reading = reading
    connection.is_writable_awaited = writing
    if connection.transport == TRANSPORT_MEMORY:
        return
    event.events = (EPOLLIN if reading else 0) | (EPOLLOUT if writing else 0)
    event.data.u64 = <uint64_t> connection.generation << 32 | connection.index
    epoll_ctl(connection.shard.epoll_descriptor, EPOLL_CTL_MOD, connection.descriptor, &event)


cdef void connection_ready(Connection *connection) noexcept nogil:
    if not connection.is_ready:
        connection.is_ready = 1
        connection.next = connection.shard.ready
        connection.shard.ready = connection


cdef void _leave_lists(Connection *connection) noexcept nogil:
    cdef Connection **place
    if connection.is_held & HELD_FOR_OTHERS:
        place = &connection.shard.held
        while place[0] != connection:
            place = &place[0].next_held
        place[0] = connection.next_held
        connection.is_held &= ~HELD_FOR_OTHERS
    commits_leave(connection)
    if connection.is_ready:
        place = &connection.shard.ready
        while place[0] != connection:
            place = &place[0].next
        place[0] = connection.next
        connection.is_ready = 0


cdef void connection_end_exchange(Connection *connection) noexcept nogil:
    if connection.authentication == NULL:
        return
    if connection.authentication.is_exchange:
        connection.authentication.is_exchange = 0
        connection.shard.pending_authentications -= 1
    if connection.authentication.turn != TURN_OF_NOBODY:
        connection.authentication.turn = TURN_OF_NOBODY
        connection.shard.pending_reauthentications -= 1


cdef void connection_forget_authentication(Connection *connection) noexcept nogil:
    connection_end_exchange(connection)
    free(connection.authentication)
    connection.authentication = NULL


cdef void _abandon_authentication(Connection *connection) noexcept nogil:
    cdef Event *event
    if (
        connection.state == AUTH_DUE
        or connection.state == VERDICT_DUE
        or connection.authentication.turn != TURN_OF_NOBODY
    ):
        # Without memory for it the control plane gives up at its own deadline.
        event = event_new(EVENT_AUTHENTICATION_ABANDONED, connection_handle(connection), NULL, 0)
        if event != NULL:
            event_put(connection.shard, event)
    connection_forget_authentication(connection)


cdef void _forget_request(Connection *connection) noexcept nogil:
    """What the connection holds beside its outbox."""
    cdef uint32_t number
    if connection.authentication != NULL:
        _abandon_authentication(connection)
    if connection.state == VERDICT_DUE:
        connection.shard.pending_connects -= 1
    for number in range(connection.alias_count):
        free(connection.aliases[number].topic)
    free(connection.aliases)
    connection.aliases = NULL
    connection.alias_count = 0
    aliases_free(connection.link.aliases)
    connection.link.aliases = NULL
    free(connection.connect_body)
    connection.connect_body = NULL
    free(connection.additions)
    connection.additions = NULL
    free(connection.partial)
    connection.partial = NULL
    connection.partial_size = 0
    connection.partial_capacity = 0
    _leave_lists(connection)
    pacing_end(connection)
    if connection.tenant != NULL:
        tenant_release(connection.shard, connection.tenant)
        connection.tenant = NULL


cdef void _leave_memory_list(Connection *connection) noexcept nogil:
    cdef Connection **place = &connection.shard.memory_connections
    while place[0] != NULL:
        if place[0] == connection:
            place[0] = connection.next_memory
            return
        place = &place[0].next_memory


cdef void connection_report_closed(Shard *shard, uint64_t ticket) noexcept nogil:
    cdef Event *event = event_new(EVENT_CONNECTION_CLOSED, ticket, NULL, 0)
    # Without memory for it the control plane counts a connection too many.
    if event != NULL:
        event_put(shard, event)


cdef void connection_drop(Connection *connection) noexcept nogil:
    cdef Shard *shard = connection.shard
    if connection.ticket != 0:
        connection_report_closed(shard, connection.ticket)
    if connection.is_counted:
        gate_leave(shard.universe.gate, connection.listener_id, connection.network, shard.world.now_ms)
    _forget_request(connection)
    if shard.memory_connections != NULL:
        _leave_memory_list(connection)
    transport_close(connection)
    wheel_cancel(shard.world.wheel, &connection.timer)
    outbox_clear(&connection.link.outbox)
    free(connection.peer)
    connection.peer = NULL
    connection.state = CONNECTION_FREE
    shard.connection_count -= 1
    # An outbox in the flush list must stay where it is: the flush gives the connection back.
    if not connection.link.outbox.is_dirty:
        connection_release(connection)


cdef void connection_release(Connection *connection) noexcept nogil:
    connection.next = connection.shard.free_connections
    connection.shard.free_connections = connection


cdef void connection_linger(Connection *connection) noexcept nogil:
    cdef Shard *shard = connection.shard
    _forget_request(connection)
    connection.state = LINGERING
    wheel_arm(shard.world.wheel, &connection.timer, shard.world.now_ms + LINGER_MS)
    connection_want(connection, True, connection.is_writable_awaited)
    if connection.link.outbox.size == 0:
        transport_end(connection)


cdef bint _is_paced(const Connection *connection) noexcept nogil:
    return (
        connection.tenant != NULL
        and connection.tenant.settings.out_bound_bandwidth != 0
        and connection.state == ATTACHED
    )


cdef bint _pause_flush(Connection *connection) noexcept nogil:
    """Its rate, and not the kernel, keeps bytes in the outbox."""
    pacing_await_flush(connection)
    connection.blocked_since_ms = 0
    connection_want(connection, connection.is_reading, False)
    return True


cdef bint connection_flush(Connection *connection) noexcept nogil:
    cdef Outbox *outbox = &connection.link.outbox
    cdef bint is_paced = _is_paced(connection)
    cdef uint64_t size = UINT64_MAX
    cdef Segment *rest = NULL
    cdef uint64_t waiting, sent
    cdef FlushResult result
    if connection.link.due.batch | connection.link.due.shards and not commits_are_met(connection):
        commits_hold(connection)
        return True
    if is_paced:
        size = pacing_flush_size(connection)
        if size == 0:
            return _pause_flush(connection)
        if connection.websocket != NULL and size < connection.websocket.frame_left:
            size = connection.websocket.frame_left  # The header of a frame has promised it.
        if connection.tls != NULL and size < connection.tls.blocked_size:
            size = connection.tls.blocked_size  # OpenSSL wants to be offered the same bytes again.
        rest = outbox_part(outbox, size)
    waiting = outbox.size
    result = transport_flush(connection)
    sent = waiting - outbox.size
    if connection.tenant != NULL:
        connection.tenant.counters.bytes_sent += sent
    if is_paced:
        pacing_count_flush(connection, sent)
        outbox_join(outbox, rest)
        if rest != NULL and result == FLUSH_DONE:
            return _pause_flush(connection)
    if result == FLUSH_DONE:
        connection.blocked_since_ms = 0
        holding_end(connection)
        connection_want(connection, connection.is_reading, False)
        if connection.state == LINGERING:
            transport_end(connection)
        return True
    if result == FLUSH_BLOCKED:
        # The stall clock starts anew with every byte that the client takes.
        if connection.blocked_since_ms == 0 or sent > 0:
            connection.blocked_since_ms = connection.shard.world.now_ms
        connection_want(connection, connection.is_reading, True)
        return True
    if connection.state != CONNECTION_FREE and connection.link.session == NULL:
        connection_drop(connection)
    return False
