"""The connection table of a shard: making, finding, closing connections, and what epoll knows of them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.shards.state cimport Connection, MemoryLink, Shard


# A new connection in state CONNECT_DUE, its connect time-out running; takes over descriptor or memory, and peer
# (allocated text). NULL when memory is short (then nothing was taken over).
cdef Connection *connection_new(
    Shard *shard, int descriptor, MemoryLink *memory, uint32_t listener_id, uint8_t *peer, uint16_t peer_size
) noexcept nogil
# The connection at index if it is still of that generation, else NULL.
cdef Connection *connection_find(Shard *shard, uint32_t index, uint32_t generation) noexcept nogil
# How the control plane names it: shard, generation and index in one number, never reused in practice.
cdef uint64_t connection_handle(const Connection *connection) noexcept nogil
cdef Connection *connection_by_handle(Shard *shard, uint64_t handle) noexcept nogil

# Ask the kernel to tell when bytes come / are taken; cheap when nothing changes.
cdef void connection_want(Connection *connection, bint reading, bint writing) noexcept nogil
# Stop serving the client and give everything back at once. The session must be detached.
cdef void connection_drop(Connection *connection) noexcept nogil
# The control plane hears that the connection with this ticket is gone.
cdef void connection_report_closed(Shard *shard, uint64_t ticket) noexcept nogil
# Send what waits in the outbox, then close; the peer gets LINGER_MS to read it. The session must be detached.
cdef void connection_linger(Connection *connection) noexcept nogil
# Send what waits now. False when the connection was dropped by it (only without a session) or is dead (with one).
cdef bint connection_flush(Connection *connection) noexcept nogil
# Its exchange of AUTH packets, if there is one, is over.
cdef void connection_end_exchange(Connection *connection) noexcept nogil
# The control plane has decided about a CONNECT: whatever becomes of the connection now, it needs no telling.
cdef void connection_forget_authentication(Connection *connection) noexcept nogil
# Bytes that came before are to be looked at in the next turn, whatever the kernel says.
cdef void connection_ready(Connection *connection) noexcept nogil
# A dropped connection whose outbox has left the flush list: its place may be used again.
cdef void connection_release(Connection *connection) noexcept nogil
