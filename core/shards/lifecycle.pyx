"""See lifecycle.pxd."""

from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from rookery.core.sessions.inflight cimport inflight_trim
from rookery.core.sessions.journal cimport journal_session
from rookery.core.sessions.message cimport Message, message_acquire, message_release, message_topic
from rookery.core.sessions.notices cimport (
    NOTICE_CLIENT_DISCONNECTED, NOTICE_CONNECT_REFUSED, NOTICE_CONNECT_TIMED_OUT, NOTICE_CONNECTION_FAILED,
    NOTICE_PUBLISH_REFUSED, NOTICE_SESSION_ENDED, NOTICE_WILL_PUBLISHED,
)
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.rights cimport session_may_send
from rookery.core.sessions.returns cimport Returns, returns_collect, returns_deliver
from rookery.core.sessions.session cimport session_detach, session_end, session_resend, session_watch_resends
from rookery.core.sessions.state cimport Session, Tenant
from rookery.core.sessions.witness cimport (
    absent, is_noticed, notice_session, notice_stranger, text_of,
)
from rookery.core.shards.connections cimport connection_drop, connection_linger
from rookery.core.shards.replays cimport replay_cancel
from rookery.core.shards.state cimport (
    ATTACHED, AUTH_DUE, CLOSED_BY_CLIENT, CLOSED_BY_NETWORK, CLOSED_BY_SERVER, CONNECT_DUE, LINGERING, STALL_MS,
    TURN_OF_NOBODY, VERDICT_DUE, Connection, Shard,
)
from rookery.core.shards.tenants cimport tenant_release
from rookery.core.shards.wills cimport will_drop, will_publish
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.timers cimport wheel_arm
from rookery.core.topics.tree cimport NO_FILTER
from rookery.core.wire.decode cimport decode_connect
from rookery.core.wire.encode cimport (
    OutgoingConnack, encode_connack, encode_disconnect, size_connack, size_disconnect,
)
from rookery.core.wire.packets cimport ConnectPacket
from rookery.core.wire.spec cimport (
    MQTT_5_0, REASON_BAD_AUTHENTICATION_METHOD, REASON_BAD_USER_NAME_OR_PASSWORD, REASON_BANNED,
    REASON_CLIENT_IDENTIFIER_NOT_VALID, REASON_CONNECTION_RATE_EXCEEDED, REASON_IMPLEMENTATION_SPECIFIC_ERROR,
    REASON_KEEP_ALIVE_TIMEOUT, REASON_MALFORMED_PACKET, REASON_MAXIMUM_CONNECT_TIME, REASON_NOT_AUTHORIZED,
    REASON_PACKET_TOO_LARGE, REASON_PAYLOAD_FORMAT_INVALID, REASON_PROTOCOL_ERROR, REASON_QOS_NOT_SUPPORTED,
    REASON_QUOTA_EXCEEDED, REASON_RETAIN_NOT_SUPPORTED, REASON_SERVER_BUSY, REASON_SERVER_MOVED,
    REASON_SERVER_UNAVAILABLE, REASON_SUCCESS, REASON_TOPIC_NAME_INVALID, REASON_UNSPECIFIED_ERROR,
    REASON_UNSUPPORTED_PROTOCOL_VERSION, REASON_USE_ANOTHER_SERVER, SESSION_EXPIRY_NEVER,
)

# What a CONNACK may say [MQTT-3.2.2-8]; for all else it says Implementation specific error.
cdef uint8_t[256] IS_CONNACK_REASON

