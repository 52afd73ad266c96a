"""See session.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from rookery.core.sessions.drops cimport (
    DROP_NO_MEMORY, DROP_OVERFLOW, DROP_OVERFLOW_OLDEST, DROP_RETRIES_EXHAUSTED, DROP_TOO_LARGE, DropReason, drop_kept,
    drop_publication, notice_expired,
)
from rookery.core.sessions.inbox cimport (
    Delivery, Inbox, delivery_clear, inbox_at, inbox_clear, inbox_drop, inbox_oldest_qos0, inbox_pop, inbox_push,
)
from rookery.core.sessions.inflight cimport (
    NO_PACKET_ID, PUBACK_DUE, PUBCOMP_DUE, PUBREC_DUE, InflightSlot, inflight_add, inflight_clear, inflight_find,
    RESEND_COUNT_MAXIMUM, RESEND_TICKS, inflight_next_unsent, inflight_received, inflight_remove, inflight_rewind,
    inflight_tick, inflight_trim,
)
from rookery.core.sessions.journal cimport (
    journal_await, journal_dropped, journal_ended, journal_queued, journal_received, journal_sent, journal_settled,
)
from rookery.core.sessions.memberships cimport memberships_tell
from rookery.core.sessions.message cimport (
    NEVER, Message, Publication, message_is_read, message_release, publication_end, publication_keep,
    publication_keep_waiting, publication_of,
)
from rookery.core.sessions.outbox cimport OUTBOX_HIGH_BYTES, OUTBOX_LIMIT_BYTES, outbox_commit, outbox_reserve
from rookery.core.sessions.outgoing cimport write_publish
from rookery.core.sessions.quota cimport has_quota, session_measure
from rookery.core.sessions.rights cimport session_drop_rules
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport TIMER_SESSION, Link, Session, Tenant, World
from rookery.core.sessions.subscriptions cimport session_unsubscribe_all
from rookery.core.structures.packet_ids cimport packet_ids_free
from rookery.core.structures.pointer_map cimport (
    pointer_map_add, pointer_map_first, pointer_map_next, pointer_map_remove,
)
from rookery.core.structures.timers cimport wheel_arm, wheel_cancel
from rookery.core.wire.encode cimport ACKNOWLEDGEMENT_SIZE_MAXIMUM, encode_acknowledgement
from rookery.core.wire.spec cimport MQTT_5_0, PACKET_PUBREL, REASON_PACKET_IDENTIFIER_NOT_FOUND, REASON_SUCCESS


# Life

cdef Session *session_find(
    Tenant *tenant, uint64_t key_hash, const uint8_t *user_id, uint16_t user_id_size, const uint8_t *client_id,
    uint16_t client_id_size
) noexcept nogil:
    cdef uint32_t cursor
    cdef Session *session = <Session *> pointer_map_first(&tenant.sessions, key_hash, &cursor)
    while session != NULL:
        if (
            session.user_id_size == user_id_size
            and session.client_id_size == client_id_size
            and memcmp(session.key, user_id, user_id_size) == 0
            and memcmp(session.key + user_id_size, client_id, client_id_size) == 0
        ):
            return session
        session = <Session *> pointer_map_next(&tenant.sessions, key_hash, &cursor)
    return NULL


cdef Session *session_new(
    Tenant *tenant, uint64_t key_hash, const uint8_t *user_id, uint16_t user_id_size, const uint8_t *client_id,
    uint16_t client_id_size
) noexcept nogil:
    cdef World *world = tenant.world
    cdef Session *session = <Session *> calloc(1, sizeof(Session))
    if session == NULL:
        return NULL
    session.key = <uint8_t *> malloc(<size_t> user_id_size + client_id_size + 1)
    if session.key == NULL or pointer_map_add(&tenant.sessions, key_hash, session) != 0:
        free(session.key)
        free(session)
        return NULL
    memcpy(session.key, user_id, user_id_size)
    memcpy(session.key + user_id_size, client_id, client_id_size)
    session.user_id_size = user_id_size
    session.client_id_size = client_id_size
    session.key_hash = key_hash
    session.tenant = tenant
    session.timer.owner = session
    session.timer.kind = TIMER_SESSION
    session.created_at_ms = world.now_ms
    session.serial = world.next_serial
    world.next_serial += world.shard_count
    world.session_count += 1
    tenant.users += 1
    return session


cdef void session_end(Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef World *world = tenant.world
    if session.is_written and world.journal != NULL:
        journal_ended(session)
    wheel_cancel(world.wheel, &session.timer)
    session_measure(session, True)
    session_unsubscribe_all(session)
    inflight_clear(&session.inflight)
    inbox_clear(&session.inbox)
    packet_ids_free(&session.received)
    message_release(session.will.message)
    pointer_map_remove(&tenant.sessions, session.key_hash, session)
    world.session_count -= 1
    tenant.users -= 1
    session_drop_rules(session)
    free(session.attributes)
    free(session.key)
    free(session)


cdef void session_attach(Session *session, Link *link) noexcept nogil:
    cdef World *world = session.tenant.world
    wheel_cancel(world.wheel, &session.timer)
    session.link = link
    link.session = session
    session.version = link.version
    session.detached_at_ms = 0
    session.connected_at_ms = world.now_ms
    memberships_tell(session)
    inflight_rewind(&session.inflight)
    session_watch_resends(session)
    session_measure(session, False)


cdef void session_detach(Session *session) noexcept nogil:
    wheel_cancel(session.tenant.world.wheel, &session.timer)
    session.is_resending = 0
    session.link.session = NULL
    session.link = NULL
    session.detached_at_ms = session.tenant.world.now_ms
    memberships_tell(session)
    inflight_rewind(&session.inflight)
    inflight_trim(&session.inflight)
    session_measure(session, False)


# The window

cdef inline bint _is_window_open(const Session *session, const Link *link) noexcept nogil:
    return (
        session.inflight.sent < link.receive_maximum
        and (
            session.inflight.kept_bytes < INFLIGHT_KEPT_BYTES
            or session.inflight.count < session.tenant.settings.min_send_per_sec
        )
        and link.outbox.size <= OUTBOX_HIGH_BYTES
    )


cdef inline DropReason _write_failure(int result) noexcept nogil:
    """Why write_publish failed."""
    return DROP_TOO_LARGE if result == 1 else DROP_NO_MEMORY


cdef uint32_t *_copy_ids(const uint32_t *subscription_ids, uint32_t count) noexcept nogil:
    cdef uint32_t *copy = <uint32_t *> malloc((count + 1) * sizeof(uint32_t))
    if copy != NULL:
        copy[0] = count
        memcpy(copy + 1, subscription_ids, count * sizeof(uint32_t))
    return copy


cdef DeliveryResult _drop(
    Session *session, const Publication *publication, uint8_t qos, DropReason reason, bint has_waited
) noexcept nogil:
    drop_publication(session, publication, qos, reason)
    if has_waited and session.is_written:
        journal_dropped(session, 0)
    return DELIVERY_DROPPED


cdef DeliveryResult _send_qos12(
    Session *session, Link *link, Publication *publication, uint8_t qos, uint8_t retain,
    const uint32_t *subscription_ids, uint32_t subscription_id_count, bint has_waited
) noexcept nogil:
    """has_waited: it was the oldest delivery of the inbox."""
    cdef Message *message = NULL
    cdef uint32_t *ids = NULL
    cdef uint16_t packet_id
    cdef int result
    # A session that ends with its connection never sends again, so it need not keep what it sent, unless another
    # member of a shared group is to get it then.
    if session.is_persistent or session.is_resending or (publication.shared_place != 0 and qos == 1):
        message = publication_keep(publication)
        if message == NULL:
            return _drop(session, publication, qos, DROP_NO_MEMORY, has_waited)
        if subscription_id_count > 0:
            ids = _copy_ids(subscription_ids, subscription_id_count)
    packet_id = inflight_add(&session.inflight, message, ids, qos, retain)
    if packet_id == NO_PACKET_ID:
        message_release(message)
        free(ids)
        return _drop(session, publication, qos, DROP_NO_MEMORY, has_waited)
    session.inflight.slots[packet_id - 1].shared_place = publication.shared_place
    result = write_publish(
        session, link, publication, qos, retain, 0, packet_id, subscription_ids, subscription_id_count)
    if result != 0:
        # Too large for this client: as if it had been delivered [MQTT-3.1.2-25].
        inflight_remove(&session.inflight, packet_id)
        return _drop(session, publication, qos, _write_failure(result), has_waited)
    if session.is_written:
        if has_waited:
            journal_sent(session, packet_id)
        else:
            journal_queued(
                session, publication, qos, retain, packet_id, subscription_ids, subscription_id_count)
        if qos == 2:
            # Sent again after a restart it must have the same packet identifier, or the client takes it for another.
            journal_await(link, session.tenant.world)
    return DELIVERY_QUEUED


cdef uint32_t _written_before(const Session *session, const Delivery *delivery) noexcept nogil:
    """How many deliveries of the inbox lie before this one and are in the log."""
    cdef Inbox *inbox = <Inbox *> &session.inbox
    cdef uint32_t count = 0
    cdef uint32_t place
    cdef const Delivery *each
    for place in range(inbox.length):
        each = inbox_at(inbox, place)
        if each == delivery:
            break
        if each != NULL and (each.qos > 0 or each.is_written):
            count += 1
    return count


cdef void _make_room(Session *session) noexcept nogil:
    """The oldest delivery of QoS 0 goes for a newer one."""
    cdef Delivery *oldest = inbox_oldest_qos0(&session.inbox)
    if oldest == NULL:
        return
    if oldest.is_written and session.is_written:
        journal_dropped(session, _written_before(session, oldest))
    drop_kept(session, oldest.message, 0, DROP_OVERFLOW_OLDEST)
    inbox_drop(&session.inbox, oldest)


cdef DeliveryResult _put_into_inbox(
    Session *session, Publication *publication, uint8_t qos, uint8_t retain, const uint32_t *subscription_ids,
    uint32_t subscription_id_count
) noexcept nogil:
    cdef const Settings *settings = &session.tenant.settings
    cdef Delivery delivery
    cdef bint is_full
    if qos == 0:
        is_full = session.inbox.qos0_count >= settings.session_inbox_size
        if is_full and settings.qos0_drop_oldest:
            _make_room(session)
            is_full = session.inbox.qos0_count >= settings.session_inbox_size
    else:
        is_full = session.inbox.qos12_count >= settings.session_inbox_size
    if is_full or session.inbox.kept_bytes >= INBOX_LIMIT_BYTES:
        drop_publication(session, publication, qos, DROP_OVERFLOW)
        return DELIVERY_DROPPED
    delivery.qos = qos
    delivery.retain = retain
    delivery.is_written = qos == 0 and session.is_written and session.tenant.world.writes_qos0
    delivery.shared_place = publication.shared_place
    delivery.subscription_ids = NULL
    delivery.message = publication_keep_waiting(
        publication, session.tenant.world.spill, session.tenant.world.spill_after_bytes)
    if delivery.message == NULL:
        drop_publication(session, publication, qos, DROP_NO_MEMORY)
        return DELIVERY_DROPPED
    if subscription_id_count > 0:
        delivery.subscription_ids = _copy_ids(subscription_ids, subscription_id_count)
    if inbox_push(&session.inbox, &delivery) != 0:
        delivery_clear(&delivery)
        drop_publication(session, publication, qos, DROP_NO_MEMORY)
        return DELIVERY_DROPPED
    if session.is_written and (qos > 0 or delivery.is_written):
        journal_queued(session, publication, qos, retain, 0, subscription_ids, subscription_id_count)
    if has_quota(session.tenant):
        session_measure(session, False)
    return DELIVERY_QUEUED


cdef DeliveryResult session_deliver(
    Session *session, Publication *publication, uint8_t qos, uint8_t retain, const uint32_t *subscription_ids,
    uint32_t subscription_id_count
) noexcept nogil:
    cdef Link *link = session.link
    cdef int result
    if publication.expires_at_ms != NEVER and publication.expires_at_ms <= session.tenant.world.now_ms:
        notice_expired(session, publication, qos)
        return DELIVERY_SKIPPED
    if link == NULL:
        if not session.is_persistent:
            return DELIVERY_SKIPPED
        return _put_into_inbox(session, publication, qos, retain, subscription_ids, subscription_id_count)
    if qos == 0:
        if session.inbox.qos0_count > 0:
            # What waited while the client was away goes first.
            return _put_into_inbox(session, publication, 0, retain, subscription_ids, subscription_id_count)
        if link.outbox.size > OUTBOX_LIMIT_BYTES:
            drop_publication(session, publication, 0, DROP_OVERFLOW)
            return DELIVERY_DROPPED
        result = write_publish(session, link, publication, 0, retain, 0, 0, subscription_ids, subscription_id_count)
        if result != 0:
            drop_publication(session, publication, 0, _write_failure(result))
            return DELIVERY_DROPPED
        return DELIVERY_QUEUED
    if session_has_waiting(session) or not _is_window_open(session, link):
        return _put_into_inbox(session, publication, qos, retain, subscription_ids, subscription_id_count)
    return _send_qos12(session, link, publication, qos, retain, subscription_ids, subscription_id_count, False)


cdef inline void _settle(Session *session, uint16_t packet_id) noexcept nogil:
    """Its exchange is over: the packet identifier is free again."""
    cdef const InflightSlot *slot
    if session.tenant.world.spill != NULL:
        # To be let go it is touched once more.
        slot = inflight_find(&session.inflight, packet_id)
        if slot.message != NULL:
            message_is_read(slot.message, session.tenant.world.spill)
    inflight_remove(&session.inflight, packet_id)
    if session.is_written:
        journal_settled(session, packet_id)


cdef int _resend(Session *session, Link *link, uint16_t packet_id) noexcept nogil:
    """What was in flight when the connection went, again and in order. 0, or -1 when memory is short."""
    cdef InflightSlot *slot = inflight_find(&session.inflight, packet_id)
    cdef Publication publication
    cdef uint8_t *out
    cdef int result
    if slot.state == PUBCOMP_DUE:
        out = outbox_reserve(&link.outbox, ACKNOWLEDGEMENT_SIZE_MAXIMUM)
        if out == NULL:
            return -1
        outbox_commit(&link.outbox, <uint32_t> encode_acknowledgement(
            PACKET_PUBREL, packet_id, REASON_SUCCESS, link.version, out))
        return 0
    publication_of(slot.message, &publication)
    if publication.expires_at_ms != NEVER and publication.expires_at_ms <= session.tenant.world.now_ms:
        # Its delivery had begun, so it is not given up [MQTT5 3.3.2.3.3]; the client learns that nothing is left.
        publication.expires_at_ms = session.tenant.world.now_ms + 1
    result = write_publish(
        session, link, &publication, 1 if slot.state == PUBACK_DUE else 2, slot.retain, 1, packet_id,
        NULL if slot.subscription_ids == NULL else slot.subscription_ids + 1,
        0 if slot.subscription_ids == NULL else slot.subscription_ids[0],
    )
    if result == 1:
        drop_publication(session, &publication, 1 if slot.state == PUBACK_DUE else 2, DROP_TOO_LARGE)
    publication_end(&publication)
    if result == 1:
        _settle(session, packet_id)
        return 0
    return result


cdef void session_pump(Session *session) noexcept nogil:
    cdef Link *link = session.link
    cdef Delivery delivery
    cdef Publication publication
    cdef const uint32_t *ids
    cdef uint32_t id_count
    cdef uint16_t packet_id
    cdef int result
    if link == NULL:
        return
    while session.inflight.resume_from != 0:
        if session.inflight.sent >= link.receive_maximum or link.outbox.size > OUTBOX_HIGH_BYTES:
            return
        packet_id = inflight_next_unsent(&session.inflight)
        if _resend(session, link, packet_id) != 0:
            return
    while session.inbox.length > 0 and _is_window_open(session, link):
        if not inbox_pop(&session.inbox, &delivery):
            return
        message_is_read(delivery.message, session.tenant.world.spill)
        publication_of(delivery.message, &publication)
        if publication.expires_at_ms == NEVER or publication.expires_at_ms > session.tenant.world.now_ms:
            id_count = 0 if delivery.subscription_ids == NULL else delivery.subscription_ids[0]
            ids = NULL if id_count == 0 else delivery.subscription_ids + 1
            publication.shared_place = delivery.shared_place
            if delivery.qos > 0:
                _send_qos12(session, link, &publication, delivery.qos, delivery.retain, ids, id_count, True)
            else:
                if delivery.is_written and session.is_written:
                    # Whatever happens to the process: at most once.
                    journal_dropped(session, 0)
                    journal_await(link, session.tenant.world)
                result = write_publish(session, link, &publication, 0, delivery.retain, 0, 0, ids, id_count)
                if result != 0:
                    drop_publication(session, &publication, 0, _write_failure(result))
        else:
            notice_expired(session, &publication, delivery.qos)
            if session.is_written and (delivery.qos > 0 or delivery.is_written):
                journal_dropped(session, 0)
        publication_end(&publication)
        delivery_clear(&delivery)


# Resending on a live connection: for 3.x clients whose tenant asks for it, never for 5.0 [MQTT-4.4.0-1].

cdef inline uint64_t _tick_ms(const Settings *settings) noexcept nogil:
    return <uint64_t> settings.resend_timeout_seconds * 1000 // RESEND_TICKS


cdef void session_watch_resends(Session *session) noexcept nogil:
    cdef const Settings *settings = &session.tenant.settings
    cdef World *world = session.tenant.world
    if session.is_resending or session.link.version == MQTT_5_0 or settings.max_resend_times == 0:
        return
    session.is_resending = 1
    wheel_arm(world.wheel, &session.timer, world.now_ms + _tick_ms(settings))


cdef void _resend_overdue(Session *session, uint32_t resends_maximum) noexcept nogil:
    cdef uint16_t packet_id = session.inflight.oldest
    cdef uint16_t following
    cdef InflightSlot *slot
    while packet_id != 0:  # oldest first [MQTT-4.6.0-1]
        slot = &session.inflight.slots[packet_id - 1]
        following = slot.next
        # What was sent before the tenant asked for resending may not have been kept.
        if inflight_tick(slot) and (slot.message != NULL or slot.state == PUBCOMP_DUE):
            if slot.resend_count >= resends_maximum:
                drop_kept(
                    session, slot.message, 1 if slot.state == PUBACK_DUE else 2, DROP_RETRIES_EXHAUSTED)
                _settle(session, packet_id)
            else:
                if slot.resend_count < RESEND_COUNT_MAXIMUM:
                    slot.resend_count += 1
                if _resend(session, session.link, packet_id) != 0:
                    return
        packet_id = following


cdef void session_resend(Session *session, bint is_blocked) noexcept nogil:
    cdef const Settings *settings = &session.tenant.settings
    cdef World *world = session.tenant.world
    if settings.max_resend_times == 0:
        session.is_resending = 0
        return
    wheel_arm(world.wheel, &session.timer, world.now_ms + _tick_ms(settings))
    if is_blocked:
        return
    _resend_overdue(session, settings.max_resend_times)
    if session_has_waiting(session):
        session_pump(session)


# Acknowledgements

cdef uint8_t session_puback(Session *session, uint16_t packet_id) noexcept nogil:
    cdef InflightSlot *slot = inflight_find(&session.inflight, packet_id)
    if slot == NULL or slot.state != PUBACK_DUE:
        return REASON_PACKET_IDENTIFIER_NOT_FOUND
    _settle(session, packet_id)
    if session_has_waiting(session):
        session_pump(session)
    return REASON_SUCCESS


cdef uint8_t session_pubrec(Session *session, uint16_t packet_id, uint8_t reason_code) noexcept nogil:
    cdef InflightSlot *slot = inflight_find(&session.inflight, packet_id)
    if slot == NULL or slot.state == PUBACK_DUE:
        return REASON_PACKET_IDENTIFIER_NOT_FOUND
    if reason_code >= 0x80:
        # The client refuses the message: it is done with, no PUBREL follows [MQTT-4.3.3-4].
        _settle(session, packet_id)
        if session_has_waiting(session):
            session_pump(session)
    elif slot.state == PUBREC_DUE:
        inflight_received(&session.inflight, packet_id)
        if session.is_written:
            # Once PUBREL is on its way the message must never be sent again.
            journal_received(session, packet_id)
            journal_await(session.link, session.tenant.world)
    return REASON_SUCCESS


cdef uint8_t session_pubcomp(Session *session, uint16_t packet_id) noexcept nogil:
    cdef InflightSlot *slot = inflight_find(&session.inflight, packet_id)
    if slot == NULL or slot.state != PUBCOMP_DUE:
        return REASON_PACKET_IDENTIFIER_NOT_FOUND
    _settle(session, packet_id)
    if session_has_waiting(session):
        session_pump(session)
    return REASON_SUCCESS
