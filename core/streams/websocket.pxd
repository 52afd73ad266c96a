"""WebSocket frames [RFC 6455 5]: what comes in is unmasked in place, what goes out gets a header in front.

     from the client                                           to the client
    +--------+------+---------+--------+------+------         +--------+----------------+------+------
    | header | mask | payload | header | mask | ...           | header | all that waits | pong | ...
    +--------+------+---------+--------+------+------         +--------+----------------+------+------
         websocket_take leaves the payloads, one behind           one binary frame per flush, of the
         the other; MQTT packets begin and end anywhere           size that the outbox has by then
         in them [MQTT-6.0.0-2]

Nothing is gathered: a frame of any size passes through as it comes, so that no limit on frames or messages is needed.
Only control frames (at most 125 bytes) are kept until they are whole, and pongs until they are sent, as many as fit
into WEBSOCKET_PONGS_SIZE: of more pings that come meanwhile the last ones are answered, as RFC 6455 5.5.3 allows.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    WEBSOCKET_CONTROL_MAXIMUM = 125  # bytes of a control frame's payload [RFC 6455 5.5]
    WEBSOCKET_HEADER_MAXIMUM = 14    # with the mask of a client
    WEBSOCKET_PONGS_SIZE = 144       # bytes of pongs that wait, with their headers: one of any size, or ten short ones

cdef enum CloseCode:           # [RFC 6455 7.4.1]
    CLOSE_NORMAL = 1000
    CLOSE_PROTOCOL_ERROR = 1002
    CLOSE_UNSUPPORTED_DATA = 1003
    CLOSE_NO_CODE = 1005       # of ours: never sent; the frame has no code
    CLOSE_INVALID_DATA = 1007


cdef struct WebSocket:
    # From the client
    uint64_t payload_left      # bytes of the present frame that have not come
    uint8_t header[14]         # WEBSOCKET_HEADER_MAXIMUM: of the frame that begins
    uint8_t header_size        # bytes of it that have come; 0 inside a payload
    uint8_t mask[4]
    uint8_t mask_offset        # which byte of it is next
    uint8_t opcode             # of the present frame
    uint8_t is_in_payload      # the header is complete
    uint8_t is_in_message      # a frame without FIN came, its continuation is due
    uint8_t is_over            # closed by the client or broken: nothing more is read
    uint8_t is_broken          # the client sent what it must not; close_code says which
    uint8_t control_size
    uint8_t control[125]       # WEBSOCKET_CONTROL_MAXIMUM: payload of the control frame that comes
    # To the client
    uint8_t pongs_size         # bytes of pongs that are due; 0 = none
    uint8_t pongs[144]         # WEBSOCKET_PONGS_SIZE: whole frames
    uint8_t is_closed          # our close frame was made: no frame may follow
    uint16_t close_code        # of our close frame, CloseCode
    uint64_t frame_left        # bytes of the present frame that are still to be sent from the outbox
    uint8_t outgoing[160]      # pongs and the header of a frame, or a close frame
    uint8_t outgoing_start
    uint8_t outgoing_end
    # Bytes that came together with the request for the upgrade
    uint8_t *early             # owned; NULL = none
    uint32_t early_size
    uint32_t early_start


# A connection that was upgraded; early is copied. NULL when memory is short.
cdef WebSocket *websocket_new(const uint8_t *early, uint32_t early_size) noexcept nogil
cdef void websocket_free(WebSocket *socket) noexcept nogil
# Take size bytes off the wire; the MQTT bytes among them are moved to the front of data. Their number, 0 to size.
# After is_over the rest is thrown away.
cdef Py_ssize_t websocket_take(WebSocket *socket, uint8_t *data, Py_ssize_t size) noexcept nogil
# At the border of two frames: put what must go out next into outgoing, with the header of a frame of waiting bytes
# (0 = none). False when nothing is to be sent.
cdef bint websocket_give(WebSocket *socket, uint64_t waiting) noexcept nogil
# At the border of two frames: put a close frame into outgoing. False when there was one.
cdef bint websocket_close(WebSocket *socket) noexcept nogil


# What is wrong with a broken one, for the log.
cdef const char *websocket_complaint(const WebSocket *socket) noexcept nogil


cdef inline bint websocket_is_between_frames(const WebSocket *socket) noexcept nogil:
    return socket.frame_left == 0 and socket.outgoing_start == socket.outgoing_end
