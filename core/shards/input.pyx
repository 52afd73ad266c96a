"""See input.pxd.

A connection owns no buffer while it is idle. Sockets are read into the shard's one scratch buffer, behind what the
connection kept; whole packets are handled in place; what remains is kept again. A large packet is read straight into
the buffer in which it is kept, together with what follows it in the scratch.

Once a verdict is awaited or the connection is held for a congested subscriber, consuming stops between two packets.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from rookery.core.sessions.publish cimport forget_recent_topic, tenant_foresee
from rookery.core.sessions.quota cimport has_quota, quota_spend_ms
from rookery.core.sessions.state cimport RESOURCE_INBOUND_BYTES
from rookery.core.shards.admission cimport admission_request, admission_too_large
from rookery.core.shards.authentication cimport authentication_continue
from rookery.core.shards.connections cimport connection_drop, connection_ready
from rookery.core.shards.lifecycle cimport (
    connection_blame, connection_close, connection_fail, connection_lost, connection_watch,
)
from rookery.core.shards.pacing cimport pacing_count_read, pacing_hold_until, pacing_read_size
from rookery.core.shards.protocol cimport handle_packet
from rookery.core.shards.publish_run cimport run_end
from rookery.core.shards.state cimport (
    ATTACHED, AUTH_DUE, CONNECT_DUE, CONNECTION_FREE, EFFORT_MINDED, EFFORT_PER_READ, EFFORT_PER_TURN, LINGERING,
    READ_BULK_SIZE, READ_LARGE_SIZE, READ_LEAST_SIZE, READ_SIZE, TRANSPORT_MEMORY, Connection, Shard,
)
from rookery.core.shards.transport cimport (
    READ_CLOSED, READ_WOULD_BLOCK, memory_link_is_readable, transport_has_read, transport_read,
    transport_read_two,
)
from rookery.core.streams.websocket cimport websocket_complaint
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.cache cimport FORESEEN_TOPICS, cache_far_lookups
from rookery.core.wire.decode cimport (
    FRAME_HEADER, FRAME_MALFORMED, FRAME_PARTIAL, FRAME_WHOLE, are_flags_valid, read_frame,
)
from rookery.core.wire.packets cimport Frame
from rookery.core.wire.spec cimport (
    FIXED_HEADER_SIZE_MAXIMUM, PACKET_CONNECT, PACKET_PUBLISH, REASON_MALFORMED_PACKET, REASON_PACKET_TOO_LARGE,
    REASON_UNSPECIFIED_ERROR,
)


# Scattered topics
#
# Publications to random ones of a hundred thousand topics spend most of their time waiting for memory: the slot of the
# cache, its entry, what it found and the routes are four reads that each lead to the next one. Where the last bytes of
# a connection were such, the topics of the next packets are looked for together before the first is handled.

cdef enum:
    _SCATTERED_TOPICS = 8    # this many topics after each other, at least,
    _SCATTERED_BYTES = 1024  # one in so many bytes


cdef inline bint _is_consuming(const Connection *connection, uint32_t generation) noexcept nogil:
    return (
        connection.generation == generation
        and (connection.state == ATTACHED or connection.state == CONNECT_DUE or connection.state == AUTH_DUE)
        and not connection.is_held
    )


cdef void _handle_first(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    if not are_flags_valid(frame.packet_type, frame.flags):
        connection_fail(connection, b"a CONNECT with wrong flags")
    else:
        admission_request(connection, body, frame.body_size)


cdef Py_ssize_t _foresee(Connection *connection, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Fetch what the next publications will need; returns the bytes of the packets that were looked at."""
    cdef Bytes topics[FORESEEN_TOPICS]
    cdef uint32_t topic_count = 0
    cdef uint32_t packet_count = 0
    cdef Py_ssize_t seen = 0
    cdef Py_ssize_t topic_size
    cdef const uint8_t *body
    cdef Frame frame
    while packet_count < FORESEEN_TOPICS and read_frame(data + seen, size - seen, &frame) == FRAME_WHOLE:
        packet_count += 1
        body = data + seen + frame.header_size
        seen += frame.header_size + frame.body_size
        if frame.packet_type != PACKET_PUBLISH or frame.body_size < 2:
            continue
        topic_size = <Py_ssize_t> body[0] << 8 | body[1]
        if 0 < topic_size <= <Py_ssize_t> frame.body_size - 2:
            topics[topic_count].data = body + 2
            topics[topic_count].size = topic_size
            topic_count += 1
    if topic_count > 0:
        tenant_foresee(connection.tenant, topics, topic_count)
    return seen if seen > 0 else size


