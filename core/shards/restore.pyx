"""See restore.pxd."""

from libc.stdint cimport UINT32_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from rookery.core.log.format cimport KIND_HOLE, get_u16, get_u32, get_u64
from rookery.core.log.writer cimport LOG_SOURCES, log_submit
from rookery.core.sessions.inbox cimport Delivery, delivery_clear, inbox_at, inbox_drop, inbox_pop, inbox_push
from rookery.core.sessions.inflight cimport (
    PUBACK_DUE, PUBCOMP_DUE, PUBREC_DUE, inflight_find, inflight_received, inflight_remove, inflight_restore,
    inflight_rewind,
)
from rookery.core.sessions.journal cimport (
    HAS_GROUP, IS_AFRESH, IS_ONLINE, JOURNAL_ARRIVED, JOURNAL_CLEARED, JOURNAL_DROPPED, JOURNAL_ENDED,
    JOURNAL_MESSAGE, JOURNAL_QUEUED, JOURNAL_RELEASED, JOURNAL_RETAINED, JOURNAL_SENT, JOURNAL_SESSION,
    JOURNAL_SETTLED, JOURNAL_SUBSCRIBED, JOURNAL_TAKEN, JOURNAL_UNSUBSCRIBED, JOURNAL_WILL, JOURNAL_WILL_GONE,
    JOURNAL_WILL_SENT, JOURNAL_WILL_SPREAD,
    CREATION_SIZE, HAS_CREATION, MESSAGE_HEAD, QUEUED_HEAD, SESSION_HEAD, SUBSCRIBED_HEAD, TAKEN_SIZE, WILL_HEAD,
    journal_is_written, journal_session,
)
from rookery.core.sessions.message cimport (
    NEVER, Message, Publication, message_acquire, message_is_read, message_new, message_release,
    publication_end, publication_keep_waiting,
)
from rookery.core.sessions.retain cimport RETAIN_NO_MEMORY, tenant_retain_at
from rookery.core.sessions.quota cimport session_measure
from rookery.core.sessions.session cimport session_end, session_find, session_new
from rookery.core.sessions.state cimport NO_LOCAL, RETAIN_AS_PUBLISHED, Session, Tenant, World
from rookery.core.sessions.subscriptions cimport SUBSCRIBE_NO_MEMORY, session_subscribe, session_unsubscribe
from rookery.core.shards.ownership cimport owner_shard, session_key_hash
from rookery.core.shards.errands cimport errands_send
from rookery.core.shards.lifecycle cimport session_await_end
from rookery.core.shards.mailbox cimport mail_hand_over
from rookery.core.shards.redelivery cimport (
    number_hash, redelivery_arrived, redelivery_clear, redelivery_end, redelivery_released, redelivery_retained,
    redelivery_run, redelivery_taken, redelivery_will_sent, redelivery_will_spread, session_of_serial,
)
from rookery.core.shards.registry cimport home_shard_of
from rookery.core.shards.state cimport Shard, Universe
from rookery.core.shards.tenants cimport tenant_acquire, tenant_release
from rookery.core.shards.turn cimport turn_take_mail
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.structures.number_index cimport (
    number_index_clear, number_index_each, number_index_get, number_index_put)
from rookery.core.structures.packet_ids cimport packet_ids_add, packet_ids_remove
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_each, pointer_map_first, pointer_map_free, pointer_map_remove,
)
from rookery.core.topics.names cimport ParsedFilter, ShareKind


cdef inline int _fault(Restore *restore, const char *text) noexcept nogil:
    restore.fault = text
    return -1


cdef inline Bytes _bytes(const uint8_t *data, uint32_t size) noexcept nogil:
    cdef Bytes bytes
    bytes.data = data
    bytes.size = size
    return bytes


cdef inline Session *_session(Restore *restore, uint64_t serial) noexcept nogil:
    """NULL for one that has ended: what the log says of it before it was cut off at the front."""
    return session_of_serial(&restore.sessions, serial)


