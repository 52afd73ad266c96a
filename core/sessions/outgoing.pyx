"""See outgoing.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset

from rookery.core.sessions.aliases cimport aliases_take_back, aliases_use
from rookery.core.sessions.message cimport (
    NEVER, EncodedPublish, Message, Publication, message_release, publication_keep,
)
from rookery.core.sessions.notices cimport NOTICE_MESSAGE_SENT
from rookery.core.sessions.outbox cimport (
    OUTBOX_HIGH_BYTES, REFERENCE_SIZE, Outbox, outbox_commit, outbox_refer, outbox_reserve,
)
from rookery.core.sessions.state cimport Link, Session, World
from rookery.core.sessions.witness cimport absent, is_noticed_in_debug, notice_session
from rookery.core.structures.bytes cimport copy_short
from rookery.core.wire.encode cimport (
    MESSAGE_EXPIRY_SIZE, OutgoingPublish, bound_publish, encode_publish, encode_publish_head, put_forwarded,
    put_message_expiry, put_plain_head, size_plain_body, size_publish, size_publish_head,
)
from rookery.core.wire.spec cimport FIXED_HEADER_SIZE_MAXIMUM, MQTT_5_0
from rookery.core.wire.text cimport size_variable_integer

cdef enum:
    _DUP_FLAG = 0x08
    _PUBLISH_FIRST_BYTE = 0x30


cdef inline uint32_t _seconds_left(uint64_t expires_at_ms, uint64_t now_ms) noexcept nogil:
    # The interval that came in less the whole seconds that the message has waited [MQTT-3.3.2-6].
    return <uint32_t> ((expires_at_ms - now_ms + 999) // 1000)


cdef void _outgoing(
    Publication *publication, Link *link, uint64_t now_ms, OutgoingPublish *packet
) noexcept nogil:
    memset(packet, 0, sizeof(OutgoingPublish))
    packet.topic = publication.topic
    packet.payload = publication.payload
    if link.version == MQTT_5_0:
        if publication.forwarded.size > 0:
            packet.forwarded = &publication.forwarded
        if publication.expires_at_ms != NEVER:
            packet.has_message_expiry = 1
            packet.message_expiry_interval = _seconds_left(publication.expires_at_ms, now_ms)


cdef EncodedPublish *_encoded(Publication *publication, Link *link, World *world, bint has_packet_id) noexcept nogil:
    """The packet for this version in the scratch, without flags and packet identifier; NULL when memory is short."""
    cdef EncodedPublish *encoded = &publication.encoded[2 * (link.version == MQTT_5_0) + has_packet_id]
    cdef OutgoingPublish packet
    cdef uint32_t size, offset, capacity
    cdef uint8_t *scratch
    cdef int index
    if encoded.size != 0:
        return encoded
    _outgoing(publication, link, world.now_ms, &packet)
    packet.qos = has_packet_id
    packet.packet_id = has_packet_id
    offset = 0
    for index in range(4):
        if publication.encoded[index].offset + publication.encoded[index].size > offset:
            offset = publication.encoded[index].offset + publication.encoded[index].size
    size = <uint32_t> size_publish(&packet, link.version)
    if offset + size > world.scratch_capacity:
        capacity = (offset + size) * 2
        scratch = <uint8_t *> realloc(world.scratch, capacity)
        if scratch == NULL:
            return NULL
        world.scratch = scratch
        world.scratch_capacity = capacity
    encode_publish(&packet, link.version, world.scratch + offset)
    encoded.offset = offset
    encoded.size = size
    # First byte and Remaining Length, then the topic with its two bytes of length.
    encoded.packet_id_offset = (
        _header_size(size) + 2 + <uint32_t> publication.topic.size
    )
    return encoded


cdef inline uint32_t _header_size(uint32_t packet_size) noexcept nogil:
    cdef uint32_t size = 2
    while packet_size - size >= (<uint32_t> 1 << (7 * (size - 1))):
        size += 1
    return size


cdef inline int _write_packet(Link *link, Publication *publication, const OutgoingPublish *packet) noexcept nogil:
    """As write_publish, once it is known what goes into the packet."""
    cdef Outbox *outbox = &link.outbox
    cdef Message *message
    cdef uint32_t size
    cdef uint8_t *out
    if publication.payload.size < REFERENCE_SIZE:
        if link.maximum_packet_size == 0:
            size = bound_publish(packet)
        else:
            size = <uint32_t> size_publish(packet, link.version)
            if size > link.maximum_packet_size:
                return 1
        out = outbox_reserve(outbox, size)
        if out == NULL:
            return -1
        outbox_commit(outbox, <uint32_t> encode_publish(packet, link.version, out))
        return 0
    size = <uint32_t> size_publish_head(packet, link.version)
    if link.maximum_packet_size != 0 and size + publication.payload.size > link.maximum_packet_size:
        return 1
    message = publication_keep(publication)
    if message == NULL:
        return -1
    out = outbox_reserve(outbox, size)
    if out == NULL:
        message_release(message)
        return -1
    outbox_commit(outbox, <uint32_t> encode_publish_head(packet, link.version, out))
    # The bytes lie in the kept message: a publication borrows its payload from there or from the read buffer.
    if outbox_refer(outbox, message, _kept_payload(message), message.payload_size) != 0:
        # Half a packet cannot be taken back: the payload is copied after all.
        message_release(message)
        return _append_payload(outbox, publication)
    message_release(message)
    return 0


cdef inline bint _is_plain(const Publication *publication, const Link *link, uint32_t id_count) noexcept nogil:
    """Nothing to be said about it that is this client's own, and small enough to be copied."""
    return publication.payload.size < REFERENCE_SIZE and link.aliases == NULL and (
        id_count == 0 or link.version != MQTT_5_0
    )


