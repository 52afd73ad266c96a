"""What each packet of an attached client does [MQTT5 section 3].

PUBLISH, SUBSCRIBE and UNSUBSCRIBE have files of their own; acknowledgements, PINGREQ and DISCONNECT are here.
"""

from libc.stdint cimport uint8_t
from rookery.core.shards.state cimport Connection
from rookery.core.wire.packets cimport Frame


# One whole packet. The connection may be gone or closing afterwards: look at its state and generation.
cdef void handle_packet(Connection *connection, const Frame *frame, const uint8_t *body) noexcept nogil
