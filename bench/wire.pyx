"""See wire.pxd."""

from libc.errno cimport EAGAIN, EPIPE, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memmove, memset
from posix.uio cimport iovec
from rookery.bench.sockets cimport MSG_NOSIGNAL, recv, send

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)

cdef enum:
    _WANT_READ = 2              # of SSL_get_error
    _WANT_WRITE = 3
    _ZERO_RETURN = 6
    _RECORD_SIZE = 16384

cdef enum:
    _FINAL_BINARY = 0x82
    _MASKED = 0x80
    _CLOSE = 8


cdef int wire_open(const Wires *wires, Wire *wire, int descriptor) noexcept nogil:
    memset(wire, 0, sizeof(Wire))
    if wires.kind == WIRE_TLS:
        wire.ssl = wires.library.new(wires.context)
        if wire.ssl == NULL:
            return -1
        wires.library.set_descriptor(wire.ssl, descriptor)
        wires.library.set_connect_state(wire.ssl)
    return 0


cdef void wire_close(const Wires *wires, Wire *wire) noexcept nogil:
    if wire.ssl != NULL:
        wires.library.free(wire.ssl)
        wire.ssl = NULL


cdef ssize_t wire_send(
    const Wires *wires, Wire *wire, int descriptor, const uint8_t *data, size_t size
) noexcept nogil:
    if wires.kind == WIRE_TLS:
        return _tls_send(wires, wire, data, size)
    if wires.kind == WIRE_WEBSOCKET:
        return _websocket_send(wires, wire, descriptor, data, size)
    return send(descriptor, data, size, MSG_NOSIGNAL)


cdef ssize_t wire_recv(const Wires *wires, Wire *wire, int descriptor, uint8_t *out, size_t size) noexcept nogil:
    if wires.kind == WIRE_TLS:
        return _tls_recv(wires, wire, out, size)
    if wires.kind == WIRE_WEBSOCKET:
        return _websocket_recv(wire, descriptor, out, size)
    return recv(descriptor, out, size, 0)


# TLS

cdef ssize_t _tls_send(const Wires *wires, Wire *wire, const uint8_t *data, size_t size) noexcept nogil:
    """As many records as the socket takes."""
    cdef size_t taken = 0
    cdef int result, error
    while taken < size:
        result = wires.library.write(wire.ssl, data + taken, <int> (size - taken))
        if result <= 0:
            error = wires.library.get_error(wire.ssl, result)
            if error != _WANT_READ and error != _WANT_WRITE:
                wires.library.clear_errors()
                (&errno)[0] = EPIPE
                return -1
            break
        taken += <size_t> result
    if taken == 0:
        (&errno)[0] = EAGAIN
        return -1
    return <ssize_t> taken


cdef ssize_t _tls_recv(const Wires *wires, Wire *wire, uint8_t *out, size_t size) noexcept nogil:
    """Whole records only, so that none is left where epoll does not see it."""
    cdef size_t count = 0
    cdef int result, error
    while size - count >= _RECORD_SIZE:
        result = wires.library.read(wire.ssl, out + count, <int> (size - count))
        if result > 0:
            count += <size_t> result
            continue
        error = wires.library.get_error(wire.ssl, result)
        if error == _WANT_READ or error == _WANT_WRITE:
            break
        wires.library.clear_errors()
        if count == 0:
            return 0  # The end, be it with close_notify or without.
        break
    if count == 0:
        (&errno)[0] = EAGAIN
        return -1
    return <ssize_t> count


# WebSocket

cdef void _begin_frame(Wire *wire, size_t size) noexcept nogil:
    cdef int index
    wire.header[0] = _FINAL_BINARY
    if size < 126:
        wire.header[1] = _MASKED | <uint8_t> size
        wire.header_end = 2
    elif size < 65536:
        wire.header[1] = _MASKED | 126
        wire.header[2] = <uint8_t> (size >> 8)
        wire.header[3] = <uint8_t> size
        wire.header_end = 4
    else:
        wire.header[1] = _MASKED | 127
        for index in range(8):
            wire.header[2 + index] = <uint8_t> (size >> (8 * (7 - index)))
        wire.header_end = 10
    memset(wire.header + wire.header_end, 0, 4)
    wire.header_end += 4
    wire.header_start = 0
    wire.to_send = size


