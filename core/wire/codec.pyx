"""The decoders and encoders for Python callers: bytes to packets.py and back. For tests and tracing, not for speed."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.decode cimport (
    FRAME_HEADER, FRAME_MALFORMED, FRAME_PARTIAL, FRAME_WHOLE, are_flags_valid, decode_acknowledgement, decode_auth,
    decode_connect, decode_disconnect, decode_publish, decode_subscribe, decode_unsubscribe, is_header_valid,
    next_subscription, next_topic_filter, next_user_property, read_frame,
)
from rookery.core.wire.encode cimport (
    ACKNOWLEDGEMENT_SIZE_MAXIMUM, PINGRESP_SIZE, OutgoingConnack, OutgoingPublish, encode_acknowledgement,
    encode_auth, encode_connack, encode_disconnect, encode_pingresp, encode_publish, encode_publish_head,
    encode_suback, size_auth, size_connack, size_disconnect, size_publish, size_publish_head, size_suback,
)
from rookery.core.wire.packets cimport (
    AcknowledgementPacket, AuthPacket, ConnectPacket, DisconnectPacket, ForwardedProperties, Frame, PublishPacket,
    SubscribePacket, UnsubscribePacket, WillFields,
)
from rookery.core.wire.packets cimport SubscriptionRequest as RequestFields
from rookery.core.wire.properties cimport Property, next_property
from rookery.core.wire.spec cimport (
    MQTT_5_0, PACKET_AUTH, PACKET_CONNECT, PACKET_DISCONNECT, PACKET_PINGREQ, PACKET_PUBACK, PACKET_PUBCOMP,
    PACKET_PUBLISH, PACKET_SIZE_MAXIMUM, PACKET_SUBACK, PACKET_SUBSCRIBE, PACKET_UNSUBACK, PACKET_UNSUBSCRIBE,
    PROPERTY_CONTENT_TYPE, PROPERTY_CORRELATION_DATA, PROPERTY_PAYLOAD_FORMAT_INDICATOR, PROPERTY_REASON_STRING,
    PROPERTY_RESPONSE_TOPIC, PROPERTY_USER_PROPERTY, REASON_MALFORMED_PACKET, REASON_SUCCESS,
)
from rookery.core.wire.text cimport is_utf8 as is_utf8_string
from rookery.core.wire.text cimport is_utf8_payload as is_utf8_character_data

from rookery.core.errors import MalformedPacket, ProtocolError
from rookery.core.wire.packets import (
    Auth, Connack, Connect, Disconnect, Pingreq, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe,
    SubscriptionRequest, Unsuback, Unsubscribe, Will,
)
from rookery.core.wire.spec import PacketType, ProtocolVersion, QoS, ReasonCode, RetainHandling

DEFAULT_LIMIT = PACKET_SIZE_MAXIMUM


def decode_packet(data, int version, Py_ssize_t limit=DEFAULT_LIMIT):
    """The packet that a client sent at the front of data, and how many bytes it takes.

    data is anything with a buffer; version is that of the connection, a CONNECT names its own. Raises EOFError when
    data ends before the packet does, MalformedPacket or ProtocolError for what the standard forbids, and
    ProtocolError with PACKET_TOO_LARGE for a packet of more than limit bytes, before its body is there.
    """
    cdef Py_buffer view
    cdef const uint8_t *start
    cdef Frame frame
    cdef int result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        start = <const uint8_t *> view.buf
        result = read_frame(start, view.len, &frame)
        if result == FRAME_MALFORMED:
            raise MalformedPacket("the packet type is 0 or the Remaining Length has more than four bytes")
        if result == FRAME_HEADER:
            raise EOFError(f"{view.len} bytes hold no whole fixed header")
        size = frame.header_size + frame.body_size
        if size > limit:
            raise ProtocolError(ReasonCode.PACKET_TOO_LARGE, f"a packet has {size} bytes, the limit is {limit}")
        if result == FRAME_PARTIAL:
            raise EOFError(f"{view.len} bytes of a packet of {size}")
        return decode_body(start + frame.header_size, &frame, version), size
    finally:
        PyBuffer_Release(&view)


cdef decode_body(const uint8_t *body, const Frame *frame, int version):
    cdef uint8_t packet_type = frame.packet_type
    if packet_type == PACKET_CONNECT:
        return read_connect(body, frame)
    if not is_header_valid(frame, version):
        raise MalformedPacket(f"the fixed header of {PacketType(packet_type).name} is not valid in this version")
    if packet_type == PACKET_PUBLISH:
        return read_publish(body, frame, version)
    if PACKET_PUBACK <= packet_type <= PACKET_PUBCOMP:
        return read_acknowledgement(body, frame, version)
    if packet_type == PACKET_SUBSCRIBE:
        return read_subscribe(body, frame, version)
    if packet_type == PACKET_UNSUBSCRIBE:
        return read_unsubscribe(body, frame, version)
    if packet_type == PACKET_PINGREQ:
        if frame.body_size != 0:  # [3.12.1]
            raise MalformedPacket("a PINGREQ has a body")
        return Pingreq()
    if packet_type == PACKET_DISCONNECT:
        return read_disconnect(body, frame, version)
    if packet_type == PACKET_AUTH:
        return read_auth(body, frame)
    raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"a client does not send {PacketType(packet_type).name}")


# A pointer to detail, because C may evaluate a second argument before the call that fills it.
cdef check(int reason, const char **detail):
    if reason == REASON_MALFORMED_PACKET:
        raise MalformedPacket(detail[0].decode())
    if reason != REASON_SUCCESS:
        raise ProtocolError(ReasonCode(reason), detail[0].decode())


cdef text_of(const Bytes *value):
    return None if value.data == NULL else (<const char *> value.data)[:value.size].decode()


cdef bytes_of(const Bytes *value):
    return None if value.data == NULL else <bytes> (<const char *> value.data)[:value.size]


cdef user_properties_of(Bytes block):
    cdef Bytes name, value
    pairs = []
    while next_user_property(&block, &name, &value):
        pairs.append((text_of(&name), text_of(&value)))
    return tuple(pairs)


# The text of one property of a block, None if it is absent.
cdef property_text(Bytes block, uint8_t identifier):
    cdef Property item
    while next_property(&block, &item):
        if item.identifier == identifier:
            return text_of(&item.value)
    return None


# The fields that Publish and Will show of what is forwarded.
cdef message_properties(const ForwardedProperties *forwarded):
    cdef Property item
    cdef Bytes part
    cdef uint32_t index
    fields = {}
    pairs = []
    for index in range(forwarded.part_count):
        part = forwarded.parts[index]
        while next_property(&part, &item):
            if item.identifier == PROPERTY_PAYLOAD_FORMAT_INDICATOR:
                fields["payload_format_indicator"] = item.number
            elif item.identifier == PROPERTY_CONTENT_TYPE:
                fields["content_type"] = text_of(&item.value)
            elif item.identifier == PROPERTY_RESPONSE_TOPIC:
                fields["response_topic"] = text_of(&item.value)
            elif item.identifier == PROPERTY_CORRELATION_DATA:
                fields["correlation_data"] = bytes_of(&item.value)
            elif item.identifier == PROPERTY_USER_PROPERTY:
                pairs.append((text_of(&item.value), text_of(&item.pair_value)))
    fields["user_properties"] = tuple(pairs)
    return fields


cdef read_connect(const uint8_t *body, const Frame *frame):
    cdef ConnectPacket packet
    cdef const char *detail
    if not are_flags_valid(frame.packet_type, frame.flags):
        raise MalformedPacket("the flags of a CONNECT are not 0")
    check(decode_connect(body, frame.body_size, &packet, &detail), &detail)
    if not is_header_valid(frame, packet.protocol_version):
        raise MalformedPacket("the Remaining Length is not minimal")
    return Connect(
        protocol_version=ProtocolVersion(packet.protocol_version),
        client_id=text_of(&packet.client_id),
        clean_start=bool(packet.clean_start),
        keep_alive=packet.keep_alive,
        username=text_of(&packet.username) if packet.has_username else None,
        password=bytes_of(&packet.password) if packet.has_password else None,
        will=will_of(&packet.will) if packet.has_will else None,
        session_expiry_interval=packet.session_expiry_interval,
        receive_maximum=packet.receive_maximum,
        maximum_packet_size=packet.maximum_packet_size or None,
        topic_alias_maximum=packet.topic_alias_maximum,
        request_response_information=bool(packet.request_response_information),
        request_problem_information=bool(packet.request_problem_information),
        authentication_method=text_of(&packet.authentication_method) if packet.has_authentication_method else None,
        authentication_data=bytes_of(&packet.authentication_data),
        user_properties=user_properties_of(packet.user_properties),
    )


cdef will_of(const WillFields *will):
    return Will(
        topic=text_of(&will.topic),
        payload=bytes_of(&will.payload),
        qos=QoS(will.qos),
        retain=bool(will.retain),
        will_delay_interval=will.will_delay_interval,
        message_expiry_interval=will.message_expiry_interval if will.has_message_expiry else None,
        **message_properties(&will.forwarded),
    )


cdef read_publish(const uint8_t *body, const Frame *frame, int version):
    cdef PublishPacket packet
    cdef const char *detail
    check(decode_publish(body, frame.body_size, frame.flags, version, &packet, NULL, &detail), &detail)
    return Publish(
        topic=text_of(&packet.topic),
        payload=bytes_of(&packet.payload),
        qos=QoS(packet.qos),
        retain=bool(packet.retain),
        dup=bool(packet.dup),
        packet_id=packet.packet_id,
        topic_alias=packet.topic_alias or None,
        message_expiry_interval=packet.message_expiry_interval if packet.has_message_expiry else None,
        **message_properties(&packet.forwarded),
    )


cdef read_acknowledgement(const uint8_t *body, const Frame *frame, int version):
    cdef AcknowledgementPacket packet
    cdef const char *detail
    check(decode_acknowledgement(body, frame.body_size, frame.packet_type, version, &packet, &detail), &detail)
    kind = (Puback, Pubrec, Pubrel, Pubcomp)[frame.packet_type - PACKET_PUBACK]
    return kind(packet.packet_id, ReasonCode(packet.reason_code))


cdef read_subscribe(const uint8_t *body, const Frame *frame, int version):
    cdef SubscribePacket packet
    cdef RequestFields request
    cdef const char *detail
    check(decode_subscribe(body, frame.body_size, version, &packet, &detail), &detail)
    requests = []
    while next_subscription(&packet.filters, version, &request):
        requests.append(SubscriptionRequest(
            text_of(&request.topic_filter), QoS(request.qos), bool(request.no_local),
            bool(request.retain_as_published), RetainHandling(request.retain_handling)))
    assert len(requests) == packet.filter_count
    return Subscribe(
        packet_id=packet.packet_id,
        requests=tuple(requests),
        subscription_id=packet.subscription_id or None,
        user_properties=user_properties_of(packet.properties),
    )


cdef read_unsubscribe(const uint8_t *body, const Frame *frame, int version):
    cdef UnsubscribePacket packet
    cdef Bytes topic_filter
    cdef const char *detail
    check(decode_unsubscribe(body, frame.body_size, version, &packet, &detail), &detail)
    topic_filters = []
    while next_topic_filter(&packet.filters, &topic_filter):
        topic_filters.append(text_of(&topic_filter))
    assert len(topic_filters) == packet.filter_count
    return Unsubscribe(
        packet_id=packet.packet_id,
        topic_filters=tuple(topic_filters),
        user_properties=user_properties_of(packet.properties),
    )


cdef read_disconnect(const uint8_t *body, const Frame *frame, int version):
    cdef DisconnectPacket packet
    cdef const char *detail
    check(decode_disconnect(body, frame.body_size, version, &packet, &detail), &detail)
    return Disconnect(
        reason_code=ReasonCode(packet.reason_code),
        session_expiry_interval=packet.session_expiry_interval if packet.has_session_expiry_interval else None,
        reason_string=text_of(&packet.reason_string),
        server_reference=text_of(&packet.server_reference),
        user_properties=user_properties_of(packet.properties),
    )


cdef read_auth(const uint8_t *body, const Frame *frame):
    cdef AuthPacket packet
    cdef const char *detail
    check(decode_auth(body, frame.body_size, &packet, &detail), &detail)
    return Auth(
        reason_code=ReasonCode(packet.reason_code),
        authentication_method=text_of(&packet.authentication_method),
        authentication_data=bytes_of(&packet.authentication_data),
        reason_string=property_text(packet.properties, PROPERTY_REASON_STRING),
        user_properties=user_properties_of(packet.properties),
    )


def encode_packet(packet, int version):
    """The bytes of a packet that a server sends.

    Raises TypeError for packets that only clients send, ValueError for what has no form on the wire: strings beyond
    65535 bytes or with U+0000, fields that a server may not set, DISCONNECT and AUTH in 3.x.
    """
    encoder = _ENCODERS.get(type(packet))
    if encoder is None:
        raise TypeError(f"a server does not send {type(packet).__name__}")
    return encoder(packet, version)


def forward_publish(data, int version, int subscriber_version):
    """The PUBLISH at the front of data as a server sends it on: flags and expiry as they came, without a topic alias.

    The payload is put behind the head as the shard does it with large ones.
    """
    cdef Py_buffer view
    cdef Frame frame
    cdef PublishPacket packet
    cdef OutgoingPublish outgoing
    cdef const char *detail
    cdef Py_ssize_t written
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if read_frame(<const uint8_t *> view.buf, view.len, &frame) != FRAME_WHOLE:
            raise EOFError(f"{view.len} bytes hold no whole packet")
        check(decode_publish(
            <const uint8_t *> view.buf + frame.header_size, frame.body_size, frame.flags, version, &packet, NULL,
            &detail,
        ), &detail)
        memset(&outgoing, 0, sizeof(outgoing))
        outgoing.topic = packet.topic
        outgoing.payload = packet.payload
        outgoing.forwarded = &packet.forwarded
        outgoing.has_message_expiry = packet.has_message_expiry
        outgoing.message_expiry_interval = packet.message_expiry_interval
        outgoing.packet_id = packet.packet_id
        outgoing.qos = packet.qos
        outgoing.dup = packet.dup
        outgoing.retain = packet.retain
        head = reserve(size_publish_head(&outgoing, subscriber_version))
        written = encode_publish_head(&outgoing, subscriber_version, start_of(head))
        assert written == len(head)
        return head + bytes_of(&packet.payload)
    finally:
        PyBuffer_Release(&view)


# Borrows from the bytes that it appends to kept. None is absent.
cdef Bytes borrow(value, list kept) except *:
    cdef Bytes result
    result.data = NULL
    result.size = 0
    if value is not None:
        encoded = value if isinstance(value, bytes) else value.encode()
        if len(encoded) > 0xFFFF:
            raise ValueError(f"a field has {len(encoded)} bytes, the wire takes 65535")
        if encoded is not value and b"\0" in encoded:
            raise ValueError("a string has U+0000")
        kept.append(encoded)
        result.data = <const uint8_t *> PyBytes_AS_STRING(encoded)
        result.size = len(encoded)
    return result


# The same for what is in wire form already, or has no length of its own: any size.
cdef Bytes borrow_raw(bytes value, list kept) except *:
    cdef Bytes result
    kept.append(value)
    result.data = <const uint8_t *> PyBytes_AS_STRING(value)
    result.size = len(value)
    return result


cdef bytes encode_field(value):
    cdef list kept = []
    cdef Bytes field = borrow(value, kept)
    return int(field.size).to_bytes(2, "big") + kept[0]


cdef bytes encode_user_properties(pairs):
    return b"".join(
        bytes((PROPERTY_USER_PROPERTY,)) + encode_field(name) + encode_field(value) for name, value in pairs)


cdef bytes encode_forwarded(packet):
    parts = []
    if packet.payload_format_indicator:
        parts.append(bytes((PROPERTY_PAYLOAD_FORMAT_INDICATOR, packet.payload_format_indicator)))
    for identifier, value in (
        (PROPERTY_CONTENT_TYPE, packet.content_type),
        (PROPERTY_RESPONSE_TOPIC, packet.response_topic),
        (PROPERTY_CORRELATION_DATA, packet.correlation_data),
    ):
        if value is not None:
            parts.append(bytes((identifier,)) + encode_field(value))
    parts.append(encode_user_properties(packet.user_properties))
    return b"".join(parts)


cdef bytes reserve(Py_ssize_t size):
    if size > PACKET_SIZE_MAXIMUM:
        raise ValueError(f"a packet has {size} bytes, the wire takes {PACKET_SIZE_MAXIMUM}")
    return PyBytes_FromStringAndSize(NULL, size)


cdef uint8_t *start_of(bytes out):
    return <uint8_t *> PyBytes_AS_STRING(out)


def _encode_publish(packet, int version):
    cdef OutgoingPublish outgoing
    cdef ForwardedProperties forwarded
    cdef uint32_t[64] subscription_ids
    cdef list kept = []
    cdef uint32_t index
    cdef Py_ssize_t written
    if len(packet.subscription_ids) > 64:
        raise ValueError(f"a packet has {len(packet.subscription_ids)} subscription identifiers, this takes 64")
    memset(&outgoing, 0, sizeof(outgoing))
    memset(&forwarded, 0, sizeof(forwarded))
    for index, subscription_id in enumerate(packet.subscription_ids):
        subscription_ids[index] = subscription_id
    forwarded.parts[0] = borrow_raw(encode_forwarded(packet), kept)
    forwarded.part_count = 1
    forwarded.size = <uint32_t> forwarded.parts[0].size
    outgoing.topic = borrow(packet.topic, kept)
    outgoing.payload = borrow_raw(packet.payload, kept)
    outgoing.forwarded = &forwarded
    outgoing.subscription_ids = subscription_ids
    outgoing.subscription_id_count = len(packet.subscription_ids)
    outgoing.has_message_expiry = packet.message_expiry_interval is not None
    outgoing.message_expiry_interval = packet.message_expiry_interval or 0
    outgoing.packet_id = packet.packet_id
    outgoing.topic_alias = packet.topic_alias or 0
    outgoing.qos = packet.qos
    outgoing.dup = packet.dup
    outgoing.retain = packet.retain
    out = reserve(size_publish(&outgoing, version))
    written = encode_publish(&outgoing, version, start_of(out))
    assert written == len(out)
    return out


def _encode_acknowledgement(packet, int version):
    cdef uint8_t[ACKNOWLEDGEMENT_SIZE_MAXIMUM] out
    cdef Py_ssize_t size = encode_acknowledgement(
        PacketType[type(packet).__name__.upper()], packet.packet_id, packet.reason_code, version, out)
    return <bytes> (<const char *> out)[:size]


def _encode_connack(packet, int version):
    cdef OutgoingConnack outgoing
    cdef list kept = []
    cdef Py_ssize_t written
    outgoing.session_present = packet.session_present
    outgoing.reason_code = packet.reason_code
    outgoing.maximum_qos = packet.maximum_qos
    outgoing.retain_available = packet.retain_available
    outgoing.wildcard_subscription_available = packet.wildcard_subscription_available
    outgoing.subscription_identifier_available = packet.subscription_identifier_available
    outgoing.shared_subscription_available = packet.shared_subscription_available
    outgoing.has_session_expiry_interval = packet.session_expiry_interval is not None
    outgoing.session_expiry_interval = packet.session_expiry_interval or 0
    outgoing.has_server_keep_alive = packet.server_keep_alive is not None
    outgoing.server_keep_alive = packet.server_keep_alive or 0
    outgoing.receive_maximum = packet.receive_maximum
    outgoing.topic_alias_maximum = packet.topic_alias_maximum
    outgoing.maximum_packet_size = packet.maximum_packet_size or 0
    outgoing.assigned_client_id = borrow(packet.assigned_client_id, kept)
    outgoing.reason_string = borrow(packet.reason_string, kept)
    outgoing.response_information = borrow(packet.response_information, kept)
    outgoing.server_reference = borrow(packet.server_reference, kept)
    outgoing.authentication_method = borrow(packet.authentication_method, kept)
    outgoing.authentication_data = borrow(packet.authentication_data, kept)
    outgoing.user_properties = borrow_raw(encode_user_properties(packet.user_properties), kept)
    out = reserve(size_connack(&outgoing, version))
    written = encode_connack(&outgoing, version, start_of(out))
    assert written == len(out)
    return out


def _encode_suback(packet, int version):
    cdef list kept = []
    cdef uint8_t packet_type = PACKET_SUBACK if isinstance(packet, Suback) else PACKET_UNSUBACK
    cdef Bytes reason_codes = borrow_raw(bytes(packet.reason_codes), kept)
    cdef Bytes reason_string = borrow(packet.reason_string, kept)
    cdef Py_ssize_t written
    out = reserve(size_suback(packet_type, reason_codes.size, reason_string, version))
    written = encode_suback(
        packet_type, packet.packet_id, reason_codes.data, reason_codes.size, reason_string, version, start_of(out))
    assert written == len(out)
    return out


def _encode_pingresp(packet, int version):
    out = reserve(PINGRESP_SIZE)
    encode_pingresp(start_of(out))
    return out


def _encode_disconnect(packet, int version):
    cdef list kept = []
    cdef Bytes reason_string = borrow(packet.reason_string, kept)
    cdef Bytes server_reference = borrow(packet.server_reference, kept)
    cdef Py_ssize_t written
    if version != MQTT_5_0:
        raise ValueError("a 3.x server does not send DISCONNECT")
    if packet.session_expiry_interval is not None:  # [MQTT-3.14.2-2]
        raise ValueError("a server does not send a Session Expiry Interval in DISCONNECT")
    if packet.user_properties:
        raise ValueError("this server sends no user properties in DISCONNECT")
    out = reserve(size_disconnect(packet.reason_code, reason_string, server_reference))
    written = encode_disconnect(packet.reason_code, reason_string, server_reference, start_of(out))
    assert written == len(out)
    return out


def _encode_auth(packet, int version):
    cdef list kept = []
    cdef Bytes method = borrow(packet.authentication_method, kept)
    cdef Bytes data = borrow(packet.authentication_data, kept)
    cdef Bytes reason_string = borrow(packet.reason_string, kept)
    cdef Bytes user_properties = borrow_raw(encode_user_properties(packet.user_properties), kept)
    cdef Py_ssize_t written
    if version != MQTT_5_0:
        raise ValueError("AUTH came with 5.0")
    out = reserve(size_auth(method, data, reason_string, user_properties))
    written = encode_auth(packet.reason_code, method, data, reason_string, user_properties, start_of(out))
    assert written == len(out)
    return out


_ENCODERS = {
    Connack: _encode_connack,
    Publish: _encode_publish,
    Puback: _encode_acknowledgement,
    Pubrec: _encode_acknowledgement,
    Pubrel: _encode_acknowledgement,
    Pubcomp: _encode_acknowledgement,
    Suback: _encode_suback,
    Unsuback: _encode_suback,
    Pingresp: _encode_pingresp,
    Disconnect: _encode_disconnect,
    Auth: _encode_auth,
}


def is_utf8(data):
    """Is data what an MQTT string may hold [MQTT-1.5.4-1], [MQTT-1.5.4-2]?"""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return bool(is_utf8_string(<const uint8_t *> view.buf, view.len))
    finally:
        PyBuffer_Release(&view)


def is_utf8_payload(data):
    """Is data what a payload may hold that says that it is UTF-8 [3.3.2.3.2]? That is the same with U+0000."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return bool(is_utf8_character_data(<const uint8_t *> view.buf, view.len))
    finally:
        PyBuffer_Release(&view)
