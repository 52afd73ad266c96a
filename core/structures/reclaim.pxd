"""Quiescent-state reclamation: memory that readers may still look at is freed once every shard has ended a turn.

Readers (shards) take no lock and announce nothing while they read. A writer that unlinks something hands it over with
reclaim_later; it is released when every shard that was running then has passed a quiescent point (the end of a turn)
or is offline (blocked in epoll, holding no reference). With one shard that is simply the end of its turn.
"""

from libc.stdint cimport uint32_t, uint64_t

ctypedef void (*ReleaseFunction)(void *context, uint64_t argument) noexcept nogil

cdef struct ReclaimDomain


# shard_count readers, all offline at first. NULL when memory is short.
cdef ReclaimDomain *reclaim_new(uint32_t shard_count) noexcept nogil
# Releases everything that still waits. No reader may run any more.
cdef void reclaim_free(ReclaimDomain *domain) noexcept nogil
# Call release(context, argument) in first-in first-out order once no shard can hold a reference any more. Any thread;
# one that is no shard lets go of the thing with this call. 0, or -1 when memory is short (then nothing was taken; the
# caller leaks rather than frees too early).
cdef int reclaim_later(
    ReclaimDomain *domain, ReleaseFunction release, void *context, uint64_t argument) noexcept nogil
# How many hand-overs have not been released yet.
cdef uint64_t reclaim_waiting_count(ReclaimDomain *domain) noexcept nogil
# A shard begins to read (after it was offline), ends a turn, or goes to sleep. The last two release what is due.
cdef void reclaim_online(ReclaimDomain *domain, uint32_t shard) noexcept nogil
cdef void reclaim_quiescent(ReclaimDomain *domain, uint32_t shard) noexcept nogil
cdef void reclaim_offline(ReclaimDomain *domain, uint32_t shard) noexcept nogil
