"""Listening sockets in the epoll of a shard: accepting, and waiting when the process has no descriptor left."""

from libc.stdint cimport uint32_t, uint8_t
from rookery.core.shards.state cimport Listener, Shard
from rookery.core.streams.websocket cimport WebSocket

cdef enum:
    LISTENER_FIRST = 0xFFFF0000  # epoll's names for listeners; connections are below


# descriptor stays the caller's. 0, or -1 when memory is short.
cdef int listener_add(Shard *shard, int descriptor, uint32_t listener_id) noexcept nogil
# Something waits at the listener with this index.
cdef void listener_accept(Shard *shard, uint32_t index) noexcept nogil
# TIMER_LISTENER fired.
cdef void listener_resume(Shard *shard, Listener *listener) noexcept nogil
cdef void listeners_clear(Shard *shard) noexcept nogil
# A connection that was accepted elsewhere; takes over the descriptor and what is known of its frames (NULL = none).
cdef void adopt(Shard *shard, int descriptor, uint32_t listener_id, WebSocket *websocket) noexcept nogil
