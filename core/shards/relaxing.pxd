"""Relaxing: a shard gives back what its busiest time has left behind, piece by piece, while it has the time for it.

    what                           is kept while
    ----                           -------------
    buffers of outboxes            they were needed since the last step; of the others half go in each
    topics in the match cache      they come again within RELAX_ROUNDS steps
    free blocks of the allocator   the shard is busy; after CALM_STEPS calm ones the allocator returns its free pages

The allocator is asked last and seldom, because whoever allocates meanwhile waits for it: 20 ms where half of a million
blocks are free, 100 ms when all of them are returned. So it is not asked again before ASK_SHARE times as long.
"""

from libc.stdint cimport uint64_t
from rookery.core.shards.state cimport Shard

cdef enum:
    RELAX_MS = 1000             # between two steps
    RELAX_ROUNDS = 60           # steps in which the whole match cache is looked through
    CALM_CPU_NS = 50000000      # of CPU time in one step at most: a twentieth of a core
    CALM_STEPS = 5              # so many of them one after the other
    ASK_SHARE = 1000            # of the CPU time that asking has taken
    TRIM_WORTH_BYTES = 1048576  # freed by relaxing: the allocator is asked even if the shard never was busy


# In each turn: nothing happens before RELAX_MS have gone by.
cdef inline void relax(Shard *shard) noexcept nogil:
    if shard.world.now_ms >= shard.relaxing.due_ms:
        relax_step(shard)


cdef void relax_step(Shard *shard) noexcept nogil
