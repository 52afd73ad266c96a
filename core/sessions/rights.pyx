"""See rights.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from rookery.core.permissions.placeholders cimport CLIENT_NAME, TENANT_NAME, USER_NAME, Identity, inspect_names
from rookery.core.permissions.rule_set cimport (
    ACTION_PUBLISH, ACTION_SUBSCRIBE, VERDICT_ALLOWED, VERDICT_QOS, VERDICT_RETAIN, RuleAction, RuleSet,
    rule_set_check, rule_set_decide, rule_set_release,
)
from rookery.core.permissions.rule_tree cimport NO_RULE
from rookery.core.sessions.drops cimport DROP_NOT_AUTHORIZED, drop_kept
from rookery.core.sessions.inbox cimport Delivery, inbox_at, inbox_drop
from rookery.core.sessions.inflight cimport (
    PUBACK_DUE, PUBREC_DUE, InflightSlot, inflight_received, inflight_remove,
)
from rookery.core.sessions.journal cimport journal_dropped, journal_received, journal_settled
from rookery.core.sessions.message cimport Message, message_topic
from rookery.core.sessions.publish cimport forget_recent_topic
from rookery.core.sessions.state cimport Session, World
from rookery.core.structures.bytes cimport Bytes


cdef void session_identity(const Session *session, Identity *out) noexcept nogil:
    out.names[TENANT_NAME].data = session.tenant.shared.id
    out.names[TENANT_NAME].size = session.tenant.shared.id_size
    out.names[USER_NAME].data = session.key
    out.names[USER_NAME].size = session.user_id_size
    out.names[CLIENT_NAME].data = session.key + session.user_id_size
    out.names[CLIENT_NAME].size = session.client_id_size
    out.unfit = session.unfit_names
    out.unfit_at_front = session.unfit_names_at_front


cdef uint8_t session_may_publish(Session *session, Bytes topic, bint is_recent) noexcept nogil:
    cdef World *world = session.tenant.world
    cdef uint8_t verdict
    if is_recent and world.recent_publisher == session.serial:
        return world.recent_verdict
    verdict = session_may(session, ACTION_PUBLISH, topic)
    if is_recent:
        world.recent_publisher = session.serial
        world.recent_verdict = verdict
    return verdict


cdef uint8_t session_may(const Session *session, RuleAction action, Bytes topic_filter) noexcept nogil:
    cdef Identity identity
    if session.rules == NULL:
        return VERDICT_ALLOWED | VERDICT_RETAIN | 2
    session_identity(session, &identity)
    return rule_set_check(session.rules, action, &identity, topic_filter)


cdef uint8_t session_decide(
    const Session *session, RuleAction action, Bytes topic_filter, uint32_t *place
) noexcept nogil:
    cdef Identity identity
    place[0] = NO_RULE
    if session.rules == NULL:
        return VERDICT_ALLOWED | VERDICT_RETAIN | 2
    session_identity(session, &identity)
    return rule_set_decide(session.rules, action, &identity, topic_filter, place)


cdef bint session_may_send(const Session *session, Bytes topic, uint8_t qos, uint8_t retain) noexcept nogil:
    cdef uint8_t verdict = session_may(session, ACTION_PUBLISH, topic)
    return verdict & VERDICT_ALLOWED and qos <= verdict & VERDICT_QOS and (not retain or verdict & VERDICT_RETAIN)


cdef void _enter_ruled(Session *session) noexcept nogil:
    cdef World *world = session.tenant.world
    session.previous_ruled = NULL
    session.next_ruled = world.first_ruled
    if world.first_ruled != NULL:
        world.first_ruled.previous_ruled = session
    world.first_ruled = session


cdef void _leave_ruled(Session *session) noexcept nogil:
    cdef World *world = session.tenant.world
    if world.next_walked == session:
        world.next_walked = session.next_ruled
    if session.previous_ruled != NULL:
        session.previous_ruled.next_ruled = session.next_ruled
    else:
        world.first_ruled = session.next_ruled
    if session.next_ruled != NULL:
        session.next_ruled.previous_ruled = session.previous_ruled


cdef void session_drop_rules(Session *session) noexcept nogil:
    if session.rules != NULL:
        _leave_ruled(session)
        rule_set_release(session.rules)
        session.rules = NULL


cdef void rule_walk_begin(World *world) noexcept nogil:
    world.next_walked = world.first_ruled


cdef Session *rule_walk_next(World *world) noexcept nogil:
    cdef Session *session = world.next_walked
    if session != NULL:
        world.next_walked = session.next_ruled
    return session


cdef bint session_set_rules(Session *session, RuleSet *rules) noexcept nogil:
    cdef RuleSet *earlier = session.rules
    cdef Identity identity
    if earlier == NULL and rules != NULL:
        _enter_ruled(session)
    elif earlier != NULL and rules == NULL:
        _leave_ruled(session)
    session.rules = rules
    rule_set_release(earlier)
    if earlier == rules:
        return False
    forget_recent_topic(session.tenant.world)
    session_identity(session, &identity)
    inspect_names(&identity)
    session.unfit_names = identity.unfit
    session.unfit_names_at_front = identity.unfit_at_front
    return True


cdef inline bint _is_readable(const Session *session, const Message *message) noexcept nogil:
    cdef Bytes topic
    topic.data = message_topic(message)
    topic.size = message.topic_size
    return session_may(session, ACTION_SUBSCRIBE, topic) != 0


cdef uint32_t _drop_sent(Session *session) noexcept nogil:
    cdef uint16_t packet_id = session.inflight.oldest
    cdef uint16_t following
    cdef uint32_t count = 0
    cdef InflightSlot *slot
    while packet_id != 0:
        slot = &session.inflight.slots[packet_id - 1]
        following = slot.next
        if slot.message != NULL and not _is_readable(session, slot.message):
            if slot.state == PUBACK_DUE:
                drop_kept(session, slot.message, 1, DROP_NOT_AUTHORIZED)
                inflight_remove(&session.inflight, packet_id)
                if session.is_written:
                    journal_settled(session, packet_id)
                count += 1
            elif slot.state == PUBREC_DUE:
                drop_kept(session, slot.message, 2, DROP_NOT_AUTHORIZED)
                # The client may have it and remember its identifier, which is free again only after PUBCOMP: the
                # exchange goes on with PUBREL.
                inflight_received(&session.inflight, packet_id)
                if session.is_written:
                    journal_received(session, packet_id)
                count += 1
        packet_id = following
    return count


cdef uint32_t session_drop_unreadable(Session *session) noexcept nogil:
    cdef uint32_t place
    cdef uint32_t count = 0
    cdef uint32_t kept = 0  # of those that are in the log
    cdef Delivery *delivery
    if session.rules == NULL:
        return 0
    for place in range(session.inbox.length):
        delivery = inbox_at(&session.inbox, place)
        if delivery == NULL:
            continue
        if _is_readable(session, delivery.message):
            if delivery.qos > 0 or delivery.is_written:
                kept += 1
            continue
        if session.is_written and (delivery.qos > 0 or delivery.is_written):
            journal_dropped(session, kept)
        drop_kept(session, delivery.message, delivery.qos, DROP_NOT_AUTHORIZED)
        inbox_drop(&session.inbox, delivery)
        count += 1
    if session.link == NULL:
        count += _drop_sent(session)
    return count
