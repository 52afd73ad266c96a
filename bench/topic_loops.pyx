"""Loops over the topic structures without the GIL, for benchmarks and for tests with several threads.

Whatever is called here once per text costs its own time and little else: the texts lie packed in one block.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from rookery.core.structures.atomics cimport atomic_add_u64, atomic_load_u64
from rookery.core.structures.hashing cimport HashKey, hash_bytes, hash_word
from rookery.core.structures.reclaim cimport reclaim_offline, reclaim_online, reclaim_quiescent
from rookery.core.topics.cache cimport (
    MatchCache, MatchEntry, TopicMatcher, cache_free, cache_match, cache_new)
from rookery.core.topics.names cimport TOPIC_OK, TopicLimits, check_topic
from rookery.core.topics.tree cimport (
    NO_FILTER, FilterIds, SubscriptionTree, TopicFilters, tree_add, tree_filter_text, tree_generation, tree_match,
    tree_remove)

cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef class Texts:
    """Topics or topic filters, packed."""

    cdef uint8_t *block
    cdef Py_ssize_t *offsets   # count + 1 of them
    cdef Py_ssize_t count

    def __cinit__(self, texts):
        cdef list encoded = [string.encode() for string in texts]
        cdef bytes text
        cdef Py_ssize_t offset = 0
        cdef Py_ssize_t index = 0
        self.count = len(encoded)
        self.block = <uint8_t *> malloc(sum(map(len, encoded)) + 1)
        self.offsets = <Py_ssize_t *> malloc((self.count + 1) * sizeof(Py_ssize_t))
        if self.block == NULL or self.offsets == NULL:
            raise MemoryError
        for text in encoded:
            self.offsets[index] = offset
            memcpy(self.block + offset, <const uint8_t *> text, len(text))
            offset += len(text)
            index += 1
        self.offsets[index] = offset

    def __dealloc__(self):
        free(self.block)
        free(self.offsets)

    def __len__(self):
        return self.count


cdef inline const uint8_t *text_at(Texts texts, Py_ssize_t index) noexcept nogil:
    return texts.block + texts.offsets[index]


cdef inline Py_ssize_t size_at(Texts texts, Py_ssize_t index) noexcept nogil:
    return texts.offsets[index + 1] - texts.offsets[index]


def add_all(TopicFilters filters not None, Texts topic_filters not None, uint32_t shard=0):
    """Add every filter; returns their ids as a list."""
    cdef uint32_t *ids = <uint32_t *> malloc(topic_filters.count * sizeof(uint32_t))
    cdef Py_ssize_t index
    if ids == NULL:
        raise MemoryError
    with nogil:
        for index in range(topic_filters.count):
            ids[index] = tree_add(filters.tree, text_at(topic_filters, index), size_at(topic_filters, index), shard)
    added = [ids[index] for index in range(topic_filters.count)]
    free(ids)
    return added


def remove_all(TopicFilters filters not None, list ids not None, uint32_t shard=0):
    """Remove every filter, with the end of a turn after each."""
    cdef Py_ssize_t count = len(ids)
    cdef uint32_t *numbers = <uint32_t *> malloc(count * sizeof(uint32_t))
    cdef Py_ssize_t index
    if numbers == NULL:
        raise MemoryError
    for index in range(count):
        numbers[index] = ids[index]
    with nogil:
        for index in range(count):
            tree_remove(filters.tree, numbers[index], shard)
            reclaim_offline(filters.reclaim, 0)
    free(numbers)


def match_all(TopicFilters filters not None, Texts topics not None):
    """Match every topic against the tree; returns how many filters matched in all."""
    cdef FilterIds found = FilterIds(ids=NULL, count=0, capacity=0)
    cdef uint64_t total = 0
    cdef Py_ssize_t index
    with nogil:
        reclaim_online(filters.reclaim, 0)
        for index in range(topics.count):
            tree_match(filters.tree, text_at(topics, index), size_at(topics, index), &found)
            total += found.count
        reclaim_offline(filters.reclaim, 0)
    free(found.ids)
    return total


def match_all_cached(TopicMatcher matcher not None, Texts topics not None, Py_ssize_t rounds=1):
    """Match every topic through the cache; returns how many filters matched in all."""
    cdef SubscriptionTree *tree = matcher.filters.tree
    cdef const MatchEntry *entry
    cdef uint64_t total = 0
    cdef Py_ssize_t index
    with nogil:
        reclaim_online(matcher.filters.reclaim, 0)
        for _ in range(rounds):
            for index in range(topics.count):
                entry = cache_match(matcher.cache, tree, text_at(topics, index), size_at(topics, index))
                total += entry.count
        reclaim_offline(matcher.filters.reclaim, 0)
    return total


def stamp_all(TopicFilters filters not None, Texts topics not None, Py_ssize_t rounds=1):
    """Take the generation stamp of every topic."""
    cdef uint64_t total = 0
    cdef Py_ssize_t index
    with nogil:
        for _ in range(rounds):
            for index in range(topics.count):
                total += tree_generation(filters.tree, text_at(topics, index), size_at(topics, index))
    return total


def hash_all(Texts texts not None, Py_ssize_t rounds=1):
    """Hash every text under some key."""
    cdef HashKey key = HashKey(first=0x0706050403020100ULL, second=0x0F0E0D0C0B0A0908ULL)
    cdef uint64_t total = 0
    cdef Py_ssize_t index
    with nogil:
        for _ in range(rounds):
            for index in range(texts.count):
                total += hash_bytes(&key, text_at(texts, index), size_at(texts, index))
    return total


def check_all(Texts topics not None, Py_ssize_t rounds=1):
    """Check every topic name; returns how many are fine."""
    cdef TopicLimits limits = TopicLimits(topic_size_maximum=65535, level_count_maximum=128, level_size_maximum=65535)
    cdef uint64_t total = 0
    cdef Py_ssize_t index
    with nogil:
        for _ in range(rounds):
            for index in range(topics.count):
                total += check_topic(text_at(topics, index), size_at(topics, index), &limits) == TOPIC_OK
    return total


def churn(TopicFilters filters not None, Texts topic_filters not None, uint64_t steps, uint64_t seed, uint32_t shard):
    """Add or remove a random one of the filters, steps times; at the end all are gone."""
    cdef HashKey key = HashKey(first=seed, second=~seed)
    cdef uint32_t *ids = <uint32_t *> calloc(topic_filters.count, sizeof(uint32_t))
    cdef Py_ssize_t index
    cdef uint64_t step
    if ids == NULL:
        raise MemoryError
    with nogil:
        for step in range(steps):
            index = (hash_word(&key, step) >> 16) % <uint64_t> topic_filters.count
            if ids[index] == NO_FILTER:
                ids[index] = tree_add(
                    filters.tree, text_at(topic_filters, index), size_at(topic_filters, index), shard)
            else:
                tree_remove(filters.tree, ids[index], shard)
                ids[index] = NO_FILTER
        for index in range(topic_filters.count):
            if ids[index] != NO_FILTER:
                tree_remove(filters.tree, ids[index], shard)
    free(ids)


cdef class Watch:
    """What reading threads have seen, and how they are told what to do."""

    cdef uint64_t reader_count
    cdef uint64_t is_stopping
    cdef uint64_t settlings       # how often the readers were asked to compare exactly
    cdef uint64_t settled         # how many of them have, in all
    cdef uint64_t matches
    cdef uint64_t misses
    cdef uint64_t wrong
    cdef uint64_t stale
    cdef uint64_t failures

    def __cinit__(self, uint64_t reader_count):
        self.reader_count = reader_count

    def stop(self):
        atomic_add_u64(&self.is_stopping, 1)

    def settle(self):
        """While nothing changes: let every reader go through its cache once, where only stable filters may be left."""
        with nogil:
            atomic_add_u64(&self.settlings, 1)
            while atomic_load_u64(&self.settled) < self.settlings * self.reader_count:
                sched_yield()

    @property
    def match_count(self):
        """Topics that were matched."""
        return atomic_load_u64(&self.matches)

    @property
    def miss_count(self):
        """Filters that are there throughout, and were not found."""
        return atomic_load_u64(&self.misses)

    @property
    def wrong_count(self):
        """Filters that were found, and do not match."""
        return atomic_load_u64(&self.wrong)

    @property
    def stale_count(self):
        """Topics that had other filters than the stable ones although nothing else was there any more."""
        return atomic_load_u64(&self.stale)

    @property
    def failure_count(self):
        """Matches that ended for want of memory."""
        return atomic_load_u64(&self.failures)


cdef class ExpectedIds:
    """For each topic the ids of the filters that match it and are there throughout, packed."""

    cdef uint32_t *ids
    cdef Py_ssize_t *offsets

    def __cinit__(self, list expected):
        cdef Py_ssize_t offset = 0
        cdef Py_ssize_t index
        self.ids = <uint32_t *> malloc((sum(map(len, expected)) + 1) * sizeof(uint32_t))
        self.offsets = <Py_ssize_t *> malloc((len(expected) + 1) * sizeof(Py_ssize_t))
        if self.ids == NULL or self.offsets == NULL:
            raise MemoryError
        for index, ids in enumerate(expected):
            self.offsets[index] = offset
            for filter_id in ids:
                self.ids[offset] = filter_id
                offset += 1
        self.offsets[len(expected)] = offset

    def __dealloc__(self):
        free(self.ids)
        free(self.offsets)


def watch_matches(
    Watch watch not None, TopicFilters filters not None, uint32_t reader, Texts topics not None, list expected not None,
    uint32_t topic_limit
):
    """Match all topics again and again until told to stop, one turn per round, as the given reader of the domain.

    Every second round goes through a cache of topic_limit topics. expected: see ExpectedIds.
    """
    cdef ExpectedIds stable = ExpectedIds(expected)
    cdef HashKey key = HashKey(first=reader, second=17)
    cdef MatchCache *cache = cache_new(&key, topic_limit)
    cdef FilterIds found = FilterIds(ids=NULL, count=0, capacity=0)
    cdef MatchEntry direct
    cdef const MatchEntry *entry
    cdef uint64_t settlings = 0
    cdef uint64_t asked
    cdef Py_ssize_t index
    cdef bint is_cached = False
    if cache == NULL:
        raise MemoryError
    with nogil:
        reclaim_online(filters.reclaim, reader)
        while not atomic_load_u64(&watch.is_stopping):
            asked = atomic_load_u64(&watch.settlings)
            for index in range(topics.count):
                if is_cached or asked != settlings:
                    entry = cache_match(cache, filters.tree, text_at(topics, index), size_at(topics, index))
                elif tree_match(filters.tree, text_at(topics, index), size_at(topics, index), &found) == 0:
                    direct = MatchEntry(count=found.count, ids=found.ids)
                    entry = &direct
                else:
                    entry = NULL
                if entry == NULL:
                    atomic_add_u64(&watch.failures, 1)
                    continue
                judge(watch, filters.tree, topics, index, stable, entry)
                if asked != settlings and entry.count != stable.offsets[index + 1] - stable.offsets[index]:
                    atomic_add_u64(&watch.stale, 1)
            atomic_add_u64(&watch.matches, topics.count)
            is_cached = not is_cached
            if asked != settlings:
                settlings = asked
                atomic_add_u64(&watch.settled, 1)
                reclaim_offline(filters.reclaim, reader)  # as if it went to sleep for a moment
                reclaim_online(filters.reclaim, reader)
            else:
                reclaim_quiescent(filters.reclaim, reader)
        reclaim_offline(filters.reclaim, reader)
    cache_free(cache)
    free(found.ids)


cdef void judge(
    Watch watch, SubscriptionTree *tree, Texts topics, Py_ssize_t index, ExpectedIds stable, const MatchEntry *entry
) noexcept nogil:
    cdef uint8_t text[256]
    cdef Py_ssize_t size
    cdef Py_ssize_t place
    cdef uint32_t position
    for place in range(stable.offsets[index], stable.offsets[index + 1]):
        for position in range(entry.count):
            if entry.ids[position] == stable.ids[place]:
                break
        else:
            atomic_add_u64(&watch.misses, 1)
    for position in range(entry.count):
        size = tree_filter_text(tree, entry.ids[position], text, sizeof(text))
        if size > <Py_ssize_t> sizeof(text) or not is_match(
            text, size, text_at(topics, index), size_at(topics, index)
        ):
            atomic_add_u64(&watch.wrong, 1)


cdef bint is_match(
    const uint8_t *topic_filter, Py_ssize_t filter_size, const uint8_t *topic, Py_ssize_t size
) noexcept nogil:
    """Byte by byte, the slow and plain way. A leading $ is not looked at."""
    cdef Py_ssize_t place = 0
    cdef Py_ssize_t index = 0
    while place < filter_size:
        if topic_filter[place] == c"#":
            return True
        if topic_filter[place] == c"+":
            while index < size and topic[index] != c"/":
                index += 1
            place += 1
        elif index < size and topic_filter[place] == topic[index]:
            place += 1
            index += 1
        else:
            # `a/#` matches `a`, too.
            return (
                index == size and filter_size - place == 2 and topic_filter[place] == c"/"
                and topic_filter[place + 1] == c"#")
    return index == size
