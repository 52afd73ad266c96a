"""RetainedTree: how it is built.

One node per topic level, shared by all topics that begin alike. With messages on `a/b`, `a/c/d` and `$x`:

    1 root --first_child--> "a" --first_child--> "c" --first_child--> "d" value
                             |                    | next_sibling
                             |                   "b" value
    2 root of "$..." -----> "$x" value

Setting, getting and removing go down from a root, and one hash table for the whole tree leads from (node, level) to
the child. Walks go along the children: each node knows its first child, and children are linked both ways, the newest
first.

The table is linear hashing with chains through the nodes. There is a bucket per node, and whoever adds a node to a
full table splits one bucket in two, the next one in turn, so no write ever rehashes more than a bucket or two:

    bucket_count 6, mask 7     a hash belongs to bucket hash & 7, or, where that bucket does not exist yet, hash & 3
    split                      bucket 6 is made, and takes from bucket 2 what has hash & 7 == 6

A node takes 48 bytes and its bucket 4 to 8: 52 to 56 bytes for each level that a topic does not share with others. The
table of the subscription tree would take 14 for the 4, which is the price of readers without locks; here are none.

Nodes and buckets are rows under numbers and lie in segments, each as long as all before it together, that never move.
A long one comes as pages which cost nothing before they are touched; so growing never copies and never stalls.

A walk stands on a node, and goes on in preorder from there: down to the children that the filter's next level wants, or
on to the next sibling if the filter's own level is a wildcard, or up to where there is one. Of the way back it needs
nothing but the parents. While it rests between two calls it *pins* its node, which then stays where it is even without
message and children, as do all above it, for they have children. Everything else may change: nodes that stay keep their
order, nodes that come are put first among their siblings, where no walk that has passed their parent will look again.
So what is there throughout comes once, and nothing comes twice.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

cimport cython

from rookery.core.structures.atomics cimport prefetch
from rookery.core.structures.hashing cimport HashKey, hash_bytes, hash_word, parse_hash_key
from rookery.core.structures.pages cimport PAGE_SIZE, PAGES_SIZE_MINIMUM, pages_allocate, pages_free

cdef extern from * nogil:
    int count_leading_zeros "__builtin_clz" (uint32_t number)  # undefined for 0

cdef enum:
    NONE = 0                 # no node
    ROOT = 1
    DOLLAR_ROOT = 2          # of topics that begin with $
    FIRST_NODE = 3
    INLINE_SIZE = 14         # bytes of level text that need no block of their own: all but long identifiers
    BLOCK_PLACE = 6          # where in the text the address of a block stands, so that it is aligned
    FIRST_SEGMENT_ROWS = 16
    FIRST_SEGMENT_BITS = 4
    SEGMENT_COUNT = 28       # 2 ** 31 rows in all

cdef struct Rows:
    uint8_t *segments[SEGMENT_COUNT]   # rows 0 to 15, 16 to 31, 32 to 63, ...; NULL = not allocated

cdef struct Node:
    void *value              # NULL: no message on this topic
    uint32_t parent
    uint32_t first_child
    uint32_t next_sibling    # of a free node: the next free one
    uint32_t previous_sibling
    uint32_t next_in_bucket
    uint32_t pins            # walks that rest here
    uint16_t level_size      # bytes of text
    uint8_t text[INLINE_SIZE]   # of the level; a longer one: the address of its block, at BLOCK_PLACE

cdef struct RetainedTree:
    HashKey key
    Rows nodes
    Rows buckets             # uint32_t: the first node of a chain
    uint64_t value_count
    uint64_t block_bytes     # of the texts that need a block
    uint32_t node_count      # without the roots
    uint32_t node_end        # numbers below have been in use
    uint32_t free_head       # numbers that are free again
    uint32_t bucket_count
    uint32_t bucket_mask     # the power of two less one with bucket_count in (mask / 2, mask + 1]

cdef struct FilterLevel:
    const uint8_t *text      # in the walk's own copy of the filter
    uint64_t hash            # of the text
    uint16_t size
    uint8_t is_single        # +

cdef struct RetainedWalk:
    RetainedTree *tree
    FilterLevel *levels      # they and the text follow the struct
    uint32_t level_count     # without a closing #
    uint32_t depth           # of node: 0 = a root
    uint32_t node            # where the walk rests, pinned; its own value has been dealt with
    uint8_t is_multi         # the filter ends in #
    uint8_t is_all           # goes on with DOLLAR_ROOT
    uint8_t is_done


cdef RetainedTree *retained_new(const HashKey *key) noexcept nogil:
    cdef RetainedTree *tree = <RetainedTree *> calloc(1, sizeof(RetainedTree))
    if tree == NULL:
        return NULL
    tree.key = key[0]
    tree.node_end = FIRST_NODE
    tree.bucket_count = FIRST_SEGMENT_ROWS
    tree.bucket_mask = FIRST_SEGMENT_ROWS - 1
    if (
        rows_ensure(&tree.nodes, FIRST_NODE, sizeof(Node)) < 0
        or rows_ensure(&tree.buckets, 0, sizeof(uint32_t)) < 0
    ):
        retained_free(tree)
        return NULL
    return tree


cdef void retained_free(RetainedTree *tree) noexcept nogil:
    cdef uint32_t index
    if tree.block_bytes:
        for index in range(FIRST_NODE, tree.node_end):
            free_text(tree, node_at(tree, index))  # Of a free node the text is empty.
    rows_clear(&tree.nodes, 0, sizeof(Node))
    rows_clear(&tree.buckets, 0, sizeof(uint32_t))
    free(tree)


cdef int retained_set(
    RetainedTree *tree, const uint8_t *topic, Py_ssize_t size, void *value, void **previous
) noexcept nogil:
    cdef const uint8_t *end = topic + size
    cdef uint32_t index = root_of(topic, size)
    cdef uint32_t child
    cdef Py_ssize_t level_size
    cdef uint64_t hash
    cdef Node *node
    previous[0] = NULL
    while True:
        level_size = level_end(topic, end) - topic
        hash = hash_bytes(&tree.key, topic, level_size)
        # Without this test every level of a new topic would be looked for in vain.
        child = NONE
        if node_at(tree, index).first_child != NONE:
            child = find_child(tree, index, topic, level_size, hash)
        if child == NONE:
            child = add_child(tree, index, topic, level_size, hash)
            if child == NONE:
                prune(tree, index)
                return -1
        index = child
        topic += level_size + 1
        if topic > end:
            break
    node = node_at(tree, index)
    previous[0] = node.value
    tree.value_count += node.value == NULL
    node.value = value
    return 0


cdef void *retained_remove(RetainedTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil:
    cdef uint32_t index = find_topic(tree, topic, size)
    cdef void *value = NULL
    if index != NONE:
        value = node_at(tree, index).value
        if value != NULL:
            node_at(tree, index).value = NULL
            tree.value_count -= 1
            prune(tree, index)
    return value


cdef void *retained_get(const RetainedTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil:
    cdef uint32_t index = find_topic(tree, topic, size)
    return NULL if index == NONE else node_at(tree, index).value


cdef uint64_t retained_count(const RetainedTree *tree) noexcept nogil:
    return tree.value_count


cdef uint64_t retained_memory_bytes(const RetainedTree *tree) noexcept nogil:
    return (
        sizeof(RetainedTree)
        + rows_memory_bytes(&tree.nodes, tree.node_end, sizeof(Node))
        + rows_memory_bytes(&tree.buckets, tree.bucket_count, sizeof(uint32_t))
        + tree.block_bytes
    )


# The walk

cdef RetainedWalk *retained_walk_new(
    RetainedTree *tree, const uint8_t *topic_filter, Py_ssize_t size
) noexcept nogil:
    cdef const uint8_t *text = topic_filter
    cdef const uint8_t *end = topic_filter + size
    cdef uint32_t level_count = 1
    cdef RetainedWalk *walk
    cdef FilterLevel *level
    while True:
        text = level_end(text, end)
        if text == end:
            break
        text += 1
        level_count += 1
    walk = <RetainedWalk *> malloc(sizeof(RetainedWalk) + level_count * sizeof(FilterLevel) + size)
    if walk == NULL:
        return NULL
    walk.tree = tree
    walk.levels = <FilterLevel *> (walk + 1)
    walk.level_count = 0
    walk.depth = 0
    # A leading wildcard does not match topics that begin with $ [MQTT-4.7.2-1]: they are not under its root.
    walk.node = root_of(topic_filter, size)
    walk.is_multi = 0
    walk.is_all = 0
    walk.is_done = 0
    text = <const uint8_t *> (walk.levels + level_count)
    end = text + size
    memcpy(<void *> text, topic_filter, size)
    while walk.level_count < level_count:
        level = &walk.levels[walk.level_count]
        level.text = text
        level.size = <uint16_t> (level_end(text, end) - text)
        level.is_single = level.size == 1 and text[0] == c"+"
        text += level.size + 1
        if text > end and level.size == 1 and level.text[0] == c"#":
            walk.is_multi = 1
            break
        if not level.is_single:
            level.hash = hash_bytes(&tree.key, level.text, level.size)
        walk.level_count += 1
    node_at(tree, walk.node).pins += 1
    return walk


cdef RetainedWalk *retained_walk_all(RetainedTree *tree) noexcept nogil:
    cdef RetainedWalk *walk = retained_walk_new(tree, <const uint8_t *> b"#", 1)
    if walk != NULL:
        walk.is_all = 1
    return walk


cdef uint32_t retained_walk_next(
    RetainedWalk *walk, void **out, uint32_t limit, uint32_t node_limit, bint *is_done
) noexcept nogil:
    cdef RetainedTree *tree = walk.tree
    cdef uint32_t rested_on = walk.node
    cdef uint32_t index = walk.node
    cdef uint32_t depth = walk.depth
    cdef uint32_t child
    cdef uint32_t count = 0
    cdef uint32_t looked_at = 0
    cdef const FilterLevel *level
    cdef const Node *node
    is_done[0] = walk.is_done
    if walk.is_done:
        return 0
    node = node_at(tree, index)
    while count < limit and looked_at < node_limit:
        child = NONE
        if depth >= walk.level_count:
            if walk.is_multi:
                child = node.first_child
        elif walk.levels[depth].is_single:
            child = node.first_child
        else:
            level = &walk.levels[depth]
            child = find_child(tree, index, level.text, level.size, level.hash)
            looked_at += child == NONE  # It cost as much as a node.
        if child != NONE:
            index = child
            depth += 1
            node = node_at(tree, index)
        elif not go_on(walk, &index, &depth):
            walk.is_done = 1
            is_done[0] = True
            break
        else:
            node = node_at(tree, index)
        looked_at += 1
        # The next step, if it is one to a sibling; the one to a child is not known before the node is there.
        prefetch(node_at(tree, node.next_sibling))
        # With # this takes in the node of the level before it: a/# matches a (4.7.1.2).
        if depth >= walk.level_count and node.value != NULL:
            out[count] = node.value
            count += 1
    walk.depth = depth
    walk.node = NONE if walk.is_done else index
    if walk.node != rested_on:
        # In this order, for what is pruned may be all that was above the new place.
        if walk.node != NONE:
            node_at(tree, walk.node).pins += 1
        unpin(tree, rested_on)
    return count


cdef Py_ssize_t retained_walk_place(const RetainedWalk *walk, uint8_t *out, Py_ssize_t capacity) noexcept nogil:
    cdef uint32_t index = walk.node
    cdef uint32_t _
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t end
    cdef const Node *node
    if walk.is_done:
        return 0
    for _ in range(walk.depth):
        size += node_at(walk.tree, index).level_size + 1
        index = node_at(walk.tree, index).parent
    if size > capacity:
        return size
    index = walk.node
    end = size
    for _ in range(walk.depth):
        node = node_at(walk.tree, index)
        end -= node.level_size
        memcpy(out + end, text_of(node), node.level_size)
        end -= 1
        out[end] = c"." if end == 0 else c"/"
        index = node.parent
    return size


cdef void retained_walk_resume(RetainedWalk *walk, const uint8_t *place, Py_ssize_t size) noexcept nogil:
    cdef const uint8_t *end = place + size
    cdef uint32_t index = walk.node
    cdef uint32_t child
    cdef Py_ssize_t level_size
    while place < end:
        place += 1  # the point, or a slash
        level_size = level_end(place, end) - place
        child = find_child(walk.tree, index, place, level_size, hash_bytes(&walk.tree.key, place, level_size))
        if child == NONE:
            break
        index = child
        walk.depth += 1
        place += level_size
    node_at(walk.tree, index).pins += 1
    unpin(walk.tree, walk.node)
    walk.node = index


cdef void retained_walk_free(RetainedWalk *walk) noexcept nogil:
    if not walk.is_done:
        unpin(walk.tree, walk.node)
    free(walk)


cdef bint go_on(const RetainedWalk *walk, uint32_t *index, uint32_t *depth) noexcept nogil:
    """Go to the next sibling that the filter wants, of the node or of the next one above it; False: there is none."""
    cdef const Node *node
    while depth[0] > 0:
        node = node_at(walk.tree, index[0])
        if node.next_sibling != NONE and (depth[0] > walk.level_count or walk.levels[depth[0] - 1].is_single):
            index[0] = node.next_sibling
            return True
        index[0] = node.parent
        depth[0] -= 1
    if walk.is_all and index[0] == ROOT:
        index[0] = DOLLAR_ROOT
        return True
    return False


cdef void unpin(RetainedTree *tree, uint32_t index) noexcept nogil:
    node_at(tree, index).pins -= 1
    prune(tree, index)


# Nodes

cdef inline Node *node_at(const RetainedTree *tree, uint32_t index) noexcept nogil:
    return <Node *> row_at(&tree.nodes, index, sizeof(Node))


cdef inline uint32_t root_of(const uint8_t *topic, Py_ssize_t size) noexcept nogil:
    return DOLLAR_ROOT if size > 0 and topic[0] == c"$" else ROOT


cdef inline const uint8_t *level_end(const uint8_t *text, const uint8_t *end) noexcept nogil:
    cdef const uint8_t *slash = <const uint8_t *> memchr(text, c"/", end - text)
    return end if slash == NULL else slash


cdef inline const uint8_t *text_of(const Node *node) noexcept nogil:
    if node.level_size <= INLINE_SIZE:
        return node.text
    return (<const uint8_t **> &node.text[BLOCK_PLACE])[0]


cdef inline void free_text(RetainedTree *tree, Node *node) noexcept nogil:
    if node.level_size > INLINE_SIZE:
        free(<void *> text_of(node))
        tree.block_bytes -= node.level_size
    node.level_size = 0


cdef uint32_t find_topic(const RetainedTree *tree, const uint8_t *topic, Py_ssize_t size) noexcept nogil:
    """The node of a topic, with or without a message, or NONE."""
    cdef const uint8_t *end = topic + size
    cdef uint32_t index = root_of(topic, size)
    cdef Py_ssize_t level_size
    while True:
        level_size = level_end(topic, end) - topic
        index = find_child(tree, index, topic, level_size, hash_bytes(&tree.key, topic, level_size))
        topic += level_size + 1
        if index == NONE or topic > end:
            return index


cdef inline uint32_t find_child(
    const RetainedTree *tree, uint32_t parent, const uint8_t *text, Py_ssize_t size, uint64_t text_hash
) noexcept nogil:
    cdef uint32_t index = bucket_of(tree, edge_hash(tree, parent, text_hash))[0]
    cdef const Node *node
    while index != NONE:
        node = node_at(tree, index)
        if node.parent == parent and node.level_size == size and memcmp(text_of(node), text, size) == 0:
            break
        index = node.next_in_bucket
    return index


cdef uint32_t add_child(
    RetainedTree *tree, uint32_t parent, const uint8_t *text, Py_ssize_t size, uint64_t text_hash
) noexcept nogil:
    """A new node without value, the first among its siblings; NONE when memory is short."""
    cdef uint32_t index = tree.free_head
    cdef uint32_t *bucket
    cdef uint8_t *block
    cdef Node *node
    if index == NONE:
        index = tree.node_end
        if rows_ensure(&tree.nodes, index, sizeof(Node)) < 0:
            return NONE
    node = node_at(tree, index)
    if size > INLINE_SIZE:
        block = <uint8_t *> malloc(size)
        if block == NULL:
            return NONE
        memcpy(block, text, size)
        (<uint8_t **> &node.text[BLOCK_PLACE])[0] = block
        tree.block_bytes += size
    else:
        memcpy(node.text, text, size)
    if index == tree.free_head:
        tree.free_head = node.next_sibling
    else:
        tree.node_end += 1
    node.value = NULL
    node.parent = parent
    node.first_child = NONE
    node.next_sibling = node_at(tree, parent).first_child
    node.previous_sibling = NONE
    node.pins = 0
    node.level_size = <uint16_t> size
    if node.next_sibling != NONE:
        node_at(tree, node.next_sibling).previous_sibling = index
    node_at(tree, parent).first_child = index
    bucket = bucket_of(tree, edge_hash(tree, parent, text_hash))
    node.next_in_bucket = bucket[0]
    bucket[0] = index
    tree.node_count += 1
    if tree.node_count > tree.bucket_count:
        split_bucket(tree)
    return index


cdef void prune(RetainedTree *tree, uint32_t index) noexcept nogil:
    """Remove the node if nothing needs it any more, and then those above it."""
    cdef Node *node
    cdef uint32_t parent
    while index >= FIRST_NODE:
        node = node_at(tree, index)
        if node.value != NULL or node.first_child != NONE or node.pins != 0:
            return
        parent = node.parent
        if node.previous_sibling == NONE:
            node_at(tree, parent).first_child = node.next_sibling
        else:
            node_at(tree, node.previous_sibling).next_sibling = node.next_sibling
        if node.next_sibling != NONE:
            node_at(tree, node.next_sibling).previous_sibling = node.previous_sibling
        leave_bucket(tree, index)
        free_text(tree, node)
        node.next_sibling = tree.free_head
        tree.free_head = index
        tree.node_count -= 1
        while tree.node_count * 2 < tree.bucket_count and tree.bucket_count > FIRST_SEGMENT_ROWS:
            merge_bucket(tree)  # Twice at most, for one node has gone.
        index = parent
    if tree.node_count == 0 and tree.node_end > FIRST_NODE:
        rows_clear(&tree.nodes, 1, sizeof(Node))
        tree.node_end = FIRST_NODE
        tree.free_head = NONE


# The table

cdef inline uint32_t edge_hash(const RetainedTree *tree, uint32_t parent, uint64_t text_hash) noexcept nogil:
    return <uint32_t> hash_word(&tree.key, text_hash + parent * 0x9E3779B97F4A7C15ULL)


cdef inline uint32_t *bucket_of(const RetainedTree *tree, uint32_t hash) noexcept nogil:
    cdef uint32_t number = hash & tree.bucket_mask
    if number >= tree.bucket_count:
        number &= tree.bucket_mask >> 1
    return <uint32_t *> row_at(&tree.buckets, number, sizeof(uint32_t))


cdef inline uint32_t hash_of(const RetainedTree *tree, const Node *node) noexcept nogil:
    # Computed again where it is needed, twice in the life of a node, instead of stored for all of it.
    return edge_hash(tree, node.parent, hash_bytes(&tree.key, text_of(node), node.level_size))


cdef void leave_bucket(RetainedTree *tree, uint32_t index) noexcept nogil:
    cdef Node *node = node_at(tree, index)
    cdef uint32_t *link = bucket_of(tree, hash_of(tree, node))
    while link[0] != index:
        link = &node_at(tree, link[0]).next_in_bucket
    link[0] = node.next_in_bucket


cdef void split_bucket(RetainedTree *tree) noexcept nogil:
    """Make one bucket more. When memory is short the chains grow instead."""
    cdef uint32_t number = tree.bucket_count
    cdef uint32_t mask = tree.bucket_mask
    cdef uint32_t *link
    cdef uint32_t *made
    cdef Node *node
    if number > mask:
        mask = mask * 2 + 1
    if rows_ensure(&tree.buckets, number, sizeof(uint32_t)) < 0:
        return
    made = <uint32_t *> row_at(&tree.buckets, number, sizeof(uint32_t))
    made[0] = NONE
    link = <uint32_t *> row_at(&tree.buckets, number & mask >> 1, sizeof(uint32_t))
    while link[0] != NONE:
        node = node_at(tree, link[0])
        if hash_of(tree, node) & mask == number:
            made[0] = link[0]
            made = &node.next_in_bucket
            link[0] = made[0]
            made[0] = NONE
        else:
            link = &node.next_in_bucket
    tree.bucket_mask = mask
    tree.bucket_count = number + 1


cdef void merge_bucket(RetainedTree *tree) noexcept nogil:
    """Make one bucket less."""
    cdef uint32_t number = tree.bucket_count - 1
    cdef uint32_t *link = <uint32_t *> row_at(&tree.buckets, number & tree.bucket_mask >> 1, sizeof(uint32_t))
    while link[0] != NONE:
        link = &node_at(tree, link[0]).next_in_bucket
    link[0] = (<uint32_t *> row_at(&tree.buckets, number, sizeof(uint32_t)))[0]
    tree.bucket_count = number
    if number == tree.bucket_mask // 2 + 1:
        # All that is left are the segments before the last one.
        tree.bucket_mask >>= 1
        rows_clear(&tree.buckets, segment_of(number), sizeof(uint32_t))


# Rows under numbers

cdef inline int segment_of(uint32_t number) noexcept nogil:
    if number < FIRST_SEGMENT_ROWS:
        return 0
    return 32 - FIRST_SEGMENT_BITS - count_leading_zeros(number)


cdef inline size_t segment_rows(int segment) noexcept nogil:
    return FIRST_SEGMENT_ROWS if segment == 0 else <size_t> FIRST_SEGMENT_ROWS << (segment - 1)


cdef inline void *row_at(const Rows *rows, uint32_t number, size_t row_size) noexcept nogil:
    cdef int segment
    if number < FIRST_SEGMENT_ROWS:
        return rows.segments[0] + number * row_size
    segment = segment_of(number)
    return rows.segments[segment] + (number - segment_rows(segment)) * row_size


cdef int rows_ensure(Rows *rows, uint32_t number, size_t row_size) noexcept nogil:
    """Make sure that the row exists, zeroed if it is new; 0, or -1 when memory is short or all numbers are used."""
    cdef int segment = segment_of(number)
    if segment >= SEGMENT_COUNT:
        return -1
    if rows.segments[segment] == NULL:
        rows.segments[segment] = <uint8_t *> pages_allocate(segment_rows(segment) * row_size)
        if rows.segments[segment] == NULL:
            return -1
    return 0


cdef void rows_clear(Rows *rows, int first_segment, size_t row_size) noexcept nogil:
    """Free the segments from first_segment on."""
    cdef int segment
    for segment in range(first_segment, SEGMENT_COUNT):
        pages_free(rows.segments[segment], segment_rows(segment) * row_size)
        rows.segments[segment] = NULL


cdef uint64_t rows_memory_bytes(const Rows *rows, uint32_t end, size_t row_size) noexcept nogil:
    """Bytes that rows 0 to end - 1 take, the untouched pages behind them not counted."""
    cdef uint64_t total = 0
    cdef uint64_t size
    cdef uint64_t first = 0
    cdef int segment
    for segment in range(SEGMENT_COUNT):
        if rows.segments[segment] != NULL:
            size = segment_rows(segment) * row_size
            if size >= PAGES_SIZE_MINIMUM and end < first + segment_rows(segment):
                size = (max(end, first) - first) * row_size
                size = (size + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
            total += size
        first += segment_rows(segment)
    return total


# The Python face

cdef class RetainedTopics:
    """A RetainedTree whose values are positive integers."""

    cdef RetainedTree *tree

    def __cinit__(self, bytes hash_key not None=bytes(16)):
        cdef HashKey key
        parse_hash_key(hash_key, &key)
        self.tree = retained_new(&key)
        if self.tree == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.tree != NULL:
            retained_free(self.tree)

    def __len__(self):
        return retained_count(self.tree)

    def set(self, str topic not None, uintptr_t value):
        """Store value for topic; returns what it replaces, or None."""
        cdef bytes encoded = topic.encode()
        cdef void *previous
        if value == 0:
            raise ValueError("0 is no value of a retained tree")
        if retained_set(self.tree, <const uint8_t *> encoded, len(encoded), <void *> value, &previous) < 0:
            raise MemoryError
        return <uintptr_t> previous or None

    def remove(self, str topic not None):
        """What was stored, or None."""
        cdef bytes encoded = topic.encode()
        return <uintptr_t> retained_remove(self.tree, <const uint8_t *> encoded, len(encoded)) or None

    def get(self, str topic not None):
        cdef bytes encoded = topic.encode()
        return <uintptr_t> retained_get(self.tree, <const uint8_t *> encoded, len(encoded)) or None

    def match(self, str topic_filter not None):
        """A walk over what the filter matches."""
        cdef RetainedMatches matches = RetainedMatches.__new__(RetainedMatches)
        cdef bytes encoded = topic_filter.encode()
        matches.topics = self
        matches.walk = retained_walk_new(self.tree, <const uint8_t *> encoded, len(encoded))
        if matches.walk == NULL:
            raise MemoryError
        return matches

    def match_all(self):
        """A walk over everything, topics that begin with $ included."""
        cdef RetainedMatches matches = RetainedMatches.__new__(RetainedMatches)
        matches.topics = self
        matches.walk = retained_walk_all(self.tree)
        if matches.walk == NULL:
            raise MemoryError
        return matches

    @property
    def node_count(self):
        """Topic levels that are stored, each once."""
        return self.tree.node_count

    @property
    def memory_bytes(self):
        return retained_memory_bytes(self.tree)


@cython.no_gc_clear  # the walk needs the tree to the very end
cdef class RetainedMatches:
    """A RetainedWalk. Made by RetainedTopics, which it keeps alive."""

    cdef RetainedTopics topics
    cdef RetainedWalk *walk
    cdef readonly bint is_done

    def __dealloc__(self):
        if self.walk != NULL:
            retained_walk_free(self.walk)

    def take(self, uint32_t limit, uint32_t node_limit=1000):
        """Up to limit further values, having looked at no more than node_limit nodes."""
        cdef void **out
        cdef uint32_t count
        cdef uint32_t index
        if limit == 0 or node_limit == 0:
            raise ValueError(f"limits are at least 1, not {limit} values and {node_limit} nodes")
        out = <void **> malloc(limit * sizeof(void *))
        if out == NULL:
            raise MemoryError
        count = retained_walk_next(self.walk, out, limit, node_limit, &self.is_done)
        try:
            return [<uintptr_t> out[index] for index in range(count)]
        finally:
            free(out)
