"""Bytes in and out of a connection: the one place that touches sockets. Decoding does not know which kind it is."""

from libc.stdint cimport uint8_t
from rookery.core.shards.state cimport Connection, MemoryLink

cdef enum ReadResult:
    READ_WOULD_BLOCK = 0
    READ_CLOSED = -1     # end of stream or an error: nothing more will come

cdef enum FlushResult:
    FLUSH_DONE = 0       # nothing waits any more
    FLUSH_BLOCKED = 1    # the rest waits until the peer takes more
    FLUSH_FAILED = -1    # the connection is dead


# Bytes read (1 to size), or a ReadResult.
cdef Py_ssize_t transport_read(Connection *connection, uint8_t *out, Py_ssize_t size) noexcept nogil
# Bytes came already that the kernel knows nothing of, or the end of the stream did.
cdef bint transport_has_read(const Connection *connection) noexcept nogil
# First into first, then into second.
cdef Py_ssize_t transport_read_two(
    Connection *connection, uint8_t *first, Py_ssize_t first_size, uint8_t *second,
    Py_ssize_t second_size) noexcept nogil
# Send what waits in the outbox, as much as is taken at once.
cdef FlushResult transport_flush(Connection *connection) noexcept nogil
# No byte will follow: the peer sees the end of the stream after the last one.
cdef void transport_end(Connection *connection) noexcept nogil
cdef void transport_close(Connection *connection) noexcept nogil

cdef MemoryLink *memory_link_new() noexcept nogil
cdef void memory_link_release(MemoryLink *link) noexcept nogil
# True when the shard has something to read, or the far end has hung up.
cdef bint memory_link_is_readable(MemoryLink *link) noexcept nogil
