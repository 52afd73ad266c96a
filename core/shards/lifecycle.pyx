"""See lifecycle.pxd."""

from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memset, strlen

from rookery.core.sessions.inflight cimport inflight_trim
from rookery.core.sessions.message cimport message_release
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.publish cimport Outcome
from rookery.core.sessions.session cimport session_detach, session_end
from rookery.core.sessions.state cimport Session, Tenant
from rookery.core.shards.connections cimport connection_drop, connection_linger
from rookery.core.shards.publishing cimport shard_publish_message
from rookery.core.shards.replays cimport replay_cancel
from rookery.core.shards.state cimport (
    ATTACHED, CONNECT_DUE, LINGERING, STALL_MS, VERDICT_DUE, Connection, Shard,
)
from rookery.core.shards.tenants cimport tenant_release
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.timers cimport wheel_arm
from rookery.core.topics.tree cimport NO_FILTER
from rookery.core.wire.encode cimport encode_disconnect, size_disconnect
from rookery.core.wire.spec cimport MQTT_5_0, REASON_KEEP_ALIVE_TIMEOUT, REASON_SERVER_BUSY, SESSION_EXPIRY_NEVER


cdef void _drop_will(Session *session) noexcept nogil:
    message_release(session.will.message)
    session.will.message = NULL
    session.will.is_armed = 0


cdef void _publish_will(Shard *shard, Session *session) noexcept nogil:
    cdef Outcome outcome
    memset(&outcome, 0, sizeof(outcome))
    if session.will.has_message_expiry:
        # Nobody else holds the message yet.
        session.will.message.expires_at_ms = (
            shard.world.now_ms + <uint64_t> session.will.message_expiry_interval * 1000)
    shard_publish_message(shard, session.tenant, session.will.message, &outcome)
    _drop_will(session)


cdef void session_finish(Shard *shard, Session *session) noexcept nogil:
    cdef Tenant *tenant = session.tenant
    # The tenant may have no other user than this session.
    tenant.users += 1
    if session.will.message != NULL:
        _publish_will(shard, session)
    replay_cancel(shard, session, NO_FILTER)
    session_end(session)
    tenant_release(shard, tenant)


cdef void _await_end(Shard *shard, Session *session) noexcept nogil:
    """Arm the timer for the will or the end of a detached session, whichever comes first."""
    cdef uint64_t due = UINT64_MAX
    cdef uint64_t will_due
    if session.session_expiry_interval != SESSION_EXPIRY_NEVER:
        due = session.detached_at_ms + <uint64_t> session.session_expiry_interval * 1000
    if session.will.is_armed:
        will_due = session.detached_at_ms + <uint64_t> session.will.delay_interval * 1000
        if will_due < due:
            due = will_due
    if due != UINT64_MAX:
        wheel_arm(shard.world.wheel, &session.timer, due)


cdef void session_timer_fired(Shard *shard, Session *session) noexcept nogil:
    cdef uint64_t now_ms = shard.world.now_ms
    if (
        session.session_expiry_interval != SESSION_EXPIRY_NEVER
        and now_ms >= session.detached_at_ms + <uint64_t> session.session_expiry_interval * 1000
    ):
        session_finish(shard, session)
        return
    if session.will.is_armed and now_ms >= session.detached_at_ms + <uint64_t> session.will.delay_interval * 1000:
        _publish_will(shard, session)
    _await_end(shard, session)


cdef void _part(Connection *connection, bint keeps_will) noexcept nogil:
    """Session and connection go separate ways."""
    cdef Shard *shard = connection.shard
    cdef Session *session = connection.link.session
    session_detach(session)
    if not keeps_will:
        _drop_will(session)
    if not session.is_persistent:
        session_finish(shard, session)
        return
    if session.will.message != NULL:
        if session.will.delay_interval == 0:
            _publish_will(shard, session)
        else:
            session.will.is_armed = 1
    _await_end(shard, session)


cdef void connection_lost(Connection *connection, bint keeps_will) noexcept nogil:
    if connection.link.session != NULL:
        _part(connection, keeps_will)
    connection_drop(connection)


cdef void _tell(Connection *connection, uint8_t reason_code, const char *detail) noexcept nogil:
    cdef Bytes reason_string, server_reference
    cdef uint32_t size
    cdef uint8_t *out
    memset(&reason_string, 0, sizeof(Bytes))
    memset(&server_reference, 0, sizeof(Bytes))
    if detail != NULL and connection.wants_problem_information:
        reason_string.data = <const uint8_t *> detail
        reason_string.size = <Py_ssize_t> strlen(detail)
    size = <uint32_t> size_disconnect(reason_code, reason_string, server_reference)
    if connection.link.maximum_packet_size != 0 and size > connection.link.maximum_packet_size:
        # The reason string is the first to go [MQTT-3.14.2-3].
        memset(&reason_string, 0, sizeof(Bytes))
        size = <uint32_t> size_disconnect(reason_code, reason_string, server_reference)
    out = outbox_reserve(&connection.link.outbox, size)
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_disconnect(
            reason_code, reason_string, server_reference, out))


cdef void connection_close(
    Connection *connection, uint8_t reason_code, const char *detail, bint keeps_will
) noexcept nogil:
    if connection.state == LINGERING:
        return
    if connection.state == CONNECT_DUE:
        # Nobody has introduced himself: there is nothing to say and no version to say it in.
        connection_drop(connection)
        return
    if connection.state == ATTACHED and connection.link.version == MQTT_5_0:
        _tell(connection, reason_code, detail)
    if connection.link.session != NULL:
        _part(connection, keeps_will)
    connection_linger(connection)


cdef inline uint64_t _silence_due(const Connection *connection) noexcept nogil:
    # One and a half times the Keep Alive [MQTT-3.1.2-22].
    return connection.last_receive_ms + <uint64_t> connection.keep_alive * 1500


cdef void connection_watch(Connection *connection) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef uint64_t due = shard.world.now_ms + STALL_MS
    if connection.blocked_since_ms != 0:
        due = connection.blocked_since_ms + STALL_MS
    if connection.keep_alive != 0 and _silence_due(connection) < due:
        due = _silence_due(connection)
    wheel_arm(shard.world.wheel, &connection.timer, due)


cdef void connection_timer_fired(Shard *shard, Connection *connection) noexcept nogil:
    cdef uint64_t now_ms = shard.world.now_ms
    if connection.state == LINGERING or connection.state == CONNECT_DUE or connection.state == VERDICT_DUE:
        connection_drop(connection)
        return
    if connection.keep_alive != 0 and connection.is_held:
        # Held back by us, it cannot be heard.
        connection.last_receive_ms = now_ms
    if connection.keep_alive != 0 and now_ms >= _silence_due(connection):
        connection_close(connection, REASON_KEEP_ALIVE_TIMEOUT, b"keep alive timeout", True)
    elif connection.blocked_since_ms != 0 and now_ms >= connection.blocked_since_ms + STALL_MS:
        connection_close(connection, REASON_SERVER_BUSY, b"the client takes no bytes", True)
    else:
        if connection.link.session != NULL:
            inflight_trim(&connection.link.session.inflight)
        connection_watch(connection)
