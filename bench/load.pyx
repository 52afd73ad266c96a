import os
import random
import socket as sockets

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, ECONNRESET, EINPROGRESS, EINTR, errno
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from rookery.bench.histogram cimport clear, percentile, record
from rookery.bench.ledger cimport forget, release_lane, release_sightings, see_next, see_one_of
from rookery.bench.sockets cimport (
    AF_INET,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    IP_BIND_ADDRESS_NO_PORT,
    IPPROTO_IP,
    IPPROTO_TCP,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    bind,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    htonl,
    htons,
    setsockopt,
    sockaddr,
    socket,
)
from rookery.bench.sockets cimport connect as connect_socket
from rookery.bench.wire cimport WIRE_TLS, WIRE_WEBSOCKET, wire_close, wire_open, wire_recv, wire_send

from .outcome import Counts, InvalidRun, LoadError
from .packets import (
    NUMBER_DIGITS, PUBLISH_PROPERTIES, UPGRADE_REQUEST, encode_connect, encode_publish_head, encode_subscribes,
)
from .plan import Transport
from .tls import client_context, function_addresses
from rookery.server.tls.openssl import address_of_context

cdef enum:
    DIGITS = 8                  # of the client's number; the same as NUMBER_DIGITS
    FIRST_SOURCE = 0x7F000001   # 127.0.0.1
    WAIT_MS = 100               # longest sleep in one wait

cdef enum:
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBACK = 9
    PINGRESP = 13
    DISCONNECT = 14

cdef const uint8_t *LEAVE = b"\xe0\x00"
cdef const uint8_t *PING = b"\xc0\x00"

assert NUMBER_DIGITS == DIGITS
assert sizeof(Stamp) == STAMP_BYTES


# ---------------------------------------------------------------------------------------------------- small helpers

cdef uint64_t now_ns() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef inline uint32_t read_u16(const uint8_t *data) noexcept nogil:
    return (<uint32_t> data[0] << 8) | data[1]


cdef inline uint64_t scatter(uint64_t flow, uint64_t sequence) noexcept nogil:
    """A number that looks random but that the receiver can compute, too (splitmix64)."""
    cdef uint64_t mixed = sequence * 0x9E3779B97F4A7C15ULL + (flow + 1) * 0xD1B54A32D192ED03ULL
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ULL
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL
    return mixed ^ (mixed >> 31)


cdef inline uint64_t topic_of(const Flow *flow, uint64_t flow_index, uint64_t sequence) noexcept nogil:
    if flow.topic_count == 1:
        return 0
    if flow.is_random:
        return scatter(flow_index, sequence) % flow.topic_count
    return sequence % flow.topic_count


cdef int fail(Engine *engine, Fault fault, int detail, const Connection *connection) noexcept nogil:
    """Stop the run; the first fault is the one that is told."""
    if engine.fault == NO_FAULT:
        engine.fault = fault
        engine.fault_detail = detail
        engine.fault_connection = connection.index
    return -1


cdef int reserve(Engine *engine, Connection *connection, Buffer *buffer, uint32_t size) noexcept nogil:
    """Make room for `size` bytes behind the end."""
    cdef uint32_t capacity = max(buffer.capacity, <uint32_t> 256)
    cdef uint8_t *data
    if buffer.end + size <= buffer.capacity:
        return 0
    if buffer.start:
        memmove(buffer.data, buffer.data + buffer.start, buffer.end - buffer.start)
        buffer.end -= buffer.start
        buffer.start = 0
        if buffer.end + size <= buffer.capacity:
            return 0
    while buffer.end + size > capacity:
        capacity *= 2
    data = <uint8_t *> realloc(buffer.data, capacity)
    if data == NULL:
        return fail(engine, OUT_OF_MEMORY, 0, connection)
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef int say(Engine *engine, Connection *connection, const uint8_t *data, uint32_t size) noexcept nogil:
    """Send something with the next flush."""
    if reserve(engine, connection, &connection.out, size) < 0:
        return -1
    memcpy(connection.out.data + connection.out.end, data, size)
    connection.out.end += size
    mark_dirty(engine, connection)
    return 0


cdef inline int reply(Engine *engine, Connection *connection, uint8_t first, uint32_t packet_id) noexcept nogil:
    cdef uint8_t *data
    if connection.out.end + 4 > connection.out.capacity and reserve(engine, connection, &connection.out, 4) < 0:
        return -1
    data = connection.out.data + connection.out.end
    data[0] = first
    data[1] = 2
    data[2] = <uint8_t> (packet_id >> 8)
    data[3] = <uint8_t> packet_id
    connection.out.end += 4
    mark_dirty(engine, connection)
    return 0


cdef inline void mark_dirty(Engine *engine, Connection *connection) noexcept nogil:
    if not connection.is_dirty:
        connection.is_dirty = True
        engine.dirty[engine.dirty_count] = connection
        engine.dirty_count += 1


cdef void watch(Engine *engine, Connection *connection, uint32_t events, int operation) noexcept nogil:
    cdef epoll_event event
    event.events = events
    event.data.u64 = connection.index
    epoll_ctl(engine.epoll, operation, connection.fd, &event)


# ------------------------------------------------------------------------------------------------------- publishing

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


# -------------------------------------------------------------------------------------------------------- receiving

cdef void credit(Engine *engine, Flow *flow, const Lane *lane, uint64_t before) noexcept nogil:
    """A receiver's lane went on: the flow may send more once all its receivers have."""
    cdef uint64_t sequence
    cdef uint64_t completed = flow.completed
    if flow.receivers == 1:
        completed = lane.expected
    else:
        for sequence in range(before, lane.expected):
            flow.outstanding[sequence & flow.outstanding_mask] -= 1
        while completed < flow.sent and flow.outstanding[completed & flow.outstanding_mask] == 0:
            completed += 1
    if completed != flow.completed:
        flow.completed = completed
        if engine.is_publishing:
            mark_dirty(engine, flow.publisher)


