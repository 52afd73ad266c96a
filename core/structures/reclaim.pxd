"""Quiescent-state reclamation: memory that readers may still look at is freed once every shard has ended a turn.

Readers (shards) take no lock and announce nothing while they read. A writer that unlinks something hands it over with
reclaim_later; it is released when every shard that was running then has passed a quiescent point (the end of a turn)
or is offline (blocked in epoll, holding no reference). With one shard that is simply the end of its turn.
"""

from libc.stdint cimport uint32_t, uint64_t
from rookery.core.structures.mutex cimport Mutex

ctypedef void (*ReleaseFunction)(void *context, uint64_t argument) noexcept nogil

cdef enum:
    WAITING_PER_BLOCK = 127  # a block then fills a page

# Private, as are its parts; they are here because C must know the structs that others name.
cdef struct Waiting:
    uint64_t stamp            # the epoch that its hand-over began
    ReleaseFunction release   # NULL: context are pages, argument is their size
    void *context
    uint64_t argument

cdef struct WaitingBlock:
    WaitingBlock *next
    uint64_t taken                       # items of this block that have been released
    Waiting items[WAITING_PER_BLOCK]

cdef struct ReclaimShard:
    uint64_t seen             # the epoch at its last quiescent point; 0 = offline. Written by this shard alone.
    uint64_t unused[7]        # a cache line each: shards write theirs at the end of every turn

cdef struct ReclaimDomain:
    ReclaimShard *shards
    uint32_t shard_count
    uint32_t is_releasing     # one shard is at it
    uint64_t epoch            # counts hand-overs, from 1
    uint64_t waiting_count    # read without the mutex, to return early
    Mutex mutex               # guards what follows
    WaitingBlock *head
    WaitingBlock *tail
    WaitingBlock *spare       # one emptied block is kept
    uint64_t tail_count       # items of the last block that are in use


# shard_count readers, all offline at first. NULL when memory is short.
cdef ReclaimDomain *reclaim_new(uint32_t shard_count) noexcept nogil
# Releases everything that still waits. No reader may run any more.
cdef void reclaim_free(ReclaimDomain *domain) noexcept nogil
# Call release(context, argument) in first-in first-out order once no shard can hold a reference any more. Any thread;
# one that is no shard lets go of the thing with this call. 0, or -1 when memory is short (then nothing was taken; the
# caller leaks rather than frees too early).
cdef int reclaim_later(
    ReclaimDomain *domain, ReleaseFunction release, void *context, uint64_t argument) noexcept nogil
# Free what pages_allocate gave, once no shard can look at it any more: a piece with each turn, because to unmap 64 MiB
# takes 2 ms. Any thread. 0, or -1 when memory is short (then nothing was taken).
cdef int reclaim_pages(ReclaimDomain *domain, void *memory, size_t size) noexcept nogil
# How many hand-overs have not been released yet.
cdef uint64_t reclaim_waiting_count(ReclaimDomain *domain) noexcept nogil
# A shard begins to read (after it was offline), ends a turn, or goes to sleep. The last two release what is due.
cdef void reclaim_online(ReclaimDomain *domain, uint32_t shard) noexcept nogil
cdef void reclaim_quiescent(ReclaimDomain *domain, uint32_t shard) noexcept nogil
cdef void reclaim_offline(ReclaimDomain *domain, uint32_t shard) noexcept nogil
