"""See rule_tree.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memset

from rookery.core.permissions.placeholders cimport FITS, TENANT_MARK, UNFIT, Fit, Identity, fit_pattern
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport fold_multiply, load_tail, load_word
from rookery.core.topics.names cimport SYSTEM_MARK

cdef struct _Search:
    const RuleTree *tree
    const uint8_t *text
    const Identity *identity
    const uint8_t *topic_end
    uint32_t best


cdef void rule_tree_clear(RuleTree *tree) noexcept nogil:
    free(tree.nodes)
    free(tree.edges)
    memset(tree, 0, sizeof(RuleTree))


cdef extern from * nogil:
    int count_trailing_zeros "__builtin_ctzll" (uint64_t word)


cdef inline Py_ssize_t _level_size(const uint8_t *place, const uint8_t *end) noexcept nogil:
    """Bytes to the next slash or to the end, eight at a time."""
    cdef const uint8_t *begin = place
    cdef uint64_t word
    cdef uint64_t slashes
    while place < end:
        if end - place >= 8:
            word = load_word(place) ^ 0x2F2F2F2F2F2F2F2FULL
        else:
            # The end stands as a slash behind the last byte.
            word = load_tail(place, end - place) ^ 0x2F2F2F2F2F2F2F2FULL
            word &= (<uint64_t> 1 << (8 * (end - place))) - 1
        slashes = (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL
        if slashes:
            return place - begin + (count_trailing_zeros(slashes) >> 3)
        place += 8
    return end - begin


cdef inline uint64_t _head(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    return load_word(text) if size >= 8 else load_tail(text, size)


cdef inline uint32_t _edge_hash(uint32_t parent, uint64_t head, Py_ssize_t size) noexcept nogil:
    # Not keyed: the texts in the table are the operator's, a client cannot make any of them collide. Long levels that
    # begin alike share a chain.
    return <uint32_t> (fold_multiply(
        head ^ <uint64_t> parent << 32 ^ <uint64_t> parent, 0x9E3779B97F4A7C15ULL ^ <uint64_t> size) >> 8)


cdef inline uint32_t _child_of(_Search *search, uint32_t parent, const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef uint64_t head = _head(text, size)
    cdef uint32_t place = _edge_hash(parent, head, size) & search.tree.edge_mask
    cdef const RuleEdge *edge = &search.tree.edges[place]
    while edge.child != 0:
        if (
            edge.head == head
            and edge.parent == parent
            and edge.size == size
            and (size <= 8 or memcmp(search.text + edge.offset + 8, text + 8, size - 8) == 0)
        ):
            return edge.child
        place = (place + 1) & search.tree.edge_mask
        edge = &search.tree.edges[place]
    return 0


cdef inline void _offer(_Search *search, uint32_t order) noexcept nogil:
    if order < search.best:
        search.best = order


cdef void _walk(
    _Search *search, uint32_t index, const uint8_t *place, bint is_root, bint is_denial_only
) noexcept nogil:
    """place is where the next level begins; NULL behind the last one."""
    cdef const RuleNode *node = &search.tree.nodes[index]
    cdef const uint8_t *following
    cdef Py_ssize_t size
    cdef uint32_t child
    cdef bint is_hidden
    cdef Fit fit
    if (node.least_deny if is_denial_only else node.least) >= search.best:
        return
    is_hidden = is_denial_only or (is_root and place[0] == SYSTEM_MARK)
    _offer(search, node.multi_deny if is_hidden else node.multi)
    if place == NULL:
        _offer(search, node.end_deny if is_denial_only else node.end)
        return
    if not node.has_edges and node.first_pattern == 0 and node.single == 0:
        return
    size = _level_size(place, search.topic_end)
    following = place + size + 1 if place + size < search.topic_end else NULL
    if node.has_edges:
        child = _child_of(search, index, place, size)
        if child != 0:
            _walk(search, child, following, False, is_denial_only)
    child = node.first_pattern
    while child != 0:
        fit = fit_pattern(
            search.text + search.tree.nodes[child].pattern_offset, search.tree.nodes[child].pattern_size,
            search.identity, is_root, place, size)
        if fit == FITS:
            _walk(search, child, following, False, is_denial_only)
        elif fit == UNFIT:
            # All that deny here or below go on as "#".
            _offer(search, search.tree.nodes[child].least_deny)
        child = search.tree.nodes[child].next_pattern
    if node.single != 0:
        _walk(search, node.single, following, False, is_hidden)


cdef uint32_t rule_tree_search(
    const RuleTree *tree, const uint8_t *text, uint32_t root, const Identity *identity, Bytes topic, uint32_t best
) noexcept nogil:
    cdef _Search search
    search.tree = tree
    search.text = text
    search.identity = identity
    search.topic_end = topic.data + topic.size
    search.best = best
    _walk(&search, root, topic.data, True, False)
    return search.best


# Building

cdef inline void _lower(uint32_t *field, uint32_t order) noexcept:
    if order < field[0]:
        field[0] = order


cdef class RuleTreeBuilder:
    """Adds rules to a tree and hands it over."""

    def __cinit__(self):
        self.children = {}
        self.literals = []
        self.tree.node_count = 1

    def __dealloc__(self):
        rule_tree_clear(&self.tree)

    cdef uint32_t _add_node(self) except 0:
        cdef uint32_t capacity
        cdef RuleNode *nodes
        cdef RuleNode *node
        if self.tree.node_count >= self.capacity:
            capacity = self.capacity * 2 if self.capacity > 0 else 16
            nodes = <RuleNode *> realloc(self.tree.nodes, capacity * sizeof(RuleNode))
            if nodes == NULL:
                raise MemoryError
            self.tree.nodes = nodes
            self.capacity = capacity
        node = &self.tree.nodes[self.tree.node_count]
        memset(node, 0, sizeof(RuleNode))
        node.end = node.end_deny = node.multi = node.multi_deny = node.least = node.least_deny = NO_RULE
        self.tree.node_count += 1
        return self.tree.node_count - 1

    cdef uint32_t add_root(self) except 0:
        return self._add_node()

    cdef int add_rule(self, uint32_t root, list levels, list offsets, uint32_t order, bint is_deny) except -1:
        cdef uint32_t node = root
        cdef uint32_t child
        cdef RuleNode *nodes
        for level, offset in zip(levels, offsets, strict=True):
            _lower(&self.tree.nodes[node].least, order)
            if is_deny:
                _lower(&self.tree.nodes[node].least_deny, order)
            if level == b"#":
                _lower(&self.tree.nodes[node].multi, order)
                if is_deny:
                    _lower(&self.tree.nodes[node].multi_deny, order)
                return 0
            child = self.children.get((node, level), 0)
            if child == 0:
                child = self.children[node, level] = self._add_node()
                nodes = self.tree.nodes
                if level == b"+":
                    nodes[node].single = child
                elif level and max(level) >= TENANT_MARK:
                    nodes[child].pattern_offset = offset
                    nodes[child].pattern_size = <uint16_t> len(level)
                    nodes[child].next_pattern = nodes[node].first_pattern
                    nodes[node].first_pattern = child
                else:
                    nodes[node].has_edges = 1
                    self.literals.append((node, child, offset, level))
            node = child
        _lower(&self.tree.nodes[node].least, order)
        _lower(&self.tree.nodes[node].end, order)
        if is_deny:
            _lower(&self.tree.nodes[node].least_deny, order)
            _lower(&self.tree.nodes[node].end_deny, order)
        return 0

    cdef int take(self, RuleTree *out) except -1:
        cdef uint32_t table_size = 4
        cdef uint32_t place
        cdef uint64_t head
        cdef RuleEdge *edges
        cdef RuleNode *nodes
        cdef bytes level
        while table_size < 2 * len(self.literals):
            table_size *= 2
        edges = self.tree.edges = <RuleEdge *> calloc(table_size, sizeof(RuleEdge))
        if edges == NULL:
            raise MemoryError
        self.tree.edge_mask = table_size - 1
        for parent, child, offset, level in self.literals:
            head = _head(<const uint8_t *> level, len(level))
            place = _edge_hash(parent, head, len(level)) & self.tree.edge_mask
            while edges[place].child != 0:
                place = (place + 1) & self.tree.edge_mask
            edges[place].child = child
            edges[place].parent = parent
            edges[place].head = head
            edges[place].offset = offset
            edges[place].size = <uint16_t> len(level)
        if self.tree.nodes != NULL:
            nodes = <RuleNode *> realloc(self.tree.nodes, self.tree.node_count * sizeof(RuleNode))
            if nodes != NULL:
                self.tree.nodes = nodes
        out[0] = self.tree
        memset(&self.tree, 0, sizeof(RuleTree))
        return 0
