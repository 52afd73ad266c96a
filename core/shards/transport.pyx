"""See transport.pxd."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove, memset

from rookery.core.sessions.outbox cimport Outbox, Segment, outbox_consume, outbox_enlist
from rookery.core.shards.state cimport TRANSPORT_MEMORY, Connection, MemoryLink
from rookery.core.streams.tls cimport (
    TLS_RECORD_SIZE, Tls, tls_end, tls_free, tls_has_read, tls_read, tls_settle, tls_write,
)
from rookery.core.streams.websocket cimport (
    WebSocket, websocket_close, websocket_free, websocket_give, websocket_is_between_frames, websocket_take,
)
from rookery.core.structures.mutex cimport mutex_destroy, mutex_init, mutex_lock, mutex_unlock

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

    ssize_t readv(int descriptor, const iovec *vectors, int count)

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)
    int shutdown(int descriptor, int how)
    int MSG_NOSIGNAL
    int SHUT_WR

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef enum:
    _VECTORS = 64  # segments handed to the kernel at once: 512 KiB of small packets


# Memory

cdef MemoryLink *memory_link_new() noexcept nogil:
    cdef MemoryLink *link = <MemoryLink *> calloc(1, sizeof(MemoryLink))
    if link != NULL:
        mutex_init(&link.mutex, NULL)
        link.references = 2
    return link


cdef void memory_link_release(MemoryLink *link) noexcept nogil:
    cdef bint is_last
    mutex_lock(&link.mutex)
    link.references -= 1
    is_last = link.references == 0
    mutex_unlock(&link.mutex)
    if is_last:
        free(link.incoming)
        free(link.outgoing)
        mutex_destroy(&link.mutex)
        free(link)


cdef bint memory_link_is_readable(MemoryLink *link) noexcept nogil:
    cdef bint is_readable
    mutex_lock(&link.mutex)
    is_readable = link.incoming_size > 0 or link.is_hung_up
    mutex_unlock(&link.mutex)
    return is_readable


cdef Py_ssize_t _memory_read(MemoryLink *link, uint8_t *out, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t count
    mutex_lock(&link.mutex)
    count = <Py_ssize_t> link.incoming_size
    if count > size:
        count = size
    if count > 0:
        memcpy(out, link.incoming, count)
        link.incoming_size -= count
        memmove(link.incoming, link.incoming + count, link.incoming_size)
    elif link.is_hung_up:
        count = READ_CLOSED
    else:
        count = READ_WOULD_BLOCK
    mutex_unlock(&link.mutex)
    return count


cdef FlushResult _memory_flush(MemoryLink *link, Outbox *outbox) noexcept nogil:
    cdef Segment *segment = outbox.head
    cdef FlushResult result = FLUSH_DONE
    cdef uint8_t *outgoing
    mutex_lock(&link.mutex)
    if link.is_hung_up:
        result = FLUSH_FAILED
    else:
        outgoing = <uint8_t *> realloc(link.outgoing, link.outgoing_size + outbox.size)
        if outgoing == NULL:
            result = FLUSH_FAILED
        else:
            link.outgoing = outgoing
            while segment != NULL:
                memcpy(outgoing + link.outgoing_size, segment.data + segment.start, segment.end - segment.start)
                link.outgoing_size += segment.end - segment.start
                segment = segment.next
    mutex_unlock(&link.mutex)
    if result == FLUSH_DONE:
        outbox_consume(outbox, outbox.size)
    return result


# TLS

cdef Py_ssize_t _stream_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil:
    """Bytes below WebSocket: those of TLS if there is, else those of the socket."""
    cdef Py_ssize_t count
    if connection.tls == NULL:
        return _socket_read(connection, out, size)
    count = tls_read(connection.tls, out, size, <uint32_t> connection.shard.turns)
    if connection.tls.wants_write:
        outbox_enlist(&connection.link.outbox)
    return count


cdef Py_ssize_t _tls_gather(Tls *tls, const iovec *vectors, size_t count) noexcept nogil:
    """Encrypt and send the first bytes of vectors, up to one record. Results as tls_write."""
    cdef uint8_t record[TLS_RECORD_SIZE]
    cdef size_t size = 0
    cdef size_t index, part
    if count == 1 or vectors[0].iov_len >= TLS_RECORD_SIZE:
        return tls_write(tls, <const uint8_t *> vectors[0].iov_base, <Py_ssize_t> vectors[0].iov_len)
    for index in range(count):
        part = vectors[index].iov_len
        if part > TLS_RECORD_SIZE - size:
            part = TLS_RECORD_SIZE - size
        memcpy(record + size, vectors[index].iov_base, part)
        size += part
        if size == TLS_RECORD_SIZE:
            break
    return tls_write(tls, record, <Py_ssize_t> size)


cdef FlushResult _tls_flush(Connection *connection) noexcept nogil:
    cdef Outbox *outbox = &connection.link.outbox
    cdef Segment *segment
    cdef iovec vectors[_VECTORS]
    cdef size_t count, offered
    cdef Py_ssize_t sent
    while outbox.size > 0:
        count = 0
        offered = 0
        segment = outbox.head
        while segment != NULL and count < _VECTORS and offered < TLS_RECORD_SIZE:
            vectors[count].iov_base = segment.data + segment.start
            vectors[count].iov_len = segment.end - segment.start
            offered += segment.end - segment.start
            count += 1
            segment = segment.next
        sent = _tls_gather(connection.tls, vectors, count)
        if sent < 0:
            return FLUSH_FAILED
        if sent == 0:
            return FLUSH_BLOCKED
        outbox_consume(outbox, <uint64_t> sent)
    return FLUSH_DONE


cdef FlushResult _layered_flush(Connection *connection) noexcept nogil:
    cdef int settled
    if connection.tls != NULL and connection.tls.wants_write:
        settled = tls_settle(connection.tls)
        if settled <= 0:
            return FLUSH_BLOCKED if settled == 0 else FLUSH_FAILED
    return _tls_flush(connection) if connection.websocket == NULL else _websocket_flush(connection)


# WebSocket

cdef Py_ssize_t _websocket_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil:
    cdef WebSocket *socket = connection.websocket
    cdef Py_ssize_t count
    if socket.is_over:
        return READ_CLOSED
    if socket.early != NULL:
        count = socket.early_size - socket.early_start
        if count > size:
            count = size
        memcpy(out, socket.early + socket.early_start, count)
        socket.early_start += <uint32_t> count
        if socket.early_start == socket.early_size:
            free(socket.early)
            socket.early = NULL
    else:
        count = _stream_read(connection, out, size)
        if count <= 0:
            return count
    count = websocket_take(socket, out, count)
    if socket.pongs_size > 0:
        outbox_enlist(&connection.link.outbox)
    if count > 0:
        return count
    return READ_CLOSED if socket.is_over else READ_WOULD_BLOCK


cdef bint transport_has_read(const Connection *connection) noexcept nogil:
    return connection.is_layered and _layer_has_read(connection)


cdef bint _layer_has_read(const Connection *connection) noexcept nogil:
    if connection.websocket != NULL and (connection.websocket.early != NULL or connection.websocket.is_over):
        return True
    return connection.tls != NULL and tls_has_read(connection.tls)


cdef FlushResult _websocket_flush(Connection *connection) noexcept nogil:
    cdef Outbox *outbox = &connection.link.outbox
    cdef WebSocket *socket = connection.websocket
    cdef Segment *segment
    cdef iovec vectors[_VECTORS]
    cdef msghdr message
    cdef Py_ssize_t sent
    cdef uint64_t offered, count, header_size
    while True:
        # The frame in hand is finished first: its header has promised its size.
        if websocket_is_between_frames(socket) and not websocket_give(socket, outbox.size):
            return FLUSH_DONE
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        header_size = socket.outgoing_end - socket.outgoing_start
        offered = header_size
        if header_size > 0:
            vectors[0].iov_base = socket.outgoing + socket.outgoing_start
            vectors[0].iov_len = header_size
            message.msg_iovlen = 1
        segment = outbox.head
        while segment != NULL and message.msg_iovlen < _VECTORS and offered - header_size < socket.frame_left:
            count = segment.end - segment.start
            if count > socket.frame_left - (offered - header_size):
                count = socket.frame_left - (offered - header_size)
            vectors[message.msg_iovlen].iov_base = segment.data + segment.start
            vectors[message.msg_iovlen].iov_len = count
            offered += count
            message.msg_iovlen += 1
            segment = segment.next
        if connection.tls != NULL:
            sent = _tls_gather(connection.tls, vectors, message.msg_iovlen)
            if sent < 0:
                return FLUSH_FAILED
            if sent == 0:
                return FLUSH_BLOCKED
            offered = <uint64_t> sent  # One record; there may be room for more.
        else:
            sent = sendmsg(connection.descriptor, &message, MSG_NOSIGNAL)
        if sent >= 0:
            if <uint64_t> sent < header_size:
                socket.outgoing_start += <uint8_t> sent
                return FLUSH_BLOCKED
            socket.outgoing_start = socket.outgoing_end
            socket.frame_left -= <uint64_t> sent - header_size
            outbox_consume(outbox, <uint64_t> sent - header_size)
            if <uint64_t> sent < offered:
                return FLUSH_BLOCKED
        elif errno == EAGAIN:
            return FLUSH_BLOCKED
        elif errno != EINTR:
            return FLUSH_FAILED


cdef void _websocket_end(Connection *connection) noexcept nogil:
    """A close frame if there is room for one at once; a client that reads nothing gets none."""
    cdef WebSocket *socket = connection.websocket
    if connection.descriptor < 0 or not websocket_is_between_frames(socket) or not websocket_close(socket):
        return
    if connection.tls == NULL:
        send(connection.descriptor, socket.outgoing, socket.outgoing_end, MSG_NOSIGNAL)
    elif connection.tls.blocked_size == 0 and not connection.tls.wants_write:
        tls_write(connection.tls, socket.outgoing, socket.outgoing_end)


# Sockets

cdef Py_ssize_t transport_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil:
    if connection.transport == TRANSPORT_MEMORY:
        return _memory_read(connection.memory, out, size)
    if connection.is_layered:
        return _layered_read(connection, out, size)
    return _socket_read(connection, out, size)


cdef Py_ssize_t _layered_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil:
    if connection.websocket != NULL:
        return _websocket_read(connection, out, size)
    return _stream_read(connection, out, size)


cdef Py_ssize_t _socket_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t count
    while True:
        count = recv(connection.descriptor, out, size, 0)
        if count > 0:
            return count
        if count == 0:
            return READ_CLOSED
        if errno == EAGAIN:
            return READ_WOULD_BLOCK
        if errno != EINTR:
            return READ_CLOSED


cdef Py_ssize_t transport_read_two(
    Connection *connection, uint8_t *first, Py_ssize_t first_size, uint8_t *second, Py_ssize_t second_size
) noexcept nogil:
    cdef iovec vectors[2]
    cdef Py_ssize_t count
    if connection.transport == TRANSPORT_MEMORY:
        return _memory_read(connection.memory, first, first_size)
    if connection.is_layered:
        return _layered_read(connection, first, first_size)
    vectors[0].iov_base = first
    vectors[0].iov_len = first_size
    vectors[1].iov_base = second
    vectors[1].iov_len = second_size
    while True:
        count = readv(connection.descriptor, vectors, 2)
        if count > 0:
            return count
        if count == 0:
            return READ_CLOSED
        if errno == EAGAIN:
            return READ_WOULD_BLOCK
        if errno != EINTR:
            return READ_CLOSED


cdef FlushResult transport_flush(Connection *connection) noexcept nogil:
    cdef Outbox *outbox = &connection.link.outbox
    cdef Segment *segment
    cdef iovec vectors[_VECTORS]
    cdef msghdr message
    cdef Py_ssize_t sent
    cdef uint64_t offered
    if connection.transport == TRANSPORT_MEMORY:
        return _memory_flush(connection.memory, outbox) if outbox.size > 0 else FLUSH_DONE
    if connection.is_layered:
        return _layered_flush(connection)
    while outbox.size > 0:
        segment = outbox.head
        if segment.next == NULL:
            offered = segment.end - segment.start
            sent = send(connection.descriptor, segment.data + segment.start, offered, MSG_NOSIGNAL)
        else:
            memset(&message, 0, sizeof(message))
            message.msg_iov = vectors
            offered = 0
            while segment != NULL and message.msg_iovlen < _VECTORS:
                vectors[message.msg_iovlen].iov_base = segment.data + segment.start
                vectors[message.msg_iovlen].iov_len = segment.end - segment.start
                offered += segment.end - segment.start
                message.msg_iovlen += 1
                segment = segment.next
            sent = sendmsg(connection.descriptor, &message, MSG_NOSIGNAL)
        if sent >= 0:
            outbox_consume(outbox, <uint64_t> sent)
            if <uint64_t> sent < offered:
                return FLUSH_BLOCKED
        elif errno == EAGAIN:
            return FLUSH_BLOCKED
        elif errno != EINTR:
            return FLUSH_FAILED
    return FLUSH_DONE


cdef void transport_end(Connection *connection) noexcept nogil:
    if connection.transport == TRANSPORT_MEMORY:
        mutex_lock(&connection.memory.mutex)
        connection.memory.is_closed = 1
        mutex_unlock(&connection.memory.mutex)
    else:
        if connection.websocket != NULL:
            _websocket_end(connection)
        if connection.tls != NULL:
            tls_end(connection.tls)
        shutdown(connection.descriptor, SHUT_WR)


cdef void transport_close(Connection *connection) noexcept nogil:
    if connection.websocket != NULL:
        _websocket_end(connection)
        websocket_free(connection.websocket)
        connection.websocket = NULL
    if connection.tls != NULL:
        # Before the socket goes: close_notify, if there is room for it.
        tls_end(connection.tls)
        tls_free(connection.tls)
        connection.tls = NULL
    if connection.transport == TRANSPORT_MEMORY:
        transport_end(connection)
        memory_link_release(connection.memory)
        connection.memory = NULL
    elif connection.descriptor >= 0:
        close(connection.descriptor)
        connection.descriptor = -1
