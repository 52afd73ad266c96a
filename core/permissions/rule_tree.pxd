r"""RuleTree: the first of many rules that matches a topic, found by walking its levels instead of the rules.

    0  a/+/x        root -- a -- "+" -- x {end 0}
    1  a/%c/#         \      \-- %c {multi 1}
    2  #               {multi 2}

A node knows the first rule that ends in it (end), the first that goes on with # (multi), and the first at or below it
(least): what cannot beat the best rule found so far is not walked. Rules are named by their order, the lower the
stronger. Beside each of these stands the first that denies, for two cases in which rules that allow do not count: a
leading wildcard and a topic that begins with "$", and a level whose name cannot stand in a topic (see rule_set.pxd).

One tree holds several roots, one per group of rules. It is built once and never changes. Literal levels are edges of
one hash table; the text of a level is looked up without a copy. About 8 ns per level.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.permissions.placeholders cimport Identity
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    NO_RULE = 0xFFFFFFFF


cdef struct RuleNode:
    uint32_t end                 # orders of rules, or NO_RULE
    uint32_t end_deny
    uint32_t multi
    uint32_t multi_deny
    uint32_t least
    uint32_t least_deny
    uint32_t single              # child for "+"; 0 = none
    uint32_t first_pattern       # first child whose level has placeholders; 0 = none
    uint32_t next_pattern        # the next such child of the same parent
    uint32_t pattern_offset      # of this node's own level, if that has placeholders
    uint16_t pattern_size        # bytes
    uint8_t has_edges            # there are children for literal levels


cdef struct RuleEdge:
    uint64_t head                # the first eight bytes of the level's text, filled up with 0
    uint32_t child               # 0 = free place
    uint32_t parent
    uint32_t offset              # of the text
    uint16_t size                # bytes


cdef struct RuleTree:
    RuleNode *nodes              # 0 is not used
    RuleEdge *edges              # linear probing
    uint32_t edge_mask
    uint32_t node_count


cdef void rule_tree_clear(RuleTree *tree) noexcept nogil
# The lowest order of the rules below root that match topic and are lower than best; else best. text is what offsets
# refer to. Walks each node once at most; as deep as the deepest rule, not as the topic.
cdef uint32_t rule_tree_search(
    const RuleTree *tree, const uint8_t *text, uint32_t root, const Identity *identity, Bytes topic, uint32_t best
) noexcept nogil


cdef class RuleTreeBuilder:
    cdef RuleTree tree           # until it is taken
    cdef uint32_t capacity       # of tree.nodes
    cdef dict children           # (parent, level) -> child
    cdef list literals           # (parent, child, offset, level)

    cdef uint32_t _add_node(self) except 0
    # A new root, to add rules below.
    cdef uint32_t add_root(self) except 0
    # levels: of the topic filter, with marks for placeholders; offsets of their texts.
    cdef int add_rule(self, uint32_t root, list levels, list offsets, uint32_t order, bint is_deny) except -1
    # The tree; the caller owns it now.
    cdef int take(self, RuleTree *out) except -1
