"""Replies: acknowledgements, and why something was refused."""

from libc.stdint cimport uint8_t, uint16_t
from rookery.core.shards.state cimport Connection
from rookery.core.structures.bytes cimport Bytes


# A PUBACK, PUBREC, PUBREL or PUBCOMP into the outbox.
cdef void acknowledge(
    Connection *connection, uint8_t packet_type, uint16_t packet_id, uint8_t reason_code) noexcept nogil

# detail as a Reason String; empty where there is none, or the client does not want to hear it.
cdef Bytes reply_reason(const Connection *connection, const char *detail) noexcept nogil


# May a packet of this size, in bytes, be sent to the client?
cdef inline bint is_within_maximum(const Connection *connection, Py_ssize_t size) noexcept nogil:
    return connection.link.maximum_packet_size == 0 or size <= connection.link.maximum_packet_size