for _reason in (
    REASON_UNSPECIFIED_ERROR, REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR, REASON_IMPLEMENTATION_SPECIFIC_ERROR,
    REASON_UNSUPPORTED_PROTOCOL_VERSION, REASON_CLIENT_IDENTIFIER_NOT_VALID, REASON_BAD_USER_NAME_OR_PASSWORD,
    REASON_NOT_AUTHORIZED, REASON_SERVER_UNAVAILABLE, REASON_SERVER_BUSY, REASON_BANNED,
    REASON_BAD_AUTHENTICATION_METHOD, REASON_TOPIC_NAME_INVALID, REASON_PACKET_TOO_LARGE, REASON_QUOTA_EXCEEDED,
    REASON_PAYLOAD_FORMAT_INVALID, REASON_RETAIN_NOT_SUPPORTED, REASON_QOS_NOT_SUPPORTED, REASON_USE_ANOTHER_SERVER,
    REASON_SERVER_MOVED, REASON_CONNECTION_RATE_EXCEEDED,
):
    IS_CONNACK_REASON[_reason] = 1


cdef inline Bytes _topic(const Message *message) noexcept nogil:
    cdef Bytes topic
    topic.data = message_topic(message)
    topic.size = message.topic_size
    return topic


cdef void _publish_will(Shard *shard, Session *session) noexcept nogil:
    cdef Message *message = session.will.message
    # Allowed at CONNECT; the rules may have been replaced since.
    if session.rules != NULL and not session_may_send(session, _topic(message), message.qos, message.retain):
        session.tenant.counters.actions_denied += 1
        if is_noticed(&shard.world, NOTICE_PUBLISH_REFUSED):
            notice_session(
                session, NOTICE_PUBLISH_REFUSED, absent(), _topic(message), message.qos, message.retain,
                REASON_NOT_AUTHORIZED, 0)
        will_drop(session)
        return
    if session.will.has_message_expiry:
        # Nobody else holds the message yet.
        session.will.message.expires_at_ms = (
            shard.world.now_ms + <uint64_t> session.will.message_expiry_interval * 1000)
    message_acquire(message)
    will_publish(shard, session)
    if is_noticed(&shard.world, NOTICE_WILL_PUBLISHED):
        notice_session(
            session, NOTICE_WILL_PUBLISHED, absent(), _topic(message), message.qos, message.retain,
            message.payload_size, 0)
    message_release(message)