cdef Message *_numbered(Restore *restore, uint64_t number) noexcept nogil:
    return <Message *> number_index_get(&restore.messages[number % LOG_SOURCES], number // LOG_SOURCES)


cdef uint64_t _origin(Restore *restore, uint64_t number) noexcept nogil:
    """What the message is a copy of; itself when it is none."""
    cdef uint32_t cursor
    # Different numbers have different hashes.
    cdef void *origin = pointer_map_first(&restore.origins, number_hash(number), &cursor)
    return <uint64_t> <size_t> origin if origin != NULL else number


cdef void _end(Restore *restore, Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef Shard *shard = restore.universe.shards[tenant.world.shard]
    tenant.users += 1
    pointer_map_remove(&restore.sessions, number_hash(session.serial), session)
    session_end(session)
    tenant_release(shard, tenant)


# Sessions

cdef Session *_new(Restore *restore, uint64_t serial, Bytes tenant_id, Bytes user_id, Bytes client_id) noexcept nogil:
    cdef Universe *universe = restore.universe
    cdef uint64_t key_hash = session_key_hash(universe.shards[0], user_id, client_id)
    cdef Shard *shard = universe.shards[owner_shard(universe.shards[0], tenant_id, key_hash)]
    cdef Tenant *tenant = tenant_acquire(shard, tenant_id)
    cdef Session *session
    if tenant == NULL:
        return NULL
    session = session_find(
        tenant, key_hash, user_id.data, <uint16_t> user_id.size, client_id.data, <uint16_t> client_id.size)
    if session != NULL:
        _end(restore, session)  # Its end was cut off.
    # Limits of a tenant bound what clients may ask for, not what they have.
    tenant.settings.max_topic_filters_per_inbox = UINT32_MAX
    tenant.settings.max_shared_group_members = UINT32_MAX
    session = session_new(
        tenant, key_hash, user_id.data, <uint16_t> user_id.size, client_id.data, <uint16_t> client_id.size)
    if session != NULL:
        session.serial = serial
        session.is_persistent = 1
        if pointer_map_add(&restore.sessions, number_hash(serial), session) != 0:
            session_end(session)
            session = NULL
    tenant_release(shard, tenant)
    return session


cdef int _apply_session(Restore *restore, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef uint64_t serial = get_u64(body)
    cdef uint32_t tenant_size = get_u16(body + 24)
    cdef uint32_t user_size = get_u16(body + 26)
    cdef uint32_t client_size = get_u16(body + 28)
    cdef const uint8_t *names = body + SESSION_HEAD
    cdef Session *session = _session(restore, serial)
    cdef uint64_t offline_ms
    cdef uint32_t names_end = SESSION_HEAD + tenant_size + user_size + client_size
    cdef bint has_creation = get_u16(body + 30) & HAS_CREATION
    if names_end + has_creation * CREATION_SIZE != size:
        return _fault(restore, b"a session's names do not fill its record")
    if session != NULL and body[15] & IS_AFRESH:
        _end(restore, session)
        session = NULL
    if session == NULL:
        if not body[15] & IS_AFRESH:
            return 0  # Its beginning was cut off: either it ends later on, or it is written anew.
        session = _new(
            restore, serial, _bytes(names, tenant_size), _bytes(names + tenant_size, user_size),
            _bytes(names + tenant_size + user_size, client_size))
        if session == NULL:
            return _fault(restore, b"out of memory")
    session.session_expiry_interval = get_u32(body + 8)
    session.keep_alive = <uint16_t> get_u16(body + 12)
    session.version = body[14]
    session.created_at_ms = 0
    if has_creation:
        session.created_at_ms = restore.now_ms - (restore.unix_ms - get_u64(body + names_end))
    session.detached_at_ms = 0
    if not body[15] & IS_ONLINE:
        offline_ms = restore.unix_ms - get_u64(body + 16) if get_u64(body + 16) < restore.unix_ms else 0
        session.detached_at_ms = restore.now_ms - offline_ms
    if serial > restore.highest_serial:
        restore.highest_serial = serial
    return 0


cdef int _parse(
    Restore *restore, const uint8_t *data, uint32_t size, uint8_t kind, ParsedFilter *parsed
) noexcept nogil:
    cdef uint32_t name_size
    memset(parsed, 0, sizeof(ParsedFilter))
    if size < 2 or 2 + get_u16(data) > size or kind > 2:
        return _fault(restore, b"a topic filter is cut short")
    name_size = get_u16(data)
    parsed.share_kind = <ShareKind> kind
    parsed.share_name = _bytes(data + 2, name_size)
    parsed.topic_filter = _bytes(data + 2 + name_size, size - 2 - name_size)
    return 0


cdef int _apply_subscribed(
    Restore *restore, Session *session, const uint8_t *body, uint32_t size
) noexcept nogil:
    cdef ParsedFilter parsed
    if _parse(restore, body + SUBSCRIBED_HEAD, size - SUBSCRIBED_HEAD, body[15], &parsed) != 0:
        return -1
    if session_subscribe(
        session, &parsed, body[12], body[13] & (NO_LOCAL | RETAIN_AS_PUBLISHED), body[14], get_u32(body + 8)
    ) == SUBSCRIBE_NO_MEMORY:
        return _fault(restore, b"out of memory")
    return 0


cdef int _apply_unsubscribed(
    Restore *restore, Session *session, const uint8_t *body, uint32_t size
) noexcept nogil:
    cdef ParsedFilter parsed
    if _parse(restore, body + 9, size - 9, body[8], &parsed) != 0:
        return -1
    session_unsubscribe(session, &parsed)
    return 0


# Messages

cdef int _read_message(
    Restore *restore, const uint8_t *data, uint32_t size, Publication *publication
) noexcept nogil:
    """Borrows from data."""
    cdef uint32_t topic_size, properties_size
    cdef uint64_t expires_ms
    memset(publication, 0, sizeof(Publication))
    if size < MESSAGE_HEAD:
        return _fault(restore, b"a message is cut short")
    topic_size = get_u32(data + 20)
    properties_size = get_u32(data + 24)
    if <uint64_t> MESSAGE_HEAD + topic_size + properties_size > size:
        return _fault(restore, b"a message is cut short")
    expires_ms = get_u64(data)
    publication.expires_at_ms = NEVER
    if expires_ms != 0:
        # One that has expired meanwhile goes the way of all expired ones: the clock of the shards is beyond 1.
        publication.expires_at_ms = restore.now_ms + expires_ms - restore.unix_ms if (
            expires_ms > restore.unix_ms) else 1
    publication.publisher = get_u64(data + 8)
    publication.qos = data[16]
    publication.retain = data[17]
    publication.payload_format_indicator = data[18]
    data += MESSAGE_HEAD
    publication.topic = _bytes(data, topic_size)
    if properties_size > 0:
        publication.forwarded.parts[0] = _bytes(data + topic_size, properties_size)
        publication.forwarded.part_count = 1
        publication.forwarded.size = properties_size
    publication.payload = _bytes(
        data + topic_size + properties_size, size - MESSAGE_HEAD - topic_size - properties_size)
    return 0


cdef int _apply_message(Restore *restore, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef Publication publication
    cdef World *world = &restore.universe.shards[0].world
    cdef uint64_t number = get_u64(body)
    cdef Message *message
    if _read_message(restore, body + 8, size - 8, &publication) != 0:
        return -1
    if number > restore.highest_message:
        restore.highest_message = number
    if _numbered(restore, number) != NULL:
        return 0  # Another shard has written it as well.
    message = publication_keep_waiting(&publication, world.spill, world.spill_after_bytes)
    publication_end(&publication)
    if message == NULL or number_index_put(
            &restore.messages[number % LOG_SOURCES], number // LOG_SOURCES, message) != 0:
        message_release(message)
        return _fault(restore, b"out of memory")
    return 0


cdef int _apply_queued(Restore *restore, Session *session, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef uint64_t number = get_u64(body + 8)
    cdef Message *message = _numbered(restore, number)
    cdef uint16_t packet_id = <uint16_t> get_u16(body + 16)
    cdef uint32_t head = QUEUED_HEAD + (8 if body[19] & HAS_GROUP else 0)
    cdef uint32_t count = (size - head) // 4 if size > head else 0
    cdef uint32_t index
    cdef uint64_t group
    cdef Delivery delivery
    if message == NULL and restore.has_holes:
        return 0
    if message == NULL:
        return _fault(restore, b"a delivery names a message that the log does not have")
    if body[18] > 2 or (body[18] == 0 and packet_id != 0) or size != head + 4 * count:
        return _fault(restore, b"a delivery makes no sense")
    group = get_u64(body + QUEUED_HEAD) if head > QUEUED_HEAD else 0
    if body[18] > 0 and redelivery_arrived(&restore.redelivery, _origin(restore, number), session.serial, group) != 0:
        return _fault(restore, b"out of memory")
    memset(&delivery, 0, sizeof(delivery))
    delivery.qos = body[18]
    delivery.is_written = delivery.qos == 0
    delivery.retain = body[19] & ~HAS_GROUP
    delivery.message = message
    if count > 0:
        delivery.subscription_ids = <uint32_t *> malloc((count + 1) * sizeof(uint32_t))
        if delivery.subscription_ids == NULL:
            return _fault(restore, b"out of memory")
        delivery.subscription_ids[0] = count
        for index in range(count):
            delivery.subscription_ids[1 + index] = get_u32(body + head + 4 * index)
    message_acquire(delivery.message)
    if packet_id == 0:
        if inbox_push(&session.inbox, &delivery) == 0:
            return 0
    elif _send(session, packet_id, &delivery) == 0:
        return 0
    delivery_clear(&delivery)
    return _fault(restore, b"out of memory")


cdef int _send(Session *session, uint16_t packet_id, const Delivery *delivery) noexcept nogil:
    """Takes over what the delivery owns, unless memory is short."""
    return inflight_restore(
        &session.inflight, packet_id, delivery.message, delivery.subscription_ids,
        PUBACK_DUE if delivery.qos == 1 else PUBREC_DUE, delivery.retain)


cdef int _apply_sent(Restore *restore, Session *session, uint16_t packet_id) noexcept nogil:
    cdef Delivery delivery
    if packet_id == 0 or not inbox_pop(&session.inbox, &delivery):
        return 0 if restore.has_holes else _fault(restore, b"a delivery was sent that the inbox does not have")
    if _send(session, packet_id, &delivery) != 0:
        delivery_clear(&delivery)
        return _fault(restore, b"out of memory")
    return 0


cdef int _apply_dropped(Restore *restore, Session *session, uint32_t place) noexcept nogil:
    cdef Delivery popped
    cdef Delivery *delivery
    cdef uint32_t index
    if place == 0:
        if inbox_pop(&session.inbox, &popped):
            delivery_clear(&popped)
            return 0
    else:
        for index in range(session.inbox.length):
            delivery = inbox_at(&session.inbox, index)
            if delivery == NULL:
                continue
            if place == 0:
                inbox_drop(&session.inbox, delivery)
                return 0
            place -= 1
    return 0 if restore.has_holes else _fault(restore, b"a delivery was dropped that the inbox does not have")


cdef int _apply_taken(Restore *restore, Session *session, uint16_t packet_id, uint64_t number) noexcept nogil:
    cdef Message *message
    if packet_ids_add(&session.received, packet_id) < 0:
        return _fault(restore, b"out of memory")
    if number == 0:
        return 0  # A checkpoint's, which does not say anew what is under way to other shards.
    message = _numbered(restore, number)
    if message == NULL:
        return 0 if restore.has_holes else _fault(restore, b"a message was taken that the log does not have")
    if redelivery_taken(&restore.redelivery, session.serial, packet_id, number, message) != 0:
        return _fault(restore, b"out of memory")
    return 0


cdef int _apply_arrived(Restore *restore, uint64_t number, uint64_t origin) noexcept nogil:
    if number == 0:
        redelivery_retained(&restore.redelivery, origin)
    elif origin != 0 and origin != number and _origin(restore, number) == number:
        if pointer_map_add(&restore.origins, number_hash(number), <void *> <size_t> origin) != 0:
            return _fault(restore, b"out of memory")
    return 0


cdef int _apply_packet(
    Restore *restore, Session *session, uint8_t kind, uint16_t packet_id
) noexcept nogil:
    if kind == JOURNAL_SENT:
        return _apply_sent(restore, session, packet_id)
    if kind == JOURNAL_RELEASED:
        packet_ids_remove(&session.received, packet_id)
        redelivery_released(&restore.redelivery, session.serial, packet_id)
        return 0
    if kind == JOURNAL_SETTLED:
        if inflight_find(&session.inflight, packet_id) != NULL:
            inflight_remove(&session.inflight, packet_id)
        return 0
    if inflight_find(&session.inflight, packet_id) != NULL:
        inflight_received(&session.inflight, packet_id)
        return 0
    if packet_id == 0 or inflight_restore(&session.inflight, packet_id, NULL, NULL, PUBCOMP_DUE, 0) != 0:
        return _fault(restore, b"out of memory")
    return 0


# Wills and retained messages

cdef int _apply_will(Restore *restore, Session *session, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef Publication publication
    if _read_message(restore, body + WILL_HEAD, size - WILL_HEAD, &publication) != 0:
        return -1
    message_release(session.will.message)
    memset(&session.will, 0, sizeof(session.will))
    session.will.message = message_new(&publication)
    session.will.delay_interval = get_u32(body + 8)
    session.will.message_expiry_interval = get_u32(body + 12)
    session.will.has_message_expiry = body[16]
    return 0 if session.will.message != NULL else _fault(restore, b"out of memory")


cdef Tenant *_home(Restore *restore, Bytes tenant_id) noexcept nogil:
    """The tenant on the shard that keeps its retained messages, one user more; NULL when memory is short."""
    cdef Universe *universe = restore.universe
    cdef uint64_t hash = hash_bytes(&universe.key, tenant_id.data, tenant_id.size)
    return tenant_acquire(universe.shards[home_shard_of(hash, universe.shard_count)], tenant_id)


cdef int _apply_will_sent(Restore *restore, uint64_t number, Bytes tenant_id) noexcept nogil:
    cdef Message *message = _numbered(restore, number)
    cdef Tenant *tenant
    if message == NULL:
        return 0 if restore.has_holes else _fault(restore, b"a will was sent that the log does not have")
    tenant = _home(restore, tenant_id)
    if tenant == NULL or redelivery_will_sent(
        &restore.redelivery, restore.universe.shards[tenant.world.shard], tenant, number, message
    ) != 0:
        return _fault(restore, b"out of memory")
    return 0


cdef int _retain(
    Restore *restore, Bytes tenant_id, Publication *publication, uint64_t stored_at_ms
) noexcept nogil:
    cdef Tenant *tenant = _home(restore, tenant_id)
    cdef int result
    if tenant == NULL:
        return _fault(restore, b"out of memory")
    result = tenant_retain_at(tenant, publication, stored_at_ms)
    publication_end(publication)
    tenant_release(restore.universe.shards[tenant.world.shard], tenant)
    return 0 if result != RETAIN_NO_MEMORY else _fault(restore, b"out of memory")


cdef int _apply_retained(Restore *restore, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef Publication publication
    cdef uint32_t head = 10 + get_u16(body + 8)
    cdef uint64_t stored_ms = get_u64(body)
    if head > size:
        return _fault(restore, b"a tenant's name is cut short")
    if _read_message(restore, body + head, size - head, &publication) != 0:
        return -1
    if stored_ms > restore.unix_ms:
        stored_ms = restore.unix_ms
    return _retain(restore, _bytes(body + 10, head - 10), &publication, restore.now_ms + stored_ms - restore.unix_ms)


cdef int _apply_cleared(Restore *restore, const uint8_t *body, uint32_t size) noexcept nogil:
    cdef Publication publication
    cdef uint32_t head = 2 + get_u16(body)
    if head > size:
        return _fault(restore, b"a tenant's name is cut short")
    memset(&publication, 0, sizeof(publication))
    publication.expires_at_ms = NEVER
    publication.topic = _bytes(body + head, size - head)
    return _retain(restore, _bytes(body + 2, head - 2), &publication, 0)


# All of them

cdef uint32_t _least_size(uint8_t kind) noexcept nogil:
    """Bytes that a body of this kind has at least; UINT32_MAX for a kind that there is not."""
    if kind == JOURNAL_SESSION:
        return SESSION_HEAD
    if kind == JOURNAL_SUBSCRIBED:
        return SUBSCRIBED_HEAD
    if kind == JOURNAL_UNSUBSCRIBED:
        return 9
    if kind == JOURNAL_QUEUED:
        return QUEUED_HEAD
    if kind == JOURNAL_DROPPED:
        return 12
    if kind == JOURNAL_WILL:
        return WILL_HEAD
    if kind == JOURNAL_RETAINED:
        return 10
    if kind == JOURNAL_CLEARED:
        return 2
    if kind == JOURNAL_ENDED or kind == JOURNAL_WILL_GONE or kind == JOURNAL_MESSAGE:
        return 8
    if kind == JOURNAL_WILL_SENT or kind == JOURNAL_WILL_SPREAD:
        return 8
    if kind == JOURNAL_TAKEN:
        return TAKEN_SIZE
    if kind == JOURNAL_ARRIVED:
        return 16
    return 10 if JOURNAL_SESSION <= kind <= JOURNAL_CLEARED else UINT32_MAX


cdef int restore_apply(
    void *context, uint64_t position, uint8_t kind, const uint8_t *body, uint32_t size
) noexcept nogil:
    cdef Restore *restore = <Restore *> context
    cdef Session *session
    if kind == KIND_HOLE:
        restore.has_holes = 1
        return 0
    if size < _least_size(kind):
        return _fault(restore, b"a record of this kind and size is not known")
    if kind == JOURNAL_SESSION:
        return _apply_session(restore, body, size)
    if kind == JOURNAL_MESSAGE:
        return _apply_message(restore, body, size)
    if kind == JOURNAL_RETAINED:
        return _apply_retained(restore, body, size)
    if kind == JOURNAL_CLEARED:
        return _apply_cleared(restore, body, size)
    if kind == JOURNAL_ARRIVED:
        return _apply_arrived(restore, get_u64(body), get_u64(body + 8))
    if kind == JOURNAL_WILL_SENT:
        return _apply_will_sent(restore, get_u64(body), _bytes(body + 8, size - 8))
    if kind == JOURNAL_WILL_SPREAD:
        redelivery_will_spread(&restore.redelivery, get_u64(body))
        return 0
    session = _session(restore, get_u64(body))
    if session == NULL:
        return 0
    if kind == JOURNAL_ENDED:
        _end(restore, session)
    elif kind == JOURNAL_SUBSCRIBED:
        return _apply_subscribed(restore, session, body, size)
    elif kind == JOURNAL_UNSUBSCRIBED:
        return _apply_unsubscribed(restore, session, body, size)
    elif kind == JOURNAL_QUEUED:
        return _apply_queued(restore, session, body, size)
    elif kind == JOURNAL_TAKEN:
        return _apply_taken(restore, session, <uint16_t> get_u16(body + 8), get_u64(body + 10))
    elif kind == JOURNAL_DROPPED:
        return _apply_dropped(restore, session, get_u32(body + 8))
    elif kind == JOURNAL_WILL:
        return _apply_will(restore, session, body, size)
    elif kind == JOURNAL_WILL_GONE:
        message_release(session.will.message)
        memset(&session.will, 0, sizeof(session.will))
    else:
        return _apply_packet(restore, session, kind, <uint16_t> get_u16(body + 8))
    return 0


cdef void _begin_journals(Restore *restore) noexcept nogil:
    cdef Universe *universe = restore.universe
    cdef uint32_t count = universe.shard_count
    cdef uint32_t index
    cdef Shard *shard
    for index in range(count):
        shard = universe.shards[index]
        # Serials step by the number of shards, message numbers by that of sources; both stay ahead of all there were.
        shard.world.next_serial = (restore.highest_serial // count + 2) * count + index
        shard.journal.next_message = (restore.highest_message // LOG_SOURCES + 1) * LOG_SOURCES + index
        shard.world.journal = &shard.journal


cdef void _reset_settings(Shard *shard) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef Tenant *tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)
    while tenant != NULL:
        tenant.settings = shard.universe.default_settings
        tenant = <Tenant *> pointer_map_each(&shard.tenants, &cursor)


cdef void _begin_session(Shard *shard, Session *session) noexcept nogil:
    inflight_rewind(&session.inflight)
    session_measure(session, False)
    session.will.is_armed = session.will.message != NULL
    journal_is_written(session)
    if session.detached_at_ms == 0:
        # It was connected when the process ended: its absence begins now.
        session.detached_at_ms = shard.world.now_ms
        journal_session(session, 0)
    session_await_end(shard, session)


cdef int restore_end(Restore *restore) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef uint32_t index
    cdef Session *session
    cdef Shard *shard
    _begin_journals(restore)
    for index in range(restore.universe.shard_count):
        _reset_settings(restore.universe.shards[index])
    session = <Session *> pointer_map_each(&restore.sessions, &cursor)
    while session != NULL:
        _begin_session(restore.universe.shards[session.tenant.world.shard], session)
        session = <Session *> pointer_map_each(&restore.sessions, &cursor)
    # Members of shared groups join those on other shards,
    _exchange_mail(restore.universe)
    if redelivery_run(&restore.redelivery, restore.universe, &restore.sessions) != 0:
        return _fault(restore, b"out of memory")
    # and are given what they are to get.
    _exchange_mail(restore.universe)
    # All of it is in the log before whatever comes next.
    for index in range(restore.universe.shard_count):
        shard = restore.universe.shards[index]
        log_submit(shard.journal.log, index, &shard.journal.batch)
    redelivery_end(&restore.redelivery, &restore.universe.shards[0].journal)
    return 0


cdef void _exchange_mail(Universe *universe) noexcept nogil:
    cdef uint32_t index
    for index in range(universe.shard_count):
        errands_send(universe.shards[index])
        mail_hand_over(universe.shards[index])
    for index in range(universe.shard_count):
        turn_take_mail(universe.shards[index])


cdef void restore_clear(Restore *restore) noexcept nogil:
    cdef uint32_t source
    cdef uint64_t cursor
    cdef Message *message
    for source in range(LOG_SOURCES):
        # In the order in which they lie in the spill: each page of it is touched once.
        cursor = 0
        message = <Message *> number_index_each(&restore.messages[source], &cursor)
        while message != NULL:
            message_is_read(message, restore.universe.shards[0].world.spill)
            message_release(message)
            message = <Message *> number_index_each(&restore.messages[source], &cursor)
        number_index_clear(&restore.messages[source])
    redelivery_clear(&restore.redelivery)
    pointer_map_free(&restore.origins)
    pointer_map_free(&restore.sessions)
