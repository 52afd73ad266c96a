from libc.errno cimport ECONNRESET, EINPROGRESS, errno
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memmove, memset
from posix.unistd cimport close

from rookery.bench.load_state cimport (
    CANNOT_CONNECT, CLOSED, CLOSED_BY_BROKER, GREETING, LEAVING, NO_FAULT, OUT_OF_MEMORY, SEND_BUFFER_BYTES)
from rookery.bench.sockets cimport (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLLIN,
    IP_BIND_ADDRESS_NO_PORT,
    IPPROTO_IP,
    IPPROTO_TCP,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    bind,
    epoll_ctl,
    epoll_event,
    htonl,
    setsockopt,
    sockaddr,
    sockaddr_in,
    socket,
)
from rookery.bench.sockets cimport connect as connect_socket
from rookery.bench.wire cimport wire_close, wire_open

cdef enum:
    FIRST_SOURCE = 0x7F000001   # 127.0.0.1


cdef int fail(Engine *engine, Fault fault, int detail, const Connection *connection) noexcept nogil:
    """Stop the run; the first fault is the one that is told."""
    if engine.fault == NO_FAULT:
        engine.fault = fault
        engine.fault_detail = detail
        engine.fault_connection = connection.index
    return -1


cdef int reserve(Engine *engine, Connection *connection, Buffer *buffer, uint32_t size) noexcept nogil:
    """Make room for `size` bytes behind the end."""
    cdef uint32_t capacity = max(buffer.capacity, <uint32_t> 256)
    cdef uint8_t *data
    if buffer.end + size <= buffer.capacity:
        return 0
    if buffer.start:
        memmove(buffer.data, buffer.data + buffer.start, buffer.end - buffer.start)
        buffer.end -= buffer.start
        buffer.start = 0
        if buffer.end + size <= buffer.capacity:
            return 0
    while buffer.end + size > capacity:
        capacity *= 2
    data = <uint8_t *> realloc(buffer.data, capacity)
    if data == NULL:
        return fail(engine, OUT_OF_MEMORY, 0, connection)
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef int say(Engine *engine, Connection *connection, const uint8_t *data, uint32_t size) noexcept nogil:
    """Send something with the next flush."""
    if reserve(engine, connection, &connection.out, size) < 0:
        return -1
    memcpy(connection.out.data + connection.out.end, data, size)
    connection.out.end += size
    mark_dirty(engine, connection)
    return 0


cdef void watch(Engine *engine, Connection *connection, uint32_t events, int operation) noexcept nogil:
    cdef epoll_event event
    event.events = events
    event.data.u64 = connection.index
    epoll_ctl(engine.epoll, operation, connection.fd, &event)


cdef void hang_up(Engine *engine, Connection *connection) noexcept nogil:
    if connection.fd >= 0:
        wire_close(&engine.wires, &connection.wire)
        close(connection.fd)
    connection.fd = -1
    connection.state = CLOSED
    connection.is_blocked = False
    connection.out.start = connection.out.end = 0
    connection.fragment.start = connection.fragment.end = 0


cdef int start_connection(Engine *engine, Connection *connection) noexcept nogil:
    """Begin the TCP handshake and say CONNECT."""
    cdef sockaddr_in source
    cdef int on = 1
    cdef int send_buffer = SEND_BUFFER_BYTES
    cdef int result
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if connection.fd < 0:
        return fail(engine, CANNOT_CONNECT, errno, connection)
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    if engine.window == 0:
        setsockopt(connection.fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer))
    if engine.source_count:
        # The port is chosen at connect, when the kernel knows the whole pair of addresses and need not search for long.
        setsockopt(connection.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on))
        memset(&source, 0, sizeof(source))
        source.sin_family = AF_INET
        source.sin_addr.s_addr = htonl(FIRST_SOURCE + engine.next_number % engine.source_count)
        if bind(connection.fd, <sockaddr *> &source, sizeof(source)) < 0:
            return fail(engine, CANNOT_CONNECT, errno, connection)
    connection.started_ns = now_ns()
    engine.in_flight += 1
    if wire_open(&engine.wires, &connection.wire, connection.fd) < 0:
        return fail(engine, OUT_OF_MEMORY, 0, connection)
    result = connect_socket(connection.fd, <sockaddr *> &engine.address, sizeof(sockaddr_in))
    if result < 0 and errno != EINPROGRESS:
        return fail(engine, CANNOT_CONNECT, errno, connection)
    # On one machine the handshake is over by now, though connect() says EINPROGRESS. Where it is not, the CONNECT
    # packet waits like anything else that the kernel does not take.
    watch(engine, connection, EPOLLIN, EPOLL_CTL_ADD)
    return greet(engine, connection)


cdef int greet(Engine *engine, Connection *connection) noexcept nogil:
    """Send CONNECT with the number of this client in its identifier."""
    cdef uint64_t number = engine.next_number if engine.is_churning else connection.index
    cdef uint8_t *digits
    cdef int index
    engine.next_number += 1
    connection.state = GREETING
    if say(engine, connection, engine.greeting, engine.greeting_size) < 0:
        return -1
    digits = connection.out.data + connection.out.end - engine.greeting_size + engine.digits_offset
    for index in range(DIGITS - 1, -1, -1):
        digits[index] = <uint8_t> (48 + number % 10)
        number //= 10
    return 0


cdef int start_connections(Engine *engine) noexcept nogil:
    """Keep as many connections in the making as the order allows."""
    cdef Connection *connection
    while engine.in_flight < engine.in_flight_limit and engine.cursor < engine.connection_count:
        connection = &engine.connections[engine.cursor]
        engine.cursor += 1
        if connection.is_wanted and connection.state == CLOSED:
            if start_connection(engine, connection) < 0:
                return -1
    return 0


cdef int take_end(Engine *engine, Connection *connection, int reason) noexcept nogil:
    """The broker closed the connection, as it must after DISCONNECT; or it was never made."""
    if connection.state == GREETING and reason and reason != ECONNRESET:
        return fail(engine, CANNOT_CONNECT, reason, connection)
    if connection.state != LEAVING:
        return fail(engine, CLOSED_BY_BROKER, reason, connection)
    hang_up(engine, connection)
    if engine.is_churning:
        engine.in_flight -= 1
        return start_connection(engine, connection)
    if connection.is_wanted:
        connection.is_wanted = False
        engine.wanted -= 1
    return 0
