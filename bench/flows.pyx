from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rookery.bench.clients cimport mark_dirty, now_ns, reserve, say, take_end, watch
from rookery.bench.load_state cimport (
    AWAIT_PUBACK, AWAIT_PUBREC, FREE, LEAVING, PREFIX_BYTES, READY, STAMP_BYTES, Buffer, Connection, Engine, Flow,
    Stamp)
from rookery.bench.sockets cimport EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT
from rookery.bench.wire cimport wire_send

cdef const uint8_t *PING = b"\xc0\x00"

assert sizeof(Stamp) == STAMP_BYTES


cdef void lay_out(Engine *engine, uint32_t slot_size) noexcept nogil:
    """Fill the payloads of all slots; heads and stamps are written per message."""
    cdef size_t offset = 0
    cdef uint32_t filler_size = engine.payload_size - STAMP_BYTES
    while offset + slot_size <= engine.output_capacity:
        memcpy(
            engine.output + PREFIX_BYTES + offset + slot_size - filler_size,
            engine.filler,
            filler_size,
        )
        offset += slot_size
    engine.slot_size = slot_size


cdef inline uint64_t budget_of(const Engine *engine, const Flow *flow) noexcept nogil:
    """How many messages the flow may send now, packet identifiers apart."""
    cdef uint64_t bound = flow.limit
    if flow.is_open_loop:
        bound = min(bound, flow.scheduled)
    elif engine.window and flow.receivers:
        bound = min(bound, flow.completed + engine.window)
    return bound - flow.sent if bound > flow.sent else 0


cdef size_t build(Engine *engine, Flow *flow, uint64_t budget) noexcept nogil:
    """Write up to `budget` messages into the slots; returns bytes."""
    cdef uint32_t head_size = flow.head_size
    cdef uint32_t slot_size = head_size + engine.payload_size
    cdef uint32_t flow_index = <uint32_t> (flow - engine.flows)
    cdef uint32_t open_flows = engine.flow_count - engine.first_open_flow
    cdef uint64_t number
    cdef uint8_t *slot = engine.output + PREFIX_BYTES
    cdef uint8_t *first_slot = slot
    cdef uint64_t count = min(budget, <uint64_t> (engine.output_capacity // slot_size))
    cdef uint8_t *last_slot = slot + count * slot_size
    cdef const uint8_t *head = flow.heads
    cdef Stamp stamp
    if engine.slot_size != slot_size:
        lay_out(engine, slot_size)
    stamp.magic = engine.magic
    stamp.flow = flow_index
    stamp.sequence = flow.sent
    stamp.sent_ns = now_ns()
    while slot < last_slot:
        if flow.topic_count > 1:
            head = flow.heads + topic_of(flow, flow_index, stamp.sequence) * head_size
        if flow.qos and flow.handshakes[flow.next_handshake] != FREE:
            break
        memcpy(slot, head, head_size)
        if flow.qos:
            flow.handshakes[flow.next_handshake] = AWAIT_PUBACK if flow.qos == 1 else AWAIT_PUBREC
            flow.handshakes_open += 1
            engine.handshakes_open += 1
            flow.next_handshake += 1
            slot[flow.packet_id_offset] = <uint8_t> (flow.next_handshake >> 8)
            slot[flow.packet_id_offset + 1] = <uint8_t> flow.next_handshake
            if flow.next_handshake >= flow.handshake_count:
                flow.next_handshake = 0
        if flow.is_open_loop:
            number = (stamp.sequence - flow.schedule_base) * open_flows + flow.schedule_offset
            stamp.sent_ns = engine.schedule_ns + <uint64_t> (<double> number * engine.interval_ns)
        if flow.outstanding != NULL:
            flow.outstanding[stamp.sequence & flow.outstanding_mask] = flow.receivers
        memcpy(slot + head_size, &stamp, STAMP_BYTES)
        stamp.sequence += 1
        slot += slot_size
    engine.sent += stamp.sequence - flow.sent
    engine.due += (stamp.sequence - flow.sent) * flow.receivers
    flow.sent = stamp.sequence
    return slot - first_slot


cdef int flush(Engine *engine, Connection *connection) noexcept nogil:
    """Send what waits and as many new messages as may go; 1 if there is more to send at once, -1 on a fault."""
    cdef Buffer *out = &connection.out
    cdef Flow *flow = connection.flow
    cdef size_t size = out.end - out.start
    cdef size_t waiting = size
    cdef size_t built = 0
    cdef uint64_t budget = 0
    cdef uint8_t *data = out.data + out.start
    cdef ssize_t taken
    if connection.is_blocked or connection.fd < 0:
        return 0
    if flow != NULL and engine.is_publishing and connection.state == READY and waiting <= PREFIX_BYTES:
        budget = budget_of(engine, flow)
        if budget:
            built = build(engine, flow, budget)
    if built:
        data = engine.output + PREFIX_BYTES - waiting
        if waiting:
            memcpy(data, out.data + out.start, waiting)
        size = waiting + built
    if size == 0:
        return 0
    taken = wire_send(&engine.wires, &connection.wire, connection.fd, data, size)
    engine.sends += 1
    if taken < 0:
        if errno != EAGAIN and errno != EINTR:
            # What the broker said before it closed is still to be read; reading then finds the end.
            if connection.state == LEAVING:
                out.start = out.end = 0
                return 0
            return take_end(engine, connection, errno)
        taken = 0
    if built:
        out.start = out.end = 0
        if <size_t> taken < size:
            if reserve(engine, connection, out, <uint32_t> (size - taken)) < 0:
                return -1
            memcpy(out.data, data + taken, size - taken)
            out.end = <uint32_t> (size - taken)
    else:
        out.start += <uint32_t> taken
        if out.start == out.end:
            out.start = out.end = 0
    if <size_t> taken < size:
        connection.is_blocked = True
        watch(engine, connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD)
        return 0
    # An acknowledgement makes a publisher that ran out of packet identifiers dirty again.
    return built and budget_of(engine, flow) and (flow.qos == 0 or flow.handshakes[flow.next_handshake] == FREE)


cdef int flush_all(Engine *engine) noexcept nogil:
    """The end of a turn."""
    cdef uint32_t count = engine.dirty_count
    cdef uint32_t kept = 0
    cdef uint32_t index
    cdef int result
    cdef Connection *connection
    for index in range(count):
        connection = engine.dirty[index]
        result = flush(engine, connection)
        if result < 0:
            return -1
        if result:
            engine.dirty[kept] = connection
            kept += 1
        else:
            connection.is_dirty = False
    engine.dirty_count = kept
    return 0


cdef void keep_schedule(Engine *engine, uint64_t now) noexcept nogil:
    """Open loop: let the messages go that are due, and the pings."""
    cdef uint64_t position
    cdef uint32_t open_flows = engine.flow_count - engine.first_open_flow
    cdef Flow *flow
    cdef Connection *connection
    if engine.is_publishing and engine.interval_ns > 0:
        position = <uint64_t> (<double> (now - engine.schedule_ns) / engine.interval_ns) + 1
        while engine.schedule_position < position:
            flow = &engine.flows[engine.first_open_flow + engine.schedule_position % open_flows]
            flow.scheduled += 1
            if not flow.publisher.is_blocked:
                mark_dirty(engine, flow.publisher)
            engine.schedule_position += 1
    if engine.ping_interval_ns > 0:
        position = <uint64_t> (<double> (now - engine.ping_ns) / engine.ping_interval_ns) + 1
        while engine.ping_position < position:
            connection = &engine.connections[engine.ping_position % engine.connection_count]
            if connection.state == READY and say(engine, connection, PING, 2) == 0:
                engine.pings_open += 1
            engine.ping_position += 1
