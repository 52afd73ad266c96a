"""See rule_set.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Sequence
from typing import NamedTuple

from rookery.core.permissions.placeholders cimport (
    CLIENT_MARK, CLIENT_NAME, DIFFERS, FITS, NAME_COUNT, TENANT_MARK, TENANT_NAME, UNFIT, USER_MARK, USER_NAME, Fit,
    Identity, fit_pattern, inspect_names,
)
from rookery.core.permissions.rule import Action, Effect, InvalidRule, Rule
from rookery.core.permissions.rule_tree cimport (
    NO_RULE, RuleEdge, RuleNode, RuleTreeBuilder, rule_tree_clear, rule_tree_search,
)
from rookery.core.structures.atomics cimport (
    atomic_add_u64, atomic_load_pointer, atomic_store_pointer, atomic_subtract_u64,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport HashKey, hash_bytes
from rookery.core.topics.names cimport LEVEL_SEPARATOR, MULTI_LEVEL, SINGLE_LEVEL, SYSTEM_MARK

cdef enum _Relation:
    _APART = 0                   # no topic in common
    _OVERLAPS = 1
    _COVERS = 2                  # the rule matches every topic that the text matches

_MARKS = {"t": bytes([TENANT_MARK]), "c": bytes([CLIENT_MARK]), "u": bytes([USER_MARK]), "%": b"%"}
_ACTION_BITS = {
    Action.PUBLISH: ACTION_PUBLISH, Action.SUBSCRIBE: ACTION_SUBSCRIBE, Action.UNSUBSCRIBE: ACTION_UNSUBSCRIBE,
}


cdef extern from * nogil:
    int count_trailing_zeros "__builtin_ctz" (unsigned int word)


# Life

cdef void rule_set_acquire(RuleSet *rules) noexcept nogil:
    atomic_add_u64(&rules.references, 1)


cdef void rule_set_release(RuleSet *rules) noexcept nogil:
    cdef RuleSet *successor
    # A loop, for a chain of sets that replaced each other may be long.
    while rules != NULL and atomic_subtract_u64(&rules.references, 1) == 1:
        successor = rules.successor
        free(rules.rules)
        free(rules.levels)
        rule_tree_clear(&rules.tree)
        free(rules.verdicts)
        free(rules.text)
        free(rules.groups)
        free(rules.group_table)
        free(rules)
        rules = successor


cdef RuleSet *rule_set_current(RuleSet *rules) noexcept nogil:
    cdef RuleSet *successor
    while rules != NULL:
        successor = <RuleSet *> atomic_load_pointer(<void **> &rules.successor)
        if successor == NULL:
            break
        rule_set_acquire(successor)
        rule_set_release(rules)
        rules = successor
    return rules


cdef bint rule_set_is_replaced(RuleSet *rules) noexcept nogil:
    return atomic_load_pointer(<void **> &rules.successor) != NULL


# One rule

cdef inline Fit _fit_level(
    const RuleSet *rules, const RuleLevel *level, const Identity *identity, bint is_first_level,
    const uint8_t *text, Py_ssize_t size
) noexcept nogil:
    if level.kind == LEVEL_LITERAL:
        return FITS if level.size == size and memcmp(rules.text + level.offset, text, size) == 0 else DIFFERS
    return fit_pattern(rules.text + level.offset, level.size, identity, is_first_level, text, size)


cdef inline bint _is_system_level(const RuleSet *rules, const RuleLevel *level) noexcept nogil:
    """Does the level begin with "$"? (No name that stands at the front of a topic does.)"""
    return level.kind <= LEVEL_PATTERN and level.size > 0 and rules.text[level.offset] == SYSTEM_MARK


cdef _Relation _relate(
    const RuleSet *rules, const CompiledRule *rule, const Identity *identity, Bytes text
) noexcept nogil:
    """How the topics that rule is about lie to those that text, a topic or a topic filter, matches."""
    cdef const RuleLevel *level = &rules.levels[rule.first_level]
    cdef const RuleLevel *end = level + rule.level_count
    cdef const uint8_t *place = text.data
    cdef const uint8_t *text_end = text.data + text.size
    cdef const uint8_t *slash
    cdef Py_ssize_t size
    cdef bint is_first = True
    cdef bint is_single
    cdef _Relation relation = _COVERS
    cdef Fit fit
    while True:
        if level < end and level.kind == LEVEL_MULTI:
            if is_first and rule.verdict != VERDICT_DENIED and place[0] == SYSTEM_MARK:
                return _APART
            return relation
        if place == NULL:
            return relation if level == end else _APART
        slash = <const uint8_t *> memchr(place, LEVEL_SEPARATOR, text_end - place)
        size = (text_end if slash == NULL else slash) - place
        if size == 1 and place[0] == MULTI_LEVEL:
            # Whatever the rest of the rule asks for, the text has it below (or at) the level before.
            while level < end:
                if is_first and _is_system_level(rules, level):
                    return _APART
                if level.kind == LEVEL_PATTERN and _fit_level(
                    rules, level, identity, is_first, NULL, 0
                ) == UNFIT:
                    return _OVERLAPS if rule.verdict == VERDICT_DENIED else _APART
                is_first = False
                level += 1
            return _OVERLAPS
        if level == end:
            return _APART
        is_single = size == 1 and place[0] == SINGLE_LEVEL
        if level.kind == LEVEL_SINGLE:
            if is_first and rule.verdict != VERDICT_DENIED and place[0] == SYSTEM_MARK:
                return _APART
        elif is_single and is_first and _is_system_level(rules, level):
            return _APART
        else:
            fit = _fit_level(rules, level, identity, is_first, place, size)
            if fit == UNFIT:
                # A rule that denies goes on as "#".
                return relation if rule.verdict == VERDICT_DENIED else _APART
            if is_single:
                relation = _OVERLAPS
            elif fit == DIFFERS:
                return _APART
        level += 1
        is_first = False
        place = slash + 1 if slash != NULL else NULL


# The set

cdef uint64_t _group_hash(uint8_t selector, const Identity *identity) noexcept nogil:
    # The names in the table are the operator's, so that nobody can choose collisions.
    cdef HashKey key
    cdef uint64_t hash = selector
    cdef int place
    key.first = key.second = 0
    for place in range(NAME_COUNT):
        if selector >> place & 1:
            hash = (hash << 23 | hash >> 41) ^ hash_bytes(
                &key, identity.names[place].data, identity.names[place].size)
    return hash


cdef bint _is_group_of(const RuleSet *rules, const RuleGroup *group, const Identity *identity) noexcept nogil:
    cdef int place
    for place in range(NAME_COUNT):
        if group.selector >> place & 1 and (
            group.sizes[place] != identity.names[place].size
            or memcmp(rules.text + group.offsets[place], identity.names[place].data, group.sizes[place]) != 0
        ):
            return False
    return True


cdef const RuleGroup *_find_group(const RuleSet *rules, uint8_t selector, const Identity *identity) noexcept nogil:
    cdef uint64_t hash = _group_hash(selector, identity)
    cdef uint32_t place = <uint32_t> hash & rules.table_mask
    cdef const RuleGroup *group
    while rules.group_table[place] != 0:
        group = &rules.groups[rules.group_table[place] - 1]
        if group.hash == hash and group.selector == selector and _is_group_of(rules, group, identity):
            return group
        place = (place + 1) & rules.table_mask
    return NULL


cdef inline uint32_t _find_groups(
    const RuleSet *rules, const Identity *identity, const RuleGroup **out
) noexcept nogil:
    """The groups that hold rules for identity, at most one per selector."""
    cdef uint32_t selectors = rules.selectors
    cdef uint32_t count = 0
    cdef const RuleGroup *group
    if selectors == 1:
        # The rules name nobody: there is one group, and it is for everybody.
        out[0] = rules.groups
        return 1
    while selectors != 0:
        group = _find_group(rules, <uint8_t> count_trailing_zeros(selectors), identity)
        selectors &= selectors - 1
        if group != NULL:
            out[count] = group
            count += 1
    return count


cdef uint8_t rule_set_check(
    const RuleSet *rules, RuleAction action, const Identity *identity, Bytes text
) noexcept nogil:
    cdef uint32_t place
    return rule_set_decide(rules, action, identity, text, &place)


cdef uint8_t rule_set_decide(
    const RuleSet *rules, RuleAction action, const Identity *identity, Bytes text, uint32_t *place
) noexcept nogil:
    cdef const RuleGroup *groups[SELECT_ALL + 1]
    cdef const CompiledRule *next_rules[SELECT_ALL + 1]
    cdef const CompiledRule *ends[SELECT_ALL + 1]
    cdef const CompiledRule *rule
    cdef uint32_t order = NO_RULE
    cdef uint32_t count = _find_groups(rules, identity, groups)
    cdef uint32_t index, first
    cdef uint8_t qos = 2
    cdef _Relation relation
    if action == ACTION_PUBLISH:
        for index in range(count):
            order = rule_tree_search(&rules.tree, rules.text, groups[index].root, identity, text, order)
        place[0] = order
        return rules.default_verdict if order == NO_RULE else rules.verdicts[order]
    place[0] = NO_RULE
    for index in range(count):
        next_rules[index] = &rules.rules[groups[index].first_rule]
        ends[index] = next_rules[index] + groups[index].rule_count
    while count > 0:
        first = 0
        for index in range(1, count):
            if next_rules[index].order < next_rules[first].order:
                first = index
        rule = next_rules[first]
        next_rules[first] += 1
        if next_rules[first] == ends[first]:
            count -= 1
            next_rules[first] = next_rules[count]
            ends[first] = ends[count]
        if not rule.actions & action:
            continue
        relation = _relate(rules, rule, identity, text)
        if relation == _APART:
            continue
        if rule.verdict == VERDICT_DENIED:
            place[0] = rule.order
            return VERDICT_DENIED
        if rule.verdict & VERDICT_QOS < qos:
            qos = rule.verdict & VERDICT_QOS
        if relation == _COVERS:
            place[0] = rule.order
            return (rule.verdict & ~VERDICT_QOS) | qos
    if action == ACTION_UNSUBSCRIBE:
        return VERDICT_ALLOWED
    if rules.default_verdict == VERDICT_DENIED:
        return VERDICT_DENIED
    return (rules.default_verdict & ~VERDICT_QOS) | qos


# Compiling

class Granted(NamedTuple):
    """An action that is allowed, and how far."""

    max_qos: int
    retain: bool  # of a publication


cdef class _Text:
    """Byte strings one after the other, equal ones once."""

    cdef bytearray bytes
    cdef dict offsets

    def __cinit__(self):
        self.bytes = bytearray()
        self.offsets = {}

    cdef uint32_t add(self, bytes piece) except? 0xFFFFFFFF:
        offset = self.offsets.get(piece)
        if offset is None:
            offset = self.offsets[piece] = len(self.bytes)
            self.bytes += piece
        return offset


cdef bytes _compile_filter(str text):
    """The topic filter with marks in place of its placeholders."""
    cdef list pieces = text.split("%")
    cdef bytes compiled = pieces[0].encode()
    cdef Py_ssize_t index = 1
    while index < len(pieces):
        if pieces[index]:
            compiled += _MARKS[pieces[index][0]] + pieces[index][1:].encode()
            index += 1
        else:  # %% and what stands behind it
            compiled += b"%" + pieces[index + 1].encode()
            index += 2
    # These two are about the same topics; the shorter one covers more topic filters.
    return b"#" if compiled == b"+/#" else compiled


cdef RuleLevelKind _level_kind(bytes level) except *:
    if level == b"+":
        return LEVEL_SINGLE
    if level == b"#":
        return LEVEL_MULTI
    return LEVEL_PATTERN if level and max(level) >= TENANT_MARK else LEVEL_LITERAL


cdef RuleSet *_allocate(Py_ssize_t rule_count, Py_ssize_t group_count, Py_ssize_t level_count) except NULL:
    cdef RuleSet *compiled = <RuleSet *> calloc(1, sizeof(RuleSet))
    cdef uint32_t table_size = 4
    if compiled == NULL:
        raise MemoryError
    while table_size < 2 * group_count:
        table_size *= 2
    compiled.references = 1
    compiled.table_mask = table_size - 1
    compiled.rules = <CompiledRule *> calloc(rule_count + 1, sizeof(CompiledRule))
    compiled.verdicts = <uint8_t *> calloc(rule_count + 1, 1)
    compiled.levels = <RuleLevel *> calloc(level_count + 1, sizeof(RuleLevel))
    compiled.groups = <RuleGroup *> calloc(group_count + 1, sizeof(RuleGroup))
    compiled.group_table = <uint32_t *> calloc(table_size, sizeof(uint32_t))
    if (
        compiled.rules == NULL or compiled.verdicts == NULL or compiled.levels == NULL or compiled.groups == NULL
        or compiled.group_table == NULL
    ):
        rule_set_release(compiled)
        raise MemoryError
    compiled.memory_bytes = (
        sizeof(RuleSet) + (rule_count + 1) * (sizeof(CompiledRule) + 1) + (level_count + 1) * sizeof(RuleLevel)
        + (group_count + 1) * sizeof(RuleGroup) + table_size * sizeof(uint32_t))
    return compiled


cdef int _add_group(RuleSet *compiled, RuleTreeBuilder builder, _Text text, tuple names) except -1:
    """A group behind the last one, of tenant, user and client; None for a name means that it does not matter."""
    cdef RuleGroup *group = &compiled.groups[compiled.group_count]
    cdef list encoded = [(wanted or "").encode() for wanted in names]
    cdef bytes name
    cdef Identity identity
    cdef uint32_t place
    for place in range(NAME_COUNT):
        name = encoded[place]
        identity.names[place] = Bytes(data=name, size=len(name))
        group.offsets[place] = text.add(name)
        group.sizes[place] = <uint16_t> len(name)
        if names[place] is not None:
            group.selector |= <uint8_t> (1 << place)
    group.hash = _group_hash(group.selector, &identity)
    group.first_rule = compiled.rule_count
    group.root = builder.add_root()
    compiled.selectors |= <uint8_t> (1 << group.selector)
    compiled.group_count += 1
    place = <uint32_t> group.hash & compiled.table_mask
    while compiled.group_table[place] != 0:
        place = (place + 1) & compiled.table_mask
    compiled.group_table[place] = compiled.group_count
    return 0


cdef int _add_rule(
    RuleSet *compiled, RuleTreeBuilder builder, _Text text, object source, uint32_t order, uint32_t *level_count
) except -1:
    """A rule behind the last one, of the last group."""
    cdef CompiledRule *rule = &compiled.rules[compiled.rule_count]
    cdef RuleLevel *level
    cdef RuleGroup *group = &compiled.groups[compiled.group_count - 1]
    cdef list pieces = _compile_filter(source.topic_filter).split(b"/")
    cdef list offsets = [text.add(piece) for piece in pieces]
    rule.order = order
    rule.first_level = level_count[0]
    for action in source.actions:
        rule.actions |= <uint8_t> _ACTION_BITS[action]
    if source.effect is Effect.ALLOW:
        rule.verdict = <uint8_t> (VERDICT_ALLOWED | source.max_qos | VERDICT_RETAIN * source.retain)
    for piece, offset in zip(pieces, offsets, strict=True):
        level = &compiled.levels[level_count[0]]
        level.kind = _level_kind(piece)
        level.offset = offset
        level.size = <uint16_t> len(piece)
        level_count[0] += 1
        rule.level_count += 1
    compiled.verdicts[order] = rule.verdict
    if rule.actions & ACTION_PUBLISH:
        builder.add_rule(group.root, pieces, offsets, order, rule.verdict == VERDICT_DENIED)
    group.rule_count += 1
    compiled.rule_count += 1
    return 0


cdef class Permissions:
    """An immutable, compiled list of rules. See rule_set.pyi."""

    def __cinit__(self, rules=(), *, default=Effect.DENY, bint disconnects=False):
        cdef _Text text = _Text()
        cdef RuleTreeBuilder builder = RuleTreeBuilder()
        cdef dict groups = {}
        cdef uint32_t level_count = 0
        if not isinstance(rules, Sequence):
            raise TypeError("rules must be a sequence of Rule")
        if len(rules) > RULES_MAXIMUM:
            raise InvalidRule(f"{len(rules)} rules, the limit is {RULES_MAXIMUM}")
        self.rules = tuple(rules)
        self.default = Effect(default)
        self.disconnects = disconnects
        for order, rule in enumerate(self.rules):
            if not isinstance(rule, Rule):
                raise TypeError(f"{rule!r} is not a Rule")
            groups.setdefault((rule.tenant_id, rule.user_id, rule.client_id), []).append(order)
            level_count += rule.topic_filter.count("/") + 1
        self.compiled = _allocate(len(self.rules), len(groups), level_count)
        level_count = 0
        for names, orders in groups.items():
            _add_group(self.compiled, builder, text, names)
            for order in orders:
                _add_rule(self.compiled, builder, text, self.rules[order], order, &level_count)
        builder.take(&self.compiled.tree)
        self.compiled.text = <uint8_t *> calloc(len(text.bytes) + 1, 1)
        if self.compiled.text == NULL:
            raise MemoryError
        memcpy(self.compiled.text, <const uint8_t *> text.bytes, len(text.bytes))
        self.compiled.memory_bytes += (
            len(text.bytes) + 1 + self.compiled.tree.node_count * sizeof(RuleNode)
            + (self.compiled.tree.edge_mask + 1) * sizeof(RuleEdge))
        self.compiled.closes_for_publish = disconnects
        if self.default is Effect.ALLOW:
            self.compiled.default_verdict = VERDICT_ALLOWED | VERDICT_RETAIN | 2

    def __dealloc__(self):
        rule_set_release(self.compiled)

    def __len__(self):
        return len(self.rules)

    def __repr__(self):
        return f"Permissions({len(self.rules)} rules, default={self.default.value!r})"

    @property
    def memory_bytes(self):
        return self.compiled.memory_bytes

    @property
    def is_replaced(self):
        return rule_set_is_replaced(self.compiled)

    @property
    def identity(self):
        return <size_t> self.compiled

    def replace_by(self, Permissions successor not None):
        """For Engine.replace_permissions."""
        if self.is_replaced or successor.is_replaced or successor is self:
            raise ValueError("permissions that were replaced cannot be replaced again, or replace others")
        rule_set_acquire(successor.compiled)
        atomic_store_pointer(<void **> &self.compiled.successor, successor.compiled)

    def check(self, action, str text not None, *, str tenant_id="", str user_id="", str client_id=""):
        cdef bytes tenant = tenant_id.encode()
        cdef bytes user = user_id.encode()
        cdef bytes client = client_id.encode()
        cdef bytes encoded = text.encode()
        cdef Identity identity
        cdef RuleAction wanted = _ACTION_BITS[Action(action)]
        cdef uint8_t verdict
        identity.names[TENANT_NAME] = Bytes(data=tenant, size=len(tenant))
        identity.names[USER_NAME] = Bytes(data=user, size=len(user))
        identity.names[CLIENT_NAME] = Bytes(data=client, size=len(client))
        inspect_names(&identity)
        verdict = rule_set_check(self.compiled, wanted, &identity, Bytes(data=encoded, size=len(encoded)))
        if not verdict & VERDICT_ALLOWED:
            return None
        return Granted(verdict & VERDICT_QOS, bool(verdict & VERDICT_RETAIN))
