"""Bytes to packets. Every length is checked before it is believed; nothing is allocated, nothing is copied.

Each decoder takes the body of one packet (what follows the fixed header) and returns REASON_SUCCESS or the reason
code that the peer is to be told: REASON_MALFORMED_PACKET, REASON_PROTOCOL_ERROR or a more special one
(REASON_TOPIC_NAME_INVALID, REASON_UNSUPPORTED_PROTOCOL_VERSION, ...). On failure *detail points to a static sentence
for the log and the reason string, and the out struct holds nothing of use; only protocol_version of a CONNECT is
filled as soon as it has been read, so that a CONNACK can be written in the right form.
"""

from libc.stdint cimport uint8_t, uint32_t
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport (
    AcknowledgementPacket, AuthPacket, ConnectPacket, DisconnectPacket, Frame, PublishPacket, SubscribePacket,
    SubscriptionRequest, UnsubscribePacket,
)
from rookery.core.wire.property_memo cimport PropertyMemo


cdef enum:
    FILTER_COUNT_MAXIMUM = 65535  # topic filters of one SUBSCRIBE or UNSUBSCRIBE: what filter_count can count


cdef enum FrameResult:
    FRAME_WHOLE = 0       # frame is filled and all of header_size + body_size bytes are there
    FRAME_PARTIAL = -1    # frame is filled (header_size, body_size known) but the body is not all there
    FRAME_HEADER = -2     # not even the fixed header is all there; packet_type and flags are filled if size > 0
    FRAME_MALFORMED = -3  # Remaining Length has more than four bytes, or a reserved packet type (0)


# Look at the packet that begins at data. Sizes are not limited here: the caller compares body_size with its limit.
cdef int read_frame(const uint8_t *data, Py_ssize_t size, Frame *frame) noexcept nogil

# 1 if the flags of the fixed header are what the standard reserves for this packet type [MQTT-2.1.3-1].
# Always 1 for PUBLISH, whose flags decode_publish reads.
cdef bint are_flags_valid(uint8_t packet_type, uint8_t flags) noexcept nogil

# The whole fixed header as the version of the connection wants it. To are_flags_valid it adds that AUTH came with 5.0,
# that 5.0 wants the shortest Remaining Length [MQTT-1.5.5-1], and that 3.1 reserved no flags: DUP may mark a repeated
# PUBREL, SUBSCRIBE or UNSUBSCRIBE there, and what is not used is not checked [MQTT 3.1, 2.1].
cdef bint is_header_valid(const Frame *frame, uint8_t version) noexcept nogil

cdef int decode_connect(
    const uint8_t *body, Py_ssize_t size, ConnectPacket *packet, const char **detail) noexcept nogil
# memo: what the PUBLISH before had, from whomever it came; NULL = nothing is remembered.
cdef int decode_publish(
    const uint8_t *body, Py_ssize_t size, uint8_t flags, uint8_t version, PublishPacket *packet,
    PropertyMemo *memo, const char **detail) noexcept nogil
# For PUBACK, PUBREC, PUBREL and PUBCOMP; packet_type decides which reason codes are allowed.
cdef int decode_acknowledgement(
    const uint8_t *body, Py_ssize_t size, uint8_t packet_type, uint8_t version, AcknowledgementPacket *packet,
    const char **detail) noexcept nogil
# The whole payload is walked and checked, so that next_subscription cannot fail afterwards.
cdef int decode_subscribe(
    const uint8_t *body, Py_ssize_t size, uint8_t version, SubscribePacket *packet, const char **detail) noexcept nogil
# Take the next request off rest; 0 when rest is empty. rest starts as packet.filters.
cdef bint next_subscription(Bytes *rest, uint8_t version, SubscriptionRequest *request) noexcept nogil
cdef int decode_unsubscribe(
    const uint8_t *body, Py_ssize_t size, uint8_t version, UnsubscribePacket *packet,
    const char **detail) noexcept nogil
cdef bint next_topic_filter(Bytes *rest, Bytes *topic_filter) noexcept nogil
cdef int decode_disconnect(
    const uint8_t *body, Py_ssize_t size, uint8_t version, DisconnectPacket *packet,
    const char **detail) noexcept nogil
cdef int decode_auth(
    const uint8_t *body, Py_ssize_t size, AuthPacket *packet, const char **detail) noexcept nogil
# Walk the user properties of a property block that a decoder has checked; 0 when there is none left.
cdef bint next_user_property(Bytes *rest, Bytes *name, Bytes *value) noexcept nogil