cdef Py_ssize_t _consume(Connection *connection, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Handle the whole packets at data; returns the bytes that they had. The connection may be gone afterwards."""
    cdef uint32_t generation = connection.generation
    cdef Shard *shard = connection.shard
    cdef uint64_t lookups = cache_far_lookups(shard.world.cache)
    cdef Py_ssize_t consumed = 0
    cdef Py_ssize_t foreseen = 0
    cdef Frame frame
    cdef int result
    while consumed < size and _is_consuming(connection, generation):
        if connection.state == CONNECT_DUE and data[consumed] >> 4 != PACKET_CONNECT:
            connection_fail(connection, b"the first packet is no CONNECT")  # [MQTT-3.1.0-1]
            break
        result = read_frame(data + consumed, size - consumed, &frame)
        if result == FRAME_HEADER:
            break
        if result == FRAME_MALFORMED and connection.state == CONNECT_DUE:
            connection_fail(connection, b"malformed fixed header")
            break
        if result == FRAME_MALFORMED:
            connection_close(connection, REASON_MALFORMED_PACKET, b"malformed fixed header", True)
            break
        if frame.header_size + frame.body_size > connection.packet_size_maximum:
            if connection.state == CONNECT_DUE:
                admission_too_large(
                    connection, data + consumed + frame.header_size, size - consumed - frame.header_size)
                break
            connection_close(connection, REASON_PACKET_TOO_LARGE, b"packet above the Maximum Packet Size", True)
            break
        if result == FRAME_PARTIAL:
            break
        if connection.state == ATTACHED:
            if connection.is_scattering and consumed >= foreseen:
                foreseen = consumed + _foresee(connection, data + consumed, size - consumed)
            handle_packet(connection, &frame, data + consumed + frame.header_size)
        elif connection.state == AUTH_DUE:
            authentication_continue(connection, &frame, data + consumed + frame.header_size)
        else:
            _handle_first(connection, &frame, data + consumed + frame.header_size)
        consumed += frame.header_size + frame.body_size
    # The topic lies in data, whose bytes go now.
    forget_recent_topic(&shard.world)
    run_end(&shard.publish_run)
    if connection.generation == generation and connection.state == ATTACHED:
        lookups = cache_far_lookups(shard.world.cache) - lookups
        connection.is_scattering = lookups > _SCATTERED_TOPICS and (
            lookups * _SCATTERED_BYTES > <uint64_t> consumed)
    return consumed


cdef uint32_t _packet_size(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Bytes of the packet that begins at data and is not all there, as far as they are known."""
    cdef Frame frame
    if read_frame(data, size, &frame) == FRAME_PARTIAL:
        return frame.header_size + frame.body_size
    return FIXED_HEADER_SIZE_MAXIMUM


cdef void _keep(Connection *connection, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Keep the bytes that were not consumed; data may lie in what is kept already."""
    cdef uint8_t *kept = NULL
    cdef uint32_t capacity = 0
    if size > 0:
        capacity = <uint32_t> size
        if _is_consuming(connection, connection.generation) and _packet_size(data, size) > capacity:
            capacity = _packet_size(data, size)
        kept = <uint8_t *> malloc(capacity)
        if kept == NULL:
            connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
            return
        memcpy(kept, data, size)
    free(connection.partial)
    connection.partial = kept
    connection.partial_size = <uint32_t> size
    connection.partial_capacity = capacity


cdef void _begin_waiting(Connection *connection) noexcept nogil:
    """For the rest of a packet: a client that sends it byte by byte would keep our memory for ever."""
    cdef Shard *shard = connection.shard
    connection.partial_since_ms = shard.world.now_ms
    if (
        connection.state == ATTACHED
        and shard.universe.packet_timeout_ms != 0
        and connection.timer.due_ms > connection.partial_since_ms + shard.universe.packet_timeout_ms
    ):
        connection_watch(connection)


cdef void _consume_and_keep(Connection *connection, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef uint32_t generation = connection.generation
    cdef Py_ssize_t consumed = _consume(connection, data, size)
    if _is_gone(connection, generation):
        return
    if consumed < size:
        if consumed > 0 or connection.partial_since_ms == 0:
            _begin_waiting(connection)
    else:
        connection.partial_since_ms = 0
    if consumed < size or connection.partial != NULL:
        _keep(connection, data + consumed, size - consumed)


cdef inline bint _is_gone(const Connection *connection, uint32_t generation) noexcept nogil:
    """Closed: nothing that it sent matters any more."""
    return (
        connection.generation != generation
        or connection.state == CONNECTION_FREE
        or connection.state == LINGERING
    )


cdef void _end_of_stream(Connection *connection) noexcept nogil:
    if connection.websocket != NULL and connection.websocket.is_broken:
        connection_blame(connection, websocket_complaint(connection.websocket))
    elif connection.state == CONNECT_DUE and connection.partial_size > 0:
        connection_blame(connection, b"the connection ended within its CONNECT")
    connection_lost(connection)


cdef void _discard(Connection *connection) noexcept nogil:
    """A closed connection: what the client still sends is thrown away until it closes its end, too."""
    cdef Py_ssize_t count = transport_read(connection, connection.shard.read_buffer, READ_LARGE_SIZE)
    if count == READ_CLOSED:
        connection_drop(connection)


cdef Py_ssize_t _read_large(Connection *connection) noexcept nogil:
    """Read on in a large packet, straight into where it is kept. The bytes that came."""
    cdef Shard *shard = connection.shard
    cdef uint32_t missing = connection.partial_capacity - connection.partial_size
    cdef uint32_t generation = connection.generation
    cdef Py_ssize_t count = transport_read_two(
        connection, connection.partial + connection.partial_size, missing, shard.read_buffer, READ_BULK_SIZE)
    cdef uint8_t *packet
    cdef uint32_t packet_size
    if count == READ_WOULD_BLOCK:
        return 0
    if count == READ_CLOSED:
        _end_of_stream(connection)
        return 0
    connection.last_receive_ms = shard.world.now_ms
    if connection.tenant != NULL:
        connection.tenant.counters.bytes_received += count
    if count < missing:
        connection.partial_size += <uint32_t> count
        return count
    packet = connection.partial
    packet_size = connection.partial_capacity
    connection.partial = NULL
    connection.partial_size = 0
    connection.partial_capacity = 0
    connection.partial_since_ms = 0
    _consume(connection, packet, packet_size)
    free(packet)
    if count > missing and not _is_gone(connection, generation):
        _consume_and_keep(connection, shard.read_buffer, count - missing)
    return count


cdef inline Py_ssize_t _least(Py_ssize_t one, Py_ssize_t other) noexcept nogil:
    return one if one < other else other


cdef void _weigh(Connection *connection, Py_ssize_t count) noexcept nogil:
    """What came with a read of count bytes was demanding, or what came before; it may have closed the connection."""
    cdef uint64_t effort = connection.effort
    cdef uint64_t limit
    connection.shard.effort += effort
    # In the same measure where less was read: a byte costs what it cost.
    if effort * READ_SIZE <= <uint64_t> EFFORT_MINDED * <uint64_t> count:
        connection.read_limit = 0
        return
    limit = <uint64_t> EFFORT_PER_READ * <uint64_t> count // effort
    if limit < READ_LEAST_SIZE:
        limit = READ_LEAST_SIZE
    connection.read_limit = <uint32_t> _least(READ_LARGE_SIZE, <Py_ssize_t> limit)


cdef Py_ssize_t _read(Connection *connection) noexcept nogil:
    """Read once and handle what came. The bytes that came."""
    cdef Shard *shard = connection.shard
    cdef uint32_t kept = connection.partial_size
    cdef Py_ssize_t size, count
    if connection.state == LINGERING:
        _discard(connection)
        return 0
    if connection.partial_capacity > READ_SIZE:
        return _read_large(connection)
    size = READ_LARGE_SIZE if connection.reads_large and connection.state == ATTACHED else READ_SIZE
    if connection.read_limit != 0:
        size = _least(size, READ_LEAST_SIZE if shard.effort > EFFORT_PER_TURN else connection.read_limit)
    if connection.tenant != NULL and connection.tenant.settings.in_bound_bandwidth != 0:
        size = pacing_read_size(connection, size)
    count = transport_read(connection, shard.read_buffer + kept, size)
    if count == READ_WOULD_BLOCK:
        return 0
    if count == READ_CLOSED:
        _end_of_stream(connection)
        return 0
    connection.reads_large = count == size
    connection.last_receive_ms = shard.world.now_ms
    if connection.tenant != NULL:
        connection.tenant.counters.bytes_received += count
    if kept > 0:
        memcpy(shard.read_buffer, connection.partial, kept)
    connection.effort = 0
    _consume_and_keep(connection, shard.read_buffer, kept + count)
    if connection.read_limit != 0 or connection.effort > EFFORT_MINDED:
        _weigh(connection, count)
    return count


cdef void _count_inbound(Connection *connection, Py_ssize_t count) noexcept nogil:
    """A tenant above its inbound bytes per second is read more slowly; nothing of it is lost."""
    cdef uint64_t due_ms = quota_spend_ms(connection.tenant, connection.link.session, RESOURCE_INBOUND_BYTES, count)
    if due_ms != 0:
        pacing_hold_until(connection, due_ms)


cdef void connection_readable(Connection *connection) noexcept nogil:
    cdef uint32_t generation = connection.generation
    cdef Py_ssize_t count = _read(connection)
    if count > 0 and connection.generation == generation and connection.state == ATTACHED:
        if connection.tenant.settings.in_bound_bandwidth != 0:
            pacing_count_read(connection, count)
        if has_quota(connection.tenant):
            _count_inbound(connection, count)
    if connection.generation == generation and connection.is_reading and transport_has_read(connection):
        # Epoll will not tell of it. While nothing is read, whoever begins again makes the connection ready.
        connection_ready(connection)


cdef void connection_resume(Connection *connection) noexcept nogil:
    cdef uint32_t generation = connection.generation
    cdef uint8_t *kept = connection.partial
    cdef uint32_t size = connection.partial_size
    if size > 0 and (connection.state == ATTACHED or connection.state == AUTH_DUE) and not connection.is_held:
        # Taken out while it is walked, so that closing the connection meanwhile cannot free it.
        connection.partial = NULL
        connection.partial_size = 0
        connection.partial_capacity = 0
        _consume_and_keep(connection, kept, size)
        free(kept)
    if connection.generation != generation or connection.state == CONNECTION_FREE:
        return
    if not connection.is_reading:
        return
    if memory_link_is_readable(connection.memory) if connection.transport == TRANSPORT_MEMORY else (
        transport_has_read(connection)
    ):
        connection_readable(connection)