cdef void session_finish(Shard *shard, Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    cdef Returns returns
    # The tenant may have no other user than this session.
    tenant.users += 1
    if session.will.message != NULL:
        _publish_will(shard, session)
    replay_cancel(shard, session, NO_FILTER)
    if is_noticed(&shard.world, NOTICE_SESSION_ENDED):
        notice_session(session, NOTICE_SESSION_ENDED, absent(), absent(), session.is_persistent, 0, 0, 0)
    returns_collect(session, &returns)
    session_end(session)
    returns_deliver(tenant, &returns)
    tenant_release(shard, tenant)


cdef inline uint64_t _offline_ms(const Shard *shard, const Session *session) noexcept nogil:
    # Of a session that was read back after the machine was started, detached_at_ms may lie before 0: the difference is
    # right all the same.
    return shard.world.now_ms - session.detached_at_ms


cdef inline uint64_t _left_ms(uint64_t interval_seconds, uint64_t offline_ms) noexcept nogil:
    return interval_seconds * 1000 - offline_ms if interval_seconds * 1000 > offline_ms else 0


cdef void session_await_end(Shard *shard, Session *session) noexcept nogil:
    cdef uint64_t offline_ms = _offline_ms(shard, session)
    cdef uint64_t left = UINT64_MAX
    cdef uint64_t will_left
    if session.session_expiry_interval != SESSION_EXPIRY_NEVER:
        left = _left_ms(session.session_expiry_interval, offline_ms)
    if session.will.is_armed:
        will_left = _left_ms(session.will.delay_interval, offline_ms)
        if will_left < left:
            left = will_left
    if left != UINT64_MAX:
        wheel_arm(shard.world.wheel, &session.timer, shard.world.now_ms + left)


cdef void session_timer_fired(Shard *shard, Session *session) noexcept nogil:
    cdef uint64_t offline_ms = _offline_ms(shard, session)
    if session.link != NULL:
        session_resend(session, (<Connection *> session.link).blocked_since_ms != 0)
        return
    if (
        session.session_expiry_interval != SESSION_EXPIRY_NEVER
        and _left_ms(session.session_expiry_interval, offline_ms) == 0
    ):
        session_finish(shard, session)
        return
    if session.will.is_armed and _left_ms(session.will.delay_interval, offline_ms) == 0:
        _publish_will(shard, session)
    session_await_end(shard, session)


cdef void _part(Connection *connection, bint keeps_will) noexcept nogil:
    """Session and connection go separate ways."""
    cdef Shard *shard = connection.shard
    cdef Session *session = connection.link.session
    session_detach(session)
    if not keeps_will:
        will_drop(session)
    if not session.is_persistent:
        session_finish(shard, session)
        return
    if session.will.message != NULL:
        if session.will.delay_interval == 0:
            _publish_will(shard, session)
        else:
            session.will.is_armed = 1
    if session.is_written:
        journal_session(session, 0)
    session_await_end(shard, session)


cdef Bytes _peer(const Connection *connection) noexcept nogil:
    cdef Bytes peer
    peer.data = connection.peer
    peer.size = connection.peer_size
    return peer


cdef void _notice_parting(
    const Connection *connection, uint8_t cause, uint8_t reason_code, Bytes detail
) noexcept nogil:
    connection.tenant.counters.disconnects += 1
    if is_noticed(&connection.shard.world, NOTICE_CLIENT_DISCONNECTED):
        notice_session(
            connection.link.session, NOTICE_CLIENT_DISCONNECTED, _peer(connection), detail, cause,
            reason_code, 0, 0)


cdef void connection_lost(Connection *connection) noexcept nogil:
    if connection.link.session != NULL:
        _notice_parting(connection, CLOSED_BY_NETWORK, REASON_UNSPECIFIED_ERROR, absent())
        _part(connection, True)
    connection_drop(connection)


cdef void connection_left(Connection *connection, uint8_t reason_code) noexcept nogil:
    _notice_parting(connection, CLOSED_BY_CLIENT, reason_code, absent())
    # A normal DISCONNECT takes the will with it [MQTT-3.14.4-3].
    _part(connection, reason_code != REASON_SUCCESS)
    connection_drop(connection)


cdef void connection_blame(Connection *connection, const char *detail) noexcept nogil:
    if is_noticed(&connection.shard.world, NOTICE_CONNECTION_FAILED):
        notice_stranger(
            &connection.shard.world, NOTICE_CONNECTION_FAILED, absent(), _peer(connection), text_of(detail), 0, 0)


cdef void connection_fail(Connection *connection, const char *detail) noexcept nogil:
    connection_blame(connection, detail)
    connection_drop(connection)


# CONNACK

cdef void connack_begin(OutgoingConnack *connack) noexcept nogil:
    memset(connack, 0, sizeof(OutgoingConnack))
    connack.maximum_qos = 2
    connack.retain_available = 1
    connack.wildcard_subscription_available = 1
    connack.subscription_identifier_available = 1
    connack.shared_subscription_available = 1


cdef void connack_send(Connection *connection, OutgoingConnack *connack, uint8_t version) noexcept nogil:
    cdef uint32_t size = <uint32_t> size_connack(connack, version)
    cdef uint8_t *out
    if connection.link.maximum_packet_size != 0 and size > connection.link.maximum_packet_size:
        # User properties are the first to go [MQTT-3.2.2-20], then the reason string [MQTT-3.2.2-19].
        connack.user_properties.size = 0
        size = <uint32_t> size_connack(connack, version)
        if size > connection.link.maximum_packet_size:
            connack.reason_string.data = NULL
            size = <uint32_t> size_connack(connack, version)
        if size > connection.link.maximum_packet_size:
            return  # [MQTT-3.1.2-24]
    out = outbox_reserve(&connection.link.outbox, size)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_connack(connack, version, out))


