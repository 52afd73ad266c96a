"""SubscriptionTree: how it is built.

One node per level of a filter, one number per node, and the number of the last one is the filter id. Below, the filters
`a/b`, `a/+/c` and `a/#` of shard 0, where "a", "b", "c" have the level numbers 1, 2, 3:

    0 root --- inline_child ---> 2 "a" --- inline_child ---> 3 "b" mask 1
    1 root of "$..."               |------ single_child ---> 4 "+" --- inline_child ---> 5 "c" mask 1
                                   |------ multi_child ----> 6 "#" mask 1

The first child that is no wildcard stands in its parent; further ones stand in one table for the whole tree: with `a/d`
the edge (node 2, level 4) -> 7. Tables per node took twice the memory, and chains (`devices/17/state`) need no edge.

To match a topic is to walk down with the set of nodes that its first levels reach (the frontier: at first the root),
and to take from each node its `#` child, its `+` child and the child that carries the next level. At the end the nodes
that remain are filters themselves, and their `#` children match as well, for `a/#` includes `a` (4.7.1.2). Nothing
recurses; the frontier lives behind the results in the caller's array. It has at most as many nodes as the tree has at
that depth. In a tree that is larger than the processor's caches nearly all of the time is waiting for memory: what the
next step will look at is asked for one step before, which halves the time where several nodes are looked at.

What a reader relies on while one writer (under the mutex) changes the tree:

* A node is complete before the slot or field that leads to it is stored. Parent and level never change until the node
  has been unlinked and every shard has ended its turn; only then is its number used again.
* A filter that is there throughout is found: its nodes have children or a mask, so nothing on its path is unlinked, and
  the tables keep whatever is moved (see rookery.core.structures.table).
* A filter that comes or goes meanwhile may be found or not. Its generation counts up after the change: a match that
  was made too early or too late carries a stamp from before, and the cache will not trust it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcpy, memmove

from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_load_u32, atomic_load_u64, atomic_store_pointer, atomic_store_u32, atomic_store_u64,
    atomic_subtract_u64, prefetch)
from rookery.core.structures.hashing cimport HashKey, hash_word, parse_hash_key
from rookery.core.structures.mutex cimport (
    Mutex, mutex_destroy, mutex_init, mutex_lock, mutex_try_lock, mutex_unlock)
from rookery.core.structures.pool cimport (
    pool_clear, pool_give_back, pool_init, pool_item, pool_memory_bytes, pool_reset_if_unused, pool_take)
from rookery.core.structures.reclaim cimport (
    ReclaimDomain, ReleaseFunction, reclaim_free, reclaim_later, reclaim_new, reclaim_offline, reclaim_online)
from rookery.core.structures.table cimport (
    TableProbe, table_clear, table_first, table_init, table_insert, table_memory_bytes, table_next, table_prefetch,
    table_remove)
from rookery.core.topics.levels cimport (
    NO_LEVEL, Level, level_at, level_hash, level_text, levels_clear, levels_drop, levels_find, levels_init,
    levels_intern, levels_memory_bytes, levels_release, levels_reset_if_unused)
from rookery.core.topics.names cimport LEVEL_SEPARATOR, MULTI_LEVEL, SINGLE_LEVEL, SYSTEM_MARK

import os

from .names import TopicRules

cdef enum:
    ROOT = 0
    SYSTEM_ROOT = 1           # of the topics and filters that begin with $
    ROOT_COUNT = 2

    GENERATIONS_FROM = 128    # filters from which on a tree has many generation counters: 512 bytes
    LOOKAHEAD = 8             # levels that are looked up together, so that their cache misses overlap
    IDS_CAPACITY_MINIMUM = 64

# In the place of a level's number; no pool of levels gets that large.
cdef inline uint32_t single_level_number() noexcept nogil:
    return 0xFFFFFFFF


cdef inline uint32_t multi_level_number() noexcept nogil:
    return 0xFFFFFFFE


# Identity, not state: it is counted up for each tree and has no other meaning.
cdef uint64_t last_serial = 0


cdef inline TreeNode *node_at(const SubscriptionTree *tree, uint32_t number) noexcept nogil:
    return <TreeNode *> pool_item(&tree.nodes, number, sizeof(TreeNode))


cdef inline uint32_t edge_hash(const SubscriptionTree *tree, uint32_t node, uint32_t level) noexcept nogil:
    return <uint32_t> (hash_word(&tree.levels.key, <uint64_t> node << 32 | level) >> 32)


cdef inline uint32_t find_named_child(
    const SubscriptionTree *tree, uint32_t parent, const TreeNode *above, uint32_t level
) noexcept nogil:
    """The child of parent (which is above) that carries level, or 0."""
    cdef TableProbe probe
    cdef const TreeNode *node
    cdef uint32_t child
    if atomic_load_u32(&above.edge_count):
        child = table_first(&tree.edges, edge_hash(tree, parent, level), &probe)
        while child:
            node = node_at(tree, child)
            if node.level == level and node.parent == parent:
                return child
            child = table_next(&probe)
    child = atomic_load_u32(&above.inline_child)
    return child if child and node_at(tree, child).level == level else 0


cdef inline void prefetch_named_child(const SubscriptionTree *tree, uint32_t parent, uint32_t level) noexcept nogil:
    """Begin to load the node that find_named_child will compare first."""
    cdef TableProbe probe
    cdef uint32_t child = table_first(&tree.edges, edge_hash(tree, parent, level), &probe)
    if child:
        prefetch(node_at(tree, child))


cdef inline Py_ssize_t level_size(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Bytes to the next slash or to the end."""
    cdef const uint8_t *slash = <const uint8_t *> memchr(text, LEVEL_SEPARATOR, size)
    return size if slash == NULL else slash - text


