"""See attaching.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from rookery.core.permissions.placeholders cimport CLIENT_NAME, TENANT_NAME, USER_NAME, Identity, inspect_names
from rookery.core.permissions.rule_set cimport (
    ACTION_PUBLISH, VERDICT_ALLOWED, VERDICT_QOS, VERDICT_RETAIN, RuleSet, rule_set_check, rule_set_current,
)
from rookery.core.sessions.aliases cimport ALIASES_MAXIMUM, aliases_new
from rookery.core.sessions.journal cimport journal_await, journal_follow
from rookery.core.sessions.message cimport Message, Publication, message_new, message_release
from rookery.core.sessions.notices cimport (
    NOTICE_CLEAN_START, NOTICE_CLIENT_CONNECTED, NOTICE_HAS_WILL, NOTICE_SESSION_PRESENT, NOTICE_SESSION_STARTED,
)
from rookery.core.sessions.quota cimport has_quota, quota_take
from rookery.core.sessions.session cimport session_attach, session_find, session_new, session_pump
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport (
    RESOURCE_CONNECTIONS, RESOURCE_CONNECTS, RESOURCE_PERSISTENT_SESSIONS, RESOURCE_PERSISTENT_SPACE_BYTES,
    RESOURCE_SESSION_MEMORY_BYTES, Session, Tenant, World,
)
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.authentication cimport authentication_method
from rookery.core.shards.connections cimport connection_end_exchange
from rookery.core.shards.lifecycle cimport (
    connack_begin, connack_send, connection_close, connection_refuse, connection_watch, session_finish,
)
from rookery.core.shards.permissions cimport permissions_put_in_force
from rookery.core.shards.publish_packets cimport is_server_topic
from rookery.core.shards.ownership cimport session_key_hash
from rookery.core.shards.queues cimport command_free, command_string
from rookery.core.shards.state cimport (
    ADMIT_ADDITIONS, ADMIT_ATTRIBUTES, ADMIT_AUTHENTICATION_DATA, ADMIT_REASON_STRING, ADMIT_RESPONSE_INFORMATION,
    ADMIT_TENANT_ID, ADMIT_USER_ID, ADMIT_USER_PROPERTIES, ATTACHED, Command, Connection, Shard,
)
from rookery.core.shards.tenants cimport tenant_acquire
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.packet_ids cimport packet_ids_count
from rookery.core.topics.names cimport TOPIC_OK, TopicError, check_topic, describe_topic_error
from rookery.core.wire.encode cimport OutgoingConnack, size_connack
from rookery.core.wire.packets cimport ConnectPacket
from rookery.core.wire.properties cimport add_part
from rookery.core.wire.spec cimport (
    MQTT_3_1, MQTT_3_1_1, MQTT_5_0, REASON_NOT_AUTHORIZED, REASON_PACKET_TOO_LARGE, REASON_PAYLOAD_FORMAT_INVALID,
    REASON_QOS_NOT_SUPPORTED, REASON_QUOTA_EXCEEDED, REASON_RETAIN_NOT_SUPPORTED, REASON_SERVER_UNAVAILABLE,
    REASON_SESSION_TAKEN_OVER, REASON_SUCCESS, REASON_TOPIC_NAME_INVALID, REASON_UNSUPPORTED_PROTOCOL_VERSION,
)
from rookery.core.wire.text cimport is_utf8_payload


cdef uint8_t _check_will(const Settings *settings, ConnectPacket *packet, const char **detail) noexcept nogil:
    cdef TopicError error
    if not packet.has_will:
        return REASON_SUCCESS
    error = check_topic(packet.will.topic.data, packet.will.topic.size, &settings.topic_limits)
    if error != TOPIC_OK:
        detail[0] = describe_topic_error(error)
        return REASON_TOPIC_NAME_INVALID
    if is_server_topic(&packet.will.topic):
        detail[0] = b"$SYS belongs to the server"
        return REASON_NOT_AUTHORIZED
    if (
        packet.will.payload_format_indicator
        and settings.payload_format_validation_enabled
        and not is_utf8_payload(packet.will.payload.data, packet.will.payload.size)
    ):
        detail[0] = b"the will message is not UTF-8"
        return REASON_PAYLOAD_FORMAT_INVALID
    if packet.will.payload.size > settings.max_last_will_bytes:
        detail[0] = b"the will message is larger than MaxLastWillBytes allows"
        return REASON_PACKET_TOO_LARGE
    if packet.will.qos > settings.maximum_qos:
        return REASON_QOS_NOT_SUPPORTED  # [MQTT-3.2.2-12]
    if packet.will.retain and not settings.retain_enabled:
        return REASON_RETAIN_NOT_SUPPORTED  # [MQTT-3.2.2-13]
    return REASON_SUCCESS


cdef bint _is_will_permitted(const Command *command, const ConnectPacket *packet) noexcept nogil:
    cdef Identity identity
    cdef uint8_t verdict
    if command.rules == NULL:
        return True
    identity.names[TENANT_NAME] = command_string(command, ADMIT_TENANT_ID)
    identity.names[USER_NAME] = command_string(command, ADMIT_USER_ID)
    identity.names[CLIENT_NAME] = packet.client_id
    inspect_names(&identity)
    verdict = rule_set_check(command.rules, ACTION_PUBLISH, &identity, packet.will.topic)
    return (
        verdict & VERDICT_ALLOWED
        and packet.will.qos <= verdict & VERDICT_QOS
        and (not packet.will.retain or verdict & VERDICT_RETAIN)
    )


cdef bint _is_version_enabled(const Settings *settings, uint8_t version) noexcept nogil:
    if version == MQTT_3_1:
        return settings.mqtt3_enabled
    if version == MQTT_3_1_1:
        return settings.mqtt4_enabled
    return settings.mqtt5_enabled


cdef uint32_t _granted_expiry(const Settings *settings, const ConnectPacket *packet) noexcept nogil:
    """The Session Expiry Interval in force: 0 stays 0, everything else lies between the tenant's bounds."""
    if settings.force_transient or packet.session_expiry_interval == 0:
        return 0
    if packet.session_expiry_interval > settings.max_session_expiry_seconds:
        return settings.max_session_expiry_seconds
    if packet.session_expiry_interval < settings.min_session_expiry_seconds:
        return settings.min_session_expiry_seconds
    return packet.session_expiry_interval