cdef ssize_t _websocket_send(
    const Wires *wires, Wire *wire, int descriptor, const uint8_t *data, size_t size
) noexcept nogil:
    cdef msghdr message
    cdef iovec vectors[2]
    cdef ssize_t sent
    cdef size_t header
    if not wire.is_requested:
        # So short that a new socket takes all of it, once it is connected.
        sent = send(descriptor, wires.request, wires.request_size, MSG_NOSIGNAL)
        wire.is_requested = sent > 0
        if sent < 0:
            return -1
    if wire.line_ends < 4:
        (&errno)[0] = EAGAIN
        return -1
    if wire.to_send == 0:
        _begin_frame(wire, size)
    if size > wire.to_send:
        size = <size_t> wire.to_send
    header = wire.header_end - wire.header_start
    memset(&message, 0, sizeof(message))
    message.msg_iov = vectors
    message.msg_iovlen = 2
    vectors[0].iov_base = wire.header + wire.header_start
    vectors[0].iov_len = header
    vectors[1].iov_base = <void *> data
    vectors[1].iov_len = size
    sent = sendmsg(descriptor, &message, MSG_NOSIGNAL)
    if sent < 0:
        return -1
    if <size_t> sent < header:
        wire.header_start += <uint8_t> sent
        (&errno)[0] = EAGAIN
        return -1
    wire.header_start = wire.header_end
    sent -= <ssize_t> header
    wire.to_send -= <uint64_t> sent
    if sent == 0:
        (&errno)[0] = EAGAIN
        return -1
    return sent


cdef size_t _take_answer(Wire *wire, const uint8_t *data, size_t size) noexcept nogil:
    """Walk over the answer to the request, up to its empty line; how many bytes it has."""
    cdef size_t index = 0
    while index < size and wire.line_ends < 4:
        if data[index] == (13 if wire.line_ends % 2 == 0 else 10):
            wire.line_ends += 1
        else:
            wire.line_ends = 1 if data[index] == 13 else 0
        index += 1
    return index


cdef ssize_t _websocket_recv(Wire *wire, int descriptor, uint8_t *out, size_t size) noexcept nogil:
    """Payloads only, moved to the front of out. Control frames but a close frame do not come in these runs."""
    cdef ssize_t count
    cdef size_t place = 0
    cdef size_t kept = 0
    cdef size_t part
    if wire.is_over:
        return 0
    count = recv(descriptor, out, size, 0)
    if count <= 0:
        return count
    if wire.line_ends < 4:
        place = _take_answer(wire, out, <size_t> count)
    while place < <size_t> count and not wire.is_over:
        if wire.to_take == 0:
            wire.incoming[wire.incoming_size] = out[place]
            wire.incoming_size += 1
            place += 1
            _take_header(wire)
            continue
        part = <size_t> count - place
        if part > wire.to_take:
            part = <size_t> wire.to_take
        memmove(out + kept, out + place, part)
        kept += part
        place += part
        wire.to_take -= part
    if kept == 0 and not wire.is_over:
        (&errno)[0] = EAGAIN
        return -1
    return <ssize_t> kept


cdef void _take_header(Wire *wire) noexcept nogil:
    cdef uint8_t length
    cdef uint8_t more
    cdef int index
    if wire.incoming_size < 2:
        return
    length = wire.incoming[1] & 0x7F
    more = 2 if length == 126 else (8 if length == 127 else 0)
    if wire.incoming_size < 2 + more:
        return
    wire.incoming_size = 0
    if wire.incoming[0] & 0x0F == _CLOSE:
        wire.is_over = True
        return
    wire.to_take = length
    if more > 0:
        wire.to_take = 0
        for index in range(more):
            wire.to_take = wire.to_take << 8 | wire.incoming[2 + index]
