"""The turn of a shard: one pass over everything that is ready. A thread loops over it; a test calls it step by step."""

from libc.stdint cimport uint64_t
from rookery.core.shards.state cimport Shard


# One turn at the time now_ms (clock of the shards, never decreasing), without waiting for anything.
# False when the shard has stopped.
cdef bint shard_turn(Shard *shard, uint64_t now_ms) noexcept nogil
# Turns by the system's clock, waiting while there is nothing to do, until the shard has stopped.
cdef void shard_run(Shard *shard) noexcept nogil
# What came from other shards.
cdef void turn_take_mail(Shard *shard) noexcept nogil
cdef uint64_t clock_ms() noexcept nogil