cdef uint16_t _granted_keep_alive(const Settings *settings, const ConnectPacket *packet) noexcept nogil:
    """The Keep Alive in force. A 3.x client is not told that its own was raised, but notices nothing of it either."""
    if packet.keep_alive == 0 or packet.keep_alive >= settings.min_keep_alive_seconds:
        return packet.keep_alive
    return settings.min_keep_alive_seconds


cdef Message *_will_message(Session *session, const Connection *connection, ConnectPacket *packet) noexcept nogil:
    cdef Publication publication
    memset(&publication, 0, sizeof(Publication))
    publication.topic = packet.will.topic
    publication.payload = packet.will.payload
    publication.forwarded = packet.will.forwarded
    if connection.additions != NULL:
        add_part(&publication.forwarded, connection.additions, connection.additions + connection.additions_size)
    publication.qos = packet.will.qos
    publication.retain = packet.will.retain
    publication.publisher = session.serial
    return message_new(&publication)


cdef void _keep_identity(Session *session, Command *command, Connection *connection) noexcept nogil:
    cdef Bytes attributes = command_string(command, ADMIT_ATTRIBUTES)
    free(session.attributes)
    session.attributes_size = 0
    session.attributes = <uint8_t *> malloc(attributes.size + 1)
    if session.attributes != NULL:
        memcpy(session.attributes, attributes.data, attributes.size)
        session.attributes_size = <uint32_t> attributes.size


cdef void _keep_additions(Connection *connection, Command *command) noexcept nogil:
    cdef Bytes additions = command_string(command, ADMIT_ADDITIONS)
    if additions.size == 0:
        return
    # Without memory its messages go without.
    connection.additions = <uint8_t *> malloc(additions.size)
    if connection.additions != NULL:
        memcpy(connection.additions, additions.data, additions.size)
        connection.additions_size = <uint32_t> additions.size


cdef Session *_take_over(
    Shard *shard, Tenant *tenant, uint64_t key_hash, Bytes user_id, ConnectPacket *packet, bint *session_present
) noexcept nogil:
    """The session that the client gets; NULL when memory is short."""
    cdef Session *session = session_find(
        tenant, key_hash, user_id.data, <uint16_t> user_id.size, packet.client_id.data,
        <uint16_t> packet.client_id.size)
    cdef Connection *other
    session_present[0] = False
    if session != NULL and session.link != NULL:
        # The will of the old connection is published, but one with a delay is cancelled by this connection if the
        # session goes on [MQTT-3.1.4-3], [MQTT-3.1.3-9].
        other = <Connection *> session.link
        connection_close(other, REASON_SESSION_TAKEN_OVER, NULL, True)
        session = session_find(
            tenant, key_hash, user_id.data, <uint16_t> user_id.size, packet.client_id.data,
            <uint16_t> packet.client_id.size)
    if session != NULL and packet.clean_start:
        session_finish(shard, session)  # [MQTT-3.1.2-4]
        session = NULL
    if session != NULL:
        session_present[0] = True
        return session
    return session_new(
        tenant, key_hash, user_id.data, <uint16_t> user_id.size, packet.client_id.data,
        <uint16_t> packet.client_id.size)


