"""See websocket.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from rookery.core.wire.text cimport is_utf8_payload

cdef enum _Opcode:             # [RFC 6455 5.2]
    _CONTINUATION = 0
    _TEXT = 1
    _BINARY = 2
    _CONTROL = 8               # from here on; the first is a close frame
    _PING = 9
    _PONG = 10

cdef enum:
    _FIN = 0x80
    _RESERVED = 0x70
    _MASKED = 0x80             # of the second byte
    _TWO_BYTES = 126           # values of the 7-bit length: the length follows
    _EIGHT_BYTES = 127


cdef WebSocket *websocket_new(const uint8_t *early, uint32_t early_size) noexcept nogil:
    cdef WebSocket *socket = <WebSocket *> calloc(1, sizeof(WebSocket))
    if socket == NULL:
        return NULL
    socket.close_code = CLOSE_NORMAL
    if early_size > 0:
        socket.early = <uint8_t *> malloc(early_size)
        if socket.early == NULL:
            free(socket)
            return NULL
        memcpy(socket.early, early, early_size)
        socket.early_size = early_size
    return socket


cdef void websocket_free(WebSocket *socket) noexcept nogil:
    if socket != NULL:
        free(socket.early)
        free(socket)


# From the client

cdef void _end(WebSocket *socket, uint16_t close_code) noexcept nogil:
    socket.is_over = 1
    socket.close_code = close_code


cdef void _break(WebSocket *socket, uint16_t close_code) noexcept nogil:
    socket.is_broken = 1
    _end(socket, close_code)


cdef const char *websocket_complaint(const WebSocket *socket) noexcept nogil:
    if socket.close_code == CLOSE_UNSUPPORTED_DATA:
        return b"a text frame"
    if socket.close_code == CLOSE_INVALID_DATA:
        return b"a close frame whose reason is no UTF-8"
    return b"a frame that RFC 6455 forbids"


cdef void _unmask(WebSocket *socket, uint8_t *out, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """out may lie in front of data and overlap it: a word is read before it is written."""
    cdef uint8_t key[8]
    cdef uint64_t key_word, word
    cdef Py_ssize_t index = 0
    cdef uint32_t place
    for place in range(8):
        key[place] = socket.mask[(socket.mask_offset + place) & 3]
    memcpy(&key_word, key, 8)
    while index + 8 <= size:
        memcpy(&word, data + index, 8)
        word ^= key_word
        memcpy(out + index, &word, 8)
        index += 8
    while index < size:
        out[index] = data[index] ^ key[index & 7]
        index += 1
    socket.mask_offset = <uint8_t> ((socket.mask_offset + size) & 3)


cdef bint _is_close_code(uint16_t code) noexcept nogil:
    """May stand in a close frame [RFC 6455 7.4.2]; 1012 to 1014 were registered later."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef void _take_close(WebSocket *socket) noexcept nogil:
    cdef uint16_t code
    if socket.control_size == 0:
        _end(socket, CLOSE_NO_CODE)
        return
    if socket.control_size == 1:
        _break(socket, CLOSE_PROTOCOL_ERROR)
        return
    code = <uint16_t> (<uint32_t> socket.control[0] << 8 | socket.control[1])
    if not _is_close_code(code):
        _break(socket, CLOSE_PROTOCOL_ERROR)
    elif not is_utf8_payload(socket.control + 2, socket.control_size - 2):
        _break(socket, CLOSE_INVALID_DATA)
    else:
        _end(socket, code)


cdef void _add_pong(WebSocket *socket) noexcept nogil:
    if socket.pongs_size + 2 + socket.control_size > WEBSOCKET_PONGS_SIZE:
        socket.pongs_size = 0  # Pings before the last need no answer [RFC 6455 5.5.3].
    socket.pongs[socket.pongs_size] = _FIN | _PONG
    socket.pongs[socket.pongs_size + 1] = socket.control_size
    memcpy(socket.pongs + socket.pongs_size + 2, socket.control, socket.control_size)
    socket.pongs_size += 2 + socket.control_size


cdef void _end_frame(WebSocket *socket) noexcept nogil:
    socket.is_in_payload = 0
    if socket.opcode == _CONTROL:
        _take_close(socket)
    elif socket.opcode == _PING:
        _add_pong(socket)


cdef void _check_start(WebSocket *socket) noexcept nogil:
    """The first two bytes say all that can be wrong but the length."""
    cdef uint8_t opcode = socket.header[0] & 0x0F
    cdef bint is_final = socket.header[0] & _FIN != 0
    if socket.header[0] & _RESERVED or not socket.header[1] & _MASKED:
        _break(socket, CLOSE_PROTOCOL_ERROR)
    elif opcode == _TEXT:
        _break(socket, CLOSE_UNSUPPORTED_DATA)  # [MQTT-6.0.0-1]
    elif opcode >= _CONTROL:
        if opcode > _PONG or not is_final or socket.header[1] & 0x7F > WEBSOCKET_CONTROL_MAXIMUM:
            _break(socket, CLOSE_PROTOCOL_ERROR)
    elif opcode > _BINARY or socket.is_in_message != (opcode == _CONTINUATION):
        _break(socket, CLOSE_PROTOCOL_ERROR)
    else:
        socket.is_in_message = not is_final
    socket.opcode = opcode


