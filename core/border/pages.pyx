"""See pages.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rookery.core.permissions.rule_set cimport VERDICT_ALLOWED, VERDICT_QOS, VERDICT_RETAIN
from rookery.core.sessions.inflight cimport PUBACK_DUE, PUBREC_DUE
from rookery.core.sessions.state cimport HAS_SUBSCRIPTION_ID, NO_LOCAL, RETAIN_AS_PUBLISHED
from rookery.core.shards.pages cimport (
    PAGE_HAS_RULES, PAGE_IS_FOUND, PAGE_KIND, PAGE_MAY_PUBLISH, PAGE_MAY_SUBSCRIBE, PAGE_NEXT, PAGE_PUBLISH_RULE,
    PAGE_ROW_COUNT, PAGE_RULES, PAGE_SUBSCRIBE_RULE,
)
from rookery.core.shards.queues cimport event_string
from rookery.core.shards.state cimport (
    COMMAND_LIST_INBOX, COMMAND_LIST_INFLIGHT, COMMAND_LIST_MATCHES, COMMAND_LIST_RETAINED, COMMAND_LIST_SESSIONS,
    COMMAND_LIST_SUBSCRIPTIONS, COMMAND_TELL_TENANTS, Event,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.rows cimport Rows
from rookery.core.topics.names cimport SHARE_NONE, SHARE_ORDERED

from rookery.core.notices import DropReason
from rookery.core.pages import (
    COUNTERS, InflightMessage, MatchingFilter, Page, SessionState, StoredMessage, SubscriptionState, TenantFigures,
    TenantUsage, Verdicts, Will,
)
from rookery.core.quotas import TOTALS


cdef uint64_t _number(const uint8_t **at) noexcept:
    cdef uint64_t number
    memcpy(&number, at[0], sizeof(number))
    at[0] += sizeof(number)
    return number


cdef bytes _bytes(const uint8_t **at):
    cdef uint32_t size
    memcpy(&size, at[0], sizeof(size))
    at[0] += sizeof(size) + size
    return (<const char *> at[0] - size)[:size]


cdef str _text(const uint8_t **at):
    return _bytes(at).decode("utf-8", "backslashreplace")


cdef list decode_tenants(const Rows *rows):
    cdef const uint8_t *at = rows.data
    return [
        TenantUsage(_text(&at), _number(&at), {name: _number(&at) for name in TOTALS}) for _ in range(rows.count)
    ]


cdef object _tenant_figures(const uint8_t **at):
    sessions = _number(at)
    retained = _number(at)
    return TenantFigures(sessions, retained, tuple([_number(at) for _ in COUNTERS]))


cdef object _session(const uint8_t **at):
    (
        version, is_online, is_persistent, serial, subscriptions, qos0, qos12, inflight, expiry, keep_alive, created,
        connected, detached, dropped, drop_reason, dropped_at, kept, has_will, will_qos, will_retain, will_delay,
    ) = [_number(at) for _ in range(21)]
    user_id = _text(at)
    client_id = _text(at)
    peer = _text(at)
    attributes = _bytes(at)
    will_topic = _text(at)
    will = Will(will_topic, will_qos, bool(will_retain), will_delay) if has_will else None
    return SessionState(
        user_id, client_id, version, bool(is_online), bool(is_persistent), serial, subscriptions, qos0, qos12, inflight,
        expiry, keep_alive, created or None, connected, None if is_online else detached, dropped,
        DropReason(drop_reason) if drop_reason else None, dropped_at or None, kept, peer,
        attributes or b"{}", will)


cdef object _subscription(const uint8_t **at):
    qos, flags, retain_handling, subscription_id, share_kind = [_number(at) for _ in range(5)]
    user_id = _text(at)
    client_id = _text(at)
    share_name = _text(at)
    topic_filter = _text(at)
    return SubscriptionState(
        user_id, client_id, topic_filter, None if share_kind == SHARE_NONE else share_name,
        share_kind == SHARE_ORDERED, qos, bool(flags & NO_LOCAL), bool(flags & RETAIN_AS_PUBLISHED), retain_handling,
        subscription_id if flags & HAS_SUBSCRIPTION_ID or subscription_id else None)


cdef object _message(const uint8_t **at, object stored_at_ms, object delivery_qos):
    qos = _number(at)
    retain = bool(_number(at))
    expires_at_ms = _number(at) or None
    size = _number(at)
    topic = _text(at)
    payload = _bytes(at)
    return StoredMessage(
        topic, qos if delivery_qos is None else delivery_qos, retain, size, payload, expires_at_ms, stored_at_ms)


cdef object _retained(const uint8_t **at):
    stored_at_ms = _number(at)
    return _message(at, stored_at_ms, None)


cdef object _waiting(const uint8_t **at):
    delivery_qos = _number(at)
    return _message(at, None, delivery_qos)


cdef object _inflight(const uint8_t **at):
    packet_id, state, is_sent, resend_count = [_number(at) for _ in range(4)]
    topic = _text(at)
    due = "PUBACK" if state == PUBACK_DUE else "PUBREC" if state == PUBREC_DUE else "PUBCOMP"
    return InflightMessage(packet_id, due, bool(is_sent), resend_count, topic or None)


cdef object _match(const uint8_t **at):
    sessions, groups, has_subscription, qos = [_number(at) for _ in range(4)]
    return MatchingFilter(_text(at), sessions, groups, qos if has_subscription else None)


cdef object _row(uint64_t kind, const uint8_t **at):
    if kind == COMMAND_LIST_SESSIONS:
        return _session(at)
    if kind == COMMAND_LIST_SUBSCRIPTIONS:
        return _subscription(at)
    if kind == COMMAND_LIST_RETAINED:
        return _retained(at)
    if kind == COMMAND_LIST_INBOX:
        return _waiting(at)
    if kind == COMMAND_LIST_INFLIGHT:
        return _inflight(at)
    if kind == COMMAND_LIST_MATCHES:
        return _match(at)
    assert kind == COMMAND_TELL_TENANTS
    return _tenant_figures(at)


cdef object _verdicts(const uint64_t *numbers):
    cdef uint64_t publish = numbers[PAGE_MAY_PUBLISH]
    cdef uint64_t subscribe = numbers[PAGE_MAY_SUBSCRIBE]
    if not (numbers[PAGE_HAS_RULES] or publish):
        return None  # There is no such session on this shard.
    return Verdicts(
        bool(numbers[PAGE_HAS_RULES]),
        publish & VERDICT_QOS if publish & VERDICT_ALLOWED else None,
        bool(publish & VERDICT_ALLOWED and publish & VERDICT_RETAIN),
        subscribe & VERDICT_QOS if subscribe & VERDICT_ALLOWED else None,
        numbers[PAGE_PUBLISH_RULE] - 1 if numbers[PAGE_PUBLISH_RULE] else None,
        numbers[PAGE_SUBSCRIBE_RULE] - 1 if numbers[PAGE_SUBSCRIBE_RULE] else None,
        numbers[PAGE_RULES],
    )


cdef object decode_page(const Event *event):
    cdef Bytes packed = event_string(event, 0)
    cdef Bytes place = event_string(event, 1)
    cdef const uint8_t *at = packed.data
    cdef uint64_t kind = event.numbers[PAGE_KIND]
    cdef uint64_t following = event.numbers[PAGE_NEXT]
    rows = tuple([_row(kind, &at) for _ in range(event.numbers[PAGE_ROW_COUNT])])
    is_found = bool(event.numbers[PAGE_IS_FOUND])
    if kind == COMMAND_LIST_MATCHES:
        return Page(rows, 0, b"", is_found, _verdicts(event.numbers))
    return Page(rows, following, (<const char *> place.data)[:place.size], is_found)
