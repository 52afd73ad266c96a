"""MatchCache: how topics are kept.

Entries stand in an array of topic_limit; an index of at least twice as many slots leads from the hash to them (linear
probing, at most half full, one word `hash << 32 | entry number + 1` per slot). What an entry found, and its topic,
stand in one block of its own:

    index  [ ][h|3][ ][h|1][h|2][ ][ ][ ]          entry 2: serial, generation, hash --> block: ids, topic bytes

When all entries are in use, or their blocks hold more bytes than BYTES_PER_TOPIC for each, the clock's hand goes round:
an entry that was hit since it came by is spared once, the first that was not makes room. A new entry counts as not hit,
so topics that come once do not push out those that come often.

A match with very many filters would take much of the memory for one topic; it is handed out from the scratch array and
not kept. Its cost is that of the subscribers that it will be delivered to, anyway.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from rookery.core.structures.atomics cimport prefetch
from rookery.core.structures.bytes cimport Bytes, is_same
from rookery.core.structures.hashing cimport HashKey, hash_bytes, parse_hash_key
from rookery.core.structures.pages cimport pages_allocate, pages_clear, pages_free
from rookery.core.structures.reclaim cimport reclaim_offline, reclaim_online
from rookery.core.topics.tree cimport (
    NO_FILTER, FilterIds, SubscriptionTree, TopicFilters, tree_generation, tree_match)

import os

cdef enum:
    BYTES_PER_TOPIC = 256          # of ids and topic, on average over the entries
    BLOCK_BYTES_MINIMUM = 65536    # what even the smallest cache may hold in blocks
    BLOCK_SHARE = 16               # one block takes at most this part of the bytes
    HAND_STEPS_MAXIMUM = 64        # entries that the hand passes for one newcomer
    SPARSE_SHARE = 16              # with less than this part of its entries in use a cache begins anew

    FAR_ENTRIES = 4096             # from so many on they do not stay near: 1 MiB with blocks and routes

    FREE_ENTRY = 0                 # no tree has this serial number

cdef struct CacheEntry:
    uint64_t serial        # of the tree; FREE_ENTRY
    uint64_t generation    # stamp of the tree from before the match
    MatchEntry found       # what is handed out; found.ids is the block
    uint32_t hash          # of topic and serial; of a free entry: the next free one, as the index counts
    uint32_t topic_size
    uint32_t block_size    # bytes allocated
    uint32_t was_hit       # since the hand came by
    uint64_t unused        # fills a cache line

cdef struct MatchCache:
    CacheEntry *entries
    uint64_t *index
    uint32_t index_mask
    uint32_t entry_limit
    uint32_t entry_used    # entries from here on have never been in use
    uint32_t free_head     # free entries before that, entry number + 1
    uint32_t hand
    uint32_t relaxed       # entries before this one have been looked at in the present round of relaxing
    uint64_t block_bytes
    uint64_t block_bytes_limit
    MatchEntry uncached    # handed out when a match is not kept
    FilterIds scratch
    HashKey key
    MatchCacheStatistics statistics


cdef MatchCache *cache_new(const HashKey *key, uint32_t topic_limit) noexcept nogil:
    cdef MatchCache *cache = <MatchCache *> calloc(1, sizeof(MatchCache))
    cdef uint64_t slots = 2
    if cache == NULL:
        return NULL
    cache.entry_limit = max(topic_limit, 1)
    while slots < 2 * <uint64_t> cache.entry_limit:
        slots *= 2
    cache.index_mask = <uint32_t> (slots - 1)
    cache.index = <uint64_t *> pages_allocate(slots * sizeof(uint64_t))
    cache.entries = <CacheEntry *> pages_allocate(cache.entry_limit * sizeof(CacheEntry))
    cache.block_bytes_limit = max(<uint64_t> cache.entry_limit * BYTES_PER_TOPIC, <uint64_t> BLOCK_BYTES_MINIMUM)
    cache.key = key[0]
    if cache.index == NULL or cache.entries == NULL:
        cache_free(cache)
        return NULL
    return cache


cdef void cache_free(MatchCache *cache) noexcept nogil:
    cdef uint32_t number
    if cache == NULL:
        return
    if cache.entries != NULL:
        for number in range(cache.entry_used):
            free(<void *> cache.entries[number].found.ids)
    pages_free(cache.entries, cache.entry_limit * sizeof(CacheEntry))
    pages_free(cache.index, (<size_t> cache.index_mask + 1) * sizeof(uint64_t))
    free(cache.scratch.ids)
    free(cache)


cdef const MatchEntry *cache_match(
    MatchCache *cache, SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    # The stamp is taken before the tree is looked at: see tree_generation.
    cdef uint64_t generation = tree_generation(tree, topic, size)
    cdef uint32_t hash = topic_hash(cache, tree, topic, size)
    cdef CacheEntry *entry = find_entry(cache, tree, hash, topic, size)
    if entry != NULL and entry.generation == generation:
        cache.statistics.hits += 1
        entry.was_hit = 1
        return &entry.found
    cache.statistics.misses += 1
    if tree_match(tree, topic, size, &cache.scratch) < 0:
        return NULL
    entry = keep(cache, entry, hash, topic, size)
    if entry == NULL:
        cache.uncached.count = cache.scratch.count
        cache.uncached.ids = cache.scratch.ids
        return &cache.uncached
    entry.serial = tree.serial
    entry.generation = generation
    return &entry.found


cdef void cache_foresee(
    const MatchCache *cache, const SubscriptionTree *tree, const Bytes *topics, uint32_t count, uint32_t *first_ids
) noexcept nogil:
    # Each read leads to the next one, so all topics go step by step together: slot, entry, block.
    cdef const CacheEntry *entries[FORESEEN_TOPICS]
    cdef uint32_t hashes[FORESEEN_TOPICS]
    cdef uint32_t number, slot
    cdef uint64_t word
    if count > FORESEEN_TOPICS:
        count = FORESEEN_TOPICS
    for number in range(count):
        hashes[number] = topic_hash(cache, tree, topics[number].data, topics[number].size)
        prefetch(&cache.index[hashes[number] & cache.index_mask])
    for number in range(count):
        slot = hashes[number] & cache.index_mask
        word = cache.index[slot]
        while word and word >> 32 != hashes[number]:
            slot = (slot + 1) & cache.index_mask
            word = cache.index[slot]
        entries[number] = &cache.entries[<uint32_t> word - 1] if word else NULL
        if word:
            prefetch(entries[number])
    for number in range(count):
        if entries[number] != NULL:
            prefetch(entries[number].found.ids)
    for number in range(count):
        first_ids[number] = NO_FILTER
        if entries[number] != NULL and entries[number].found.count > 0:
            first_ids[number] = entries[number].found.ids[0]


cdef uint64_t cache_far_lookups(const MatchCache *cache) noexcept nogil:
    return cache.statistics.hits + cache.statistics.misses if cache.statistics.entry_count >= FAR_ENTRIES else 0


cdef void cache_forget(MatchCache *cache, const SubscriptionTree *tree) noexcept nogil:
    cdef uint32_t number
    for number in range(cache.entry_used):
        if cache.entries[number].serial == tree.serial:
            drop(cache, number)


cdef uint64_t cache_topic_count(const MatchCache *cache) noexcept nogil:
    return cache.statistics.entry_count


cdef bint cache_is_empty(const MatchCache *cache) noexcept nogil:
    return cache.entry_used == 0


cdef uint32_t cache_relax(MatchCache *cache, uint32_t rounds) noexcept nogil:
    cdef uint32_t before = <uint32_t> cache.statistics.entry_count
    cdef uint32_t last = cache.relaxed + cache.entry_used // rounds + 1
    cdef uint32_t number
    cdef CacheEntry *entry
    if last > cache.entry_used:
        last = cache.entry_used
    for number in range(cache.relaxed, last):
        entry = &cache.entries[number]
        if entry.serial != FREE_ENTRY and not entry.was_hit:
            drop(cache, number)
        entry.was_hit = 0
    cache.relaxed = last
    if last == cache.entry_used:
        cache.relaxed = 0
    if last == cache.entry_used and last > 0:
        # The few that are left would keep the pages of all; they are soon found again.
        if cache.statistics.entry_count * SPARSE_SHARE <= cache.entry_used:
            clear(cache)
    return before - <uint32_t> cache.statistics.entry_count


cdef void clear(MatchCache *cache) noexcept nogil:
    cdef uint32_t number
    for number in range(cache.entry_used):
        if cache.entries[number].serial != FREE_ENTRY:
            drop(cache, number)
    # Not a place of an empty index is taken, and no entry has ever been in use.
    pages_clear(cache.entries, cache.entry_limit * sizeof(CacheEntry))
    cache.entry_used = 0
    cache.free_head = 0
    cache.hand = 0


cdef void cache_statistics(const MatchCache *cache, MatchCacheStatistics *out) noexcept nogil:
    out[0] = cache.statistics
    out.memory_bytes = (
        sizeof(MatchCache) + (<uint64_t> cache.index_mask + 1) * sizeof(uint64_t)
        + cache.entry_used * sizeof(CacheEntry) + cache.block_bytes + cache.scratch.capacity * sizeof(uint32_t))


cdef inline uint32_t topic_hash(
    const MatchCache *cache, const SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    # Tenants use the same topics; their trees' numbers spread them.
    return <uint32_t> (hash_bytes(&cache.key, topic, size) >> 32) + <uint32_t> (tree.serial * 0x9E3779B1ULL)


cdef inline const uint8_t *topic_of(const CacheEntry *entry) noexcept nogil:
    return <const uint8_t *> (entry.found.ids + entry.found.count)


cdef inline CacheEntry *find_entry(
    const MatchCache *cache, const SubscriptionTree *tree, uint32_t hash, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    cdef uint32_t slot = hash & cache.index_mask
    cdef uint64_t word = cache.index[slot]
    cdef CacheEntry *entry
    while word:
        if word >> 32 == hash:
            entry = &cache.entries[<uint32_t> word - 1]
            if (
                entry.serial == tree.serial
                and entry.topic_size == size
                and is_same(topic_of(entry), topic, size)
            ):
                return entry
        slot = (slot + 1) & cache.index_mask
        word = cache.index[slot]
    return NULL


cdef CacheEntry *keep(
    MatchCache *cache, CacheEntry *entry, uint32_t hash, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    """Store what is in scratch, in entry if the topic has one; NULL when it is too much, and then entry is gone."""
    cdef uint64_t block_size = cache.scratch.count * sizeof(uint32_t) + size
    cdef uint8_t *block
    cdef uint32_t number
    if entry != NULL and entry.block_size < block_size:
        drop(cache, <uint32_t> (entry - cache.entries))
        entry = NULL
    if entry == NULL:
        if block_size > cache.block_bytes_limit // BLOCK_SHARE:
            return NULL
        while cache.block_bytes + block_size > cache.block_bytes_limit:
            evict(cache)
        block = <uint8_t *> malloc(block_size)
        if block == NULL:
            return NULL
        if cache.free_head == 0 and cache.entry_used == cache.entry_limit:
            evict(cache)
        if cache.free_head:
            number = cache.free_head - 1
            cache.free_head = cache.entries[number].hash
        else:
            number = cache.entry_used
            cache.entry_used += 1
        entry = &cache.entries[number]
        entry.found.ids = <uint32_t *> block
        entry.hash = hash
        entry.topic_size = <uint32_t> size
        entry.block_size = <uint32_t> block_size
        entry.was_hit = 0
        cache.block_bytes += block_size
        cache.statistics.entry_count += 1
        link_entry(cache, hash, number)
    entry.found.count = cache.scratch.count
    memcpy(<void *> entry.found.ids, cache.scratch.ids, cache.scratch.count * sizeof(uint32_t))
    memcpy(<void *> topic_of(entry), topic, size)
    return entry


cdef void evict(MatchCache *cache) noexcept nogil:
    """Drop the entry that the clock's hand chooses. There is one."""
    cdef CacheEntry *entry
    cdef uint32_t number
    cdef int steps = 0
    while True:
        number = cache.hand
        # Behind what is dropped, too: the newcomer in its place has a whole round to be hit.
        cache.hand = number + 1 if number + 1 < cache.entry_used else 0
        entry = &cache.entries[number]
        if entry.serial != FREE_ENTRY and (not entry.was_hit or steps >= HAND_STEPS_MAXIMUM):
            break
        entry.was_hit = 0
        steps += 1
    drop(cache, number)
    cache.statistics.evictions += 1