cdef uint8_t _length_size(const WebSocket *socket) noexcept nogil:
    """Bytes of the length behind the first two bytes."""
    cdef uint8_t length = socket.header[1] & 0x7F
    return 2 if length == _TWO_BYTES else 8 if length == _EIGHT_BYTES else 0


cdef void _begin_frame(WebSocket *socket) noexcept nogil:
    cdef uint8_t length_size = _length_size(socket)
    cdef uint64_t length = 0
    cdef uint32_t place
    for place in range(length_size):
        length = length << 8 | socket.header[2 + place]
    if length_size == 0:
        length = socket.header[1] & 0x7F
    elif length >> 63 or length < (126 if length_size == 2 else 65536):
        _break(socket, CLOSE_PROTOCOL_ERROR)  # The shortest form is due [RFC 6455 5.2].
        return
    memcpy(socket.mask, socket.header + 2 + length_size, 4)
    socket.mask_offset = 0
    socket.header_size = 0
    socket.control_size = 0
    socket.payload_left = length
    socket.is_in_payload = 1
    if length == 0:
        _end_frame(socket)


cdef Py_ssize_t websocket_take(WebSocket *socket, uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t taken = 0
    cdef Py_ssize_t count
    while at < size and not socket.is_over:
        if not socket.is_in_payload:
            socket.header[socket.header_size] = data[at]
            socket.header_size += 1
            at += 1
            if socket.header_size == 2:
                _check_start(socket)
            elif socket.header_size > 2 and socket.header_size == 6 + _length_size(socket):
                _begin_frame(socket)
            continue
        count = size - at
        if <uint64_t> count > socket.payload_left:
            count = <Py_ssize_t> socket.payload_left
        if socket.opcode >= _CONTROL:
            _unmask(socket, socket.control + socket.control_size, data + at, count)
            socket.control_size += <uint8_t> count
        else:
            _unmask(socket, data + taken, data + at, count)
            taken += count
        at += count
        socket.payload_left -= count
        if socket.payload_left == 0:
            _end_frame(socket)
    return taken


# To the client

cdef void _put(WebSocket *socket, const uint8_t *data, uint32_t size) noexcept nogil:
    memcpy(socket.outgoing + socket.outgoing_end, data, size)
    socket.outgoing_end += <uint8_t> size


cdef void _put_header(WebSocket *socket, uint8_t opcode, uint64_t length) noexcept nogil:
    cdef uint8_t header[10]
    cdef uint32_t size = 2
    cdef uint32_t place
    header[0] = _FIN | opcode
    if length < _TWO_BYTES:
        header[1] = <uint8_t> length
    elif length < 65536:
        header[1] = _TWO_BYTES
        header[2] = <uint8_t> (length >> 8)
        header[3] = <uint8_t> length
        size = 4
    else:
        header[1] = _EIGHT_BYTES
        for place in range(8):
            header[2 + place] = <uint8_t> (length >> (56 - 8 * place))
        size = 10
    _put(socket, header, size)


cdef bint websocket_give(WebSocket *socket, uint64_t waiting) noexcept nogil:
    if socket.is_closed:
        return False
    socket.outgoing_start = 0
    socket.outgoing_end = 0
    if socket.pongs_size > 0:
        _put(socket, socket.pongs, socket.pongs_size)
        socket.pongs_size = 0
    if waiting > 0:
        _put_header(socket, _BINARY, waiting)  # [MQTT-6.0.0-1]
        socket.frame_left = waiting
    return socket.outgoing_end > 0


cdef bint websocket_close(WebSocket *socket) noexcept nogil:
    cdef uint8_t code[2]
    if socket.is_closed:
        return False
    socket.is_closed = 1
    socket.outgoing_start = 0
    socket.outgoing_end = 0
    if socket.close_code == CLOSE_NO_CODE:
        _put_header(socket, _CONTROL, 0)
    else:
        code[0] = <uint8_t> (socket.close_code >> 8)
        code[1] = <uint8_t> socket.close_code
        _put_header(socket, _CONTROL, 2)
        _put(socket, code, 2)
    return True


cdef class FrameWalk:
    """The frames of one client, for tests. See websocket.pyi."""

    cdef WebSocket *_socket

    def __cinit__(self):
        self._socket = websocket_new(NULL, 0)
        if self._socket == NULL:
            raise MemoryError

    def __dealloc__(self):
        websocket_free(self._socket)

    @property
    def is_over(self):
        return bool(self._socket.is_over)

    @property
    def close_code(self):
        return self._socket.close_code

    def take(self, bytes data not None):
        cdef bytearray room = bytearray(data)
        cdef Py_ssize_t taken = websocket_take(self._socket, room, len(data))
        return bytes(room[:taken])

    def give(self, bytes payload not None):
        if not websocket_give(self._socket, len(payload)):
            return b""
        self._socket.frame_left = 0
        return self._outgoing() + payload

    def close(self):
        return self._outgoing() if websocket_close(self._socket) else b""

    cdef bytes _outgoing(self):
        cdef bytes outgoing = (<const char *> self._socket.outgoing)[:self._socket.outgoing_end]
        self._socket.outgoing_start = self._socket.outgoing_end
        return outgoing
