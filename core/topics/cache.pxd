"""MatchCache: topic -> ids of the topic filters that match it. One per shard, touched by that shard alone.

Because it holds filters and not subscribers, joining or leaving a filter that exists invalidates nothing. Creation and
removal of a filter change generations of its tree; an entry whose stamps differ is matched again.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey
from rookery.core.topics.tree cimport SubscriptionTree, TopicFilters

cdef enum:
    FORESEEN_TOPICS = 16   # about as many reads of memory as a core has under way at a time

cdef struct MatchCache

cdef struct MatchEntry:
    uint32_t count       # filter ids that match
    const uint32_t *ids  # valid until the next call of cache_match, and not beyond the end of the turn

cdef struct MatchCacheStatistics:
    uint64_t hits
    uint64_t misses      # never seen, evicted, or of an older generation
    uint64_t evictions
    uint64_t entry_count
    uint64_t memory_bytes


# topic_limit: topics kept at most (CLOCK eviction). NULL when memory is short.
cdef MatchCache *cache_new(const HashKey *key, uint32_t topic_limit) noexcept nogil
cdef void cache_free(MatchCache *cache) noexcept nogil
# NULL when memory is short. 30 ns when hot.
cdef const MatchEntry *cache_match(
    MatchCache *cache, SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil
# Bring what cache_match will read for these topics into the caches of the processor, their waits side by side.
# first_ids: the first filter id of each, NO_FILTER where there is none or the topic is not known. 1 <= count.
cdef void cache_foresee(
    const MatchCache *cache, const SubscriptionTree *tree, const Bytes *topics, uint32_t count, uint32_t *first_ids
) noexcept nogil
# Calls of cache_match so far, if the cache is too large for the caches of the processor; else 0.
cdef uint64_t cache_far_lookups(const MatchCache *cache) noexcept nogil
# Forget everything of a tree that is about to be freed. Cost: the whole cache is walked.
cdef void cache_forget(MatchCache *cache, const SubscriptionTree *tree) noexcept nogil
# Look through a part of the cache, all of it in so many rounds at most: what was not hit since the last time goes.
# Returns how many topics that were.
cdef uint32_t cache_relax(MatchCache *cache, uint32_t rounds) noexcept nogil
cdef uint64_t cache_topic_count(const MatchCache *cache) noexcept nogil
cdef bint cache_is_empty(const MatchCache *cache) noexcept nogil
cdef void cache_statistics(const MatchCache *cache, MatchCacheStatistics *out) noexcept nogil


cdef class TopicMatcher:
    cdef MatchCache *cache
    cdef TopicFilters filters