cdef void drop(MatchCache *cache, uint32_t number) noexcept nogil:
    cdef CacheEntry *entry = &cache.entries[number]
    unlink_entry(cache, entry.hash, number)
    free(<void *> entry.found.ids)
    cache.block_bytes -= entry.block_size
    cache.statistics.entry_count -= 1
    entry.found.ids = NULL
    entry.serial = FREE_ENTRY
    entry.was_hit = 0
    entry.hash = cache.free_head
    cache.free_head = number + 1


cdef void link_entry(MatchCache *cache, uint32_t hash, uint32_t number) noexcept nogil:
    cdef uint32_t slot = hash & cache.index_mask
    while cache.index[slot]:
        slot = (slot + 1) & cache.index_mask
    cache.index[slot] = <uint64_t> hash << 32 | (number + 1)


cdef void unlink_entry(MatchCache *cache, uint32_t hash, uint32_t number) noexcept nogil:
    """Take the slot out and close the gap: whatever follows and may stand nearer to its place moves up."""
    cdef uint64_t word = <uint64_t> hash << 32 | (number + 1)
    cdef uint32_t mask = cache.index_mask
    cdef uint32_t gap = hash & mask
    cdef uint32_t slot
    while cache.index[gap] != word:
        gap = (gap + 1) & mask
    slot = gap
    while True:
        slot = (slot + 1) & mask
        word = cache.index[slot]
        if word == 0:
            break
        # May it stand in the gap? Yes, unless the place that its hash names lies behind the gap.
        if ((slot - <uint32_t> (word >> 32)) & mask) >= ((slot - gap) & mask):
            cache.index[gap] = word
            gap = slot
    cache.index[gap] = 0


