"""Listening sockets in the epoll of a shard: accepting, and waiting when the process has no descriptor left."""

from libc.stdint cimport uint32_t
from rookery.core.shards.state cimport Command, Listener, Shard

cdef enum:
    LISTENER_FIRST = 0xFFFF0000  # epoll's names for listeners; connections are below


# descriptor stays the caller's. 0, or -1 when memory is short.
cdef int listener_add(Shard *shard, int descriptor, uint32_t listener_id) noexcept nogil
# Something waits at the listener with this index.
cdef void listener_accept(Shard *shard, uint32_t index) noexcept nogil
# TIMER_LISTENER fired.
cdef void listener_resume(Shard *shard, Listener *listener) noexcept nogil
cdef void listeners_clear(Shard *shard) noexcept nogil
# A connection that was accepted elsewhere, with all that COMMAND_ADOPT says of it; takes over descriptor and ssl.
cdef void adopt(Shard *shard, Command *command) noexcept nogil
# The same when no shard will ever serve it.
cdef void adopt_nobody(Shard *shard, Command *command) noexcept nogil
