"""See protocol.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from rookery.core.sessions.journal cimport journal_await, journal_released
from rookery.core.sessions.notices cimport NOTICE_MESSAGE_CONFIRMED, NOTICE_PING_RECEIVED
from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.sessions.quota cimport session_measure
from rookery.core.sessions.session cimport session_puback, session_pubcomp, session_pubrec
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport Session
from rookery.core.sessions.witness cimport absent, is_noticed_in_debug, notice_session
from rookery.core.shards.authentication cimport authentication_handle
from rookery.core.shards.lifecycle cimport connection_close, connection_left
from rookery.core.shards.publish_packets cimport handle_publish
from rookery.core.shards.replies cimport acknowledge
from rookery.core.shards.state cimport Connection
from rookery.core.shards.subscribe_packets cimport handle_subscribe, handle_unsubscribe
from rookery.core.structures.packet_ids cimport packet_ids_remove
from rookery.core.wire.decode cimport decode_acknowledgement, decode_disconnect, is_header_valid
from rookery.core.wire.encode cimport PINGRESP_SIZE, encode_pingresp
from rookery.core.wire.packets cimport AcknowledgementPacket, DisconnectPacket, Frame
from rookery.core.wire.spec cimport (
    PACKET_AUTH, PACKET_DISCONNECT, PACKET_PINGREQ, PACKET_PUBACK, PACKET_PUBCOMP, PACKET_PUBLISH, PACKET_PUBREC,
    PACKET_PUBREL, PACKET_SUBSCRIBE, PACKET_UNSUBSCRIBE, REASON_MALFORMED_PACKET, REASON_PACKET_IDENTIFIER_NOT_FOUND,
    REASON_PROTOCOL_ERROR, REASON_SUCCESS,
)


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
            acknowledge(connection, PACKET_PUBREL, packet.packet_id, answer)
    elif frame.packet_type == PACKET_PUBREL:
        answer = REASON_SUCCESS
        if not packet_ids_remove(&session.received, packet.packet_id):
            answer = REASON_PACKET_IDENTIFIER_NOT_FOUND
        elif session.is_written:
            # After PUBCOMP the client may use the identifier for another message.
            journal_released(session, packet.packet_id)
            journal_await(&connection.link, &connection.shard.world)
        acknowledge(connection, PACKET_PUBCOMP, packet.packet_id, answer)
    else:
        session_pubcomp(session, packet.packet_id)


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
        handle_publish(connection, frame, body)
        return
    if not is_header_valid(frame, connection.link.version):
        connection_close(connection, REASON_MALFORMED_PACKET, b"malformed fixed header", True)
        return
    if packet_type == PACKET_PUBLISH:
        handle_publish(connection, frame, body)
    elif packet_type >= PACKET_PUBACK and packet_type <= PACKET_PUBCOMP:
        _handle_acknowledgement(connection, frame, body)
    elif packet_type == PACKET_PINGREQ:
        _handle_pingreq(connection, frame)
    elif packet_type == PACKET_SUBSCRIBE:
        handle_subscribe(connection, frame, body)
    elif packet_type == PACKET_UNSUBSCRIBE:
        handle_unsubscribe(connection, frame, body)
    elif packet_type == PACKET_DISCONNECT:
        _handle_disconnect(connection, frame, body)
    elif packet_type == PACKET_AUTH:
        authentication_handle(connection, frame, body)
    else:
        # A second CONNECT [MQTT-3.1.0-2], or a packet that only servers send.
        connection_close(connection, REASON_PROTOCOL_ERROR, b"this packet is not expected here", True)
