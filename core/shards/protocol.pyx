"""See protocol.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strlen

from rookery.core.log.writer cimport LOG_REFUSES
from rookery.core.permissions.rule_set cimport (
    ACTION_SUBSCRIBE, ACTION_UNSUBSCRIBE, VERDICT_ALLOWED, VERDICT_QOS, VERDICT_RETAIN,
)
from rookery.core.sessions.journal cimport (
    journal_await, journal_begin_group, journal_end_group, journal_message, journal_released, journal_taken,
)
from rookery.core.sessions.message cimport NEVER, Publication, publication_end
from rookery.core.sessions.notices cimport (
    NOTICE_MESSAGE_CONFIRMED, NOTICE_MESSAGE_PUBLISHED, NOTICE_PING_RECEIVED, NOTICE_PUBLISH_REFUSED,
    NOTICE_SUBSCRIBE_REFUSED, NOTICE_SUBSCRIBED, NOTICE_UNSUBSCRIBED, NoticeKind,
)
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.publish cimport Outcome, forget_recent_topic, is_kept, is_recent_topic
from rookery.core.sessions.quota cimport has_quota, quota_allows, quota_take, session_measure
from rookery.core.sessions.rights cimport session_may, session_may_publish
from rookery.core.sessions.session cimport session_puback, session_pubcomp, session_pubrec
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport (
    NO_LOCAL, RESOURCE_PERSISTENT_SUBSCRIBES, RESOURCE_PERSISTENT_SUBSCRIPTIONS, RESOURCE_PERSISTENT_UNSUBSCRIBES,
    RESOURCE_RETAIN_MATCH_BYTES, RESOURCE_RETAIN_MATCHES, RESOURCE_SHARED_SUBSCRIPTIONS, RESOURCE_TRANSIENT_SUBSCRIBES,
    RESOURCE_TRANSIENT_SUBSCRIPTIONS, RESOURCE_TRANSIENT_UNSUBSCRIBES, RETAIN_AS_PUBLISHED, Commitment, Journal, Link,
    Resource, Session, Tenant,
)
from rookery.core.sessions.subscriptions cimport (
    SUBSCRIBE_GROUP_FULL, SUBSCRIBE_NO_MEMORY, SUBSCRIBE_TOO_MANY, SUBSCRIBED_NEW,
    session_subscribe, session_unsubscribe, subscription_find,
)
from rookery.core.sessions.witness cimport absent, is_noticed, is_noticed_in_debug, notice_session
from rookery.core.shards.authentication cimport authentication_handle
from rookery.core.shards.commits cimport commits_hold_back
from rookery.core.shards.holding cimport hold_for_shards, hold_for_subscriber
from rookery.core.shards.lifecycle cimport connection_close, connection_left
from rookery.core.shards.pacing cimport pacing_take_publish
from rookery.core.shards.publishing cimport shard_publish
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.replays cimport replay_begin, replay_cancel
from rookery.core.shards.state cimport EFFORT_OF_FILTER, Connection, Shard, TopicAlias
from rookery.core.structures.atomics cimport atomic_load_u64
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.packet_ids cimport (
    packet_ids_add, packet_ids_count, packet_ids_has, packet_ids_remove,
)
from rookery.core.topics.names cimport (
    SHARE_NONE, TOPIC_OK, ParsedFilter, TopicError, check_topic, describe_topic_error, parse_topic_filter,
)
from rookery.core.wire.decode cimport (
    decode_acknowledgement, decode_disconnect, decode_publish, decode_subscribe, decode_unsubscribe, is_header_valid,
    next_subscription, next_topic_filter,
)
from rookery.core.wire.encode cimport (
    ACKNOWLEDGEMENT_SIZE_MAXIMUM, PINGRESP_SIZE, encode_acknowledgement, encode_pingresp, encode_publish_refusal,
    encode_suback, size_publish_refusal, size_suback,
)
from rookery.core.wire.packets cimport (
    AcknowledgementPacket, DisconnectPacket, Frame, PublishPacket, SubscribePacket, SubscriptionRequest,
    UnsubscribePacket,
)
from rookery.core.wire.properties cimport add_part, copy_forwarded
from rookery.core.wire.spec cimport (
    MQTT_5_0, PACKET_AUTH, PACKET_DISCONNECT, PACKET_PINGREQ, PACKET_PUBACK, PACKET_PUBCOMP, PACKET_PUBLISH,
    PACKET_PUBREC, PACKET_PUBREL, PACKET_SUBACK, PACKET_SUBSCRIBE, PACKET_UNSUBACK, PACKET_UNSUBSCRIBE,
    REASON_ADMINISTRATIVE_ACTION,
    REASON_MALFORMED_PACKET, REASON_NO_MATCHING_SUBSCRIBERS, REASON_NO_SUBSCRIPTION_EXISTED, REASON_NOT_AUTHORIZED,
    REASON_PACKET_IDENTIFIER_NOT_FOUND, REASON_PAYLOAD_FORMAT_INVALID, REASON_PROTOCOL_ERROR,
    REASON_QOS_NOT_SUPPORTED, REASON_QUOTA_EXCEEDED, REASON_RECEIVE_MAXIMUM_EXCEEDED, REASON_RETAIN_NOT_SUPPORTED,
    REASON_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, REASON_SUCCESS,
    REASON_TOPIC_ALIAS_INVALID, REASON_TOPIC_FILTER_INVALID, REASON_TOPIC_NAME_INVALID, REASON_UNSPECIFIED_ERROR,
    REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
)
from rookery.core.wire.text cimport is_utf8_payload

cdef const char *_OUT_OF_RESOURCE = b"the tenant has not enough left of a resource"
cdef const char *_DENIED_PUBLISH = b"a permission rule does not allow this publication"

cdef void _acknowledge(
    Connection *connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef uint8_t *out = outbox_reserve(&connection.link.outbox, ACKNOWLEDGEMENT_SIZE_MAXIMUM)
    # Without memory the acknowledgement is missing and the client sends again after it has reconnected.
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_acknowledgement(
            packet_type, packet_id, reason_code, connection.link.version, out))


cdef Bytes _reason_string(const Connection *connection, const char *detail) noexcept nogil:
    """detail as a Reason String, or nothing when the client does not want to hear [MQTT-3.1.2-29]."""
    cdef Bytes string
    string.data = NULL
    string.size = 0
    if detail != NULL and connection.link.version == MQTT_5_0 and connection.wants_problem_information:
        string.data = <const uint8_t *> detail
        string.size = <Py_ssize_t> strlen(detail)
    return string


cdef inline bint _is_within_maximum(const Connection *connection, Py_ssize_t size) noexcept nogil:
    return connection.link.maximum_packet_size == 0 or size <= connection.link.maximum_packet_size


# PUBLISH

cdef bint _resolve_alias(Connection *connection, PublishPacket *packet) noexcept nogil:
    """Put the topic in place of its alias, or remember it. False when the connection was closed for it."""
    cdef uint16_t limit = connection.tenant.settings.max_topic_alias
    cdef TopicAlias *alias
    if packet.topic_alias > limit:
        connection_close(connection, REASON_TOPIC_ALIAS_INVALID, b"topic alias above the maximum", True)
        return False  # [MQTT-3.3.2-9]
    if connection.aliases == NULL:
        connection.aliases = <TopicAlias *> calloc(limit, sizeof(TopicAlias))
        if connection.aliases == NULL:
            connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
            return False
        connection.alias_count = limit
    if packet.topic_alias > connection.alias_count:
        # The tenant's limit was raised; this client was told the old one.
        connection_close(connection, REASON_TOPIC_ALIAS_INVALID, b"topic alias above the maximum", True)
        return False
    alias = &connection.aliases[packet.topic_alias - 1]
    if packet.topic.size == 0:
        if alias.topic == NULL:
            connection_close(connection, REASON_PROTOCOL_ERROR, b"topic alias that was never set", True)
            return False
        packet.topic.data = alias.topic
        packet.topic.size = alias.size
        return True
    forget_recent_topic(&connection.shard.world)
    if alias.topic != NULL and alias.size == packet.topic.size:
        memcpy(alias.topic, packet.topic.data, packet.topic.size)
        return True
    free(alias.topic)
    alias.topic = <uint8_t *> malloc(packet.topic.size)
    if alias.topic == NULL:
        connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
        return False
    memcpy(alias.topic, packet.topic.data, packet.topic.size)
    alias.size = <uint16_t> packet.topic.size
    return True


cdef void _notice_publish_refused(
    Connection *connection, const PublishPacket *packet, uint8_t reason_code
) noexcept nogil:
    if is_noticed(&connection.shard.world, NOTICE_PUBLISH_REFUSED):
        notice_session(
            connection.link.session, NOTICE_PUBLISH_REFUSED, absent(), packet.topic, packet.qos, packet.retain,
            reason_code, 0)


cdef bint _refuse_publish(
    Connection *connection, const PublishPacket *packet, uint8_t reason_code, const char *detail
) noexcept nogil:
    """A publication that is not accepted: told in the acknowledgement where there is one, else by closing."""
    cdef uint8_t packet_type = PACKET_PUBACK if packet.qos == 1 else PACKET_PUBREC
    cdef Bytes reason_string
    cdef Py_ssize_t size
    cdef uint8_t *out
    _notice_publish_refused(connection, packet, reason_code)
    if connection.link.version != MQTT_5_0 or packet.qos == 0:
        connection_close(connection, reason_code, detail, True)
        return False
    reason_string = _reason_string(connection, detail)
    size = size_publish_refusal(reason_string)
    # [MQTT-3.4.2-2], [MQTT-3.5.2-2]
    if reason_string.size == 0 or not _is_within_maximum(connection, size):
        _acknowledge(connection, packet_type, packet.packet_id, reason_code)
        return False
    out = outbox_reserve(&connection.link.outbox, <uint32_t> size)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_publish_refusal(
            packet_type, packet.packet_id, reason_code, reason_string, out))
    return False


cdef bint _is_topic_allowed(Connection *connection, const PublishPacket *packet) noexcept nogil:
    cdef TopicError error
    error = check_topic(packet.topic.data, packet.topic.size, &connection.tenant.settings.topic_limits)
    if error != TOPIC_OK:
        return _refuse_publish(connection, packet, REASON_TOPIC_NAME_INVALID, describe_topic_error(error))
    if is_server_topic(&packet.topic):
        return _refuse_publish(connection, packet, REASON_NOT_AUTHORIZED, b"$SYS belongs to the server")
    return True


cdef bint _is_permitted(Connection *connection, const PublishPacket *packet, bint is_recent) noexcept nogil:
    """By the rules of the session, which has some."""
    cdef Session *session = connection.link.session
    cdef uint8_t verdict = session_may_publish(session, packet.topic, is_recent)
    if (
        verdict & VERDICT_ALLOWED
        and packet.qos <= verdict & VERDICT_QOS
        and (not packet.retain or verdict & VERDICT_RETAIN)
    ):
        return True
    connection.tenant.counters.actions_denied += 1
    if connection.link.version == MQTT_5_0 and (packet.qos == 0 or session.rules.closes_for_publish):
        _notice_publish_refused(connection, packet, REASON_NOT_AUTHORIZED)
        if session.rules.closes_for_publish:
            connection_close(connection, REASON_NOT_AUTHORIZED, _DENIED_PUBLISH, True)
        return False
    # [MQTT 3.1.1, MQTT-3.3.5-2]: a 3.x client can only be disconnected.
    return _refuse_publish(connection, packet, REASON_NOT_AUTHORIZED, _DENIED_PUBLISH)


cdef bint _may_publish(Connection *connection, PublishPacket *packet) noexcept nogil:
    cdef bint is_recent
    cdef const Settings *settings = &connection.tenant.settings
    if packet.qos > settings.maximum_qos:
        connection_close(connection, REASON_QOS_NOT_SUPPORTED, b"QoS above MaximumQoS", True)
        return False
    if packet.retain and not settings.retain_enabled:
        connection_close(connection, REASON_RETAIN_NOT_SUPPORTED, b"RetainEnabled is off", True)
        return False
    is_recent = is_recent_topic(&connection.shard.world, connection.tenant, &packet.topic)
    if is_recent:
        # The same bytes at the same place: nobody has to compare them again.
        packet.topic = connection.shard.world.recent_topic
    elif not _is_topic_allowed(connection, packet):
        return False
    if connection.link.session.rules != NULL and not _is_permitted(connection, packet, is_recent):
        return False
    if (
        packet.payload_format_indicator
        and settings.payload_format_validation_enabled
        and not is_utf8_payload(packet.payload.data, packet.payload.size)
    ):
        return _refuse_publish(connection, packet, REASON_PAYLOAD_FORMAT_INVALID, b"the payload is not UTF-8")
    return True


cdef void _await_publication(
    Connection *connection, const PublishPacket *packet, bint is_recorded, const Outcome *outcome
) noexcept nogil:
    """The acknowledgement waits until the message is durable wherever it must be."""
    cdef Shard *shard = connection.shard
    cdef Commitment *due = &connection.link.due
    cdef uint64_t crossing = outcome.given_to
    cdef uint32_t home
    # A flood of retained messages of QoS 0, too, waits for a log that cannot take it.
    if packet.qos == 0 and not (packet.retain and shard.world.log_pressure):
        return
    if is_recorded:
        journal_await(&connection.link, &shard.world)
    if shard.universe.shard_count == 1:
        return
    if outcome.other_shards != 0:
        crossing |= outcome.other_shards & atomic_load_u64(&connection.tenant.shared.durable_shards)
    if packet.retain:
        home = home_shard(connection.tenant.shared, shard.universe.shard_count)
        if home != shard.index:
            crossing |= <uint64_t> 1 << home
    if crossing != 0:
        due.shards |= crossing
        due.handover = shard.handovers + 1


cdef bint _is_refused_for_log(Connection *connection, const PublishPacket *packet) noexcept nogil:
    """The disk has failed for long, and this client can be told so instead of being kept waiting; nothing is stored."""
    cdef Session *session = connection.link.session
    if connection.shard.world.log_pressure != LOG_REFUSES or connection.link.version != MQTT_5_0 or packet.qos == 0:
        return False
    if (
        not packet.retain
        and not (packet.qos == 2 and session.is_written)
        and not is_kept(connection.tenant, &packet.topic)
    ):
        return False
    _refuse_publish(connection, packet, REASON_QUOTA_EXCEEDED, b"the durable log cannot be written")
    commits_hold_back(connection)
    return True


cdef void _begin_taking(Connection *connection, Publication *publication, uint16_t packet_id) noexcept nogil:
    """That a message of QoS 2 came and to whom it goes are one: else it might go to them twice, or never."""
    cdef Shard *shard = connection.shard
    cdef uint64_t others = ~(<uint64_t> 1 << shard.index)
    journal_begin_group(&shard.journal)
    if publication.retain and home_shard(connection.tenant.shared, shard.universe.shard_count) != shard.index or (
        atomic_load_u64(&connection.tenant.shared.durable_shards) & others
    ):
        publication.journal_number = journal_message(&shard.journal, publication)
        publication.origin = publication.journal_number
    journal_taken(connection.link.session, packet_id, publication.origin)


cdef void _handle_publish(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef PublishPacket packet
    cdef Publication publication
    cdef Outcome outcome
    cdef Session *session = connection.link.session
    cdef Tenant *tenant = connection.tenant
    cdef const char *detail = NULL
    cdef int reason = decode_publish(
        body, frame.body_size, frame.flags, connection.link.version, &packet, &connection.shard.property_memo, &detail)
    cdef Journal *journal = connection.shard.world.journal
    cdef uint64_t records = 0
    cdef uint8_t answer
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return
    tenant.counters.received[packet.qos] += 1
    tenant.counters.received_bytes[packet.qos] += packet.payload.size
    # First, for the alias holds from now on, whatever becomes of the message.
    if packet.topic_alias != 0 and not _resolve_alias(connection, &packet):
        return
    if tenant.settings.msg_pub_per_sec != 0 and not pacing_take_publish(connection):
        return
    if packet.qos == 2 and packet_ids_has(&session.received, packet.packet_id):
        # Sent again before it was released: it has been handed out already [MQTT-4.3.3-10].
        if session.is_written:
            journal_await(&connection.link, &connection.shard.world)
        _acknowledge(connection, PACKET_PUBREC, packet.packet_id, REASON_SUCCESS)
        return
    if not _may_publish(connection, &packet):
        return
    if connection.shard.world.log_pressure and _is_refused_for_log(connection, &packet):
        return
    if packet.qos == 2:
        if (
            connection.link.version == MQTT_5_0
            and packet_ids_count(&session.received) >= connection.receive_maximum
        ):
            connection_close(
                connection, REASON_RECEIVE_MAXIMUM_EXCEEDED, b"more unreleased messages than Receive Maximum", True)
            return  # [MQTT-3.3.4-9]
        if packet_ids_add(&session.received, packet.packet_id) < 0:
            connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
            return
    publication.topic = packet.topic
    publication.payload = packet.payload
    copy_forwarded(&publication.forwarded, &packet.forwarded)
    if connection.additions != NULL:
        add_part(&publication.forwarded, connection.additions, connection.additions + connection.additions_size)
    publication.expires_at_ms = NEVER
    if packet.has_message_expiry:
        publication.expires_at_ms = (
            connection.shard.world.now_ms + <uint64_t> packet.message_expiry_interval * 1000)
    publication.publisher = session.serial
    publication.qos = packet.qos
    publication.retain = packet.retain
    publication.payload_format_indicator = packet.payload_format_indicator
    publication.packet = NULL
    # What is handed out before the time has gone on has its first Message Expiry Interval.
    if packet.qos == 0 and packet.topic_alias == 0 and connection.additions == NULL:
        publication.packet = body - frame.header_size
        publication.packet_size = frame.header_size + frame.body_size
        publication.packet_is_5 = connection.link.version == MQTT_5_0
    publication.is_fanout = 0
    publication.shared_place = 0
    publication.message = NULL
    publication.journal_number = 0
    publication.origin = 0
    publication.group = 0
    publication.congested = NULL
    memset(publication.encoded, 0, sizeof(publication.encoded))
    memset(&outcome, 0, sizeof(outcome))
    if journal != NULL:
        records = journal.record_count
        if packet.qos == 2 and session.is_written:
            _begin_taking(connection, &publication, packet.packet_id)
    shard_publish(connection.shard, tenant, &publication, &outcome)
    publication_end(&publication)
    connection.effort += outcome.matched
    if journal != NULL:
        if journal.is_in_group:
            journal_end_group(journal)
        _await_publication(connection, &packet, journal.record_count != records, &outcome)
    answer = REASON_SUCCESS
    if outcome.matched == 0 and outcome.other_shards == 0:
        answer = REASON_NO_MATCHING_SUBSCRIBERS
    if is_noticed_in_debug(tenant, NOTICE_MESSAGE_PUBLISHED):
        notice_session(
            session, NOTICE_MESSAGE_PUBLISHED, absent(), packet.topic, packet.qos, outcome.matched,
            packet.payload.size, answer)
    if packet.qos > 0:
        _acknowledge(connection, PACKET_PUBACK if packet.qos == 1 else PACKET_PUBREC, packet.packet_id, answer)
    if publication.congested != NULL:
        hold_for_subscriber(connection, <Link *> publication.congested)
    if outcome.other_shards != 0:
        hold_for_shards(connection, outcome.other_shards)
    if connection.shard.world.log_pressure:
        commits_hold_back(connection)


# Acknowledgements

cdef void _handle_acknowledgement(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef AcknowledgementPacket packet
    cdef Session *session = connection.link.session
    cdef const char *detail = NULL
    cdef int reason = decode_acknowledgement(
        body, frame.body_size, frame.packet_type, connection.link.version, &packet, &detail)
    cdef uint8_t answer
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return
    if frame.packet_type != PACKET_PUBREL and is_noticed_in_debug(connection.tenant, NOTICE_MESSAGE_CONFIRMED):
        notice_session(
            session, NOTICE_MESSAGE_CONFIRMED, absent(), absent(), packet.packet_id, frame.packet_type,
            packet.reason_code, 0)
    if frame.packet_type == PACKET_PUBACK:
        session_puback(session, packet.packet_id)
    elif frame.packet_type == PACKET_PUBREC:
        answer = session_pubrec(session, packet.packet_id, packet.reason_code)
        if packet.reason_code < 0x80:
            _acknowledge(connection, PACKET_PUBREL, packet.packet_id, answer)
    elif frame.packet_type == PACKET_PUBREL:
        answer = REASON_SUCCESS
        if not packet_ids_remove(&session.received, packet.packet_id):
            answer = REASON_PACKET_IDENTIFIER_NOT_FOUND
        elif session.is_written:
            # After PUBCOMP the client may use the identifier for another message.
            journal_released(session, packet.packet_id)
            journal_await(&connection.link, &connection.shard.world)
        _acknowledge(connection, PACKET_PUBCOMP, packet.packet_id, answer)
    else:
        session_pubcomp(session, packet.packet_id)


# SUBSCRIBE and UNSUBSCRIBE

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
    cdef Bytes reason_string = _reason_string(connection, detail)
    cdef Py_ssize_t size = size_suback(packet_type, count, reason_string, version)
    cdef uint8_t *out
    if reason_string.size > 0 and not _is_within_maximum(connection, size):
        reason_string.data = NULL  # [MQTT-3.9.2-1], [MQTT-3.11.2-1]
        size = size_suback(packet_type, count, reason_string, version)
    if not _is_within_maximum(connection, size):
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


cdef void _handle_subscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
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


cdef void _handle_unsubscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
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


# The rest

cdef void _handle_pingreq(Connection *connection, const Frame *frame) noexcept nogil:
    cdef uint8_t *out
    if frame.body_size != 0:
        connection_close(connection, REASON_MALFORMED_PACKET, b"PINGREQ with a body", True)
        return
    if is_noticed_in_debug(connection.tenant, NOTICE_PING_RECEIVED):
        notice_session(connection.link.session, NOTICE_PING_RECEIVED, absent(), absent(), 0, 0, 0, 0)
    out = outbox_reserve(&connection.link.outbox, PINGRESP_SIZE)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_pingresp(out))


cdef void _handle_disconnect(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef DisconnectPacket packet
    cdef Session *session = connection.link.session
    cdef const Settings *settings = &connection.tenant.settings
    cdef const char *detail = NULL
    cdef uint32_t expiry
    cdef int reason = decode_disconnect(body, frame.body_size, connection.link.version, &packet, &detail)
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return
    if packet.has_session_expiry_interval:
        # A tenant whose sessions all end with their connection has changed what the client asked for.
        expiry = 0 if settings.force_transient else packet.session_expiry_interval
        if expiry != 0 and not session.is_persistent:
            connection_close(
                connection, REASON_PROTOCOL_ERROR, b"Session Expiry Interval was 0 and cannot be set now", True)
            return  # [MQTT5 3.14.2.2.2]
        if expiry > settings.max_session_expiry_seconds:
            expiry = settings.max_session_expiry_seconds
        elif expiry != 0 and expiry < settings.min_session_expiry_seconds:
            expiry = settings.min_session_expiry_seconds
        session.session_expiry_interval = expiry
        session.is_persistent = expiry != 0
        session_measure(session, False)
    connection_left(connection, packet.reason_code)


cdef void handle_packet(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef uint8_t packet_type = frame.packet_type
    # No header of two bytes is wrong.
    if packet_type == PACKET_PUBLISH and frame.header_size == 2:
        _handle_publish(connection, frame, body)
        return
    if not is_header_valid(frame, connection.link.version):
        connection_close(connection, REASON_MALFORMED_PACKET, b"malformed fixed header", True)
        return
    if packet_type == PACKET_PUBLISH:
        _handle_publish(connection, frame, body)
    elif packet_type >= PACKET_PUBACK and packet_type <= PACKET_PUBCOMP:
        _handle_acknowledgement(connection, frame, body)
    elif packet_type == PACKET_PINGREQ:
        _handle_pingreq(connection, frame)
    elif packet_type == PACKET_SUBSCRIBE:
        _handle_subscribe(connection, frame, body)
    elif packet_type == PACKET_UNSUBSCRIBE:
        _handle_unsubscribe(connection, frame, body)
    elif packet_type == PACKET_DISCONNECT:
        _handle_disconnect(connection, frame, body)
    elif packet_type == PACKET_AUTH:
        authentication_handle(connection, frame, body)
    else:
        # A second CONNECT [MQTT-3.1.0-2], or a packet that only servers send.
        connection_close(connection, REASON_PROTOCOL_ERROR, b"this packet is not expected here", True)
