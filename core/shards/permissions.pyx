"""See permissions.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from rookery.core.permissions.rule_set cimport (
    ACTION_SUBSCRIBE, VERDICT_ALLOWED, VERDICT_QOS, RuleSet, rule_set_acquire, rule_set_current,
    rule_set_is_replaced,
)
from rookery.core.sessions.notices cimport NOTICE_UNSUBSCRIBED
from rookery.core.sessions.publish cimport forget_recent_topic
from rookery.core.sessions.rights cimport (
    rule_walk_begin, rule_walk_next, session_drop_unreadable, session_may, session_set_rules,
)
from rookery.core.sessions.session cimport session_pump
from rookery.core.sessions.state cimport Session, Subscription
from rookery.core.sessions.subscriptions cimport (
    subscription_end, subscription_filter, subscription_lower_qos,
)
from rookery.core.sessions.witness cimport absent, is_noticed, notice_session
from rookery.core.shards.replays cimport replay_cancel
from rookery.core.shards.state cimport Command, Shard
from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.tree cimport NO_FILTER
from rookery.core.wire.spec cimport REASON_NOT_AUTHORIZED

cdef enum:
    _TOPIC_FILTER_SIZE = 65536


cdef void _review_subscription(Shard *shard, Session *session, uint32_t place, uint8_t *buffer) noexcept nogil:
    cdef Subscription *subscription = &session.subscriptions[place]
    cdef Bytes topic_filter = subscription_filter(session, place, buffer, _TOPIC_FILTER_SIZE)
    cdef uint8_t verdict = session_may(session, ACTION_SUBSCRIBE, topic_filter)
    if verdict & VERDICT_ALLOWED:
        if subscription.qos > verdict & VERDICT_QOS:
            subscription_lower_qos(session, place, verdict & VERDICT_QOS)
        return
    if is_noticed(&shard.world, NOTICE_UNSUBSCRIBED):
        notice_session(session, NOTICE_UNSUBSCRIBED, absent(), topic_filter, REASON_NOT_AUTHORIZED, 0, 0, 0)
    if subscription.group == NULL and subscription.membership == NULL:
        replay_cancel(shard, session, subscription.filter_id)
    subscription_end(session, place)


cdef void permissions_put_in_force(Shard *shard, Session *session, RuleSet *rules) noexcept nogil:
    cdef uint8_t *buffer
    cdef uint32_t place
    if not session_set_rules(session, rules) or rules == NULL:
        return
    if session.subscription_count > 0:
        forget_recent_topic(&shard.world)
        buffer = <uint8_t *> malloc(_TOPIC_FILTER_SIZE)
        for place in range(session.subscription_places):
            if session.subscriptions[place].filter_id != NO_FILTER:
                if buffer == NULL:
                    # What cannot be checked is not allowed.
                    subscription_end(session, place)
                else:
                    _review_subscription(shard, session, place, buffer)
        free(buffer)
    session_drop_unreadable(session)


cdef void permissions_set(Shard *shard, Session *session, Command *command) noexcept nogil:
    cdef RuleSet *rules = rule_set_current(command.rules)
    command.rules = NULL
    permissions_put_in_force(shard, session, rules)
    if session.link != NULL:
        session_pump(session)


cdef void permissions_replace(Shard *shard) noexcept nogil:
    if shard.is_walking_rules:
        shard.is_rule_walk_due = 1
        return
    shard.is_walking_rules = 1
    rule_walk_begin(&shard.world)
    # Before anything is read in this turn: where sessions are few, it is done when the command is.
    permissions_step(shard)


cdef void permissions_step(Shard *shard) noexcept nogil:
    cdef uint32_t walked = 0
    cdef uint64_t reviewed = 0
    cdef Session *session
    while walked < WALKED_PER_TURN and reviewed < REVIEWED_PER_TURN:
        session = rule_walk_next(&shard.world)
        if session == NULL:
            shard.is_walking_rules = shard.is_rule_walk_due
            shard.is_rule_walk_due = 0
            rule_walk_begin(&shard.world)
            return
        walked += 1
        if rule_set_is_replaced(session.rules):
            reviewed += session.subscription_count + session.inbox.length
            rule_set_acquire(session.rules)
            permissions_put_in_force(shard, session, rule_set_current(session.rules))