cdef void _notice_refusal(
    const Connection *connection, uint8_t version, uint8_t reason_code, Bytes detail
) noexcept nogil:
    cdef ConnectPacket packet
    cdef const char *fault
    if not is_noticed(&connection.shard.world, NOTICE_CONNECT_REFUSED):
        return
    packet.client_id = absent()
    if connection.connect_body != NULL:
        decode_connect(connection.connect_body, connection.connect_size, &packet, &fault)
    notice_stranger(
        &connection.shard.world, NOTICE_CONNECT_REFUSED, packet.client_id, _peer(connection), detail, version,
        reason_code)


cdef void _refuse(
    Connection *connection, uint8_t version, uint8_t reason_code, Bytes reason_string, Bytes server_reference,
    Bytes user_properties
) noexcept nogil:
    cdef OutgoingConnack connack
    _notice_refusal(connection, version, reason_code, reason_string)
    connack_begin(&connack)
    connack.reason_code = reason_code if IS_CONNACK_REASON[reason_code] else REASON_IMPLEMENTATION_SPECIFIC_ERROR
    if reason_string.size > 0 and connection.wants_problem_information:
        connack.reason_string = reason_string
    if connection.wants_problem_information:
        connack.user_properties = user_properties
    if server_reference.size > 0:
        connack.server_reference = server_reference
    connack_send(connection, &connack, version)
    connection_linger(connection)  # [MQTT-3.2.2-7]


cdef void connection_refuse(
    Connection *connection, uint8_t version, uint8_t reason_code, const char *detail
) noexcept nogil:
    _refuse(connection, version, reason_code, text_of(detail), absent(), absent())


cdef void connection_refuse_with(
    Connection *connection, uint8_t reason_code, Bytes reason_string, Bytes server_reference, Bytes user_properties
) noexcept nogil:
    _refuse(connection, connection.link.version, reason_code, reason_string, server_reference, user_properties)


# DISCONNECT

cdef void _tell(
    Connection *connection, uint8_t reason_code, Bytes reason_string, Bytes server_reference
) noexcept nogil:
    cdef uint32_t size
    cdef uint8_t *out
    if reason_string.size == 0 or not connection.wants_problem_information:
        reason_string.data = NULL
    if server_reference.size == 0:
        server_reference.data = NULL
    size = <uint32_t> size_disconnect(reason_code, reason_string, server_reference)
    if connection.link.maximum_packet_size != 0 and size > connection.link.maximum_packet_size:
        # The reason string is the first to go [MQTT-3.14.2-3].
        reason_string = absent()
        size = <uint32_t> size_disconnect(reason_code, reason_string, server_reference)
        if size > connection.link.maximum_packet_size:
            return  # [MQTT-3.1.2-24]
    out = outbox_reserve(&connection.link.outbox, size)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_disconnect(
            reason_code, reason_string, server_reference, out))


cdef void connection_close(
    Connection *connection, uint8_t reason_code, const char *detail, bint keeps_will
) noexcept nogil:
    connection_close_with(connection, reason_code, text_of(detail), absent(), keeps_will)


cdef void connection_close_with(
    Connection *connection, uint8_t reason_code, Bytes reason_string, Bytes server_reference, bint keeps_will
) noexcept nogil:
    if connection.state == LINGERING:
        return
    if connection.state == CONNECT_DUE:
        # Nobody has introduced himself: there is nothing to say and no version to say it in.
        connection_drop(connection)
        return
    if connection.state == VERDICT_DUE or connection.state == AUTH_DUE:
        # No DISCONNECT before CONNACK [MQTT-3.14.0-1].
        _refuse(
            connection, connection.link.version, reason_code, reason_string, server_reference, absent())
        return
    if connection.state == ATTACHED and connection.link.version == MQTT_5_0:
        _tell(connection, reason_code, reason_string, server_reference)
    if connection.link.session != NULL:
        _notice_parting(connection, CLOSED_BY_SERVER, reason_code, reason_string)
        _part(connection, keeps_will)
    connection_linger(connection)