cdef inline uint32_t root_of(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    # Neither `+` nor `#` are children of the second root: this is all that [MQTT-4.7.2-1] takes.
    return SYSTEM_ROOT if size > 0 and text[0] == SYSTEM_MARK else ROOT


cdef SubscriptionTree *tree_new(const HashKey *key, ReclaimDomain *reclaim) noexcept nogil:
    cdef SubscriptionTree *tree = <SubscriptionTree *> calloc(1, sizeof(SubscriptionTree))
    if tree == NULL:
        return NULL
    if pool_init(&tree.nodes, sizeof(TreeNode), ROOT_COUNT) < 0 or levels_init(&tree.levels, key, reclaim) < 0:
        pool_clear(&tree.nodes)
        pool_clear(&tree.levels.pool)
        free(tree)
        return NULL
    table_init(&tree.edges, reclaim)
    mutex_init(&tree.mutex, NULL)
    tree.reclaim = reclaim
    tree.serial = atomic_add_u64(&last_serial, 1) + 1
    return tree


cdef void tree_free(SubscriptionTree *tree) noexcept nogil:
    if tree == NULL:
        return
    # What was handed over earlier is released earlier: this comes behind the last release that names the tree. If
    # memory is too short for that, the tree leaks.
    if atomic_load_u64(&tree.pending_count):
        reclaim_later(tree.reclaim, release_tree, tree, 0)
    else:
        release_tree(tree, 0)


cdef void release_tree(void *context, uint64_t argument) noexcept nogil:
    cdef SubscriptionTree *tree = <SubscriptionTree *> context
    pool_clear(&tree.nodes)
    table_clear(&tree.edges)
    levels_clear(&tree.levels)
    free(tree.generations)
    mutex_destroy(&tree.mutex)
    free(tree)


cdef uint32_t tree_add(
    SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size, uint32_t shard
) noexcept nogil:
    cdef uint32_t number
    cdef TreeNode *node
    mutex_lock(&tree.mutex)
    number = make_path(tree, topic_filter, size)
    if number != NO_FILTER:
        node = node_at(tree, number)
        if node.shard_mask == 0:
            atomic_store_u64(&node.shard_mask, 1ULL << shard)
            atomic_store_u64(&tree.filter_count, tree.filter_count + 1)
            split_generations(tree)
            count_generation(tree, topic_filter, size)
        else:
            atomic_store_u64(&node.shard_mask, node.shard_mask | 1ULL << shard)
    mutex_unlock(&tree.mutex)
    return number


cdef void tree_remove(SubscriptionTree *tree, uint32_t filter_id, uint32_t shard) noexcept nogil:
    cdef TreeNode *node
    cdef uint64_t remaining
    cdef uint8_t prefix[PREFIX_SIZE]
    cdef Py_ssize_t size
    mutex_lock(&tree.mutex)
    node = node_at(tree, filter_id)
    remaining = node.shard_mask & ~(1ULL << shard)
    if remaining != node.shard_mask:
        atomic_store_u64(&node.shard_mask, remaining)
        if remaining == 0:
            size = min(tree_filter_text(tree, filter_id, prefix, PREFIX_SIZE), <Py_ssize_t> PREFIX_SIZE)
            atomic_store_u64(&tree.filter_count, tree.filter_count - 1)
            prune(tree, filter_id)
            count_generation(tree, prefix, size)
    mutex_unlock(&tree.mutex)


cdef uint32_t tree_find(SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size) noexcept nogil:
    cdef uint32_t number = root_of(topic_filter, size)
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t part
    while offset <= size:
        part = level_size(topic_filter + offset, size - offset)
        number = find_child(tree, number, topic_filter + offset, part)
        if number == 0:
            return NO_FILTER
        offset += part + 1
    return number if atomic_load_u64(&node_at(tree, number).shard_mask) else <uint32_t> NO_FILTER


cdef int tree_match(
    SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size, FilterIds *out
) noexcept nogil:
    cdef uint32_t levels[LOOKAHEAD]
    cdef int level_index = 0
    cdef int level_count = 0
    cdef Py_ssize_t offset = 0         # where the next level begins that is not in levels
    cdef uint32_t begin                # ids[begin:end] is the frontier, at the end of the array
    cdef uint32_t end
    cdef uint32_t next_begin           # ids[next_begin:begin] will be the next one
    cdef uint32_t position
    cdef uint32_t level
    cdef uint32_t following            # the level after it, as far as it is known
    cdef uint32_t child
    cdef const TreeNode *node
    out.count = 0
    begin = out.capacity
    end = out.capacity
    if make_room(out, &begin, &end, IDS_CAPACITY_MINIMUM // 2) < 0:
        return -1
    begin -= 1
    out.ids[begin] = root_of(topic, size)
    while True:
        # Each node of the frontier yields at most one result and two nodes.
        if begin - out.count < 3 * (end - begin) and make_room(out, &begin, &end, 3 * (end - begin)) < 0:
            return -1
        if level_index == level_count:
            if offset > size:
                break
            level_count = find_levels(tree, topic, size, &offset, levels)
            level_index = 0
        level = levels[level_index]
        level_index += 1
        following = levels[level_index] if level_index < level_count else <uint32_t> NO_LEVEL
        next_begin = begin
        if level != NO_LEVEL and end - begin > 1:
            # The slots were asked for when these nodes were found; now for all children, before one is waited for.
            for position in range(begin, end):
                prefetch_named_child(tree, out.ids[position], level)
        for position in range(begin, end):
            node = node_at(tree, out.ids[position])
            child = atomic_load_u32(&node.multi_child)
            if child:
                out.ids[out.count] = child
                out.count += 1
            child = atomic_load_u32(&node.single_child)
            if child:
                next_begin -= 1
                out.ids[next_begin] = child
                prefetch(node_at(tree, child))
                if following != NO_LEVEL:
                    table_prefetch(&tree.edges, edge_hash(tree, child, following))
            if level != NO_LEVEL:
                child = find_named_child(tree, out.ids[position], node, level)
                if child:
                    next_begin -= 1
                    out.ids[next_begin] = child
                    if following != NO_LEVEL:
                        table_prefetch(&tree.edges, edge_hash(tree, child, following))
        end = begin
        begin = next_begin
        if begin == end:
            return 0
    for position in range(begin, end):
        node = node_at(tree, out.ids[position])
        child = atomic_load_u32(&node.multi_child)
        if child:
            out.ids[out.count] = child
            out.count += 1
        if atomic_load_u64(&node.shard_mask):
            out.ids[out.count] = out.ids[position]
            out.count += 1
    return 0


cdef uint64_t tree_shard_mask(const SubscriptionTree *tree, uint32_t filter_id) noexcept nogil:
    return atomic_load_u64(&node_at(tree, filter_id).shard_mask)


cdef Py_ssize_t tree_filter_text(
    SubscriptionTree *tree, uint32_t filter_id, uint8_t *out, Py_ssize_t capacity
) noexcept nogil:
    cdef Py_ssize_t size = -1  # as many slashes as levels, less one
    cdef Py_ssize_t begin
    cdef Py_ssize_t end
    cdef Py_ssize_t part
    cdef const uint8_t *text
    cdef uint32_t number = filter_id
    while number >= ROOT_COUNT:
        read_level(tree, number, &text, &part)
        size += part + 1
        number = node_at(tree, number).parent
    # From the end to the beginning, for a node knows its parent only.
    number = filter_id
    end = size
    while number >= ROOT_COUNT:
        read_level(tree, number, &text, &part)
        begin = end - part
        if begin < capacity:
            memcpy(out + begin, text, min(part, capacity - begin))
        if begin > 0 and begin - 1 < capacity:
            out[begin - 1] = LEVEL_SEPARATOR
        end = begin - 1
        number = node_at(tree, number).parent
    return size


cdef uint64_t tree_filter_count(const SubscriptionTree *tree) noexcept nogil:
    return atomic_load_u64(&tree.filter_count)


cdef uint64_t tree_memory_bytes(const SubscriptionTree *tree) noexcept nogil:
    cdef Mutex *mutex = <Mutex *> &tree.mutex
    cdef uint64_t total = sizeof(SubscriptionTree)
    mutex_lock(mutex)
    total += pool_memory_bytes(&tree.nodes) + table_memory_bytes(&tree.edges) + levels_memory_bytes(&tree.levels)
    if tree.generations != NULL:
        total += GENERATION_COUNT * sizeof(uint64_t)
    mutex_unlock(mutex)
    return total


cdef int find_levels(
    const SubscriptionTree *tree, const uint8_t *topic, Py_ssize_t size, Py_ssize_t *offset, uint32_t *levels
) noexcept nogil:
    """Numbers of the next levels of topic, NO_LEVEL for unknown ones; moves offset behind them, returns how many."""
    cdef Py_ssize_t begins[LOOKAHEAD]
    cdef Py_ssize_t sizes[LOOKAHEAD]
    cdef uint32_t hashes[LOOKAHEAD]
    cdef int count = 0
    cdef int index
    while count < LOOKAHEAD and offset[0] <= size:
        begins[count] = offset[0]
        sizes[count] = level_size(topic + offset[0], size - offset[0])
        offset[0] += sizes[count] + 1
        hashes[count] = level_hash(&tree.levels, topic + begins[count], sizes[count])
        table_prefetch(&tree.levels.table, hashes[count])
        count += 1
    for index in range(count):
        levels[index] = levels_find(&tree.levels, hashes[index], topic + begins[index], sizes[index])
    return count


cdef int make_room(FilterIds *out, uint32_t *begin, uint32_t *end, uint32_t free_minimum) noexcept nogil:
    """At least free_minimum places between results and frontier, which is moved to the end. 0, or -1: no memory."""
    cdef uint32_t width = end[0] - begin[0]
    cdef uint64_t needed = <uint64_t> out.count + free_minimum + width
    cdef uint64_t capacity = out.capacity or <uint32_t> IDS_CAPACITY_MINIMUM
    cdef uint32_t *ids
    while capacity < needed:
        capacity *= 2
    if capacity != out.capacity:
        if capacity > <uint32_t> -1:
            return -1
        ids = <uint32_t *> realloc(out.ids, capacity * sizeof(uint32_t))
        if ids == NULL:
            return -1
        out.ids = ids
        out.capacity = <uint32_t> capacity
    memmove(&out.ids[out.capacity - width], &out.ids[begin[0]], width * sizeof(uint32_t))
    end[0] = out.capacity
    begin[0] = out.capacity - width
    return 0


cdef uint32_t find_child(
    const SubscriptionTree *tree, uint32_t parent, const uint8_t *text, Py_ssize_t size
) noexcept nogil:
    """The child of parent for one level of a topic filter, or 0."""
    cdef const TreeNode *above = node_at(tree, parent)
    cdef uint32_t level
    if size == 1 and text[0] == SINGLE_LEVEL:
        return atomic_load_u32(&above.single_child)
    if size == 1 and text[0] == MULTI_LEVEL:
        return atomic_load_u32(&above.multi_child)
    level = levels_find(&tree.levels, level_hash(&tree.levels, text, size), text, size)
    return 0 if level == NO_LEVEL else find_named_child(tree, parent, above, level)


# ---------------------------------------------------------------------------------------------------------------------
# What follows runs under the mutex.


cdef uint32_t make_path(SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size) noexcept nogil:
    """The node of topic_filter, made if need be; NO_FILTER when memory is short, and then nothing has changed."""
    cdef uint32_t parent = root_of(topic_filter, size)
    cdef uint32_t child
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t part
    while offset <= size:
        part = level_size(topic_filter + offset, size - offset)
        child = find_child(tree, parent, topic_filter + offset, part)
        if child == 0:
            child = add_child(tree, parent, topic_filter + offset, part)
            if child == 0:
                prune(tree, parent)
                return NO_FILTER
        parent = child
        offset += part + 1
    return parent


cdef uint32_t add_child(
    SubscriptionTree *tree, uint32_t parent, const uint8_t *text, Py_ssize_t size
) noexcept nogil:
    """A new child for one level of a topic filter; 0 when memory is short."""
    cdef TreeNode *above = node_at(tree, parent)
    cdef uint32_t number = pool_take(&tree.nodes)
    cdef TreeNode *node
    if number == 0:
        return 0
    node = node_at(tree, number)
    node[0] = TreeNode(
        parent=parent, level=0, shard_mask=0, single_child=0, multi_child=0, inline_child=0, edge_count=0)
    if size == 1 and text[0] == SINGLE_LEVEL:
        node.level = single_level_number()
        atomic_store_u32(&above.single_child, number)
        return number
    if size == 1 and text[0] == MULTI_LEVEL:
        node.level = multi_level_number()
        atomic_store_u32(&above.multi_child, number)
        return number
    node.level = levels_intern(&tree.levels, text, size)
    if node.level == NO_LEVEL:
        pool_give_back(&tree.nodes, number)
        return 0
    if above.inline_child == 0:
        atomic_store_u32(&above.inline_child, number)
        return number
    if table_insert(&tree.edges, edge_hash(tree, parent, node.level), number) < 0:
        drop_level(tree, node.level)
        pool_give_back(&tree.nodes, number)
        return 0
    atomic_store_u32(&above.edge_count, above.edge_count + 1)
    return number


cdef void prune(SubscriptionTree *tree, uint32_t number) noexcept nogil:
    """Unlink the node and those above it that lead to nothing any more."""
    cdef TreeNode *node
    cdef TreeNode *above
    cdef uint32_t parent
    while number >= ROOT_COUNT:
        node = node_at(tree, number)
        if node.shard_mask or node.single_child or node.multi_child or node.inline_child or node.edge_count:
            return
        parent = node.parent
        above = node_at(tree, parent)
        if node.level == single_level_number():
            atomic_store_u32(&above.single_child, 0)
        elif node.level == multi_level_number():
            atomic_store_u32(&above.multi_child, 0)
        else:
            if above.inline_child == number:
                atomic_store_u32(&above.inline_child, 0)
            else:
                table_remove(&tree.edges, edge_hash(tree, parent, node.level), number)
                atomic_store_u32(&above.edge_count, above.edge_count - 1)
            drop_level(tree, node.level)
        # From here on the node is not ours: the writer need not be a shard, so nothing holds the release back.
        hand_over(tree, release_node, number)
        number = parent


cdef void drop_level(SubscriptionTree *tree, uint32_t level) noexcept nogil:
    if levels_drop(&tree.levels, level):
        hand_over(tree, release_level, level)


cdef void hand_over(SubscriptionTree *tree, ReleaseFunction release, uint32_t number) noexcept nogil:
    atomic_add_u64(&tree.pending_count, 1)
    if reclaim_later(tree.reclaim, release, tree, number) < 0:
        atomic_subtract_u64(&tree.pending_count, 1)  # Memory is short: the number is never used again.


cdef void split_generations(SubscriptionTree *tree) noexcept nogil:
    """Give a tree that has grown a counter per prefix."""
    cdef uint64_t *generations
    cdef int index
    if tree.generations != NULL or tree.filter_count < GENERATIONS_FROM:
        return
    generations = <uint64_t *> calloc(GENERATION_COUNT, sizeof(uint64_t))
    if generations == NULL:
        return
    for index in range(GENERATION_COUNT):
        generations[index] = tree.generation + 1  # so that no stamp comes again
    atomic_store_pointer(<void **> &tree.generations, generations)


cdef void count_generation(SubscriptionTree *tree, const uint8_t *topic_filter, Py_ssize_t size) noexcept nogil:
    """A filter has come or gone (size may be cut to PREFIX_SIZE): every topic that it can match gets new stamps."""
    cdef uint64_t *counter = &tree.generation
    cdef PrefixCounters counters
    cdef Py_ssize_t first = level_size(topic_filter, size)
    if first == 1 and topic_filter[0] in (SINGLE_LEVEL, MULTI_LEVEL):
        counter = &tree.wildcard_generation
    elif tree.generations != NULL:
        counters = prefix_counters(topic_filter, size)
        # A wildcard in the second level matches whatever shares the first one, anything else the first two.
        if first + 1 < min(size, PREFIX_SIZE) and topic_filter[first + 1] in (SINGLE_LEVEL, MULTI_LEVEL):
            counter = &tree.generations[counters.first]
        else:
            counter = &tree.generations[counters.second]
    atomic_store_u64(counter, counter[0] + 1)


# ---------------------------------------------------------------------------------------------------------------------
# What follows is called by the ReclaimDomain, when no shard can see the thing any more.


cdef void release_node(void *context, uint64_t argument) noexcept nogil:
    cdef SubscriptionTree *tree = <SubscriptionTree *> context
    pool_give_back(&tree.nodes, <uint32_t> argument)
    finish_release(tree)


cdef void release_level(void *context, uint64_t argument) noexcept nogil:
    cdef SubscriptionTree *tree = <SubscriptionTree *> context
    levels_release(&tree.levels, <uint32_t> argument)
    finish_release(tree)


cdef void finish_release(SubscriptionTree *tree) noexcept nogil:
    # With the last node of an empty tree its memory goes back, unless a writer is about to use the tree again.
    if (
        atomic_load_u64(&tree.pending_count) == 1
        and atomic_load_u64(&tree.filter_count) == 0
        and mutex_try_lock(&tree.mutex) == 0
    ):
        pool_reset_if_unused(&tree.nodes, tree.reclaim)
        levels_reset_if_unused(&tree.levels, tree.reclaim)
        mutex_unlock(&tree.mutex)
    atomic_subtract_u64(&tree.pending_count, 1)  # The last touch: tree_free may be waiting for it.


cdef inline void read_level(
    const SubscriptionTree *tree, uint32_t number, const uint8_t **text, Py_ssize_t *size
) noexcept nogil:
    """The text of the level of a node, as it stands in filters."""
    cdef uint32_t number_of_level = node_at(tree, number).level
    cdef const Level *level
    size[0] = 1
    if number_of_level == single_level_number():
        text[0] = b"+"
    elif number_of_level == multi_level_number():
        text[0] = b"#"
    else:
        level = level_at(&tree.levels, number_of_level)
        text[0] = level_text(level)
        size[0] = level.size


cdef class TopicFilters:
    """The topic filters of one tenant, each with the shards that want it; answers which of them match a topic.

    The Python face of a SubscriptionTree, for tools and for embedding. Not for the path of a message.
    """

    def __cinit__(self, *, uint32_t reader_count=0):
        """reader_count: further threads that match without the GIL; they are readers 1, 2, ... of the domain."""
        cdef HashKey key
        parse_hash_key(os.urandom(16), &key)
        self.rules = TopicRules(level_count_maximum=65535)
        self.reclaim = reclaim_new(reader_count + 1)
        if self.reclaim != NULL:
            self.tree = tree_new(&key, self.reclaim)
        if self.tree == NULL:
            raise MemoryError

    def __dealloc__(self):
        tree_free(self.tree)
        reclaim_free(self.reclaim)
        free(self.found.ids)

    def add(self, str topic_filter not None, uint32_t shard=0):
        """The filter id; one and the same for every shard. InvalidTopic when the filter is not well-formed."""
        cdef bytes encoded = self.parse(topic_filter)
        check_shard(shard)
        cdef uint32_t filter_id = tree_add(self.tree, <const uint8_t *> encoded, len(encoded), shard)
        if filter_id == NO_FILTER:
            raise MemoryError
        return filter_id

    def remove(self, uint32_t filter_id, uint32_t shard=0):
        """KeyError if the shard does not want it."""
        check_shard(shard)
        if not self.shard_mask(filter_id) >> shard & 1:
            raise KeyError(filter_id)
        tree_remove(self.tree, filter_id, shard)
        reclaim_offline(self.reclaim, 0)

    def find(self, str topic_filter not None):
        """The filter id of exactly this filter, or None."""
        cdef bytes encoded = topic_filter.encode()
        return tree_find(self.tree, <const uint8_t *> encoded, len(encoded)) or None

    def match(self, str topic not None):
        """The filters that match a topic, in no order. InvalidTopic when it is none that may be published to."""
        cdef bytes encoded = self.rules.check_topic(topic)
        cdef uint32_t index
        reclaim_online(self.reclaim, 0)
        try:
            if tree_match(self.tree, <const uint8_t *> encoded, len(encoded), &self.found) < 0:
                raise MemoryError
            return [self.filter_text(self.found.ids[index]) for index in range(self.found.count)]
        finally:
            reclaim_offline(self.reclaim, 0)

    def filter_text(self, uint32_t filter_id):
        """The filter as it was added. KeyError if no shard wants one with this id."""
        self.shard_mask(filter_id)
        cdef Py_ssize_t size = tree_filter_text(self.tree, filter_id, NULL, 0)
        cdef bytearray text = bytearray(size)
        tree_filter_text(self.tree, filter_id, text, size)
        return text.decode()

    def shard_mask(self, uint32_t filter_id):
        """Bit s: shard s wants this filter. KeyError if none does."""
        cdef uint64_t mask = 0
        # The pool knows how far numbers go; behind that there is no memory to look at.
        if ROOT_COUNT <= filter_id < self.tree.nodes.used:
            mask = tree_shard_mask(self.tree, filter_id)
        if mask == 0:
            raise KeyError(filter_id)
        return mask

    def generation(self, str topic not None):
        """A stamp that grows whenever filters come or go that may match the topic."""
        cdef bytes encoded = topic.encode()
        return tree_generation(self.tree, <const uint8_t *> encoded, len(encoded))

    def __len__(self):
        return tree_filter_count(self.tree)

    @property
    def memory_bytes(self):
        return tree_memory_bytes(self.tree)

    cdef bytes parse(self, str topic_filter):
        parsed = self.rules.parse_topic_filter(topic_filter)
        return parsed.topic_filter.encode()


cdef int check_shard(uint32_t shard) except -1:
    if shard >= SHARD_COUNT_MAXIMUM:
        raise IndexError(f"shard {shard}, the limit is {SHARD_COUNT_MAXIMUM}")
    return 0