cdef uint8_t _check_quota(Tenant *tenant, const Session *session, bint is_new, bint is_persistent) noexcept nogil:
    """Does the tenant have room for one more? session: the one that the client would find, or NULL."""
    if (
        (session == NULL or session.link == NULL)
        and not quota_take(tenant, session, RESOURCE_CONNECTIONS, 1)
        or not quota_take(tenant, session, RESOURCE_SESSION_MEMORY_BYTES, 1)
        or not quota_take(tenant, session, RESOURCE_CONNECTS, 1)
    ):
        return REASON_QUOTA_EXCEEDED
    if is_new and is_persistent and (
        not quota_take(tenant, session, RESOURCE_PERSISTENT_SESSIONS, 1)
        or not quota_take(tenant, session, RESOURCE_PERSISTENT_SPACE_BYTES, 1)
    ):
        return REASON_QUOTA_EXCEEDED
    return REASON_SUCCESS


cdef void _announce(
    const Settings *settings, const ConnectPacket *packet, uint32_t session_expiry_interval, uint16_t keep_alive,
    bint is_assigned, OutgoingConnack *connack
) noexcept nogil:
    """What holds for this connection and differs from what the client asked for, or from what it must assume."""
    connack_begin(connack)
    if packet.protocol_version != MQTT_5_0:
        return
    if is_assigned:
        connack.assigned_client_id = packet.client_id  # [MQTT-3.1.3-7], [MQTT-3.2.2-16]
    if keep_alive != packet.keep_alive:
        connack.has_server_keep_alive = 1  # [MQTT-3.1.2-21]
        connack.server_keep_alive = keep_alive
    if session_expiry_interval != packet.session_expiry_interval:
        connack.has_session_expiry_interval = 1
        connack.session_expiry_interval = session_expiry_interval
    connack.maximum_qos = settings.maximum_qos  # [MQTT-3.2.2-9]
    connack.retain_available = settings.retain_enabled
    connack.wildcard_subscription_available = settings.wildcard_subscription_enabled
    connack.subscription_identifier_available = settings.subscription_identifier_enabled
    connack.shared_subscription_available = settings.shared_subscription_enabled
    connack.receive_maximum = settings.receiving_maximum
    connack.topic_alias_maximum = settings.max_topic_alias
    connack.maximum_packet_size = settings.max_user_payload_bytes


cdef void _answer(
    Connection *connection, const ConnectPacket *packet, const Command *command, OutgoingConnack *connack
) noexcept nogil:
    """What the control plane has to say beside its yes, and the client must get."""
    cdef Bytes response_information = command_string(command, ADMIT_RESPONSE_INFORMATION)
    if packet.request_response_information and response_information.size > 0:
        connack.response_information = response_information  # [MQTT-3.1.2-28]
    if connection.authentication != NULL:
        connack.authentication_method = authentication_method(connection)  # [MQTT-4.12.0-5]
        if command.flag:
            connack.authentication_data = command_string(command, ADMIT_AUTHENTICATION_DATA)


cdef void _comment(Connection *connection, const Command *command, OutgoingConnack *connack) noexcept nogil:
    """What it has to say beside that, and the client may miss when its Maximum Packet Size is short."""
    cdef Bytes reason_string = command_string(command, ADMIT_REASON_STRING)
    if not connection.wants_problem_information:
        return
    if reason_string.size > 0:
        connack.reason_string = reason_string
    connack.user_properties = command_string(command, ADMIT_USER_PROPERTIES)


cdef void _keep_will(Session *session, const Connection *connection, ConnectPacket *packet) noexcept nogil:
    # A will of the old connection that waits for its delay is cancelled [MQTT-3.1.3-9].
    message_release(session.will.message)
    memset(&session.will, 0, sizeof(session.will))
    if packet.has_will:
        session.will.message = _will_message(session, connection, packet)  # [MQTT-3.1.2-7]
        session.will.delay_interval = packet.will.will_delay_interval
        session.will.has_message_expiry = packet.will.has_message_expiry
        session.will.message_expiry_interval = packet.will.message_expiry_interval


cdef void _notice_attached(
    const Connection *connection, const ConnectPacket *packet, bint session_present
) noexcept nogil:
    cdef const World *world = &connection.shard.world
    cdef const Session *session = connection.link.session
    cdef uint64_t flags = 0
    cdef Bytes peer
    session.tenant.counters.connects += 1
    if not session_present and is_noticed(world, NOTICE_SESSION_STARTED):
        notice_session(session, NOTICE_SESSION_STARTED, absent(), absent(), session.is_persistent, 0, 0, 0)
    if not is_noticed(world, NOTICE_CLIENT_CONNECTED):
        return
    if packet.clean_start:
        flags |= NOTICE_CLEAN_START
    if session_present:
        flags |= NOTICE_SESSION_PRESENT
    if packet.has_will:
        flags |= NOTICE_HAS_WILL
    peer.data = connection.peer
    peer.size = connection.peer_size
    notice_session(
        session, NOTICE_CLIENT_CONNECTED, peer, absent(), session.version, flags, session.keep_alive,
        session.session_expiry_interval)


