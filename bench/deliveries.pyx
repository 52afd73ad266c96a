from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memcpy

from rookery.bench.clients cimport (
    CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, fail, mark_dirty, now_ns, reply,
    reserve, say, take_end)
from rookery.bench.flows cimport flush_all, topic_of
from rookery.bench.histogram cimport record
from rookery.bench.ledger cimport Lane, see_next, see_one_of
from rookery.bench.load_state cimport (
    AWAIT_PUBACK, AWAIT_PUBCOMP, AWAIT_PUBREC, BAD_PACKET, CONNECT_REFUSED, DISCONNECTED, FREE, GREETING, LEAVING,
    OUT_OF_MEMORY, PACKET_TOO_LARGE, PUBLISH_REFUSED, READY, SAMPLE_MASK, STAMP_BYTES, SUBSCRIBE_REFUSED, Buffer,
    Connection, Engine, Flow, Stamp)
from rookery.bench.wire cimport wire_recv

cdef const uint8_t *LEAVE = b"\xe0\x00"


cdef inline uint32_t read_u16(const uint8_t *data) noexcept nogil:
    return (<uint32_t> data[0] << 8) | data[1]


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
