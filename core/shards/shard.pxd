"""The life of a shard: made with its epoll, queues and tables; freed with everything that it owns."""

from libc.stdint cimport uint32_t
from rookery.core.shards.state cimport Shard, Universe

cdef enum:
    WAKE_NAME = 0xFFFFFFFF  # epoll's name for the eventfd of the mailbox


# A shard that does not run yet. NULL when a resource is missing.
cdef Shard *shard_new(Universe *universe, uint32_t index) noexcept nogil
# It must not run any more, and no other shard either.
cdef void shard_free(Shard *shard) noexcept nogil
