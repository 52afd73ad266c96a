"""VerdictCache: what the rules said about the topics that one session publishes to.

Most clients publish to one topic or a few, thousands of times. The cache is part of the session and lives as long as
its RuleSet is in force for it: a set never changes, so nothing in the cache can be out of date. It has no entry until
the first publication and grows while its topics push each other out.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp
from rookery.core.permissions.rule_set cimport Identity, RuleSet
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey

cdef enum:
    VERDICT_TOPIC_SIZE = 121     # bytes of a topic that is remembered; the rules are asked about longer ones each time
    VERDICTS_MAXIMUM = 256       # entries of one session, 32 KiB: a client cannot make it grow further


cdef struct VerdictEntry:        # two cache lines
    uint32_t hash
    uint16_t size                # bytes of the topic; 0 = free
    uint8_t verdict
    uint8_t topic[121]           # VERDICT_TOPIC_SIZE


cdef struct VerdictCache:        # starts as all 0
    VerdictEntry *entries        # a topic has one place; NULL while there is none
    const VerdictEntry *last     # used last: many messages in a row repeat their topic
    uint16_t capacity            # power of two
    uint16_t evictions           # since it last grew


cdef void verdict_cache_clear(VerdictCache *cache) noexcept nogil
# The part of verdict_of that is seldom the last topic again.
cdef uint8_t verdict_search(
    VerdictCache *cache, const HashKey *key, const RuleSet *rules, const Identity *identity, Bytes topic) noexcept nogil


# The verdict about topic if it is the one asked for last; then *is_known is 1.
cdef inline uint8_t verdict_of_last(const VerdictCache *cache, Bytes topic, bint *is_known) noexcept nogil:
    is_known[0] = (
        cache.last != NULL
        and cache.last.size == topic.size
        and memcmp(cache.last.topic, topic.data, topic.size) == 0
    )
    return cache.last.verdict if is_known[0] else 0
