"""See admission.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from rookery.core.shards.attaching cimport attach
from rookery.core.shards.authentication cimport authentication_begin
from rookery.core.shards.connections cimport (
    connection_by_handle, connection_drop, connection_forget_authentication, connection_handle, connection_new,
    connection_ready, connection_report_closed, connection_want,
)
from rookery.core.shards.gate cimport gate_leave
from rookery.core.shards.lifecycle cimport connection_fail, connection_refuse, connection_refuse_with
from rookery.core.shards.mailbox cimport mail_put
from rookery.core.shards.ownership cimport owner_shard, session_key_hash
from rookery.core.shards.queues cimport command_free, command_put, command_string, event_new, event_put
from rookery.core.shards.state cimport (
    ADMIT_TENANT_ID, ADMIT_USER_ID, ATTACHED, AUTH_DUE, CONNECT_CLIENT_ID, CONNECT_DATA, CONNECT_HAS_DATA,
    CONNECT_HAS_METHOD, CONNECT_HAS_PASSWORD, CONNECT_HAS_USERNAME, CONNECT_HAS_WILL, CONNECT_IS_CLEAN_START,
    CONNECT_IS_WILL_RETAINED, CONNECT_METHOD, CONNECT_PASSWORD, CONNECT_PEER, CONNECT_PROPERTIES, CONNECT_STRING_COUNT,
    CONNECT_USERNAME, CONNECT_WANTS_RESPONSE_INFORMATION, CONNECT_WILL_QOS_SHIFT, CONNECT_WILL_TOPIC,
    EVENT_CONNECT_REQUESTED, FAREWELL_REASON_STRING, FAREWELL_SERVER_REFERENCE, FAREWELL_USER_PROPERTIES,
    MAIL_CONNECTION, PENDING_CONNECTS, VERDICT_DUE, Command, Connection, Event, Mail, Shard, Transfer,
)
from rookery.core.shards.transport cimport transport_close
from rookery.core.shards.verdicts cimport verdict_keep, verdict_recall
from rookery.core.structures.atomics cimport atomic_load_u64
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes
from rookery.core.wire.decode cimport decode_connect
from rookery.core.wire.packets cimport ConnectPacket
from rookery.core.wire.spec cimport (
    MQTT_3_1, MQTT_3_1_1, MQTT_5_0, REASON_CLIENT_IDENTIFIER_NOT_VALID, REASON_PACKET_TOO_LARGE, REASON_SERVER_BUSY,
    REASON_SERVER_UNAVAILABLE, REASON_SUCCESS, REASON_UNSUPPORTED_PROTOCOL_VERSION,
)

cdef extern from "<sys/epoll.h>" nogil:
    int epoll_ctl(int epoll_descriptor, int operation, int descriptor, void *event)
    int EPOLL_CTL_DEL

cdef enum:
    _ASSIGNED_SIZE = 16  # hexadecimal digits of a client identifier that the server chooses
    _BRIDGE_BIT = 0x80   # of the protocol level: a bridge asks for a private variant of 3.1 or 3.1.1


# Asking

cdef uint8_t _check(Connection *connection, const ConnectPacket *packet) noexcept nogil:
    """What can be told without knowing the tenant."""
    if packet.client_id.size == 0 and packet.protocol_version == MQTT_3_1:
        return REASON_CLIENT_IDENTIFIER_NOT_VALID  # [MQTT 3.1, 3.1]
    if connection.shard.pending_connects >= PENDING_CONNECTS:
        return REASON_SERVER_BUSY
    return REASON_SUCCESS


cdef void _refuse_undecoded(
    Connection *connection, uint8_t version, uint8_t reason_code, const char *detail
) noexcept nogil:
    """A CONNECT that is wrong in itself; version is the protocol level that it names."""
    connection.wants_problem_information = 1
    if version == MQTT_5_0:
        connection_refuse(connection, MQTT_5_0, reason_code, detail)
    elif reason_code == REASON_UNSUPPORTED_PROTOCOL_VERSION:
        # In the form that a client of a later version will understand best [MQTT-3.1.2-2].
        connection_refuse(
            connection, MQTT_5_0 if MQTT_5_0 < version < _BRIDGE_BIT else MQTT_3_1_1, reason_code, detail)
    elif reason_code == REASON_CLIENT_IDENTIFIER_NOT_VALID:
        connection_refuse(connection, version, reason_code, detail)  # [MQTT 3.1.1, MQTT-3.1.3-8]
    else:
        connection_fail(connection, detail)  # [MQTT 3.1.1, MQTT-3.1.4-1]


cdef void admission_too_large(Connection *connection, const uint8_t *body, Py_ssize_t size) noexcept nogil:
    cdef ConnectPacket packet
    cdef const char *detail = NULL
    decode_connect(body, size, &packet, &detail)
    if packet.protocol_version == MQTT_5_0:
        _refuse_undecoded(connection, MQTT_5_0, REASON_PACKET_TOO_LARGE, b"this CONNECT is too large")
    else:
        connection_fail(connection, b"this CONNECT is too large")


cdef Event *_requested(Connection *connection, const ConnectPacket *packet) noexcept nogil:
    cdef Bytes strings[CONNECT_STRING_COUNT]
    cdef uint64_t flags = <uint64_t> packet.will.qos << CONNECT_WILL_QOS_SHIFT
    cdef Event *event
    strings[CONNECT_PEER].data = connection.peer
    strings[CONNECT_PEER].size = connection.peer_size
    strings[CONNECT_CLIENT_ID] = packet.client_id
    strings[CONNECT_USERNAME] = packet.username
    strings[CONNECT_PASSWORD] = packet.password
    strings[CONNECT_WILL_TOPIC] = packet.will.topic
    strings[CONNECT_METHOD] = packet.authentication_method
    strings[CONNECT_DATA] = packet.authentication_data
    strings[CONNECT_PROPERTIES] = packet.user_properties
    event = event_new(EVENT_CONNECT_REQUESTED, connection_handle(connection), strings, CONNECT_STRING_COUNT)
    if event == NULL:
        return NULL
    if packet.clean_start:
        flags |= CONNECT_IS_CLEAN_START
    if packet.has_username:
        flags |= CONNECT_HAS_USERNAME
    if packet.has_password:
        flags |= CONNECT_HAS_PASSWORD
    if packet.has_will:
        flags |= CONNECT_HAS_WILL
    if packet.will.retain:
        flags |= CONNECT_IS_WILL_RETAINED
    if packet.has_authentication_method:
        flags |= CONNECT_HAS_METHOD
    if packet.authentication_data.data != NULL:
        flags |= CONNECT_HAS_DATA
    if packet.request_response_information:
        flags |= CONNECT_WANTS_RESPONSE_INFORMATION
    event.flags[0] = packet.protocol_version
    event.numbers[0] = connection.listener_id
    event.numbers[1] = packet.keep_alive
    event.numbers[2] = packet.session_expiry_interval
    event.numbers[3] = flags
    event.numbers[4] = connection.ticket
    event.numbers[5] = atomic_load_u64(&connection.shard.universe.verdict_epoch)
    return event


cdef bint _wait_for_verdict(Connection *connection, const uint8_t *body, Py_ssize_t size) noexcept nogil:
    """Keep the CONNECT and read no further. False without memory for it."""
    connection.connect_body = <uint8_t *> malloc(size)
    if connection.connect_body == NULL:
        return False
    memcpy(connection.connect_body, body, size)
    connection.connect_size = <uint32_t> size
    connection.state = VERDICT_DUE
    connection.shard.pending_connects += 1
    connection_want(connection, False, connection.is_writable_awaited)
    return True


cdef void _ask(
    Connection *connection, const ConnectPacket *packet, const uint8_t *body, Py_ssize_t size
) noexcept nogil:
    cdef Event *event = _requested(connection, packet)
    if event == NULL or not authentication_begin(connection, packet) or not _wait_for_verdict(connection, body, size):
        free(event)
        connection_refuse(connection, packet.protocol_version, REASON_SERVER_UNAVAILABLE, NULL)
        return
    event_put(connection.shard, event)


# The verdict

cdef void admission_refuse(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = connection_by_handle(shard, command.request)
    # At any point of an exchange [MQTT-4.12.0-4].
    if connection != NULL and (connection.state == VERDICT_DUE or connection.state == AUTH_DUE):
        connection_forget_authentication(connection)
        connection_refuse_with(
            connection, command.reason_code, command_string(command, FAREWELL_REASON_STRING),
            command_string(command, FAREWELL_SERVER_REFERENCE), command_string(command, FAREWELL_USER_PROPERTIES))
    command_free(command)


cdef void _assign_client_id(Shard *shard, Bytes tenant_id, Bytes user_id, uint8_t *out) noexcept nogil:
    """A client identifier that nobody has and whose session belongs to this shard, so that its client may come back."""
    cdef uint64_t number
    cdef uint32_t digit
    cdef Bytes client_id
    client_id.data = out
    client_id.size = _ASSIGNED_SIZE
    while True:  # as many times as there are shards, on average
        shard.last_assigned += 1
        number = shard.last_assigned << 8 | shard.index
        number = hash_bytes(&shard.universe.key, <const uint8_t *> &number, sizeof(number))
        for digit in range(_ASSIGNED_SIZE):
            out[digit] = (<const uint8_t *> b"0123456789abcdef")[number & 15]
            number >>= 4
        if owner_shard(shard, tenant_id, session_key_hash(shard, user_id, client_id)) == shard.index:
            return


cdef void _transfer(Connection *connection, uint32_t owner, Command *command) noexcept nogil:
    """Hand the connection to the shard that owns its session. Takes over the command."""
    cdef Shard *shard = connection.shard
    cdef Transfer *transfer = <Transfer *> calloc(1, sizeof(Transfer))
    if transfer == NULL or mail_put(shard, owner, MAIL_CONNECTION, NULL, NULL, transfer) != 0:
        free(transfer)
        command_free(command)
        connection_refuse(connection, connection.link.version, REASON_SERVER_UNAVAILABLE, NULL)
        return
    if connection.memory == NULL:
        epoll_ctl(shard.epoll_descriptor, EPOLL_CTL_DEL, connection.descriptor, NULL)
    transfer.descriptor = connection.descriptor
    transfer.transport = connection.transport
    transfer.memory = connection.memory
    transfer.websocket = connection.websocket
    transfer.tls = connection.tls
    transfer.ticket = connection.ticket
    transfer.network = connection.network
    transfer.is_counted = connection.is_counted
    transfer.listener_id = connection.listener_id
    transfer.connect_body = connection.connect_body
    transfer.connect_size = connection.connect_size
    transfer.partial = connection.partial
    transfer.partial_size = connection.partial_size
    transfer.peer = connection.peer
    transfer.peer_size = connection.peer_size
    transfer.admission = command
    connection_forget_authentication(connection)
    # What went over is no longer this connection's to give back.
    connection.descriptor = -1
    connection.transport = 0
    connection.memory = NULL
    connection.websocket = NULL
    connection.tls = NULL
    connection.ticket = 0
    connection.is_counted = 0
    connection.connect_body = NULL
    connection.partial = NULL
    connection.peer = NULL
    connection_drop(connection)


cdef void _admit_here(Connection *connection, ConnectPacket *packet, Command *command) noexcept nogil:
    """This shard owns the session, or chooses a client identifier so that it does. Takes over the command."""
    cdef uint8_t assigned[_ASSIGNED_SIZE]
    if packet.client_id.size > 0:
        attach(connection, packet, command, False)
        return
    _assign_client_id(
        connection.shard, command_string(command, ADMIT_TENANT_ID), command_string(command, ADMIT_USER_ID), assigned)
    packet.client_id.data = assigned
    packet.client_id.size = _ASSIGNED_SIZE
    attach(connection, packet, command, True)


cdef uint32_t _owner(Shard *shard, const ConnectPacket *packet, const Command *command) noexcept nogil:
    if packet.client_id.size == 0:
        return shard.index
    return owner_shard(
        shard, command_string(command, ADMIT_TENANT_ID),
        session_key_hash(shard, command_string(command, ADMIT_USER_ID), packet.client_id))


cdef void _go_on(Connection *connection, uint32_t generation) noexcept nogil:
    """If it was let in, what came behind the CONNECT is next."""
    if connection.generation == generation and connection.state == ATTACHED:
        connection_want(connection, True, connection.is_writable_awaited)
        connection_ready(connection)


cdef void admission_admit(Shard *shard, Command *command) noexcept nogil:
    cdef Connection *connection = connection_by_handle(shard, command.request)
    cdef ConnectPacket packet
    cdef const char *detail
    cdef uint32_t owner, generation
    if connection == NULL or connection.state != VERDICT_DUE:
        command_free(command)
        return
    # It was decoded before without an error, so it is again.
    decode_connect(connection.connect_body, connection.connect_size, &packet, &detail)
    verdict_keep(connection, &packet, command)
    owner = _owner(shard, &packet, command)
    if owner != shard.index:
        _transfer(connection, owner, command)
        return
    generation = connection.generation
    _admit_here(connection, &packet, command)
    _go_on(connection, generation)


cdef void admission_take_transfer(Shard *shard, Mail *mail) noexcept nogil:
    cdef Transfer *transfer = <Transfer *> mail.data
    cdef Connection *connection = connection_new(
        shard, transfer.descriptor, transfer.memory, transfer.listener_id, transfer.peer, transfer.peer_size)
    cdef ConnectPacket packet
    cdef const char *detail
    cdef uint32_t generation
    if connection == NULL:
        # Nobody will ever know better: a connection that the machine has no memory for.
        if transfer.ticket != 0:
            connection_report_closed(shard, transfer.ticket)
        if transfer.is_counted:
            gate_leave(shard.universe.gate, transfer.listener_id, transfer.network, shard.world.now_ms)
        abandon_transfer(transfer)
        return
    connection.websocket = transfer.websocket
    connection.tls = transfer.tls
    connection.ticket = transfer.ticket
    connection.network = transfer.network
    connection.is_counted = transfer.is_counted
    connection.is_layered = transfer.websocket != NULL or transfer.tls != NULL
    connection.connect_body = transfer.connect_body
    connection.connect_size = transfer.connect_size
    connection.partial = transfer.partial
    connection.partial_size = transfer.partial_size
    connection.partial_capacity = transfer.partial_size
    connection.state = VERDICT_DUE
    shard.pending_connects += 1
    decode_connect(connection.connect_body, connection.connect_size, &packet, &detail)
    connection.link.version = packet.protocol_version
    connection.link.maximum_packet_size = packet.maximum_packet_size
    connection.wants_problem_information = packet.request_problem_information
    if not authentication_begin(connection, &packet):
        command_free(transfer.admission)
        connection_refuse(connection, packet.protocol_version, REASON_SERVER_UNAVAILABLE, NULL)
        return
    generation = connection.generation
    attach(connection, &packet, transfer.admission, False)
    _go_on(connection, generation)


# The CONNECT

cdef void _admit_at_once(
    Connection *connection, ConnectPacket *packet, const uint8_t *body, Py_ssize_t size, Command *command
) noexcept nogil:
    """What was decided of somebody else holds for this client. Takes over the command."""
    cdef Shard *shard = connection.shard
    if _owner(shard, packet, command) == shard.index:
        connection.state = VERDICT_DUE
        shard.pending_connects += 1
        _admit_here(connection, packet, command)
    elif _wait_for_verdict(connection, body, size):
        # It goes to another shard with what came behind the CONNECT, which is still being looked through.
        command.request = connection_handle(connection)
        command_put(shard, command, 0)
    else:
        command_free(command)
        connection_refuse(connection, packet.protocol_version, REASON_SERVER_UNAVAILABLE, NULL)


cdef void admission_request(Connection *connection, const uint8_t *body, Py_ssize_t size) noexcept nogil:
    cdef ConnectPacket packet
    cdef const char *detail = NULL
    cdef int reason
    cdef Command *command
    reason = decode_connect(body, size, &packet, &detail)
    if reason != REASON_SUCCESS:
        if packet.protocol_version == 0 and (size < 7 or memcmp(body, b"\0\4MQTT", 6) != 0):
            connection_fail(connection, b"this is no MQTT")  # Some other protocol [MQTT-3.1.2-1].
        else:
            _refuse_undecoded(connection, packet.protocol_version, <uint8_t> reason, detail)
        return
    connection.link.version = packet.protocol_version
    connection.link.maximum_packet_size = packet.maximum_packet_size
    connection.wants_problem_information = packet.request_problem_information
    reason = _check(connection, &packet)
    if reason != REASON_SUCCESS:
        connection_refuse(connection, packet.protocol_version, <uint8_t> reason, NULL)
        return
    command = verdict_recall(connection, &packet)
    if command == NULL:
        _ask(connection, &packet, body, size)
    else:
        _admit_at_once(connection, &packet, body, size, command)


# Transfers that nobody takes

cdef void abandon_transfer(Transfer *transfer) noexcept nogil:
    cdef Connection connection
    memset(&connection, 0, sizeof(connection))
    connection.descriptor = transfer.descriptor
    connection.transport = transfer.transport
    connection.memory = transfer.memory
    connection.websocket = transfer.websocket
    connection.tls = transfer.tls
    transport_close(&connection)
    free(transfer.connect_body)
    free(transfer.partial)
    free(transfer.peer)
    command_free(transfer.admission)