cdef int take_publish(
    Engine *engine, Connection *connection, uint32_t first, const uint8_t *body, uint32_t size, uint64_t now
) noexcept nogil:
    """Enter one message into the books and acknowledge it."""
    cdef uint32_t offset
    cdef uint32_t qos = (first >> 1) & 3
    cdef uint32_t packet_id = 0
    cdef uint32_t properties
    cdef uint64_t before
    cdef uint64_t topic
    cdef Stamp stamp
    cdef Flow *flow
    cdef Lane *lane
    cdef bint is_first
    cdef bint is_redelivery = qos == 1 and (first & 8) != 0
    if size < 2:
        return fail(engine, BAD_PACKET, first, connection)
    offset = 2 + read_u16(body)
    if qos:
        if offset + 2 > size:
            return fail(engine, BAD_PACKET, first, connection)
        packet_id = read_u16(body + offset)
        offset += 2
        if packet_id == 0 or qos == 3:
            return fail(engine, BAD_PACKET, first, connection)
    if engine.version == 5:
        # A subscriber without Subscription Identifiers and Topic Aliases gets few properties: one length byte.
        if offset >= size:
            return fail(engine, BAD_PACKET, first, connection)
        properties = body[offset]
        if properties & 0x80:
            return fail(engine, BAD_PACKET, first, connection)
        offset += 1 + properties
    if qos == 1:
        if reply(engine, connection, PUBACK << 4, packet_id) < 0:
            return -1
    elif qos == 2 and take_exactly_once(engine, connection, packet_id) < 0:
        return -1
    if offset + engine.payload_size != size:
        engine.tally.damaged += 1
        return 0
    body += offset
    memcpy(&stamp, body, STAMP_BYTES)
    if stamp.magic != engine.magic or stamp.flow - connection.first_flow >= connection.flow_count:
        engine.tally.strays += 1
        return 0
    flow = &engine.flows[stamp.flow]
    lane = &connection.lanes[stamp.flow - connection.first_flow]
    if stamp.sequence >= flow.sent:
        engine.tally.invented += 1
        return 0
    if first & 7 != connection.publish_bits:
        engine.tally.misgraded += 1
    if stamp.sequence & SAMPLE_MASK == 0:
        if memcmp(body + STAMP_BYTES, engine.filler, engine.payload_size - STAMP_BYTES) != 0:
            engine.tally.damaged += 1
            return 0
    if flow.is_parted:
        if connection.topic_count:
            topic = topic_of(flow, stamp.flow, stamp.sequence)
            if topic - connection.first_topic >= connection.topic_count:
                engine.tally.strays += 1
                return 0
        is_first = see_one_of(&flow.sightings, lane, stamp.sequence, flow.receivers != 0, is_redelivery, &engine.tally)
        if is_first:
            flow.completed += 1
            if engine.is_publishing and engine.window:
                mark_dirty(engine, flow.publisher)
    else:
        before = lane.expected
        is_first = see_next(lane, stamp.sequence, is_redelivery, &engine.tally)
        if engine.window and lane.expected != before:
            credit(engine, flow, lane, before)
    if is_first:
        engine.delivered += 1
        if flow.is_timed and stamp.sent_ns >= engine.mark_ns:
            record(&engine.latency, now - stamp.sent_ns if now > stamp.sent_ns else 0, 1)
    return 0


