"""From bytes to packets: reading a ready connection, walking whole packets in place, keeping what is incomplete."""

from rookery.core.shards.state cimport Connection


# The kernel says that there is something to read. The connection may be gone afterwards.
cdef void connection_readable(Connection *connection) noexcept nogil
# Look again at bytes that were kept while the connection waited; then, without a socket, read on.
cdef void connection_resume(Connection *connection) noexcept nogil
