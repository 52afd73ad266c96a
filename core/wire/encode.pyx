"""The encoders.

PUBLISH and the acknowledgements are hot and are written for speed. All else is rare and is written so that sizing
and writing cannot disagree: both are one function, which only counts when its out is NULL.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from rookery.core.structures.bytes cimport Bytes, copy_short
from rookery.core.wire.spec cimport (
    MQTT_3_1, MQTT_5_0, PACKET_AUTH, PACKET_CONNACK, PACKET_DISCONNECT, PACKET_PINGRESP, PACKET_PUBLISH,
    PACKET_PUBREL, PACKET_SUBACK, PROPERTY_ASSIGNED_CLIENT_IDENTIFIER, PROPERTY_AUTHENTICATION_DATA,
    PROPERTY_AUTHENTICATION_METHOD, PROPERTY_MAXIMUM_PACKET_SIZE, PROPERTY_MAXIMUM_QOS, PROPERTY_REASON_STRING,
    PROPERTY_RECEIVE_MAXIMUM,
    PROPERTY_RESPONSE_INFORMATION, PROPERTY_RETAIN_AVAILABLE, PROPERTY_SERVER_KEEP_ALIVE, PROPERTY_SERVER_REFERENCE,
    PROPERTY_SESSION_EXPIRY_INTERVAL, PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE, PROPERTY_SUBSCRIPTION_IDENTIFIER,
    PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE, PROPERTY_TOPIC_ALIAS, PROPERTY_TOPIC_ALIAS_MAXIMUM,
    PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE, REASON_BAD_AUTHENTICATION_METHOD, REASON_BAD_USER_NAME_OR_PASSWORD,
    REASON_BANNED, REASON_CLIENT_IDENTIFIER_NOT_VALID, REASON_NOT_AUTHORIZED, REASON_SUCCESS,
    REASON_UNSUPPORTED_PROTOCOL_VERSION, RECEIVE_MAXIMUM_DEFAULT, RETURN_ACCEPTED, RETURN_BAD_USER_NAME_OR_PASSWORD,
    RETURN_IDENTIFIER_REJECTED, RETURN_NOT_AUTHORIZED, RETURN_SERVER_UNAVAILABLE,
    RETURN_UNACCEPTABLE_PROTOCOL_VERSION, SUBACK_FAILURE,
)
from rookery.core.wire.text cimport (
    encode_variable_integer, size_variable_integer, write_four_bytes, write_two_bytes,
)


cdef enum:
    FIRST_FAILURE = 0x80  # reason codes from here on say that something was refused [2.4]


# PUBLISH


cdef inline Py_ssize_t size_publish_properties(const OutgoingPublish *packet) noexcept nogil:
    cdef Py_ssize_t size = 0
    cdef uint32_t index
    if packet.forwarded != NULL:
        size = packet.forwarded.size
    if packet.has_message_expiry:
        size += MESSAGE_EXPIRY_SIZE
    if packet.topic_alias != 0:
        size += 3
    for index in range(packet.subscription_id_count):
        size += 1 + size_variable_integer(packet.subscription_ids[index])
    return size


cdef inline uint8_t *put_publish_properties(const OutgoingPublish *packet, uint8_t *out) noexcept nogil:
    cdef uint32_t index
    if packet.topic_alias != 0:
        out[0] = PROPERTY_TOPIC_ALIAS
        write_two_bytes(out + 1, packet.topic_alias)
        out += 3
    if packet.has_message_expiry:
        out = put_message_expiry(packet.message_expiry_interval, out)
    for index in range(packet.subscription_id_count):
        out[0] = PROPERTY_SUBSCRIPTION_IDENTIFIER  # [MQTT-3.3.4-4]
        out += 1 + encode_variable_integer(packet.subscription_ids[index], out + 1)
    if packet.forwarded != NULL:
        out = put_forwarded(packet.forwarded, out)
    return out


# Remaining Length of the whole packet. *properties_size is what the property block takes without its own length.
cdef inline Py_ssize_t size_publish_body(
        const OutgoingPublish *packet, uint8_t version, Py_ssize_t *properties_size) noexcept nogil:
    cdef Py_ssize_t size = 2 + packet.topic.size + packet.payload.size
    if packet.qos > 0:
        size += 2
    if version == MQTT_5_0:
        properties_size[0] = size_publish_properties(packet)
        size += size_variable_integer(<uint32_t> properties_size[0]) + properties_size[0]
    return size


cdef Py_ssize_t size_publish_head(const OutgoingPublish *packet, uint8_t version) noexcept nogil:
    return size_publish(packet, version) - packet.payload.size


cdef Py_ssize_t size_publish(const OutgoingPublish *packet, uint8_t version) noexcept nogil:
    cdef Py_ssize_t properties_size
    cdef Py_ssize_t size = size_publish_body(packet, version, &properties_size)
    return 1 + size_variable_integer(<uint32_t> size) + size


cdef inline Py_ssize_t put_publish_head(const OutgoingPublish *packet, uint8_t version, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = 0
    cdef Py_ssize_t body_size = size_publish_body(packet, version, &properties_size)
    cdef uint8_t *at = out + 1
    out[0] = PACKET_PUBLISH << 4 | packet.qos << 1 | packet.retain
    if packet.qos > 0:  # At QoS 0 DUP is 0 [MQTT-3.3.1-2].
        out[0] |= packet.dup << 3
    at += encode_variable_integer(<uint32_t> body_size, at)
    write_two_bytes(at, <uint16_t> packet.topic.size)
    copy_short(at + 2, packet.topic.data, packet.topic.size)
    at += 2 + packet.topic.size
    if packet.qos > 0:  # [MQTT-2.2.1-2]
        write_two_bytes(at, packet.packet_id)
        at += 2
    if version == MQTT_5_0:
        at += encode_variable_integer(<uint32_t> properties_size, at)  # [MQTT-2.2.2-1]
        if properties_size > 0:
            at = put_publish_properties(packet, at)
    return at - out


cdef Py_ssize_t encode_publish_head(const OutgoingPublish *packet, uint8_t version, uint8_t *out) noexcept nogil:
    return put_publish_head(packet, version, out)


cdef Py_ssize_t encode_publish(const OutgoingPublish *packet, uint8_t version, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t head_size = put_publish_head(packet, version, out)
    if packet.payload.size > 0:
        copy_short(out + head_size, packet.payload.data, packet.payload.size)
    return head_size + packet.payload.size


cdef Py_ssize_t encode_acknowledgement(
        uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, uint8_t version, uint8_t *out) noexcept nogil:
    out[0] = packet_type << 4 | (2 if packet_type == PACKET_PUBREL else 0)  # [MQTT-3.6.1-1]
    write_two_bytes(out + 2, packet_id)  # [MQTT-2.2.1-5]
    if version != MQTT_5_0 or reason_code == REASON_SUCCESS:
        out[1] = 2
        return 4
    out[1] = 3  # below 4 there is no Property Length [3.4.2.2.1]
    out[4] = reason_code
    return 5


# What the rare packets are made of. Each of these returns the number of bytes at out, and writes them unless out is
# NULL. place() steps on without leaving NULL.


cdef inline uint8_t *place(uint8_t *out, Py_ssize_t offset) noexcept nogil:
    return NULL if out == NULL else out + offset


cdef inline Py_ssize_t put_byte(uint8_t *out, uint8_t value) noexcept nogil:
    if out != NULL:
        out[0] = value
    return 1


cdef Py_ssize_t put_variable(uint8_t *out, Py_ssize_t value) noexcept nogil:
    if out != NULL:
        encode_variable_integer(<uint32_t> value, out)
    return size_variable_integer(<uint32_t> value)


cdef Py_ssize_t put_raw(uint8_t *out, const Bytes *value) noexcept nogil:
    if out != NULL and value.size > 0:
        memcpy(out, value.data, value.size)
    return value.size


cdef Py_ssize_t put_byte_property(uint8_t *out, uint8_t identifier, uint8_t value) noexcept nogil:
    if out != NULL:
        out[0] = identifier
        out[1] = value
    return 2


cdef Py_ssize_t put_two_byte_property(uint8_t *out, uint8_t identifier, uint16_t value) noexcept nogil:
    if out != NULL:
        out[0] = identifier
        write_two_bytes(out + 1, value)
    return 3


cdef Py_ssize_t put_four_byte_property(uint8_t *out, uint8_t identifier, uint32_t value) noexcept nogil:
    if out != NULL:
        out[0] = identifier
        write_four_bytes(out + 1, value)
    return 5


# Nothing if value is absent.
cdef Py_ssize_t put_bytes_property(uint8_t *out, uint8_t identifier, const Bytes *value) noexcept nogil:
    if value.data == NULL:
        return 0
    if out != NULL:
        out[0] = identifier
        write_two_bytes(out + 1, <uint16_t> value.size)
        put_raw(out + 3, value)
    return 3 + value.size


cdef inline Py_ssize_t put_fixed_header(uint8_t *out, uint8_t packet_type, Py_ssize_t body_size) noexcept nogil:
    put_byte(out, packet_type << 4)
    return 1 + put_variable(place(out, 1), body_size)


cdef Py_ssize_t put_publish_refusal(
        uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, const Bytes *reason_string,
        uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = put_bytes_property(NULL, PROPERTY_REASON_STRING, reason_string)
    cdef Py_ssize_t body_size = 3 + size_variable_integer(<uint32_t> properties_size) + properties_size
    cdef Py_ssize_t size = put_fixed_header(out, packet_type, body_size)
    if out == NULL:
        return size + body_size
    write_two_bytes(out + size, packet_id)  # [MQTT-2.2.1-5]
    out[size + 2] = reason_code
    size += 3
    size += put_variable(out + size, properties_size)
    return size + put_bytes_property(out + size, PROPERTY_REASON_STRING, reason_string)


cdef Py_ssize_t size_publish_refusal(Bytes reason_string) noexcept nogil:
    return put_publish_refusal(0, 0, 0, &reason_string, NULL)


cdef Py_ssize_t encode_publish_refusal(
        uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, Bytes reason_string,
        uint8_t *out) noexcept nogil:
    return put_publish_refusal(packet_type, packet_id, reason_code, &reason_string, out)


# CONNACK


cdef uint8_t[256] RETURN_CODES  # by reason code [MQTT 3.1.1, 3.2.2.3]

for _reason in range(256):
    # All that has no word of its own in 3.x is "Server unavailable": try again, perhaps elsewhere.
    RETURN_CODES[_reason] = RETURN_ACCEPTED if _reason < FIRST_FAILURE else RETURN_SERVER_UNAVAILABLE
for _reason, _return_code in (
    (REASON_UNSUPPORTED_PROTOCOL_VERSION, RETURN_UNACCEPTABLE_PROTOCOL_VERSION),
    (REASON_CLIENT_IDENTIFIER_NOT_VALID, RETURN_IDENTIFIER_REJECTED),
    (REASON_BAD_USER_NAME_OR_PASSWORD, RETURN_BAD_USER_NAME_OR_PASSWORD),
    (REASON_BAD_AUTHENTICATION_METHOD, RETURN_NOT_AUTHORIZED),
    (REASON_NOT_AUTHORIZED, RETURN_NOT_AUTHORIZED),
    (REASON_BANNED, RETURN_NOT_AUTHORIZED),
):
    RETURN_CODES[_reason] = _return_code


cdef uint8_t map_return_code(uint8_t reason_code) noexcept nogil:
    return RETURN_CODES[reason_code]


cdef Py_ssize_t put_connack_properties(const OutgoingConnack *packet, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t size = 0
    if packet.has_session_expiry_interval:
        size += put_four_byte_property(
            place(out, size), PROPERTY_SESSION_EXPIRY_INTERVAL, packet.session_expiry_interval)
    if packet.receive_maximum != 0 and packet.receive_maximum != RECEIVE_MAXIMUM_DEFAULT:
        size += put_two_byte_property(place(out, size), PROPERTY_RECEIVE_MAXIMUM, packet.receive_maximum)
    if packet.maximum_qos < 2:  # [MQTT-3.2.2-9]
        size += put_byte_property(place(out, size), PROPERTY_MAXIMUM_QOS, packet.maximum_qos)
    if not packet.retain_available:
        size += put_byte_property(place(out, size), PROPERTY_RETAIN_AVAILABLE, 0)
    if packet.maximum_packet_size != 0:
        size += put_four_byte_property(place(out, size), PROPERTY_MAXIMUM_PACKET_SIZE, packet.maximum_packet_size)
    # [MQTT-3.2.2-16]
    size += put_bytes_property(place(out, size), PROPERTY_ASSIGNED_CLIENT_IDENTIFIER, &packet.assigned_client_id)
    if packet.topic_alias_maximum != 0:
        size += put_two_byte_property(place(out, size), PROPERTY_TOPIC_ALIAS_MAXIMUM, packet.topic_alias_maximum)
    size += put_bytes_property(place(out, size), PROPERTY_REASON_STRING, &packet.reason_string)
    size += put_raw(place(out, size), &packet.user_properties)
    if not packet.wildcard_subscription_available:
        size += put_byte_property(place(out, size), PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE, 0)
    if not packet.subscription_identifier_available:
        size += put_byte_property(place(out, size), PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE, 0)
    if not packet.shared_subscription_available:
        size += put_byte_property(place(out, size), PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE, 0)
    if packet.has_server_keep_alive:
        size += put_two_byte_property(place(out, size), PROPERTY_SERVER_KEEP_ALIVE, packet.server_keep_alive)
    size += put_bytes_property(place(out, size), PROPERTY_RESPONSE_INFORMATION, &packet.response_information)
    size += put_bytes_property(place(out, size), PROPERTY_SERVER_REFERENCE, &packet.server_reference)
    size += put_bytes_property(place(out, size), PROPERTY_AUTHENTICATION_METHOD, &packet.authentication_method)
    size += put_bytes_property(place(out, size), PROPERTY_AUTHENTICATION_DATA, &packet.authentication_data)
    return size


cdef Py_ssize_t put_connack(const OutgoingConnack *packet, uint8_t version, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = 0
    cdef Py_ssize_t body_size = 2
    cdef Py_ssize_t size
    # A refusal has no session [MQTT-3.2.2-6], and 3.1 has no word for it [MQTT 3.1, 3.2].
    cdef bint session_present = packet.session_present and packet.reason_code == REASON_SUCCESS and version != MQTT_3_1
    if version == MQTT_5_0:
        properties_size = put_connack_properties(packet, NULL)
        body_size += size_variable_integer(<uint32_t> properties_size) + properties_size
    size = put_fixed_header(out, PACKET_CONNACK, body_size)
    size += put_byte(place(out, size), session_present)  # [MQTT-3.2.2-1]
    if version != MQTT_5_0:
        return size + put_byte(place(out, size), map_return_code(packet.reason_code))
    size += put_byte(place(out, size), packet.reason_code)
    size += put_variable(place(out, size), properties_size)
    return size + (put_connack_properties(packet, out + size) if out != NULL else properties_size)


cdef Py_ssize_t size_connack(const OutgoingConnack *packet, uint8_t version) noexcept nogil:
    return put_connack(packet, version, NULL)


cdef Py_ssize_t encode_connack(const OutgoingConnack *packet, uint8_t version, uint8_t *out) noexcept nogil:
    return put_connack(packet, version, out)


# SUBACK and UNSUBACK


cdef Py_ssize_t put_suback(
        uint8_t packet_type, uint16_t packet_id, const uint8_t *reason_codes, Py_ssize_t count,
        const Bytes *reason_string, uint8_t version, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = 0
    cdef Py_ssize_t body_size = 2
    cdef Py_ssize_t size, index
    if version == MQTT_5_0:
        properties_size = put_bytes_property(NULL, PROPERTY_REASON_STRING, reason_string)
        body_size += size_variable_integer(<uint32_t> properties_size) + properties_size
    elif packet_type != PACKET_SUBACK:
        count = 0
    body_size += count
    size = put_fixed_header(out, packet_type, body_size)
    if out == NULL:
        return size + body_size
    write_two_bytes(out + size, packet_id)  # [MQTT-2.2.1-6]
    size += 2
    if version == MQTT_5_0:
        size += put_variable(out + size, properties_size)
        size += put_bytes_property(out + size, PROPERTY_REASON_STRING, reason_string)
    for index in range(count):  # in their order [MQTT-3.9.3-1], [MQTT-3.11.3-1]
        # 3.1 knows no failure; but it reads the QoS from the two low bits, and those of 0x80 say 0.
        out[size + index] = (
            SUBACK_FAILURE if version != MQTT_5_0 and reason_codes[index] >= FIRST_FAILURE else reason_codes[index])
    return size + count


cdef Py_ssize_t size_suback(uint8_t packet_type, Py_ssize_t count, Bytes reason_string, uint8_t version) noexcept nogil:
    return put_suback(packet_type, 0, NULL, count, &reason_string, version, NULL)


cdef Py_ssize_t encode_suback(
        uint8_t packet_type, uint16_t packet_id, const uint8_t *reason_codes, Py_ssize_t count, Bytes reason_string,
        uint8_t version, uint8_t *out) noexcept nogil:
    return put_suback(packet_type, packet_id, reason_codes, count, &reason_string, version, out)


# PINGRESP, DISCONNECT, AUTH


cdef Py_ssize_t encode_pingresp(uint8_t *out) noexcept nogil:
    return put_fixed_header(out, PACKET_PINGRESP, 0)


cdef Py_ssize_t put_disconnect(
        uint8_t reason_code, const Bytes *reason_string, const Bytes *server_reference, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = (
        put_bytes_property(NULL, PROPERTY_REASON_STRING, reason_string)
        + put_bytes_property(NULL, PROPERTY_SERVER_REFERENCE, server_reference))
    cdef Py_ssize_t size
    if properties_size == 0:  # The Property Length may be left out, and a reason of 0 with it [3.14.2.1].
        if reason_code == REASON_SUCCESS:
            return put_fixed_header(out, PACKET_DISCONNECT, 0)
        size = put_fixed_header(out, PACKET_DISCONNECT, 1)
        return size + put_byte(place(out, size), reason_code)
    size = put_fixed_header(
        out, PACKET_DISCONNECT, 1 + size_variable_integer(<uint32_t> properties_size) + properties_size)
    size += put_byte(place(out, size), reason_code)
    size += put_variable(place(out, size), properties_size)
    size += put_bytes_property(place(out, size), PROPERTY_REASON_STRING, reason_string)
    return size + put_bytes_property(place(out, size), PROPERTY_SERVER_REFERENCE, server_reference)


cdef Py_ssize_t size_disconnect(uint8_t reason_code, Bytes reason_string, Bytes server_reference) noexcept nogil:
    return put_disconnect(reason_code, &reason_string, &server_reference, NULL)


cdef Py_ssize_t encode_disconnect(
        uint8_t reason_code, Bytes reason_string, Bytes server_reference, uint8_t *out) noexcept nogil:
    return put_disconnect(reason_code, &reason_string, &server_reference, out)


cdef Py_ssize_t put_auth(
        uint8_t reason_code, const Bytes *method, const Bytes *data, const Bytes *reason_string,
        const Bytes *user_properties, uint8_t *out) noexcept nogil:
    cdef Py_ssize_t properties_size = (
        put_bytes_property(NULL, PROPERTY_AUTHENTICATION_METHOD, method)
        + put_bytes_property(NULL, PROPERTY_AUTHENTICATION_DATA, data)
        + put_bytes_property(NULL, PROPERTY_REASON_STRING, reason_string)
        + user_properties.size)
    cdef Py_ssize_t size = put_fixed_header(
        out, PACKET_AUTH, 1 + size_variable_integer(<uint32_t> properties_size) + properties_size)
    size += put_byte(place(out, size), reason_code)
    size += put_variable(place(out, size), properties_size)
    size += put_bytes_property(place(out, size), PROPERTY_AUTHENTICATION_METHOD, method)
    size += put_bytes_property(place(out, size), PROPERTY_AUTHENTICATION_DATA, data)
    size += put_bytes_property(place(out, size), PROPERTY_REASON_STRING, reason_string)
    return size + put_raw(place(out, size), user_properties)


cdef Py_ssize_t size_auth(Bytes method, Bytes data, Bytes reason_string, Bytes user_properties) noexcept nogil:
    return put_auth(REASON_SUCCESS, &method, &data, &reason_string, &user_properties, NULL)


cdef Py_ssize_t encode_auth(
        uint8_t reason_code, Bytes method, Bytes data, Bytes reason_string, Bytes user_properties,
        uint8_t *out) noexcept nogil:
    return put_auth(reason_code, &method, &data, &reason_string, &user_properties, out)
