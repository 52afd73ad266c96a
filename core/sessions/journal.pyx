"""See journal.pxd. The layout of each record is in the function that writes it; restore.pyx reads the same."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rookery.core.log.batch cimport batch_begin, batch_close_group, batch_end
from rookery.core.log.format cimport GROUP_GOES_ON, put_u16, put_u32, put_u64
from rookery.core.log.writer cimport LOG_SOURCES
from rookery.core.sessions.message cimport NEVER, Publication, publication_end, publication_of
from rookery.core.sessions.state cimport Journal, Session, Tenant, World
from rookery.core.structures.atomics cimport atomic_add_u64, atomic_subtract_u64
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.names cimport ParsedFilter


cdef inline uint8_t *_begin(Journal *journal, uint8_t kind, uint32_t size) noexcept nogil:
    """Where the body goes; NULL when memory is short: then the log commits nothing any more, see LogBatch."""
    journal.record_count += 1
    return batch_begin(&journal.batch, kind | (GROUP_GOES_ON if journal.is_in_group else 0), size)


cdef inline Journal *_of(const Session *session) noexcept nogil:
    return session.tenant.world.journal


cdef void journal_begin_group(Journal *journal) noexcept nogil:
    journal.is_in_group = 1


cdef void journal_end_group(Journal *journal) noexcept nogil:
    journal.is_in_group = 0
    batch_close_group(&journal.batch)


# Lists

cdef void _append_written(Session *session) noexcept nogil:
    cdef World *world = session.tenant.world
    session.previous_written = world.last_written
    session.next_written = NULL
    if world.last_written == NULL:
        world.first_written = session
    else:
        world.last_written.next_written = session
    world.last_written = session


cdef void _remove_written(Session *session) noexcept nogil:
    cdef World *world = session.tenant.world
    if session.previous_written == NULL:
        world.first_written = session.next_written
    else:
        session.previous_written.next_written = session.next_written
    if session.next_written == NULL:
        world.last_written = session.previous_written
    else:
        session.next_written.previous_written = session.previous_written


cdef void written_to_end(Session *session) noexcept nogil:
    _remove_written(session)
    _append_written(session)


cdef void journal_is_retaining(Tenant *tenant) noexcept nogil:
    cdef World *world = tenant.world
    # What it retains from now on is written as it comes.
    tenant.checkpoint = world.checkpoint
    _append_retaining(tenant)


cdef void _append_retaining(Tenant *tenant) noexcept nogil:
    cdef World *world = tenant.world
    tenant.previous_retaining = world.last_retaining
    tenant.next_retaining = NULL
    if world.last_retaining == NULL:
        world.first_retaining = tenant
    else:
        world.last_retaining.next_retaining = tenant
    world.last_retaining = tenant


cdef void journal_retains_nothing(Tenant *tenant) noexcept nogil:
    cdef World *world = tenant.world
    if tenant.previous_retaining == NULL:
        world.first_retaining = tenant.next_retaining
    else:
        tenant.previous_retaining.next_retaining = tenant.next_retaining
    if tenant.next_retaining == NULL:
        world.last_retaining = tenant.previous_retaining
    else:
        tenant.next_retaining.previous_retaining = tenant.previous_retaining


cdef void retaining_to_end(Tenant *tenant) noexcept nogil:
    journal_retains_nothing(tenant)
    _append_retaining(tenant)


# Sessions

cdef void journal_session(Session *session, uint8_t flags) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef const Tenant *tenant = session.tenant
    cdef uint32_t names = tenant.shared.id_size + <uint32_t> session.user_id_size + session.client_id_size
    cdef bint has_creation = session.created_at_ms != 0
    cdef uint8_t *out = _begin(journal, JOURNAL_SESSION, SESSION_HEAD + names + has_creation * CREATION_SIZE)
    if out == NULL:
        return
    if session.link != NULL:
        flags |= IS_ONLINE
    put_u64(out, session.serial)
    put_u32(out + 8, session.session_expiry_interval)
    put_u16(out + 12, session.keep_alive)
    out[14] = session.version
    out[15] = flags
    put_u64(out + 16, session.detached_at_ms + journal.wall_offset_ms)
    put_u16(out + 24, tenant.shared.id_size)
    put_u16(out + 26, session.user_id_size)
    put_u16(out + 28, session.client_id_size)
    put_u16(out + 30, HAS_CREATION if has_creation else 0)
    put_u32(out + 32, journal.source)
    memcpy(out + SESSION_HEAD, tenant.shared.id, tenant.shared.id_size)
    memcpy(out + SESSION_HEAD + tenant.shared.id_size, session.key, names - tenant.shared.id_size)
    if has_creation:
        put_u64(out + SESSION_HEAD + names, session.created_at_ms + journal.wall_offset_ms)
    batch_end(&journal.batch)


cdef void _name_session(Session *session, uint8_t kind) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, kind, 8)
    if out != NULL:
        put_u64(out, session.serial)
        batch_end(&journal.batch)


cdef void _name_packet(Session *session, uint8_t kind, uint16_t packet_id) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, kind, 10)
    if out != NULL:
        put_u64(out, session.serial)
        put_u16(out + 8, packet_id)
        batch_end(&journal.batch)


cdef void journal_follow(Session *session) noexcept nogil:
    if _of(session) == NULL:
        return
    if session.is_persistent:
        if session.is_written:
            journal_session(session, 0)
            journal_will(session)
            return
        journal_is_written(session)
        journal_session(session, IS_AFRESH)
        if session.will.message != NULL:
            journal_will(session)
    elif session.is_written:
        journal_ended(session)


cdef void journal_is_written(Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    session.is_written = 1
    session.checkpoint = tenant.world.checkpoint
    _append_written(session)
    journal_concerns(tenant)


cdef void journal_ended(Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    _name_session(session, JOURNAL_ENDED)
    _remove_written(session)
    session.is_written = 0
    journal_concerns_no_more(tenant)


cdef void journal_concerns(Tenant *tenant) noexcept nogil:
    tenant.durable_users += 1
    if tenant.durable_users == 1:
        atomic_add_u64(&tenant.shared.durable_shards, <uint64_t> 1 << tenant.world.shard)


cdef void journal_concerns_no_more(Tenant *tenant) noexcept nogil:
    tenant.durable_users -= 1
    if tenant.durable_users == 0:
        atomic_subtract_u64(&tenant.shared.durable_shards, <uint64_t> 1 << tenant.world.shard)


cdef void _write_filter(uint8_t *out, const ParsedFilter *parsed) noexcept nogil:
    put_u16(out, <uint32_t> parsed.share_name.size)
    if parsed.share_name.size > 0:
        memcpy(out + 2, parsed.share_name.data, parsed.share_name.size)
    memcpy(out + 2 + parsed.share_name.size, parsed.topic_filter.data, parsed.topic_filter.size)


cdef inline uint32_t _filter_size(const ParsedFilter *parsed) noexcept nogil:
    return <uint32_t> (2 + parsed.share_name.size + parsed.topic_filter.size)


cdef void journal_subscribed(
    Session *session, const ParsedFilter *parsed, uint8_t qos, uint8_t flags, uint8_t retain_handling,
    uint32_t subscription_id
) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, JOURNAL_SUBSCRIBED, SUBSCRIBED_HEAD + _filter_size(parsed))
    if out == NULL:
        return
    put_u64(out, session.serial)
    put_u32(out + 8, subscription_id)
    out[12] = qos
    out[13] = flags
    out[14] = retain_handling
    out[15] = <uint8_t> parsed.share_kind
    _write_filter(out + SUBSCRIBED_HEAD, parsed)
    batch_end(&journal.batch)


cdef void journal_unsubscribed(Session *session, const ParsedFilter *parsed) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, JOURNAL_UNSUBSCRIBED, 9 + _filter_size(parsed))
    if out == NULL:
        return
    put_u64(out, session.serial)
    out[8] = <uint8_t> parsed.share_kind
    _write_filter(out + 9, parsed)
    batch_end(&journal.batch)


# Messages

cdef uint32_t _message_size(const Publication *publication) noexcept nogil:
    return <uint32_t> (
        MESSAGE_HEAD + publication.topic.size + publication.forwarded.size + publication.payload.size)


cdef void _write_message(Journal *journal, const Publication *publication, uint8_t *out) noexcept nogil:
    """MESSAGE_HEAD, then topic, properties and payload."""
    cdef uint32_t part
    cdef const Bytes *piece
    put_u64(out, 0 if publication.expires_at_ms == NEVER else publication.expires_at_ms + journal.wall_offset_ms)
    put_u64(out + 8, publication.publisher)
    out[16] = publication.qos
    out[17] = publication.retain
    out[18] = publication.payload_format_indicator
    out[19] = 0
    put_u32(out + 20, <uint32_t> publication.topic.size)
    put_u32(out + 24, publication.forwarded.size)
    out += MESSAGE_HEAD
    memcpy(out, publication.topic.data, publication.topic.size)
    out += publication.topic.size
    for part in range(publication.forwarded.part_count):
        piece = &publication.forwarded.parts[part]
        memcpy(out, piece.data, piece.size)
        out += piece.size
    if publication.payload.size > 0:
        memcpy(out, publication.payload.data, publication.payload.size)


cdef uint64_t journal_message(Journal *journal, const Publication *publication) noexcept nogil:
    cdef uint8_t *out = _begin(journal, JOURNAL_MESSAGE, 8 + _message_size(publication))
    cdef uint64_t number = journal.next_message
    journal.next_message += LOG_SOURCES
    if out != NULL:
        put_u64(out, number)
        _write_message(journal, publication, out + 8)
        batch_end(&journal.batch)
    return number


cdef void journal_queued(
    Session *session, Publication *publication, uint8_t qos, uint8_t retain, uint16_t packet_id,
    const uint32_t *subscription_ids, uint32_t subscription_id_count
) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint32_t group_size = 8 if publication.group != 0 else 0
    cdef uint32_t index
    cdef uint8_t *out
    if publication.journal_number == 0:
        publication.journal_number = journal_message(journal, publication)
        if publication.origin != 0:
            journal_arrived(journal, publication.journal_number, publication.origin)
    out = _begin(journal, JOURNAL_QUEUED, QUEUED_HEAD + group_size + 4 * subscription_id_count)
    if out == NULL:
        return
    put_u64(out, session.serial)
    put_u64(out + 8, publication.journal_number)
    put_u16(out + 16, packet_id)
    out[18] = qos
    out[19] = retain | (HAS_GROUP if group_size > 0 else 0)
    out += QUEUED_HEAD
    if group_size > 0:
        put_u64(out, publication.group)
    for index in range(subscription_id_count):
        put_u32(out + group_size + 4 * index, subscription_ids[index])
    batch_end(&journal.batch)


cdef void journal_sent(Session *session, uint16_t packet_id) noexcept nogil:
    _name_packet(session, JOURNAL_SENT, packet_id)


cdef void journal_dropped(Session *session, uint32_t place) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, JOURNAL_DROPPED, 12)
    if out != NULL:
        put_u64(out, session.serial)
        put_u32(out + 8, place)
        batch_end(&journal.batch)


cdef void journal_received(Session *session, uint16_t packet_id) noexcept nogil:
    _name_packet(session, JOURNAL_RECEIVED, packet_id)


cdef void journal_settled(Session *session, uint16_t packet_id) noexcept nogil:
    _name_packet(session, JOURNAL_SETTLED, packet_id)


cdef void journal_taken(Session *session, uint16_t packet_id, uint64_t number) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef uint8_t *out = _begin(journal, JOURNAL_TAKEN, TAKEN_SIZE)
    if out != NULL:
        put_u64(out, session.serial)
        put_u16(out + 8, packet_id)
        put_u64(out + 10, number)
        batch_end(&journal.batch)


cdef void journal_arrived(Journal *journal, uint64_t number, uint64_t origin) noexcept nogil:
    cdef uint8_t *out = _begin(journal, JOURNAL_ARRIVED, 16)
    if out != NULL:
        put_u64(out, number)
        put_u64(out + 8, origin)
        batch_end(&journal.batch)


cdef void journal_released(Session *session, uint16_t packet_id) noexcept nogil:
    _name_packet(session, JOURNAL_RELEASED, packet_id)


# Wills and retained messages

cdef void journal_will(Session *session) noexcept nogil:
    cdef Journal *journal = _of(session)
    cdef Publication publication
    cdef uint8_t *out
    if session.will.message == NULL:
        _name_session(session, JOURNAL_WILL_GONE)
        return
    publication_of(session.will.message, &publication)
    out = _begin(journal, JOURNAL_WILL, WILL_HEAD + _message_size(&publication))
    if out != NULL:
        put_u64(out, session.serial)
        put_u32(out + 8, session.will.delay_interval)
        put_u32(out + 12, session.will.message_expiry_interval)
        out[16] = session.will.has_message_expiry
        out[17] = session.will.is_armed
        put_u16(out + 18, 0)
        _write_message(journal, &publication, out + WILL_HEAD)
        batch_end(&journal.batch)
    publication_end(&publication)


cdef void journal_will_sent(Tenant *tenant, uint64_t number) noexcept nogil:
    cdef Journal *journal = tenant.world.journal
    cdef uint8_t *out = _begin(journal, JOURNAL_WILL_SENT, 8 + tenant.shared.id_size)
    if out != NULL:
        put_u64(out, number)
        memcpy(out + 8, tenant.shared.id, tenant.shared.id_size)
        batch_end(&journal.batch)


cdef void journal_will_spread(Journal *journal, uint64_t number) noexcept nogil:
    cdef uint8_t *out = _begin(journal, JOURNAL_WILL_SPREAD, 8)
    if out != NULL:
        put_u64(out, number)
        batch_end(&journal.batch)


cdef void journal_retained(Tenant *tenant, const Publication *publication, uint64_t stored_at_ms) noexcept nogil:
    cdef Journal *journal = tenant.world.journal
    cdef uint32_t head = 10 + tenant.shared.id_size
    cdef uint8_t *out = _begin(journal, JOURNAL_RETAINED, head + _message_size(publication))
    if out == NULL:
        return
    put_u64(out, stored_at_ms + journal.wall_offset_ms)
    put_u16(out + 8, tenant.shared.id_size)
    memcpy(out + 10, tenant.shared.id, tenant.shared.id_size)
    _write_message(journal, publication, out + head)
    batch_end(&journal.batch)


cdef void journal_cleared(Tenant *tenant, const uint8_t *topic, uint32_t topic_size) noexcept nogil:
    cdef Journal *journal = tenant.world.journal
    cdef uint32_t head = 2 + tenant.shared.id_size
    cdef uint8_t *out = _begin(journal, JOURNAL_CLEARED, head + topic_size)
    if out == NULL:
        return
    put_u16(out, tenant.shared.id_size)
    memcpy(out + 2, tenant.shared.id, tenant.shared.id_size)
    memcpy(out + head, topic, topic_size)
    batch_end(&journal.batch)
