"""SUBSCRIBE and UNSUBSCRIBE: each topic filter by itself, and one answer for all [MQTT5 3.8, 3.10]."""

from libc.stdint cimport uint8_t
from rookery.core.shards.state cimport Connection
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.packets cimport Frame, SubscriptionRequest


# The connection may be closing afterwards.
cdef void handle_subscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil
cdef void handle_unsubscribe(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil

# As if the client had sent a SUBSCRIBE or UNSUBSCRIBE with this topic filter, but nothing is answered: the reason
# code of the filter. *existed: the subscription was there before.
cdef uint8_t subscribe_for(Connection *connection, const SubscriptionRequest *request, bint *existed) noexcept nogil
cdef uint8_t unsubscribe_for(Connection *connection, Bytes topic_filter) noexcept nogil