cdef inline uint64_t _silence_due(const Connection *connection) noexcept nogil:
    # One and a half times the Keep Alive [MQTT-3.1.2-22].
    return connection.last_receive_ms + <uint64_t> connection.keep_alive * 1500


cdef inline uint64_t _packet_due(const Connection *connection) noexcept nogil:
    """When the packet that has begun to come has to be there; UINT64_MAX = there is none, or no limit."""
    cdef uint32_t timeout_ms = connection.shard.universe.packet_timeout_ms
    if connection.partial_since_ms == 0 or timeout_ms == 0:
        return UINT64_MAX
    return connection.partial_since_ms + timeout_ms


cdef void connection_watch(Connection *connection) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef uint64_t due = shard.world.now_ms + STALL_MS
    if connection.blocked_since_ms != 0:
        due = connection.blocked_since_ms + STALL_MS
    if connection.keep_alive != 0 and _silence_due(connection) < due:
        due = _silence_due(connection)
    if (
        connection.authentication != NULL
        and connection.authentication.turn != TURN_OF_NOBODY
        and connection.authentication.due_ms < due
    ):
        due = connection.authentication.due_ms
    if connection.ends_at_ms != 0 and connection.ends_at_ms < due:
        due = connection.ends_at_ms
    if _packet_due(connection) < due:
        due = _packet_due(connection)
    wheel_arm(shard.world.wheel, &connection.timer, due)


cdef void connection_timer_fired(Shard *shard, Connection *connection) noexcept nogil:
    cdef uint64_t now_ms = shard.world.now_ms
    if connection.state == CONNECT_DUE:
        if is_noticed(&shard.world, NOTICE_CONNECT_TIMED_OUT):
            notice_stranger(&shard.world, NOTICE_CONNECT_TIMED_OUT, absent(), _peer(connection), absent(), 0, 0)
        connection_drop(connection)
        return
    if connection.state == LINGERING:
        connection_drop(connection)
        return
    if connection.state == VERDICT_DUE:
        connection_refuse(connection, connection.link.version, REASON_SERVER_UNAVAILABLE, b"nobody decided in time")
        return
    if connection.state == AUTH_DUE:
        connection_refuse(
            connection, connection.link.version, REASON_NOT_AUTHORIZED, b"the authentication took too long")
        return
    if connection.is_held:
        # Held back by us, it cannot be heard.
        connection.last_receive_ms = now_ms
        if connection.partial_since_ms != 0:
            connection.partial_since_ms = now_ms
    if connection.keep_alive != 0 and now_ms >= _silence_due(connection):
        connection_close(connection, REASON_KEEP_ALIVE_TIMEOUT, b"keep alive timeout", True)
    elif now_ms >= _packet_due(connection):
        connection_close(connection, REASON_QUOTA_EXCEEDED, b"a packet took too long to arrive", True)
    elif connection.blocked_since_ms != 0 and now_ms >= connection.blocked_since_ms + STALL_MS:
        connection_close(connection, REASON_SERVER_BUSY, b"the client takes no bytes", True)
    elif connection.ends_at_ms != 0 and now_ms >= connection.ends_at_ms:
        connection_close(connection, REASON_MAXIMUM_CONNECT_TIME, b"the authentication has expired", True)
    elif (
        connection.authentication != NULL
        and connection.authentication.turn != TURN_OF_NOBODY
        and now_ms >= connection.authentication.due_ms
    ):
        # [MQTT-4.12.1-2]
        connection_close(connection, REASON_NOT_AUTHORIZED, b"the re-authentication took too long", True)
    else:
        if connection.link.session != NULL:
            inflight_trim(&connection.link.session.inflight)
            session_watch_resends(connection.link.session)  # The tenant may have changed its mind.
        connection_watch(connection)
