"""SubscriptionTree: the topic filters of one tenant, and which shards want each.

One tree per tenant, shared by all shards. Matching takes no lock; adding and removing a topic filter takes the tree's
mutex; what readers may still see is handed to a ReclaimDomain. The tree knows no session: who subscribed hangs off
the filter *per shard* and belongs to that shard (see rookery.core.sessions.routes); the tree holds a bit per shard.

A filter id names a topic filter while at least one shard wants it; afterwards the number may be given to another
filter, but not before every shard has ended its turn. Ids are small dense integers (they index arrays).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from rookery.core.structures.hashing cimport HashKey
from rookery.core.structures.reclaim cimport ReclaimDomain

cdef enum:
    NO_FILTER = 0               # never a filter id
    SHARD_COUNT_MAXIMUM = 64    # bits of a shard mask

cdef struct SubscriptionTree

cdef struct FilterIds:          # a growable array that the caller keeps and reuses
    uint32_t *ids
    uint32_t count
    uint32_t capacity


cdef SubscriptionTree *tree_new(const HashKey *key, ReclaimDomain *reclaim) noexcept nogil
# Frees at once: no shard may look at the tree any more.
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
# Stamps for the match cache: they change whenever the set of filters that may match topic changes.
cdef uint64_t tree_generation(const SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil
