"""Packets to bytes. Each encoder comes as a pair: size_x tells how many bytes encode_x will write, exactly.

The caller reserves that many bytes and passes them as out; encode_x returns the number written. Nothing allocates.
A size above PACKET_SIZE_MAXIMUM has no encoding: the caller drops such a packet as it drops one that is larger than
the client's Maximum Packet Size [MQTT-3.1.2-24], [MQTT-3.1.2-25]. What becomes a string or binary data holds at most
65535 bytes, and strings hold checked UTF-8: both are the caller's promise.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from rookery.core.structures.bytes cimport Bytes, copy_short
from rookery.core.wire.packets cimport ForwardedProperties
from rookery.core.wire.spec cimport MQTT_5_0, PROPERTY_MESSAGE_EXPIRY_INTERVAL
from rookery.core.wire.text cimport encode_variable_integer, size_variable_integer, write_four_bytes, write_two_bytes


cdef struct OutgoingPublish:
    Bytes topic               # empty when topic_alias stands for it
    Bytes payload             # may be left out of the encoding, see encode_publish_head
    const ForwardedProperties *forwarded  # NULL = none; ignored for 3.x
    const uint32_t *subscription_ids      # subscription_id_count of them
    uint32_t subscription_id_count
    uint32_t message_expiry_interval      # seconds left; meaningful with has_message_expiry
    uint16_t packet_id        # 0 at QoS 0
    uint16_t topic_alias      # 0 = none
    uint8_t qos
    uint8_t dup
    uint8_t retain
    uint8_t has_message_expiry


cdef struct OutgoingConnack:
    uint8_t session_present
    uint8_t reason_code       # 5.0 reason code; the encoder maps it to a 3.x return code
    # All below: 5.0 only. Values equal to the standard's default for absence are not written.
    uint8_t maximum_qos                       # 2 = not written
    uint8_t retain_available                  # 1 = not written
    uint8_t wildcard_subscription_available   # 1 = not written
    uint8_t subscription_identifier_available  # 1 = not written
    uint8_t shared_subscription_available     # 1 = not written
    uint8_t has_session_expiry_interval
    uint8_t has_server_keep_alive
    uint16_t server_keep_alive                # seconds
    uint16_t receive_maximum                  # 65535 or 0 = not written
    uint16_t topic_alias_maximum              # 0 = not written
    uint32_t session_expiry_interval          # seconds
    uint32_t maximum_packet_size              # bytes; 0 = not written
    Bytes assigned_client_id                  # data == NULL = not written; so for all below
    Bytes reason_string
    Bytes response_information
    Bytes server_reference
    Bytes authentication_method
    Bytes authentication_data
    Bytes user_properties                     # already encoded: identifier, name, value, one after the other


cdef enum:
    MESSAGE_EXPIRY_SIZE = 5           # bytes of a Message Expiry Interval
    ACKNOWLEDGEMENT_SIZE_MAXIMUM = 5  # bytes of PUBACK, PUBREC, PUBREL, PUBCOMP without properties


# The 3.x return code that stands for a 5.0 reason code.
cdef uint8_t map_return_code(uint8_t reason_code) noexcept nogil

# A whole PUBLISH, and the same without its payload (which then follows by reference; Remaining Length counts it).
cdef Py_ssize_t size_publish_head(const OutgoingPublish *packet, uint8_t version) noexcept nogil
cdef Py_ssize_t encode_publish_head(const OutgoingPublish *packet, uint8_t version, uint8_t *out) noexcept nogil
cdef Py_ssize_t size_publish(const OutgoingPublish *packet, uint8_t version) noexcept nogil


# No less than size_publish, and quickly: first byte, Remaining Length, topic length, packet identifier, Property
# Length, Message Expiry Interval and Topic Alias take 21 bytes, a Subscription Identifier 5.
cdef inline uint32_t bound_publish(const OutgoingPublish *packet) noexcept nogil:
    cdef Py_ssize_t size = 21 + packet.topic.size + packet.payload.size + 5 * <Py_ssize_t> packet.subscription_id_count
    if packet.forwarded != NULL:
        size += packet.forwarded.size
    return <uint32_t> size


# The same in steps, for a PUBLISH without topic alias and subscription identifiers, which need not be described first:
# its size, its head, then what it has of properties, then its payload. properties_size: 0 for 3.x.
cdef inline Py_ssize_t size_plain_body(
    Py_ssize_t topic_size, Py_ssize_t payload_size, Py_ssize_t properties_size, uint8_t qos, uint8_t version
) noexcept nogil:
    """The Remaining Length."""
    cdef Py_ssize_t size = 2 + topic_size + payload_size
    if qos > 0:
        size += 2
    if version == MQTT_5_0:
        size += size_variable_integer(<uint32_t> properties_size) + properties_size
    return size


cdef inline uint8_t *put_plain_head(
    uint8_t first_byte, Py_ssize_t body_size, const Bytes *topic, uint16_t packet_id, uint8_t qos, uint8_t version,
    Py_ssize_t properties_size, uint8_t *out
) noexcept nogil:
    """first_byte: packet type and flags. packet_id is not written at QoS 0. Returns where the properties go."""
    cdef uint8_t *at = out + 1
    out[0] = first_byte
    at += encode_variable_integer(<uint32_t> body_size, at)
    write_two_bytes(at, <uint16_t> topic.size)
    copy_short(at + 2, topic.data, topic.size)
    at += 2 + topic.size
    if qos > 0:  # [MQTT-2.2.1-2]
        write_two_bytes(at, packet_id)
        at += 2
    if version == MQTT_5_0:
        at += encode_variable_integer(<uint32_t> properties_size, at)  # [MQTT-2.2.2-1]
    return at


cdef inline uint8_t *put_message_expiry(uint32_t seconds_left, uint8_t *out) noexcept nogil:
    out[0] = PROPERTY_MESSAGE_EXPIRY_INTERVAL  # [MQTT-3.3.2-6]
    write_four_bytes(out + 1, seconds_left)
    return out + MESSAGE_EXPIRY_SIZE


cdef inline uint8_t *put_forwarded(const ForwardedProperties *forwarded, uint8_t *out) noexcept nogil:
    """Unaltered and in order [MQTT-3.3.2-15 to 20]."""
    cdef uint32_t index
    for index in range(forwarded.part_count):
        copy_short(out, forwarded.parts[index].data, forwarded.parts[index].size)
        out += forwarded.parts[index].size
    return out


cdef Py_ssize_t encode_publish(const OutgoingPublish *packet, uint8_t version, uint8_t *out) noexcept nogil

# PUBACK, PUBREC, PUBREL, PUBCOMP, at most ACKNOWLEDGEMENT_SIZE_MAXIMUM bytes: a reason code of success is left out, as
# the standard allows. 3.x has none.
cdef Py_ssize_t encode_acknowledgement(
    uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, uint8_t version, uint8_t *out) noexcept nogil

# A PUBACK or PUBREC of 5.0 that says in words why a message was refused; reason_string is not empty.
cdef Py_ssize_t size_publish_refusal(Bytes reason_string) noexcept nogil
cdef Py_ssize_t encode_publish_refusal(
    uint8_t packet_type, uint16_t packet_id, uint8_t reason_code, Bytes reason_string, uint8_t *out) noexcept nogil

cdef Py_ssize_t size_connack(const OutgoingConnack *packet, uint8_t version) noexcept nogil
cdef Py_ssize_t encode_connack(const OutgoingConnack *packet, uint8_t version, uint8_t *out) noexcept nogil

# SUBACK and UNSUBACK: reason_codes as for 5.0; for 3.x failures become 0x80, an UNSUBACK has no payload.
# reason_string with data == NULL is left out.
cdef Py_ssize_t size_suback(uint8_t packet_type, Py_ssize_t count, Bytes reason_string, uint8_t version) noexcept nogil
cdef Py_ssize_t encode_suback(
    uint8_t packet_type, uint16_t packet_id, const uint8_t *reason_codes, Py_ssize_t count, Bytes reason_string,
    uint8_t version, uint8_t *out) noexcept nogil

cdef enum:
    PINGRESP_SIZE = 2
cdef Py_ssize_t encode_pingresp(uint8_t *out) noexcept nogil

# 5.0 only: a 3.x server has no DISCONNECT to send [MQTT 3.1.1, 3.14].
cdef Py_ssize_t size_disconnect(uint8_t reason_code, Bytes reason_string, Bytes server_reference) noexcept nogil
cdef Py_ssize_t encode_disconnect(
    uint8_t reason_code, Bytes reason_string, Bytes server_reference, uint8_t *out) noexcept nogil

cdef Py_ssize_t size_auth(Bytes method, Bytes data, Bytes reason_string, Bytes user_properties) noexcept nogil
cdef Py_ssize_t encode_auth(
    uint8_t reason_code, Bytes method, Bytes data, Bytes reason_string, Bytes user_properties,
    uint8_t *out) noexcept nogil
