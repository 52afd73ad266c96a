"""See verdicts.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from rookery.core.permissions.rule_set cimport ACTION_PUBLISH, Identity, RuleSet, rule_set_check
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey, hash_bytes

cdef enum:
    _FIRST_CAPACITY = 2


cdef void verdict_cache_clear(VerdictCache *cache) noexcept nogil:
    free(cache.entries)
    memset(cache, 0, sizeof(VerdictCache))


cdef void _make_room(VerdictCache *cache) noexcept nogil:
    """A larger table, empty: what is asked for often is soon there again."""
    cdef uint16_t capacity = cache.capacity * 2 if cache.capacity > 0 else <uint16_t> _FIRST_CAPACITY
    cdef VerdictEntry *entries = <VerdictEntry *> calloc(capacity, sizeof(VerdictEntry))
    cache.evictions = 0
    # Without memory it goes on with what it has, which may be nothing.
    if entries != NULL:
        free(cache.entries)
        cache.entries = entries
        cache.last = NULL
        cache.capacity = capacity


cdef uint8_t verdict_search(
    VerdictCache *cache, const HashKey *key, const RuleSet *rules, const Identity *identity, Bytes topic
) noexcept nogil:
    cdef uint32_t hash
    cdef VerdictEntry *entry
    if topic.size > VERDICT_TOPIC_SIZE:
        return rule_set_check(rules, ACTION_PUBLISH, identity, topic)
    hash = <uint32_t> hash_bytes(key, topic.data, topic.size)
    if cache.capacity > 0:
        entry = &cache.entries[hash & (cache.capacity - 1)]
        if entry.hash == hash and entry.size == topic.size and memcmp(entry.topic, topic.data, topic.size) == 0:
            cache.last = entry
            return entry.verdict
        if entry.size > 0:
            cache.evictions += 1
    if cache.capacity == 0 or (cache.evictions >= cache.capacity and cache.capacity < VERDICTS_MAXIMUM):
        _make_room(cache)
        if cache.capacity == 0:
            return rule_set_check(rules, ACTION_PUBLISH, identity, topic)
    entry = &cache.entries[hash & (cache.capacity - 1)]
    entry.hash = hash
    entry.size = <uint16_t> topic.size
    entry.verdict = rule_set_check(rules, ACTION_PUBLISH, identity, topic)
    memcpy(entry.topic, topic.data, topic.size)
    cache.last = entry
    return entry.verdict