cdef void attach(Connection *connection, ConnectPacket *packet, Command *command, bint is_assigned) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef Bytes user_id = command_string(command, ADMIT_USER_ID)
    cdef Tenant *tenant = tenant_acquire(shard, command_string(command, ADMIT_TENANT_ID))
    cdef const Settings *settings
    cdef const char *detail = NULL
    cdef uint8_t reason
    cdef uint32_t session_expiry_interval
    cdef uint16_t keep_alive
    cdef Session *session
    cdef bint session_present
    cdef OutgoingConnack connack
    cdef RuleSet *rules
    if tenant == NULL:
        command_free(command)
        connection_refuse(connection, packet.protocol_version, REASON_SERVER_UNAVAILABLE, NULL)
        return
    connection.tenant = tenant
    connection_end_exchange(connection)
    settings = &tenant.settings
    session_expiry_interval = _granted_expiry(settings, packet)
    keep_alive = _granted_keep_alive(settings, packet)
    _announce(settings, packet, session_expiry_interval, keep_alive, is_assigned, &connack)
    _answer(connection, packet, command, &connack)
    # They may have been replaced while the command was under way.
    command.rules = rule_set_current(command.rules)
    reason = _check_will(settings, packet, &detail)
    if reason == REASON_SUCCESS and packet.has_will and not _is_will_permitted(command, packet):
        tenant.counters.actions_denied += 1
        reason = REASON_NOT_AUTHORIZED
        detail = b"a permission rule does not allow the will message"
    if not _is_version_enabled(settings, packet.protocol_version):
        reason = REASON_UNSUPPORTED_PROTOCOL_VERSION
    elif packet.maximum_packet_size != 0 and (
        size_connack(&connack, packet.protocol_version) > packet.maximum_packet_size
    ):
        reason = REASON_PACKET_TOO_LARGE  # It could not even be told what holds [MQTT-3.1.2-24].
    if reason == REASON_SUCCESS and has_quota(tenant):
        session = session_find(
            tenant, session_key_hash(shard, user_id, packet.client_id), user_id.data, <uint16_t> user_id.size,
            packet.client_id.data, <uint16_t> packet.client_id.size)
        reason = _check_quota(
            tenant, session, session == NULL or not session.is_persistent or packet.clean_start,
            session_expiry_interval != 0)
        detail = b"the tenant has not enough left of a resource"
    if reason != REASON_SUCCESS:
        command_free(command)
        connection_refuse(connection, packet.protocol_version, reason, detail)
        return
    if settings.force_transient:
        packet.clean_start = 1
    session = _take_over(
        shard, tenant, session_key_hash(shard, user_id, packet.client_id), user_id, packet, &session_present)
    if session == NULL:
        command_free(command)
        connection_refuse(connection, packet.protocol_version, REASON_SERVER_UNAVAILABLE, NULL)
        return
    _keep_identity(session, command, connection)
    _keep_additions(connection, command)
    rules = command.rules
    command.rules = NULL
    permissions_put_in_force(shard, session, rules)
    connack.session_present = session_present  # [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    session.session_expiry_interval = session_expiry_interval
    session.is_persistent = session_expiry_interval != 0
    session.keep_alive = keep_alive
    _keep_will(session, connection, packet)
    connection.state = ATTACHED
    shard.pending_connects -= 1
    connection.keep_alive = keep_alive
    connection.last_receive_ms = shard.world.now_ms
    connection.ends_at_ms = shard.world.now_ms + command.number if command.number != 0 else 0
    connection.packet_size_maximum = settings.max_user_payload_bytes
    # What the client sent before and did not release yet does not count on this connection [MQTT5 4.9].
    connection.receive_maximum = <uint16_t> min(
        65535, settings.receiving_maximum + packet_ids_count(&session.received))
    connection.link.receive_maximum = packet.receive_maximum
    if packet.topic_alias_maximum != 0 and settings.max_topic_alias != 0:
        # No more than the client takes [MQTT-3.1.2-26]. Without memory for the table it gets none.
        connection.link.aliases = aliases_new(
            min(packet.topic_alias_maximum, settings.max_topic_alias, <uint16_t> ALIASES_MAXIMUM))
    session_attach(session, &connection.link)
    journal_follow(session)
    if session.is_written:
        journal_await(&connection.link, &shard.world)
    _comment(connection, command, &connack)
    connack_send(connection, &connack, packet.protocol_version)
    command_free(command)  # CONNACK borrowed from it.
    free(connection.connect_body)
    connection.connect_body = NULL
    connection_watch(connection)
    _notice_attached(connection, packet, session_present)
    session_pump(session)
