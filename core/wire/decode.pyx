"""The decoders.

Each walks its packet once, front to back, with a pointer at and a pointer end that no read may pass. The path of a
QoS 0 PUBLISH is the hottest of the product: its topic is checked eight bytes at a time, and what only 5.0 has costs
earlier versions one comparison.

Which failure is which [1.2, 4.13]: what cannot be taken apart, and what a section calls so, is a Malformed Packet;
what can be taken apart but is not allowed is a Protocol Error. Statement numbers are those of 5.0 unless they say
otherwise; 3.x knows neither word and only closes the connection.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport (
    AcknowledgementPacket, AuthPacket, ConnectPacket, DisconnectPacket, ForwardedProperties, Frame, PublishPacket,
    SubscribePacket, SubscriptionRequest, UnsubscribePacket,
)
from rookery.core.wire.properties cimport (
    IN_ACKNOWLEDGEMENT, IN_AUTH, IN_CONNECT, IN_DISCONNECT, IN_PUBLISH, IN_SUBSCRIBE, IN_UNSUBSCRIBE, IN_WILL,
    Property, PropertyValues, bytes_of, has_property, next_property, number_or, walk_properties,
)
from rookery.core.wire.property_memo cimport PropertyMemo, memo_keep, memo_recall
from rookery.core.wire.spec cimport (
    MQTT_3_1, MQTT_3_1_1, MQTT_5_0, PACKET_AUTH, PACKET_DISCONNECT, PACKET_PUBACK, PACKET_PUBCOMP, PACKET_PUBLISH,
    PACKET_PUBREC, PACKET_PUBREL, PACKET_SUBSCRIBE, PACKET_UNSUBSCRIBE, PROPERTY_AUTHENTICATION_DATA,
    PROPERTY_AUTHENTICATION_METHOD, PROPERTY_MAXIMUM_PACKET_SIZE, PROPERTY_MESSAGE_EXPIRY_INTERVAL,
    PROPERTY_PAYLOAD_FORMAT_INDICATOR, PROPERTY_REASON_STRING, PROPERTY_RECEIVE_MAXIMUM,
    PROPERTY_REQUEST_PROBLEM_INFORMATION, PROPERTY_REQUEST_RESPONSE_INFORMATION, PROPERTY_RESPONSE_TOPIC,
    PROPERTY_SERVER_REFERENCE, PROPERTY_SESSION_EXPIRY_INTERVAL, PROPERTY_SUBSCRIPTION_IDENTIFIER,
    PROPERTY_TOPIC_ALIAS, PROPERTY_TOPIC_ALIAS_MAXIMUM, PROPERTY_USER_PROPERTY, PROPERTY_WILL_DELAY_INTERVAL,
    REASON_ADMINISTRATIVE_ACTION, REASON_CLIENT_IDENTIFIER_NOT_VALID, REASON_CONTINUE_AUTHENTICATION,
    REASON_DISCONNECT_WITH_WILL_MESSAGE, REASON_IMPLEMENTATION_SPECIFIC_ERROR, REASON_MALFORMED_PACKET,
    REASON_MESSAGE_RATE_TOO_HIGH, REASON_NO_MATCHING_SUBSCRIBERS, REASON_NORMAL_DISCONNECTION, REASON_NOT_AUTHORIZED,
    REASON_PACKET_IDENTIFIER_IN_USE, REASON_PACKET_IDENTIFIER_NOT_FOUND, REASON_PACKET_TOO_LARGE,
    REASON_PAYLOAD_FORMAT_INVALID, REASON_PROTOCOL_ERROR, REASON_QUOTA_EXCEEDED, REASON_REAUTHENTICATE,
    REASON_RECEIVE_MAXIMUM_EXCEEDED, REASON_SUCCESS, REASON_TOPIC_ALIAS_INVALID, REASON_TOPIC_NAME_INVALID,
    REASON_UNSPECIFIED_ERROR, REASON_UNSUPPORTED_PROTOCOL_VERSION, RECEIVE_MAXIMUM_DEFAULT, SESSION_EXPIRY_NEVER,
)
from rookery.core.wire.text cimport (
    decode_variable_integer, fail, has_wildcard, is_plain, is_utf8, read_two_bytes, take_binary, take_string,
)


# Flags that the fixed header must have, by packet type [2.1.3]; PUBLISH has flags of its own, 0 is no packet.
cdef uint8_t[16] RESERVED_FLAGS

for _packet_type in range(16):
    # [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]; all others 0 [MQTT-3.14.1-1], [MQTT-3.15.1-1]
    RESERVED_FLAGS[_packet_type] = 2 if _packet_type in (PACKET_PUBREL, PACKET_SUBSCRIBE, PACKET_UNSUBSCRIBE) else 0


# Bit n = packet type n may carry the reason code when a client sends it.
cdef uint16_t[256] REASONS_ALLOWED

_RECEIVED = (  # PUBACK and PUBREC
    REASON_SUCCESS, REASON_NO_MATCHING_SUBSCRIBERS, REASON_UNSPECIFIED_ERROR, REASON_IMPLEMENTATION_SPECIFIC_ERROR,
    REASON_NOT_AUTHORIZED, REASON_TOPIC_NAME_INVALID, REASON_PACKET_IDENTIFIER_IN_USE, REASON_QUOTA_EXCEEDED,
    REASON_PAYLOAD_FORMAT_INVALID,
)
_RELEASED = (REASON_SUCCESS, REASON_PACKET_IDENTIFIER_NOT_FOUND)  # PUBREL and PUBCOMP

for _packet_type, _reasons in (
    (PACKET_PUBACK, _RECEIVED),   # [MQTT-3.4.2-1]
    (PACKET_PUBREC, _RECEIVED),   # [MQTT-3.5.2-1]
    (PACKET_PUBREL, _RELEASED),   # [MQTT-3.6.2-1]
    (PACKET_PUBCOMP, _RELEASED),  # [MQTT-3.7.2-1]
    (PACKET_DISCONNECT, (         # [MQTT-3.14.2-1], without those that table 3-10 gives to servers alone
        REASON_NORMAL_DISCONNECTION, REASON_DISCONNECT_WITH_WILL_MESSAGE, REASON_UNSPECIFIED_ERROR,
        REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR, REASON_IMPLEMENTATION_SPECIFIC_ERROR,
        REASON_TOPIC_NAME_INVALID, REASON_RECEIVE_MAXIMUM_EXCEEDED, REASON_TOPIC_ALIAS_INVALID,
        REASON_PACKET_TOO_LARGE, REASON_MESSAGE_RATE_TOO_HIGH, REASON_QUOTA_EXCEEDED, REASON_ADMINISTRATIVE_ACTION,
        REASON_PAYLOAD_FORMAT_INVALID,
    )),
    (PACKET_AUTH, (REASON_CONTINUE_AUTHENTICATION, REASON_REAUTHENTICATE)),  # [MQTT-3.15.2-1]; 0x00 is the server's
):
    for _reason in _reasons:
        REASONS_ALLOWED[_reason] |= 1 << _packet_type


cdef inline bint is_reason_allowed(uint8_t packet_type, uint8_t reason_code) noexcept nogil:
    return (REASONS_ALLOWED[reason_code] >> packet_type) & 1


cdef int read_frame(const uint8_t *data, Py_ssize_t size, Frame *frame) noexcept nogil:
    cdef uint32_t body_size
    cdef uint32_t index
    if size == 0:
        return FRAME_HEADER
    frame.packet_type = data[0] >> 4
    frame.flags = data[0] & 15
    if frame.packet_type == 0:  # forbidden [2.1.2]
        return FRAME_MALFORMED
    if size >= 2 and data[1] < 128:  # the one-byte Remaining Length of most packets
        frame.header_size = 2
        frame.body_size = data[1]
        return FRAME_WHOLE if size - 2 >= data[1] else FRAME_PARTIAL
    body_size = 0
    for index in range(1, 5):
        if index >= size:
            return FRAME_HEADER
        body_size |= <uint32_t> (data[index] & 127) << (7 * (index - 1))
        if data[index] < 128:
            frame.header_size = index + 1
            frame.body_size = body_size
            return FRAME_WHOLE if size - index - 1 >= body_size else FRAME_PARTIAL
    return FRAME_MALFORMED


cdef bint are_flags_valid(uint8_t packet_type, uint8_t flags) noexcept nogil:
    return packet_type == PACKET_PUBLISH or flags == RESERVED_FLAGS[packet_type & 15]  # [MQTT-2.1.3-1]


cdef bint is_header_valid(const Frame *frame, uint8_t version) noexcept nogil:
    if version == MQTT_5_0:
        # A Remaining Length of n bytes is minimal if its last byte is not 0: if body_size needs all its 7 n bits.
        return are_flags_valid(frame.packet_type, frame.flags) and (
            frame.header_size == 2 or frame.body_size >> (7 * (frame.header_size - 2)) != 0)
    if frame.packet_type == PACKET_AUTH:  # [MQTT 3.1.1, 2.2.1]
        return 0
    return version == MQTT_3_1 or are_flags_valid(frame.packet_type, frame.flags)


# Take the length of a property block off the front; the block lies between at[0] and its end afterwards.
cdef inline int take_property_block(
        const uint8_t **at, const uint8_t *end, Bytes *block, const char **detail) noexcept nogil:
    cdef uint32_t block_size
    cdef Py_ssize_t size = decode_variable_integer(at[0], end - at[0], &block_size)
    if size == 0:  # [MQTT-2.2.2-1], [MQTT-1.5.5-1]
        return fail(REASON_MALFORMED_PACKET, b"the Property Length is cut short, too long or not minimal", detail)
    if end - at[0] - size < block_size:
        return fail(REASON_MALFORMED_PACKET, b"the properties are longer than the packet", detail)
    block.data = at[0] + size
    block.size = block_size
    at[0] += size + block_size
    return REASON_SUCCESS


# The same with the walk over the block. Its cost is the walk's, so it is not inlined.
cdef int take_properties(
        const uint8_t **at, const uint8_t *end, uint16_t place, Bytes *block, PropertyValues *values,
        ForwardedProperties *forwarded, const char **detail) noexcept nogil:
    cdef int reason = take_property_block(at, end, block, detail)
    if reason != REASON_SUCCESS:
        return reason
    return walk_properties(block.data, block.size, place, values, forwarded, detail)


# What is_plain did not settle.
cdef int check_unplain_topic(const uint8_t *topic, Py_ssize_t size, const char **detail) noexcept nogil:
    if not is_utf8(topic, size):  # [MQTT-3.3.2-1]
        return fail(REASON_MALFORMED_PACKET, b"the topic is not well-formed UTF-8 or has U+0000", detail)
    if has_wildcard(topic, size):  # [MQTT-3.3.2-2]
        return fail(REASON_TOPIC_NAME_INVALID, b"the topic has a wildcard", detail)
    return REASON_SUCCESS


cdef int decode_publish_properties(
        const uint8_t **at, const uint8_t *end, PublishPacket *packet, PropertyMemo *memo,
        const char **detail) noexcept nogil:
    cdef PropertyValues values
    cdef Bytes block
    cdef int reason
    reason = take_properties(at, end, IN_PUBLISH, &block, &values, &packet.forwarded, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.has_message_expiry = has_property(&values, PROPERTY_MESSAGE_EXPIRY_INTERVAL)
    packet.message_expiry_interval = number_or(&values, PROPERTY_MESSAGE_EXPIRY_INTERVAL, 0)
    packet.topic_alias = <uint16_t> number_or(&values, PROPERTY_TOPIC_ALIAS, 0)
    packet.payload_format_indicator = <uint8_t> number_or(&values, PROPERTY_PAYLOAD_FORMAT_INDICATOR, 0)
    packet.response_topic = bytes_of(&values, PROPERTY_RESPONSE_TOPIC)
    if memo != NULL:
        memo_keep(memo, &block, packet)
    return REASON_SUCCESS


cdef int decode_publish(
        const uint8_t *body, Py_ssize_t size, uint8_t flags, uint8_t version, PublishPacket *packet,
        PropertyMemo *memo, const char **detail) noexcept nogil:
    cdef const uint8_t *at = body + 2
    cdef const uint8_t *end = body + size
    cdef Py_ssize_t topic_size
    cdef int reason
    if size < 2:
        return fail(REASON_MALFORMED_PACKET, b"a PUBLISH ends before its topic", detail)
    topic_size = read_two_bytes(body)
    if size - 2 < topic_size:
        return fail(REASON_MALFORMED_PACKET, b"the topic is longer than the packet", detail)
    if not is_plain(at, topic_size, True):
        reason = check_unplain_topic(at, topic_size, detail)
        if reason != REASON_SUCCESS:
            return reason
    packet.topic.data = at
    packet.topic.size = topic_size
    at += topic_size
    packet.retain = flags & 1
    packet.qos = (flags >> 1) & 3
    packet.dup = flags >> 3
    packet.packet_id = 0
    if packet.qos > 0:
        if packet.qos == 3:  # [MQTT-3.3.1-4]
            return fail(REASON_MALFORMED_PACKET, b"a PUBLISH has QoS 3", detail)
        if end - at < 2:
            return fail(REASON_MALFORMED_PACKET, b"a PUBLISH ends before its packet identifier", detail)
        packet.packet_id = read_two_bytes(at)
        at += 2
        if packet.packet_id == 0:  # [MQTT-2.2.1-3]
            return fail(REASON_PROTOCOL_ERROR, b"a packet identifier is 0", detail)
    elif packet.dup:  # [MQTT-3.3.1-2]
        return fail(REASON_PROTOCOL_ERROR, b"a PUBLISH with QoS 0 has DUP set", detail)
    packet.forwarded.part_count = 0
    packet.forwarded.size = 0
    packet.message_expiry_interval = 0
    packet.topic_alias = 0
    packet.has_message_expiry = 0
    packet.payload_format_indicator = 0
    packet.response_topic.data = NULL
    packet.response_topic.size = 0
    if version == MQTT_5_0:
        if at < end and at[0] == 0:
            at += 1
        elif memo != NULL and memo_recall(memo, at, end - at, packet):
            at += 1 + memo.size
        else:
            reason = decode_publish_properties(&at, end, packet, memo, detail)
            if reason != REASON_SUCCESS:
                return reason
    if topic_size == 0 and packet.topic_alias == 0:
        if version == MQTT_5_0:  # [3.3.2.1]
            return fail(REASON_PROTOCOL_ERROR, b"a PUBLISH has neither topic nor topic alias", detail)
        return fail(REASON_TOPIC_NAME_INVALID, b"the topic is empty", detail)  # [MQTT-4.7.3-1]
    packet.payload.data = at
    packet.payload.size = end - at
    return REASON_SUCCESS


# What names the protocol and its version, the first fields of a CONNECT.
cdef inline int take_protocol(
        const uint8_t **at, const uint8_t *end, ConnectPacket *packet, const char **detail) noexcept nogil:
    cdef Bytes name
    cdef bint is_old
    cdef int reason = take_string(at, end, &name, detail)
    if reason != REASON_SUCCESS:
        return reason
    is_old = name.size == 6 and memcmp(name.data, b"MQIsdp", 6) == 0
    if not is_old and not (name.size == 4 and memcmp(name.data, b"MQTT", 4) == 0):  # [MQTT-3.1.2-1]
        return fail(REASON_UNSUPPORTED_PROTOCOL_VERSION, b"the protocol name is not MQTT", detail)
    if at[0] == end:
        return fail(REASON_MALFORMED_PACKET, b"a CONNECT ends before its protocol version", detail)
    packet.protocol_version = at[0][0]
    at[0] += 1
    if is_old:
        if packet.protocol_version == MQTT_3_1:
            return REASON_SUCCESS
    elif packet.protocol_version == MQTT_3_1_1 or packet.protocol_version == MQTT_5_0:
        return REASON_SUCCESS
    return fail(REASON_UNSUPPORTED_PROTOCOL_VERSION, b"the protocol version is not supported", detail)  # [MQTT-3.1.2-2]


cdef inline int check_connect_flags(uint8_t flags, uint8_t version, const char **detail) noexcept nogil:
    if flags & 0x01 and version != MQTT_3_1:  # [MQTT-3.1.2-3]; 3.1 leaves the bit unused and asks for no check
        return fail(REASON_MALFORMED_PACKET, b"the reserved flag of a CONNECT is set", detail)
    if not flags & 0x04 and flags & 0x38:  # [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        return fail(REASON_MALFORMED_PACKET, b"a CONNECT has Will QoS or Will Retain without a Will", detail)
    if flags & 0x18 == 0x18:  # [MQTT-3.1.2-12]
        return fail(REASON_MALFORMED_PACKET, b"the Will QoS is 3", detail)
    if version != MQTT_5_0 and flags & 0xC0 == 0x40:  # [MQTT 3.1.1, MQTT-3.1.2-22]; 5.0 allows it [3.1.2.9]
        return fail(REASON_MALFORMED_PACKET, b"a CONNECT has a password without a user name", detail)
    return REASON_SUCCESS


cdef inline int take_connect_properties(
        const uint8_t **at, const uint8_t *end, ConnectPacket *packet, const char **detail) noexcept nogil:
    cdef PropertyValues values
    cdef int reason = take_properties(at, end, IN_CONNECT, &packet.user_properties, &values, NULL, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.session_expiry_interval = number_or(&values, PROPERTY_SESSION_EXPIRY_INTERVAL, 0)
    packet.receive_maximum = <uint16_t> number_or(&values, PROPERTY_RECEIVE_MAXIMUM, RECEIVE_MAXIMUM_DEFAULT)
    packet.maximum_packet_size = number_or(&values, PROPERTY_MAXIMUM_PACKET_SIZE, 0)
    packet.topic_alias_maximum = <uint16_t> number_or(&values, PROPERTY_TOPIC_ALIAS_MAXIMUM, 0)
    packet.request_response_information = <uint8_t> number_or(&values, PROPERTY_REQUEST_RESPONSE_INFORMATION, 0)
    packet.request_problem_information = <uint8_t> number_or(&values, PROPERTY_REQUEST_PROBLEM_INFORMATION, 1)
    packet.has_authentication_method = has_property(&values, PROPERTY_AUTHENTICATION_METHOD)
    packet.authentication_method = bytes_of(&values, PROPERTY_AUTHENTICATION_METHOD)
    packet.authentication_data = bytes_of(&values, PROPERTY_AUTHENTICATION_DATA)
    if packet.authentication_data.data != NULL and not packet.has_authentication_method:  # [3.1.2.11.10]
        return fail(REASON_PROTOCOL_ERROR, b"Authentication Data is there without an Authentication Method", detail)
    return REASON_SUCCESS


cdef inline int take_will(
        const uint8_t **at, const uint8_t *end, uint8_t flags, ConnectPacket *packet,
        const char **detail) noexcept nogil:
    cdef PropertyValues values
    cdef Bytes block
    cdef int reason
    packet.has_will = 1
    packet.will.qos = (flags >> 3) & 3
    packet.will.retain = (flags >> 5) & 1
    if packet.protocol_version == MQTT_5_0:
        reason = take_properties(at, end, IN_WILL, &block, &values, &packet.will.forwarded, detail)
        if reason != REASON_SUCCESS:
            return reason
        packet.will.will_delay_interval = number_or(&values, PROPERTY_WILL_DELAY_INTERVAL, 0)
        packet.will.has_message_expiry = has_property(&values, PROPERTY_MESSAGE_EXPIRY_INTERVAL)
        packet.will.message_expiry_interval = number_or(&values, PROPERTY_MESSAGE_EXPIRY_INTERVAL, 0)
        packet.will.payload_format_indicator = <uint8_t> number_or(&values, PROPERTY_PAYLOAD_FORMAT_INDICATOR, 0)
    reason = take_string(at, end, &packet.will.topic, detail)  # [MQTT-3.1.3-11]
    if reason != REASON_SUCCESS:
        return reason
    if packet.will.topic.size == 0:  # [MQTT-4.7.3-1]
        return fail(REASON_TOPIC_NAME_INVALID, b"the Will Topic is empty", detail)
    if has_wildcard(packet.will.topic.data, packet.will.topic.size):  # [MQTT-3.3.2-2]
        return fail(REASON_TOPIC_NAME_INVALID, b"the Will Topic has a wildcard", detail)
    return take_binary(at, end, &packet.will.payload, detail)


cdef int decode_connect(
        const uint8_t *body, Py_ssize_t size, ConnectPacket *packet, const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef uint8_t version, flags
    cdef int reason
    memset(packet, 0, sizeof(ConnectPacket))
    packet.receive_maximum = RECEIVE_MAXIMUM_DEFAULT
    packet.request_problem_information = 1
    reason = take_protocol(&at, end, packet, detail)
    if reason != REASON_SUCCESS:
        return reason
    version = packet.protocol_version
    if end - at < 3:
        return fail(REASON_MALFORMED_PACKET, b"a CONNECT ends before its flags and Keep Alive", detail)
    flags = at[0]
    reason = check_connect_flags(flags, version, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.clean_start = (flags >> 1) & 1
    packet.keep_alive = read_two_bytes(at + 1)
    at += 3
    if version == MQTT_5_0:
        reason = take_connect_properties(&at, end, packet, detail)
        if reason != REASON_SUCCESS:
            return reason
    elif not packet.clean_start:
        # Clean Session 0 keeps the session [MQTT 3.1.1, MQTT-3.1.2-4]; with 1 it ends with the connection.
        packet.session_expiry_interval = SESSION_EXPIRY_NEVER
    # The payload, in this order [MQTT-3.1.3-1].
    reason = take_string(&at, end, &packet.client_id, detail)  # [MQTT-3.1.3-3], [MQTT-3.1.3-4]
    if reason != REASON_SUCCESS:
        return reason
    if version == MQTT_3_1_1 and packet.client_id.size == 0 and not packet.clean_start:
        # [MQTT 3.1.1, MQTT-3.1.3-7], [MQTT 3.1.1, MQTT-3.1.3-8]
        return fail(REASON_CLIENT_IDENTIFIER_NOT_VALID, b"an empty client identifier asks for a kept session", detail)
    if flags & 0x04:  # [MQTT-3.1.2-9]
        reason = take_will(&at, end, flags, packet, detail)
        if reason != REASON_SUCCESS:
            return reason
    if version == MQTT_3_1 and at == end:
        flags &= 0x3F  # In 3.1 the Remaining Length overrules the user name and password flags [MQTT 3.1, 3.1].
    if flags & 0x80:  # [MQTT-3.1.2-17]
        reason = take_string(&at, end, &packet.username, detail)  # [MQTT-3.1.3-12]
        if reason != REASON_SUCCESS:
            return reason
        packet.has_username = 1
    if version == MQTT_3_1 and at == end:
        flags &= 0x3F
    if flags & 0x40:  # [MQTT-3.1.2-19]
        reason = take_binary(&at, end, &packet.password, detail)
        if reason != REASON_SUCCESS:
            return reason
        packet.has_password = 1
    if at != end:  # [MQTT-3.1.2-16], [MQTT-3.1.2-18], [MQTT-3.1.4-1]
        return fail(REASON_MALFORMED_PACKET, b"a CONNECT has more fields than its flags say", detail)
    return REASON_SUCCESS


# The packet identifier that begins the body of all packets below but DISCONNECT and AUTH.
cdef inline int take_packet_id(
        const uint8_t **at, const uint8_t *end, uint16_t *packet_id, const char **detail) noexcept nogil:
    if end - at[0] < 2:
        return fail(REASON_MALFORMED_PACKET, b"a packet ends before its packet identifier", detail)
    packet_id[0] = read_two_bytes(at[0])
    at[0] += 2
    if packet_id[0] == 0:  # [MQTT-2.2.1-3], [MQTT-2.2.1-4]
        return fail(REASON_PROTOCOL_ERROR, b"a packet identifier is 0", detail)
    return REASON_SUCCESS


cdef int decode_acknowledgement(
        const uint8_t *body, Py_ssize_t size, uint8_t packet_type, uint8_t version, AcknowledgementPacket *packet,
        const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef PropertyValues values
    cdef Bytes block
    cdef int reason = take_packet_id(&at, end, &packet.packet_id, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.reason_code = REASON_SUCCESS
    if at == end:  # all of it in 3.x, Success in 5.0 [3.4.2.1]
        return REASON_SUCCESS
    if version != MQTT_5_0:
        return fail(REASON_MALFORMED_PACKET, b"an acknowledgement has more than a packet identifier", detail)
    packet.reason_code = at[0]
    at += 1
    if not is_reason_allowed(packet_type, packet.reason_code):
        return fail(REASON_PROTOCOL_ERROR, b"an acknowledgement has a reason code of other packets", detail)
    if at == end:  # no Property Length below a Remaining Length of 4 [3.4.2.2.1]
        return REASON_SUCCESS
    reason = take_properties(&at, end, IN_ACKNOWLEDGEMENT, &block, &values, NULL, detail)
    if reason != REASON_SUCCESS:
        return reason
    if at != end:
        return fail(REASON_MALFORMED_PACKET, b"an acknowledgement has bytes behind its properties", detail)
    return REASON_SUCCESS


# 1 for $share/... and for $oshare/..., our shared subscription that keeps the order.
cdef inline bint is_shared(const Bytes *topic_filter) noexcept nogil:
    return (topic_filter.size >= 7 and memcmp(topic_filter.data, b"$share/", 7) == 0) or (
        topic_filter.size >= 8 and memcmp(topic_filter.data, b"$oshare/", 8) == 0)


cdef inline int check_subscription_options(
        uint8_t options, const Bytes *topic_filter, uint8_t version, const char **detail) noexcept nogil:
    if version != MQTT_5_0:
        if options > 2:  # [MQTT 3.1.1, MQTT-3-8.3-4]
            return fail(REASON_MALFORMED_PACKET, b"a requested QoS is not 0, 1 or 2", detail)
        return REASON_SUCCESS
    if options & 0xC0:  # [MQTT-3.8.3-5]
        return fail(REASON_MALFORMED_PACKET, b"reserved bits of subscription options are set", detail)
    if options & 0x03 == 0x03:  # [3.8.3.1]
        return fail(REASON_PROTOCOL_ERROR, b"a requested QoS is 3", detail)
    if options & 0x30 == 0x30:  # [3.8.3.1]
        return fail(REASON_PROTOCOL_ERROR, b"a Retain Handling is 3", detail)
    if options & 0x04 and is_shared(topic_filter):  # [MQTT-3.8.3-4]
        return fail(REASON_PROTOCOL_ERROR, b"No Local is set on a shared subscription", detail)
    return REASON_SUCCESS


# Walk the topic filters of a SUBSCRIBE (with options) or UNSUBSCRIBE (without) and count them.
cdef int walk_filters(
        const uint8_t *at, const uint8_t *end, bint has_options, uint8_t version, uint16_t *count,
        const char **detail) noexcept nogil:
    cdef Bytes topic_filter
    cdef int reason
    count[0] = 0
    if at == end:  # [MQTT-3.8.3-2], [MQTT-3.10.3-2]
        return fail(REASON_PROTOCOL_ERROR, b"a packet names no topic filter", detail)
    while at < end:
        if count[0] == FILTER_COUNT_MAXIMUM:
            return fail(REASON_QUOTA_EXCEEDED, b"a packet has more than 65535 topic filters", detail)
        reason = take_string(&at, end, &topic_filter, detail)  # [MQTT-3.8.3-1], [MQTT-3.10.3-1]
        if reason != REASON_SUCCESS:
            return reason
        if has_options:
            if at == end:
                return fail(REASON_MALFORMED_PACKET, b"a topic filter has no subscription options", detail)
            reason = check_subscription_options(at[0], &topic_filter, version, detail)
            if reason != REASON_SUCCESS:
                return reason
            at += 1
        count[0] += 1
    return REASON_SUCCESS


cdef int decode_subscribe(
        const uint8_t *body, Py_ssize_t size, uint8_t version, SubscribePacket *packet,
        const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef PropertyValues values
    cdef int reason = take_packet_id(&at, end, &packet.packet_id, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.subscription_id = 0
    packet.properties.data = NULL
    packet.properties.size = 0
    if version == MQTT_5_0:
        reason = take_properties(&at, end, IN_SUBSCRIBE, &packet.properties, &values, NULL, detail)
        if reason != REASON_SUCCESS:
            return reason
        packet.subscription_id = number_or(&values, PROPERTY_SUBSCRIPTION_IDENTIFIER, 0)
    packet.filters.data = at
    packet.filters.size = end - at
    return walk_filters(at, end, True, version, &packet.filter_count, detail)


cdef bint next_topic_filter(Bytes *rest, Bytes *topic_filter) noexcept nogil:
    if rest.size == 0:
        return 0
    topic_filter.data = rest.data + 2
    topic_filter.size = read_two_bytes(rest.data)
    rest.data += 2 + topic_filter.size
    rest.size -= 2 + topic_filter.size
    return 1


cdef bint next_subscription(Bytes *rest, uint8_t version, SubscriptionRequest *request) noexcept nogil:
    cdef uint8_t options
    if not next_topic_filter(rest, &request.topic_filter):
        return 0
    options = rest.data[0]  # 3.x: no more than the QoS, which has been checked
    rest.data += 1
    rest.size -= 1
    request.qos = options & 3
    request.no_local = (options >> 2) & 1
    request.retain_as_published = (options >> 3) & 1
    request.retain_handling = (options >> 4) & 3
    return 1


cdef int decode_unsubscribe(
        const uint8_t *body, Py_ssize_t size, uint8_t version, UnsubscribePacket *packet,
        const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef PropertyValues values
    cdef int reason = take_packet_id(&at, end, &packet.packet_id, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.properties.data = NULL
    packet.properties.size = 0
    if version == MQTT_5_0:
        reason = take_properties(&at, end, IN_UNSUBSCRIBE, &packet.properties, &values, NULL, detail)
        if reason != REASON_SUCCESS:
            return reason
    packet.filters.data = at
    packet.filters.size = end - at
    return walk_filters(at, end, False, version, &packet.filter_count, detail)


cdef int decode_disconnect(
        const uint8_t *body, Py_ssize_t size, uint8_t version, DisconnectPacket *packet,
        const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef PropertyValues values
    cdef int reason
    memset(packet, 0, sizeof(DisconnectPacket))
    if at == end:  # all of it in 3.x, Normal disconnection in 5.0 [3.14.2.1]
        return REASON_SUCCESS
    if version != MQTT_5_0:
        return fail(REASON_MALFORMED_PACKET, b"a DISCONNECT has a body", detail)
    packet.reason_code = at[0]
    at += 1
    if not is_reason_allowed(PACKET_DISCONNECT, packet.reason_code):
        return fail(REASON_PROTOCOL_ERROR, b"a DISCONNECT has a reason code that no client sends", detail)
    if at == end:  # no Property Length below a Remaining Length of 2 [3.14.2.2.1]
        return REASON_SUCCESS
    reason = take_properties(&at, end, IN_DISCONNECT, &packet.properties, &values, NULL, detail)
    if reason != REASON_SUCCESS:
        return reason
    packet.has_session_expiry_interval = has_property(&values, PROPERTY_SESSION_EXPIRY_INTERVAL)
    packet.session_expiry_interval = number_or(&values, PROPERTY_SESSION_EXPIRY_INTERVAL, 0)
    packet.reason_string = bytes_of(&values, PROPERTY_REASON_STRING)
    packet.server_reference = bytes_of(&values, PROPERTY_SERVER_REFERENCE)
    if at != end:
        return fail(REASON_MALFORMED_PACKET, b"a DISCONNECT has bytes behind its properties", detail)
    return REASON_SUCCESS


cdef int decode_auth(
        const uint8_t *body, Py_ssize_t size, AuthPacket *packet, const char **detail) noexcept nogil:
    cdef const uint8_t *at = body
    cdef const uint8_t *end = body + size
    cdef PropertyValues values
    cdef int reason
    # Without a body it says Success [3.15.2.1], which is the server's to say.
    packet.reason_code = REASON_SUCCESS if at == end else at[0]
    if not is_reason_allowed(PACKET_AUTH, packet.reason_code):
        return fail(REASON_PROTOCOL_ERROR, b"an AUTH has a reason code that no client sends", detail)
    at += 1
    reason = take_properties(&at, end, IN_AUTH, &packet.properties, &values, NULL, detail)
    if reason != REASON_SUCCESS:
        return reason
    if not has_property(&values, PROPERTY_AUTHENTICATION_METHOD):  # [3.15.2.2.2]
        return fail(REASON_PROTOCOL_ERROR, b"an AUTH has no Authentication Method", detail)
    packet.authentication_method = bytes_of(&values, PROPERTY_AUTHENTICATION_METHOD)
    packet.authentication_data = bytes_of(&values, PROPERTY_AUTHENTICATION_DATA)
    packet.reason_string = bytes_of(&values, PROPERTY_REASON_STRING)
    if at != end:
        return fail(REASON_MALFORMED_PACKET, b"an AUTH has bytes behind its properties", detail)
    return REASON_SUCCESS


cdef bint next_user_property(Bytes *rest, Bytes *name, Bytes *value) noexcept nogil:
    cdef Property item
    while next_property(rest, &item):
        if item.identifier == PROPERTY_USER_PROPERTY:
            name[0] = item.value
            value[0] = item.pair_value
            return 1
    return 0