cdef class TopicMatcher:
    """A MatchCache in front of TopicFilters: match answers the same, and faster for topics that come again."""

    def __cinit__(self, TopicFilters filters not None, uint32_t topic_limit=65536):
        cdef HashKey key
        self.filters = filters
        parse_hash_key(os.urandom(16), &key)
        self.cache = cache_new(&key, topic_limit)
        if self.cache == NULL:
            raise MemoryError

    def __dealloc__(self):
        cache_free(self.cache)

    def match(self, str topic not None):
        """The filters that match a topic, in no order. InvalidTopic when it is none that may be published to."""
        cdef bytes encoded = self.filters.rules.check_topic(topic)
        cdef const MatchEntry *entry
        cdef uint32_t index
        reclaim_online(self.filters.reclaim, 0)
        try:
            entry = cache_match(self.cache, self.filters.tree, <const uint8_t *> encoded, len(encoded))
            if entry == NULL:
                raise MemoryError
            return [self.filters.filter_text(entry.ids[index]) for index in range(entry.count)]
        finally:
            reclaim_offline(self.filters.reclaim, 0)

    def switch(self, TopicFilters filters not None):
        """Match against other filters from now on; what is cached of the old ones stays, and does not count."""
        self.filters = filters

    def relax(self, uint32_t rounds):
        """Drop what was not hit in the last rounds calls of this, 1 or more; returns how many topics that were."""
        if rounds == 0:
            raise ValueError("rounds: 0 is less than 1")
        return cache_relax(self.cache, rounds)

    def forget(self):
        """Drop whatever is cached of the filters."""
        cache_forget(self.cache, self.filters.tree)

    def statistics(self):
        """hits, misses, evictions, entry_count and memory_bytes."""
        cdef MatchCacheStatistics statistics
        cache_statistics(self.cache, &statistics)
        return statistics
