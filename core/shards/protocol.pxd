"""What each packet of an attached client does [MQTT5 section 3]. One function per packet type."""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp
from rookery.core.shards.state cimport Connection
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport Frame, SubscriptionRequest


# One whole packet. The connection may be gone or closing afterwards: look at its state and generation.
cdef void handle_packet(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil


# As if the client had sent a SUBSCRIBE or UNSUBSCRIBE with this topic filter, but nothing is answered: the reason
# code of the filter. *existed: the subscription was there before.
cdef uint8_t subscribe_for(Connection *connection, const SubscriptionRequest *request, bint *existed) noexcept nogil
cdef uint8_t unsubscribe_for(Connection *connection, Bytes topic_filter) noexcept nogil


# $SYS and what is below it: only the server speaks there.
cdef inline bint is_server_topic(const Bytes *topic) noexcept nogil:
    return topic.size >= 4 and memcmp(topic.data, b"$SYS", 4) == 0 and (topic.size == 4 or topic.data[4] == c"/")
