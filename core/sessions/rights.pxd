"""Rights: what a session may do by its rules, and what it loses when they are replaced.

A session without rules may do everything: one branch for whoever asks. What a message costs on its way to subscribers
does not depend on rules at all: a session has no subscription that its rules do not allow (see rule_set.pxd), and when
rules are replaced, subscriptions and waiting messages that the new ones do not allow go at once.
"""

from libc.stdint cimport uint8_t, uint32_t
from rookery.core.permissions.placeholders cimport Identity
from rookery.core.permissions.rule_set cimport RuleAction, RuleSet
from rookery.core.sessions.state cimport Session, World
from rookery.core.structures.bytes cimport Bytes

# The Verdict about publishing to a checked topic. Only for a session with rules. is_recent: it is the World's recent
# topic; then the verdict is remembered beside it, for a client that sends many messages at once.
cdef uint8_t session_may_publish(Session *session, Bytes topic, bint is_recent) noexcept nogil
# The Verdict about subscribing to, or unsubscribing from, a topic filter without its share prefix.
cdef uint8_t session_may(const Session *session, RuleAction action, Bytes topic_filter) noexcept nogil
# The same, and the place of the rule that decided, or NO_RULE.
cdef uint8_t session_decide(
    const Session *session, RuleAction action, Bytes topic_filter, uint32_t *place) noexcept nogil
# May the message, as published, be sent? Needs no rules.
cdef bint session_may_send(const Session *session, Bytes topic, uint8_t qos, uint8_t retain) noexcept nogil
cdef void session_identity(const Session *session, Identity *out) noexcept nogil
# These rules are in force from now on; NULL = none. Takes over the reference. False when they were in force already.
cdef bint session_set_rules(Session *session, RuleSet *rules) noexcept nogil
# When the session ends.
cdef void session_drop_rules(Session *session) noexcept nogil
# Each session that has rules when the walk begins comes once, unless it ends or loses them before; others may come and
# go meanwhile. NULL at the end.
cdef void rule_walk_begin(World *world) noexcept nogil
cdef Session *rule_walk_next(World *world) noexcept nogil
# Drop the messages that wait for the session on topics that it may not subscribe to any more. While the client is away
# this includes what was sent and not acknowledged; what a connected client was sent cannot be taken back.
cdef uint32_t session_drop_unreadable(Session *session) noexcept nogil
