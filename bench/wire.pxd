"""What lies between a connection of the generator and its socket: nothing, TLS, or WebSocket.

TLS is OpenSSL's, by the functions of the library that pyOpenSSL uses, as the broker under test does it; the handshake
goes on by itself in the first reads and writes. WebSocket frames have a mask of zeros, which is one like any other to
the broker, and spares the generator the work.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef enum WireKind:
    WIRE_PLAIN
    WIRE_TLS
    WIRE_WEBSOCKET


cdef struct WireLibrary:        # of OpenSSL; void * stands for SSL * and SSL_CTX *
    void *(*new)(void *context) noexcept nogil
    int (*set_descriptor)(void *ssl, int descriptor) noexcept nogil
    void (*set_connect_state)(void *ssl) noexcept nogil
    int (*read)(void *ssl, void *out, int size) noexcept nogil
    int (*write)(void *ssl, const void *data, int size) noexcept nogil
    int (*get_error)(const void *ssl, int result) noexcept nogil
    void (*free)(void *ssl) noexcept nogil
    void (*clear_errors)() noexcept nogil


cdef struct Wires:              # what all connections of an engine share
    WireKind kind
    WireLibrary library
    void *context               # SSL_CTX *; borrowed
    const uint8_t *request      # for the upgrade; borrowed
    size_t request_size


cdef struct Wire:
    void *ssl                   # SSL *; owned; NULL without TLS
    # WebSocket
    bint is_requested           # the request for the upgrade was sent
    uint8_t line_ends           # bytes of the CRLFCRLF that have come
    uint8_t header[14]          # of the frame that is being sent
    uint8_t header_start
    uint8_t header_end
    uint64_t to_send            # bytes of it that are still to come from the caller
    uint8_t incoming[10]        # header of the frame that comes
    uint8_t incoming_size
    uint64_t to_take            # bytes of its payload that have not come
    bint is_over                # the broker sent a close frame


# A new connection has this descriptor; -1 when memory is short.
cdef int wire_open(const Wires *wires, Wire *wire, int descriptor) noexcept nogil
cdef void wire_close(const Wires *wires, Wire *wire) noexcept nogil
# As send and recv: -1 and errno, EAGAIN while a handshake or an upgrade is under way. What was not taken has to come
# again, first.
cdef ssize_t wire_send(
    const Wires *wires, Wire *wire, int descriptor, const uint8_t *data, size_t size
) noexcept nogil
cdef ssize_t wire_recv(const Wires *wires, Wire *wire, int descriptor, uint8_t *out, size_t size) noexcept nogil
