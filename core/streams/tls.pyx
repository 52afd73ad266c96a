"""See tls.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free

cdef enum:                     # of SSL_get_error
    _ERROR_WANT_READ = 2
    _ERROR_WANT_WRITE = 3
    _ERROR_ZERO_RETURN = 6


cdef Tls *tls_new(const TlsLibrary *library, void *ssl) noexcept nogil:
    cdef Tls *tls = <Tls *> calloc(1, sizeof(Tls))
    if tls != NULL:
        tls.library = library
        tls.ssl = ssl
    return tls


cdef void tls_free(Tls *tls) noexcept nogil:
    if tls != NULL:
        tls.library.free(tls.ssl)
        free(tls)


cdef inline void _break(Tls *tls) noexcept nogil:
    tls.is_broken = 1
    tls.is_over = 1
    tls.library.clear_errors()


cdef Py_ssize_t tls_read(Tls *tls, uint8_t *out, Py_ssize_t size, uint32_t turn) noexcept nogil:
    # OpenSSL gives one record per call. Asking once too often costs a call of the kernel, asking once too seldom a
    # turn: who had something in the turn before has more now.
    cdef bint is_busy = turn - tls.last_turn <= 1
    cdef Py_ssize_t count = 0
    cdef int result, error
    tls.last_turn = turn
    while count < size and not tls.is_over:
        result = tls.library.read(tls.ssl, out + count, <int> (size - count))
        if result > 0:
            count += result
            if not is_busy and result < TLS_RECORD_SIZE and tls.library.pending(tls.ssl) == 0:
                break
            continue
        error = tls.library.get_error(tls.ssl, result)
        if error == _ERROR_WANT_READ:
            break
        if error == _ERROR_WANT_WRITE:
            tls.wants_write = 1
            break
        if error == _ERROR_ZERO_RETURN:
            tls.is_over = 1
        else:
            _break(tls)
    if count > 0:
        return count
    return -1 if tls.is_over else 0


cdef Py_ssize_t tls_write(Tls *tls, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef int result
    if tls.is_broken or tls.is_ended:
        return -1
    if size > TLS_RECORD_SIZE:
        size = TLS_RECORD_SIZE
    result = tls.library.write(tls.ssl, data, <int> size)
    if result > 0:
        tls.blocked_size = 0
        return result
    # It never wants to read: that would be a renegotiation, which is off.
    if tls.library.get_error(tls.ssl, result) == _ERROR_WANT_WRITE:
        if tls.blocked_size == 0:
            tls.blocked_size = <uint32_t> size
        return 0
    _break(tls)
    return -1


cdef int tls_settle(Tls *tls) noexcept nogil:
    cdef int result
    if tls.is_broken:
        return -1
    result = tls.library.do_handshake(tls.ssl)
    if result == 1:
        tls.wants_write = 0
        return 1
    if tls.library.get_error(tls.ssl, result) == _ERROR_WANT_WRITE:
        return 0
    _break(tls)
    return -1


cdef void tls_end(Tls *tls) noexcept nogil:
    if tls.is_broken or tls.is_ended or tls.blocked_size > 0 or tls.wants_write:
        return
    tls.is_ended = 1
    if tls.library.shutdown(tls.ssl) < 0:
        # No room for it, or the client has gone: the end of the socket has to do.
        tls.library.clear_errors()
