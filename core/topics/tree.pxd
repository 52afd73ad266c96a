"""SubscriptionTree: the topic filters of one tenant, and which shards want each.

One tree per tenant, shared by all shards. Matching takes no lock; adding and removing a topic filter takes the tree's
mutex; what readers may still see is handed to a ReclaimDomain. The tree knows no session: who subscribed hangs off
the filter *per shard* and belongs to that shard (see rookery.core.sessions.routes); the tree holds a bit per shard.

Whatever reads without the mutex (all but add, remove, count and memory) runs within the turn of a shard, that is while
it is online in the domain.

A filter id names a topic filter while at least one shard wants it; afterwards the number may be given to another
filter, but not before every shard has ended its turn. Ids are small dense integers (they index arrays).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.atomics cimport atomic_load_pointer, atomic_load_u64
from rookery.core.structures.hashing cimport HashKey, fold_multiply, load_tail, load_word
from rookery.core.structures.mutex cimport Mutex
from rookery.core.structures.pool cimport Pool
from rookery.core.structures.reclaim cimport ReclaimDomain
from rookery.core.structures.table cimport Table
from rookery.core.topics.levels cimport Levels

cdef enum:
    NO_FILTER = 0               # never a filter id
    SHARD_COUNT_MAXIMUM = 64    # bits of a shard mask

    GENERATION_COUNT = 64       # counters of a tree that is not small, a power of two
    PREFIX_SIZE = 64            # bytes of a topic that choose its counters

cdef struct FilterIds:          # a growable array that the caller keeps and reuses; starts as all 0
    uint32_t *ids               # of malloc: free(ids) when done. Behind count it is the scratch of tree_match.
    uint32_t count
    uint32_t capacity

cdef struct TreeNode:
    uint32_t parent             # a node; fixed as long as the node can be reached; then the pool's
    uint32_t level              # number of its level, or what stands for + and #; fixed likewise
    uint64_t shard_mask         # who wants the filter that ends here; 0 = none ends here
    uint32_t single_child       # the child `+`, or 0
    uint32_t multi_child        # the child `#`, or 0
    uint32_t inline_child       # one of the other children, or 0: in a chain of nodes there is just this one
    uint32_t edge_count         # further children, in the edge table

cdef struct SubscriptionTree:   # private; it is here for tree_generation to be inline
    uint64_t serial             # never the same for two trees of the process; a freed tree's address comes back
    uint64_t wildcard_generation  # counts comings and goings of filters whose first level is a wildcard
    uint64_t generation         # of all others, while the tree is small
    uint64_t *generations       # of all others, by their first two levels; NULL while the tree is small
    Pool nodes                  # TreeNode
    Table edges                 # hash of (node, level) -> child node
    Levels levels               # its key is the tree's
    ReclaimDomain *reclaim      # borrowed
    uint64_t filter_count
    uint64_t pending_count      # hand-overs to reclaim that name this tree and have not come back
    Mutex mutex                 # one writer at a time


cdef SubscriptionTree *tree_new(const HashKey *key, ReclaimDomain *reclaim) noexcept nogil
# No shard may look at the tree any more. What other trees' turns still hold back of it is freed with them.
cdef void tree_free(SubscriptionTree *tree) noexcept nogil
# The filter id of topic_filter, made if need be, with shard's bit set. NO_FILTER when memory is short.
cdef uint32_t tree_add(
    SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size, uint32_t shard) noexcept nogil
# Clear shard's bit; the filter goes when no shard wants it any more.
cdef void tree_remove(SubscriptionTree *tree, uint32_t filter_id, uint32_t shard) noexcept nogil
# The filter id of exactly this topic filter, or NO_FILTER.
cdef uint32_t tree_find(SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size) noexcept nogil
# The ids of all topic filters that match the checked topic, each once, in no order. 0, or -1 when memory is short.
# A leading $ is not matched by a leading wildcard [MQTT-4.7.2-1]. Lock-free; ids are valid until the end of the turn.
cdef int tree_match(
    SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size, FilterIds *out) noexcept nogil
# Bit s: shard s wants this filter.
cdef uint64_t tree_shard_mask(const SubscriptionTree *tree, uint32_t filter_id) noexcept nogil
# Writes the text of the filter, at most capacity bytes; returns its size in bytes.
cdef Py_ssize_t tree_filter_text(
    SubscriptionTree *tree, uint32_t filter_id, uint8_t *out, Py_ssize_t capacity) noexcept nogil
cdef uint64_t tree_filter_count(const SubscriptionTree *tree) noexcept nogil
# Bytes of memory that the tree holds.
cdef uint64_t tree_memory_bytes(const SubscriptionTree *tree) noexcept nogil


# Where a topic or topic filter falls among the generations: one counter for its first level, one for its first two.
cdef struct PrefixCounters:
    uint32_t first
    uint32_t second


# Hash the first two levels, word by word; what a `/` would stand behind ends a level, too. No keyed hash is needed: to
# share a counter costs a tenant nothing but a few of its own cache entries.
cdef inline PrefixCounters prefix_counters(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef PrefixCounters counters
    cdef uint64_t hash = 0x9E3779B97F4A7C15ULL
    cdef uint64_t word
    cdef uint64_t differing
    cdef uint64_t slashes  # 0x80 in every byte of word that is a slash
    cdef bint is_first = True
    if size > PREFIX_SIZE:
        size = PREFIX_SIZE
    counters.first = 0
    while True:
        if size >= 8:
            word = load_word(text)
        else:  # as if there were slashes behind the end
            word = load_tail(text, size) | 0x2F2F2F2F2F2F2F2FULL << (8 * size)
        differing = word ^ 0x2F2F2F2F2F2F2F2FULL
        slashes = ~(((differing & 0x7F7F7F7F7F7F7F7FULL) + 0x7F7F7F7F7F7F7F7FULL) | differing | 0x7F7F7F7F7F7F7F7FULL)
        if slashes and is_first:
            is_first = False
            counters.first = prefix_index(hash, word, slashes)
            slashes &= slashes - 1
        if slashes:
            counters.second = prefix_index(hash, word, slashes)
            return counters
        hash = (hash ^ word) * 0xD6E8FEB86659FD93ULL
        hash ^= hash >> 32
        text += 8
        size = size - 8 if size > 8 else 0


# The counter for everything before the first of the slashes.
cdef inline uint32_t prefix_index(uint64_t hash, uint64_t word, uint64_t slashes) noexcept nogil:
    cdef uint64_t before = ((slashes & (~slashes + 1)) >> 7) - 1
    return <uint32_t> (((hash ^ (word & before)) * 0xD6E8FEB86659FD93ULL) >> 58)


# A stamp for the match cache: it grows whenever the set of filters that may match topic changes, and never shrinks.
# Take it before matching: what comes or goes meanwhile makes it grow afterwards.
cdef inline uint64_t tree_generation(
    const SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    cdef uint64_t *generations = <uint64_t *> atomic_load_pointer(<void **> &tree.generations)
    cdef PrefixCounters counters
    if generations == NULL:
        return atomic_load_u64(&tree.wildcard_generation) + atomic_load_u64(&tree.generation)
    counters = prefix_counters(topic, size)
    return (
        atomic_load_u64(&tree.wildcard_generation)
        + atomic_load_u64(&generations[counters.first])
        + atomic_load_u64(&generations[counters.second]))


cdef class TopicFilters:
    cdef SubscriptionTree *tree
    cdef ReclaimDomain *reclaim  # reader 0 is the Python caller, offline between two calls
    cdef FilterIds found
    cdef object rules

    cdef bytes parse(self, str topic_filter)
