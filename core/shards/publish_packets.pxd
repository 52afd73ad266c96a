"""PUBLISH: may the client, and what becomes of the message [MQTT5 3.3]."""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp
from rookery.core.shards.state cimport Connection
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport Frame


# The connection may be closing afterwards.
cdef void handle_publish(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil


# $SYS and what is below it: only the server speaks there.
cdef inline bint is_server_topic(const Bytes *topic) noexcept nogil:
    return topic.size >= 4 and memcmp(topic.data, b"$SYS", 4) == 0 and (topic.size == 4 or topic.data[4] == c"/")