cdef inline bint _is_passing(const Publication *publication, const Link *link) noexcept nogil:
    """Can the packet that came go out, where _is_plain holds and the QoS is 0?"""
    return publication.packet != NULL and publication.packet_is_5 == (link.version == MQTT_5_0)


cdef inline int _pass(Link *link, const Publication *publication, uint8_t retain) noexcept nogil:
    """As write_publish: the packet that came, at once."""
    cdef uint8_t *out
    if link.maximum_packet_size != 0 and publication.packet_size > link.maximum_packet_size:
        return 1
    out = outbox_reserve(&link.outbox, publication.packet_size)
    if out == NULL:
        return -1
    memcpy(out, publication.packet, publication.packet_size)
    out[0] = _PUBLISH_FIRST_BYTE | retain
    outbox_commit(&link.outbox, publication.packet_size)
    return 0


cdef inline int _write_plain(
    Link *link, const Publication *publication, uint8_t qos, uint8_t flags, uint16_t packet_id, uint64_t now_ms
) noexcept nogil:
    """As write_publish; flags: DUP, QoS and RETAIN as in the first byte."""
    cdef Py_ssize_t properties_size = 0
    cdef Py_ssize_t body_size
    cdef uint32_t size
    cdef uint8_t *out
    cdef uint8_t *at
    if link.version == MQTT_5_0:
        properties_size = publication.forwarded.size
        if publication.expires_at_ms != NEVER:
            properties_size += MESSAGE_EXPIRY_SIZE
    body_size = size_plain_body(
        publication.topic.size, publication.payload.size, properties_size, qos, link.version)
    size = <uint32_t> body_size + FIXED_HEADER_SIZE_MAXIMUM
    # Only near the limit is it worth knowing whether the header takes two bytes or five.
    if link.maximum_packet_size != 0 and size > link.maximum_packet_size:
        if 1 + size_variable_integer(<uint32_t> body_size) + body_size > link.maximum_packet_size:
            return 1
    out = outbox_reserve(&link.outbox, size)
    if out == NULL:
        return -1
    at = put_plain_head(
        _PUBLISH_FIRST_BYTE | flags, body_size, &publication.topic, packet_id, qos, link.version, properties_size, out)
    if properties_size > 0:
        if publication.expires_at_ms != NEVER:
            at = put_message_expiry(_seconds_left(publication.expires_at_ms, now_ms), at)
        at = put_forwarded(&publication.forwarded, at)
    copy_short(at, publication.payload.data, publication.payload.size)
    outbox_commit(&link.outbox, <uint32_t> (at + publication.payload.size - out))
    return 0


