"""See relaxing.pxd."""

from libc.stdint cimport uint64_t

from rookery.core.sessions.outbox cimport SEGMENT_CAPACITY, pool_is_relaxed, pool_relax
from rookery.core.shards.state cimport Relaxing, Shard
from rookery.core.topics.cache cimport cache_is_empty, cache_relax

cdef extern from *:
    """
    #include <time.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    #define ROOKERY_TRIM() ((void) malloc_trim(0))
    #else
    #define ROOKERY_TRIM() ((void) 0)  /* The others do it by themselves. */
    #endif
    static inline unsigned long long rookery_thread_cpu_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (unsigned long long) now.tv_sec * 1000000000 + now.tv_nsec;
    }
    """
    void ROOKERY_TRIM() noexcept nogil
    uint64_t rookery_thread_cpu_ns() noexcept nogil

cdef enum:
    _TOPIC_BYTES = 128  # of a topic in the match cache, more or less


cdef void _ask_allocator(Shard *shard) noexcept nogil:
    cdef Relaxing *relaxing = &shard.relaxing
    cdef uint64_t began_ns = rookery_thread_cpu_ns()
    ROOKERY_TRIM()
    relaxing.cpu_ns = rookery_thread_cpu_ns()
    relaxing.ask_from_ms = shard.world.now_ms + (relaxing.cpu_ns - began_ns) * ASK_SHARE // 1000000
    relaxing.is_worn = 0
    relaxing.calm_steps = 0
    relaxing.freed_bytes = 0


cdef void _look_at_calm(Shard *shard) noexcept nogil:
    cdef Relaxing *relaxing = &shard.relaxing
    cdef uint64_t cpu_ns = rookery_thread_cpu_ns()
    # Less than before where tests turn a shard in several threads.
    if cpu_ns > relaxing.cpu_ns + CALM_CPU_NS:
        relaxing.is_worn = 1
        relaxing.calm_steps = 0
    elif relaxing.is_worn:
        relaxing.calm_steps += 1
    relaxing.cpu_ns = cpu_ns
    if relaxing.calm_steps >= CALM_STEPS and shard.world.now_ms >= relaxing.ask_from_ms:
        _ask_allocator(shard)


cdef void relax_step(Shard *shard) noexcept nogil:
    cdef Relaxing *relaxing = &shard.relaxing
    relaxing.due_ms = shard.world.now_ms + RELAX_MS
    relaxing.freed_bytes += <uint64_t> pool_relax(&shard.pool) * SEGMENT_CAPACITY
    relaxing.freed_bytes += <uint64_t> cache_relax(shard.world.cache, RELAX_ROUNDS) * _TOPIC_BYTES
    if relaxing.freed_bytes >= TRIM_WORTH_BYTES:
        relaxing.is_worn = 1
    _look_at_calm(shard)
    relaxing.is_at_rest = (
        not relaxing.is_worn and pool_is_relaxed(&shard.pool) and cache_is_empty(shard.world.cache))
