"""See authentication.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memcpy

from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.state cimport Session
from rookery.core.shards.connections cimport (
    connection_by_handle, connection_end_exchange, connection_handle, connection_ready, connection_want,
)
from rookery.core.shards.lifecycle cimport connection_close, connection_fail, connection_watch
from rookery.core.shards.queues cimport command_string, event_new, event_put
from rookery.core.shards.state cimport (
    ATTACHED, AUTH_DATA, AUTH_DUE, AUTH_REASON_STRING, AUTH_SIZE_MAXIMUM, AUTH_USER_PROPERTIES, AUTHENTICATION_STEPS,
    EVENT_AUTH_RECEIVED, EVENT_REAUTHENTICATION_REQUESTED, PENDING_AUTHENTICATIONS, PENDING_REAUTHENTICATIONS,
    REAUTHENTICATION_CLIENT_ID, REAUTHENTICATION_DATA, REAUTHENTICATION_METHOD, REAUTHENTICATION_PEER,
    REAUTHENTICATION_PROPERTIES, REAUTHENTICATION_STRING_COUNT, REAUTHENTICATION_TENANT_ID,
    REAUTHENTICATION_TIMEOUT_MS, REAUTHENTICATION_USER_ID, RECEIVED_DATA, RECEIVED_HAS_DATA,
    RECEIVED_HAS_REASON_STRING, RECEIVED_PROPERTIES, RECEIVED_REASON_STRING, RECEIVED_STRING_COUNT, TURN_OF_CLIENT,
    TURN_OF_NOBODY, TURN_OF_SERVER, VERDICT_DUE, Authentication, Command, Connection, Event, Shard,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.decode cimport decode_auth, decode_disconnect, is_header_valid
from rookery.core.wire.encode cimport encode_auth, size_auth
from rookery.core.wire.packets cimport AuthPacket, ConnectPacket, DisconnectPacket, Frame
from rookery.core.wire.spec cimport (
    PACKET_AUTH, PACKET_DISCONNECT, REASON_CONTINUE_AUTHENTICATION, REASON_MALFORMED_PACKET, REASON_PACKET_TOO_LARGE,
    REASON_PROTOCOL_ERROR, REASON_QUOTA_EXCEEDED, REASON_REAUTHENTICATE, REASON_SERVER_BUSY, REASON_SUCCESS,
    REASON_UNSPECIFIED_ERROR,
)


cdef bint authentication_begin(Connection *connection, const ConnectPacket *packet) noexcept nogil:
    cdef uint32_t size = <uint32_t> packet.authentication_method.size
    if not packet.has_authentication_method:
        return True
    connection.authentication = <Authentication *> calloc(1, sizeof(Authentication) + size)
    if connection.authentication == NULL:
        return False
    connection.authentication.method_size = size
    memcpy(<uint8_t *> connection.authentication + sizeof(Authentication), packet.authentication_method.data, size)
    return True


cdef Bytes authentication_method(const Connection *connection) noexcept nogil:
    cdef Bytes method
    method.data = <const uint8_t *> connection.authentication + sizeof(Authentication)
    method.size = connection.authentication.method_size
    return method


# What the client says

cdef bint _decode(Connection *connection, const Frame *frame, const uint8_t *body, AuthPacket *packet) noexcept nogil:
    """Decode an AUTH and check what holds for each of them; False when it has ended the connection."""
    cdef const char *detail = NULL
    cdef int reason
    cdef Bytes method
    if frame.header_size + frame.body_size > AUTH_SIZE_MAXIMUM:
        connection_close(connection, REASON_PACKET_TOO_LARGE, b"an AUTH has more than 65536 bytes", True)
        return False
    reason = decode_auth(body, frame.body_size, packet, &detail)
    if reason != REASON_SUCCESS:
        connection_close(connection, <uint8_t> reason, detail, True)
        return False
    if connection.authentication == NULL:
        connection_close(
            connection, REASON_PROTOCOL_ERROR, b"an AUTH follows a CONNECT without a method", True)  # [MQTT-4.12.0-7]
        return False
    method = authentication_method(connection)
    if (
        packet.authentication_method.size != method.size
        or memcmp(packet.authentication_method.data, method.data, method.size) != 0
    ):
        # [MQTT-4.12.0-5], [MQTT-4.12.1-1]
        connection_close(connection, REASON_PROTOCOL_ERROR, b"an AUTH has another method than CONNECT", True)
        return False
    return True


cdef bint _count_step(Connection *connection) noexcept nogil:
    connection.authentication.step_count += 1
    if connection.authentication.step_count > AUTHENTICATION_STEPS:
        connection_close(connection, REASON_QUOTA_EXCEEDED, b"an authentication takes more than 16 steps", True)
        return False
    return True


cdef Event *_received(Connection *connection, const AuthPacket *packet) noexcept nogil:
    cdef Bytes strings[RECEIVED_STRING_COUNT]
    cdef Event *event
    strings[RECEIVED_DATA] = packet.authentication_data
    strings[RECEIVED_REASON_STRING] = packet.reason_string
    strings[RECEIVED_PROPERTIES] = packet.properties
    event = event_new(EVENT_AUTH_RECEIVED, connection_handle(connection), strings, RECEIVED_STRING_COUNT)
    if event != NULL and packet.authentication_data.data != NULL:
        event.flags[0] |= RECEIVED_HAS_DATA
    if event != NULL and packet.reason_string.data != NULL:
        event.flags[0] |= RECEIVED_HAS_REASON_STRING
    return event


cdef Event *_requested(Connection *connection, const AuthPacket *packet) noexcept nogil:
    cdef Session *session = connection.link.session
    cdef Bytes strings[REAUTHENTICATION_STRING_COUNT]
    cdef Event *event
    strings[REAUTHENTICATION_PEER].data = connection.peer
    strings[REAUTHENTICATION_PEER].size = connection.peer_size
    strings[REAUTHENTICATION_TENANT_ID].data = session.tenant.shared.id
    strings[REAUTHENTICATION_TENANT_ID].size = session.tenant.shared.id_size
    strings[REAUTHENTICATION_USER_ID].data = session.key
    strings[REAUTHENTICATION_USER_ID].size = session.user_id_size
    strings[REAUTHENTICATION_CLIENT_ID].data = session.key + session.user_id_size
    strings[REAUTHENTICATION_CLIENT_ID].size = session.client_id_size
    strings[REAUTHENTICATION_METHOD] = packet.authentication_method
    strings[REAUTHENTICATION_DATA] = packet.authentication_data
    strings[REAUTHENTICATION_PROPERTIES] = packet.properties
    event = event_new(
        EVENT_REAUTHENTICATION_REQUESTED, connection_handle(connection), strings, REAUTHENTICATION_STRING_COUNT)
    if event != NULL:
        event.numbers[0] = connection.listener_id
        if packet.authentication_data.data != NULL:
            event.flags[0] |= RECEIVED_HAS_DATA
    return event


cdef void _put(Connection *connection, Event *event) noexcept nogil:
    if event == NULL:
        connection_close(connection, REASON_UNSPECIFIED_ERROR, b"out of memory", True)
    else:
        event_put(connection.shard, event)


cdef void authentication_continue(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef AuthPacket packet
    cdef DisconnectPacket farewell
    cdef const char *detail = NULL
    cdef int reason
    if not is_header_valid(frame, connection.link.version):
        connection_close(connection, REASON_MALFORMED_PACKET, b"malformed fixed header", False)  # [MQTT-3.15.1-1]
        return
    if frame.packet_type == PACKET_DISCONNECT:
        reason = decode_disconnect(body, frame.body_size, connection.link.version, &farewell, &detail)
        if reason != REASON_SUCCESS:
            connection_close(connection, <uint8_t> reason, detail, False)
        else:
            connection_fail(connection, b"the client left before CONNACK")
        return
    if frame.packet_type != PACKET_AUTH:
        # [MQTT-3.1.2-30]
        connection_close(connection, REASON_PROTOCOL_ERROR, b"only AUTH and DISCONNECT may come before CONNACK", False)
        return
    if not _decode(connection, frame, body, &packet):
        return
    if packet.reason_code != REASON_CONTINUE_AUTHENTICATION:  # [MQTT-4.12.0-3]
        connection_close(connection, REASON_PROTOCOL_ERROR, b"an AUTH before CONNACK does not continue", False)
        return
    if not _count_step(connection):
        return
    connection.state = VERDICT_DUE
    connection.shard.pending_connects += 1
    connection_want(connection, False, connection.is_writable_awaited)
    _put(connection, _received(connection, &packet))


cdef void authentication_handle(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil:
    cdef Shard *shard = connection.shard
    cdef Authentication *authentication = connection.authentication
    cdef AuthPacket packet
    if not _decode(connection, frame, body, &packet):
        return
    if packet.reason_code == REASON_CONTINUE_AUTHENTICATION and authentication.turn == TURN_OF_CLIENT:
        if _count_step(connection):
            authentication.turn = TURN_OF_SERVER
            _put(connection, _received(connection, &packet))
    elif packet.reason_code == REASON_REAUTHENTICATE and authentication.turn == TURN_OF_NOBODY:
        if shard.pending_reauthentications >= PENDING_REAUTHENTICATIONS:
            connection_close(connection, REASON_SERVER_BUSY, b"too many clients authenticate again", True)
            return
        shard.pending_reauthentications += 1
        authentication.turn = TURN_OF_SERVER
        authentication.step_count = 0
        authentication.due_ms = shard.world.now_ms + REAUTHENTICATION_TIMEOUT_MS
        connection_watch(connection)
        _put(connection, _requested(connection, &packet))
    else:
        connection_close(connection, REASON_PROTOCOL_ERROR, b"this AUTH is not expected here", True)


# What the control plane says

cdef bint _send(Connection *connection, uint8_t reason_code, Command *command) noexcept nogil:
    """False when the client takes no packet as large as that."""
    cdef Bytes method = authentication_method(connection)
    cdef Bytes data = command_string(command, AUTH_DATA)
    cdef Bytes reason_string = command_string(command, AUTH_REASON_STRING)
    cdef Bytes user_properties = command_string(command, AUTH_USER_PROPERTIES)
    cdef uint32_t maximum = connection.link.maximum_packet_size
    cdef Py_ssize_t size
    cdef uint8_t *out
    if not command.flag:
        data.data = NULL
    if reason_string.size == 0 or not connection.wants_problem_information:
        reason_string.data = NULL  # [MQTT-3.1.2-29]
    if not connection.wants_problem_information:
        user_properties.size = 0
    size = size_auth(method, data, reason_string, user_properties)
    if maximum != 0 and size > maximum:
        user_properties.size = 0  # [MQTT-3.15.2-3]
        size = size_auth(method, data, reason_string, user_properties)
    if maximum != 0 and size > maximum:
        reason_string.data = NULL  # [MQTT-3.15.2-2]
        size = size_auth(method, data, reason_string, user_properties)
    if maximum != 0 and size > maximum:
        return False  # [MQTT-3.1.2-24]
    out = outbox_reserve(&connection.link.outbox, <uint32_t> size)
    if out != NULL:  # Without memory the exchange runs into its time-out.
        outbox_commit(&connection.link.outbox, <uint32_t> encode_auth(
            reason_code, method, data, reason_string, user_properties, out))
    return True


cdef void _challenge_stranger(Connection *connection, Command *command) noexcept nogil:
    cdef Shard *shard = connection.shard
    if not connection.authentication.is_exchange:
        if shard.pending_authentications >= PENDING_AUTHENTICATIONS:
            connection_close(connection, REASON_SERVER_BUSY, b"too many clients authenticate", False)
            return
        connection.authentication.is_exchange = 1
        shard.pending_authentications += 1
    if not _send(connection, REASON_CONTINUE_AUTHENTICATION, command):
        connection_close(connection, REASON_PACKET_TOO_LARGE, NULL, False)
        return
    connection.state = AUTH_DUE
    shard.pending_connects -= 1
    connection.packet_size_maximum = AUTH_SIZE_MAXIMUM
    connection_want(connection, True, connection.is_writable_awaited)
    connection_ready(connection)


cdef void authentication_challenge(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = connection_by_handle(shard, command.request)
    if connection == NULL or connection.authentication == NULL:
        return  # It has gone; or it has no method, so no AUTH may be sent to it [MQTT-4.12.0-6].
    if connection.state == VERDICT_DUE:
        _challenge_stranger(connection, command)
    elif connection.state == ATTACHED and connection.authentication.turn == TURN_OF_SERVER:
        if not _send(connection, REASON_CONTINUE_AUTHENTICATION, command):  # [MQTT-4.12.0-2]
            connection_close(connection, REASON_PACKET_TOO_LARGE, NULL, True)
        else:
            connection.authentication.turn = TURN_OF_CLIENT


cdef void authentication_confirm(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = connection_by_handle(shard, command.request)
    if (
        connection == NULL
        or connection.authentication == NULL
        or connection.state != ATTACHED
        or connection.authentication.turn != TURN_OF_SERVER
    ):
        return
    connection_end_exchange(connection)
    connection.ends_at_ms = connection.shard.world.now_ms + command.number if command.number != 0 else 0
    connection_watch(connection)
    if not _send(connection, REASON_SUCCESS, command):
        connection_close(connection, REASON_PACKET_TOO_LARGE, NULL, True)
