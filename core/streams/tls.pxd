"""TLS after the handshake [RFC 8446]: bytes in and out by the functions of the OpenSSL that made the handshake.

The control plane makes contexts and handshakes with pyOpenSSL, on an SSL object that reads and writes the socket
itself. Then the object changes hands: tls_new takes it over, and nobody else touches it any more. The functions are
those of the very library that made it, handed in as pointers, so that nothing is linked here and there is one OpenSSL
in the process.

    handshake (Python)          Tls (one shard at a time)                       tls_free
    SSL_new ... SSL_do_handshake -> SSL_read, SSL_write, SSL_shutdown ... -> SSL_free (the socket stays open)

What must hold:
- No callback into Python is left once the handshake is over: none of those that pyOpenSSL installs (server name, ALPN)
  is called later, because renegotiation is off and no certificate is asked for again.
- The queue of errors, which OpenSSL keeps per thread, is empty between two calls: SSL_get_error looks at it.
- The context reads one record at a time (no read-ahead): what is not decrypted lies in the kernel, where epoll sees it.
- After SSL_write found no room, the same bytes come first in the next call, and at least as many (blocked_size).
- SIGPIPE is ignored in the whole process, as Python does: OpenSSL writes with write().
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    TLS_RECORD_SIZE = 16384    # bytes of one record [RFC 8446 5.1]


cdef struct TlsLibrary:        # of OpenSSL; void * stands for its SSL *
    int (*read)(void *ssl, void *out, int size) noexcept nogil
    int (*write)(void *ssl, const void *data, int size) noexcept nogil
    int (*get_error)(const void *ssl, int result) noexcept nogil
    int (*pending)(const void *ssl) noexcept nogil
    int (*do_handshake)(void *ssl) noexcept nogil
    int (*shutdown)(void *ssl) noexcept nogil
    void (*free)(void *ssl) noexcept nogil
    void (*clear_errors)() noexcept nogil


cdef struct Tls:
    void *ssl                  # SSL *; owned
    const TlsLibrary *library  # borrowed: it outlives all connections
    uint32_t last_turn         # of the shard in which something was read
    uint32_t blocked_size      # bytes that SSL_write must be offered again; 0 = none
    uint8_t wants_write        # it has something of its own to send (an answer to KeyUpdate) and found no room
    uint8_t is_over            # the client has ended the stream, or it is broken: nothing more is read
    uint8_t is_broken          # an error after which OpenSSL forbids SSL_shutdown
    uint8_t is_ended           # close_notify was sent


# Takes ssl over; NULL when memory is short (then it is not taken).
cdef Tls *tls_new(const TlsLibrary *library, void *ssl) noexcept nogil
# Frees the SSL object; the socket stays open. NULL is allowed.
cdef void tls_free(Tls *tls) noexcept nogil
# Up to size bytes; 0 = none are there now, -1 = none will come. turn is the number of the shard's present turn.
cdef Py_ssize_t tls_read(Tls *tls, uint8_t *out, Py_ssize_t size, uint32_t turn) noexcept nogil
# Bytes taken, at most one record; 0 = there is no room now, -1 = the connection is dead.
cdef Py_ssize_t tls_write(Tls *tls, const uint8_t *data, Py_ssize_t size) noexcept nogil
# Send what it has of its own: 1 = done, 0 = there is no room now, -1 = the connection is dead.
cdef int tls_settle(Tls *tls) noexcept nogil
# Tell the client that nothing more follows: close_notify [RFC 8446 6.1], if there is room for it at once.
cdef void tls_end(Tls *tls) noexcept nogil


cdef inline bint tls_has_read(const Tls *tls) noexcept nogil:
    """Decrypted bytes wait that the kernel knows nothing of, or the end of the stream does."""
    return tls.is_over or tls.library.pending(tls.ssl) > 0
