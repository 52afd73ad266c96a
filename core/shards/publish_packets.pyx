"""See publish_packets.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from rookery.core.log.writer cimport LOG_REFUSES
from rookery.core.permissions.rule_set cimport VERDICT_ALLOWED, VERDICT_QOS, VERDICT_RETAIN
from rookery.core.sessions.journal cimport (
    journal_await, journal_begin_group, journal_end_group, journal_message, journal_taken,
)
from rookery.core.sessions.message cimport NEVER, Publication, publication_end
from rookery.core.sessions.notices cimport NOTICE_MESSAGE_PUBLISHED, NOTICE_PUBLISH_REFUSED
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.publish cimport Outcome, forget_recent_topic, is_kept, is_recent_topic
from rookery.core.sessions.rights cimport session_may_publish
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport Commitment, Journal, Link, Session, Tenant
from rookery.core.sessions.witness cimport absent, is_noticed, is_noticed_in_debug, notice_session
from rookery.core.shards.commits cimport commits_hold_back
from rookery.core.shards.holding cimport hold_for_shards, hold_for_subscriber
from rookery.core.shards.lifecycle cimport connection_close
from rookery.core.shards.pacing cimport pacing_take_publish
from rookery.core.shards.publish_run cimport PublishRun, run_begin, run_continues, run_end
from rookery.core.shards.publishing cimport shard_publish
from rookery.core.shards.registry cimport home_shard
from rookery.core.shards.replies cimport acknowledge, is_within_maximum, reply_reason
from rookery.core.shards.state cimport Connection, Shard, TopicAlias
from rookery.core.structures.atomics cimport atomic_load_u64
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.packet_ids cimport packet_ids_add, packet_ids_count, packet_ids_has
from rookery.core.topics.names cimport TOPIC_OK, TopicError, check_topic, describe_topic_error
from rookery.core.wire.decode cimport decode_publish
from rookery.core.wire.encode cimport encode_publish_refusal, size_publish_refusal
from rookery.core.wire.packets cimport Frame, PublishPacket
from rookery.core.wire.properties cimport add_part, copy_forwarded
from rookery.core.wire.spec cimport (
    MQTT_5_0, PACKET_PUBACK, PACKET_PUBREC, REASON_NO_MATCHING_SUBSCRIBERS, REASON_NOT_AUTHORIZED,
    REASON_PAYLOAD_FORMAT_INVALID, REASON_PROTOCOL_ERROR, REASON_QOS_NOT_SUPPORTED, REASON_QUOTA_EXCEEDED,
    REASON_RECEIVE_MAXIMUM_EXCEEDED, REASON_RETAIN_NOT_SUPPORTED, REASON_SUCCESS, REASON_TOPIC_ALIAS_INVALID,
    REASON_TOPIC_NAME_INVALID, REASON_UNSPECIFIED_ERROR,
)
from rookery.core.wire.text cimport is_utf8_payload

cdef const char *_DENIED_PUBLISH = b"a permission rule does not allow this publication"

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
    reason_string = reply_reason(connection, detail)
    size = size_publish_refusal(reason_string)
    # [MQTT-3.4.2-2], [MQTT-3.5.2-2]
    if reason_string.size == 0 or not is_within_maximum(connection, size):
        acknowledge(connection, packet_type, packet.packet_id, reason_code)
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


cdef bint _is_repeated(Connection *connection, const PublishPacket *packet) noexcept nogil:
    """A message of QoS 2 sent again before it was released: it has been handed out already [MQTT-4.3.3-10]."""
    cdef Session *session = connection.link.session
    if not packet_ids_has(&session.received, packet.packet_id):
        return False
    if session.is_written:
        journal_await(&connection.link, &connection.shard.world)
    acknowledge(connection, PACKET_PUBREC, packet.packet_id, REASON_SUCCESS)
    return True


cdef bint _take_packet_id(Connection *connection, const PublishPacket *packet) noexcept nogil:
    """A message of QoS 2 has its identifier until PUBREL. False: there are too many, the connection was closed."""
    cdef Session *session = connection.link.session
    if (
        connection.link.version == MQTT_5_0
        and packet_ids_count(&session.received) >= connection.receive_maximum
    ):
        connection_close(
            connection, REASON_RECEIVE_MAXIMUM_EXCEEDED, b"more unreleased messages than Receive Maximum", True)
        return False  # [MQTT-3.3.4-9]
    if packet_ids_add(&session.received, packet.packet_id) < 0:
        connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
        return False
    return True


cdef bint _prepare(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    """The packet in the run of the shard, and what stays the same in a publication of it. False: it is dealt with."""
    cdef PublishRun *run = &connection.shard.publish_run
    cdef PublishPacket *packet = &run.packet
    cdef Publication *publication = &run.publication
    cdef Session *session = connection.link.session
    cdef Tenant *tenant = connection.tenant
    cdef const char *detail = NULL
    cdef int reason = decode_publish(
        body, frame.body_size, frame.flags, connection.link.version, packet, &connection.shard.property_memo, &detail)
    run_end(run)
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return False
    tenant.counters.received[packet.qos] += 1
    tenant.counters.received_bytes[packet.qos] += packet.payload.size
    # First, for the alias holds from now on, whatever becomes of the message.
    if packet.topic_alias != 0 and not _resolve_alias(connection, packet):
        return False
    if tenant.settings.msg_pub_per_sec != 0 and not pacing_take_publish(connection):
        return False
    if packet.qos == 2 and _is_repeated(connection, packet):
        return False
    if not _may_publish(connection, packet):
        return False
    if connection.shard.world.log_pressure and _is_refused_for_log(connection, packet):
        return False
    if packet.qos == 2 and not _take_packet_id(connection, packet):
        return False
    publication.topic = packet.topic
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
    publication.packet_is_5 = connection.link.version == MQTT_5_0
    memset(publication.encoded, 0, sizeof(publication.encoded))
    return True


cdef inline bint _may_repeat(const Connection *connection, const PublishPacket *packet) noexcept nogil:
    """Can packets with the same head do without the checks that this one has passed?"""
    return (
        not packet.payload_format_indicator
        and connection.tenant.settings.msg_pub_per_sec == 0
        and not connection.shard.world.log_pressure
    )


cdef void handle_publish(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef PublishRun *run = &shard.publish_run
    cdef PublishPacket *packet = &run.packet
    cdef Publication *publication = &run.publication
    cdef Tenant *tenant = connection.tenant
    cdef Journal *journal = shard.world.journal
    cdef Outcome outcome
    cdef uint64_t records = 0
    cdef uint8_t answer
    if run_continues(run, &shard.world, frame, body):
        tenant.counters.received[packet.qos] += 1
        tenant.counters.received_bytes[packet.qos] += packet.payload.size
        if packet.qos == 2 and (_is_repeated(connection, packet) or not _take_packet_id(connection, packet)):
            return
    elif not _prepare(connection, frame, body):
        return
    elif _may_repeat(connection, packet):
        run_begin(run, frame, body)
    publication.payload = packet.payload
    publication.packet = NULL
    # What is handed out before the time has gone on has its first Message Expiry Interval.
    if packet.qos == 0 and packet.topic_alias == 0 and connection.additions == NULL:
        publication.packet = body - frame.header_size
        publication.packet_size = frame.header_size + frame.body_size
    if publication.is_fanout:
        publication.is_fanout = 0
        memset(publication.encoded, 0, sizeof(publication.encoded))
    publication.shared_place = 0
    publication.message = NULL
    publication.journal_number = 0
    publication.origin = 0
    publication.group = 0
    publication.congested = NULL
    memset(&outcome, 0, sizeof(outcome))
    if journal != NULL:
        records = journal.record_count
        if packet.qos == 2 and connection.link.session.is_written:
            _begin_taking(connection, publication, packet.packet_id)
    shard_publish(shard, tenant, publication, &outcome)
    publication_end(publication)
    connection.effort += outcome.matched
    if journal != NULL:
        if journal.is_in_group:
            journal_end_group(journal)
        _await_publication(connection, packet, journal.record_count != records, &outcome)
    answer = REASON_SUCCESS
    if outcome.matched == 0 and outcome.other_shards == 0:
        answer = REASON_NO_MATCHING_SUBSCRIBERS
    if is_noticed_in_debug(tenant, NOTICE_MESSAGE_PUBLISHED):
        notice_session(
            connection.link.session, NOTICE_MESSAGE_PUBLISHED, absent(), packet.topic, packet.qos, outcome.matched,
            packet.payload.size, answer)
    if packet.qos > 0:
        acknowledge(connection, PACKET_PUBACK if packet.qos == 1 else PACKET_PUBREC, packet.packet_id, answer)
    if publication.congested != NULL:
        hold_for_subscriber(connection, <Link *> publication.congested)
    if outcome.other_shards != 0:
        hold_for_shards(connection, outcome.other_shards)
    if shard.world.log_pressure:
        commits_hold_back(connection)