cdef int take_exactly_once(Engine *engine, Connection *connection, uint32_t packet_id) noexcept nogil:
    """QoS 2, receiving side: the identifier is in use until PUBREL."""
    cdef uint8_t bit = <uint8_t> (1 << (packet_id & 7))
    if connection.releases == NULL:
        connection.releases = <uint8_t *> calloc(65536 // 8, 1)
        if connection.releases == NULL:
            return fail(engine, OUT_OF_MEMORY, 0, connection)
    if connection.releases[packet_id >> 3] & bit:
        engine.tally.handshakes += 1
    else:
        connection.releases[packet_id >> 3] |= bit
        engine.handshakes_open += 1
    return reply(engine, connection, PUBREC << 4, packet_id)


cdef int take_release(Engine *engine, Connection *connection, uint32_t packet_id) noexcept nogil:
    cdef uint8_t bit = <uint8_t> (1 << (packet_id & 7))
    if connection.releases == NULL or connection.releases[packet_id >> 3] & bit == 0:
        engine.tally.handshakes += 1
    else:
        connection.releases[packet_id >> 3] &= ~bit
        engine.handshakes_open -= 1
    return reply(engine, connection, PUBCOMP << 4, packet_id)


cdef int take_handshake(Engine *engine, Connection *connection, uint32_t kind, uint32_t packet_id) noexcept nogil:
    """QoS 1 and 2, sending side: one step of a message that this connection published."""
    cdef Flow *flow = connection.flow
    cdef uint8_t *state
    if flow == NULL or packet_id == 0 or packet_id > flow.handshake_count or flow.handshakes == NULL:
        engine.tally.handshakes += 1
        return 0
    state = &flow.handshakes[packet_id - 1]
    if kind == PUBREC and state[0] == AWAIT_PUBREC:
        state[0] = AWAIT_PUBCOMP
        return reply(engine, connection, PUBREL << 4 | 2, packet_id)
    if (kind == PUBACK and state[0] == AWAIT_PUBACK) or (kind == PUBCOMP and state[0] == AWAIT_PUBCOMP):
        state[0] = FREE
        flow.handshakes_open -= 1
        engine.handshakes_open -= 1
        if engine.is_publishing:
            mark_dirty(engine, connection)
        return 0
    engine.tally.handshakes += 1
    return 0


cdef int take_connack(Engine *engine, Connection *connection, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef uint64_t now
    if size < 2 or connection.state != GREETING:
        return fail(engine, BAD_PACKET, CONNACK << 4, connection)
    if body[1] != 0:
        return fail(engine, CONNECT_REFUSED, body[1], connection)
    connection.receive_maximum = 65535
    if engine.version == 5 and read_connack_properties(connection, body + 2, size - 2) < 0:
        return fail(engine, BAD_PACKET, CONNACK << 4, connection)
    if connection.flow != NULL and connection.flow.handshake_count > connection.receive_maximum:
        connection.flow.handshake_count = connection.receive_maximum
    connection.state = READY
    engine.connects += 1
    if engine.is_churning:
        now = now_ns()
        if connection.started_ns >= engine.mark_ns:
            record(&engine.latency, now - connection.started_ns, 1)
        connection.state = LEAVING
        return say(engine, connection, LEAVE, 2)
    engine.in_flight -= 1
    engine.wanted -= 1
    connection.is_wanted = False
    if engine.is_publishing and connection.flow != NULL:
        mark_dirty(engine, connection)
    return 0


cdef int read_connack_properties(Connection *connection, const uint8_t *data, uint32_t size) noexcept nogil:
    """Find Receive Maximum; -1 if the properties are not what CONNACK may have (3.2.2.3)."""
    cdef uint32_t position = 0
    cdef uint32_t length = 0
    cdef uint32_t shift = 0
    cdef uint32_t kind
    cdef uint32_t texts
    while True:
        if position >= size or shift > 21:
            return -1
        length |= <uint32_t> (data[position] & 0x7F) << shift
        shift += 7
        position += 1
        if data[position - 1] & 0x80 == 0:
            break
    if position + length != size:
        return -1
    while position < size:
        kind = data[position]
        position += 1
        texts = 0
        if kind == 33:                                          # Receive Maximum
            if position + 2 > size:
                return -1
            connection.receive_maximum = <uint16_t> read_u16(data + position)
            position += 2
        elif kind in (36, 37, 40, 41, 42):                      # one byte
            position += 1
        elif kind in (19, 34):                                  # two bytes
            position += 2
        elif kind in (17, 39):                                  # four bytes
            position += 4
        elif kind in (18, 21, 22, 26, 28, 31):                  # a text or binary data
            texts = 1
        elif kind == 38:                                        # User Property: two texts
            texts = 2
        else:
            return -1
        while texts:
            if position + 2 > size:
                return -1
            position += 2 + read_u16(data + position)
            texts -= 1
    return 0 if position == size and connection.receive_maximum else -1


cdef int take_suback(Engine *engine, Connection *connection, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef uint32_t offset = 2
    if engine.version == 5:
        if size < 3 or body[2] & 0x80:
            return fail(engine, BAD_PACKET, SUBACK << 4, connection)
        offset += 1 + body[2]
    if offset >= size or connection.subacks_due == 0:
        return fail(engine, BAD_PACKET, SUBACK << 4, connection)
    while offset < size:
        if body[offset] != connection.publish_bits >> 1:
            return fail(engine, SUBSCRIBE_REFUSED, body[offset], connection)
        offset += 1
    connection.subacks_due -= 1
    engine.subacks_due -= 1
    return 0


cdef int take_control(
    Engine *engine, Connection *connection, uint32_t first, const uint8_t *body, uint32_t size
) noexcept nogil:
    """Any packet but PUBLISH."""
    cdef uint32_t kind = first >> 4
    if PUBACK <= kind <= PUBCOMP:
        if size < 2:
            return fail(engine, BAD_PACKET, first, connection)
        if size > 2 and body[2] >= 0x80:
            return fail(engine, PUBLISH_REFUSED, body[2], connection)
        if kind == PUBREL:
            return take_release(engine, connection, read_u16(body))
        return take_handshake(engine, connection, kind, read_u16(body))
    if kind == CONNACK:
        return take_connack(engine, connection, body, size)
    if kind == SUBACK:
        return take_suback(engine, connection, body, size)
    if kind == PINGRESP and engine.pings_open:
        engine.pings_open -= 1
        engine.pings += 1
        return 0
    if kind == DISCONNECT and engine.version == 5:
        return fail(engine, DISCONNECTED, body[0] if size else 0, connection)
    return fail(engine, BAD_PACKET, first, connection)


cdef int receive(Engine *engine, Connection *connection) noexcept nogil:
    """Read once and walk all whole packets in place; what is left of the last one is kept."""
    cdef Buffer *fragment = &connection.fragment
    cdef size_t kept = fragment.end - fragment.start
    cdef uint8_t *packet = engine.input
    cdef uint8_t *flushed
    cdef uint8_t *end
    cdef uint8_t *body
    cdef uint32_t size
    cdef uint32_t shift
    cdef bint is_last
    cdef uint64_t now
    cdef ssize_t taken
    if kept:
        memcpy(engine.input, fragment.data + fragment.start, kept)
    taken = wire_recv(
        &engine.wires, &connection.wire, connection.fd, engine.input + kept, engine.input_capacity - kept)
    if taken <= 0:
        if taken < 0 and (errno == EAGAIN or errno == EINTR):
            return 0
        return take_end(engine, connection, errno if taken < 0 else 0)
    fragment.start = fragment.end = 0
    engine.receives += 1
    engine.bytes_received += <uint64_t> taken
    now = now_ns()
    end = engine.input + kept + taken
    flushed = packet
    while end - packet >= 2:
        size = packet[1]
        body = packet + 2
        if size & 0x80:
            size &= 0x7F
            shift = 7
            while body < end and shift < 28:
                size |= <uint32_t> (body[0] & 0x7F) << shift
                is_last = body[0] & 0x80 == 0
                shift += 7
                body += 1
                if is_last:
                    break
            else:
                if shift >= 28:
                    return fail(engine, BAD_PACKET, packet[0], connection)
                break
        if <size_t> (end - body) < size:
            if size + 5 > engine.input_capacity:
                return fail(engine, PACKET_TOO_LARGE, <int> size, connection)
            break
        if packet[0] >> 4 == PUBLISH:
            if take_publish(engine, connection, packet[0], body, size, now) < 0:
                return -1
        elif take_control(engine, connection, packet[0], body, size) < 0:
            return -1
        packet = body + size
        if <size_t> (packet - flushed) >= engine.output_capacity:
            # The broker goes on with this while the rest is walked.
            flushed = packet
            if flush_all(engine) < 0:
                return -1
    engine.last_receive_ns = now
    if packet < end:
        if reserve(engine, connection, fragment, <uint32_t> (end - packet)) < 0:
            return -1
        memcpy(fragment.data, packet, end - packet)
        fragment.end = <uint32_t> (end - packet)
    return 0


cdef int take_end(Engine *engine, Connection *connection, int reason) noexcept nogil:
    """The broker closed the connection, as it must after DISCONNECT; or it was never made."""
    if connection.state == GREETING and reason and reason != ECONNRESET:
        return fail(engine, CANNOT_CONNECT, reason, connection)
    if connection.state != LEAVING:
        return fail(engine, CLOSED_BY_BROKER, reason, connection)
    hang_up(engine, connection)
    if engine.is_churning:
        engine.in_flight -= 1
        return start_connection(engine, connection)
    if connection.is_wanted:
        connection.is_wanted = False
        engine.wanted -= 1
    return 0


# ------------------------------------------------------------------------------------------------------- connecting

cdef void hang_up(Engine *engine, Connection *connection) noexcept nogil:
    if connection.fd >= 0:
        wire_close(&engine.wires, &connection.wire)
        close(connection.fd)
    connection.fd = -1
    connection.state = CLOSED
    connection.is_blocked = False
    connection.out.start = connection.out.end = 0
    connection.fragment.start = connection.fragment.end = 0


cdef int start_connection(Engine *engine, Connection *connection) noexcept nogil:
    """Begin the TCP handshake and say CONNECT."""
    cdef sockaddr_in source
    cdef int on = 1
    cdef int send_buffer = SEND_BUFFER_BYTES
    cdef int result
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if connection.fd < 0:
        return fail(engine, CANNOT_CONNECT, errno, connection)
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    if engine.window == 0:
        setsockopt(connection.fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer))
    if engine.source_count:
        # The port is chosen at connect, when the kernel knows the whole pair of addresses and need not search for long.
        setsockopt(connection.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on))
        memset(&source, 0, sizeof(source))
        source.sin_family = AF_INET
        source.sin_addr.s_addr = htonl(FIRST_SOURCE + engine.next_number % engine.source_count)
        if bind(connection.fd, <sockaddr *> &source, sizeof(source)) < 0:
            return fail(engine, CANNOT_CONNECT, errno, connection)
    connection.started_ns = now_ns()
    engine.in_flight += 1
    if wire_open(&engine.wires, &connection.wire, connection.fd) < 0:
        return fail(engine, OUT_OF_MEMORY, 0, connection)
    result = connect_socket(connection.fd, <sockaddr *> &engine.address, sizeof(sockaddr_in))
    if result < 0 and errno != EINPROGRESS:
        return fail(engine, CANNOT_CONNECT, errno, connection)
    # On one machine the handshake is over by now, though connect() says EINPROGRESS. Where it is not, the CONNECT
    # packet waits like anything else that the kernel does not take.
    watch(engine, connection, EPOLLIN, EPOLL_CTL_ADD)
    return greet(engine, connection)


cdef int greet(Engine *engine, Connection *connection) noexcept nogil:
    """Send CONNECT with the number of this client in its identifier."""
    cdef uint64_t number = engine.next_number if engine.is_churning else connection.index
    cdef uint8_t *digits
    cdef int index
    engine.next_number += 1
    connection.state = GREETING
    if say(engine, connection, engine.greeting, engine.greeting_size) < 0:
        return -1
    digits = connection.out.data + connection.out.end - engine.greeting_size + engine.digits_offset
    for index in range(DIGITS - 1, -1, -1):
        digits[index] = <uint8_t> (48 + number % 10)
        number //= 10
    return 0


cdef int start_connections(Engine *engine) noexcept nogil:
    """Keep as many connections in the making as the order allows."""
    cdef Connection *connection
    while engine.in_flight < engine.in_flight_limit and engine.cursor < engine.connection_count:
        connection = &engine.connections[engine.cursor]
        engine.cursor += 1
        if connection.is_wanted and connection.state == CLOSED:
            if start_connection(engine, connection) < 0:
                return -1
    return 0


# ------------------------------------------------------------------------------------------------------------- loop

cdef bint is_reached(const Engine *engine, Goal goal) noexcept nogil:
    cdef uint32_t index
    if goal == CONNECTED or goal == GONE:
        return engine.wanted == 0
    if goal == SUBSCRIBED:
        return engine.subacks_due == 0
    if goal == DRAINED:
        return (
            engine.delivered + engine.tally.missing >= engine.due
            and engine.handshakes_open == 0
            and engine.pings_open == 0
        )
    if goal == FETCHED:
        return engine.subacks_due == 0 and engine.flows[0].sightings.floor == engine.flows[0].sent
    if goal == ANSWERED:
        return engine.pings_open == 0
    if goal == PUBLISHED:
        if engine.handshakes_open or engine.dirty_count:
            return False
        for index in range(engine.flow_count):
            if engine.flows[index].sent < engine.flows[index].limit or engine.flows[index].publisher.is_blocked:
                return False
        return True
    return False


cdef int patience_ms(const Engine *engine, uint64_t now, uint64_t until) noexcept nogil:
    """How long the next wait may take."""
    cdef uint64_t next_ns = until
    cdef uint64_t due
    if engine.dirty_count or now < engine.busy_ns + POLL_NS:
        return 0
    if engine.is_publishing and engine.interval_ns > 0:
        due = engine.schedule_ns + <uint64_t> (<double> engine.schedule_position * engine.interval_ns)
        next_ns = min(next_ns, due)
    if engine.ping_interval_ns > 0:
        due = engine.ping_ns + <uint64_t> (<double> engine.ping_position * engine.ping_interval_ns)
        next_ns = min(next_ns, due)
    if next_ns < now + SPIN_NS:
        return 0
    return <int> min((next_ns - now) // 1000000, <uint64_t> WAIT_MS)


cdef int turn(Engine *engine, uint64_t now, int timeout_ms) noexcept nogil:
    cdef epoll_event events[EVENT_LIMIT]
    cdef Connection *connection
    cdef uint32_t ready
    cdef int index
    cdef int count = epoll_wait(engine.epoll, events, EVENT_LIMIT, timeout_ms)
    engine.waits += 1
    engine.is_busy = count > 0 or engine.dirty_count > 0
    if timeout_ms or not engine.is_busy:
        engine.idle_ns += now_ns() - now
    for index in range(count):
        connection = &engine.connections[events[index].data.u64]
        ready = events[index].events
        if connection.fd < 0:
            continue
        if ready & EPOLLOUT and connection.is_blocked:
            connection.is_blocked = False
            watch(engine, connection, EPOLLIN, EPOLL_CTL_MOD)
            mark_dirty(engine, connection)
        if ready & (EPOLLIN | EPOLLHUP | EPOLLERR) and receive(engine, connection) < 0:
            return -1
    if engine.interval_ns > 0 or engine.ping_interval_ns > 0:
        keep_schedule(engine, now_ns())
    if engine.wanted and start_connections(engine) < 0:
        return -1
    return flush_all(engine)


cdef bint run_until(Engine *engine, uint64_t until, Goal goal) noexcept nogil:
    """Turn until the goal is reached (True), the time is up, or something failed."""
    cdef uint64_t now
    while engine.fault == NO_FAULT:
        if is_reached(engine, goal):
            return True
        now = now_ns()
        if engine.is_busy:
            engine.busy_ns = now
        if now >= until or turn(engine, now, patience_ms(engine, now, until)) < 0:
            return False
    return False


# ----------------------------------------------------------------------------------------------------------- Python

cdef uint64_t UNLIMITED = <uint64_t> -1
# The GIL comes back so often, for signals.
cdef double SLICE_S = 0.2


cdef class Load:
    """The clients of a plan, connected to one broker, driven by the thread that calls the methods."""

    def __cinit__(self, str host, int port, plan, traffic):
        cdef Engine *engine
        cdef uint32_t index
        cdef bytes address
        if traffic.payload_size < STAMP_BYTES:
            raise ValueError(f"payload of {traffic.payload_size} bytes, the stamp takes {STAMP_BYTES}")
        if traffic.version not in (4, 5):
            raise ValueError(f"protocol version {traffic.version} is neither 4 (3.1.1) nor 5")
        if traffic.qos not in (0, 1, 2):
            raise ValueError(f"QoS {traffic.qos} is not 0, 1 or 2")
        self.plan = plan
        self.traffic = traffic
        self.kept = []
        self.place = f"{host}:{port}"
        address = sockets.inet_aton(sockets.gethostbyname(host))
        engine = self.engine = <Engine *> calloc(1, sizeof(Engine))
        if engine == NULL:
            raise MemoryError
        engine.epoll = epoll_create1(EPOLL_CLOEXEC)
        if engine.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        engine.version = traffic.version
        engine.address.sin_family = AF_INET
        engine.address.sin_port = htons(<uint16_t> port)
        memcpy(&engine.address.sin_addr.s_addr, <const char *> address, 4)
        self.lay_wires()
        engine.source_count = traffic.sources
        engine.magic = random.getrandbits(32)
        engine.payload_size = traffic.payload_size
        engine.window = traffic.window
        engine.connection_count = len(plan.clients)
        engine.flow_count = plan.flow_count
        engine.input_capacity = max(INPUT_BYTES, 4 * (traffic.payload_size + 1024))
        engine.output_capacity = max(OUTPUT_BYTES, 4 * (traffic.payload_size + 1024))
        engine.connections = <Connection *> calloc(max(1, engine.connection_count), sizeof(Connection))
        engine.flows = <Flow *> calloc(max(1, engine.flow_count), sizeof(Flow))
        engine.dirty = <Connection **> calloc(max(1, engine.connection_count), sizeof(Connection *))
        engine.input = <uint8_t *> malloc(engine.input_capacity)
        engine.output = <uint8_t *> calloc(1, PREFIX_BYTES + engine.output_capacity)
        engine.filler = <uint8_t *> malloc(engine.payload_size)
        if (
            engine.connections == NULL
            or engine.flows == NULL
            or engine.dirty == NULL
            or engine.input == NULL
            or engine.output == NULL
            or engine.filler == NULL
        ):
            raise MemoryError
        for index in range(engine.payload_size):
            engine.filler[index] = <uint8_t> (97 + index % 26)
        for index in range(engine.connection_count):
            engine.connections[index].fd = -1
            engine.connections[index].index = index
        self.lay_flows()
        self.lay_lanes()

    def __dealloc__(self):
        cdef Engine *engine = self.engine
        cdef Connection *connection
        cdef uint32_t index
        cdef uint32_t lane
        if engine == NULL:
            return
        if engine.connections != NULL:
            for index in range(engine.connection_count):
                connection = &engine.connections[index]
                if connection.fd >= 0:
                    wire_close(&engine.wires, &connection.wire)
                    close(connection.fd)
                if connection.lanes != NULL:
                    for lane in range(connection.flow_count):
                        release_lane(&connection.lanes[lane])
                free(connection.lanes)
                free(connection.releases)
                free(connection.out.data)
                free(connection.fragment.data)
        if engine.flows != NULL:
            for index in range(engine.flow_count):
                free(engine.flows[index].outstanding)
                free(engine.flows[index].handshakes)
                release_sightings(&engine.flows[index].sightings)
        if engine.epoll >= 0:
            close(engine.epoll)
        free(engine.connections)
        free(engine.flows)
        free(engine.dirty)
        free(engine.input)
        free(engine.output)
        free(engine.filler)
        free(engine)

    cdef int lay_flows(self) except -1:
        """One flow per client that publishes; clients with the same list of topics share its heads."""
        cdef Flow *flow
        cdef uint32_t index
        cdef uint32_t flow_index = 0
        cdef bytes heads
        cdef dict known = {}
        cdef bytes properties = PUBLISH_PROPERTIES if self.traffic.has_properties else b""
        for index, client in enumerate(self.plan.clients):
            if not client.topics:
                continue
            flow = &self.engine.flows[flow_index]
            flow_index += 1
            # Retaining is not what is measured: QoS 1 tells when the broker has it.
            flow.qos = 1 if client.is_retaining else self.traffic.qos
            key = (id(client.topics), flow.qos, client.is_retaining)
            if key not in known:
                parts = [
                    encode_publish_head(
                        topic,
                        version=self.engine.version,
                        qos=flow.qos,
                        retain=client.is_retaining,
                        payload_size=self.engine.payload_size,
                        properties=properties,
                    )
                    for topic in client.topics
                ]
                if len({len(part) for part in parts}) != 1:
                    raise ValueError("the topics of a client differ in length")
                known[key] = b"".join(parts)
                self.kept.append(known[key])
            heads = known[key]
            flow.heads = <const uint8_t *> heads
            flow.topic_count = len(client.topics)
            flow.head_size = len(heads) // flow.topic_count
            if flow.qos:
                flow.packet_id_offset = flow.head_size - 2 - (self.engine.version == 5) - len(properties)
                # Twice the window: the broker may deliver a message before it acknowledges it.
                window = 0 if client.is_retaining else self.traffic.window
                flow.handshake_count = min(65535, max(16, 2 * window)) if window else HANDSHAKE_LIMIT
                flow.handshakes = <uint8_t *> calloc(flow.handshake_count, 1)
                if flow.handshakes == NULL:
                    raise MemoryError
            flow.is_parted = self.plan.is_parted or client.is_retaining
            flow.is_random = flow.topic_count > 1 and not client.is_retaining
            flow.is_timed = not client.is_retaining
            flow.receivers = 1 if self.plan.is_parted else 0
            flow.publisher = &self.engine.connections[index]
            flow.publisher.flow = flow
            if client.is_retaining:
                self.engine.first_open_flow = flow_index
        return 0

    cdef int lay_wires(self) except -1:
        """What MQTT is carried by."""
        cdef Wires *wires = &self.engine.wires
        cdef bytes request
        if self.traffic.transport is Transport.TLS:
            context = client_context()
            self.kept.append(context)
            addresses = function_addresses()
            wires.kind = WIRE_TLS
            wires.context = <void *> <size_t> address_of_context(context)
            # As integers: Cython has no other way from a Python number to a pointer to a function.
            (<size_t *> &wires.library.new)[0] = addresses["new"]
            (<size_t *> &wires.library.set_descriptor)[0] = addresses["set_descriptor"]
            (<size_t *> &wires.library.set_connect_state)[0] = addresses["set_connect_state"]
            (<size_t *> &wires.library.read)[0] = addresses["read"]
            (<size_t *> &wires.library.write)[0] = addresses["write"]
            (<size_t *> &wires.library.get_error)[0] = addresses["get_error"]
            (<size_t *> &wires.library.free)[0] = addresses["free"]
            (<size_t *> &wires.library.clear_errors)[0] = addresses["clear_errors"]
        elif self.traffic.transport is Transport.WEBSOCKET:
            request = UPGRADE_REQUEST
            self.kept.append(request)
            wires.kind = WIRE_WEBSOCKET
            wires.request = request
            wires.request_size = len(request)
        return 0

    cdef int lay_lanes(self) except -1:
        """One lane per client and flow that it receives."""
        cdef Connection *connection
        cdef Flow *flow
        cdef uint32_t index
        cdef uint64_t slots = 1
        for index, client in enumerate(self.plan.clients):
            connection = &self.engine.connections[index]
            connection.first_flow = client.receives.start
            connection.flow_count = len(client.receives)
            connection.first_topic = client.owns.start
            connection.topic_count = len(client.owns)
            connection.publish_bits = self.traffic.qos << 1 | client.is_fetching
            if connection.flow_count == 0:
                continue
            if client.receives.stop > self.engine.flow_count or client.receives.start < 0:
                raise ValueError(f"client {index} receives flows {client.receives}, there are {self.engine.flow_count}")
            connection.lanes = <Lane *> calloc(connection.flow_count, sizeof(Lane))
            if connection.lanes == NULL:
                raise MemoryError
            if not self.plan.is_parted and not client.is_fetching:
                for flow_index in client.receives:
                    self.engine.flows[flow_index].receivers += 1
        while slots < self.engine.window:
            slots *= 2
        for index in range(self.engine.flow_count):
            flow = &self.engine.flows[index]
            if self.engine.window and flow.receivers > 1:
                flow.outstanding = <uint32_t *> calloc(slots, sizeof(uint32_t))
                if flow.outstanding == NULL:
                    raise MemoryError
                flow.outstanding_mask = slots - 1
        return 0

    # Orders: what the clients do before and after they publish.

    cdef int prepare(self, bint is_clean, uint32_t in_flight) except -1:
        """Lay out the CONNECT packet of an order."""
        cdef bytes greeting
        greeting, self.engine.digits_offset = encode_connect(
            version=self.traffic.version,
            client_id_prefix=self.traffic.client_id_prefix,
            keep_alive_s=self.traffic.keep_alive_s,
            clean=is_clean,
            username=self.traffic.username,
            password=self.traffic.password,
        )
        self.kept.append(greeting)
        self.engine.greeting = <const uint8_t *> greeting
        self.engine.greeting_size = len(greeting)
        self.engine.in_flight_limit = in_flight
        self.engine.cursor = 0
        return 0

    def connect(self, clients=None, *, bint is_clean=True, uint32_t in_flight=64, double timeout_s=60):
        cdef uint32_t index
        self.prepare(is_clean, in_flight)
        for index in self.chosen(clients):
            if self.engine.connections[index].state == CLOSED:
                self.engine.connections[index].is_wanted = True
                self.engine.wanted += 1
        if not self.pursue(CONNECTED, timeout_s):
            raise LoadError(f"{self.engine.wanted} clients got no CONNACK from {self.place} within {timeout_s:g} s")

    def disconnect(self, clients=None, *, double timeout_s=60):
        cdef uint32_t index
        cdef Connection *connection
        self.engine.cursor = self.engine.connection_count
        for index in self.chosen(clients):
            connection = &self.engine.connections[index]
            if connection.state == READY:
                connection.is_wanted = True
                connection.state = LEAVING
                self.engine.wanted += 1
                say(self.engine, connection, LEAVE, 2)
        if not self.pursue(GONE, timeout_s):
            raise LoadError(f"{self.place} did not close {self.engine.wanted} connections within {timeout_s:g} s")

    def subscribe(self, clients=None, *, double timeout_s=60):
        cdef uint32_t index
        for index in self.chosen(clients):
            if not self.plan.clients[index].is_fetching:
                self.send_subscribes(index)
        if not self.pursue(SUBSCRIBED, timeout_s):
            raise LoadError(f"{self.engine.subacks_due} SUBACKs missing from {self.place} after {timeout_s:g} s")

    def send_subscribes(self, uint32_t index):
        cdef bytes packet
        cdef Connection *connection = &self.engine.connections[index]
        for packet in encode_subscribes(
            self.plan.clients[index].topic_filters, version=self.engine.version, qos=self.traffic.qos
        ):
            connection.subacks_due += 1
            self.engine.subacks_due += 1
            say(self.engine, connection, packet, <uint32_t> len(packet))

    def retain(self, *, double timeout_s=120):
        cdef Flow *flow = self.retaining_flow()
        flow.limit = flow.topic_count
        self.engine.is_publishing = True
        mark_dirty(self.engine, flow.publisher)
        reached = self.pursue(PUBLISHED, timeout_s)
        self.engine.is_publishing = False
        if not reached:
            raise LoadError(f"{self.place} acknowledged not all retained messages within {timeout_s:g} s")

    def fetch(self, *, double timeout_s=60):
        cdef Flow *flow = self.retaining_flow()
        cdef uint32_t index
        for index, client in enumerate(self.plan.clients):
            if client.is_fetching:
                forget(&flow.sightings)
                self.engine.connections[index].lanes[0].expected = 0
                self.engine.due += flow.sent
                self.send_subscribes(index)
        started = now_ns()
        if not self.pursue(FETCHED, timeout_s):
            missing = self.engine.due - self.engine.delivered
            raise LoadError(f"{missing} of {flow.sent} retained messages did not come within {timeout_s:g} s")
        return (now_ns() - started) / 1e9

    def forget_retained(self, *, double timeout_s=60):
        cdef Flow *flow = self.retaining_flow()
        cdef bytes packet
        for topic in self.plan.clients[flow.publisher.index].topics:
            packet = encode_publish_head(topic, version=self.engine.version, qos=0, retain=True, payload_size=0)
            say(self.engine, flow.publisher, packet, <uint32_t> len(packet))
        say(self.engine, flow.publisher, PING, 2)
        self.engine.pings_open += 1
        if not self.pursue(ANSWERED, timeout_s):
            raise LoadError(f"{self.place} did not answer within {timeout_s:g} s")

    cdef Flow *retaining_flow(self) except NULL:
        if self.engine.first_open_flow == 0:
            raise ValueError("the plan retains nothing")
        return &self.engine.flows[self.engine.first_open_flow - 1]

    # The measured part.

    def start(self, *, double rate=0, messages=None):
        cdef Engine *engine = self.engine
        cdef uint32_t index
        cdef Flow *flow
        if engine.flow_count == engine.first_open_flow:
            raise ValueError("the plan publishes nothing")
        engine.is_publishing = True
        engine.interval_ns = 1e9 / rate if rate else 0
        engine.schedule_ns = now_ns()
        engine.schedule_position = 0
        for index in range(engine.first_open_flow, engine.flow_count):
            flow = &engine.flows[index]
            flow.limit = UNLIMITED if messages is None else flow.sent + messages
            flow.is_open_loop = rate > 0
            flow.scheduled = flow.schedule_base = flow.sent
            flow.schedule_offset = index - engine.first_open_flow
            mark_dirty(engine, flow.publisher)

    def run(self, double seconds):
        self.pursue(NONE, seconds)

    def publish_all(self, *, double timeout_s=60):
        if not self.pursue(PUBLISHED, timeout_s):
            raise LoadError(f"{self.engine.sent} messages were sent within {timeout_s:g} s, the rest was not taken")

    def stop(self):
        self.engine.is_publishing = False
        self.engine.interval_ns = 0

    def mark(self):
        clear(&self.engine.latency)
        self.engine.mark_ns = now_ns()
        return self.counts

    def drain(self, *, double silence_s=5, double timeout_s=60):
        cdef uint64_t deadline = now_ns() + <uint64_t> (timeout_s * 1e9)
        cdef uint64_t quiet_since = now_ns()
        cdef uint64_t received = self.engine.bytes_received
        while not self.pursue(DRAINED, 0.1):
            if self.engine.bytes_received != received:
                received = self.engine.bytes_received
                quiet_since = now_ns()
            if now_ns() > deadline or now_ns() - quiet_since > silence_s * 1e9:
                return False
        return True

    def ping(self, double per_second):
        self.engine.ping_interval_ns = 1e9 / per_second if per_second else 0
        self.engine.ping_ns = now_ns()
        self.engine.ping_position = 0

    def churn(self, double seconds, *, uint32_t in_flight=64):
        cdef uint32_t index
        cdef Engine *engine = self.engine
        self.prepare(True, in_flight)
        if not engine.is_churning:
            engine.is_churning = True
            for index in range(min(in_flight, engine.connection_count)):
                start_connection(engine, &engine.connections[index])
        self.pursue(NONE, seconds)

    def check(self):
        cdef Tally *tally = &self.engine.tally
        found = {
            "lost": self.engine.due - min(self.engine.due, self.engine.delivered),
            "doubled": tally.doubled,
            "out of order": tally.reordered,
            "damaged": tally.damaged,
            "at the wrong subscriber": tally.strays,
            "never sent": tally.invented,
            "with the wrong QoS or retain flag": tally.misgraded,
            "acknowledgements out of step": tally.handshakes,
            "handshakes unfinished": self.engine.handshakes_open,
            "pings unanswered": self.engine.pings_open,
        }
        problems = {name: count for name, count in found.items() if count}
        if problems:
            raise InvalidRun(problems, self.engine.delivered)

    # What was seen.

    @property
    def counts(self):
        return Counts(
            time_ns=now_ns(),
            sent=self.engine.sent,
            due=self.engine.due,
            delivered=self.engine.delivered,
            redelivered=self.engine.tally.redelivered,
            connects=self.engine.connects,
            pings=self.engine.pings,
            receives=self.engine.receives,
            sends=self.engine.sends,
            waits=self.engine.waits,
            idle_ns=self.engine.idle_ns,
            last_receive_ns=self.engine.last_receive_ns,
        )

    def latency_ns(self, double percent):
        return percentile(&self.engine.latency, percent)

    @property
    def latency_count(self):
        return self.engine.latency.count

    def close(self):
        cdef uint32_t index
        for index in range(self.engine.connection_count):
            hang_up(self.engine, &self.engine.connections[index])

    # Inside.

    def chosen(self, clients):
        return range(self.engine.connection_count) if clients is None else clients

    cdef bint pursue(self, Goal goal, double seconds) except *:
        """Run without the GIL until the goal is reached or the time is up; raises what went wrong."""
        cdef uint64_t end = now_ns() + <uint64_t> (seconds * 1e9)
        cdef uint64_t until
        cdef bint reached
        while True:
            until = min(end, now_ns() + <uint64_t> (SLICE_S * 1e9))
            with nogil:
                reached = run_until(self.engine, until, goal)
            self.raise_fault()
            PyErr_CheckSignals()
            if reached or until >= end:
                return reached

    cdef int raise_fault(self) except -1:
        cdef int detail = self.engine.fault_detail
        cdef object text
        if self.engine.fault == NO_FAULT:
            return 0
        if self.engine.fault == CANNOT_CONNECT:
            text = f"cannot connect: {os.strerror(detail)}"
        elif self.engine.fault == CLOSED_BY_BROKER:
            text = f"closed by the broker ({os.strerror(detail) if detail else 'end of stream'})"
        elif self.engine.fault == CONNECT_REFUSED:
            text = f"CONNECT refused with code 0x{detail:02X}"
        elif self.engine.fault == SUBSCRIBE_REFUSED:
            text = f"SUBSCRIBE answered with code 0x{detail:02X}"
        elif self.engine.fault == PUBLISH_REFUSED:
            text = f"PUBLISH refused with code 0x{detail:02X}"
        elif self.engine.fault == DISCONNECTED:
            text = f"DISCONNECT from the broker with code 0x{detail:02X}"
        elif self.engine.fault == BAD_PACKET:
            text = f"malformed or unexpected packet, first byte 0x{detail:02X}"
        elif self.engine.fault == PACKET_TOO_LARGE:
            text = f"packet of {detail} bytes, longer than any that was sent"
        else:
            text = "out of memory"
        raise LoadError(f"{self.place}, client {self.engine.fault_connection}: {text}")