cdef int _write_with_alias(
    Link *link, Publication *publication, OutgoingPublish *packet, uint64_t now_ms
) noexcept nogil:
    """As write_publish, for a client that takes topic aliases."""
    cdef bint is_known
    cdef int result
    packet.topic_alias = aliases_use(link.aliases, &publication.topic, now_ms, &is_known)
    if packet.topic_alias == 0:
        return _write_packet(link, publication, packet)
    if is_known:
        packet.topic.size = 0
        return _write_packet(link, publication, packet)
    result = _write_packet(link, publication, packet)
    if result != 0:
        aliases_take_back(link.aliases, packet.topic_alias)
        if result == 1:
            # It may be the alias that makes the packet too large.
            packet.topic_alias = 0
            result = _write_packet(link, publication, packet)
    return result


cdef int write_publish(
    Session *session, Link *link, Publication *publication, uint8_t qos, uint8_t retain, uint8_t dup,
    uint16_t packet_id, const uint32_t *subscription_ids, uint32_t subscription_id_count
) noexcept nogil:
    """One PUBLISH into the outbox. 0; 1 when it is too large for the client; -1 when memory is short."""
    cdef World *world = session.tenant.world
    cdef Outbox *outbox = &link.outbox
    cdef OutgoingPublish packet
    cdef EncodedPublish *encoded
    cdef uint8_t *out
    cdef int result
    cdef bint is_plain = _is_plain(publication, link, subscription_id_count)
    if is_plain and qos == 0 and _is_passing(publication, link):
        result = _pass(link, publication, retain)
        if result != 0:
            return result
    elif is_plain and publication.is_fanout:
        encoded = _encoded(publication, link, world, qos > 0)
        if encoded == NULL:
            return -1
        if link.maximum_packet_size != 0 and encoded.size > link.maximum_packet_size:
            return 1
        out = outbox_reserve(outbox, encoded.size)
        if out == NULL:
            return -1
        memcpy(out, world.scratch + encoded.offset, encoded.size)
        out[0] = _PUBLISH_FIRST_BYTE | (_DUP_FLAG if dup else 0) | qos << 1 | retain
        if qos > 0:
            out[encoded.packet_id_offset] = packet_id >> 8
            out[encoded.packet_id_offset + 1] = packet_id & 0xFF
        outbox_commit(outbox, encoded.size)
    elif is_plain:
        result = _write_plain(
            link, publication, qos, (_DUP_FLAG if dup else 0) | qos << 1 | retain, packet_id, world.now_ms)
        if result != 0:
            return result
    else:
        _outgoing(publication, link, world.now_ms, &packet)
        packet.qos = qos
        packet.retain = retain
        packet.dup = dup
        packet.packet_id = packet_id
        if link.version == MQTT_5_0:
            packet.subscription_ids = subscription_ids
            packet.subscription_id_count = subscription_id_count
        if link.aliases == NULL:
            result = _write_packet(link, publication, &packet)
        else:
            result = _write_with_alias(link, publication, &packet, world.now_ms)
        if result != 0:
            return result
    session.tenant.counters.sent[qos] += 1
    session.tenant.counters.sent_bytes[qos] += publication.payload.size
    if is_noticed_in_debug(session.tenant, NOTICE_MESSAGE_SENT):
        notice_session(
            session, NOTICE_MESSAGE_SENT, absent(), publication.topic, qos, packet_id, publication.payload.size, retain)
    if outbox.size > OUTBOX_HIGH_BYTES and not link.is_slow:
        publication.congested = link
    return 0


cdef inline const uint8_t *_kept_payload(const Message *message) noexcept nogil:
    return <const uint8_t *> message + sizeof(Message) + message.topic_size + message.properties_size


cdef int _append_payload(Outbox *outbox, Publication *publication) noexcept nogil:
    cdef uint8_t *out = outbox_reserve(outbox, <uint32_t> publication.payload.size)
    if out == NULL:
        return -1
    memcpy(out, publication.payload.data, publication.payload.size)
    outbox_commit(outbox, <uint32_t> publication.payload.size)
    return 0
