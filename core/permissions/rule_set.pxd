r"""RuleSet: an ordered list of rules, compiled once, shared by all connections that it holds for.

What it allows. Rules for other tenants, users or clients than the one who asks are passed over; of the rest, in order:

    publish to a topic     The first rule whose topic filter matches the topic decides. If it allows, a QoS above its
                           max_qos and a RETAIN flag that it does not allow are denied all the same.
    subscribe to a filter  Rules are tried in order. One that allows and covers the whole filter (every topic that the
                           filter matches) allows it. One that denies and overlaps the filter (matches some topic that
                           the filter matches) denies it. All others are passed over. The QoS granted is the lowest
                           max_qos of the rules that allow and overlap, up to the one that decided.
    unsubscribe            As subscribe.

When none decides, the set's default does; unsubscribing is allowed then, for it takes nothing from anybody.

From this follows what the rest of the core relies on: every topic that an allowed filter matches could have been
subscribed to by itself. A message that reaches a session by its subscriptions needs no check of its own. (Where
several rules cover a filter only together it is denied: `a` and `a/+/#` do not allow `a/#`.)

Leading wildcards: in a rule that allows they do not match topics that begin with "$", as in a subscription
[MQTT-4.7.2-1]; in a rule that denies they do, so that "deny #" leaves no gap.

Placeholders are not replaced but compared with the names of whoever asks, so one set serves all users. A name that is
empty, holds "/", "+" or "#", or would put a "$" in front of the topic cannot stand in a topic level: rules that allow
are passed over then, and rules that deny hold for everything below the level before it. So a name can never widen what
its bearer may do.

    rules of one set        groups, by whom they are for     levels of rule 1: `a/%c-x/#`
    0  allow a/b            (everybody): 0, 1                LITERAL "a"   PATTERN "\xff-x"   MULTI
    1  deny  a/%c-x/#       (user u1):   2
    2  allow a/#  user u1
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from rookery.core.permissions.placeholders cimport Identity
from rookery.core.permissions.rule_tree cimport RuleTree
from rookery.core.structures.bytes cimport Bytes

cdef enum:
    RULES_MAXIMUM = 1000000      # in one set

cdef enum RuleAction:
    ACTION_PUBLISH = 1
    ACTION_SUBSCRIBE = 2
    ACTION_UNSUBSCRIBE = 4

# What a check finds: 0, or VERDICT_ALLOWED with the highest QoS and whether messages may be retained.
cdef enum Verdict:
    VERDICT_DENIED = 0
    VERDICT_QOS = 0x03           # mask
    VERDICT_RETAIN = 0x04
    VERDICT_ALLOWED = 0x80

cdef enum RuleLevelKind:
    LEVEL_LITERAL = 0
    LEVEL_PATTERN = 1            # with placeholders, as bytes that UTF-8 does not have
    LEVEL_SINGLE = 2             # +
    LEVEL_MULTI = 3              # #


cdef struct RuleLevel:
    uint32_t offset              # of its text in RuleSet.text
    uint16_t size                # bytes
    uint8_t kind                 # RuleLevelKind


cdef struct CompiledRule:
    uint32_t order               # its place in the list
    uint32_t first_level         # in RuleSet.levels
    uint16_t level_count
    uint8_t actions              # RuleAction bits
    uint8_t verdict              # Verdict when it decides


cdef enum RuleSelector:          # who the rules of a group are for: bits, and places in RuleGroup
    SELECT_TENANT = 1
    SELECT_USER = 2
    SELECT_CLIENT = 4
    SELECT_ALL = 7


cdef struct RuleGroup:           # the rules for one tenant, user, client, some or all of them, or everybody
    uint64_t hash                # of selector and names
    uint32_t offsets[3]          # of the names of tenant, user and client in RuleSet.text
    uint16_t sizes[3]            # bytes
    uint8_t selector             # RuleSelector bits: which names matter
    uint32_t first_rule          # in RuleSet.rules
    uint32_t rule_count
    uint32_t root                # in RuleSet.tree: of those that are about publishing


cdef struct RuleSet:             # never changed after it was compiled, but for the first two fields
    uint64_t references          # atomic
    RuleSet *successor           # what replaced it, one reference; atomic; NULL = nothing
    CompiledRule *rules          # by group, in each group in order
    RuleLevel *levels
    RuleTree tree                # all rules about publishing
    uint8_t *verdicts            # by order
    uint8_t *text
    RuleGroup *groups
    uint32_t *group_table        # hash -> 1 + index in groups, 0 = free; linear probing
    uint32_t table_mask
    uint32_t group_count
    uint32_t rule_count
    uint8_t default_verdict
    uint8_t selectors            # bit s: there is a group with RuleSelector s
    uint8_t closes_for_publish   # a denied publication ends the connection
    uint64_t memory_bytes


cdef void rule_set_acquire(RuleSet *rules) noexcept nogil
# NULL is nothing to release. The last reference frees it, on any thread.
cdef void rule_set_release(RuleSet *rules) noexcept nogil
# The set that is in force where rules was given: itself or what replaced it. Takes over one reference, returns one.
cdef RuleSet *rule_set_current(RuleSet *rules) noexcept nogil
cdef bint rule_set_is_replaced(RuleSet *rules) noexcept nogil
# The Verdict about an action of identity on a topic (ACTION_PUBLISH; checked, without wildcards) or on a topic filter
# (parsed, without a share prefix). A publication costs a walk of the levels of its topic, however many rules there are;
# a topic filter 15 ns per rule for identity.
cdef uint8_t rule_set_check(
    const RuleSet *rules, RuleAction action, const Identity *identity, Bytes text) noexcept nogil
# The same, and the place in the list of the rule that decided; NO_RULE when it was the set's default.
cdef uint8_t rule_set_decide(
    const RuleSet *rules, RuleAction action, const Identity *identity, Bytes text, uint32_t *place) noexcept nogil


cdef class Permissions:
    cdef RuleSet *compiled       # one reference
    cdef readonly tuple rules
    cdef readonly object default
    cdef readonly bint disconnects
