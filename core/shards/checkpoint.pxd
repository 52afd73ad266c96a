"""Checkpoints: what is alive is written anew, so that the old end of the log may go.

When the log has grown by what the last checkpoint wrote and by a few segments, each shard writes all its sessions and
retained messages once more, a bounded step in each turn. What changes meanwhile is written as always and lies behind.
When every shard has done so and it is durable, all segments before the beginning go. Thus the log is never much larger
than three times what is alive, and reading it back at a start takes a time that is bounded in the same way.

A session is written as one group, with messages that several sessions wait for written once.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.shards.state cimport Shard


# One step, if one is due. Before what was recorded is submitted.
# Begin one now; for the first shard, while none is under way.
cdef void checkpoint_begin(Shard *shard) noexcept nogil
cdef void checkpoint_step(Shard *shard) noexcept nogil
cdef bint checkpoint_has_work(const Shard *shard) noexcept nogil
cdef void checkpoint_clear(Shard *shard) noexcept nogil
