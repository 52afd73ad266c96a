"""See subscribe_packets.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc

from rookery.core.permissions.rule_set cimport ACTION_SUBSCRIBE, ACTION_UNSUBSCRIBE, VERDICT_ALLOWED, VERDICT_QOS
from rookery.core.sessions.journal cimport journal_await
from rookery.core.sessions.notices cimport NOTICE_SUBSCRIBE_REFUSED, NOTICE_SUBSCRIBED, NOTICE_UNSUBSCRIBED, NoticeKind
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.publish cimport forget_recent_topic
from rookery.core.sessions.quota cimport has_quota, quota_allows, quota_take, session_measure
from rookery.core.sessions.rights cimport session_may
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport (
    NO_LOCAL, RESOURCE_PERSISTENT_SUBSCRIBES, RESOURCE_PERSISTENT_SUBSCRIPTIONS, RESOURCE_PERSISTENT_UNSUBSCRIBES,
    RESOURCE_RETAIN_MATCH_BYTES, RESOURCE_RETAIN_MATCHES, RESOURCE_SHARED_SUBSCRIPTIONS, RESOURCE_TRANSIENT_SUBSCRIBES,
    RESOURCE_TRANSIENT_SUBSCRIPTIONS, RESOURCE_TRANSIENT_UNSUBSCRIBES, RETAIN_AS_PUBLISHED, Resource, Session, Tenant,
)
from rookery.core.sessions.subscriptions cimport (
    SUBSCRIBE_GROUP_FULL, SUBSCRIBE_NO_MEMORY, SUBSCRIBE_TOO_MANY, SUBSCRIBED_NEW, session_subscribe,
    session_unsubscribe, subscription_find,
)
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.lifecycle cimport connection_close
from rookery.core.shards.replays cimport replay_begin, replay_cancel
from rookery.core.shards.replies cimport is_within_maximum, reply_reason
from rookery.core.shards.state cimport EFFORT_OF_FILTER, Connection
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.names cimport (
    SHARE_NONE, TOPIC_OK, ParsedFilter, TopicError, describe_topic_error, parse_topic_filter,
)
from rookery.core.wire.decode cimport decode_subscribe, decode_unsubscribe, next_subscription, next_topic_filter
from rookery.core.wire.encode cimport encode_suback, size_suback
from rookery.core.wire.packets cimport Frame, SubscribePacket, SubscriptionRequest, UnsubscribePacket
from rookery.core.wire.spec cimport (
    PACKET_SUBACK, PACKET_UNSUBACK, REASON_ADMINISTRATIVE_ACTION, REASON_NO_SUBSCRIPTION_EXISTED,
    REASON_NOT_AUTHORIZED, REASON_QUOTA_EXCEEDED, REASON_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, REASON_SUCCESS, REASON_TOPIC_FILTER_INVALID,
    REASON_UNSPECIFIED_ERROR, REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
)

cdef const char *_OUT_OF_RESOURCE = b"the tenant has not enough left of a resource"

cdef bint _may_subscribe(
    Session *session, const SubscriptionRequest *request, const ParsedFilter *parsed
) noexcept nogil:
    """Does the tenant, which has a quota, have enough of everything that the subscription takes?"""
    cdef Tenant *tenant = session.tenant
    cdef bint is_new = subscription_find(session, parsed) == NULL
    cdef Resource subscriptions = RESOURCE_TRANSIENT_SUBSCRIPTIONS
    cdef Resource rate = RESOURCE_TRANSIENT_SUBSCRIBES
    if session.is_persistent:
        subscriptions = RESOURCE_PERSISTENT_SUBSCRIPTIONS
        rate = RESOURCE_PERSISTENT_SUBSCRIBES
    if is_new and (
        parsed.share_kind != SHARE_NONE and not quota_take(tenant, session, RESOURCE_SHARED_SUBSCRIPTIONS, 1)
        or not quota_take(tenant, session, subscriptions, 1)
    ):
        return False
    if not quota_take(tenant, session, rate, 1):
        return False
    # What it would get of retained messages.
    if parsed.share_kind == SHARE_NONE and (
        request.retain_handling == 0 or (request.retain_handling == 1 and is_new)
    ):
        # The bytes are known when they have been sent: none may be left to pay for.
        return (
            quota_take(tenant, session, RESOURCE_RETAIN_MATCHES, 1)
            and quota_take(tenant, session, RESOURCE_RETAIN_MATCH_BYTES, 0)
        )
    return True


cdef uint8_t _subscribe_one(
    Connection *connection, const SubscriptionRequest *request, uint32_t subscription_id, const char **detail
) noexcept nogil:
    """The reason code of one topic filter; *detail says why it failed."""
    cdef Session *session = connection.link.session
    cdef const Settings *settings = &connection.tenant.settings
    cdef ParsedFilter parsed
    cdef uint8_t qos = request.qos
    cdef uint8_t flags = 0
    cdef uint8_t verdict
    cdef TopicError error
    cdef int result
    error = parse_topic_filter(
        request.topic_filter.data, request.topic_filter.size, &settings.topic_limits, &parsed)
    if error != TOPIC_OK:
        detail[0] = describe_topic_error(error)
        return REASON_TOPIC_FILTER_INVALID
    if parsed.share_kind != SHARE_NONE and not settings.shared_subscription_enabled:
        detail[0] = b"SharedSubscriptionEnabled is off"
        return REASON_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if parsed.has_wildcard and not settings.wildcard_subscription_enabled:
        detail[0] = b"WildcardSubscriptionEnabled is off"
        return REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    if session.rules != NULL:
        verdict = session_may(session, ACTION_SUBSCRIBE, parsed.topic_filter)
        if not verdict & VERDICT_ALLOWED:
            connection.tenant.counters.actions_denied += 1
            detail[0] = b"a permission rule does not allow this topic filter"
            return REASON_NOT_AUTHORIZED
        qos = min(qos, <uint8_t> (verdict & VERDICT_QOS))
    if qos > settings.maximum_qos:
        qos = settings.maximum_qos
    if request.no_local:
        flags |= NO_LOCAL
    if request.retain_as_published:
        flags |= RETAIN_AS_PUBLISHED
    if has_quota(connection.tenant) and not _may_subscribe(session, request, &parsed):
        detail[0] = _OUT_OF_RESOURCE
        return REASON_QUOTA_EXCEEDED
    result = session_subscribe(session, &parsed, qos, flags, request.retain_handling, subscription_id)
    if result == SUBSCRIBE_TOO_MANY:
        detail[0] = b"more topic filters than MaxTopicFiltersPerInbox"
        return REASON_QUOTA_EXCEEDED
    if result == SUBSCRIBE_GROUP_FULL:
        detail[0] = b"more members than MaxSharedGroupMembers"
        return REASON_QUOTA_EXCEEDED
    if result == SUBSCRIBE_NO_MEMORY:
        detail[0] = b"out of memory"
        return REASON_UNSPECIFIED_ERROR
    if result == SUBSCRIBED_NEW:
        session_measure(session, False)
    # Shared subscriptions get no retained messages [MQTT5 4.8.2]; else as Retain Handling says [MQTT-3.3.1-9 to 11].
    if parsed.share_kind == SHARE_NONE and (
        request.retain_handling == 0 or (request.retain_handling == 1 and result == SUBSCRIBED_NEW)
    ):
        replay_begin(
            connection.shard, session, parsed.topic_filter, subscription_find(session, &parsed).filter_id,
            subscription_id, qos, request.no_local)
    return qos


cdef void _send_suback(
    Connection *connection, uint8_t packet_type, uint16_t packet_id, const uint8_t *reason_codes, uint16_t count,
    const char *detail
) noexcept nogil:
    """detail is about the first topic filter that failed; NULL when none did."""
    cdef uint8_t version = connection.link.version
    cdef Bytes reason_string = reply_reason(connection, detail)
    cdef Py_ssize_t size = size_suback(packet_type, count, reason_string, version)
    cdef uint8_t *out
    if reason_string.size > 0 and not is_within_maximum(connection, size):
        reason_string.data = NULL  # [MQTT-3.9.2-1], [MQTT-3.11.2-1]
        size = size_suback(packet_type, count, reason_string, version)
    if not is_within_maximum(connection, size):
        return  # A client that cannot be answered [MQTT-3.1.2-24].
    out = outbox_reserve(&connection.link.outbox, <uint32_t> size)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_suback(
            packet_type, packet_id, reason_codes, count, reason_string, version, out))


cdef void _notice_subscribing(
    const Connection *connection, const SubscriptionRequest *request, uint32_t subscription_id, uint8_t reason_code
) noexcept nogil:
    cdef NoticeKind kind = NOTICE_SUBSCRIBED if reason_code < 0x80 else NOTICE_SUBSCRIBE_REFUSED
    connection.tenant.counters.subscribes[connection.link.session.is_persistent] += reason_code < 0x80
    if is_noticed(&connection.shard.world, kind):
        notice_session(
            connection.link.session, kind, absent(), request.topic_filter, reason_code, subscription_id, 0, 0)


cdef void handle_subscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef SubscribePacket packet
    cdef SubscriptionRequest request
    cdef const char *detail = NULL
    cdef int reason = decode_subscribe(body, frame.body_size, connection.link.version, &packet, &detail)
    cdef const char *failure
    cdef uint8_t *reason_codes
    cdef uint16_t count = 0
    cdef Bytes rest
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return
    connection.effort += packet.filter_count * EFFORT_OF_FILTER
    if packet.filter_count > connection.tenant.settings.max_topic_filters_per_sub:
        connection_close(
            connection, REASON_ADMINISTRATIVE_ACTION, b"more topic filters than MaxTopicFiltersPerSub", True)
        return
    if packet.subscription_id != 0 and not connection.tenant.settings.subscription_identifier_enabled:
        connection_close(
            connection, REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, b"SubscriptionIdentifierEnabled is off", True)
        return
    reason_codes = <uint8_t *> malloc(packet.filter_count)
    if reason_codes == NULL:
        connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
        return
    forget_recent_topic(&connection.shard.world)
    rest = packet.filters
    while next_subscription(&rest, connection.link.version, &request):
        failure = NULL
        reason_codes[count] = _subscribe_one(connection, &request, packet.subscription_id, &failure)
        _notice_subscribing(connection, &request, packet.subscription_id, reason_codes[count])
        count += 1
        if detail == NULL:
            detail = failure
    if connection.link.session.is_written:
        journal_await(&connection.link, &connection.shard.world)
    _send_suback(connection, PACKET_SUBACK, packet.packet_id, reason_codes, count, detail)
    free(reason_codes)


cdef uint8_t subscribe_for(Connection *connection, const SubscriptionRequest *request, bint *existed) noexcept nogil:
    cdef const char *detail = NULL
    cdef ParsedFilter parsed
    cdef uint8_t reason_code
    existed[0] = parse_topic_filter(
        request.topic_filter.data, request.topic_filter.size, &connection.tenant.settings.topic_limits, &parsed
    ) == TOPIC_OK and subscription_find(connection.link.session, &parsed) != NULL
    forget_recent_topic(&connection.shard.world)
    reason_code = _subscribe_one(connection, request, 0, &detail)
    _notice_subscribing(connection, request, 0, reason_code)
    return reason_code


cdef uint8_t _unsubscribe_one(Connection *connection, Bytes topic_filter, const char **detail) noexcept nogil:
    cdef Session *session = connection.link.session
    cdef ParsedFilter parsed
    cdef TopicError error = parse_topic_filter(
        topic_filter.data, topic_filter.size, &connection.tenant.settings.topic_limits, &parsed)
    if error != TOPIC_OK:
        detail[0] = describe_topic_error(error)
        return REASON_TOPIC_FILTER_INVALID
    if session.rules != NULL and not session_may(session, ACTION_UNSUBSCRIBE, parsed.topic_filter):
        connection.tenant.counters.actions_denied += 1
        detail[0] = b"a permission rule does not allow this topic filter"
        return REASON_NOT_AUTHORIZED
    if not quota_allows(
        connection.tenant, session,
        RESOURCE_PERSISTENT_UNSUBSCRIBES if session.is_persistent else RESOURCE_TRANSIENT_UNSUBSCRIBES, 1
    ):
        detail[0] = _OUT_OF_RESOURCE
        return REASON_UNSPECIFIED_ERROR  # UNSUBACK knows no Quota exceeded [MQTT5 3.11.3].
    if parsed.share_kind == SHARE_NONE and subscription_find(session, &parsed) != NULL:
        # What is still to come of its retained messages must not come any more [MQTT-3.10.4-2].
        replay_cancel(connection.shard, session, subscription_find(session, &parsed).filter_id)
    if not session_unsubscribe(session, &parsed):
        return REASON_NO_SUBSCRIPTION_EXISTED
    session_measure(session, False)
    return REASON_SUCCESS


cdef void _notice_unsubscribing(
    const Connection *connection, Bytes topic_filter, uint8_t reason_code
) noexcept nogil:
    connection.tenant.counters.unsubscribes[connection.link.session.is_persistent] += reason_code == REASON_SUCCESS
    if is_noticed(&connection.shard.world, NOTICE_UNSUBSCRIBED):
        notice_session(
            connection.link.session, NOTICE_UNSUBSCRIBED, absent(), topic_filter, reason_code, 0, 0, 0)


cdef uint8_t unsubscribe_for(Connection *connection, Bytes topic_filter) noexcept nogil:
    cdef const char *detail = NULL
    cdef uint8_t reason_code
    forget_recent_topic(&connection.shard.world)
    reason_code = _unsubscribe_one(connection, topic_filter, &detail)
    _notice_unsubscribing(connection, topic_filter, reason_code)
    return reason_code


cdef void handle_unsubscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef UnsubscribePacket packet
    cdef const char *detail = NULL
    cdef int reason = decode_unsubscribe(body, frame.body_size, connection.link.version, &packet, &detail)
    cdef const char *failure
    cdef uint8_t *reason_codes
    cdef uint16_t count = 0
    cdef Bytes rest, topic_filter
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return
    connection.effort += packet.filter_count * EFFORT_OF_FILTER
    if packet.filter_count > connection.tenant.settings.max_topic_filters_per_sub:
        connection_close(
            connection, REASON_ADMINISTRATIVE_ACTION, b"more topic filters than MaxTopicFiltersPerSub", True)
        return
    reason_codes = <uint8_t *> malloc(packet.filter_count)
    if reason_codes == NULL:
        connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
        return
    forget_recent_topic(&connection.shard.world)
    rest = packet.filters
    while next_topic_filter(&rest, &topic_filter):
        failure = NULL
        reason_codes[count] = _unsubscribe_one(connection, topic_filter, &failure)
        _notice_unsubscribing(connection, topic_filter, reason_codes[count])
        count += 1
        if detail == NULL:
            detail = failure
    if connection.link.session.is_written:
        journal_await(&connection.link, &connection.shard.world)
    _send_suback(connection, PACKET_UNSUBACK, packet.packet_id, reason_codes, count, detail)
    free(reason_codes)
