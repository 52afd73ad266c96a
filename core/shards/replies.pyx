"""See replies.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport strlen

from rookery.core.sessions.outbox cimport outbox_commit, outbox_reserve
from rookery.core.shards.state cimport Connection
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.encode cimport ACKNOWLEDGEMENT_SIZE_MAXIMUM, encode_acknowledgement
from rookery.core.wire.spec cimport MQTT_5_0


cdef void acknowledge(
    Connection *connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code
) noexcept nogil:
    cdef uint8_t *out = outbox_reserve(&connection.link.outbox, ACKNOWLEDGEMENT_SIZE_MAXIMUM)
    # Without memory the acknowledgement is missing and the client sends again after it has reconnected.
    if out != NULL:
        outbox_commit(&connection.link.outbox, <uint32_t> encode_acknowledgement(
            packet_type, packet_id, reason_code, connection.link.version, out))


cdef Bytes reply_reason(const Connection *connection, const char *detail) noexcept nogil:
    """detail as a Reason String, or nothing when the client does not want to hear [MQTT-3.1.2-29]."""
    cdef Bytes string
    string.data = NULL
    string.size = 0
    if detail != NULL and connection.link.version == MQTT_5_0 and connection.wants_problem_information:
        string.data = <const uint8_t *> detail
        string.size = <Py_ssize_t> strlen(detail)
    return string
